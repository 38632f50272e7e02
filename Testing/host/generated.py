"""Slicer's and CTK's Qt classes, generated from a list of what Python may call on them.

``api_surface.json`` says which properties, slots, signals, invokable methods and enums each class shows to Python; a
name outside it raises, as in Slicer, however public it is in C++. The file is a trimmed copy (see its ``origin``): to
refresh it, take the classes named in it, and any new one with its bases, from a newer full list, without the lists of
protected slots. Behaviour comes from the look-alikes in `widgets` and `mrml_widgets`; a class without one gets stored
properties, and a method that nothing stands behind raises NotImplementedError.
"""

from __future__ import annotations

import enum
import json
import types
from functools import cache
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from . import mrml_widgets, widgets
from .look_alike import LookAlike
from .natives import EnumValue, Method, Native, Property
from .pythonqt import Proxy, argument_types, register_class

_SURFACE: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("api_surface.json").read_text(encoding="utf-8")
)["classes"]

# Enumerators whose numbers are those of an enum of Qt; the others are only told apart, not given their true numbers.
_ENUM_OF_QT = {
    "ctkPathLineEdit.Filters": QtCore.QDir.Filter,
    "ctkPathLineEdit.Option": QtWidgets.QFileDialog.Option,
    "ctkDirectoryButton.Option": QtWidgets.QFileDialog.Option,
    "ctkColorPickerButton.ColorDialogOption": QtWidgets.QColorDialog.ColorDialogOption,
}

_ZERO = {"bool": False, "int": 0, "double": 0.0, "QString": "", "QStringList": []}


class SurfaceNative(Native):
    """What a Slicer or CTK class offers: its own list, then everything of the Qt class below it."""

    has_shell = False

    def __init__(self, name: str, native_class: type):
        super().__init__(name, native_class)
        lineage = _lineage(name)
        self.surface = [_SURFACE[n] for n in lineage]
        self.qt_class = next(c for c in native_class.__mro__ if c.__module__.startswith("PySide6"))
        self._enums = {
            key: _enum_class(class_name, key, described)
            for class_name in reversed(lineage)
            for key, described in _SURFACE[class_name].get("enums", {}).items()
        }

    def _entries(self, *kinds: str) -> list[dict[str, Any]]:
        return [entry for described in self.surface for kind in kinds for entry in described.get(kind, ())]

    def find_property(self, name: str) -> Property | None:
        entry = next((p for p in self._entries("properties") if p["name"] == name), None)
        if entry is None:
            return super().find_property(name)
        reader, writer = entry.get("read"), entry.get("write")

        def read(native: Any) -> Any:
            return getattr(native, reader)() if hasattr(native, reader) else native.stored(name)

        def write(native: Any, value: Any) -> bool:
            if not self.is_kind(entry["type"], value):
                return False
            if hasattr(native, writer):
                getattr(native, writer)(value)
            elif native.store(name, value):
                self._notify(native, entry.get("notify"), value)
            return True

        return Property(name, entry["type"], read, write if writer else None)

    def _notify(self, native: Any, signal: str | None, value: Any) -> None:
        for signature in self.signal_signatures():
            if signature.partition("(")[0] == signal:
                native.emit_signal(signature, *([value] if argument_types(signature) else []))

    def find_method(self, name: str) -> Method | None:
        overloads = [m["sig"] for m in self._entries("slots", "invokables", "decorator_methods")]
        overloads = [s for s in overloads if s.partition("(")[0] == name]
        if not overloads:
            return super().find_method(name) if _is_of_qt(self.qt_class, name) else None
        written = next((p for p in self._entries("properties") if p.get("write") == name), None)

        def call(native: Any, *args: Any) -> Any:
            if not any(self._accepts(argument_types(s), args) for s in overloads):
                raise ValueError(f"Could not find matching overload for {self.name}.{name}{args}: {overloads}")
            if hasattr(native, name):
                return getattr(native, name)(*args)
            if written is not None:
                self.find_property(written["name"]).write(native, *args)
                return None
            raise NotImplementedError(f"the host's look-alike of {self.name} does nothing for {name}()")

        return Method(name, call, call)

    def _accepts(self, kinds: list[str], args: tuple) -> bool:
        return len(kinds) == len(args) and all(self.is_kind(kind, arg) for kind, arg in zip(kinds, args, strict=True))

    def is_kind(self, kind: str, value: Any) -> bool:
        """Tell whether a native value can be passed for a C++ type."""
        kind = kind.removeprefix("const ").rstrip("&").strip()
        if kind.startswith("vtk") and kind.endswith("*"):
            return value is None or (hasattr(value, "IsA") and bool(value.IsA(kind[:-1])))
        if kind in ("int", "vtkIdType", "uint", "long"):
            return isinstance(value, int)
        if kind in ("double", "float"):
            return isinstance(value, int | float)
        if kind == "bool":
            return isinstance(value, int)
        if kind == "QString":
            return isinstance(value, str)
        if kind == "QStringList":
            return isinstance(value, list) and all(isinstance(v, str) for v in value)
        if kind == "QVariant":
            return True
        if kind == "QVariantMap":
            return isinstance(value, dict)
        if kind.startswith("QList<"):
            return isinstance(value, list)
        if self.is_enum(kind):
            return isinstance(value, int | enum.Enum)
        qt_class = _qt_class(kind.rstrip("*"))
        return qt_class is not None and (isinstance(value, qt_class) or (value is None and kind.endswith("*")))

    def zero(self, kind: str) -> Any:
        """Return the value that a stored property of a C++ type starts with."""
        if kind in _ZERO:
            return _ZERO[kind]
        qt_class = _qt_class(kind)
        if qt_class is not None and not issubclass(qt_class, QtCore.QObject):
            return qt_class()
        return 0 if self.is_enum(kind) else None

    def signal_signatures(self) -> list[str]:
        own = [m["sig"] for described in reversed(self.surface) for m in described.get("signals", ())]
        return super().signal_signatures() + own

    def slot_signatures(self) -> list[str]:
        return super().slot_signatures() + [m["sig"] for m in self._entries("slots", "invokables")]

    def enums(self) -> dict[str, type[EnumValue]]:
        return super().enums() | self._enums

    def construct(self, shell: type, args: tuple) -> Any:
        if "python_constructor" not in self.surface[0]:
            raise ValueError(f"No constructors available for {self.name}")
        kinds = argument_types(self.surface[0]["python_constructor"])
        if not any(self._accepts(kinds[:n], args) for n in (0, len(kinds))):
            raise ValueError(f"Could not find matching overload for constructor {self.name}{args}")
        return shell(*args)


def _is_of_qt(qt_class: type, name: str) -> bool:
    return hasattr(qt_class, name) or hasattr(qt_class, name + "_") or name in ("exec_", "connect", "disconnect")


def _qt_class(name: str) -> type | None:
    found = (getattr(module, name, None) for module in (QtCore, QtGui, QtWidgets))
    return next((f for f in found if isinstance(f, type)), None)


def _lineage(name: str) -> list[str]:
    """Return a class and its listed base classes, the class first."""
    names = [name]
    for base in _SURFACE[name].get("bases") or ():
        names += [n for n in (_lineage(base) if base in _SURFACE else ()) if n not in names]
    return names


def _enum_class(class_name: str, name: str, described: dict[str, Any]) -> type[EnumValue]:
    numbers_of = _ENUM_OF_QT.get(f"{class_name}.{described.get('flag_of') or name}")
    values = described["values"]
    if numbers_of is not None:
        members = {v: int(numbers_of[v].value) for v in values if v in numbers_of.__members__}
    elif "flag_of" in described:
        members = {v: 0 if v in ("None", "NoSynchronize") else 1 << i for i, v in enumerate(values)}
    else:
        members = {v: i for i, v in enumerate(values)}
    return type(name, (EnumValue,), {"members": members, "__module__": class_name})


def _hand_written(name: str) -> type | None:
    found = getattr(mrml_widgets, name, None) or getattr(widgets, name, None)
    return found if isinstance(found, type) and issubclass(found, LookAlike) else None


@cache
def _native_class(name: str) -> type:
    """Return the look-alike of a class: the hand-written one, or one with stored properties only."""
    found = _hand_written(name)
    if found is None:
        first = (_SURFACE[name].get("bases") or ["QObject"])[0]
        base = _native_class(first) if first in _SURFACE else _qt_class(first) or QtWidgets.QWidget
        bases = (base,) if issubclass(base, LookAlike) else (LookAlike, base)
        found = type(name, bases, {})
    return found


@cache
def surface_class(name: str) -> type[Proxy]:
    """Return the proxy class of a Slicer or CTK class named in the list."""
    native_class = _native_class(name)
    native = SurfaceNative(name, native_class)
    native_class.own_signals = frozenset(m["sig"] for m in native._entries("signals"))
    zeros = {p["name"]: native.zero(p["type"]) for p in native._entries("properties")}
    declared = [vars(c).get("defaults", {}) for c in reversed(native_class.__mro__)]
    native_class.defaults = zeros | {key: value for values in declared for key, value in values.items()}
    return register_class(native, "ctk" if _SURFACE[name]["from"] == "CTK" else "slicer")


# All at once: a look-alike may contain others, which must know their signals and defaults too.
CLASSES: dict[str, type[Proxy]] = {name: surface_class(name) for name in _SURFACE}


def make_ctk_module() -> types.ModuleType:
    """Return a new module ``ctk``, to be put into ``sys.modules``."""
    module = types.ModuleType("ctk", "CTK's Qt classes as PythonQt shows them.")
    for name, cls in CLASSES.items():
        if _SURFACE[name]["from"] == "CTK":
            setattr(module, name, cls)
    return module


def slicer_classes() -> dict[str, type]:
    """Return Slicer's own Qt classes by name, to be put into the module ``slicer``."""
    return {name: cls for name, cls in CLASSES.items() if _SURFACE[name]["from"] == "Slicer"}
