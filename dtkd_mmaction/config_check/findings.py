"""Problems of a config: what a check collects and a run prints."""

import difflib
from typing import Iterable, List, NamedTuple, Optional


class Problem(NamedTuple):
    """One problem of a config.

    Attributes:
        key (str): The config key, dotted.
        text (str): What was found, what was expected, what to do.
        warning (bool): Whether a run may start all the same.

    Example:
        >>> from dtkd_mmaction.config_check import Problem
        >>> print(Problem('model.num_classes', '=1: it must be at least 2.'))
        model.num_classes=1: it must be at least 2.
    """

    key: str
    text: str
    warning: bool = False

    def __str__(self) -> str:
        return f'{self.key}{self.text}'


class ConfigError(ValueError):
    """A config has problems; the message lists all of them."""


class Findings:
    """Collects the problems of a config in the order in which they are found.

    Attributes:
        problems (list[Problem]): Without repetitions.
    """

    def __init__(self) -> None:
        self.problems: List[Problem] = []

    def error(self, key: str, text: str, found: str = '') -> None:
        """Adds a problem with which no run can start.

        Args:
            key (str): The config key.
            text (str): What was expected, what to do.
            found (str): ``=value`` behind the key. Defaults to none.
        """
        self._add(Problem(key, f'{found}: {text}'))

    def warn(self, key: str, text: str, found: str = '') -> None:
        """Adds a problem with which a run may start."""
        self._add(Problem(key, f'{found}: {text}', warning=True))

    def _add(self, problem: Problem) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    def errors_below(self, key: str) -> bool:
        """Returns whether a key or one below it has an error."""
        return any(
            not p.warning and (p.key == key or p.key.startswith(f'{key}.'))
            for p in self.problems
        )


def report(problems: Iterable[Problem], source: str) -> str:
    """Returns the numbered list of problems that a user reads.

    Args:
        problems (iterable of Problem): Problems of one config.
        source (str): Its file, for the first line.
    """
    problems = list(problems)
    count = f'{len(problems)} problem' + ('s' if len(problems) != 1 else '')
    lines = [f'{source}: {count}']
    for number, problem in enumerate(problems, 1):
        kind = 'warning: ' if problem.warning else ''
        lines.append(f'  {number}. {kind}{problem}')
    return '\n'.join(lines)


def nearest(name: str, known: Iterable[str]) -> Optional[str]:
    """Returns the known name that is most like another, or None.

    ``Sgd`` is like ``SGD``: upper and lower case do not count.
    """
    known = list(known)
    lower = {other.lower(): other for other in known}
    if name.lower() in lower:
        return lower[name.lower()]
    found = difflib.get_close_matches(name, known, 1, cutoff=0.6)
    return found[0] if found else None


def shown(value: object, length: int = 80) -> str:
    """Returns ``=value``, shortened."""
    text = repr(value)
    return f'={text}' if len(text) <= length else f'={text[:length]}...'


def choices_text(known: Iterable[str], limit: int = 30) -> str:
    """Returns names as a list for a message, the first ones of many."""
    names = sorted(known)
    more = f' and {len(names) - limit} more' if len(names) > limit else ''
    return ', '.join(names[:limit]) + more
