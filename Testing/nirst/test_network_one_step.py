"""The hybrid's physics against the forward model and independent solutions of the same equations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from BreastBiomarkersLib.errors import InputError
from NIRSTReconstructionLib.bulk import fit_bulk
from NIRSTReconstructionLib.calibration import data_space
from NIRSTReconstructionLib.dataset import DatasetSettings
from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.gauss_newton import gauss_newton
from NIRSTReconstructionLib.measurements import Measurements
from NIRSTReconstructionLib.meshing import fill_contour
from NIRSTReconstructionLib.network_data import model_of, pixel_grid
from NIRSTReconstructionLib.network_settings import PhysicsSettings
from NIRSTReconstructionLib.one_step import OneStep, mri_regions
from NIRSTReconstructionLib.optodes import place_optodes
from NIRSTReconstructionLib.plane import Plane
from NIRSTReconstructionLib.spectra import Tissue
from NIRSTReconstructionLib.torch_forward import TorchForward
from scipy import sparse, stats

PIXEL = 2.0
SETTINGS = PhysicsSettings(lattice_mm=9.0, blob_mm=6.5)


def grid(radius=30.0):
    at = np.arange(-radius + PIXEL / 2, radius, PIXEL)
    points = np.stack(np.meshgrid(at, at), axis=-1)
    return points, (points**2).sum(axis=-1) <= radius**2


@pytest.fixture(scope="module")
def model(disc):
    """A small quadratic model: linear elements of this size are too coarse for dark tissue."""
    optodes = disc.fibers.optodes(Plane(np.eye(4)), disc.fibers.all_channels())
    mesh = fill_contour(disc.contour, 4.5, refine_at=optodes.detectors, refined_size_mm=2.0)
    return ForwardModel(mesh, place_optodes(mesh, optodes), disc.spectra)


@pytest.fixture(scope="module")
def step(model):
    return OneStep(model, *grid(), SETTINGS).tabulate(Tissue(8, 4, 0.15), Tissue(25, 13, 0.5), knots=6)


@pytest.fixture(scope="module")
def case(model):
    """Light (1, W, C) of a body with a lesion, its mask at the pixels, and an MR image of it."""
    background, lesion = Tissue(14.0, 7.0, 0.25), Tissue(20.0, 9.0, 0.35)
    center = np.array([9.0, -6.0])
    points = model.mesh.quadrature.points
    inside = np.hypot(*(points - center).T) < 8
    maps = np.where(inside, lesion.values()[:, None], background.values()[:, None])
    pixels, body = grid()
    mask = np.hypot(*(pixels - center).reshape(-1, 2).T).reshape(body.shape) < 8
    gray = np.where(mask, 80.0, 50.0) * body + np.random.default_rng(0).normal(0, 2, body.shape)
    return model.measure(maps, at_quadrature=True)[None], mask, gray


def seen(light, noise=0.02, active=None):
    y = torch.as_tensor(light)
    on = torch.ones(y.shape, dtype=torch.bool) if active is None else torch.as_tensor(active)
    return y, on, torch.full(y.shape, noise, dtype=torch.float64)


def data_of(model, light, noise=0.02):
    return Measurements(
        wavelengths_nm=model.spectra.wavelengths_nm,
        channels=model.optodes.channels + 1,
        log_amplitude=light[0],
        sd=np.full(light[0].shape, noise),
        active=np.ones(light[0].shape, dtype=bool),
    )


def written_out(model, step, bulk, sds, masks):
    """Return the whitening, J (W C, 3 U), prior precision (3 U, 3 U) and the columns at the body's pixels (P, U)."""
    pixels = grid()[0][step.body]
    points, lattice = model.mesh.quadrature.points, step_lattice(step)
    nearest = [np.abs(points[:, None] - pixels[mask][None]).max(axis=2).min(axis=1) <= PIXEL / 2 for mask in masks]

    def columns(at, regions):
        squared = ((at[:, None] - lattice) ** 2).sum(-1)
        return np.column_stack([np.exp(-squared / 2 / SETTINGS.blob_mm**2), np.ones(len(at)), *regions])

    basis = sparse.csr_array(columns(points, nearest))
    J = (
        model.measure_with_jacobian(bulk.maps(len(points)), basis, ("hbo", "hbr", "water"), at_quadrature=True)[1]
        * bulk.values()[:3, None]
    )
    inner = model.mesh.contains(lattice)
    at_lattice = np.exp(-((lattice[inner][:, None] - lattice) ** 2).sum(-1) / 2 / SETTINGS.blob_mm**2)
    blob_sd = sds / np.sqrt((at_lattice**2).sum(axis=1).mean())
    sd = np.r_[np.full(len(lattice), blob_sd), SETTINGS.uniform_sd, np.full(len(masks), SETTINGS.region_sd)]
    K = 0.5 + 0.5 * np.eye(3)
    return J.reshape(*J.shape[:2], -1), np.kron(np.linalg.inv(K), np.diag(sd**-2.0)), columns(pixels, masks)


def test_the_lights_own_image_is_the_solution_of_the_equations_written_out(model, step, case):
    light, _, gray = case
    found = step.images(*seen(light), torch.as_tensor(gray)[None])
    bulk = Tissue(*found.bulk[0].double().tolist())
    space = data_space(data_of(model, light), "fibers")
    J, prior, there = written_out(model, step, bulk, SETTINGS.light_sd, [])
    A = space.whiten(J)
    r = space.whiten(light[0] - model.measure(bulk.maps(len(model.mesh.nodes))))
    expected = np.linalg.solve(A.T @ A + prior, A.T @ r).reshape(3, -1) @ there.T
    # derivatives are kept in cells of 1.75 mm and interpolated between absorptions
    assert np.abs(found.light[0].numpy()[:, step.body] - expected).max() < 0.06 * np.abs(expected).max()
    covariance = np.linalg.inv(A.T @ A + prior)
    B = there.shape[1]
    sd = [
        np.sqrt(np.einsum("pb,bc,pc->p", there, covariance[c * B : (c + 1) * B, c * B : (c + 1) * B], there))
        for c in range(3)
    ]
    np.testing.assert_allclose(found.light_sd[0].numpy()[:, step.body], sd, rtol=0.04)
    assert np.mean(found.light_sd[0].numpy()[:, step.body] / sd) == pytest.approx(1, abs=0.03)


def test_the_regions_are_those_of_gauss_newton(model, step, case):
    """Another iteration, with the derivatives of the true tissue, arrives at the same values."""
    light, _, gray = case
    noisy = light + np.random.default_rng(5).normal(0, 0.02, light.shape)
    found = step.images(*seen(noisy), torch.as_tensor(gray)[None])
    assert found.doubt[0] < 0.01
    torch.testing.assert_close(found.guided, found.regions, atol=0.003, rtol=0)
    lesion = mri_regions(gray, step.body, PIXEL)[0]
    points = model.mesh.quadrature.points
    inside = np.abs(points[:, None] - grid()[0][lesion][None]).max(axis=2).min(axis=1) <= PIXEL / 2
    basis = sparse.csr_array(np.column_stack([~inside, inside]).astype(float))
    bulk = Tissue(*found.bulk[0].double().tolist())
    space = data_space(data_of(model, noisy), "fibers")
    parameters = ("hbo", "hbr", "water")
    exact = gauss_newton(model, noisy[0], space, basis, bulk, parameters, None, at_quadrature=True)
    sd = np.sqrt(np.diag(exact.covariance)).reshape(3, 2)
    values = 1 + found.regions[0].numpy()
    assert (np.abs(values[:, step.body & ~lesion].mean(axis=1) - exact.coefficients[:, 0]) < 0.3 * sd[:, 0]).all()
    assert (np.abs(values[:, lesion].mean(axis=1) - exact.coefficients[:, 1]) < 0.3 * sd[:, 1]).all()


def test_field_and_doubt_are_those_of_normal_distributions_written_out(model, step, case):
    """The probability of each field's strength is that of the data's joint normal distribution under it."""
    light, _, gray = case
    blank = np.full_like(gray, 50.0)
    uniform = model.measure(Tissue(14.0, 7.0, 0.25).maps(len(model.mesh.nodes)))
    weak = uniform + 0.1 * (light - uniform)  # a lesion of a tenth of the contrast, which the MRI does not show
    noise = np.random.default_rng(5).normal(0, 0.02, light.shape)
    doubts = []
    for y in (uniform + noise, weak + noise, light + noise):
        found = step.images(*seen(y), torch.as_tensor(blank)[None])
        bulk = Tissue(*(found.bulk[0].double() * (1 + found.regions[0, :, 15, 15].double())).tolist())
        space = data_space(data_of(model, y), "fibers")
        r = space.whiten(y[0] - model.measure(bulk.maps(len(model.mesh.nodes))))
        logs, images = [], []
        for sd in (1e-6, *SETTINGS.field_sds):
            J, prior, there = written_out(model, step, bulk, sd, [])
            A = space.whiten(J)
            U, s, _ = np.linalg.svd(A, full_matrices=False)
            kept = U[:, s > 1e-9 * s[0]]  # the data's space that anything can change; the rest is noise for all
            covariance = np.eye(kept.shape[1]) + kept.T @ A @ np.linalg.solve(prior, A.T @ kept)
            logs.append(stats.multivariate_normal.logpdf(kept.T @ r, cov=covariance))
            images.append(np.linalg.solve(A.T @ A + prior, A.T @ r).reshape(3, -1) @ there.T)
        logs[0] += SETTINGS.needed_evidence + np.log(len(SETTINGS.field_sds))
        share = np.exp(logs - np.max(logs)) / np.exp(logs - np.max(logs)).sum()
        # the cells again: an evidence of about 10 is off by less than 0.2
        assert found.doubt[0] == pytest.approx(1 - share[0], abs=0.06)
        added = (found.guided - found.regions)[0].numpy()[:, step.body]
        expected = np.einsum("k,kcp->cp", share, images)
        assert np.abs(added - expected).max() < 0.06 * max(np.abs(expected).max(), 0.05)
        doubts.append(float(found.doubt[0]))
    assert doubts[0] < 0.01
    assert doubts[2] > 0.99


def step_lattice(step):
    """Recover the lattice: the step's blobs are 1 there."""
    from NIRSTReconstructionLib.one_step import _lattice

    return _lattice(step.model.mesh.nodes, SETTINGS.lattice_mm)


def test_the_table_agrees_with_derivatives_of_the_very_tissue(model, step, case):
    light, _, gray = case
    exact = OneStep(model, *grid(), SETTINGS).images(*seen(light), torch.as_tensor(gray)[None])
    table = step.images(*seen(light), torch.as_tensor(gray)[None])
    for a, b in zip(exact, table, strict=True):
        assert (a - b).abs().max() <= 0.01 * a.abs().max()


def test_a_lesion_is_found_and_its_contrast_nearly_with_the_mri(step, case):
    light, mask, gray = case
    found = step.images(*seen(light), torch.as_tensor(gray)[None])
    outside = step.body & ~mask
    for image, low, high in ((found.light, 0.5, 1.4), (found.guided, 0.9, 1.1)):
        ratio = 1 + image[0].numpy()
        contrast = ratio[:, mask].mean(axis=1) / ratio[:, outside].mean(axis=1) - 1
        true = np.array([20 / 14, 9 / 7, 35 / 25]) - 1
        assert (contrast > low * true).all()
        assert (contrast < high * true).all()  # the light's own image is one linear step


def test_fiber_gains_change_nothing(model, step, case):
    light, _, gray = case
    rng = np.random.default_rng(2)
    source, detector = model.optodes.channels.T
    gains = rng.normal(0, 0.5, (4, 16))[:, source] + rng.normal(0, 0.5, (4, 16))[:, detector]
    plain, with_gains = (step.images(*seen(y), torch.as_tensor(gray)[None]) for y in (light, light + gains))
    for a, b in zip(plain, with_gains, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_lost_light_counts_for_nothing_and_widens_the_deviation(model, step, case):
    light, _, gray = case
    active = np.broadcast_to((model.optodes.channels != 5).all(axis=1), light.shape).copy()
    spoiled = np.where(active, light, np.nan)
    plain, nan = (step.images(*seen(y, active=active), torch.as_tensor(gray)[None]) for y in (light, spoiled))
    for a, b in zip(plain, nan, strict=True):
        assert torch.equal(a, b)
    full = step.images(*seen(light), torch.as_tensor(gray)[None])
    assert (plain.light_sd >= full.light_sd - 1e-6).all()
    imputed = step.imputed(torch.as_tensor(spoiled), *seen(light, active=active)[1:])
    assert torch.isfinite(imputed).all()
    assert (imputed - torch.as_tensor(light)).abs().max() < 0.4
    assert torch.equal(imputed[torch.as_tensor(active)], torch.as_tensor(light)[torch.as_tensor(active)])


def test_a_uniform_body_has_no_image_and_the_bulk_of_the_iterative_fit(model, step):
    tissue = Tissue(11.0, 8.0, 0.33)
    light = model.measure(tissue.maps(len(model.mesh.nodes)))[None]
    found = step.images(*seen(light), torch.full((1, *step.body.shape), 50.0))
    np.testing.assert_allclose(found.bulk[0], tissue.values()[:3], rtol=2e-4)
    assert found.light.abs().max() < 2e-3
    assert found.guided.abs().max() < 2e-3

    noisy = light + np.random.default_rng(0).normal(0, 0.02, light.shape)
    iterative = fit_bulk(model, noisy[0], data_space(data_of(model, noisy), "fibers"))
    found = step.images(*seen(noisy), torch.full((1, *step.body.shape), 50.0))
    np.testing.assert_allclose(found.bulk[0], iterative.tissue.values()[:3], rtol=2e-3)


def test_light_of_a_uniform_disc_from_light_to_dark():
    settings = DatasetSettings(count=1, wavelengths_nm=(661.0, 808.0, 948.0))
    model = model_of(settings)
    points, body = pixel_grid(settings, 24)
    step = OneStep(model, points, body, SETTINGS)
    for tissue in (Tissue(4.5, 2.5, 0.06), Tissue(12.0, 6.0, 0.3), Tissue(35.0, 20.0, 0.6)):
        light = model.measure(tissue.maps(len(model.mesh.nodes)))[None]
        y, active, noise = seen(light)
        whiten = step._whitening(active, noise)
        np.testing.assert_allclose(step.fit_bulk(y, whiten)[0], tissue.values()[:3], rtol=2e-3)


def test_several_bodies_at_once_are_as_one_by_one(step, case):
    light, _, gray = case
    both = np.concatenate([light, light * 1.001 + 0.02])
    images = torch.as_tensor(np.stack([gray, np.full_like(gray, 50.0)]))  # the second MRI shows nothing
    together = step.images(*seen(both), images)
    for n in range(2):
        alone = step.images(*seen(both[n : n + 1]), images[n : n + 1])
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a[0], b[n], atol=1e-4, rtol=1e-4)
    assert (together.guided[1] - together.light[1]).abs().max() < 0.5


def test_light_by_torch_gives_the_same(model, step, case, monkeypatch):
    light, _, gray = case
    plain = step.images(*seen(light), torch.as_tensor(gray)[None])
    monkeypatch.setattr(step, "_on_gpu", TorchForward(model, "cpu"))  # the device's code, without the device
    for a, b in zip(plain, step.images(*seen(light), torch.as_tensor(gray)[None]), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


def test_refusals(model, case):
    fresh = OneStep(model, *grid(), SETTINGS)
    both = np.concatenate([case[0], case[0]])
    with pytest.raises(InputError, match="Tabulate"):
        fresh.images(*seen(both), torch.as_tensor(np.stack([case[2], case[2]])))
    modulated = ForwardModel(model.mesh, model.optodes, model.spectra, modulation_mhz=100.0)
    spectra = replace(
        model.spectra, wavelengths_nm=model.spectra.wavelengths_nm[:2], extinction=model.spectra.extinction[:2]
    )
    with pytest.raises(InputError, match="at least three wavelengths"):
        OneStep(ForwardModel(model.mesh, model.optodes, spectra), *grid(), SETTINGS)
    with pytest.raises(InputError, match="continuous-wave"):
        OneStep(modulated, *grid(), replace(SETTINGS))


def test_regions_of_an_mri():
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:60, :70]
    body = ((x - 35) / 33) ** 2 + ((y - 30) / 28) ** 2 <= 1
    first, second = (x - 25) ** 2 + (y - 30) ** 2 <= 36, (x - 48) ** 2 + (y - 22) ** 2 <= 25
    quiet = np.where(body, 50.0, 0.0)
    noisy = quiet * (1 + 0.04 * rng.standard_normal(body.shape))
    assert not mri_regions(noisy, body, 1.0).any()
    assert not mri_regions(quiet, body, 1.0).any()
    for image in (
        np.where(first | second, 80.0, noisy),
        1e4 * np.where(first | second, 80.0, noisy) - 7,
        np.where(first | second, 20.0, noisy),
        np.where(first | second, 80.0, quiet),
    ):
        found = mri_regions(image, body, 1.0)
        assert found.shape == (4, 60, 70)
        assert (found.any(axis=(1, 2)) == [True, True, False, False]).all()
        assert (found[0] == first).all()  # the larger one is the first
        assert (found[1] == second).all()
    faint = noisy + np.where(first, 5.0, 0.0)  # 2.5 deviations of a pixel: the smooth edge
    assert np.mean(mri_regions(faint, body, 1.0)[0] == first) > 0.99
    speck = noisy.copy()
    speck[30:34, 30:34] = 80
    assert not mri_regions(speck, body, 1.0).any()  # 16 mm^2
    assert mri_regions(speck, body, 2.0).any()  # the same pixels, twice as large
    assert not (mri_regions(np.where(first, 80.0, 50.0), body, 1.0) & ~body).any()
