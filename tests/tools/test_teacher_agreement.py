import numpy as np
import pytest
import teacher_agreement as tool

# Three classes; confident where right, unsure where wrong.
VIT = [[9, 0, 0], [9, 0, 0], [0, 1, 0], [1, 0, 0]]
CNN = [[9, 0, 0], [0, 1, 0], [0, 0, 9], [1, 0, 0]]
LABELS = [0, 0, 2, 2]


def test_agreement():
    logits = dict(vit=np.array(VIT), cnn=np.array(CNN))
    assert tool.agreement(logits, np.array(LABELS)) == [
        ('vit', 0.5, 0.25),
        ('cnn', 0.5, 0.25),
        ('mean of their probabilities', 0.75, None),
        ('none', 0.25, None),
    ]


class Cache:
    manifest = dict(samples=4, views=2)

    def __init__(self, folder, teachers):
        assert (folder, teachers) == ('cache', {})

    def records(self, keys):
        kind = [('vit.logits', 'f2', 3), ('vit.map', 'f2', 1)]
        return np.array([(VIT[i], [view]) for i, view in keys], kind)


@pytest.fixture
def lists(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, 'TeacherCache', Cache)
    for name, labels in (('all', LABELS), ('few', [0, -1, -1, -1])):
        text = ''.join(f'{i}.mp4 {label}\n' for i, label in enumerate(labels))
        (tmp_path / name).write_text(text)
    return tmp_path


def test_clips_whose_label_the_teachers_have_not_seen(lists, capsys):
    few = str(lists / 'few')
    tool.main(['cache', str(lists / 'all'), '--unlabelled-in', few])
    printed = capsys.readouterr().out
    assert '3 clips, 2 views of each' in printed
    assert '33.3' in printed  # one of three


def test_wrong_lists(lists):
    (lists / 'short').write_text('0.mp4 1\n')
    with pytest.raises(SystemExit, match='1 clips, but the cache has 4'):
        tool.main(['cache', str(lists / 'short')])
    all_, few = str(lists / 'few'), str(lists / 'all')
    with pytest.raises(SystemExit, match='No clip is left'):
        tool.main(['cache', all_, '--unlabelled-in', few])
    with pytest.raises(SystemExit, match='does not exist'):
        tool.main(['cache', str(lists / 'nowhere')])
