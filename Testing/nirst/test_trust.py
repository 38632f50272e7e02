import json
from dataclasses import replace

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from NIRSTReconstructionLib.cli import main
from NIRSTReconstructionLib.images import contrast_table, image_grid
from NIRSTReconstructionLib.plane import Plane, distance_to_polygon, slice_grid
from NIRSTReconstructionLib.reconstruct import ReconstructionSettings
from NIRSTReconstructionLib.spectra import Tissue
from NIRSTReconstructionLib.trust import (
    CHI_ACCEPTED,
    CHI_REFUSED,
    GREEN,
    NOT_ASSESSED,
    RED,
    YELLOW,
    Case,
    Check,
    assess_trust,
    chi_groups,
    lesion_readout,
    overall_chi,
    shifted,
    uncertainty_on_grid,
)

FLAT = Plane(np.eye(4))
BACKGROUND, LESION = Tissue(14.0, 7.0, 0.25), Tissue(25.0, 11.0, 0.40)  # of the fixture `disc`


def made(disc, lesion=LESION, noise=0.01, at=None, **changes):
    """A case whose MRI shows the lesion, or (`at`) shows one elsewhere."""
    image, mask = disc.image(FLAT)
    if at is not None:
        grid = image_grid_of(disc)
        body = np.hypot(*grid.points_mm.T) < 30
        by = np.array(at) - np.array([9.0, -6.0])
        image, mask = (shifted(v, grid, body, by, labels) for v, labels in ((image, False), (mask, True)))
    data = disc.measurements(disc.light(lesion), noise)
    case = Case(data, disc.fibers, disc.contour, disc.spectra, FLAT, images=[image], regions=mask)
    return replace(case, **changes), mask


def image_grid_of(disc):
    return slice_grid(FLAT, disc.contour.samples[1], 0.8, 8.0)


def settings(method, **changes):
    return ReconstructionSettings(method=method, gains="global", basis_nodes=120, element_size_mm=4.5, **changes)


@pytest.fixture(scope="module")
def right(disc):
    case, mask = made(disc)
    return case, mask, case.reconstruct(settings("hard-prior"))


@pytest.fixture(scope="module")
def report(right):
    case, mask, result = right
    return assess_trust(result, case, mask)


def test_a_right_reconstruction_is_green_with_every_check_made(report):
    assert report.light == GREEN, report.reason
    assert {check.name: check.light for check in report.checks} == dict.fromkeys(
        ("residual", "tested range", "geometry and iteration", "uncertainty", "agreement", "MRI swap"), GREEN
    )
    assert set(report.contrasts) == {
        "hard-prior",
        "dri",
        "tikhonov",
        "MRI shifted, where it showed the lesion",
        "MRI shifted, where it shows the lesion",
    }
    assert report.contrasts["MRI shifted, where it showed the lesion"]["chi"] > CHI_ACCEPTED[1]


def test_chi_of_groups_adds_up_to_the_whole(right, report):
    _, _, result = right
    assert report.chi == pytest.approx(
        np.sqrt(np.sum(result.chi**2 * result.space.freedom) / result.space.freedom.sum())
    )
    np.testing.assert_allclose(list(report.chi_by_wavelength.values()), result.chi, rtol=1e-9)
    assert list(report.chi_by_source) == [str(n) for n in range(1, 17)]
    np.testing.assert_allclose(np.sqrt(np.mean(np.square(list(report.chi_by_source.values())))), report.chi, rtol=0.01)
    np.testing.assert_allclose(
        np.sqrt(np.mean(np.square(list(report.chi_by_detector.values())))), report.chi, rtol=0.01
    )


def test_report_is_json(report):
    summary = json.loads(json.dumps(report.summary(), allow_nan=False))
    assert summary["light"] == "green"
    assert "no diagnosis" in summary["readout_note"]


def test_readout_finds_the_true_ratios_within_their_intervals(report):
    truth = {
        "hbt": (LESION.hbo + LESION.hbr) / (BACKGROUND.hbo + BACKGROUND.hbr),
        "sto2": LESION.hbo / (LESION.hbo + LESION.hbr) / (BACKGROUND.hbo / (BACKGROUND.hbo + BACKGROUND.hbr)),
        "water": LESION.water / BACKGROUND.water,
        "toi": LESION.hbr * LESION.water / (BACKGROUND.hbr * BACKGROUND.water),
    }
    assert [reading.quantity for reading in report.readout] == list(truth)
    for reading in report.readout:
        margin = reading.high - reading.ratio
        assert abs(reading.ratio - truth[reading.quantity]) < 2.5 * margin  # model error of the coarse mesh added
        assert reading.low < reading.ratio < reading.high
    assert "higher" in report.readout[0].words


def test_lipid_enters_the_index_only_where_it_was_reconstructed(right):
    _, mask, result = right
    assert lesion_readout(result, mask)[3].unit == "uM, without lipid"


def test_no_contrast_covers_one(disc):
    case, mask = made(disc, lesion=BACKGROUND)
    readings = lesion_readout(case.reconstruct(settings("hard-prior")), mask)
    assert sum(r.low <= 1 <= r.high for r in readings) >= 3
    assert max(abs(r.ratio - 1) for r in readings[:3]) < 0.06
    assert readings[0].words == "not distinguishable from the background"


def test_lesion_that_the_mri_shows_elsewhere_is_flagged_red_with_the_reason(disc):
    case, _ = made(disc, at=(-10.0, 8.0))
    result = case.reconstruct(settings("hard-prior"))
    assert overall_chi(result) > CHI_REFUSED
    report = assess_trust(result, case)
    assert report.light == RED
    assert "times the noise" in report.reason
    assert "wrong prior" in report.reason


def test_dri_with_the_mri_elsewhere_is_not_green(disc):
    """DRI fits nearly any data: its residual does not tell, that of the hard prior does."""
    case, mask = made(disc, at=(-10.0, 8.0))
    result = case.reconstruct(settings("dri"))
    assert overall_chi(result) < CHI_REFUSED
    report = assess_trust(result, case, mask)
    assert report.light != GREEN
    assert {c.name: c.light for c in report.checks}["residual"] == GREEN
    assert "structure, such as another lesion" in report.reason


def test_overstated_noise_and_a_bad_fiber_are_warnings(disc, right):
    case, _, _ = right
    calm = replace(case, measurements=case.measurements.with_noise(0.02))
    result = calm.reconstruct(settings("hard-prior"))
    first = assess_trust(result, calm).checks[0]
    assert (first.light, first.name) == (YELLOW, "residual")
    assert "overstated" in first.reason

    values = case.measurements.log_amplitude.copy()
    own = case.measurements.channels[:, 1] == 7
    values[:, own] += 0.025 * np.random.default_rng(3).standard_normal((len(values), own.sum()))
    bad = replace(case, measurements=replace(case.measurements, log_amplitude=values))
    result = bad.reconstruct(settings("hard-prior"))
    detectors = chi_groups(result)[2]
    assert max(detectors, key=detectors.get) == "7"
    residual = assess_trust(result, bad).checks[0]
    assert residual.light == YELLOW


def test_without_lesion_what_cannot_be_assessed_is_said(right):
    case, _, result = right
    report = assess_trust(result, case)
    assert report.light == GREEN
    assert report.readout == ()
    assert [c.name for c in report.checks if c.light == "not assessed"] == ["agreement", "MRI swap"]


def test_tissue_outside_the_tested_range_is_named(right):
    case, _, result = right
    strange = replace(result, bulk=result.bulk._replace(tissue=replace(result.bulk.tissue, hbo=34.0)))
    check = assess_trust(strange, case).checks[1]
    assert check.light == YELLOW
    assert "hbo is 34" in check.reason


def test_uncertainty_image_of_regions_is_their_standard_error(right):
    _, mask, result = right
    images = uncertainty_on_grid(result)
    grid = image_grid(result)
    at = int(np.argmin(np.linalg.norm(grid.points_mm - [9.0, -6.0], axis=1)))
    for row in contrast_table(result, mask):
        sd = images[row.quantity].array
        assert sd.ravel()[at] == pytest.approx(row.lesion_se, rel=1e-3)
        outside = distance_to_polygon(grid.points_mm, result.outline_mm) > 0
        assert (sd.ravel()[outside] == 0).all()
        assert (sd.ravel()[~outside] > 0).all()


def test_shifted_image_moves_by_the_vector_and_fills_with_background(disc):
    _, mask = disc.image(FLAT)
    grid = image_grid_of(disc)
    body = np.hypot(*grid.points_mm.T) < 30
    moved = shifted(mask, grid, body, np.array([-7.0, 4.0]), labels=True)
    center = grid.points_mm[moved.array.ravel() > 0].mean(axis=0)
    np.testing.assert_allclose(center, [2.0, -2.0], atol=0.5)
    image, _ = disc.image(FLAT)
    gray = shifted(image, grid, body, np.array([10.0, 0.0]), labels=False).array.ravel()
    assert gray[body].min() > 30, "no air moves into the body"
    matrix = mask.ijk_to_ras.copy()
    matrix[0, 3] += 500.0
    with pytest.raises(InputError, match="does not reach"):
        shifted(replace(mask, ijk_to_ras=matrix), grid, body, np.ones(2), labels=True)


def test_command_writes_the_report_and_the_uncertainty(tmp_path, capsys):
    case, out = tmp_path / "case", tmp_path / "out"
    fibers = ["--fibers", "12", "--wavelengths", "735", "808", "903"]
    assert main(["simulate", *fibers, "--inclusions", "0", "--seed", "3", "--output", str(case)]) == 0
    files = ["--optodes", str(case / "optodes.csv"), "--data", str(case / "data.csv")]
    files += ["--reference-data", str(case / "reference.csv")]
    capsys.readouterr()
    assert main(["reconstruct", *files, "--trust", "--output", str(out), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    written = json.loads((out / "trust.json").read_text())
    assert figures["trust"] == written["light"]
    assert written["light"] in ("green", "yellow", "red")
    assert {check["name"] for check in written["checks"]} >= {"residual", "agreement", "MRI swap", "uncertainty"}
    assert {p.name for p in out.glob("*_sd.nrrd")} == {f"{q}_sd.nrrd" for q in ("hbo", "hbr", "water", "hbt", "sto2")}


def test_checks_made_elsewhere_count(right):
    case, _, result = right
    far = Check("training data", RED, "the light is unlike any the network has seen")
    report = assess_trust(result, case, further_checks=[far])
    assert report.light == RED
    assert report.reason == "training data: the light is unlike any the network has seen"


def test_swap_is_assessed_only_where_an_mri_was_used(right):
    case, mask, result = right
    alone = replace(case, images=(), regions=None)
    for method, says in (("adaptive", "adaptive was given no MRI"), ("linear", "linear does not use the MRI")):
        named = replace(result, settings=replace(result.settings, method=method))
        (swap,) = (check for check in assess_trust(named, alone, mask).checks if check.name == "MRI swap")
        assert (swap.light, swap.reason) == (NOT_ASSESSED, says)
