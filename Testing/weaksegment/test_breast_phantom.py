"""The synthetic breast: reproducible, placed in the patient, its truth consistent with its images."""

from __future__ import annotations

import json

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.points import read_points
from BreastBiomarkersLib.progress import Cancelled
from BreastBiomarkersLib.volume import read_volume
from WeakSegmentLib.breast_parameters import KINDS, BreastPhantomSettings
from WeakSegmentLib.breast_phantom import Tissue, simulate_breast_case
from WeakSegmentLib.cli import main

SMALL = BreastPhantomSettings(small=True)


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
