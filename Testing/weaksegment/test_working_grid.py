"""The coarse grid keeps its place: block means down, tri-linear up, boxes and points where they were."""

import numpy as np
import pytest
from BreastBiomarkersLib.volume import Volume
from WeakSegmentLib.points import ExtremePoints
from WeakSegmentLib.working_grid import WorkingGrid

SHAPE, SPACING = (40, 90, 160), np.array([3.0, 1.0, 0.5])


def points_of_box(start, stop):
    """Return six points in the middle of the faces of a box of voxels."""
    low, high = np.array(start), np.array(stop) - 1
    voxels = np.repeat([(low + high) // 2], 6, axis=0)
    for axis in range(3):
        voxels[2 * axis, axis], voxels[2 * axis + 1, axis] = low[axis], high[axis]
    volume = Volume(np.zeros(SHAPE, dtype=np.uint8), np.diag([0.5, 1.0, 3.0, 1.0]), "grid")
    return ExtremePoints.from_ras(volume.points_to_ras(voxels[:, ::-1]), volume)


def grid(start=(12, 20, 30), stop=(22, 65, 131), longest_side=16):
    return WorkingGrid.around(points_of_box(start, stop), SHAPE, SPACING, longest_side)


@pytest.mark.parametrize(
    "longest_side, factors", [(48, (1, 1, 2)), (16, (1, 3, 6)), (4, (4, 12, 25)), (999, (1, 1, 1))]
)
def test_factors_follow_the_longest_side_in_millimeters(longest_side, factors):
    # longest side 101 x 0.5 mm = 50.5 mm
    assert tuple(grid(longest_side=longest_side).factors) == factors


def test_the_crop_has_margin_and_whole_blocks_where_the_image_allows():
    g = grid()
    assert (g.start <= np.array([12, 20, 30]) - np.minimum(np.maximum(8 * g.factors, 12), [12, 20, 30])).all()
    assert (g.stop <= SHAPE).all()
    for size, factor, stop, end in zip(g.stop - g.start, g.factors, g.stop, SHAPE, strict=True):
        assert size % factor == 0 or stop == end
    assert g.shape == tuple(-(-(g.stop - g.start) // g.factors))


@pytest.mark.parametrize("longest_side", [999, 48, 16, 5])
def test_linear_functions_survive_down_and_up(longest_side):
    g = grid(longest_side=longest_side)
    k, j, i = np.meshgrid(*(np.arange(a, b) for a, b in zip(g.start, g.stop, strict=True)), indexing="ij")
    ramp = (2.0 * k - 3.0 * j + 0.5 * i + 7).astype(np.float32)
    back = g.refine(g.coarsen(ramp))
    assert back.shape == ramp.shape
    inner = tuple(slice(int(f), -2 * int(f)) for f in g.factors)  # outermost half blocks are constant, last ones cut
    np.testing.assert_allclose(back[inner], ramp[inner], atol=1e-3)


def test_block_means_are_means():
    g = grid()
    crop = np.random.default_rng(0).normal(size=tuple(g.stop - g.start)).astype(np.float32)
    fk, fj, fi = g.factors
    coarse = g.coarsen(crop)
    np.testing.assert_allclose(
        coarse[2, 3, 4], crop[2 * fk : 3 * fk, 3 * fj : 4 * fj, 4 * fi : 5 * fi].mean(), rtol=1e-5
    )


@pytest.mark.parametrize("longest_side", [999, 48, 16, 5])
def test_box_points_and_ellipsoid_stay_in_place(longest_side):
    start, stop = np.array((12, 20, 30)), np.array((22, 65, 131))
    g = grid(longest_side=longest_side)
    inside = np.zeros(SHAPE, dtype=bool)
    inside[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    share = g.coarsen(inside[g.crop].astype(np.float32))
    np.testing.assert_array_equal(share > 0, g.box_mask())
    assert g.box_mask()[tuple(g.point_voxels.T)].all()
    # the radius is 1 on the faces of the box: at the middle of a face, half a voxel beyond the last center
    middle = (start + stop - 1) / 2
    for axis in range(3):
        face = middle.copy()
        face[axis] = stop[axis] - 0.5
        working = (face - g.start - (g.factors - 1) / 2) / g.factors
        assert np.linalg.norm((working - g.center) / g.half_side) == pytest.approx(1)
    nearest = np.unravel_index(np.argmin(g.ellipsoid_radius()), g.shape)
    assert (np.abs(np.array(nearest) - g.center) <= 0.5 + 1e-9).all()


def test_a_box_that_fills_the_image_is_cropped_by_it():
    g = grid((0, 0, 0), SHAPE, 16)
    np.testing.assert_array_equal(g.start, 0)
    np.testing.assert_array_equal(g.stop, SHAPE)
    assert g.box_mask().all()
