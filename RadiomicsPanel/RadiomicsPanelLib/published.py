"""Tables of a study made with pyradiomics: its values, under its names, in the shape of our own extractions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from BreastBiomarkersLib.progress import Progress, ignore_progress, portion

from RadiomicsPanelLib.extract import Extraction, FeatureValue, describe_source
from RadiomicsPanelLib.feature import Category, Feature, NotApplicable
from RadiomicsPanelLib.pyradiomics_mode import NAME, NAMES, prepare_like_pyradiomics
from RadiomicsPanelLib.roi import Case, LevelPreview, prepare_roi
from RadiomicsPanelLib.settings import Settings
from RadiomicsPanelLib.yaml_pyradiomics import PyradiomicsParameters, extract_like_pyradiomics

_ONE_STEP = Settings(name=NAME, bin_count=2)

REFERENCE = "pyradiomics, doi 10.1158/0008-5472.CAN-17-0339"


def extract_published(
    cases: Sequence[Case], parameters: PyradiomicsParameters, progress: Progress = ignore_progress
) -> list[Extraction]:
    """Return the values pyradiomics would give for several segments, one extraction per segment and image type.

    Raises
    ------
    InputError
        As `extract_like_pyradiomics`.
    """
    found = []
    settings = Settings(name=NAME, reason="Reproduces a published study; the values are not those of IBSI.")
    features = {name: published_feature(name) for name in NAMES}
    for n, case in enumerate(cases):
        step = portion(progress, n / len(cases), (n + 1) / len(cases))
        by_image: dict[str, list[FeatureValue]] = {}
        for column, value in extract_like_pyradiomics(case, parameters, step).items():
            prefix, _, name = column.partition("_")
            while name not in features:  # a prefix may hold underscores itself
                more, _, name = name.partition("_")
                prefix = f"{prefix}_{more}"
            by_image.setdefault(prefix, []).append(FeatureValue(features[name], "", value, ""))
        about = {
            "image": describe_source(case.image),
            "mask": describe_source(case.mask) | {"label": case.label},
            "notes": ["as published with pyradiomics: not the definitions of IBSI"],
        }
        found += [
            Extraction(case.name, case.segment, prefix, tuple(v), about, settings) for prefix, v in by_image.items()
        ]
    return found


def preview_published(case: Case, parameters: PyradiomicsParameters) -> LevelPreview:
    """Return the gray levels of a segment in the image itself, as pyradiomics would make them.

    Raises
    ------
    InputError
        As `prepare_like_pyradiomics`.
    """
    settings = parameters.settings
    roi = prepare_like_pyradiomics(case, settings)
    low, high = float(roi.intensities.min()), float(roi.intensities.max())
    width = settings.bin_width
    if settings.bin_count is not None:
        width = (high - low) / settings.bin_count
    elif width > 0:
        low = np.floor(low / width) * width
    counts = np.bincount(roi.levels[roi.intensity_mask], minlength=roi.level_count + 1)[1:]
    mm3 = int(roi.morphological_mask.sum()) * roi.image.voxel_volume_mm3
    source_mm3 = int(prepare_roi(case, _ONE_STEP).morphological_mask.sum()) * case.image.voxel_volume_mm3
    edges = low + width * np.arange(roi.level_count + 1.0)
    occupied = int(np.count_nonzero(counts))
    return LevelPreview(roi.level_count, occupied, len(roi.intensities), source_mm3, mm3, edges, counts, ())


def published_feature(name: str) -> Feature:
    """Return the description of a feature of pyradiomics, such as "glcm_Contrast"; its value is computed elsewhere."""
    family, _, own = name.partition("_")
    category: Category = "morphological" if family == "shape" else "statistical"
    return Feature(own, family, category, "", "", "", _elsewhere, reference=REFERENCE)


def _elsewhere(prepared: object) -> float:
    """Value of pyradiomics."""
    raise NotApplicable("computed by RadiomicsPanelLib.pyradiomics_mode")
