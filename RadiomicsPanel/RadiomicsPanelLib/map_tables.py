"""The surroundings of many voxels as tables: a row per place in the kernel, a column per voxel.

Small tables of whole numbers, worked on row by row, are what makes feature maps fast: each step is one vector
operation over all voxels of a chunk, and no matrix of gray levels is ever built.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from RadiomicsPanelLib.level_image import PLANE_DIRECTIONS, VOLUME_DIRECTIONS
from RadiomicsPanelLib.local_intensity import BallMeans
from RadiomicsPanelLib.roi import Roi

Direction = tuple[int, int, int]


class Kernel:
    """The cube (or square) of places around a voxel.

    Attributes
    ----------
    radius : int, voxels
    planar : bool
    offsets : (places, 3) ndarray of int
        From the voxel to each place, in array order.
    directions : tuple
        To half of a place's neighbors: 13 in space, 4 in a slice.
    """

    def __init__(self, radius: int, planar: bool) -> None:
        self.radius, self.planar = radius, planar
        self.directions: tuple[Direction, ...] = PLANE_DIRECTIONS if planar else VOLUME_DIRECTIONS
        reach = (0 if planar else radius, radius, radius)
        self.offsets = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), -1).reshape(-1, 3)
        self._place = {tuple(offset): n for n, offset in enumerate(self.offsets.tolist())}

    def neighbor(self, place: int, direction: Direction) -> int | None:
        """Return the place one step away, or None outside the kernel."""
        return self._place.get(tuple((self.offsets[place] + direction).tolist()))

    def pairs(self, direction: Direction) -> tuple[list[int], list[int]]:
        """Return all places that have a neighbor in the direction, and these neighbors."""
        found = [(place, self.neighbor(place, direction)) for place in range(len(self.offsets))]
        kept = [(a, b) for a, b in found if b is not None]
        return [a for a, _ in kept], [b for _, b in kept]


class KernelTables:
    """What the kernel shows around each voxel of a chunk. All tables have the shape (places, voxels).

    Attributes
    ----------
    kernel : Kernel
    levels : ndarray of uint32
        Gray level; 0 outside the intensity mask. (NumPy sorts 32-bit numbers several times faster than shorter ones.)
    level_count : int
        Number of levels that could occur.
    settings : Settings
    """

    def __init__(self, source: KernelSource, first: int, last: int) -> None:
        self._source, self._places = source, source.steps[:, None] + source.voxels[None, first:last]
        self.kernel, self.level_count, self.settings = source.kernel, source.level_count, source.settings
        self.levels = source.levels[self._places]

    @cached_property
    def intensities(self) -> NDArray[np.float64]:
        """Intensity, not to be read where the level is 0."""
        return self._source.intensities[self._places]

    @cached_property
    def inside(self) -> NDArray[np.bool_]:
        """Whether the place is in the morphological mask."""
        return self._source.inside[self._places]

    @cached_property
    def ball_means(self) -> NDArray[np.float64]:
        """Mean intensity of the 1 cm^3 ball around the place, not to be read where the level is 0."""
        return self._source.ball_means[self._places]

    @cached_property
    def equal_pairs(self) -> list[tuple[int, int, NDArray[np.bool_]]]:
        """Neighboring places, and for which voxels both are in the region with one level."""
        return [
            (a, b, (self.levels[a] == self.levels[b]) & (self.levels[a] > 0))
            for direction in self.kernel.directions
            for a, b in zip(*self.kernel.pairs(direction), strict=True)
        ]

    @cached_property
    def zone_roots(self) -> NDArray[Any]:
        """First place of the zone (connected places of one level) each place belongs to."""
        roots = np.empty(self.levels.shape, dtype=np.min_scalar_type(len(self.levels)))
        roots[:] = np.arange(len(roots))[:, None]
        before = None
        while before is None or not np.array_equal(before, roots):
            before = roots.copy()
            for pairs in (self.equal_pairs, self.equal_pairs[::-1]):
                for a, b, equal in pairs:
                    lower = np.minimum(roots[a], roots[b])
                    np.copyto(roots[a], lower, where=equal)
                    np.copyto(roots[b], lower, where=equal)
        return roots

    @cached_property
    def border_distances(self) -> NDArray[np.uint8]:
        """City-block distance to the outside of kernel and morphological mask; 1 at the border, 0 outside."""
        steps = [(0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
        steps += [] if self.kernel.planar else [(1, 0, 0), (-1, 0, 0)]
        near = [[self.kernel.neighbor(place, step) for step in steps] for place in range(len(self.inside))]
        distances = self.inside.astype(np.uint8)
        for distance in range(1, self.kernel.radius + 1):
            deep = distances >= distance
            for place, neighbors in enumerate(near):
                inner = [n for n in neighbors if n is not None]
                if len(inner) == len(steps):
                    distances[place] += deep[place] & np.logical_and.reduce(deep[inner])
        return distances

    @cached_property
    def equal_counts(self) -> NDArray[np.uint8]:
        """Number of a place's neighbors in the kernel that have its level."""
        counts = np.zeros(self.levels.shape, dtype=np.uint8)
        for a, b, equal in self.equal_pairs:
            counts[a] += equal
            counts[b] += equal
        return counts

    @cached_property
    def neighbor_sums(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Sum of the levels of a place's neighbors in the kernel and the region, and their number."""
        sums, counts = np.zeros(self.levels.shape, dtype=np.int64), np.zeros(self.levels.shape, dtype=np.int64)
        valid = self.levels > 0
        for direction in self.kernel.directions:
            for a, b in zip(*self.kernel.pairs(direction), strict=True):
                for here, there in ((a, b), (b, a)):
                    sums[here] += self.levels[there]
                    counts[here] += valid[there]
        return sums, counts


class KernelSource:
    """A region laid out so that the kernel around each of its voxels can be looked up.

    Attributes
    ----------
    kernel : Kernel
    voxels : (n,) ndarray of int
        Flat positions of the intensity mask's voxels, in array order.
    steps : (places,) ndarray of int
        From a flat position to each place of the kernel.
    """

    def __init__(self, roi: Roi, kernel: Kernel) -> None:
        self.kernel, self.level_count, self.settings, self._roi = kernel, roi.level_count, roi.settings, roi
        levels = np.pad(roi.levels.astype(np.uint32), kernel.radius)
        self.levels = levels.ravel()
        self.intensities = np.pad(roi.image.array, kernel.radius).ravel()
        self.inside = np.pad(roi.morphological_mask, kernel.radius).ravel()
        self.voxels = np.flatnonzero(self.levels)
        self.steps = kernel.offsets @ np.array([levels.shape[1] * levels.shape[2], levels.shape[2], 1])

    @cached_property
    def ball_means(self) -> NDArray[np.float64]:
        """Mean intensity of the 1 cm^3 ball around each voxel of the region, flat; 0 elsewhere."""
        means = np.zeros(len(self.levels))
        means[self.voxels] = BallMeans(self._roi).means
        return means


def run_ranks(ascending: NDArray[Any]) -> NDArray[np.uint16]:
    """Return how often each value occurred so far in its column (1, 2, ...), 0 for the value 0.

    A sum over the distinct values of f(count) is then the sum over all places of f(rank) - f(rank - 1).
    """
    ranks = np.zeros(ascending.shape, dtype=np.uint16)
    ranks[0] = ascending[0] > 0
    for n in range(1, len(ranks)):
        np.multiply(ranks[n - 1], ascending[n] == ascending[n - 1], out=ranks[n])
        ranks[n] += 1
        ranks[n] *= ascending[n] > 0
    return ranks


def sum_of_squares(ranks: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Return, for each column, the sum of count^2 over its distinct values."""
    return (2 * ranks.astype(np.int64) - (ranks > 0)).sum(axis=0)


def sum_of_logs(ranks: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Return, for each column, the sum of count log2(count) over its distinct values."""
    counts = np.arange(1.0, len(ranks) + 1)
    steps = np.concatenate([[0.0], np.diff(counts * np.log2(counts), prepend=0.0)])
    return np.take(steps, ranks).sum(axis=0)
