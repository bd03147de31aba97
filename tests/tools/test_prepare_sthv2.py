"""Something-Something V2 from its parts: lists, labels, a kill in between."""

import io
import json
import random
import signal
import subprocess
import sys
import tarfile
import time

import pytest
from official_layouts import (
    assert_loads,
    base_datasets,
    load_prepare,
    prepare_script,
    rows,
    tar_gz,
    write_clip,
    zip_file,
)

import dtkd_mmaction  # noqa: F401  (registers the data sets)

sthv2 = load_prepare('sthv2')
PreparationError = sthv2.PreparationError

LABELS = {
    'Approaching something with your camera': '0',
    'Lifting something up completely, then letting it drop down': '1',
    'Putting something similar to other things that are already on the '
    'table': '2',
}
TRAIN = {
    '78687': 'Approaching [something] with your camera',
    '100904': 'Putting [something similar to other things that are already '
    'on the table]',
}
VAL = {'74225': 'Lifting [something] up completely, then letting it drop down'}
TEST = ['1420']


def write_labels(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'labels.json').write_text(json.dumps(LABELS))
    for name, clips in (('train', TRAIN), ('validation', VAL)):
        items = [
            dict(
                id=clip,
                label=template.replace('[something]', 'a cup'),
                template=template,
                placeholders=['a cup'],
            )
            for clip, template in clips.items()
        ]
        (folder / f'{name}.json').write_text(json.dumps(items))
    (folder / 'test.json').write_text(json.dumps([dict(id=i) for i in TEST]))


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp('clips')
    for number, name in enumerate([*TRAIN, *VAL, *TEST]):
        write_clip(folder / f'{name}.webm', 50 * number + 30)
    return folder


@pytest.fixture
def archives(clips, tmp_path):
    """The parts and the label files, unwrapped."""
    folder = tmp_path / 'fetched'
    write_labels(folder / 'labels')
    whole = tar_gz(
        tmp_path / 'whole.tar.gz',
        {f'{sthv2.NAME}/{path.name}': path for path in clips.iterdir()},
    ).read_bytes()
    size = -(-len(whole) // 4)
    for number in range(4):
        part = whole[number * size : (number + 1) * size]
        (folder / f'{sthv2.NAME}-{number:02d}').write_bytes(part)
    return folder


def wrap(archives):
    """The layout of Qualcomm: every part, and the labels, in a ZIP file."""
    for path in list(archives.glob(f'{sthv2.NAME}-??')):
        zip_file(path.with_name(f'{path.name}.zip'), {path.name: path})
        path.unlink()
    wrap_labels(archives)


def wrap_labels(archives):
    labels = list((archives / 'labels').iterdir())
    zip_file(
        archives / '20bn-something-something-download-package-labels.zip',
        {f'labels/{path.name}': path for path in labels},
    )
    for path in labels:
        path.unlink()


def prepare(archives, out, *options):
    sthv2.main(['--archives', str(archives), '--out', str(out), *options])


def check(out):
    path = out / 'sthv2_train_list_videos.txt'
    assert rows(path) == {'78687.webm': 0, '100904.webm': 2}
    assert rows(out / 'sthv2_val_list_videos.txt') == {'74225.webm': 1}
    assert (out / 'videos/1420.webm').is_file()
    train, val = base_datasets('sthv2', out)
    assert (len(train), len(val)) == (2, 1)
    assert_loads(train, 1)
    assert_loads(val)


@pytest.mark.parametrize('wrapped', [False, True])
def test_official_archives(archives, tmp_path, capsys, wrapped):
    if wrapped:
        wrap(archives)
    prepare(archives, tmp_path / 'out', '--allow-partial')
    check(tmp_path / 'out')
    said = capsys.readouterr().out
    assert 'videos: 4 instead of 220,847' in said
    assert 'classes: 3 instead of 174' in said
    assert 'damaged' not in said and 'missing' not in said


def test_parts_that_are_only_named_as_zip_files(archives, tmp_path, capsys):
    """File names of Qualcomm's server or of a browser."""
    for path in list(archives.glob(f'{sthv2.NAME}-??')):
        path.rename(path.with_name(f'{path.name}.zip'))
    wrap_labels(archives)
    (labels,) = archives.glob('*-labels.zip')
    labels.rename(labels.with_name(labels.name.replace('-down', '_down')))
    prepare(archives, tmp_path / 'out', '--allow-partial')
    check(tmp_path / 'out')
    assert 'damaged' not in capsys.readouterr().out


def test_one_archive_or_a_folder(archives, clips, tmp_path):
    for path in archives.glob(f'{sthv2.NAME}-??'):
        path.unlink()
    for path in list((archives / 'labels').iterdir()):
        path.rename(path.with_name(f'something-something-v2-{path.name}'))
    files = {f'{sthv2.NAME}/{p.name}': p for p in clips.iterdir()}
    tar_gz(archives / f'{sthv2.NAME}.tar.gz', files)
    prepare(archives, tmp_path / 'out', '--allow-partial')
    check(tmp_path / 'out')
    (archives / f'{sthv2.NAME}.tar.gz').unlink()
    (archives / sthv2.NAME).symlink_to(clips)
    prepare(archives, tmp_path / 'other', '--allow-partial')
    check(tmp_path / 'other')


@pytest.mark.parametrize('wrapped', [False, True])
def test_a_part_that_is_missing_or_truncated(
    archives, tmp_path, capsys, wrapped
):
    if wrapped:
        wrap(archives)
    ending = '.zip' if wrapped else ''
    path = archives / f'{sthv2.NAME}-02{ending}'
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(PreparationError, match='no video'):
        prepare(archives, tmp_path / 'out', '--allow-partial')
    assert f'{sthv2.NAME}-02 is missing' in capsys.readouterr().out
    path.write_bytes(whole[:-100])
    with pytest.raises(PreparationError):
        prepare(archives, tmp_path / 'out')
    assert f'{sthv2.NAME}-02{ending}' in capsys.readouterr().out
    path.write_bytes(whole)
    last = archives / f'{sthv2.NAME}-03{ending}'
    whole = last.read_bytes()
    last.write_bytes(whole[:-100])
    with pytest.raises(PreparationError):
        prepare(archives, tmp_path / 'out')
    said = capsys.readouterr().out
    assert 'not downloaded completely' in said
    assert wrapped or f'{sthv2.NAME}-00 to -03 is damaged' in said
    last.write_bytes(whole)
    prepare(archives, tmp_path / 'out', '--allow-partial')
    check(tmp_path / 'out')


def test_is_official_only_in_full(archives, tmp_path):
    with pytest.raises(PreparationError, match='--allow-partial'):
        prepare(archives, tmp_path / 'out')
    assert not list((tmp_path / 'out').glob('sthv2_*'))


def test_says_what_to_fetch(tmp_path):
    with pytest.raises(PreparationError, match='labels.json.*\n.*qualcomm'):
        prepare(tmp_path, tmp_path / 'out')
    with pytest.raises(PreparationError, match='everyone has to, so nothing'):
        prepare(tmp_path, tmp_path / 'out', '--download')


def test_a_class_that_is_not_in_labels_json(archives, tmp_path):
    path = archives / 'labels/labels.json'
    path.write_text(json.dumps(dict(list(LABELS.items())[1:])))
    with pytest.raises(PreparationError, match="'Approaching something w"):
        prepare(archives, tmp_path / 'out')
    path.write_text('{"Approaching')
    with pytest.raises(PreparationError, match='is not a JSON file'):
        prepare(archives, tmp_path / 'out')


SLOWLY = """
import runpy, shutil, sys, time

copy = shutil.copyfileobj


def slowly(source, target, length):
    copy(source, target, length)
    time.sleep(0.05)


shutil.copyfileobj = slowly
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def test_a_killed_run_goes_on(tmp_path):
    """It is killed while it unpacks, and goes on."""
    folder, out = tmp_path / 'fetched', tmp_path / 'out'
    write_labels(folder / 'labels')
    generator = random.Random(0)
    contents = {
        f'{number}.webm': generator.randbytes(1 << 16) for number in range(64)
    }
    with tarfile.open(folder / f'{sthv2.NAME}-00', mode='w:gz') as tar:
        for name, data in contents.items():
            info = tarfile.TarInfo(f'{sthv2.NAME}/{name}')
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    command = [str(prepare_script('sthv2')), '--allow-partial']
    command += ['--archives', str(folder), '--out', str(out)]
    process = subprocess.Popen(
        [sys.executable, '-c', SLOWLY, *command], stdout=subprocess.DEVNULL
    )
    while len(list(out.glob('videos/*.webm'))) < 10:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = {p.name: p.stat().st_mtime_ns for p in out.glob('videos/*.webm')}
    assert len(there) < len(contents)
    for name in there:
        assert (out / 'videos' / name).read_bytes() == contents[name]

    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for name, data in contents.items():
        path = out / 'videos' / name
        assert path.read_bytes() == data
        assert there.get(name) in (None, path.stat().st_mtime_ns)
