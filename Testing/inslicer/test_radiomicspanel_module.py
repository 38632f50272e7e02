"""RadiomicsPanel through the test host: the cases, and what only the host can do (close, reload, restore, draw)."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("PySide6", reason="the test host needs PySide6-Essentials and slicer-core")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def panel_host(slicer_host):
    for name in ("WeakSegment", "RadiomicsPanel"):
        slicer_host.load_module(ROOT / name / f"{name}.py")
    return slicer_host


def _cases():
    text = (Path(__file__).parent / "radiomicspanel_cases.py").read_text()
    return [line[4:].partition("(")[0] for line in text.splitlines() if line.startswith("def case_")]


@pytest.fixture
def cases(panel_host):
    spec = importlib.util.spec_from_file_location(
        "radiomicspanel_cases", Path(__file__).parent / "radiomicspanel_cases.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", _cases())
def test_case(cases, name):
    getattr(cases, name)()


def test_generic_module_test(panel_host):
    panel_host.generic_module_test("RadiomicsPanel")


def test_cancel_leaves_no_table(panel_host, cases):
    import slicer

    cases.make_exam()
    widget = panel_host.widget("RadiomicsPanel")
    panel_host.enter("RadiomicsPanel")
    seen = []

    def press_cancel(*arguments, **settings):
        def work(progress):
            widget.ui.applyButton.click()  # reads Cancel now
            seen.append(widget.ui.applyButton.text)
            progress(0.5, "half")
            raise AssertionError("went on after Cancel")

        return work(settings["progress"])

    widget.logic.extract = press_cancel
    widget.ui.applyButton.click()
    assert seen == ["Cancel"]
    assert widget.ui.applyButton.text == "Apply"
    assert not slicer.util.getNodesByClass("vtkMRMLTableNode")


def test_scene_closed_while_running(panel_host, cases):
    import slicer

    cases.make_exam()
    widget = panel_host.widget("RadiomicsPanel")
    panel_host.enter("RadiomicsPanel")
    real = widget.logic.extract

    def close_on_the_way(*arguments, progress, **settings):
        def report(fraction, message):
            if fraction > 0.3 and slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
                panel_host.close_scene()
            progress(fraction, message)

        return real(*arguments, progress=report, **settings)

    widget.logic.extract = close_on_the_way
    widget.ui.applyButton.click()
    assert not slicer.util.getNodesByClass("vtkMRMLTableNode")
    assert not widget.ui.applyButton.enabled
    assert widget.ui.resultLabel.text == ""


def test_saved_scene_brings_back_the_choices(panel_host, cases, tmp_path):
    import slicer

    cases.make_exam()
    widget = panel_host.widget("RadiomicsPanel")
    panel_host.enter("RadiomicsPanel")
    widget.parameters.excludedFamilies = ["glcm", "morph"]
    widget.parameters.longForm = False
    panel_host.save_scene(tmp_path / "scene.mrb")
    panel_host.close_scene()
    assert widget.parameters.excludedFamilies == []
    panel_host.load_scene(tmp_path / "scene.mrb")
    assert widget.parameters.excludedFamilies == ["glcm", "morph"]
    assert not widget.ui.longCheckBox.checked
    assert widget.parameters.image is slicer.util.getNode("MRI")
    assert widget.ui.applyButton.enabled


def test_reload_leaves_one_panel_that_works(panel_host, cases):
    cases.make_exam()
    panel_host.enter("RadiomicsPanel")
    panel_host.reload("RadiomicsPanel")
    widget = panel_host.widget("RadiomicsPanel")
    panel_host.enter("RadiomicsPanel")
    widget.ui.applyButton.click()
    assert widget.parameters.table is not None


def test_image_deleted_while_selected(panel_host, cases):
    import slicer

    volume, _segmentation = cases.make_exam()
    widget = panel_host.widget("RadiomicsPanel")
    panel_host.enter("RadiomicsPanel")
    assert widget.ui.applyButton.enabled
    slicer.mrmlScene.RemoveNode(volume)
    assert not widget.ui.applyButton.enabled
    assert "image" in widget.ui.applyButton.toolTip


def test_panel_is_drawn(panel_host, cases, tmp_path):
    cases.make_exam()
    widget = panel_host.widget("RadiomicsPanel")
    panel_host.enter("RadiomicsPanel")
    widget.ui.applyButton.click()
    panel_host.grab("RadiomicsPanel", tmp_path / "RadiomicsPanel.png")
    assert (tmp_path / "RadiomicsPanel.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", ["image", "segmentation", "table"])
def test_a_deleted_node_is_not_replaced_by_the_next_one(panel_host, cases, name):
    import slicer

    cases.make_exam()
    cases.make_exam()
    widget = panel_host.widget("RadiomicsPanel")
    panel_host.enter("RadiomicsPanel")
    for text in ("first", "second"):
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", text)
    kinds = {"image": "vtkMRMLScalarVolumeNode", "segmentation": "vtkMRMLSegmentationNode", "table": "vtkMRMLTableNode"}
    setattr(widget.parameters, name, slicer.util.getNodesByClass(kinds[name])[-1])
    slicer.mrmlScene.RemoveNode(getattr(widget.parameters, name))
    assert getattr(widget.parameters, name) is None
    assert getattr(widget.ui, f"{name}Selector").currentNode() is None


def test_optional_packages_are_those_of_the_extension(panel_host):
    import tomllib

    from packaging.requirements import Requirement
    from RadiomicsPanelLib.inslicer.packages import optional_packages

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    bounds = {Requirement(line).name: Requirement(line).specifier for line in sum(extras.values(), [])}
    for name, line in optional_packages().items():
        assert Requirement(line).name == name
        assert bounds.get(name, Requirement(line).specifier) == Requirement(line).specifier


def test_a_saved_table_is_complete_and_still_watched(panel_host, cases, tmp_path):
    import slicer

    volume, segmentation = cases.make_exam()
    done = cases.logic().extract(volume, segmentation, families=["stat", "skel"])
    values = [e.values for e in done.extractions]
    panel_host.save_scene(tmp_path / "scene.mrb")
    panel_host.close_scene()
    panel_host.load_scene(tmp_path / "scene.mrb")
    table = slicer.util.getNode("MRI radiomics")
    for before, read in zip(values, cases.extractions_of(table), strict=True):
        assert read.values == before, "to the last digit, although Slicer saves six of them"
    widget = cases.open_panel("resultsPage")
    widget.parameters.table = table
    cases.wait(widget)
    assert widget.ui.staleLabel.text == "Up to date."
    assert "SHA-256" in widget.ui.provenanceText.plainText
    loaded = slicer.util.getNode("Lesions").GetSegmentation()
    loaded.RemoveSegment(loaded.GetNthSegmentID(1))
    cases.wait(widget)
    assert "'lesion 2' was removed" in table.GetAttribute("RadiomicsPanel.Stale")


def test_editing_a_setting_takes_little_of_the_main_thread(panel_host, cases):
    import time

    cases.make_exam()
    widget = cases.open_panel("preparationPage")
    cases.wait(widget)
    taken = []
    for count in range(33, 43):
        start = time.thread_time()  # of this thread, whatever else the machine does
        widget.ui.binCountSpinBox.setValue(count)
        taken.append(time.thread_time() - start)
    cases.wait(widget)
    assert sorted(taken)[5] < 0.05
    assert cases.preview_texts(widget)[4] == "42", "the last one counts"


def test_values_leave_slicer(panel_host, cases, tmp_path):
    import qt

    cases.make_exam()
    widget = cases.open_panel("resultsPage")
    widget.ui.applyButton.click()
    widget.ui.exportPathLineEdit.currentPath = str(tmp_path / "values.parquet")
    widget.ui.exportButton.click()
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(tmp_path / "values.parquet")
    assert table.num_rows == sum(len(e.values) for e in cases.extractions_of(widget.parameters.table))
    assert table.column("value").null_count == sum(n.startswith("not appl") for n in table.column("note").to_pylist())
    assert (tmp_path / "values.provenance.json").is_file()
    widget.ui.copyButton.click()
    lines = qt.QApplication.clipboard().text().splitlines()
    assert lines[0].split("\t")[:4] == ["Family", "Feature", "Aggregation", "lesion 1"]
    assert not any("nan" in line.split("\t") for line in lines)
    widget.ui.copyMethodsButton.click()
    assert "Image Biomarker Standardization Initiative" in qt.QApplication.clipboard().text()
    widget.ui.reportButton.click()
    assert {p.name for p in (tmp_path / "values report").iterdir()} == {"methods.txt", "clear.csv", "metrics.csv"}
    widget.ui.dicomButton.click()
    assert not list(tmp_path.glob("*.dcm")), "the image does not come from DICOM"
    if importlib.util.find_spec("radiomics") is None:
        assert not widget.ui.compareButton.enabled
        assert "not installed" in widget.ui.compareButton.toolTip
        p = widget.parameters
        compare = cases.logic().compareWithPyradiomics
        assert "pyradiomics is not installed" in cases.refusal(lambda: compare(p.image, p.segmentation))


def test_simple_use_shows_preset_data_and_results(panel_host, cases):
    cases.make_exam()
    widget = cases.open_panel("featuresPage")
    tabs = widget.ui.pagesTabWidget
    titles = ["Data", "Preparation", "Features", "Results", "Maps", "Cohort"]
    assert [tabs.tabText(n) for n in range(tabs.count)] == titles
    widget.showPage("mapsPage")
    assert not widget.ui.applyButton.isVisibleTo(widget.ui.RadiomicsPanel), "the page has its own"
    widget.ui.allSettingsCheckBox.checked = False
    assert [tabs.tabText(n) for n in range(tabs.count)] == ["Data", "Results"]
    assert widget.currentPage() == "dataPage"
    assert widget.ui.applyButton.isVisibleTo(widget.ui.RadiomicsPanel)
    widget.ui.applyButton.click()
    assert widget.currentPage() == "resultsPage"
