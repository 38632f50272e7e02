"""Small changes of one examination that a robust feature survives: rotation, shift, noise, volume and contour.

After Zwanenburg et al. 2019, "Assessing robustness of radiomic features by image perturbation",
doi 10.1038/s41598-018-36938-4. Rotation and shift move the analysis grid, so the image is interpolated once, as without
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume
from numpy.typing import NDArray
from scipy import ndimage

from RadiomicsPanelLib.grid import require_size, target_grid
from RadiomicsPanelLib.roi import CONTEXT_MM, Case, prepare_roi
from RadiomicsPanelLib.settings import Settings

KINDS = ("rotation", "shift", "noise", "volume", "contour")
MAX_ROTATION_DEG, MAX_VOLUME_CHANGE = 12.0, 0.2
MAX_COPIES = 200
_SPLINE_REACH = 32  # voxels; the cubic B-spline's prefilter decays by 0.27 per voxel
_NOISE_MARGIN = 10  # pixels around the region in which the noise is estimated
_NOISE_STENCIL = np.outer((1.0, -2.0, 1.0), (1.0, -2.0, 1.0))  # white noise of sigma gives 6 sigma
_MAD_TO_SIGMA = 1.482602218505602


@dataclass(frozen=True)
class Perturbation:
    """One set of changes, applied together.

    Attributes
    ----------
    rotation_deg : float
        Of the analysis grid, within the slices.
    shift_voxels : tuple of three float
        Of the analysis grid, in its own voxels (K, J, I).
    noise : bool
        Add Gaussian noise as strong as the image's own.
    volume_change : float
        Relative; the nearest voxels are added or the outermost removed.
    contour : bool
        Redraw the outline along supervoxels.
    seed : int
        Of the noise, the contour and the ties of the volume change.
    """

    rotation_deg: float = 0.0
    shift_voxels: tuple[float, float, float] = (0.0, 0.0, 0.0)
    noise: bool = False
    volume_change: float = 0.0
    contour: bool = False
    seed: int = 0


def draw_perturbations(count: int, seed: int = 0, kinds: Sequence[str] = KINDS) -> list[Perturbation]:
    """Return `count` random perturbations of the given kinds.

    Rotations are uniform within 12 degrees, shifts within a voxel, volume changes within 20 %.

    Raises
    ------
    InputError
        If the count is not 1 to 200 or a kind is unknown.
    """
    unknown = set(kinds) - set(KINDS)
    if unknown or not kinds:
        raise InputError(f"Perturbations are some of {', '.join(KINDS)}.")
    if not 1 <= count <= MAX_COPIES:
        raise InputError(f"{count} perturbed copies were asked for; choose 1 to {MAX_COPIES}, usually 20 to 30.")
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(count):
        angle, change = rng.uniform(-1, 1, 2) * (MAX_ROTATION_DEG, MAX_VOLUME_CHANGE)
        k, j, i = rng.uniform(0, 1, 3)
        own_seed = int(rng.integers(2**31))
        drawn.append(
            Perturbation(
                float(angle) if "rotation" in kinds else 0.0,
                (float(k), float(j), float(i)) if "shift" in kinds else (0.0, 0.0, 0.0),
                "noise" in kinds,
                float(change) if "volume" in kinds else 0.0,
                "contour" in kinds,
                own_seed,
            )
        )
    return drawn


def perturb(case: Case, settings: Settings, perturbation: Perturbation) -> tuple[Case, Settings]:
    """Return a changed case that already lies on the analysis grid, and the settings without resampling.

    Without a change the features are those of the case itself. With settings that keep the slices, slices are not
    mixed: the shift across them is left out.

    Raises
    ------
    InputError
        As `prepare_roi`, if nothing of the segment remains, or if scikit-image is missing for a contour.
    """
    rng = np.random.default_rng(perturbation.seed)
    source = prepare_roi(case, Settings(name=settings.name, discretization="bin_count", bin_count=2))
    mask = source.image.with_array(source.morphological_mask, case.mask.name)
    grid, shape = _moved_grid(case, mask, settings, perturbation)
    sigma = _noise_level(case.image, mask) if perturbation.noise else 0.0
    image = _sample_image(case.image, grid, shape, 3 if settings.interpolation == "cubic" else 1, sigma, rng)
    outside = _beyond(case.image, grid, shape)
    inside = _sample_mask(mask, grid, shape, "nearest") & ~outside
    if perturbation.volume_change:
        inside = change_volume(inside, image.spacing, perturbation.volume_change, rng)
    if perturbation.contour:
        inside = randomize_contour(inside, image, rng, case.title)
    if case.exclusion is not None:
        outside |= _sample_mask(case.exclusion, grid, shape, "constant")
    moved = replace(
        case,
        image=image,
        mask=image.with_array(inside, case.mask.name),
        label=None,
        exclusion=image.with_array(outside, "exclusion") if outside.any() else None,
    )
    return moved, replace(settings, spacing_kji_mm=None)


def estimate_noise(array: NDArray[np.floating]) -> float:
    """Return the standard deviation of the noise in slices of (K, J, I) intensities.

    The response to the difference of two Laplacians (Immerkaer 1996, doi 10.1006/cviu.1996.0060) is blind to linear
    gradients; its median absolute deviation is blind to edges.
    """
    if min(array.shape[1:]) < 3:
        return 0.0
    response = ndimage.correlate(array.astype(np.float64), _NOISE_STENCIL[None])[:, 1:-1, 1:-1]
    return float(_MAD_TO_SIGMA * np.median(np.abs(response - np.median(response))) / 6)


def change_volume(
    inside: NDArray[np.bool_], spacing: NDArray[np.float64], change: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Return the mask grown or shrunk to ``round(n (1 + change))`` voxels, at least one, by distance to its border."""
    distance = ndimage.distance_transform_edt(~inside, spacing) - ndimage.distance_transform_edt(inside, spacing)
    wanted = min(max(round(int(inside.sum()) * (1 + change)), 1), inside.size)
    order = np.lexsort((rng.random(inside.size), np.round(distance, 6).ravel()))
    changed = np.zeros(inside.size, dtype=bool)
    changed[order[:wanted]] = True
    return changed.reshape(inside.shape)


def randomize_contour(
    inside: NDArray[np.bool_], image: Volume, rng: np.random.Generator, title: str = "segment"
) -> NDArray[np.bool_]:
    """Return a mask made of supervoxels: kept from 90 % overlap, left out below 20 %, else by chance of the overlap.

    Supervoxels (SLIC) take a two-hundredth of the segment, at least 8 voxels.

    Raises
    ------
    InputError
        If scikit-image is missing or no supervoxel remains.
    """
    try:
        from skimage.segmentation import slic
    except ImportError as error:
        raise InputError("Contour perturbation needs scikit-image. Install it or leave out 'contour'.") from error
    low, high = np.percentile(image.array, (1, 99))
    scaled = np.clip((image.array - low) / (high - low), 0, 1) if high > low else np.zeros(image.shape)
    voxels = max(int(inside.sum()) / 200, 8)
    count = max(int(inside.size / voxels), 2)
    supervoxels = slic(scaled, count, compactness=0.05, channel_axis=None, spacing=image.spacing, start_label=0)
    overlap = np.bincount(supervoxels.ravel(), inside.ravel()) / np.maximum(np.bincount(supervoxels.ravel()), 1)
    kept = (overlap >= 0.9) | ((overlap >= 0.2) & (rng.random(len(overlap)) < overlap))
    if not kept.any():
        raise InputError(f"The {title} is too small to redraw its contour. Leave out 'contour' or the segment.")
    return kept[supervoxels]


def _moved_grid(
    case: Case, mask: Volume, settings: Settings, perturbation: Perturbation
) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """Return the moved analysis grid around the region, with what features and filters see around it.

    (4, 4) index (I, J, K) to RAS, and the shape (K, J, I).
    """
    image = case.image
    plain = target_grid(image, settings.spacing_kji_mm)
    size, spacing = plain.size, image.spacing * plain.step
    shift = np.array(perturbation.shift_voxels)
    if settings.spacing_kji_mm is not None and settings.spacing_kji_mm[0] is None:
        shift[0] = 0.0
    angle = np.deg2rad(perturbation.rotation_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    axes = image.ijk_to_ras[:3, :3] / image.spacing[::-1]
    grid = np.eye(4)
    grid[:3, :3] = axes @ turn @ np.diag(spacing[::-1])
    center = image.points_to_ras((np.array(image.shape)[::-1] - 1)[None] / 2)[0]
    grid[:3, 3] = center + grid[:3, :3] @ (shift - (size - 1) / 2)[::-1]
    centers = np.argwhere(mask.array)
    ends = np.array([centers.min(axis=0) - 1, centers.max(axis=0) + 1])
    corners = np.array([[ends[a, 2], ends[b, 1], ends[c, 0]] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
    at = Volume(np.zeros((1, 1, 1)), grid).points_to_ijk(mask.points_to_ras(corners))[:, ::-1]
    context = np.ceil(CONTEXT_MM / spacing)
    for chosen in settings.filters:
        context = np.maximum(context, size if chosen.boundary == "periodic" else chosen.reach(spacing))
    first = np.floor(at.min(axis=0)) - context
    shape = np.ceil(at.max(axis=0)) + context - first + 1
    require_size(shape, case.title)
    grid[:3, 3] += grid[:3, :3] @ first[::-1]
    k, j, i = (int(n) for n in shape)
    return grid, (k, j, i)


def _noise_level(image: Volume, mask: Volume) -> float:
    """Return the noise of the image around the region."""
    centers = image.points_to_ijk(mask.points_to_ras(np.argwhere(mask.array)[:, ::-1]))[:, ::-1]
    first = np.maximum(np.round(centers.min(axis=0)).astype(int) - (0, _NOISE_MARGIN, _NOISE_MARGIN), 0)
    last = np.round(centers.max(axis=0)).astype(int) + (1, _NOISE_MARGIN + 1, _NOISE_MARGIN + 1)
    return estimate_noise(image.array[tuple(slice(a, b) for a, b in zip(first, last, strict=True))])


def _index_map(grid: NDArray[np.float64], volume: Volume) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return matrix and offset from the grid's indices to the volume's, both in array order."""
    matrix = volume.ras_to_ijk @ grid
    return matrix[:3, :3][::-1, ::-1], matrix[:3, 3][::-1]


def _sample_image(
    image: Volume,
    grid: NDArray[np.float64],
    shape: tuple[int, int, int],
    order: int,
    sigma: float,
    rng: np.random.Generator,
) -> Volume:
    """Return the image, with noise added, interpolated once at the grid; edges are continued outward."""
    matrix, offset = _index_map(grid, image)
    corners = np.array([[k, j, i] for k in (0, 1) for j in (0, 1) for i in (0, 1)]) * (np.array(shape) - 1)
    at = corners @ matrix.T + offset
    reach = _SPLINE_REACH if order == 3 else 1
    limit = np.array(image.shape)
    first = np.clip(np.floor(at.min(axis=0)).astype(int) - reach, 0, limit - 1)
    last = np.clip(np.ceil(at.max(axis=0)).astype(int) + reach, 0, limit - 1)
    array = image.array[tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))].astype(np.float64)
    if sigma > 0:
        array = array + rng.normal(0.0, sigma, array.shape)
    sampled = ndimage.affine_transform(array, matrix, offset - first, shape, order=order, mode="nearest")
    return Volume(sampled, grid, image.name)


def _sample_mask(mask: Volume, grid: NDArray[np.float64], shape: tuple[int, int, int], mode: str) -> NDArray[np.bool_]:
    """Return where the mask is at least one half at the grid, by linear interpolation."""
    matrix, offset = _index_map(grid, mask)
    inside = (mask.array != 0).astype(np.float64)
    return ndimage.affine_transform(inside, matrix, offset, shape, order=1, mode=mode) >= 0.5 - 1e-9


def _beyond(image: Volume, grid: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Return which voxels of the grid lie beyond the image's outer faces."""
    matrix, offset = _index_map(grid, image)
    k, j, i = np.ogrid[tuple(slice(n) for n in shape)]
    beyond = np.zeros(shape, dtype=bool)
    for row, start, size in zip(matrix, offset, image.shape, strict=True):
        at = row[0] * k + row[1] * j + row[2] * i + start
        beyond |= (at < -0.5 - 1e-6) | (at > size - 0.5 + 1e-6)
    return beyond
