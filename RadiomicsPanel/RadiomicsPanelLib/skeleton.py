"""The curve skeleton of a solid as a graph: ends, junctions, branches, the longest path.

Thinning after Lee, Kashyap and Chu 1994, doi 10.1006/cgip.1994.1042, by scikit-image. It shortens ends by one to one
and a half radii; lengths are those of the skeleton, not of the solid. It takes voxels in an order, so that the skeleton
of a ragged solid is not quite the same after turning it.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from RadiomicsPanelLib.feature import NotApplicable
from RadiomicsPanelLib.level_image import VOLUME_DIRECTIONS
from RadiomicsPanelLib.solid import Solid

_PATH_SMOOTHING = 3.0  # steps, of a path before its direction is taken
_MAX_SKELETON = 20_000


class Branch(NamedTuple):
    """A path of skeleton voxels from one end or junction to the next.

    Attributes
    ----------
    path : list of int
        Voxel numbers, end and junction voxels included.
    length : float, mm
    """

    path: list[int]
    length: float


class Skeleton:
    """The pruned skeleton of a solid.

    Terminal branches shorter than the radius of the solid at their root are noise of the surface and are removed, the
    shortest first.

    Attributes
    ----------
    solid : Solid
    voxels : (n, 3) ndarray of int
        Skeleton voxels of the solid's grid.
    """

    def __init__(self, solid: Solid) -> None:
        self.solid = solid
        self.voxels = np.argwhere(_thin(solid))
        while True:
            self._link()
            spur = self._shortest_spur()
            if spur is None:
                return
            self.voxels = np.delete(self.voxels, spur, axis=0)

    def _link(self) -> None:
        """Find who neighbors whom (26), leaving out an edge where two shorter ones go the same way."""
        number = np.full(self.solid.mask.shape, -1)
        number[tuple(self.voxels.T)] = np.arange(len(self.voxels))
        self.neighbors: list[dict[int, float]] = [{} for _ in self.voxels]
        for direction in sorted(VOLUME_DIRECTIONS, key=lambda d: sum(abs(step) for step in d)):
            length = float(np.linalg.norm(direction)) * self.solid.spacing
            other = number[tuple((self.voxels + direction).T)]
            for a in np.flatnonzero(other >= 0).tolist():
                b = int(other[a])
                shorter = self.neighbors[a].keys() & self.neighbors[b].keys()
                if not any(max(self.neighbors[a][c], self.neighbors[b][c]) < length - 1e-9 for c in shorter):
                    self.neighbors[a][b] = self.neighbors[b][a] = length
        degrees = np.array([len(near) for near in self.neighbors])
        self.ends = np.flatnonzero(degrees == 1)
        crossing = np.zeros(self.solid.mask.shape, dtype=bool)
        crossing[tuple(self.voxels[degrees >= 3].T)] = True
        clusters, self.junction_count = ndimage.label(crossing, np.ones((3, 3, 3)))
        self.cluster = clusters[tuple(self.voxels.T)]  # 0 where no junction is
        self.branches = self._trace(degrees)

    def _trace(self, degrees: NDArray[np.int64]) -> list[Branch]:
        """Return all branches; those inside a junction are none, and a closed loop without nodes is one."""
        branches, seen = [], set()
        for start in np.flatnonzero(degrees != 2).tolist():
            for first in self.neighbors[start]:
                path = self._follow(start, first)
                inside = self.cluster[start] > 0 and len(path) == 2 and self.cluster[path[-1]] == self.cluster[start]
                key = frozenset((path[0], path[1], path[-2], path[-1]))
                if not inside and key not in seen:
                    seen.add(key)
                    branches.append(Branch(path, self._length(path)))
        on_branch = {voxel for branch in branches for voxel in branch.path}
        for voxel in np.flatnonzero(degrees == 2).tolist():
            if voxel not in on_branch:
                path = self._follow(voxel, next(iter(self.neighbors[voxel])))
                on_branch.update(path)
                branches.append(Branch(path, self._length(path)))
        return branches

    def _follow(self, start: int, first: int) -> list[int]:
        """Return the path from a voxel over its neighbor to the next end or junction, or back to itself."""
        path = [start, first]
        while path[-1] != start and len(self.neighbors[path[-1]]) == 2:
            one, other = self.neighbors[path[-1]]
            path.append(other if one == path[-2] else one)
        return path

    def _length(self, path: list[int]) -> float:
        return float(sum(self.neighbors[a][b] for a, b in zip(path[:-1], path[1:], strict=True)))

    def _shortest_spur(self) -> list[int] | None:
        """Return the voxels of the shortest branch with a free end that is shorter than the radius at its root."""
        shortest: Branch | None = None
        for branch in self.branches:
            first, last = branch.path[0], branch.path[-1]
            for end, root in ((first, last), (last, first)):
                if len(self.neighbors[end]) == 1 and self.cluster[root] > 0:
                    within = self.radii[self.cluster == self.cluster[root]].max()
                    if branch.length < within and (shortest is None or branch.length < shortest.length):
                        shortest = branch
        return None if shortest is None else [v for v in shortest.path if self.cluster[v] == 0]

    @property
    def radii(self) -> NDArray[np.float64]:
        """(n,) radius in mm of the solid at the skeleton voxels."""
        return self.solid.distances[tuple(self.voxels.T)]

    @property
    def cycle_count(self) -> int:
        """Number of independent loops: branches - nodes + connected parts."""
        parts = int(csgraph.connected_components(self._graph, directed=False)[0])
        alone = sum(not near for near in self.neighbors)
        loops = sum(b.path[0] == b.path[-1] and self.cluster[b.path[0]] == 0 for b in self.branches)
        nodes = len(self.ends) + self.junction_count + alone + loops  # a loop without nodes gets one
        return len(self.branches) - nodes + parts

    @cached_property
    def _graph(self) -> sparse.csr_array:
        edges = [(a, b, length) for a, near in enumerate(self.neighbors) for b, length in near.items()]
        rows, columns, lengths = zip(*edges, strict=True) if edges else ((), (), ())
        size = len(self.voxels)
        return sparse.csr_array((np.array(lengths, dtype=float), (rows, columns)), shape=(size, size))

    @cached_property
    def longest_path(self) -> Branch:
        """The longest of the shortest paths between two voxels, found from an end by going to the far end twice."""
        sources = self.ends if len(self.ends) else np.array([0])
        if len(sources) > 64:  # the farthest from anywhere and its farthest, as in a tree
            start = csgraph.dijkstra(self._graph, indices=0)
            sources = np.array([int(np.argmax(np.where(np.isfinite(start), start, -1)))])
        lengths, before = csgraph.dijkstra(self._graph, indices=sources, return_predecessors=True)
        lengths = np.where(np.isfinite(lengths), lengths, -1)
        row, last = np.unravel_index(np.argmax(lengths), lengths.shape)
        path = [int(last)]
        while path[-1] != sources[row]:
            path.append(int(before[row, path[-1]]))
        return Branch(path[::-1], float(lengths[row, last]))

    @cached_property
    def medial_line(self) -> NDArray[np.float64]:
        """(m, 3) the longest path's points in mm, smoothed."""
        points = self.voxels[self.longest_path.path] * self.solid.spacing
        if len(points) < 4:
            return points.astype(np.float64)
        return ndimage.gaussian_filter1d(points.astype(np.float64), _PATH_SMOOTHING, axis=0, mode="nearest")

    def angles(self) -> list[float]:
        """Return the angles in degrees between each two branches at a junction."""
        found = []
        for number in range(1, self.junction_count + 1):
            center = self.voxels[self.cluster == number].mean(axis=0)
            reach = self.radii[self.cluster == number].max() / self.solid.spacing
            directions = []
            for branch in self.branches:
                for path in (branch.path, branch.path[::-1]):
                    if self.cluster[path[0]] == number:
                        away = self.voxels[path[min(int(np.ceil(2 * reach)) + 1, len(path) - 1)]] - center
                        if np.linalg.norm(away) > 0:
                            directions.append(away / np.linalg.norm(away))
            for n, one in enumerate(directions):
                found += [float(np.degrees(np.arccos(np.clip(one @ other, -1, 1)))) for other in directions[:n]]
        return found


def _thin(solid: Solid) -> NDArray[np.bool_]:
    try:
        from skimage.morphology import skeletonize
    except ImportError as error:
        raise NotApplicable("scikit-image is not installed (pip install scikit-image)") from error
    thin = np.asarray(skeletonize(solid.mask, method="lee"), dtype=bool)
    if not thin.any():  # it leaves nothing of some compact solids
        thin = np.zeros_like(solid.mask)
        thin[np.unravel_index(np.argmax(solid.distances), solid.mask.shape)] = True
    if np.count_nonzero(thin) > _MAX_SKELETON:
        raise NotApplicable("the skeleton has more than 20000 voxels")
    return thin
