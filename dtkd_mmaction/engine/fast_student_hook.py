"""Trains 3-D convolutions in the faster memory layout."""

import copy
from typing import Optional

import torch
import torch.nn as nn
from mmaction.registry import HOOKS
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.model import (
    MMSeparateDistributedDataParallel,
    is_model_wrapper,
)
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ..datasets.keyed_views import KeyedViewDataset, keyed_generators
from ..recognizers.tapped_recognizer import model_inputs
from ..teachers.speedups import prefers_channels_last, to_channels_last

LAYOUTS = ('auto', 'stock', 'channels_last')
TRIAL_CLIPS = 2  # BatchNorm cannot normalise a single value


@HOOKS.register_module()
class FastStudentHook(Hook):
    """Trains the model's 3-D convolutions in the faster memory layout.

    ``'auto'`` takes channels-last for a 3-D CNN on a CPU and the stock layout
    otherwise. The choice follows a fixed rule and no measurement, so repeated
    runs are equal bit for bit. All processes use one layout, and a resumed run
    keeps the layout of its checkpoint. Values, state dict and export do not
    depend on the layout. The hook works for a distiller's student and for a
    recognizer that is trained alone.

    Args:
        layout (str): ``'auto'``, ``'stock'`` or ``'channels_last'``.
            Defaults to ``'auto'``.
        compile (bool): Whether to compile the backbone with ``torch.compile``.
            Defaults to False.

    Raises:
        ValueError: For an unknown layout.

    Example:
        >>> from types import SimpleNamespace
        >>> import torch
        >>> from mmaction.registry import HOOKS
        >>> from mmengine.logging import MessageHub
        >>> hook = HOOKS.build(
        ...     dict(type='FastStudentHook', layout='channels_last')
        ... )
        >>> runner = SimpleNamespace(
        ...     model=torch.nn.Conv3d(8, 8, 3),
        ...     message_hub=MessageHub.get_instance('example'),
        ... )
        >>> hook.before_train(runner)
        >>> runner.model.weight.is_contiguous(
        ...     memory_format=torch.channels_last_3d
        ... )
        True
    """

    def __init__(self, layout: str = 'auto', compile: bool = False) -> None:
        if layout not in LAYOUTS:
            raise ValueError(
                f'FastStudentHook(layout={layout!r}): choose one of {LAYOUTS}.'
            )
        self.layout = layout
        self.compile = compile

    def before_train(self, runner) -> None:
        """Chooses the layout and converts the weights.

        Raises:
            ValueError: For ``layout='channels_last'`` in a model wrapper that
                stores the weights in its own layout.
        """
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        student = getattr(model, 'student', model)
        if any(isinstance(m, nn.Conv3d) for m in student.modules()):
            hub = runner.message_hub
            layout = self.layout
            if layout == 'auto' and 'student_layout' in hub.runtime_info:
                layout = hub.get_info('student_layout')
            elif layout == 'auto':
                layout = choose_layout(runner, model, student)
            hub.update_info('student_layout', layout)
            if layout == 'channels_last':
                self._convert(runner, student)
        if self.compile:
            # A tap's hooks differ from call to call.
            torch._dynamo.config.skip_nnmodule_hook_guards = False
            student.backbone.compile()

    def _convert(self, runner, student: nn.Module) -> None:
        if not can_convert(runner.model):
            raise ValueError(
                "FastStudentHook(layout='channels_last'): found the model "
                f'wrapper {type(runner.model).__name__}, expected '
                "MMDistributedDataParallel. Set layout='stock'."
            )
        to_channels_last(student)
        if is_model_wrapper(runner.model):
            wrap_again(runner)


def can_convert(model: nn.Module) -> bool:
    """Returns whether weights may change their strides inside a wrapper."""
    return not is_model_wrapper(model) or (
        isinstance(model, DistributedDataParallel)
        and not isinstance(model, MMSeparateDistributedDataParallel)
    )


def wrap_again(runner) -> None:
    """Wraps the runner's model in DistributedDataParallel once more.

    DDP lays out its gradient buckets by the weights' strides when it is built.
    If the strides change afterwards, the values of its gradients are in
    another order.
    """
    wrapper = runner.model
    runner.model = runner.wrap_model(
        runner.cfg.get('model_wrapper_cfg'), wrapper.module
    )
    if 'train_step' in vars(wrapper):  # compiled by `cfg.compile`
        runner._maybe_compile('train_step')


def choose_layout(runner, model: nn.Module, student: nn.Module) -> str:
    """Chooses the layout of a run, the same in all processes.

    Args:
        runner (Runner): Runner of the training.
        model (nn.Module): Without its wrapper: a distiller or a recognizer.
        student (nn.Module): The recognizer that trains.
    """
    problem = None
    prefers = prefers_channels_last(student) and can_convert(runner.model)
    if prefers:
        problem = channels_last_problem(runner, model, student)
        if problem is not None:
            runner.logger.info(
                f'The student cannot train in channels-last ({problem}).'
            )
    agreed = torch.tensor(int(prefers and problem is None))
    all_reduce(agreed, 'min')
    layout = 'channels_last' if agreed else 'stock'
    runner.logger.info(f'The student trains in the {layout} memory layout.')
    return layout


def channels_last_problem(
    runner, model: nn.Module, student: nn.Module
) -> Optional[str]:
    """Returns why a training step of a copy fails in channels-last.

    Some modules call ``Tensor.view`` on maps, which needs the stock layout.
    Every error selects the stock layout. An error that also occurs there is
    reported by the training itself.

    Returns:
        str, optional: None if the step works.
    """
    with keyed_generators([0]):
        try:
            inputs = trial_inputs(runner, model, student)
            trial = copy.deepcopy(student).train()
            to_channels_last(trial)
            with runner.optim_wrapper.optim_context(trial):
                scores = trial.extract_feat(inputs, stage='head')[0]
                loss = scores.float().square().mean()
            loss.backward()
        except Exception as error:
            return f'{type(error).__name__}: {error}'
    return None


def trial_inputs(runner, model: nn.Module, student: nn.Module) -> Tensor:
    """Returns the student's inputs for the first training sample, repeated.

    Args:
        runner (Runner): Its ``train_dataloader`` has the sample and the
            collate function.
        model (nn.Module): A distiller or a recognizer, without its wrapper.
        student (nn.Module): The recognizer that trains.

    Returns:
        Tensor: At least :data:`TRIAL_CLIPS` clips.
    """
    loader = runner.train_dataloader
    keyed = isinstance(loader.dataset, KeyedViewDataset)
    sample = loader.dataset[(0, 0) if keyed else 0]
    data = model.data_preprocessor(loader.collate_fn([sample] * TRIAL_CLIPS))
    inputs = data['inputs']
    if student is model:
        return inputs
    return model_inputs(student, model.student_view, inputs)
