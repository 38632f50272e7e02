"""Features of a segment divided into habitats: size and place of each, how they touch, and how diverse they are.

None is standardized by IBSI. p is the share of voxels of each habitat.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from RadiomicsPanelLib import glcm
from RadiomicsPanelLib.feature import Feature, NotApplicable
from RadiomicsPanelLib.glcm import Glcm, count_pairs
from RadiomicsPanelLib.level_image import VOLUME_DIRECTIONS, LevelImage

_TOUCHING = np.ones((3, 3, 3))


class Division:
    """A segment divided into habitats.

    Attributes
    ----------
    labels : (K, J, I) ndarray of int
        Habitat 1 to `count`, 0 outside; cut to the segment.
    count : int
        Habitats that could occur; one may be absent.
    spacing : (3,) ndarray, mm
    centers : (count, channels) ndarray
        Mean of each habitat in standardized channels; not a number if absent.
    """

    def __init__(
        self,
        labels: NDArray[Any],
        count: int,
        spacing_kji_mm: NDArray[np.float64],
        centers: NDArray[np.float64],
    ) -> None:
        box = ndimage.find_objects((labels > 0).astype(np.uint8))[0]
        self.labels, self.count, self.spacing, self.centers = labels[box], count, spacing_kji_mm, centers

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """(count,) share of the segment's voxels in each habitat."""
        counts = np.bincount(self.labels[self.labels > 0], minlength=self.count + 1)[1:]
        return counts / counts.sum()

    @cached_property
    def present(self) -> NDArray[np.float64]:
        """Shares above 0."""
        return self.shares[self.shares > 0]

    @cached_property
    def depths(self) -> NDArray[np.float64]:
        """(K, J, I) distance to the outside as a share of the largest."""
        distances = ndimage.distance_transform_edt(np.pad(self.labels > 0, 1), self.spacing)[1:-1, 1:-1, 1:-1]
        return distances / distances.max()

    @cached_property
    def border(self) -> NDArray[np.bool_]:
        """(K, J, I) voxels of the segment with a face to the outside."""
        inside = np.pad(self.labels > 0, 1)
        return (inside & ~ndimage.binary_erosion(inside))[1:-1, 1:-1, 1:-1]

    @cached_property
    def contacts(self) -> Glcm:
        """Neighboring voxels (26) by their habitats, the outside being one more: level 1 outside, 2 habitat 1, ..."""
        levels = LevelImage.from_levels(np.pad(self.labels, 1) + 1, self.count + 1)
        counts = count_pairs(levels, VOLUME_DIRECTIONS).sum(axis=0)
        counts[0, 0] = 0  # how much outside there is depends on the box
        return Glcm(counts, self.count + 1)

    def component_sizes(self, number: int) -> NDArray[np.int64]:
        """Return the voxels of each connected part (26 neighbors) of a habitat."""
        return _part_sizes(self.labels == number, _TOUCHING)


class Habitat:
    """One habitat of a division."""

    def __init__(self, division: Division, number: int) -> None:
        self.division, self.number = division, number

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """(K, J, I) where the habitat is.

        Raises
        ------
        NotApplicable
            If it is absent.
        """
        mask = self.division.labels == self.number
        if not mask.any():
            raise NotApplicable("the habitat is absent")
        return mask

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Voxels of its connected parts."""
        return self.division.component_sizes(self.number)


def volume_fraction(h: Habitat) -> float:
    """Return the habitat's share of the segment."""
    return float(h.division.shares[h.number - 1])


def component_count(h: Habitat) -> float:
    """Return the number of connected parts."""
    return float(len(h.sizes))


def largest_component_fraction(h: Habitat) -> float:
    """Return the largest connected part's share of the habitat."""
    return float(h.sizes.max(initial=0) / h.mask.sum())


def mean_depth(h: Habitat) -> float:
    """Return the mean distance to the outside, as a share of the segment's largest."""
    return float(h.division.depths[h.mask].mean())


def border_fraction(h: Habitat) -> float:
    """Return the habitat's share of the segment's border voxels."""
    return float((h.mask & h.division.border).sum() / h.division.border.sum())


def richness(d: Division) -> float:
    """Return the number of habitats present."""
    return float(len(d.present))


def shannon(d: Division) -> float:
    """Return -sum p ln p."""
    return float(-np.sum(d.present * np.log(d.present))) + 0.0


def evenness(d: Division) -> float:
    """Return the Shannon diversity over its maximum, the logarithm of the number of habitats present.

    Raises
    ------
    NotApplicable
        If only one habitat is present.
    """
    if len(d.present) < 2:
        raise NotApplicable("only one habitat is present")
    return shannon(d) / float(np.log(len(d.present)))


def simpson(d: Division) -> float:
    """Return 1 - sum p^2."""
    return float(1 - np.sum(d.present**2))


def rao(d: Division) -> float:
    """Return sum d p p over pairs of habitats, d the distance of their means in standardized channels."""
    here = d.shares > 0
    distances = np.linalg.norm(d.centers[here][:, None] - d.centers[here], axis=-1)
    return float(d.present @ distances @ d.present)


def contact_contrast(d: Division) -> float:
    """Return sum (i - j)^2 p over neighboring voxels, the outside being habitat 0."""
    return glcm.contrast(d.contacts)


def contact_energy(d: Division) -> float:
    """Return sum p^2 over the entries of the contact matrix."""
    return glcm.angular_second_moment(d.contacts)


def contact_homogeneity(d: Division) -> float:
    """Return sum p / (1 + (i - j)^2) over the entries of the contact matrix."""
    return glcm.inverse_difference_moment(d.contacts)


def contact_correlation(d: Division) -> float:
    """Return the correlation of the habitats of neighboring voxels."""
    return glcm.correlation(d.contacts)


def ith_3d(d: Division) -> float:
    """Return 1 - sum over habitats of (largest part / number of parts) / voxels, parts of one voxel left out."""
    return _ith(d.labels, _TOUCHING, d.count)


def ith_2d(d: Division) -> float:
    """Return the same in the slice with most voxels, as published."""
    slices = (d.labels > 0).sum(axis=(1, 2))
    return _ith(d.labels[int(np.argmax(slices))], _TOUCHING[0], d.count)


def _part_sizes(mask: NDArray[np.bool_], touching: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.bincount(ndimage.label(mask, touching)[0].ravel())[1:]


def _ith(labels: NDArray[Any], touching: NDArray[np.float64], count: int) -> float:
    total = 0.0
    for number in range(1, count + 1):
        sizes = _part_sizes(labels == number, touching)
        sizes = sizes[sizes > 1]
        total += sizes.max() / len(sizes) if len(sizes) else 0.0
    return float(1 - total / np.count_nonzero(labels))


_GATENBY = "Gatenby 2013, doi 10.1148/radiol.13122697"
_WU = "multiregional spatial interaction matrix, Wu 2018, doi 10.1148/radiol.2018172462"
_LI = "Li 2023, doi 10.1007/s00330-022-09055-0"
_RAO = "Rao 1982, doi 10.1016/0040-5809(82)90004-1"
_SHANNON = "Shannon 1948, doi 10.1002/j.1538-7305.1948.tb01338.x"
_SIMPSON = "Simpson 1949, doi 10.1038/163688a0"

_habitat: Any = partial(Feature, family="habitat", category="regional", ibsi="", unit="1", reference=_GATENBY)
_division: Any = partial(Feature, family="habitats", category="regional", ibsi="", unit="1")

HABITAT_FEATURES: tuple[Feature, ...] = (
    _habitat(name="volume_fraction", tag="habitat_volume", compute=volume_fraction),
    _habitat(name="component_count", tag="habitat_parts", compute=component_count),
    _habitat(name="largest_component_fraction", tag="habitat_largest", compute=largest_component_fraction),
    _habitat(name="mean_depth", tag="habitat_depth", compute=mean_depth),
    _habitat(name="border_fraction", tag="habitat_border", compute=border_fraction),
)
"""Of each habitat."""

DIVISION_FEATURES: tuple[Feature, ...] = (
    _division(name="richness", tag="habitats_richness", compute=richness, reference=_GATENBY),
    _division(name="shannon", tag="habitats_shannon", unit="nat", compute=shannon, reference=_SHANNON),
    _division(name="evenness", tag="habitats_evenness", compute=evenness, reference=_SHANNON),
    _division(name="simpson", tag="habitats_simpson", compute=simpson, reference=_SIMPSON),
    _division(name="rao", tag="habitats_rao", compute=rao, reference=_RAO),
    _division(name="contact_contrast", tag="habitats_msi_contrast", compute=contact_contrast, reference=_WU),
    _division(name="contact_energy", tag="habitats_msi_energy", compute=contact_energy, reference=_WU),
    _division(name="contact_homogeneity", tag="habitats_msi_hom", compute=contact_homogeneity, reference=_WU),
    _division(name="contact_correlation", tag="habitats_msi_corr", compute=contact_correlation, reference=_WU),
    _division(name="ith_3d", tag="habitats_ith_3d", compute=ith_3d, reference=_LI),
    _division(name="ith_2d", tag="habitats_ith_2d", compute=ith_2d, reference=_LI),
)
"""Of all habitats together."""
