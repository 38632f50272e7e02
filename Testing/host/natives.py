"""What the classes of Qt offer to Python: properties, methods, signals and enums, looked up as PythonQt does it."""

from __future__ import annotations

import enum
import inspect
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from PySide6 import QtCore

# Names that PySide6 has and PythonQt over Qt 5.15 has not: helpers of PySide6, and what came with Qt 6.
_PYSIDE_ONLY = {"emit", "staticMetaObject", "isQmlExposed", "isQuickItemType"}
_QT6_ONLY = {
    "QCheckBox": {"checkStateChanged"},
    "QColor": {"fromString", "isValidColorName"},
    "QComboBox": {"labelDrawingMode", "setLabelDrawingMode"},
    "QFormLayout": {"setRowVisible", "isRowVisible"},
    "QMessageBox": {"setOption", "setOptions", "testOption", "options"},
    "QProcess": {"startCommand"},
    "QShortcut": {"setKeys", "keys"},
    "QStackedWidget": {"widgetAdded"},
    "QTimer": {"id", "intervalAsDuration", "remainingTimeAsDuration"},
    "QWidget": {"accessibleIdentifier", "setAccessibleIdentifier"},
}
# What is a property only since Qt 6: with 5.15 the getter is an ordinary method.
_QT6_PROPERTIES = {"QLayout": {"contentsMargins"}}

# Functions that open a dialog and wait for a person; head-less they would block until the test times out.
_WAIT_FOR_A_PERSON = {
    "QColorDialog": {"getColor"},
    "QFileDialog": {
        "getOpenFileName",
        "getOpenFileNames",
        "getSaveFileName",
        "getExistingDirectory",
        "getOpenFileUrl",
        "getOpenFileUrls",
        "getSaveFileUrl",
        "getExistingDirectoryUrl",
    },
    "QFontDialog": {"getFont"},
    "QInputDialog": {"getText", "getMultiLineText", "getItem", "getInt", "getDouble"},
    "QMessageBox": {"about", "aboutQt", "critical", "information", "question", "warning"},
}


ADDED_METHODS: dict[str, Callable[..., Any]] = {}
"""Methods that PythonQt adds to every QObject; `pythonqt` fills them in."""


# --- enums -----------------------------------------------------------------------------------------------------------


class EnumValue(int):
    """An enumerator: an int that remembers its C++ enum type, so that it can be handed back to PySide6."""

    enum_type: type | None = None  # the PySide6 enum; None for an enum of a Slicer or CTK class
    members: dict[str, int] = {}

    def __repr__(self) -> str:
        name = next((name for name, value in self.members.items() if value == int(self)), "")
        return f"{name} ({type(self).__name__}: {int(self)})"

    def native(self) -> Any:
        """Return the PySide6 enumerator, or a plain int where the enum is not one of Qt's."""
        return int(self) if self.enum_type is None else self.enum_type(int(self))

    def _combined(self, operation: Callable[[int, int], int], other: object) -> Any:
        if not isinstance(other, int):
            return NotImplemented
        value = operation(int(self), int(other))
        same = not isinstance(other, EnumValue) or isinstance(other, type(self))
        return type(self)(value) if same else value

    def __or__(self, other: object) -> Any:
        return self._combined(operator.or_, other)

    def __and__(self, other: object) -> Any:
        return self._combined(operator.and_, other)

    def __xor__(self, other: object) -> Any:
        return self._combined(operator.xor, other)

    __ror__, __rand__, __rxor__ = __or__, __and__, __xor__


@cache
def enum_class(enum_type: type) -> type[EnumValue]:
    """Return the int-like class that stands for a PySide6 enum."""
    members = {name: int(member.value) for name, member in enum_type.__members__.items()}
    return type(enum_type.__name__, (EnumValue,), {"enum_type": enum_type, "members": members, "__module__": "qt"})


# --- what a class offers ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Property:
    """A Q_PROPERTY; `write` is None when it is read-only."""

    name: str
    type_name: str
    read: Callable[[Any], Any]
    write: Callable[[Any, Any], bool] | None


@dataclass(frozen=True)
class Method:
    """A slot or another callable.

    `call` takes the native object first, `unbound` is the class-level function of PySide6; a `raw` method takes its
    arguments as the script wrote them.
    """

    name: str
    call: Callable[..., Any]
    unbound: Callable[..., Any] | None = None
    raw: bool = False


@dataclass(frozen=True)
class Signal:
    """A signal with its normalized C++ signatures, the first of which ``obj.signal.connect`` takes."""

    name: str
    signatures: tuple[str, ...]


Member = Property | Method | Signal | EnumValue | type


class Native:
    """What one Qt class offers to Python, looked up by name in PythonQt's order."""

    has_shell = True
    """Whether C++ calls the methods of a Python subclass, and keeps its object as long as the C++ one."""

    def __init__(self, name: str, native_class: type):
        self.name = name
        self.native_class = native_class
        self._members: dict[str, Member | None] = {}

    def find(self, name: str) -> Member | None:
        """Return the property, method, signal, enumerator or enum called `name`, or None."""
        if name not in self._members:
            self._members[name] = self._look_up(name)
        return self._members[name]

    def _look_up(self, name: str) -> Member | None:
        if name.startswith("__") or self._is_new_in_qt6(name):
            return None
        finders = (self.find_property, self.find_method, self.find_signal, self.find_enumerator, self.find_enum)
        found = (find(name) for find in finders)
        return next((member for member in found if member is not None), None)

    def _is_new_in_qt6(self, name: str) -> bool:
        return any(name in _QT6_ONLY.get(c.__name__, ()) for c in self.native_class.__mro__)

    @property
    def is_qobject(self) -> bool:
        """Tell whether the class has a meta object."""
        return issubclass(self.native_class, QtCore.QObject)

    def find_property(self, name: str) -> Property | None:
        """Return a Q_PROPERTY; ``name`` stands for ``objectName``, and ``QTimer.singleShot`` cannot be reached."""
        if not self.is_qobject or (name == "singleShot" and issubclass(self.native_class, QtCore.QTimer)):
            return None
        if any(name in _QT6_PROPERTIES.get(c.__name__, ()) for c in self.native_class.__mro__):
            return None
        meta = self.native_class.staticMetaObject
        index = meta.indexOfProperty(name)
        if index < 0:
            return self.find_property("objectName") if name == "name" else None
        described = meta.property(index)
        capital = name[0].upper() + name[1:]
        getter = next((g for g in (name, "is" + capital, "has" + capital) if hasattr(self.native_class, g)), None)

        def read(native: Any) -> Any:
            return getattr(native, getter)() if getter else native.property(name)

        def write(native: Any, value: Any) -> bool:
            return native.setProperty(name, value)

        return Property(name, described.typeName(), read, write if described.isWritable() else None)

    def find_method(self, name: str) -> Method | None:
        """Return a callable of the Qt class, or one that PythonQt adds."""
        if self.is_qobject and name in ADDED_METHODS:
            return Method(name, ADDED_METHODS[name], ADDED_METHODS[name], raw=True)
        name = name.removesuffix("_") if name in ("exec_", "print_", "raise_") else name
        # PySide6 itself renames what is a keyword in Python.
        attribute = name if hasattr(self.native_class, name) else name + "_"
        function = getattr(self.native_class, attribute, None)
        if name in _PYSIDE_ONLY or name.startswith("_") or not is_function(function):
            return None
        if any(name in _WAIT_FOR_A_PERSON.get(c.__name__, ()) for c in self.native_class.__mro__):
            return Method(name, _waits_for_a_person, _waits_for_a_person)
        return Method(name, lambda native, *args: getattr(native, attribute)(*args), function)

    def find_signal(self, name: str) -> Signal | None:
        """Return a signal with its overloads in the order of the meta object."""
        signatures = [s for s in self.signal_signatures() if s.partition("(")[0] == name]
        return Signal(name, tuple(signatures)) if signatures else None

    def signal_signatures(self) -> list[str]:
        """Return the signatures of all signals, base classes first."""
        if not self.is_qobject:
            return []
        meta = self.native_class.staticMetaObject
        methods = (meta.method(i) for i in range(meta.methodCount()))
        signals = (m for m in methods if m.methodType() == QtCore.QMetaMethod.MethodType.Signal)
        signatures = [bytes(m.methodSignature().data()).decode() for m in signals]
        return [s for s in signatures if not self._is_new_in_qt6(s.partition("(")[0])]

    def slot_signatures(self) -> list[str]:
        """Return the signatures of all slots and invokable methods."""
        if not self.is_qobject:
            return []
        meta = self.native_class.staticMetaObject
        methods = (meta.method(i) for i in range(meta.methodCount()))
        slots = (m for m in methods if m.methodType() != QtCore.QMetaMethod.MethodType.Signal)
        return [bytes(m.methodSignature().data()).decode() for m in slots]

    def enums(self) -> dict[str, type[EnumValue]]:
        """Return the enums of the class and of its base classes, by name."""
        found: dict[str, type[EnumValue]] = {}
        for base in reversed(self.native_class.__mro__):
            for key, value in vars(base).items():
                if isinstance(value, type) and issubclass(value, enum.Enum):
                    found[key] = enum_class(value)
        return found

    def find_enumerator(self, name: str) -> EnumValue | None:
        """Return the enumerator called `name`."""
        found = (kind(kind.members[name]) for kind in self.enums().values() if name in kind.members)
        return next(found, None)

    def is_enum(self, type_name: str) -> bool:
        """Tell whether a property's C++ type is an enum or a set of flags."""
        return "::" in type_name or type_name.startswith("QFlags<") or type_name in self.enums()

    def find_enum(self, name: str) -> type | None:
        """Return an enum, or a nested class as PySide6 has it."""
        nested = getattr(self.native_class, name, None)
        if isinstance(nested, type) and name[:1].isupper():
            return enum_class(nested) if issubclass(nested, enum.Enum) else nested
        return self.enums().get(name)

    def construct(self, shell: type, args: tuple) -> Any:
        """Make the native object, an instance of `shell`, the native class or a subclass of it."""
        try:
            return shell(*args)
        except (TypeError, NotImplementedError) as error:
            raise ValueError(f"Could not find matching overload for constructor {self.name}{args}: {error}") from None


def is_function(attribute: Any) -> bool:
    return inspect.isroutine(attribute) and not isinstance(attribute, QtCore.Signal)


def _waits_for_a_person(*_args: Any) -> None:
    raise RuntimeError("this dialog waits for a person: replace the call in the test, or use slicer.util's displays")
