import logging

import pytest
from mmengine.logging import MMLogger


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
