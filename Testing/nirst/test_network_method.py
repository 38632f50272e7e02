"""The shipped networks as methods of `reconstruct`: lesion found, standard deviation honest, the rest refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.training import read_checkpoint
from BreastBiomarkersLib.volume import Volume, read_volume
from NIRSTReconstructionLib.cli import main
from NIRSTReconstructionLib.dataset import DatasetSettings
from NIRSTReconstructionLib.fibers import Fibers
from NIRSTReconstructionLib.images import contrast_table, sample_on_grid
from NIRSTReconstructionLib.meshing import circle_contour
from NIRSTReconstructionLib.network_data import model_of
from NIRSTReconstructionLib.network_method import CAUTION, ImageBasis, shipped_networks, why_not
from NIRSTReconstructionLib.noise import NoiseModel
from NIRSTReconstructionLib.phantoms import Inclusion, Phantom, simulate_case
from NIRSTReconstructionLib.plane import Plane, SliceGrid
from NIRSTReconstructionLib.reconstruct import ReconstructionSettings, reconstruct
from NIRSTReconstructionLib.spectra import PAPER_WAVELENGTHS_NM, Tissue
from NIRSTReconstructionLib.trust import uncertainty_on_grid

PLANE = Plane(np.eye(4))
BACKGROUND, LESION = Tissue(12.0, 6.0, 0.25), Tissue(20.0, 10.0, 0.38)
CENTER, RADIUS = (12.0, -10.0), 10.0


class Exam:
    """A disc with one lesion, its data, and what `reconstruct` is given."""

    def __init__(self, in_mri=True, lesion=LESION):
        self.model = model_of(DatasetSettings(count=1))
        phantom = Phantom(BACKGROUND, (Inclusion(CENTER, RADIUS, lesion, in_mri),))
        self.case = simulate_case(phantom, self.model, NoiseModel(), np.random.default_rng(0))
        tips = np.column_stack([self.model.optodes.detectors, np.zeros(16)])
        self.fibers = Fibers(tips, tips)

    @property
    def lesion(self):
        points = self.case.mri.points_to_ras(np.argwhere(np.ones(self.case.mri.shape))[:, ::-1].astype(float))
        inside = np.hypot(points[:, 0] - CENTER[0], points[:, 1] - CENTER[1]) <= RADIUS
        return self.case.mri.with_array(inside.reshape(self.case.mri.shape).astype(np.int16), "lesion")

    def reconstruct(self, method, **changes):
        given = {"reference": self.case.reference, "images": [self.case.mri], "plane": PLANE} | changes
        fibers = given.pop("fibers", self.fibers)
        measured = given.pop("measured", self.case.measured)
        contour = circle_contour(41.0)
        return reconstruct(measured, fibers, contour, self.model.spectra, ReconstructionSettings(method), **given)


@pytest.fixture(scope="module")
def exam():
    return Exam()


@pytest.fixture(scope="module")
def hybrid(exam):
    return exam.reconstruct("hybrid")


def test_every_network_is_there_and_small():
    shipped = shipped_networks()
    assert set(shipped) == {"hybrid", "znet"}
    for paths in shipped.values():
        for path in paths:
            assert path.stat().st_size < 5e6
            _, record = read_checkpoint(path)
            card = path.with_suffix(".md").read_text()
            for words in (*record["layout_ids"], f"seed {record['settings']['seed']}", "Recipe", "mri-invisible"):
                assert words in card


def test_hybrid_finds_the_lesion(exam, hybrid):
    rows = {row.quantity: row for row in contrast_table(hybrid, exam.lesion)}
    for quantity, true in (("hbo", 20 / 12), ("hbr", 10 / 6), ("water", 0.38 / 0.25)):
        assert rows[quantity].ratio == pytest.approx(true, rel=0.12)
        assert abs(rows[quantity].ratio - true) < 4 * rows[quantity].ratio_se
        assert 0.005 < rows[quantity].ratio_se < 0.3
    assert rows["hbo"].background == pytest.approx(12.0, rel=0.03)
    assert 0.8 < np.sqrt(np.mean(hybrid.chi**2)) < 3
    assert "hybrid" in hybrid.reason
    assert json.dumps(hybrid.summary(), allow_nan=False)


def test_images_and_standard_deviations_are_those_of_the_network(exam, hybrid):
    from NIRSTReconstructionLib.networks import read_network
    from NIRSTReconstructionLib.predict import predict

    networks = [read_network(path) for path in shipped_networks()["hybrid"]]
    given = {"plane": PLANE, "reference": exam.case.reference}
    contour = circle_contour(41.0)
    found = predict(networks, exam.case.measured, exam.fibers, contour, exam.model.spectra, exam.case.mri, **given)
    inner = np.hypot(*found.grid.points_mm.T).reshape(found.grid.shape) < 38
    images, deviations = sample_on_grid(hybrid, found.grid), uncertainty_on_grid(hybrid, found.grid)
    for n, name in enumerate(("hbo", "hbr", "water")):
        np.testing.assert_allclose(images[name].array[0][inner], found.values[n][inner], rtol=1e-3)
        np.testing.assert_allclose(deviations[name].array[0][inner], found.sd[n][inner], rtol=1e-3)


def test_the_light_has_the_last_word(exam):
    """A lesion that the MRI hides is found, and one that only the MRI shows is not painted."""
    for given, true in ((Exam(in_mri=False), 20 / 12 - 1), (Exam(lesion=BACKGROUND), 0.0)):
        rows = {row.quantity: row for row in contrast_table(given.reconstruct("hybrid"), exam.lesion)}
        assert rows["hbo"].ratio - 1 == pytest.approx(true, abs=0.25)


def test_znet_on_its_own_ring_turned(exam):
    """The network of raw data follows its fibers; its image lies where they are."""
    turn = np.deg2rad(40.0)
    R = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    tips = exam.fibers.detectors @ R.T
    matrix = np.eye(4)
    matrix[:3, :3] = R
    mri = Volume(exam.case.mri.array, matrix @ exam.case.mri.ijk_to_ras, "turned")
    plain = exam.reconstruct("znet")
    assert CAUTION["znet"] in plain.remarks
    turned = exam.reconstruct("znet", fibers=Fibers(tips, tips), images=[mri])
    points = np.random.default_rng(0).uniform(-25, 25, (200, 2))
    at_turned = points @ R[:2, :2].T
    np.testing.assert_allclose(turned.maps_at(at_turned)[:3], plain.maps_at(points)[:3], rtol=0.08)
    assert plain.maps_at(points)[0].mean() == pytest.approx(12.5, rel=0.3)


def test_what_they_refuse(exam):
    with pytest.raises(InputError, match="needs an MRI"):
        exam.reconstruct("hybrid", images=[])
    with pytest.raises(InputError, match="needs a reference measurement"):
        exam.reconstruct("znet", reference=None)
    fewer = exam.case.measured.at_wavelengths(PAPER_WAVELENGTHS_NM[:4])
    with pytest.raises(InputError, match="reads raw data of a ring of 16 fibers"):
        exam.reconstruct("znet", measured=fewer)
    swapped = exam.fibers.detectors[[1, 0, *range(2, 16)]]
    with pytest.raises(InputError, match="layout"):
        exam.reconstruct("znet", fibers=Fibers(swapped, swapped))
    with pytest.raises(InputError, match="no other maps"):
        ReconstructionSettings("hybrid", parameters=("hbo", "hbr"))


def test_menus_are_told_why_not():
    nine = PAPER_WAVELENGTHS_NM
    assert why_not("hybrid", nine[:3], 12, True, False) == ""
    assert why_not("znet", nine, 16, True, True) == ""
    assert "three wavelengths" in why_not("hybrid", nine[:2], 16, True, True)
    assert "MRI" in why_not("hybrid", nine, 16, False, True)
    assert "reference" in why_not("znet", nine, 16, True, False)
    assert "ring" in why_not("znet", nine, 12, True, True)
    assert "No weights" in why_not("other", nine, 16, True, True)


def test_basis_of_images_is_linear_between_pixels():
    grid = SliceGrid(PLANE, np.array([-2.0, -1.0]), 0.5, (5, 9))
    x, y = grid.points_mm.T.reshape(2, 5, 9)
    turned = np.eye(4)
    turned[:2, :2] = [[0.0, -1.0], [1.0, 0.0]]
    basis = ImageBasis(grid, np.stack([3 * x - y, np.ones_like(x)]), Plane(turned))
    points = np.array([[0.3, 0.2], [-0.55, 1.1]])
    expected = 3 * -points[:, 1] - points[:, 0]  # x = -second, y = first axis of the turned plane
    np.testing.assert_allclose(basis.at(points).toarray(), np.column_stack([expected, np.ones(2)]), atol=1e-9)


def test_command_line_with_trust(tmp_path, capsys):
    assert main(["simulate", "--seed", "3", "--output", str(tmp_path / "case")]) == 0
    capsys.readouterr()
    case = {name: str(tmp_path / "case" / name) for name in ("optodes.csv", "data.csv", "reference.csv", "mri.nrrd")}
    options = ["--optodes", case["optodes.csv"], "--data", case["data.csv"], "--mri", case["mri.nrrd"]]
    options += ["--reference-data", case["reference.csv"], "--output", str(tmp_path / "out"), "--trust", "--json"]
    assert main(["reconstruct", "--method", "hybrid", *options]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["method"] == "hybrid"
    assert figures["trust"] in ("green", "yellow", "red")
    found, truth = read_volume(tmp_path / "out" / "hbo.nrrd"), read_volume(tmp_path / "case" / "true_hbo.nrrd")
    assert found.array[found.array > 0].mean() == pytest.approx(truth.array[truth.array > 0].mean(), rel=0.05)
    assert read_volume(tmp_path / "out" / "hbo_sd.nrrd").array.max() > 0
    assert main(["predict", "--network", "hybrid", *options[:6], "--output", str(tmp_path / "images"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["networks"] == [path.name for path in shipped_networks()["hybrid"]]
