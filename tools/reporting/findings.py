"""Collects everything that the page shows; a missing part is a sentence."""

import os.path as osp
import platform
from dataclasses import dataclass, field
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
from inspection import centred_dataset
from mmengine.config import Config
from reproduction.records import versions
from rich.progress import track

from dtkd_mmaction.recognizers.model_spec import (
    build_recognizer,
    forget_pretraining,
    stock_clip,
)
from dtkd_mmaction.version import __version__

from .comparison import Changed, changed_clips, spread_over_classes
from .costs import (
    Cost,
    evaluated_clip,
    machine,
    measure_cost,
    measure_latencies,
)
from .pictures import frames_last, looping_picture, still_picture
from .predictions import Answers, ask_runs, build_student
from .roles import (
    Roles,
    Teacher,
    bare_model,
    student_of,
    teacher_config,
)
from .runs import TrainedRun
from .teachers import (
    Mask,
    Taught,
    ask_teachers,
    build,
    choose_evenly,
    mask_pictures,
)

MASKS = 3
# Whatever goes wrong with a part of a project that others made: the part is
# left out and the page says why.
PROBLEMS = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Model(NamedTuple):
    """One line of the table of models.

    Attributes:
        title (str): For readers.
        runs (list[TrainedRun]): Its seeds; empty for a teacher that was not
            trained here.
        accuracies (list[float]): Top-1 in percent, one per seed.
        cost (Cost, optional): None if the model cannot be built.
        latency (float, optional): Seconds per clip.
        note (str): What is special about it.
    """

    title: str
    runs: List[TrainedRun]
    accuracies: List[float]
    cost: Optional[Cost] = None
    latency: Optional[float] = None
    note: str = ''


class Clip(NamedTuple):
    """A clip that distillation fixed or broke.

    Attributes:
        changed (Changed): How many runs recognise it before and after.
        moving (str): Animated picture, a data URI.
        still (str): One frame, a data URI.
    """

    changed: Changed
    moving: str
    still: str


@dataclass
class Findings:
    """Everything that the page shows.

    Attributes:
        title (str): Of the page.
        roles (Roles): The trainings.
        classes (list[str]): Names of the classes.
        split (str): ``'val'`` or ``'test'``.
        models (list[Model]): Lines of the first table.
        answers (Answers, optional): Of all students, those alone first.
        fixed (list[Clip]): Clips to show.
        broken (list[Clip]): Clips to show.
        taught (Taught, optional): Outputs of the teachers.
        masks (list[Mask]): Pictures of masks.
        missing (dict[str, str]): Part of the page -> why it is not there.
        notes (list[str]): What a reader must know first.
        machine (str): Where latency was measured.
        versions (dict[str, str]): Of the packages that made the page.
    """

    title: str
    roles: Roles
    classes: List[str]
    split: str
    models: List[Model] = field(default_factory=list)
    answers: Optional[Answers] = None
    fixed: List[Clip] = field(default_factory=list)
    broken: List[Clip] = field(default_factory=list)
    taught: Optional[Taught] = None
    masks: List[Mask] = field(default_factory=list)
    missing: Dict[str, str] = field(default_factory=dict)
    notes: List[str] = field(default_factory=list)
    machine: str = ''
    versions: Dict[str, str] = field(default_factory=dict)

    def right(self, of: str) -> np.ndarray:
        """Returns whether each run recognises each clip.

        Args:
            of (str): ``'alone'`` or ``'distilled'``.

        Returns:
            np.ndarray: (S, n); S is 0 without such a run.
        """
        right = self.answers.right()
        begin = len(self.roles.alone)
        return right[:begin] if of == 'alone' else right[begin:]


def collect(
    title: str,
    roles: Roles,
    classes: Optional[List[str]],
    split: str,
    clips: int,
    teacher_clips: int,
) -> Findings:
    """Measures everything that can be measured.

    Args:
        title (str): Of the page.
        roles (Roles): The trainings.
        classes (list[str], optional): Names of the classes.
        split (str): ``'val'`` or ``'test'``.
        clips (int): Fixed clips to show, and as many broken ones.
        teacher_clips (int): Clips about which the teachers are asked.
    """
    found = Findings(title, roles, name_classes(roles, classes), split)
    found.notes += roles.notes
    found.versions = dict(
        versions(), dtkd_mmaction=__version__, Python=platform.python_version()
    )
    dataset = None
    if roles.students:
        try:
            found.answers, dataset = ask_runs(roles.students, split)
        except PROBLEMS as error:
            found.missing['answers'] = str(error)
    else:
        found.missing['answers'] = 'No student was found.'
    found.models = measure_models(found)
    found.machine = machine()
    if dataset is not None and roles.alone and roles.distilled:
        show_clips(found, dataset, clips)
    if roles.distilled:
        ask_about_teachers(found, teacher_clips)
    else:
        found.missing['teachers'] = 'No distilled student was found.'
    return found


def name_classes(roles: Roles, names: Optional[List[str]]) -> List[str]:
    """Returns a name for every class, numbers if there are no names.

    Raises:
        SystemExit: If the names do not fit the models.
    """
    count = None
    for run in roles.students:
        try:
            head = student_of(run)[0].model.cls_head
        except ValueError:
            continue
        count = head.get('num_classes')
        break
    if names is None or count is None:
        return names or [f'class {i}' for i in range(count or 0)]
    if len(names) != count:
        raise SystemExit(
            f'The list of classes has {len(names)} names, but the models '
            f'have {count} classes. It must have one name per line, in the '
            'order of the labels.'
        )
    return names


def measure_models(found: Findings) -> List[Model]:
    """Returns the table of models with the cost of each."""
    roles = found.roles
    entries = [
        (_teacher_model(teacher), _teacher_builder(teacher, found))
        for teacher in roles.teachers
    ]
    for title, runs in (
        ('student alone', roles.alone),
        ('distilled student', roles.distilled),
    ):
        if runs:
            model = Model(title, runs, _accuracies(found, runs))
            entries.append((model, _student_builder(runs[0], found.split)))
    models, keys, built = [], [], {}
    for model, builder in track(entries, 'Measuring models', transient=True):
        key = None
        try:
            config, recognizer, clip = builder()
            # Equal models take equally long, whatever the clock says.
            key = repr((bare_model(config.model), clip))
            built[key] = recognizer, clip
            model = model._replace(cost=measure_cost(config, recognizer, clip))
        except PROBLEMS as error:
            found.notes.append(f'{model.title}: not measured. {error}')
        models.append(model)
        keys.append(key)
    latencies = measure_latencies(built)
    models = [
        model._replace(latency=latencies.get(key))
        for model, key in zip(models, keys)
    ]
    return models + [
        Model(group[0].name, group, _logged(group)) for group in roles.others
    ]


def _accuracies(found: Findings, runs: List[TrainedRun]) -> List[float]:
    """Returns what was measured now, else what was logged."""
    if found.answers is None:
        return _logged(runs)
    of = 'alone' if runs is found.roles.alone else 'distilled'
    measured = [100 * float(run.mean()) for run in found.right(of)]
    logged = _logged(runs)
    if found.split == 'val' and len(logged) == len(measured):
        far = max(abs(a - b) for a, b in zip(measured, logged))
        if far > 0.051:  # logs are rounded
            found.notes.append(
                f'{runs[0].name}: accuracy measured now and accuracy logged '
                f'in training differ by up to {far:.1f} points. The clips, '
                'the list or the versions have changed since.'
            )
    return measured


def _logged(runs: Sequence[TrainedRun]) -> List[float]:
    values = [run.metrics().get('acc/top1') for run in runs]
    return [100 * value for value in values if value is not None]


def _teacher_model(teacher: Teacher) -> Model:
    runs = [teacher.run] if teacher.run else []
    accuracy = teacher.accuracy()
    note = ''
    if teacher.run is None:
        note = (
            'its training is not here'
            if accuracy is None
            else 'a fitted head on a frozen backbone'
        )
    accuracies = [] if accuracy is None else [100 * accuracy]
    return Model(teacher.title, runs, accuracies, note=note)


def _teacher_builder(teacher: Teacher, found: Findings) -> Callable:
    def builder():
        count = found.roles.distilled[0].config.model.get('num_classes')
        config = teacher_config(teacher, count)
        forget_pretraining(config.model)
        clip = {**stock_clip(config), **(teacher.spec.get('view') or {})}
        model = build_recognizer(config, teacher.title).eval()
        return config, model, (clip['frames'], clip['size'])

    return builder


def _student_builder(run: TrainedRun, split: str) -> Callable:
    def builder():
        config = Config(dict(model=student_of(run)[0].model))
        clip = evaluated_clip(run.config, split)
        return config, build_student(run), clip

    return builder


def show_clips(found: Findings, dataset, number: int) -> None:
    """Makes pictures of clips that distillation fixed and broke."""
    changed = changed_clips(found.right('alone'), found.right('distilled'))
    for part, clips in zip((found.fixed, found.broken), changed):
        labels = found.answers.labels
        for clip in spread_over_classes(clips, labels, number):
            inputs = dataset[clip.index]['inputs'].numpy()
            frames = frames_last(inputs)
            part.append(
                Clip(clip, looping_picture(frames), still_picture(frames))
            )


def ask_about_teachers(found: Findings, number: int) -> None:
    """Fills in the weights by class and the masks."""
    run = found.roles.distilled[0]
    if not number:
        found.missing['teachers'] = '--teacher-clips 0 leaves them out.'
        return
    try:
        distiller = build(run)
        dataset = centred_dataset(run.config, found.split)
        labels = np.array(
            [dataset.get_data_info(i)['label'] for i in range(len(dataset))]
        )
        chosen = choose_evenly(labels.tolist(), number)
        found.taught = ask_teachers(distiller, run, dataset, labels, chosen)
    except PROBLEMS as error:
        found.missing['teachers'] = str(error)
        return
    fixed = [clip.changed.index for clip in found.fixed]
    shown = (fixed + [i for i in chosen if i not in fixed])[:MASKS]
    titles = []
    for index in shown:
        name = osp.basename(dataset.get_data_info(index).get('filename', ''))
        titles.append((index, name))
    try:
        found.masks = mask_pictures(distiller, run, dataset, titles)
    except PROBLEMS as error:
        found.missing['masks'] = str(error)
