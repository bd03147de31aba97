"""Error that stops a preparation with a message for its user."""


class PreparationError(RuntimeError):
    """Names the file that is missing or wrong, and what to do about it."""
