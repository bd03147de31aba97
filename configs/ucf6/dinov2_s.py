# DINOv2 ViT-S/14, self-supervised on 142 million images.
#     python tools/data/pretrained_teachers.py --out checkpoints
#     python tools/probe_teacher.py configs/ucf6/dinov2_s.py \
#         --group-by '_g(\d+)_' --out checkpoints/ucf6_dinov2_s.pth
# With access to the Hugging Face hub, timm fetches the same weights itself:
#     --cfg-options load_from=None model.backbone.pretrained=True
_base_ = '_base_/image_teacher.py'

model = dict(
    backbone=dict(
        type='timm.vit_small_patch14_dinov2',
        img_size=518,
        dynamic_img_size=True,
        pretrained=False,
    ),
    cls_head=dict(in_channels=384),
)
load_from = 'checkpoints/dinov2_s.pth'
work_dir = 'work_dirs/ucf6/dinov2_s'
