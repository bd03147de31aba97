"""Says how to get a file that runs read and that no run makes."""

import os.path as osp
import shlex

# Files of tools/data/pretrained_teachers.py.
PRETRAINED = ('dinov2_s', 'efficientnet_lite0')


def how_to_fetch(key: str, path: str, config: str) -> str:
    """Returns the command that fetches weights, or where they are named.

    Args:
        key (str): Of the config.
        path (str): Its value.
        config (str): File of the config.
    """
    folder, name = osp.split(path)
    stem = osp.splitext(name)[0]
    if stem in PRETRAINED:
        return (
            f'python tools/data/pretrained_teachers.py --only {stem} --out '
            f'{shlex.quote(folder)}'
        )
    return f'{key}={path!r}: see {config}'


def how_to_prepare(ann_file: str, data_root: str) -> str:
    """Returns the command that creates an annotation file.

    Args:
        ann_file (str): Path in the config.
        data_root (str): Folder that replaces its ``data``.
    """
    parts = ann_file.split('/')
    if parts[0] != 'data' or len(parts) < 3:
        return f'ann_file={ann_file!r}'
    script = f'tools/data/{parts[1]}/prepare.py'
    here = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
    if not osp.isfile(osp.join(here, *script.split('/'))):
        return f'ann_file={ann_file!r}; --data-root names the folder of data'
    folder = shlex.quote(osp.join(data_root, parts[1]))
    return f'python {script} --out {folder}; or another --data-root'
