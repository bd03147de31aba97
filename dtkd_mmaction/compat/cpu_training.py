"""Repairs of distributed and mixed-precision training without a GPU."""

import warnings
from typing import Any

import mmengine.dist.utils as dist_utils
import mmengine.optim.optimizer.amp_optimizer_wrapper as amp_module
import torch
from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from mmengine.optim import AmpOptimWrapper, OptimWrapper

from ._patching import has_accelerator, notice, wrap


def distributed_on_cpu() -> None:
    """Lets the launchers start on machines without an accelerator.

    MMEngine calls ``torch.cuda.set_device`` whatever the backend, and the
    configs of MMAction2 ask for NCCL.
    """

    def make(upstream):
        def init(backend, *args, **kwargs):
            if has_accelerator():
                return upstream(backend, *args, **kwargs)
            set_device = torch.cuda.set_device
            torch.cuda.set_device = lambda device: None
            try:
                upstream(
                    'gloo' if backend == 'nccl' else backend, *args, **kwargs
                )
            finally:
                torch.cuda.set_device = set_device
            if backend == 'nccl':
                notice('No accelerator found: gloo is used instead of nccl.')

        return init

    for launcher in ('pytorch', 'slurm', 'mpi'):
        wrap(dist_utils, f'_init_dist_{launcher}', make)


def ddp_device_ids_on_cpu() -> None:
    """Lets ``MMDistributedDataParallel`` wrap a model that is on the CPU.

    MMEngine's runner always passes ``device_ids=[LOCAL_RANK]``, which PyTorch
    refuses for a CPU model, and unlike in training with one process it does
    not revert SyncBN, which needs a GPU.
    """

    def make(upstream):
        def init(self, module, *args, **kwargs):
            if not has_accelerator():
                kwargs['device_ids'] = None
                if any(
                    isinstance(m, torch.nn.SyncBatchNorm)
                    for m in module.modules()
                ):
                    notice(
                        'SyncBN needs a GPU: every process normalizes its own '
                        'batch instead.'
                    )
                    module = revert_sync_batchnorm(module)
            upstream(self, module, *args, **kwargs)

        return init

    wrap(MMDistributedDataParallel, '__init__', make)


def amp_on_cpu() -> None:
    """Lets ``--amp`` train on the CPU, in bfloat16 without loss scaling.

    ``AmpOptimWrapper`` asserts that there is an accelerator, though MMEngine's
    ``autocast`` and PyTorch support the CPU.
    """

    def make_init(upstream):
        def init(
            self, loss_scale='dynamic', dtype=None, use_fsdp=False, **kwargs
        ):
            if has_accelerator():
                upstream(self, loss_scale, dtype, use_fsdp, **kwargs)
                return
            OptimWrapper.__init__(self, **kwargs)
            self._scale_update_param = None
            with warnings.catch_warnings():
                # torch.cuda.amp.GradScaler is deprecated but all MMEngine has
                warnings.simplefilter('ignore', FutureWarning)
                self.loss_scaler = amp_module.GradScaler(enabled=False)
            self.cast_dtype = torch.bfloat16
            notice(
                'No accelerator found: AMP trains in bfloat16 on the CPU, '
                'without loss scaling, whatever dtype and loss_scale say.'
            )

        return init

    def make_load(upstream):
        def load_state_dict(self, state_dict):
            # What was saved on the CPU: a GPU's scaler refuses an empty state.
            if not state_dict.get('loss_scaler', True):
                state_dict.pop('loss_scaler')
            upstream(self, state_dict)

        return load_state_dict

    wrap(AmpOptimWrapper, '__init__', make_init)
    wrap(AmpOptimWrapper, 'load_state_dict', make_load)


def _float_if_bfloat16(scores: Any) -> Any:
    if isinstance(scores, torch.Tensor) and scores.dtype == torch.bfloat16:
        return scores.float()
    if isinstance(scores, dict):
        return {k: _float_if_bfloat16(v) for k, v in scores.items()}
    return scores


def bfloat16_logits() -> None:
    """Lets heads train and predict under bfloat16 autocast.

    ``BaseHead.loss_by_feat`` and ``AccMetric`` turn the logits into numpy
    arrays, and numpy has no bfloat16: "Got unsupported ScalarType BFloat16".
    Other types pass unchanged.
    """
    from mmaction.models.heads import BaseHead, OmniHead, RGBPoseHead

    def make(upstream):
        def by_feat(self, cls_scores, *args, **kwargs):
            return upstream(
                self, _float_if_bfloat16(cls_scores), *args, **kwargs
            )

        return by_feat

    for head in (BaseHead, OmniHead, RGBPoseHead):
        for name in ('loss_by_feat', 'predict_by_feat'):
            if name in vars(head):
                wrap(head, name, make)
