"""How well a measurement repeats: intraclass correlation with limits, within-subject variation, limits of agreement.

Shrout and Fleiss 1979, doi 10.1037/0033-2909.86.2.420; McGraw and Wong 1996, doi 10.1037/1082-989X.1.1.30.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from BreastBiomarkersLib.errors import InputError
from numpy.typing import NDArray
from scipy import stats

from RadiomicsPanelLib.study import Study

Model = Literal["1,1", "2,1", "3,1"]
GOOD = 0.75
"""A feature is kept if the lower limit of its ICC reaches this (Koo and Li 2016, doi 10.1016/j.jcm.2016.02.012)."""

Array = NDArray[np.float64]


class Icc(NamedTuple):
    """Intraclass correlation and its confidence limits, each (p,); not a number where nothing varies."""

    value: Array
    lower: Array
    upper: Array


class Repeatability(NamedTuple):
    """Repeatability of p features.

    Attributes
    ----------
    columns : tuple of p str
    icc : Icc
    within_subject_cv : (p,) ndarray
        Relative; see `within_subject_cv`.
    target_counts : (p,) ndarray of int
        Segments in which every measurement of the feature is there.
    repeat_count : int
        Measurements per segment.
    incomplete : int
        Segments left out because a measurement is missing altogether.
    """

    columns: tuple[str, ...]
    icc: Icc
    within_subject_cv: Array
    target_counts: NDArray[np.int64]
    repeat_count: int
    incomplete: int


@dataclass(frozen=True)
class BlandAltman:
    """Differences of two measurements against their means.

    Attributes
    ----------
    means, differences : (n,) ndarray
    bias, lower, upper : float
        Mean difference and the limits of agreement, ``bias -+ 1.96 SD``.
    bias_limits : tuple of two float
        95 % confidence limits of the bias.
    """

    means: Array
    differences: Array
    bias: float
    lower: float
    upper: float
    bias_limits: tuple[float, float]


def icc(values: Array, model: Model, confidence: float = 0.95) -> Icc:
    """Return the intraclass correlation of single measurements with F-based limits.

    "1,1": every target has its own raters (test-retest, perturbed copies); "2,1": the raters are a sample of all
    raters, absolute agreement (readers); "3,1": the raters are all there are, consistency.

    Parameters
    ----------
    values : (n, k) or (n, k, p) ndarray
        k measurements of n targets, for each of p features. A target with a missing (not a number) measurement is left
        out of that feature.
    model : str
    confidence : float

    Raises
    ------
    InputError
        If there are fewer than two targets or measurements, or the model is unknown.

    Notes
    -----
    With mean squares between targets R, between raters C, residual E and within targets W:
    ``(R-W)/(R+(k-1)W)``, ``(R-E)/(R+(k-1)E+k(C-E)/n)``, ``(R-E)/(R+(k-1)E)``.
    """
    if model not in get_args(Model):
        raise InputError(f"ICC models are {', '.join(get_args(Model))}.")
    values = np.asarray(values, dtype=np.float64)
    values = values[..., None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[0] < 2 or values.shape[1] < 2:
        raise InputError("An ICC needs at least two segments measured at least twice.")
    n, between, raters, residual, within = _mean_squares(values)
    k = values.shape[1]
    tail = (1 + confidence) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        if model == "2,1":
            result = _icc_two_way_random(n, k, between, raters, residual, tail)
        else:
            noise, df = (within, n * (k - 1)) if model == "1,1" else (residual, (n - 1) * (k - 1))
            ratio = between / noise
            low = ratio / stats.f.ppf(tail, n - 1, df)
            high = ratio * stats.f.ppf(tail, df, n - 1)
            result = Icc(*(np.where(np.isinf(r), 1.0, (r - 1) / (r + k - 1)) for r in (ratio, low, high)))
    undefined = ~(n >= 2) | ~(between > 0)
    return Icc(*(np.where(undefined, np.nan, part) for part in result))


def within_subject_cv(values: Array) -> Array:
    """Return the within-subject coefficient of variation, the root mean square of each target's SD over its mean.

    Parameters
    ----------
    values : (n, k) or (n, k, p) ndarray
        As for `icc`.

    Returns
    -------
    (p,) ndarray
        Relative. Not a number if a target's mean is 0 or the feature changes its sign: it is no ratio scale then.
    """
    values = np.asarray(values, dtype=np.float64)
    values = values[..., None] if values.ndim == 2 else values
    complete = np.asarray(np.isfinite(values).all(axis=1))
    filled = np.where(complete[:, None], values, 0.0)
    mean = filled.mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        squared = filled.var(axis=1, ddof=1) / np.where(mean == 0, np.nan, mean) ** 2
        total = np.where(complete, squared, 0.0).sum(axis=0) / complete.sum(axis=0)
    changes_sign = (filled > 0).any(axis=(0, 1)) & (filled < 0).any(axis=(0, 1))
    return np.where(changes_sign, np.nan, np.sqrt(total))


def bland_altman(first: Array, second: Array) -> BlandAltman:
    """Return the agreement of two measurements of the same n targets (Bland and Altman 1986).

    doi 10.1016/S0140-6736(86)90837-8. Pairs with a missing value are left out.

    Raises
    ------
    InputError
        If fewer than three pairs remain.
    """
    complete = np.isfinite(first) & np.isfinite(second)
    first, second = first[complete], second[complete]
    if len(first) < 3:
        raise InputError(f"Limits of agreement need at least three pairs; there are {len(first)}.")
    differences = first - second
    bias, sd = float(differences.mean()), float(differences.std(ddof=1))
    reach = float(stats.t.ppf(0.975, len(first) - 1)) * sd / len(first) ** 0.5
    return BlandAltman(
        (first + second) / 2, differences, bias, bias - 1.96 * sd, bias + 1.96 * sd, (bias - reach, bias + reach)
    )


def repeated_values(study: Study, repeat: str) -> tuple[Array, int]:
    """Return the (n, k, p) measurements of a study read with `repeat`, and how many segments are incomplete.

    Raises
    ------
    InputError
        If there are not two repeats, or no two segments that were measured in each.
    """
    repeats = sorted(set(study.texts(repeat)))
    if len(repeats) < 2:
        raise InputError(f"The column '{repeat}' holds {len(repeats)} value; repeated measurements need at least two.")
    at: dict[tuple[str, str], dict[str, int]] = {}
    for n, key in enumerate(zip(study.cases, study.segments, strict=True)):
        at.setdefault(key, {})[study.texts(repeat)[n]] = n
    complete = [rows for rows in at.values() if len(rows) == len(repeats)]
    if len(complete) < 2:
        raise InputError(
            f"{len(complete)} of {len(at)} segments were measured {len(repeats)} times; at least two are needed."
        )
    index = np.array([[rows[r] for r in repeats] for rows in complete])
    return study.values[index], len(at) - len(complete)


def measure_repeatability(study: Study, repeat: str, model: Model) -> Repeatability:
    """Return ICC and within-subject variation of all features.

    Raises
    ------
    InputError
        As `repeated_values` and `icc`.
    """
    values, incomplete = repeated_values(study, repeat)
    return Repeatability(
        study.columns,
        icc(values, model),
        within_subject_cv(values),
        np.isfinite(values).all(axis=1).sum(axis=0),
        values.shape[1],
        incomplete,
    )


def _mean_squares(values: Array) -> tuple[NDArray[np.int64], Array, Array, Array, Array]:
    """Return number of complete targets and mean squares between targets, between raters, of residual, within targets.

    All (p,). Sums of squares below rounding error are 0.
    """
    complete = np.asarray(np.isfinite(values).all(axis=1))
    n, k = complete.sum(axis=0), values.shape[1]
    filled = np.where(complete[:, None], values, 0.0)
    grand = filled.sum(axis=(0, 1)) / np.maximum(n * k, 1)
    centered = np.where(complete[:, None], filled - grand, 0.0)
    noise = (np.abs(filled).max(axis=(0, 1)) * 1e-13) ** 2 * n * k
    targets = k * (centered.mean(axis=1) ** 2).sum(axis=0)
    raters = n * ((centered.sum(axis=0) / np.maximum(n, 1)) ** 2).sum(axis=0)
    total = (centered**2).sum(axis=(0, 1))
    targets, raters, residual, within = (
        np.where(part <= noise, 0.0, part) for part in (targets, raters, total - targets - raters, total - targets)
    )
    degrees = np.maximum(n - 1, 1)
    return n, targets / degrees, raters / (k - 1), residual / (degrees * (k - 1)), within / np.maximum(n * (k - 1), 1)


def _icc_two_way_random(
    n: NDArray[np.int64], k: int, between: Array, raters: Array, residual: Array, tail: float
) -> Icc:
    value = (between - residual) / (between + (k - 1) * residual + k * (raters - residual) / n)
    a = k * value / (n * (1 - value))
    b = 1 + k * value * (n - 1) / (n * (1 - value))
    freedom = (a * raters + b * residual) ** 2 / (
        (a * raters) ** 2 / (k - 1) + (b * residual) ** 2 / ((n - 1) * (k - 1))
    )
    low, high = stats.f.ppf(tail, n - 1, freedom), stats.f.ppf(tail, freedom, n - 1)
    other = k * raters + (k * n - k - n) * residual
    exact = (raters == 0) & (residual == 0)
    return Icc(
        np.where(exact, 1.0, value),
        np.where(exact, 1.0, n * (between - low * residual) / (low * other + n * between)),
        np.where(exact, 1.0, n * (high * between - residual) / (other + n * high * between)),
    )
