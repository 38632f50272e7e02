from dataclasses import replace

import numpy as np
import pytest
from NIRSTReconstructionLib import reconstruct as module
from NIRSTReconstructionLib.calibration import fit_homogeneous
from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.point_light import PointLight, normal_frequencies
from NIRSTReconstructionLib.reconstruct import ReconstructionSettings, reconstruct
from NIRSTReconstructionLib.spectra import Tissue
from scipy import special

PARAMETERS = ("hbo", "hbr", "water")
BACKGROUND, LESION = Tissue(14.0, 7.0, 0.25), Tissue(25.0, 11.0, 0.40)  # of the fixture `disc`
TRUE_RATIO = np.array([25 / 14, 11 / 7, 0.40 / 0.25])
QUICK = {"element_size_mm": 4.5, "basis_nodes": 150, "source_model": "point"}


@pytest.fixture(scope="module")
def full(disc):
    """The point model with all its frequencies and its own derivatives, on the mesh of the fixture."""
    return ForwardModel(disc.model.mesh, disc.model.optodes, disc.spectra, source_model="point")


@pytest.fixture(scope="module")
def light(disc, full):
    """Noise-free light of the disc with its lesion and without, from point sources."""
    points = full.mesh.quadrature.points
    inside = disc.labels_at(points)
    lesion = np.where(inside[None] == 1, LESION.values()[:, None], BACKGROUND.values()[:, None])
    bodies = lesion, BACKGROUND.maps(len(points))
    return [full.measure(maps, at_quadrature=True) for maps in bodies]


@pytest.fixture(scope="module")
def images(disc):
    return disc.image(module.Plane(np.eye(4)))


@pytest.mark.parametrize("shortest_mm", [2.0, 5.0, 11.7, 16.0, 30.0])
def test_frequencies_against_points_in_an_endless_medium(shortest_mm):
    kz, weights = normal_frequencies(shortest_mm)
    assert len(kz) <= 10
    r, mu = (axis[..., None] for axis in np.meshgrid(np.geomspace(shortest_mm, 190, 41), np.geomspace(0.04, 0.35, 23)))
    fluence = (weights * special.k0(r * np.sqrt(mu**2 + kz**2))).sum(axis=-1) / (2 * np.pi)
    error = fluence * 4 * np.pi * r[..., 0] * np.exp(mu * r)[..., 0] - 1
    assert np.abs(error).max() < 1.5e-3
    assert error.std() < 3e-4


def test_data_are_those_of_the_full_point_model(disc, full, light):
    few = PointLight(disc.model)
    points = few.mesh.quadrature.points
    maps = np.where(disc.labels_at(points) == 1, LESION.values()[:, None], BACKGROUND.values()[:, None])
    data = few.measure(maps, at_quadrature=True)
    np.testing.assert_allclose(data, light[0], atol=1e-3)
    np.testing.assert_array_equal(few.measure(maps, at_quadrature=True), data)  # as kept
    other = few.measure(BACKGROUND.maps(len(points)), at_quadrature=True)
    np.testing.assert_allclose(other, light[1], atol=1e-3)
    data[:] = 0  # what was handed out is not what is kept
    np.testing.assert_allclose(few.measure(BACKGROUND.maps(len(points)), at_quadrature=True), light[1], atol=1e-3)
    assert len(few.kz) < len(full.kz) / 2
    assert few.describe()["source_model"] == "point"
    assert disc.model.source_model == "line"
    assert np.ptp(light[0] - disc.model.measure(maps, at_quadrature=True)) > 0.2  # lines are another matter


def test_derivatives_of_line_light_are_nearly_those_of_point_light(disc, full):
    """Whatever column: of a lesion, its background, three maps; and the data come with them."""
    few = PointLight(disc.model)
    points = few.mesh.quadrature.points
    inside = disc.labels_at(points)
    basis = module.RegionBasis(disc.image(module.Plane(np.eye(4)))[1], module.Plane(np.eye(4)), points).at(points)
    maps = np.where(inside == 1, LESION.values()[:, None], BACKGROUND.values()[:, None])
    y, J = few.measure_with_jacobian(maps, basis, PARAMETERS, at_quadrature=True)
    exact, exact_J = full.measure_with_jacobian(maps, basis, PARAMETERS, at_quadrature=True)
    np.testing.assert_allclose(y, exact, atol=1e-3)
    difference = np.linalg.norm(J - exact_J, axis=(0, 1)) / np.linalg.norm(exact_J, axis=(0, 1))
    assert difference.max() < 0.1


@pytest.mark.parametrize("method", ["hard-prior", "tikhonov", "regions-field", "adaptive"])
def test_result_is_that_of_the_full_point_model(disc, light, images, monkeypatch, method):
    """Values within a small share of their standard deviation; residual and standard deviations within percent."""
    measured = disc.measurements(light[0], 0.02)
    iteration = replace(ReconstructionSettings().iteration, max_iterations=20, stop_change=1e-5)
    settings = ReconstructionSettings(method=method, gains="global", iteration=iteration, **QUICK)
    for name in ("_STOP_CHANGE_FULL_STEP", "_STOP_CHANGE"):  # as far as either way goes
        monkeypatch.setattr(f"NIRSTReconstructionLib.outlines.{name}", 1e-5)
    arguments = (measured, disc.fibers, disc.contour, disc.spectra, settings)
    regions = images[1] if method == "hard-prior" else None
    given = {"images": images[:1] if method == "regions-field" else (), "regions": regions}
    fast = reconstruct(*arguments, **given)
    assert isinstance(fast.model, PointLight)
    monkeypatch.setattr(module, "PointLight", full_model_of)
    slow = reconstruct(*arguments, **given)
    assert type(slow.model) is ForwardModel
    assert len(slow.model.kz) == 24
    (found, sd), (expected, expected_sd) = (in_units(result) for result in (fast, slow))
    assert (np.abs(found - expected) < 0.15 * expected_sd).all()
    np.testing.assert_allclose(sd, expected_sd, rtol=0.07)
    np.testing.assert_allclose(fast.chi, slow.chi, rtol=0.01)
    np.testing.assert_allclose(fast.predicted, slow.predicted, atol=0.2 * 0.02)


def full_model_of(line):
    return ForwardModel(line.mesh, line.optodes, line.spectra, source_model="point")


def in_units(result):
    """Coefficients and their standard deviations in uM and fractions: the bulk of two results may differ a little."""
    unit = result.bulk.tissue.values()[:3, None]
    sd = np.sqrt(np.diag(result.covariance)).reshape(result.coefficients.shape)
    return result.coefficients * unit, sd * unit


def test_phantom_of_unknown_absorption_needs_the_light_it_was_measured_with(disc, full, light):
    """Its absorption is found with point light; lines take the light for more absorption."""
    reference = disc.measurements(light[1] + 2.5, 0.003)
    mua, musp = (quantity(BACKGROUND.maps(1))[:, 0] for quantity in (disc.spectra.mua, disc.spectra.musp))
    fit = fit_homogeneous(reference, PointLight(disc.model), musp)
    np.testing.assert_allclose(fit.mua, mua, rtol=0.01)
    np.testing.assert_allclose(fit.offset, 2.5, atol=0.02)
    np.testing.assert_allclose(fit.rms, 0.003, rtol=0.15)
    assert (fit_homogeneous(reference, disc.model, musp).mua > 1.15 * mua).all()


def test_lesion_beside_a_phantom_of_unknown_absorption(disc, light, images):
    rng = np.random.default_rng(5)
    gains = rng.normal(0, 0.4, (4, 16))[:, disc.model.optodes.channels[:, 0]]
    result = reconstruct(
        disc.measurements(light[0] + gains),
        disc.fibers,
        disc.contour,
        disc.spectra,
        ReconstructionSettings(method="hard-prior", **QUICK),
        reference=disc.measurements(light[1] + gains, 0.003, seed=6),
        regions=images[1],
    )
    inside, outside = result.maps_at(np.array([[9.0, -6.0], [-15.0, 5.0]]))[:3].T
    np.testing.assert_allclose(outside, BACKGROUND.values()[:3], rtol=0.03)
    np.testing.assert_allclose(inside / outside, TRUE_RATIO, rtol=0.04)
    assert np.sqrt(np.mean(result.chi**2)) < 1.2


def test_light_for_networks_of_raw_data_is_brought_to_the_plane(disc, light):
    """A body of unknown tissue, whatever the drift of the source, as line sources would have given it."""
    pytest.importorskip("torch")
    from NIRSTReconstructionLib import predict

    uniform = disc.model.measure(BACKGROUND.maps(len(disc.model.mesh.nodes)))
    drift = np.random.default_rng(1).normal(0, 0.5, (len(uniform), 1))
    body = disc.measurements(light[1] + drift, 0.0)
    flat = predict._in_the_plane(PointLight(disc.model), body, ReconstructionSettings())
    np.testing.assert_allclose(flat.log_amplitude, uniform + drift, atol=2e-3)
