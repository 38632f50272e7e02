"""The diffusion equation on a triangle mesh: weak form, assembly as sparse operators, Robin boundary."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from BreastBiomarkersLib.errors import InputError
from numpy.typing import NDArray
from scipy import sparse

from NIRSTReconstructionLib.mesh import TriangleMesh

SPEED_OF_LIGHT = 2.99792458e11
"""In vacuum, mm/s."""

BOUNDARY_CONVENTIONS = ("fresnel", "groenhuis")


def boundary_coefficient(refractive_index: float, convention: str = "fresnel") -> float:
    """Return A of the Robin condition Phi + 2 A kappa dPhi/dn = 0 between tissue and air.

    Parameters
    ----------
    refractive_index : float
        Of the tissue, at least 1.
    convention : str
        "fresnel": A = (2 / (1 - R0) - 1 + |cos tc|^3) / (1 - |cos tc|^2) with R0 = ((n - 1) / (n + 1))^2 and the
        critical angle tc = asin(1 / n) (Haskell 1994, doi 10.1364/JOSAA.11.002727; used by NIRFAST).
        "groenhuis": A = (1 + R) / (1 - R) with R = -1.440 / n^2 + 0.710 / n + 0.668 + 0.0636 n (Groenhuis 1983,
        doi 10.1364/AO.22.002456). At n = 1.33 it is 19 % larger than "fresnel": say which one was used.

    Raises
    ------
    InputError
        If the convention is unknown, or no tissue has such a refractive index.
    """
    n = refractive_index
    if not 1.0 <= n <= 2.0:
        raise InputError(f"The refractive index is {n:g}; 1 to 2 is plausible for tissue (about 1.33 to 1.40).")
    if convention == "fresnel":
        r0 = ((n - 1) / (n + 1)) ** 2
        cosine = np.sqrt(1 - 1 / n**2)
        return float((2 / (1 - r0) - 1 + cosine**3) / (1 - cosine**2))
    if convention == "groenhuis":
        reflected = -1.440 / n**2 + 0.710 / n + 0.668 + 0.0636 * n
        return float((1 + reflected) / (1 - reflected))
    raise InputError(f"Unknown boundary convention '{convention}'. Choose one of: {', '.join(BOUNDARY_CONVENTIONS)}.")


class DiffusionOperator:
    """Assembles K(mua, kappa) for one mesh, many times.

    Notes
    -----
    State equation and weak form for every test function v, CW for omega = 0 (Arridge 1999,
    doi 10.1088/0266-5611/15/2/022)::

        -div(kappa grad Phi) + (mua + i omega n / c) Phi = q          in the body
        Phi + 2 A kappa dPhi/dn = 0                                   on the rim
        int kappa grad Phi . grad v + int (mua + i omega n / c) Phi v + int_rim Phi v / (2 A) = int q v

    K has the same sparsity for all tissues, so its entries are linear maps of kappa and mua at the integration points:
    two sparse matrices, computed once. Only the lower triangle is kept.

    Parameters
    ----------
    mesh : TriangleMesh
    boundary : float
        A, see `boundary_coefficient`.
    """

    def __init__(self, mesh: TriangleMesh, boundary: float) -> None:
        self.mesh = mesh
        self.boundary = boundary
        quadrature = mesh.quadrature
        elements = mesh.elements
        count = len(mesh.nodes)
        first, second = np.tril_indices(elements.shape[1])
        high = np.maximum(elements[:, first], elements[:, second])
        low = np.minimum(elements[:, first], elements[:, second])
        keys, entry = np.unique(low * count + high, return_inverse=True)  # column by column of the lower triangle
        self.rows, self.columns = keys % count, keys // count
        entry = entry.reshape(high.shape)

        points = len(quadrature.weights) // len(elements)
        weights = quadrature.weights.reshape(len(elements), points)
        gradients = quadrature.gradients.reshape(len(elements), points, -1, 2)
        stiff = np.einsum("mq,mqpx,mqpx->mqp", weights, gradients[:, :, first], gradients[:, :, second])
        mass = np.einsum("mq,qp,qp->mqp", weights, quadrature.shapes[:, first], quadrature.shapes[:, second])
        target = np.broadcast_to(entry[:, None, :], stiff.shape)
        source = np.broadcast_to(np.arange(len(quadrature.weights)).reshape(weights.shape)[:, :, None], stiff.shape)
        shape = (len(keys), len(quadrature.weights))
        self.stiffness = sparse.csr_array((stiff.ravel(), (target.ravel(), source.ravel())), shape=shape)
        self.absorption = sparse.csr_array((mass.ravel(), (target.ravel(), source.ravel())), shape=shape)
        self.rim = self._rim_entries(keys) / (2 * boundary)

    def entries(self, mua: NDArray, kappa: NDArray[np.float64]) -> NDArray:
        """Return the lower-triangle entries (n, k) of k matrices.

        Parameters
        ----------
        mua : (Q, k) ndarray, mm^-1
            At the integration points; complex with + i omega n / c for frequency domain.
        kappa : (Q, k) ndarray, mm
        """
        return np.asarray(self.stiffness @ kappa + self.absorption @ mua + self.rim[:, None])

    def matrix(self, entries: NDArray) -> sparse.csc_array:
        """Return the full symmetric matrix (N, N) of one column of `entries`."""
        indices, indptr, origin = self._full_pattern
        count = len(self.mesh.nodes)
        return sparse.csc_array((entries[origin], indices, indptr), shape=(count, count))

    @cached_property
    def _full_pattern(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
        below = np.flatnonzero(self.rows != self.columns)
        origin = np.concatenate([np.arange(len(self.rows)), below])
        rows = np.concatenate([self.rows, self.columns[below]])
        columns = np.concatenate([self.columns, self.rows[below]])
        order = np.lexsort((rows, columns))
        indptr = np.concatenate([[0], np.cumsum(np.bincount(columns, minlength=len(self.mesh.nodes)))])
        return rows[order].astype(np.int32), indptr.astype(np.int32), origin[order]

    @cached_property
    def field_values(self) -> tuple[sparse.csr_array, sparse.csr_array, sparse.csr_array]:
        """Three (Q, N) matrices: a fluence at the nodes to its value, x-slope and y-slope at the integration points."""
        quadrature, elements = self.mesh.quadrature, self.mesh.elements
        columns = np.repeat(elements, len(quadrature.shapes), axis=0)
        indptr = np.arange(0, columns.size + 1, columns.shape[1])
        shape = (len(columns), len(self.mesh.nodes))

        def place(values: NDArray[np.float64]) -> sparse.csr_array:
            return sparse.csr_array((values.ravel(), columns.ravel(), indptr), shape=shape)

        slopes = quadrature.gradients
        return place(np.tile(quadrature.shapes, (len(elements), 1))), place(slopes[:, :, 0]), place(slopes[:, :, 1])

    def _rim_entries(self, keys: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the integrals of u v along the rim for every lower-triangle entry."""
        nodes, edges = self.mesh.nodes, self.mesh.boundary_edges
        t, weight = np.polynomial.legendre.leggauss(4)
        t, weight = 0.5 * (t + 1), 0.5 * weight
        if self.mesh.order == 1:
            shapes = np.column_stack([1 - t, t])
            slopes = np.broadcast_to([-1.0, 1.0], shapes.shape)
        else:
            shapes = np.column_stack([(1 - t) * (1 - 2 * t), t * (2 * t - 1), 4 * t * (1 - t)])
            slopes = np.column_stack([4 * t - 3, 4 * t - 1, 4 - 8 * t])
        speed = np.linalg.norm(np.einsum("gn,enx->egx", slopes, nodes[edges]), axis=2)
        first, second = np.tril_indices(edges.shape[1])
        values = np.einsum("eg,g,gp,gp->ep", speed, weight, shapes[:, first], shapes[:, second])
        high = np.maximum(edges[:, first], edges[:, second])
        low = np.minimum(edges[:, first], edges[:, second])
        position = np.searchsorted(keys, low * len(nodes) + high)
        return np.bincount(position.ravel(), weights=values.ravel(), minlength=len(keys)).astype(np.float64)
