"""The WeakSegment panel in the head-less host: the shared cases, and what only the host can do to a module."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "WeakSegment" / "WeakSegment.py"
CASE_NAMES = [
    line.partition("(")[0].removeprefix("def ")
    for line in (Path(__file__).parent / "weaksegment_cases.py").read_text().splitlines()
    if line.startswith("def case_")
]


@pytest.fixture
def host(slicer_host):
    slicer_host.load_module(SCRIPT)
    slicer_host.startup_completed()
    return slicer_host


@pytest.fixture
def cases(host):
    return importlib.import_module("inslicer.weaksegment_cases")


@pytest.mark.inslicer
@pytest.mark.parametrize("name", CASE_NAMES)
def test_case(cases, name):
    getattr(cases, name)()


def test_generic(host):
    host.generic_module_test("WeakSegment")


def test_reload_leaves_no_observer_behind(host, cases):
    import slicer

    widget = cases.ready_panel()
    widget.ui.applyButton.click()
    output = widget.parameters.output
    counts = [slicer.mrmlScene.HasObserver(event) for event in range(slicer.mrmlScene.StartCloseEvent, 66100)]
    old_class = type(widget)
    again = host.reload("WeakSegment")
    assert type(again) is not old_class
    assert widget.Observations == []
    assert widget._watched == {}
    assert widget.parameters is None
    assert again.parameters.output is output
    now = [slicer.mrmlScene.HasObserver(event) for event in range(slicer.mrmlScene.StartCloseEvent, 66100)]
    assert now == counts
    calls = []
    widget.refresh = lambda *arguments: calls.append(arguments)
    again.parameters.repetitions = 2
    slicer.mrmlScene.Clear()
    assert calls == [], "the old widget hears nothing"


def test_reload_while_a_job_runs(host, cases):
    import slicer

    widget = cases.ready_panel()
    cases.during_the_job(lambda: host.reload("WeakSegment"))
    widget.ui.applyButton.click()
    again = host.widget("WeakSegment")
    assert again is not widget
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    again.ui.applyButton.click()
    assert again.parameters.output is not None


def test_nothing_of_a_closed_scene_is_kept(host, cases):
    import gc

    import slicer
    import vtk

    widget = cases.live_panel()
    p, freed = widget.parameters, []
    truth, drawn = cases.add_truth(p.image)
    p.reference, p.referenceSegmentId = truth, drawn
    widget.logic.addClick(p.points, cases.outside_click(), False)
    cases.settle(widget)
    widget.ui.applyButton.click()
    widget.ui.undoButton.click()
    widget.ui.distanceButton.click()
    widget.ui.scoreButton.click()
    cases.measures(widget)
    nodes = {name: getattr(p, name) for name in ("image", "points", "output", "reference")}
    nodes["clicks"] = widget.logic.lesion(p.points).click_nodes()[False]
    nodes["map"] = widget.logic.lesion(p.points).output("scoreMap")
    for name, node in nodes.items():
        node.AddObserver(vtk.vtkCommand.DeleteEvent, lambda *_, name=name: freed.append(name))
    del p, truth, nodes, node
    slicer.mrmlScene.Clear()
    host.process_events(0)
    gc.collect()
    assert sorted(freed) == ["clicks", "image", "map", "output", "points", "reference"]


def test_reload_during_a_live_update(host, cases):
    widget = cases.live_panel()
    cases.drag(widget.parameters.points, 0, (-2, 0, 0))
    host.wait_until(lambda: widget.following._thread is not None, 10)
    thread = widget.following._thread
    again = host.reload("WeakSegment")
    assert not widget.following.busy
    host.wait_until(lambda: not thread.is_alive(), 10)
    before = cases.run_record(again)
    cases.drag(again.parameters.points, 0, (-1, 0, 0))
    cases.settle(again)
    assert cases.run_record(again)["points_ras_mm"] != before["points_ras_mm"]


def test_other_modules_take_the_segment(host, cases):
    widget = cases.ready_panel()
    widget.ui.applyButton.click()
    p, segment = widget.parameters, cases.lesion_segment(widget)
    with cases.shown_errors() as errors:
        widget.ui.nirstButton.click()
    assert "NIRSTReconstruction is not loaded" in errors[0]
    for name in ("NIRSTReconstruction", "RadiomicsPanel"):
        host.load_module(ROOT / name / f"{name}.py")
    widget.ui.nirstButton.click()
    widget.ui.radiomicsButton.click()
    host.exit("WeakSegment")
    nirst, radiomics = (host.enter(name).parameters for name in ("NIRSTReconstruction", "RadiomicsPanel"))
    assert (nirst.image, nirst.segmentation, nirst.segmentId) == (p.image, p.output, segment)
    assert (radiomics.image, radiomics.segmentation, list(radiomics.segmentIds)) == (p.image, p.output, [segment])


def test_network_method_with_weights_of_ones_own(host, cases, tmp_path, monkeypatch):
    import importlib.util

    import slicer
    import torch
    from BreastBiomarkersLib.training import reproducible, write_checkpoint
    from WeakSegmentLib.network_method import KIND, make_lesion_network

    widget = cases.ready_panel()
    p, ui = widget.parameters, widget.ui
    assert not ui.weightsPathLineEdit.enabled
    ui.methodComboBox.setCurrentIndex(ui.methodComboBox.findText("Network"))
    assert ui.weightsPathLineEdit.enabled
    assert ui.refineSpinBox.enabled
    assert not ui.segmentAboveSlider.enabled, "the method has no such setting"
    assert ui.tumorClicksButton.enabled
    from WeakSegmentLib import network_method

    monkeypatch.setattr(network_method, "SHIPPED_WEIGHTS", tmp_path / "not there")
    with cases.shown_errors() as errors:
        ui.applyButton.click()
    assert "No lesion network comes with this version" in errors[0], errors
    path = tmp_path / "weights.safetensors"
    ui.weightsPathLineEdit.setCurrentPath(str(path))
    with cases.shown_errors() as errors:
        ui.applyButton.click()
    assert "weights.safetensors' does not exist" in errors[0], errors
    assert p.output is None
    with reproducible(0, torch.device("cpu")):
        write_checkpoint(path, make_lesion_network().state_dict(), {"kind": KIND})
    ui.refineSpinBox.setValue(1)
    ui.applyButton.click()
    record = cases.run_record(widget)
    assert record["method"] == "network"
    assert (record["settings"]["weights"], record["settings"]["refine_iterations"]) == (str(path), 1)
    with pytest.raises(ValueError, match="no segment 'other' that WeakSegment made"):
        widget.logic.record(p.output, "other")
    ui.refineSpinBox.setValue(0)
    ui.scoreButton.click()
    assert slicer.util.getNode("Lesion: network score")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else find(name, *rest))
    with cases.shown_errors() as errors:
        ui.applyButton.click()
    assert "Install the extension PyTorch" in errors[0]


def test_program_error_is_shown_with_its_place(host, cases, monkeypatch):
    widget = cases.ready_panel()

    def broken(*arguments, **keywords):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(widget.logic, "segment", broken)
    with host.expected_error(ZeroDivisionError, "a bug"):
        widget.ui.applyButton.click()
    assert widget.ui.applyButton.text == "Apply"
    assert widget.ui.applyButton.enabled


def test_sample_data(host):
    import SampleData
    import slicer

    (source,) = [
        s for s in SampleData.SampleDataLogic.sources["BreastBiomarkers"] if s.sampleName == "SyntheticBreastMRI"
    ]
    nodes = source.customDownloader(source)
    assert {node.GetClassName() for node in nodes} == {
        "vtkMRMLScalarVolumeNode",
        "vtkMRMLMarkupsFiducialNode",
        "vtkMRMLSegmentationNode",
        "vtkMRMLLabelMapVolumeNode",
    }
    assert all(slicer.mrmlScene.IsNodePresent(node) for node in nodes)


def test_reload_and_test_runs_the_cases(host, caplog, monkeypatch):
    import logging

    from BreastBiomarkersLib.inslicer import self_test

    found = self_test.source_cases("WeakSegment")
    assert [case.__name__ for case in found] == sorted(CASE_NAMES)
    monkeypatch.setattr(self_test, "source_cases", lambda module: found[:3])  # each of them has a test of its own here
    caplog.set_level(logging.INFO)
    test = importlib.import_module("WeakSegment").WeakSegmentTest()
    ran = []
    test.delayDisplay = lambda message, *rest: ran.append(message)
    test.runTest()
    assert ran == sorted(CASE_NAMES)[:3]


def test_picture_of_the_panel(host, cases, tmp_path):
    widget = cases.ready_panel()
    truth, drawn = cases.add_truth(widget.parameters.image)
    widget.parameters.reference, widget.parameters.referenceSegmentId = truth, drawn
    widget.parameters.late = cases.add_volume("post 2", 40, 3)
    widget.ui.applyButton.click()
    cases.measures(widget)
    folder = Path(os.environ.get("PANEL_PICTURES", tmp_path))
    host.grab("WeakSegment", folder / "WeakSegment.png")
    assert (folder / "WeakSegment.png").stat().st_size > 10_000
