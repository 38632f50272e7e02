"""Intraclass correlation against published values, within-subject variation and limits of agreement."""

from __future__ import annotations

import json

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from RadiomicsPanelLib.cli import main
from RadiomicsPanelLib.repeatability import bland_altman, icc, measure_repeatability, within_subject_cv
from RadiomicsPanelLib.study import read_study

# Shrout and Fleiss 1979, table 2: six targets, four judges; limits as printed by the R package psych and by pingouin.
RATINGS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float)


@pytest.mark.parametrize(
    "model, value, lower, upper",
    [("1,1", 0.17, -0.13, 0.72), ("2,1", 0.29, 0.02, 0.76), ("3,1", 0.71, 0.34, 0.95)],
)
def test_textbook_table(model, value, lower, upper):
    result = icc(RATINGS, model)
    assert [round(float(part[0]), 2) for part in result] == [value, lower, upper]


@pytest.mark.parametrize("model", ["1,1", "2,1", "3,1"])
def test_many_features_at_once_equal_one_at_a_time(model):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(12, 3, 5)) + 2 * rng.normal(size=(12, 1, 5))
    together = icc(values, model)
    for n in range(5):
        alone = icc(values[:, :, n], model)
        assert [part[n] for part in together] == pytest.approx([part[0] for part in alone], rel=1e-12)


@pytest.mark.parametrize("model", ["1,1", "2,1", "3,1"])
def test_scale_and_origin_do_not_matter(model):
    assert np.ravel(icc(1e6 + 1e3 * RATINGS, model)) == pytest.approx(np.ravel(icc(RATINGS, model)), rel=1e-6)


def test_constant_perfect_and_missing_measurements():
    perfect = np.repeat(np.arange(6.0)[:, None], 4, axis=1)
    holed = np.where(RATINGS == 9, np.nan, RATINGS)
    values = np.stack([RATINGS * 0 + 0.1, perfect, holed, RATINGS * np.nan], axis=-1)
    for model in ("1,1", "2,1", "3,1"):
        result = icc(values, model)
        assert np.isnan([part[0] for part in result]).all()
        assert [part[1] for part in result] == [1, 1, 1]
        complete = icc(RATINGS[np.isfinite(holed).all(axis=1)], model)
        assert [part[2] for part in result] == pytest.approx([part[0] for part in complete])
        assert np.isnan([part[3] for part in result]).all()


def test_limits_cover_the_truth_in_95_of_100():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(15, 2, 4000)) * 0.5 + rng.normal(size=(15, 1, 4000))  # ICC 0.8
    result = icc(values, "1,1")
    assert np.mean((result.lower <= 0.8) & (result.upper >= 0.8)) == pytest.approx(0.95, abs=0.012)
    assert np.median(result.value) == pytest.approx(0.8, abs=0.02)


def test_too_little():
    for values in (np.ones((1, 4)), np.ones((4, 1)), np.ones(4)):
        with pytest.raises(InputError, match="at least two segments measured at least twice"):
            icc(values, "1,1")
    with pytest.raises(InputError, match="ICC models are 1,1, 2,1, 3,1"):
        icc(RATINGS, "2,k")


def test_within_subject_variation():
    pairs = np.array([[9.0, 11.0], [18.0, 22.0]])  # SD 1.41 of 10, 2.83 of 20
    assert within_subject_cv(pairs) == pytest.approx([0.1 * 2**0.5])
    assert np.isnan(within_subject_cv(pairs - 15)).all()
    assert np.isnan(within_subject_cv(np.array([[-1.0, 1.0], [2.0, 3.0]]))).all()


def test_bland_altman():
    first, second = np.array([1.0, 2.0, 3.0, 4.0, np.nan]), np.array([1.5, 1.5, 3.5, 3.5, 9.0])
    result = bland_altman(first, second)
    sd = np.std([-0.5, 0.5, -0.5, 0.5], ddof=1)
    assert (result.bias, result.lower, result.upper) == pytest.approx((0, -1.96 * sd, 1.96 * sd))
    assert result.bias_limits == pytest.approx((-3.182446 * sd / 2, 3.182446 * sd / 2))
    with pytest.raises(InputError, match="at least three pairs; there are 2"):
        bland_altman(first[:2], second[:2])


@pytest.fixture
def readers(tmp_path):
    """A table of two readers: stable, noisy and not applicable features; case P5 was read once."""
    rng = np.random.default_rng(2)
    lines = ["case,segment,reader,stable,noisy,constant,notes"]
    for n in range(20):
        truth = rng.normal(10, 3)
        for reader in ("Ann", "Bob"):
            if (n, reader) != (5, "Bob"):
                lines.append(f"P{n},lesion,{reader},{truth + rng.normal(0, 0.1):.4f},{rng.normal():.4f},7,")
    (tmp_path / "readers.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "readers.csv"


def test_from_a_table(readers):
    result = measure_repeatability(read_study(readers, repeat="reader"), "reader", "2,1")
    assert result.columns == ("stable", "noisy", "constant")
    assert (result.repeat_count, result.incomplete, result.target_counts.tolist()) == (2, 1, [19, 19, 19])
    assert result.icc.lower[0] > 0.99
    assert result.icc.lower[1] < 0.5
    assert np.isnan(result.icc.value[2])


def test_command(readers, tmp_path, capsys):
    output = tmp_path / "icc.csv"
    arguments = [
        "repeatability",
        "--table",
        str(readers),
        "--repeat",
        "reader",
        "--model",
        "2,1",
        "--output",
        str(output),
    ]
    assert main([*arguments, "--figures", str(tmp_path), "--draw", "stable", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["kept"], figures["features"], figures["segments_left_out"]) == (1, 3, 1)
    rows = [line.split(",") for line in output.read_text().splitlines()]
    assert rows[0] == ["feature", "segments", "icc", "lower", "upper", "within_subject_cv", "keep", "note"]
    assert rows[1][6] == "yes"
    assert rows[3][2:] == ["", "", "", "0.0", "no", "does not vary"]
    assert (tmp_path / "bland_altman_stable.png").read_bytes().startswith(b"\x89PNG")
    assert main([*arguments[:4], "case", *arguments[5:]]) == 2
    assert main(["repeatability", "--table", str(readers), "--repeat", "copy", "--output", str(output)]) == 2
    assert "has no column 'copy'" in capsys.readouterr().err
