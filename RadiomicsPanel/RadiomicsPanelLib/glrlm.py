"""Gray level run length matrix (IBSI family TP0I): how many runs of each length each level has along a direction.

Galloway 1975, doi 10.1016/S0146-664X(75)80008-6.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from RadiomicsPanelLib import count_matrix as cm
from RadiomicsPanelLib.count_matrix import CountMatrix
from RadiomicsPanelLib.feature import Family, Feature
from RadiomicsPanelLib.level_image import PLANE_DIRECTIONS, VOLUME_DIRECTIONS, LevelImage
from RadiomicsPanelLib.roi import Roi


class Runs(NamedTuple):
    """All runs along one direction: (n,) gray levels, lengths in voxels, and slice of the first voxel."""

    levels: NDArray[np.int64]
    lengths: NDArray[np.int64]
    slices: NDArray[np.int64]


def find_runs(levels: LevelImage, direction: tuple[int, int, int]) -> Runs:
    """Return the longest stretches of equal level along a direction.

    All runs are followed together, one voxel per step, and drop out where they end.
    """
    flat, voxels = levels.padded.ravel(), levels.padded_voxels
    row, page = levels.padded.shape[2], levels.padded.shape[1] * levels.padded.shape[2]
    step = direction[0] * page + direction[1] * row + direction[2]
    of_level = flat[voxels]
    first = of_level != flat[voxels - step]
    starts, of_level = voxels[first], of_level[first]
    lengths = np.ones(len(starts), dtype=np.int64)
    live, ends, followed = np.arange(len(starts)), starts, of_level
    while len(live):
        ends = ends + step
        goes_on = flat[ends] == followed
        live, ends, followed = live[goes_on], ends[goes_on], followed[goes_on]
        lengths[live] += 1
    return Runs(of_level.astype(np.int64), lengths, starts // page - 1)


def prepare(roi: Roi, aggregations: tuple[str, ...]) -> dict[str, list[CountMatrix]]:
    """Return, for each aggregation, the matrices whose features are averaged."""
    levels, result = roi.level_image, {}
    if any(a.startswith("3D") for a in aggregations):
        runs = [find_runs(levels, d) for d in VOLUME_DIRECTIONS]
        result["3D_avg"], result["3D_comb"] = _matrices(runs, levels.voxel_count)
    if any(a.startswith("2") for a in aggregations):
        runs = [find_runs(levels, d) for d in PLANE_DIRECTIONS]
        result["2_5D_avg"], result["2_5D_comb"] = _matrices(runs, levels.voxel_count)
        result["2D_avg"], result["2D_comb"] = [], []
        for k in np.flatnonzero(levels.slice_counts):
            plane = [Runs(*(column[r.slices == k] for column in r)) for r in runs]
            directed, combined = _matrices(plane, int(levels.slice_counts[k]))
            result["2D_avg"] += directed
            result["2D_comb"] += combined
    return {name: result[name] for name in aggregations}


def _matrices(runs: list[Runs], voxel_count: int) -> tuple[list[CountMatrix], list[CountMatrix]]:
    """Return the matrix of each direction and, alone in its list, the one merged over directions."""
    directed = [CountMatrix.counted(r.levels, r.lengths, voxel_count) for r in runs]
    return directed, [CountMatrix.merged(directed)]


_glrlm: Any = partial(Feature, family="glrlm", category="statistical", unit="1")

FEATURES: tuple[Feature, ...] = (
    _glrlm(name="short_runs_emphasis", tag="rlm_sre", ibsi="22OV", compute=cm.short_emphasis),
    _glrlm(name="long_runs_emphasis", tag="rlm_lre", ibsi="W4KF", compute=cm.long_emphasis),
    _glrlm(name="low_gray_level_run_emphasis", tag="rlm_lgre", ibsi="V3SW", compute=cm.low_level_emphasis),
    _glrlm(name="high_gray_level_run_emphasis", tag="rlm_hgre", ibsi="G3QZ", compute=cm.high_level_emphasis),
    _glrlm(name="short_run_low_gray_level_emphasis", tag="rlm_srlge", ibsi="HTZT", compute=cm.short_low_level_emphasis),
    _glrlm(
        name="short_run_high_gray_level_emphasis", tag="rlm_srhge", ibsi="GD3A", compute=cm.short_high_level_emphasis
    ),
    _glrlm(name="long_run_low_gray_level_emphasis", tag="rlm_lrlge", ibsi="IVPO", compute=cm.long_low_level_emphasis),
    _glrlm(name="long_run_high_gray_level_emphasis", tag="rlm_lrhge", ibsi="3KUM", compute=cm.long_high_level_emphasis),
    _glrlm(name="gray_level_nonuniformity", tag="rlm_glnu", ibsi="R5YN", compute=cm.level_nonuniformity),
    _glrlm(
        name="normalized_gray_level_nonuniformity",
        tag="rlm_glnu_norm",
        ibsi="OVBL",
        compute=cm.normalized_level_nonuniformity,
    ),
    _glrlm(name="run_length_nonuniformity", tag="rlm_rlnu", ibsi="W92Y", compute=cm.extent_nonuniformity),
    _glrlm(
        name="normalized_run_length_nonuniformity",
        tag="rlm_rlnu_norm",
        ibsi="IC23",
        compute=cm.normalized_extent_nonuniformity,
    ),
    _glrlm(name="run_percentage", tag="rlm_r_perc", ibsi="9ZK5", compute=cm.percentage),
    _glrlm(name="gray_level_variance", tag="rlm_gl_var", ibsi="8CE5", compute=cm.level_variance),
    _glrlm(name="run_length_variance", tag="rlm_rl_var", ibsi="SXLW", compute=cm.extent_variance),
    _glrlm(name="run_entropy", tag="rlm_rl_entr", ibsi="HJ9O", unit="bit", compute=cm.entropy),
)

FAMILY = Family("glrlm", "Gray level run length matrix", "directional", prepare, FEATURES)
