"""Fingerprint of the clips of a data set."""

import hashlib
import importlib
import json
import os
import os.path as osp
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List, Optional, Sequence, Tuple

from mmengine.dataset import BaseDataset

# Keys of the path of a clip in MMAction2's data sets.
PATH_KEYS = ('filename', 'frame_dir', 'audio_path')
# Frames looked at per data set; of each clip at least LEAST_FRAMES.
MAX_FRAMES = 500_000
LEAST_FRAMES = 3
# Files of which some of the content is read, spread over the list.
MAX_CONTENTS = 10_000
# Bytes read at the beginning, in the middle and at the end of a file.
BLOCK = 4096
# Waiting for a network file system takes no processor time.
THREADS = 16
# Files per task of a thread.
CHUNK = 64
# First letters of a transform's name -> module that decodes.
DECODERS = dict(
    Decord='decord',
    FrameExact='decord',
    SegmentInit='decord',
    PyAV='av',
    OpenCV='cv2',
    RawFrame='cv2',
    ImageDecode='cv2',
)

# Size and content sample of a file; None if it is no regular file.
FilePrint = Optional[Tuple[int, str]]


def clips_digest(dataset: BaseDataset) -> str:
    """Returns a hash of the annotations and of the files they name.

    It covers the size of every file and parts of the content of up to
    :data:`MAX_CONTENTS` files, but no modification time. So the digest changes
    when clips are encoded or frames are extracted again. A copy of the clips
    in another folder has the same digest.

    Args:
        dataset (BaseDataset): Its annotations are loaded. It may be inside
            of MMEngine's wrappers.

    Returns:
        str: SHA-256 in hexadecimal digits.
    """
    infos = [dict(dataset.get_data_info(i)) for i in range(len(dataset))]
    root = common_folder([clip_path(info) for info in infos])
    digest = hashlib.sha256()
    for info in infos:
        info.pop('sample_idx', None)
        for key in PATH_KEYS:
            if isinstance(info.get(key), str):
                info[key] = osp.relpath(info[key], root)
        text = json.dumps(info, sort_keys=True, default=str)
        digest.update(text.encode())
    files = clip_files(infos, root)
    for found in zip(files, file_prints(files, root)):
        digest.update(json.dumps(found).encode())
    return digest.hexdigest()


def clip_path(info: dict) -> Optional[str]:
    """Returns the path in an annotation, or None if it has none."""
    paths = (info.get(key) for key in PATH_KEYS)
    return next((path for path in paths if isinstance(path, str)), None)


def common_folder(paths: Sequence[Optional[str]]) -> str:
    """Returns the deepest folder that holds all clips."""
    folders = {osp.dirname(osp.abspath(path)) for path in paths if path}
    try:
        return osp.commonpath(folders) if folders else os.curdir
    except ValueError:  # on several drives of Windows
        return os.curdir


def clip_files(infos: Sequence[dict], root: str) -> List[str]:
    """Lists the files of the clips: videos, or frames in folders.

    Args:
        infos (Sequence[dict]): Annotations, paths relative to ``root``.
        root (str): Folder of all clips.

    Returns:
        list[str]: Different paths relative to ``root``. Of each folder, as
            many frames as :data:`MAX_FRAMES` allows.
    """
    templates: Dict[str, Optional[str]] = {}
    for info in infos:
        path = clip_path(info)
        if path is not None:
            templates[path] = info.get('filename_tmpl')
    if not any('frame_dir' in info for info in infos):
        return list(templates)
    count = max(LEAST_FRAMES, MAX_FRAMES // len(templates))
    with ThreadPoolExecutor(THREADS) as pool:
        listings = pool.map(
            lambda path: frames_in(osp.join(root, path), templates[path]),
            templates,
        )
        return [
            osp.join(path, name)
            for path, names in zip(templates, listings)
            for name in spread(names, count)
        ]


def frames_in(folder: str, template: Optional[str]) -> List[str]:
    """Lists the names of the frames in a folder, sorted.

    Args:
        folder (str): Folder of one clip.
        template (str, optional): ``filename_tmpl``, such as
            ``'img_{:05}.jpg'``. Other files are ignored.
    """
    if not osp.isdir(folder):
        return []
    fixed = re.split(r'\{[^}]*\}', template or '{}')
    pattern = re.compile('.*'.join(map(re.escape, fixed)))
    return sorted(filter(pattern.fullmatch, os.listdir(folder)))


def spread(items: List[str], count: int) -> List[str]:
    """Chooses evenly spaced items, including the first and the last."""
    if len(items) <= count:
        return items
    last = len(items) - 1
    return [items[round(i * last / (count - 1))] for i in range(count)]


def file_prints(files: Sequence[str], root: str) -> List[FilePrint]:
    """Returns the fingerprint of each file, see :func:`file_print`."""
    step = -(-len(files) // MAX_CONTENTS) or 1

    def prints_from(start: int) -> List[FilePrint]:
        end = min(start + CHUNK, len(files))
        return [
            file_print(osp.join(root, files[i]), i % step == 0)
            for i in range(start, end)
        ]

    with ThreadPoolExecutor(THREADS) as pool:
        chunks = pool.map(prints_from, range(0, len(files), CHUNK))
        return [found for chunk in chunks for found in chunk]


def file_print(path: str, with_content: bool) -> FilePrint:
    """Returns the size of a file and a hash of parts of its content."""
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):  # reading a pipe can block
            return None
        content = sample_content(path, found.st_size) if with_content else ''
    except OSError:
        return None
    return found.st_size, content


def sample_content(path: str, size: int) -> str:
    """Returns a hash of the first, middle and last bytes of a file."""
    digest = hashlib.sha256()
    with open(path, 'rb', buffering=0) as file:
        for start in (0, size // 2, max(0, size - BLOCK)):
            file.seek(start)
            digest.update(file.read(BLOCK))
    return digest.hexdigest()


def decoder_versions(pipeline: Sequence[Any]) -> Dict[str, str]:
    """Returns the versions of the packages with which a pipeline decodes.

    Args:
        pipeline (Sequence[dict]): Configs of the transforms.

    Returns:
        dict[str, str]: Name of the package -> version. It is empty for
            transforms that are not MMAction2's or this package's.
    """
    found: Dict[str, str] = {}
    for transform in pipeline:
        name = transform['type'] if isinstance(transform, dict) else transform
        name = name if isinstance(name, str) else getattr(name, '__name__', '')
        for prefix, package in DECODERS.items():
            if name.startswith(prefix):
                module = importlib.import_module(package)
                found[package] = module.__version__
    return found


def clips_digest_v1(dataset: BaseDataset) -> str:
    """Returns the digest of teacher caches of format 1.

    It holds the sizes of at most 256 videos and the paths below
    ``data_prefix.video``.
    """
    digest = hashlib.sha256()
    root = (getattr(dataset, 'data_prefix', None) or {}).get('video')
    stride = -(-len(dataset) // 256)
    for index in range(len(dataset)):
        info = dict(dataset.get_data_info(index))
        info.pop('sample_idx', None)
        filename = info.get('filename')
        if filename and index % stride == 0 and osp.isfile(filename):
            info['bytes'] = osp.getsize(filename)
        if root and filename:
            info['filename'] = osp.relpath(filename, root)
        text = json.dumps(info, sort_keys=True, default=str)
        digest.update(text.encode())
    return digest.hexdigest()
