"""Time of each loss term, and memory of a step."""

import copy
from functools import partial
from typing import Any, Callable, Dict, List

import torch
from torch import Tensor

from dtkd_mmaction.distillers import DualTeacherDistiller
from dtkd_mmaction.recognizers.complexity import bytes_for_backward

from .steps import TEACHERS, step_of, student_loss, total_loss
from .timing import Row, Times
from .workbench import Workbench

MEGABYTE = 1e6


def measure_losses(bench: Workbench) -> List[Row]:
    """Measures terms, bytes kept for backward, and peak memory on a GPU."""
    # Copies, so that the peaks on a GPU are those of one distiller.
    live, cached = copy.deepcopy(bench.live), bench.cached()
    steps = {
        'student step': step_of(live, student_loss, bench.data),
        'cached step': step_of(cached, total_loss, bench.data),
        'live step': step_of(live, total_loss, bench.data),
    }
    batch = bench.batch(live)
    kept = {
        'student step': bytes_for_backward(partial(student_loss, live, batch)),
        'cached step': bytes_for_backward(partial(total_loss, cached, batch)),
        'live step': bytes_for_backward(partial(total_loss, live, batch)),
    }
    terms = loss_terms(live, batch)
    rows = time_terms(bench, terms, steps['student step'], kept)
    rows += memory_rows('bytes kept for backward', kept)
    if bench.device.type == 'cuda':
        peaks = {name: peak_bytes(step) for name, step in steps.items()}
        rows += memory_rows('peak memory', peaks)
    return rows


def loss_terms(
    distiller: DualTeacherDistiller, batch: dict
) -> Dict[str, Callable[[], Tensor]]:
    """Returns each loss as a function, for the outputs for one batch."""
    samples = batch['data_samples']
    with torch.no_grad():
        teachers = distiller.teach(batch['inputs'], samples)
        _, student = distiller.learn(batch['inputs'], samples)
    logits, student_map, embedding = (
        x.detach().clone().requires_grad_()
        for x in (student.logits, student.map, student.embedding)
    )
    vit, cnn = (teachers[name] for name in TEACHERS)
    # In the recorded layout; the conversion is part of the time.
    vit_map, cnn_map, vit_embedding = vit.map, cnn.map, vit.embedding
    width = distiller.loss_sd.target_width(student_map.shape[1])

    def structure() -> Tensor:
        target = distiller.loss_sd.target(
            vit_map, cnn_map, student_map.shape[2:], width
        )
        return distiller.loss_sd.predict_and_compare(
            distiller.branch, student_map, target
        )

    return {
        'loss_sr': lambda: distiller.loss_sr(
            logits, {name: teachers[name].logits for name in TEACHERS}
        ),
        'loss_sd with its branch': structure,
        'loss_rkd': lambda: distiller.loss_rkd(embedding, vit_embedding),
    }


def time_terms(
    bench: Workbench,
    terms: Dict[str, Callable[[], Tensor]],
    step: Callable[[], None],
    kept: Dict[str, int],
) -> List[Row]:
    """Compares forward and backward of each term with the student's step."""
    variants: Dict[str, Callable[[], Any]] = {'student step': step}
    for name, term in terms.items():
        variants[name] = lambda term=term: term().backward()
    times = Times(variants, bench.args.rounds)
    return [
        times.row(
            'losses',
            name,
            'student step',
            **{
                'MB kept for backward': bytes_for_backward(term) / MEGABYTE,
                'of the student step': bytes_for_backward(term)
                / kept['student step'],
            },
        )
        for name, term in terms.items()
    ]


def memory_rows(what: str, found: Dict[str, int]) -> List[Row]:
    """Compares the bytes of steps with those of the student's step."""
    reference, *others = found
    return [
        Row(
            'losses',
            f'{what}, {name}',
            reference,
            *[found[name] / found[reference]] * 3,
            facts={
                'MB': found[name] / MEGABYTE,
                f'MB of the {reference}': found[reference] / MEGABYTE,
            },
        )
        for name in others
    ]


def peak_bytes(step: Callable[[], None]) -> int:
    """Returns the peak of the GPU memory that a step allocates."""
    step()  # allocates gradients and momenta
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
