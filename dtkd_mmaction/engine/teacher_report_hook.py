"""Says what the teachers know before the student learns from them."""

from typing import Dict, List

from mmaction.registry import HOOKS
from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from ..distillers.base import BaseDistiller
from .teacher_accuracy import (
    FILE,
    MAX_CLIPS,
    Accuracies,
    describe,
    measure_accuracies,
    read_accuracies,
    teachers_read,
    write_accuracies,
)


@HOOKS.register_module()
class TeacherReportHook(Hook):
    """Prints each teacher's accuracy beside chance before the first step.

    The teachers and the student as it starts are evaluated on the validation
    list, one clip per video, each with its own view. A warning names a
    teacher that is near chance or below the student. The figures are kept in
    ``teacher_accuracy.json`` in the work directory; a resumed run repeats
    them. With a teacher cache there are no teachers to run:
    ``tools/cache_teachers.py`` has written the file into the cache.

    Args:
        max_clips (int): So many evenly spaced validation clips are taken at
            most. Defaults to 1000, with which a standard error is at most
            1.6 points.

    Raises:
        ValueError: If ``max_clips`` is not positive.

    Example:
        >>> from mmaction.registry import HOOKS
        >>> hook = HOOKS.build(dict(type='TeacherReportHook', max_clips=200))
        >>> hook.max_clips
        200
    """

    # After TeacherCacheHook, which refuses the cache of other data.
    priority = 'LOW'

    def __init__(self, max_clips: int = MAX_CLIPS) -> None:
        if max_clips < 1:
            raise ValueError(
                f'TeacherReportHook.max_clips={max_clips}: give a positive '
                'number, or remove the hook from custom_hooks.'
            )
        self.max_clips = max_clips

    def before_train(self, runner: Runner) -> None:
        """Measures or reads the accuracies, prints them and warns."""
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        if not isinstance(model, BaseDistiller) or not teachers_read(model):
            return
        loader = runner.cfg.get('val_dataloader')
        if model.multi_label or loader is None:
            runner.logger.info(
                'The accuracy of the teachers is not measured before '
                'training: '
                + (
                    'the head of model.student is multi-label.'
                    if model.multi_label
                    else 'val_dataloader is not set.'
                )
            )
            return
        accuracies = self._accuracies(runner, model, loader)
        if not accuracies:
            return
        runner.logger.info(describe(accuracies))
        for found in accuracies:
            for problem in problems(found, model.teacher_keys):
                runner.logger.warning(problem)

    def _accuracies(
        self, runner: Runner, model: BaseDistiller, loader: dict
    ) -> List[Accuracies]:
        """Returns one entry per part of the head; none where unknown."""
        if runner.iter > 0:  # resumed: the student has learnt already
            return known_to_all(runner.work_dir)
        cache = model.teacher_cache
        names = ['student', *(teachers_read(model) if cache is None else ())]
        accuracies = measure_accuracies(model, names, loader, self.max_clips)
        if cache is not None:
            kept = known_to_all(cache.folder)
            if not kept:
                runner.logger.info(
                    f'The accuracy of the teachers is not known: {FILE} is '
                    f'not in {cache.folder}. Call tools/cache_teachers.py '
                    'with this config once more; it adds the file and keeps '
                    'the cache.'
                )
            for found, teachers in zip(accuracies, kept):
                for name, own in cache.names.items():
                    found.models[name] = teachers.models[own]
        if runner.rank == 0:
            write_accuracies(runner.work_dir, accuracies)
        return accuracies


def known_to_all(folder: str) -> List[Accuracies]:
    """Reads the accuracies in a folder: what rank 0 finds counts."""
    known = [read_accuracies(folder) or []]
    broadcast_object_list(known)
    return known[0]


def problems(found: Accuracies, keys: Dict[str, str]) -> List[str]:
    """Returns what is wrong with the teachers, a text each.

    Args:
        found (Accuracies): Of one part of the head.
        keys (dict[str, str]): Short name of a teacher -> its config key.
    """
    texts = []
    part = f' ({found.part})' if found.part else ''
    student = found.models.get('student', 0)
    for name, accuracy in found.models.items():
        if name == 'student':
            continue
        if found.near_chance(name):
            texts.append(
                f'{keys[name]}{part} is near chance on the validation clips: '
                f'{100 * accuracy:.1f} %, chance is '
                f'{100 * found.chance:.1f} %. It has nothing to teach. Check '
                'its checkpoint, the order of its classes and its view; '
                'train it first (stage one), or fit its head with '
                'tools/probe_teacher.py.'
            )
        elif accuracy < student:
            texts.append(
                f'{keys[name]}{part} is less accurate than the student '
                f'before training: {100 * accuracy:.1f} % against '
                f'{100 * student:.1f} %.'
            )
    return texts
