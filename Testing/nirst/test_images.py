import csv
from dataclasses import replace

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from NIRSTReconstructionLib.fibers import Fibers
from NIRSTReconstructionLib.images import (
    IMAGE_UNITS,
    _readings,
    contrast_table,
    image_grid,
    sample_on_grid,
    write_contrast,
    write_residual,
)
from NIRSTReconstructionLib.plane import plane_from_normal
from NIRSTReconstructionLib.reconstruct import ReconstructionSettings, reconstruct
from NIRSTReconstructionLib.simulation import check_tissue, fibers_on_contour, simulate_on_plane
from NIRSTReconstructionLib.spectra import Tissue

PLANE = plane_from_normal([40.0, -25.0, 60.0], [0.4, -0.5, 0.7])
SETTINGS = ReconstructionSettings(method="hard-prior", element_size_mm=4.0, basis_nodes=200)


@pytest.fixture(scope="module")
def oblique_case(disc):
    """A reconstruction in an oblique plane, and its lesion mask."""
    positions = PLANE.to_ras(disc.fibers.sources[:, :2])
    lesion = disc.image(PLANE)[1]
    measured = disc.measurements(disc.light())
    result = reconstruct(
        measured, Fibers(positions, positions), disc.contour, disc.spectra, SETTINGS, plane=PLANE, regions=lesion
    )
    return result, lesion


def test_images_lie_in_the_plane_and_where_the_lesion_is(oblique_case, disc):
    result, lesion = oblique_case
    volumes = sample_on_grid(result)
    assert list(volumes) == list(IMAGE_UNITS)
    hbo = volumes["hbo"]
    assert hbo.array.dtype == np.float32
    assert hbo.shape[0] == 1
    assert (hbo.spacing > 0).all()
    k, j, i = np.indices(hbo.shape)
    ras = hbo.points_to_ras(np.column_stack([i.ravel(), j.ravel(), k.ravel()]))
    in_plane, distance = PLANE.to_plane(ras)
    np.testing.assert_allclose(distance, 0.0, atol=1e-9)
    radius = np.hypot(*in_plane.T)
    values = hbo.array.ravel()
    assert (values[radius > 30.2] == 0).all()
    assert (values[radius < 29.8] > 0).all()
    inside = disc.labels_at(in_plane) == 1
    assert np.median(values[inside]) > values[(radius < 20) & ~inside].mean() * 1.2
    assert np.linalg.norm(in_plane[values > 20].mean(axis=0) - [9, -6]) < 0.5


def test_derived_images(oblique_case):
    volumes = {name: volume.array for name, volume in sample_on_grid(oblique_case[0]).items()}
    body = volumes["hbt"] > 0
    np.testing.assert_allclose(volumes["hbt"], volumes["hbo"] + volumes["hbr"], rtol=1e-6)
    np.testing.assert_allclose(volumes["sto2"][body], 100 * volumes["hbo"][body] / volumes["hbt"][body], rtol=1e-6)
    assert 10 < volumes["water"][body].min() < volumes["water"][body].max() < 60  # percent
    for array in volumes.values():
        assert np.isfinite(array).all()


def test_contrast_table_against_the_truth(oblique_case):
    rows = {row.quantity: row for row in contrast_table(*oblique_case)}
    truth = {
        "hbo": (25, 14),
        "hbr": (11, 7),
        "water": (40, 25),
        "hbt": (36, 21),
        "sto2": (100 * 25 / 36, 100 * 14 / 21),
    }
    for name, (inside, outside) in truth.items():
        row = rows[name]
        assert row.unit == IMAGE_UNITS[name]
        assert row.lesion == pytest.approx(inside, rel=0.05)
        assert row.background == pytest.approx(outside, rel=0.02)
        assert row.ratio == pytest.approx(row.lesion / row.background)
        assert 0 < row.ratio_se < 0.1


def test_standard_errors_are_the_scatter_of_drawn_coefficients(oblique_case):
    """Draw coefficients from their covariance and read the table from each draw: no linearization."""
    result, lesion = oblique_case
    rows = contrast_table(result, lesion)
    points = [np.array([[9.0, -6.0]]), np.array([[-15.0, 0.0]])]  # hard prior: any point stands for its region
    factor = np.linalg.cholesky(result.covariance)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(600):
        moved = result.coefficients + (factor @ rng.standard_normal(len(factor))).reshape(result.coefficients.shape)
        other = replace(result, coefficients=moved)
        drawn.append(_readings(np.concatenate([other.maps_at(p)[:4, 0] for p in points])))
    scatter = np.std(drawn, axis=0)
    for n, row in enumerate(rows):
        np.testing.assert_allclose([row.lesion_se, row.background_se, row.ratio_se], scatter[n], rtol=0.12)


def test_lesion_elsewhere_or_everywhere(oblique_case, disc):
    result, lesion = oblique_case
    elsewhere = disc.image(plane_from_normal([0, 0, 0], [0, 0, 1]))[1]
    with pytest.raises(InputError, match="does not pass through the lesion"):
        contrast_table(result, elsewhere)
    with pytest.raises(InputError, match="no background is left"):
        contrast_table(result, lesion.with_array(np.ones(lesion.shape)))
    with pytest.raises(InputError, match="does not pass through the lesion"):
        contrast_table(result, lesion.with_array(np.zeros(lesion.shape)))


def test_tables_on_disk(oblique_case, tmp_path):
    result, lesion = oblique_case
    rows = contrast_table(result, lesion)
    write_contrast(rows, tmp_path / "contrast.csv")
    written = list(csv.DictReader((tmp_path / "contrast.csv").read_text().splitlines()))
    assert [row["quantity"] for row in written] == list(IMAGE_UNITS)
    assert float(written[3]["ratio"]) == pytest.approx(rows[3].ratio, rel=1e-5)
    write_residual(result, tmp_path / "residual.csv")
    written = list(csv.DictReader((tmp_path / "residual.csv").read_text().splitlines()))
    assert len(written) == 4 * 240
    residual = np.array([float(row["residual"]) for row in written])
    np.testing.assert_allclose(residual, result.residual.ravel(), atol=1e-5)
    distance = np.array([float(row["distance_mm"]) for row in written])
    assert 5 < distance.min() < distance.max() < 61


def test_pixel_size_sets_the_grid(oblique_case):
    grid = image_grid(oblique_case[0], 2.5)
    assert grid.pixel_mm == 2.5
    assert sample_on_grid(oblique_case[0], grid)["hbo"].shape == (1, *grid.shape)
    np.testing.assert_allclose(np.array(grid.shape) * 2.5, 66, atol=5)


def test_simulated_case_carries_its_truth_and_says_so(disc):
    labels = disc.image(PLANE)[1]
    fibers = fibers_on_contour(disc.contour, PLANE, 12, open_toward_ras=PLANE.plane_to_ras[:3, 0])
    tips = PLANE.to_plane(fibers.sources)[0]
    np.testing.assert_allclose(np.hypot(*tips.T), 30.0, atol=0.05)
    assert tips[:, 0].max() < 30 * np.cos(np.deg2rad(59))  # a third of the outline, toward +x, stays open
    tissues = {0: Tissue(14.0, 7.0, 0.25), 1: Tissue(25.0, 11.0, 0.40)}
    made = simulate_on_plane(labels, tissues, PLANE, disc.contour, fibers, disc.spectra, gain_sd=0.3, seed=4)
    again = simulate_on_plane(labels, tissues, PLANE, disc.contour, fibers, disc.spectra, gain_sd=0.3, seed=4)
    np.testing.assert_array_equal(made.measurements.log_amplitude, again.measurements.log_amplitude)
    assert made.measurements.remarks == ("Simulated data, not measured.",)
    assert made.truth["water"].array.max() == pytest.approx(40.0)
    assert made.truth["hbt"].array.min() == 0
    result = reconstruct(
        made.measurements,
        fibers,
        disc.contour,
        disc.spectra,
        replace(SETTINGS, source_model="point"),
        plane=PLANE,
        reference=made.reference,
        regions=labels,
    )
    assert {row.quantity: row for row in contrast_table(result, labels)}["hbt"].ratio == pytest.approx(
        36 / 21, rel=0.06
    )


@pytest.mark.parametrize(
    "tissue, says",
    [
        (Tissue(0.014, 0.007, 0.3), "in mM"),
        (Tissue(14000, 7000, 0.3), "in nM"),
        (Tissue(14, 7, 30), "not percent"),
        (Tissue(14, 7, 0.3, 0.0, 10.0), "in 1/cm"),
        (Tissue(-1, 7, 0.3), "negative"),
    ],
)
def test_units_of_a_tissue(tissue, says):
    with pytest.raises(InputError, match=says):
        check_tissue(tissue, "lesion")


def test_label_without_tissue(disc):
    labels = disc.image(PLANE)[1]
    fibers = fibers_on_contour(disc.contour, PLANE, 8)
    with pytest.raises(InputError, match="Label 1 of 'lesion' lies in the plane"):
        simulate_on_plane(labels, {0: Tissue(14.0, 7.0, 0.25)}, PLANE, disc.contour, fibers, disc.spectra)
    with pytest.raises(InputError, match="No tissue is given for label 0"):
        simulate_on_plane(labels, {1: Tissue(14.0, 7.0, 0.25)}, PLANE, disc.contour, fibers, disc.spectra)
    with pytest.raises(InputError, match="apart"):
        fibers_on_contour(disc.contour, PLANE, 64)
