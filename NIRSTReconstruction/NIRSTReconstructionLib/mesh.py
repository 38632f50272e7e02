"""Triangle meshes of a plane through the breast: linear (P1) or quadratic (P2) with a curved rim."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from BreastBiomarkersLib.errors import InputError
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

MAX_NODES = 1_000_000
"""Largest mesh that is accepted; a plane needs a few thousand nodes."""

_EDGES = ((0, 1), (1, 2), (2, 0))  # local edge e carries the mid node 3 + e
_CANDIDATES = 16  # nearest elements tried first when a point is located
_CURVE_ITERATIONS = 12


@dataclass(frozen=True, eq=False)
class Quadrature:
    """Integration points of every element, element after element (Q = elements times points per element).

    Attributes
    ----------
    points : (Q, 2) ndarray, mm
        Positions.
    weights : (Q,) ndarray, mm^2
        Positive; they add up to the area of the mesh.
    shapes : (q, n) ndarray
        Finite-element functions at the q points of one element.
    gradients : (Q, n, 2) ndarray, mm^-1
        Their gradients.
    interpolation : (Q, N) sparse array
        Takes a map at the nodes to its values at the points (see `TriangleMesh.interpolation`).
    """

    points: NDArray[np.float64]
    weights: NDArray[np.float64]
    shapes: NDArray[np.float64]
    gradients: NDArray[np.float64]
    interpolation: sparse.csr_array


@dataclass(frozen=True, eq=False)
class TriangleMesh:
    """A 2-D triangle mesh in the coordinates of its plane.

    Two function spaces live on it. The fluence uses finite elements of the given order (`evaluation`). Maps of tissue
    properties are linear on each triangle or, for order 2, on the four triangles that its six nodes form
    (`interpolation`): values between nodes are then weighted means of node values, so a positive map stays positive.

    Attributes
    ----------
    nodes : (N, 2) ndarray, mm
        Positions.
    elements : (M, 3) or (M, 6) ndarray of int
        Node indices: three corners, counter-clockwise, then for order 2 the nodes in the middle of the edges 0-1, 1-2
        and 2-0. Clockwise triangles are turned. A middle node off the straight edge makes the edge a parabola.
    order : int
        1 (P1) or 2 (P2).

    Raises
    ------
    InputError
        If shapes or indices do not fit, a coordinate is not finite, or a triangle has no area.
    """

    nodes: NDArray[np.float64]
    elements: NDArray[np.int64]
    order: int = 2

    def __post_init__(self) -> None:
        nodes = np.array(self.nodes, dtype=np.float64)
        elements = np.array(self.elements, dtype=np.int64)
        if self.order not in (1, 2):
            raise InputError(f"The mesh has element order {self.order}; 1 (linear) or 2 (quadratic) is needed.")
        if nodes.ndim != 2 or nodes.shape[1] != 2 or len(nodes) < 3:
            raise InputError(f"The mesh nodes have the shape {nodes.shape}; (nodes, 2) in mm is needed.")
        if len(nodes) > MAX_NODES:
            raise InputError(f"The mesh has {len(nodes)} nodes; at most {MAX_NODES} are accepted. Use larger elements.")
        if elements.ndim != 2 or elements.shape[1] != 3 * self.order or len(elements) == 0:
            raise InputError(
                f"The mesh elements have the shape {elements.shape}; (elements, {3 * self.order}) is needed."
            )
        if not np.isfinite(nodes).all():
            raise InputError("A mesh node has a coordinate that is not a number. Rebuild or re-export the mesh.")
        if elements.min() < 0 or elements.max() >= len(nodes):
            raise InputError("A mesh element refers to a node that does not exist. Check that node numbers start at 1.")
        area = _signed_areas(nodes, elements)
        clockwise = area < 0
        elements[clockwise] = elements[clockwise][:, [0, 2, 1] if self.order == 1 else [0, 2, 1, 5, 4, 3]]
        scale = np.ptp(nodes, axis=0).max()
        if not np.abs(area).min() > 1e-12 * scale**2:
            raise InputError(f"Mesh element {int(np.abs(area).argmin()) + 1} has no area. Rebuild the mesh.")
        object.__setattr__(self, "nodes", nodes)
        object.__setattr__(self, "elements", elements)

    @cached_property
    def boundary_edges(self) -> NDArray[np.int64]:
        """(E, 2) or (E, 3) node indices of the rim: start, end, (middle), with the tissue on the left."""
        corners = self.elements[:, :3]
        edges = np.concatenate([corners[:, list(edge)] for edge in _EDGES])
        middles = np.concatenate([self.elements[:, 3 + e] for e in range(3)]) if self.order == 2 else None
        key = np.sort(edges, axis=1)
        _, index, count = np.unique(key, axis=0, return_index=True, return_counts=True)
        if count.max() > 2:
            raise InputError("Three or more mesh elements share one edge. Rebuild the mesh.")
        rim = np.sort(index[count == 1])
        return edges[rim] if middles is None else np.column_stack([edges[rim], middles[rim]])

    @cached_property
    def area_mm2(self) -> float:
        """Area of the mesh in mm^2, curved rim included."""
        return float(self.quadrature.weights.sum())

    @cached_property
    def quality(self) -> NDArray[np.float64]:
        """(M,) shape of each triangle, 4 sqrt(3) area / sum of squared sides: 1 equilateral, 0 flat."""
        corners = self.nodes[self.elements[:, :3]]
        sides = ((corners - np.roll(corners, -1, axis=1)) ** 2).sum(axis=(1, 2))
        return 4 * np.sqrt(3) * _signed_areas(self.nodes, self.elements) / sides

    @cached_property
    def quadrature(self) -> Quadrature:
        """Integration points: exact to degree 2 on P1, degree 5 on P2 triangles with straight sides."""
        barycentric, weights = _RULES[self.order]
        shapes = _shape_functions(barycentric, self.order)
        slopes = _shape_slopes(barycentric, self.order)  # (q, n, 2) with respect to the two free coordinates
        corners = self.nodes[self.elements]  # (M, n, 2)
        points = np.einsum("qn,mnx->mqx", shapes, corners)
        tangents = np.einsum("qnr,mnx->mqxr", slopes, corners)
        determinant = np.linalg.det(tangents)
        if determinant.min() <= 0:
            element = int(determinant.min(axis=1).argmin())
            raise InputError(f"Mesh element {element + 1} folds over itself at the curved rim. Use smaller elements.")
        gradients = np.einsum("qnr,mqrx->mqnx", slopes, np.linalg.inv(tangents))
        local, coefficients = _map_weights(np.tile(barycentric, (len(self.elements), 1)), self.order)
        interpolation = self._rows(np.repeat(np.arange(len(self.elements)), len(weights)), local, coefficients)
        return Quadrature(
            points.reshape(-1, 2),
            (0.5 * determinant * weights).ravel(),
            shapes,
            gradients.reshape(-1, shapes.shape[1], 2),
            interpolation,
        )

    def locate(
        self, points: NDArray[np.float64], tolerance: float = 1e-6
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the element (n,) that holds each point (-1 outside) and its barycentric coordinates (n, 3).

        Parameters
        ----------
        points : (n, 2) ndarray, mm
        tolerance : float
            How far outside an element a point may lie, as a fraction of the element.
        """
        points = np.atleast_2d(np.asarray(points, dtype=np.float64))
        count = min(_CANDIDATES, len(self.elements))
        _, candidates = self._centroid_tree.query(points, k=count)
        element, barycentric = self._best_candidate(points, candidates.reshape(len(points), count))
        lost = np.flatnonzero(barycentric.min(axis=1) < -tolerance)
        everything = np.arange(len(self.elements))[None, :]
        for row in lost:  # graded meshes: the right element need not be among the nearest
            element[row : row + 1], barycentric[row : row + 1] = self._best_candidate(
                points[row : row + 1], everything[:, self._near(points[row])]
            )
        element[barycentric.min(axis=1) < -tolerance] = -1
        return element, barycentric

    def contains(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return for each of the (n, 2) points, in mm, whether it lies in the mesh."""
        return self.locate(points)[0] >= 0

    def interpolation(self, points: NDArray[np.float64]) -> sparse.csr_array:
        """Return the (n, N) matrix that takes a map at the nodes to the (n, 2) points in mm.

        Rows are non-negative and add up to one; rows of points outside the mesh are empty (the value is then 0).
        """
        element, barycentric = self.locate(points)
        local, coefficients = _map_weights(barycentric, self.order)
        return self._rows(element, local, np.where(element[:, None] >= 0, coefficients, 0.0))

    def evaluation(self, points: NDArray[np.float64]) -> sparse.csr_array:
        """Return the (n, N) matrix of finite-element functions at the (n, 2) points in mm (for the fluence).

        Raises
        ------
        InputError
            If a point lies outside the mesh.
        """
        element, barycentric = self.locate(points)
        if (element < 0).any():
            row = int(np.flatnonzero(element < 0)[0])
            x, y = np.atleast_2d(points)[row]
            raise InputError(
                f"Point {row + 1} at ({x:.2f}, {y:.2f}) mm lies outside the mesh. Move it, or rebuild the mesh."
            )
        shapes = _shape_functions(barycentric, self.order)
        local = np.broadcast_to(np.arange(shapes.shape[1]), shapes.shape)
        return self._rows(element, local, shapes)

    def project_to_boundary(
        self, points: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return the nearest rim point (n, 2), its inward unit normal (n, 2) and the distance (n,), in mm."""
        points = np.atleast_2d(np.asarray(points, dtype=np.float64))
        edges = self.boundary_edges
        start, end = self.nodes[edges[:, 0]], self.nodes[edges[:, 1]]
        bulge = self.nodes[edges[:, 2]] - 0.5 * (start + end) if self.order == 2 else np.zeros_like(start)
        samples = np.linspace(0.0, 1.0, 5)
        curve = _edge_points(start[:, None], end[:, None], bulge[:, None], samples[None, :, None])
        squares = ((points[:, None, None] - curve) ** 2).sum(axis=-1)
        edge = squares.min(axis=2).argsort(axis=1)[:, :3]  # neighbors share their end, so more than one must be tried
        t = samples[np.take_along_axis(squares.argmin(axis=2), edge, axis=1)][..., None]
        p, q, b, target = start[edge], end[edge], bulge[edge], points[:, None]
        for _ in range(_CURVE_ITERATIONS):
            tangent = (q - p) + 4 * (1 - 2 * t) * b
            offset = target - _edge_points(p, q, b, t)
            along = (offset * tangent).sum(axis=-1, keepdims=True) / (tangent**2).sum(axis=-1, keepdims=True)
            t = np.clip(t + along, 0.0, 1.0)
        found = _edge_points(p, q, b, t)
        best = np.linalg.norm(target - found, axis=-1).argmin(axis=1)
        rows = np.arange(len(points))
        projected, edge, t = found[rows, best], edge[rows, best], t[rows, best]
        normals = self._boundary_vertex_normals
        normal = (1 - t) * normals[edges[edge, 0]] + t * normals[edges[edge, 1]]
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        return projected, normal, np.linalg.norm(points - projected, axis=1)

    @cached_property
    def _boundary_vertex_normals(self) -> NDArray[np.float64]:
        """(N, 2) inward unit normals at the corners on the rim, mean of the two edges that meet; zero elsewhere."""
        edges = self.boundary_edges
        start, end = self.nodes[edges[:, 0]], self.nodes[edges[:, 1]]
        bulge = self.nodes[edges[:, 2]] - 0.5 * (start + end) if self.order == 2 else np.zeros_like(start)
        normals = np.zeros_like(self.nodes)
        for vertex, tangent in ((edges[:, 0], end - start + 4 * bulge), (edges[:, 1], end - start - 4 * bulge)):
            unit = tangent / np.linalg.norm(tangent, axis=1, keepdims=True)
            np.add.at(normals, vertex, np.column_stack([-unit[:, 1], unit[:, 0]]))
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        return np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)

    @cached_property
    def _centroid_tree(self) -> cKDTree:
        return cKDTree(self.nodes[self.elements[:, :3]].mean(axis=1))

    def _near(self, point: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return the elements whose bounding box, with a margin for the curved rim, holds the point; never none."""
        corners = self.nodes[self.elements]
        low, high = corners.min(axis=1), corners.max(axis=1)
        margin = 0.2 * (high - low)
        near = ((point >= low - margin) & (point <= high + margin)).all(axis=1)
        if not near.any():
            near[self._centroid_tree.query(point)[1]] = True
        return near

    @cached_property
    def _to_barycentric(self) -> NDArray[np.float64]:
        """(M, 2, 2) from a position, less the first corner, to the last two barycentric coordinates."""
        first, second, third = np.moveaxis(self.nodes[self.elements[:, :3]], 1, 0)
        return np.linalg.inv(np.stack([second - first, third - first], axis=-1))

    def _best_candidate(
        self, points: NDArray[np.float64], candidates: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return for each point the candidate (n, k) that holds it most, and the barycentric coordinates there."""
        corners = self.nodes[self.elements[candidates]]  # (n, k, nodes, 2)
        to_barycentric = self._to_barycentric[candidates]

        def straight(position: NDArray[np.float64]) -> NDArray[np.float64]:
            free = np.einsum("nkrx,nkx->nkr", to_barycentric, position - corners[:, :, 0])
            return np.concatenate([1 - free.sum(axis=-1, keepdims=True), free], axis=-1)

        target = np.broadcast_to(points[:, None], corners[:, :, 0].shape)
        barycentric = straight(target)
        if self.order == 2:
            bulges = np.stack(
                [corners[:, :, 3 + e] - 0.5 * (corners[:, :, i] + corners[:, :, j]) for e, (i, j) in enumerate(_EDGES)],
                axis=2,
            )
            if np.abs(bulges).max() > 0:
                for _ in range(_CURVE_ITERATIONS):  # x = sum l_i x_i + 4 sum l_i l_j bulge_ij, solved for l
                    inside = np.clip(barycentric, -0.5, 1.5)
                    products = np.stack([inside[..., i] * inside[..., j] for i, j in _EDGES], axis=-1)
                    barycentric = straight(target - 4 * np.einsum("nke,nkex->nkx", products, bulges))
        best = barycentric.min(axis=-1).argmax(axis=1)
        rows = np.arange(len(points))
        return candidates[rows, best], barycentric[rows, best]

    def _rows(
        self, element: NDArray[np.int64], local: NDArray[np.int64], values: NDArray[np.float64]
    ) -> sparse.csr_array:
        """Return the sparse matrix with `values` (n, k) in the columns of the nodes `local` (n, k) of each element."""
        columns = np.take_along_axis(self.elements[element], local, axis=1)
        rows = np.repeat(np.arange(len(element)), local.shape[1])
        matrix = sparse.csr_array((values.ravel(), (rows, columns.ravel())), shape=(len(element), len(self.nodes)))
        matrix.eliminate_zeros()
        return matrix


def quadratic(mesh: TriangleMesh) -> TriangleMesh:
    """Return the P2 mesh of a P1 mesh: middle nodes on the straight edges, after the given nodes."""
    if mesh.order == 2:
        return mesh
    edges = np.concatenate([mesh.elements[:, list(edge)] for edge in _EDGES])
    unique, inverse = np.unique(np.sort(edges, axis=1), axis=0, return_inverse=True)
    middles = mesh.nodes[unique].mean(axis=1)
    numbers = (len(mesh.nodes) + inverse.reshape(3, -1)).T
    return TriangleMesh(np.concatenate([mesh.nodes, middles]), np.concatenate([mesh.elements, numbers], axis=1), 2)


def _signed_areas(nodes: NDArray[np.float64], elements: NDArray[np.int64]) -> NDArray[np.float64]:
    a, b, c = (nodes[elements[:, i]] for i in range(3))
    return 0.5 * ((b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0]))


def _edge_points(
    start: NDArray[np.float64], end: NDArray[np.float64], bulge: NDArray[np.float64], t: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the points at t in [0, 1] on parabolas from start to end whose middle lies `bulge` off the chord."""
    return (1 - t) * start + t * end + 4 * t * (1 - t) * bulge


def _shape_functions(barycentric: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """Return the (n, 3) or (n, 6) Lagrange functions at (n, 3) barycentric coordinates."""
    if order == 1:
        return barycentric
    corner = barycentric * (2 * barycentric - 1)
    middle = np.stack([4 * barycentric[:, i] * barycentric[:, j] for i, j in _EDGES], axis=1)
    return np.concatenate([corner, middle], axis=1)


def _shape_slopes(barycentric: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """Return their derivatives (n, 3 or 6, 2) by the second and third barycentric coordinate."""
    base = np.array([[-1.0, -1.0], [1.0, 0.0], [0.0, 1.0]])
    if order == 1:
        return np.broadcast_to(base, (len(barycentric), 3, 2))
    corner = (4 * barycentric - 1)[:, :, None] * base
    middle = np.stack(
        [4 * (barycentric[:, i, None] * base[j] + barycentric[:, j, None] * base[i]) for i, j in _EDGES], axis=1
    )
    return np.concatenate([corner, middle], axis=1)


def _map_weights(barycentric: NDArray[np.float64], order: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return local nodes (n, 3) and convex weights (n, 3): linear interpolation, for order 2 on the sub-triangles."""
    clipped = np.clip(barycentric, 0.0, None)
    clipped = clipped / clipped.sum(axis=1, keepdims=True)
    if order == 1:
        return np.broadcast_to(np.arange(3), clipped.shape), clipped
    local = np.tile(np.array([4, 5, 3]), (len(clipped), 1))  # the middle triangle: opposite to corners 0, 1, 2
    weights = 1 - 2 * clipped
    for corner, nodes in enumerate(((0, 3, 5), (3, 1, 4), (5, 4, 2))):
        here = clipped[:, corner] >= 0.5
        local[here] = nodes
        weights[here] = 2 * clipped[here]
        weights[here, corner] -= 1
    return local, weights


def _three_point_rule() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points = np.full((3, 3), 1 / 6)
    np.fill_diagonal(points, 2 / 3)
    return points, np.full(3, 1 / 3)


def _seven_point_rule() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Radon's rule of degree 5: J. Radon, Monatsh. Math. 52:286 (1948), doi 10.1007/BF01525334."""
    root = np.sqrt(15.0)
    points, weights = [np.full(3, 1 / 3)], [9 / 40]
    for a, w in (((6 - root) / 21, (155 - root) / 1200), ((6 + root) / 21, (155 + root) / 1200)):
        for corner in range(3):
            point = np.full(3, a)
            point[corner] = 1 - 2 * a
            points.append(point)
            weights.append(w)
    return np.array(points), np.array(weights)


_RULES = {1: _three_point_rule(), 2: _seven_point_rule()}
