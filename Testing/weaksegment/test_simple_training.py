"""The three stages: what they leave, that they go on exactly where they were stopped, and what they refuse."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Cancelled
from BreastBiomarkersLib.training import read_checkpoint, write_checkpoint
from BreastBiomarkersLib.volume import read_volume
from weaksegment.lesions import dice
from weaksegment.simple_cases import TINY, write_case, write_table
from WeakSegmentLib.breast_parameters import BreastPhantomSettings
from WeakSegmentLib.breast_phantom import simulate_breast_cohort
from WeakSegmentLib.cohort import load_cohort, read_cohort
from WeakSegmentLib.predict import TrainedNetwork, make_network, predict, read_network, slide, tumor_mask, uncertainty
from WeakSegmentLib.pseudo_mask import Label
from WeakSegmentLib.train import STAGES, train, vote_has_failed
from WeakSegmentLib.training_history import TrainingHistory
from WeakSegmentLib.training_settings import PRESETS

LIBRARIES = Path(__file__).resolve().parents[2] / "WeakSegment"
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Table of three tiny cases."""
    folder = tmp_path_factory.mktemp("cohort")
    return write_table(folder, [write_case(folder, n) for n in range(3)])


@pytest.fixture(scope="module")
def uninterrupted(cohort, tmp_path_factory):
    """Folder of a TINY training that nothing disturbed."""
    folder = tmp_path_factory.mktemp("training") / "run"
    torch.set_num_threads(1)
    train(read_cohort(cohort), folder, TINY, device="cpu")
    return folder


def stop_after(iterations, stage):
    """Return a progress that cancels when a stage has done so many iterations."""

    def progress(fraction, message):
        if message.startswith(f"{stage} {iterations} of"):
            raise Cancelled

    return progress


def assert_same(folder, other):
    for stage in STAGES:
        assert (folder / f"{stage}.safetensors").read_bytes() == (other / f"{stage}.safetensors").read_bytes()
    assert (folder / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert (folder / "history.csv").read_text() == (other / "history.csv").read_text()
    assert (folder / "settings.json").read_text() == (other / "settings.json").read_text()


def test_a_training_leaves_what_it_promises(uninterrupted):
    names = {path.name for path in uninterrupted.iterdir()}
    checkpoints = {f"{stage}.safetensors" for stage in STAGES} | {"model.safetensors"}
    assert names == checkpoints | {"settings.json", "history.csv", "curves.png", "pseudo_masks.png", "cache"}
    assert all((uninterrupted / name).read_bytes()[1:4] == b"PNG" for name in ("curves.png", "pseudo_masks.png"))
    history = TrainingHistory(uninterrupted / "history.csv")
    assert [len(history.rows(stage)) for stage in STAGES] == [8, 5, 7]
    assert set(history.rows("train")[0]) == {"loss", "cross_entropy", "contrastive", "gradient_norm", "rate"}
    assert {"propagation", "voted_share", "similarity_above"} <= set(history.rows("finetune")[0])
    assert history.rows("train")[0]["rate"] == TINY.learning_rate
    assert history.rows("train")[4]["rate"] == pytest.approx(TINY.learning_rate * 0.5**0.9)
    tensors, record = read_checkpoint(uninterrupted / "model.safetensors")
    assert record["stage"] == "retrain"
    assert record["cases"] == ["case0", "case1", "case2"]
    assert record["settings"]["finetune_iterations"] == 5
    first, second = (read_checkpoint(uninterrupted / f"{stage}.safetensors")[0] for stage in STAGES[:2])
    assert any(not torch.equal(first[key], second[key]) for key in tensors)


def test_new_labels_stay_inside_the_boxes(cohort, uninterrupted):
    cases = load_cohort(read_cohort(cohort), uninterrupted / "cache")
    for case in cases:
        labels = np.load(uninterrupted / "cache" / case.name / "new_labels.npy")
        outside = np.ones(labels.shape, dtype=bool)
        outside[case.box] = False
        assert not labels[outside].any()
        assert set(np.unique(labels)) == {Label.BACKGROUND, Label.TUMOR}


def test_the_same_seed_gives_the_same_network_and_another_seed_another(cohort, uninterrupted, tmp_path):
    train(read_cohort(cohort), tmp_path / "again", TINY, device="cpu")
    assert_same(tmp_path / "again", uninterrupted)
    train(read_cohort(cohort), tmp_path / "other", replace(TINY, seed=1), device="cpu")
    assert (tmp_path / "other" / "model.safetensors").read_bytes() != (uninterrupted / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "stops",
    [
        [(1, "train"), (4, "train"), (8, "train"), (1, "finetune"), (5, "finetune"), (2, "retrain"), (7, "retrain")],
        [(5, "train"), (4, "finetune"), (6, "retrain")],
    ],
)
def test_a_resumed_training_equals_an_uninterrupted_one(cohort, uninterrupted, tmp_path, stops):
    cases = read_cohort(cohort)
    for iterations, stage in stops:
        with pytest.raises(Cancelled):
            train(cases, tmp_path / "run", TINY, stop_after(iterations, stage), device="cpu")
        assert not (tmp_path / "run" / "model.safetensors").exists()
    train(cases, tmp_path / "run", TINY, device="cpu")
    assert_same(tmp_path / "run", uninterrupted)
    figures = train(cases, tmp_path / "run", TINY, device="cpu")  # nothing is left to do
    assert_same(tmp_path / "run", uninterrupted)
    assert figures["finetune_iterations"] == 5


def test_a_killed_training_goes_on_bit_by_bit(cohort, uninterrupted, tmp_path):
    """kill -9 at a random moment, then the rest in a new process."""
    settings = tmp_path / "settings.json"
    settings.write_text((uninterrupted / "settings.json").read_text())
    command = [sys.executable, "-m", "WeakSegmentLib", "train", "--cases", str(cohort), "--threads", "1"]
    command += ["--output", str(tmp_path / "run"), "--settings", str(settings), "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(LIBRARIES)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    lines = int(np.random.default_rng().integers(1, 20))
    for line in process.stderr:
        lines -= bool(re.search(r'"(train|finetune|retrain) \d+ of', line))
        if lines <= 0:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, line
    with (tmp_path / "run" / "history.csv").open("a") as file:
        file.write("train,9,0.1")  # as a kill in the middle of a line leaves it
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cases"] == 3
    assert_same(tmp_path / "run", uninterrupted)


def test_a_folder_of_another_training_is_refused(cohort, uninterrupted, tmp_path):
    cases = read_cohort(cohort)
    with pytest.raises(InputError, match=r"holds a training with other settings \(seed 0 there, 3 now\)"):
        train(cases, uninterrupted, replace(TINY, seed=3), device="cpu")
    with pytest.raises(InputError, match="other files|other cases|other cohort"):
        train(cases[:2], uninterrupted, TINY, device="cpu")
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(InputError, match="Choose another output folder"):
        train(cases, tmp_path, TINY, device="cpu")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Cannot write"):
        train(cases, tmp_path / "file" / "run", TINY, device="cpu")


@pytest.mark.parametrize("method, part", [("contrastive", "contrastive"), ("crf", "crf"), ("partial-ce", None)])
def test_the_other_methods_have_one_stage(cohort, tmp_path, method, part):
    train(read_cohort(cohort), tmp_path / "run", replace(TINY, method=method, train_iterations=3), device="cpu")
    history = TrainingHistory(tmp_path / "run" / "history.csv")
    assert history.stages == ["train"]
    parts = set(history.rows("train")[0]) - {"loss", "cross_entropy", "gradient_norm", "rate"}
    assert parts == ({part} if part else set())
    assert {"model.safetensors", "pseudo_masks.png"} <= {path.name for path in (tmp_path / "run").iterdir()}


def test_full_supervision_learns_from_the_masks(cohort, tmp_path):
    train(read_cohort(cohort), tmp_path / "run", replace(TINY, method="full", train_iterations=3), device="cpu")
    for case in load_cohort(read_cohort(cohort), tmp_path / "run" / "cache"):
        np.testing.assert_array_equal(case.labels == Label.TUMOR, case.truth)


def test_a_vote_that_chooses_nothing_is_told_and_harms_nothing(cohort, tmp_path, caplog):
    settings = replace(TINY, similarity_above=0.9999, agreement_above=0.99, finetune_iterations=40)
    figures = train(read_cohort(cohort), tmp_path / "run", settings, device="cpu")
    history = TrainingHistory(tmp_path / "run" / "history.csv").rows("finetune")
    assert all(row["propagation"] == 0 for row in history)
    assert figures["voted_share"] == 0
    assert figures["finetune_iterations"] == len(history) == 20
    assert "chose under 1% of the unlabeled ones 20 times in a row" in caplog.text
    assert all(torch.isfinite(t).all() for t in read_checkpoint(tmp_path / "run" / "model.safetensors")[0].values())


def test_votes_that_teach_nothing_are_known():
    def judge(shares):
        return vote_has_failed([{"voted_share": share} for share in shares])

    assert judge([0.0] * 19) is None
    assert judge([0.5, *[0.0] * 19]) is None
    assert "under 1%" in judge([0.5, *[0.001] * 20])
    assert "over 90%" in judge([0.5, *[0.95] * 20])
    assert judge([0.95, 0.85] * 20) is None


def test_a_diverging_training_stops_and_keeps_its_last_state(cohort, tmp_path):
    settings = replace(TINY, learning_rate=1e30, max_gradient_norm=None, train_iterations=50)
    with pytest.raises(InputError, match="loss of stage 'train' is not a number in iteration .* lower learning rate"):
        train(read_cohort(cohort), tmp_path / "run", settings, device="cpu")
    assert not (tmp_path / "run" / "train.safetensors").exists()


def test_checkpoints_that_cannot_be_used_are_refused(uninterrupted, tmp_path):
    model = uninterrupted / "model.safetensors"
    tensors, record = read_checkpoint(model)
    with pytest.raises(InputError, match="checkpoint file .* does not exist"):
        read_network(tmp_path / "none.safetensors")
    bad = tmp_path / "bad.safetensors"
    for content in (model.read_bytes()[:-10], model.read_bytes()[:4], b"", b"PK\x03\x04 a pickle, say"):
        bad.write_bytes(content)
        with pytest.raises(InputError, match="'bad.safetensors' is truncated or no safetensors"):
            read_network(bad)
    write_checkpoint(bad, tensors, {"kind": "Z-Net"})
    with pytest.raises(InputError, match="is a checkpoint of Z-Net, not of a WeakSegment U-Net"):
        read_network(bad)
    write_checkpoint(bad, tensors, record | {"settings": record["settings"] | {"width": 4}})
    with pytest.raises(InputError, match="another architecture: '.*' is .* in it and .* here"):
        read_network(bad)
    write_checkpoint(bad, {"only": torch.zeros(2)}, record)
    with pytest.raises(InputError, match="another architecture"):
        read_network(bad)
    name = next(iter(tensors))
    write_checkpoint(bad, tensors | {name: tensors[name] * float("nan")}, record)
    with pytest.raises(InputError, match="not a number in"):
        read_network(bad)
    with pytest.raises(InputError, match="no device 'cuda:77'"):
        read_network(model, "cuda:77")


def test_windows_cover_any_image_and_agree_with_the_whole():
    torch.manual_seed(2)
    network = make_network(TINY)
    rng = np.random.default_rng(0)
    for shape in ((5, 20, 33), (8, 8, 8), (3, 4, 5), (17, 9, 8)):
        found = slide(network, rng.normal(size=(1, *shape)).astype(np.float32), (8, 8, 8), CPU)
        assert found.shape == shape
        assert np.isfinite(found).all()
        assert found.min() >= 0
        assert found.max() <= 1
    image = rng.normal(size=(1, 8, 8, 8)).astype(np.float32)
    with torch.no_grad():
        whole = torch.softmax(network(torch.from_numpy(image)[None]).logits, dim=1)[0, 1].numpy()
    np.testing.assert_allclose(slide(network, image, (8, 8, 8), CPU), whole, atol=1e-6)


def test_a_prediction_lies_on_the_image_and_can_be_cancelled(cohort, uninterrupted):
    trained = read_network(uninterrupted / "model.safetensors", "cpu")
    volume, _, points, _ = read_cohort(cohort)[0].read()
    probability = predict(trained, volume)
    assert probability.same_grid(volume)
    everything = probability.with_array(np.ones(volume.shape, np.float32))
    box = tumor_mask(everything, points).array
    assert box[tuple(points.voxels_kji.T)].all()
    sides = points.box_stop_kji - points.box_start_kji
    assert box.sum() == np.prod(sides + 2 * np.ceil(0.1 * sides))
    assert tumor_mask(everything).array.all()

    def cancel(fraction, message):
        if message.startswith("Window"):
            raise Cancelled

    with pytest.raises(Cancelled):
        predict(trained, volume, progress=cancel)


def test_uncertainty_is_one_minus_the_dice_the_network_expects(cohort):
    volume, _, points, truth = read_cohort(cohort)[0].read()
    assert uncertainty(truth.with_array(truth.array.astype(np.float32)), points) == 0
    assert uncertainty(truth.with_array(np.full(volume.shape, 0.3, np.float32)), points) == 1
    p = np.where(truth.array, 0.8, 0.1).astype(np.float32)
    box = tumor_mask(truth.with_array(np.ones(volume.shape, np.float32)), points).array.sum()
    lesion = truth.array.sum()
    expected = 1 - 2 * 0.8 * lesion / (0.8 * lesion + 0.1 * (box - lesion) + lesion)
    assert uncertainty(truth.with_array(p), points) == pytest.approx(expected, rel=1e-5)


def test_curves_and_history_grow_while_a_training_runs(cohort, tmp_path):
    """A panel shows them: they are whole files at every moment after the first saved state."""
    seen = []

    def look(fraction, message):
        if message.startswith("train 4 of"):
            seen.append((tmp_path / "curves.png").read_bytes()[1:4])
            seen.append(len((tmp_path / "history.csv").read_text().splitlines()))
            raise Cancelled

    with pytest.raises(Cancelled):
        train(read_cohort(cohort), tmp_path, TINY, look, device="cpu")
    assert seen == [b"PNG", 5]


@pytest.mark.slow
def test_sixty_iterations_on_four_phantoms(tmp_path):
    """From six points per case to masks that overlap the true lesions, without any points."""
    simulate_breast_cohort(tmp_path, BreastPhantomSettings(small=True, kind="mass"), 4, 40)
    names = [f"case_{seed:05d}" for seed in range(40, 44)]
    files = ("post1.nrrd", "points.mrk.json", "pre.nrrd", "lesion.nrrd")
    table = write_table(tmp_path, [",".join([name, *(f"{name}/{file}" for file in files)]) for name in names])
    settings = replace(
        PRESETS["small"],
        method="partial-ce",
        channels=("post", "subtraction"),
        train_iterations=60,
        learning_rate=0.05,
        momentum=0.9,
    )
    train(read_cohort(table), tmp_path / "run", settings, device="cpu")
    torch.manual_seed(0)
    untrained = TrainedNetwork(make_network(settings).eval(), settings, {}, CPU)
    trained = read_network(tmp_path / "run" / "model.safetensors", "cpu")
    assert overlap(tmp_path / names[0], untrained) < 0.1
    assert np.mean([overlap(tmp_path / name, trained) for name in names]) > 0.3


def overlap(folder, network):
    """Return the Dice of a network's mask in the whole image with the true lesion of a phantom."""
    post, pre, truth = (read_volume(folder / name) for name in ("post1.nrrd", "pre.nrrd", "lesion.nrrd"))
    return dice(tumor_mask(predict(network, post, pre)).array, truth.array)


def test_two_processes_train_one_network(cohort, tmp_path):
    """As torchrun starts them; on a CPU here, with one GPU each where there are some."""
    settings = tmp_path / "settings.json"
    settings.write_text(
        json.dumps({"width": 2, "levels": 2, "spacing_mm": [2, 2, 2], "patch": [8, 8, 8], "checkpoint_every": 3}
        | {f"{stage}_iterations": 4 for stage in STAGES})
    )  # fmt: skip
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "WeakSegmentLib", "train", "--cases", str(cohort), "--output", str(tmp_path / "run")]
    command += ["--settings", str(settings), "--threads", "1", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(LIBRARIES)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    history = TrainingHistory(tmp_path / "run" / "history.csv")
    assert [len(history.rows(stage)) for stage in STAGES] == [4, 4, 4]
    assert read_network(tmp_path / "run" / "model.safetensors", "cpu").record["processes"] == 2
    with pytest.raises(InputError, match="other processes"):
        train(read_cohort(cohort), tmp_path / "run", read_network(tmp_path / "run" / "model.safetensors").settings)
