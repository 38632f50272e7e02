"""A matrix s(i, j) that counts runs, zones or neighborhoods of gray level i and extent j, and its features.

Run length, size zone, distance zone and dependence matrices share these sixteen formulas; each family names them its
own way. N = sum s; p = s / N. Galloway 1975, doi 10.1016/S0146-664X(75)80008-6; Thibault 2014,
doi 10.1109/TBME.2013.2284600.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from RadiomicsPanelLib.level_image import sum_by

_DENSE = 1 << 18  # up to so many possible entries counting is faster than sorting


class CountMatrix:
    """The m entries above zero of a count matrix.

    Attributes
    ----------
    i, j : (m,) ndarray of float
        Gray level and extent (run length, zone size, distance or dependence) of each entry, from 1.
    s : (m,) ndarray of float
        Counts.
    total : float
        Sum of the counts.
    voxel_count : int
        Number of voxels, once for each direction merged into the matrix.
    """

    def __init__(
        self, i: NDArray[np.float64], j: NDArray[np.float64], s: NDArray[np.float64], voxel_count: int
    ) -> None:
        self.i, self.j, self.s = i, j, s
        self.total = float(s.sum())
        self.voxel_count = voxel_count

    @classmethod
    def counted(cls, levels: NDArray[np.int64], extents: NDArray[np.int64], voxel_count: int) -> CountMatrix:
        """Return the matrix that counts (level, extent) pairs."""
        return cls._summed(levels, extents, np.ones(len(levels)), voxel_count)

    @classmethod
    def merged(cls, matrices: Sequence[CountMatrix]) -> CountMatrix:
        """Return the sum of matrices."""
        i, j, s = (np.concatenate([getattr(m, name) for m in matrices]) for name in "ijs")
        return cls._summed(i.astype(np.int64), j.astype(np.int64), s, sum(m.voxel_count for m in matrices))

    @classmethod
    def _summed(
        cls, i: NDArray[np.int64], j: NDArray[np.int64], s: NDArray[np.float64], voxel_count: int
    ) -> CountMatrix:
        base = int(j.max(initial=0)) + 1
        codes = i * base + j
        if codes.max(initial=0) < _DENSE:
            summed = sum_by(codes, s)
            codes = np.flatnonzero(summed)
            return cls((codes // base).astype(float), (codes % base).astype(float), summed[codes], voxel_count)
        codes, entry = np.unique(codes, return_inverse=True)
        return cls((codes // base).astype(float), (codes % base).astype(float), sum_by(entry, s), voxel_count)

    @cached_property
    def level_counts(self) -> NDArray[np.float64]:
        """Counts of each gray level, from 0."""
        return sum_by(self.i.astype(np.int64), self.s)

    @cached_property
    def extent_counts(self) -> NDArray[np.float64]:
        """Counts of each extent that occurs."""
        return sum_by(np.unique(self.j, return_inverse=True)[1], self.s)


def _mean(m: CountMatrix, weights: NDArray[np.float64]) -> float:
    return float(np.sum(weights * m.s)) / m.total


def short_emphasis(m: CountMatrix) -> float:
    """Return sum s / j^2 / N."""
    return _mean(m, 1 / m.j**2)


def long_emphasis(m: CountMatrix) -> float:
    """Return sum s j^2 / N."""
    return _mean(m, m.j**2)


def low_level_emphasis(m: CountMatrix) -> float:
    """Return sum s / i^2 / N."""
    return _mean(m, 1 / m.i**2)


def high_level_emphasis(m: CountMatrix) -> float:
    """Return sum s i^2 / N."""
    return _mean(m, m.i**2)


def short_low_level_emphasis(m: CountMatrix) -> float:
    """Return sum s / (i^2 j^2) / N."""
    return _mean(m, 1 / (m.i**2 * m.j**2))


def short_high_level_emphasis(m: CountMatrix) -> float:
    """Return sum s i^2 / j^2 / N."""
    return _mean(m, m.i**2 / m.j**2)


def long_low_level_emphasis(m: CountMatrix) -> float:
    """Return sum s j^2 / i^2 / N."""
    return _mean(m, m.j**2 / m.i**2)


def long_high_level_emphasis(m: CountMatrix) -> float:
    """Return sum s i^2 j^2 / N."""
    return _mean(m, m.i**2 * m.j**2)


def level_nonuniformity(m: CountMatrix) -> float:
    """Return the sum over i of (sum over j of s)^2, divided by N."""
    return float(np.sum(m.level_counts**2)) / m.total


def normalized_level_nonuniformity(m: CountMatrix) -> float:
    """Return the sum over i of (sum over j of s)^2, divided by N^2."""
    return level_nonuniformity(m) / m.total


def extent_nonuniformity(m: CountMatrix) -> float:
    """Return the sum over j of (sum over i of s)^2, divided by N."""
    return float(np.sum(m.extent_counts**2)) / m.total


def normalized_extent_nonuniformity(m: CountMatrix) -> float:
    """Return the sum over j of (sum over i of s)^2, divided by N^2."""
    return extent_nonuniformity(m) / m.total


def percentage(m: CountMatrix) -> float:
    """Return N / number of voxels."""
    return m.total / m.voxel_count


def level_variance(m: CountMatrix) -> float:
    """Return sum (i - mean)^2 p."""
    return _mean(m, (m.i - _mean(m, m.i)) ** 2)


def extent_variance(m: CountMatrix) -> float:
    """Return sum (j - mean)^2 p."""
    return _mean(m, (m.j - _mean(m, m.j)) ** 2)


def entropy(m: CountMatrix) -> float:
    """Return -sum p log2 p."""
    p = m.s / m.total
    return float(-np.sum(p * np.log2(p)))


def energy(m: CountMatrix) -> float:
    """Return sum p^2."""
    return float(np.sum((m.s / m.total) ** 2))
