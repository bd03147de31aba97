"""Computes the outputs of a config's frozen teachers once and stores them.

    python tools/cache_teachers.py CONFIG --views 10 --out cache

stores the teacher outputs that the losses need, for ten views of every
training clip. A run with

    --cfg-options model.teacher_cache=cache train_dataloader.dataset.views=10

then builds no teacher. Repeat the call to continue after an interruption. On
several GPUs: ``torchrun --nproc_per_node 8 tools/cache_teachers.py ...
--launcher pytorch``.
"""

import argparse
import os.path as osp
import shutil
import time
from typing import List, Tuple

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
from dtkd_mmaction.datasets.dataset_wrappers import is_keyed, keyed_outside
from dtkd_mmaction.distillers.base import BaseDistiller
from dtkd_mmaction.engine.teacher_accuracy import (
    describe,
    measure_accuracies,
    read_accuracies,
    write_accuracies,
)
from dtkd_mmaction.teachers.cache_format import MAPS, Shard
from dtkd_mmaction.teachers.record_layout import DTYPES, RecordLayout
from dtkd_mmaction.teachers.teacher_cache import TeacherCache
from dtkd_mmaction.teachers.teacher_cache_writer import TeacherCacheWriter


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
        help="native: the teachers' maps unchanged, for any student and "
        'loss;\nstudent_grid (default): on the grid where loss_sd compares '
        'them;\nmasked: only their residual where the masks keep it, for '
        'this loss_sd alone',
    )
    parser.add_argument(
        '--also',
        nargs='+',
        default=[],
        choices=['map', 'maps', 'stem'],
        help='with --maps native: further outputs for other configs that\n'
        'share the cache: last map, maps of the stages, stem',
    )
    parser.add_argument('--dtype', choices=list(DTYPES), default='float16')
    parser.add_argument('--batch-size', type=int, default=16)
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument(
        '--shard', type=int, default=256, help='clips per file; default 256'
    )
    parser.add_argument(
        '--dry-run', action='store_true', help='print the estimate only'
    )
    parser.add_argument(
        '--clips',
        type=int,
        metavar='N',
        help='write nothing and read no data; print the size of a cache of '
        'N clips\nfor every kind of maps',
    )
    parser.add_argument(
        '--verify',
        type=int,
        metavar='N',
        help='write nothing; run the teachers again on N clips of a complete '
        'cache\nand print the largest differences',
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
    """Builds the distiller; returns it with its config."""
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
            'outputs for single clips are of no use. Set '
            "model.student.cfg_options={'data_preprocessor.blending': None}."
        )
    return distiller, config


def build_dataset(config: Config) -> Tuple[KeyedViewDataset, dict]:
    """Builds the training set, with any number of views.

    Returns:
        tuple[KeyedViewDataset, dict]: The data set and its config.
    """
    dataset_config = keyed_outside(config.train_dataloader.dataset)
    if not is_keyed(dataset_config):
        raise SystemExit(
            f'train_dataloader.dataset.type={dataset_config["type"]!r}: a '
            'cache needs the repeatable views of a KeyedViewDataset. '
            'configs/_base_/datasets/hmdb51.py shows how to wrap a data set.'
        )
    dataset = DATASETS.build(dataset_config)
    dataset.views = None
    dataset.full_init()
    return dataset, dataset_config


def print_sizes(distiller: BaseDistiller, args: argparse.Namespace) -> None:
    """Prints the size of a cache of ``--clips`` clips by kind of maps."""
    for maps in MAPS:
        layout = RecordLayout(distiller, maps, args.dtype, args.also)
        total = layout.bytes_per_view * args.clips * args.views
        print(
            f'--maps {maps}: {layout.bytes_per_view / 1e3:.1f} kB per view, '
            f'{total / 1e9:.2f} GB for {args.clips} clips x {args.views} '
            'views'
        )


def existing_parent(path: str) -> str:
    """Returns the nearest folder above a path that exists."""
    path = osp.abspath(path)
    return path if osp.isdir(path) else existing_parent(osp.dirname(path))


def estimate(writer: TeacherCacheWriter) -> None:
    """Prints the size of the cache; ends the tool if it does not fit."""
    views = writer.manifest['views']
    clips = len(writer.dataset)
    size = writer.layout.bytes_per_view
    total = size * clips * views
    disk = shutil.disk_usage(existing_parent(writer.folder))
    print(
        f'{clips} clips x {views} views x {size / 1e3:.1f} kB = '
        f'{total / 1e9:.3f} GB ({disk.free / 1e9:.0f} GB free)'
    )
    needed = total
    if total <= disk.total:  # else the list may be very long
        needed = size * writer.count_clips(writer.todo())
    if needed > disk.free:
        raise SystemExit(
            f'The cache does not fit on the disk of {writer.folder}: it needs '
            f'{needed:,} bytes of space, {disk.free:,} are free. Use fewer '
            'views, --maps student_grid or --maps masked.'
        )


def write(writer: TeacherCacheWriter, args: argparse.Namespace) -> None:
    """Writes this process's share of the missing shards."""
    todo = writer.todo()[get_rank() :: get_world_size()]
    barrier()  # before any process writes, so that all divide the same list
    clips = writer.count_clips(todo)
    if todo and is_main_process():
        begun = time.perf_counter()
        writer.try_out(args.batch_size)
        seconds = (time.perf_counter() - begun) / args.batch_size
        print(
            f'{clips} clips to do here, at most {seconds:.3f} s each: '
            f'{seconds * clips / 60:.1f} minutes (measured on one batch, '
            'decoded by one process)'
        )
    if args.dry_run:
        return
    try:
        if is_main_process():
            writer.begin()
        write_shards(writer, todo, args)
    except OSError as error:
        raise SystemExit(
            f'{writer.folder} is not complete: {error}. The finished files '
            'stay; run the same command again to continue.'
        ) from error
    barrier()
    if is_main_process():
        TeacherCache(writer.folder, writer.manifest['teachers'])
        print(
            f'{writer.folder} is complete. Train with --cfg-options '
            f'model.teacher_cache={writer.folder} '
            f'train_dataloader.dataset.views={args.views}'
        )


def report_accuracy(
    distiller: BaseDistiller, config: Config, folder: str
) -> None:
    """Measures the teachers on the validation list, once for all trainings.

    Trainings with the cache print the figures (``TeacherReportHook``).
    """
    loader = config.get('val_dataloader')
    if distiller.multi_label or loader is None or read_accuracies(folder):
        return
    names = list(distiller.teachers)
    try:
        accuracies = measure_accuracies(distiller, names, loader)
    except FileNotFoundError as error:
        print(f'The accuracy of the teachers was not measured: {error}')
        return
    if is_main_process():
        write_accuracies(folder, accuracies)
        print(describe(accuracies))


def write_shards(
    writer: TeacherCacheWriter, todo: List[Shard], args: argparse.Namespace
) -> None:
    """Writes some shards and shows the progress."""
    with Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        disable=not is_main_process(),
    ) as progress:
        task = progress.add_task('clips', total=writer.count_clips(todo))
        for count in writer.write(todo, args.batch_size, args.workers):
            progress.advance(task, count)


def verify(writer: TeacherCacheWriter, args: argparse.Namespace) -> None:
    """Prints the largest differences between teachers and cache."""
    cache = TeacherCache(writer.folder, writer.manifest['teachers'])
    generator = np.random.default_rng()
    keys = [
        (int(generator.integers(len(writer.dataset))), int(view))
        for view in generator.integers(args.views, size=args.verify)
    ]
    for field, distance in writer.distances(cache, keys).items():
        print(f'{field}: at most {distance:.2e} of its largest value')


def main() -> None:
    """Estimates the size, then writes or verifies."""
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
            *build_dataset(config),
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
    if not args.dry_run:
        report_accuracy(distiller, config, args.out)


if __name__ == '__main__':
    main()
