# Table 1, row MoViNet-A2: from MViTv2-S and MoViNet-A2 on HMDB51.
# Train the teachers first: configs/teachers/mvitv2_s_hmdb51.py and
# configs/teachers/movinet_a2_hmdb51_alone.py. The weights of MoViNet-A2 come
# from tools/convert/movinet_from_pytorch_port.py.
_base_ = [
    '../_base_/datasets/hmdb51.py',
    '../_base_/schedules/sgd_50e.py',
    '../_base_/distill_runtime.py',
]

model = dict(
    type='DualTeacherDistiller',
    num_classes=51,
    student=dict(
        cfg='{{ fileDirname }}/../_base_/models/movinet_a2.py',
        checkpoint='checkpoints/movinet_a2_base.pth',
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
        cfg='{{ fileDirname }}/../_base_/models/movinet_a2.py',
        checkpoint='work_dirs/teachers/movinet_a2_hmdb51/'
        'best_acc_top1_epoch_*.pth',
        view=dict(frames=16, size=224),
    ),
    loss_sr=dict(type='DATWLoss', loss_weight=1.0, tau=4.0),
    loss_sd=dict(
        type='StructureDiscrepancyLoss', loss_weight=1.0, zeta=0.5, rho=0.5
    ),
    loss_rkd=dict(type='RKDLoss', loss_weight=1.0, gather=True),
)
