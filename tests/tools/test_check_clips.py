"""Every bad clip is found, and none of them ends the run."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import check_clips as tool
import numpy as np
import pytest
from clip_workers import clip_path, read_list, run_on_clips
from numbered_clips import AWKWARD, H264, RIGHT, WRONG, av, write_clip

ROOT = Path(__file__).resolve().parents[2]

# Two are wrong: B-frames of MPEG-4 in an AVI.
AWKWARD_STATUS = {'odd_size.avi': 'wrong frames', 'ntsc.avi': 'wrong frames'}
EXPECTED = {
    **{f'wrong/{name}': 'wrong frames' for name in WRONG},
    **{f'right/{name}': 'ok' for name in RIGHT},
    **{f'odd/{name}': AWKWARD_STATUS.get(name, 'ok') for name in AWKWARD},
    'repeating.ts': 'wrong frames',
    'no_times.avi': 'unsafe',
    'zero.mp4': 'empty',
    'random.mp4': 'unreadable',
    'sound.mp4': 'unreadable',
    'no_frames.mp4': 'unreadable',
    'cut.mp4': 'unreadable',
    'cut.avi': 'crashed',
    'pipe.mp4': 'unreadable',
    'endless.mp4': 'unreadable',
    'absent.mp4': 'missing',
    'default_extension': 'ok',
}


def write_sound(path):
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('aac', rate=44100)
        for i in range(10):
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), 'fltp', 'mono'
            )
            frame.rate, frame.pts = 44100, i * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_all(folder):
    for kind, clips in (('wrong', WRONG), ('right', RIGHT)):
        for name, (codec, options) in clips.items():
            write_clip(folder / kind / name, codec, options)
    for name, (codec, options, others) in AWKWARD.items():
        write_clip(folder / 'odd' / name, codec, options, **others)
    write_clip(folder / 'repeating.ts')
    # One key frame: nothing is sought, and the skipping goes well.
    no_times = {**H264, 'g': '250', 'bf': '0'}
    write_clip(folder / 'no_times.avi', options=no_times, count=5)
    write_clip(folder / 'default_extension.mp4')
    (folder / 'zero.mp4').touch()
    (folder / 'random.mp4').write_bytes(np.random.default_rng(0).bytes(5000))
    write_sound(folder / 'sound.mp4')
    write_clip(folder / 'no_frames.mp4', count=0)
    for source, share in (
        ('right/h264_b_frames.mp4', 0.5),
        ('right/mjpeg.avi', 0.6),
    ):
        data = (folder / source).read_bytes()
        cut = folder / ('cut' + os.path.splitext(source)[1])
        cut.write_bytes(data[: int(len(data) * share)])
    os.mkfifo(folder / 'pipe.mp4')  # a reader would wait for ever
    (folder / 'endless.mp4').symlink_to('/dev/zero')


def run(folder, *options):
    return subprocess.run(
        [
            sys.executable,
            str(ROOT / 'tools/data/check_clips.py'),
            'list.txt',
            '--data-prefix',
            'clips',
            '--timeout',
            '2',
            *options,
        ],
        cwd=folder,
        env=dict(os.environ, COLUMNS='200'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_rows(path):
    with open(path, newline='') as file:
        return {
            row['clip'][len('clips/') :]: row for row in csv.DictReader(file)
        }


@pytest.fixture(scope='module')
def checked(tmp_path_factory):
    """A folder with all kinds of clips, and one run over them."""
    folder = tmp_path_factory.mktemp('check')
    (folder / 'clips').mkdir()
    write_all(folder / 'clips')
    names = sorted(EXPECTED)  # so good ones follow bad ones
    (folder / 'list.txt').write_text(
        ''.join(f'{name} {i % 3}\n' for i, name in enumerate(names))
    )
    return folder, run(folder, '--write-list', 'good.txt', '--workers', '2')


def expected_rows():
    names = {'default_extension': 'default_extension.mp4'}
    return {names.get(k, k): v for k, v in EXPECTED.items()}


def test_exactly_the_bad_ones_are_found(checked):
    folder, done = checked
    rows = read_rows(folder / 'list_report.csv')
    assert {k: row['status'] for k, row in rows.items()} == expected_rows()
    assert done.returncode == 1


def test_the_report_tells_more(checked):
    folder, _ = checked
    rows = read_rows(folder / 'list_report.csv')
    assert rows['cut.avi']['detail'] == 'SIGSEGV'
    for name, kind in (('pipe.mp4', 'pipe'), ('endless.mp4', 'device')):
        assert rows[name]['detail'].endswith(f'a regular file but a {kind}')
    assert 'repeats frames' in rows['repeating.ts']['detail']
    assert 'presentation times' in rows['no_times.avi']['detail']
    wrong = rows['wrong/h264_b_frames.avi']['detail']
    assert wrong == '16 of 20 frames after a seek or a skip'
    row = rows['odd/ntsc.avi']
    assert row['frames'] == '60'
    assert row['fps'] == '29.97'
    assert (row['width'], row['height']) == ('96', '64')
    assert rows['odd/turned.mp4']['width'] == '64'


def test_the_summary_counts_and_advises(checked):
    _, done = checked
    statuses = list(EXPECTED.values())
    for status in set(statuses):
        assert f'| {statuses.count(status):<5} | {status} ' in done.stdout
    assert (
        'To re-encode: python tools/data/reencode_clips.py list.txt '
        '--data-prefix clips --out OUT' in done.stdout
    )
    assert f'Checked {len(EXPECTED)} clips in' in done.stdout


def test_the_list_of_good_clips(checked):
    folder, _ = checked
    lines = (folder / 'list.txt').read_text().splitlines()
    good = [x for x in lines if EXPECTED[x.split()[0]] == 'ok']
    assert (folder / 'good.txt').read_text().splitlines() == good


def test_a_stopped_run_goes_on(tmp_path):
    """Only what is not known, was cut off or has changed is read again."""
    (tmp_path / 'clips').mkdir()
    for name in ('a', 'b', 'c', 'd'):
        write_clip(tmp_path / 'clips' / f'{name}.mp4', count=8)
    (tmp_path / 'list.txt').write_text('a.mp4 0\nb.mp4 0\nc.mp4 0\nd.mp4 0\n')
    assert run(tmp_path).returncode == 0
    report = tmp_path / 'list_report.csv'
    header, first, second, third, _ = report.read_text().splitlines()
    # The file of the first has changed, the second is marked to see that it
    # is kept, the third was being written.
    first, second = first + '7', second.replace('ok,', 'ok,kept')
    report.write_text('\n'.join([header, first, second, third[:-3]]))
    done = run(tmp_path)
    assert 'Checked 3 clips' in done.stdout
    assert '1 known from before' in done.stdout
    details = [row['detail'] for row in read_rows(report).values()]
    assert sorted(details) == ['', '', '', 'kept']

    (tmp_path / 'clips' / 'b.mp4').write_bytes(b'')
    done = run(tmp_path)
    assert done.returncode == 1
    assert 'Checked 1 clips' in done.stdout
    assert read_rows(report)['b.mp4']['status'] == 'empty'


def test_the_report_of_something_else_is_left_alone(checked, tmp_path):
    folder, _ = checked
    table = tmp_path / 'table.csv'
    table.write_text('name,score\nx,1\n')
    done = run(folder, '--out', str(table))
    assert 'is not a report of check_clips.py' in done.stdout
    assert table.read_text() == 'name,score\nx,1\n'


def test_every_seek_and_every_stride():
    requests = [list(map(int, x)) for x in tool.pieces([0, 6, 7], 13)]
    assert requests == [[12], [7, 11], [6], [5], [0, 4]]
    asked = [x for x in tool.pieces([0], 1000)]
    assert max(map(len, asked)) == tool.CLIP_LENGTH
    assert sorted(np.concatenate(asked)) == [*range(0, 999, 4), 999]
    assert [list(x) for x in tool.pieces([], 1)] == [[0]]


# What worker processes run; they import this module.
def job(what, alive):
    if what == 'crash':
        os.abort()
    if what == 'leave':
        os._exit(3)
    if what == 'raise':
        raise ValueError('no\x00 good\nat all')
    if what == 'hang':
        time.sleep(60)
    if what == 'slow':
        for _ in range(8):
            time.sleep(0.25)
            alive()
    print('noise')
    return dict(status='ok', detail=str(os.getpid()))


def test_workers_survive_their_jobs():
    jobs = ['fine', 'crash', 'slow', 'leave', 'raise', 'hang', 'fine too']
    results = dict(run_on_clips(job, jobs, workers=2, timeout=1.5))
    assert {k: v['status'] for k, v in results.items()} == {
        'fine': 'ok',
        'crash': 'crashed',
        'slow': 'ok',
        'leave': 'crashed',
        'raise': 'failed',
        'hang': 'hung',
        'fine too': 'ok',
    }
    assert results['crash']['detail'] == 'SIGABRT'
    assert results['leave']['detail'] == 'exit status 3'
    assert results['raise']['detail'] == 'ValueError: no? good'


def test_a_worker_is_kept_from_clip_to_clip(capfd):
    results = dict(run_on_clips(job, ['a', 'b', 'c'], 1, timeout=10))
    pids = {result['detail'] for result in results.values()}
    assert len(pids) == 1
    assert os.getpid() not in map(int, pids)
    assert 'noise' not in capfd.readouterr().out


def test_a_worker_that_dies_between_two_clips_blames_none_of_them():
    results = run_on_clips(job, ['a', 'b'], 1, timeout=10)
    _, first = next(results)
    os.kill(int(first['detail']), signal.SIGKILL)
    time.sleep(0.2)
    _, second = next(results)
    assert second['status'] == 'ok'
    assert second['detail'] != first['detail']


@pytest.mark.parametrize(
    'text, delimiter, message',
    [
        ('', ' ', 'is empty'),
        ('a b.mp4 0\n', ' ', "line 1 is 'a b.mp4 0'.*--delimiter"),
        ('x.mp4 1\ny.mp4\n', ' ', "line 2 is 'y.mp4'"),
    ],
)
def test_bad_lists(tmp_path, text, delimiter, message):
    (tmp_path / 'list.txt').write_text(text)
    with pytest.raises(ValueError, match=f'LIST.*list.txt.*{message}'):
        read_list(str(tmp_path / 'list.txt'), delimiter)


def test_lists_in_other_encodings(tmp_path):
    path = tmp_path / 'list.txt'
    path.write_bytes(b'\xef\xbb\xbfx.mp4 1\n')
    assert read_list(str(path)) == [('x.mp4', '1')]
    path.write_bytes(b'x.mp4 1\ncaf\xe9.mp4 1\n')
    with pytest.raises(ValueError, match='LIST.*line 2: the byte 0xe9'):
        read_list(str(path))


@pytest.mark.parametrize('name', ['check_clips', 'reencode_clips'])
def test_a_wrong_input_becomes_a_message(tmp_path, name):
    (tmp_path / 'list.txt').write_bytes(b'\xff\xfe1 1\n')
    command = [sys.executable, str(ROOT / f'tools/data/{name}.py'), 'list.txt']
    done = subprocess.run(
        [*command, '--out', 'out'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert 'LIST: list.txt, line 1: the byte 0xff' in done.stderr
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize('content', [b'clip,status\n', b'\xff', b'\0'])
def test_a_file_that_is_no_report(tmp_path, content):
    (tmp_path / 'report.csv').write_bytes(content)
    with pytest.raises(ValueError, match='--out: .* is not a report'):
        tool.read_report(str(tmp_path / 'report.csv'))


def test_lists(tmp_path):
    path = tmp_path / 'list.txt'
    with pytest.raises(FileNotFoundError, match='LIST.*does not exist'):
        read_list(str(path))
    path.write_text('a b.mp4,3\n\nc.mp4,4,5\n')
    assert read_list(str(path), ',') == [('a b.mp4', '3'), ('c.mp4', '4,5')]
    assert clip_path('x', 'a.avi') == 'x/a.avi'
    assert clip_path('x.y', 'a') == 'x.y/a.mp4'
