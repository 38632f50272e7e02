"""Smallest box and ellipsoid around a set of points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from RadiomicsPanelLib.feature import NotApplicable

_MVEE_TOLERANCE = 1e-5
_MVEE_STEPS = 100_000


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
    directions = hull.points[edges[:, 0]] - hull.points[edges[:, 1]]
    heights = np.ptp(normals @ points.T, axis=1)
    bounds = heights * (np.abs(normals @ normals.T) @ areas) / 2
    best, box = np.inf, np.zeros(3)
    for n in np.argsort(bounds, kind="stable"):
        if bounds[n] >= best:
            break
        facing = hull.equations[:, :3] @ normals[n] > 1e-9
        outline = edges[facing[sides[:, 0]] != facing[sides[:, 1]]]
        along = directions[facing[sides[:, 0]] != facing[sides[:, 1]]]
        along = along - np.outer(along @ normals[n], normals[n])
        lengths = np.linalg.norm(along, axis=1)
        along = along[lengths > 1e-9] / lengths[lengths > 1e-9, None]
        corners = hull.points[np.unique(outline)]
        widths = np.ptp(along @ corners.T, axis=1)
        depths = np.ptp(np.cross(along, normals[n]) @ corners.T, axis=1)
        smallest = int(np.argmin(widths * depths))
        if heights[n] * widths[smallest] * depths[smallest] < best:
            box = np.array([heights[n], widths[smallest], depths[smallest]])
            best = float(np.prod(box))
    return box


def minimum_ellipsoid(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (3,) semi-axes of the smallest ellipsoid around (n, 3) points, descending.

    Khachiyan's algorithm with steps away from inner points (Todd and Yildirim 2007, doi 10.1016/j.dam.2007.02.013),
    until the volume is within 0.002 % of the minimum; then scaled to contain all points.

    Raises
    ------
    NotApplicable
        If it does not converge.
    """
    n, m = len(points), points.shape[1] + 1
    lifted = np.column_stack([(points - points.mean(axis=0)) / points.std(axis=0), np.ones(n)])
    weights = np.full(n, 1 / n)
    for iteration in range(_MVEE_STEPS):
        if iteration % 50 == 0:  # afresh, so that the errors of the updates below do not add up
            inverse = np.linalg.inv((lifted * weights[:, None]).T @ lifted)
            reach = np.sum(lifted @ inverse * lifted, axis=1)
        far, near = int(np.argmax(reach)), int(np.argmin(np.where(weights > 0, reach, np.inf)))
        excess, slack = reach[far] / m - 1, 1 - reach[near] / m
        if max(excess, slack) < _MVEE_TOLERANCE:
            break
        at = far if excess >= slack else near
        step = (reach[at] - m) / (m * (reach[at] - 1))
        if at == near:
            step = max(step, -weights[near] / (1 - weights[near]))
        weights *= 1 - step
        weights[at] = max(weights[at] + step, 0.0)
        column = inverse @ lifted[at]
        factor = step / (1 - step + step * reach[at])
        reach = (reach - factor * (lifted @ column) ** 2) / (1 - step)
        inverse = (inverse - factor * np.outer(column, column)) / (1 - step)
    else:
        raise NotApplicable("the smallest ellipsoid was not found")
    offsets = points - weights @ points
    covariance = (offsets * weights[:, None]).T @ offsets
    reach = np.sum(offsets @ np.linalg.inv(covariance) * offsets, axis=1)
    return np.sqrt(np.linalg.eigvalsh(covariance)[::-1] * reach.max())


def _triangle_areas(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2


def _ridges(hull: ConvexHull) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the (m, 2) point indices of the hull's edges and the (m, 2) triangles on their sides."""
    edges, sides = [], []
    for opposite in range(3):
        ends = np.delete(hull.simplices, opposite, axis=1)
        neighbor = hull.neighbors[:, opposite]
        first = np.arange(len(neighbor)) < neighbor
        edges.append(ends[first])
        sides.append(np.column_stack([np.flatnonzero(first), neighbor[first]]))
    return np.concatenate(edges), np.concatenate(sides)
