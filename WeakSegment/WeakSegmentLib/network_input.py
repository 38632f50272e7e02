"""From an image in the patient to the array a network sees, and back: orientation, voxel size, intensities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume, from_sitk, to_sitk
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

CLIP_SD = 5.0
MAX_VOXELS = 2**29
"""Of a resampled image: 2 GiB as single precision."""


def to_network_grid(volume: Volume, spacing_mm: Sequence[float], labels: bool = False) -> Volume:
    """Return the volume on axes in standard order and direction, with the given voxel size.

    Parameters
    ----------
    volume : Volume
        Oblique grids stay oblique; each axis becomes the patient axis it is nearest to.
    spacing_mm : (3,) sequence of float, mm
        In array order (K, J, I).
    labels : bool
        Take the nearest voxel's value. Otherwise intensities: smoothed where voxels grow, then cubic.

    Raises
    ------
    InputError
        If the result would be too large.
    """
    image = sitk.DICOMOrient(to_sitk(volume), "LPS")
    old = np.array(image.GetSpacing())
    new = np.array(spacing_mm, dtype=np.float64)[::-1]
    size = np.maximum(1, np.floor(np.array(image.GetSize()) * old / new + 1e-6).astype(np.int64))
    if float(np.prod(size.astype(np.float64))) > MAX_VOXELS:
        raise InputError(
            f"'{volume.name}' would have {' x '.join(map(str, size))} voxels of {tuple(spacing_mm)} mm (K, J, I). "
            "Use larger voxels, or crop the image."
        )
    interpolator = sitk.sitkNearestNeighbor
    if not labels:
        interpolator = sitk.sitkBSpline if min(image.GetSize()) >= 4 else sitk.sitkLinear
        sigmas = np.maximum(0, (new / old - 1) / 2)[::-1]
        smooth = sitk.GetImageFromArray(gaussian_filter(sitk.GetArrayFromImage(image).astype(np.float32), sigmas))
        smooth.CopyInformation(image)
        image = smooth
    origin = image.TransformContinuousIndexToPhysicalPoint(((new / old - 1) / 2).tolist())
    resampled = sitk.Resample(
        image, size.tolist(), sitk.Transform(), interpolator, origin, new.tolist(), image.GetDirection()
    )
    return from_sitk(resampled, volume.name)


def from_network_grid(volume: Volume, like: Volume, name: str) -> Volume:
    """Return the volume on the grid of an image, tri-linear between voxel centers, 0 beyond its edge."""
    return from_sitk(sitk.Resample(to_sitk(volume), to_sitk(like), sitk.Transform(), sitk.sitkLinear), name)


def network_image(
    post: Volume, pre: Volume | None, channels: Sequence[str], spacing_mm: Sequence[float], normalization: str
) -> tuple[NDArray[np.float32], Volume]:
    """Return the normalized channels (C, K, J, I) and the resampled post-contrast volume, whose grid they share.

    Parameters
    ----------
    post, pre : Volume
        `pre` may be None unless a channel needs it.
    channels : sequence of str
        "post", "pre", "subtraction".
    spacing_mm : (3,) sequence of float, mm
    normalization : str
        "body" or "volume", see `TrainingSettings`. All channels share one mean and sd, those of `post`; a subtraction
        is divided by the sd only.

    Raises
    ------
    InputError
        If `pre` is missing or on another grid, a voxel is not a number, or the image is constant.
    """
    if pre is None and set(channels) - {"post"}:
        raise InputError(f"A pre-contrast image of '{post.name}' is needed for the channels {', '.join(channels)}.")
    if pre is not None and not post.same_grid(pre):
        raise InputError(f"'{pre.name}' is not on the grid of '{post.name}'. Resample it to that image first.")
    phases = {"post": post} if pre is None or set(channels) == {"post"} else {"post": post, "pre": pre}
    for phase in phases.values():
        if not np.isfinite(phase.array).all():
            count = int(np.count_nonzero(~np.isfinite(phase.array)))
            raise InputError(f"'{phase.name}' holds {count} voxel(s) that are not finite numbers. Re-export the image.")
    grids = {key: to_network_grid(phase, spacing_mm) for key, phase in phases.items()}
    arrays = {key: grid.array for key, grid in grids.items()}
    reference = arrays["post"]
    if normalization == "body":
        threshold = sitk.OtsuThresholdImageFilter()
        threshold.Execute(sitk.GetImageFromArray(reference))
        body = reference[reference > threshold.GetThreshold()]
    else:
        body = reference
    mean, sd = (float(body.mean(dtype=np.float64)), float(body.std(dtype=np.float64))) if body.size else (0.0, 0.0)
    if sd == 0:
        raise InputError(f"'{post.name}' is constant: there is nothing to learn from it.")
    limit = CLIP_SD if normalization == "body" else np.inf
    made = []
    for channel in channels:
        values = (arrays["post"] - arrays["pre"]) if channel == "subtraction" else (arrays[channel] - mean)
        made.append(np.clip(values / sd, -limit, limit).astype(np.float32))
    return np.stack(made), grids["post"]
