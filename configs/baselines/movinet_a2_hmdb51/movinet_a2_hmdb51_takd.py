# MoViNet-A2 on HMDB51: TAKD, second step. The assistant is what
# configs/baselines/takd_assistant_hmdb51.py exported.
_base_ = './movinet_a2_hmdb51_kd.py'

model = dict(
    teacher=dict(
        cfg='mmaction::recognition/r2plus1d/'
        'r2plus1d_r34_8xb8-32x2x1-180e_kinetics400-rgb.py',
        checkpoint='work_dirs/takd_assistant_hmdb51/student_best_*.pth',
    )
)
