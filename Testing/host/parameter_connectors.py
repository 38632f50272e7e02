"""Connections between a parameter and a widget: one connector per widget class and type, as in Slicer."""

from __future__ import annotations

import enum
import logging
import typing
from collections.abc import Callable
from typing import Any

import ctk
import qt
import slicer

from .parameter_annotations import (
    Choice,
    Decimals,
    Maximum,
    Minimum,
    RangeBounds,
    SingleStep,
    WithinRange,
    find_annotation,
    split_hint,
)
from .parameter_codecs import PATH_TYPES
from .parameter_packs import FloatRange


class Connector:
    signal = "valueChanged"

    def __init__(self, widget: Any, type_: Any, annotations: list) -> None:
        self.widget = widget
        self.type = type_
        self._callback: Callable[[], None] | None = None
        self.prepare(annotations)

    def prepare(self, annotations: list) -> None:
        """Give the widget the limits and items that the type asks for; what the .ui said is lost."""

    def read(self) -> Any:
        return self.widget.value

    def write(self, value: Any) -> None:
        self.widget.value = value

    def changed(self) -> None:
        if self._callback is not None:
            self._callback()

    def connect(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        getattr(self.widget, self.signal).connect(self.changed)

    def disconnect(self) -> None:
        self._callback = None
        getattr(self.widget, self.signal).disconnect(self.changed)


class _Check(Connector):
    signal = "toggled"

    def prepare(self, annotations: list) -> None:
        if not self.widget.checkable:
            logging.warning("Making push button %s checkable for conversion to bool", self.widget.objectName)
            self.widget.checkable = True

    def read(self) -> bool:
        return self.widget.checked

    def write(self, value: bool) -> None:
        self.widget.checked = value


class _Number(Connector):
    must_be_bounded = False
    unbounded: tuple[float, float] = (float("-inf"), float("inf"))

    def prepare(self, annotations: list) -> None:
        decimals, step = find_annotation(annotations, Decimals), find_annotation(annotations, SingleStep)
        if decimals is not None:
            self.widget.decimals = decimals.value
        if step is not None:
            self.widget.singleStep = step.value
        within = find_annotation(annotations, WithinRange)
        low, high = within or find_annotation(annotations, Minimum), within or find_annotation(annotations, Maximum)
        if self.must_be_bounded and (low is None or high is None):
            raise RuntimeError(f"Cannot connect a {type(self.widget).__name__} to a number without a range")
        self.widget.minimum = self.unbounded[0] if low is None else low.minimum
        self.widget.maximum = self.unbounded[1] if high is None else high.maximum

    def read(self) -> Any:
        return self.type(self.widget.value)


class _BoundedNumber(_Number):
    must_be_bounded = True


class _Integer(_Number):
    unbounded = (-(2**31), 2**31 - 1)


class _BoundedInteger(_Integer):
    must_be_bounded = True


class _Combo(Connector):
    signal = "currentIndexChanged"

    def prepare(self, annotations: list) -> None:
        choice = find_annotation(annotations, Choice)
        if isinstance(self.type, type) and issubclass(self.type, enum.Enum):
            label = getattr(self.type, "label", lambda member: member.name)
            self.choices = list(self.type)
            labels = [label(member) for member in self.choices]
        elif choice is not None:
            self.choices = list(choice.choices)
            labels = [str(item) for item in self.choices]
        else:
            raise RuntimeError("A combo box needs the Choice annotation or an Enum")
        self.widget.clear()
        for text in labels:
            self.widget.addItem(text)

    def read(self) -> Any:
        return self.choices[self.widget.currentIndex]

    def write(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"Unable to find value {value} in choices {self.choices}")
        self.widget.currentIndex = self.choices.index(value)


class _Line(Connector):
    signal = "textChanged"

    def read(self) -> str:
        return self.widget.text

    def write(self, value: str) -> None:
        self.widget.text = value


class _Label(_Line):
    """One way: a label shows the parameter."""

    def connect(self, callback: Callable[[], None]) -> None:
        pass

    def disconnect(self) -> None:
        pass


class _Text(Connector):
    signal = "textChanged"

    def read(self) -> str:
        return self.widget.toPlainText()

    def write(self, value: str) -> None:
        self.widget.setPlainText(value)


class _Path(Connector):
    signal = "currentPathChanged"

    def read(self) -> Any:
        return self.type(self.widget.currentPath)

    def write(self, value: Any) -> None:
        self.widget.currentPath = str(value)


class _Directory(Connector):
    signal = "directoryChanged"

    def read(self) -> Any:
        return self.type(self.widget.directory)

    def write(self, value: Any) -> None:
        self.widget.directory = str(value)


class _Range(Connector):
    signal = "valuesChanged"

    def prepare(self, annotations: list) -> None:
        decimals, step = find_annotation(annotations, Decimals), find_annotation(annotations, SingleStep)
        bounds = find_annotation(annotations, RangeBounds)
        if bounds is None:
            raise RuntimeError(f"Cannot connect a {type(self.widget).__name__} without the RangeBounds annotation")
        if decimals is not None:
            self.widget.decimals = decimals.value
        if step is not None:
            self.widget.singleStep = step.value
        self.widget.setRange(bounds.minimum, bounds.maximum)

    def read(self) -> FloatRange:
        return FloatRange(self.widget.minimumValue, self.widget.maximumValue)

    def write(self, value: FloatRange) -> None:
        self.widget.setValues(value.minimum, value.maximum)


class _Node(Connector):
    signal = "currentNodeChanged"

    def prepare(self, annotations: list) -> None:
        self.widget.nodeTypes = [node_type.__name__ for node_type in _node_types(self.type)]

    def read(self) -> Any:
        return self.widget.currentNode()

    def write(self, value: Any) -> None:
        self.widget.setCurrentNode(value)


def _node_types(type_: Any) -> list[type]:
    """Return the node classes of a hint, or nothing if it is about something else."""
    members = typing.get_args(type_) if typing.get_origin(type_) is typing.Union else (type_,)
    nodes = [split_hint(member)[0] for member in members if member is not type(None)]
    return nodes if all(isinstance(node, type) and issubclass(node, slicer.vtkMRMLNode) for node in nodes) else []


def make_connector(widget: Any, datatype: Any) -> Connector:
    type_, annotations = split_hint(datatype)
    connector = _connector_class(type(widget), type_)
    if connector is None:
        raise RuntimeError(
            f"Unable to create GUI connector from datatype '{datatype}' to widget type '{type(widget).__name__}'"
        )
    return connector(widget, type_, annotations)


def _connector_class(widget_class: type, type_: Any) -> type[Connector] | None:
    """Return the connector for exactly this widget class and type; a subclass of a known widget is unknown."""
    is_enum = isinstance(type_, type) and issubclass(type_, enum.Enum)
    if widget_class in (qt.QComboBox, ctk.ctkComboBox) and (is_enum or type_ in (int, float, str, bool)):
        return _Combo
    if widget_class is slicer.qMRMLNodeComboBox and _node_types(type_):
        return _Node
    if type_ in PATH_TYPES:
        return {ctk.ctkPathLineEdit: _Path, ctk.ctkDirectoryButton: _Directory}.get(widget_class)
    if type_ is bool:
        buttons = (qt.QCheckBox, ctk.ctkCheckBox, qt.QPushButton, ctk.ctkCheckablePushButton)
        return _Check if widget_class in buttons else None
    if type_ is str:
        return {qt.QLineEdit: _Line, qt.QTextEdit: _Text, qt.QLabel: _Label}.get(widget_class)
    if type_ is FloatRange:
        ranges = (ctk.ctkRangeWidget, ctk.ctkDoubleRangeSlider, slicer.qMRMLRangeWidget)
        return _Range if widget_class in ranges else None
    if type_ is int and widget_class in (qt.QSlider, qt.QSpinBox):
        return _BoundedInteger if widget_class is qt.QSlider else _Integer
    if type_ in (int, float):
        if widget_class in (ctk.ctkSliderWidget, slicer.qMRMLSliderWidget, ctk.ctkDoubleSlider):
            return _BoundedNumber
        if widget_class in (qt.QDoubleSpinBox, ctk.ctkDoubleSpinBox, slicer.qMRMLSpinBox):
            return _Number
    return None
