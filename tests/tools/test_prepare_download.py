"""Fetching: from a server with and without ranges, with a stop between."""

import http.server
import re
import threading

import official_layouts
import pytest
from official_layouts import load_prepare, rar_file, rows, write_clip

fake_unrar = official_layouts.fake_unrar
hmdb51 = load_prepare('hmdb51')
PreparationError = hmdb51.PreparationError
download_files = hmdb51.download_files

CONTENT = bytes(range(256)) * 5000


class Server(http.server.BaseHTTPRequestHandler):
    """Serves ``files``; keeps what was asked for in ``log``."""

    files = {}
    log = []
    ranges = True
    stop_after = None

    def do_GET(self):  # noqa: N802  (its name in the standard library)
        asked = self.headers.get('Range')
        self.log.append((self.path, asked))
        data = self.files.get(self.path)
        if data is None:
            return self.send_error(404)
        start = int(re.fullmatch(r'bytes=(\d+)-', asked)[1]) if asked else 0
        if not self.ranges:
            start = 0
        if start and start >= len(data):
            self.send_response(416)
            self.send_header('Content-Range', f'bytes */{len(data)}')
            self.send_header('Content-Length', '0')
            return self.end_headers()
        self.send_response(206 if start else 200)
        self.send_header('Content-Length', str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:][: self.stop_after])

    def log_message(self, *args):
        """Nothing to the terminal."""


@pytest.fixture
def server(monkeypatch):
    """A server of this machine; gives its class and its address."""

    class Fresh(Server):
        files, log = {}, []

    found = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Fresh)
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv('no_proxy', '*')
    yield Fresh, f'http://127.0.0.1:{found.server_port}'
    found.shutdown()
    found.server_close()


def test_goes_on_where_it_stopped(server, tmp_path):
    handler, address = server
    handler.files['/a.rar'] = CONTENT
    handler.stop_after = 300_000
    urls = {'sub/a.rar': f'{address}/a.rar'}
    with pytest.raises(PreparationError, match='Run the command'):
        download_files(urls, tmp_path)
    assert not (tmp_path / 'sub/a.rar').exists()
    assert (tmp_path / 'sub/a.rar.part').read_bytes() == CONTENT[:300_000]
    handler.stop_after = None
    download_files(urls, tmp_path)
    assert (tmp_path / 'sub/a.rar').read_bytes() == CONTENT
    assert handler.log[1] == ('/a.rar', 'bytes=300000-')
    download_files(urls, tmp_path)
    assert len(handler.log) == 2
    assert not list(tmp_path.rglob('*.part'))


def test_a_server_without_ranges(server, tmp_path):
    handler, address = server
    handler.files['/a.rar'] = CONTENT
    handler.ranges = False
    (tmp_path / 'a.rar.part').write_bytes(b'something older')
    download_files({'a.rar': f'{address}/a.rar'}, tmp_path)
    assert (tmp_path / 'a.rar').read_bytes() == CONTENT


@pytest.mark.parametrize('extra', [b'', b'of another file'])
def test_nothing_is_left_to_fetch(server, tmp_path, extra):
    handler, address = server
    handler.files['/a.rar'] = CONTENT
    (tmp_path / 'a.rar.part').write_bytes(CONTENT + extra)
    download_files({'a.rar': f'{address}/a.rar'}, tmp_path)
    assert (tmp_path / 'a.rar').read_bytes() == CONTENT


@pytest.mark.parametrize('there', [True, False])
def test_a_file_or_a_server_that_is_gone(server, tmp_path, there):
    _, address = server
    url = f'{address}/a.rar' if there else 'http://127.0.0.1:9/a.rar'
    with pytest.raises(PreparationError, match='it by hand.*\nSee the page'):
        download_files({'a.rar': url}, tmp_path, 'See the page of it.')
    assert not (tmp_path / 'a.rar').exists()


def test_a_data_set_is_fetched_and_prepared(
    server, tmp_path, monkeypatch, fake_unrar
):
    handler, address = server
    clip = write_clip(tmp_path / 'made/a_wave_0.avi', 100)
    split = tmp_path / 'made/wave_test_split1.txt'
    split.write_text('a_wave_0.avi 1 \n')
    inner = rar_file(tmp_path / 'made/wave.rar', {'wave/a_wave_0.avi': clip})
    archives = {
        'hmdb51_org.rar': {'wave.rar': inner},
        'test_train_splits.rar': {f'splits/{split.name}': split},
    }
    assert set(archives) == set(hmdb51.URLS)
    for name, files in archives.items():
        path = rar_file(tmp_path / 'made' / name, files)
        handler.files[f'/{name}'] = path.read_bytes()
    monkeypatch.setattr(
        hmdb51, 'URLS', {name: f'{address}/{name}' for name in archives}
    )
    out = tmp_path / 'out'
    hmdb51.main(['--out', str(out), '--download', '--allow-partial'])
    found = rows(out / 'hmdb51_train_split_1_videos.txt')
    assert found == {'wave/a_wave_0.avi': 0}
    assert (out / 'videos/wave/a_wave_0.avi').read_bytes() == clip.read_bytes()


@pytest.mark.parametrize(
    'name, count', [('hmdb51', 2), ('ucf101', 2), ('kinetics400', 265)]
)
def test_addresses(name, count):
    urls = load_prepare(name).URLS
    assert len(set(urls.values())) == len(urls) == count
