"""slicer.modules: the loadable modules' logics, and scripted modules found, run and reloaded as Slicer does it."""

from __future__ import annotations

import importlib.util
import re
import sys
import types
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets

from . import generated, pythonqt
from .scene import MODULES, Scene


class ModuleManager:
    """All modules by name. Slicer's own manager, which scripts see, is `proxy`."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._loaded: dict[str, Any] = {}
        self.scripted: dict[str, ScriptedModule] = {}
        self.left_behind: list[str] = []
        self.namespace = types.ModuleType("slicer.modules")
        self.names = types.ModuleType("slicer.moduleNames")
        self.proxy = generated.surface_class("qSlicerModuleManager")()
        native = pythonqt.unwrap(self.proxy)
        native.module = self._loaded.get
        native.modulesNames = lambda: list(self._loaded)
        native.factoryManager = lambda: FactoryManager(self._loaded)
        for name, title, _ in MODULES:
            self._add(name, _loadable_module(name, title, scene))

    def _add(self, name: str, module: Any) -> None:
        self._loaded[name] = module
        setattr(self.namespace, name.lower(), module)
        setattr(self.names, name, name)

    def load(self, path: Path) -> ScriptedModule:
        """Run a module script and instantiate its module class; loading the same file again changes nothing."""
        path = Path(path).resolve()
        name = path.stem
        if name in self._loaded:
            if name in self.scripted and self.scripted[name].path == path:
                return self.scripted[name]
            raise RuntimeError(f"a module named {name} is loaded already, from another file")
        _refuse_stray_scripts(path)
        folder = str(path.parent)
        if folder not in sys.path:
            sys.path.append(folder)
        try:
            module = ScriptedModule(path, self)
            self._check(module.proxy, name)
        except BaseException:
            sys.modules.pop(name, None)
            raise
        self.scripted[name] = module
        self._add(name, module.proxy)
        setattr(self.namespace, f"{name}Instance", module.instance)
        pythonqt.unwrap(self.proxy).emit_signal("moduleLoaded(QString)", name)
        return module

    def _check(self, module: Any, name: str) -> None:
        missing = [needed for needed in module.dependencies if needed not in self._loaded]
        if missing:
            raise RuntimeError(f"{name} depends on {missing}, not loaded; there are {sorted(self._loaded)}")
        if not module.categories or not all(module.categories):
            raise RuntimeError(f"{name} has no category, so no menu shows it")
        if not module.title:
            raise RuntimeError(f"{name} has no title")

    def unload(self, name: str) -> None:
        """Let the panel clean up and forget the module, as at the end of the application."""
        module = self.scripted[name]
        module.leave()
        pythonqt.unwrap(self.proxy).emit_signal("moduleAboutToBeUnloaded(QString)", name)
        self.note_left_behind(name)
        self._remove_left_behind(name)
        module.delete()
        del self.scripted[name], self._loaded[name]
        for attribute in (name.lower(), f"{name}Instance", f"{name}Widget"):
            if hasattr(self.namespace, attribute):
                delattr(self.namespace, attribute)
        delattr(self.names, name)
        sys.modules.pop(name, None)
        getattr(slicer, "selfTests", {}).pop(name, None)

    def note_left_behind(self, name: str) -> None:
        """Record the observers that a cleanup forgot: after Reload the module would react twice."""
        for target, callback in self._scene.python_observers():
            owner = getattr(callback, "__self__", None)
            if name in (getattr(callback, "__module__", ""), type(owner).__module__):
                what = getattr(callback, "__qualname__", repr(callback))
                self.left_behind.append(f"cleanup of {name} left the observer {what} on {target.GetClassName()}")

    def _remove_left_behind(self, name: str) -> None:
        """Spare the next test the observers of a module that is gone."""
        for _, callback in self._scene.python_observers():
            owner = getattr(callback, "__self__", None)
            if type(owner).__module__ == name and hasattr(owner, "removeObservers"):
                owner.removeObservers()


class FactoryManager:
    """The part of qSlicerModuleFactoryManager that slicer.util asks."""

    def __init__(self, loaded: dict[str, Any]) -> None:
        self._loaded = loaded

    def loadedModuleNames(self) -> tuple[str, ...]:
        return tuple(self._loaded)

    def isLoaded(self, name: str) -> bool:
        return name in self._loaded


def _loadable_module(name: str, title: str, scene: Scene) -> Any:
    proxy = generated.surface_class("qSlicerLoadableModule")()
    native = pythonqt.unwrap(proxy)
    native.store("name", name)
    native.store("title", title)
    native.store("path", f"qSlicer{name}Module")
    native.logic = lambda: scene.logics[name]
    native.mrmlScene = lambda: scene.node
    return proxy


def _refuse_stray_scripts(path: Path) -> None:
    """Slicer takes every .py beside a module script for a module and complains about those that are none."""
    for sibling in path.parent.glob("*.py"):
        source = sibling.read_text(encoding="utf-8")
        if not re.search(rf"^class {re.escape(sibling.stem)}\b", source, re.MULTILINE):
            raise RuntimeError(f"{sibling} holds no class {sibling.stem}: Slicer takes every .py here for a module")


def _run_script(name: str, path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class ScriptedModule:
    """One scripted module: its script, its qSlicerScriptedLoadableModule and, once shown, its panel."""

    def __init__(self, path: Path, manager: ModuleManager) -> None:
        self.path = path
        self.name = path.stem
        self._manager = manager
        self._panel: Any = None
        script = _run_script(self.name, path)
        if not hasattr(script, self.name):
            raise RuntimeError(f"class {self.name} was not found in file {path}")
        self.proxy = generated.surface_class("qSlicerScriptedLoadableModule")()
        native = pythonqt.unwrap(self.proxy)
        native.store("name", self.name)
        native.store("path", str(path))
        self._logic = slicer.vtkSlicerScriptedLoadableModuleLogic()
        native.logic = lambda: self._logic
        native.mrmlScene = lambda: slicer.mrmlScene
        native.setMRMLScene = self._set_scene
        native.widgetRepresentation = self.panel
        self.instance = getattr(script, self.name)(self.proxy)
        if hasattr(self.instance, "setup"):
            self.instance.setup()

    @property
    def has_panel(self) -> bool:
        return self._panel is not None

    def panel(self) -> Any:
        """Return the panel; the first call makes it and runs the widget's setup."""
        if self._panel is None:
            self._panel = self._new_panel()
            try:
                self._set_up(self._panel)
            except BaseException:
                self.delete()
                raise
            # Slicer hands over the scene after setup, so that a panel shows whether it can do without.
            self._panel.setMRMLScene(slicer.mrmlScene)
        return self._panel

    def widget(self) -> Any:
        """Return the Python object of the panel."""
        return self.panel().self()

    def _new_panel(self) -> Any:
        panel = generated.surface_class("qSlicerScriptedLoadableModuleWidget")()
        native = pythonqt.unwrap(panel)
        native.setObjectName(f"{self.name}Widget")
        native.store("moduleName", self.name)
        native.reload = self._reload
        native.self = lambda: getattr(self._manager.namespace, f"{self.name}Widget", None)
        native.enter = self.enter
        native.exit = self.leave
        native.setEditedNode = lambda node, role="", context="": self._hook("setEditedNode", bool, node, role, context)
        native.nodeEditable = lambda node: self._hook("nodeEditable", float, node)
        native.setLayout(QtWidgets.QVBoxLayout())
        return panel

    def _reload(self) -> None:
        """Make the widget object anew; slicer.util.reloadScriptedModule has run the script and the cleanup."""
        self._manager.note_left_behind(self.name)
        self._set_up(self._panel)

    def _set_up(self, panel: Any) -> None:
        """Make the widget object and run its setup."""
        widget_class = getattr(sys.modules[self.name], f"{self.name}Widget", None)
        if widget_class is None:
            raise RuntimeError(f"class {self.name}Widget was not found in file {self.path}")
        widget = widget_class(panel)
        setattr(self._manager.namespace, f"{self.name}Widget", widget)
        widget.setup()

    def _hook(self, name: str, kind: type, *arguments: Any) -> Any:
        method = getattr(self.widget(), name, None)
        if method is None:
            return kind()
        result = method(*arguments)
        if type(result) is not kind:
            raise RuntimeError(f"{self.name}Widget.{name} returned {result!r}; Slicer wants a {kind.__name__}")
        return result

    def _set_scene(self, scene: Any) -> None:
        if self._panel is not None:
            self._panel.setMRMLScene(scene)

    def enter(self) -> None:
        """Show the panel to the user, leaving the one shown before."""
        panel = self.panel()
        if panel.isEntered:
            return
        for other in self._manager.scripted.values():
            other.leave()
        pythonqt.unwrap(panel).store("isEntered", True)
        if hasattr(self.widget(), "enter"):
            self.widget().enter()

    def leave(self) -> None:
        """Hide the panel from the user."""
        if self._panel is None or not self._panel.isEntered:
            return
        pythonqt.unwrap(self._panel).store("isEntered", False)
        if hasattr(self.widget(), "exit"):
            self.widget().exit()

    def delete(self) -> None:
        """Delete the panel with everything in it."""
        if self._panel is None:
            return
        pythonqt.unwrap(self._panel).deleteLater()
        self._panel = None
        if hasattr(self._manager.namespace, f"{self.name}Widget"):
            delattr(self._manager.namespace, f"{self.name}Widget")
        QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
