# Table 2, rows SlowFast-R50: from MViTv2-S and SlowFast-R50 on EPIC-
# KITCHENS-100. Train the teachers first: configs/teachers/mvitv2_s_epic.py and
# configs/teachers/slowfast_r50_epic_alone.py.
_base_ = [
    '../_base_/datasets/epic_kitchens.py',
    '../_base_/schedules/sgd_50e.py',
    '../_base_/distill_runtime.py',
]

model = dict(
    type='DualTeacherDistiller',
    student=dict(
        cfg='mmaction::recognition/slowfast/'
        'slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb.py',
        checkpoint='https://download.openmmlab.com/mmaction/v1.0/recognition/'
        'slowfast/slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb/'
        'slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb_20220901-'
        '701b0f6f.pth',
        cfg_options=dict(
            cls_head=dict(
                _delete_=True,
                type='VerbNounHead',
                num_classes=(97, 300),
                head=dict(
                    type='SlowFastHead', in_channels=2304, average_clips='prob'
                ),
            )
        ),
        view=dict(frames=16, size=224),
    ),
    vit_teacher=dict(
        cfg='mmaction::recognition/mvit/'
        'mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb.py',
        checkpoint='work_dirs/teachers/mvitv2_s_epic/'
        'best_action_top1_epoch_*.pth',
        cfg_options=dict(
            cls_head=dict(
                _delete_=True,
                type='VerbNounHead',
                num_classes=(97, 300),
                head=dict(
                    type='MViTHead', in_channels=768, average_clips='prob'
                ),
            )
        ),
        view=dict(frames=16, size=224),
    ),
    cnn_teacher=dict(
        cfg='mmaction::recognition/slowfast/'
        'slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb.py',
        checkpoint='work_dirs/teachers/slowfast_r50_epic/'
        'best_action_top1_epoch_*.pth',
        cfg_options=dict(
            cls_head=dict(
                _delete_=True,
                type='VerbNounHead',
                num_classes=(97, 300),
                head=dict(
                    type='SlowFastHead', in_channels=2304, average_clips='prob'
                ),
            )
        ),
        view=dict(frames=16, size=224),
    ),
    loss_sr=dict(type='DATWLoss', loss_weight=1.0, tau=4.0),
    loss_sd=dict(
        type='StructureDiscrepancyLoss', loss_weight=1.0, zeta=0.5, rho=0.5
    ),
    loss_rkd=dict(type='RKDLoss', loss_weight=1.0, gather=True),
)
