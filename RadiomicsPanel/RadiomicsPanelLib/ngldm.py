"""Neighboring gray level dependence matrix (IBSI family REK0): how many neighbors share a voxel's gray level.

Distance 1, coarseness 0; the dependence is 1 plus the number of equal neighbors. Sun and Wee 1983,
doi 10.1016/0734-189X(83)90032-4.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from RadiomicsPanelLib import count_matrix as cm
from RadiomicsPanelLib.count_matrix import CountMatrix
from RadiomicsPanelLib.feature import Family, Feature
from RadiomicsPanelLib.roi import Roi


def prepare(roi: Roi, aggregations: tuple[str, ...]) -> dict[str, list[CountMatrix]]:
    """Return, for each dimension, the matrices whose features are averaged."""
    levels, result = roi.level_image, {}
    for name in aggregations:
        near = levels.neighborhoods if name == "3D" else levels.plane_neighborhoods
        if name == "2D":
            of_slice = [near.slices == k for k in np.flatnonzero(levels.slice_counts)]
            result[name] = [CountMatrix.counted(near.levels[v], near.equals[v] + 1, int(v.sum())) for v in of_slice]
        else:
            result[name] = [CountMatrix.counted(near.levels, near.equals + 1, levels.voxel_count)]
    return result


_ngldm: Any = partial(Feature, family="ngldm", category="statistical", unit="1")

FEATURES: tuple[Feature, ...] = (
    _ngldm(name="low_dependence_emphasis", tag="ngl_lde", ibsi="SODN", compute=cm.short_emphasis),
    _ngldm(name="high_dependence_emphasis", tag="ngl_hde", ibsi="IMOQ", compute=cm.long_emphasis),
    _ngldm(name="low_gray_level_count_emphasis", tag="ngl_lgce", ibsi="TL9H", compute=cm.low_level_emphasis),
    _ngldm(name="high_gray_level_count_emphasis", tag="ngl_hgce", ibsi="OAE7", compute=cm.high_level_emphasis),
    _ngldm(
        name="low_dependence_low_gray_level_emphasis",
        tag="ngl_ldlge",
        ibsi="EQ3F",
        compute=cm.short_low_level_emphasis,
    ),
    _ngldm(
        name="low_dependence_high_gray_level_emphasis",
        tag="ngl_ldhge",
        ibsi="JA6D",
        compute=cm.short_high_level_emphasis,
    ),
    _ngldm(
        name="high_dependence_low_gray_level_emphasis",
        tag="ngl_hdlge",
        ibsi="NBZI",
        compute=cm.long_low_level_emphasis,
    ),
    _ngldm(
        name="high_dependence_high_gray_level_emphasis",
        tag="ngl_hdhge",
        ibsi="9QMG",
        compute=cm.long_high_level_emphasis,
    ),
    _ngldm(name="gray_level_nonuniformity", tag="ngl_glnu", ibsi="FP8K", compute=cm.level_nonuniformity),
    _ngldm(
        name="normalized_gray_level_nonuniformity",
        tag="ngl_glnu_norm",
        ibsi="5SPA",
        compute=cm.normalized_level_nonuniformity,
        duplicate_of="ih_uniformity",
    ),
    _ngldm(name="dependence_count_nonuniformity", tag="ngl_dcnu", ibsi="Z87G", compute=cm.extent_nonuniformity),
    _ngldm(
        name="normalized_dependence_count_nonuniformity",
        tag="ngl_dcnu_norm",
        ibsi="OKJI",
        compute=cm.normalized_extent_nonuniformity,
    ),
    _ngldm(name="dependence_count_percentage", tag="ngl_dc_perc", ibsi="6XV8", compute=cm.percentage),
    _ngldm(
        name="gray_level_variance",
        tag="ngl_gl_var",
        ibsi="1PFV",
        compute=cm.level_variance,
        duplicate_of="ih_variance",
    ),
    _ngldm(name="dependence_count_variance", tag="ngl_dc_var", ibsi="DNX2", compute=cm.extent_variance),
    _ngldm(name="dependence_count_entropy", tag="ngl_dc_entr", ibsi="FCBV", unit="bit", compute=cm.entropy),
    _ngldm(name="dependence_count_energy", tag="ngl_dc_energy", ibsi="CAS9", compute=cm.energy),
)

FAMILY = Family("ngldm", "Neighboring gray level dependence matrix", "zonal", prepare, FEATURES)
