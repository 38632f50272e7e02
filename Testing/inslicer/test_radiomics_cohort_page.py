"""Cohorts and statistics in the panel: real child processes, real tables, real pictures."""

import csv
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PySide6", reason="the test host needs PySide6-Essentials and slicer-core")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def panel_host(slicer_host):
    for name in ("WeakSegment", "RadiomicsPanel"):
        slicer_host.load_module(ROOT / name / f"{name}.py")
    return slicer_host


@pytest.fixture
def panel(panel_host):
    """The panel, measuring intensity statistics only, in this process's child."""
    widget = panel_host.enter("RadiomicsPanel")
    widget.parameters.excludedFamilies = [name for name in widget.logic.families() if name != "stat"]
    widget.ui.workersSpinBox.value = 1
    return widget


def write_cohort(folder, count, bad_lines=()):
    """Write images with a ball, and a manifest of them with further lines; return the manifest's path."""
    from BreastBiomarkersLib.volume import Volume, write_volume

    rng = np.random.default_rng(2)
    z, y, x = np.mgrid[-5:6, -6:7, -7:8]
    ball = Volume((z**2 + y**2 + x**2 <= 16).astype(np.uint8), np.eye(4), "mask")
    folder.mkdir()
    write_volume(ball, folder / "mask.nrrd")
    lines = ["case,image,mask"]
    for n in range(count):
        write_volume(ball.with_array(rng.normal(50 + n, 5, ball.shape), "image"), folder / f"image{n}.nrrd")
        lines.append(f"case {n},image{n}.nrrd,mask.nrrd")
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join([*lines, *bad_lines]) + "\n")
    return manifest


def write_study(path, rows=60):
    """Write a features table in which one feature tells the groups apart, with survival that depends on the group."""
    rng = np.random.default_rng(4)
    malignant = np.arange(rows) % 2 == 1
    values = rng.normal(size=(rows, 4))
    values[:, 1] += 2.5 * malignant
    months = rng.exponential(np.where(malignant, 8.0, 40.0)).round(2) + 0.1
    event = rng.random(rows) < 0.7
    header = ["case", "segment", *[f"stat_f{n}" for n in range(4)], "diagnosis", "months", "event"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for n in range(rows):
            group = "malignant" if malignant[n] else "benign"
            writer.writerow([f"p{n}", "lesion", *values[n].round(5).tolist(), group, months[n], int(event[n])])
    return path


def choose(box, value):
    values = [box.itemData(n) for n in range(box.count)]
    assert value in values, values
    box.setCurrentIndex(values.index(value))


def check(widget, name):
    import qt

    (item,) = [widget.item(n) for n in range(widget.count) if widget.item(n).text() == name]
    item.setCheckState(qt.Qt.Checked)


def finish(panel_host, widget):
    panel_host.wait_until(lambda: not any(page.running for page in widget.pages), 120)


# Cohort


def test_cohort_from_the_panel_and_again(panel_host, panel, tmp_path):
    ui = panel.ui
    assert "Choose the cases" in ui.cohortRunButton.toolTip
    bad = ["case 9,missing.nrrd,mask.nrrd", ",image0.nrrd,mask.nrrd"]
    ui.manifestPathLineEdit.currentPath = str(write_cohort(tmp_path / "data", 3, bad))
    assert "4 images of 4 cases" in ui.manifestLabel.text
    assert "line 6" in ui.manifestLabel.text, "the wrong line is named before anything runs"
    assert "output folder" in ui.cohortRunButton.toolTip
    ui.cohortFolderPathLineEdit.currentPath = str(tmp_path / "out")
    assert ui.cohortRunButton.enabled, ui.cohortRunButton.toolTip
    ui.cohortRunButton.click()
    assert ui.cohortRunButton.text == "Cancel"
    assert not ui.mapsRunButton.enabled
    assert "Another run" in ui.mapsRunButton.toolTip
    finish(panel_host, panel)
    assert "3 rows from 4 images (0 measured before), 2 failures" in ui.cohortResultLabel.text
    shown = [[ui.failuresTable.item(n, c).text() for c in range(4)] for n in range(ui.failuresTable.rowCount)]
    assert sorted(row[0] for row in shown) == ["line 5", "line 6"]
    assert any("missing.nrrd" in row[3] for row in shown)
    assert "case 2 (3 of 4)" in ui.cohortLogTextEdit.plainText
    assert ui.featuresPathLineEdit.currentPath == str(tmp_path / "out" / "features.csv")
    with (tmp_path / "out" / "features.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["case 0", "case 1", "case 2"]
    assert all(name.startswith(("case", "segment", "filter", "notes", "stat_")) for name in rows[0])

    ui.copiesSpinBox.value = 2
    ui.manifestPathLineEdit.currentPath = str(tmp_path / "data" / "manifest.csv")
    arguments = panel.pages[[type(page).__name__ for page in panel.pages].index("CohortPage")].arguments()
    assert arguments[arguments.index("--output") + 1] == str(tmp_path / "out" / "perturbed")
    assert arguments.count("--perturb") == 5
    import qt

    for n in range(ui.perturbListWidget.count):
        ui.perturbListWidget.item(n).setCheckState(qt.Qt.Unchecked)
    assert "perturb" in ui.cohortRunButton.toolTip
    panel.parameters.excludedFamilies = list(panel.logic.families())
    assert "family" in ui.cohortRunButton.toolTip


def test_cancelled_cohort_goes_on_where_it_was(panel_host, panel, tmp_path):
    ui = panel.ui
    panel.parameters.excludedFamilies = [name for name in panel.logic.families() if name not in ("stat", "glcm")]
    ui.manifestPathLineEdit.currentPath = str(write_cohort(tmp_path / "data", 25))
    ui.cohortFolderPathLineEdit.currentPath = str(tmp_path / "out")
    ui.cohortRunButton.click()
    panel_host.wait_until(lambda: "(3 of 25)" in ui.cohortLogTextEdit.plainText, 120)
    ui.cohortRunButton.click()
    finish(panel_host, panel)
    assert "kept" in ui.cohortResultLabel.text
    kept = len(list((tmp_path / "out" / "results").glob("*.json")))
    assert not (tmp_path / "out" / "features.csv").exists()
    ui.cohortRunButton.click()
    finish(panel_host, panel)
    text = ui.cohortResultLabel.text
    assert "25 rows from 25 images" in text
    assert int(text.partition("(")[2].partition(" ")[0]) >= kept - 1 >= 3  # all but what the plan itself writes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("case;image;mask\n", "no column 'case' in line 1"),
        ("case,image,mask\n", "names no case"),
        (None, "does not exist"),
    ],
)
def test_manifest_that_cannot_be_used_is_said_at_once(panel, tmp_path, content, message):
    path = tmp_path / "manifest.csv"
    if content is not None:
        path.write_text(content)
    panel.ui.manifestPathLineEdit.currentPath = str(path)
    panel.ui.cohortFolderPathLineEdit.currentPath = str(tmp_path)
    assert message in panel.ui.manifestLabel.text
    assert not panel.ui.cohortRunButton.enabled


def test_cohort_from_the_console_and_paths_of_this_computer(panel_host, panel, tmp_path):
    manifest = write_cohort(tmp_path / "data", 1)
    made = panel.logic.extractCohort(manifest, tmp_path / "out", "mr", ["stat"])
    assert (made.row_count, made.workers) == (1, 1)
    panel.ui.manifestPathLineEdit.currentPath = str(manifest)
    panel_host.reload("RadiomicsPanel")
    again = panel_host.enter("RadiomicsPanel")
    assert again.ui.manifestPathLineEdit.currentPath == str(manifest)


def test_scheduler_without_its_package_is_said(panel_host, panel, tmp_path, monkeypatch, caplog):
    from BreastBiomarkersLib.inslicer import requirements

    ui = panel.ui
    ui.manifestPathLineEdit.currentPath = str(write_cohort(tmp_path / "data", 1))
    ui.cohortFolderPathLineEdit.currentPath = str(tmp_path / "out")
    ui.schedulerLineEdit.text = "tcp://nowhere:8786"
    monkeypatch.setattr(requirements, "_is_satisfied", lambda requirement: "distributed" not in requirement)
    ui.cohortRunButton.click()
    assert "distributed" in caplog.text
    assert not any(page.running for page in panel.pages)


# Statistics


def test_associations_and_survival_from_the_panel(panel_host, panel, tmp_path):
    import slicer

    ui = panel.ui
    assert "Choose a table" in ui.statisticsRunButton.toolTip
    ui.featuresPathLineEdit.currentPath = str(write_study(tmp_path / "study.csv"))
    ui.statisticsFolderPathLineEdit.currentPath = str(tmp_path)
    assert "Check an outcome" in ui.statisticsRunButton.toolTip
    check(ui.outcomesListWidget, "diagnosis")
    ui.pictureFormatComboBox.currentIndex = 1
    assert ui.statisticsRunButton.enabled, ui.statisticsRunButton.toolTip
    ui.statisticsRunButton.click()
    finish(panel_host, panel)
    assert "60 rows" in ui.statisticsResultLabel.text
    assert "after adjusting" in ui.statisticsResultLabel.text
    folder = tmp_path / "associations"
    written = {path.name for path in folder.iterdir()}
    assert written == {"associations.csv", "volcano.png", "volcano.svg", "heat_map.png", "heat_map.svg"}
    assert [ui.figureComboBox.itemText(n) for n in range(ui.figureComboBox.count)] == ["heat map", "volcano"]
    assert ui.figureLabel.pixmap.width() > 100
    table = ui.statisticsTableView.mrmlTableNode()
    assert table is slicer.util.getNode("associations")
    features = [table.GetCellText(n, 0) for n in range(table.GetNumberOfRows())]
    assert {"stat_f1", "stat_f0"} <= set(features)

    choose(ui.statisticsMethodComboBox, "survival")
    choose(ui.timeComboBox, "months")
    choose(ui.eventComboBox, "event")
    choose(ui.survivalByComboBox, "diagnosis")
    ui.timeUnitLineEdit.text = "months"
    ui.statisticsRunButton.click()
    finish(panel_host, panel)
    assert "Log-rank p" in ui.statisticsResultLabel.text
    assert [ui.figureComboBox.itemText(n) for n in range(ui.figureComboBox.count)] == ["kaplan meier"]
    tables = [ui.statisticsTableComboBox.itemText(n) for n in range(ui.statisticsTableComboBox.count)]
    assert tables == ["cox", "kaplan meier"]
    count = len(slicer.util.getNodesByClass("vtkMRMLTableNode"))
    assert count == 3
    panel_host.close_scene()
    assert not ui.figureComboBox.isVisibleTo(panel.parent)
    assert ui.statisticsTableView.mrmlTableNode() is None


def test_model_harmonization_and_repeatability_from_the_panel(panel_host, panel, tmp_path, shared_data):
    """On rows of the real table; scanner and repeats are made from it."""
    with (shared_data / "stats" / "wdbc.csv").open() as file:
        header, *rows = list(csv.reader(file))
    rows = [(row[0], row[1], [float(cell) for cell in row[2:10]]) for row in rows[:120]]
    rng = np.random.default_rng(6)
    spread = np.std([values for _case, _group, values in rows], axis=0)
    for name, copies in (("repeats", (1, 2)), ("study", (1,))):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["case", "segment", "copy", "scanner", "diagnosis", *header[2:10]])
            for n, (case, group, values) in enumerate(rows):
                for copy in copies:
                    noisy = values + 0.1 * spread * rng.normal(size=8) + spread * (n % 2)
                    writer.writerow([case, "lesion", copy, "AB"[n % 2], group, *noisy.tolist()])
    ui = panel.ui
    ui.featuresPathLineEdit.currentPath = str(tmp_path / "repeats.csv")
    ui.statisticsFolderPathLineEdit.currentPath = str(tmp_path)
    choose(ui.statisticsMethodComboBox, "repeatability")
    choose(ui.repeatComboBox, "copy")
    choose(ui.blandAltmanComboBox, "mean_radius")
    ui.statisticsRunButton.click()
    finish(panel_host, panel)
    assert "8 of 8 features" in ui.statisticsResultLabel.text
    assert ui.figureComboBox.currentText == "bland altman mean radius"
    assert ui.statisticsTableView.mrmlTableNode().GetNumberOfRows() == 8

    ui.featuresPathLineEdit.currentPath = str(tmp_path / "study.csv")
    choose(ui.statisticsMethodComboBox, "harmonize")
    assert not ui.pictureFormatComboBox.isVisibleTo(ui.pictureFormatComboBox.parent())
    choose(ui.batchComboBox, "scanner")
    check(ui.covariatesListWidget, "diagnosis")
    ui.statisticsRunButton.click()
    finish(panel_host, panel)
    assert "120 rows from 2 scanners" in ui.statisticsResultLabel.text
    with (tmp_path / "harmonization" / "harmonized.csv").open() as file:
        radius = {"A": [], "B": []}
        for row in csv.DictReader(file):
            radius[row["scanner"]].append(float(row["mean_radius"]))
    assert abs(np.mean(radius["A"]) - np.mean(radius["B"])) < 0.5 * spread[0], "it was one standard deviation more"

    ui.featuresPathLineEdit.currentPath = str(tmp_path / "harmonization" / "harmonized.csv")
    choose(ui.statisticsMethodComboBox, "model")
    choose(ui.modelOutcomeComboBox, "diagnosis")
    for box in (ui.permutationsSpinBox, ui.bootstrapsSpinBox):
        box.value = 0
    ui.repeatsSpinBox.value, ui.foldsSpinBox.value = 1, 3
    ui.statisticsRunButton.click()
    finish(panel_host, panel)
    assert "by nested cross-validation" in ui.statisticsResultLabel.text
    assert "120 patients" in ui.statisticsResultLabel.text
    assert [ui.figureComboBox.itemText(n) for n in range(ui.figureComboBox.count)] == ["calibration", "roc"]
    panel.parameters.allSettings = True
    panel.showPage("cohortPage")
    window = panel_host.panel("RadiomicsPanel")
    window.show()
    widths = []
    for width in (480, 600, 480):
        window.resize(width, 1900)
        panel_host.process_events(0)
        widths.append(ui.figureLabel.pixmap.width())
    assert widths[0] == widths[2] < widths[1], "the picture follows the panel both ways"


def test_what_the_child_refuses_and_warns_of_is_shown(panel_host, panel, tmp_path, caplog):
    ui = panel.ui
    features = write_study(tmp_path / "study.csv", 12)
    clinical = tmp_path / "clinical.csv"
    clinical.write_text("case,grade\nsomebody,1\nelse,2\n")
    ui.featuresPathLineEdit.currentPath = str(features)
    ui.clinicalPathLineEdit.currentPath = str(clinical)
    ui.statisticsFolderPathLineEdit.currentPath = str(tmp_path)
    check(ui.outcomesListWidget, "grade")
    ui.statisticsRunButton.click()
    panel_host.close_scene()
    finish(panel_host, panel)
    assert not (tmp_path / "associations").exists(), "closing the scene stops the child"
    assert "clinical.csv" not in caplog.text
    assert ui.statisticsRunButton.enabled, "the tables are files and stay chosen"
    ui.statisticsRunButton.click()
    finish(panel_host, panel)
    assert "No case of the feature table is in 'clinical.csv'" in caplog.text
    assert not (tmp_path / "associations").exists()
    ui.clinicalPathLineEdit.currentPath = ""
    check(ui.outcomesListWidget, "diagnosis")
    page = next(page for page in panel.pages if type(page).__name__ == "StatisticsPage")
    (tmp_path / "associations").mkdir()
    figures = {"rows": 12, "tests": 6, "below_0.05_unadjusted": 1, "significant": 0, "warnings": ["few events"]}
    page.on_done("associate", tmp_path / "associations", figures)
    assert ui.statisticsWarningsLabel.text == "Warning: few events"
    assert ui.statisticsWarningsLabel.isVisibleTo(ui.statisticsWarningsLabel.parent())


def test_every_method_gives_arguments_its_command_takes(panel, tmp_path):
    from RadiomicsPanelLib.cli import build_parser
    from RadiomicsPanelLib.inslicer.statistics import METHODS, command

    ui = panel.ui
    study = write_study(tmp_path / "study.csv")
    text = study.read_text().splitlines()
    copies = [
        f"{line},{'copy' if n == 0 else n % 2 + 1},{'scanner' if n == 0 else 'AB'[n % 2]}"
        for n, line in enumerate(text)
    ]
    study.write_text("\n".join(copies) + "\n")
    ui.featuresPathLineEdit.currentPath = str(study)
    ui.statisticsFolderPathLineEdit.currentPath = str(tmp_path / "out")
    page = next(page for page in panel.pages if type(page).__name__ == "StatisticsPage")
    check(ui.outcomesListWidget, "diagnosis")
    check(ui.covariatesListWidget, "diagnosis")
    choose(ui.repeatComboBox, "copy")
    choose(ui.blandAltmanComboBox, "stat_f1")
    choose(ui.batchComboBox, "scanner")
    choose(ui.modelOutcomeComboBox, "diagnosis")
    choose(ui.modelScannerComboBox, "scanner")
    choose(ui.timeComboBox, "months")
    choose(ui.eventComboBox, "event")
    choose(ui.survivalByComboBox, "stat_f1")
    choose(ui.statisticsSegmentComboBox, "lesion")
    ui.cutLineEdit.text = "1,5"
    ui.trainingLineEdit.text = "scanner=A"
    ui.penalizedCheckBox.checked = True
    taken = {}
    for method in METHODS:
        choose(ui.statisticsMethodComboBox, method)
        assert ui.statisticsRunButton.enabled, ui.statisticsRunButton.toolTip
        taken[method] = build_parser().parse_args([*command(method, page.choices()), "--json"])
        assert taken[method].table == str(study)
        assert taken[method].segment == "lesion"
    assert taken["associate"].outcome == ["diagnosis"]
    assert (taken["repeatability"].repeat, taken["repeatability"].draw) == ("copy", ["stat_f1"])
    assert (taken["harmonize"].batch, taken["harmonize"].covariate) == ("scanner", ["diagnosis"])
    assert (taken["model"].positive, taken["model"].scanner, taken["model"].folds) == ("malignant", "scanner", 5)
    assert (taken["survival"].cut, taken["survival"].by, taken["survival"].penalized) == (1.5, "stat_f1", True)
    choose(ui.modelOutcomeComboBox, "")
    choose(ui.statisticsMethodComboBox, "model")
    assert "Choose the outcome" in ui.statisticsRunButton.toolTip


def test_missing_package_is_offered(panel, tmp_path, monkeypatch, caplog):
    from BreastBiomarkersLib.inslicer import requirements
    from RadiomicsPanelLib.inslicer import packages

    ui = panel.ui
    real = packages.find_spec
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "lifelines" else real(name))
    monkeypatch.setattr(requirements, "_is_satisfied", lambda requirement: "lifelines" not in requirement)
    ui.featuresPathLineEdit.currentPath = str(write_study(tmp_path / "study.csv"))
    ui.statisticsFolderPathLineEdit.currentPath = str(tmp_path)
    assert ui.packagesLabel.text == ""
    choose(ui.statisticsMethodComboBox, "survival")
    assert ui.packagesLabel.text == "Needs lifelines."
    choose(ui.timeComboBox, "months")
    choose(ui.eventComboBox, "event")
    ui.installPackagesButton.click()
    assert "lifelines" in caplog.text
    caplog.clear()
    ui.statisticsRunButton.click()
    assert "lifelines" in caplog.text
    assert not any(page.running for page in panel.pages)


def test_unreadable_tables_are_said(panel, tmp_path):
    ui = panel.ui
    table = tmp_path / "table.csv"
    table.write_text("patient,value\n1,2\n")
    ui.featuresPathLineEdit.currentPath = str(table)
    assert "no column 'case'" in ui.statisticsRunButton.toolTip
    ui.featuresPathLineEdit.currentPath = str(tmp_path / "none.csv")
    assert "does not exist" in ui.statisticsRunButton.toolTip
    table.write_bytes(b"case,\xff\xfe\n")
    ui.featuresPathLineEdit.currentPath = str(table)
    assert "not CSV in UTF-8" in ui.statisticsRunButton.toolTip


def test_a_long_table_is_shown_in_part(panel_host, tmp_path, monkeypatch):
    from RadiomicsPanelLib.inslicer import statistics

    monkeypatch.setattr(statistics, "_SHOWN_CELLS", 20)
    path = tmp_path / "long_table.csv"
    path.write_text("case,value\n" + "".join(f"c{n},{n}\n" for n in range(50)))
    node = statistics.table_file_to_node(path)
    assert (node.GetName(), node.GetNumberOfRows()) == ("long table (first 10 rows)", 10)
    assert statistics.table_file_to_node(path) is node
    assert node.GetTable().GetColumnByName("value").GetValue(9) == 9.0


def test_columns_of_the_real_table(shared_data):
    from RadiomicsPanelLib.inslicer.statistics import read_columns

    found = read_columns(str(shared_data / "stats" / "wdbc.csv"))
    assert found.clinical[0].name == "diagnosis"
    assert found.values("diagnosis") == ("benign", "malignant")
    assert len(found.numeric) == 30
