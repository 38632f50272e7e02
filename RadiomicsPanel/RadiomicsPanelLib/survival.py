"""Time to an event: Kaplan-Meier with the log-rank test, Cox models of one feature and of many.

Cuts are declared beforehand or the median; trying cuts until one is significant is not offered (of 25 tried on noise,
the best has p < 0.05 in 38 % of studies).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Progress, ignore_progress, portion
from numpy.typing import NDArray
from scipy import stats

from RadiomicsPanelLib.association import keep_uncorrelated
from RadiomicsPanelLib.study import Study

LEAST_EVENTS = 5
MAX_GROUPS = 6
MAX_MODEL_FEATURES = 150
HIGH_CONDITION = 30.0
_TIME, _EVENT = "time of the event", "event seen"
_PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01)

Array = NDArray[np.float64]
Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Curve:
    """Kaplan-Meier estimate of one group.

    Attributes
    ----------
    name : str
    count, event_count : int
    times, survival, lower, upper : (m,) ndarray
        Steps, starting at time 0; 95 % limits on the log-log scale.
    median : float or None
        Time at which half have had the event; None if that is not reached.
    at_risk : tuple of int
        At the comparison's `ticks`.
    """

    name: str
    count: int
    event_count: int
    times: Array
    survival: Array
    lower: Array
    upper: Array
    median: float | None
    at_risk: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class SurvivalComparison:
    """Curves of several groups and the log-rank test between them.

    Attributes
    ----------
    what : str
        Feature or clinical column.
    cut : float or None
        Where a feature was cut (rows at or below it are the first group); None for groups of a column.
    cut_is_median : bool
    curves : tuple of Curve
    ticks : tuple of float
    statistic, p : float
        Of the log-rank test.
    warnings : tuple of str
    """

    what: str
    cut: float | None
    cut_is_median: bool
    curves: tuple[Curve, ...]
    ticks: tuple[float, ...]
    statistic: float
    p: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class CoxTest:
    """Cox model of one feature.

    Attributes
    ----------
    feature : str
    count, event_count : int
    hazard_ratio, lower, upper : float or None
        Per standard deviation of the feature, with 95 % limits.
    p, adjusted_p : float or None
        Wald test; adjusted (Benjamini and Hochberg) over all features tested.
    proportional_p : float or None
        Test of Schoenfeld residuals; small values speak against proportional hazards.
    concordance : float or None
        On the same cases.
    note : str
        Why there is no value, or what to be careful about.
    """

    feature: str
    count: int
    event_count: int
    hazard_ratio: float | None = None
    lower: float | None = None
    upper: float | None = None
    p: float | None = None
    adjusted_p: float | None = None
    proportional_p: float | None = None
    concordance: float | None = None
    note: str = ""


@dataclass(frozen=True)
class CoxSettings:
    """How a Cox model of many features is made and judged.

    Attributes
    ----------
    folds, repeats, inner_folds : int
        Of the outer cross-validation, and of the inner one that chooses the penalty.
    l1_ratio : float
        0: ridge, all features are used; toward 1: fewer features.
    max_correlation : float
        Of two features that correlate more (Spearman, in size) the later one is dropped.
    seed : int

    Raises
    ------
    InputError
        If a number is out of range.
    """

    folds: int = 5
    repeats: int = 1
    inner_folds: int = 3
    l1_ratio: float = 0.5
    max_correlation: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        if not (2 <= self.folds <= 20 and 2 <= self.inner_folds <= 20 and 1 <= self.repeats <= 100):
            raise InputError("folds and inner_folds have to be 2 to 20, repeats 1 to 100.")
        if not (0 <= self.l1_ratio <= 1 and 0 < self.max_correlation <= 1):
            raise InputError("l1_ratio has to be 0 to 1, max_correlation above 0 and at most 1.")


@dataclass(frozen=True, eq=False)
class CoxEvaluation:
    """How well a penalized Cox model ranks patients that it has not seen.

    Attributes
    ----------
    settings : CoxSettings
    study : Study
        The rows with time and event.
    folds : tuple of (train, test) row indices
    concordance, lower, upper : float
        Mean over the folds, with 95 % limits by bootstrap of patients.
    risks : (n,) ndarray
        Log hazard relative to the training mean, from models that have not seen the row; mean over the repeats.
    penalty : float
        Of the final model.
    hazard_ratios : dict of str to float
        Of the final model, per standard deviation; features without effect are left out.
    proportional_p : dict of str to float
    condition_number : float
        Of the final model's features; above 30 their single effects cannot be told apart.
    warnings : tuple of str
    """

    settings: CoxSettings
    study: Study
    folds: tuple[tuple[Rows, Rows], ...]
    concordance: float
    lower: float
    upper: float
    risks: Array
    penalty: float
    hazard_ratios: dict[str, float]
    proportional_p: dict[str, float]
    condition_number: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Cohort:
    study: Study
    times: Array
    events: NDArray[np.bool_]
    notes: tuple[str, ...]


def compare_survival(study: Study, time: str, event: str, by: str, cut: float | None = None) -> SurvivalComparison:
    """Return Kaplan-Meier curves and the log-rank test between groups.

    Parameters
    ----------
    study : Study
    time, event : str
        Clinical columns: time to the event or to the last visit, and 1 (event) or 0 (none so far).
    by : str
        A feature, divided at the cut, or a clinical column whose values are the groups.
    cut : float, optional
        Declared before looking at the outcome; default is the median of these cases.

    Raises
    ------
    InputError
        If lifelines is missing, a column cannot be used, a patient has several rows, or a group is empty.
    """
    _require_lifelines()
    from lifelines.statistics import multivariate_logrank_test

    cohort = _prepare_cohort(study, time, event)
    median_cut = False
    if by in cohort.study.columns:
        values = cohort.study.values[:, cohort.study.columns.index(by)]
        cohort = _keep(cohort, np.isfinite(values))
        values = values[np.isfinite(values)]
        if cut is None:
            if not len(values):
                raise InputError(f"The feature '{by}' applies to no case.")
            cut, median_cut = float(np.median(values)), True
        names: Sequence[str] = (f"{by} <= {cut:.4g}", f"{by} > {cut:.4g}")
        groups = np.where(values > cut, names[1], names[0])
    else:
        if cut is not None:
            raise InputError(f"'{by}' is a column of groups; only a feature can be cut.")
        texts = np.array(cohort.study.texts(by))
        cohort = _keep(cohort, texts != "")
        groups = texts[texts != ""]
        names = sorted(set(groups.tolist()))
    counts = [int((groups == name).sum()) for name in names]
    if not 2 <= len(names) <= MAX_GROUPS or min(counts) < 2:
        shown = ", ".join(f"{name}: {count}" for name, count in zip(names, counts, strict=True)) or "none"
        raise InputError(f"'{by}' has to give 2 to {MAX_GROUPS} groups of at least two cases; it gives {shown}.")
    ticks = _ticks(float(cohort.times.max()))
    curves = tuple(_curve(name, cohort.times[groups == name], cohort.events[groups == name], ticks) for name in names)
    result = multivariate_logrank_test(cohort.times, groups, cohort.events)
    few = [c.name for c in curves if c.event_count < LEAST_EVENTS]
    notes = (*cohort.notes, *(f"fewer than {LEAST_EVENTS} events in group '{name}'" for name in few))
    return SurvivalComparison(
        by, cut, median_cut, curves, ticks, float(result.test_statistic), float(result.p_value), notes
    )


def cox_univariate(
    study: Study, time: str, event: str, progress: Progress = ignore_progress
) -> tuple[list[CoxTest], list[str]]:
    """Return a Cox model of each feature alone, and warnings.

    Raises
    ------
    InputError
        If lifelines is missing, a column cannot be used or a patient has several rows.
    """
    _require_lifelines()
    cohort = _prepare_cohort(study, time, event)
    tests = []
    for n, feature in enumerate(cohort.study.columns):
        progress(n / len(cohort.study.columns), feature)
        tests.append(_cox_test(cohort, feature, cohort.study.values[:, n]))
    tested = [t.p for t in tests if t.p is not None]
    adjusted = iter(stats.false_discovery_control(tested) if tested else [])
    tests = [t if t.p is None else replace(t, adjusted_p=float(next(adjusted))) for t in tests]
    progress(1.0, f"{len(tested)} models")
    return tests, list(cohort.notes)


def evaluate_cox(
    study: Study,
    time: str,
    event: str,
    settings: CoxSettings | None = None,
    progress: Progress = ignore_progress,
) -> CoxEvaluation:
    """Judge a penalized Cox model by nested cross-validation; all choosing happens inside the folds.

    Raises
    ------
    InputError
        If lifelines is missing, a column cannot be used, a patient has several rows, there are fewer events than the
        folds need, or too many features.
    """
    _require_lifelines()
    settings = settings or CoxSettings()
    cohort = _prepare_cohort(study, time, event)
    events, n = int(cohort.events.sum()), len(cohort.times)
    needed = settings.folds * settings.inner_folds
    if events < needed:
        raise InputError(f"{events} events are too few for {settings.folds} x {settings.inner_folds} folds ({needed}).")
    folds: list[tuple[Rows, Rows]] = []
    scores: list[Array] = []
    risks = np.zeros(n)
    for repeat in range(settings.repeats):
        split = list(_split(cohort.events, settings.folds, settings.seed + 1000 * repeat))
        for m, (train, test) in enumerate(split):
            at = (repeat * settings.folds + m) / (settings.repeats * settings.folds + 1)
            part = portion(progress, at, at + 1 / (settings.repeats * settings.folds + 1))
            prepared, model, _ = _fit_penalized(cohort, train, settings, part)
            folds.append((train, test))
            scores.append(model.predict_log_partial_hazard(prepared.frame(cohort, test)).to_numpy())
            risks[test] += scores[-1] / settings.repeats
    values = [concordance(cohort.times[t], cohort.events[t], s) for (_, t), s in zip(folds, scores, strict=True)]
    lower, upper = _concordance_limits(cohort, folds, scores, settings.seed)
    prepared, model, penalty = _fit_penalized(cohort, np.arange(n), settings, ignore_progress)
    ratios = {c: float(np.exp(model.params_[c])) for c in prepared.columns if abs(model.params_[c]) > 1e-3}
    proportional = _proportional_p(model, prepared.frame(cohort, np.arange(n)))
    inputs = prepared.transform(cohort.study.values)
    condition = float(np.linalg.cond(inputs)) if inputs.shape[1] > 1 else 1.0
    progress(1.0, "Judged")
    return CoxEvaluation(
        settings,
        cohort.study,
        tuple(folds),
        float(np.nanmean(values)),
        lower,
        upper,
        risks,
        penalty,
        ratios,
        proportional,
        condition,
        tuple(_cox_warnings(cohort, ratios, proportional, condition)),
    )


def concordance(times: Array, events: NDArray[np.bool_], risks: Array) -> float:
    """Return Harrell's C: how often the patient with the earlier event has the higher risk, ties counting half.

    Not a number if no pair can be compared.
    """
    comparable, wins = _pairs(times, events, risks)
    total = comparable.sum()
    return float((comparable * wins).sum() / total) if total else float("nan")


def _require_lifelines() -> None:
    try:
        import lifelines  # noqa: F401 - says early and clearly what is missing
    except ImportError as error:
        raise InputError("Survival analysis needs lifelines. Install the package lifelines.") from error


def _prepare_cohort(study: Study, time: str, event: str) -> _Cohort:
    times, events = study.numbers(time), study.numbers(event)
    known = np.isfinite(times) & np.isfinite(events)
    notes = list(study.notes)
    if not known.all():
        notes.append(f"{np.count_nonzero(~known)} rows without time or event were left out")
    study, times, events = study.rows(known), times[known], events[known]
    for wrong, what in (
        (times < 0, f"a negative '{time}'"),
        ((events != 0) & (events != 1), f"an '{event}' that is neither 0 (no event so far) nor 1 (event)"),
    ):
        if wrong.any():
            raise InputError(f"Case '{study.cases[int(np.argmax(wrong))]}' has {what}.")
    if len(set(study.patients)) < len(study.patients):
        raise InputError("A patient has several rows; a time belongs to a patient. Choose one segment.")
    if events.sum() < LEAST_EVENTS:
        raise InputError(f"{int(events.sum())} events are too few; at least {LEAST_EVENTS} are needed.")
    return _Cohort(study, times, events == 1, tuple(notes))


def _keep(cohort: _Cohort, rows: NDArray[np.bool_]) -> _Cohort:
    note = (f"{np.count_nonzero(~rows)} rows without a value were left out",) if not rows.all() else ()
    return _Cohort(cohort.study.rows(rows), cohort.times[rows], cohort.events[rows], cohort.notes + note)


def _ticks(longest: float) -> tuple[float, ...]:
    """Return times from 0 in steps of 1, 2 or 5 times a power of ten, four to ten of them."""
    if longest <= 0:
        return (0.0,)
    power = 10.0 ** np.floor(np.log10(longest))
    step = next(power * f for f in (0.2, 0.5, 1.0) if longest / (power * f) < 9)
    return tuple((step * np.arange(int(longest / step) + 1)).tolist())


def _curve(name: str, times: Array, events: NDArray[np.bool_], ticks: Sequence[float]) -> Curve:
    from lifelines import KaplanMeierFitter

    fitted = KaplanMeierFitter().fit(times, events)
    limits = fitted.confidence_interval_survival_function_.to_numpy()
    median = float(fitted.median_survival_time_)
    return Curve(
        name,
        len(times),
        int(events.sum()),
        fitted.survival_function_.index.to_numpy(dtype=np.float64),
        fitted.survival_function_.to_numpy()[:, 0],
        limits[:, 0],
        limits[:, 1],
        median if np.isfinite(median) else None,
        tuple(int((times >= tick).sum()) for tick in ticks),
    )


def _cox_test(cohort: _Cohort, feature: str, values: Array) -> CoxTest:
    from lifelines.exceptions import ConvergenceError, ConvergenceWarning

    known = np.isfinite(values)
    cohort, values = _keep(cohort, known), values[known]
    test = CoxTest(feature, len(values), int(cohort.events.sum()))
    if test.event_count < LEAST_EVENTS:
        return replace(test, note=f"{test.event_count} events where the feature applies; {LEAST_EVENTS} are needed")
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return replace(test, note="the feature does not vary")
    frame = _frame(((values - values.mean()) / values.std())[:, None], (feature,), cohort)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = _cox(frame, 0.0, 0.0)
        except ConvergenceError:
            return replace(test, note="the model does not converge; does the feature decide the event?")
    doubt = any(issubclass(w.category, ConvergenceWarning) for w in caught)
    row = model.summary.iloc[0]
    return replace(
        test,
        hazard_ratio=float(row["exp(coef)"]),
        lower=float(row["exp(coef) lower 95%"]),
        upper=float(row["exp(coef) upper 95%"]),
        p=float(row["p"]),
        proportional_p=_proportional_p(model, frame).get(feature),
        concordance=float(model.concordance_index_),
        note="convergence is doubtful" if doubt else "",
    )


def _frame(inputs: Array, columns: Sequence[str], cohort: _Cohort) -> Any:
    import pandas

    frame = pandas.DataFrame(inputs, columns=list(columns))
    frame[_TIME], frame[_EVENT] = cohort.times, cohort.events
    return frame


def _cox(frame: Any, penalty: float, l1_ratio: float) -> Any:
    from lifelines import CoxPHFitter

    return CoxPHFitter(penalizer=penalty, l1_ratio=l1_ratio).fit(frame, _TIME, _EVENT)


def _proportional_p(model: Any, frame: Any) -> dict[str, float]:
    """Return p of the Schoenfeld test per feature, time being ranked (Grambsch and Therneau 1994)."""
    from lifelines.statistics import proportional_hazard_test

    summary = proportional_hazard_test(model, frame, time_transform="rank").summary["p"]
    return {column: float(p) for column, p in zip(summary.index, summary.to_numpy(), strict=True) if np.isfinite(p)}


@dataclass(frozen=True, eq=False)
class _Prepared:
    """Frozen preparation: medians for what is missing, standardization, and the features that are kept."""

    medians: Array
    mean: Array
    deviation: Array
    kept: NDArray[np.intp]
    columns: tuple[str, ...]

    def transform(self, values: Array) -> Array:
        filled = np.where(np.isfinite(values), values, self.medians)
        return ((filled - self.mean) / self.deviation)[:, self.kept]

    def frame(self, cohort: _Cohort, rows: Rows) -> Any:
        part = _Cohort(cohort.study, cohort.times[rows], cohort.events[rows], ())
        return _frame(self.transform(cohort.study.values[rows]), self.columns, part)


def _prepare(cohort: _Cohort, rows: Rows, settings: CoxSettings) -> _Prepared:
    values = cohort.study.values[rows]
    known = np.isfinite(values)
    medians = np.array([np.median(c[k]) if k.any() else 0.0 for c, k in zip(values.T, known.T, strict=True)])
    filled = np.where(known, values, medians)
    mean, deviation = filled.mean(axis=0), filled.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    kept = keep_uncorrelated((filled - mean) / deviation, settings.max_correlation)
    if len(kept) > MAX_MODEL_FEATURES:
        raise InputError(
            f"{len(kept)} features remain without redundant ones; a Cox model takes {MAX_MODEL_FEATURES}. "
            "Choose families or lower max_correlation."
        )
    return _Prepared(medians, mean, deviation, kept, tuple(cohort.study.columns[c] for c in kept))


def _fit_penalized(
    cohort: _Cohort, rows: Rows, settings: CoxSettings, progress: Progress
) -> tuple[_Prepared, Any, float]:
    """Choose the penalty by inner cross-validation (the largest within one standard error) and fit the rows."""
    likelihoods = []
    for n, (train, test) in enumerate(_split(cohort.events[rows], settings.inner_folds, settings.seed)):
        prepared = _prepare(cohort, rows[train], settings)
        fitted, held_out = prepared.frame(cohort, rows[train]), prepared.frame(cohort, rows[test])
        scores = []
        for m, penalty in enumerate(_PENALTIES):
            progress((n + m / len(_PENALTIES)) / settings.inner_folds, f"Penalty {penalty:g}")
            scores.append(_cox(fitted, penalty, settings.l1_ratio).score(held_out, "log_likelihood"))
        likelihoods.append(scores)
    mean = np.mean(likelihoods, axis=0)
    best = int(np.argmax(mean))
    error = np.std([row[best] for row in likelihoods], ddof=1) / len(likelihoods) ** 0.5
    penalty = _PENALTIES[int(np.flatnonzero(mean >= mean[best] - error)[0])]
    prepared = _prepare(cohort, rows, settings)
    return prepared, _cox(prepared.frame(cohort, rows), penalty, settings.l1_ratio), penalty


def _split(events: NDArray[np.bool_], folds: int, seed: int) -> Iterator[tuple[Rows, Rows]]:
    """Yield train and test rows; events are spread evenly."""
    rng = np.random.default_rng(seed)
    fold = np.empty(len(events), dtype=np.intp)
    for seen in (True, False):
        rows = rng.permutation(np.flatnonzero(events == seen))
        fold[rows] = np.arange(len(rows)) % folds
    for n in range(folds):
        yield np.flatnonzero(fold != n), np.flatnonzero(fold == n)


def _pairs(times: Array, events: NDArray[np.bool_], risks: Array) -> tuple[Array, Array]:
    """Return which pairs (earlier event, other) can be compared, and whether the earlier has the higher risk."""
    earlier = (times[:, None] < times) | ((times[:, None] == times) & ~events[None])
    comparable = (earlier & events[:, None]).astype(np.float64)
    difference = risks[:, None] - risks
    return comparable, (difference > 0) + 0.5 * (difference == 0)


def _concordance_limits(
    cohort: _Cohort, folds: Sequence[tuple[Rows, Rows]], scores: Sequence[Array], seed: int, samples: int = 1000
) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    n = len(cohort.times)
    weights = np.stack([np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(samples)]).astype(np.float64)
    total, count = np.zeros(samples), np.zeros(samples)
    for (_, test), risks in zip(folds, scores, strict=True):
        comparable, wins = _pairs(cohort.times[test], cohort.events[test], risks)
        own = weights[:, test]
        pairs = np.einsum("sp,pq,sq->s", own, comparable, own, optimize=True)
        won = np.einsum("sp,pq,sq->s", own, comparable * wins, own, optimize=True)
        total += np.where(pairs > 0, won / np.maximum(pairs, 1), 0.0)
        count += pairs > 0
    low, high = np.percentile(total / np.maximum(count, 1), (2.5, 97.5))
    return float(low), float(high)


def _cox_warnings(
    cohort: _Cohort, ratios: dict[str, float], proportional: dict[str, float], condition: float
) -> list[str]:
    said = list(cohort.notes)
    events, candidates = int(cohort.events.sum()), len(cohort.study.columns)
    if events < 10 * max(len(ratios), 1):
        said.append(f"{events} events for {len(ratios)} features in the model; 10 each are advised")
    if events < 10 * candidates:
        said.append(
            f"{events} events for {candidates} candidate features; with fewer than 10 each, validate on other patients"
        )
    if not ratios:
        said.append("the model uses no feature: nothing predicts the time beyond its distribution")
    if condition > HIGH_CONDITION:
        said.append(f"condition number {condition:.0f}: the features' single effects cannot be told apart")
    doubtful = [c for c in ratios if proportional.get(c, 1.0) < 0.05]
    if doubtful:
        said.append(f"hazards are not proportional (Schoenfeld p < 0.05) for {', '.join(doubtful[:5])}")
    return said
