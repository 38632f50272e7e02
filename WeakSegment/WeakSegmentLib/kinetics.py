"""Contrast agent kinetics: what a DCE-MRI signal is made of, and the read-outs taken from one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume
from numpy.typing import ArrayLike, NDArray

HEMATOCRIT = 0.42
"""Share of blood volume taken by cells (Parker 2006 uses the same figure)."""

MEDIUM_FROM_PERCENT, FAST_FROM_PERCENT = 50.0, 100.0
"""Initial enhancement: slow below the first, fast above the second (ACR BI-RADS 5th edition vocabulary)."""

LATE_CHANGE_PERCENT = 10.0
"""Late change: persistent above, wash-out below minus this, plateau between (ACR BI-RADS 5th edition vocabulary)."""

_STEP_MIN = 0.01


def blood_concentration(minutes: ArrayLike) -> NDArray[np.float64]:
    """Return the contrast agent concentration in arterial blood after a bolus of 0.1 mmol/kg.

    Parameters
    ----------
    minutes : array_like, min
        Time since the bolus reached the artery; up to 0 the concentration is 0.

    Returns
    -------
    ndarray, mM
        Whole-blood concentration, same shape.

    Notes
    -----
    Population average of 23 patients: two Gaussians (first pass, recirculation) and an exponential with sigmoid onset,

        C(t) = sum_n A_n / (s_n sqrt(2 pi)) exp(-(t - T_n)^2 / (2 s_n^2)) + a exp(-b t) / (1 + exp(-s (t - tau))).

    References
    ----------
    Parker GJM et al., Magn Reson Med 56:993 (2006), table 1, doi:10.1002/mrm.21066.
    """
    t = np.asarray(minutes, dtype=np.float64)
    concentration = 1.050 * np.exp(-0.1685 * t) / (1 + np.exp(-38.078 * (t - 0.483)))
    for area, center, width in ((0.809, 0.17046, 0.0563), (0.330, 0.365, 0.132)):
        concentration += area / (width * np.sqrt(2 * np.pi)) * np.exp(-((t - center) ** 2) / (2 * width**2))
    return np.where(t <= 0, 0.0, concentration)


def tissue_concentration(minutes: float, ktrans: ArrayLike, ve: ArrayLike, vp: ArrayLike = 0.0) -> NDArray[np.float64]:
    """Return the contrast agent concentration in tissue at one time (extended Tofts model).

    Parameters
    ----------
    minutes : float, min
        Time since the bolus reached the artery.
    ktrans : array_like, 1/min
        Transfer constant from plasma to the extravascular extracellular space, >= 0.
    ve, vp : array_like
        Volume fractions of that space (> 0) and of plasma; broadcast against `ktrans`.

    Returns
    -------
    ndarray, mM

    Notes
    -----
    C(t) = vp Cp(t) + Ktrans integral_0^t Cp(u) exp(-(Ktrans / ve) (t - u)) du, with Cp = C_blood / (1 - hematocrit).
    The integral is exact for Cp linear over steps of 0.01 min; for many voxels it is interpolated linearly in a table
    of 400 rate constants (relative error below 1e-3).

    References
    ----------
    Tofts PS, J Magn Reson Imaging 7:91 (1997), doi:10.1002/jmri.1880070113.
    """
    ktrans, ve, vp = np.broadcast_arrays(*(np.asarray(v, dtype=np.float64) for v in (ktrans, ve, vp)))
    rate = ktrans / ve
    if rate.size <= 400:
        integral = _leakage_integral(minutes, rate.ravel()).reshape(rate.shape)
    else:
        table_rates = np.linspace(np.sqrt(rate.min()), np.sqrt(rate.max()), 400) ** 2
        integral = np.interp(rate, table_rates, _leakage_integral(minutes, table_rates))
    plasma = blood_concentration(minutes) / (1 - HEMATOCRIT)
    return vp * plasma + ktrans * integral


def _leakage_integral(minutes: float, rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return integral_0^t Cp(u) exp(-rate (t - u)) du for each rate (1/min), in mM min."""
    if minutes <= 0:
        return np.zeros_like(rates)
    times = np.linspace(0.0, minutes, max(2, int(np.ceil(minutes / _STEP_MIN)) + 1))
    plasma = blood_concentration(times) / (1 - HEMATOCRIT)
    step = times[1]
    x = np.maximum(rates * step, 1e-6)
    # weights of both ends of a step under a linear Cp: integral of exp(-x (1 - s)) times (1 - s) and s
    end = (x - 1 + np.exp(-x)) / x**2 * step
    start = (1 - np.exp(-x)) / x * step - end
    since = minutes - times
    decay = np.exp(-np.outer(rates, since))
    return start * (decay[:, 1:] @ plasma[:-1]) + end * (decay[:, 1:] @ plasma[1:])


def spoiled_gradient_echo(
    t1_s: ArrayLike, concentration_mm: ArrayLike, repetition_ms: float, flip_degrees: float, relaxivity: float = 4.5
) -> NDArray[np.float64]:
    """Return the steady-state signal of a spoiled gradient echo, as a share of the fully relaxed signal.

    Parameters
    ----------
    t1_s : array_like, s
        Longitudinal relaxation time without contrast agent.
    concentration_mm : array_like, mM
        Contrast agent concentration, broadcast against `t1_s`.
    repetition_ms, flip_degrees : float
        Repetition time in ms, flip angle in degrees.
    relaxivity : float, 1/(s mM)
        r1 of the agent; 4.5 is a usual figure for gadolinium chelates at 1.5 T.

    Notes
    -----
    S = sin(a) (1 - E) / (1 - cos(a) E), E = exp(-TR (1/T1 + r1 C)). T2* is left out: the echo is short.
    """
    rate = 1.0 / np.asarray(t1_s, dtype=np.float64) + relaxivity * np.asarray(concentration_mm, dtype=np.float64)
    decay = np.exp(-repetition_ms / 1000.0 * rate)
    flip = np.deg2rad(flip_degrees)
    return np.sin(flip) * (1 - decay) / (1 - np.cos(flip) * decay)


@dataclass(frozen=True)
class SegmentKinetics:
    """Enhancement of a segment.

    Attributes
    ----------
    initial_enhancement_percent : float
        100 (early - pre) / pre of the mean signals of the segment.
    initial_class : str
        "slow", "medium" or "fast".
    late_change_percent : float or None
        100 (late - early) / early of the mean signals; None with one post-contrast phase.
    late_class : str or None
        "persistent", "plateau" or "washout".
    ser : float or None
        Signal enhancement ratio (early - pre) / (late - pre) of the mean signals; None if late does not exceed pre.
    voxel_enhancement_percent : dict of str to float
        Percentiles p10, p25, p50, p75, p90 of the voxelwise initial enhancement.
    voxel_shares : dict of str to float
        Shares of the segment's voxels that are persistent, plateau, washout; empty with one post-contrast phase.
    voxels : int
        Number of voxels with a positive pre-contrast signal, which is what all figures are taken from.
    """

    initial_enhancement_percent: float
    initial_class: str
    late_change_percent: float | None
    late_class: str | None
    ser: float | None
    voxel_enhancement_percent: dict[str, float]
    voxel_shares: dict[str, float]
    voxels: int


def percent_enhancement(pre: Volume, post: Volume) -> Volume:
    """Return 100 (post - pre) / pre per voxel, in percent; 0 where the pre-contrast signal is not positive.

    Raises
    ------
    InputError
        If the grids differ or a voxel is not a finite number.
    """
    before, after = _checked_phases(pre, [post])
    enhancement = np.zeros(before.shape, dtype=np.float32)
    np.divide(100.0 * (after - before), before, out=enhancement, where=before > 0)
    return pre.with_array(enhancement, "percent enhancement")


def signal_enhancement_ratio(pre: Volume, early: Volume, late: Volume) -> Volume:
    """Return (early - pre) / (late - pre) per voxel; 0 where the late signal does not exceed the one before.

    Raises
    ------
    InputError
        If the grids differ or a voxel is not a finite number.

    References
    ----------
    Hylton NM et al., Radiology 263:663 (2012), doi:10.1148/radiol.12110748.
    """
    before, after, last = _checked_phases(pre, [early, late])
    ratio = np.zeros(before.shape, dtype=np.float32)
    np.divide(after - before, last - before, out=ratio, where=last > before)
    return pre.with_array(ratio, "signal enhancement ratio")


def segment_kinetics(pre: Volume, post: Sequence[Volume], mask: Volume) -> SegmentKinetics:
    """Return initial enhancement, late change, SER and their classes for a segment.

    Parameters
    ----------
    pre : Volume
        Pre-contrast phase.
    post : sequence of Volume
        Post-contrast phases in order of time. The first counts as early (take it within two to three minutes of the
        injection), the last as late.
    mask : Volume
        The segment, nonzero inside.

    Raises
    ------
    InputError
        If there is no post-contrast phase, the grids differ, a voxel is not a finite number, the mask is empty, or the
        segment has no pre-contrast signal.

    References
    ----------
    SER: Hylton NM et al., Radiology 263:663 (2012), doi:10.1148/radiol.12110748.
    Classes: ACR BI-RADS Atlas, 5th ed. (2013).
    """
    if not post:
        raise InputError("Enhancement needs a post-contrast phase and none is given. Add one.")
    if not pre.same_grid(mask):
        raise InputError(f"The segment '{mask.name}' is not on the grid of '{pre.name}'. Resample it to the image.")
    phases = _checked_phases(pre, post)
    inside = mask.array != 0
    if not inside.any():
        raise InputError(f"The segment '{mask.name}' is empty. Choose one with voxels.")
    before, early, late = (phases[n][inside] for n in (0, 1, -1))
    positive = before > 0
    if not positive.any():
        raise InputError(f"'{pre.name}' has no signal inside the segment. Is it the pre-contrast image?")
    before, early, late = before[positive], early[positive], late[positive]
    initial = 100 * float((early.mean() - before.mean()) / before.mean())
    voxelwise = 100 * (early - before) / before
    quantiles = {f"p{q}": float(np.percentile(voxelwise, q)) for q in (10, 25, 50, 75, 90)}
    initial_class = "slow" if initial < MEDIUM_FROM_PERCENT else "medium" if initial <= FAST_FROM_PERCENT else "fast"
    if len(phases) == 2 or early.mean() <= 0:
        return SegmentKinetics(initial, initial_class, None, None, None, quantiles, {}, int(positive.sum()))
    change = 100 * float((late.mean() - early.mean()) / early.mean())
    rise = float(late.mean() - before.mean())
    ser = float(early.mean() - before.mean()) / rise if rise > 0 else None
    late_voxelwise = np.zeros_like(early)
    np.divide(100 * (late - early), early, out=late_voxelwise, where=early > 0)
    shares = {
        "persistent": float((late_voxelwise > LATE_CHANGE_PERCENT).mean()),
        "plateau": float((np.abs(late_voxelwise) <= LATE_CHANGE_PERCENT).mean()),
        "washout": float((late_voxelwise < -LATE_CHANGE_PERCENT).mean()),
    }
    late_class = (
        "persistent" if change > LATE_CHANGE_PERCENT else "washout" if change < -LATE_CHANGE_PERCENT else "plateau"
    )
    return SegmentKinetics(initial, initial_class, change, late_class, ser, quantiles, shares, int(positive.sum()))


def _checked_phases(pre: Volume, post: Sequence[Volume]) -> list[NDArray[np.float32]]:
    for volume in post:
        if not pre.same_grid(volume):
            raise InputError(f"'{volume.name}' is not on the grid of '{pre.name}'. Resample it to the same grid first.")
    phases = [np.asarray(volume.array, dtype=np.float32) for volume in (pre, *post)]
    for phase, volume in zip(phases, (pre, *post), strict=True):
        if not np.isfinite(phase).all():
            raise InputError(f"'{volume.name}' holds voxels that are not numbers (NaN or infinite). Export it again.")
    return phases
