"""The plane in the patient on which the optical image lies: found from fibers, a lesion or a slice, and resampled."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import require_file
from BreastBiomarkersLib.points import read_points
from BreastBiomarkersLib.volume import LPS_TO_RAS, Volume, apply_affine
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

OUT_OF_PLANE_WARNING_MM = 3.0
"""Root-mean-square distance of the fibers from their plane above which the result carries a warning."""
MAX_PIXELS = 4_000_000
_POINTS_AT_ONCE = 1024

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane in the patient with its own right-handed millimeter axes.

    Attributes
    ----------
    plane_to_ras : (4, 4) ndarray, mm
        Columns: first and second in-plane axis, normal, origin; the axes are orthonormal.

    Raises
    ------
    InputError
        If the matrix is not a rigid frame.
    """

    plane_to_ras: NDArray[np.float64]

    def __post_init__(self) -> None:
        matrix = np.array(self.plane_to_ras, dtype=np.float64)
        axes = matrix[:3, :3]
        if not np.isfinite(matrix).all() or np.abs(axes.T @ axes - np.eye(3)).max() > 1e-6 or np.linalg.det(axes) < 0:
            raise InputError("The plane's axes are not perpendicular unit vectors in a right-handed frame.")
        object.__setattr__(self, "plane_to_ras", matrix)

    @property
    def origin_ras(self) -> NDArray[np.float64]:
        """(3,) point of the plane that has the in-plane position (0, 0), RAS mm."""
        return self.plane_to_ras[:3, 3]

    @property
    def normal(self) -> NDArray[np.float64]:
        """(3,) unit normal in RAS."""
        return self.plane_to_ras[:3, 2]

    def to_plane(self, points_ras: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the in-plane positions (n, 2) and the signed distances from the plane (n,), mm."""
        local = apply_affine(np.asarray(np.linalg.inv(self.plane_to_ras), np.float64), points_ras)
        return local[:, :2], local[:, 2]

    def to_ras(self, points_mm: NDArray[Any]) -> NDArray[np.float64]:
        """Return the RAS positions (n, 3) of in-plane positions (n, 2), mm."""
        points = np.atleast_2d(np.asarray(points_mm, dtype=np.float64))
        return apply_affine(self.plane_to_ras, np.column_stack([points, np.zeros(len(points))]))


class PlaneFit(NamedTuple):
    """A least-squares plane and how well the points lie in it.

    Attributes
    ----------
    plane : Plane
    rms_mm : float
        Root-mean-square distance of the points from the plane.
    largest_mm : float
        Largest distance.
    """

    plane: Plane
    rms_mm: float
    largest_mm: float

    @property
    def warning(self) -> str:
        """What to say about points that are not in a plane; empty when they are."""
        if self.rms_mm <= OUT_OF_PLANE_WARNING_MM:
            return ""
        return (
            f"The fibers lie {self.rms_mm:.1f} mm (root mean square, at most {self.largest_mm:.1f} mm) off the "
            f"plane, more than {OUT_OF_PLANE_WARNING_MM:g} mm: a planar model misrepresents the light paths."
        )


class SliceGrid(NamedTuple):
    """A regular grid of pixels in a plane.

    Attributes
    ----------
    plane : Plane
    first_mm : (2,) ndarray
        In-plane position of the center of pixel [0, 0].
    pixel_mm : float
    shape : (int, int)
        Rows (second in-plane axis), columns (first in-plane axis).
    """

    plane: Plane
    first_mm: NDArray[np.float64]
    pixel_mm: float
    shape: tuple[int, int]

    @property
    def points_mm(self) -> NDArray[np.float64]:
        """(rows * columns, 2) in-plane positions of the pixel centers, columns fastest."""
        y, x = np.indices(self.shape, dtype=np.float64)
        return np.column_stack([x.ravel(), y.ravel()]) * self.pixel_mm + self.first_mm

    @property
    def ijk_to_ras(self) -> NDArray[np.float64]:
        """(4, 4) matrix of the one-slice image; the slice is as thick as a pixel is wide."""
        local = np.diag([self.pixel_mm, self.pixel_mm, self.pixel_mm, 1.0])
        local[:2, 3] = self.first_mm
        return self.plane.plane_to_ras @ local

    def volume(self, values: NDArray[Any], name: str) -> Volume:
        """Return pixel values (rows * columns,) or (rows, columns) as a one-slice Volume lying in the plane."""
        return Volume(np.reshape(values, (1, *self.shape)), self.ijk_to_ras, name)


def plane_from_matrix(slice_to_ras: ArrayLike) -> Plane:
    """Return the plane of a 4x4 slice-to-RAS matrix, such as that of a Slicer slice view.

    Scale is ignored; where the matrix is left-handed (Slicer's axial view) the normal is turned around, so that the
    in-plane axes stay as given.

    Raises
    ------
    InputError
        If it is no 4x4 matrix of finite numbers, or its in-plane axes are not perpendicular.
    """
    try:
        matrix = np.asarray(slice_to_ras, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("A plane matrix must hold 16 numbers.") from None
    if matrix.shape != (4, 4):
        raise InputError(f"A plane matrix must be 4x4 numbers; this one has the shape {matrix.shape}.")
    if not np.isfinite(matrix).all():
        raise InputError("The plane matrix holds something that is no finite number.")
    lengths = np.linalg.norm(matrix[:3, :2], axis=0)
    if (lengths < 1e-9).any() or np.abs(matrix[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise InputError("The plane matrix has a zero axis or its last row is not 0 0 0 1.")
    first, second = (matrix[:3, :2] / lengths).T
    if abs(first @ second) > 1e-3:
        raise InputError("The plane matrix is sheared: its first two axes are not perpendicular.")
    return _frame(matrix[:3, 3], first, np.cross(first, second))


def plane_from_normal(origin_ras: ArrayLike, normal: ArrayLike) -> Plane:
    """Return the plane through a point with a normal; the in-plane axes follow the patient's axes as far as possible.

    The normal is turned to the side on which its largest component is positive. The first in-plane axis runs towards
    right (or anterior where the plane is sagittal), so nearly equal planes get nearly equal axes.

    Raises
    ------
    InputError
        If a number is not finite or the normal has no length.
    """
    origin, direction = np.asarray(origin_ras, dtype=np.float64), np.asarray(normal, dtype=np.float64)
    length = float(np.linalg.norm(direction)) if direction.shape == (3,) else 0.0
    if origin.shape != (3,) or not np.isfinite(origin).all() or not np.isfinite(length) or length < 1e-9:
        raise InputError("A plane needs a point and a normal of three finite numbers each; the normal must not be 0.")
    direction = direction / length
    direction *= math.copysign(1.0, direction[np.argmax(np.abs(direction))])
    toward = np.eye(3)[1 if abs(direction[0]) > math.sqrt(0.5) else 0]
    return _frame(origin, toward - (toward @ direction) * direction, direction)


def plane_from_points(points_ras: NDArray[Any]) -> PlaneFit:
    """Return the least-squares plane through points, such as the fiber tips, with its origin at their mean.

    The normal is the direction in which the points spread least (smallest singular value of the centered points).

    Raises
    ------
    InputError
        If there are fewer than three points, one is not finite, or they lie on a line.
    """
    points = np.atleast_2d(np.asarray(points_ras, dtype=np.float64))
    if len(points) < 3 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise InputError(f"A plane needs at least three points with finite coordinates; {len(points)} were given.")
    center = points.mean(axis=0)
    _, spread, directions = np.linalg.svd(points - center, full_matrices=False)
    if spread[1] < 1e-6 * max(spread[0], 1e-9) or spread[1] < 1e-6:
        raise InputError("The points that should define the plane lie on one line. Add a point beside it.")
    plane = plane_from_normal(center, directions[2])
    distances = plane.to_plane(points)[1]
    return PlaneFit(plane, float(np.sqrt(np.mean(distances**2))), float(np.abs(distances).max()))


def plane_from_mask(mask: Volume, normal: ArrayLike | None = None) -> Plane:
    """Return the plane in which a mask has its largest cross-section, through that section's center.

    Parameters
    ----------
    mask : Volume
        Non-zero inside.
    normal : (3,) array_like, optional
        Direction across the plane in RAS; (0, 1, 0) gives the coronal plane in which fibers ring a pendant breast.
        Default: across the image's own slices (constant k), because that is how lesions are drawn and read.

    Raises
    ------
    InputError
        If the mask is empty, or the normal has no length.
    """
    inside = mask.array != 0
    if not inside.any():
        raise InputError(f"The mask '{mask.name}' is empty, so it has no largest cross-section.")
    axes = mask.ijk_to_ras[:3, :3] / np.linalg.norm(mask.ijk_to_ras[:3, :3], axis=0)
    direction = plane_from_normal((0, 0, 0), np.cross(axes[:, 0], axes[:, 1]) if normal is None else normal).normal
    points = mask.points_to_ras(np.argwhere(inside)[:, ::-1])
    # A slab is as thick as the steps the grid makes along the normal, so that each holds one layer of voxels.
    thickness = float(np.abs(direction @ mask.ijk_to_ras[:3, :3]).max())
    slab = np.round((points @ direction - (points @ direction).min()) / thickness).astype(np.int64)
    return plane_from_normal(points[slab == np.bincount(slab).argmax()].mean(axis=0), direction)


def read_plane(path: str | Path) -> Plane:
    """Return the plane in a file: a JSON 4x4 slice-to-RAS matrix, or a Slicer markup (plane, or three or more points).

    The matrix may be the whole file (four rows, or 16 numbers) or the value of "plane_to_ras", "slice_to_ras" or
    "matrix".

    Raises
    ------
    InputError
        If the file is missing, damaged or holds no plane.
    """
    path = require_file(path, "plane")
    if not path.name.endswith(".json"):
        return plane_from_points(read_points(path).positions_ras).plane
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"'{path.name}' is not valid JSON. Save the plane again.") from error
    try:
        if isinstance(content, dict) and "markups" in content:
            return _plane_from_markup(path, content)
        if isinstance(content, dict):
            keys = [key for key in ("plane_to_ras", "slice_to_ras", "matrix") if key in content]
            content = content[keys[0]] if keys else None
        numbers = np.asarray(content, dtype=np.float64)
        return plane_from_matrix(numbers.reshape(4, 4) if numbers.size == 16 else numbers)
    except InputError as error:
        raise InputError(f"'{path.name}': {error}") from error
    except (TypeError, ValueError, KeyError, IndexError, OverflowError) as error:
        raise InputError(f"'{path.name}' holds no plane; give a 4x4 matrix or a Slicer plane markup.") from error


def slice_grid(plane: Plane, points_mm: NDArray[Any], pixel_mm: float = 1.0, margin_mm: float = 2.0) -> SliceGrid:
    """Return the pixel grid that covers in-plane points (n, 2) with a margin.

    Raises
    ------
    InputError
        If the pixel size is not positive or the grid would exceed four million pixels.
    """
    if not pixel_mm > 0:
        raise InputError(f"A pixel size of {pixel_mm} mm was given; it must be positive.")
    low, high = np.min(points_mm, axis=0) - margin_mm, np.max(points_mm, axis=0) + margin_mm
    columns, rows = (np.ceil((high - low) / pixel_mm) + 1).astype(int)
    if rows * columns > MAX_PIXELS:
        raise InputError(f"An image of {rows} x {columns} pixels was asked for. Use larger pixels than {pixel_mm} mm.")
    first = (low + high) / 2 - (np.array([columns, rows]) - 1) / 2 * pixel_mm
    return SliceGrid(plane, first, float(pixel_mm), (int(rows), int(columns)))


def sample_volume(
    volume: Volume, points_ras: NDArray[Any], nearest: bool = False, outside: float = math.nan
) -> NDArray[np.float64]:
    """Return the volume's values at RAS positions (n, 3), linear or nearest; `outside` where there is no voxel.

    A point belongs to the volume within half a voxel of the outermost voxel centers.
    """
    kji = volume.points_to_ijk(points_ras)[:, ::-1].T
    last = np.array(volume.shape)[:, None] - 1.0
    inside = ((kji >= -0.5) & (kji <= last + 0.5)).all(axis=0)
    if not inside.any():
        return np.full(inside.shape, outside)
    kji = kji.clip(0, last)
    first = np.floor(kji[:, inside].min(axis=1)).astype(int)  # only voxels around the points are converted
    end = np.floor(kji[:, inside].max(axis=1)).astype(int) + 2
    array = volume.array[tuple(slice(*ends) for ends in zip(first, end, strict=True))].astype(np.float64)
    order = 0 if nearest else 1
    values = ndimage.map_coordinates(array, kji - first[:, None], order=order, mode="nearest")
    return np.where(inside, values, outside)


def reslice(volume: Volume, grid: SliceGrid, nearest: bool = False, outside: float = 0.0) -> Volume:
    """Return a volume resampled onto the pixels of a plane, as a one-slice Volume.

    Raises
    ------
    InputError
        If the grid and the volume do not overlap.
    """
    values = sample_volume(volume, grid.plane.to_ras(grid.points_mm), nearest)
    if np.isnan(values).all():
        raise InputError(
            f"The plane does not cut '{volume.name}': they have no common point. Are both from the same exam?"
        )
    return grid.volume(np.where(np.isnan(values), outside, values), volume.name)


def body_mask(volume: Volume, threshold: float | None = None) -> Volume:
    """Return the body in an MRI: its largest component brighter than air, holes filled.

    Parameters
    ----------
    volume : Volume
        The image; air is dark and noisy.
    threshold : float, optional
        Gray value between air and body. By default the edge is where the image, smoothed by 1 mm, reaches half of what
        is bright beside it; fat that is suppressed to just above the noise counts as body where the image, smoothed by
        3 mm, is brighter than `AIR_NOISES` standard deviations above air (and 6 mm inside that: the smoothing's reach).
        Where the most frequent value is no darker than `NO_AIR_SHARE` of the bright tissue the image is taken to be
        cropped inside the body: all of it is body, with a warning in the log; a threshold of 0 says the same.

    Returns
    -------
    Volume
        Bool; the largest component, with holes filled slice by slice in all three directions. Where the threshold was
        chosen here, the rim lies where the gray value is halfway between air and the tissue behind it: a threshold
        barely above air would put it a millimeter or two outside the skin.

    Raises
    ------
    InputError
        If nothing is brighter than the threshold.
    """
    array = np.where(np.isfinite(volume.array), volume.array, 0).astype(np.float32)
    sharp = ndimage.gaussian_filter(array, 1.0 / volume.spacing)
    if threshold is not None:
        inside = sharp > threshold
    else:
        air = _air(sharp)
        if air.limit > NO_AIR_SHARE * np.percentile(sharp, 99):
            _log.warning("'%s' shows no air: its edge stands for the skin.", volume.name)
            return volume.with_array(np.ones(volume.shape, dtype=bool), f"{volume.name} body")
        faint = ndimage.gaussian_filter(array, 3.0 / volume.spacing)
        inside = ndimage.distance_transform_edt(faint > _air(faint).limit, volume.spacing) > 6.0
        beside = ndimage.maximum_filter(sharp, np.maximum(np.round(8.0 / volume.spacing), 1).astype(int))
        inside |= (sharp > air.limit) & (sharp > (air.mode + beside) / 2)
    if not inside.any():
        raise InputError(
            f"Nothing in '{volume.name}' is brighter than {'air' if threshold is None else threshold}. "
            "Give a lower threshold or a mask."
        )
    body = _largest_piece(inside)
    for axis in range(3):
        slices = [ndimage.binary_fill_holes(s) for s in np.moveaxis(body, axis, 0)]
        body = np.moveaxis(np.stack(slices), 0, axis)
    if threshold is None and not body.all():
        body = _edge_halfway(array, body, volume.spacing)
    return volume.with_array(body, f"{volume.name} body")


NO_AIR_SHARE = 0.5
"""Of the 99th percentile; 22 breast, sarcoma and synthetic images with air stay below 0.31, a crop inside has 0.71."""

AIR_NOISES = 5.0
"""Standard deviations above the air's mode from which a voxel counts as body."""


class _Air(NamedTuple):
    mode: float
    limit: float


def _air(image: NDArray[np.float32]) -> _Air:
    """Return the gray value of air, the most frequent one, and a limit above its noise (spread of darker voxels).

    Voxels that the scanner filled with zeros are not air, unless there are so many darker than the most frequent value
    that this one is tissue: then air is sought among the darker ones.
    """
    bottom, top = float(image.min()), float(np.percentile(image, 99))
    mode = _most_frequent(image[image > bottom + 1e-3 * (top - bottom)])
    while mode > bottom + 1e-3 * (top - bottom) and np.mean(image < (mode + bottom) / 2) > 0.15:
        mode = _most_frequent(image[image < (mode + bottom) / 2])
    darker = image[(image < mode) & (image > 0.5 * mode)]
    spread = float(np.sqrt(np.mean((darker - mode) ** 2))) if darker.size else 0.0
    return _Air(mode, mode + max(AIR_NOISES * spread, 0.01 * (top - mode)))


def _most_frequent(values: NDArray[np.float32]) -> float:
    if not values.size:
        return 0.0
    low, high = float(values.min()), float(np.percentile(values, 99))
    counts, edges = np.histogram(values, bins=2000, range=(low, max(high, low + 1e-6)))
    peak = int(ndimage.gaussian_filter1d(counts.astype(np.float64), 2.0).argmax())
    return float(edges[peak : peak + 2].mean())


def body_contour(
    mask: Volume, plane: Plane, step_mm: float = 2.0, rounding_mm: float = 6.0, closing_mm: float = 15.0
) -> NDArray[np.float64]:
    """Return the outline of a body mask in a plane.

    Of several pieces the largest is taken; holes are ignored. Where the image ends inside the body, its edge closes
    the outline.

    Parameters
    ----------
    mask : Volume
        Non-zero inside the body.
    plane : Plane
    step_mm : float
        Distance between the points.
    rounding_mm, closing_mm : float
        Spikes narrower than twice `rounding_mm` are cut off and notches narrower than twice `closing_mm` closed (by
        closing, then opening with a disc): no mesh resolves them, and a breast is round where the MRI hides its fat.

    Returns
    -------
    (n, 2) ndarray, mm
        Closed polygon in in-plane positions, counterclockwise, first point not repeated.

    Raises
    ------
    InputError
        If the plane does not cut the body, or cuts off less than 100 mm^2.
    """
    k, j, i = np.subtract(mask.shape, 1) + 0.5
    corners = np.array([[x, y, z] for x in (-0.5, i) for y in (-0.5, j) for z in (-0.5, k)])
    grid = slice_grid(plane, plane.to_plane(mask.points_to_ras(corners))[0], 1.0, 2 * closing_mm + 8)
    section = mask.with_array((mask.array != 0).astype(np.float32))
    values = sample_volume(section, plane.to_ras(grid.points_mm), outside=0.0).reshape(grid.shape)
    piece = ndimage.binary_fill_holes(_largest_piece(values > 0.5))
    if rounding_mm > 0:
        piece = ndimage.distance_transform_edt(~piece) <= closing_mm
        piece = ndimage.binary_fill_holes(ndimage.distance_transform_edt(piece) > closing_mm + rounding_mm)
        piece = _largest_piece(ndimage.distance_transform_edt(~piece) <= rounding_mm)
    if piece.sum() < 100:
        raise InputError(
            f"The plane misses '{mask.name}' or cuts off less than 1 cm2 of it. Move the plane into the breast, or "
            "give the threshold between air and body (0 for an image that shows no air)."
        )
    outlines = trace_level(ndimage.gaussian_filter(piece.astype(np.float64), 1.5), 0.5)
    areas = [_area(outline) for outline in outlines]
    outline = outlines[int(np.argmax(np.abs(areas)))]
    if max(areas, key=abs) < 0:
        outline = outline[::-1]
    return even_polygon(outline * grid.pixel_mm + grid.first_mm, step_mm)


def trace_level(field: NDArray[np.float64], level: float) -> list[NDArray[np.float64]]:
    """Return the closed lines on which a 2-D field, linearly interpolated along pixel edges, takes a value.

    The field must be below the level on its border, so that every line closes.

    Returns
    -------
    list of (n, 2) ndarray
        Positions (column, row) in pixels.
    """
    above = field > level
    crossings: dict[tuple[int, int, int], tuple[float, float]] = {}
    for axis in (0, 1):  # 0: edge from (r, c) to (r, c + 1); 1: to (r + 1, c)
        a, b = (field[:, :-1], field[:, 1:]) if axis == 0 else (field[:-1], field[1:])
        for r, c in zip(*np.nonzero((a > level) != (b > level)), strict=True):
            t = (level - a[r, c]) / (b[r, c] - a[r, c])
            crossings[axis, int(r), int(c)] = (c + t, float(r)) if axis == 0 else (float(c), r + t)
    # The inside of a cell connects its crossed edges in pairs; each edge thus gets one neighbor in each of its cells.
    neighbors: dict[tuple[int, int, int], list[tuple[int, int, int]]] = {edge: [] for edge in crossings}
    mixed = above[:-1, :-1].astype(int) + above[:-1, 1:] + above[1:, :-1] + above[1:, 1:]
    for r, c in zip(*np.nonzero((mixed > 0) & (mixed < 4)), strict=True):
        r, c = int(r), int(c)
        around = [(0, r, c), (1, r, c + 1), (0, r + 1, c), (1, r, c)]
        edges = [edge for edge in around if edge in crossings]
        pairs = [(edges[0], edges[1])]
        if len(edges) == 4:  # a saddle: its mean tells which corners belong together
            joined = field[r : r + 2, c : c + 2].mean() > level
            turn = joined == bool(above[r, c])
            pairs = (
                [(edges[0], edges[1]), (edges[2], edges[3])] if turn else [(edges[3], edges[0]), (edges[1], edges[2])]
            )
        for one, other in pairs:
            neighbors[one].append(other)
            neighbors[other].append(one)
    lines = []
    while neighbors:
        start, (following, *_) = next(iter(neighbors.items()))
        line, previous, current = [start], start, following
        while current != start:
            line.append(current)
            ahead = neighbors[current]
            previous, current = current, ahead[1] if ahead[0] == previous else ahead[0]
        for edge in line:
            del neighbors[edge]
        lines.append(np.array([crossings[edge] for edge in line]))
    return lines


def even_polygon(polygon: NDArray[np.float64], step_mm: float) -> NDArray[np.float64]:
    """Return a closed polygon (n, 2) with points at equal distances along it, as close to `step_mm` as fits."""
    closed = np.vstack([polygon, polygon[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    count = max(int(round(along[-1] / step_mm)), 8)
    wanted = np.arange(count) * along[-1] / count
    return np.column_stack([np.interp(wanted, along, closed[:, axis]) for axis in (0, 1)])


def distance_to_polygon(points_mm: NDArray[Any], polygon: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far points (n, 2) are from a closed polygon (m, 2), negative inside, mm."""
    points = np.atleast_2d(np.asarray(points_mm, dtype=np.float64))
    pieces = [points[n : n + _POINTS_AT_ONCE] for n in range(0, len(points), _POINTS_AT_ONCE)]
    return np.concatenate([_signed_distance(piece[:, :1], piece[:, 1:], polygon) for piece in pieces])


def _signed_distance(x: NDArray[np.float64], y: NDArray[np.float64], polygon: NDArray[np.float64]) -> NDArray[Any]:
    """Return the distance (n,) of points x (n, 1), y (n, 1) from the polygon (m, 2), negative inside."""
    (x0, y0), (x1, y1) = polygon.T, np.roll(polygon, -1, axis=0).T
    dx, dy = x1 - x0, y1 - y0
    from_x, from_y = x - x0, y - y0
    along = ((from_x * dx + from_y * dy) / np.maximum(dx**2 + dy**2, 1e-30)).clip(0, 1)
    distance = np.sqrt(((from_x - along * dx) ** 2 + (from_y - along * dy) ** 2).min(axis=1))
    slope = dx / np.where(dy == 0, 1.0, dy)
    crossed = ((y0 > y) != (y1 > y)) & (from_x < from_y * slope)
    return np.where(crossed.sum(axis=1) % 2 == 1, -distance, distance)


def _frame(origin: NDArray[np.float64], first: NDArray[np.float64], normal: NDArray[np.float64]) -> Plane:
    normal = normal / np.linalg.norm(normal)
    first = first - (first @ normal) * normal
    first = first / np.linalg.norm(first)
    matrix = np.eye(4)
    matrix[:3] = np.column_stack([first, np.cross(normal, first), normal, origin])
    return Plane(matrix)


def _plane_from_markup(path: Path, content: dict[str, Any]) -> Plane:
    markup = content["markups"][0]
    if "normal" not in markup or "center" not in markup:
        return plane_from_points(read_points(path).positions_ras).plane
    flip = LPS_TO_RAS[:3, :3] if str(markup.get("coordinateSystem", "LPS")) in ("LPS", "1") else np.eye(3)
    return plane_from_normal(flip @ np.asarray(markup["center"], float), flip @ np.asarray(markup["normal"], float))


def _area(polygon: NDArray[np.float64]) -> float:
    x, y = polygon.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


def _edge_halfway(
    array: NDArray[np.float32], body: NDArray[np.bool_], spacing: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return the body with its rim moved, by at most 4 mm, to half the step between air and the tissue near it."""
    depth = ndimage.distance_transform_edt(body, sampling=spacing)
    height = ndimage.distance_transform_edt(~body, sampling=spacing)
    core = (depth > 3.0).astype(np.float32)
    share = ndimage.gaussian_filter(core, 4.0 / spacing)
    tissue = ndimage.gaussian_filter(array * core, 4.0 / spacing) / np.maximum(share, 1e-6)
    far = height > 6.0
    air = float(np.median(array[far])) if far.any() else 0.0
    band = (depth < 4.0) & (height < 4.0) & (share > 1e-4)
    edge = ndimage.gaussian_filter(array, 1.0 / spacing) > (air + tissue) / 2
    moved = _largest_piece(np.where(band, edge, body))
    return np.stack([ndimage.binary_fill_holes(s) for s in moved])


def _largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels, count = ndimage.label(mask)
    if not count:
        return mask
    return np.asarray(labels == int(np.bincount(labels.ravel())[1:].argmax()) + 1)
