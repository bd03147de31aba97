"""The example of CONTRIBUTING.md works as written, in one file."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# A training step with the loss of the example.
STEP = """
import torch
import dtkd_mmaction
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from tiny_models import batch, tiny_single_teacher

config = Config.fromfile('example.py')
with DefaultScope.overwrite_default_scope('mmaction'):
    model = MODELS.build(tiny_single_teacher(losses=config.model.losses))
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    logs = model.train_step(batch(), optimizer)
print('package', dtkd_mmaction.__file__)
print('loss', float(logs['loss_cosine']))
"""


def test_a_method_in_one_file(tmp_path):
    text = (ROOT / 'CONTRIBUTING.md').read_text()
    blocks = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    method = next(block for block in blocks if block.startswith('# dtkd_mm'))
    config = next(block for block in blocks if block.startswith('model'))
    package = tmp_path / 'dtkd_mmaction'
    ignored = shutil.ignore_patterns('__pycache__', '.mim')
    shutil.copytree(ROOT / 'dtkd_mmaction', package, ignore=ignored)
    place = re.match(r'# (\S+)', method)[1]
    assert not (ROOT / place).exists()
    (tmp_path / place).write_text(method)
    (tmp_path / 'example.py').write_text(config)
    folders = [tmp_path, ROOT / 'tests', ROOT / 'tools' / 'analysis']
    paths = os.pathsep.join(map(str, folders))
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', STEP],
        cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=paths, OMP_NUM_THREADS='1'),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f'package {package}/__init__.py' in done.stdout
    assert 0 < float(re.search(r'loss (\S+)', done.stdout)[1]) < 1
