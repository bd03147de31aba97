"""Describes what a teacher cache belongs to, and compares it with a run."""

import hashlib
import json
from typing import Any, Dict, List, Optional

import decord
import mmaction
from mmaction.datasets import RepeatAugDataset
from mmengine.logging import print_log

from ..datasets.clips_digest import (
    clips_digest,
    clips_digest_v1,
    decoder_versions,
)
from ..datasets.dataset_wrappers import base_configs, base_datasets
from ..datasets.keyed_views import KeyedViewDataset
from ..recognizers.model_spec import (
    find_checkpoint,
    load_config,
    set_num_classes,
)

# Options that change a teacher's outputs, besides its weights and its view.
APPROXIMATIONS = ('precision', 'compile')
UNKNOWN = 'not found'
# Bytes of a checkpoint that are read at once.
BLOCK = 1 << 20


def describe_teacher(
    spec: dict, num_classes: Optional[int], key: str
) -> Dict[str, Any]:
    """Returns everything that a teacher's outputs depend on.

    Args:
        spec (dict): Model spec.
        num_classes (int, optional): ``model.num_classes``.
        key (str): Config key of the spec, for messages.

    Returns:
        dict: Can be written as JSON.
    """
    config = load_config(spec, key)
    set_num_classes(config.model, num_classes)
    return as_json(
        dict(
            model=config.model.to_dict(),
            checkpoint=checkpoint_hash(spec.get('checkpoint')),
            view=spec.get('view'),
            tap=spec.get('tap'),
            stages=spec.get('stages'),
            **{name: spec.get(name) for name in APPROXIMATIONS},
        )
    )


def checkpoint_hash(path: Optional[str]) -> Optional[str]:
    """Returns the SHA-256 of a checkpoint.

    Args:
        path (str, optional): As in a model spec.

    Returns:
        str, optional: The hash; the URL itself of a URL; None for None;
            :data:`UNKNOWN` if the file cannot be read.
    """
    if path is None or '://' in path:
        return path
    digest = hashlib.sha256()
    try:
        with open(find_checkpoint(path), 'rb') as file:
            for block in iter(lambda: file.read(BLOCK), b''):
                digest.update(block)
    except OSError:
        return UNKNOWN
    return digest.hexdigest()


def describe_data(
    dataset: KeyedViewDataset, config: dict, cache_format: int
) -> Dict[str, Any]:
    """Returns everything that the clips of keyed views depend on.

    Args:
        dataset (KeyedViewDataset): The training set.
        config (dict): ``train_dataloader.dataset``, with ``KeyedViewDataset``
            outside of all wrappers.
        cache_format (int): Format of the cache that holds or will hold the
            description.

    Returns:
        dict: Can be written as JSON.

    Raises:
        ValueError: If the data set gives several clips per view.
    """
    wrapped = dataset.dataset
    parts = base_configs(config['dataset'])
    if any(isinstance(p, RepeatAugDataset) for p in base_datasets(wrapped)):
        raise ValueError(
            'train_dataloader.dataset: found a RepeatAugDataset, which gives '
            'several clips per view; a teacher cache needs one. Use '
            'CheckedVideoDataset.'
        )
    if cache_format == 1:
        files = dict(clips=clips_digest_v1(wrapped), decord=decord.__version__)
    else:
        pipelines = [t for part in parts for t in part['pipeline']]
        files = dict(
            clips=clips_digest(wrapped), decoders=decoder_versions(pipelines)
        )
    described = [(part['type'], part['pipeline']) for part in parts]
    kind, pipeline = described[0] if len(parts) == 1 else zip(*described)
    return as_json(
        dict(
            seed=dataset.seed,
            samples=len(wrapped),
            type=kind,
            pipeline=pipeline,
            mmaction=mmaction.__version__,
            **files,
        )
    )


def as_json(value: Any) -> Any:
    """Converts a value as JSON would: tuples to lists, keys to strings."""
    return json.loads(json.dumps(value, default=str))


def differences(kept: Any, wanted: Any, path: str = '') -> List[str]:
    """Lists the places where two descriptions differ.

    Args:
        kept: Description in the cache.
        wanted: Description of the run.
        path (str): Key of both, for messages.

    Returns:
        list[str]: ``'path: the cache has a, the run has b'``.
    """
    if isinstance(kept, dict) and isinstance(wanted, dict):
        return [
            line
            for name in sorted(set(kept) | set(wanted))
            for line in differences(
                kept.get(name, '(nothing)'),
                wanted.get(name, '(nothing)'),
                f'{path}.{name}' if path else name,
            )
        ]
    if (
        isinstance(kept, list)
        and isinstance(wanted, list)
        and len(kept) == len(wanted)
    ):
        return [
            line
            for i, (a, b) in enumerate(zip(kept, wanted))
            for line in differences(a, b, f'{path}.{i}')
        ]
    if kept == wanted:
        return []
    if path.endswith('.checkpoint') and wanted == UNKNOWN:
        print_log(
            f'{path}: the checkpoint does not exist here. The cache was made '
            f'with the checkpoint of SHA-256 {str(kept)[:12]}..., which is '
            'assumed to be the right one.',
            'current',
            level=30,
        )
        return []
    return [f'{path}: the cache has {kept!r}, the run has {wanted!r}']
