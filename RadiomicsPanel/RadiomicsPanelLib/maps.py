"""Feature maps: at each voxel the feature of its own surroundings, with the gray levels of the whole region."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_folder
from BreastBiomarkersLib.progress import Progress, ignore_progress, portion
from BreastBiomarkersLib.volume import Volume, write_volume
from numpy.typing import NDArray
from scipy import ndimage

from RadiomicsPanelLib.catalog import select_features
from RadiomicsPanelLib.feature import Family, Feature
from RadiomicsPanelLib.map_formulas import FORMULAS, ROWS
from RadiomicsPanelLib.map_tables import Kernel, KernelSource, KernelTables
from RadiomicsPanelLib.roi import Roi
from RadiomicsPanelLib.settings import settings_to_dict

MAX_RADIUS = 4
MAP_AGGREGATIONS = ("3D_avg", "3D_comb", "2D_avg", "2D_comb")
_CHUNK = 250_000  # table entries; small tables stay in the processor's cache


@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """Maps of one region.

    Attributes
    ----------
    roi : Roi
    radius : int, voxels
        The kernel has 2 radius + 1 voxels along each axis (or each axis of a slice).
    aggregation : str
        Of `MAP_AGGREGATIONS`.
    values : dict of str to (n,) ndarray of float
        By column name as in the tables; one value per voxel of the intensity mask, NaN where not applicable.
    units : dict of str to str
    """

    roi: Roi
    radius: int
    aggregation: str
    values: dict[str, NDArray[np.float64]]
    units: dict[str, str]

    def volume(self, column: str) -> Volume:
        """Return a map on the prepared grid, 32-bit, NaN outside the region."""
        array = np.full(self.roi.image.shape, np.nan, dtype=np.float32)
        array[self.roi.intensity_mask] = self.values[column]
        return self.roi.image.with_array(array, column)


def compute_feature_maps(
    roi: Roi,
    names: Sequence[str],
    radius: int = 1,
    aggregation: str = "3D_avg",
    progress: Progress = ignore_progress,
) -> FeatureMaps:
    """Return the maps of features: at each voxel, the feature of the part of the region within the kernel around it.

    Gray levels stay those of the whole region. Equal to measuring `kernel_roi` at every voxel.

    Parameters
    ----------
    roi : Roi
    names : sequence of str
        Families ("glcm") and single features by key ("glcm_contrast"); shape has no maps.
    radius : int, voxels
        1 to 4.
    aggregation : str
        "3D_avg", "3D_comb": a cube, features averaged or matrices merged over directions; "2D_...": a square in the
        slice.
    progress : Progress
        Called for each chunk of voxels; may cancel.

    Raises
    ------
    InputError
        If a name is unknown or has no map, or the radius or aggregation is not offered.
    """
    if radius not in range(1, MAX_RADIUS + 1):
        raise InputError(f"The kernel radius has to be a whole number of voxels, 1 to {MAX_RADIUS}.")
    if aggregation not in MAP_AGGREGATIONS:
        raise InputError(f"Maps are made with one aggregation of {', '.join(MAP_AGGREGATIONS)}.")
    selected = select_features(names)
    without = [family.title for family, _ in selected if family.name not in ROWS]
    if without or not selected:
        mapped = ", ".join(ROWS)
        raise InputError(f"{', '.join(without) or 'Nothing'} cannot be mapped: choose features of {mapped}.")
    source = KernelSource(roi, Kernel(radius, aggregation.startswith("2")))
    columns = {_column(family, feature, aggregation): feature for family, features in selected for feature in features}
    count = len(source.voxels)
    values = {column: np.empty(count) for column in columns}
    chunk = max(_CHUNK // len(source.kernel.offsets), 64)
    for first in range(0, count, chunk):
        part = slice(first, min(first + chunk, count))
        step = portion(progress, first / count, part.stop / count)
        tables = KernelTables(source, part.start, part.stop)
        for n, (family, features) in enumerate(selected):
            step(n / len(selected), f"{family.title}: voxel {first} of {count}")
            rows = ROWS[family.name](tables, aggregation.endswith("comb"))
            for feature in features:
                values[_column(family, feature, aggregation)][part] = _mean_over_rows(feature, rows)
    progress(1.0, "Maps computed")
    settings = roi.settings
    units = {
        column: f.unit.replace("I", settings.ivh_unit if f.family == "ivh" else settings.intensity_unit)
        for column, f in columns.items()
    }
    return FeatureMaps(roi, radius, aggregation, values, units)


def kernel_roi(roi: Roi, voxel_kji: Sequence[int], radius: int, planar: bool = False) -> Roi:
    """Return the part of a region within the kernel around a voxel, as a region with the same gray levels."""
    reach = (0 if planar else radius, radius, radius)
    near = np.zeros(roi.intensity_mask.shape, dtype=bool)
    near[tuple(slice(max(v - r, 0), v + r + 1) for v, r in zip(voxel_kji, reach, strict=True))] = True
    return replace(
        roi,
        morphological_mask=roi.morphological_mask & near,
        intensity_mask=roi.intensity_mask & near,
        levels=np.where(near, roi.levels, 0),
    )


def map_onto(volume: Volume, image: Volume) -> Volume:
    """Return a map on the grid of another image: the nearest voxel's value, NaN where there is none."""
    image_to_map = volume.ras_to_ijk @ image.ijk_to_ras
    matrix, offset = image_to_map[:3, :3][::-1, ::-1], image_to_map[:3, 3][::-1]
    array = ndimage.affine_transform(
        volume.array, matrix, offset, image.shape, order=0, mode="constant", cval=float("nan")
    )
    return image.with_array(array, volume.name)


def write_maps(maps: FeatureMaps, folder: str | Path, image: Volume | None = None) -> list[Path]:
    """Write each map as `<segment>_<column>.nrrd`, and `<segment>_maps.json` about all; return the maps' paths.

    Parameters
    ----------
    maps : FeatureMaps
    folder : str or Path
    image : Volume, optional
        Write the maps on this image's grid instead of the prepared one.

    Raises
    ------
    InputError
        If the folder cannot be written to.
    """
    segment = "".join(c if c.isalnum() or c in "-_." else "_" for c in maps.roi.segment)
    about = {
        "case": maps.roi.case_name,
        "segment": maps.roi.segment,
        "filter": maps.roi.filter,
        "kernel_radius_voxels": maps.radius,
        "aggregation": maps.aggregation,
        "grid": "source image" if image is not None else "prepared",
        "settings": settings_to_dict(maps.roi.settings),
        "preparation": maps.roi.record,
        "maps": {column: _summary(values, maps.units[column]) for column, values in maps.values.items()},
    }
    names = {column: f"{segment}_{column}.nrrd" for column in maps.values}
    with atomic_folder(folder) as temporary:
        for column, name in names.items():
            volume = maps.volume(column)
            volume = volume if image is None else map_onto(volume, image)
            write_volume(volume, temporary / name, {"units": maps.units[column]})
        text = json.dumps(about, indent=1, allow_nan=False) + "\n"
        (temporary / f"{segment}_maps.json").write_text(text, encoding="utf-8")
    return [Path(folder) / name for name in names.values()]


def _summary(values: NDArray[np.float64], unit: str) -> dict[str, Any]:
    known = values[np.isfinite(values)]
    summary: dict[str, Any] = {"unit": unit, "voxels": len(values), "not_applicable": len(values) - len(known)}
    if len(known):
        summary |= {"minimum": float(known.min()), "mean": float(known.mean()), "maximum": float(known.max())}
    return summary


def _column(family: Family, feature: Feature, aggregation: str) -> str:
    (name,) = family.aggregations((aggregation,))
    return f"{feature.key}_{name}" if name else feature.key


def _mean_over_rows(feature: Feature, rows: list[Any]) -> NDArray[np.float64]:
    """Return the mean over the matrices (one per direction, or one) on which the feature is defined."""
    formula = FORMULAS[feature.key]
    if len(rows) == 1:
        return formula(rows[0])
    each = np.stack([formula(one) for one in rows])
    defined = np.isfinite(each)
    count = defined.sum(axis=0)
    total = np.where(defined, each, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
