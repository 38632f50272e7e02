"""The solver against direct solvers and scikit-image, and the properties the mathematics demands."""

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Cancelled
from scipy import sparse
from scipy.sparse.linalg import spsolve
from WeakSegmentLib.random_walk import Graph, Marker, noise_scaled_graph, published_graph, repeat_walk, solve

SHAPE = (11, 12, 13)


def random_markers(shape, rng, tumor=12, background=30):
    markers = np.zeros(shape, dtype=np.int8)
    places = rng.choice(markers.size, tumor + background, replace=False)
    markers.flat[places[:tumor]] = Marker.TUMOR
    markers.flat[places[tumor:]] = Marker.BACKGROUND
    return markers


def random_conductances(shape, rng):
    return [rng.uniform(1e-3, 1, tuple(n - (axis == a) for a, n in enumerate(shape))) for axis in range(3)]


def direct_solve(conductances, markers, pull=0.0, target=None):
    """Return the score by a sparse LU factorization of the full, uneliminated system."""
    number = np.arange(markers.size).reshape(markers.shape)
    first = np.concatenate(
        [number[tuple(slice(0, -1 if a == axis else None) for a in range(3))].ravel() for axis in range(3)]
    )
    second = np.concatenate(
        [number[tuple(slice(1 if a == axis else 0, None) for a in range(3))].ravel() for axis in range(3)]
    )
    weights = np.concatenate([c.ravel() for c in conductances])
    links = sparse.csr_array(
        (np.tile(weights, 2), (np.r_[first, second], np.r_[second, first])), shape=(markers.size,) * 2
    )
    laplacian = (sparse.diags_array(links.sum(axis=1)) - links).tocsr()
    flat = markers.ravel()
    unknown, tumor = np.flatnonzero(flat == 0), np.flatnonzero(flat == Marker.TUMOR)
    right = links[unknown][:, tumor].sum(axis=1)
    if target is not None:
        right = right + pull * target.ravel()[unknown]
    score = (flat == Marker.TUMOR).astype(float)
    score[unknown] = spsolve((laplacian[unknown][:, unknown] + pull * sparse.eye_array(unknown.size)).tocsc(), right)
    return score.reshape(markers.shape)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("pull", [0.0, 0.01])
def test_equals_a_direct_solver(seed, pull):
    rng = np.random.default_rng(seed)
    conductances, markers = random_conductances(SHAPE, rng), random_markers(SHAPE, rng)
    target = rng.random(SHAPE).astype(np.float32)
    solution = solve(Graph.from_conductances(*conductances), markers, pull, target)
    assert solution.converged
    np.testing.assert_allclose(solution.score, direct_solve(conductances, markers, pull, target), atol=1e-4)


def test_a_torch_device_gives_the_same_walk():
    pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    conductances, markers = random_conductances(SHAPE, rng), random_markers(SHAPE, rng)
    graph, target = Graph.from_conductances(*conductances), rng.random(SHAPE).astype(np.float32)
    solution = solve(graph, markers, 0.01, target, device="cpu")
    assert solution.converged
    np.testing.assert_allclose(solution.score, direct_solve(conductances, markers, 0.01, target), atol=1e-4)
    walks = [repeat_walk(graph, markers, np.zeros_like(markers), 3, 0.8, 0.1, device=d).score for d in ("", "cpu")]
    np.testing.assert_allclose(*walks, atol=1e-4)
    with pytest.raises(InputError, match="no device 'nowhere'"):
        solve(graph, markers, device="nowhere")


def test_equals_a_direct_solver_on_image_conductances():
    rng = np.random.default_rng(9)
    image = rng.normal(size=SHAPE).astype(np.float32)
    image[3:8, 3:9, 4:10] += 6
    spacing = np.array([2.0, 0.7, 0.5])
    box = (slice(3, 8), slice(3, 9), slice(4, 10))
    graph = noise_scaled_graph(image, spacing, box, 2.0)
    differences = np.concatenate([np.abs(np.diff(image[box], axis=a)).ravel() for a in range(3)])
    sigma = 2.0 * 1.48 * np.median(differences)
    conductances = [
        (np.exp(-(np.diff(image, axis=a) ** 2) / (2 * sigma**2)) + 1e-6) * (0.5 / spacing[a]) ** 2 for a in range(3)
    ]
    markers = random_markers(SHAPE, rng, 3, 10)
    np.testing.assert_allclose(solve(graph, markers).score, direct_solve(conductances, markers), atol=1e-4)


def test_scores_obey_the_maximum_principle_and_the_label_swap():
    rng = np.random.default_rng(2)
    graph, markers = Graph.from_conductances(*random_conductances(SHAPE, rng)), random_markers(SHAPE, rng)
    score = solve(graph, markers).score
    assert score.min() >= 0
    assert score.max() <= 1
    assert (score[markers == Marker.TUMOR] == 1).all()
    assert (score[markers == Marker.BACKGROUND] == 0).all()
    swapped = np.array([0, 2, 1], dtype=np.int8)[markers]
    np.testing.assert_allclose(solve(graph, swapped).score, 1 - score, atol=1e-4)


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 1, 0), (0, 2, 1)])
def test_permuting_axes_with_spacing_permutes_the_score(order):
    rng = np.random.default_rng(4)
    image, markers = rng.normal(size=SHAPE).astype(np.float32), random_markers(SHAPE, rng)
    spacing, box = np.array([2.0, 0.7, 1.1]), (slice(2, 9),) * 3
    score = solve(noise_scaled_graph(image, spacing, box, 2.0), markers).score
    turned = solve(noise_scaled_graph(image.transpose(order), spacing[list(order)], box, 2.0), markers.transpose(order))
    np.testing.assert_allclose(turned.score, score.transpose(order), atol=1e-4)


def test_a_good_start_saves_steps_and_changes_nothing():
    rng = np.random.default_rng(6)
    graph, markers = Graph.from_conductances(*random_conductances(SHAPE, rng)), random_markers(SHAPE, rng)
    cold = solve(graph, markers)
    warm = solve(graph, markers, start=cold.score)
    assert warm.steps < cold.steps / 4
    np.testing.assert_allclose(warm.score, cold.score, atol=1e-4)


@pytest.mark.parametrize("parity", [0, 1])
def test_unknowns_of_one_color_only(parity):
    rng = np.random.default_rng(8)
    conductances = random_conductances(SHAPE, rng)
    markers = random_markers(SHAPE, rng, 500, 900)
    markers[(np.indices(SHAPE).sum(axis=0) % 2 == parity) & (markers == 0)] = Marker.BACKGROUND
    score = solve(Graph.from_conductances(*conductances), markers).score
    np.testing.assert_allclose(score, direct_solve(conductances, markers), atol=1e-5)


def test_nothing_unknown_returns_the_markers():
    rng = np.random.default_rng(1)
    markers = np.where(rng.random(SHAPE) > 0.5, Marker.TUMOR, Marker.BACKGROUND).astype(np.int8)
    solution = solve(Graph.from_conductances(*random_conductances(SHAPE, rng)), markers)
    np.testing.assert_array_equal(solution.score, markers == Marker.TUMOR)
    assert solution.converged


def test_without_a_tumor_marker_all_is_background():
    rng = np.random.default_rng(1)
    markers = random_markers(SHAPE, rng, 0, 5)
    assert solve(Graph.from_conductances(*random_conductances(SHAPE, rng)), markers).score.max() == 0


def lesion_case():
    """Return a scaled image, a spacing and markers such as the published method makes."""
    rng = np.random.default_rng(3)
    shape = (14, 30, 34)
    k, j, i = (np.arange(n) - (n - 1) / 2 for n in shape)
    radius = np.sqrt((k[:, None, None] / 4.5) ** 2 + (j[:, None] / 10) ** 2 + (i / 12) ** 2)
    image = 100 + 60 * (radius < 1) + 12 * rng.normal(size=shape)
    image = ((image - image.min()) / image.max()).astype(np.float32)
    markers = np.zeros(shape, dtype=np.int8)
    markers[radius > 1.5] = Marker.BACKGROUND
    markers[5:9, 14:16, 8:26] = Marker.TUMOR
    return image, np.array([1.7, 0.6, 0.6]), markers


@pytest.mark.parametrize("repetitions", [0, 7])
def test_same_mask_as_scikit_image(repetitions):
    segmentation = pytest.importorskip("skimage.segmentation", reason="scikit-image is not installed")
    image, spacing, markers = lesion_case()
    graph = published_graph(image, spacing, 130.0, 1e-10)
    own = repeat_walk(graph, markers, np.zeros_like(markers), repetitions, 0.8, 0.1).score
    theirs = None
    for _ in range(repetitions + 1):
        if theirs is not None:
            markers = np.where(theirs > 0.8, 1, np.where(theirs <= 0.1, 2, 0)).astype(np.int8)
        theirs = segmentation.random_walker(
            image, markers, beta=130, mode="cg_j", tol=1e-9, spacing=spacing, return_full_prob=True
        )[0]
    np.testing.assert_array_equal(own > 0.8, theirs > 0.8)
    np.testing.assert_allclose(own, theirs, atol=2e-3)


def test_pinned_markers_hold_and_the_history_is_told():
    image, spacing, markers = lesion_case()
    pinned = np.zeros_like(markers)
    pinned[6, 15, 12] = Marker.BACKGROUND
    graph = published_graph(image, spacing, 130.0, 1e-10)
    walk = repeat_walk(graph, markers, pinned, 3, 0.8, 0.1)
    assert walk.score[6, 15, 12] == 0
    assert len(walk.solves) == 4
    assert all(solve["converged"] for solve in walk.solves)
    unknowns = [solve["unknowns"] for solve in walk.solves]
    assert unknowns == sorted(unknowns, reverse=True)


def test_progress_can_cancel():
    image, spacing, markers = lesion_case()

    def cancel(fraction, message):
        if fraction > 0.4:
            raise Cancelled

    with pytest.raises(Cancelled):
        repeat_walk(
            published_graph(image, spacing, 130.0, 1e-10), markers, np.zeros_like(markers), 7, 0.8, 0.1, progress=cancel
        )
