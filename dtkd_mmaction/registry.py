"""Registries of the scope ``dtkd_mmaction``, below those of MMAction2.

The package registers its classes in MMAction2's registries, so configs of the
scope ``mmaction`` find them. MMEngine gives the scope ``dtkd_mmaction`` to
what a config inherits by ``_base_ = 'dtkd_mmaction::...'``, and looks for it
in the registries of that scope. These are empty: a name that they do not know
is looked up in MMAction2's and MMEngine's.
"""

from mmaction import registry as mmaction_registry
from mmengine.registry import Registry

SCOPE = 'dtkd_mmaction'


def _below(parent: Registry) -> Registry:
    """Returns a registry that imports what its parent imports."""
    return Registry(
        parent.name,
        parent=parent,
        scope=SCOPE,
        locations=[SCOPE, *parent._locations],
    )


RUNNERS = _below(mmaction_registry.RUNNERS)
RUNNER_CONSTRUCTORS = _below(mmaction_registry.RUNNER_CONSTRUCTORS)
LOOPS = _below(mmaction_registry.LOOPS)
HOOKS = _below(mmaction_registry.HOOKS)
DATASETS = _below(mmaction_registry.DATASETS)
DATA_SAMPLERS = _below(mmaction_registry.DATA_SAMPLERS)
TRANSFORMS = _below(mmaction_registry.TRANSFORMS)
MODELS = _below(mmaction_registry.MODELS)
MODEL_WRAPPERS = _below(mmaction_registry.MODEL_WRAPPERS)
WEIGHT_INITIALIZERS = _below(mmaction_registry.WEIGHT_INITIALIZERS)
OPTIMIZERS = _below(mmaction_registry.OPTIMIZERS)
OPTIM_WRAPPERS = _below(mmaction_registry.OPTIM_WRAPPERS)
OPTIM_WRAPPER_CONSTRUCTORS = _below(
    mmaction_registry.OPTIM_WRAPPER_CONSTRUCTORS
)
PARAM_SCHEDULERS = _below(mmaction_registry.PARAM_SCHEDULERS)
METRICS = _below(mmaction_registry.METRICS)
EVALUATOR = _below(mmaction_registry.EVALUATOR)
TASK_UTILS = _below(mmaction_registry.TASK_UTILS)
VISUALIZERS = _below(mmaction_registry.VISUALIZERS)
VISBACKENDS = _below(mmaction_registry.VISBACKENDS)
LOG_PROCESSORS = _below(mmaction_registry.LOG_PROCESSORS)
INFERENCERS = _below(mmaction_registry.INFERENCERS)
