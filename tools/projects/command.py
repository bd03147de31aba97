"""Command line of ``tools/new_project.py``."""

import argparse
import os
import os.path as osp
import sys
import urllib.request
import warnings
from typing import Dict, List, Optional

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

import dtkd_mmaction  # noqa: F401  (registers its classes)
from dtkd_mmaction.files import write_text

from . import (
    CNN,
    STUDENT,
    VIEWS,
    VIT,
    Model,
    Plan,
    batch_size,
    check,
    config_files,
    default_size,
    default_student,
    divide,
    epochs_for,
    estimate,
    find_clips,
    find_entry,
    fit_disk,
    frame_interval,
    may_flip,
    measure,
    probe_pattern,
    read_model,
    readable,
    readme_text,
    short_names,
    tables_text,
)
from .clips import Clip
from .splits import short_name

TEACHERS = dict(
    probe=('dinov2-s', 'efficientnet-lite0'), train=('mvitv2-s', 'x3d-m')
)
REPORT, TABLES = 'clips_report.csv', 'tables.yml'
# Seconds that a server of weights may take to answer.
PATIENCE = 5
# What may stand between path and label, in the order of preference.
DELIMITERS = (' ', ',', '\t', ';', '|')


class RefusalError(Exception):
    """Problems that must be solved first, one per line."""


def share(text: str) -> float:
    """Parses a share between 0 and 1."""
    number = float(text)
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f'{text}: between 0 and 1 is needed')
    return number


def positive(text: str) -> int:
    """Parses a number of things, at least one."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'{text}: at least 1 is needed')
    return number


def parse_args(
    description: str, argv: Optional[List[str]] = None
) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('videos', help='folder of class folders, or CSV file')
    parser.add_argument('--out', required=True, help='folder of the project')
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='write the lists and configs of an existing project again; its\n'
        'work_dirs stay',
    )
    clips = parser.add_argument_group('clips')
    clips.add_argument(
        '--group-by',
        metavar='REGEX',
        help='source of a clip, found in its path; clips of one source stay\n'
        r"in one split. UCF101: '_g(\d+)_'",
    )
    clips.add_argument(
        '--val-share',
        type=share,
        default=0.2,
        help='share of the validation clips; default 0.2',
    )
    clips.add_argument('--seed', type=int, default=0, help='of the division')
    clips.add_argument(
        '--skip-bad',
        action='store_true',
        help='leave out clips that cannot be used instead of stopping',
    )
    clips.add_argument(
        '--workers',
        type=positive,
        default=min(4, os.cpu_count() or 1),
        help='processes that open the clips',
    )
    models = parser.add_argument_group('models, each a short name or a config')
    models.add_argument(
        '--student',
        help=f'{", ".join(short_names(STUDENT))};\n'
        'default: x3d-s, or movinet-a0 without a GPU',
    )
    models.add_argument(
        '--teachers',
        choices=list(TEACHERS),
        default='probe',
        help='probe (default): pretrained image models whose last layer is\n'
        'fitted in minutes; train: two video models are trained',
    )
    models.add_argument('--vit-teacher', help=', '.join(short_names(VIT)))
    models.add_argument('--cnn-teacher', help=', '.join(short_names(CNN)))
    models.add_argument(
        '--weights',
        choices=['auto', 'none'],
        default='auto',
        help='published weights of video models; auto (default): if their\n'
        'server answers',
    )
    models.add_argument(
        '--checkpoints',
        metavar='DIR',
        help='folder of the pretrained image models; default: in PROJECT',
    )
    training = parser.add_argument_group("the student's training")
    training.add_argument('--frames', type=positive, help='of its clip')
    training.add_argument('--size', type=positive, help='of its clip')
    training.add_argument('--epochs', type=positive)
    training.add_argument('--batch-size', type=positive)
    return parser.parse_args(argv)


def check_out(args: argparse.Namespace) -> List[str]:
    """Returns what is wrong with the folder of the project."""
    out = osp.abspath(args.out)
    if any(c in out for c in '\'"\\\n{}'):
        return [
            f'--out {args.out!r}: quotes, backslashes and braces in the path '
            'break configs. Choose another name.'
        ]
    if osp.isfile(out):
        return [f'--out {args.out}: it is a file. Choose another name.']
    if not osp.isdir(out):
        return []
    if out == osp.abspath(args.videos):
        return ['--out is VIDEOS itself. Choose another folder.']
    names = sorted(os.listdir(out))
    if TABLES in names:
        if not args.overwrite:
            return [
                f'--out {args.out}: there is a project already. Choose '
                'another folder, or repeat the command with --overwrite to '
                'write its lists and configs again (work_dirs stay).'
            ]
    elif names and REPORT not in names:  # no call that was stopped
        return [
            f'--out {args.out}: it is not empty ({", ".join(names[:5])}) '
            'and holds no project. Choose another folder.'
        ]
    return []


def read_models(
    args: argparse.Namespace, num_classes: int, notes: List[str]
) -> Dict[str, Model]:
    """Reads the three models; adds notes.

    Raises:
        RefusalError: If some cannot be used.
    """
    vit, cnn = TEACHERS[args.teachers]
    names = {
        STUDENT: args.student or default_student(),
        VIT: args.vit_teacher or vit,
        CNN: args.cnn_teacher or cnn,
    }
    checkpoints = osp.abspath(
        args.checkpoints or osp.join(args.out, 'checkpoints')
    )
    models, problems = {}, []
    for role, name in names.items():
        options = {}
        try:
            if role == STUDENT:
                entry = find_entry(name, role)
                # A config has its own clips.
                size = default_size(args.size) if entry else args.size
                options = dict(frames=args.frames, size=size)
                if entry and size and not args.frames:
                    options['frames'] = min(entry.frames, entry.few_frames)
            models[role] = read_model(
                name, role, num_classes, checkpoints=checkpoints, **options
            )
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise RefusalError('\n'.join(problems))
    for role, model in models.items():
        url = model.load_from
        if url and '://' in url and not usable(url, args.weights):
            models[role] = model._replace(load_from=None)
            if args.weights != 'none':
                notes.append(
                    f'WARNING: {url} cannot be reached, so {model.name} '
                    'starts from random weights, which takes many clips.'
                )
        elif url is None and role != STUDENT:
            notes.append(
                f'WARNING: no weights of {model.name} are known, so '
                'it starts from random weights, which takes many clips.'
            )
    return models


def usable(url: str, weights: str) -> bool:
    """Returns whether published weights are wanted and can be had."""
    if weights == 'none':
        return False
    name = osp.basename(url)
    if osp.isfile(osp.join(torch.hub.get_dir(), 'checkpoints', name)):
        return True
    try:
        request = urllib.request.Request(url, method='HEAD')
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status == 200
    except OSError:
        return False


def choose_delimiter(names: List[str]) -> str:
    """Returns what may stand between path and label.

    Raises:
        RefusalError: If all occur in some path.
    """
    free = [d for d in DELIMITERS if not any(d in name for name in names)]
    broken = [name for name in names if '\n' in name or '\r' in name]
    if broken or not free:
        shown = broken or [n for n in names if '|' in n or ';' in n]
        raise RefusalError(
            f'Names such as {shown[0]!r} cannot be written to a list, because '
            'they have a line break, or all of space, comma, tab, semicolon '
            'and bar occur in names. Rename them.'
        )
    return free[0]


def list_text(
    clips: List[Clip], root: str, classes: List[str], delimiter: str
) -> str:
    """Returns the text of a list of MMAction2."""
    label = {name: number for number, name in enumerate(classes)}
    lines = []
    for clip in clips:
        name = short_name(clip, root)
        # Readers strip the line.
        name = f'./{name}' if name != name.strip() else name
        lines.append(f'{name}{delimiter}{label[clip.label]}\n')
    return ''.join(lines)


def make_project(args: argparse.Namespace) -> None:
    """Finds, checks and divides the clips, and writes the project.

    Raises:
        RefusalError: If something must be repaired first.
    """
    out = osp.abspath(args.out)
    problems = check_out(args)
    found = find_clips(args.videos, out)
    if problems or not found.clips:
        raise RefusalError('\n'.join(problems + found.problems))
    problems, notes = found.problems, found.notes
    report = osp.join(out, REPORT)
    checked = check(found.clips, report, args.workers, args.skip_bad)
    notes += checked.notes
    problems += checked.problems
    division = divide(
        checked.clips, found.root, args.val_share, args.group_by, args.seed
    )
    problems += division.problems
    models: Dict[str, Model] = {}
    delimiter = ' '
    try:
        models = read_models(args, len(division.classes), notes)
    except RefusalError as refusal:
        problems.append(str(refusal))
    names = [short_name(clip, found.root) for clip in checked.clips]
    try:
        delimiter = choose_delimiter(names)
    except RefusalError as refusal:
        problems.append(str(refusal))
    if problems:
        raise RefusalError('\n'.join(problems))
    notes += division.notes
    counts = {name: len(part) for name, part in division.splits.items()}
    frames = max(model.frames for model in models.values())
    batch = batch_size(counts['train'], args.batch_size)
    if batch > counts['train']:
        raise RefusalError(
            f'--batch-size {batch}: there are {counts["train"]} training '
            'clips only.'
        )
    if not may_flip(division.classes):
        notes.append(
            'Names of classes tell left from right, so clips are not mirrored.'
        )
    plan = Plan(
        title=osp.basename(out),
        root=found.root,
        delimiter=delimiter,
        classes=division.classes,
        counts=counts,
        student=models[STUDENT],
        vit_teacher=models[VIT],
        cnn_teacher=models[CNN],
        clip_frames=frames,
        interval=frame_interval(checked.frames, frames),
        batch=batch,
        epochs=epochs_for(counts['train'], batch, args.epochs),
        views=VIEWS,
        flip=may_flip(division.classes),
        exact=checked.exact,
        workers=min(4, (os.cpu_count() or 1) - 1),
        group_by=probe_pattern(
            checked.clips, len(division.classes), args.group_by
        ),
        kept=False,
        cached=False,
    )
    init_default_scope('mmaction')
    write_lists(out, plan, division.splits)
    config = write_configs(out, plan)
    plan = fit_disk(plan, config, out, notes)
    write_configs(out, plan)
    stages = estimate(plan, measure(plan, config))
    text = readme_text(
        plan,
        division.splits,
        notes,
        stages,
        osp.dirname(sys.argv[0]) or '.',
        args.out,
        os.getcwd(),
        device_name(),
    )
    write_text(osp.join(out, 'README.md'), text)
    # It makes the folder a project.
    write_text(osp.join(out, TABLES), tables_text(plan))
    print_summary(plan, notes, stages, args)


def write_lists(out: str, plan: Plan, splits: Dict[str, List[Clip]]) -> None:
    """Writes the lists and the names of the classes."""
    for name, clips in splits.items():
        text = list_text(clips, plan.root, plan.classes, plan.delimiter)
        write_text(osp.join(out, f'{name}.txt'), text)
    classes = ''.join(f'{name}\n' for name in plan.classes)
    write_text(osp.join(out, 'classes.txt'), classes)


def write_configs(out: str, plan: Plan) -> Config:
    """Writes the configs, and reads that of the distillation."""
    for name, text in config_files(plan).items():
        write_text(osp.join(out, 'configs', name), text)
    return Config.fromfile(osp.join(out, 'configs', 'dtkd.py'))


def device_name() -> str:
    """Returns what models run on."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f'CPU, {torch.get_num_threads()} threads'


def print_summary(
    plan: Plan,
    notes: List[str],
    stages: Dict[str, float],
    args: argparse.Namespace,
) -> None:
    """Prints what was made and what comes next."""
    for note in notes:
        print(f'- {note}')
    counts = ', '.join(f'{n} {name}' for name, n in plan.counts.items())
    print(
        f'{args.out}: {len(plan.classes)} classes, clips: {counts}\n'
        f'student {plan.student.name}, teachers {plan.vit_teacher.name} and '
        f'{plan.cnn_teacher.name}\n'
        f'about {readable(sum(stages.values()))} on this machine '
        f'({device_name()})\n'
        f'Next: see {osp.join(args.out, "README.md")}'
    )


def main(description: str, argv: Optional[List[str]] = None) -> None:
    """Runs the tool.

    Args:
        description (str): Its help.
        argv (list[str], optional): Its arguments; those of the process.
    """
    warnings.filterwarnings('ignore', message='pkg_resources is deprecated')
    args = parse_args(description, argv)
    try:
        make_project(args)
    except RefusalError as refusal:
        problems = str(refusal).split('\n')
        listed = '\n'.join(f'- {problem}' for problem in problems)
        raise SystemExit(f'No project was made:\n{listed}') from None
    except OSError as error:
        raise SystemExit(f'error: {error}') from error
