"""Reproducing pyradiomics: the values it ships for its own regression tests, and the table of counterparts."""

from __future__ import annotations

import ast
import csv
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume
from RadiomicsPanelLib.catalog import FEATURES
from RadiomicsPanelLib.pyradiomics_mode import (
    COUNTERPARTS,
    PyradiomicsSettings,
    compute_like_pyradiomics,
    prepare_like_pyradiomics,
)
from RadiomicsPanelLib.roi import Case, read_cases

# Where voxels touch at corners its surface is closed differently than VTK's; only the ragged brain1 mask has such.
SURFACE = {f"original_shape_{name}" for name in ("Sphericity", "SurfaceVolumeRatio", "MeshVolume", "SurfaceArea")}


def settings_of(stored: dict) -> PyradiomicsSettings:
    return PyradiomicsSettings(
        bin_width=stored.get("binWidth", 25),
        bin_count=stored.get("binCount"),
        spacing_ijk_mm=stored["resampledPixelSpacing"] and tuple(stored["resampledPixelSpacing"]),
        normalize=stored["normalize"],
        normalize_scale=stored["normalizeScale"],
        resegment_range=stored["resegmentRange"] and tuple(stored["resegmentRange"]),
        resegment_mode=stored.get("resegmentMode", "absolute"),
        merged=stored.get("weightingNorm") == "no_weighting",
        force_2d=stored["force2D"],
        voxel_array_shift=stored.get("voxelArrayShift", 0),
    )


def test_baseline_values_of_pyradiomics(shared_data):
    """All 3-D baselines: plain, 2-D neighbors, fixed count, merged, flat, normalized, resampled, re-segmented."""
    compared, wrong, known = Counter(), {}, {}
    for path in sorted((shared_data / "ibsi" / "pyradiomics_baseline").glob("baseline_*.csv")):
        if path.stem == "baseline_shape2D":
            continue
        with path.open() as file:
            rows = {row[0]: row[1:] for row in csv.reader(file)}
        for n, name in enumerate(rows["featureName"]):
            stored = ast.literal_eval(rows["diagnostics_Configuration_Settings"][n])
            stem, settings = shared_data / "segmentation" / "pyradiomics" / name.split("_")[0], settings_of(stored)
            if (stem, settings) not in known:
                (case,) = read_cases(f"{stem}_image.nrrd", f"{stem}_label.nrrd", stored["label"])
                known[stem, settings] = compute_like_pyradiomics(prepare_like_pyradiomics(case, settings), settings)
            ours = known[stem, settings]
            expected = {key: float(row[n]) for key, row in rows.items() if key.startswith("original_") and row[n]}
            for key, value in expected.items():
                ragged = name.startswith("brain1") and key in SURFACE
                compared[ragged] += 1
                if ours[key] != pytest.approx(value, rel=3e-3 if ragged else 1e-9, abs=1e-12):
                    wrong[name, key] = (ours[key], value)
    assert wrong == {}
    assert compared == {False: 1322, True: 8}


def test_counterparts_are_in_the_catalog_once():
    ours, theirs = [c.ours for c in COUNTERPARTS], [c.theirs for c in COUNTERPARTS]
    assert len(set(ours)) == len(set(theirs)) == len(COUNTERPARTS) == 96
    assert set(ours) <= {f.key for f in FEATURES}


def test_where_the_preparation_differs_from_ibsi(lump):
    """Bins count from a multiple of the width and are renumbered; the mask stays as drawn without resampling."""
    roi = prepare_like_pyradiomics(lump(), PyradiomicsSettings(bin_width=7.0))
    origin = roi.intensities.min() - roi.intensities.min() % 7
    np.testing.assert_array_equal(roi.levels[roi.intensity_mask], np.floor((roi.intensities - origin) / 7) + 1)
    assert roi.morphological_mask.sum() == lump().mask.array.sum()
    assert roi.settings.name == "as published (pyradiomics)"


@pytest.mark.parametrize(
    ("force_2d", "expected"),
    [
        (True, (0.17187500000000006, 0.9090909090909091, 4.6033333333333335, 0.0648, 8.0)),
        (False, (0.5598958333333335, 0.27906976744186046, 14.260555555555555, 0.2304, 2.25)),
    ],
)
def test_voxels_without_a_neighbor_count_in_ngtdm(force_2d, expected):
    """The expected values are those of pyradiomics 3.0.1 with binWidth 1."""
    levels = np.zeros((3, 3, 3))
    levels[0] = [[3, 1, 0], [2, 0, 0], [0, 0, 4]]
    levels[1, 1, 1] = 5
    levels[2] = [[1, 2, 2], [0, 0, 0], [3, 0, 3]]
    image = Volume(levels, np.eye(4), "levels")
    settings = PyradiomicsSettings(bin_width=1.0, force_2d=force_2d)
    names = [f"ngtdm_{name}" for name in ("Busyness", "Coarseness", "Complexity", "Contrast", "Strength")]
    roi = prepare_like_pyradiomics(Case(image, image.with_array(levels > 0), "case", "lump"), settings)
    ours = compute_like_pyradiomics(roi, settings, names)
    assert [ours[f"original_{name}"] for name in names] == pytest.approx(expected, rel=1e-12)


def test_relative_thresholds(lump):
    roi = prepare_like_pyradiomics(
        lump(), PyradiomicsSettings(resegment_range=(0.5, 0.9), resegment_mode="relative", bin_count=8)
    )
    values = lump().image.array[lump().mask.array]
    inside = (values >= 0.5 * values.max()) & (values <= 0.9 * values.max())
    assert len(roi.intensities) == inside.sum()


def test_what_pyradiomics_would_choke_on_is_refused(lump):
    for settings, message in (
        (PyradiomicsSettings(bin_width=1e-4), "gray levels; at most 1024"),
        (
            PyradiomicsSettings(resegment_range=(1e6,)),
            "Re-segmentation leaves 0 voxels in the segment 'lump' of 'case'",
        ),
        (PyradiomicsSettings(spacing_ijk_mm=(40.0, 40.0, 60.0)), "voxels after resampling. Choose a finer grid"),
    ):
        with pytest.raises(InputError, match=message):
            prepare_like_pyradiomics(lump(), settings)
    image = lump().image.array.copy()
    image[7, 11, 13] = np.nan
    with pytest.raises(InputError, match="not a number"):
        prepare_like_pyradiomics(replace(lump(), image=lump().image.with_array(image)), PyradiomicsSettings())
