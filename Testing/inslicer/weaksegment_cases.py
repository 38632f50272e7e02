"""What the WeakSegment panel must do, as plain functions on an empty scene; they run in Slicer and in the test host."""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import contextmanager

import numpy as np
import qt
import slicer
import vtk

NAMES = ("Left", "Right", "Anterior", "Posterior", "Inferior", "Superior")
CENTER_IJK = np.array([19.0, 15.0, 9.0])
RADII_IJK = np.array([9.0, 6.0, 5.0])
SIZE_KJI = (20, 30, 38)


# The scene of a case: an enhancing ellipsoid in noise, on an oblique grid of three different sizes and spacings


def ijk_to_ras():
    a, b = np.deg2rad(20.0), np.deg2rad(-10.0)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    matrix = np.eye(4)
    matrix[:3, :3] = about_z @ about_x @ np.diag([-0.8, -1.1, 2.0])
    matrix[:3, 3] = (40.0, 55.0, -20.0)
    return matrix


def inside_lesion():
    k, j, i = np.indices(SIZE_KJI)
    return sum(((x - c) / r) ** 2 for x, c, r in zip((i, j, k), CENTER_IJK, RADII_IJK, strict=True)) <= 1


def add_volume(name, lesion_signal, seed):
    array = np.random.default_rng(seed).normal(100, 8, SIZE_KJI) + lesion_signal * inside_lesion()
    node = slicer.util.addVolumeFromArray(array.astype(np.int16), ijkToRAS=ijk_to_ras(), name=name)
    return node


def end_positions():
    """Return the six ends of the lesion in world RAS, named by the patient's directions."""
    voxels = np.argwhere(inside_lesion())[:, ::-1]
    ras = voxels @ ijk_to_ras()[:3, :3].T + ijk_to_ras()[:3, 3]
    ends = (
        ras[:, 0].argmin(),
        ras[:, 0].argmax(),
        ras[:, 1].argmax(),
        ras[:, 1].argmin(),
        ras[:, 2].argmin(),
        ras[:, 2].argmax(),
    )
    return ras[list(ends)]


def place(points, count=6):
    for n, position in enumerate(end_positions()[:count]):
        points.SetNthControlPointPositionWorld(n, *position)


def add_truth(image):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "truth")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(image)
    segment = node.GetSegmentation().AddEmptySegment("", "drawn by a reader", (0, 1, 0))
    slicer.util.updateSegmentBinaryLabelmapFromArray(inside_lesion().astype(np.uint8), node, segment, image)
    return node, segment


def open_panel():
    """Open the module anew and return its Python widget object."""
    representation = slicer.modules.weaksegment.widgetRepresentation()
    representation.exit()
    representation.enter()
    return slicer.util.getModuleWidget("WeakSegment")


def ready_panel():
    """Return the panel with an image, its pre-contrast image and six placed points."""
    image, pre = add_volume("post", 80, 1), add_volume("pre", 0, 2)
    widget = open_panel()
    widget.parameters.image, widget.parameters.preContrast = image, pre
    widget.ui.addLesionButton.click()
    place(widget.parameters.points)
    return widget


def lesion_segment(widget):
    """Return the segment id of the selected lesion."""
    return widget.logic.lesion(widget.parameters.points).segment()[1]


def positions(points):
    return np.array([points.GetNthControlPointPositionWorld(n) for n in range(points.GetNumberOfControlPoints())])


def move_point(points, n, offset):
    points.SetNthControlPointPositionWorld(n, *np.add(points.GetNthControlPointPositionWorld(n), offset))


def at_voxel(i, j, k):
    """Return the world position of a voxel, as a list."""
    return (ijk_to_ras()[:3, :3] @ (i, j, k) + ijk_to_ras()[:3, 3]).tolist()


def outside_click():
    """Return a place at the rim of the lesion."""
    return at_voxel(CENTER_IJK[0] + 7, CENTER_IJK[1], CENTER_IJK[2])


def segment_array(node, segment_id, image):
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id, image) > 0


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def segment_ids(node):
    return list(node.GetSegmentation().GetSegmentIDs())


def names_of_nodes():
    nodes = [slicer.mrmlScene.GetNthNode(n) for n in range(slicer.mrmlScene.GetNumberOfNodes())]
    return sorted(f"{node.GetClassName()} {node.GetName()}" for node in nodes)


@contextmanager
def shown_errors():
    """Collect what is shown to the user as an error; in testing mode it goes to the log only."""
    messages = []

    class Collector(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())

    collector = Collector(logging.ERROR)
    logging.getLogger().addHandler(collector)
    try:
        yield messages
    finally:
        logging.getLogger().removeHandler(collector)


def during_the_job(action):
    """Let something happen when the running job next lets the application handle events."""
    qt.QTimer.singleShot(0, action)


def wait_for(condition, timeout_s=20):
    """Let the application go on until the condition holds."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited too long"
        slicer.app.processEvents()
        time.sleep(0.005)


def settle(widget):
    """Wait until live updates have caught up."""
    wait_for(lambda: not widget.following.busy)


def drag(points, n, offset):
    """Do what dragging a point does: start, many moves, release."""
    points.InvokeEvent(slicer.vtkMRMLMarkupsNode.PointStartInteractionEvent)
    for _ in range(5):
        move_point(points, n, np.divide(offset, 5))
        slicer.app.processEvents()
    points.InvokeEvent(slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent)


def live_panel():
    """Return the panel in live mode, with a lesion that has caught up."""
    widget = ready_panel()
    widget.ui.liveCheckBox.click()
    settle(widget)
    return widget


# The cases


def case_points_are_created_named_and_asked_for_in_order():
    image = add_volume("post", 80, 1)
    widget = open_panel()
    assert widget.parameters.image is image, "the only volume is suggested"
    assert not widget.ui.applyButton.enabled
    widget.ui.addLesionButton.click()
    points = widget.parameters.points
    assert [points.GetNthControlPointLabel(n) for n in range(6)] == list(NAMES)
    assert points.GetNumberOfDefinedControlPoints() == 0
    assert points.GetFixedNumberOfControlPoints()
    assert widget.ui.pointsPlaceWidget.currentNode() is points
    assert widget.ui.pointsPlaceWidget.placeModeEnabled
    for count, name in enumerate(NAMES):
        status = widget.ui.pointsStatusLabel.text
        assert status.startswith(f"{count} of 6 points are placed. Place next: {name}"), status
        assert widget.ui.applyButton.toolTip == status
        points.SetNthControlPointPositionWorld(count, *end_positions()[count])
    assert "All six points are placed" in widget.ui.pointsStatusLabel.text
    assert widget.ui.applyButton.enabled
    assert not widget.ui.pointsPlaceWidget.placeModeEnabled, "placing ends by itself"
    points.UnsetNthControlPointPosition(2)
    assert "Place next: Anterior." in widget.ui.pointsStatusLabel.text
    assert not widget.ui.applyButton.enabled


def point_cells(widget, column=1):
    table = widget.ui.pointsTable
    return [table.item(n, column).text() for n in range(table.rowCount)]


def case_table_tells_what_is_missing_or_does_not_fit():
    widget = ready_panel()
    p, ui = widget.parameters, widget.ui
    points, table = p.points, ui.pointsTable
    assert point_cells(widget, 0) == list(NAMES)
    assert point_cells(widget) == ["placed"] * 6
    np.testing.assert_allclose([float(x) for x in point_cells(widget, 3)], end_positions()[:, 1], atol=0.06)
    assert not ui.placePointsButton.enabled, "all are placed"
    for n in (2, 4):
        points.UnsetNthControlPointPosition(n)
    assert point_cells(widget) == ["placed", "placed", "next", "placed", "to place", "placed"]
    assert point_cells(widget, 3)[2] == ""
    points.SetNthControlPointPositionWorld(2, *end_positions()[3])
    assert point_cells(widget) == ["placed", "placed", "placed", "as Anterior", "next", "placed"]
    assert "At the position of Anterior" in table.item(3, 1).toolTip()
    place(points)
    far = np.add(end_positions()[5], (0, 0, 300))
    points.SetNthControlPointPositionWorld(5, *far)
    assert point_cells(widget)[5] == "outside"
    assert "mm outside 'post'" in table.item(5, 1).toolTip()
    place(points)
    points.SetNthControlPointPositionWorld(4, *end_positions()[5])
    points.SetNthControlPointPositionWorld(5, *end_positions()[4])
    assert point_cells(widget)[4:] == ["Superior end", "Inferior end"], "allowed, but told"
    assert ui.applyButton.enabled
    middle = at_voxel(*CENTER_IJK)
    for n, k in ((0, 0), (1, 0), (2, 0), (3, 0), (4, -1), (5, 0)):
        i, j = [(-5, 0), (5, 0), (0, 5), (0, -5), (1, 1), (-1, -1)][n]
        points.SetNthControlPointPositionWorld(n, *np.add(middle, ijk_to_ras()[:3, :3] @ (i, j, k)))
    assert point_cells(widget)[4:] == ["too thin", "too thin"], point_cells(widget)
    assert not ui.applyButton.enabled
    assert "at least 3 are needed" in ui.pointsStatusLabel.text
    place(points)
    points.SetNthControlPointPositionWorld(4, *np.add(at_voxel(CENTER_IJK[0], CENTER_IJK[1], CENTER_IJK[2] + 4), 0.1))
    assert point_cells(widget)[4] == "not at an end"
    assert "No point marks the" in table.item(4, 1).toolTip()
    p.image = None
    assert point_cells(widget) == ["placed"] * 6, "without an image nothing more can be said"


def case_points_of_another_transform_are_told():
    widget = ready_panel()
    p = widget.parameters
    other = add_volume("T2", 0, 5)
    p.points.SetNthControlPointAssociatedNodeID(1, other.GetID())
    widget.refresh()
    assert point_cells(widget)[1] == "placed", "the two images lie in one space"
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "registration")
    other.SetAndObserveTransformNodeID(transform.GetID())
    widget.refresh()
    assert point_cells(widget)[1] == "other image"
    assert "'T2', which lies under another transform than 'post'" in widget.ui.pointsTable.item(1, 1).toolTip()
    p.points.SetAndObserveTransformNodeID(transform.GetID())
    assert "do not move with it" in widget.ui.pointsStatusLabel.text
    assert widget.ui.applyButton.enabled, "their places count"


def case_one_point_is_placed_again():
    widget = ready_panel()
    p, ui = widget.parameters, widget.ui
    ui.pointsTable.setCurrentCell(3, 0)
    ui.placeAgainButton.click()
    assert point_cells(widget)[3] == "next"
    assert ui.pointsPlaceWidget.placeModeEnabled
    assert ui.placePointsButton.checked
    ui.placePointsButton.click()
    assert not ui.pointsPlaceWidget.placeModeEnabled
    ui.clearPointsButton.click()
    assert point_cells(widget) == ["next"] + ["to place"] * 5
    assert not ui.clearPointsButton.enabled
    jumped = view_matrix(slice_views()["Red"])
    place(p.points)
    ui.pointsTable.cellClicked(5, 0)
    assert (view_matrix(slice_views()["Red"]) != jumped).any(), "the view shows the point"


def case_percentage_enhancement_is_a_choice():
    widget = ready_panel()
    p, ui = widget.parameters, widget.ui
    choices = [ui.contrastComboBox.itemText(n) for n in range(ui.contrastComboBox.count)]
    assert choices == ["Difference from pre-contrast", "Percentage enhancement", "Image alone"]
    ui.contrastComboBox.setCurrentIndex(1)
    ui.applyButton.click()
    record = run_record(widget)
    assert record["image"]["name"] == "post, percent enhancement over pre"
    assert record["pre"] is None
    assert dice(segment_array(p.output, lesion_segment(widget), p.image), inside_lesion()) > 0.9
    ui.contrastComboBox.setCurrentIndex(2)
    ui.applyButton.click()
    assert (run_record(widget)["image"]["name"], run_record(widget)["pre"]) == ("post", None)
    ui.contrastComboBox.setCurrentIndex(1)
    ui.scoreButton.click()
    assert slicer.util.getNode("Lesion: random-walk score")
    p.preContrast = None
    assert not ui.contrastComboBox.enabled
    ui.applyButton.click()
    assert run_record(widget)["image"]["name"] == "post", "without a pre-contrast image it is the image alone"


def slice_views():
    return {name: slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceNode{name}") for name in ("Red", "Green", "Yellow")}


def view_matrix(view):
    return slicer.util.arrayFromVTKMatrix(view.GetSliceToRAS()).copy()


def case_views_follow_the_points_being_placed():
    from WeakSegmentLib.inslicer.views import orientation

    add_volume("post", 80, 1)
    widget, views = open_panel(), slice_views()
    before = {name: view_matrix(view) for name, view in views.items()}
    widget.ui.addLesionButton.click()
    normals = ijk_to_ras()[:3, :3] / np.linalg.norm(ijk_to_ras()[:3, :3], axis=0)
    for view in views.values():
        cosines = np.abs(normals.T @ view_matrix(view)[:3, 2])
        assert cosines.max() > 0.999, "the views lie in the planes of the oblique image"
    points = widget.parameters.points
    place(points, 4)
    middle = end_positions()[:4].mean(axis=0)
    for view in views.values():
        if orientation(view) in ("Coronal", "Sagittal"):
            matrix = view_matrix(view)
            assert abs(matrix[:3, 2] @ (middle - matrix[:3, 3])) < 0.1, "the lower end is seen through the middle"
    assert widget.parameters.image is not None
    place(points)
    for name, view in views.items():
        np.testing.assert_allclose(view_matrix(view)[:3, :3], before[name][:3, :3], atol=1e-6)
        distance = view_matrix(view)[:3, 2] @ (end_positions()[:5].mean(axis=0) - view_matrix(view)[:3, 3])
        assert abs(distance) < 0.1, "turned back, they show the lesion"


def case_only_view_is_turned_for_the_lower_end_and_back():
    from WeakSegmentLib.inslicer.views import orientation

    add_volume("post", 80, 1)
    widget, views = open_panel(), slice_views()
    mapped = {name: view.IsMappedInLayout() for name, view in views.items()}
    try:
        for name, view in views.items():
            view.SetMappedInLayout(name == "Red")
        assert orientation(views["Red"]) == "Axial"
        green = view_matrix(views["Green"])
        widget.ui.addLesionButton.click()
        assert orientation(views["Red"]) == "Axial"
        place(widget.parameters.points, 4)
        assert orientation(views["Red"]) == "Coronal"
        widget.ui.pointsPlaceWidget.setPlaceModeEnabled(False)
        assert orientation(views["Red"]) == "Axial", "placing was given up"
        assert (view_matrix(views["Green"]) == green).all()
    finally:
        for name, view in views.items():
            view.SetMappedInLayout(mapped[name])


def case_shortcuts_work_only_while_the_module_is_entered():
    widget = ready_panel()
    keys = [shortcut.key.toString() for shortcut in widget.shortcuts]
    assert keys == [f"Ctrl+Shift+{letter}" for letter in "PMXZY"]
    assert all(shortcut.enabled for shortcut in widget.shortcuts)
    slicer.modules.weaksegment.widgetRepresentation().exit()
    assert not any(shortcut.enabled for shortcut in widget.shortcuts)
    open_panel()
    assert all(shortcut.enabled for shortcut in widget.shortcuts)
    widget.parameters.points.UnsetNthControlPointPosition(2)
    widget.ui.placePointsButton.click()
    assert widget.ui.pointsPlaceWidget.placeModeEnabled
    widget.ui.placePointsButton.click()
    assert not widget.ui.pointsPlaceWidget.placeModeEnabled


def case_points_named_for_another_end_are_told():
    widget = ready_panel()
    points, positions = widget.parameters.points, end_positions()
    points.SetNthControlPointPositionWorld(4, *positions[5])
    points.SetNthControlPointPositionWorld(5, *positions[4])
    assert "Inferior (Superior), Superior (Inferior)" in widget.ui.pointsStatusLabel.text
    assert widget.ui.applyButton.enabled, "the positions count, not the names"


def case_apply_makes_a_lesion_segment():
    widget = ready_panel()
    widget.ui.applyButton.click()
    p = widget.parameters
    assert p.output is not None
    lesion, unlabeled = segment_ids(p.output)
    assert lesion_segment(widget) == lesion
    segmentation, display = p.output.GetSegmentation(), p.output.GetDisplayNode()
    assert segmentation.GetSegment(lesion).GetName() == "Lesion"
    assert segmentation.GetSegment(unlabeled).GetName() == "Lesion (unlabeled)"
    assert display.GetSegmentVisibility(lesion)
    assert not display.GetSegmentVisibility(unlabeled)
    assert display.GetSegmentVisibility2DOutline(lesion)
    terminology = vtk.mutable("")
    segmentation.GetSegment(lesion).GetTag("TerminologyEntry", terminology)
    assert "Neoplasm" in str(terminology)
    mask = segment_array(p.output, lesion, p.image)
    assert dice(mask, inside_lesion()) > 0.9, dice(mask, inside_lesion())
    assert segment_array(p.output, unlabeled, p.image).any()
    volume_ml = mask.sum() * abs(np.linalg.det(ijk_to_ras()[:3, :3])) / 1000
    assert widget.ui.resultLabel.text == f"Lesion volume {volume_ml:.2f} ml."
    assert widget.ui.applyButton.text == "Apply"
    assert widget.ui.progressBar.isHidden()


def case_second_run_updates_the_first():
    widget = ready_panel()
    widget.ui.applyButton.click()
    before, ids = names_of_nodes(), segment_ids(widget.parameters.output)
    first = segment_array(widget.parameters.output, ids[0], widget.parameters.image)
    widget.parameters.segmentAbove = 0.9
    widget.ui.applyButton.click()
    assert names_of_nodes() == before
    assert segment_ids(widget.parameters.output) == ids
    second = segment_array(widget.parameters.output, ids[0], widget.parameters.image)
    assert second.sum() < first.sum()


def case_segments_of_the_user_are_never_overwritten():
    widget = ready_panel()
    truth, drawn = add_truth(widget.parameters.image)
    truth.GetSegmentation().GetSegment(drawn).SetName("Lesion")
    widget.parameters.output = truth
    widget.ui.applyButton.click()
    assert len(segment_ids(truth)) == 3
    assert lesion_segment(widget) != drawn
    assert (segment_array(truth, drawn, widget.parameters.image) == inside_lesion()).all()


def case_undo_and_redo_step_through_the_runs():
    widget = ready_panel()
    p, ui = widget.parameters, widget.ui
    assert not ui.undoButton.enabled
    assert not ui.redoButton.enabled
    image, sizes, before = p.image, [], names_of_nodes()
    for threshold in (0.5, 0.9, 0.2):
        p.segmentAbove = threshold
        ui.applyButton.click()
        sizes.append(segment_array(p.output, lesion_segment(widget), image).sum())
    assert len(set(sizes)) == 3
    lesion, record = lesion_segment(widget), run_record(widget)
    for size in (sizes[1], sizes[0]):
        ui.undoButton.click()
        assert segment_array(p.output, lesion, image).sum() == size
        assert ui.redoButton.enabled
    ui.undoButton.click()
    assert not ui.undoButton.enabled
    assert p.output is None
    assert names_of_nodes() == before, "the first run is taken back with the segmentation it made"
    assert p.points.GetNumberOfDefinedControlPoints() == 6, "the points stay"
    for size in sizes:
        ui.redoButton.click()
        assert segment_array(p.output, lesion, image).sum() == size
    assert not ui.redoButton.enabled
    assert run_record(widget) == record
    assert p.output.GetSegmentation().GetSegment(lesion).GetName() == p.points.GetName()
    ui.undoButton.click()
    p.segmentAbove = 0.7
    ui.applyButton.click()
    assert not ui.redoButton.enabled, "a new run ends what could be made again"


def case_undo_brings_the_points_and_clicks_back():
    widget = ready_panel()
    p, ui = widget.parameters, widget.ui
    ui.applyButton.click()
    start, first = positions(p.points), segment_array(p.output, lesion_segment(widget), p.image)
    move_point(p.points, 0, (-3, 0, 0))
    widget.logic.addClick(p.points, outside_click(), False)
    ui.applyButton.click()
    moved = positions(p.points)
    assert (segment_array(p.output, lesion_segment(widget), p.image) != first).any()
    ui.undoButton.click()
    np.testing.assert_allclose(positions(p.points), start)
    assert widget.logic.lesion(p.points).clicks() == []
    ui.redoButton.click()
    np.testing.assert_allclose(positions(p.points), moved)
    assert len(widget.logic.lesion(p.points).clicks()) == 1
    move_point(p.points, 0, (1, 0, 0))
    ui.undoButton.click()
    np.testing.assert_allclose(positions(p.points), start)


def case_undo_of_the_first_run_spares_what_the_user_drew():
    widget = ready_panel()
    p, ui = widget.parameters, widget.ui
    truth, _drawn = add_truth(p.image)
    ui.applyButton.click()
    made = p.output
    drawn = made.GetSegmentation().AddEmptySegment("", "drawn by hand")
    ui.undoButton.click()
    assert slicer.mrmlScene.IsNodePresent(made), "it holds a segment of the user"
    assert segment_ids(made) == [drawn]
    ui.redoButton.click()
    assert len(segment_ids(made)) == 3
    ui.undoButton.click()
    made.GetSegmentation().RemoveSegment(drawn)
    ui.redoButton.click()
    ui.undoButton.click()
    assert not slicer.mrmlScene.IsNodePresent(made)
    assert p.output is None, "not the next segmentation in the list"
    assert slicer.mrmlScene.IsNodePresent(truth)
    p.image.SetName("renamed")
    ui.redoButton.click()
    assert p.output is made
    assert widget.logic.lesion(p.points).segments()[0] is made
    ui.undoButton.click()
    slicer.mrmlScene.RemoveNode(p.points)
    assert not ui.redoButton.enabled, "there is no lesion to make it for"


def case_undo_is_gone_with_its_segmentation():
    widget = ready_panel()
    widget.ui.applyButton.click()
    widget.ui.applyButton.click()
    widget.ui.undoButton.click()
    assert widget.ui.undoButton.enabled
    assert widget.ui.redoButton.enabled
    slicer.mrmlScene.RemoveNode(widget.parameters.output)
    assert not widget.ui.undoButton.enabled
    assert not widget.ui.redoButton.enabled
    assert widget.logic.undo() is False
    assert widget.logic.redo() is False


def measures(widget):
    """Return the read-out of the measures once it has caught up."""
    slicer.app.processEvents()
    wait_for(lambda: not widget.measuring.busy)
    return widget.ui.measuresLabel.text


def case_measures_are_read_out():
    widget = ready_panel()
    assert "Press Apply" in measures(widget)
    widget.ui.applyButton.click()
    text = measures(widget)
    volume = segment_array(widget.parameters.output, lesion_segment(widget), widget.parameters.image).sum()
    volume *= abs(np.linalg.det(ijk_to_ras()[:3, :3])) / 1000
    assert text.startswith(f"Volume {volume:.2f} ml."), text
    ijk = ijk_to_ras()[:3, :3]
    longest = 2 * max(np.linalg.norm(ijk[:, n]) * RADII_IJK[n] for n in range(3))
    stated = float(text.partition("Longest diameter ")[2].partition(" mm")[0])
    assert abs(stated - longest) < 3, text
    assert "enhancement" not in text
    widget.parameters.late = add_volume("post 2", 40, 3)
    text = measures(widget)
    initial = float(text.partition("Initial enhancement ")[2].partition(" %")[0])
    assert 70 < initial < 80, text  # some tissue around the lesion is in the segment
    assert "(medium)" in text
    assert "(washout)" in text
    ratio = float(text.partition("SER ")[2].rstrip("."))
    assert abs(ratio - 2.0) < 0.1, text
    widget.parameters.late = slicer.util.addVolumeFromArray(np.zeros((3, 4, 5)), name="small")
    assert "'small' is not on the grid of 'post'" in measures(widget)


def case_reference_is_compared():
    widget = ready_panel()
    image = widget.parameters.image
    truth, drawn = add_truth(image)
    widget.ui.referenceSelector.setCurrentNode(truth)
    widget.ui.referenceSelector.setCurrentSegmentID(drawn)
    assert (widget.parameters.reference, widget.parameters.referenceSegmentId) == (truth, drawn)
    assert "Press Apply" in measures(widget)
    widget.ui.applyButton.click()
    p = widget.parameters
    expected = dice(segment_array(p.output, lesion_segment(widget), image), inside_lesion())
    assert f"Dice {expected:.3f}" in measures(widget), measures(widget)
    assert "Hausdorff" in measures(widget)
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        inside_lesion().astype(np.uint8), p.output, lesion_segment(widget), image
    )
    assert "Dice 1.000" in measures(widget), "an edited segment is compared again"
    slicer.util.updateSegmentBinaryLabelmapFromArray(np.zeros(SIZE_KJI, dtype=np.uint8), truth, drawn, image)
    assert "'drawn by a reader' is empty" in measures(widget)
    truth.GetSegmentation().RemoveSegment(drawn)
    assert "Dice" not in measures(widget), measures(widget)


def case_phases_are_chosen_by_name():
    volumes = {name: add_volume(name, 0, n) for n, name in enumerate(("late", "T2", "DCE pre", "early"))}
    widget = open_panel()
    p = widget.parameters
    assert (p.image, p.preContrast, p.late) == (volumes["early"], volumes["DCE pre"], volumes["late"])
    p.image, p.preContrast, p.late = volumes["T2"], None, None
    widget = open_panel()
    assert p.image is volumes["T2"], "what was chosen stays"
    assert p.preContrast is None
    widget.ui.findPhasesButton.click()
    assert (p.image, p.preContrast, p.late) == (volumes["early"], volumes["DCE pre"], volumes["late"])
    volumes["early"].SetName("contrast 1")
    volumes["late"].SetName("contrast 2")
    volumes["DCE pre"].SetName("contrast 0")
    before = names_of_nodes()
    with shown_errors() as errors:
        widget.ui.findPhasesButton.click()
    assert len(errors) == 1
    assert "Choose the images by hand" in errors[0]
    assert names_of_nodes() == before


def case_subtraction_alone_is_the_image():
    add_volume("T2", 0, 1)
    subtraction = add_volume("post-pre sub", 0, 2)
    widget = open_panel()
    assert widget.parameters.image is subtraction
    assert widget.parameters.preContrast is None


def case_phases_out_of_a_sequence():
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "dynamic")
    for n in range(4):
        frame = add_volume(f"frame {n}", 30 * n, n)
        sequence.SetDataNodeAtValue(frame, str(90 * n))
        slicer.mrmlScene.RemoveNode(frame)
    widget = open_panel()
    assert widget.parameters.image is None
    widget.ui.findPhasesButton.click()
    p = widget.parameters
    names = [node.GetName() for node in (p.image, p.preContrast, p.late)]
    assert names == ["dynamic post 1", "dynamic pre", "dynamic post 3"]
    means = [slicer.util.arrayFromVolume(node)[inside_lesion()].mean() for node in (p.image, p.preContrast, p.late)]
    np.testing.assert_allclose(means, [130, 100, 190], atol=2)
    count = len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))
    widget.ui.findPhasesButton.click()
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == count, "known by name now"


def case_maps_on_request():
    widget = ready_panel()
    p, ui = widget.parameters, widget.ui
    for button, title in (
        (ui.scoreButton, "Lesion: random-walk score"),
        (ui.jitterButton, "Lesion: share of runs with moved points"),
    ):
        button.click()
        node = slicer.util.getNode(title)
        values = slicer.util.arrayFromVolume(node)
        assert values.size < np.prod(SIZE_KJI), "only where there is something"
        assert 0 <= values.min() < values.max() <= 1
        assert node.GetDisplayNode().GetApplyThreshold()
        shape = [node]
        matrix = vtk.vtkMatrix4x4()
        shape[0].GetIJKToRASMatrix(matrix)
        start = np.linalg.inv(ijk_to_ras()) @ slicer.util.arrayFromVTKMatrix(matrix)[:, 3]
        i, j, k = np.rint(CENTER_IJK - start[:3]).astype(int)
        assert values[k, j, i] == 1, "in its place"
        before = names_of_nodes()
        move_point(p.points, 0, (-2, 0, 0))
        button.click()
        assert names_of_nodes() == before, "the map is updated"
        assert (slicer.util.arrayFromVolume(node).shape != values.shape) or (
            slicer.util.arrayFromVolume(node) != values
        ).any()
    assert p.output is None, "maps need no segment and make none"
    assert ui.applyButton.text == "Apply"


def case_map_can_be_cancelled():
    widget = ready_panel()
    before = names_of_nodes()
    during_the_job(lambda: widget.ui.applyButton.click())
    widget.ui.jitterButton.click()
    assert names_of_nodes() == before
    assert widget.ui.applyButton.text == "Apply"


def case_surface_is_colored_by_the_distance_to_a_reference():
    widget = ready_panel()
    p, ui = widget.parameters, widget.ui
    truth, drawn = add_truth(p.image)
    ui.applyButton.click()
    assert not ui.distanceButton.enabled, "there is no reference yet"
    p.reference, p.referenceSegmentId = truth, drawn
    ui.distanceButton.click()
    model = slicer.util.getNode("Lesion: distance to reference")
    distance = slicer.util.arrayFromModelPointData(model, "Distance to reference [mm]")
    points = slicer.util.arrayFromModelPoints(model)
    center = at_voxel(*CENTER_IJK)
    assert np.linalg.norm(points.mean(axis=0) - center) < 0.5
    assert np.abs(distance).mean() < 1
    assert model.GetDisplayNode().GetScalarVisibility()
    before = names_of_nodes()
    p.segmentAbove = 0.95
    ui.applyButton.click()
    ui.distanceButton.click()
    assert names_of_nodes() == before
    smaller = slicer.util.arrayFromModelPointData(model, "Distance to reference [mm]")
    assert smaller.mean() < distance.mean(), "inside the reference the distance is negative"


def case_table_of_all_lesions():
    widget = ready_panel()
    p, ui = widget.parameters, widget.ui
    p.late = add_volume("post 2", 40, 3)
    ui.applyButton.click()
    ui.addLesionButton.click()
    ui.tableButton.click()
    table = slicer.util.getNode("Lesion measures").GetTable()
    assert table.GetNumberOfRows() == 1, "a lesion without segment has no line"
    columns = [table.GetColumnName(n) for n in range(table.GetNumberOfColumns())]
    assert columns[:3] == ["Lesion", "Volume [ml]", "Longest diameter [mm]"]
    assert "Signal enhancement ratio [1]" in columns
    assert table.GetValueByName(0, "Image").ToString() == "post"
    assert abs(table.GetValueByName(0, "Volume [ml]").ToDouble() - 2.03) < 0.1


def case_surfaces_in_3d_on_request():
    widget = ready_panel()
    p, ui = widget.parameters, widget.ui
    assert not ui.show3DButton.enabled
    ui.applyButton.click()
    assert not p.output.GetSegmentation().ContainsRepresentation("Closed surface"), "not unless asked"
    ui.show3DButton.click()
    assert p.output.GetClosedSurfaceInternalRepresentation(lesion_segment(widget)).GetNumberOfPoints() > 100
    assert ui.show3DButton.checked
    first = p.output.GetClosedSurfaceInternalRepresentation(lesion_segment(widget)).GetNumberOfPoints()
    ui.liveCheckBox.click()
    drag(p.points, 1, (6, 0, 0))
    settle(widget)
    wait_for(lambda: p.output.GetSegmentation().ContainsRepresentation("Closed surface"))
    assert p.output.GetClosedSurfaceInternalRepresentation(lesion_segment(widget)).GetNumberOfPoints() != first
    ui.show3DButton.click()
    assert not p.output.GetSegmentation().ContainsRepresentation("Closed surface")


def case_segment_editor_takes_the_segment():
    widget = ready_panel()
    p = widget.parameters
    assert not widget.ui.editorButton.enabled
    widget.ui.applyButton.click()
    for _ in range(2):
        widget.ui.editorButton.click()
        editor = slicer.mrmlScene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
        assert editor.GetSegmentationNode() is p.output
        assert editor.GetSourceVolumeNode() is p.image
        assert editor.GetSelectedSegmentID() == lesion_segment(widget)


def case_settings_reach_the_method():
    widget = ready_panel()
    widget.ui.longestSideSpinBox.setValue(20)
    widget.ui.repetitionsSpinBox.setValue(2)
    widget.ui.excludeCheckBox.click()
    widget.ui.applyButton.click()
    record = run_record(widget)
    assert record["method"] == "random-walk"
    assert record["settings"]["longest_side"] == 20
    assert record["settings"]["repetitions"] == 2
    assert record["settings"]["exclude_non_enhancing"] is False
    assert record["pre"] == "pre"
    widget.ui.methodComboBox.setCurrentIndex(widget.ui.methodComboBox.findText("As published"))
    assert not widget.ui.longestSideSpinBox.enabled
    assert widget.ui.repetitionsSpinBox.enabled
    widget.ui.applyButton.click()
    record = run_record(widget)
    assert record["method"] == "published"
    assert record["settings"]["repetitions"] == 2


def case_methods_are_those_of_the_library():
    from WeakSegmentLib.settings import METHODS

    box = open_panel().ui.methodComboBox
    assert box.count == len(METHODS)
    assert [box.itemText(n) for n in range(3)] == ["Random walk", "As published", "Network"]


def case_deleted_nodes_are_not_replaced_by_others():
    widget = ready_panel()
    p = widget.parameters
    add_volume("another", 0, 5)
    p.late = add_volume("post 2", 40, 3)
    widget.ui.applyButton.click()
    add_truth(p.image)
    for role in ("late", "preContrast", "output", "points", "image"):
        slicer.mrmlScene.RemoveNode(getattr(p, role))
        assert getattr(p, role) is None, role
    assert widget.ui.imageSelector.currentNode() is None
    assert "No image is selected" in widget.ui.applyButton.toolTip


def run_record(widget):
    return widget.logic.record(widget.parameters.output, lesion_segment(widget))


def case_what_is_missing_is_said():
    widget = open_panel()

    def problem():
        assert not widget.ui.applyButton.enabled
        return widget.ui.applyButton.toolTip

    assert "No image is selected" in problem()
    widget.parameters.image = add_volume("post", 80, 1)
    assert "No extreme points are selected" in problem()
    widget.ui.addLesionButton.click()
    points = widget.parameters.points
    place(points, 5)
    assert "5 of 6 points are placed. Place next: Superior." in problem()
    points.SetNthControlPointPositionWorld(5, 0, 0, 900)
    assert "outside 'post'" in problem()
    place(points)
    assert widget.ui.applyButton.enabled
    small = slicer.util.addVolumeFromArray(np.zeros((3, 4, 5)), name="small")
    widget.parameters.preContrast = small
    assert "pre-contrast image 'small' must be another image on the grid of 'post'" in problem()
    widget.parameters.preContrast = widget.parameters.image
    assert "must be another image" in problem()
    widget.parameters.preContrast = None
    points.SetNthControlPointPositionWorld(5, *points.GetNthControlPointPositionWorld(4))
    assert "at the same position" in problem()


def case_bad_image_is_explained_and_changes_nothing():
    widget = ready_panel()
    slicer.util.arrayFromVolume(widget.parameters.preContrast)[:] = 0
    slicer.util.arrayFromVolume(widget.parameters.image)[:] = 7
    before = names_of_nodes()
    with shown_errors() as errors:
        widget.ui.applyButton.click()
    assert len(errors) == 1, errors
    assert "is constant (7) around the points" in errors[0]
    assert "Traceback" not in errors[0]
    assert names_of_nodes() == before
    assert widget.parameters.output is None
    assert widget.ui.applyButton.text == "Apply"
    assert widget.ui.inputsCollapsibleButton.enabled


def case_voxels_that_are_no_numbers():
    widget = ready_panel()
    p = widget.parameters
    for n, node in enumerate((p.image, p.preContrast)):
        array = slicer.util.arrayFromVolume(node).astype(np.float32)
        if n == 0:
            array[9, 15, 19] = np.nan
        slicer.util.updateVolumeFromArray(node, array)
    before = names_of_nodes()
    for contrast in range(3):
        widget.ui.contrastComboBox.setCurrentIndex(contrast)
        with shown_errors() as errors:
            widget.ui.applyButton.click()
        assert len(errors) == 1, errors
        assert "'post'" in errors[0]
        assert "not finite numbers" in errors[0] or "not numbers" in errors[0], errors
        assert names_of_nodes() == before
        assert widget.ui.applyButton.enabled


def case_image_of_one_slice():
    widget = ready_panel()
    thin = slicer.util.addVolumeFromArray(np.ones((1, 30, 38), dtype=np.int16), ijkToRAS=ijk_to_ras(), name="thin")
    widget.parameters.preContrast, widget.parameters.image = None, thin
    place(widget.parameters.points)
    assert not widget.ui.applyButton.enabled
    for n in range(6):
        widget.parameters.points.SetNthControlPointPositionWorld(n, *at_voxel(5 + 4 * n, 8 + 3 * n, 0))
    assert "at least 3 are needed" in widget.ui.applyButton.toolTip, widget.ui.applyButton.toolTip
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing")
    widget.parameters.image = empty
    assert "'nothing' holds no voxels" in widget.ui.applyButton.toolTip


def case_image_of_several_channels():
    points = ready_panel().parameters.points
    colors = np.zeros((*SIZE_KJI, 3), dtype=np.uint8)
    node = slicer.util.addVolumeFromArray(
        colors, ijkToRAS=ijk_to_ras(), name="colors", nodeClassName="vtkMRMLVectorVolumeNode"
    )
    before, message = names_of_nodes(), ""
    try:
        slicer.util.getModuleLogic("WeakSegment").segment(node, points)
    except ValueError as error:
        message = str(error)
    assert "'colors' has several components per voxel" in message
    assert names_of_nodes() == before


def case_transform_that_is_not_linear():
    widget = ready_panel()
    p = widget.parameters
    widget.ui.applyButton.click()
    bent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "bent")
    spline = vtk.vtkThinPlateSplineTransform()
    landmarks = vtk.vtkPoints()
    for corner in np.ndindex(2, 2, 2):
        landmarks.InsertNextPoint(*(100.0 * np.array(corner)))
    spline.SetSourceLandmarks(landmarks)
    spline.SetTargetLandmarks(landmarks)
    bent.SetAndObserveTransformToParent(spline)
    p.image.SetAndObserveTransformNodeID(bent.GetID())
    assert "'post' lies under the non-linear transform 'bent'" in widget.ui.applyButton.toolTip
    assert "Harden the transform on a copy" in widget.ui.applyButton.toolTip
    p.image.SetAndObserveTransformNodeID(None)
    p.output.SetAndObserveTransformNodeID(bent.GetID())
    before = names_of_nodes()
    with shown_errors() as errors:
        widget.ui.applyButton.click()
    assert len(errors) == 1, errors
    assert "lies under the non-linear transform 'bent'" in errors[0]
    assert names_of_nodes() == before
    assert p.image.GetTransformNodeID() is None, "nothing of the user's is hardened"


def case_too_large_for_the_published_method():
    widget = open_panel()
    array = np.broadcast_to(np.uint8(0), (150, 260, 260)).copy()
    image = slicer.util.addVolumeFromArray(array, name="large")
    widget.parameters.image = image
    widget.ui.addLesionButton.click()
    for n, axis in enumerate((0, 0, 1, 1, 2, 2)):
        position = np.array([130.0, 130.0, 75.0])
        position[axis] = (5, 250, 250, 5, 5, 145)[n]
        widget.parameters.points.SetNthControlPointPositionWorld(n, *position)
    widget.ui.methodComboBox.setCurrentIndex(widget.ui.methodComboBox.findText("As published"))
    before = names_of_nodes()
    with shown_errors() as errors:
        widget.ui.applyButton.click()
    assert len(errors) == 1, errors
    assert "10 million voxels; this method takes 8 million" in errors[0], errors
    assert "Use the random-walk method" in errors[0]
    assert names_of_nodes() == before


def case_cancel_changes_nothing():
    widget = ready_panel()
    widget.ui.applyButton.click()
    before, ids = names_of_nodes(), segment_ids(widget.parameters.output)
    mask = segment_array(widget.parameters.output, ids[0], widget.parameters.image)
    seen = []

    def press_cancel():
        seen.append((widget.ui.applyButton.text, widget.ui.applyButton.enabled, widget.ui.progressBar.isHidden()))
        seen.append(widget.ui.inputsCollapsibleButton.enabled or widget.ui.undoButton.enabled)
        seen.append(widget.cohort.ui.casesGroupBox.enabled)
        widget.ui.applyButton.click()

    widget.parameters.segmentAbove = 0.9
    during_the_job(press_cancel)
    with shown_errors() as errors:
        widget.ui.applyButton.click()
    assert seen == [("Cancel", True, False), False, False], seen
    assert errors == []
    assert names_of_nodes() == before
    assert (segment_array(widget.parameters.output, ids[0], widget.parameters.image) == mask).all()
    assert widget.ui.applyButton.text == "Apply"
    assert widget.ui.inputsCollapsibleButton.enabled
    assert widget.ui.undoButton.enabled


def case_scene_closed_while_the_job_runs():
    widget = ready_panel()
    during_the_job(lambda: slicer.mrmlScene.Clear())
    with shown_errors() as errors:
        widget.ui.applyButton.click()
    assert errors == []
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert widget.ui.applyButton.text == "Apply"
    assert "No image is selected" in widget.ui.applyButton.toolTip
    again = ready_panel()
    assert again.ui.resultLabel.text == ""
    again.ui.applyButton.click()
    assert again.parameters.output is not None, "the panel works on in the new scene"


def case_node_deleted_while_the_job_runs():
    for role in ("image", "output"):
        slicer.mrmlScene.Clear()
        widget = ready_panel()
        widget.ui.applyButton.click()
        doomed = getattr(widget.parameters, role)
        name = doomed.GetName()
        during_the_job(lambda doomed=doomed: slicer.mrmlScene.RemoveNode(doomed))
        with shown_errors() as errors:
            widget.ui.applyButton.click()
        assert len(errors) == 1, errors
        assert f"'{name}' was removed from the scene" in errors[0]
        assert not widget.job.running


def case_node_deleted_while_selected():
    widget = ready_panel()
    slicer.mrmlScene.RemoveNode(widget.parameters.points)
    assert widget.parameters.points is None
    assert widget.ui.pointsPlaceWidget.currentNode() is None
    assert "No extreme points are selected" in widget.ui.applyButton.toolTip
    slicer.mrmlScene.RemoveNode(widget.parameters.image)
    assert not widget.ui.applyButton.enabled


def case_user_leaves_the_module_while_the_job_runs():
    widget = ready_panel()
    representation = slicer.modules.weaksegment.widgetRepresentation()
    during_the_job(lambda: representation.exit())
    widget.ui.applyButton.click()
    assert widget.parameters is None
    again = open_panel()
    assert again.parameters.output is not None
    assert len(segment_ids(again.parameters.output)) == 2


def case_saved_scene_is_restored():
    widget = ready_panel()
    truth, drawn = add_truth(widget.parameters.image)
    widget.parameters.reference, widget.parameters.referenceSegmentId = truth, drawn
    widget.parameters.repetitions = 3
    widget.logic.addClick(widget.parameters.points, outside_click(), False)
    widget.ui.applyButton.click()
    scores = measures(widget)
    record = run_record(widget)
    folder = slicer.util.tempDirectory()
    path = os.path.join(folder, "exam.mrb")
    assert slicer.util.saveScene(path, properties={})
    slicer.mrmlScene.Clear()
    assert widget.parameters.image is None
    assert widget.parameters.repetitions != 3
    slicer.util.loadScene(path, properties={})
    slicer.app.processEvents()
    p = widget.parameters
    assert (p.image.GetName(), p.preContrast.GetName(), p.repetitions) == ("post", "pre", 3)
    assert widget.ui.imageSelector.currentNode() is p.image
    assert widget.ui.outputSelector.currentNode() is p.output
    assert widget.ui.repetitionsSpinBox.value == 3
    assert p.reference.GetName() == "truth"
    assert widget.ui.referenceSelector.currentNode() is p.reference
    assert measures(widget) == scores
    assert run_record(widget) == record
    assert [click.tumor for click in widget.logic.lesion(p.points).clicks()] == [False]
    assert not widget.ui.undoButton.enabled, "what was done before is not known here"
    assert widget.ui.applyButton.enabled
    count = len(segment_ids(p.output))
    widget.ui.applyButton.click()
    assert len(segment_ids(p.output)) == count, "segments of the saved run are known again"
    qt.QDir(folder).removeRecursively()


def case_transformed_image():
    widget = ready_panel()
    widget.ui.applyButton.click()
    p = widget.parameters
    expected = segment_array(p.output, lesion_segment(widget), p.image)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    matrix = np.array([[0.8, -0.6, 0, 10], [0.6, 0.8, 0, -20], [0, 0, 1, 30], [0, 0, 0, 1.0]])
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    for node in (p.image, p.preContrast, p.points):
        node.SetAndObserveTransformNodeID(transform.GetID())
    assert widget.ui.applyButton.enabled, widget.ui.applyButton.toolTip
    slicer.mrmlScene.RemoveNode(p.output)
    widget.ui.applyButton.click()
    assert p.output.GetTransformNodeID() == transform.GetID()
    assert (segment_array(p.output, lesion_segment(widget), p.image) == expected).all()
    p.preContrast.SetAndObserveTransformNodeID(None)
    widget.refresh()
    assert "on the grid of 'post'" in widget.ui.applyButton.toolTip, "moved apart, the images do not match"


def case_corrections_of_both_signs():
    widget = ready_panel()
    p, ui, logic = widget.parameters, widget.ui, widget.logic
    ui.applyButton.click()
    first = segment_array(p.output, lesion_segment(widget), p.image)
    assert not ui.clearClicksButton.enabled
    ui.backgroundClicksButton.click()
    place = ui.clicksPlaceWidget
    assert place.placeModeEnabled
    assert place.currentNode() is logic.lesion(p.points).click_node(False)
    assert (ui.backgroundClicksButton.checked, ui.tumorClicksButton.checked) == (True, False)
    place.currentNode().AddControlPointWorld(vtk.vtkVector3d(outside_click()), "")
    assert place.placeModeEnabled, "several clicks in a row"
    ui.tumorClicksButton.click()
    assert place.currentNode() is logic.lesion(p.points).click_node(True)
    assert (ui.backgroundClicksButton.checked, ui.tumorClicksButton.checked) == (False, True)
    ui.tumorClicksButton.click()
    assert not place.placeModeEnabled
    assert [click.tumor for click in logic.lesion(p.points).clicks()] == [False]
    assert ui.lesionsTable.item(0, 2).text() == "1"
    ui.applyButton.click()
    without = segment_array(p.output, lesion_segment(widget), p.image)
    i, j, k = (int(round(x)) for x in CENTER_IJK + (7, 0, 0))
    assert first[k, j, i]
    assert not without[k, j, i]
    record = run_record(widget)["clicks"]
    np.testing.assert_allclose(record[0]["position_ras_mm"], outside_click())
    ui.clearClicksButton.click()
    assert logic.lesion(p.points).clicks() == []
    logic.addClick(p.points, outside_click(), True)
    ui.applyButton.click()
    assert segment_array(p.output, lesion_segment(widget), p.image)[k, j, i]
    ui.methodComboBox.setCurrentIndex(ui.methodComboBox.findText("As published"))
    assert not ui.tumorClicksButton.enabled, "the published method knows no clicks"


def case_correction_outside_the_box_is_explained():
    widget = ready_panel()
    widget.logic.addClick(widget.parameters.points, at_voxel(2, 2, 2), True)
    with shown_errors() as errors:
        widget.ui.applyButton.click()
    assert len(errors) == 1, errors
    assert "click 1 marks lesion outside the box" in errors[0]


def case_several_lesions():
    widget = ready_panel()
    p, ui = widget.parameters, widget.ui
    ui.applyButton.click()
    first, output = p.points, p.output
    mask = segment_array(output, lesion_segment(widget), p.image)
    ui.addLesionButton.click()
    second = p.points
    assert second is not first
    assert [ui.lesionsTable.item(n, 0).text() for n in range(2)] == [first.GetName(), second.GetName()]
    assert [ui.lesionsTable.item(n, 1).text() for n in range(2)] == ["6 of 6", "0 of 6"]
    assert ui.lesionsTable.currentRow() == 1
    assert ui.pointsPlaceWidget.currentNode() is second
    for n, position in enumerate(end_positions()):
        second.SetNthControlPointPositionWorld(n, *np.add(position, ijk_to_ras()[:3, :3] @ (5, 0, 0)))
    ui.applyButton.click()
    assert p.output is output, "one segmentation for all lesions"
    assert len(segment_ids(output)) == 4
    other = segment_array(output, lesion_segment(widget), p.image)
    assert not (other & mask).any(), "voxels of one lesion are background of the other"
    assert run_record(widget)["others_checksum"] is not None
    ui.lesionsTable.setCurrentCell(0, 0)
    assert p.points is first
    assert (segment_array(output, lesion_segment(widget), p.image) == mask).all()
    volume = mask.sum() * abs(np.linalg.det(ijk_to_ras()[:3, :3])) / 1000
    assert ui.lesionsTable.item(0, 3).text() == f"{volume:.2f}"
    ui.lesionsTable.item(0, 0).setText("Index lesion")
    assert first.GetName() == "Index lesion"
    names = [output.GetSegmentation().GetSegment(s).GetName() for s in segment_ids(output)]
    assert names == ["Index lesion", "Index lesion (unlabeled)", second.GetName(), f"{second.GetName()} (unlabeled)"]
    ui.removeLesionButton.click()
    assert not slicer.mrmlScene.IsNodePresent(first)
    assert p.points is second
    assert len(segment_ids(output)) == 2
    assert ui.lesionsTable.rowCount == 1
    ui.removeLesionButton.click()
    assert p.points is None
    assert ui.lesionsTable.rowCount == 0
    assert not ui.removeLesionButton.enabled
    assert segment_ids(output) == []
    assert slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode") == []


def case_any_list_of_six_points_is_a_lesion():
    widget = ready_panel()
    first = widget.parameters.points
    loaded = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "from a file")
    for position in end_positions():
        loaded.AddControlPointWorld(vtk.vtkVector3d(position), "")
    five = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "five")
    for position in end_positions()[:5]:
        five.AddControlPointWorld(vtk.vtkVector3d(position), "")
    table = widget.ui.lesionsTable
    assert [table.item(n, 0).text() for n in range(table.rowCount)] == [first.GetName(), "from a file"]
    table.setCurrentCell(1, 0)
    assert widget.parameters.points is loaded
    widget.ui.applyButton.click()
    assert widget.parameters.output.GetSegmentation().GetNthSegment(0).GetName() == "from a file"
    slicer.mrmlScene.RemoveNode(loaded)
    assert table.rowCount == 1


def case_live_follows_the_points():
    widget = ready_panel()
    p, ui = widget.parameters, widget.ui
    assert p.output is None
    ui.liveCheckBox.click()
    settle(widget)
    first = segment_array(p.output, lesion_segment(widget), p.image)
    assert dice(first, inside_lesion()) > 0.9
    assert "preview" not in ui.resultLabel.text
    drag(p.points, 1, (6, 0, 0))
    assert (segment_array(p.output, lesion_segment(widget), p.image) == first).all()
    settle(widget)
    record = run_record(widget)
    assert record["settings"]["longest_side"] == p.longestSide, "the final answer, not the preview"
    np.testing.assert_allclose(sorted(record["points_ras_mm"]), sorted(positions(p.points).tolist()))
    p.segmentAbove = 0.8
    settle(widget)
    assert run_record(widget)["settings"]["segment_above"] == 0.8
    widget.logic.addClick(p.points, outside_click(), False)
    settle(widget)
    assert len(run_record(widget)["clicks"]) == 1
    live = segment_array(p.output, lesion_segment(widget), p.image)
    ui.liveCheckBox.click()
    ui.applyButton.click()
    assert (segment_array(p.output, lesion_segment(widget), p.image) == live).all(), "live and Apply agree"


def case_live_waits_for_the_release_and_drops_what_is_outdated():
    widget = live_panel()
    p = widget.parameters
    before = run_record(widget)
    events = slicer.vtkMRMLMarkupsNode
    p.points.InvokeEvent(events.PointStartInteractionEvent)
    move_point(p.points, 0, (-2, 0, 0))
    assert not widget.following.busy, "nothing is computed while the button is down"
    p.points.InvokeEvent(events.PointEndInteractionEvent)
    assert widget.following.busy
    p.points.InvokeEvent(events.PointStartInteractionEvent)
    assert not widget.following.busy, "the next move cancels"
    move_point(p.points, 0, (-2, 0, 0))
    p.points.InvokeEvent(events.PointEndInteractionEvent)
    settle(widget)
    after = run_record(widget)
    assert after["points_ras_mm"] != before["points_ras_mm"]
    widget.ui.undoButton.click()
    settle(widget)
    assert run_record(widget)["points_ras_mm"] == before["points_ras_mm"], "one step, for the last answer"
    assert not widget.following.busy, "what was taken back is not computed again"
    widget.ui.redoButton.click()
    settle(widget)
    assert run_record(widget)["points_ras_mm"] == after["points_ras_mm"]


def case_live_says_what_is_wrong_without_a_window():
    widget = live_panel()
    p = widget.parameters
    before = segment_array(p.output, lesion_segment(widget), p.image)
    with shown_errors() as errors:
        widget.logic.addClick(p.points, at_voxel(2, 2, 2), True)
        settle(widget)
    assert errors == []
    assert "Not updated: Corrective click 1 marks lesion outside the box" in widget.ui.resultLabel.text
    assert (segment_array(p.output, lesion_segment(widget), p.image) == before).all()
    widget.ui.clearClicksButton.click()
    settle(widget)
    assert "Not updated" not in widget.ui.resultLabel.text
    p.points.UnsetNthControlPointPosition(3)
    settle(widget)
    assert "Place next: Posterior" in widget.ui.pointsStatusLabel.text


def case_live_leaves_edited_segments_of_other_lesions_alone():
    widget = live_panel()
    p, ui = widget.parameters, widget.ui
    edited = np.zeros(SIZE_KJI, dtype=np.uint8)
    edited[8:11, 12:16, 15:20] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(edited, p.output, lesion_segment(widget), p.image)
    first = p.points
    ui.addLesionButton.click()
    settle(widget)
    ui.lesionsTable.setCurrentCell(0, 0)
    settle(widget)
    assert p.points is first
    assert (segment_array(p.output, lesion_segment(widget), p.image) == edited).all(), "selecting is no change"


def case_live_and_a_closed_scene():
    widget = live_panel()
    drag(widget.parameters.points, 0, (-2, 0, 0))
    assert widget.following.busy
    slicer.mrmlScene.Clear()
    assert not widget.following.busy
    for _ in range(20):
        slicer.app.processEvents()
        time.sleep(0.01)
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


def case_live_and_deleted_nodes():
    for role in ("image", "points", "output"):
        slicer.mrmlScene.Clear()
        widget = live_panel()
        drag(widget.parameters.points, 0, (-2, 0, 0))
        wait_for(lambda widget=widget: widget.following._thread is not None)
        slicer.mrmlScene.RemoveNode(getattr(widget.parameters, role))
        with shown_errors() as errors:
            settle(widget)
        assert errors == []


def case_live_goes_on_when_the_panel_is_left():
    widget = live_panel()
    before = run_record(widget)
    drag(widget.parameters.points, 0, (-2, 0, 0))
    slicer.modules.weaksegment.widgetRepresentation().exit()
    settle(widget)
    again = open_panel()
    assert run_record(again)["points_ras_mm"] != before["points_ras_mm"]
    assert not again.following.busy


def case_console():
    image, pre = add_volume("post", 80, 1), add_volume("pre", 0, 2)
    logic = slicer.util.getModuleLogic("WeakSegment")
    points = logic.createPoints(image)
    place(points)
    logic.addClick(points, outside_click(), True)
    done = logic.segment(image, points, pre, segmentName="Index lesion")
    assert done.segmentationNode.GetSegmentation().GetSegment(done.segmentId).GetName() == "Index lesion"
    assert logic.lesion(points).segment() == (done.segmentationNode, done.segmentId)
    assert done.result.record["clicks"][0]["tumor"] is True
    truth, drawn = add_truth(image)
    scores = logic.compare(done.segmentationNode, done.segmentId, truth, drawn, image)
    assert scores.dice > 0.9
    assert logic.undo() is True
    assert logic.undo() is False
    assert logic.redo() is True
    for arguments, expected in (
        ((None, points), "No image is selected"),
        ((image, None), "No extreme points are selected"),
        ((image, points, None, None, "magic"), "There is no method 'magic'; use random-walk or published"),
    ):
        message = ""
        try:
            logic.segment(*arguments)
        except ValueError as error:
            message = str(error)
        assert expected in message, message


def case_simulated_exam_is_ready_to_apply():
    slicer.util.getModuleLogic("WeakSegment").simulateCase(seed=1)
    widget = open_panel()
    p = widget.parameters
    assert [node.GetName() for node in (p.preContrast, p.image)] == ["pre-contrast", "post-contrast 1"]
    assert p.late.GetName() > p.image.GetName()
    assert p.points.GetName() == "Lesion"
    assert widget.ui.applyButton.enabled


def case_simulated_exam():
    logic = slicer.util.getModuleLogic("WeakSegment")
    exam = logic.simulateCase(seed=1)
    done = logic.segment(exam.postNodes[0], exam.pointsNode, exam.preNode)
    truth = (exam.truthSegmentationNode, exam.truthSegmentId)
    scores = logic.compare(done.segmentationNode, done.segmentId, *truth, exam.postNodes[0])
    assert scores.dice > 0.8, scores
    assert exam.tissueNode.GetDisplayNode().GetColorNode().GetColorName(6) == "lesion"
    json.dumps(exam.parameters)


CASES = [function for name, function in sorted(globals().items()) if name.startswith("case_")]
