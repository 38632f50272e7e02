"""A prediction model and an honest answer to how good it is: everything that looks at data happens inside the folds.

`evaluate_model` takes all features and does the choosing itself, in every fold anew: impute, take out scanner effects,
scale, drop redundant features, tune and fit. Patients stay together. There is no way to hand it a selection.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import Any, Literal, get_args

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Progress, ignore_progress, portion
from numpy.typing import NDArray

from RadiomicsPanelLib.association import area_under_curve, areas_under_curves, keep_uncorrelated
from RadiomicsPanelLib.harmonize import Covariates, fit_combat
from RadiomicsPanelLib.repeatability import GOOD
from RadiomicsPanelLib.study import Study

Method = Literal["lasso", "elastic-net", "pca", "random-forest"]
MAX_FEATURES = 5000
_ELASTIC_L1 = 0.5
_COMPONENTS = (1, 2, 3, 5, 8)
_IMPORTANCE_REPEATS = 5
_IMPORTANCE_ROWS = 10_000  # predicted at once

Array = NDArray[np.float64]
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class ModelSettings:
    """How a model is made and judged.

    Attributes
    ----------
    method : str
        "lasso" and "elastic-net": penalized logistic regression, the penalty by the one-standard-error rule; "pca":
        logistic regression on principal components, their number by the same rule; "random-forest".
    folds, repeats : int
        Of the outer cross-validation, in which the model is judged.
    inner_folds : int
        Of the cross-validation inside each training part, in which it is tuned.
    max_correlation : float
        Of two features that correlate more (Spearman, in size) one is dropped.
    permutations : int
        Number of times the whole procedure is repeated with shuffled outcomes; 0 leaves the test out.
    bootstraps : int
        Number of bootstrap samples for the optimism of the fit on all cases; 0 leaves it out.
    seed : int

    Raises
    ------
    InputError
        If the method is unknown or a number is out of range.
    """

    method: Method = "lasso"
    folds: int = 5
    repeats: int = 3
    inner_folds: int = 5
    max_correlation: float = 0.9
    permutations: int = 0
    bootstraps: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise InputError(f"Models are {', '.join(get_args(Method))}.")
        for name, least, most in (
            ("folds", 2, 20),
            ("inner_folds", 2, 20),
            ("repeats", 1, 100),
            ("permutations", 0, 10_000),
            ("bootstraps", 0, 10_000),
        ):
            if not least <= getattr(self, name) <= most:
                raise InputError(f"{name} has to be {least} to {most}, not {getattr(self, name)}.")
        if not 0 < self.max_correlation <= 1:
            raise InputError("max_correlation has to be above 0 and at most 1.")


@dataclass(frozen=True)
class FinalModel:
    """The model fitted once to all cases, by the same procedure.

    Attributes
    ----------
    features : tuple of str
        That the model uses.
    coefficients : dict of str to float
        Change of the log odds per standard deviation; of the components for "pca", empty for "random-forest".
    loadings : dict of str to dict of str to float
        For "pca": component -> feature -> weight.
    intercept : float or None
    means, deviations : dict of str to float
        With which the features are standardized.
    """

    features: tuple[str, ...]
    coefficients: dict[str, float]
    loadings: dict[str, dict[str, float]]
    intercept: float | None
    means: dict[str, float]
    deviations: dict[str, float]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How well the procedure predicts cases that it has not seen.

    Attributes
    ----------
    settings : ModelSettings
    outcome, positive : str
        Column, and its value that is predicted.
    study : Study
        The rows with an outcome, in the order of the arrays.
    truth : (n,) ndarray of bool
    probabilities : (n,) ndarray
        Of the positive outcome, from models that have not seen the row, mean over the repeats.
    folds : tuple of (train, test) row indices
        Of the outer cross-validation.
    fold_areas : tuple of float
        Area under the ROC curve of each fold that holds both outcomes.
    area, lower, upper : float
        Mean of `fold_areas`, with 95 % limits by bootstrap of patients.
    brier : float
        Mean squared error of the probabilities.
    calibration : tuple of two float, or None
        Slope (1 is ideal) and intercept (0) of the outcome's log odds on the predicted ones; None if every case has
        the same prediction.
    selection_frequency : dict of str to float
        Share of the folds whose model uses the feature.
    importance : dict of str to float
        Mean drop of the area when the feature is shuffled in the test part, 0 where it was not used.
    permutation_p : float or None
    corrected_area : float or None
        Apparent area on all cases minus the bootstrap's optimism.
    final : FinalModel
    warnings : tuple of str
    """

    settings: ModelSettings
    outcome: str
    positive: str
    study: Study
    truth: NDArray[np.bool_]
    probabilities: Array
    folds: tuple[tuple[Rows, Rows], ...]
    fold_areas: tuple[float, ...]
    area: float
    lower: float
    upper: float
    brier: float
    calibration: tuple[float, float] | None
    selection_frequency: dict[str, float]
    importance: dict[str, float]
    permutation_p: float | None
    corrected_area: float | None
    final: FinalModel
    warnings: tuple[str, ...]


def evaluate_model(
    study: Study,
    outcome: str,
    settings: ModelSettings | None = None,
    positive: str | None = None,
    scanner: str | None = None,
    covariates: Sequence[str] = (),
    reliability: Mapping[str, float] | None = None,
    progress: Progress = ignore_progress,
) -> Evaluation:
    """Judge a model of a two-valued outcome by grouped, nested, repeated cross-validation.

    Parameters
    ----------
    study : Study
        All features. Rows without an outcome are left out.
    outcome, positive : str
        Clinical column and the value to predict (default: the one that sorts last).
    settings : ModelSettings, optional
    scanner : str, optional
        Clinical column; scanner effects are taken out (ComBat), fitted in each training part.
    covariates : sequence of str
        Clinical columns that this must not take out with them.
    reliability : mapping of str to float, optional
        Lower limit of the ICC per feature, from repeated measurements; below 0.75 a feature is left out, and of two
        redundant ones the more reliable is kept.

    Raises
    ------
    InputError
        If scikit-learn is missing, the outcome is not two-valued, too few patients have it, it is also a covariate, or
        a column is not there.
    """
    settings = settings or ModelSettings()
    task = _prepare_task(study, outcome, settings, positive, scanner, covariates, reliability)
    extra = settings.permutations + settings.bootstraps
    share = settings.repeats / (settings.repeats + extra * 0.8 + 1)
    judged = _cross_validate(task, settings.repeats, portion(progress, 0.0, share))
    final_fit = _fit(task, np.arange(len(task.truth)), settings.seed)
    p, corrected = None, None
    if settings.permutations:
        p = _permutation_test(task, portion(progress, share, 0.95))
    if settings.bootstraps:
        corrected = _correct_for_optimism(task, final_fit, portion(progress, share, 0.95))
    probabilities = judged.sums / judged.counts
    final = _describe_fit(task, final_fit)
    lower, upper = _area_limits(task, judged)
    progress(1.0, "Judged")
    return Evaluation(
        settings,
        outcome,
        task.positive,
        task.study,
        task.truth,
        probabilities,
        tuple(judged.folds),
        tuple(judged.areas),
        float(np.mean(judged.areas)),
        lower,
        upper,
        float(np.mean((probabilities - task.truth) ** 2)),
        calibrate(probabilities, task.truth),
        {c: judged.used[c] / len(judged.folds) for c in task.study.columns},
        {c: judged.drops[c] / len(judged.folds) for c in task.study.columns},
        p,
        corrected,
        final,
        tuple(_warnings(task, final, judged)),
    )


def calibrate(probabilities: Array, truth: NDArray[np.bool_]) -> tuple[float, float] | None:
    """Return slope and intercept of a logistic regression of the outcome on the predicted log odds.

    None if all predictions are one.
    """
    from sklearn.linear_model import LogisticRegression

    clipped = np.clip(probabilities, 1e-6, 1 - 1e-6)
    odds = np.log(clipped / (1 - clipped))
    if np.ptp(odds) < 1e-9:
        return None
    fitted = LogisticRegression(C=np.inf, max_iter=1000).fit(odds[:, None], truth)
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


@dataclass(frozen=True, eq=False)
class _Task:
    """Rows with an outcome, ready for the pipeline: inputs are scanner code, covariates, features."""

    study: Study
    truth: NDArray[np.bool_]
    positive: str
    inputs: Array
    groups: NDArray[np.intp]
    scanners: tuple[str, ...]
    covariate_count: int
    priority: Array
    settings: ModelSettings
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Fit:
    """A fitted pipeline and the columns of the study that it uses."""

    prepare: Any
    model: Any
    kept: NDArray[np.intp]
    used: NDArray[np.intp]
    converged: bool

    def predict(self, inputs: Array) -> Array:
        """Return (n,) probabilities of the positive outcome."""
        return self.model.predict_proba(self.prepare.transform(inputs))[:, 1]


@dataclass(eq=False)
class _Judged:
    """What the outer cross-validation collects."""

    sums: Array
    counts: Array
    folds: list[tuple[Rows, Rows]] = field(default_factory=list)
    scores: list[Array] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    used: Counter[str] = field(default_factory=Counter)
    drops: dict[str, float] = field(default_factory=dict)
    unconverged: int = 0


def _prepare_task(
    study: Study,
    outcome: str,
    settings: ModelSettings,
    positive: str | None,
    scanner: str | None,
    covariates: Sequence[str],
    reliability: Mapping[str, float] | None,
) -> _Task:
    try:
        import sklearn  # noqa: F401 - says early and clearly what is missing
    except ImportError as error:
        raise InputError("Models need scikit-learn. Install the package scikit-learn.") from error
    if outcome in covariates or outcome == scanner:
        raise InputError(f"The outcome '{outcome}' cannot be a covariate: it is unknown for the patient to predict.")
    values, chosen = study.binary(outcome, positive)
    known = np.isfinite(values)
    notes = list(study.notes)
    if not known.all():
        notes.append(f"{np.count_nonzero(~known)} rows without '{outcome}' were left out")
    study = study.rows(known)
    truth = values[known] == 1
    if reliability is not None:
        reliable = [c for c in study.columns if reliability.get(c, -1.0) >= GOOD]
        notes.append(f"{len(study.columns) - len(reliable)} features without a lower ICC limit of {GOOD} were left out")
        if not reliable:
            raise InputError(f"No feature has a lower ICC limit of {GOOD}. Measure the repeatability of this table.")
        study = study.features(reliable)
    if len(study.columns) > MAX_FEATURES:
        raise InputError(f"{len(study.columns)} features are too many; at most {MAX_FEATURES}. Choose families.")
    groups = np.unique(study.patients, return_inverse=True)[1]
    needed = max(settings.folds, settings.inner_folds + 1)
    for value, name in ((True, chosen), (False, f"not {chosen}")):
        count = len(set(groups[truth == value]))
        if count < needed:
            raise InputError(f"{count} patients are '{name}'; {needed} are needed for {settings.folds} folds.")
    scanners: tuple[str, ...] = ()
    codes = np.zeros((len(truth), 0))
    encoded = np.zeros((len(truth), 0))
    if scanner is not None:
        texts = study.texts(scanner)
        if "" in texts:
            raise InputError(f"Case '{study.cases[texts.index('')]}' has no '{scanner}'.")
        scanners = tuple(sorted(set(texts)))
        codes = np.array([[float(scanners.index(t))] for t in texts])
        encoded = Covariates.of(study, covariates).encode(study)
    elif covariates:
        raise InputError("Covariates belong to the scanner correction. Name the scanner column too.")
    priority = np.array([0.0 if reliability is None else reliability[c] for c in study.columns])
    inputs = np.concatenate([codes, encoded, study.values], axis=1)
    return _Task(study, truth, chosen, inputs, groups, scanners, encoded.shape[1], priority, settings, tuple(notes))


@cache
def _step_classes() -> SimpleNamespace:
    """Return the two steps that scikit-learn lacks, as its own kind of classes (it is imported only when needed)."""
    from sklearn.base import BaseEstimator, TransformerMixin

    class ScannerStep(TransformerMixin, BaseEstimator):
        """Takes scanner effects out by ComBat; inputs are scanner code, covariates, features."""

        def __init__(self, scanners: tuple[str, ...], covariate_count: int) -> None:
            self.scanners = scanners
            self.covariate_count = covariate_count

        def _parts(self, inputs: Array) -> tuple[Array, list[str], Array]:
            names = [self.scanners[int(code)] for code in inputs[:, 0]]
            first = 1 + self.covariate_count
            return inputs[:, first:], names, inputs[:, 1:first]

        def fit(self, inputs: Array, truth: object = None) -> ScannerStep:
            """Estimate the scanner effects; the outcome is not looked at."""
            self.combat_ = fit_combat(*self._parts(inputs))
            return self

        def transform(self, inputs: Array) -> Array:
            """Return the features without scanner effects."""
            return self.combat_.apply(*self._parts(inputs))

    class RedundancyStep(TransformerMixin, BaseEstimator):
        """Keeps features that vary and do not correlate too much with one of higher priority, or earlier."""

        def __init__(self, max_correlation: float, priority: tuple[float, ...]) -> None:
            self.max_correlation = max_correlation
            self.priority = priority

        def fit(self, inputs: Array, truth: object = None) -> RedundancyStep:
            """Choose the features; the outcome is not looked at."""
            self.kept_ = keep_uncorrelated(inputs, self.max_correlation, self.priority)
            return self

        def transform(self, inputs: Array) -> Array:
            """Return the chosen columns."""
            return inputs[:, self.kept_]

    return SimpleNamespace(ScannerStep=ScannerStep, RedundancyStep=RedundancyStep)


def _make_preparation(task: _Task) -> Any:
    """Return the unfitted steps before the model, as one scikit-learn pipeline."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    own = _step_classes()
    steps: list[tuple[str, Any]] = [("impute", SimpleImputer(strategy="median", keep_empty_features=True))]
    if task.scanners:
        steps.append(("scanner", own.ScannerStep(task.scanners, task.covariate_count)))
    steps.append(("scale", StandardScaler()))
    steps.append(("redundancy", own.RedundancyStep(task.settings.max_correlation, tuple(task.priority))))
    return Pipeline(steps)


def _make_candidates(task: _Task, prepared: Array, truth: NDArray[np.bool_], seed: int) -> list[Any]:
    """Return unfitted models from the simplest to the most complex; one if nothing is tuned."""
    from sklearn.decomposition import PCA
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.svm import l1_min_c

    method = task.settings.method
    if method == "random-forest":
        return [RandomForestClassifier(200, min_samples_leaf=3, random_state=seed)]
    if method == "pca":
        most = min(len(prepared) * (task.settings.inner_folds - 1) // task.settings.inner_folds - 1, prepared.shape[1])
        return [
            Pipeline([("components", PCA(n, whiten=True, random_state=seed)), ("model", LogisticRegression())])
            for n in _COMPONENTS
            if n <= max(most, 1)
        ]
    smallest = l1_min_c(prepared, truth, loss="log")
    if method == "lasso":
        return [
            LogisticRegression(
                C=c, l1_ratio=1.0, solver="liblinear", intercept_scaling=100.0, max_iter=1000, random_state=seed
            )
            for c in smallest * np.geomspace(1.0, 100.0, 12)
        ]
    return [
        LogisticRegression(C=c, l1_ratio=_ELASTIC_L1, solver="saga", tol=1e-3, max_iter=3000, random_state=seed)
        for c in smallest * _ELASTIC_L1 * np.geomspace(1.0, 100.0, 10)
    ]


def _fit(task: _Task, rows: Rows, seed: int, truth: NDArray[np.bool_] | None = None) -> _Fit:
    """Fit the pipeline to some rows: tune by inner cross-validation, the simplest within one standard error."""
    from sklearn.exceptions import ConvergenceWarning

    truth = task.truth if truth is None else truth
    prepare = _make_preparation(task)
    prepared = prepare.fit_transform(task.inputs[rows])
    candidates = _make_candidates(task, prepared, truth[rows], seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        best = _tune(task, rows, seed, truth, candidates) if len(candidates) > 1 else 0
        model = candidates[best].fit(prepared, truth[rows])
    for warning in caught:
        if not issubclass(warning.category, ConvergenceWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    kept = prepare[-1].kept_
    used = kept if task.settings.method in ("pca", "random-forest") else kept[model.coef_[0] != 0]
    return _Fit(prepare, model, kept, used, not any(issubclass(w.category, ConvergenceWarning) for w in caught))


def _tune(task: _Task, rows: Rows, seed: int, truth: NDArray[np.bool_], candidates: Sequence[Any]) -> int:
    """Return the first candidate whose mean log loss is within one standard error of the best."""
    losses = []
    for train, test in _split(truth[rows], task.groups[rows], task.settings.inner_folds, seed):
        prepare = _make_preparation(task)
        fitted = prepare.fit_transform(task.inputs[rows[train]])
        held_out = prepare.transform(task.inputs[rows[test]])
        losses.append(
            [
                _log_loss(candidate.fit(fitted, truth[rows[train]]).predict_proba(held_out)[:, 1], truth[rows[test]])
                for candidate in candidates
            ]
        )
    mean = np.mean(losses, axis=0)
    best = int(np.argmin(mean))
    error = np.std([row[best] for row in losses], ddof=1) / len(losses) ** 0.5
    return int(np.flatnonzero(mean <= mean[best] + error)[0])


def _log_loss(probabilities: Array, truth: NDArray[np.bool_]) -> float:
    likelihood = np.where(truth, probabilities, 1 - probabilities)
    return -float(np.log(np.maximum(likelihood, 1e-15)).mean())


def _split(truth: NDArray[np.bool_], groups: NDArray[np.intp], folds: int, seed: int) -> Iterator[tuple[Rows, Rows]]:
    """Yield train and test rows, patients kept together, outcomes in similar shares; each train part has both."""
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for train, test in splitter.split(truth, truth, groups):
        if truth[train].any() and not truth[train].all():
            yield train, test


def _cross_validate(
    task: _Task, repeats: int, progress: Progress, truth: NDArray[np.bool_] | None = None, details: bool = True
) -> _Judged:
    truth = task.truth if truth is None else truth
    settings = task.settings
    judged = _Judged(np.zeros(len(truth)), np.zeros(len(truth)), drops=dict.fromkeys(task.study.columns, 0.0))
    for repeat in range(repeats):
        seed = settings.seed + 1000 * repeat
        for n, (train, test) in enumerate(_split(truth, task.groups, settings.folds, seed)):
            progress((repeat + n / settings.folds) / repeats, f"Fold {n + 1} of repeat {repeat + 1}")
            fitted = _fit(task, train, seed + n, truth)
            scores = fitted.predict(task.inputs[test])
            judged.folds.append((train, test))
            judged.scores.append(scores)
            judged.sums[test] += scores
            judged.counts[test] += 1
            judged.unconverged += not fitted.converged
            judged.used.update(task.study.columns[c] for c in fitted.used)
            if truth[test].any() and not truth[test].all():
                judged.areas.append(area_under_curve(scores, truth[test]))
                if details:
                    _add_importance(task, fitted, test, judged, seed)
    if not judged.areas:
        raise InputError("No test part holds both outcomes. Use fewer folds.")
    return judged


def _add_importance(task: _Task, fitted: _Fit, test: Rows, judged: _Judged, seed: int) -> None:
    """Add how much the area drops when each used feature is shuffled among the test rows."""
    rng = np.random.default_rng(seed)
    prepared = fitted.prepare.transform(task.inputs[test])
    truth = task.truth[test]
    base = area_under_curve(fitted.model.predict_proba(prepared)[:, 1], truth)
    columns = np.flatnonzero(np.isin(fitted.kept, fitted.used))
    if not len(columns):
        return
    at_once = max(_IMPORTANCE_ROWS // (_IMPORTANCE_REPEATS * len(test)), 1)
    for some in np.split(columns, range(at_once, len(columns), at_once)):
        shuffled = np.tile(prepared, (len(some), _IMPORTANCE_REPEATS, 1, 1))
        for part, column in zip(shuffled, some, strict=True):
            part[:, :, column] = rng.permuted(part[:, :, column], axis=1)
        scores = fitted.model.predict_proba(shuffled.reshape(-1, prepared.shape[1]))[:, 1]
        for part, column in zip(scores.reshape(len(some), _IMPORTANCE_REPEATS, -1), some, strict=True):
            drop = base - float(areas_under_curves(part, truth).mean())
            judged.drops[task.study.columns[fitted.kept[column]]] += drop


def _area_limits(task: _Task, judged: _Judged, samples: int = 1000) -> tuple[float, float]:
    """Return 95 % limits of the mean area over the folds, patients being drawn again with replacement."""
    rng = np.random.default_rng(task.settings.seed)
    patients = int(task.groups.max()) + 1
    weights = np.stack([np.bincount(rng.integers(patients, size=patients), minlength=patients) for _ in range(samples)])
    by_row = weights[:, task.groups].astype(np.float64)
    total, count = np.zeros(samples), np.zeros(samples)
    for (_, test), scores in zip(judged.folds, judged.scores, strict=True):
        truth = task.truth[test]
        difference = scores[truth][:, None] - scores[~truth][None]
        wins = (difference > 0) + 0.5 * (difference == 0)
        positive, negative = by_row[:, test[truth]], by_row[:, test[~truth]]
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        won = np.einsum("sp,pn,sn->s", positive, wins, negative, optimize=True)
        total += np.where(pairs > 0, won / np.maximum(pairs, 1), 0.0)
        count += pairs > 0
    low, high = np.percentile(total / np.maximum(count, 1), (2.5, 97.5))
    return float(low), float(high)


def _permutation_test(task: _Task, progress: Progress) -> float:
    """Return how often shuffled outcomes do as well, the real ones counted in; one repeat each."""
    observed = np.mean(_cross_validate(task, 1, ignore_progress, details=False).areas)
    rng = np.random.default_rng(task.settings.seed)
    as_good = 0
    for n in range(task.settings.permutations):
        progress(n / task.settings.permutations, f"Shuffled outcomes {n + 1} of {task.settings.permutations}")
        shuffled = _shuffle_patients(task, rng)
        as_good += bool(np.mean(_cross_validate(task, 1, ignore_progress, shuffled, details=False).areas) >= observed)
    return (1 + as_good) / (1 + task.settings.permutations)


def _shuffle_patients(task: _Task, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return the outcomes, exchanged between patients who have the same number of rows."""
    rows = [np.flatnonzero(task.groups == g) for g in range(int(task.groups.max()) + 1)]
    shuffled = task.truth.copy()
    for size in {len(r) for r in rows}:
        same = [r for r in rows if len(r) == size]
        for target, source in zip(same, rng.permutation(len(same)), strict=True):
            shuffled[target] = task.truth[same[source]]
    return shuffled


def _correct_for_optimism(task: _Task, final: _Fit, progress: Progress) -> float:
    """Return the apparent area minus the mean optimism of bootstrap fits (Harrell 1996).

    doi 10.1002/(SICI)1097-0258(19960229)15:4<361::AID-SIM168>3.0.CO;2-4. Copies of a patient stay in one inner fold.
    """
    rng = np.random.default_rng(task.settings.seed + 1)
    patients = [np.flatnonzero(task.groups == g) for g in range(int(task.groups.max()) + 1)]
    needed = task.settings.inner_folds
    optimism: list[float] = []
    while len(optimism) < task.settings.bootstraps:
        n = len(optimism)
        progress(n / task.settings.bootstraps, f"Bootstrap sample {n + 1} of {task.settings.bootstraps}")
        rows = np.concatenate([patients[g] for g in rng.integers(len(patients), size=len(patients))])
        if min(len(set(task.groups[rows[task.truth[rows] == value]])) for value in (True, False)) < needed:
            continue
        fitted = _fit(task, rows, task.settings.seed + n)
        seen = area_under_curve(fitted.predict(task.inputs[rows]), task.truth[rows])
        optimism.append(seen - area_under_curve(fitted.predict(task.inputs), task.truth))
    return area_under_curve(final.predict(task.inputs), task.truth) - float(np.mean(optimism))


def _describe_fit(task: _Task, fitted: _Fit) -> FinalModel:
    columns = task.study.columns
    scale = fitted.prepare.named_steps["scale"]
    first = 0 if task.scanners else task.inputs.shape[1] - len(columns)
    coefficients: dict[str, float] = {}
    loadings: dict[str, dict[str, float]] = {}
    intercept = None
    if task.settings.method == "pca":
        components, model = fitted.model
        intercept = float(model.intercept_[0])
        names = [f"component {n + 1}" for n in range(len(components.components_))]
        coefficients = dict(zip(names, map(float, model.coef_[0]), strict=True))
        loadings = {
            name: {columns[c]: float(w) for c, w in zip(fitted.kept, weights, strict=True)}
            for name, weights in zip(names, components.components_, strict=True)
        }
    elif task.settings.method != "random-forest":
        intercept = float(fitted.model.intercept_[0])
        by_column = dict(zip(fitted.kept.tolist(), fitted.model.coef_[0], strict=True))
        coefficients = {columns[c]: float(by_column[c]) for c in fitted.used}
    return FinalModel(
        tuple(columns[c] for c in fitted.used),
        coefficients,
        loadings,
        intercept,
        {columns[c]: float(scale.mean_[first + c]) for c in fitted.used},
        {columns[c]: float(scale.scale_[first + c]) for c in fitted.used},
    )


def _warnings(task: _Task, final: FinalModel, judged: _Judged) -> list[str]:
    said = list(task.notes)
    events = min(len(set(task.groups[task.truth])), len(set(task.groups[~task.truth])))
    patients = int(task.groups.max()) + 1
    candidates, used = len(task.study.columns), len(final.coefficients) or len(final.features)
    if patients < 50:
        said.append(f"{patients} patients are few; below 50 the limits are wide and the model unstable")
    if events < 10 * used:
        said.append(f"{events} patients of the rarer outcome for {used} predictors in the model; 10 each are advised")
    if events < 10 * candidates:
        said.append(
            f"{events} patients of the rarer outcome for {candidates} candidate features; with fewer than 10 each, "
            "validate on other patients"
        )
    if not final.features:
        said.append("the model uses no feature: nothing predicts the outcome beyond its frequency")
    if judged.unconverged:
        said.append(f"{judged.unconverged} of {len(judged.folds)} fits had not converged")
    rows = np.where(np.isfinite(task.study.values), task.study.values, 0.0)
    copies = len(rows) - len(np.unique(rows, axis=0))
    if copies:
        said.append(f"{copies} rows hold exactly the values of another; is a patient in the table twice?")
    return said
