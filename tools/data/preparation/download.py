"""Downloads files over HTTP, and continues stopped downloads."""

import http.client
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Dict

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TransferSpeedColumn,
)

from dtkd_mmaction.files import put_in_place

from .errors import PreparationError

SILENCE = 60  # seconds without data before a download fails


def download_files(
    urls: Dict[str, str], folder: Path, fetch: str = ''
) -> None:
    """Downloads missing files.

    Args:
        urls (dict[str, str]): Name below ``folder`` -> address.
        folder (Path): Folder of the downloads.
        fetch (str): How to get them manually, for errors. Defaults to ''.

    Raises:
        PreparationError: If a download fails.
    """
    todo = {n: url for n, url in urls.items() if not (folder / n).exists()}
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns) as progress:
        for name, url in todo.items():
            try:
                _download(url, folder / name, progress)
            except (OSError, http.client.HTTPException) as error:
                raise PreparationError(
                    f'{url} cannot be fetched now ({error}). Run the command '
                    'again to continue where it stopped, or fetch it by hand '
                    f'and put it into {folder}.\n{fetch}'
                ) from error


def _download(url: str, path: Path, progress: Progress) -> None:
    """Downloads one file to ``<path>.part``, and renames it when complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + '.part')
    have = part.stat().st_size if part.exists() else 0
    headers = {'Range': f'bytes={have}-'} if have else {}
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=SILENCE)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        # No bytes remain: the part is complete, or belongs to another file.
        if error.headers.get('Content-Range') == f'bytes */{have}':
            put_in_place(part, path)
            return
        part.unlink()
        return _download(url, path, progress)
    with response:
        if response.status != http.client.PARTIAL_CONTENT:
            have = 0  # the server sends the whole file
        length = response.headers.get('Content-Length')
        total = have + int(length) if length else None
        with open(part, 'ab' if have else 'wb') as file:
            with progress.wrap_file(
                response,
                total=total and total - have,
                description=path.name,
            ) as counted:
                shutil.copyfileobj(counted, file, 1 << 20)
    size = part.stat().st_size
    if total is not None and size != total:
        raise OSError(
            f'the connection ended after {size:,} of {total:,} bytes'
        )
    put_in_place(part, path)
