# Table 1, row SlowFast-R50: from MViTv2-S and SlowFast-R50 on HMDB51.
# Train the teachers first: configs/teachers/mvitv2_s_hmdb51.py and
# configs/teachers/slowfast_r50_hmdb51_alone.py.
_base_ = [
    '../_base_/datasets/hmdb51.py',
    '../_base_/schedules/sgd_50e.py',
    '../_base_/distill_runtime.py',
]

model = dict(
    type='DualTeacherDistiller',
    num_classes=51,
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
        'mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb.py',
        checkpoint='work_dirs/teachers/mvitv2_s_hmdb51/'
        'best_acc_top1_epoch_*.pth',
        view=dict(frames=16, size=224),
    ),
    cnn_teacher=dict(
        cfg='mmaction::recognition/slowfast/'
        'slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb.py',
        checkpoint='work_dirs/teachers/slowfast_r50_hmdb51/'
        'best_acc_top1_epoch_*.pth',
        view=dict(frames=16, size=224),
    ),
    loss_sr=dict(type='DATWLoss', loss_weight=1.0, tau=4.0),
    loss_sd=dict(
        type='StructureDiscrepancyLoss', loss_weight=1.0, zeta=0.5, rho=0.5
    ),
    loss_rkd=dict(type='RKDLoss', loss_weight=1.0, gather=True),
)
