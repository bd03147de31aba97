# Every teacher of the comparison of weightings, for one cache that serves all
# of its rows:
#     python tools/cache_teachers.py configs/ucf6/ucf6_all_teachers.py \
#         --views 10 --maps native --also map --out work_dirs/ucf6/teachers
_base_ = './ucf6_three_teachers.py'

model = dict(
    teachers=dict(
        wrong=dict(
            cfg='{{ fileDirname }}/efficientnet_lite0.py',
            checkpoint='checkpoints/ucf6_efficientnet_lite0_133_wrong.pth',
            view=dict(frames=4, size=112),
        ),
    ),
)
