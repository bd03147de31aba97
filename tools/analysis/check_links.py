"""Checks the links between Markdown files of the repository.

    python tools/analysis/check_links.py docs README.md

Every relative link must lead to a file or folder, and every ``#anchor`` to a
heading of the page. Exit code 1 with a list of those that do not. Folders
whose name begins with ``_`` are left out: the built site is in one.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import List, Set

LINK = re.compile(r'\[[^\]]*\]\(([^)\s]+)\)')
FENCE = re.compile(r'^(```|~~~).*?^\1', re.MULTILINE | re.DOTALL)
CODE = re.compile(r'`[^`\n]*`')
HEADING = re.compile(r'^#+ +(.+)$', re.MULTILINE)


def anchor(heading: str) -> str:
    """Returns the anchor of a heading, as GitHub and MyST make it."""
    text = re.sub(r'[^\w\- ]', '', heading.strip().lower())
    return text.replace(' ', '-')


def anchors(page: Path) -> Set[str]:
    """Returns the anchors of all headings of a page."""
    text = FENCE.sub('', page.read_text(encoding='utf-8'))
    return {anchor(heading) for heading in HEADING.findall(text)}


def broken_links(page: Path) -> List[str]:
    """Returns the links of a page that lead nowhere."""
    text = FENCE.sub('', page.read_text(encoding='utf-8'))
    broken = []
    for link in LINK.findall(CODE.sub('', text)):
        if '://' in link or link.startswith('mailto:'):
            continue
        path, _, fragment = link.partition('#')
        target = page.parent / path if path else page
        if not target.exists():
            broken.append(f'{page}: {link} does not exist')
        elif fragment and target.suffix == '.md':
            if fragment not in anchors(target):
                broken.append(f'{page}: {link} has no such heading')
    return broken


def pages_of(path: Path) -> List[Path]:
    """Returns a file itself, or the Markdown pages below a folder."""
    if not path.is_dir():
        return [path]
    return [
        page
        for page in sorted(path.rglob('*.md'))
        if not any(
            part.startswith('_') for part in page.relative_to(path).parts
        )
    ]


def main() -> None:
    """Checks all pages and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('paths', nargs='+', type=Path, help='files, folders')
    pages = [
        page for path in parser.parse_args().paths for page in pages_of(path)
    ]
    broken = [line for page in pages for line in broken_links(page)]
    if broken:
        sys.exit('\n'.join(broken))
    print(f'{len(pages)} pages: every link inside the repository is good.')


if __name__ == '__main__':
    main()
