"""Writes the metafiles of ``configs``, which ``mim search`` reads.

Run it after a config was added, renamed or removed::

    python tools/metafiles.py
"""

import argparse
import os.path as osp
import sys
from glob import escape, glob
from typing import Dict, NamedTuple, Optional, Sequence

import yaml

from dtkd_mmaction.files import write_text

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
PAPER = {
    'Title': 'Revisiting Cross-Architecture Distillation: Adaptive '
    'Dual-Teacher Transfer for Lightweight Video Models',
    'URL': 'https://arxiv.org/abs/2511.09469',
}
# Part of a config's name -> data set.
DATA = {
    'hmdb51': 'HMDB51',
    'epic': 'EPIC-KITCHENS-100',
    'k400': 'Kinetics-400',
    'ssv2': 'Something-Something V2',
}
HEAD = '# Written by tools/metafiles.py.\n'


class Collection(NamedTuple):
    """The configs of a folder.

    Attributes:
        name (str): Name of the collection.
        readme (str): The page that describes it.
    """

    name: str
    readme: str


FOLDERS = {
    'dtkd': Collection('DT-KD', 'docs/configs.md'),
    'baselines': Collection(
        'Compared distillation methods', 'docs/methods.md'
    ),
    'ablations': Collection('DT-KD ablations', 'docs/configs.md'),
    'teachers': Collection('Stage one', 'docs/configs.md'),
}


def data_set(name: str) -> str:
    """Returns the data set that a config's name contains.

    Raises:
        SystemExit: If it contains none.
    """
    for key, title in DATA.items():
        if key in name.split('_'):
            return title
    raise SystemExit(
        f'{name}.py: its name holds none of {list(DATA)}, so its data set is '
        'unknown. Rename it, or add the data set to tools/metafiles.py.'
    )


def metafile(folder: str, root: str = ROOT) -> str:
    """Returns the text of a folder's metafile.

    Args:
        folder (str): A folder of ``configs``.
        root (str): The repository.
    """
    collection = FOLDERS[folder]
    pattern = osp.join(escape(root), 'configs', folder, '**', '*.py')
    models = []
    for path in sorted(glob(pattern, recursive=True)):
        name = osp.splitext(osp.basename(path))[0]
        models.append(
            {
                'Name': name,
                'Config': osp.relpath(path, root),
                'In Collection': collection.name,
                'Metadata': {'Training Data': data_set(name)},
            }
        )
    content = {
        'Collections': [
            {
                'Name': collection.name,
                'README': collection.readme,
                'Paper': PAPER,
            }
        ],
        'Models': models,
    }
    return HEAD + yaml.safe_dump(content, sort_keys=False, width=79)


def files(root: str = ROOT) -> Dict[str, str]:
    """Returns the text of every file: path -> text."""
    paths = {f: f'configs/{f}/metafile.yml' for f in FOLDERS}
    texts = {path: metafile(folder, root) for folder, path in paths.items()}
    index = {'Import': list(paths.values())}
    texts['model-index.yml'] = HEAD + yaml.safe_dump(index)
    return texts


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Writes the files, or lists those that are not up to date."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--check',
        action='store_true',
        help='write nothing; exit with 1 if a file is not up to date',
    )
    args = parser.parse_args(argv)
    changed = []
    for name, text in files().items():
        path = osp.join(ROOT, name)
        before = None
        if osp.isfile(path):
            with open(path, encoding='utf-8') as f:
                before = f.read()
        if text != before:
            changed.append(name)
            if not args.check:
                write_text(path, text)
    for name in changed:
        print(f'{name} {"is not up to date" if args.check else "is written"}')
    if args.check and changed:
        sys.exit('Run: python tools/metafiles.py')


if __name__ == '__main__':
    main()
