"""Regions plus a smooth field: what a segmentation explains, and what it does not.

A map is ``bulk * (regions @ p + field)``: one value per region, and a Gaussian-process field that lets the image differ
from them smoothly. The field's strength follows from the data (marginal likelihood): where the regions explain the
light it vanishes, so that a segmentation which is right is trusted and one which is wrong is overruled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial.distance import cdist

from NIRSTReconstructionLib.basis import Basis, MeshBasis

FIELD_LENGTHS_MM = ((5.0, 1.0), (12.0, 0.3))
"""Correlation lengths of the field and their shares: lesion-sized structure, and half as strong slow variation."""
REGION_SD = 1.5
"""How far a region's value may be from the bulk, as a share of it: hardly a restriction."""
FIELD_STRENGTHS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7)
_KEPT_VARIANCE = 0.99


class StackedBasis:
    """The coefficients of two bases one after the other; a map is the sum of both parts."""

    def __init__(self, first: Basis, second: Basis) -> None:
        self.first, self.second = first, second
        self.count = first.count + second.count

    def at(self, points_mm: NDArray[np.float64]) -> sparse.csr_array:
        """Return both matrices side by side (n, B1 + B2)."""
        return sparse.csr_array(sparse.hstack([self.first.at(points_mm), self.second.at(points_mm)]))


@dataclass(frozen=True, eq=False)
class RegionField:
    """Regions and field as one linear expansion with unknowns of unit prior variance.

    Attributes
    ----------
    basis : StackedBasis
        Region values, then field values at the nodes of a mesh.
    modes : (B2, m) ndarray
        Field of unit strength: its covariance is ``modes @ modes.T``.
    """

    basis: StackedBasis
    modes: NDArray[np.float64]

    def transform(self, strength: float) -> NDArray[np.float64]:
        """Return the matrix (B, R + m) from unknowns to coefficients, for a field of standard deviation `strength`."""
        R = self.basis.first.count
        T = np.zeros((self.basis.count, R + self.modes.shape[1]))
        T[:R, :R] = np.eye(R)
        T[R:, R:] = strength * self.modes
        return T


def region_field(regions: Basis, mesh_basis: MeshBasis) -> RegionField:
    """Return the expansion of regions plus a Gaussian-process field on a mesh.

    The field's covariance between nodes i and j at distance d is the mean over `FIELD_LENGTHS_MM` of
    ``share * exp(-d^2 / (2 length^2))``, scaled to unit variance; modes beyond 99 % of the variance are left out.
    """
    distances = cdist(mesh_basis.mesh.nodes, mesh_basis.mesh.nodes)
    total = sum(share for _, share in FIELD_LENGTHS_MM)
    K = sum(share / total * np.exp(-(distances**2) / (2 * length**2)) for length, share in FIELD_LENGTHS_MM)
    values, vectors = np.linalg.eigh(np.asarray(K))
    values, vectors = values[::-1].clip(min=0), vectors[:, ::-1]
    kept = int(np.searchsorted(np.cumsum(values), _KEPT_VARIANCE * values.sum())) + 1
    return RegionField(StackedBasis(regions, mesh_basis), vectors[:, :kept] * np.sqrt(values[:kept]))


def field_evidence(
    residual: NDArray[np.float64], region_jacobian: NDArray[np.float64], field_jacobian: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the log marginal likelihood of field strengths, above that of no field at all.

    Parameters
    ----------
    residual : (M,) ndarray
        Noise-scaled residual of the best fit with regions alone.
    region_jacobian : (M, a) ndarray
        Noise-scaled derivatives by the region values, which are free.
    field_jacobian : (M, b) ndarray
        Noise-scaled derivatives by the modes of a field of strength 1.

    Returns
    -------
    (len(FIELD_STRENGTHS),) ndarray
        ``log p(residual | strength) - log p(residual | 0)`` for the linearized model: residual ~ N(0, I + s^2 G G^T)
        after what the regions can still explain has been projected out of G.

    References
    ----------
    Rasmussen CE, Williams CKI. Gaussian Processes for Machine Learning, ch. 5 (2006), MIT Press.
    """
    Q = np.linalg.qr(region_jacobian)[0]
    G = field_jacobian - Q @ (Q.T @ field_jacobian)
    r = residual - Q @ (Q.T @ residual)
    eigenvalues, vectors = np.linalg.eigh(G.T @ G)
    seen = eigenvalues > 1e-9 * eigenvalues.max(initial=1e-300)
    projections = (vectors.T @ (G.T @ r))[seen] ** 2 / eigenvalues[seen]  # squared components of r along G's directions
    gains = np.outer(np.square(FIELD_STRENGTHS), eigenvalues[seen])
    return 0.5 * (projections * gains / (1 + gains) - np.log1p(gains)).sum(axis=1)
