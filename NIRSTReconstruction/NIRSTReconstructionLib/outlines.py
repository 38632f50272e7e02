"""Regions whose outlines are fitted to the light, alone or beside a smooth field.

A segmentation can be moved to where the light sees it, because breasts move between MRI and light; a lesion which the
MRI does not show is an ellipse. Contrast trades against size in diffuse light (half the area at twice the contrast
absorbs as much), so outlines, values and field are fitted together and their errors stay joint.
"""

from __future__ import annotations

import copy
from typing import NamedTuple, Protocol

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Progress, ignore_progress
from numpy.typing import NDArray
from scipy import linalg, ndimage, sparse

from NIRSTReconstructionLib.basis import RegionBasis
from NIRSTReconstructionLib.calibration import DataSpace
from NIRSTReconstructionLib.field import Field, likely_field
from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.gauss_newton import GaussNewtonResult, inverse_of_positive
from NIRSTReconstructionLib.plane import SliceGrid
from NIRSTReconstructionLib.point_light import derived
from NIRSTReconstructionLib.spectra import MAP_NAMES, Tissue

EDGE_MM = 0.6
"""Width of the transition at an outline, so that moving it moves the light smoothly."""
SHIFT_SPREAD_MM = 3.0
"""Prior of how far a breast moves between MRI and light."""
TYPICAL_RADIUS_MM, RADIUS_SPREAD = 8.0, 0.7
"""Prior of an ellipse's mean radius: ln radius within 0.7 of ln 8 mm, which is 4 to 16 mm."""
CENTER_SPREAD_MM, ELONGATION_SPREAD = 10.0, 0.25
"""Priors of an ellipse's center around where the search began, and of ln sqrt(long / short axis)."""
REGION_SD = 1.5
"""How far a region's value may be from the bulk, as a share of it: hardly a restriction."""

_ITERATIONS = 12
_STOP_CHANGE, _STOP_CHANGE_FULL_STEP = 0.002, 0.02  # after a full step the next one lowers the misfit by its square
_SMALLEST_VALUE = 0.03
_NO_SHARE = 1e-9


class Outlines(Protocol):
    """A basis of regions whose outlines depend on a few numbers.

    Attributes
    ----------
    count : int
        Number of regions, R.
    numbers : (n,) ndarray
        What the outlines depend on.
    expected, spread : (n,) ndarray
        Gaussian prior of the numbers.
    step : float
        Change of a number by which derivatives are taken.
    """

    count: int
    numbers: NDArray[np.float64]
    expected: NDArray[np.float64]
    spread: NDArray[np.float64]
    step: float

    def at(self, points_mm: NDArray[np.float64]) -> sparse.csr_array:
        """Return the share of each point in each region (n, R); rows add up to 1."""

    def with_numbers(self, numbers: NDArray[np.float64]) -> Outlines:
        """Return the same regions with other outlines."""


class FixedOutlines:
    """Regions as they are."""

    step = 0.0

    def __init__(self, regions: RegionBasis) -> None:
        self.regions, self.count = regions, regions.count
        self.numbers = self.expected = self.spread = np.zeros(0)
        self._asked: tuple[NDArray[np.float64], sparse.csr_array] | None = None

    def at(self, points_mm: NDArray[np.float64]) -> sparse.csr_array:
        """Return the region of each point; the answer for the points asked last is kept, as a fit repeats them."""
        if self._asked is None or self._asked[0] is not points_mm:
            self._asked = points_mm, self.regions.at(points_mm)
        return self._asked[1]

    def with_numbers(self, numbers: NDArray[np.float64]) -> FixedOutlines:
        """Return the same."""
        return self


class ShiftedOutlines:
    """A segmentation moved within the plane by two numbers, mm.

    Parameters
    ----------
    regions : RegionBasis
    grid : SliceGrid
        Pixels that cover the body.
    shift_mm : (2,) ndarray
    """

    def __init__(self, regions: RegionBasis, grid: SliceGrid, shift_mm: NDArray[np.float64] | None = None) -> None:
        self.grid, self.count = grid, regions.count
        self.numbers = np.zeros(2) if shift_mm is None else shift_mm
        self.expected, self.spread, self.step = np.zeros(2), np.full(2, SHIFT_SPREAD_MM), grid.pixel_mm / 2
        number = regions.number_at(grid.points_mm).reshape(grid.shape)
        width = EDGE_MM / grid.pixel_mm
        self._parts = [ndimage.gaussian_filter((number == r).astype(np.float64), width) for r in range(self.count)]

    def at(self, points_mm: NDArray[np.float64]) -> sparse.csr_array:
        """Return the share of each point in each region (n, R)."""
        at = (points_mm - self.numbers - self.grid.first_mm).T[::-1] / self.grid.pixel_mm
        parts = [ndimage.map_coordinates(part, at, order=1, mode="nearest") for part in self._parts]
        return sparse.csr_array(np.column_stack(parts))

    def with_numbers(self, numbers: NDArray[np.float64]) -> ShiftedOutlines:
        """Return the segmentation moved elsewhere."""
        moved = copy.copy(self)
        moved.numbers = numbers
        return moved


class EllipseOutlines:
    """Ellipses in a body of known regions; where they lie they replace the regions.

    Parameters
    ----------
    known : Outlines
        Regions beneath, which stay as they are.
    shapes : (K, 5) ndarray
        Center (2, mm), ln of the mean radius in mm, and two numbers of elongation: an ellipse is the unit circle under
        ``exp(ln radius) * expm([[e1, e2], [e2, -e1]])``, moved to the center.
    expected : (5 K,) ndarray, optional
        Expected numbers; default: centers as given, `TYPICAL_RADIUS_MM`, round.
    """

    step = 1e-4

    def __init__(
        self, known: Outlines, shapes: NDArray[np.float64], expected: NDArray[np.float64] | None = None
    ) -> None:
        self.known, self.shapes = known, shapes
        self.count = known.count + len(shapes)
        self.numbers = shapes.ravel()
        if expected is None:
            round_ones = np.tile([0.0, 0.0, np.log(TYPICAL_RADIUS_MM), 0.0, 0.0], (len(shapes), 1))
            round_ones[:, :2] = shapes[:, :2]
            expected = round_ones.ravel()
        self.expected = expected
        spread = [CENTER_SPREAD_MM, CENTER_SPREAD_MM, RADIUS_SPREAD, ELONGATION_SPREAD, ELONGATION_SPREAD]
        self.spread = np.tile(spread, len(shapes))

    def at(self, points_mm: NDArray[np.float64]) -> sparse.csr_array:
        """Return the share of each point in regions and ellipses (n, R + K)."""
        inside = np.column_stack([_inside_ellipse(shape, points_mm) for shape in self.shapes])
        inside = inside / np.maximum(inside.sum(axis=1, keepdims=True), 1.0)  # overlapping ellipses share a point
        left = 1 - inside.sum(axis=1, keepdims=True)
        return sparse.csr_array(np.hstack([self.known.at(points_mm).toarray() * left, inside]))

    def with_numbers(self, numbers: NDArray[np.float64]) -> EllipseOutlines:
        """Return other ellipses with the same prior."""
        return EllipseOutlines(self.known, numbers.reshape(-1, 5), self.expected)


class SharpOutlines:
    """Fitted regions with sharp edges: each point belongs to the region that has most of it.

    The soft edges of a fit are there for its derivatives; in an image they would dilute small regions.
    """

    def __init__(self, outlines: Outlines) -> None:
        self.outlines, self.count = outlines, outlines.count

    def at(self, points_mm: NDArray[np.float64]) -> sparse.csr_array:
        """Return for each point a row with 1 in the column of its region (n, R)."""
        region = self.outlines.at(points_mm).toarray().argmax(axis=1)
        return sparse.csr_array((np.ones(len(region)), (np.arange(len(region)), region)), (len(region), self.count))


def circle_of(points_mm: NDArray[np.float64], area_mm2: float) -> NDArray[np.float64]:
    """Return the circle, as an ellipse's five numbers, with the center of a set of points and an area."""
    return np.array([*points_mm.mean(axis=0), 0.5 * np.log(area_mm2 / np.pi), 0.0, 0.0])


def fit_outlines(
    model: ForwardModel,
    measured: NDArray[np.float64],
    space: DataSpace,
    start: Tissue,
    parameters: tuple[str, ...],
    outlines: Outlines,
    values: NDArray[np.float64],
    field: Field | None = None,
    progress: Progress = ignore_progress,
    steps: int | None = None,
) -> tuple[Outlines, GaussNewtonResult]:
    """Return outlines, values and field that explain the light best, each under its Gaussian prior.

    Gauss-Newton over all of them; the derivative by a number of an outline is that by the map times the change of the
    map with the number.

    Parameters
    ----------
    model, measured, space, start, parameters, progress
        See `gauss_newton`.
    outlines : Outlines
        Where the outlines begin.
    values : (P, R) ndarray
        Where the values begin, in units of the start tissue.
    field : Field, optional
        A smooth field beside the regions.
    steps : int, optional
        Make so many steps and call it converged; default: until the misfit stays.

    Returns
    -------
    outlines : Outlines
    result : GaussNewtonResult
        Coefficients (P, R) or, with a field, (P, R + B): region values, then the field at its mesh's nodes. The
        covariance is theirs with the outlines unknown.
    """
    points = model.mesh.quadrature.points
    rows = [MAP_NAMES.index(name) for name in parameters]
    P, R = values.shape
    scale = start.values()[rows]
    modes = np.zeros((0, 0)) if field is None else field.modes
    nodes = sparse.csr_array((len(points), 0)) if field is None else field.mesh_basis.at(points)
    m = modes.shape[1]
    at_points = nodes @ modes
    expected = np.concatenate([np.tile(np.r_[np.ones(R), np.zeros(m)], P), outlines.expected])
    spread = np.concatenate([np.tile(np.r_[np.full(R, REGION_SD), np.ones(m)], P), outlines.spread])
    freedom = max(int(space.freedom.sum()), 1)

    def split(z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return z[: P * (R + m)].reshape(P, R + m), z[P * (R + m) :]

    def shares_of(z: NDArray[np.float64]) -> NDArray[np.float64]:
        x, numbers = split(z)
        return np.asarray(outlines.with_numbers(numbers).at(points) @ x[:, :R].T + at_points @ x[:, R:].T).T

    def maps_of(shares: NDArray[np.float64]) -> NDArray[np.float64]:
        maps = start.maps(len(points))
        maps[rows] = scale[:, None] * shares
        return maps

    def record(z: NDArray[np.float64], y: NDArray[np.float64], length: float) -> dict[str, float]:
        r = space.whiten(measured - y)
        objective = float(r @ r + (((z - expected) / spread) ** 2).sum())
        return {"objective": objective, "chi": float(np.sqrt(r @ r / freedom)), "step": length}

    z = np.concatenate([np.hstack([values, np.zeros((P, m))]).ravel(), outlines.numbers])
    y = model.measure(maps_of(shares_of(z)), at_quadrature=True).real
    history = [record(z, y, 0.0)]
    reason, converged = f"stopped after {_ITERATIONS} iterations without converging", False
    if steps is not None:
        reason, converged = f"{steps} step(s), as asked for", True
    most = _ITERATIONS if steps is None else steps
    for iteration in range(most):
        progress(iteration / most, f"regions, misfit {history[-1]['chi']:.3g}")
        x, numbers = split(z)
        by_value, by_number = _derivatives(
            model, maps_of(shares_of(z)), parameters, scale, outlines.with_numbers(numbers), nodes, modes, x[:, :R]
        )
        A = space.whiten(np.concatenate([by_value, by_number], axis=2))
        H = A.T @ A + np.diag(1 / spread**2)
        change = linalg.solve(H, A.T @ space.whiten(measured - y) - (z - expected) / spread**2, assume_a="pos")
        before = history[-1]["objective"]
        for length in 0.5 ** np.arange(8):
            trial = z + length * change
            shares = shares_of(trial)
            if shares.min() < _SMALLEST_VALUE:
                continue
            try:
                predicted = model.measure(maps_of(shares), at_quadrature=True).real
            except InputError:  # so absorbing that no light comes through: too far
                continue
            reached = record(trial, predicted, float(length))
            if reached["objective"] < before:
                z, y = trial, predicted
                history.append(reached)
                break
        lowered = 1 - history[-1]["objective"] / before
        if lowered < (_STOP_CHANGE_FULL_STEP if history[-1]["step"] == 1.0 else _STOP_CHANGE):
            reason, converged = f"the last step lowered the misfit by {lowered:.2%}", True
            break
    progress(1.0, reason)
    x, numbers = split(z)
    T = linalg.block_diag(np.eye(R), modes) if field is not None else np.eye(R)
    inverse = inverse_of_positive(H)[: P * (R + m), : P * (R + m)]
    blocks = inverse.reshape(P, R + m, P, R + m).transpose(0, 2, 1, 3)  # (P, P, R + m, R + m)
    covariance = (T @ blocks @ T.T).transpose(0, 2, 1, 3).reshape(P * len(T), P * len(T))
    result = GaussNewtonResult(x @ T.T, y, covariance, tuple(history), reason, converged)
    return outlines.with_numbers(numbers), result


class FieldBeside(NamedTuple):
    """What a field beside fitted regions would be, to first order.

    Attributes
    ----------
    strength : float
        Most likely standard deviation, as a share of the bulk.
    evidence : float
        Log marginal likelihood gained by it over no field.
    field : (P, m) ndarray
        Most likely weights of the field's modes, of strength 1.
    """

    strength: float
    evidence: float
    field: NDArray[np.float64]


def field_beside(
    model: ForwardModel,
    measured: NDArray[np.float64],
    space: DataSpace,
    start: Tissue,
    parameters: tuple[str, ...],
    outlines: Outlines,
    fit: GaussNewtonResult,
    field: Field,
) -> FieldBeside:
    """Return whether the light asks for a field beside regions that were fitted, how strong, and which one.

    Parameters
    ----------
    model, measured, space, start, parameters
        See `gauss_newton`.
    outlines : Outlines
    fit : GaussNewtonResult
        Of the regions without a field; their values and outlines remain free in the linear model used here.
    field : Field
        Of strength 1.
    """
    points = model.mesh.quadrature.points
    rows = [MAP_NAMES.index(name) for name in parameters]
    P, R = fit.coefficients.shape
    maps = start.maps(len(points))
    maps[rows] *= (outlines.at(points) @ fit.coefficients.T).T
    nodes = field.mesh_basis.at(points)
    by_value, by_number = _derivatives(
        model, maps, parameters, start.values()[rows], outlines, nodes, field.modes, fit.coefficients
    )
    by_value = by_value.reshape(*by_value.shape[:2], P, -1)
    explained = np.concatenate([by_value[..., :R].reshape(*by_value.shape[:2], -1), by_number], axis=2)
    by_mode = space.whiten(by_value[..., R:].reshape(*by_value.shape[:2], -1))
    residual = space.whiten(measured - fit.predicted)
    strength, evidence, weights = likely_field(residual, space.whiten(explained), by_mode)
    return FieldBeside(strength, evidence, weights.reshape(P, -1))


def _derivatives(
    model: ForwardModel,
    maps: NDArray[np.float64],
    parameters: tuple[str, ...],
    scale: NDArray[np.float64],
    outlines: Outlines,
    nodes: sparse.csr_array,
    modes: NDArray[np.float64],
    values: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the derivatives of the data by values and modes (W, C, P (R + m)) and by outline numbers (W, C, n)."""
    points = model.mesh.quadrature.points
    R, B, n = outlines.count, nodes.shape[1], len(outlines.numbers)
    changes = []
    for step in outlines.step * np.eye(n):
        ahead, behind = (outlines.with_numbers(outlines.numbers + sign * step).at(points) for sign in (1, -1))
        changes.append((ahead - behind) / (2 * outlines.step))
    basis = sparse.csr_array(sparse.hstack([outlines.at(points), nodes, *changes]))
    transform = linalg.block_diag(np.eye(R), modes, np.eye(n * R)) if B else None
    _, J = derived(model).measure_with_jacobian(maps, basis, parameters, at_quadrature=True, transform=transform)
    J = J.real * scale[:, None]
    m = modes.shape[1]
    by_value = J[..., : R + m]
    by_number = np.einsum("wcpnr,pr->wcn", J[..., R + m :].reshape(*J.shape[:3], n, R), values)
    return by_value.reshape(*J.shape[:2], -1), by_number


def _inside_ellipse(shape: NDArray[np.float64], points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much (0 to 1) of each point (n, 2) belongs to an ellipse, soft over `EDGE_MM`."""
    cx, cy, size, e1, e2 = shape
    e = np.hypot(e1, e2)
    bend = np.sinh(e) / e if e > 1e-9 else 1.0
    back = np.cosh(e) * np.eye(2) - bend * np.array([[e1, e2], [e2, -e1]])  # inverse of the stretch
    distance = np.linalg.norm((points_mm - [cx, cy]) @ back, axis=1)  # in units where the rim is at the radius
    share = 1 / (1 + np.exp(np.clip((distance - np.exp(size)) / (EDGE_MM / 2), -60, 60)))
    return np.where(share < _NO_SHARE, 0.0, np.where(share > 1 - _NO_SHARE, 1.0, share))
