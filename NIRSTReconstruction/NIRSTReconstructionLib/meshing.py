"""Making triangle meshes: closed contours (disc, ellipse, polygon, spline) filled with well-shaped triangles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from BreastBiomarkersLib.errors import InputError
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.spatial import Delaunay, cKDTree

from NIRSTReconstructionLib.mesh import MAX_NODES, TriangleMesh, quadratic

ELEMENT_SIZE_MM = 3.6
"""Default side of a triangle away from the optodes; with `OPTODE_ELEMENT_SIZE_MM` about 2,200 P2 nodes in 82 mm."""
OPTODE_ELEMENT_SIZE_MM = 1.2
"""Default side of a triangle at an optode."""
GROWTH = 0.5
"""How fast the side grows with the distance from the nearest optode."""

_RELAXATIONS = 120
_FINE_SAMPLES = 4000  # samples of a contour for lengths and distances
_SAMPLES_PER_CHORD = 16  # of a coarser polygon that tells inside from outside away from the curve


@dataclass(frozen=True, eq=False)
class Contour:
    """A closed curve, counter-clockwise.

    Attributes
    ----------
    curve : callable
        Takes s (n,) in [0, 1) to points (n, 2) in mm.
    corners : (k,) ndarray
        Where the curve has corners; mesh nodes are put there. Empty for smooth curves.
    """

    curve: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    corners: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    @cached_property
    def samples(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Dense parameters (n,) and points (n, 2) in mm, corners among them."""
        s = np.unique(np.concatenate([np.linspace(0, 1, _FINE_SAMPLES, endpoint=False), self.corners % 1.0]))
        return s, self.curve(s)

    @cached_property
    def length_mm(self) -> float:
        """Length in mm."""
        points = self.samples[1]
        return float(np.linalg.norm(np.roll(points, -1, axis=0) - points, axis=1).sum())

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the parameter (n,) of the nearest point of the curve to each of the (n, 2) points in mm."""
        s, curve = self.samples
        nearest = s[self._tree.query(points)[1]]
        step = 1.0 / _FINE_SAMPLES
        for _ in range(30):  # bisection on the curve between the neighbors of the nearest sample
            trial = np.stack([nearest - step, nearest, nearest + step])
            distance = np.stack([np.linalg.norm(self.curve(t % 1.0) - points, axis=1) for t in trial])
            nearest = np.take_along_axis(trial, distance.argmin(axis=0)[None], axis=0)[0]
            step *= 0.5
        return np.asarray(nearest % 1.0)

    def signed_distance(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distance (n,) in mm from the curve, negative inside, to about the curve's sampling."""
        distance = self._tree.query(points)[0]
        curve = self.samples[1]
        inside = inside_polygon(points, curve[::_SAMPLES_PER_CHORD])
        close = distance < 2 * _SAMPLES_PER_CHORD * self.length_mm / len(curve)
        inside[close] = inside_polygon(points[close], curve)
        return np.where(inside, -distance, distance)

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.samples[1])


def circle_contour(radius_mm: float, center: tuple[float, float] = (0.0, 0.0)) -> Contour:
    """Return a circle."""
    return ellipse_contour(radius_mm, radius_mm, center)


def ellipse_contour(half_width_mm: float, half_height_mm: float, center: tuple[float, float] = (0.0, 0.0)) -> Contour:
    """Return an ellipse along the plane's axes.

    Raises
    ------
    InputError
        If a half axis is not positive.
    """
    if not (half_width_mm > 0 and half_height_mm > 0):
        raise InputError(
            f"Half axes of {half_width_mm} and {half_height_mm} mm make no ellipse; both must be positive."
        )

    def curve(s: NDArray[np.float64]) -> NDArray[np.float64]:
        angle = 2 * np.pi * s
        return np.column_stack([center[0] + half_width_mm * np.cos(angle), center[1] + half_height_mm * np.sin(angle)])

    return Contour(curve)


def polygon_contour(points: NDArray[np.float64]) -> Contour:
    """Return the closed polygon through (n, 2) points in mm, either direction, first point not repeated."""
    points = _checked_loop(points)
    s = _chord_parameters(points)
    closed = np.concatenate([points, points[:1]])

    def curve(t: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack([np.interp(t, s, closed[:, axis]) for axis in range(2)])

    return Contour(curve, s[:-1])


def spline_contour(points: NDArray[np.float64]) -> Contour:
    """Return the smooth closed curve (periodic cubic spline) through (n, 2) points in mm, first point not repeated."""
    points = _checked_loop(points)
    spline = CubicSpline(_chord_parameters(points), np.concatenate([points, points[:1]]), bc_type="periodic")
    contour = Contour(lambda s: np.asarray(spline(s)))
    _refuse_self_intersection(contour.curve(np.linspace(0, 1, 8 * len(points), endpoint=False)))
    return contour


def disc_mesh(
    radius_mm: float = 41.0,
    element_size_mm: float = ELEMENT_SIZE_MM,
    *,
    order: int = 2,
    refine_at: NDArray[np.float64] | None = None,
    refined_size_mm: float = OPTODE_ELEMENT_SIZE_MM,
) -> TriangleMesh:
    """Return the mesh of a disc around the origin; see `fill_contour`."""
    return fill_contour(
        circle_contour(radius_mm), element_size_mm, order=order, refine_at=refine_at, refined_size_mm=refined_size_mm
    )


def fill_contour(
    contour: Contour,
    element_size_mm: float = ELEMENT_SIZE_MM,
    *,
    order: int = 2,
    refine_at: NDArray[np.float64] | None = None,
    refined_size_mm: float = OPTODE_ELEMENT_SIZE_MM,
    growth: float = GROWTH,
) -> TriangleMesh:
    """Return a mesh of the inside of a contour, finer around given points, which get a node on the rim.

    Nodes on the rim are spread by the wanted size; inner nodes start on a thinned hexagonal grid and are relaxed as a
    truss of pushing bars under repeated Delaunay triangulation (Persson and Strang 2004, doi
    10.1137/S0036144503429121). For order 2 the middle nodes of rim edges lie on the contour. Equal input gives an
    equal mesh.

    Parameters
    ----------
    contour : Contour
    element_size_mm : float
        Side of a triangle far from the refined points.
    order : int
        1 or 2.
    refine_at : (n, 2) ndarray or None, mm
        Optode positions; each gets a rim node at the nearest contour point.
    refined_size_mm : float
        Side of a triangle there.
    growth : float
        Growth of the side per mm of distance.

    Raises
    ------
    InputError
        If sizes are not positive, the mesh would be too large, or the contour is too narrow for its elements.
    """
    if not (element_size_mm > 0 and refined_size_mm > 0 and growth > 0):
        raise InputError("Element sizes and growth must be positive.")
    area = _polygon_area(contour.samples[1])
    smallest = min(element_size_mm, refined_size_mm) if refine_at is not None else element_size_mm
    if area / smallest**2 > MAX_NODES:
        raise InputError(
            f"Elements of {smallest:g} mm in {area:.0f} mm^2 need too many nodes. Use larger elements, or check units."
        )
    size = _size_function(contour, element_size_mm, refine_at, min(refined_size_mm, element_size_mm), growth)
    parameters = _rim_parameters(contour, size, refine_at)
    rim = contour.curve(parameters)
    inner = _relax(rim, _start_points(contour, size, smallest), contour, size)
    nodes = np.concatenate([rim, inner])
    triangles = _triangulate(nodes, len(rim))
    used, renumbered = np.unique(triangles, return_inverse=True)
    mesh = TriangleMesh(nodes[used], renumbered.reshape(-1, 3), 1)
    _refuse_lost_rim(mesh, len(parameters))
    return mesh if order == 1 else _curve_rim(quadratic(mesh), contour)


def inside_polygon(points: NDArray[np.float64], polygon: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return for each of the (n, 2) points whether it lies in the polygon (k, 2), by counting crossed sides."""
    inside = np.zeros(len(points), dtype=bool)
    start, end = polygon, np.roll(polygon, -1, axis=0)
    for block in np.array_split(np.arange(len(points)), max(1, len(points) * len(polygon) // 4_000_000)):
        x, y = points[block].T
        point, side = np.nonzero((start[:, 1] > y[:, None]) != (end[:, 1] > y[:, None]))
        (x0, y0), (x1, y1) = start[side].T, end[side].T
        right = x[point] < x0 + (x1 - x0) * (y[point] - y0) / (y1 - y0)
        inside[block] = np.bincount(point[right], minlength=len(block)) % 2 == 1
    return inside


def _checked_loop(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (n, 2) points of a closed loop, counter-clockwise, after looking for what makes it no loop."""
    points = np.array(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise InputError("A contour is a list of (x, y) in mm, all of them numbers.")
    if len(points) > 1 and np.allclose(points[0], points[-1]):
        points = points[:-1]
    if len(points) < 3:
        raise InputError(f"A contour of {len(points)} different points encloses nothing; at least 3 are needed.")
    if np.linalg.norm(np.roll(points, -1, axis=0) - points, axis=1).min() < 1e-9:
        raise InputError("Two neighboring points of the contour are the same. Remove one.")
    _refuse_self_intersection(points)
    return points if _polygon_area(points, signed=True) > 0 else points[::-1]


def _refuse_self_intersection(points: NDArray[np.float64]) -> None:
    """Raise InputError if two sides of the closed polygon (n, 2) cross."""
    start, end = points, np.roll(points, -1, axis=0)

    def side(a: NDArray, b: NDArray, c: NDArray) -> NDArray:
        return (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])

    for i in range(len(points) - 1):
        a, b, c, d = start[i], end[i], start[i + 1 :], end[i + 1 :]
        if ((side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)).any():
            x, y = a
            raise InputError(f"The contour crosses itself near ({x:.1f}, {y:.1f}) mm. Order its points along the rim.")


def _polygon_area(points: NDArray[np.float64], signed: bool = False) -> float:
    following = np.roll(points, -1, axis=0)
    area = 0.5 * float((points[:, 0] * following[:, 1] - points[:, 1] * following[:, 0]).sum())
    return area if signed else abs(area)


def _chord_parameters(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the parameters (n + 1,) in [0, 1] of a closed loop's points by the length of the chords."""
    chords = np.linalg.norm(np.roll(points, -1, axis=0) - points, axis=1)
    return np.concatenate([[0.0], np.cumsum(chords) / chords.sum()])


def _size_function(
    contour: Contour, coarse: float, refine_at: NDArray[np.float64] | None, fine: float, growth: float
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return the wanted side of a triangle, mm, as a function of (n, 2) positions."""
    if refine_at is None:
        return lambda points: np.full(len(points), coarse)
    x, y = contour.curve(contour.project(np.atleast_2d(refine_at))).T

    def size(points: NDArray[np.float64]) -> NDArray[np.float64]:
        squared = (points[:, 0, None] - x) ** 2 + (points[:, 1, None] - y) ** 2  # few optodes: faster than a tree
        return np.minimum(coarse, fine + growth * np.sqrt(squared.min(axis=1)))

    return size


def _rim_parameters(
    contour: Contour,
    size: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    refine_at: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Return the sorted parameters of the rim nodes: corners and optodes, and between them steps of the wanted size."""
    s, points = contour.samples
    following = np.roll(points, -1, axis=0)
    steps = np.linalg.norm(following - points, axis=1) / size(0.5 * (points + following))
    travelled = np.concatenate([[0.0], np.cumsum(steps)])
    knots = np.concatenate([s, [1.0]])
    fixed = contour.corners % 1.0
    if refine_at is not None:
        optodes = contour.project(np.atleast_2d(refine_at))
        apart = np.abs(optodes[:, None] - fixed[None, :]) if len(fixed) else np.full((len(optodes), 1), 0.5)
        near_corner = np.minimum(apart, 1 - apart).min(axis=1) * contour.length_mm < 0.3 * size(contour.curve(optodes))
        fixed = np.concatenate([fixed, optodes[~near_corner]])
    fixed = np.sort(fixed) if len(fixed) else np.zeros(1)
    fixed = fixed[np.diff(fixed, prepend=-1.0) > 1e-9]
    at_fixed = np.interp(fixed, knots, travelled)
    marks = []
    for first, last in zip(at_fixed, np.append(at_fixed[1:], at_fixed[0] + travelled[-1]), strict=True):
        count = max(1, round(last - first))
        if len(fixed) == 1:
            count = max(count, 8)
        marks.append(first + (last - first) * np.arange(count) / count)
    return np.sort(np.interp(np.concatenate(marks) % travelled[-1], travelled, knots))


def _start_points(
    contour: Contour, size: Callable[[NDArray[np.float64]], NDArray[np.float64]], smallest: float
) -> NDArray[np.float64]:
    """Return a hexagonal grid inside the contour, thinned at random (fixed seed) to the wanted density."""
    low, high = contour.samples[1].min(axis=0), contour.samples[1].max(axis=0)
    x, y = np.meshgrid(
        np.arange(low[0], high[0] + smallest, smallest),
        np.arange(low[1], high[1] + smallest, smallest * np.sqrt(3) / 2),
    )
    x = x + 0.5 * smallest * (np.arange(len(x)) % 2)[:, None]
    points = np.column_stack([x.ravel(), y.ravel()])
    wanted = size(points)
    points, wanted = (a[contour.signed_distance(points) < -0.5 * wanted] for a in (points, wanted))
    keep = np.random.default_rng(0).uniform(size=len(points)) < (smallest / wanted) ** 2
    return points[keep]


def _relax(
    rim: NDArray[np.float64],
    inner: NDArray[np.float64],
    contour: Contour,
    size: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Return the inner points after the bars of the triangulation have pushed them into an even spread."""
    curve = contour.samples[1]
    tangent = np.roll(curve, -1, axis=0) - np.roll(curve, 1, axis=0)
    inward = np.column_stack([-tangent[:, 1], tangent[:, 0]]) / np.linalg.norm(tangent, axis=1, keepdims=True)
    tree = cKDTree(curve)
    bars = np.zeros((0, 2), dtype=np.int64)
    placed, outer = np.full_like(inner, np.inf), np.ones(len(inner), dtype=bool)
    for iteration in range(_RELAXATIONS):
        nodes = np.concatenate([rim, inner])
        wanted = size(inner)
        if iteration % 30 == 29 and iteration < _RELAXATIONS - 30:
            crowded = _crowded(nodes, bars, size, len(rim))
            inner, placed, wanted = inner[~crowded], np.full_like(inner[~crowded], np.inf), wanted[~crowded]
            nodes = np.concatenate([rim, inner])
        if len(inner) == 0:
            return inner
        if (np.linalg.norm(inner - placed, axis=1) / wanted).max() > 0.1:
            triangles = _triangulate(nodes, len(rim))
            sides = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
            bars = np.unique(np.sort(sides, axis=1), axis=0)
            placed = inner.copy()
            outer = tree.query(inner)[0] < wanted  # only these can come too close to the rim before the next time
        vector = nodes[bars[:, 0]] - nodes[bars[:, 1]]
        length = np.linalg.norm(vector, axis=1)
        target = size(0.5 * (nodes[bars[:, 0]] + nodes[bars[:, 1]]))
        target = 1.2 * target * np.sqrt((length**2).sum() / (target**2).sum())
        force = np.maximum(target - length, 0)[:, None] * vector / length[:, None]
        moves = np.zeros_like(nodes)
        np.add.at(moves, bars[:, 0], force)
        np.add.at(moves, bars[:, 1], -force)
        inner = inner + 0.2 * moves[len(rim) :]
        close = inner[outer]
        nearest = tree.query(close)[1]
        missing = 0.5 * wanted[outer] - ((close - curve[nearest]) * inward[nearest]).sum(axis=1)
        inner[outer] = close + np.maximum(missing, 0)[:, None] * inward[nearest]
    return inner


def _crowded(nodes: NDArray[np.float64], bars: NDArray[np.int64], size: Callable, rim_count: int) -> NDArray[np.bool_]:
    """Return which inner points sit on a bar of less than half the wanted length."""
    length = np.linalg.norm(nodes[bars[:, 0]] - nodes[bars[:, 1]], axis=1)
    short = bars[length < 0.5 * size(0.5 * (nodes[bars[:, 0]] + nodes[bars[:, 1]]))]
    crowded = np.zeros(len(nodes), dtype=bool)
    crowded[short[:, 1]] = True  # bars are sorted: the second end is inner unless both are on the rim
    return crowded[rim_count:]


def _triangulate(nodes: NDArray[np.float64], rim_count: int) -> NDArray[np.int64]:
    """Return the Delaunay triangles (M, 3) whose center lies inside the polygon of the first `rim_count` nodes."""
    triangles = Delaunay(nodes).simplices.astype(np.int64)
    return triangles[inside_polygon(nodes[triangles].mean(axis=1), nodes[:rim_count])]


def _refuse_lost_rim(mesh: TriangleMesh, count: int) -> None:
    """Raise InputError unless the mesh's rim is the closed chain of the rim nodes 0, 1, 2, ..."""
    wanted = {(i, (i + 1) % count) for i in range(count)}
    if {(int(a), int(b)) for a, b in mesh.boundary_edges[:, :2]} != wanted:
        raise InputError(
            "The contour is too narrow or too sharply bent for its elements: the mesh does not follow it. Use smaller "
            "elements or a smoother contour."
        )


def _curve_rim(mesh: TriangleMesh, contour: Contour) -> TriangleMesh:
    """Return the mesh with the middle nodes of rim edges moved onto the contour."""
    nodes = mesh.nodes.copy()
    middles = mesh.boundary_edges[:, 2]
    nodes[middles] = contour.curve(contour.project(nodes[middles]))
    return TriangleMesh(nodes, mesh.elements, 2)
