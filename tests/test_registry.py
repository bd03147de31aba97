"""MMEngine finds everything in the scope of this package."""

import pytest
from mmaction import registry as mmaction_registry
from mmengine.registry import HOOKS, METRICS, MODELS, VISUALIZERS, Registry

from dtkd_mmaction import registry


def test_every_registry_of_mmaction_has_one_below():
    known = {
        name: value
        for name, value in vars(mmaction_registry).items()
        if isinstance(value, Registry)
        and value.scope == 'mmaction'
        # No parent, and a folder that does not exist.
        and name not in ('TOKENIZER', 'FUNCTION')
    }
    assert len(known) > 20
    for name, parent in known.items():
        own = getattr(registry, name)
        assert (own.parent, own.scope) == (parent, 'dtkd_mmaction'), name


@pytest.mark.parametrize(
    'root, config',
    [
        (MODELS, dict(type='KDLoss')),
        (MODELS, dict(type='X3D')),
        (HOOKS, dict(type='StudentExportHook')),
        (HOOKS, dict(type='IterTimerHook')),
        (METRICS, dict(type='AccMetric')),
        (VISUALIZERS, dict(type='ActionVisualizer', name='scope')),
    ],
)
def test_a_config_of_this_scope_is_built(root, config, logged):
    """The scope is that of ``_base_ = 'dtkd_mmaction::...'``."""
    built = root.build(dict(config, _scope_='dtkd_mmaction'))
    assert type(built).__name__ == config['type']
    assert 'Failed to search registry' not in logged()
