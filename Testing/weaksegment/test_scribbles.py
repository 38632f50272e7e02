"""Paths are the cheapest ones, in millimeters, and stay where they may go."""

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.csgraph import dijkstra
from WeakSegmentLib.scribbles import STEPS, cheapest_path


def path_cost(path, cost, spacing):
    steps = np.diff(path, axis=0)
    assert np.abs(steps).max() == 1, "the path jumps"
    entered = cost[tuple(path[1:].T)]
    if spacing is None:
        return entered.sum()
    return (np.linalg.norm(steps * spacing, axis=1) * 0.5 * (entered + cost[tuple(path[:-1].T)])).sum()


def dijkstra_cost(cost, start, end, spacing):
    """Return the cost of the cheapest path by scipy, on the explicit graph."""
    shape = np.array(cost.shape)
    voxels = np.argwhere(np.ones(cost.shape, dtype=bool))
    rows, columns, weights = [], [], []
    for step in STEPS:
        other = voxels + step
        inside = ((other >= 0) & (other < shape)).all(axis=1)
        one, two = voxels[inside], other[inside]
        entered = cost[tuple(two.T)]
        mean = 0.5 * (entered + cost[tuple(one.T)])
        rows.append(np.ravel_multi_index(one.T, shape))
        columns.append(np.ravel_multi_index(two.T, shape))
        weights.append(entered if spacing is None else np.linalg.norm(step * spacing) * mean)
    graph = sparse.csr_array((np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))))
    return dijkstra(graph, indices=np.ravel_multi_index(start, shape))[np.ravel_multi_index(end, shape)]


@pytest.mark.parametrize("spacing", [None, np.array([2.0, 0.7, 0.4])], ids=["node sum", "millimeters"])
@pytest.mark.parametrize("seed", range(4))
def test_as_cheap_as_dijkstra(spacing, seed):
    rng = np.random.default_rng(seed)
    cost = 0.01 + rng.gamma(0.5, size=(9, 12, 14))
    start, end = (0, 11, 2), (8, 1, 13)
    path = cheapest_path(cost, start, end, spacing)
    assert tuple(path[0]) == start
    assert tuple(path[-1]) == end
    assert path_cost(path, cost, spacing) == pytest.approx(dijkstra_cost(cost, start, end, spacing), rel=1e-12)


def test_goes_around_a_wall():
    cost = np.ones((7, 15, 15))
    cost[:, 7, :12] = 1000.0  # open at the high end of I
    path = cheapest_path(cost, (3, 2, 2), (3, 12, 2), np.ones(3))
    assert cost[tuple(path.T)].max() == 1


def test_distance_is_counted_in_millimeters():
    # around through neighboring slices costs 2 x 5 mm; around in plane 8 voxels of 0.5 mm more
    cost = np.ones((3, 11, 11))
    cost[1, 5, 2:9] = 1000.0
    in_plane = cheapest_path(cost, (1, 2, 5), (1, 8, 5), np.array([5.0, 0.5, 0.5]))
    assert set(in_plane[:, 0]) == {1}
    through = cheapest_path(cost, (1, 2, 5), (1, 8, 5), np.array([0.5, 5.0, 5.0]))
    assert set(through[:, 0]) != {1}


def test_ends_may_coincide():
    np.testing.assert_array_equal(cheapest_path(np.ones((3, 3, 3)), (1, 1, 1), (1, 1, 1), None), [[1, 1, 1]])
