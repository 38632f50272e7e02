"""Intensity against depth: shells from border to center, rim and core, and the ring of tissue around the segment.

The depth of a voxel is its distance in mm to the nearest border voxel (one with a face to the outside) of the
morphological mask; a share of the largest depth makes segments of different size comparable. Not standardized by IBSI.
Rim and peritumoral ring after Braman 2017, doi 10.1186/s13058-017-0846-1.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from RadiomicsPanelLib.feature import Family, Feature, NotApplicable
from RadiomicsPanelLib.roi import Roi

SHELLS = 5
RIM_MM = 3.0
RING_MM = 5.0
"""Width of the ring; less than `roi.CONTEXT_MM`, so that the image around the region holds it."""


class Depth:
    """Depths and intensities of the region's voxels, and the intensities around it.

    Attributes
    ----------
    intensities : (n,) ndarray
    """

    def __init__(self, roi: Roi) -> None:
        self.roi = roi
        self.intensities = roi.intensities

    @cached_property
    def _away(self) -> NDArray[np.float64]:
        """(K, J, I) distance in mm to the border voxels, negative inside; the edge of the image counts as outside."""
        mask = sitk.GetImageFromArray(np.pad(self.roi.morphological_mask, 1).astype(np.uint8))
        mask.SetSpacing(self.roi.spacing[::-1].tolist())
        return sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(mask, False, False, True))[1:-1, 1:-1, 1:-1]

    @cached_property
    def depths(self) -> NDArray[np.float64]:
        """(n,) distance in mm to the nearest border voxel."""
        return np.maximum(-self._away[self.roi.intensity_mask].astype(np.float64), 0.0)

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """(n,) depths as shares of the largest in the morphological mask.

        Raises
        ------
        NotApplicable
            If every voxel is at the border.
        """
        deepest = -float(self._away[self.roi.morphological_mask].min())
        if deepest <= 0:
            raise NotApplicable("every voxel is at the border")
        return self.depths / deepest

    def shell_mean(self, number: int) -> float:
        """Return the mean intensity of a shell, 1 at the border to `SHELLS` at the center."""
        shells = np.clip(np.ceil(self.shares * SHELLS - 1e-6), 1, SHELLS)
        return self._mean(shells == number, f"no voxel lies in shell {number} of {SHELLS}")

    @property
    def rim_mean(self) -> float:
        """Mean intensity of the outer `RIM_MM`."""
        return self._mean(self.depths <= RIM_MM, f"no voxel lies in the outer {RIM_MM:g} mm")

    @property
    def core_mean(self) -> float:
        """Mean intensity of what lies deeper than `RIM_MM`."""
        return self._mean(self.depths > RIM_MM, f"no voxel lies deeper than {RIM_MM:g} mm")

    @cached_property
    def ring(self) -> NDArray[np.float64]:
        """Intensities of the usable voxels around the region, up to `RING_MM` away.

        Raises
        ------
        NotApplicable
            If there are fewer than two.
        """
        roi = self.roi
        near = self._away <= RING_MM * (1 + 1e-6)  # distances are 32-bit
        ring = near & ~roi.morphological_mask & np.isfinite(roi.image.array)
        if roi.exclusion is not None:
            ring &= ~roi.exclusion
        if np.count_nonzero(ring) < 2:
            raise NotApplicable(f"fewer than two usable voxels lie within {RING_MM:g} mm around the segment")
        return roi.image.array[ring]

    def _mean(self, chosen: NDArray[np.bool_], reason: str) -> float:
        if not chosen.any():
            raise NotApplicable(reason)
        return float(self.intensities[chosen].mean())


def prepare(roi: Roi, aggregations: tuple[str, ...]) -> dict[str, list[Depth]]:
    """Return the region's depths."""
    return {"": [Depth(roi)]}


def shell_1_mean(d: Depth) -> float:
    """Return the mean intensity of the outermost fifth of the depth."""
    return d.shell_mean(1)


def shell_2_mean(d: Depth) -> float:
    """Return the mean intensity of the second fifth of the depth."""
    return d.shell_mean(2)


def shell_3_mean(d: Depth) -> float:
    """Return the mean intensity of the third fifth of the depth."""
    return d.shell_mean(3)


def shell_4_mean(d: Depth) -> float:
    """Return the mean intensity of the fourth fifth of the depth."""
    return d.shell_mean(4)


def shell_5_mean(d: Depth) -> float:
    """Return the mean intensity of the innermost fifth of the depth."""
    return d.shell_mean(5)


def slope(d: Depth) -> float:
    """Return the slope of the straight line through intensity against depth (0 border, 1 center).

    Raises
    ------
    NotApplicable
        If all voxels lie at one depth.
    """
    x = d.shares - d.shares.mean()
    if np.ptp(d.shares) == 0:
        raise NotApplicable("all voxels lie at one depth")
    return float(x @ d.intensities / (x @ x))


def rim_mean(d: Depth) -> float:
    """Return the mean intensity of the outer 3 mm."""
    return d.rim_mean


def core_mean(d: Depth) -> float:
    """Return the mean intensity of what lies deeper than 3 mm."""
    return d.core_mean


def rim_to_core_ratio(d: Depth) -> float:
    """Return the mean intensity of the rim over that of the core.

    Raises
    ------
    NotApplicable
        If the mean of the core is 0.
    """
    if d.core_mean == 0:
        raise NotApplicable("the mean of the core is 0")
    return d.rim_mean / d.core_mean


def ring_mean(d: Depth) -> float:
    """Return the mean intensity up to 5 mm outside the segment, without excluded voxels."""
    return float(d.ring.mean())


def ring_standard_deviation(d: Depth) -> float:
    """Return the standard deviation of the intensities up to 5 mm outside the segment."""
    return float(d.ring.std())


def ring_contrast(d: Depth) -> float:
    """Return the mean intensity of the region minus that of the ring."""
    return float(d.intensities.mean() - d.ring.mean())


_depth: Any = partial(
    Feature,
    family="depth",
    category="regional",
    ibsi="",
    unit="I",
    reference="RadiomicsPanelLib/depth.py; ring after Braman 2017, doi 10.1186/s13058-017-0846-1",
)

FEATURES: tuple[Feature, ...] = (
    _depth(name="shell_1_mean", tag="depth_shell_1", compute=shell_1_mean),
    _depth(name="shell_2_mean", tag="depth_shell_2", compute=shell_2_mean),
    _depth(name="shell_3_mean", tag="depth_shell_3", compute=shell_3_mean),
    _depth(name="shell_4_mean", tag="depth_shell_4", compute=shell_4_mean),
    _depth(name="shell_5_mean", tag="depth_shell_5", compute=shell_5_mean),
    _depth(name="slope", tag="depth_slope", compute=slope),
    _depth(name="rim_mean", tag="depth_rim", compute=rim_mean),
    _depth(name="core_mean", tag="depth_core", compute=core_mean),
    _depth(name="rim_to_core_ratio", tag="depth_rim_to_core", unit="1", compute=rim_to_core_ratio),
    _depth(name="ring_mean", tag="depth_ring", compute=ring_mean),
    _depth(name="ring_standard_deviation", tag="depth_ring_sd", compute=ring_standard_deviation),
    _depth(name="ring_contrast", tag="depth_ring_contrast", compute=ring_contrast),
)

FAMILY = Family("depth", "Depth profile and surroundings", "region", prepare, FEATURES)
