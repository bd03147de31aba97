"""Shows what a second teacher knows that the first does not.

    python tools/analysis/teacher_agreement.py CACHE LIST

reads the logits in a cache of ``tools/cache_teachers.py`` and the labels in
LIST, which is the annotation list of the cache or one with more labels. It
prints how often each teacher is right, how often only this teacher is, how
often the mean of their predictions is, and how often none of them is.
"""

import argparse
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np
from rich.console import Console
from rich.table import Table

from dtkd_mmaction.datasets.annotation_list import read_clip_list
from dtkd_mmaction.teachers.teacher_cache import TeacherCache

LOGITS = '.logits'


def agreement(
    logits: Dict[str, np.ndarray], labels: np.ndarray
) -> List[Tuple[str, float, Optional[float]]]:
    """Compares the teachers' predictions with the labels.

    Args:
        logits (dict[str, ndarray]): Teacher -> logits, (n, N).
        labels (ndarray): (n,)

    Returns:
        list[tuple]: A row for every teacher, their mean and none of them:
            name, share of the clips with a right prediction, and share that
            this teacher alone predicts right (None for the last two rows).
    """
    right = {t: z.argmax(1) == labels for t, z in logits.items()}
    count = sum(right.values())
    mean = sum(softmax(z) for z in logits.values()).argmax(1) == labels
    return [
        *(
            (t, hits.mean(), (hits & (count == 1)).mean())
            for t, hits in right.items()
        ),
        ('mean of their probabilities', mean.mean(), None),
        ('none', (count == 0).mean(), None),
    ]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Computes the softmax of rows, in float64."""
    logits = logits.astype(np.float64)
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def read_labels(path: str, samples: int) -> np.ndarray:
    """Reads the labels of a cache's clips; -1 is none.

    Raises:
        SystemExit: If the list is damaged or has another length.
    """
    clips, problems = read_clip_list(path)
    if problems:
        raise SystemExit(f'{path}: {problems[0]}')
    if len(clips) != samples:
        raise SystemExit(
            f'{path}: {len(clips)} clips, but the cache has {samples}. Give '
            'the list that the cache was made for, or one with the same '
            'clips and more labels.'
        )
    return np.array([clip.labels[0] for clip in clips])


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Runs the tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('cache', metavar='CACHE')
    parser.add_argument('list', metavar='LIST')
    parser.add_argument(
        '--unlabelled-in',
        metavar='LIST',
        help='only clips with the label -1 in this list',
    )
    args = parser.parse_args(argv)
    cache = TeacherCache(args.cache, {})
    samples, views = cache.manifest['samples'], cache.manifest['views']
    labels = read_labels(args.list, samples)
    kept = labels >= 0
    if args.unlabelled_in:
        kept &= read_labels(args.unlabelled_in, samples) < 0
    if not kept.any():
        raise SystemExit('No clip is left: the lists have no label for it.')
    logits: Dict[str, list] = {}
    for view in range(views):
        records = cache.records([(i, view) for i in np.flatnonzero(kept)])
        for field in records.dtype.names:
            if field.endswith(LOGITS):
                name = field[: -len(LOGITS)]
                logits.setdefault(name, []).append(records[field])
    rows = agreement(
        {name: np.concatenate(parts) for name, parts in logits.items()},
        np.tile(labels[kept], views),
    )
    table = Table(title=f'{kept.sum()} clips, {views} views of each')
    table.add_column('teacher')
    table.add_column('right %', justify='right')
    table.add_column('only this one %', justify='right')
    for name, share, alone in rows:
        alone_cell = '' if alone is None else f'{100 * alone:.1f}'
        table.add_row(name, f'{100 * share:.1f}', alone_cell)
    Console().print(table)


if __name__ == '__main__':
    main()
