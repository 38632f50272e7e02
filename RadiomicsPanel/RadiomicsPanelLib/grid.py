"""The analysis grid: where its voxels lie in the source image, and the image and masks resampled to it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume, apply_affine
from numpy.typing import NDArray
from scipy import ndimage

MAX_GRID_VOXELS = 50_000_000
"""Largest prepared grid (region's bounding box and context); a larger one is refused before it is allocated."""

_SPLINE_REACH = 32  # voxels; the cubic B-spline's prefilter decays by 0.27 per voxel


class Box(NamedTuple):
    """A part of a larger array and where it starts there, in array order."""

    array: NDArray[Any]
    start: NDArray[np.int64]


class Grid(NamedTuple):
    """A grid along the axes of another one: index n lies at `origin + n * step` of the source's indices (K, J, I)."""

    size: NDArray[np.int64]
    origin: NDArray[np.float64]
    step: NDArray[np.float64]


def target_grid(image: Volume, spacing_kji_mm: tuple[float | None, ...] | None) -> Grid:
    """Return the analysis grid, which shares the image's center and axes."""
    size, spacing = np.array(image.shape), image.spacing
    wanted = spacing_kji_mm or (None, None, None)
    target = np.array([s if t is None else t for s, t in zip(spacing, wanted, strict=True)])
    step = target / spacing
    step[np.abs(step - 1) < 1e-6] = 1.0
    new_size = np.where(step == 1, size, np.maximum(np.ceil(np.round(size / step, 3)), 1)).astype(np.int64)
    return Grid(new_size, (size - 1) / 2 - (new_size - 1) / 2 * step, step)


def position_on(part: Volume, image: Volume, grid: Grid) -> NDArray[np.int64]:
    """Return where a part of the grid starts, in the grid's own voxels."""
    at = image.points_to_ijk(part.ijk_to_ras[:3, 3])[0, ::-1]
    return np.rint((at - grid.origin) / grid.step).astype(np.int64)


def resample_image(
    image: Volume, grid: Grid, start: NDArray[np.int64], stop: NDArray[np.int64], order: int, title: str
) -> Volume:
    """Return the image at the grid's voxels from `start` to before `stop`, by splines of an order (1 or 3).

    Raises
    ------
    InputError
        If the part is too large, or resampling would mix in voxels that are not a number.
    """
    require_size(stop - start, title)
    first = np.floor(grid.origin + start * grid.step).astype(np.int64) - (_SPLINE_REACH if order == 3 else 1)
    last = np.ceil(grid.origin + (stop - 1) * grid.step).astype(np.int64) + (_SPLINE_REACH if order == 3 else 1)
    first, last = np.maximum(first, 0), np.minimum(last, np.array(image.shape) - 1)
    require_size(last + 1 - first, title)
    source = image.array[tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))].astype(np.float64)
    if (grid.step != 1).any() and not np.isfinite(source).all():
        raise InputError(
            f"{int(np.count_nonzero(~np.isfinite(source)))} voxels around the {title} are not a number, and "
            "resampling would mix them in. Mend the image or keep its own grid."
        )
    array = interpolate(Box(source, first), grid, start, stop, order)
    matrix = image.ijk_to_ras.copy()
    matrix[:3, :3] *= grid.step[::-1]
    matrix[:3, 3] = apply_affine(image.ijk_to_ras, (grid.origin + start * grid.step)[::-1])[0]
    return Volume(array, matrix, image.name)


def interpolate(
    box: Box, grid: Grid, start: NDArray[np.int64], stop: NDArray[np.int64], order: int
) -> NDArray[np.float64]:
    """Return the box's values at the grid's voxels from `start` to before `stop`; edges are continued outward."""
    offset = grid.origin + start * grid.step - box.start
    if (grid.step == 1).all():
        at = [
            np.clip(np.arange(n) + round(o), 0, m - 1)
            for n, o, m in zip(stop - start, offset, box.array.shape, strict=True)
        ]
        return box.array[np.ix_(*at)]
    shape = tuple(int(n) for n in stop - start)
    return ndimage.affine_transform(box.array, grid.step, offset, shape, order=order, mode="nearest")


def require_size(size: NDArray[np.int64], title: str) -> None:
    """Refuse a grid of too many voxels.

    Raises
    ------
    InputError
        Naming the region or filter by its title.
    """
    if np.prod(size.astype(float)) > MAX_GRID_VOXELS:
        raise InputError(
            f"The {title} would take {'x'.join(str(n) for n in size)} voxels; at most "
            f"{MAX_GRID_VOXELS:g} are analysed. Choose a coarser grid or a smaller segment."
        )
