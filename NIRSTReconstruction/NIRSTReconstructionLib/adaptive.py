"""The method that trusts the MRI as far as the light allows: regions, then regions and field, then a region of its own.

1. One value per region (hard prior). If a smooth field beside them gains nothing, that is the answer.
2. The segmentation is moved within the plane, because breasts move between MRI and light.
3. A smooth field is added, as strong as the data ask for. Its compact peaks are lesions which the MRI does not show:
   ellipses are fitted to them. If regions and ellipses explain the light they are the answer, else the field stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from BreastBiomarkersLib.progress import Progress, ignore_progress, portion
from BreastBiomarkersLib.volume import Volume
from numpy.typing import NDArray
from scipy import ndimage

from NIRSTReconstructionLib.basis import Basis, MeshBasis, RegionBasis
from NIRSTReconstructionLib.calibration import DataSpace
from NIRSTReconstructionLib.field import Field, StackedBasis, smooth_field
from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.gauss_newton import GaussNewtonResult
from NIRSTReconstructionLib.outlines import (
    EllipseOutlines,
    FieldBeside,
    FixedOutlines,
    Outlines,
    SharpOutlines,
    ShiftedOutlines,
    circle_of,
    field_beside,
    fit_outlines,
)
from NIRSTReconstructionLib.plane import Plane, SliceGrid, sample_volume
from NIRSTReconstructionLib.spectra import MAP_NAMES, Tissue

NEEDED_EVIDENCE = 6.0
"""Log marginal likelihood that a field must gain over none (a factor of 400) before it is added to regions."""
MAX_ROUNDS = 3
"""How often further lesions are looked for beside those that were found."""
WORTH_KEEPING = 0.8
"""Regions found in the light are kept beside a field if they lower the residual to this share."""
COMPACT = 4.0
"""Peak of a field over its standard deviation from which it is a lesion and not texture."""
PEAK_SHARE = 0.5
"""Share of the field's peak above which a lesion that the MRI does not show is looked for."""
SMALLEST_LESION_MM2 = 30.0
MAX_DISCOVERED = 3
ELONGATED = 0.4
"""From this ln sqrt(long / short axis) an ellipse may be two lesions; a ratio of 2.2."""
SPOT_DEVIATIONS = 5.0
_SHARP_ENOUGH = 3.0  # noise standard deviations between edge and background


@dataclass(frozen=True, eq=False)
class AdaptiveResult:
    """What the adaptive method arrived at.

    Attributes
    ----------
    basis : Basis
        Regions, or regions and the mesh of a field.
    fit : GaussNewtonResult
        The iteration that was accepted.
    remark : str
        Which way was taken and why.
    regions : Volume
        Label map that was used: as given, or with regions found in the light added.
    """

    basis: Basis
    fit: GaussNewtonResult
    remark: str
    regions: Volume


def bright_regions(image: Volume, smooth: NDArray[np.float64], body: NDArray[np.bool_], grid: SliceGrid) -> Volume:
    """Return the bright spots of an MRI in the plane as a label map: 0 elsewhere, then one number per spot.

    A spot is brighter than the body's median by `SPOT_DEVIATIONS` robust standard deviations and at least
    `SMALLEST_LESION_MM2` large. Its edge lies halfway between the median and its own brightness: voxel by voxel on the
    MRI's own grid where the noise allows, else in the smoothed pixels of the plane.

    Parameters
    ----------
    image : Volume
    smooth : (rows * columns,) ndarray
        Its smoothed gray values at the pixels.
    body : (rows * columns,) ndarray of bool
    grid : SliceGrid
    """
    sharp = sample_volume(image, grid.plane.to_ras(grid.points_mm), nearest=True)
    median = float(np.median(smooth[body]))
    deviation = 1.4826 * float(np.median(np.abs(smooth[body] - median)))
    noise = 1.4826 * float(np.nanmedian(np.abs((sharp - smooth)[body])))
    cores, count = ndimage.label((body & (smooth > median + SPOT_DEVIATIONS * deviation)).reshape(grid.shape))
    labels = np.zeros(body.size, dtype=np.int16)
    smallest = SMALLEST_LESION_MM2 / grid.pixel_mm**2
    edges = []
    for core in range(1, count + 1):
        spot = (cores == core).ravel()
        if spot.sum() < smallest:
            continue
        edge = (median + float(np.percentile(smooth[spot], 75))) / 2
        grown = ndimage.label((body & (smooth > edge)).reshape(grid.shape))[0].ravel()
        here = grown[spot & (smooth > edge)]
        if here.size:
            labels[(grown == np.bincount(here).argmax()) & (labels == 0)] = labels.max() + 1
            edges.append(edge)
    name = f"bright regions of {image.name}"
    if not edges or min(edges) - median < _SHARP_ENOUGH * noise:
        return grid.volume(labels, name)
    return _on_voxels(image, grid.volume(labels, name), np.array(edges), grid)


def _on_voxels(image: Volume, labels: Volume, edges: NDArray[np.float64], grid: SliceGrid) -> Volume:
    """Return the spots of a plane as those voxels of the image near the plane and spot that are above its edge."""
    k, j, i = np.indices(image.shape)
    voxels = np.column_stack([i.ravel(), j.ravel(), k.ravel()])
    near = np.abs(grid.plane.to_plane(image.points_to_ras(voxels))[1]) <= np.linalg.norm(image.spacing)
    reach = ndimage.grey_dilation(labels.array, footprint=np.ones((1, 5, 5)))
    spot = np.zeros(len(voxels), dtype=np.int16)
    in_plane = grid.plane.to_plane(image.points_to_ras(voxels[near]))[0]
    spot[near] = sample_volume(labels.with_array(reach), grid.plane.to_ras(in_plane), nearest=True, outside=0.0)
    above = image.array.ravel() > np.r_[np.inf, edges][spot]
    return image.with_array(np.where(above, spot, 0).astype(np.int16).reshape(image.shape), labels.name)


def fit_adaptively(
    model: ForwardModel,
    measured: NDArray[np.float64],
    space: DataSpace,
    start: Tissue,
    parameters: tuple[str, ...],
    segmentation: Volume,
    plane: Plane,
    mesh_basis: MeshBasis,
    grid: SliceGrid,
    body: NDArray[np.bool_],
    progress: Progress = ignore_progress,
) -> AdaptiveResult:
    """Return the simplest image that explains the light: regions, regions found in the light, or regions and field.

    Parameters
    ----------
    model, measured, space, start, parameters, progress
        See `gauss_newton`.
    segmentation : Volume
        Regions of the MRI; a single one where nothing is known.
    plane : Plane
    mesh_basis : MeshBasis
        On which the field lives.
    grid : SliceGrid
        Pixels on which new regions are outlined.
    body : (rows * columns,) ndarray of bool
        Pixels inside the body.
    """
    common = (model, measured, space, start, parameters)
    regions = RegionBasis(segmentation, plane, model.mesh.quadrature.points)
    known: Outlines = FixedOutlines(regions)
    ones = np.ones((len(parameters), regions.count))
    known, fit = fit_outlines(*common, known, ones, None, portion(progress, 0, 0.2))
    what = "The MRI's regions leave" if regions.count > 1 else "A homogeneous body leaves"
    said = f"{what} {_chi(fit):.2f} of the noise"
    field = smooth_field(mesh_basis)
    beside = field_beside(*common, known, fit, field)
    if beside.evidence < NEEDED_EVIDENCE:
        return AdaptiveResult(known, fit, f"{said}: the light is explained.", segmentation)

    if regions.count > 1:
        known = ShiftedOutlines(regions, grid)
        moved, shifted_fit = fit_outlines(*common, known, fit.coefficients, None, portion(progress, 0.2, 0.3))
        if _chi(shifted_fit) <= WORTH_KEEPING * _chi(fit):
            known, fit = moved, shifted_fit
            beside = field_beside(*common, known, fit, field)
        if beside.evidence < NEEDED_EVIDENCE:
            said += f", moved by {np.hypot(*known.numbers):.1f} mm {_chi(fit):.2f}: the light is explained."
            return AdaptiveResult(SharpOutlines(known), fit, said, _drawn(known, grid, body))

    for round_ in range(MAX_ROUNDS):
        found = _with_peaks_of_the_field(start, parameters, model, known, fit, field, beside, grid, body)
        if found is None:
            break
        part = portion(progress, 0.3 + 0.5 * round_ / MAX_ROUNDS, 0.3 + 0.5 * (round_ + 1) / MAX_ROUNDS)
        outlined, refit = fit_outlines(*common, *found, None, part)
        apart = split_elongated(known, fit.coefficients)
        if apart is not None:
            halves, halves_fit = fit_outlines(*common, *apart, None, part)
            if halves_fit.history[-1]["objective"] < refit.history[-1]["objective"]:
                outlined, refit = halves, halves_fit
        if _chi(refit) > WORTH_KEEPING * _chi(fit):
            break
        known, fit = outlined, refit
        beside = field_beside(*common, known, fit, field)
        if beside.evidence < NEEDED_EVIDENCE:
            said += (
                f", with {len(outlined.numbers) // 5} more found in the light {_chi(fit):.2f}: the light is explained."
            )
            return AdaptiveResult(SharpOutlines(known), fit, said, _drawn(known, grid, body))

    at_strength = field.scaled(beside.strength)
    last, both = fit_outlines(*common, known, fit.coefficients, at_strength, portion(progress, 0.8, 1.0))
    if isinstance(last, ShiftedOutlines):
        said += f", moved by {np.hypot(*last.numbers):.1f} mm and"
    elif isinstance(last, EllipseOutlines):
        said += f", with {len(last.shapes)} more found in the light and"
    said += f" with a smooth field of {beside.strength:.0%} of the bulk beside them {_chi(both):.2f}."
    return AdaptiveResult(StackedBasis(SharpOutlines(last), mesh_basis), both, said, _drawn(last, grid, body))


def fit_with_field(
    model: ForwardModel,
    measured: NDArray[np.float64],
    space: DataSpace,
    start: Tissue,
    parameters: tuple[str, ...],
    segmentation: Volume,
    plane: Plane,
    mesh_basis: MeshBasis,
    progress: Progress = ignore_progress,
    steps: int | None = None,
) -> AdaptiveResult:
    """Return one value per region and a smooth field beside them, as strong as is most likely.

    Parameters
    ----------
    model, measured, space, start, parameters, segmentation, plane, mesh_basis, progress
        See `fit_adaptively`.
    steps : int, optional
        1: the linear estimate around the start tissue; default: until it converges.
    """
    common = (model, measured, space, start, parameters)
    regions = RegionBasis(segmentation, plane, model.mesh.quadrature.points)
    known: Outlines = FixedOutlines(regions)
    ones, field = np.ones((len(parameters), regions.count)), smooth_field(mesh_basis)
    known, fit = fit_outlines(*common, known, ones, None, portion(progress, 0, 0.3), steps)
    strength = field_beside(*common, known, fit, field).strength
    at_strength = field.scaled(strength)
    known, both = fit_outlines(*common, known, fit.coefficients, at_strength, portion(progress, 0.4, 1.0), steps)
    said = f"A smooth field of {strength:.0%} of the bulk leaves {_chi(both):.2f} of the noise."
    return AdaptiveResult(StackedBasis(known, mesh_basis), both, said, segmentation)


def split_elongated(known: Outlines, values: NDArray[np.float64]) -> tuple[EllipseOutlines, NDArray[np.float64]] | None:
    """Return the ellipses with each elongated one as two circles along its long axis, and their values.

    None where none is elongated: two lesions near each other first look like one long one.
    """
    if not isinstance(known, EllipseOutlines):
        return None
    shapes, expected, columns = [], [], list(range(known.known.count))
    for k, shape in enumerate(known.shapes):
        e = np.hypot(*shape[3:])
        own = known.expected.reshape(-1, 5)[k]
        turned = [shape]
        if e > ELONGATED:
            angle = np.arctan2(shape[4], shape[3]) / 2
            offset = 0.5 * np.exp(shape[2] + e) * np.array([np.cos(angle), np.sin(angle)])
            size = shape[2] - 0.5 * np.log(2)
            turned = [np.array([*(shape[:2] + sign * offset), size, 0.0, 0.0]) for sign in (-1, 1)]
        for one in turned:
            shapes.append(one)
            expected.append(np.r_[one[:2] if len(turned) > 1 else own[:2], own[2:]])
            columns.append(known.known.count + k)
    if len(shapes) == len(known.shapes):
        return None
    return EllipseOutlines(known.known, np.array(shapes), np.concatenate(expected)), values[:, columns]


def _drawn(outlines: Outlines, grid: SliceGrid, body: NDArray[np.bool_]) -> Volume:
    """Return the regions as a label map in the plane."""
    numbers = np.zeros(body.size, dtype=np.int16)
    numbers[body] = outlines.at(grid.points_mm[body]).toarray().argmax(axis=1)
    return grid.volume(numbers, "regions of MRI and light")


def _chi(fit: GaussNewtonResult) -> float:
    return fit.history[-1]["chi"]


def _with_peaks_of_the_field(
    start: Tissue,
    parameters: tuple[str, ...],
    model: ForwardModel,
    known: Outlines,
    fit: GaussNewtonResult,
    field: Field,
    beside: FieldBeside,
    grid: SliceGrid,
    body: NDArray[np.bool_],
) -> tuple[EllipseOutlines, NDArray[np.float64]] | None:
    """Return the regions with circles added where the field changes the absorption by half its peak, and their values.

    None where the field has no compact peak.
    """
    points = grid.points_mm[body]
    R = known.count
    at_pixels = field.mesh_basis.at(points) @ (field.modes @ beside.field.T)  # (pixels, P)
    rows = [MAP_NAMES.index(name) for name in parameters]
    extinction = model.spectra.extinction
    absorbed = start.values()[rows] * np.array([extinction[:, r].mean() if r < 4 else 0.0 for r in rows])
    change = np.zeros(body.size)
    change[body] = at_pixels @ absorbed / absorbed.sum()
    peak = change[np.abs(change).argmax()]
    if abs(peak) < COMPACT * change[body].std():
        return None
    components, count = ndimage.label((change / peak >= PEAK_SHARE).reshape(grid.shape))
    sizes = np.bincount(components.ravel(), minlength=count + 1)[1:] * grid.pixel_mm**2
    largest = [int(k) + 1 for k in np.argsort(sizes)[::-1][:MAX_DISCOVERED] if sizes[k] >= SMALLEST_LESION_MM2]
    if not largest:
        return None
    shapes, values = [], []
    for component in largest:
        inside = components.ravel() == component
        shapes.append(circle_of(grid.points_mm[inside], sizes[component - 1]))
        around = known.at(grid.points_mm[inside]).mean(axis=0) @ fit.coefficients[:, :R].T
        values.append(around + at_pixels[inside[body]].mean(axis=0))
    added = EllipseOutlines(known, np.array(shapes))
    if isinstance(known, EllipseOutlines):  # all ellipses stay free
        expected = np.concatenate([known.expected, added.expected])
        added = EllipseOutlines(known.known, np.vstack([known.shapes, added.shapes]), expected)
    return added, np.maximum(np.column_stack([fit.coefficients[:, :R], *values]), 0.1)
