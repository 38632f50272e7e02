"""A segment as one solid piece on cubic voxels: what skeleton, thickness and deformation are measured on."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from RadiomicsPanelLib.feature import NotApplicable
from RadiomicsPanelLib.roi import Roi

COARSEST_MM = 1.0
MAX_VOXELS = 25_000
"""Larger segments are represented by coarser voxels: a ball of 36 mm still has voxels of 1 mm."""

_HALF = 0.5 - 1e-9


class Solid:
    """The largest part of a morphological mask, its holes filled, on cubic voxels with a margin of one around it.

    Attributes
    ----------
    spacing : float, mm
        The smallest of the region's, at most 1 mm; more if that takes more than 25 000 voxels.
    mask : (K, J, I) ndarray of bool

    Raises
    ------
    NotApplicable
        If fewer than two voxels remain on the cubic grid.
    """

    def __init__(self, mask: NDArray[np.bool_], spacing_kji_mm: NDArray[np.float64]) -> None:
        box = ndimage.find_objects(mask.astype(np.uint8))[0]
        parts, count = ndimage.label(mask[box], np.ones((3, 3, 3)))
        largest = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1 if count > 1 else mask[box]
        volume = np.count_nonzero(largest) * float(np.prod(spacing_kji_mm))
        self.spacing = max(min(float(spacing_kji_mm.min()), COARSEST_MM), (volume / MAX_VOXELS) ** (1 / 3))
        filled = ndimage.binary_fill_holes(_on_cubes(largest, spacing_kji_mm, self.spacing))
        if np.count_nonzero(filled) < 2:
            raise NotApplicable("the segment is too thin for cubic voxels")
        parts, count = ndimage.label(filled, np.ones((3, 3, 3)))
        if count > 1:  # a bridge thinner than a voxel is lost
            filled = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1
        self.mask: NDArray[np.bool_] = np.pad(filled, 1)

    @classmethod
    def of(cls, roi: Roi) -> Solid:
        """Return the solid of a region's morphological mask."""
        return cls(roi.morphological_mask, roi.spacing)

    @cached_property
    def distances(self) -> NDArray[np.float64]:
        """(K, J, I) distance in mm to the nearest voxel center outside, the radius of the ball that fits around."""
        return ndimage.distance_transform_edt(self.mask, self.spacing)

    @cached_property
    def outer_distances(self) -> NDArray[np.float64]:
        """(K, J, I) distance in mm to the nearest voxel center inside."""
        return ndimage.distance_transform_edt(~self.mask, self.spacing)

    @cached_property
    def radius(self) -> float:
        """Radius in mm of the largest ball inside."""
        return float(self.distances.max())

    @cached_property
    def voxels(self) -> NDArray[np.int64]:
        """(n, 3) indices of the voxels inside."""
        return np.argwhere(self.mask)


def _on_cubes(mask: NDArray[np.bool_], spacing: NDArray[np.float64], target: float) -> NDArray[np.bool_]:
    """Return the mask on cubic voxels around the same center, interpolated linearly and kept from one half."""
    if np.abs(spacing / target - 1).max() < 1e-6:
        return mask
    padded = np.pad(mask, 1).astype(np.float64)
    step = target / spacing
    size = np.ceil(np.round(np.array(padded.shape) / step, 3)).astype(int)
    offset = (np.array(padded.shape) - 1) / 2 - (size - 1) / 2 * step
    return ndimage.affine_transform(padded, step, offset, tuple(size), order=1, mode="constant") >= _HALF
