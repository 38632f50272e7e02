"""Diameters against geometry and brute force, distances between surfaces against spheres, agreement of moved points."""

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Cancelled
from BreastBiomarkersLib.volume import Volume
from conftest import oblique_ijk_to_ras
from scipy.spatial.distance import pdist
from weaksegment.lesions import ellipsoid_lesion
from WeakSegmentLib.measures import measure, measure_diameters
from WeakSegmentLib.points import extreme_points_of_mask
from WeakSegmentLib.settings import RandomWalkSettings
from WeakSegmentLib.stability import jitter_agreement
from WeakSegmentLib.surfaces import distance_surface

SHAPE, SPACING = (30, 56, 70), (1.6, 0.9, 0.7)


def ball(radius_mm, offset_mm=(0, 0, 0), matrix=None):
    matrix = oblique_ijk_to_ras(SPACING[::-1]) if matrix is None else matrix
    volume = Volume(np.zeros(SHAPE, dtype=bool), matrix, "ball")
    k, j, i = np.indices(SHAPE)
    ras = volume.points_to_ras(np.stack([i, j, k], axis=-1).reshape(-1, 3)).reshape(*SHAPE, 3)
    center = volume.points_to_ras((np.array(SHAPE[::-1]) - 1)[None] / 2)[0] + offset_mm
    return volume.with_array(np.linalg.norm(ras - center, axis=-1) <= radius_mm), center


# Diameters


@pytest.mark.parametrize("flip", [None, 0, 1, 2])
def test_diameters_of_a_ball(flip):
    mask, _ = ball(15.0, matrix=oblique_ijk_to_ras(SPACING[::-1], flip))
    found = measure_diameters(mask)
    assert found.longest == pytest.approx(30, abs=1.6), "a slice's thickness at most"
    assert found.in_plane == pytest.approx(30, abs=0.9)
    assert found.perpendicular == pytest.approx(30, abs=0.9)


def test_diameters_of_a_turned_ellipsoid():
    matrix = np.diag([0.5, 0.5, 1.0, 1.0])
    i, j, k = np.meshgrid(*(np.arange(n) for n in (100, 90, 40)), indexing="ij")
    x, y, z = 0.5 * i - 25, 0.5 * j - 22, 1.0 * k - 20
    c, s = np.cos(0.6), np.sin(0.6)
    inside = ((c * x + s * y) / 18) ** 2 + ((-s * x + c * y) / 9) ** 2 + (z / 6) ** 2 <= 1
    found = measure_diameters(Volume(inside.transpose(2, 1, 0), matrix, "ellipsoid"))
    assert found.longest == pytest.approx(36, abs=0.6)
    assert found.in_plane == pytest.approx(36, abs=0.6)
    assert found.perpendicular == pytest.approx(18, abs=0.6)


def test_slices_are_those_across_the_feet_head_direction():
    """A rod along the feet-head axis is long, but round and thin in its slices, whatever the storage order."""
    rod = np.zeros((6, 7, 40), dtype=bool)
    rod[2:4, 2:5, 5:35] = True
    matrix = np.array([[0, 0, 1.0, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])  # I runs toward the feet
    found = measure_diameters(Volume(rod, matrix, "rod"))
    assert found.longest > 30
    assert found.in_plane < 4


def test_diameters_equal_brute_force():
    rng = np.random.default_rng(3)
    inside = rng.random((7, 8, 9)) > 0.6
    mask = Volume(inside, oblique_ijk_to_ras(), "noise")
    padded = np.pad(inside, 1)
    faces = []
    for voxel in np.argwhere(padded):
        for step in np.concatenate([np.eye(3), -np.eye(3)]).astype(int):
            if not padded[tuple(voxel + step)]:
                faces.append(voxel - 1 + step / 2)
    faces = mask.points_to_ras(np.array(faces)[:, ::-1])
    assert measure_diameters(mask).longest == pytest.approx(pdist(faces).max())


def test_one_voxel_has_the_size_of_a_voxel():
    array = np.zeros((3, 4, 5), dtype=bool)
    array[1, 2, 3] = True
    found = measure_diameters(Volume(array, np.diag([0.7, 0.7, 2.0, 1.0]), "voxel"))
    assert (found.longest, found.in_plane, found.perpendicular) == pytest.approx((2.0, 0.7, 0.7))


def test_nothing_to_measure():
    empty = Volume(np.zeros((3, 4, 5), dtype=bool), np.eye(4), "nothing")
    with pytest.raises(InputError, match="'nothing' is empty"):
        measure(empty)
    with pytest.raises(InputError, match="'nothing' is empty"):
        measure_diameters(empty)


def test_all_read_outs_together():
    mask, _ = ball(9.0)
    other, _ = ball(9.0, (1.5, 0, 0))
    phases = [mask.with_array(np.where(mask.array, value, 100.0), name) for value, name in ((100, "pre"), (220, "a"))]
    late = mask.with_array(np.where(mask.array, 180.0, 100.0), "late")
    found = measure(mask, [*phases, late], other)
    assert found.volume_ml == pytest.approx(4 / 3 * np.pi * 0.9**3, rel=0.03)
    assert found.kinetics.initial_enhancement_percent == pytest.approx(120)
    assert found.kinetics.late_class == "washout"
    assert found.kinetics.ser == pytest.approx(1.5)
    assert 0.8 < found.agreement.dice < 0.95
    alone = measure(mask)
    assert (alone.kinetics, alone.agreement) == (None, None)


# Surfaces


@pytest.mark.parametrize("flip", [None, 0, 2])
def test_distance_between_concentric_balls(flip):
    matrix = oblique_ijk_to_ras(SPACING[::-1], flip)
    (small, center), (large, _) = (ball(radius, matrix=matrix) for radius in (11.0, 15.0))
    for mask, reference, radius, expected in ((large, small, 15.0, 4.0), (small, large, 11.0, -4.0)):
        found = distance_surface(mask, reference)
        assert np.linalg.norm(found.points_ras - center, axis=1).mean() == pytest.approx(radius, abs=0.3)
        assert found.distance_mm.mean() == pytest.approx(expected, abs=0.2)
        assert np.abs(found.distance_mm - expected).max() < 1.2
        corners = found.points_ras[found.triangles]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        outward = np.einsum("nk,nk->n", normals, corners.mean(axis=1) - center)
        assert (outward > 0).mean() > 0.999, "seen from outside"
        volume = np.einsum("nk,nk->n", corners[:, 0] - center, normals).sum() / 6
        assert volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.03)


def test_sign_of_the_distance_of_a_shifted_ball():
    reference, center = ball(12.0)
    mask, _ = ball(12.0, (5.0, 0, 0))
    found = distance_surface(mask, reference)
    beyond = found.points_ras[:, 0] > center[0] + 12
    behind = found.points_ras[:, 0] < center[0] - 4
    assert (found.distance_mm[beyond] > 2).all()
    assert (found.distance_mm[behind] < -2).all()
    assert found.distance_mm.max() == pytest.approx(5, abs=0.6)


def test_surfaces_of_a_mask_with_itself_and_of_a_voxel():
    mask, _ = ball(9.0)
    assert np.abs(distance_surface(mask, mask).distance_mm).max() < 1e-6
    voxel = mask.with_array(np.zeros(SHAPE, dtype=bool), "voxel")
    voxel.array[10, 20, 30] = True
    assert len(distance_surface(voxel, mask).triangles) > 4


def test_surfaces_that_cannot_be_compared():
    mask, _ = ball(9.0)
    empty = mask.with_array(np.zeros(SHAPE, dtype=bool), "nothing")
    for pair in ((mask, empty), (empty, mask)):
        with pytest.raises(InputError, match="'nothing' is empty"):
            distance_surface(*pair)
    with pytest.raises(InputError, match="not on the grid"):
        distance_surface(mask, Volume(mask.array, np.eye(4), "elsewhere"))


# Moved points


@pytest.fixture(scope="module")
def case():
    image, mask = ellipsoid_lesion((22, 44, 50), (2.0, 1.0, 0.8), (15.0, 13.0, 14.0), lesion=160.0)
    return image, mask, extreme_points_of_mask(mask)


def test_band_lies_around_the_rim(case):
    image, mask, points = case
    quick = RandomWalkSettings(longest_side=32)
    share = jitter_agreement(image, points, quick)
    assert share.same_grid(image)
    assert set(np.unique(np.rint(6 * share.array))) <= set(range(7))
    middle = tuple((points.box_start_kji + points.box_stop_kji) // 2)
    assert share.array[middle] == 1
    assert share.array[~mask.array].mean() < 0.02
    band = (share.array > 0) & (share.array < 1)
    assert 0 < band.sum() < mask.array.sum()
    np.testing.assert_array_equal(jitter_agreement(image, points, quick).array, share.array)
    assert (jitter_agreement(image, points, quick, seed=1).array != share.array).any()


def test_moving_points_can_be_cancelled(case):
    image, _, points = case

    def cancel(fraction, message):
        if fraction > 0.3:
            raise Cancelled

    with pytest.raises(Cancelled):
        jitter_agreement(image, points, progress=cancel)


def test_points_at_the_edge_and_of_tiny_lesions():
    image, mask = ellipsoid_lesion((12, 20, 24), (1.0, 1.0, 1.0), (1.6, 1.6, 1.6), center_mm=(2.0, 2.0, 2.0), noise=2.0)
    share = jitter_agreement(image, extreme_points_of_mask(mask), RandomWalkSettings(longest_side=16), runs=3)
    assert share.array.max() > 0
