"""Progress and cancelling: one callable, passed down, which may raise to stop the work."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float, str], None]
"""Called with the finished fraction in [0, 1] and a short message; raises `Cancelled` to stop the caller."""


class Cancelled(Exception):  # noqa: N818 - it is a request, not an error
    """The user asked to stop; nothing was written, unless the work is one that goes on where it was."""


def ignore_progress(fraction: float, message: str) -> None:
    """Take a progress report and do nothing."""


def portion(progress: Progress, start: float, stop: float) -> Progress:
    """Return a progress that maps [0, 1] of a part of the work onto [start, stop] of the whole."""

    def report(fraction: float, message: str) -> None:
        progress(start + (stop - start) * fraction, message)

    return report
