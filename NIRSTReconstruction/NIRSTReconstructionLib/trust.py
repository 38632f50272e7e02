"""How far a reconstruction can be believed: checks, each with a light and a reason, and the lesion read-out.

The residual unmasks a wrong prior only where the answer has few unknowns (hard prior); Tikhonov and DRI fit nearly any
data. Therefore the other checks: other methods, the MRI taken away, the MRI shifted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Progress, ignore_progress, portion
from BreastBiomarkersLib.volume import Volume
from numpy.typing import NDArray
from scipy import ndimage

from NIRSTReconstructionLib.fibers import Fibers
from NIRSTReconstructionLib.images import image_grid, lesion_in_plane, propagated, region_means
from NIRSTReconstructionLib.measurements import Measurements
from NIRSTReconstructionLib.meshing import Contour
from NIRSTReconstructionLib.network_distance import distance_from_training, input_numbers, read_training_inputs
from NIRSTReconstructionLib.network_method import NETWORK_METHODS, training_inputs_of
from NIRSTReconstructionLib.phantoms import PRESETS, Ranges
from NIRSTReconstructionLib.plane import Plane, SliceGrid, distance_to_polygon, sample_volume
from NIRSTReconstructionLib.reconstruct import RIM_MM, Reconstruction, ReconstructionSettings, reconstruct
from NIRSTReconstructionLib.spectra import MAP_NAMES, Spectra

GREEN, YELLOW, RED, NOT_ASSESSED = "green", "yellow", "red", "not assessed"
CHI_ACCEPTED = (0.8, 1.3)
"""Root-mean-square residual in units of the noise that model and noise being right explain."""
CHI_REFUSED = 1.5
SHIFT_MM = 10.0
"""How far the MRI is moved in the swap test."""
NO_CONTRAST = 0.15
"""Lesion contrasts (ratio - 1) below this are not worth a test of where they come from."""
FAR_FROM_TRAINING = 1.5
"""Times the distance that 99 % of a network's training keep to, from which its images are refused."""
Z_95 = 1.959964

_WITHOUT_MRI = ("tikhonov", "linear")  # whatever they are given; the others use it where there is one


@dataclass(frozen=True, eq=False)
class Case:
    """Everything a reconstruction was made from, so that it can be made again in other ways (see `reconstruct`)."""

    measurements: Measurements
    fibers: Fibers
    contour: Contour
    spectra: Spectra
    plane: Plane | None = None
    reference: Measurements | None = None
    images: Sequence[Volume] = ()
    regions: Volume | None = None

    def reconstruct(self, settings: ReconstructionSettings, progress: Progress = ignore_progress) -> Reconstruction:
        """Return the reconstruction of this case."""
        return reconstruct(
            self.measurements,
            self.fibers,
            self.contour,
            self.spectra,
            settings,
            plane=self.plane,
            reference=self.reference,
            images=self.images,
            regions=self.regions,
            progress=progress,
        )


class Check(NamedTuple):
    """One test of a reconstruction.

    Attributes
    ----------
    name : str
    light : str
        "green", "yellow", "red", or "not assessed", which does not count.
    reason : str
        In words, with numbers.
    """

    name: str
    light: str
    reason: str


class Reading(NamedTuple):
    """One quantity of the lesion beside the background.

    Attributes
    ----------
    quantity, unit : str
        "hbt" uM, "sto2" %, "water" %, "toi" (see `lesion_readout`).
    lesion, background : float
    ratio, low, high : float
        Lesion divided by background and its 95 % interval.
    words : str
        What the interval says.
    """

    quantity: str
    unit: str
    lesion: float
    background: float
    ratio: float
    low: float
    high: float
    words: str


@dataclass(frozen=True, eq=False)
class TrustReport:
    """The verdict on one reconstruction.

    Attributes
    ----------
    light : str
        The worst of the checks.
    reason : str
        Why, in words.
    checks : tuple of Check
    chi : float
        Over all data.
    chi_by_wavelength, chi_by_source, chi_by_detector : dict of float
        Keys are nm and fiber numbers.
    readout : tuple of Reading
        Empty without a lesion.
    contrasts : dict of dict
        For each method and test the lesion's contrast (ratio - 1) of HbT and water, and chi.
    """

    light: str
    reason: str
    checks: tuple[Check, ...]
    chi: float
    chi_by_wavelength: dict[str, float]
    chi_by_source: dict[str, float]
    chi_by_detector: dict[str, float]
    readout: tuple[Reading, ...]
    contrasts: dict[str, dict[str, float]]

    def summary(self) -> dict[str, Any]:
        """Return the report, JSON-able."""
        return {
            "light": self.light,
            "reason": self.reason,
            "checks": [check._asdict() for check in self.checks],
            "chi": self.chi,
            "chi_accepted": list(CHI_ACCEPTED),
            "chi_by_wavelength_nm": self.chi_by_wavelength,
            "chi_by_source": self.chi_by_source,
            "chi_by_detector": self.chi_by_detector,
            "readout": [reading._asdict() for reading in self.readout],
            "readout_note": "Measured contrast, no diagnosis. " + _INTERVAL_NOTE,
            "contrasts": self.contrasts,
        }


_INTERVAL_NOTE = (
    "95 % intervals hold noise, widened where the residual is larger than the noise; not a wrong outline or prior."
)


def assess_trust(
    reconstruction: Reconstruction,
    case: Case,
    lesion: Volume | None = None,
    ranges: Ranges = PRESETS["breast-wide"],
    further_checks: Sequence[Check] = (),
    progress: Progress = ignore_progress,
) -> TrustReport:
    """Return how far a reconstruction can be believed; reconstructs the case again by up to four other ways.

    Parameters
    ----------
    reconstruction : Reconstruction
    case : Case
        What it was made from.
    lesion : Volume, optional
        Mask; without it the tests of the lesion's contrast are "not assessed".
    ranges : Ranges
        Background tissues that the method was tested on (or a network trained on).
    further_checks : sequence of Check
        Made elsewhere and counted here. How far the data are from those a network was trained on is added to them.
    progress : Progress

    Raises
    ------
    InputError
        If the plane misses the lesion.
    """
    contrasts: dict[str, dict[str, float]] = {}
    method = reconstruction.settings.method
    checks = [_check_chi(reconstruction), _check_range(reconstruction, ranges), _check_geometry(reconstruction, case)]
    if method in NETWORK_METHODS:
        further_checks = (*further_checks, _check_training(reconstruction))
    checks += [_check_uncertainty(reconstruction, lesion), *further_checks]
    if lesion is None:
        checks.append(Check("agreement", NOT_ASSESSED, "no lesion was given whose contrast could be compared"))
        checks.append(Check("MRI swap", NOT_ASSESSED, "no lesion was given whose contrast could be compared"))
    else:
        contrasts[method] = lesion_contrast(reconstruction, lesion)
        others = _other_methods(case, method)
        for n, other in enumerate(others):
            again = replace(case, regions=case.regions if case.regions is not None else lesion)
            settings = replace(reconstruction.settings, method=other, prior_sd=None)
            part = portion(progress, n / (len(others) + 1), (n + 1) / (len(others) + 1))
            try:
                contrasts[other] = lesion_contrast(again.reconstruct(settings, part), lesion)
            except InputError as error:
                checks.append(Check(f"{other} for comparison", NOT_ASSESSED, str(error)))
        checks.append(_check_agreement(contrasts))
        if method != "hard-prior" and "hard-prior" in contrasts:
            checks.append(_check_structure(contrasts["hard-prior"]["chi"]))
        if method in _WITHOUT_MRI:
            checks.append(Check("MRI swap", NOT_ASSESSED, f"{method} does not use the MRI"))
        elif case.regions is None and not case.images:
            checks.append(Check("MRI swap", NOT_ASSESSED, f"{method} was given no MRI"))
        else:
            part = portion(progress, len(others) / (len(others) + 1), 1.0)
            checks.append(_check_swap(reconstruction, case, lesion, contrasts, part))
    progress(1.0, "assessed")
    light = max((check.light for check in checks), key=_severity)
    reasons = [f"{check.name}: {check.reason}" for check in checks if check.light == light]
    by_wavelength, by_source, by_detector = chi_groups(reconstruction)
    return TrustReport(
        light,
        "all checks passed" if light == GREEN else "; ".join(reasons),
        tuple(checks),
        overall_chi(reconstruction),
        by_wavelength,
        by_source,
        by_detector,
        () if lesion is None else tuple(lesion_readout(reconstruction, lesion)),
        contrasts,
    )


def overall_chi(reconstruction: Reconstruction) -> float:
    """Return the root-mean-square residual of all data in units of the noise, fitted gains counted."""
    white, expected = _whitened(reconstruction)
    return float(np.sqrt(np.nansum(white**2) / max(np.nansum(expected), 1.0)))


def chi_groups(reconstruction: Reconstruction) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Return chi of each wavelength (keys in nm), source and detector (keys numbers); groups without data are absent.

    Each group's squares are divided by what they would add up to if model and noise were right, which is less than
    their number where gains were projected out.
    """
    white, expected = _whitened(reconstruction)
    data = reconstruction.measurements
    shape = data.active.shape
    labels = (
        np.broadcast_to([[f"{nm:g}"] for nm in data.wavelengths_nm], shape),
        np.broadcast_to([str(n) for n in data.channels[:, 0]], shape),
        np.broadcast_to([str(n) for n in data.channels[:, 1]], shape),
    )
    groups = []
    for label in labels:
        chi = {}
        for key in dict.fromkeys(label.ravel().tolist()):
            own = (label == key) & data.active
            if expected[own].sum() > 1:
                chi[key] = float(np.sqrt((white[own] ** 2).sum() / expected[own].sum()))
        groups.append(chi)
    return groups[0], groups[1], groups[2]


def uncertainty_on_grid(reconstruction: Reconstruction, grid: SliceGrid | None = None) -> dict[str, Volume]:
    """Return standard-deviation images of HbO, HbR, water, HbT and StO2 as one-slice volumes lying in the plane.

    From the covariance of the coefficients: what noise and prior leave open at each pixel, not a wrong prior. 0 outside
    the body.

    Parameters
    ----------
    reconstruction : Reconstruction
    grid : SliceGrid, optional
        Default: 1-mm pixels over the body.

    Returns
    -------
    dict of str to Volume
        float32; uM for hemoglobin, percent for water and StO2.
    """
    grid = grid or image_grid(reconstruction)
    inside = distance_to_polygon(grid.points_mm, reconstruction.outline_mm) <= 0
    points = grid.points_mm[inside]
    A = reconstruction.basis.at(points)
    count, bulk = reconstruction.basis.count, reconstruction.bulk.tissue.values()
    covariance = np.zeros((3, 3, len(points)))
    fitted = [(p, MAP_NAMES.index(n)) for p, n in enumerate(reconstruction.settings.parameters)]
    for p, row in fitted:
        for q, column in fitted:
            if row < 3 and column < 3:
                block = reconstruction.covariance[p * count : (p + 1) * count, q * count : (q + 1) * count]
                shared = np.asarray(A.multiply(A @ block).sum(axis=1)).ravel()
                covariance[row, column] = bulk[row] * bulk[column] * shared
    hbo, hbr = reconstruction.maps_at(points)[:2]
    total = hbo + hbr
    ones, zeros = np.ones(len(points)), np.zeros(len(points))
    gradients = {
        "hbo": (ones, zeros, zeros),
        "hbr": (zeros, ones, zeros),
        "water": (zeros, zeros, 100 * ones),
        "hbt": (ones, ones, zeros),
        "sto2": (100 * hbr / total**2, -100 * hbo / total**2, zeros),
    }
    volumes = {}
    for name, gradient in gradients.items():
        g = np.stack(gradient)
        image = np.zeros(len(inside), dtype=np.float32)
        image[inside] = np.sqrt(np.einsum("in,ijn,jn->n", g, covariance, g).clip(min=0))
        volumes[name] = grid.volume(image, f"{name} sd")
    return volumes


def lesion_contrast(reconstruction: Reconstruction, lesion: Volume) -> dict[str, float]:
    """Return the lesion's contrast to the background, ratio - 1, of HbT and water, and the reconstruction's chi."""
    means, _ = region_means(reconstruction, lesion)
    values = _read_out(means, _has_lipid(reconstruction))
    return {
        "hbt": float(values[0, 2] - 1),
        "water": float(values[2, 2] - 1),
        "chi": overall_chi(reconstruction),
    }


def lesion_readout(reconstruction: Reconstruction, lesion: Volume) -> list[Reading]:
    """Return HbT, StO2, water and tissue optical index of the lesion beside the background, with 95 % intervals.

    Malignant lesions tend to more HbT, water and TOI and less StO2 than their surroundings, benign ones to values near
    1; the ratios and intervals are reported, not a diagnosis.

    Parameters
    ----------
    reconstruction : Reconstruction
    lesion : Volume

    Notes
    -----
    TOI is HbR * water / lipid (uM). Where lipid is not reconstructed it is HbR * water, whose ratio equals that of the
    TOI if lesion and background hold equal lipid; lesions hold less, so the true ratio is larger.
    Standard errors are multiplied by chi where it exceeds 1.

    References
    ----------
    Cerussi A et al., J Biomed Opt 11:044005 (2006), doi 10.1117/1.2337546.
    """
    lipid = _has_lipid(reconstruction)
    means, covariance = region_means(reconstruction, lesion)
    values = _read_out(means, lipid)
    errors = propagated(lambda m: _read_out(m, lipid), means, covariance) * max(1.0, overall_chi(reconstruction))
    quantities = (("hbt", "uM"), ("sto2", "%"), ("water", "%"), ("toi", "uM" if lipid else "uM, without lipid"))
    readings = []
    for n, (quantity, unit) in enumerate(quantities):
        ratio, margin = float(values[n, 2]), Z_95 * float(errors[n, 2])
        low, high = ratio - margin, ratio + margin
        if low > 1:
            words = "higher in the lesion than in the background"
        elif high < 1:
            words = "lower in the lesion than in the background"
        else:
            words = "not distinguishable from the background"
        lesion_value, background_value = values[n, :2].tolist()
        readings.append(Reading(quantity, unit, lesion_value, background_value, ratio, low, high, words))
    return readings


def shifted(
    volume: Volume, grid: SliceGrid, inside: NDArray[np.bool_], by_mm: NDArray[np.float64], labels: bool
) -> Volume:
    """Return a volume in the plane, moved by an in-plane vector; the body's typical value fills what moves in.

    Parameters
    ----------
    volume : Volume
    grid : SliceGrid
        Pixels of the result.
    inside : (rows * columns,) ndarray of bool
        Which pixels belong to the body; only their values are moved.
    by_mm : (2,) ndarray
    labels : bool
        Nearest neighbor and most frequent label, instead of linear and median.

    Raises
    ------
    InputError
        If the volume does not reach the plane.
    """
    points = grid.points_mm
    here = sample_volume(volume, grid.plane.to_ras(points), nearest=labels)
    moved = sample_volume(volume, grid.plane.to_ras(points - by_mm), nearest=labels)
    steps = np.round(by_mm / grid.pixel_mm).astype(int)[::-1]
    body = inside.reshape(grid.shape)
    if not labels:  # the rim is part air
        body = ndimage.distance_transform_edt(body) * grid.pixel_mm > RIM_MM
    came = np.zeros_like(body)
    rows, columns = (np.arange(n) - step for n, step in zip(grid.shape, steps, strict=True))
    rows_in, columns_in = ((i >= 0) & (i < n) for i, n in zip((rows, columns), grid.shape, strict=True))
    came[np.ix_(rows_in, columns_in)] = body[np.ix_(rows[rows_in], columns[columns_in])]
    known = here[inside & np.isfinite(here)]
    if not known.size:
        raise InputError(f"'{volume.name}' does not reach the image plane, so it cannot be shifted.")
    if labels:
        numbers, counts = np.unique(known, return_counts=True)
        fill = numbers[counts.argmax()]
    else:
        fill = np.median(known)
    values = np.where(came.ravel() & np.isfinite(moved), moved, fill)
    return grid.volume(np.where(inside, values, 0.0), f"{volume.name} shifted")


def _whitened(reconstruction: Reconstruction) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return residuals over noise and their expected squares, both (W, C); NaN and 0 where inactive."""
    space = reconstruction.space
    white = reconstruction.residual / space.sd
    expected = np.zeros(white.shape)
    for w, Q in enumerate(space.gain_bases):
        expected[w, space.active[w]] = 1 - (Q**2).sum(axis=1)
    return white, expected


def _check_chi(reconstruction: Reconstruction) -> Check:
    """Judge the residual as a whole; a wavelength or fiber that stands out is a warning."""
    chi = overall_chi(reconstruction)
    low, high = CHI_ACCEPTED
    stated = f"the re-simulated data differ from the measured ones by {chi:.2f} times the noise"
    if chi > high:
        words = "the tissue found does not explain the light: wrong prior, geometry, calibration or noise level"
        return Check("residual", RED if chi > CHI_REFUSED else YELLOW, f"{stated}; {words}")
    if chi < low:
        return Check("residual", YELLOW, f"{stated}: the noise is overstated, or the noise itself was fitted")
    _, expected = _whitened(reconstruction)
    data = reconstruction.measurements
    for what, group, column in zip(
        ("at {} nm", "of source {}", "of detector {}"), chi_groups(reconstruction), (-1, 0, 1), strict=True
    ):
        for key, value in group.items():
            if column < 0:
                own = np.abs(data.wavelengths_nm - float(key)) < 0.01
                number = expected[own].sum()
            else:
                number = expected[:, data.channels[:, column] == int(key)].sum()
            if value > high + 3 / np.sqrt(2 * number):
                words = f"chi {what.format(key)} is {value:.2f}, while it is {chi:.2f} over all data"
                return Check("residual", YELLOW, words)
    return Check("residual", GREEN, f"{stated}, as it should")


def _check_range(reconstruction: Reconstruction, ranges: Ranges) -> Check:
    """Judge the bulk tissue against the tissues that the method was tested on."""
    worst, words = 0.0, ""
    tissue = reconstruction.bulk.tissue
    for name in reconstruction.settings.parameters:
        low, high = ranges.background[name]
        value = getattr(tissue, name)
        distance = max(low - value, value - high) / max(high - low, 1e-9)
        if high > low and distance > worst:
            worst, words = distance, f"the mean {name} is {value:.3g}, tested is {low:g} to {high:g}"
    if not words:
        return Check("tested range", GREEN, "the mean tissue lies in the tested range")
    return Check("tested range", RED if worst > 0.5 else YELLOW, words)


def _check_training(reconstruction: Reconstruction) -> Check:
    """Judge how far the light lies from that of the network's training."""
    network, start = reconstruction.settings.method, reconstruction.settings.start
    try:
        known = read_training_inputs(training_inputs_of(network))
        numbers = input_numbers(reconstruction.model, reconstruction.measurements, network, start)
    except InputError as error:
        return Check("training data", NOT_ASSESSED, str(error))
    found = distance_from_training(numbers, known)
    light = GREEN if found.inside else YELLOW if found.value <= FAR_FROM_TRAINING else RED
    return Check("training data", light, found.words)


def _check_geometry(reconstruction: Reconstruction, case: Case) -> Check:
    warning = case.fibers.distance_from(reconstruction.plane).warning
    if warning:
        return Check("geometry and iteration", YELLOW, warning)
    if not reconstruction.converged:
        return Check("geometry and iteration", YELLOW, f"the iteration did not converge: {reconstruction.reason}")
    return Check("geometry and iteration", GREEN, "the fibers lie in the plane and the iteration converged")


def _check_uncertainty(reconstruction: Reconstruction, lesion: Volume | None) -> Check:
    """Judge how wide the 95 % interval of HbT is, of the lesion's ratio or, without one, of a pixel."""
    if lesion is None:
        grid = image_grid(reconstruction, 2.0)
        body = distance_to_polygon(grid.points_mm, reconstruction.outline_mm) <= 0
        hbo, hbr = reconstruction.maps_at(grid.points_mm[body])[:2]
        sd = uncertainty_on_grid(reconstruction, grid)["hbt"].array.ravel()[body]
        margin, what = Z_95 * float(np.median(sd / (hbo + hbr))), "HbT of a typical pixel"
    else:
        hbt = lesion_readout(reconstruction, lesion)[0]
        margin, what = (hbt.high - hbt.low) / 2, "the lesion's HbT ratio"
    light = GREEN if margin <= 0.25 else YELLOW if margin <= 0.5 else RED
    return Check("uncertainty", light, f"{what} is known to ± {100 * margin:.0f} % (95 %, noise and prior)")


def _other_methods(case: Case, method: str) -> list[str]:
    """Return the methods to compare with: one without MRI, DRI where there is an image, hard prior for the lesion."""
    others = ["tikhonov", *(["dri"] if case.images else []), "hard-prior"]
    return [other for other in others if other != method]


def _check_agreement(contrasts: dict[str, dict[str, float]]) -> Check:
    """Compare the contrasts of the methods that resolve the lesion; Tikhonov blurs it (see the swap test)."""
    sharp = [name for name in contrasts if name != "tikhonov"]
    if len(sharp) < 2:
        return Check("agreement", NOT_ASSESSED, "no second method that resolves the lesion could be run")
    worst, light = (0.0, ""), GREEN
    for quantity in ("hbt", "water"):
        values = [contrasts[name][quantity] for name in sharp]
        spread, largest = max(values) - min(values), max(map(abs, values))
        listed = ", ".join(f"{name} {1 + contrasts[name][quantity]:.2f}" for name in sharp)
        worst = max(worst, (spread, f"{quantity} of the lesion over background: {listed}"))
        if spread > max(0.4, 0.7 * largest):
            light = RED
        elif spread > max(0.2, 0.35 * largest) and light == GREEN:
            light = YELLOW
    return Check("agreement", light, f"{'methods agree' if light == GREEN else 'methods disagree'}; {worst[1]}")


def _check_structure(chi: float) -> Check:
    """Judge by the hard prior's residual whether the light holds structure that the segmentation does not show."""
    stated = f"one value per region of the segmentation leaves {chi:.2f} times the noise"
    if chi > CHI_REFUSED:
        words = f"{stated}: the light shows structure, such as another lesion, that the segmentation does not"
        return Check("hidden structure", YELLOW, words)
    return Check("hidden structure", GREEN, f"{stated}: the segmentation explains the light")


def _check_swap(
    reconstruction: Reconstruction,
    case: Case,
    lesion: Volume,
    contrasts: dict[str, dict[str, float]],
    progress: Progress,
) -> Check:
    """Judge whether the lesion comes from the light: MRI taken away (Tikhonov), MRI shifted by 10 mm.

    The shifted lesion overlaps the true one, so only the parts that one of them has alone are compared.
    """
    claimed = contrasts[reconstruction.settings.method]["hbt"]
    grid = image_grid(reconstruction)
    points = grid.points_mm
    body = distance_to_polygon(points, reconstruction.outline_mm) <= 0
    inward = points[body].mean(axis=0) - points[lesion_in_plane(lesion, grid) & body].mean(axis=0)
    length = float(np.linalg.norm(inward))
    by = SHIFT_MM * (inward / length if length > 1e-6 else np.array([1.0, 0.0]))
    regions = case.regions if case.regions is not None else lesion
    elsewhere = shifted(lesion, grid, body, by, labels=True)
    moved = replace(
        case,
        images=[shifted(image, grid, body, by, labels=False) for image in case.images],
        regions=shifted(regions, grid, body, by, labels=True) if case.regions is not None else None,
    )
    try:
        here, there = (lesion_in_plane(mask, grid) & body for mask in (lesion, elsewhere))
        again = moved.reconstruct(reconstruction.settings, progress)
        left, followed = (
            lesion_contrast(again, grid.volume(pixels.astype(float), "part of the lesion"))
            for pixels in (here & ~there, there & ~here)
        )
    except InputError as error:
        return Check("MRI swap", NOT_ASSESSED, str(error))
    contrasts["MRI shifted, where it showed the lesion"] = left
    contrasts["MRI shifted, where it shows the lesion"] = followed
    blank = contrasts.get("tikhonov")
    if abs(claimed) < NO_CONTRAST:
        return Check("MRI swap", GREEN, f"the lesion's HbT ratio of {1 + claimed:.2f} claims no contrast to test")
    follows, stays = followed["hbt"] / claimed, left["hbt"] / claimed
    if follows > max(0.5, stays) and followed["chi"] <= CHI_ACCEPTED[1]:
        words = (
            f"with the MRI moved by {SHIFT_MM:g} mm, {follows:.0%} of the lesion's HbT contrast moves along and the "
            "data are explained as well: the contrast comes from the MRI, not from the light"
        )
        return Check("MRI swap", RED, words)
    if blank is not None and blank["hbt"] / claimed < 0.2:
        words = f"without the MRI the lesion's HbT ratio is {1 + blank['hbt']:.2f} instead of {1 + claimed:.2f}"
        return Check("MRI swap", YELLOW, words)
    kept = "" if blank is None else f"; without the MRI {blank['hbt'] / claimed:.0%} of the contrast remains"
    words = (
        f"with the MRI moved by {SHIFT_MM:g} mm chi becomes {followed['chi']:.2f}, {stays:.0%} of the contrast stays "
        f"and {follows:.0%} moves along"
    )
    return Check("MRI swap", GREEN, words + kept)


def _read_out(means: NDArray[np.float64], lipid: bool) -> NDArray[np.float64]:
    """Return lesion, background and ratio (4, 3) of HbT, StO2, water and TOI from `images.region_means`."""
    hbo, hbr, water, fat = means.reshape(2, 4).T
    toi = hbr * water / fat if lipid else hbr * water
    quantities = np.stack([hbo + hbr, 100 * hbo / (hbo + hbr), 100 * water, toi])
    return np.column_stack([quantities, quantities[:, 0] / quantities[:, 1]])


def _has_lipid(reconstruction: Reconstruction) -> bool:
    return "lipid" in reconstruction.settings.parameters


def _severity(light: str) -> int:
    return (NOT_ASSESSED, GREEN, YELLOW, RED).index(light)
