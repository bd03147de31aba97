"""A distiller's checkpoint and config, reduced to the stock student's."""

from mmaction.registry import MODELS
from mmengine.config import Config

from ..recognizers.model_spec import load_config, set_num_classes
from ..version import __version__

# Models that a distiller trains; only mutual learning has a peer.
PARTS = ('student', 'peer')
# What a config needs to test and to deploy a model.
KEPT_SECTIONS = (
    'default_scope',
    'default_hooks',
    'env_cfg',
    'log_level',
    'log_processor',
    'visualizer',
    'vis_backends',
    'test_pipeline',
    'test_dataloader',
    'test_evaluator',
    'test_cfg',
)


def is_distiller_checkpoint(checkpoint: dict, part: str = 'student') -> bool:
    """Whether it holds a student (or a peer) among other things."""
    return any(
        name.startswith(f'{part}.')
        for name in checkpoint.get('state_dict', {})
    )


def student_checkpoint(checkpoint: dict, part: str = 'student') -> dict:
    """The student alone, as MMAction2 itself would have saved it.

    Args:
        checkpoint (dict): As a runner saves it for a distiller. Under EMA
            its ``state_dict`` holds the averaged weights, so the student has
            those that were evaluated.

        part (str): Which of :data:`PARTS`. Defaults to ``'student'``.

    Returns:
        dict: ``meta`` and ``state_dict`` of the stock model; no optimizer,
            no training-only module. ``meta['cfg']`` is the text of
            :func:`student_config`.

    Raises:
        ValueError: If there is no student in it.
    """
    if not is_distiller_checkpoint(checkpoint, part):
        raise ValueError(
            f'There is no {part} in this checkpoint: its keys, such as '
            f'{list(checkpoint.get("state_dict", checkpoint))[:3]}, do not '
            f"start with '{part}.'. A stock checkpoint needs no export."
        )
    meta = dict(
        checkpoint.get('meta', {}), distilled_by=f'dtkd_mmaction {__version__}'
    )
    if 'cfg' in meta:
        meta['cfg'] = student_config(
            Config.fromstring(meta['cfg'], '.py'), part
        ).pretty_text
    return dict(
        meta=meta,
        state_dict={
            # in the stock layout, whatever it was trained in
            name[len(part) + 1 :]: value.contiguous()
            for name, value in checkpoint['state_dict'].items()
            if name.startswith(f'{part}.')
        },
    )


def student_config(config: Config, part: str = 'student') -> Config:
    """The config with which plain MMAction2 tests the exported student.

    Args:
        config (Config): A distillation config.
        part (str): Which of :data:`PARTS`. Defaults to ``'student'``.

    Returns:
        Config: The student with its test data. It imports this package only
            for a student that MMAction2 does not have (MoViNet).
    """
    distiller = MODELS.get(config.model.type)
    spec = distiller.exported_student(config.model, part)
    model = load_config(spec, f'model.{part}').model
    set_num_classes(model, config.model.get('num_classes'))
    sections = {
        name: config[name]
        for name in KEPT_SECTIONS
        if config.get(name) is not None
    }
    dataset = (sections.get('test_dataloader') or {}).get('dataset', {})
    if dataset.get('type') == 'CheckedVideoDataset':
        dataset = dict(dataset, type='VideoDataset')
        dataset.pop('max_unreadable', None)
        dataset.pop('max_unreadable_share', None)
        sections['test_dataloader'] = dict(
            sections['test_dataloader'], dataset=dataset
        )
    hook = (sections.get('default_hooks') or {}).get('checkpoint') or {}
    if hook.get('type') == 'AtomicCheckpointHook':
        sections['default_hooks'] = dict(
            sections['default_hooks'],
            checkpoint=dict(hook, type='CheckpointHook'),
        )
    if any(is_ours(part) for part in model.values()):
        sections['custom_imports'] = dict(
            imports=['dtkd_mmaction'], allow_failed_imports=False
        )
    return Config(dict(model=model, **sections))


def is_ours(part: object) -> bool:
    """Whether a part of a model config names a class of this package."""
    if not isinstance(part, dict) or not isinstance(part.get('type'), str):
        return False
    built = MODELS.get(part['type'])
    return built is not None and built.__module__.startswith('dtkd_mmaction')
