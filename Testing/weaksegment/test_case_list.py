"""The list of cases while points are being clicked: tables, folders, states."""

import csv

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.points import LabeledPoints, read_points, write_points
from BreastBiomarkersLib.volume import Volume, write_volume
from weaksegment.simple_cases import write_case, write_table
from WeakSegmentLib.case_list import (
    ListedCase,
    PointsChecker,
    find_cases,
    merge_cases,
    read_case_list,
    read_review,
    training_state,
    write_case_list,
    write_ready_cases,
    write_usable_cases,
)
from WeakSegmentLib.cohort import read_cohort


@pytest.fixture
def cohort(tmp_path):
    """A table with three cases: points done, missing, and out of the image."""
    lines = [write_case(tmp_path, n) for n in range(3)]
    table = write_table(tmp_path, lines)
    (tmp_path / "case1_points.mrk.json").unlink()
    placed = read_points(tmp_path / "case2_points.mrk.json")
    far = LabeledPoints(placed.labels, placed.positions_ras + [0, 0, 500.0])
    write_points(far, tmp_path / "case2_points.mrk.json")
    return table


def read_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_states_of_the_points(cohort):
    cases = read_case_list(cohort)
    states = [case.points_state() for case in cases]
    assert [state.state for state in states] == ["done", "to do", "check"]
    assert "outside 'case2_image.nrrd'" in states[2].reason
    few = read_points(cohort.parent / "case0_points.mrk.json")
    write_points(LabeledPoints(few.labels[:4], few.positions_ras[:4]), cases[1].points)
    assert cases[1].points_state() == ("to do", "4 of 6 points are placed.")
    cases[0].image.write_bytes(b"no image")
    assert "cannot be read" in cases[0].points_state().reason
    cases[0].image.unlink()
    assert "does not exist" in cases[0].points_state().reason


def test_states_are_looked_up_again_only_after_a_change(cohort, monkeypatch):
    cases, checker, asked = read_case_list(cohort), PointsChecker(), []
    real = ListedCase.points_state
    monkeypatch.setattr(ListedCase, "points_state", lambda case: asked.append(case.name) or real(case))
    first = checker.states(cases)
    assert checker.states(read_case_list(cohort)) == first
    assert asked == ["case0", "case1", "case2"]
    write_points(read_points(cases[0].points), cases[1].points)
    cases[2].image.unlink()
    assert [state.state for state in checker.states(cases)] == ["done", checker.states(cases)[1].state, "check"]
    assert asked[3:] == ["case1", "case2"]
    assert "does not exist" in checker.states(cases)[2].reason


def test_state_is_told_from_the_header_of_an_oblique_image(tmp_path):
    a = np.deg2rad(25.0)
    matrix = np.array([[np.cos(a), -np.sin(a), 0, 5], [np.sin(a), np.cos(a), 0, -70], [0, 0, -1, 30], [0, 0, 0, 1.0]])
    matrix[:3, :3] *= (0.7, 1.3, 2.5)
    volume = Volume(np.zeros((9, 14, 21), dtype=np.int16), matrix, "image")
    write_volume(volume, tmp_path / "image.nii.gz")
    middle = np.array([10.0, 7.0, 4.0])
    ends = middle + np.array([[-9, 0, 0], [9, 0, 0], [0, -6, 0], [0, 6, 0], [0, 0, -4], [0, 0, 4.0]])
    names = ["a", "b", "c", "d", "e", "f"]
    write_points(LabeledPoints(names, volume.points_to_ras(ends)), tmp_path / "image.mrk.json")
    (case,), unclear = find_cases(tmp_path)
    assert unclear == []
    assert case.points_state() == ("done", "")
    write_points(LabeledPoints(names, volume.points_to_ras(ends + [2.0, 0, 0])), tmp_path / "image.mrk.json")
    assert "'b'" in case.points_state().reason
    write_volume(Volume(np.zeros((2, 14, 21), dtype=np.int16), matrix, "image"), tmp_path / "image.nii.gz")
    assert case.points_state().state == "check"


def test_table_is_kept_with_its_further_columns(cohort):
    rows = read_rows(cohort)
    for n, row in enumerate(rows):
        row["age"] = str(40 + n)
    rows[1]["points"] = ""
    with cohort.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    cases = read_case_list(cohort)
    assert cases[1].points == cohort.parent / "points" / "case1.mrk.json"
    elsewhere = cohort.parent / "lists" / "cases.csv"
    write_case_list(cases, elsewhere)
    again = read_rows(elsewhere)
    assert [row["age"] for row in again] == ["40", "41", "42"]
    assert again[0]["image"] == "../case0_image.nrrd"
    assert [case.image.resolve() for case in read_case_list(elsewhere)] == [case.image.resolve() for case in cases]


def test_ready_cases_are_what_training_reads(cohort):
    table = cohort.parent / "run" / "cases.csv"
    assert write_ready_cases(read_case_list(cohort), table) == 1
    (case,) = read_cohort(table)
    assert case.name == "case0"
    assert case.pre is not None
    assert case.mask is not None
    case.read()
    with pytest.raises(InputError, match="No case has its six points"):
        write_ready_cases(read_case_list(cohort)[1:], table)


def test_usable_cases_are_what_prediction_reads(cohort):
    table = cohort.parent / "run" / "cases.csv"
    assert write_usable_cases(read_case_list(cohort), table) == (2, ["case2"])
    with pytest.raises(InputError, match="the field 'points' is empty"):
        read_cohort(table)
    done, to_do = read_cohort(table, points_needed=False)
    assert done.points is not None
    assert to_do.points is None
    assert to_do.image.name == "case1_image.nrrd"
    for case in read_case_list(cohort):
        case.image.unlink()
    with pytest.raises(InputError, match="no case to predict"):
        write_usable_cases(read_case_list(cohort), table)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name,image\na,b\n", "no column 'case'"),
        ("case,points\na,b\n", "no column 'image'"),
        ("case,image\n../x,b\n", "cannot name a case"),
        ("case,image\na,\n", "no image"),
        ("case,image\na,x.nrrd\na,y.nrrd\n", "line 3: the case 'a' is there twice"),
        (b"case,image\n\xff\xfe,\n", "not a CSV text file"),
    ],
)
def test_bad_tables_are_explained(tmp_path, text, expected):
    path = tmp_path / "cases.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=expected):
        read_case_list(path)


def test_cases_of_a_folder(tmp_path):
    image = Volume(np.zeros((3, 4, 5), dtype=np.int16), np.eye(4), "x")
    for name in (
        *("Ana 7/pre.nrrd", "Ana 7/post1.nrrd", "Ana 7/post2.nrrd", "Ana 7/lesion.nrrd", "Ana 7/tissue.nrrd"),
        *("b/scan.nii.gz", "c/first.nrrd", "c/second.nrrd", "single.mha", "single_mask.nrrd"),
    ):
        write_volume(image, tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "single.fcsv").write_text("# CoordinateSystem = RAS\n")
    found, unclear = find_cases(tmp_path)
    assert unclear == ["c"]
    assert [case.name for case in found] == ["single", "Ana_7", "b"]
    assert found[0].points.name == "single.fcsv"
    assert found[1].image.name == "post1.nrrd"
    assert (found[1].pre.name, found[1].mask.name, found[1].points.name) == (
        "pre.nrrd",
        "lesion.nrrd",
        "points.mrk.json",
    )
    assert found[2].pre is None
    assert merge_cases(found, found) == found
    other, _ = find_cases(tmp_path / "b")
    write_volume(image, tmp_path / "more" / "single.nrrd")
    more, _ = find_cases(tmp_path / "more")
    assert [case.name for case in merge_cases(found, [*other, *more])] == ["single", "Ana_7", "b", "single-2"]
    with pytest.raises(InputError, match="names do not tell which image is post-contrast"):
        (tmp_path / "d").mkdir()
        (tmp_path / "c").rename(tmp_path / "d" / "c")
        find_cases(tmp_path / "d")
    with pytest.raises(InputError, match="does not exist"):
        find_cases(tmp_path / "nowhere")


def test_state_of_a_training(tmp_path):
    assert training_state(tmp_path / "run") == "new"
    (tmp_path / "settings.json").write_text("{}")
    assert training_state(tmp_path) == "stopped"
    (tmp_path / "model.safetensors").write_text("")
    assert training_state(tmp_path) == "done"


def test_review_is_sorted_by_uncertainty(tmp_path):
    assert read_review(tmp_path) == []
    (tmp_path / "review.csv").write_text("case,volume_ml,uncertainty\na,1,0.1\nb,2,0.9\nc,3,0.5\n")
    assert [line["case"] for line in read_review(tmp_path)] == ["b", "c", "a"]
    for other in ("case,uncertainty\na,high\n", "name,score\na,1\n", "case,volume_ml,uncertainty\na\n"):
        (tmp_path / "review.csv").write_text(other)
        with pytest.raises(InputError, match="not the review list"):
            read_review(tmp_path)
