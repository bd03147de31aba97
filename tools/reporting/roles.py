"""Decides which trainings are the student before, after, and its teachers."""

import os.path as osp
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader

from dtkd_mmaction.deployment.plain_config import to_literals
from dtkd_mmaction.deployment.student_export import (
    is_distiller_checkpoint,
    student_checkpoint,
    student_config,
)
from dtkd_mmaction.distillers.teacher_checks import short_name
from dtkd_mmaction.literals import parse_literals
from dtkd_mmaction.recognizers.model_spec import (
    checkpoint_state_dict,
    find_checkpoint,
    forget_pretraining,
    load_config,
    set_num_classes,
)

from .runs import TrainedRun, group_runs

# Distilled student that is compared if there are several.
MAIN, MAIN_TYPE = 'dtkd', 'DualTeacherDistiller'


@dataclass
class Teacher:
    """One teacher of the distilled student.

    Attributes:
        name (str): Short name, such as ``'vit'``.
        spec (dict): Its model spec.
        run (TrainedRun, optional): The training of its checkpoint.
    """

    name: str
    spec: Dict[str, Any]
    run: Optional[TrainedRun] = None

    @property
    def title(self) -> str:
        """Name for readers."""
        known = dict(vit='ViT teacher', cnn='CNN teacher')
        return known.get(self.name, f'teacher {self.name}')

    def accuracy(self) -> Optional[float]:
        """Returns the logged top-1 accuracy, or that of a fitted head."""
        if self.run is not None:
            return self.run.metrics().get('acc/top1')
        try:
            meta = read_weights(self.spec['checkpoint']).get('meta') or {}
        except (OSError, ValueError, TypeError):
            return None
        return (meta.get('probe') or {}).get('validation_accuracy')


@dataclass
class Roles:
    """All trainings, by what they are to the reader.

    Attributes:
        alone (list[TrainedRun]): Seeds of the student alone.
        distilled (list[TrainedRun]): Seeds of the distilled student.
        teachers (list[Teacher]): Of the distilled student.
        others (list[list[TrainedRun]]): Seeds of each further training.
        notes (list[str]): What a reader must know about the choice.
    """

    alone: List[TrainedRun] = field(default_factory=list)
    distilled: List[TrainedRun] = field(default_factory=list)
    teachers: List[Teacher] = field(default_factory=list)
    others: List[List[TrainedRun]] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)

    @property
    def students(self) -> List[TrainedRun]:
        """All runs that are compared."""
        return [*self.alone, *self.distilled]


def read_weights(path: str) -> Dict[str, Any]:
    """Reads a checkpoint from a path or a pattern."""
    return CheckpointLoader.load_checkpoint(
        find_checkpoint(path), map_location='cpu'
    )


def student_of(run: TrainedRun) -> Tuple[Config, Dict[str, Any]]:
    """Returns the stock config and weights of a run's deployable model.

    Args:
        run (TrainedRun): Of a distiller, or of a stock recognizer.

    Returns:
        tuple[Config, dict]: The config has at least a ``model``.

    Raises:
        ValueError: If there is no checkpoint or it cannot be read.
    """
    try:
        checkpoint = read_weights(run.checkpoint)
    except OSError as error:
        raise ValueError(f'{run.work_dir}: {error}') from error
    if not is_distiller_checkpoint(checkpoint):
        return run.config, checkpoint_state_dict(checkpoint)
    named = run.config.model.student.get('cfg')
    exported = student_checkpoint(
        checkpoint, cfg=named if isinstance(named, str) else None
    )
    text = exported['meta'].get('cfg')
    if text is None:  # not written by a runner
        return student_config(run.config), exported['state_dict']
    config = Config(parse_literals(text, run.checkpoint))
    return config, exported['state_dict']


def bare_model(model: Dict[str, Any]) -> Any:
    """Returns a model config without weights to download, to compare it."""
    config = Config(dict(model=to_literals(model, 'model')))
    forget_pretraining(config.model)
    return _without_scope(config.model.to_dict())


def _without_scope(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: item.split('.')[-1]
            if key == 'type' and isinstance(item, str)
            else _without_scope(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_without_scope(item) for item in value]
    return value


def teachers_of(run: TrainedRun, runs: List[TrainedRun]) -> List[Teacher]:
    """Returns the teachers of a distilled run and their own trainings."""
    model = run.config.model
    specs = {
        key: spec
        for key, spec in model.items()
        if key.endswith('teacher') and isinstance(spec, dict)
    }
    specs.update(model.get('teachers') or {})
    by_folder = {run.work_dir: run for run in runs}
    teachers = []
    # A dumped config is in alphabetical order; the paper names the ViT first.
    for key, spec in sorted(specs.items(), key=lambda x: 'vit' not in x[0]):
        folder = osp.dirname(osp.abspath(spec.get('checkpoint') or ''))
        teachers.append(Teacher(short_name(key), spec, by_folder.get(folder)))
    return teachers


def teacher_config(teacher: Teacher, num_classes: Optional[int]) -> Config:
    """Returns the stock config of a teacher.

    Raises:
        ValueError, OSError, KeyError: If it cannot be read.
    """
    config = load_config(teacher.spec, f'the {teacher.title}')
    set_num_classes(config.model, num_classes)
    return config


def assign_roles(runs: List[TrainedRun]) -> Roles:
    """Finds out which trainings belong together.

    The distilled student is the training whose model is a distiller. The
    student alone is the stock training of the same model.

    Args:
        runs (list[TrainedRun]): All trainings of a project.
    """
    groups = group_runs(runs)
    distilled = [group for group in groups if group[0].is_distilled]
    stock = [group for group in groups if not group[0].is_distilled]
    roles = Roles()
    if distilled:
        distilled.sort(key=_importance)
        roles.distilled = distilled[0]
        roles.others += distilled[1:]
        roles.teachers = teachers_of(roles.distilled[0], runs)
        if len(distilled) > 1:
            names = ', '.join(group[0].name for group in distilled[1:])
            roles.notes.append(
                f'The comparison is with {distilled[0][0].name}; the other '
                f'distilled students ({names}) stand in the table only. '
                '--distilled chooses another one.'
            )
    taught_by = {t.run.work_dir for t in roles.teachers if t.run}
    stock = [g for g in stock if g[0].work_dir not in taught_by]
    alone = _students_alone(stock, roles)
    if alone:
        roles.alone = alone[0]
        if len(alone) > 1:
            names = ', '.join(group[0].name for group in alone[1:])
            roles.notes.append(
                f'The student alone is {alone[0][0].name}; other trainings '
                f'of the same model ({names}) stand in the table only. '
                '--alone chooses another one.'
            )
    roles.others += [g for g in stock if g is not roles.alone]
    return roles


def _importance(group: List[TrainedRun]) -> tuple:
    first = group[0]
    return (
        first.name != MAIN,
        first.config.model.get('type') != MAIN_TYPE,
        -len(group),
    )


def _students_alone(
    stock: List[List[TrainedRun]], roles: Roles
) -> List[List[TrainedRun]]:
    """Returns the stock trainings of the distilled student's model."""
    stock = sorted(stock, key=lambda group: -len(group))
    if not roles.distilled:
        # Without a distilled student, a name is the only hint.
        named = [g for g in stock if 'alone' in g[0].name]
        return named or (stock if len(stock) == 1 else [])
    try:
        student = bare_model(student_of(roles.distilled[0])[0].model)
    except ValueError as error:
        roles.notes.append(f'The distilled student cannot be read: {error}')
        return [g for g in stock if 'alone' in g[0].name]
    return [g for g in stock if bare_model(g[0].config.model) == student]
