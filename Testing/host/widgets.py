"""Look-alikes of CTK's input widgets: real Qt widgets off-screen, with the values and signals of the originals."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Qt

from .look_alike import LookAlike
from .pythonqt import report_error


def row(parent: QtWidgets.QWidget, *children: QtWidgets.QWidget) -> QtWidgets.QHBoxLayout:
    """Lay children out in a row that fills the parent."""
    layout = QtWidgets.QHBoxLayout(parent)
    layout.setContentsMargins(0, 0, 0, 0)
    for child in children:
        layout.addWidget(child)
    return layout


def needs_a_person() -> RuntimeError:
    """Return the error for a dialog that nobody could answer."""
    return RuntimeError("this dialog waits for a person: replace the call in the test")


# --- sections --------------------------------------------------------------------------------------------------------


class _Collapsing(LookAlike):
    """A widget that hides its children while collapsed, and remembers which of them should be visible."""

    _is_collapsed = False
    _forcing = False

    def collapsed(self) -> bool:
        return self._is_collapsed

    def setCollapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    def collapse(self, collapsed: bool) -> None:
        if collapsed == self._is_collapsed:
            return
        self._is_collapsed = collapsed
        self._show_children()
        self.updateGeometry()
        self.update()

    def _show_children(self) -> None:
        for child in self.findChildren(QtWidgets.QWidget, options=Qt.FindChildOption.FindDirectChildrenOnly):
            if child.property("visibilityToParent") is None:
                explicit = child.testAttribute(Qt.WidgetAttribute.WA_WState_ExplicitShowHide)
                child.setProperty("visibilityToParent", not (explicit and child.isHidden()))
                child.installEventFilter(self)
            self._forcing = True
            child.setVisible(not self._is_collapsed and child.property("visibilityToParent"))
            self._forcing = False

    def event(self, event: QtCore.QEvent) -> bool:
        if event.type() in (QtCore.QEvent.Type.LayoutRequest, QtCore.QEvent.Type.Polish) and self._is_collapsed:
            self._show_children()
        return super().event(event)

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:
        kinds = {QtCore.QEvent.Type.ShowToParent: True, QtCore.QEvent.Type.HideToParent: False}
        if event.type() in kinds and not self._forcing and watched.parent() is self:
            watched.setProperty("visibilityToParent", kinds[event.type()])
            if self._is_collapsed and kinds[event.type()]:
                self._show_children()
        return False


class ctkCollapsibleButton(_Collapsing, QtWidgets.QAbstractButton):
    """A header with an arrow, and below it children that it shows or hides; `checked` is the opposite of collapsed."""

    defaults = {"collapsedHeight": 10, "contentsLineWidth": 1}

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self.setCheckable(True)
        self.setChecked(True)
        policy = QtWidgets.QSizePolicy.Policy
        self.setSizePolicy(policy.Minimum, policy.Preferred)
        self.setContentsMargins(0, self._header_height(), 0, 0)
        self.setBackgroundRole(QtGui.QPalette.ColorRole.Window)
        self.toggled.connect(self._on_toggled)

    def _on_toggled(self, checked: bool) -> None:
        self.collapse(not checked)
        self.emit_signal("contentsCollapsed(bool)", not checked)

    def _header_height(self) -> int:
        return self.fontMetrics().height() + 10

    def sizeHint(self) -> QtCore.QSize:
        header = QtCore.QSize(self.fontMetrics().horizontalAdvance(self.text()) + 40, self._header_height())
        if self._is_collapsed or self.layout() is None:
            return header
        return self.layout().totalSizeHint().expandedTo(header)

    def minimumSizeHint(self) -> QtCore.QSize:
        return self.sizeHint()

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return position.y() < self._header_height()

    def paintEvent(self, _event: QtGui.QPaintEvent) -> None:
        try:
            painter = QtGui.QPainter(self)
            header = QtCore.QRect(0, 0, self.width(), self._header_height())
            shade = self.palette().color(QtGui.QPalette.ColorRole.Button).darker(108)
            painter.fillRect(header.adjusted(0, 1, 0, -1), shade)
            option = QtWidgets.QStyleOption()
            option.initFrom(self)
            option.rect = QtCore.QRect(6, header.height() // 2 - 6, 12, 12)
            primitive = QtWidgets.QStyle.PrimitiveElement
            arrow = primitive.PE_IndicatorArrowRight if self._is_collapsed else primitive.PE_IndicatorArrowDown
            self.style().drawPrimitive(arrow, option, painter, self)
            flags = Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextShowMnemonic
            self.style().drawItemText(
                painter,
                header.adjusted(24, 0, -6, 0),
                flags,
                self.palette(),
                self.isEnabled(),
                self.text(),
                QtGui.QPalette.ColorRole.ButtonText,
            )
            painter.end()
        except Exception as error:
            report_error(error)


class ctkCollapsibleGroupBox(_Collapsing, QtWidgets.QGroupBox):
    """A group box whose check mark shows or hides its contents."""

    defaults = {"collapsedHeight": 14}

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(self._on_toggled)

    def _on_toggled(self, checked: bool) -> None:
        self.collapse(not checked)


# --- numbers ---------------------------------------------------------------------------------------------------------


class ctkDoubleSpinBox(LookAlike, QtWidgets.QWidget):
    """A spin box for a real number, rounded to its decimals."""

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._box = QtWidgets.QDoubleSpinBox(self)
        row(self, self._box)
        self._box.valueChanged.connect(self._on_value_changed)
        self._box.editingFinished.connect(self._on_editing_finished)

    def _on_value_changed(self, value: float) -> None:
        self.emit_signal("valueChanged(double)", value)
        self.emit_signal("valueChanged(QString)", self._box.text())

    def _on_editing_finished(self) -> None:
        self.emit_signal("editingFinished()")

    def value(self) -> float:
        return self._box.value()

    def setValue(self, value: float) -> None:
        self._box.setValue(value)

    def setValueIfDifferent(self, value: float) -> None:
        self._box.setValue(value)

    def stepUp(self) -> None:
        self._box.stepUp()

    def stepDown(self) -> None:
        self._box.stepDown()

    def minimum(self) -> float:
        return self._box.minimum()

    def setMinimum(self, minimum: float) -> None:
        self._box.setMinimum(minimum)

    def maximum(self) -> float:
        return self._box.maximum()

    def setMaximum(self, maximum: float) -> None:
        self._box.setMaximum(maximum)

    def singleStep(self) -> float:
        return self._box.singleStep()

    def setSingleStep(self, step: float) -> None:
        self._box.setSingleStep(step)

    def decimals(self) -> int:
        return self._box.decimals()

    def setDecimals(self, decimals: int) -> None:
        if decimals != self._box.decimals():
            self._box.setDecimals(decimals)
            self.emit_signal("decimalsChanged(int)", decimals)

    def prefix(self) -> str:
        return self._box.prefix()

    def setPrefix(self, prefix: str) -> None:
        self._box.setPrefix(prefix)

    def suffix(self) -> str:
        return self._box.suffix()

    def setSuffix(self, suffix: str) -> None:
        self._box.setSuffix(suffix)

    def cleanText(self) -> str:
        return self._box.cleanText()

    def isReadOnly(self) -> bool:
        return self._box.isReadOnly()

    def setReadOnly(self, read_only: bool) -> None:
        self._box.setReadOnly(read_only)


class ctkDoubleSlider(LookAlike, QtWidgets.QWidget):
    """A slider for a real number."""

    defaults = {"tracking": True}
    _STEPS = 1000

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._numbers = {"minimum": 0.0, "maximum": 99.0, "value": 0.0, "singleStep": 1.0, "pageStep": 10.0}
        self._slider = QtWidgets.QSlider(Qt.Orientation.Horizontal, self)
        self._slider.setRange(0, self._STEPS)
        row(self, self._slider)
        self._slider.sliderMoved.connect(self._on_slider_moved)

    def _on_slider_moved(self, position: int) -> None:
        minimum, maximum = self.minimum(), self.maximum()
        self.setValue(minimum + position / self._STEPS * (maximum - minimum))

    def value(self) -> float:
        return self._numbers["value"]

    def setValue(self, value: float) -> None:
        value = min(max(value, self.minimum()), self.maximum())
        changed = value != self.value()
        self._numbers["value"] = value
        width = self.maximum() - self.minimum()
        self._slider.setSliderPosition(round((value - self.minimum()) / width * self._STEPS) if width else 0)
        if changed:
            self.emit_signal("valueChanged(double)", value)

    def minimum(self) -> float:
        return self._numbers["minimum"]

    def setMinimum(self, minimum: float) -> None:
        self.setRange(minimum, max(minimum, self.maximum()))

    def maximum(self) -> float:
        return self._numbers["maximum"]

    def setMaximum(self, maximum: float) -> None:
        self.setRange(min(maximum, self.minimum()), maximum)

    def setRange(self, minimum: float, maximum: float) -> None:
        if (minimum, maximum) != (self.minimum(), self.maximum()):
            self._numbers |= {"minimum": minimum, "maximum": maximum}
            self.emit_signal("rangeChanged(double,double)", minimum, maximum)
        self.setValue(self.value())

    def singleStep(self) -> float:
        return self._numbers["singleStep"]

    def setSingleStep(self, step: float) -> None:
        self._numbers["singleStep"] = step

    def pageStep(self) -> float:
        return self._numbers["pageStep"]

    def setPageStep(self, step: float) -> None:
        self._numbers["pageStep"] = step


class ctkSliderWidget(LookAlike, QtWidgets.QWidget):
    """A slider and a spin box for one real number; siblings share the number of decimals unless told not to."""

    defaults = {"tracking": True, "spinBoxVisible": True, "synchronizeSiblings": 6}
    _SYNCHRONIZE_DECIMALS = 4

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._slider, self._box = ctkDoubleSlider(self), ctkDoubleSpinBox(self)
        self._slider.setRange(self._box.minimum(), self._box.maximum())
        row(self, self._slider, self._box).setStretch(0, 1)
        self.listen(self._box, "valueChanged(double)", "_on_box_changed")
        self.listen(self._slider, "valueChanged(double)", "_on_slider_changed")

    def _on_slider_changed(self, value: float) -> None:
        self._box.setValue(value)

    def _on_box_changed(self, value: float) -> None:
        self._slider.setValue(value)
        if not self.stored("tracking"):
            self.emit_signal("valueIsChanging(double)", value)
        self.emit_signal("valueChanged(double)", value)

    def property_changed(self, name: str) -> None:
        if name == "spinBoxVisible":
            self._box.setVisible(self.stored(name))

    def value(self) -> float:
        return self._box.value()

    def setValue(self, value: float) -> None:
        self._box.setValue(value)

    def reset(self) -> None:
        self.setValue(0.0)

    def minimum(self) -> float:
        return self._box.minimum()

    def setMinimum(self, minimum: float) -> None:
        self._set_range(minimum, max(minimum, self.maximum()))

    def maximum(self) -> float:
        return self._box.maximum()

    def setMaximum(self, maximum: float) -> None:
        self._set_range(min(maximum, self.minimum()), maximum)

    def _set_range(self, minimum: float, maximum: float) -> None:
        blocked = self._slider.blockSignals(True)
        self._slider.setRange(minimum, maximum)
        self._slider.blockSignals(blocked)
        self._box._box.setRange(minimum, maximum)

    def singleStep(self) -> float:
        return self._box.singleStep()

    def setSingleStep(self, step: float) -> None:
        self._box.setSingleStep(step)
        self._slider.setSingleStep(step)

    def pageStep(self) -> float:
        return self._slider.pageStep()

    def setPageStep(self, step: float) -> None:
        self._slider.setPageStep(step)

    def decimals(self) -> int:
        return self._box.decimals()

    def setDecimals(self, decimals: int) -> None:
        if decimals == self.decimals():
            return
        self._box.setDecimals(decimals)
        self.emit_signal("decimalsChanged(int)", decimals)
        parent = self.parentWidget()
        if parent is None or not self.stored("synchronizeSiblings") & self._SYNCHRONIZE_DECIMALS:
            return
        for sibling in parent.findChildren(ctkSliderWidget):
            if sibling.stored("synchronizeSiblings") & self._SYNCHRONIZE_DECIMALS:
                sibling._box.setDecimals(decimals)

    def prefix(self) -> str:
        return self._box.prefix()

    def setPrefix(self, prefix: str) -> None:
        self._box.setPrefix(prefix)

    def suffix(self) -> str:
        return self._box.suffix()

    def setSuffix(self, suffix: str) -> None:
        self._box.setSuffix(suffix)


class _Range(LookAlike):
    """Two ordered real numbers within a range; the base of range sliders and of the range widget."""

    def _start(self) -> None:
        self._low, self._high, self._low_value, self._high_value = 0.0, 99.0, 0.0, 99.0

    def minimum(self) -> float:
        return self._low

    def setMinimum(self, minimum: float) -> None:
        self.setRange(minimum, max(minimum, self._high))

    def maximum(self) -> float:
        return self._high

    def setMaximum(self, maximum: float) -> None:
        self.setRange(min(maximum, self._low), maximum)

    def setRange(self, minimum: float, maximum: float) -> None:
        if (minimum, maximum) != (self._low, self._high):
            self._low, self._high = minimum, maximum
            self.emit_signal("rangeChanged(double,double)", minimum, maximum)
        self.setValues(self._low_value, self._high_value)

    def minimumValue(self) -> float:
        return self._low_value

    def setMinimumValue(self, value: float) -> None:
        self.setValues(value, max(value, self._high_value))

    def maximumValue(self) -> float:
        return self._high_value

    def setMaximumValue(self, value: float) -> None:
        self.setValues(min(value, self._low_value), value)

    def setValues(self, low: float, high: float) -> None:
        low, high = sorted(min(max(v, self._low), self._high) for v in (low, high))
        before = self._low_value, self._high_value
        self._low_value, self._high_value = low, high
        self._show_values()
        if low != before[0]:
            self.emit_signal("minimumValueChanged(double)", low)
        if high != before[1]:
            self.emit_signal("maximumValueChanged(double)", high)
        if (low, high) != before:
            self.emit_signal("valuesChanged(double,double)", low, high)

    def _show_values(self) -> None:
        self.update()


class ctkDoubleRangeSlider(_Range, QtWidgets.QWidget):
    """A bar showing a range within a range."""

    defaults = {"tracking": True, "singleStep": 1.0}

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._start()
        self.setMinimumSize(80, 16)

    def paintEvent(self, _event: QtGui.QPaintEvent) -> None:
        try:
            scale = (self.width() - 9) / ((self._high - self._low) or 1.0)
            left, right = ((v - self._low) * scale + 4 for v in (self._low_value, self._high_value))
            painter = QtGui.QPainter(self)
            middle = self.height() // 2
            painter.fillRect(4, middle - 1, self.width() - 8, 3, self.palette().mid())
            painter.fillRect(QtCore.QRectF(left, middle - 1, right - left, 3), self.palette().highlight())
            for position in (left, right):
                painter.fillRect(QtCore.QRectF(position - 3, middle - 7, 6, 14), self.palette().dark())
            painter.end()
        except Exception as error:
            report_error(error)


class ctkRangeWidget(_Range, QtWidgets.QWidget):
    """Two spin boxes with a range bar between them."""

    defaults = {"tracking": True, "autoSpinBoxWidth": True}

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._start()
        self._boxes = [QtWidgets.QDoubleSpinBox(self), QtWidgets.QDoubleSpinBox(self)]
        self._bar = ctkDoubleRangeSlider(self)
        row(self, self._boxes[0], self._bar, self._boxes[1]).setStretch(1, 1)
        self._show_values()
        self._boxes[0].valueChanged.connect(self.setMinimumValue)
        self._boxes[1].valueChanged.connect(self.setMaximumValue)

    def setValues(self, low: float, high: float) -> None:
        super().setValues(round(low, self.decimals()), round(high, self.decimals()))

    def _show_values(self) -> None:
        for box, value in zip(self._boxes, (self._low_value, self._high_value), strict=True):
            blocked = box.blockSignals(True)
            box.setRange(self._low, self._high)
            box.setValue(value)
            box.blockSignals(blocked)
        self._bar.setRange(self._low, self._high)
        self._bar.setValues(self._low_value, self._high_value)

    def reset(self) -> None:
        self.setValues(0.0, 0.0)

    def decimals(self) -> int:
        return self._boxes[0].decimals()

    def setDecimals(self, decimals: int) -> None:
        for box in self._boxes:
            box.setDecimals(decimals)
        self.setValues(self._low_value, self._high_value)

    def singleStep(self) -> float:
        return self._boxes[0].singleStep()

    def setSingleStep(self, step: float) -> None:
        for box in self._boxes:
            box.setSingleStep(step)

    def prefix(self) -> str:
        return self._boxes[0].prefix()

    def setPrefix(self, prefix: str) -> None:
        for box in self._boxes:
            box.setPrefix(prefix)

    def suffix(self) -> str:
        return self._boxes[0].suffix()

    def setSuffix(self, suffix: str) -> None:
        for box in self._boxes:
            box.setSuffix(suffix)


# --- choices ---------------------------------------------------------------------------------------------------------


class ctkComboBox(LookAlike, QtWidgets.QComboBox):
    """A combo box with a text for the empty selection."""

    def property_changed(self, name: str) -> None:
        if name == "defaultText":
            self.setPlaceholderText(self.stored(name))

    def currentUserDataAsString(self) -> str:
        return str(self.currentData() or "")

    def setCurrentUserDataAsString(self, text: str) -> None:
        self.setCurrentIndex(self.findData(text))


class ctkCheckableComboBox(LookAlike, QtWidgets.QComboBox):
    """A combo box whose items can be checked; it shows the checked ones."""

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._states: list[Any] = []
        self.model().rowsInserted.connect(self._make_checkable)
        self.model().dataChanged.connect(self._on_data_changed)
        self.model().rowsRemoved.connect(self._on_data_changed)

    def _make_checkable(self, _parent: QtCore.QModelIndex, first: int, last: int) -> None:
        for index in range(first, last + 1):
            item = self.model().item(index)
            item.setCheckable(True)
            if item.data(Qt.ItemDataRole.CheckStateRole) is None:
                item.setCheckState(Qt.CheckState.Unchecked)

    def _on_data_changed(self, *_args: Any) -> None:
        states = [self.checkState(index) for index in self._indexes()]
        if states != self._states:
            self._states = states
            self.update()
            self.emit_signal("checkedIndexesChanged()")

    def _indexes(self) -> list[QtCore.QModelIndex]:
        return [self.model().index(i, 0) for i in range(self.count())]

    def checkableModel(self) -> QtCore.QAbstractItemModel:
        return self.model()

    def checkedIndexes(self) -> list[QtCore.QModelIndex]:
        return [index for index in self._indexes() if self.checkState(index) == Qt.CheckState.Checked]

    def allChecked(self) -> bool:
        return len(self.checkedIndexes()) == self.count()

    def noneChecked(self) -> bool:
        return not self.checkedIndexes()

    def checkState(self, index: QtCore.QModelIndex) -> Qt.CheckState:
        return Qt.CheckState(self.model().data(index, Qt.ItemDataRole.CheckStateRole) or 0)

    def setCheckState(self, index: QtCore.QModelIndex, state: Qt.CheckState) -> None:
        # The number, since PySide6 keeps an enum as a Python object that the view cannot draw.
        self.model().setData(index, Qt.CheckState(state).value, Qt.ItemDataRole.CheckStateRole)

    def paintEvent(self, _event: QtGui.QPaintEvent) -> None:
        try:
            painter = QtWidgets.QStylePainter(self)
            option = QtWidgets.QStyleOptionComboBox()
            self.initStyleOption(option)
            names = [self.itemText(index.row()) for index in self.checkedIndexes()]
            option.currentText = "All" if names and self.allChecked() else ", ".join(names) or "None"
            painter.drawComplexControl(QtWidgets.QStyle.ComplexControl.CC_ComboBox, option)
            painter.drawControl(QtWidgets.QStyle.ControlElement.CE_ComboBoxLabel, option)
            painter.end()
        except Exception as error:
            report_error(error)


class ctkColorPickerButton(LookAlike, QtWidgets.QPushButton):
    """A button showing a color and its name."""

    defaults = {"displayColorName": True}

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._color, self._name = QtGui.QColor(Qt.GlobalColor.black), ""
        self._show_color()

    def _show_color(self) -> None:
        swatch = QtGui.QPixmap(14, 14)
        swatch.fill(self._color)
        self.setIcon(QtGui.QIcon(swatch))
        self.setText((self._name or self._color.name()) if self.stored("displayColorName") else "")

    def property_changed(self, _name: str) -> None:
        self._show_color()

    def color(self) -> QtGui.QColor:
        return self._color

    def setColor(self, color: QtGui.QColor) -> None:
        if color == self._color:
            return
        self._color = QtGui.QColor(color)
        self._show_color()
        self.emit_signal("colorChanged(QColor)", self._color)

    def colorName(self) -> str:
        return self._name

    def setColorName(self, name: str) -> None:
        if name == self._name:
            return
        self._name = name
        self._show_color()
        self.emit_signal("colorNameChanged(QString)", name)

    def changeColor(self) -> None:
        raise needs_a_person()


# --- files -----------------------------------------------------------------------------------------------------------


class ctkPathLineEdit(LookAlike, QtWidgets.QWidget):
    """A line for a path, with a browse button; an empty text is not a valid path and emits no path."""

    _Filter = QtCore.QDir.Filter
    defaults = {
        "showBrowseButton": True,
        "showHistoryButton": True,
        "filters": _Filter.AllEntries | _Filter.NoDotAndDotDot | _Filter.Readable | _Filter.Executable,
    }

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._line = QtWidgets.QComboBox(self)
        self._line.setEditable(True)
        self._line.setInsertPolicy(QtWidgets.QComboBox.InsertPolicy.NoInsert)
        self._button = QtWidgets.QToolButton(self)
        self._button.setText("...")
        self._valid = False
        row(self, self._line, self._button).setSpacing(0)
        policy = QtWidgets.QSizePolicy.Policy
        self._line.setSizePolicy(policy.Expanding, policy.Fixed)
        self._line.lineEdit().textChanged.connect(self._on_text_changed)

    def _on_text_changed(self, text: str) -> None:
        filters = [p for f in self.stored("nameFilters") for p in f.rpartition("(")[2].rstrip(")").split()] or ["*"]
        valid = bool(text) and any(fnmatch.fnmatch(Path(text).name, pattern) for pattern in filters)
        if valid:
            self.emit_signal("currentPathChanged(QString)", text)
        if valid != self._valid:
            self._valid = valid
            self.emit_signal("validInputChanged(bool)", valid)

    def property_changed(self, name: str) -> None:
        if name == "showBrowseButton":
            self._button.setVisible(self.stored(name))

    def currentPath(self) -> str:
        return self._line.lineEdit().text()

    def setCurrentPath(self, path: str) -> None:
        self._line.lineEdit().setText(path)

    def comboBox(self) -> QtWidgets.QComboBox:
        return self._line

    def addCurrentPathToHistory(self) -> None:
        if self.currentPath() and self._line.findText(self.currentPath()) < 0:
            self._line.insertItem(0, self.currentPath())

    def browse(self) -> None:
        raise needs_a_person()


class ctkDirectoryButton(LookAlike, QtWidgets.QWidget):
    """A button showing a folder."""

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._directory = QtCore.QDir(".").absolutePath()
        self._button = QtWidgets.QPushButton(self._directory, self)
        self._button.setIcon(self.style().standardIcon(QtWidgets.QStyle.StandardPixmap.SP_DirIcon))
        row(self, self._button)

    def directory(self) -> str:
        return self._directory

    def setDirectory(self, directory: str) -> None:
        absolute = QtCore.QDir(directory).absolutePath()
        if absolute == self._directory:
            return
        self._directory = absolute
        self._button.setText(self.stored("text") or absolute)
        self.emit_signal("directoryChanged(QString)", absolute)

    def property_changed(self, name: str) -> None:
        if name == "text":
            self._button.setText(self.stored("text") or self._directory)

    def browse(self) -> str:
        raise needs_a_person()
