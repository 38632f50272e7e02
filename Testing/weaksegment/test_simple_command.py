"""`python -m WeakSegmentLib train` and `predict`: tables and checkpoints in, networks, masks and figures out."""

import csv
import json
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from BreastBiomarkersLib.volume import read_volume, write_volume
from weaksegment.lesions import dice
from weaksegment.simple_cases import TINY, write_case, write_table
from WeakSegmentLib.cli import main


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder with cohort.csv, settings.json and, trained on it with full supervision, run/model.safetensors."""
    folder = tmp_path_factory.mktemp("command")
    write_table(folder, [write_case(folder, n) for n in range(2)])
    settings = replace(TINY, method="full", width=4, train_iterations=40, learning_rate=0.05, momentum=0.9)
    (folder / "settings.json").write_text(json.dumps(asdict(settings)))
    assert run_train(folder) == 0
    return folder


def run_train(folder, *more, output="run", cases="cohort.csv", settings="settings.json"):
    names = [str(folder / name) for name in (cases, output, settings)]
    arguments = ["--cases", names[0], "--output", names[1], "--settings", names[2], "--threads", "1"]
    return main(["train", *arguments, "--device", "cpu", *more])


def run_predict(folder, *arguments, model="run/model.safetensors"):
    words = [str(folder / word) if not word.startswith("--") else word for word in arguments]
    return main(["predict", "--model", str(folder / model), "--threads", "1", "--device", "cpu", "--json", *words])


def message(capsys):
    return "\n".join(line for line in capsys.readouterr().err.splitlines() if not line.startswith("{"))


def test_a_network_segments_an_image(folder, tmp_path, capsys):
    status = run_predict(
        folder, "--image", "case0_image.nrrd", "--points", "case0_points.mrk.json", "--reference", "case0_mask.nrrd",
        "--output", str(tmp_path / "mask.nii.gz"), "--probability", str(tmp_path / "p.nrrd"),
    )  # fmt: skip
    assert status == 0
    figures = json.loads(capsys.readouterr().out)
    image, mask, probability = (
        read_volume(path) for path in (folder / "case0_image.nrrd", tmp_path / "mask.nii.gz", tmp_path / "p.nrrd")
    )
    assert mask.same_grid(image)
    assert figures["dice"] == pytest.approx(dice(mask.array, read_volume(folder / "case0_mask.nrrd").array))
    assert figures["dice"] > 0.6
    assert figures["volume_ml"] == pytest.approx(mask.array.sum() * mask.voxel_volume_mm3 / 1000)
    assert (probability.array[mask.array > 0] > 0.5).all()


def test_a_network_segments_a_table(folder, tmp_path, capsys):
    table = tmp_path / "cohort.csv"
    lines = [",".join([row[0], *(str(folder / name) for name in row[1:3]), "", ""]) for row in rows(folder)]
    table.write_text("case,image,points,pre,mask\n" + "\n".join(lines) + "\n")
    damaged = tmp_path / "damaged.nrrd"
    damaged.write_bytes((folder / "case0_image.nrrd").read_bytes()[:500])
    with table.open("a") as file:
        file.write(f"broken,damaged.nrrd,{folder / 'case0_points.mrk.json'},,\n")
    assert run_predict(folder, "--cases", str(table), "--output", str(tmp_path / "out")) == 0
    assert json.loads(capsys.readouterr().out) == {"cases": 2, "failed": 1}
    with (tmp_path / "out" / "scores.csv").open() as file:
        scores = list(csv.DictReader(file))
    assert [row["case"] for row in scores] == ["case0", "case1"]
    mask = read_volume(tmp_path / "out" / "case1.nrrd")
    assert float(scores[1]["volume_ml_box"]) == pytest.approx(mask.array.sum() * mask.voxel_volume_mm3 / 1000)
    with (tmp_path / "out" / "review.csv").open() as file:
        review = list(csv.DictReader(file))
    assert sorted(row["case"] for row in review) == ["case0", "case1"]
    assert list(review[0]) == ["case", "volume_ml", "uncertainty", "region"]
    assert review[0]["region"] == "box"
    assert 1 >= float(review[0]["uncertainty"]) >= float(review[1]["uncertainty"]) >= 0
    assert (
        "broken,\"cohort.csv, line 4 (case 'broken'): 'damaged.nrrd' is damaged"
        in (tmp_path / "out" / "failures.csv").read_text()
    )

    assert run_predict(folder, "--cases", "cohort.csv", "--output", str(tmp_path / "with-masks")) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["failed"] == 0
    assert figures["mean_dice_box"] >= figures["mean_dice_image"] > 0.5

    table.write_text("case,image,points\n" + f"broken,damaged.nrrd,{folder / 'case0_points.mrk.json'}\n")
    assert run_predict(folder, "--cases", str(table), "--output", str(tmp_path / "none")) == 2
    assert "None of the 1 cases could be predicted" in message(capsys)


def test_prediction_needs_no_points(folder, tmp_path, capsys):
    table, out = tmp_path / "cohort.csv", tmp_path / "out"
    (first, image, points, *_), (second, other, *_) = rows(folder)[:2]
    table.write_text(f"case,image,points\n{first},{folder / image},\n{second},{folder / other},{folder / points}\n")
    out.mkdir()
    (out / "failures.csv").write_text("case,error\nof,before\n")
    assert run_predict(folder, "--cases", str(table), "--output", str(out)) == 0
    assert json.loads(capsys.readouterr().out) == {"cases": 2, "failed": 0}
    assert not (out / "failures.csv").exists(), "nothing failed this time"
    assert run_predict(folder, "--image", str(folder / image), "--output", str(tmp_path / "one.nrrd")) == 0
    whole = read_volume(tmp_path / "one.nrrd").array
    np.testing.assert_array_equal(read_volume(out / f"{first}.nrrd").array, whole)
    with (out / "review.csv").open() as file:
        assert {row["case"]: row["region"] for row in csv.DictReader(file)} == {first: "image", second: "box"}
    with (out / "scores.csv").open() as file:
        scores = {row["case"]: row["volume_ml_box"] for row in csv.DictReader(file)}
    assert scores[first] == ""
    assert float(scores[second]) > 0
    table.write_text(f"case,image\n{first},{folder / image}\n")
    assert run_predict(folder, "--cases", str(table), "--output", str(out)) == 0
    table.write_text(f"case,image,points\n{first},{folder / image},none.fcsv\n")
    assert run_predict(folder, "--cases", str(table), "--output", str(out)) == 2
    assert "none.fcsv" in message(capsys), "points that are named but missing are a mistake"


def rows(folder):
    with (folder / "cohort.csv").open() as file:
        return list(csv.reader(file))[1:]


def test_options_win_over_the_settings_file(folder, tmp_path, capsys):
    arguments = ["--output", str(tmp_path / "run"), "--preset", "small", "--method", "partial-ce", "--seed", "5"]
    settings = tmp_path / "few.json"
    settings.write_text('{"train_iterations": 1, "patch": [8, 8, 8], "width": 2, "seed": 9}')
    status = main(["train", "--cases", str(folder / "cohort.csv"), "--settings", str(settings), *arguments])
    assert status == 0
    written = json.loads((tmp_path / "run" / "settings.json").read_text())["settings"]
    assert (written["method"], written["seed"], written["width"], written["levels"]) == ("partial-ce", 5, 2, 3)
    assert "train_loss" in capsys.readouterr().out


def test_bad_train_input(folder, tmp_path, capsys):
    assert run_train(folder, cases="none.csv", output=str(tmp_path / "x")) == 2
    assert "none.csv' does not exist" in message(capsys)
    for text, words in (
        ("{", "'bad.json' does not hold training settings"),
        ("[1]", "'bad.json' does not hold training settings"),
        ('{"speed": 1}', "no training setting 'speed'"),
        ('{"width": "wide"}', "width cannot be wide"),
    ):
        (tmp_path / "bad.json").write_text(text)
        assert run_train(folder, settings=str(tmp_path / "bad.json"), output=str(tmp_path / "x")) == 2
        assert words in message(capsys)
    assert run_train(folder, "--threads", "0", output=str(tmp_path / "x")) == 2
    assert "0 threads" in message(capsys)
    assert run_train(folder, "--device", "cuda:50", output=str(tmp_path / "x")) == 2
    assert "no device 'cuda:50'" in message(capsys)
    assert not (tmp_path / "x").exists()
    assert run_train(folder, "--seed", "1") == 2
    assert "other settings (seed 0 there, 1 now)" in message(capsys)


def test_bad_predict_input(folder, tmp_path, capsys):
    image = ("--image", "case0_image.nrrd", "--output", str(tmp_path / "m.nrrd"))
    assert run_predict(folder, *image, model="none.safetensors") == 2
    assert "none.safetensors' does not exist" in message(capsys)
    assert run_predict(folder, *image, model="case0_image.nrrd") == 2
    assert "'case0_image.nrrd' is truncated or no safetensors file" in message(capsys)
    assert run_predict(folder, "--image", "case0_image.nrrd", "--output", "mask.png") == 2
    assert "no known image suffix" in message(capsys)
    assert run_predict(folder, "--cases", "cohort.csv", "--output", "out", "--pre", "case0_pre.nrrd") == 2
    assert "--pre goes with --image only" in message(capsys)
    small = read_volume(folder / "case0_mask.nrrd").cropped((0, 0, 0), (5, 9, 9))
    write_volume(small, tmp_path / "small.nrrd")
    assert run_predict(folder, *image, "--reference", str(tmp_path / "small.nrrd")) == 2
    assert "not on the grid" in message(capsys)
    (tmp_path / "points.csv").write_text("1,2,3\n4,5,6\n")
    assert run_predict(folder, *image, "--points", str(tmp_path / "points.csv")) == 2
    assert "2 extreme point(s) were given" in message(capsys)
    assert not (tmp_path / "m.nrrd").exists()


def test_missing_packages_are_named(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert run_train(folder, output=str(tmp_path / "x")) == 2
    assert "Networks need the Python package(s) safetensors" in message(capsys)


def test_help_explains_the_methods(capsys):
    for command, words in (
        ("train", ("fine-tune by propagation", "relative to the table", "torchrun", "true masks")),
        ("predict", ("checkpoint that", "scores.csv", "grown by 10 percent")),
    ):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        for word in words:
            assert word in text
