"""Fits a learning rate schedule to another number of epochs."""

from typing import Any, List

# Options of MMEngine's schedulers that count epochs.
EPOCHS = ('begin', 'end', 'T_max', 'step_size', 'total_iters')


def stretched_schedule(schedulers: Any, max_epochs: int) -> List[dict]:
    """Scales all epochs of a schedule, so that it ends with the training.

    A schedule of 50 epochs with milestones 20 and 40 becomes one of 20
    epochs with milestones 8 and 16.

    Args:
        schedulers (list[dict] or dict): ``param_scheduler`` of a config. The
            length of the schedule is the largest ``end``; schedulers that
            count iterations (``by_epoch=False``) are not changed.
        max_epochs (int): Number of epochs of the training.

    Returns:
        list[dict]: The schedulers, without those that would have no epoch
            left.

    Raises:
        ValueError: If no scheduler has an ``end``.
    """
    listed = schedulers if isinstance(schedulers, list) else [schedulers]
    ends = [s['end'] for s in listed if s.get('by_epoch', True) and 'end' in s]
    if not ends:
        raise ValueError(
            'train_cfg.stretch_schedule=True: no entry of param_scheduler '
            'has an `end`, so the length of the schedule is not known. Set '
            'param_scheduler.*.end to the epochs that it was written for.'
        )
    factor = max_epochs / max(ends)
    stretched = []
    for scheduler in listed:
        if scheduler.get('by_epoch', True):
            scheduler = _stretched(scheduler, factor)
            if scheduler.get('end', max_epochs) <= scheduler.get('begin', 0):
                continue
        stretched.append(scheduler)
    return stretched


def _stretched(scheduler: dict, factor: float) -> dict:
    changed = dict(scheduler)
    for name in EPOCHS:
        if isinstance(scheduler.get(name), int):
            changed[name] = round(factor * scheduler[name])
    for name in ('T_max', 'step_size', 'total_iters'):
        if name in changed:
            changed[name] = max(1, changed[name])
    if 'milestones' in scheduler:
        milestones = (round(factor * m) for m in scheduler['milestones'])
        changed['milestones'] = [max(1, m) for m in milestones]
    return changed
