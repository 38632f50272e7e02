"""Six extreme points of a lesion, checked against the image they were placed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

ROLES = ("Left", "Right", "Posterior", "Anterior", "Inferior", "Superior")
"""Names of the six ends: low and high end of the patient's R, A and S axis."""

MIN_EXTENT_VOXELS = 3
"""Fewer leave no voxel inside: both end slices touch the background."""

SAME_POSITION_MM = 1e-3
"""Two clicks closer than this are one click made twice."""


@dataclass(frozen=True, eq=False)
class ExtremePoints:
    """Six points of one lesion, as voxels of one image, sorted by the end they mark.

    Attributes
    ----------
    voxels_kji : (6, 3) ndarray of int
        Voxel indices in array order: low and high end of the K axis, then of J, then of I.
    positions_ras : (6, 3) ndarray, mm
        The same points as they were placed.
    roles : tuple of 6 str
        Anatomical name of each end (one of `ROLES`), from the direction of the image axes in the patient.
    order : tuple of 6 int
        Row of each point in the list it came from.
    """

    voxels_kji: NDArray[np.int64]
    positions_ras: NDArray[np.float64]
    roles: tuple[str, ...]
    order: tuple[int, ...]

    @classmethod
    def from_ras(cls, points_ras: ArrayLike, volume: Volume, labels: Sequence[str] | None = None) -> ExtremePoints:
        """Return the six points, whose roles follow from their positions, not from the order they were placed in.

        Parameters
        ----------
        points_ras : (6, 3) array_like, mm
        volume : Volume
            The image the points were placed on. The box lives on its voxel axes.
        labels : sequence of str, optional
            Names of the points, for messages only.

        Raises
        ------
        InputError
            If there are not six points, two coincide, one lies outside the image, or together they do not span a box
            of three voxels along each axis, or none marks one of its ends.
        """
        positions = np.asarray(points_ras, dtype=np.float64).reshape(-1, 3)
        names = [f"Extreme point {n + 1}" for n in range(len(positions))]
        if labels is not None:
            names = [f"{name} ('{label}')" for name, label in zip(names, labels, strict=True)]
        _check_positions(positions, names)
        voxels = _voxels_inside(positions, names, volume)
        sides = np.ptp(voxels, axis=0) + 1
        axis_roles = _axis_roles(volume)
        for axis, side in enumerate(sides):
            if side < MIN_EXTENT_VOXELS:
                low, high = axis_roles[axis]
                raise InputError(
                    f"The six points span {side} voxel(s) of '{volume.name}' from {low} to {high}; at least "
                    f"{MIN_EXTENT_VOXELS} are needed. Place these two points on the lesion's first and last slice."
                )
        order, outward = _assign_ends(voxels)
        for end in range(6):
            if outward[end] <= 0:
                role = axis_roles[end // 2][end % 2]
                raise InputError(
                    f"No point marks the {role} end: {names[order[end]]} is left for it but lies in the other half of "
                    "the box of all six. Place one point at each of the six ends."
                )
        roles = tuple(role for pair in axis_roles for role in pair)
        return cls(voxels[order], positions[order], roles, tuple(int(n) for n in order))

    @property
    def box_start_kji(self) -> NDArray[np.int64]:
        """(3,) first voxel of the box spanned by all six points (not only by the pair of each axis)."""
        return self.voxels_kji.min(axis=0)

    @property
    def box_stop_kji(self) -> NDArray[np.int64]:
        """(3,) one past the last voxel of the box spanned by all six points."""
        return self.voxels_kji.max(axis=0) + 1


def extreme_points_of_mask(mask: Volume) -> ExtremePoints:
    """Return the six points a careful reader would click on a known lesion: teaching, tests and evaluation.

    On each of the six end slices the lesion voxel nearest to the middle of the lesion in that slice is taken.

    Parameters
    ----------
    mask : Volume
        Non-zero inside the lesion.

    Raises
    ------
    InputError
        If the mask is empty, thinner than three voxels, or too small to hold six different end voxels.
    """
    voxels = np.argwhere(mask.array != 0)
    if not len(voxels):
        raise InputError(f"'{mask.name}' is empty: it has no extreme points.")
    taken: list[tuple[int, ...]] = []
    for axis in range(3):
        for end in (voxels[:, axis].min(), voxels[:, axis].max()):
            slice_voxels = voxels[voxels[:, axis] == end]
            distance = np.linalg.norm((slice_voxels - slice_voxels.mean(axis=0)) * mask.spacing, axis=1)
            nearest = [tuple(int(x) for x in slice_voxels[n]) for n in np.argsort(distance, kind="stable")]
            free = [voxel for voxel in nearest if voxel not in taken]
            if not free:
                raise InputError(f"'{mask.name}' is too small: one voxel is its end in two directions.")
            taken.append(free[0])
    return ExtremePoints.from_ras(mask.points_to_ras(np.array(taken)[:, ::-1]), mask)


def _check_positions(positions: NDArray[np.float64], names: list[str]) -> None:
    if len(positions) != 6:
        raise InputError(f"{len(positions)} extreme point(s) were given; exactly six are needed, one at each end.")
    if not np.isfinite(positions).all():
        raise InputError(f"{names[int(np.argwhere(~np.isfinite(positions))[0, 0])]} has no position. Place it again.")
    for a in range(6):
        for b in range(a):
            if np.linalg.norm(positions[a] - positions[b]) < SAME_POSITION_MM:
                raise InputError(f"{names[b]} and {names[a]} are at the same position. Move one to its own end.")


def _voxels_inside(positions: NDArray[np.float64], names: list[str], volume: Volume) -> NDArray[np.int64]:
    size = np.array(volume.shape)
    continuous = volume.points_to_ijk(positions)
    nearest_inside = volume.points_to_ras(np.clip(continuous, -0.5, size[::-1] - 0.5))
    for name, distance in zip(names, np.linalg.norm(positions - nearest_inside, axis=1), strict=True):
        if distance > SAME_POSITION_MM:
            raise InputError(
                f"{name} lies {distance:.1f} mm outside '{volume.name}'. Place all six points on the same image."
            )
    return np.clip(np.rint(continuous[:, ::-1]).astype(np.int64), 0, size - 1)


def _axis_roles(volume: Volume) -> list[tuple[str, str]]:
    """Return the anatomical names of the low and high end of the K, J and I axis."""
    direction = volume.ijk_to_ras[:3, 2::-1] / volume.spacing  # columns K, J, I in RAS
    ras_axis, array_axis = linear_sum_assignment(-np.abs(direction))
    roles = [("", "")] * 3
    for row, column in zip(ras_axis, array_axis, strict=True):
        low, high = ROLES[2 * row : 2 * row + 2]
        roles[column] = (low, high) if direction[row, column] > 0 else (high, low)
    return roles


def _assign_ends(voxels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the row of the point for each end, chosen so that together they lie farthest out, and how far each does.

    Ends are K low, K high, J low, ...; 1 is on that face of the box, 0 in the middle, -1 on the opposite face.
    """
    low, high = voxels.min(axis=0), voxels.max(axis=0)
    position = (2 * voxels - low - high) / (high - low)
    outward = np.stack([-position, position], axis=-1).reshape(6, 6)  # rows points, columns ends
    rows, ends = linear_sum_assignment(-outward)
    order = rows[np.argsort(ends)]
    return order, outward[order, np.arange(6)]
