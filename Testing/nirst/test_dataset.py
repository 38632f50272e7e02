"""Data sets: equal for equal seeds, resumable, in parallel, and suspicious of what is in the folder."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Cancelled
from NIRSTReconstructionLib.cli import main
from NIRSTReconstructionLib.dataset import DatasetSettings, generate_dataset, read_settings, read_shard

SMALL = DatasetSettings(
    count=10, seed=3, wavelengths_nm=(661.0, 912.0), fiber_count=8, element_size_mm=6.0, shard_size=4
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "set"
    assert generate_dataset(folder, SMALL) == {"phantoms": 10, "generated": 10, "shards": 3, "device": "cpu"}
    return folder


def test_phantoms_and_data_belong_together(folder):
    assert read_settings(folder) == SMALL
    model, number = SMALL.model(), 0
    for shard in range(3):
        data, phantoms = read_shard(folder, shard)
        assert data.shape == (len(phantoms), 2, 56)
        for phantom in phantoms:
            assert phantom == SMALL.phantom(number)
            number += 1
        exact = model.measure(phantoms[-1].values(model.mesh.quadrature.points), at_quadrature=True)
        np.testing.assert_allclose(data[-1], exact, rtol=1e-6)
    assert number == 10
    assert json.loads((folder / "dataset.json").read_text())["model"]["extinction_table"] == "nirfast-1"


def test_an_interrupted_run_continues(tmp_path, folder):
    def stop(fraction, message):
        if message == "shard 2 of 3":
            raise Cancelled

    with pytest.raises(Cancelled):
        generate_dataset(tmp_path / "set", SMALL, progress=stop)
    assert sorted(p.name for p in (tmp_path / "set").iterdir()) == [
        "dataset.json",
        "shard_00000.npz",
        "shard_00001.npz",
    ]
    before = (tmp_path / "set" / "shard_00000.npz").stat().st_mtime_ns
    assert generate_dataset(tmp_path / "set", SMALL)["generated"] == 2
    assert (tmp_path / "set" / "shard_00000.npz").stat().st_mtime_ns == before
    for shard in range(3):
        np.testing.assert_array_equal(read_shard(tmp_path / "set", shard)[0], read_shard(folder, shard)[0])


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="dask.distributed is not installed")
def test_two_workers_give_the_same_numbers(tmp_path, folder):
    generate_dataset(tmp_path / "set", SMALL, workers=2)
    for shard in range(3):
        data, phantoms = read_shard(tmp_path / "set", shard)
        expected, expected_phantoms = read_shard(folder, shard)
        assert phantoms == expected_phantoms
        np.testing.assert_array_equal(data, expected)


def test_shares_of_mismatched_phantoms():
    settings = replace(SMALL, no_contrast=0.3, mri_invisible=0.2)
    drawn = [settings.phantom(n) for n in range(400)]
    equal = np.mean([phantom.inclusions[0].tissue == phantom.background for phantom in drawn])
    hidden = np.mean([not phantom.inclusions[0].in_mri for phantom in drawn])
    assert equal == pytest.approx(0.3, abs=0.08)
    assert hidden == pytest.approx(0.2, abs=0.07)


def test_other_settings_and_foreign_folders_are_refused(tmp_path, folder):
    with pytest.raises(InputError, match="other settings"):
        generate_dataset(folder, replace(SMALL, seed=4))
    (tmp_path / "holiday.txt").write_text("keep")
    with pytest.raises(InputError, match="not empty"):
        generate_dataset(tmp_path, SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.txt"]


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[1]", "{", '{"format": "nirst-dataset-1", "settings": {"count": "x"}}']
)
def test_damaged_description_is_named_in_plain_words(tmp_path, text):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(InputError, match=r"dataset\.json' is damaged\. Generate the data set anew\.$"):
        read_settings(tmp_path)


def test_damage_is_named(tmp_path, folder):
    with pytest.raises(InputError, match="no dataset.json"):
        read_settings(tmp_path)
    (tmp_path / "dataset.json").write_text('{"format": "other"}')
    with pytest.raises(InputError, match="format 'other'"):
        read_settings(tmp_path)
    (tmp_path / "dataset.json").write_text('{"format": ')
    with pytest.raises(InputError, match="damaged"):
        read_settings(tmp_path)
    shutil.copy(folder / "dataset.json", tmp_path)
    with pytest.raises(InputError, match="missing"):
        read_shard(tmp_path, 0)
    whole = (folder / "shard_00000.npz").read_bytes()
    (tmp_path / "shard_00000.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged"):
        read_shard(tmp_path, 0)
    np.savez(tmp_path / "shard_00001.npz", log_amplitude=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="damaged"):
        read_shard(tmp_path, 1)
    with np.load(folder / "shard_00002.npz") as file:
        arrays = dict(file)
    for name, cut in (("log_amplitude", np.s_[:, :, :5]), ("log_amplitude", np.s_[:1]), ("background", np.s_[:1])):
        np.savez(tmp_path / "shard_00002.npz", **{**arrays, name: arrays[name][cut]})
        with pytest.raises(InputError, match="damaged"):
            read_shard(tmp_path, 2)
    np.savez(tmp_path / "shard_00002.npz", **arrays)
    assert len(read_shard(tmp_path, 2)[1]) == 2


@pytest.mark.parametrize(
    "change, words",
    [
        ({"count": 0}, "1 to"),
        ({"shard_size": 0}, "per file"),
        ({"preset": "brain"}, "preset"),
        ({"no_contrast": 0.9, "mri_invisible": 0.9}, "shares"),
    ],
)
def test_impossible_settings_are_refused(change, words):
    with pytest.raises(InputError, match=words):
        replace(SMALL, **change)


def test_command(tmp_path, capsys):
    options = ["--count", "3", "--fibers", "6", "--wavelengths", "785", "--output", str(tmp_path / "set")]
    assert main(["generate", *options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["generated"] == 3
    assert read_shard(tmp_path / "set", 0)[0].shape == (3, 1, 30)
    assert main(["generate", *options, "--seed", "9"]) == 2


def test_an_elliptic_body_has_even_fibers_and_inclusions_inside():
    settings = replace(SMALL, half_axes_mm=(36.0, 46.0), seed=5)
    optodes = settings.model().optodes
    gaps = np.linalg.norm(np.diff(optodes.detectors, axis=0), axis=1)
    assert np.ptp(gaps) < 0.04 * gaps.mean()
    np.testing.assert_allclose(np.abs(optodes.detectors).max(axis=0), (36, 46), rtol=0.02)
    for number in range(30):
        for inclusion in settings.phantom(number).inclusions:
            angles = np.linspace(0, 2 * np.pi, 60)
            rim = np.array(inclusion.center_mm) + inclusion.radius_mm * np.column_stack(
                [np.cos(angles), np.sin(angles)]
            )
            assert ((rim / (36, 46)) ** 2).sum(axis=1).max() < 1
    with pytest.raises(InputError, match="Half axes"):
        replace(SMALL, half_axes_mm=(12.0, 41.0))
