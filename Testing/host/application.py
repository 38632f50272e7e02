"""The application without windows: `start()` gives the one host of this process.

It stands for ``Slicer --testing --no-main-window``: real MRML, real Qt widgets drawn off-screen behind PythonQt's
rules, no layout manager. Whatever Slicer would print and swallow (an exception in a slot or observer, a VTK error) is
kept and can be asserted on with `Host.problems`.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .messages import Messages

_host: Host | None = None
PANEL_WIDTH = 520  # pixels, about the module panel of a full-screen Slicer


def start() -> Host:
    """Return the host; the first call builds the application, later ones return the same."""
    global _host
    if _host is None:
        _host = Host()
        atexit.register(_host.shutdown)
    return _host


class Host:
    """The running application, for tests and for the command line.

    Attributes
    ----------
    messages : Messages
        What was printed by VTK and Qt or swallowed by VTK since the last `forget_problems`.
    """

    def __init__(self) -> None:
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
        # slicer-core's VTK looks for a display only when something is rendered; Qt is told above.
        from PySide6 import QtCore, QtWidgets

        self._root = Path(tempfile.mkdtemp(prefix="slicer-host-"))
        QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
        for scope in (QtCore.QSettings.Scope.UserScope, QtCore.QSettings.Scope.SystemScope):
            QtCore.QSettings.setPath(QtCore.QSettings.Format.IniFormat, scope, str(self._root / "settings"))
        self._qt_application = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["Slicer"])
        self._qt_application.setOrganizationName("slicer.org")
        self._qt_application.setApplicationName("Slicer")
        self._qt_application.setQuitOnLastWindowClosed(False)
        self.messages = Messages()
        self.messages.install()
        self._build()

    def _build(self) -> None:
        home, temporary, python_folder = self._root / "Slicer", self._root / "temporary", self._root / "bin"
        for folder in (home, temporary, python_folder):
            folder.mkdir()
        _make_python_slicer(python_folder)
        import slicer

        from . import generated, pythonqt, support
        from .share import write_share

        _hide_flattened_names(slicer)
        write_share(home)
        from .scene import Scene

        self._slicer, self._pythonqt = slicer, pythonqt
        self._scene = Scene(home, temporary)
        sys.modules["qt"] = pythonqt.make_qt_module()
        sys.modules["ctk"] = generated.make_ctk_module()
        vars(slicer).update(generated.slicer_classes())
        from .modules import ModuleManager
        from .slicer_app import Application

        self._modules = ModuleManager(self._scene)
        slicer.modules = self._modules.namespace
        slicer.moduleNames = self._modules.names
        slicer.app = Application(self._scene, home, temporary, python_folder, self._modules.proxy)
        support.install()
        from . import parameter_node, scripted

        for name, module in (("ScriptedLoadableModule", scripted), ("parameterNodeWrapper", parameter_node)):
            sys.modules[f"slicer.{name}"] = module
            setattr(slicer, name, module)
        self.forget_problems()

    # Modules

    def load_module(self, path: Path | str) -> Any:
        """Register and instantiate a module script; return its qSlicerScriptedLoadableModule."""
        return self._modules.load(Path(path)).proxy

    def unload_module(self, name: str) -> None:
        """Run the panel's cleanup and forget the module."""
        self._modules.unload(name)
        self.process_events(0)

    def widget(self, name: str) -> Any:
        """Return the Python widget object of a loaded module; its setup runs on the first call."""
        return self._scripted(name).widget()

    def panel(self, name: str) -> Any:
        """Return the Qt widget that holds the module's panel."""
        return self._scripted(name).panel()

    def enter(self, name: str) -> Any:
        """Show a module to the user, leaving the one shown before; return its Python widget object."""
        self._scripted(name).enter()
        self.process_events(0)
        return self.widget(name)

    def exit(self, name: str) -> None:
        """Hide a module from the user."""
        self._scripted(name).leave()
        self.process_events(0)

    def reload(self, name: str) -> Any:
        """Press Reload: cleanup, script run anew, new widget in the same panel; return the new widget object."""
        self.widget(name).onReload()
        self.process_events(0)
        return self.widget(name)

    def generic_module_test(self, name: str) -> None:
        """Do what Slicer's generic test does: make the module, give it a foreign empty scene, then the old one."""
        module = self._scripted(name)
        if not module.proxy.logic():
            raise AssertionError(f"{name} has no logic")
        panel = module.panel()
        foreign = self._slicer.vtkMRMLScene()
        for scene in (foreign, self._slicer.mrmlScene):
            module.proxy.setMRMLScene(scene)
            self.process_events(0)
            if self._pythonqt.unwrap(panel).mrmlScene() is not scene:
                raise AssertionError(f"{name} did not take the new scene")
        from .scripted import TEMPLATE_CONTRIBUTORS, TEMPLATE_HELP

        for attribute, template in (
            ("title", ""),
            ("categories", ()),
            ("contributors", TEMPLATE_CONTRIBUTORS),
            ("helpText", TEMPLATE_HELP),
            ("acknowledgementText", ""),
        ):
            value = getattr(module.proxy, attribute)
            if not value or value == template:
                raise AssertionError(f"{name}: {attribute} is empty or the template's: {value!r}")

    def _scripted(self, name: str) -> Any:
        if name not in self._modules.scripted:
            raise KeyError(f"no scripted module {name} is loaded; call load_module first")
        return self._modules.scripted[name]

    # Scene

    def close_scene(self) -> None:
        """Do what File / Close scene does."""
        self._scene.clear()
        self.process_events(0)

    def save_scene(self, path: Path | str) -> None:
        """Save the scene to a .mrb, a .mrml or a folder; raises OSError on failure."""
        if not self._slicer.util.saveScene(str(path), properties={}):
            raise OSError(f"the scene was not saved to {path}")

    def load_scene(self, path: Path | str, clear: bool = False) -> None:
        """Load a scene into the present one, or in its place; raises RuntimeError on failure."""
        self._slicer.util.loadScene(str(path), properties={"clear": clear})
        self.process_events(0)

    # Time and pictures

    def process_events(self, seconds: float = 0.1) -> None:
        """Run the event loop for a while; 0 handles what is pending."""
        from PySide6 import QtCore, QtWidgets

        end = time.monotonic() + seconds
        while True:
            QtWidgets.QApplication.processEvents()
            # Deletions are left to the outermost event loop, which does not exist here.
            QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
            if time.monotonic() >= end:
                return
            time.sleep(0.005)

    def wait_until(self, condition: Callable[[], Any], timeout_s: float) -> None:
        """Run the event loop until the condition holds; raises TimeoutError if it never does."""
        end = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"{condition} did not become true within {timeout_s} s")
            self.process_events(0.01)

    def grab(self, widget: Any, path: Path | str) -> None:
        """Draw a widget, or the panel of the module of this name, into a PNG file."""
        if isinstance(widget, str):
            widget = self.panel(widget)
            widget.show()
            for _ in range(5):  # tables that are as high as their rows need another turn after their width is known
                self.process_events(0)
                widget.resize(PANEL_WIDTH, max(200, widget.sizeHint.height()))
        self.process_events(0)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._pythonqt.grab(widget, path)

    def startup_completed(self) -> None:
        """Tell the modules that the application has started."""
        self._slicer.app.emit_own("startupCompleted()")

    def set_testing(self, enabled: bool) -> None:
        """Set what slicer.app.testingEnabled() says; when off, nobody answers and a confirmation counts as refused."""
        object.__setattr__(self._slicer.app, "_testing", enabled)

    # Problems

    def problems(self) -> list[str]:
        """Return what went wrong unseen since `forget_problems`."""
        found = [f"exception in a slot: {error!r}" for error in self._pythonqt.slot_errors]
        found += [f"exception in an observer: {error!r}" for error in self.messages.observer_errors]
        found += [f"VTK message: {text}" for text in self.messages.vtk]
        found += [f"Qt message: {text}" for text in self.messages.qt]
        found += self._modules.left_behind
        if not self._scene.is_balanced():
            found.append(f"scene is still in state {self._scene.node.GetStates()}: a StartState without EndState")
        if "fileFormat" in self._slicer.util.exportNode.__defaults__[0]:
            self._slicer.util.exportNode.__defaults__[0].clear()
            found.append("slicer.util.exportNode was called without properties={}, which every later call now inherits")
        return found

    def forget_problems(self) -> None:
        self._pythonqt.slot_errors.clear()
        self.messages.clear()
        self._modules.left_behind.clear()

    @contextlib.contextmanager
    def expected_error(self, kind: type[BaseException], match: str = "") -> Iterator[None]:
        """Require that the block makes a slot or observer raise this, and forget it; other problems stay."""
        yield
        for errors in (self._pythonqt.slot_errors, self.messages.observer_errors):
            expected = [e for e in errors if isinstance(e, kind) and re.search(match, str(e))]
            if expected:
                errors[:] = [e for e in errors if e not in expected]
                return
        raise AssertionError(f"no slot or observer raised {kind.__name__} matching {match!r}: {self.problems()}")

    def reset(self) -> None:
        """Unload the scripted modules, close the scene and forget settings, cursors and problems."""
        from PySide6 import QtCore, QtWidgets

        from . import support

        for name in reversed(list(self._modules.scripted)):
            self.unload_module(name)
        self._scene.end_states()
        self.close_scene()
        for node in self._slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode"):
            self._slicer.mrmlScene.RemoveNode(node)
        self._scene.reset_views()
        QtCore.QSettings().clear()
        while QtWidgets.QApplication.overrideCursor() is not None:
            QtWidgets.QApplication.restoreOverrideCursor()
        self.set_testing(True)
        support.forget_sample_data()
        self.forget_problems()

    def shutdown(self) -> None:
        """Take the application down in an order that leaves nothing to crash at the interpreter's exit."""
        global _host
        if _host is not self:
            return
        _host = None
        atexit.unregister(self.shutdown)
        for name in reversed(list(self._modules.scripted)):
            try:
                self._modules.unload(name)
            except Exception:
                logging.exception("cleanup of %s failed", name)
        self.process_events(0)
        self.messages.uninstall()
        self._scene.delete()
        shutil.rmtree(self._root, ignore_errors=True)


def _make_python_slicer(folder: Path) -> None:
    """Put an executable PythonSlicer on PATH: a wrapper, since a link would lose the virtual environment."""
    script = folder / "PythonSlicer"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    os.environ["PATH"] = os.pathsep.join([str(folder), os.environ.get("PATH", "")])


def _hide_flattened_names(slicer: Any) -> None:
    """Leave in the package what Slicer has there: vtk classes and the module util; slicer-core adds all of util."""
    for name in list(vars(slicer)):
        value = getattr(slicer, name)
        keep = name.startswith("__") or name == "util" or (isinstance(value, type) and name.startswith("vtk"))
        if not keep:
            delattr(slicer, name)
