"""Stock MMAction2 models, small enough for a test, and batches for them."""

from typing import List

import torch
from mmaction.structures import ActionDataSample
from small_models import image_recognizer, small_mvit, small_x3d

NUM_CLASSES = 4
FRAMES, SIZE = 4, 32


def tiny_x3d(base_channels: int = 8, **preprocessor) -> dict:
    """X3D of four blocks; its last map has ``base_channels * 18``."""
    return small_x3d(NUM_CLASSES, base_channels, **preprocessor)


def tiny_mvit() -> dict:
    """MViTv2 of two blocks; its last map has 32 channels."""
    return small_mvit(NUM_CLASSES, FRAMES, SIZE)


def tiny_tsn() -> dict:
    """A 2-D recognizer: ResNet-18 on single frames."""
    backbone = dict(type='ResNet', depth=18, pretrained=None)
    return image_recognizer(backbone, 512, NUM_CLASSES)


def tiny_distiller(**overrides) -> dict:
    """A config of ``DualTeacherDistiller`` with random teachers."""
    return dict(
        dict(
            type='DualTeacherDistiller',
            student=dict(cfg=tiny_x3d(), view=dict(frames=FRAMES, size=SIZE)),
            vit_teacher=dict(
                cfg=tiny_mvit(),
                checkpoint=None,
                view=dict(frames=FRAMES, size=SIZE),
            ),
            cnn_teacher=dict(
                cfg=tiny_x3d(16),
                checkpoint=None,
                view=dict(frames=FRAMES, size=48),
            ),
        ),
        **overrides,
    )


def tiny_single_teacher(**overrides) -> dict:
    """A config of ``SingleTeacherDistiller``: X3D from a random MViT."""
    view = dict(frames=FRAMES, size=SIZE)
    return dict(
        dict(
            type='SingleTeacherDistiller',
            student=dict(cfg=tiny_x3d(), view=view),
            teacher=dict(cfg=tiny_mvit(), checkpoint=None, view=view),
            losses=dict(kd=dict(type='KDLoss')),
        ),
        **overrides,
    )


def tiny_multi_teacher(count: int = 3, **overrides) -> dict:
    """A config of ``MultiTeacherDistiller`` with one to three teachers."""
    view = dict(frames=FRAMES, size=SIZE)
    teachers = dict(
        vit=dict(cfg=tiny_mvit(), checkpoint=None, view=view),
        cnn=dict(
            cfg=tiny_x3d(16),
            checkpoint=None,
            view=dict(frames=FRAMES, size=48),
        ),
        image=dict(
            cfg=tiny_tsn(), checkpoint=None, view=dict(frames=2, size=SIZE)
        ),
    )
    return dict(
        dict(
            type='MultiTeacherDistiller',
            student=dict(cfg=tiny_x3d(), view=view),
            teachers=dict(list(teachers.items())[:count]),
        ),
        **overrides,
    )


def labelled_samples(labels: List[int]) -> List[ActionDataSample]:
    """Data samples as a stock pipeline packs them."""
    return [ActionDataSample().set_gt_label(label) for label in labels]


def batch(
    size: int = 2, frames: int = FRAMES, pixels: int = 48, seed: int = 0
) -> dict:
    """Returns a batch of the data loader: uint8 clips (1, 3, T, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    clips = torch.randint(
        0,
        256,
        (size, 1, 3, frames, pixels, pixels),
        dtype=torch.uint8,
        generator=generator,
    )
    return dict(
        inputs=list(clips),
        data_samples=labelled_samples([i % NUM_CLASSES for i in range(size)]),
    )


def two_questions(model):
    """A tiny recognizer whose head answers verb (3) and noun (5)."""
    head = model['cls_head']
    head.pop('num_classes')
    model['cls_head'] = dict(
        type='VerbNounHead', num_classes=(3, 5), head=head
    )
    return model


def verb_noun_batch():
    data = batch(3)
    for i, sample in enumerate(data['data_samples']):
        sample.set_gt_label([i % 3, 4 - i])
        sample.set_metainfo(dict(sample_idx=i))
    return data
