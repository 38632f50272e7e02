"""PythonQt's semantics over PySide6: flat proxy classes, so that code wrong in Slicer is wrong here.

In Slicer the modules ``qt`` and ``ctk`` are made by PythonQt, which differs from PySide6 in many visible ways: a
property hides its getter, an unknown name cannot be assigned, a wrong signal signature only prints a message, no
wrapper class inherits from another. Here each Qt class gets one Python class, ``qt.QLabel`` say, whose instances hold
a PySide6 object and apply those rules in ``__getattr__`` and ``__setattr__``. Where the two could differ the host
refuses: a test double has to be stricter than the application.

The words used below: a *native* object is the PySide6 object, a *proxy* is what a module script sees. ``wrap`` and
``unwrap`` go from one to the other.
"""

from __future__ import annotations

import enum
import inspect
import math
import operator
import traceback
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import shiboken6
from PySide6 import QtCore, QtGui, QtWidgets
from shibokensupport.signature import get_signature

from .natives import ADDED_METHODS, EnumValue, Method, Native, Property, Signal, enum_class, is_function

slot_errors: list[BaseException] = []
"""Exceptions raised in connected functions and overridden event handlers: printed, swallowed, and kept for tests."""

_QT_MODULES = (QtCore, QtGui, QtWidgets)


def report_error(error: BaseException) -> None:
    """Print an exception that PythonQt would swallow, and keep it in `slot_errors`."""
    slot_errors.append(error)
    traceback.print_exception(error)


# --- proxies ---------------------------------------------------------------------------------------------------------


class ProxyType(type):
    """Class-level names of a proxy class: enumerators, enums, static methods, and methods taking the object first."""

    _native: Native

    def __getattr__(cls, name: str) -> Any:
        if name != "_native" and hasattr(cls, "_native"):
            member = cls._native.find(name)
            if isinstance(member, Method) and member.unbound is not None:
                return UnboundMethod(cls._native, member)
            if isinstance(member, EnumValue | type):
                return _enum_or_class(member)
        raise AttributeError(f"type object '{cls.__name__}' has no attribute '{name}'")


def _enum_or_class(member: Any) -> Any:
    is_class = isinstance(member, type) and not issubclass(member, EnumValue)
    return proxy_class(member) if is_class else member


_live: weakref.WeakValueDictionary[int, Proxy] = weakref.WeakValueDictionary()  # id of native object -> its proxy


class Proxy(metaclass=ProxyType):
    """Base of every wrapper class; what module scripts see instead of a PySide6 object."""

    __slots__ = ("__weakref__", "_native_object")
    _native: Native

    def __init__(self, *args: Any, **keywords: Any):
        native = type(self)._native
        if keywords:
            raise ValueError(f"{native.name}() takes no keyword arguments")
        _adopt(self, native.construct(_shell_class(type(self)), tuple(unwrap(a) for a in args)))

    def __del__(self) -> None:
        # An object of a Python subclass lives, attributes included, as long as its C++ parent keeps the C++ object.
        native_object = getattr(self, "_native_object", None)
        if _has_shell(type(self)) and isinstance(native_object, QtCore.QObject):
            if shiboken6.isValid(native_object) and native_object.parent() is not None:
                native_object._kept_proxy = self
                _adopt(self, native_object)

    def __getattr__(self, name: str) -> Any:
        if name in Proxy.__slots__:  # a subclass that has not called the base constructor
            raise AttributeError(name)
        native = type(self)._native
        member = native.find(name)
        if isinstance(member, Property):
            return wrap(member.read(_alive(self, ValueError, f"read property '{name}' from")))
        if isinstance(member, Method):
            return BoundMethod(self, member)
        if isinstance(member, Signal):
            return BoundSignal(self, member)
        if member is not None:
            return _enum_or_class(member)
        native_object = getattr(self, "_native_object", None)
        if isinstance(native_object, QtCore.QObject) and shiboken6.isValid(native_object):
            value = native_object.property(name)
            if value is not None:
                return wrap(value)
            for child in native_object.children():
                if child.objectName() == name:
                    return wrap(child)
        raise AttributeError(f"{native.name} has no attribute named '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        native, class_name = type(self)._native, type(self).__name__
        member = native.find(name)
        if isinstance(member, Property):
            native_object = _alive(self, AttributeError, f"set property '{name}' on")
            if member.write is None:
                raise AttributeError(f"Property '{name}' of {class_name} object is not writable")
            if not member.write(native_object, convert_to_property(native, member, value)):
                raise _refused(member, value)
        elif isinstance(member, Method):
            raise AttributeError(f"Slot '{name}' can not be overwritten on {class_name} object")
        elif isinstance(member, Signal):
            raise AttributeError(f"Signal '{name}' can not be overwritten on {class_name} object")
        elif member is not None:
            raise AttributeError(f"Enum '{name}' can not be overwritten on {class_name} object")
        elif _has_dynamic_property(self, name):
            self._native_object.setProperty(name, unwrap(value))
        elif _is_python_subclass(type(self)):
            object.__setattr__(self, name, value)
        else:
            raise AttributeError(
                f"'{name}' does not exist on {class_name} and creating new attributes on C++ objects is not allowed"
            )

    def __bool__(self) -> bool:
        native_object = getattr(self, "_native_object", None)
        return native_object is not None and shiboken6.isValid(native_object)

    def __eq__(self, other: object) -> bool:
        if other is None:
            return not self
        if not isinstance(other, Proxy):
            return NotImplemented
        if isinstance(self._native_object, QtCore.QObject) or not (self and other):
            return self._native_object is other._native_object
        return bool(self._native_object == other._native_object)

    def __hash__(self) -> int:
        return id(self._native_object)

    def __repr__(self) -> str:
        if not self:
            return f"{type(self).__name__} (destroyed)"
        return f"{type(self).__name__} ({type(self)._native.name} at: {id(self._native_object):#x})"

    def __str__(self) -> str:
        if self and isinstance(self._native_object, QtCore.QByteArray):
            return bytes(self._native_object.data()).decode()
        return repr(self)

    def className(self) -> str:
        """Return the name of the exact class."""
        return type(self).__name__

    def inherits(self, class_name: str) -> bool:
        """Tell whether the C++ class is or inherits the named one."""
        return any(c.__name__ == class_name for c in type(self)._native.native_class.__mro__)

    def delete(self) -> None:
        """Delete the C++ object."""
        shiboken6.delete(_alive(self, ValueError, "delete"))


# The slot is written once by `_adopt`, past __setattr__.
_set_native_object = Proxy._native_object.__set__


def _adopt(proxy: Proxy, native_object: Any) -> None:
    _set_native_object(proxy, native_object)
    _live[id(native_object)] = proxy
    if _has_shell(type(proxy)):
        native_object._proxy_reference = weakref.ref(proxy)


def _alive(proxy: Proxy, error: type[Exception], intention: str) -> Any:
    if not proxy:
        raise error(f"Trying to {intention} a destroyed {type(proxy)._native.name} object")
    return proxy._native_object


def _has_dynamic_property(proxy: Proxy, name: str) -> bool:
    return (
        bool(proxy)
        and isinstance(proxy._native_object, QtCore.QObject)
        and (proxy._native_object.property(name) is not None)
    )


def _is_python_subclass(cls: type) -> bool:
    return "_native" not in vars(cls)


def _has_shell(cls: type[Proxy]) -> bool:
    return _is_python_subclass(cls) and cls._native.has_shell


@cache
def _shell_class(cls: type[Proxy]) -> type:
    """Return the class to construct: of a Python subclass, one whose virtual functions call the Python methods."""
    native_class = cls._native.native_class
    if not _has_shell(cls):
        return native_class
    python_classes = [c for c in cls.__mro__ if not issubclass(c, Proxy) or _is_python_subclass(c)]
    names = {name for c in python_classes if c not in (object, Proxy) for name in vars(c)}
    overridden = {n for n in names if not n.startswith("_") and is_function(getattr(native_class, n, None))}
    return type(native_class.__name__, (native_class,), {name: _virtual(native_class, name) for name in overridden})


def _virtual(native_class: type, name: str) -> Callable[..., Any]:
    def call_python(self: Any, *args: Any) -> Any:
        proxy = self._proxy_reference() if hasattr(self, "_proxy_reference") else None
        if proxy is not None:
            try:
                return unwrap(getattr(proxy, name)(*(wrap(a) for a in args)))
            except Exception as error:
                report_error(error)
        return getattr(native_class, name)(self, *args)

    return call_python


_proxy_classes: dict[type, type[Proxy]] = {}


def register_class(native: Native, module: str) -> type[Proxy]:
    """Make the proxy class of a native class; `module` is what the class says it comes from."""
    cls = ProxyType(native.name, (Proxy,), {"_native": native, "__slots__": (), "__module__": module})
    _proxy_classes[native.native_class] = cls
    return cls


def proxy_class(native_class: type) -> type[Proxy]:
    """Return the proxy class of a Qt class."""
    if native_class not in _proxy_classes:
        register_class(Native(native_class.__name__, native_class), "qt")
    return _proxy_classes[native_class]


def wrap(value: Any) -> Any:
    """Turn what C++ returns into what PythonQt shows: proxies, int-like enums, tuples for lists."""
    if isinstance(value, enum.Enum) and type(value).__module__.startswith("PySide6"):
        return enum_class(type(value))(int(value.value))
    if isinstance(value, shiboken6.Object):
        proxy = _live.get(id(value))
        if proxy is None:
            known = next(c for c in type(value).__mro__ if c in _proxy_classes or c.__module__.startswith("PySide6"))
            cls = proxy_class(known)
            proxy = cls.__new__(cls)
            _adopt(proxy, value)
        return proxy
    if isinstance(value, list | tuple):
        return tuple(wrap(v) for v in value)
    if isinstance(value, dict):
        return {k: wrap(v) for k, v in value.items()}
    return value


def unwrap(value: Any) -> Any:
    """Turn an argument written in PythonQt's terms into one PySide6 takes."""
    if isinstance(value, Proxy):
        return _alive(value, ValueError, "pass")
    if isinstance(value, EnumValue):
        return value.native()
    if isinstance(value, list | tuple):
        return [unwrap(v) for v in value]
    if isinstance(value, dict):
        return {k: unwrap(v) for k, v in value.items()}
    return value


# --- property values -------------------------------------------------------------------------------------------------

_INTEGERS = {"int", "uint", "short", "ushort", "long", "ulong", "qlonglong", "qulonglong", "vtkIdType"}


def _refused(member: Property, value: Any) -> AttributeError:
    return AttributeError(
        f"Property '{member.name}' of type '{member.type_name}' does not accept an object of type "
        f"{type(value).__name__} ({value!r})"
    )


def convert_to_property(native: Native, member: Property, value: Any) -> Any:
    """Convert a value assigned to a property the way PythonQt does, or raise AttributeError."""
    kind = member.type_name
    try:
        if kind == "QString":
            return str(value)
        if kind == "bool":
            return bool(value)
        if kind in _INTEGERS:
            return math.floor(value) if isinstance(value, float) else operator.index(value)
        if kind in ("double", "float"):
            if isinstance(value, str | bytes):
                raise TypeError
            return float(value)
        if kind == "QStringList":
            if isinstance(value, str | bytes):
                raise TypeError
            return [str(v) for v in value]
        if kind == "QVariant":
            return unwrap(value)
    except (TypeError, ValueError):
        raise _refused(member, value) from None
    kinds = (Proxy, int) if native.is_enum(kind) else (Proxy, bytes, dict, list, tuple)
    if not isinstance(value, kinds):
        raise _refused(member, value)
    return unwrap(value)


# --- calls -----------------------------------------------------------------------------------------------------------


def _as_qt_wants(function: Callable[..., Any] | None, args: list[Any]) -> list[Any] | None:
    """Return the arguments with plain ints turned into the enums of the first signature that has them, or None."""
    signatures = get_signature(function) if function is not None else None
    for signature in signatures if isinstance(signatures, list) else [signatures]:
        if signature is None:
            continue
        kinds = [p.annotation for name, p in signature.parameters.items() if name != "self"]
        if len(args) > len(kinds):
            continue
        converted = [
            kind(arg) if type(arg) is int and isinstance(kind, type) and issubclass(kind, enum.Enum) else arg
            for arg, kind in zip(args, kinds, strict=False)
        ]
        if any(a is not b for a, b in zip(args, converted, strict=True)):
            return converted
    return None


def _check_no_none_text(name: str, function: Callable[..., Any] | None, args: list[Any]) -> None:
    """Refuse None for a string: PySide6 takes it for an empty one, PythonQt for the word None."""
    signatures = get_signature(function) if function is not None else None
    for signature in signatures if isinstance(signatures, list) else [signatures]:
        if signature is None:
            continue
        kinds = [p.annotation for key, p in signature.parameters.items() if key != "self"]
        for kind, value in zip(kinds, args, strict=False):
            if value is None and str in (kind, *getattr(kind, "__args__", ())):
                raise ValueError(f"Called {name} with wrong argument(s): None where a text is expected")


def call_native(name: str, member: Method, native_object: Any, args: tuple) -> Any:
    """Call a method and translate arguments, result, and PySide6's complaint about wrong arguments."""
    if member.raw:
        return wrap(member.call(native_object, *args))
    arguments = [_relay_if_callable(unwrap(a)) for a in args]
    if any(a is None for a in arguments):
        _check_no_none_text(name, member.unbound, arguments)
    try:
        return wrap(member.call(native_object, *arguments))
    except TypeError as error:
        wrong = error
    converted = _as_qt_wants(member.unbound, arguments)
    if converted is not None:
        try:
            return wrap(member.call(native_object, *converted))
        except TypeError:
            pass
    raise ValueError(f"Called {name}{args} with wrong argument(s): {wrong}") from wrong


class BoundMethod:
    """A slot or method of one object, as returned by ``obj.method``."""

    def __init__(self, proxy: Proxy, member: Method):
        self._proxy, self._member = proxy, member

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        name = self._member.name
        if keywords:
            raise ValueError(f"{name}() takes no keyword arguments")
        native_object = _alive(self._proxy, ValueError, f"call '{name}' on")
        result = call_native(name, self._member, native_object, args)
        if name == "setParent" and native_object.parent() is None and hasattr(native_object, "_kept_proxy"):
            del native_object._kept_proxy  # owned by Python again
        return result

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BoundMethod) and (self._proxy, self._member) == (other._proxy, other._member)

    def __hash__(self) -> int:
        return hash((self._proxy, self._member.name))

    def __repr__(self) -> str:
        return f"<qt slot {self._member.name} of {self._proxy!r}>"


class UnboundMethod:
    """A static method, or a method to be called with the object first, as returned by ``qt.QClass.method``."""

    def __init__(self, native: Native, member: Method):
        self._native, self._member = native, member

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        name = f"{self._native.name}.{self._member.name}"
        if keywords:
            raise ValueError(f"{name}() takes no keyword arguments")
        function = self._member.unbound
        if self._member.raw:
            return wrap(function(unwrap(args[0]), *args[1:]))
        member = Method(self._member.name, lambda _nothing, *arguments: function(*arguments), function)
        return call_native(name, member, None, args)


# --- signals and slots -----------------------------------------------------------------------------------------------


class Relay:
    """What is really connected: wraps arguments, cuts surplus ones, prints and keeps exceptions."""

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        self._accepted = _accepted_arguments(function)

    def __call__(self, *args: Any) -> None:
        try:
            self.function(*(wrap(a) for a in args[: self._accepted]))
        except Exception as error:
            report_error(error)


def _accepted_arguments(function: Callable[..., Any]) -> int | None:
    """Count parameters, those with defaults included; None (no cutting) unless a plain function or bound method."""
    bound = isinstance(function, types.MethodType)
    plain = function.__func__ if bound else function
    if not isinstance(plain, types.FunctionType) or plain.__code__.co_flags & inspect.CO_VARARGS:
        return None
    return plain.__code__.co_argcount - bound


def _relay_if_callable(value: Any) -> Any:
    return Relay(value) if callable(value) and not isinstance(value, type | Relay) else value


@dataclass(eq=False)
class Connection:
    """One connection; `handle` is Qt's own, None for a signal that a look-alike emits itself."""

    signature: str
    target: Any
    relay: Relay
    handle: Any = None


_connections: dict[int, list[Connection]] = {}  # address of the C++ sender -> its connections


def connections_of(native_object: QtCore.QObject) -> list[Connection]:
    """Return the list of connections of a sender; it disappears with the sender."""
    address = shiboken6.getCppPointer(native_object)[0]
    if address not in _connections:
        _connections[address] = []
        native_object.destroyed.connect(lambda: _connections.pop(address, None))
    return _connections[address]


def own_connections(native_object: QtCore.QObject, signature: str) -> list[Connection]:
    """Return a copy of the connections of one signal."""
    connections = _connections.get(shiboken6.getCppPointer(native_object)[0], ())
    return [c for c in connections if c.signature == signature]


def _has_signal(native_object: QtCore.QObject, signature: str) -> bool:
    """Tell whether Qt knows the signal. Not through metaObject(): its wrapper dies with a child widget's parent, and
    PySide6 then finds the class's own meta object deleted.
    """
    return type(native_object).staticMetaObject.indexOfSignal(signature) >= 0


def _connect(native_object: QtCore.QObject, signature: str, *target: Any) -> bool:
    """Connect a signal, given by its normalized signature, to a callable or to a slot of a receiver."""
    native = type(wrap(native_object))._native
    signature = signature.lstrip("012")
    if signature not in native.signal_signatures():
        QtCore.qWarning(f"QObject::connect: No such signal {native.name}::{signature}")
        return False
    function = _slot_function(signature, target)
    if function is None:
        return False
    connection = Connection(signature, target, Relay(function))
    if _has_signal(native_object, signature):
        connection.handle = QtCore.QObject.connect(native_object, QtCore.SIGNAL(signature), connection.relay)
    connections_of(native_object).append(connection)
    return True


def listen(sender: QtCore.QObject, signature: str, function: Callable[..., Any]) -> None:
    """Connect a function to a signal that a look-alike emits itself, for use between look-alikes."""
    connections_of(sender).append(Connection(signature, (function,), Relay(function)))


def _slot_function(signature: str, target: tuple) -> Callable[..., Any] | None:
    if len(target) == 1 and callable(target[0]):
        return target[0]
    if len(target) >= 2 and isinstance(target[1], str):
        receiver = wrap(target[0])
        slot = target[1].lstrip("012")
        native = type(receiver)._native
        slots, signals = native.slot_signatures(), native.signal_signatures()
        if slot not in slots + signals:
            QtCore.qWarning(f"QObject::connect: No such slot {native.name}::{slot}")
            return None
        sent, taken = argument_types(signature), argument_types(slot)
        if sent[: len(taken)] != taken:
            QtCore.qWarning(f"QObject::connect: Incompatible arguments {signature} --> {native.name}::{slot}")
            return None
        return _call_slot(weakref.ref(receiver._native_object), slot, len(taken))
    raise ValueError(f"Called connect with wrong argument(s): {target}")


def _call_slot(receiver: weakref.ref, slot: str, count: int) -> Callable[..., Any]:
    """Return a function that calls a slot of a receiver for as long as the receiver exists."""

    def call(*args: Any) -> None:
        native_object = receiver()
        if native_object is not None and shiboken6.isValid(native_object):
            getattr(wrap(native_object), slot.partition("(")[0])(*args[:count])

    return call


def argument_types(signature: str) -> list[str]:
    """Split the argument types out of a normalized signature."""
    inside = signature.partition("(")[2].removesuffix(")")
    parts, depth, start = [], 0, 0
    for position, letter in enumerate(inside):
        depth += (letter == "<") - (letter == ">")
        if letter == "," and depth == 0:
            parts.append(inside[start:position])
            start = position + 1
    return parts + [inside[start:]] if inside else []


def _disconnect(native_object: QtCore.QObject, signature: str, *target: Any) -> bool:
    """Remove the first connection of a signal to the same target, or all where no target is given."""
    signature = signature.lstrip("012")
    connections = connections_of(native_object)
    matching = [c for c in connections if c.signature == signature and (not target or c.target == target)]
    for connection in matching[: 1 if target else None]:
        if connection.handle is not None:
            QtCore.QObject.disconnect(connection.handle)
        connections.remove(connection)
    return bool(matching)


class BoundSignal:
    """A signal of one object; calling it emits, as in PythonQt."""

    def __init__(self, proxy: Proxy, member: Signal):
        self._proxy, self._member = proxy, member

    def connect(self, *target: Any) -> bool:
        """Connect the first overload."""
        return _connect(_alive(self._proxy, ValueError, "connect"), self._member.signatures[0], *_forwarded(target))

    def disconnect(self, *target: Any) -> bool:
        """Disconnect a callable, or everything, from the first overload."""
        native_object = _alive(self._proxy, ValueError, "disconnect")
        return _disconnect(native_object, self._member.signatures[0], *_forwarded(target))

    def emit(self, *args: Any) -> None:
        """Emit the overload that takes this number of arguments."""
        native_object = _alive(self._proxy, ValueError, "emit from")
        signature = next((s for s in self._member.signatures if len(argument_types(s)) == len(args)), None)
        if signature is None:
            raise ValueError(f"Called {self._member.name} with wrong argument(s): {args}")
        if _has_signal(native_object, signature):
            QtCore.QObject.emit(native_object, QtCore.SIGNAL(signature), *(unwrap(a) for a in args))
        else:
            native_object.emit_signal(signature, *(unwrap(a) for a in args))

    __call__ = emit

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BoundSignal) and (self._proxy, self._member) == (other._proxy, other._member)

    def __hash__(self) -> int:
        return hash((self._proxy, self._member.name))


def _forwarded(target: tuple) -> tuple:
    if len(target) > 1:
        raise ValueError("Called connect with wrong number of arguments")
    return target


def _matches(child: QtCore.QObject, kind: Any, name: str) -> bool:
    class_name = kind if isinstance(kind, str) else kind.__name__
    proxy = wrap(child)
    return (not class_name or proxy.inherits(class_name)) and (not name or child.objectName() == name)


def _find_children(native_object: QtCore.QObject, kind: Any, name: str = "") -> list[QtCore.QObject]:
    """Return all descendants of a class, given as wrapper class or class name, optionally with one object name."""
    found = []
    for child in native_object.children():
        if _matches(child, kind, name):
            found.append(child)
        found += _find_children(child, kind, name)
    return found


def _find_child(native_object: QtCore.QObject, kind: Any, name: str = "") -> QtCore.QObject | None:
    found = _find_children(native_object, kind, name)
    return found[0] if found else None


ADDED_METHODS.update(connect=_connect, disconnect=_disconnect, findChild=_find_child, findChildren=_find_children)


# --- the module qt ---------------------------------------------------------------------------------------------------


class QtModule(types.ModuleType):
    """The module ``qt``: proxy classes of QtCore, QtGui and QtWidgets, made when first asked for."""

    def __getattr__(self, name: str) -> Any:
        if name == "QUiLoader":
            from .ui_loader import QUiLoader

            return QUiLoader
        for module in _QT_MODULES:
            found = getattr(module, name, None) if name.startswith("Q") else None
            if isinstance(found, type):
                return proxy_class(found)
        raise AttributeError(f"module 'qt' has no attribute '{name}'")


def make_qt_module() -> types.ModuleType:
    """Return a new module ``qt``, to be put into ``sys.modules``."""
    return QtModule("qt", "Qt as PythonQt shows it.")


def grab(proxy: Any, path: Path | str) -> None:
    """Draw a widget off-screen into a PNG file."""
    pixmap = unwrap(proxy).grab()
    if not pixmap.save(str(path), "PNG"):
        raise OSError(f"cannot write {path}")
