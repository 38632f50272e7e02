"""What NIRSTReconstruction does in Slicer; every case runs in the real application and in the test host."""

from __future__ import annotations

import functools
import json
import logging
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
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

    exam = make_exam()
    light = logic().simulate(exam.volume, *place(exam), *exam.lesion, seed=4)
    slicer.mrmlScene.Clear()
    folder = Path(tempfile.mkdtemp(prefix="nirst-cases-"))
    for name in ("measurements", "reference"):
        data = getattr(light, name).at_wavelengths([661, 735, 826, 948])
        write_csv_measurements(data, folder / f"{name}.csv")
    return str(folder / "measurements.csv"), str(folder / "reference.csv")


def reconstruct(exam, plane, optodes, **choices):
    """Run the console verb on the measured files, coarsely."""
    lesion = {"segmentationNode": exam.segmentation, "segmentId": exam.segment}
    return logic().reconstruct(
        exam.volume, plane, optodes, *data_files(), **{"method": "hard-prior", **lesion, **COARSE, **choices}
    )


def open_panel():
    """Open the module anew and return its Python widget object, which reconstructs coarsely."""
    representation = slicer.modules.nirstreconstruction.widgetRepresentation()
    representation.exit()
    representation.enter()
    widget = slicer.util.getModuleWidget("NIRSTReconstruction")
    if not isinstance(widget.logic.reconstruct, functools.partial):
        widget.logic.reconstruct = functools.partial(widget.logic.reconstruct, **COARSE)
    return widget


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
    assert widget.ui.applyButton.enabled, widget.ui.applyButton.toolTip
    return widget


def results(widget):
    return {name: getattr(widget.parameters, name) for name in NAMES}


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
    widget.ui.applyButton.click()
    nodes = results(widget)
    assert [node.GetName() for node in nodes.values()] == TITLES
    assert [node.GetForegroundVolumeID() for node in composites] == layers, "nothing is shown unasked"
    plane = slice_to_ras(p.plane)
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    folders = set()
    for node in [*nodes.values(), p.contrastTable]:
        folders.add(hierarchy.GetItemName(hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node))))
    assert folders == {"MRI NIRST"}
    for node in nodes.values():
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
    hbt = volume_from_node(p.hbt)
    bright = np.argwhere(hbt.array > 0.5 * (hbt.array.max() + hbt.array[hbt.array > 0].min()))[:, ::-1]
    found = hbt.points_to_ras(bright).mean(axis=0)
    assert np.linalg.norm(found - center_ras() - LESION_MM) < 4, found
    ratios = dict(
        zip(("HbO", "Hb", "Water", "HbT", "StO2"), (22 / 12, 13 / 5.5, 52 / 22, 35 / 17.5, 0.917), strict=True)
    )
    table = p.contrastTable
    assert [table.GetCellText(row, 0) for row in range(5)] == list(ratios)
    ratio = table.GetTable().GetColumnByName("Ratio")
    for row, (title, wanted) in enumerate(ratios.items()):
        assert abs(ratio.GetValue(row) / wanted - 1) < 0.2, (title, ratio.GetValue(row), wanted)
    assert widget.ui.contrastTableView.mrmlTableNode() is table
    text = widget.ui.resultLabel.text
    assert "Measured light of measurements.csv, calibrated on reference.csv." in text
    assert "661 nm " in text
    assert widget.ui.applyButton.text == "Apply"
    assert widget.ui.progressBar.isHidden()


def case_second_run_updates_the_first():
    widget = ready_panel()
    widget.ui.applyButton.click()
    before, nodes, table = names_of_nodes(), results(widget), widget.parameters.contrastTable
    first = volume_from_node(nodes["hbo"]).array
    nodes["hbo"].GetDisplayNode().SetWindowLevelMinMax(1.0, 50.0)
    nodes["water"].SetName("my water")
    widget.parameters.method = type(widget.parameters.method).TIKHONOV
    widget.ui.applyButton.click()
    assert results(widget) == nodes
    assert widget.parameters.contrastTable is table
    second = volume_from_node(nodes["hbo"]).array
    assert first.shape == second.shape
    assert np.abs(first - second).max() > 0.5
    assert nodes["hbo"].GetDisplayNode().GetWindowLevelMax() == 50.0, "the user's window stays"
    hbr = volume_from_node(nodes["hbr"]).array
    assert np.isclose(nodes["hbr"].GetDisplayNode().GetWindowLevelMax(), hbr.max()), "ours follows the values"
    assert nodes["water"].GetName() == "my water"
    nodes["water"].SetName("Water [%]")
    assert names_of_nodes() == before
    slicer.mrmlScene.RemoveNode(nodes["sto2"])
    assert not widget.ui.showStO2Button.enabled
    widget.ui.applyButton.click()
    assert results(widget)["sto2"].GetName().startswith("StO2 [%]"), "what was deleted is made again"
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == 6


def case_lesion_is_optional():
    widget = ready_panel()
    widget.ui.applyButton.click()
    table = widget.parameters.contrastTable
    widget.ui.lesionSelector.setCurrentNode(None)
    assert widget.parameters.segmentation is None
    assert "needs a lesion segment" in widget.ui.applyButton.toolTip
    widget.parameters.method = type(widget.parameters.method).DRI
    assert widget.ui.applyButton.enabled
    widget.ui.applyButton.click()
    assert widget.parameters.contrastTable is table
    assert table.GetNumberOfRows() == 0, "no old numbers beside new images"


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
    widget.ui.applyButton.click()
    assert [node.GetName() for node in results(widget).values()] == [f"Simulated {title}" for title in TITLES]
    text = widget.ui.resultLabel.text
    assert "lesion: HbO 22 uM" in text
    assert "Simulated data, not measured." in text
    p.source = type(p.source).MEASURED
    widget.ui.applyButton.click()
    assert [node.GetName() for node in results(widget).values()] == TITLES
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(p.hbo)
    assert legend.GetTitleText() == "HbO [uM]"
    assert "imulated" not in widget.ui.resultLabel.text
    widget.ui.lesionSelector.setCurrentNode(None)
    p.source, p.method = type(p.source).SIMULATED, type(p.method).DRI
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
    widget.ui.applyButton.click()
    record = json.loads(p.hbo.GetAttribute("NIRSTReconstruction.Record"))
    settings = record["settings"]
    assert record["method"] == "hard-prior"
    assert record["extinction_table"] == "prahl-segelstein-1"
    assert record["gains"] == "fibers"
    assert (settings["noise"], settings["prior_sd"]) == (0.03, 0.8)
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
    assert widget.ui.resultLabel.text == "No results yet."


CASES = [case for name, case in sorted(globals().items()) if name.startswith("case_")]
