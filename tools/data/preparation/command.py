"""Options and final steps of every ``prepare.py``."""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Callable, List, Optional, Sequence

from .errors import PreparationError
from .limits import ALWAYS_ALLOWED, LARGEST_RATIO
from .report import ClipList, Report, index_clips, write_lines

CHECK_CLIPS = Path(__file__).resolve().parents[1] / 'check_clips.py'


def parse_args(
    description: str,
    name: str,
    argv: Optional[Sequence[str]],
    can_download: bool = True,
) -> argparse.Namespace:
    """Parses the command line of a ``prepare.py``.

    Args:
        description (str): First line of its help.
        name (str): Name of the data set; the default output is
            ``data/<name>``.
        argv (sequence[str], optional): Arguments; None for the command line.
        can_download (bool): Whether ``--download`` can fetch something.
            Defaults to True.

    Returns:
        Namespace: ``archives`` and ``out`` are ``Path``; ``max_unpacked`` is
        in bytes, or None.
    """
    parser = argparse.ArgumentParser(
        description=description,
        epilog='It can be stopped and started again at any time.',
    )
    parser.add_argument(
        '--archives',
        type=Path,
        help='folder with what you fetched, archives or what was in them; '
        'default: the output folder',
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('data', name),
        help=f'output folder; default: data/{name}, where the configs look',
    )
    parser.add_argument(
        '--download',
        action='store_true',
        help='first fetch what is not there into --archives'
        if can_download
        else 'say how to fetch it: the licence allows no download here',
    )
    parser.add_argument(
        '--allow-partial',
        action='store_true',
        help='write lists also if clips or classes are missing',
    )
    parser.add_argument(
        '--check-decoding',
        action='store_true',
        help='at last decode every clip with check_clips.py (slow)',
    )
    parser.add_argument(
        '--workers',
        type=int,
        default=1,
        help='archives to unpack, or clips to decode, at once; default 1',
    )
    parser.add_argument(
        '--max-unpacked',
        type=float,
        metavar='GB',
        help='gigabytes that one archive may unpack to; default: '
        f'{LARGEST_RATIO} times its size, and at least '
        f'{ALWAYS_ALLOWED / 1e9:g}',
    )
    args = parser.parse_args(argv)
    if args.workers < 1:
        parser.error(f'--workers {args.workers}: give 1 or more')
    if args.max_unpacked is not None:
        if not 0 < args.max_unpacked < float('inf'):
            parser.error(
                f'--max-unpacked {args.max_unpacked:g}: give gigabytes above 0'
            )
        args.max_unpacked = int(args.max_unpacked * 1e9)
    args.archives = args.archives or args.out
    return args


def finish(
    args: argparse.Namespace, report: Report, clip_lists: List[ClipList]
) -> None:
    """Compares with the official numbers, writes lists, checks clips.

    Args:
        args (Namespace): Result of :func:`parse_args`.
        report (Report): The findings so far.
        clip_lists (list[ClipList]): The lists to write.

    Raises:
        PreparationError: If something is missing without ``--allow-partial``,
            or a clip cannot be decoded.
    """
    folders = {part.folder for part in clip_lists}
    indices = {folder: index_clips(folder) for folder in folders}
    lines = [report.lines(part, indices[part.folder]) for part in clip_lists]
    report.verdict(args.allow_partial)
    for part, rows in zip(clip_lists, lines):
        write_lines(part.path, rows)
        print(f'{part.path}: {len(rows):,} clips')
    check_decoding(args, clip_lists)


def check_decoding(
    args: argparse.Namespace, clip_lists: List[ClipList]
) -> None:
    """Decodes the clips of lists with ``check_clips.py``, or prints how to.

    Raises:
        PreparationError: If some clips cannot be used.
    """
    if not args.check_decoding:
        print('To decode every clip as well, add --check-decoding.')
        return
    bad = []
    for part in clip_lists:
        if not part.path.stat().st_size:
            continue
        # One report per folder: a clip in several lists is decoded once.
        report = args.out / f'{part.folder.name}_report.csv'
        command = [sys.executable, str(CHECK_CLIPS), str(part.path)]
        command += ['--data-prefix', str(part.folder), '--out', str(report)]
        command += ['--workers', str(args.workers)]
        print(f'\nDecoding the clips of {part.path}', flush=True)
        if subprocess.run(command).returncode:
            bad.append(f'{part.path} (see {report})')
    if bad:
        raise PreparationError(f'Clips cannot be used: {", ".join(bad)}')


def run(main: Callable[[], None]) -> None:
    """Runs a ``main``; its errors become a message and exit code 1."""
    for stream in (sys.stdout, sys.stderr):
        # Names of files may not fit the terminal's encoding.
        stream.reconfigure(errors='backslashreplace')
    try:
        main()
    except (PreparationError, OSError) as error:
        sys.exit(f'\n{error}')
    except KeyboardInterrupt:
        sys.exit('\nStopped. The same command continues from here.')
