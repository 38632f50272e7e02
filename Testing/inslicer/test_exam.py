"""The main job from the shell: the whole chain on a synthetic exam, its files, and what it says to bad input."""

import csv
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from BreastBiomarkersLib.points import LabeledPoints, write_points
from BreastBiomarkersLib.volume import Volume, read_volume, write_volume

pytest.importorskip("PySide6", reason="the head-less application needs PySide6-Essentials and slicer-core")

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "BreastBiomarkersLib", "demo", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT / "WeakSegment",
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "exam"
    done = run("--output", folder, "--json")
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout), done.stderr


@pytest.mark.slow
def test_everything_is_written(demo):
    folder, figures, progress = demo
    names = {path.name for path in folder.iterdir()}
    images = {"hbo.nrrd", "hbr.nrrd", "water.nrrd", "hbt.nrrd", "sto2.nrrd"}
    tables = {"features.csv", "features.provenance.json", "contrast.csv", "result.json"}
    assert names == images | tables | {"report.html", "scene.mrb", "segmentation.seg.nrrd"}
    assert not [path for path in folder.parent.iterdir() if path != folder], "no temporary folder is left"
    assert figures["dice"] > 0.8
    assert 0.7 < figures["residual_chi"] < 1.5
    fractions = [json.loads(line)["progress"] for line in progress.splitlines() if line.startswith('{"progress"')]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


@pytest.mark.slow
def test_the_numbers_agree_with_the_truth_and_with_each_other(demo):
    folder, figures, _ = demo
    with (folder / "contrast.csv").open() as file:
        rows = {row["quantity"]: row for row in csv.DictReader(file)}
    for name in ("hbo", "hbr", "water"):
        assert float(rows[name]["ratio"]) == pytest.approx(figures[f"{name}_lesion_to_background"])
        assert float(rows[name]["ratio"]) > 1.3, "the lesion has more blood and water"
    assert rows["hbo"]["unit"] == "uM"
    with (folder / "features.csv").open() as file:
        features = list(csv.DictReader(file))
    volume = next(float(row["value"]) for row in features if row["ibsi_code"] == "YEKZ")
    assert volume / 1000 == pytest.approx(figures["lesion_ml"], rel=0.1)
    result = json.loads((folder / "result.json").read_text())
    assert result["figures"]["dice"] == figures["dice"]
    assert result["light"]["extinction_table"]


@pytest.mark.slow
def test_the_report_says_what_is_simulated(demo):
    html = (demo[0] / "report.html").read_text(encoding="utf-8")
    assert "Synthetic exam made by a program" in html
    assert "No light was measured in this exam" in html
    assert html.count("data:image/png;base64,") == 3
    assert "True ratio" in html


@pytest.mark.slow
def test_simulated_images_say_so_wherever_they_go(demo):
    import SimpleITK as sitk

    for name in ("hbo", "hbr", "water", "hbt", "sto2"):
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(demo[0] / f"{name}.nrrd"))
        reader.ReadImageInformation()
        assert reader.GetMetaData("light").startswith("simulated: ")
    with zipfile.ZipFile(demo[0] / "scene.mrb") as bundle:
        images = [name for name in bundle.namelist() if "[uM]" in name or "[%]" in name]
    assert len(images) == 10, "five images and their standard deviations"
    assert all(Path(name).name.startswith("Simulated ") for name in images)


@pytest.mark.slow
def test_the_images_lie_in_the_lesion(demo):
    """The brightest HbO lies inside the segment: the planes of light, lesion and MRI agree in the patient."""
    import SimpleITK as sitk

    hbo = read_volume(demo[0] / "hbo.nrrd")
    k, j, i = np.unravel_index(int(hbo.array.argmax()), hbo.shape)
    assert k == 0
    position = hbo.points_to_ras(np.array([[i, j, k]]))[0]
    image = sitk.ReadImage(str(demo[0] / "segmentation.seg.nrrd"))
    index = image.TransformPhysicalPointToIndex((position * [-1, -1, 1]).tolist())
    near = sitk.GetArrayFromImage(image)[tuple(slice(max(n - 4, 0), n + 5) for n in index[2::-1])]
    assert near.any()


@pytest.mark.slow
def test_the_scene_opens(demo, slicer_host):
    import slicer

    slicer_host.load_scene(demo[0] / "scene.mrb")
    images = slicer.util.getNode("Simulated HbO [[]uM[]]")
    assert images.GetImageData().GetDimensions()[2] == 1
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert slicer.util.getNodesByClass("vtkMRMLTableNode")
    assert slicer.util.getNodesByClass("vtkMRMLMarkupsPlaneNode")


@pytest.fixture
def small_case(tmp_path):
    """A bright ellipsoid in noise with its six points, as files."""
    index = np.indices((24, 40, 44)).astype(float)
    inside = sum(((n - c) / r) ** 2 for n, c, r in zip(index, (12, 20, 22), (5, 8, 9), strict=True)) <= 1
    array = np.random.default_rng(2).normal(100 + 80 * inside, 6).astype(np.float32)
    matrix = np.diag([1.0, 1.0, 2.0, 1.0])
    write_volume(Volume(array, matrix, "post"), tmp_path / "post.nrrd")
    ends = np.array([[13, 20, 12], [31, 20, 12], [22, 12, 12], [22, 28, 12], [22, 20, 7], [22, 20, 17]])
    names = ["Left", "Right", "Posterior", "Anterior", "Inferior", "Superior"]
    points = Volume(array, matrix).points_to_ras(ends)
    write_points(LabeledPoints(names, points), tmp_path / "points.mrk.json")
    write_points(LabeledPoints(names, points + [300.0, 0, 0]), tmp_path / "outside.mrk.json")
    write_points(LabeledPoints(names[:5], points[:5]), tmp_path / "five.mrk.json")
    write_volume(Volume(array[:, :, :-1], matrix, "pre"), tmp_path / "other-grid.nrrd")
    write_volume(Volume(np.zeros_like(array), matrix), tmp_path / "empty.nrrd")
    return tmp_path


@pytest.mark.slow
def test_own_files_that_show_no_air(small_case):
    """The whole chain on files; nodes are called after them, without the suffix."""
    files = ["--image", small_case / "post.nrrd", "--points", small_case / "points.mrk.json", "--body-threshold", "0"]
    done = run(*files, "--output", small_case / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["case"] == "post"
    with zipfile.ZipFile(small_case / "out" / "scene.mrb") as bundle:
        names = {Path(name).name for name in bundle.namelist()}
    assert "post.nrrd" in names
    assert not [name for name in names if ".nrrd " in name or ".nrrd.nrrd" in name]


def test_methods_are_those_of_the_library():
    from BreastBiomarkersLib.cli import LIGHT_METHODS
    from NIRSTReconstructionLib.reconstruct import METHODS

    assert LIGHT_METHODS == METHODS


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--points", "points.mrk.json"], "--image"),
        (["--image", "post.nrrd"], "--points"),
        (["--image", "post.nrrd", "--points", "points.mrk.json", "--optical", "a.paa"], "--optodes"),
        (["--image", "none.nrrd", "--points", "points.mrk.json"], "does not exist"),
        (["--image", "post.nrrd", "--points", "none.mrk.json"], "does not exist"),
        (["--image", "post.nrrd", "--points", "outside.mrk.json"], "outside"),
        (["--image", "post.nrrd", "--points", "five.mrk.json"], "exactly six"),
        (["--image", "post.nrrd", "--points", "points.mrk.json", "--pre", "other-grid.nrrd"], "grid"),
        (["--image", "empty.nrrd", "--points", "points.mrk.json"], "empty"),
        (["--settings", "nope"], "no preset"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(small_case, arguments, message):
    arguments = [small_case / a if "." in a and not a.startswith("--") else a for a in arguments]
    before = {path.name for path in small_case.iterdir()}
    done = run(*arguments, "--output", small_case / "out")
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("python -m BreastBiomarkersLib: ")
    assert message in last
    assert "Traceback" not in done.stderr
    assert {path.name for path in small_case.iterdir()} == before
