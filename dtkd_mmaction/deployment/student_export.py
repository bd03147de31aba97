"""A distiller's checkpoint and config, reduced to the stock student's."""

from typing import Any, Dict, Optional

from mmengine.config import Config

from ..literals import parse_literals
from ..recognizers.model_spec import load_config, set_num_classes
from ..version import __version__
from .plain_config import custom_imports, find_class, to_literals, to_stock

# Models that a distiller trains; only mutual learning has a peer.
PARTS = ('student', 'peer')
# Where a checkpoint's `meta` has the texts of the configs of these parts.
EXPORTED_CONFIGS = 'exported_configs'
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
# MMEngine reads a config as code. Names that begin with two underscores are
# no keys of it, and importing anything but `sys` would make it a lazy one.
FILE_HEADER = """\
# A student that dtkd_mmaction {version} distilled. Plain MMAction2 tests it:
#   mim test mmaction student_config.py --checkpoint student_NAME.pth
# MMAction2 1.2.0 as released cannot be imported: it lacks the package of the
# localizer DRN and does not install importlib_metadata. Where they are
# missing, the next lines put substitutes in their place.
import sys

__util = __import__('importlib.util').util
__mmaction = __util.find_spec('mmaction').submodule_search_locations[0]
__drn = 'mmaction.models.localizers.drn'
if not __import__('os').path.isdir(f'{{__mmaction}}/models/localizers/drn'):
    for __name in (__drn, f'{{__drn}}.drn'):
        sys.modules.setdefault(__name, __import__('types').ModuleType(__name))
    sys.modules[f'{{__drn}}.drn'].DRN = None
if not __util.find_spec('importlib_metadata'):
    __importlib = __import__('importlib.metadata')
    sys.modules['importlib_metadata'] = __importlib.metadata

"""


def is_distiller_checkpoint(checkpoint: dict, part: str = 'student') -> bool:
    """Returns whether it holds a student (or a peer) among other things."""
    return any(
        name.startswith(f'{part}.')
        for name in checkpoint.get('state_dict', {})
    )


def student_checkpoint(
    checkpoint: dict, part: str = 'student', cfg: Optional[str] = None
) -> dict:
    """Takes the student out, as MMAction2 itself would have saved it.

    Args:
        checkpoint (dict): A distiller's checkpoint. Under EMA its
            ``state_dict`` holds the averaged weights, so the student has
            those that were evaluated.
        part (str): One of :data:`PARTS`. Defaults to ``'student'``.
        cfg (str, optional): File of the student's stock config. Only
            checkpoints without :data:`EXPORTED_CONFIGS` need it, if the run
            named such a file.

    Returns:
        dict: ``meta`` and ``state_dict`` of the stock model; no optimizer,
            no training-only module. ``meta['cfg']`` is the text of
            :func:`student_config`.

    Raises:
        ValueError: If there is no student in it, or its config is in a file
            that ``cfg`` does not give.
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
    configs = meta.pop(EXPORTED_CONFIGS, {})
    if part in configs:
        parse_literals(configs[part], f"meta['{EXPORTED_CONFIGS}']['{part}']")
        meta['cfg'] = configs[part]
    elif 'cfg' in meta:
        config = Config(parse_literals(meta['cfg'], "meta['cfg']"))
        _refuse_files(config.model, part, cfg)
        meta['cfg'] = student_config(config, part).pretty_text
    return dict(
        meta=meta,
        state_dict={
            # in the stock layout, whatever it was trained in
            name[len(part) + 1 :]: value.contiguous()
            for name, value in checkpoint['state_dict'].items()
            if name.startswith(f'{part}.')
        },
    )


def _refuse_files(model: dict, part: str, cfg: Optional[str]) -> None:
    """Replaces a file that a checkpoint names by one that the user names.

    A config file is executed, so a checkpoint must not choose it.
    """
    if model['type'] == 'SimKDDistiller':
        raise ValueError(
            "This checkpoint does not hold the exported student's config. "
            'Keep StudentExportHook in custom_hooks, which puts it there.'
        )
    if cfg is not None:
        model[part]['cfg'] = cfg
        return
    source = model[part]['cfg']
    if isinstance(source, str) and ('::' not in source or '..' in source):
        raise ValueError(
            f"This checkpoint does not hold the {part}'s config: the run read "
            f'it from the file {source!r}. Name that file with --config.'
        )


def exported_configs(config: Config) -> Dict[str, str]:
    """Returns the text of the config of each part that can be exported.

    The configs that the parts name are read. The texts hold literals only,
    so they can travel in a checkpoint.

    Args:
        config (Config): The config of a run.

    Returns:
        dict[str, str]: Part -> text; empty for a model that is no distiller.
    """
    if distiller_class(config) is None:
        return {}
    return {
        part: student_config(config, part).pretty_text
        for part in PARTS
        if part in config.model
    }


def distiller_class(config: Config) -> Any:
    """Returns the distiller that a run's config names, or None."""
    name = to_literals((config.get('model') or {}).get('type'), 'model.type')
    cls = find_class(name) if name else None
    return cls if hasattr(cls, 'exported_student') else None


def student_config(config: Config, part: str = 'student') -> Config:
    """Returns the config with which plain MMAction2 tests the student.

    Args:
        config (Config): A distillation config.
        part (str): One of :data:`PARTS`. Defaults to ``'student'``.

    Returns:
        Config: The student with its test data, in literals. It imports this
            package only for what MMAction2 does not have (MoViNet), and the
            user's own modules only for classes that no stock package has.
    """
    distiller = distiller_class(config)
    if distiller is None:
        raise ValueError(
            f'model.type={(config.get("model") or {}).get("type")!r} is no '
            'distiller: there is no student to export.'
        )
    spec = distiller.exported_student(config.model, part)
    stock = load_config(spec, f'model.{part}')
    set_num_classes(stock.model, config.model.get('num_classes'))
    sections = dict(model=to_literals(stock.model, f'model.{part}'))
    for name in KEPT_SECTIONS:
        if config.get(name) is not None:
            sections[name] = to_stock(to_literals(config[name], name))
    imports = [
        module
        for source in (config, stock)
        for module in (source.get('custom_imports') or {}).get('imports', [])
    ]
    needed = custom_imports(sections, imports)
    if needed is not None:
        sections['custom_imports'] = needed
    return Config(sections)


def config_file(text: str) -> str:
    """Returns the content of a config file for users of plain MMAction2.

    Args:
        text (str): Literals, as in ``meta['cfg']`` of the student.
    """
    return FILE_HEADER.format(version=__version__) + text
