# Table 3: I3D-R50 from MViTv2-S and a trained I3D-R50 on Kinetics-400. Both
# teachers are published; the student starts from ImageNet, as the stock
# config.
_base_ = [
    '../_base_/datasets/kinetics400.py',
    '../_base_/schedules/sgd_50e.py',
    '../_base_/distill_runtime.py',
]

model = dict(
    type='DualTeacherDistiller',
    num_classes=400,
    student=dict(
        cfg='mmaction::recognition/i3d/'
        'i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb.py',
        view=dict(frames=16, size=224),
    ),
    vit_teacher=dict(
        cfg='mmaction::recognition/mvit/'
        'mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb.py',
        checkpoint='https://download.openmmlab.com/mmaction/v1.0/recognition/'
        'mvit/mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb/'
        'mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb_'
        '20230201-23284ff3.pth',
        view=dict(frames=16, size=224),
    ),
    cnn_teacher=dict(
        cfg='mmaction::recognition/i3d/'
        'i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb.py',
        checkpoint='https://download.openmmlab.com/mmaction/v1.0/recognition/'
        'i3d/i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_'
        'kinetics400-rgb/'
        'i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-'
        'rgb_20220812-e213c223.pth',
        view=dict(frames=16, size=224),
    ),
    loss_sr=dict(type='DATWLoss', loss_weight=1.0, tau=4.0),
    loss_sd=dict(
        type='StructureDiscrepancyLoss', loss_weight=1.0, zeta=0.5, rho=0.5
    ),
    loss_rkd=dict(type='RKDLoss', loss_weight=1.0, gather=True),
)
