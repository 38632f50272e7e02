"""Training: overfits one batch, goes on bit by bit where it stopped, and refuses what is not its own."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Cancelled
from BreastBiomarkersLib.training import read_checkpoint
from NIRSTReconstructionLib.cli import main
from NIRSTReconstructionLib.dataset import DatasetSettings, generate_dataset
from NIRSTReconstructionLib.model_card import table_lines
from NIRSTReconstructionLib.network_data import look, read_phantom_set
from NIRSTReconstructionLib.network_settings import PRESETS, PhysicsSettings, Variation, small
from NIRSTReconstructionLib.networks import eyes_of, make_network, read_network, run
from NIRSTReconstructionLib.train import light_scale, train

ROOT = Path(__file__).resolve().parents[2]
DATA = DatasetSettings(
    count=20, seed=4, wavelengths_nm=(661.0, 808.0, 948.0), no_contrast=0.2, mri_invisible=0.2, shard_size=20
)
PHYSICS = PhysicsSettings(lattice_mm=14.0, blob_mm=10.0, cell_mm=7.0)


def tiny(network, **changes):
    settings = replace(small(PRESETS[network]), width=2, pixels=24, epochs=4, batch=6, looks=2, physics=PHYSICS)
    return replace(settings, **changes)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "set"
    generate_dataset(folder, DATA)
    return folder


@pytest.mark.parametrize("network", ["znet", "hybrid"])
def test_overfits_one_batch(data, network):
    torch.manual_seed(0)
    phantoms = read_phantom_set(data, count=4)
    settings = tiny(network, width=4)
    scale = light_scale([phantoms])
    eyes = eyes_of(phantoms, settings, scale, torch.device("cpu"), impute=False)
    looks = look(phantoms, settings.pixels, Variation(), torch.Generator().manual_seed(0))
    inputs, model = eyes.see(looks), make_network(settings, 3)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    body = torch.as_tensor(eyes.body)
    errors = []
    for _ in range(80):
        error = (run(model, inputs)[0] - looks.truth)[..., body].square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < (0.1 if network == "znet" else 0.02)
    assert errors[-1] < 0.3 * errors[0]


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "hybrid"
    return folder, train([data], folder, tiny("hybrid"), device="cpu")


def test_files_and_figures(trained):
    folder, figures = trained
    assert {path.name for path in folder.iterdir()} == {
        "settings.json",
        "history.csv",
        "curves.png",
        "state.safetensors",
        "model.safetensors",
        "model_card.md",
    }
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert figures["epoch"] == 4
    assert figures["validation_mse"] == float(rows[-1]["validation_mse"])
    card = (folder / "model_card.md").read_text()
    for words in ("20 simulated phantoms", "seed 0", "nirfast-1", "661, 808, 948 nm", "Not for diagnosis"):
        assert words in card
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_stopped_and_continued_is_bit_for_bit_the_same(data, trained, tmp_path):
    settings = tiny("hybrid")
    train([data], tmp_path / "run", settings, device="cpu", epochs_now=2)
    assert not (tmp_path / "run" / "model.safetensors").exists()

    def cancel(fraction, message):
        if "epoch 4" in message:
            raise Cancelled

    with pytest.raises(Cancelled):
        train([data], tmp_path / "run", settings, cancel, device="cpu")
    train([data], tmp_path / "run", settings, device="cpu")
    for name in ("model.safetensors", "state.safetensors"):
        (first, _), (second, _) = (read_checkpoint(folder / name) for folder in (trained[0], tmp_path / "run"))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
    assert (tmp_path / "run" / "history.csv").read_bytes() == (trained[0] / "history.csv").read_bytes()


def test_half_precision_learns_the_same_to_its_rounding(data, tmp_path):
    first, second = (
        train([data], tmp_path / str(half), tiny("znet", epochs=1, looks=1, bfloat16=half), device="cpu")["mse"]
        for half in (False, True)
    )
    assert first != second
    assert first == pytest.approx(second, rel=0.02)
    assert "half precision" in (tmp_path / "True" / "model_card.md").read_text()


def test_card_tells_what_the_table_says():
    row = {"set": "matched", "method": "znet", "chromophore": "water", "cases": "400", "contrast_true": "0.53"}
    row |= {"mse_body_mean": "1.25", "psnr_db_body_mean": "31.2", "ssim_body_mean": "0.91"}
    row |= {"contrast": "0.5", "contrast_error": "0.125"}
    others = [row | {"chromophore": "hbo", "mse_body_mean": "9.9"}, row | {"set": "mri-invisible"}]
    yardstick = row | {"method": "mri-only", "contrast_error": "0.19"}
    text = "\n".join(table_lines([row, *others, yardstick], "znet"))
    assert "| matched | 400 | 1.25 | 31.2 | 0.91 | 0.53 | 0.5 | 0.125 | 0.19 |" in text
    assert "| mri-invisible | 400 | 1.25 | 31.2 | 0.91 | 0.53 | 0.5 | 0.125 |  |" in text
    assert "MSE 0.05, PSNR (dB) 43.3, SSIM 0.99; here: MSE 1.25, PSNR (dB) 31.2, SSIM 0.91" in text
    assert "9.9" not in text
    with pytest.raises(InputError, match="no method 'hybrid'"):
        table_lines([row], "hybrid")


def test_another_seed_gives_other_weights(data, trained, tmp_path):
    train([data], tmp_path / "other", tiny("hybrid", seed=1), device="cpu")
    first, second = (read_checkpoint(f / "model.safetensors")[0] for f in (trained[0], tmp_path / "other"))
    assert not torch.equal(first["head.weight"], second["head.weight"])


def test_what_it_refuses(data, trained, tmp_path):
    with pytest.raises(InputError, match="other settings"):
        train([data], trained[0], tiny("hybrid", seed=7))
    generate_dataset(tmp_path / "ellipse", replace(DATA, half_axes_mm=(36.0, 46.0), count=4))
    with pytest.raises(InputError, match="reads raw data of 16 fibers around a disc"):
        train([tmp_path / "ellipse"], tmp_path / "znet", tiny("znet"))
    generate_dataset(tmp_path / "two", replace(DATA, wavelengths_nm=(661.0, 808.0), count=4))
    with pytest.raises(InputError, match="other wavelengths"):
        train([data, tmp_path / "two"], tmp_path / "mixed", tiny("hybrid"))
    with pytest.raises(InputError, match="too small"):
        generate_dataset(tmp_path / "one", replace(DATA, count=2))
        train([tmp_path / "one"], tmp_path / "few", tiny("hybrid"))
    with pytest.raises(InputError, match="at least one"):
        train([], tmp_path / "none", tiny("hybrid"))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "settings.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        train([data], tmp_path / "bad", tiny("hybrid"))


def test_light_that_is_not_a_number_ends_in_an_error(tmp_path):
    import numpy as np

    generate_dataset(tmp_path / "set", replace(DATA, count=4))
    path = tmp_path / "set" / "shard_00000.npz"
    with np.load(path, allow_pickle=False) as content:
        arrays = dict(content)
    arrays["log_amplitude"][1, 0, 0] = np.nan
    np.savez(path, **arrays)
    with pytest.raises(InputError, match="not a number"):
        train([tmp_path / "set"], tmp_path / "run", tiny("hybrid"))


def test_networks_of_raw_data_train_from_the_command_line(data, tmp_path, capsys):
    for network in ("znet", "ynet", "no-mri", "mri-only"):
        options = ["--network", network, "--small", "--width", "2", "--pixels", "24", "--epochs", "1", "--looks", "1"]
        output = tmp_path / network
        assert main(["train", *options, "--data", str(data), "--output", str(output), "--json", "--device", "cpu"]) == 0
        assert json.loads(capsys.readouterr().out)["network"] == network
        trained = read_network(output / "model.safetensors", "cpu")
        assert trained.settings.network == network
        assert trained.scale is not None
        assert len(trained.scale.mean) == 3
    assert main(["train", "--data", str(tmp_path / "nowhere"), "--output", str(tmp_path / "x")]) == 2
    assert "holds no data set" in capsys.readouterr().err


TWO_PROCESSES = """
import os, sys
from contextlib import nullcontext
from dataclasses import replace
from BreastBiomarkersLib import training
from NIRSTReconstructionLib import train
from NIRSTReconstructionLib.network_settings import PRESETS, PhysicsSettings, small

validate = train._validate

def validate_and_keep(network, *others):
    parameters = dict(network.named_parameters())
    training.write_checkpoint(f"{output}/rank{os.environ['RANK']}.safetensors", parameters, {})
    return validate(network, *others)

train._validate = validate_and_keep
few = {"width": 2, "pixels": 24, "epochs": 1, "batch": 3, "looks": 1, "validation_share": 0.4}
physics = PhysicsSettings(lattice_mm=14.0, blob_mm=10.0, cell_mm=7.0)
with training.joined_processes("cpu") as processes:  # once for both: gloo cannot be joined again
    train.joined_processes = lambda device: nullcontext(processes)
    for network in ("znet", "hybrid"):
        output = f"{sys.argv[1]}/{network}"
        train.train([sys.argv[2]], output, replace(small(PRESETS[network]), **few, physics=physics), device="cpu")
os._exit(0)  # threads of gloo that outlive it can abort an interpreter on its way out
"""


def test_two_processes_train_one_network(data, tmp_path):
    """As torchrun starts them, with gloo on the CPU; both end with the same weights."""
    (tmp_path / "both.py").write_text(TWO_PROCESSES)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(tmp_path / "both.py"), str(tmp_path), str(data)]
    libraries = [str(ROOT / name) for name in ("WeakSegment", "NIRSTReconstruction")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(libraries), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    for network in ("znet", "hybrid"):
        folder = tmp_path / network
        first, second = (read_checkpoint(folder / f"rank{rank}.safetensors")[0] for rank in (0, 1))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
        finished = read_network(folder / "model.safetensors", "cpu")
        assert all(torch.equal(value, first[name]) for name, value in finished.network.named_parameters())
        assert json.loads((folder / "settings.json").read_text())["processes"] == 2
        with (folder / "history.csv").open() as file:
            assert [row["epoch"] for row in csv.DictReader(file)] == ["1"]
    with pytest.raises(InputError, match="other settings or data"):
        train([data], tmp_path / "znet", finished.settings)
