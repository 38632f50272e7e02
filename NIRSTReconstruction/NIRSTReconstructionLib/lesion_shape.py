"""Ellipses fitted to the light itself: outlines of lesions that the MRI does not show.

The edge of a lesion in a diffuse image depends on where one draws it, and contrast trades against size: half the area
at twice the contrast absorbs as much. Fitting position, size and shape together with the contrast lets the data, which
do tell size from contrast to some degree, decide.
"""

from __future__ import annotations

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Progress, ignore_progress
from numpy.typing import NDArray
from scipy import linalg, sparse

from NIRSTReconstructionLib.basis import RegionBasis
from NIRSTReconstructionLib.calibration import DataSpace
from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.gauss_newton import GaussNewtonResult
from NIRSTReconstructionLib.spectra import MAP_NAMES, Tissue

EDGE_MM = 0.6
"""Width of the transition at an ellipse's edge, so that moving the edge moves the light smoothly."""
TYPICAL_RADIUS_MM, RADIUS_SPREAD = 8.0, 0.7
"""Prior of the mean radius: ln radius within 0.7 of ln 8 mm, which is 4 to 16 mm."""
CENTER_SPREAD_MM, ELONGATION_SPREAD, VALUE_SPREAD = 10.0, 0.25, 1.5
"""Priors of the center around where the search began, of ln sqrt(long / short axis), of values around the bulk."""
_ITERATIONS = 12
_STOP_CHANGE = 0.002
_SMALLEST_VALUE = 0.03
_STEP = 1e-4


class EllipseBasis:
    """One value per known region and per ellipse; where ellipses lie they replace the regions.

    Parameters
    ----------
    regions : RegionBasis
    shapes : (K, 5) ndarray
        Center (2, mm), ln of the mean radius in mm, and two numbers of elongation: an ellipse is the unit circle under
        ``exp(ln radius) * expm([[e1, e2], [e2, -e1]])``, moved to the center. Edges are soft over `EDGE_MM`.
    """

    def __init__(self, regions: RegionBasis, shapes: NDArray[np.float64]) -> None:
        self.regions = regions
        self.shapes = shapes
        self.count = regions.count + len(shapes)

    def at(self, points_mm: NDArray[np.float64]) -> sparse.csr_array:
        """Return the membership of each point (n, R + K); rows add up to 1."""
        return sparse.csr_array(_members(self.regions.at(points_mm).toarray(), self.shapes, points_mm))

    def numbers_at(self, points_mm: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the region or, from R on, ellipse (n,) to which each point belongs most."""
        return np.asarray(self.at(points_mm).toarray().argmax(axis=1))


def _inside(shapes: NDArray[np.float64], points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much (0 to 1) of each point (n, 2) belongs to each ellipse, (n, K)."""
    columns = []
    for cx, cy, size, e1, e2 in shapes:
        e = np.hypot(e1, e2)
        bend = np.sinh(e) / e if e > 1e-9 else 1.0
        back = np.cosh(e) * np.eye(2) - bend * np.array([[e1, e2], [e2, -e1]])  # inverse of the stretch
        distance = np.linalg.norm((points_mm - [cx, cy]) @ back, axis=1)  # in units where the rim is at the radius
        columns.append(1 / (1 + np.exp(np.clip((distance - np.exp(size)) / (EDGE_MM / 2), -60, 60))))
    return np.column_stack(columns)


def _members(
    known: NDArray[np.float64], shapes: NDArray[np.float64], points_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the share of each point in regions and ellipses (n, R + K), from its share in the regions (n, R)."""
    inside = _inside(shapes, points_mm)
    inside = inside / np.maximum(inside.sum(axis=1, keepdims=True), 1.0)  # overlapping ellipses share a point
    return np.hstack([known * (1 - inside.sum(axis=1, keepdims=True)), inside])


def ellipse_of(points_mm: NDArray[np.float64], area_mm2: float) -> NDArray[np.float64]:
    """Return the round shape (5,) with the center and area of a set of points."""
    return np.array([*points_mm.mean(axis=0), 0.5 * np.log(area_mm2 / np.pi), 0.0, 0.0])


def fit_ellipses(
    model: ForwardModel,
    measured: NDArray[np.float64],
    space: DataSpace,
    start: Tissue,
    parameters: tuple[str, ...],
    first: EllipseBasis,
    values: NDArray[np.float64],
    progress: Progress = ignore_progress,
) -> tuple[EllipseBasis, GaussNewtonResult]:
    """Return the ellipses in a body of known regions that explain the light best, and the values of all.

    Gauss-Newton over values and shapes together; the derivative by a number of a shape is that by the map times the
    change of the map with the number.

    Parameters
    ----------
    model, measured, space, start, parameters, progress
        See `gauss_newton`.
    first : EllipseBasis
        Known regions, and where the ellipses begin.
    values : (P, R + K) ndarray
        Where their values begin, in units of the start tissue.

    Returns
    -------
    basis : EllipseBasis
    result : GaussNewtonResult
        Its covariance is that of the values with the shapes unknown.
    """
    points = model.mesh.quadrature.points
    known = first.regions.at(points).toarray()
    rows = [MAP_NAMES.index(name) for name in parameters]
    scale = start.values()[rows]
    K, count = len(first.shapes), first.count
    expected = np.concatenate([np.ones(values.size), _expected(first.shapes).ravel()])
    spread = np.concatenate([np.full(values.size, VALUE_SPREAD), np.tile(_SHAPE_SPREAD, K)])
    freedom = max(int(space.freedom.sum()), 1)

    def split(z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return z[: values.size].reshape(values.shape), z[values.size :].reshape(K, 5)

    def maps_of(z: NDArray[np.float64]) -> NDArray[np.float64]:
        x, shapes = split(z)
        maps = start.maps(len(points))
        maps[rows] = scale[:, None] * (_members(known, shapes, points) @ x.T).T
        return maps

    def record(z: NDArray[np.float64], y: NDArray[np.float64], length: float) -> dict[str, float]:
        r = space.whiten(measured - y)
        objective = float(r @ r + (((z - expected) / spread) ** 2).sum())
        return {"objective": objective, "chi": float(np.sqrt(r @ r / freedom)), "step": length}

    z = np.concatenate([values.ravel(), first.shapes.ravel()])
    y = model.measure(maps_of(z), at_quadrature=True).real
    history = [record(z, y, 0.0)]
    reason, converged = f"stopped after {_ITERATIONS} iterations without converging", False
    for iteration in range(_ITERATIONS):
        progress(iteration / _ITERATIONS, f"outlining {K} lesion(s) in the light, misfit {history[-1]['chi']:.3g}")
        x, shapes = split(z)
        columns = [_members(known, shapes, points)]
        for n in range(5 * K):
            step_n = np.zeros(5 * K)
            step_n[n] = _STEP
            ahead, behind = (_members(known, shapes + sign * step_n.reshape(K, 5), points) for sign in (1, -1))
            columns.append((ahead - behind) / (2 * _STEP))
        _, J = model.measure_with_jacobian(
            maps_of(z), sparse.csr_array(np.hstack(columns)), parameters, at_quadrature=True
        )
        J = (J.real * scale[:, None]).reshape(*J.shape[:3], 1 + 5 * K, count)
        by_value = J[:, :, :, 0].reshape(*J.shape[:2], -1)
        by_shape = np.einsum("wcpnr,pr->wcn", J[:, :, :, 1:], x)
        A = space.whiten(np.concatenate([by_value, by_shape], axis=2))
        H = A.T @ A + np.diag(1 / spread**2)
        step = linalg.solve(H, A.T @ space.whiten(measured - y) - (z - expected) / spread**2, assume_a="pos")
        before = history[-1]["objective"]
        for length in (1.0, 0.5, 0.25, 0.125, 0.0625):
            trial = z + length * step
            if split(trial)[0].min() < _SMALLEST_VALUE:
                continue
            try:
                predicted = model.measure(maps_of(trial), at_quadrature=True).real
            except InputError:  # so absorbing that no light comes through: too far
                continue
            reached = record(trial, predicted, length)
            if reached["objective"] < before:
                z, y = trial, predicted
                history.append(reached)
                break
        change = 1 - history[-1]["objective"] / before
        if change < _STOP_CHANGE:
            reason, converged = f"the last step lowered the misfit by {change:.2%}", True
            break
    x, shapes = split(z)
    covariance = linalg.inv(H)[: values.size, : values.size]
    return EllipseBasis(first.regions, shapes), GaussNewtonResult(x, y, covariance, tuple(history), reason, converged)


_SHAPE_SPREAD = np.array([CENTER_SPREAD_MM, CENTER_SPREAD_MM, RADIUS_SPREAD, ELONGATION_SPREAD, ELONGATION_SPREAD])


def _expected(shapes: NDArray[np.float64]) -> NDArray[np.float64]:
    expected = shapes.copy()
    expected[:, 2] = np.log(TYPICAL_RADIUS_MM)
    expected[:, 3:] = 0.0
    return expected
