"""Agreement of a mask with a reference: overlap, surface distances and volumes, in physical units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt


@dataclass(frozen=True)
class Scores:
    """How well a mask agrees with a reference.

    Attributes
    ----------
    dice, jaccard : float, in [0, 1]
    hd95_mm : float or None
        Larger of the two 95th percentiles of the distances from one surface to the other; None if the mask is empty.
    surface_distance_mm : float or None
        Mean distance of all surface voxels of both to the other surface; None if the mask is empty.
    volume_ml, reference_ml : float
    """

    dice: float
    jaccard: float
    hd95_mm: float | None
    surface_distance_mm: float | None
    volume_ml: float
    reference_ml: float


def score(mask: Volume, reference: Volume) -> Scores:
    """Return the agreement of a mask with a reference (non-zero voxels of both).

    The surface of a mask is its voxels with at least one of the six neighbors outside; distances are between voxel
    centers in mm.

    Raises
    ------
    InputError
        If the grids differ or the reference is empty.
    """
    if not mask.same_grid(reference):
        raise InputError(f"The reference '{reference.name}' is not on the grid of the mask. Resample it first.")
    found, true = mask.array != 0, reference.array != 0
    if not true.any():
        raise InputError(f"The reference '{reference.name}' is empty: nothing can be compared with it.")
    volumes = [float(np.count_nonzero(m)) * mask.voxel_volume_mm3 / 1000 for m in (found, true)]
    if not found.any():
        return Scores(0.0, 0.0, None, None, *volumes)
    around = _bounding_box(found | true)
    found, true = found[around], true[around]
    both, either = np.count_nonzero(found & true), np.count_nonzero(found | true)
    there, back = _surface_distances(found, true, mask.spacing)
    return Scores(
        dice=2 * both / (both + either),
        jaccard=both / either,
        hd95_mm=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        surface_distance_mm=float(np.concatenate([there, back]).mean()),
        volume_ml=volumes[0],
        reference_ml=volumes[1],
    )


def _surface_distances(
    one: NDArray[np.bool_], other: NDArray[np.bool_], spacing: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the distances from each surface voxel of one mask to the other's surface, and the other way."""
    surfaces = [m & ~binary_erosion(m) for m in (one, other)]
    to_one, to_other = (distance_transform_edt(~surface, sampling=spacing) for surface in surfaces)
    return to_other[surfaces[0]], to_one[surfaces[1]]


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return the smallest box around the mask."""
    lines = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    return tuple(slice(int(line[0]), int(line[-1]) + 1) for line in lines)
