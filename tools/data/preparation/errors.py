"""The error that ends a preparation with a message for its user."""


class PreparationError(RuntimeError):
    """Says which file is missing or wrong, and what to do about it."""
