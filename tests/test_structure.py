"""Imports of the package point down only."""

import ast
from pathlib import Path

import pytest

import dtkd_mmaction

PACKAGE = Path(dtkd_mmaction.__file__).parent
# From the ground floor up. Packages on one floor may import each other.
FLOORS = [
    ['version', 'registry', 'files', 'file_lock', 'literals'],
    ['compat'],
    ['backbones', 'heads', 'modules', 'datasets', 'evaluation'],
    ['losses'],
    ['recognizers'],
    ['teachers'],
    ['distillers'],
    ['deployment'],
    ['config_check'],
    ['engine'],
    ['__init__'],
]
FLOOR_OF = {name: i for i, names in enumerate(FLOORS) for name in names}
FILES = sorted(
    str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob('*.py')
)


def package_imports(file: str) -> set:
    """Packages of dtkd_mmaction that a file imports, at any depth."""
    found = set()
    package = ('dtkd_mmaction', *Path(file).parts[:-1])
    for node in ast.walk(ast.parse((PACKAGE / file).read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name.split('.') for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) + 1 - node.level])
            base = base if node.level else []
            base += node.module.split('.') if node.module else []
            modules = [[*base, alias.name] for alias in node.names]
        else:
            continue
        found.update(
            m[1] for m in modules if m[0] == 'dtkd_mmaction' and m[1:]
        )
    return found


@pytest.mark.parametrize('file', FILES)
def test_imports_point_down(file):
    own = Path(file).parts[0].replace('.py', '')
    above = {
        name
        for name in package_imports(file)
        if FLOOR_OF.get(name, 0) > FLOOR_OF[own]
    }
    assert not above, f'{file} ({own}) imports {sorted(above)} from above'


def test_the_check_sees_relative_imports():
    assert 'recognizers' in package_imports('distillers/base.py')
