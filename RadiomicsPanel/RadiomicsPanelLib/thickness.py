"""Local thickness: the diameter of the largest ball that fits inside and holds the voxel.

Hildebrand and Rueegsegger 1997, doi 10.1046/j.1365-2818.1997.1340694.x.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from RadiomicsPanelLib.solid import Solid

RADII = 24


def local_thickness(solid: Solid) -> NDArray[np.float64]:
    """Return the (n,) thickness in mm at the solid's voxels.

    For 24 radii r up to the largest, every voxel nearer than r to the center of a ball of radius r inside has at least
    the thickness 2 r; and each voxel has at least that of the ball around itself.
    """
    thickness = solid.distances[solid.mask]
    for radius in solid.radius * np.arange(1, RADII + 1) / RADII:
        if radius > solid.spacing:  # smaller balls hold their own center only
            covered = opened(solid, radius)[solid.mask]
            thickness[covered] = np.maximum(thickness[covered], radius)
    return 2 * thickness


def opened(solid: Solid, radius_mm: float) -> NDArray[np.bool_]:
    """Return what balls of a radius that fit inside reach."""
    centers = solid.distances >= radius_mm * (1 - 1e-9)
    if not centers.any():
        return np.zeros(solid.mask.shape, dtype=bool)
    return ndimage.distance_transform_edt(~centers, solid.spacing) < radius_mm * (1 - 1e-9)
