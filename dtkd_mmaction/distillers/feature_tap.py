"""FeatureTap: a module's name in, a (B, C, T, H, W) grid out.

MMAction2's backbones give maps, folded maps, token sequences with and without
a class token, lists of pairs, and sometimes only a vector. This file knows
all of those shapes, and nothing else does.
"""

import difflib
import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import torch
import torch.nn as nn
from einops import rearrange
from torch import Tensor

# Backbones whose tokens do not come as (B, [cls,] T * H * W, C).
TOKEN_LAYOUTS = {
    'TimeSformer': 'b (h w t) c',
    'UniFormerV2': '(h w) (b t) c',
}
# Where a backbone that returns a vector keeps its blocks.
BLOCK_LISTS = (
    'blocks',
    'layers',
    'transformer.resblocks',
    'transformer_layers.layers',
)


class ClipShape(NamedTuple):
    """What a model was given: samples, frames, height and width."""

    batch: int
    frames: int
    height: int
    width: int

    @classmethod
    def of(cls, model_input: Tensor) -> 'ClipShape':
        """Of (B, 1, 3, T, H, W) or, for a 2-D recognizer, (B, T, 3, H, W)."""
        height, width = model_input.shape[-2:]
        frames = model_input.shape[1 if model_input.ndim == 5 else 3]
        return cls(len(model_input), frames, height, width)


class ModuleOutput(NamedTuple):
    """Form of one module's output in the dry run."""

    text: str
    grid_shape: Optional[Tuple[int, ...]]


@dataclass
class Recording:
    """What one forward of a recognizer left in its tap.

    Attributes:
        logits (Tensor): (B, N), before softmax and averaging of clips.
        head_input: What the head read, in the model's own form.
        tapped: What the tapped module gave, likewise.
    """

    tap: 'FeatureTap'
    clip: ClipShape
    logits: Optional[Tensor] = None
    head_input: Any = None
    tapped: Any = None
    versions: Optional[List[int]] = None

    def is_overwritten(self) -> bool:
        """Whether what was tapped has been written into since."""
        return self.versions != [t._version for t in tensors_in(self.tapped)]

    @property
    def grid(self) -> Tensor:
        """The tapped feature map, (B, C, T, H, W)."""
        grid = as_grid(
            self.tapped, self.clip, self.tap.token_layout, self.tap.patch_size
        )
        if grid is None:
            raise RuntimeError(
                f'{self.tap.key}.tap={self.tap.module_name!r} gave no grid '
                f'for clips of {tuple(self.clip)}.'
            )
        return grid

    @property
    def embedding(self) -> Tensor:
        """The vector that the classifier reads, (B, D)."""
        return as_embedding(self.head_input, self.clip.batch)


class FeatureTap:
    """Listens to one module and to the head of a stock recognizer.

    Args:
        recognizer (nn.Module): Has ``backbone`` and ``cls_head``.
        model_input (Tensor): Any batch that it takes. It is run once,
            without gradient and in eval mode, to learn the shapes.
        module (str, optional): Name of the module to tap, such as
            ``'backbone.layer3'``. Defaults to the backbone's output or, where
            that is no grid, the last grid inside.
        key (str): Where the config has the model, for messages.

    Attributes:
        module_name (str): The tapped module.
        grid_shape (tuple): (C, T, H, W) of the grid for ``model_input``.
        embedding_width (int): D of the embedding.
        num_classes (int): Width of the logits.

    Raises:
        ValueError: If there is no such module or it gives no grid; the
            message lists modules that do.
    """

    def __init__(
        self,
        recognizer: nn.Module,
        model_input: Tensor,
        module: Optional[str] = None,
        key: str = 'model',
    ) -> None:
        self.key = key
        self.recognizer = recognizer
        backbone = recognizer.backbone
        backbone_type = type(backbone).__name__
        self.token_layout = TOKEN_LAYOUTS.get(backbone_type, 'b (t h w) c')
        self.patch_size = first_patch_size(backbone)
        clip = ClipShape.of(model_input)

        outputs = self._dry_run(model_input, clip)
        self.module_name = self._choose(module, outputs)

        self.overwritten = False
        with self.record(model_input) as recording:
            self._forward(model_input)
        # An in-place layer behind the tap has written into what was recorded.
        self.overwritten = recording.is_overwritten()
        self.grid_shape = tuple(recording.grid.shape[1:])
        self.embedding_width = recording.embedding.shape[1]
        if recording.logits.ndim != 2 or len(recording.logits) != clip.batch:
            raise ValueError(
                f'{key}: the head gives scores of '
                f'{tuple(recording.logits.shape)} for {clip.batch} clip(s); '
                'one vector of class scores a clip is needed.'
            )
        self.num_classes = recording.logits.shape[1]

    @contextmanager
    def record(self, model_input: Tensor) -> Iterator[Recording]:
        """Record what the recognizer does inside the ``with`` block.

        Args:
            model_input (Tensor): What it will be given, for the shapes.

        Yields:
            Recording: Filled when the block ends.
        """
        recording = Recording(self, ClipShape.of(model_input))

        def on_head(_, args, output):
            recording.head_input, recording.logits = args[0], output

        def on_module(_, __, output):
            recording.tapped = clone(output) if self.overwritten else output
            recording.versions = [
                t._version for t in tensors_in(recording.tapped)
            ]

        handles = [
            self.recognizer.cls_head.register_forward_hook(on_head),
            self.recognizer.get_submodule(
                self.module_name
            ).register_forward_hook(on_module),
        ]
        try:
            yield recording
        finally:
            for handle in handles:
                handle.remove()

    def _forward(self, model_input: Tensor) -> None:
        """Once through backbone, neck and head; no side effects."""
        recognizer = self.recognizer
        training = {m: m.training for m in recognizer.modules()}
        recognizer.eval()
        try:
            with torch.no_grad():
                recognizer.extract_feat(model_input, stage='head')
        finally:
            # one by one: a stock backbone's train() may freeze parts of it
            for module, mode in training.items():
                module.training = mode

    def _dry_run(
        self, model_input: Tensor, clip: ClipShape
    ) -> Dict[str, 'ModuleOutput']:
        """Every module's output in one forward, in the order of ending."""
        outputs: Dict[str, ModuleOutput] = {}

        def listen(name):

            def on_module(_, __, output):
                outputs.pop(name, None)
                grid = as_grid(
                    output, clip, self.token_layout, self.patch_size
                )
                outputs[name] = ModuleOutput(
                    describe(output),
                    None if grid is None else tuple(grid.shape[1:]),
                )

            return on_module

        handles = [
            module.register_forward_hook(listen(name))
            for name, module in self.recognizer.named_modules()
            if name
        ]
        try:
            self._forward(model_input)
        finally:
            for handle in handles:
                handle.remove()
        return outputs

    def _choose(
        self, module: Optional[str], outputs: Dict[str, 'ModuleOutput']
    ) -> str:
        with_grid = [
            name
            for name, output in outputs.items()
            if output.grid_shape is not None and name.startswith('backbone')
        ]
        if module is not None:
            if module in outputs and outputs[module].grid_shape is not None:
                return module
            problem = (
                f'gives {outputs[module].text}, which is no grid'
                if module in outputs
                else 'is no module that runs'
            )
            self._refuse(f'{module!r} {problem}', module, outputs, with_grid)
        if 'backbone' in with_grid:
            return 'backbone'
        for name in block_outputs(self.recognizer.backbone):
            if name in with_grid:
                return name
        # The last map before pooling: one position says nothing of place.
        modules = dict(self.recognizer.named_modules())
        spatial = [
            name
            for name in with_grid
            if math.prod(outputs[name].grid_shape[2:]) > 1
            and 'Pool' not in type(modules[name]).__name__
        ]
        if not spatial:
            self._refuse(
                'no module of the backbone gives a grid',
                'backbone',
                outputs,
                with_grid,
            )
        return spatial[-1]

    def _refuse(
        self,
        problem: str,
        module: str,
        outputs: Dict[str, 'ModuleOutput'],
        with_grid: List[str],
    ) -> None:
        near = difflib.get_close_matches(module, with_grid, n=6, cutoff=0.3)
        near = near or with_grid[-6:]
        listing = '\n'.join(
            f'  {name}: (C, T, H, W) = {outputs[name].grid_shape}'
            for name in near
        )
        raise ValueError(
            f'{self.key}.tap: {problem}. Modules of this model that give a '
            f'grid:\n{listing or "  none"}'
        )


def tensors_in(output: Any) -> List[Tensor]:
    """All tensors in nested lists and tuples."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, (list, tuple)):
        return [t for item in output for t in tensors_in(item)]
    return []


def clone(output: Any) -> Any:
    """A copy that later in-place layers cannot reach."""
    if isinstance(output, Tensor):
        return output.clone()
    if isinstance(output, (list, tuple)):
        return type(output)(clone(item) for item in output)
    return output


def describe(output: Any) -> str:
    """Shapes of a nested output, for messages."""
    shapes = [tuple(t.shape) for t in tensors_in(output)]
    return f'{type(output).__name__} of {shapes}'


def block_outputs(backbone: nn.Module) -> Iterator[str]:
    """Names of the modules that end a backbone's sequence of blocks."""
    for path in BLOCK_LISTS:
        try:
            blocks = backbone.get_submodule(path)
        except AttributeError:
            continue
        if isinstance(blocks, (nn.ModuleList, nn.Sequential)):
            yield f'backbone.{path}.{len(blocks) - 1}'


def first_patch_size(backbone: nn.Module) -> Tuple[int, int]:
    """Height and width of the patches of the first strided convolution."""
    for module in backbone.modules():
        if (
            isinstance(module, (nn.Conv2d, nn.Conv3d))
            and module.stride[-1] > 1
        ):
            return module.stride[-2:]
    return (1, 1)


def same_aspect(height: int, width: int, clip: ClipShape) -> bool:
    """Whether a plane can be the clip's, shrunk and rounded."""
    return (
        height <= clip.height
        and width <= clip.width
        and abs(height * clip.width / clip.height - width) <= 1
    )


def as_grid(
    output: Any,
    clip: ClipShape,
    token_layout: str,
    patch_size: Tuple[int, int],
) -> Optional[Tensor]:
    """A module's output as (B, C, T, H, W), or None if it is no grid.

    Args:
        output: A tensor or nested lists of them. Of several grids the widest
            counts: SlowFast's slow path, the deepest stage, MViT's patches.
        clip (ClipShape): What the model was given.
        token_layout (str): How tokens lie in a 3-D tensor.
        patch_size (tuple[int, int]): Of the model's patch embedding.
    """
    if isinstance(output, (list, tuple)):
        if is_tokens_with_size(output):
            tokens, (frames, height, width) = output
            tokens = tokens[:, -frames * height * width :]  # class token first
            return rearrange(
                tokens, 'b (t h w) c -> b c t h w', t=frames, h=height
            )
        grids = [as_grid(x, clip, token_layout, patch_size) for x in output]
        grids = [grid for grid in grids if grid is not None]
        return max(grids, key=lambda grid: grid.shape[1], default=None)
    if not isinstance(output, Tensor) or not output.is_floating_point():
        return None
    if output.ndim == 5 and len(output) == clip.batch:
        if same_aspect(*output.shape[3:], clip):
            return output
        if same_aspect(*output.shape[2:4], clip):
            return output.movedim(-1, 1)  # (B, T, H, W, C)
    if output.ndim == 4 and len(output) % clip.batch == 0:
        if not same_aspect(*output.shape[2:], clip):
            if not same_aspect(*output.shape[1:3], clip):
                return None
            output = output.movedim(-1, 1)  # (B * T, H, W, C)
        return rearrange(output, '(b t) c h w -> b c t h w', b=clip.batch)
    if output.ndim == 3:
        return tokens_as_grid(output, clip, token_layout, patch_size)
    return None


def is_tokens_with_size(output: Any) -> bool:
    """Whether it is what an MViT block returns: tokens and their (T, H, W)."""
    return (
        len(output) == 2
        and isinstance(output[0], Tensor)
        and output[0].ndim == 3
        and isinstance(output[1], (list, tuple))
        and len(output[1]) == 3
        and all(isinstance(size, int) for size in output[1])
        and output[0].shape[1] - math.prod(output[1]) in (0, 1)
    )


def tokens_as_grid(
    tokens: Tensor, clip: ClipShape, layout: str, patch_size: Tuple[int, int]
) -> Optional[Tensor]:
    """A token sequence as (B, C, T, H, W), or None if it does not fit.

    The plane is the input over the patch size, halved as often as a
    hierarchical model merges patches; leading tokens that do not fit in
    (class, distillation, registers) are dropped.
    """
    if layout == '(h w) (b t) c':
        tokens, layout = tokens.transpose(0, 1), 'b (t h w) c'
    samples, length, _ = tokens.shape
    if samples % clip.batch:
        return None
    folded = samples // clip.batch  # frames that lie in the batch dimension
    for shrink in (1, 2, 4, 8):
        height = clip.height // patch_size[0] // shrink
        width = clip.width // patch_size[1] // shrink
        if height * width == 0:
            return None
        frames = length // (height * width) if folded == 1 else 1
        extra = length - frames * height * width
        if 1 <= frames <= clip.frames and 0 <= extra <= 5:
            grid = rearrange(
                tokens[:, extra:],
                f'{layout} -> b c t h w',
                t=frames,
                h=height,
                w=width,
            )
            return rearrange(
                grid, '(b f) c t h w -> b c (f t) h w', b=clip.batch
            )
    return None


def as_embedding(head_input: Any, batch: int) -> Tensor:
    """What a stock head reads, pooled as the head pools it, to (B, D).

    Args:
        head_input: MViT's list of ``[patches, cls]``: the class token;
            several maps (SlowFast): their averages side by side; a map or a
            sequence: its average; a vector: itself. Frames that lie in the
            batch dimension are averaged.
        batch (int): B.
    """
    if isinstance(head_input, (list, tuple)):
        last = head_input[-1]
        if isinstance(last, (list, tuple)):  # MViT
            patches, class_token = last
            return as_embedding(
                patches if class_token is None else class_token, batch
            )
        return torch.cat([as_embedding(x, batch) for x in head_input], dim=1)
    vectors = head_input
    if vectors.ndim == 3:  # tokens
        vectors = vectors.mean(dim=1)
    elif vectors.ndim > 3:
        vectors = vectors.flatten(2).mean(dim=2)
    return vectors.reshape(batch, -1, vectors.shape[1]).mean(dim=1)
