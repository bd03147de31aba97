"""The examples in the docstrings run and print what they say."""

import doctest
import importlib
import pkgutil

import pytest

import dtkd_mmaction

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(
        dtkd_mmaction.__path__, 'dtkd_mmaction.'
    )
)


@pytest.mark.parametrize('name', MODULES)
def test_examples_of_a_module(name):
    found = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.ELLIPSIS
    )
    assert found.failed == 0


@pytest.mark.parametrize('package', ['losses', 'modules'])
def test_every_public_layer_has_an_example(package):
    public = importlib.import_module(f'dtkd_mmaction.{package}')
    classes = [
        value
        for name in public.__all__
        if isinstance(value := getattr(public, name), type)
    ]
    assert classes
    missing = [c.__name__ for c in classes if '>>> ' not in (c.__doc__ or '')]
    assert not missing
