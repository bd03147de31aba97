"""The error that ends a preparation with a message for its user."""


class PreparationError(RuntimeError):
    """What is missing or wrong, and what would help."""
