"""Discretization: which bins the intensities of a region fall into."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from BreastBiomarkersLib.errors import InputError
from numpy.typing import NDArray

from RadiomicsPanelLib.settings import Settings


class Bins(NamedTuple):
    """Level = floor(multiplier * (intensity - origin) / divisor) + 1, at most `level_count`."""

    origin: float
    multiplier: int
    divisor: float
    level_count: int

    @property
    def width(self) -> float:
        """Width of a bin."""
        return self.divisor / self.multiplier


def choose_bins(intensities: NDArray[np.float64], settings: Settings, title: str) -> Bins:
    """Return the bins the settings prescribe; `title` names the region in messages.

    Raises
    ------
    InputError
        If the intensities are to be gray levels already and are not.
    """
    low, high = float(intensities.min()), float(intensities.max())
    if settings.discretization == "bin_count":
        count = int(settings.bin_count or 0)
        return Bins(low, count, high - low, count)
    if settings.discretization == "bin_width":
        width = float(settings.bin_width or 0)
        origin = low if settings.lower is None else settings.lower
        if settings.upper is None:
            return Bins(origin, 1, width, int(min((high - origin) / width, 2.0**53)) + 1)
        return Bins(origin, 1, width, int(min(np.ceil((settings.upper - origin) / width), 2.0**53)))
    if low < 1 or not (intensities % 1 == 0).all():
        raise InputError(
            f"The intensities in the {title} are no gray levels (whole numbers from 1; they run from {low:g} to "
            f"{high:g}). Choose a bin width or a bin count."
        )
    return Bins(1.0, 1, 1.0, int(high))


def discretize(intensities: NDArray[np.float64], bins: Bins) -> NDArray[np.int64]:
    """Return the gray level of each intensity, 1 to `bins.level_count`."""
    if bins.divisor == 0:
        return np.ones(len(intensities), dtype=np.int64)
    levels = np.floor(bins.multiplier * (intensities - bins.origin) / bins.divisor).astype(np.int64) + 1
    return np.clip(levels, 1, bins.level_count)


def bin_record(bins: Bins, levels: NDArray[np.int32]) -> dict[str, Any]:
    """Return the numbers of a discretization for the provenance."""
    return {
        "level_count": bins.level_count,
        "occupied_levels": len(np.unique(levels)),
        "bin_origin": bins.origin,
        "bin_width": bins.width,
    }
