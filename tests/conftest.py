import functools
import logging
from pathlib import Path

import mmengine.config.config
import mmengine.config.utils
import mmengine.runner.runner
import pytest
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

import dtkd_mmaction  # noqa: F401, I001  (mends what the tests import)

# Every runner asks the machine for its compilers and formats its config: three
# quarters of the time that a tiny run takes to start.
mmengine.runner.runner.collect_env = functools.lru_cache(
    mmengine.runner.runner.collect_env
)
mmengine.config.config.FormatCode = lambda text, **style: (text, True)
# Every inherited stock config reads all metafiles of MMAction2 and imports
# pkg_resources again.
mmengine.config.utils.load = functools.lru_cache(mmengine.config.utils.load)
mmengine.config.config.is_installed = functools.lru_cache(
    mmengine.config.config.is_installed
)

# Tests of tools and of whole configs run nearly all of the package and assert
# little about it, so coverage does not count them, and nothing slows them.
NOT_COVERED = (
    'tools',
    'test_config_steps.py',
    'test_configs.py',
    'test_docs.py',
    'test_end_to_end.py',
)


def pytest_collection_modifyitems(items):
    tests = Path(__file__).parent
    for item in items:
        if item.path.relative_to(tests).parts[0] in NOT_COVERED:
            item.add_marker('no_cover')


@pytest.fixture(autouse=True)
def mmaction_scope():
    """MMAction2's scope, whatever the runner of an earlier test left."""
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield


@pytest.fixture
def logged(tmp_path_factory):
    """Returns a function that returns the log so far, also of workers."""
    path = tmp_path_factory.mktemp('log') / 'log.txt'
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter('%(levelname)s %(message)s'))
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    level = logger.level  # an earlier run may have left another
    logger.setLevel('INFO')
    yield path.read_text
    logger.setLevel(level)
    logger.removeHandler(handler)
