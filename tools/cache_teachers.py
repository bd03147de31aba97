"""Computes once what the frozen teachers of a config say of its clips.

    python tools/cache_teachers.py CONFIG --views 10 --out cache

writes what the losses need of both teachers for ten views of every training
clip. A run with

    --cfg-options model.teacher_cache=cache train_dataloader.dataset.views=10

then builds no teacher. A killed call goes on when it is repeated. On several
GPUs: ``torchrun --nproc_per_node 8 tools/cache_teachers.py ... --launcher
pytorch``.
"""

import argparse
import os.path as osp
import shutil
import time
from typing import Tuple

import numpy as np
from mmaction.registry import DATASETS, MODELS
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.dist import (
    barrier,
    get_rank,
    get_world_size,
    init_dist,
    is_main_process,
)
from mmengine.registry import init_default_scope
from mmengine.utils import import_modules_from_strings
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from dtkd_mmaction.datasets import KeyedViewDataset
from dtkd_mmaction.distillers.base import BaseDistiller
from dtkd_mmaction.teachers.teacher_cache import MAPS, TeacherCache
from dtkd_mmaction.teachers.teacher_cache_writer import (
    DTYPES,
    RecordLayout,
    TeacherCacheWriter,
)


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('config', help='a distillation config')
    parser.add_argument('--out', required=True, help='folder of the cache')
    parser.add_argument(
        '--views', type=int, required=True, help='views of every clip'
    )
    parser.add_argument(
        '--maps',
        choices=MAPS,
        default='student_grid',
        help="native: the teachers' maps as they are, for any student and "
        'loss;\nstudent_grid (default): on the grid where loss_sd compares '
        'them;\nmasked: only their residual where the masks keep it, for '
        'this loss_sd alone',
    )
    parser.add_argument(
        '--also',
        nargs='+',
        default=[],
        choices=['map', 'maps', 'stem'],
        help='with --maps native: what other configs that share the cache\n'
        'read of the teachers: last map, maps of the stages, stem',
    )
    parser.add_argument('--dtype', choices=list(DTYPES), default='float16')
    parser.add_argument('--batch-size', type=int, default=16)
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument(
        '--shard', type=int, default=256, help='clips a file; default 256'
    )
    parser.add_argument(
        '--dry-run', action='store_true', help='the estimate only'
    )
    parser.add_argument(
        '--clips',
        type=int,
        metavar='N',
        help='write nothing and read no data: print what a cache of N clips '
        'takes, for every kind of maps',
    )
    parser.add_argument(
        '--verify',
        type=int,
        metavar='N',
        help='write nothing; ask the teachers again for N clips of a '
        'finished cache and print how far they are from it',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm'], default='none'
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser.parse_args()


def build(args: argparse.Namespace) -> Tuple[BaseDistiller, Config]:
    """The distiller of the config, and the config."""
    config = Config.fromfile(args.config)
    config.merge_from_dict(args.cfg_options)
    if config.get('custom_imports'):
        import_modules_from_strings(**config.custom_imports)
    init_default_scope('mmaction')
    config.model.pop('teacher_cache', None)
    distiller = MODELS.build(config.model).to(get_device())
    if distiller.data_preprocessor.blending is not None:
        raise SystemExit(
            'model.student: its data_preprocessor.blending mixes clips, so '
            'nothing can be said of one of them beforehand. Set '
            "model.student.cfg_options={'data_preprocessor.blending': None}."
        )
    return distiller, config


def build_dataset(config: Config) -> KeyedViewDataset:
    """The training set, which gives every view that is asked for."""
    dataset_config = config.train_dataloader.dataset
    if dataset_config.type != 'KeyedViewDataset':
        raise SystemExit(
            f'train_dataloader.dataset.type={dataset_config.type!r}: only '
            'the views of a KeyedViewDataset can be computed beforehand '
            '(configs/_base_/datasets/hmdb51.py shows how to wrap one).'
        )
    dataset = DATASETS.build(dataset_config)
    dataset.views = None
    dataset.full_init()
    return dataset


def print_sizes(distiller: BaseDistiller, args: argparse.Namespace) -> None:
    """Print what a cache of so many clips takes, by kind of maps."""
    for maps in MAPS:
        layout = RecordLayout(distiller, maps, args.dtype, args.also)
        total = layout.bytes_per_view * args.clips * args.views
        print(
            f'--maps {maps}: {layout.bytes_per_view / 1e3:.1f} kB a view, '
            f'{total / 1e9:.2f} GB for {args.clips} clips x {args.views} '
            'views'
        )


def existing_parent(path: str) -> str:
    """The nearest folder above a path that exists."""
    path = osp.abspath(path)
    return path if osp.isdir(path) else existing_parent(osp.dirname(path))


def estimate(writer: TeacherCacheWriter) -> None:
    """Print how many bytes it takes, and end where they do not fit."""
    views = writer.manifest['views']
    clips = len(writer.dataset)
    total = writer.layout.bytes_per_view * clips * views
    free = shutil.disk_usage(existing_parent(writer.folder)).free
    print(
        f'{clips} clips x {views} views x '
        f'{writer.layout.bytes_per_view / 1e3:.1f} kB = {total / 1e9:.3f} GB '
        f'({free / 1e9:.0f} GB free)'
    )
    if writer.layout.bytes_per_view * writer.count_clips(writer.todo()) > free:
        raise SystemExit(
            'That does not fit: fewer views, or --maps student_grid, or '
            '--maps masked.'
        )


def write(writer: TeacherCacheWriter, args: argparse.Namespace) -> None:
    """Write this process's share of what is missing."""
    todo = writer.todo()[get_rank() :: get_world_size()]
    barrier()  # before anybody writes: all deal out the same shards
    clips = writer.count_clips(todo)
    if todo and is_main_process():
        begun = time.perf_counter()
        writer.try_out(args.batch_size)
        seconds = (time.perf_counter() - begun) / args.batch_size
        print(
            f'{clips} clips to do here, at most {seconds:.3f} s each: '
            f'{seconds * clips / 60:.1f} minutes (one that is tried '
            'first, decoded by one process)'
        )
    if args.dry_run:
        return
    if is_main_process():
        writer.begin()
    with Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        disable=not is_main_process(),
    ) as progress:
        task = progress.add_task('clips', total=clips)
        for count in writer.write(todo, args.batch_size, args.workers):
            progress.advance(task, count)
    barrier()
    if is_main_process():
        TeacherCache(writer.folder, writer.manifest['teachers'])
        print(
            f'{writer.folder} is complete. Train with --cfg-options '
            f'model.teacher_cache={writer.folder} '
            f'train_dataloader.dataset.views={args.views}'
        )


def verify(writer: TeacherCacheWriter, args: argparse.Namespace) -> None:
    """Print the largest distance between the teachers and the cache."""
    cache = TeacherCache(writer.folder, writer.manifest['teachers'])
    generator = np.random.default_rng()
    keys = [
        (int(generator.integers(len(writer.dataset))), int(view))
        for view in generator.integers(args.views, size=args.verify)
    ]
    for field, distance in writer.distances(cache, keys).items():
        print(f'{field}: at most {distance:.2e} of its largest value')


def main() -> None:
    """Estimate, then write or verify."""
    args = parse_args()
    if args.launcher != 'none':
        init_dist(args.launcher)
    distiller, config = build(args)
    if args.clips:
        print_sizes(distiller, args)
        return
    try:
        writer = TeacherCacheWriter(
            distiller,
            build_dataset(config),
            config.train_dataloader.dataset,
            args.out,
            args.views,
            args.maps,
            args.dtype,
            args.shard,
            args.also,
        )
    except ValueError as error:
        raise SystemExit(str(error)) from error
    if args.verify:
        verify(writer, args)
        return
    if is_main_process():
        estimate(writer)
    write(writer, args)


if __name__ == '__main__':
    main()
