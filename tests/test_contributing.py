"""The method of CONTRIBUTING.md works as it stands there."""

import re
from pathlib import Path

import torch
from mmaction.registry import MODELS
from mmengine.optim import OptimWrapper
from tiny_models import batch, tiny_single_teacher

ROOT = Path(__file__).parents[1]


def test_a_new_method_in_one_file():
    text = (ROOT / 'CONTRIBUTING.md').read_text()
    source = re.search(r'```python\n(.*?)```', text, re.DOTALL)[1]
    for module in ('numerics', 'options'):
        source = source.replace(
            f'from .{module}', f'from dtkd_mmaction.losses.{module}'
        )
    exec(source, {'__name__': 'cosine_embedding'})
    losses = dict(cosine=dict(type='CosineEmbeddingLoss'))
    distiller = MODELS.build(tiny_single_teacher(losses=losses))
    optimizer = OptimWrapper(torch.optim.SGD(distiller.parameters(), lr=0.1))
    logs = distiller.train_step(batch(), optimizer)
    assert 0 < logs['loss_cosine'] < 2
