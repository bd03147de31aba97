"""Computes Table 8: parameters and multiply-adds of every model.

Each model is counted at the clip size of its config. If the paper's figure
belongs to another clip size, the model is counted at that size, too.
"""

import argparse
import os.path as osp
from typing import List, NamedTuple, Optional, Tuple

from mmengine.config import Config
from rich.console import Console
from rich.progress import track

from dtkd_mmaction.files import write_text
from dtkd_mmaction.recognizers.complexity import measure_complexity
from dtkd_mmaction.recognizers.model_spec import set_num_classes, stock_clip

ROOT = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))


KINETICS_HEAD = 'the paper counts the head of Kinetics-400'


class Row(NamedTuple):
    """One line of the paper's Table 8 and the config of its model.

    Attributes:
        model (str): Name in the paper.
        config (str): File in ``configs/teachers``.
        paper_params (float): Parameters in the paper, in millions.
        paper_gmacs (float): 10^9 multiply-adds in the paper.
        paper_clip (tuple, optional): Frames and size that give the paper's
            figure, if they differ from the config's.
        note (str): Why the figures differ.
    """

    model: str
    config: str
    paper_params: float
    paper_gmacs: float
    paper_clip: Optional[Tuple[int, int]] = None
    note: str = ''


ROWS = (
    Row('MViTv2-S', 'mvitv2_s_hmdb51', 34.50, 64.45, note=KINETICS_HEAD),
    Row(
        'UniFormer-B (v1)',
        'uniformer_b_hmdb51',
        49.81,
        96.74,
        note='the paper prints these figures for UniFormerV2-B',
    ),
    Row(
        'UniFormerV2-B',
        'uniformerv2_b_hmdb51',
        49.81,
        96.74,
        note='the paper prints the figures of UniFormer-B v1',
    ),
    Row(
        'TimeSformer',
        'timesformer_hmdb51',
        86.11,
        180,
        note='the paper has the parameters of a ViT-B without temporal '
        'attention; divided attention adds a temporal block to each layer',
    ),
    Row('Swin-B', 'swin_b_hmdb51', 88.05, 282, (32, 224), '32 frames'),
    Row('I3D-R50', 'i3d_r50_hmdb51', 27.33, 33.27, (32, 224), '32 frames'),
    Row(
        'R(2+1)D-34',
        'r2plus1d_r34_hmdb51',
        63.58,
        213,
        (32, 256),
        '32 frames of 256 px',
    ),
    Row(
        'SlowFast-R50',
        'slowfast_r50_hmdb51',
        34.40,
        36.10,
        (32, 256),
        f'32 frames of 256 px; {KINETICS_HEAD}',
    ),
    Row('MoViNet-A2', 'movinet_a2_hmdb51', 4.80, 3.85, note=KINETICS_HEAD),
    Row(
        'X3D-S',
        'x3d_s_hmdb51',
        3.76,
        2.45,
        note=f'{KINETICS_HEAD}; 0.08 of ours are BatchNorm',
    ),
    Row('X3D-M', 'x3d_m_hmdb51', float('nan'), float('nan')),
)
HEAD = (
    'model',
    'clip',
    'M parameters',
    'with 400 classes',
    'paper',
    'GMACs',
    'paper',
    "at the paper's clip",
    'note',
)


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', help='Markdown file to write as well')
    return parser.parse_args()


def number(value: float, digits: int = 2) -> str:
    """Formats a figure; returns an empty text for nan."""
    return f'{value:.{digits}f}' if value == value else ''


def cells(row: Row) -> List[str]:
    """Computes the cells of one row."""
    path = osp.join(ROOT, f'configs/teachers/{row.config}.py')
    config = Config.fromfile(path)
    clip = stock_clip(config)
    own = measure_complexity(config, clip['frames'], clip['size'])
    there = ''
    if row.paper_clip is not None:
        frames, size = row.paper_clip
        macs = measure_complexity(config, frames, size).macs
        there = f'{macs / 1e9:.2f} ({frames}x{size}x{size})'
    set_num_classes(config.model, 400)
    kinetics = measure_complexity(config, clip['frames'], clip['size'])
    return [
        row.model,
        f'{clip["frames"]}x{clip["size"]}x{clip["size"]}',
        number(own.parameters / 1e6),
        number(kinetics.parameters / 1e6),
        number(row.paper_params),
        number(own.macs / 1e9),
        number(row.paper_gmacs),
        there,
        row.note,
    ]


def main() -> None:
    """Prints the table and writes the page if ``--out`` is given."""
    args = parse_args()
    lines = [HEAD, ('---',) * len(HEAD)]
    lines += [cells(row) for row in track(ROWS, 'Counting')]
    text = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
    Console(soft_wrap=True, highlight=False).print(text, markup=False)
    if args.out:
        write_text(
            args.out,
            '# Complexity of the models\n\n'
            'Compare the cost of all models (Table 8 of the paper). The '
            'table is the output of\n\n'
            '    python tools/analysis/complexity.py --out '
            'docs/complexity.md\n\n'
            '- **GMACs** are 10^9 multiply-adds of one forward pass on '
            'one clip, counted by MMEngine. The clip is that of the '
            "model's config in `configs/teachers`.\n"
            '- **M parameters** are 10^6 parameters with a head for the '
            '51 classes of HMDB51; the next column has a head for 400 '
            'classes.\n'
            "- **at the paper's clip**: GMACs at the clip size to which "
            "the paper's figure belongs, if it is another one.\n\n"
            f'{text}\n',
        )


if __name__ == '__main__':
    main()
