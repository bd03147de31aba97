"""HMDB51 from RAR archives, and from folders: lists, labels, messages."""

import shutil
import subprocess
import sys

import official_layouts
import pytest
from official_layouts import (
    assert_loads,
    base_datasets,
    load_prepare,
    prepare_script,
    rar_file,
    rows,
    write_clip,
)

import dtkd_mmaction  # noqa: F401  (registers the data sets)

fake_unrar = official_layouts.fake_unrar
hmdb51 = load_prepare('hmdb51')
PreparationError = hmdb51.PreparationError

# As in the official files: clip, and its use in the splits 1 to 3.
CLIPS = {
    'wave': {
        '50_FIRST_DATES_wave_f_cm_np1_fr_med_36.avi': '112',
        'A&B_wave_(1)_u_nm_np1_fr_med_0.avi': '211',
        'never_in_a_split_wave.avi': '000',
    },
    'brush_hair': {
        '#20_Rhythm_clap_u_nm_np5_[x];1_0.avi': '121',
        'April_09_brush_hair_u_nm_np1_ba_goo_0.avi': '212',
    },
}


@pytest.fixture(scope='module')
def unpacked(tmp_path_factory):
    """Writes the content of the archives: clips and split files."""
    folder = tmp_path_factory.mktemp('hmdb51')
    splits = folder / 'testTrainMulti_7030_splits'
    splits.mkdir()
    for name, clips in CLIPS.items():
        for number, clip in enumerate(clips):
            write_clip(folder / name / clip, 40 * number + 20)
        for split in range(3):
            (splits / f'{name}_test_split{split + 1}.txt').write_text(
                ''.join(f'{c} {use[split]} \n' for c, use in clips.items())
            )
    return folder


@pytest.fixture
def archives(unpacked, tmp_path):
    """The two official archives."""
    folder = tmp_path / 'fetched'
    inner = {}
    for name, clips in CLIPS.items():
        path = tmp_path / 'inner' / f'{name}.rar'
        files = {f'{name}/{clip}': unpacked / name / clip for clip in clips}
        inner[path.name] = rar_file(path, files)
    rar_file(folder / 'hmdb51_org.rar', inner)
    splits = 'testTrainMulti_7030_splits'
    files = {f'{splits}/{p.name}': p for p in (unpacked / splits).iterdir()}
    rar_file(folder / 'test_train_splits.rar', files)
    return folder


def prepare(archives, out, *options):
    hmdb51.main(['--archives', str(archives), '--out', str(out), *options])


def check(out):
    """The lists are right, and the configs read them."""
    expected = {
        (part, split): {
            f'{name}/{clip}': label
            for label, name in enumerate(sorted(CLIPS))
            for clip, use in CLIPS[name].items()
            if use[split - 1] == flag
        }
        for part, flag in (('train', '1'), ('val', '2'))
        for split in (1, 2, 3)
    }
    for (part, split), clips in expected.items():
        path = out / f'hmdb51_{part}_split_{split}_videos.txt'
        assert rows(path) == clips and clips
    train, val = base_datasets('hmdb51', out)
    assert (len(train), len(val)) == (2, 2)
    assert_loads(train)
    assert_loads(val)


def test_official_archives(archives, tmp_path, fake_unrar, capsys):
    out = tmp_path / 'out'
    prepare(archives, out, '--allow-partial')
    check(out)
    said = capsys.readouterr().out
    assert 'clips: 5 instead of 6,766' in said
    assert 'classes: 2 instead of 51' in said
    assert 'Labels number the 2 classes that are there' in said
    assert 'the official one 2,124,008,126, so it is probably a' in said
    assert not (out / 'unusable_clips.txt').exists()
    first = fake_unrar()
    assert sorted(first)[:3] == [
        'brush_hair.rar',
        'hmdb51_org.rar',
        'test_train_splits.rar',
    ]
    prepare(archives, out, '--allow-partial')
    assert fake_unrar()[len(first) :] == ['test_train_splits.rar']

    # A clip that was deleted is unpacked again.
    (out / 'videos/wave/never_in_a_split_wave.avi').unlink()
    prepare(archives, out, '--allow-partial')
    check(out)
    assert (out / 'videos/wave/never_in_a_split_wave.avi').is_file()


@pytest.mark.skipif(not shutil.which('bsdtar'), reason='no bsdtar')
def test_official_archives_with_bsdtar(archives, tmp_path):
    prepare(archives, tmp_path / 'out', '--allow-partial')
    check(tmp_path / 'out')


def test_folders_with_all_that_may_lie_about(unpacked, tmp_path):
    folder = tmp_path / 'fetched'
    shutil.copytree(unpacked, folder)
    clips = folder / 'brush_hair'
    (clips / '._April_09_brush_hair_u_nm_np1_ba_goo_0.avi').write_bytes(b'x')
    (clips / 'Thumbs.db').write_bytes(b'x')
    (clips / 'extra_clip.avi').write_bytes(b'x')
    (folder / '__MACOSX/wave').mkdir(parents=True)
    (folder / '__MACOSX/wave/x.avi').write_bytes(b'x')
    path = clips / 'April_09_brush_hair_u_nm_np1_ba_goo_0.avi'
    path.rename(path.with_suffix('.AVI'))
    prepare(folder, tmp_path / 'out', '--allow-partial')
    check(tmp_path / 'out')
    assert not (tmp_path / 'out/videos/brush_hair/extra_clip.avi').exists()


def test_names_with_spaces_can_stand_in_a_list(unpacked, tmp_path):
    folder = tmp_path / 'fetched'
    shutil.copytree(unpacked, folder)
    old = folder / 'wave/A&B_wave_(1)_u_nm_np1_fr_med_0.avi'
    old.rename(old.with_name('A & B wave.avi'))
    for path in folder.rglob('wave_test_split?.txt'):
        path.write_text(path.read_text().replace(old.stem, 'A & B wave'))
    prepare(folder, tmp_path / 'out', '--allow-partial')
    _, val = base_datasets('hmdb51', tmp_path / 'out')
    names = [val.get_data_info(i)['filename'] for i in range(len(val))]
    assert any(name.endswith('wave/A_&_B_wave.avi') for name in names)


def test_in_place_and_without_archives(unpacked, tmp_path):
    out = tmp_path / 'out'
    shutil.copytree(unpacked, out / 'whatever')
    hmdb51.main(['--out', str(out), '--allow-partial'])
    hmdb51.main(['--out', str(out), '--allow-partial'])
    check(out)


def test_a_difference_ends_the_run_with_exit_code_1(unpacked, tmp_path):
    command = [sys.executable, str(prepare_script('hmdb51'))]
    command += ['--archives', str(unpacked), '--out', str(tmp_path / 'out')]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert 'clips: 5 instead of 6,766' in done.stdout
    assert '--allow-partial' in done.stderr
    assert 'Traceback' not in done.stderr
    assert not list((tmp_path / 'out').glob('hmdb51_*.txt'))


@pytest.mark.parametrize(
    'error', [PermissionError('no access'), KeyboardInterrupt]
)
def test_an_error_becomes_a_message(error):
    def main():
        raise error

    with pytest.raises(SystemExit, match='no access|same command continues'):
        hmdb51.run(main)


def test_says_what_to_fetch(tmp_path):
    with pytest.raises(PreparationError, match='test_train_splits.rar'):
        prepare(tmp_path / 'nowhere', tmp_path / 'out')


def test_says_which_clips_are_missing(unpacked, tmp_path, capsys):
    folder = tmp_path / 'fetched'
    shutil.copytree(unpacked, folder)
    shutil.rmtree(folder / 'wave')
    empty = folder / 'brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi'
    empty.write_bytes(b'')
    out = tmp_path / 'out'
    prepare(folder, out, '--allow-partial')
    unusable = (out / 'unusable_clips.txt').read_text().splitlines()
    assert len(unusable) == 4
    assert unusable[0].endswith('ba_goo_0.avi empty')
    assert unusable[1].endswith(
        'wave/50_FIRST_DATES_wave_f_cm_np1_fr_med_36 missing'
    )
    said = capsys.readouterr().out
    assert '4 clips are missing or empty' in said
    clips = [c for p in out.glob('hmdb51_*.txt') for c in rows(p)]
    assert set(clips) == {'brush_hair/#20_Rhythm_clap_u_nm_np5_[x];1_0.avi'}


def test_no_program_for_rar(archives, tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(PreparationError, match='apt-get install unrar'):
        prepare(archives, tmp_path / 'out')


def test_a_truncated_archive_is_named(archives, tmp_path, fake_unrar, capsys):
    path = archives / 'hmdb51_org.rar'
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PreparationError, match='no clip'):
        prepare(archives, tmp_path / 'out', '--allow-partial')
    said = capsys.readouterr().out
    assert 'hmdb51_org.rar is damaged or was not downloaded comp' in said
    assert 'If it is whole, install another program' in said
    path.write_bytes(whole)
    prepare(archives, tmp_path / 'out', '--allow-partial')
    check(tmp_path / 'out')


def test_a_download_that_goes_on_is_named(unpacked, tmp_path, capsys):
    folder = tmp_path / 'fetched'
    shutil.copytree(unpacked, folder)
    (folder / 'hmdb51_org.rar.crdownload').write_bytes(b'x')
    prepare(folder, tmp_path / 'out', '--allow-partial')
    said = capsys.readouterr().out
    assert 'hmdb51_org.rar.crdownload is a download that is not' in said


@pytest.mark.parametrize('line', ['clip.avi', 'clip.avi 3', ' 1'])
def test_a_malformed_split_file_is_named(unpacked, tmp_path, line):
    folder = tmp_path / 'fetched'
    shutil.copytree(unpacked, folder)
    path = next(folder.rglob('wave_test_split2.txt'))
    path.write_text(path.read_text() + line + '\n')
    with pytest.raises(PreparationError, match='split2.txt, line 4'):
        prepare(folder, tmp_path / 'out')


@pytest.mark.parametrize('broken', [False, True])
def test_check_decoding(unpacked, tmp_path, capfd, broken):
    folder = tmp_path / 'fetched'
    shutil.copytree(unpacked, folder)
    if broken:
        next((folder / 'wave').glob('50*')).write_bytes(b'no video' * 99)
    options = ('--allow-partial', '--check-decoding')
    if broken:
        with pytest.raises(PreparationError, match='videos_report.csv'):
            prepare(folder, tmp_path / 'out', *options)
    else:
        prepare(folder, tmp_path / 'out', *options)
    report = (tmp_path / 'out/videos_report.csv').read_text()
    assert ('unreadable' in report) == broken
    said = capfd.readouterr().out
    assert said.count('Decoding the clips of ') == said.count('Report: ') > 0
