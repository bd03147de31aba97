"""A frozen recognizer that returns the input of its last linear layer."""

import hashlib
from typing import Any, Dict, List, Optional

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor

from dtkd_mmaction.distillers.shared_clip import stack_clips
from dtkd_mmaction.recognizers.clip_view import ClipView
from dtkd_mmaction.recognizers.model_spec import (
    build_recognizer,
    checkpoint_state_dict,
    find_checkpoint,
    forget_pretraining,
)
from dtkd_mmaction.recognizers.tapped_recognizer import model_inputs

# Logits may differ by this much from those of the averaged embedding,
# relative to the largest one.
TOLERANCE = 1e-3


class ProbedModel:
    """A stock recognizer, frozen, whose classification layer is fitted.

    Args:
        config (Config): Has ``model``, a stock recognizer.
        weights (str, optional): Path, URL or pattern of a checkpoint with
            the weights of all other layers. Defaults to None: the weights
            with which the config builds the model.
        key (str): Config key of the model, for messages.
        view (ClipView, optional): The model's own view of shared clips.
            Defaults to None: clips have the size that the model needs.
        device (str): Device of the forward passes. Defaults to 'cpu'.

    Raises:
        ValueError: If the head has no linear layer, or the checkpoint lacks
            weights.

    Attributes:
        recognizer (nn.Module): The whole recognizer, in eval mode.
        classifier_name (str): Name of its last linear layer.
    """

    def __init__(
        self,
        config: Config,
        weights: Optional[str] = None,
        key: str = 'model',
        view: Optional[ClipView] = None,
        device: str = 'cpu',
    ) -> None:
        config = Config(dict(model=config.model.to_dict()))
        if weights is not None:
            forget_pretraining(config.model)
        self.key = key
        self.view = view
        self.model_config = config.model.to_dict()
        # neither loss nor dropout nor width of the layer changes embeddings
        self.model_config.pop('cls_head')
        self.recognizer = build_recognizer(config, key)
        self.classifier_name = last_linear_layer(self.recognizer, key)
        if weights is None:
            self.recognizer.init_weights()
        else:
            load_all_but(
                self.recognizer, f'{self.classifier_name}.', weights, key
            )
        self.recognizer.requires_grad_(False).to(device).eval()

    @property
    def classifier(self) -> nn.Linear:
        """The layer to fit."""
        return self.recognizer.get_submodule(self.classifier_name)

    def describe(self) -> Dict[str, Any]:
        """Returns all that embeddings depend on."""
        digest = hashlib.sha256()
        for name, value in self.recognizer.state_dict().items():
            if not name.startswith(f'{self.classifier_name}.'):
                digest.update(name.encode())
                digest.update(value.cpu().numpy().tobytes())
        view = self.view
        return dict(
            model=self.model_config,
            weights=digest.hexdigest(),
            view=view and [view.frames, view.size, view.fold_frames],
            layer=self.classifier_name,
        )

    @property
    def num_classes(self) -> int:
        """Width of the logits."""
        return self.classifier.out_features

    @torch.no_grad()
    def embed(self, data: Dict[str, Any]) -> Tensor:
        """Computes the input of the classification layer.

        Args:
            data (dict): ``inputs`` and ``data_samples`` of B clips, as
                ``pseudo_collate`` returns them.

        Returns:
            Tensor: (B, R, D); R rows of logits per clip, one unless the
                pipeline takes several clips of a video.

        Raises:
            ValueError: If the head does more than average after its last
                linear layer.
        """
        recognizer = self.recognizer
        if self.view is None:
            inputs = recognizer.data_preprocessor(data, training=False)
            inputs = inputs['inputs']
        else:
            device = next(recognizer.parameters()).device
            clips = stack_clips(data['inputs']).to(device)
            inputs = model_inputs(recognizer, self.view, clips)
        read: List[Tensor] = []
        handle = self.classifier.register_forward_pre_hook(
            lambda _, args: read.append(args[0])
        )
        try:
            logits = recognizer.extract_feat(inputs, stage='head')[0]
        finally:
            handle.remove()
        if len(read) != 1 or logits.ndim != 2:
            self._refuse(f'it is called {len(read)} times per forward pass')
        rows = read[0].flatten(0, -2)
        if len(rows) % len(logits):
            self._refuse(f'it reads {len(rows)} rows for {len(logits)} logits')
        embeddings = rows.unflatten(0, (len(logits), -1)).mean(dim=1)
        error = (self.classifier(embeddings) - logits).abs().max()
        if error > TOLERANCE * max(logits.abs().max(), 1e-6):
            self._refuse('the head does more than average its output')
        return embeddings.unflatten(0, (len(data['inputs']), -1)).float()

    def _refuse(self, reason: str) -> None:
        raise ValueError(
            f'{self.key}.cls_head ({type(self.recognizer.cls_head).__name__})'
            f' cannot be probed at its last linear layer '
            f'{self.classifier_name!r}: {reason}. Use a head that ends in one '
            'linear layer, such as TSNHead or I3DHead.'
        )

    def set_classifier(self, weight: Tensor, bias: Tensor) -> None:
        """Fills the classification layer."""
        layer = self.classifier
        layer.weight.data.copy_(weight)
        if layer.bias is None:
            self._refuse('it has no bias')
        layer.bias.data.copy_(bias)

    def average(self, logits: Tensor) -> Tensor:
        """Averages logits (n, R, N) over rows as the head does, (n, N)."""
        if self.recognizer.cls_head.average_clips == 'score':
            return logits.mean(dim=1)
        return logits.softmax(dim=2).mean(dim=1).log()


def last_linear_layer(recognizer: nn.Module, key: str) -> str:
    """Returns the name of the last linear layer of a recognizer's head."""
    names = [
        f'cls_head.{name}'
        for name, module in recognizer.cls_head.named_modules()
        if isinstance(module, nn.Linear)
    ]
    if not names:
        raise ValueError(
            f'{key}.cls_head ({type(recognizer.cls_head).__name__}) has no '
            'linear layer to fit. Use a head that ends in one, such as '
            'TSNHead or I3DHead.'
        )
    return names[-1]


def load_all_but(
    recognizer: nn.Module, excluded: str, path: str, key: str
) -> None:
    """Loads a checkpoint into all layers but one; all of them must be in it.

    Args:
        recognizer (nn.Module): A stock recognizer.
        excluded (str): Prefix of the tensors that are not loaded.
        path (str): Path, URL or pattern. Tensors may have the names of the
            recognizer or of its backbone alone.
        key (str): Config key of the model, for messages.

    Raises:
        ValueError: If it cannot be read or lacks tensors.
    """
    try:
        checkpoint = CheckpointLoader.load_checkpoint(
            find_checkpoint(path), map_location='cpu'
        )
    except Exception as error:  # each file format has errors of its own
        raise ValueError(
            f'{key}: the checkpoint {path!r} cannot be read: {error}'
        ) from error
    offered = checkpoint_state_dict(checkpoint)
    if not any(name.startswith('backbone.') for name in offered):
        offered = {f'backbone.{name}': v for name, v in offered.items()}
    wanted = {
        name: value
        for name, value in recognizer.state_dict().items()
        # counters of BatchNorm's training steps, absent in old checkpoints
        if not name.startswith(excluded)
        and not name.endswith('num_batches_tracked')
    }
    fitting = {
        name: offered[name]
        for name, value in wanted.items()
        if getattr(offered.get(name), 'shape', None) == value.shape
    }
    missing = [name for name in wanted if name not in fitting]
    if missing:
        unused = [name for name in offered if name not in fitting]
        raise ValueError(
            f'{key}: the checkpoint {path!r} lacks {len(missing)} of '
            f'{len(wanted)} tensors that are not fitted here, such as '
            f'{missing[:4]}; of its own, {len(unused)} fit nothing, such as '
            f'{unused[:4]}. Give the checkpoint of the model in the config. '
            'If it has a backbone only, use a head with one linear layer.'
        )
    recognizer.load_state_dict(fitting, strict=False)
