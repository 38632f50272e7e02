"""Interpreter of Qt Designer's .ui files: the widgets it makes are those of the host, not of QUiLoader.

It is stricter than Qt's loader, which ignores what it does not know: an unknown class, property, enumerator, XML
element, or a connection that fails raises `UiError` with the file and the object concerned.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from . import generated, pythonqt
from .natives import Native

_QT = pythonqt.make_qt_module()


class UiError(ValueError):
    """A .ui file that Slicer would load with something missing."""


def load_ui(path: Path | str) -> Any:
    """Return the top-level widget described by a .ui file."""
    return _Interpreter(Path(path)).top


class QUiLoader:
    """The part of ``qt.QUiLoader`` that ``slicer.util.loadUI`` calls."""

    def load(self, file: Any, parent: Any = None) -> Any:
        """Return the widget described by an opened ``qt.QFile``."""
        widget = load_ui(file.fileName())
        if parent is not None:
            widget.setParent(parent)
        return widget


class _Interpreter:
    def __init__(self, path: Path):
        self.path = path
        try:
            root = ET.parse(path).getroot()
        except ET.ParseError as error:
            raise UiError(f"{path}: not an XML file: {error}") from error
        self.objects: dict[str, Any] = {}
        self.later: list[Callable[[], None]] = []
        self.button_groups = {e.get("name"): e for e in root.findall("buttongroups/buttongroup")}
        self._check_children(
            root, "class widget customwidgets resources connections layoutdefault buttongroups tabstops author comment"
        )
        top = root.find("widget")
        if top is None:
            raise UiError(f"{path}: no widget")
        native_top = self.widget(top, None)
        for act in self.later:
            act()
        self.top = pythonqt.wrap(native_top)
        for connection in root.findall("connections/connection"):
            self.connect(connection)
        stops = [self.object(e.text) for e in root.findall("tabstops/tabstop")]
        for first, second in zip(stops, stops[1:], strict=False):
            QtWidgets.QWidget.setTabOrder(first, second)
        # Otherwise these would keep the widgets alive until the garbage collector comes.
        self.objects.clear()
        self.later.clear()

    def fail(self, message: str) -> UiError:
        return UiError(f"{self.path}: {message}")

    def _check_children(self, element: ET.Element, known: str) -> None:
        for child in element:
            if child.tag not in known.split():
                raise self.fail(f"<{child.tag}> in <{element.tag}> {element.get('name', '')} is not understood")

    def object(self, name: str | None) -> Any:
        if name not in self.objects:
            raise self.fail(f"no object named {name}")
        return self.objects[name]

    def class_of(self, name: str) -> type[pythonqt.Proxy]:
        found = generated.CLASSES.get(name) or getattr(_QT, name, None)
        if found is None or not issubclass(found._native.native_class, QtCore.QObject):
            raise self.fail(f"class {name} is unknown")
        if name in generated.CLASSES and not found._native.surface[0].get("designer_plugin"):
            raise self.fail(f"class {name} cannot be used in a .ui file: it has no Qt Designer plugin")
        return found

    def create(self, class_name: str, element: ET.Element, parent: Any) -> Any:
        native = self.class_of(class_name)._native
        made = native.construct(native.native_class, () if parent is None else (parent,))
        name = element.get("name")
        if name:
            if name in self.objects:
                raise self.fail(f"two objects are named {name}")
            made.setObjectName(name)
            self.objects[name] = made
        return made

    # --- widgets

    def widget(self, element: ET.Element, parent: Any) -> Any:
        self._check_children(element, "property attribute layout widget item column row action addaction zorder")
        class_name = element.get("class", "")
        if not element.get("name"):
            raise self.fail(f"a {class_name} has no name, so no script can reach it")
        if class_name == "Line":
            made = self.line(element, parent)
        else:
            made = self.create(class_name, element, parent)
            self.properties(made, element)
        for child in element.findall("action"):
            self.properties(self.create("QAction", child, made), child)
        for child in element.findall("addaction"):
            self.later.append(partial(self.add_action, made, child.get("name")))
        for child in element.findall("widget"):
            self.contain(made, child, self.widget(child, made))
        for child in element.findall("layout"):
            self.layout(child, made)
        self.items(made, element)
        # Which page is shown, or item selected, can be set only now that they exist.
        self.properties(made, element, only=("currentIndex", "currentRow"))
        self.view_attributes(made, element)
        return made

    def add_action(self, widget: Any, name: str | None) -> None:
        widget.addAction(self.object(name))

    def add_to_group(self, button: Any, name: str) -> None:
        self.group(name).addButton(button)

    def line(self, element: ET.Element, parent: Any) -> Any:
        """Make a separator: a frame in .ui files has the class Line and an orientation."""
        made = self.create("QFrame", element, parent)
        values = {p.get("name"): p for p in element.findall("property")}
        orientation = values.pop("orientation", None)
        vertical = orientation is not None and (orientation.findtext("enum") or "").endswith("Vertical")
        made.setFrameShape(QtWidgets.QFrame.Shape.VLine if vertical else QtWidgets.QFrame.Shape.HLine)
        made.setFrameShadow(QtWidgets.QFrame.Shadow.Sunken)
        for prop in values.values():
            self.set_property(made, prop)
        return made

    def contain(self, container: Any, element: ET.Element, child: Any) -> None:
        """Put a child into containers that manage pages themselves."""
        attributes = {a.get("name"): self.value(a) for a in element.findall("attribute")}
        if isinstance(container, QtWidgets.QTabWidget):
            index = container.addTab(child, attributes.get("icon") or QtGui.QIcon(), attributes.get("title", ""))
            container.setTabToolTip(index, attributes.get("toolTip", ""))
        elif isinstance(container, QtWidgets.QToolBox):
            container.addItem(child, attributes.get("label", ""))
        elif isinstance(container, QtWidgets.QStackedWidget | QtWidgets.QSplitter):
            container.addWidget(child)
        elif isinstance(container, QtWidgets.QScrollArea | QtWidgets.QDockWidget):
            container.setWidget(child)
        elif isinstance(container, QtWidgets.QMainWindow | QtWidgets.QMdiArea | QtWidgets.QWizard):
            raise self.fail(f"children of a {type(container).__name__} are not understood")

    def view_attributes(self, made: Any, element: ET.Element) -> None:
        for attribute in element.findall("attribute"):
            name = attribute.get("name", "")
            if name == "buttonGroup":
                self.later.append(partial(self.add_to_group, made, self.value(attribute)))
            for header in ("horizontalHeader", "verticalHeader", "header"):
                if name.startswith(header) and hasattr(made, header):
                    prop = name.removeprefix(header)
                    self.write(getattr(made, header)(), prop[0].lower() + prop[1:], self.value(attribute))

    def group(self, name: str) -> QtWidgets.QButtonGroup:
        if name not in self.objects:
            if name not in self.button_groups:
                raise self.fail(f"no button group named {name}")
            element = self.button_groups[name]
            top = next(iter(self.objects.values()))
            self.properties(self.create("QButtonGroup", element, top), element)
        return self.objects[name]

    def items(self, made: Any, element: ET.Element) -> None:
        texts = {tag: [self.texts(e) for e in element.findall(tag)] for tag in ("column", "row")}
        if isinstance(made, QtWidgets.QTableWidget):
            made.setColumnCount(max(made.columnCount(), len(texts["column"])))
            made.setRowCount(max(made.rowCount(), len(texts["row"])))
            made.setHorizontalHeaderLabels([t.get("text", "") for t in texts["column"]])
            made.setVerticalHeaderLabels([t.get("text", "") for t in texts["row"]])
            for index, column in enumerate(texts["column"]):
                made.horizontalHeaderItem(index).setToolTip(column.get("toolTip", ""))
            for item in element.findall("item"):
                text = self.texts(item).get("text", "")
                made.setItem(int(item.get("row", 0)), int(item.get("column", 0)), QtWidgets.QTableWidgetItem(text))
        elif isinstance(made, QtWidgets.QTreeWidget):
            made.setHeaderLabels([t.get("text", "") for t in texts["column"]])
            if element.findall("item"):
                raise self.fail("items of a tree widget are not understood")
        elif isinstance(made, QtWidgets.QComboBox | QtWidgets.QListWidget):
            for item in element.findall("item"):
                made.addItem(self.texts(item).get("text", ""))
        elif element.findall("item") or texts["column"] or texts["row"]:
            raise self.fail(f"items of {type(made).__name__} {made.objectName()} are not understood")

    def texts(self, element: ET.Element) -> dict[str | None, Any]:
        return {p.get("name"): self.value(p) for p in element.findall("property")}

    # --- layouts

    def layout(self, element: ET.Element, parent: Any) -> Any:
        self._check_children(element, "property item")
        made = self.create(element.get("class", ""), element, parent)
        sides = ("leftMargin", "topMargin", "rightMargin", "bottomMargin")
        margins = made.contentsMargins()
        numbers = [margins.left(), margins.top(), margins.right(), margins.bottom()]
        for prop in element.findall("property"):
            name = prop.get("name")
            if name in sides:
                numbers[sides.index(name)] = self.value(prop)
            elif name == "margin":
                numbers = [self.value(prop)] * 4
            else:
                self.set_property(made, prop)
        made.setContentsMargins(*numbers)
        for item in element.findall("item"):
            self.layout_item(made, item)
        for attribute, setter in (
            ("stretch", "setStretch"),
            ("rowstretch", "setRowStretch"),
            ("columnstretch", "setColumnStretch"),
            ("rowminimumheight", "setRowMinimumHeight"),
            ("columnminimumwidth", "setColumnMinimumWidth"),
        ):
            for index, number in enumerate((element.get(attribute) or "").split(",")):
                if number:
                    getattr(made, setter)(index, int(number))
        return made

    def layout_item(self, layout: Any, item: ET.Element) -> None:
        self._check_children(item, "widget layout spacer")
        described = item[0]
        owner = layout.parentWidget()
        if described.tag == "widget":
            content = self.widget(described, owner)
        elif described.tag == "layout":
            content = self.layout(described, None)
        else:
            content = self.spacer(described)
        row, column = int(item.get("row", 0)), int(item.get("column", 0))
        if isinstance(layout, QtWidgets.QFormLayout):
            role = QtWidgets.QFormLayout.ItemRole.LabelRole if column == 0 else QtWidgets.QFormLayout.ItemRole.FieldRole
            if int(item.get("colspan", 1)) > 1:
                role = QtWidgets.QFormLayout.ItemRole.SpanningRole
            put = {"widget": layout.setWidget, "layout": layout.setLayout, "spacer": layout.setItem}[described.tag]
            put(row, role, content)
            return
        place: tuple = ()
        if isinstance(layout, QtWidgets.QGridLayout):
            place = (row, column, int(item.get("rowspan", 1)), int(item.get("colspan", 1)))
        {"widget": layout.addWidget, "layout": layout.addLayout, "spacer": layout.addItem}[described.tag](
            content, *place
        )
        if item.get("alignment"):
            layout.setAlignment(content, self.enumerators(item.get("alignment", "")))

    def spacer(self, element: ET.Element) -> QtWidgets.QSpacerItem:
        values = self.texts(element)
        policy = QtWidgets.QSizePolicy.Policy
        size, kind = values.get("sizeHint", QtCore.QSize(0, 0)), values.get("sizeType", policy.Expanding)
        if values.get("orientation") == QtCore.Qt.Orientation.Vertical:
            return QtWidgets.QSpacerItem(size.width(), size.height(), policy.Minimum, kind)
        return QtWidgets.QSpacerItem(size.width(), size.height(), kind, policy.Minimum)

    # --- properties

    def properties(self, made: Any, element: ET.Element, only: tuple[str, ...] = ()) -> None:
        for prop in element.findall("property"):
            if not only or prop.get("name") in only:
                self.set_property(made, prop)

    def set_property(self, made: Any, prop: ET.Element) -> None:
        name = prop.get("name", "")
        value = self.value(prop)
        if name == "buddy" and isinstance(made, QtWidgets.QLabel):
            self.later.append(lambda: made.setBuddy(self.object(value)))
        elif name == "geometry" and made.parent() is None:
            made.resize(value.size())
        elif prop.get("stdset") == "0" and self.native(made).find_property(name) is None:
            made.setProperty(name, value)
        else:
            self.write(made, name, value)

    def native(self, made: Any) -> Native:
        return type(pythonqt.wrap(made))._native

    def write(self, made: Any, name: str, value: Any) -> None:
        native = self.native(made)
        described = native.find_property(name)
        where = f"{native.name} {made.objectName()}"
        if described is None or described.write is None:
            raise self.fail(f"{where} has no property {name} that can be set")
        try:
            accepted = described.write(made, pythonqt.convert_to_property(native, described, pythonqt.wrap(value)))
        except AttributeError as error:
            raise self.fail(f"{where}: {error}") from error
        if not accepted:
            raise self.fail(f"{where}: property {name} does not accept {value!r}")

    def value(self, prop: ET.Element) -> Any:
        """Return the typed value of a <property> or <attribute>."""
        element = prop[0]
        text = element.text or ""
        plain: dict[str, Callable[[str], Any]] = {
            "string": str,
            "cstring": str,
            "bool": lambda t: t == "true",
            "number": int,
            "double": float,
            "enum": self.enumerators,
            "set": self.enumerators,
            "pixmap": QtGui.QPixmap,
            "cursorShape": lambda t: QtGui.QCursor(QtCore.Qt.CursorShape[t]),
        }
        if element.tag in plain:
            return plain[element.tag](text)
        number = {child.tag: int(child.text or 0) for child in element if (child.text or "").lstrip("-").isdigit()}
        if element.tag == "size":
            return QtCore.QSize(number["width"], number["height"])
        if element.tag == "point":
            return QtCore.QPoint(number["x"], number["y"])
        if element.tag == "rect":
            return QtCore.QRect(number["x"], number["y"], number["width"], number["height"])
        if element.tag == "color":
            return QtGui.QColor(number["red"], number["green"], number["blue"], int(element.get("alpha", 255)))
        if element.tag == "stringlist":
            return [child.text or "" for child in element.findall("string")]
        if element.tag == "sizepolicy":
            policy = QtWidgets.QSizePolicy(
                QtWidgets.QSizePolicy.Policy[element.get("hsizetype", "Preferred")],
                QtWidgets.QSizePolicy.Policy[element.get("vsizetype", "Preferred")],
            )
            policy.setHorizontalStretch(number.get("horstretch", 0))
            policy.setVerticalStretch(number.get("verstretch", 0))
            return policy
        if element.tag == "font":
            return self.font(element)
        if element.tag == "iconset":
            return self.icon(element)
        raise self.fail(f"value <{element.tag}> of {prop.get('name')} is not understood")

    def font(self, element: ET.Element) -> QtGui.QFont:
        font = QtGui.QFont()
        setters = {"bold": font.setBold, "italic": font.setItalic, "underline": font.setUnderline}
        for child in element:
            text = child.text or ""
            if child.tag in setters:
                setters[child.tag](text == "true")
            elif child.tag == "pointsize":
                font.setPointSize(int(text))
            elif child.tag == "family":
                font.setFamily(text)
            elif child.tag not in ("weight", "fontweight"):  # both only repeat <bold>
                raise self.fail(f"font value <{child.tag}> is not understood")
        return font

    def icon(self, element: ET.Element) -> QtGui.QIcon:
        """Return an icon; one from Slicer's compiled resources, ``:/...``, is empty here."""
        path = (element.findtext("normaloff") or element.text or "").strip()
        if not path.startswith(":/") and not (self.path.parent / path).is_file():
            raise self.fail(f"icon file {path} does not exist")
        return QtGui.QIcon(path if path.startswith(":/") else str(self.path.parent / path))

    def enumerators(self, text: str) -> Any:
        """Return the value of ``Scope::Key|Scope::Key``."""
        values = []
        for part in text.split("|"):
            scope, separator, key = part.partition("::")
            found = generated.CLASSES.get(scope) or getattr(_QT, scope, None) if separator else None
            value = found._native.find_enumerator(key) if found else None
            if value is None:
                raise self.fail(f"enumerator {part} is unknown")
            values.append(value.native())
        combined = values[0]
        for value in values[1:]:
            combined |= value
        return combined

    # --- connections

    def connect(self, element: ET.Element) -> None:
        sender, receiver = (pythonqt.wrap(self.object(element.findtext(tag))) for tag in ("sender", "receiver"))
        signal, slot = element.findtext("signal", ""), element.findtext("slot", "")
        if not sender.connect(signal, receiver, slot):
            raise self.fail(f"cannot connect {sender.name}.{signal} to {receiver.name}.{slot}")
