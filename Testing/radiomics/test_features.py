"""What holds for every feature: the catalog, invariances, and a stated status where a feature has no value."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Cancelled
from BreastBiomarkersLib.volume import Volume
from conftest import oblique_ijk_to_ras
from RadiomicsPanelLib.catalog import FAMILIES, FEATURES
from RadiomicsPanelLib.extract import compute_features, extract_all
from RadiomicsPanelLib.feature import AGGREGATIONS
from RadiomicsPanelLib.roi import Case, prepare_roi
from RadiomicsPanelLib.settings import Settings

ALL_WAYS = Settings(bin_count=16, aggregations=AGGREGATIONS)
IN_SPACE = Settings(bin_count=16)
BUT_SKELETON = [f.name for f in FAMILIES if f.name != "skel"]  # thinning takes voxels in an order; see test_skeleton


def test_catalog_and_reference_table_are_the_same_set(phantom, measure):
    """Tags with aggregation, against the published table; what IBSI does not define has no code."""
    rows = (Path(__file__).parent / "data" / "ibsi1_digital_phantom.csv").read_text().splitlines()[1:]
    published = {row.split(",")[0] for row in rows}
    values = measure(phantom, "ibsi-phantom")
    ours = {f"{v.feature.tag}_{v.aggregation}".rstrip("_"): v.feature for v in values}
    assert {tag for tag, feature in ours.items() if feature.standardized} == published
    assert len(values) == len(ours)


def test_every_entry_of_the_catalog_is_complete():
    keys = [feature.key for feature in FEATURES]
    assert len(set(keys)) == len(keys)
    assert sum(f.standardized for f in FEATURES) == 174
    codes = [f.ibsi for f in FEATURES if f.ibsi]
    shared = {code for code in codes if codes.count(code) > 1}
    assert shared == {"BC2M", "GBPN"}  # V10 and V90, I10 and I90
    for feature in FEATURES:
        assert feature.compute.__doc__.startswith("Return "), feature.key
        assert feature.category in ("morphological", "statistical", "regional", "skeleton")
        assert feature.standardized == bool(feature.ibsi)
        assert feature.duplicate_of == "" or feature.duplicate_of in keys
        assert (len(feature.ibsi), feature.ibsi.isalnum()) in ((4, True), (0, False))
    own = {f.family for f in FEATURES if not f.standardized}
    assert own == {"glcm", "depth", "skel"}  # of the GLCM the maximal correlation coefficient
    assert {f.category for f in FEATURES} == {"morphological", "statistical", "regional", "skeleton"}
    assert all(f.family == family.name for family in FAMILIES for f in family.features)


def test_duplicates_are_duplicates(lump, measure):
    """They are hidden from selection, so they have to be equal up to one factor and offset, in every region."""
    regions = [{v.column: v.value for v in measure(lump(seed=s), IN_SPACE)} for s in (1, 2, 3)]
    for feature in (f for f in FEATURES if f.duplicate_of):
        ours = [c for c in regions[0] if c.startswith(feature.key)]
        for column in ours:
            suffix = column.removeprefix(feature.key)
            twin = (
                feature.duplicate_of + suffix if feature.duplicate_of + suffix in regions[0] else feature.duplicate_of
            )
            x, y = ([r[c] for r in regions] for c in (column, twin))
            assert (x[2] - x[0]) * (y[1] - y[0]) == pytest.approx((x[1] - x[0]) * (y[2] - y[0]), rel=1e-6), column


def assert_same(first, second, tolerance=1e-9, factors=None):
    assert [v.column for v in first] == [v.column for v in second]
    for a, b in zip(first, second, strict=True):
        if a.value is None:
            assert b.value is None, a.column
            continue
        expected = a.value * (factors or {}).get(a.feature.name, 1.0)
        assert b.value == pytest.approx(expected, rel=tolerance, abs=1e-9), a.column


def turned(case: Case, change) -> Case:
    image, mask = (v.with_array(np.ascontiguousarray(change(v.array))) for v in (case.image, case.mask))
    return replace(case, image=image, mask=mask)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_flips_change_nothing(lump, measure, axis):
    case = lump()
    flipped = turned(case, lambda a: np.flip(a, axis))
    assert_same(measure(case, ALL_WAYS, BUT_SKELETON), measure(flipped, ALL_WAYS, BUT_SKELETON), 1e-5)


def test_exchanging_axes_changes_nothing_in_space(lump, measure):
    case = lump()
    matrix = case.image.ijk_to_ras[:, [2, 0, 1, 3]]
    image, mask = (Volume(v.array.transpose(1, 2, 0), matrix, v.name) for v in (case.image, case.mask))
    assert image.spacing == pytest.approx(case.image.spacing[[1, 2, 0]])
    exchanged = replace(case, image=image, mask=mask)
    assert_same(measure(case, IN_SPACE, BUT_SKELETON), measure(exchanged, IN_SPACE, BUT_SKELETON), 1e-5)


def test_orientation_in_the_patient_changes_nothing(lump, measure):
    upright, oblique = (lump(m) for m in (np.diag([0.7, 1.3, 2.9, 1.0]), oblique_ijk_to_ras(flip=1)))
    assert_same(measure(upright, ALL_WAYS), measure(oblique, ALL_WAYS), 1e-5)


def test_padding_and_moving_change_nothing(lump, measure):
    case, wide = lump(), ((5, 6), (7, 8), (9, 10))
    image, mask = np.pad(case.image.array, wide, "edge"), np.pad(case.mask.array, wide)
    families = [f.name for f in FAMILIES if f.name not in ("loc", "depth")]  # they see the image around the region
    padded = replace(case, image=Volume(image, case.image.ijk_to_ras), mask=Volume(mask, case.mask.ijk_to_ras))
    assert_same(measure(case, ALL_WAYS, families), measure(padded, ALL_WAYS, families), 1e-9)


def test_scaling_the_spacing_scales_lengths_only(lump, measure):
    case = lump()
    double = np.diag([2.0, 2.0, 2.0, 1.0]) @ case.image.ijk_to_ras
    doubled = replace(case, image=Volume(case.image.array, double), mask=Volume(case.mask.array, double))
    powers = {"mm": 2.0, "mm^2": 4.0, "mm^3": 8.0, "a.u. mm^3": 8.0, "1/mm": 0.5}
    families = [f.name for f in FAMILIES if f.name not in ("loc", "depth", "skel")]  # 1 cm^3, 3 mm do not scale
    values = measure(case, ALL_WAYS, families)
    factors = {v.feature.name: powers.get(v.unit, 1.0) for v in values}
    assert_same(values, measure(doubled, ALL_WAYS, families), 1e-6, factors)


def test_adding_to_and_scaling_intensities_leaves_bin_count_textures(lump, measure):
    case = lump()
    textures = ["ih", "glcm", "glrlm", "glszm", "gldzm", "ngtdm", "ngldm"]
    scaled = replace(case, image=case.image.with_array(case.image.array * 8 - 1024))
    assert_same(measure(case, ALL_WAYS, textures), measure(scaled, ALL_WAYS, textures))


def test_two_segments_differ(lump):
    first, second = extract_all([lump(seed=3), lump(seed=4)], IN_SPACE, names=BUT_SKELETON)
    same = [a.column for a, b in zip(first.values, second.values, strict=True) if a.value == b.value]
    by_construction = {"ih_minimum", "ih_maximum", "ih_range", "ngldm_dependence_count_percentage_3D"}
    assert by_construction <= set(same) <= by_construction | {"ih_mode", "ih_median"}


def test_intensity_volume_histogram_of_a_ramp(measure):
    """Continuous intensities fall into 1000 bins: v(g) = 1 - g."""
    ramp = np.linspace(-3, 7, 20_001).reshape(1, 1, -1)
    case = Case(Volume(ramp, np.eye(4), "ramp"), Volume(ramp > -9, np.eye(4), "mask"), "case", "ramp")
    found = {v.feature.tag: v.value for v in measure(case, Settings(), ["ivh"])}
    assert found["ivh_v10"] == pytest.approx(0.9, abs=2e-3)
    assert found["ivh_v90"] == pytest.approx(0.1, abs=2e-3)
    assert found["ivh_i10"] == pytest.approx(6, abs=0.02)
    assert found["ivh_i90"] == pytest.approx(-2, abs=0.02)
    assert found["ivh_auc"] == pytest.approx(0.5, abs=2e-3)


SHAPES = {
    "two voxels": [(0, 0, 0), (0, 0, 1)],
    "two apart": [(0, 0, 0), (4, 4, 4)],
    "two slices": [(0, 0, 0), (1, 0, 0)],
    "diagonal": [(0, 0, 0), (1, 1, 1)],
    "line": [(0, 2, i) for i in range(6)],
    "slice": [(1, j, i) for j in range(5) for i in range(6)],
    "block": [(k, j, i) for k in range(3) for j in range(3) for i in range(3)],
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["constant", "zero", "varied", "two parts", "huge"])
def test_small_and_constant_regions_give_values_or_say_why_not(shape, kind, measure):
    mask = np.zeros((5, 6, 7), dtype=bool)
    mask[tuple(np.transpose(SHAPES[shape]))] = True
    image = {
        "constant": np.full(mask.shape, 0.1),
        "zero": np.zeros(mask.shape),
        "varied": np.random.default_rng(0).integers(1, 9, mask.shape).astype(float),
        "two parts": (np.arange(5) > 1)[:, None, None] * 5.0 + np.zeros(mask.shape),
        "huge": np.random.default_rng(0).random(mask.shape) * 1e300,
    }[kind]
    case = Case(Volume(image, np.eye(4), "image"), Volume(mask, np.eye(4), "mask"), "case", shape)
    with np.errstate(over="ignore", invalid="ignore"):
        values = measure(case, ALL_WAYS)
    assert sum(v.feature.standardized for v in values) == 487
    for v in values:
        if v.value is None:
            assert v.note.startswith("not applicable: ")
            assert len(v.note) > len("not applicable: ") + 10, v.column
        else:
            assert math.isfinite(v.value), v.column
    named = {v.column: v for v in values}
    if kind in ("constant", "zero"):
        assert named["glcm_correlation_3D_comb"].value is None
        assert named["stat_skewness"].note == "not applicable: all voxels have one intensity"
        assert named["morph_moran_i"].value is None
    if kind == "zero":
        assert named["stat_coefficient_of_variation"].note == "not applicable: the mean is 0"
        assert named["morph_center_of_mass_shift"].note == "not applicable: the intensities sum to 0"
    if shape == "two apart":
        assert named["glcm_contrast_3D_avg"].note == "not applicable: no two voxels are neighbors"
        assert named["ngtdm_contrast_3D"].value is None
    if shape in ("slice", "line"):
        assert named["morph_ellipsoid_volume_density"].note == "not applicable: the voxel centers lie in one plane"
    if shape == "two slices":
        assert named["glcm_contrast_2D_avg"].value is None
        if kind == "varied":
            assert named["glcm_contrast_3D_avg"].value > 0


def test_a_mean_over_fewer_matrices_says_so(lump, measure):
    case = lump()
    mask = case.mask.array.copy()
    mask[0], mask[0, 3, 3:5] = False, True
    image = case.image.array.copy()
    image[0, 3, 3:5] = 200
    values = measure(
        turned(replace(case, image=case.image.with_array(image)), lambda a: mask if a.dtype == bool else a), ALL_WAYS
    )
    (value,) = [v for v in values if v.column == "glcm_correlation_2D_comb"]
    assert value.value is not None
    assert value.note.startswith("mean of ")
    assert value.note.endswith("in the others all neighbors have one gray level")


def test_only_the_chosen_features(lump):
    roi = prepare_roi(lump(), IN_SPACE)
    assert {v.feature.family for v in compute_features(roi, ["ngtdm", "stat"])} == {"stat", "ngtdm"}
    chosen = compute_features(roi, ["morph_sphericity", "glcm_contrast", "loc"])
    assert [v.column for v in chosen] == [
        "morph_sphericity",
        "loc_local_peak",
        "loc_global_peak",
        "glcm_contrast_3D_avg",
        "glcm_contrast_3D_comb",
    ]
    with pytest.raises(InputError, match="'texture' is neither a feature nor a family .morph, loc"):
        compute_features(roi, ["texture"])


def test_progress_rises_and_cancels(lump):
    seen = []
    extract_all([lump(), lump(seed=4)], IN_SPACE, lambda fraction, message: seen.append(fraction))
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.0, 1.0)

    def stop(fraction, message):
        if fraction > 0.5:
            raise Cancelled

    with pytest.raises(Cancelled):
        extract_all([lump(), lump(seed=4)], IN_SPACE, stop)
