"""From tissues to images: contrast uptake, coil, motion, blur and noise of the phantom's scanner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from WeakSegmentLib.breast_anatomy import Anatomy, Field, Grid, enlarge, power_law_field
from WeakSegmentLib.breast_parameters import BreastParameters
from WeakSegmentLib.kinetics import blood_concentration, spoiled_gradient_echo, tissue_concentration

_GLAND_SIGNAL = 250.0
"""Gland before injection at full coil sensitivity, in image units; fat and enhancement still fit 16 bits."""

_PROTON_DENSITY = {"fat": 0.90, "gland": 0.80, "muscle": 0.75, "skin": 0.65, "vessel": 0.80, "lesion": 0.85}
_BLOOD_T1_S, _MUSCLE_T1_S, _SKIN_T1_S = 1.4, 1.0, 1.0
_MUSCLE_KTRANS, _SKIN_KTRANS, _FAT_KTRANS, _CORE_KTRANS = 0.06, 0.04, 0.005, 0.02
_GLAND_VE, _GLAND_VP = 0.35, 0.02
_NOISE_SPREAD = 0.12


@dataclass(frozen=True, eq=False)
class Uptake:
    """What is needed to compute the signal at any time: tissue shares and maps of the kinetic constants.

    Attributes
    ----------
    shares : dict of (K, J, I) ndarray
        Tissue shares, "fat" already times its residual signal.
    gland_at, lesion_at : (n,) ndarray
        Flat indices of the voxels with gland and with lesion.
    gland_weight, lesion_weight : (n,) ndarray
        Share times proton density there.
    gland_ktrans, lesion_ktrans : (n,) ndarray, 1/min
    """

    parameters: BreastParameters
    shares: dict[str, Field]
    gland_at: NDArray[np.int64]
    gland_weight: Field
    gland_ktrans: Field
    lesion_at: NDArray[np.int64]
    lesion_weight: Field
    lesion_ktrans: Field

    def signal(self, minutes: float) -> Field:
        """Return the noise-free signal (K, J, I) at a time after injection in minutes."""
        p = self.parameters

        def echo(t1_s: float, concentration: NDArray[np.float64] | float) -> NDArray[np.float64]:
            return spoiled_gradient_echo(t1_s, concentration, p.protocol.repetition_ms, p.protocol.flip_degrees)

        def uptake(ktrans: NDArray[Any] | float, ve: float, vp: float) -> NDArray[np.float64]:
            return tissue_concentration(minutes, ktrans, ve, vp)

        scale = _GLAND_SIGNAL / float(_PROTON_DENSITY["gland"] * echo(p.gland_t1_s, 0.0))
        uniform = {
            "fat": echo(p.fat_t1_s, uptake(_FAT_KTRANS, 0.1, 0.002)),
            "muscle": echo(_MUSCLE_T1_S, uptake(_MUSCLE_KTRANS, 0.15, 0.03)),
            "skin": echo(_SKIN_T1_S, uptake(_SKIN_KTRANS, 0.3, 0.03)),
            "vessel": echo(_BLOOD_T1_S, blood_concentration(minutes)),
        }
        total = np.zeros(self.shares["fat"].shape, dtype=np.float32)
        for name, value in uniform.items():
            total += np.float32(scale * _PROTON_DENSITY[name] * float(value)) * self.shares[name]
        flat = total.ravel()
        table = np.geomspace(self.gland_ktrans.min(), self.gland_ktrans.max() * 1.001, 200)
        gland = echo(p.gland_t1_s, uptake(table, _GLAND_VE, _GLAND_VP))
        flat[self.gland_at] += scale * self.gland_weight * np.interp(self.gland_ktrans, table, gland)
        lesion = echo(p.tumor_t1_s, uptake(self.lesion_ktrans, p.tumor_ve, p.tumor_vp))
        flat[self.lesion_at] += scale * self.lesion_weight * lesion
        return total


def draw_uptake(
    grid: Grid,
    shares: dict[str, Field],
    core: Field,
    texture: Field,
    parameters: BreastParameters,
    rng: np.random.Generator,
) -> Uptake:
    """Draw where contrast agent goes: patches of background enhancement, an uneven lesion with a core.

    Parameters
    ----------
    shares : dict of (K, J, I) ndarray
        Shares of "fat", "gland", "muscle", "skin", "vessel" and "lesion".
    core : (K, J, I) ndarray
        Share of each voxel in the lesion's core.
    texture : (K, J, I) ndarray
        Fine field with unit standard deviation.
    """
    p = parameters
    patches = power_law_field(grid, 2.5, rng, longest_mm=15)
    gland_at = np.flatnonzero(shares["gland"] > 0.005)
    lesion_at = np.flatnonzero(shares["lesion"] > 0.005)
    fine = np.exp(np.float32(0.10) * texture.ravel())
    lesion_ktrans = p.tumor_ktrans_per_min * np.exp(p.tumor_spread * patches.ravel()[lesion_at])
    inside = core.ravel()[lesion_at]
    uneven = enlarge(power_law_field(grid.coarse(), 3.5, rng, longest_mm=100, shortest_mm=20), grid)
    residual = np.minimum(p.fat_residual * np.exp(np.float32(0.35 if p.fat_suppressed else 0.0) * uneven), 1)
    return Uptake(
        parameters=p,
        shares={**shares, "fat": shares["fat"] * residual},
        gland_at=gland_at,
        gland_weight=np.float32(_PROTON_DENSITY["gland"]) * (shares["gland"].ravel() * fine)[gland_at],
        gland_ktrans=p.gland_ktrans_per_min * np.exp(-p.gland_spread * patches.ravel()[gland_at]),
        lesion_at=lesion_at,
        lesion_weight=np.float32(_PROTON_DENSITY["lesion"]) * (shares["lesion"].ravel() * fine)[lesion_at],
        lesion_ktrans=(1 - inside) * lesion_ktrans + inside * _CORE_KTRANS,
    )


@dataclass(frozen=True, eq=False)
class Scanner:
    """Coil, noise and blur of one examination."""

    grid: Grid
    sensitivity: Field
    noise: Field
    blur_voxels: float

    def acquire(
        self, signal: Field, shift_mm: NDArray[np.float64], breathing_mm: float, rng: np.random.Generator
    ) -> NDArray[np.int16]:
        """Return the magnitude image of a signal (K, J, I): moved, with Rician noise, blurred in the slice.

        Parameters
        ----------
        shift_mm : (3,) K, J, I in mm
            Displacement of the breast.
        breathing_mm : float
            Amplitude of an oscillation to and fro along I during the acquisition of the lines along J: ghosts.
        """
        noise = rng.standard_normal((*signal.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
        spectrum = scipy.fft.fftn(signal * self.sensitivity + self.noise * noise, overwrite_x=True)
        frequencies = [scipy.fft.fftfreq(n) for n in signal.shape]
        k, j, i = (
            np.exp(-2j * np.pi * f * d / h - (2 * np.pi * f * b) ** 2 / 2)
            for f, d, h, b in zip(
                frequencies, shift_mm, self.grid.spacing, (0.0, self.blur_voxels, self.blur_voxels), strict=True
            )
        )
        spectrum *= (k[:, None] * j).astype(np.complex64)[:, :, None] * i.astype(np.complex64)
        if breathing_mm:
            cycle = np.sin(2 * np.pi * (np.arange(signal.shape[1]) * rng.uniform(0.1, 0.25) + rng.random()))
            to_and_fro = breathing_mm / self.grid.spacing[2] * np.outer(cycle, frequencies[2])
            spectrum *= np.exp(-2j * np.pi * to_and_fro).astype(np.complex64)
        return np.rint(np.abs(scipy.fft.ifftn(spectrum, overwrite_x=True))).astype(np.int16)


def draw_scanner(grid: Grid, anatomy: Anatomy, parameters: BreastParameters, rng: np.random.Generator) -> Scanner:
    """Draw coil sensitivity and noise map; the noise is the gland's mean signal before injection / `parameters.snr`."""
    coarse = grid.coarse()
    uneven, noisy = (enlarge(power_law_field(coarse, 3.5, rng, longest_mm=150, shortest_mm=25), grid) for _ in range(2))
    from_tip = parameters.depth_mm - grid.axes()[2]
    far = (np.float32(0.3) * np.maximum(anatomy.depth, 0) + from_tip) / parameters.coil_fall_off_mm
    sensitivity = np.exp(np.float32(parameters.coil_spread) * uneven - far.astype(np.float32))
    mean = float(np.average(sensitivity, weights=anatomy.gland))
    # white noise loses this share of its standard deviation by the blur, a Gaussian along two axes
    frequency = np.linspace(0, 0.5, 200)
    kept = np.mean(np.exp(-((2 * np.pi * frequency * parameters.blur_voxels) ** 2)))
    noise = np.float32(_GLAND_SIGNAL * mean / parameters.snr / kept) * np.exp(np.float32(_NOISE_SPREAD) * noisy)
    return Scanner(grid, sensitivity, noise, parameters.blur_voxels)


def draw_shifts(phases: int, parameters: BreastParameters, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the displacement (phases, 3) of the breast in mm along K, J, I; the first phase does not move."""
    shifts = parameters.motion_mm * rng.standard_normal((phases, 3))
    shifts[0] = 0
    return shifts
