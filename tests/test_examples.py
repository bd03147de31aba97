"""The examples in the docstrings run and print what they say."""

import doctest
import importlib
import pkgutil

import pytest

import dtkd_mmaction

FOUND = list(pkgutil.walk_packages(dtkd_mmaction.__path__, 'dtkd_mmaction.'))
MODULES = sorted(module.name for module in FOUND)
PACKAGES = sorted(module.name for module in FOUND if module.ispkg)


@pytest.mark.parametrize('name', MODULES)
def test_examples_of_a_module(name):
    found = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.ELLIPSIS
    )
    assert found.failed == 0


@pytest.mark.parametrize('package', PACKAGES)
def test_every_public_class_has_an_example(package):
    public = importlib.import_module(package)
    classes = [
        value
        for name in getattr(public, '__all__', [])
        if isinstance(value := getattr(public, name), type)
        and not issubclass(value, Exception)
    ]
    missing = [c.__name__ for c in classes if '>>> ' not in (c.__doc__ or '')]
    assert not missing


def test_the_packages_export_classes():
    assert {'dtkd_mmaction.losses', 'dtkd_mmaction.engine'} <= set(PACKAGES)
