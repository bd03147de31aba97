"""Code and tables in the documents work as written."""

import json
import os.path as osp
import re

import pytest
import torch
from compose_config import known_methods
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from reproduction import json_table, markdown_table, read_tables
from test_configs import ROOT
from tiny_models import batch, tiny_single_teacher


def code_blocks(name):
    with open(osp.join(ROOT, 'docs', name)) as f:
        return re.findall(r'```python\n(.*?)```', f.read(), re.DOTALL)


def test_a_new_method_by_following_the_page():
    blocks = code_blocks('methods.md')
    source = next(b for b in blocks if 'class LogitMSELoss' in b)
    config = next(b for b in blocks if b.startswith('losses'))
    source = source.replace(
        'from .numerics', 'from dtkd_mmaction.losses.numerics'
    )
    exec(source, {'__name__': 'logit_mse'})
    losses = Config.fromstring(config, '.py').losses
    distiller = MODELS.build(tiny_single_teacher(losses=losses))
    optimizer = OptimWrapper(torch.optim.SGD(distiller.parameters(), lr=0.1))
    logs = distiller.train_step(batch(), optimizer)
    assert logs['loss_mse'] > 0


def test_every_method_of_the_tables_has_its_config():
    with open(osp.join(ROOT, 'docs/methods.md')) as f:
        text = f.read()
    single, several = re.split(
        '## (?:Several teachers|Which one to take)', text
    )[:2]
    names = re.findall(r'\| `(\w+)` \| [^|]*\|$', single, re.MULTILINE)
    for cell in re.findall(r'\| ([^|]*) \|$', several, re.MULTILINE):
        names += re.findall(r'`(\w+)`', cell)
    assert sorted(names) == known_methods()


@pytest.mark.parametrize(
    'table, page',
    [
        ('ucf6', 'results.md'),
        ('ucf6_long', 'results.md'),
        ('ucf6_untrained', 'results.md'),
        ('ucf6_fusion_wrong', 'results.md'),
        ('ucf6_rivals', 'results.md'),
        ('ucf6_control', 'results.md'),
        ('ucf6_longer', 'results.md'),
        ('ucf6_methods', 'results.md'),
        ('choices', 'design_choices.md'),
    ],
)
def test_tables_are_those_of_the_records(table, page):
    """Tables on the pages are those of tools/reproduce.py for the records."""
    with open(osp.join(ROOT, 'docs', 'results', f'{table}.json')) as f:
        text = f.read()
    rows = json.loads(text)['rows']
    declared = read_tables(osp.join(ROOT, 'configs', 'tables.yml'))[table]
    assert [row['name'] for row in rows] == [row.name for row in declared.rows]
    assert text == json_table(declared.title, rows)  # a line per run
    with open(osp.join(ROOT, 'docs', page)) as f:
        lines = f.read().splitlines()
    for line in markdown_table(declared, rows).splitlines()[2:]:
        assert line in lines
