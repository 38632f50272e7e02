"""The whole list of features: each family file writes out its own part, this file joins them."""

from __future__ import annotations

from collections.abc import Sequence

from BreastBiomarkersLib.errors import InputError

from RadiomicsPanelLib import (
    depth,
    glcm,
    gldzm,
    glrlm,
    glszm,
    histogram,
    intensity,
    ivh,
    local_intensity,
    morphology,
    ngldm,
    ngtdm,
    skeleton_features,
)
from RadiomicsPanelLib.feature import Family, Feature
from RadiomicsPanelLib.habitat_features import DIVISION_FEATURES, HABITAT_FEATURES

FAMILIES: tuple[Family, ...] = (
    morphology.FAMILY,
    local_intensity.FAMILY,
    intensity.FAMILY,
    histogram.FAMILY,
    ivh.FAMILY,
    glcm.FAMILY,
    glrlm.FAMILY,
    glszm.FAMILY,
    gldzm.FAMILY,
    ngtdm.FAMILY,
    ngldm.FAMILY,
    depth.FAMILY,
    skeleton_features.FAMILY,
)
"""IBSI's in the order of its reference tables, then ours."""

FEATURES: tuple[Feature, ...] = tuple(feature for family in FAMILIES for feature in family.features)
"""Of a region."""

ALL_FEATURES: tuple[Feature, ...] = (*FEATURES, *HABITAT_FEATURES, *DIVISION_FEATURES)
"""Those of a region divided into habitats too, which `RadiomicsPanelLib.habitats` computes."""


def select_features(names: Sequence[str] | None = None) -> list[tuple[Family, tuple[Feature, ...]]]:
    """Return the named features with their families, in catalog order; None for all.

    Parameters
    ----------
    names : sequence of str, optional
        Families ("glcm") and single features by key ("morph_sphericity").

    Raises
    ------
    InputError
        If a name is neither.
    """
    if names is None:
        return [(family, family.features) for family in FAMILIES]
    known = {family.name for family in FAMILIES} | {feature.key for feature in FEATURES}
    unknown = [name for name in names if name not in known]
    if unknown:
        families = ", ".join(family.name for family in FAMILIES)
        raise InputError(f"'{unknown[0]}' is neither a feature nor a family ({families}).")
    chosen = [
        (family, tuple(f for f in family.features if family.name in names or f.key in names)) for family in FAMILIES
    ]
    return [(family, features) for family, features in chosen if features]
