"""The fluence on the rim of a homogeneous disc or cylinder as a Bessel series: the oracle of the forward tests."""

from __future__ import annotations

import numpy as np
from scipy.special import ive

TERMS = 2600  # a source one millimeter under the rim needs them: (40 / 41)^2600 = 1e-28


def line_source_rim_fluence(mua, musp, boundary, radius_mm, source_radius_mm, angles, modulation_delay=0.0, kz=0.0):
    """Return Phi (angles,) on the rim for a line source of unit power at radius source_radius_mm and angle 0.

    Phi(R, t) = A / (pi R) sum_n e_n cos(n t) I_n(k r0) / (I_n(k R) + 2 A kappa k I_n'(k R)), e_0 = 1, else 2, with
    k = sqrt((mua + i omega / c) / kappa + kz^2); an array kz (K,) gives (K, angles). Large orders under- and
    overflow, so everything is written in the
    ratios I_{n+1} / I_n, by their continued fraction downwards: I_n / I_{n+1} = 2 (n + 1) / x + I_{n+2} / I_{n+1}.
    """
    kappa = 1 / (3 * (mua + musp))
    k = np.atleast_1d(np.sqrt((mua + modulation_delay) / kappa + np.asarray(kz) ** 2 + 0j))[:, None]
    inner, outer = (_ratios(k * radius) for radius in (source_radius_mm, radius_mm))
    start = ive(0, k * source_radius_mm) / ive(0, k * radius_mm) * np.exp((k * (source_radius_mm - radius_mm)).real)
    quotient = start * np.cumprod(np.hstack([np.ones_like(k), inner[:, :-1] / outer[:, :-1]]), axis=1)
    n = np.arange(TERMS)
    slope = outer + n / (k * radius_mm)  # I_n' / I_n
    weights = np.where(n == 0, 1.0, 2.0) * quotient / (1 + 2 * boundary * kappa * k * slope)
    fluence = boundary / (np.pi * radius_mm) * (weights @ np.cos(np.outer(n, angles)))
    fluence = fluence if modulation_delay else fluence.real
    return fluence if np.ndim(kz) else fluence[0]


def point_source_rim_fluence(mua, musp, boundary, radius_mm, source_radius_mm, angles):
    """Return Phi (angles,) on the rim of an endless cylinder, at the height of a point source of unit power.

    (1 / pi) int_0^inf Phi_line(kz) dkz with the trapezoidal rule, which converges fast for this smooth even integrand.
    """
    kz = np.arange(0.0, 1.6, 0.01)
    weights = np.where(kz == 0, 0.5, 1.0) * 0.01 / np.pi
    return weights @ line_source_rim_fluence(mua, musp, boundary, radius_mm, source_radius_mm, angles, kz=kz)


def _ratios(x):
    """Return I_{n+1}(x) / I_n(x) for x (k, 1) and n = 0 .. TERMS - 1, (k, TERMS)."""
    ratios = np.zeros((TERMS + 60, len(x)), dtype=complex)
    for n in range(TERMS + 58, -1, -1):
        ratios[n] = 1 / (2 * (n + 1) / x[:, 0] + ratios[n + 1])
    return ratios[:TERMS].T
