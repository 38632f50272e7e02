import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume
from NIRSTReconstructionLib.basis import MeshBasis, RegionBasis, UniformBasis
from NIRSTReconstructionLib.meshing import circle_contour, fill_contour
from NIRSTReconstructionLib.plane import Plane, slice_grid

AXIAL = Plane(np.eye(4))


def points_in_disc(radius, count=400):
    points = np.random.default_rng(0).uniform(-radius, radius, (4 * count, 2))
    return points[np.hypot(*points.T) < radius][:count]


def label_map(numbers_of):
    grid = slice_grid(AXIAL, np.array([[-30.0, -30.0], [30.0, 30.0]]), 0.5)
    return grid.volume(numbers_of(grid.points_mm).astype(np.uint8), "labels")


def test_mesh_basis_is_linear_also_in_the_slivers_at_a_round_rim():
    basis = MeshBasis(fill_contour(circle_contour(30.0), 6.0, order=1))
    values = basis.mesh.nodes @ [0.3, -0.2] + 4
    inside = points_in_disc(25)
    np.testing.assert_allclose(basis.at(inside) @ values, inside @ [0.3, -0.2] + 4, atol=1e-9)
    angles = np.linspace(0, 2 * np.pi, 200)
    rim = 30.0 * np.column_stack([np.cos(angles), np.sin(angles)])
    matrix = basis.at(rim)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0)
    assert matrix.data.min() >= 0
    np.testing.assert_allclose(matrix @ values, rim @ [0.3, -0.2] + 4, atol=0.3)


def test_region_basis_finds_its_regions_again_anywhere():
    labels = label_map(lambda p: 3 * (p[:, 0] > 5) + 7 * (np.hypot(*(p + 12).T) < 6))
    basis = RegionBasis(labels, AXIAL, points_in_disc(28))
    assert basis.regions.tolist() == [0, 3, 7]
    at = basis.at(np.array([[20.0, 0], [-12, -12], [0, 0], [500, 500]])).toarray()
    np.testing.assert_array_equal(at, [[0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 0, 0]])  # far away: the largest region


def test_specks_and_unlabeled_skin_join_the_largest_region():
    speck = label_map(lambda p: 1.0 * (np.hypot(*p.T) < 0.3) + 0)
    assert RegionBasis(speck, AXIAL, points_in_disc(28, 4000)).count == 1
    tissues = label_map(lambda p: np.where(np.hypot(*p.T) > 29, 0, np.where(p[:, 0] > 0, 1, 2)))
    basis = RegionBasis(tissues, AXIAL, points_in_disc(29.5, 2000))
    assert basis.regions.tolist() == [1, 2]


def test_segmentation_elsewhere():
    labels = label_map(lambda p: np.ones(len(p)))
    moved = labels.ijk_to_ras.copy()
    moved[2, 3] = 50
    with pytest.raises(InputError, match="does not reach the image plane"):
        RegionBasis(Volume(labels.array, moved, "labels"), AXIAL, points_in_disc(28))


def test_uniform_basis():
    assert (UniformBasis().at(np.zeros((5, 2))).toarray() == 1).all()
