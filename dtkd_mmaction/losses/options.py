"""Options of a loss: presets that bundle them, choices and ranges."""

import math
from numbers import Integral, Real
from typing import Any, Dict, List, Mapping, NamedTuple, Optional


class Range(NamedTuple):
    """Values that an option may have.

    Attributes:
        low (float): Smallest value.
        high (float): Largest value. Defaults to infinity.
        above (bool): Whether ``low`` itself is excluded. Defaults to False.
        whole (bool): Whether only integers are allowed. Defaults to False.
        optional (bool): Whether ``None`` is allowed. Defaults to False.
    """

    low: float
    high: float = math.inf
    above: bool = False
    whole: bool = False
    optional: bool = False

    def __str__(self) -> str:
        kind = 'an integer' if self.whole else 'a number'
        if self.high < math.inf:
            return f'{kind} between {self.low:g} and {self.high:g}'
        return f'{kind} {">" if self.above else ">="} {self.low:g}'

    def __contains__(self, value: Any) -> bool:
        if value is None:
            return self.optional
        kind = Integral if self.whole else Real
        # True is an integer in Python, and never a weight.
        if isinstance(value, bool) or not isinstance(value, kind):
            return False
        value = float(value)
        if not math.isfinite(value) or value > self.high:
            return False
        return value > self.low if self.above else value >= self.low


WEIGHT = Range(0)
TEMPERATURE = Range(0, above=True)
FRACTION = Range(0, 1)
COUNT = Range(1, whole=True)
EPOCHS = Range(0, whole=True)
# An option has the same meaning in every loss. Every option whose name ends in
# `_weight` is a WEIGHT.
RANGES: Dict[str, Range] = dict(
    alpha=WEIGHT,
    beta=WEIGHT,
    gamma=WEIGHT,
    conf_temperature=TEMPERATURE._replace(optional=True),
    decay_epochs=EPOCHS,
    dim=COUNT,
    discriminator_width=COUNT,
    drop_probability=FRACTION,
    dropout=FRACTION,
    eps=WEIGHT,
    epsilon=TEMPERATURE,
    final_epsilon=TEMPERATURE,
    mask_ratio=FRACTION,
    max_gradient_ratio=WEIGHT._replace(optional=True),
    mid_channels=COUNT._replace(optional=True),
    momentum=FRACTION,
    negatives=COUNT,
    nu=Range(0, 1, above=True, optional=True),
    num_samples=Range(2, whole=True),
    order=COUNT,
    replace_probability=FRACTION,
    rho=FRACTION,
    seed=EPOCHS,
    stages=COUNT,
    tau=TEMPERATURE,
    warm_up_epochs=EPOCHS,
    zeta=FRACTION,
)


def option_range(option: str) -> Optional[Range]:
    """Returns the range of an option by its name, None if it has none."""
    return WEIGHT if option.endswith('_weight') else RANGES.get(option)


def options_out_of_range(options: Mapping[str, Any]) -> Dict[str, Range]:
    """Returns the options whose values are out of range, with the range.

    Args:
        options (dict): Option name -> value. Options without a range are
            ignored.
    """
    found = {name: option_range(name) for name in options}
    return {
        name: allowed
        for name, allowed in found.items()
        if allowed is not None and options[name] not in allowed
    }


def check_ranges(owner: str, **options: Any) -> None:
    """Raises an error that names every option that is out of range.

    Args:
        owner (str): Name of the class for the message, or a config key that
            ends in a dot (``'model.'``).
        **options: Options and their values.

    Raises:
        ValueError: If a value is of another type or out of range.
    """
    text = '{0}{1}={2!r}' if owner.endswith('.') else '{0}({1}={2!r})'
    wrong: List[str] = [
        text.format(owner, name, options[name]) + f': it must be {allowed}.'
        for name, allowed in options_out_of_range(options).items()
    ]
    if wrong:
        raise ValueError(' '.join(wrong))


def preset_options(
    owner: str, presets: Dict[str, dict], preset: str, options: dict
) -> dict:
    """Returns the options of a preset, overridden by those of the user.

    Args:
        owner (str): Name of the class, for the messages.
        presets (dict): Preset name -> option name -> value.
        preset (str): The preset to start from.
        options (dict): Options of the user.

    Returns:
        dict: Every option of the preset, with its final value.

    Raises:
        ValueError: For an unknown preset.
        TypeError: For an unknown option.
    """
    if preset not in presets:
        raise ValueError(
            f'{owner}(preset={preset!r}): known presets are {sorted(presets)}.'
        )
    unknown = set(options) - set(presets[preset])
    if unknown:
        raise TypeError(
            f'{owner} has no option {sorted(unknown)}; it has '
            f'{sorted(presets[preset])}.'
        )
    return {**presets[preset], **options}


def check_choice(owner: str, option: str, value: str, choices) -> None:
    """Raises a ValueError that lists the choices if ``value`` is not one."""
    if value not in choices:
        raise ValueError(
            f'{owner}({option}={value!r}): choose one of {sorted(choices)}.'
        )
