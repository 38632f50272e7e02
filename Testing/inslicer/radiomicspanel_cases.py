"""What RadiomicsPanel does in Slicer; every case runs in the real application and in the test host."""

import csv
import tempfile
from pathlib import Path

import numpy as np
import slicer
import vtk
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.nodes import mask_to_segment, segmentation_for, volume_to_node
from BreastBiomarkersLib.volume import Volume


def make_exam(transformed=False):
    """Return an oblique, anisotropic image with two balls of different size and brightness as segments."""
    angle = np.deg2rad(20.0)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    ijk_to_ras = np.eye(4)
    ijk_to_ras[:3, :3] = turn * [-1.0, 1.2, 2.0]
    ijk_to_ras[:3, 3] = (5.0, -40.0, 12.0)
    index = np.indices((20, 36, 50))[::-1].reshape(3, -1).T
    image = Volume(np.random.default_rng(3).normal(50.0, 6.0, (20, 36, 50)), ijk_to_ras, "MRI")
    ras = image.points_to_ras(index)
    balls = []
    for center, radius, brightness in (((14, 14, 9), 7.0, 60.0), ((36, 22, 10), 9.0, 110.0)):
        inside = np.linalg.norm(ras - image.points_to_ras(np.array([center])), axis=1) <= radius
        balls.append(inside.reshape(image.shape))
        image.array[balls[-1]] += brightness
    volume = volume_to_node(image)
    if transformed:
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Tilt")
        matrix = vtk.vtkTransform()
        matrix.RotateX(33)
        matrix.Translate(4, 5, 6)
        transform.SetMatrixTransformToParent(matrix.GetMatrix())
        volume.SetAndObserveTransformNodeID(transform.GetID())
        image = Volume(image.array, slicer.util.arrayFromVTKMatrix(matrix.GetMatrix()) @ ijk_to_ras, "MRI")
    segmentation = segmentation_for(volume, "Lesions")
    for n, ball in enumerate(balls):
        mask_to_segment(image.with_array(ball), segmentation, f"lesion {n + 1}")
    return volume, segmentation


def family_items(widget):
    """Return the items of the families; those with features of several categories have several."""
    tree = widget.ui.featuresTree
    tops = [tree.topLevelItem(n) for n in range(tree.topLevelItemCount)]
    return [top.child(m) for top in tops for m in range(top.childCount())]


def logic():
    from RadiomicsPanel import RadiomicsPanelLogic

    return RadiomicsPanelLogic()


def refusal(call):
    """Return what the call says when it refuses its input."""
    try:
        call()
    except InputError as error:
        return str(error)
    return "(not refused)"


def value(extraction, ibsi):
    return next(v.value for v in extraction.values if v.feature.ibsi == ibsi)


def case_two_segments_give_their_own_values():
    volume, segmentation = make_exam()
    done = logic().extract(volume, segmentation)
    small, large = done.extractions
    for extraction, radius, mean in ((small, 7.0, 110.0), (large, 9.0, 160.0)):
        assert abs(value(extraction, "RNU0") / (4 / 3 * np.pi * radius**3) - 1) < 0.06, "mesh volume of a ball"
        assert abs(value(extraction, "Q4LE") - mean) < 6, "mean intensity"
    table = done.tableNode
    names = [table.GetColumnName(n) for n in range(table.GetNumberOfColumns())]
    assert names == [
        "Family",
        "Feature",
        "Aggregation",
        "lesion 1",
        "lesion 2",
        "Unit",
        "IBSI code",
        "Category",
        "Filter",
        "Note",
    ]
    assert table.GetNumberOfRows() == len(small.values)
    column = table.GetTable().GetColumnByName("lesion 2")
    assert column.GetValue(0) == large.values[0].value


def case_a_parent_transform_changes_nothing():
    plain = logic().extract(*make_exam()).extractions
    slicer.mrmlScene.Clear()
    moved = logic().extract(*make_exam(transformed=True)).extractions
    for before, after in zip(plain, moved, strict=True):
        for a, b in zip(before.values, after.values, strict=True):
            assert (a.value is None) == (b.value is None)
            assert a.value is None or abs(a.value - b.value) <= 1e-6 * max(abs(a.value), 1e-3), a.column


def case_a_table_is_updated_in_place():
    volume, segmentation = make_exam()
    first = logic().extract(volume, segmentation, families=["stat"])
    count = slicer.mrmlScene.GetNumberOfNodes()
    again = logic().extract(volume, segmentation, families=["morph"], tableNode=first.tableNode)
    assert again.tableNode is first.tableNode
    assert slicer.mrmlScene.GetNumberOfNodes() == count, "no node is left behind"
    assert again.tableNode.GetCellText(0, 0) == "morph"


def case_bad_input_is_said_and_leaves_the_scene_alone():
    volume, segmentation = make_exam()
    empty = segmentation.GetSegmentation().AddEmptySegment("", "empty", (1.0, 0.0, 0.0))
    count = slicer.mrmlScene.GetNumberOfNodes()
    for arguments, message in (
        ((None, segmentation), "No image"),
        ((volume, None), "No segmentation"),
        ((volume, segmentation, ["none"]), "no segment 'none'"),
        ((volume, segmentation, [empty]), "empty"),
        ((volume, segmentation, None, "no-such-preset"), "no preset"),
        ((volume, segmentation, None, "mr", ["no-family"]), "no-family"),
    ):
        assert message in refusal(lambda arguments=arguments: logic().extract(*arguments))
    assert slicer.mrmlScene.GetNumberOfNodes() == count


def case_apply_in_the_panel_shows_and_exports_the_table():
    volume, segmentation = make_exam()
    slicer.util.selectModule("RadiomicsPanel") if slicer.util.mainWindow() else None
    widget = slicer.util.getModuleWidget("RadiomicsPanel")
    widget.enter()
    assert widget.parameters.image is volume, "the only image is chosen"
    assert widget.ui.applyButton.enabled, widget.ui.applyButton.toolTip
    widget.ui.applyButton.click()
    table = widget.parameters.table
    assert table is not None
    assert widget.ui.resultTableView.mrmlTableNode() is table
    assert "lesion 1: " in widget.ui.resultLabel.text
    assert widget.ui.exportButton.enabled
    with tempfile.TemporaryDirectory() as folder:
        widget.ui.exportPathLineEdit.currentPath = str(Path(folder) / "features.csv")
        widget.ui.exportButton.click()
        with (Path(folder) / "features.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert {row["segment"] for row in rows} == {"lesion 1", "lesion 2"}
        assert (Path(folder) / "features.provenance.json").exists()
    widget.exit()


def case_only_the_selected_segment_and_checked_families_are_measured():
    _volume, segmentation = make_exam()
    widget = slicer.util.getModuleWidget("RadiomicsPanel")
    widget.enter()
    ids = list(segmentation.GetSegmentation().GetSegmentIDs())
    widget.ui.segmentsTable.setSelectedSegmentIDs([ids[1]])
    assert widget.parameters.segmentIds == [ids[1]]
    import qt

    for item in family_items(widget):
        item.setCheckState(0, qt.Qt.Checked if item.data(0, qt.Qt.UserRole) == "glcm" else qt.Qt.Unchecked)
    widget.ui.applyButton.click()
    table = widget.parameters.table
    assert table.GetColumnName(3) == "lesion 2"
    assert {table.GetCellText(row, 0) for row in range(table.GetNumberOfRows())} == {"glcm"}
    segmentation.GetSegmentation().RemoveSegment(ids[1])
    assert widget.ui.applyButton.enabled, "the other segment is still there"
    for item in family_items(widget):
        item.setCheckState(0, qt.Qt.Unchecked)
    assert not widget.ui.applyButton.enabled
    assert "family" in widget.ui.applyButton.toolTip
    widget.exit()


CASES = [case for name, case in sorted(globals().items()) if name.startswith("case_")]
