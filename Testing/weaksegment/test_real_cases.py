"""Dice on real cases must not fall, and where the method beats trivial rules with the same points it must go on so.

Floors are the measured Dice cut to two digits. They guard against regressions; they are no estimate of accuracy, since
the constants were chosen on cases like these. Where a trivial rule is better the table says so.
"""

import time

import pytest
from benchmarks.weaksegment_evaluate import ellipsoid, otsu, own, real_cases
from weaksegment.lesions import dice
from WeakSegmentLib.points import extreme_points_of_mask
from WeakSegmentLib.segmentation import segment_by_random_walk
from WeakSegmentLib.settings import PublishedSettings, RandomWalkSettings

ENHANCED = RandomWalkSettings()
OTHER = RandomWalkSettings(exclude_non_enhancing=False)
# settings, floor of the method, floor of the published one (None: useless there), beats the ellipsoid, beats Otsu
CASES = [
    ("UCSF-BR-08 post", ENHANCED, 0.82, None, True, True),
    ("UCSF-BR-08 subtraction", ENHANCED, 0.81, None, True, True),
    ("breast1", ENHANCED, 0.79, 0.65, True, False),
    ("brain1", OTHER, 0.37, 0.17, True, False),
    ("STS_002_MR_T1", OTHER, 0.92, 0.77, True, True),
    ("STS_003_MR_T1", OTHER, 0.91, 0.81, True, True),
    ("STS_042_MR_T1", OTHER, 0.79, 0.81, True, True),
    ("STS_025_PET", OTHER, 0.90, 0.76, True, True),
    ("STS_051_PET", OTHER, 0.88, 0.73, False, True),
]


@pytest.fixture(scope="module")
def cases(shared_data):
    """Real cases by name."""
    return {case.name: case for case in real_cases(shared_data / "segmentation")}


@pytest.mark.parametrize("name, settings, floor, published_floor, beats_ellipsoid, beats_otsu", CASES)
def test_dice_does_not_fall(cases, name, settings, floor, published_floor, beats_ellipsoid, beats_otsu):
    case = cases[name]
    points = extreme_points_of_mask(case.reference)
    found = dice(own(settings)(case, points), case.reference.array)
    assert found >= floor
    if published_floor is not None:
        assert dice(own(PublishedSettings())(case, points), case.reference.array) >= published_floor
    if beats_ellipsoid:
        assert found > dice(ellipsoid(case, points), case.reference.array)
    if beats_otsu:
        assert found > dice(otsu(case, points), case.reference.array)


def test_a_box_of_brain1_takes_less_than_half_a_second(cases):
    case = cases["brain1"]
    points = extreme_points_of_mask(case.reference)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        segment_by_random_walk(case.image, points)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.5


def test_the_preview_grid_agrees_on_the_breast(cases):
    case = cases["UCSF-BR-08 post"]
    points = extreme_points_of_mask(case.reference)
    preview = segment_by_random_walk(case.image, points, RandomWalkSettings(longest_side=32))
    assert dice(preview.mask.array, case.reference.array) > 0.80
