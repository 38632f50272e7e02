"""What is read off a lesion: size, enhancement, and agreement with a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

from WeakSegmentLib.kinetics import SegmentKinetics, segment_kinetics
from WeakSegmentLib.metrics import Scores, score


@dataclass(frozen=True)
class Diameters:
    """Longest straight lines between two points of a lesion's surface, in mm.

    The surface is taken halfway between voxels inside and outside. In-plane figures are those of the slice with the
    longest in-plane diameter, in slices along the voxel axis nearest to the patient's feet-head direction.

    Attributes
    ----------
    longest : float
        In any direction.
    in_plane : float
        Within one slice.
    perpendicular : float
        Largest extent at right angles to `in_plane` in the same slice.
    """

    longest: float
    in_plane: float
    perpendicular: float


@dataclass(frozen=True)
class Measures:
    """Read-outs of one lesion; None where what they need was not given.

    Attributes
    ----------
    volume_ml : float
    diameters : Diameters
    kinetics : SegmentKinetics or None
    agreement : Scores or None
    """

    volume_ml: float
    diameters: Diameters
    kinetics: SegmentKinetics | None
    agreement: Scores | None


def measure(mask: Volume, phases: Sequence[Volume] = (), reference: Volume | None = None) -> Measures:
    """Return all read-outs of a lesion.

    Parameters
    ----------
    mask : Volume
        Non-zero inside the lesion.
    phases : sequence of Volume
        Pre-contrast image and two or more post-contrast images in order of time, or nothing.
    reference : Volume, optional
        Mask to compare with.

    Raises
    ------
    InputError
        If the mask is empty, or the grids differ.
    """
    if not mask.array.any():
        raise InputError(f"The segment '{mask.name}' is empty: there is nothing to measure.")
    return Measures(
        volume_ml=float(np.count_nonzero(mask.array)) * mask.voxel_volume_mm3 / 1000,
        diameters=measure_diameters(mask),
        kinetics=segment_kinetics(phases[0], phases[1:], mask) if phases else None,
        agreement=None if reference is None else score(mask, reference),
    )


def measure_diameters(mask: Volume) -> Diameters:
    """Return the diameters of the non-zero voxels of a mask.

    Raises
    ------
    InputError
        If the mask is empty.
    """
    inside = np.pad(mask.array != 0, 1)
    faces = [_faces(inside, axis) for axis in range(3)]  # (n, 3) positions in K, J, I
    if not len(faces[0]):
        raise InputError(f"The segment '{mask.name}' is empty: it has no diameter.")
    to_mm = mask.ijk_to_ras[:3, 2::-1]  # columns K, J, I
    longest = _longest(np.concatenate(faces) @ to_mm.T)
    axis = int(np.argmax(np.abs(to_mm[2] / np.linalg.norm(to_mm, axis=0))))
    in_slices = np.concatenate([face for n, face in enumerate(faces) if n != axis])
    best = (0.0, 0.0)
    for position in np.unique(in_slices[:, axis]):
        points = in_slices[in_slices[:, axis] == position] @ to_mm.T
        best = max(best, _longest_and_perpendicular(points))
    return Diameters(longest, *best)


def _faces(inside: NDArray[np.bool_], axis: int) -> NDArray[np.float64]:
    """Return the middles of the voxel faces along an axis that have the lesion on one side only."""
    at = np.argwhere(np.diff(inside, axis=axis)).astype(np.float64)
    at[:, axis] += 0.5
    return at


def _longest(points: NDArray[np.float64]) -> float:
    return float(pdist(_outermost(points)).max())


def _longest_and_perpendicular(points: NDArray[np.float64]) -> tuple[float, float]:
    """Return the largest distance of points in one plane, and their extent at right angles to it in that plane."""
    _, _, axes = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    corners = _outermost((points - points.mean(axis=0)) @ axes[:2].T)
    distances = squareform(pdist(corners))
    one, other = np.unravel_index(distances.argmax(), distances.shape)
    along = (corners[other] - corners[one]) / distances[one, other]
    across = corners @ (-along[1], along[0])
    return float(distances[one, other]), float(np.ptp(across))


def _outermost(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the corners of the convex hull: the two points farthest apart are among them."""
    corners: NDArray[np.float64] = points[ConvexHull(points).vertices]
    return corners
