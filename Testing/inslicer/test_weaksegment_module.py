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

    widget = cases.ready_panel()
    truth, drawn = cases.add_truth(widget.parameters.image)
    widget.parameters.reference, widget.parameters.referenceSegmentId = truth, drawn
    widget.ui.applyButton.click()
    widget.ui.applyButton.click()  # the second keeps the content of the first for Undo
    host.process_events(0)
    p, freed = widget.parameters, []
    for name in ("image", "points", "output", "reference"):
        getattr(p, name).AddObserver(vtk.vtkCommand.DeleteEvent, lambda *_, name=name: freed.append(name))
    del p, truth
    slicer.mrmlScene.Clear()
    host.process_events(0)
    gc.collect()
    assert sorted(freed) == ["image", "output", "points", "reference"]


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


def test_reload_and_test_runs_the_cases(host, caplog):
    import logging

    caplog.set_level(logging.INFO)
    test = importlib.import_module("WeakSegment").WeakSegmentTest()
    ran = []
    test.delayDisplay = lambda message, *rest: ran.append(message)
    test.runTest()
    assert ran == sorted(CASE_NAMES)


def test_picture_of_the_panel(host, cases, tmp_path):
    widget = cases.ready_panel()
    truth, drawn = cases.add_truth(widget.parameters.image)
    widget.parameters.reference, widget.parameters.referenceSegmentId = truth, drawn
    widget.ui.applyButton.click()
    folder = Path(os.environ.get("PANEL_PICTURES", tmp_path))
    host.grab("WeakSegment", folder / "WeakSegment.png")
    assert (folder / "WeakSegment.png").stat().st_size > 10_000
