"""Intensity-volume histogram (IBSI family P88C): the share of the volume at or above each intensity.

g is the intensity as a share of the range, v(g) the volume share at or above it. The range is that of re-segmentation
where it is set, else the region's own. El Naqa 2009, doi 10.1016/j.patcog.2008.08.011.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from RadiomicsPanelLib.feature import Family, Feature, NotApplicable
from RadiomicsPanelLib.roi import Roi
from RadiomicsPanelLib.settings import Settings

MAX_STEPS = 1_000_000
_CONTINUOUS_BINS = 1000


class VolumeHistogram:
    """The curve of volume against intensity.

    Attributes
    ----------
    intensities : (n,) ndarray
        Intensity of each step, ascending.
    fractions : (n,) ndarray
        Volume share at or above each step.
    """

    def __init__(self, intensities: NDArray[np.float64], counts: NDArray[np.int64]) -> None:
        self.intensities = intensities
        self.fractions = counts[::-1].cumsum()[::-1] / counts.sum()

    def volume_at(self, share: float) -> float:
        """Return the volume share at or above a share of the intensity range.

        Raises
        ------
        NotApplicable
            If the intensity range is empty.
        """
        low, high = self.intensities[0], self.intensities[-1]
        if low == high:
            raise NotApplicable("the intensity range is empty")
        shares = (self.intensities - low) / (high - low)
        return float(self.fractions[np.searchsorted(shares, share - 1e-12)])

    def intensity_at(self, share: float) -> float:
        """Return the lowest intensity that at most a share of the volume reaches.

        Raises
        ------
        NotApplicable
            If a larger share of the volume has the highest intensity.
        """
        reached = np.flatnonzero(self.fractions <= share + 1e-12)
        if not len(reached):
            raise NotApplicable(f"more than {share:.0%} of the volume has the highest intensity")
        return float(self.intensities[reached[0]])


def prepare(roi: Roi, aggregations: tuple[str, ...]) -> dict[str, list[VolumeHistogram]]:
    """Return the region's intensity-volume histogram."""
    return {"": [volume_histogram(roi.intensities, roi.settings)]}


def volume_histogram(x: NDArray[np.float64], settings: Settings) -> VolumeHistogram:
    """Return the curve: in bins of a fixed width or number, or, for "none", in steps of 1.

    Intensities that are not whole numbers, or that span more than a million, take 1000 bins instead of steps of 1.
    These and bins of a fixed width stand for their centers. With a chosen number of bins the intensities have no unit,
    and each bin stands for its gray level, from 1 (IBSI-1, section 3.5).

    Raises
    ------
    NotApplicable
        If the bins would be more than a million.
    """
    low = float(x.min()) if settings.lower is None else settings.lower
    high = float(x.max()) if settings.upper is None else settings.upper
    method, width, count = settings.ivh_discretization, settings.ivh_bin_width, settings.ivh_bin_count
    as_levels = method == "bin_count"
    if method == "none":
        if (x % 1 == 0).all() and high - low < MAX_STEPS:
            low, high = np.ceil(low), np.floor(high)
            counts = np.bincount((x - low).astype(np.int64), minlength=int(high - low) + 1)
            return VolumeHistogram(np.arange(len(counts), dtype=np.float64) + low, counts)
        method, count = "bin_count", _CONTINUOUS_BINS
    if method == "bin_width" and width is not None and (high - low) / width < MAX_STEPS:
        n = max(int(np.ceil((high - low) / width)), 1)
    elif method == "bin_width":
        raise NotApplicable(f"the histogram would have more than {MAX_STEPS} bins; choose a larger ivh_bin_width")
    else:
        n = int(count or _CONTINUOUS_BINS)
        low, high = float(x.min()), float(x.max())
        width = (high - low) / n
    if not width:
        return VolumeHistogram(np.array([1.0 if as_levels else low]), np.array([len(x)]))
    bins = np.clip(np.floor((x - low) / width).astype(np.int64), 0, n - 1)
    steps = np.arange(1.0, n + 1) if as_levels else low + np.arange(0.5, n) * width
    return VolumeHistogram(steps, np.bincount(bins, minlength=n))


def volume_at_10(h: VolumeHistogram) -> float:
    """Return V10, the volume share at or above 10 % of the intensity range."""
    return h.volume_at(0.1)


def volume_at_90(h: VolumeHistogram) -> float:
    """Return V90."""
    return h.volume_at(0.9)


def intensity_at_10(h: VolumeHistogram) -> float:
    """Return I10, the lowest intensity that at most 10 % of the volume reach."""
    return h.intensity_at(0.1)


def intensity_at_90(h: VolumeHistogram) -> float:
    """Return I90."""
    return h.intensity_at(0.9)


def volume_difference(h: VolumeHistogram) -> float:
    """Return V10 - V90."""
    return h.volume_at(0.1) - h.volume_at(0.9)


def intensity_difference(h: VolumeHistogram) -> float:
    """Return I10 - I90."""
    return h.intensity_at(0.1) - h.intensity_at(0.9)


def area_under_curve(h: VolumeHistogram) -> float:
    """Return the area under v(g), by the trapezoidal rule.

    Raises
    ------
    NotApplicable
        If the intensity range is empty.
    """
    span = h.intensities[-1] - h.intensities[0]
    if span == 0:
        raise NotApplicable("the intensity range is empty")
    return float(np.trapezoid(h.fractions, h.intensities) / span)


_ivh: Any = partial(Feature, family="ivh", category="regional")

FEATURES: tuple[Feature, ...] = (
    _ivh(name="volume_at_10_percent_intensity", tag="ivh_v10", ibsi="BC2M", unit="1", compute=volume_at_10),
    _ivh(name="volume_at_90_percent_intensity", tag="ivh_v90", ibsi="BC2M", unit="1", compute=volume_at_90),
    _ivh(name="intensity_at_10_percent_volume", tag="ivh_i10", ibsi="GBPN", unit="I", compute=intensity_at_10),
    _ivh(name="intensity_at_90_percent_volume", tag="ivh_i90", ibsi="GBPN", unit="I", compute=intensity_at_90),
    _ivh(name="volume_difference_10_90", tag="ivh_diff_v10_v90", ibsi="DDTU", unit="1", compute=volume_difference),
    _ivh(
        name="intensity_difference_10_90", tag="ivh_diff_i10_i90", ibsi="CNV2", unit="I", compute=intensity_difference
    ),
    _ivh(name="area_under_curve", tag="ivh_auc", ibsi="9CMM", unit="1", compute=area_under_curve),
)

FAMILY = Family("ivh", "Intensity-volume histogram", "region", prepare, FEATURES)
