import pytest
import torch
from tiny_models import NUM_CLASSES, batch, labelled_samples

from dtkd_mmaction.distillers import SharedClipPreprocessor

MIXUP = dict(
    type='RandomBatchAugment',
    augments=[dict(type='MixupBlending', alpha=0.8, num_classes=NUM_CLASSES)],
)


def test_3d_clips_stay_raw():
    data = batch()
    clips = SharedClipPreprocessor()(data, training=True)['inputs']
    assert clips.dtype == torch.uint8
    assert torch.equal(clips, torch.stack(data['inputs']))


def test_2d_batch_becomes_a_clip():
    data = batch(frames=4)
    folded = dict(
        data, inputs=[clip[0].transpose(0, 1) for clip in data['inputs']]
    )
    assert folded['inputs'][0].shape[:2] == (4, 3)
    assert torch.equal(
        SharedClipPreprocessor()(folded)['inputs'], torch.stack(data['inputs'])
    )


def test_blending_mixes_raw_clips_and_labels_in_training_only():
    torch.manual_seed(0)
    preprocessor = SharedClipPreprocessor(MIXUP)
    data = batch(4)
    mixed = preprocessor(data, training=True)
    raw = torch.stack(data['inputs']).float()
    labels = torch.stack([s.gt_label for s in mixed['data_samples']])
    assert mixed['inputs'].max() > 1  # not normalised
    assert not torch.equal(mixed['inputs'], raw)
    assert labels.shape == (4, NUM_CLASSES)
    assert torch.allclose(labels.sum(1), torch.ones(4))

    data = batch(4)
    assert torch.equal(
        preprocessor(data)['inputs'], torch.stack(data['inputs'])
    )


@pytest.mark.parametrize(
    'shapes, message',
    [
        ([(1, 3, 4, 8, 8), (1, 3, 4, 8, 9)], 'one size'),
        ([(2, 3, 4, 8, 8)] * 2, r'num_clips=1.*\(2, 3, 4, 8, 8\)'),
        ([(3, 8, 8)] * 2, 'train_pipeline must give'),
    ],
)
def test_what_is_no_batch_of_clips(shapes, message):
    data = dict(
        inputs=[torch.zeros(s, dtype=torch.uint8) for s in shapes],
        data_samples=labelled_samples([0, 1]),
    )
    with pytest.raises(ValueError, match=message):
        SharedClipPreprocessor()(data)
