"""Cohort tables, prepared cases, the grid a network sees, and patches."""

import os
from dataclasses import replace

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.points import LabeledPoints, write_points
from BreastBiomarkersLib.volume import Volume, read_volume, write_volume
from conftest import oblique_ijk_to_ras
from scipy.ndimage import gaussian_filter
from weaksegment.lesions import dice, ellipsoid_lesion
from weaksegment.simple_cases import TINY, write_case, write_table
from WeakSegmentLib.cohort import load_cohort, prepare_case, prepare_cohort, read_cohort
from WeakSegmentLib.network_input import from_network_grid, network_image, to_network_grid
from WeakSegmentLib.patches import cut, draw_patches
from WeakSegmentLib.points import extreme_points_of_mask
from WeakSegmentLib.pseudo_mask import Label
from WeakSegmentLib.training_settings import PRESETS, TrainingSettings, settings_from_json


@pytest.fixture
def table(tmp_path):
    return write_table(tmp_path, [write_case(tmp_path, n) for n in range(3)])


def refused(path, text):
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_cohort(path)
    return str(caught.value)


def test_a_table_is_read(table):
    cases = read_cohort(table)
    assert [case.name for case in cases] == ["case0", "case1", "case2"]
    assert cases[1].image == table.parent / "case1_image.nrrd"
    assert cases[2].where == "cohort.csv, line 4"
    lines = table.read_text().splitlines()
    shuffled = "\ufeffmask,note,points,image,case\n" + "\n".join(
        f",left,{line.split(',')[2]},{line.split(',')[1]},{line.split(',')[0]}" for line in lines[1:]
    )
    table.write_text(shuffled + "\n,,,,\n\n", encoding="utf-8")
    again = read_cohort(table)
    assert [case.image for case in again] == [case.image for case in cases]
    assert again[0].mask is None


def test_unusable_tables_are_refused(table):
    good = table.read_text().splitlines()
    with pytest.raises(InputError, match="none.csv' does not exist"):
        read_cohort(table.with_name("none.csv"))
    assert "no column 'points'" in refused(table, "case,image\na,b\n")
    assert "no column 'case'" in refused(table, "")
    assert "lists no case" in refused(table, good[0] + "\n,,,,\n")
    table.write_bytes(b"case,image,points\n\xff\xfe\x00")
    with pytest.raises(InputError, match="not a CSV text file"):
        read_cohort(table)


def test_every_unusable_line_is_named(table):
    good = table.read_text().splitlines()
    message = refused(
        table,
        "\n".join(
            [
                *good,
                "case1,case1_image.nrrd,case1_points.mrk.json,,",
                "missing,not_here.nrrd,case1_points.mrk.json,,",
                "no_points,case1_image.nrrd,,,",
                "../up,case1_image.nrrd,case1_points.mrk.json,,",
                "bad_mask,case1_image.nrrd,case1_points.mrk.json,,nothing.nrrd",
            ]
        ),
    )
    lines = message.splitlines()
    assert len(lines) == 5
    assert lines[0] == "cohort.csv, line 5: the case 'case1' is already in line 3."
    assert lines[1].startswith("cohort.csv, line 6: The image file")
    assert "not_here.nrrd' does not exist" in lines[1]
    assert lines[2] == "cohort.csv, line 7: the field 'points' is empty."
    assert "line 8: '../up' cannot name a case" in lines[3]
    assert "line 9: The mask file" in lines[4]
    many = "\n".join([good[0], *(f"c{n},none.nrrd,none.csv,," for n in range(30))])
    assert refused(table, many).splitlines()[-1] == "... and 20 more lines"


def test_unusable_cases_name_their_line(table):
    folder = table.parent
    cases = read_cohort(table)
    five = read_volume(folder / "case0_image.nrrd").points_to_ras(np.arange(15).reshape(5, 3))
    write_points(LabeledPoints(list("abcde"), five), folder / "case0_points.mrk.json")
    with pytest.raises(InputError, match=r"cohort.csv, line 2 \(case 'case0'\): 5 extreme point"):
        prepare_case(cases[0], TINY)

    (folder / "case1_image.nrrd").write_bytes((folder / "case1_image.nrrd").read_bytes()[:900])
    with pytest.raises(InputError, match=r"line 3 \(case 'case1'\): 'case1_image.nrrd' is damaged"):
        prepare_case(cases[1], TINY)

    image = read_volume(folder / "case2_image.nrrd")
    write_volume(image.cropped((0, 0, 0), (5, 8, 8)), folder / "case2_mask.nrrd")
    with pytest.raises(InputError, match=r"line 4 .*'case2_mask.nrrd' is not on the grid"):
        prepare_case(cases[2], TINY)
    write_volume(image.with_array(np.full(image.shape, 7.0, np.float32)), folder / "case2_image.nrrd")
    write_volume(image.with_array(np.ones(image.shape, np.uint8)), folder / "case2_mask.nrrd")
    with pytest.raises(InputError, match=r"line 4 .* is constant"):
        prepare_case(cases[2], TINY)
    holes = image.array.copy()
    holes[3, 3, 3] = np.nan
    write_volume(image.with_array(holes), folder / "case2_image.nrrd")
    with pytest.raises(InputError, match=r"line 4 .* 1 voxel\(s\) that are not finite"):
        prepare_case(cases[2], TINY)


def test_what_a_case_must_have(table):
    text = table.read_text().splitlines()
    table.write_text("\n".join(line.rsplit(",", 2)[0] + ",," if n else line for n, line in enumerate(text)))
    case = read_cohort(table)[0]
    with pytest.raises(InputError, match="line 2 .*full supervision needs a mask"):
        prepare_case(case, settings_from_json({"method": "full"}, TINY))
    with pytest.raises(InputError, match="line 2 .*pre-contrast image .* is needed for the channels post, subtraction"):
        prepare_case(case, settings_from_json({"channels": ["post", "subtraction"]}, TINY))
    with pytest.raises(InputError, match="line 2 .*Use larger voxels"):
        prepare_case(case, settings_from_json({"spacing_mm": [0.01, 0.01, 0.01]}, TINY))


def test_a_training_needs_points(table):
    case = replace(read_cohort(table)[0], points=None)
    with pytest.raises(InputError, match="case 'case0'.*needs the six points"):
        prepare_case(case, TINY)


def test_a_prepared_case(table):
    case = prepare_case(read_cohort(table)[0], TINY)
    assert case.image.shape[1:] == case.labels.shape == case.truth.shape
    assert set(np.unique(case.labels)) == {0, 1, 2}
    tumor = case.labels == Label.TUMOR
    assert case.truth[tumor].mean() > 0.9
    outside = np.ones(case.labels.shape, dtype=bool)
    outside[case.box] = False
    assert not case.labels[outside].any()
    assert [s.stop - s.start for s in case.box] == pytest.approx(np.ptp(np.argwhere(case.truth), axis=0) + 1, abs=1)
    full = prepare_case(read_cohort(table)[0], settings_from_json({"method": "full"}, TINY))
    np.testing.assert_array_equal(full.labels != 0, case.truth)
    np.testing.assert_array_equal(full.image, case.image)


def test_prepared_cases_are_cached_and_made_anew_when_a_file_changes(table, tmp_path):
    cases, cache = read_cohort(table), tmp_path / "cache"
    prepare_cohort(cases, TINY, cache)
    first = load_cohort(cases, cache)
    assert isinstance(first[0].image, np.memmap)
    written = {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")}
    prepare_cohort(cases, TINY, cache)
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")} == written
    os.utime(cases[1].points, (1, 1))
    prepare_cohort(cases, TINY, cache)
    changed = {path.parent.name for path in cache.rglob("*.npy") if path.stat().st_mtime_ns != written[path]}
    assert changed == {"case1"}


@pytest.mark.parametrize("flip", [None, 0, 1, 2])
def test_the_way_to_the_network_and_back_keeps_the_place(flip):
    spacing = (2.9, 1.3, 0.7)
    matrix = oblique_ijk_to_ras(spacing[::-1], flip=flip)
    image, mask = ellipsoid_lesion((16, 36, 60), spacing, (14.0, 13.0, 12.0), ijk_to_ras=matrix)
    swapped = Volume(mask.array.transpose(1, 0, 2), matrix[:, [0, 2, 1, 3]], "swapped")
    for volume in (mask, swapped):
        grid = to_network_grid(volume, (2.0, 1.1, 1.1), labels=True)
        np.testing.assert_allclose(grid.spacing, (2.0, 1.1, 1.1))
        back = from_network_grid(grid.with_array(grid.array.astype(np.float32)), volume, "back")
        assert back.same_grid(volume)
        assert dice(back.array > 0.5, volume.array) > 0.93
    one, other = (to_network_grid(v, (2.0, 1.1, 1.1), labels=True) for v in (mask, swapped))
    assert one.same_grid(other)
    np.testing.assert_array_equal(one.array, other.array)
    assert image.same_grid(mask)


def test_directions_are_the_same_for_every_image():
    """A bright corner toward left, posterior, superior is at the same end of the array however the image is stored."""
    ends = set()
    for flip in (None, 0, 1, 2):
        volume = Volume(np.zeros((9, 14, 21), np.float32), oblique_ijk_to_ras(flip=flip), "image")
        corners = np.array([[x, y, z] for x in (0, 20) for y in (0, 13) for z in (0, 8)])
        ras = volume.points_to_ras(corners) @ np.array([-1.0, -1.0, 1.0])
        i, j, k = corners[np.argmax(ras)]
        volume.array[k, j, i] = 1
        found = np.unravel_index(np.argmax(to_network_grid(volume, (2.9, 1.3, 0.7), labels=True).array), (9, 14, 21))
        ends.add(tuple(bool(n > 4) for n in found))
    assert len(ends) == 1


def test_intensities():
    rng = np.random.default_rng(1)
    tissue = np.zeros((20, 24, 28), np.float32)
    tissue[:, 8:, :] = 100.0
    array = np.abs(tissue + gaussian_filter(rng.normal(0, 60, tissue.shape), 1) + rng.normal(0, 5, tissue.shape))
    post = Volume(array.astype(np.float32), np.diag([1.0, 1.0, 1.0, 1.0]), "post")
    pre = post.with_array((0.5 * array).astype(np.int16), "pre")
    body, grid = network_image(post, None, ("post",), (1.0, 1.0, 1.0), "body")
    inside = tissue > 0
    assert grid.same_grid(to_network_grid(post, (1.0, 1.0, 1.0)))
    rotated = to_network_grid(post.with_array(inside), (1.0, 1.0, 1.0), labels=True).array != 0
    assert body[0][rotated].mean() == pytest.approx(0, abs=0.15)
    assert body[0][~rotated].mean() < -1
    whole, _ = network_image(post, None, ("post",), (1.0, 1.0, 1.0), "volume")
    assert (whole.mean(), whole.std()) == pytest.approx((0, 1), abs=1e-3)
    three, _ = network_image(post, pre, ("post", "pre", "subtraction"), (1.0, 1.0, 1.0), "body")
    np.testing.assert_array_equal(three[0], body[0])
    unclipped = np.abs(three).max(axis=0) < 4.9
    assert unclipped.mean() > 0.3
    np.testing.assert_allclose(three[2][unclipped], (three[0] - three[1])[unclipped], atol=1e-4)
    shifted = post.with_array(7 * post.array + 100)
    again, _ = network_image(shifted, None, ("post",), (1.0, 1.0, 1.0), "body")
    np.testing.assert_allclose(again, body, atol=0.02)  # Otsu's threshold has bins


def test_three_slices_are_enough_for_the_grid():
    image, _ = ellipsoid_lesion((3, 30, 30), (5.0, 1.0, 1.0), (6.0, 8.0, 8.0))
    array, grid = network_image(image, None, ("post",), (2.0, 2.0, 2.0), "body")
    assert array.shape == (1, 7, 15, 15)
    assert np.isfinite(array).all()


def test_cut_patches():
    array = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    np.testing.assert_array_equal(cut(array, (2, 2, 3), (2, 4, 2)), array[1:3, 0:4, 2:4])
    corner = cut(array, (0, 4, 5), (4, 4, 4))
    np.testing.assert_array_equal(corner[2:, :3, :3], array[:2, 2:, 3:])
    assert not corner[:2].any()
    assert not corner[:, 3:].any()
    channels = np.stack([array, -array])
    np.testing.assert_array_equal(cut(channels, (2, 2, 3), (8, 8, 8))[1], -cut(array, (2, 2, 3), (8, 8, 8)))


def test_patches_are_centered_on_their_label(table, tmp_path):
    cases = [prepare_case(case, TINY) for case in read_cohort(table)]
    for label in (Label.TUMOR, Label.BACKGROUND):
        batch = draw_patches(cases, label, 6, (8, 8, 8), np.random.default_rng(2))
        assert batch.image.shape == (6, 1, 8, 8, 8)
        assert (batch.labels[:, 4, 4, 4] == label).all()
        again = draw_patches(cases, label, 6, (8, 8, 8), np.random.default_rng(2))
        np.testing.assert_array_equal(batch.image, again.image)
    empty = [case.with_labels(np.zeros_like(case.labels)) for case in cases]
    with pytest.raises(InputError, match="No case has a voxel labeled tumor"):
        draw_patches(empty, Label.TUMOR, 2, (8, 8, 8), np.random.default_rng(2))
    one = draw_patches([cases[0], *empty[1:]], Label.TUMOR, 2, (8, 8, 8), np.random.default_rng(2))
    assert (one.labels[:, 4, 4, 4] == Label.TUMOR).all()
    all_tumor = cases[0].with_labels(np.ones_like(cases[0].labels))
    with pytest.raises(InputError, match="'case0' shows almost no background"):
        draw_patches([all_tumor], Label.BACKGROUND, 1, (8, 8, 8), np.random.default_rng(2))


@pytest.mark.parametrize(
    "values, words",
    [
        ({"method": "magic"}, "no method 'magic'"),
        ({"patch": [96, 128, 100]}, "multiples of 16"),
        ({"patch": [16, 16, 16]}, "multiples of 16, and not all"),
        ({"patch": [32, 32]}, "three numbers"),
        ({"seed": -1}, "seed cannot be -1"),
        ({"width": 2.5}, "width cannot be 2.5"),
        ({"learning_rate": 0}, "learning_rate cannot be 0"),
        ({"learning_rate": float("nan")}, "learning_rate cannot be nan"),
        ({"momentum": 1.0}, "momentum cannot be 1.0"),
        ({"channels": []}, "channels"),
        ({"channels": ["post", "post"]}, "channels"),
        ({"spacing_mm": "fine"}, "three numbers"),
        ({"temprature": 0.2}, "no training setting 'temprature'"),
    ],
)
def test_impossible_settings_are_refused(values, words):
    with pytest.raises(InputError, match=words):
        settings_from_json(values)


def test_the_presets_hold_the_published_constants():
    published = PRESETS["published"]
    assert (published.width, published.levels, published.patch) == (16, 5, (96, 128, 128))
    assert (published.similarity_above, published.agreement_above, published.propagation_weight) == (0.96, 0.96, 0.1)
    assert (published.samples, published.temperature, published.train_iterations) == (100, 0.1, 2000)
    assert (published.learning_rate, published.momentum, published.poly_power) == (0.01, 0.99, 0.9)
    assert published.random_walk().method == "published"
    assert TrainingSettings().random_walk().repetitions == 3


def test_a_lesion_between_coarse_voxels_is_refused(tmp_path):
    image, mask = ellipsoid_lesion((20, 30, 30), (1.0, 1.0, 1.0), (2.0, 2.0, 2.0))
    write_volume(image, tmp_path / "image.nrrd")
    points = extreme_points_of_mask(mask)
    write_points(LabeledPoints(list(points.roles), points.positions_ras), tmp_path / "points.mrk.json")
    (tmp_path / "cohort.csv").write_text("case,image,points\ntiny,image.nrrd,points.mrk.json\n")
    settings = settings_from_json({"spacing_mm": [10.0, 10.0, 10.0]}, TINY)
    with pytest.raises(InputError, match=r"line 2 \(case 'tiny'\): no voxel of .* Use smaller voxels"):
        prepare_case(read_cohort(tmp_path / "cohort.csv")[0], settings)
