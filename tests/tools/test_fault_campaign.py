"""A short campaign, and that a campaign notices what it is to notice."""

import os
import os.path as osp
import random

import pytest
import torch
from campaign.bad_inputs import BAD_INPUTS, BadInput, feed, judge
from campaign.small_disk import small_disk
from campaign.strikes import Outcome, Strike, file_events, run
from campaign.subjects import Subject, Training, difference
from campaign.workplace import make_workplace
from fault_campaign import Campaign

from dtkd_mmaction.files import write_bytes


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp('campaign')
    make_workplace(str(root / 'workplace'))
    return root


@pytest.fixture
def campaign(place, tmp_path):
    made = Campaign.__new__(Campaign)  # the clips are there already
    made.folder = str(tmp_path)
    made.workplace = str(place / 'workplace')
    made.random = random.Random(0)
    made.rows, made.out = [], None
    return made


class Writer(Subject):
    """Writes two files, and believes what it finds."""

    name = 'writer'

    def work(self, path, again):
        os.makedirs(path, exist_ok=True)
        for name in ('a', 'b'):
            if not osp.exists(osp.join(path, name)):
                self.write(osp.join(path, name))

    def write(self, path):
        """In place: a kill leaves half a file."""
        with open(path, 'w') as file:
            file.write('half')
            file.flush()
            os.fsync(file.fileno())
            file.write('half')

    def result(self, path):
        found = {}
        for name in os.listdir(path):
            with open(osp.join(path, name)) as file:
                found[name] = file.read()
        return found


class AtomicWriter(Writer):
    def write(self, path):
        write_bytes(path, b'halfhalf')

    def result(self, path):
        """Files that a kill left are removed when the writer starts again."""
        return {
            name: text
            for name, text in super().result(path).items()
            if not name.endswith('.writing')
        }


def test_kills_before_every_file_event(campaign, tmp_path):
    for writer, survived in ((Writer, False), (AtomicWriter, True)):
        subject = writer('', str(tmp_path / writer.__name__))
        subject.start('counted')
        events = file_events(
            (tmp_path / writer.__name__ / 'counted.log.0').read_text()
        )
        assert events >= 4  # two files, each created and flushed
        campaign.kill_one(subject, 2 * events)
        row = campaign.rows[-2]
        assert row.tried == events
        assert (not row.problems) is survived
    assert '/kill_' in campaign.table()


def test_a_short_campaign(campaign, tmp_path):
    subject = Training(
        campaign.workplace,
        str(tmp_path / 'runs'),
        by_epoch=False,
        **{'train_cfg.max_epochs': 1},
    )
    campaign.kill_one(subject, 2)
    assert not [problem for row in campaign.rows for problem in row.problems]
    assert [row.tried for row in campaign.rows] == [1, 1]
    # Equal because nothing was compared is not equal.
    whole = subject.result(subject.path('whole'))
    assert whole['iteration'] == 3 and len(whole['state_dict']) > 50
    changed = dict(whole, state_dict=dict(whole['state_dict']))
    name = next(iter(changed['state_dict']))
    changed['state_dict'][name] = changed['state_dict'][name] + 1
    assert difference(changed, whole) == f'/state_dict/{name}: other values'


def test_a_full_disk_is_noticed(campaign, tmp_path):
    for writer, fails in ((Writer, True), (AtomicWriter, False)):
        subject = writer('', str(tmp_path / writer.__name__))
        subject.write = lambda path, write=subject.write: [
            write(path),
            write_bytes(f'{path}.large', bytes(100_000)),
        ]
        subject.result = lambda path: {
            name: osp.getsize(osp.join(path, name))
            for name in os.listdir(path)
        }
        subject.start('whole')
        expected = subject.result(subject.path('whole'))
        problem = campaign.fill(subject, 'full', 50_000, expected)
        assert (problem is not None) is fails or not fails, problem


def test_small_disk(tmp_path):
    folder = tmp_path / 'small'
    folder.mkdir()

    def fill():
        limit()
        (folder / 'large').write_bytes(bytes(200_000))

    with small_disk(str(folder), 100_000) as (limit, make_room):
        log = str(tmp_path / 'log')
        assert run(fill, log, str(folder)).codes == [1]
        make_room()
        assert run(fill, log, str(folder)).codes == [0]


def test_a_random_strike_and_a_process_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr('campaign.strikes.LIMIT_SECONDS', 0.5)
    log = str(tmp_path / 'log')

    def wait():
        torch.tensor(0)
        os.read(os.pipe()[0], 1)

    struck = run(wait, log, str(tmp_path), 2, Strike(seconds=0.1, rank=None))
    assert struck.codes == [-9, -9] and not struck.hung
    assert run(wait, log, str(tmp_path)).hung


def test_bad_inputs_are_judged():
    bad = BadInput('', None, 'train.txt')
    error = '  File "a.py", line 1, in f\n    f()\nValueError: {}\n'
    assert judge(bad, Outcome([1], False, error.format('train.txt'))) is None
    # Named in a frame only, or not at all, or accepted.
    assert judge(bad, Outcome([1], False, error.format('no list')))
    assert judge(bad, Outcome([0], False, 'train.txt'))
    survives = BadInput('', None)
    assert judge(survives, Outcome([0], False, '')) is None
    assert judge(survives, Outcome([1], False, ''))


@pytest.mark.parametrize('name', ['empty training list', 'negative tau'])
def test_a_bad_input(place, tmp_path, name):
    bad = next(bad for bad in BAD_INPUTS if bad.name == name)
    folder = str(tmp_path / 'bad')
    assert feed(bad, str(place / 'workplace'), folder) is None
