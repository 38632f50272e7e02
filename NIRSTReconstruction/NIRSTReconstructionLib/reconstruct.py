"""The whole method: measured light and, where there is one, an MRI in; chromophore maps and their residual out."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Progress, ignore_progress, portion
from BreastBiomarkersLib.volume import Volume
from numpy.typing import NDArray
from scipy import ndimage

from NIRSTReconstructionLib.adaptive import AdaptiveResult, bright_regions, fit_adaptively, fit_with_field
from NIRSTReconstructionLib.basis import Basis, MeshBasis, RegionBasis
from NIRSTReconstructionLib.bulk import TYPICAL_TISSUE, BulkFit, fit_bulk
from NIRSTReconstructionLib.calibration import (
    GAINS,
    DataSpace,
    calibrate,
    check_distances,
    data_space,
    fit_homogeneous,
)
from NIRSTReconstructionLib.fibers import Fibers
from NIRSTReconstructionLib.forward import SOURCE_MODELS, ForwardModel
from NIRSTReconstructionLib.gauss_newton import GaussNewtonResult, GaussNewtonSettings, Prior, gauss_newton
from NIRSTReconstructionLib.measurements import Measurements
from NIRSTReconstructionLib.mesh import TriangleMesh
from NIRSTReconstructionLib.meshing import Contour, fill_contour, spline_contour
from NIRSTReconstructionLib.network_method import NETWORK_METHODS, ImageBasis, expand, network_images
from NIRSTReconstructionLib.optodes import place_optodes
from NIRSTReconstructionLib.plane import Plane, distance_to_polygon, even_polygon, sample_volume, slice_grid
from NIRSTReconstructionLib.point_light import PointLight
from NIRSTReconstructionLib.regularization import dri_matrix, laplacian_matrix, normalized_gray, tikhonov_matrix
from NIRSTReconstructionLib.spectra import MAP_NAMES, Spectra, Tissue

if TYPE_CHECKING:
    from NIRSTReconstructionLib.predict import NetworkImages

FIELD_METHODS = ("adaptive", "regions-field", "linear")
"""Methods with regions, a smooth field, or both (`adaptive`)."""
METHODS = ("adaptive", "tikhonov", "dri", "soft-prior", "hard-prior", "regions-field", "linear", *NETWORK_METHODS)
DEFAULT_PRIOR_SD = {"tikhonov": 0.5, "dri": 0.1, "soft-prior": 0.05, "hard-prior": 1.5}
"""How far, as a share of the bulk value, a map may stray from what the method expects (`gauss_newton.Prior`)."""
NETWORK_MAPS = ("hbo", "hbr", "water")
RIM_MM = 2.5
"""So near the skin the MRI is part air; its gray value is replaced by the body's median there."""

MOST_REGIONS = 50
"""More different values than this in a plane are gray values, not a segmentation."""
POOR_FIT_CHI = 2.0
"""Residual in units of the noise from which a result carries a warning."""
_ADAPTIVE_PIXEL_MM = 0.7
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReconstructionSettings:
    """Choices of one reconstruction.

    Attributes
    ----------
    method : str
        "adaptive": one value per region of a segmentation or, without one, of the bright spots of the first MRI; where
        that does not explain the light, with a smooth field or regions found in the light (`adaptive`); needs neither.
        "tikhonov": smooth towards the bulk, no MRI. "dri": nodes of equal MRI gray value belong together. "soft-prior":
        nodes of one region of a segmentation are drawn together. "hard-prior": one value per region. "regions-field":
        one value per region, found as by "adaptive", and a smooth field beside them. "linear": one linear step from
        the bulk with a smooth field and no MRI (linear minimum-mean-square-error estimate). The strength of the fields
        is the most likely one. "hybrid", "znet":
        the shipped networks (`network_method`), for HbO, HbR and water beside the first MRI.
    prior_sd : float or None
        How far a map may stray from what the method expects, as a share of the bulk value: from the bulk itself
        ("tikhonov", "hard-prior") or from the mean of alike nodes ("dri", "soft-prior"). Smaller is smoother. None: the
        method's default (`DEFAULT_PRIOR_SD`).
    gains : str
        "auto", or what is unknown about the instrument (`calibration.GAINS`). "auto" projects fiber gains out unless a
        reference measurement calibrates them; then only a factor per wavelength stays free (source power drifts).
    parameters : tuple of str
        Maps to reconstruct.
    start : Tissue
        Where the bulk fit begins; its scattering is kept.
    noise : float or None
        Relative standard deviation of the amplitudes, replacing that of the file.
    reference_scatter : (float, float) or None
        Scatter amplitude (mm^-1) and power of the reference phantom; None: those of `start`.
    reference_mua : tuple of float or None
        Absorption of the reference phantom at each measured wavelength, mm^-1, where it is known. None: it is fitted,
        with light of `source_model`; "line" takes light in 3-D for more absorption.
    dri_sigma : float
        See `regularization.dri_matrix`.
    element_size_mm : float
        Triangle side of the forward mesh (quadratic elements, finer at the fibers).
    basis_nodes : int
        About how many nodes the reconstruction mesh has (linear elements). The data hold some 160 independent numbers.
    optode_tolerance_mm : float
        Fibers farther from the body's outline are refused.
    refractive_index, boundary_convention
        See `ForwardModel`.
    source_model : str
        "line": light spreads in the plane only. "point": in 3-D, as that of fibers does, in a body that does not change
        along the plane's normal (`point_light`). Body and reference phantom are modeled alike.
    iteration : GaussNewtonSettings
    """

    method: str = "tikhonov"
    prior_sd: float | None = None
    gains: str = "auto"
    parameters: tuple[str, ...] = ("hbo", "hbr", "water")
    start: Tissue = TYPICAL_TISSUE
    noise: float | None = None
    reference_scatter: tuple[float, float] | None = None
    reference_mua: tuple[float, ...] | None = None
    dri_sigma: float = 0.15
    element_size_mm: float = 3.6
    basis_nodes: int = 470
    optode_tolerance_mm: float = 5.0
    refractive_index: float = 1.33
    boundary_convention: str = "fresnel"
    source_model: str = "line"
    iteration: GaussNewtonSettings = field(default_factory=GaussNewtonSettings)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"There is no method '{self.method}'; choose one of {', '.join(METHODS)}.")
        if self.method in NETWORK_METHODS and self.parameters != NETWORK_MAPS:
            raise InputError(f"The networks give {', '.join(NETWORK_MAPS)}, no other maps.")
        maps = list(dict.fromkeys(self.parameters))
        if not maps or len(maps) < len(self.parameters) or not set(maps) <= set(MAP_NAMES):
            raise InputError(
                f"The maps to reconstruct are ({', '.join(map(str, self.parameters))}); choose one or more of "
                f"{', '.join(MAP_NAMES)}, each once."
            )
        if self.source_model not in SOURCE_MODELS:
            raise InputError(f"Unknown source model '{self.source_model}'; choose one of {', '.join(SOURCE_MODELS)}.")
        if self.gains not in ("auto", *GAINS):
            raise InputError(f"Unknown gain treatment '{self.gains}'; choose one of auto, {', '.join(GAINS)}.")
        if not 20 <= self.basis_nodes <= 5000:
            raise InputError(
                f"A reconstruction mesh of {self.basis_nodes} nodes was asked for; 20 to 5000 are possible."
            )
        if self.prior_sd is not None and not 1e-4 <= self.prior_sd <= 1e4:
            raise InputError(f"The prior standard deviation is {self.prior_sd}; 0.0001 to 10000 is possible.")
        if not all(1e-4 <= mua <= 0.1 for mua in self.reference_mua or ()):
            raise InputError(
                f"The phantom's absorption is {self.reference_mua}; 0.0001 to 0.1 1/mm is possible. Check the unit "
                "(1/mm, not 1/cm)."
            )


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Chromophore maps in a plane, and what to judge them by.

    Attributes
    ----------
    plane : Plane
    outline_mm : (n, 2) ndarray
        The body's outline, in-plane.
    basis : Basis
    coefficients : (P, B) ndarray
        Maps in units of the bulk tissue.
    covariance : (P * B, P * B) ndarray
        Of the coefficients, given the prior (see `GaussNewtonResult`).
    bulk : BulkFit
    model : ForwardModel
    measurements : Measurements
        As fitted (calibrated), on the model's channels.
    space : DataSpace
    predicted : (W, C) ndarray
        Modeled log amplitude.
    history, reason, converged
        See `GaussNewtonResult`.
    settings : ReconstructionSettings
    gains : str
        What was assumed about the instrument.
    remarks : tuple of str
        What was left out, and warnings.
    regions : Volume or None
        Segmentation that was used, with regions found in the light ("adaptive") added; None if none was.
    """

    plane: Plane
    outline_mm: NDArray[np.float64]
    basis: Basis
    coefficients: NDArray[np.float64]
    covariance: NDArray[np.float64]
    bulk: BulkFit
    model: ForwardModel
    measurements: Measurements
    space: DataSpace
    predicted: NDArray[np.float64]
    history: tuple[dict[str, float], ...]
    reason: str
    converged: bool
    settings: ReconstructionSettings
    gains: str
    remarks: tuple[str, ...]
    regions: Volume | None = None

    def maps_at(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the maps (6, n) of `spectra.MAP_NAMES` (uM, fraction, mm^-1) at in-plane points of the body."""
        maps = self.bulk.tissue.maps(len(points_mm))
        at = self.basis.at(points_mm)
        for name, x in zip(self.settings.parameters, self.coefficients, strict=True):
            maps[MAP_NAMES.index(name)] *= at @ x
        return maps

    @property
    def residual(self) -> NDArray[np.float64]:
        """(W, C) measured minus modeled log amplitude, after the gains that were projected out; NaN where inactive."""
        return self.space.residual(self.measurements.log_amplitude - self.predicted)

    @property
    def residual_rms(self) -> NDArray[np.float64]:
        """(W,) root-mean-square residual of the log amplitude (0.02 is 2 % of the light), gains counted as fitted."""
        squared = np.nansum(self.residual**2, axis=1)
        return np.sqrt(squared / np.maximum(self.space.freedom, 1))

    @property
    def chi(self) -> NDArray[np.float64]:
        """(W,) root-mean-square residual in units of the noise; about 1 where model and noise are right."""
        squared = np.nansum((self.residual / self.space.sd) ** 2, axis=1)
        return np.sqrt(squared / np.maximum(self.space.freedom, 1))

    def summary(self) -> dict[str, Any]:
        """Return what belongs into a result file: settings, table, bulk, residuals, history; JSON-able."""
        settings = asdict(self.settings)
        settings["prior_sd"] = self.settings.prior_sd or DEFAULT_PRIOR_SD.get(self.settings.method)
        freedom = self.space.freedom
        return {
            "method": self.settings.method,
            "extinction_table": self.model.spectra.table_name,
            "model": self.model.describe(),
            "gains": self.gains,
            "settings": settings,
            "bulk": {**asdict(self.bulk.tissue), "sd": self.bulk.sd, "chi": self.bulk.chi},
            "wavelengths_nm": self.measurements.wavelengths_nm.tolist(),
            "values_used": int(self.measurements.active.sum()),
            "values_total": int(self.measurements.active.size),
            "degrees_of_freedom": freedom.tolist(),
            "residual_rms": self.residual_rms.tolist(),
            "chi": self.chi.tolist(),
            "history": list(self.history),
            "reason": self.reason,
            "converged": self.converged,
            "plane_to_ras": self.plane.plane_to_ras.tolist(),
            "remarks": list(self.remarks),
        }


def reconstruct(
    measurements: Measurements,
    fibers: Fibers,
    contour: Contour,
    spectra: Spectra,
    settings: ReconstructionSettings | None = None,
    *,
    plane: Plane | None = None,
    reference: Measurements | None = None,
    images: Sequence[Volume] = (),
    regions: Volume | None = None,
    progress: Progress = ignore_progress,
) -> Reconstruction:
    """Return the chromophore maps that explain measured amplitudes, guided by an MRI or a segmentation if given.

    Steps: mesh of the outline, finer at the fibers; calibration (`reference`) or projection of fiber gains; bulk fit;
    Gauss-Newton from the bulk with the method's regularization.

    Parameters
    ----------
    measurements : Measurements
    fibers : Fibers
    contour : Contour
        Outline of the body in the plane, mm.
    spectra : Spectra
        Extinction at (at least) the measured wavelengths.
    settings : ReconstructionSettings, optional
    plane : Plane, optional
        The image plane; default: least-squares plane of the fibers. A warning is kept if the fibers lie off it.
    reference : Measurements, optional
        The same instrument on a homogeneous phantom of the same outline.
    images : sequence of Volume
        MR images for "dri".
    regions : Volume, optional
        Segmentation for "soft-prior" and "hard-prior" (a lesion mask is one), and to scale the gray values of "dri".
    progress : Progress

    Raises
    ------
    InputError
        If inputs do not fit together; the message says what to do.
    """
    settings = settings or ReconstructionSettings()
    if settings.method in ("soft-prior", "hard-prior") and regions is None:
        raise InputError(f"The method {settings.method} needs a segmentation: give the lesion mask or a label map.")
    if settings.method == "dri" and not images:
        raise InputError("The method dri needs an MRI. Give one, or use tikhonov.")
    fit = fibers.fitted_plane() if plane is None else fibers.distance_from(plane)
    remarks = [*measurements.remarks, *([fit.warning] if fit.warning else [])]
    if regions is not None:
        _check_segmentation(regions, fit.plane, contour)

    progress(0.0, "building the mesh")
    measured = uncalibrated = measurements if settings.noise is None else measurements.with_noise(settings.noise)
    model = body_model(measured, fibers, fit.plane, contour, spectra, settings)
    gains = settings.gains if settings.gains != "auto" else "fibers" if reference is None else "global"
    if reference is not None:
        progress(0.08, "calibrating on the phantom")
        reference = reference if settings.noise is None else reference.with_noise(settings.noise)
        measured = calibrated_on_phantom(measured, reference, model, settings)
    remarks += [remark for remark in measured.remarks if remark not in remarks]
    space = data_space(measured, gains)
    check_distances(measured, model.optodes)
    remarks += _too_few_wavelengths(measured, settings.parameters)

    bulk = fit_bulk(
        model, measured.log_amplitude, space, settings.start, settings.parameters, portion(progress, 0.1, 0.2)
    )
    rest = portion(progress, 0.2, 1.0)
    if settings.method in FIELD_METHODS:
        answer = _adapted(model, measured, space, bulk.tissue, settings, contour, fit.plane, images, regions, rest)
        remarks.append(answer.remark)
        basis, result, regions = answer.basis, answer.fit, answer.regions
    elif settings.method in NETWORK_METHODS:
        found = network_images(
            settings.method,
            model,
            measured,
            uncalibrated,
            fibers,
            contour,
            images,
            plane=fit.plane,
            reference=reference,
            scatter=settings.start,
            bulk=bulk.tissue,
            reference_scatter=settings.reference_scatter,
            reference_mua=settings.reference_mua,
            optode_tolerance_mm=settings.optode_tolerance_mm,
            source_model=settings.source_model,
            progress=rest,
        )
        remarks += [remark for remark in found.remarks if remark not in remarks]
        basis, result = _network_result(found, model, measured, space, bulk.tissue, fit.plane)
    else:
        basis, prior = _basis_and_prior(settings, model, contour, fit.plane, images, regions)
        exact = isinstance(basis, RegionBasis)
        result = gauss_newton(
            model,
            measured.log_amplitude,
            space,
            basis.at(model.mesh.quadrature.points if exact else model.mesh.nodes),
            bulk.tissue,
            settings.parameters,
            prior,
            settings.iteration,
            rest,
            at_quadrature=exact,
        )
    if not result.converged:
        remarks.append(f"Not converged: {result.reason}.")
    done = Reconstruction(
        plane=fit.plane,
        outline_mm=even_polygon(contour.samples[1], 1.0),
        basis=basis,
        coefficients=result.coefficients,
        covariance=result.covariance,
        bulk=bulk,
        model=model,
        measurements=measured,
        space=space,
        predicted=result.predicted,
        history=result.history,
        reason=result.reason,
        converged=result.converged,
        settings=settings,
        gains=gains,
        remarks=tuple(remarks),
        regions=regions,
    )
    misfit = float(np.sqrt(np.mean(done.chi**2)))
    if misfit > POOR_FIT_CHI:
        remarks.append(
            f"The model does not explain the data: the residual is {misfit:.1f} times the stated noise. Do not trust "
            "the values before geometry, calibration and noise are checked."
        )
    for remark in remarks:
        _log.info(remark)
    return replace(done, remarks=tuple(remarks))


def _too_few_wavelengths(measured: Measurements, parameters: tuple[str, ...]) -> list[str]:
    """Refuse one wavelength, and remark on fewer wavelengths than maps, which then follow from the prior.

    Raises
    ------
    InputError
        If light of only one wavelength is left.
    """
    count = int(measured.active.any(axis=1).sum())
    if count < 2:
        raise InputError(
            f"'{measured.name}' holds usable light of {count} wavelength(s); chromophores need two at least, or "
            "better one for each of them. Give data of more wavelengths."
        )
    if count >= len(parameters):
        return []
    return [
        f"{count} wavelengths cannot tell {', '.join(parameters)} apart: what they leave open is held by the prior."
    ]


def _check_segmentation(regions: Volume, plane: Plane, contour: Contour) -> None:
    """Refuse an image of gray values in place of a segmentation.

    Raises
    ------
    InputError
        If values in the plane are no whole numbers, or too many.
    """
    grid = slice_grid(plane, even_polygon(contour.samples[1], 1.0))
    values = np.unique(sample_volume(regions, plane.to_ras(grid.points_mm), nearest=True, outside=0.0))
    broken = values[values != np.round(values)]
    if len(values) > MOST_REGIONS or broken.size:
        raise InputError(
            f"'{regions.name}' is not a segmentation: it holds {len(values)} different values in the plane, such as "
            f"{(broken if broken.size else values)[-1]:g}. A segmentation has whole numbers, one per region, "
            f"{MOST_REGIONS} at most."
        )


def contour_through_fibers(fibers: Fibers, plane: Plane) -> Contour:
    """Return the smooth closed curve through the detectors, for bodies whose outline is known only at the fibers.

    Raises
    ------
    InputError
        If there are fewer than six detectors or they leave more than a third of the circumference without a fiber.
    """
    points = plane.to_plane(fibers.detectors)[0]
    if len(points) < 6:
        raise InputError(f"{len(points)} detectors do not define an outline. Give an MRI with a plane, or a mesh.")
    center = points.mean(axis=0)
    angles = np.sort(np.arctan2(*(points - center).T[::-1]))
    gap = float(np.max(np.diff(np.append(angles, angles[0] + 2 * np.pi))))
    if gap > 2 * np.pi / 3:
        raise InputError(
            f"The fibers leave {np.rad2deg(gap):.0f} degrees of the circumference open, so they do not define the "
            "body's outline. Give an MRI with a plane, or a mesh."
        )
    order = np.argsort(np.arctan2(*(points - center).T[::-1]))
    return spline_contour(points[order])


def holes_in_plane(image: Volume, plane: Plane, outline_mm: NDArray[np.float64]) -> list[str]:
    """Return a remark where an MRI holds NaN or infinity around the body in the plane, else nothing."""
    grid = slice_grid(plane, outline_mm)
    values = sample_volume(image, plane.to_ras(grid.points_mm), nearest=True, outside=0.0)
    holes = int((~np.isfinite(values)).sum())
    return [f"'{image.name}' holds no number at {holes} of {values.size} pixels of the plane."] if holes else []


def gray_values(
    image: Volume, plane: Plane, outline_mm: NDArray[np.float64], points_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the gray values of an MRI at in-plane points, smoothed by 1 mm, with the air at the rim kept out.

    Points within `RIM_MM` of the outline get the median of the body, so that partial volume with air does not look
    like a tissue of its own.

    Raises
    ------
    InputError
        If the image covers less than 90 % of the body in the plane.
    """
    grid = slice_grid(plane, outline_mm)
    values = sample_volume(image, plane.to_ras(grid.points_mm)).reshape(grid.shape)
    body = (distance_to_polygon(grid.points_mm, outline_mm) < 0).reshape(grid.shape)
    known = body & np.isfinite(values)
    if known.sum() < 0.9 * body.sum():
        raise InputError(
            f"'{image.name}' covers only {known.sum() / max(body.sum(), 1):.0%} of the body in the plane. Do MRI, "
            "plane and fibers belong to the same exam and coordinate system?"
        )
    share = ndimage.gaussian_filter(known.astype(np.float64), 1.0 / grid.pixel_mm)
    smooth = ndimage.gaussian_filter(np.where(known, values, 0.0), 1.0 / grid.pixel_mm) / np.maximum(share, 1e-6)
    at = (points_mm - grid.first_mm).T[::-1] / grid.pixel_mm
    gray = ndimage.map_coordinates(smooth, at, order=1, mode="nearest")
    rim = distance_to_polygon(points_mm, outline_mm) > -RIM_MM
    gray[rim] = np.median(gray[~rim]) if (~rim).any() else np.median(gray)
    return gray


def body_model(
    measured: Measurements,
    fibers: Fibers,
    plane: Plane,
    contour: Contour,
    spectra: Spectra,
    settings: ReconstructionSettings,
) -> ForwardModel:
    """Return the forward model of the body on the measured channels and wavelengths.

    Raises
    ------
    InputError
        If the extinction lacks a wavelength, or the fibers do not belong to the channels or the outline.
    """
    at = [int(np.argmin(np.abs(spectra.wavelengths_nm - nm))) for nm in measured.wavelengths_nm]
    missing = measured.wavelengths_nm[np.abs(spectra.wavelengths_nm[at] - measured.wavelengths_nm) > 0.01]
    if missing.size:
        raise InputError(
            f"The extinction '{spectra.table_name}' has no row for {', '.join(f'{nm:g}' for nm in missing)} nm, which "
            "was measured. Choose another table."
        )
    chosen = replace(spectra, wavelengths_nm=spectra.wavelengths_nm[at], extinction=spectra.extinction[at])
    optodes = fibers.optodes(plane, measured.channels)
    mesh = fill_contour(contour, settings.element_size_mm, refine_at=optodes.detectors)
    musp = float(chosen.musp(settings.start.maps(1)).mean())
    line = ForwardModel(
        mesh,
        place_optodes(mesh, optodes, musp, settings.optode_tolerance_mm),
        chosen,
        refractive_index=settings.refractive_index,
        boundary_convention=settings.boundary_convention,
    )
    return PointLight(line) if settings.source_model == "point" else line


def calibrated_on_phantom(
    measured: Measurements, reference: Measurements, model: ForwardModel, settings: ReconstructionSettings
) -> Measurements:
    """Return the data as an ideal instrument would have measured them; the phantom's absorption is known, or fitted.

    Raises
    ------
    InputError
        If the phantom's data lack channels or wavelengths, or fit no homogeneous body.
    """
    reference = reference.at_wavelengths(measured.wavelengths_nm).at_channels(measured.channels)
    amplitude, power = settings.reference_scatter or (settings.start.scatter_amplitude, settings.start.scatter_power)
    musp = model.spectra.musp(Tissue(0, 0, 0, 0, amplitude, power).maps(1))[:, 0]
    if settings.reference_mua is not None:
        mua = np.array(settings.reference_mua)
        if mua.shape != musp.shape:
            raise InputError(
                f"{mua.size} values of the phantom's absorption were given; the data have {musp.size} wavelengths."
            )
        ones = np.ones((1, len(model.mesh.nodes)))
        known = model.measure_optical(mua[:, None] * ones, musp[:, None] * ones).real
        calibrated = calibrate(measured, reference, known)
        return calibrated.remarking(f"Calibrated on '{reference.name}' of known absorption.")
    fit = fit_homogeneous(reference, model, musp)
    calibrated = calibrate(measured, reference, fit.log_amplitude)
    listed = ", ".join(f"{value:.4f}" for value in fit.mua)
    return calibrated.remarking(
        f"Calibrated on '{reference.name}': mua {listed} 1/mm fitted with musp {amplitude:g} 1/mm at "
        f"{model.spectra.scatter_reference_nm:g} nm, power {power:g}; residual {fit.rms.mean():.3f}."
    )


def _adapted(
    model: ForwardModel,
    measured: Measurements,
    space: DataSpace,
    bulk: Tissue,
    settings: ReconstructionSettings,
    contour: Contour,
    plane: Plane,
    images: Sequence[Volume],
    regions: Volume | None,
    progress: Progress,
) -> AdaptiveResult:
    outline = even_polygon(contour.samples[1], 1.0)
    grid = slice_grid(plane, outline, _ADAPTIVE_PIXEL_MM)
    body = distance_to_polygon(grid.points_mm, outline) < 0
    mesh_basis = MeshBasis(_reconstruction_mesh(model, contour, settings))
    common = (model, measured.log_amplitude, space, bulk, settings.parameters)
    nothing = grid.volume(np.zeros(grid.shape, dtype=np.int16), "no regions")
    if settings.method == "linear":
        return fit_with_field(*common, nothing, plane, mesh_basis, progress, steps=1)
    if regions is None and images:
        smooth = gray_values(images[0], plane, outline, grid.points_mm)
        regions = bright_regions(images[0], smooth, body, grid)
    known = nothing if regions is None else regions
    if settings.method == "regions-field":
        return fit_with_field(*common, known, plane, mesh_basis, progress)
    return fit_adaptively(*common, known, plane, mesh_basis, grid, body, progress)


def _network_result(
    found: NetworkImages, model: ForwardModel, measured: Measurements, space: DataSpace, bulk: Tissue, plane: Plane
) -> tuple[Basis, GaussNewtonResult]:
    """Return a network's images in the form of an inversion that took no step."""
    basis, coefficients, covariance = expand(found, bulk, plane)
    points = model.mesh.quadrature.points
    maps = bulk.maps(len(points))
    shown = ImageBasis(basis.grid, basis.images[:3], plane)  # the rest has coefficients of 0
    maps[[MAP_NAMES.index(name) for name in NETWORK_MAPS]] *= (shown.at(points) @ coefficients[:, :3].T).T
    predicted = np.asarray(model.measure(maps, at_quadrature=True))
    objective = float(np.nansum(np.square(space.residual(measured.log_amplitude - predicted) / space.sd)))
    chi = math.sqrt(objective / max(float(np.sum(space.freedom)), 1.0))
    history = ({"objective": objective, "chi": chi, "step": 0.0},)
    reason = f"images of the network {', '.join(found.networks)}"
    return basis, GaussNewtonResult(coefficients, predicted, covariance, history, reason, True)


def _reconstruction_mesh(model: ForwardModel, contour: Contour, settings: ReconstructionSettings) -> TriangleMesh:
    size_mm = math.sqrt(model.mesh.area_mm2 / settings.basis_nodes * 2 / math.sqrt(3))  # equilateral triangles
    return fill_contour(contour, size_mm, order=1)


def _basis_and_prior(
    settings: ReconstructionSettings,
    model: ForwardModel,
    contour: Contour,
    plane: Plane,
    images: Sequence[Volume],
    regions: Volume | None,
) -> tuple[Basis, Prior]:
    sd = settings.prior_sd or DEFAULT_PRIOR_SD[settings.method]
    if settings.method == "hard-prior":
        assert regions is not None
        segmented = RegionBasis(regions, plane, model.mesh.quadrature.points)
        if segmented.count < 2:
            raise InputError(
                f"The segmentation '{regions.name}' has one region only in the image plane, so a hard prior is the "
                "bulk fit. Does the plane pass through the lesion?"
            )
        return segmented, Prior(tikhonov_matrix(segmented.count), 1.0, sd)
    basis = MeshBasis(_reconstruction_mesh(model, contour, settings))
    nodes = basis.mesh.nodes
    outline = even_polygon(contour.samples[1], 1.0)
    if settings.method == "tikhonov":
        return basis, Prior(tikhonov_matrix(basis.count), 1.0, sd)
    if settings.method == "soft-prior":
        assert regions is not None
        numbers = RegionBasis(regions, plane, model.mesh.quadrature.points).number_at(nodes)
        return basis, Prior(laplacian_matrix(numbers), 0.0, sd)
    lesion = None
    if regions is not None:
        lesion = sample_volume(regions, plane.to_ras(nodes), nearest=True, outside=0.0) > 0
    gray = [normalized_gray(gray_values(image, plane, outline, nodes), lesion) for image in images]
    return basis, Prior(dri_matrix(np.array(gray), settings.dri_sigma), 0.0, sd)
