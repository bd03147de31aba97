"""Decides which teacher outputs a cache stores, and in which form."""

from typing import Any, Dict, Sequence

import numpy as np

from .cache_format import MAPS, record_dtype
from .protocol import ModelWithTeachers

DTYPES = dict(float16='<f2', float32='<f4')


class RecordLayout:
    """Fields and size of a record.

    Args:
        distiller (ModelWithTeachers): Built from the config.
        maps (str): How the teachers' last maps are kept,
            :data:`~.cache_format.MAPS`.
        dtype (str): ``'float16'`` or ``'float32'``.
        also (Sequence[str]): Quantities of every teacher that no loss of
            this config reads, for other configs that share the cache:
            ``'map'``, ``'maps'`` or ``'stem'``.

    Raises:
        ValueError: If the losses read something that cannot be kept this
            way.

    Attributes:
        needed (dict[str, set[str]]): Teacher -> quantities.
        map_options (dict, optional): Options that stored maps depend on.
        fields (dict[str, tuple]): Name -> dtype, shape.
        values_dtype (str): Type of the kept residuals.
    """

    def __init__(
        self,
        distiller: ModelWithTeachers,
        maps: str,
        dtype: str,
        also: Sequence[str] = (),
    ) -> None:
        self.distiller = distiller
        self.needed = {
            name: quantities | set(also)
            for name, quantities in distiller.teacher_quantities.items()
        }
        self._check_quantities(maps)
        self.map_options: Any = None
        if any('compared_map' in q for q in self.needed.values()):
            self.map_options = distiller.cached_map_options(maps)
        self.values_dtype = DTYPES[dtype]
        self.fields = self._fields(maps, DTYPES[dtype])

    def _check_quantities(self, maps: str) -> None:
        if maps not in MAPS:
            raise ValueError(f'maps={maps!r}: choose one of {MAPS}.')
        if not self.needed:
            raise ValueError('model: this distiller has no teachers.')
        for name, quantities in self.needed.items():
            if 'clip' in quantities:
                raise ValueError(
                    f'model.losses: one of them reads the input of the {name} '
                    'teacher. A cache does not hold it: train with live '
                    'teachers.'
                )
            native = quantities & {'map', 'maps', 'stem'}
            if native and maps != 'native':
                raise ValueError(
                    f'maps={maps!r} keeps what model.loss_sd compares, but '
                    f"the losses read the {name} teacher's "
                    f'{sorted(native)}: use maps=native.'
                )

    def _fields(self, maps: str, dtype: str) -> Dict[str, tuple]:
        fields: Dict[str, tuple] = {}
        teachers = self.distiller.build_teachers()
        for name, quantities in self.needed.items():
            tap = teachers[name].tap
            fields[f'{name}.logits'] = (dtype, (tap.num_classes,))
            fields[f'{name}.embedding'] = (dtype, (tap.embedding_width,))
            shape = tap.shapes['map']
            if 'map' in quantities or (
                'compared_map' in quantities and maps == 'native'
            ):
                fields[f'{name}.map'] = (dtype, shape)
            elif 'compared_map' in quantities and maps == 'student_grid':
                grid = self.map_options['grid']
                fields[f'{name}.map'] = (dtype, (shape[0], *grid))
            if 'maps' in quantities:
                for i, stage in enumerate(tap.shapes['maps']):
                    fields[f'{name}.maps.{i}'] = (dtype, stage)
            if 'stem' in quantities:
                fields[f'{name}.stem'] = (dtype, tap.shapes['stem'])
        if maps == 'masked' and self.map_options:
            positions = int(np.prod(self.map_options['grid']))
            fields['residual.mask'] = ('|u1', ((positions + 7) // 8,))
            fields['residual.first'] = ('<i8', ())
            fields['residual.count'] = ('<i4', ())
        return fields

    @property
    def bytes_per_view(self) -> float:
        """Bytes of one record; half the positions count in a masked cache."""
        size = record_dtype(self.fields).itemsize
        if 'residual.mask' in self.fields:
            positions = int(np.prod(self.map_options['grid']))
            width = self.map_options['width']
            size += (
                positions * width * np.dtype(self.values_dtype).itemsize / 2
            )
        return size
