"""Repairs that let ``mmaction.models`` be imported."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys

import torch

DRN = 'mmaction.models.localizers.drn'

# torch.library forgets the operators of a Library that is collected.
_torchvision_library = None


class _MissingDRN(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for the package that the release forgot."""

    def find_spec(self, name, path=None, target=None):
        if name in (DRN, f'{DRN}.drn'):
            return importlib.machinery.ModuleSpec(
                name, self, is_package=name == DRN
            )
        return None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        if module.__name__ == f'{DRN}.drn':
            module.DRN = _DRNStub


class _DRNStub:
    def __init__(self, *args, **kwargs):
        raise ImportError(
            'The released mmaction2 lacks the package of the localizer DRN '
            '(open-mmlab/mmaction2#2714). Install mmaction2 from source to '
            'use it.'
        )


def missing_drn_package() -> None:
    """Lets ``mmaction.models`` be imported (open-mmlab/mmaction2#2714).

    The wheel and the sdist of mmaction2 1.2.0 lack the package
    ``mmaction.models.localizers.drn``, which ``mmaction.models`` imports. The
    finder is the last one asked, so where the package exists (a source
    install, a later release) the real one is found.
    """
    if not any(
        type(f).__name__ == _MissingDRN.__name__ for f in sys.meta_path
    ):
        sys.meta_path.append(_MissingDRN())


def torchvision_operators() -> None:
    """Lets a CUDA build of torchvision be imported beside a CPU-only PyTorch.

    Its import dies with "operator torchvision::nms does not exist", because
    its C++ library cannot load. MMPretrain imports torchvision, and
    ``mmaction.models`` imports MMPretrain where it is installed and catches
    an ImportError only. The two operators that torchvision asks for are
    declared without a kernel: nothing in action recognition calls them.
    """
    global _torchvision_library
    if (
        torch.version.cuda
        or torch.version.hip
        or importlib.util.find_spec('torchvision') is None
    ):
        return
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if 'torchvision::nms does not exist' not in str(error):
            raise
        _torchvision_library = torch.library.Library('torchvision', 'DEF')
        for operator in ('nms', 'qnms'):
            _torchvision_library.define(
                f'{operator}(Tensor dets, Tensor scores, '
                'float iou_threshold) -> Tensor'
            )
    except ImportError:
        # mmaction.models copes with this one by itself.
        pass


def function_registry_location() -> None:
    """Lets a name be looked up in MMAction2's registry of functions.

    Its location is ``mmaction.mmengine``, which does not exist, so looking up
    a name that is not registered yet dies with a ModuleNotFoundError.
    """
    from mmaction.registry import FUNCTION

    FUNCTION._locations = [
        location
        for location in FUNCTION._locations
        if location != 'mmaction.mmengine'
    ]
