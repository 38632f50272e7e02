"""The filtered images of pyradiomics, as it makes them: over the whole image, in its own scales and names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
import SimpleITK as sitk
from BreastBiomarkersLib.errors import InputError
from numpy.typing import NDArray

from RadiomicsPanelLib.filters import WAVELETS, Wavelet

IMAGE_TYPES: dict[str, tuple[str, ...]] = {
    "Original": (),
    "LoG": ("sigma",),
    "Wavelet": ("wavelet", "level", "start_level"),
    "Square": (),
    "SquareRoot": (),
    "Logarithm": (),
    "Exponential": (),
    "Gradient": ("gradientUseSpacing",),
}
"""Image type of a parameter file -> the settings it may have, beside `binWidth` and `binCount`."""


def filtered_images(image: sitk.Image, kind: str, options: Mapping[str, Any]) -> Iterator[tuple[str, sitk.Image]]:
    """Yield the images of one image type with their names in the columns ("log-sigma-2-0-mm-3D").

    Parameters
    ----------
    image : SimpleITK.Image
        Normalized and resampled as for the original.
    kind : str
        Of `IMAGE_TYPES`.
    options : mapping
        Its settings.

    Raises
    ------
    InputError
        If a setting is one that is not reproduced, or the image is too small for it.
    """
    if kind == "Original":
        yield "original", image
    elif kind == "LoG":
        yield from _laplacians(image, options.get("sigma", []))
    elif kind == "Wavelet":
        yield from _wavelets(image, options)
    elif kind == "Gradient":
        gradient = sitk.GradientMagnitudeImageFilter()
        gradient.SetUseImageSpacing(bool(options.get("gradientUseSpacing", True)))
        yield "gradient", gradient.Execute(image)
    else:
        array = sitk.GetArrayFromImage(image).astype(np.float64)
        changed = sitk.GetImageFromArray(_POINTWISE[kind](array, float(np.abs(array).max())))
        changed.CopyInformation(image)
        yield kind.lower(), changed


def _laplacians(image: sitk.Image, sigmas: Any) -> Iterator[tuple[str, sitk.Image]]:
    sigmas = sigmas if isinstance(sigmas, list | tuple) else [sigmas]
    if not sigmas or not all(isinstance(s, int | float) and s > 0 for s in sigmas):
        raise InputError("LoG needs 'sigma', a list of widths in mm above 0.")
    for sigma in sigmas:
        if (
            min(image.GetSize()) < 4
            or (np.array(image.GetSize()) < np.ceil(sigma / np.array(image.GetSpacing())) + 1).any()
        ):
            raise InputError(f"The image is too small for LoG with a sigma of {sigma:g} mm.")
        laplacian = sitk.LaplacianRecursiveGaussianImageFilter()
        laplacian.SetNormalizeAcrossScale(True)
        laplacian.SetSigma(sigma)
        yield f"log-sigma-{str(sigma).replace('.', '-')}-mm-3D", laplacian.Execute(image)


def _wavelets(image: sitk.Image, options: Mapping[str, Any]) -> Iterator[tuple[str, sitk.Image]]:
    wavelet = options.get("wavelet", "coif1")
    if wavelet not in WAVELETS or options.get("level", 1) != 1 or options.get("start_level", 0) != 0:
        raise InputError(f"Wavelet is reproduced for the first level of {', '.join(WAVELETS)} only.")
    array = sitk.GetArrayFromImage(image).astype(np.float64)
    even = np.pad(array, [(0, n % 2) for n in array.shape], mode="wrap")
    bands = ["".join(letters) for letters in product("LH", repeat=3)]
    for band in [*bands[1:], bands[0]]:
        response = Wavelet(wavelet=wavelet, band=band, boundary="periodic").apply(even, np.ones(3))
        changed = sitk.GetImageFromArray(response[tuple(slice(n) for n in array.shape)])
        changed.CopyInformation(image)
        yield f"wavelet-{band}", changed


def _square(x: NDArray[np.float64], largest: float) -> NDArray[np.float64]:
    return (x / np.sqrt(largest)) ** 2


def _square_root(x: NDArray[np.float64], largest: float) -> NDArray[np.float64]:
    return np.sign(x) * np.sqrt(np.abs(x) * largest)


def _logarithm(x: NDArray[np.float64], largest: float) -> NDArray[np.float64]:
    logarithm = np.sign(x) * np.log(np.abs(x) + 1)
    return logarithm * (largest / np.abs(logarithm).max())


def _exponential(x: NDArray[np.float64], largest: float) -> NDArray[np.float64]:
    return np.exp(np.log(largest) / largest * x)


_POINTWISE = {
    "Square": _square,
    "SquareRoot": _square_root,
    "Logarithm": _logarithm,
    "Exponential": _exponential,
}
