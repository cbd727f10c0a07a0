"""The one exception for mistakes that a person can mend; the command line prints it without a traceback."""

from __future__ import annotations


class UserError(Exception):
    """What went wrong, what was given, what is allowed; `hint` says what to do next."""

    def __init__(self, message: str, *, hint: str | None = None):
        super().__init__(message if hint is None else f"{message}\n  -> {hint}")
