"""A smooth random field beside regions: what a segmentation does not explain.

The field's strength follows from the data (marginal likelihood): where the regions explain the light it vanishes, so
that a segmentation which is right is trusted and one which is wrong is overruled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial.distance import cdist

from NIRSTReconstructionLib.basis import Basis, MeshBasis

FIELD_LENGTHS_MM = ((5.0, 1.0), (12.0, 0.3))
"""Correlation lengths of the field and their shares: lesion-sized structure, and slow variation."""
FIELD_STRENGTHS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7)
_KEPT_VARIANCE = 0.99


@dataclass(frozen=True, eq=False)
class Field:
    """A Gaussian-process field on a mesh, ``modes @ u`` with independent standard normal u.

    Attributes
    ----------
    mesh_basis : MeshBasis
    modes : (B, m) ndarray
        The covariance of the node values is ``modes @ modes.T``.
    """

    mesh_basis: MeshBasis
    modes: NDArray[np.float64]

    def scaled(self, strength: float) -> Field:
        """Return the field with its standard deviation multiplied."""
        return replace(self, modes=strength * self.modes)


class StackedBasis:
    """The coefficients of two bases one after the other; a map is the sum of both parts."""

    def __init__(self, first: Basis, second: Basis) -> None:
        self.first, self.second = first, second
        self.count = first.count + second.count

    def at(self, points_mm: NDArray[np.float64]) -> sparse.csr_array:
        """Return both matrices side by side (n, B1 + B2)."""
        return sparse.csr_array(sparse.hstack([self.first.at(points_mm), self.second.at(points_mm)]))


def smooth_field(mesh_basis: MeshBasis) -> Field:
    """Return the field of unit standard deviation on a mesh.

    The covariance of nodes at distance d is the mean over `FIELD_LENGTHS_MM` of ``share * exp(-d^2 / (2 length^2))``;
    modes beyond 99 % of the variance are left out.
    """
    distances = cdist(mesh_basis.mesh.nodes, mesh_basis.mesh.nodes)
    total = sum(share for _, share in FIELD_LENGTHS_MM)
    K = sum(share / total * np.exp(-(distances**2) / (2 * length**2)) for length, share in FIELD_LENGTHS_MM)
    values, vectors = np.linalg.eigh(np.asarray(K))
    values, vectors = values[::-1].clip(min=0), vectors[:, ::-1]
    kept = int(np.searchsorted(np.cumsum(values), _KEPT_VARIANCE * values.sum())) + 1
    return Field(mesh_basis, vectors[:, :kept] * np.sqrt(values[:kept]))


def likely_field(
    residual: NDArray[np.float64], explained: NDArray[np.float64], by_mode: NDArray[np.float64]
) -> tuple[float, float, NDArray[np.float64]]:
    """Return the most likely strength of a field, the log evidence for it over none, and its modes' weights.

    Parameters
    ----------
    residual : (M,) ndarray
        Noise-scaled residual of the best fit without field.
    explained : (M, a) ndarray
        Noise-scaled derivatives by what is free without a field (region values, outlines).
    by_mode : (M, b) ndarray
        Noise-scaled derivatives by the modes of a field of strength 1.

    Returns
    -------
    strength : float
        One of `FIELD_STRENGTHS`.
    evidence : float
        ``log p(residual | strength) - log p(residual | 0)`` for the linearized model: residual ~ N(0, I + s^2 G G^T)
        after what the regions can still explain has been projected out of G and residual.
    weights : (b,) ndarray
        Posterior mean at that strength, ``(G^T G + 1 / s^2)^-1 G^T residual``.

    References
    ----------
    Rasmussen CE, Williams CKI. Gaussian Processes for Machine Learning, ch. 5 (2006), MIT Press.
    """
    Q = np.linalg.qr(explained)[0]
    G = by_mode - Q @ (Q.T @ by_mode)
    r = residual - Q @ (Q.T @ residual)
    eigenvalues, vectors = np.linalg.eigh(G.T @ G)
    seen = eigenvalues > 1e-9 * eigenvalues.max(initial=1e-300)
    eigenvalues, vectors = eigenvalues[seen], vectors[:, seen]
    projections = vectors.T @ (G.T @ r)
    gains = np.outer(np.square(FIELD_STRENGTHS), eigenvalues)
    evidence = 0.5 * (projections**2 / eigenvalues * gains / (1 + gains) - np.log1p(gains)).sum(axis=1)
    best = int(evidence.argmax())
    weights = vectors @ (projections / (eigenvalues + FIELD_STRENGTHS[best] ** -2))
    return FIELD_STRENGTHS[best], float(evidence[best]), np.asarray(weights)
