"""The fluence on the rim of a homogeneous disc as a Bessel series: the oracle of the forward tests."""

from __future__ import annotations

import numpy as np
from scipy.special import ive


def rim_fluence(mua, musp, boundary, radius_mm, source_radius_mm, angles, modulation_delay=0.0, terms=6000):
    """Return Phi (angles,) on the rim for a line source of unit power at radius source_radius_mm and angle 0.

    Phi(R, t) = A / (pi R) sum_n e_n cos(n t) I_n(k r0) / (I_n(k R) + 2 A kappa k I_n'(k R)), e_0 = 1, else 2, with
    k = sqrt((mua + i omega / c) / kappa). Large orders under- and overflow, so everything is written in the ratios
    I_{n+1} / I_n, by their continued fraction downwards: I_n / I_{n+1} = 2 (n + 1) / x + I_{n+2} / I_{n+1}.
    """
    kappa = 1 / (3 * (mua + musp))
    k = np.sqrt((mua + modulation_delay) / kappa + 0j)
    inner, outer = (_ratios(k * radius, terms) for radius in (source_radius_mm, radius_mm))
    start = ive(0, k * source_radius_mm) / ive(0, k * radius_mm) * np.exp((k * (source_radius_mm - radius_mm)).real)
    quotient = start * np.concatenate([[1.0], np.cumprod(inner[:-1] / outer[:-1])])  # I_n(k r0) / I_n(k R)
    n = np.arange(terms)
    slope = outer + n / (k * radius_mm)  # I_n' / I_n
    weights = np.where(n == 0, 1.0, 2.0) * quotient / (1 + 2 * boundary * kappa * k * slope)
    fluence = boundary / (np.pi * radius_mm) * (np.cos(np.outer(angles, n)) @ weights)
    return fluence if modulation_delay else fluence.real


def _ratios(x, terms):
    """Return I_{n+1}(x) / I_n(x) for n = 0 .. terms - 1."""
    ratios = np.zeros(terms + 60, dtype=complex)
    for n in range(terms + 58, -1, -1):
        ratios[n] = 1 / (2 * (n + 1) / x + ratios[n + 1])
    return ratios[:terms]
