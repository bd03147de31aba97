"""Clips are found in the layouts that people have."""

import os
import re

import pytest
from projects.clips import find_clips


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'x')


def found_as(found):
    """(path from the root, class, split) of every clip."""
    return [
        (os.path.relpath(clip.path, found.root), clip.label, clip.split)
        for clip in found.clips
    ]


def test_class_folders(tmp_path):
    touch(
        tmp_path,
        *('left turn/a b.MP4', 'left turn/c.avi', '波乗り/d.mov'),
        *('.git/e.mp4', '__MACOSX/left turn/f.mp4', '波乗り/._d.mov'),
        *('波乗り/notes.txt', '波乗り/deep/er/g.webm'),
    )
    found = find_clips(str(tmp_path))
    assert not found.problems
    assert found_as(found) == [
        ('left turn/a b.MP4', 'left turn', ''),
        ('left turn/c.avi', 'left turn', ''),
        ('波乗り/d.mov', '波乗り', ''),
        ('波乗り/deep/er/g.webm', '波乗り', ''),
    ]
    assert any('1 x *.txt' in note for note in found.notes)
    assert any('deeper' in note and 'g.webm' in note for note in found.notes)


def test_names_in_two_spellings_of_unicode(tmp_path):
    """macOS writes an accent as a character of its own."""
    touch(tmp_path, 'train/e\u0301/a.mp4', 'val/\u00e9/b.mp4')
    labels = {clip.label for clip in find_clips(str(tmp_path)).clips}
    assert labels == {'\u00e9'}


def test_splits_above_the_classes(tmp_path):
    touch(
        tmp_path, 'Train/run/a.mp4', 'validation/run/b.mp4', 'TEST/run/c.mp4'
    )
    found = find_clips(str(tmp_path))
    assert sorted(split for _, _, split in found_as(found)) == [
        'test',
        'train',
        'val',
    ]


def test_a_class_called_train(tmp_path):
    touch(tmp_path, 'train/a.mp4', 'bus/b.mp4')
    found = find_clips(str(tmp_path))
    assert {clip.label for clip in found.clips} == {'train', 'bus'}


def test_one_folder_around_the_classes(tmp_path):
    touch(tmp_path, 'download/videos/run/a.mp4', 'download/videos/walk/b.mp4')
    found = find_clips(str(tmp_path))
    assert found.root == str(tmp_path / 'download' / 'videos')
    assert {clip.label for clip in found.clips} == {'run', 'walk'}


def test_links_are_followed_and_circles_are_not(tmp_path):
    touch(tmp_path, 'disk/a.mp4', 'clips/run/b.mp4')
    (tmp_path / 'clips' / 'walk').symlink_to(tmp_path / 'disk')
    (tmp_path / 'clips' / 'run' / 'up').symlink_to(tmp_path / 'clips')
    (tmp_path / 'clips' / 'run' / 'gone.mp4').symlink_to(tmp_path / 'nothing')
    found = find_clips(str(tmp_path / 'clips'))
    assert [name for name, _, _ in found_as(found)] == [
        'run/b.mp4',
        'run/gone.mp4',  # the check of the files names it
        'walk/a.mp4',
    ]


def test_the_project_itself_is_not_searched(tmp_path):
    touch(tmp_path, 'run/a.mp4', 'project/work_dirs/b.mp4')
    found = find_clips(str(tmp_path), str(tmp_path / 'project'))
    assert [name for name, _, _ in found_as(found)] == ['run/a.mp4']


@pytest.mark.parametrize(
    'names, message',
    [
        (['notes.txt'], r"holds no video.*\{'\*.txt': 1\}"),
        (['run/a.mp4', 'b.mp4'], '1 videos lie in no class folder.*b.mp4'),
        (
            ['train/run/a.mp4', 'val/run/b.mp4', 'walk/c/d.mp4'],
            r"splits \['train', 'val'\].*folders \['walk'\]",
        ),
    ],
)
def test_layouts_that_are_refused(tmp_path, names, message):
    touch(tmp_path, *names)
    (problem,) = find_clips(str(tmp_path)).problems
    assert re.search(message, problem), problem


def test_no_such_folder(tmp_path):
    (problem,) = find_clips(str(tmp_path / 'nowhere')).problems
    assert 'nowhere' in problem and 'does not exist' in problem


def write_csv(folder, text, encoding='utf-8'):
    path = folder / 'clips.csv'
    path.write_text(text, encoding=encoding)
    return str(path)


def test_csv_with_a_head_and_a_split(tmp_path):
    path = write_csv(
        tmp_path,
        '\ufeffSplit;Video;Class\r\ntrain;a b.mp4;run fast\r\n'
        'Valid;"sub/c;d.mp4";walk\r\n\r\n',
    )
    found = find_clips(path)
    assert not found.problems
    assert [(c.path, c.label, c.split) for c in found.clips] == [
        (str(tmp_path / 'a b.mp4'), 'run fast', 'train'),
        (str(tmp_path / 'sub' / 'c;d.mp4'), 'walk', 'val'),
    ]
    assert found.root == str(tmp_path)


def test_csv_without_a_head_and_labels_from_one(tmp_path):
    found = find_clips(write_csv(tmp_path, 'a.mp4,1\n/far/b.mp4,3\n'))
    assert [clip.label for clip in found.clips] == ['1', '3']
    assert found.clips[1].path == '/far/b.mp4'
    assert any('1 to 3 became 0 to 1' in note for note in found.notes)


@pytest.mark.parametrize(
    'text, message',
    [
        ('path,label\n', 'lists no clip'),
        ('a.mp4\n', 'line 1 has no path or no label'),
        ('a.mp4,run,later\n', "the split is 'later'"),
        ('a.mp4,run,train\nb.mp4,run\n', '1 of 2 lines .* no split'),
        ('a.mp4,-1\nb.mp4,0\n', 'the label -1'),
        ('clip_a,run\n', 'no suffix'),
    ],
)
def test_csv_files_that_are_refused(tmp_path, text, message):
    problems = find_clips(write_csv(tmp_path, text)).problems
    assert any(re.search(message, problem) for problem in problems), problems


def test_a_csv_file_that_is_no_text(tmp_path):
    path = tmp_path / 'clips.csv'
    path.write_bytes(b'\xff\xfe\x00a')
    (problem,) = find_clips(str(path)).problems
    assert 'UTF-8' in problem
