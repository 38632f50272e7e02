"""Seeded lesions of known shape in noisy tissue, on any grid."""

from __future__ import annotations

import numpy as np
from BreastBiomarkersLib.volume import Volume
from scipy.ndimage import gaussian_filter


def ellipsoid_lesion(
    shape=(30, 44, 52),
    spacing=(2.0, 1.0, 0.8),
    radii_mm=(18.0, 13.0, 14.0),
    center_mm=None,
    ijk_to_ras=None,
    lesion=180.0,
    tissue=100.0,
    noise=12.0,
    seed=5,
) -> tuple[Volume, Volume]:
    """Return an image and its lesion mask: an ellipsoid with axes along K, J, I in textured tissue with noise.

    `shape`, `spacing`, `radii_mm` and `center_mm` (from the first voxel's center; default the middle) are in array
    order (K, J, I). `ijk_to_ras` replaces the default axis-aligned matrix and must have the same spacing.
    """
    rng = np.random.default_rng(seed)
    middle = (np.array(shape) - 1) / 2 * np.array(spacing) if center_mm is None else np.array(center_mm)
    axes = [(np.arange(n) * h - c) / r for n, h, c, r in zip(shape, spacing, middle, radii_mm, strict=True)]
    mask = axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2 <= 1
    texture = gaussian_filter(rng.normal(size=shape), [3.0 / h for h in spacing])
    image = tissue + (lesion - tissue) * mask + 8 * texture / texture.std() + noise * rng.normal(size=shape)
    matrix = np.diag([spacing[2], spacing[1], spacing[0], 1.0]) if ijk_to_ras is None else ijk_to_ras
    return Volume(image.astype(np.float32), matrix, "image"), Volume(mask, matrix, "reference")


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Dice coefficient of two masks."""
    return float(2 * np.count_nonzero((one != 0) & (other != 0)) / (np.count_nonzero(one) + np.count_nonzero(other)))
