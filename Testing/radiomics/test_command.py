"""Tables on disk and the command line that writes them."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import write_volume
from RadiomicsPanelLib.catalog import ALL_FEATURES
from RadiomicsPanelLib.cli import main
from RadiomicsPanelLib.extract import VERSION, extract_all
from RadiomicsPanelLib.settings import PRESETS, Settings, read_settings
from RadiomicsPanelLib.table import LONG_COLUMNS, long_rows, wide_columns, wide_rows, write_table


@pytest.fixture
def files(tmp_path, lump):
    """Image and label map with labels 1 and 2 on disk, by role."""
    case = lump()
    labels = case.mask.array.astype(np.uint8)
    labels[:8] *= 2
    write_volume(case.image, tmp_path / "breast.nrrd")
    write_volume(case.mask.with_array(labels), tmp_path / "mask.nrrd")
    return {"image": str(tmp_path / "breast.nrrd"), "mask": str(tmp_path / "mask.nrrd"), "folder": tmp_path}


def arguments(files, *more, output="features.csv"):
    return [
        "extract",
        "--image",
        files["image"],
        "--mask",
        files["mask"],
        "--output",
        str(files["folder"] / output),
        *more,
    ]


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_long_table_holds_every_value(files, capsys):
    assert main(arguments(files, "--long", "--label", "2", "--json")) == 0
    figures = json.loads(capsys.readouterr().out)
    rows = rows_of(files["folder"] / "features.csv")
    assert tuple(rows[0]) == LONG_COLUMNS
    assert {(r["case"], r["segment"], r["filter"]) for r in rows} == {("breast", "label 2", "original")}
    (entry,) = figures["segments"]
    assert entry["features"] == sum(r["value"] != "" for r in rows)
    assert (
        entry["not_applicable"]
        == sum(r["value"] == "" for r in rows)
        == sum("not applicable" in r["note"] for r in rows)
    )
    (contrast,) = [r for r in rows if (r["ibsi_code"], r["aggregation"]) == ("ACUI", "3D_comb")]
    assert (contrast["family"], contrast["feature"], contrast["unit"]) == ("glcm", "contrast", "1")
    (volume,) = [r for r in rows if r["ibsi_code"] == "RNU0"]
    assert (float(volume["value"]), volume["unit"], volume["aggregation"]) == (
        pytest.approx(entry["volume_mm3"], rel=0.1),
        "mm^3",
        "",
    )


def test_numbers_in_a_table_read_back_bit_for_bit(tmp_path, lump):
    (extraction,) = extract_all([lump()], PRESETS["mr"])
    write_table([extraction], tmp_path / "t.csv", long=True)
    read = [float(r["value"]) if r["value"] else None for r in rows_of(tmp_path / "t.csv")]
    assert read == [v.value for v in extraction.values]


def test_wide_table_has_a_row_per_segment_and_its_provenance_explains_the_columns(files, capsys):
    assert main(arguments(files, "--settings", "mr")) == 0
    first, second = rows_of(files["folder"] / "features.csv")
    assert (first["segment"], second["segment"]) == ("label 1", "label 2")
    assert first["morph_mesh_volume"] != second["morph_mesh_volume"]
    record = json.loads((files["folder"] / "features.provenance.json").read_text())
    assert set(first) == {"case", "segment", "filter", *record["columns"], "notes"}
    assert record["columns"]["glcm_contrast_3D_avg"]["ibsi_code"] == "ACUI"
    assert record["columns"]["gldzm_zone_percentage_3D"]["category"] == "regional"
    assert record["settings"]["name"] == "mr"
    for part, label in zip(record["segments"], (1, 2), strict=True):
        assert part["mask"]["label"] == label
        assert len(part["image"]["sha256"]) == 64
        assert part["source_voxels"] > 0
        assert part["grid_spacing_kji_mm"] == pytest.approx([1, 1, 1])
        assert part["level_count"] == 32
    output, *rest = capsys.readouterr().out.splitlines()
    assert output.startswith("output: ")
    assert rest[2] == "segments:"
    assert rest[3].startswith("  case breast, segment label 1, filter original, volume mm3 ")
    assert len(rest) == 5
    assert not {"[", "{", "'"} & set("".join(rest[2:])), "plain text, not a program's notation"


def test_notes_of_a_wide_table_name_their_columns(lump):
    case = lump()
    flat = type(case)(case.image.with_array(np.full(case.image.shape, 5.0)), case.mask, case.name, "flat")
    extractions = extract_all([flat], Settings())
    row = dict(zip(wide_columns(extractions), wide_rows(extractions)[0], strict=True))
    assert row["glcm_correlation_3D_avg"] is None
    assert "glcm_correlation_3D_avg: not applicable: all neighbors have one gray level" in row["notes"]
    assert len(long_rows(extractions)) == len(extractions[0].values)


def test_settings_file_and_families(files, capsys):
    path = files["folder"] / "mine.json"
    assert main(["settings", "--preset", "mr", "--output", str(path)]) == 0
    assert read_settings(path) == PRESETS["mr"]
    path.write_text(json.dumps({"name": "mine", "bin_count": 8}))
    assert main(arguments(files, "--settings", str(path), "--feature", "stat", "--feature", "ih", "--long")) == 0
    rows = rows_of(files["folder"] / "features.csv")
    assert {r["family"] for r in rows} == {"stat", "ih"}
    assert max(float(r["value"]) for r in rows if r["ibsi_code"] == "3NCY") == 8


@pytest.mark.parametrize(
    "change, message",
    [
        (("--label", "7"), "Label 7 is not in the mask 'mask.nrrd'; it holds 1, 2"),
        (("--settings", "xray"), "'xray' is no preset"),
        (("--feature", "texture"), "'texture' is neither a feature nor a family (morph,"),
        (("--image", "absent.nrrd"), "The image file 'absent.nrrd' does not exist"),
        (("--output", "table.xlsx"), "Feature tables are written as .csv, not 'table.xlsx'"),
    ],
)
def test_bad_input_gives_one_line_status_2_and_no_file(files, change, message, capsys):
    before = sorted(files["folder"].iterdir())
    assert main(arguments(files, *change)) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("{")]
    assert len(said) == 1
    assert message in said[0]
    assert sorted(files["folder"].iterdir()) == before


def test_a_truncated_image_is_refused(files, capsys):
    image = Path(files["image"])
    image.write_bytes(image.read_bytes()[:2000])
    assert main(arguments(files)) == 2
    assert "damaged or incomplete" in capsys.readouterr().err


def test_one_unusable_segment_is_named_and_nothing_is_written(lump, tmp_path):
    empty = lump().mask.with_array(np.zeros(lump().mask.shape, dtype=bool))
    bad = type(lump())(lump().image, empty, "case", "forgotten")
    with pytest.raises(InputError, match="segment 'forgotten' of 'case' is empty"):
        extract_all([lump(), bad], Settings())


def test_as_a_program(files):
    """In a process of its own: only stdout holds the result, progress goes to stderr as JSON lines."""
    command = [sys.executable, "-m", "RadiomicsPanelLib", *arguments(files, "--json", "--feature", "stat")]
    done = subprocess.run(command, capture_output=True, text=True, env=program_environment(), check=True)
    assert json.loads(done.stdout)["settings"] == "mr"
    fractions = [json.loads(line)["progress"] for line in done.stderr.splitlines()]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1


def test_help_explains_every_option(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["extract", "--help"])
    said = capsys.readouterr().out
    for option in ("--image", "--mask", "--label", "--settings", "--output", "--long", "--json"):
        assert option in said


def program_environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


def test_version_is_that_of_the_project():
    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    assert tomllib.loads(project.read_text())["project"]["version"] == VERSION


def test_list_of_features(tmp_path, capsys):
    """Every feature of the four categories, with a definition a person can read."""
    assert main(["features", "--output", str(tmp_path / "features.csv"), "--json"]) == 0
    rows = rows_of(tmp_path / "features.csv")
    assert json.loads(capsys.readouterr().out)["features"] == len(rows) == len(ALL_FEATURES)
    assert {row["category"] for row in rows} == {"morphological", "statistical", "regional", "skeleton"}
    assert all(row["definition"].startswith("Return ") and row["definition"].endswith(".") for row in rows)
    assert all("doi " in row["reference"] or row["reference"].endswith(".py") for row in rows)
    of_key = {row["key"]: row for row in rows}
    assert of_key["glcm_contrast"]["ibsi_code"] == "ACUI"
    assert len({(row["dicom_scheme"], row["dicom_code"]) for row in rows}) == len(rows)
    assert of_key["glcm_maximal_correlation_coefficient"]["standardized"] == "no"
    assert of_key["habitats_ith_3d"]["category"] == "regional"
    assert len(of_key) == len(rows)
    assert main(["features", "--output", str(tmp_path / "features.txt")]) == 2
