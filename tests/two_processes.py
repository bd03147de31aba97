"""Runs a function in several forked processes that form one process group."""

import gc
import os
import socket
import sys
from multiprocessing import get_context

import torch
import torch.distributed as torch_dist


def free_port() -> int:
    """A port that nobody listens to."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def start_ranks(
    function, arguments=(), ranks=2, log=os.devnull, own_group=False
):
    """Starts ``function(*arguments)`` in every rank and returns at once.

    Each has the environment that ``torchrun`` would give it, for
    ``launcher='pytorch'``. Forked, because imports would take most of the
    time otherwise. Output goes to ``{log}.{rank}``. With ``own_group`` a
    signal to the process group reaches all ranks and nobody else.
    """
    port = free_port()
    context = get_context('fork')
    group = context.Value('i', 0)

    def child(rank):
        if own_group:
            with group:
                os.setpgid(0, group.value)
                group.value = os.getpgid(0)
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(ranks),
            MASTER_ADDR='127.0.0.1',
            MASTER_PORT=str(port),
        )
        path = log if log == os.devnull else f'{log}.{rank}'
        sys.stdout = sys.stderr = open(path, 'a', 1)
        torch.set_num_threads(1)
        gc.freeze()  # MMEngine's data sets collect garbage: now quickly
        function(*arguments)

    processes = [
        context.Process(target=child, args=(rank,)) for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    return processes


def join(processes, seconds=60):
    """Exit codes; processes that do not end in time are killed and fail."""
    for process in processes:
        process.join(seconds)
    late = [process for process in processes if process.is_alive()]
    for process in late:
        process.kill()
        process.join()
    assert not late, f'{len(late)} processes did not end.'
    return [process.exitcode for process in processes]


def results_of_ranks(function, folder, *arguments):
    """Returns ``function(rank, *arguments)`` of both ranks of a gloo group."""

    def work():
        rank = int(os.environ['RANK'])
        torch_dist.init_process_group('gloo')
        torch.save(function(rank, *arguments), folder / f'{rank}.pt')
        torch_dist.destroy_process_group()

    exit_codes = join(start_ranks(work, log=str(folder / 'log')))
    logs = [(folder / f'log.{rank}').read_text() for rank in (0, 1)]
    assert exit_codes == [0, 0], '\n'.join(logs)
    return [torch.load(folder / f'{rank}.pt') for rank in (0, 1)]
