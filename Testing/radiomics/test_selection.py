"""Models that cannot fool: noise stays at chance, nothing leaks between folds, a real table does as it should."""

from __future__ import annotations

import csv
import inspect
import json

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from RadiomicsPanelLib import selection
from RadiomicsPanelLib.association import area_under_curve, keep_uncorrelated
from RadiomicsPanelLib.cli import main
from RadiomicsPanelLib.selection import ModelSettings, calibrate, evaluate_model
from RadiomicsPanelLib.study import Study, read_study

pytest.importorskip("sklearn")
METHODS = ("lasso", "elastic-net", "pca", "random-forest")
QUICK = {"folds": 4, "repeats": 1, "inner_folds": 3}


def make_study(values, patients=None, **clinical):
    n, p = values.shape
    cases = tuple(f"P{i}" for i in range(n))
    texts = {name: tuple(str(v) for v in column) for name, column in clinical.items()}
    own = cases if patients is None else tuple(str(v) for v in patients)
    return Study(cases, ("lesion",) * n, own, tuple(f"f{i}" for i in range(p)), values, texts)


@pytest.fixture(scope="module")
def planted():
    """80 cases, 30 features, of which the first two carry the outcome and the third copies the first."""
    rng = np.random.default_rng(11)
    outcome = np.arange(80) % 2
    values = rng.normal(size=(80, 30))
    values[:, 0] += 1.3 * outcome
    values[:, 1] -= 1.3 * outcome
    values[:, 2] = values[:, 0] + 0.01 * rng.normal(size=80)
    values[rng.random(values.shape) < 0.02] = np.nan
    return make_study(values, outcome=outcome)


@pytest.fixture(scope="module")
def judged(planted):
    return evaluate_model(planted, "outcome", ModelSettings(**QUICK))


@pytest.mark.parametrize("method", METHODS)
def test_noise_stays_at_chance(method):
    rng = np.random.default_rng(0)
    study = make_study(rng.normal(size=(200, 30)), outcome=rng.permutation([0, 1] * 100))
    result = evaluate_model(study, "outcome", ModelSettings(method, **QUICK))
    assert result.area == pytest.approx(0.5, abs=0.1)
    assert result.lower < 0.5 < result.upper


def test_choosing_outside_the_folds_would_have_fooled():
    """The reason for all this: 10 of 300 noise features, chosen on all cases, seem to predict; ours does not."""
    rng = np.random.default_rng(1)
    values, outcome = rng.normal(size=(60, 300)), np.arange(60) % 2
    apart = np.abs(values[outcome == 1].mean(axis=0) - values[outcome == 0].mean(axis=0))
    chosen = np.argsort(-apart)[:10]
    fooled = evaluate_model(make_study(values[:, chosen], outcome=outcome), "outcome", ModelSettings("pca", **QUICK))
    honest = evaluate_model(make_study(values, outcome=outcome), "outcome", ModelSettings("pca", **QUICK))
    assert fooled.area > 0.8
    assert honest.area == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_the_outcome_of_a_test_row_has_no_influence_on_its_prediction(planted, method):
    """Turning the outcomes of a test part around leaves the fit, and so its predictions, bit for bit as they were."""
    settings = ModelSettings(method, **QUICK)
    task = selection._prepare_task(planted, "outcome", settings, None, None, (), None)
    train, test = next(selection._split(task.truth, task.groups, 4, 0))
    turned = task.truth.copy()
    turned[test] = ~turned[test]
    first = selection._fit(task, train, 0).predict(task.inputs[test])
    assert np.array_equal(first, selection._fit(task, train, 0, turned).predict(task.inputs[test]))


def test_other_test_rows_have_no_influence_either(planted):
    """Imputing, scaling and choosing are frozen: a test row gets the same prediction alone as among others."""
    task = selection._prepare_task(planted, "outcome", ModelSettings(**QUICK), None, None, (), None)
    train, test = next(selection._split(task.truth, task.groups, 4, 0))
    fitted = selection._fit(task, train, 0)
    together = fitted.predict(task.inputs[test])
    assert together == pytest.approx([fitted.predict(task.inputs[[n]])[0] for n in test], rel=1e-12)


def test_a_selection_cannot_be_handed_in():
    parameters = set(inspect.signature(evaluate_model).parameters)
    assert parameters == {
        *("study", "outcome", "settings", "positive", "scanner", "covariates", "reliability", "progress"),
    }


def test_patients_are_never_split():
    """Two nearly equal lesions per patient, outcomes by chance: split, a forest would recognize the patient."""
    rng = np.random.default_rng(2)
    patients = np.repeat(np.arange(100), 2)
    values = rng.normal(size=(100, 10))[patients] + 0.01 * rng.normal(size=(200, 10))
    outcome = (rng.permutation(100) % 2)[patients]
    result = evaluate_model(
        make_study(values, patients, outcome=outcome), "outcome", ModelSettings("random-forest", **QUICK)
    )
    for train, test in result.folds:
        assert not set(patients[train]) & set(patients[test])
    assert result.area == pytest.approx(0.5, abs=0.15)
    split = evaluate_model(make_study(values, outcome=outcome), "outcome", ModelSettings("random-forest", **QUICK))
    assert split.area > 0.9, "what grouping prevents"


def test_planted_features_are_found(planted, judged):
    assert judged.area > 0.8
    assert judged.lower < judged.area < judged.upper
    assert judged.selection_frequency["f1"] == 1
    assert judged.selection_frequency["f2"] == 0, "a copy of f0"
    assert max(judged.importance, key=judged.importance.get) in ("f0", "f1")
    assert judged.final.coefficients["f0"] > 0 > judged.final.coefficients["f1"]
    rows = np.sort(np.concatenate([test for _, test in judged.folds]))
    assert np.array_equal(rows, np.arange(80)), "every row is predicted once per repeat"
    assert np.mean(judged.fold_areas) == judged.area
    slope, intercept = judged.calibration
    assert 0.5 < slope < 3
    assert abs(intercept) < 1


def test_the_same_seed_gives_the_same_numbers(planted, judged):
    again = evaluate_model(planted, "outcome", ModelSettings(**QUICK))
    assert np.array_equal(again.probabilities, judged.probabilities)
    assert again.final == judged.final


def test_the_final_model_predicts_what_its_table_says(planted):
    task = selection._prepare_task(planted, "outcome", ModelSettings(**QUICK), None, None, (), None)
    fitted = selection._fit(task, np.arange(80), 0)
    final = selection._describe_fit(task, fitted)
    complete = np.isfinite(task.study.values).all(axis=1)
    odds = np.full(80, final.intercept)
    for feature, coefficient in final.coefficients.items():
        column = task.study.values[:, task.study.columns.index(feature)]
        odds += coefficient * (column - final.means[feature]) / final.deviations[feature]
    assert fitted.predict(task.inputs)[complete] == pytest.approx((1 / (1 + np.exp(-odds)))[complete])


def test_loadings_of_components_are_shown(planted):
    final = evaluate_model(planted, "outcome", ModelSettings("pca", **QUICK)).final
    assert set(final.coefficients) == set(final.loadings)
    assert all(sum(w**2 for w in loading.values()) == pytest.approx(1) for loading in final.loadings.values())


def test_permutation_test_and_optimism(planted):
    quick = {"folds": 3, "repeats": 1, "inner_folds": 2}
    few = planted.features(planted.columns[:6])
    real = evaluate_model(few, "outcome", ModelSettings("pca", **quick, permutations=9, bootstraps=4))
    assert real.permutation_p == 0.1, "none of nine shuffled outcomes does as well"
    assert real.corrected_area == pytest.approx(real.area, abs=0.12)
    rng = np.random.default_rng(4)
    noise = make_study(rng.normal(size=(60, 10)), outcome=np.arange(60) % 2)
    result = evaluate_model(noise, "outcome", ModelSettings("pca", **quick, permutations=4))
    assert result.permutation_p > 0.2


def test_shuffled_outcomes_keep_the_patients_together():
    patients = np.array([0, 0, 1, 1, 2, 3, 4, 4, 5, 6] * 2) + np.repeat([0, 7], 10)
    outcome = (patients % 2).astype(int)
    study = make_study(np.random.default_rng(0).normal(size=(20, 3)), patients, outcome=outcome)
    settings = ModelSettings(folds=2, inner_folds=2)
    task = selection._prepare_task(study, "outcome", settings, None, None, (), None)
    shuffled = selection._shuffle_patients(task, np.random.default_rng(1))
    assert shuffled.sum() == outcome.sum()
    assert all(len(set(shuffled[task.groups == g])) == 1 for g in range(14))


def test_scanner_effects_are_taken_out_inside_the_folds():
    """The outcome is more frequent on scanner B, whose features are shifted: uncorrected, the model reads that."""
    rng = np.random.default_rng(5)
    scanner = np.where(np.arange(120) < 60, "A", "B")
    outcome = (rng.random(120) < np.where(scanner == "A", 0.1, 0.9)).astype(int)
    values = rng.normal(size=(120, 20)) + 2.0 * (scanner == "B")[:, None]
    study = make_study(values, outcome=outcome, scanner=scanner)
    settings = ModelSettings("pca", folds=3, repeats=1, inner_folds=3)
    assert evaluate_model(study, "outcome", settings).area > 0.75
    assert evaluate_model(study, "outcome", settings, scanner="scanner").area == pytest.approx(0.5, abs=0.15)
    rare = study.rows(np.r_[0:60, 60:64])
    with pytest.raises(InputError, match="'B' has . training cases; at least 5"):
        evaluate_model(rare, "outcome", settings, scanner="scanner")


def test_unreliable_features_are_left_out(planted):
    reliability = {f"f{n}": 0.9 for n in range(30)} | {"f0": 0.6, "f2": 0.95}
    del reliability["f9"]
    result = evaluate_model(planted, "outcome", ModelSettings(**QUICK), reliability=reliability)
    assert len(result.study.columns) == 28
    assert not {"f0", "f9"} & set(result.study.columns)
    assert any("2 features without a lower ICC limit" in w for w in result.warnings)


def test_of_redundant_features_the_more_reliable_is_kept():
    rng = np.random.default_rng(6)
    x = rng.normal(size=50)
    values = np.stack([x, x**3, -x, rng.normal(size=50), np.full(50, 2.0)], axis=1)
    assert keep_uncorrelated(values, 0.9).tolist() == [0, 3]
    assert keep_uncorrelated(values, 0.9, (0.8, 0.95, 0.9, 0.8, 1.0)).tolist() == [1, 3]
    assert keep_uncorrelated(values, 1.0).tolist() == [0, 1, 2, 3]
    with pytest.raises(InputError, match="No feature varies"):
        keep_uncorrelated(values[:, 4:], 0.9)


def test_warnings_say_how_little_there_is(planted):
    small = planted.rows(np.arange(30))
    said = " ".join(evaluate_model(small, "outcome", ModelSettings(**QUICK)).warnings)
    assert "30 patients are few" in said
    assert "15 patients of the rarer outcome for 30 candidate features" in said
    doubled = planted.rows(np.r_[0:80, 0:5])
    twice = Study(
        tuple(f"Q{n}" for n in range(85)),
        doubled.segments,
        tuple(f"Q{n}" for n in range(85)),
        *(getattr(doubled, name) for name in ("columns", "values", "clinical")),
    )
    assert any(
        "5 rows hold exactly the values of another" in w
        for w in evaluate_model(twice, "outcome", ModelSettings("pca", **QUICK)).warnings
    )


def test_calibration_recovers_a_planted_miscalibration():
    rng = np.random.default_rng(7)
    odds = rng.normal(0, 1.5, 20_000)
    truth = rng.random(20_000) < 1 / (1 + np.exp(-(0.5 * odds - 0.3)))
    assert calibrate(1 / (1 + np.exp(-odds)), truth) == pytest.approx((0.5, -0.3), abs=0.05)
    assert calibrate(np.full(10, 0.4), np.arange(10) < 4) is None


@pytest.mark.parametrize(
    "change, message",
    [
        ({"outcome": "age"}, "There is no column 'age'"),
        ({"positive": "7"}, "holds 0 and 1, not '7'"),
        ({"covariates": ("outcome",), "scanner": "site"}, "cannot be a covariate"),
        ({"covariates": ("site",)}, "Name the scanner column too"),
        ({"reliability": {"f0": 0.5}}, "No feature has a lower ICC limit"),
        ({"settings": ModelSettings(folds=20)}, "12 patients are '1'; 20 are needed for 20 folds"),
    ],
)
def test_bad_input(change, message):
    study = make_study(np.random.default_rng(0).normal(size=(40, 3)), outcome=[1] * 12 + [0] * 28, site=["A"] * 40)
    with pytest.raises(InputError, match=message):
        evaluate_model(**({"study": study, "outcome": "outcome"} | change))


@pytest.mark.parametrize(
    "change", [{"method": "svm"}, {"folds": 1}, {"repeats": 0}, {"max_correlation": 0.0}, {"permutations": -1}]
)
def test_bad_settings(change):
    with pytest.raises(InputError):
        ModelSettings(**change)


def test_three_outcomes_are_refused():
    study = make_study(np.random.default_rng(0).normal(size=(30, 3)), outcome=list("abc") * 10)
    with pytest.raises(InputError, match="two different values; it holds 3: a, b, c"):
        evaluate_model(study, "outcome")


def test_real_table_beside_plain_scikit_learn(shared_data):
    """Wisconsin breast cancer: as good as a standard pipeline on the same folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    study = read_study(shared_data / "stats" / "wdbc.csv")
    judged = evaluate_model(study, "diagnosis", ModelSettings(repeats=1))
    assert judged.positive == "malignant"
    areas = []
    for train, test in judged.folds:
        plain = make_pipeline(StandardScaler(), LogisticRegression()).fit(study.values[train], judged.truth[train])
        areas.append(area_under_curve(plain.predict_proba(study.values[test])[:, 1], judged.truth[test]))
    assert judged.area == pytest.approx(np.mean(areas), abs=0.005)
    assert judged.area > 0.985
    assert len(judged.final.features) < 20


def test_command(tmp_path, capsys, planted):
    table = tmp_path / "table.csv"
    lines = ["case,outcome," + ",".join(planted.columns)]
    for n, case in enumerate(planted.cases):
        cells = ["" if np.isnan(v) else f"{v:.5f}" for v in planted.values[n]]
        lines.append(f"{case},{planted.texts('outcome')[n]}," + ",".join(cells))
    table.write_text("\n".join(lines) + "\n")
    (tmp_path / "icc.csv").write_text("feature,lower\n" + "".join(f"f{n},0.9\n" for n in range(29)) + "f29,\n")
    arguments = ["model", "--table", str(table), "--outcome", "outcome", "--repeats", "1", "--folds", "3"]
    arguments += ["--reliability", str(tmp_path / "icc.csv"), "--output", str(tmp_path / "out"), "--json"]
    assert main(arguments) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["auc"] > 0.75
    assert figures["permutation_p"] is None
    record = json.loads((tmp_path / "out" / "model.json").read_text())
    assert record["settings"]["method"] == "lasso"
    assert record["auc"] == figures["auc"]
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == list(planted.cases)
    assert (tmp_path / "out" / "roc.png").exists()
    assert (tmp_path / "out" / "calibration.png").exists()
    (tmp_path / "icc.csv").write_text("name,value\nf0,1\n")
    assert main(arguments) == 2
    assert "is not a table written by `repeatability`" in capsys.readouterr().err
