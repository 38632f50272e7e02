"""Unmixing finds the lesion's intensities though the ellipsoid holds background too."""

import numpy as np
import pytest
from WeakSegmentLib.posterior import measure, unmix


def mixture(lesion_mean, share, seed=0):
    """Return an image, an inside mask of which `share` is lesion, a background mask, and the lesion."""
    rng = np.random.default_rng(seed)
    image = rng.normal(100, 10, (20, 30, 40)).astype(np.float32)
    inside = np.zeros(image.shape, dtype=bool)
    inside[5:15, 8:22, 10:30] = True
    lesion = inside & (rng.random(image.shape) < share)
    image[lesion] += np.float32(lesion_mean - 100)
    return image, inside, ~inside, lesion


@pytest.mark.parametrize("lesion_mean", [40.0, 160.0])
@pytest.mark.parametrize("share", [0.6, 0.9])
def test_lesion_and_background_are_told_apart(lesion_mean, share):
    image, inside, background, lesion = mixture(lesion_mean, share)
    posterior = unmix(image, inside, background)
    assert posterior.contrast > 0.97
    assert posterior.probability[lesion].mean() > 0.95
    assert posterior.probability[background].mean() < 0.05
    assert posterior.probability[inside & ~lesion].mean() < 0.1


def test_without_contrast_the_posterior_says_nothing():
    posterior = unmix(*mixture(100.0, 0.7)[:3])
    assert posterior.contrast < 0.56
    assert abs(posterior.probability.mean() - 0.5) < 0.05


def test_contrast_equals_the_area_under_the_curve():
    # normal intensities one standard deviation apart, nothing to unmix: AUC = Phi(1 / sqrt(2)) = 0.760
    rng = np.random.default_rng(1)
    image = rng.normal(0, 1, (30, 40, 50)).astype(np.float32)
    inside = np.zeros(image.shape, dtype=bool)
    inside[:15] = True
    image[inside] += 1.0
    posterior = unmix(image, inside, ~inside)
    assert 0.76 <= posterior.contrast < 0.90  # half of the background histogram is taken out of the lesion's


def test_scale_and_offset_do_not_matter():
    image, inside, background, _ = mixture(130.0, 0.7)
    one, two = unmix(image, inside, background), unmix(7 * image + 100, inside, background)
    assert one.contrast == pytest.approx(two.contrast, abs=1e-4)
    assert np.mean(np.abs(one.probability - two.probability) > 1e-6) < 1e-3


def test_outliers_do_not_stretch_the_histogram():
    image, inside, background, lesion = mixture(160.0, 0.7)
    image[0, 0, 0], image[19, 29, 39] = 1e6, -1e6
    assert unmix(image, inside, background).probability[lesion].mean() > 0.95


def test_measured_histograms_tell_apart_what_unmixing_assumes_wrongly():
    # a lesion that fills a tenth of the ellipsoid: unmixing takes out too little background, the true labels do not
    image, inside, background, lesion = mixture(130.0, 0.1)
    assumed, measured = unmix(image, inside, background), measure(image, lesion, ~lesion)
    assert measured.contrast == pytest.approx(0.983, abs=0.03)  # Phi(3 / sqrt(2)), but for 24 bins
    assert measured.contrast > assumed.contrast + 0.1
    assert measured.probability[~lesion].mean() < assumed.probability[~lesion].mean()
