import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Cancelled
from NIRSTReconstructionLib.basis import MeshBasis
from NIRSTReconstructionLib.calibration import DataSpace, data_space
from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.gauss_newton import (
    GaussNewtonSettings,
    Prior,
    _bounded_step,
    gauss_newton,
    inverse_of_positive,
)
from NIRSTReconstructionLib.meshing import circle_contour, fill_contour
from NIRSTReconstructionLib.spectra import Tissue, load_spectra
from scipy import optimize, sparse

START = Tissue(14.0, 7.0, 0.25)
PARAMETERS = ("hbo", "hbr", "water")
EXACT = GaussNewtonSettings(max_iterations=30, stop_change=1e-9)


@pytest.fixture(scope="module")
def small_basis():
    return MeshBasis(fill_contour(circle_contour(30.0), 14.0, order=1))


def light_of(model, basis, x):
    maps = START.maps(len(model.mesh.nodes))
    maps[:3] *= (basis.at(model.mesh.nodes) @ x.T).T
    return model.measure(maps)


def test_noise_free_data_give_back_the_coefficients(disc, coarse_model, small_basis):
    truth = 1 + 0.3 * np.random.default_rng(2).uniform(-1, 1, (3, small_basis.count))
    light = light_of(coarse_model, small_basis, truth)
    space = data_space(disc.measurements(light, noise=0.0))
    matrix = small_basis.at(coarse_model.mesh.nodes)
    result = gauss_newton(coarse_model, light, space, matrix, START, PARAMETERS, None, EXACT)
    np.testing.assert_allclose(result.coefficients, truth, atol=2e-3)
    np.testing.assert_allclose(result.predicted, light, atol=1e-5)
    assert result.converged
    chis = [step["chi"] for step in result.history]
    assert chis == sorted(chis, reverse=True)


def test_result_is_the_minimum_that_a_general_optimizer_finds(disc, coarse_model):
    small_basis = MeshBasis(fill_contour(circle_contour(30.0), 25.0, order=1))
    rng = np.random.default_rng(4)
    light = light_of(coarse_model, small_basis, 1 + 0.3 * rng.uniform(-1, 1, (3, small_basis.count)))
    measured = disc.measurements(light, noise=0.02)
    space = data_space(measured, "fibers")
    matrix = small_basis.at(coarse_model.mesh.nodes)
    prior = Prior(np.eye(small_basis.count), 1.0, 0.2)
    result = gauss_newton(coarse_model, measured.log_amplitude, space, matrix, START, PARAMETERS, prior, EXACT)

    def residuals(flat):
        x = flat.reshape(3, -1)
        return np.concatenate(
            [space.whiten(measured.log_amplitude - light_of(coarse_model, small_basis, x)), (x - 1).ravel() / 0.2]
        )

    independent = optimize.least_squares(residuals, np.ones(result.coefficients.size), method="trf", xtol=1e-10)
    np.testing.assert_allclose(result.coefficients.ravel(), independent.x, atol=2e-3)
    assert result.history[-1]["objective"] == pytest.approx(2 * independent.cost, rel=1e-5)


def test_posterior_deviation_is_the_scatter_of_repeated_measurements(disc, coarse_model):
    """With one coefficient per map and hardly a prior the covariance must be that of the noise."""
    light = coarse_model.measure(START.maps(len(coarse_model.mesh.nodes)))
    matrix = np.ones((len(coarse_model.mesh.nodes), 1))
    found = []
    for seed in range(40):
        measured = disc.measurements(light, noise=0.05, seed=seed)
        result = gauss_newton(
            coarse_model,
            measured.log_amplitude,
            data_space(measured, "fibers"),
            sparse.csr_array(matrix),
            START,
            PARAMETERS,
            Prior(np.eye(1), 1.0, 100.0),
        )
        found.append(result.coefficients[:, 0])
    ratio = np.std(found, axis=0) / np.sqrt(np.diag(result.covariance))
    assert (np.abs(ratio - 1) < 0.35).all()  # 40 repetitions: 11 % standard error


def test_values_stay_within_bounds(disc, coarse_model, small_basis):
    model = ForwardModel(coarse_model.mesh, coarse_model.optodes, load_spectra([735.0, 808.0, 852.0]))
    maps = START.maps(len(model.mesh.nodes))
    maps[1] *= 1e-3  # less than the floor allows
    maps[2] = 1.0  # as wet as possible
    light = model.measure(maps)
    space = DataSpace(np.ones(light.shape, dtype=bool), np.full(light.shape, 0.01), (np.zeros((240, 0)),) * 3)
    prior = Prior(np.eye(small_basis.count), 1.0, 3.0)
    result = gauss_newton(model, light, space, small_basis.at(model.mesh.nodes), START, PARAMETERS, prior, EXACT)
    assert result.coefficients[1].min() == pytest.approx(0.03)
    assert result.coefficients[2].max() == pytest.approx(4.0)
    assert result.coefficients[2].min() > 3.0


def test_bounded_step_solves_the_bounded_quadratic():
    rng = np.random.default_rng(0)
    for _ in range(20):
        A = rng.standard_normal((12, 6))
        H, downhill = A.T @ A + 0.1 * np.eye(6), rng.standard_normal(6)
        low, high = -rng.uniform(0, 0.3, 6), rng.uniform(0, 0.3, 6)
        step = _bounded_step(H, downhill, low, high)
        assert (step >= low).all()
        assert (step <= high).all()
        assert 0.5 * step @ H @ step - downhill @ step < 0  # goes down
    np.testing.assert_allclose(
        _bounded_step(H, downhill, np.full(6, -9.0), np.full(6, 9.0)), np.linalg.solve(H, downhill)
    )


def test_stopping_early_is_reported_as_not_converged(disc, coarse_model, small_basis):
    light = light_of(coarse_model, small_basis, np.full((3, small_basis.count), 1.6))
    space = data_space(disc.measurements(light, noise=0.001))
    result = gauss_newton(
        coarse_model,
        light,
        space,
        small_basis.at(coarse_model.mesh.nodes),
        START,
        PARAMETERS,
        None,
        GaussNewtonSettings(max_iterations=1),
    )
    assert not result.converged
    assert "stopped after 1 iterations" in result.reason


def test_cancelling_stops_the_iteration(disc, coarse_model, small_basis):
    light = light_of(coarse_model, small_basis, np.full((3, small_basis.count), 1.6))
    space = data_space(disc.measurements(light))
    calls = []

    def cancel(fraction, message):
        calls.append(message)
        if len(calls) == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        gauss_newton(
            coarse_model,
            light,
            space,
            small_basis.at(coarse_model.mesh.nodes),
            START,
            PARAMETERS,
            None,
            EXACT,
            cancel,
        )
    assert calls[0].startswith("iteration 1")


def test_zero_start_value_is_refused(disc, coarse_model, small_basis):
    light = disc.light()
    with pytest.raises(InputError, match="start value of lipid must be positive"):
        gauss_newton(
            coarse_model,
            light,
            data_space(disc.measurements(light)),
            small_basis.at(coarse_model.mesh.nodes),
            START,
            ("hbo", "lipid"),
            None,
        )


def test_inverse_of_a_positive_matrix():
    A = np.random.default_rng(2).standard_normal((60, 40))
    H = A.T @ A + np.eye(40)
    np.testing.assert_allclose(inverse_of_positive(H), np.linalg.inv(H), rtol=1e-9, atol=1e-12)
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        inverse_of_positive(-H)
