"""Training loop that continues exactly where it was interrupted."""

import signal
import sys
import threading
from typing import Any, Iterator, List, Optional, Union

import torch
from mmaction.registry import LOOPS
from mmengine.dataset import DefaultSampler
from mmengine.dist import (
    all_reduce,
    broadcast_object_list,
    get_rank,
    get_world_size,
)
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import DataLoader

from ..datasets.dataset_wrappers import keyed_outside
from ..datasets.keyed_views import (
    KeyedViewDataset,
    KeyedViewSampler,
    SkippingSampler,
    seed_generators,
)
from ..teachers.teachers_ahead import TeachersAhead
from .atomic_checkpoint_hook import AtomicCheckpointHook
from .launcher_watch import end_with_launcher
from .memory_banks import check_memory_banks
from .process_failure import LOST_CONTACT, failure_elsewhere
from .schedule_length import stretched_schedule
from .unlabelled_clips import allow_unlabelled_clips
from .worker_signals import protect_workers

# EX_TEMPFAIL of sysexits.h: not done, run it again (with --resume).
INTERRUPTED_EXIT_CODE = 75


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """MMEngine's epoch-based loop with reproducible iterations.

    - Before every iteration all random generators are seeded with (seed,
      iteration, rank). Dropout, mixup and random masks depend on nothing else,
      so a checkpoint need not contain the state of the generators.
    - A run resumed from within an epoch (``default_hooks.checkpoint`` with
      ``by_epoch=False``) skips the samples already seen in this epoch.
    - On SIGTERM (Slurm's preemption) it finishes its iteration, writes a
      checkpoint and exits with :data:`INTERRUPTED_EXIT_CODE`; ``--resume``
      continues the run. During a validation it exits at once if the checkpoint
      of the epoch exists, otherwise after the validation.

    With :class:`KeyedViewDataset`, :class:`KeyedViewSampler` and
    :class:`AtomicCheckpointHook` a run that was killed at any moment and
    resumed ends with the same weights as an uninterrupted run.

    With any sampler, the number of the epoch selects the views of a
    :class:`KeyedViewDataset`. Wrappers around it (``RepeatDataset``) are moved
    inside.

    Args:
        runner (Runner): Runner of the training.
        dataloader (DataLoader or dict): ``train_dataloader``.
        teachers_ahead (bool): Whether to run a distiller's teachers on the
            next batch while the student trains on the current one, on a
            separate CUDA stream (:class:`TeachersAhead`). The values are the
            same; one more batch is in memory. Defaults to False.
        stretch_schedule (bool): Whether the epochs in ``param_scheduler``
            are scaled so that the schedule ends with the training
            (``schedule_length.py``). Defaults to False.
        **kwargs: Arguments of ``EpochBasedTrainLoop``.

    Example:
        >>> from types import SimpleNamespace
        >>> from mmaction.registry import LOOPS
        >>> from torch.utils.data import DataLoader
        >>> cosine = dict(type='CosineAnnealingLR', T_max=50, end=50)
        >>> runner = SimpleNamespace(seed=0, param_schedulers=[cosine])
        >>> loop = LOOPS.build(
        ...     dict(
        ...         type='ResumableTrainLoop',
        ...         runner=runner,
        ...         dataloader=DataLoader(range(8), batch_size=2),
        ...         max_epochs=10,
        ...         stretch_schedule=True,
        ...     )
        ... )
        >>> loop.max_iters, runner.param_schedulers[0]['T_max']
        (40, 10)
    """

    def __init__(
        self,
        runner,
        dataloader: Union[DataLoader, dict],
        *args,
        teachers_ahead: bool = False,
        stretch_schedule: bool = False,
        **kwargs,
    ) -> None:
        if isinstance(dataloader, dict):
            dataset = keyed_outside(dataloader['dataset'])
            dataloader = dict(dataloader, dataset=dataset)
        super().__init__(runner, dataloader, *args, **kwargs)
        if stretch_schedule and runner.param_schedulers:
            # The runner builds them after its loop.
            runner.param_schedulers = stretched_schedule(
                runner.param_schedulers, self._max_epochs
            )
        self._teachers_ahead = teachers_ahead
        self._seed = runner.seed
        self._told_to_stop = False
        self._may_exit_at_once = False
        self._sampler = skipping_sampler(self.dataloader)

    def run(self) -> torch.nn.Module:
        """Runs the training and its validations."""
        in_main = threading.current_thread() is threading.main_thread()
        if in_main:
            before = signal.signal(signal.SIGTERM, self._on_sigterm)
        end_with_launcher()
        try:
            self._run()
        except Exception as error:
            explanation = failure_elsewhere(error)
            if self._told_to_stop and explanation == LOST_CONTACT:
                self._exit()  # the other process was told to stop as well
            if explanation is not None:
                self.runner.logger.error(explanation)
            raise
        finally:
            if in_main:
                signal.signal(signal.SIGTERM, before)
        return self.runner.model

    def _run(self) -> None:
        self.runner.call_hook('before_train')
        allow_unlabelled_clips(self.runner.model, self.dataloader.dataset)
        check_memory_banks(self.runner.model, self.dataloader.dataset)
        # A resumed run has the seed of the one that it continues, which was
        # not known when its loader was built. All processes divide one
        # shuffled list, also with `diff_rank_seed`.
        seed = [self.runner.seed]
        broadcast_object_list(seed)
        self._seed = seed[0]
        if isinstance(self.dataloader.sampler, DefaultSampler):
            self.dataloader.sampler.seed = self._seed
        for loader in self._loaders():
            protect_workers(loader)
        if self._epoch and not self._batches_done():
            # The validation of its last epoch may have been interrupted.
            self._decide_current_val_interval()
            self._validate()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._decide_current_val_interval()
            self._validate()
        self.runner.call_hook('after_train')

    def _loaders(self) -> List[DataLoader]:
        val_loop = self.runner.val_loop
        return [self.dataloader, *([val_loop.dataloader] if val_loop else [])]

    def run_epoch(self) -> None:
        """Trains one epoch, or the rest of an interrupted one."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        if isinstance(self._sampler, SkippingSampler):
            self._sampler.epoch = self._epoch
        # A sampler may draw its order, a worker its seed, from these.
        seed_generators([self._seed, self._epoch])
        done = self._skip_batches(self._batches_done())
        for batch_idx, data_batch in enumerate(self._batches(), done):
            self.run_iter(batch_idx, data_batch)
            if self._must_stop():
                self._save_and_exit()
        self._note('batches_done', 0)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _batches(self) -> Iterator[dict]:
        """Yields the batches; the teachers start on the next one first."""
        if not self._teachers_ahead:
            yield from self.dataloader
            return
        model = self.runner.model
        if is_model_wrapper(model):
            model = model.module
        ahead = TeachersAhead(model)
        batches = map(ahead.begin, self.dataloader)
        batch = next(batches, None)
        while batch is not None:
            following = next(batches, None)
            yield batch
            batch = following

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Trains on one batch, after seeding the random generators."""
        seed_generators([self.runner.seed, self._iter, get_rank()])
        torch.manual_seed(torch.initial_seed())  # accelerators as well
        self._note('batches_done', idx + 1)
        self._note('batches_of_epoch', len(self.dataloader))
        super().run_iter(idx, data_batch)

    def _validate(self) -> None:
        """Validates once per epoch, also if the run was restarted."""
        due = (
            self.runner.val_loop is not None
            and self._epoch >= self.val_begin
            and (
                self._epoch % self.val_interval == 0
                or self._epoch == self._max_epochs
            )
        )
        if not due or self._noted('validated_epoch') == self._epoch:
            return
        # Of a checkpoint that is written during the validation (a new best).
        self._note('validated_epoch', self._epoch)
        hook = self._checkpoint_hook()
        self._may_exit_at_once = bool(
            hook and hook.by_epoch and self._epoch % hook.interval == 0
        )
        if self._told_to_stop and self._may_exit_at_once:
            self._exit()
        self.runner.val_loop.run()
        self._may_exit_at_once = False

    # Resuming within an epoch

    def _note(self, name: str, value: int) -> None:
        self.runner.message_hub.update_info(f'loop/{name}', value)

    def _noted(self, name: str) -> int:
        hub = self.runner.message_hub
        name = f'loop/{name}'
        return hub.get_info(name) if name in hub.runtime_info else 0

    def _batches_done(self) -> int:
        return self._noted('batches_done')

    def _skip_batches(self, done: int) -> int:
        """Makes the sampler skip the batches that are done.

        Raises:
            ValueError: If the length of the epoch has changed, or the sampler
                cannot skip batches.
        """
        if not done:
            return 0
        length = len(self.dataloader)
        if self._noted('batches_of_epoch') != length:
            raise ValueError(
                f'The checkpoint was written after batch {done} of '
                f'{self._noted("batches_of_epoch")} of an epoch that now '
                f'has {length}: train_dataloader.batch_size, the number of '
                'processes or the data set has changed. Resume with those '
                "of before, or from an epoch's end."
            )
        if self._sampler is None:
            raise ValueError(
                'train_dataloader: the checkpoint was written within an '
                'epoch, which '
                f'{type(self.dataloader.batch_sampler).__name__} cannot '
                'resume. Use KeyedViewSampler without a batch_sampler, or '
                "resume from an epoch's end."
            )
        self._sampler.skip = done * self.dataloader.batch_size
        return done

    # Stopping on SIGTERM

    def _on_sigterm(self, *_) -> None:
        self._told_to_stop = True
        if self._may_exit_at_once:
            self._exit()

    def _must_stop(self) -> bool:
        """Returns whether to stop; no gradient may be partly accumulated."""
        steps = getattr(self.runner.optim_wrapper, '_accumulative_counts', 1)
        if self._iter % steps and self._iter < self._max_iters:
            return False
        if get_world_size() == 1:
            return self._told_to_stop
        told = torch.tensor(int(self._told_to_stop))
        all_reduce(told, 'max')
        return bool(told)

    def _save_and_exit(self) -> None:
        hook = self._checkpoint_hook()
        if hook is not None and self._sampler is not None:
            hook.save_interrupted(self.runner)
        self._exit()

    def _exit(self) -> None:
        self.runner.logger.warning(
            'Received SIGTERM: stopped after iteration '
            f'{self._iter}. Continue with --resume.'
        )
        sys.exit(INTERRUPTED_EXIT_CODE)

    def _checkpoint_hook(self) -> Optional[AtomicCheckpointHook]:
        return next(
            (
                hook
                for hook in self.runner.hooks
                if isinstance(hook, AtomicCheckpointHook)
            ),
            None,
        )


def skipping_sampler(
    loader: DataLoader,
) -> Union[KeyedViewSampler, SkippingSampler, None]:
    """Lets a data loader start within an epoch.

    The sampler also selects the views of a :class:`KeyedViewDataset`.

    Returns:
        KeyedViewSampler or SkippingSampler, optional: The sampler of the
            loader, or a wrapper around it. None if the loader uses another
            kind of batch sampler.
    """
    if isinstance(loader.sampler, KeyedViewSampler):
        return loader.sampler
    if not hasattr(loader.batch_sampler, 'sampler'):
        return None
    # `num_batch_per_epoch` puts a slice around the data set.
    dataset = getattr(loader.dataset, '_dataset', loader.dataset)
    # The loader iterates over this one; its `sampler` cannot be replaced.
    loader.batch_sampler.sampler = SkippingSampler(
        loader.batch_sampler.sampler, isinstance(dataset, KeyedViewDataset)
    )
    return loader.batch_sampler.sampler
