"""Records feature maps, embedding and logits of a stock recognizer."""

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
    Protocol,
    Tuple,
)

import torch
import torch.nn as nn
from mmengine.logging import print_log
from torch import Tensor

from .grid_layout import (
    TOKEN_LAYOUTS,
    ClipShape,
    PatchEmbedding,
    as_embedding,
    as_grid,
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
# What a tap can record besides the last map.
EXTRAS = ('maps', 'stem', 'clip')
# Attributes of modules that switch gradient checkpointing on.
CHECKPOINTING = ('with_cp', 'use_checkpoint', 'grad_checkpointing')


class ModuleOutput(NamedTuple):
    """Form of one module's output in the dry run."""

    text: str
    grid_shape: Optional[Tuple[int, ...]]


class OutputShapes(Protocol):
    """Shapes of a model's outputs, of a tap or from a teacher cache."""

    @property
    def shapes(self) -> Dict[str, Any]:
        """Quantity -> (C, T, H, W), see :class:`FeatureTap`."""

    @property
    def embedding_width(self) -> int:
        """D of the embedding."""

    @property
    def num_classes(self) -> int:
        """Width of the logits."""


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
    logits: Tensor = None  # filled in the forward pass
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
            self.tap.patches,
        )
        if grid is None:
            raise RuntimeError(
                f'{self.tap.key}: {name!r} gave no grid for clips of '
                f'{tuple(self.shape)}.'
            )
        self._grids[name] = grid
        return grid

    def check_gradient(self, quantities: Collection[str]) -> None:
        """Checks that the losses can train the model through its maps.

        Args:
            quantities (Collection[str]): Names of maps that losses read:
                ``'map'``, ``'maps'``, ``'stem'``.

        Raises:
            ValueError: If a map carries no gradient although layers up to it
                are trained, as inside gradient checkpointing.
        """
        names = {
            'map': [self.tap.module_name],
            'maps': self.tap.stage_names,
            'stem': [self.tap.stem_name],
        }
        for quantity in sorted(names.keys() & set(quantities)):
            for name in names[quantity]:
                tensors = tensors_in(self.outputs[name])
                carries = any(tensor.requires_grad for tensor in tensors)
                if not carries and self.tap.trains_before(name):
                    raise ValueError(
                        f'{self.tap.key}: the losses read the output of '
                        f'{name!r} ({quantity}), which carries no gradient, '
                        'so they would not train this model. '
                        f'{self.tap.checkpointing_hint()}'
                    )

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
    """Records the output of one module and of the head of a recognizer.

    Args:
        recognizer (nn.Module): Has ``backbone`` and ``cls_head``.
        model_input (Tensor): Any batch that it takes. It is run without
            gradient and in eval mode to measure the shapes.
        module (str, optional): Name of the module to tap, such as
            ``'backbone.layer3'``. Defaults to the backbone's output or, where
            that is no grid, the last grid inside.
        key (str): Config key of the model, for messages.
        stages (list[str], optional): Names of the modules whose outputs are
            the stage maps, shallow to deep. Defaults to the widest block
            output of every size that occurs, or four blocks at equal
            distances where all have one size.

    Attributes:
        module_name (str): The tapped module.
        stage_names (list[str]): The stages.
        stem_name (str, optional): The first convolution.
        shapes (dict): Quantity -> (C, T, H, W) for ``model_input``: ``'map'``,
            ``'maps'`` (a list), ``'stem'``, ``'clip'``.
        embedding_width (int): D of the embedding.
        head_input: Input of the head in that run, in the model's own form.
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
        self.patches = PatchEmbedding.of(backbone)
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
        self.measure(model_input)

    def measure(self, model_input: Tensor) -> None:
        """Measures :attr:`shapes` with a batch, unless it was measured so.

        Args:
            model_input (Tensor): Any batch that the model takes.

        Raises:
            ValueError: If the model cannot take it, or a tapped module gives
                no grid for it.
        """
        shape = ClipShape.of(model_input)
        if getattr(self, 'measured_on', None) == shape[1:]:
            return
        with self.record(model_input, EXTRAS) as recording:
            self.forward_once(model_input)
        # In-place layers behind a module have modified its output.
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
                f'{self.key}: the head returns scores of '
                f'{tuple(recording.logits.shape)} for {shape.batch} clip(s); '
                'one vector of class scores per clip is needed.'
            )
        self.num_classes = recording.logits.shape[1]
        self.measured_on = shape[1:]

    def trains_before(self, name: str) -> bool:
        """Returns whether a module or one defined before it is trained."""
        for other, module in self.recognizer.named_modules():
            if any(p.requires_grad for p in module.parameters(recurse=False)):
                return True
            if other == name:
                return any(p.requires_grad for p in module.parameters())
        return False

    def checkpointing_hint(self) -> str:
        """Returns where gradient checkpointing is on, and what to do."""
        found = [
            name
            for name, module in self.recognizer.named_modules()
            if any(
                getattr(module, option, None) is True
                for option in CHECKPOINTING
            )
        ]
        if not found:
            return (
                'Is it computed without gradient? Tap another module '
                f'({self.key}.tap, {self.key}.stages).'
            )
        return (
            f'Gradient checkpointing is on ({found[0]}): tap a module outside '
            f'it ({self.key}.tap, {self.key}.stages), or switch it off '
            f"({self.key}.cfg_options={{'backbone.with_cp': False}})."
        )

    @contextmanager
    def record(
        self, model_input: Tensor, extras: Collection[str] = ()
    ) -> Iterator[Recording]:
        """Records the outputs of the recognizer inside the ``with`` block.

        Args:
            model_input (Tensor): The input that it will get.
            extras (Collection[str]): What to record besides the map, names
                of :data:`EXTRAS`: each keeps its tensors in memory.

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

    def forward_once(self, model_input: Tensor) -> None:
        """Runs backbone, neck and head once, without side effects."""
        recognizer = self.recognizer
        training = {m: m.training for m in recognizer.modules()}
        recognizer.eval()
        try:
            with torch.no_grad():
                recognizer.extract_feat(model_input, stage='head')
        finally:
            # One by one: a stock backbone's train() may freeze parts of it.
            for module, mode in training.items():
                module.training = mode

    def _dry_run(
        self, model_input: Tensor, shape: ClipShape
    ) -> Dict[str, ModuleOutput]:
        """Returns every module's output, in the order of completion."""
        outputs: Dict[str, ModuleOutput] = {}

        def listen(name):

            def on_module(_, __, output):
                outputs.pop(name, None)
                grid = as_grid(output, shape, self.token_layout, self.patches)
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
            self.forward_once(model_input)
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
            self._report_fallback(blocks[-1], outputs)
            return blocks[-1]
        # The last map before pooling: a single position has no layout.
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
        self._report_fallback(spatial[-1], outputs)
        return spatial[-1]

    def _report_fallback(
        self, module: str, outputs: Dict[str, ModuleOutput]
    ) -> None:
        if 'backbone' not in outputs:  # timm's are not called as a whole
            return
        print_log(
            f"{self.key}: the backbone's output "
            f'({outputs["backbone"].text}) is no grid, so {module!r} is '
            f'tapped: (C, T, H, W) = {outputs[module].grid_shape}. '
            f'{self.key}.tap chooses another module.',
            'current',
        )

    def _checked(
        self, option: str, module: str, outputs: Dict[str, ModuleOutput]
    ) -> str:
        """Returns the name if the module runs and gives a grid."""
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
    """Returns the backbone's modules that give a grid, in order."""
    return [
        name
        for name, output in outputs.items()
        if output.grid_shape is not None and name.startswith('backbone')
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
        and outputs[name].grid_shape is not None
    ]
    return max(stems, key=lambda n: outputs[n].grid_shape[1], default=None)


def tensors_in(output: Any) -> List[Tensor]:
    """Returns all tensors in nested lists and tuples."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, (list, tuple)):
        return [t for item in output for t in tensors_in(item)]
    return []


def clone(output: Any) -> Any:
    """Returns a copy that later in-place layers do not modify."""
    if isinstance(output, Tensor):
        return output.clone()
    if isinstance(output, (list, tuple)):
        return type(output)(clone(item) for item in output)
    return output


def describe(output: Any) -> str:
    """Describes the shapes of a nested output, for messages."""
    shapes = [tuple(t.shape) for t in tensors_in(output)]
    return f'{type(output).__name__} of {shapes}'
