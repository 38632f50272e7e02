import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from NIRSTReconstructionLib.regularization import dri_matrix, laplacian_matrix, normalized_gray, tikhonov_matrix


def test_dri_ties_alike_nodes_and_leaves_constants_free():
    gray = np.array([0.0, 0.01, 0.02, 1.0, 0.99, 1.01])
    L = dri_matrix(gray, sigma=0.08)
    np.testing.assert_allclose(np.diag(L), 1.0)
    np.testing.assert_allclose(L @ np.full(6, 3.7), 0.0, atol=1e-12)
    w01, w02 = np.exp(-(0.01**2) / (2 * 0.08**2)), np.exp(-(0.02**2) / (2 * 0.08**2))
    assert L[0, 1] == pytest.approx(-w01 / (w01 + w02), rel=1e-9)
    assert abs(L[0, 3:]).max() < 1e-12
    step = np.array([1.0, 1, 1, 2, 2, 2])  # follows the gray values: costs nothing
    stripes = np.array([1.0, 2, 1, 2, 1, 2])
    assert np.linalg.norm(L @ step) < 1e-9 < 0.5 < np.linalg.norm(L @ stripes)


def test_dri_of_two_images_ties_only_what_is_alike_in_both():
    first = np.array([0.0, 0.0, 0.0, 1.0, 1.0])
    second = np.array([0.0, 1.0, 0.0, 0.0, 1.0])
    np.testing.assert_allclose(dri_matrix(first, 0.1)[0], [1, -0.5, -0.5, 0, 0], atol=1e-12)
    np.testing.assert_allclose(dri_matrix(np.stack([first, second]), 0.1)[0], [1, 0, -1, 0, 0], atol=1e-12)


def test_dri_ties_an_outlier_to_the_nearest_gray_value():
    L = dri_matrix(np.array([0.0, 0.0, 1.0, 50.0]))
    np.testing.assert_allclose(L[3], [0, 0, -1, 1], atol=1e-12)


def test_laplacian_is_zero_exactly_for_region_constants():
    regions = np.array([0, 0, 0, 5, 5, 7])
    L = laplacian_matrix(regions)
    np.testing.assert_allclose(L @ np.array([2.0, 2, 2, 9, 9, 4]), 0.0, atol=1e-12)
    np.testing.assert_allclose(L[0], [1, -0.5, -0.5, 0, 0, 0])
    np.testing.assert_allclose(L[5], 0)  # a region of one node
    assert np.linalg.matrix_rank(L) == 6 - 3


def test_tikhonov_is_the_identity():
    np.testing.assert_array_equal(tikhonov_matrix(3), np.eye(3))


def test_gray_values_are_scaled_by_the_lesion_where_it_is_known():
    gray = np.array([50.0, 51, 49, 50, 80, 81, 79])
    lesion = gray > 70
    scaled = normalized_gray(gray, lesion)
    assert np.median(scaled[~lesion]) == pytest.approx(0.0)
    assert np.median(scaled[lesion]) == pytest.approx(1.0)
    assert -0.1 < normalized_gray(gray).min() < 0.1 < 0.9 < normalized_gray(gray).max() < 1.1


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: dri_matrix(np.array([0.0, np.nan])), "not numbers"),
        (lambda: dri_matrix(np.zeros(3), sigma=0.0), "must be positive"),
        (lambda: tikhonov_matrix(6000), "6000 nodes"),
        (lambda: normalized_gray(np.full(9, 7.0)), "no contrast"),
        (lambda: normalized_gray(np.full(9, 7.0), np.arange(9) < 2), "no contrast"),
        (lambda: normalized_gray(np.full(9, np.nan)), "no contrast"),
    ],
)
def test_bad_images_are_refused(make, says):
    with pytest.raises(InputError, match=says):
        make()
