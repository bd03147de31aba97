# DT-KD from two pretrained image backbones, which know more than these clips.
# Their classification layers are fitted on the student's 133 clips alone.
#     python tools/data/pretrained_teachers.py --out checkpoints
#     python tools/data/subset_list.py data/ucf6/ucf6_train_split1.txt \
#         data/ucf6/ucf6_train_133.txt --every 4
#     list=train_dataloader.dataset.dataset.ann_file
#     for teacher in dinov2_s efficientnet_lite0; do
#         python tools/probe_teacher.py configs/ucf6/$teacher.py --views 2 \
#             --group-by '_g(\d+)_' --out checkpoints/ucf6_${teacher}_133.pth \
#             --cfg-options $list=data/ucf6/ucf6_train_133.txt
#     done
_base_ = '_base_/student_112.py'

here = '{{ fileDirname }}'

model = dict(
    type='DualTeacherDistiller',
    student=dict(
        cfg=f'{here}/ucf6_student_alone.py', view=dict(frames=8, size=48)
    ),
    vit_teacher=dict(
        cfg=f'{here}/dinov2_s.py',
        checkpoint='checkpoints/ucf6_dinov2_s_133.pth',
        view=dict(frames=4, size=112),
    ),
    cnn_teacher=dict(
        cfg=f'{here}/efficientnet_lite0.py',
        checkpoint='checkpoints/ucf6_efficientnet_lite0_133.pth',
        view=dict(frames=4, size=112),
    ),
)
