"""Feature maps: equal to measuring the kernel of each voxel; cancel, bad input, files, command line."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Cancelled
from BreastBiomarkersLib.volume import Volume, read_volume, write_volume
from conftest import oblique_ijk_to_ras
from RadiomicsPanelLib.catalog import FAMILIES
from RadiomicsPanelLib.cli import main
from RadiomicsPanelLib.extract import compute_features
from RadiomicsPanelLib.map_formulas import FORMULAS, ROWS
from RadiomicsPanelLib.maps import compute_feature_maps, kernel_roi, map_onto, write_maps
from RadiomicsPanelLib.roi import Case, prepare_roi
from RadiomicsPanelLib.settings import Settings

MAPPED = [family.name for family in FAMILIES if family.name in ROWS]


def ragged(levels=12, shape=(9, 12, 15), seed=0, **settings):
    """A region with holes, re-segmented, with few levels in one part (zones) and many in another."""
    rng = np.random.default_rng(seed)
    image = np.where(np.arange(shape[2]) < 7, rng.integers(0, 3, shape) * 30.0, rng.normal(60, 25, shape))
    mask = rng.random(shape) < 0.8
    mask[0, 0, 0], mask[1, :2, :2] = True, False
    mask[0, :2, :2] = [[True, False], [False, False]]  # a voxel without neighbors
    case = Case(
        Volume(image, oblique_ijk_to_ras((0.9, 1.0, 1.4)), "image"),
        Volume(mask, oblique_ijk_to_ras((0.9, 1.0, 1.4)), "mask"),
        "case",
        "ragged",
    )
    return prepare_roi(case, Settings(bin_count=levels, lower=-20.0, **settings))


def compare(roi, radius, aggregation, voxels, families=MAPPED):
    """Assert that maps at some voxels are what measuring their kernels gives; return how many values were there."""
    maps = compute_feature_maps(roi, families, radius, aggregation)
    positions = np.argwhere(roi.intensity_mask)
    compared = 0
    for n in voxels:
        part = kernel_roi(roi, positions[n], radius, aggregation.startswith("2"))
        part = replace(part, settings=replace(roi.settings, aggregations=(aggregation,)))
        values = compute_features(part, families)
        assert {v.column for v in values} == set(maps.values)
        for v in values:
            found = maps.values[v.column][n]
            if v.value is None:
                assert np.isnan(found), v.column
            else:
                assert found == pytest.approx(v.value, rel=1e-9, abs=1e-10), (v.column, positions[n])
                compared += 1
    return compared


def feature_count(families) -> int:
    return sum(len(family.features) for family in FAMILIES if family.name in families)


def test_maps_equal_features_of_the_kernel(ibsi):
    """Every mapped feature, at the voxel without neighbors, corners, and seeded places."""
    roi = ragged()
    count = int(roi.intensity_mask.sum())
    voxels = [0, 1, count - 1, *np.random.default_rng(1).integers(0, count, 12)]
    assert compare(roi, 1, "3D_avg", voxels) > 13 * 120


@pytest.mark.parametrize("aggregation", ["3D_comb", "2D_avg", "2D_comb"])
def test_maps_of_other_aggregations(aggregation):
    roi = ragged(seed=2)
    voxels = np.random.default_rng(3).integers(0, int(roi.intensity_mask.sum()), 6)
    textures = [name for name in MAPPED if name not in ("stat", "loc", "ivh")]
    assert compare(roi, 1, aggregation, voxels, textures) > 0.8 * 6 * feature_count(textures)


def test_a_larger_kernel_and_many_levels():
    """Pairs of 300 levels no longer fit into 16 bits."""
    roi = ragged(levels=300, shape=(4, 6, 11), seed=4)
    voxels = np.random.default_rng(5).integers(0, int(roi.intensity_mask.sum()), 4)
    families = [name for name in MAPPED if name not in ("loc", "ivh")]
    assert compare(roi, 2, "3D_avg", voxels, families) == 4 * feature_count(families)


def test_every_feature_but_shape_has_a_map():
    assert set(FORMULAS) == {f.key for family in FAMILIES if family.name in ROWS for f in family.features}
    without = {family.name for family in FAMILIES} - set(ROWS)
    assert all(
        f.category != "statistical" or f.family == "morph"
        for family in FAMILIES
        for f in family.features
        if family.name in without
    )


def test_chunks_do_not_show(monkeypatch):
    roi = ragged()
    whole = compute_feature_maps(roi, ["glcm_contrast", "glszm"])
    monkeypatch.setitem(compute_feature_maps.__globals__, "_CHUNK", 64 * 27)
    parts = compute_feature_maps(roi, ["glcm_contrast", "glszm"])
    for column, values in whole.values.items():
        np.testing.assert_array_equal(values, parts.values[column])


def test_a_map_lies_where_the_region_is():
    roi = ragged()
    maps = compute_feature_maps(roi, ["stat_mean", "glcm_joint_average"])
    assert list(maps.values) == ["stat_mean", "glcm_joint_average_3D_avg"]
    volume = maps.volume("stat_mean")
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(np.isfinite(volume.array), roi.intensity_mask)
    np.testing.assert_allclose(volume.ijk_to_ras, roi.image.ijk_to_ras)
    k, j, i = np.argwhere(roi.intensity_mask)[40]
    near = np.s_[max(k - 1, 0) : k + 2, max(j - 1, 0) : j + 2, max(i - 1, 0) : i + 2]
    assert volume.array[k, j, i] == pytest.approx(roi.image.array[near][roi.intensity_mask[near]].mean())
    assert maps.units == {"stat_mean": "a.u.", "glcm_joint_average_3D_avg": "1"}


def test_a_constant_region_has_no_texture(lump):
    case = lump()
    flat = prepare_roi(replace(case, image=case.image.with_array(np.full(case.image.shape, 3.0))), Settings())
    maps = compute_feature_maps(flat, ["glcm_correlation", "glcm_contrast", "ngtdm_coarseness", "stat_skewness"])
    assert np.isnan(maps.values["glcm_correlation_3D_avg"]).all()
    assert np.nanmax(maps.values["glcm_contrast_3D_avg"]) == 0
    assert np.isnan(maps.values["ngtdm_coarseness_3D"]).all()
    assert np.isnan(maps.values["stat_skewness"]).all()


def test_maps_on_the_source_grid(lump):
    case = lump(oblique_ijk_to_ras(flip=0))
    roi = prepare_roi(case, Settings(spacing_kji_mm=(1.0, 1.0, 1.0)))
    volume = compute_feature_maps(roi, ["stat_mean"]).volume("stat_mean")
    onto = map_onto(volume, case.image)
    assert onto.same_grid(case.image)
    ijk = np.argwhere(np.isfinite(onto.array))[:, ::-1]
    at = volume.points_to_ijk(case.image.points_to_ras(ijk))
    clear = (np.abs(at - np.floor(at) - 0.5) > 1e-6).all(axis=1)  # not halfway between two voxels
    assert clear.mean() > 0.6
    nearest = np.rint(at[clear]).astype(int)[:, ::-1]
    np.testing.assert_array_equal(onto.array[tuple(ijk[clear, ::-1].T)], volume.array[tuple(nearest.T)])
    assert np.isfinite(onto.array).sum() == pytest.approx(case.mask.array.sum(), rel=0.1)


def test_progress_per_chunk_and_cancel(monkeypatch):
    roi, seen = ragged(), []
    monkeypatch.setitem(compute_feature_maps.__globals__, "_CHUNK", 128 * 27)
    compute_feature_maps(roi, ["stat", "glcm_contrast"], progress=lambda fraction, message: seen.append(fraction))
    assert seen == sorted(seen)
    assert len(seen) > 12
    assert seen[-1] == 1.0

    def stop(fraction, message):
        if fraction > 0.4:
            raise Cancelled

    with pytest.raises(Cancelled):
        compute_feature_maps(roi, ["stat"], progress=stop)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"names": ["texture"]}, "'texture' is neither a feature nor a family"),
        ({"names": ["glcm", "morph"]}, "Morphology cannot be mapped"),
        ({"names": []}, "Nothing cannot be mapped: choose features of stat"),
        ({"names": ["glcm"], "radius": 0}, "whole number of voxels, 1 to 4"),
        ({"names": ["glcm"], "radius": 1.5}, "whole number of voxels, 1 to 4"),
        ({"names": ["glcm"], "aggregation": "2_5D_avg"}, "one aggregation of 3D_avg"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        compute_feature_maps(ragged(), **arguments)


def test_files(tmp_path):
    roi = replace(ragged(), segment="Tumor / left")
    maps = compute_feature_maps(roi, ["stat_mean", "glcm_correlation"])
    paths = write_maps(maps, tmp_path / "maps")
    assert [p.name for p in paths] == ["Tumor___left_stat_mean.nrrd", "Tumor___left_glcm_correlation_3D_avg.nrrd"]
    np.testing.assert_array_equal(read_volume(paths[0]).array, maps.volume("stat_mean").array)
    about = json.loads((tmp_path / "maps" / "Tumor___left_maps.json").read_text())
    entry = about["maps"]["glcm_correlation_3D_avg"]
    assert entry["voxels"] == roi.intensity_mask.sum()
    assert entry["not_applicable"] == np.isnan(maps.values["glcm_correlation_3D_avg"]).sum() > 0
    assert (about["kernel_radius_voxels"], about["grid"]) == (1, "prepared")


def test_command(tmp_path, lump, capsys):
    case = lump()
    write_volume(case.image, tmp_path / "image.nrrd")
    write_volume(case.mask.with_array(case.mask.array.astype(np.uint8)), tmp_path / "mask.nrrd")
    options = ["--image", str(tmp_path / "image.nrrd"), "--mask", str(tmp_path / "mask.nrrd")]
    target = ["--output", str(tmp_path / "maps"), "--json", "--on-source-grid"]
    assert main(["maps", *options, *target, "--feature", "glcm_contrast", "--feature", "stat_mean"]) == 0
    figures = json.loads(capsys.readouterr().out)
    (segment,) = figures["segments"]
    assert segment["maps"] == ["stat_mean", "glcm_contrast_3D_avg"]
    written = read_volume(tmp_path / "maps" / "label_1_glcm_contrast_3D_avg.nrrd")
    assert written.same_grid(case.image)
    assert main(["maps", *options, *target, "--feature", "morph"]) == 2
    assert "cannot be mapped" in capsys.readouterr().err
