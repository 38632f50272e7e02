"""Pictures are drawn from results, whole or not at all, and look as the numbers say."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from RadiomicsPanelLib import figures
from RadiomicsPanelLib.association import Association, area_under_curve, associate
from RadiomicsPanelLib.repeatability import bland_altman
from RadiomicsPanelLib.study import Study
from RadiomicsPanelLib.survival import Curve, SurvivalComparison

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def study():
    """Three blocks of correlated features, two outcomes, one constant feature and a hole."""
    rng = np.random.default_rng(0)
    outcome = np.arange(30) % 2
    base = rng.normal(size=(30, 3)) + np.stack([2 * outcome, 0 * outcome, 0 * outcome], axis=1)
    values = np.repeat(base, 4, axis=1) + 0.1 * rng.normal(size=(30, 12))
    values = np.concatenate([values[:, rng.permutation(12)], np.full((30, 1), 5.0)], axis=1)
    values[3, 2] = np.nan
    cases = tuple(f"P{n}" for n in range(30))
    clinical = {"outcome": tuple(("benign", "malignant")[o] for o in outcome)}
    return Study(cases, ("lesion",) * 30, cases, tuple(f"f{n}" for n in range(13)), values, clinical)


@pytest.fixture(scope="module")
def evaluation():
    """What the two pictures of a model read of an `Evaluation`."""
    rng = np.random.default_rng(1)
    truth = np.arange(60) % 2 == 1
    probabilities = np.clip(0.5 + 0.2 * (2 * truth - 1) + 0.2 * rng.normal(size=60), 0.01, 0.99)
    folds = tuple((np.flatnonzero(np.arange(60) % 3 != n), np.flatnonzero(np.arange(60) % 3 == n)) for n in range(3))
    return SimpleNamespace(
        **{"truth": truth, "probabilities": probabilities, "folds": folds, "settings": SimpleNamespace(folds=3)},
        **{"outcome": "diagnosis", "positive": "malignant", "area": 0.9, "lower": 0.8, "upper": 0.95},
        **{"brier": 0.1, "calibration": (1.1, 0.0)},
    )


@pytest.fixture(scope="module")
def comparison():
    times = np.arange(0.0, 11)
    curves = tuple(
        Curve(name, 20, 10, times, rate**times, rate**times * 0.8, np.minimum(rate**times * 1.1, 1), None, (20, 8, 2))
        for name, rate in (("low", 0.95), ("high", 0.8))
    )
    return SurvivalComparison("texture", 0.5, False, curves, (0.0, 5.0, 10.0), 9.0, 0.003, ())


@pytest.fixture(scope="module")
def drawings(study, evaluation, comparison):
    rng = np.random.default_rng(2)
    first = rng.normal(10, 2, 30)
    return {
        "heat_map": lambda path: figures.draw_heat_map(study, path, "outcome"),
        "roc": lambda path: figures.draw_roc(evaluation, path),
        "calibration": lambda path: figures.draw_calibration(evaluation, path),
        "volcano": lambda path: figures.draw_volcano(associate(study, ["outcome"])[0], path),
        "bland_altman": lambda path: figures.draw_bland_altman(
            bland_altman(first, first + 0.1), path, "volume", "mm^3"
        ),
        "survival": lambda path: figures.draw_survival(comparison, path, "months"),
    }


NAMES = ("heat_map", "roc", "calibration", "volcano", "bland_altman", "survival")


@pytest.mark.parametrize("name", NAMES)
def test_png_is_a_picture_with_something_in_it(drawings, tmp_path, name):
    from matplotlib.image import imread

    drawings[name](tmp_path / "picture.png")
    picture = imread(tmp_path / "picture.png")[..., :3]
    assert min(picture.shape[:2]) > 400
    assert 0.005 < (picture < 0.9).any(axis=2).mean() < 0.9
    assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]


@pytest.mark.parametrize("name", ["volcano", "survival"])
def test_svg_is_the_same_each_time(drawings, tmp_path, name):
    for folder in ("a", "b"):
        drawings[name](tmp_path / folder / "picture.svg")
    first = (tmp_path / "a" / "picture.svg").read_bytes()
    assert first.startswith(b"<?xml")
    assert first == (tmp_path / "b" / "picture.svg").read_bytes()


def test_a_heat_map_puts_correlated_features_side_by_side(study, tmp_path, monkeypatch):
    order = []
    real = figures.hierarchy.leaves_list
    monkeypatch.setattr(figures.hierarchy, "leaves_list", lambda tree: order.append(real(tree)) or order[-1])
    figures.draw_heat_map(study, tmp_path / "picture.png")
    columns, _ = order
    assert len(columns) == 12, "the constant feature is left out"
    correlation = np.corrcoef(np.where(np.isfinite(study.values), study.values, 0)[:, columns].T)
    neighbors = np.abs(np.diag(correlation, 1))
    assert (neighbors > 0.9).sum() == 9, "three blocks of four"


def test_roc_points_enclose_the_area(evaluation):
    x, y = figures._roc(evaluation.probabilities.round(1), evaluation.truth)
    area = float(np.sum((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2))
    assert area == pytest.approx(area_under_curve(evaluation.probabilities.round(1), evaluation.truth))
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)


def test_nothing_to_draw_and_bad_names(study, evaluation, tmp_path):
    for call, message in (
        (
            lambda: figures.draw_volcano([Association("f", "o", "kruskal", "x", 3)], tmp_path / "p.png"),
            "No test could be",
        ),
        (
            lambda: figures.draw_heat_map(study.features(["f12"]), tmp_path / "p.png"),
            "at least two rows and two features",
        ),
        (lambda: figures.draw_roc(evaluation, tmp_path / "p.pdf"), "as .png or .svg, not 'p.pdf'"),
    ):
        with pytest.raises(InputError, match=message):
            call()
    assert not list(tmp_path.iterdir())


def test_an_unwritable_folder_is_named(evaluation, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="Cannot write"):
        figures.draw_roc(evaluation, Path(tmp_path / "file" / "p.png"))
