"""Views of the models against the clips that they get and were trained on."""

from collections.abc import Mapping
from typing import Any, List, Tuple

from mmaction.datasets import transforms

from .checkpoints import stage_one
from .findings import Findings, shown
from .models import ModelOf
from .pipelines import ClipShape, clip_shape, size_text, type_name
from .specs import SpecOf, seen_clip
from .structure import inner_datasets

# Test crops of the stock configs are up to this much larger than training
# crops.
LARGER_TEST_CROP = 1.3


def check_views(
    config: Mapping, model: ModelOf, files: bool, findings: Findings
) -> None:
    """Compares every view with the shared clip and with stage one."""
    clip = shared_clip(config)
    _check_ends(config, findings)
    if not model.specs:
        return
    for spec in model.specs:
        if not spec.spec or findings.errors_below(f'{spec.key}.view'):
            continue
        _check_against_clip(spec, clip, findings)
        seen = seen_clip(spec, clip)
        if spec.is_teacher:
            _check_against_stage_one(spec, seen, files, findings)
        elif spec.name == 'student':
            _check_against_evaluation(spec, seen, config, findings)


def _check_ends(config: Mapping, findings: Findings) -> None:
    """Checks that pipelines of MMAction2's transforms give clips."""
    loader = 'train_dataloader'
    for dataset, key in leaf_datasets(config.get(loader), loader):
        pipeline = dataset.get('pipeline')
        if not isinstance(pipeline, (list, tuple)):
            continue
        names = [type_name(transform) for transform in pipeline]
        known = all(hasattr(transforms, name) for name in names)
        if known and not any(name.startswith('Pack') for name in names):
            findings.error(
                f'{key}.pipeline',
                'it gives no clips. End it with '
                "dict(type='PackActionInputs').",
                shown(names),
            )


def leaf_datasets(loader: Any, key: str) -> List[Tuple[Mapping, str]]:
    """Returns the data sets of a loader that read a list, with their keys."""
    dataset = loader.get('dataset') if isinstance(loader, Mapping) else None
    return _leaves(dataset, f'{key}.dataset')


def _leaves(dataset: Any, key: str) -> List[Tuple[Mapping, str]]:
    if not isinstance(dataset, Mapping):
        return []
    inner = list(inner_datasets(dataset, key))
    if not inner:
        return [(dataset, key)]
    return [leaf for d, k in inner for leaf in _leaves(d, k)]


def shared_clip(
    config: Mapping, loader: str = 'train_dataloader'
) -> ClipShape:
    """Returns the clip that a loader's pipelines give."""
    shapes = {
        clip_shape(dataset.get('pipeline'))
        for dataset, _ in leaf_datasets(config.get(loader), loader)
    }
    return shapes.pop() if len(shapes) == 1 else ClipShape()


def _check_against_clip(
    spec: SpecOf, clip: ClipShape, findings: Findings
) -> None:
    seen = seen_clip(spec, clip)
    key = f'{spec.key}.view'
    if clip.frames and seen.frames and seen.frames > clip.frames:
        findings.error(
            f'{key}.frames',
            f'the clips of train_pipeline have {clip.frames} frames. Set a '
            f'view of at most {clip.frames} frames, or sample more '
            '(SampleFrames.clip_len in train_pipeline).',
            shown(seen.frames),
        )
    if (
        clip.size
        and seen.size
        and (seen.size[0] > clip.size[0] or seen.size[1] > clip.size[1])
    ):
        findings.warn(
            f'{key}.size',
            f'the clips of train_pipeline have {size_text(clip.size)}, so '
            'they are enlarged without gaining detail. Set '
            f'{key}.size={clip.size[0]}, or let train_pipeline end in larger '
            'clips (Resize.scale).',
            shown(spec.spec['view']['size']),
        )
    if clip.size and seen.size:
        before, after = (s[0] / s[1] for s in (clip.size, seen.size))
        if abs(before / after - 1) > 0.02:
            findings.warn(
                f'{key}.size',
                f'its shape differs from that of the clips of train_pipeline '
                f'({size_text(clip.size)}), so frames are distorted.',
                shown(spec.spec['view']['size']),
            )


def _check_against_stage_one(
    spec: SpecOf, seen: ClipShape, files: bool, findings: Findings
) -> None:
    origin = stage_one(spec, files)
    if origin is None:
        return
    first, name = origin
    shapes = [
        shared_clip(first, f'{split}_dataloader') for split in ('train', 'val')
    ]
    for field, text in (('frames', str), ('size', size_text)):
        trained, validated = (getattr(s, field) for s in shapes)
        value = getattr(seen, field)
        if None in (value, trained) or value in (trained, validated):
            continue
        findings.warn(
            f'{spec.key}.view.{field}',
            f'the teacher was trained ({name}) on {text(trained)}'
            + (f' and validated on {text(validated)}' if validated else '')
            + f', and sees {text(value)} here. Set {spec.key}.view.{field} '
            'to what it was trained on, or train it on what it sees.',
            f'={text(value)}',
        )


def _check_against_evaluation(
    spec: SpecOf, seen: ClipShape, config: Mapping, findings: Findings
) -> None:
    for split, largest in (('val', 1.0), ('test', LARGER_TEST_CROP)):
        loader = f'{split}_dataloader'
        found = shared_clip(config, loader)
        if seen.frames and found.frames not in (None, seen.frames):
            findings.warn(
                f'{split}_pipeline',
                f'the student is evaluated on clips of {found.frames} '
                f'frames and trained on {seen.frames} '
                f'({spec.key}.view). Let {split}_pipeline sample '
                f'{seen.frames} frames.',
            )
        if not seen.size or not found.size:
            continue
        ratios = [f / s for f, s in zip(found.size, seen.size)]
        if min(ratios) < 1 or max(ratios) > largest:
            findings.warn(
                f'{split}_pipeline',
                'the student is evaluated on clips of '
                f'{size_text(found.size)} and trained on '
                f'{size_text(seen.size)} ({spec.key}.view). Let '
                f'{split}_pipeline end in {size_text(seen.size)}.',
            )
