"""EPIC-KITCHENS-100: videos are linked, CSV files follow the videos."""

import csv
import shutil

import pytest
from official_layouts import (
    assert_loads,
    base_datasets,
    load_prepare,
    rows,
    write_clip,
    zip_file,
)

import dtkd_mmaction  # noqa: F401  (registers the data sets)

epic = load_prepare('epic_kitchens')
PreparationError = epic.PreparationError

COLUMNS = (
    'narration_id,participant_id,video_id,narration_timestamp,'
    'start_timestamp,stop_timestamp,start_frame,stop_frame,narration,verb,'
    'verb_class,noun,noun_class,all_nouns,all_noun_classes'
).split(',')


def segment(video, number, start, verb, noun):
    return [
        f'{video}_{number}',
        video.split('_')[0],
        video,
        '00:00:00.100',
        f'00:00:0{start}.00',
        f'00:00:0{start}.60',
        1,
        15,
        'put down "the" pan, then leave',
        'put-down',
        verb,
        'pan',
        noun,
        "['pan', 'lid']",
        f'[{noun}, 2]',
    ]


SEGMENTS = dict(
    train=[
        segment('P01_01', 0, 0, 3, 299),
        segment('P01_01', 1, 1, 96, 0),
        segment('P37_101', 0, 0, 1, 7),
    ],
    validation=[segment('P01_11', 0, 0, 0, 2)],
)
VIDEOS = ('P01_01', 'P01_11', 'P37_101')


@pytest.fixture
def annotations(tmp_path):
    """The repository with the CSV files."""
    folder = tmp_path / 'fetched/epic-kitchens-100-annotations'
    (folder / 'retrieval_annotations').mkdir(parents=True)
    for part, segments in SEGMENTS.items():
        path = folder / f'EPIC_100_{part}.csv'
        with open(path, 'w', newline='') as file:
            csv.writer(file, lineterminator='\n').writerows(
                [COLUMNS, *segments]
            )
    # The official file has five nouns of VISOR, which no segment has.
    for name, count in (('verb_classes', 97), ('noun_classes_v2', 305)):
        (folder / f'EPIC_100_{name}.csv').write_text(
            'id,key,instances,category\n'
            + ''.join(f'{i},word{i},"[\'word{i}\']",c\n' for i in range(count))
        )
    (folder / 'retrieval_annotations/EPIC_100_retrieval_train.csv').touch()
    return folder


@pytest.fixture
def fetched(annotations):
    """With the videos, as epic_downloader.py leaves them."""
    for number, name in enumerate(VIDEOS):
        path = annotations.parent / 'EPIC-KITCHENS' / name.split('_')[0]
        write_clip(path / 'videos' / f'{name}.MP4', 60 * number + 30, 50)
        (path / 'rgb_frames').mkdir(exist_ok=True)
        (path / 'rgb_frames' / f'{name}.tar').write_bytes(b'not looked at')
    return annotations.parent


def prepare(folder, out, *options):
    epic.main(['--archives', str(folder), '--out', str(out), *options])


def check(out):
    train, val = base_datasets('epic_kitchens', out)
    assert (len(train), len(val)) == (3, 1)
    assert assert_loads(train, 1)['data_samples'].gt_label.tolist() == [96, 0]
    assert_loads(val)


def test_official_layout(fetched, annotations, tmp_path, capsys):
    out = tmp_path / 'out'
    for _ in range(2):
        prepare(fetched, out, '--allow-partial')
        check(out)
    for part in SEGMENTS:
        name = f'EPIC_100_{part}.csv'
        written = out / 'epic-kitchens-100-annotations' / name
        assert written.read_bytes() == (annotations / name).read_bytes()
    assert (out / 'EPIC-KITCHENS/P01/videos/P01_01.MP4').is_symlink()
    said = capsys.readouterr().out
    assert 'EPIC_100_train.csv: segments named: 3 instead of 67,217' in said
    assert 'videos: 3 instead of 633' in said
    assert 'verb_classes.csv: ' not in said  # 97 are 97
    assert 'noun_classes_v2.csv: ' not in said
    assert set(rows(out / 'videos.txt')) == {
        f'{name.split("_")[0]}/videos/{name}.MP4' for name in VIDEOS
    }


def test_where_the_configs_look(fetched, tmp_path):
    """Everything is in the output folder itself; a CSV file stays whole."""
    out = tmp_path / 'out'
    fetched.rename(out)
    video = out / 'EPIC-KITCHENS/P37/videos/P37_101.MP4'
    elsewhere = video.rename(tmp_path / 'P37_101.mp4')
    for _ in range(2):
        epic.main(['--out', str(out), '--allow-partial'])
        train, val = base_datasets('epic_kitchens', out)
        assert (len(train), len(val)) == (2, 1)
        assert_loads(train)
    (gone,) = (out / 'unusable_clips.txt').read_text().splitlines()
    assert gone.endswith('P37/videos/P37_101 missing')

    shutil.copy(elsewhere, out / 'P37_101.mp4')
    epic.main(['--out', str(out), '--allow-partial'])
    check(out)
    assert not (out / 'unusable_clips.txt').exists()


def test_a_zip_file_of_the_annotations(fetched, annotations, tmp_path):
    name = 'epic-kitchens-100-annotations-master'
    zip_file(
        fetched / f'{name}.zip',
        {
            f'{name}/{path.relative_to(annotations)}': path
            for path in annotations.rglob('*.csv')
        },
    )
    shutil.rmtree(annotations)
    prepare(fetched, tmp_path / 'out', '--allow-partial')
    check(tmp_path / 'out')


def test_is_official_only_in_full(fetched, tmp_path):
    with pytest.raises(PreparationError, match='--allow-partial'):
        prepare(fetched, tmp_path / 'out')
    out = tmp_path / 'out/epic-kitchens-100-annotations'
    assert not out.exists()


def test_a_class_file_that_is_cut_off(fetched, annotations, tmp_path, capsys):
    path = annotations / 'EPIC_100_noun_classes_v2.csv'
    path.write_text('\n'.join(path.read_text().splitlines()[:300]))
    prepare(fetched, tmp_path / 'out', '--allow-partial')
    assert 'noun_classes_v2.csv: 299, fewer' in capsys.readouterr().out


def test_says_what_to_fetch(annotations, tmp_path):
    folder = annotations.parent
    with pytest.raises(PreparationError, match='no video.*\n.*CC BY-NC'):
        prepare(folder, tmp_path / 'out')
    (annotations / 'EPIC_100_validation.csv').unlink()
    with pytest.raises(PreparationError, match='no EPIC_100_validation'):
        prepare(folder, tmp_path / 'other')


def test_a_csv_file_without_labels(fetched, annotations, tmp_path):
    path = annotations / 'EPIC_100_train.csv'
    path.write_text('narration_id,participant_id,video_id\n')
    with pytest.raises(PreparationError, match='it is not EPIC_100_train'):
        prepare(fetched, tmp_path / 'out')
