"""slicer.app, and the managers it hands out."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets

from . import pythonqt
from .io_manager import IOManager
from .scene import Scene

OWN_SIGNALS = ("startupCompleted()", "renderPaused(bool)", "mrmlSceneChanged(vtkMRMLScene*)")
# What Slicer's application offers and this host does not; the message says so, instead of an AttributeError that a
# `hasattr` would hide.
NOT_EMULATED = (
    "extensionsManagerModel",
    "dicomDatabase",
    "pythonConsole",
    "pythonManager",
    "settingsDialog",
    "openSettingsDialog",
    "openNodeModule",
    "openExtensionsManagerDialog",
    "confirmRestart",
    "launchDesigner",
    "errorLogModel",
    "testingUtility",
    "ioManager",
    "restart",
    "exit",
    "quit",
)


class CommandOptions:
    """The command line that the host stands for: Slicer --testing --no-main-window."""

    noMainWindow = True
    noSplash = True
    runPythonAndExit = False
    testingEnabled = True

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"the command line option {name} is not writable in this host")


class Application:
    """Stand-in for qSlicerApplication: what it adds to QApplication is here, the rest is asked of the QApplication.

    Properties of the C++ class are properties here and its methods are methods, so `slicer.app.temporaryPath()` fails
    as it does in Slicer.
    """

    def __init__(self, scene: Scene, home: Path, temporary: Path, python_folder: Path, modules: Any) -> None:
        set_private = super().__setattr__
        set_private("_scene", scene)
        set_private("_home", home)
        set_private("_python_folder", python_folder)
        set_private("_temporary", str(temporary))
        set_private("_testing", True)
        set_private("_io", IOManager(scene.node, scene.application_logic))
        set_private("_modules", modules)
        set_private("_connections", {signature: [] for signature in OWN_SIGNALS})
        set_private("_command_options", CommandOptions())
        set_private("_render_pauses", 0)

    def __setattr__(self, name: str, value: Any) -> None:
        attribute = getattr(type(self), name, None)
        if isinstance(attribute, property):
            super().__setattr__(name, value)
        elif attribute is None and not name.startswith("_"):
            setattr(self._qt(), name, value)
        else:
            raise AttributeError(f"'{name}' of qSlicerApplication can not be overwritten")

    def __getattr__(self, name: str) -> Any:
        if name in NOT_EMULATED:
            return _not_emulated(f"slicer.app.{name}()")
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._qt(), name)

    def _qt(self) -> Any:
        return pythonqt.wrap(QtWidgets.QApplication.instance())

    # Properties

    @property
    def slicerHome(self) -> str:
        return str(self._home)

    @property
    def slicerSharePath(self) -> str:
        return "share/Slicer-5.12"

    @property
    def temporaryPath(self) -> str:
        return self._temporary

    @temporaryPath.setter
    def temporaryPath(self, path: str) -> None:
        object.__setattr__(self, "_temporary", str(path))
        self._scene.application_logic.SetTemporaryPath(str(path))

    @property
    def cachePath(self) -> str:
        return str(Path(self._temporary) / "RemoteIO")

    @property
    def defaultScenePath(self) -> str:
        return self._temporary

    @property
    def startupWorkingPath(self) -> str:
        return os.getcwd()

    @property
    def slicerUserSettingsFilePath(self) -> str:
        return self.userSettings().fileName()

    @property
    def majorVersion(self) -> int:
        return 5

    @property
    def minorVersion(self) -> int:
        return 12

    @property
    def revision(self) -> str:
        return "0"

    @property
    def repositoryRevision(self) -> str:
        return "0"

    @property
    def releaseType(self) -> str:
        return "Stable"

    @property
    def isInstalled(self) -> bool:
        return True

    @property
    def documentationBaseUrl(self) -> str:
        return "https://slicer.readthedocs.io/en/5.12/"

    @property
    def documentationVersion(self) -> str:
        return "5.12"

    @property
    def os(self) -> str:
        return {"Darwin": "macosx", "Windows": "win"}.get(platform.system(), "linux")

    @property
    def arch(self) -> str:
        return "amd64"

    # Methods

    def testingEnabled(self) -> bool:
        return self._testing

    def commandOptions(self) -> CommandOptions:
        return self._command_options

    def mrmlScene(self) -> slicer.vtkMRMLScene:
        return self._scene.node

    def applicationLogic(self) -> slicer.vtkSlicerApplicationLogic:
        return self._scene.application_logic

    def moduleLogic(self, moduleName: str) -> Any:
        return self._scene.application_logic.GetModuleLogic(moduleName)

    def moduleManager(self) -> Any:
        return self._modules

    def coreIOManager(self) -> IOManager:
        return self._io

    def layoutManager(self) -> None:
        """Return nothing, as in a Slicer without main window."""
        return None

    def userSettings(self) -> Any:
        return pythonqt.wrap(QtCore.QSettings())

    settings = revisionUserSettings = userSettings

    def startupEnvironment(self) -> Any:
        """Return the environment from before the start, without the folder that PythonSlicer is in."""
        environment = QtCore.QProcessEnvironment.systemEnvironment()
        folders = [f for f in environment.value("PATH").split(os.pathsep) if f != str(self._python_folder)]
        environment.insert("PATH", os.pathsep.join(folders))
        return pythonqt.wrap(environment)

    def environment(self) -> Any:
        return pythonqt.wrap(QtCore.QProcessEnvironment.systemEnvironment())

    def moduleDocumentationUrl(self, moduleName: str) -> str:
        return f"{self.documentationBaseUrl}user_guide/modules/{moduleName.lower()}.html"

    def toSlicerHomeAbsolutePath(self, path: str) -> str:
        return str(self._home / path)

    def translate(self, context: str, text: str) -> str:
        return text

    def processEvents(self) -> None:
        QtWidgets.QApplication.processEvents()

    def pauseRender(self) -> None:
        object.__setattr__(self, "_render_pauses", self._render_pauses + 1)

    def resumeRender(self) -> None:
        if self._render_pauses == 0:
            raise RuntimeError("resumeRender() without pauseRender()")
        object.__setattr__(self, "_render_pauses", self._render_pauses - 1)

    def setRenderPaused(self, pause: bool) -> None:
        self.pauseRender() if pause else self.resumeRender()

    # Signals

    def connect(self, signature: str, *target: Any) -> bool:
        name = signature.lstrip("012")
        if name not in self._connections:
            return self._qt().connect(signature, *target)
        if len(target) != 1 or not callable(target[0]):
            raise ValueError(f"Called connect with wrong argument(s): {target}")
        self._connections[name].append((target[0], pythonqt.Relay(target[0])))
        return True

    def disconnect(self, signature: str, *target: Any) -> bool:
        name = signature.lstrip("012")
        if name not in self._connections:
            return self._qt().disconnect(signature, *target)
        kept = [pair for pair in self._connections[name] if target and pair[0] != target[0]]
        changed = len(kept) != len(self._connections[name])
        self._connections[name][:] = kept
        return changed

    def emit_own(self, signature: str, *arguments: Any) -> None:
        """Emit one of the signals that QApplication does not have; for the host only."""
        for _, relay in list(self._connections[signature]):
            relay(*arguments)

    def inherits(self, class_name: str) -> bool:
        return class_name in ("qSlicerApplication", "qSlicerCoreApplication") or self._qt().inherits(class_name)

    def className(self) -> str:
        return "qSlicerApplication"


def _not_emulated(what: str) -> Callable:
    def refuse(*_arguments: Any) -> None:
        raise NotImplementedError(f"the test host does not emulate {what}; Slicer has it only with its own windows")

    return refuse
