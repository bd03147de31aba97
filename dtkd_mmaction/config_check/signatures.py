"""Arguments that a registered class takes, through ``**kwargs``."""

import ast
import functools
import inspect
import textwrap
import typing
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, Callable, Dict, NamedTuple, Optional, Union

import torch.nn as nn
from mmengine.hooks import CheckpointHook
from mmengine.registry import DefaultScope, Registry

OWN_PACKAGE = 'dtkd_mmaction'
# Their **kwargs go to a function that knows no further name: an unknown one
# fails at the first checkpoint.
CLOSED = (CheckpointHook,)
# How an annotation reads in a message.
KINDS: Dict[type, str] = {
    bool: 'True or False',
    int: 'an integer',
    float: 'a number',
    str: 'a string',
}


class Arguments(NamedTuple):
    """Arguments of a class.

    Attributes:
        known (dict[str, inspect.Parameter]): By name, those of base classes
            that ``**kwargs`` reach included.
        own (dict[str, inspect.Parameter]): Arguments of the class itself.
        closed (bool): Whether any other name is an error. ``**kwargs`` that
            reach no further constructor leave it open.
        hints (dict[str, Any]): Resolved annotations of this package.
        ignores_others (bool): Whether other names are accepted and have no
            effect.
    """

    known: Dict[str, inspect.Parameter]
    own: Dict[str, inspect.Parameter]
    closed: bool
    hints: Dict[str, Any]
    ignores_others: bool = False


def find_class(
    registry: Registry, name: Any, scope: str = 'mmaction'
) -> Optional[Callable]:
    """Returns what a ``type`` names, None if nothing is registered so."""
    if not isinstance(name, str) or not name:
        return name if callable(name) else None
    with DefaultScope.overwrite_default_scope(scope):
        try:
            return registry.get(name)
        except Exception:  # a dotted name that cannot be imported
            return None


def registered_names(registry: Optional[Registry]) -> Dict[str, Any]:
    """Returns the names in a registry and its parents."""
    names: Dict[str, Any] = {}
    while registry is not None:
        registry.import_from_location()
        names.update(registry.module_dict)
        registry = registry.parent
    return names


@functools.lru_cache(maxsize=None)
def arguments_of(part: Callable) -> Arguments:
    """Returns the arguments of a class or a function.

    Follows ``**kwargs`` from a class to the next constructor in its method
    resolution order.
    """
    known: Dict[str, inspect.Parameter] = {}
    hints: Dict[str, Any] = {}
    own: Optional[Dict[str, inspect.Parameter]] = None
    if not inspect.isclass(part):
        functions = [part]
    else:
        functions = [
            base.__dict__['__init__']
            for base in part.__mro__
            if '__init__' in base.__dict__ and base is not object
        ]
    part_is_closed = isinstance(part, type) and issubclass(part, CLOSED)
    closed = True
    for function in functions:
        # It raises an error for any name.
        if function is nn.Module.__init__:
            return Arguments(known, own or {}, closed, hints)
        try:
            parameters = dict(inspect.signature(function).parameters)
        except (TypeError, ValueError):
            return Arguments(known, own or {}, False, hints)
        rest = None  # the name of **kwargs
        for name in list(parameters):
            kind = parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                rest = name
            if name == 'self' or kind in (
                inspect.Parameter.VAR_KEYWORD,
                inspect.Parameter.VAR_POSITIONAL,
            ):
                del parameters[name]
        resolved = _type_hints(function)
        for name, parameter in parameters.items():
            known.setdefault(name, parameter)
            if name in resolved:
                hints.setdefault(name, resolved[name])
        own = parameters if own is None else own
        if rest is None:
            return Arguments(known, own, closed, hints)
        is_class = inspect.isclass(part)
        use = use_of_rest(function, rest) if is_class else 'read'
        if use == 'ignored':
            return Arguments(known, own, closed, hints, ignores_others=True)
        closed &= part_is_closed or use == 'passed'
    return Arguments(known, own or {}, closed, hints)


COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def use_of_rest(function: Callable, name: str) -> str:
    """Returns what a constructor does with its ``**kwargs``.

    Args:
        function (callable): The constructor.
        name (str): Their name in the signature.

    Returns:
        str: ``'passed'`` to the constructor of its base and nothing else;
            ``'ignored'``; or ``'read'``: it may know names that no signature
            has.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return 'read'
    # Another variable of the same name, in a comprehension.
    others = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, COMPREHENSIONS)
        and any(
            isinstance(target, ast.Name) and target.id == name
            for generator in node.generators
            for target in ast.walk(generator.target)
        )
        for inner in ast.walk(node)
    }
    uses = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Name)
        and node.id == name
        and node not in others
    ]
    if not uses:
        return 'ignored'
    passed = [
        keyword.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == '__init__'
        for keyword in node.keywords
        if keyword.arg is None
    ]
    return 'passed' if all(use in passed for use in uses) else 'read'


def _type_hints(function: Callable) -> Dict[str, Any]:
    # Annotations of other packages promise less than their classes accept.
    if not getattr(function, '__module__', '').startswith(OWN_PACKAGE):
        return {}
    try:
        return typing.get_type_hints(function)
    except Exception:  # names that are imported for type checkers only
        return {}


def wanted_kind(hint: Any, value: Any) -> Optional[str]:
    """Returns which kind of value an annotation wants, None if it fits.

    Only annotations of plain values, dicts and lists are compared.
    """
    if hint in (Any, inspect.Parameter.empty) or isinstance(
        hint, typing.TypeVar
    ):
        return None
    origin = typing.get_origin(hint)
    if origin is Union:
        kinds = [wanted_kind(h, value) for h in typing.get_args(hint)]
        wanted = [kind for kind in kinds if kind is not None]
        fits = len(wanted) < len(kinds)
        return None if fits else ' or '.join(dict.fromkeys(wanted))
    if hint is type(None):
        return None if value is None else 'None'
    if hint in KINDS:
        return None if _is_kind(value, hint) else KINDS[hint]
    if origin in (dict, Mapping) or hint is dict:
        return None if isinstance(value, Mapping) else 'a dict'
    if origin is list or hint is list:
        return None if isinstance(value, (list, tuple)) else 'a list'
    return None


def _is_kind(value: Any, kind: type) -> bool:
    if kind is bool or kind is str:
        return isinstance(value, kind)
    if isinstance(value, bool):
        return False
    return isinstance(value, Integral if kind is int else Real)
