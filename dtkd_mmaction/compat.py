"""Repairs of the released MMAction2 stack.

The newest releases of MMAction2 (1.2.0) and MMEngine (0.10.7) predate the
PyTorch they are used with today. Every repair of them lives in this file, one
function each, named after what it mends. Each one leaves a stack alone that
does not need it and may be called more than once. :func:`apply` calls all of
them and has to run before anything imports ``mmaction.models``, so it is the
first thing ``dtkd_mmaction/__init__.py`` does.
"""

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import logging
import os
import os.path as osp
import pickle
import re
import sys
import types
import warnings
from _codecs import encode
from collections import Counter
from typing import Any, Callable, Dict, Optional
from urllib.parse import urlparse

import mmengine.dist.utils as dist_utils
import mmengine.optim.optimizer.amp_optimizer_wrapper as amp_module
import mmengine.runner.checkpoint as checkpoint_module
import numpy as np
import torch
from mmengine.device import get_device
from mmengine.dist import get_dist_info
from mmengine.logging import HistoryBuffer, print_log
from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.runner.checkpoint import CheckpointLoader

DRN = 'mmaction.models.localizers.drn'

# torch.library forgets the operators of a Library that is collected.
_torchvision_library = None


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read, or that is not safe to read."""


def apply() -> None:
    """Applies every repair."""
    missing_drn_package()
    torchvision_operators()
    safe_checkpoint_globals()
    checkpoint_loaders()
    distributed_on_cpu()
    ddp_device_ids_on_cpu()
    amp_on_cpu()
    bfloat16_logits()
    decord_reads_by_path()
    tin_without_mmcv_operators()


def _has_accelerator() -> bool:
    # MPS counts as none: neither DDP nor AMP of MMEngine know it.
    return get_device() not in ('cpu', 'mps')


def _notice(message: str) -> None:
    # MMEngine's logger may be older than the process group: it then takes
    # every process for the first.
    if get_dist_info()[0] == 0:
        print_log(message, logger='current', level=logging.WARNING)


def _wrap(owner: Any, name: str, make: Callable) -> None:
    """Replaces ``owner.name`` by ``make(upstream)``, once."""
    upstream = getattr(owner, name)
    if not hasattr(upstream, '_dtkd_upstream'):
        wrapper = functools.wraps(upstream)(make(upstream))
        wrapper._dtkd_upstream = upstream
        setattr(owner, name, wrapper)


# --------------------------------------------------------------------------
# import of mmaction.models
# --------------------------------------------------------------------------
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


# --------------------------------------------------------------------------
# checkpoints
# --------------------------------------------------------------------------
# The only attributes that a checkpoint may look up. MMEngine pickles
# HistoryBuffer's table of methods, and the scheduler's annealing function.
_SAFE_ATTRIBUTES = {
    HistoryBuffer: ('min', 'max', 'mean', 'current'),
    OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
}


def _safe_getattr(owner: Any, name: str) -> Any:
    # `is`, because an unhashable or a lying `==` may come from the file.
    for known, names in _SAFE_ATTRIBUTES.items():
        if owner is known and type(name) is str and name in names:
            return getattr(owner, name)
    raise pickle.UnpicklingError(
        f'refused global: getattr({owner!r}, {name!r})'
    )


def _safe_globals() -> Dict[str, Any]:
    """What a checkpoint of MMEngine names beside PyTorch's own allow-list."""
    array, scalar = np.zeros(1), np.float64(0)
    objects = [HistoryBuffer, OneCycleParamScheduler, np.ndarray, np.dtype]
    # PyTorch before 2.6 does not allow these.
    objects += [encode, Counter, set, bytearray, complex]
    # The classes of numpy's dtypes. Objects ('O') and structures ('V') are
    # left out: their pickles can carry anything.
    objects += [type(np.dtype(code)) for code in '?bBhHiIlLqQefdFDSU']
    allowed = {f'{o.__module__}.{o.__qualname__}': o for o in objects}
    for module in ('numpy.core', 'numpy._core'):  # numpy 1 and numpy 2
        module = f'{module}.multiarray'
        allowed[f'{module}._reconstruct'] = array.__reduce__()[0]
        allowed[f'{module}.scalar'] = scalar.__reduce__()[0]
    # Never the real one: it would reach every function there is.
    for module in ('builtins', '__builtin__'):
        allowed[f'{module}.getattr'] = _safe_getattr
    return allowed


def _named(path: str, function: Callable) -> Callable:
    """A copy of ``function`` that PyTorch's unpickler finds under ``path``."""

    def alias(*args):
        return function(*args)

    alias.__module__, _, alias.__qualname__ = path.rpartition('.')
    alias.__name__ = alias.__qualname__
    alias._dtkd_upstream = function
    return alias


def safe_checkpoint_globals() -> None:
    """Lets ``torch.load(weights_only=True)`` read MMEngine's checkpoints.

    PyTorch 2.6 made ``weights_only=True`` the default, and MMEngine 0.10.7
    saves its message hub, so ``--resume``, ``load_from`` and testing fail
    with "Unsupported global: ... HistoryBuffer". PyTorch older than 2.4 has no
    list to add to; see :class:`_WeightsOnlyUnpickler`.
    """
    serialization = torch.serialization
    if not hasattr(serialization, 'add_safe_globals'):
        return
    known = {
        f'{f.__module__}.{f.__qualname__}'
        for f in serialization.get_safe_globals()
        if not isinstance(f, tuple)
    }
    serialization.add_safe_globals(
        [
            obj if isinstance(obj, type) else _named(path, obj)
            for path, obj in _safe_globals().items()
            if path not in known
        ]
    )


class _WeightsOnlyUnpickler(pickle._Unpickler):
    """``weights_only=True`` for PyTorch 2.0 to 2.3, which cannot be extended.

    Like PyTorch's own it calls, creates and fills nothing but what is on the
    allow-list.
    """

    dispatch = dict(pickle._Unpickler.dispatch)
    # Other ways to call something; torch.save writes none of them.
    for _opcode in (
        pickle.INST,
        pickle.OBJ,
        pickle.NEWOBJ_EX,
        pickle.EXT1,
        pickle.EXT2,
        pickle.EXT4,
    ):
        del dispatch[_opcode[0]]

    @staticmethod
    @functools.lru_cache(maxsize=None)
    def allowed() -> Dict[str, Any]:
        from torch._weights_only_unpickler import _get_allowed_globals

        return {**_get_allowed_globals(), **_safe_globals()}

    def find_class(self, module, name):
        if module == '__builtin__':  # torch.save writes Python 2 names
            module = 'builtins'
        path = f'{module}.{name}'
        if path not in self.allowed():
            raise pickle.UnpicklingError(f'refused global: {path}')
        return self.allowed()[path]

    def _check(self, obj):
        if not any(obj is known for known in self.allowed().values()):
            raise pickle.UnpicklingError(f'refused global: {obj!r}')

    def load_reduce(self):
        self._check(self.stack[-2])
        super().load_reduce()

    def load_newobj(self):
        self._check(self.stack[-2])
        super().load_newobj()

    def load_build(self):
        self._check(type(self.stack[-2]))
        super().load_build()

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build


def _weights_only_load(path: str, map_location: Any) -> Any:
    if hasattr(torch.serialization, 'add_safe_globals'):
        return torch.load(path, map_location=map_location, weights_only=True)
    restricted = types.ModuleType('dtkd_restricted_pickle')
    restricted.Unpickler = _WeightsOnlyUnpickler
    restricted.load = lambda f, **kwargs: _WeightsOnlyUnpickler(
        f, **kwargs
    ).load()
    return torch.load(
        path, map_location=map_location, pickle_module=restricted
    )


def _read_checkpoint(path: str, map_location: Any, origin: str = '') -> Any:
    """Reads a file of weights, and names it in every error."""
    name = f"'{path}'" + (f' (downloaded from {origin})' if origin else '')
    try:
        return _weights_only_load(path, map_location)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:
        text = str(error)
        if 'map_location' in text:  # PyTorch says what to do itself
            raise
        refused = re.search(
            r'GLOBAL (\S+) (?:was not|whose module)|'
            r'refused global: (.+)|(Trying to call .+|Can only .+)',
            text,
        )
        if refused:
            # `from None`: PyTorch's message advises to switch the check off.
            raise CheckpointError(
                f'Refused to load checkpoint {name}: beside weights it holds '
                f'{next(filter(None, refused.groups()))}, which can run code '
                'on your machine. Get it from a source that publishes plain '
                'weights. If you trust this file without reserve, rewrite it '
                'once: python -c "import torch; c = '
                "torch.load('OLD', map_location='cpu', weights_only=False); "
                "torch.save({'state_dict': c.get('state_dict', c)}, 'NEW')\""
            ) from None
        raise CheckpointError(
            f'Cannot read checkpoint {name} of {osp.getsize(path)} bytes: it '
            'is no PyTorch checkpoint, or it is damaged (cut off while it was '
            'copied, downloaded or saved?). Delete it and get it again; to '
            'resume, name an older checkpoint with --resume FILE. '
            f'[{type(error).__name__}: {text.splitlines()[0] if text else ""}]'
        ) from error


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """Loads a checkpoint from the disk, weights only.

    Args:
        filename (str): Path of the file.
        map_location: Same as for :func:`torch.load`.

    Returns:
        dict: The checkpoint.
    """
    filename = osp.expanduser(filename)
    if not osp.isfile(filename):
        what = 'is a directory' if osp.isdir(filename) else 'does not exist'
        raise FileNotFoundError(
            f"Checkpoint '{filename}' {what} (current directory: "
            f'{os.getcwd()}).'
        )
    return _read_checkpoint(filename, map_location)


def load_from_http(
    filename: str,
    map_location: Any = None,
    model_dir: Optional[str] = None,
    progress: bool = os.isatty(0),
) -> Any:
    """Loads a checkpoint from a URL through PyTorch's cache, weights only.

    Args:
        filename (str): The URL.
        map_location: Same as for :func:`torch.load`.
        model_dir (str, optional): Where the download is kept. Defaults to
            the cache of ``torch.hub``.
        progress (bool): Whether to show a progress bar.

    Returns:
        dict: The checkpoint.
    """
    folder = model_dir or osp.join(torch.hub.get_dir(), 'checkpoints')
    path = osp.join(folder, osp.basename(urlparse(filename).path))

    def download():
        if not osp.exists(path):
            os.makedirs(folder, exist_ok=True)
            print_log(f'Downloads {filename} to {path}', logger='current')
            torch.hub.download_url_to_file(filename, path, progress=progress)

    rank, world_size = get_dist_info()
    if rank == 0:
        download()
    if world_size > 1:
        torch.distributed.barrier()
        download()  # a node that does not share the folder of rank 0
    return _read_checkpoint(path, map_location, origin=filename)


def checkpoint_loaders() -> None:
    """Reads checkpoints with ``weights_only=True``, whatever the PyTorch.

    MMEngine 0.10.7 leaves the choice to ``torch.load``: before PyTorch 2.6 a
    local checkpoint can run code, and one from a URL still can, since
    ``torch.hub.load_state_dict_from_url`` defaults to
    ``weights_only=False``. Its errors do not name the file either.
    """
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    CheckpointLoader.register_scheme(
        ['http://', 'https://'], load_from_http, force=True
    )
    # torchvision://, open-mmlab:// and mmcls:// resolve to this name.
    checkpoint_module.load_from_http = load_from_http


# --------------------------------------------------------------------------
# training without an accelerator
# --------------------------------------------------------------------------
def distributed_on_cpu() -> None:
    """Lets the launchers start on machines without an accelerator.

    MMEngine calls ``torch.cuda.set_device`` whatever the backend, and the
    configs of MMAction2 ask for NCCL.
    """

    def make(upstream):
        def init(backend, *args, **kwargs):
            if _has_accelerator():
                return upstream(backend, *args, **kwargs)
            set_device = torch.cuda.set_device
            torch.cuda.set_device = lambda device: None
            try:
                upstream(
                    'gloo' if backend == 'nccl' else backend, *args, **kwargs
                )
            finally:
                torch.cuda.set_device = set_device
            if backend == 'nccl':
                _notice('No accelerator found: gloo is used instead of nccl.')

        return init

    for launcher in ('pytorch', 'slurm', 'mpi'):
        _wrap(dist_utils, f'_init_dist_{launcher}', make)


def ddp_device_ids_on_cpu() -> None:
    """Lets ``MMDistributedDataParallel`` wrap a model that is on the CPU.

    MMEngine's runner always passes ``device_ids=[LOCAL_RANK]``, which PyTorch
    refuses for a CPU model, and unlike in training with one process it does
    not revert SyncBN, which needs a GPU.
    """

    def make(upstream):
        def init(self, module, *args, **kwargs):
            if not _has_accelerator():
                kwargs['device_ids'] = None
                if any(
                    isinstance(m, torch.nn.SyncBatchNorm)
                    for m in module.modules()
                ):
                    _notice(
                        'SyncBN needs a GPU: every process normalizes its own '
                        'batch instead.'
                    )
                    module = revert_sync_batchnorm(module)
            upstream(self, module, *args, **kwargs)

        return init

    _wrap(MMDistributedDataParallel, '__init__', make)


def amp_on_cpu() -> None:
    """Lets ``--amp`` train on the CPU, in bfloat16 without loss scaling.

    ``AmpOptimWrapper`` asserts that there is an accelerator, though MMEngine's
    ``autocast`` and PyTorch support the CPU.
    """

    def make_init(upstream):
        def init(
            self, loss_scale='dynamic', dtype=None, use_fsdp=False, **kwargs
        ):
            if _has_accelerator():
                upstream(self, loss_scale, dtype, use_fsdp, **kwargs)
                return
            OptimWrapper.__init__(self, **kwargs)
            self._scale_update_param = None
            with warnings.catch_warnings():
                # torch.cuda.amp.GradScaler is deprecated but all MMEngine has
                warnings.simplefilter('ignore', FutureWarning)
                self.loss_scaler = amp_module.GradScaler(enabled=False)
            self.cast_dtype = torch.bfloat16
            _notice(
                'No accelerator found: AMP trains in bfloat16 on the CPU, '
                'without loss scaling, whatever dtype and loss_scale say.'
            )

        return init

    def make_load(upstream):
        def load_state_dict(self, state_dict):
            # What was saved on the CPU: a GPU's scaler refuses an empty state.
            if not state_dict.get('loss_scaler', True):
                state_dict.pop('loss_scaler')
            upstream(self, state_dict)

        return load_state_dict

    _wrap(AmpOptimWrapper, '__init__', make_init)
    _wrap(AmpOptimWrapper, 'load_state_dict', make_load)


def _float_if_bfloat16(scores: Any) -> Any:
    if isinstance(scores, torch.Tensor) and scores.dtype == torch.bfloat16:
        return scores.float()
    if isinstance(scores, dict):
        return {k: _float_if_bfloat16(v) for k, v in scores.items()}
    return scores


def bfloat16_logits() -> None:
    """Lets heads train and predict under bfloat16 autocast.

    ``BaseHead.loss_by_feat`` and ``AccMetric`` turn the logits into numpy
    arrays, and numpy has no bfloat16: "Got unsupported ScalarType BFloat16".
    Other types pass unchanged.
    """
    from mmaction.models.heads import BaseHead, OmniHead, RGBPoseHead

    def make(upstream):
        def by_feat(self, cls_scores, *args, **kwargs):
            return upstream(
                self, _float_if_bfloat16(cls_scores), *args, **kwargs
            )

        return by_feat

    for head in (BaseHead, OmniHead, RGBPoseHead):
        for name in ('loss_by_feat', 'predict_by_feat'):
            if name in vars(head):
                _wrap(head, name, make)


# --------------------------------------------------------------------------
# decoding
# --------------------------------------------------------------------------
def decord_reads_by_path() -> None:
    """Opens a local clip by its path, and names it where that fails.

    ``DecordInit`` hands decord the bytes of the file. On some truncated AVIs
    decord 0.6.0 then crashes the process, where by path it raises; and its
    error says "Error reading 4993 bytes...", not of which file.
    """
    from mmaction.datasets.transforms import DecordInit

    def make(upstream):
        def get_video_reader(self, filename):
            if self.io_backend not in ('disk', 'local'):
                return upstream(self, filename)
            import decord

            if not osp.splitext(filename)[1]:
                filename += '.mp4'  # as upstream
            try:
                return decord.VideoReader(
                    filename, num_threads=self.num_threads
                )
            except (RuntimeError, decord.DECORDError) as error:
                raise RuntimeError(
                    f'decord cannot open {filename}: {error}'
                ) from error

        return get_video_reader

    _wrap(DecordInit, '_get_video_reader', make)


# --------------------------------------------------------------------------
# operators
# --------------------------------------------------------------------------
def shift_in_time(data: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Moves groups of channels along time by a fraction of frames.

    Args:
        data (Tensor): (N, T, C, H, W).
        offset (Tensor): (N, G), frames by which each of G groups of channels
            moves; what moves in from outside of the clip is zero.

    Returns:
        Tensor: (N, T, C, H, W), differentiable in both.
    """
    frames, channels = data.shape[1:3]
    offset = offset.repeat_interleave(channels // offset.shape[1], dim=1)
    whole = offset.detach().floor()
    time = torch.arange(frames, device=data.device)[None, :, None]
    moved = torch.zeros_like(data)
    for step, weight in ((0, 1 - (offset - whole)), (1, offset - whole)):
        source = time - (whole.long() + step)[:, None]  # (N, T, C)
        inside = (source >= 0) & (source < frames)
        weight = (weight[:, None] * inside)[..., None, None]
        index = source.clamp(0, frames - 1)[..., None, None].expand_as(data)
        moved = moved + weight * data.gather(1, index)
    return moved


def tin_without_mmcv_operators() -> None:
    """Lets TIN run without the compiled operators of mmcv.

    TIN needs ``mmcv.ops.tin_shift``, which mmcv-lite lacks and the full mmcv
    has for CUDA only. Where that operator can run, it is used.
    """
    from mmaction.models.backbones import resnet_tin

    def make(upstream):
        def linear_sampler(data, offset):
            compiled = importlib.util.find_spec('mmcv._ext') is not None
            if compiled and data.is_cuda:
                return upstream(data, offset)
            return shift_in_time(data, offset)

        return linear_sampler

    _wrap(resnet_tin, 'linear_sampler', make)
