"""Compares the exported student with the stock model."""

from functools import partial
from typing import List

import torch
import torch.nn as nn
from torch import Tensor

from dtkd_mmaction.deployment.student_export import student_checkpoint
from dtkd_mmaction.recognizers.clip_view import model_inputs
from dtkd_mmaction.recognizers.model_spec import (
    build_recognizer,
    load_config,
    set_num_classes,
)

from .timing import Row, Times
from .workbench import Workbench

# Forward passes per round of a step: they are short, and the target is 2 %.
MORE_ROUNDS = 4


@torch.no_grad()
def logits_of(model: nn.Module, inputs: Tensor) -> Tensor:
    """Returns class scores, (B, N)."""
    return model.extract_feat(inputs, stage='head')[0]


def measure_export(bench: Workbench) -> List[Row]:
    """Compares time of a forward pass, keys, and logits bit for bit.

    One model is the student of the distiller. The other is built from the
    stock config and loaded with the export of the distiller's checkpoint, so
    equal logits show that the export is complete.
    """
    distiller = bench.live
    exported = student_checkpoint(dict(state_dict=distiller.state_dict()))
    config = load_config(bench.model.student, 'model.student')
    set_num_classes(config.model, bench.num_classes)
    stock = build_recognizer(config, 'model.student').to(bench.device)
    same_keys = list(stock.state_dict()) == list(exported['state_dict'])
    stock.load_state_dict(exported['state_dict'], strict=False)
    inputs = model_inputs(
        stock, distiller.student_view, bench.batch(distiller)['inputs']
    )
    stock.eval()
    distiller.student.eval()
    same_logits = torch.equal(
        logits_of(stock, inputs), logits_of(distiller.student, inputs)
    )
    times = Times(
        {
            "the distiller's student": partial(
                logits_of, distiller.student, inputs
            ),
            'stock model with the export': partial(logits_of, stock, inputs),
        },
        MORE_ROUNDS * bench.args.rounds,
    )
    distiller.train()
    return [
        times.row(
            'export',
            "the distiller's student",
            'stock model with the export',
            **{
                'keys identical': same_keys,
                'logits bit-equal': same_logits,
            },
        )
    ]
