# EfficientNet-Lite0, trained on ImageNet-1k.
#     python tools/data/pretrained_teachers.py --out checkpoints
#     python tools/probe_teacher.py configs/ucf6/efficientnet_lite0.py \
#         --group-by '_g(\d+)_' --out checkpoints/ucf6_efficientnet_lite0.pth
# With access to the Hugging Face hub, timm fetches the same weights itself:
#     --cfg-options load_from=None model.backbone.pretrained=True
_base_ = '_base_/image_teacher.py'

model = dict(
    backbone=dict(type='timm.tf_efficientnet_lite0', pretrained=False),
    cls_head=dict(in_channels=1280),
    data_preprocessor=dict(
        mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]
    ),
)
load_from = 'checkpoints/efficientnet_lite0.pth'
work_dir = 'work_dirs/ucf6/efficientnet_lite0'
