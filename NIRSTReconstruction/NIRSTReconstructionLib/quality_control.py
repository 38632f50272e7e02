"""Whether measured light can be right: per channel and fiber, with reasons and a suggestion of what to leave out.

Nothing is changed here. `check_quality` returns findings, a mask and the noise it found; who agrees calls
`QualityReport.followed`, or `raise_noise` for the noise alone.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path
from numpy.typing import NDArray

from NIRSTReconstructionLib.fibers import Fibers
from NIRSTReconstructionLib.measurements import Measurements

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAD_TO_SD = 1.4826
"""A normal distribution's standard deviation over its median absolute deviation."""
SAME_PLACE_MM = 4.0
"""A source and a detector of one number that are nearer than this are taken for one fiber (sources are listed up to one
transport length inside the skin)."""

_MIN_CHANNELS = 8
_CLIPPED_TOGETHER = 3  # so many equal largest (smallest) amplitudes at a wavelength are a limit of the detector
_SPREAD_MM, _FLAT = 20.0, 0.35  # over so many mm a fiber's light must vary by this share of what the line says
_SWAP_GAIN = 0.5  # exchanging two fibers must lower the scatter to this share to be worth a hint
_SHARED, _SHARED_LIMIT = 0.5, 1.0
# A departure of which the reverse channel has this share is the body's doing up to this size (in ln), a leak above it.
_IRLS_ROUNDS = 30
_TUKEY = 4.685  # 95 % efficient for normal noise


@dataclass(frozen=True)
class QualitySettings:
    """Limits of the checks.

    Attributes
    ----------
    most_mads : float
        Channels farther from the fall of the light with distance, or from reciprocity, than this many median absolute
        deviations (scaled to a standard deviation) are outliers; and farther than five times their own noise. What a
        channel shares with its reverse channel is an outlier only above a factor of e.
    saturation : float or None
        Amplitude at which the detector saturates, in the data's unit.
    dark : float or None
        Amplitude of the dark signal; channels below three times it are not used.
    most_noise : float
        Largest relative standard deviation of a usable amplitude.
    dead_loss : float
        A fiber with all its channels below the line by this factor at a wavelength is called dead.

    Raises
    ------
    InputError
        If a limit is not positive.
    """

    most_mads: float = 4.0
    saturation: float | None = None
    dark: float | None = None
    most_noise: float = 0.3
    dead_loss: float = 20.0

    def __post_init__(self) -> None:
        for name in ("most_mads", "saturation", "dark", "most_noise", "dead_loss"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise InputError(f"The quality limit {name} is {value}; it must be positive.")


class Finding(NamedTuple):
    """One thing that is wrong, or looks it.

    Attributes
    ----------
    kind : str
        "saturated", "dark", "noisy", "distance", "reciprocity", "dead source", "dead detector", "dead fiber",
        "swapped", "noise level" or "too few".
    reason : str
        In words, with numbers.
    wavelength_nm : float or None
        None: at every wavelength.
    source, detector : int or None
        Numbers counted from 1; None: not tied to one.
    """

    kind: str
    reason: str
    wavelength_nm: float | None = None
    source: int | None = None
    detector: int | None = None


@dataclass(frozen=True, eq=False)
class QualityReport:
    """What was found in one exposure.

    Attributes
    ----------
    measurements : Measurements
        As given.
    distances_mm : (C,) ndarray
    findings : tuple of Finding
    suggested : (W, C) ndarray of bool
        Active values that should be left out; a suggestion, not applied.
    slope : (W,) ndarray, mm^-1
    offset : (W,) ndarray
        Robust straight line ln(I r) = offset + slope r; NaN where too little is left.
    departure : (W, C) ndarray
        From the fall with distance, after the fibers' gains and a bend of the line; NaN where inactive.
    limit : (W,) ndarray
        Largest departure that is accepted.
    reciprocity : (W, C) ndarray
        ln I_sd - ln I_ds that fiber gains do not explain; NaN where there is no reverse channel.
    reciprocity_rms : (W,) ndarray
        Of ln I_sd - ln I_ds, before gains are taken out; NaN without reverse channels.
    reciprocity_left : (W,) ndarray
        The same after gains.
    noise : (W,) ndarray
        Relative standard deviation of a channel by which channels and their reverse disagree, where that is far more
        than the noise given with the data; NaN elsewhere.
    """

    measurements: Measurements
    distances_mm: NDArray[np.float64]
    findings: tuple[Finding, ...]
    suggested: NDArray[np.bool_]
    slope: NDArray[np.float64]
    offset: NDArray[np.float64]
    departure: NDArray[np.float64]
    limit: NDArray[np.float64]
    reciprocity: NDArray[np.float64]
    reciprocity_rms: NDArray[np.float64]
    reciprocity_left: NDArray[np.float64]
    noise: NDArray[np.float64]

    def followed(self) -> Measurements:
        """Return the data with all that is suggested: values left out, noise raised.

        Raises
        ------
        InputError
            If too little is left.
        """
        return raise_noise(self.measurements.without(self.suggested, "quality control"), self)

    def summary(self) -> dict[str, Any]:
        """Return the key figures and findings, JSON-able."""
        return {
            "values": int(self.measurements.active.size),
            "active": int(self.measurements.active.sum()),
            "suggested_to_leave_out": int(self.suggested.sum()),
            "wavelengths_nm": self.measurements.wavelengths_nm.tolist(),
            "slope_per_mm": _or_none(self.slope),
            "reciprocity_rms": _or_none(self.reciprocity_rms),
            "reciprocity_after_gains": _or_none(self.reciprocity_left),
            "suggested_noise": _or_none(self.noise),
            "findings": [finding._asdict() for finding in self.findings],
        }


def check_quality(measurements: Measurements, fibers: Fibers, settings: QualitySettings | None = None) -> QualityReport:
    """Return what looks wrong in the data: limits of the detector, dead and swapped fibers, outliers, reciprocity.

    Parameters
    ----------
    measurements : Measurements
    fibers : Fibers
    settings : QualitySettings, optional

    Raises
    ------
    InputError
        If the data name a fiber that has no position.

    Notes
    -----
    In a homogeneous body ln(I r) falls nearly linearly with the distance r. Departures are judged per wavelength after
    a robust fit (Tukey's weights) of a bent line and one gain for every source and detector, so that an outlier is a
    channel and not a weak fiber or the body's shape. Swapping source and detector leaves the light of any body
    unchanged: a departure that the reverse channel has, too, is a lesion or the body's shape, unless it is as large as
    a leak of light would be; and what is left of ln I_sd - ln I_ds after one number per fiber (source strength over
    detector gain) is an error of one of the two channels, or the noise as it is.
    """
    settings = settings or QualitySettings()
    distances = channel_distances(measurements, fibers)
    findings: list[Finding] = []
    suggested = np.zeros(measurements.active.shape, dtype=bool)
    _check_limits(measurements, settings, findings, suggested)
    _check_dead(measurements, distances, settings, findings, suggested)
    _check_swapped(measurements, fibers, distances, findings, suggested)
    reverse = _reverse_channels(measurements.channels, fibers)
    slope, offset, departure, limit = _check_distance(measurements, distances, reverse, settings, findings, suggested)
    reciprocity, rms, left, noise = _check_reciprocity(measurements, reverse, settings, departure, findings, suggested)
    suggested &= measurements.active
    return QualityReport(
        measurements,
        distances,
        tuple(findings),
        suggested,
        slope,
        offset,
        departure,
        limit,
        reciprocity,
        rms,
        left,
        noise,
    )


def raise_noise(measurements: Measurements, report: QualityReport) -> Measurements:
    """Return data with at least the noise that the check found at each wavelength, saying so in a remark.

    Parameters
    ----------
    measurements : Measurements
        Those that were checked, or the same with other channels active.
    report : QualityReport
    """
    low = np.isfinite(report.noise)
    if not low.any():
        return measurements
    listed = ", ".join(
        f"{noise:.1%} at {nm:g} nm"
        for noise, nm in zip(report.noise[low], measurements.wavelengths_nm[low], strict=True)
    )
    remark = f"Noise raised to what reciprocity shows: {listed}."
    sd = np.fmax(measurements.sd, report.noise[:, None])
    return replace(measurements, sd=sd, remarks=(*measurements.remarks, remark))


def channel_distances(measurements: Measurements, fibers: Fibers) -> NDArray[np.float64]:
    """Return the distance (C,), mm, between the fiber tips of every channel.

    Raises
    ------
    InputError
        If a fiber has no position, or a channel's source and detector are at one place.
    """
    for column, (kind, count) in enumerate((("source", len(fibers.sources)), ("detector", len(fibers.detectors)))):
        highest = int(measurements.channels[:, column].max())
        if highest > count:
            raise InputError(
                f"'{measurements.name}' has data for {kind} {highest}, but '{fibers.name}' has only {count} {kind}s. "
                "Give the positions that belong to these data."
            )
    s, d = measurements.channels.T - 1
    distances = np.linalg.norm(fibers.sources[s] - fibers.detectors[d], axis=1)
    if distances.min() < 1e-3:
        s, d = measurements.channels[distances.argmin()]
        raise InputError(
            f"Source {s} and detector {d} are at one place, but '{measurements.name}' has a channel there."
        )
    return distances


def write_quality(report: QualityReport, path: str | Path) -> None:
    """Write one CSV row per value: distance, ln(I r), departure, reciprocity, whether to use it and why not."""
    data = report.measurements
    reasons = _reasons(report)
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["source", "detector", "wavelength_nm", "distance_mm", "ln_amplitude_times_distance", "departure"]
            + ["reciprocity", "active", "suggested_use", "reason"]
        )
        for w, nm in enumerate(data.wavelengths_nm):
            for c, (source, detector) in enumerate(data.channels):
                r = report.distances_mm[c]
                numbers = (r, data.log_amplitude[w, c] + np.log(r), report.departure[w, c], report.reciprocity[w, c])
                active = bool(data.active[w, c])
                writer.writerow(
                    [source, detector, f"{nm:g}", *("" if np.isnan(n) else f"{n:.6g}" for n in numbers)]
                    + [int(active), int(active and not report.suggested[w, c]), "; ".join(reasons[w][c])]
                )


def quality_figure(report: QualityReport) -> Figure:
    """Return a figure of ln(I r) against r, a panel per wavelength, flagged channels in red, and of the reciprocity.

    Needs matplotlib.
    """
    from matplotlib.figure import Figure

    data = report.measurements
    columns = min(3, len(data.wavelengths_nm))
    rows = -(-len(data.wavelengths_nm) // columns)
    figure = Figure(figsize=(4.0 * columns, 3.0 * rows + 2.6), layout="constrained")
    parts = figure.subfigures(2, 1, squeeze=False, height_ratios=[3.0 * rows, 2.6])
    upper, lower = parts[0, 0], parts[1, 0]
    r = report.distances_mm
    panels = upper.subplots(rows, columns, squeeze=False, sharex=True)
    for w, axes in enumerate(panels.ravel()):
        if w >= len(data.wavelengths_nm):
            axes.set_axis_off()
            continue
        value = data.log_amplitude[w] + np.log(r)
        for chosen, color, label in (
            (data.active[w] & ~report.suggested[w], "tab:blue", "use"),
            (report.suggested[w], "tab:red", "suggested to leave out"),
            (~data.active[w] & np.isfinite(value), "0.7", "inactive"),
        ):
            if chosen.any():
                axes.plot(r[chosen], value[chosen], ".", color=color, markersize=4, label=label)
        ends = np.array([r.min(), r.max()])
        if np.isfinite(report.slope[w]):
            axes.plot(ends, report.offset[w] + report.slope[w] * ends, color="0.3", linewidth=1)
        axes.set_title(f"{data.wavelengths_nm[w]:g} nm, slope {report.slope[w]:.4f} 1/mm", fontsize="small")
        axes.set(xlabel="distance r [mm]", ylabel="ln(I r)")
        axes.legend(frameon=False, fontsize="x-small")
    left, right = lower.subplots(1, 2)
    nm = data.wavelengths_nm
    shown = np.isfinite(report.reciprocity_rms)
    left.plot(nm[shown], report.reciprocity_rms[shown], "o-", label="as measured")
    left.plot(nm[shown], report.reciprocity_left[shown], "s-", label="after fiber gains")
    left.set(xlabel="wavelength [nm]", ylabel="rms of ln I_sd - ln I_ds", ylim=(0, None))
    left.set_title("reciprocity" if shown.any() else "reciprocity: no reverse channels", fontsize="small")
    if shown.any():
        left.legend(frameon=False, fontsize="x-small")
    right.set_axis_off()
    text = [f"{data.name}: {int(report.suggested.sum())} of {data.active.size} values suggested to leave out"]
    text += [_shortened(f.reason) for f in report.findings if f.source is None or f.detector is None][:9]
    right.text(0, 1, "\n".join(text), va="top", fontsize="x-small", transform=right.transAxes)
    return figure


def draw_quality(report: QualityReport, path: str | Path) -> None:
    """Write `quality_figure` as a PNG.

    Raises
    ------
    InputError
        If matplotlib is not installed.
    """
    try:
        figure = quality_figure(report)
    except ImportError as error:
        raise InputError("The picture needs matplotlib. Install it: pip install matplotlib") from error
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _check_limits(
    data: Measurements, settings: QualitySettings, findings: list[Finding], suggested: NDArray[np.bool_]
) -> None:
    """Flag amplitudes at the limits of the detector and values drowned in noise."""
    amplitude = data.amplitude
    for w, nm in enumerate(data.wavelengths_nm):
        use = data.active[w]
        if not use.any():
            continue
        for kind, extreme in (("saturated", np.max), ("dark", np.min)):
            limit = float(extreme(amplitude[w, use]))
            equal = use & (amplitude[w] == limit)
            if equal.sum() >= _CLIPPED_TOGETHER:
                what = "the largest" if kind == "saturated" else "the smallest"
                reason = f"{int(equal.sum())} channels at {nm:g} nm share exactly {what} amplitude {limit:.4g}: clipped"
                findings.append(Finding(kind, reason, float(nm)))
                suggested[w] |= equal
        if settings.saturation is not None:
            _flag(data, w, use & (amplitude[w] >= settings.saturation), "saturated", findings, suggested)
        if settings.dark is not None:
            _flag(data, w, use & (amplitude[w] < 3 * settings.dark), "dark", findings, suggested)
        _flag(data, w, use & (data.sd[w] > settings.most_noise), "noisy", findings, suggested)


def _flag(
    data: Measurements,
    w: int,
    chosen: NDArray[np.bool_],
    kind: str,
    findings: list[Finding],
    suggested: NDArray[np.bool_],
) -> None:
    words = {
        "saturated": "amplitude {:.4g} is at or above the saturation limit",
        "dark": "amplitude {:.4g} is below three times the dark signal",
        "noisy": "amplitude {:.4g} has a relative noise of {:.0%}",
    }[kind]
    for c in np.flatnonzero(chosen & ~suggested[w]):
        findings.append(_finding(data, w, c, kind, words.format(data.amplitude[w, c], data.sd[w, c])))
    suggested[w] |= chosen


def _check_dead(
    data: Measurements,
    distances: NDArray[np.float64],
    settings: QualitySettings,
    findings: list[Finding],
    suggested: NDArray[np.bool_],
) -> None:
    """Flag sources and detectors whose light is far too weak or does not fall with distance, row and column."""
    dead: dict[tuple[str, int], list[int]] = {}
    for w in range(len(data.wavelengths_nm)):
        use = data.active[w] & ~suggested[w]
        if use.sum() < _MIN_CHANNELS:
            continue
        value = data.log_amplitude[w] + np.log(distances)
        line = _robust(np.column_stack([np.ones(use.sum()), distances[use]]), value[use]).coefficients
        departure = value - line[0] - line[1] * distances
        for column, kind in enumerate(("source", "detector")):
            for number in np.unique(data.channels[:, column]):
                own = use & (data.channels[:, column] == number)
                if own.sum() < 4:
                    continue
                weak = np.median(departure[own]) < -np.log(settings.dead_loss)
                seen, due = (
                    np.std(data.log_amplitude[w, own]),
                    np.std(line[1] * distances[own] - np.log(distances[own])),
                )
                flat = np.ptp(distances[own]) > _SPREAD_MM and seen < _FLAT * due
                if line[1] < 0 and (weak or flat):
                    dead.setdefault((kind, int(number)), []).append(w)
    whole = {n for kind, n in dead if kind == "source" and ("detector", n) in dead}
    for (kind, number), at in dead.items():
        for w in at:
            suggested[w] |= data.channels[:, 0 if kind == "source" else 1] == number
        if number in whole and kind == "detector":
            continue
        name = f"dead {'fiber' if number in whole else kind}"
        listed = ", ".join(f"{data.wavelengths_nm[w]:g}" for w in at)
        what = f"fiber {number}, as source and as detector," if number in whole else f"{kind} {number}"
        reason = f"{what} carries hardly any light, or light that does not fall with distance, at {listed} nm"
        as_source, as_detector = kind == "source", kind == "detector" or number in whole
        findings.append(Finding(name, reason, None, number if as_source else None, number if as_detector else None))


def _check_swapped(
    data: Measurements,
    fibers: Fibers,
    distances: NDArray[np.float64],
    findings: list[Finding],
    suggested: NDArray[np.bool_],
) -> None:
    """Hint at two fibers whose positions, if exchanged, would explain the data much better."""
    use = data.active & ~suggested
    judged = use.any(axis=1)
    use = use[judged]
    everywhere = use.sum(axis=0) >= max(1, len(use) // 2)
    if everywhere.sum() < 3 * _MIN_CHANNELS:
        return
    channels = data.channels[everywhere] - 1
    logarithm = np.where(use, data.log_amplitude[judged], np.nan)[:, everywhere]
    value = np.nanmean(logarithm - np.nanmedian(logarithm, axis=1, keepdims=True), axis=0)
    gains = _gain_matrix(channels)
    Q = np.linalg.svd(gains, full_matrices=False)
    basis = Q[0][:, Q[1] > 1e-9 * Q[1][0]]

    def scatter(r: NDArray[np.float64]) -> float:
        """Return the scatter about a bent line in r, whatever the gains."""
        columns = np.column_stack([r, r**2]) / np.array([r.mean(), (r**2).mean()])
        columns = columns - basis @ (basis.T @ columns)
        target = value + np.log(r)
        target = target - basis @ (basis.T @ target)
        return float(np.linalg.norm(target - columns @ np.linalg.lstsq(columns, target, rcond=None)[0]))

    found = scatter(distances[everywhere])
    one_fiber = _one_fiber(fibers)
    best = (np.inf, "", 0, 0)
    for kinds in (("source",), ("detector",)) + ((("source", "detector"),) if one_fiber else ()):
        count = len(fibers.sources) if kinds == ("source",) else len(fibers.detectors)
        for a in range(count):
            for b in range(a + 1, count):
                sources, detectors = np.arange(len(fibers.sources)), np.arange(len(fibers.detectors))
                for order, kind in ((sources, "source"), (detectors, "detector")):
                    if kind in kinds:
                        order[[a, b]] = order[[b, a]]
                r = np.linalg.norm(
                    fibers.sources[sources[channels[:, 0]]] - fibers.detectors[detectors[channels[:, 1]]], axis=1
                )
                if r.min() > 1e-3:
                    best = min(best, (scatter(r), "fibers" if len(kinds) == 2 else f"{kinds[0]}s", a + 1, b + 1))
    if best[0] < _SWAP_GAIN * found:
        reason = (
            f"exchanging {best[1]} {best[2]} and {best[3]} would lower the scatter about the fall with distance to "
            f"{best[0] / found:.0%}: they may be swapped. Check the cabling or the optode table"
        )
        findings.append(Finding("swapped", reason))


def _check_distance(
    data: Measurements,
    distances: NDArray[np.float64],
    reverse: NDArray[np.int64],
    settings: QualitySettings,
    findings: list[Finding],
    suggested: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Flag channels far from the fall with distance; return slope, offset, departure and its limit."""
    slope, offset, limit = (np.full(len(data.wavelengths_nm), np.nan) for _ in range(3))
    departure = np.full(data.active.shape, np.nan)
    for w, nm in enumerate(data.wavelengths_nm):
        use = data.active[w] & ~suggested[w]
        gains = _gain_matrix(data.channels - 1)[:, :-1]
        columns = np.column_stack([np.ones(len(distances)), distances, distances**2 / distances.max()])
        if use.sum() < _MIN_CHANNELS:
            reason = f"at {nm:g} nm only {int(use.sum())} values are left, {_MIN_CHANNELS} are needed: not judged"
            findings.append(Finding("too few", reason, float(nm)))
            continue
        value = data.log_amplitude[w] + np.log(distances)
        offset[w], slope[w] = _robust(columns[use, :2], value[use]).coefficients
        if use.sum() >= 2 * (gains.shape[1] + 3):
            columns = np.column_stack([columns, gains])
        fit = _robust(columns[use], value[use])
        departure[w] = np.where(data.active[w], value - columns @ fit.coefficients, np.nan)
        limit[w] = settings.most_mads * fit.scale
        size = np.abs(departure[w])
        back = np.where((reverse >= 0) & use[reverse], departure[w, reverse], 0.0)
        shared = (back * np.sign(departure[w]) > _SHARED * size) & (size < _SHARED_LIMIT)
        far = use & (size > np.maximum(limit[w], 5 * data.sd[w])) & ~shared
        for c in np.flatnonzero(far):
            reason = (
                f"ln(I r) is {departure[w, c]:+.2f} off the fall with distance; {settings.most_mads:g} median absolute "
                f"deviations are {limit[w]:.2f}"
            )
            findings.append(_finding(data, w, c, "distance", reason))
        suggested[w] |= far
    return slope, offset, departure, limit


def _check_reciprocity(
    data: Measurements,
    reverse: NDArray[np.int64],
    settings: QualitySettings,
    departure: NDArray[np.float64],
    findings: list[Finding],
    suggested: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Flag pairs of channels that differ more than gains explain.

    Returns the residual (W, C), its rms before and after gains (W,), and the noise that the data show where it is far
    more than stated (W,).
    """
    residual = np.full(data.active.shape, np.nan)
    before, after, shown = (np.full(len(data.wavelengths_nm), np.nan) for _ in range(3))
    forth = np.flatnonzero((reverse >= 0) & (data.channels[:, 0] < data.channels[:, 1]))
    back = reverse[forth]
    too_noisy: list[tuple[float, float, float]] = []
    for w, nm in enumerate(data.wavelengths_nm):
        use = ~suggested[w] & data.active[w]
        pair = use[forth] & use[back]
        a, b = forth[pair], back[pair]
        if len(a) < _MIN_CHANNELS:
            continue
        difference = data.log_amplitude[w, a] - data.log_amplitude[w, b]
        numbers = np.unique(data.channels[a])
        B = (data.channels[a, 0, None] == numbers).astype(float) - (data.channels[a, 1, None] == numbers)
        before[w] = np.sqrt(np.mean(difference**2))
        if len(a) < 2 * len(numbers):
            continue
        fit = _robust(B[:, :-1], difference)
        left = difference - B[:, :-1] @ fit.coefficients
        residual[w, a], residual[w, b] = left, -left
        after[w] = np.sqrt(np.sum(left**2) / (len(a) - len(numbers) + 1))
        noise = np.hypot(data.sd[w, a], data.sd[w, b])
        far = np.abs(left) > np.maximum(settings.most_mads * fit.scale, 5 * noise)
        for n in np.flatnonzero(far):
            # The member that also departs from the fall with distance is the wrong one; else it cannot be told which.
            off = np.abs(departure[w, [a[n], b[n]]])
            wrong = [(a[n], b[n])[int(off.argmax())]] if off.max() > 2 * off.min() else [a[n], b[n]]
            for c in wrong:
                reason = (
                    f"differs by {abs(left[n]):.2f} in ln I from its reverse channel after fiber gains; the limit is "
                    f"{settings.most_mads * fit.scale:.2f}"
                )
                findings.append(_finding(data, w, c, "reciprocity", reason))
                suggested[w, c] = True
        fine = ~far
        if fine.any() and fit.scale > 3 * np.sqrt(np.mean(noise[fine] ** 2)):
            freedom = max(int(fine.sum()) - len(numbers) + 1, 1)
            shown[w] = np.sqrt(np.sum(left[fine] ** 2) / freedom / 2)  # outliers are said to be outliers
            too_noisy.append((float(nm), float(shown[w]), float(np.mean(data.sd[w, a]))))
    if too_noisy:
        found, stated = (float(np.mean([row[n] for row in too_noisy])) for n in (1, 2))
        listed = ", ".join(f"{row[0]:g}" for row in too_noisy)
        reason = (
            f"channels and their reverse disagree by about {found:.0%} per channel at {listed} nm, where the noise is "
            f"given as {stated:.1%}: reconstruct with a larger noise"
        )
        findings.append(Finding("noise level", reason))
    return residual, before, after, shown


def _reverse_channels(channels: NDArray[np.int64], fibers: Fibers) -> NDArray[np.int64]:
    """Return for each channel (s, d) the index of (d, s) where both numbers are one fiber each, else -1."""
    count = min(len(fibers.sources), len(fibers.detectors))
    same = np.linalg.norm(fibers.sources[:count] - fibers.detectors[:count], axis=1) < SAME_PLACE_MM
    at = {(int(s), int(d)): n for n, (s, d) in enumerate(channels)}
    return np.array(
        [
            at.get((int(d), int(s)), -1) if max(s, d) <= count and same[s - 1] and same[d - 1] else -1
            for s, d in channels
        ]
    )


def _one_fiber(fibers: Fibers) -> bool:
    """Return whether every number is one fiber, source and detector at once."""
    if len(fibers.sources) != len(fibers.detectors):
        return False
    return bool((np.linalg.norm(fibers.sources - fibers.detectors, axis=1) < SAME_PLACE_MM).all())


def _gain_matrix(channels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return a column for each source and each detector (C, S + D)."""
    return np.concatenate(
        [channels[:, kind, None] == np.unique(channels[:, kind])[None] for kind in (0, 1)], axis=1
    ).astype(np.float64)


class _Fit(NamedTuple):
    coefficients: NDArray[np.float64]
    scale: float


def _robust(columns: NDArray[np.float64], values: NDArray[np.float64]) -> _Fit:
    """Return the linear fit that outliers do not bend, and the scatter of the rest as a standard deviation.

    Starts from least absolute deviations, continues with Tukey's biweight.
    """
    weights = np.ones(len(values))
    coefficients: NDArray[np.float64] = np.zeros(columns.shape[1])
    residual: NDArray[np.float64] = values
    for n in range(_IRLS_ROUNDS):
        root = np.sqrt(weights)
        found = np.asarray(np.linalg.lstsq(columns * root[:, None], values * root, rcond=1e-10)[0], dtype=np.float64)
        still = np.abs(found - coefficients).max() < 1e-8 * max(1.0, np.abs(found).max())
        coefficients = found
        residual = np.subtract(values, columns @ found, dtype=np.float64)
        scale = MAD_TO_SD * float(np.median(np.abs(residual)))
        if still or scale < 1e-12:
            break
        if n < _IRLS_ROUNDS // 2:
            weights = 1 / np.maximum(np.abs(residual), 0.1 * scale)
        else:
            weights = np.clip(1 - (residual / (_TUKEY * scale)) ** 2, 0, None) ** 2 + 1e-9
    free = max(len(values) - columns.shape[1], 1)
    return _Fit(coefficients, MAD_TO_SD * float(np.median(np.abs(residual))) * float(np.sqrt(len(values) / free)))


def _finding(data: Measurements, w: int, c: np.integer, kind: str, reason: str) -> Finding:
    source, detector = (int(n) for n in data.channels[c])
    return Finding(kind, reason, float(data.wavelengths_nm[w]), source, detector)


def _reasons(report: QualityReport) -> list[list[list[str]]]:
    """Return for each wavelength and channel why the value should not be used."""
    data = report.measurements
    reasons: list[list[list[str]]] = [[[] for _ in data.channels] for _ in data.wavelengths_nm]
    for finding in report.findings:
        if finding.kind in ("swapped", "noise level", "too few"):
            continue
        for w, nm in enumerate(data.wavelengths_nm):
            if finding.wavelength_nm not in (None, nm):
                continue
            for c in np.flatnonzero(report.suggested[w] & _concerned(finding, data.channels)):
                reasons[w][c].append(finding.reason)
    return reasons


def _concerned(finding: Finding, channels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which channels (C,) a finding is about: one, a fiber's row and column, or all."""
    own_source = channels[:, 0] == finding.source
    own_detector = channels[:, 1] == finding.detector
    if finding.kind.startswith("dead"):
        return own_source | own_detector
    if finding.source is None:
        return np.ones(len(channels), dtype=bool)
    return own_source & own_detector


def _shortened(text: str, length: int = 110) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def _or_none(values: NDArray[np.float64]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
