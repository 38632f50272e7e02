"""The two ways from six points to a score map: this extension's own and the published one, each read top to bottom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Progress, portion
from BreastBiomarkersLib.volume import Volume
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_fill_holes, gaussian_filter, label

from WeakSegmentLib.points import ExtremePoints
from WeakSegmentLib.posterior import Posterior, measure, unmix
from WeakSegmentLib.pseudo_mask import Label, make_pseudo_mask
from WeakSegmentLib.random_walk import Graph, Marker, Walk, noise_scaled_graph, published_graph, repeat_walk
from WeakSegmentLib.scribbles import cheapest_path
from WeakSegmentLib.settings import PublishedSettings, RandomWalkSettings, Settings
from WeakSegmentLib.working_grid import WorkingGrid

CUBE = np.ones((3, 3, 3), dtype=bool)

MAX_WALKED_VOXELS = 8_000_000
"""Voxels of one walk, which takes about 0.2 kB for each. Measured peaks for a lesion of 160 x 160 x 80 voxels
(Testing/benchmarks/weaksegment_speed.csv): 0.69 GB for the 3.5 million with its surroundings, 0.77 GB for the 3.9
million of the published method. So this limit stays below 2 GB."""

MAX_CROP_VOXELS = 500_000_000
"""Image voxels around the lesion that are read and made coarser; they take some bytes for each."""

MIN_MEASURED_VOXELS = 20
"""Fewer working voxels than this make no histogram."""


class Click(NamedTuple):
    """A correction: this place is lesion (`tumor`), or is not.

    Attributes
    ----------
    position_ras : tuple of 3 float, mm
    tumor : bool
    """

    position_ras: tuple[float, float, float]
    tumor: bool


class CropResult(NamedTuple):
    """What a method found on its crop of the image.

    Attributes
    ----------
    crop : tuple of 3 slice
        Where the crop lies in the image.
    mask : (K, J, I) ndarray of bool
    labels : (K, J, I) ndarray of uint8
        `Label` values.
    score : (K, J, I) ndarray, in [0, 1]
    contrast : float or None
    notes : dict
        What was decided and computed on the way, ready for JSON.
    """

    crop: tuple[slice, ...]
    mask: NDArray[np.bool_]
    labels: NDArray[np.uint8]
    score: NDArray[np.float32]
    contrast: float | None
    notes: dict[str, Any]


def crop_intensities(volume: Volume, pre: Volume | None, crop: tuple[slice, ...]) -> NDArray[np.float32]:
    """Return the crop of the image, minus that of the pre-contrast image, as floats.

    Raises
    ------
    InputError
        If a voxel is not a finite number.
    """
    image = volume.array[crop].astype(np.float32)
    if pre is not None:
        image -= pre.array[crop].astype(np.float32)
    what = f"'{volume.name}'" if pre is None else f"'{volume.name}' minus '{pre.name}'"
    bad = np.argwhere(~np.isfinite(image))
    if len(bad):
        k, j, i = (int(n) + s.start for n, s in zip(bad[0], crop, strict=True))
        raise InputError(
            f"{what} holds {len(bad)} voxel(s) that are not finite numbers near the lesion, the first at I {i}, J {j}, "
            f"K {k}. Repair or re-export the image."
        )
    return image


def crop_of(points: ExtremePoints, volume: Volume, settings: Settings) -> tuple[slice, ...]:
    """Return the only part of the image that a method reads, as an index into its array."""
    if isinstance(settings, PublishedSettings):
        margin = np.array(settings.margin_kji)
        start = np.maximum(0, points.box_start_kji - margin)
        stop = np.minimum(volume.shape, points.box_stop_kji - 1 + margin)
        return tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return WorkingGrid.around(points, volume.shape, volume.spacing, settings.longest_side).crop


def require_memory(points: ExtremePoints, volume: Volume, settings: Settings) -> None:
    """Require that what a method keeps in memory has a size that a desktop computer has room for.

    Raises
    ------
    InputError
        If the box of the points and its surroundings are too large for the method.
    """
    crop = crop_of(points, volume, settings)
    read = math.prod(s.stop - s.start for s in crop)
    if isinstance(settings, PublishedSettings):
        walked, advice = read, "Use the random-walk method, which works on a coarser grid."
    else:
        grid = WorkingGrid.around(points, volume.shape, volume.spacing, settings.longest_side)
        walked, advice = math.prod(grid.shape), "Choose fewer working voxels along the longest side."
    for count, most, what in (
        (read, MAX_CROP_VOXELS, "Resample the image first."),
        (walked, MAX_WALKED_VOXELS, advice),
    ):
        if count > most:
            raise InputError(
                f"The box of the six points and its surroundings hold {count / 1e6:.0f} million voxels; this method "
                f"takes {most / 1e6:.0f} million. {what}"
            )


def _require_contrast(image: NDArray[np.float32], volume: Volume) -> None:
    if np.ptp(image) == 0:
        raise InputError(
            f"'{volume.name}' is constant ({image.flat[0]:g}) around the points, after subtraction if any: "
            "there is nothing to segment. Check which image was chosen."
        )


def walk_on_posterior(
    volume: Volume,
    pre: Volume | None,
    points: ExtremePoints,
    clicks: Sequence[Click],
    settings: RandomWalkSettings,
    progress: Progress,
    others: Volume | None = None,
) -> CropResult:
    """Return the lesion by this extension's method: scribbles on the intensity posterior, noise-scaled walker."""
    grid = WorkingGrid.around(points, volume.shape, volume.spacing, settings.longest_side)
    image = grid.coarsen(crop_intensities(volume, pre, grid.crop))
    _require_contrast(image, volume)
    in_box, radius = grid.box_mask(), grid.ellipsoid_radius()

    progress(0.02, "Comparing intensities inside and outside")
    outside = ~in_box | (radius > settings.background_radius)
    posterior = unmix(image, in_box & (radius < 1), outside)
    taken = None if others is None else others.array[grid.crop] != 0
    pinned = _pinned_markers(grid, volume, points, clicks, taken, settings)
    graph = noise_scaled_graph(image, grid.spacing, grid.box, settings.noise_multiple)
    passes = 1 + (settings.remeasurements if _excludes(posterior, settings) else 0)
    stages = [portion(progress, 0.05 + 0.9 * n / passes, 0.05 + 0.9 * (n + 1) / passes) for n in range(passes)]
    contrast = posterior.contrast
    walk = _walk_once(grid, image, posterior, pinned, graph, volume, settings, stages[0])
    solves = walk.solves
    near = grid.box_mask(grow=settings.background_margin_voxels) & (pinned == Marker.UNKNOWN)
    for stage in stages[1:]:
        lesion = near & in_box & (walk.score > settings.tumor_above)
        rest = near & (walk.score <= settings.background_below)
        if min(np.count_nonzero(lesion), np.count_nonzero(rest)) < MIN_MEASURED_VOXELS:
            break
        posterior = measure(image, lesion, rest)
        walk = _walk_once(grid, image, posterior, pinned, graph, volume, settings, stage)
        solves = solves + walk.solves

    progress(0.95, "Writing the mask on the image grid")
    score = grid.refine(walk.score)
    box = box_on_crop(points, grid.crop)
    labels = make_pseudo_mask(score, box, settings.tumor_above, settings.background_below)
    grown = box_on_crop(points, grid.crop, grow=1)  # a click one slice off costs most on lesions of three slices
    mask = np.zeros(score.shape, dtype=bool)
    mask[grown] = score[grown] > settings.segment_above
    clicked = np.zeros(score.shape, dtype=bool)
    clicked[tuple(_voxels_of_clicks(volume, grid.crop, [click for click in clicks if not click.tumor]).T)] = True
    mask[grown] |= _holes(mask[grown], but_not=clicked[grown])
    if taken is not None:
        mask &= ~taken
        labels[taken] = Label.BACKGROUND
    notes = {
        "contrast": contrast,
        "non_enhancing_excluded": bool(_excludes(posterior, settings)),
        "working_voxel_mm": grid.spacing.tolist(),
        "working_shape": list(grid.shape),
        "solves": solves,
    }
    return CropResult(grid.crop, mask, labels, score, contrast, notes)


def _excludes(posterior: Posterior, settings: RandomWalkSettings) -> bool:
    return settings.exclude_non_enhancing and posterior.contrast > settings.exclusion_min_contrast


def _walk_once(
    grid: WorkingGrid,
    image: NDArray[np.float32],
    posterior: Posterior,
    pinned: NDArray[np.int8],
    graph: Graph,
    volume: Volume,
    settings: RandomWalkSettings,
    progress: Progress,
) -> Walk:
    """Return the repeated walk from scribbles and background that follow from a posterior."""
    progress(0.0, "Drawing scribbles")
    likely = gaussian_filter(posterior.probability, settings.path_smoothing_voxels)
    markers = np.full(grid.shape, Marker.UNKNOWN, dtype=np.int8)
    markers[grid.ellipsoid_radius() > settings.background_radius] = Marker.BACKGROUND
    data_weight = settings.data_weight
    if _excludes(posterior, settings):
        markers[grid.box_mask() & (likely < settings.exclusion_below)] = Marker.BACKGROUND
        data_weight = settings.exclusion_data_weight
    markers[_draw_scribbles(grid, 1 + settings.path_weight * (1 - likely), settings)] = Marker.TUMOR
    markers[~grid.box_mask(grow=settings.background_margin_voxels)] = Marker.BACKGROUND
    _require_background(markers, volume)
    return repeat_walk(
        graph,
        markers,
        pinned,
        settings.repetitions,
        settings.tumor_above,
        settings.background_below,
        pull=data_weight * (2 * posterior.contrast - 1) ** 2,
        target=posterior.probability,
        progress=portion(progress, 0.1, 1.0),
        device=settings.device,
    )


def walk_as_published(
    volume: Volume,
    pre: Volume | None,
    points: ExtremePoints,
    clicks: Sequence[Click],
    settings: PublishedSettings,
    progress: Progress,
) -> CropResult:
    """Return the initial mask as Zhong and Wang (MICCAI 2023) compute it, on the image's own grid.

    Scribbles are paths of least summed Sobel gradient (unit spacing); the walker's links are those of scikit-image,
    exp(-beta d^2 / (10 sd h^2)) + 1e-10, which grow with the spacing h and are not invariant to the intensity scale.
    Two faults of the authors' code are repaired: lesions near the low edge and at the high edge of the image work.
    Each solve is converged to 1e-5 instead of at most 30 multigrid cycles to 1e-3.

    Raises
    ------
    InputError
        If corrective clicks are given, which this method does not know, or no intensity near the lesion is positive.
    """
    if clicks:
        raise InputError("The published method knows no corrective clicks. Use the random-walk method.")
    crop = crop_of(points, volume, settings)
    start = np.array([s.start for s in crop])
    image = crop_intensities(volume, pre, crop)
    _require_contrast(image, volume)
    if image.max() <= 0:
        raise InputError(
            f"'{volume.name}' has no positive intensity near the lesion, which the published method needs."
        )

    progress(0.02, "Drawing scribbles")
    gradient = sitk.GetArrayFromImage(sitk.SobelEdgeDetection(sitk.GetImageFromArray(image)))
    gradient += 1e-6 * gradient.max()  # among equal paths through flat regions the shortest
    scribbles = np.zeros(image.shape, dtype=bool)
    for axis in range(3):
        progress(0.02 + 0.1 * axis, "Drawing scribbles")
        low, high = points.voxels_kji[2 * axis : 2 * axis + 2] - start
        scribbles[tuple(cheapest_path(gradient, low, high, spacing=None).T)] = True
    markers = np.full(image.shape, Marker.UNKNOWN, dtype=np.int8)
    markers[binary_dilation(scribbles, CUBE)] = Marker.TUMOR
    near = np.zeros(image.shape, dtype=bool)
    low = np.maximum(0, points.box_start_kji - settings.background_margin_voxels - start)
    high = points.box_stop_kji - 1 + settings.background_margin_voxels - start
    near[tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))] = True
    markers[~near] = Marker.BACKGROUND
    _require_background(markers, volume)

    scaled = (image - image.min()) / image.max()
    walk = repeat_walk(
        published_graph(scaled, volume.spacing, settings.beta, settings.min_conductance),
        markers,
        np.zeros_like(markers),
        settings.repetitions,
        settings.tumor_above,
        settings.background_below,
        progress=portion(progress, 0.3, 0.98),
        device=settings.device,
    )
    labels = make_pseudo_mask(walk.score, box_on_crop(points, crop), settings.tumor_above, None)
    return CropResult(crop, labels == Label.TUMOR, labels, walk.score, None, {"solves": walk.solves})


def _draw_scribbles(grid: WorkingGrid, cost: NDArray[np.float32], settings: RandomWalkSettings) -> NDArray[np.bool_]:
    """Return the three thickened paths between opposite points, all inside the box."""
    first = np.array([s.start for s in grid.box])
    inside = np.zeros([s.stop - s.start for s in grid.box], dtype=bool)
    for axis in range(3):
        low, high = grid.point_voxels[2 * axis : 2 * axis + 2] - first
        inside[tuple(cheapest_path(cost[grid.box], low, high, grid.spacing).T)] = True
    thick = [3 if size >= settings.thicken_from_voxels else 1 for size in inside.shape]
    scribbles = np.zeros(grid.shape, dtype=bool)
    scribbles[grid.box] = binary_dilation(inside, np.ones(thick, dtype=bool))
    return scribbles


def _pinned_markers(
    grid: WorkingGrid,
    volume: Volume,
    points: ExtremePoints,
    clicks: Sequence[Click],
    taken: NDArray[np.bool_] | None,
    settings: RandomWalkSettings,
) -> NDArray[np.int8]:
    """Return the markers that hold through all solves; later ones win: other lesions, balls around clicks, points."""
    pinned = np.full(grid.shape, Marker.UNKNOWN, dtype=np.int8)
    if taken is not None:
        pinned[grid.coarsen(taken.astype(np.float32)) > 0.5] = Marker.BACKGROUND
    box_mm = (points.box_stop_kji - points.box_start_kji) * volume.spacing
    radius_mm = settings.click_radius_share * box_mm.max()
    box = grid.box_mask()
    for n, click in enumerate(clicks):
        at = volume.points_to_ijk(np.array([click.position_ras]))[0, ::-1]
        at = (at - grid.start - (grid.factors - 1) / 2) / grid.factors
        squares = [((np.arange(grid.shape[a]) - at[a]) * grid.spacing[a]) ** 2 for a in range(3)]
        ball = squares[0][:, None, None] + squares[1][:, None] + squares[2] <= radius_mm**2
        nearest = np.rint(at).astype(np.int64)
        if np.all((nearest >= 0) & (nearest < grid.shape)):
            ball[tuple(nearest)] = True
        if click.tumor:
            ball &= box
            if not ball.any():
                raise InputError(
                    f"Corrective click {n + 1} marks lesion outside the box of the six points. "
                    "Move the extreme points outward first."
                )
        pinned[ball] = Marker.TUMOR if click.tumor else Marker.BACKGROUND
    pinned[tuple(grid.point_voxels.T)] = Marker.TUMOR
    return pinned


def _voxels_of_clicks(volume: Volume, crop: tuple[slice, ...], clicks: Sequence[Click]) -> NDArray[np.int64]:
    """Return the voxels (n, 3) of the clicks that lie on the crop, as indices into it."""
    positions = np.array([click.position_ras for click in clicks]).reshape(-1, 3)
    voxels = np.rint(volume.points_to_ijk(positions)[:, ::-1]).astype(np.int64)
    on_crop = [(voxels[:, a] >= s.start) & (voxels[:, a] < s.stop) for a, s in enumerate(crop)]
    return voxels[np.all(on_crop, axis=0)] - [s.start for s in crop]


def _holes(mask: NDArray[np.bool_], but_not: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the holes of a mask, except those that hold a given voxel."""
    holes: NDArray[np.bool_] = binary_fill_holes(mask) & ~mask
    if (holes & but_not).any():
        numbers, _ = label(holes)
        holes &= ~np.isin(numbers, numbers[holes & but_not])
    return holes


def box_on_crop(points: ExtremePoints, crop: tuple[slice, ...], grow: int = 0) -> tuple[slice, ...]:
    """Return the box as an index into the crop, grown by a number of image voxels."""
    origin = np.array([s.start for s in crop])
    low = np.maximum(0, points.box_start_kji - grow - origin)
    high = points.box_stop_kji + grow - origin
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def _require_background(markers: NDArray[np.int8], volume: Volume) -> None:
    if not (markers == Marker.BACKGROUND).any():
        raise InputError(
            f"'{volume.name}' shows no tissue around the box of the six points. "
            "Use an image that extends beyond the lesion."
        )
