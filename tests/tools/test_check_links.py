"""Links between pages: broken ones are named, the built site is left out."""

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / 'tools/analysis/check_links.py'


def check(folder):
    """Runs the tool on a folder."""
    return subprocess.run(
        [sys.executable, str(TOOL), str(folder)],
        capture_output=True,
        text=True,
    )


def test_broken_links_and_headings_are_named(tmp_path):
    (tmp_path / 'page.md').write_text(
        '# A page\n[here](#a-page) [gone](gone.md) [part](page.md#b)\n'
    )
    done = check(tmp_path)
    assert done.returncode == 1
    named = [line.split(': ', 1)[1] for line in done.stderr.splitlines()]
    assert named == [
        'gone.md does not exist',
        'page.md#b has no such heading',
    ]


def test_the_built_site_is_left_out(tmp_path):
    built = tmp_path / '_build' / 'html' / '_sources'
    built.mkdir(parents=True)
    (built / 'page.md').write_text('[gone](../configs/gone.py)\n')
    (tmp_path / 'page.md').write_text('[built](_build)\n')
    assert check(tmp_path).returncode == 0
