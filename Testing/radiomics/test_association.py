"""Tests against SciPy and published formulas; noise gives no discoveries; tables that cannot be used say why."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from RadiomicsPanelLib.association import (
    area_limits,
    area_under_curve,
    associate,
    flag_volume_proxies,
    spearman_matrix,
)
from RadiomicsPanelLib.cli import main
from RadiomicsPanelLib.study import Study, read_study
from scipy import stats


def make_study(values, columns=None, patients=None, **clinical):
    n, p = values.shape
    cases = tuple(f"P{i}" for i in range(n))
    return Study(
        cases,
        ("lesion",) * n,
        cases if patients is None else tuple(patients),
        tuple(columns or (f"f{i}" for i in range(p))),
        values,
        {name: tuple(str(v) for v in texts) for name, texts in clinical.items()},
    )


@pytest.fixture
def noise():
    rng = np.random.default_rng(0)
    return make_study(
        rng.normal(size=(80, 600)), outcome=rng.permutation(["no", "yes"] * 40), grade=rng.integers(1, 100, 80)
    )


def test_noise_gives_no_discoveries_over_all_outcomes_together(noise):
    tests, warnings = associate(noise, ["outcome", "grade"])
    assert len(tests) == 1200
    assert 30 < sum(t.p < 0.05 for t in tests) < 90
    assert sum(t.adjusted_p < 0.05 for t in tests) == 0
    assert [t.adjusted_p for t in tests] == pytest.approx(stats.false_discovery_control([t.p for t in tests]))
    assert warnings == []


def test_the_planted_feature_is_found():
    rng = np.random.default_rng(1)
    outcome = np.arange(80) % 2
    values = rng.normal(size=(80, 300))
    values[:, 7] += 1.5 * outcome
    tests, _ = associate(make_study(values, outcome=outcome), ["outcome"])
    assert [t.feature for t in tests if t.adjusted_p < 0.05] == ["f7"]
    found = tests[7]
    assert (found.test, found.effect_name, found.count) == ("mann-whitney", "rank-biserial", 80)
    reference = stats.mannwhitneyu(values[outcome == 1, 7], values[outcome == 0, 7])
    assert found.p == pytest.approx(reference.pvalue)
    assert found.effect == pytest.approx(2 * reference.statistic / 1600 - 1)
    assert found.lower < found.effect < found.upper


def test_correlations():
    rng = np.random.default_rng(2)
    x = rng.normal(size=60)
    study = make_study(
        np.stack([x, np.where(np.arange(60) < 10, np.nan, -x)], axis=1), age=np.exp(x + rng.normal(size=60))
    )
    (first, second), _ = associate(study, ["age"])
    rho, p = stats.spearmanr(x, study.numbers("age"))
    assert (first.effect, first.p, first.count) == (pytest.approx(rho), pytest.approx(p), 60)
    reach = 1.959964 * np.sqrt((1 + rho**2 / 2) / 57)
    assert (first.lower, first.upper) == pytest.approx(
        (np.tanh(np.arctanh(rho) - reach), np.tanh(np.arctanh(rho) + reach))
    )
    assert (second.count, second.effect < 0) == (50, True)
    (linear, _), _ = associate(study, ["age"], "pearson")
    reference = stats.pearsonr(x, study.numbers("age"))
    assert (linear.effect, linear.p) == pytest.approx((reference.statistic, reference.pvalue))
    assert (linear.lower, linear.upper) == pytest.approx(tuple(reference.confidence_interval()))


def test_several_groups():
    rng = np.random.default_rng(3)
    groups = np.repeat(["a", "b", "c"], 30)
    values = np.stack([rng.normal(size=90), rng.normal(size=90) + (groups == "c")], axis=1)
    (null, real), _ = associate(make_study(values, type=groups), ["type"])
    reference = stats.kruskal(*(values[groups == g, 1] for g in "abc"))
    assert (real.test, real.p) == ("kruskal", pytest.approx(reference.pvalue))
    assert real.effect == pytest.approx((reference.statistic - 2) / 87)
    assert 0 < real.lower < real.effect < real.upper < 1
    assert (null.p > 0.05, null.lower) == (True, 0)


def test_limits_of_the_area_cover_the_truth():
    rng = np.random.default_rng(4)
    truth = stats.norm.cdf(1 / 2**0.5)
    positive = np.arange(60) < 25
    covered = [
        low <= truth <= high
        for low, high in (area_limits(rng.normal(size=60) + positive, positive) for _ in range(1000))
    ]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.025)
    scores = np.arange(10.0)
    assert area_under_curve(scores, scores > 4) == 1
    assert area_limits(scores, scores > 4) == (pytest.approx(0.025**0.2), 1)
    assert area_under_curve(np.zeros(10), scores > 4) == 0.5


def test_area_under_the_curve_equals_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(5)
    scores, positive = rng.integers(0, 8, 50).astype(float), rng.random(50) < 0.4
    assert area_under_curve(scores, positive) == pytest.approx(metrics.roc_auc_score(positive, scores))


def test_what_cannot_be_tested_says_why():
    values = np.stack([np.full(30, 3.0), np.r_[np.arange(4.0), np.full(26, np.nan)], np.arange(30.0)], axis=1)
    tests, warnings = associate(make_study(values, outcome=["a"] * 15 + ["b"] * 15), ["outcome"])
    assert [t.note for t in tests] == ["the feature does not vary", "4 rows have both values; 5 are needed", ""]
    assert tests[0].p is None
    assert tests[2].adjusted_p == tests[2].p, "one test was made"
    assert any("30 rows are few" in w for w in warnings)


def test_several_segments_of_a_patient_are_pointed_out(noise):
    doubled = make_study(
        noise.values[:, :3], patients=[f"P{n // 2}" for n in range(80)], outcome=noise.texts("outcome")
    )
    assert any("40 rows are further segments of a patient" in w for w in associate(doubled, ["outcome"])[1])


def test_volume_proxies_are_flagged():
    rng = np.random.default_rng(6)
    volume = rng.lognormal(size=50)
    values = np.stack([volume, volume**0.5 + 0.01 * rng.normal(size=50), rng.normal(size=50)], axis=1)
    study = make_study(values, ("morph_mesh_volume", "morph_area", "glcm_contrast"))
    assert list(flag_volume_proxies(study)) == ["morph_area"]
    assert flag_volume_proxies(study.features(["morph_area"])) == {}


def test_spearman_matrix():
    rng = np.random.default_rng(7)
    values = rng.normal(size=(20, 4))
    values[:, 1] = np.exp(values[:, 0])
    values[:, 2] = 5
    expected = stats.spearmanr(values[:, [0, 1, 3]]).statistic
    result = spearman_matrix(values)
    assert result[np.ix_([0, 1, 3], [0, 1, 3])] == pytest.approx(expected)
    assert (result[2, [0, 1, 3]] == 0).all()
    values[0, 3] = np.nan
    assert spearman_matrix(values)[3, 0] == pytest.approx(stats.spearmanr(values[1:, 3], values[1:, 0]).statistic)


def test_unusable_outcomes(noise):
    for outcomes, message in (
        (["age"], "There is no column 'age'.* outcome, grade"),
        ([], "at least one outcome"),
    ):
        with pytest.raises(InputError, match=message):
            associate(noise, outcomes)
    for clinical, message in (
        (["x"] * 80, "holds 1 value"),
        ([f"text{n}" for n in range(80)], "holds 80 different texts; at most 20"),
    ):
        with pytest.raises(InputError, match=message):
            associate(make_study(noise.values, outcome=clinical), ["outcome"])


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def test_tables_are_joined_by_case_and_filters_become_columns(tmp_path):
    features = write(
        tmp_path / "f.csv",
        "case,segment,filter,stat_mean,notes",
        *(f"P{n},{s},{f},{n}.5,a note" for n in range(3) for s in ("core", "rim") for f in ("original", "log")),
    )
    clinical = write(tmp_path / "c.csv", "case,outcome,patient", "P2,yes,B", "P0,no,A", "P7,no,C")
    study = read_study(features, clinical, segment="rim")
    assert study.cases == ("P0", "P2")
    assert study.patients == ("A", "B")
    assert study.columns == ("original_stat_mean", "log_stat_mean")
    assert study.values.tolist() == [[0.5, 0.5], [2.5, 2.5]]
    assert study.texts("outcome") == ("no", "yes")
    assert study.notes == ("1 rows without clinical data were left out, the first of case 'P1'",)


@pytest.mark.parametrize(
    "lines, message",
    [
        (["name,f", "P0,1"], "no column 'case' in line 1"),
        (["case,f,f", "P0,1,2"], "has the column 'f' twice"),
        (["case,f", "P0,1", "P1,1,2"], "line 3: 3 cells for 2 columns"),
        (["case,f", "P0,1", "P1,abc"], "line 3, column 'f': 'abc' is not a finite number"),
        (["case,f", "P0,1", "P1,nan"], "line 3, column 'f': 'nan' is not a finite number"),
        (["case,f", "P0,1", "P0,2"], "line 3 has the case, segment and filter of line 2 again"),
        (["case,f", ",1"], "line 2: 'case' is empty"),
        (["case,f", "P0,x"], "has no column of numbers"),
        (["case,f"], "has no column of numbers|has no rows"),
        (["case,filter,f", "P0,a,1", "P0,b,1", "P1,a,1"], "case 'P1' lacks a filter"),
    ],
)
def test_unusable_tables(tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        read_study(write(tmp_path / "t.csv", *lines))


def test_unusable_pairs_of_tables(tmp_path):
    features = write(tmp_path / "f.csv", "case,f", "P0,1", "P1,2")
    for lines, message in (
        (["case,outcome", "X,1"], "No case of the feature table is in 'c.csv'"),
        (["case,f", "P0,1"], "'f' is in both tables"),
        (["case,outcome", "P0,1", "P0,2"], "line 3: case 'P0' is in line 2 already"),
    ):
        with pytest.raises(InputError, match=message):
            read_study(features, write(tmp_path / "c.csv", *lines))
    (tmp_path / "c.csv").write_bytes(b"case,outcome\nP0,\xff\n")
    with pytest.raises(InputError, match="not CSV in UTF-8"):
        read_study(features, tmp_path / "c.csv")


def test_command(tmp_path, capsys, shared_data):
    output = tmp_path / "tests.csv"
    table = str(shared_data / "stats" / "wdbc.csv")
    arguments = ["associate", "--table", table, "--outcome", "diagnosis", "--output", str(output)]
    assert main([*arguments, "--figures", str(tmp_path), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["tests"], figures["rows"]) == (30, 569)
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert figures["significant"] == sum(float(row["adjusted_p"]) < 0.05 for row in rows) >= 25
    by_name = {row["feature"]: row for row in rows}
    assert float(by_name["worst_perimeter"]["effect"]) > 0.9
    assert (tmp_path / "volcano.png").exists()
    assert (tmp_path / "heat_map.png").exists()
    assert main([*arguments[:4], "color", *arguments[5:]]) == 2
    assert "There is no column 'color'" in capsys.readouterr().err
