"""Records feature maps, embedding and logits of a stock recognizer."""

import difflib
import math
from contextlib import contextmanager
from typing import Any, Collection, Dict, Iterator, List, NoReturn, Optional

import torch
import torch.nn as nn
from mmengine.logging import print_log
from torch import Tensor

from .grid_layout import TOKEN_LAYOUTS, ClipShape, PatchEmbedding, as_grid
from .module_grids import (
    ModuleOutput,
    block_names,
    default_stages,
    describe,
    find_stem,
    names_with_grid,
)
from .recording import EXTRAS, Recording, clone, tensors_in

# Attributes of modules that switch gradient checkpointing on.
CHECKPOINTING = ('with_cp', 'use_checkpoint', 'grad_checkpointing')


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

    Example:
        >>> import torch
        >>> from mmaction.registry import MODELS
        >>> from dtkd_mmaction.distillers import FeatureTap
        >>> small = dict(
        ...     type='Recognizer3D',
        ...     backbone=dict(type='X3D', gamma_b=2.25, gamma_d=0.2),
        ...     cls_head=dict(type='X3DHead', in_channels=432, num_classes=4),
        ...     data_preprocessor=dict(
        ...         type='ActionDataPreprocessor', format_shape='NCTHW'
        ...     ),
        ... )
        >>> recognizer = MODELS.build(small)
        >>> clips = torch.randn(2, 1, 3, 4, 32, 32)
        >>> tap = FeatureTap(recognizer, clips)
        >>> tap.module_name, tap.shapes['map']
        ('backbone', (432, 4, 1, 1))
        >>> with tap.record(clips) as recording:
        ...     tap.forward_once(clips)
        >>> tuple(recording.map.shape), tuple(recording.logits.shape)
        ((2, 432, 4, 1, 1), (2, 4))
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
                    () if grid is None else tuple(grid.shape[1:]),
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
        if module in outputs and outputs[module].grid_shape:
            return module
        problem = (
            f'gives {outputs[module].text}, which is no grid'
            if module in outputs
            else 'is no module that runs'
        )
        self._refuse(f'{option}: {module!r} {problem}', module, outputs)

    def _refuse(
        self, problem: str, module: str, outputs: Dict[str, ModuleOutput]
    ) -> NoReturn:
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
