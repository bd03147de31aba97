"""Reads Python literals in files made by others, without executing them."""

import ast
from typing import List, Optional

from .files import DamagedFileError


def parse_literals(text: str, name: str) -> dict:
    """Parses Python assignments of literals without executing anything.

    This reads what MMEngine writes for a config (``Config.pretty_text``):
    ``name = value`` with numbers, strings, lists, tuples, sets, dicts and
    ``dict(key=value)``.

    Args:
        text (str): The assignments.
        name (str): Their file, for messages.

    Returns:
        dict: Name -> value.

    Raises:
        DamagedFileError: If it is not Python, or holds anything else.
    """
    found, line = {}, 1
    try:
        for statement in ast.parse(text).body:
            line = statement.lineno
            if (
                not isinstance(statement, ast.Assign)
                or len(statement.targets) != 1
                or not isinstance(statement.targets[0], ast.Name)
            ):
                raise ValueError('it is no assignment')
            value = _PlainValues().visit(statement.value)
            found[statement.targets[0].id] = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError) as error:
        line = getattr(error, 'lineno', None) or line
        raise DamagedFileError(
            f'{name}, line {line}: expected `name = literal`, because code '
            f'is never executed here: {error}.'
        ) from None
    except (RecursionError, MemoryError):
        raise DamagedFileError(f'{name} is nested too deeply.') from None
    return found


class _PlainValues(ast.NodeTransformer):
    """Turns ``dict(a=1)``, ``dict({'a': 1})``, ``inf`` and ``nan`` to values.

    The names are what ``repr`` prints for infinite and undefined numbers.
    """

    def visit_Call(self, node: ast.Call) -> ast.AST:  # noqa: N802
        self.generic_visit(node)
        if not isinstance(node.func, ast.Name) or node.func.id != 'dict':
            return node
        if not node.args and all(k.arg for k in node.keywords):
            keys: List[Optional[ast.expr]] = [
                ast.Constant(k.arg) for k in node.keywords
            ]
            return ast.Dict(keys, [k.value for k in node.keywords])
        if (
            len(node.args) == 1
            and isinstance(node.args[0], ast.Dict)
            and not node.keywords
        ):
            return node.args[0]
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:  # noqa: N802
        if node.id in ('inf', 'nan'):
            return ast.Constant(float(node.id))
        return node
