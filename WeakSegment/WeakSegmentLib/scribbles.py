"""Scribbles: cheapest paths between opposite extreme points, which stay inside the lesion."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

STEPS = np.array([step for step in product((-1, 0, 1), repeat=3) if any(step)])
"""The 26 neighbors of a voxel, in array order."""


def cheapest_path(
    cost: NDArray[np.floating], start: ArrayLike, end: ArrayLike, spacing: NDArray[np.float64] | None
) -> NDArray[np.int64]:
    """Return the voxels (n, 3) of the cheapest 26-connected path between two voxels, both included.

    Parameters
    ----------
    cost : (K, J, I) ndarray, positive
        Cost of each voxel.
    start, end : (3,) array_like of int
    spacing : (3,) ndarray, mm, or None
        With a spacing, a step costs its length times the mean cost of its two voxels. With None it costs the voxel it
        enters, whatever its length.

    Notes
    -----
    Label correcting in cost buckets (delta stepping: Meyer and Sanders, J. Algorithms 49:114, 2003,
    doi 10.1016/S0196-6774(03)00076-2), each bucket relaxed as a whole along the 26 directions; as exact as Dijkstra's.
    """
    shape = np.array(cost.shape) + 2
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    padded = np.pad(cost.astype(np.float64), 1, constant_values=np.inf).ravel()
    offsets = STEPS @ strides
    lengths = np.ones(len(STEPS)) if spacing is None else np.linalg.norm(STEPS * spacing, axis=1)
    source, goal = (int(np.dot(np.asarray(voxel) + 1, strides)) for voxel in (start, end))

    def step_cost(left: NDArray[np.int64], entered: NDArray[np.int64], length: ArrayLike) -> NDArray[np.float64]:
        return padded[entered] if spacing is None else 0.5 * np.asarray(length) * (padded[left] + padded[entered])

    bucket_width = 2 * float(cost.mean() * lengths.mean())  # affects speed only
    distance = np.full(padded.size, np.inf)
    distance[source] = 0
    waiting = np.zeros(padded.size, dtype=bool)
    pending = np.array([source])
    while pending.size:
        nearest = distance[pending].min()
        if distance[goal] <= nearest:
            break
        now = distance[pending] < nearest + bucket_width
        front, pending = pending[now], pending[~now]
        waiting[front] = False
        reached = [pending]
        for offset, length in zip(offsets, lengths, strict=True):
            entered = front + offset
            candidate = distance[front] + step_cost(front, entered, length)
            better = candidate < distance[entered]
            entered = entered[better]
            distance[entered] = candidate[better]
            entered = entered[~waiting[entered]]
            waiting[entered] = True
            reached.append(entered)
        pending = np.concatenate(reached)

    path = [goal]
    while path[-1] != source:
        before = path[-1] + offsets
        total = distance[before] + step_cost(before, np.full(len(before), path[-1]), lengths)
        path.append(int(before[np.argmin(total)]))
    return np.stack(np.unravel_index(path[::-1], shape), axis=1) - 1
