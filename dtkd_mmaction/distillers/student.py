"""Builds the student of a distiller, and loads exported students."""

from typing import List, Optional

from ..recognizers.model_spec import TEACHER_KEYS
from ..recognizers.tapped_recognizer import build_tapped


def build_student(spec: dict, num_classes: Optional[int], key: str) -> tuple:
    """Builds a model that trains.

    Without a checkpoint it starts from the weights that its config names.

    Returns:
        tuple[nn.Module, ClipView, FeatureTap]
    """
    for name in TEACHER_KEYS:
        if isinstance(spec, dict) and name in spec:
            raise TypeError(
                f'{key}.{name}: only a frozen teacher can be rewritten. For '
                "a model that trains there is dict(type='FastStudentHook')."
            )
    has_checkpoint = isinstance(spec, dict) and spec.get('checkpoint')
    return build_tapped(spec, num_classes, key, not has_checkpoint)


def accept_exported_student(state_dict: dict, prefix: str, *_) -> None:
    """Lets a distiller load an exported student or any stock checkpoint.

    A ``load_state_dict`` pre-hook: if no key begins with ``student.``, every
    key belongs to the student.
    """
    keys: List[str] = [key for key in state_dict if key.startswith(prefix)]
    if not any(key.startswith(f'{prefix}student.') for key in keys):
        for key in keys:
            state_dict[f'{prefix}student.{key[len(prefix) :]}'] = (
                state_dict.pop(key)
            )
