"""The one exception that speaks to the user."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message says what is wrong, where, and what to do about it. Every other exception is a bug and is left to rise.
    """
