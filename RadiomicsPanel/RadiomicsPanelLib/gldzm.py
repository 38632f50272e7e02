"""Gray level distance zone matrix (IBSI family VMDZ): how deep under the border the zones of each level lie.

The distance is counted in voxels across faces, from the border of the morphological mask (border = 1), to the zone's
nearest voxel. Thibault 2014, doi 10.1109/TBME.2013.2284600.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from RadiomicsPanelLib import count_matrix as cm
from RadiomicsPanelLib.count_matrix import CountMatrix
from RadiomicsPanelLib.feature import Family, Feature
from RadiomicsPanelLib.glszm import zone_matrices
from RadiomicsPanelLib.roi import Roi


def prepare(roi: Roi, aggregations: tuple[str, ...]) -> dict[str, list[CountMatrix]]:
    """Return, for each dimension, the matrices whose features are averaged."""
    return zone_matrices(roi.level_image, aggregations, "distances")


_gldzm: Any = partial(Feature, family="gldzm", category="regional", unit="1")

FEATURES: tuple[Feature, ...] = (
    _gldzm(name="small_distance_emphasis", tag="dzm_sde", ibsi="0GBI", compute=cm.short_emphasis),
    _gldzm(name="large_distance_emphasis", tag="dzm_lde", ibsi="MB4I", compute=cm.long_emphasis),
    _gldzm(
        name="low_gray_level_zone_emphasis",
        tag="dzm_lgze",
        ibsi="S1RA",
        compute=cm.low_level_emphasis,
        duplicate_of="glszm_low_gray_level_zone_emphasis",
    ),
    _gldzm(
        name="high_gray_level_zone_emphasis",
        tag="dzm_hgze",
        ibsi="K26C",
        compute=cm.high_level_emphasis,
        duplicate_of="glszm_high_gray_level_zone_emphasis",
    ),
    _gldzm(
        name="small_distance_low_gray_level_emphasis",
        tag="dzm_sdlge",
        ibsi="RUVG",
        compute=cm.short_low_level_emphasis,
    ),
    _gldzm(
        name="small_distance_high_gray_level_emphasis",
        tag="dzm_sdhge",
        ibsi="DKNJ",
        compute=cm.short_high_level_emphasis,
    ),
    _gldzm(
        name="large_distance_low_gray_level_emphasis",
        tag="dzm_ldlge",
        ibsi="A7WM",
        compute=cm.long_low_level_emphasis,
    ),
    _gldzm(
        name="large_distance_high_gray_level_emphasis",
        tag="dzm_ldhge",
        ibsi="KLTH",
        compute=cm.long_high_level_emphasis,
    ),
    _gldzm(
        name="gray_level_nonuniformity",
        tag="dzm_glnu",
        ibsi="VFT7",
        compute=cm.level_nonuniformity,
        duplicate_of="glszm_gray_level_nonuniformity",
    ),
    _gldzm(
        name="normalized_gray_level_nonuniformity",
        tag="dzm_glnu_norm",
        ibsi="7HP3",
        compute=cm.normalized_level_nonuniformity,
        duplicate_of="glszm_normalized_gray_level_nonuniformity",
    ),
    _gldzm(name="zone_distance_nonuniformity", tag="dzm_zdnu", ibsi="V294", compute=cm.extent_nonuniformity),
    _gldzm(
        name="normalized_zone_distance_nonuniformity",
        tag="dzm_zdnu_norm",
        ibsi="IATH",
        compute=cm.normalized_extent_nonuniformity,
    ),
    _gldzm(
        name="zone_percentage",
        tag="dzm_z_perc",
        ibsi="VIWW",
        compute=cm.percentage,
        duplicate_of="glszm_zone_percentage",
    ),
    _gldzm(
        name="gray_level_variance",
        tag="dzm_gl_var",
        ibsi="QK93",
        compute=cm.level_variance,
        duplicate_of="glszm_gray_level_variance",
    ),
    _gldzm(name="zone_distance_variance", tag="dzm_zd_var", ibsi="7WT1", compute=cm.extent_variance),
    _gldzm(name="zone_distance_entropy", tag="dzm_zd_entr", ibsi="GBDU", unit="bit", compute=cm.entropy),
)

FAMILY = Family("gldzm", "Gray level distance zone matrix", "zonal", prepare, FEATURES)
