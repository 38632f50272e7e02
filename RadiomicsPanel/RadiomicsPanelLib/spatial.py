"""Spatial autocorrelation: are voxels near each other alike? Exact, by Fourier transform instead of all voxel pairs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from RadiomicsPanelLib.feature import NotApplicable

_FREQUENCIES = 8  # of the last axis at once: their part of the spectra stays in the processor's cache


class Autocorrelation(NamedTuple):
    """Moran's I (1: alike, 0: unrelated, -1: opposite) and Geary's C (0: alike, 1: unrelated)."""

    moran_i: float
    geary_c: float


def autocorrelation(
    array: NDArray[np.float64], mask: NDArray[np.bool_], spacing_kji_mm: NDArray[np.float64]
) -> Autocorrelation:
    """Return Moran's I and Geary's C of the n voxels of a mask, with inverse distances as weights.

    With deviations d from the mean and w = 1 / distance between voxels::

        I = n / sum(w) * sum(w_ab d_a d_b) / sum(d^2)
        C = (n - 1) / (2 sum(w)) * sum(w_ab (d_a - d_b)^2) / sum(d^2)

    All sums over pairs are products of spectra, since w depends on the difference of positions alone.

    Raises
    ------
    NotApplicable
        If all voxels have one intensity.
    """
    values = array[mask]
    deviations = np.where(mask, array, 0.0)
    deviations[mask] -= values.mean()
    squares = float(np.sum(deviations**2))
    if squares <= (1e-12 * np.abs(values).max()) ** 2 * values.size:
        raise NotApplicable("all voxels have one intensity")
    # An even kernel may wrap around once: with a period of 2 (m - 1) the lags +-(m - 1) meet, where w is the same.
    half = [fft.next_fast_len(max(n - 1, 1), real=True) for n in array.shape]
    period = [2 * n for n in half]
    steps = np.ogrid[tuple(slice(0, n + 1) for n in half)]
    distances = np.sqrt(sum((n * s) ** 2 for n, s in zip(steps, spacing_kji_mm, strict=True)))
    distances[0, 0, 0] = np.inf
    octant = np.ascontiguousarray(fft.dctn(1 / distances, type=1).transpose(2, 0, 1))
    rows = [fft.rfft(a, period[2], axis=2) for a in (deviations, mask.astype(float), deviations**2)]
    total = products = spread = 0.0
    for first in range(0, half[2] + 1, _FREQUENCIES):
        part = slice(first, first + _FREQUENCIES)
        weights = octant[part]  # the kernel's spectrum is real and even
        weights = np.concatenate([weights, weights[:, -2:0:-1]], axis=1)
        weights = np.concatenate([weights, weights[:, :, -2:0:-1]], axis=2)
        weights[[0 < f < half[2] for f in range(first, first + len(weights))]] *= 2  # rfft leaves out the other half
        d, one, square = (_spectrum(r[..., part].transpose(2, 0, 1), period) for r in rows)
        weighted = weights * one
        total += float(np.vdot(weighted, one).real)
        spread += float(np.vdot(weighted, square).real)
        products += float(np.vdot(weights * d, d).real)
    total, products, spread = (x / float(np.prod(period)) for x in (total, products, spread))
    n = values.size
    return Autocorrelation(
        n / total * products / squares, (n - 1) / (2 * total) * (2 * spread - 2 * products) / squares
    )


def _spectrum(rows: NDArray[np.complex128], period: list[int]) -> NDArray[np.complex128]:
    """Return the zero-padded spectrum along the last two axes, transforming no line that is still all zeros."""
    return fft.fft(fft.fft(rows, period[1], axis=2), period[0], axis=1)
