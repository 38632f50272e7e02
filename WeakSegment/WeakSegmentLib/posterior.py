"""How much each voxel's intensity speaks for the lesion, without assuming that the box center is lesion."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

BINS = 24
"""Coarse enough for a few hundred voxels, fine enough for a bimodal histogram."""

RANGE_PERCENTILES = (0.5, 99.5)
"""Histogram range; single hot or dead voxels do not stretch it."""

BACKGROUND_SHARE = 0.5
"""Assumed share of background inside the inscribed ellipsoid; this much of its histogram is taken out."""

SMOOTHING_BINS = 1.0
"""Gaussian over the histograms (sigma, bins)."""

COUNT_OFFSET = 0.5
"""Added to every bin: no intensity is impossible."""

MIN_LESION_SHARE = 1e-4
"""Lower bound of a bin of the unmixed lesion histogram."""

RATIO_OFFSET = 0.02 / BINS
"""Added to both histograms: rare intensities say little (posterior near 0.5)."""


class Posterior(NamedTuple):
    """What the intensities say.

    Attributes
    ----------
    probability : (K, J, I) ndarray, in [0, 1]
        Posterior of lesion against background at equal priors.
    contrast : float, in [0.5, 1]
        Area under the ROC curve between the lesion and background histograms, whichever is brighter; 0.5 means that
        intensity is useless.
    """

    probability: NDArray[np.float32]
    contrast: float


def unmix(image: NDArray[np.float32], inside: NDArray[np.bool_], background: NDArray[np.bool_]) -> Posterior:
    """Return the lesion posterior of each voxel from two histograms.

    Parameters
    ----------
    image : (K, J, I) ndarray
    inside : (K, J, I) ndarray of bool
        Voxels that are a mixture of lesion and background (the inscribed ellipsoid).
    background : (K, J, I) ndarray of bool
        Voxels that are surely not lesion.

    Notes
    -----
    With normalized histograms h_x of `inside` and h_b of `background`, the lesion's own is
    h_f = max(h_x - share h_b, floor), normalized, and the posterior (h_f + c) / (h_f + h_b + 2 c).
    """
    bins = _binned(image)
    mixed = _histogram(bins[inside])
    other = _histogram(bins[background])
    lesion = np.maximum(mixed - BACKGROUND_SHARE * other, MIN_LESION_SHARE)
    return _posterior(bins, lesion / lesion.sum(), other)


def measure(image: NDArray[np.float32], lesion: NDArray[np.bool_], background: NDArray[np.bool_]) -> Posterior:
    """Return the lesion posterior of each voxel from the histograms of voxels that a walk has labeled.

    Parameters
    ----------
    image : (K, J, I) ndarray
    lesion, background : (K, J, I) ndarray of bool
    """
    bins = _binned(image)
    return _posterior(bins, _histogram(bins[lesion]), _histogram(bins[background]))


def _binned(image: NDArray[np.float32]) -> NDArray[np.int64]:
    low, high = np.percentile(image, RANGE_PERCENTILES)
    if low == high:  # a small lesion in a flat surrounding
        low, high = image.min(), image.max()
    return np.clip((image - low) * (BINS / (high - low)), 0, BINS - 1).astype(np.int64)


def _posterior(bins: NDArray[np.int64], lesion: NDArray[np.float64], other: NDArray[np.float64]) -> Posterior:
    ratio = (lesion + RATIO_OFFSET) / (lesion + other + 2 * RATIO_OFFSET)
    brighter = float(np.sum(lesion * (np.cumsum(other) - 0.5 * other)))
    return Posterior(ratio.astype(np.float32)[bins], max(brighter, 1 - brighter))


def _histogram(bins: NDArray[np.int64]) -> NDArray[np.float64]:
    counts = np.bincount(bins, minlength=BINS).astype(np.float64)
    counts = gaussian_filter1d(counts, SMOOTHING_BINS, mode="nearest") + COUNT_OFFSET
    return counts / counts.sum()
