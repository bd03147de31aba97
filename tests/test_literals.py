"""Literals are read, and code among them is refused."""

import pytest
from mmengine.config import Config

from dtkd_mmaction.files import DamagedFileError
from dtkd_mmaction.literals import parse_literals


def test_what_mmengine_writes():
    content = dict(
        model=dict(type='X', numbers=(1, -2.5, 1e-6), none=None),
        pairs=[dict(a=1), dict({'not a name': [dict()], 'x': True})],
        words='import os  # "\'\n',
        end=float('inf'),
        nothing=dict(),
    )
    text = Config(content).pretty_text
    assert parse_literals(text, 'a config') == content


@pytest.mark.parametrize(
    'text',
    [
        'a = open({marker!r}, "w")',
        'a = dict(b=open({marker!r}, "w"))',
        'a = dict(**open({marker!r}, "w"))',
        'a = dict([open({marker!r}, "w")])',
        'open({marker!r}, "w")',
        'import os',
        'a = [open(x, "w") for x in [{marker!r}]]',
        'a = f"{{open({marker!r}, \'w\')}}"',
        'a = (lambda: 1)()',
        'dict = 1\na = dict()()',
        'a.b = 1',
        'a = b = 1',
        'a = {{[]: 1}}',
        'a = (',
        'a = 1\0',
        '(' * 5000,
    ],
)
def test_code_is_refused_and_never_run(tmp_path, text):
    marker = tmp_path / 'marker'
    text = 'first = 1\n' + text.format(marker=str(marker))
    with pytest.raises(DamagedFileError, match='x.pth'):
        parse_literals(text, "meta['cfg'] of x.pth")
    assert not marker.exists()
