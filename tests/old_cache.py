"""Teacher caches as version 0.1.0 wrote them."""

import json
import zlib

import numpy as np


def make_old(folder, **data):
    """Rewrites a cache of the present format.

    Checksums then cover the numbers of a record alone. ``data`` replaces
    values in the description of the clips.
    """
    path = folder / 'manifest.json'
    manifest = json.loads(path.read_text())
    for key in ('format', 'identity'):
        del manifest[key]
    for shapes in manifest['shapes'].values():
        del shapes['names']
    manifest['data'].update(data)
    manifest['data'].pop('decoders', None)
    path.write_text(json.dumps(manifest))
    for shard in folder.glob('view_*/??????.npy'):
        records = np.load(shard)
        values = None
        if 'residual.first' in records.dtype.names:
            values = np.load(shard.with_suffix('.values.npy'))
        for row, record in enumerate(records):
            if record['crc32']:
                records['crc32'][row] = old_checksum(record, values)
        np.save(shard, records)


def old_checksum(record, values):
    found = zlib.crc32(record.tobytes()[:-4])
    if values is None:
        return found
    first, count = record['residual.first'], record['residual.count']
    return zlib.crc32(values[first : first + count].tobytes(), found)
