"""Trainings of a toy distiller that take a fraction of a second."""

import itertools
import os
import signal
import sys

import torch
from mmaction.registry import DATASETS, HOOKS, METRICS, MODELS
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from tiny_models import tiny_x3d

import dtkd_mmaction  # noqa: F401

STEPS = 2  # per epoch
NUMBERS = itertools.count()


@MODELS.register_module()
class ToyDistiller(BaseModel):
    """Has a student of three numbers; exports the config of another one."""

    def __init__(self, student):
        super().__init__()
        self.student = torch.nn.Linear(2, 1)
        self.branch = torch.nn.Linear(1, 1)
        self.register_buffer('steps', torch.zeros(()))

    @classmethod
    def exported_student(cls, model, part='student'):
        return model[part]

    def forward(self, inputs, mode='tensor'):
        out = self.branch(self.student(torch.stack(inputs)))
        if mode == 'loss':
            self.steps += 1
            return dict(loss=(out**2).mean())
        return [int(self.steps) // STEPS] * len(out)


@DATASETS.register_module()
class ToyClips(torch.utils.data.Dataset):
    """Four pairs of numbers."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return dict(inputs=torch.tensor([index, 1.0]))


@METRICS.register_module()
class ScriptedMetric(BaseMetric):
    """Gives the accuracy that a list has for the number of epochs."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        return dict(acc=self.values[results[0] - 1])


@HOOKS.register_module()
class RemovesFileHook(Hook):
    """Removes a file in the first iteration."""

    def __init__(self, path):
        self.path = path

    def before_train_iter(self, runner, **_):
        if runner.iter == 0:
            os.remove(self.path)


def toy_config(work_dir, epochs=3, **options):
    """An AtomicCheckpointHook that keeps the last and the best checkpoint."""
    loader = dict(
        dataset=dict(type='ToyClips'),
        batch_size=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    config = Config(
        dict(
            default_scope='mmaction',
            model=dict(type='ToyDistiller', student=dict(cfg=tiny_x3d())),
            work_dir=str(work_dir),
            train_cfg=dict(type='ResumableTrainLoop', max_epochs=epochs),
            val_cfg=dict(),
            train_dataloader=loader,
            val_dataloader=loader,
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            val_evaluator=dict(
                type='ScriptedMetric', values=[0.5, 0.2, 0.7, 0.3, 0.9]
            ),
            test_pipeline=[dict(type='DecordInit')],
            default_hooks=dict(
                checkpoint=dict(
                    type='AtomicCheckpointHook',
                    interval=1,
                    max_keep_ckpts=1,
                    save_best='acc',
                )
            ),
            custom_hooks=[dict(type='StudentExportHook')],
            randomness=dict(seed=0),
            # MMEngine tells runs of one process apart by name and second.
            experiment_name=f'toy_{next(NUMBERS)}',
        ),
        format_python_code=False,  # which takes most of the time otherwise
    )
    config.merge_from_dict(options)
    return config


class ToyRunner(Runner):
    """Does not ask the machine for its compilers, which takes seconds."""

    def _log_env(self, env_cfg):
        pass


def train(config):
    """Trains in this process."""
    ToyRunner.from_cfg(config).train()


def train_in_child(config, kill_before=None, log=None):
    """Trains in a forked process.

    Args:
        config (Config): From :func:`toy_config`.
        kill_before (int, optional): The process is killed before this file
            is renamed or removed, counted from 0.
        log (Path, optional): Where the output goes.

    Returns:
        int: Exit code, or minus the signal that ended it.
    """
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        status = os.waitpid(pid, 0)[1]
        return os.waitstatus_to_exitcode(status)
    code = 1
    try:
        sys.stdout = sys.stderr = open(log or os.devnull, 'a', 1)
        torch.set_num_threads(1)
        if kill_before is not None:
            kill_at_file_event(kill_before)
        train(config)
        code = 0
    except SystemExit as error:
        code = error.code
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def kill_at_file_event(number):
    """Kills this process before its n-th rename or removal of a file."""
    seen = []

    def counted(function):
        def wrapper(*args, **kwargs):
            if len(seen) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            seen.append(1)
            return function(*args, **kwargs)

        return wrapper

    os.replace, os.remove = counted(os.replace), counted(os.remove)
