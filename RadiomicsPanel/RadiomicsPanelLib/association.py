"""Which features go with an outcome: effect, interval, p, and p adjusted for all tests that were made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Progress, ignore_progress
from numpy.typing import NDArray
from scipy import special, stats

from RadiomicsPanelLib.study import Study

Correlation = Literal["spearman", "pearson"]
LEAST_ROWS = 5
MAX_GROUPS = 20

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Association:
    """One test.

    Attributes
    ----------
    feature, outcome : str
    test : str
        "spearman", "pearson", "mann-whitney" or "kruskal".
    effect_name : str
        What the effect is: a correlation; "rank-biserial" (2 AUC - 1); "eta-squared".
    count : int
        Rows with both values.
    effect, lower, upper, p, adjusted_p : float or None
        95 % limits; None if the test could not be made, then `note` says why.
    note : str
    """

    feature: str
    outcome: str
    test: str
    effect_name: str
    count: int
    effect: float | None = None
    lower: float | None = None
    upper: float | None = None
    p: float | None = None
    adjusted_p: float | None = None
    note: str = ""


def associate(
    study: Study,
    outcomes: Sequence[str],
    correlation: Correlation = "spearman",
    progress: Progress = ignore_progress,
) -> tuple[list[Association], list[str]]:
    """Test every feature against every outcome; return the tests and warnings.

    An outcome of two values gives Mann-Whitney tests, of more texts Kruskal-Wallis tests, of numbers correlations.
    P values are adjusted (Benjamini and Hochberg 1995) over all tests of the call, so outcomes belong into one call.

    Raises
    ------
    InputError
        If an outcome is not there, holds one value, or more than 20 texts.
    """
    if correlation not in get_args(Correlation):
        raise InputError(f"Correlations are {', '.join(get_args(Correlation))}.")
    if not outcomes:
        raise InputError("Name at least one outcome.")
    made: list[Association] = []
    for n, outcome in enumerate(outcomes):
        codes, test, effect_name, compute = _choose_test(study, outcome, correlation)
        for m, feature in enumerate(study.columns):
            if m % 50 == 0:
                progress((n + m / len(study.columns)) / len(outcomes), f"{outcome}: {feature}")
            blank = Association(feature, outcome, test, effect_name, 0)
            made.append(_test(blank, study.values[:, m], codes, compute))
    tested = [a.p for a in made if a.p is not None]
    adjusted = iter(stats.false_discovery_control(tested) if tested else [])
    made = [a if a.p is None else replace(a, adjusted_p=float(next(adjusted))) for a in made]
    progress(1.0, f"{len(tested)} tests")
    return made, _warnings(study)


def spearman_matrix(values: Array, other: Array | None = None) -> Array:
    """Return Spearman correlations of the columns: (p, p), or (p,) with one other column.

    Rows with a missing value in either column of a pair are left out; a column that does not vary gives 0.
    """
    if other is not None:
        return np.array([_spearman(column, other) for column in values.T])
    if np.isfinite(values).all():
        ranks = stats.rankdata(values, axis=0)
        ranks -= ranks.mean(axis=0)
        length = np.sqrt((ranks**2).sum(axis=0))
        ranks /= np.where(length > 0, length, 1.0)
        return ranks.T @ ranks
    p = values.shape[1]
    matrix = np.eye(p)
    for a in range(p):
        for b in range(a):
            matrix[a, b] = matrix[b, a] = _spearman(values[:, a], values[:, b])
    return matrix


def keep_uncorrelated(values: Array, max_correlation: float, priority: Sequence[float] = ()) -> NDArray[np.intp]:
    """Return the columns that vary and do not correlate more than allowed with a kept one of higher priority.

    Without priorities, and among equal ones, the earlier column is kept. The outcome has no part in it.

    Parameters
    ----------
    values : (n, p) ndarray
        Without missing values.
    max_correlation : float
        Of Spearman, in size.
    priority : sequence of p float, optional

    Raises
    ------
    InputError
        If no column varies.
    """
    varying = np.flatnonzero(np.ptp(values, axis=0) > 1e-9)
    if not len(varying):
        raise InputError("No feature varies among the training cases.")
    correlations = np.minimum(np.abs(spearman_matrix(values[:, varying])), 1.0)
    ranking = np.asarray(priority)[varying] if len(priority) else np.zeros(len(varying))
    kept: list[int] = []
    for n in np.argsort(-ranking, kind="stable"):
        if not (correlations[n, kept] > max_correlation).any():
            kept.append(int(n))
    return np.sort(varying[kept])


def flag_volume_proxies(study: Study, threshold: float = 0.9) -> dict[str, float]:
    """Return the features that say little beyond size: Spearman correlation with the volume beyond the threshold.

    Empty if the table has no volume (`morph_mesh_volume` or `morph_voxel_volume`).
    """
    volume = next(
        (n for n, c in enumerate(study.columns) if c.endswith(("morph_mesh_volume", "morph_voxel_volume"))), None
    )
    if volume is None:
        return {}
    correlations = spearman_matrix(study.values, study.values[:, volume])
    return {
        column: float(rho)
        for n, (column, rho) in enumerate(zip(study.columns, correlations, strict=True))
        if n != volume and abs(rho) > threshold
    }


def area_under_curve(scores: Array, positive: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve: how often a positive row scores above a negative one, ties counting half."""
    return float(areas_under_curves(scores[None], positive)[0])


def areas_under_curves(scores: Array, positive: NDArray[np.bool_]) -> Array:
    """Return (m,) areas under the ROC curve of (m, n) scores of the same n rows."""
    ranks = stats.rankdata(scores, axis=1)
    n, m = int(positive.sum()), int((~positive).sum())
    return (ranks[:, positive].sum(axis=1) - n * (n + 1) / 2) / (n * m)


def area_limits(scores: Array, positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Return 95 % limits of the area under the ROC curve on the logit scale, with DeLong's variance.

    DeLong et al. 1988, doi 10.2307/2531595. At an area of 0 or 1, where the variance is 0, the limits are those of a
    proportion that has not failed in the smaller group (Clopper and Pearson).
    """
    area = area_under_curve(scores, positive)
    n, m = int(positive.sum()), int((~positive).sum())
    if min(area, 1 - area) < 1e-12:
        bound = 0.025 ** (1 / min(n, m))
        return (bound, 1.0) if area > 0.5 else (0.0, 1 - bound)
    overall = stats.rankdata(scores)
    of_positive = (overall[positive] - stats.rankdata(scores[positive])) / m
    of_negative = 1 - (overall[~positive] - stats.rankdata(scores[~positive])) / n
    variance = of_positive.var(ddof=1) / n + of_negative.var(ddof=1) / m if min(n, m) > 1 else 0.25
    reach = 1.959964 * np.sqrt(variance) / (area * (1 - area))
    return float(special.expit(special.logit(area) - reach)), float(special.expit(special.logit(area) + reach))


def _spearman(a: Array, b: Array) -> float:
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1])


_Compute = Callable[[Array, Array], tuple[float, float, float, float]]
"""From values and codes to effect, lower, upper and p."""


def _choose_test(study: Study, outcome: str, correlation: Correlation) -> tuple[Array, str, str, _Compute]:
    texts = study.texts(outcome)
    present = sorted({text for text in texts if text})
    if len(present) < 2:
        raise InputError(f"The outcome '{outcome}' holds {len(present)} value; at least two are needed.")
    if len(present) > 2 and study.is_numeric(outcome):
        return (
            study.numbers(outcome),
            correlation,
            "correlation",
            _spearman_test if correlation == "spearman" else _pearson_test,
        )
    if len(present) > MAX_GROUPS:
        raise InputError(
            f"The outcome '{outcome}' holds {len(present)} different texts; at most {MAX_GROUPS} groups are compared."
        )
    codes = np.array([float(present.index(text)) if text else np.nan for text in texts])
    if len(present) == 2:
        return codes, "mann-whitney", "rank-biserial", _mann_whitney
    return codes, "kruskal", "eta-squared", _kruskal


def _test(blank: Association, values: Array, codes: Array, compute: _Compute) -> Association:
    both = np.isfinite(values) & np.isfinite(codes)
    values, codes = values[both], codes[both]
    blank = replace(blank, count=len(values))
    if len(values) < LEAST_ROWS:
        return replace(blank, note=f"{len(values)} rows have both values; {LEAST_ROWS} are needed")
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return replace(blank, note="the feature does not vary")
    if np.ptp(codes) == 0:
        return replace(blank, note="the outcome does not vary where the feature applies")
    effect, lower, upper, p = (float(v) for v in compute(values, codes))
    return replace(blank, effect=effect, lower=lower, upper=upper, p=p)


def _fisher(rho: float, spread: float, count: int) -> tuple[float, float]:
    """Return limits of a correlation on Fisher's scale; `spread` is the variance's numerator."""
    if abs(rho) >= 1 - 1e-15:
        return rho, rho
    reach = 1.959964 * np.sqrt(spread / (count - 3))
    return float(np.tanh(np.arctanh(rho) - reach)), float(np.tanh(np.arctanh(rho) + reach))


def _spearman_test(values: Array, numbers: Array) -> tuple[float, float, float, float]:
    """Limits after Bonett and Wright 2000, doi 10.1007/BF02294183."""
    result = stats.spearmanr(values, numbers)
    rho = float(result.statistic)
    return rho, *_fisher(rho, 1 + rho**2 / 2, len(values)), float(result.pvalue)


def _pearson_test(values: Array, numbers: Array) -> tuple[float, float, float, float]:
    result = stats.pearsonr(values, numbers)
    rho = float(result.statistic)
    return rho, *_fisher(rho, 1.0, len(values)), float(result.pvalue)


def _mann_whitney(values: Array, codes: Array) -> tuple[float, float, float, float]:
    second = codes == codes.max()
    p = float(stats.mannwhitneyu(values[second], values[~second]).pvalue)
    low, high = area_limits(values, second)
    return 2 * area_under_curve(values, second) - 1, 2 * low - 1, 2 * high - 1, p


def _kruskal(values: Array, codes: Array) -> tuple[float, float, float, float]:
    """Effect ``(H - k + 1) / (n - k)``, limits by inverting the noncentral chi-squared distribution of H."""
    groups = [values[codes == code] for code in np.unique(codes)]
    result = stats.kruskal(*groups)
    statistic, df = float(result.statistic), len(groups) - 1
    scale = max(len(values) - len(groups), 1)
    limits = [
        special.chndtrinc(statistic, df, level) if special.chdtr(df, statistic) > level else 0.0
        for level in (0.975, 0.025)
    ]
    effect, low, high = (float(np.clip(v / scale, 0, 1)) for v in (statistic - df, *limits))
    return effect, low, high, float(result.pvalue)


def _warnings(study: Study) -> list[str]:
    warnings = list(study.notes)
    repeated = len(study.patients) - len(set(study.patients))
    if repeated:
        warnings.append(
            f"{repeated} rows are further segments of a patient; the tests take rows as independent. Choose one segment"
        )
    if len(study.patients) < 50:
        warnings.append(f"{len(study.patients)} rows are few; effects below about 0.4 will be missed")
    proxies = flag_volume_proxies(study)
    if proxies:
        shown = ", ".join(list(proxies)[:3])
        warnings.append(f"{len(proxies)} features follow the volume (|rho| > 0.9), such as {shown}")
    return warnings
