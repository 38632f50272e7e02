"""The command `simulate`: complete, reproducible files that `reconstruct` reads, and honest refusals."""

from __future__ import annotations

import json

import numpy as np
from BreastBiomarkersLib.volume import read_volume
from NIRSTReconstructionLib.cli import main
from NIRSTReconstructionLib.fibers import read_fibers
from NIRSTReconstructionLib.measurements import read_csv_measurements

FEW = ["--wavelengths", "661", "785", "912", "--fibers", "8", "--seed", "5"]


def test_files_and_key_figures(tmp_path, capsys):
    assert main(["simulate", *FEW, "--inclusions", "2", "--output", str(tmp_path / "case"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["values"] == 3 * 56
    assert figures["inclusions"] == 2
    assert figures["extinction_table"] == "nirfast-1"
    names = {path.name for path in (tmp_path / "case").iterdir()}
    images = {
        "mri.nrrd",
        "labels.nrrd",
        "lesion.nrrd",
        *(f"true_{q}.nrrd" for q in ("hbo", "hbr", "water", "hbt", "sto2")),
    }
    assert names == {"data.csv", "reference.csv", "optodes.csv", "case.json", *images}

    data = read_csv_measurements(tmp_path / "case" / "data.csv")
    fibers = read_fibers(tmp_path / "case" / "optodes.csv")
    assert data.log_amplitude.shape == (3, 56)
    np.testing.assert_allclose(np.linalg.norm(fibers.sources, axis=1), 41.0, atol=1e-5)
    description = json.loads((tmp_path / "case" / "case.json").read_text())
    assert description["simulated"] is True
    inclusion = description["phantom"]["inclusions"][0]
    truth = read_volume(tmp_path / "case" / "true_hbo.nrrd")
    i, j, k = np.round(truth.points_to_ijk(np.array([[*inclusion["center_mm"], 0.0]]))[0]).astype(int)
    assert np.isclose(truth.array[k, j, i], inclusion["tissue"]["hbo"])


def test_equal_seeds_give_equal_files(tmp_path):
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        assert main(["simulate", *FEW[:-1], seed, "--output", str(tmp_path / name)]) == 0
    first, second, other = ((tmp_path / name / "data.csv").read_bytes() for name in "abc")
    assert first == second
    assert first != other


def test_bad_options_give_one_line_and_no_files(tmp_path, capsys):
    for options, words in (
        (["--wavelengths", "0.661"], "outside the table"),
        (["--noise", "200"], "relative"),
        (["--inclusions", "9"], "0 to 4"),
        (["--spectra", "wray"], "Choose one of"),
        (["--fibers", "1"], "at least 2"),
    ):
        output = tmp_path / "none"
        assert main(["simulate", *options, "--output", str(output)]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("{")]
        assert len(lines) == 1
        assert words in lines[0]
        assert not output.exists()
