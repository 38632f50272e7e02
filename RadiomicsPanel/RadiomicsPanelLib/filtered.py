"""Regions of filtered images: each image is filtered once, however many segments are measured in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume

from RadiomicsPanelLib.bins import Bins, bin_record, discretize
from RadiomicsPanelLib.filters import Filter
from RadiomicsPanelLib.grid import Grid, position_on, resample_image, target_grid
from RadiomicsPanelLib.roi import Roi
from RadiomicsPanelLib.settings import Settings

_NOISE = 1e-10
"""Share of the image's intensities below which differences of a response are rounding errors."""


def filter_around(image: Volume, rois: Sequence[Roi], settings: Settings, chosen: Filter) -> Volume:
    """Return the filtered image where the regions are, filtered once for all of them.

    The image is resampled (and rounded) as for the regions, with as much of it around them as the filter sees; only
    beyond the image's own edges does the filter's boundary rule apply.

    Parameters
    ----------
    image : Volume
        The image of all the regions.
    rois : sequence of Roi
        Prepared from it with the same settings.

    Raises
    ------
    InputError
        If the part is too large, or holds voxels that are not a number.
    """
    grid = target_grid(image, settings.spacing_kji_mm)
    starts = np.array([position_on(roi.image, image, grid) for roi in rois])
    reach = grid.size if chosen.boundary == "periodic" else chosen.reach(image.spacing * grid.step)
    start = np.maximum(starts.min(axis=0) - reach, 0)
    stop = np.minimum((starts + [roi.image.shape for roi in rois]).max(axis=0) + reach, grid.size)
    title = f"filter '{chosen.label}' of '{image.name}'"
    part = resample_image(image, grid, start, stop, 3 if settings.interpolation == "cubic" else 1, title)
    bad = int(np.count_nonzero(~np.isfinite(part.array)))
    if bad:
        raise InputError(
            f"{bad} voxels around the regions, within the reach of the {title}, are not a number and would spread. "
            "Mend the image."
        )
    array = np.rint(part.array) if settings.round_intensities else part.array
    return part.with_array(chosen.apply(array, part.spacing))


def filtered_roi(roi: Roi, response: Volume, chosen: Filter) -> Roi:
    """Return the region with the intensities of a filtered image.

    The masks stay as they are: re-segmentation was about the image's own intensities. Gray levels are
    `filter_bin_count` equal bins between the region's minimum and maximum, and nothing is rounded.

    Parameters
    ----------
    roi : Roi
    response : Volume
        From `filter_around`.
    chosen : Filter
        The filter that made it.
    """
    grid = Grid(np.array(response.shape), np.zeros(3), np.ones(3))
    start = position_on(roi.image, response, grid)
    image = response.cropped(tuple(start), tuple(start + roi.image.shape))
    low, high = float(image.array[roi.intensity_mask].min()), float(image.array[roi.intensity_mask].max())
    if high - low <= _NOISE * float(np.abs(roi.intensities).max()):  # a constant image, but for rounding errors
        low = high = 0.0 if abs(low) <= _NOISE * float(np.abs(roi.intensities).max()) else low
        image = image.with_array(np.where(roi.intensity_mask, low, image.array))
    settings = replace(
        roi.settings,
        round_intensities=False,
        lower=None,
        upper=None,
        outlier_sigma=None,
        discretization="bin_count",
        bin_count=roi.settings.filter_bin_count,
        ivh_discretization="none",
        intensity_unit="response",
    )
    intensities = image.array[roi.intensity_mask]
    bins = Bins(low, settings.filter_bin_count, high - low, settings.filter_bin_count)
    levels = np.zeros(image.shape, dtype=np.int32)
    levels[roi.intensity_mask] = discretize(intensities, bins)
    used = image.spacing[list(chosen.axes)]
    uneven = ["the filter works on voxels of unlike edges; resample to cubes or choose a planar one"]
    return Roi(
        roi.case_name,
        roi.segment,
        settings,
        image,
        roi.morphological_mask,
        roi.intensity_mask,
        levels,
        bins.level_count,
        tuple(uneven if np.ptp(used) > 1e-3 * used.min() else []),
        roi.record | bin_record(bins, levels[roi.intensity_mask]),
        chosen.label,
        roi.exclusion,
    )
