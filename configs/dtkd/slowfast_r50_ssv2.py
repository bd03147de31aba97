# Table 4, row SlowFast-R50: from MViTv2-S and SlowFast-R50 on Something-
# Something V2. Train the CNN teacher first:
# configs/teachers/slowfast_r50_ssv2_alone.py. The ViT is a published one.
_base_ = [
    '../_base_/datasets/sthv2.py',
    '../_base_/schedules/sgd_50e.py',
    '../_base_/distill_runtime.py',
]

model = dict(
    type='DualTeacherDistiller',
    num_classes=174,
    student=dict(
        cfg='mmaction::recognition/slowfast/'
        'slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb.py',
        checkpoint='https://download.openmmlab.com/mmaction/v1.0/recognition/'
        'slowfast/slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb/'
        'slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb_20220901-'
        '701b0f6f.pth',
        view=dict(frames=16, size=224),
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
        cfg='mmaction::recognition/slowfast/'
        'slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb.py',
        checkpoint='work_dirs/teachers/slowfast_r50_ssv2/'
        'best_acc_top1_epoch_*.pth',
        view=dict(frames=16, size=224),
    ),
    loss_sr=dict(type='DATWLoss', loss_weight=1.0, tau=4.0),
    loss_sd=dict(
        type='StructureDiscrepancyLoss', loss_weight=1.0, zeta=0.5, rho=0.5
    ),
    loss_rkd=dict(type='RKDLoss', loss_weight=1.0, gather=True),
)
