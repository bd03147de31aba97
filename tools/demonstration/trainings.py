"""Runs the demo's four trainings, two at a time."""

import glob
import json
import os
import os.path as osp
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Dict, List, NamedTuple

from mmengine.config import Config
from rich.progress import Progress

ROOT = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
# Config -> name in the table.
RUNS = dict(
    vit_teacher='ViT teacher',
    cnn_teacher='CNN teacher',
    student_alone='student alone',
    dtkd='student with DT-KD',
)
TEACHERS = ('vit_teacher', 'cnn_teacher')
# Every training has one thread, so two cores run two of them. The results
# then do not depend on the number of cores.
LANES = 2


class Result(NamedTuple):
    """Result of one training.

    Attributes:
        epochs (list[int]): Epochs after which the model was validated.
        steps (int): Steps of the whole training.
        top1 (list[float]): Accuracy after these epochs, 0 to 1.
        scalars (list[dict]): Training scalars, one dict per logged step.
        seconds (float): Wall time of the training, validation included.
    """

    epochs: List[int]
    steps: int
    top1: List[float]
    scalars: List[dict]
    seconds: float


def config_of(name: str) -> str:
    """Returns the config file of a run."""
    return osp.join(ROOT, f'configs/demo/{name}.py')


def clip_list(name: str) -> str:
    """Returns the list of clips that a run is trained on."""
    return 'pretrain' if name in TEACHERS else 'train'


class Trainings:
    """The four trainings of one seed, as child processes.

    Args:
        seed (int): Seed of the trainings.
        data (str): Folder of the clips.
        out (str): Folder for the runs.
        options (list[str]): Further ``--cfg-options`` of all trainings.
        progress (Progress): Display that gets one line per training.
        label (str): Text in front of the names of the runs. Defaults to ''.
    """

    def __init__(
        self,
        seed: int,
        data: str,
        out: str,
        options: List[str],
        progress: Progress,
        label: str = '',
    ) -> None:
        self.seed = seed
        self.data = data
        self.out = out
        self.options = options
        self.progress = progress
        self.label = label
        # Read here, because reading a config imports packages, which is not
        # thread-safe.
        self._epochs = {
            name: Config.fromfile(config_of(name)).train_cfg.max_epochs
            for name in RUNS
        }
        self._processes: List[subprocess.Popen] = []
        self._stopped = False

    def run(self) -> Dict[str, Result]:
        """Trains the teachers, the student alone and the distilled one.

        Returns:
            dict[str, Result]: One result per run, in the order of ``RUNS``.

        Raises:
            RuntimeError: If a training fails, with the end of its output.
        """
        with ThreadPoolExecutor(LANES) as pool:
            try:
                # The student alone starts when the first teacher is ready.
                running = {
                    name: pool.submit(self._train, name)
                    for name in (*TEACHERS, 'student_alone')
                }
                for name in TEACHERS:
                    running[name].result()
                running['dtkd'] = pool.submit(self._train, 'dtkd')
                return {name: running[name].result() for name in RUNS}
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Stops the running trainings and starts no other."""
        self._stopped = True
        for process in list(self._processes):
            if process.poll() is None:
                process.kill()

    def _command(self, name: str) -> List[str]:
        options = []
        for dataset, split in (
            ('train_dataloader.dataset.dataset', clip_list(name)),
            ('val_dataloader.dataset', 'val'),
            ('test_dataloader.dataset', 'val'),
        ):
            options += [
                f'{dataset}.ann_file={self.data}/demo_{split}_split_1_videos'
                '.txt',
                f'{dataset}.data_prefix.video={self.data}/videos',
            ]
        if name == 'dtkd':
            options += [
                f'model.{teacher}.checkpoint={self.out}/{teacher}/epoch_*.pth'
                for teacher in TEACHERS
            ]
        return [
            sys.executable,
            '-W',
            'ignore',
            osp.join(ROOT, 'tools/train.py'),
            config_of(name),
            '--work-dir',
            osp.join(self.out, name),
            '--cfg-options',
            *options,
            f'train_dataloader.dataset.kept_in={self.out}/views',
            f'randomness.seed={self.seed}',
            *self.options,
        ]

    def _train(self, name: str) -> Result:
        """Runs one training and reads its log."""
        if self._stopped:
            raise RuntimeError(f'{name} was not started.')
        work_dir = osp.join(self.out, name)
        shutil.rmtree(work_dir, ignore_errors=True)
        epochs = self._epochs[name]
        title = f'{self.label}{RUNS[name]}'
        task = self.progress.add_task(title, total=1, state='starts')
        start, lines, top1, epoch, done = time.perf_counter(), [], '', 0, 0
        process = subprocess.Popen(
            self._command(name),
            cwd=ROOT,
            env=dict(os.environ, OMP_NUM_THREADS='1', MKL_NUM_THREADS='1'),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._processes.append(process)
        for line in process.stdout:
            lines.append(line)
            accuracy = re.search(r'acc/top1: ([\d.]+)', line)
            if accuracy:
                top1 = f'top-1 {100 * float(accuracy[1]):.1f} %'
                if not self.progress.console.is_terminal:  # no bar in a file
                    self.progress.console.print(
                        f'{title}: epoch {epoch}/{epochs} {top1}'
                    )
            step = re.search(
                r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\]', line
            )
            if step:
                epoch, i, steps = map(int, step.groups())
                done = (epoch - 1) * steps + i
                self.progress.update(
                    task,
                    total=epochs * steps,
                    completed=done,
                    state=f'epoch {epoch}/{epochs} {top1}',
                )
        if process.wait():
            self.stop()  # before this lane takes the next training
            raise RuntimeError(
                f'{" ".join(process.args)} failed:\n{"".join(lines[-30:])}'
            )
        self.progress.update(task, state=top1)
        seconds = time.perf_counter() - start
        log = sorted(glob.glob(f'{work_dir}/*/vis_data/scalars.json'))[-1]
        with open(log) as f:
            scalars = [json.loads(line) for line in f]
        return Result(
            [s['step'] for s in scalars if 'acc/top1' in s],
            done,
            [s['acc/top1'] for s in scalars if 'acc/top1' in s],
            [s for s in scalars if 'loss' in s],
            seconds,
        )
