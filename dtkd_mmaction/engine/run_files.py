"""Record of the files that a run has written into its work dir."""

import os.path as osp
import secrets
from typing import List

from mmengine.logging import print_log

from ..files import DamagedFileError, read_json, write_json

RECORD = 'run_files.json'
# The message hub is stored in every checkpoint, so a resumed run has it.
RUN_ID = 'run_files/run_id'


class RunFiles:
    """Names of the files that a run has written, stored in their folder.

    A run removes only files that are in its record. A name is recorded before
    its file is written, so a run that is killed in between finds the file at
    its next start. Names have no folder, so a work dir can be moved or copied.

    Args:
        folder (str): The work dir.
        run_id (str): Identifies the run. The record of another run is ignored,
            and replaced when this run writes its first file.
    """

    def __init__(self, folder: str, run_id: str) -> None:
        self._path = osp.join(folder, RECORD)
        self._run_id = run_id

    @classmethod
    def of(cls, runner) -> 'RunFiles':
        """Returns the record of a runner's training, resumed or new."""
        hub = runner.message_hub
        if RUN_ID not in hub.runtime_info:
            hub.update_info(RUN_ID, secrets.token_hex(8))
        return cls(runner.work_dir, hub.get_info(RUN_ID))

    @property
    def names(self) -> List[str]:
        """Names of the files that this run has written, in order."""
        try:
            record = read_json(self._path, keys=('run', 'files'))
            names = record['files']
            if not isinstance(names, list) or not all(map(is_file, names)):
                raise DamagedFileError(
                    f'{self._path}: `files` must be a list of names of '
                    f'checkpoints, found {names!r}.'
                )
        except FileNotFoundError:
            return []
        except DamagedFileError as error:
            print_log(
                f'{error} No file of this work dir is removed.',
                'current',
                level=30,
            )
            return []
        return names if record['run'] == self._run_id else []

    def add(self, *names: str) -> None:
        """Records files that are about to be written."""
        known = self.names
        new = [name for name in dict.fromkeys(names) if name not in known]
        if new:
            self._write(known + new)

    def drop(self, *names: str) -> None:
        """Removes names, but not their files."""
        known = self.names
        left = [name for name in known if name not in names]
        if left != known:
            self._write(left)

    def _write(self, names: List[str]) -> None:
        write_json(self._path, dict(run=self._run_id, files=names))


def is_file(name: object) -> bool:
    """Returns whether a name is valid in a record: it has no folder."""
    return (
        isinstance(name, str)
        and name == osp.basename(name)
        and name.endswith('.pth')
    )
