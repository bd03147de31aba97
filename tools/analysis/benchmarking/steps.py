"""Training steps: forward, losses, backward and SGD of one batch."""

import copy
from functools import partial
from typing import Any, Callable, Dict, List, Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor

from dtkd_mmaction.distillers import DualTeacherDistiller
from dtkd_mmaction.losses.datw import datw_loss, datw_weights
from dtkd_mmaction.losses.rkd import rkd_distance_loss
from dtkd_mmaction.losses.structure_discrepancy import (
    dual_mask,
    structure_discrepancy_loss,
)
from dtkd_mmaction.modules.grid import align_grids, resize_grid
from dtkd_mmaction.recognizers.clip_view import model_inputs
from dtkd_mmaction.recognizers.data_samples import labels_of
from dtkd_mmaction.recognizers.grid_layout import (
    ClipShape,
    as_embedding,
    as_grid,
)
from dtkd_mmaction.teachers.speedups import to_channels_last
from dtkd_mmaction.teachers.speedups.apply import TOLERANCE

from .timing import Row, Times
from .workbench import Workbench

LAYOUTS = ('stock layout', 'channels-last')
TEACHERS = ('vit', 'cnn')
STUDENTS_CLIP = "MMRazor-style step, teachers on the student's clip"


@MODELS.register_module()
class MMRazorStyleDistiller(DualTeacherDistiller):
    """Runs its teachers as two ``SingleTeacherDistill`` of MMRazor do.

    MMRazor runs them with ``mode='loss'``, so each computes its own label
    loss too. It rewrites nothing. Dropout and stochastic depth stay on, as
    with ``teacher_mode='bn_eval_only'``.

    Args:
        own_views (bool): Whether a teacher gets its own view and
            normalisation, so that the losses are those of this package.
            MMRazor gives all models the student's tensor. Defaults to True.
        **options: Options of :class:`DualTeacherDistiller`.
    """

    def __init__(self, own_views: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.own_views = own_views

    def teach(self, clips: Tensor, data_samples: list) -> dict:
        """Returns the outputs of the teachers, without gradient."""
        found = {}
        for name, teacher in self.teachers.items():
            inputs = (
                model_inputs(teacher.recognizer, teacher.view, clips)
                if self.own_views
                else model_inputs(self.student, self.student_view, clips)
            )
            with torch.no_grad(), teacher.tap.record(inputs) as recording:
                teacher.recognizer(inputs, data_samples, mode='loss')
            found[name] = recording
        return found


def total_loss(distiller: DualTeacherDistiller, batch: dict) -> Tensor:
    """Returns the sum of a distiller's losses."""
    losses = distiller(**batch, mode='loss')
    return sum(value for name, value in losses.items() if 'loss' in name)


def student_loss(distiller: DualTeacherDistiller, batch: dict) -> Tensor:
    """Returns the student's label loss alone, as in a plain training."""
    inputs = model_inputs(
        distiller.student, distiller.student_view, batch['inputs']
    )
    losses = distiller.student.loss(inputs, batch['data_samples'])
    return losses['loss_cls']


def plain_loop_loss(distiller: DualTeacherDistiller, batch: dict) -> Tensor:
    """Computes the same losses in a plain loop without a distiller.

    It uses the models and options of a distiller, but no taps and monitors.
    """
    clips = batch['inputs']
    logits, student_map, embedding = plain_forward(
        distiller.student,
        distiller.student_view,
        distiller.student_tap,
        clips,
    )
    with torch.no_grad():
        vit, cnn = (
            plain_forward(t.recognizer, t.view, t.tap, clips)
            for t in (distiller.teachers[name] for name in TEACHERS)
        )
        sr = distiller.loss_sr
        weights = datw_weights(logits, [vit[0], cnn[0]], **sr.weight_options)
        sd = distiller.loss_sd
        _, vit_map, cnn_map = align_grids(
            [student_map, vit[1], cnn[1]], sd.grid
        )
        projected = sd.projections(vit_map, cnn_map, student_map.shape[1])
        residual = projected[0] - projected[1]
        mask = dual_mask(residual, cnn_map, **sd.mask_options)
    predicted = distiller.branch(resize_grid(student_map, residual.shape[2:]))
    rkd = distiller.loss_rkd
    return (
        F.cross_entropy(logits, labels_of(batch['data_samples'], clips.device))
        + sr.loss_weight
        * datw_loss(logits, [vit[0], cnn[0]], weights, sr.tau, sr.fuse)
        + sd.loss_weight
        * structure_discrepancy_loss(predicted, residual, mask, sd.reduction)
        + rkd.loss_weight * rkd_distance_loss(embedding, vit[2], rkd.pairs)
    )


def plain_forward(
    model: nn.Module, view: Callable, tap: Any, clips: Tensor
) -> Tuple[Tensor, Tensor, Tensor]:
    """Returns logits (B, N), last map (B, C, T, H, W), embedding (B, D)."""
    inputs = model_inputs(model, view, clips)
    shape = ClipShape.of(inputs)
    features = model.backbone(inputs.flatten(0, 1))
    grid = as_grid(features, shape, tap.token_layout, tap.patches)
    return model.cls_head(features), grid, as_embedding(features, shape.batch)


def step_of(
    model: nn.Module, loss_of: Callable[..., Tensor], data: dict
) -> Callable[[], None]:
    """Returns a step on a batch as the data loader returns it."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    # So small that all rounds compute the same numbers.
    optimizer = torch.optim.SGD(parameters, lr=1e-9, momentum=0.9)

    def step() -> None:
        batch = model.data_preprocessor(dict(data), training=True)
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()

    return step


def takes_the_students_clip(razor: nn.Module, batch: dict) -> bool:
    """Returns whether the teachers can run on the student's tensor."""
    try:
        razor.teach(batch['inputs'], batch['data_samples'])
    except (RuntimeError, AssertionError, ValueError):
        return False  # for example, position tables have one size
    return True


def build_variants(bench: Workbench) -> Dict[str, Callable[[], Any]]:
    """Returns everything that is timed, by name."""
    live = bench.live
    stock = bench.distiller(speedups=False)
    razor = bench.distiller(
        speedups=False,
        type='MMRazorStyleDistiller',
        teacher_mode='bn_eval_only',
    )
    batch = bench.batch(live)
    teach = (batch['inputs'], batch['data_samples'])
    writer = bench.writer
    variants: Dict[str, Callable[[], Any]] = {
        'teachers, stock': partial(stock.teach, *teach),
        'teachers': partial(live.teach, *teach),
        'loading a batch': partial(bench.load, bench.args.batch),
        'writing a batch to the cache': lambda: list(
            writer.write([(0, 0)], bench.args.batch)
        ),
    }

    def add(name: str, distiller: nn.Module, loss_of: Callable) -> None:
        variants[name] = step_of(distiller, loss_of, bench.data)

    for layout in LAYOUTS:
        ours, cached = copy.deepcopy(live), bench.cached()
        if layout == 'channels-last':
            to_channels_last(ours.student)
            to_channels_last(cached.student)
        add(f'student step, {layout}', ours, student_loss)
        add(f'cached step, {layout}', cached, total_loss)
        add(f'live step, {layout}', ours, total_loss)
        add(f'plain loop, {layout}', ours, plain_loop_loss)
    add(f'live step with stock teachers, {LAYOUTS[0]}', stock, total_loss)
    add('MMRazor-style step', razor, total_loss)
    narrow = copy.deepcopy(razor)
    narrow.own_views = False
    if takes_the_students_clip(narrow, batch):
        add(STUDENTS_CLIP, narrow, total_loss)
    return variants


def teachers_agree(bench: Workbench) -> bool:
    """Returns whether the speedups leave the teachers' logits as they are."""
    clips = bench.batch(bench.live)['inputs']
    for name, teacher in bench.live.teachers.items():
        stock = bench.teacher(f'{name}_teacher', speedups=False)(clips).logits
        distance = (teacher(clips).logits - stock).abs().max()
        if distance > TOLERANCE * stock.std():
            return False
    return True


def measure_steps(bench: Workbench) -> List[Row]:
    """Compares live, cached, plain and MMRazor-style steps."""
    times = Times(build_variants(bench), bench.args.rounds)
    row = partial(times.row, 'steps')
    rows = []
    for layout in LAYOUTS:
        student = f'student step, {layout}'
        live = f'live step, {layout}'
        rows += [
            row(f'cached step, {layout}', student),
            row(live, student),
            row(live, student, 'teachers'),
            row(f'plain loop, {layout}', student, 'teachers'),
            row(live, f'plain loop, {layout}'),
        ]
    first, last = LAYOUTS
    stock_live = f'live step with stock teachers, {first}'
    rows += [
        row(stock_live, f'student step, {first}', 'teachers, stock'),
        row(stock_live, f'cached step, {first}'),
        row(stock_live, f'cached step, {last}'),
        row(f'student step, {last}', f'student step, {first}'),
        row(
            'teachers',
            'teachers, stock',
            **{f'logits within {TOLERANCE:.0e}': teachers_agree(bench)},
        ),
        row('teachers', f'student step, {first}'),
        row('writing a batch to the cache', 'loading a batch', 'teachers'),
        row('loading a batch', f'cached step, {first}'),
    ]
    for name in times.seconds:
        if name.startswith('MMRazor'):
            rows += [row(f'live step, {lay}', name) for lay in LAYOUTS]
    return rows
