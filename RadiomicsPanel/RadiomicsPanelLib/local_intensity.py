"""Local intensity peaks (IBSI family 9ST6): the hottest 1 cm^3 ball. Wahl 2009, doi 10.2967/jnumed.108.057307."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from RadiomicsPanelLib.feature import Family, Feature
from RadiomicsPanelLib.roi import Roi

RADIUS_MM = (750 / np.pi) ** (1 / 3)
"""Radius of a ball of 1 cm^3: 6.204 mm."""


class BallMeans:
    """Mean intensity of the ball around each voxel of the region; voxels outside the region count too.

    Attributes
    ----------
    intensities : (n,) ndarray
        Of the intensity mask's voxels.
    """

    def __init__(self, roi: Roi) -> None:
        self.intensities = roi.intensities
        self._roi = roi

    @cached_property
    def means(self) -> NDArray[np.float64]:
        """(n,) ball means in the order of `intensities`."""
        image, spacing = self._roi.image.array, self._roi.spacing
        reach = np.floor(RADIUS_MM / spacing).astype(np.int64)
        offsets = np.meshgrid(*(np.arange(-r, r + 1) * s for r, s in zip(reach, spacing, strict=True)), indexing="ij")
        ball = (sum(o**2 for o in offsets) <= RADIUS_MM**2 * (1 + 1e-12)).astype(float)
        # Subtracting the center keeps the rounding error of the Fourier transform relative to the contrast.
        center = float(self.intensities.mean())
        known = np.isfinite(image)
        sums = signal.fftconvolve(np.where(known, image - center, 0.0), ball, "same")[self._roi.intensity_mask]
        if known.all() and self._all_around(reach):
            return sums / ball.sum() + center
        counts = signal.fftconvolve(known.astype(float), ball, "same")[self._roi.intensity_mask]
        return sums / np.rint(counts) + center

    def _all_around(self, reach: NDArray[np.int64]) -> bool:
        """Tell whether no ball is cut by the edge of the image."""
        box = ndimage.find_objects(self._roi.intensity_mask.astype(np.uint8))[0]
        sizes = self._roi.image.shape
        return all(s.start >= r and s.stop + r <= n for s, r, n in zip(box, reach, sizes, strict=True))


def prepare(roi: Roi, aggregations: tuple[str, ...]) -> dict[str, list[BallMeans]]:
    """Return the region's ball means."""
    return {"": [BallMeans(roi)]}


def local_peak(b: BallMeans) -> float:
    """Return the ball mean at the hottest voxel; of several such voxels the highest."""
    return float(b.means[b.intensities == b.intensities.max()].max())


def global_peak(b: BallMeans) -> float:
    """Return the highest ball mean of the region."""
    return float(b.means.max())


_loc: Any = partial(Feature, family="loc", category="regional", unit="I")

FEATURES: tuple[Feature, ...] = (
    _loc(name="local_peak", tag="loc_peak_loc", ibsi="VJGA", compute=local_peak),
    _loc(name="global_peak", tag="loc_peak_glob", ibsi="0F91", compute=global_peak),
)

FAMILY = Family("loc", "Local intensity", "region", prepare, FEATURES, of_responses=False)
