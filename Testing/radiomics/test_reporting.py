"""What a paper says about the features: every number in the text is one of the record, and nothing is guessed."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import write_volume
from RadiomicsPanelLib import reporting
from RadiomicsPanelLib.cli import main
from RadiomicsPanelLib.cohort import extract_cohort
from RadiomicsPanelLib.extract import extract_all, provenance
from RadiomicsPanelLib.filters import LaplacianOfGaussian, LocalBinaryPattern
from RadiomicsPanelLib.reporting import clear_rows, describe_methods, metrics_rows, read_provenance, write_report
from RadiomicsPanelLib.settings import PRESETS, Settings

DATA = Path(__file__).parent / "data"
MODEL = {
    "settings": {"method": "lasso", "folds": 5, "repeats": 3, "inner_folds": 4, "max_correlation": 0.9},
    "auc": 0.8125,
    "auc_lower": 0.701,
    "auc_upper": 0.9,
    "brier": 0.15,
    "calibration_slope": 0.95,
    "calibration_intercept": -0.1,
    "permutation_p": None,
    "rows": 80,
    "positive_rows": 31,
    "patients": 77,
    "predictors": 4,
}


@pytest.fixture(scope="module")
def record(lump):
    cases = [lump(), replace(lump(seed=5), name="other")]
    return provenance(extract_all(cases, PRESETS["mr"], names=["morph_sphericity", "glcm", "depth"]))


def test_methods_paragraph_of_a_preset(record):
    text = describe_methods(record)
    voxels = sorted(segment["intensity_voxels"] for segment in record["segments"])
    for said in (
        f"RadiomicsPanel {record['version']} (Python {record['versions']['python']}, ",
        f"NumPy {record['versions']['numpy']}, ",
        "2 segments of 2 images were measured; source voxels were 0.7 x 1.3 x 2.9 mm",
        "resampled to voxels of 1 mm x 1 mm x 1 mm (columns, rows, slices) by cubic B-spline",
        "more than 3 standard deviations from the region's mean were left out",
        "32 bins of equal width between each region's minimum and maximum (fixed bin number, IBSI K15C)",
        f"({voxels[0]} to {voxels[1]};",
        f"{len(record['columns'])} values were computed per region",
        "Morphology (1)",
        "26-neighborhood, then averaged (ITBB)",
        "all 482 reference values",
    ):
        assert said in text
    assert "HU" not in text
    assert "None" not in text


def test_methods_of_other_settings_say_what_differs(lump):
    settings = Settings(
        name="own",
        discretization="bin_width",
        bin_width=12.5,
        bin_count=None,
        lower=100.0,
        upper=280.0,
        intensity_unit="HU",
        filters=(LaplacianOfGaussian(sigma_mm=3.0, boundary="nearest"), LocalBinaryPattern()),
    )
    record = provenance(extract_all([lump()], settings, names=["stat"]))
    text = describe_methods(record)
    assert "1 segment of 1 image was measured" in text
    assert "Images were not resampled." in text
    assert "below 100 or above 280 HU were left out" in text
    assert "bins of 12.5 HU from 100 HU (fixed bin size, IBSI Q3RU)" in text
    assert "2 filtered images: log_sigma_3mm_nearest (IBSI L6PA, boundary nearest); lbp" in text
    assert "(not standardized, boundary mirror)" in text
    whole = replace(settings, filters=(), round_intensities=True)
    assert "not resampled; intensities rounded to whole HU" in describe_methods(
        provenance(extract_all([lump()], whole, names=["stat"]))
    )
    older = dict(record, version="0.0.1")
    assert "482" not in describe_methods(older), "what this version's tests show is not said of another version"


def test_the_statement_about_references_is_what_the_tests_check(ibsi):
    number = len(ibsi.read_reference(DATA / "ibsi1_digital_phantom.csv"))
    assert f"all {number} reference values" in reporting.BENCHMARK


def test_checklists_are_complete_and_leave_the_rest_to_the_authors(record):
    clear, metrics = clear_rows(record), metrics_rows(record)
    assert [row[0] for row in clear] == [str(n) for n in range(1, 59)]
    assert [row[0] for row in metrics] == [str(n) for n in range(1, 31)]
    for rows in (clear, metrics):
        for _, _, item, answered, answer, reference in rows:
            assert bool(answer) == (answered != "for the authors"), item
            assert not answer or (answer.endswith(".") and ",." not in answer and "  " not in answer), item
            assert "doi 10.1186/s13244-023-01" in reference
    assert {row[0] for row in clear if row[3] != "for the authors"} >= {"21", "22", "23", "24", "25", "26", "27", "28"}
    assert "32 bins" in clear[22][4]
    assert clear[26][4] == f"{len(record['columns'])} values were computed per region."
    assert clear[7][3] == "for the authors", "ethics"
    assert sum(row[3] == "for the authors" for row in clear) == 46
    assert sum(row[3] == "for the authors" for row in metrics) == 25


def test_a_model_record_answers_more(record):
    without, with_model = clear_rows(record), clear_rows(record, MODEL)
    assert sum(row[3] == "for the authors" for row in with_model) == 46 - 14
    assert "5 outer folds repeated 3 times" in with_model[37][4]
    assert "AUC 0.812 (95 % limits 0.701 to 0.900)" in with_model[46][4]
    assert without[46][4] == ""
    assert "slope 0.95" in metrics_rows(record, MODEL)[21][4]


def test_command(lump, tmp_path, capsys, record):
    (tmp_path / "t.provenance.json").write_text(json.dumps(record))
    (tmp_path / "model.json").write_text(json.dumps(MODEL))
    options = ["--provenance", str(tmp_path / "t.provenance.json"), "--model", str(tmp_path / "model.json")]
    assert main(["report", *options, "--output", str(tmp_path / "report"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (tmp_path / "report" / "methods.txt").read_text().strip() == figures["methods"] == describe_methods(record)
    with (tmp_path / "report" / "clear.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 58
    assert tuple(rows[0]) == reporting.COLUMNS


@pytest.mark.parametrize(
    "text, message",
    [
        ("not json", "is not JSON"),
        ("{}", "holds no 'version': it is no provenance record"),
        ('{"version": "1", "versions": {}, "settings": {}, "segments": [], "columns": {}}', "nothing to report"),
        (
            '{"version": "1", "versions": {}, "settings": {}, "segments": [{}], "columns": {"stat_mean": {}}}',
            "record is incomplete",
        ),
        ('{"version": "1", "versions": {}, "settings": {"x": 1}, "segments": [], "columns": {}}', "unknown name 'x'"),
    ],
)
def test_bad_records(text, message, tmp_path, capsys):
    (tmp_path / "bad.json").write_text(text)
    arguments = ["--provenance", str(tmp_path / "bad.json"), "--output", str(tmp_path / "report")]
    assert main(["report", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_a_bad_model_record(record, tmp_path):
    with pytest.raises(InputError, match="model record is incomplete"):
        write_report(record, tmp_path / "report", {"settings": {}})
    assert not (tmp_path / "report").exists()


def test_the_record_of_a_cohort_is_read_too(lump, tmp_path):
    case = lump(shape=(7, 9, 11))
    write_volume(case.image, tmp_path / "image.nrrd")
    write_volume(case.mask.with_array(case.mask.array.astype("uint8")), tmp_path / "mask.nrrd")
    (tmp_path / "m.csv").write_text("case,image,mask\nA,image.nrrd,mask.nrrd\nB,image.nrrd,mask.nrrd\n")
    made = extract_cohort(tmp_path / "m.csv", Settings(bin_count=16), tmp_path / "out", names=("stat",), workers=1)
    text = describe_methods(read_provenance(made.provenance))
    assert "2 segments of 2 images were measured" in text
    assert "18 values were computed per region" in text
    assert "16 bins of equal width" in text
