"""Files are whole or absent; what others made is read, never executed."""

import os
import resource
import signal
import time

import numpy as np
import pytest

from dtkd_mmaction import files
from dtkd_mmaction.file_lock import FolderLock
from dtkd_mmaction.files import DamagedFileError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def in_child(function, *arguments):
    """Runs a function in a forked process; returns the wait status."""
    pid = os.fork()
    if pid == 0:
        try:
            function(*arguments)
        finally:
            os._exit(7)
    return os.waitpid(pid, 0)[1]


def wait_for(condition):
    end = time.time() + 20
    while not condition():
        assert time.time() < end
        time.sleep(0.01)


class TestWriting:
    def test_content_arrives_in_a_new_folder(self, tmp_path):
        path = tmp_path / 'a' / 'b' / 'file'
        files.write_bytes(path, b'one', memoryview(b'two'))
        assert path.read_bytes() == b'onetwo'
        assert names(path.parent) == ['file']

    def test_the_old_file_survives_an_error_and_nothing_is_left(
        self, tmp_path
    ):
        path = tmp_path / 'file'
        files.write_text(path, 'before')
        with pytest.raises(KeyboardInterrupt):
            with files.atomic_file(path) as file:
                file.write(b'after')
                raise KeyboardInterrupt
        assert path.read_text() == 'before'
        assert names(tmp_path) == ['file']

    @pytest.mark.parametrize('size', [100_000, 1_000_000])
    def test_a_full_disk_names_file_and_space(self, tmp_path, size):
        """A limit on the size of files stands for the full disk."""
        path, said = tmp_path / 'array.npy', tmp_path / 'said'

        def write():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size - 100, size))
            try:
                files.write_array(path, np.zeros(size, np.uint8))
            except OSError as error:
                said.write_text(f'{error.filename}\n{error}')
                os._exit(0)

        assert in_child(write) == 0
        name, text = said.read_text().split('\n')
        assert name == str(path)
        assert f'{size + 128:,} bytes are needed' in text
        assert 'bytes are free' in text
        assert names(tmp_path) == ['said']

    def test_bytes_that_do_not_arrive_are_noticed(self, tmp_path):
        path = tmp_path / 'file'
        with pytest.raises(OSError, match='2 bytes arrived .* of 3'):
            with files.atomic_file(path, 3) as file:
                file.write(b'ab')
        assert names(tmp_path) == []

    def test_a_folder_that_cannot_be_made(self, tmp_path):
        (tmp_path / 'file').write_text('')
        with pytest.raises(OSError, match='free in '):
            files.write_text(tmp_path / 'file' / 'inner', 'text')

    def test_a_file_of_the_block_keeps_its_own_error(self, tmp_path):
        with pytest.raises(FileNotFoundError, match='missing') as caught:
            with files.atomic_file(tmp_path / 'file'):
                open(tmp_path / 'missing')
        assert 'free' not in str(caught.value)

    def test_links_stay_links(self, tmp_path):
        (tmp_path / 'disk').mkdir()
        (tmp_path / 'link').symlink_to(tmp_path / 'disk' / 'file')
        files.write_text(tmp_path / 'link', 'text')
        assert (tmp_path / 'link').is_symlink()
        assert (tmp_path / 'disk' / 'file').read_text() == 'text'

    def test_devices_are_written_directly(self):
        files.write_text('/dev/null', 'text')
        assert not os.path.isfile('/dev/null')

    def test_long_and_odd_names(self, tmp_path):
        for name in ('x' * 255, 'é' * 127, 'a b\n[*]%s'):
            files.write_text(tmp_path / name, 'text')
            assert (tmp_path / name).read_text() == 'text'

    def test_permissions_are_those_of_open(self, tmp_path):
        files.write_text(tmp_path / 'ours', 'text')
        (tmp_path / 'theirs').write_text('text')
        modes = {path.stat().st_mode for path in tmp_path.iterdir()}
        assert len(modes) == 1

    def test_left_overs_of_the_dead_go_those_of_the_living_stay(
        self, tmp_path
    ):
        path = tmp_path / 'file'

        def die():
            with files.atomic_file(path) as file:
                file.write(b'half')
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)

        def wait():
            with files.atomic_file(path) as file:
                file.write(b'whole')
                wait_for((tmp_path / 'go').exists)
            os._exit(0)

        assert in_child(die) == signal.SIGKILL
        dead = names(tmp_path)
        assert len(dead) == 1
        writer = os.fork()
        if writer == 0:
            wait()
        wait_for(lambda: names(tmp_path) not in ([], dead))
        living = names(tmp_path)  # the first file of a process clears
        assert len(living) == 1 and living != dead
        (tmp_path / 'file.0123456789ab.writing').write_text('dead')
        (tmp_path / 'mine.writing').write_text('of the user')
        with files.atomic_file(tmp_path / 'own') as own:
            assert len(names(tmp_path)) == 3
            files.clear_left_overs(tmp_path)
            own.write(b'own')
        assert names(tmp_path) == sorted([*living, 'mine.writing', 'own'])
        (tmp_path / 'go').write_text('')
        assert os.waitpid(writer, 0)[1] == 0
        assert path.read_bytes() == b'whole'
        assert names(tmp_path) == ['file', 'go', 'mine.writing', 'own']

    def test_many_writers_of_one_file(self, tmp_path):
        def write():
            for i in range(20):
                files.write_json(tmp_path / 'f', [i] * 1000)
                files.clear_left_overs(tmp_path)
                assert len(files.read_json(tmp_path / 'f', list)) == 1000
            os._exit(0)

        writers = []
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                try:
                    write()
                finally:
                    os._exit(1)
            writers.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in writers] == [0, 0, 0]
        assert names(tmp_path) == ['f']


class Marker:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, 'w')


class TestReading:
    @pytest.mark.parametrize(
        'content, said',
        [
            ('', 'is empty'),
            ('{"a": 1', 'is not valid JSON'),
            ('[' * 100_000, 'is not valid JSON'),
            ('[1]', 'holds a JSON list, expected a dict'),
            ('{"a": 1}', r"lacks the keys \['b'\]"),
            (b'\xff\xfe', 'is not UTF-8'),
        ],
    )
    def test_json(self, tmp_path, content, said):
        path = tmp_path / 'file.json'
        path.write_bytes(
            content if isinstance(content, bytes) else content.encode()
        )
        with pytest.raises(DamagedFileError, match=f'file.json {said}'):
            files.read_json(path, keys=['b'])

    def test_json_round_trip(self, tmp_path):
        files.write_json(tmp_path / 'f', dict(a=[1, None]))
        assert files.read_json(tmp_path / 'f') == dict(a=[1, None])
        (tmp_path / 'f').write_bytes(b'\xef\xbb\xbf{}')  # byte-order mark
        assert files.read_json(tmp_path / 'f') == {}

    def test_a_pipe_does_not_block(self, tmp_path):
        os.mkfifo(tmp_path / 'pipe')
        for path in (tmp_path / 'pipe', tmp_path):
            with pytest.raises(DamagedFileError, match='no.* regular file'):
                files.read_json(path)

    @pytest.mark.parametrize('mmap', [False, True])
    @pytest.mark.parametrize(
        'array',
        [
            np.arange(6, dtype=np.float16).reshape(2, 3),
            np.asfortranarray(np.arange(6).reshape(2, 3)),
            np.zeros((0, 3)),
            np.array(3.0),
            np.array([True, False]),
        ],
    )
    def test_array_round_trip(self, tmp_path, array, mmap):
        files.write_array(tmp_path / 'a.npy', array)
        for found in (
            files.read_array(tmp_path / 'a.npy', mmap=mmap),
            np.load(tmp_path / 'a.npy'),
        ):
            assert found.dtype == array.dtype and found.shape == array.shape
            assert np.array_equal(found, array)

    @pytest.mark.parametrize('mmap', [False, True])
    def test_damaged_arrays(self, tmp_path, mmap):
        path = tmp_path / 'a.npy'
        files.write_array(path, np.arange(100))
        whole = path.read_bytes()
        for cut in range(0, len(whole), 37):
            path.write_bytes(whole[:cut])
            with pytest.raises(DamagedFileError, match='a.npy'):
                files.read_array(path, mmap=mmap)
        # A header that claims more than the machine has.
        path.write_bytes(whole.replace(b'(100,), }  ', b'(10**9,), }'))
        with pytest.raises(DamagedFileError, match='a.npy'):
            files.read_array(path, mmap=mmap)
        path.write_bytes(whole.replace(b'(100,), }     ', b'(999999999,), '))
        with pytest.raises(DamagedFileError, match='a.npy'):
            files.read_array(path, mmap=mmap)

    def test_arrays_of_another_shape_or_type(self, tmp_path):
        path = tmp_path / 'a.npy'
        files.write_array(path, np.zeros((4, 3), np.float16))
        files.read_array(path, (None, 3), np.float16)
        for shape, dtype in (((4,), None), ((4, 2), None), (None, 'f4')):
            with pytest.raises(DamagedFileError, match=r'\(4, 3\)'):
                files.read_array(path, shape, dtype)

    def test_pickles_are_refused(self, tmp_path):
        array = np.array([Marker(tmp_path / 'marker')], dtype=object)
        np.save(tmp_path / 'a.npy', array, allow_pickle=True)
        np.savez(tmp_path / 'a.npz', a=array)
        with pytest.raises(DamagedFileError, match='a.npy .*run code'):
            files.read_array(tmp_path / 'a.npy')
        with pytest.raises(DamagedFileError, match='a.npz'):
            files.read_arrays(tmp_path / 'a.npz')
        assert not (tmp_path / 'marker').exists()
        with pytest.raises(TypeError, match='objects'):
            files.write_array(tmp_path / 'b.npy', array)
        with pytest.raises(TypeError, match='objects'):
            files.write_arrays(tmp_path / 'b.npz', dict(a=array), {})

    def test_arrays_with_information(self, tmp_path):
        arrays = dict(a=np.arange(5), b=np.zeros((2, 0), np.uint8))
        path = tmp_path / 'a.npz'
        files.write_arrays(path, arrays, dict(label=[1, 2]))
        found, info = files.read_arrays(path)
        assert info == dict(label=[1, 2]) and list(found) == ['a', 'b']
        assert all(np.array_equal(found[n], arrays[n]) for n in arrays)

    def test_every_flipped_byte_of_an_array_is_noticed(self, tmp_path):
        path = tmp_path / 'a.npz'
        clip = np.arange(60, dtype=np.int16)
        files.write_arrays(path, dict(a=clip), dict(label=3))
        whole = path.read_bytes()
        for i in range(len(whole)):
            changed = bytearray(whole)
            changed[i] ^= 0xFF
            path.write_bytes(changed)
            try:
                found, info = files.read_arrays(path)
            except DamagedFileError:
                continue
            # A byte of the format that says nothing, such as a date.
            assert info == dict(label=3) and list(found) == ['a']
            assert np.array_equal(found['a'], clip), i
        for cut in range(0, len(whole), 41):
            path.write_bytes(whole[:cut])
            with pytest.raises(DamagedFileError, match='a.npz'):
                files.read_arrays(path)

    def test_a_small_file_cannot_claim_a_large_array(self, tmp_path):
        np.savez_compressed(tmp_path / 'a.npz', a=np.zeros(1_000_000))
        with pytest.raises(DamagedFileError, match='compressed'):
            files.read_arrays(tmp_path / 'a.npz')


class TestFolderLock:
    def test_one_process_at_a_time_and_none_after_a_kill(self, tmp_path):
        def hold():
            assert FolderLock(tmp_path / 'run').take()
            if os.fork() == 0:  # a loader's worker outlives its parent
                time.sleep(1)
                os._exit(0)
            (tmp_path / 'taken').write_text('')
            time.sleep(60)

        pid = os.fork()
        if pid == 0:
            hold()
        wait_for((tmp_path / 'taken').exists)
        lock = FolderLock(tmp_path / 'run')
        assert not lock.take()
        assert f'process {pid} on ' in lock.holder()
        assert ', since 20' in lock.holder()
        assert FolderLock(tmp_path / 'run', 'other.lock').take()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert lock.take()
        assert f'process {os.getpid()} on ' in lock.holder()
        lock.release()
        assert (
            in_child(
                lambda: os._exit(
                    0 if FolderLock(tmp_path / 'run').take() else 1
                )
            )
            == 0
        )

    def test_a_damaged_lock_file_hinders_nobody(self, tmp_path):
        (tmp_path / 'run.lock').write_bytes(b'\xff[')
        lock = FolderLock(tmp_path)
        assert lock.holder() == 'another process'
        assert lock.take()
        assert f'process {os.getpid()} on' in lock.holder()
        lock.release()
