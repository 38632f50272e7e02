"""Lesions of the phantom: shapes given by level sets that do not depend on the voxel grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label, map_coordinates

from WeakSegmentLib.breast_anatomy import Field, Grid, power_law_field, share_above_zero, tube_share

_LATTICE = 64
_SMALLEST_PIECE_MM3 = 15.0


@dataclass(frozen=True, eq=False)
class LesionShape:
    """A lesion in its own frame, as a function of position: its surface is where `level` is 0.

    Attributes
    ----------
    kind : str
        One of `breast_parameters.KINDS`.
    center : (3,) r, s, a in mm
    radius : float, mm
        Half the nominal diameter: the radius of the sphere of the same volume before irregularities.
    axes : (3, 3)
        Rows are unit vectors divided by the relative semi-axes.
    lobes : (n, 4) in radii
        Centers and radii of the balls of a lobulated mass.
    irregularity : float
        Standard deviation of the surface, in radii.
    surface, inner : (64, 64, 64)
        Periodic fields with unit standard deviation; one lattice step is 1/16 radius.
    filling : float
        Level of `inner` above which a non-mass lesion grows.
    core : float
        Radius of the non-enhancing core in radii; 0 without one.
    spicules : list of ((n, 3) path in mm, (n,) radii in mm)
    """

    kind: str
    center: NDArray[np.float64]
    radius: float
    axes: NDArray[np.float64]
    lobes: NDArray[np.float64]
    irregularity: float
    surface: Field
    inner: Field
    filling: float
    core: float
    spicules: list[tuple[NDArray[np.float64], NDArray[np.float64]]]

    @property
    def reach_mm(self) -> float:
        """Half side of a box around the center that holds the lesion without spicules, in mm."""
        farthest = 1.6 if len(self.lobes) else 1.0
        longest = 1 / np.linalg.norm(self.axes, axis=1).min()
        return float(self.radius * longest * (farthest + 3.5 * self.irregularity))

    def level(self, r: Field, s: Field, a: Field) -> tuple[Field, Field]:
        """Return the level sets of the lesion and of its core at broadcastable positions, about in mm.

        Both are positive inside. Spicules are not part of them.
        """
        at = [x - c for x, c in zip((r, s, a), self.center, strict=True)]
        own = [sum(np.float32(w / self.radius) * x for w, x in zip(row, at, strict=True)) for row in self.axes]
        if len(self.lobes):
            rounds = [
                (lobe[3] - np.sqrt(sum((o - c) ** 2 for o, c in zip(own, lobe[:3], strict=True))))
                for lobe in self.lobes
            ]
            level = 0.08 * np.logaddexp.reduce([x / 0.08 for x in rounds], axis=0)
        else:
            level = 1 - np.sqrt(sum(o * o for o in own))
        lattice = np.stack(np.broadcast_arrays(*(16 * x / self.radius for x in at)))
        rough = map_coordinates(self.surface, lattice, order=1, mode="grid-wrap", output=np.float32)
        level = level + np.float32(self.irregularity) * rough
        core = level - np.float32(1 - self.core)
        if self.kind == "non-mass":
            patchy = map_coordinates(self.inner, lattice, order=1, mode="grid-wrap", output=np.float32)
            level = np.minimum(level, np.float32(0.25) * (patchy - np.float32(self.filling)))
        return (self.radius * level).astype(np.float32), (self.radius * core).astype(np.float32)


def draw_lesion(
    kind: str, diameter_mm: float, center: NDArray[np.float64], nipple: NDArray[np.float64], rng: np.random.Generator
) -> LesionShape:
    """Draw a lesion shape; non-mass lesions are elongated towards the nipple.

    Parameters
    ----------
    kind : str
        mass, lobulated, spiculated, rim or non-mass.
    diameter_mm : float, mm
    center, nipple : (3,) r, s, a in mm
    rng : Generator
    """
    radius = diameter_mm / 2
    lattice = Grid((_LATTICE,) * 3, (1 / 16,) * 3, (0.0, 0.0, 0.0))
    surface = power_law_field(lattice, 4.2, rng, longest_mm=2.0, shortest_mm=0.3)
    inner = power_law_field(lattice, 3.5, rng, longest_mm=0.8, shortest_mm=min(0.5, 2.5 / radius))
    if kind == "non-mass":
        semi = np.array([rng.uniform(1.3, 1.8), rng.uniform(0.8, 1.1), 0.0])
        first = nipple - center
    else:
        semi = np.array([1.0, rng.uniform(0.7, 1.0), rng.uniform(0.6, 0.95)])
        first = rng.standard_normal(3)
    semi[2] = semi[2] or rng.uniform(0.6, 0.8)
    semi /= np.prod(semi) ** (1 / 3)
    frame, _ = np.linalg.qr(np.column_stack([first, rng.standard_normal((3, 2))]))
    lobes = _draw_lobes(rng) if kind == "lobulated" else np.empty((0, 4))
    irregularity = rng.uniform(0.05, 0.12) if kind in ("mass", "lobulated", "rim") else rng.uniform(0.10, 0.20)
    shape = LesionShape(
        kind=kind,
        center=center,
        radius=radius,
        axes=frame.T / semi[:, None],
        lobes=lobes,
        irregularity=float(irregularity),
        surface=surface,
        inner=inner,
        filling=float(rng.uniform(-0.4, 0.3)),
        core=float(rng.uniform(0.35, 0.70)) if kind == "rim" else 0.0,
        spicules=[],
    )
    if kind == "spiculated":
        shape.spicules.extend(_draw_spicules(shape, rng))
    return shape


def _draw_lobes(rng: np.random.Generator) -> NDArray[np.float64]:
    count = int(rng.integers(3, 7))
    directions = rng.standard_normal((count, 3))
    directions *= rng.uniform(0.41, 0.64, (count, 1)) / np.linalg.norm(directions, axis=1, keepdims=True)
    return np.column_stack([directions, rng.uniform(0.53, 0.80, count)])


def _draw_spicules(
    shape: LesionShape, rng: np.random.Generator
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Draw 8 to 25 tapered, slightly bent rays, 0.3 to 0.9 mm in radius at the base, 1.15 to 1.9 radii long."""
    spicules = []
    for _ in range(int(rng.integers(8, 26))):
        direction = rng.standard_normal(3)
        direction /= np.linalg.norm(shape.axes @ direction)
        bend = 0.25 * rng.standard_normal(3)
        along = np.linspace(0.6, rng.uniform(1.15, 1.9), 12)[:, None]
        path = shape.center + shape.radius * (along * direction + bend * (along - 0.6) ** 2)
        spicules.append((path, rng.uniform(0.3, 0.9) * np.linspace(1, 0.2, 12)))
    return spicules


@dataclass(frozen=True, eq=False)
class VoxelLesion:
    """A lesion on a grid.

    Attributes
    ----------
    share, core : (K, J, I) ndarray
        Shares of each voxel taken by the whole lesion, and by its core.
    mask : (K, J, I) bool ndarray
        Voxels with their center inside the lesion, with spicules as far as they fill half a voxel.
    body_voxels : int
        Voxels inside the level set, before spicules and the removal of specks.
    spicules_left_out : int
        Spicules thinner than an in-plane voxel at the base; in the image, not in the mask.
    """

    share: Field
    core: Field
    mask: NDArray[np.bool_]
    body_voxels: int
    spicules_left_out: int


def voxelize(shape: LesionShape, grid: Grid, rng: np.random.Generator) -> VoxelLesion:
    """Return the lesion's shares of the voxels of a grid, and its mask."""
    share, core = (np.zeros(grid.shape, dtype=np.float32) for _ in range(2))
    middle = grid.index(shape.center[None])[0]
    reach = shape.reach_mm / np.array(grid.spacing) + 1
    box = tuple(
        slice(max(0, int(m - x)), min(n, int(m + x) + 2)) for m, x, n in zip(middle, reach, grid.shape, strict=True)
    )
    r, s, a = grid.axes()
    body, inner = shape.level(r[box[0]], s[:, box[1]], a[:, :, box[2]])
    share[box] = share_above_zero(body, _bounded_spread(body, grid))
    if shape.core:
        core[box] = share_above_zero(inner, _bounded_spread(inner, grid))
    mask = np.zeros(grid.shape, dtype=bool)
    mask[box] = body > 0
    body_voxels = int(mask.sum())
    left_out = 0
    for path, radii in shape.spicules:
        tube = tube_share(grid, path, radii, rng)
        np.maximum(share, tube, out=share)
        if 2 * radii[0] < grid.spacing[2]:
            left_out += 1
        else:
            mask |= tube > 0.5
    return VoxelLesion(share, core, _without_specks(mask, shape.kind, grid), body_voxels, left_out)


def _bounded_spread(level: Field, grid: Grid) -> Field:
    """Return the spread of a level set in mm over a voxel, between those of a flat surface along either axis."""
    total = np.zeros_like(level)
    for axis in range(3):
        step = np.gradient(level, axis=axis)
        total += step * step
    low, high = min(grid.spacing), float(np.linalg.norm(grid.spacing))
    return (np.clip(np.sqrt(total), low, high) / np.sqrt(12)).astype(np.float32)


def _without_specks(mask: NDArray[np.bool_], kind: str, grid: Grid) -> NDArray[np.bool_]:
    """Keep the largest part; of a non-mass lesion also every part of at least 15 mm^3."""
    parts, count = label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(parts.ravel())[1:]
    keep = sizes == sizes.max()
    if kind == "non-mass":
        keep |= sizes * np.prod(grid.spacing) >= _SMALLEST_PIECE_MM3
    return np.concatenate([[False], keep])[parts]
