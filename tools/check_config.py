"""Checks a config and shows the costs of its models, without training.

    python tools/check_config.py configs/dtkd/x3d_s_hmdb51.py

Prints every problem with its key, what was found and what would work, then a
table of all models: shapes, parameters, multiply-adds, memory of a training
step and bytes of a teacher cache. Nothing is downloaded. Exit code 1 if the
config has an error.
"""

import argparse
import copy
import sys
from typing import List, Optional

import torch
from mmaction.registry import MODELS
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.utils import import_modules_from_strings
from rich.console import Console
from rich.table import Table

from dtkd_mmaction.config_check import check_config, report
from dtkd_mmaction.distillers import BaseDistiller
from dtkd_mmaction.recognizers.complexity import (
    bytes_for_backward,
    measure_complexity,
)
from dtkd_mmaction.recognizers.feature_tap import FeatureTap
from dtkd_mmaction.recognizers.model_spec import (
    load_config,
    set_num_classes,
    stock_clip,
)
from dtkd_mmaction.teachers.teacher_cache import MAPS
from dtkd_mmaction.teachers.teacher_cache_writer import RecordLayout


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('config')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}
    )
    parser.add_argument(
        '--no-files',
        action='store_true',
        help='do not look at annotation lists, clips and checkpoints',
    )
    parser.add_argument(
        '--no-costs', action='store_true', help='do not build the models'
    )
    return parser.parse_args()


def read_config(args: argparse.Namespace) -> Config:
    """Reads the config file.

    Raises:
        SystemExit: If it, a config that it names, or a module in its
            ``custom_imports`` cannot be read.
    """
    try:
        config = Config.fromfile(args.config)
        config.merge_from_dict(args.cfg_options)
    except (Exception, SystemExit) as error:
        raise SystemExit(
            f'{args.config} cannot be read: {type(error).__name__}: {error}'
        ) from error
    return config


def without_checkpoints(model: dict) -> dict:
    """Returns a distiller's config without checkpoints."""
    model = copy.deepcopy(model)
    model.pop('teacher_cache', None)
    specs = [v for v in model.values() if isinstance(v, dict) and 'cfg' in v]
    specs += list((model.get('teachers') or {}).values())
    for spec in specs:
        spec['checkpoint'] = None
    return model


def model_row(
    name: str, spec: dict, tap: FeatureTap, num_classes: Optional[int]
) -> List[str]:
    """Returns the table row of one model of a distiller."""
    config = load_config(spec, f'model.{name}')
    set_num_classes(config.model, num_classes)
    clip = {**stock_clip(config), **(spec.get('view') or {})}
    cells = [
        name,
        config.model.backbone.type,
        f'{clip["frames"]} x {clip["size"]}',
        ' x '.join(map(str, tap.shapes['map'])),
        str(tap.embedding_width),
    ]
    if not isinstance(clip['size'], int):
        return [*cells, '', '']
    cost = measure_complexity(config, clip['frames'], clip['size'])
    return [
        *cells,
        f'{cost.parameters / 1e6:.2f}',
        f'{cost.macs / 1e9:.2f}',
    ]


def student_bytes(distiller: BaseDistiller) -> float:
    """Measures the bytes per clip that the student keeps for backward."""
    student = distiller.student
    channels, *size = distiller.student_tap.shapes['clip']
    inputs = torch.zeros(2, 1, channels, *size)
    if distiller.student_view.fold_frames:
        inputs = inputs[:, 0].transpose(1, 2)
    student.train()
    total = bytes_for_backward(
        lambda: student.extract_feat(inputs, stage='head')
    )
    weights = sum(p.nbytes for p in student.parameters())
    return max(total - weights, 0) / 2


def show_costs(config: Config, console: Console) -> None:
    """Builds the models of a distiller and prints their costs."""
    model = without_checkpoints(config.model)
    distiller = MODELS.build(model)
    if not isinstance(distiller, BaseDistiller):
        console.print(
            f'model.type={config.model.type!r} is no distiller: no costs.'
        )
        return
    table = Table(
        *('model', 'backbone', 'clip', 'map (C x T x H x W)', 'embedding'),
        *('M parameters', 'GMACs'),
    )
    number = config.model.get('num_classes')
    taps = {'student': distiller.student_tap}
    specs = {'student': distiller.student_spec}
    for name, teacher in distiller.build_teachers().items():
        taps[name], specs[name] = teacher.tap, distiller.teacher_specs[name]
    for name, tap in taps.items():
        table.add_row(*model_row(name, specs[name], tap, number))
    console.print(table)
    batch = (config.get('train_dataloader') or {}).get('batch_size', 1)
    size = student_bytes(distiller)
    console.print(
        f'Training step: the student keeps {size / 1e6:.0f} MB per clip for '
        f'backward, {size * batch / 1e9:.2f} GB at '
        f'train_dataloader.batch_size={batch} (float32).'
    )
    for maps in MAPS:
        try:
            layout = RecordLayout(distiller, maps, 'float16')
        except ValueError as error:
            console.print(f'Teacher cache, --maps {maps}: {error}')
            continue
        console.print(
            f'Teacher cache, --maps {maps}: '
            f'{layout.bytes_per_view / 1e3:.0f} kB per view'
        )


def main() -> None:
    """Checks, reports and shows the costs."""
    args = parse_args()
    console = Console(width=120, soft_wrap=True, highlight=False)
    config = read_config(args)
    if config.get('custom_imports'):
        import_modules_from_strings(**config.custom_imports)
    init_default_scope('mmaction')
    MMLogger.get_current_instance().setLevel('ERROR')
    problems = check_config(
        config, files=not args.no_files, models=not args.no_costs
    )
    console.print(report(problems, args.config), markup=False)
    if any(not problem.warning for problem in problems):
        sys.exit(1)
    if not args.no_costs:
        try:
            show_costs(config, console)
        except (TypeError, ValueError) as error:
            raise SystemExit(f'{args.config}: {error}') from error


if __name__ == '__main__':
    main()
