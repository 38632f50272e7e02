"""The whole list of features: each family file writes out its own part, this file joins them."""

from __future__ import annotations

from collections.abc import Sequence

from BreastBiomarkersLib.errors import InputError

from RadiomicsPanelLib import (
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
)
from RadiomicsPanelLib.feature import Family, Feature

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
)
"""In the order of the IBSI reference tables."""

FEATURES: tuple[Feature, ...] = tuple(feature for family in FAMILIES for feature in family.features)


def select_families(names: Sequence[str] | None = None) -> tuple[Family, ...]:
    """Return the families of these names in catalog order, or all.

    Raises
    ------
    InputError
        If a name is unknown.
    """
    if names is None:
        return FAMILIES
    known = {family.name for family in FAMILIES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"'{unknown[0]}' is no feature family. Known are {', '.join(sorted(known))}.")
    return tuple(family for family in FAMILIES if family.name in names)
