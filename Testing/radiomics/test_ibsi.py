"""The numbers nobody here made: IBSI-1 digital phantom, CT phantom, and the STS values nine teams agreed on."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from BreastBiomarkersLib.volume import Volume
from RadiomicsPanelLib.roi import Case, prepare_roi, read_cases
from RadiomicsPanelLib.settings import PRESETS, Settings
from scipy import ndimage

DATA = Path(__file__).parent / "data"


def test_digital_phantom_all_482_values_in_tolerance(phantom, measure, ibsi):
    reference = ibsi.read_reference(DATA / "ibsi1_digital_phantom.csv")
    assert len(reference) == 482
    assert ibsi.outside_tolerance(measure(phantom, "ibsi-phantom"), reference) == {}


def test_own_copy_of_the_phantom_is_the_published_one(phantom, shared_data, ibsi):
    folder = shared_data / "ibsi" / "ibsi1_digital_phantom"
    (published,) = read_cases(folder / "image.nii.gz", folder / "mask.nii.gz")
    inside = published.mask.array != 0
    np.testing.assert_array_equal(phantom.mask.array, inside)
    np.testing.assert_array_equal(phantom.image.array, published.image.array)
    table = ibsi.read_reference(folder / "reference_values.csv", ";", "reference value")
    assert table == ibsi.read_reference(DATA / "ibsi1_digital_phantom.csv")


@pytest.mark.parametrize("configuration, features, diagnostics", [("a", 346, 60), ("c", 210, 60)])
def test_ct_phantom_every_value_in_tolerance(configuration, features, diagnostics, shared_data, measure, ibsi):
    folder = shared_data / "ibsi" / "ibsi1_ct_phantom_NC"
    (case,) = read_cases(folder / "image.nii.gz", folder / "mask.nii.gz")
    settings = PRESETS[f"ibsi-{configuration}"]
    reference = ibsi.read_reference(folder / f"reference_values_config_{configuration}.csv", ";", "reference value")
    of_image = {tag: reference.pop(tag) for tag in list(reference) if tag.endswith(("_img", "_roi"))}
    assert (len(reference), len(of_image)) == (features, diagnostics)
    assert ibsi.outside_tolerance(measure(case, settings), reference) == {}

    found = preparation_values(case, settings)
    wrong = {tag: (found[tag], r) for tag, r in of_image.items() if abs(ibsi.three_digits(found[tag], r) - r[0]) > r[1]}
    assert wrong == {}


def preparation_values(case: Case, settings: Settings) -> dict[str, float]:
    """Return the reference tables' values about image and masks before, after interpolation, and re-segmented."""
    everything = Volume(np.ones(case.image.shape, dtype=bool), case.image.ijk_to_ras, "everything")
    unlimited = replace(settings, lower=None, upper=None, discretization="bin_count", bin_count=32, bin_width=None)
    whole = prepare_roi(replace(case, mask=everything, label=None), unlimited).image
    found = {}
    for stage, image in (("init", case.image), ("interp", whole)):
        for axis, size, spacing in zip("zyx", image.shape, image.spacing, strict=True):
            found[f"img_dim_{axis}_{stage}_img"] = size
            found[f"vox_dim_{axis}_{stage}_img"] = spacing
        for name, value in (("mean", image.array.mean()), ("min", image.array.min()), ("max", image.array.max())):
            found[f"{name}_int_{stage}_img"] = value
    source = replace(unlimited, spacing_kji_mm=None, round_intensities=False)
    for stage, chosen, grid in (
        ("init", source, case.image),
        ("interp", unlimited, whole),
        ("reseg", settings, whole),
    ):
        roi = prepare_roi(case, chosen)
        for kind, mask in (("int", roi.intensity_mask), ("morph", roi.morphological_mask)):
            found[f"{kind}_mask_vox_count_{stage}_roi"] = mask.sum()
            box = ndimage.find_objects(mask.astype(int))[0]
            for axis, part, size in zip("zyx", box, grid.shape, strict=True):
                found[f"{kind}_mask_dim_{axis}_{stage}_roi"] = size
                found[f"{kind}_mask_bb_dim_{axis}_{stage}_roi"] = part.stop - part.start
        for name in ("mean", "min", "max"):
            found[f"int_mask_{name}_int_{stage}_roi"] = getattr(roi.intensities, name)()
    return found


@pytest.mark.parametrize("configuration, features", [("b", 346), ("d", 210), ("e", 210)])
def test_other_ct_configurations_every_value_in_tolerance(configuration, features, shared_data, measure, ibsi):
    folder = shared_data / "ibsi" / "ibsi1_ct_phantom_NC"
    (case,) = read_cases(folder / "image.nii.gz", folder / "mask.nii.gz")
    reference = ibsi.read_reference(DATA / f"ibsi1_ct_phantom_{configuration}.csv")
    assert len(reference) == features
    values = measure(case, f"ibsi-{configuration}")
    assert ibsi.outside_tolerance(values, reference) == {}
    (unit,) = {v.unit for v in values if v.feature.tag.startswith("ivh_i")}
    assert unit == ("gray level" if configuration == "e" else "HU")


def test_sts_consensus_within_one_percent_where_three_teams_agree(shared_data, measure, ibsi):
    mr = Settings(
        spacing_kji_mm=(1.0, 1.0, 1.0), interpolation="cubic", lower=0.0, discretization="bin_width", bin_width=10.0
    )
    settings = {"MR_T1": mr, "PET": replace(mr, spacing_kji_mm=(3.0, 3.0, 3.0), bin_width=0.25)}
    consensus = defaultdict(dict)
    with (shared_data / "ibsi" / "ibsi1_validation_sts" / "reference_values.csv").open() as file:
        for row in csv.DictReader(file):
            if int(row["n_teams_agreeing_1pct"]) >= 3:
                consensus[row["case"], row["modality"]][row["ibsi_tag"]] = float(row["consensus"])
    assert Counter({key: len(values) for key, values in consensus.items()}).total() == 790
    wrong = {}
    for (name, modality), values in consensus.items():
        stem = shared_data / "segmentation" / "sts" / f"{name}_{modality}"
        (case,) = read_cases(f"{stem}_image.nii.gz", f"{stem}_mask.nii.gz")
        ours = ibsi.by_tag(measure(case, settings[modality]))
        wrong |= {(name, tag): (ours[tag], v) for tag, v in values.items() if ours[tag] != pytest.approx(v, rel=0.01)}
    assert wrong == {}
