"""Compares the tensors of a checkpoint with those of a stock recognizer."""

from typing import Dict, List, NamedTuple, Optional, Sequence

import torch.nn as nn
from torch import Tensor


class WeightMatch(NamedTuple):
    """Comparison of the tensors of a checkpoint and a model, by name.

    Attributes:
        fitting (dict[str, Tensor]): Tensors that fit the model.
        missing (list[str]): Tensors of the model that are missing in the
            checkpoint or have another shape there.
        reshaped (dict[str, str]): Tensors with another shape -> both shapes.
        surplus (list[str]): Weights of layers that the model does not have.
        wanted (int): Number of the model's tensors.
    """

    fitting: Dict[str, Tensor]
    missing: List[str]
    reshaped: Dict[str, str]
    surplus: List[str]
    wanted: int

    def missing_below_head(self) -> List[str]:
        """Returns the missing tensors that are in no classifier."""
        return [name for name in self.missing if not is_of_head(name)]

    def problem(self) -> Optional[str]:
        """Returns why a model cannot start from it, or None."""
        body = [name for name in self.fitting if not is_of_head(name)]
        if len(body) > len(self.missing_below_head()):
            return None
        return (
            'Most of the model is missing in it, such as '
            f'{listing(self.missing_below_head())}; it has, for example, '
            f'{listing(self.surplus or list(self.fitting))}.'
        )

    def warnings(self) -> List[str]:
        """Returns warnings about missing and surplus tensors."""
        body = self.missing_below_head()
        found = []
        if body:
            found.append(
                f'{len(body)} tensors below the head start as initialised: '
                f'{listing(body)}'
            )
        elif self.missing:
            found.append(
                f'The head starts as initialised: {listing(self.missing)}'
            )
        if self.surplus:
            found.append(
                f'It holds {len(self.surplus)} weights of layers that the '
                f'model lacks: {listing(self.surplus)}'
            )
        return found

    def problem_of_teacher(self) -> Optional[str]:
        """Returns why it is not the checkpoint of a teacher, or None."""
        if self.missing:
            shapes = '; '.join(list(self.reshaped.values())[:3])
            return (
                f'A teacher needs all; missing are {listing(self.missing)}'
                + (f' (other shapes: {shapes})' if shapes else '')
                + '.'
            )
        if self.surplus:
            return (
                f'It holds {len(self.surplus)} weights of layers that the '
                f'model lacks, such as {listing(self.surplus)}, so it belongs '
                'to another architecture.'
            )
        return None


def match_weights(model: nn.Module, offered: Dict[str, Tensor]) -> WeightMatch:
    """Compares a state dict with a stock recognizer's.

    BatchNorm's step counters and tables of indices that a model computes
    itself are not compared.

    Args:
        model (nn.Module): A stock recognizer.
        offered (dict[str, Tensor]): State dict of a checkpoint.
    """
    own = {
        name: value
        for name, value in model.state_dict().items()
        if not name.endswith('num_batches_tracked')
    }
    shapes = {
        name: getattr(value, 'shape', None) for name, value in offered.items()
    }
    fitting = {
        name: offered[name]
        for name, value in own.items()
        if name in offered and shapes[name] == value.shape
    }
    missing = [
        name
        for name, value in own.items()
        if name not in fitting and value.is_floating_point()
    ]
    reshaped = {
        name: f'{name} is {tuple(shapes[name] or ())} there and '
        f'{tuple(own[name].shape)} here'
        for name in missing
        if name in offered
    }
    surplus = [
        name
        for name, shape in shapes.items()
        if name not in own
        and name.startswith(('backbone.', 'cls_head.'))
        and name.endswith('.weight')
        and len(shape or ()) > 1
    ]
    return WeightMatch(fitting, missing, reshaped, surplus, len(own))


def is_of_head(name: str) -> bool:
    """Returns whether a tensor belongs to a classifier, by its size.

    TPN has a second classifier in its neck.
    """
    return name.startswith('cls_head.') or '.aux_head.' in name


def listing(names: Sequence[str], count: int = 4) -> str:
    """Writes the first names of a list, for messages."""
    return ', '.join(names[:count]) + (' ...' if len(names) > count else '')
