"""The crop around the six points, coarsened so that the longest box side has a chosen number of voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from WeakSegmentLib.points import ExtremePoints

MARGIN_WORKING_VOXELS = 8
"""Background around the box, in working voxels: the negative seeds start at the sixth."""

MIN_MARGIN_VOXELS = 12
"""... and in image voxels, so that small lesions see enough background for the intensity statistics."""


@dataclass(frozen=True, eq=False)
class WorkingGrid:
    """Where the working voxels lie in the image; all triples in array order (K, J, I).

    A working voxel w covers the image voxels start + factors * w ... start + factors * (w + 1) - 1.

    Attributes
    ----------
    start, stop : (3,) ndarray of int
        The crop, in image voxels, `stop` not included.
    factors : (3,) ndarray of int
        Image voxels per working voxel along each axis.
    spacing : (3,) ndarray, mm
        Size of a working voxel.
    shape : tuple of 3 int
        Working voxels of the crop (partly covered ones included).
    box : tuple of 3 slice
        Working voxels that hold part of the box spanned by the points.
    center, half_side : (3,) ndarray
        Middle and half side of the box, in working voxels (not rounded).
    point_voxels : (6, 3) ndarray of int
        Working voxels of the six points.
    """

    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    factors: NDArray[np.int64]
    spacing: NDArray[np.float64]
    shape: tuple[int, int, int]
    box: tuple[slice, ...]
    center: NDArray[np.float64]
    half_side: NDArray[np.float64]
    point_voxels: NDArray[np.int64]

    @classmethod
    def around(
        cls, points: ExtremePoints, shape: tuple[int, int, int], spacing: NDArray[np.float64], longest_side: int
    ) -> WorkingGrid:
        """Return the grid whose longest box side has at most about `longest_side` voxels (more if factors round down).

        Parameters
        ----------
        points : ExtremePoints
        shape : tuple of 3 int
            Voxels of the image (K, J, I).
        spacing : (3,) ndarray, mm
            Voxel size of the image.
        longest_side : int
            Wanted voxels along the longest side of the box.
        """
        box_start, box_stop = points.box_start_kji, points.box_stop_kji
        target_mm = ((box_stop - box_start) * spacing).max() / longest_side
        factors = np.maximum(1, np.floor(target_mm / spacing).astype(np.int64))
        margin = np.maximum(MARGIN_WORKING_VOXELS * factors, MIN_MARGIN_VOXELS)
        start = np.maximum(0, box_start - margin)
        count = -(-(box_stop + margin - start) // factors)
        stop = np.minimum(shape, start + count * factors)
        count = -(-(stop - start) // factors)
        low, high = (box_start - start) // factors, (box_stop - 1 - start) // factors
        return cls(
            start=start,
            stop=stop,
            factors=factors,
            spacing=spacing * factors,
            shape=(int(count[0]), int(count[1]), int(count[2])),
            box=tuple(slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True)),
            center=((box_start + box_stop - 1) / 2 - start - (factors - 1) / 2) / factors,
            half_side=(box_stop - box_start) / 2 / factors,
            point_voxels=(points.voxels_kji - start) // factors,
        )

    @property
    def crop(self) -> tuple[slice, ...]:
        """The crop as an index into the image array."""
        return tuple(slice(int(a), int(b)) for a, b in zip(self.start, self.stop, strict=True))

    def coarsen(self, crop: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the block means of an array on the crop; blocks cut by the image edge repeat their last voxel."""
        full = np.array(self.shape) * self.factors
        padded = np.pad(crop, [(0, int(n)) for n in full - crop.shape], mode="edge")
        k, j, i = self.shape
        fk, fj, fi = (int(f) for f in self.factors)
        mean: NDArray[np.float32] = padded.reshape(k, fk, j, fj, i, fi).mean(axis=(1, 3, 5), dtype=np.float32)
        return mean

    def refine(self, working: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return an array on the crop, tri-linear between working voxel centers, constant beyond the outermost."""
        fine = working
        for axis in range(3):
            if self.factors[axis] == 1:
                continue
            size = int(self.stop[axis] - self.start[axis])
            at = (np.arange(size) - (self.factors[axis] - 1) / 2) / self.factors[axis]
            at = np.clip(at, 0, self.shape[axis] - 1)
            low = np.minimum(at.astype(np.int64), max(self.shape[axis] - 2, 0))
            high = np.minimum(low + 1, self.shape[axis] - 1)
            weight = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
            fine = np.take(fine, low, axis) * (1 - weight) + np.take(fine, high, axis) * weight
        return fine

    def ellipsoid_radius(self) -> NDArray[np.float32]:
        """Return the distance from the box center in units of the half sides: 1 on the inscribed ellipsoid."""
        squares = [((np.arange(self.shape[axis]) - self.center[axis]) / self.half_side[axis]) ** 2 for axis in range(3)]
        radius: NDArray[np.float32] = np.sqrt(
            squares[0][:, None, None] + squares[1][:, None] + squares[2], dtype=np.float32
        )
        return radius

    def box_mask(self, grow: int = 0) -> NDArray[np.bool_]:
        """Return True inside the box, grown by a number of working voxels on each side."""
        inside = np.zeros(self.shape, dtype=bool)
        inside[tuple(slice(max(0, s.start - grow), s.stop + grow) for s in self.box)] = True
        return inside
