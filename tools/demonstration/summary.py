"""Tables, sentences and JSON of the demo's results."""

from statistics import mean, stdev
from typing import Any, Dict, List, NamedTuple

from mmengine.config import Config
from rich.console import Console
from rich.table import Table

from dtkd_mmaction.recognizers.complexity import (
    Complexity,
    measure_complexity,
)
from dtkd_mmaction.recognizers.model_spec import stock_clip

from .predictions import STUDENTS, Predictions
from .trainings import RUNS, TEACHERS, Result, clip_list, config_of


class SeedResult(NamedTuple):
    """Everything that was measured with one seed.

    Attributes:
        seed (int): The seed.
        runs (dict[str, Result]): Run -> result of its training.
        predictions (Predictions): Both students' predictions.
    """

    seed: int
    runs: Dict[str, Result]
    predictions: Predictions

    def top1(self, run: str) -> float:
        """Returns the accuracy after the last epoch, in percent."""
        return 100 * self.runs[run].top1[-1]

    @property
    def gain(self) -> float:
        """Change of the student's accuracy by DT-KD, in points."""
        return self.top1('dtkd') - self.top1('student_alone')

    @property
    def teachers_lead(self) -> bool:
        """Returns whether both teachers end above both students."""
        return min(map(self.top1, TEACHERS)) > max(map(self.top1, STUDENTS))


def complexity(run: str) -> Complexity:
    """Returns parameters and multiply-adds of the model that is deployed."""
    config = Config.fromfile(config_of(run.replace('dtkd', 'student_alone')))
    clip = stock_clip(config)
    return measure_complexity(config, clip['frames'], clip['size'])


def print_tables(
    results: List[SeedResult], clips: Dict[str, int], console: Console
) -> None:
    """Prints one row per model and, for several seeds, one per seed.

    Args:
        results (list[SeedResult]): One per seed.
        clips (dict[str, int]): Split -> number of clips.
        console (Console): Where to print.
    """
    several = len(results) > 1
    title = f'Top-1 on {clips["val"]} validation clips after the last epoch'
    if several:
        title += f', mean of {len(results)} seeds'
    table = Table(title=title)
    table.add_column('model')
    for heading in (
        'training clips',
        'top-1 %',
        'parameters',
        'MMACs',
        'training s',
    ):
        table.add_column(heading, justify='right')
    for run, name in RUNS.items():
        parameters, macs = complexity(run)
        table.add_row(
            name,
            f'{clips[clip_list(run)]}',
            f'{mean(r.top1(run) for r in results):.1f}',
            f'{parameters / 1e3:.0f} k',
            f'{macs / 1e6:.0f}',
            f'{mean(r.runs[run].seconds for r in results):.0f}',
        )
    console.print(table)
    if not several:
        return
    table = Table(title='Top-1 % by seed')
    for heading in ('seed', *RUNS.values(), 'difference'):
        table.add_column(heading, justify='right')
    for result in results:
        table.add_row(
            str(result.seed),
            *(f'{result.top1(run):.1f}' for run in RUNS),
            f'{result.gain:+.1f}',
        )
    console.print(table)


def overview(clips: Dict[str, int]) -> str:
    """Describes what the demo does, before it begins."""
    return (
        'Eight kinds of motion, drawn at random. Two teachers, a ViT and a '
        f'CNN, learn from {clips["pretrain"]} labelled clips. A small '
        f'student has only {clips["train"]} other clips. It is trained twice '
        'with the same number of steps: alone, and with DT-KD from both '
        'teachers. The teachers have seen more than the student, as '
        'teachers pretrained on Kinetics have.'
    )


def verdict(results: List[SeedResult], clips: Dict[str, int]) -> List[str]:
    """Returns sentences that describe the result, good or bad.

    Args:
        results (list[SeedResult]): One per seed.
        clips (dict[str, int]): Split -> number of clips.
    """
    if len(results) == 1:
        return _verdict_of_one(results[0], clips)
    gains = [result.gain for result in results]
    above = sum(gain > 0 for gain in gains)
    lead = sum(result.teachers_lead for result in results)
    number = len(results)
    return [
        f'With DT-KD the student ended above the student alone in {above} of '
        f'{number} seeds. DT-KD changed it by {mean(gains):+.1f} points on '
        f'average (standard deviation {stdev(gains):.1f}, from '
        f'{min(gains):+.1f} to {max(gains):+.1f}).',
        f'Both teachers ended above both students in {lead} of {number} '
        'seeds.',
    ]


def _verdict_of_one(result: SeedResult, clips: Dict[str, int]) -> List[str]:
    alone, distilled = (result.predictions.right(run) for run in STUDENTS)
    if result.gain > 0:
        change = f'{result.gain:.1f} points more with DT-KD'
    elif result.gain < 0:
        change = f'{-result.gain:.1f} points less with DT-KD'
    else:
        change = 'no difference'
    curve = result.runs['student_alone'].top1
    earlier = curve[(2 * len(curve) - 1) // 3]
    sentences = [
        f'On {clips["val"]} clips that no model was trained on, the student '
        f'alone recognises {result.top1("student_alone"):.1f} % and the '
        f'student with DT-KD {result.top1("dtkd"):.1f} %: {change}.',
        f'{int((distilled & ~alone).sum())} clips are recognised only with '
        f'DT-KD, {int((alone & ~distilled).sum())} only without it.',
        f'The student alone had {100 * earlier:.1f} % after two thirds of '
        'its training.',
    ]
    teachers = ' and '.join(
        f'the {RUNS[run]} {result.top1(run):.1f} %' for run in TEACHERS
    )
    if result.teachers_lead:
        sentences.append(f'Both teachers are above both: {teachers}.')
    else:
        sentences.append(f'The teachers are not above both: {teachers}.')
    return sentences


def as_json(
    results: List[SeedResult], clips: Dict[str, int], classes: List[str]
) -> Dict[str, Any]:
    """Returns all figures of all seeds as plain data.

    Args:
        results (list[SeedResult]): One per seed.
        clips (dict[str, int]): Split -> number of clips.
        classes (list[str]): Names of the classes.
    """
    seeds = []
    for result in results:
        alone, distilled = (result.predictions.right(run) for run in STUDENTS)
        runs = {
            run: dict(
                top1=measured.top1[-1],
                epochs=measured.epochs,
                top1_by_epoch=measured.top1,
                steps=measured.steps,
                seconds=round(measured.seconds, 1),
            )
            for run, measured in result.runs.items()
        }
        for run in STUDENTS:
            runs[run]['top1_by_class'] = dict(
                zip(classes, result.predictions.accuracy_per_class(run))
            )
        seeds.append(
            dict(
                seed=result.seed,
                gain_points=result.gain,
                recognised_only_with_dtkd=int((distilled & ~alone).sum()),
                recognised_only_alone=int((alone & ~distilled).sum()),
                teachers_above_students=result.teachers_lead,
                runs=runs,
            )
        )
    gains = [result.gain for result in results]
    return dict(
        clips=clips,
        models={run: complexity(run)._asdict() for run in RUNS},
        mean_top1={
            run: mean(r.runs[run].top1[-1] for r in results) for run in RUNS
        },
        mean_gain_points=mean(gains),
        seeds_above_alone=sum(gain > 0 for gain in gains),
        seeds=seeds,
    )
