"""What the ``prepare.py`` of all data sets share.

``command``: options, and the end of every run; ``download``: fetching;
``sources``: the folder with what was fetched, with ``files`` for what is
unpacked already and ``archives`` for what is not; ``report``: lists and
official numbers.
"""

from .archives import Archive, is_wrapped, wrapped_part
from .command import check_decoding, finish, parse_args, run
from .download import download_files
from .errors import PreparationError
from .files import class_folder_route, is_video, without_spaces
from .report import ClipList, Report, index_clips, write_text
from .sources import Sources

__all__ = [
    'Archive',
    'ClipList',
    'PreparationError',
    'Report',
    'Sources',
    'check_decoding',
    'class_folder_route',
    'download_files',
    'finish',
    'index_clips',
    'is_video',
    'is_wrapped',
    'parse_args',
    'run',
    'without_spaces',
    'wrapped_part',
    'write_text',
]
