"""A declaration of tables, and a trainer that trains nothing."""

from reproduction import Planner, read_tables

TABLES = """
stage_one: ['*_teacher.py']
clips: {data/clips: 100}
paper:
  alone.py: 50
  pupil.py: 60.5
tables:
  tiny:
    title: 'Tiny'
    metrics: {Top-1: acc/top1}
    rows:
      ViT: {config: vit_teacher.py, once: true}
      alone: alone.py
      pupil: pupil.py
      'pupil, hot': {config: pupil.py, options: {model.tau: 9}, cache: false}
"""
COMMON = """
model = dict({model})
train_dataloader = dict(
    dataset=dict(type='Keyed', dataset=dict(ann_file='data/clips/train.txt'))
)
val_dataloader = dict(dataset=dict(ann_file='data/clips/val.txt'))
train_cfg = dict(max_epochs=2)
"""
CONFIGS = {
    'vit_teacher': ("type='ViT'", "work_dir = 'work_dirs/vit'"),
    'cnn_teacher': ("type='CNN'", "work_dir = 'work_dirs/cnn'"),
    'alone': ("type='Alone'", ''),
    'pupil': (
        """
    type='Distiller',
    student=dict(cfg='mmaction::a.py'),
    vit_teacher=dict(checkpoint='work_dirs/vit/epoch_*.pth'),
    cnn_teacher=dict(checkpoint='work_dirs/cnn/best_*.pth'),
    tau=4,
""",
        '',
    ),
}
# What a run says is written next to its config as `behaviour`.
TRAINER = """
import os, signal, sys, time
config = {}
exec(open(sys.argv[1]).read(), config)
folder = config['work_dir']
if '--resume' not in sys.argv:
    accuracy = 0.5 + config['randomness']['seed'] / 100
    behaviour = config.get('behaviour')
else:
    accuracy, behaviour = 0.75, None
with open(os.path.join(folder, 'last_checkpoint'), 'w') as f:
    f.write(os.path.join(folder, 'epoch_2.pth'))
if behaviour == 'fail':
    sys.exit(3)
if behaviour == 'wait':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    open(os.path.join(folder, 'waits'), 'w').close()
    time.sleep(60)
open(os.path.join(folder, 'epoch_2.pth'), 'w').write('weights')
os.makedirs(os.path.join(folder, 'now', 'vis_data'), exist_ok=True)
with open(os.path.join(folder, 'now', 'vis_data', 'scalars.json'), 'w') as f:
    f.write('{"loss": 1.0, "step": 2}\\n')
    f.write('{"acc/top1": %g, "step": 1}\\n' % (accuracy - 0.2))
    f.write('{"acc/top1": %g, "step": 2}\\n' % accuracy)
"""


def write_tables(folder, **behaviour):
    """The files; ``behaviour`` is ``config='fail'`` or ``'wait'``."""
    (folder / 'tables.yml').write_text(TABLES)
    (folder / 'train.py').write_text(TRAINER)
    for name, (model, rest) in CONFIGS.items():
        text = COMMON.format(model=model) + rest
        if name in behaviour:
            text += f'\nbehaviour = {behaviour[name]!r}'
        (folder / f'{name}.py').write_text(text)
    for name in ('train', 'val'):
        path = folder / 'data' / 'clips' / f'{name}.txt'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('a 0\nb 1\n')


def planner(folder, **options):
    """Returns a planner of the files, with data and results next to them."""
    return Planner(
        str(folder / 'tables.yml'),
        str(folder / 'data'),
        str(folder / 'out'),
        **options,
    )


def tiny_table(folder):
    """The only table."""
    return read_tables(str(folder / 'tables.yml'))['tiny']
