"""Checks one ``dict(type=...)`` of a config against its class."""

import inspect
from collections.abc import Mapping
from typing import Any, Callable, Collection, Dict, Optional

from mmengine.registry import Registry

from ..losses.options import COUNT, EPOCHS, FRACTION, Range
from .findings import Findings, choices_text, nearest, shown
from .signatures import (
    OWN_PACKAGE,
    arguments_of,
    find_class,
    registered_names,
    wanted_kind,
)
from .trials import try_out

# Keys of every part, which the registry takes out.
BUILDER_KEYS = ('type', '_scope_')
# Ranges of arguments of this package's classes, losses aside.
NUMBERS = (int, float, Optional[int], Optional[float])
RANGES: Dict[str, Range] = dict(
    cooldown=EPOCHS,
    jitter=FRACTION,
    mask_ratio=FRACTION,
    max_unreadable=EPOCHS,
    max_unreadable_share=FRACTION,
    num_classes=Range(1, whole=True, optional=True),
    patch_size=COUNT,
    probability=FRACTION,
    reduction=COUNT._replace(optional=True),
    se_ratio=COUNT,
    seed=EPOCHS,
    views=COUNT._replace(optional=True),
)


def check_part(
    findings: Findings,
    registry: Registry,
    config: Any,
    key: str,
    extra: Collection[str] = (),
    hidden: Collection[str] = (),
    supplied: Collection[str] = (),
    default_type: Optional[str] = None,
    trial: Optional[Mapping] = None,
) -> Optional[Callable]:
    """Compares a dict of a config with the class that it names.

    Args:
        findings (Findings): Collects the problems.
        registry (Registry): Where the type is registered.
        config (dict): The part.
        key (str): Its config key.
        extra (collection of str): Keys that the builder of the part takes
            out before the class gets the others.
        hidden (collection of str): Arguments of base classes that the class
            fills in, which a config therefore cannot set.
        supplied (collection of str): Arguments that the builder fills in.
        default_type (str, optional): The type where the config has none.
        trial (dict, optional): Arguments with which the part can be built at
            once, besides its own. None leaves it unbuilt.

    Returns:
        callable, optional: The class; None if there is none.
    """
    if not isinstance(config, Mapping):
        findings.error(key, "it must be a dict with a 'type'.", shown(config))
        return None
    name = config.get('type', default_type)
    if name is None:
        text = "it has no 'type'."
        if (other := nearest('type', config)) is not None:
            text += f' Did you mean type instead of {other!r}?'
        findings.error(key, text)
        return None
    part = find_class(registry, name)
    if part is None:
        names = registered_names(registry)
        near = nearest(str(name), names)
        findings.error(
            f'{key}.type',
            'nothing is registered under this name in '
            f'{registry.name!r}. '
            + (f'Did you mean {near!r}? ' if near else '')
            + 'A class of your own must be imported by custom_imports.',
            shown(name),
        )
        return None
    check_keys(findings, part, config, key, {*BUILDER_KEYS, *extra}, hidden)
    check_values(findings, part, config, key)
    required = [
        n
        for n, parameter in arguments_of(part).own.items()
        if parameter.default is inspect.Parameter.empty
        and n not in config
        and n not in supplied
    ]
    for argument in required:
        findings.error(
            f'{key}.{argument}',
            f'it is missing; {part.__name__} needs it.',
        )
    if trial is not None and not findings.errors_below(key):
        apart = {*BUILDER_KEYS, *extra}
        options = {k: v for k, v in config.items() if k not in apart}
        try_out(part, options, key, findings, **trial)
    return part


def check_keys(
    findings: Findings,
    part: Callable,
    config: Mapping,
    key: str,
    extra: Collection[str] = (),
    hidden: Collection[str] = (),
) -> None:
    """Finds the keys that a class does not take."""
    arguments = arguments_of(part)
    known = {*arguments.known, *preset_names(part)} - set(hidden)
    for name in config:
        if name in known or name in extra:
            continue
        near = nearest(name, {*known, *extra})
        if arguments.ignores_others:
            findings.warn(
                f'{key}.{name}',
                f'{part.__name__} ignores this key. '
                + unknown_key_text(name, part.__name__, {*known, *extra}, key),
            )
            continue
        if not arguments.closed and not preset_names(part):
            # It may accept any name. Only a name that is nearly the same as a
            # known one is reported.
            if near is not None and is_typo(name, near):
                findings.warn(
                    f'{key}.{name}',
                    f'{part.__name__} may not know this key. Did you mean '
                    f'{near!r}?',
                )
            continue
        findings.error(
            f'{key}.{name}',
            unknown_key_text(name, part.__name__, {*known, *extra}, key),
        )


def unknown_key_text(
    name: str, owner: str, known: Collection[str], key: str
) -> str:
    """Returns the message for a key that does not exist."""
    known = {n for n in known if n != '_scope_'}
    near = nearest(name, known)
    hint = f'Did you mean {key}.{near}? ' if near else ''
    return (
        f'{owner} has no such key. {hint}Its keys are {choices_text(known)}.'
    )


def is_typo(name: str, near: str) -> bool:
    """Returns whether two names differ by a letter or two."""
    letters = sorted(name.lower()), sorted(near.lower())
    return (
        name != near
        and len(near) > 4
        and (letters[0] == letters[1] or _distance(name, near) <= 1)
    )


def _distance(first: str, second: str) -> int:
    """Returns the number of edits between two names, at most 2."""
    if first == second:
        return 0
    if abs(len(first) - len(second)) > 1:
        return 2
    short, long = sorted((first, second), key=len)
    i = next((i for i, c in enumerate(short) if c != long[i]), len(short))
    rest = short[i + 1 :] if len(short) == len(long) else short[i:]
    return 1 if rest == long[i + 1 :] else 2


def preset_names(part: Callable) -> Collection[str]:
    """Returns the options that a class takes by its presets."""
    presets = getattr(part, 'PRESETS', None) or {}
    return {name for preset in presets.values() for name in preset}


def check_values(
    findings: Findings, part: Callable, config: Mapping, key: str
) -> None:
    """Compares values with annotations, and our own classes' with ranges."""
    arguments = arguments_of(part)
    if not getattr(part, '__module__', '').startswith(OWN_PACKAGE):
        # Other packages annotate loosely, but a text is no number.
        for name, value in config.items():
            parameter = arguments.known.get(name)
            if (
                isinstance(value, str)
                and parameter is not None
                and parameter.annotation in NUMBERS
            ):
                findings.error(
                    f'{key}.{name}', 'it must be a number.', shown(value)
                )
        return
    for name, value in config.items():
        if name not in arguments.known or findings.errors_below(
            f'{key}.{name}'
        ):
            continue
        allowed = RANGES.get(name)
        hint = arguments.hints.get(name, Any)
        if allowed is not None and hint in NUMBERS:
            if value not in allowed:
                findings.error(
                    f'{key}.{name}', f'it must be {allowed}.', shown(value)
                )
            continue
        # None stands for "left out" wherever None is the default.
        if value is None and arguments.known[name].default is None:
            continue
        kind = wanted_kind(hint, value)
        if kind is not None:
            findings.error(
                f'{key}.{name}', f'it must be {kind}.', shown(value)
            )
