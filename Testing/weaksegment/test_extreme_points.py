"""Six points become six checked voxels, whatever order and frame they come in; anything else is refused in words."""

import itertools

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume
from conftest import oblique_ijk_to_ras
from weaksegment.lesions import ellipsoid_lesion
from WeakSegmentLib.points import ROLES, ExtremePoints, extreme_points_of_mask

# K low, K high, J low, J high, I low, I high on a 9 x 14 x 21 grid
VOXELS = np.array([[1, 6, 9], [7, 7, 10], [4, 2, 11], [3, 11, 8], [5, 5, 4], [4, 8, 17]])


def ras(voxels, volume):
    return volume.points_to_ras(np.asarray(voxels, dtype=float)[:, ::-1])


def test_points_find_their_ends_in_any_order(oblique_volume):
    positions = ras(VOXELS, oblique_volume)
    for shuffle in list(itertools.permutations(range(6)))[::37]:
        points = ExtremePoints.from_ras(positions[list(shuffle)], oblique_volume)
        np.testing.assert_array_equal(points.voxels_kji, VOXELS)
        np.testing.assert_allclose(points.positions_ras, positions)
        np.testing.assert_array_equal(np.array(shuffle)[list(points.order)], range(6))
        np.testing.assert_array_equal(points.box_start_kji, [1, 2, 4])
        np.testing.assert_array_equal(points.box_stop_kji, [8, 12, 18])


def test_roles_follow_the_patient(oblique_volume):
    points = ExtremePoints.from_ras(ras(VOXELS, oblique_volume), oblique_volume)
    assert sorted(points.roles) == sorted(ROLES)
    by_role = dict(zip(points.roles, points.positions_ras, strict=True))
    for low, high, axis in (("Left", "Right", 0), ("Posterior", "Anterior", 1), ("Inferior", "Superior", 2)):
        assert by_role[low][axis] < by_role[high][axis]


def test_box_spans_all_points_not_only_each_pair(oblique_volume):
    voxels = VOXELS.copy()
    voxels[0, 2] = 3  # the low K click lies farther along I than the I pair
    points = ExtremePoints.from_ras(ras(voxels, oblique_volume), oblique_volume)
    assert points.box_start_kji[2] == 3


def test_positions_between_voxels_go_to_the_nearest(oblique_volume):
    points = ExtremePoints.from_ras(ras(VOXELS + 0.4, oblique_volume), oblique_volume)
    np.testing.assert_array_equal(points.voxels_kji, VOXELS)


def test_the_outermost_voxel_belongs_to_the_image_up_to_its_face(oblique_volume):
    voxels = VOXELS.astype(float)
    voxels[1, 0] = 8.49
    assert ExtremePoints.from_ras(ras(voxels, oblique_volume), oblique_volume).voxels_kji[1, 0] == 8


def test_outside_says_which_and_how_far():
    volume = Volume(np.zeros((9, 14, 21), dtype=np.int16), np.diag([0.5, 1.0, 2.0, 1.0]), "post 1")
    voxels = VOXELS.astype(float)
    voxels[4, 2] = -0.5 - 82.0  # 82 voxels of 0.5 mm
    with pytest.raises(InputError, match=r"Extreme point 5 \('Left'\) lies 41\.0 mm outside 'post 1'"):
        ExtremePoints.from_ras(ras(voxels, volume), volume, ["a", "b", "c", "d", "Left", "e"])


@pytest.mark.parametrize("count", [0, 1, 5, 7])
def test_another_number_of_points(oblique_volume, count):
    positions = np.vstack([ras(VOXELS, oblique_volume)] * 2)[:count]
    with pytest.raises(InputError, match=f"^{count} extreme"):
        ExtremePoints.from_ras(positions, oblique_volume)


def test_the_same_click_twice(oblique_volume):
    positions = ras(VOXELS, oblique_volume)
    positions[4] = positions[1]
    with pytest.raises(InputError, match="Extreme point 2 and Extreme point 5 are at the same position"):
        ExtremePoints.from_ras(positions, oblique_volume)


def test_a_point_without_position(oblique_volume):
    positions = ras(VOXELS, oblique_volume)
    positions[3, 1] = np.nan
    with pytest.raises(InputError, match="Extreme point 4 has no position"):
        ExtremePoints.from_ras(positions, oblique_volume)


@pytest.mark.parametrize("extent", [1, 2])
def test_a_flat_box_names_the_direction(extent):
    volume = Volume(np.zeros((9, 14, 21), dtype=np.int16), np.eye(4), "thin")
    voxels = VOXELS.copy()
    voxels[:, 0] = 4 + np.arange(6) % extent
    with pytest.raises(InputError, match=f"span {extent} voxel.*from Inferior to Superior; at least 3"):
        ExtremePoints.from_ras(ras(voxels, volume), volume)


def test_a_missing_end_is_named():
    volume = Volume(np.zeros((9, 14, 21), dtype=np.int16), np.eye(4), "image")
    # five points crowd one corner: the sixth can be the high end of one axis only
    voxels = [[1, 2, 2], [1, 3, 2], [1, 2, 3], [1, 3, 3], [2, 2, 2], [7, 9, 9]]
    with pytest.raises(InputError, match="No point marks the (Right|Anterior|Superior) end: Extreme point"):
        ExtremePoints.from_ras(ras(voxels, volume), volume)


@pytest.mark.parametrize("flip", [None, 0, 1, 2])
def test_extreme_points_of_a_mask(flip):
    spacing = (2.9, 1.3, 0.7)
    matrix = oblique_ijk_to_ras(spacing[::-1], flip)
    _, mask = ellipsoid_lesion((16, 25, 37), spacing, (12.0, 9.0, 8.0), ijk_to_ras=matrix)
    points = extreme_points_of_mask(mask)
    inside = np.argwhere(mask.array)
    np.testing.assert_array_equal(points.box_start_kji, inside.min(axis=0))
    np.testing.assert_array_equal(points.box_stop_kji, inside.max(axis=0) + 1)
    assert mask.array[tuple(points.voxels_kji.T)].all()
    again = ExtremePoints.from_ras(points.positions_ras[::-1], mask)
    np.testing.assert_array_equal(again.voxels_kji, points.voxels_kji)


def test_a_mask_without_six_ends():
    empty = Volume(np.zeros((5, 6, 7), dtype=bool), np.eye(4), "empty")
    with pytest.raises(InputError, match="'empty' is empty"):
        extreme_points_of_mask(empty)
    voxel = empty.array.copy()
    voxel[2, 3, 4] = True
    with pytest.raises(InputError, match="one voxel is its end"):
        extreme_points_of_mask(empty.with_array(voxel, "voxel"))
