"""The fast solver against the reference route, and the choice between them."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from NIRSTReconstructionLib import lanes, solvers
from NIRSTReconstructionLib.diffusion import DiffusionOperator
from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.meshing import disc_mesh, fill_contour, spline_contour
from NIRSTReconstructionLib.optodes import place_optodes, ring_optodes
from NIRSTReconstructionLib.solvers import SpluSolver, make_solver
from NIRSTReconstructionLib.spectra import Tissue, load_spectra

RING = ring_optodes()
numba_only = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")


def problem(order, matrices, delay=0.0, mesh=None):
    """Return operator, source and detector vectors, and the entries of random heterogeneous matrices."""
    mesh = mesh or disc_mesh(41.0, 4.0, order=order, refine_at=RING.detectors)
    operator = DiffusionOperator(mesh, 2.348)
    rng = np.random.default_rng(2)
    shape = (len(mesh.quadrature.weights), matrices)
    mua, kappa = rng.uniform(0.002, 0.03, shape) + delay, rng.uniform(0.2, 0.6, shape)
    placed = place_optodes(mesh, ring_optodes(41.0, 16) if mesh.area_mm2 > 5000 else ring_optodes(10.0, 5), 1.0)
    sources, detectors = (mesh.evaluation(p).T.tocsr() for p in (placed.sources, placed.detectors[:-1]))
    return operator, sources, detectors, operator.entries(mua, kappa)


@numba_only
@pytest.mark.parametrize("order, matrices, delay", [(2, 9, 0.0), (1, 3, 0.0), (2, 8, 0.0), (2, 9, 0.0028j)])
def test_lanes_equal_the_reference_route(order, matrices, delay):
    operator, sources, detectors, entries = problem(order, matrices, delay)
    fast, reference = (make_solver(name, operator, sources, detectors) for name in ("lanes", "splu"))
    assert (fast.name, reference.name) == ("lanes", "splu")
    expected = reference.transfer(entries)
    assert expected.shape == (matrices, 16, 15)
    assert np.abs(fast.transfer(entries) / expected - 1).max() < 1e-12
    for ours, theirs in zip(fast.fields(entries), reference.fields(entries), strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() < 1e-12 * np.abs(theirs).max()


@numba_only
def test_repeated_and_other_sizes_do_not_leak_into_each_other():
    operator, sources, detectors, entries = problem(2, 11)
    solver = make_solver("lanes", operator, sources, detectors)
    together = solver.transfer(entries)
    alone = np.concatenate([solver.transfer(entries[:, k : k + 1]) for k in range(11)])
    np.testing.assert_allclose(alone, together, rtol=1e-13)
    np.testing.assert_array_equal(solver.transfer(entries), together)


def test_the_algorithm_itself_without_numba(monkeypatch):
    """The numeric functions are plain Python: run them uncompiled on a small mesh."""
    mesh = fill_contour(spline_contour(10 * np.column_stack([np.cos(t := np.arange(8) * np.pi / 4), np.sin(t)])), 6.0)
    operator, sources, detectors, entries = problem(2, 3, mesh=mesh)
    plain = lanes._Kernels(lanes._factor, lanes._forward, lanes._backward, lanes._multiply)
    monkeypatch.setattr(lanes, "_compiled", lambda: plain)
    solver = lanes.LanesSolver(operator, sources, detectors)
    reference = SpluSolver(operator, sources, detectors)
    np.testing.assert_allclose(solver.transfer(entries), reference.transfer(entries), rtol=1e-11)
    for ours, theirs in zip(solver.fields(entries), reference.fields(entries), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-14)


@numba_only
def test_an_indefinite_matrix_is_an_error_not_a_number():
    operator, sources, detectors, entries = problem(1, 2)
    solver = make_solver("lanes", operator, sources, detectors)
    with pytest.raises(InputError, match="not positive definite"):
        solver.transfer(-entries)


def test_without_numba_the_choice_is_visible(monkeypatch):
    operator, sources, detectors, _ = problem(1, 1)
    monkeypatch.setattr(solvers.importlib.util, "find_spec", lambda name: None)
    assert make_solver("auto", operator, sources, detectors).name == "splu"
    with pytest.raises(InputError, match="needs the package numba"):
        make_solver("lanes", operator, sources, detectors)


@numba_only
@pytest.mark.parametrize("settings", [{}, {"modulation_mhz": 100.0}, {"source_model": "point"}])
def test_data_and_jacobian_do_not_depend_on_the_route(settings):
    mesh = disc_mesh(41.0, 6.0, refine_at=RING.detectors, refined_size_mm=3.0)
    placed = place_optodes(mesh, RING)
    maps = Tissue(14, 7, 0.3, 0.4, 0.9, 1.1).maps(len(mesh.nodes))
    maps *= np.random.default_rng(1).uniform(0.8, 1.2, maps.shape)
    results = []
    for name in ("lanes", "splu"):
        model = ForwardModel(mesh, placed, load_spectra([661.0, 912.0]), solver=name, **settings)
        assert model.describe()["solver"] == name
        results.append((model.measure(maps), *model.measure_with_jacobian(maps)))
    for fast, reference in zip(*results, strict=True):
        np.testing.assert_allclose(fast, reference, atol=1e-10 * np.abs(reference).max())
