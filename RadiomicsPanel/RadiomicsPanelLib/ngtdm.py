"""Neighborhood gray tone difference matrix (IBSI family IPET): how far levels are from their neighbors' mean.

For level i: n voxels that have a neighbor in the region, p = n / (all such voxels), s = sum of |i - mean of neighbors|.
Amadasun and King 1989, doi 10.1109/21.44046.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from RadiomicsPanelLib.feature import Family, Feature, NotApplicable
from RadiomicsPanelLib.level_image import Neighborhoods
from RadiomicsPanelLib.roi import Roi


class Ngtdm:
    """The matrix's rows of occupied levels.

    Attributes
    ----------
    i, p, s : (m,) ndarray
        Level, its probability, its summed difference.
    voxel_count : int
        Voxels with a neighbor in the region.
    """

    def __init__(self, near: Neighborhoods, chosen: NDArray[np.bool_]) -> None:
        chosen = chosen & (near.counts > 0)
        levels = near.levels[chosen]
        differences = np.abs(levels - near.sums[chosen] / near.counts[chosen])
        counts = np.bincount(levels)
        occupied = np.flatnonzero(counts)
        self.voxel_count = len(levels)
        self.i = occupied.astype(float)
        self.p = counts[occupied] / max(self.voxel_count, 1)
        self.s = np.bincount(levels, weights=differences)[occupied]


def prepare(roi: Roi, aggregations: tuple[str, ...]) -> dict[str, list[Ngtdm]]:
    """Return, for each dimension, the matrices whose features are averaged."""
    levels, result = roi.level_image, {}
    for name in aggregations:
        near = levels.neighborhoods if name == "3D" else levels.plane_neighborhoods
        if name == "2D":
            chosen = [near.slices == k for k in np.flatnonzero(levels.slice_counts)]
        else:
            chosen = [np.ones(len(near.levels), dtype=bool)]
        result[name] = [m for m in (Ngtdm(near, c) for c in chosen) if m.voxel_count]
    return result


def _require_variety(m: Ngtdm) -> None:
    if len(m.i) == 1:
        raise NotApplicable("all voxels have one gray level")


def _require_texture(m: Ngtdm) -> None:
    if m.s.sum() == 0:
        raise NotApplicable("no voxel differs from its neighbors")


def coarseness(m: Ngtdm) -> float:
    """Return 1 / sum p s."""
    _require_texture(m)
    return 1 / float(np.sum(m.p * m.s))


def contrast(m: Ngtdm) -> float:
    """Return sum p1 p2 (i1 - i2)^2 / (G (G - 1)) times sum s / N, with G occupied levels."""
    _require_variety(m)
    mean = np.sum(m.p * m.i)
    spread = 2 * float(np.sum(m.p * (m.i - mean) ** 2))  # = sum over pairs of p1 p2 (i1 - i2)^2
    return spread / (len(m.i) * (len(m.i) - 1)) * float(m.s.sum()) / m.voxel_count


def busyness(m: Ngtdm) -> float:
    """Return sum p s / sum |i1 p1 - i2 p2|.

    Raises
    ------
    NotApplicable
        If all gray levels have the same weight.
    """
    _require_variety(m)
    weighted = m.i * m.p
    variation = float(np.sum(np.abs(weighted[:, None] - weighted)))
    if variation == 0:
        raise NotApplicable("all gray levels have the same weight")
    return float(np.sum(m.p * m.s)) / variation


def complexity(m: Ngtdm) -> float:
    """Return sum |i1 - i2| (p1 s1 + p2 s2) / (p1 + p2) / N."""
    weighted = m.p * m.s
    terms = np.abs(m.i[:, None] - m.i) * (weighted[:, None] + weighted) / (m.p[:, None] + m.p)
    return float(np.sum(terms)) / m.voxel_count


def strength(m: Ngtdm) -> float:
    """Return sum (p1 + p2) (i1 - i2)^2 / sum s."""
    _require_texture(m)
    return float(np.sum((m.p[:, None] + m.p) * (m.i[:, None] - m.i) ** 2)) / float(m.s.sum())


_ngtdm: Any = partial(Feature, family="ngtdm", category="statistical", unit="1")

FEATURES: tuple[Feature, ...] = (
    _ngtdm(name="coarseness", tag="ngt_coarseness", ibsi="QCDE", compute=coarseness),
    _ngtdm(name="contrast", tag="ngt_contrast", ibsi="65HE", compute=contrast),
    _ngtdm(name="busyness", tag="ngt_busyness", ibsi="NQ30", compute=busyness),
    _ngtdm(name="complexity", tag="ngt_complexity", ibsi="HDEZ", compute=complexity),
    _ngtdm(name="strength", tag="ngt_strength", ibsi="1X9X", compute=strength),
)

FAMILY = Family("ngtdm", "Neighborhood gray tone difference matrix", "zonal", prepare, FEATURES)
