import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from BreastBiomarkersLib.points import LabeledPoints, write_points
from BreastBiomarkersLib.volume import read_volume, write_volume
from NIRSTReconstructionLib.cli import main
from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.measurements import write_csv_measurements
from NIRSTReconstructionLib.plane import plane_from_normal

PLANE = plane_from_normal([40.0, -25.0, 60.0], [0.4, -0.5, 0.7])
HEXAGON = "".join(f"fiber,{n + 1},{30 * np.cos(n * np.pi / 3)},{30 * np.sin(n * np.pi / 3)}\n" for n in range(6))
IMAGES = ["hbo.nrrd", "hbr.nrrd", "hbt.nrrd", "sto2.nrrd", "water.nrrd"]


@pytest.fixture(scope="module")
def case(disc, tmp_path_factory):
    """Files of one exam: planar fibers, fibers in an oblique plane of the patient, data, MRI, lesion, plane."""
    folder = tmp_path_factory.mktemp("case")
    in_3d = ForwardModel(disc.model.mesh, disc.model.optodes, disc.spectra, source_model="point")
    for name, made in (("data", replace(disc, model=in_3d)), ("flat", disc)):
        write_csv_measurements(made.measurements(made.light()), folder / f"{name}.csv")
    lines = [f"fiber,{n + 1},{x:.4f},{y:.4f}" for n, (x, y, _) in enumerate(disc.fibers.sources)]
    (folder / "planar.csv").write_text("\n".join(["kind,number,x,y", *lines]) + "\n")
    positions = PLANE.to_ras(disc.fibers.sources[:, :2])
    write_points(LabeledPoints([f"F{n + 1}" for n in range(16)], positions), folder / "fibers.mrk.json")
    mirrored = LabeledPoints([f"F{n + 1}" for n in range(16)], positions * [-1, -1, 1])
    write_points(mirrored, folder / "lps.mrk.json")
    mri, lesion = disc.image(PLANE)
    write_volume(mri, folder / "mri.nrrd")
    write_volume(lesion, folder / "lesion.nrrd")
    (folder / "plane.json").write_text(json.dumps(PLANE.plane_to_ras.tolist()))
    return folder


def run(case, output, *extra, optodes="planar.csv", data="data.csv"):
    arguments = ["reconstruct", "--optodes", str(case / optodes), "--data", str(case / data), "--output", str(output)]
    return main([*arguments, *map(str, extra)])


def test_light_alone_gives_a_slice_in_its_own_plane(case, tmp_path, capsys):
    assert run(case, tmp_path / "out", "--gains", "none", "--json") == 0
    captured = capsys.readouterr()
    figures = json.loads(captured.out)
    assert figures["method"] == "tikhonov"
    assert figures["chi"] == pytest.approx(1.0, abs=0.2)
    assert all(json.loads(line).keys() == {"progress", "message"} for line in captured.err.splitlines())
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        *IMAGES[:3],
        "residual.csv",
        "result.json",
        *IMAGES[3:],
    ]
    hbt = read_volume(tmp_path / "out" / "hbt.nrrd")
    assert hbt.shape[0] == 1
    np.testing.assert_allclose(hbt.ijk_to_ras[:3, :3], np.eye(3), atol=1e-9)
    brightest = np.unravel_index(hbt.array.argmax(), hbt.shape)[::-1]
    assert np.linalg.norm(hbt.points_to_ras(np.array([brightest]))[0] - [9, -6, 0]) < 5


def test_exam_with_mri_and_lesion_in_an_oblique_plane(case, tmp_path, capsys):
    extra = ("--mri", case / "mri.nrrd", "--plane", case / "plane.json", "--lesion", case / "lesion.nrrd")
    assert run(case, tmp_path, *extra, "--method", "dri", "--noise", 1, "--json", optodes="fibers.mrk.json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["hbt_lesion_to_background"] == pytest.approx(36 / 21, rel=0.15)
    rows = list(csv.DictReader((tmp_path / "contrast.csv").read_text().splitlines()))
    assert float(rows[0]["ratio"]) == pytest.approx(figures["hbo_lesion_to_background"], rel=1e-4)
    hbo = read_volume(tmp_path / "hbo.nrrd")
    inside = hbo.array[0] > 0
    j, i = np.nonzero(inside)
    ras = hbo.points_to_ras(np.column_stack([i, j, 0 * i]))
    np.testing.assert_allclose(PLANE.to_plane(ras)[1], 0.0, atol=1e-4)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["images"]["water"] == {"file": "water.nrrd", "unit": "%"}
    assert result["settings"]["noise"] == 0.01
    assert result["versions"]["numpy"]
    assert result["extinction_table"] == figures["extinction_table"]
    assert len(result["contrast"]) == 5


def test_light_is_taken_to_spread_in_3d_unless_said_otherwise(case, tmp_path, capsys):
    """Light that spread in the plane needs to be named; light in 3-D must not be taken for it."""
    chi = {}
    for data in ("data", "flat"):
        for extra in ((), ("--source-model", "line")):
            assert run(case, tmp_path, "--gains", "none", *extra, "--json", data=f"{data}.csv") == 0
            chi[data, bool(extra)] = json.loads(capsys.readouterr().out)["chi"]
            used = json.loads((tmp_path / "result.json").read_text())["model"]["source_model"]
            assert used == ("line" if extra else "point")
    assert chi["data", False] == pytest.approx(1.0, abs=0.2)
    assert chi["flat", True] == pytest.approx(1.0, abs=0.2)
    assert min(chi["data", True], chi["flat", False]) > 1.5


def test_fibers_in_the_mri_find_their_plane_themselves(case, tmp_path, capsys):
    assert run(
        case, tmp_path, "--mri", case / "mri.nrrd", "--lesion", case / "lesion.nrrd", "--method", "hard-prior",
        "--json", optodes="fibers.mrk.json",
    ) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out)["hbt_lesion_to_background"] == pytest.approx(36 / 21, rel=0.08)
    readout = json.loads((tmp_path / "result.json").read_text())["readout"]
    assert [reading["quantity"] for reading in readout] == ["hbt", "sto2", "water", "toi"]
    assert all(reading["low"] < reading["ratio"] < reading["high"] for reading in readout)


def test_gray_values_are_no_segmentation(case, tmp_path, capsys):
    extra = ("--mri", case / "mri.nrrd", "--method", "hard-prior", "--regions", case / "mri.nrrd")
    assert run(case, tmp_path / "out", *extra, optodes="fibers.mrk.json") == 2
    assert "'mri.nrrd' is not a segmentation" in capsys.readouterr().err
    mri = read_volume(case / "mri.nrrd")
    dim = mri.with_array(np.round(mri.array / 30) / 2)
    write_volume(dim, tmp_path / "dim.nrrd")
    assert run(case, tmp_path / "out", *extra[:-1], tmp_path / "dim.nrrd", optodes="fibers.mrk.json") == 2
    assert "whole numbers, one per region" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_holes_in_the_mri_are_told(case, tmp_path, capsys):
    mri = read_volume(case / "mri.nrrd")
    torn = mri.array.copy()
    rows, columns = (n // 2 for n in torn.shape[1:])
    torn[:, rows : rows + 3, columns : columns + 2], torn[:, rows - 1, columns] = np.nan, np.inf
    write_volume(mri.with_array(torn), tmp_path / "torn.nrrd")
    extra = ("--mri", tmp_path / "torn.nrrd", "--mask", case / "mri.nrrd", "--lesion", case / "lesion.nrrd", "--json")
    assert run(case, tmp_path / "out", *extra, "--method", "hard-prior", optodes="fibers.mrk.json") == 0
    remarks = json.loads(capsys.readouterr().out)["remarks"]
    assert any(re.match(r"'torn.nrrd' holds no number at \d+ of \d+ pixels of the plane", remark) for remark in remarks)


def test_fibers_in_the_other_frame_are_recognized(case, tmp_path, capsys):
    assert run(case, tmp_path / "out", "--mri", case / "mri.nrrd", optodes="lps.mrk.json") == 2
    assert "lie in 'mri.nrrd': give --optodes-frame lps." in capsys.readouterr().err
    assert run(case, tmp_path / "out", "--mri", case / "mri.nrrd", "--optodes-frame", "lps") == 2
    assert "two coordinates" in capsys.readouterr().err


def test_nirfast_files(shared_data, tmp_path, capsys):
    folder = shared_data / "nirst" / "nirfast_circle_measured"
    arguments = ["reconstruct", "--optodes", folder / "circle_spec.source", "--data", folder / "anom.paa"]
    arguments += ["--reference-data", folder / "homog.paa", "--mesh", folder / "circle_spec.node"]
    arguments += ["--spectra", folder / "circle_spec.excoef", "--wavelengths", 785, 808, "--noise", 12]
    assert main([*map(str, arguments), "--output", str(tmp_path / "out"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["extinction_table"].startswith("circle_spec.excoef")
    assert figures["values_used"] == 480
    assert "Calibrated on 'homog.paa'" in " ".join(figures["remarks"])


@pytest.mark.parametrize(
    "extra, says",
    [
        (["--mri", "{case}/mri.nrrd"], "two coordinates, so their place in the MRI is unknown"),
        (["--method", "dri"], "needs an MRI"),
        (["--method", "soft-prior"], "needs a segmentation"),
        (["--spectra", "guess"], "no extinction table 'guess'"),
        (["--wavelengths", "700"], "no data at 700 nm"),
        (["--noise", "0.0001"], "2 %"),
        (["--plane", "{case}/nowhere.json"], "plane file .* does not exist"),
        (["--reference-data", "{case}/lesion.nrrd"], "not a known kind of data"),
        (["--mesh", "{case}/planar.node"], "node file .* does not exist"),
        (["--prior-sd", "0"], "prior standard deviation"),
    ],
)
def test_bad_input_says_what_and_leaves_nothing(case, tmp_path, capsys, extra, says):
    assert run(case, tmp_path / "out", *(word.format(case=case) for word in extra)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.search(says, captured.err)
    assert "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "optodes, data, says",
    [
        ("kind,number,x,y\nfiber,1,3,0\nfiber,2,0,3\nfiber,3,-3,0\n", None, "may be in cm"),
        ("kind,number,x,y\nfiber,1,30,0\nfiber,2,0,30\nfiber,3,-30,0\n", None, "3 detectors do not define an outline"),
        ("kind,number,x,y\n" + HEXAGON, None, "has only 6 sources"),
        (None, "source,detector,wavelength,amplitude\n1,2,800,0\n2,1,800,-1\n", "at most 0 usable channels"),
        (None, "source,detector,wavelength,amplitude\n1,2,800,1\n1,2,800,1\n", "repeated"),
    ],
)
def test_bad_files_from_the_instrument(case, tmp_path, capsys, optodes, data, says):
    names = {}
    for key, text in (("optodes", optodes), ("data", data)):
        if text:
            (case / f"bad_{key}.csv").write_text(text)
            names[key] = f"bad_{key}.csv"
    assert run(case, tmp_path / "out", **names) == 2
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_numbering_that_contradicts_the_light(case, tmp_path, capsys):
    lines = (case / "planar.csv").read_text().splitlines()
    order = [0, 5, 10, 15, 4, 9, 14, 3, 8, 13, 2, 7, 12, 1, 6, 11]
    shuffled = [lines[0], *(f"fiber,{n + 1},{lines[1 + m].split(',', 2)[2]}" for n, m in enumerate(order))]
    (case / "shuffled.csv").write_text("\n".join(shuffled) + "\n")
    assert run(case, tmp_path / "out", optodes="shuffled.csv") == 2
    assert "does not fall with distance" in capsys.readouterr().err


def test_existing_results_survive_a_failed_run(case, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "hbo.nrrd").write_text("older result")
    assert run(case, tmp_path / "out", "--method", "dri") == 2
    assert (tmp_path / "out" / "hbo.nrrd").read_text() == "older result"


def test_help_names_units(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["reconstruct", "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in ("in percent", "in mm", "1/mm", "wavelength in nm", "RAS"):
        assert words in text
