"""From coefficients to what is looked at: one-slice volumes in the plane, and the lesion against the background."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path
from BreastBiomarkersLib.volume import Volume
from numpy.typing import NDArray
from scipy import ndimage

from NIRSTReconstructionLib.plane import SliceGrid, distance_to_polygon, sample_volume, slice_grid
from NIRSTReconstructionLib.reconstruct import Reconstruction
from NIRSTReconstructionLib.spectra import MAP_NAMES

IMAGE_UNITS = {"hbo": "uM", "hbr": "uM", "water": "%", "hbt": "uM", "sto2": "%"}
"""The images of a reconstruction and their units, in the order in which they are shown."""

_CHROMOPHORES = 4  # the first of MAP_NAMES


class Contrast(NamedTuple):
    """Lesion against background for one quantity; standard errors from noise and prior, not from a wrong prior.

    Attributes
    ----------
    quantity : str
    unit : str
    lesion, background : float
        Means over the region.
    lesion_se, background_se : float
    ratio, ratio_se : float
        Lesion divided by background.
    """

    quantity: str
    unit: str
    lesion: float
    lesion_se: float
    background: float
    background_se: float
    ratio: float
    ratio_se: float


def image_grid(reconstruction: Reconstruction, pixel_mm: float = 1.0) -> SliceGrid:
    """Return the pixel grid that covers the body's outline with a margin of 2 mm."""
    return slice_grid(reconstruction.plane, reconstruction.outline_mm, pixel_mm)


def sample_on_grid(reconstruction: Reconstruction, grid: SliceGrid | None = None) -> dict[str, Volume]:
    """Return the images of `IMAGE_UNITS` as one-slice volumes lying in the plane.

    Pixels outside the body are 0. Inside, every quantity is positive (the inversion keeps it above a floor), so 0 marks
    "not body" without ambiguity, and a display threshold just above 0 makes the surroundings transparent; NaN would
    break window/level and histograms in most viewers.

    Parameters
    ----------
    reconstruction : Reconstruction
    grid : SliceGrid, optional
        Default: 1-mm pixels over the body.

    Returns
    -------
    dict of str to Volume
        float32: HbO, HbR, HbT in uM, water and StO2 in percent.
    """
    grid = grid or image_grid(reconstruction)
    points = grid.points_mm
    inside = distance_to_polygon(points, reconstruction.outline_mm) <= 0
    hbo, hbr, water = reconstruction.maps_at(points[inside])[:3]
    values = {"hbo": hbo, "hbr": hbr, "water": 100 * water, "hbt": hbo + hbr, "sto2": 100 * hbo / (hbo + hbr)}
    volumes = {}
    for name, value in values.items():
        image = np.zeros(len(points), dtype=np.float32)
        image[inside] = value
        volumes[name] = grid.volume(image, name)
    return volumes


def lesion_in_plane(mask: Volume, grid: SliceGrid) -> NDArray[np.bool_]:
    """Return which pixels (rows * columns,) of a plane lie in a 3-D lesion mask.

    Raises
    ------
    InputError
        If none does.
    """
    inside = sample_volume(mask, grid.plane.to_ras(grid.points_mm), nearest=True, outside=0.0) > 0
    if not inside.any():
        raise InputError(
            f"The image plane does not pass through the lesion '{mask.name}'. Move the plane, or leave the lesion out."
        )
    return inside


def contrast_table(reconstruction: Reconstruction, lesion: Volume, margin_mm: float = 5.0) -> list[Contrast]:
    """Return lesion and background means of every image quantity, their ratio, and standard errors.

    Background is the body farther than `margin_mm` from the lesion. StO2 of a region is that of its mean hemoglobin.
    Standard errors propagate the covariance of the coefficients (delta method); with Tikhonov or DRI they do not
    include the bias of the prior, which is why they are smaller than the true error there.

    Parameters
    ----------
    reconstruction : Reconstruction
    lesion : Volume
        Mask in the MRI's frame.
    margin_mm : float

    Raises
    ------
    InputError
        If the plane misses the lesion, or the lesion leaves no background.
    """
    means, covariance = region_means(reconstruction, lesion, margin_mm)
    values, errors = _readings(means), propagated(_readings, means, covariance)
    return [
        Contrast(quantity, unit, *np.column_stack([values[n], errors[n]]).ravel().tolist())
        for n, (quantity, unit) in enumerate(IMAGE_UNITS.items())
    ]


def region_means(
    reconstruction: Reconstruction, lesion: Volume, margin_mm: float = 5.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean chromophores of lesion and background, and their covariance from noise and prior.

    Parameters
    ----------
    reconstruction : Reconstruction
    lesion : Volume
        Mask in the MRI's frame.
    margin_mm : float
        Background is the body farther than this from the lesion.

    Returns
    -------
    means : (8,) ndarray
        HbO uM, HbR uM, water fraction, lipid fraction of the lesion, then of the background.
    covariance : (8, 8) ndarray
        Zero for what was not fitted.

    Raises
    ------
    InputError
        If the plane misses the lesion, or the lesion leaves no background.
    """
    grid = image_grid(reconstruction)
    points = grid.points_mm
    body = distance_to_polygon(points, reconstruction.outline_mm) <= 0
    inside = lesion_in_plane(lesion, grid)
    away = ndimage.distance_transform_edt(~inside.reshape(grid.shape)).ravel() * grid.pixel_mm > margin_mm
    if not (inside & body).any():
        raise InputError(f"The lesion '{lesion.name}' lies outside the body's outline in the plane. Check geometry.")
    if (away & body).sum() < 50:
        raise InputError(f"The lesion '{lesion.name}' fills the plane: no background is left to compare with.")
    bulk = reconstruction.bulk.tissue.values()
    count = reconstruction.basis.count
    means = np.tile(bulk[:_CHROMOPHORES], 2)
    to_means = np.zeros((means.size, reconstruction.coefficients.size))
    for r, region in enumerate((inside & body, away & body)):
        weight = np.asarray(reconstruction.basis.at(points[region]).mean(axis=0)).ravel()
        for p, name in enumerate(reconstruction.settings.parameters):
            row = MAP_NAMES.index(name)
            if row < _CHROMOPHORES:
                at = _CHROMOPHORES * r + row
                to_means[at, p * count : (p + 1) * count] = bulk[row] * weight
                means[at] = to_means[at] @ reconstruction.coefficients.ravel()
    return means, to_means @ reconstruction.covariance @ to_means.T


def propagated(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    values: NDArray[np.float64],
    covariance: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the standard errors of ``function(values)`` by the delta method, with central differences."""
    steps = np.diag(1e-5 * np.maximum(np.abs(values), 1e-3))
    gradient = np.stack([(function(values + s) - function(values - s)) / (2 * s.sum()) for s in steps], axis=-1)
    return np.asarray(np.sqrt(np.einsum("...m,mn,...n->...", gradient, covariance, gradient).clip(min=0)))


def write_contrast(rows: list[Contrast], path: str | Path) -> None:
    """Write the contrast table as CSV."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Contrast._fields)
        for row in rows:
            writer.writerow([cell if isinstance(cell, str) else f"{cell:.6g}" for cell in row])


def write_residual(reconstruction: Reconstruction, path: str | Path) -> None:
    """Write the data, the model and their difference per channel as CSV; distances in mm, logarithms natural."""
    residual, used = reconstruction.residual, reconstruction.measurements
    distances = reconstruction.model.optodes.distances
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "source",
                "detector",
                "wavelength_nm",
                "distance_mm",
                "log_measured",
                "log_model",
                "residual",
                "sd",
                "active",
            ]
        )
        for w, nm in enumerate(used.wavelengths_nm):
            for c, (source, detector) in enumerate(used.channels):
                numbers = (
                    distances[c],
                    used.log_amplitude[w, c],
                    reconstruction.predicted[w, c],
                    residual[w, c],
                    used.sd[w, c],
                )
                cells = ["" if math.isnan(number) else f"{number:.6g}" for number in numbers]
                writer.writerow([source, detector, f"{nm:g}", *cells, int(used.active[w, c])])


def _readings(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return lesion, background and their ratio (5, 3) of every image quantity from `region_means`."""
    hbo, hbr, water, _ = means.reshape(2, _CHROMOPHORES).T
    quantities = np.stack([hbo, hbr, 100 * water, hbo + hbr, 100 * hbo / (hbo + hbr)])
    return np.column_stack([quantities, quantities[:, 0] / quantities[:, 1]])
