"""Image scores against hand values and scikit-image; contrast against its definition; refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from NIRSTReconstructionLib.metrics import lesion_contrast, score_image, structural_similarity


@pytest.fixture
def body():
    y, x = np.mgrid[:30, :40]
    return (x - 20) ** 2 + (y - 14) ** 2 <= 12**2


def test_hand_values_in_both_areas(body):
    truth = np.where(body, 30.0, 7.0)  # what lies outside the body must not count
    truth[14, 20] = 40.0
    image = truth + np.where(body, 0.5, 99.0)
    inside = score_image(image, truth, body)
    assert inside.mse == pytest.approx(0.25)
    assert inside.psnr == pytest.approx(10 * math.log10(40**2 / 0.25))
    square = score_image(image, truth, body, "square")
    assert square.mse == pytest.approx(0.25 * body.mean())
    assert square.psnr == pytest.approx(inside.psnr - 10 * math.log10(body.mean()))


def test_equal_images(body):
    truth = np.where(body, np.arange(40.0), 0.0)
    scores = score_image(truth, truth, body)
    assert scores == (0.0, math.inf, pytest.approx(1.0))


def test_structural_similarity_is_that_of_scikit_image(body):
    skimage_metrics = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(0)
    truth = np.where(body, rng.normal(20, 3, body.shape), 0.0)
    image = truth + rng.normal(0, 2, body.shape)
    span = float(np.ptp(truth))
    reference, per_pixel = skimage_metrics.structural_similarity(truth, image, win_size=7, data_range=span, full=True)
    assert structural_similarity(image, truth) == pytest.approx(reference, rel=1e-10)
    inner = body.copy()
    inner[:3] = inner[-3:] = False
    assert structural_similarity(image, truth, body) == pytest.approx(per_pixel[inner].mean(), rel=1e-10)


def test_contrast(body):
    lesion = np.zeros_like(body)
    lesion[10:14, 18:24] = True
    image = np.where(lesion, 21.0, 12.0)
    assert lesion_contrast(image, lesion, body) == pytest.approx(0.75)


def test_bad_input(body):
    truth = np.where(body, 20.0, 0.0)
    broken = truth.copy()
    broken[14, 20] = np.nan
    lesion = np.zeros_like(body)
    for call, words in (
        (lambda: score_image(truth[1:], truth, body), "not of one 2-D shape"),
        (lambda: score_image(broken, truth, body), "not a number"),
        (lambda: score_image(truth, truth, np.zeros_like(body)), "body is empty"),
        (lambda: score_image(truth, truth, body, "disc"), "Unknown area"),
        (lambda: structural_similarity(truth[:5, :5], truth[:5, :5]), "at least 7 x 7"),
        (lambda: lesion_contrast(truth, lesion, body), "needs a lesion"),
        (lambda: lesion_contrast(truth, body, body), "background around it"),
        (lambda: lesion_contrast(-truth, ~lesion & (truth > 0) & (np.arange(40) > 20), body), "positive"),
    ):
        with pytest.raises(InputError, match=words):
            call()
    outside = np.where(body, truth, np.nan)  # not a number outside of the body is no fault
    assert score_image(outside, truth, body).mse == 0
