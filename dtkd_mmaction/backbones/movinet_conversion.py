"""Converts weights of the unofficial PyTorch port of MoViNet.

The port (github.com/Atze00/MoViNet-pytorch) publishes the official Kinetics-
600 weights of A0 to A5, and of the streaming A0 to A2, under its own names.
"""

import re
from typing import Dict, NamedTuple, Optional

import torch
from mmaction.registry import MODELS
from torch import Tensor

from .movinet_archs import ARCHS

# Ours, the port's. A convolution of the port lies in "conv_1.conv3d", in its
# (2+1)D form "conv_1.conv2d" and "conv_2.conv2d".
RENAMED = (
    (r'^backbone\.stages\.(\d+)\.(\d+)\.', r'blocks.b\1_l\2.'),
    (r'^backbone\.stem\.', 'conv1.conv_1.'),
    (r'^backbone\.conv7\.', 'conv7.conv_1.'),
    (r'^cls_head\.fc1\.', 'classifier.0.conv_1.conv.'),
    (r'^cls_head\.fc2\.', 'classifier.3.conv_1.conv.'),
    (r'\.depthwise\.0\.', '.deep.conv_1.'),
    (r'\.depthwise\.1\.', '.deep.conv_2.'),
    (r'\.se\.reduce\.', '.se.fc1.conv_1.conv.'),
    (r'\.se\.expand\.', '.se.fc2.conv_1.conv.'),
    (r'\.(expand|project|skip\.\d)\.(?=conv|norm)', r'.\1.conv_1.'),
    (r'\.skip\.', '.res.'),
)


class PortLayout(NamedTuple):
    """Architecture that a file of the port's weights belongs to.

    Attributes:
        arch (str): ``'a0'`` to ``'a5'``.
        causal (bool): Whether squeeze-excitation is causal, so all is.
        conv_type (str): ``'3d'`` or ``'2plus1d'``.
        num_classes (int): K.
    """

    arch: str
    causal: bool
    conv_type: str
    num_classes: int

    @classmethod
    def of(cls, weights: Dict[str, Tensor]) -> 'PortLayout':
        """Derives the architecture from names and shapes.

        Raises:
            ValueError: If these are no weights of the port.
        """
        for conv_type, name in (('3d', 'conv3d'), ('2plus1d', 'conv2d')):
            last = weights.get(f'conv7.conv_1.{name}.weight')
            if last is None:
                continue
            archs = [a for a in ARCHS if ARCHS[a].projection == len(last)]
            block = 'blocks.b0_l0'
            expanded = weights.get(f'{block}.expand.conv_1.{name}.weight')
            reduce = weights.get(f'{block}.se.fc1.conv_1.{name}.weight')
            scores = weights.get(f'classifier.3.conv_1.{name}.weight')
            if (
                archs
                and expanded is not None
                and reduce is not None
                and scores is not None
            ):
                causal = reduce.shape[1] == 2 * len(expanded)
                return cls(archs[0], causal, conv_type, len(scores))
        raise ValueError(
            'These are no MoViNet weights of the PyTorch port: it names them '
            "'conv1.conv_1.conv3d.weight', 'blocks.b0_l0.expand.conv_1....', "
            f'found are {sorted(weights)[:3]}.'
        )

    def model(self) -> dict:
        """Returns the config of the recognizer for the converted weights."""
        backbone = dict(type='MoViNet', arch=self.arch, causal=self.causal)
        if self.conv_type != ('2plus1d' if self.causal else '3d'):
            backbone['conv_type'] = self.conv_type
        if self.causal:
            backbone['pos_encoding'] = False  # the port has none
        return dict(
            type='Recognizer3D',
            backbone=backbone,
            cls_head=dict(
                type='MoViNetHead',
                in_channels=ARCHS[self.arch].projection,
                num_classes=self.num_classes,
                dropout_ratio=0.2 if self.arch == 'a0' else 0.5,
                average_clips='prob',
            ),
            data_preprocessor=dict(
                type='ActionDataPreprocessor',
                mean=[0.0, 0.0, 0.0],
                std=[255.0, 255.0, 255.0],
                format_shape='NCTHW',
            ),
        )


def port_name(name: str, conv_type: str) -> str:
    """Returns the port's name of a tensor.

    Args:
        name (str): In a recognizer, such as ``'backbone.stem.conv.weight'``.
        conv_type (str): ``'3d'`` or ``'2plus1d'``.
    """
    for ours, theirs in RENAMED:
        name = re.sub(ours, theirs, name)
    conv = 'conv3d' if conv_type == '3d' else 'conv2d'
    return re.sub(r'\.conv\.(?=weight$|bias$)', f'.{conv}.', name)


def from_pytorch_port(
    weights: Dict[str, Tensor], layout: Optional[PortLayout] = None
) -> Dict[str, Tensor]:
    """Converts weights of the port to those of a ``Recognizer3D``.

    Args:
        weights (dict[str, Tensor]): The port's ``state_dict``.
        layout (PortLayout, optional): Defaults to that of the weights.

    Returns:
        dict[str, Tensor]: Weights of the recognizer ``layout.model()``.

    Raises:
        ValueError: If tensors are missing, surplus or of another size.
    """
    layout = layout or PortLayout.of(weights)
    model = layout.model()
    wanted = {
        f'{part}.{name}': tensor
        for part in ('backbone', 'cls_head')
        for name, tensor in MODELS.build(model[part]).state_dict().items()
    }
    converted, problems, used = {}, [], set()
    for name, tensor in wanted.items():
        theirs = port_name(name, layout.conv_type)
        if theirs in weights:
            value = weights[theirs]
            used.add(theirs)
        elif name.endswith('num_batches_tracked'):
            value = torch.tensor(0)  # older checkpoints have none
        else:
            problems.append(f'{theirs} is missing')
            continue
        if value.numel() != tensor.numel():
            problems.append(
                f'{theirs} has shape {tuple(value.shape)}, '
                f'{tuple(tensor.shape)} is needed'
            )
            continue
        # 2-D and 3-D kernels and linear layers hold the same numbers.
        converted[name] = value.reshape(tensor.shape).clone()
    problems += [f'{name} is unknown' for name in weights if name not in used]
    if problems:
        raise ValueError(
            f'{len(problems)} tensors do not fit {layout}: '
            + '; '.join(problems[:5])
        )
    return converted
