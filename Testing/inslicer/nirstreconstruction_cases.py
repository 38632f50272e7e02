"""What NIRSTReconstruction does in Slicer; every case runs in the real application and in the test host."""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import re
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import qt
import slicer
import vtk
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.nodes import (
    mask_to_segment,
    points_to_node,
    segmentation_for,
    slice_to_ras,
    volume_from_node,
    volume_to_node,
)
from BreastBiomarkersLib.points import LabeledPoints
from BreastBiomarkersLib.volume import Volume, apply_affine

NAMES = ("hbo", "hbr", "water", "hbt", "sto2")
TITLES = ["HbO [uM]", "Hb [uM]", "Water [%]", "HbT [uM]", "StO2 [%]"]
RADII_MM = np.array([40.0, 42.0, 38.0])  # of the ellipsoid that stands for a breast, along R, A, S
LESION_MM, LESION_RADIUS_MM = np.array([12.0, 3.0, 8.0]), 9.0  # from the center
SIZE_KJI = (34, 50, 40)
FIBERS = 8
COARSE = {"element_size_mm": 9.0, "basis_nodes": 40}  # fast


class Exam(NamedTuple):
    volume: Any
    segmentation: Any
    segment: str

    @property
    def lesion(self):
        return self.segmentation, self.segment


def ijk_to_ras():
    """Return an oblique, anisotropic, flipped grid."""
    a, b = np.deg2rad([12.0, -8.0])
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    matrix = np.eye(4)
    matrix[:3, :3] = about_z @ about_x @ np.diag([-2.5, -2.0, 3.0])
    matrix[:3, 3] = (60.0, 45.0, -55.0)
    return matrix


def center_ras():
    return apply_affine(ijk_to_ras(), (np.array([SIZE_KJI[::-1]]) - 1) / 2)[0]


def make_exam(world=None):
    """Return an MRI of a breast with a lesion; with a (4, 4) matrix both lie under a transform node of this matrix."""
    index = np.indices(SIZE_KJI)[::-1].reshape(3, -1).T
    off = apply_affine(ijk_to_ras(), index) - center_ras()
    body = np.linalg.norm(off / RADII_MM, axis=1) <= 1
    lesion = np.linalg.norm(off - LESION_MM, axis=1) <= LESION_RADIUS_MM
    values = np.random.default_rng(1).normal(3.0, 1.0, len(off)) + 60.0 * body + 60.0 * lesion
    image = Volume(values.reshape(SIZE_KJI), ijk_to_ras(), "MRI")
    volume = volume_to_node(image)
    if world is not None:
        volume.SetAndObserveTransformNodeID(transform_node(world).GetID())
        image = Volume(image.array, world @ image.ijk_to_ras, "MRI")
    segmentation = segmentation_for(volume, "Lesions")
    return Exam(
        volume,
        segmentation,
        mask_to_segment(image.with_array(lesion.reshape(SIZE_KJI)), segmentation, "Lesion"),
    )


def transform_node(world):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Tilt")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(world))
    return node


def tilt(scale=(1.0, 1.0, 1.0)):
    matrix = vtk.vtkTransform()
    matrix.RotateX(33)
    matrix.RotateZ(12)
    matrix.Translate(4, 5, 6)
    matrix.Scale(*scale)
    return slicer.util.arrayFromVTKMatrix(matrix.GetMatrix())


def logic():
    from NIRSTReconstruction import NIRSTReconstructionLogic

    return NIRSTReconstructionLogic()


def place(exam):
    """Return a coronal plane through the lesion and a ring of fibers in it."""
    plane = logic().planeFromLesion(*exam.lesion, exam.volume)
    return plane, logic().placeRing(plane, exam.volume, FIBERS)


@functools.cache
def data_files():
    """Return files as an instrument would write them, for the exam and ring of `place`, and of a phantom."""
    from NIRSTReconstructionLib.measurements import write_csv_measurements

    was_empty = not slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    exam = make_exam()
    plane, ring = place(exam)
    light = logic().simulate(exam.volume, plane, ring, *exam.lesion, seed=4)
    for node in (ring, plane, exam.segmentation, exam.volume):  # the scene may hold the caller's
        slicer.mrmlScene.RemoveNode(node)
    if was_empty:
        slicer.mrmlScene.Clear()  # frees the names, too
    folder = Path(tempfile.mkdtemp(prefix="nirst-cases-"))
    for name in ("measurements", "reference"):
        data = getattr(light, name).at_wavelengths([661, 735, 826, 948])
        write_csv_measurements(data, folder / f"{name}.csv")
    return str(folder / "measurements.csv"), str(folder / "reference.csv")


def reconstruct(exam, plane, optodes, nirst=None, **choices):
    """Run the console verb on the measured files, coarsely."""
    lesion = {"segmentationNode": exam.segmentation, "segmentId": exam.segment}
    return (nirst or logic()).reconstruct(
        exam.volume, plane, optodes, *data_files(), **{"method": "hard-prior", **lesion, **COARSE, **choices}
    )


def open_panel():
    """Open the module anew and return its Python widget object, which reconstructs coarsely."""
    representation = slicer.modules.nirstreconstruction.widgetRepresentation()
    representation.exit()
    representation.enter()
    widget = slicer.util.getModuleWidget("NIRSTReconstruction")
    if not isinstance(widget.logic.prepare, functools.partial):
        widget.logic.prepare = functools.partial(widget.logic.prepare, **COARSE)
    return widget


def wait(condition, timeout_s=180):
    """Let the application go on until a condition holds."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it took too long"
        slicer.app.processEvents()
        time.sleep(0.005)


def settle(widget):
    """Wait for what the panel computes beside the window."""
    wait(lambda: not (widget.optodesSection.busy or widget.qualitySection.busy))


def apply(widget):
    """Press Apply and wait for the child process."""
    widget.ui.applyButton.click()
    wait(lambda: not widget.job.running)


def ready_panel():
    """Return the panel with everything chosen that Apply needs, by the means of the user."""
    files = data_files()
    exam = make_exam()
    widget = open_panel()
    widget.ui.lesionSelector.setCurrentNode(exam.segmentation)
    widget.ui.planeFromLesionButton.click()
    widget.ui.fiberCountSpinBox.setValue(FIBERS)
    widget.ui.placeRingButton.click()
    widget.ui.dataPathLineEdit.currentPath, widget.ui.referencePathLineEdit.currentPath = files
    widget.parameters.method = type(widget.parameters.method).HARD_PRIOR
    widget.parameters.assessTrust = False
    settle(widget)
    assert widget.ui.applyButton.enabled, widget.ui.applyButton.toolTip
    return widget


def results(widget):
    return widget.resultsSection.results().nodes()


def cells(table):
    """Return the texts of a table of the panel."""
    columns = range(table.columnCount)
    return [[table.item(row, column).text() for column in columns] for row in range(table.rowCount)]


def item_path(node):
    """Return the names of a node's folders in the subject hierarchy, the innermost first."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item, names = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)), []
    while item != hierarchy.GetSceneItemID():
        names.append(hierarchy.GetItemName(item))
        item = hierarchy.GetItemParent(item)
    return names


def names_of_nodes():
    nodes = [slicer.mrmlScene.GetNthNode(n) for n in range(slicer.mrmlScene.GetNumberOfNodes())]
    return sorted(f"{node.GetClassName()} {node.GetName()}" for node in nodes)


def refusal(call):
    """Return what the call says when it refuses its input."""
    try:
        call()
    except InputError as error:
        return str(error)
    return "(not refused)"


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


# Planes and fibers


def case_plane_from_lesion_is_coronal_through_its_middle():
    exam = make_exam()
    matrix = slice_to_ras(logic().planeFromLesion(*exam.lesion, exam.volume))
    assert np.allclose(matrix[:3, 2], (0, 1, 0), atol=1e-9)
    assert np.linalg.norm(matrix[:3, 3] - center_ras() - LESION_MM) < 2.5, matrix[:3, 3]


def case_plane_node_holds_the_plane_under_every_transform():
    from BreastBiomarkersLib.inslicer.nodes import mask_from_segment
    from NIRSTReconstructionLib.plane import plane_from_mask

    for scale in ((1.0, 1.0, 1.0), (1.3, 0.8, 1.1), (-1.0, 1.0, 1.0)):
        slicer.mrmlScene.Clear()
        exam = make_exam(tilt(scale))
        normal = (0.3, 0.9, -0.25)
        node = logic().planeFromLesion(*exam.lesion, exam.volume, normal)
        wanted = plane_from_mask(mask_from_segment(*exam.lesion, exam.volume), normal).plane_to_ras
        found = slice_to_ras(node)
        found[:3, :3] /= np.linalg.norm(found[:3, :3], axis=0)
        assert np.abs(found - wanted).max() < 1e-9, (scale, found - wanted)
        again = logic().planeFromLesion(*exam.lesion, exam.volume, (0, 0, 1), planeNode=node)
        assert again is node
        assert np.allclose(np.abs(slice_to_ras(node)[:3, 2] / np.linalg.norm(slice_to_ras(node)[:3, 2])), (0, 0, 1))
    before = slice_to_ras(node)[:3, 3]
    exam.volume.GetParentTransformNode().SetMatrixTransformToParent(vtk.vtkMatrix4x4())
    after = slice_to_ras(node)[:3, 3]
    assert np.allclose(after, apply_affine(np.linalg.inv(tilt(scale)), before[None])[0]), "it moves with the MRI"


def case_plane_from_optodes_fits_and_warns():
    exam = make_exam()
    plane, optodes = place(exam)
    widget = open_panel()
    widget.parameters.optodes = optodes
    assert not widget.ui.planeFromLesionButton.enabled, "no lesion is chosen"
    widget.ui.planeFromOptodesButton.click()
    found = widget.parameters.plane
    assert found is not plane, "a plane that is not chosen is left alone"
    assert np.allclose(slice_to_ras(found)[:3, 2], (0, 1, 0), atol=1e-6)
    assert "0.0 mm (root mean square)" in widget.ui.optodesStatusLabel.text
    for n in range(optodes.GetNumberOfControlPoints()):
        off = (-1) ** n * 4.0
        optodes.SetNthControlPointPositionWorld(
            n, *(np.array(optodes.GetNthControlPointPositionWorld(n)) + (0, off, 0))
        )
    assert "4.0 mm" in widget.ui.optodesStatusLabel.text
    assert "more than 3 mm" in widget.ui.optodesStatusLabel.text
    widget.ui.planeFromOptodesButton.click()
    assert widget.parameters.plane is found, "our own plane is moved"


def case_ring_lies_on_the_skin_and_leaves_the_chest_free():
    exam = make_exam()
    for normal, all_around in (((0, 1, 0), True), ((0, 0, 1), False)):
        plane = logic().planeFromLesion(*exam.lesion, exam.volume, normal)
        optodes = logic().placeRing(plane, exam.volume, 12)
        points = slicer.util.arrayFromMarkupsControlPoints(optodes, world=True) - center_ras()
        assert len(points) == 12
        distance = np.abs(np.linalg.norm(points / RADII_MM, axis=1) - 1) * RADII_MM.mean()
        assert distance.max() < 3, distance
        behind = points[:, 1] < -0.6 * np.abs(points[:, 1]).max()
        assert all_around or not behind.any(), "the third towards the chest wall stays free"
    again = logic().placeRing(plane, exam.volume, 8, optodesNode=optodes)
    assert again is optodes
    assert optodes.GetNumberOfControlPoints() == 8


def case_slice_view_can_be_the_plane():
    exam = make_exam()
    red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    widget = open_panel()
    widget.ui.planeSelector.setCurrentNode(red)
    assert widget.parameters.plane is red
    red.SetSliceOffset(float(center_ras()[2]))
    assert f"{center_ras()[2]:.1f}) mm, normal (0.00, 0.00, -1.00)" in widget.ui.planeStatusLabel.text
    widget.ui.placeRingButton.click()
    points = slicer.util.arrayFromMarkupsControlPoints(widget.parameters.optodes, world=True)
    assert np.allclose(points[:, 2], center_ras()[2])
    widget.ui.lesionSelector.setCurrentNode(exam.segmentation)
    widget.ui.planeFromLesionButton.click()
    assert widget.parameters.plane is not red
    assert np.allclose(slice_to_ras(red)[:3, 2], (0, 0, 1)), "a button does not turn the user's view"


def case_named_sources_and_detectors_are_told():
    exam = make_exam()
    widget = open_panel()
    plane, ring = place(exam)
    positions = slicer.util.arrayFromMarkupsControlPoints(ring, world=True)
    widget.parameters.plane, widget.parameters.optodes = plane, ring
    assert widget.ui.optodesStatusLabel.text.startswith("8 fibers, each source and detector.")
    labels = [f"{'S' if n % 2 else 'D'}{n // 2 + 1}" for n in range(FIBERS)]
    widget.parameters.optodes = points_to_node(LabeledPoints(labels, positions))
    assert widget.ui.optodesStatusLabel.text.startswith("4 sources, 4 detectors.")
    widget.parameters.optodes.SetNthControlPointLabel(0, "D2")
    assert "twice" in widget.ui.optodesStatusLabel.text
    assert not widget.ui.applyButton.enabled


# Reconstruction


def case_measured_light_becomes_images_in_the_plane():
    widget = ready_panel()
    p = widget.parameters
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    layers = [node.GetForegroundVolumeID() for node in composites]
    apply(widget)
    nodes = results(widget)
    assert [nodes[name].GetName() for name in NAMES] == TITLES
    assert {*NAMES, "contrast", "residual"} == set(nodes)
    assert [node.GetForegroundVolumeID() for node in composites] == layers, "nothing is shown unasked"
    plane = slice_to_ras(p.plane)
    assert {tuple(item_path(node)) for node in nodes.values()} == {("NIRST plane", "MRI NIRST")}
    for name in NAMES:
        node = nodes[name]
        grid = volume_from_node(node)
        assert grid.shape[0] == 1
        assert np.allclose(np.abs(grid.ijk_to_ras[:3, 2] @ plane[:3, 2]), 1.0), "1 mm thick, along the plane's normal"
        corners = grid.points_to_ras(np.array([[0, 0, 0], [grid.shape[2] - 1, grid.shape[1] - 1, 0]]))
        assert np.abs((corners - plane[:3, 3]) @ plane[:3, 2]).max() < 1e-6, "its voxel centers lie in the plane"
        display = node.GetDisplayNode()
        assert display.GetColorNode().GetName() == "Inferno"
        assert display.GetLowerThreshold() > 0, "outside the body nothing covers the MRI"
        legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(node)
        assert legend.GetTitleText() == node.GetName()
    hbt = volume_from_node(nodes["hbt"])
    bright = np.argwhere(hbt.array > 0.5 * (hbt.array.max() + hbt.array[hbt.array > 0].min()))[:, ::-1]
    found = hbt.points_to_ras(bright).mean(axis=0)
    assert np.linalg.norm(found - center_ras() - LESION_MM) < 4, found
    ratios = dict(
        zip(("HbO", "Hb", "Water", "HbT", "StO2"), (22 / 12, 13 / 5.5, 52 / 22, 35 / 17.5, 0.917), strict=True)
    )
    table = nodes["contrast"]
    assert [table.GetCellText(row, 0) for row in range(5)] == list(ratios)
    ratio = table.GetTable().GetColumnByName("Ratio")
    for row, (title, wanted) in enumerate(ratios.items()):
        assert abs(ratio.GetValue(row) / wanted - 1) < 0.2, (title, ratio.GetValue(row), wanted)
        assert cells(widget.ui.contrastTable)[row][3].startswith(f"{ratio.GetValue(row):.2f} \u00b1 ")
    text = widget.ui.resultLabel.text
    assert "Measured light of measurements.csv, calibrated on reference.csv." in text
    assert "661 nm " in text
    assert "Not assessed" in widget.ui.trustLabel.text
    assert widget.ui.applyButton.text == "Apply"
    assert widget.ui.progressBar.isHidden()


def case_child_process_gives_the_images_of_this_process():
    widget = ready_panel()
    p = widget.parameters
    p.excluded = "S3, 1-5@735"
    apply(widget)
    there = widget.resultsSection.results().read()
    widget.logic.reconstruct(*widget.nodes()[:3], *data_files(), "hard-prior", *widget.lesion(), excluded=p.excluded)
    here = widget.logic.results(p.image, p.plane).read()
    assert here.record["id"] != there.record["id"]
    for name in NAMES:
        scale = here.images[name].array.max()
        assert np.abs(here.images[name].array - there.images[name].array).max() < 1e-5 * scale, name
        assert np.allclose(here.images[name].ijk_to_ras, there.images[name].ijk_to_ras, atol=1e-6)
    assert here.record["chi"] == there.record["chi"] or np.allclose(here.record["chi"], there.record["chi"], rtol=1e-5)
    assert here.record["values_used"] == there.record["values_used"] == 224 - 4 * 7 - 1
    assert here.record["remarks"] == there.record["remarks"]
    assert any("29 of 224 values left out: unticked by the user." in remark for remark in there.record["remarks"])
    for name, values in here.residual.items():
        assert np.allclose(values, there.residual[name], rtol=1e-4, atol=1e-5), name


def case_second_run_updates_the_first_and_undo_brings_it_back():
    exam = make_exam()
    plane, ring = place(exam)
    nirst = logic()
    first = reconstruct(exam, plane, ring, nirst=nirst, update=True).volumeNodes
    before, images = names_of_nodes(), {name: volume_from_node(node).array for name, node in first.items()}
    first["hbo"].GetDisplayNode().SetWindowLevelMinMax(1.0, 50.0)
    first["water"].SetName("my water")
    second = reconstruct(exam, plane, ring, nirst=nirst, update=True, method="tikhonov").volumeNodes
    assert first == second
    assert np.abs(volume_from_node(first["hbo"]).array - images["hbo"]).max() > 0.5
    assert first["hbo"].GetDisplayNode().GetWindowLevelMax() == 50.0, "the user's window stays"
    hbr = volume_from_node(first["hbr"]).array
    assert np.isclose(first["hbr"].GetDisplayNode().GetWindowLevelMax(), hbr.max()), "ours follows the values"
    assert first["water"].GetName() == "my water"
    first["water"].SetName("Water [%]")
    assert names_of_nodes() == before
    assert nirst.undo()
    assert np.array_equal(volume_from_node(first["hbo"]).array, images["hbo"])
    assert nirst.results(exam.volume, plane).record()["method"] == "hard-prior"
    assert nirst.undo()
    assert not nirst.canUndo()
    assert not nirst.results(exam.volume, plane).nodes()
    assert "MRI NIRST" not in str(item_names()), "no empty folder stays"
    assert nirst.redo()
    assert nirst.redo()
    assert nirst.results(exam.volume, plane).record()["method"] == "tikhonov"
    slicer.mrmlScene.RemoveNode(nirst.results(exam.volume, plane).nodes()["sto2"])
    reconstruct(exam, plane, ring, nirst=nirst, update=True)
    assert set(nirst.results(exam.volume, plane).nodes()) >= set(NAMES), "what was deleted is made again"
    slicer.mrmlScene.RemoveNode(plane)
    assert not nirst.canUndo(), "there is no plane any more whose results could come back"


def item_names():
    import vtk

    hierarchy, ids = slicer.mrmlScene.GetSubjectHierarchyNode(), vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), ids, True)
    return [hierarchy.GetItemName(ids.GetId(n)) for n in range(ids.GetNumberOfIds())]


def case_each_plane_keeps_its_own_results():
    exam = make_exam()
    nirst = logic()
    flat = nirst.planeFromLesion(*exam.lesion, exam.volume)
    tilted = nirst.planeFromLesion(*exam.lesion, exam.volume, (0.25, 0.93, -0.2), name="tilted plane")
    ring = nirst.placeRing(flat, exam.volume, FIBERS)
    first = reconstruct(exam, flat, ring, update=True)
    second = reconstruct(exam, tilted, nirst.placeRing(tilted, exam.volume, FIBERS), update=True)
    kept = nirst.results(exam.volume, flat).nodes()
    assert kept["hbo"] is first.volumeNodes["hbo"]
    assert kept["hbo"] is not second.volumeNodes["hbo"]
    assert item_path(kept["hbo"]) == ["NIRST plane", "MRI NIRST"]
    assert item_path(second.volumeNodes["hbo"]) == ["tilted plane", "MRI NIRST"], "planes of one MRI share a folder"
    normal = volume_from_node(second.volumeNodes["hbo"]).ijk_to_ras[:3, 2]
    assert np.allclose(np.abs(normal @ (slice_to_ras(tilted)[:3, 2])), 1.0)
    widget = open_panel()
    p = widget.parameters
    p.image, p.optodes, p.plane = exam.volume, ring, flat
    shown = widget.ui.resultLabel.text
    p.plane = tilted
    assert widget.ui.resultLabel.text != shown, "the panel shows the results of the chosen plane"
    widget.ui.lesionSelector.setCurrentNode(exam.segmentation)
    widget.ui.planeFromLesionButton.click()
    assert p.plane not in (flat, tilted), "a plane with results is not moved"


def case_lesion_is_optional():
    exam = make_exam()
    plane, ring = place(exam)
    nirst = logic()
    reconstruct(exam, plane, ring, nirst=nirst, update=True)
    assert "contrast" in nirst.results(exam.volume, plane).nodes()
    no_lesion = {"segmentationNode": None, "segmentId": None}
    done = reconstruct(exam, plane, ring, nirst=nirst, update=True, method="dri", **no_lesion)
    assert done.contrastTableNode is None
    assert "contrast" not in nirst.results(exam.volume, plane).nodes(), "no old numbers beside new images"
    widget = open_panel()
    widget.parameters.image = exam.volume
    widget.parameters.method = type(widget.parameters.method).HARD_PRIOR
    assert "needs a lesion segment" in widget.ui.inputsStatusLabel.text


def case_trust_is_assessed_after_the_images():
    widget = ready_panel()
    widget.parameters.assessTrust = True
    seen = []
    show = widget.resultsSection.show

    def watch(assessing, fine):
        show(assessing, fine)
        seen.append((assessing, widget.ui.trustLabel.text))

    widget.resultsSection.show = watch
    apply(widget)
    wait(lambda: not widget.job.running)
    del widget.resultsSection.show
    assert (True, "Being assessed ...") in seen, "the images come first"
    nodes = results(widget)
    record = widget.resultsSection.results().record()
    trust = record["trust"]
    words = {"green": "Trustworthy as far as the checks tell", "yellow": "With care", "red": "Do not trust"}
    assert widget.ui.trustLabel.text == f"{words[trust['light']]}: {trust['reason']}."
    assert [row[0] for row in cells(widget.ui.checksTable)] == [check["name"] for check in trust["checks"]]
    assert nodes["trust"].GetNumberOfRows() == len(trust["checks"])
    readout = cells(widget.ui.readoutTable)
    assert [row[0] for row in readout] == ["HbT [uM]", "StO2 [%]", "Water [%]", "TOI [uM]"]
    assert readout[0][3].startswith("2.0") or readout[0][3].startswith("1.9"), readout
    assert set(nodes) >= {f"{name}_sd" for name in NAMES}
    sd = volume_from_node(nodes["hbt_sd"]).array
    assert 0 < sd[sd > 0].mean() < 10
    widget.ui.showHbTButton.click()
    widget.ui.uncertaintyCheckBox.click()
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert {node.GetForegroundVolumeID() for node in composites} == {nodes["hbt_sd"].GetID()}
    widget.ui.uncertaintyCheckBox.click()
    assert {node.GetForegroundVolumeID() for node in composites} == {nodes["hbt"].GetID()}
    for index in range(widget.ui.residualPlotComboBox.count):
        widget.ui.residualPlotComboBox.setCurrentIndex(index)
        assert widget.ui.residualPlot.pixmap.width() > 300
    page = Path(tempfile.mkdtemp(prefix="nirst-report-")) / "light.html"
    assert not widget.ui.reportButton.enabled
    widget.ui.reportPathLineEdit.currentPath = str(page)
    assert widget.ui.reportButton.enabled
    if can_report():
        widget.ui.reportButton.click()
        text = page.read_text(encoding="utf-8")
        assert all(check["name"] in text for check in trust["checks"])
        assert "no diagnosis" in text
    assert widget.ui.undoButton.enabled
    widget.ui.undoButton.click()
    assert not results(widget), "images and trust are one step"
    assert widget.ui.resultLabel.text == "No results in this plane yet."
    assert not widget.ui.undoButton.enabled
    widget.ui.redoButton.click()
    assert widget.resultsSection.results().record()["trust"] == trust


def case_old_results_say_what_changed():
    widget = ready_panel()
    apply(widget)
    assert not widget.ui.resultLabel.text.startswith("Changed since")
    widget.parameters.noise = 5.0
    assert widget.ui.resultLabel.text.startswith("Changed since this run: settings. Press Apply")
    optodes = widget.parameters.optodes
    where = np.array(optodes.GetNthControlPointPositionWorld(2))
    optodes.SetNthControlPointPositionWorld(2, *(where + 1.5))
    assert widget.ui.resultLabel.text.startswith("Changed since this run: optodes, settings.")
    optodes.SetNthControlPointPositionWorld(2, *where)
    widget.parameters.noise = 0.0
    assert not widget.ui.resultLabel.text.startswith("Changed since"), "as it was"
    widget.parameters.excluded = "D2"
    assert "Changed since this run: light." in widget.ui.resultLabel.text


def case_moved_exam_gives_the_same_images_in_the_moved_place():
    exam = make_exam()
    plane, ring = place(exam)
    fibers = slicer.util.arrayFromMarkupsControlPoints(ring, world=True)
    straight = reconstruct(exam, plane, ring)
    slicer.mrmlScene.Clear()
    world = tilt()
    exam = make_exam(world)
    plane = logic().planeFromLesion(*exam.lesion, exam.volume, world[:3, 1])
    labels = [str(n + 1) for n in range(FIBERS)]
    done = reconstruct(exam, plane, points_to_node(LabeledPoints(labels, apply_affine(world, fibers))))
    for before, after in zip(straight.contrast, done.contrast, strict=True):
        assert abs(before.ratio / after.ratio - 1) < 0.05, (before, after)
    hbt = done.volumeNodes["hbt"]
    image = volume_from_node(hbt)
    bright = np.argwhere(image.array > 0.5 * (image.array.max() + image.array[image.array > 0].min()))[:, ::-1]
    wanted = apply_affine(world, (center_ras() + LESION_MM)[None])[0]
    assert np.linalg.norm(image.points_to_ras(bright).mean(axis=0) - wanted) < 4
    assert hbt.GetParentTransformNode() is exam.volume.GetParentTransformNode(), "it moves with the MRI"


def case_simulated_light_is_called_simulated():
    widget = ready_panel()
    p = widget.parameters
    p.source = type(p.source).SIMULATED
    assert widget.ui.simulatedWidget.isVisibleTo(widget.ui.dataCollapsibleButton)
    assert not widget.ui.measuredWidget.isVisibleTo(widget.ui.dataCollapsibleButton)
    assert "No measurement is used" in widget.ui.dataStatusLabel.text
    apply(widget)
    assert [results(widget)[name].GetName() for name in NAMES] == [f"Simulated {title}" for title in TITLES]
    text = widget.ui.resultLabel.text
    assert "lesion: HbO 22 uM" in text
    assert "Simulated data, not measured." in text
    if can_report():
        page = Path(tempfile.mkdtemp(prefix="nirst-report-")) / "light.html"
        widget.ui.reportPathLineEdit.currentPath = str(page)
        widget.ui.reportButton.click()
        assert "Quality of the light" in page.read_text(encoding="utf-8"), "of the simulated light"
    p.source = type(p.source).MEASURED
    apply(widget)
    assert [results(widget)[name].GetName() for name in NAMES] == TITLES
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(results(widget)["hbo"])
    assert legend.GetTitleText() == "HbO [uM]"
    assert "imulated" not in widget.ui.resultLabel.text
    p.source = type(p.source).SIMULATED
    before = item_names()
    slicer.app.processEvents()
    pressed = []
    bar = widget.ui.progressBar

    def cancel_once():
        if not pressed and widget.job.running:
            pressed.append(widget.ui.applyButton.text)
            assert bar.isVisibleTo(bar.parent()), "progress is shown while light is simulated"
            widget.ui.applyButton.click()

    timer = qt.QTimer()
    timer.connect("timeout()", cancel_once)
    timer.start(10)
    widget.ui.applyButton.click()
    timer.stop()
    assert pressed == ["Cancel"], "the window is alive while light is simulated"
    assert not widget.job.running
    assert widget._folder is None, "no child process was started"
    assert item_names() == before
    widget.ui.lesionSelector.setCurrentNode(None)
    p.method = type(p.method).DRI
    assert "lesion segment to simulate" in widget.ui.applyButton.toolTip


def case_settings_reach_the_method():
    widget = ready_panel()
    p = widget.parameters
    widget.ui.noiseSpinBox.setValue(3.0)
    widget.ui.priorSdSpinBox.setValue(80)
    widget.ui.scatterAmplitudeSpinBox.setValue(1.2)
    widget.ui.scatterPowerSpinBox.setValue(0.8)
    widget.ui.gainsComboBox.setCurrentIndex(list(type(p.gains)).index(type(p.gains).FIBERS))
    widget.ui.extinctionComboBox.setCurrentIndex(1)
    assert p.sourceModel.value == "point"
    widget.ui.sourceModelComboBox.setCurrentIndex(1)
    apply(widget)
    record = json.loads(results(widget)["hbo"].GetAttribute("NIRSTReconstruction.Record"))
    settings = record["settings"]
    assert record["method"] == "hard-prior"
    assert record["extinction_table"] == "prahl-segelstein-1"
    assert record["gains"] == "fibers"
    assert (settings["noise"], settings["prior_sd"]) == (0.03, 0.8)
    assert settings["source_model"] == "line"
    assert (settings["start"]["scatter_amplitude"], settings["start"]["scatter_power"]) == (1.2, 0.8)


def case_three_lines_in_the_console():
    files = data_files()
    exam = make_exam()
    nirst = logic()
    plane = nirst.planeFromLesion(exam.segmentation, exam.segment, exam.volume)
    optodes = nirst.placeRing(plane, exam.volume, count=FIBERS)
    done = nirst.reconstruct(exam.volume, plane, optodes, *files, method="tikhonov", **COARSE)
    assert set(done.volumeNodes) == set(NAMES)
    assert done.contrastTableNode is None
    assert list(done.chi) == [661.0, 735.0, 826.0, 948.0]
    assert max(done.chi.values()) < 2
    assert done.plane.values["hbo"].shape == done.plane.mri.shape == volume_from_node(done.volumeNodes["hbo"]).shape[1:]
    assert done.plane.optodes_mm.shape == (FIBERS, 2)


def case_show_turns_one_view_into_the_plane():
    exam = make_exam()
    plane = logic().planeFromLesion(*exam.lesion, exam.volume, (0.2, 0.95, 0.1))
    matrix = slice_to_ras(plane)
    matrix[:3, 3] -= 30 * matrix[:3, 0] + 20 * matrix[:3, 1]
    result = volume_to_node(Volume(np.ones((1, 40, 60)), matrix, "HbO"))
    views = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    before = {view.GetName(): slice_to_ras(view) for view in views}
    logic().show(exam.volume, result)
    for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        assert node.GetBackgroundVolumeID() == exam.volume.GetID()
        assert node.GetForegroundVolumeID() == result.GetID()
        assert 0 < node.GetForegroundOpacity() < 1
    after = {view.GetName(): slice_to_ras(view) for view in views}
    turned = [name for name in before if not np.allclose(before[name], after[name])]
    assert turned == (["Green"] if "Green" in before else [])
    for name in turned:
        assert abs(after[name][:3, 2] @ matrix[:3, 2]) > 1 - 1e-9
        assert after[name][:3, 0] @ before[name][:3, 0] > 0.9, "right stays on the side where it was"
        middle = volume_from_node(result).points_to_ras(np.array([[29.5, 19.5, 0.0]]))[0]
        assert np.allclose(after[name][:3, 3], middle, atol=1e-3)


# Outline, optodes, quality of the light


def case_outline_comes_from_threshold_or_segment():
    exam = make_exam()
    widget = open_panel()
    p = widget.parameters
    p.image = exam.volume
    p.plane, p.optodes = place(exam)
    settle(widget)
    length = float(widget.ui.outlineStatusLabel.text.split()[3])
    assert abs(length - 2 * np.pi * 39.0) < 12, "the ellipse of the body in the plane"
    assert "Farthest from the outline: fiber" in widget.ui.optodesStatusLabel.text
    source = type(p.outline)
    p.outline, p.threshold = source.THRESHOLD, 5000.0
    settle(widget)
    assert "brighter than 5000" in widget.ui.outlineStatusLabel.text
    assert "brighter than 5000" in widget.ui.applyButton.toolTip
    assert not widget.ui.bodySelector.isVisibleTo(widget.ui.outlineCollapsibleButton)
    p.outline = source.SEGMENT
    settle(widget)
    assert "No segment is selected" in widget.ui.applyButton.toolTip
    body = volume_from_node(exam.volume)
    mask = mask_to_segment(body.with_array(body.array > 30), exam.segmentation, "Breast")
    p.body, p.bodySegmentId = exam.segmentation, mask
    settle(widget)
    assert abs(float(widget.ui.outlineStatusLabel.text.split()[3]) - length) < 4
    p.bodySegmentId = exam.segment
    settle(widget)
    assert "from the body's outline" in widget.ui.optodesStatusLabel.text, "the lesion is no breast"
    assert not widget.ui.applyButton.enabled


def case_image_with_holes_is_told():
    exam = make_exam()
    plane, ring = place(exam)
    image = volume_from_node(exam.volume)
    torn = image.array.copy()
    torn[:, :, 18:20] = np.nan
    done = reconstruct(exam._replace(volume=volume_to_node(image.with_array(torn, "torn"))), plane, ring)
    assert any("'torn' holds no number at" in remark for remark in done.result.remarks)
    assert np.isfinite(done.plane.values["hbo"]).any()


def case_plane_outside_the_breast_is_told_before_the_run():
    widget = ready_panel()
    plane = widget.parameters.plane
    plane.SetOriginWorld(*(np.array(plane.GetOriginWorld()) + (0, 120, 0)))
    settle(widget)
    assert "The plane misses" in widget.ui.applyButton.toolTip
    assert not widget.ui.applyButton.enabled


def case_image_without_air_is_told():
    exam = make_exam()
    image = volume_from_node(exam.volume)
    inside = image.cropped((11, 18, 14), (23, 32, 26))
    crop = volume_to_node(inside.with_array(100.0 + inside.array % 7, "crop"))
    outline = logic().outline(crop, logic().planeFromLesion(*exam.lesion, exam.volume))
    assert outline.no_air == "crop"


def case_optode_table_follows_the_list():
    exam = make_exam()
    widget = open_panel()
    p = widget.parameters
    p.image = exam.volume
    p.plane, p.optodes = place(exam)
    settle(widget)
    rows = cells(widget.ui.optodesTable)
    first = p.optodes.GetNthControlPointPositionWorld(0)
    assert rows[0][:4] == ["1", *(f"{x:.1f}" for x in first)]
    assert all(abs(float(row[4])) < 0.5 and abs(float(row[5])) < 0.05 for row in rows), "on the skin, in the plane"
    assert "-0.0" not in {cell for row in rows for cell in row[4:]}
    outward = (np.array(first) - center_ras()) / np.linalg.norm(np.array(first) - center_ras())
    p.optodes.SetNthControlPointPositionWorld(0, *(np.array(first) + 9 * outward))
    assert float(cells(widget.ui.optodesTable)[0][4]) > 6
    assert "Fiber 1 is" in widget.ui.optodesStatusLabel.text
    assert not widget.ui.applyButton.enabled
    p.optodes.SetNthControlPointPositionWorld(0, *first)
    assert "counts as fiber" not in widget.ui.optodesStatusLabel.text
    position = p.optodes.GetNthControlPointPositionWorld(3)
    p.optodes.UnsetNthControlPointPosition(3)
    assert "Point '5' counts as fiber 4" in widget.ui.optodesStatusLabel.text
    p.optodes.SetNthControlPointPositionWorld(3, *position)
    widget.ui.optodesTable.item(3, 0).setText("D4")
    assert p.optodes.GetNthControlPointLabel(3) == "D4"
    widget.ui.placeOptodeButton.click()
    assert widget.ui.optodesPlaceWidget.placeModeEnabled
    widget.ui.placeOptodeButton.click()
    assert not widget.ui.optodesPlaceWidget.placeModeEnabled
    widget.ui.optodesTable.setCurrentCell(FIBERS - 1, 0)
    widget.ui.removeOptodeButton.click()
    assert len(cells(widget.ui.optodesTable)) == FIBERS - 1 == p.optodes.GetNumberOfControlPoints()


def case_fibers_are_renumbered():
    exam = make_exam()
    widget = open_panel()
    p = widget.parameters
    p.image = exam.volume
    p.plane, p.optodes = place(exam)
    ring = slicer.util.arrayFromMarkupsControlPoints(p.optodes, world=True).copy()

    def now():
        assert [p.optodes.GetNthControlPointLabel(n) for n in range(FIBERS)] == [str(n + 1) for n in range(FIBERS)]
        return slicer.util.arrayFromMarkupsControlPoints(p.optodes, world=True)

    widget.ui.reverseButton.click()
    assert np.allclose(now(), ring[[0, *range(FIBERS - 1, 0, -1)]])
    widget.ui.reverseButton.click()
    widget.ui.shiftButton.click()
    assert np.allclose(now(), np.roll(ring, -1, axis=0))
    clicked = ring[[2, 3, 0, 6, 1, 7, 5, 4]]
    points_to_node(LabeledPoints([f"P{n}" for n in range(FIBERS)], clicked), p.optodes)
    widget.ui.renumberButton.click()
    assert np.allclose(now(), np.roll(ring, -2, axis=0)), "from the first towards the second, around"
    labels = [f"{'S' if n % 2 else 'D'}{n // 2 + 1}" for n in range(FIBERS)]
    p.optodes = points_to_node(LabeledPoints(labels, ring))
    with shown_errors() as messages:
        widget.ui.renumberButton.click()
    assert any("separate points" in message for message in messages)


def case_numbers_are_matched_to_the_light():
    widget = ready_panel()
    optodes = widget.parameters.optodes
    ring = slicer.util.arrayFromMarkupsControlPoints(optodes, world=True).copy()
    labels = [str(n + 1) for n in range(FIBERS)]
    points_to_node(LabeledPoints(labels, np.roll(ring[::-1], 3, axis=0)), optodes)
    settle(widget)
    widget.ui.matchButton.click()
    assert np.allclose(slicer.util.arrayFromMarkupsControlPoints(optodes, world=True), ring)
    assert "Fiber 1 of the data is at number" in widget.ui.optodesStatusLabel.text
    widget.ui.matchButton.click()
    assert "The numbers are right" in widget.ui.optodesStatusLabel.text


def case_channels_are_unticked():
    from NIRSTReconstructionLib.measurements import read_measurements, write_csv_measurements

    widget = ready_panel()
    p, ui = widget.parameters, widget.ui
    light = read_measurements(p.dataFile)
    broken = light.log_amplitude.copy()
    broken[:, light.channels[:, 0] == 3] -= 6.0  # source 3 is dead
    broken[1, (light.channels == (1, 5)).all(axis=1)] += 2.0
    path = Path(p.dataFile).with_name("broken-fiber.csv")
    write_csv_measurements(type(light)(**{**vars(light), "log_amplitude": broken}), path)
    ui.dataPathLineEdit.currentPath = str(path)
    settle(widget)
    rows = cells(ui.qualityTable)
    assert [row[1] for row in rows[:FIBERS]] == [f"Fiber {n + 1}" for n in range(FIBERS)]
    assert "carries hardly any light" in rows[2][2]
    assert "suggested to leave out" in ui.qualityStatusLabel.text
    assert ui.qualityPlot.pixmap.width() > 300
    assert [ui.qualityPlotComboBox.itemText(n) for n in (0, 4)] == ["ln(I r), 661 nm", "Reciprocity"]
    ui.qualityPlotComboBox.setCurrentIndex(4)
    import qt

    ui.qualityTable.item(2, 0).setCheckState(qt.Qt.Unchecked)
    assert p.excluded == "S3, D3"
    assert "56 values are unticked" in ui.dataStatusLabel.text
    ui.useAllButton.click()
    assert p.excluded == ""
    assert ui.qualityTable.item(2, 0).checkState() == qt.Qt.Checked
    ui.leaveOutButton.click()
    assert "S3" in p.excluded.split(", ")
    assert cells(ui.qualityTable)[2][2].startswith("S3 left out; source 3"), "half of a fiber"
    ui.excludedLineEdit.setText("3-x")
    assert "'3-X' is no channel" in ui.applyButton.toolTip
    ui.excludedLineEdit.setText("@661 S1 s2 s3 s4 s5 s6 s7 s8")
    assert "0 usable channels" in ui.applyButton.toolTip
    ui.excludedLineEdit.setText("")
    assert ui.applyButton.enabled


def case_noise_is_raised_to_what_the_light_shows():
    from NIRSTReconstructionLib.measurements import read_measurements, write_csv_measurements

    widget = ready_panel()
    p, ui = widget.parameters, widget.ui
    ui.qualityCollapsibleButton.collapsed = False
    assert ui.raiseNoiseCheckBox.isHidden(), "this light is as noisy as it says"
    light = read_measurements(p.dataFile)
    noisy = light.log_amplitude.copy()
    noisy[2] += 0.2 * np.random.default_rng(2).standard_normal(noisy.shape[1])
    path = Path(p.dataFile).with_name("noisy.csv")
    write_csv_measurements(type(light)(**{**vars(light), "log_amplitude": noisy}), path)
    ui.dataPathLineEdit.currentPath = str(path)
    settle(widget)
    assert "reconstruct with a larger noise." in ui.qualityStatusLabel.text
    assert not ui.raiseNoiseCheckBox.isHidden()
    apply(widget)
    chi = widget.resultsSection.results().record()["chi"]
    assert chi[2] > 5
    assert "does not explain the light at 826 nm" in ui.resultLabel.text
    ui.raiseNoiseCheckBox.click()
    assert p.raiseNoise
    assert ui.resultLabel.text.startswith("Changed since this run: light.")
    apply(widget)
    record = widget.resultsSection.results().record()
    assert record["chi"][2] < 1.5
    assert any(
        "Noise raised to what reciprocity shows" in remark and "826 nm" in remark for remark in record["remarks"]
    )
    ui.dataPathLineEdit.currentPath = data_files()[0]
    settle(widget)
    assert not ui.raiseNoiseCheckBox.isHidden(), "what is ticked can be unticked"


def case_mesh_is_a_model_in_the_plane():
    exam = make_exam(tilt())
    nirst = logic()
    plane = nirst.planeFromLesion(*exam.lesion, exam.volume, (0.2, 0.95, 0.1))
    ring = nirst.placeRing(plane, exam.volume, FIBERS)
    node = nirst.showMesh(exam.volume, plane, ring, elementSize=9.0)
    points = slicer.util.arrayFromModelPoints(node)
    matrix = slice_to_ras(plane)
    normal = matrix[:3, 2] / np.linalg.norm(matrix[:3, 2])
    assert np.abs((points - matrix[:3, 3]) @ normal).max() < 1e-6
    tips = slicer.util.arrayFromMarkupsControlPoints(ring, world=True)
    gaps = np.linalg.norm(points[:, None] - tips[None], axis=2).min(axis=0)
    assert gaps.max() < 2.0, "its rim passes the fibers"
    assert node.GetPolyData().GetNumberOfCells() > 50
    assert item_path(node)[0] == "NIRST plane"
    assert nirst.showMesh(exam.volume, plane, ring, elementSize=12.0) is node


def case_sheared_exam_is_reconstructed_in_this_process():
    world = tilt((1.1, 0.95, 1.05))
    exam = make_exam(world)
    nirst = logic()
    plane = nirst.planeFromLesion(*exam.lesion, exam.volume, world[:3, 1])
    ring = nirst.placeRing(plane, exam.volume, FIBERS)
    widget = open_panel()
    p = widget.parameters
    p.image, p.plane, p.optodes = exam.volume, plane, ring
    p.segmentation, p.segmentId, p.assessTrust = *exam.lesion, False
    p.dataFile, p.referenceFile = data_files()
    p.method = type(p.method).TIKHONOV
    settle(widget)
    widget.ui.applyButton.click()
    assert not widget.job.running, "no image file could hold its geometry"
    assert "hbo" in results(widget)


def case_second_image_guides():
    exam = make_exam()
    plane, ring = place(exam)
    image = volume_from_node(exam.volume)
    second = volume_to_node(image.with_array(np.random.default_rng(3).normal(60.0, 20.0, image.shape), "diffusion"))
    none = {"segmentationNode": None, "segmentId": None, "method": "dri"}
    alone = reconstruct(exam, plane, ring, **none)
    guided = reconstruct(exam, plane, ring, **none, secondNode=second)
    assert np.nanmax(np.abs(alone.plane.values["hbo"] - guided.plane.values["hbo"])) > 0.1
    far = image.ijk_to_ras.copy()
    far[:3, 3] += 500.0
    other = volume_to_node(Volume(image.array, far, "another patient"))
    said = refusal(lambda: reconstruct(exam, plane, ring, **none, secondNode=other))
    assert "'another patient'" in said
    assert "same exam" in said


def can_report():
    """Tell whether the packages are there that Slicer asks for before it writes a report; tests install nothing."""
    return all(importlib.util.find_spec(name) for name in ("matplotlib", "jinja2"))


def case_report_shows_every_plane():
    exam = make_exam()
    nirst = logic()
    planes = [nirst.planeFromLesion(*exam.lesion, exam.volume), nirst.planeFromLesion(*exam.lesion, exam.volume)]
    ring = nirst.placeRing(planes[0], exam.volume, FIBERS)
    elsewhere = nirst.planeFromLesion(*exam.lesion, exam.volume, (0.4, 0.9, 0.0))
    folder = Path(tempfile.mkdtemp(prefix="nirst-report-"))
    said = refusal(lambda: nirst.exportReport(folder / "light.html", exam.volume))
    if not can_report():
        assert "needs" in said
        return
    assert "no results" in said
    reconstruct(exam, planes[0], ring, update=True)
    light = nirst.simulate(exam.volume, planes[1], ring, *exam.lesion, seed=1, wavelengths=(735.0, 826.0, 903.0))
    nirst.reconstruct(exam.volume, planes[1], ring, light, None, "hard-prior", *exam.lesion, update=True, **COARSE)
    assert "ends in .html" in refusal(lambda: nirst.exportReport(folder / "light.pdf", exam.volume))
    assert nirst.exportReport(folder / "light.html", exam.volume, *exam.lesion, ring) == 2
    page = (folder / "light.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 8
    assert "Quality of the light" not in page
    measured = nirst.light(*data_files())
    assert nirst.exportReport(folder / "light.html", exam.volume, *exam.lesion, ring, measured) == 2
    page = (folder / "light.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 9
    assert "56 channels, 224 of 224 values" in page
    assert page.count("<figcaption>Images over the MRI; lesion outlined in white, fibers in blue.") == 2
    assert not re.findall(r"(?:src|href)=.(?!data:image/png;base64,)|https?://|url\(|<script", page), (
        "all is in the page"
    )
    beside = nirst.placeRing(elsewhere, exam.volume, FIBERS)
    nirst.exportReport(folder / "beside.html", exam.volume, *exam.lesion, beside)
    other = (folder / "beside.html").read_text(encoding="utf-8")
    assert other.count("<figcaption>Images over the MRI; lesion outlined in white.") == 2, "no fibers of another plane"
    for text in ("NIRST plane_1", "the light was simulated", "Measured light of measurements.csv", "Not assessed"):
        assert text in page, text


def case_view_is_kept_as_a_plane():
    exam = make_exam()
    red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    red.SetSliceOffset(float(center_ras()[2]))
    widget = open_panel()
    widget.parameters.image, widget.parameters.plane = exam.volume, red
    assert widget.ui.planeFromViewButton.enabled
    widget.ui.planeFromViewButton.click()
    kept = widget.parameters.plane
    assert kept.IsA("vtkMRMLMarkupsPlaneNode")
    red.SetSliceOffset(0.0)
    assert np.allclose(slice_to_ras(kept)[:3, 3][2], center_ras()[2])
    assert not widget.ui.planeFromViewButton.enabled


# Bad input


def case_panel_says_what_is_missing():
    files = data_files()
    widget = open_panel()
    tip = widget.ui.applyButton

    def says(text):
        assert not tip.enabled
        assert text in tip.toolTip, tip.toolTip

    says("No MRI is selected")
    exam = make_exam()
    widget.parameters.image = exam.volume
    says("No plane is selected")
    widget.ui.lesionSelector.setCurrentNode(exam.segmentation)
    widget.ui.planeFromLesionButton.click()
    says("No optodes are selected")
    widget.ui.placeRingButton.click()
    says("Choose the file with the measured light")
    widget.ui.dataPathLineEdit.currentPath = str(Path(files[0]).with_name("absent.csv"))
    says("absent.csv")
    broken = Path(files[0]).with_name("broken.csv")
    broken.write_text("source,detector,wavelength\n1,2,661\n")
    widget.ui.dataPathLineEdit.currentPath = str(broken)
    says("lacks the column amplitude")
    broken.write_text(Path(files[0]).read_text())
    widget.ui.dataPathLineEdit.currentPath = files[0]
    assert tip.enabled, tip.toolTip
    assert "The data hold no light of sources 9, 10, 11" in widget.ui.optodesStatusLabel.text
    assert "4 wavelengths (661 to 948 nm), 56 channels, 224 of 224 values" in widget.ui.dataStatusLabel.text
    slicer.mrmlScene.RemoveNode(widget.parameters.plane)
    says("No plane is selected")


def case_bad_input_is_said_and_leaves_the_scene_alone():
    files = data_files()
    exam = make_exam()
    plane, ring = place(exam)
    beside = logic().planeFromLesion(*exam.lesion, exam.volume)
    beside.SetOriginWorld(*(np.array(beside.GetOriginWorld()) - (0, 25, 0)))
    few = points_to_node(LabeledPoints(["S1", "D1"], np.array([[0.0, 0, 0], [40, 0, 0]])))
    before = names_of_nodes()
    good = (exam.volume, plane, ring, *files, "hard-prior", *exam.lesion)
    for place_in_call, bad, message in (
        (0, None, "No MRI"),
        (1, None, "No plane"),
        (1, beside, "does not pass through the lesion"),
        (2, None, "No optodes"),
        (2, few, "has only 1 source"),
        (3, "absent.paa", "absent.paa"),
        (3, "data.txt", "not a known kind"),
        (5, "no-method", "no method 'no-method'"),
        (7, "none", "No segment"),
    ):
        arguments = list(good)
        arguments[place_in_call] = bad
        said = refusal(lambda arguments=arguments: logic().reconstruct(*arguments, **COARSE))
        assert message in said, said
    assert "no extinction table 'x'" in refusal(lambda: logic().reconstruct(*good, extinctionTable="x"))
    assert "needs a segmentation" in refusal(lambda: logic().reconstruct(*good[:6]))
    assert "3 fibers" in refusal(lambda: logic().placeRing(plane, exam.volume, 3))
    assert "No MRI" in refusal(lambda: logic().placeRing(plane, None))
    for choices, message in (
        ({"noise": 2.0}, "relative is 2; 0 to 0.5 is possible (0.02 is 2 %)"),
        ({"noise": -0.1}, "relative is -0.1"),
        ({"noise": np.nan}, "relative is nan"),
        ({"seed": -1}, "seed is -1"),
        ({"wavelengths": (0.7, 0.8)}, "Check the unit (nm)"),
        ({"wavelengths": ()}, "At least one wavelength"),
    ):
        said = refusal(lambda choices=choices: logic().simulate(exam.volume, plane, ring, *exam.lesion, **choices))
        assert message in said, said
    assert "Choose the file with the measured light" in refusal(lambda: logic().quality(None, ring))
    assert names_of_nodes() == before


def case_error_of_a_run_is_shown_and_nothing_is_left():
    widget = ready_panel()
    plane = widget.parameters.plane
    plane.SetOriginWorld(*(np.array(plane.GetOriginWorld()) - (0, 25, 0)))
    before = names_of_nodes()
    with shown_errors() as messages:
        widget.ui.applyButton.click()
    assert any("does not pass through the lesion" in message for message in messages), messages
    assert names_of_nodes() == before
    assert widget.ui.applyButton.text == "Apply"
    assert widget.ui.resultLabel.text == "No results in this plane yet."


CASES = [case for name, case in sorted(globals().items()) if name.startswith("case_")]
