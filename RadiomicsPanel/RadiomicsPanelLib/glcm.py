"""Gray level co-occurrence matrix (IBSI family LFYI): how often two levels are neighbors.

Distance 1, symmetric. p(i, j) is the share of ordered voxel pairs with levels i and j; sums run over all i and j.
Haralick, Shanmugam and Dinstein 1973, doi 10.1109/TSMC.1973.4309314.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from RadiomicsPanelLib.feature import Family, Feature, NotApplicable
from RadiomicsPanelLib.level_image import PLANE_DIRECTIONS, VOLUME_DIRECTIONS, LevelImage, pair_boxes, sum_by
from RadiomicsPanelLib.roi import Roi


class Glcm:
    """A normalized, symmetric co-occurrence matrix by its m entries above zero.

    Attributes
    ----------
    i, j : (m,) ndarray of float
        Levels of the entries.
    p : (m,) ndarray
        Their probabilities; the sum is 1.
    level_count : int
        Number of levels that could occur.
    """

    def __init__(self, counts: NDArray[np.int64], level_count: int) -> None:
        symmetric = counts + counts.T
        rows, columns = np.nonzero(symmetric)
        self.i, self.j = rows + 1.0, columns + 1.0
        self.p = symmetric[rows, columns] / symmetric.sum()
        self.level_count = level_count
        self._rows, self._columns, self._size = rows, columns, len(counts)

    @cached_property
    def marginal(self) -> NDArray[np.float64]:
        """(level_count,) probability of each level, the same for rows and columns."""
        return sum_by(self._rows, self.p, self._size)

    @cached_property
    def mean(self) -> float:
        """Mean level of the marginal distribution."""
        return float(np.sum(np.arange(1, self._size + 1) * self.marginal))

    @cached_property
    def variance(self) -> float:
        """Variance of the marginal distribution."""
        return float(np.sum((np.arange(1, self._size + 1) - self.mean) ** 2 * self.marginal))

    @cached_property
    def difference(self) -> NDArray[np.float64]:
        """Probability of each |i - j| from 0."""
        return sum_by(np.abs(self._rows - self._columns), self.p)

    @cached_property
    def sum(self) -> NDArray[np.float64]:
        """Probability of each i + j from 2."""
        return sum_by(self._rows + self._columns, self.p)

    def sum_moment(self, order: int) -> float:
        """Return the central moment of i + j."""
        return float(np.sum((np.arange(2, len(self.sum) + 2) - 2 * self.mean) ** order * self.sum))

    @cached_property
    def joint_entropy(self) -> float:
        """Entropy of p in bits."""
        return _entropy(self.p)

    @cached_property
    def marginal_entropy(self) -> float:
        """Entropy of the marginal distribution in bits."""
        return _entropy(self.marginal)


def count_pairs(levels: LevelImage, directions: tuple[tuple[int, int, int], ...]) -> NDArray[np.int64]:
    """Return the number of voxel pairs one step apart, for each direction.

    Returns
    -------
    (directions, level_count, level_count) ndarray of int
        Not symmetric: first index is the level the step starts from.
    """
    base = levels.level_count + 1
    code_type = np.min_scalar_type(base * base)
    starts = levels.levels.astype(code_type) * code_type.type(base)
    counts = np.empty((len(directions), base - 1, base - 1), dtype=np.int64)
    for n, direction in enumerate(directions):
        here, there = pair_boxes(levels.levels.shape, direction)
        codes = (starts[here] + levels.levels[there]).ravel()
        counts[n] = np.bincount(codes, minlength=base * base).reshape(base, base)[1:, 1:]
    return counts


def prepare(roi: Roi, aggregations: tuple[str, ...]) -> dict[str, list[Glcm]]:
    """Return, for each aggregation, the matrices whose features are averaged."""
    levels, result = roi.level_image, {}
    if any(a.startswith("3D") for a in aggregations):
        result["3D_avg"], result["3D_comb"] = _matrices(count_pairs(levels, VOLUME_DIRECTIONS), levels.level_count)
    if any(a.startswith("2") for a in aggregations):
        per_direction, per_slice = [], []
        merged = np.zeros((len(PLANE_DIRECTIONS), levels.level_count, levels.level_count), dtype=np.int64)
        for plane in levels.slices():
            counts = count_pairs(plane, PLANE_DIRECTIONS)
            merged += counts
            directed, combined = _matrices(counts, levels.level_count)
            per_direction += directed
            per_slice += combined
        result["2D_avg"], result["2D_comb"] = per_direction, per_slice
        result["2_5D_avg"], result["2_5D_comb"] = _matrices(merged, levels.level_count)
    return {name: result[name] for name in aggregations}


def _matrices(counts: NDArray[np.int64], level_count: int) -> tuple[list[Glcm], list[Glcm]]:
    """Return the matrices of the directions and, in a list of its own, of all together; empty ones are left out."""
    merged = counts.sum(axis=0)
    return [Glcm(c, level_count) for c in counts if c.any()], [Glcm(merged, level_count)] if merged.any() else []


def _entropy(p: NDArray[np.float64]) -> float:
    p = p[p > 0]
    return float(-np.sum(p * np.log2(p)))


def joint_maximum(m: Glcm) -> float:
    """Return the probability of the commonest pair, max p."""
    return float(m.p.max())


def joint_average(m: Glcm) -> float:
    """Return sum i p."""
    return m.mean


def joint_variance(m: Glcm) -> float:
    """Return sum (i - mean)^2 p."""
    return m.variance


def joint_entropy(m: Glcm) -> float:
    """Return -sum p log2 p."""
    return m.joint_entropy


def difference_average(m: Glcm) -> float:
    """Return the mean of |i - j|."""
    return float(np.sum(np.arange(len(m.difference)) * m.difference))


def difference_variance(m: Glcm) -> float:
    """Return the variance of |i - j|."""
    k = np.arange(len(m.difference))
    return float(np.sum((k - difference_average(m)) ** 2 * m.difference))


def difference_entropy(m: Glcm) -> float:
    """Return the entropy of |i - j| in bits."""
    return _entropy(m.difference)


def sum_average(m: Glcm) -> float:
    """Return the mean of i + j."""
    return 2 * m.mean


def sum_variance(m: Glcm) -> float:
    """Return the variance of i + j."""
    return m.sum_moment(2)


def sum_entropy(m: Glcm) -> float:
    """Return the entropy of i + j in bits."""
    return _entropy(m.sum)


def angular_second_moment(m: Glcm) -> float:
    """Return sum p^2, also called energy."""
    return float(np.sum(m.p**2))


def contrast(m: Glcm) -> float:
    """Return sum (i - j)^2 p."""
    return float(np.sum(np.arange(len(m.difference)) ** 2 * m.difference))


def dissimilarity(m: Glcm) -> float:
    """Return sum |i - j| p."""
    return difference_average(m)


def inverse_difference(m: Glcm) -> float:
    """Return sum p / (1 + |i - j|)."""
    return float(np.sum(m.difference / (1 + np.arange(len(m.difference)))))


def normalized_inverse_difference(m: Glcm) -> float:
    """Return sum p / (1 + |i - j| / N), N the number of levels."""
    return float(np.sum(m.difference / (1 + np.arange(len(m.difference)) / m.level_count)))


def inverse_difference_moment(m: Glcm) -> float:
    """Return sum p / (1 + (i - j)^2)."""
    return float(np.sum(m.difference / (1 + np.arange(len(m.difference)) ** 2)))


def normalized_inverse_difference_moment(m: Glcm) -> float:
    """Return sum p / (1 + (i - j)^2 / N^2), N the number of levels."""
    return float(np.sum(m.difference / (1 + (np.arange(len(m.difference)) / m.level_count) ** 2)))


def inverse_variance(m: Glcm) -> float:
    """Return the sum over i unlike j of p / (i - j)^2."""
    return float(np.sum(m.difference[1:] / np.arange(1, len(m.difference)) ** 2))


def correlation(m: Glcm) -> float:
    """Return sum (i - mean)(j - mean) p / variance."""
    _require_variety(m)
    return m.sum_moment(2) / (2 * m.variance) - 1  # since Var(i + j) = 2 Var(i) + 2 Cov(i, j)


def autocorrelation(m: Glcm) -> float:
    """Return sum i j p."""
    return float(np.sum(m.i * m.j * m.p))


def cluster_tendency(m: Glcm) -> float:
    """Return sum (i + j - 2 mean)^2 p."""
    return sum_variance(m)


def cluster_shade(m: Glcm) -> float:
    """Return sum (i + j - 2 mean)^3 p."""
    return m.sum_moment(3)


def cluster_prominence(m: Glcm) -> float:
    """Return sum (i + j - 2 mean)^4 p."""
    return m.sum_moment(4)


def information_correlation_1(m: Glcm) -> float:
    """Return (HXY - HXY1) / HX; the matrix is symmetric, so HXY1 = 2 HX."""
    _require_variety(m)
    return (m.joint_entropy - 2 * m.marginal_entropy) / m.marginal_entropy


def information_correlation_2(m: Glcm) -> float:
    """Return sqrt(1 - exp(-2 (HXY2 - HXY))); HXY2 = 2 HX, as the matrix is symmetric."""
    return float(np.sqrt(max(0.0, -np.expm1(-2 * (2 * m.marginal_entropy - m.joint_entropy)))))


def maximal_correlation_coefficient(m: Glcm) -> float:
    """Return the second largest absolute eigenvalue of D^-1/2 P D^-1/2, D the diagonal of the marginal.

    It equals the root of the second largest eigenvalue of Q in Haralick's definition, as P is symmetric.
    """
    _require_variety(m)
    occupied = np.flatnonzero(m.marginal)
    position = np.zeros(len(m.marginal), dtype=np.int64)
    position[occupied] = np.arange(len(occupied))
    matrix = np.zeros((len(occupied), len(occupied)))
    matrix[position[m._rows], position[m._columns]] = m.p
    scale = np.sqrt(m.marginal[occupied])
    return float(np.sort(np.abs(np.linalg.eigvalsh(matrix / np.outer(scale, scale))))[-2])


def _require_variety(m: Glcm) -> None:
    if len(m.p) == 1:
        raise NotApplicable("all neighbors have one gray level")


_glcm: Any = partial(Feature, family="glcm", category="statistical")

FEATURES: tuple[Feature, ...] = (
    _glcm(name="joint_maximum", tag="cm_joint_max", ibsi="GYBY", unit="1", compute=joint_maximum),
    _glcm(name="joint_average", tag="cm_joint_avg", ibsi="60VM", unit="1", compute=joint_average),
    _glcm(name="joint_variance", tag="cm_joint_var", ibsi="UR99", unit="1", compute=joint_variance),
    _glcm(name="joint_entropy", tag="cm_joint_entr", ibsi="TU9B", unit="bit", compute=joint_entropy),
    _glcm(name="difference_average", tag="cm_diff_avg", ibsi="TF7R", unit="1", compute=difference_average),
    _glcm(name="difference_variance", tag="cm_diff_var", ibsi="D3YU", unit="1", compute=difference_variance),
    _glcm(name="difference_entropy", tag="cm_diff_entr", ibsi="NTRS", unit="bit", compute=difference_entropy),
    _glcm(
        name="sum_average",
        tag="cm_sum_avg",
        ibsi="ZGXS",
        unit="1",
        compute=sum_average,
        duplicate_of="glcm_joint_average",
    ),
    _glcm(name="sum_variance", tag="cm_sum_var", ibsi="OEEB", unit="1", compute=sum_variance),
    _glcm(name="sum_entropy", tag="cm_sum_entr", ibsi="P6QZ", unit="bit", compute=sum_entropy),
    _glcm(name="angular_second_moment", tag="cm_energy", ibsi="8ZQL", unit="1", compute=angular_second_moment),
    _glcm(name="contrast", tag="cm_contrast", ibsi="ACUI", unit="1", compute=contrast),
    _glcm(
        name="dissimilarity",
        tag="cm_dissimilarity",
        ibsi="8S9J",
        unit="1",
        compute=dissimilarity,
        duplicate_of="glcm_difference_average",
    ),
    _glcm(name="inverse_difference", tag="cm_inv_diff", ibsi="IB1Z", unit="1", compute=inverse_difference),
    _glcm(
        name="normalized_inverse_difference",
        tag="cm_inv_diff_norm",
        ibsi="NDRX",
        unit="1",
        compute=normalized_inverse_difference,
    ),
    _glcm(
        name="inverse_difference_moment",
        tag="cm_inv_diff_mom",
        ibsi="WF0Z",
        unit="1",
        compute=inverse_difference_moment,
    ),
    _glcm(
        name="normalized_inverse_difference_moment",
        tag="cm_inv_diff_mom_norm",
        ibsi="1QCO",
        unit="1",
        compute=normalized_inverse_difference_moment,
    ),
    _glcm(name="inverse_variance", tag="cm_inv_var", ibsi="E8JP", unit="1", compute=inverse_variance),
    _glcm(name="correlation", tag="cm_corr", ibsi="NI2N", unit="1", compute=correlation),
    _glcm(name="autocorrelation", tag="cm_auto_corr", ibsi="QWB0", unit="1", compute=autocorrelation),
    _glcm(
        name="cluster_tendency",
        tag="cm_clust_tend",
        ibsi="DG8W",
        unit="1",
        compute=cluster_tendency,
        duplicate_of="glcm_sum_variance",
    ),
    _glcm(name="cluster_shade", tag="cm_clust_shade", ibsi="7NFM", unit="1", compute=cluster_shade),
    _glcm(name="cluster_prominence", tag="cm_clust_prom", ibsi="AE86", unit="1", compute=cluster_prominence),
    _glcm(
        name="information_correlation_1",
        tag="cm_info_corr1",
        ibsi="R8DG",
        unit="1",
        compute=information_correlation_1,
    ),
    _glcm(
        name="information_correlation_2",
        tag="cm_info_corr2",
        ibsi="JN9H",
        unit="1",
        compute=information_correlation_2,
    ),
    _glcm(
        name="maximal_correlation_coefficient",
        tag="cm_mcc",
        ibsi="",
        unit="1",
        compute=maximal_correlation_coefficient,
        reference="Haralick 1973, feature 14, doi 10.1109/TSMC.1973.4309314",
    ),
)

FAMILY = Family("glcm", "Gray level co-occurrence matrix", "directional", prepare, FEATURES)
