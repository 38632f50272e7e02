"""Look-alikes of Slicer's widgets that show nodes of a scene; they follow the scene through VTK observers."""

from __future__ import annotations

from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Qt
from vtkmodules.vtkCommonCore import vtkCommand

from .look_alike import LookAlike, Observers, WeakReference
from .widgets import ctkCollapsibleButton, ctkComboBox, ctkDoubleSpinBox, ctkRangeWidget, ctkSliderWidget, row

_Scene = slicer.vtkMRMLScene
_SCENE_EVENTS = (
    _Scene.NodeAddedEvent,
    _Scene.NodeRemovedEvent,
    _Scene.StartCloseEvent,
    _Scene.EndCloseEvent,
    _Scene.EndImportEvent,
    _Scene.EndRestoreEvent,
    _Scene.EndBatchProcessEvent,
)


class _InScene(LookAlike):
    """Something that is given a scene, which stays alive for as long as it is shown here."""

    _scene: Any = None

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        self._scene = scene
        self.scene_changed(scene)
        if "mrmlSceneChanged(vtkMRMLScene*)" in self.own_signals:
            self.emit_signal("mrmlSceneChanged(vtkMRMLScene*)", scene)

    def scene_changed(self, scene: Any) -> None:
        """React to another scene, None included; nothing by default."""


class qMRMLWidget(_InScene, QtWidgets.QWidget):
    """A widget that passes its scene on by a signal."""


class qSlicerWidget(_InScene, QtWidgets.QWidget):
    """The same for widgets of modules."""


class qMRMLCollapsibleButton(_InScene, ctkCollapsibleButton):
    """A section that passes its scene on."""


# --- node selectors --------------------------------------------------------------------------------------------------


class qMRMLNodeComboBox(_InScene, QtWidgets.QWidget):
    """A combo box of the nodes of a scene, filtered by class and attribute.

    Without a scene it is disabled. Where None is not allowed, the first node that appears becomes the current one;
    while a scene is being closed the current node is None.
    """

    defaults = {
        "nodeTypes": [],
        "showChildNodeTypes": True,
        "addEnabled": True,
        "removeEnabled": True,
        "selectNodeUponCreation": True,
        "noneDisplay": "None",
        "interactionNodeSingletonTag": "Singleton",
    }

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._attributes: list[tuple[str, str, Any]] = []
        self._labels: dict[str, str] = {}
        self._requested_id = ""
        self._current_id = ""
        self._scene_observers = Observers(self, "_refresh")
        self._node_observers = Observers(self, "_refresh")
        self._box = ctkComboBox(self)
        row(self, self._box)
        policy = QtWidgets.QSizePolicy.Policy
        self._box.setSizePolicy(policy.Expanding, policy.Fixed)
        self.setSizePolicy(policy.Preferred, policy.Fixed)
        self._box.currentIndexChanged.connect(self._on_index_changed)
        self._box.activated.connect(self._on_activated)
        self.setEnabled(False)

    # the list

    def scene_changed(self, scene: Any) -> None:
        self._scene_observers.release()
        self._scene_observers.observe(scene, *(_SCENE_EVENTS if scene is not None else ()))
        self.setEnabled(scene is not None)
        requested, self._requested_id = self._requested_id, ""
        self._refresh(requested)

    def property_changed(self, _name: str) -> None:
        self._refresh()

    def _nodes(self) -> list[Any]:
        scene = self.mrmlScene()
        if scene is None or scene.IsClosing():
            return []
        nodes = [scene.GetNthNode(i) for i in range(scene.GetNumberOfNodes())]
        return [node for node in nodes if self._accepts(node)]

    def _accepts(self, node: Any) -> bool:
        if node.GetHideFromEditors() and not self.stored("showHidden"):
            return False
        return any(self._accepts_as(node, kind) for kind in self.stored("nodeTypes"))

    def _accepts_as(self, node: Any, kind: str) -> bool:
        exact = node.GetClassName() == kind
        hidden = any(node.IsA(child) for child in self.stored("hideChildNodeTypes"))
        if not exact and (hidden or not self.stored("showChildNodeTypes") or not node.IsA(kind)):
            return False
        wanted = [(name, value) for of, name, value in self._attributes if of == kind]
        return all(
            node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name)) for name, value in wanted
        )

    def _refresh(self, wanted_id: str = "") -> None:
        """Fill the list again and keep, or choose, the current node."""
        before, index_before = self._current_id, self._box.currentIndex()
        nodes = self._nodes()
        blocked = self._box.blockSignals(True)
        self._box.clear()
        if self.stored("noneEnabled"):
            self._box.addItem(self.stored("noneDisplay"), "")
        for node in nodes:
            self._box.addItem(node.GetName() or node.GetID(), node.GetID())
        ids = [self._box.itemData(i) for i in range(self._box.count())]
        if wanted_id and wanted_id in ids:
            index = ids.index(wanted_id)
        elif before in ids:
            index = ids.index(before)
        elif before:  # the current node went away: Qt's combo box moves to the item above it
            index = min(max(index_before - 1, 0), len(ids) - 1)
        else:
            index = 0 if ids else -1
        self._box.setCurrentIndex(index)
        self._box.blockSignals(blocked)
        kinds = self.stored("nodeTypes")
        self._box.store("defaultText", f"Select a {self.nodeTypeLabel(kinds[0] if kinds else '')}")
        self._node_observers.release()
        for node in nodes:
            self._node_observers.observe(node, vtkCommand.ModifiedEvent)
        self._on_index_changed()

    def _on_index_changed(self, _index: int = 0) -> None:
        current_id = self._box.currentData() or ""
        if current_id == self._current_id:
            return
        self._current_id = current_id
        node = self.currentNode()
        self.emit_signal("currentNodeChanged(vtkMRMLNode*)", node)
        self.emit_signal("currentNodeChanged(bool)", node is not None)
        self.emit_signal("currentNodeIDChanged(QString)", current_id)

    def _on_activated(self, _index: int) -> None:
        self.emit_signal("nodeActivated(vtkMRMLNode*)", self.currentNode())

    # what scripts call

    def currentNode(self) -> Any:
        scene = self.mrmlScene()
        return scene.GetNodeByID(self._current_id) if scene is not None and self._current_id else None

    def currentNodeID(self) -> str:
        return self._current_id

    def currentNodeId(self) -> str:
        return self._current_id

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node if isinstance(node, str) else (node.GetID() or "") if node is not None else "")

    def setCurrentNodeID(self, node_id: str) -> None:
        if self.mrmlScene() is None:
            self._requested_id = node_id
            return
        index = self._box.findData(node_id) if node_id else -1
        self._box.setCurrentIndex(0 if index < 0 and self.stored("noneEnabled") else index)

    def setCurrentNodeIndex(self, index: int) -> None:
        node = self.nodeFromIndex(index)
        self.setCurrentNode(node)

    def nodeCount(self) -> int:
        return self._box.count() - bool(self.stored("noneEnabled")) if self.mrmlScene() is not None else 0

    def nodeFromIndex(self, index: int) -> Any:
        node_id = self._box.itemData(index + bool(self.stored("noneEnabled")))
        return self.mrmlScene().GetNodeByID(node_id) if node_id else None

    def addNode(self, node_type: str | None = None) -> Any:
        kinds = self.stored("nodeTypes")
        node_type = node_type or (kinds[0] if kinds else None)
        if node_type not in kinds or self.mrmlScene() is None:
            return None
        node = self.mrmlScene().CreateNodeByClass(node_type)
        node.UnRegister(None)
        for kind, name, value in self._attributes:
            if kind == node_type:
                node.SetAttribute(name, value or "")
        base = self.stored("baseName") or self.nodeTypeLabel(node_type)
        node.SetName(self.mrmlScene().GenerateUniqueName(base))
        self.mrmlScene().AddNode(node)
        if self.stored("selectNodeUponCreation"):
            self.setCurrentNode(node)
        self.emit_signal("nodeAddedByUser(vtkMRMLNode*)", node)
        return node

    def removeCurrentNode(self) -> None:
        if self.currentNode() is not None:
            self.mrmlScene().RemoveNode(self.currentNode())

    def addAttribute(self, node_type: str, name: str, value: Any = None) -> None:
        self.removeAttribute(node_type, name)
        self._attributes.append((node_type, name, None if value is None else str(value)))
        self._refresh()

    def removeAttribute(self, node_type: str, name: str) -> None:
        self._attributes = [a for a in self._attributes if a[:2] != (node_type, name)]
        self._refresh()

    def nodeTypeLabel(self, node_type: str) -> str:
        scene = self.mrmlScene()
        known = scene.GetTypeDisplayNameByClassName(node_type) if scene is not None and node_type else ""
        return self._labels.get(node_type) or known or "node"

    def setNodeTypeLabel(self, label: str, node_type: str) -> None:
        self._labels[node_type] = label
        self._refresh()


class qMRMLColorTableComboBox(qMRMLNodeComboBox):
    """A selector of color nodes."""

    defaults = {"nodeTypes": ["vtkMRMLColorNode"], "showHidden": True, "addEnabled": False, "removeEnabled": False}


class qMRMLCheckableNodeComboBox(qMRMLNodeComboBox):
    """A node selector in which several nodes can be checked."""

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._checked: set[str] = set()

    def _refresh(self, wanted_id: str = "") -> None:
        super()._refresh(wanted_id)
        listed = {node.GetID() for node in self._nodes()}
        gone = getattr(self, "_checked", set()) - listed
        if gone:
            self._checked -= gone
            self.emit_signal("checkedNodesChanged()")

    def checkedNodes(self) -> list[Any]:
        return [node for node in self._nodes() if node.GetID() in self._checked]

    def uncheckedNodes(self) -> list[Any]:
        return [node for node in self._nodes() if node.GetID() not in self._checked]

    def allChecked(self) -> bool:
        return not self.uncheckedNodes()

    def noneChecked(self) -> bool:
        return not self.checkedNodes()

    def checkState(self, node: Any) -> Qt.CheckState:
        return Qt.CheckState.Checked if node.GetID() in self._checked else Qt.CheckState.Unchecked

    def setCheckState(self, node: Any, state: Any) -> None:
        if self.checkState(node) == Qt.CheckState(state):
            return
        self._checked ^= {node.GetID()}
        self.emit_signal("checkedNodesChanged()")

    def check(self, node: Any) -> None:
        self.setCheckState(node, Qt.CheckState.Checked)

    def uncheck(self, node: Any) -> None:
        self.setCheckState(node, Qt.CheckState.Unchecked)


class qMRMLSubjectHierarchyComboBox(_InScene, ctkComboBox):
    """A flat list of the subject hierarchy items that have a node of the wanted classes."""

    defaults = {"nodeTypes": [], "noneEnabled": False, "noneDisplay": "None"}

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._observers = Observers(self, "_refresh")
        self._current_item = 0
        self.currentIndexChanged.connect(self._on_index_changed)

    def subjectHierarchyNode(self) -> Any:
        scene = self.mrmlScene()
        return scene.GetSubjectHierarchyNode() if scene is not None else None

    def scene_changed(self, scene: Any) -> None:
        self._observers.release()
        self._observers.observe(scene, *(_SCENE_EVENTS if scene is not None else ()))
        self._refresh()

    def property_changed(self, name: str) -> None:
        super().property_changed(name)
        if name in ("nodeTypes", "noneEnabled", "noneDisplay"):
            self._refresh()

    def setNodeTypes(self, kinds: list[str]) -> None:
        self.store("nodeTypes", list(kinds))

    def _refresh(self) -> None:
        hierarchy, scene = self.subjectHierarchyNode(), self.mrmlScene()
        before = self._current_item
        blocked = self.blockSignals(True)
        self.clear()
        if self.stored("noneEnabled"):
            self.addItem(self.stored("noneDisplay"), 0)
        if hierarchy is not None and not scene.IsClosing():
            for index in range(scene.GetNumberOfNodes()):
                node = scene.GetNthNode(index)
                item = hierarchy.GetItemByDataNode(node)
                kinds = self.stored("nodeTypes")
                if item and (not kinds or any(node.IsA(kind) for kind in kinds)):
                    self.addItem(node.GetName(), item)
        self.setCurrentIndex(max(self.findData(before), 0) if self.count() else -1)
        self.blockSignals(blocked)
        self._on_index_changed()

    def _on_index_changed(self, _index: int = 0) -> None:
        item = self.currentData() or 0
        if item != self._current_item:
            self._current_item = item
            self.emit_signal("currentItemChanged(vtkIdType)", item)

    def currentItem(self) -> int:
        return self._current_item

    def setCurrentItem(self, item: int) -> None:
        self.setCurrentIndex(self.findData(item))

    def clearSelection(self) -> None:
        self.setCurrentItem(0)

    def currentNode(self) -> Any:
        hierarchy = self.subjectHierarchyNode()
        return hierarchy.GetItemDataNode(self._current_item) if hierarchy is not None and self._current_item else None

    def setCurrentNode(self, node: Any) -> None:
        hierarchy = self.subjectHierarchyNode()
        self.setCurrentItem(hierarchy.GetItemByDataNode(node) if hierarchy is not None and node is not None else 0)


# --- numbers with units ----------------------------------------------------------------------------------------------


class _UnitAware(_InScene):
    """A number whose prefix, suffix and decimals come from the unit of a quantity, such as length."""

    def property_changed(self, name: str) -> None:
        super().property_changed(name)
        if name == "quantity":
            self._apply_unit()

    def scene_changed(self, _scene: Any) -> None:
        self._apply_unit()

    def _apply_unit(self) -> None:
        scene = self.mrmlScene()
        selection = scene.GetNodeByID("vtkMRMLSelectionNodeSingleton") if scene is not None else None
        unit = selection.GetUnitNode(self.stored("quantity")) if selection is not None else None
        if unit is not None:
            self.setPrefix(unit.GetPrefix() or "")
            self.setSuffix(unit.GetSuffix() or "")
            self.setDecimals(unit.GetPrecision())


class qMRMLSliderWidget(_UnitAware, ctkSliderWidget):
    """A slider with a spin box, aware of units."""


class qMRMLSpinBox(_UnitAware, ctkDoubleSpinBox):
    """A spin box aware of units."""


class qMRMLRangeWidget(_UnitAware, ctkRangeWidget):
    """A range widget aware of units."""


# --- segments --------------------------------------------------------------------------------------------------------

_SEGMENT_EVENTS = (
    slicer.vtkSegmentation.SegmentAdded,
    slicer.vtkSegmentation.SegmentRemoved,
    slicer.vtkSegmentation.SegmentModified,
    slicer.vtkSegmentation.SegmentsOrderModified,
)


def _segments(segmentation_node: Any) -> list[tuple[str, Any]]:
    segmentation = segmentation_node.GetSegmentation() if segmentation_node is not None else None
    if segmentation is None:
        return []
    ids = [segmentation.GetNthSegmentID(i) for i in range(segmentation.GetNumberOfSegments())]
    return [(segment_id, segmentation.GetSegment(segment_id)) for segment_id in ids]


class qMRMLSegmentSelectorWidget(qMRMLWidget):
    """A segmentation selector and, beside it, a list of its segments."""

    defaults = {"segmentationNodeSelectorVisible": True, "selectNodeUponCreation": True, "horizontalLayout": False}

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._current_segment = ""
        self._observers = Observers(self, "_refresh")
        self._nodes = qMRMLNodeComboBox(self)
        self._nodes.store("nodeTypes", ["vtkMRMLSegmentationNode"])
        self._nodes.store("addEnabled", False)
        self._segments = QtWidgets.QComboBox(self)
        self._message = QtWidgets.QLabel(self)
        layout = QtWidgets.QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._nodes, 0, 0)
        layout.addWidget(self._segments, 1, 0)
        layout.addWidget(self._message, 2, 0)
        self.listen(self._nodes, "currentNodeChanged(vtkMRMLNode*)", "_on_node_changed")
        self._segments.currentIndexChanged.connect(self._on_segment_changed)
        self._refresh()

    def scene_changed(self, scene: Any) -> None:
        self._nodes.setMRMLScene(scene)

    def property_changed(self, name: str) -> None:
        if name == "noneEnabled":
            self._nodes.store(name, self.stored(name))
            self._refresh()
        elif name == "segmentationNodeSelectorVisible":
            self._nodes.setVisible(self.stored(name))
        elif name == "horizontalLayout":
            self.layout().addWidget(self._segments, 0 if self.stored(name) else 1, 1 if self.stored(name) else 0)

    def _on_node_changed(self, node: Any) -> None:
        self._observers.release()
        self._observers.observe(node, *_SEGMENT_EVENTS)
        self._refresh()
        self.emit_signal("currentNodeChanged(vtkMRMLNode*)", node)
        self.emit_signal("currentNodeChanged(bool)", node is not None)

    def _refresh(self) -> None:
        before = self._current_segment
        segments = _segments(self.currentNode())
        blocked = self._segments.blockSignals(True)
        self._segments.clear()
        if segments and self.stored("noneEnabled"):
            self._segments.addItem("None", "")
        for segment_id, segment in segments:
            self._segments.addItem(segment.GetName(), segment_id)
        kept = self._segments.findData(before) if before else -1
        first = min(int(bool(self.stored("noneEnabled"))), self._segments.count() - 1)
        self._segments.setCurrentIndex(kept if kept >= 0 else first)
        self._segments.blockSignals(blocked)
        self._segments.setVisible(bool(segments))
        text = "No node is selected" if self.currentNode() is None else "No segments in segmentation"
        self._message.setText(text)
        self._message.setVisible(not segments)
        self._on_segment_changed()

    def _on_segment_changed(self, _index: int = 0) -> None:
        segment_id = self._segments.currentData() or ""
        if segment_id != self._current_segment:
            self._current_segment = segment_id
            self.emit_signal("currentSegmentChanged(QString)", segment_id)

    def currentNode(self) -> Any:
        return self._nodes.currentNode()

    def setCurrentNode(self, node: Any) -> None:
        self._nodes.setCurrentNode(node)

    def currentNodeID(self) -> str:
        return self._nodes.currentNodeID()

    def setCurrentNodeID(self, node_id: str) -> None:
        self._nodes.setCurrentNodeID(node_id)

    def currentSegmentID(self) -> str:
        return self._current_segment

    def setCurrentSegmentID(self, segment_id: str) -> None:
        index = self._segments.findData(segment_id)
        if index >= 0:
            self._segments.setCurrentIndex(index)

    def segmentIDs(self) -> list[str]:
        return [segment_id for segment_id, _segment in _segments(self.currentNode())]


class qMRMLSegmentsTableView(qMRMLWidget):
    """A table of the segments of a segmentation, in which rows can be selected."""

    defaults = {
        "headerVisible": True,
        "visibilityColumnVisible": True,
        "colorColumnVisible": True,
        "opacityColumnVisible": True,
        "selectionMode": int(QtWidgets.QAbstractItemView.SelectionMode.ExtendedSelection.value),
    }
    _COLUMNS = ("Visible", "Color", "Opacity", "Name")

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._node = WeakReference()
        self._hidden: list[str] = []
        self._observers = Observers(self, "_refresh")
        self._table = QtWidgets.QTableWidget(0, len(self._COLUMNS), self)
        self._table.setHorizontalHeaderLabels(self._COLUMNS)
        self._table.horizontalHeader().setStretchLastSection(True)
        for column in range(len(self._COLUMNS) - 1):
            self._table.setColumnWidth(column, 60)
        self._table.verticalHeader().hide()
        self._table.setSelectionBehavior(QtWidgets.QAbstractItemView.SelectionBehavior.SelectRows)
        row(self, self._table)
        self._table.selectionModel().selectionChanged.connect(self._on_selection_changed)

    def _on_selection_changed(self, selected: QtCore.QItemSelection, deselected: QtCore.QItemSelection) -> None:
        self.emit_signal("selectionChanged(QItemSelection,QItemSelection)", selected, deselected)

    def property_changed(self, name: str) -> None:
        if name == "selectionMode":
            self._table.setSelectionMode(QtWidgets.QAbstractItemView.SelectionMode(self.stored(name)))
        elif name == "headerVisible":
            self._table.horizontalHeader().setVisible(self.stored(name))
        elif name.endswith("ColumnVisible"):
            column = {"visibility": 0, "color": 1, "opacity": 2}.get(name.removesuffix("ColumnVisible"))
            if column is not None:
                self._table.setColumnHidden(column, not self.stored(name))
        elif name == "textFilter":
            self._refresh()

    def segmentationNode(self) -> Any:
        return self._node()

    def setSegmentationNode(self, node: Any) -> None:
        self._observers.release()
        self._node = WeakReference(node)
        self._observers.observe(node, *_SEGMENT_EVENTS, slicer.vtkMRMLDisplayableNode.DisplayModifiedEvent)
        self._refresh()

    def _refresh(self) -> None:
        selected = self.selectedSegmentIDs()
        wanted = self.stored("textFilter").lower()
        shown = [
            (segment_id, segment)
            for segment_id, segment in _segments(self._node())
            if segment_id not in self._hidden and wanted in segment.GetName().lower()
        ]
        display = self._node().GetDisplayNode() if self._node() is not None else None
        self._table.setRowCount(len(shown))
        for index, (segment_id, segment) in enumerate(shown):
            visible = display is None or display.GetSegmentVisibility(segment_id)
            opacity = 1.0 if display is None else display.GetSegmentOpacity3D(segment_id)
            texts = ("yes" if visible else "no", "", f"{opacity:.2f}", segment.GetName())
            for column, text in enumerate(texts):
                item = QtWidgets.QTableWidgetItem(text)
                item.setData(Qt.ItemDataRole.UserRole, segment_id)
                self._table.setItem(index, column, item)
            self._table.item(index, 1).setBackground(QtGui.QColor.fromRgbF(*segment.GetColor()))
        self.setSelectedSegmentIDs(selected)

    def tableWidget(self) -> QtWidgets.QTableView:
        return self._table

    def segmentCount(self) -> int:
        return self._table.rowCount()

    def segmentIDForRow(self, index: int) -> str:
        item = self._table.item(index, 0)
        return item.data(Qt.ItemDataRole.UserRole) if item is not None else ""

    def rowForSegmentID(self, segment_id: str) -> int:
        ids = self.displayedSegmentIDs()
        return ids.index(segment_id) if segment_id in ids else -1

    def displayedSegmentIDs(self) -> list[str]:
        return [self.segmentIDForRow(i) for i in range(self._table.rowCount())]

    def hideSegments(self) -> list[str]:
        return self._hidden

    def setHideSegments(self, segment_ids: list[str]) -> None:
        self._hidden = list(segment_ids)
        self._refresh()

    def selectedSegmentIDs(self) -> list[str]:
        rows = sorted({index.row() for index in self._table.selectedIndexes()})
        return [self.segmentIDForRow(i) for i in rows]

    def setSelectedSegmentIDs(self, segment_ids: list[str]) -> None:
        model, selection = self._table.model(), QtCore.QItemSelection()
        for segment_id in segment_ids:
            index = self.rowForSegmentID(segment_id)
            if index >= 0:
                selection.select(model.index(index, 0), model.index(index, len(self._COLUMNS) - 1))
        self._table.selectionModel().select(selection, QtCore.QItemSelectionModel.SelectionFlag.ClearAndSelect)

    def clearSelection(self) -> None:
        self._table.clearSelection()


# --- tables and plots ------------------------------------------------------------------------------------------------


class qMRMLTableView(_InScene, QtWidgets.QTableView):
    """The contents of a table node; column names are the first row, or the header when the first row is locked."""

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._node = WeakReference()
        self._observers = Observers(self, "_refresh")
        self.setModel(QtGui.QStandardItemModel(self))
        self.selectionModel().selectionChanged.connect(self._on_selection_changed)

    def _on_selection_changed(self) -> None:
        self.emit_signal("selectionChanged()")

    def property_changed(self, _name: str) -> None:
        self._refresh()

    def mrmlTableNode(self) -> Any:
        return self._node()

    def setMRMLTableNode(self, node: Any) -> None:
        self._observers.release()
        self._node = WeakReference(node)
        self._observers.observe(node, vtkCommand.ModifiedEvent)
        self._refresh()

    def _refresh(self) -> None:
        node, model = self._node(), self.model()
        model.clear()
        table = node.GetTable() if node is not None else None
        if table is None:
            return
        names = [table.GetColumnName(c) or "" for c in range(table.GetNumberOfColumns())]
        texts = [[table.GetValue(r, c).ToString() for c in range(len(names))] for r in range(table.GetNumberOfRows())]
        if self.stored("firstRowLocked"):
            model.setHorizontalHeaderLabels(names)
        else:
            texts.insert(0, names)
        if self.stored("transposed"):
            texts = [list(column) for column in zip(*texts, strict=True)]
        for line in texts:
            model.appendRow([QtGui.QStandardItem(text) for text in line])


class ctkVTKOpenGLNativeWidget(LookAlike, QtWidgets.QWidget):
    """A rendering window; nothing is rendered here."""


class ctkVTKChartView(ctkVTKOpenGLNativeWidget):
    """A chart."""


class qMRMLPlotView(_InScene, ctkVTKChartView):
    """A place for a plot, which is drawn only in Slicer."""

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._node = WeakReference()
        self._label = QtWidgets.QLabel("(plot: drawn only in Slicer)", self)
        self._label.setAlignment(Qt.AlignmentFlag.AlignCenter)
        row(self, self._label)
        self.setMinimumSize(200, 120)

    def setMRMLPlotViewNode(self, node: Any) -> None:
        self._node = WeakReference(node)


# --- markups ---------------------------------------------------------------------------------------------------------

_Markups = slicer.vtkMRMLMarkupsNode
_MARKUPS_EVENTS = (
    vtkCommand.ModifiedEvent,
    _Markups.PointAddedEvent,
    _Markups.PointRemovedEvent,
    _Markups.PointModifiedEvent,
    _Markups.PointPositionDefinedEvent,
    _Markups.PointPositionUndefinedEvent,
    _Markups.FixedNumberOfControlPointsModifiedEvent,
)


class qSlicerMarkupsPlaceWidget(qSlicerWidget):
    """Buttons that start placing points of the current node and remove points."""

    defaults = {
        "buttonsVisible": True,
        "deleteAllControlPointsOptionVisible": True,
        "placeMultipleMarkups": 0,
        "defaultNodeColor": QtGui.QColor(0, 255, 0),
    }
    _FORCE_SINGLE, _FORCE_MULTIPLE = 2, 3

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._current = WeakReference()
        self._interaction = WeakReference()
        self._selection = WeakReference()
        self._place_mode_signaled = False
        self._node_observers = Observers(self, "_update")
        self._mode_observers = Observers(self, "_update")
        self._place, self._delete = QtWidgets.QToolButton(self), QtWidgets.QToolButton(self)
        self._place.setText("Place")
        self._place.setToolTip("Place a control point")
        self._place.setCheckable(True)
        self._delete.setText("Delete")
        self._delete.setToolTip("Remove the last point")
        row(self, self._place, self._delete)
        self._place.toggled.connect(self.setPlaceModeEnabled)
        self._delete.clicked.connect(self.modifyLastPoint)
        self._update()

    def scene_changed(self, scene: Any) -> None:
        get = scene.GetNodeByID if scene is not None else lambda _node_id: None
        self.setInteractionNode(get("vtkMRMLInteractionNodeSingleton"))
        self.setSelectionNode(get("vtkMRMLSelectionNodeSingleton"))
        self._update()

    def property_changed(self, name: str) -> None:
        if name == "buttonsVisible":
            self._place.setVisible(self.stored(name))
            self._delete.setVisible(self.stored(name))

    def interactionNode(self) -> Any:
        return self._interaction()

    def setInteractionNode(self, node: Any) -> None:
        self._interaction = WeakReference(node)
        self._observe_mode()

    def selectionNode(self) -> Any:
        return self._selection()

    def setSelectionNode(self, node: Any) -> None:
        self._selection = WeakReference(node)
        self._observe_mode()

    def _observe_mode(self) -> None:
        self._mode_observers.release()
        for node in (self._interaction(), self._selection()):
            self._mode_observers.observe(node, vtkCommand.ModifiedEvent)

    def currentNode(self) -> Any:
        return self._current()

    currentMarkupsNode = currentNode

    def currentMarkupsFiducialNode(self) -> Any:
        node = self._current()
        return node if node is not None and node.IsA("vtkMRMLMarkupsFiducialNode") else None

    def setCurrentNode(self, node: Any) -> None:
        node = node if node is not None and node.IsA("vtkMRMLMarkupsNode") else None
        if node is self._current():
            return
        self._node_observers.release()
        self._current = WeakReference(node)
        self._node_observers.observe(node, *_MARKUPS_EVENTS)
        self._update()

    def currentNodeActive(self) -> bool:
        node, selection = self._current(), self._selection()
        if node is None or selection is None:
            return False
        active = (selection.GetActivePlaceNodeID(), selection.GetActivePlaceNodeClassName())
        return active == (node.GetID(), node.GetClassName())

    def setCurrentNodeActive(self, active: bool) -> None:
        selection = self._selection()
        if selection is None or active == self.currentNodeActive():
            return
        if active:
            selection.SetReferenceActivePlaceNodeClassName(self._current().GetClassName())
            selection.SetActivePlaceNodeID(self._current().GetID())
        else:
            selection.SetActivePlaceNodeID(None)
            self._interaction().SwitchToViewTransformMode()

    def placeModeEnabled(self) -> bool:
        interaction = self._interaction()
        placing = interaction is not None and interaction.GetCurrentInteractionMode() == interaction.Place
        return placing and self.currentNodeActive()

    def setPlaceModeEnabled(self, enabled: bool) -> None:
        interaction = self._interaction()
        if enabled == self.placeModeEnabled():
            return
        if interaction is None or self._current() is None:
            self._update()
            return
        if enabled:
            self.setCurrentNodeActive(True)
            if self.stored("placeMultipleMarkups") in (self._FORCE_SINGLE, self._FORCE_MULTIPLE):
                self.setPlaceModePersistency(self.stored("placeMultipleMarkups") == self._FORCE_MULTIPLE)
            interaction.SetCurrentInteractionMode(interaction.Place)
        else:
            interaction.SwitchToViewTransformMode()
        self._update()

    def placeModePersistency(self) -> bool:
        return self._interaction() is not None and bool(self._interaction().GetPlaceModePersistence())

    def setPlaceModePersistency(self, persistent: bool) -> None:
        if self._interaction() is not None:
            self._interaction().SetPlaceModePersistence(int(persistent))

    def _update(self) -> None:
        node, placing = self._current(), self.placeModeEnabled()
        blocked = self._place.blockSignals(True)
        self._place.setChecked(placing)
        self._place.blockSignals(blocked)
        self._place.setEnabled(node is not None)
        self._delete.setEnabled(node is not None and node.GetNumberOfControlPoints() > 0)
        if placing != self._place_mode_signaled:
            self._place_mode_signaled = placing
            self.emit_signal("activeMarkupsPlaceModeChanged(bool)", placing)
            self.emit_signal("activeMarkupsFiducialPlaceModeChanged(bool)", placing)

    def placeButton(self) -> QtWidgets.QToolButton:
        return self._place

    def deleteButton(self) -> QtWidgets.QToolButton:
        return self._delete

    def modifyLastPoint(self) -> None:
        node = self._current()
        if node is not None and node.GetFixedNumberOfControlPoints():
            self.unsetLastDefinedPoint()
        else:
            self.deleteLastPoint()

    def deleteLastPoint(self) -> None:
        node = self._current()
        if node is not None and node.GetNumberOfControlPoints() > 0:
            node.RemoveNthControlPoint(node.GetNumberOfControlPoints() - 1)

    def unsetLastDefinedPoint(self) -> None:
        node = self._current()
        for index in reversed(range(node.GetNumberOfControlPoints() if node is not None else 0)):
            if node.GetNthControlPointPositionStatus(index) != _Markups.PositionUndefined:
                node.UnsetNthControlPointPosition(index)
                return

    def deleteAllPoints(self) -> None:
        if self._current() is not None:
            self._current().RemoveAllControlPoints()

    def unsetAllPoints(self) -> None:
        if self._current() is not None:
            self._current().UnsetAllControlPoints()


class qSlicerSimpleMarkupsWidget(qSlicerWidget):
    """A node selector, place buttons, and a table of the control points (world position in mm, blank until placed)."""

    defaults = {"nodeSelectorVisible": True, "optionsVisible": True, "jumpToSliceEnabled": False}
    _COLUMNS = ("Label", "R", "A", "S")

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._observers = Observers(self, "_refresh")
        self._filling = False
        self._nodes = qMRMLNodeComboBox(self)
        self._nodes.store("nodeTypes", ["vtkMRMLMarkupsFiducialNode"])
        self._nodes.store("noneEnabled", True)
        self._place = qSlicerMarkupsPlaceWidget(self)
        self._table = QtWidgets.QTableWidget(0, len(self._COLUMNS), self)
        self._table.setHorizontalHeaderLabels(self._COLUMNS)
        self._table.setSelectionBehavior(QtWidgets.QAbstractItemView.SelectionBehavior.SelectRows)
        self._table.horizontalHeader().setSectionResizeMode(QtWidgets.QHeaderView.ResizeMode.Stretch)
        layout = QtWidgets.QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._nodes, 0, 0)
        layout.addWidget(self._place, 0, 1)
        layout.addWidget(self._table, 1, 0, 1, 2)
        layout.setColumnStretch(0, 1)
        self.listen(self._nodes, "currentNodeChanged(vtkMRMLNode*)", "_on_node_changed")
        self.listen(self._place, "activeMarkupsPlaceModeChanged(bool)", "_on_place_mode_changed")
        self._table.cellChanged.connect(self._on_cell_changed)
        self._table.itemSelectionChanged.connect(self._on_selection_changed)

    def scene_changed(self, scene: Any) -> None:
        self._place.setMRMLScene(scene)
        self._nodes.setMRMLScene(scene)

    def property_changed(self, name: str) -> None:
        if name == "nodeSelectorVisible":
            self._nodes.setVisible(self.stored(name))
        elif name == "optionsVisible":
            self._place.setVisible(self.stored(name))

    def _on_node_changed(self, node: Any) -> None:
        self._observers.release()
        self._observers.observe(node, *_MARKUPS_EVENTS)
        self._place.setCurrentNode(node)
        self._refresh()
        if self.stored("enterPlaceModeOnNodeChange"):
            self._place.setPlaceModeEnabled(True)
        self.emit_signal("markupsNodeChanged()")
        self.emit_signal("markupsFiducialNodeChanged()")

    def _on_place_mode_changed(self, placing: bool) -> None:
        self.emit_signal("activeMarkupsPlaceModeChanged(bool)", placing)
        self.emit_signal("activeMarkupsFiducialPlaceModeChanged(bool)", placing)

    def _refresh(self) -> None:
        node = self.currentNode()
        self._filling = True
        self._table.setRowCount(node.GetNumberOfControlPoints() if node is not None else 0)
        for index in range(self._table.rowCount()):
            placed = node.GetNthControlPointPositionStatus(index) == _Markups.PositionDefined
            position = [f"{x:.3f}" for x in node.GetNthControlPointPositionWorld(index)] if placed else ["", "", ""]
            for column, text in enumerate((node.GetNthControlPointLabel(index), *position)):
                self._table.setItem(index, column, QtWidgets.QTableWidgetItem(text))
        self._filling = False
        self.emit_signal("updateFinished()")

    def _on_cell_changed(self, index: int, column: int) -> None:
        """Write what the user typed into the node; a position that is no number is put back."""
        node = self.currentNode()
        if self._filling or node is None:
            return
        text = self._table.item(index, column).text()
        if column == 0:
            node.SetNthControlPointLabel(index, text)
            return
        try:
            position = list(node.GetNthControlPointPositionWorld(index))
            position[column - 1] = float(text)
            node.SetNthControlPointPositionWorld(index, *position)
        except ValueError:
            self._refresh()

    def _on_selection_changed(self) -> None:
        self.emit_signal("currentMarkupsControlPointSelectionChanged(int)", self._table.currentRow())
        self.emit_signal("currentMarkupsFiducialSelectionChanged(int)", self._table.currentRow())

    def currentNode(self) -> Any:
        return self._nodes.currentNode()

    getCurrentNode = currentNode

    def setCurrentNode(self, node: Any) -> None:
        self._nodes.setCurrentNode(node)

    def setNodeBaseName(self, name: str) -> None:
        self._nodes.store("baseName", name)

    def interactionNode(self) -> Any:
        return self._place.interactionNode()

    def setInteractionNode(self, node: Any) -> None:
        self._place.setInteractionNode(node)

    def tableWidget(self) -> QtWidgets.QTableWidget:
        return self._table

    def markupsPlaceWidget(self) -> qSlicerMarkupsPlaceWidget:
        return self._place

    def markupsSelectorComboBox(self) -> qMRMLNodeComboBox:
        return self._nodes

    def highlightNthControlPoint(self, index: int) -> None:
        if 0 <= index < self._table.rowCount():
            self._table.selectRow(index)
        else:
            self._table.clearSelection()

    def placeActive(self, place: bool) -> None:
        self._place.setPlaceModeEnabled(place)
