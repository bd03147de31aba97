"""Reads and changes nested dicts and lists."""

from typing import Any, Callable


def map_strings(value: Any, change: Callable[[str], Any]) -> Any:
    """Returns a copy of nested dicts and lists with every string changed."""
    if isinstance(value, dict):
        return {k: map_strings(v, change) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map_strings(v, change) for v in value)
    return change(value) if isinstance(value, str) else value


def found_under(value: Any, key: str, kind: type = str) -> list:
    """Collects all non-empty values of type ``kind`` under a key."""
    found = []
    if isinstance(value, dict):
        if isinstance(value.get(key), kind) and value[key]:
            found.append(value[key])
        for part in value.values():
            found += found_under(part, key, kind)
    return found
