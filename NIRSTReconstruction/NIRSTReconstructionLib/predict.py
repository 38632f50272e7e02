"""Measured light and an MRI in, chromophore images of a trained network out, with what to judge them by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Progress, ignore_progress, portion
from BreastBiomarkersLib.volume import Volume
from numpy.typing import NDArray
from scipy import ndimage

from NIRSTReconstructionLib.bulk import TYPICAL_TISSUE, fit_bulk
from NIRSTReconstructionLib.calibration import DataSpace, check_distances, data_space
from NIRSTReconstructionLib.dataset import DatasetSettings
from NIRSTReconstructionLib.fibers import Fibers
from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.hybrid import DOUBT
from NIRSTReconstructionLib.images import IMAGE_UNITS
from NIRSTReconstructionLib.measurements import Measurements
from NIRSTReconstructionLib.meshing import Contour, circle_contour
from NIRSTReconstructionLib.network_data import Looks, concentrations, model_of, pixel_grid, reference_light
from NIRSTReconstructionLib.network_settings import OUTPUT_SCALE, OUTPUTS
from NIRSTReconstructionLib.networks import Eyes, TrainedNetwork, run
from NIRSTReconstructionLib.one_step import OneStep
from NIRSTReconstructionLib.optodes import Optodes
from NIRSTReconstructionLib.phantoms import BODY_RADIUS_MM
from NIRSTReconstructionLib.plane import Plane, SliceGrid, distance_to_polygon, even_polygon, slice_grid
from NIRSTReconstructionLib.point_light import PointLight
from NIRSTReconstructionLib.reconstruct import ReconstructionSettings, body_model, calibrated_on_phantom, gray_values
from NIRSTReconstructionLib.spectra import Spectra, Tissue

RING_TOLERANCE_MM = 1.0
"""So far from where a network of raw data learned its fibers to be, after turning and moving, may they be."""


@dataclass(frozen=True, eq=False)
class NetworkImages:
    """Chromophore images of one or several trained networks in a plane.

    Attributes
    ----------
    grid : SliceGrid
    body : (Y, X) ndarray of bool
    values : (3, Y, X) ndarray
        HbO, HbR in uM, water in percent; 0 outside the body.
    sd : (3, Y, X) ndarray or None
        Standard deviation as the networks give it, their disagreement included; None where neither is known.
    bulk : Tissue or None
        Homogeneous fit, of the hybrid.
    residual : (W, C) ndarray
        Measured ln amplitude less that of the images, after the best fiber gains; NaN where inactive.
    space : DataSpace
    measurements : Measurements
        As calibrated.
    networks : tuple of str
        Names of the weights files.
    remarks : tuple of str
    """

    grid: SliceGrid
    body: NDArray[np.bool_]
    values: NDArray[np.float64]
    sd: NDArray[np.float64] | None
    bulk: Tissue | None
    residual: NDArray[np.float64]
    space: DataSpace
    measurements: Measurements
    networks: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def chi(self) -> NDArray[np.float64]:
        """(W,) root-mean-square residual in units of the noise: about 1 where the images explain the light."""
        squared = np.nansum((self.residual / self.space.sd) ** 2, axis=1)
        return np.sqrt(squared / np.maximum(self.space.freedom, 1))

    def volumes(self) -> dict[str, Volume]:
        """Return the images of `images.IMAGE_UNITS`, and `<name>_sd` where known, as one-slice volumes."""
        hbo, hbr, water = self.values
        total = np.where(self.body, hbo + hbr, 1.0)
        images = {"hbo": hbo, "hbr": hbr, "water": water, "hbt": hbo + hbr, "sto2": 100 * hbo / total}
        if self.sd is not None:
            images |= {f"{name}_sd": sd for name, sd in zip(OUTPUTS, self.sd, strict=True)}
        return {name: self.grid.volume(values.astype(np.float32), name) for name, values in images.items()}

    def summary(self) -> dict[str, Any]:
        """Return what belongs into a result file; JSON-able."""
        means = {name: float(v[self.body].mean()) for name, v in zip(OUTPUTS, self.values, strict=True)}
        return {
            "method": "network",
            "networks": list(self.networks),
            **{f"{name}_mean_{_unit(name)}": value for name, value in means.items()},
            "chi": float(np.sqrt(np.mean(self.chi**2))),
            "chi_per_wavelength": self.chi.tolist(),
            "values_used": int(self.measurements.active.sum()),
            "remarks": list(self.remarks),
        }


def predict(
    networks: Sequence[TrainedNetwork],
    measurements: Measurements,
    fibers: Fibers,
    contour: Contour,
    spectra: Spectra,
    mri: Volume,
    *,
    plane: Plane | None = None,
    reference: Measurements | None = None,
    scatter: Tissue = TYPICAL_TISSUE,
    reference_scatter: tuple[float, float] | None = None,
    reference_mua: tuple[float, ...] | None = None,
    optode_tolerance_mm: float = 5.0,
    source_model: str = "line",
    progress: Progress = ignore_progress,
) -> NetworkImages:
    """Return the images of one network, or the mean of several of one kind.

    Parameters
    ----------
    networks : sequence of TrainedNetwork
        Hybrid networks take any outline and fibers; networks of raw data only the ring they learned, turned or moved.
    measurements : Measurements
    fibers : Fibers
    contour : Contour
        Outline of the body in the plane, mm.
    spectra : Spectra
        At the measured wavelengths.
    mri : Volume
    plane : Plane, optional
        Default: least-squares plane of the fibers.
    reference : Measurements, optional
        The same instrument on a homogeneous phantom of the same outline; networks of raw data need it.
    scatter : Tissue
        Whose scattering is assumed in the body.
    reference_scatter, reference_mua, optode_tolerance_mm
        See `ReconstructionSettings`.
    source_model : str
        See `ReconstructionSettings`. Networks of raw data have learned light that spreads in the plane; that of points
        is brought to the plane for them, by the difference of the two in a homogeneous body that fits the data.
    progress : Progress

    Raises
    ------
    InputError
        If the networks differ in kind, do not fit the data, or inputs do not fit together.
    """
    first, hybrid = _of_one_kind(networks)
    fit = fibers.fitted_plane() if plane is None else fibers.distance_from(plane)
    remarks = [*measurements.remarks, *([fit.warning] if fit.warning else [])]
    progress(0.0, "building the mesh")
    measured, plane = measurements, fit.plane
    if not hybrid:
        if reference is None:
            raise InputError(f"'{first.name}' reads ratios of light: give a reference measurement, or use the hybrid.")
        ring = model_of(_learned_set(first)).optodes
        fibers, plane = _on_learned_ring(networks, ring, measured, fibers, plane, spectra)
        measured = measured.at_channels(ring.channels + 1)
        contour = circle_contour(BODY_RADIUS_MM)
    settings = ReconstructionSettings(
        start=scatter,
        reference_scatter=reference_scatter,
        reference_mua=reference_mua,
        optode_tolerance_mm=optode_tolerance_mm,
        source_model=source_model,
    )
    model = body_model(measured, fibers, plane, contour, spectra, settings)
    if reference is not None:
        progress(0.15, "calibrating on the phantom")
        measured = calibrated_on_phantom(measured, reference, model, settings)
    remarks += [remark for remark in measured.remarks if remark not in remarks]
    check_distances(measured, model.optodes)
    if isinstance(model, PointLight) and not hybrid:
        measured, model = _in_the_plane(model, measured, settings), model.line
    return images_in_model(
        networks, model, measured, contour, plane, mri, scatter, remarks, portion(progress, 0.3, 1.0)
    )


def images_in_model(
    networks: Sequence[TrainedNetwork],
    model: ForwardModel,
    measured: Measurements,
    contour: Contour,
    plane: Plane,
    mri: Volume,
    scatter: Tissue = TYPICAL_TISSUE,
    remarks: Sequence[str] = (),
    progress: Progress = ignore_progress,
    near: Tissue | None = None,
) -> NetworkImages:
    """Return the images of one network, or the mean of several of one kind, where the forward model is there already.

    Parameters
    ----------
    networks : sequence of TrainedNetwork
        Networks of raw data must have learned the model's fibers; `predict` sees to that.
    model : ForwardModel
        Of the body, with the measured channels.
    measured : Measurements
        Calibrated.
    contour, plane, mri, scatter, progress
        See `predict`.
    remarks : sequence of str
        To begin with.
    near : Tissue, optional
        A homogeneous fit, where there is one already: saves time.

    Raises
    ------
    InputError
        If the networks differ in kind, or the MRI does not fit.
    """
    first, hybrid = _of_one_kind(networks)
    space = data_space(measured, "fibers" if hybrid else "global")

    progress(0.0, "looking at the light")
    outline = even_polygon(contour.samples[1], 1.0)
    if hybrid:
        grid = slice_grid(plane, outline, 2 * BODY_RADIUS_MM / first.settings.pixels, margin_mm=0.0)
        points = grid.points_mm.reshape(*grid.shape, 2)
        body = (distance_to_polygon(grid.points_mm, outline) <= 0).reshape(grid.shape)
        reference_model = np.zeros(measured.log_amplitude.shape)
    else:
        points, body = pixel_grid(_learned_set(first), first.settings.pixels)
        grid = SliceGrid(plane, points[0, 0], float(points[0, 1, 0] - points[0, 0, 0]), body.shape)
        reference_model = reference_light(_learned_set(first))
    physics = None
    if hybrid or not measured.active.all():
        physics = OneStep(model, points, body, first.settings.physics, scatter, first.device, near)
    gray = np.zeros(body.shape)
    gray[body] = gray_values(mri, plane, outline, points[body])
    looks = _looks(measured, reference_model, gray, first.device)
    found, spread = [], []
    bulk, doubt = None, 0.0
    for n, network in enumerate(networks):
        progress(0.3 + 0.4 * n / len(networks), f"network {n + 1} of {len(networks)}")
        inputs = Eyes(network.settings, body, physics, reference_model, network.scale).see(looks)
        with torch.no_grad():
            images, sd = run(network.network, inputs)
        found.append(concentrations(images)[0].double().cpu().numpy())
        if sd is not None:
            scale = torch.tensor(OUTPUT_SCALE, device=sd.device)[:, None, None]
            spread.append((sd[0] * scale).double().cpu().numpy())
            bulk = inputs["bulk"][0].tolist()
            doubt = float(inputs["images"][0, DOUBT].amax())
    values = np.mean(found, axis=0) * body
    variance = np.mean(np.square(spread), axis=0) if spread else np.zeros_like(values)
    variance = variance + (np.var(found, axis=0, ddof=1) if len(found) > 1 else 0.0)
    if not np.isfinite(values).all():
        raise InputError(f"'{first.name}' gives values that are not numbers for these data. Check units and numbering.")
    tissue = None if bulk is None else replace(scatter, hbo=bulk[0], hbr=bulk[1], water=bulk[2], lipid=0.0)
    remarks = [*remarks, *_range_remarks(networks, bulk if bulk is not None else _means(values, body))]
    if hybrid:
        remarks.append(
            "The MRI's regions do not explain the light: the network has changed their image."
            if doubt > 0.5
            else "The MRI's regions explain the light: the network has hardly changed their image."
        )
    progress(0.8, "simulating the light of the images")
    predicted = _light_of(model, values, grid, body, scatter)
    residual = space.residual(measured.log_amplitude - predicted)
    progress(1.0, "done")
    return NetworkImages(
        grid,
        body,
        values,
        np.sqrt(variance) * body if spread or len(found) > 1 else None,
        tissue,
        residual,
        space,
        measured,
        tuple(network.name for network in networks),
        tuple(remarks),
    )


def _of_one_kind(networks: Sequence[TrainedNetwork]) -> tuple[TrainedNetwork, bool]:
    """Return the first network and whether they are hybrids."""
    kinds = {(n.settings.network, n.settings.pixels) for n in networks}
    if len(kinds) != 1:
        raise InputError("Give one trained network, or several of one kind and pixel size.")
    first = networks[0]
    if first.settings.network == "mri-only":
        raise InputError(f"'{first.name}' is a yardstick that never sees the light; it cannot reconstruct.")
    return first, first.settings.network == "hybrid"


def _in_the_plane(model: PointLight, measured: Measurements, settings: ReconstructionSettings) -> Measurements:
    """Return calibrated data as line sources in a body of the same bulk would have given them."""
    bulk = fit_bulk(model, measured.log_amplitude, data_space(measured, "global"), settings.start).tissue.maps(1)
    excess = model.excess(model.spectra.mua(bulk)[:, 0], model.spectra.musp(bulk)[:, 0])
    return replace(measured, log_amplitude=measured.log_amplitude - excess)


def _learned_set(network: TrainedNetwork) -> DatasetSettings:
    """Return the data set a network of raw data learned from, as far as its set-up goes."""
    values: dict[str, Any] = network.record["data"][0]
    plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    return DatasetSettings(**(plain | {"source_model": "line"}))


def _on_learned_ring(
    networks: Sequence[TrainedNetwork],
    ring: Optodes,
    measurements: Measurements,
    fibers: Fibers,
    plane: Plane,
    spectra: Spectra,
) -> tuple[Fibers, Plane]:
    """Return the fibers in the frame in which networks of raw data learned, and the plane with that frame's axes.

    The frame is the rotation, shift and, for fibers numbered the other way around, reflection that brings the fibers
    nearest to those of the training.
    """
    own = fibers.optodes(plane, measurements.channels)
    center = own.detectors.mean(axis=0)
    R, off = np.eye(2), np.inf
    if own.detectors.shape == ring.detectors.shape == own.sources.shape:
        U, _, V = np.linalg.svd((own.detectors - center).T @ ring.detectors)
        R = U @ V
        off = max(float(np.abs((tips - center) @ R - ring.detectors).max()) for tips in (own.detectors, own.sources))
    for network in networks:
        network.check_raw_data(ring.layout_id if off <= RING_TOLERANCE_MM else own.layout_id, spectra)
    axes = plane.plane_to_ras[:3, :2] @ R
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack([axes, np.cross(axes[:, 0], axes[:, 1])])
    matrix[:3, 3] = plane.to_ras(center)[0]
    flat = np.column_stack([ring.detectors, np.zeros(len(ring.detectors))])
    return Fibers(flat, flat, planar=True, name=fibers.name), Plane(matrix)


def _looks(
    measured: Measurements, reference_model: NDArray[np.float64], gray: NDArray[np.float64], device: torch.device
) -> Looks:
    """Return measured light as the networks' inputs are made from: one look."""
    ratio = np.where(measured.active, measured.log_amplitude - reference_model, 0.0)
    sd = np.median(measured.sd[measured.active])
    return Looks(
        log_ratio=torch.as_tensor(ratio[None], device=device),
        active=torch.as_tensor(measured.active[None], device=device),
        noise=torch.as_tensor(np.where(measured.active, measured.sd, sd)[None], device=device),
        mri=torch.as_tensor(gray[None], dtype=torch.float32, device=device),
        truth=torch.zeros(0),
        lesion=torch.zeros(0),
    )


def _light_of(
    model: ForwardModel, values: NDArray[np.float64], grid: SliceGrid, body: NDArray[np.bool_], scatter: Tissue
) -> NDArray[np.float64]:
    """Return the modeled ln amplitude (W, C) of images (3, Y, X); pixels outside the body continue the nearest."""
    nearest = ndimage.distance_transform_edt(~body, return_distances=False, return_indices=True)
    points = model.mesh.quadrature.points
    at = (points - grid.first_mm).T[::-1] / grid.pixel_mm
    maps = scatter.maps(len(points))
    for row, image in enumerate(values):
        filled = image[tuple(nearest)]
        maps[row] = ndimage.map_coordinates(filled, at, order=1, mode="nearest").clip(min=1e-3)
    maps[2] = (maps[2] / 100).clip(max=1.0)
    maps[3] = 0.0
    return np.asarray(model.measure(maps, at_quadrature=True))


def _range_remarks(networks: Sequence[TrainedNetwork], bulk: list[float]) -> list[str]:
    """Return a remark for each quantity whose bulk (uM, uM, fraction) lies outside what the networks have seen."""
    remarks = []
    for name, value, unit in zip(OUTPUTS, (bulk[0], bulk[1], 100 * bulk[2]), ("uM", "uM", "%"), strict=True):
        row = OUTPUTS.index(name)
        low = min(network.record["background"]["low"][row] for network in networks)
        high = max(network.record["background"]["high"][row] for network in networks)
        if not low / 1.1 <= value <= high * 1.1:
            remarks.append(
                f"The tissue's {name} of {value:.3g} {unit} is outside what the network has learned from "
                f"({low:.3g} to {high:.3g} {unit})."
            )
    return remarks


def _means(values: NDArray[np.float64], body: NDArray[np.bool_]) -> list[float]:
    hbo, hbr, water = (float(image[body].mean()) for image in values)
    return [hbo, hbr, water / 100]


def _unit(name: str) -> str:
    return "percent" if IMAGE_UNITS[name] == "%" else IMAGE_UNITS[name]
