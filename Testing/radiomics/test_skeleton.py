"""Skeleton, thickness and deformation of bodies whose answer is known: tube, Y, cone, ball, torus."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from BreastBiomarkersLib.volume import Volume
from conftest import oblique_ijk_to_ras
from RadiomicsPanelLib.feature import NotApplicable
from RadiomicsPanelLib.roi import Case
from RadiomicsPanelLib.settings import Settings
from RadiomicsPanelLib.skeleton_features import FEATURES, Form
from RadiomicsPanelLib.solid import MAX_VOXELS, Solid

pytest.importorskip("skimage")
Z, Y, X = np.indices((46, 72, 110)).astype(float)
MIDDLE = (23, 36, 55)
COURSE = {f.name for f in FEATURES} - {
    f.name
    for f in FEATURES
    if f.name.startswith(("thickness", "thin", "spic", "asym", "shape", "conc", "curv", "surf"))
}


def measure_form(mask, spacing=(1.0, 1.0, 1.0)) -> dict[str, float | str]:
    """Return name -> value, or the reason why there is none."""
    form, found = Form(SimpleNamespace(morphological_mask=mask, spacing=np.array(spacing))), {}
    for feature in FEATURES:
        try:
            found[feature.name] = feature.compute(form)
        except NotApplicable as status:
            found[feature.name] = str(status)
    return found


def rod(start, end, radius, spacing=(1.0, 1.0, 1.0)):
    """Voxels within a radius (mm) of a line between two points (mm)."""
    points = np.stack([Z, Y, X], -1) * spacing
    a, d = np.array(start, float), np.subtract(end, start).astype(float)
    along = np.clip((points - a) @ d / (d @ d), 0, 1)
    return np.linalg.norm(points - (a + along[..., None] * d), axis=-1) <= radius


def ball(radius, center=MIDDLE):
    return (Z - center[0]) ** 2 + (Y - center[1]) ** 2 + (X - center[2]) ** 2 <= radius**2


def test_tube():
    """Radius 6 mm, 80 mm long with flat ends."""
    found = measure_form((np.hypot(Z - 23, Y - 36) <= 6) & (X >= 15) & (X < 95))
    assert (found["end_count"], found["branch_count"], found["junction_count"], found["cycle_count"]) == (2, 1, 0, 0)
    assert 80 - 2 * 6 <= found["longest_path_length"] <= 80  # thinning takes up to the radius at both ends
    assert found["total_length"] == found["maximum_branch_length"] == found["mean_branch_length"]
    assert found["tortuosity"] == pytest.approx(1, abs=1e-3)
    assert found["bending"] == pytest.approx(0, abs=1e-3)
    assert found["sum_of_angles"] == pytest.approx(0, abs=1e-3)
    assert found["thickness_median"] == pytest.approx(12, abs=0.25)
    assert found["path_radius_mean"] == pytest.approx(6, abs=0.2)
    assert found["path_taper"] == pytest.approx(0, abs=1e-3)
    assert found["path_neck_count"] == 0
    assert found["mean_branch_angle"] == "the skeleton has no junction"
    assert found["shape_index_mean"] == pytest.approx(0.5, abs=0.1)  # a ridge, with edges at the ends
    assert found["curvedness_mean"] == pytest.approx(1 / 6 / np.sqrt(2), rel=0.15)


def test_letter_y():
    """Three arms of 40 mm that meet at 120 degrees."""
    arms = [(23, 36, 15), (23, 36 + 34.64, 75), (23, 36 - 34.64, 75)]
    found = measure_form(np.logical_or.reduce([rod(MIDDLE, arm, 4) for arm in arms]))
    assert (found["end_count"], found["branch_count"], found["junction_count"], found["cycle_count"]) == (3, 3, 1, 0)
    assert found["mean_branch_length"] == pytest.approx(40, rel=0.08)
    assert found["total_length"] == pytest.approx(120, rel=0.08)
    assert found["longest_path_length"] == pytest.approx(80, rel=0.08)
    assert found["mean_branch_angle"] == pytest.approx(120, abs=5)
    assert found["thickness_median"] == pytest.approx(8, abs=0.3)


def test_cone():
    """Radius from 2 to 10 mm over 80 mm."""
    found = measure_form((np.hypot(Z - 23, Y - 36) <= 2 + 8 * (X - 15) / 80) & (X >= 15) & (X < 95))
    assert (found["end_count"], found["branch_count"]) == (2, 1)
    assert found["path_taper"] == pytest.approx(0.1, rel=0.12)
    assert found["path_radius_variation"] > 0.3
    assert found["asymmetry_major"] > 0.3
    assert found["asymmetry_least"] < 0.01


def test_ball_is_compact():
    """Its skeleton is a point; thickness and deformation are defined."""
    found = measure_form(ball(18))
    for name in COURSE:
        assert found[name].startswith("the segment is compact: its skeleton is "), name
    assert found["thickness_mean"] == pytest.approx(36, abs=0.1)
    assert found["thickness_standard_deviation"] == pytest.approx(0, abs=1e-9)
    assert found["thin_fraction"] == 0
    assert found["spiculation_4mm"] == pytest.approx(0, abs=0.01)
    assert max(found[f"asymmetry_{axis}"] for axis in ("major", "minor", "least")) < 1e-9
    assert found["shape_index_mean"] == pytest.approx(1, abs=0.1)
    assert found["curvedness_mean"] == pytest.approx(1 / 18, rel=0.1)
    assert found["concave_fraction"] == 0


def test_torus_has_one_cycle():
    """Radius 20 mm, tube 5 mm: the longest of the shortest ways is half around."""
    found = measure_form(np.hypot(np.hypot(Y - 36, X - 55) - 20, Z - 23) <= 5)
    assert (found["end_count"], found["branch_count"], found["junction_count"], found["cycle_count"]) == (0, 1, 0, 1)
    assert found["total_length"] == pytest.approx(2 * np.pi * 20, rel=0.06)
    assert found["longest_path_length"] == pytest.approx(np.pi * 20, rel=0.06)
    assert found["tortuosity"] == pytest.approx(np.pi / 2, rel=0.08)
    assert found["bending"] == pytest.approx(np.pi / 20, rel=0.15)  # half a turn of curvature 1/20
    assert found["sum_of_angles"] == pytest.approx(1 / 20, rel=0.15)
    assert found["path_neck_count"] == 0
    assert found["thickness_median"] == pytest.approx(10, abs=0.3)


def test_two_loops_and_a_tail():
    """Figure eight with a tail: cycles, junctions and ends at once."""
    loops = [np.hypot(np.hypot(Y - 36, X - center) - 14, Z - 23) <= 3 for center in (25, 53)]
    found = measure_form(loops[0] | loops[1] | rod((23, 36, 67), (23, 36, 105), 3))
    assert (found["cycle_count"], found["end_count"]) == (2, 1)
    assert found["junction_count"] in (2, 3)  # the loops meet in a point or along a stretch
    assert found["branch_count"] == found["junction_count"] + 2


def test_necks_are_counted():
    radius = 6 - 3 * np.exp(-((X - 40) ** 2) / 18) - 3 * np.exp(-((X - 70) ** 2) / 18)
    found = measure_form((np.hypot(Z - 23, Y - 36) <= radius) & (X >= 12) & (X < 100))
    assert found["path_neck_count"] == 2


def test_spikes_are_what_balls_do_not_reach():
    core = ball(14)
    spikes = np.logical_or.reduce(
        [rod(MIDDLE, np.add(MIDDLE, 21 * np.array(d)), 1.2) for d in ((1, 0, 0), (0, 1, 0), (0, 0, -1), (0, 0.7, 0.7))]
    )
    found, plain = measure_form(core | spikes), measure_form(core)
    share = (spikes & ~core).sum() / (spikes | core).sum()
    assert found["spiculation_2mm"] - plain["spiculation_2mm"] == pytest.approx(share, rel=0.1)
    assert found["thin_fraction"] == pytest.approx(share, rel=0.15)


def test_a_waist_is_concave_and_a_cup_is_hollow():
    waist = measure_form(ball(10, (23, 36, 40)) | ball(10, (23, 36, 57)))
    assert 0 < waist["concave_fraction"] < 0.3
    bowl = measure_form(ball(20) & (np.hypot(np.hypot(Z - 23, Y - 36), X - 75) > 20))
    assert bowl["concave_fraction"] > 0.1
    assert bowl["shape_index_mean"] < measure_form(ball(20))["shape_index_mean"]


def test_short_side_branches_are_pruned_and_long_ones_stay():
    tube = (np.hypot(Z - 23, Y - 36) <= 6) & (X >= 15) & (X < 95)
    short = [rod((23, 36, x), (23, 42, x), 2) for x in (30, 60, 80)]
    found = measure_form(np.logical_or.reduce([tube, *short]))
    assert (found["end_count"], found["branch_count"], found["junction_count"]) == (2, 1, 0)
    found = measure_form(np.logical_or.reduce([tube, *short, rod((23, 36, 45), (23, 56, 45), 2)]))
    assert (found["end_count"], found["branch_count"], found["junction_count"]) == (3, 3, 1)
    assert found["mean_branch_angle"] == pytest.approx(120, abs=6)  # 90, 90 and 180


def test_pruning_takes_the_shortest_first():
    """A fork of one short and one long tine keeps the long one, though both end at the same junction."""
    tube = rod((23, 36, 15), (23, 36, 60), 6)
    fork = tube | rod((23, 36, 60), (23, 56, 90), 2) | rod((23, 36, 60), (23, 31, 64), 2)
    found = measure_form(fork)
    assert found["junction_count"] == 0
    assert found["longest_path_length"] > 45 + 30


def test_spacing_scales_lengths():
    """An oblong grid of half-size voxels along X shows the same tube."""
    spacing = (1.0, 1.0, 0.5)
    tube = rod((23, 36, 8), (23, 36, 48), 4, spacing)
    found = measure_form(tube, spacing)
    assert found["thickness_median"] == pytest.approx(8, abs=1.0)  # to a voxel
    assert 36 <= found["longest_path_length"] <= 48  # 48 with its round ends; thinning takes up to 1.5 radii at each
    whole = Solid(tube, np.array(spacing))
    assert whole.spacing == 0.5
    assert whole.mask.sum() * 0.125 == pytest.approx(tube.sum() * 0.5, rel=0.03)


def test_the_solid_is_one_filled_piece_on_coarse_enough_cubes():
    mask = ball(17)
    mask[23, 36, 50:54] = False  # a hole
    mask[2:4, 2:4, 2:4] = True  # a speck
    solid = Solid(mask, np.ones(3))
    assert solid.mask.sum() == ball(17).sum()
    assert (solid.spacing, solid.mask[0].any(), solid.mask[:, :, -1].any()) == (1.0, False, False)
    large = Solid(ball(21), np.array([4.0, 4.0, 4.0]))
    assert large.spacing > 1
    assert MAX_VOXELS * 0.9 < large.mask.sum() < MAX_VOXELS * 1.1
    assert large.radius == pytest.approx(4 * 21, rel=0.04)


@pytest.mark.parametrize("change", [lambda m: m[::-1], lambda m: m[:, :, ::-1], lambda m: m.transpose(2, 0, 1)])
def test_turning_a_segment(change, lump):
    """Thickness and deformation stay; the course, as thinning takes voxels in an order, stays for smooth bodies."""
    mask = lump().mask.array
    first, second = measure_form(mask), measure_form(np.ascontiguousarray(change(mask)))
    for name in {f.name for f in FEATURES} - COURSE - {"surface_dimension"}:  # boxes start at a corner
        same = first[name] if isinstance(first[name], str) else pytest.approx(first[name], rel=1e-6, abs=1e-9)
        assert second[name] == same, name
    fork = rod((23, 36, 15), (23, 36, 60), 6) | rod((23, 36, 60), (31, 56, 90), 4) | rod((23, 36, 60), (23, 16, 90), 4)
    first, second = measure_form(fork), measure_form(np.ascontiguousarray(change(fork)))
    for name in ("end_count", "junction_count", "branch_count", "cycle_count"):
        assert second[name] == first[name], name
    for name in ("total_length", "longest_path_length", "mean_branch_angle"):
        assert second[name] == pytest.approx(first[name], rel=0.08), name


@pytest.mark.parametrize("count", [2, 3, 5])
def test_tiny_segments_have_values_or_reasons(count, measure):
    image = Volume(np.random.default_rng(0).normal(size=(5, 6, 7)), oblique_ijk_to_ras((0.7, 1.3, 2.9)), "image")
    mask = np.zeros(image.shape)
    mask[2, 3, 1 : 1 + count] = 1
    values = measure(Case(image, image.with_array(mask), "case", "line"), Settings(), ["skel"])
    assert {v.feature.category for v in values} == {"skeleton"}
    assert len(values) == len(FEATURES)
    for v in values:
        assert (v.value is None) == v.note.startswith("not applicable: ")
        assert v.value is None or np.isfinite(v.value)


def test_status_instead_of_a_number(measure):
    image = Volume(np.random.default_rng(0).normal(size=Z.shape), oblique_ijk_to_ras((0.9, 1.0, 1.1)), "image")
    case = Case(image, image.with_array(ball(12).astype(float)), "case", "ball")
    values = {v.feature.name: v for v in measure(case, Settings(), ["skel"])}
    assert values["end_count"].value is None
    assert values["end_count"].note.startswith("not applicable: the segment is compact: its skeleton is ")
    assert values["thickness_mean"].value > 0
    assert values["thickness_mean"].unit == "mm"
