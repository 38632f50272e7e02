"""Typed access to the parameters of a vtkMRMLScriptedModuleNode, bound to widgets.

Written from Slicer's documentation of `slicer.parameterNodeWrapper`; values are stored as Slicer stores them, so that
scenes can be exchanged. `application.start` installs this under that name. Where Slicer lets a mistake pass (an unknown
attribute, a bool in an int parameter, an invalid default) this raises. Not emulated, and therefore failing at import or
connection: own serializers and connectors, `createGui`, QColor parameters, subject hierarchy widgets.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import qt
import slicer
import vtk

from .parameter_annotations import (
    Choice,
    Decimals,
    Default,
    Exclude,
    IsInstance,
    Maximum,
    Minimum,
    NotNone,
    RangeBounds,
    SingleStep,
    Validator,
    WithinRange,
)
from .parameter_codecs import Parameter, data_type, isParameterPack, parameters_of, reserve_names, split_name
from .parameter_connectors import Connector, make_connector
from .parameter_packs import FloatRange, parameterPack

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "Exclude",
    "FloatRange",
    "IsInstance",
    "Maximum",
    "Minimum",
    "NotNone",
    "RangeBounds",
    "SingleStep",
    "SlicerParameterNamePropertyName",
    "Validator",
    "WithinRange",
    "findChildWidgetForParameter",
    "isParameterNodeWrapper",
    "isParameterPack",
    "parameterNodeWrapper",
    "parameterPack",
]

SlicerParameterNamePropertyName = "SlicerParameterName"


def isParameterNodeWrapper(classOrObj: Any) -> bool:
    return getattr(classOrObj, "_is_parameter_node_wrapper", False)


def parameterNodeWrapper(classtype: type | None = None) -> Any:
    """Class decorator: typed members of a vtkMRMLScriptedModuleNode, which the constructor takes."""
    return _make_wrapper if classtype is None else _make_wrapper(classtype)


def _wrapper_property(name: str) -> property:
    return property(lambda self: self.getValue(name), lambda self, value: self.setValue(name, value))


class _WrapperState:
    """What one wrapper object holds besides the node: values read, widgets bound."""

    def __init__(self, node: Any, parameters: dict[str, Parameter], prefix: str) -> None:
        self.node = node
        self.parameters = parameters
        self.prefix = prefix
        self.values: dict[str, Any] = {}
        self.writing = False
        self.guis: dict[int, dict[str, Connector]] = {}
        self.next_tag = 0
        self.updating_gui = False
        for name, parameter in parameters.items():
            if not parameter.codec.holds(node, prefix + name):
                parameter.codec.write(node, prefix + name, parameter.default.value)
        self.refresh()
        # The observer must not keep this object alive: modules drop wrappers on every scene close.
        this = weakref.ref(self)
        self.observer = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: _on_modified(this()))

    def __del__(self) -> None:
        if "observer" in self.__dict__:
            self.node.RemoveObserver(self.observer)

    def refresh(self) -> None:
        """Read the values anew; what is missing (the scene was closed) gets its default."""
        for name, parameter in self.parameters.items():
            if parameter.codec.cached:
                self.values[name] = self.stored(name)

    def stored(self, name: str) -> Any:
        parameter = self.parameters[name]
        if not parameter.codec.holds(self.node, self.prefix + name):
            parameter.codec.write(self.node, self.prefix + name, parameter.default.value)
        return parameter.codec.read(self.node, self.prefix + name)

    def read(self, name: str) -> Any:
        return self.values[name] if self.parameters[name].codec.cached else self.stored(name)

    def write(self, name: str, value: Any) -> None:
        codec = self.parameters[name].codec
        self.writing = True
        try:
            # The value is read back before any observer runs.
            with slicer.util.NodeModify(self.node):
                codec.write(self.node, self.prefix + name, value)
                if codec.cached:
                    self.values[name] = codec.read(self.node, self.prefix + name)
        finally:
            self.writing = False


def _on_modified(state: _WrapperState | None) -> None:
    if state is None:
        return
    if not state.writing:
        state.refresh()


def _make_wrapper(cls: type) -> type:
    parameters = parameters_of(cls)

    def init(self: Any, parameterNode: Any, prefix: str | None = None) -> None:
        if not isinstance(parameterNode, slicer.vtkMRMLScriptedModuleNode):
            raise TypeError(f"{cls.__name__} wraps a vtkMRMLScriptedModuleNode, got {parameterNode!r}")
        object.__setattr__(self, "parameterNode", parameterNode)
        object.__setattr__(self, "_state", _WrapperState(parameterNode, parameters, prefix or ""))

    def set_attribute(self: Any, name: str, value: Any) -> None:
        if not name.startswith("_") and not hasattr(type(self), name):
            raise AttributeError(f"'{cls.__name__}' has no parameter '{name}'; there are {list(parameters)}")
        object.__setattr__(self, name, value)

    def get_value(self: Any, name: str) -> Any:
        data_type(parameters, name)
        top, rest = split_name(name)
        value = self._state.read(top)
        return value.getValue(rest) if rest else value

    def set_value(self: Any, name: str, value: Any) -> None:
        data_type(parameters, name)
        top, rest = split_name(name)
        if rest:
            self._state.read(top).setValue(rest, value)
        else:
            self._state.write(top, value)

    for name in parameters:
        setattr(cls, name, _wrapper_property(name))
    reserve_names(
        cls,
        {
            "allParameters": parameters,
            "_is_parameter_node_wrapper": True,
            "default": lambda self, name: parameters[name].default,
            "isCached": lambda self, name: parameters[name].codec.cached,
            "dataType": staticmethod(lambda name: data_type(parameters, name)),
            "getValue": get_value,
            "setValue": set_value,
            "connectGui": _connect_gui,
            "connectParametersToGui": _connect_parameters_to_gui,
            "disconnectGui": _disconnect_gui,
            "StartModify": lambda self: self.parameterNode.StartModify(),
            "EndModify": lambda self, wasModified: self.parameterNode.EndModify(wasModified),
            "AddObserver": lambda self, event, callback, priority=0.0: self.parameterNode.AddObserver(
                event, callback, priority
            ),
            "RemoveObserver": lambda self, tag: self.parameterNode.RemoveObserver(tag),
            "Modified": lambda self: self.parameterNode.Modified(),
            "__setattr__": set_attribute,
        },
    )
    cls.__init__ = init  # type: ignore[misc]
    return cls


def _connect_gui(self: Any, gui: Any) -> int:
    """Bind every widget that has the property SlicerParameterName; `gui` is a widget or what holds widgets."""
    is_widget = getattr(gui, "isWidgetType", lambda: False)()
    widgets = gui.findChildren(qt.QWidget) if is_widget else vars(gui).values()
    mapping: dict[str, Any] = {}
    for widget in widgets:
        name = widget.property(SlicerParameterNamePropertyName)
        if not name:
            continue
        if name in mapping:
            raise ValueError(f"Two widgets have the SlicerParameterName {name!r}; Slicer would bind one of them")
        mapping[name] = widget
    return _connect_parameters_to_gui(self, mapping)


def _connect_parameters_to_gui(self: Any, mapping: dict[str, Any]) -> int:
    state = self._state
    connectors = {name: make_connector(widget, self.dataType(name)) for name, widget in mapping.items()}
    tag = state.next_tag
    state.next_tag += 1
    state.guis[tag] = connectors
    for name, connector in connectors.items():
        connector.write(self.getValue(name))
        connector.connect(_gui_to_parameter(self, name, connector))
    # As in Slicer this observer stays until the node goes; without bound widgets it does nothing. In Slicer it also
    # keeps the wrapper alive; here the bound widgets do.
    this = weakref.ref(self)
    self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: _parameters_to_gui(this()))
    return tag


def _disconnect_gui(self: Any, guiTag: int | None) -> None:
    for connector in self._state.guis.pop(guiTag, {}).values():
        connector.disconnect()


def _gui_to_parameter(wrapper: Any, name: str, connector: Connector) -> Callable[[], None]:
    def changed() -> None:
        with slicer.util.NodeModify(wrapper):
            if not wrapper._state.updating_gui:
                wrapper.setValue(name, connector.read())

    return changed


def _parameters_to_gui(wrapper: Any) -> None:
    if wrapper is None or wrapper._state.updating_gui:
        return
    state = wrapper._state
    state.updating_gui = True
    try:
        with slicer.util.NodeModify(wrapper):
            for connectors in list(state.guis.values()):
                for name, connector in connectors.items():
                    connector.write(wrapper.getValue(name))
    finally:
        state.updating_gui = False


def findChildWidgetForParameter(widget: Any, parameter: str) -> Any:
    for child in widget.findChildren(qt.QWidget):
        if child.property(SlicerParameterNamePropertyName) == parameter:
            return child
    return None
