"""Intensity statistics (IBSI family UHIW): the intensities of the region without regard to their place."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from RadiomicsPanelLib.feature import Family, Feature, NotApplicable
from RadiomicsPanelLib.roi import Roi

Values = NDArray[np.float64]


def prepare(roi: Roi, aggregations: tuple[str, ...]) -> dict[str, list[Values]]:
    """Return the (n,) intensities of the intensity mask, sorted."""
    return {"": [np.sort(roi.intensities)]}


def mean(x: Values) -> float:
    """Return the mean."""
    return float(x.mean())


def variance(x: Values) -> float:
    """Return the variance, dividing by n."""
    return float(x.var())


def skewness(x: Values) -> float:
    """Return the third standardized moment."""
    return _standardized_moment(x, 3)


def excess_kurtosis(x: Values) -> float:
    """Return the fourth standardized moment minus 3."""
    return _standardized_moment(x, 4) - 3


def median(x: Values) -> float:
    """Return the median."""
    return float(np.median(x))


def minimum(x: Values) -> float:
    """Return the minimum."""
    return float(x.min())


def percentile_10(x: Values) -> float:
    """Return the 10th percentile."""
    return float(np.percentile(x, 10))


def percentile_90(x: Values) -> float:
    """Return the 90th percentile."""
    return float(np.percentile(x, 90))


def maximum(x: Values) -> float:
    """Return the maximum."""
    return float(x.max())


def interquartile_range(x: Values) -> float:
    """Return the 75th minus the 25th percentile."""
    low, high = np.percentile(x, (25, 75))
    return float(high - low)


def value_range(x: Values) -> float:
    """Return the maximum minus the minimum."""
    return float(np.ptp(x))


def mean_absolute_deviation(x: Values) -> float:
    """Return the mean distance from the mean."""
    return float(np.abs(x - x.mean()).mean())


def robust_mean_absolute_deviation(x: Values) -> float:
    """Return the mean absolute deviation of what lies between the 10th and the 90th percentile."""
    low, high = np.percentile(x, (10, 90))
    return mean_absolute_deviation(x[(x >= low) & (x <= high)])


def median_absolute_deviation(x: Values) -> float:
    """Return the mean distance from the median."""
    return float(np.abs(x - np.median(x)).mean())


def coefficient_of_variation(x: Values) -> float:
    """Return the standard deviation over the mean."""
    if x.mean() == 0:
        raise NotApplicable("the mean is 0")
    return float(x.std() / x.mean())


def quartile_coefficient_of_dispersion(x: Values) -> float:
    """Return (p75 - p25) / (p75 + p25)."""
    low, high = np.percentile(x, (25, 75))
    if low + high == 0:
        raise NotApplicable("the quartiles sum to 0")
    return float((high - low) / (high + low))


def energy(x: Values) -> float:
    """Return the sum of squares."""
    return float(np.sum(x**2))


def root_mean_square(x: Values) -> float:
    """Return the root of the mean square."""
    return float(np.sqrt(np.mean(x**2)))


def _standardized_moment(x: Values, order: int) -> float:
    deviation, spread = x - x.mean(), x.std()
    if spread <= 1e-12 * np.abs(x).max():
        raise NotApplicable("all voxels have one intensity")
    return float(np.mean((deviation / spread) ** order))


_stat: Any = partial(Feature, family="stat", category="statistical")

FEATURES: tuple[Feature, ...] = (
    _stat(name="mean", tag="stat_mean", ibsi="Q4LE", unit="I", compute=mean),
    _stat(name="variance", tag="stat_var", ibsi="ECT3", unit="I^2", compute=variance),
    _stat(name="skewness", tag="stat_skew", ibsi="KE2A", unit="1", compute=skewness),
    _stat(name="excess_kurtosis", tag="stat_kurt", ibsi="IPH6", unit="1", compute=excess_kurtosis),
    _stat(name="median", tag="stat_median", ibsi="Y12H", unit="I", compute=median),
    _stat(name="minimum", tag="stat_min", ibsi="1GSF", unit="I", compute=minimum),
    _stat(name="percentile_10", tag="stat_p10", ibsi="QG58", unit="I", compute=percentile_10),
    _stat(name="percentile_90", tag="stat_p90", ibsi="8DWT", unit="I", compute=percentile_90),
    _stat(name="maximum", tag="stat_max", ibsi="84IY", unit="I", compute=maximum),
    _stat(name="interquartile_range", tag="stat_iqr", ibsi="SALO", unit="I", compute=interquartile_range),
    _stat(name="range", tag="stat_range", ibsi="2OJQ", unit="I", compute=value_range),
    _stat(name="mean_absolute_deviation", tag="stat_mad", ibsi="4FUA", unit="I", compute=mean_absolute_deviation),
    _stat(
        name="robust_mean_absolute_deviation",
        tag="stat_rmad",
        ibsi="1128",
        unit="I",
        compute=robust_mean_absolute_deviation,
    ),
    _stat(name="median_absolute_deviation", tag="stat_medad", ibsi="N72L", unit="I", compute=median_absolute_deviation),
    _stat(name="coefficient_of_variation", tag="stat_cov", ibsi="7TET", unit="1", compute=coefficient_of_variation),
    _stat(
        name="quartile_coefficient_of_dispersion",
        tag="stat_qcod",
        ibsi="9S40",
        unit="1",
        compute=quartile_coefficient_of_dispersion,
    ),
    _stat(name="energy", tag="stat_energy", ibsi="N8CA", unit="I^2", compute=energy),
    _stat(name="root_mean_square", tag="stat_rms", ibsi="5ZWQ", unit="I", compute=root_mean_square),
)

FAMILY = Family("stat", "Intensity statistics", "region", prepare, FEATURES)
