"""Simulated phantoms: geometry and ranges of the benchmark, images in place, reproducible data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.meshing import disc_mesh
from NIRSTReconstructionLib.noise import NoiseModel
from NIRSTReconstructionLib.optodes import place_optodes, ring_optodes
from NIRSTReconstructionLib.phantoms import (
    PRESETS,
    Inclusion,
    Phantom,
    Texture,
    draw_phantom,
    pixel_points,
    simulate_case,
)
from NIRSTReconstructionLib.spectra import MAP_NAMES, Tissue, load_spectra

RING = ring_optodes()
LOPSIDED = Phantom(Tissue(10, 5, 0.2), (Inclusion((20.0, -8.0), 6.0, Tissue(20, 10, 0.3)),))


@pytest.fixture(scope="module")
def model():
    mesh = disc_mesh(41.0, 5.0, refine_at=RING.detectors, refined_size_mm=2.0)
    return ForwardModel(mesh, place_optodes(mesh, RING), load_spectra([661.0, 912.0]))


@pytest.mark.parametrize("preset", PRESETS)
def test_drawn_phantoms_keep_the_ranges(preset):
    rng = np.random.default_rng(0)
    ranges = PRESETS[preset]
    diameters = set()
    for _ in range(200):
        phantom = draw_phantom(rng, preset)
        for name in MAP_NAMES:
            low, high = ranges.background[name]
            assert low <= getattr(phantom.background, name) <= high
        assert phantom.background.water + phantom.background.lipid <= 0.95
        for inclusion in phantom.inclusions:
            for name, (low, high) in ranges.contrast.items():
                contrast = getattr(inclusion.tissue, name) / getattr(phantom.background, name)
                assert contrast <= high + 1e-9
                assert contrast >= low - 1e-9 or inclusion.tissue.water == 0.95
            assert inclusion.tissue.water + inclusion.tissue.lipid <= 0.95 + 1e-12
            assert np.hypot(*inclusion.center_mm) + inclusion.radius_mm <= 38.0 + 1e-9
        if len(phantom.inclusions) == 1:
            diameters.add(2 * phantom.inclusions[0].radius_mm)
        else:
            first, second = phantom.inclusions
            gap = np.hypot(*np.subtract(first.center_mm, second.center_mm)) - 16.0
            assert 4.0 <= gap <= 42.0
    assert diameters == {12.0, 16.0, 20.0}


def test_mismatches():
    rng = np.random.default_rng(1)
    phantom = draw_phantom(rng, mismatch="no-contrast", inclusion_count=2)
    assert all(i.tissue == phantom.background and i.in_mri for i in phantom.inclusions)
    phantom = draw_phantom(rng, mismatch="mri-invisible", inclusion_count=3)
    assert len(phantom.inclusions) == 3
    assert all(i.tissue != phantom.background and not i.in_mri for i in phantom.inclusions)
    assert draw_phantom(rng, inclusion_count=0).inclusions == ()


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"preset": "brain"}, "paper-like"),
        ({"mismatch": "half"}, "no-contrast"),
        ({"inclusion_count": 9}, "0 to 4"),
        ({"texture": 10.0}, "0.1 is 10 %"),
        ({"mri_shift_mm": -1.0}, "0 to 20 mm"),
    ],
)
def test_unknown_choices_are_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        draw_phantom(np.random.default_rng(0), **arguments)


def test_texture_has_its_strength_and_length_and_leaves_inclusions_alone():
    points = np.random.default_rng(3).uniform(-25, 25, (400, 2))
    fields = np.concatenate([Texture(0.1, 10.0, seed).factors(points) - 1 for seed in range(60)])
    assert fields.std() == pytest.approx(0.1, rel=0.1)
    apart = np.linalg.norm(points[:200] - points[200:], axis=1)
    product = (fields[:, :200] * fields[:, 200:]).mean(axis=0) / 0.01
    for low, high in ((0, 6), (8, 12), (28, 60)):
        own = (apart >= low) & (apart < high)
        assert product[own].mean() == pytest.approx(np.exp(-(apart[own] ** 2) / 200).mean(), abs=0.12)

    rough = replace(LOPSIDED, texture=Texture(0.1))
    inside = LOPSIDED.labels(points) == 1
    np.testing.assert_array_equal(rough.values(points)[:, inside], LOPSIDED.values(points)[:, inside])
    np.testing.assert_array_equal(rough.values(points)[3:], LOPSIDED.values(points)[3:])
    assert rough.values(points)[:3, ~inside].std(axis=1).min() > 0


def test_shifted_mri_shows_the_inclusion_elsewhere(model):
    shifted = replace(LOPSIDED, mri_shift_mm=(-9.0, 12.0))
    case = simulate_case(shifted, model, NoiseModel(), np.random.default_rng(4))
    for image, place in ((case.labels.array >= 2, [20.0, -8.0]), (case.mri_labels.array == 1, [11.0, 4.0])):
        k, j, i = np.nonzero(image)
        center = case.mri.points_to_ras(np.column_stack([i, j, k])).mean(axis=0)
        np.testing.assert_allclose(center[:2], place, atol=0.2)
    assert case.mri.array[case.mri_labels.array == 1].mean() == pytest.approx(80.0, abs=1.5)
    plain = simulate_case(LOPSIDED, model, NoiseModel(), np.random.default_rng(4))
    np.testing.assert_array_equal(plain.measured.log_amplitude, case.measured.log_amplitude)


def test_further_draws_keep_the_phantom_of_a_seed():
    """A data set's seed stands for the same tissue and places with and without texture and shift."""
    for seed in range(5):
        plain = draw_phantom(np.random.default_rng(seed))
        rough = draw_phantom(np.random.default_rng(seed), texture=0.1, mri_shift_mm=3.0)
        assert np.hypot(*rough.mri_shift_mm) == pytest.approx(3.0)
        assert replace(rough, texture=None, mri_shift_mm=(0.0, 0.0)) == plain
    first = draw_phantom(np.random.default_rng([0, 0]))
    assert first.background.hbo == pytest.approx(11.23744057)
    assert first.inclusions[0].center_mm[0] == pytest.approx(1.535094659)


def test_images_lie_where_the_inclusion_is(model):
    case = simulate_case(LOPSIDED, model, NoiseModel(), np.random.default_rng(4))
    ijk = np.round(case.mri.points_to_ijk(np.array([[20.0, -8.0, 0.0], [-20.0, 8.0, 0.0], [40.5, 40.5, 0.0]]))).astype(
        int
    )
    inside, opposite, corner = ((k, j, i) for i, j, k in ijk)
    assert case.truth["hbo"].array[inside] == 20.0
    assert case.truth["water"].array[inside] == pytest.approx(30.0)  # percent
    assert case.truth["sto2"].array[opposite] == pytest.approx(100 * 10 / 15)
    assert case.truth["hbt"].array[corner] == 0.0
    assert (case.labels.array[inside], case.labels.array[opposite], case.labels.array[corner]) == (2, 1, 0)
    assert case.mri.array[case.labels.array == 2].mean() == pytest.approx(80.0, abs=1.5)
    assert case.mri.array[case.labels.array == 1].mean() == pytest.approx(50.0, abs=0.2)
    assert case.mri.array[case.labels.array == 1].std() == pytest.approx(2.0, rel=0.1)  # 4 % of 50
    np.testing.assert_allclose(pixel_points()[:2], [[-40.59, -40.59], [-39.77, -40.59]])


def test_light_is_lower_across_the_inclusion_and_noise_is_on_top(model):
    noise = NoiseModel(relative=0.02)
    case = simulate_case(LOPSIDED, model, noise, np.random.default_rng(5))
    plain = simulate_case(Phantom(LOPSIDED.background), model, noise, np.random.default_rng(5))
    change = (case.clean - plain.clean)[0]
    near = ((RING.channels == [15, 0]).all(axis=1) | (RING.channels == [14, 0]).all(axis=1)).nonzero()[0]
    far = (RING.channels == [7, 9]).all(axis=1).nonzero()[0]
    assert (change[near] < -0.01).all()
    assert abs(change[far]) < 0.001
    error = case.measured.log_amplitude - case.clean
    assert error.std() == pytest.approx(0.02, rel=0.1)
    np.testing.assert_allclose(case.measured.sd, 0.02)
    np.testing.assert_array_equal(case.measured.channels, RING.channels + 1)
    assert case.measured.remarks[0] == "Simulated data."


def test_gains_are_shared_by_measurement_and_reference(model):
    noise = NoiseModel(relative=0.0, source_gain=0.2, detector_gain=0.2)
    case = simulate_case(Phantom(Tissue(14, 7, 0.275)), model, noise, np.random.default_rng(6))
    np.testing.assert_allclose(case.measured.log_amplitude, case.reference.log_amplitude, atol=1e-12)
    assert (case.measured.log_amplitude - case.clean).std() > 0.15


def test_equal_seeds_give_equal_cases(model):
    cases = []
    for _ in range(2):
        rng = np.random.default_rng(7)
        cases.append(simulate_case(draw_phantom(rng), model, NoiseModel(), rng))
    assert cases[0].phantom == cases[1].phantom
    np.testing.assert_array_equal(cases[0].measured.log_amplitude, cases[1].measured.log_amplitude)
    np.testing.assert_array_equal(cases[0].mri.array, cases[1].mri.array)


def test_frequency_domain_case_has_phases():
    mesh = disc_mesh(41.0, 6.0, refine_at=RING.detectors, refined_size_mm=3.0)
    model = ForwardModel(mesh, place_optodes(mesh, RING), load_spectra([785.0]), modulation_mhz=100.0)
    case = simulate_case(LOPSIDED, model, NoiseModel(phase_deg=0.0), np.random.default_rng(8))
    np.testing.assert_allclose(case.measured.phase_rad, case.clean.imag)
    assert (case.measured.phase_rad < 0).all()
