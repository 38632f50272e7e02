"""Preparation: grids, masks, ranges, bins, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume, apply_affine, to_sitk, write_volume
from conftest import oblique_ijk_to_ras
from RadiomicsPanelLib.roi import Case, cases_from_labels, prepare_roi, preview_levels, read_cases, suggest_aggregations
from RadiomicsPanelLib.settings import PRESETS, Settings

PLAIN = Settings(bin_count=16)


def ball_case(volume: Volume) -> Case:
    k, j, i = np.indices(volume.shape)
    inside = ((k - 4) / 3) ** 2 + ((j - 7) / 5) ** 2 + ((i - 12) / 7) ** 2 <= 1
    return Case(volume, Volume(inside, volume.ijk_to_ras, "mask"), "case", "ball")


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_resampling_keeps_positions_on_oblique_and_flipped_grids(oblique_volume, interpolation):
    """An image that is linear in RAS has the same values at the new voxels' RAS positions."""
    slope = np.array([0.3, -1.1, 0.7])
    k, j, i = np.indices(oblique_volume.shape)
    positions = oblique_volume.points_to_ras(np.column_stack([i.ravel(), j.ravel(), k.ravel()]))
    ramp = oblique_volume.with_array((positions @ slope + 500).reshape(oblique_volume.shape))
    case = ball_case(ramp)
    roi = prepare_roi(case, replace(PLAIN, spacing_kji_mm=(1.1, 0.9, 1.2), interpolation=interpolation))
    np.testing.assert_allclose(roi.spacing, [1.1, 0.9, 1.2], rtol=1e-12)
    inside = np.argwhere(roi.morphological_mask)
    expected = roi.image.points_to_ras(inside[:, ::-1]) @ slope + 500
    tolerance = 1e-9 if interpolation == "linear" else 0.05  # the spline bends a ramp where edges are continued
    np.testing.assert_allclose(roi.image.array[roi.morphological_mask], expected, atol=tolerance)
    volume = roi.morphological_mask.sum() * roi.image.voxel_volume_mm3
    assert volume == pytest.approx(case.mask.array.sum() * ramp.voxel_volume_mm3, rel=0.03)
    center = roi.image.points_to_ras(inside[:, ::-1]).mean(axis=0)
    assert center == pytest.approx(ramp.points_to_ras([[12, 7, 4]])[0], abs=0.1)


def test_the_analysis_grid_shares_the_center_of_the_image():
    image = Volume(np.random.default_rng(0).normal(size=(7, 10, 11)), oblique_ijk_to_ras(), "image")
    everything = Volume(np.ones(image.shape, dtype=bool), image.ijk_to_ras, "mask")
    roi = prepare_roi(Case(image, everything, "case", "all"), replace(PLAIN, spacing_kji_mm=(1.0, 1.0, 1.0)))
    assert roi.image.shape == (21, 13, 8)  # ceil(7 * 2.9), ceil(10 * 1.3), ceil(11 * 0.7)
    centers = [v.points_to_ras([(np.array(v.shape)[::-1] - 1) / 2])[0] for v in (image, roi.image)]
    np.testing.assert_allclose(centers[0], centers[1], atol=1e-9)


def test_interpolation_agrees_with_simpleitk(oblique_volume):
    """Linear, away from the border of the image: ITK knows nothing of our grid code."""
    roi = prepare_roi(ball_case(oblique_volume), replace(PLAIN, spacing_kji_mm=(1.1, 0.9, 1.2)))
    grid = to_sitk(roi.image)
    theirs = sitk.Resample(to_sitk(oblique_volume), grid, sitk.Transform(), sitk.sitkLinear, -1e9, sitk.sitkFloat64)
    theirs = sitk.GetArrayFromImage(theirs)
    known = theirs > -1e8
    assert known[roi.morphological_mask].all()
    np.testing.assert_allclose(roi.image.array[known], theirs[known], atol=1e-4)


def test_a_mask_cropped_to_its_own_grid_gives_the_same_region(oblique_volume):
    case = ball_case(oblique_volume)
    box = Volume(case.mask.array[1:8, 2:13, 5:20], case.mask.ijk_to_ras, "box")
    moved = box.ijk_to_ras.copy()
    moved[:3, 3] = apply_affine(case.mask.ijk_to_ras, [[5, 2, 1]])[0]
    cropped = prepare_roi(replace(case, mask=Volume(box.array, moved, "cropped")), PLAIN)
    whole = prepare_roi(case, PLAIN)
    np.testing.assert_array_equal(cropped.levels, whole.levels)
    assert "size 9x14x21 against 7x11x15 voxels" in cropped.notes[0]


def test_a_mask_with_other_axes_gives_the_same_region(oblique_volume):
    case = ball_case(oblique_volume)
    flipped, matrix = case.mask.array[:, ::-1].transpose(2, 1, 0), case.mask.ijk_to_ras.copy()
    matrix[:3, 3] = apply_affine(matrix, [[0, 13, 0]])[0]
    matrix[:3, 1] *= -1
    matrix[:3, :3] = matrix[:3, [2, 1, 0]]
    turned = prepare_roi(replace(case, mask=Volume(flipped, matrix, "turned")), PLAIN)
    np.testing.assert_array_equal(turned.levels, prepare_roi(case, PLAIN).levels)


def test_tiny_geometry_noise_is_no_mismatch_and_a_shift_is_reported(oblique_volume):
    case = ball_case(oblique_volume)
    for shift, told in ((2e-5, False), (0.05, True)):
        matrix = case.mask.ijk_to_ras.copy()
        matrix[0, 3] += shift
        roi = prepare_roi(replace(case, mask=Volume(case.mask.array, matrix, "mask")), PLAIN)
        assert any("resampled" in note for note in roi.notes) is told
    difference = "position or orientation differ; first voxels lie 0.05 mm apart"
    assert f"the mask was resampled onto the image grid ({difference})" in roi.notes


def test_resegmentation_takes_the_range_first_then_outliers_inside_it(lump):
    case = lump()
    values = case.image.array[case.mask.array]
    settings = Settings(lower=150.0, upper=260.0, outlier_sigma=1.5)
    roi = prepare_roi(case, settings)
    inside = values[(values >= 150) & (values <= 260)]
    kept = inside[np.abs(inside - inside.mean()) <= 1.5 * inside.std()]
    np.testing.assert_allclose(np.sort(roi.intensities), np.sort(kept))
    assert roi.morphological_mask.sum() == values.size > roi.intensity_mask.sum() > 0
    assert not (roi.levels[~roi.intensity_mask]).any()


def line_case(values) -> Case:
    array = np.asarray(values, dtype=float).reshape(1, 1, -1)
    return Case(Volume(array, np.eye(4), "line"), Volume(np.ones(array.shape, dtype=bool), np.eye(4), "m"), "c", "line")


def test_bins_of_fixed_width_count_from_the_lower_bound_and_end_at_the_upper():
    settings = Settings(discretization="bin_width", bin_width=25.0, bin_count=None, lower=-50.0, upper=50.0)
    roi = prepare_roi(line_case([-50, -25.001, -25, 0, 24.999, 25, 50, 51]), settings)
    assert roi.levels[roi.intensity_mask].tolist() == [1, 1, 2, 3, 3, 4, 4]
    assert roi.level_count == 4
    open_ended = prepare_roi(line_case([-10, 0, 15, 40]), replace(settings, lower=None, upper=None))
    assert open_ended.levels[open_ended.intensity_mask].tolist() == [1, 1, 2, 3]


def test_bins_of_fixed_number_span_the_region_and_a_constant_region_has_level_one():
    roi = prepare_roi(line_case([0, 1, 2.4999, 2.5, 9.999, 10]), Settings(bin_count=4))
    assert roi.levels[roi.intensity_mask].tolist() == [1, 1, 1, 2, 4, 4]
    assert set(prepare_roi(line_case([7, 7, 7]), Settings(bin_count=4)).levels.ravel()) == {1}


def test_a_constant_region_stays_constant_under_resampling(oblique_volume):
    """Interpolation leaves differences of 1e-14, which must not become 32 gray levels."""
    case = ball_case(oblique_volume)
    flat = replace(case, image=case.image.with_array(np.full(case.image.shape, 37.3)))
    roi = prepare_roi(flat, PRESETS["mr"])
    assert np.unique(roi.intensities).size == 1
    assert roi.levels.max() == 1
    assert roi.intensity_mask.sum() == roi.morphological_mask.sum()
    assert any("same everywhere" in note for note in roi.notes)


def test_levels_as_they_are_have_to_be_whole_numbers_from_one():
    as_is = Settings(discretization="none", bin_count=None)
    assert prepare_roi(line_case([1, 3, 3]), as_is).level_count == 3
    for bad in ([0, 1, 2], [1.5, 2, 3]):
        with pytest.raises(InputError, match="no gray levels"):
            prepare_roi(line_case(bad), as_is)


def test_rounding_happens_after_interpolation(lump):
    roi = prepare_roi(lump(), replace(PLAIN, spacing_kji_mm=(1.0, 1.0, 1.0), round_intensities=True))
    assert (roi.intensities % 1 == 0).all()


def test_preview_tells_what_preparation_then_finds(lump):
    for settings in (PLAIN, PRESETS["mr"], Settings(discretization="bin_width", bin_width=9.0, bin_count=None)):
        preview, roi = preview_levels(lump(), settings), prepare_roi(lump(), settings)
        assert (preview.level_count, preview.voxel_count) == (roi.level_count, len(roi.intensities))
        expected = np.bincount(roi.levels[roi.intensity_mask], minlength=roi.level_count + 1)[1:]
        np.testing.assert_array_equal(preview.counts, expected)
        assert preview.edges[0] <= roi.intensities.min() < preview.edges[1] or settings.lower is not None
        assert len(preview.edges) == roi.level_count + 1


def test_too_many_levels_are_refused_before_anything_is_allocated(lump):
    span = np.ptp(lump().image.array[lump().mask.array])
    for width, count in ((span / 4999.5, 5000), (1e-300, 2**53 + 1)):
        settings = Settings(discretization="bin_width", bin_width=width, bin_count=None)
        with pytest.raises(
            InputError, match=f"'lump' of 'case' would have {count} gray levels; at most 1024"
        ) as refused:
            prepare_roi(lump(), settings)
        assert "gives about 64" in str(refused.value)
        preview = preview_levels(lump(), settings)
        assert preview.level_count == count
        assert preview.edges.size == preview.counts.size == 0
        assert preview.warnings == (str(refused.value),)


def test_warnings_about_levels(lump):
    width = float(np.ptp(lump().image.array[lump().mask.array])) / 399.5
    many = prepare_roi(lump(), Settings(discretization="bin_width", bin_width=width, bin_count=None))
    assert many.level_count == 400
    assert any("gray levels are many" in note for note in many.notes)
    few = prepare_roi(line_case(range(40)), Settings(bin_count=16))
    assert any("few voxels per level" in note for note in few.notes)


def altered(case: Case, image=None, mask=None) -> Case:
    return replace(
        case,
        image=case.image if image is None else case.image.with_array(image),
        mask=case.mask if mask is None else case.mask.with_array(mask),
    )


def test_unusable_regions_are_refused_with_segment_and_remedy(lump):
    case = lump()
    one = np.zeros(case.mask.shape, dtype=bool)
    one[7, 11, 13] = True
    bad_image = case.image.array.copy()
    bad_image[tuple(np.argwhere(case.mask.array)[5])] = np.nan
    bad_image[tuple(np.argwhere(case.mask.array)[9])] = np.inf
    far = case.mask.ijk_to_ras.copy()
    far[:3, 3] += 500
    sheared = case.image.ijk_to_ras.copy()
    sheared[0, 1] += 0.2
    elsewhere = replace(case, mask=Volume(case.mask.array, far, "mask"))
    for bad, settings, message in (
        (altered(case, mask=~one & False), PLAIN, "'lump' of 'case' is empty. Draw it"),
        (altered(case, mask=one), PLAIN, "has 1 voxel on the analysis grid .* at least two"),
        (case, replace(PLAIN, spacing_kji_mm=(50.0, 50.0, 50.0)), "has [01] voxels? .* choose a finer grid"),
        (altered(case, image=bad_image), PLAIN, "2 of [0-9]+ voxels in the segment 'lump' of 'case' are not a number"),
        (elsewhere, PLAIN, "lies outside the image 'image'"),
        (case, replace(PLAIN, lower=1e6), "leaves 0 of [0-9]+ voxels .* Widen the range 1e\\+06 to no upper limit"),
        (case, replace(PLAIN, spacing_kji_mm=(0.001, 0.001, 0.001)), "Choose a coarser grid"),
        (altered(case, mask=case.mask.array * 0.5), PLAIN, "not whole numbers. Threshold it"),
        (replace(case, image=Volume(case.image.array, sheared, "tilted")), PLAIN, "'tilted' has sheared axes"),
        (altered(case, image=case.image.array.astype(complex)), PLAIN, "not a scalar image"),
    ):
        for prepare in (prepare_roi, preview_levels):
            with pytest.raises(InputError, match=message):
                prepare(bad, settings)


def test_missing_values_beside_the_region_matter_only_when_they_would_be_mixed_in(lump):
    case = lump()
    image = case.image.array.copy()
    image[~case.mask.array] = np.nan
    assert np.isfinite(prepare_roi(altered(case, image=image), PLAIN).intensities).all()
    with pytest.raises(InputError, match="voxels around the segment 'lump' .* resampling would mix them in"):
        prepare_roi(altered(case, image=image), replace(PLAIN, spacing_kji_mm=(1.0, 1.0, 1.0)))


def test_a_mask_reaching_out_of_the_image_is_cut_and_said_so(lump):
    case = lump()
    matrix = case.mask.ijk_to_ras.copy()
    matrix[:3, 3] = apply_affine(matrix, [[9, 0, 0]])[0]
    roi = prepare_roi(replace(case, mask=Volume(case.mask.array, matrix, "mask")), PLAIN)
    lost = 1 - roi.morphological_mask.sum() / case.mask.array.sum()
    assert 0 < lost < 1
    assert f"{lost:.1%} of the mask lies outside the image and is left out" in roi.notes


def test_parts_and_changed_volume_are_noted(lump):
    case = lump()
    mask = case.mask.array.copy()
    parts = prepare_roi(case, PLAIN).record["components"]
    mask[0, 0, 0:2] = True
    roi = prepare_roi(altered(case, mask=mask), PLAIN)
    assert f"the segment has {parts + 1} separate parts; shape features take them together" in roi.notes
    thin = np.zeros_like(mask)
    thin[7, 5:15, 5:20] = True
    roi = prepare_roi(altered(case, mask=thin), replace(PLAIN, spacing_kji_mm=(2.0, 2.0, 2.0)))
    assert any("resampling changed the volume by" in note for note in roi.notes)


def test_every_label_becomes_a_case_with_its_name(tmp_path, lump):
    case = lump()
    labels = case.mask.array.astype(np.uint8)
    labels[:8] *= 3
    write_volume(case.image, tmp_path / "breast.nrrd")
    names = {"Segment0_LabelValue": "3", "Segment0_Name": "Lesion", "Segment1_LabelValue": "1", "Segment1_Name": "Node"}
    write_volume(case.mask.with_array(labels), tmp_path / "lesions.seg.nrrd", names)
    cases = read_cases(tmp_path / "breast.nrrd", tmp_path / "lesions.seg.nrrd")
    assert [(c.name, c.segment, c.label) for c in cases] == [("breast", "Node", 1), ("breast", "Lesion", 3)]
    sizes = [prepare_roi(c, PLAIN).record["intensity_voxels"] for c in cases]
    assert sizes == [(labels == 1).sum(), (labels == 3).sum()]
    (only,) = read_cases(tmp_path / "breast.nrrd", tmp_path / "lesions.seg.nrrd", 3)
    assert only.segment == "Lesion"
    with pytest.raises(InputError, match="Label 2 is not in the mask 'lesions.seg.nrrd'; it holds 1, 3"):
        read_cases(tmp_path / "breast.nrrd", tmp_path / "lesions.seg.nrrd", 2)


def test_an_image_given_as_mask_is_refused(lump):
    case = lump()
    with pytest.raises(InputError, match="not whole numbers"):
        cases_from_labels(case.image, case.image, "case")
    with pytest.raises(InputError, match="holds 300 labels. Is it an image"):
        cases_from_labels(
            case.image, case.image.with_array(np.arange(case.image.array.size).reshape(case.image.shape) % 301), "c"
        )
    with pytest.raises(InputError, match="mask 'image' is empty"):
        cases_from_labels(case.image, case.image.with_array(np.zeros(case.image.shape)), "case")


def test_thick_slices_suggest_matrices_within_slices(lump):
    thick = lump(np.diag([0.7, 0.7, 2.9, 1.0]))
    for settings, told in ((PLAIN, True), (replace(PLAIN, aggregations=("2_5D_avg",)), False)):
        assert any("slices are more than twice as thick" in note for note in prepare_roi(thick, settings).notes) is told
    isotropic = prepare_roi(thick, replace(PLAIN, spacing_kji_mm=(1.0, 1.0, 1.0)))
    assert not any("thick" in note for note in isotropic.notes)
    assert suggest_aggregations(np.array([3.0, 1.0, 1.0])) == ("2_5D_avg", "2_5D_comb")
    assert suggest_aggregations(np.array([2.0, 1.0, 1.0])) == ("3D_avg", "3D_comb")
