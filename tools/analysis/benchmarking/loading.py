"""Clips per second that one process reads, for each way of reading."""

import copy
from functools import partial
from statistics import median
from typing import Any, Callable, Dict, List

from mmaction.registry import DATASETS

from dtkd_mmaction.datasets import KeyedViewDataset
from dtkd_mmaction.teachers.cache_format import MAPS
from dtkd_mmaction.teachers.record_layout import RecordLayout

from .timing import Row, Times
from .workbench import Workbench

# Transform that decodes -> transform that opens the file.
DECODERS = dict(
    DecordDecode='DecordInit',
    FrameExactDecode='DecordInit',
    PyAVDecode='PyAVInit',
    OpenCVDecode='OpenCVInit',
)


def measure_loading(bench: Workbench) -> List[Row]:
    """Measures the training pipeline, kept views and a teacher cache."""
    variants: Dict[str, Callable[[], Any]] = {}

    def load(dataset: KeyedViewDataset) -> None:
        for index in range(bench.clips):
            dataset[index, 0]

    for decode, begin in DECODERS.items():
        config = copy.deepcopy(bench.dataset_config)
        pipeline = config['dataset']['pipeline']
        pipeline[0]['type'], pipeline[2]['type'] = begin, decode
        variants[decode] = partial(load, DATASETS.build(config))
    config = dict(bench.dataset_config, kept_in=str(bench.folder / 'views'))
    variants['kept views'] = partial(load, DATASETS.build(config))
    cache = bench.cached().teacher_cache
    keys = [(index, 0) for index in range(bench.clips)]
    variants['teacher cache'] = partial(cache.read, keys, bench.device)

    times = Times(variants, bench.args.rounds)
    reference = next(iter(DECODERS))
    rows = []
    for name in variants:
        rate = bench.clips / median(times.seconds[name])
        facts = {'clips per second in one process': rate}
        if name == 'teacher cache':
            for maps in MAPS:
                layout = RecordLayout(bench.live, maps, 'float16')
                facts[f'kB per view, {maps}'] = layout.bytes_per_view / 1e3
        rows.append(times.row('loading', name, reference, **facts))
    return rows
