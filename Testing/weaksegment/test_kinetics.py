"""Contrast kinetics: against numerical quadrature, closed forms, and the published figures of a real case."""

from __future__ import annotations

import json

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume, read_volume
from scipy.integrate import quad
from WeakSegmentLib.kinetics import (
    HEMATOCRIT,
    blood_concentration,
    percent_enhancement,
    segment_kinetics,
    signal_enhancement_ratio,
    spoiled_gradient_echo,
    tissue_concentration,
)


def test_blood_peaks_at_the_first_pass_and_washes_out():
    minutes = np.linspace(-1, 8, 4001)
    concentration = blood_concentration(minutes)
    assert (concentration[minutes < 0] == 0).all()
    assert minutes[concentration.argmax()] == pytest.approx(0.17046, abs=0.01)
    # two minutes on only the exponential is left
    assert blood_concentration(4.0) / blood_concentration(3.0) == pytest.approx(np.exp(-0.1685), rel=1e-6)
    assert blood_concentration(2.0) == pytest.approx(1.05 * np.exp(-0.1685 * 2), rel=1e-6)


@pytest.mark.parametrize("minutes", [0.3, 1.5, 6.0])
@pytest.mark.parametrize("ktrans, ve, vp", [(0.005, 0.1, 0.0), (0.12, 0.3, 0.05), (0.8, 0.2, 0.1)])
def test_tissue_concentration_is_the_convolution(minutes, ktrans, ve, vp):
    def integrand(u):
        return float(blood_concentration(u)) / (1 - HEMATOCRIT) * np.exp(-ktrans / ve * (minutes - u))

    integral, _ = quad(integrand, 0, minutes, points=[p for p in (0.1, 0.2, 0.35, 0.5) if p < minutes], limit=200)
    expected = vp * blood_concentration(minutes) / (1 - HEMATOCRIT) + ktrans * integral
    assert tissue_concentration(minutes, ktrans, ve, vp) == pytest.approx(expected, rel=2e-3)


def test_many_voxels_agree_with_one_at_a_time():
    ktrans = np.random.default_rng(0).lognormal(-2, 0.6, 1000)
    together = tissue_concentration(1.5, ktrans, 0.3, 0.05)
    alone = np.array([float(tissue_concentration(1.5, k, 0.3, 0.05)) for k in ktrans[:50]])
    np.testing.assert_allclose(together[:50], alone, rtol=1e-3)
    assert together.shape == (1000,)


def test_no_contrast_agent_before_the_bolus():
    assert tissue_concentration(0.0, 0.2, 0.3, 0.05) == 0
    assert tissue_concentration(-1.0, 0.2, 0.3, 0.05) == 0


def test_gradient_echo_limits():
    assert spoiled_gradient_echo(1.0, 0.0, 1e6, 90) == pytest.approx(1)  # fully relaxed
    short = spoiled_gradient_echo([0.3, 1.3], 0.0, 4.43, 10)
    assert short[0] > short[1]
    # at the Ernst angle the signal is largest
    ernst = np.rad2deg(np.arccos(np.exp(-4.43e-3 / 1.3)))
    below, best, above = (float(spoiled_gradient_echo(1.3, 0.0, 4.43, ernst + d)) for d in (-0.5, 0.0, 0.5))
    assert best > max(below, above)
    # an agent acts as a shorter T1
    assert spoiled_gradient_echo(1.0, 1.0, 5, 12, relaxivity=4.0) == pytest.approx(
        float(spoiled_gradient_echo(1 / 5, 0.0, 5, 12))
    )


def _volumes(*levels):
    return [
        Volume(np.full((4, 5, 6), level, dtype=np.int16), np.diag([1.0, 2, 3, 1]), f"phase {level}") for level in levels
    ]


def _mask(voxels=slice(1, 3)):
    array = np.zeros((4, 5, 6), dtype=bool)
    array[voxels] = True
    return Volume(array, np.diag([1.0, 2, 3, 1]), "lesion")


@pytest.mark.parametrize(
    "levels, initial, late, initial_class, late_class, ser",
    [
        ((100, 140, 180), 40, 200 / 7, "slow", "persistent", 0.5),
        ((100, 180, 185), 80, 500 / 180, "medium", "plateau", 80 / 85),
        ((100, 250, 200), 150, -20, "fast", "washout", 1.5),
    ],
)
def test_segment_kinetics_of_known_signals(levels, initial, late, initial_class, late_class, ser):
    pre, *post = _volumes(*levels)
    figures = segment_kinetics(pre, post, _mask())
    assert figures.initial_enhancement_percent == pytest.approx(initial)
    assert figures.late_change_percent == pytest.approx(late)
    assert (figures.initial_class, figures.late_class) == (initial_class, late_class)
    assert figures.ser == pytest.approx(ser)
    assert figures.voxel_shares[late_class] == 1
    assert sum(figures.voxel_shares.values()) == pytest.approx(1)
    assert figures.voxels == 2 * 5 * 6


def test_one_phase_gives_no_late_figures_and_signal_free_voxels_are_left_out():
    pre, post = _volumes(100, 150)
    pre.array[1, 0, :3] = 0
    figures = segment_kinetics(pre, [post], _mask())
    assert figures.late_change_percent is None
    assert figures.ser is None
    assert figures.voxels == 57
    assert percent_enhancement(pre, post).array[1, 0, 0] == 0
    assert percent_enhancement(pre, post).array[0, 0, 0] == pytest.approx(50)


def test_bad_input_is_refused():
    pre, post = _volumes(100, 150)
    with pytest.raises(InputError, match="post-contrast phase"):
        segment_kinetics(pre, [], _mask())
    with pytest.raises(InputError, match="empty"):
        segment_kinetics(pre, [post], _mask(slice(0, 0)))
    with pytest.raises(InputError, match="grid"):
        segment_kinetics(pre, [Volume(post.array, np.eye(4), "moved")], _mask())
    with pytest.raises(InputError, match="grid"):
        segment_kinetics(pre, [post], Volume(_mask().array, np.eye(4), "moved"))
    with pytest.raises(InputError, match="no signal"):
        segment_kinetics(_volumes(0)[0], [post], _mask())
    bad = Volume(np.full((4, 5, 6), np.nan, dtype=np.float32), pre.ijk_to_ras, "broken")
    with pytest.raises(InputError, match="'broken' holds voxels that are not numbers"):
        percent_enhancement(pre, bad)


def test_real_case_agrees_with_its_published_figures(shared_data):
    """The published masks: voxels that enhance by more than 70 %, and of these the ones with a ratio over 0.9."""
    folder = shared_data / "segmentation" / "breast_dce_UCSF-BR-08"
    pre, post1, post2, mask = (
        read_volume(folder / f"UCSF-BR-08_{name}.nrrd") for name in ("pre", "post1", "post2", "ftv_mask")
    )
    inside = mask.array != 0
    assert (percent_enhancement(pre, post1).array[inside] > 70).mean() > 0.99
    ratio = signal_enhancement_ratio(pre, post1, post2).array[inside]
    published = json.loads((folder / "UCSF-BR-08_case.json").read_text())["published_ftv"][1]["voxels"]
    # the images are whole numbers, so that some voxels have exactly 0.9; the published count breaks ties its own way
    assert (ratio > 0.9 + 1e-6).sum() <= published <= (ratio > 0.9 - 1e-6).sum()
    assert published == 7779


def test_enhancement_ratio_without_late_enhancement_is_zero():
    pre, early, late = _volumes(100, 150, 100)
    assert (signal_enhancement_ratio(pre, early, late).array == 0).all()
    assert (signal_enhancement_ratio(pre, early, early).array == 1).all()
