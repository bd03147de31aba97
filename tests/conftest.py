import logging

import pytest
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

import dtkd_mmaction  # noqa: F401, I001  (mends what the tests import)


@pytest.fixture(autouse=True)
def mmaction_scope():
    """MMAction2's scope, whatever the runner of an earlier test left."""
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield


@pytest.fixture
def logged(tmp_path_factory):
    """What was logged so far, by worker processes too: a function."""
    path = tmp_path_factory.mktemp('log') / 'log.txt'
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter('%(levelname)s %(message)s'))
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield path.read_text
    logger.removeHandler(handler)
