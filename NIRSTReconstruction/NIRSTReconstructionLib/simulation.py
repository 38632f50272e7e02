"""Optical data for an MRI case that has none: fibers on the skin, known tissue, noise; for demo and teaching."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Progress, ignore_progress
from BreastBiomarkersLib.volume import Volume
from numpy.typing import NDArray

from NIRSTReconstructionLib.fibers import Fibers
from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.images import IMAGE_UNITS
from NIRSTReconstructionLib.measurements import Measurements
from NIRSTReconstructionLib.meshing import Contour, fill_contour
from NIRSTReconstructionLib.noise import NoiseModel
from NIRSTReconstructionLib.optodes import place_optodes
from NIRSTReconstructionLib.plane import Plane, distance_to_polygon, even_polygon, sample_volume, slice_grid
from NIRSTReconstructionLib.spectra import Spectra, Tissue

FINE_ELEMENT_MM = 2.4
FINE_OPTODE_ELEMENT_MM = 0.8
"""Triangle sides of the simulation mesh: two thirds of what reconstruction uses."""

BREAST_TISSUES = {
    "breast": Tissue(hbo=12.0, hbr=5.5, water=0.22),
    "fibroglandular": Tissue(hbo=16.0, hbr=7.5, water=0.38),
    "lesion": Tissue(hbo=22.0, hbr=13.0, water=0.52),
}
"""Typical values for demonstration: total hemoglobin 15 to 30 uM and water 15 to 40 % in healthy breasts (Shah et al.,
J Biomed Opt 9:534, 2004), about 1.5 times the gland's hemoglobin in cancers."""


@dataclass(frozen=True, eq=False)
class SimulatedPlane:
    """Simulated data of a plane and the truth behind them.

    Attributes
    ----------
    measurements : Measurements
        Of the case, with noise and gains.
    reference : Measurements
        Of a homogeneous phantom of the same outline (the tissue of label 0), with the same gains and other noise.
    truth : dict of str to Volume
        One-slice images as `images.sample_on_grid` makes them: uM and percent, 0 outside the body.
    """

    measurements: Measurements
    reference: Measurements
    truth: dict[str, Volume]


def fibers_on_contour(
    contour: Contour, plane: Plane, count: int = 16, open_toward_ras: NDArray[np.float64] | None = None
) -> Fibers:
    """Return fibers, each source and detector, at equal distances along a body's outline.

    Parameters
    ----------
    contour : Contour
    plane : Plane
    count : int
    open_toward_ras : (3,) ndarray, optional
        Direction of the chest wall: the third of the outline around the point farthest that way stays without fibers.
        Default: fibers all around.

    Raises
    ------
    InputError
        If fewer than four fibers are wanted, or neighbors would be closer than 5 mm.
    """
    if count < 4:
        raise InputError(f"{count} fibers were asked for; at least 4 are needed.")
    outline = even_polygon(contour.samples[1], contour.length_mm / 3000)
    if open_toward_ras is None:
        at = np.arange(count) * len(outline) / count
    else:
        direction = np.asarray(open_toward_ras, dtype=np.float64) @ plane.plane_to_ras[:3, :2]
        if np.linalg.norm(direction) < 1e-6:
            raise InputError("The direction of the chest wall is perpendicular to the plane. Choose one within it.")
        back = int((outline @ direction).argmax())
        at = back + len(outline) * (1 / 6 + np.linspace(0, 2 / 3, count))
    points = outline[np.round(at).astype(int) % len(outline)]
    gap = np.linalg.norm(np.diff(points, axis=0), axis=1).min()
    if gap < 5:
        raise InputError(f"{count} fibers on this outline are {gap:.1f} mm apart; at least 5 mm. Use fewer.")
    positions = plane.to_ras(points)
    return Fibers(positions, positions, name="simulated fibers")


def simulate_on_plane(
    labels: Volume,
    tissues: Mapping[int, Tissue],
    plane: Plane,
    contour: Contour,
    fibers: Fibers,
    spectra: Spectra,
    *,
    noise: float = 0.02,
    gain_sd: float = 0.0,
    source_model: str = "point",
    seed: int = 0,
    progress: Progress = ignore_progress,
) -> SimulatedPlane:
    """Return simulated amplitudes of an MRI case in one plane, and the true images.

    The data are made on a mesh of its own, with triangles two thirds the size of those used for reconstruction, tissue
    boundaries resolved inside the triangles, and multiplicative noise: reconstructing them does not repeat the
    calculation that made them. They remain simulated: diffusion theory, piecewise constant tissue, a perfect outline.
    Light spreads in 3-D, as that of fibers does, in a body that does not change along the plane's normal.

    Parameters
    ----------
    labels : Volume
        Segmentation in the MRI's frame: 0 is the tissue of the breast at large, other numbers such as 1 a lesion.
    tissues : mapping of int to Tissue
        Tissue of each label.
    plane : Plane
    contour : Contour
        Outline of the body in the plane.
    fibers : Fibers
    spectra : Spectra
    noise : float
        Relative standard deviation of the amplitudes (0.02 = 2 %).
    gain_sd : float
        Standard deviation of the logarithm of each source's strength and each detector's gain, per wavelength.
    source_model : str
        See `ForwardModel`; "line" for light in the plane only.
    seed : int
    progress : Progress

    Raises
    ------
    InputError
        If a label in the plane has no tissue, a tissue's numbers point to other units, or noise or seed are impossible.
    """
    NoiseModel(noise, source_gain=gain_sd, detector_gain=gain_sd)  # refuses percent and negative numbers
    if seed < 0:
        raise InputError(f"The seed is {seed}; it must not be negative.")
    for label, tissue in tissues.items():
        check_tissue(tissue, f"label {label}")
    if 0 not in tissues:
        raise InputError("No tissue is given for label 0, the breast at large.")
    progress(0.0, "making the mesh")
    channels = fibers.all_channels()
    optodes = fibers.optodes(plane, channels)
    mesh = fill_contour(contour, FINE_ELEMENT_MM, refine_at=optodes.detectors, refined_size_mm=FINE_OPTODE_ELEMENT_MM)
    progress(0.6, "preparing the model of light")
    musp = float(spectra.musp(tissues[0].maps(1)).mean())
    model = ForwardModel(mesh, place_optodes(mesh, optodes, musp), spectra, source_model=source_model)
    maps = _maps(labels, tissues, plane, mesh.quadrature.points)
    progress(0.8, "simulating light")

    rng = np.random.default_rng(seed)
    shape = (len(spectra.wavelengths_nm), len(channels))
    strengths = rng.normal(0.0, gain_sd, (shape[0], len(fibers.sources))) if gain_sd else np.zeros((shape[0], 1))
    sensitivities = rng.normal(0.0, gain_sd, (shape[0], len(fibers.detectors))) if gain_sd else np.zeros((shape[0], 1))
    at = channels - 1 if gain_sd else np.zeros_like(channels)
    gains = strengths[:, at[:, 0]] + sensitivities[:, at[:, 1]]

    def measured(log_amplitude: NDArray[np.float64], name: str) -> Measurements:
        noisy = log_amplitude + np.log1p(np.clip(noise * rng.standard_normal(shape), -0.9, None)) + gains
        return Measurements(
            wavelengths_nm=spectra.wavelengths_nm,
            channels=channels,
            log_amplitude=noisy,
            sd=np.full(shape, max(noise, 1e-3)),
            active=np.ones(shape, dtype=bool),
            remarks=("Simulated data, not measured.",),
            name=name,
        )

    case = measured(model.measure(maps, at_quadrature=True), "simulated case")
    homogeneous = tissues[0].maps(maps.shape[1])
    progress(0.9, "simulating light of the phantom")
    reference = measured(model.measure(homogeneous, at_quadrature=True), "simulated phantom")
    truth = _truth(labels, tissues, plane, contour)
    progress(1.0, "simulated")
    return SimulatedPlane(case, reference, truth)


def check_tissue(tissue: Tissue, name: str) -> None:
    """Raise where a tissue's numbers point to other units than uM, fraction and mm^-1.

    Raises
    ------
    InputError
        Naming the likely mistake.
    """
    total = tissue.hbo + tissue.hbr
    if min(tissue.values()) < 0:
        raise InputError(f"The tissue of {name} has a negative value.")
    if 0 < total < 1:
        raise InputError(f"Hemoglobin of {name} is {total:g} uM in total; tissue has 5 to 150. Is it given in mM?")
    if total > 2000:
        raise InputError(f"Hemoglobin of {name} is {total:g} uM in total; blood itself has about 2300. Is it in nM?")
    if tissue.water > 1 or tissue.lipid > 1:
        raise InputError(f"Water or lipid of {name} is above 1; give fractions, not percent (0.3, not 30).")
    if not 0.2 <= tissue.scatter_amplitude <= 5:
        raise InputError(
            f"The scatter amplitude of {name} is {tissue.scatter_amplitude:g} 1/mm; 0.2 to 5 is plausible. "
            "Is it in 1/cm?"
        )


def _maps(
    labels: Volume, tissues: Mapping[int, Tissue], plane: Plane, points_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the maps (6, n) at in-plane points; outside the segmentation is label 0."""
    found = sample_volume(labels, plane.to_ras(points_mm), nearest=True, outside=0.0)
    maps = np.empty((6, len(points_mm)))
    for number in np.unique(found):
        if int(number) not in tissues:
            raise InputError(f"Label {number:g} of '{labels.name}' lies in the plane, but no tissue is given for it.")
        maps[:, found == number] = tissues[int(number)].values()[:, None]
    return maps


def _truth(labels: Volume, tissues: Mapping[int, Tissue], plane: Plane, contour: Contour) -> dict[str, Volume]:
    outline = even_polygon(contour.samples[1], 1.0)
    grid = slice_grid(plane, outline)
    inside = distance_to_polygon(grid.points_mm, outline) <= 0
    hbo, hbr, water = _maps(labels, tissues, plane, grid.points_mm[inside])[:3]
    total = np.where(hbo + hbr > 0, hbo + hbr, 1.0)
    values = dict(zip(IMAGE_UNITS, (hbo, hbr, 100 * water, hbo + hbr, 100 * hbo / total), strict=True))
    images = {}
    for name, value in values.items():
        image = np.zeros(len(inside), dtype=np.float32)
        image[inside] = value
        images[name] = grid.volume(image, f"true {name}")
    return images
