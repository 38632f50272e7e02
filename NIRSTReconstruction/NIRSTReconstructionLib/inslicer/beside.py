"""One piece of work beside the window, for whose result a button waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from BreastBiomarkersLib.progress import Cancelled, Progress

WAIT_S = 0.02
"""The window is served between waits of this length."""


def beside_window(work: Callable[[Progress], Any], progress: Progress) -> Any:
    """Return what `work` returns or raise what it raises; it runs in a thread while `progress` serves the window.

    Parameters
    ----------
    work : callable
        Takes a `Progress`, touches no node, widget or VTK object.
    progress : Progress
        Called often, in this thread. What it raises (`Cancelled`) ends the waiting at once and the work at its next
        report.
    """
    latest, ended = (0.0, ""), threading.Event()
    results: list[Any] = []
    errors: list[BaseException] = []

    def report(fraction: float, message: str) -> None:
        nonlocal latest
        latest = (fraction, message)
        if ended.is_set():
            raise Cancelled

    def run() -> None:
        try:
            results.append(work(report))
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(WAIT_S)
            progress(*latest)
    finally:
        ended.set()
    if errors:
        raise errors[0]
    return results[0]
