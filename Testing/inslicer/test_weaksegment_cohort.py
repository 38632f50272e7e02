"""The cohort page of the WeakSegment panel: cases clicked one after the other, training and prediction as children."""

from __future__ import annotations

import importlib
import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("Left", "Right", "Anterior", "Posterior", "Inferior", "Superior")


@pytest.fixture
def cases(slicer_host):
    slicer_host.load_module(ROOT / "WeakSegment" / "WeakSegment.py")
    slicer_host.startup_completed()
    return importlib.import_module("inslicer.weaksegment_cases")


@pytest.fixture
def folder(tmp_path):
    """Three cases, of which the second has no points."""
    from weaksegment.simple_cases import write_case, write_table

    write_table(tmp_path, [write_case(tmp_path, n) for n in range(3)])
    (tmp_path / "case1_points.mrk.json").rename(tmp_path / "kept.mrk.json")
    return tmp_path


@pytest.fixture
def widget(cases, folder):
    widget = cases.open_panel()
    widget.cohort.ui.tablePathLineEdit.setCurrentPath(str(folder / "cohort.csv"))
    return widget


def column(table, number):
    return [table.item(row, number).text() for row in range(table.rowCount)]


def place_like(points_node, path):
    """Put the points of a file where a person would click them."""
    from BreastBiomarkersLib.points import read_points

    placed = read_points(path)
    for label, position in zip(placed.labels, placed.positions_ras, strict=True):
        points_node.SetNthControlPointPositionWorld(NAMES.index(label), *position)


def test_cases_are_clicked_one_after_the_other(widget, folder, cases):
    import slicer

    page, ui = widget.cohort, widget.cohort.ui
    assert column(ui.casesTable, 0) == ["case0", "case1", "case2"]
    assert column(ui.casesTable, 1) == ["done", "to do", "done"]
    assert ui.cohortLabel.text == "2 of 3 cases have their six points."
    assert not ui.previousCaseButton.enabled or page.open_case is None
    before = exam_nodes(cases)
    ui.casesTable.cellDoubleClicked(0, 0)
    assert widget.parameters.image.GetName() == "case0 post"
    assert widget.parameters.preContrast.GetName() == "case0 pre"
    assert widget.parameters.points.GetNumberOfDefinedControlPoints() == 6
    assert not widget.ui.pointsPlaceWidget.placeModeEnabled
    assert widget.ui.applyButton.enabled, widget.ui.applyButton.toolTip
    assert not ui.previousCaseButton.enabled
    ui.nextCaseButton.click()
    assert widget.parameters.image.GetName() == "case1 post"
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == 2, "one case at a time"
    assert widget.ui.pointsPlaceWidget.placeModeEnabled, "its points are to be placed"
    assert "case1 is open, 0 of 6 points are placed." in ui.openCaseLabel.text
    points = widget.parameters.points
    place_like(points, folder / "kept.mrk.json")
    assert "6 of 6 points are placed, not saved yet." in ui.openCaseLabel.text
    assert ui.savePointsButton.enabled
    ui.nextCaseButton.click()
    assert column(ui.casesTable, 1) == ["done"] * 3, "going on saves"
    assert not ui.nextCaseButton.enabled
    from BreastBiomarkersLib.points import read_points

    saved, expected = (read_points(folder / name) for name in ("case1_points.mrk.json", "kept.mrk.json"))
    order = [saved.labels.index(label) for label in expected.labels]
    np.testing.assert_allclose(saved.positions_ras[order], expected.positions_ras, atol=1e-6)
    ui.previousCaseButton.click()
    widget.parameters.points.UnsetNthControlPointPosition(0)
    ui.savePointsButton.click()
    assert column(ui.casesTable, 1)[1] == "to do"
    assert "5 of 6" in column(ui.casesTable, 2)[1]
    page.open_case.close()
    widget.refresh()
    assert "No case is open" in ui.openCaseLabel.text
    assert exam_nodes(cases) == before


@pytest.mark.parametrize("leave", ["scene", "reload"])
def test_points_are_saved_when_the_scene_or_the_panel_goes(slicer_host, widget, folder, cases, leave):
    import slicer
    from BreastBiomarkersLib.points import read_points

    widget.cohort.open(1)
    if leave == "scene":
        slicer.mrmlScene.Clear()
        assert not (folder / "case1_points.mrk.json").exists(), "nothing placed, nothing written"
        cases.open_panel()
        widget.cohort.open(1)
    place_like(widget.parameters.points, folder / "kept.mrk.json")
    widget.parameters.points.UnsetNthControlPointPosition(0)
    if leave == "scene":
        slicer.mrmlScene.Clear()
        assert column(widget.cohort.ui.casesTable, 1)[1] == "to do"
        assert "5 of 6" in column(widget.cohort.ui.casesTable, 2)[1]
        cases.open_panel()
    else:
        widget = slicer_host.reload("WeakSegment")
    assert len(read_points(folder / "case1_points.mrk.json").labels) == 5
    assert widget.cohort.open_case is None


def test_points_that_cannot_be_saved_are_named_when_the_scene_is_closed(widget, folder, cases):
    import slicer

    widget.cohort.open(1)
    place_like(widget.parameters.points, folder / "kept.mrk.json")
    (folder / "case1_points.mrk.json").mkdir()
    with cases.shown_errors() as errors:
        slicer.mrmlScene.Clear()
    assert "The points of the open case were not saved." in errors[0]
    assert "case1_points.mrk.json" in errors[0]


def exam_nodes(cases):
    return [name for name in cases.names_of_nodes() if any(kind in name for kind in ("Volume", "Markups", "Segment"))]


def test_points_are_saved_in_the_space_of_the_file(widget, folder):
    import slicer
    from BreastBiomarkersLib.points import read_points

    widget.cohort.open(0)
    expected = read_points(folder / "case0_points.mrk.json")
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    transform.SetMatrixTransformToParent(
        slicer.util.vtkMatrixFromArray(np.array([[0, -1, 0, 10], [1, 0, 0, 20], [0, 0, 1, 30], [0, 0, 0, 1.0]]))
    )
    for node in (widget.parameters.image, widget.parameters.points):
        node.SetAndObserveTransformNodeID(transform.GetID())
    widget.cohort.save_points()
    saved = read_points(folder / "case0_points.mrk.json")
    order = [saved.labels.index(label) for label in expected.labels]
    np.testing.assert_allclose(saved.positions_ras[order], expected.positions_ras, atol=1e-6)


def test_cases_of_a_folder_and_of_the_scene(widget, folder, cases, tmp_path):
    page, ui = widget.cohort, widget.cohort.ui
    ui.folderPathLineEdit.setCurrentPath(str(folder / "nowhere"))
    with cases.shown_errors() as errors:
        ui.addFolderButton.click()
    assert "does not exist" in errors[0]
    from BreastBiomarkersLib.volume import read_volume, write_volume

    image = read_volume(folder / "case0_image.nrrd")
    for name in ("more/x/pre.nrrd", "more/x/post1.nrrd", "more/y/one.nrrd", "more/y/two.nrrd"):
        write_volume(image, folder / name)
    ui.folderPathLineEdit.setCurrentPath(str(folder / "more"))
    ui.addFolderButton.click()
    assert column(ui.casesTable, 0) == ["case0", "case1", "case2", "x"]
    assert "Left out, because the names do not tell which image is post-contrast: y." in ui.logTextEdit.plainText
    again = cases.ready_panel()
    assert again is widget
    ui.addSceneButton.click()
    assert column(ui.casesTable, 0)[-1] == "post"
    assert column(ui.casesTable, 1)[-1] == "done"
    assert page.cases[-1].pre is not None
    ui.casesTable.setCurrentCell(3, 0)
    ui.removeCaseButton.click()
    assert column(ui.casesTable, 0) == ["case0", "case1", "case2", "post"]
    ui.tablePathLineEdit.setCurrentPath("")
    assert column(ui.casesTable, 0) == []
    ui.addFolderButton.click()
    assert ui.tablePathLineEdit.currentPath == str(folder / "more" / "cases.csv")
    assert column(ui.casesTable, 0) == ["x"]
    ui.tablePathLineEdit.setCurrentPath(str(folder / "cohort.csv"))
    assert column(ui.casesTable, 0) == ["case0", "case1", "case2", "post"], "the table was kept in its file"


def test_bad_cases_are_explained_and_nothing_is_added(widget, folder, cases):
    page, ui = widget.cohort, widget.cohort.ui
    (folder / "case2_pre.nrrd").write_bytes(b"NRRD")
    before = cases.names_of_nodes()
    with cases.shown_errors() as errors:
        page.open(2)
        (folder / "case0_points.mrk.json").write_text("{")
        page.open(0)
    assert len(errors) == 2, errors
    assert "case2_pre.nrrd" in errors[0]
    assert "is damaged or not a points file" in errors[1]
    assert cases.names_of_nodes() == before
    assert page.open_case is None
    assert column(ui.casesTable, 1)[0] == "check"
    (folder / "cohort.csv").write_text("nonsense\n")
    with cases.shown_errors() as errors:
        page.read_table()
    assert "has no column 'case'" in errors[0]
    assert ui.casesTable.rowCount == 0
    assert not ui.trainButton.enabled


def write_settings(folder, **more):
    from weaksegment.simple_cases import TINY

    path = folder / "settings.json"
    path.write_text(json.dumps(asdict(replace(TINY, **more))))
    return path


@pytest.mark.timeout(900)  # three children that import torch
def test_training_outlives_the_scene_is_cancelled_goes_on_and_predicts(slicer_host, widget, folder, cases):
    import slicer

    page, ui = widget.cohort, widget.cohort.ui
    assert not ui.trainButton.enabled
    assert "Choose the folder" in ui.trainButton.toolTip
    lengths = {"train_iterations": 40, "finetune_iterations": 2, "retrain_iterations": 4}
    ui.settingsPathLineEdit.setCurrentPath(str(write_settings(folder, width=4, checkpoint_every=5, **lengths)))
    ui.trainingPathLineEdit.setCurrentPath(str(folder / "run"))
    assert ui.trainButton.text == "Train"
    page.open(0)
    ui.trainButton.click()
    assert ui.trainButton.text == "Cancel"
    assert not ui.predictButton.enabled
    assert not ui.presetComboBox.enabled
    slicer.mrmlScene.Clear()
    slicer.modules.weaksegment.widgetRepresentation().exit()
    assert page.training.running, "neither the scene nor the module ends it"
    slicer_host.wait_until(lambda: (folder / "run" / "state.safetensors").exists(), 300)
    cases.open_panel()
    assert page.open_case is None
    assert "Cancel keeps the last saved state" in ui.trainingLabel.text
    ui.trainButton.click()
    slicer_host.wait_until(lambda: not page.training.running, 20)
    assert "train 1 of 40" in ui.logTextEdit.plainText
    assert ui.trainButton.text == "Go on"
    assert "continues from its last saved state" in ui.trainingLabel.text
    assert not (folder / "run" / "model.safetensors").exists()

    ui.logTextEdit.clear()
    ui.settingsPathLineEdit.setCurrentPath("")
    ui.presetComboBox.setCurrentIndex(2)
    (folder / "kept.mrk.json").rename(folder / "case1_points.mrk.json")
    page.read_table()
    assert column(ui.casesTable, 1) == ["done"] * 3
    ui.trainButton.click()  # goes on with the cases and the settings it began with
    slicer_host.wait_until(lambda: not page.training.running, 300)
    assert "train 1 of 40" not in ui.logTextEdit.plainText, "it went on"
    assert "retrain 4 of 4" in ui.logTextEdit.plainText
    assert ui.networkPathLineEdit.currentPath == str(folder / "run" / "model.safetensors")
    assert "is done" in ui.trainingLabel.text
    assert not ui.trainButton.enabled
    assert not ui.curvesLabel.pixmap.isNull()

    assert ui.masksPathLineEdit.currentPath == str(folder / "run" / "masks")
    ui.predictButton.click()
    slicer_host.wait_until(lambda: not page.predicting.running, 300)
    assert sorted(column(ui.reviewTable, 0)) == ["case0", "case1", "case2"], "those with points"
    doubts = [float(text) for text in column(ui.reviewTable, 1)]
    assert doubts == sorted(doubts, reverse=True)
    name = ui.reviewTable.item(1, 0).text()
    ui.reviewTable.cellDoubleClicked(1, 0)
    assert page.open_case.case.name == name
    shown = slicer.util.getNode(f"{name} prediction")
    assert shown.GetSegmentation().GetNthSegment(0).GetName() == "Prediction"
    assert slicer.util.getNode(f"{name} reference")
    pictures = Path(os.environ.get("PANEL_PICTURES", folder))
    ui.cohortCollapsibleButton.collapsed = False
    for section in ("inputs", "lesions", "measures"):
        getattr(widget.ui, f"{section}CollapsibleButton").collapsed = True
    slicer_host.grab("WeakSegment", pictures / "WeakSegmentCohortTrained.png")


def test_reload_ends_the_training_and_remembers_its_folder(slicer_host, widget, folder):
    page, ui = widget.cohort, widget.cohort.ui
    ui.trainingPathLineEdit.setCurrentPath(str(folder / "run"))
    ui.trainButton.click()
    assert page.training.running
    again = slicer_host.reload("WeakSegment")
    slicer_host.wait_until(lambda: not page.training.running, 20)
    assert again.cohort is not page
    assert again.cohort.ui.trainingPathLineEdit.currentPath == str(folder / "run")


def test_without_the_packages_it_is_said_what_to_install(widget, folder, cases, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else find(name, *rest))
    ui = widget.cohort.ui
    ui.trainingPathLineEdit.setCurrentPath(str(folder / "run"))
    with cases.shown_errors() as errors:
        ui.trainButton.click()
    assert "Install the extension PyTorch" in errors[0]
    assert not (folder / "run").exists()
    assert ui.trainButton.text == "Train"


def test_picture_of_the_page(slicer_host, widget, folder, tmp_path):
    from BreastBiomarkersLib.points import read_points, write_points

    placed = read_points(folder / "case2_points.mrk.json")
    write_points(placed._replace(positions_ras=placed.positions_ras + [0, 0, 400.0]), folder / "case2_points.mrk.json")
    ui = widget.cohort.ui
    widget.cohort.read_table()
    widget.cohort.open(0)
    ui.cohortCollapsibleButton.collapsed = False
    for section in ("inputs", "lesions", "measures"):
        getattr(widget.ui, f"{section}CollapsibleButton").collapsed = True
    pictures = Path(os.environ.get("PANEL_PICTURES", tmp_path))
    slicer_host.grab("WeakSegment", pictures / "WeakSegmentCohort.png")
    assert (pictures / "WeakSegmentCohort.png").stat().st_size > 10_000
