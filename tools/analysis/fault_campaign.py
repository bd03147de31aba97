"""Kills trainings, fills disks, uses broken files, and counts survivals.

    python tools/analysis/fault_campaign.py --kills 100 --out campaign.md

Tiny trainings (one and two processes), writers of a teacher cache and exports
are killed before each of their file events and at random moments, and started
again. A run "survives" if its results equal those of an undisturbed run bit
for bit, if no process hangs, and if no temporary file remains. The exit status
is 1 if something did not survive; its folder is then kept and named.

Needs no GPU, no data and no network. A kill and its resume take a few seconds.
"""

import argparse
import itertools
import os
import os.path as osp
import random
import shutil
import sys
import tempfile
import time
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

TOOLS = osp.dirname(osp.dirname(osp.abspath(__file__)))
sys.path.insert(0, TOOLS)

import torch  # noqa: E402
from campaign.bad_inputs import (  # noqa: E402
    BAD_INPUTS,
    feed,
    finish_workplace,
    last_line,
)
from campaign.small_disk import small_disk  # noqa: E402
from campaign.strikes import Strike, file_events  # noqa: E402
from campaign.subjects import (  # noqa: E402
    CacheWriter,
    Export,
    Subject,
    Training,
    difference,
)
from campaign.workplace import make_workplace  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402

from dtkd_mmaction.files import write_text  # noqa: E402

# Share of the kills that each subject gets.
SHARES = dict(epoch=0.25, iteration=0.25, two=0.25, cache=0.15, export=0.1)
PARTS = ('kills', 'disks', 'inputs')
# Sizes of the full disk, as fractions of what an undisturbed run writes.
DISKS = (0.1, 0.4, 0.7)


class Row:
    """One row of the table: a fault, and how often it was survived."""

    def __init__(self, what: str, how: str) -> None:
        self.what, self.how = what, how
        self.tried = 0
        self.problems: List[str] = []

    def add(self, problem: Optional[str]) -> None:
        """Counts one attempt; None means that it survived."""
        self.tried += 1
        if problem is not None:
            self.problems.append(problem)
            print(f'  NOT SURVIVED: {problem}', flush=True)

    def __str__(self) -> str:
        survived = self.tried - len(self.problems)
        return f'| {self.what} | {self.how} | {self.tried} | {survived} |'


class Campaign:
    """Runs all parts and collects the rows.

    Args:
        folder (str): Folder for all files.
        seed (int): Seed of the random moments.
        out (str, optional): File for the table, updated after every part.
    """

    def __init__(
        self, folder: str, seed: int, out: Optional[str] = None
    ) -> None:
        self.out = out
        self.folder = folder
        self.workplace = osp.join(folder, 'workplace')
        self.random = random.Random(seed)
        self.rows: List[Row] = []
        make_workplace(self.workplace)

    def subjects(self) -> Dict[str, Subject]:
        """Returns everything that is killed, by its key in SHARES."""

        def folder(name: str) -> Tuple[str, str]:
            return self.workplace, osp.join(self.folder, name)

        return dict(
            epoch=Training(*folder('epoch')),
            iteration=Training(*folder('iteration'), by_epoch=False),
            two=Training(*folder('two'), by_epoch=False, ranks=2),
            cache=CacheWriter(*folder('cache')),
            export=Export(
                *folder('export'),
                run=Training(*folder('exported')),
            ),
        )

    def kill(self, kills: int, keys: Sequence[str]) -> None:
        """Kills some subjects; ``kills`` counts all of SHARES."""
        for key, subject in self.subjects().items():
            if key not in keys:
                continue
            count = max(2, round(SHARES[key] * kills))
            print(f'{subject.name}: {count} kills', flush=True)
            self.kill_one(subject, count)
            self.save()

    def kill_one(self, subject: Subject, count: int) -> None:
        """Kills one subject, before file events and at random moments."""
        begun = time.monotonic()
        whole = subject.start('whole')
        seconds = time.monotonic() - begun
        if any(whole.codes):
            raise RuntimeError(f'{subject.name} fails:\n{whole.log}')
        expected = subject.result(subject.path('whole'))
        events = file_events(whole.log)
        self.rows += [Row(subject.name, f'before its {events} file events')]
        self.rows += [Row(subject.name, 'at random moments')]
        by_event = (count + 1) // 2
        strikes = [*self._events(events, by_event, subject.ranks)]
        strikes += [
            Strike(
                seconds=self.random.uniform(0.05, seconds),
                rank=self.random.choice([*range(subject.ranks), None]),
            )
            for _ in range(count - by_event)
        ]
        for number, strike in enumerate(strikes):
            row = self.rows[-2 if number < by_event else -1]
            row.add(self.strike(subject, f'kill_{number}', strike, expected))

    def _events(self, events: int, count: int, ranks: int) -> Iterator[Strike]:
        """Chooses file events; none twice before all were used."""
        rounds = itertools.cycle([range(1, events + 1)])
        chosen: List[int] = []
        while len(chosen) < count:
            numbers = list(next(rounds))
            self.random.shuffle(numbers)
            chosen += numbers
        # The first process writes the files; the others end when it is killed.
        return (Strike(event=number, rank=0) for number in chosen[:count])

    def strike(
        self, subject: Subject, name: str, strike: Strike, expected: dict
    ) -> Optional[str]:
        """Kills one run, starts it again and compares.

        Returns:
            str, optional: The problem.
        """
        first = subject.start(name, strike=strike)
        place = f'{subject.path(name)}, {strike}'
        if first.hung:
            return f'{place}: it did not end'
        again = subject.start(name, again=True)
        if any(again.codes) or again.hung:
            return f'{place}: {last_line(again.log)}'
        found = difference(subject.result(subject.path(name)), expected)
        if found is None:
            shutil.rmtree(subject.path(name))
            return None
        return f'{place}: {found}'

    def fill_disks(self) -> None:
        """Fills the disk, frees space and starts again."""
        for key in ('epoch', 'cache', 'export'):
            subject = self.subjects()[key]
            if not osp.isdir(subject.path('whole')):
                subject.start('whole')
            expected = subject.result(subject.path('whole'))
            needed = subject.written(subject.path('whole'))
            row = Row(subject.name, 'on a full disk')
            self.rows.append(row)
            print(f'{subject.name}: full disks', flush=True)
            for number, share in enumerate(DISKS):
                name = f'disk_{number}'
                row.add(
                    self.fill(subject, name, int(share * needed), expected)
                )

    def fill(
        self, subject: Subject, name: str, size: int, expected: dict
    ) -> Optional[str]:
        """Runs a subject on a disk of some bytes, then on a larger one."""
        path = subject.path(name)
        os.makedirs(path)
        if isinstance(subject, Export):  # plus its checkpoint
            size += osp.getsize(subject.checkpoint())
        with small_disk(path, size) as (limit, make_room):
            work = subject.work

            def limited(*arguments) -> None:
                limit()
                work(*arguments)

            subject.work = limited
            first = subject.start(name)
            place = f'{path}, disk of {size} bytes'
            if not any(first.codes):
                return f'{place}: nothing was noticed'
            if 'space' not in first.log and 'too large' not in first.log:
                return f'{place}: no word of space: {last_line(first.log)}'
            if any('.writing' in file for file in os.listdir(path)):
                return f'{place}: a temporary file stays'
            make_room()
            again = subject.start(name, again=True)
            if any(again.codes):
                return f'{place}: {last_line(again.log)}'
            found = difference(subject.result(path), expected)
            return None if found is None else f'{place}: {found}'

    def feed_inputs(self, count: Optional[int] = None) -> None:
        """Trains with every broken file and wrong option."""
        place = osp.join(self.folder, 'bad', 'workplace')
        make_workplace(place)
        finish_workplace(place)
        row = Row('training', 'bad inputs')
        self.rows.append(row)
        for number, bad in enumerate(BAD_INPUTS[:count]):
            print(f'bad input: {bad.name}', flush=True)
            folder = osp.join(self.folder, 'bad', str(number))
            problem = feed(bad, place, folder)
            row.add(problem and f'{bad.name} ({folder}): {problem}')
            if problem is None:
                shutil.rmtree(folder)

    def save(self) -> None:
        """Writes the table so far."""
        if self.out:
            write_text(self.out, self.table() + '\n')

    def table(self) -> str:
        """Returns all rows as Markdown, and all failures."""
        lines = ['| what | how | tried | survived |', '|---|---|---|---|']
        lines += map(str, self.rows)
        lines += [''] + [p for row in self.rows for p in row.problems]
        return '\n'.join(lines)


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('--kills', type=int, default=100)
    parser.add_argument('--seed', type=int, default=0, help='of the moments')
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=PARTS)
    parser.add_argument(
        '--kill',
        nargs='+',
        choices=list(SHARES),
        default=list(SHARES),
        help='what is killed; each gets its share of --kills',
    )
    parser.add_argument('--inputs', type=int, help='only the first N of them')
    parser.add_argument('--folder', help='default: a temporary one')
    parser.add_argument('--out', help='Markdown file for the table')
    return parser.parse_args()


def main() -> None:
    """Runs the campaign and prints the table."""
    args = parse_args()
    begun = time.monotonic()
    torch.set_num_threads(1)
    init_default_scope('mmaction')
    folder = args.folder or tempfile.mkdtemp(prefix='fault_campaign_')
    campaign = Campaign(folder, args.seed, args.out)
    parts: Dict[str, Callable[[], None]] = dict(
        kills=lambda: campaign.kill(args.kills, args.kill),
        disks=campaign.fill_disks,
        inputs=lambda: campaign.feed_inputs(args.inputs),
    )
    for part in args.parts:
        parts[part]()
        campaign.save()
    minutes = (time.monotonic() - begun) / 60
    print(f'{campaign.table()}\n\n{minutes:.0f} minutes, seed {args.seed}.')
    if any(row.problems for row in campaign.rows):
        sys.exit(1)
    if not args.folder:
        shutil.rmtree(folder)


if __name__ == '__main__':
    main()
