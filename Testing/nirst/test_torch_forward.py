"""The GPU route's numbers against the reference route; on the CPU where there is no GPU."""

from __future__ import annotations

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from NIRSTReconstructionLib import torch_forward
from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.meshing import fill_contour, spline_contour
from NIRSTReconstructionLib.optodes import Optodes, place_optodes
from NIRSTReconstructionLib.spectra import Tissue, load_spectra
from NIRSTReconstructionLib.torch_forward import TorchForward, gpu_available

pytest.importorskip("torch", reason="PyTorch is not installed")


def make_model(**settings):
    contour = spline_contour(np.array([[30.0, 0], [24, 22], [0, 28], [-26, 18], [-24, -8], [0, -27], [22, -20]]))
    tips = contour.curve(np.linspace(0, 1, 7, endpoint=False))
    mesh = fill_contour(contour, 5.0, refine_at=tips, refined_size_mm=2.5)
    channels = np.array([(s, d) for s in range(7) for d in range(6) if s != d])
    placed = place_optodes(mesh, Optodes(tips, tips[:6], channels))
    return ForwardModel(mesh, placed, load_spectra([661.0, 785.0, 912.0]), solver="splu", **settings)


def random_tissue(model, count):
    points = len(model.mesh.quadrature.weights)
    rng = np.random.default_rng(3)
    return Tissue(14, 7, 0.3, 0.4, 0.9, 1.2).maps(points) * rng.uniform(0.7, 1.3, (count, 6, points))


@pytest.mark.parametrize("source_model", ["line", "point"])
def test_same_numbers_as_the_reference_route(source_model):
    model = make_model(source_model=source_model)
    values = random_tissue(model, 3)
    expected = model.measure_many(values, at_quadrature=True)
    data = TorchForward(model, "cpu").measure_many(values)
    assert data.shape == (3, 3, 36)
    np.testing.assert_allclose(data.numpy(), expected, atol=1e-9)


def test_chunks_do_not_change_the_numbers(monkeypatch):
    model = make_model()
    values = random_tissue(model, 3)
    whole = TorchForward(model, "cpu").measure_many(values)
    monkeypatch.setitem(torch_forward._BYTES_AT_ONCE, "cpu", 1)
    np.testing.assert_allclose(TorchForward(model, "cpu").measure_many(values), whole, atol=1e-12)


@pytest.mark.gpu
def test_same_numbers_on_the_gpu():
    if not gpu_available():
        pytest.skip("no CUDA GPU")
    model = make_model()
    values = random_tissue(model, 3)
    data = TorchForward(model, "cuda").measure_many(values).cpu().numpy()
    np.testing.assert_allclose(data, model.measure_many(values, at_quadrature=True), atol=1e-6)


def test_what_it_cannot_do_is_refused():
    with pytest.raises(InputError, match="continuous-wave"):
        TorchForward(make_model(modulation_mhz=100.0), "cpu")
    with pytest.raises(InputError, match="not available"):
        TorchForward(make_model(), "cuda" if not gpu_available() else "tpu")
    model = make_model()
    with pytest.raises(InputError, match="not positive definite"):
        TorchForward(model, "cpu").measure_many(np.full((1, 6, len(model.mesh.quadrature.weights)), np.nan))
