"""Several lesions in one image: they do not take each other's voxels; and a method reads no more than its crop."""

import json

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume
from conftest import oblique_ijk_to_ras
from weaksegment.lesions import dice, ellipsoid_lesion
from WeakSegmentLib.methods import crop_of
from WeakSegmentLib.points import extreme_points_of_mask
from WeakSegmentLib.pseudo_mask import Label
from WeakSegmentLib.segmentation import replay, segment_by_random_walk
from WeakSegmentLib.settings import PublishedSettings, RandomWalkSettings

SHAPE, SPACING = (26, 60, 84), (2.0, 1.0, 0.8)
BOTH = pytest.mark.parametrize("settings", [RandomWalkSettings(), PublishedSettings()], ids=lambda s: s.method)


@pytest.fixture(scope="module")
def pair():
    """Two bright lesions that touch, the second one's mask not counting what the first holds."""
    size = {"radii_mm": (14.0, 13.0, 15.0), "ijk_to_ras": oblique_ijk_to_ras(SPACING[::-1])}
    left, one = ellipsoid_lesion(SHAPE, SPACING, center_mm=(25.0, 30.0, 20.0), noise=12.0, **size)
    _, two = ellipsoid_lesion(SHAPE, SPACING, center_mm=(26.0, 31.0, 46.0), **size)
    two = two.with_array(two.array & ~one.array)
    image = left.with_array(left.array + 80 * two.array, "post")
    return image, one, two


def test_voxels_of_another_lesion_are_not_taken(pair):
    image, one, two = pair
    points = extreme_points_of_mask(two)
    alone = segment_by_random_walk(image, points)
    told = segment_by_random_walk(image, points, others=one)
    assert np.count_nonzero(alone.mask.array & one.array) > 0, "without being told it leaks"
    assert not (told.mask.array & one.array).any()
    assert (told.pseudo_mask.array[one.array] == Label.BACKGROUND).all()
    assert dice(told.mask.array, two.array) > dice(alone.mask.array, two.array)
    assert dice(told.mask.array, two.array) > 0.95


def test_the_record_knows_the_other_lesions(pair):
    image, one, two = pair
    result = segment_by_random_walk(image, extreme_points_of_mask(two), others=one)
    record = json.loads(json.dumps(result.record))
    np.testing.assert_array_equal(replay(record, image, others=one).mask.array, result.mask.array)
    with pytest.raises(InputError, match="other lesions marked on 'post'"):
        replay(record, image)
    with pytest.raises(InputError, match="other lesions marked on 'post'"):
        replay(record, image, others=two)


def test_the_other_lesions_must_be_on_the_grid(pair):
    image, one, two = pair
    shifted = Volume(one.array, one.ijk_to_ras + np.eye(4)[:, [1, 2, 3, 0]], "satellites")
    with pytest.raises(InputError, match=r"'satellites' .* is not on the grid of 'post'"):
        segment_by_random_walk(image, extreme_points_of_mask(two), others=shifted)


@BOTH
def test_nothing_outside_the_crop_is_read(pair, settings):
    image, _, two = pair
    points = extreme_points_of_mask(two)
    crop = crop_of(points, image, settings)
    only = np.full(SHAPE, np.nan, dtype=np.float32)
    only[crop] = image.array[crop]
    found, whole = (segment_by_random_walk(image.with_array(a), points, settings) for a in (only, image.array))
    np.testing.assert_array_equal(found.mask.array, whole.mask.array)
    assert found.record["crop_kji"] == [[s.start, s.stop] for s in crop]
    assert np.prod([s.stop - s.start for s in crop]) < image.array.size
