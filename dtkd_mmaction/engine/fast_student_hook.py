"""Chooses the memory layout in which the student trains fastest."""

import copy
import time
from statistics import median
from typing import Callable, Dict, List

import torch
import torch.nn as nn
from mmaction.registry import HOOKS
from mmengine.dataset import pseudo_collate
from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import Tensor

from ..datasets.keyed_views import keyed_generators
from ..recognizers.tapped_recognizer import model_inputs
from ..teachers.speedups import to_channels_last

LAYOUTS = ('auto', 'stock', 'channels_last')
# The other layout must be this much faster: a choice that noise could turn
# would make two runs differ in their last bits.
CLEARLY_FASTER = 0.9
ROUNDS = 3
CLIPS = 4  # of a trial step; one alone selects other kernels


@HOOKS.register_module()
class FastStudentHook(Hook):
    """Trains the model's 3-D convolutions in the layout that is faster here.

    On a CPU channels-last is nearly twice as fast for X3D, on a GPU it
    depends on the card, so ``'auto'`` times a few steps of a copy before the
    first one. A resumed run keeps the layout of the run before, so that it
    goes on exactly. Values, state dict and export stay what they are. Works
    for a distiller's student and for a recognizer that is trained alone.

    Args:
        layout (str): ``'auto'``, ``'stock'`` or ``'channels_last'``.
            Defaults to ``'auto'``.
        compile (bool): Whether the backbone goes through
            ``torch.compile``. Defaults to False.

    Raises:
        ValueError: For an unknown layout.
    """

    def __init__(self, layout: str = 'auto', compile: bool = False) -> None:
        if layout not in LAYOUTS:
            raise ValueError(
                f'FastStudentHook(layout={layout!r}): choose one of {LAYOUTS}.'
            )
        self.layout = layout
        self.compile = compile

    def before_train(self, runner) -> None:
        """Choose, and convert the weights."""
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        student = getattr(model, 'student', model)
        if any(isinstance(m, nn.Conv3d) for m in student.modules()):
            hub = runner.message_hub
            layout = self.layout
            if layout == 'auto' and 'student_layout' in hub.runtime_info:
                layout = hub.get_info('student_layout')
            elif layout == 'auto':
                layout = self._fastest(runner, model, student)
            hub.update_info('student_layout', layout)
            if layout == 'channels_last':
                to_channels_last(student)
        if self.compile:
            # A tap's hooks differ from call to call.
            torch._dynamo.config.skip_nnmodule_hook_guards = False
            student.backbone.compile()

    def _fastest(self, runner, model: nn.Module, student: nn.Module) -> str:
        inputs = trial_inputs(runner, model, student)

        def step_of(layout: str) -> Callable[[], None]:
            trial = copy.deepcopy(student).train()
            if layout == 'channels_last':
                to_channels_last(trial)

            def step() -> None:
                with runner.optim_wrapper.optim_context(trial):
                    scores = trial.extract_feat(inputs, stage='head')[0]
                    loss = scores.float().square().mean()
                loss.backward()

            return step

        with keyed_generators([0]):
            try:
                step_of('channels_last')()
            except RuntimeError as error:  # such as `view` of a tensor
                runner.logger.info(
                    f'The model cannot be channels-last: {error}'
                )
                return 'stock'
            seconds = time_in_turn(
                {name: step_of(name) for name in LAYOUTS[1:]}, ROUNDS
            )
        ratio = seconds['channels_last'] / seconds['stock']
        layout = 'channels_last' if ratio < CLEARLY_FASTER else 'stock'
        runner.logger.info(
            f'A training step in channels-last takes {ratio:.2f} of the '
            f'time in the stock layout: {layout} it is.'
        )
        chosen = [layout]  # all processes take the first one's
        broadcast_object_list(chosen)
        return chosen[0]


def trial_inputs(runner, model: nn.Module, student: nn.Module) -> Tensor:
    """What the student gets of the first training sample, several times."""
    data = pseudo_collate([runner.train_dataloader.dataset[0]] * CLIPS)
    inputs = model.data_preprocessor(data)['inputs']
    if student is model:
        return inputs
    return model_inputs(student, model.student_view, inputs)


def time_in_turn(
    steps: Dict[str, Callable[[], None]], rounds: int
) -> Dict[str, float]:
    """Median seconds of each of some functions, called in turn.

    Args:
        steps (dict[str, callable]): Each is called once more, first.
        rounds (int): Calls of each that are timed.
    """
    seconds: Dict[str, List[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            begun = now()
            step()
            if turn:
                seconds[name].append(now() - begun)
    return {name: median(values) for name, values in seconds.items()}


def now() -> float:
    """Seconds, after all that was launched on a GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
