"""How good an image is: the paper's three figures in both readings, and the lesion's contrast, which they do not see.

The paper (Feng 2022, doi 10.1364/OPTICA.446576) does not say over which pixels its figures are taken: `body` counts
those of the body, `square` the whole image with 0 outside the body in both images, as a plain script would.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from BreastBiomarkersLib.errors import InputError
from numpy.typing import NDArray
from scipy import ndimage

AREAS = ("body", "square")
SSIM_WINDOW = 7
_K1, _K2 = 0.01, 0.03


class ImageScores(NamedTuple):
    """Agreement of one image with the truth.

    Attributes
    ----------
    mse : float
        Mean squared error, in the image's unit squared.
    psnr : float, dB
        10 log10(peak^2 / mse), peak the largest true value; infinite for equal images.
    ssim : float
        Mean structural similarity.
    """

    mse: float
    psnr: float
    ssim: float


def score_image(
    image: NDArray[np.float64], truth: NDArray[np.float64], body: NDArray[np.bool_], area: str = "body"
) -> ImageScores:
    """Return the agreement of an image (Y, X) with the truth over the pixels of `body` or the whole square.

    Raises
    ------
    InputError
        If the shapes differ, the body is empty, a value is not finite, or the area is unknown.
    """
    image, truth = (np.asarray(values, dtype=np.float64) for values in (image, truth))
    if area not in AREAS:
        raise InputError(f"Unknown area '{area}'; choose one of {', '.join(AREAS)}.")
    if not image.shape == truth.shape == body.shape or image.ndim != 2:
        raise InputError(f"Image {image.shape}, truth {truth.shape} and body {body.shape} are not of one 2-D shape.")
    if not body.any():
        raise InputError("The body is empty: there is nothing to compare.")
    if not (np.isfinite(image[body]).all() and np.isfinite(truth[body]).all()):
        raise InputError("An image has a value that is not a number inside the body.")
    image, truth = np.where(body, image, 0.0), np.where(body, truth, 0.0)
    over = body if area == "body" else np.ones_like(body)
    mse = float(np.mean((image[over] - truth[over]) ** 2))
    peak = float(truth[over].max())
    psnr = math.inf if mse == 0 else 10 * math.log10(peak**2 / mse) if peak > 0 else -math.inf
    return ImageScores(mse, psnr, structural_similarity(image, truth, over))


def structural_similarity(
    image: NDArray[np.float64], truth: NDArray[np.float64], over: NDArray[np.bool_] | None = None
) -> float:
    """Return the mean structural similarity of two images (Y, X) over some pixels.

    Notes
    -----
    Uniform windows of 7 x 7 pixels, data range L = max - min of the truth, sample covariances, C1 = (0.01 L)^2 and
    C2 = (0.03 L)^2; windows that leave the image are not counted (Wang 2004, doi 10.1109/TIP.2003.819861). A constant
    truth has no range: 1 for an equal image, else 0.

    Raises
    ------
    InputError
        If the images are smaller than a window, or no pixel is left.
    """
    if min(image.shape) < SSIM_WINDOW:
        raise InputError(f"Structural similarity needs images of at least {SSIM_WINDOW} x {SSIM_WINDOW} pixels.")
    span = float(truth.max() - truth.min())
    if span == 0:
        return float(np.array_equal(image, truth))
    count = SSIM_WINDOW**2

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(ndimage.uniform_filter(values, SSIM_WINDOW))

    of_image, of_truth = mean(image), mean(truth)
    sample = count / (count - 1)
    var_image = sample * (mean(image * image) - of_image**2)
    var_truth = sample * (mean(truth * truth) - of_truth**2)
    covariance = sample * (mean(image * truth) - of_image * of_truth)
    c1, c2 = (_K1 * span) ** 2, (_K2 * span) ** 2
    similarity = ((2 * of_image * of_truth + c1) * (2 * covariance + c2)) / (
        (of_image**2 + of_truth**2 + c1) * (var_image + var_truth + c2)
    )
    edge = SSIM_WINDOW // 2
    inside = np.zeros(image.shape, dtype=bool)
    inside[edge:-edge, edge:-edge] = True
    if over is not None:
        inside &= over
    if not inside.any():
        raise InputError("No pixel is left for structural similarity.")
    return float(similarity[inside].mean())


def lesion_contrast(image: NDArray[np.float64], lesion: NDArray[np.bool_], body: NDArray[np.bool_]) -> float:
    """Return mean(lesion) / mean(body without lesion) - 1; 0 means that the lesion is like the rest.

    Raises
    ------
    InputError
        If lesion or background is empty, or the background's mean is not positive.
    """
    inside, outside = lesion & body, body & ~lesion
    if not (inside.any() and outside.any()):
        raise InputError("The contrast needs a lesion inside the body and a background around it.")
    background = float(np.mean(image[outside]))
    if not background > 0:
        raise InputError(f"The background's mean is {background:g}; a contrast needs a positive one.")
    return float(np.mean(image[inside])) / background - 1
