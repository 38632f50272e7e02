"""The breast of the phantom: outline, skin, muscle, gland and vessels as shares of each voxel.

Local frame, mm: r to the patient's right, s superior, a anterior; its origin lies on the chest wall behind the nipple.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.special import expit

from WeakSegmentLib.breast_parameters import BreastParameters

Field = NDArray[np.float32]

_COARSE_MM = 2.0
"""Smooth fields are computed at about this step and interpolated (error of a surface of 40 mm radius: 0.01 mm)."""

_BEHIND_MM, _MARGIN_MM = 26.0, 7.0
"""How far the image reaches behind the chest wall, and beyond the breast elsewhere."""


@dataclass(frozen=True)
class Grid:
    """Sagittal voxel grid in the local frame: K runs to the right, J inferior, I posterior.

    Attributes
    ----------
    shape : (K, J, I)
    spacing : (K, J, I), mm
    corner : (r, s, a), mm
        Position of the center of voxel 0, 0, 0.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    corner: tuple[float, float, float]

    def axes(self) -> tuple[Field, Field, Field]:
        """Return r (K, 1, 1), s (1, J, 1) and a (1, 1, I) of the voxel centers, in mm."""
        (k, j, i), (hk, hj, hi), (r, s, a) = self.shape, self.spacing, self.corner
        return (
            np.asarray(r + hk * np.arange(k), dtype=np.float32)[:, None, None],
            np.asarray(s - hj * np.arange(j), dtype=np.float32)[None, :, None],
            np.asarray(a - hi * np.arange(i), dtype=np.float32)[None, None, :],
        )

    def index(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return continuous (n, 3) K, J, I indices of (n, 3) positions r, s, a in mm."""
        return (positions - np.array(self.corner)) * (1.0, -1.0, -1.0) / np.array(self.spacing)

    def positions(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return (n, 3) positions r, s, a in mm of (n, 3) K, J, I indices."""
        return np.array(self.corner) + index * np.array(self.spacing) * (1.0, -1.0, -1.0)

    def coarse(self, step_mm: float = _COARSE_MM) -> Grid:
        """Return a grid over the same extent with about the given step."""
        extent = [(n - 1) * h for n, h in zip(self.shape, self.spacing, strict=True)]
        counts = [max(4, int(np.ceil(e / step_mm)) + 1) for e in extent]
        k, j, i = (e / (n - 1) for e, n in zip(extent, counts, strict=True))
        return Grid((counts[0], counts[1], counts[2]), (k, j, i), self.corner)


def breast_grid(parameters: BreastParameters) -> Grid:
    """Return the voxel grid that holds the breast, its margin of air and the chest wall; sizes suit the FFT."""
    p = parameters
    width, height = 2 * (p.half_width_mm + _MARGIN_MM), 2 * (p.half_height_mm + _MARGIN_MM) + p.droop_mm
    extent = (width, height, p.depth_mm + _MARGIN_MM + _BEHIND_MM)
    k, j, i = (
        scipy.fft.next_fast_len(int(np.ceil(e / h)), real=True)
        for e, h in zip(extent, p.protocol.spacing_mm, strict=True)
    )
    corner = (-width / 2, p.half_height_mm + _MARGIN_MM, p.depth_mm + _MARGIN_MM)
    return Grid((k, j, i), p.protocol.spacing_mm, corner)


def enlarge(field: Field, grid: Grid) -> Field:
    """Interpolate a field given on `grid.coarse(...)` linearly to `grid`."""
    for axis, size in enumerate(grid.shape):
        position = np.arange(size) * (field.shape[axis] - 1) / (size - 1)
        lower = np.minimum(position.astype(int), field.shape[axis] - 2)
        weight = (position - lower).astype(np.float32).reshape([-1 if n == axis else 1 for n in range(3)])
        field = np.take(field, lower, axis) * (1 - weight) + np.take(field, lower + 1, axis) * weight
    return field


def power_law_field(
    grid: Grid, exponent: float, rng: np.random.Generator, longest_mm: float = 60.0, shortest_mm: float = 0.0
) -> Field:
    """Return a Gaussian random field with zero mean and unit standard deviation.

    Parameters
    ----------
    grid : Grid
    exponent : float
        Power falls as spatial frequency to minus this.
    rng : Generator
    longest_mm : float, mm
        Above this wavelength the power levels off.
    shortest_mm : float, mm
        Shorter wavelengths are damped like a Gaussian; 0 keeps them.
    """
    shape = [scipy.fft.next_fast_len(n, real=True) for n in grid.shape]
    axes = [scipy.fft.fftfreq(n, h) for n, h in zip(shape[:2], grid.spacing[:2], strict=True)]
    axes.append(scipy.fft.rfftfreq(shape[2], grid.spacing[2]))
    k, j, i = np.meshgrid(*(f.astype(np.float32) for f in axes), indexing="ij", sparse=True)
    squared = k * k + j * j + i * i
    amplitude = (squared + np.float32(longest_mm**-2)) ** np.float32(-exponent / 4)
    if shortest_mm:
        amplitude *= np.exp(-squared * np.float32(shortest_mm**2 / 2))
    noise = rng.standard_normal((*squared.shape, 2), dtype=np.float32)
    spectrum = noise.view(np.complex64)[..., 0] * amplitude
    spectrum[0, 0, 0] = 0
    field = scipy.fft.irfftn(spectrum, s=shape, overwrite_x=True)[tuple(slice(n) for n in grid.shape)]
    return (field - field.mean()) / field.std()


def share_above_zero(level: Field, spread: Field | float) -> Field:
    """Return the share of each voxel where a level set is positive.

    Parameters
    ----------
    level : ndarray
        Level set at the voxel centers.
    spread : ndarray or float
        Standard deviation of the level set over the voxel, same unit.

    Notes
    -----
    The cumulative normal of level / spread, by its logistic approximation (largest error 0.01).
    """
    return expit(np.float32(1.702) * level / np.maximum(spread, np.float32(1e-6)))


def voxel_spread(level: Field) -> Field:
    """Return the standard deviation of a level set over each voxel, taking it as linear there."""
    total = np.zeros_like(level)
    for axis in range(3):
        step = np.gradient(level, axis=axis)
        total += step * step
    return np.sqrt(total / np.float32(12))


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Tissue shares of each voxel (K, J, I) without vessels and lesion; what is left to 1 is air or lung.

    Attributes
    ----------
    depth : ndarray, mm
        Distance below the skin surface, negative outside the body.
    skin, muscle, fat, gland : ndarray
        Shares; together at most 1.
    breast : ndarray
        Share inside the skin and in front of the muscle.
    nipple : (3,) r, s, a in mm
    texture : ndarray
        Fine field with unit standard deviation.
    """

    depth: Field
    skin: Field
    muscle: Field
    fat: Field
    gland: Field
    breast: Field
    nipple: NDArray[np.float64]
    texture: Field


def build_anatomy(grid: Grid, parameters: BreastParameters, rng: np.random.Generator) -> Anatomy:
    """Return a breast with skin, pectoral muscle, fat and gland."""
    p, coarse = parameters, grid.coarse()
    depth, behind_wall = _outline(coarse, p, rng)
    nipple = np.array([0.0, -p.droop_mm, p.depth_mm])
    normal = np.gradient(depth, *coarse.spacing)
    box = [h * h * n * n for h, n in zip(grid.spacing, normal, strict=True)]
    surface_spread = enlarge(np.sqrt(sum(box) / np.float32(12)).astype(np.float32), grid)
    r, s, a = coarse.axes()
    from_nipple = np.sqrt((r - nipple[0]) ** 2 + (s - nipple[1]) ** 2 + (a - nipple[2]) ** 2)
    skin_mm = p.skin_mm + 1.5 * np.exp(-((from_nipple / 12) ** 2))
    concentric = _gland_tendency(coarse, p, depth, -behind_wall, nipple, rng)
    depth, below_skin = enlarge(depth, grid), enlarge(depth - skin_mm.astype(np.float32), grid)
    behind_wall = enlarge(behind_wall, grid)

    body, inside = share_above_zero(depth, surface_spread), share_above_zero(below_skin, surface_spread)
    wall_spread = float(grid.spacing[2] / np.sqrt(12))
    front, back = (share_above_zero(behind_wall - np.float32(t), wall_spread) for t in (0.0, p.muscle_mm))
    texture = power_law_field(grid, 1.8, rng, longest_mm=20)
    lobes = power_law_field(grid, p.gland_exponent + 0.6, rng, longest_mm=35)
    tendency = enlarge(concentric, grid) + np.float32(0.6) * lobes + np.float32(0.05) * texture
    breast = inside * (1 - front)
    sample = tendency[::2, ::3, ::3][breast[::2, ::3, ::3] > 0.5]
    level = tendency - np.float32(np.quantile(sample, 1 - p.density))
    gland = share_above_zero(level, voxel_spread(level) + np.float32(0.12))
    septa = power_law_field(grid, 4.0, rng, longest_mm=30, shortest_mm=5)
    gland = breast * np.maximum(gland, np.float32(0.40) * np.exp(-((septa / np.float32(0.08)) ** 2)))
    streaks = share_above_zero(lobes - np.float32(1.0), 0.3)
    muscle = inside * (front - back)
    return Anatomy(
        depth=depth,
        skin=body - inside,
        muscle=muscle * (1 - streaks),
        fat=breast - gland + muscle * streaks,
        gland=gland,
        breast=breast,
        nipple=nipple,
        texture=texture,
    )


def _outline(grid: Grid, parameters: BreastParameters, rng: np.random.Generator) -> tuple[Field, Field]:
    """Return the distances inside the skin surface and behind the front of the pectoral muscle, in mm."""
    p, (r, s, a) = parameters, grid.axes()
    lateral = r if p.laterality == "R" else -r
    wobble = power_law_field(grid, 4.0, rng, longest_mm=80, shortest_mm=30)
    tilt = rng.normal(0, 0.08)
    wall = tilt * s - ((np.maximum(lateral + 25, 0) / 25) ** 2) - (np.maximum(-s, 0) / 22) ** 2 + 0 * a + 2 * wobble
    forward = np.clip(a / p.depth_mm, 0, 1.2)
    center = -p.droop_mm * forward**1.5
    n = p.outline_exponent
    radius = (
        np.abs(r / p.half_width_mm) ** n
        + np.abs((s - center) / p.half_height_mm) ** n
        + np.abs(np.maximum(a, 0) / p.depth_mm) ** n
    ) ** (1 / n)
    breast = _as_distance(1 - radius, grid)
    nipple = 5.0 - np.sqrt(r**2 + (s + p.droop_mm) ** 2 + (a - p.depth_mm) ** 2)
    chest = wall + 9.0 - a
    outline = np.logaddexp(np.logaddexp(breast / 5, chest / 5) * 5, nipple)
    distance = np.minimum(_as_distance(outline + 0.8 * wobble, grid), min(p.half_width_mm, p.half_height_mm))
    return distance.astype(np.float32), (wall - a).astype(np.float32)


def _as_distance(level: Field, grid: Grid) -> Field:
    """Return a level set divided by its slope: near its zero, the distance in mm."""
    slope = np.sqrt(sum(g * g for g in np.gradient(level, *grid.spacing)))
    return (level / np.maximum(slope, 0.2 * np.median(slope))).astype(np.float32)


def _gland_tendency(
    grid: Grid,
    parameters: BreastParameters,
    depth: Field,
    before_wall: Field,
    nipple: NDArray[np.float64],
    rng: np.random.Generator,
) -> Field:
    """Return where gland prefers to be: a cone to the nipple, strands that fan out from it, away from the skin."""
    p, (r, s, a) = parameters, grid.axes()
    lateral = r if p.laterality == "R" else -r
    along = np.clip(a / p.depth_mm, 0, 1)
    width = 1.15 - 0.85 * along
    cone = ((lateral - 5 * (1 - along)) / (0.75 * p.half_width_mm * width)) ** 2
    cone = cone + ((s + p.droop_mm * along - 3) / (0.75 * p.half_height_mm * width)) ** 2
    cone = cone + (np.maximum(18 - before_wall, 0) / 8) ** 2
    to_skin = np.exp(-np.maximum(depth - p.skin_mm, 0) / 5.0)
    at_nipple = np.exp(-((r**2 + (s - nipple[1]) ** 2) / 14**2))

    offset = [r - nipple[0], s - nipple[1], a - (nipple[2] + 15)]
    distance = np.sqrt(sum(o * o for o in offset))
    fan = Grid((64, 64, 64), (1.5, 1.5, 1.5), (0, 0, 0))
    strands = power_law_field(fan, p.gland_exponent + 0.6, rng, longest_mm=40)
    at = np.stack(np.broadcast_arrays(0.3 * distance, 55 * offset[0] / distance, 55 * offset[1] / distance)) / 1.5
    strand = map_coordinates(strands, at, order=1, mode="grid-wrap", output=np.float32)
    return (1.0 * strand - 1.0 * cone - 2.5 * to_skin * (1 - at_nipple)).astype(np.float32)


def draw_vessels(
    grid: Grid, anatomy: Anatomy, parameters: BreastParameters, target: NDArray[np.float64], rng: np.random.Generator
) -> Field:
    """Return the vessel share of each voxel: random walks from the chest wall forward, the first one to `target`.

    Parameters
    ----------
    target : (3,) r, s, a in mm
        Where the feeding vessel ends (the lesion).
    """
    p, total = parameters, np.zeros(int(np.prod(grid.shape)), dtype=np.float32)
    for n in range(p.vessels):
        angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.3)
        start = np.array([0.7 * p.half_width_mm * np.cos(angle), 0.7 * p.half_height_mm * np.sin(angle), 6.0])
        goal = target if n == 0 else anatomy.nipple * rng.uniform(0.4, 0.9)
        path = [start]
        direction = np.array([0.0, 0.0, 1.0])
        for _ in range(int(rng.uniform(40, 90))):
            to_goal = goal - path[-1]
            direction = direction + 0.08 * to_goal / (np.linalg.norm(to_goal) + 1) + 0.15 * rng.standard_normal(3)
            direction /= np.linalg.norm(direction)
            following = path[-1] + direction
            k, j, i = np.rint(grid.index(following)).astype(int)
            inside = all(0 <= x < m for x, m in zip((k, j, i), grid.shape, strict=True))
            if not inside or anatomy.depth[k, j, i] < p.skin_mm + 1.5:
                direction = direction + 0.6 * (np.array([0, 0, 0.3 * p.depth_mm]) - path[-1]) / p.depth_mm
                direction /= np.linalg.norm(direction)
                following = path[-1] + direction
            path.append(following)
        total += tube_share(grid, np.array(path), np.full(len(path), radius), rng).ravel()
    return np.minimum(total, 1).reshape(grid.shape)


def tube_share(grid: Grid, path: NDArray[np.float64], radii: NDArray[np.float64], rng: np.random.Generator) -> Field:
    """Return the share of each voxel inside a tube along `path` (n, 3) mm with `radii` (n,) mm.

    The tube is filled with random points (60 per voxel volume), which are counted per voxel: right for any spacing and
    for tubes thinner than a voxel.
    """
    steps = np.diff(path, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    middle = (radii[1:] + radii[:-1]) / 2
    volume = float(np.sum(lengths * np.pi * middle**2))
    voxel = float(np.prod(grid.spacing))
    count = max(64, int(60 * volume / voxel))
    weight = lengths * middle**2
    segment = rng.choice(len(lengths), size=count, p=weight / weight.sum())
    along = rng.random((count, 1))
    across = rng.standard_normal((count, 3))
    unit = steps[segment] / lengths[segment, None]
    across -= np.sum(across * unit, axis=1, keepdims=True) * unit
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    radius = middle[segment, None] * np.sqrt(rng.random((count, 1)))
    index = np.rint(grid.index(path[segment] + along * steps[segment] + radius * across)).astype(np.int64)
    index = index[np.all((index >= 0) & (index < grid.shape), axis=1)]
    flat = np.ravel_multi_index(tuple(index.T), grid.shape)
    share = np.bincount(flat, minlength=int(np.prod(grid.shape))) * (volume / count / voxel)
    return np.minimum(share, 1).astype(np.float32).reshape(grid.shape)
