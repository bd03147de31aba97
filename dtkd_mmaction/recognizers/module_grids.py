"""Finds the modules of a backbone that give a grid: blocks, stages, stem."""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch.nn as nn

from .recording import tensors_in

# Where backbones keep their list of blocks.
BLOCK_LISTS = (
    'blocks',
    'layers',
    'transformer.resblocks',
    'transformer_layers.layers',
)
# Stages of a model whose blocks all have one grid, as a plain ViT's.
PLAIN_STAGES = 4


class ModuleOutput(NamedTuple):
    """Form of one module's output in the dry run.

    Attributes:
        text (str): Description for messages.
        grid_shape (tuple[int, ...]): (C, T, H, W); empty if it is no grid.
    """

    text: str
    grid_shape: Tuple[int, ...]


def names_with_grid(outputs: Dict[str, ModuleOutput]) -> List[str]:
    """Returns the backbone's modules that give a grid, in order."""
    return [
        name
        for name, output in outputs.items()
        if output.grid_shape and name.startswith('backbone')
    ]


def block_names(backbone: nn.Module) -> List[str]:
    """Returns the names in a backbone's list of blocks, if it has one."""
    for path in BLOCK_LISTS:
        try:
            blocks = backbone.get_submodule(path)
        except AttributeError:
            continue
        if isinstance(blocks, (nn.ModuleList, nn.Sequential)):
            return [f'backbone.{path}.{i}' for i in range(len(blocks))]
    return []


def default_stages(
    backbone: nn.Module, outputs: Dict[str, ModuleOutput]
) -> List[str]:
    """Returns the names of a backbone's stage outputs, shallow to deep.

    Only modules with children count, so a stage is taken after its last
    activation and before a final LayerNorm, which gives every token the same
    energy.
    """
    order = names_with_grid(outputs)
    names = [name for name in block_names(backbone) if name in order]
    names = names or sequence_with_grid(backbone, 'backbone', outputs)
    names.sort(key=order.index)
    sizes: Dict[tuple, List[str]] = {}
    for name in names:
        sizes.setdefault(outputs[name].grid_shape[2:], []).append(name)
    if len(sizes) == 1:
        count = min(PLAIN_STAGES, len(names))
        return [names[(i + 1) * len(names) // count - 1] for i in range(count)]
    return [
        # the last of the widest: the slow path, the block before the change
        max(same, key=lambda n: (outputs[n].grid_shape[0], order.index(n)))
        for same in sizes.values()
    ]


def sequence_with_grid(
    module: nn.Module, name: str, outputs: Dict[str, ModuleOutput]
) -> List[str]:
    """Returns the outermost modules below one that give grids.

    Descends into containers that are not called themselves, and into a lone
    sequence of layers, as in the backbones of other packages.
    """
    found = []
    for child_name, child in module.named_children():
        path = f'{name}.{child_name}'
        if not any(True for _ in child.children()):
            continue
        if path not in outputs:
            found += sequence_with_grid(child, path, outputs)
        elif outputs[path].grid_shape:
            found.append(path)
    if len(found) == 1:
        inside = sequence_with_grid(
            module.get_submodule(found[0][len(name) + 1 :]),
            found[0],
            outputs,
        )
        return inside or found
    return found


def find_stem(
    recognizer: nn.Module, outputs: Dict[str, ModuleOutput]
) -> Optional[str]:
    """Returns the convolution that reads the clip.

    Of several it is the one that reads most frames: SlowFast's slow path
    reads every eighth frame only. None if a model cuts its patches without a
    convolution.
    """
    stems = [
        name
        for name, module in recognizer.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Conv3d))
        and module.in_channels == 3
        and name in outputs
        and outputs[name].grid_shape
    ]
    return max(stems, key=lambda n: outputs[n].grid_shape[1], default=None)


def describe(output: Any) -> str:
    """Describes the shapes of a nested output, for messages."""
    shapes = [tuple(t.shape) for t in tensors_in(output)]
    return f'{type(output).__name__} of {shapes}'
