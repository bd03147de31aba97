"""Repairs of the released MMAction2 stack.

MMAction2 1.2.0 and MMEngine 0.10.7 are older than the PyTorch versions that
they run with today. This package is the only one that patches them: a file per
subject, a function per repair. A repair changes nothing in a stack that does
not need it, and calling it twice has no further effect. :func:`apply` calls
all of them, except :mod:`.training_start`, which a higher package calls with
its checks. It must run before anything imports ``mmaction.models``, so
``dtkd_mmaction/__init__.py`` calls it first.
"""

from .checkpoints import (
    CheckpointError,
    checkpoint_loaders,
    moved_work_dirs,
    safe_checkpoint_globals,
)
from .config_names import configs_by_package_name
from .cpu_training import (
    amp_on_cpu,
    bfloat16_logits,
    ddp_device_ids_on_cpu,
    distributed_on_cpu,
)
from .decoding import decord_reads_by_path
from .imports import (
    function_registry_location,
    missing_drn_package,
    torchvision_operators,
)
from .operators import tin_without_mmcv_operators

__all__ = ['CheckpointError', 'apply']


def apply() -> None:
    """Applies every repair."""
    missing_drn_package()
    torchvision_operators()
    function_registry_location()
    safe_checkpoint_globals()
    checkpoint_loaders()
    moved_work_dirs()
    distributed_on_cpu()
    ddp_device_ids_on_cpu()
    amp_on_cpu()
    bfloat16_logits()
    decord_reads_by_path()
    tin_without_mmcv_operators()
    configs_by_package_name()
