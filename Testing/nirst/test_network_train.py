"""Training: overfits one batch, goes on bit by bit where it stopped, and refuses what is not its own."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

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

DATA = DatasetSettings(
    count=20, seed=4, wavelengths_nm=(661.0, 808.0, 948.0), no_contrast=0.2, mri_invisible=0.2, shard_size=20
)
PHYSICS = PhysicsSettings(lattice_mm=9.0, blob_mm=6.5, cell_mm=4.0)


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
