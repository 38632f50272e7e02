from dataclasses import replace

import numpy as np
import pytest
from NIRSTReconstructionLib.adaptive import bright_regions, split_elongated
from NIRSTReconstructionLib.basis import MeshBasis, RegionBasis
from NIRSTReconstructionLib.field import FIELD_STRENGTHS, likely_field, smooth_field
from NIRSTReconstructionLib.meshing import circle_contour, fill_contour
from NIRSTReconstructionLib.outlines import EllipseOutlines, FixedOutlines, SharpOutlines, ShiftedOutlines
from NIRSTReconstructionLib.plane import Plane, plane_from_normal, slice_grid
from NIRSTReconstructionLib.reconstruct import ReconstructionSettings, gray_values, reconstruct
from NIRSTReconstructionLib.spectra import Tissue

AXIAL = Plane(np.eye(4))
SETTINGS = ReconstructionSettings(method="adaptive", element_size_mm=4.0, basis_nodes=250, gains="none")
TRUE_RATIO = np.array([25 / 14, 11 / 7, 0.40 / 0.25])


def ratio(disc, result):
    inside = result.maps_at(np.array([[9.0, -6.0], [11.0, -7.0], [7.0, -4.0]]))[:3].mean(axis=1)
    outside = result.maps_at(np.array([[-15.0, 5.0], [-5.0, 18.0], [0.0, -22.0]]))[:3].mean(axis=1)
    return inside / outside


@pytest.fixture(scope="module")
def light(disc):
    return disc.light()


def run(disc, log_amplitude, **given):
    return reconstruct(disc.measurements(log_amplitude), disc.fibers, disc.contour, disc.spectra, SETTINGS, **given)


def test_a_right_segmentation_is_believed(disc, light):
    mri = disc.image(AXIAL)[0]
    result = run(disc, light, images=[mri])
    assert "the light is explained" in result.remarks[-1]
    assert "found" not in result.remarks[-1]
    np.testing.assert_allclose(ratio(disc, result), TRUE_RATIO, rtol=0.05)


def test_a_bright_spot_that_the_light_does_not_see_stays_dark(disc):
    result = run(disc, disc.light(lesion=Tissue(14.0, 7.0, 0.25)), images=[disc.image(AXIAL)[0]])
    np.testing.assert_allclose(ratio(disc, result), 1.0, atol=0.03)


def test_a_lesion_that_nothing_shows_but_the_light_is_found(disc, light):
    result = run(disc, light)
    assert "with 1 more found in the light" in result.remarks[-1]
    np.testing.assert_allclose(ratio(disc, result), TRUE_RATIO, rtol=0.15)
    outlined = result.regions
    k, j, i = np.nonzero(outlined.array)
    center = outlined.points_to_ras(np.column_stack([i, j, k])).mean(axis=0)
    assert np.linalg.norm(center[:2] - [9, -6]) < 1.0
    radius = np.sqrt(len(i) * outlined.spacing[1] * outlined.spacing[2] / np.pi)
    assert radius == pytest.approx(8.0, rel=0.15)


def test_two_lesions_that_first_look_like_one(disc):
    """A long ellipse over both is split: two circles explain the light better."""
    points = disc.model.mesh.quadrature.points
    maps = Tissue(14.0, 7.0, 0.25).maps(len(points))
    for center in ([-9.0, 3.0], [9.5, 3.0]):
        inside = np.hypot(*(points - center).T) < 6
        maps[:, inside] = Tissue(25.0, 11.0, 0.40).values()[:, None]
    result = run(disc, disc.model.measure(maps, at_quadrature=True))
    assert "with 2 more found in the light" in result.remarks[-1]
    there = result.maps_at(np.array([[-9.0, 3.0], [9.5, 3.0], [0.0, 3.0], [0.0, -18.0]]))[:3]
    np.testing.assert_allclose(there[:, :2] / there[:, 3:], TRUE_RATIO[:, None] * np.ones(2), rtol=0.2)
    np.testing.assert_allclose(there[:, 2], there[:, 3], rtol=0.01)


def test_splitting_keeps_the_area_and_the_values():
    grid = slice_grid(AXIAL, np.array([[-30.0, -30.0], [30.0, 30.0]]), 1.0)
    known = FixedOutlines(RegionBasis(grid.volume(np.zeros(grid.shape, np.int16), "none"), AXIAL, grid.points_mm))
    long = EllipseOutlines(known, np.array([[0.0, 0, 2.0, 0.1, 0.0], [5.0, 2.0, 2.2, 0.0, 0.6]]))
    halves, values = split_elongated(long, np.array([[1.0, 1.5, 2.0]]))
    np.testing.assert_array_equal(values, [[1.0, 1.5, 2.0, 2.0]])
    np.testing.assert_array_equal(halves.shapes[0], long.shapes[0])
    np.testing.assert_allclose(halves.shapes[1:, :2].mean(axis=0), [5.0, 2.0])
    np.testing.assert_allclose(np.diff(halves.shapes[1:, :2], axis=0)[0], np.exp(2.8) / np.sqrt(2))  # along y = x
    assert np.exp(2 * halves.shapes[1:, 2]).sum() == pytest.approx(np.exp(2 * 2.2))
    assert split_elongated(halves, values) is None
    assert split_elongated(known, values[:, :1]) is None


def test_a_segmentation_beside_the_lesion_is_moved_to_it(disc, light):
    lesion = disc.image(AXIAL)[1]
    matrix = lesion.ijk_to_ras.copy()
    matrix[:2, 3] += [2.4, -1.8]
    result = run(disc, light, regions=replace(lesion, ijk_to_ras=matrix))
    assert "moved by" in result.remarks[-1]
    assert float(result.remarks[-1].split("moved by ")[1].split(" mm")[0]) == pytest.approx(3.0, abs=0.7)
    np.testing.assert_allclose(ratio(disc, result), TRUE_RATIO, rtol=0.06)


def test_field_is_that_of_the_texture():
    """Residuals drawn from the model itself: the likeliest strength is the true one or its neighbor, the field near."""
    rng = np.random.default_rng(0)
    explained, by_mode = rng.standard_normal((400, 4)), 8 * rng.standard_normal((400, 60))
    for strength in (0.05, 0.2, 0.45):
        truth = strength * rng.standard_normal(60)
        residual = by_mode @ truth + rng.standard_normal(400)
        likely, evidence, weights = likely_field(residual + explained @ [3.0, -2.0, 1.0, 5.0], explained, by_mode)
        assert abs(FIELD_STRENGTHS.index(likely) - FIELD_STRENGTHS.index(strength)) <= 1
        assert evidence > 6
        np.testing.assert_allclose(weights, truth, atol=0.035)
    assert likely_field(rng.standard_normal(400), explained, by_mode)[1] < 3


def test_evidence_is_the_difference_of_gaussian_log_densities():
    from scipy.stats import multivariate_normal

    rng = np.random.default_rng(1)
    G, r = rng.standard_normal((30, 5)), 2 * rng.standard_normal(30)
    without = multivariate_normal(np.zeros(30), np.eye(30)).logpdf(r)
    with_field = [multivariate_normal(np.zeros(30), np.eye(30) + s**2 * G @ G.T).logpdf(r) for s in FIELD_STRENGTHS]
    strength, evidence, _ = likely_field(r, np.zeros((30, 0)), G)
    assert strength == FIELD_STRENGTHS[int(np.argmax(with_field))]
    assert evidence == pytest.approx(max(with_field) - without, rel=1e-6)


def test_field_has_unit_variance_and_its_lengths():
    mesh = fill_contour(circle_contour(30.0), 4.0, order=1)
    field = smooth_field(MeshBasis(mesh))
    K = field.modes @ field.modes.T
    np.testing.assert_allclose(np.diag(K), 1.0, atol=0.06)
    distance = np.linalg.norm(mesh.nodes[:, None] - mesh.nodes[None], axis=-1)
    expected = (np.exp(-(distance**2) / 50) + 0.3 * np.exp(-(distance**2) / 288)) / 1.3
    np.testing.assert_allclose(K, expected, atol=0.06)
    assert np.std(field.scaled(0.1).modes) == pytest.approx(0.1 * np.std(field.modes))


def test_shares_add_up_wherever_the_outlines_are(disc):
    lesion = disc.image(AXIAL)[1]
    points = np.random.default_rng(0).uniform(-20, 20, (300, 2))
    regions = RegionBasis(lesion, AXIAL, points)
    grid = slice_grid(AXIAL, disc.contour.samples[1], 0.7)
    shifted = ShiftedOutlines(regions, grid, np.array([3.0, 1.0]))
    ellipses = EllipseOutlines(shifted, np.array([[0.0, 0, 2, 0.2, -0.1], [4.0, 0, 1.5, 0, 0]]))
    sharp = SharpOutlines(ellipses).at(points).toarray()
    assert set(np.unique(sharp)) == {0.0, 1.0}
    np.testing.assert_array_equal(sharp.argmax(axis=1), ellipses.at(points).toarray().argmax(axis=1))
    for outlines in (shifted, ellipses):
        shares = outlines.at(points).toarray()
        assert shares.min() >= -1e-12
        np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-6)
    center = shifted.at(np.array([[12.0, -5.0], [2.0, -7.0]])).toarray()
    np.testing.assert_allclose(center[:, 1], [1.0, 0.0], atol=0.02)


def test_area_of_an_ellipse_is_that_of_its_mean_radius():
    grid = slice_grid(AXIAL, np.array([[-20.0, -20.0], [20.0, 20.0]]), 0.2)
    shape = np.array([[1.0, -2.0, np.log(7.0), 0.3, 0.2]])

    class Everywhere:
        count = 1
        numbers = expected = spread = np.zeros(0)
        step = 0.0

        def at(self, points):
            from scipy import sparse

            return sparse.csr_array(np.ones((len(points), 1)))

    inside = EllipseOutlines(Everywhere(), shape).at(grid.points_mm).toarray()[:, 1]
    assert inside.sum() * 0.04 == pytest.approx(np.pi * 49, rel=0.01)
    covariance = np.cov(grid.points_mm.T, aweights=inside)
    axes = np.sqrt(np.linalg.eigvalsh(covariance)) * 2
    assert axes[1] / axes[0] == pytest.approx(np.exp(2 * np.hypot(0.3, 0.2)), rel=0.02)


@pytest.mark.parametrize("noise", [1.0, 8.0])
def test_bright_spots_of_an_oblique_mri(disc, noise):
    plane = plane_from_normal([40.0, -25.0, 60.0], [0.4, -0.5, 0.7])
    mri, lesion = disc.image(plane)
    rng = np.random.default_rng(0)
    mri = mri.with_array(mri.array + noise * rng.standard_normal(mri.shape))
    outline = disc.contour.samples[1][::20]
    grid = slice_grid(plane, outline, 0.7)
    body = np.hypot(*grid.points_mm.T) < 29.5
    labels = bright_regions(mri, gray_values(mri, plane, outline, grid.points_mm), body, grid)
    found = RegionBasis(labels, plane, grid.points_mm[body]).number_at(grid.points_mm[body]) == 1
    truth = disc.labels_at(grid.points_mm[body]) == 1
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.95
    flat = mri.with_array(50 + noise * rng.standard_normal(mri.shape))
    assert bright_regions(flat, gray_values(flat, plane, outline, grid.points_mm), body, grid).array.max() == 0
