"""The look-alikes behave as the widgets they stand for: values, signals, and following the scene."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture
def qt(slicer_host):
    import qt

    return qt


@pytest.fixture
def ctk(slicer_host):
    import ctk

    return ctk


@pytest.fixture
def slicer(slicer_host):
    import slicer

    return slicer


def record(sender, *signatures: str) -> list:
    """Return a list to which each emission of the signals is appended, as the arguments or the single one."""
    emitted: list = []
    for signature in signatures:
        assert sender.connect(signature, lambda *args: emitted.append(args[0] if len(args) == 1 else args))
    return emitted


def add(slicer, class_name: str, name: str = ""):
    return slicer.mrmlScene.AddNewNodeByClass(class_name, name)


# Sections


def test_collapsible_button_hides_and_shows_children(qt, ctk):
    section = ctk.ctkCollapsibleButton()
    layout = qt.QVBoxLayout(section)
    shown, hidden = qt.QLabel("shown"), qt.QLabel("hidden")
    layout.addWidget(shown)
    layout.addWidget(hidden)
    hidden.setVisible(False)
    section.show()
    assert (section.collapsed, section.checked, shown.isVisible(), hidden.isVisible()) == (False, True, True, False)
    collapsed = record(section, "contentsCollapsed(bool)")
    open_height = section.sizeHint.height()
    section.collapsed = True
    assert (section.checked, shown.isVisible(), hidden.isVisible()) == (False, False, False)
    assert section.sizeHint.height() < open_height
    hidden.setVisible(True)  # takes effect only when the section opens
    assert not hidden.isVisible()
    section.click()
    assert (shown.isVisible(), hidden.isVisible()) == (True, True)
    assert collapsed == [True, False]


def test_children_added_to_a_collapsed_section_stay_hidden(qt, ctk, slicer_host):
    section = ctk.ctkCollapsibleButton()
    layout = qt.QVBoxLayout(section)
    section.collapsed = True
    label = qt.QLabel("late")
    layout.addWidget(label)
    section.show()
    slicer_host.process_events(0)
    assert not label.isVisible()
    section.collapsed = False
    assert label.isVisible()


def test_collapsible_group_box(qt, ctk):
    box = ctk.ctkCollapsibleGroupBox()
    label = qt.QLabel("inside")
    qt.QVBoxLayout(box).addWidget(label)
    box.show()
    box.collapsed = True
    assert (box.checked, label.isVisible()) == (False, False)
    box.checked = True
    assert (box.collapsed, label.isVisible()) == (False, True)


# Numbers


def test_slider_widget_clamps_rounds_and_emits_once(ctk):
    slider = ctk.ctkSliderWidget()
    assert (slider.minimum, slider.maximum, slider.decimals, slider.value) == (0.0, 99.99, 2, 0.0)
    changed = record(slider, "valueChanged(double)")
    slider.value = 7.126
    slider.value = 7.13
    slider.setValue(1000)
    slider.maximum = 50
    slider.minimum = -5
    slider.setValue(-100)
    assert changed == [7.13, 99.99, 50.0, -5.0]
    slider.minimum = 60
    assert (slider.minimum, slider.maximum, slider.value) == (60.0, 60.0, 60.0)


def test_slider_widget_without_tracking_says_that_it_is_changing(ctk):
    slider = ctk.ctkSliderWidget()
    changing = record(slider, "valueIsChanging(double)")
    slider.value = 1
    slider.tracking = False
    slider.value = 2
    assert changing == [2.0]


def test_sliders_side_by_side_share_their_decimals(qt, ctk):
    parent = qt.QWidget()
    first, second, alone = (ctk.ctkSliderWidget(parent) for _ in range(3))
    alone.synchronizeSiblings = ctk.ctkSliderWidget.NoSynchronize
    first.decimals = 4
    assert (second.decimals, alone.decimals) == (4, 2)


def test_double_spin_box(ctk):
    box = ctk.ctkDoubleSpinBox()
    numbers, texts = record(box, "valueChanged(double)"), record(box, "valueChanged(QString)")
    box.suffix = " mm"
    box.value = 2.5
    box.stepUp()
    assert (numbers, texts) == ([2.5, 3.5], ["2.50 mm", "3.50 mm"])
    assert box.cleanText == "3.50"
    decimals = record(box, "decimalsChanged(int)")
    box.setDecimals(0)
    assert (decimals, box.value) == ([0], 4.0)


def test_double_slider_and_range_slider(ctk):
    slider, range_slider = ctk.ctkDoubleSlider(), ctk.ctkDoubleRangeSlider()
    changed = record(slider, "valueChanged(double)")
    slider.maximum = 10
    slider.value = 12
    assert (changed, slider.value) == ([10.0], 10.0)
    ranges = record(range_slider, "valuesChanged(double,double)")
    range_slider.setValues(20, 30)
    range_slider.maximumValue = 10
    assert ranges == [(20.0, 30.0), (10.0, 10.0)]


def test_range_widget_keeps_its_order_and_range(ctk):
    widget = ctk.ctkRangeWidget()
    changed = record(widget, "valuesChanged(double,double)")
    widget.setRange(0, 50)
    widget.minimumValue = 20
    widget.maximumValue = 10
    widget.setValues(-3, 80)
    assert changed == [(0.0, 50.0), (20.0, 50.0), (10.0, 10.0), (0.0, 50.0)]
    assert (widget.minimum, widget.maximum, widget.minimumValue, widget.maximumValue) == (0.0, 50.0, 0.0, 50.0)


def test_unit_of_a_quantity(slicer):
    for cls in (slicer.qMRMLSliderWidget, slicer.qMRMLSpinBox, slicer.qMRMLRangeWidget):
        widget = cls()
        widget.quantity = "length"
        assert widget.suffix == ""
        widget.setMRMLScene(slicer.mrmlScene)
        unit = slicer.mrmlScene.GetNodeByID("vtkMRMLSelectionNodeSingleton").GetUnitNode("length")
        assert (widget.suffix, widget.decimals) == (unit.GetSuffix(), unit.GetPrecision())


# Choices, colors, files


def test_combo_box_default_text(ctk):
    box = ctk.ctkComboBox()
    box.defaultText = "Select one"
    box.addItem("a", "data of a")
    box.currentUserDataAsString = "data of a"
    assert (box.currentIndex, box.currentUserDataAsString) == (0, "data of a")


def test_checkable_combo_box(qt, ctk):
    box = ctk.ctkCheckableComboBox()
    changed = record(box, "checkedIndexesChanged()")
    box.addItems(["shape", "texture"])
    assert (box.noneChecked(), box.checkedIndexes(), changed) == (True, (), [()])
    index = box.checkableModel().index(1, 0)
    box.setCheckState(index, qt.Qt.Checked)
    box.setCheckState(index, qt.Qt.Checked)
    assert [i.row() for i in box.checkedIndexes()] == [1]
    assert box.checkState(index) == qt.Qt.Checked
    assert len(changed) == 2
    box.setCheckState(box.checkableModel().index(0, 0), qt.Qt.Checked)
    assert box.allChecked()


def test_color_picker_button(qt, ctk):
    button = ctk.ctkColorPickerButton()
    changed = record(button, "colorChanged(QColor)")
    button.color = qt.QColor(10, 20, 30)
    button.setColor(qt.QColor(10, 20, 30))
    assert changed == [qt.QColor(10, 20, 30)]
    assert button.text == "#0a141e"
    button.setDisplayColorName(False)
    assert button.text == ""


def test_path_line_edit_emits_valid_paths_only(ctk):
    line = ctk.ctkPathLineEdit()
    paths, valid = record(line, "currentPathChanged(QString)"), record(line, "validInputChanged(bool)")
    line.currentPath = "a/b.nrrd"
    line.setCurrentPath("")
    assert (paths, valid, line.currentPath) == (["a/b.nrrd"], [True, False], "")
    line.nameFilters = ["Images (*.nrrd *.nii.gz)"]
    line.currentPath = "a.txt"
    line.currentPath = "a.nii.gz"
    assert paths == ["a/b.nrrd", "a.nii.gz"]
    assert line.filters & ctk.ctkPathLineEdit.Files
    assert not line.filters & ctk.ctkPathLineEdit.Hidden
    line.filters = ctk.ctkPathLineEdit.Files | ctk.ctkPathLineEdit.Readable
    assert line.filters == 0x12


def test_directory_button_makes_paths_absolute(ctk, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    button = ctk.ctkDirectoryButton()
    changed = record(button, "directoryChanged(QString)")
    button.directory = "output"
    button.directory = str(tmp_path / "output")
    assert changed == [str(tmp_path / "output")]


# Scene


def test_widget_passes_its_scene_on(slicer):
    widget = slicer.qMRMLWidget()
    scenes = record(widget, "mrmlSceneChanged(vtkMRMLScene*)")
    widget.setMRMLScene(slicer.mrmlScene)
    widget.setMRMLScene(slicer.mrmlScene)
    assert scenes == [slicer.mrmlScene]


@pytest.fixture
def selector(slicer):
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.setMRMLScene(slicer.mrmlScene)
    return selector


def test_selector_needs_a_scene(slicer):
    selector = slicer.qMRMLNodeComboBox()
    assert not selector.enabled
    node = add(slicer, "vtkMRMLModelNode")
    selector.nodeTypes = ["vtkMRMLModelNode"]
    selector.noneEnabled = True
    selector.setCurrentNodeID(node.GetID())  # remembered until there is a scene
    assert selector.currentNode() is None
    selector.setMRMLScene(slicer.mrmlScene)
    assert selector.enabled
    assert selector.currentNode() is node
    selector.setMRMLScene(None)
    assert (selector.currentNode(), selector.nodeCount(), selector.enabled) == (None, 0, False)


def test_selector_without_none_selects_the_first_node(slicer, selector):
    nodes = record(selector, "currentNodeChanged(vtkMRMLNode*)")
    ids = record(selector, "currentNodeIDChanged(QString)")
    valid = record(selector, "currentNodeChanged(bool)")
    first = add(slicer, "vtkMRMLScalarVolumeNode", "first")
    second = add(slicer, "vtkMRMLScalarVolumeNode", "second")
    assert (nodes, ids, valid) == ([first], [first.GetID()], [True])
    selector.setCurrentNode(second)
    selector.setCurrentNode(second)
    selector.setCurrentNode(None)
    assert (nodes, valid) == ([first, second, None], [True, True, False])


def test_selector_with_none_waits_for_a_choice(slicer, selector):
    selector.noneEnabled = True
    node = add(slicer, "vtkMRMLScalarVolumeNode")
    assert selector.currentNode() is None
    selector.currentNodeID = node.GetID()
    assert selector.currentNode() is node
    assert (selector.nodeCount(), selector.nodeFromIndex(0)) == (1, node)
    selector.setCurrentNodeID("vtkMRMLScalarVolumeNode99")
    assert selector.currentNode() is None


def test_selector_filters_by_class_attribute_and_visibility(slicer, selector):
    volume = add(slicer, "vtkMRMLScalarVolumeNode")
    labels = add(slicer, "vtkMRMLLabelMapVolumeNode")
    add(slicer, "vtkMRMLModelNode")
    assert selector.nodeCount() == 2
    selector.showChildNodeTypes = False
    assert selector.nodeCount() == 1
    selector.showChildNodeTypes = True
    selector.hideChildNodeTypes = ["vtkMRMLLabelMapVolumeNode"]
    assert selector.nodeCount() == 1
    selector.hideChildNodeTypes = []
    labels.SetAttribute("phase", "2")
    selector.addAttribute("vtkMRMLScalarVolumeNode", "phase", "2")
    assert [selector.nodeFromIndex(i) for i in range(selector.nodeCount())] == [labels]
    labels.SetAttribute("phase", "3")
    assert selector.nodeCount() == 0
    selector.addAttribute("vtkMRMLScalarVolumeNode", "phase")
    assert selector.nodeCount() == 1
    selector.removeAttribute("vtkMRMLScalarVolumeNode", "phase")
    assert selector.nodeCount() == 2
    volume.SetHideFromEditors(True)
    assert selector.nodeCount() == 1
    selector.showHidden = True
    assert selector.nodeCount() == 2


def test_selector_follows_removal_of_the_current_node(slicer, selector):
    first, second = (add(slicer, "vtkMRMLScalarVolumeNode", name) for name in ("first", "second"))
    selector.setCurrentNode(second)
    slicer.mrmlScene.RemoveNode(second)
    assert selector.currentNode() is first
    selector.removeCurrentNode()
    assert selector.currentNode() is None
    selector.noneEnabled = True
    only = add(slicer, "vtkMRMLScalarVolumeNode")
    selector.setCurrentNode(only)
    nodes = record(selector, "currentNodeChanged(vtkMRMLNode*)")
    slicer.mrmlScene.RemoveNode(only)
    assert nodes == [None]


def test_selector_emits_null_while_the_scene_is_closed(slicer, slicer_host, selector):
    add(slicer, "vtkMRMLScalarVolumeNode")
    closing = []
    selector.connect(
        "currentNodeChanged(vtkMRMLNode*)", lambda node: closing.append((node, slicer.mrmlScene.IsClosing()))
    )
    slicer_host.close_scene()
    assert closing == [(None, 1)]
    assert (selector.currentNodeID, selector.nodeCount()) == ("", 0)


def test_selector_follows_import_and_batches(slicer, slicer_host, selector, tmp_path):
    node = add(slicer, "vtkMRMLScalarVolumeNode", "saved")
    slicer_host.save_scene(tmp_path / "scene.mrml")
    slicer.mrmlScene.RemoveNode(node)
    slicer_host.load_scene(tmp_path / "scene.mrml")
    assert selector.currentNode().GetName() == "saved"
    slicer.mrmlScene.StartState(slicer.vtkMRMLScene.BatchProcessState)
    added = add(slicer, "vtkMRMLScalarVolumeNode", "in a batch")
    slicer.mrmlScene.EndState(slicer.vtkMRMLScene.BatchProcessState)
    assert selector.nodeCount() == 2
    selector.setCurrentNode(added)
    assert selector.currentNode() is added


def test_selector_shows_renamed_nodes_and_actions_of_the_user(qt, slicer, selector):
    node = add(slicer, "vtkMRMLScalarVolumeNode", "before")
    node.SetName("after")
    box = selector.findChild("QComboBox")
    assert box.currentText == "after"
    activated = record(selector, "nodeActivated(vtkMRMLNode*)")
    box.activated(0)
    assert activated == [node]


def test_selector_adds_nodes(slicer, selector):
    selector.baseName = "Result"
    selector.addAttribute("vtkMRMLScalarVolumeNode", "role", "output")
    added = record(selector, "nodeAddedByUser(vtkMRMLNode*)")
    first, second = selector.addNode(), selector.addNode("vtkMRMLScalarVolumeNode")
    assert added == [first, second]
    assert selector.currentNode() is second
    assert first.GetName() == "Result"
    assert second.GetName() != "Result"
    assert second.GetAttribute("role") == "output"
    assert selector.addNode("vtkMRMLModelNode") is None
    selector.selectNodeUponCreation = False
    selector.addNode()
    assert selector.currentNode() is second


def test_selectors_left_behind_do_not_disturb_the_scene(slicer, slicer_host):
    for cls in (slicer.qMRMLNodeComboBox, slicer.qSlicerSimpleMarkupsWidget, slicer.qMRMLSegmentSelectorWidget):
        widget = cls()
        widget.setMRMLScene(slicer.mrmlScene)
        del widget
    gc.collect()
    add(slicer, "vtkMRMLMarkupsFiducialNode")
    slicer_host.close_scene()


def test_widget_survives_the_end_of_its_scene(slicer):
    scene = slicer.vtkMRMLScene()
    selector, markups = slicer.qMRMLNodeComboBox(), slicer.qSlicerSimpleMarkupsWidget()
    selector.nodeTypes = ["vtkMRMLModelNode"]
    for widget in (selector, markups):
        widget.setMRMLScene(scene)
    scene.AddNewNodeByClass("vtkMRMLModelNode")
    assert selector.currentNode() is not None
    for widget in (selector, markups):
        widget.setMRMLScene(slicer.mrmlScene)
    del scene
    gc.collect()
    assert selector.currentNode() is None


def test_checkable_node_selector(qt, slicer):
    box = slicer.qMRMLCheckableNodeComboBox()
    box.nodeTypes = ["vtkMRMLModelNode"]
    box.setMRMLScene(slicer.mrmlScene)
    changed = record(box, "checkedNodesChanged()")
    first, second = add(slicer, "vtkMRMLModelNode"), add(slicer, "vtkMRMLModelNode")
    assert box.noneChecked()
    box.check(first)
    box.setCheckState(second, qt.Qt.Checked)
    assert (box.allChecked(), box.checkedNodes()) == (True, (first, second))
    box.uncheck(first)
    assert (box.uncheckedNodes(), box.checkState(first)) == ((first,), qt.Qt.Unchecked)
    slicer.mrmlScene.RemoveNode(second)
    assert box.checkedNodes() == ()
    assert len(changed) == 4


def test_subject_hierarchy_combo_box(slicer):
    box = slicer.qMRMLSubjectHierarchyComboBox()
    box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    box.noneEnabled = True
    box.setMRMLScene(slicer.mrmlScene)
    changed = record(box, "currentItemChanged(vtkIdType)")
    add(slicer, "vtkMRMLModelNode")
    node = add(slicer, "vtkMRMLScalarVolumeNode")
    item = slicer.mrmlScene.GetSubjectHierarchyNode().GetItemByDataNode(node)
    assert (box.count, box.currentNode()) == (2, None)
    box.setCurrentNode(node)
    assert (box.currentItem(), box.currentNode(), changed) == (item, node, [item])
    slicer.mrmlScene.RemoveNode(node)
    assert (box.currentNode(), changed) == (None, [item, 0])


# Segments


@pytest.fixture
def segmentation(slicer):
    node = add(slicer, "vtkMRMLSegmentationNode", "lesions")
    node.CreateDefaultDisplayNodes()
    for name in ("tumor", "band"):
        node.GetSegmentation().AddEmptySegment(f"id of {name}", name)
    return node


def test_segment_selector(slicer, segmentation):
    selector = slicer.qMRMLSegmentSelectorWidget()
    segments = record(selector, "currentSegmentChanged(QString)")
    nodes = record(selector, "currentNodeChanged(vtkMRMLNode*)")
    selector.setMRMLScene(slicer.mrmlScene)
    assert (nodes, segments) == ([segmentation], ["id of tumor"])  # no None: the first node, its first segment
    assert selector.segmentIDs() == ("id of tumor", "id of band")
    selector.setCurrentSegmentID("id of band")
    segmentation.GetSegmentation().AddEmptySegment("id of new", "new")
    assert selector.currentSegmentID() == "id of band"
    segmentation.GetSegmentation().RemoveSegment("id of band")
    assert selector.currentSegmentID() == "id of tumor"
    slicer.mrmlScene.RemoveNode(segmentation)
    assert (selector.currentNode(), selector.currentSegmentID()) == (None, "")
    assert segments == ["id of tumor", "id of band", "id of tumor", ""]


def test_segment_selector_with_none(slicer, segmentation):
    selector = slicer.qMRMLSegmentSelectorWidget()
    selector.noneEnabled = True
    selector.setMRMLScene(slicer.mrmlScene)
    assert (selector.currentNode(), selector.currentSegmentID()) == (None, "")
    selector.setCurrentNode(segmentation)
    assert selector.currentSegmentID() == "id of tumor"
    selector.setCurrentSegmentID("")
    assert selector.currentSegmentID() == ""


def test_segments_table(qt, slicer, segmentation):
    table = slicer.qMRMLSegmentsTableView()
    table.setMRMLScene(slicer.mrmlScene)
    table.setSegmentationNode(segmentation)
    assert (table.segmentCount, table.displayedSegmentIDs()) == (2, ("id of tumor", "id of band"))
    selected = []
    table.connect(
        "selectionChanged(QItemSelection,QItemSelection)", lambda *_: selected.append(table.selectedSegmentIDs())
    )
    table.setSelectedSegmentIDs(["id of band"])
    segmentation.GetSegmentation().AddEmptySegment("id of new", "new")
    assert (table.segmentCount, table.selectedSegmentIDs()) == (3, ("id of band",))
    segmentation.GetSegmentation().GetSegment("id of new").SetName("renamed")
    assert table.tableWidget().item(2, 3).text() == "renamed"
    assert selected[0] == ("id of band",)
    table.setHideSegments(["id of tumor"])
    assert table.rowForSegmentID("id of tumor") == -1
    table.textFilter = "NAME"
    assert table.displayedSegmentIDs() == ("id of new",)
    slicer.mrmlScene.RemoveNode(segmentation)
    table.setSegmentationNode(None)
    assert table.segmentCount == 0


# Tables


def test_table_view_follows_its_node(slicer):
    import numpy as np

    node = add(slicer, "vtkMRMLTableNode")
    slicer.util.updateTableFromArray(node, [np.array([1.5, 2.5]), np.array([3.0, 4.0])], ["mean", "max"])
    view = slicer.qMRMLTableView()
    view.setMRMLScene(slicer.mrmlScene)
    view.setMRMLTableNode(node)
    model = view.model()
    assert (model.rowCount(), model.columnCount()) == (3, 2)
    assert model.item(0, 1).text() == "max"
    view.firstRowLocked = True
    assert (view.model().rowCount(), float(view.model().item(1, 0).text())) == (2, 2.5)
    node.SetCellText(0, 0, "7")
    node.Modified()
    assert float(view.model().item(0, 0).text()) == 7.0
    assert view.mrmlTableNode() is node
    view.setMRMLTableNode(None)
    assert view.model().rowCount() == 0


# Markups


@pytest.fixture
def points(slicer):
    node = add(slicer, "vtkMRMLMarkupsFiducialNode", "extremes")
    for index, label in enumerate(("Left", "Right")):
        node.AddControlPoint(10.0 * index, 2.0, -3.5, label)
    return node


def test_markups_table_shows_and_edits_points(qt, slicer, points):
    widget = slicer.qSlicerSimpleMarkupsWidget()
    widget.setMRMLScene(slicer.mrmlScene)
    changed = record(widget, "markupsNodeChanged()")
    assert widget.currentNode() is None
    widget.setCurrentNode(points)
    table = widget.tableWidget()
    assert (len(changed), table.rowCount, table.item(1, 0).text(), table.item(1, 3).text()) == (1, 2, "Right", "-3.500")
    points.UnsetNthControlPointPosition(1)
    assert [table.item(1, column).text() for column in range(4)] == ["Right", "", "", ""]
    points.SetNthControlPointPosition(1, 1.0, 2.0, 3.0)
    assert table.item(1, 1).text() == "1.000"
    table.item(0, 0).setText("Lateral")
    table.item(0, 2).setText("8.25")
    table.item(0, 3).setText("not a number")
    assert points.GetNthControlPointLabel(0) == "Lateral"
    assert tuple(points.GetNthControlPointPosition(0)) == (0.0, 8.25, -3.5)
    assert table.item(0, 3).text() == "-3.500"
    points.AddControlPoint(0, 0, 0, "Anterior")
    assert table.rowCount == 3
    widget.highlightNthControlPoint(2)
    assert table.currentRow() == 2
    slicer.mrmlScene.RemoveNode(points)
    assert (widget.currentNode(), table.rowCount) == (None, 0)


def test_markups_table_shows_world_positions(slicer, points):
    import vtk

    transform = add(slicer, "vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 100.0)
    transform.SetMatrixTransformToParent(matrix)
    points.SetAndObserveTransformNodeID(transform.GetID())
    widget = slicer.qSlicerSimpleMarkupsWidget()
    widget.setMRMLScene(slicer.mrmlScene)
    widget.setCurrentNode(points)
    assert widget.tableWidget().item(1, 1).text() == "110.000"


def test_place_widget_drives_the_interaction_node(slicer, points):
    interaction = slicer.mrmlScene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    place = slicer.qSlicerMarkupsPlaceWidget()
    placing = record(place, "activeMarkupsPlaceModeChanged(bool)")
    place.setPlaceModeEnabled(True)  # without scene and node nothing happens
    assert not place.placeModeEnabled
    place.setMRMLScene(slicer.mrmlScene)
    place.setCurrentNode(points)
    place.placeMultipleMarkups = slicer.qSlicerMarkupsPlaceWidget.ForcePlaceMultipleMarkups
    place.placeButton().click()
    assert interaction.GetCurrentInteractionMode() == interaction.Place
    assert (place.currentNodeActive, place.placeModeEnabled, place.placeModePersistency) == (True, True, True)
    interaction.SwitchToViewTransformMode()  # by the tool bar, or after the last point
    assert not place.placeModeEnabled
    assert not place.placeButton().checked
    assert placing == [True, False]
    place.setCurrentNodeActive(False)
    assert not place.currentNodeActive


def test_place_widget_removes_points(slicer, points):
    place = slicer.qSlicerMarkupsPlaceWidget()
    place.setMRMLScene(slicer.mrmlScene)
    place.setCurrentNode(points)
    place.deleteButton().click()
    assert points.GetNumberOfControlPoints() == 1
    points.SetFixedNumberOfControlPoints(True)
    place.deleteButton().click()  # a fixed list only loses the position
    assert (points.GetNumberOfControlPoints(), points.GetNumberOfDefinedControlPoints()) == (1, 0)
    points.SetFixedNumberOfControlPoints(False)
    place.deleteAllPoints()
    assert not place.deleteButton().enabled
    with pytest.raises(ValueError, match="matching overload"):
        place.setCurrentNode("a name")
