"""The adjoint Jacobian against central differences for all six parameters, and its bases."""

from __future__ import annotations

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from NIRSTReconstructionLib import forward
from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.meshing import fill_contour, spline_contour
from NIRSTReconstructionLib.optodes import Optodes, place_optodes
from NIRSTReconstructionLib.spectra import MAP_NAMES, Tissue, load_spectra
from scipy import sparse

WAVELENGTHS = [661.0, 785.0, 912.0]
STEP = 1e-3


def make_model(order=2, **settings):
    """A lopsided body with seven fibers, three wavelengths."""
    contour = spline_contour(np.array([[30.0, 0], [24, 22], [0, 28], [-26, 18], [-24, -8], [0, -27], [22, -20]]))
    tips = contour.curve(np.linspace(0, 1, 7, endpoint=False))
    mesh = fill_contour(contour, 6.0, order=order, refine_at=tips, refined_size_mm=3.0)
    channels = np.array([(s, d) for s in range(7) for d in range(7) if s != d])
    return ForwardModel(mesh, place_optodes(mesh, Optodes(tips, tips, channels)), load_spectra(WAVELENGTHS), **settings)


def textured_maps(count):
    rng = np.random.default_rng(5)
    return Tissue(14, 7, 0.3, 0.5, 0.9, 1.2).maps(count) * rng.uniform(0.7, 1.3, (6, count))


@pytest.mark.parametrize(
    "settings",
    [
        {"order": 2},
        {"order": 1},
        {"order": 2, "modulation_mhz": 100.0},
        {"order": 2, "source_model": "point"},
        {"order": 2, "source_model": "point", "modulation_mhz": 100.0},
    ],
    ids=["P2", "P1", "frequency domain", "point source", "both"],
)
def test_jacobian_equals_central_differences_for_all_parameters(settings):
    """The target is 1 %; the derivatives are exact for the discrete model, so much less is asked."""
    model = make_model(**settings)
    maps = textured_maps(len(model.mesh.nodes))
    data, jacobian = model.measure_with_jacobian(maps)
    assert jacobian.shape == (3, 42, 6, len(model.mesh.nodes))
    assert np.iscomplexobj(jacobian) == bool(settings.get("modulation_mhz"))
    np.testing.assert_allclose(data, model.measure(maps), atol=1e-11)
    for row, name in enumerate(MAP_NAMES):
        for node in np.random.default_rng(row).integers(0, len(model.mesh.nodes), 2):
            difference = central_difference(model, maps, row, node)
            error = np.abs(jacobian[:, :, row, node] - difference).max()
            assert error < 1e-4 * np.abs(difference).max(), (name, node)


def central_difference(model, maps, row, node):
    step = STEP * maps[row, node]
    high, low = maps.copy(), maps.copy()
    high[row, node] += step
    low[row, node] -= step
    return (model.measure(high) - model.measure(low)) / (2 * step)


def test_at_quadrature_points_against_differences():
    model = make_model()
    count = len(model.mesh.quadrature.weights)
    maps = textured_maps(count)
    inside = np.linalg.norm(model.mesh.quadrature.points - [5.0, 3.0], axis=1) < 8
    basis = sparse.csr_array(np.column_stack([inside, ~inside]).astype(float))
    _, jacobian = model.measure_with_jacobian(maps, basis, ("hbr", "scatter_power"), at_quadrature=True)
    assert jacobian.shape == (3, 42, 2, 2)
    for column, row in enumerate((1, 5)):
        step = np.zeros_like(maps)
        step[row, inside] = 1e-3
        difference = model.measure(maps + step, at_quadrature=True) - model.measure(maps - step, at_quadrature=True)
        np.testing.assert_allclose(jacobian[:, :, column, 0], difference / 2e-3, rtol=1e-3, atol=1e-7)


def test_basis_and_parameter_choice_are_linear_in_the_nodal_jacobian():
    model = make_model()
    maps = textured_maps(len(model.mesh.nodes))
    _, nodal = model.measure_with_jacobian(maps)
    basis = sparse.random_array((len(model.mesh.nodes), 9), density=0.2, rng=np.random.default_rng(1)).tocsr()
    _, coarse = model.measure_with_jacobian(maps, basis, ("water", "hbo"))
    expected = np.einsum("wcpn,nb->wcpb", nodal[:, :, [2, 0]], basis.toarray())
    np.testing.assert_allclose(coarse, expected, rtol=1e-9, atol=1e-12)


def test_bad_requests_are_refused(monkeypatch):
    model = make_model()
    maps = textured_maps(len(model.mesh.nodes))
    with pytest.raises(InputError, match="Choose from: hbo"):
        model.measure_with_jacobian(maps, parameters=("hbo", "melanin"))
    with pytest.raises(InputError, match="rows"):
        model.measure_with_jacobian(maps, sparse.eye_array(3).tocsr())
    monkeypatch.setattr(forward, "MAX_JACOBIAN_BYTES", 1e6)
    with pytest.raises(InputError, match="coarser reconstruction basis"):
        model.measure_with_jacobian(maps)
