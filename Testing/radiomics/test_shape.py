"""Shape against solids whose measures are known."""

from __future__ import annotations

import numpy as np
import pytest
from BreastBiomarkersLib.volume import Volume
from RadiomicsPanelLib.enclosing import minimum_box, minimum_ellipsoid
from RadiomicsPanelLib.morphology import ellipsoid_area, surface_mesh
from RadiomicsPanelLib.roi import Case
from RadiomicsPanelLib.settings import Settings
from scipy.optimize import minimize
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

BOX = np.array([3.0, 5.0, 11.0])


@pytest.fixture(params=range(4))
def rotation(request):
    return Rotation.random(random_state=request.param).as_matrix()


def test_smallest_box_of_a_turned_box(rotation):
    corners = np.array([[k, j, i] for k in (0, 1) for j in (0, 1) for i in (0, 1)]) * BOX
    points = np.vstack([corners, np.random.default_rng(0).random((200, 3)) * BOX]) @ rotation.T
    np.testing.assert_allclose(np.sort(minimum_box(ConvexHull(points))), BOX, rtol=1e-7)


def test_smallest_ellipsoid_of_a_turned_ellipsoid(rotation):
    unit = np.random.default_rng(1).normal(size=(5000, 3))
    points = unit / np.linalg.norm(unit, axis=1, keepdims=True) * BOX @ rotation.T + 7
    np.testing.assert_allclose(minimum_ellipsoid(points[ConvexHull(points).vertices])[::-1], BOX, rtol=1e-4)


def test_smallest_box_beats_a_search_over_rotations(lump):
    case = lump()
    hull = ConvexHull(surface_mesh(case.mask.array, case.mask.spacing).vertices)
    points = hull.points[hull.vertices]

    def volume(angles):
        return np.prod(np.ptp(points @ Rotation.from_euler("xyz", angles).as_matrix(), axis=0))

    starts = np.random.default_rng(3).random((30, 3)) * np.pi
    found = min(minimize(volume, s, method="Nelder-Mead").fun for s in starts)
    assert np.prod(minimum_box(hull)) == pytest.approx(found, rel=1e-4)


def test_smallest_ellipsoid_agrees_with_khachiyans_algorithm(lump):
    case = lump()
    hull = ConvexHull(surface_mesh(case.mask.array, case.mask.spacing).vertices)
    points = hull.points[hull.vertices]
    lifted, u = np.column_stack([points, np.ones(len(points))]), np.full(len(points), 1 / len(points))
    for _ in range(20_000):
        reach = np.sum(lifted @ np.linalg.inv((lifted * u[:, None]).T @ lifted) * lifted, axis=1)
        far = np.argmax(reach)
        step = (reach[far] - 4) / (4 * (reach[far] - 1))
        u *= 1 - step
        u[far] += step
    covariance = ((points - u @ points) * u[:, None]).T @ (points - u @ points)
    theirs = np.sqrt(3 * np.linalg.eigvalsh(covariance)[::-1])
    np.testing.assert_allclose(minimum_ellipsoid(points), theirs, rtol=1e-3)


@pytest.fixture
def ball_values(measure):
    """Values by name of a ball of radius 12 mm on a grid of 0.5 x 0.6 x 0.8 mm."""
    spacing = np.array([0.8, 0.6, 0.5])
    shape = (41, 51, 61)
    points = (np.indices(shape).reshape(3, -1).T - (np.array(shape) - 1) / 2) * spacing
    mask = (np.linalg.norm(points, axis=1) <= 12).reshape(shape)
    matrix = np.diag([*spacing[::-1], 1.0])
    image = np.random.default_rng(0).random(shape)
    case = Case(Volume(image, matrix, "image"), Volume(mask, matrix, "mask"), "case", "ball")
    return {v.feature.name: v.value for v in measure(case, Settings(), ["morph"])}


def test_ball(ball_values):
    radius, volume = 12.0, 4 / 3 * np.pi * 12.0**3
    assert ball_values["mesh_volume"] == pytest.approx(volume, rel=0.01)
    assert ball_values["voxel_volume"] == pytest.approx(volume, rel=0.01)
    assert ball_values["maximum_diameter"] == pytest.approx(2 * radius, rel=0.05)
    axes = [ball_values[f"{name}_axis_length"] for name in ("major", "minor", "least")]
    assert axes == pytest.approx([4 * radius / np.sqrt(5)] * 3, rel=0.01)
    for name in ("elongation", "flatness", "hull_volume_density"):
        assert ball_values[name] == pytest.approx(1, abs=0.05), name
    assert 0.9 < ball_values["minimum_ellipsoid_volume_density"] < 1  # the voxels' corners stick out
    for name in ("box_volume_density", "minimum_box_volume_density"):
        assert ball_values[name] == pytest.approx(np.pi / 6, abs=0.05), name
    assert 0.85 < ball_values["sphericity"] < 1  # marching cubes keeps some of the voxels' steps
    assert abs(ball_values["moran_i"]) < 0.01
    assert ball_values["geary_c"] == pytest.approx(1, abs=0.01)


def test_box_shaped_mesh_is_closed_and_halfway_between_voxels():
    mesh = surface_mesh(np.ones((3, 4, 5), dtype=bool), np.array([2.0, 1.0, 0.5]))
    np.testing.assert_allclose(mesh.vertices.min(axis=0), [-1.0, -0.5, -0.25])
    np.testing.assert_allclose(mesh.vertices.max(axis=0), [5.0, 3.5, 2.25])
    edges = np.sort(mesh.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()


def test_ellipsoid_area_of_a_sphere_and_of_the_published_phantom():
    assert ellipsoid_area(2, 2, 2) == pytest.approx(16 * np.pi)
    assert 388 / ellipsoid_area(11.4 / 2, 9.31 / 2, 8.54 / 2) == pytest.approx(1.36, abs=0.01)
