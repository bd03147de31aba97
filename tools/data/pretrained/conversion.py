"""Converts the weights of published packages to the names of timm."""

from typing import Dict, Mapping

import numpy as np
import torch
from torch import Tensor

# DINOv2 in the ONNX graph (names of Hugging Face's implementation).
POSITION_OF_CLASS_TOKEN = 'onnx::Concat_1957'  # (1, 1, 384)
POSITIONS_OF_PATCHES = 'onnx::Reshape_1962'  # (1, 1369, 384), a 37 x 37 grid
DINOV2_BLOCKS = 12


def dinov2_to_timm(onnx: Mapping[str, np.ndarray]) -> Dict[str, Tensor]:
    """Converts a DINOv2 ViT-S/14 to timm's ``vit_small_patch14_dinov2``.

    Args:
        onnx (Mapping[str, np.ndarray]): What
            :func:`~.onnx_weights.read_onnx` returns.

    Returns:
        dict[str, Tensor]: State dict of the timm model with ``img_size=518``
            and ``num_classes=0``.

    Raises:
        KeyError: If the graph lacks a tensor.
    """

    def tensor(name: str) -> Tensor:
        return torch.from_numpy(np.array(onnx[name], dtype=np.float32))

    def matrix(path: str) -> Tensor:
        # x @ W in the graph, x @ W.T in PyTorch
        name = f'/backbone/encoder/{path.replace("layer/", "layer.")}/MatMul'
        return tensor(name).T.contiguous()

    patches = 'backbone.embeddings.patch_embeddings.projection'
    positions = [tensor(POSITION_OF_CLASS_TOKEN), tensor(POSITIONS_OF_PATCHES)]
    state = {
        'cls_token': tensor('backbone.embeddings.cls_token'),
        'pos_embed': torch.cat(positions, dim=1),
        'patch_embed.proj.weight': tensor(f'{patches}.weight'),
        'patch_embed.proj.bias': tensor(f'{patches}.bias'),
        'norm.weight': tensor('backbone.layernorm.weight'),
        'norm.bias': tensor('backbone.layernorm.bias'),
    }
    for i in range(DINOV2_BLOCKS):
        source = f'backbone.encoder.layer.{i}'
        block = f'blocks.{i}'
        for norm in ('norm1', 'norm2'):
            for part in ('weight', 'bias'):
                state[f'{block}.{norm}.{part}'] = tensor(
                    f'{source}.{norm}.{part}'
                )
        attention = [
            f'attention/attention/{name}' for name in ('query', 'key', 'value')
        ]
        state[f'{block}.attn.qkv.weight'] = torch.cat(
            [matrix(f'layer/{i}/{name}') for name in attention]
        )
        state[f'{block}.attn.qkv.bias'] = torch.cat(
            [
                tensor(f'{source}.{name.replace("/", ".")}.bias')
                for name in attention
            ]
        )
        for ours, theirs in (
            ('attn.proj', 'attention/output/dense'),
            ('mlp.fc1', 'mlp/fc1'),
            ('mlp.fc2', 'mlp/fc2'),
        ):
            state[f'{block}.{ours}.weight'] = matrix(f'layer/{i}/{theirs}')
            state[f'{block}.{ours}.bias'] = tensor(
                f'{source}.{theirs.replace("/", ".")}.bias'
            )
        for k in (1, 2):
            state[f'{block}.ls{k}.gamma'] = tensor(
                f'{source}.layer_scale{k}.lambda1'
            )
    return state


def efficientnet_lite_to_timm(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> Dict[str, Tensor]:
    """Converts an EfficientNet-Lite to timm's names.

    Both implementations register the same tensors in the same order. Shapes
    are compared one by one.

    Args:
        state (Mapping[str, Tensor]): State dict of the package.
        wanted (Mapping[str, Tensor]): State dict of the timm model with its
            classifier.

    Returns:
        dict[str, Tensor]: State dict of the timm model without its
            classifier.

    Raises:
        ValueError: If the numbers of tensors, or two shapes, differ.
    """
    if len(state) != len(wanted):
        raise ValueError(f'{len(state)} tensors, {len(wanted)} expected')
    converted = {}
    for (name, value), (ours, like) in zip(state.items(), wanted.items()):
        if value.shape != like.shape:
            raise ValueError(
                f'{name} has the shape {tuple(value.shape)}, {ours} has '
                f'{tuple(like.shape)}'
            )
        if not ours.startswith('classifier.'):
            converted[ours] = value.clone()
    return converted
