"""What the instrument adds to the model's light: relative noise, dark noise, phase noise and fiber gains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from BreastBiomarkersLib.errors import InputError
from numpy.typing import NDArray


@dataclass(frozen=True)
class NoiseModel:
    """Gaussian noise of a channel's amplitude I, sd = sqrt((relative I)^2 + (dark I_max)^2), and of its phase.

    Attributes
    ----------
    relative : float
        Standard deviation as a fraction of the amplitude; 0.02 is the 2 % of Feng 2022, doi 10.1364/OPTICA.446576.
    dark : float
        Standard deviation of the dark signal as a fraction of the brightest channel at that wavelength.
    phase_deg : float, degree
        Standard deviation of the phase, frequency domain only.
    source_gain, detector_gain : float
        Standard deviation of ln of the coupling of each source and detector fiber, drawn per wavelength. Gains belong
        to one set-up: they are the same in a measurement and in its phantom measurement.

    Raises
    ------
    InputError
        If a value is negative, not finite, or so large that percent were meant.
    """

    relative: float = 0.02
    dark: float = 0.0
    phase_deg: float = 0.5
    source_gain: float = 0.0
    detector_gain: float = 0.0

    def __post_init__(self) -> None:
        limits = {"relative": 0.5, "dark": 0.5, "phase_deg": 45.0, "source_gain": 2.0, "detector_gain": 2.0}
        for name, limit in limits.items():
            value = getattr(self, name)
            if not 0 <= value <= limit:
                raise InputError(f"The noise setting {name} is {value:g}; 0 to {limit:g} is possible (0.02 is 2 %).")

    def log_amplitude_sd(self, log_amplitude: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the standard deviation of ln amplitude, (W, C), to first order."""
        brightest = log_amplitude.max(axis=-1, keepdims=True)
        return np.hypot(self.relative, self.dark * np.exp(brightest - log_amplitude))

    def draw_gains(
        self, channels: NDArray[np.int64], wavelength_count: int, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Return the sum of ln source gain and ln detector gain of every channel, (W, C)."""
        source, detector = channels.T
        sources = self.source_gain * rng.standard_normal((wavelength_count, source.max() + 1))
        detectors = self.detector_gain * rng.standard_normal((wavelength_count, detector.max() + 1))
        return np.asarray(sources[:, source] + detectors[:, detector])

    def add(self, data: NDArray, rng: np.random.Generator) -> NDArray:
        """Return data (W, C) with noise; an amplitude that noise makes negative becomes NaN (nothing was detected)."""
        log_amplitude = np.real(data)
        factor = 1 + self.log_amplitude_sd(log_amplitude) * rng.standard_normal(data.shape)
        noisy = log_amplitude + np.log(np.where(factor > 0, factor, np.nan))
        if not np.iscomplexobj(data):
            return np.asarray(noisy)
        phase = np.imag(data) + np.deg2rad(self.phase_deg) * rng.standard_normal(data.shape)
        return noisy + 1j * phase
