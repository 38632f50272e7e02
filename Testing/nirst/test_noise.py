"""The instrument's noise: its spread, its gains, what it hides, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from NIRSTReconstructionLib.noise import NoiseModel
from NIRSTReconstructionLib.optodes import ring_optodes

CHANNELS = ring_optodes().channels


def test_relative_noise_has_its_standard_deviation():
    data = np.linspace(-12.0, -2.0, 20_000)[None]
    noisy = NoiseModel(relative=0.02).add(data, np.random.default_rng(0))
    assert (np.exp(noisy - data) - 1).std() == pytest.approx(0.02, rel=0.03)
    assert abs((np.exp(noisy - data) - 1).mean()) < 0.001


def test_dark_noise_grows_where_light_is_weak_and_hides_channels():
    data = np.stack([np.zeros(5000), np.full(5000, -np.log(1000.0))], axis=1)  # a bright and a 1000 times weaker one
    model = NoiseModel(relative=0.01, dark=1e-3)
    np.testing.assert_allclose(model.log_amplitude_sd(data)[0], [np.hypot(0.01, 1e-3), np.hypot(0.01, 1.0)])
    noisy = model.add(data, np.random.default_rng(1))
    assert np.isfinite(noisy[:, 0]).all()
    assert 0.1 < np.isnan(noisy[:, 1]).mean() < 0.25  # one standard deviation below zero: 16 %


def test_gains_are_a_source_part_plus_a_detector_part_per_wavelength():
    gains = NoiseModel(source_gain=0.2, detector_gain=0.1).draw_gains(CHANNELS, 4, np.random.default_rng(2))
    design = np.zeros((240, 32))
    design[np.arange(240), CHANNELS[:, 0]] = 1
    design[np.arange(240), 16 + CHANNELS[:, 1]] = 1
    residual = gains.T - design @ np.linalg.lstsq(design, gains.T, rcond=None)[0]
    np.testing.assert_allclose(residual, 0, atol=1e-12)
    assert gains.std() == pytest.approx(np.hypot(0.2, 0.1), rel=0.3)
    assert not np.allclose(gains[0], gains[1])
    assert not NoiseModel().draw_gains(CHANNELS, 4, np.random.default_rng(2)).any()


def test_phase_noise_is_in_degrees():
    data = np.full((1, 20_000), -3.0 - 1.0j)
    noisy = NoiseModel(relative=0.0, phase_deg=2.0).add(data, np.random.default_rng(3))
    assert np.rad2deg(noisy.imag.std()) == pytest.approx(2.0, rel=0.03)
    np.testing.assert_array_equal(noisy.real, -3.0)


@pytest.mark.parametrize("setting", [{"relative": 2.0}, {"relative": -0.1}, {"dark": np.nan}, {"source_gain": 20.0}])
def test_percent_instead_of_fractions_are_refused(setting):
    with pytest.raises(InputError, match=next(iter(setting))):
        NoiseModel(**setting)
