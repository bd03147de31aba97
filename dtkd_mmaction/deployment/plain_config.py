"""Configs reduced to literals and to classes of plain MMAction2."""

import inspect
from pathlib import PurePath
from typing import Any, Iterator, List, Optional

import mmaction.registry
from mmengine.config import Config
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.registry import Registry

OURS = 'dtkd_mmaction'
# A class of this package -> the stock class that does the same in a test.
STOCK_CLASSES = {
    'AtomicCheckpointHook': 'CheckpointHook',
    'CheckedVideoDataset': 'VideoDataset',
    'FrameExactDecode': 'DecordDecode',
    'KeyedViewSampler': 'DefaultSampler',
}
# Packages whose classes a plain installation finds by name.
STOCK_PACKAGES = ('mmaction', 'mmcv', 'mmengine', 'torch', 'torchvision')


def to_literals(value: Any, key: str) -> Any:
    """Turns a part of a config into numbers, strings and containers.

    A class becomes its registered name, or else its dotted path: configs
    with MMEngine's lazy imports hold classes.

    Args:
        value: The part.
        key (str): Where the config has it, for messages.

    Raises:
        TypeError: For a value that cannot be written as a literal.
    """
    if isinstance(value, Config):
        value = value._cfg_dict
    if value is None or isinstance(value, (bool, int, float, complex, bytes)):
        return value
    if isinstance(value, str):
        return _short_name(value) if key.endswith('.type') else str(value)
    if isinstance(value, dict):
        return {k: to_literals(v, f'{key}.{k}') for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        items = [to_literals(v, f'{key}.{i}') for i, v in enumerate(value)]
        return items if isinstance(value, list) else type(value)(items)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, (LazyObject, LazyAttr)):
        value = value.build()
    if hasattr(value, '__qualname__') and hasattr(value, '__module__'):
        return _short_name(f'{value.__module__}.{value.__qualname__}')
    raise TypeError(
        f'{key}: a {type(value).__name__} cannot be written to the exported '
        "student's config. Use numbers, strings, lists and dicts."
    )


def to_stock(value: Any) -> Any:
    """Replaces classes of this package that plain MMAction2 can do without.

    Args:
        value: Literals, see :func:`to_literals`.

    Returns:
        The same literals with stock classes, at any depth.
    """
    if isinstance(value, dict):
        if value.get('type') == 'KeyedViewDataset':
            return to_stock(value['dataset'])
        value = {key: to_stock(item) for key, item in value.items()}
        name = value.get('type')
        if isinstance(name, str) and name in STOCK_CLASSES:
            own = _own_options(find_class(name))
            value = {k: v for k, v in value.items() if k not in own}
            value['type'] = STOCK_CLASSES[name]
        return value
    if isinstance(value, (list, tuple)):
        return type(value)(to_stock(item) for item in value)
    return value


def custom_imports(sections: dict, imports: List[str]) -> Optional[dict]:
    """Returns the ``custom_imports`` that a config needs.

    Args:
        sections (dict): Literals of the config.
        imports (list[str]): Modules that the run has imported.

    Returns:
        dict or None: None if stock packages have all classes.
    """
    needed = []
    classes = {name: find_class(name) for name in type_names(sections)}
    if any(is_ours(cls) for cls in classes.values()):
        needed.append(OURS)
    if any(
        cls is None or cls.__module__.split('.')[0] not in STOCK_PACKAGES
        for cls in classes.values()
        if not is_ours(cls)
    ):
        needed += [name for name in imports if name.split('.')[0] != OURS]
    if not needed:
        return None
    return dict(imports=needed, allow_failed_imports=False)


def is_ours(cls: Optional[type]) -> bool:
    """Returns whether a class belongs to this package."""
    return cls is not None and cls.__module__.split('.')[0] == OURS


def type_names(value: Any) -> Iterator[str]:
    """Yields every ``type`` without a dot in literals, at any depth.

    One with a dot names its package itself.
    """
    if isinstance(value, dict):
        name = value.get('type')
        if isinstance(name, str) and '.' not in name:
            yield name
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from type_names(item)


def find_class(name: str) -> Any:
    """Finds a registered class or function by its name, in any registry."""
    for registry in vars(mmaction.registry).values():
        if isinstance(registry, Registry):
            found = registry.get(name)
            if found is not None:
                return found
    return None


def _short_name(name: str) -> str:
    """Turns the path of a registered class into its name."""
    last = name.split('.')[-1]
    if last == name:
        return name
    found = find_class(last)
    same_package = (
        found is not None
        and found.__module__.split('.')[0] == name.split('.')[0]
    )
    return last if same_package else name


def _own_options(cls: type) -> List[str]:
    """Options that a class has and its stock base class has not."""
    parameters = inspect.signature(cls).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
