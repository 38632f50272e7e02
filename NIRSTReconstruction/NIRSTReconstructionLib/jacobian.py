"""How the data change with the tissue: the adjoint Jacobian."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from NIRSTReconstructionLib.diffusion import DiffusionOperator
from NIRSTReconstructionLib.spectra import MAP_NAMES, Spectra


def channel_sensitivity(
    operator: DiffusionOperator,
    fluence: NDArray,
    adjoint: NDArray,
    detectors: sparse.csr_array,
    channels: NDArray[np.int64],
    kappa: NDArray[np.float64],
    kz: NDArray[np.float64],
    kz_weights: NDArray[np.float64],
) -> tuple[NDArray, NDArray, NDArray]:
    """Return the fluence at the detectors (C,) and d ln Phi / d mua and / d musp at the integration points (Q, C).

    Parameters
    ----------
    operator : DiffusionOperator
    fluence : (G, N, S) ndarray
        Phi of every source, at G spatial frequencies along the normal (G = 1 and kz = 0 for line sources).
    adjoint : (G, N, D) ndarray
        Phi* of every detector.
    detectors : (N, D) sparse array
        What each detector reads.
    channels : (C, 2) ndarray of int
    kappa : (Q,) ndarray, mm
    kz, kz_weights : (G,) ndarray
        Frequencies in mm^-1 and the weights of their sum.

    Notes
    -----
    With quadrature weight w and kappa = 1 / (3 (mua + musp)), and summed over kz::

        d ln Phi_sd / d mua   = -w (Phi_s Phi*_d - 3 kappa^2 (grad Phi_s . grad Phi*_d + kz^2 Phi_s Phi*_d)) / Phi_sd
        d ln Phi_sd / d musp  =  w 3 kappa^2 (grad Phi_s . grad Phi*_d + kz^2 Phi_s Phi*_d) / Phi_sd

    These are exact derivatives of the discrete model (Arridge 1999, doi 10.1088/0266-5611/15/2/022).
    """
    source, detector = channels.T
    value, slope_x, slope_y = operator.field_values
    area = operator.mesh.quadrature.weights
    total = np.zeros(len(channels), dtype=fluence.dtype)
    absorbed = np.zeros((len(kappa), len(channels)), dtype=fluence.dtype)
    spread = np.zeros_like(absorbed)
    for g, weight in enumerate(kz_weights):
        total += weight * (detectors.T @ fluence[g]).T[source, detector]
        product = (value @ fluence[g])[:, source] * (value @ adjoint[g])[:, detector]
        absorbed += weight * product
        spread += (weight * kz[g] ** 2) * product
        for slope in (slope_x, slope_y):
            spread += weight * (slope @ fluence[g])[:, source] * (slope @ adjoint[g])[:, detector]
    spread *= (3 * kappa**2 * area)[:, None] / total
    absorbed *= area[:, None] / total
    return total, spread - absorbed, spread


def chromophore_jacobian(
    spectra: Spectra,
    wavelength: int,
    maps: NDArray[np.float64],
    by_mua: NDArray,
    by_musp: NDArray,
    basis: sparse.csr_array,
    parameters: tuple[str, ...],
) -> NDArray:
    """Return d ln Phi / d coefficient of one wavelength, (C, P, B), by the chain rule.

    Parameters
    ----------
    spectra : Spectra
    wavelength : int
        Index of the wavelength.
    maps : (6, Q) ndarray
        Tissue at the integration points.
    by_mua, by_musp : (Q, C) ndarray
        From `channel_sensitivity`.
    basis : (Q, B) sparse array
    parameters : tuple of str
        Some of `MAP_NAMES`.
    """
    adjoint_basis = basis.T.tocsr()
    result = np.empty((by_mua.shape[1], len(parameters), basis.shape[1]), dtype=by_mua.dtype)
    absorbers = [name for name in parameters if name in MAP_NAMES[:4]]
    absorption = (adjoint_basis @ by_mua).T if absorbers else None
    scatter_derivatives = spectra.musp_derivatives(maps)
    for column, name in enumerate(parameters):
        row = MAP_NAMES.index(name)
        if row < 4:
            result[:, column] = spectra.extinction[wavelength, row] * absorption
        else:
            result[:, column] = (adjoint_basis @ (scatter_derivatives[row - 4][wavelength][:, None] * by_musp)).T
    return result
