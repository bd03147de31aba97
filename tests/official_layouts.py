"""Writes small copies of data sets the way their authors publish them."""

import importlib.util
import os
import stat
import struct
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from mmaction.registry import DATASETS
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[1]
# A .webm is Matroska; libvpx does not open beside OpenCV's copy of it.
FORMATS = {'.avi': 'avi', '.mp4': 'mp4', '.webm': 'matroska'}


def prepare_script(name):
    """Path of ``tools/data/<name>/prepare.py``."""
    return ROOT / 'tools/data' / name / 'prepare.py'


def load_prepare(name):
    """The module ``tools/data/<name>/prepare.py``."""
    spec = importlib.util.spec_from_file_location(
        f'prepare_{name}', prepare_script(name)
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_clip(path, grey, frames=20, size=32):
    """A real video of one grey value, in the container of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    container_format = FORMATS[path.suffix.lower()]
    with av.open(str(path), 'w', format=container_format) as container:
        stream = container.add_stream('mpeg4', rate=25)
        stream.width = stream.height = size
        stream.pix_fmt = 'yuv420p'
        picture = np.full((size, size, 3), grey, np.uint8)
        for _ in range(frames):
            frame = av.VideoFrame.from_ndarray(picture, format='rgb24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def tar_gz(path, files):
    """A tar.gz of ``{name in it: file}``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, 'w:gz') as archive:
        for name, file in files.items():
            archive.add(file, name)
    return path


def zip_file(path, files):
    """A ZIP file of ``{name in it: file}``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, file in files.items():
            archive.write(file, name)
    return path


def rar_file(path, files, links=()):
    """A RAR 4 archive of ``{name in it: file}``, not compressed.

    ``links`` are symbolic ones, ``{name in it: target}``.
    """
    contents = {
        name: (Path(f).read_bytes(), 0o100644) for name, f in files.items()
    }
    for name, target in dict(links).items():
        contents[name] = os.fsencode(target), 0o120777

    def block(kind, flags, body, size=None):
        length = 7 + len(body)
        head = struct.pack('<BHH', kind, flags, length) + body
        return struct.pack('<H', zlib.crc32(head) & 0xFFFF) + head

    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'wb') as out:
        out.write(b'Rar!\x1a\x07\x00' + block(0x73, 0, bytes(6)))
        for name, (data, mode) in contents.items():
            name = name.encode()
            fields = struct.pack(
                '<IIBIIBBHI',
                len(data),
                len(data),
                3,  # Unix
                zlib.crc32(data),
                0x58210000,
                20,
                0x30,  # stored
                len(name),
                mode,
            )
            out.write(block(0x74, 0x8000, fields + name) + data)
        out.write(block(0x7B, 0x4000, b''))
    return path


# Stands for unrar where there is none: reads what rar_file() writes.
UNRAR = """#!{python}
import os, struct, sys, zlib
mode, *options, archive, folder = sys.argv[1:]
assert (mode, options) == ('x', ['-y', '-o+']), sys.argv
with open({log!r}, 'a') as log:
    log.write(os.path.basename(archive) + chr(10))
data, at = open(archive, 'rb').read(), 7
assert data[:4] == b'Rar!'
while True:
    if at + 7 > len(data):
        sys.exit('Unexpected end of archive')
    kind, flags, length = struct.unpack_from('<BHH', data, at + 2)
    if kind == 0x7B:
        break
    size = 0
    if kind == 0x74:
        size, = struct.unpack_from('<I', data, at + 7)
        crc, = struct.unpack_from('<I', data, at + 16)
        mode, = struct.unpack_from('<I', data, at + 28)
        name = data[at + 32:at + length].decode()
        content = data[at + length:at + length + size]
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if mode == 0o120777:
            os.symlink(content, os.fsencode(path))
        else:
            with open(path, 'wb') as file:
                file.write(content)
        if zlib.crc32(content) != crc:
            sys.exit(name + ' - checksum error')
    at += length + size
"""


@pytest.fixture
def fake_unrar(tmp_path, monkeypatch):
    """An ``unrar`` alone on the PATH; gives the archives it has extracted."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    log = tmp_path / 'unrar.log'
    log.touch()
    tool = folder / 'unrar'
    tool.write_text(UNRAR.format(python=sys.executable, log=str(log)))
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv('PATH', str(folder))
    return lambda: log.read_text().split()


def rows(path):
    """The lines of a list as ``{clip: label}``."""
    lines = [line.rsplit(' ', 1) for line in path.read_text().splitlines()]
    assert len(lines) == len(dict(lines))
    return {clip: int(label) for clip, label in lines}


def base_datasets(name, out):
    """Training and validation set of ``_base_/datasets``, in another place."""
    config = Config.fromfile(ROOT / f'configs/_base_/datasets/{name}.py')
    train = config.train_dataloader.dataset.dataset
    val = config.val_dataloader.dataset
    for dataset in (train, val):
        dataset.ann_file = moved(dataset.ann_file, out)
        dataset.data_prefix.video = moved(dataset.data_prefix.video, out)
    return DATASETS.build(train), DATASETS.build(val)


def moved(path, out):
    """``data/<name>/...`` below another folder."""
    return os.path.join(out, *Path(path).parts[2:])


def assert_loads(dataset, index=0):
    """A sample of the shape that the distillers want."""
    sample = dataset[index]
    assert tuple(sample['inputs'].shape) == (1, 3, 16, 224, 224)
    return sample
