"""Smallest box and ellipsoid around a set of points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from RadiomicsPanelLib.feature import NotApplicable
from RadiomicsPanelLib.level_image import VOLUME_DIRECTIONS

_NEWTON_STEPS = 100


def minimum_box(hull: ConvexHull) -> NDArray[np.float64]:
    """Return the (3,) edge lengths of the smallest box of which one face lies on a face of the convex hull.

    For each face of the hull, the smallest rectangle around the hull's outline on that plane has an edge on an edge of
    the outline (Freeman and Shapira 1975, doi 10.1145/360881.360919). Faces are tried in the order of a lower bound,
    height times the area of the outline, until none can be better. The true minimum may touch the hull with edges alone
    and be smaller; for masks of voxels we have not seen a difference.
    """
    points = hull.points[hull.vertices]
    rounded = np.round(hull.equations[:, :3], 9)
    leading = rounded[np.arange(len(rounded)), np.argmax(rounded != 0, axis=1)]
    normals, facet_of = np.unique(rounded * np.sign(leading)[:, None], axis=0, return_inverse=True)  # n and -n are one
    areas = np.bincount(facet_of.ravel(), weights=_triangle_areas(hull.points[hull.simplices]))
    edges, sides = _ridges(hull)
    heights = np.ptp(normals @ points.T, axis=1)
    bounds = heights * (np.abs(normals @ normals.T) @ areas) / 2
    first = np.cross(normals, np.eye(3)[np.argmin(np.abs(normals), axis=1)])
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(normals, first)
    best, box = np.inf, np.zeros(3)
    for n in np.argsort(bounds, kind="stable"):
        if bounds[n] >= best:
            break
        facing = hull.equations[:, :3] @ normals[n] > 1e-9
        outline = edges[facing[sides[:, 0]] != facing[sides[:, 1]]]
        flat = points @ first[n] + 1j * (points @ second[n])  # complex numbers turn easily
        along = flat[outline[:, 0]] - flat[outline[:, 1]]
        lengths = np.abs(along)
        corners = np.zeros(len(points), dtype=bool)
        corners[outline] = True
        turned = flat[corners] * np.conj(along[lengths > 1e-9] / lengths[lengths > 1e-9])[:, None]
        widths, depths = np.ptp(turned.real, axis=1), np.ptp(turned.imag, axis=1)
        smallest = int(np.argmin(widths * depths))
        if heights[n] * widths[smallest] * depths[smallest] < best:
            box = np.array([heights[n], widths[smallest], depths[smallest]])
            best = float(np.prod(box))
    return box


def minimum_ellipsoid(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (3,) semi-axes of the smallest ellipsoid around (n, 3) points, descending.

    Only few points touch it, so it is found for some outer points first, and points that stick out are added until
    none does. The volume is within 1e-6 of the minimum.

    Raises
    ------
    NotApplicable
        If it does not converge.
    """
    scale = points.std(axis=0)
    scaled = (points - points.mean(axis=0)) / scale
    directions = np.array(VOLUME_DIRECTIONS)
    chosen = np.unique([(scaled @ directions.T).argmax(axis=0), (scaled @ directions.T).argmin(axis=0)])
    while True:
        center, matrix = _ellipsoid_around(scaled[chosen])
        reach = np.sum((scaled - center) @ matrix * (scaled - center), axis=1)
        outside = np.setdiff1d(np.argsort(reach)[-16:], chosen)
        outside = outside[reach[outside] > 1 + 1e-8]
        if not len(outside):
            return 1 / np.sqrt(np.linalg.eigvalsh(matrix / np.outer(scale, scale)))
        chosen = np.concatenate([chosen, outside])


def _ellipsoid_around(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return center c and matrix W of the smallest ellipsoid (x - c)' W (x - c) <= 1 around (n, 3) points.

    The interior-point method of Sun and Freund 2004 (doi 10.1287/opre.1040.0115), section 4: multipliers u of the
    points determine c and W; Newton steps solve h(u) + t = 1 and u t = theta for theta -> 0, with the slack t and
    h = (x - c)' W (x - c) of each point.
    """
    n = len(points)
    u = np.full(n, 1 / n)
    center, matrix, products = _ellipsoid_of(points, u)
    stretch = np.diag(products).max() / 0.95  # start with all points inside
    u, t = u * stretch, 1 - np.diag(products) / stretch
    for _ in range(_NEWTON_STEPS):
        center, matrix, products = _ellipsoid_of(points, u)
        residual = 1 - t - np.diag(products)
        if np.abs(residual).max() < 1e-9 and u @ t < 1e-7:
            return center, matrix
        theta = u @ t / (10 * n)
        jacobian = -2 * (products / u.sum() + products**2) - np.diag(t / u)
        du = np.linalg.solve(jacobian, residual - theta / u + t)
        dt = theta / u - t - t / u * du
        step = 0.99 / max(0.99, (-du / u).max(), (-dt / t).max())  # u and t stay positive
        u, t = u + step * du, t + step * dt
    raise NotApplicable("the smallest ellipsoid was not found")


def _ellipsoid_of(
    points: NDArray[np.float64], u: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the center c and matrix W that belong to multipliers u, and all (x - c)' W (y - c) of points x and y."""
    center = u @ points / u.sum()
    offsets = points - center
    matrix = np.linalg.inv(2 * (offsets * u[:, None]).T @ offsets)
    return center, matrix, offsets @ matrix @ offsets.T


def _triangle_areas(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2


def _ridges(hull: ConvexHull) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the (m, 2) indices into `hull.vertices` of the edges, and the (m, 2) triangles on their sides."""
    number = np.empty(len(hull.points), dtype=np.int64)
    number[hull.vertices] = np.arange(len(hull.vertices))
    edges, sides = [], []
    for opposite in range(3):
        ends = np.delete(number[hull.simplices], opposite, axis=1)
        neighbor = hull.neighbors[:, opposite]
        first = np.arange(len(neighbor)) < neighbor
        edges.append(ends[first])
        sides.append(np.column_stack([np.flatnonzero(first), neighbor[first]]))
    return np.concatenate(edges), np.concatenate(sides)
