"""Perturbations: none changes nothing, each changes what it says, and a robust feature survives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from RadiomicsPanelLib.extract import compute_features, extract_all
from RadiomicsPanelLib.filters import LaplacianOfGaussian, Mean
from RadiomicsPanelLib.perturb import (
    Perturbation,
    change_volume,
    draw_perturbations,
    estimate_noise,
    perturb,
    randomize_contour,
)
from RadiomicsPanelLib.roi import prepare_roi
from RadiomicsPanelLib.settings import PRESETS, Settings

SHAPE = (13, 34, 37)
GRIDS = {
    "mr": PRESETS["mr"],
    "source grid": Settings(),
    "slices kept": Settings(spacing_kji_mm=(None, 2.0, 2.0), aggregations=("2D_avg",)),
}


@pytest.fixture
def oblique(lump, oblique_volume):
    return lump(matrix=oblique_volume.ijk_to_ras, shape=SHAPE)


@pytest.mark.parametrize("settings", GRIDS.values(), ids=GRIDS)
def test_no_perturbation_gives_the_features_of_the_case(oblique, settings):
    names = ("morph", "stat", "glcm")
    moved, moved_settings = perturb(oblique, settings, Perturbation())
    for ours, theirs in zip(
        compute_features(prepare_roi(moved, moved_settings), names),
        compute_features(prepare_roi(oblique, settings), names),
        strict=True,
    ):
        assert ours.value == pytest.approx(theirs.value, rel=1e-9, abs=1e-9)


def test_no_perturbation_gives_the_filtered_features_of_the_case(lump):
    """Away from the image's edges; nearer, a filter sees the continued image instead of its own boundary rule."""
    case = lump(shape=SHAPE)
    inside = np.zeros(SHAPE, bool)
    inside[5:8, 12:20, 14:22] = True
    case = replace(case, mask=case.mask.with_array(inside))
    settings = replace(PRESETS["mr"], filters=(LaplacianOfGaussian(sigma_mm=1.0), Mean(size=3)))
    plain = extract_all([case], settings, names=("stat",))
    moved = extract_all(
        [perturb(case, settings, Perturbation())[0]], replace(settings, spacing_kji_mm=None), names=("stat",)
    )
    for ours, theirs in zip(moved, plain, strict=True):
        assert ours.filter == theirs.filter
        assert [v.value for v in ours.values] == pytest.approx([v.value for v in theirs.values], rel=1e-6, abs=1e-6)


def test_what_lies_beyond_the_image_is_not_tissue_around(oblique):
    moved, _ = perturb(oblique, PRESETS["mr"], Perturbation(rotation_deg=10.0))
    beyond = moved.image.points_to_ras(np.argwhere(moved.exclusion.array)[:, ::-1])
    at = oblique.image.points_to_ijk(beyond)[:, ::-1]
    assert ((at < -0.5) | (at > np.array(SHAPE) - 0.5)).any(axis=1).all()
    excluded = replace(oblique, exclusion=oblique.mask.with_array(np.ones(SHAPE, bool)))
    everything, _ = perturb(excluded, PRESETS["mr"], Perturbation(rotation_deg=10.0))
    assert everything.exclusion.array.mean() > 0.95


def test_rotation_and_shift_keep_place_and_size(oblique):
    plain = prepare_roi(oblique, PRESETS["mr"])
    for change in (Perturbation(rotation_deg=11.0), Perturbation(shift_voxels=(0.5, 0.25, 0.75))):
        moved = prepare_roi(*perturb(oblique, PRESETS["mr"], change))
        assert moved.morphological_mask.sum() == pytest.approx(plain.morphological_mask.sum(), rel=0.02)
        assert center_of(moved) == pytest.approx(center_of(plain), abs=0.3)  # mm; slices are 2.9 mm
        assert moved.intensities.mean() == pytest.approx(plain.intensities.mean(), abs=0.02 * np.ptp(plain.intensities))
        assert not np.array_equal(moved.image.ijk_to_ras, plain.image.ijk_to_ras)


def center_of(roi):
    return roi.image.points_to_ras(np.argwhere(roi.morphological_mask)[:, ::-1]).mean(axis=0)


def test_slices_are_not_mixed_where_the_settings_keep_them(oblique):
    settings = GRIDS["slices kept"]
    moved, _ = perturb(oblique, settings, Perturbation(rotation_deg=5.0, shift_voxels=(0.5, 0.5, 0.5)))
    at = oblique.image.points_to_ijk(moved.image.points_to_ras(np.zeros((1, 3))))[0, 2]
    assert at == pytest.approx(round(at), abs=1e-6)


def test_noise_is_that_of_the_image(lump):
    rng = np.random.default_rng(0)
    ramp = np.indices((6, 40, 50)).sum(axis=0) * 3.0
    ramp[:, 20:] += 500
    assert estimate_noise(ramp + rng.normal(0, 7, ramp.shape)) == pytest.approx(7, rel=0.1)
    assert estimate_noise(np.full((4, 10, 10), 5.0)) == 0
    assert estimate_noise(np.zeros((4, 2, 10))) == 0


def test_volume_changes_by_the_number_of_voxels_asked_for():
    inside = np.zeros((20, 20, 20), bool)
    inside[6:14, 6:14, 6:14] = True
    rng = np.random.default_rng(0)
    grown = change_volume(inside, np.ones(3), 0.2, rng)
    shrunk = change_volume(inside, np.ones(3), -0.2, rng)
    assert (grown.sum(), shrunk.sum()) == (614, 410)
    assert grown[inside].all()
    assert inside[shrunk].all()


def test_contour_follows_edges_and_depends_on_the_seed(lump):
    case = lump(shape=SHAPE)
    image = case.image.with_array(np.where(case.mask.array, 100.0, 0.0))
    on_edges = randomize_contour(case.mask.array, image, np.random.default_rng(0))
    dice = 2 * (on_edges & case.mask.array).sum() / (on_edges.sum() + case.mask.array.sum())
    assert dice > 0.95, "supervoxels find the bright region"
    first = randomize_contour(case.mask.array, case.image, np.random.default_rng(0))
    second = randomize_contour(case.mask.array, case.image, np.random.default_rng(1))
    assert (first != second).any()
    assert first.sum() == pytest.approx(case.mask.array.sum(), rel=0.25)


def test_drawing_is_reproducible_and_bounded():
    drawn = draw_perturbations(50, seed=3)
    assert drawn == draw_perturbations(50, seed=3)
    assert drawn != draw_perturbations(50, seed=4)
    assert max(abs(p.rotation_deg) for p in drawn) <= 12
    assert max(abs(p.volume_change) for p in drawn) <= 0.2
    only = draw_perturbations(2, seed=3, kinds=("rotation",))
    assert all(p.rotation_deg and not (any(p.shift_voxels) or p.noise or p.volume_change or p.contour) for p in only)
    for count, kinds, message in ((0, ("noise",), "0 perturbed copies"), (2, ("wobble",), "some of rotation")):
        with pytest.raises(InputError, match=message):
            draw_perturbations(count, 0, kinds)


def test_too_small_for_a_contour(lump):
    case = lump(shape=SHAPE)
    mask = np.zeros(SHAPE, bool)
    mask[5, 10, 10:12] = True
    tiny = type(case)(case.image, case.mask.with_array(mask), "case", "dot")
    with pytest.raises(InputError, match="'dot' of 'case' is too small to redraw its contour"):
        perturb(tiny, Settings(), Perturbation(contour=True))
