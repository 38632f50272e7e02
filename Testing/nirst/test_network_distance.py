"""Distance from a network's training: fresh phantoms are near, other tissue, bodies and instruments are far."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from NIRSTReconstructionLib.dataset import DatasetSettings
from NIRSTReconstructionLib.fibers import Fibers
from NIRSTReconstructionLib.meshing import circle_contour
from NIRSTReconstructionLib.network_data import model_of
from NIRSTReconstructionLib.network_distance import (
    NUMBERS,
    distance_from_training,
    input_numbers,
    read_training_inputs,
    summarized,
)
from NIRSTReconstructionLib.network_method import NETWORK_METHODS, shipped_networks, training_inputs_of
from NIRSTReconstructionLib.noise import NoiseModel
from NIRSTReconstructionLib.phantoms import Phantom, draw_phantom, simulate_case
from NIRSTReconstructionLib.plane import Plane
from NIRSTReconstructionLib.reconstruct import ReconstructionSettings
from NIRSTReconstructionLib.spectra import Tissue
from NIRSTReconstructionLib.trust import FAR_FROM_TRAINING, GREEN, NOT_ASSESSED, RED, YELLOW, Case, assess_trust

PLANE = Plane(np.eye(4))


@pytest.fixture(scope="module")
def model():
    return model_of(DatasetSettings(count=1))


@pytest.fixture(scope="module", params=NETWORK_METHODS)
def network(request):
    return request.param


def measured_of(phantom, model, seed=0):
    return simulate_case(phantom, model, NoiseModel(), np.random.default_rng(seed))


def away(network, model, measured):
    known = read_training_inputs(training_inputs_of(network))
    return distance_from_training(input_numbers(model, measured, network), known)


def with_water(phantom, factor):
    tissues = [phantom.background, *(one.tissue for one in phantom.inclusions)]
    wet = [replace(tissue, water=factor * tissue.water) for tissue in tissues]
    inclusions = tuple(replace(one, tissue=t) for one, t in zip(phantom.inclusions, wet[1:], strict=True))
    return replace(phantom, background=wet[0], inclusions=inclusions)


def test_numbers_are_those_of_the_body(model):
    measured = measured_of(Phantom(Tissue(12.0, 6.0, 0.25), ()), model).measured
    lost = measured.active & ~np.isin(measured.channels, (3, 9)).any(axis=1)
    for given, fibers in ((measured, 16), (replace(measured, active=lost), 14)):
        numbers = input_numbers(model, given, "hybrid")
        np.testing.assert_allclose(numbers[:5], (12.0, 6.0, 25.0, 41.0, fibers), rtol=0.01)
        assert numbers[5] == pytest.approx(2.0, rel=0.15)  # the noise, in percent


def test_fresh_phantoms_are_near_and_three_times_the_water_is_far(network, model):
    rng = np.random.default_rng(321)
    phantoms = [draw_phantom(rng) for _ in range(10)]
    near = [away(network, model, measured_of(phantom, model, n).measured) for n, phantom in enumerate(phantoms)]
    assert sum(one.inside for one in near) >= 9
    assert np.median([one.value for one in near]) < 0.9
    for phantom in (one for one in phantoms if 0.18 < one.background.water < 0.33):  # three times that is still tissue
        far = away(network, model, measured_of(with_water(phantom, 3.0), model).measured)
        assert not far.inside
        assert "water" in far.words
    assert "trained 15" in far.words


def test_another_body_is_far(network, model):
    measured = measured_of(draw_phantom(np.random.default_rng(5)), model).measured
    numbers = input_numbers(model, measured, network)
    known = read_training_inputs(training_inputs_of(network))
    numbers[3] *= 2
    far = distance_from_training(numbers, known)
    assert far.value > FAR_FROM_TRAINING
    assert not far.inside
    assert "body radius 82 mm" in far.words
    numbers[3] = 43.0
    assert distance_from_training(numbers, known).inside


def test_gains_count_only_where_the_network_sees_them(model):
    case = measured_of(draw_phantom(np.random.default_rng(5)), model)
    gains = 0.5 * np.random.default_rng(1).standard_normal(17)[case.measured.channels[:, 1]]
    spoiled = replace(case.measured, log_amplitude=case.measured.log_amplitude + gains)
    plain, same = (input_numbers(model, one, "hybrid") for one in (case.measured, spoiled))
    np.testing.assert_allclose(same, plain, rtol=1e-3)
    assert away("znet", model, spoiled).value > away("znet", model, case.measured).value + 0.3


def test_a_hundredth_of_what_was_trained_is_beyond():
    rng = np.random.default_rng(0)
    numbers = np.exp(rng.standard_normal((4000, 6)) * (0.3, 0.2, 0.3, 0.02, 0.1, 0.4) + 2)
    known = json.loads(json.dumps(summarized(numbers)))
    fresh = np.exp(rng.standard_normal((4000, 6)) * (0.3, 0.2, 0.3, 0.02, 0.1, 0.4) + 2)
    beyond = np.mean([distance_from_training(one, known).value > 1 for one in fresh])
    outside = np.mean([not distance_from_training(one, known).inside for one in fresh])
    assert 0.004 < beyond <= outside < 0.02
    together = dict(known, covariance=(np.full((6, 6), 0.09) + 0.001 * np.eye(6)).tolist(), mean=[2.0] * 6)
    found = distance_from_training(np.exp([2.3, 1.7, 2, 2, 2, 2]), dict(together, low=[1e-3] * 6, high=[1e3] * 6))
    assert found.value > 1
    assert "these together were not" in found.words


def test_a_damaged_description_is_refused(tmp_path):
    good = read_training_inputs(training_inputs_of("hybrid"))
    file = tmp_path / "hybrid.json"
    changes = ({"mean": good["mean"][:5]}, {"covariance": 1.0}, {"low": [None] * 6}, {"numbers": list(NUMBERS[:5])})
    for content in ("{", "[]", "{}", *(json.dumps(good | change) for change in changes)):
        file.write_text(content)
        with pytest.raises(InputError, match=r"hybrid\.json"):
            read_training_inputs(file)
    with pytest.raises(InputError, match="description of the training"):
        read_training_inputs(tmp_path / "none.json")


def test_trust_of_a_network_holds_the_distance(model, monkeypatch, tmp_path):
    phantom = Phantom(Tissue(12.0, 6.0, 0.25), ())
    case = measured_of(phantom, model)
    tips = np.column_stack([model.optodes.detectors, np.zeros(16)])
    whole = Case(case.measured, Fibers(tips, tips), circle_contour(41.0), model.spectra, PLANE, None, [case.mri])

    def check(result):
        return [one for one in assess_trust(result, whole).checks if one.name == "training data"]

    result = whole.reconstruct(ReconstructionSettings("hybrid"))
    (near,) = check(result)
    assert near.light == GREEN
    assert "like that of the phantoms" in near.reason
    data = result.measurements
    for factor, light in ((1.5, YELLOW), (3.0, RED)):  # light falls off steeper than in any trained tissue
        slope = factor * (data.log_amplitude - data.log_amplitude.mean(axis=1, keepdims=True))
        (far,) = check(replace(result, measurements=replace(data, log_amplitude=slope)))
        assert far.light == light, far.reason
    assert check(replace(result, settings=replace(result.settings, method="linear"))) == []
    monkeypatch.setattr("NIRSTReconstructionLib.trust.training_inputs_of", lambda name: tmp_path / name)
    (unknown,) = check(result)
    assert unknown.light == NOT_ASSESSED


def test_every_shipped_network_has_one():
    for name in shipped_networks():
        assert read_training_inputs(training_inputs_of(name))["count"] >= 300
