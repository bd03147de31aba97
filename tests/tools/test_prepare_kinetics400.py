"""Kinetics-400 as CVDF has it: lists, replacements, stops, broken parts."""

import gzip
import shutil

import pytest
from official_layouts import (
    assert_loads,
    base_datasets,
    load_prepare,
    rows,
    tar_gz,
    write_clip,
)

import dtkd_mmaction  # noqa: F401  (registers the data sets)

k400 = load_prepare('kinetics400')
PreparationError = k400.PreparationError

HEADER = 'label,youtube_id,time_start,time_end,split,is_cc\n'
# Class, id, start, end; the last of train is gone from YouTube.
TRAIN = [
    ("massaging person's head", '-aaaaaaaaa-', 3, 13),
    ('hurling (sport)', '_bbbbbbbbbb', 0, 10),
    ('abseiling', 'CcCcCcCcCcC', 123, 133),
    ('abseiling', 'cCcCcCcCcCc', 7, 17),
    ('abseiling', 'gonegonegon', 7, 17),
]
VAL = [('hurling (sport)', 'ddddddddddd', 41, 51)]
LABELS = {'abseiling': 0, 'hurling_(sport)': 1, "massaging_person's_head": 2}


def name_of(row):
    return f'{row[1]}_{row[2]:06d}_{row[3]:06d}'


def clip_of(row):
    return f'{row[0].replace(" ", "_")}/{name_of(row)}.mp4'


def write_csv(path, part, clips):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f'{",".join(map(str, row))},{part},0\n' for row in clips]
    path.write_text(HEADER + ''.join(lines))


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    """Flat folders of clips: train, val, test and the better copy of one."""
    folder = tmp_path_factory.mktemp('clips')
    for number, row in enumerate(TRAIN[:4]):
        write_clip(folder / f'train/{name_of(row)}.mp4', 40 * number + 20)
    write_clip(folder / f'val/{name_of(VAL[0])}.mp4', 200)
    write_clip(folder / 'test/eeeeeeeeeee_000000_000010.mp4', 10)
    better = folder / f'{k400.REPLACEMENT}/{name_of(TRAIN[2])}.mp4'
    write_clip(better, 250, frames=30)
    return folder


@pytest.fixture
def archives(clips, tmp_path):
    """The layout of k400_downloader.sh of CVDF."""
    folder = tmp_path / 'k400_targz'
    write_csv(folder / 'annotations/train.csv', 'train', TRAIN)
    write_csv(folder / 'annotations/val.csv', 'val', VAL)
    parts = {
        'train/part_0': sorted((clips / 'train').iterdir())[:2],
        'train/part_1': sorted((clips / 'train').iterdir())[2:],
        'val/part_0': sorted((clips / 'val').iterdir()),
        'test/part_0': sorted((clips / 'test').iterdir()),
    }
    for part, files in parts.items():
        tar_gz(folder / f'{part}.tar.gz', {f'./{p.name}': p for p in files})
    better = clips / k400.REPLACEMENT
    tar_gz(
        folder / f'replacement/{k400.REPLACEMENT}.tgz',
        {f'{better.name}/{path.name}': path for path in better.iterdir()},
    )
    return folder


def prepare(archives, out, *options):
    k400.main(['--archives', str(archives), '--out', str(out), *options])


def check(out, clips):
    found = rows(out / 'kinetics400_train_list_videos.txt')
    assert found == {
        clip_of(row): LABELS[row[0].replace(' ', '_')] for row in TRAIN[:4]
    }
    found = rows(out / 'kinetics400_val_list_videos.txt')
    assert found == {clip_of(VAL[0]): 1}
    for row in TRAIN[:4]:
        source = clips / f'train/{name_of(row)}.mp4'
        if row is TRAIN[2]:
            source = clips / f'{k400.REPLACEMENT}/{name_of(row)}.mp4'
        clip = out / 'videos_train' / clip_of(row)
        assert clip.read_bytes() == source.read_bytes()
    assert not list(out.rglob('eeeeeeeeeee*'))
    assert not (out / '.unpacking').exists()
    train, val = base_datasets('kinetics400', out)
    assert (len(train), len(val)) == (4, 1)
    assert_loads(train)
    assert_loads(val)


@pytest.mark.parametrize('workers', ['1', '3'])
def test_official_archives(archives, clips, tmp_path, capsys, workers):
    out = tmp_path / 'out'
    prepare(archives, out, '--allow-partial', '--workers', workers)
    check(out, clips)
    said = capsys.readouterr().out
    assert 'clips named: 5 instead of 246,534' in said
    assert 'clips there: 4, fewer than the official 240,258' in said
    assert '259 archives are missing: train/part_2.tar.gz, ' in said
    assert 'train/part_11.tar.gz, ...\n' in said
    (gone,) = (out / 'unusable_clips.txt').read_text().splitlines()
    assert gone.endswith('abseiling/gonegonegon_000007_000017 missing')

    # The archives are opened again only if they have changed.
    broken = archives / 'train/part_0.tar.gz'
    prepare(archives, out, '--allow-partial')
    check(out, clips)
    broken.write_bytes(b'no archive')
    capsys.readouterr()
    prepare(archives, out, '--allow-partial')
    assert 'train/part_0.tar.gz is damaged' in capsys.readouterr().out
    check(out, clips)


def test_is_official_only_in_full(archives, tmp_path):
    with pytest.raises(PreparationError, match='--allow-partial'):
        prepare(archives, tmp_path / 'out')
    assert not list((tmp_path / 'out').glob('kinetics400_*.txt'))


def test_a_stopped_run_goes_on(archives, clips, tmp_path, monkeypatch):
    out = tmp_path / 'out'
    copy, calls = shutil.copyfileobj, []

    def stop_in_the_middle(source, target, length):
        calls.append(length)
        if len(calls) > 1:
            target.write(source.read(10))
            raise KeyboardInterrupt
        copy(source, target, length)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, 'copyfileobj', stop_in_the_middle)
        with pytest.raises(KeyboardInterrupt):
            prepare(archives, out, '--allow-partial')
    whole = list((out / 'videos_train').rglob('*.mp4'))
    assert len(whole) == 1
    assert not list(out.glob('kinetics400_*'))
    before = whole[0].stat().st_mtime_ns
    prepare(archives, out, '--allow-partial')
    check(out, clips)
    assert whole[0].stat().st_mtime_ns == before  # not written again


@pytest.mark.parametrize('cut', [20, 400])
def test_a_truncated_part_is_named_and_the_others_are_used(
    archives, tmp_path, capsys, cut
):
    path = archives / 'train/part_1.tar.gz'
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(PreparationError):
        prepare(archives, tmp_path / 'out')
    said = capsys.readouterr().out
    assert 'train/part_1.tar.gz is damaged or was not downloaded' in said
    prepare(archives, tmp_path / 'out', '--allow-partial')
    found = rows(tmp_path / 'out/kinetics400_train_list_videos.txt')
    assert 2 <= len(found) <= 4


def test_a_wrong_byte_leaves_no_wrong_clip(archives, clips, tmp_path, capsys):
    path = archives / 'train/part_1.tar.gz'
    whole = path.read_bytes()
    content = bytearray(gzip.compress(gzip.decompress(whole), 0))
    content[1200] ^= 1  # within the first clip; its size stays
    path.write_bytes(content)
    prepare(archives, tmp_path / 'out', '--allow-partial')
    assert 'part_1.tar.gz is damaged' in capsys.readouterr().out
    found = rows(tmp_path / 'out/kinetics400_train_list_videos.txt')
    assert len(found) == 2  # those of part 0
    path.write_bytes(whole)
    prepare(archives, tmp_path / 'out', '--allow-partial')
    check(tmp_path / 'out', clips)


def test_a_part_that_is_no_gzip(archives, clips, tmp_path):
    """Part 120 once was a plain tar file in spite of its name."""
    path = archives / 'train/part_1.tar.gz'
    path.write_bytes(gzip.decompress(path.read_bytes()))
    prepare(archives, tmp_path / 'out', '--allow-partial')
    check(tmp_path / 'out', clips)


def test_folders_of_classes(clips, tmp_path):
    """The layout of MMAction2, with spaces and with underscores."""
    folder = tmp_path / 'fetched'
    for number, row in enumerate(TRAIN[:4]):
        name = row[0].replace(' ', '_') if number % 2 else row[0]
        target = folder / 'videos_train' / name / f'{name_of(row)}.mp4'
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clips / f'train/{name_of(row)}.mp4', target)
    shutil.copytree(clips / 'val', folder / 'videos_val/hurling (sport)')
    shutil.copytree(clips / k400.REPLACEMENT, folder / k400.REPLACEMENT)
    write_csv(folder / 'kinetics_train.csv', 'train', TRAIN)
    write_csv(folder / 'kinetics_val.csv', 'val', VAL)
    prepare(folder, tmp_path / 'out', '--allow-partial')
    check(tmp_path / 'out', clips)


def test_a_clip_with_other_times_is_found_by_its_id(archives, clips, tmp_path):
    row = TRAIN[0]
    write_csv(
        archives / 'annotations/train.csv',
        'train',
        [(*row[:2], 4, 14), *TRAIN[1:]],
    )
    prepare(archives, tmp_path / 'out', '--allow-partial')
    found = rows(tmp_path / 'out/kinetics400_train_list_videos.txt')
    assert clip_of((*row[:2], 4, 14)) in found and len(found) == 4


def test_annotations_of_deepmind(archives, clips, tmp_path):
    folder = archives / 'annotations'
    tar_gz(
        archives / 'kinetics400.tar.gz',
        {
            'kinetics400/train.csv': folder / 'train.csv',
            'kinetics400/validate.csv': folder / 'val.csv',
        },
    )
    shutil.rmtree(folder)
    prepare(archives, tmp_path / 'out', '--allow-partial')
    check(tmp_path / 'out', clips)


def test_says_what_to_fetch(archives, tmp_path):
    for path in archives.rglob('*gz'):
        path.unlink()
    with pytest.raises(PreparationError, match='no clip.*\n.*cvdfoundation'):
        prepare(archives, tmp_path / 'out')
    (archives / 'annotations/val.csv').unlink()
    with pytest.raises(PreparationError, match='no val.csv'):
        prepare(archives, tmp_path / 'other')


def test_a_csv_file_of_something_else(archives, tmp_path):
    path = archives / 'annotations/train.csv'
    path.write_text('path label\na.mp4 1\n')
    with pytest.raises(PreparationError, match='youtube_id'):
        prepare(archives, tmp_path / 'out')
    path.write_text(HEADER + 'abseiling,abc,start,10,train,0\n')
    with pytest.raises(PreparationError, match='line 2'):
        prepare(archives, tmp_path / 'out')
