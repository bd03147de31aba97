# Table 7, row MViTv2-S with R(2+1)D-34.
_base_ = '../../dtkd/x3d_s_hmdb51.py'

model = dict(
    cnn_teacher=dict(
        cfg='mmaction::recognition/r2plus1d/'
        'r2plus1d_r34_8xb8-32x2x1-180e_kinetics400-rgb.py',
        checkpoint='work_dirs/teachers/r2plus1d_r34_hmdb51/best_acc_top1_epoch_*.pth',
    ),
)
