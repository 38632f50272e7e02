"""Depth profile, rim and core, and the ring around: a ball whose intensity is known at every depth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume
from conftest import oblique_ijk_to_ras
from RadiomicsPanelLib.roi import Case
from RadiomicsPanelLib.settings import Settings


def ball(radius_mm=14.0, matrix=None, intensity=lambda r: 100 - 3 * r) -> Case:
    """A ball with an intensity by distance from its center in mm, on an anisotropic oblique grid of three sizes."""
    matrix = oblique_ijk_to_ras((0.8, 1.0, 1.2)) if matrix is None else matrix
    volume = Volume(np.zeros((41, 47, 55)), matrix, "ball")
    k, j, i = np.indices(volume.shape).reshape(3, -1)
    center = volume.points_to_ras(np.array([[27.0, 23.0, 20.0]]))
    away = np.linalg.norm(volume.points_to_ras(np.column_stack([i, j, k])) - center, axis=1).reshape(volume.shape)
    return Case(volume.with_array(intensity(away)), volume.with_array(away <= radius_mm), "case", "ball")


def values_of(measure, case, settings=None):
    return {v.feature.name: v for v in measure(case, settings or Settings(), ["depth"])}


def test_shells_and_slope_of_a_ball(measure):
    """Depth share s lies at r = R (1 - s), R being half a voxel less than the ball's radius; shells are spherical."""
    found = values_of(measure, ball())
    for number in range(1, 6):
        outer, inner = (14 if number == 1 else 13.5 * (6 - number) / 5), 13.5 * (5 - number) / 5
        mean_radius = 0.75 * (outer**4 - inner**4) / (outer**3 - inner**3)
        assert found[f"shell_{number}_mean"].value == pytest.approx(100 - 3 * mean_radius, abs=2.0)
    assert found["slope"].value == pytest.approx(3 * 13.5, rel=0.05)
    assert found["rim_to_core_ratio"].value == pytest.approx(found["rim_mean"].value / found["core_mean"].value)
    core = 100 - 3 * 0.75 * 10.2  # 3 mm below border voxels, which lie between 13 and 14 mm
    assert found["core_mean"].value == pytest.approx(core, abs=2.0)
    assert found["slope"].unit == "a.u."


def test_the_ring_is_what_lies_up_to_5_mm_outside(measure):
    case = ball(intensity=lambda r: np.select([r <= 14, r <= 19.001], [50.0, 20.0], 999.0))
    found = values_of(measure, case)
    assert found["ring_mean"].value == pytest.approx(20.0)
    assert found["ring_standard_deviation"].value == 0
    assert found["ring_contrast"].value == pytest.approx(30.0)


def test_air_and_bone_are_left_out_of_the_ring(measure):
    """By a mask of any grid, and by the re-segmentation range; the segment itself is not cut."""
    case = ball(intensity=lambda r: np.where(r <= 14, 50.0, 20.0))
    half = np.indices(case.image.shape)[2] > 27
    spoiled = case.image.with_array(np.where(half & (case.image.array == 20), -900.0, case.image.array))
    case = replace(case, image=spoiled)
    assert values_of(measure, case)["ring_mean"].value < -200
    in_range = values_of(measure, case, Settings(lower=-100.0))
    assert in_range["ring_mean"].value == pytest.approx(20.0)
    exclusion = case.image.with_array(half.astype(np.uint8))
    coarse = Volume(exclusion.array[:, :, 28:], exclusion.cropped((0, 0, 28), exclusion.shape).ijk_to_ras, "air")
    for mask in (exclusion, coarse):
        found = values_of(measure, replace(case, exclusion=mask))
        assert found["ring_mean"].value == pytest.approx(20.0)
        assert found["core_mean"].value == 50
    resampled = values_of(measure, replace(case, exclusion=exclusion), Settings(spacing_kji_mm=(1.0, 1.0, 1.0)))
    assert resampled["ring_mean"].value > -100
    with pytest.raises(InputError, match="holds values that are not whole numbers"):
        values_of(measure, replace(case, exclusion=exclusion.with_array(exclusion.array + 0.5)))


def test_what_does_not_apply(measure):
    """A thin segment has no core, one that fills the image no ring, one voxel layer no slope."""
    thin = values_of(measure, ball(radius_mm=2.5))
    assert thin["core_mean"].note == "not applicable: no voxel lies deeper than 3 mm"
    assert thin["rim_to_core_ratio"].value is None
    image = Volume(np.arange(60.0).reshape(3, 4, 5), np.eye(4), "small")
    full = values_of(measure, Case(image, image.with_array(np.ones(image.shape)), "case", "all"))
    assert full["ring_mean"].note.startswith("not applicable: fewer than two usable voxels lie within 5 mm")
    flat = np.zeros(image.shape)
    flat[1] = 1
    layer = values_of(measure, Case(image, image.with_array(flat), "case", "layer"))
    assert layer["slope"].note == "not applicable: every voxel is at the border"
    assert layer["shell_1_mean"].note == "not applicable: every voxel is at the border"
    assert layer["rim_mean"].value == pytest.approx(29.5)
    block = values_of(measure, Case(image, image.with_array(np.ones(image.shape)), "case", "block"))
    assert block["shell_2_mean"].note == "not applicable: no voxel lies in shell 2 of 5"
    assert block["shell_5_mean"].value == pytest.approx(image.array[1, 1:3, 1:4].mean())
    zero = ball(intensity=lambda r: np.where(r < 12, 0.0, 1.0))
    assert values_of(measure, zero)["rim_to_core_ratio"].value is None


def test_a_hole_in_the_image_is_left_out_of_the_ring(measure):
    case = ball(intensity=lambda r: np.where(r <= 14, 50.0, 20.0))
    image = case.image.array.copy()
    image[:, :, -2:] = np.nan
    image[:, 0] = np.nan
    found = values_of(measure, replace(case, image=case.image.with_array(image)))
    assert found["ring_mean"].value == pytest.approx(20.0)
