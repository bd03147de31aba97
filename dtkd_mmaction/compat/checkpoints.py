"""Repairs of reading checkpoints: weights only, errors that name the file."""

import functools
import hashlib
import os
import os.path as osp
import pickle
import re
import types
import urllib.request
from _codecs import encode
from collections import Counter
from typing import Any, Callable, ClassVar, Dict, Optional
from urllib.parse import urlparse

import mmengine.runner as runner_package
import mmengine.runner.checkpoint as checkpoint_module
import mmengine.runner.runner as runner_module
import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmengine.logging import HistoryBuffer, print_log
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.runner.checkpoint import CheckpointLoader
from rich.progress import wrap_file

from ..files import DamagedFileError, atomic_file
from ..literals import parse_literals
from ._patching import notice, wrap

# Where MMEngine's checkpoints hold the text of a config.
_CONFIG_TEXTS = (
    ('meta', 'config'),
    ('meta', 'cfg'),
    ('message_hub', 'runtime_info', 'cfg'),
)


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read, or that is not safe to read."""


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
    """Returns the globals of MMEngine's checkpoints that PyTorch refuses."""
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
    """Copies ``function`` so that PyTorch's unpickler finds it as ``path``."""

    def alias(*args):
        return function(*args)

    named: Any = alias
    named.__module__, _, named.__qualname__ = path.rpartition('.')
    named.__name__ = named.__qualname__
    named._dtkd_upstream = function
    return named


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

    dispatch: ClassVar[Dict[int, Any]] = dict(pickle._Unpickler.dispatch)
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
    restricted: Any = types.ModuleType('dtkd_restricted_pickle')
    restricted.Unpickler = _WeightsOnlyUnpickler
    restricted.load = lambda f, **kwargs: _WeightsOnlyUnpickler(
        f, **kwargs
    ).load()
    return torch.load(
        path, map_location=map_location, pickle_module=restricted
    )


def _read_checkpoint(path: str, map_location: Any, origin: str = '') -> Any:
    """Reads a file of weights; every error names the file."""
    name = f"'{path}'" + (f' (downloaded from {origin})' if origin else '')
    try:
        checkpoint = _weights_only_load(path, map_location)
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
    _drop_code(checkpoint, name)
    return checkpoint


def _drop_code(checkpoint: Any, name: str) -> None:
    """Removes texts of configs that contain more than literal values.

    MMEngine executes such a text as Python: ``Runner.resume`` does it with
    ``meta['config']``, an inferencer without a config with ``meta['cfg']``.
    """
    for *parents, key in _CONFIG_TEXTS:
        holder = checkpoint
        for parent in parents:
            holder = holder.get(parent) if isinstance(holder, dict) else None
        if not isinstance(holder, dict) or key not in holder:
            continue
        where = f'{".".join(parents)}.{key} of checkpoint {name}'
        try:
            if not isinstance(holder[key], str):
                raise DamagedFileError(f'{where} is no text.')
            values = parse_literals(holder[key], where)
            if '_base_' in values:
                raise DamagedFileError(f'{where} names another file.')
        except DamagedFileError as error:
            del holder[key]
            notice(f'Ignored {where}, which MMEngine would execute: {error}')
            continue
        if key == 'config':  # all that ``Runner.resume`` compares
            holder[key] = f'gpu_ids = {values.get("gpu_ids")!r}'


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
        model_dir (str, optional): Folder of the download. Defaults to the
            cache of ``torch.hub``.
        progress (bool): Whether to show a progress bar.

    Returns:
        dict: The checkpoint.
    """
    folder = model_dir or osp.join(torch.hub.get_dir(), 'checkpoints')
    path = _cached_path(filename, folder)

    def download():
        if not osp.exists(path):
            print_log(f'Downloading {filename} to {path}', logger='current')
            _download(filename, path, progress)

    rank, world_size = get_dist_info()
    if rank == 0:
        download()
    if world_size > 1:
        torch.distributed.barrier()
        download()  # a node that does not share the folder of rank 0
    return _read_checkpoint(path, map_location, origin=filename)


def _cached_path(url: str, folder: str) -> str:
    """Returns the file for the download of a URL.

    PyTorch names it after the last part of the URL, so two URLs can share a
    file. Here a hash of the URL is added, unless a file with PyTorch's name
    is there whose own hash is in its name, as OpenMMLab publishes them.
    """
    name = osp.basename(urlparse(url).path)
    stem, extension = osp.splitext(name)
    published = osp.join(folder, name)
    own_hash = re.search(r'[-_]([0-9a-f]{8,64})$', stem)
    if own_hash and osp.isfile(published):
        with open(published, 'rb') as file:
            digest = hashlib.sha256()
            for block in iter(lambda: file.read(1 << 20), b''):
                digest.update(block)
        if digest.hexdigest().startswith(own_hash[1]):
            return published
    url_hash = hashlib.sha256(url.encode()).hexdigest()[:16]
    return osp.join(folder, f'{stem}.{url_hash}{extension}')


def _download(url: str, path: str, progress: bool) -> None:
    request = urllib.request.Request(url, headers={'User-Agent': 'torch.hub'})
    with urllib.request.urlopen(request) as response:
        size = response.headers.get('Content-Length')
        size = int(size) if size else None
        with wrap_file(
            response, size or 0, description=url, disable=not progress
        ) as source, atomic_file(path, size) as file:
            while block := source.read(1 << 20):
                file.write(block)


def checkpoint_loaders() -> None:
    """Reads checkpoints with ``weights_only=True`` on every PyTorch.

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


def moved_work_dirs() -> None:
    """Lets ``--resume`` work in a work dir that was moved or copied.

    MMEngine writes an absolute path to ``last_checkpoint``. After a copy,
    ``--resume`` reads the checkpoint of the old folder, after a move none.
    """

    def make(upstream):
        def find_latest_checkpoint(path):
            last = upstream(path)
            return last if last is None else _in_work_dir(last, path)

        return find_latest_checkpoint

    for module in (checkpoint_module, runner_package, runner_module):
        wrap(module, 'find_latest_checkpoint', make)


def _in_work_dir(last: str, work_dir: str) -> str:
    """Returns where the checkpoint of a work dir is now.

    Args:
        last (str): Content of the work dir's ``last_checkpoint``.
        work_dir (str): Current path of the work dir.

    Raises:
        FileNotFoundError: If the checkpoint is not there.
    """
    listed = f"'{osp.join(work_dir, 'last_checkpoint')}'"
    if not last:
        raise FileNotFoundError(
            f'{listed} is empty. Name a checkpoint with --resume FILE.'
        )
    folder, name = osp.split(last)
    # A folder of `default_hooks.checkpoint.out_dir`, or a remote one: other
    # work dirs have a `last_checkpoint` of their own.
    elsewhere = '://' in last or (
        osp.exists(last)
        and not osp.isfile(osp.join(folder, 'last_checkpoint'))
    )
    here = osp.join(work_dir, name)
    if elsewhere or osp.exists(here):
        return last if elsewhere else here
    raise FileNotFoundError(
        f'{listed} names {last!r}, but there is no {name} in this folder, '
        'which was probably moved or copied without it. Copy it here, or '
        'name a checkpoint with --resume FILE.'
    )
