"""Overlap and surface distances against SimpleITK, brute force and hand-computed values."""

import numpy as np
import pytest
import SimpleITK as sitk
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume, to_sitk
from conftest import oblique_ijk_to_ras
from scipy.ndimage import binary_erosion, gaussian_filter
from scipy.spatial.distance import cdist
from WeakSegmentLib.metrics import score

MATRIX = oblique_ijk_to_ras((0.7, 1.3, 2.9))
SPACING = np.array([2.9, 1.3, 0.7])


@pytest.fixture(params=[(1, 2), (3, 4), (5, 6)], ids=str)
def pair(request):
    rng = np.random.default_rng(request.param[0])
    base = gaussian_filter(rng.normal(size=(11, 17, 29)), 2)
    other = base + 0.4 * gaussian_filter(rng.normal(size=base.shape), 2)
    return tuple(Volume(a > 0.3 * a.max(), MATRIX, n) for a, n in ((base, "mask"), (other, "reference")))


def test_overlap_equals_simple_itk(pair):
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*(to_sitk(volume) for volume in pair))
    scores = score(*pair)
    assert scores.dice == pytest.approx(overlap.GetDiceCoefficient())
    assert scores.jaccard == pytest.approx(overlap.GetJaccardCoefficient())
    assert scores.volume_ml == pytest.approx(pair[0].array.sum() * np.prod(SPACING) / 1000)
    assert scores.reference_ml == pytest.approx(pair[1].array.sum() * np.prod(SPACING) / 1000)


def test_surface_distances_equal_brute_force(pair):
    surfaces = [
        v.points_to_ras(np.argwhere(v.array & ~binary_erosion(v.array))[:, ::-1]) for v in pair
    ]  # real positions in the patient
    distance = cdist(*surfaces)
    there, back = distance.min(axis=1), distance.min(axis=0)
    scores = score(*pair)
    assert scores.hd95_mm == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))
    assert scores.surface_distance_mm == pytest.approx(np.r_[there, back].mean())


def test_shifted_cube_by_hand():
    one, two = np.zeros((12, 14, 16), dtype=bool), np.zeros((12, 14, 16), dtype=bool)
    one[2:7, 3:8, 4:9] = two[4:9, 3:8, 4:9] = True  # shifted by two slices of 2.9 mm
    scores = score(Volume(one, MATRIX, "one"), Volume(two, MATRIX, "two"))
    assert scores.dice == pytest.approx(3 / 5)
    assert scores.jaccard == pytest.approx(3 / 7)
    assert scores.hd95_mm == pytest.approx(5.8)


def test_identical_masks():
    mask = Volume(np.pad(np.ones((3, 4, 5), dtype=np.uint8), 3), MATRIX, "mask")
    scores = score(mask, mask)
    assert (scores.dice, scores.jaccard, scores.hd95_mm, scores.surface_distance_mm) == (1, 1, 0, 0)


def test_a_mask_that_fills_the_image_has_a_surface():
    full = Volume(np.ones((4, 5, 6), dtype=bool), MATRIX, "full")
    assert score(full, full).surface_distance_mm == 0


def test_an_empty_mask_has_no_distance():
    reference = Volume(np.pad(np.ones((2, 2, 2), dtype=bool), 2), MATRIX, "reference")
    scores = score(reference.with_array(np.zeros_like(reference.array)), reference)
    assert (scores.dice, scores.hd95_mm, scores.surface_distance_mm, scores.volume_ml) == (0, None, None, 0)


def test_what_cannot_be_compared():
    mask = Volume(np.ones((4, 5, 6), dtype=bool), MATRIX, "mask")
    with pytest.raises(InputError, match="'nothing' is empty"):
        score(mask, mask.with_array(np.zeros(mask.shape), "nothing"))
    with pytest.raises(InputError, match="'elsewhere' is not on the grid"):
        score(mask, Volume(mask.array, np.eye(4), "elsewhere"))
