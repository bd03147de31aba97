"""Lists and archives of somebody else harm nobody, and never hang a run."""

import json
import os
import shutil
import socket
import stat
import sys
import zipfile
from pathlib import Path

import official_layouts
import pytest
from official_layouts import (
    load_prepare,
    rar_file,
    tar_gz,
    write_clip,
    zip_file,
)

hmdb51, ucf101, k400, sthv2, epic = map(
    load_prepare, ('hmdb51', 'ucf101', 'kinetics400', 'sthv2', 'epic_kitchens')
)
preparation = sys.modules['preparation']
limits = sys.modules['preparation.limits']
rar = sys.modules['preparation.rar']
files = sys.modules['preparation.files']
PreparationError = preparation.PreparationError

fake_unrar = official_layouts.fake_unrar
KINETICS = 'label,youtube_id,time_start,time_end,split\n'
EPIC = 'participant_id,video_id,verb_class,noun_class\n'
ROW = '{label},{video},0,10,train\n'


@pytest.fixture
def folder(tmp_path):
    """The folder of fetched files, in a place with nothing beside it."""
    folder = tmp_path / 'a/b/fetched'
    folder.mkdir(parents=True)
    return folder


def run(module, folder, *options):
    """Prepares with a part of the data set; returns the output folder."""
    out = folder.parent / 'out'
    command = ['--archives', str(folder), '--out', str(out), *options]
    module.main([*command, '--allow-partial'])
    return out


def everything(folder):
    """All paths around the fetched files and the output."""
    base = folder.parents[2]
    return {path for path in base.rglob('*') if 'out' not in path.parts}


def write_kinetics(folder, label='abseiling', video='aaaaaaaaaaa'):
    row = ROW.format(label=label, video=video)
    (folder / 'train.csv').write_text(KINETICS + row)
    (folder / 'val.csv').write_text(KINETICS)


def write_ucf101(folder, clip='Archery/v_a.avi', classes='1 Archery\n'):
    (folder / 'classInd.txt').write_text(classes)
    for part in ('train', 'test'):
        for number in (1, 2, 3):
            (folder / f'{part}list0{number}.txt').write_text(f'{clip}\n')


def write_hmdb51(folder, name='wave', clip='a.avi'):
    for number in (1, 2, 3):
        path = folder / f'{name}_test_split{number}.txt'
        path.write_text(f'{clip} 1\n')


def write_sthv2(folder, clip='7', labels=None):
    (folder / 'labels.json').write_text(json.dumps(labels or {'Moving': '0'}))
    for name in ('train', 'validation'):
        items = [dict(id=clip, template='Moving')]
        (folder / f'{name}.json').write_text(json.dumps(items))


def write_epic(folder, participant='P01', video='P01_01'):
    for part in ('train', 'validation'):
        path = folder / f'EPIC_100_{part}.csv'
        path.write_text(EPIC + f'{participant},{video},0,0\n')


WRITERS = {
    k400: write_kinetics,
    ucf101: write_ucf101,
    hmdb51: write_hmdb51,
    sthv2: write_sthv2,
    epic: write_epic,
}


@pytest.mark.parametrize(
    'module, names, message',
    [
        (k400, dict(label='../../../x'), r"line 2: the label '\.\./"),
        (k400, dict(label='..'), "line 2: the label '..'"),
        (k400, dict(video='../../x'), 'line 2: the youtube_id'),
        (ucf101, dict(clip='../../Archery/v_a.avi'), 'line 1.*classInd'),
        (ucf101, dict(clip='Archery/..'), 'line 1: the clip'),
        (
            ucf101,
            dict(clip='../v_a.avi', classes='1 ..\n'),
            'line 1: the class',
        ),
        (hmdb51, dict(name='a\\b'), r'a\\b_test_split.*the class'),
        (hmdb51, dict(clip='../../x.avi'), 'line 1: the clip'),
        (sthv2, dict(clip='../../7'), 'entry 0: the id'),
        (epic, dict(participant='../..'), 'line 2: the participant_id'),
        (epic, dict(video='../x'), 'line 2: the video_id'),
    ],
)
def test_a_name_that_leads_out_is_refused(folder, module, names, message):
    WRITERS[module](folder, **names)
    for name in ('aaaaaaaaaaa_000000_000010.mp4', 'x.mp4', '7.webm', 'x.avi'):
        (folder / name).write_bytes(b'clip')
    before = everything(folder)
    with pytest.raises(PreparationError, match=message):
        run(module, folder)
    assert everything(folder) == before


@pytest.mark.parametrize('name', ['../x.avi', '/x.avi', 'a/../../x.avi'])
def test_no_route_leads_out(tmp_path, name):
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in/a.avi').write_bytes(b'clip')
    clips = [Path('a.avi')]
    with pytest.raises(PreparationError, match='leads out of the output'):
        files.link_files(
            tmp_path / 'in', clips, tmp_path / 'out', lambda path: name
        )
    source = zip_file(tmp_path / 'a.zip', {'a.avi': tmp_path / 'in/a.avi'})
    archive = preparation.Archive.of_file(source, 'a.zip')
    archives = sys.modules['preparation.archives']
    with pytest.raises(PreparationError, match='leads out of the output'):
        archives.unpack([archive], tmp_path / 'out', lambda path: name)
    assert not list(tmp_path.glob('*.avi')) and not Path('/x.avi').exists()


def test_links_in_a_rar_archive_bring_no_file(folder, fake_unrar):
    secret = folder.parent / 'secret'
    secret.mkdir()
    (secret / 'b.avi').write_bytes(b'secret')
    (folder / 'a.avi').write_bytes(b'clip')
    write_hmdb51(folder)
    for path in folder.glob('*_split?.txt'):
        path.write_text('a.avi 1\nb.avi 1\n')
    links = {'wave/b.avi': secret / 'b.avi', 'more': secret}
    inner = {'wave/a.avi': folder / 'a.avi'}
    rar_file(folder / 'wave.rar', inner, links)
    (folder / 'a.avi').unlink()
    out = run(hmdb51, folder)
    assert [p.name for p in out.glob('videos/*/*')] == ['a.avi']


def test_hard_links_to_files_outside_are_left_out(tmp_path):
    (tmp_path / 'secret').write_bytes(b'secret')
    folder = tmp_path / 'extracted'
    folder.mkdir()
    os.link(tmp_path / 'secret', folder / 'a.avi')
    (folder / 'b.avi').write_bytes(b'clip')
    os.link(folder / 'b.avi', folder / 'c.avi')
    found = [path.name for path in rar.regular_files(folder)]
    assert found == ['b.avi', 'c.avi']


def test_links_in_zip_and_tar_files_bring_no_file(folder):
    write_kinetics(folder)
    secret = folder.parent / 'secret.mp4'
    secret.write_bytes(b'secret')
    clip = folder / 'aaaaaaaaaaa_000000_000010.mp4'
    clip.symlink_to(secret)
    tar_gz(folder / 'train/part_0.tar.gz', {clip.name: clip})
    clip.unlink()
    with pytest.raises(PreparationError, match='There is no clip'):
        run(k400, folder)

    member = zipfile.ZipInfo('classInd.txt')
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = folder / 'UCF101TrainTestSplits-RecognitionTask.zip'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr(member, str(secret))
    with pytest.raises(PreparationError, match='There is no classInd.txt'):
        run(ucf101, folder)


def test_links_to_parent_folders_are_not_followed(tmp_path):
    folder = tmp_path / 'fetched'
    inner = folder / 'a/b'
    inner.mkdir(parents=True)
    (inner / 'clip.avi').write_bytes(b'clip')
    (tmp_path / 'elsewhere.avi').write_bytes(b'clip')
    for number in range(8):  # 8 ** 40 paths for one who follows them
        (inner / f'up{number}').symlink_to(folder)
        (inner / f'here{number}').symlink_to(inner)
    (folder / 'parent').symlink_to(tmp_path)
    (folder / 'loop').symlink_to(folder / 'loop')
    found = [str(path) for path in files.find_files(folder)]
    assert found == ['a/b/clip.avi', 'loop']


def test_a_link_to_another_folder_is_followed(tmp_path):
    (tmp_path / 'disk').mkdir()
    (tmp_path / 'disk/clip.avi').write_bytes(b'clip')
    (tmp_path / 'fetched').symlink_to(tmp_path / 'disk')
    assert [str(p) for p in files.find_files(tmp_path / 'fetched')] == [
        'clip.avi'
    ]
    (tmp_path / 'disk/more').mkdir()
    (tmp_path / 'more.avi').write_bytes(b'clip')
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other/b.avi').write_bytes(b'clip')
    (tmp_path / 'disk/more/x').symlink_to(tmp_path / 'other')
    assert [str(p) for p in files.find_files(tmp_path / 'fetched')] == [
        'clip.avi',
        'more/x/b.avi',
    ]


def test_pipes_and_sockets_are_reported(folder, capsys):
    write_hmdb51(folder)
    write_clip(folder / 'wave/a.avi', 30)
    os.mkfifo(folder / 'wave/b.avi')
    os.mkfifo(folder / 'hmdb51_org.rar')
    server = socket.socket(socket.AF_UNIX)
    os.symlink(folder, short := f'/tmp/{os.getpid()}')
    try:
        server.bind(f'{short}/wave/c.avi')
    finally:
        os.unlink(short)
        server.close()
    out = run(hmdb51, folder)
    assert [p.name for p in out.glob('videos/*/*')] == ['a.avi']
    said = capsys.readouterr().out
    for name in ('wave/b.avi', 'wave/c.avi', 'hmdb51_org.rar'):
        assert f'{name} is not a regular file and is left out' in said


def bomb(folder, kind):
    """An archive of a clip that unpacks to 1,000 times its own size."""
    zeros = folder / 'zeros'
    with open(zeros, 'wb') as file:
        file.truncate(3 * 10**6)
    if kind == 'zip':
        write_ucf101(folder)
        name = 'UCF101TrainTestSplits-RecognitionTask.zip'
        zip_file(folder / name, {'trainlist01.txt': zeros})
        (folder / 'trainlist01.txt').unlink()
        zeros.unlink()
        return ucf101
    write_kinetics(folder)
    name = 'other.mp4' if kind == 'unused' else 'aaaaaaaaaaa_000000_000010.mp4'
    tar_gz(folder / 'train/part_0.tar.gz', {name: zeros})
    zeros.unlink()
    return k400


@pytest.mark.parametrize('kind', ['zip', 'tar', 'unused'])
def test_an_archive_must_not_unpack_to_much_more(
    folder, kind, monkeypatch, capsys
):
    module = bomb(folder, kind)
    monkeypatch.setattr(limits, 'ALWAYS_ALLOWED', 10**6)
    with pytest.raises(PreparationError):
        run(module, folder)
    said = capsys.readouterr().out
    assert 'bytes and unpacks to more than 1,000,000' in said
    assert '--max-unpacked' in said
    left = [p for p in (folder.parent / 'out').rglob('*') if p.is_file()]
    assert sum(path.stat().st_size for path in left) < 10**4
    if kind == 'tar':
        out = run(module, folder, '--max-unpacked', '0.004')
        (clip,) = out.glob('videos_train/abseiling/*.mp4')
        assert clip.stat().st_size == 3 * 10**6


def test_a_rar_program_that_writes_for_ever_is_stopped(tmp_path, monkeypatch):
    tool = tmp_path / 'bin/unrar'
    tool.parent.mkdir()
    tool.write_text(
        f'#!{sys.executable}\nimport sys, time\n'
        'with open(sys.argv[-1] + "x.avi", "wb") as file:\n'
        '    while True:\n'
        '        file.write(bytes(10**5)); file.flush(); time.sleep(.01)\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv('PATH', str(tool.parent))
    path = tmp_path / 'a.rar'
    path.write_bytes(b'Rar!')
    budget = limits.Budget('a.rar', (path,), 10**6)
    with pytest.raises(limits.TooLargeError, match='a.rar has 4 bytes'):
        rar.extract_rar(path, tmp_path / 'out', budget)


def test_a_rar_archive_of_itself_ends(folder, fake_unrar, monkeypatch):
    write_hmdb51(folder)
    (folder / 'a.avi').write_bytes(b'clip')
    rar_file(folder / 'l0.rar', {'wave/a.avi': folder / 'a.avi'})
    (folder / 'a.avi').unlink()
    for level in range(1, 6):
        inner = folder / f'l{level - 1}.rar'
        rar_file(folder / f'l{level}.rar', {'wave/x.rar': inner})
        inner.unlink()
    (folder / 'l5.rar').rename(folder / 'hmdb51_org.rar')
    with pytest.raises(PreparationError, match='There is no clip'):
        run(hmdb51, folder)
    assert fake_unrar() == ['hmdb51_org.rar', 'x.rar']


def test_wrong_bytes_remove_only_what_was_written(tmp_path):
    """A file that was there before the archive was opened stays."""
    archives = sys.modules['preparation.archives']
    out, source = tmp_path / 'out', tmp_path / 'in'
    source.mkdir()
    for name in ('mine.mp4', 'theirs.mp4'):
        (source / name).write_bytes(bytes(9))
    path = tar_gz(
        tmp_path / 'a.tar.gz',
        {name: source / name for name in ('mine.mp4', 'theirs.mp4')},
    )
    data = bytearray(path.read_bytes())
    data[-8] ^= 1  # the checksum of gzip
    path.write_bytes(data)
    out.mkdir()
    shutil.copy(source / 'mine.mp4', out)
    archive = preparation.Archive.of_file(path, path.name)
    (text,) = archives.unpack([archive], out, lambda path: path.name)
    assert 'a.tar.gz is damaged' in text
    assert [p.name for p in out.glob('*.mp4')] == ['mine.mp4']


def encrypt(path):
    """Sets the flag of encryption in all headers of a ZIP file."""
    data = bytearray(path.read_bytes())
    for magic, offset in ((b'PK\x03\x04', 6), (b'PK\x01\x02', 8)):
        at = data.find(magic)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(magic, at + 1)
    path.write_bytes(data)


def test_an_encrypted_zip_file_is_named(folder, capsys):
    write_ucf101(folder)
    name = 'UCF101TrainTestSplits-RecognitionTask.zip'
    zip_file(folder / name, {'classInd.txt': folder / 'classInd.txt'})
    (folder / 'classInd.txt').unlink()
    encrypt(folder / name)
    with pytest.raises(PreparationError, match='There is no classInd.txt'):
        run(ucf101, folder)
    said = capsys.readouterr().out
    assert f'{name} is encrypted (classInd.txt needs a password)' in said


@pytest.mark.parametrize('content', ['encrypted', 'empty'])
def test_a_wrapped_part_that_cannot_be_read(folder, capsys, content):
    write_sthv2(folder)
    part = folder / f'{sthv2.NAME}-00'
    part.write_bytes(b'part')
    path = folder / f'{part.name}.zip'
    zip_file(path, {part.name: part} if content == 'encrypted' else {})
    part.unlink()
    encrypt(path)
    if content == 'empty':  # the magic of a ZIP file with a file
        path.write_bytes(b'PK\x03\x04' + path.read_bytes())
    with pytest.raises(PreparationError, match='There is no video'):
        run(sthv2, folder)
    status = dict(encrypted='encrypted', empty='damaged')[content]
    assert f'{path.name} is {status}' in capsys.readouterr().out


@pytest.mark.parametrize('module', WRITERS)
def test_a_list_that_is_not_utf8_is_named(folder, module):
    WRITERS[module](folder)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes() + b'caf\xe9 1\n')
    with pytest.raises(PreparationError, match='line .: the byte 0xe9 is not'):
        run(module, folder)


@pytest.mark.parametrize('module', [k400, ucf101, hmdb51, epic, sthv2])
def test_a_byte_order_mark_is_no_part_of_a_name(folder, module):
    WRITERS[module](folder)
    for path in folder.iterdir():
        path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
    with pytest.raises(PreparationError, match='There is no (clip|video) in'):
        run(module, folder)


@pytest.mark.parametrize(
    'classes', ['Archery 1\n', '2 Archery\n', '1 Archery\n2 Archery\n', '1']
)
def test_another_classind_is_named(folder, classes):
    write_ucf101(folder, classes=classes)
    with pytest.raises(PreparationError, match='not the official classInd'):
        run(ucf101, folder)


@pytest.mark.parametrize(
    'content', ['{"a": 1}', '[1]', '[{"id": 7}]', 'null', '[' * 10**5]
)
def test_another_train_json_is_named(folder, content):
    write_sthv2(folder)
    (folder / 'train.json').write_text(content)
    message = 'train.json.*(must be .*official train|is not a JSON)'
    with pytest.raises(PreparationError, match=message):
        run(sthv2, folder)


@pytest.mark.parametrize(
    'labels', [['Moving'], {'Moving': 'x'}, {'Moving': 0, 'Lifting': 0}]
)
def test_another_labels_json_is_named(folder, labels):
    write_sthv2(folder, labels=labels)
    with pytest.raises(PreparationError, match='not the official labels.json'):
        run(sthv2, folder)


@pytest.mark.parametrize(
    'row, message',
    [
        ('abseiling', 'line 2: the row has more or fewer'),
        ('a,aaaaaaaaaaa,0,10,train,1,2', 'line 2: the row has more or fewer'),
        ('a,aaaaaaaaaaa,inf,10,train', 'line 2: time_start'),
        ('a,aaaaaaaaaaa,,10,train', 'line 2: time_start'),
        ('"' + 'a' * 200_000, 'line 2 is not CSV'),
    ],
)
def test_a_wrong_row_of_a_csv_file_is_named(folder, row, message):
    write_kinetics(folder)
    (folder / 'train.csv').write_text(f'{KINETICS}{row}\n')
    with pytest.raises(PreparationError, match=f'train.csv, {message}'):
        run(k400, folder)


@pytest.mark.parametrize('content', ['', '[]', '{"files": 1}', '{'])
def test_a_broken_note_of_an_earlier_run_is_ignored(folder, content):
    write_kinetics(folder)
    clip = write_clip(folder / 'aaaaaaaaaaa_000000_000010.mp4', 30)
    tar_gz(folder / 'train/part_0.tar.gz', {clip.name: clip})
    clip.unlink()
    out = run(k400, folder)
    (note,) = out.glob('.prepared/*.json')
    note.write_text(content)
    run(k400, folder)
    assert json.loads(note.read_text())['files']


def test_names_of_folders_are_no_markup(folder):
    write_kinetics(folder)
    clip = write_clip(folder / 'aaaaaaaaaaa_000000_000010.mp4', 30)
    tar_gz(folder / '[/bold] x/part_0.tar.gz', {clip.name: clip})
    clip.unlink()
    assert list(run(k400, folder).glob('videos_train/*/*.mp4'))


def test_a_full_disk_is_named(folder, monkeypatch):
    write_kinetics(folder)
    clip = write_clip(folder / 'aaaaaaaaaaa_000000_000010.mp4', 30)
    tar_gz(folder / 'train/part_0.tar.gz', {clip.name: clip})
    clip.unlink()

    def full(source, target, length):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(shutil, 'copyfileobj', full)
    with pytest.raises(PreparationError, match='disk of --out is full'):
        run(k400, folder)
    assert not (folder.parent / 'out/.unpacking').exists()
