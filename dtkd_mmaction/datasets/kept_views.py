"""On-disk store of views: the outputs of a pipeline."""

import os.path as osp
from glob import escape, glob
from typing import Any, Dict, Optional

import numpy as np
import torch
from mmaction.structures import ActionDataSample
from mmengine.logging import print_log
from mmengine.structures import (
    BaseDataElement,
    InstanceData,
    LabelData,
    PixelData,
)

from ..files import (
    DamagedFileError,
    clear_left_overs,
    read_arrays,
    write_arrays,
)

ELEMENTS = {
    element.__name__: element
    for element in (
        ActionDataSample,
        BaseDataElement,
        InstanceData,
        LabelData,
        PixelData,
    )
}


class KeptViews:
    """A folder with one file per (sample, view).

    A file contains arrays and JSON, with checksums. Nothing in it is executed.

    Args:
        folder (str): The folder.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        for view in glob(osp.join(escape(folder), 'view_*')):
            clear_left_overs(view)

    def _key(self, index: int, view: int) -> list:
        return [osp.basename(self.folder), index, view]

    def _path(self, index: int, view: int) -> str:
        return osp.join(self.folder, f'view_{view:03d}', f'{index:06d}.npz')

    def read(self, index: int, view: int) -> Optional[dict]:
        """Reads a view.

        Returns:
            dict or None: None if the view is not stored, or if its file is
                damaged or belongs to another view, which is logged.
        """
        path = self._path(index, view)
        try:
            arrays, info = read_arrays(path)
            if info['key'] != self._key(index, view):
                raise DamagedFileError(
                    f'It holds the view {info["key"]}, not '
                    f'{self._key(index, view)}.'
                )
            return decode(info['data'], arrays)
        except FileNotFoundError:
            return None
        except (DamagedFileError, LookupError, TypeError, ValueError) as error:
            print_log(
                f'train_dataloader.dataset.kept_in: {path} is damaged; the '
                f'view is drawn again and the file replaced. ({error})',
                'current',
                level=30,
            )
            return None

    def write(self, index: int, view: int, data: dict) -> None:
        """Writes a view.

        Raises:
            TypeError: If it contains anything but numbers, text, arrays,
                tensors, stock data samples and containers of these.
            OSError: If the disk is full.
        """
        arrays: Dict[str, np.ndarray] = {}
        info = dict(key=self._key(index, view), data=encode(data, arrays))
        write_arrays(self._path(index, view), arrays, info)


def encode(value: Any, arrays: Dict[str, np.ndarray]) -> Any:
    """Turns a value into JSON; its arrays are put into ``arrays``.

    Raises:
        TypeError: For a type that cannot be stored.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return [encode(item, arrays) for item in value]
    if type(value) is tuple:
        return dict(tuple=[encode(item, arrays) for item in value])
    if type(value) is dict:
        return dict(dict=_encode_items(value.items(), arrays))
    if type(value) in ELEMENTS.values():
        return dict(
            element=type(value).__name__,
            metainfo=_encode_items(value.metainfo_items(), arrays),
            data=_encode_items(value.items(), arrays),
        )
    if isinstance(value, torch.Tensor):
        kind, array = 'tensor', value.detach().cpu().numpy()
    elif isinstance(value, np.generic):
        kind, array = 'number', np.asarray(value)
    else:
        kind, array = 'array', value
    if not isinstance(array, np.ndarray) or array.dtype.hasobject:
        raise TypeError(
            'train_dataloader.dataset.kept_in cannot store a '
            f'{type(value).__name__}, which the pipeline gives. Leave '
            'kept_in out, or have PackActionInputs pack other keys.'
        )
    name = f'a{len(arrays)}'
    arrays[name] = array
    return {kind: name}


def decode(value: Any, arrays: Dict[str, np.ndarray]) -> Any:
    """Undoes :func:`encode`."""
    if isinstance(value, list):
        return [decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if 'element' in value:
        element = ELEMENTS[value['element']]()
        element.set_metainfo(_decode_items(value['metainfo'], arrays))
        for name, item in _decode_items(value['data'], arrays).items():
            element.set_field(item, name)
        return element
    ((kind, content),) = value.items()
    if kind == 'tuple':
        return tuple(decode(item, arrays) for item in content)
    if kind == 'dict':
        return _decode_items(content, arrays)
    if kind == 'tensor':
        return torch.from_numpy(arrays[content])
    return arrays[content][()] if kind == 'number' else arrays[content]


def _encode_items(items: Any, arrays: Dict[str, np.ndarray]) -> list:
    """Encodes a dict as a list of pairs, because keys need not be strings."""
    return [[encode(k, arrays), encode(v, arrays)] for k, v in items]


def _decode_items(items: list, arrays: Dict[str, np.ndarray]) -> dict:
    return {decode(k, arrays): decode(v, arrays) for k, v in items}
