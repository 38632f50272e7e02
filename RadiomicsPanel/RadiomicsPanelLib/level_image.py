"""The gray levels of a region and what several families count in them: voxel pairs, zones, neighborhoods."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

PLANE_DIRECTIONS = ((0, 0, 1), (0, 1, -1), (0, 1, 0), (0, 1, 1))
"""The 4 steps (K, J, I) to half of the 8 neighbors inside a slice."""

VOLUME_DIRECTIONS = (
    *PLANE_DIRECTIONS,
    *((1, j, i) for j in (-1, 0, 1) for i in (-1, 0, 1)),
)
"""The 13 steps (K, J, I) to half of the 26 neighbors."""


class Zones(NamedTuple):
    """Connected voxels of one gray level (26 neighbors, or 8 inside a slice), one entry per zone.

    Attributes
    ----------
    levels, sizes, distances, slices : (n,) ndarray of int
        Gray level; number of voxels; smallest distance to the border of the morphological mask in voxels (border = 1,
        6 neighbors, or 4 inside a slice); slice of one of its voxels.
    """

    levels: NDArray[np.int64]
    sizes: NDArray[np.int64]
    distances: NDArray[np.int64]
    slices: NDArray[np.int64]


class Neighborhoods(NamedTuple):
    """The neighbors of each voxel of the region (26, or 8 inside a slice) that lie in the region too.

    Attributes
    ----------
    levels, slices : (n,) ndarray of int
        Of the voxel itself.
    sums, counts, equals : (n,) ndarray of int
        Sum of the neighbors' levels, their number, and how many have the voxel's own level.
    """

    levels: NDArray[np.int64]
    slices: NDArray[np.int64]
    sums: NDArray[np.int64]
    counts: NDArray[np.int64]
    equals: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LevelImage:
    """Gray levels in the bounding box of the intensity mask.

    Attributes
    ----------
    levels : (K, J, I) ndarray of the smallest unsigned integer that holds them
        1 to `level_count` inside, 0 outside.
    level_count : int
    morphological_mask : (K', J', I') ndarray of bool
        On a larger grid, of which `box` is the part shown here.
    box : tuple of slice
    """

    levels: NDArray[Any]
    level_count: int
    morphological_mask: NDArray[np.bool_]
    box: tuple[slice, ...]

    @classmethod
    def from_levels(
        cls,
        levels: NDArray[Any],
        level_count: int,
        morphological_mask: NDArray[np.bool_] | None = None,
        box: tuple[slice, ...] | None = None,
    ) -> LevelImage:
        """Return the level image in compact storage; without a morphological mask it is where a level is."""
        compact = levels.astype(np.min_scalar_type(level_count))
        if morphological_mask is None or box is None:
            return cls(compact, level_count, compact > 0, tuple(slice(0, n) for n in compact.shape))
        return cls(compact, level_count, morphological_mask, box)

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """(K, J, I) where the region is."""
        return self.levels > 0

    @cached_property
    def voxel_count(self) -> int:
        """Number of voxels in the region."""
        return int(np.count_nonzero(self.levels))

    @cached_property
    def padded(self) -> NDArray[Any]:
        """(K + 2, J + 2, I + 2) levels with a margin of one."""
        return np.pad(self.levels, 1)

    @cached_property
    def padded_voxels(self) -> NDArray[np.int64]:
        """Indices of the region's voxels in the flattened `padded`."""
        return np.flatnonzero(self.padded)

    @cached_property
    def slice_counts(self) -> NDArray[np.int64]:
        """(K,) voxels of the region in each slice."""
        return np.count_nonzero(self.levels, axis=(1, 2))

    def slices(self) -> Iterator[LevelImage]:
        """Yield each slice that holds voxels as a level image of its own."""
        for k in np.flatnonzero(self.slice_counts):
            yield LevelImage.from_levels(self.levels[k : k + 1], self.level_count)

    @cached_property
    def zones(self) -> Zones:
        """Zones of the volume."""
        return self._find_zones(planar=False)

    @cached_property
    def plane_zones(self) -> Zones:
        """Zones inside each slice."""
        return self._find_zones(planar=True)

    @cached_property
    def neighborhoods(self) -> Neighborhoods:
        """Neighbors in the volume."""
        return self._find_neighbors(planar=False)

    @cached_property
    def plane_neighborhoods(self) -> Neighborhoods:
        """Neighbors inside each slice."""
        return self._find_neighbors(planar=True)

    @cached_property
    def _voxel_slices(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self.slice_counts)), self.slice_counts)

    def _border_distances(self, planar: bool) -> NDArray[np.int64]:
        """Return each region voxel's city-block distance to the outside of the morphological mask, border = 1."""
        if planar:
            layers = [ndimage.distance_transform_cdt(np.pad(m, 1), "taxicab") for m in self.morphological_mask]
            distances = np.stack(layers)[:, 1:-1, 1:-1]
        else:
            distances = ndimage.distance_transform_cdt(np.pad(self.morphological_mask, 1), "taxicab")[1:-1, 1:-1, 1:-1]
        return distances[self.box][self.mask]

    def _find_zones(self, planar: bool) -> Zones:
        codes = self.levels.astype(np.uint32)
        if planar:  # a level then means something else in each slice, so that zones cannot leave it
            codes += np.arange(len(codes), dtype=np.uint32)[:, None, None] * (self.level_count + 1)
        search = sitk.ScalarConnectedComponentImageFilter()
        search.SetFullyConnected(True)
        search.SetDistanceThreshold(0)
        mask = sitk.GetImageFromArray(self.mask.astype(np.uint8))
        labels = sitk.GetArrayFromImage(search.Execute(sitk.GetImageFromArray(codes), mask))[self.mask]
        sizes = np.bincount(labels)
        levels, slices, distances = (np.zeros(len(sizes), dtype=np.int64) for _ in range(3))
        levels[labels] = self.levels[self.mask]
        slices[labels] = self._voxel_slices
        border = self._border_distances(planar)
        from_far = np.argsort(border, kind="stable")[::-1]
        distances[labels[from_far]] = border[from_far]  # the nearest voxel writes last
        found = sizes > 0
        return Zones(levels[found], sizes[found], distances[found], slices[found])

    def _find_neighbors(self, planar: bool) -> Neighborhoods:
        sums, counts = self.levels.astype(np.int32), self.mask.astype(np.int8)
        for axis in (1, 2) if planar else (0, 1, 2):
            sums, counts = _sum_of_three(sums, axis), _sum_of_three(counts, axis)
        equals = np.zeros(self.levels.shape, dtype=np.int8)
        for direction in PLANE_DIRECTIONS if planar else VOLUME_DIRECTIONS:
            here, there = pair_boxes(self.levels.shape, direction)
            same = (self.levels[here] == self.levels[there]).view(np.int8)
            equals[here] += same
            equals[there] += same
        levels = self.levels[self.mask].astype(np.int64)
        return Neighborhoods(
            levels,
            self._voxel_slices,
            sums[self.mask] - levels,
            counts[self.mask].astype(np.int64) - 1,
            equals[self.mask].astype(np.int64),
        )


def pair_boxes(shape: tuple[int, ...], direction: tuple[int, int, int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the boxes of all voxels that have a partner one step away, and of these partners."""
    here = tuple(slice(max(0, -d), n - max(0, d)) for n, d in zip(shape, direction, strict=True))
    there = tuple(slice(max(0, d), n - max(0, -d)) for n, d in zip(shape, direction, strict=True))
    return here, there


def sum_by(keys: NDArray[np.int64], weights: NDArray[np.float64], minimum_length: int = 0) -> NDArray[np.float64]:
    """Return the sum of the weights of each key, from 0."""
    return np.asarray(np.bincount(keys, weights, minimum_length), dtype=np.float64)


def _sum_of_three(array: NDArray[Any], axis: int) -> NDArray[Any]:
    """Return each element's sum with its two neighbors along the axis."""
    total = array.copy()
    moved, source = np.moveaxis(total, axis, 0), np.moveaxis(array, axis, 0)
    moved[1:] += source[:-1]
    moved[:-1] += source[1:]
    return total
