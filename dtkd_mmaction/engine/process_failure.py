"""Tells all processes of a training which of them failed first."""

from typing import Optional

import torch.distributed as torch_dist
from mmengine.dist import get_rank, get_world_size

KEY = 'dtkd_mmaction/first_failure'
LOST_CONTACT = (
    'Another process of this training was killed, or its machine is gone. '
    'This process ended because of it. Its output or the log of the system '
    '(out of memory?) for the reason.'
)


def failure_elsewhere(error: BaseException) -> Optional[str]:
    """Explains an error that another process caused.

    The first process that fails leaves a note in the store of the process
    group. The others fail in their next collective call, with errors such as
    "Connection closed by peer".

    Args:
        error (BaseException): The error that ends this process.

    Returns:
        str, optional: Which process failed first, and with what. None if it
            is this one, or there is only one.
    """
    if get_world_size() == 1:
        return None
    own = f'Process {get_rank()} failed: {type(error).__name__}: {error}'
    is_broken = is_broken_connection(error)
    try:
        store = torch_dist.distributed_c10d._get_default_store()
        if not is_broken:
            first = store.compare_set(KEY, '', own).decode()
        else:
            first = store.get(KEY).decode() if store.check([KEY]) else ''
    except Exception:  # the process that held the store is gone
        first = ''
    if first and first != own:
        return f'{first} This process ended because of it.'
    return LOST_CONTACT if is_broken else None


def is_broken_connection(error: BaseException) -> bool:
    """Returns whether another process has left a collective call."""
    if isinstance(error, getattr(torch_dist, 'DistError', ())):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        part in text for part in ('gloo', 'NCCL', 'by peer')
    )
