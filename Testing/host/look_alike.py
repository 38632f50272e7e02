"""What the stand-ins for Slicer's and CTK's widgets share: stored properties, their own signals, observed nodes."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import shiboken6
from vtkmodules.vtkCommonCore import vtkWeakReference

from . import pythonqt


class LookAlike:
    """Mixin of the PySide6 classes that stand in for Slicer and CTK classes.

    Methods are named as in C++, also those Python cannot reach in Slicer: what a script may call is decided by the API
    list (`generated`), not here. A property without accessor methods here is a stored value.
    """

    defaults: dict[str, Any] = {}
    """Values of stored properties of a new object; `generated` adds zero, False or '' for those not named."""

    own_signals: frozenset[str] = frozenset()
    """Signatures of the signals of the class, filled in from the API list by `generated`."""

    def stored(self, name: str) -> Any:
        """Return the value of a stored property."""
        return self._stored_values().get(name, self.defaults.get(name))

    def store(self, name: str, value: Any) -> bool:
        """Set a stored property; return whether it changed."""
        if self.stored(name) == value:
            return False
        self._stored_values()[name] = value
        self.property_changed(name)
        return True

    def _stored_values(self) -> dict[str, Any]:
        return self.__dict__.setdefault("_values", {})

    def property_changed(self, name: str) -> None:
        """React to a changed stored property; nothing by default."""

    def emit_signal(self, signature: str, *args: Any) -> None:
        """Emit one of the class's own signals, given by its normalized signature."""
        if signature not in self.own_signals:
            raise KeyError(f"{type(self).__name__} has no signal {signature}")
        if self.signalsBlocked():
            return
        for connection in pythonqt.own_connections(self, signature):
            connection.relay(*args)

    def listen(self, sender: LookAlike, signature: str, method: str) -> None:
        """Call a method of this object on an own signal of another, without keeping this object alive."""
        this = weakref.ref(self)

        def call(*args: Any) -> None:
            receiver = this()
            if receiver is not None and shiboken6.isValid(receiver):
                getattr(receiver, method)(*(pythonqt.unwrap(a) for a in args))

        pythonqt.listen(sender, signature, call)


class WeakReference:
    """Pointer to a VTK object that does not keep it alive; Python's own weakref follows the wrapper, not the object."""

    def __init__(self, target: Any = None):
        self._reference = vtkWeakReference()
        self._reference.Set(target)

    def __call__(self) -> Any:
        return self._reference.Get()


class Observers:
    """VTK observers of one widget: they keep neither the widget nor the observed object alive."""

    def __init__(self, widget: Any, react: str):
        """Call the method named `react` of `widget`, without arguments, on each observed event."""
        self._widget = weakref.ref(widget)
        self._react = react
        self._observed: list[tuple[WeakReference, int]] = []

    def observe(self, observed: Any, *events: Any) -> None:
        """Observe events of a VTK object from now on."""
        for event in events if observed is not None else ():
            self._observed.append((WeakReference(observed), observed.AddObserver(event, self._callback())))

    def release(self) -> None:
        """Remove all observers."""
        for reference, tag in self._observed:
            observed = reference()
            if observed is not None:
                observed.RemoveObserver(tag)
        self._observed.clear()

    def _callback(self) -> Callable[[Any, str], None]:
        def call(caller: Any, _event: str) -> None:
            if caller is None:  # in its destructor: nothing of it may be touched
                return
            widget = self._widget()
            if widget is None or not shiboken6.isValid(widget):
                self.release()
                return
            try:
                getattr(widget, self._react)()
            except Exception as error:
                pythonqt.report_error(error)

        return call
