"""Named options of a loss and the presets that bundle them."""

from typing import Dict


def preset_options(
    owner: str, presets: Dict[str, dict], preset: str, options: dict
) -> dict:
    """Options of a preset, with those that the user wrote laid over them.

    Args:
        owner (str): Name of the class, for the messages.
        presets (dict): Preset name -> option name -> value.
        preset (str): The preset to start from.
        options (dict): What the user wrote.

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
    """Raise a ValueError that lists the choices if ``value`` is not one."""
    if value not in choices:
        raise ValueError(
            f'{owner}({option}={value!r}): choose one of {sorted(choices)}.'
        )
