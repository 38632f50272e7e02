"""From raw amplitudes to data a model can predict: phantom log-ratios, free offsets, fiber gains."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from BreastBiomarkersLib.errors import InputError
from numpy.typing import NDArray

from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.measurements import Measurements
from NIRSTReconstructionLib.optodes import Optodes
from NIRSTReconstructionLib.point_light import derived

GAINS = ("none", "global", "fibers")
"""What is unknown about the instrument: nothing, one factor per wavelength, or one factor per fiber and wavelength."""

_PHANTOM_MUA, _PHANTOM_START = (2e-4, 0.1), 0.006  # mm^-1: between these, from here
_PHANTOM_STEPS, _PHANTOM_SETTLED, _PHANTOM_DIFFERENCE = 15, 1e-4, 1e-3
_TINY = 1e-300


class Slope(NamedTuple):
    """Fall of the light with distance in a homogeneous body, per wavelength.

    Attributes
    ----------
    slope : (W,) ndarray, mm^-1
        Of ln(amplitude * distance) against distance; minus the effective attenuation.
    offset : (W,) ndarray
    scatter : (W,) ndarray
        Root-mean-square deviation from the line.
    """

    slope: NDArray[np.float64]
    offset: NDArray[np.float64]
    scatter: NDArray[np.float64]


class HomogeneousFit(NamedTuple):
    """Optical properties of a homogeneous body that explain its data best.

    Attributes
    ----------
    mua : (W,) ndarray, mm^-1
    musp : (W,) ndarray, mm^-1
        As assumed.
    offset : (W,) ndarray
        Measured minus modeled log amplitude, mean over the channels.
    rms : (W,) ndarray
        Root-mean-square residual of the log amplitude after the offset.
    log_amplitude : (W, C) ndarray
        Modeled, without the offset.
    """

    mua: NDArray[np.float64]
    musp: NDArray[np.float64]
    offset: NDArray[np.float64]
    rms: NDArray[np.float64]
    log_amplitude: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DataSpace:
    """What of the data takes part in a fit: active channels, divided by their noise, unknown gains projected out.

    Made by `data_space`.

    Attributes
    ----------
    active : (W, C) ndarray of bool
    sd : (W, C) ndarray
    gain_bases : tuple of (n_w, k_w) ndarray
        Per wavelength an orthonormal basis of what unknown gains can do to the noise-scaled active data.

    Notes
    -----
    An unknown gain vector g adds B g to the log amplitudes of a wavelength (B holds a 1 for the source and a 1 for the
    detector of each channel). Fitting g by weighted least squares is the same as applying I - Q Q^T to data, model and
    Jacobian after division by the noise, where Q spans the columns of B divided by the noise.
    """

    active: NDArray[np.bool_]
    sd: NDArray[np.float64]
    gain_bases: tuple[NDArray[np.float64], ...]

    def whiten(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return differences or derivatives of the data (W, C, ...) as rows of unit noise (M, ...)."""
        rows = []
        for w, Q in enumerate(self.gain_bases):
            use = self.active[w]
            scaled = values[w, use].reshape(len(Q), -1) / self.sd[w, use, None]
            rows.append((scaled - Q @ (Q.T @ scaled)).reshape(len(Q), *values.shape[2:]))
        return np.concatenate(rows)

    def residual(self, difference: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a data difference (W, C) after the best gains have been removed; NaN where inactive."""
        result = np.full(difference.shape, np.nan)
        white = self.whiten(difference)
        result[self.active] = white * self.sd[self.active]
        return result

    @property
    def freedom(self) -> NDArray[np.int64]:
        """(W,) number of data minus number of free gains, per wavelength."""
        return np.array([Q.shape[0] - Q.shape[1] for Q in self.gain_bases])


def data_space(measurements: Measurements, gains: str = "none") -> DataSpace:
    """Return the data space of the measurements.

    Parameters
    ----------
    measurements : Measurements
    gains : str
        "none": amplitudes are absolute. "global": one unknown factor per wavelength. "fibers": an unknown factor for
        every source and every detector, per wavelength; costs up to S + D - 1 data of a wavelength.

    Raises
    ------
    InputError
        If `gains` is unknown, or nothing is left to fit.
    """
    if gains not in GAINS:
        raise InputError(f"Unknown gain treatment '{gains}'; choose one of {', '.join(GAINS)}.")
    bases = []
    for w, use in enumerate(measurements.active):
        B = _gain_columns(measurements.channels[use], gains) / measurements.sd[w, use, None]
        U, singular, _ = np.linalg.svd(B, full_matrices=False)
        bases.append(U[:, singular > 1e-9 * singular.max(initial=1e-300)])
    space = DataSpace(measurements.active, measurements.sd, tuple(bases))
    if space.freedom.max() < 3:
        raise InputError(
            f"After {gains} gains have been projected out, at most {space.freedom.max()} data are left per wavelength. "
            "Measure more channels, or calibrate on a phantom instead."
        )
    return space


def calibrate(measured: Measurements, reference: Measurements, reference_model: NDArray[np.float64]) -> Measurements:
    """Return data as an ideal instrument would have measured them, from a phantom measured with the same fibers.

    ``ln I_calibrated = ln(I_measured / I_phantom) + model of the phantom``: source strengths, detector gains, coupling
    and, to first order, what the model lacks (a 2-D model of 3-D light, a coarse mesh) cancel in the ratio.

    Parameters
    ----------
    measured, reference : Measurements
        On the same channels and wavelengths (`Measurements.at_channels`, `at_wavelengths`).
    reference_model : (W, C) ndarray
        Modeled log amplitude of the phantom on its own mesh.

    Returns
    -------
    Measurements
        Active where both are; noise of both added in squares.

    Raises
    ------
    InputError
        If the channels or wavelengths differ.
    """
    if not np.array_equal(measured.wavelengths_nm, reference.wavelengths_nm) or not np.array_equal(
        measured.channels, reference.channels
    ):
        raise InputError(f"'{measured.name}' and '{reference.name}' differ in wavelengths or channels.")
    active = measured.active & reference.active
    lost = int((measured.active & ~active).sum())
    remarks = measured.remarks
    if lost:
        remarks = (*remarks, f"{lost} values left out: the reference '{reference.name}' has none there.")
    return replace(
        measured,
        log_amplitude=measured.log_amplitude - reference.log_amplitude + reference_model,
        sd=np.hypot(measured.sd, reference.sd),
        active=active,
        remarks=remarks,
    )


def fit_slope(measurements: Measurements, distances_mm: NDArray[np.float64], shortest_mm: float = 15.0) -> Slope:
    """Return the straight line ln(amplitude * distance) = offset + slope * distance for each wavelength.

    Parameters
    ----------
    measurements : Measurements
    distances_mm : (C,) ndarray
        Source to detector.
    shortest_mm : float
        Nearer channels do not yet follow the line and are left out.

    Raises
    ------
    InputError
        If a wavelength has fewer than eight channels beyond `shortest_mm`, or the light does not fall with distance.
    """
    slopes, offsets, scatters = [], [], []
    for w, nm in enumerate(measurements.wavelengths_nm):
        use = measurements.active[w] & (distances_mm >= shortest_mm)
        if use.sum() < 8:
            raise InputError(
                f"At {nm:g} nm only {int(use.sum())} channels are longer than {shortest_mm:g} mm; 8 needed."
            )
        r = distances_mm[use]
        logarithm = measurements.log_amplitude[w, use] + np.log(r)
        slope, offset = np.polyfit(r, logarithm, 1)
        if slope >= 0:
            raise InputError(
                f"At {nm:g} nm the light does not fall with distance (slope {slope:+.3f} 1/mm). Optode numbers or "
                "positions do not belong to these data, or the unit of the positions is wrong."
            )
        slopes.append(slope)
        offsets.append(offset)
        scatters.append(float(np.sqrt(np.mean((logarithm - offset - slope * r) ** 2))))
    return Slope(np.array(slopes), np.array(offsets), np.array(scatters))


def fit_homogeneous(measurements: Measurements, model: ForwardModel, musp: NDArray[np.float64]) -> HomogeneousFit:
    """Return the absorption of a homogeneous body from the fall of its light, with scattering known.

    Each wavelength is fitted by itself: Gauss-Newton in the square root of mua, in which the logarithm of the light is
    nearly straight; the amplitude factor (source strength times detector gain) is free. The light is that of the model,
    of line or point sources: the wrong kind gives a wrong absorption.

    Parameters
    ----------
    measurements : Measurements
        Of the homogeneous body, on the model's channels.
    model : ForwardModel
        Of that body; its wavelengths are those of the measurements.
    musp : (W,) ndarray, mm^-1
        Reduced scattering, as stated for the phantom.

    Raises
    ------
    InputError
        If musp is not plausible, or the best mua lies at the edge of 0.0002 to 0.1 mm^-1.
    """
    musp = np.asarray(musp, dtype=np.float64)
    if musp.shape != measurements.wavelengths_nm.shape or (musp < 0.1).any() or (musp > 10).any():
        raise InputError(f"The phantom's musp is {musp}; one value of 0.1 to 10 1/mm per wavelength is needed.")
    uniform = np.ones((1, len(model.mesh.nodes)))
    use = measurements.active
    weight = np.where(use, 1 / measurements.sd**2, 0.0)
    weight /= np.maximum(weight.sum(axis=1, keepdims=True), _TINY)  # a wavelength may have no data

    def light_at(root: NDArray[np.float64], of: ForwardModel) -> NDArray[np.float64]:
        return of.measure_optical(root[:, None] ** 2 * uniform, musp[:, None] * uniform).real

    followed = derived(model)
    low, high = np.sqrt(_PHANTOM_MUA)
    root = np.full(len(musp), np.sqrt(_PHANTOM_START))
    for _ in range(_PHANTOM_STEPS):
        modeled = light_at(root, model)
        here = modeled if followed is model else light_at(root, followed)
        slope = (light_at(root * (1 + _PHANTOM_DIFFERENCE), followed) - here) / (_PHANTOM_DIFFERENCE * root[:, None])
        slope -= (weight * slope).sum(axis=1, keepdims=True)  # what the free factor cannot do
        difference = np.where(use, measurements.log_amplitude - modeled, 0.0)
        step = (weight * slope * difference).sum(axis=1) / np.maximum((weight * slope**2).sum(axis=1), _TINY)
        before, root = root, (root + step).clip(root / 2, 2 * root).clip(low, high)
        if np.abs(root / before - 1).max() < _PHANTOM_SETTLED:
            break
    edge = (root <= low) | (root >= high)
    if edge.any():
        raise InputError(
            f"The reference '{measurements.name}' fits no absorption between 0.0002 and 0.1 1/mm at "
            f"{measurements.wavelengths_nm[edge][0]:g} nm. Check the unit of the positions (mm), the numbering of the "
            "fibers, and that the object is homogeneous."
        )
    modeled = light_at(root, model)
    difference = np.where(use, measurements.log_amplitude - modeled, 0.0)
    offset = (weight * difference).sum(axis=1)
    residual = np.where(use, difference - offset[:, None], 0.0)
    rms = np.sqrt((residual**2).sum(axis=1) / np.maximum(use.sum(axis=1), 1))
    return HomogeneousFit(root**2, musp, offset, rms, modeled)


def check_distances(measurements: Measurements, optodes: Optodes) -> Slope:
    """Return the fall of the light with distance; raise where the numbering or the unit cannot be right.

    Raises
    ------
    InputError
        See `fit_slope`; also where the effective attenuation is far outside what tissue shows, which points to
        positions in cm or m.
    """
    slope = fit_slope(measurements, optodes.distances, shortest_mm=float(np.percentile(optodes.distances, 25)))
    attenuation = float(-np.median(slope.slope))
    if attenuation > 1.0 or attenuation < 0.01:
        unit = "cm instead of mm" if attenuation > 1.0 else "a unit smaller than mm"
        raise InputError(
            f"The light falls by {attenuation:.3g} per mm; tissue shows 0.05 to 0.5. "
            f"The optode positions may be in {unit}."
        )
    return slope


def _gain_columns(channels: NDArray[np.int64], gains: str) -> NDArray[np.float64]:
    if gains == "none":
        return np.zeros((len(channels), 0))
    if gains == "global":
        return np.ones((len(channels), 1))
    columns = [channels[:, kind, None] == np.unique(channels[:, kind])[None] for kind in (0, 1)]
    return np.concatenate(columns, axis=1).astype(np.float64)
