"""A cache returns what was written, or an error that names the file."""

import copy
import json
import os
import pickle
import resource
import shutil
import time

import numpy as np
import pytest
import torch
from old_cache import make_old

from dtkd_mmaction.teachers import open_shards
from dtkd_mmaction.teachers.cache_format import (
    FORMAT,
    Shard,
    all_shards,
    checksum,
    identity_of,
    length_of,
    record_dtype,
    shard_path,
    values_path,
)
from dtkd_mmaction.teachers.teacher_cache import TeacherCache

CPU = torch.device('cpu')
WIDTH, POSITIONS = 3, 8  # of kept residuals
TEACHERS = ('vit', 'cnn', 'other')


def describe(name):
    return dict(model=dict(type=name), checkpoint=name, tap=None, stages=None)


def make_manifest(samples, views, shard, maps, **change):
    fields = {f'{name}.logits': ['<f4', [5]] for name in TEACHERS}
    if maps == 'masked':
        fields['residual.mask'] = ['|u1', [1]]
        fields['residual.first'] = ['<i8', []]
        fields['residual.count'] = ['<i4', []]
    manifest = dict(
        format=FORMAT,
        dtkd_mmaction='0',
        samples=samples,
        views=views,
        shard=shard,
        maps=maps,
        fields=fields,
        teachers={name: describe(name) for name in TEACHERS},
        data=dict(clips='x'),
        compared_on=dict(grid=[2, 2, 2], width=WIDTH),
        shapes={
            name: dict(
                tap=dict(map=[4, 2, 2, 2]),
                embedding_width=4,
                num_classes=5,
                names=dict(tap='backbone.layer4', stages=['a', 'b']),
            )
            for name in TEACHERS
        },
    )
    manifest.update(change)
    manifest['identity'] = identity_of(manifest)
    return manifest


def logits_of(name, sample, view):
    return np.arange(5) + 10 * TEACHERS.index(name) + 100 * sample + view / 4


def write_cache(folder, samples=7, views=2, shard=4, maps='native', **change):
    """A cache whose numbers say to which record they belong."""
    manifest = make_manifest(samples, views, shard, maps, **change)
    dtype = record_dtype(manifest['fields'])
    for piece in all_shards(manifest):
        records = np.zeros(length_of(manifest, piece), dtype)
        values = []
        for row in range(len(records)):
            key = piece.first + row, piece.view
            for name in TEACHERS:
                records[row][f'{name}.logits'] = logits_of(name, *key)
            kept = None
            if maps == 'masked':
                kept = np.full((2, WIDTH), key[0] + 1, np.float32)
                records['residual.mask'][row] = 0b11000000
                records['residual.first'][row] = 2 * row
                records['residual.count'][row] = 2
                values.append(kept)
            records['crc32'][row] = checksum(
                manifest, key, records[row : row + 1], kept
            )
        path = shard_path(str(folder), piece)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        np.save(path, records)
        if values:
            np.save(values_path(path), np.concatenate(values))
    write_manifest(folder, manifest)
    return str(folder)


def write_manifest(folder, manifest):
    (folder / 'manifest.json').write_text(json.dumps(manifest))


def open_cache(folder, names=TEACHERS):
    cache = TeacherCache(str(folder), {name: describe(name) for name in names})
    cache.data_is_checked = True
    return cache


def assert_right(cache, keys, names=TEACHERS):
    found = cache.read(keys, CPU)
    assert set(found) == set(names)
    for name in names:
        for row, key in enumerate(keys):
            wanted = torch.tensor(logits_of(name, *key)).float()
            assert torch.equal(found[name].logits[row], wanted)


class TestManyShards:
    @pytest.fixture
    def folder(self, tmp_path):
        """One record per file."""
        write_cache(tmp_path, samples=90, views=2, shard=1)
        return tmp_path

    KEYS = [(sample, view) for view in (0, 1) for sample in range(90)]

    def test_few_are_open_at_once(self, folder):
        cache = open_cache(folder)
        before = len(os.listdir('/proc/self/fd'))
        assert_right(cache, self.KEYS)
        opened = len(os.listdir('/proc/self/fd')) - before
        assert opened <= open_shards.MAX_OPEN

    def test_more_than_the_process_may_open(self, folder):
        cache = open_cache(folder)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = max(map(int, os.listdir('/proc/self/fd')))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 12, limits[1]))
        try:
            assert_right(cache, self.KEYS)
            assert_right(cache, self.KEYS)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    def test_no_free_descriptor_is_no_damage(self, folder):
        cache = open_cache(folder)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = max(map(int, os.listdir('/proc/self/fd')))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 12, limits[1]))
        taken = []
        try:
            with pytest.raises(OSError):
                while True:
                    taken.append(open(os.devnull))
            with pytest.raises(OSError) as caught:
                cache.read([(0, 0)], CPU)
        finally:
            for file in taken:
                file.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        message = str(caught.value)
        assert 'Too many open files' in message and 'ulimit' in message
        assert '000000.npy' in message
        assert 'damaged' not in message and 'Delete' not in message
        assert_right(cache, self.KEYS[:3])


class TestIdentity:
    @pytest.mark.parametrize('maps', ['native', 'masked'])
    def test_exchanged_shards(self, tmp_path, maps):
        write_cache(tmp_path, samples=8, maps=maps)
        paths = [tmp_path / f'view_000/{n:06d}.npy' for n in (0, 4)]
        exchange(*paths)
        exchange(*[values_path(str(p)) for p in paths])
        self.assert_damaged(tmp_path, (0, 0), '000000.npy')

    def test_exchanged_residuals(self, tmp_path):
        write_cache(tmp_path, samples=8, maps='masked')
        exchange(
            tmp_path / 'view_000/000000.values.npy',
            tmp_path / 'view_000/000004.values.npy',
        )
        self.assert_damaged(tmp_path, (0, 0), '000000.npy')

    def test_exchanged_views(self, tmp_path):
        write_cache(tmp_path)
        exchange(tmp_path / 'view_000', tmp_path / 'view_001')
        self.assert_damaged(tmp_path, (5, 1), 'view_001')

    def test_a_shard_of_another_cache(self, tmp_path):
        write_cache(tmp_path / 'a')
        write_cache(tmp_path / 'b', data=dict(clips='y'))
        open_cache(tmp_path / 'b')
        shutil.copy(
            tmp_path / 'b/view_000/000000.npy',
            tmp_path / 'a/view_000/000000.npy',
        )
        self.assert_damaged(tmp_path / 'a', (1, 0), '000000.npy')

    def assert_damaged(self, folder, key, name):
        cache = open_cache(folder)
        with pytest.raises(ValueError, match='checksum differs') as caught:
            cache.read([key], CPU)
        assert name in str(caught.value)
        assert 'another view' in str(caught.value)


def exchange(a, b):
    if os.path.exists(a):
        os.rename(a, f'{a}.x')
        os.rename(b, a)
        os.rename(f'{a}.x', b)


class TestManifest:
    @pytest.fixture
    def manifest(self, tmp_path):
        write_cache(tmp_path)
        return json.loads((tmp_path / 'manifest.json').read_text())

    def refused(self, folder, error=ValueError):
        begun = time.monotonic()
        with pytest.raises(error) as caught:
            open_cache(folder)
        assert time.monotonic() - begun < 5
        assert type(caught.value) is not KeyError
        assert str(folder) in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize('text', ['', '{"samples": 7, "vie', '[1]', '7'])
    def test_cut_or_no_manifest(self, manifest, tmp_path, text):
        (tmp_path / 'manifest.json').write_text(text)
        assert 'manifest.json' in self.refused(tmp_path)

    @pytest.mark.parametrize(
        'key', ['samples', 'views', 'fields', 'shapes', 'data', 'teachers']
    )
    def test_missing_key(self, manifest, tmp_path, key):
        del manifest[key]
        write_manifest(tmp_path, manifest)
        assert key in self.refused(tmp_path)

    @pytest.mark.parametrize(
        'change, said',
        [
            (dict(views=0), 'views=0, expected a number of 1 or more'),
            (dict(views=2.0), 'views=2.0'),
            (dict(samples='7'), "samples='7'"),
            (dict(maps='all'), "maps='all'"),
            (dict(fields={'vit.logits': ['O', [5]]}), "type 'O'"),
            (dict(fields={'vit.logits': ['<f4', [-1]]}), 'shape [-1]'),
            (dict(fields={'vit.logits': 5}), '`fields` or `shapes`'),
            (dict(shapes=dict(vit={})), '`fields` or `shapes`'),
            (dict(format=FORMAT + 1), f'reads formats 1 to {FORMAT}'),
            (dict(format='2'), "format='2'"),
            (dict(views=3), 'was changed after the cache was written'),
            (dict(samples=10**9), 'was changed after'),
        ],
    )
    def test_edited(self, manifest, tmp_path, change, said):
        write_manifest(tmp_path, dict(manifest, **change))
        assert said in self.refused(tmp_path)

    @pytest.mark.parametrize('cache_format', [1, FORMAT])
    @pytest.mark.parametrize('key', ['views', 'samples'])
    def test_too_many_shards_end_at_once(
        self, manifest, tmp_path, key, cache_format
    ):
        manifest[key] = 10**9
        manifest['shard'] = 1
        manifest['identity'] = identity_of(manifest)
        if cache_format == 1:
            del manifest['format'], manifest['identity']
        write_manifest(tmp_path, manifest)
        message = self.refused(tmp_path, FileNotFoundError)
        assert 'shards are missing' in message


class TestShards:
    @pytest.mark.parametrize('content', [b'', b'\x93NUMPY', b'x' * 30])
    def test_found_when_opened(self, tmp_path, content):
        write_cache(tmp_path)
        (tmp_path / 'view_001/000004.npy').write_bytes(content)
        with pytest.raises(FileNotFoundError, match='cut short') as caught:
            open_cache(tmp_path)
        assert '1 shards' in str(caught.value)
        assert 'view_001' in str(caught.value)

    def test_empty_residuals(self, tmp_path):
        write_cache(tmp_path, maps='masked')
        (tmp_path / 'view_001/000004.values.npy').write_bytes(b'')
        with pytest.raises(FileNotFoundError, match=r'view_001.000004.npy'):
            open_cache(tmp_path)

    @pytest.mark.parametrize('content', [b'', b'\x93NUMPY', b'x' * 9000])
    def test_found_when_read(self, tmp_path, content):
        write_cache(tmp_path)
        cache = open_cache(tmp_path)
        path = tmp_path / 'view_001/000004.npy'
        path.write_bytes(content)
        with pytest.raises(ValueError, match='000004.npy is damaged'):
            cache.read([(4, 1)], CPU)
        path.unlink()
        with pytest.raises(FileNotFoundError, match='000004.npy'):
            cache.read([(4, 1)], CPU)

    def test_residuals_cut_in_whole_rows(self, tmp_path):
        write_cache(tmp_path, maps='masked')
        path = tmp_path / 'view_001/000004.values.npy'
        np.save(path, np.load(path)[:3])
        with pytest.raises(ValueError, match='has 3 rows'):
            open_cache(tmp_path).read_residual([(5, 1)], CPU)

    def test_a_clip_that_could_not_be_read(self, tmp_path):
        write_cache(tmp_path)
        path = tmp_path / 'view_000/000000.npy'
        records = np.load(path)
        records['crc32'][2] = 0
        np.save(path, records)
        with pytest.raises(ValueError, match='clip could not be read'):
            open_cache(tmp_path).read([(2, 0)], CPU)

    def test_other_files_do_not_count(self, tmp_path):
        write_cache(tmp_path)
        shutil.copy(
            tmp_path / 'view_000/000004.npy', tmp_path / 'view_000/4.npy'
        )
        (tmp_path / 'view_000/000004.npy').unlink()
        (tmp_path / 'view_old').mkdir()
        (tmp_path / 'view_000/notes.npy').write_bytes(b'')
        with pytest.raises(FileNotFoundError, match='1 shards are missing'):
            open_cache(tmp_path)


@pytest.mark.parametrize('maps', ['native', 'masked'])
def test_caches_of_format_1(tmp_path, maps, logged):
    """Their checksums cover the numbers of a record alone."""
    write_cache(tmp_path, maps=maps)
    make_old(tmp_path)
    cache = open_cache(tmp_path)
    assert cache.format == 1
    assert logged().count('is in format 1') == 1
    assert_right(cache, [(0, 0), (6, 1)])
    if maps == 'masked':
        residual, mask = cache.read_residual([(6, 1)], CPU)
        assert residual.sum() == 7 * 2 * WIDTH and mask.sum() == 2
    path = tmp_path / 'view_000/000000.npy'
    records = np.load(path)
    records['cnn.logits'][1] += 1
    np.save(path, records)
    with pytest.raises(ValueError, match='000000.npy is damaged'):
        open_cache(tmp_path).read([(1, 0)], CPU)


def test_a_run_with_some_of_the_teachers(tmp_path):
    """In any order and under other names."""
    write_cache(tmp_path)
    keys = [(3, 1), (0, 0)]
    assert_right(
        open_cache(tmp_path, ['other', 'vit']), keys, ['vit', 'other']
    )
    cache = TeacherCache(
        str(tmp_path), dict(teacher=describe('cnn'), vit=describe('other'))
    )
    cache.data_is_checked = True
    found = cache.read(keys, CPU)
    assert set(found) == {'teacher', 'vit'}
    wanted = torch.tensor(logits_of('other', 3, 1)).float()
    assert torch.equal(found['vit'].logits[0], wanted)
    assert cache.quantities('teacher') == {'logits'}
    with pytest.raises(ValueError, match='teacher.model.type'):
        TeacherCache(str(tmp_path), dict(teacher=describe('unknown')))


def test_a_residual_belongs_to_two_roles(tmp_path):
    write_cache(tmp_path, maps='masked')
    assert 'compared_map' in open_cache(tmp_path).quantities('vit')
    swapped = TeacherCache(
        str(tmp_path), dict(vit=describe('cnn'), cnn=describe('vit'))
    )
    for name in ('vit', 'cnn'):
        assert 'compared_map' not in swapped.quantities(name)
    third = TeacherCache(str(tmp_path), dict(vit=describe('other')))
    assert 'compared_map' not in third.quantities('vit')


def test_a_written_tap_is_the_default_that_was_chosen(tmp_path):
    write_cache(tmp_path)
    spec = dict(describe('vit'), tap='backbone.layer4', stages=['a', 'b'])
    TeacherCache(str(tmp_path), dict(vit=spec))
    spec['tap'] = 'backbone.layer3'
    with pytest.raises(ValueError, match='vit.tap: the cache has None'):
        TeacherCache(str(tmp_path), dict(vit=spec))


def test_another_version_is_noted(tmp_path, logged):
    write_cache(tmp_path)
    open_cache(tmp_path)
    assert 'written by dtkd_mmaction 0, this is' in logged()


@pytest.mark.parametrize(
    'copied', [copy.deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))]
)
def test_copies_read_too(tmp_path, copied):
    """EMA copies the model that holds the cache."""
    write_cache(tmp_path)
    cache = open_cache(tmp_path)
    assert_right(cache, [(1, 1)])
    assert_right(copied(cache), [(1, 1), (6, 0)])


def test_shards_are_numbered_by_their_first_sample():
    manifest = make_manifest(7, 2, 4, 'native')
    assert list(all_shards(manifest)) == [
        Shard(view, first) for view in (0, 1) for first in (0, 4)
    ]
    assert [length_of(manifest, s) for s in all_shards(manifest)] == [4, 3] * 2
