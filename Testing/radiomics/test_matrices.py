"""Every matrix against the plainest loops that define it, on ragged 6 x 7 x 5 levels; autocorrelation and peaks too."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from RadiomicsPanelLib import glcm, gldzm, glrlm, glszm, ngldm, ngtdm
from RadiomicsPanelLib.feature import NotApplicable
from RadiomicsPanelLib.level_image import PLANE_DIRECTIONS, VOLUME_DIRECTIONS, LevelImage
from RadiomicsPanelLib.local_intensity import RADIUS_MM, BallMeans
from RadiomicsPanelLib.roi import Roi
from RadiomicsPanelLib.settings import Settings
from RadiomicsPanelLib.spatial import autocorrelation

ALL = [d for d in itertools.product((-1, 0, 1), repeat=3) if d != (0, 0, 0)]
PLANE = [d for d in ALL if d[0] == 0]


def voxels(levels):
    return [tuple(int(n) for n in v) for v in np.argwhere(levels)]


def at(levels, voxel):
    inside = all(0 <= n < size for n, size in zip(voxel, levels.shape, strict=True))
    return int(levels[voxel]) if inside else 0


def moved(voxel, direction, steps=1):
    return tuple(n + steps * d for n, d in zip(voxel, direction, strict=True))


def of_slice(levels, k):
    return LevelImage.from_levels(np.where(np.arange(len(levels))[:, None, None] == k, levels, 0), 9)


@pytest.fixture
def roi(ragged_levels):
    """Return a region that stands on these levels; its morphological mask has the holes filled."""
    levels = ragged_levels.levels.astype(np.int32)
    mask = levels > 0
    filled = np.ones_like(mask)
    filled[4:] = mask[4:]
    image = type("Grid", (), {"spacing": np.array([2.9, 1.3, 0.7]), "array": levels.astype(float)})()
    return Roi("case", "ragged", Settings(), image, filled, mask, levels, 9)


def test_directions_are_half_of_all():
    for half, whole in ((VOLUME_DIRECTIONS, ALL), (PLANE_DIRECTIONS, PLANE)):
        assert sorted([*half, *(moved((0, 0, 0), d, -1) for d in half)]) == sorted(whole)


def test_cooccurrence_counts(ragged_levels):
    levels = ragged_levels.levels
    for direction, counts in zip(VOLUME_DIRECTIONS, glcm.count_pairs(ragged_levels, VOLUME_DIRECTIONS), strict=True):
        expected = np.zeros((9, 9), dtype=int)
        for v in voxels(levels):
            if at(levels, moved(v, direction)):
                expected[at(levels, v) - 1, at(levels, moved(v, direction)) - 1] += 1
        np.testing.assert_array_equal(counts, expected)


def test_cooccurrence_aggregations(roi):
    names = ("2D_avg", "2D_comb", "2_5D_avg", "2_5D_comb", "3D_avg", "3D_comb")
    matrices = glcm.prepare(roi, names)
    # slices 0 to 3 hold pairs in all directions, slice 4 is empty and slice 5 has one voxel and so no pair
    assert [len(matrices[name]) for name in names] == [16, 4, 4, 1, 13, 1]
    for name, directions in (("2_5D_comb", PLANE), ("3D_comb", ALL)):
        pairs = Counter(
            (at(roi.levels, v), at(roi.levels, moved(v, d)))
            for v in voxels(roi.levels)
            for d in directions
            if at(roi.levels, moved(v, d))
        )
        (m,) = matrices[name]
        assert {(i, j): p for i, j, p in zip(m.i, m.j, m.p, strict=True)} == pytest.approx(
            {pair: n / pairs.total() for pair, n in pairs.items()}
        )


def runs_by_loops(levels, direction):
    found = Counter()
    for v in voxels(levels):
        if at(levels, moved(v, direction, -1)) != at(levels, v):
            length = 1
            while at(levels, moved(v, direction, length)) == at(levels, v):
                length += 1
            found[at(levels, v), length] += 1
    return found


def entries(matrix):
    return {(int(i), int(j)): int(s) for i, j, s in zip(matrix.i, matrix.j, matrix.s, strict=True)}


def test_run_lengths(roi):
    matrices = glrlm.prepare(roi, ("2D_avg", "2D_comb", "2_5D_avg", "3D_avg", "3D_comb"))
    expected = [runs_by_loops(roi.levels, d) for d in VOLUME_DIRECTIONS]
    assert [entries(m) for m in matrices["3D_avg"]] == expected
    assert entries(matrices["3D_comb"][0]) == sum(expected, Counter())
    assert matrices["3D_comb"][0].voxel_count == 13 * len(voxels(roi.levels))
    assert [entries(m) for m in matrices["2_5D_avg"]] == [runs_by_loops(roi.levels, d) for d in PLANE_DIRECTIONS]
    per_slice = [of_slice(roi.levels, k).levels for k in (0, 1, 2, 3, 5)]
    assert [entries(m) for m in matrices["2D_avg"]] == [
        runs_by_loops(p, d) for p in per_slice for d in PLANE_DIRECTIONS
    ]
    assert matrices["2D_comb"][-1].voxel_count == 4


def zones_by_loops(levels, directions):
    """Return each zone as (level, its voxels), by flooding."""
    left, found = set(voxels(levels)), []
    while left:
        zone = [left.pop()]
        for v in zone:
            for d in directions:
                w = moved(v, d)
                if w in left and levels[w] == levels[v]:
                    left.remove(w)
                    zone.append(w)
        found.append((at(levels, zone[0]), zone))
    return found


def border_distance(mask, voxel, directions):
    """Return the number of face steps to the nearest voxel outside, by trying all of them."""
    planar = all(d[0] == 0 for d in directions)
    everywhere = itertools.product(*(range(-1, n + 1) for n in mask.shape))
    return min(
        sum(abs(a - b) for a, b in zip(voxel, w, strict=True))
        for w in everywhere
        if not at(mask, w) and not (planar and w[0] != voxel[0])
    )


@pytest.mark.parametrize("name, directions", [("3D", ALL), ("2_5D", PLANE)])
def test_zone_sizes_and_distances(roi, name, directions):
    zones = zones_by_loops(roi.levels, directions)
    (sizes,), (distances,) = (family.prepare(roi, (name,))[name] for family in (glszm, gldzm))
    assert entries(sizes) == Counter((level, len(zone)) for level, zone in zones)
    depths = [(lv, min(border_distance(roi.morphological_mask, v, directions) for v in zone)) for lv, zone in zones]
    assert max(depth for _, depth in depths) > 1
    assert entries(distances) == Counter(depths)


def test_zones_of_slices_are_those_of_each_slice_alone(roi):
    for n, k in enumerate((0, 1, 2, 3, 5)):
        expected = Counter((lv, len(zone)) for lv, zone in zones_by_loops(of_slice(roi.levels, k).levels, PLANE))
        assert entries(glszm.prepare(roi, ("2D",))["2D"][n]) == expected


@pytest.mark.parametrize("name, directions", [("3D", ALL), ("2_5D", PLANE)])
def test_neighborhoods(roi, name, directions):
    tone, dependence = {}, Counter()
    for v in voxels(roi.levels):
        level = at(roi.levels, v)
        near = [at(roi.levels, moved(v, d)) for d in directions if at(roi.levels, moved(v, d))]
        dependence[level, 1 + near.count(level)] += 1
        if near:
            n, s = tone.get(level, (0, 0.0))
            tone[level] = (n + 1, s + abs(level - sum(near) / len(near)))
    assert entries(ngldm.prepare(roi, (name,))[name][0]) == dependence
    (m,) = ngtdm.prepare(roi, (name,))[name]
    total = sum(n for n, _ in tone.values())
    assert m.voxel_count == total
    np.testing.assert_allclose(m.i, sorted(tone))
    np.testing.assert_allclose(m.p, [tone[i][0] / total for i in sorted(tone)])
    np.testing.assert_allclose(m.s, [tone[i][1] for i in sorted(tone)])


def test_tone_differences_by_their_double_sums(roi):
    (m,) = ngtdm.prepare(roi, ("3D",))["3D"]
    rows = list(zip(m.i, m.p, m.s, strict=True))
    pairs = [(a, b) for a in rows for b in rows]
    g, n, total = len(rows), m.voxel_count, m.s.sum()
    contrast = sum(a[1] * b[1] * (a[0] - b[0]) ** 2 for a, b in pairs) / (g * (g - 1)) * total / n
    complexity = sum(abs(a[0] - b[0]) * (a[1] * a[2] + b[1] * b[2]) / (a[1] + b[1]) for a, b in pairs) / n
    assert ngtdm.contrast(m) == pytest.approx(contrast)
    assert ngtdm.complexity(m) == pytest.approx(complexity)


def test_maximal_correlation_is_the_second_eigenvalue_of_haralicks_q(roi):
    (m,) = glcm.prepare(roi, ("3D_comb",))["3D_comb"]
    p = np.zeros((9, 9))
    p[m.i.astype(int) - 1, m.j.astype(int) - 1] = m.p
    q = np.einsum("ik,jk,i,k->ij", p, p, 1 / p.sum(axis=1), 1 / p.sum(axis=0))
    second = np.sort(np.linalg.eigvals(q).real)[-2]
    assert glcm.maximal_correlation_coefficient(m) == pytest.approx(np.sqrt(second), rel=1e-9)


def test_information_correlation_by_its_full_definition(roi):
    (m,) = glcm.prepare(roi, ("3D_comb",))["3D_comb"]
    product = np.outer(m.marginal, m.marginal)
    rows, columns = m.i.astype(int) - 1, m.j.astype(int) - 1
    hxy1 = -np.sum(m.p * np.log2(product[rows, columns]))
    hxy2 = -np.sum(product * np.log2(product))
    assert glcm.information_correlation_1(m) == pytest.approx((m.joint_entropy - hxy1) / m.marginal_entropy)
    assert glcm.information_correlation_2(m) == pytest.approx(np.sqrt(1 - np.exp(-2 * (hxy2 - m.joint_entropy))))
    centered = (m.i - m.mean) * (m.j - m.mean)
    assert glcm.correlation(m) == pytest.approx(np.sum(centered * m.p) / m.variance)


@pytest.mark.parametrize("shape", [(6, 7, 5), (1, 7, 5), (1, 1, 4), (2, 2, 2)])
def test_autocorrelation_is_the_sum_over_all_pairs(shape):
    rng = np.random.default_rng(5)
    array, mask, spacing = rng.normal(40, 10, shape), rng.random(shape) < 0.7, np.array([2.9, 1.3, 0.7])
    mask.flat[:2] = True
    points, values = np.argwhere(mask) * spacing, array[mask]
    n, d = len(values), values - values.mean()
    pairs = [(a, b) for a in range(n) for b in range(n) if a != b]
    w = {(a, b): 1 / np.linalg.norm(points[a] - points[b]) for a, b in pairs}
    total = sum(w.values())
    moran = n / total * sum(w[p] * d[p[0]] * d[p[1]] for p in pairs) / sum(d**2)
    geary = (n - 1) / (2 * total) * sum(w[p] * (d[p[0]] - d[p[1]]) ** 2 for p in pairs) / sum(d**2)
    assert autocorrelation(array, mask, spacing) == pytest.approx((moran, geary), rel=1e-12)


def test_autocorrelation_of_one_intensity_is_not_applicable():
    with pytest.raises(NotApplicable, match="one intensity"):
        autocorrelation(np.full((3, 3, 3), 0.1), np.ones((3, 3, 3), dtype=bool), np.ones(3))


def test_ball_means_by_trying_all_voxels(roi):
    roi.image.array[0, 0, 0] = np.nan if not roi.intensity_mask[0, 0, 0] else roi.image.array[0, 0, 0]
    roi.image.array[~roi.intensity_mask & (np.arange(5) == 2)] = np.nan
    places = np.argwhere(np.ones(roi.levels.shape)) * roi.image.spacing
    flat = roi.image.array.ravel()
    expected = []
    for v in np.argwhere(roi.intensity_mask) * roi.image.spacing:
        near = flat[np.linalg.norm(places - v, axis=1) <= RADIUS_MM]
        expected.append(np.nanmean(near))
    np.testing.assert_allclose(BallMeans(roi).means, expected, rtol=1e-10)
