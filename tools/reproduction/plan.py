"""Reads the declarations of tables and plans their runs."""

import copy
import functools
import hashlib
import json
import os.path as osp
from dataclasses import dataclass, field
from glob import escape, glob
from types import MappingProxyType
from typing import (
    Any,
    Dict,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Union,
)

import yaml
from compose_config import FUSIONS, compose, config_names, fusion_changes
from mmengine.config import Config

from dtkd_mmaction.files import DamagedFileError, read_json

from .needed_files import how_to_fetch, how_to_prepare
from .nested import found_under, map_strings
from .stages import CACHE, PROBE, TRAIN, cache_folder

# First folders of relative paths in configs.
DATA, WORK = 'data', 'work_dirs'
# Keys that --cfg-options must not set -> the option to use.
OPTIONS_OF_THE_COMMAND = {
    'work_dir': '--work-root',
    'randomness.seed': '--seed-list',
}
# Arguments of distillers that are the spec of one frozen teacher.
TEACHERS = ('vit_teacher', 'cnn_teacher', 'teacher')


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        name (str): Name in the table.
        config (str): Config file, relative to the declaration.
        once (bool): Whether only seed 0 is trained, as for teachers, because
            the students use this seed.
        cache (bool or int): Whether it can use a teacher cache. A number of
            views: the row has a cache of its own, made before it.
        options (dict): Changes to the config, as in ``--cfg-options``.
        method (str): A compared method for the models of the config
            (``tools/compose_config.py``). Defaults to ``''``: the config.
    """

    name: str
    config: str
    once: bool = False
    cache: Union[bool, int] = True
    options: Mapping[str, Any] = MappingProxyType({})
    method: str = ''

    @property
    def source(self) -> str:
        """The config and the method, for messages and records."""
        return f'{self.config} {self.method}'.strip()


class Table(NamedTuple):
    """A table as ``configs/tables.yml`` declares it.

    Attributes:
        name (str): Name on the command line.
        title (str): Title above it.
        metrics (dict): Column -> scalar of the validation, from 0 to 1.
        rows (list[Row]): Rows in order.
        paper (dict): Config -> column -> the paper's figure, in percent.
        reference (str): Row that the others are compared with, or ''.
        monitors (dict): Column -> scalar of the last logged step.
    """

    name: str
    title: str
    metrics: Dict[str, str]
    rows: List[Row]
    paper: Dict[str, Dict[str, float]]
    reference: str = ''
    monitors: Mapping[str, str] = MappingProxyType({})


@dataclass
class Run:
    """One training: a config with a seed.

    Attributes:
        name (str): Config without ``.py``, and seed.
        source (str): The config's file.
        seed (int): ``randomness.seed``.
        work_dir (str): Its folder.
        config (Config): Config with the user's folders, seed and options.
        config_sha256 (str): Hash of the config without the user's folders.
        needed_files (dict): Required file -> command that creates it.
        clips (int): Clips of its training set; 0 if not known.
        teachers (dict): Argument of the distiller -> run that trains it.
        kind (str): A training, a probe or a cache (``stages.py``).
    """

    name: str
    source: str
    seed: int
    work_dir: str
    config: Config
    config_sha256: str
    needed_files: Dict[str, str]
    clips: int
    teachers: Dict[str, 'Run'] = field(default_factory=dict)
    kind: str = TRAIN


def read_tables(path: str) -> Dict[str, Table]:
    """Reads the declaration of the tables.

    Args:
        path (str): A YAML file such as ``configs/tables.yml``.

    Returns:
        dict[str, Table]: By name.

    Raises:
        SystemExit: If it is no valid declaration.
    """
    declared = read_declaration(path)
    tables = {}
    for name, table in declared['tables'].items():
        where = f'--tables {path}: tables.{name}'
        for key in ('title', 'metrics', 'rows'):
            if not table or not table.get(key):
                raise SystemExit(f'{where} has no {key}.')
        rows = [
            read_row(row, options, where)
            for row, options in table['rows'].items()
        ]
        reference = table.get('reference', '')
        if reference and reference not in table['rows']:
            raise SystemExit(
                f'{where}.reference: {reference!r} is none of its rows '
                f'{list(table["rows"])}.'
            )
        columns = list(table['metrics'])
        figures = {
            config: figure
            if isinstance(figure, dict)
            else {columns[0]: figure}
            for config, figure in declared.get('paper', {}).items()
        }
        tables[name] = Table(
            name,
            table['title'],
            table['metrics'],
            rows,
            figures,
            reference,
            table.get('monitors', {}),
        )
    return tables


def read_declaration(path: str) -> dict:
    """Returns the content of a declaration.

    Raises:
        SystemExit: If the file is missing or declares no table.
    """
    try:
        with open(path) as f:
            declared = yaml.safe_load(f)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SystemExit(f'--tables {path}: {error}') from error
    tables = isinstance(declared, dict) and declared.get('tables')
    if not tables or not isinstance(tables, dict):
        raise SystemExit(
            f'--tables {path}: it declares no table under `tables`.'
        )
    return declared


def read_row(name: str, options: Any, where: str) -> Row:
    """Reads a row of a declaration: a config, or a dict with one.

    Raises:
        SystemExit: If it is neither.
    """
    if isinstance(options, str):
        options = dict(config=options)
    known = Row._fields[1:]
    if not isinstance(options, dict) or not (
        {'config'} <= set(options) <= set(known)
    ):
        raise SystemExit(
            f'{where}.rows.{name}: {options!r} is neither a config nor a '
            f'dict of {list(known)} with a config.'
        )
    return Row(name, **options)


class Planner:
    """Plans the runs of configs; one config and one seed is one run.

    Args:
        tables_file (str): The declaration; config names are relative to its
            folder.
        data_root (str): Replaces ``data`` in the configs.
        work_root (str, optional): Replaces ``work_dirs``. Defaults to
            ``work_root`` of the declaration, in its folder, or else to
            ``work_dirs`` here.
        cfg_options (dict, optional): Changes to the configs, as in
            ``--cfg-options``. Options of ``model`` apply to distillers only.
        teacher_cache (str, optional): Folder of ``tools/cache_teachers.py``.
    """

    def __init__(
        self,
        tables_file: str,
        data_root: str = DATA,
        work_root: Optional[str] = None,
        cfg_options: Optional[dict] = None,
        teacher_cache: Optional[str] = None,
    ) -> None:
        self.folder = osp.dirname(osp.abspath(tables_file))
        self.declared = read_declaration(tables_file)
        declared = self.declared.get('work_root')
        # Configs of a project name this folder wherever they are trained.
        self.own_work = declared and osp.join(self.folder, declared)
        self.roots = {
            DATA: osp.abspath(data_root),
            WORK: osp.abspath(work_root or self.own_work or WORK),
        }
        self.cfg_options = cfg_options or {}
        for key, instead in OPTIONS_OF_THE_COMMAND.items():
            if key in self.cfg_options:
                raise SystemExit(
                    f'--cfg-options {key}: every run has its own. Use '
                    f'{instead}.'
                )
        self.teacher_cache = teacher_cache and osp.abspath(teacher_cache)
        self._runs: Dict[Any, Run] = {}
        self._configs: Dict[str, Config] = {}
        self._stage_one: Optional[Dict[str, str]] = None

    def runs(self, row: Row, seeds: Iterable[int]) -> List[Run]:
        """Returns the runs of a row, one per seed; a teacher has seed 0."""
        return [self.run(row, seed) for seed in ([0] if row.once else seeds)]

    def run(self, row: Row, seed: int) -> Run:
        """Returns the run of a row with a seed, and its teachers' runs.

        Args:
            row (Row): The row.
            seed (int): Seed of the run; its teachers have seed 0.
        """
        # The same config in two rows or tables is one run.
        stem = osp.splitext(row.config)[0]
        if row.method:
            stem += f'_{row.method}'
        if row.options:
            stem += f'/{row.name.replace(" ", "_")}'
        if (stem, seed) not in self._runs:
            self._runs[stem, seed] = self._plan(row, stem, seed)
        return self._runs[stem, seed]

    def _plan(self, row: Row, stem: str, seed: int) -> Run:
        path = osp.join(self.folder, row.config)
        if not osp.isfile(path):
            raise SystemExit(f'{row.config} is not in {self.folder}.')
        config = self._config(path, row.method)
        config.merge_from_dict(dict(row.options))
        teachers = {}
        specs = teacher_specs(config.model)
        for argument, spec in specs.items():
            pattern = spec.get('checkpoint')
            if pattern and pattern.startswith(f'{WORK}/'):
                trained_by = self.stage_one(osp.dirname(pattern), row.source)
                teacher = Row(trained_by, trained_by, once=True)
                teachers[argument] = self.run(teacher, 0)
        is_distiller = 'student' in config.model
        config.merge_from_dict(
            {
                name: value
                for name, value in self.cfg_options.items()
                if is_distiller or not name.startswith('model.')
            }
        )
        if self.teacher_cache and specs and row.cache:
            config.model.teacher_cache = self.teacher_cache
            config.train_dataloader.dataset.views = self._cached_views()
        elif teachers and not isinstance(row.cache, bool):
            teachers['teacher_cache'] = self._cache(
                row, stem, config, teachers
            )
            config.model.teacher_cache = cache_folder(
                teachers['teacher_cache']
            )
            config.train_dataloader.dataset.views = row.cache
        config.merge_from_dict({'randomness.seed': seed})
        own_folder = config.get('work_dir')
        if own_folder is None or seed or row.options or row.method:
            own_folder = f'{WORK}/reproduce/{stem}/seed{seed}'
        return Run(
            name=f'{stem} seed {seed}',
            source=row.source,
            seed=seed,
            work_dir=self._rebase(own_folder),
            config=self._resolved(config, own_folder),
            config_sha256=self._fingerprint(config),
            needed_files=self._needed_files(config, path),
            clips=self._clips(config),
            teachers=teachers,
            kind=PROBE if 'probe' in config else TRAIN,
        )

    def _cache(
        self, row: Row, stem: str, config: Config, teachers: Dict[str, Run]
    ) -> Run:
        """The run that makes the cache of a row."""
        if ('cache', stem) not in self._runs:
            config = Config(dict(config.to_dict(), cache_views=row.cache))
            folder = f'{WORK}/teacher_cache/{stem}'
            self._runs['cache', stem] = Run(
                name=f'{stem} teacher cache',
                source=row.source,
                seed=0,
                work_dir=self._rebase(folder),
                config=self._resolved(config, folder),
                config_sha256=self._fingerprint(config),
                needed_files={},
                clips=self._clips(config),
                teachers=dict(teachers),
                kind=CACHE,
            )
        return self._runs['cache', stem]

    def _config(self, path: str, method: str = '') -> Config:
        """Reads a config, once for all its rows, and applies a method."""
        try:
            if method and method not in config_names(FUSIONS):
                text = compose(path, method)
                return self._portable(Config.fromstring(text, '.py'))
            if path not in self._configs:
                self._configs[path] = self._portable(Config.fromfile(path))
            config = copy.deepcopy(self._configs[path])
            if method:
                changes = fusion_changes(config.model, method)
                config.merge_from_dict(dict(model=changes))
        except ValueError as error:
            raise SystemExit(f'{path}: {error}') from error
        return config

    def _portable(self, config: Config) -> Config:
        """The config with ``work_dirs`` where it names the project's own."""
        if not self.own_work:
            return config

        def shorten(value: str) -> str:
            if not osp.isabs(value):
                return value
            path = osp.normpath(value)
            if path.startswith(self.own_work + osp.sep):
                return f'{WORK}/{osp.relpath(path, self.own_work)}'
            # `here/../train.txt`; a pattern of a class name stays as it is.
            return path if path.startswith(self.folder) else value

        return Config(map_strings(config.to_dict(), shorten))

    def _cached_views(self) -> int:
        manifest = osp.join(self.teacher_cache, 'manifest.json')
        if not osp.isfile(manifest):
            raise SystemExit(
                f'--teacher-cache: {self.teacher_cache} is no cache. Make it '
                'with tools/cache_teachers.py once the teachers are trained.'
            )
        try:
            return read_json(manifest, keys=['views'])['views']
        except DamagedFileError as error:
            raise SystemExit(f'--teacher-cache: {error}') from error

    def stage_one(self, folder: str, wanted_by: str) -> str:
        """Finds the stage-one config with a work dir.

        Raises:
            SystemExit: If there is none.
        """
        if self._stage_one is None:
            self._stage_one = {}
            for pattern in self.declared.get('stage_one', ()):
                pattern = osp.join(escape(self.folder), pattern)
                for path in sorted(glob(pattern)):
                    own = self._config(path).get('work_dir')
                    if own is not None:
                        name = osp.relpath(path, self.folder)
                        self._stage_one[own] = name
        if folder not in self._stage_one:
            raise SystemExit(
                f'{wanted_by} reads a checkpoint in {folder}, but no config '
                f'of stage_one={self.declared.get("stage_one")} has this '
                'as its work_dir.'
            )
        return self._stage_one[folder]

    def _rebase(self, path: str) -> str:
        head, _, rest = path.partition('/')
        root = self.roots.get(head)
        return path if root is None or not rest else osp.join(root, rest)

    def _resolved(self, config: Config, own_folder: str) -> Config:
        """Returns the config with the user's folders, as it is trained."""
        resolved = map_strings(config.to_dict(), self._rebase)
        resolved['work_dir'] = self._rebase(own_folder)
        return Config(resolved)

    def _fingerprint(self, config: Config) -> str:
        """Returns a hash of everything that decides the result."""
        content = config.to_dict()
        content.pop('work_dir', None)
        if 'teacher_cache' in content['model']:
            content['model']['teacher_cache'] = 'used'
        content = map_strings(content, self._read_config)
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def _read_config(self, value: str) -> Any:
        """Replaces the name of a config file by its model."""
        if not value.endswith('.py') or not osp.isfile(value):
            return value.replace(self.folder, '')
        return map_strings(model_of(value), self._read_config)

    def _needed_files(self, config: Config, path: str) -> Dict[str, str]:
        needed = {}
        for part in ('train_dataloader', 'val_dataloader'):
            for name in found_under(config.get(part) or {}, 'ann_file'):
                needed[self._rebase(name)] = how_to_prepare(
                    name, self.roots[DATA]
                )
        for key in ('load_from', 'checkpoint'):
            for name in found_under(config.to_dict(), key):
                if '://' not in name and not name.startswith(f'{WORK}/'):
                    name = self._rebase(name)
                    needed[name] = how_to_fetch(key, name, path)
        return needed

    def _clips(self, config: Config) -> int:
        for indices in found_under(config.train_dataloader, 'indices', list):
            return len(indices)
        for name in found_under(config.train_dataloader, 'ann_file'):
            path = self._rebase(name)
            if osp.isfile(path):
                with open(path) as f:
                    lines = sum(bool(line.strip()) for line in f)
                return lines - path.endswith('.csv')  # its head
            folder = '/'.join(name.split('/')[:2])
            return self.declared.get('clips', {}).get(folder, 0)
        return 0


def teacher_specs(model: Mapping[str, Any]) -> Dict[str, Any]:
    """Returns the teachers of a distiller: its argument -> model spec.

    A teacher of ``MultiTeacherDistiller`` is called ``teachers.<name>``.
    """
    specs = {name: model.get(name) for name in TEACHERS}
    for name, spec in (model.get('teachers') or {}).items():
        specs[f'teachers.{name}'] = spec
    return {name: spec for name, spec in specs.items() if spec}


@functools.lru_cache(maxsize=None)
def model_of(path: str) -> dict:
    """Returns the model of a config file."""
    return Config.fromfile(path).to_dict()['model']


def runs_in_order(runs: Iterable[Run]) -> List[Run]:
    """Returns every run once, teachers before students."""
    ordered: Dict[int, Run] = {}

    def add(run: Run) -> None:
        for teacher in run.teachers.values():
            add(teacher)
        ordered.setdefault(id(run), run)

    runs = list(runs)
    for run in runs:
        for teacher in run.teachers.values():
            add(teacher)
    for run in runs:
        add(run)
    return list(ordered.values())
