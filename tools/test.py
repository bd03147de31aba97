"""``tools/test.py`` of the installed MMAction2, with the plugin imported.

So stock configs, which have no ``custom_imports``, are tested here too.
"""

import os.path as osp
import runpy

import mmaction

import dtkd_mmaction  # noqa: F401, I001  (it repairs what follows)

if __name__ == '__main__':
    tools = osp.join(osp.dirname(mmaction.__file__), '.mim', 'tools')
    runpy.run_path(osp.join(tools, 'test.py'), run_name='__main__')
