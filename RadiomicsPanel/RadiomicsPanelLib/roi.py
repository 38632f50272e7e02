"""From an image and a mask to a region ready for features: resample, round, re-segment, discretize (IBSI-1, chapter 2).

The morphological mask M gives the shape; the intensity mask I, M without re-segmented voxels, gives everything else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume, read_volume
from numpy.typing import NDArray
from scipy import ndimage

from RadiomicsPanelLib.bins import bin_record, choose_bins, discretize
from RadiomicsPanelLib.grid import MAX_GRID_VOXELS as MAX_GRID_VOXELS
from RadiomicsPanelLib.grid import Box, interpolate, require_size, resample_image, target_grid
from RadiomicsPanelLib.level_image import LevelImage
from RadiomicsPanelLib.settings import MAX_LEVELS, Settings

CONTEXT_MM = 6.3
"""Image kept around the region: the 1 cm^3 ball of the local peaks has a radius of 6.204 mm."""

MAX_LABELS = 256

_HALF = 0.5 - 1e-9


@dataclass(frozen=True, eq=False)
class Case:
    """An image and one segment in it.

    Attributes
    ----------
    image : Volume
    mask : Volume
        Inside is where the voxel equals `label`, or is not 0 without a label. Its grid may differ from the image's.
    name, segment : str
        Case and segment, for messages and tables.
    label : int, optional
    exclusion : Volume, optional
        Mask of what is not tissue to measure around the segment (air, bone), on any grid; it does not cut the segment.
    """

    image: Volume
    mask: Volume
    name: str
    segment: str
    label: int | None = None
    exclusion: Volume | None = None

    @property
    def title(self) -> str:
        """Case and segment in words, for messages."""
        return f"segment '{self.segment}' of '{self.name}'"


@dataclass(frozen=True, eq=False)
class Roi:
    """A prepared region: everything a feature needs. All arrays share one grid and one shape (K, J, I).

    Attributes
    ----------
    case_name, segment : str
    settings : Settings
    image : Volume
        Float64 intensities on the prepared grid, cropped to the region and its context.
    morphological_mask, intensity_mask : (K, J, I) ndarray of bool
    levels : (K, J, I) ndarray of int32
        Gray level 1 to `level_count` inside the intensity mask, 0 outside.
    level_count : int
        Number of levels that could occur, which normalized features divide by.
    notes : tuple of str
        What the user should know about the preparation.
    record : dict
        The preparation's numbers, step by step, for the provenance.
    filter : str
        Label of the filter whose response the intensities are, or "original".
    exclusion : (K, J, I) ndarray of bool, optional
        What is not to be measured around the segment: the case's exclusion mask, and what lies out of the
        re-segmentation range.
    """

    case_name: str
    segment: str
    settings: Settings
    image: Volume
    morphological_mask: NDArray[np.bool_]
    intensity_mask: NDArray[np.bool_]
    levels: NDArray[np.int32]
    level_count: int
    notes: tuple[str, ...] = ()
    record: dict[str, Any] = field(default_factory=dict)
    filter: str = "original"
    exclusion: NDArray[np.bool_] | None = None

    @property
    def spacing(self) -> NDArray[np.float64]:
        """(3,) voxel size in mm, in array order."""
        return self.image.spacing

    @cached_property
    def intensities(self) -> NDArray[np.float64]:
        """(n,) intensities inside the intensity mask."""
        return self.image.array[self.intensity_mask]

    @cached_property
    def level_image(self) -> LevelImage:
        """The gray levels cropped to the intensity mask, from which all texture matrices are counted."""
        box = ndimage.find_objects(self.intensity_mask.astype(np.uint8))[0]
        return LevelImage.from_levels(self.levels[box], self.level_count, self.morphological_mask, box)


class LevelPreview(NamedTuple):
    """What a discretization would give, for the person choosing it.

    Attributes
    ----------
    level_count, occupied_levels, voxel_count : int
    source_volume_mm3, volume_mm3 : float
        Of the morphological mask before and after resampling, by counting voxels.
    edges : (level_count + 1,) ndarray, intensity
        Bin edges; empty if the levels would be refused.
    counts : (level_count,) ndarray of int
        Voxels in each bin; empty if the levels would be refused.
    warnings : tuple of str
    """

    level_count: int
    occupied_levels: int
    voxel_count: int
    source_volume_mm3: float
    volume_mm3: float
    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    warnings: tuple[str, ...]


class _Prepared(NamedTuple):
    image: Volume
    morphological_mask: NDArray[np.bool_]
    intensity_mask: NDArray[np.bool_]
    notes: list[str]
    record: dict[str, Any]


def read_cases(image_path: str | Path, mask_path: str | Path, label: int | None = None) -> list[Case]:
    """Return one case per label of a label map file (or of the given label alone).

    Segments take the names stored by Slicer in a `.seg.nrrd`, else "label N".

    Raises
    ------
    InputError
        If a file cannot be read, or the mask is empty, lacks the label or holds something else than labels.
    """
    image, mask = read_volume(image_path), read_volume(mask_path)
    name = Path(image_path).name.split(".")[0]
    return cases_from_labels(image, mask, name, None if label is None else [label], _segment_names(mask_path))


def cases_from_labels(
    image: Volume, mask: Volume, name: str, labels: list[int] | None = None, names: dict[int, str] | None = None
) -> list[Case]:
    """Return one case per label (default: every label but 0) of a label map.

    Raises
    ------
    InputError
        If the mask is empty, lacks a label, holds values that are not whole numbers, or more than 256 labels.
    """
    _require_labels(mask)
    present = [int(value) for value in np.unique(mask.array) if value != 0]
    if not present:
        raise InputError(f"The mask '{mask.name}' is empty. Draw or choose a segment.")
    if len(present) > MAX_LABELS:
        raise InputError(f"The mask '{mask.name}' holds {len(present)} labels. Is it an image? Choose a label map.")
    missing = [value for value in labels or () if value not in present]
    if missing:
        known = ", ".join(map(str, present))
        raise InputError(f"Label {missing[0]} is not in the mask '{mask.name}'; it holds {known}.")
    return [
        Case(image, mask, name, (names or {}).get(value, f"label {value}"), value)
        for value in (present if labels is None else labels)
    ]


def prepare_roi(case: Case, settings: Settings) -> Roi:
    """Return the region, prepared in the order resample, round, re-segment (range, then outliers), discretize.

    Grid: ``ceil(n s / s')`` voxels sharing the source's center and axes. Image: linear or cubic B-spline, edges
    continued. Mask: linear, kept from 0.5. Fixed bin width: ``g = floor((x - x0) / w) + 1`` with x0 the lower
    re-segmentation bound (the region's minimum without one), a voxel at the upper bound in the last bin. Fixed bin
    count: ``g = floor(N (x - min) / (max - min)) + 1`` with the maximum in N. All in float64.

    Raises
    ------
    InputError
        If the mask is empty or lies outside the image, fewer than two voxels remain at any step, an intensity is not
        a number, the grid is sheared or would be too large, or more than 1024 gray levels would result.
    """
    prepared = _prepare(case, settings)
    intensities = prepared.image.array[prepared.intensity_mask]
    bins = choose_bins(intensities, settings, case.title)
    if bins.level_count > MAX_LEVELS:
        raise InputError(_too_many_levels(case, settings, intensities, bins.level_count))
    levels = np.zeros(prepared.image.shape, dtype=np.int32)
    levels[prepared.intensity_mask] = discretize(intensities, bins)
    notes = prepared.notes + _level_warnings(bins.level_count, len(intensities))
    if "2_5D_avg" in suggest_aggregations(prepared.image.spacing) and any("3D" in a for a in settings.aggregations):
        notes.append("slices are more than twice as thick as pixels: 2.5-D aggregation or an isotropic grid is advised")
    record = prepared.record | bin_record(bins, levels[prepared.intensity_mask])
    return Roi(
        case.name,
        case.segment,
        settings,
        prepared.image,
        prepared.morphological_mask,
        prepared.intensity_mask,
        levels,
        bins.level_count,
        tuple(notes),
        record,
        exclusion=_exclusion(case, prepared.image, settings),
    )


def preview_levels(case: Case, settings: Settings) -> LevelPreview:
    """Return how many gray levels the settings would give, and how the voxels would fall into the bins.

    Nothing that grows with the number of levels is allocated when `prepare_roi` would refuse them.

    Raises
    ------
    InputError
        As `prepare_roi`, except for the number of levels, which becomes a warning.
    """
    prepared = _prepare(case, settings)
    intensities = prepared.image.array[prepared.intensity_mask]
    bins = choose_bins(intensities, settings, case.title)
    volumes = prepared.record["source_volume_mm3"], prepared.record["morphological_volume_mm3"]
    if bins.level_count > MAX_LEVELS:
        warning = _too_many_levels(case, settings, intensities, bins.level_count)
        return LevelPreview(
            bins.level_count, 0, len(intensities), *volumes, np.zeros(0), np.zeros(0, np.int64), (warning,)
        )
    counts = np.bincount(discretize(intensities, bins), minlength=bins.level_count + 1)[1:]
    edges = bins.origin + bins.width * np.arange(bins.level_count + 1.0)
    warnings = tuple(prepared.notes + _level_warnings(bins.level_count, len(intensities)))
    return LevelPreview(
        bins.level_count, int(np.count_nonzero(counts)), len(intensities), *volumes, edges, counts, warnings
    )


def suggest_aggregations(spacing_kji_mm: NDArray[np.float64]) -> tuple[str, ...]:
    """Return 2.5-D aggregations if slices are more than twice as thick as their pixels, else 3-D ones (our heuristic).

    A step across thick slices is then a different distance than one inside a slice, and 3-D textures would mix them.
    """
    if spacing_kji_mm[0] > 2 * max(spacing_kji_mm[1:]):
        return ("2_5D_avg", "2_5D_comb")
    return ("3D_avg", "3D_comb")


def _segment_names(path: str | Path) -> dict[int, str]:
    """Return label -> name as Slicer stores them in a `.seg.nrrd`."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    names = {}
    for n in range(MAX_LABELS):
        if not reader.HasMetaDataKey(f"Segment{n}_LabelValue"):
            break
        value = reader.GetMetaData(f"Segment{n}_LabelValue")
        if value.isdigit() and reader.HasMetaDataKey(f"Segment{n}_Name"):
            names[int(value)] = reader.GetMetaData(f"Segment{n}_Name")
    return names


def _require_labels(mask: Volume) -> None:
    if mask.array.dtype.kind == "f" and not (np.isfinite(mask.array).all() and (mask.array % 1 == 0).all()):
        raise InputError(f"The mask '{mask.name}' holds values that are not whole numbers. Threshold it first.")


def _prepare(case: Case, settings: Settings) -> _Prepared:
    """Do everything up to the masks: geometry, resampling, rounding, re-segmentation."""
    _require_orthogonal(case.image)
    notes: list[str] = []
    mask = _mask_on_image_grid(case, notes)
    source_voxels = int(mask.array.sum())
    source_mm3 = source_voxels * case.image.voxel_volume_mm3
    _require_numbers(case, mask)
    image, morphological_mask = _resample(case, mask, settings)
    voxels = int(morphological_mask.sum())
    if voxels < 2:
        raise InputError(
            f"The {case.title} has {voxels} voxel{'s' * (voxels != 1)} on the analysis grid "
            f"({_sizes(image.spacing)} mm; {source_voxels} in the source image); at least two are needed. "
            "Draw a larger segment or choose a finer grid."
        )
    inside = image.array[morphological_mask]
    if np.ptp(inside) <= 1e-10 * np.abs(inside).max():  # interpolation of equal values differs by rounding only
        image = image.with_array(np.where(morphological_mask, np.median(inside), image.array))
        notes.append("the intensity is the same everywhere in the segment; there is no texture to measure")
    if settings.round_intensities:
        image = image.with_array(np.rint(image.array))
    intensity_mask = _resegment(image.array, morphological_mask, settings, case)
    volume_mm3 = voxels * image.voxel_volume_mm3
    if abs(volume_mm3 / source_mm3 - 1) > 0.1:
        notes.append(f"resampling changed the volume by {volume_mm3 / source_mm3 - 1:+.0%}")
    components = int(ndimage.label(morphological_mask, np.ones((3, 3, 3)))[1])
    if components > 1:
        notes.append(f"the segment has {components} separate parts; shape features take them together")
    record = {
        "source_size_kji": list(case.image.shape),
        "source_spacing_kji_mm": case.image.spacing.tolist(),
        "source_voxels": source_voxels,
        "source_volume_mm3": source_mm3,
        "grid_spacing_kji_mm": image.spacing.tolist(),
        "region_size_kji": [s.stop - s.start for s in ndimage.find_objects(morphological_mask.astype(np.uint8))[0]],
        "morphological_voxels": voxels,
        "morphological_volume_mm3": volume_mm3,
        "components": components,
        "intensity_voxels": int(intensity_mask.sum()),
    }
    return _Prepared(image, morphological_mask, intensity_mask, notes, record)


def _exclusion(case: Case, image: Volume, settings: Settings) -> NDArray[np.bool_]:
    """Return which voxels of the prepared grid are not to be measured around the segment."""
    excluded = np.zeros(image.shape, dtype=bool)
    if settings.lower is not None:
        excluded |= image.array < settings.lower
    if settings.upper is not None:
        excluded |= image.array > settings.upper
    if case.exclusion is not None:
        _require_labels(case.exclusion)
        to_mask = case.exclusion.ras_to_ijk @ image.ijk_to_ras
        matrix, offset = to_mask[:3, :3][::-1, ::-1], to_mask[:3, 3][::-1]
        inside = (case.exclusion.array != 0).astype(np.float32)
        excluded |= ndimage.affine_transform(inside, matrix, offset, image.shape, order=1, mode="constant") >= _HALF
    return excluded


def _require_orthogonal(image: Volume) -> None:
    axes = image.ijk_to_ras[:3, :3] / np.linalg.norm(image.ijk_to_ras[:3, :3], axis=0)
    if np.abs(axes.T @ axes - np.eye(3)).max() > 1e-4:
        raise InputError(
            f"The image '{image.name}' has sheared axes (gantry tilt?). Resample it to a regular grid first."
        )


def _mask_on_image_grid(case: Case, notes: list[str]) -> Box:
    """Return the mask's box on the image grid, with one voxel around it unless the image ends there."""
    image, mask = case.image, case.mask
    _require_labels(mask)
    inside = mask.array != 0 if case.label is None else mask.array == case.label
    if not inside.any():
        raise InputError(f"The {case.title} is empty. Draw it or choose another segment.")
    box = ndimage.find_objects(inside.astype(np.uint8))[0]
    if not image.same_grid(mask):
        notes.append(f"the mask was resampled onto the image grid ({_geometry_difference(image, mask)})")
        return _resample_mask(case, inside[box], np.array([s.start for s in box]), notes)
    start = np.maximum([s.start - 1 for s in box], 0)
    stop = np.minimum([s.stop + 1 for s in box], image.shape)
    return Box(inside[tuple(map(slice, start, stop))], start)


def _resample_mask(case: Case, inside: NDArray[np.bool_], start: NDArray[np.int64], notes: list[str]) -> Box:
    """Interpolate a mask of another grid linearly at the image's voxels and keep what reaches one half."""
    image, mask = case.image, case.mask
    corners = np.array([[k, j, i] for k in (0, 1) for j in (0, 1) for i in (0, 1)]) * (np.array(inside.shape) + 1)
    at = image.points_to_ijk(mask.points_to_ras((corners + start - 1)[:, ::-1]))[:, ::-1]
    first = np.maximum(np.floor(at.min(axis=0)).astype(np.int64), 0)
    stop = np.minimum(np.ceil(at.max(axis=0)).astype(np.int64) + 1, image.shape)
    if (first >= stop).any():
        raise InputError(f"The {case.title} lies outside the image '{image.name}'. Choose the image it was drawn on.")
    require_size(stop - first, case.title)
    image_to_mask = mask.ras_to_ijk @ image.ijk_to_ras
    matrix = image_to_mask[:3, :3][::-1, ::-1]
    offset = matrix @ first + image_to_mask[:3, 3][::-1] - start + 2
    padded = np.pad(inside.astype(np.float32), 2)
    shape = tuple(int(n) for n in stop - first)
    resampled = ndimage.affine_transform(padded, matrix, offset, shape, order=1, mode="constant") >= _HALF
    centers = image.points_to_ijk(mask.points_to_ras((np.argwhere(inside) + start)[:, ::-1]))[:, ::-1]
    beyond = ((centers < -0.5) | (centers > np.array(image.shape) - 0.5)).any(axis=1).mean()
    if beyond > 0:
        notes.append(f"{beyond:.1%} of the mask lies outside the image and is left out")
    ratio = resampled.sum() * image.voxel_volume_mm3 / (inside.sum() * mask.voxel_volume_mm3)
    if not resampled.any():
        raise InputError(
            f"The {case.title} covers no voxel of the image '{image.name}': it lies outside, or is thinner than its "
            f"voxels ({_sizes(image.spacing)} mm). Choose the image it was drawn on."
        )
    if abs(ratio - 1) > 0.1:
        notes.append(f"on the image grid the mask's volume changed by {ratio - 1:+.0%}")
    return Box(resampled, first)


def _require_numbers(case: Case, mask: Box) -> None:
    """Refuse a region in which an intensity is infinite or not a number."""
    array = case.image.array
    if array.dtype.kind == "c" or array.dtype.kind not in "fiub":
        raise InputError(f"The image '{case.image.name}' is not a scalar image. Choose its magnitude.")
    box = tuple(slice(a, a + n) for a, n in zip(mask.start, mask.array.shape, strict=True))
    bad = int(np.count_nonzero(~np.isfinite(array[box][mask.array])))
    if bad:
        raise InputError(
            f"{bad} of {int(mask.array.sum())} voxels in the {case.title} are not a number. "
            "Exclude them from the segment or mend the image."
        )


def _resample(case: Case, mask: Box, settings: Settings) -> tuple[Volume, NDArray[np.bool_]]:
    """Return image and morphological mask on the analysis grid, cropped to the region and its context."""
    image = case.image
    grid = target_grid(image, settings.spacing_kji_mm)
    context = np.ceil(CONTEXT_MM / (image.spacing * grid.step)).astype(np.int64)
    start = np.floor((mask.start - grid.origin) / grid.step).astype(np.int64) - context
    stop = np.ceil((mask.start + mask.array.shape - 1 - grid.origin) / grid.step).astype(np.int64) + context + 1
    start, stop = np.maximum(start, 0), np.minimum(stop, grid.size)
    resampled = resample_image(image, grid, start, stop, 3 if settings.interpolation == "cubic" else 1, case.title)
    inside = interpolate(Box(mask.array.astype(np.float64), mask.start), grid, start, stop, 1) >= _HALF
    return resampled, inside


def _resegment(
    array: NDArray[np.float64], mask: NDArray[np.bool_], settings: Settings, case: Case
) -> NDArray[np.bool_]:
    """Return the intensity mask: inside the range, then within `outlier_sigma` deviations of what remains."""
    intensity_mask = mask.copy()
    if settings.lower is not None:
        intensity_mask &= array >= settings.lower
    if settings.upper is not None:
        intensity_mask &= array <= settings.upper
    if settings.outlier_sigma is not None and intensity_mask.any():
        values = array[intensity_mask]
        reach = settings.outlier_sigma * values.std()
        intensity_mask &= np.abs(array - values.mean()) <= reach * (1 + 1e-12)
    remaining = int(intensity_mask.sum())
    if remaining < 2:
        values = array[mask]
        raise InputError(
            f"Re-segmentation leaves {remaining} of {values.size} voxels in the {case.title}, whose intensities run "
            f"from {values.min():g} to {values.max():g} {settings.intensity_unit}. Widen the range "
            f"{_limit(settings.lower, 'no lower limit')} to {_limit(settings.upper, 'no upper limit')}."
        )
    return intensity_mask


def _too_many_levels(case: Case, settings: Settings, intensities: NDArray[np.float64], count: int) -> str:
    span = float(np.ptp(intensities))
    advice = f"a bin width of {span / 64:.3g} gives about 64" if settings.discretization == "bin_width" else "use bins"
    return f"The {case.title} would have {count} gray levels; at most {MAX_LEVELS} are analysed. Coarsen: {advice}."


def _level_warnings(count: int, voxels: int) -> list[str]:
    if count > 256:
        return [f"{count} gray levels are many; aim at 16 to 128"]
    if count > voxels / 8:
        return [f"{count} gray levels for {voxels} voxels leave few voxels per level"]
    return []


def _geometry_difference(image: Volume, mask: Volume) -> str:
    if image.shape != mask.shape:
        return f"size {'x'.join(map(str, image.shape))} against {'x'.join(map(str, mask.shape))} voxels (K, J, I)"
    if not np.allclose(image.spacing, mask.spacing, rtol=1e-3):
        return f"spacing {_sizes(image.spacing)} against {_sizes(mask.spacing)} mm (K, J, I)"
    shift = float(np.linalg.norm(image.ijk_to_ras[:3, 3] - mask.ijk_to_ras[:3, 3]))
    return f"position or orientation differ; first voxels lie {shift:.3g} mm apart"


def _sizes(spacing: NDArray[np.float64]) -> str:
    return " x ".join(f"{s:.3g}" for s in spacing)


def _limit(value: float | None, without: str) -> str:
    return without if value is None else f"{value:g}"
