"""Gray level size zone matrix (IBSI family 9SAK): how many connected zones of each size each level has.

Thibault 2014, doi 10.1109/TBME.2013.2284600.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from RadiomicsPanelLib import count_matrix as cm
from RadiomicsPanelLib.count_matrix import CountMatrix
from RadiomicsPanelLib.feature import Family, Feature
from RadiomicsPanelLib.level_image import LevelImage
from RadiomicsPanelLib.roi import Roi


def prepare(roi: Roi, aggregations: tuple[str, ...]) -> dict[str, list[CountMatrix]]:
    """Return, for each dimension, the matrices whose features are averaged."""
    return zone_matrices(roi.level_image, aggregations, "sizes")


def zone_matrices(levels: LevelImage, aggregations: tuple[str, ...], extent: str) -> dict[str, list[CountMatrix]]:
    """Return the matrices of zones by their `extent`, "sizes" or "distances", for 2D, 2_5D and 3D."""
    result = {}
    for name in aggregations:
        zones = levels.zones if name == "3D" else levels.plane_zones
        extents: NDArray[np.int64] = getattr(zones, extent)
        if name == "2D":
            of_slice = [(zones.slices == k, int(levels.slice_counts[k])) for k in np.flatnonzero(levels.slice_counts)]
            result[name] = [CountMatrix.counted(zones.levels[z], extents[z], voxels) for z, voxels in of_slice]
        else:
            result[name] = [CountMatrix.counted(zones.levels, extents, levels.voxel_count)]
    return result


_glszm: Any = partial(Feature, family="glszm", category="statistical", unit="1")

FEATURES: tuple[Feature, ...] = (
    _glszm(name="small_zone_emphasis", tag="szm_sze", ibsi="5QRC", compute=cm.short_emphasis),
    _glszm(name="large_zone_emphasis", tag="szm_lze", ibsi="48P8", compute=cm.long_emphasis),
    _glszm(name="low_gray_level_zone_emphasis", tag="szm_lgze", ibsi="XMSY", compute=cm.low_level_emphasis),
    _glszm(name="high_gray_level_zone_emphasis", tag="szm_hgze", ibsi="5GN9", compute=cm.high_level_emphasis),
    _glszm(
        name="small_zone_low_gray_level_emphasis", tag="szm_szlge", ibsi="5RAI", compute=cm.short_low_level_emphasis
    ),
    _glszm(
        name="small_zone_high_gray_level_emphasis", tag="szm_szhge", ibsi="HW1V", compute=cm.short_high_level_emphasis
    ),
    _glszm(name="large_zone_low_gray_level_emphasis", tag="szm_lzlge", ibsi="YH51", compute=cm.long_low_level_emphasis),
    _glszm(
        name="large_zone_high_gray_level_emphasis", tag="szm_lzhge", ibsi="J17V", compute=cm.long_high_level_emphasis
    ),
    _glszm(name="gray_level_nonuniformity", tag="szm_glnu", ibsi="JNSA", compute=cm.level_nonuniformity),
    _glszm(
        name="normalized_gray_level_nonuniformity",
        tag="szm_glnu_norm",
        ibsi="Y1RO",
        compute=cm.normalized_level_nonuniformity,
    ),
    _glszm(name="zone_size_nonuniformity", tag="szm_zsnu", ibsi="4JP3", compute=cm.extent_nonuniformity),
    _glszm(
        name="normalized_zone_size_nonuniformity",
        tag="szm_zsnu_norm",
        ibsi="VB3A",
        compute=cm.normalized_extent_nonuniformity,
    ),
    _glszm(name="zone_percentage", tag="szm_z_perc", ibsi="P30P", compute=cm.percentage),
    _glszm(name="gray_level_variance", tag="szm_gl_var", ibsi="BYLV", compute=cm.level_variance),
    _glszm(name="zone_size_variance", tag="szm_zs_var", ibsi="3NSA", compute=cm.extent_variance),
    _glszm(name="zone_size_entropy", tag="szm_zs_entr", ibsi="GU8N", unit="bit", compute=cm.entropy),
)

FAMILY = Family("glszm", "Gray level size zone matrix", "zonal", prepare, FEATURES)
