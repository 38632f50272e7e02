"""The method that trusts the MRI as far as the light allows: regions, then regions and field, then a region of its own.

1. One value per region (hard prior). If the light is explained to the noise, that is the answer.
2. Else a smooth field is added, as strong as the data ask for.
3. A compact peak of that field is a lesion which the MRI does not show: it is outlined, becomes a region, and step 1 is
   tried again. If that explains the light the answer is regions only, else the field stays.
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
from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.gauss_newton import (
    GaussNewtonResult,
    GaussNewtonSettings,
    Prior,
    gauss_newton,
    whitened_jacobian,
)
from NIRSTReconstructionLib.lesion_shape import EllipseBasis, ellipse_of, fit_ellipses
from NIRSTReconstructionLib.plane import Plane, SliceGrid
from NIRSTReconstructionLib.region_field import (
    FIELD_STRENGTHS,
    REGION_SD,
    RegionField,
    field_evidence,
    region_field,
)
from NIRSTReconstructionLib.spectra import MAP_NAMES, Tissue

ACCEPTED_CHI = 1.1
"""Root-mean-square residual in units of the noise up to which regions alone are believed."""
NEEDED_EVIDENCE = 6.0
"""Log marginal likelihood that a field must gain over none (a factor of 400) before it is added to regions."""
WORTH_KEEPING = 0.7
"""Regions found in the light stay beside a field if they lower the residual to this share."""
PEAK_SHARE = 0.5
"""Share of the field's peak above which a lesion that the MRI does not show is looked for."""
SMALLEST_LESION_MM2 = 30.0
MAX_DISCOVERED = 3
SPOT_DEVIATIONS = 5.0


@dataclass(frozen=True, eq=False)
class AdaptiveResult:
    """What the adaptive method arrived at.

    Attributes
    ----------
    basis : Basis
    coefficients : (P, B) ndarray
        Of the basis, in units of the bulk.
    covariance : (P * B, P * B) ndarray
    fit : GaussNewtonResult
        The iteration that was accepted.
    remark : str
        Which way was taken and why.
    regions : Volume
        Label map that was used: as given, or with regions found in the light added.
    """

    basis: Basis
    coefficients: NDArray[np.float64]
    covariance: NDArray[np.float64]
    fit: GaussNewtonResult
    remark: str
    regions: Volume


def bright_regions(gray: NDArray[np.float64], body: NDArray[np.bool_], grid: SliceGrid, name: str) -> Volume:
    """Return the bright spots of an MRI in the plane as a label map: 0 elsewhere, then one number per spot.

    A spot is brighter than the body's median by `SPOT_DEVIATIONS` robust standard deviations and at least
    `SMALLEST_LESION_MM2` large; its edge lies halfway between the median and its own brightness.

    Parameters
    ----------
    gray : (rows * columns,) ndarray
        Smoothed gray values of the pixels.
    body : (rows * columns,) ndarray of bool
    grid : SliceGrid
    name : str
    """
    median = float(np.median(gray[body]))
    deviation = 1.4826 * float(np.median(np.abs(gray[body] - median)))
    above = body & (gray > median + SPOT_DEVIATIONS * deviation)
    cores, count = ndimage.label(above.reshape(grid.shape))
    labels = np.zeros(body.size, dtype=np.int16)
    smallest = SMALLEST_LESION_MM2 / grid.pixel_mm**2
    for core in range(1, count + 1):
        spot = (cores == core).ravel()
        if spot.sum() < smallest:
            continue
        edge = (median + float(np.percentile(gray[spot], 75))) / 2
        grown, _ = ndimage.label((body & (gray > edge)).reshape(grid.shape))
        number = np.bincount(grown.ravel()[spot & (gray > edge)]).argmax()
        labels[(grown.ravel() == number) & (labels == 0)] = labels.max() + 1
    return grid.volume(labels, f"bright regions of {name}")


@dataclass(frozen=True, eq=False)
class _Problem:
    """What stays the same in every fit."""

    model: ForwardModel
    measured: NDArray[np.float64]
    space: DataSpace
    start: Tissue
    parameters: tuple[str, ...]
    settings: GaussNewtonSettings

    @property
    def points_mm(self) -> NDArray[np.float64]:
        return self.model.mesh.quadrature.points

    @property
    def scale(self) -> NDArray[np.float64]:
        return self.start.values()[[MAP_NAMES.index(name) for name in self.parameters]]

    def fit_regions(self, regions: Basis, progress: Progress = ignore_progress) -> GaussNewtonResult:
        prior = Prior(np.eye(regions.count), 1.0, REGION_SD)
        return gauss_newton(
            self.model,
            self.measured,
            self.space,
            regions.at(self.points_mm),
            self.start,
            self.parameters,
            prior,
            self.settings,
            progress,
            at_quadrature=True,
        )

    def fit_field(
        self, expansion: RegionField, strength: float, regions: GaussNewtonResult, progress: Progress
    ) -> GaussNewtonResult:
        R, m = expansion.basis.first.count, expansion.modes.shape[1]
        prior = Prior(np.diag(np.r_[np.full(R, 1 / REGION_SD), np.ones(m)]), np.r_[np.ones(R), np.zeros(m)], 1.0)
        return gauss_newton(
            self.model,
            self.measured,
            self.space,
            expansion.basis.at(self.points_mm),
            self.start,
            self.parameters,
            prior,
            self.settings,
            progress,
            at_quadrature=True,
            transform=expansion.transform(strength),
            first=np.hstack([regions.coefficients, np.zeros((len(self.parameters), m))]),
        )

    def field_strength(self, expansion: RegionField, regions: GaussNewtonResult) -> tuple[float, float]:
        """Return the most likely strength of the field and the log evidence for it over none."""
        R = expansion.basis.first.count
        maps = self.start.maps(len(self.points_mm))
        at = expansion.basis.at(self.points_mm)
        rows = [MAP_NAMES.index(name) for name in self.parameters]
        maps[rows] *= (at[:, :R] @ regions.coefficients.T).T
        y, J = whitened_jacobian(
            self.model, maps, at, self.parameters, self.scale, self.space, True, expansion.transform(1.0)
        )
        J = J.reshape(len(J), len(rows), -1)
        by_region, by_mode = (part.reshape(len(J), -1) for part in (J[:, :, :R], J[:, :, R:]))
        evidence = field_evidence(self.space.whiten(self.measured - y), by_region, by_mode)
        best = int(evidence.argmax())
        return FIELD_STRENGTHS[best], float(evidence[best])


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
    settings: GaussNewtonSettings | None = None,
    progress: Progress = ignore_progress,
) -> AdaptiveResult:
    """Return the simplest image that explains the light: regions, regions found in the light, or regions and field.

    Parameters
    ----------
    model, measured, space, start, parameters, settings, progress
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
    problem = _Problem(model, measured, space, start, parameters, settings or GaussNewtonSettings())
    regions = RegionBasis(segmentation, plane, problem.points_mm)
    hard = problem.fit_regions(regions, portion(progress, 0.0, 0.3))
    chi = hard.history[-1]["chi"]
    expansion = region_field(regions, mesh_basis)
    strength, evidence = problem.field_strength(expansion, hard)
    if evidence < NEEDED_EVIDENCE:
        why = f"Regions alone explain the light (residual {chi:.2f} of the noise)."
        return AdaptiveResult(regions, hard.coefficients, hard.covariance, hard, why, segmentation)
    field = problem.fit_field(expansion, strength, hard, portion(progress, 0.35, 0.6))
    begin = _peaks_of_the_field(problem, regions, mesh_basis, hard, field, expansion, strength, grid, body)
    if begin is not None:
        outlined, fit = fit_ellipses(model, measured, space, start, parameters, *begin, portion(progress, 0.6, 0.8))
        left, K = fit.history[-1]["chi"], len(outlined.shapes)
        numbers = np.zeros(body.size, dtype=np.int16)
        numbers[body] = outlined.numbers_at(grid.points_mm[body])
        labels = grid.volume(numbers, "regions of MRI and light")
        if left <= ACCEPTED_CHI:
            why = f"The MRI's regions leave {chi:.2f} of the noise; with {K} found in the light it is {left:.2f}."
            return AdaptiveResult(outlined, fit.coefficients, fit.covariance, fit, why, labels)
        if left < WORTH_KEEPING * chi:
            expansion, hard, segmentation = region_field(outlined, mesh_basis), fit, labels
            strength, _ = problem.field_strength(expansion, hard)
            field = problem.fit_field(expansion, strength, hard, portion(progress, 0.8, 1.0))
    added = expansion.basis.first.count - regions.count
    found = f" {added} region(s) found in the light and" if added else ""
    why = (
        f"The MRI's regions leave {chi:.2f} of the noise;{found} a smooth field of {strength:.0%} of the bulk were "
        f"added, and {field.history[-1]['chi']:.2f} is left."
    )
    T = expansion.transform(strength)
    wide = np.kron(np.eye(len(parameters)), T)
    covariance = wide @ field.covariance @ wide.T
    return AdaptiveResult(expansion.basis, field.coefficients @ T.T, covariance, field, why, segmentation)


def _peaks_of_the_field(
    problem: _Problem,
    regions: RegionBasis,
    mesh_basis: MeshBasis,
    hard: GaussNewtonResult,
    field: GaussNewtonResult,
    expansion: RegionField,
    strength: float,
    grid: SliceGrid,
    body: NDArray[np.bool_],
) -> tuple[EllipseBasis, NDArray[np.float64]] | None:
    """Return circles where the field changes the absorption by at least half its peak, with values; None without."""
    points = grid.points_mm[body]
    nodes = (field.coefficients @ expansion.transform(strength).T)[:, regions.count :]
    at_pixels = mesh_basis.at(points) @ nodes.T  # (pixels, P)
    extinction = problem.model.spectra.extinction
    rows = [MAP_NAMES.index(name) for name in problem.parameters]
    absorbed = problem.scale * np.array([extinction[:, r].mean() if r < 4 else 0.0 for r in rows])
    change = np.zeros(body.size)
    change[body] = at_pixels @ absorbed / absorbed.sum()
    peak = change[np.abs(change).argmax()]
    components, count = ndimage.label((change / peak >= PEAK_SHARE).reshape(grid.shape))
    sizes = np.bincount(components.ravel(), minlength=count + 1)[1:] * grid.pixel_mm**2
    largest = [int(k) + 1 for k in np.argsort(sizes)[::-1][:MAX_DISCOVERED] if sizes[k] >= SMALLEST_LESION_MM2]
    if not largest:
        return None
    shapes, values = [], []
    for component in largest:
        inside = components.ravel() == component
        shapes.append(ellipse_of(grid.points_mm[inside], sizes[component - 1]))
        around = hard.coefficients[:, np.bincount(regions.number_at(grid.points_mm[inside])).argmax()]
        values.append(np.maximum(around + at_pixels[inside[body]].mean(axis=0), 0.1))
    return EllipseBasis(regions, np.array(shapes)), np.column_stack([hard.coefficients, *values])
