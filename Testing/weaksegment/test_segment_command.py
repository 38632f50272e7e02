"""`python -m WeakSegmentLib segment`: files in, files and figures out, exit status and one line for bad input."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from BreastBiomarkersLib.points import LabeledPoints, write_points
from BreastBiomarkersLib.volume import Volume, read_volume, write_volume
from conftest import oblique_ijk_to_ras
from weaksegment.lesions import dice, ellipsoid_lesion
from WeakSegmentLib.cli import main
from WeakSegmentLib.points import extreme_points_of_mask
from WeakSegmentLib.segmentation import replay

LIBRARIES = Path(__file__).resolve().parents[2] / "WeakSegment"


@pytest.fixture
def files(tmp_path):
    """Write an oblique case: image.nrrd, pre.nrrd, reference.nii.gz, points.mrk.json; return its folder."""
    spacing = (2.9, 1.3, 0.7)
    matrix = oblique_ijk_to_ras(spacing[::-1], flip=1)
    image, mask = ellipsoid_lesion((16, 36, 60), spacing, (14.0, 13.0, 12.0), ijk_to_ras=matrix)
    points = extreme_points_of_mask(mask)
    write_volume(image, tmp_path / "image.nrrd")
    write_volume(image.with_array(np.full(image.shape, 3, dtype=np.int16), "pre"), tmp_path / "pre.nrrd")
    write_volume(mask, tmp_path / "reference.nii.gz")
    write_points(LabeledPoints(list(points.roles), points.positions_ras), tmp_path / "points.mrk.json")
    return tmp_path


def run(folder, *more, points="points.mrk.json", image="image.nrrd", output="mask.nrrd"):
    names = [str(folder / name) for name in (image, points, output)]
    return main(["segment", "--image", names[0], "--points", names[1], "--output", names[2], *more])


def test_writes_the_mask_in_the_geometry_of_the_image(files, capsys):
    status = run(
        files, "--pre", str(files / "pre.nrrd"), "--reference", str(files / "reference.nii.gz"), "--json",
        "--pseudo-mask", str(files / "pseudo.nii.gz"), "--score", str(files / "score.mha"),
        "--record", str(files / "record.json"),
    )  # fmt: skip
    captured = capsys.readouterr()
    assert status == 0
    mask, image, reference = (read_volume(files / n) for n in ("mask.nrrd", "image.nrrd", "reference.nii.gz"))
    assert mask.same_grid(image)
    assert set(np.unique(mask.array)) == {0, 1}
    assert sitk.ReadImage(str(files / "mask.nrrd")).GetPixelID() == sitk.sitkUInt8

    figures = json.loads(captured.out)
    assert figures["dice"] == pytest.approx(dice(mask.array, reference.array))
    assert figures["volume_ml"] == pytest.approx(mask.array.sum() * mask.voxel_volume_mm3 / 1000)
    assert figures["dice"] > 0.95
    assert {"jaccard", "hd95_mm", "surface_distance_mm", "seconds", "contrast"} <= set(figures)
    assert all(json.loads(line)["progress"] <= 1 for line in captured.err.splitlines())

    assert set(np.unique(read_volume(files / "pseudo.nii.gz").array)) == {0, 1, 2}
    assert read_volume(files / "score.mha").array.max() == 1
    record = json.loads((files / "record.json").read_text())
    again = replay(record, image, pre=read_volume(files / "pre.nrrd"))
    np.testing.assert_array_equal(again.mask.array, mask.array != 0)


def test_points_from_csv_and_fcsv_give_the_same_mask(files):
    assert run(files) == 0
    first = (files / "mask.nrrd").read_bytes()
    markups = json.loads((files / "points.mrk.json").read_text())["markups"][0]["controlPoints"]
    ras = [(-p["position"][0], -p["position"][1], p["position"][2]) for p in markups]
    (files / "points.csv").write_text("x,y,z\n" + "\n".join(",".join(map(repr, p)) for p in ras))
    lps = "\n".join(f"v{n},{-x!r},{-y!r},{z!r},0,0,0,1,1,1,0,F-{n},," for n, (x, y, z) in enumerate(ras))
    (files / "points.fcsv").write_text(f"# CoordinateSystem = LPS\n{lps}\n")
    for name in ("points.csv", "points.fcsv"):
        assert run(files, points=name, output="again.nrrd") == 0
        np.testing.assert_array_equal(read_volume(files / "again.nrrd").array, read_volume(files / "mask.nrrd").array)
    assert (files / "mask.nrrd").read_bytes() == first


def test_the_published_method_and_its_options(files, capsys):
    assert run(files, "--method", "published", "--repetitions", "1", "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["contrast"] is None
    assert run(files, "--method", "published", "--longest-side", "32") == 2
    assert "The method 'published' has no --longest-side" in capsys.readouterr().err


def test_options_reach_the_settings(files):
    options = ["--longest-side", "20", "--no-exclude-non-enhancing", "--noise-multiple", "3", "--repetitions", "2"]
    assert run(files, *options, "--record", str(files / "record.json")) == 0
    settings = json.loads((files / "record.json").read_text())["settings"]
    assert (settings["longest_side"], settings["exclude_non_enhancing"]) == (20, False)
    assert (settings["noise_multiple"], settings["repetitions"]) == (3.0, 2)


def test_corrective_clicks(files):
    assert run(files) == 0
    mask = read_volume(files / "mask.nrrd")
    middle = np.argwhere(mask.array)[len(np.argwhere(mask.array)) // 2]
    click = mask.points_to_ras(middle[None, ::-1])
    write_points(LabeledPoints(["click"], click), files / "clicks.mrk.json")
    assert run(files, "--background-clicks", str(files / "clicks.mrk.json"), output="fewer.nrrd") == 0
    fewer = read_volume(files / "fewer.nrrd").array
    assert not fewer[tuple(middle)]
    assert fewer.sum() < mask.array.sum()
    assert run(files, "--tumor-clicks", str(files / "clicks.mrk.json"), output="more.nrrd") == 0
    assert read_volume(files / "more.nrrd").array[tuple(middle)]


def refused(files, capsys, *arguments, **names):
    """Run with bad input; return the one line it says, having checked that nothing was written."""
    before = sorted(files.iterdir())
    assert run(files, *arguments, **names) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("{")]
    assert len(lines) == 1
    assert sorted(files.iterdir()) == before
    return lines[0]


def test_missing_and_damaged_files(files, capsys):
    assert "'" + str(files / "none.nrrd") + "' does not exist" in refused(files, capsys, image="none.nrrd")
    (files / "half.nrrd").write_bytes((files / "image.nrrd").read_bytes()[:2000])
    assert "'half.nrrd'" in refused(files, capsys, image="half.nrrd")
    (files / "half.mrk.json").write_text((files / "points.mrk.json").read_text()[:300])
    assert "'half.mrk.json'" in refused(files, capsys, points="half.mrk.json")


def test_a_series_of_frames(files, capsys):
    frames = sitk.JoinSeries([sitk.ReadImage(str(files / "image.nrrd"))] * 2)
    sitk.WriteImage(frames, str(files / "frames.nrrd"))
    assert "one frame" in refused(files, capsys, image="frames.nrrd")


def test_a_single_slice(files, capsys):
    image = read_volume(files / "image.nrrd")
    write_volume(image.cropped((8, 0, 0), (9, 36, 60)), files / "slice.nrrd")
    assert "mm outside 'slice.nrrd'" in refused(files, capsys, image="slice.nrrd")
    flat = Volume(image.array[8:9], np.eye(4), "flat")
    write_volume(flat, files / "flat.nrrd")
    (files / "flat.csv").write_text("5,5,0\n20,5,0\n12,2,0\n12,20,0\n13,12,0\n12,12,0\n")
    assert "span 1 voxel" in refused(files, capsys, image="flat.nrrd", points="flat.csv")


def test_too_few_points_and_points_elsewhere(files, capsys):
    (files / "five.csv").write_text("\n".join(f"{n},{2 * n},{3 * n}" for n in range(5)))
    assert "5 extreme point(s) were given" in refused(files, capsys, points="five.csv")
    (files / "far.csv").write_text("\n".join(f"p{n},{900 + n},{2 * n},{3 * n}" for n in range(6)))
    message = refused(files, capsys, points="far.csv")
    assert "Extreme point 1 ('p0') lies" in message
    assert "mm outside 'image.nrrd'" in message


def test_a_foreign_pre_contrast_image_or_reference(files, capsys):
    image = read_volume(files / "image.nrrd")
    write_volume(image.cropped((1, 0, 0), image.shape), files / "other.nrrd")
    assert "not on the grid" in refused(files, capsys, "--pre", str(files / "other.nrrd"))
    assert "not on the grid" in refused(files, capsys, "--reference", str(files / "other.nrrd"))
    write_volume(image.with_array(np.zeros(image.shape)), files / "empty.nrrd")
    assert "is empty" in refused(files, capsys, "--reference", str(files / "empty.nrrd"))


def test_outputs_that_cannot_be_written(files, capsys):
    assert "no known image suffix" in refused(files, capsys, output="mask.png")
    assert "no known image suffix" in refused(files, capsys, "--score", str(files / "score.txt"))
    (files / "file").write_text("")
    assert "Cannot write" in refused(files, capsys, output="file/mask.nrrd")


def test_help_explains_units(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["segment", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for words in ("RAS mm", "voxels along the longest box side", "noise standard", "published"):
        assert words in " ".join(text.split())


def test_cancel_from_outside_leaves_nothing(files):
    files_of_run = {"--image": "image.nrrd", "--points": "points.mrk.json", "--output": "mask.nrrd"}
    command = [sys.executable, "-m", "WeakSegmentLib", "segment", "--repetitions", "100000"]
    for option, name in files_of_run.items():
        command += [option, str(files / name)]
    environment = {**os.environ, "PYTHONPATH": str(LIBRARIES)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    for line in process.stderr:
        if "Random walk 2 of" in line:
            break
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1].endswith("cancelled, nothing was written")
    assert not (files / "mask.nrrd").exists()
    assert not list(files.glob(".writing-*"))


@pytest.mark.parametrize("same", ["mask.nrrd", "image.nrrd", "../{folder}/mask.nrrd"])
def test_a_file_to_write_has_a_name_of_its_own(files, capsys, same):
    before = (files / "image.nrrd").read_bytes()
    assert run(files, "--score", str(files / same.format(folder=files.name))) == 2
    assert "is named twice" in capsys.readouterr().err
    assert (files / "image.nrrd").read_bytes() == before
    assert not (files / "mask.nrrd").exists()
