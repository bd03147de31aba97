"""Table of what was deployed: accuracy, agreement, size and speed."""

import os.path as osp
from typing import Any, Dict, List

from dtkd_mmaction.deployment import Comparison

COLUMNS = (
    'runtime',
    'file',
    'MB',
    'top-1',
    'agreement',
    'largest difference',
    'latency',
    'p95',
    'clips/s',
)


def as_dict(result: Comparison) -> Dict[str, Any]:
    """Returns a row for JSON; seconds, bytes and shares from 0 to 1."""
    return dict(
        runtime=result.name,
        file=osp.basename(result.path),
        bytes=file_bytes(result.path),
        accuracy=result.accuracy,
        metrics=result.metrics,
        agreement=result.agreement,
        largest_difference=result.difference,
        latency_median=result.median,
        latency_p95=result.p95,
        throughput=result.throughput,
    )


def file_bytes(path: str) -> int:
    """Returns the size of a model, of OpenVINO's weights as well."""
    sizes = osp.getsize(path)
    if path.endswith('.xml'):
        sizes += osp.getsize(f'{osp.splitext(path)[0]}.bin')
    return sizes


def markdown(results: List[Comparison]) -> str:
    """Returns the table in Markdown, aligned so that it prints well."""
    rows = [list(COLUMNS)] + [
        [
            result.name,
            osp.basename(result.path),
            f'{file_bytes(result.path) / 1e6:.2f}',
            f'{100 * result.accuracy:.1f} %',
            f'{100 * result.agreement:.1f} %',
            f'{result.difference:.1e}',
            f'{1000 * result.median:.1f} ms',
            f'{1000 * result.p95:.1f} ms',
            f'{result.throughput:.1f}',
        ]
        for result in results
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    rows.insert(1, ['-' * width for width in widths])
    return '\n'.join(
        f'| {" | ".join(cell.ljust(w) for cell, w in zip(row, widths))} |'
        for row in rows
    )


def losers(results: List[Comparison], max_drop: float) -> List[str]:
    """Returns a sentence per file that loses too much accuracy.

    Args:
        results (list[Comparison]): The first is the reference.
        max_drop (float): Percentage points of the first metric.
    """
    reference = results[0].accuracy
    return [
        f'{result.path} in {result.name} loses '
        f'{100 * (reference - result.accuracy):.1f} points of accuracy '
        f'({100 * result.accuracy:.1f} instead of {100 * reference:.1f}); '
        f'--max-drop allows {max_drop:g}.'
        for result in results
        if not 100 * (reference - result.accuracy) <= max_drop
    ]
