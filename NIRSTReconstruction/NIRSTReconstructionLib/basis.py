"""In what the image is expanded: values on a coarse mesh, or one value per region of a segmentation."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume
from numpy.typing import NDArray
from scipy import sparse

from NIRSTReconstructionLib.mesh import TriangleMesh
from NIRSTReconstructionLib.plane import Plane, sample_volume

_LEFT_OUT_SHARE = 0.1


class Basis(Protocol):
    """A map is ``at(points) @ coefficients``: the same coefficients give it at mesh nodes, image pixels, anywhere."""

    @property
    def count(self) -> int:
        """Number of coefficients of one map, B."""

    def at(self, points_mm: NDArray[np.float64]) -> sparse.csr_array:
        """Return the matrix (n, B) from coefficients to the values at in-plane points (n, 2) of the body."""


class UniformBasis:
    """One coefficient: the same value everywhere."""

    count = 1

    def at(self, points_mm: NDArray[np.float64]) -> sparse.csr_array:
        """Return a column of ones (n, 1)."""
        return sparse.csr_array(np.ones((len(points_mm), 1)))


class MeshBasis:
    """Values at the nodes of a coarse mesh of the same body, linear between them.

    Parameters
    ----------
    mesh : TriangleMesh
        Coarse, order 1. Its straight rim leaves out slivers of a round body; points there take the value of the
        nearest rim point.
    """

    def __init__(self, mesh: TriangleMesh) -> None:
        self.mesh = mesh
        self.count = len(mesh.nodes)
        self._asked: tuple[NDArray[np.float64], sparse.csr_array] | None = None

    def at(self, points_mm: NDArray[np.float64]) -> sparse.csr_array:
        """Return the linear interpolation (n, B); rows add up to 1. The last answer is kept: fits repeat it."""
        if self._asked is None or self._asked[0] is not points_mm:
            self._asked = points_mm, self._interpolation(points_mm)
        return self._asked[1]

    def _interpolation(self, points_mm: NDArray[np.float64]) -> sparse.csr_array:
        points = np.array(points_mm, dtype=np.float64)
        outside = self.mesh.locate(points)[0] < 0
        if outside.any():
            rim, inward, _ = self.mesh.project_to_boundary(points[outside])
            points[outside] = rim + 1e-4 * inward
        matrix = self.mesh.interpolation(points)
        empty = np.flatnonzero(np.diff(matrix.indptr) == 0)
        if empty.size:  # a sharp corner of the rim: the nearest node
            nearest = ((points[empty, None] - self.mesh.nodes[None]) ** 2).sum(-1).argmin(axis=1)
            matrix = matrix + sparse.csr_array((np.ones(empty.size), (empty, nearest)), shape=matrix.shape)
        return sparse.csr_array(matrix)


class RegionBasis:
    """One value for each region of a segmentation, found again at any point of the plane.

    Parameters
    ----------
    labels : Volume
        Whole numbers, one per region; nearest voxel.
    plane : Plane
        Plane whose points are asked for.
    points_mm : (n, 2) ndarray, mm
        Points that fill the body: only regions present among them get a coefficient.
    min_share : float
        Regions with less than this share of the points join the largest region.

    Notes
    -----
    Label 0 is tissue like any other where a mask marks lesions. Where a label map names all tissues, 0 is what it left
    out along the skin: with less than a tenth of the points it joins the largest region.

    Raises
    ------
    InputError
        If the segmentation does not reach into the body.
    """

    def __init__(self, labels: Volume, plane: Plane, points_mm: NDArray[np.float64], min_share: float = 1e-3) -> None:
        self.labels = labels
        self.plane = plane
        found = sample_volume(labels, plane.to_ras(points_mm), nearest=True)
        if np.isnan(found).all():
            raise InputError(f"The segmentation '{labels.name}' does not reach the image plane. Check its geometry.")
        numbers, counts = np.unique(np.nan_to_num(found), return_counts=True)
        self.background = float(numbers[counts.argmax()])
        shares = counts / len(points_mm)
        left_out = (numbers == 0) & (shares < _LEFT_OUT_SHARE)
        self.regions = numbers[(shares >= min_share) & ~left_out]
        self.count = len(self.regions)

    def number_at(self, points_mm: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the index (n,) of the region at each point; unknown places belong to the largest region."""
        found = sample_volume(self.labels, self.plane.to_ras(points_mm), nearest=True)
        at = np.searchsorted(self.regions, np.nan_to_num(found, nan=self.background)).clip(max=self.count - 1)
        largest = int(np.searchsorted(self.regions, self.background))
        return np.where(self.regions[at] == np.nan_to_num(found, nan=self.background), at, largest)

    def at(self, points_mm: NDArray[np.float64]) -> sparse.csr_array:
        """Return for each point a row with 1 in the column of its region (n, R)."""
        number = self.number_at(points_mm)
        return sparse.csr_array((np.ones(len(number)), (np.arange(len(number)), number)), (len(number), self.count))
