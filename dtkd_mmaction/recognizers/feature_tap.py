"""FeatureTap: a module's name in, a (B, C, T, H, W) grid out."""

import difflib
import math
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import (
    Any,
    Collection,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Tuple,
)

import torch
import torch.nn as nn
from torch import Tensor

from .grid_layout import (
    TOKEN_LAYOUTS,
    ClipShape,
    as_embedding,
    as_grid,
    first_patch_size,
)

# Where backbones keep their list of blocks.
BLOCK_LISTS = (
    'blocks',
    'layers',
    'transformer.resblocks',
    'transformer_layers.layers',
)
# Stages of a model whose blocks all have one grid, as a plain ViT's.
PLAIN_STAGES = 4
# What a tap can record beside the last map.
EXTRAS = ('maps', 'stem', 'clip')


class ModuleOutput(NamedTuple):
    """Form of one module's output in the dry run."""

    text: str
    grid_shape: Optional[Tuple[int, ...]]


@dataclass
class Recording:
    """Outputs that a tap recorded in one forward pass.

    Maps are converted to grids at their first use and kept, so losses that
    read the same map share one tensor.

    Attributes:
        tap (FeatureTap): The tap that made the recording.
        shape (ClipShape): Shape of the model's input.
        logits (Tensor): (B, N), before softmax and averaging of clips.
        head_input: Input of the head, in the model's own form.
        outputs (dict): Module name -> its output, in the model's own form.
        versions (dict): Module name -> version counters of its output.
        model_input (Tensor, optional): The normalised clip, if recorded.
    """

    tap: 'FeatureTap'
    shape: ClipShape
    logits: Optional[Tensor] = None
    head_input: Any = None
    outputs: Dict[str, Any] = field(default_factory=dict)
    versions: Dict[str, List[int]] = field(default_factory=dict)
    model_input: Optional[Tensor] = None
    _grids: Dict[str, Tensor] = field(default_factory=dict, repr=False)

    def tensors(self) -> List[Tensor]:
        """Returns every recorded tensor."""
        parts = [self.logits, self.head_input, self.model_input]
        return tensors_in([*parts, *self.outputs.values()])

    def overwritten(self) -> set:
        """Returns the modules whose output was modified in place since."""
        return {
            name
            for name, output in self.outputs.items()
            if self.versions[name] != [t._version for t in tensors_in(output)]
        }

    def grid_of(self, name: str) -> Tensor:
        """Returns the output of a recorded module as (B, C, T, H, W)."""
        if name in self._grids:
            return self._grids[name]
        grid = as_grid(
            self.outputs[name],
            self.shape,
            self.tap.token_layout,
            self.tap.patch_size,
        )
        if grid is None:
            raise RuntimeError(
                f'{self.tap.key}: {name!r} gave no grid for clips of '
                f'{tuple(self.shape)}.'
            )
        self._grids[name] = grid
        return grid

    @property
    def tapped(self) -> List[Tensor]:
        """The tapped module's output tensors, in the model's own form."""
        return tensors_in(self.outputs[self.tap.module_name])

    @property
    def map(self) -> Tensor:
        """The tapped feature map, (B, C, T, H, W)."""
        return self.grid_of(self.tap.module_name)

    @property
    def maps(self) -> List[Tensor]:
        """Maps of the stages, shallow to deep, each (B, C, T, H, W)."""
        return [self.grid_of(name) for name in self.tap.stage_names]

    @property
    def stem(self) -> Tensor:
        """Raw output of the first convolution, (B, C, T, H, W)."""
        return self.grid_of(self.tap.stem_name)

    @property
    def clip(self) -> Tensor:
        """The model's normalised input, (B, 3, T, H, W)."""
        if self.model_input.ndim == 5:  # (B, T, 3, H, W)
            return self.model_input.transpose(1, 2)
        return self.model_input[:, 0]

    @cached_property
    def embedding(self) -> Tensor:
        """The vector that the classifier reads, (B, D)."""
        return as_embedding(self.head_input, self.shape.batch)


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
        stages (list[str], optional): Names of the modules whose outputs are
            the stage maps, shallow to deep. Defaults to the widest block
            output of every size that occurs, or four blocks at equal
            distances where all have one size.

    Attributes:
        module_name (str): The tapped module.
        stage_names (list[str]): The stages.
        stem_name (str, optional): The first convolution.
        shapes (dict): What is recorded -> (C, T, H, W) for ``model_input``:
            ``'map'``, ``'maps'`` (a list), ``'stem'``, ``'clip'``.
        embedding_width (int): D of the embedding.
        head_input: What the head read in that run, in the model's own form.
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
        stages: Optional[List[str]] = None,
    ) -> None:
        self.key = key
        self.recognizer = recognizer
        backbone = recognizer.backbone
        backbone_type = type(backbone).__name__
        self.token_layout = TOKEN_LAYOUTS.get(backbone_type, 'b (t h w) c')
        self.patch_size = first_patch_size(backbone)
        shape = ClipShape.of(model_input)

        outputs = self._dry_run(model_input, shape)
        self.module_name = self._choose(module, outputs)
        if stages is None:
            self.stage_names = default_stages(backbone, outputs)
        else:
            self.stage_names = [
                self._checked('stages', name, outputs) for name in stages
            ]
        self.stem_name = find_stem(recognizer, outputs)

        self.overwritten: set = set()
        with self.record(model_input, EXTRAS) as recording:
            self._forward(model_input)
        # In-place layers behind a module have written into what it gave.
        self.overwritten = recording.overwritten()
        self.shapes: Dict[str, Any] = dict(
            map=tuple(recording.map.shape[1:]),
            maps=[tuple(x.shape[1:]) for x in recording.maps],
            clip=tuple(recording.clip.shape[1:]),
        )
        if self.stem_name is not None:
            self.shapes['stem'] = tuple(recording.stem.shape[1:])
        self.embedding_width = recording.embedding.shape[1]
        self.head_input = recording.head_input
        if recording.logits.ndim != 2 or len(recording.logits) != shape.batch:
            raise ValueError(
                f'{key}: the head gives scores of '
                f'{tuple(recording.logits.shape)} for {shape.batch} clip(s); '
                'one vector of class scores a clip is needed.'
            )
        self.num_classes = recording.logits.shape[1]

    @contextmanager
    def record(
        self, model_input: Tensor, extras: Collection[str] = ()
    ) -> Iterator[Recording]:
        """Record what the recognizer does inside the ``with`` block.

        Args:
            model_input (Tensor): What it will be given.
            extras (Collection[str]): What to record beside the map, names of
                :data:`EXTRAS`: each keeps its tensors in memory.

        Yields:
            Recording: Filled when the block ends.
        """
        recording = Recording(self, ClipShape.of(model_input))
        if 'clip' in extras:
            recording.model_input = model_input

        def on_head(_, args, output):
            recording.head_input, recording.logits = args[0], output

        def listen(name):

            def on_module(_, __, output):
                recording.outputs[name] = output
                recording.versions[name] = [
                    t._version for t in tensors_in(output)
                ]
                # Layers behind the module modify a copy, so the recorded
                # tensor stays in the graph of all losses.
                return clone(output) if name in self.overwritten else None

            return on_module

        names = {self.module_name}
        if 'maps' in extras:
            names.update(self.stage_names)
        if 'stem' in extras and self.stem_name is not None:
            names.add(self.stem_name)
        handles = [
            self.recognizer.get_submodule(name).register_forward_hook(
                listen(name)
            )
            for name in names
        ]
        handles.append(self.recognizer.cls_head.register_forward_hook(on_head))
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
        self, model_input: Tensor, shape: ClipShape
    ) -> Dict[str, ModuleOutput]:
        """Every module's output in one forward, in the order of ending."""
        outputs: Dict[str, ModuleOutput] = {}

        def listen(name):

            def on_module(_, __, output):
                outputs.pop(name, None)
                grid = as_grid(
                    output, shape, self.token_layout, self.patch_size
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
        self, module: Optional[str], outputs: Dict[str, ModuleOutput]
    ) -> str:
        if module is not None:
            return self._checked('tap', module, outputs)
        with_grid = names_with_grid(outputs)
        if 'backbone' in with_grid:
            return 'backbone'
        blocks = block_names(self.recognizer.backbone)
        if blocks and blocks[-1] in with_grid:
            return blocks[-1]
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
                'tap: no module of the backbone gives a grid',
                'backbone',
                outputs,
            )
        return spatial[-1]

    def _checked(
        self, option: str, module: str, outputs: Dict[str, ModuleOutput]
    ) -> str:
        """The name, if the module runs and gives a grid."""
        if module in outputs and outputs[module].grid_shape is not None:
            return module
        problem = (
            f'gives {outputs[module].text}, which is no grid'
            if module in outputs
            else 'is no module that runs'
        )
        self._refuse(f'{option}: {module!r} {problem}', module, outputs)

    def _refuse(
        self, problem: str, module: str, outputs: Dict[str, ModuleOutput]
    ) -> None:
        with_grid = names_with_grid(outputs)
        near = difflib.get_close_matches(module, with_grid, n=6, cutoff=0.3)
        near = near or with_grid[-6:]
        listing = '\n'.join(
            f'  {name}: (C, T, H, W) = {outputs[name].grid_shape}'
            for name in near
        )
        raise ValueError(
            f'{self.key}.{problem}. Modules of this model that give a '
            f'grid:\n{listing or "  none"}'
        )


def names_with_grid(outputs: Dict[str, ModuleOutput]) -> List[str]:
    """Modules of the backbone that give a grid, in the order of ending."""
    return [
        name
        for name, output in outputs.items()
        if output.grid_shape is not None and name.startswith('backbone')
    ]


def block_names(backbone: nn.Module) -> List[str]:
    """Names of the modules in a backbone's list of blocks, if it has one."""
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
    """Names of a backbone's stage outputs, shallow to deep.

    Only modules that hold others count, so a stage is taken after its last
    activation and before a final LayerNorm, behind which the energy of every
    token is the same.
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
    """The outermost modules below one that give grids.

    Containers that are not called themselves, and a lone sequence of layers
    as other packages' backbones are, are looked into.
    """
    found = []
    for child_name, child in module.named_children():
        path = f'{name}.{child_name}'
        if not any(True for _ in child.children()):
            continue
        if path not in outputs:
            found += sequence_with_grid(child, path, outputs)
        elif outputs[path].grid_shape is not None:
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
    """The convolution that reads the clip; of several, that of most frames.

    SlowFast's slow path reads every eighth frame only. None where a model
    cuts its patches without a convolution.
    """
    stems = [
        name
        for name, module in recognizer.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Conv3d))
        and module.in_channels == 3
        and name in outputs
        and outputs[name].grid_shape is not None
    ]
    return max(stems, key=lambda n: outputs[n].grid_shape[1], default=None)


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
