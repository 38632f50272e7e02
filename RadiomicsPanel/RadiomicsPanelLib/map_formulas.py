"""Features of many small regions at once: the formulas of the family files, for columns of tables.

Each class prepares what its features share, as the family's own class does for one region; each formula returns (n,)
values, NaN where the feature is not applicable.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from RadiomicsPanelLib import count_matrix as cm
from RadiomicsPanelLib import glcm, gldzm, glrlm, glszm, histogram, intensity, ivh, ngldm, ngtdm
from RadiomicsPanelLib.feature import NotApplicable
from RadiomicsPanelLib.ivh import VolumeHistogram, volume_histogram
from RadiomicsPanelLib.map_tables import KernelTables, run_ranks, sum_of_logs, sum_of_squares

Values = NDArray[np.float64]
_MATRICES = 512  # whose eigenvalues are computed at a time


def _where(defined: NDArray[np.bool_], values: Values) -> Values:
    return np.where(defined, values, np.nan)


def _share(numerator: NDArray[Any], denominator: NDArray[Any]) -> Values:
    """Return the quotient, NaN where the denominator is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return _where(np.asarray(denominator) != 0, numerator / denominator)


def _ranks(codes: NDArray[Any]) -> NDArray[np.uint16]:
    return run_ranks(np.sort(codes, axis=0))


class PairRows:
    """The co-occurrence matrix of each column's voxel pairs, never written out.

    Parameters
    ----------
    a, b : (pairs, n) ndarray of uint32
        Levels of neighbors, 0 outside the region.
    level_count : int
    """

    def __init__(self, a: NDArray[np.uint32], b: NDArray[np.uint32], level_count: int) -> None:
        self.valid = (a > 0) & (b > 0)
        self.a, self.b = a * self.valid, b * self.valid
        self.level_count = level_count
        self.n = self.valid.sum(axis=0)
        self.difference = np.maximum(self.a, self.b) - np.minimum(self.a, self.b)
        self.sum = self.a + self.b
        self.mean = _share(self.sum.sum(axis=0), 2 * self.n)

    def average(self, values: NDArray[Any]) -> Values:
        """Return the mean over pairs of a table that is 0 where no pair is."""
        return _share(values.sum(axis=0), self.n)

    @cached_property
    def varied(self) -> NDArray[np.bool_]:
        """Whether more than one level occurs."""
        highest = np.maximum(self.a, self.b).max(axis=0)
        lowest = np.where(self.valid, np.minimum(self.a, self.b), highest).min(axis=0)
        return highest > lowest

    @cached_property
    def variance(self) -> Values:
        """Variance of the marginal distribution."""
        return self.average(((self.a - self.mean) ** 2 + (self.b - self.mean) ** 2) * self.valid) / 2

    def sum_moment(self, order: int) -> Values:
        """Return the central moment of i + j."""
        deviation = (self.sum - 2 * self.mean) * self.valid
        power = deviation * deviation
        for _ in range(order - 2):
            power *= deviation
        return self.average(power)

    def average_of_difference(self, weights: Values) -> Values:
        """Return the mean over pairs of weights[|i - j|]."""
        return self.average(np.take(weights, self.difference) * self.valid)

    def entropy_of(self, codes: NDArray[Any]) -> Values:
        """Return the entropy of a table of codes, 0 where no pair is."""
        ranks = _ranks(codes)
        n = (ranks > 0).sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return _where(n > 0, np.log2(n) - sum_of_logs(ranks) / n)

    @cached_property
    def marginal_entropy(self) -> Values:
        """Entropy of the marginal distribution in bits."""
        return self.entropy_of(np.concatenate([self.a, self.b]))

    @cached_property
    def _codes(self) -> NDArray[np.uint32]:
        """Sorted codes of unordered pairs; a power of two as base shows pairs of equal levels by their last bits."""
        return np.sort(np.minimum(self.a, self.b) * self._base + self.difference, axis=0)

    @property
    def _base(self) -> np.uint32:
        return np.uint32(1 << self.level_count.bit_length())

    @cached_property
    def _pair_ranks(self) -> NDArray[np.uint16]:
        return run_ranks(self._codes)

    @cached_property
    def _equal(self) -> NDArray[np.bool_]:
        return (self._codes > 0) & (self._codes & (self._base - np.uint32(1)) == 0)

    @cached_property
    def joint_entropy(self) -> Values:
        """Entropy of the matrix in bits; a pair of unlike levels has two entries of half its share."""
        unlike = self.average((self.difference > 0) * self.valid)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log2(self.n) - sum_of_logs(self._pair_ranks) / self.n + unlike

    @cached_property
    def joint_squares(self) -> Values:
        """Sum p^2."""
        squares = 2.0 * self._pair_ranks - (self._pair_ranks > 0)
        return _share((squares * np.where(self._equal, 1.0, 0.5)).sum(axis=0), self.n**2)

    @cached_property
    def joint_maximum(self) -> Values:
        """Largest p."""
        return _share((self._pair_ranks * np.where(self._equal, 1.0, 0.5)).max(axis=0), self.n)

    def second_eigenvalue(self) -> Values:
        """Return the second largest absolute eigenvalue of D^-1/2 P D^-1/2, with only the levels that occur."""
        both = np.concatenate([self.a, self.b])
        order = np.argsort(both, axis=0)
        ascending = np.take_along_axis(both, order, axis=0)
        new = np.diff(ascending, axis=0, prepend=np.uint32(0)) > 0
        rank = np.empty(both.shape, dtype=np.int64)
        np.put_along_axis(rank, order, np.cumsum(new, axis=0), axis=0)  # 0 where no pair is, levels from 1
        levels, half = rank.max(axis=0), len(rank) // 2
        values = np.full(both.shape[1], np.nan)
        varied = np.flatnonzero(self.varied)
        by_size = varied[np.argsort(levels[varied], kind="stable")]  # small matrices together
        for part in np.array_split(by_size, len(by_size) // _MATRICES + 1):
            size = int(levels[part].max(initial=0)) + 1
            cells = (np.arange(len(part)) * size + rank[:half, part]) * size + rank[half:, part]
            counts = np.bincount(cells.ravel(), minlength=len(part) * size**2).reshape(-1, size, size)[:, 1:, 1:]
            matrix = (counts + counts.transpose(0, 2, 1)).astype(np.float64)
            marginal = matrix.sum(axis=2)
            scale = np.sqrt(np.where(marginal > 0, marginal, 1.0))
            matrix /= scale[:, :, None] * scale[:, None, :]
            values[part] = np.sort(np.abs(np.linalg.eigvalsh(matrix)), axis=1)[:, -2] if len(part) else np.nan
        return values


def _difference_weights(function: Callable[[Values, int], Values]) -> Callable[[PairRows], Values]:
    """Return a formula that is the mean over pairs of a function of |i - j| and the number of levels."""

    def formula(rows: PairRows) -> Values:
        return rows.average_of_difference(function(np.arange(float(rows.level_count)), rows.level_count))

    return formula


def _difference_variance(m: PairRows) -> Values:
    return m.average((m.difference - m.average(m.difference)) ** 2 * m.valid)


def _correlation(m: PairRows) -> Values:
    return _where(m.varied, _share(m.sum_moment(2), 2 * m.variance) - 1)


def _information_1(m: PairRows) -> Values:
    return _where(m.varied, _share(m.joint_entropy - 2 * m.marginal_entropy, m.marginal_entropy))


def _information_2(m: PairRows) -> Values:
    return np.sqrt(np.maximum(0.0, -np.expm1(-2 * (2 * m.marginal_entropy - m.joint_entropy))))


GLCM: dict[Any, Callable[[PairRows], Values]] = {
    glcm.joint_maximum: lambda m: m.joint_maximum,
    glcm.joint_average: lambda m: m.mean,
    glcm.joint_variance: lambda m: m.variance,
    glcm.joint_entropy: lambda m: m.joint_entropy,
    glcm.difference_average: lambda m: m.average(m.difference),
    glcm.difference_variance: _difference_variance,
    glcm.difference_entropy: lambda m: m.entropy_of((m.difference + np.uint32(1)) * m.valid),
    glcm.sum_average: lambda m: 2 * m.mean,
    glcm.sum_variance: lambda m: m.sum_moment(2),
    glcm.sum_entropy: lambda m: m.entropy_of(m.sum),
    glcm.angular_second_moment: lambda m: m.joint_squares,
    glcm.contrast: _difference_weights(lambda d, n: d**2),
    glcm.dissimilarity: lambda m: m.average(m.difference),
    glcm.inverse_difference: _difference_weights(lambda d, n: 1 / (1 + d)),
    glcm.normalized_inverse_difference: _difference_weights(lambda d, n: 1 / (1 + d / n)),
    glcm.inverse_difference_moment: _difference_weights(lambda d, n: 1 / (1 + d**2)),
    glcm.normalized_inverse_difference_moment: _difference_weights(lambda d, n: 1 / (1 + (d / n) ** 2)),
    glcm.inverse_variance: _difference_weights(lambda d, n: np.where(d > 0, 1 / np.maximum(d, 1) ** 2, 0.0)),
    glcm.correlation: _correlation,
    glcm.autocorrelation: lambda m: m.average(m.a.astype(np.uint64) * m.b),
    glcm.cluster_tendency: lambda m: m.sum_moment(2),
    glcm.cluster_shade: lambda m: m.sum_moment(3),
    glcm.cluster_prominence: lambda m: m.sum_moment(4),
    glcm.information_correlation_1: _information_1,
    glcm.information_correlation_2: _information_2,
    glcm.maximal_correlation_coefficient: lambda m: m.second_eigenvalue(),
}


class CountRows:
    """The runs, zones or neighborhoods of each column, by gray level and extent.

    Parameters
    ----------
    levels, extents : (places, n) ndarray of int
        Both 0 where no run, zone or neighborhood is.
    voxels : (n,) ndarray of int
        Number of voxels, once for each direction merged.
    """

    def __init__(self, levels: NDArray[Any], extents: NDArray[Any], voxels: NDArray[Any]) -> None:
        self.valid = levels > 0
        self.i, self.j = levels.astype(np.uint32), extents.astype(np.uint32) * self.valid
        self.n, self.voxels = self.valid.sum(axis=0), voxels

    def mean(self, level_power: int, extent_power: int) -> Values:
        """Return the mean of i^level_power j^extent_power."""
        total = self.valid.astype(np.float64)
        for values, power in ((self.i, level_power), (self.j, extent_power)):
            if power:
                table = np.arange(int(values.max(initial=0)) + 1.0)
                table[1:] **= power
                total *= np.take(table, values)
        return _share(total.sum(axis=0), self.n)

    def variance(self, values: NDArray[np.uint32]) -> Values:
        """Return the variance of levels or extents."""
        mean = _share(values.sum(axis=0), self.n)
        return _share(((values - mean) ** 2 * self.valid).sum(axis=0), self.n)

    @cached_property
    def joint_ranks(self) -> NDArray[np.uint16]:
        """Ranks of equal (level, extent)."""
        return _ranks(self.i * np.uint32(int(self.j.max(initial=0)) + 1) + self.j)

    def entropy(self) -> Values:
        """Return -sum p log2 p."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return _where(self.n > 0, np.log2(self.n) - sum_of_logs(self.joint_ranks) / self.n)


def _nonuniformity(values: str, normalized: bool) -> Callable[[CountRows], Values]:
    def formula(m: CountRows) -> Values:
        squares = sum_of_squares(_ranks(getattr(m, values)))
        return _share(squares, m.n.astype(np.float64) ** (2 if normalized else 1))

    return formula


COUNT: dict[Any, Callable[[CountRows], Values]] = {
    cm.short_emphasis: lambda m: m.mean(0, -2),
    cm.long_emphasis: lambda m: m.mean(0, 2),
    cm.low_level_emphasis: lambda m: m.mean(-2, 0),
    cm.high_level_emphasis: lambda m: m.mean(2, 0),
    cm.short_low_level_emphasis: lambda m: m.mean(-2, -2),
    cm.short_high_level_emphasis: lambda m: m.mean(2, -2),
    cm.long_low_level_emphasis: lambda m: m.mean(-2, 2),
    cm.long_high_level_emphasis: lambda m: m.mean(2, 2),
    cm.level_nonuniformity: _nonuniformity("i", normalized=False),
    cm.normalized_level_nonuniformity: _nonuniformity("i", normalized=True),
    cm.extent_nonuniformity: _nonuniformity("j", normalized=False),
    cm.normalized_extent_nonuniformity: _nonuniformity("j", normalized=True),
    cm.percentage: lambda m: _share(m.n, m.voxels),
    cm.level_variance: lambda m: m.variance(m.i),
    cm.extent_variance: lambda m: m.variance(m.j),
    cm.entropy: lambda m: m.entropy(),
    cm.energy: lambda m: _share(sum_of_squares(m.joint_ranks), m.n.astype(np.float64) ** 2),
}


class ToneRows:
    """The gray tone difference matrix of each column: p and s of the levels i that occur, 0 elsewhere."""

    def __init__(self, tables: KernelTables) -> None:
        sums, counts = tables.neighbor_sums
        valid = (tables.levels > 0) & (counts > 0)
        levels = tables.levels * valid
        differences = np.where(valid, np.abs(levels - _share(sums, counts)), 0.0)
        order = np.argsort(levels, axis=0, kind="stable")
        self.i = np.take_along_axis(levels, order, axis=0).astype(np.float64)
        ranks = run_ranks(self.i)
        last = np.concatenate([ranks[1:] <= ranks[:-1], np.ones((1, ranks.shape[1]), dtype=bool)]) & (ranks > 0)
        self.n = valid.sum(axis=0)
        self.p = _share(ranks * last, self.n)
        self.s = np.take_along_axis(differences, order, axis=0)
        for n in range(1, len(self.s)):
            self.s[n] += self.s[n - 1] * (ranks[n] > 1)
        self.s *= last
        self.last, self.level_count = last, last.sum(axis=0)
        self.weighted = (self.p * self.s).sum(axis=0)
        self.total = self.s.sum(axis=0)

    def sum_over_pairs(self, function: Callable[[int, int], Values]) -> Values:
        """Return twice the sum, over unordered pairs of different levels, of a function of two table rows."""
        total = np.zeros(self.i.shape[1])
        for a in range(len(self.i)):
            for b in range(a):
                both = self.last[a] & self.last[b]
                if both.any():
                    total += 2 * np.where(both, function(a, b), 0.0)
        return total


def _tone_contrast(m: ToneRows) -> Values:
    deviation = m.i - (m.p * m.i).sum(axis=0)
    spread = 2 * (m.p * deviation**2).sum(axis=0)
    return _share(spread, m.level_count * (m.level_count - 1)) * _share(m.total, m.n)


def _busyness(m: ToneRows) -> Values:
    weighted = m.i * m.p
    variation = m.sum_over_pairs(lambda a, b: np.abs(weighted[a] - weighted[b]))
    return _where(m.level_count > 1, _share(m.weighted, variation))


def _complexity(m: ToneRows) -> Values:
    weighted = m.p * m.s
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = m.sum_over_pairs(lambda a, b: np.abs(m.i[a] - m.i[b]) * (weighted[a] + weighted[b]) / (m.p[a] + m.p[b]))
    return _share(terms, m.n)


def _strength(m: ToneRows) -> Values:
    return _share(m.sum_over_pairs(lambda a, b: (m.p[a] + m.p[b]) * (m.i[a] - m.i[b]) ** 2), m.total)


NGTDM: dict[Any, Callable[[ToneRows], Values]] = {
    ngtdm.coarseness: lambda m: _where(m.total > 0, _share(np.ones(len(m.n)), m.weighted)),
    ngtdm.contrast: _tone_contrast,
    ngtdm.busyness: _busyness,
    ngtdm.complexity: _complexity,
    ngtdm.strength: _strength,
}


class SampleRows:
    """The numbers in each column, sorted; what is not valid stands behind them as infinity.

    Parameters
    ----------
    values : (places, n) ndarray of float
    valid : (places, n) ndarray of bool
        At least one in each column.
    """

    def __init__(self, values: Values, valid: NDArray[np.bool_]) -> None:
        self.n = valid.sum(axis=0)
        self.x = np.sort(np.where(valid, values, np.inf), axis=0)
        self.valid = np.arange(len(values))[:, None] < self.n

    def mean_of(self, values: Values, valid: NDArray[np.bool_] | None = None) -> Values:
        """Return the mean of a table over what is valid."""
        chosen = self.valid if valid is None else valid
        with np.errstate(invalid="ignore"):
            return _share(np.where(chosen, values, 0.0).sum(axis=0), chosen.sum(axis=0))

    @cached_property
    def mean(self) -> Values:
        """Mean of each column."""
        return self.mean_of(self.x)

    @cached_property
    def variance(self) -> Values:
        """Variance, dividing by n."""
        return self.mean_of((self.x - self.mean) ** 2)

    @property
    def maximum(self) -> Values:
        """Largest of each column."""
        return np.take_along_axis(self.x, self.n[None] - 1, axis=0)[0]

    def percentile(self, share: float) -> Values:
        """Return the value below which `share` percent lie, interpolated linearly between ranks."""
        rank = share / 100 * (self.n - 1)
        low = rank.astype(np.int64)
        high = np.minimum(low + 1, self.n - 1)
        below, above = (np.take_along_axis(self.x, at[None], axis=0)[0] for at in (low, high))
        return below + (rank - low) * (above - below)

    def standardized_moment(self, order: int) -> Values:
        """Return the mean of ((x - mean) / standard deviation)^order."""
        largest = np.maximum(np.abs(self.x[0]), np.abs(self.maximum))
        with np.errstate(divide="ignore", invalid="ignore"):
            z = (self.x - self.mean) / np.sqrt(self.variance)
            moment = self.mean_of(z**order)
        return _where(self.variance > (1e-12 * largest) ** 2, moment)

    def deviation_from(self, center: Values, valid: NDArray[np.bool_] | None = None) -> Values:
        """Return the mean distance from a center."""
        return self.mean_of(np.abs(self.x - center), valid)


def _robust_deviation(s: SampleRows) -> Values:
    kept = (s.x >= s.percentile(10)) & (s.x <= s.percentile(90)) & s.valid
    return s.deviation_from(s.mean_of(s.x, kept), kept)


SAMPLE: dict[Any, Callable[[SampleRows], Values]] = {
    intensity.mean: lambda s: s.mean,
    intensity.variance: lambda s: s.variance,
    intensity.skewness: lambda s: s.standardized_moment(3),
    intensity.excess_kurtosis: lambda s: s.standardized_moment(4) - 3,
    intensity.median: lambda s: s.percentile(50),
    intensity.minimum: lambda s: s.x[0],
    intensity.percentile_10: lambda s: s.percentile(10),
    intensity.percentile_90: lambda s: s.percentile(90),
    intensity.maximum: lambda s: s.maximum,
    intensity.interquartile_range: lambda s: s.percentile(75) - s.percentile(25),
    intensity.value_range: lambda s: s.maximum - s.x[0],
    intensity.mean_absolute_deviation: lambda s: s.deviation_from(s.mean),
    intensity.robust_mean_absolute_deviation: _robust_deviation,
    intensity.median_absolute_deviation: lambda s: s.deviation_from(s.percentile(50)),
    intensity.coefficient_of_variation: lambda s: _share(np.sqrt(s.variance), s.mean),
    intensity.quartile_coefficient_of_dispersion: lambda s: _share(
        s.percentile(75) - s.percentile(25), s.percentile(75) + s.percentile(25)
    ),
    intensity.energy: lambda s: s.mean_of(s.x**2) * s.n,
    intensity.root_mean_square: lambda s: np.sqrt(s.mean_of(s.x**2)),
}


class LevelRows(SampleRows):
    """The histogram of gray levels of each column."""

    def __init__(self, tables: KernelTables) -> None:
        super().__init__(tables.levels.astype(np.float64), tables.levels > 0)
        self._levels, self._level_count = tables.levels, tables.level_count

    @cached_property
    def ranks(self) -> NDArray[np.uint16]:
        """How often each level occurred so far."""
        return run_ranks(np.where(self.valid, self.x, 0.0)[::-1])  # what is not valid comes first there

    @cached_property
    def gradient(self) -> Values:
        """(level_count, n) slope of the counts."""
        columns = len(self.n)
        cells = self._levels.astype(np.int64) * columns + np.arange(columns)
        counts = np.bincount(cells.ravel(), minlength=(self._level_count + 1) * columns)
        table = counts.reshape(-1, columns)[1:].astype(np.float64)
        return np.gradient(table, axis=0) if len(table) > 1 else np.full(table.shape, np.nan)

    def mode(self) -> Values:
        """Return the commonest level; of equally common ones the one nearest to the mean, then the lower."""
        levels, ranks = self.x[::-1], self.ranks  # levels descend: a later one that is as good is lower
        best, distance, found = np.zeros(len(self.n)), np.full(len(self.n), np.inf), np.zeros(len(self.n))
        for level, rank in zip(levels, ranks, strict=True):
            away = np.abs(np.where(rank > 0, level, 0.0) - self.mean)
            better = (rank > best) | ((rank == best) & (rank > 0) & (away <= distance))
            best, distance = np.where(better, rank, best), np.where(better, away, distance)
            found = np.where(better, level, found)
        return found


def _slope(reduce: Callable[..., NDArray[Any]], offset: int = 0) -> Callable[[LevelRows], Values]:
    def formula(h: LevelRows) -> Values:
        return reduce(h.gradient, axis=0).astype(np.float64) + offset

    return formula


HISTOGRAM: dict[str, Callable[[LevelRows], Values]] = {
    **{f.name: SAMPLE[g.compute] for f in histogram.FEATURES for g in intensity.FEATURES if f.name == g.name},
    "mode": lambda h: h.mode(),
    "entropy": lambda h: np.log2(h.n) - sum_of_logs(h.ranks) / h.n,
    "uniformity": lambda h: sum_of_squares(h.ranks) / h.n.astype(np.float64) ** 2,
    "maximum_gradient": _slope(np.max),
    "maximum_gradient_level": _slope(np.argmax, 1),
    "minimum_gradient": _slope(np.min),
    "minimum_gradient_level": _slope(np.argmin, 1),
}


def _pair_rows(tables: KernelTables, merged: bool) -> list[PairRows]:
    places = [tables.kernel.pairs(direction) for direction in tables.kernel.directions]
    if merged:
        places = [([p for a, _ in places for p in a], [p for _, b in places for p in b])]
    return [PairRows(tables.levels[a], tables.levels[b], tables.level_count) for a, b in places if a]


def _run_rows(tables: KernelTables, merged: bool) -> list[CountRows]:
    voxels = (tables.levels > 0).sum(axis=0)
    runs = [_runs(tables, direction) for direction in tables.kernel.directions]
    if merged:
        levels, lengths = (np.concatenate(part) for part in zip(*runs, strict=True))
        return [CountRows(levels, lengths, voxels * len(runs))]
    return [CountRows(levels, lengths, voxels) for levels, lengths in runs]


def _runs(tables: KernelTables, direction: tuple[int, int, int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return level and length of the runs along a direction, at the place each starts; 0 elsewhere."""
    levels, kernel = tables.levels, tables.kernel
    lengths = (levels > 0).astype(np.uint32)
    starts = levels > 0
    following = {a: b for a, b in zip(*kernel.pairs(direction), strict=True)}
    for place in reversed(_along(kernel.offsets, direction)):
        after = following.get(int(place))
        if after is not None:
            same = (levels[place] == levels[after]) & (levels[place] > 0)
            lengths[place] += lengths[after] * same
            starts[after] &= ~same
    return levels * starts, lengths * starts


def _along(offsets: NDArray[np.int64], direction: tuple[int, int, int]) -> NDArray[np.int64]:
    """Return the places in an order in which each comes before the next one along the direction."""
    return np.argsort(offsets @ np.array(direction), kind="stable")


def _zone_rows(tables: KernelTables, distances: bool) -> list[CountRows]:
    """Return the zones by size, or by their smallest distance to the border."""
    roots, valid = tables.zone_roots, tables.levels > 0
    extents = np.zeros(tables.levels.shape, dtype=np.uint32)
    for root in range(len(roots)):
        member = (roots[root:] == root) & valid[root:]
        if distances:
            far = np.where(member, tables.border_distances[root:], np.uint8(255)).min(axis=0)
            extents[root] = np.where(member[0], far, 0)
        else:
            extents[root] = member.sum(axis=0) * member[0]
    return [CountRows(tables.levels * (extents > 0), extents, valid.sum(axis=0))]


def _dependence_rows(tables: KernelTables) -> list[CountRows]:
    valid = tables.levels > 0
    return [CountRows(tables.levels, (tables.equal_counts + np.uint32(1)) * valid, valid.sum(axis=0))]


class PeakRows:
    """The means of the 1 cm^3 balls around each column's voxels."""

    def __init__(self, tables: KernelTables) -> None:
        self.valid = tables.levels > 0
        self.intensities = np.where(self.valid, tables.intensities, -np.inf)
        self.means = np.where(self.valid, tables.ball_means, -np.inf)

    def local_peak(self) -> Values:
        """Return the ball mean at the hottest voxel; of several such voxels the highest."""
        hottest = self.valid & (self.intensities == self.intensities.max(axis=0))
        return np.where(hottest, self.means, -np.inf).max(axis=0)

    def global_peak(self) -> Values:
        """Return the highest ball mean."""
        return self.means.max(axis=0)


def _volume_histograms(tables: KernelTables) -> list[VolumeHistogram]:
    columns = zip(tables.intensities.T, (tables.levels > 0).T, strict=True)
    return [volume_histogram(x[valid], tables.settings) for x, valid in columns]


def _one_by_one(compute: Callable[[Any], float]) -> Callable[[list[VolumeHistogram]], Values]:
    def value(histogram: VolumeHistogram) -> float:
        try:
            return compute(histogram)
        except NotApplicable:
            return np.nan

    return lambda histograms: np.array([value(h) for h in histograms])


ROWS: dict[str, Callable[[KernelTables, bool], list[Any]]] = {
    "stat": lambda t, merged: [SampleRows(t.intensities, t.levels > 0)],
    "loc": lambda t, merged: [PeakRows(t)],
    "ih": lambda t, merged: [LevelRows(t)],
    "ivh": lambda t, merged: [_volume_histograms(t)],
    "glcm": _pair_rows,
    "glrlm": _run_rows,
    "glszm": lambda t, merged: _zone_rows(t, distances=False),
    "gldzm": lambda t, merged: _zone_rows(t, distances=True),
    "ngtdm": lambda t, merged: [ToneRows(t)],
    "ngldm": lambda t, merged: _dependence_rows(t),
}
"""Family -> from tables (and whether directions are merged) to the objects whose features are averaged."""

FORMULAS: dict[str, Callable[[Any], Values]] = {
    **{f.key: SAMPLE[f.compute] for f in intensity.FEATURES},
    "loc_local_peak": PeakRows.local_peak,
    "loc_global_peak": PeakRows.global_peak,
    **{f.key: HISTOGRAM[f.name] for f in histogram.FEATURES},
    **{f.key: _one_by_one(f.compute) for f in ivh.FEATURES},
    **{f.key: GLCM[f.compute] for f in glcm.FEATURES},
    **{f.key: COUNT[f.compute] for family in (glrlm, glszm, gldzm, ngldm) for f in family.FEATURES},
    **{f.key: NGTDM[f.compute] for f in ngtdm.FEATURES},
}
"""Feature key -> formula."""
