"""Records of a run in its folder, and the state that they show.

In a run's folder::

    begun.json   the config's hash, and every launch: commit, command, time
    result.json  the same, metrics, last logged step, checkpoint; if it ended
    config.py    the config as it is trained
    train.log    what the training printed
    lock         held while it is trained
"""

import functools
import hashlib
import json
import os
import os.path as osp
import re
import subprocess
from enum import Enum
from glob import escape, glob
from importlib.metadata import PackageNotFoundError, version
from typing import Dict, List, Optional

from dtkd_mmaction.engine.atomic_checkpoint_hook import AtomicLocalBackend
from dtkd_mmaction.files import DamagedFileError, read_json

from .plan import Run
from .stages import TRAIN, stage_result

BEGUN, RESULT = 'begun.json', 'result.json'
# What the files hold at least.
LAUNCHED = dict(config_sha256=str, launches=list)
SHAPES: Dict[str, Dict[str, type]] = {
    BEGUN: LAUNCHED,
    RESULT: dict(
        LAUNCHED,
        metrics=dict,
        training=dict,
        checkpoint=str,
        checkpoint_sha256=str,
    ),
}
PACKAGES = ('torch', 'mmengine', 'mmcv', 'mmcv-lite', 'mmaction2')


class State(str, Enum):
    """State of a run."""

    DONE = 'done'
    RESUMABLE = 'resumable'
    MISSING = 'missing'
    CONFLICT = 'conflict'


class ConflictError(Exception):
    """The folder of a run contains another run."""


def read_record(path: str) -> Optional[dict]:
    """Returns the content of a record, or None if there is none.

    Args:
        path (str): A ``begun.json``, ``result.json`` or ``macs.json``. Files
            of the first two names must have the shape of :data:`SHAPES`.

    Raises:
        SystemExit: If it is damaged or of another shape.
    """
    if not osp.isfile(path):
        return None
    shape = SHAPES.get(osp.basename(path), {})
    try:
        content = read_json(path, keys=shape)
        for key, kind in shape.items():
            if not isinstance(content[key], kind):
                raise DamagedFileError(
                    f'{key!r} is a {type(content[key]).__name__}, expected a '
                    f'{kind.__name__}'
                )
        for launch in content.get('launches', ()):
            if not isinstance(launch, dict):
                raise DamagedFileError(f'{launch!r} is no launch')
        for name, value in content.get('metrics', {}).items():
            if not isinstance(value, (int, float)):
                raise DamagedFileError(f'{name} is {value!r}, not a number')
        return content
    except DamagedFileError as error:
        raise SystemExit(
            f'{path} is damaged ({error}). Remove it and run again: it is '
            'rebuilt from the other files in this folder.'
        ) from error


def write_json(path: str, content: dict) -> None:
    """Writes a file atomically."""
    AtomicLocalBackend().put_text(json.dumps(content, indent=2) + '\n', path)


def sha256_of(path: str) -> str:
    """Returns the hash of a file; reads it again only after a change."""
    status = os.stat(path)
    return _sha256_of(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=None)
def _sha256_of(path: str, *_) -> str:
    digest = hashlib.sha256()
    with open(path, 'rb') as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_result(run: Run) -> Optional[dict]:
    """Returns the record of a finished run, or None."""
    return read_record(osp.join(run.work_dir, RESULT))


def teacher_hashes(run: Run) -> Dict[str, str]:
    """Returns the hashes of the teachers' checkpoints that exist."""
    results = {name: read_result(t) for name, t in run.teachers.items()}
    return {n: r['checkpoint_sha256'] for n, r in results.items() if r}


def state_of(run: Run) -> State:
    """State of a run.

    Raises:
        ConflictError: If its folder contains a run of another config or with
            other teachers.
    """
    begun = read_record(osp.join(run.work_dir, BEGUN))
    result = read_result(run)
    record = result or begun
    if record is not None and record['config_sha256'] != run.config_sha256:
        raise ConflictError(
            f'{run.work_dir} contains a run of another config '
            f'({record["config_sha256"][:8]}, now {run.config_sha256[:8]}): '
            f'{run.source}, the models that it names or --cfg-options have '
            'changed. Use --retrain to move it aside and train again, or '
            'another --work-root to keep it.'
        )
    kept = (record or {}).get('teachers', {})
    now = teacher_hashes(run)
    changed = [n for n in kept if n in now and kept[n] != now[n]]
    if changed:
        raise ConflictError(
            f'{run.work_dir} was trained from another checkpoint of '
            f'{", ".join(changed)} than the current one. Use --retrain to '
            'move it aside and train again.'
        )
    if result is not None:
        return State.DONE
    has_checkpoint = osp.isfile(osp.join(run.work_dir, 'last_checkpoint'))
    return State.RESUMABLE if has_checkpoint else State.MISSING


def check_checkpoint(run: Run) -> None:
    """Raises an error unless the checkpoint of a finished run exists.

    The run's own figures do not need it, but students that are trained from it
    do.

    Raises:
        ConflictError: If it is missing or another file.
    """
    record = read_result(run)
    path = osp.join(run.work_dir, record['checkpoint'])
    if not osp.isfile(path):
        problem = 'is missing'
    elif sha256_of(path) != record['checkpoint_sha256']:
        problem = 'has changed since the run'
    else:
        return
    raise ConflictError(
        f'{path} {problem}, and students that are trained from it need it. '
        'Restore it, or use --retrain to move the run and its students aside '
        'and train them again.'
    )


def git(*arguments: str) -> Optional[str]:
    """Returns commit and changes of this checkout, or None outside of one."""
    try:
        return subprocess.run(
            ['git', '-C', osp.dirname(osp.abspath(__file__)), *arguments],
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> Dict[str, str]:
    """Returns the versions of the packages that decide a result."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def note_launch(run: Run, command: List[str]) -> None:
    """Records that a run starts or resumes."""
    path = osp.join(run.work_dir, BEGUN)
    begun = read_record(path)
    if begun is None:
        begun = dict(
            config=run.source,
            config_sha256=run.config_sha256,
            seed=run.seed,
            # Checkpoints of another training of this config.
            begun_elsewhere=state_of(run) is State.RESUMABLE,
            teachers=teacher_hashes(run),
            launches=[],
        )
    changed = git('status', '--porcelain', '--untracked-files=no')
    begun['launches'].append(
        dict(
            command=command,
            commit=git('rev-parse', 'HEAD'),
            dirty=None if changed is None else bool(changed),
            packages=versions(),
        )
    )
    write_json(path, begun)


def note_exit(run: Run, code: int, seconds: float) -> None:
    """Records how the last launch ended.

    Args:
        run (Run): The run.
        code (int): Exit code of the training.
        seconds (float): Duration. A launch that was killed has none.
    """
    path = osp.join(run.work_dir, BEGUN)
    begun = read_record(path)
    begun['launches'][-1].update(exit_code=code, seconds=round(seconds, 1))
    write_json(path, begun)


def note_result(run: Run) -> dict:
    """Writes the record of a successful run.

    Returns:
        dict: The record.

    Raises:
        ValueError: If there is no checkpoint or no validation of it.
    """
    if run.kind != TRAIN:
        return _write_result(run, stage_result(run))
    checkpoint = final_checkpoint(run)
    epoch = epoch_of(checkpoint)
    records = scalars(run.work_dir)
    validated = [
        record
        for record in records
        if record['step'] == epoch and 'loss' not in record
    ]
    if not validated:
        raise ValueError(
            f'{run.work_dir}/*/vis_data/scalars.json has no validation of '
            f'step {epoch}, that of {osp.basename(checkpoint)}.'
        )
    training = [record for record in records if 'loss' in record]
    outcome = dict(
        metrics={n: v for n, v in validated[-1].items() if '/' in n},
        training=training[-1] if training else {},
        epoch=epoch,
        checkpoint=osp.basename(checkpoint),
    )
    return _write_result(run, outcome)


def _write_result(run: Run, outcome: dict) -> dict:
    result = dict(
        read_record(osp.join(run.work_dir, BEGUN)),
        **outcome,
        checkpoint_sha256=sha256_of(
            osp.join(run.work_dir, outcome['checkpoint'])
        ),
    )
    write_json(osp.join(run.work_dir, RESULT), result)
    return result


def epoch_of(checkpoint: str) -> int:
    """Returns the epoch, or iteration, in the name of a checkpoint.

    Raises:
        ValueError: If it has none, as after an interruption.
    """
    number = re.search(r'(\d+)\.pth$', checkpoint)
    if number is None:
        raise ValueError(
            f'{checkpoint} is no checkpoint of an epoch: '
            'default_hooks.checkpoint keeps none of the last one.'
        )
    return int(number[1])


def final_checkpoint(run: Run) -> str:
    """Returns the best checkpoint if the config keeps one, else the last.

    Raises:
        ValueError: If it does not exist.
    """
    hooks = run.config.get('default_hooks') or {}
    if (hooks.get('checkpoint') or {}).get('save_best'):
        pattern = osp.join(escape(run.work_dir), 'best_*.pth')
    else:
        last = osp.join(run.work_dir, 'last_checkpoint')
        name = ''
        if osp.isfile(last):
            with open(last) as f:
                name = osp.basename(f.read().strip())
        pattern = osp.join(escape(run.work_dir), name or '*_*.pth')
    found = sorted(glob(pattern))
    if len(found) != 1:
        raise ValueError(f'{pattern} matches {found or "no file"}, not one.')
    return found[0]


def scalars(work_dir: str) -> List[dict]:
    """Returns everything that MMEngine logged in all launches, in order."""
    records = []
    logs = osp.join(escape(work_dir), '*', 'vis_data', 'scalars.json')
    for path in sorted(glob(logs)):
        with open(path) as f:
            for line in f:
                try:
                    record = json.loads(line)
                except ValueError:  # cut off by a kill
                    continue
                if isinstance(record, dict) and 'step' in record:
                    records.append(record)
    return records
