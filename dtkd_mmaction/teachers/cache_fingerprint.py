"""What a teacher cache belongs to, and how it differs from a run."""

import hashlib
import json
from typing import Any, Dict, List, Optional

import decord
import mmaction
from mmengine.logging import print_log

from ..datasets.clips_digest import clips_digest_v1
from ..datasets.keyed_views import KeyedViewDataset
from ..recognizers.model_spec import (
    find_checkpoint,
    load_config,
    set_num_classes,
)

# What changes a teacher's numbers besides its weights and its view.
APPROXIMATIONS = ('precision', 'compile')
UNKNOWN = 'not found'


def describe_teacher(
    spec: dict, num_classes: Optional[int], key: str
) -> Dict[str, Any]:
    """All that a teacher's answers depend on.

    Args:
        spec (dict): Model spec.
        num_classes (int, optional): ``model.num_classes``.
        key (str): Where the config has the spec, for messages.

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
    """SHA-256 of a checkpoint, of a URL its text, or :data:`UNKNOWN`."""
    if path is None or '://' in path:
        return path
    try:
        with open(find_checkpoint(path), 'rb') as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return UNKNOWN


def describe_data(dataset: KeyedViewDataset, config: dict) -> Dict[str, Any]:
    """All that the clips of keyed views depend on.

    Args:
        dataset (KeyedViewDataset): The training set.
        config (dict): ``train_dataloader.dataset``.

    Returns:
        dict: Can be written as JSON.
    """
    wrapped = dataset.dataset
    return as_json(
        dict(
            seed=dataset.seed,
            samples=len(wrapped),
            clips=clips_digest_v1(wrapped),
            type=config['dataset']['type'],
            pipeline=config['dataset']['pipeline'],
            mmaction=mmaction.__version__,
            decord=decord.__version__,
        )
    )


def as_json(value: Any) -> Any:
    """A value as JSON gives it back: tuples are lists, keys are strings."""
    return json.loads(json.dumps(value, default=str))


def differences(kept: Any, wanted: Any, path: str = '') -> List[str]:
    """Where two descriptions differ.

    Args:
        kept: Of the cache.
        wanted: Of the run.
        path (str): Where both stand.

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
            f'{path}: the checkpoint is not here, so it is taken on trust '
            f'that the cache was made with it ({str(kept)[:12]}...).',
            'current',
            level=30,
        )
        return []
    return [f'{path}: the cache has {kept!r}, the run has {wanted!r}']
