"""How the data change with the tissue: the adjoint Jacobian."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from NIRSTReconstructionLib.diffusion import DiffusionOperator
from NIRSTReconstructionLib.spectra import MAP_NAMES

_PRODUCTS_AT_ONCE = 4_000_000  # products of source and detector fields that are kept at one time: 32 MB


def log_fluence_jacobian(
    operator: DiffusionOperator,
    fluence: NDArray,
    adjoint: NDArray,
    detected: NDArray,
    channels: NDArray[np.int64],
    kappa: NDArray[np.float64],
    kz: NDArray[np.float64],
    kz_weights: NDArray[np.float64],
    basis: sparse.csr_array,
    parameters: tuple[str, ...],
    extinction: NDArray[np.float64],
    musp_derivatives: tuple[NDArray[np.float64], NDArray[np.float64]],
    transform: NDArray[np.float64] | None = None,
) -> NDArray:
    """Return d ln Phi_sd / d coefficient for W wavelengths, (W, C, P, B).

    Parameters
    ----------
    operator : DiffusionOperator
    fluence : (G, W, N, S) ndarray
        Phi of every source, at G spatial frequencies along the normal (G = 1 and kz = 0 for line sources).
    adjoint : (G, W, N, D) ndarray
        Phi* of every detector.
    detected : (W, C) ndarray
        Phi_sd, summed over the frequencies.
    channels : (C, 2) ndarray of int
    kappa : (W, Q) ndarray, mm
        At the integration points.
    kz, kz_weights : (G,) ndarray
        Frequencies in mm^-1 and the weights of their sum.
    basis : (Q, B) sparse array
        Values at the integration points of what is multiplied by the coefficients.
    parameters : tuple of str
        Some of `MAP_NAMES`.
    extinction : (W, 4) ndarray
        Of HbO, HbR, water, lipid.
    musp_derivatives : two (W, Q) ndarray
        d musp / d scatter_amplitude and d musp / d scatter_power.
    transform : (B, U) ndarray, optional
        The coefficients are ``transform @ unknowns``; the derivatives are then by the unknowns, (W, C, P, U).

    Notes
    -----
    With quadrature weight w, kappa = 1 / (3 (mua + musp)), and summed over kz::

        d ln Phi_sd / d mua   = -w (Phi_s Phi*_d - 3 kappa^2 (grad Phi_s . grad Phi*_d + kz^2 Phi_s Phi*_d)) / Phi_sd
        d ln Phi_sd / d musp  =  w 3 kappa^2 (grad Phi_s . grad Phi*_d + kz^2 Phi_s Phi*_d) / Phi_sd

    then the chain rule to chromophores and scattering. These are exact derivatives of the discrete model (Arridge
    1999, doi 10.1088/0266-5611/15/2/022). At each integration point the sum over frequencies and the three products
    (value, two slopes) is one small matrix product of sources by detectors; the basis then adds up the points.
    """
    there, back = _at_points(operator, fluence), _at_points(operator, adjoint)  # (W, Q, 3 G, S or D)
    spread = _spread_factors(operator, kappa, kz, kz_weights)  # (W, Q, 3 G)
    values_only = np.tile([1.0, 0.0, 0.0], len(kz)) * np.repeat(kz_weights, 3)
    factors = {"mua": spread - operator.mesh.quadrature.weights[:, None] * values_only}
    for name, derivative in zip(MAP_NAMES[4:], musp_derivatives, strict=True):
        factors[name] = derivative[:, :, None] * spread
    uses: dict[str, list[tuple[int, NDArray[np.float64]]]] = {name: [] for name in factors}
    for column, name in enumerate(parameters):
        row = MAP_NAMES.index(name)
        uses["mua" if row < 4 else name].append((column, extinction[:, row] if row < 4 else np.ones(len(kappa))))

    source, detector = channels.T
    together = max(1, _PRODUCTS_AT_ONCE // (there.shape[3] * back.shape[3]))
    chunks = [slice(first, first + together) for first in range(0, basis.shape[0], together)]
    pieces = [sparse.csr_array(basis[chunk].T) for chunk in chunks]
    unknowns = basis.shape[1] if transform is None else transform.shape[1]
    jacobian = np.empty((*detected.shape, len(parameters), unknowns), dtype=fluence.dtype)
    for w in range(len(kappa)):
        for name in (name for name in factors if uses[name]):
            total = np.zeros((basis.shape[1], there.shape[3] * back.shape[3]), dtype=fluence.dtype)
            for chunk, piece in zip(chunks, pieces, strict=True):
                weighted = (there[w, chunk] * factors[name][w, chunk, :, None]).transpose(0, 2, 1)
                total += piece @ (weighted @ back[w, chunk]).reshape(len(weighted), -1)
            sums = (total if transform is None else transform.T @ total)[:, source * back.shape[3] + detector]
            of_data = (sums / detected[w]).T
            for column, weight in uses[name]:
                jacobian[w, :, column] = of_data * weight[w]
    return jacobian


def _at_points(operator: DiffusionOperator, fields: NDArray) -> NDArray:
    """Return value and two slopes of fields (G, W, N, R) at the integration points, (W, Q, 3 G, R)."""
    frequencies, wavelengths, _, vectors = fields.shape
    result = np.empty((wavelengths, operator.field_values[0].shape[0], 3 * frequencies, vectors), dtype=fields.dtype)
    for g in range(frequencies):
        for w in range(wavelengths):
            for kind, matrix in enumerate(operator.field_values):
                result[w, :, 3 * g + kind] = matrix @ fields[g, w]
    return result


def _spread_factors(
    operator: DiffusionOperator,
    kappa: NDArray[np.float64],
    kz: NDArray[np.float64],
    kz_weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return what the products of values and of slopes count in d Phi / d musp, (W, Q, 3 G)."""
    kinds = np.column_stack([kz**2, np.ones_like(kz), np.ones_like(kz)]) * kz_weights[:, None]
    return np.asarray((3 * kappa**2 * operator.mesh.quadrature.weights)[:, :, None] * kinds.ravel())
