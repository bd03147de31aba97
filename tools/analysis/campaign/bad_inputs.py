"""Broken lists, clips, checkpoints, caches and configs."""

import glob
import os
import os.path as osp
import pickle
import shutil
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Optional

import torch

from .strikes import Outcome
from .subjects import CacheWriter, Subject, Training

MARKER = 'executed'


@dataclass
class BadInput:
    """A wrong input of a training.

    Args:
        name (str): Name in the table.
        spoil (callable): Receives the folder of a copy of the workplace, and
            breaks something in it.
        says (str, optional): Text that the error must contain. None if the
            training must succeed.
        options (dict): Changes to the config.
        resume (bool): Whether the training is resumed.
    """

    name: str
    spoil: Callable[[str], None]
    says: Optional[str] = None
    options: Dict[str, object] = field(default_factory=dict)
    resume: bool = False


class RunsCode:
    """Leaves a marker when it is unpickled."""

    def __init__(self, folder: str) -> None:
        self.marker = osp.join(folder, MARKER)

    def __reduce__(self) -> tuple:
        return (os.mkdir, (self.marker,))


def write(name: str, content: bytes) -> Callable[[str], None]:
    """Replaces the content of a file."""

    def spoil(folder: str) -> None:
        path = osp.join(folder, name)
        os.makedirs(osp.dirname(path), exist_ok=True)
        with open(path, 'wb') as file:
            file.write(content)

    return spoil


def cut(pattern: str) -> Callable[[str], None]:
    """Removes the second half of the first file that matches a pattern."""

    def spoil(folder: str) -> None:
        path = sorted(glob.glob(osp.join(folder, pattern)))[0]
        os.truncate(path, osp.getsize(path) // 2)

    return spoil


def flip(pattern: str) -> Callable[[str], None]:
    """Changes one byte in the first file that matches a pattern."""

    def spoil(folder: str) -> None:
        path = sorted(glob.glob(osp.join(folder, pattern)))[0]
        with open(path, 'r+b') as file:
            file.seek(osp.getsize(path) // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 255]))

    return spoil


def add_line(name: str, line: bytes) -> Callable[[str], None]:
    """Adds a line to a list."""

    def spoil(folder: str) -> None:
        with open(osp.join(folder, name), 'ab') as file:
            file.write(line + b'\n')

    return spoil


def remove(name: str) -> Callable[[str], None]:
    """Removes a file."""
    return lambda folder: os.remove(osp.join(folder, name))


def pipe(name: str) -> Callable[[str], None]:
    """Replaces a file by a pipe, which blocks its reader."""

    def spoil(folder: str) -> None:
        os.remove(osp.join(folder, name))
        os.mkfifo(osp.join(folder, name))

    return spoil


def code(name: str) -> Callable[[str], None]:
    """Replaces a checkpoint by one that executes something."""

    def spoil(folder: str) -> None:
        path = osp.join(folder, name)
        os.makedirs(osp.dirname(path), exist_ok=True)
        with open(path, 'wb') as file:
            pickle.dump(dict(state_dict=RunsCode(folder)), file)

    return spoil


def without_head(name: str) -> Callable[[str], None]:
    """Removes the classifier from a checkpoint."""

    def spoil(folder: str) -> None:
        path = osp.join(folder, name)
        state = torch.load(path, weights_only=True)['state_dict']
        kept = {k: v for k, v in state.items() if 'fc' not in k}
        torch.save(dict(state_dict=kept), path)

    return spoil


def same_as(name: str, other: str) -> Callable[[str], None]:
    """Replaces a file by a copy of another one."""
    return lambda folder: shutil.copy(
        osp.join(folder, other), osp.join(folder, name)
    )


def nothing(folder: str) -> None:
    """Changes no file, because the options are wrong."""


CACHED = {
    'model.teacher_cache': 'CACHE',
    'train_dataloader.dataset.views': 2,
}
BAD_INPUTS = [
    BadInput('no training list', remove('train.txt'), 'train.txt'),
    BadInput('empty training list', write('train.txt', b''), 'train.txt'),
    BadInput('line without a label', add_line('train.txt', b'x'), 'train.txt'),
    BadInput('label 7 of 3', add_line('train.txt', b'train_0.mp4 7'), '7'),
    BadInput('validation label 7', add_line('val.txt', b'val_0.mp4 7'), '7'),
    BadInput(
        'list in UTF-16', write('train.txt', b'\xff\xfea\0'), 'train.txt'
    ),
    BadInput(
        'no clip can be read', write('train.txt', b'a 0\nb 1\n'), 'clips'
    ),
    BadInput('one clip of six is cut', cut('train_1.mp4')),
    BadInput('one clip of six is empty', write('train_1.mp4', b'')),
    BadInput('a pipe among the clips', pipe('train_1.mp4')),
    BadInput('teacher checkpoint cut', cut('vit.pth'), 'vit.pth'),
    BadInput('teacher checkpoint empty', write('cnn.pth', b''), 'cnn.pth'),
    BadInput('teacher checkpoint missing', remove('cnn.pth'), 'cnn.pth'),
    BadInput('teacher checkpoint executes', code('vit.pth'), 'vit.pth'),
    BadInput('teacher without a head', without_head('cnn.pth'), 'cnn_teacher'),
    BadInput(
        "the other teacher's", same_as('vit.pth', 'cnn.pth'), 'vit_teacher'
    ),
    BadInput(
        'unknown model key', nothing, 'studnet', {'model.studnet': dict(a=1)}
    ),
    BadInput(
        'unknown loss key',
        nothing,
        'tua',
        {'model.loss_sr': dict(type='DATWLoss', tua=4.0)},
    ),
    BadInput('negative tau', nothing, 'tau', {'model.loss_sr.tau': -4.0}),
    BadInput(
        'batch larger than the data',
        nothing,
        'batch_size',
        {
            'train_dataloader.batch_size': 64,
            'train_dataloader.drop_last': True,
        },
    ),
    BadInput(
        'other number of classes',
        nothing,
        'num_classes',
        {'model.num_classes': 2},
    ),
    BadInput('foreign file among checkpoints', write('run/best.pth', b'x')),
    BadInput('empty student export', write('run/student_epoch_1.pth', b'')),
    BadInput(
        'last checkpoint cut', cut('run/epoch_*.pth'), 'epoch_', resume=True
    ),
    BadInput(
        'last checkpoint executes',
        code(f'run/epoch_{2}.pth'),
        'epoch_',
        resume=True,
    ),
    BadInput(
        'last_checkpoint empty',
        write('run/last_checkpoint', b''),
        'last_checkpoint',
        resume=True,
    ),
    BadInput(
        'cache manifest cut', cut('cache/manifest.json'), 'manifest', CACHED
    ),
    BadInput('cache shard cut', cut('cache/view_*/*'), 'cache', CACHED),
    BadInput('cache shard, one byte', flip('cache/view_*/*'), 'cache', CACHED),
    BadInput(
        'cache of other teachers',
        same_as('vit.pth', 'other.pth'),
        'vit',
        CACHED,
    ),
]


def feed(bad: BadInput, workplace: str, folder: str) -> Optional[str]:
    """Trains with one bad input.

    Args:
        bad (BadInput): The wrong input.
        workplace (str): Folder with a finished run (``run``) and a cache.
        folder (str): Folder for the copy that is broken.

    Returns:
        str, optional: The problem; None if the result is as expected.
    """
    shutil.copytree(workplace, folder)
    bad.spoil(folder)
    options = {
        key: osp.join(folder, 'cache') if value == 'CACHE' else value
        for key, value in bad.options.items()
    }
    subject: Subject = Training(folder, folder, **options)
    outcome: Outcome = subject.start('run', again=bad.resume)
    if osp.exists(osp.join(folder, MARKER)):
        return 'something was executed'
    if outcome.hung:
        return 'it did not end'
    return judge(bad, outcome)


def judge(bad: BadInput, outcome: Outcome) -> Optional[str]:
    """Compares the end of a training with the expected one."""
    if bad.says is None:
        if outcome.codes == [0]:
            return None
        return last_line(outcome.log) or 'it ended without a message'
    if outcome.codes == [0]:
        return 'nothing was noticed'
    # The error itself must contain the text, not the traceback.
    if bad.says not in error_of(outcome.log):
        return f'{bad.says!r} is not named: {last_line(outcome.log)}'
    return None


def error_of(log: str) -> str:
    """Returns the last error message of an output."""
    lines: List[str] = log.splitlines()
    frames = [i for i, line in enumerate(lines) if line.startswith('  File ')]
    return '\n'.join(lines[frames[-1] + 2 :] if frames else lines[-20:])


def last_line(log: str) -> str:
    """Returns the last line except the count of file events."""
    lines = [s for s in log.splitlines() if s and 'file events' not in s]
    return lines[-1][:200] if lines else ''


def finish_workplace(workplace: str) -> None:
    """Adds a finished run, a cache and another teacher to a workplace.

    Raises:
        RuntimeError: If a part cannot be made.
    """
    for subject, name in (
        (Training(workplace, workplace), 'run'),
        (CacheWriter(workplace, workplace), 'cache'),
    ):
        outcome = subject.start(name)
        if outcome.codes != [0]:
            raise RuntimeError(outcome.log)
    path = osp.join(workplace, 'vit.pth')
    state = torch.load(path, weights_only=True)['state_dict']
    for value in state.values():
        value += 1
    torch.save(dict(state_dict=state), osp.join(workplace, 'other.pth'))
