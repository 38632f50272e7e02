"""Answers that follow the user's hand: computed beside the window, and only the latest question counts."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any

import qt

from BreastBiomarkersLib.progress import Cancelled, Progress

Work = Callable[[Progress], Iterable[Any]]
"""What the thread runs: plain data in, results out one after the other; no node, widget or VTK object may be in it."""

DELAY_MS = 120
"""A request waits this long for a newer one."""

POLL_MS = 5
YIELD_S = 0.01
"""While the window is idle Slicer may keep Python's lock, so each poll hands it to the thread for this long."""


class LatestWins:
    """Computes the latest of many requests in a thread; every newer request or `cancel` ends the one before.

    Parameters
    ----------
    deliver : callable
        Called in the main thread with each result of the latest request, as soon as it is there.
    failed : callable
        Called in the main thread with the exception that ended the latest request, from preparation or thread.
    """

    def __init__(self, deliver: Callable[[Any], None], failed: Callable[[Exception], None]) -> None:
        self._deliver = deliver
        self._failed = failed
        self._prepare: Callable[[], Work] | None = None
        self._thread: threading.Thread | None = None
        self._cancelled = threading.Event()
        self._results: queue.SimpleQueue[tuple[threading.Event, Any]] = queue.SimpleQueue()
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", self._step)

    @property
    def busy(self) -> bool:
        """Whether a request waits or is being computed."""
        return self._prepare is not None or (self._thread is not None and not self._cancelled.is_set())

    def request(self, prepare: Callable[[], Work], delay_ms: int = DELAY_MS) -> None:
        """Compute this instead of whatever was asked before.

        Parameters
        ----------
        prepare : callable
            Called in the main thread when `delay_ms` have passed without a newer request: takes what the thread needs
            out of the scene and returns the work.
        """
        self.cancel()
        self._prepare = prepare
        self._timer.start(delay_ms)

    def cancel(self) -> None:
        """Drop the request; nothing more is delivered. The thread ends at its next progress report."""
        self._prepare = None
        self._cancelled.set()

    def close(self) -> None:
        """Cancel for good, before the owner goes away."""
        self.cancel()
        self._timer.stop()
        self._timer.disconnect("timeout()", self._step)

    def _step(self) -> None:
        thread = self._thread
        if thread is not None:
            thread.join(YIELD_S)
            if not thread.is_alive():
                self._thread = None
        try:
            self._hand_over()
            if self._thread is None and self._prepare is not None:
                self._start()
        finally:
            if self._thread is not None:
                self._timer.start(POLL_MS)

    def _hand_over(self) -> None:
        while not self._results.empty():
            cancelled, result = self._results.get()
            if cancelled.is_set():
                continue
            if isinstance(result, Exception):
                cancelled.set()
                self._failed(result)
            else:
                self._deliver(result)

    def _start(self) -> None:
        prepare, self._prepare = self._prepare, None
        assert prepare is not None
        try:
            work = prepare()
        except Exception as error:
            self._failed(error)
            return
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work, self._cancelled), daemon=True)
        self._thread.start()

    def _run(self, work: Work, cancelled: threading.Event) -> None:
        def report(_fraction: float, _message: str) -> None:
            if cancelled.is_set():
                raise Cancelled

        try:
            for result in work(report):
                report(0, "")
                self._results.put((cancelled, result))
        except Cancelled:
            pass
        except Exception as error:
            self._results.put((cancelled, error))
