"""What an image is expected to look like: the matrices that carry it into the inversion.

All matrices act on one map on the reconstruction basis (n unknowns) and are used for every chromophore alike, scaled by
its bulk value, as ``||L (x - x0)||^2 / sd^2`` (`gauss_newton.Prior`). Which `x0` belongs to which matrix:

======================  ==========================================  =========================
method                  L                                           x0
======================  ==========================================  =========================
Tikhonov                identity                                    the bulk value
DRI                     unit diagonal, rows add up to 0             0: L already ignores constants
soft prior (Laplacian)  unit diagonal, rows add up to 0 per region  0: L already ignores constants per region
hard prior              identity, weak, on one unknown per region    the bulk value
======================  ==========================================  =========================
"""

from __future__ import annotations

import numpy as np
from BreastBiomarkersLib.errors import InputError
from numpy.typing import NDArray

MAX_UNKNOWNS = 5000
"""DRI and Laplacian matrices are dense; a finer reconstruction basis is refused."""


def tikhonov_matrix(count: int) -> NDArray[np.float64]:
    """Return the identity (n, n): no structure is expected, only values near the bulk."""
    return np.eye(_checked(count))


def dri_matrix(gray: NDArray[np.float64], sigma: float = 0.15) -> NDArray[np.float64]:
    """Return the direct-regularization matrix of one or several MR images: nodes of equal gray value belong together.

    Parameters
    ----------
    gray : (n,) or (G, n) ndarray
        Gray values at the nodes of G images, each scaled so that lesion minus background is about 1
        (`normalized_gray`).
    sigma : float
        Difference of gray values (in those units) that still counts as alike.

    Returns
    -------
    (n, n) ndarray
        ``L_ii = 1``, ``L_ij = -w_ij / sum_j w_ij`` for ``j != i`` with
        ``w_ij = exp(-sum_g (gray_gi - gray_gj)^2 / (2 sigma^2))``. Every row adds up to 0, so constants are free; a
        node unlike all others is tied to the least unlike ones.

    Raises
    ------
    InputError
        If a gray value is not finite or sigma is not positive.

    Notes
    -----
    No segmentation is needed: the image itself is the prior. With several images (such as DCE and diffusion) the
    weights multiply: only nodes alike in all of them are tied. The literature describes the weights in words; this
    normalization (diagonal 1, rows adding up to 0, like the Laplacian of Yalavarthy 2007) is ours where the original
    leaves room.

    References
    ----------
    Zhang L et al., Biomed Opt Express 6:3618 (2015), doi 10.1364/BOE.6.003618 (one image); Feng J et al.,
    J Biomed Opt 21:090506 (2016), doi 10.1117/1.JBO.21.9.090506 (DCE and DWI together).
    """
    images = np.atleast_2d(np.asarray(gray, dtype=np.float64))
    _checked(images.shape[1])
    if not np.isfinite(images).all():
        raise InputError("The MRI has gray values that are not numbers inside the body. Repair or mask the image.")
    if not sigma > 0:
        raise InputError(f"The gray-value tolerance sigma is {sigma}; it must be positive.")
    exponent = -np.asarray(sum((image[:, None] - image[None, :]) ** 2 for image in images)) / (2 * sigma**2)
    np.fill_diagonal(exponent, -np.inf)
    nearest = exponent.max(axis=1, keepdims=True)  # drops out of the ratio; keeps a node unlike all others tied
    return _rows_to_zero(np.exp(exponent - np.where(np.isfinite(nearest), nearest, 0.0)))


def laplacian_matrix(regions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the soft-prior matrix of a segmentation: each node is drawn to the mean of its region.

    Parameters
    ----------
    regions : (n,) ndarray of int
        Region of each node.

    Returns
    -------
    (n, n) ndarray
        ``L_ii = 1``, ``L_ij = -1 / (N_r - 1)`` for another node j of the same region (N_r nodes), else 0. A region of
        one node has a zero row: nothing is expected of it.

    References
    ----------
    Yalavarthy PK et al., Opt Express 15:8043 (2007), doi 10.1364/OE.15.008043. There ``L_ij = -1 / N_r``, which leaves
    a row sum of 1 / N_r; with N_r - 1 a uniform region costs nothing.
    """
    regions = np.asarray(regions)
    _checked(len(regions))
    weights = (regions[:, None] == regions[None, :]).astype(np.float64)
    np.fill_diagonal(weights, 0.0)
    return _rows_to_zero(weights)


def normalized_gray(gray: NDArray[np.float64], lesion: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Return gray values scaled so that background is about 0 and lesion about 1.

    Parameters
    ----------
    gray : (n,) ndarray
        Gray values at the nodes.
    lesion : (n,) ndarray of bool, optional
        Nodes known to lie in the lesion. Without it the 5 % to 99 % range of the values is taken as the contrast.

    Raises
    ------
    InputError
        If the image is constant, so that it carries no structure.
    """
    gray = np.asarray(gray, dtype=np.float64)
    if lesion is not None and lesion.any() and not lesion.all():
        low, high = float(np.median(gray[~lesion])), float(np.median(gray[lesion]))
    else:
        low, high = (float(v) for v in np.percentile(gray, [5, 99]))
    if not np.isfinite(high - low) or abs(high - low) < 1e-9 * max(abs(high), abs(low), 1e-9):
        raise InputError(
            "The MRI has no contrast in the plane (lesion and background are equally bright), so it cannot guide the "
            "reconstruction. Choose another image, or the Tikhonov method."
        )
    return (gray - low) / (high - low)


def _rows_to_zero(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 on the diagonal and minus the normalized weights beside it; rows without any weight become zero."""
    total = weights.sum(axis=1)
    tied = total > 1e-12
    matrix = -weights / np.where(tied, total, 1.0)[:, None]
    matrix[~tied] = 0.0
    np.fill_diagonal(matrix, tied.astype(np.float64))
    return matrix


def _checked(count: int) -> int:
    if not 1 <= count <= MAX_UNKNOWNS:
        raise InputError(f"The reconstruction basis has {count} nodes; 1 to {MAX_UNKNOWNS} are possible.")
    return count
