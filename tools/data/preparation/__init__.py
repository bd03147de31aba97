"""Shared parts of the ``prepare.py`` of all data sets.

``command``: options and final steps of every run; ``download``: downloads;
``sources``: the folder of downloaded files, with ``files`` for unpacked files
and ``archives``, ``rar`` and ``limits`` for archives; ``annotations``: reading
lists; ``report``: official numbers, and writing lists.
"""

from .annotations import check_name, read_csv, read_json, read_lines
from .archives import Archive, EncryptedError, is_wrapped, wrapped_part
from .command import check_decoding, finish, parse_args, run
from .download import download_files
from .errors import PreparationError
from .files import class_folder_route, is_video, without_spaces
from .report import ClipList, Report, index_clips, write_lines
from .sources import Sources

__all__ = [
    'Archive',
    'ClipList',
    'EncryptedError',
    'PreparationError',
    'Report',
    'Sources',
    'check_decoding',
    'check_name',
    'class_folder_route',
    'download_files',
    'finish',
    'index_clips',
    'is_video',
    'is_wrapped',
    'parse_args',
    'read_csv',
    'read_json',
    'read_lines',
    'run',
    'without_spaces',
    'wrapped_part',
    'write_lines',
]
