"""Meshes: area, curved rim, interpolation, location, projection, contours, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from NIRSTReconstructionLib.mesh import TriangleMesh, quadratic
from NIRSTReconstructionLib.meshing import (
    disc_mesh,
    ellipse_contour,
    fill_contour,
    inside_polygon,
    polygon_contour,
    spline_contour,
)
from NIRSTReconstructionLib.optodes import ring_optodes

SQUARE = TriangleMesh(np.array([[0.0, 0], [2, 0], [2, 1], [0, 1]]), np.array([[0, 1, 2], [0, 2, 3]]), 1)
BEAN = np.array([[30.0, 0], [24, 22], [0, 28], [-26, 18], [-14, 0], [-24, -20], [0, -27], [22, -20]])


@pytest.fixture(scope="module")
def disc():
    return disc_mesh(41.0, 5.0, refine_at=ring_optodes().detectors, refined_size_mm=2.5)


@pytest.fixture(scope="module")
def bean():
    """A lopsided, non-convex body, so that no symmetry can hide a mistake."""
    return fill_contour(spline_contour(BEAN), 4.0)


def test_default_disc_has_about_2100_nodes_of_good_shape():
    mesh = disc_mesh(refine_at=ring_optodes().detectors)
    assert 2000 < len(mesh.nodes) < 2400
    assert mesh.order == 2
    assert mesh.quality.min() > 0.6
    assert mesh.quality.mean() > 0.93
    assert mesh.area_mm2 == pytest.approx(np.pi * 41**2, rel=1e-6)


def test_equal_input_gives_an_equal_mesh():
    first, second = (disc_mesh(30.0, 6.0) for _ in range(2))
    np.testing.assert_array_equal(first.nodes, second.nodes)
    np.testing.assert_array_equal(first.elements, second.elements)


def test_every_optode_gets_a_rim_node():
    fibers = ring_optodes(41.0, 16, start_angle=0.1).detectors
    mesh = disc_mesh(refine_at=fibers)
    rim = mesh.nodes[mesh.boundary_edges[:, 0]]
    assert max(np.linalg.norm(rim - fiber, axis=1).min() for fiber in fibers) < 1e-6


def test_rim_lies_on_the_circle_and_closes(disc):
    np.testing.assert_allclose(np.linalg.norm(disc.nodes[np.unique(disc.boundary_edges)], axis=1), 41.0, atol=1e-9)
    edges = disc.boundary_edges
    assert sorted(edges[:, 0]) == sorted(edges[:, 1])
    start, end = disc.nodes[edges[:, 0]], disc.nodes[edges[:, 1]]
    assert (start[:, 0] * end[:, 1] - start[:, 1] * end[:, 0] > 0).all(), "tissue must be on the left"


def test_ellipse_and_polygon_areas():
    assert fill_contour(ellipse_contour(40.0, 25.0, (3.0, -7.0)), 5.0).area_mm2 == pytest.approx(
        np.pi * 40 * 25, rel=1e-4
    )
    corners = np.array([[0.0, 0], [60, 0], [60, 20], [25, 20], [25, 50], [0, 50]])  # an L
    mesh = fill_contour(polygon_contour(corners), 4.0)
    assert mesh.area_mm2 == pytest.approx(60 * 20 + 25 * 30, rel=1e-12)
    for corner in corners:
        assert np.linalg.norm(mesh.nodes - corner, axis=1).min() < 1e-9
    assert not mesh.contains(np.array([[40.0, 40.0]]))[0]
    assert fill_contour(polygon_contour(corners[::-1]), 4.0).area_mm2 == pytest.approx(mesh.area_mm2)


def test_spline_body_follows_its_contour(bean):
    contour = spline_contour(BEAN)
    rim = bean.nodes[np.unique(bean.boundary_edges)]
    np.testing.assert_allclose(contour.curve(contour.project(rim)), rim, atol=1e-6)
    assert bean.quality.min() > 0.3


@pytest.mark.parametrize("order", [1, 2])
def test_interpolation_is_convex_and_exact_for_linear_maps(order):
    mesh = fill_contour(spline_contour(BEAN), 5.0, order=order)
    points = np.random.default_rng(3).uniform(-30, 32, (4000, 2))
    matrix = mesh.interpolation(points)
    inside = mesh.contains(points)
    assert 0.3 < inside.mean() < 0.9
    assert matrix.data.min() >= 0
    np.testing.assert_allclose(matrix.sum(axis=1), inside.astype(float), atol=1e-12)
    np.testing.assert_allclose((matrix @ mesh.nodes)[inside], points[inside], atol=0.2 if order == 2 else 1e-9)
    straight = inside & (spline_contour(BEAN).signed_distance(points) < -5)
    np.testing.assert_allclose((matrix @ mesh.nodes)[straight], points[straight], atol=1e-9)
    np.testing.assert_array_equal(inside, inside_polygon(points, _rim_polygon(mesh)))


def _rim_polygon(mesh):
    """Return the rim as a dense polygon, walked edge by edge."""
    edges = {int(edge[0]): edge for edge in mesh.boundary_edges}
    t = np.linspace(0, 1, 40, endpoint=False)[:, None]
    here, polygon = int(mesh.boundary_edges[0, 0]), []
    for _ in range(len(edges)):
        edge = edges[here]
        p, q = mesh.nodes[edge[0]], mesh.nodes[edge[1]]
        bulge = mesh.nodes[edge[2]] - 0.5 * (p + q) if mesh.order == 2 else 0.0
        polygon.append((1 - t) * p + t * q + 4 * t * (1 - t) * bulge)
        here = int(edge[1])
    return np.concatenate(polygon)


def test_evaluation_is_exact_for_quadratics_inside(bean):
    points = np.random.default_rng(4).uniform(-8, 20, (300, 2))
    points = points[spline_contour(BEAN).signed_distance(points) < -5]

    def quadratic_field(p):
        return 1 + p[:, 0] - 2 * p[:, 1] + 0.3 * p[:, 0] ** 2 - 0.2 * p[:, 0] * p[:, 1] + 0.05 * p[:, 1] ** 2

    np.testing.assert_allclose(
        bean.evaluation(points) @ quadratic_field(bean.nodes), quadratic_field(points), rtol=0, atol=1e-9
    )


def test_quadrature_integrates_degree_five_on_straight_triangles():
    mesh = quadratic(SQUARE)
    x, y = mesh.quadrature.points.T
    assert mesh.quadrature.weights @ (x**3 * y**2) == pytest.approx(2**4 / 4 / 3)


def test_projection_gives_the_rim_and_its_inward_normal(disc):
    angles = np.random.default_rng(5).uniform(0, 2 * np.pi, 50)
    unit = np.column_stack([np.cos(angles), np.sin(angles)])
    rim, inward, distance = disc.project_to_boundary(43.0 * unit)
    np.testing.assert_allclose(rim, 41.0 * unit, atol=2e-3)
    np.testing.assert_allclose(inward, -unit, atol=5e-3)
    np.testing.assert_allclose(distance, 2.0, atol=1e-3)
    assert disc.contains(rim).all()


def test_clockwise_triangles_are_turned():
    turned = TriangleMesh(SQUARE.nodes, SQUARE.elements[:, ::-1], 1)
    assert turned.area_mm2 == pytest.approx(2.0)
    both = quadratic(SQUARE)
    six = both.elements[:, [0, 2, 1, 5, 4, 3]]
    assert TriangleMesh(both.nodes, six, 2).area_mm2 == pytest.approx(2.0)


@pytest.mark.parametrize(
    "nodes, elements, order, words",
    [
        ([[0, 0], [1, 0]], [[0, 1, 1]], 1, "nodes"),
        ([[0, 0], [1, 0], [0, np.nan]], [[0, 1, 2]], 1, "not a number"),
        ([[0, 0], [1, 0], [0, 1]], [[1, 2, 3]], 1, "does not exist"),
        ([[0, 0], [1, 0], [2, 0]], [[0, 1, 2]], 1, "no area"),
        ([[0, 0], [1, 0], [0, 1]], [[0, 1, 2]], 2, "shape"),
        ([[0, 0], [1, 0], [0, 1]], [[0, 1, 2]], 3, "order"),
    ],
)
def test_impossible_meshes_are_refused(nodes, elements, order, words):
    with pytest.raises(InputError, match=words):
        TriangleMesh(np.array(nodes, dtype=float), np.array(elements), order)


def test_a_rim_that_folds_is_refused():
    mesh = quadratic(SQUARE)
    nodes = mesh.nodes.copy()
    nodes[mesh.boundary_edges[0, 2]] += [0.0, 5.0]
    with pytest.raises(InputError, match="folds"):
        TriangleMesh(nodes, mesh.elements, 2).area_mm2  # noqa: B018


@pytest.mark.parametrize(
    "points, words",
    [
        ([[0, 0], [1, 0]], "at least 3"),
        ([[0, 0], [10, 10], [10, 0], [0, 10]], "crosses itself"),
        ([[0, 0], [0, 0], [1, 0], [1, 1]], "are the same"),
        ([[0, 0], [np.nan, 1], [1, 0]], "numbers"),
    ],
)
def test_impossible_contours_are_refused(points, words):
    with pytest.raises(InputError, match=words):
        polygon_contour(np.array(points, dtype=float))


def test_elements_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="too many nodes"):
        disc_mesh(41000.0, 1.0)
    with pytest.raises(InputError, match="smaller"):
        fill_contour(
            polygon_contour(np.array([[0.0, 0], [60, 0], [60, 1], [35, 1], [35, 30], [34, 30], [34, 1], [0, 1]])), 20
        )
    with pytest.raises(InputError, match="positive"):
        disc_mesh(41.0, -1.0)


def test_a_point_outside_is_named(disc):
    with pytest.raises(InputError, match=r"Point 2 at \(50.00, 0.00\) mm lies outside"):
        disc.evaluation(np.array([[0.0, 0], [50, 0]]))
