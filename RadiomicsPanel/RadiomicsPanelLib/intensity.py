"""Intensity statistics (IBSI family UHIW): the intensities of the region without regard to their place."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from RadiomicsPanelLib.feature import Family, Feature, NotApplicable
from RadiomicsPanelLib.roi import Roi


class Sample:
    """A set of numbers with what several statistics need of it.

    Attributes
    ----------
    x : (n,) ndarray
        Ascending.
    """

    def __init__(self, ascending: NDArray[np.float64]) -> None:
        self.x = ascending

    @cached_property
    def mean(self) -> float:
        """The mean."""
        return float(self.x.mean())

    @cached_property
    def variance(self) -> float:
        """The variance, dividing by n."""
        return float(np.mean((self.x - self.mean) ** 2))

    def percentile(self, share: float) -> float:
        """Return the value below which `share` percent lie, interpolated linearly between ranks."""
        rank = share / 100 * (len(self.x) - 1)
        low = int(rank)
        high = min(low + 1, len(self.x) - 1)
        return float(self.x[low] + (rank - low) * (self.x[high] - self.x[low]))

    def standardized_moment(self, order: int) -> float:
        """Return the mean of ((x - mean) / standard deviation)^order.

        Raises
        ------
        NotApplicable
            If all voxels have one intensity.
        """
        if self.variance <= (1e-12 * max(abs(self.x[0]), abs(self.x[-1]))) ** 2:
            raise NotApplicable("all voxels have one intensity")
        z = (self.x - self.mean) / np.sqrt(self.variance)
        power = z * z
        for _ in range(order - 2):  # much faster than z**order
            power = power * z
        return float(power.mean())


def prepare(roi: Roi, aggregations: tuple[str, ...]) -> dict[str, list[Sample]]:
    """Return the intensities of the intensity mask."""
    return {"": [Sample(np.sort(roi.intensities))]}


def mean(s: Sample) -> float:
    """Return the mean."""
    return s.mean


def variance(s: Sample) -> float:
    """Return the variance, dividing by n."""
    return s.variance


def skewness(s: Sample) -> float:
    """Return the third standardized moment."""
    return s.standardized_moment(3)


def excess_kurtosis(s: Sample) -> float:
    """Return the fourth standardized moment minus 3."""
    return s.standardized_moment(4) - 3


def median(s: Sample) -> float:
    """Return the median."""
    return s.percentile(50)


def minimum(s: Sample) -> float:
    """Return the minimum."""
    return float(s.x[0])


def percentile_10(s: Sample) -> float:
    """Return the 10th percentile."""
    return s.percentile(10)


def percentile_90(s: Sample) -> float:
    """Return the 90th percentile."""
    return s.percentile(90)


def maximum(s: Sample) -> float:
    """Return the maximum."""
    return float(s.x[-1])


def interquartile_range(s: Sample) -> float:
    """Return the 75th minus the 25th percentile."""
    return s.percentile(75) - s.percentile(25)


def value_range(s: Sample) -> float:
    """Return the maximum minus the minimum."""
    return float(s.x[-1] - s.x[0])


def mean_absolute_deviation(s: Sample) -> float:
    """Return the mean distance from the mean."""
    return float(np.abs(s.x - s.mean).mean())


def robust_mean_absolute_deviation(s: Sample) -> float:
    """Return the mean absolute deviation of what lies between the 10th and the 90th percentile.

    Raises
    ------
    NotApplicable
        If no voxel lies between the 10th and the 90th percentile.
    """
    first, end = np.searchsorted(s.x, s.percentile(10)), np.searchsorted(s.x, s.percentile(90), "right")
    if first >= end:
        raise NotApplicable("no voxel lies between the 10th and the 90th percentile")
    return mean_absolute_deviation(Sample(s.x[first:end]))


def median_absolute_deviation(s: Sample) -> float:
    """Return the mean distance from the median."""
    return float(np.abs(s.x - s.percentile(50)).mean())


def coefficient_of_variation(s: Sample) -> float:
    """Return the standard deviation over the mean.

    Raises
    ------
    NotApplicable
        If the mean is 0.
    """
    if s.mean == 0:
        raise NotApplicable("the mean is 0")
    return float(np.sqrt(s.variance)) / s.mean


def quartile_coefficient_of_dispersion(s: Sample) -> float:
    """Return (p75 - p25) / (p75 + p25).

    Raises
    ------
    NotApplicable
        If the quartiles sum to 0.
    """
    low, high = s.percentile(25), s.percentile(75)
    if low + high == 0:
        raise NotApplicable("the quartiles sum to 0")
    return (high - low) / (high + low)


def energy(s: Sample) -> float:
    """Return the sum of squares."""
    return float(s.x @ s.x)


def root_mean_square(s: Sample) -> float:
    """Return the root of the mean square."""
    return float(np.sqrt(s.x @ s.x / len(s.x)))


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
