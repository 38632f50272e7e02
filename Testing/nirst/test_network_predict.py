"""From a weights file and measured light to images in the patient; hostile files and foreign layouts are refused."""

from __future__ import annotations

import csv
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.training import read_checkpoint, write_checkpoint
from BreastBiomarkersLib.volume import Volume, read_volume
from NIRSTReconstructionLib.calibration import data_space
from NIRSTReconstructionLib.cli import main
from NIRSTReconstructionLib.dataset import DatasetSettings, generate_dataset
from NIRSTReconstructionLib.evaluate import COLUMNS, TEST_SETS, evaluate
from NIRSTReconstructionLib.fibers import Fibers
from NIRSTReconstructionLib.measurements import Measurements
from NIRSTReconstructionLib.meshing import circle_contour, ellipse_contour
from NIRSTReconstructionLib.network_data import model_of
from NIRSTReconstructionLib.network_settings import PRESETS, PhysicsSettings, small
from NIRSTReconstructionLib.networks import read_network
from NIRSTReconstructionLib.plane import Plane, slice_grid
from NIRSTReconstructionLib.predict import predict
from NIRSTReconstructionLib.spectra import Tissue, load_spectra
from NIRSTReconstructionLib.train import train

NM = (661.0, 808.0, 948.0)
DATA = DatasetSettings(count=8, seed=4, wavelengths_nm=NM, shard_size=20)
PHYSICS = PhysicsSettings(lattice_mm=9.0, blob_mm=6.5, cell_mm=4.0)
CENTER, RADIUS = np.array([14.0, -9.0]), 9.0
LESION = Tissue(24.0, 11.0, 0.40)


def tiny(network):
    return replace(
        small(PRESETS[network]), width=2, pixels=32, epochs=1, batch=6, looks=1, learning_rate=1e-6, physics=PHYSICS
    )


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Folder of a hybrid that has learned next to nothing, so that it gives the physics' image, and of a Z-Net."""
    folder = tmp_path_factory.mktemp("networks")
    generate_dataset(folder / "set", DATA)
    for network in ("hybrid", "znet", "mri-only"):
        train([folder / "set"], folder / network, tiny(network), device="cpu")
    return folder


def hybrid(networks):
    return read_network(networks / "hybrid" / "model.safetensors", "cpu")


def znet(networks):
    return read_network(networks / "znet" / "model.safetensors", "cpu")


class Exam:
    """A body with one lesion in a plane of the patient: fibers in RAS, light, and an MRI."""

    def __init__(self, plane, settings, contour, lesion=LESION):
        model = model_of(settings)
        background = Tissue(14.0, 7.0, 0.27)
        points = model.mesh.quadrature.points
        inside = np.hypot(*(points - CENTER).T) < RADIUS
        values = np.where(inside, lesion.values()[:, None], background.values()[:, None])
        self.plane, self.contour, self.spectra = plane, contour, model.spectra
        tips = plane.to_ras(model.optodes.detectors)
        self.fibers = Fibers(tips, tips)
        self.light = self._measured(model, model.measure(values, at_quadrature=True))
        uniform = Tissue(15.0, 8.0, 0.3).maps(len(points))
        self.reference = self._measured(model, model.measure(uniform, at_quadrature=True))
        grid = slice_grid(plane, contour.samples[1], 0.9, 6.0)
        gray = np.where(np.hypot(*(grid.points_mm - CENTER).T) < RADIUS, 90.0, 50.0)
        noisy = gray * (1 + 0.03 * np.random.default_rng(0).standard_normal(len(gray)))
        self.mri = grid.volume(noisy, "mri")

    @staticmethod
    def _measured(model, log_amplitude):
        return Measurements(
            wavelengths_nm=model.spectra.wavelengths_nm,
            channels=model.optodes.channels + 1,
            log_amplitude=log_amplitude - 3.0,  # an instrument has a gain
            sd=np.full(log_amplitude.shape, 0.01),
            active=np.ones(log_amplitude.shape, dtype=bool),
        )

    def predict(self, *networks, **changes):
        given = {"plane": self.plane, "reference": self.reference} | changes
        light, fibers = given.pop("light", self.light), given.pop("fibers", self.fibers)
        mri, spectra = given.pop("mri", self.mri), given.pop("spectra", self.spectra)
        return predict(networks, light, fibers, self.contour, spectra, mri, **given)


FLAT = Plane(np.eye(4))
a, b = np.deg2rad(25.0), np.deg2rad(-40.0)
TILT = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]) @ np.array(
    [[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]]
)
OBLIQUE = Plane(np.block([[TILT, np.array([[-31.0], [17.5], [102.0]])], [np.zeros((1, 3)), np.ones((1, 1))]]))


@pytest.fixture(scope="module")
def disc_exam():
    return Exam(OBLIQUE, replace(DATA, count=1), circle_contour(41.0))


def peak_ras(volume):
    """Return the center of what is above 80 % of the largest value, in RAS."""
    k, j, i = np.nonzero(volume.array > volume.array.min() + 0.8 * np.ptp(volume.array))
    return volume.points_to_ras(np.column_stack([i, j, k]).astype(float)).mean(axis=0)


def test_hybrid_on_an_ellipse_with_twelve_fibers_in_an_oblique_plane(networks):
    exam = Exam(OBLIQUE, replace(DATA, count=1, half_axes_mm=(48.0, 38.0), fiber_count=12), ellipse_contour(48.0, 38.0))
    result = exam.predict(hybrid(networks), reference=None)
    volumes = result.volumes()
    assert set(volumes) == {"hbo", "hbr", "water", "hbt", "sto2", "hbo_sd", "hbr_sd", "water_sd"}
    for name, tolerance in (("hbo", 1.5), ("water", 1.5)):
        off = peak_ras(volumes[name]) - OBLIQUE.to_ras(CENTER)[0]
        assert np.linalg.norm(off) < tolerance
    points = result.grid.points_mm.reshape(*result.grid.shape, 2)
    inside = np.hypot(*(points - CENTER).transpose(2, 0, 1)) < RADIUS - 2
    away = result.body & (np.hypot(*(points - CENTER).transpose(2, 0, 1)) > RADIUS + 4)
    assert result.values[0][inside].mean() / result.values[0][away].mean() == pytest.approx(24 / 14, rel=0.15)
    assert result.values[0][away].mean() == pytest.approx(14.0, rel=0.1)
    assert result.values[2][away].mean() == pytest.approx(27.0, rel=0.1)
    assert (result.values[:, ~result.body] == 0).all()
    total = volumes["hbt"].array
    np.testing.assert_allclose(total, volumes["hbo"].array + volumes["hbr"].array, rtol=1e-5)
    assert result.chi.max() < 1  # noise-free light, which the MRI's regions explain
    assert json.dumps(result.summary(), allow_nan=False)


def test_fiber_gains_without_a_reference(networks, disc_exam):
    rng = np.random.default_rng(3)
    source, detector = (disc_exam.light.channels - 1).T
    gains = rng.normal(0, 0.3, (3, 16))[:, source] + rng.normal(0, 0.3, (3, 16))[:, detector]
    spoiled = replace(disc_exam.light, log_amplitude=disc_exam.light.log_amplitude + gains)
    plain, other = (
        disc_exam.predict(hybrid(networks), reference=None, light=light) for light in (disc_exam.light, spoiled)
    )
    np.testing.assert_allclose(plain.values, other.values, atol=0.02)


def test_the_light_of_the_images_is_what_chi_says(networks, disc_exam, tmp_path):
    blank = disc_exam.mri.with_array(np.full(disc_exam.mri.array.shape, 50.0), "blank")  # the network is asked
    result = disc_exam.predict(hybrid(networks), mri=blank)
    space = data_space(result.measurements, "fibers")
    assert result.residual.shape == result.measurements.log_amplitude.shape
    expected = np.sqrt(np.nansum((result.residual / result.measurements.sd) ** 2, axis=1) / space.freedom)
    np.testing.assert_allclose(result.chi, expected)
    assert 0.3 < result.chi.mean() < 4
    tensors, record = read_checkpoint(networks / "hybrid" / "model.safetensors")
    tensors["head.bias"] = tensors["head.bias"] + torch.tensor([0.3, 0, 0, 0, 0, 0])
    write_checkpoint(tmp_path / "wrong.safetensors", tensors, record)
    skewed = read_network(tmp_path / "wrong.safetensors", "cpu")
    wrong = disc_exam.predict(skewed, mri=blank)
    assert wrong.chi.mean() > 2 * result.chi.mean()  # 30 % more HbO everywhere does not explain the light
    shown = disc_exam.predict(skewed)  # the MRI's regions explain the light: nothing is changed
    assert shown.chi.mean() < 0.5
    np.testing.assert_allclose(shown.values, disc_exam.predict(hybrid(networks)).values, atol=1e-3)


def test_several_networks_disagree(networks, disc_exam, tmp_path):
    tensors, record = read_checkpoint(networks / "hybrid" / "model.safetensors")
    tensors["head.bias"] = tensors["head.bias"] + torch.tensor([0.2, 0, 0, -9, -9, -9])
    write_checkpoint(tmp_path / "other.safetensors", tensors, record)
    other = read_network(tmp_path / "other.safetensors", "cpu")
    blank = disc_exam.mri.with_array(np.full(disc_exam.mri.array.shape, 50.0), "blank")
    one, two = (disc_exam.predict(*those, mri=blank) for those in ([hybrid(networks)], [hybrid(networks), other]))
    middle = one.values[0] + 0.1 * one.bulk.hbo
    np.testing.assert_allclose(two.values[0][two.body], middle[two.body], atol=0.01)
    spread = np.full(int(two.body.sum()), 0.2 * one.bulk.hbo / np.sqrt(2))
    np.testing.assert_allclose(two.sd[0][two.body], np.hypot(spread, one.sd[0][two.body] / np.sqrt(2)), rtol=0.02)
    with pytest.raises(InputError, match="several of one kind"):
        disc_exam.predict(hybrid(networks), znet(networks))


def test_raw_data_networks_follow_their_ring(networks, disc_exam):
    """Turned, moved and mirrored rings give the same values at the same fibers; the image lies where the fibers are."""
    trained = znet(networks)
    trained.network.head[1].weight.data *= 30  # untrained: let its images differ where its inputs do
    still = _noise_free(disc_exam)
    quiet = disc_exam.predict(trained, mri=still)
    assert quiet.values.shape == (3, 32, 32)
    assert quiet.grid.pixel_mm == pytest.approx(82 / 32)
    other = disc_exam.predict(trained, mri=still.with_array(still.array[:, ::-1], "mirrored"))
    assert np.abs(other.values - quiet.values).max() > 1
    turn = np.deg2rad(77.0)
    for flip in (1, -1):
        R = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.diag([1, flip])
        flat = model_of(replace(DATA, count=1)).optodes.detectors @ R.T + (30.0, -20.0)
        tips = FLAT.to_ras(flat)
        grid = slice_grid(FLAT, flat, 0.9, 12.0)
        local = (grid.points_mm - (30.0, -20.0)) @ R
        gray = np.where(np.hypot(*(local - CENTER).T) < RADIUS, 90.0, 50.0)
        moved = disc_exam.predict(trained, fibers=Fibers(tips, tips), plane=FLAT, mri=grid.volume(gray, "mri"))
        assert np.abs(moved.values - quiet.values).mean() < 0.1 * np.abs(other.values - quiet.values).mean()
        local = np.linalg.inv(moved.grid.plane.plane_to_ras) @ np.append(FLAT.to_ras(R @ CENTER + (30.0, -20.0))[0], 1)
        np.testing.assert_allclose(local[:2], CENTER, atol=0.1)
        assert moved.grid.plane.normal[2] == pytest.approx(flip)


@pytest.mark.parametrize("kind", [hybrid, znet])
def test_light_in_3d_gives_the_images_of_light_in_the_plane(networks, disc_exam, kind):
    trained = kind(networks)
    if kind is znet:
        trained.network.head[1].weight.data *= 30  # untrained: let its images differ where its inputs do
    deep = Exam(OBLIQUE, replace(DATA, count=1, source_model="point"), circle_contour(41.0))
    still = _noise_free(disc_exam)
    flat = disc_exam.predict(trained, mri=still).values
    right, wrong = (deep.predict(trained, mri=still, source_model=model).values for model in ("point", "line"))
    assert np.abs(right - flat).mean() < 0.2 * np.abs(wrong - flat).mean()


def _noise_free(exam):
    grid = slice_grid(exam.plane, exam.contour.samples[1], 0.9, 6.0)
    return grid.volume(np.where(np.hypot(*(grid.points_mm - CENTER).T) < RADIUS, 90.0, 50.0), "mri")


def test_raw_data_networks_refuse_what_they_do_not_know(networks, disc_exam):
    trained = znet(networks)
    ellipse = Exam(FLAT, replace(DATA, count=1, half_axes_mm=(44.0, 39.0)), ellipse_contour(44.0, 39.0))
    with pytest.raises(InputError, match="reads raw data of the fibers it was trained with"):
        ellipse.predict(trained)
    fewer = Exam(FLAT, replace(DATA, count=1, fiber_count=12), circle_contour(41.0))
    with pytest.raises(InputError, match="these data have the layout"):
        fewer.predict(trained)
    swapped = disc_exam.fibers.sources[[1, 0, *range(2, 16)]]
    with pytest.raises(InputError, match="layout"):
        disc_exam.predict(trained, fibers=Fibers(swapped, swapped))
    with pytest.raises(InputError, match="reference measurement"):
        disc_exam.predict(trained, reference=None)
    with pytest.raises(InputError, match="learned with the extinction table nirfast-1"):
        disc_exam.predict(trained, spectra=replace(disc_exam.spectra, table_name="mine"))
    two = {name: getattr(disc_exam, name).at_wavelengths(NM[:2]) for name in ("light", "reference")}
    with pytest.raises(InputError, match="reads light of 661, 808, 948 nm"):
        disc_exam.predict(trained, spectra=load_spectra(NM[:2]), **two)
    yardstick = read_network(networks / "mri-only" / "model.safetensors", "cpu")
    with pytest.raises(InputError, match="never sees the light"):
        disc_exam.predict(yardstick)


def test_missing_channels_and_order(networks, disc_exam):
    order = np.random.default_rng(0).permutation(240)
    order = order[~np.isin(disc_exam.light.channels[order], 7).any(axis=1)]
    kept = {name: getattr(disc_exam, name).at_channels(disc_exam.light.channels) for name in ("light", "reference")}
    some = {name: _some(measured, order) for name, measured in kept.items()}
    for trained in (hybrid(networks), znet(networks)):
        whole, part = disc_exam.predict(trained), disc_exam.predict(trained, **some)
        assert np.isfinite(part.values).all()
        assert np.abs(part.values - whole.values).max() < 0.35 * np.abs(whole.values).max()
        assert part.summary()["values_used"] == 3 * 210


def _some(measured, order):
    return replace(
        measured,
        channels=measured.channels[order],
        log_amplitude=measured.log_amplitude[:, order],
        sd=measured.sd[:, order],
        active=measured.active[:, order],
    )


def test_bad_mri_and_bulk_outside_the_training(networks, disc_exam):
    trained = hybrid(networks)
    hole = disc_exam.mri.array.copy()
    hole[0, :45] = np.nan
    with pytest.raises(InputError, match="covers only"):
        disc_exam.predict(trained, mri=disc_exam.mri.with_array(hole, "mri"))
    elsewhere = Volume(disc_exam.mri.array, disc_exam.mri.ijk_to_ras + np.eye(4, k=3) * 500, "elsewhere")
    with pytest.raises(InputError, match="covers only"):
        disc_exam.predict(trained, mri=elsewhere)
    flat = disc_exam.predict(trained, mri=disc_exam.mri.with_array(np.full_like(disc_exam.mri.array, 50.0), "flat"))
    assert np.isfinite(flat.values).all()  # an MRI without structure guides nothing, and says nothing wrong
    dark = Exam(FLAT, replace(DATA, count=1), circle_contour(41.0), lesion=Tissue(14.0, 7.0, 0.27))
    trained.record["background"]["high"][0] = 10.0
    remarks = dark.predict(trained).remarks
    assert any("hbo" in remark and "outside what the network has learned" in remark for remark in remarks)


def test_hostile_and_foreign_files(networks, tmp_path):
    good = (networks / "hybrid" / "model.safetensors").read_bytes()
    tensors, record = read_checkpoint(networks / "hybrid" / "model.safetensors")
    (tmp_path / "truncated.safetensors").write_bytes(good[: len(good) // 2])

    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    (tmp_path / "pickle.safetensors").write_bytes(pickle.dumps(Harm()))
    write_checkpoint(tmp_path / "other.safetensors", tensors, record | {"kind": "WeakSegment U-Net"})
    write_checkpoint(tmp_path / "newer.safetensors", tensors, record | {"format": 99})
    write_checkpoint(tmp_path / "bare.safetensors", tensors, {k: v for k, v in record.items() if k != "background"})
    for key, value in (("layout_ids", "x"), ("wavelengths_nm", "x"), ("background", "x"), ("light_scale", [1])):
        write_checkpoint(tmp_path / f"{key}.safetensors", tensors, record | {key: value})
    wide = record | {"settings": record["settings"] | {"width": 4}}
    write_checkpoint(tmp_path / "wide.safetensors", tensors, wide)
    huge = record | {"settings": record["settings"] | {"width": 10**9}}
    write_checkpoint(tmp_path / "huge.safetensors", tensors, huge)
    spoiled = tensors | {"head.weight": torch.full_like(tensors["head.weight"], torch.nan)}
    write_checkpoint(tmp_path / "nan.safetensors", spoiled, record)
    for name, words in (
        ("truncated", "truncated or no safetensors"),
        ("pickle", "truncated or no safetensors"),
        ("other", "holds WeakSegment U-Net"),
        ("newer", "format"),
        ("bare", "damaged"),
        ("layout_ids", "damaged"),
        ("wavelengths_nm", "damaged"),
        ("background", "damaged"),
        ("light_scale", "damaged"),
        ("wide", "another architecture"),
        ("huge", "width is 1000000000"),
        ("nan", "weight that is not a number"),
        ("nothing", "does not exist"),
    ):
        with pytest.raises(InputError, match=words):
            read_network(tmp_path / f"{name}.safetensors", "cpu")
    assert not (tmp_path / "harm").exists()


def test_command_line(networks, tmp_path, capsys):
    nm = [f"{value:g}" for value in NM]
    assert main(["simulate", "--wavelengths", *nm, "--seed", "3", "--output", str(tmp_path / "case")]) == 0
    capsys.readouterr()
    case = {name: str(tmp_path / "case" / name) for name in ("optodes.csv", "data.csv", "reference.csv", "mri.nrrd")}
    options = ["--optodes", case["optodes.csv"], "--data", case["data.csv"], "--mri", case["mri.nrrd"]]
    weights = str(networks / "hybrid" / "model.safetensors")
    output = tmp_path / "images"
    assert (
        main(
            [
                "predict",
                "--network",
                weights,
                *options,
                "--reference-data",
                case["reference.csv"],
                "--output",
                str(output),
                "--json",
            ]
        )
        == 0
    )
    figures = json.loads(capsys.readouterr().out)
    assert figures["values_used"] == 720
    found, truth = read_volume(output / "hbo.nrrd"), read_volume(tmp_path / "case" / "true_hbo.nrrd")
    assert figures["hbo_mean_uM"] == pytest.approx(truth.array[truth.array > 0].mean(), rel=0.1)
    assert found.array.shape[0] == 1
    assert main(["predict", "--network", case["data.csv"], *options, "--output", str(tmp_path / "no")]) == 2
    assert "no safetensors" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_evaluation_fills_the_table_and_goes_on(networks, tmp_path, monkeypatch):
    for name in ("matched", "half-the-optodes"):
        monkeypatch.setitem(
            TEST_SETS, name, replace(TEST_SETS[name], dataset=replace(TEST_SETS[name].dataset, wavelengths_nm=NM))
        )
    weights = [networks / name / "model.safetensors" for name in ("hybrid", "znet", "mri-only")]
    given = {"sets": ["matched", "half-the-optodes"], "count": 3, "other_count": 2, "slow_count": 1, "device": "cpu"}
    note = "made by\n this test"
    first = evaluate(weights, tmp_path, tmp_path / "table.csv", methods=["guided-step"], note=note, **given)
    assert first["rows"] == first["added"] == 2 * 4 * 3
    before = (tmp_path / "table.csv").read_bytes()
    again = evaluate(weights, tmp_path, tmp_path / "table.csv", methods=["guided-step"], note=note, **given)
    assert again["added"] == 0
    assert (tmp_path / "table.csv").read_bytes() == before
    only = given | {"sets": ["matched"], "note": note}
    evaluate([], tmp_path, tmp_path / "table.csv", methods=["hard-prior"], **only)
    with (tmp_path / "table.csv").open() as file:
        assert file.readline() == "# made by this test\n"
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    by_method = {(row["set"], row["method"], row["chromophore"]): row for row in rows}
    assert {key[1] for key in by_method} == {"hybrid", "znet", "mri-only", "guided-step", "hard-prior"}
    physics, network = (by_method["matched", name, "water"] for name in ("guided-step", "hybrid"))
    assert float(network["mse_body_mean"]) == pytest.approx(float(physics["mse_body_mean"]), rel=0.05)
    assert float(physics["contrast_error"]) < 0.25 < float(by_method["matched", "znet", "water"]["contrast_error"])
    assert by_method["matched", "hard-prior", "water"]["failed"] == "0"
    assert float(by_method["matched", "hard-prior", "water"]["mse_body_mean"]) < 4
    assert 0 < float(network["covered_95_percent"]) <= 100
    assert network["cases"] == "3"
    with pytest.raises(InputError, match="Unknown 'magic'"):
        evaluate(weights, tmp_path, tmp_path / "table.csv", methods=["magic"], **given)
    (tmp_path / "foreign.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="not a table"):
        evaluate(weights, tmp_path, tmp_path / "foreign.csv", methods=["guided-step"], **given)
