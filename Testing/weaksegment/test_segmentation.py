"""The whole method: known lesions in awkward geometry, the invariances it promises, and what it refuses."""

import json

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Cancelled
from BreastBiomarkersLib.volume import Volume
from conftest import oblique_ijk_to_ras
from weaksegment.lesions import dice, ellipsoid_lesion
from WeakSegmentLib.methods import Click
from WeakSegmentLib.points import ExtremePoints, extreme_points_of_mask
from WeakSegmentLib.pseudo_mask import Label
from WeakSegmentLib.segmentation import replay, segment_by_random_walk
from WeakSegmentLib.settings import PublishedSettings, RandomWalkSettings

SHAPE, SPACING, RADII = (24, 52, 60), (2.0, 1.0, 0.8), (18.0, 15.0, 16.0)
NOISY = {"lesion": 160.0, "noise": 12.0}
BOTH = pytest.mark.parametrize("settings", [RandomWalkSettings(), PublishedSettings()], ids=lambda s: s.method)


@pytest.fixture(scope="module")
def case():
    """A noisy lesion, the reference and its points."""
    image, mask = ellipsoid_lesion(SHAPE, SPACING, RADII, **NOISY)
    return image, mask, extreme_points_of_mask(mask)


def segment(image, mask, settings=None, **options):
    return segment_by_random_walk(image, extreme_points_of_mask(mask), settings, **options)


@pytest.mark.parametrize("flip", [None, 0, 1, 2], ids=["right-handed", "flip-i", "flip-j", "flip-k"])
@pytest.mark.parametrize("settings, least", [(RandomWalkSettings(), 0.95), (PublishedSettings(), 0.75)])
def test_finds_the_lesion_on_oblique_anisotropic_grids(flip, settings, least):
    spacing = (2.9, 1.3, 0.7)
    matrix = oblique_ijk_to_ras(spacing[::-1], flip)
    image, mask = ellipsoid_lesion((20, 42, 71), spacing, (20.0, 16.0, 14.0), ijk_to_ras=matrix, **NOISY)
    points = extreme_points_of_mask(mask)
    shuffled = ExtremePoints.from_ras(points.positions_ras[[4, 0, 5, 2, 1, 3]], image)
    result = segment_by_random_walk(image, shuffled, settings)
    assert result.mask.same_grid(image)
    assert result.mask.array.dtype == bool
    assert dice(result.mask.array, mask.array) > least
    center = result.mask.points_to_ras(np.argwhere(result.mask.array)[:, ::-1]).mean(axis=0)
    true_center = mask.points_to_ras(np.argwhere(mask.array)[:, ::-1]).mean(axis=0)
    assert np.linalg.norm(center - true_center) < 1.5
    assert result.volume_ml == pytest.approx(result.mask.array.sum() * np.prod(spacing) / 1000)


@pytest.mark.parametrize("lesion", [40.0, 160.0], ids=["dark", "bright"])
def test_dark_and_bright_lesions_alike(lesion):
    image, mask = ellipsoid_lesion(SHAPE, SPACING, RADII, lesion=lesion, noise=12.0)
    result = segment(image, mask)
    assert dice(result.mask.array, mask.array) > 0.95
    assert result.contrast > 0.9


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["k", "j", "i"])
@pytest.mark.parametrize("end", [0, 1], ids=["low", "high"])
@pytest.mark.parametrize("settings, least", [(RandomWalkSettings(), 0.93), (PublishedSettings(), 0.75)])
def test_lesion_cut_by_each_face_of_the_image(axis, end, settings, least):
    extent = (np.array(SHAPE) - 1) * SPACING
    center = extent / 2
    center[axis] = 0.3 * RADII[axis] if end == 0 else extent[axis] - 0.3 * RADII[axis]
    image, mask = ellipsoid_lesion(SHAPE, SPACING, RADII, center, **NOISY)
    faces = mask.array.any(axis=tuple(a for a in range(3) if a != axis))
    assert faces[-end], "the lesion does not touch the face"
    assert dice(segment(image, mask, settings).mask.array, mask.array) > least


@BOTH
def test_close_to_the_low_faces_is_as_good_as_in_the_middle(settings):
    """The authors' index arithmetic turns negative within five voxels of the low faces."""
    middle = (np.array(SHAPE) - 1) / 2 * SPACING
    far, far_mask = ellipsoid_lesion(SHAPE, SPACING, (12.0, 10.0, 9.0), middle, **NOISY)
    near, near_mask = (v.cropped((4, 12, 16), SHAPE) for v in (far, far_mask))
    start = extreme_points_of_mask(near_mask).box_start_kji
    assert (0 < start).all()
    assert (start < 5).all()
    at_distance = dice(segment(far, far_mask, settings).mask.array, far_mask.array)
    at_face = dice(segment(near, near_mask, settings).mask.array, near_mask.array)
    assert at_face > at_distance - (0.02 if settings.method == "random-walk" else 0.15)  # less background is seen


def test_three_slices_are_enough():
    image, mask = ellipsoid_lesion((11, 40, 44), (3.0, 0.8, 0.8), (4.4, 8.0, 9.0), **NOISY)
    assert np.ptp(np.argwhere(mask.array)[:, 0]) == 2
    assert dice(segment(image, mask).mask.array, mask.array) > 0.9


def test_the_same_lesion_at_two_spacings():
    fine, fine_mask = ellipsoid_lesion((25, 110, 120), (2.0, 0.4, 0.4), (16.0, 13.0, 14.0), **NOISY)
    cubic, cubic_mask = ellipsoid_lesion((49, 45, 49), (1.0, 1.0, 1.0), (16.0, 13.0, 14.0), **NOISY)
    one = dice(segment(fine, fine_mask).mask.array, fine_mask.array)
    two = dice(segment(cubic, cubic_mask).mask.array, cubic_mask.array)
    assert min(one, two) > 0.93
    assert abs(one - two) < 0.03


def test_the_intensity_scale_does_not_matter(case):
    image, mask, points = case
    scaled = image.with_array(7 * image.array + 100)
    plain = segment_by_random_walk(image, points).mask.array
    assert dice(segment_by_random_walk(scaled, points).mask.array, plain) > 0.999


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["k", "j", "i"])
def test_flipping_the_image_flips_the_mask(case, axis):
    image, _, points = case
    plain = segment_by_random_walk(image, points).mask.array
    flipped = image.with_array(np.flip(image.array, axis))
    voxels = points.voxels_kji.copy()
    voxels[:, axis] = image.shape[axis] - 1 - voxels[:, axis]
    mirrored = ExtremePoints.from_ras(image.points_to_ras(voxels[:, ::-1]), image)
    assert dice(np.flip(segment_by_random_walk(flipped, mirrored).mask.array, axis), plain) > 0.999


def test_permuting_the_axes_permutes_the_mask(case):
    image, _, points = case
    plain = segment_by_random_walk(image, points).mask.array
    order = (2, 0, 1)  # array axes K, J, I to I, K, J
    columns = [2 - a for a in order[::-1]] + [3]
    turned = Volume(image.array.transpose(order), image.ijk_to_ras[:, columns], "turned")
    np.testing.assert_allclose(turned.spacing, image.spacing[list(order)])
    result = segment_by_random_walk(turned, ExtremePoints.from_ras(points.positions_ras, turned))
    assert dice(result.mask.array, plain.transpose(order)) > 0.999


def test_same_input_same_bytes(case):
    image, _, points = case
    first, second = (segment_by_random_walk(image, points) for _ in range(2))
    np.testing.assert_array_equal(first.score.array, second.score.array)
    np.testing.assert_array_equal(first.mask.array, second.mask.array)


def test_a_coarser_working_grid_agrees(case):
    image, mask, points = case
    coarse = segment_by_random_walk(image, points, RandomWalkSettings(longest_side=16))
    assert coarse.record["working_voxel_mm"] != image.spacing.tolist()
    assert dice(coarse.mask.array, mask.array) > 0.93


def test_the_pre_contrast_image_is_subtracted(case):
    _, mask, points = case
    rng = np.random.default_rng(0)
    anatomy = rng.integers(20_000, 30_000, SHAPE)  # enhancement drowns in it; the sum leaves 16 bits
    pre = Volume(anatomy.astype(np.int16), mask.ijk_to_ras, "pre")
    enhancement = (400 * mask.array + 60 * rng.normal(size=SHAPE)).astype(np.int64)
    post = Volume(np.clip(anatomy + enhancement, 0, 32_767).astype(np.int16), mask.ijk_to_ras, "post")
    assert dice(segment_by_random_walk(post, points, pre=pre).mask.array, mask.array) > 0.95
    reverse = segment_by_random_walk(pre, points, pre=post)  # negative differences must not wrap around
    assert dice(reverse.mask.array, mask.array) > 0.95


def test_the_pre_contrast_image_must_share_the_grid(case):
    image, _, points = case
    shifted = image.ijk_to_ras.copy()
    shifted[0, 3] += 1
    for other in (Volume(image.array, shifted, "pre"), Volume(image.array[1:], image.ijk_to_ras, "pre")):
        with pytest.raises(InputError, match="'pre' .* is not on the grid of 'image'.*Resample"):
            segment_by_random_walk(image, points, pre=other)


@BOTH
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_voxels_that_are_no_numbers(case, settings, bad):
    image, _, points = case
    array = image.array.copy()
    array[12, 25, 31] = bad
    with pytest.raises(InputError, match="holds 1 voxel.* first at I 31, J 25, K 12"):
        segment_by_random_walk(image.with_array(array), points, settings)


def test_bad_voxels_far_away_do_not_matter(case):
    image, _, points = case
    wide = Volume(np.pad(image.array, 60, constant_values=np.nan), np.eye(4), "wide")
    inner = Volume(wide.array[57:-57, 57:-57, 57:-57], np.eye(4), "inner")
    assert np.isnan(inner.array).any()
    moved = ExtremePoints.from_ras(wide.points_to_ras((points.voxels_kji + 60)[:, ::-1]), wide)
    with pytest.raises(InputError, match="not finite"):
        segment_by_random_walk(wide, moved)
    small = np.array([[12, 20, 30], [14, 20, 30], [13, 18, 30], [13, 22, 30], [13, 20, 27], [13, 20, 33]]) + 60
    padded = Volume(np.pad(np.pad(image.array, 40, mode="reflect"), 20, constant_values=np.nan), np.eye(4), "padded")
    points = ExtremePoints.from_ras(small[:, ::-1], padded)
    segment_by_random_walk(padded, points)


@BOTH
def test_a_constant_image(case, settings):
    image, _, points = case
    with pytest.raises(InputError, match=r"constant \(7\)"):
        segment_by_random_walk(image.with_array(np.full(SHAPE, 7, dtype=np.int16)), points, settings)


@BOTH
def test_subtracting_an_image_from_itself(case, settings):
    image, _, points = case
    with pytest.raises(InputError, match=r"constant \(0\)"):
        segment_by_random_walk(image, points, settings, pre=image)


@BOTH
def test_a_tiny_lesion_without_any_noise(settings):
    """Percentiles of the surroundings are all equal here, and most costs and differences are zero."""
    array = np.zeros((60, 70, 80), dtype=np.float32)
    array[30:34, 35:40, 41:47] = 1
    volume = Volume(array, np.eye(4), "clean")
    result = segment(volume, volume, settings)
    assert dice(result.mask.array, array) > (0.99 if settings.method == "random-walk" else 0.5)


@BOTH
def test_no_tissue_around_the_lesion(settings):
    array = np.random.default_rng(0).normal(100, 10, (3, 3, 3))
    volume = Volume(array, np.eye(4), "snippet")
    ends = np.array([[0, 1, 1], [2, 1, 1], [1, 0, 1], [1, 2, 1], [1, 1, 0], [1, 1, 2]], dtype=float)
    with pytest.raises(InputError, match="'snippet' shows no tissue around"):
        segment_by_random_walk(volume, ExtremePoints.from_ras(ends, volume), settings)


def test_the_published_method_needs_positive_intensities(case):
    image, _, points = case
    with pytest.raises(InputError, match="no positive intensity"):
        segment_by_random_walk(image.with_array(image.array - 10_000), points, PublishedSettings())


@pytest.mark.parametrize("name", ["longest_side", "noise_multiple", "segment_above"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_settings_out_of_range(name, value):
    with pytest.raises(InputError, match=f"The setting {name} is"):
        RandomWalkSettings(**{name: value})


def test_clicks_of_both_signs():
    """A click takes a part of the lesion away, a later one gives it back."""
    image, mask = ellipsoid_lesion(SHAPE, SPACING, RADII, **NOISY)
    position = tuple(image.points_to_ras(np.array([[36.0, 26.0, 12.0]]))[0])
    plain = segment(image, mask)
    removed = segment(image, mask, clicks=[Click(position, tumor=False)])
    assert plain.mask.array[12, 26, 36]
    assert not removed.mask.array[12, 26, 36]
    restored = segment(image, mask, clicks=[Click(position, tumor=False), Click(position, tumor=True)])
    assert restored.mask.array[12, 26, 36]
    assert restored.record["clicks"][1] == {"position_ras_mm": list(position), "tumor": True}


def test_a_click_on_a_point_leaves_the_point(case):
    image, _, points = case
    result = segment_by_random_walk(image, points, clicks=[Click(tuple(points.positions_ras[0]), tumor=False)])
    assert result.score.array[tuple(points.voxels_kji[0])] == 1


def test_a_tumor_click_outside_the_box(case):
    image, _, points = case
    with pytest.raises(InputError, match="Corrective click 1 marks lesion outside the box"):
        segment_by_random_walk(image, points, clicks=[Click((0.0, 0.0, 0.0), tumor=True)])


def test_the_published_method_takes_no_clicks(case):
    image, _, points = case
    with pytest.raises(InputError, match="no corrective clicks"):
        segment_by_random_walk(image, points, PublishedSettings(), clicks=[Click((0.0, 0.0, 0.0), tumor=False)])


def test_non_enhancing_parts_are_left_out():
    """A dark core inside the box is background only where the setting says so."""
    image, mask = ellipsoid_lesion(SHAPE, SPACING, RADII, lesion=220.0)
    _, core = ellipsoid_lesion(SHAPE, SPACING, (6.0, 5.0, 5.5))
    array = np.where(core.array, image.array - 120, image.array)
    points = extreme_points_of_mask(mask)
    with_core = segment_by_random_walk(image.with_array(array), points, RandomWalkSettings(exclude_non_enhancing=False))
    without = segment_by_random_walk(image.with_array(array), points, RandomWalkSettings(exclude_non_enhancing=True))
    assert without.record["non_enhancing_excluded"]
    assert not with_core.record["non_enhancing_excluded"]
    assert without.score.array[core.array].mean() < with_core.score.array[core.array].mean() - 0.3


@BOTH
def test_pseudo_masks(case, settings):
    image, _, points = case
    result = segment_by_random_walk(image, points, settings)
    labels, score = result.pseudo_mask.array, result.score.array
    box = tuple(slice(a, b) for a, b in zip(points.box_start_kji, points.box_stop_kji, strict=True))
    outside = np.ones(SHAPE, dtype=bool)
    outside[box] = False
    assert (labels[outside] == Label.BACKGROUND).all()
    np.testing.assert_array_equal(labels[box] == Label.TUMOR, score[box] > 0.8)
    background = score[box] <= 0.1 if settings.method == "random-walk" else np.zeros_like(score[box], dtype=bool)
    np.testing.assert_array_equal(labels[box] == Label.BACKGROUND, background)
    if settings.method == "published":
        np.testing.assert_array_equal(result.mask.array, labels == Label.TUMOR)


@BOTH
def test_a_record_replays(case, settings):
    image, _, points = case
    pre = image.with_array(np.random.default_rng(1).normal(20, 2, SHAPE), "pre")
    clicks = [] if settings.method == "published" else [Click((30.0, 30.0, 20.0), False)]
    result = segment_by_random_walk(image, points, settings, pre=pre, clicks=clicks)
    record = json.loads(json.dumps(result.record, allow_nan=False))
    again = replay(record, image, pre=pre)
    np.testing.assert_array_equal(again.score.array, result.score.array)
    np.testing.assert_array_equal(again.mask.array, result.mask.array)
    with pytest.raises(InputError, match="another image than 'image'"):
        replay(record, image.with_array(image.array + 1), pre=pre)
    with pytest.raises(InputError, match="another image than 'image'"):
        replay(record, image)
    del record["settings"]
    with pytest.raises(InputError, match="not a complete segmentation record"):
        replay(record, image, pre=pre)


@BOTH
def test_progress_rises_and_can_cancel(case, settings):
    image, _, points = case
    fractions = []
    segment_by_random_walk(image, points, settings, lambda fraction, message: fractions.append(fraction))
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1

    def cancel(fraction, message):
        if fraction > 0.5:
            raise Cancelled

    with pytest.raises(Cancelled):
        segment_by_random_walk(image, points, settings, cancel)


def test_other_pixel_types_and_memory_layouts(case):
    image, _, points = case
    plain = segment_by_random_walk(image.with_array(np.rint(image.array)), points).mask.array
    for array in (np.rint(image.array).astype(np.uint8), np.asfortranarray(np.rint(image.array).astype(">i2"))):
        np.testing.assert_array_equal(segment_by_random_walk(image.with_array(array), points).mask.array, plain)


def test_intensities_are_compared_again_inside_and_outside_of_what_was_found(case):
    volume, mask, points = case
    once = segment_by_random_walk(volume, points, RandomWalkSettings(remeasurements=0))
    twice = segment_by_random_walk(volume, points)
    assert (len(once.record["solves"]), len(twice.record["solves"])) == (8, 16)
    assert dice(twice.mask.array, mask.array) > dice(once.mask.array, mask.array) - 0.01
    unexcluded = segment_by_random_walk(volume, points, RandomWalkSettings(exclude_non_enhancing=False))
    assert len(unexcluded.record["solves"]) == 8


@pytest.mark.parametrize(
    "settings, advice",
    [(PublishedSettings(), "random-walk method"), (RandomWalkSettings(longest_side=400), "fewer working voxels")],
    ids=["published", "random-walk"],
)
def test_lesions_too_large_for_the_memory_are_refused(settings, advice):
    image = Volume(np.broadcast_to(np.uint8(0), (300, 400, 400)), np.eye(4), "huge")
    middle, ends = np.array([200.0, 200.0, 150.0]), (20, 380, 20, 380, 20, 280)
    positions = np.tile(middle, (6, 1))
    positions[np.arange(6), np.arange(6) // 2] = ends
    points = ExtremePoints.from_ras(positions, image)
    with pytest.raises(InputError, match=f"million voxels; this method takes 8 million.*{advice}"):
        segment_by_random_walk(image, points, settings)
