"""UCF101 from its archives: lists, labels from 1, letters of other case."""

import shutil

import official_layouts
import pytest
from official_layouts import (
    assert_loads,
    base_datasets,
    load_prepare,
    rar_file,
    rows,
    write_clip,
    zip_file,
)

import dtkd_mmaction  # noqa: F401  (registers the data sets)

fake_unrar = official_layouts.fake_unrar
ucf101 = load_prepare('ucf101')
PreparationError = ucf101.PreparationError

# The order of classInd.txt is not that of the alphabet here.
CLASSES = ['Billiards', 'ApplyEyeMakeup', 'HandstandPushups']
# Lists say HandStand, the folder Handstand, as in the official files.
CLIPS = [
    'Billiards/v_Billiards_g01_c01.avi',
    'Billiards/v_Billiards_g08_c02.avi',
    'ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi',
    'ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c02.avi',
    'HandstandPushups/v_HandStandPushups_g01_c01.avi',
    'HandstandPushups/v_HandStandPushups_g08_c02.avi',
]


def label(clip):
    return CLASSES.index(clip.split('/')[0])


@pytest.fixture(scope='module')
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ucf101')
    for number, clip in enumerate(CLIPS):
        write_clip(folder / 'UCF-101' / clip, 30 * number + 20)
    lists = folder / 'ucfTrainTestlist'
    lists.mkdir()
    files = {
        'classInd': [f'{i} {name}' for i, name in enumerate(CLASSES, 1)],
        **{
            f'trainlist0{k}': [f'{c} {label(c) + 1}' for c in CLIPS[1::2]]
            for k in (1, 2, 3)
        },
        **{f'testlist0{k}': CLIPS[::2] for k in (1, 2, 3)},
    }
    for name, lines in files.items():
        text = ''.join(f'{line}\r\n' for line in lines)
        (lists / f'{name}.txt').write_bytes(text.encode())
    return folder


@pytest.fixture
def archives(unpacked, tmp_path):
    """The two official archives, and one that nobody wants."""
    folder = tmp_path / 'fetched'
    rar_file(
        folder / 'UCF101.rar',
        {f'UCF-101/{clip}': unpacked / 'UCF-101' / clip for clip in CLIPS},
    )
    zip_file(
        folder / 'UCF101TrainTestSplits-RecognitionTask.zip',
        {
            f'ucfTrainTestlist/{path.name}': path
            for path in (unpacked / 'ucfTrainTestlist').iterdir()
        },
    )
    (folder / 'UCF101_STIP_Part1.rar').write_bytes(b'no archive')
    return folder


def prepare(archives, out, *options):
    ucf101.main(['--archives', str(archives), '--out', str(out), *options])


def check(out):
    for split in (1, 2, 3):
        for part, clips in (('train', CLIPS[1::2]), ('val', CLIPS[::2])):
            path = out / f'ucf101_{part}_split_{split}_videos.txt'
            assert rows(path) == {clip: label(clip) for clip in clips}
    train, val = base_datasets('ucf101', out)
    assert (len(train), len(val)) == (3, 3)
    assert assert_loads(train, 1)['data_samples'].gt_label == label(CLIPS[3])
    assert_loads(val)


def test_official_archives(archives, tmp_path, fake_unrar, capsys):
    out = tmp_path / 'out'
    prepare(archives, out, '--allow-partial')
    check(out)
    said = capsys.readouterr().out
    assert 'the official one 6,932,971,618, so it is probably a part' in said
    assert 'clips: 6 instead of 13,320' in said
    assert fake_unrar() == ['UCF101.rar']
    prepare(archives, out, '--allow-partial')
    assert fake_unrar() == ['UCF101.rar']


def test_folders_whose_names_differ_in_case(unpacked, tmp_path):
    folder = tmp_path / 'fetched'
    shutil.copytree(unpacked, folder)
    for path in folder.rglob('v_HandStandPushups*'):
        path.rename(path.with_name(path.name.replace('Stand', 'stand')))
    prepare(folder, tmp_path / 'out', '--allow-partial')
    check(tmp_path / 'out')


def test_the_whole_data_set_needs_no_option(unpacked, tmp_path, monkeypatch):
    monkeypatch.setattr(ucf101, 'CLASSES', 3)
    monkeypatch.setattr(ucf101, 'CLIPS', 6)
    monkeypatch.setattr(ucf101, 'TRAIN', {1: 3, 2: 3, 3: 3})
    prepare(unpacked, tmp_path / 'out')
    check(tmp_path / 'out')


def test_is_official_only_in_full(unpacked, tmp_path):
    with pytest.raises(PreparationError, match='--allow-partial'):
        prepare(unpacked, tmp_path / 'out')
    assert not list((tmp_path / 'out').glob('ucf101_*.txt'))


@pytest.mark.parametrize('name', ['classInd.txt', 'testlist03.txt'])
def test_says_what_to_fetch(unpacked, tmp_path, name):
    folder = tmp_path / 'fetched'
    shutil.copytree(unpacked, folder)
    next(folder.rglob(name)).unlink()
    with pytest.raises(PreparationError, match=f'no {name}.*\n.*UCF101.php'):
        prepare(folder, tmp_path / 'out')


@pytest.mark.parametrize(
    'line', ['Billiards/v_x.avi 2', 'Juggling/v_x.avi 1', 'v_x.avi']
)
def test_a_label_that_is_not_that_of_the_class(unpacked, tmp_path, line):
    folder = tmp_path / 'fetched'
    shutil.copytree(unpacked, folder)
    path = next(folder.rglob('trainlist02.txt'))
    path.write_text(f'{line}\n')
    with pytest.raises(PreparationError, match='line 1.*classInd.txt'):
        prepare(folder, tmp_path / 'out')


def test_two_versions_of_an_annotation_file(unpacked, tmp_path):
    folder = tmp_path / 'fetched'
    shutil.copytree(unpacked, folder)
    (folder / 'other').mkdir()
    (folder / 'other/trainlist01.txt').write_text('something else\n')
    with pytest.raises(PreparationError, match='differ, and both could be'):
        prepare(folder, tmp_path / 'out')
