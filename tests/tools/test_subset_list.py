import pytest
import subset_list

LINES = 'a b.mp4 0\nc.mp4 1\n\nd.mp4 2\ne.mp4 0\nf.mp4 1\n'


@pytest.mark.parametrize(
    'options, expected',
    [
        ([], 'a b.mp4 0\ne.mp4 0\n'),
        (
            ['--unlabelled'],
            'a b.mp4 0\nc.mp4 -1\nd.mp4 -1\ne.mp4 0\nf.mp4 -1\n',
        ),
    ],
)
def test_every_third_line(options, expected, tmp_path, capsys):
    (tmp_path / 'list.txt').write_text(LINES)
    out = tmp_path / 'new' / 'part.txt'
    subset_list.main(
        [str(tmp_path / 'list.txt'), str(out), '--every', '3', *options]
    )
    assert out.read_text() == expected
    printed = capsys.readouterr().out
    assert f'{len(expected.splitlines())} clips, 2 of them' in printed


def test_every_needs_a_positive_number(capsys):
    with pytest.raises(SystemExit):
        subset_list.main(['a', 'b', '--every', '0'])
    assert 'at least 1 is needed' in capsys.readouterr().err
