"""What a feature is: a name, its place in the review and in IBSI, and a small function of a prepared matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from RadiomicsPanelLib.roi import Roi

Category = Literal["morphological", "statistical", "regional", "skeleton"]
"""The four groups of Lee et al., "Radiomics in Oncology: Method and Clinical Applications"."""

IBSI = "IBSI-1, doi 10.1148/radiol.2020191145"

AGGREGATIONS = ("2D_avg", "2D_comb", "2_5D_avg", "2_5D_comb", "3D_avg", "3D_comb")
"""How matrices of several slices and directions become one number, named as in the IBSI reference tables.

2D: a matrix per slice; 2_5D: slices merged; 3D: the whole volume. avg: features of each direction's matrix are
averaged; comb: the matrices of all directions are merged first.
"""


class NotApplicable(Exception):  # noqa: N818 - it is a status of one value, not an error
    """A feature is not defined for this region; the message says why. It never becomes a number."""


@dataclass(frozen=True)
class Feature:
    """One entry of the catalog.

    Attributes
    ----------
    name : str
        Readable name, unique within its family ("contrast").
    family : str
        Family name ("glcm").
    category : str
        Group of the review: morphological, statistical, regional or skeleton.
    tag : str
        Stem of the tag used in the IBSI reference tables ("cm_contrast").
    ibsi : str
        IBSI code ("ACUI"); empty if IBSI does not define the feature.
    unit : str
        "1", "mm", "mm^2", "mm^3", "1/mm"; an "I" stands for the unit of the image's intensities.
    compute : callable
        Function of one prepared object (a matrix, a histogram, a shape) to a float; raises `NotApplicable`.
    duplicate_of : str
        `key` of a feature it equals by algebra, up to a constant factor, when one matrix covers the region.
    reference : str
        Where the definition is.
    """

    name: str
    family: str
    category: Category
    tag: str
    ibsi: str
    unit: str
    compute: Callable[[Any], float]
    duplicate_of: str = ""
    reference: str = IBSI

    @property
    def key(self) -> str:
        """Name that is unique in the catalog ("glcm_contrast")."""
        return f"{self.family}_{self.name}"

    @property
    def standardized(self) -> bool:
        """Whether IBSI defines the feature."""
        return bool(self.ibsi)


@dataclass(frozen=True)
class Family:
    """Features that share a preparation.

    Attributes
    ----------
    name, title : str
        Short name for tables ("glcm") and full name for people.
    kind : str
        "region": one value; "directional": one per aggregation; "zonal": one per dimension (2D, 2_5D, 3D).
    prepare : callable
        From a region and the wanted aggregations to, for each, the prepared objects whose features are averaged.
    features : tuple of Feature
    of_responses : bool
        Whether the family is measured in filtered images too.
    """

    name: str
    title: str
    kind: Literal["region", "directional", "zonal"]
    prepare: Callable[[Roi, tuple[str, ...]], Mapping[str, list[Any]]]
    features: tuple[Feature, ...]
    of_responses: bool = True

    def aggregations(self, wanted: tuple[str, ...]) -> tuple[str, ...]:
        """Return what the wanted aggregations mean for this family: themselves, their dimensions, or ("",)."""
        if self.kind == "region":
            return ("",)
        if self.kind == "directional":
            return wanted
        return tuple(dict.fromkeys(a.removesuffix("_avg").removesuffix("_comb") for a in wanted))
