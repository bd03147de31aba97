"""Watches how much of the student's gradient comes from the labels."""

from collections import deque
from typing import Deque, Dict, Optional

from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from ..distillers.base import BaseDistiller

PREFIX = 'gradient/'
# So many measurements in a row have to agree before a warning.
MEASUREMENTS = 5


def label_share(
    ratios: Dict[str, float], max_ratio: Optional[float] = 0
) -> float:
    """Share of the label loss in the sum of all gradient norms.

    Args:
        ratios (dict[str, float]): Term -> norm of its gradient at the
            student's features, in units of the label loss's at chance.
        max_ratio (float): Limit that was put on the ratios; 0 is none.

    Returns:
        float: In (0, 1]; 1 without distillation terms.
    """
    limited = [min(r, max_ratio) if max_ratio else r for r in ratios.values()]
    return 1 / (1 + sum(limited))


@HOOKS.register_module()
class LabelShareHook(Hook):
    """Warns once when the distillation losses drown the label loss.

    In every ``interval``-th step the gradient of each distillation loss at
    the student's features is compared with that of a label loss at chance.
    The defaults of DT-KD limit each of them to the label loss's size
    (``model.max_gradient_ratio``), so the warning is for other weights with
    the limit off.

    Args:
        interval (int): Steps between two measurements, each of which costs
            a backward pass through the distillation losses. Defaults to 50.
        min_share (float): Share of the label loss below which it counts as
            drowned. Defaults to 0.05.

    Example:
        >>> from dtkd_mmaction.engine.label_share_hook import label_share
        >>> label_share({'sr': 1.0, 'rkd': 2.0})
        0.25
        >>> from mmaction.registry import HOOKS
        >>> HOOKS.build(dict(type='LabelShareHook', interval=10)).interval
        10
    """

    def __init__(self, interval: int = 50, min_share: float = 0.05) -> None:
        if interval < 1 or not 0 <= min_share < 1:
            raise ValueError(
                f'LabelShareHook: interval={interval} must be at least 1 and '
                f'min_share={min_share} in [0, 1).'
            )
        self.interval = interval
        self.min_share = min_share
        self._shares: Deque[float] = deque(maxlen=MEASUREMENTS)
        self._warned = False

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None
    ) -> None:
        """Asks the distiller to measure the gradients of this step."""
        model = distiller_of(runner)
        if model is not None:
            model.measures_gradients = self._is_due(runner)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Reads the measurement and warns if the last ones agree."""
        model = distiller_of(runner)
        if model is None or self._warned or not self._is_due(runner):
            return
        ratios = {
            name[len(PREFIX) :]: float(value)
            for name, value in (outputs or {}).items()
            if name.startswith(PREFIX)
        }
        if not ratios:
            return
        self._shares.append(label_share(ratios, model.max_gradient_ratio))
        if len(self._shares) < MEASUREMENTS:
            return
        if max(self._shares) < self.min_share:
            self._warned = True
            largest = max(ratios, key=lambda name: ratios[name])
            runner.logger.warning(
                f'The label loss is drowned: {100 * max(self._shares):.1f} % '
                "of the gradient at the student's features at most, in the "
                f'last {MEASUREMENTS} measurements. The largest is '
                f'loss_{largest}, {ratios[largest]:.0f} times the label '
                "loss's at chance. Lower its loss_weight, or set "
                'model.max_gradient_ratio=1.'
            )

    def _is_due(self, runner: Runner) -> bool:
        return runner.iter % self.interval == 0


def distiller_of(runner: Runner) -> Optional[BaseDistiller]:
    """Returns the distiller of a run, None where another model trains."""
    model = runner.model
    model = model.module if is_model_wrapper(model) else model
    return model if isinstance(model, BaseDistiller) else None
