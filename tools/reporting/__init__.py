"""Parts of ``tools/report.py``: one file per part of the page.

``runs`` and ``roles`` find the trainings, ``predictions``, ``comparison``,
``costs`` and ``teachers`` measure, ``svg`` and ``pictures`` draw, ``page``
and ``sections`` write the HTML.
"""

import os.path as osp
import sys

# The tools that look at single runs and clips lie in a folder of their own.
sys.path.append(
    osp.join(osp.dirname(osp.dirname(osp.abspath(__file__))), 'analysis')
)
