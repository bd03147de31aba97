# Table 7, row Swin-B with X3D-M.
_base_ = '../../dtkd/x3d_s_hmdb51.py'

model = dict(
    vit_teacher=dict(
        cfg='mmaction::recognition/swin/'
        'swin-base-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e_kinetics400-'
        'rgb.py',
        checkpoint='work_dirs/teachers/swin_b_hmdb51/best_acc_top1_epoch_*.pth',
    ),
)
