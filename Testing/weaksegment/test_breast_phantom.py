"""The synthetic breast: reproducible, placed in the patient, its truth consistent with its images."""

from __future__ import annotations

import json

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.points import read_points
from BreastBiomarkersLib.progress import Cancelled
from BreastBiomarkersLib.volume import read_volume
from scipy import ndimage
from skimage.filters import threshold_otsu
from weaksegment.lesions import dice
from WeakSegmentLib.breast_acquisition import Scanner
from WeakSegmentLib.breast_anatomy import Grid, tube_share
from WeakSegmentLib.breast_lesion import draw_lesion, voxelize
from WeakSegmentLib.breast_parameters import KINDS, PROTOCOLS, BreastPhantomSettings
from WeakSegmentLib.breast_phantom import GENERATOR_VERSION, Tissue, simulate_breast_case
from WeakSegmentLib.cli import main
from WeakSegmentLib.kinetics import segment_kinetics

SMALL = BreastPhantomSettings(small=True)
GOLDEN_SHAPE, GOLDEN_LESION_VOXELS = (80, 125, 108), 1139
GOLDEN_MEANS = [44.0705074, 58.2980676, 60.4461796, 61.1608657, 61.0542685]


@pytest.fixture(scope="module", params=KINDS)
def case(request):
    return simulate_breast_case(BreastPhantomSettings(small=True, kind=request.param), seed=11)


def test_same_seed_gives_the_same_bytes():
    first, second, other = (simulate_breast_case(SMALL, seed) for seed in (3, 3, 4))
    for one, two in zip((first.pre, *first.post, first.lesion), (second.pre, *second.post, second.lesion), strict=True):
        assert one.array.tobytes() == two.array.tobytes()
        np.testing.assert_array_equal(one.ijk_to_ras, two.ijk_to_ras)
    assert first.parameters == second.parameters
    assert first.pre.array.tobytes() != other.pre.array.tobytes()
    json.dumps(first.parameters, allow_nan=False)


def test_all_volumes_share_one_small_grid(case):
    assert len(case.post) == len(case.phase_minutes) >= 3
    assert all(n <= limit for n, limit in zip(case.pre.shape, (80, 140, 128), strict=True))
    for volume in (*case.post, case.lesion, case.tissue):
        assert case.pre.same_grid(volume)
    assert not np.allclose(case.pre.ijk_to_ras, np.eye(4))
    assert case.pre.array.dtype == np.int16
    assert case.lesion.array.dtype == bool


def test_extreme_points_bound_the_lesion_in_the_patient(case):
    voxels = np.argwhere(case.lesion.array)[:, ::-1]
    inside = case.lesion.points_to_ras(voxels)
    for name, position in zip(case.points.labels, case.points.positions_ras, strict=True):
        axis, outermost = {
            "L": (0, inside.min(0)),
            "R": (0, inside.max(0)),
            "P": (1, inside.min(0)),
            "A": (1, inside.max(0)),
            "I": (2, inside.min(0)),
            "S": (2, inside.max(0)),
        }[name[0]]
        assert position[axis] == pytest.approx(outermost[axis])
        assert np.linalg.norm(inside - position, axis=1).min() < 1e-6


def test_the_breast_lies_on_its_side_of_the_patient_with_the_nipple_forward(case):
    inside = case.tissue.array > 0
    center = case.pre.points_to_ras(np.argwhere(inside)[:, ::-1]).mean(axis=0)
    assert (center[0] > 0) == (case.parameters["laterality"] == "R")
    muscle = case.pre.points_to_ras(np.argwhere(case.tissue.array == Tissue.MUSCLE)[:, ::-1])
    fat = case.pre.points_to_ras(np.argwhere(case.tissue.array == Tissue.FAT)[:, ::-1])
    assert muscle[:, 1].mean() < fat[:, 1].mean() - 15


def test_the_lesion_enhances_more_than_gland_and_lies_in_the_breast(case):
    rise = (case.post[0].array.astype(float) - case.pre.array) / np.maximum(case.pre.array, 20)
    assert np.median(rise[case.lesion.array]) > np.median(rise[case.tissue.array == Tissue.FIBROGLANDULAR])
    assert set(np.unique(case.tissue.array)) == {int(t) for t in Tissue}
    assert (case.tissue.array[case.lesion.array] == Tissue.LESION).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: p.name)
def test_voxels_hold_the_volume_of_the_level_set(kind, protocol):
    """Voxelized volume within 3 % of the level set's, which is integrated on a lattice of its own."""
    rng = np.random.default_rng(8)
    shape = draw_lesion(kind, 26.0, np.array([0.3, 0.2, 0.1]), np.array([0.0, 0.0, 50.0]), rng)
    line = np.linspace(-shape.reach_mm, shape.reach_mm, 90, dtype=np.float32)
    r, s, a = (
        line.reshape([-1 if n == axis else 1 for n in range(3)]) + np.float32(shape.center[axis]) for axis in range(3)
    )
    inside = shape.level(r, s, a)[0] > 0
    border = inside.copy()
    border[1:-1, 1:-1, 1:-1] = False
    assert not border.any(), "the lesion reaches out of its box"
    expected = inside.sum() * (line[1] - line[0]) ** 3

    spacing = np.array(protocol.spacing_mm)
    counts = [int(2 * shape.reach_mm / h) + 7 for h in spacing]
    corner = np.array(counts) * spacing / 2 * (-1, 1, 1)
    found = voxelize(shape, Grid(tuple(counts), protocol.spacing_mm, tuple(corner)), rng)
    assert found.body_voxels * spacing.prod() == pytest.approx(expected, rel=0.03)
    assert found.mask.sum() >= 0.95 * found.body_voxels


def test_spicules_thinner_than_a_voxel_are_in_the_image_but_not_in_the_mask():
    rng = np.random.default_rng(2)
    shape = draw_lesion("spiculated", 20.0, np.zeros(3), np.array([0.0, 0.0, 50.0]), rng)
    thin = sum(2 * radii[0] < 1.0 for _, radii in shape.spicules)
    assert 0 < thin <= len(shape.spicules)
    found = voxelize(shape, Grid((60, 60, 60), (1.0, 1.0, 1.0), (-30.0, 30.0, 30.0)), rng)
    assert found.spicules_left_out == thin
    assert ((found.share > 0.05) & ~found.mask).sum() > 0


def test_tube_share_has_the_volume_of_the_tube():
    grid = Grid((20, 30, 40), (2.0, 0.7, 0.5), (-20.0, 10.0, 10.0))
    path = np.array([[-8.0, -4.0, -4.0], [2.0, 1.0, 3.0], [8.0, 4.0, 5.0]])
    length = np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
    share = tube_share(grid, path, np.full(3, 0.3), np.random.default_rng(0))
    assert share.sum() * 0.7 == pytest.approx(np.pi * 0.3**2 * length, rel=0.01)


def test_displacement_is_what_was_asked_for():
    """A blob moved by the scanner's phase ramp is found where it should be, in mm along K, J, I."""
    shape, spacing = (24, 30, 36), (2.0, 1.0, 0.5)
    k, j, i = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    blob = 1000 * np.exp(-((k - 12) ** 2 / 8 + (j - 15) ** 2 / 18 + (i - 18) ** 2 / 30)).astype(np.float32)
    still = np.ones(shape, dtype=np.float32)
    scanner = Scanner(Grid(shape, spacing, (0.0, 0.0, 0.0)), still, 0 * still, 0.4)
    asked = np.array([0.9, -1.3, 0.7])
    moved = scanner.acquire(blob, asked, 0.0, np.random.default_rng(0)).astype(float)
    found = [np.average(x, weights=moved) for x in (k, j, i)] - np.array([12, 15, 18])
    np.testing.assert_allclose(found * spacing, asked, atol=0.02)


def test_noise_has_the_ratio_that_was_drawn():
    case = simulate_breast_case(BreastPhantomSettings(small=True, kind="mass"), 21)
    air = case.pre.array[:, :6, :6].astype(float)
    sigma = np.sqrt((air**2).mean() / 2)  # Rayleigh
    gland = case.pre.array[case.tissue.array == Tissue.FIBROGLANDULAR].mean()
    assert gland / sigma == pytest.approx(case.parameters["snr"], rel=0.25)


def test_enhancement_and_difficulty_are_those_of_real_cases():
    """A few seeds of what Testing/benchmarks/breast_phantom_acceptance.py reports for many."""
    enhancement, ellipsoid, otsu = [], [], []
    for seed in range(100, 108):
        case = simulate_breast_case(SMALL, seed)
        figures = segment_kinetics(case.pre, case.post, case.lesion)
        enhancement.append([figures.voxel_enhancement_percent[q] for q in ("p10", "p50", "p90")])
        box = ndimage.find_objects(case.lesion.array.astype(np.uint8))[0]
        truth = case.lesion.array[box]
        axes = np.meshgrid(*((np.arange(n) - (n - 1) / 2) / (n / 2) for n in truth.shape), indexing="ij")
        ellipsoid.append(dice(sum(x * x for x in axes) <= 1, truth))
        rise = case.post[0].array[box].astype(float) - case.pre.array[box]
        otsu.append(dice(rise > threshold_otsu(rise), truth))
    low, middle, high = np.median(enhancement, axis=0)
    assert 20 < low < middle < high < 230
    assert 75 < middle < 150  # one real case: 105 %
    assert 0.5 < np.mean(ellipsoid) < 0.85
    assert np.mean(otsu) < 0.9


def test_numbers_stay_the_same_from_version_to_version():
    """Another result for the same seed needs a new GENERATOR_VERSION; FFTs may differ in the last digits."""
    case = simulate_breast_case(SMALL, 3)
    assert GENERATOR_VERSION == 1
    assert case.pre.shape == GOLDEN_SHAPE
    assert np.count_nonzero(case.lesion.array) == pytest.approx(GOLDEN_LESION_VOXELS, abs=2)
    means = [v.array.mean() for v in (case.pre, *case.post)]
    np.testing.assert_allclose(means, GOLDEN_MEANS, rtol=1e-5)


def test_command_writes_cases_that_read_back_and_goes_on_where_it_stopped(tmp_path, capsys):
    arguments = ["simulate", "--output", str(tmp_path), "--cases", "2", "--seed", "5", "--small", "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out) == {"cases": 2, "written": 2, "already_there": 0}
    case = simulate_breast_case(SMALL, 6)
    folder = tmp_path / "case_00006"
    np.testing.assert_array_equal(read_volume(folder / "post1.nrrd").array, case.post[0].array)
    assert read_volume(folder / "lesion.nrrd").same_grid(case.lesion)
    np.testing.assert_allclose(read_points(folder / "points.mrk.json").positions_ras, case.points.positions_ras)
    assert json.loads((folder / "case.json").read_text())["phase_minutes"] == list(case.phase_minutes)

    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["written"] == 1
    assert main([*arguments, "--kind", "rim"]) == 2
    assert "holds another case" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [(["--seed", "-1"], "negative"), (["--cases", "0"], "1 or more"), (["--diameter", "200"], "6 to 60 mm")],
)
def test_command_refuses_bad_numbers(tmp_path, capsys, arguments, message):
    assert main(["simulate", "--small", "--output", str(tmp_path / "cases"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "cases").exists()


def test_unknown_kind_is_refused():
    with pytest.raises(InputError, match="lesion kind 'cyst'"):
        BreastPhantomSettings(kind="cyst")


def test_cancelling_leaves_no_case_behind(tmp_path):
    from WeakSegmentLib.breast_phantom import simulate_breast_cohort

    def cancel_late(fraction, message):
        if fraction > 0.3:
            raise Cancelled

    with pytest.raises(Cancelled):
        simulate_breast_cohort(tmp_path / "cases", SMALL, 1, 0, cancel_late)
    assert not (tmp_path / "cases").exists()
