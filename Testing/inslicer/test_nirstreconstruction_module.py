"""The NIRSTReconstruction panel in the head-less host: the shared cases, and what only the host can do to a module."""

from __future__ import annotations

import importlib
import os
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NARROW = 420  # pixels, a module panel made as narrow as people make it
CASE_NAMES = [
    line.partition("(")[0].removeprefix("def ")
    for line in (Path(__file__).parent / "nirstreconstruction_cases.py").read_text().splitlines()
    if line.startswith("def case_")
]


@pytest.fixture
def host(slicer_host):
    for name in ("WeakSegment", "NIRSTReconstruction"):
        slicer_host.load_module(ROOT / name / f"{name}.py")
    return slicer_host


@pytest.fixture
def cases(host):
    return importlib.import_module("inslicer.nirstreconstruction_cases")


@pytest.mark.inslicer
@pytest.mark.parametrize("name", CASE_NAMES)
def test_case(cases, name):
    getattr(cases, name)()


def test_generic(host):
    host.generic_module_test("NIRSTReconstruction")


def test_cancel_leaves_nothing(host, cases):
    widget = cases.ready_panel()
    before = cases.names_of_nodes()
    widget.ui.applyButton.click()
    assert widget.ui.applyButton.text == "Cancel"
    assert not widget.ui.planeCollapsibleButton.enabled, "inputs are locked"
    folder = Path(widget._folder)
    assert (folder / "run" / "light.csv").is_file()
    widget.ui.applyButton.click()
    cases.wait(lambda: not widget.job.running)
    assert not folder.exists()
    assert cases.names_of_nodes() == before
    assert widget.ui.applyButton.text == "Apply"
    assert widget.ui.applyButton.enabled
    assert widget.ui.resultLabel.text == "No results in this plane yet."


def test_full_disk_is_told_and_leaves_nothing(host, cases, tmp_path, monkeypatch):
    resource = pytest.importorskip("resource", reason="limits of files are those of Unix")
    widget = cases.ready_panel()
    cases.apply(widget)
    page = tmp_path / "light.html"
    page.write_text("older")
    widget.ui.reportPathLineEdit.currentPath = str(page)
    before, files = cases.names_of_nodes(), sorted(tmp_path.iterdir())
    record = widget.resultsSection.results().record()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, most[1]))
    try:
        with cases.shown_errors() as messages:
            widget.ui.applyButton.click()
            cases.wait(lambda: not widget.job.running)
            if cases.can_report():
                widget.ui.reportButton.click()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert "is the disk full or the folder read-only?" in messages[0]
    assert not cases.can_report() or "light.html' failed: File too large. The previous file is unchanged" in messages[1]
    assert not list(temporary.iterdir()), "nothing is left for a run that did not start"
    temporary.rmdir()
    with cases.shown_errors() as messages:
        widget.ui.applyButton.click()
    assert "No folder for temporary files can be made: No such file or directory" in messages[0]
    assert not widget.job.running
    assert page.read_text() == "older"
    assert sorted(tmp_path.iterdir()) == files
    assert cases.names_of_nodes() == before
    assert widget.resultsSection.results().record() == record


@pytest.mark.parametrize("text", ["[" * 100_000, "no JSON", "[1]", '{"simulated": true', " " * 2_000_000])
def test_file_of_another_kind_beside_the_light_is_passed_over(host, cases, tmp_path, text):
    path = tmp_path / "light.csv"
    path.write_bytes(Path(cases.data_files()[0]).read_bytes())
    (tmp_path / "case.json").write_text(text)
    assert cases.logic().light(path).simulated == ""


def test_snirf_without_its_package_asks_for_it(host, cases, tmp_path, monkeypatch):
    from BreastBiomarkersLib.inslicer import requirements

    asked = []
    monkeypatch.setattr(requirements, "_is_satisfied", lambda requirement: False)
    monkeypatch.setattr(requirements, "_install", lambda missing, requester: asked.append((missing, requester)))
    widget = cases.open_panel()
    widget.ui.dataPathLineEdit.currentPath = str(tmp_path / "absent.snirf")
    assert not asked, "nothing is installed for a file that is not there"
    (tmp_path / "light.snirf").write_bytes(b"x")
    with cases.shown_errors() as messages:
        widget.ui.dataPathLineEdit.currentPath = str(tmp_path / "light.snirf")
    assert asked == [(["h5py>=3.10"], "NIRSTReconstruction")]
    assert "needs the Python packages h5py>=3.10" in messages[0]
    assert widget.parameters.dataFile == str(tmp_path / "light.snirf")


def test_scene_closed_while_running(host, cases):
    import slicer

    widget = cases.ready_panel()
    with cases.shown_errors() as messages:
        widget.ui.applyButton.click()
        host.close_scene()
        cases.wait(lambda: not widget.job.running)
    assert not messages
    assert not slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    assert not widget.ui.applyButton.enabled


def test_inputs_deleted_while_running(host, cases):
    import slicer

    widget = cases.ready_panel()
    with cases.shown_errors() as messages:
        widget.ui.applyButton.click()
        slicer.mrmlScene.RemoveNode(widget.parameters.optodes)
        cases.wait(lambda: not widget.job.running)
    assert any("was removed from the scene" in message for message in messages)
    assert not cases.results(widget)
    assert "No optodes" in widget.ui.applyButton.toolTip


def test_module_left_while_running(host, cases):
    widget = cases.ready_panel()
    widget.ui.applyButton.click()
    host.exit("NIRSTReconstruction")
    assert widget.parameters is None
    cases.wait(lambda: not widget.job.running)
    host.enter("NIRSTReconstruction")
    assert set(cases.results(widget)) >= set(cases.NAMES), "the run went on"
    assert widget.ui.showHbOButton.enabled


def test_image_deleted_while_selected(host, cases):
    import slicer

    widget = cases.ready_panel()
    slicer.mrmlScene.RemoveNode(widget.parameters.image)
    assert "No MRI" in widget.ui.applyButton.toolTip
    assert not widget.ui.placeRingButton.enabled
    slicer.mrmlScene.RemoveNode(widget.parameters.segmentation)
    assert widget.ui.lesionSelector.currentNode() is None


def test_saved_scene_brings_back_planes_choices_and_results(host, cases, tmp_path):
    import numpy as np
    import slicer
    from BreastBiomarkersLib.inslicer.nodes import slice_to_ras, volume_from_node

    widget = cases.ready_panel()
    cases.apply(widget)
    tilted = cases.make_exam(cases.tilt())
    oblique = cases.logic().planeFromLesion(*tilted.lesion, tilted.volume, (0.3, 0.9, -0.2), name="oblique")
    text = widget.ui.resultLabel.text
    matrices = [slice_to_ras(node) for node in (widget.parameters.plane, oblique)]
    hbo = volume_from_node(cases.results(widget)["hbo"])
    host.save_scene(tmp_path / "scene.mrb")
    host.close_scene()
    assert not widget.ui.applyButton.enabled
    host.load_scene(tmp_path / "scene.mrb")
    p = widget.parameters
    assert p.method is type(p.method).HARD_PRIOR
    assert p.fiberCount == cases.FIBERS
    assert (p.dataFile, p.referenceFile) == cases.data_files()
    assert widget.ui.dataPathLineEdit.currentPath == p.dataFile
    assert widget.ui.resultLabel.text == text, "and nothing is said to have changed"
    again = volume_from_node(cases.results(widget)["hbo"])
    assert np.allclose(again.array, hbo.array)
    assert np.allclose(again.ijk_to_ras, hbo.ijk_to_ras, atol=1e-5)
    for node, matrix in zip((p.plane, slicer.util.getNode("oblique")), matrices, strict=True):
        assert np.allclose(slice_to_ras(node), matrix, atol=1e-6)
    before = cases.names_of_nodes()
    assert widget.ui.applyButton.enabled, widget.ui.applyButton.toolTip
    cases.apply(widget)
    assert cases.names_of_nodes() == before, "the restored results are updated"


def test_reload_leaves_one_panel_that_works(host, cases):
    cases.ready_panel()
    again = host.reload("NIRSTReconstruction")
    host.enter("NIRSTReconstruction")
    assert again.ui.applyButton.enabled, again.ui.applyButton.toolTip
    cases.open_panel()
    cases.apply(again)
    assert "hbo" in cases.results(again)


def test_reload_and_test_runs_the_cases(host, cases, monkeypatch):
    from BreastBiomarkersLib.inslicer import self_test

    module = importlib.import_module("NIRSTReconstruction")
    found = self_test.source_cases("NIRSTReconstruction")
    assert [case.__name__ for case in found] == sorted(CASE_NAMES)
    quick = [case for case in found if "plane_from" in case.__name__]
    monkeypatch.setattr(self_test, "source_cases", lambda name: quick)
    test = module.NIRSTReconstructionTest()
    ran = []
    test.delayDisplay = lambda message, *rest: ran.append(message)
    test.runTest()
    assert ran == [case.__name__ for case in quick]


@pytest.mark.slow
def test_installed_module_checks_itself(host):
    importlib.import_module("NIRSTReconstruction").checkSimulatedBreast()


def test_sample_data_is_ready_to_reconstruct(host, cases):
    import SampleData
    import slicer

    host.startup_completed()
    (source,) = [
        s for s in SampleData.SampleDataLogic.sources["BreastBiomarkers"] if s.sampleName == "SyntheticBreastNIRST"
    ]
    assert Path(source.thumbnailFileName).is_file()
    widget = host.enter("NIRSTReconstruction")
    nodes = source.customDownloader(source)
    p = widget.parameters
    assert {p.image, p.segmentation, p.tissue, p.plane, p.optodes} == set(nodes)
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == 2, "the MRI and its tissue map"
    assert p.optodes.GetNumberOfControlPoints() == 16
    cases.settle(widget)
    assert widget.ui.applyButton.enabled, widget.ui.applyButton.toolTip
    assert "9 wavelengths (661 to 948 nm), 240 channels, 2160 of 2160 values" in widget.ui.dataStatusLabel.text
    assert "Simulated, not measured." in widget.ui.dataStatusLabel.text
    light = widget.logic.light(p.dataFile, p.referenceFile)
    assert light.simulated.startswith("breast: HbO 12 uM"), "the results will say so, too"


def test_synthetic_exam_that_cannot_be_written_leaves_nothing(host, cases, tmp_path):
    import slicer
    from BreastBiomarkersLib.errors import InputError

    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="Choose another output folder"):
        cases.logic().simulateExam(slicer.util.getModuleLogic("WeakSegment"), folder=tmp_path / "file" / "exam")
    kinds = ("Volume", "Segmentation", "MarkupsFiducial", "MarkupsPlane")
    assert not [node for kind in kinds for node in slicer.util.getNodesByClass(f"vtkMRML{kind}Node")]


def test_training_from_the_console_refuses_what_the_command_does_not_know(host, cases, tmp_path, capsys):
    from BreastBiomarkersLib.errors import InputError

    nirst = cases.logic()
    with pytest.raises(InputError, match="does not know these settings: no-net, epochs"):
        nirst.train(tmp_path, tmp_path / "out", "no-net", epochs=3)
    with pytest.raises(InputError):
        nirst.train(tmp_path / "absent", tmp_path / "out", epochs=1, width=4)
    assert not (tmp_path / "out").exists()
    capsys.readouterr()


def test_training_from_the_console_trains(cases, tmp_path):
    pytest.importorskip("torch")
    from NIRSTReconstructionLib.dataset import DatasetSettings, generate_dataset
    from NIRSTReconstructionLib.networks import read_network

    generate_dataset(tmp_path / "set", DatasetSettings(count=12, seed=4, wavelengths_nm=(661.0, 808.0, 948.0)))
    choices = {"small": True, "width": 2, "pixels": 24, "epochs": 2, "looks": 1, "device": "cpu"}
    said = []
    figures = cases.logic().train(
        tmp_path / "set", tmp_path / "out", "znet", progress=lambda *report: said.append(report), **choices
    )
    assert figures["network"] == "znet"
    assert said[-1][0] == 1.0
    epochs = (tmp_path / "out" / "history.csv").read_text().splitlines()
    assert len(epochs) == 3, "a header and two epochs"
    assert read_network(tmp_path / "out" / "model.safetensors", "cpu").settings.epochs == 2


def test_choices_are_those_of_the_library(host):
    from NIRSTReconstructionLib.calibration import GAINS
    from NIRSTReconstructionLib.forward import SOURCE_MODELS
    from NIRSTReconstructionLib.reconstruct import METHODS
    from NIRSTReconstructionLib.spectra import PAPER_WAVELENGTHS_NM, table_names

    module = importlib.import_module("NIRSTReconstruction")
    assert {method.value for method in module.Method} == set(METHODS)
    assert {gains.value for gains in module.Gains} == {"auto", *GAINS}
    assert {model.value for model in module.SourceModel} == set(SOURCE_MODELS)
    assert module.WAVELENGTHS_NM == PAPER_WAVELENGTHS_NM
    combo = host.widget("NIRSTReconstruction").ui.extinctionComboBox
    assert [combo.itemText(n) for n in range(combo.count)] == list(table_names())


def test_picture_of_the_panel(host, cases, tmp_path):
    folder = Path(os.environ.get("PANEL_PICTURES", tmp_path))
    widget = cases.ready_panel()
    cases.apply(widget)
    widget.ui.qualityCollapsibleButton.collapsed = False
    host.grab("NIRSTReconstruction", folder / "NIRSTReconstruction.png")
    assert host.panel("NIRSTReconstruction").minimumSizeHint.width() <= NARROW, "nothing is cut off in a narrow panel"
    assert (folder / "NIRSTReconstruction.png").stat().st_size > 10_000
