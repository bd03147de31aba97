"""Packages that only deployment needs."""

import importlib
from types import ModuleType


def optional_package(name: str) -> ModuleType:
    """Imports a package, or says how to install it.

    Args:
        name (str): Module, such as ``'onnxruntime'`` or
            ``'onnxruntime.quantization'``.

    Raises:
        ImportError: If it is missing.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.split('.')[0]
        raise ImportError(
            f'The package {package} is needed and could not be imported '
            f'({error}). Install it: pip install {package}'
        ) from error
