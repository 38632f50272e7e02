"""Intensity histogram (IBSI family ZVCW): statistics of the gray levels after discretization."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from RadiomicsPanelLib import intensity
from RadiomicsPanelLib.feature import Family, Feature, NotApplicable
from RadiomicsPanelLib.intensity import Sample
from RadiomicsPanelLib.roi import Roi


class Histogram:
    """Gray levels and how often each occurs.

    Attributes
    ----------
    sample : Sample
        Level of each voxel.
    counts : (level_count,) ndarray of float
        Voxels with level 1, 2, ...
    """

    def __init__(self, levels: NDArray[np.int32], level_count: int) -> None:
        counts = np.bincount(levels, minlength=level_count + 1)[1:]
        self.sample = Sample(np.repeat(np.arange(1.0, len(counts) + 1), counts))
        self.counts = counts.astype(float)

    @cached_property
    def gradient(self) -> NDArray[np.float64]:
        """(level_count,) slope of the counts: central differences, one-sided at both ends.

        Raises
        ------
        NotApplicable
            If a histogram of one level has no slope.
        """
        if len(self.counts) < 2:
            raise NotApplicable("a histogram of one level has no slope")
        return np.gradient(self.counts)


def prepare(roi: Roi, aggregations: tuple[str, ...]) -> dict[str, list[Histogram]]:
    """Return the region's histogram."""
    return {"": [Histogram(roi.levels[roi.intensity_mask], roi.level_count)]}


def _of_levels(statistic: Callable[[Sample], float]) -> Callable[[Histogram], float]:
    """Return an intensity statistic that takes the gray levels instead."""

    def of_levels(h: Histogram) -> float:
        return statistic(h.sample)

    of_levels.__doc__ = statistic.__doc__
    return of_levels


def mode(h: Histogram) -> float:
    """Return the commonest level; of equally common ones the one nearest to the mean, then the lower."""
    commonest = np.flatnonzero(h.counts == h.counts.max()) + 1
    return float(commonest[np.argmin(np.abs(commonest - h.sample.mean))])


def entropy(h: Histogram) -> float:
    """Return -sum p log2 p."""
    p = h.counts[h.counts > 0] / len(h.sample.x)
    return float(-np.sum(p * np.log2(p)))


def uniformity(h: Histogram) -> float:
    """Return sum p^2."""
    return float(np.sum((h.counts / len(h.sample.x)) ** 2))


def maximum_gradient(h: Histogram) -> float:
    """Return the steepest ascent of the counts."""
    return float(h.gradient.max())


def maximum_gradient_level(h: Histogram) -> float:
    """Return the level of the steepest ascent."""
    return float(np.argmax(h.gradient) + 1)


def minimum_gradient(h: Histogram) -> float:
    """Return the steepest descent of the counts."""
    return float(h.gradient.min())


def minimum_gradient_level(h: Histogram) -> float:
    """Return the level of the steepest descent."""
    return float(np.argmin(h.gradient) + 1)


_ih: Any = partial(Feature, family="ih", category="statistical", unit="1")

FEATURES: tuple[Feature, ...] = (
    _ih(name="mean", tag="ih_mean", ibsi="X6K6", compute=_of_levels(intensity.mean)),
    _ih(name="variance", tag="ih_var", ibsi="CH89", compute=_of_levels(intensity.variance)),
    _ih(name="skewness", tag="ih_skew", ibsi="88K1", compute=_of_levels(intensity.skewness)),
    _ih(name="excess_kurtosis", tag="ih_kurt", ibsi="C3I7", compute=_of_levels(intensity.excess_kurtosis)),
    _ih(name="median", tag="ih_median", ibsi="WIFQ", compute=_of_levels(intensity.median)),
    _ih(name="minimum", tag="ih_min", ibsi="1PR8", compute=_of_levels(intensity.minimum)),
    _ih(name="percentile_10", tag="ih_p10", ibsi="GPMT", compute=_of_levels(intensity.percentile_10)),
    _ih(name="percentile_90", tag="ih_p90", ibsi="OZ0C", compute=_of_levels(intensity.percentile_90)),
    _ih(name="maximum", tag="ih_max", ibsi="3NCY", compute=_of_levels(intensity.maximum)),
    _ih(name="mode", tag="ih_mode", ibsi="AMMC", compute=mode),
    _ih(name="interquartile_range", tag="ih_iqr", ibsi="WR0O", compute=_of_levels(intensity.interquartile_range)),
    _ih(name="range", tag="ih_range", ibsi="5Z3W", compute=_of_levels(intensity.value_range)),
    _ih(
        name="mean_absolute_deviation",
        tag="ih_mad",
        ibsi="D2ZX",
        compute=_of_levels(intensity.mean_absolute_deviation),
    ),
    _ih(
        name="robust_mean_absolute_deviation",
        tag="ih_rmad",
        ibsi="WRZB",
        compute=_of_levels(intensity.robust_mean_absolute_deviation),
    ),
    _ih(
        name="median_absolute_deviation",
        tag="ih_medad",
        ibsi="4RNL",
        compute=_of_levels(intensity.median_absolute_deviation),
    ),
    _ih(
        name="coefficient_of_variation",
        tag="ih_cov",
        ibsi="CWYJ",
        compute=_of_levels(intensity.coefficient_of_variation),
    ),
    _ih(
        name="quartile_coefficient_of_dispersion",
        tag="ih_qcod",
        ibsi="SLWD",
        compute=_of_levels(intensity.quartile_coefficient_of_dispersion),
    ),
    _ih(name="entropy", tag="ih_entropy", ibsi="TLU2", unit="bit", compute=entropy),
    _ih(name="uniformity", tag="ih_uniformity", ibsi="BJ5W", compute=uniformity),
    _ih(name="maximum_gradient", tag="ih_max_grad", ibsi="12CE", compute=maximum_gradient),
    _ih(name="maximum_gradient_level", tag="ih_max_grad_g", ibsi="8E6O", compute=maximum_gradient_level),
    _ih(name="minimum_gradient", tag="ih_min_grad", ibsi="VQB3", compute=minimum_gradient),
    _ih(name="minimum_gradient_level", tag="ih_min_grad_g", ibsi="RHQZ", compute=minimum_gradient_level),
)

FAMILY = Family("ih", "Intensity histogram", "region", prepare, FEATURES)
