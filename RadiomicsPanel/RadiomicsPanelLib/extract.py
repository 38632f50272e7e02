"""From cases and settings to feature values with their provenance."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import scipy
import SimpleITK as sitk
from BreastBiomarkersLib.progress import Progress, ignore_progress, portion
from BreastBiomarkersLib.volume import Volume

from RadiomicsPanelLib.catalog import FEATURES, select_features
from RadiomicsPanelLib.feature import Feature, NotApplicable
from RadiomicsPanelLib.filtered import filter_around, filtered_roi
from RadiomicsPanelLib.roi import Case, Roi, prepare_roi
from RadiomicsPanelLib.settings import Settings, settings_to_dict

VERSION = "0.1.0"


@dataclass(frozen=True)
class FeatureValue:
    """One number, or why there is none.

    Attributes
    ----------
    feature : Feature
    aggregation : str
        "" for features of the region, "2D", "2_5D" or "3D" for zonal ones, else one of `AGGREGATIONS`.
    value : float or None
        None if the feature is not applicable; then `note` says why.
    unit, note : str
    """

    feature: Feature
    aggregation: str
    value: float | None
    unit: str
    note: str = ""

    @property
    def column(self) -> str:
        """Name of the value's column in a wide table."""
        return f"{self.feature.key}_{self.aggregation}" if self.aggregation else self.feature.key


@dataclass(frozen=True)
class Extraction:
    """All values of one segment in one (filtered) image.

    Attributes
    ----------
    case, segment, filter : str
        The filter is "original" for the image itself.
    values : tuple of FeatureValue
    preparation : dict
        Source geometry and hashes, numbers of the preparation, notes.
    settings : Settings
    """

    case: str
    segment: str
    filter: str
    values: tuple[FeatureValue, ...]
    preparation: dict[str, Any]
    settings: Settings


def compute_features(
    roi: Roi, names: Sequence[str] | None = None, progress: Progress = ignore_progress
) -> list[FeatureValue]:
    """Return the values of all features, or of the named features and families, in the region's aggregations.

    In a filtered image shape is left out: it would be measured again, not otherwise.

    Raises
    ------
    InputError
        If a name is unknown, or VTK is missing for shape features.
    """
    values: list[FeatureValue] = []
    selected = [
        (family, features)
        for family, features in select_features(names)
        if family.of_responses or roi.filter == "original"
    ]
    for n, (family, features) in enumerate(selected):
        progress(n / len(selected), family.title)
        prepared = family.prepare(roi, family.aggregations(roi.settings.aggregations))
        unit = roi.settings.ivh_unit if family.name == "ivh" else roi.settings.intensity_unit
        for aggregation, objects in prepared.items():
            values += [feature_value(f, objects, aggregation, unit) for f in features]
    progress(1.0, "Features computed")
    return values


def extract_all(
    cases: Sequence[Case],
    settings: Settings,
    progress: Progress = ignore_progress,
    names: Sequence[str] | None = None,
) -> list[Extraction]:
    """Return the features of several segments, each in its image and then in every filtered image of the settings.

    Segments of one image (the same `Volume`) are measured in one filtered image: each filter runs once.

    Raises
    ------
    InputError
        For the first segment that cannot be measured, naming it; as `prepare_roi`, `compute_features` and
        `filter_around`.
    """
    select_features(names)
    share = 1 / (1 + len(settings.filters))
    first, rois = portion(progress, 0.0, share), []
    segments: list[list[Extraction]] = []
    groups = _cases_by_image(cases)
    sources = {n: source for group in groups for source in [describe_source(cases[group[0]].image)] for n in group}
    for n, case in enumerate(cases):
        step = portion(first, n / len(cases), (n + 1) / len(cases))
        step(0.0, f"Preparing {case.segment}")
        rois.append(prepare_roi(case, settings))
        segments.append([_measure(case, rois[-1], sources[n], settings, names, portion(step, 0.1, 1.0))])
    for f, chosen in enumerate(settings.filters, 1):
        of_filter, done = portion(progress, f * share, (f + 1) * share), 0
        for group in groups:
            of_filter(done / len(cases), f"Filtering: {chosen.label}")
            response = filter_around(cases[group[0]].image, [rois[n] for n in group], settings, chosen)
            for n in group:
                roi = filtered_roi(rois[n], response, chosen)
                step = portion(of_filter, done / len(cases), (done + 1) / len(cases))
                segments[n].append(_measure(cases[n], roi, sources[n], settings, names, portion(step, 0.3, 1.0)))
                done += 1
    return [extraction for segment in segments for extraction in segment]


def provenance(extractions: Sequence[Extraction]) -> dict[str, Any]:
    """Return where the numbers come from, as plain data: versions, settings, preparation, meaning of each column."""
    return {
        "program": "BreastBiomarkers RadiomicsPanel",
        "version": VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "SimpleITK": sitk.Version_VersionString(),
        },
        "settings": settings_to_dict(extractions[0].settings),
        "segments": [{"case": e.case, "segment": e.segment, "filter": e.filter, **e.preparation} for e in extractions],
        "filters": {
            f.label: {"ibsi_code": f.code, "standardized": f.standardized} for f in extractions[0].settings.filters
        },
        "columns": {
            v.column: {
                "category": v.feature.category,
                "ibsi_code": v.feature.ibsi,
                "standardized": v.feature.standardized,
                "unit": v.unit,
                "duplicate_of": v.feature.duplicate_of,
                "reference": v.feature.reference,
            }
            for v in extractions[0].values
        },
        "catalog_size": len(FEATURES),
    }


def _cases_by_image(cases: Sequence[Case]) -> list[list[int]]:
    """Return the numbers of the cases of each image, which may be held by several cases."""
    groups: dict[int, list[int]] = {}
    for n, case in enumerate(cases):
        groups.setdefault(id(case.image), []).append(n)
    return list(groups.values())


def _measure(
    case: Case, roi: Roi, source: dict[str, Any], settings: Settings, names: Sequence[str] | None, progress: Progress
) -> Extraction:
    """Return the region's features with where they come from."""
    values = compute_features(roi, names, progress)
    mask = describe_source(case.mask) | {"label": case.label}
    preparation = {"image": source, "mask": mask, **roi.record, "notes": list(roi.notes)}
    return Extraction(case.name, case.segment, roi.filter, tuple(values), preparation, settings)


def feature_value(
    feature: Feature, objects: Sequence[Any], aggregation: str = "", intensity_unit: str = "a.u."
) -> FeatureValue:
    """Return the mean over all prepared objects on which the feature is defined, or a note why there is none."""
    value, note = _mean_value(feature, objects)
    unit = feature.unit.replace("I", intensity_unit) if "I" in feature.unit else feature.unit
    return FeatureValue(feature, aggregation, value, unit, note)


def _mean_value(feature: Feature, objects: Sequence[Any]) -> tuple[float | None, str]:
    """Return the mean over all matrices on which the feature is defined, or None, and a note."""
    values, reason = [], ""
    for prepared in objects:
        try:
            values.append(feature.compute(prepared))
        except NotApplicable as status:
            reason = str(status)
    if not values:
        return None, f"not applicable: {reason or 'no two voxels are neighbors'}"
    mean = float(np.mean(values))
    if not np.isfinite(mean):
        return None, "not applicable: the intensities are too large to compute with"
    if len(values) < len(objects):
        return mean, f"mean of {len(values)} of {len(objects)} matrices; in the others {reason}"
    return mean, ""


def describe_source(volume: Volume) -> dict[str, Any]:
    """Return name, geometry and digest of an image or mask, for the provenance."""
    digest = hashlib.sha256(np.ascontiguousarray(volume.array).data)
    digest.update(volume.ijk_to_ras.tobytes())
    return {
        "name": volume.name,
        "size_kji": list(volume.shape),
        "spacing_kji_mm": volume.spacing.tolist(),
        "ijk_to_ras": volume.ijk_to_ras.tolist(),
        "sha256": digest.hexdigest(),
    }
