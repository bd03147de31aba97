"""Time of a training step of every method, beside the student's own."""

import copy
import sys
from pathlib import Path
from typing import List

import torch.nn as nn
from mmaction.registry import MODELS
from mmengine.config import Config

from dtkd_mmaction.files import write_text

from .steps import step_of, student_loss, total_loss
from .timing import Row, Times
from .workbench import Workbench

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from compose_config import TAKD, compose, known_methods  # noqa: E402


def measure_methods(bench: Workbench) -> List[Row]:
    """Measures a step of each method, with the teachers' outputs at hand.

    The teachers run once and are not measured, as with a cache that costs
    nothing to read. TAKD is KD from another teacher.
    """
    alone = step_of(bench.live, student_loss, bench.data)
    rows = []
    for name in [*known_methods(), 'DT-KD']:
        if name == TAKD:
            continue
        distiller = (
            copy.deepcopy(bench.live)
            if name == 'DT-KD'
            else composed(bench, name)
        )
        batch = bench.batch(distiller)
        taught = distiller.teach(batch['inputs'], batch['data_samples'])
        distiller.teach = lambda *_, taught=taught: taught
        times = Times(
            {
                'student step': alone,
                name: step_of(distiller, total_loss, bench.data),
            },
            bench.args.rounds,
        )
        rows.append(times.row('methods', name, 'student step'))
    return rows


def composed(bench: Workbench, method: str) -> nn.Module:
    """Builds the distiller of a method for the models of the bench."""
    pair = bench.folder / 'pair.py'
    Config(dict(model=bench.model)).dump(pair)
    path = bench.folder / f'{method}.py'
    write_text(path, compose(str(pair), method))
    model = Config.fromfile(path).model
    if model.type == 'DualTeacherDistiller':
        # As the bench's own: random teachers have no trust.
        model.update(teacher_trust=False, max_gradient_ratio=0)
    distiller = MODELS.build(model).to(bench.device)
    distiller.init_weights()
    return distiller.train()
