"""Writes a reproducible part of a list of clips.

    python tools/data/subset_list.py data/ucf6/ucf6_train_split1.txt \\
        data/ucf6/ucf6_train_133.txt --every 4

keeps every fourth line, starting with the first. With ``--unlabelled``, the
other lines are kept with the label -1, which means "unlabelled".
"""

import argparse
import sys
from pathlib import Path
from typing import List, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dtkd_mmaction.files import write_text  # noqa: E402


def subset(lines: List[str], every: int, unlabelled: bool) -> List[str]:
    """Returns every n-th line, or all lines with labels for every n-th.

    Args:
        lines (list[str]): Lines ``path label``.
        every (int): n.
        unlabelled (bool): Whether to keep the other lines with the label -1.
    """
    if not unlabelled:
        return lines[::every]
    return [
        line if i % every == 0 else f'{line.rsplit(maxsplit=1)[0]} -1'
        for i, line in enumerate(lines)
    ]


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('source', type=Path, help='list to read')
    parser.add_argument('out', type=Path, help='list to write')
    parser.add_argument('--every', type=int, required=True, metavar='N')
    parser.add_argument(
        '--unlabelled',
        action='store_true',
        help='keep the other lines with the label -1',
    )
    args = parser.parse_args(argv)
    if args.every < 1:
        parser.error(f'--every {args.every}: at least 1 is needed')
    return args


def main(argv: Optional[List[str]] = None) -> None:
    """Runs the tool."""
    args = parse_args(argv)
    lines = [x for x in args.source.read_text().splitlines() if x.strip()]
    kept = subset(lines, args.every, args.unlabelled)
    write_text(args.out, '\n'.join(kept) + '\n')
    labelled = len(lines[:: args.every])
    print(f'{args.out}: {len(kept)} clips, {labelled} of them labelled')


if __name__ == '__main__':
    main()
