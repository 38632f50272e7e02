"""Everything that Slicer would only print: VTK and Qt messages, and exceptions swallowed by VTK observers."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from types import TracebackType

import vtk
from PySide6 import QtCore

# Complaints of the off-screen platform, which no module can avoid.
HARMLESS_QT = ("This plugin does not support",)
# MRML says this whenever it reads a scene saved after the views were turned to an oblique volume.
HARMLESS_VTK = ("GetSliceOrientationPreset: invalid orientation preset name: Reformat",)


class Messages:
    """Collects messages as text until somebody reads them.

    Attributes
    ----------
    vtk : list of str
        Errors and warnings of VTK and MRML.
    qt : list of str
        Warnings and errors of Qt.
    observer_errors : list of BaseException
        Exceptions that left a Python callback of a VTK event; VTK prints them and goes on.
    """

    def __init__(self) -> None:
        self.vtk: list[str] = []
        self.qt: list[str] = []
        self.observer_errors: list[BaseException] = []
        self._window: vtk.vtkOutputWindow | None = None
        self._tags: list[int] = []
        self._previous_hook: Callable | None = None

    def install(self) -> None:
        # vtkLogger would write each message to standard error as well.
        vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)
        window = vtk.vtkOutputWindow()
        window.SetDisplayModeToNever()

        @vtk.calldata_type(vtk.VTK_STRING)
        def keep(_caller: object, _event: str, text: str) -> None:
            if not any(harmless in text for harmless in HARMLESS_VTK):
                self.vtk.append(text.strip())
                print(text.strip(), file=sys.stderr)

        self._tags = [window.AddObserver(event, keep) for event in ("ErrorEvent", "WarningEvent")]
        vtk.vtkOutputWindow.SetInstance(window)
        self._window = window
        QtCore.qInstallMessageHandler(self._keep_qt)
        self._previous_hook = sys.excepthook
        sys.excepthook = self._keep_exception

    def uninstall(self) -> None:
        for tag in self._tags:
            self._window.RemoveObserver(tag)
        QtCore.qInstallMessageHandler(None)
        sys.excepthook = self._previous_hook

    def clear(self) -> None:
        self.vtk.clear()
        self.qt.clear()
        self.observer_errors.clear()

    def _keep_qt(self, kind: QtCore.QtMsgType, _context: object, text: str) -> None:
        if text.startswith(HARMLESS_QT):
            return
        print(text, file=sys.stderr)
        if kind not in (QtCore.QtMsgType.QtDebugMsg, QtCore.QtMsgType.QtInfoMsg):
            self.qt.append(text)

    def _keep_exception(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """VTK hands an exception of an observer to PyErr_Print, which comes here."""
        self.observer_errors.append(error)
        traceback.print_exception(kind, error, trace)
