"""Keeps the workers of a data loader alive when a scheduler stops the run."""

import os
import signal
import threading
from functools import partial
from typing import Callable, Optional

from torch.utils.data import DataLoader


def protect_workers(loader: DataLoader) -> None:
    """Lets a loader's workers survive the SIGTERM that their run receives.

    A scheduler signals every process. The main process still needs its
    workers then, to finish an iteration or a validation.
    """
    loader.worker_init_fn = partial(initialise_worker, loader.worker_init_fn)


def initialise_worker(stock: Optional[Callable], worker_id: int) -> None:
    """Initialises a worker that ignores one SIGTERM.

    A SIGTERM from its main process or a second SIGTERM ends it.

    Args:
        stock (callable, optional): The loader's own ``worker_init_fn``.
        worker_id (int): Number of the worker.
    """
    if stock is not None:
        stock(worker_id)
    if not hasattr(signal, 'sigwaitinfo'):  # macOS cannot tell who signals
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(
        target=_end_on_sigterm, args=(os.getppid(),), daemon=True
    ).start()


def _end_on_sigterm(main_process: int) -> None:
    first = signal.sigwaitinfo({signal.SIGTERM})
    if first.si_pid != main_process:
        signal.sigwaitinfo({signal.SIGTERM})
    os._exit(128 + signal.SIGTERM)
