# Table 4, row X3D-S: from MViTv2-S and X3D-S on Something-Something V2.
# Train the CNN teacher first: configs/teachers/x3d_s_ssv2_alone.py. The ViT is
# a published one.
_base_ = [
    '../_base_/datasets/sthv2_eval160.py',
    '../_base_/schedules/sgd_50e.py',
    '../_base_/distill_runtime.py',
]

model = dict(
    type='DualTeacherDistiller',
    num_classes=174,
    student=dict(
        cfg='mmaction::recognition/x3d/'
        'x3d_s_13x6x1_facebook-kinetics400-rgb.py',
        checkpoint='https://download.openmmlab.com/mmaction/v1.0/recognition/'
        'x3d/facebook/'
        'x3d_s_13x6x1_facebook-kinetics400-rgb_20201027-'
        '623825a0.pth',
        view=dict(frames=16, size=160),
    ),
    vit_teacher=dict(
        cfg='mmaction::recognition/mvit/'
        'mvit-small-p244_k400-pre_16xb16-u16-100e_sthv2-rgb.py',
        checkpoint='https://download.openmmlab.com/mmaction/v1.0/recognition/'
        'mvit/mvit-small-p244_k400-pre_16xb16-u16-100e_sthv2-rgb/'
        'mvit-small-p244_k400-pre_16xb16-u16-100e_sthv2-rgb_'
        '20230201-4065c1b9.pth',
        view=dict(frames=16, size=224),
    ),
    cnn_teacher=dict(
        cfg='mmaction::recognition/x3d/'
        'x3d_s_13x6x1_facebook-kinetics400-rgb.py',
        checkpoint='work_dirs/teachers/x3d_s_ssv2/best_acc_top1_epoch_*.pth',
        view=dict(frames=16, size=160),
    ),
    loss_sr=dict(type='DATWLoss', loss_weight=1.0, tau=4.0),
    loss_sd=dict(
        type='StructureDiscrepancyLoss', loss_weight=1.0, zeta=0.5, rho=0.5
    ),
    loss_rkd=dict(type='RKDLoss', loss_weight=1.0, gather=True),
)
