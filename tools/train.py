"""``tools/train.py`` of the installed MMAction2, with the plugin imported.

It trains stock configs, too, which have no ``custom_imports``.
"""

import os.path as osp
import runpy

import mmaction

import dtkd_mmaction  # noqa: F401, I001  (it repairs what follows)

if __name__ == '__main__':
    tools = osp.join(osp.dirname(mmaction.__file__), '.mim', 'tools')
    runpy.run_path(osp.join(tools, 'train.py'), run_name='__main__')
