"""Work behind a button: in process with a progress bar, or as a child process of our own command line; both cancel."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Cancelled, Progress

POLL_MS = 50
GRACE_MS = 3000
"""A cancelled child that is still there after this time (it is deep in a solver) is killed."""


class PanelJob:
    """One job at a time behind an Apply button, which reads Cancel while the job runs.

    Parameters
    ----------
    button : QPushButton
        Its text is swapped to Cancel while a job runs; the module connects its click to `toggle`.
    bar : QProgressBar
        Shown while a job runs; the message stands in its text.
    lock : callable, optional
        Called with True when a job starts and with False when it ended, to lock what must not change meanwhile.
    """

    def __init__(self, button: Any, bar: Any, lock: Callable[[bool], None] | None = None) -> None:
        self.button = button
        self.bar = bar
        self.running = False
        self._lock = lock
        self._text = button.text
        self._stop: Callable[[], None] | None = None
        self._closed = False
        bar.setVisible(False)

    def toggle(self, start: Callable[[], None]) -> None:
        """Cancel the running job, or call `start` when none runs."""
        if self.running:
            self.cancel()
        else:
            start()

    def cancel(self) -> None:
        """Ask the running job to stop; nothing happens when none runs."""
        if self._stop is not None:
            self._stop()

    def close(self) -> None:
        """Cancel, and leave the widgets alone from now on: they are about to be deleted."""
        self.cancel()
        self._closed = True

    def run(self, work: Callable[[Progress], Any]) -> Any:
        """Run `work` in this process, keeping the window alive between its progress reports.

        Returns
        -------
        What `work` returns, or None when the user cancelled.
        """
        cancelled = False

        def stop() -> None:
            nonlocal cancelled
            cancelled = True

        def report(fraction: float, message: str) -> None:
            self._show(fraction, message)
            slicer.app.processEvents()
            if cancelled:
                raise Cancelled

        self._begin(stop)
        try:
            return work(report)
        except Cancelled:
            slicer.util.showStatusMessage(_("Cancelled"), 3000)
            return None
        finally:
            self._end()

    def start(
        self,
        module: str,
        arguments: Sequence[str],
        done: Callable[[dict[str, Any]], None],
        follow: Callable[[str], None] | None = None,
        stopped: Callable[[str], None] | None = None,
    ) -> None:
        """Run ``python -m module arguments --json`` as a child process and call `done` with its key figures.

        A child that ends with bad input, or breaks, shows its message; a cancelled one shows nothing.

        Parameters
        ----------
        module, arguments
        done : callable
        follow : callable, optional
            Called with each message of the child, for a log.
        stopped : callable, optional
            Called when the child did not reach its end, with what it said last: nothing, if it was killed.
        """

        def finished(status: int, output: str, message: str) -> None:
            self._end()
            if self._closed:
                return
            message = message.removeprefix(f"python -m {module}: ")
            if not child.cancelled and status == 0:
                done(json.loads(output))
                return
            if stopped is not None:
                stopped(message)
            if child.cancelled:
                slicer.util.showStatusMessage(_("Cancelled"), 3000)
            else:
                slicer.util.errorDisplay(message or f"{module} ended with status {status}.")

        def report(fraction: float, message: str) -> None:
            self._show(fraction, message)
            say(message)

        def say(message: str) -> None:
            if follow is not None and not self._closed:
                follow(message)

        child = ChildProcess(module, [*arguments, "--json"], report, finished, say)
        self._begin(child.cancel)
        try:
            child.start()
        except OSError as error:
            self._end()
            raise InputError(f"The Python of this application cannot be started: {error}") from error

    def _begin(self, stop: Callable[[], None]) -> None:
        self.running, self._stop = True, stop
        self.button.text = _("Cancel")
        self._show(0.0, "")
        self.bar.setVisible(True)
        if self._lock is not None:
            self._lock(True)

    def _show(self, fraction: float, message: str) -> None:
        if not self._closed:
            self.bar.setValue(round(100 * fraction))
            self.bar.setFormat(f"{message} %p%")

    def _end(self) -> None:
        self.running, self._stop = False, None
        if self._closed:
            return
        self.button.text = self._text
        self.bar.setVisible(False)
        if self._lock is not None:
            self._lock(False)


class ChildProcess:
    """Our own command line as a child process, followed line by line and stopped with its whole process tree.

    Parameters
    ----------
    module, arguments
        What to run as ``python -m module arguments``.
    progress
        Called in the main thread for each progress line of the child.
    finished
        Called in the main thread with exit status, standard output and the last message on standard error.
    said
        Called in the main thread with each other line on standard error.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        progress: Progress,
        finished: Callable[[int, str, str], None],
        said: Callable[[str], None] | None = None,
    ) -> None:
        self.command = [python_executable(), "-m", module, *arguments]
        self.cancelled = False
        self._progress = progress
        self._finished = finished
        self._said = said
        self._lines: queue.Queue[tuple[str, str]] = queue.Queue()
        self._output: list[str] = []
        self._messages: list[str] = []

    def start(self) -> None:
        """Start the child; raises OSError if that fails."""
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [*_package_folders(), environment.get("PYTHONPATH")]))
        grouped: dict[str, Any] = {"start_new_session": True}
        if os.name == "nt":
            grouped = {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}  # type: ignore[attr-defined]
        self._process = subprocess.Popen(
            self.command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            **grouped,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(name, stream), daemon=True)
            for name, stream in (("output", self._process.stdout), ("error", self._process.stderr))
        ]
        for reader in self._readers:
            reader.start()
        qt.QTimer.singleShot(POLL_MS, self._poll)

    def cancel(self) -> None:
        """Stop the child and everything it started."""
        self.cancelled = True
        if self._process.poll() is not None:
            return
        if os.name == "nt":
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(self._process.pid)], check=False, capture_output=True)
        else:
            os.killpg(self._process.pid, signal.SIGTERM)
            qt.QTimer.singleShot(GRACE_MS, self._kill)

    def _kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def _read(self, name: str, stream: Any) -> None:
        for line in stream:
            self._lines.put((name, line))
        stream.close()

    def _poll(self) -> None:
        ended = self._process.poll() is not None and not any(reader.is_alive() for reader in self._readers)
        while not self._lines.empty():
            name, line = self._lines.get()
            if name == "output":
                self._output.append(line)
            else:
                self._take_error_line(line)
        if ended:
            message = "".join(self._messages[-20:]).strip()
            self._finished(self._process.returncode, "".join(self._output), message)
        else:
            qt.QTimer.singleShot(POLL_MS, self._poll)

    def _take_error_line(self, line: str) -> None:
        try:
            report = json.loads(line)
            self._progress(float(report["progress"]), str(report["message"]))
        except (ValueError, KeyError, TypeError):
            self._messages.append(line)
            if self._said is not None:
                self._said(line.rstrip())


def python_executable() -> str:
    """Return the Python that can import what this application can: PythonSlicer in Slicer, else the running one."""
    return shutil.which("PythonSlicer") or sys.executable


def _package_folders() -> list[str]:
    """Return the module folders that hold our packages; a child does not inherit `sys.path`."""
    names = ("BreastBiomarkersLib", "WeakSegmentLib", "NIRSTReconstructionLib", "RadiomicsPanelLib")
    return [folder for folder in sys.path if any((Path(folder) / name).is_dir() for name in names)]
