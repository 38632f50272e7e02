"""Point files as Slicer writes them, with their two coordinate systems."""

import json

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.points import LabeledPoints, read_points, write_points

POINTS = LabeledPoints(["Left", "Right, upper"], np.array([[1.5, -2.0, 3.0], [-4.0, 5.0, 6.25]]))


def test_markups_round_trip_is_lps_on_disk(tmp_path):
    write_points(POINTS, tmp_path / "p.mrk.json")
    stored = json.loads((tmp_path / "p.mrk.json").read_text())["markups"][0]
    assert stored["coordinateSystem"] == "LPS"
    assert stored["controlPoints"][0]["position"] == [-1.5, 2.0, 3.0]
    back = read_points(tmp_path / "p.mrk.json")
    assert back.labels == POINTS.labels
    np.testing.assert_allclose(back.positions_ras, POINTS.positions_ras)


@pytest.mark.parametrize("system, sign", [("RAS", 1), ("LPS", -1), ("0", 1), ("1", -1)])
def test_coordinate_systems(tmp_path, system, sign):
    markup = {"coordinateSystem": system, "controlPoints": [{"label": "a", "position": [1, 2, 3]}]}
    (tmp_path / "p.mrk.json").write_text(json.dumps({"markups": [markup]}))
    np.testing.assert_allclose(read_points(tmp_path / "p.mrk.json").positions_ras, [[sign, 2 * sign, 3]])
    (tmp_path / "p.fcsv").write_text(
        f"# Markups fiducial file version = 4.11\n# CoordinateSystem = {system}\n"
        "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
        '1,1,2,3,0,0,0,1,1,1,0,"Left, low",,\n'
    )
    points = read_points(tmp_path / "p.fcsv")
    assert points.labels == ["Left, low"]
    np.testing.assert_allclose(points.positions_ras, [[sign, 2 * sign, 3]])


def test_undefined_points_are_left_out(tmp_path):
    points = [
        {"label": "a", "position": [1, 2, 3], "positionStatus": "undefined"},
        {"label": "b", "position": [4, 5, 6], "positionStatus": "defined"},
    ]
    (tmp_path / "p.mrk.json").write_text(
        json.dumps({"markups": [{"coordinateSystem": "RAS", "controlPoints": points}]})
    )
    assert read_points(tmp_path / "p.mrk.json").labels == ["b"]


@pytest.mark.parametrize("text", ["x,y,z\n1,2,3\n", "1,2,3\n", "tip,1,2,3\n", "label,z,y,x\ntip,3,2,1\n"])
def test_csv_with_and_without_header_is_ras(tmp_path, text):
    (tmp_path / "p.csv").write_text(text)
    np.testing.assert_allclose(read_points(tmp_path / "p.csv").positions_ras, [[1, 2, 3]])


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("p.mrk.json", "{", "damaged"),
        ("p.mrk.json", "[1, 2]", r"is damaged or not a points file\. Save"),
        ("p.mrk.json", "[" * 100_000, "damaged"),
        ("p.csv", '"' + "1,2,3\n" * 40_000, "a cell in it has no end"),
        ("p.mrk.json", '{"markups": []}', "0 point lists"),
        ("p.mrk.json", '{"markups": [{"coordinateSystem": "XYZ", "controlPoints": []}]}', "unknown coordinate system"),
        ("p.mrk.json", '{"markups": [{"controlPoints": []}]}', "no placed point"),
        ("p.csv", "1,2\n", "columns x, y, z"),
        ("p.csv", "x,y,z\n1,2,tall\n", "damaged"),
        ("p.csv", "1,2,nan\n", "not a number"),
        ("p.csv", "", "no placed point"),
        ("p.txt", "1,2,3", "not a points file"),
    ],
)
def test_unusable_files_are_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_points(tmp_path / name)
    assert name in str(caught.value)


def test_slicer_reads_what_we_write(tmp_path):
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
    write_points(POINTS, tmp_path / "p.mrk.json")
    scene = slicer.vtkMRMLScene()
    node, storage = slicer.vtkMRMLMarkupsFiducialNode(), slicer.vtkMRMLMarkupsJsonStorageNode()
    scene.AddNode(node)
    scene.AddNode(storage)
    storage.SetFileName(str(tmp_path / "p.mrk.json"))
    assert storage.ReadData(node) == 1
    positions = [node.GetNthControlPointPosition(n) for n in range(node.GetNumberOfControlPoints())]
    np.testing.assert_allclose(positions, POINTS.positions_ras)
