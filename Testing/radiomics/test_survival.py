"""Survival: Kaplan-Meier and log-rank against formulas, Cox models on planted and on empty data, honest refusals."""

from __future__ import annotations

import csv
import inspect
import json

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from RadiomicsPanelLib import survival
from RadiomicsPanelLib.cli import main
from RadiomicsPanelLib.study import Study
from RadiomicsPanelLib.survival import CoxSettings, compare_survival, concordance, cox_univariate, evaluate_cox
from scipy import stats

pytest.importorskip("lifelines")

# Freireich et al. 1963, remission of leukemia in weeks, as in Cox 1972: log-rank chi-squared 16.79, medians 23 and 8.
TREATED = "6 6 6 6+ 7 9+ 10 10+ 11+ 13 16 17+ 19+ 20+ 22 23 25+ 32+ 32+ 34+ 35+"
PLACEBO = "1 1 2 2 3 4 4 5 5 8 8 8 8 11 11 12 12 15 17 22 23"


def make_study(values, columns=None, **clinical):
    n, p = values.shape
    cases = tuple(f"P{i}" for i in range(n))
    texts = {name: tuple(str(v) for v in column) for name, column in clinical.items()}
    return Study(cases, ("lesion",) * n, cases, tuple(columns or (f"f{i}" for i in range(p))), values, texts)


@pytest.fixture(scope="module")
def remission():
    weeks = [text for group in (TREATED, PLACEBO) for text in group.split()]
    return make_study(
        np.arange(42.0)[:, None],
        weeks=[text.rstrip("+") for text in weeks],
        relapse=[int(not text.endswith("+")) for text in weeks],
        group=["treated"] * 21 + ["placebo"] * 21,
    )


@pytest.fixture(scope="module")
def planted():
    """90 patients, hazard times e^1.5 per unit of the first feature; names that a formula would trip over."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=(90, 5))
    times, last = rng.exponential(np.exp(-1.5 * values[:, 0])), rng.exponential(2.0, 90)
    columns = ("log-sigma-1-mm_stat mean (x)", "b + c", "C(a)", "1", "time")
    values[5, 3] = np.nan
    return make_study(values, columns, days=np.minimum(times, last), event=(times <= last).astype(int))


def test_textbook_remission_times(remission):
    result = compare_survival(remission, "weeks", "relapse", "group")
    placebo, treated = result.curves
    assert result.statistic == pytest.approx(16.79, abs=0.01)
    assert (placebo.median, treated.median) == (8, 23)
    assert (placebo.count, placebo.event_count, treated.event_count) == (21, 21, 9)
    at_ten = treated.survival[treated.times <= 10][-1]
    assert at_ten == pytest.approx(0.7529, abs=1e-4), "as printed in textbooks"
    assert result.ticks == (0, 5, 10, 15, 20, 25, 30, 35)
    assert placebo.at_risk[:3] == (21, 14, 8)
    assert treated.at_risk[:3] == (21, 21, 15)
    assert (treated.lower <= treated.survival + 1e-12).all()
    assert (treated.survival <= treated.upper + 1e-12).all()


def test_a_feature_is_cut_at_the_median_or_where_declared(planted):
    feature = planted.columns[0]
    result = compare_survival(planted, "days", "event", feature)
    assert (result.cut, result.cut_is_median) == (np.median(planted.values[:, 0]), True)
    assert [curve.count for curve in result.curves] == [45, 45]
    assert result.p < 1e-4
    declared = compare_survival(planted, "days", "event", feature, cut=1.0)
    assert (declared.cut, declared.cut_is_median) == (1.0, False)
    assert declared.curves[0].count == int((planted.values[:, 0] <= 1).sum())
    assert set(inspect.signature(compare_survival).parameters) == {"study", "time", "event", "by", "cut"}, (
        "no search for the best cut"
    )


def test_cox_model_of_each_feature(planted):
    tests, _ = cox_univariate(planted, "days", "event")
    assert [t.feature for t in tests if t.adjusted_p < 0.05] == [planted.columns[0]]
    first = tests[0]
    assert first.lower < np.exp(1.5 * planted.values[:, 0].std()) < first.upper
    assert first.lower < first.hazard_ratio < first.upper
    assert first.concordance > 0.7
    assert first.proportional_p > 0.01
    assert (tests[3].count, tests[0].count) == (89, 90)
    assert [t.adjusted_p for t in tests] == pytest.approx(stats.false_discovery_control([t.p for t in tests]))


def test_cox_model_equals_the_published_one(remission):
    """Cox 1972: placebo against treatment; with Efron's ties the log hazard ratio is 1.572 (R's survival::coxph)."""
    placebo = (np.array(remission.texts("group")) == "placebo").astype(float)
    study = Study(**{**vars(remission), "columns": ("placebo",), "values": placebo[:, None]})
    (test,), _ = cox_univariate(study, "weeks", "relapse")
    assert np.log(test.hazard_ratio) / placebo.std() == pytest.approx(1.572, abs=0.001)


def test_hazards_that_change_are_pointed_out():
    rng = np.random.default_rng(4)
    group = np.arange(300) % 2
    times = np.where(group == 1, rng.weibull(4, 300), rng.weibull(0.6, 300))
    (test,), _ = cox_univariate(make_study(group[:, None].astype(float), time=times, event=[1] * 300), "time", "event")
    assert test.proportional_p < 1e-3


def test_noise_gives_no_discoveries():
    rng = np.random.default_rng(5)
    study = make_study(rng.normal(size=(60, 25)), time=rng.exponential(size=60), event=rng.integers(0, 2, 60))
    tests, _ = cox_univariate(study, "time", "event")
    assert sum(t.adjusted_p < 0.05 for t in tests) == 0
    result = evaluate_cox(
        study.features(study.columns[:5]), "time", "event", CoxSettings(folds=3, inner_folds=2, l1_ratio=0.0)
    )
    assert result.concordance == pytest.approx(0.5, abs=0.15)
    assert result.lower < 0.5 < result.upper


def test_penalized_model_ranks_unseen_patients(planted):
    result = evaluate_cox(planted, "days", "event", CoxSettings(folds=3, inner_folds=2, l1_ratio=0.0))
    assert result.concordance > 0.65
    assert result.lower < result.concordance < result.upper
    assert max(result.hazard_ratios, key=lambda c: abs(np.log(result.hazard_ratios[c]))) == planted.columns[0]
    assert set(result.proportional_p) == set(planted.columns)
    rows = np.concatenate([test for _, test in result.folds])
    assert np.array_equal(np.sort(rows), np.arange(90))
    for train, test in result.folds:
        assert not set(train) & set(test)


def test_test_rows_have_no_influence_on_the_fit(planted):
    """With other features, times and events in the test part the fitted model is the same, bit for bit."""
    settings = CoxSettings(folds=3, inner_folds=2, l1_ratio=0.0)
    cohort = survival._prepare_cohort(planted, "days", "event")
    train, test = next(survival._split(cohort.events, 3, 0))
    values, events, times = cohort.study.values.copy(), cohort.events.copy(), cohort.times.copy()
    values[test], events[test], times[test] = 100.0, ~events[test], 7.0
    study = Study(**{**vars(cohort.study), "values": values})
    first = survival._fit_penalized(cohort, train, settings, lambda *_: None)
    second = survival._fit_penalized(survival._Cohort(study, times, events, ()), train, settings, lambda *_: None)
    assert first[2] == second[2]
    assert np.array_equal(first[1].params_, second[1].params_)
    assert np.array_equal(first[0].mean, second[0].mean)


def test_collinear_features_are_pointed_out():
    rng = np.random.default_rng(6)
    x = rng.normal(size=(60, 1))
    values = np.concatenate([x, x + 0.01 * rng.normal(size=(60, 1)), rng.normal(size=(60, 1))], axis=1)
    study = make_study(values, time=rng.exponential(size=60), event=[1] * 60)
    settings = CoxSettings(folds=2, inner_folds=2, l1_ratio=0.0, max_correlation=1.0)
    result = evaluate_cox(study, "time", "event", settings)
    assert result.condition_number > 100
    assert any("single effects cannot be told apart" in w for w in result.warnings)
    kept = evaluate_cox(study, "time", "event", CoxSettings(folds=2, inner_folds=2, l1_ratio=0.0))
    assert kept.condition_number < 3


def test_concordance_equals_lifelines():
    from lifelines.utils import concordance_index

    rng = np.random.default_rng(7)
    times, events, risks = rng.integers(1, 12, 60).astype(float), rng.random(60) < 0.6, rng.integers(0, 5, 60) * 1.0
    assert concordance(times, events, risks) == pytest.approx(concordance_index(times, -risks, events))
    assert np.isnan(concordance(times, np.zeros(60, bool), risks))


def test_what_cannot_be_fitted_says_why():
    times = np.arange(1.0, 31)
    values = np.stack([np.full(30, 2.0), np.where(np.arange(30) < 27, np.nan, times), times], axis=1)
    tests, _ = cox_univariate(make_study(values, time=times, event=[1] * 30), "time", "event")
    assert tests[0].note == "the feature does not vary"
    assert tests[1].note == "3 events where the feature applies; 5 are needed"
    assert (tests[0].p, tests[0].hazard_ratio) == (None, None)
    assert tests[2].note in (
        "the model does not converge; does the feature decide the event?",
        "convergence is doubtful",
    )


@pytest.mark.parametrize(
    "change, message",
    [
        ({"time": ["-1", *["1"] * 29]}, "Case 'P0' has a negative 'time'"),
        ({"event": ["2", *["1"] * 29]}, "Case 'P0' has an 'event' that is neither 0"),
        ({"event": ["yes"] * 30}, "'event' of case 'P0': 'yes' is not a finite number"),
        ({"event": ["0"] * 30}, "0 events are too few"),
        ({"patient": ["A"] * 30}, "A patient has several rows"),
    ],
)
def test_bad_times_and_events(change, message):
    clinical = {"time": [str(n) for n in range(30)], "event": ["1"] * 30} | change
    patients = tuple(clinical.pop("patient", [f"P{n}" for n in range(30)]))
    study = make_study(np.arange(30.0)[:, None], **clinical)
    with pytest.raises(InputError, match=message):
        cox_univariate(Study(**{**vars(study), "patients": patients}), "time", "event")


def test_bad_groups_and_folds(planted, remission):
    with pytest.raises(InputError, match="only a feature can be cut"):
        compare_survival(remission, "weeks", "relapse", "group", cut=1.0)
    with pytest.raises(InputError, match="gives 2 to 6 groups|has to give 2 to 6 groups"):
        compare_survival(remission, "weeks", "relapse", "weeks")
    with pytest.raises(InputError, match=r"it gives .* > 99: 0"):
        compare_survival(planted, "days", "event", planted.columns[1], cut=99.0)
    with pytest.raises(InputError, match="There is no column 'stage'"):
        compare_survival(planted, "days", "event", "stage")
    with pytest.raises(InputError, match=r"events are too few for 20 x 10 folds \(200\)"):
        evaluate_cox(planted, "days", "event", CoxSettings(folds=20, inner_folds=10))
    for change in ({"folds": 1}, {"l1_ratio": 2.0}, {"max_correlation": 0.0}):
        with pytest.raises(InputError):
            CoxSettings(**change)


def test_command(tmp_path, capsys, planted):
    table = tmp_path / "table.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "follow_up", "event", "texture", "size"])
        for n, case in enumerate(planted.cases):
            writer.writerow([case, planted.texts("days")[n], planted.texts("event")[n], *planted.values[n, :2]])
    arguments = ["survival", "--table", str(table), "--time", "follow_up", "--event", "event"]
    arguments += ["--output", str(tmp_path / "out"), "--json"]
    assert main([*arguments, "--by", "texture", "--time-unit", "years", "--figure-format", "svg"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["significant"] == 1
    assert figures["log_rank_p"] < 1e-4
    with (tmp_path / "out" / "cox.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["feature"] for row in rows] == ["texture", "size"]
    assert (tmp_path / "out" / "kaplan_meier.svg").read_bytes().startswith(b"<?xml")
    with (tmp_path / "out" / "kaplan_meier.csv").open(newline="") as file:
        assert len({row["group"] for row in csv.DictReader(file)}) == 2
    assert (
        "at risk" in (tmp_path / "out" / "kaplan_meier.svg").read_text()
        or (tmp_path / "out" / "kaplan_meier.svg").stat().st_size > 10_000
    )
    assert main([*arguments, "--cut", "1"]) == 2
    assert "A cut belongs to a feature" in capsys.readouterr().err
