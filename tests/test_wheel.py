"""An installed package has its configs and tools, as MIM expects them.

Nothing is fetched: the package is built with the setuptools of this
environment and installed alone into a new one, which takes everything else
from this one. All commands run in an empty folder.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import test_end_to_end
from tiny_models import FRAMES, SIZE, tiny_mvit, tiny_x3d

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (
    'LICENSE',
    'MANIFEST.in',
    'README.md',
    'configs',
    'dtkd_mmaction',
    'model-index.yml',
    'pyproject.toml',
    'requirements',
    'setup.py',
    'tools',
)
NAME = 'x3d_s_hmdb51.py'

clips, teachers, options = (
    test_end_to_end.clips,
    test_end_to_end.teachers,
    test_end_to_end.options,
)


class Environment:
    """A virtual environment with the package alone.

    Args:
        folder (Path): Where it is made.
        arguments (list[str]): What ``pip install`` is asked for.
    """

    def __init__(self, folder, arguments):
        self.folder = folder / 'empty'
        self.folder.mkdir(parents=True)
        venv = folder / 'venv'
        subprocess.run(
            [sys.executable, '-m', 'venv', '--without-pip', venv], check=True
        )
        self.python = venv / 'bin/python'
        self.packages = next(venv.glob('lib/*/site-packages'))
        # Read after the .pth file of an editable install.
        others = sysconfig.get_paths()['purelib']
        (self.packages / 'others.pth').write_text(
            f'import site; site.addsitedir({others!r})\n'
        )
        command = ['-m', 'pip', '--python', self.python, 'install', '--quiet']
        command += ['--no-deps', '--no-index', '--no-build-isolation']
        command += ['--ignore-installed', *arguments]
        subprocess.run([sys.executable, *command], check=True)

    def run(self, *arguments):
        """Runs its Python; returns the exit code and what it printed."""
        env = dict(os.environ, OMP_NUM_THREADS='1', COLUMNS='200')
        env.pop('PYTHONPATH', None)
        done = subprocess.run(
            [self.python, '-W', 'ignore', *arguments],
            cwd=self.folder,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return done.returncode, done.stdout

    def says(self, *arguments):
        """Returns what it printed; the command must succeed."""
        code, text = self.run(*arguments)
        assert code == 0, text[-6000:]
        return text

    def mim(self, *arguments):
        """Runs ``mim``; returns the exit code and what it printed."""
        return self.run('-m', 'mim', *arguments)


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A copy of what is packaged, because a build writes beside it."""
    folder = tmp_path_factory.mktemp('source')
    ignored = shutil.ignore_patterns('__pycache__', '.mim')
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope='module')
def wheel(source, tmp_path_factory):
    """The wheel."""
    folder = tmp_path_factory.mktemp('wheel')
    # What an earlier build left must not come along.
    left = source / 'build/lib/dtkd_mmaction/.mim/configs/left.py'
    left.parent.mkdir(parents=True)
    left.touch()
    command = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps']
    command += ['--no-index', '--no-build-isolation', '-w', folder, source]
    subprocess.run(command, check=True)
    return next(folder.glob('dtkd_mmaction-*.whl'))


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
    """An environment with the wheel."""
    return Environment(tmp_path_factory.mktemp('wheel_env'), [wheel])


def test_what_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (n for n in names if n.endswith('/METADATA'))
        metadata = archive.read(metadata).decode()
    assert 'dtkd_mmaction/py.typed' in names
    for folder in ('configs', 'tools'):
        files = {
            f'dtkd_mmaction/.mim/{path.relative_to(ROOT)}'
            for path in (ROOT / folder).rglob('*')
            if path.is_file() and '__pycache__' not in path.parts
        }
        assert len(files) > 50
        start = f'dtkd_mmaction/.mim/{folder}/'
        packed = {name for name in names if name.startswith(start)}
        assert packed == files
    assert 'dtkd_mmaction/.mim/model-index.yml' in names
    assert not any(n.startswith(('tests/', 'configs/')) for n in names)
    head, _, readme = metadata.partition('\n\n')
    for line in ('Author: ', 'Home-page: https://', 'License: Apache-2.0'):
        assert f'\n{line}' in head
    assert '\nDescription-Content-Type: text/markdown' in head
    assert readme.strip() == (ROOT / 'README.md').read_text().strip()


def test_the_source_archive_makes_the_same_wheel(source, wheel, tmp_path):
    build = 'import setuptools.build_meta as b, sys; b.build_{}(sys.argv[1])'
    command = [sys.executable, '-c', build.format('sdist'), tmp_path]
    subprocess.run(command, cwd=source, check=True, stdout=subprocess.DEVNULL)
    (archive,) = tmp_path.glob('*.tar.gz')
    shutil.unpack_archive(archive, tmp_path)
    (unpacked,) = (p for p in tmp_path.iterdir() if p.is_dir())
    assert not (unpacked / 'dtkd_mmaction/.mim').exists()
    command = [sys.executable, '-c', build.format('wheel'), tmp_path]
    subprocess.run(
        command, cwd=unpacked, check=True, stdout=subprocess.DEVNULL
    )
    (again,) = tmp_path.glob('*.whl')
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert set(one.namelist()) == set(other.namelist())


LOOK = """
import mmengine.hub
from mim.utils import get_installed_path, recursively_find
import dtkd_mmaction
package = get_installed_path('dtkd_mmaction')
(config,) = recursively_find(package, 'x3d_s_hmdb51.py', followlinks=True)
assert config == package + '/.mim/configs/dtkd/x3d_s_hmdb51.py', config
config = mmengine.hub.get_config('dtkd_mmaction::dtkd/x3d_s_hmdb51.py')
print('package', dtkd_mmaction.__file__)
print('mim', package)
print('student', config.model.student.cfg)
print('config', config.filename)
"""


def test_get_config_of_the_wheel(installed):
    text = installed.says('-c', LOOK)
    package = installed.packages / 'dtkd_mmaction'
    assert f'package {package}/__init__.py' in text
    assert f'mim {package}\n' in text
    assert 'student mmaction::recognition/x3d/x3d_s' in text
    assert f'config {package}/.mim/configs/dtkd/x3d_s_hmdb51.py' in text


def test_mim_search(installed):
    code, text = installed.mim('search', 'dtkd_mmaction', '--valid-config')
    assert code == 0, text
    assert "'x3d_s_hmdb51'" in text and "'movinet_a2_epic'" in text


def found_by_name(env):
    """The config that ``mim train`` finds; an unknown option ends it."""
    code, text = env.mim('train', 'dtkd_mmaction', NAME, '--unknown-option')
    assert code != 0
    assert 'train.py: error: unrecognized arguments: --unknown-opt' in text
    return re.search(r'will use (\S+) instead', text)[1]


def test_mim_train_by_name(installed):
    config = installed.packages / f'dtkd_mmaction/.mim/configs/dtkd/{NAME}'
    assert found_by_name(installed) == str(config)


def test_mim_train_a_config_that_inherits(installed, options):
    """The paper's config with tiny models."""
    models = dict(
        student=dict(cfg=tiny_x3d(), view=dict(frames=FRAMES, size=SIZE)),
        vit_teacher=dict(cfg=tiny_mvit(), view=dict(frames=FRAMES, size=SIZE)),
        cnn_teacher=dict(cfg=tiny_x3d(16), view=dict(frames=FRAMES, size=48)),
    )
    for spec in models.values():
        spec.update(_delete_=True, checkpoint=None)
    (installed.folder / 'mine.py').write_text(
        f"_base_ = 'dtkd_mmaction::dtkd/{NAME}'\nmodel = dict(**{models})\n"
    )
    small = ('train_cfg.max_epochs=1', '--work-dir', 'runs')
    code, text = installed.mim(
        'train',
        'dtkd_mmaction',
        'mine.py',
        '--cfg-options',
        *options,
        *small,
    )
    assert code == 0, text[-6000:]
    assert 'loss_sd' in text
    assert 'Failed to search registry' not in text
    assert list(installed.folder.glob('runs/student_*.pth'))


def test_an_editable_install(source, tmp_path):
    """It is the working copy, its configs as well."""
    env = Environment(tmp_path, ['-e', source])
    text = env.says('-c', LOOK)
    assert f'package {source}/dtkd_mmaction/__init__.py' in text
    assert f'mim {source}/dtkd_mmaction\n' in text
    for name in ('configs', 'tools', 'model-index.yml'):
        link = source / 'dtkd_mmaction/.mim' / name
        assert link.is_symlink() and link.resolve() == source / name
