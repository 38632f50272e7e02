"""The iteration that turns data into maps: predict, residual, Jacobian, step, stop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Progress, ignore_progress
from numpy.typing import NDArray
from scipy import linalg, sparse

from NIRSTReconstructionLib.calibration import DataSpace
from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.point_light import derived
from NIRSTReconstructionLib.spectra import MAP_NAMES, Tissue

_BOUND_ROUNDS = 6
_DIFFERENCE = 1e-4  # of a map, as a share of its start value


@dataclass(frozen=True, eq=False)
class Prior:
    """What is expected of the coefficients x of every map: L x within `sd` of its expected value.

    Attributes
    ----------
    matrix : (n, B) ndarray
        L, see `regularization`.
    expected : float or (B,) ndarray
        Expected coefficient x0: 1 for the bulk value, 0 where L ignores constants.
    sd : float
        Standard deviation of L (x - x0), a share of the bulk value.

    Notes
    -----
    The weight of the penalty, 1 / sd^2, stands beside data divided by their noise, so noisier data are smoothed more.
    NIRFAST gives a relative weight instead: its lambda times the largest diagonal element of J^T J is our 1 / sd^2.
    """

    matrix: NDArray[np.float64]
    expected: float | NDArray[np.float64]
    sd: float


@dataclass(frozen=True)
class GaussNewtonSettings:
    """When to stop, and what values are possible.

    Attributes
    ----------
    max_iterations : int
    stop_change : float
        Stop when a step lowers the objective by less than this share.
    floor : float
        Smallest value of a map, as a share of its start value.
    """

    max_iterations: int = 12
    stop_change: float = 0.01
    floor: float = 0.03


@dataclass(frozen=True, eq=False)
class GaussNewtonResult:
    """Where the iteration arrived, how, and how sure.

    Attributes
    ----------
    coefficients : (P, U) ndarray
        The unknowns; maps are these times the start tissue.
    predicted : (W, C) ndarray
        Modeled log amplitude (without gains).
    covariance : (P * U, P * U) ndarray
        Of the coefficients, from the last linearization: inverse of J^T J + prior. With a strong prior it tells how
        sure data and prior are together, not how far the prior may be off.
    history : tuple of dict
        Per iteration: objective, chi (root-mean-square noise-scaled residual), step length.
    reason : str
        Why it stopped.
    converged : bool
    """

    coefficients: NDArray[np.float64]
    predicted: NDArray[np.float64]
    covariance: NDArray[np.float64]
    history: tuple[dict[str, float], ...]
    reason: str
    converged: bool


def gauss_newton(
    model: ForwardModel,
    measured: NDArray[np.float64],
    space: DataSpace,
    basis: sparse.csr_array,
    start: Tissue,
    parameters: tuple[str, ...],
    prior: Prior | None,
    settings: GaussNewtonSettings | None = None,
    progress: Progress = ignore_progress,
    at_quadrature: bool = False,
    transform: NDArray[np.float64] | None = None,
    first: NDArray[np.float64] | None = None,
) -> GaussNewtonResult:
    """Return the maps that explain the data best under a prior.

    Minimizes ``||W (y - F(x))||^2 + weight sum_p ||L (x_p - x0)||^2``, weight = 1 / sd^2 of the prior, over the
    coefficients x_p of the chosen maps, ``map_p = start_p * basis @ transform @ x_p``. Each step solves::

        (J^T W^2 J + weight L^T L) dx = J^T W^2 (y - F(x)) - weight L^T L (x - x0)

    within bounds (maps above a floor, fractions below 1), and is halved until the objective falls. Without a transform
    the coefficients are values of the map, so those that would leave the bounds are held there and the others solved
    again; with one, the step is shortened until no value of a map leaves them.

    Parameters
    ----------
    model : ForwardModel
    measured : (W, C) ndarray
        Log amplitudes.
    space : DataSpace
        W above: which data, their noise, and the gains that are projected out.
    basis : (N, B) or (Q, B) sparse array
        From coefficients to mesh nodes or (`at_quadrature`) integration points.
    start : Tissue
        The bulk; maps that are not fitted keep its values.
    parameters : tuple of str
        Which of `MAP_NAMES` to fit.
    prior : Prior or None
    settings : GaussNewtonSettings, optional
    progress : Progress
    at_quadrature : bool
    transform : (B, U) ndarray, optional
        From fewer unknowns to the coefficients of the basis; default: the coefficients themselves.
    first : (P, U) ndarray, optional
        Where to begin; default: 1 everywhere, the start tissue.

    Raises
    ------
    InputError
        If a start value to be fitted is not positive, or no step leads to tissue that light passes.

    References
    ----------
    Dehghani H et al., Commun Numer Methods Eng 25:711 (2009), doi 10.1002/cnm.1162.
    """
    settings = settings or GaussNewtonSettings()
    rows = [MAP_NAMES.index(name) for name in parameters]
    begin = start.values()
    if (begin[rows] <= 0).any():
        raise InputError(f"The start value of {parameters[int(np.argmin(begin[rows]))]} must be positive to be fitted.")
    highest = np.array([1 / begin[r] if MAP_NAMES[r] in ("water", "lipid") else np.inf for r in rows])[:, None]
    shape = (len(rows), basis.shape[1] if transform is None else transform.shape[1])

    def values_of(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(basis @ (x.T if transform is None else transform @ x.T)).T

    def maps_of(x: NDArray[np.float64]) -> NDArray[np.float64]:
        maps = start.maps(basis.shape[0])
        maps[rows] = begin[rows, None] * values_of(x)
        return maps

    def linearized(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return whitened_jacobian(model, maps_of(x), basis, parameters, begin[rows], space, at_quadrature, transform)

    x = np.ones(shape) if first is None else first
    y, J = linearized(x)
    penalty = np.zeros((shape[1], shape[1])) if prior is None else prior.matrix.T @ prior.matrix / prior.sd**2
    expected = 0.0 if prior is None else prior.expected

    def objective_of(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
        r = space.whiten(measured - y)
        d = x - expected
        return float(r @ r + np.einsum("pb,bc,pc->", d, penalty, d))

    objective = objective_of(x, y)
    freedom = max(int(space.freedom.sum()), 1)
    history = [_record(objective, space.whiten(measured - y), freedom, 0.0)]
    reason, converged = f"stopped after {settings.max_iterations} iterations without converging", False
    H = _normal_matrix(J, penalty)
    for iteration in range(settings.max_iterations):
        progress(iteration / settings.max_iterations, f"iteration {iteration + 1}, misfit {history[-1]['chi']:.3g}")
        if iteration:
            y, J = linearized(x)
            H = _normal_matrix(J, penalty)
        downhill = J.T @ space.whiten(measured - y) - ((x - expected) @ penalty).ravel()
        if transform is None:
            step = _bounded_step(H, downhill, (settings.floor - x).ravel(), (highest - x).ravel()).reshape(shape)
            longest = 1.0
        else:
            step = linalg.solve(H, downhill, assume_a="pos").reshape(shape)
            longest = _longest_step(values_of(x), values_of(step), settings.floor, highest)
        refused = None
        for length in longest * np.array([1.0, 0.5, 0.25, 0.125, 0.0625]):
            trial = x + length * step
            try:
                predicted = model.measure(maps_of(trial), at_quadrature=at_quadrature).real
            except InputError as error:  # so absorbing that no light comes through: too far
                refused = error
                continue
            reached, refused = objective_of(trial, predicted), None
            if reached < objective:
                break
        else:
            if refused is not None:
                raise refused
            reason, converged = "no shorter step lowers the misfit: at the minimum that can be reached", True
            break
        change = (objective - reached) / objective
        x, y, objective = trial, predicted, reached
        history.append(_record(objective, space.whiten(measured - y), freedom, float(length)))
        if change < settings.stop_change:
            reason, converged = f"the last step lowered the misfit by {change:.2%}", True
            break
    progress(1.0, reason)
    return GaussNewtonResult(x, y, inverse_of_positive(H), tuple(history), reason, converged)


def inverse_of_positive(H: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inverse of a symmetric positive definite matrix (n, n), in a third of a general solver's time.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the matrix is not positive definite.
    """
    factor, failed = linalg.lapack.dpotrf(H, lower=1)
    if failed:
        raise np.linalg.LinAlgError("the normal matrix is not positive definite")
    lower = np.tril(linalg.lapack.dpotri(factor, lower=1)[0])
    return np.asarray(lower + np.tril(lower, -1).T)


def whitened_jacobian(
    model: ForwardModel,
    maps: NDArray[np.float64],
    basis: sparse.csr_array,
    parameters: tuple[str, ...],
    scale: NDArray[np.float64],
    space: DataSpace,
    at_quadrature: bool = False,
    transform: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the prediction (W, C) and the whitened derivatives (M, P * U) by unknowns in units of `scale` (P,).

    One coefficient per map (a homogeneous body) needs no adjoint fields: forward differences are exact enough and
    cheaper.
    """
    if basis.shape[1] == 1:
        return _by_differences(model, maps, parameters, scale, space, at_quadrature)
    y, J = model.measure_with_jacobian(maps, basis, parameters, at_quadrature=at_quadrature, transform=transform)
    J = J.real * scale[:, None]
    return y.real, space.whiten(J.reshape(*y.shape, -1))


def _by_differences(
    model: ForwardModel,
    maps: NDArray[np.float64],
    parameters: tuple[str, ...],
    scale: NDArray[np.float64],
    space: DataSpace,
    at_quadrature: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return prediction and whitened derivatives (M, P) by one factor on each map."""
    changed = np.stack([maps] * (1 + len(parameters)))
    for p, name in enumerate(parameters):
        changed[1 + p, MAP_NAMES.index(name)] += _DIFFERENCE * scale[p]
    followed = derived(model)
    light = followed.measure_many(changed, at_quadrature=at_quadrature).real
    J = np.moveaxis(light[1:] - light[0], 0, -1) / _DIFFERENCE
    data = light[0] if followed is model else model.measure(maps, at_quadrature=at_quadrature).real
    return data, space.whiten(J)


def _normal_matrix(J: NDArray[np.float64], penalty: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return J^T J + weight L^T L for each map; a trace of ridge keeps unseen combinations finite."""
    H = J.T @ J
    count = len(penalty)
    for begin in range(0, len(H), count):
        H[begin : begin + count, begin : begin + count] += penalty
    H[np.diag_indices_from(H)] += 1e-9 * np.trace(H) / len(H)
    return H


def _bounded_step(
    H: NDArray[np.float64], downhill: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the step that minimizes the quadratic model within bounds low <= 0 <= high.

    Coefficients that leave their bounds are held at them and the rest is solved again; at the end each is clipped. A
    few rounds do: nearly always none or a handful of coefficients are held.
    """
    step = np.zeros_like(downhill)
    free = np.ones(len(downhill), dtype=bool)
    for _ in range(_BOUND_ROUNDS):
        right = downhill[free] - H[np.ix_(free, ~free)] @ step[~free]
        step[free] = linalg.solve(H[np.ix_(free, free)], right, assume_a="pos")
        leaving = free & ((step < low) | (step > high))
        step = np.clip(step, low, high)
        if not leaving.any():
            break
        free &= ~leaving
    return step


def _longest_step(
    values: NDArray[np.float64], change: NDArray[np.float64], floor: float, highest: NDArray[np.float64]
) -> float:
    """Return the share of a step, at most 1, after which the nearest value is still 10 % short of its bound."""
    with np.errstate(divide="ignore", invalid="ignore"):
        down = np.where(change < 0, (values - floor) / -change, np.inf)
        up = np.where(change > 0, (highest - values) / change, np.inf)
    return float(min(1.0, 0.9 * max(min(down.min(), up.min()), 1e-3)))


def _record(objective: float, residual: NDArray[np.float64], freedom: int, length: float) -> dict[str, float]:
    return {"objective": objective, "chi": float(np.sqrt(residual @ residual / freedom)), "step": length}
