"""Current epoch of the training, and the warm-up of a loss weight.

The epoch is read from MMEngine's message hub instead of being counted in the
loss. The hub is restored when training resumes, and repeated forward passes do
not change it.
"""

from mmengine.logging import MessageHub


def current_epoch() -> int:
    """Returns the epoch of the running training, counted from 1.

    Returns:
        int: 1 if no runner has set an epoch, and in a training whose loop
            counts iterations only.
    """
    return int(MessageHub.get_current_instance().get_info('epoch', 0)) + 1


def warm_up(epochs: int) -> float:
    """Returns a factor that grows linearly and reaches 1 in epoch ``epochs``.

    Epochs count from 1, so that the first one has a weight above 0.

    Args:
        epochs (int): Length of the warm-up; 0 for none.

    Returns:
        float: In (0, 1].
    """
    return min(current_epoch() / epochs, 1.0) if epochs > 0 else 1.0
