"""Outputs of a model that a tap recorded in one forward pass."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import (
    TYPE_CHECKING,
    Any,
    Collection,
    Dict,
    List,
    Protocol,
)

from torch import Tensor

from .grid_layout import ClipShape, as_embedding, as_grid

if TYPE_CHECKING:
    from .feature_tap import FeatureTap

# What a tap can record besides the last map.
EXTRAS = ('maps', 'stem', 'clip')


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
    model_input: Tensor = None  # only if it was asked for
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
        names: Dict[str, List[str]] = {
            'map': [self.tap.module_name],
            'maps': self.tap.stage_names,
            'stem': [self.tap.stem_name] if self.tap.stem_name else [],
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
        assert self.tap.stem_name is not None  # checked by the loss set
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
