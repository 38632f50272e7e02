"""The random walker on a voxel grid: conductances, one solve for the lesion's score, and the repeated walk."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Progress, ignore_progress
from numpy.typing import NDArray
from scipy import sparse

MIN_CONDUCTANCE = 1e-6
"""Keeps the graph connected and the system solvable in single precision."""

MAD_TO_SIGMA = 1.48
"""Median absolute deviation to standard deviation of a normal distribution."""

MIN_SIGMA_SHARE = 0.01
"""Lower bound of the noise scale as a share of the intensity range, for images without noise (phantoms, 8-bit)."""

RELATIVE_RESIDUAL = 1e-5
"""At the usual 1e-3 the score is off by up to 0.25 after eight solves, because each thresholding amplifies errors."""

MAX_STEPS = 5000
"""Conjugate-gradient steps of one solve; breast lesions need 50 to 300."""


class Marker(IntEnum):
    """What is known of a voxel before a solve."""

    UNKNOWN = 0
    TUMOR = 1
    BACKGROUND = 2


@dataclass(frozen=True, eq=False)
class Graph:
    """Six-neighbor graph of a voxel grid.

    Attributes
    ----------
    shape : tuple of 3 int
    links : (3, N) ndarray
        Conductance from each voxel to the next along K, J and I, on the grid padded by one voxel on every side and
        flattened; zero where a link would leave the grid.
    degree : (N,) ndarray
        Sum of the six conductances of each padded voxel.
    strides : tuple of 3 int
        Steps to the next voxel along K, J and I in the flattened padded grid.
    odd : (N,) ndarray of bool
        Whether k + j + i is odd: neighbors differ.
    """

    shape: tuple[int, int, int]
    links: NDArray[np.float32]
    degree: NDArray[np.float32]
    strides: tuple[int, int, int]
    odd: NDArray[np.bool_]

    @classmethod
    def from_conductances(
        cls, along_k: NDArray[np.floating], along_j: NDArray[np.floating], along_i: NDArray[np.floating]
    ) -> Graph:
        """Build the graph from the conductances between neighbors: (K-1, J, I), (K, J-1, I) and (K, J, I-1) arrays."""
        k, j, i = along_k.shape[0] + 1, along_j.shape[1] + 1, along_i.shape[2] + 1
        links = np.zeros((3, k + 2, j + 2, i + 2), dtype=np.float32)
        links[0, 1:-2, 1:-1, 1:-1] = along_k
        links[1, 1:-1, 1:-2, 1:-1] = along_j
        links[2, 1:-1, 1:-1, 1:-2] = along_i
        degree = links.sum(axis=0)
        degree[1:] += links[0, :-1]
        degree[:, 1:] += links[1, :, :-1]
        degree[:, :, 1:] += links[2, :, :, :-1]
        strides = ((j + 2) * (i + 2), i + 2, 1)
        odd = (np.arange(k + 2)[:, None, None] + np.arange(j + 2)[:, None] + np.arange(i + 2)) % 2 == 1
        return cls((k, j, i), links.reshape(3, -1), degree.ravel(), strides, odd.ravel())

    def neighbors(self, voxels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the six neighbors (n, 6) of padded flat voxel indices and the conductances (n, 6) to them."""
        steps = [step for stride in self.strides for step in (stride, -stride)]
        at = voxels[:, None] + np.array(steps)
        conductances = np.empty(at.shape, dtype=np.float32)
        for axis in range(3):
            conductances[:, 2 * axis] = self.links[axis][voxels]
            conductances[:, 2 * axis + 1] = self.links[axis][at[:, 2 * axis + 1]]
        return at, conductances


def noise_scaled_graph(
    image: NDArray[np.float32], spacing: NDArray[np.float64], box: tuple[slice, ...], noise_multiple: float
) -> Graph:
    """Return the graph whose links weaken where neighbors differ by more than the noise.

    Parameters
    ----------
    image : (K, J, I) ndarray
    spacing : (3,) ndarray, mm
    box : tuple of 3 slice
        Where the noise is measured.
    noise_multiple : float
        k below.

    Notes
    -----
    w = (exp(-d^2 / (2 sigma^2)) + 1e-6) (h_min / h)^2 with d the intensity difference of neighbors, h their distance
    along the axis and sigma = k x 1.48 x median |d| inside the box.
    """
    inside = np.concatenate([np.abs(np.diff(image[box], axis=axis)).ravel() for axis in range(3)])
    sigma = noise_multiple * MAD_TO_SIGMA * float(np.median(inside))
    sigma = max(sigma, MIN_SIGMA_SHARE * float(np.ptp(image)))
    scale = (spacing.min() / spacing) ** 2
    conductances = [
        (np.exp(-0.5 * (np.diff(image, axis=axis) / sigma) ** 2) + MIN_CONDUCTANCE) * scale[axis] for axis in range(3)
    ]
    return Graph.from_conductances(*conductances)


def published_graph(
    image: NDArray[np.float32], spacing: NDArray[np.float64], beta: float, min_conductance: float
) -> Graph:
    """Return the graph of scikit-image's random walker, which Zhong and Wang (MICCAI 2023) use.

    Notes
    -----
    w = exp(-beta d^2 / (10 sd h^2)) + min_conductance with d the intensity difference of neighbors, h their distance
    in mm and sd the standard deviation of the image. So links grow with the spacing, and since it is sd and not its
    square, they depend on the intensity scale.
    """
    rate = -beta / (10 * float(image.std(dtype=np.float64)))
    conductances = [
        np.exp(rate * (np.diff(image, axis=axis) / spacing[axis]) ** 2) + min_conductance for axis in range(3)
    ]
    return Graph.from_conductances(*conductances)


class Solution(NamedTuple):
    """One solve of the walker.

    Attributes
    ----------
    score : (K, J, I) ndarray, in [0, 1]
        Chance that a walk from the voxel meets a tumor marker before a background marker.
    unknowns, steps : int
        Voxels solved for; conjugate-gradient steps taken.
    residual : float
        Norm of the final residual over that of the right-hand side.
    converged : bool
        The residual is at most twice the tolerance (the running one, in single precision, drifts a little).
    """

    score: NDArray[np.float32]
    unknowns: int
    steps: int
    residual: float
    converged: bool


def solve(
    graph: Graph,
    markers: NDArray[np.int8],
    pull: float = 0.0,
    target: NDArray[np.float32] | None = None,
    start: NDArray[np.float32] | None = None,
    tolerance: float = RELATIVE_RESIDUAL,
    progress: Progress = ignore_progress,
    device: str = "",
) -> Solution:
    """Return the lesion score of every voxel, given the markers.

    Parameters
    ----------
    graph : Graph
    markers : (K, J, I) ndarray of int8
        `Marker` values.
    pull, target : float and (K, J, I) ndarray in [0, 1], optional
        Weak data term: each unknown voxel is linked to its target value with conductance `pull`.
    start : (K, J, I) ndarray, optional
        First guess, such as the score of the previous solve.
    tolerance : float
        Stop when the residual norm is below this share of the right-hand side's.
    progress : Progress
    device : str
        Where the conjugate gradients run: empty for SciPy on the CPU, else a torch device such as "cuda".

    Raises
    ------
    InputError
        If torch is not installed, or has no such device.

    Notes
    -----
    With D the degrees and W the conductances among the unknowns, solves (D + pull - W) p = b, where b collects the
    links to tumor markers and pull x target. Neighbors have opposite parity of k + j + i, so the red half is eliminated
    exactly (its block is diagonal) and Jacobi-preconditioned conjugate gradients run on the black Schur complement
    S = D_b - W_br D_r^-1 W_rb, scaled to a unit diagonal: half the steps, the same answer. Grady, IEEE TPAMI 28:1768
    (2006), doi 10.1109/TPAMI.2006.233; Saad, Iterative Methods for Sparse Linear Systems, 2nd ed., section 12.4.
    """
    padded = np.pad(markers, 1, constant_values=Marker.BACKGROUND)
    unknown = padded.ravel() == Marker.UNKNOWN
    red, black = np.flatnonzero(unknown & graph.odd), np.flatnonzero(unknown & ~graph.odd)
    fixed = (padded.ravel() == Marker.TUMOR).astype(np.float32)
    aim = None if target is None else np.pad(target, 1).ravel()

    number = np.full(padded.size, -1, dtype=np.int32)
    number[black] = np.arange(black.size, dtype=np.int32)
    at, conductances = graph.neighbors(red)
    b_red = np.einsum("nk,nk->n", conductances, fixed[at])
    columns = number[at]
    kept = columns >= 0
    indptr = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int32)
    weights, columns = conductances[kept], columns[kept]
    at, conductances = graph.neighbors(black)
    b_black = np.einsum("nk,nk->n", conductances, fixed[at])
    if aim is not None:
        b_red += np.float32(pull) * aim[red]
        b_black += np.float32(pull) * aim[black]

    r = 1 / np.sqrt(graph.degree[red] + np.float32(pull))  # D_r^-1/2
    b = 1 / np.sqrt(graph.degree[black] + np.float32(pull))  # D_b^-1/2
    weights *= np.repeat(r, np.diff(indptr)) * b[columns]
    diagonal = 1 - np.bincount(columns, weights.astype(np.float64) ** 2, minlength=black.size)  # of S, scaled by b
    t = (1 / np.sqrt(diagonal)).astype(np.float32)
    weights *= t[columns]
    coupling = sparse.csr_array((weights, columns, indptr), shape=(red.size, black.size))
    adjoint = coupling.T.tocsr()
    inverse_diagonal = t * t

    first = np.zeros(padded.shape, dtype=np.float32) if start is None else np.pad(start, 1)
    right = t * b * b_black + adjoint @ (r * b_red)
    guess = first.ravel()[black] / (t * b)
    if device:
        x, steps, residual = _gradients_on(
            device, coupling, adjoint, inverse_diagonal, right, guess, tolerance, progress
        )
    else:
        x, steps, residual = _conjugate_gradients(
            lambda v: inverse_diagonal * v - adjoint @ (coupling @ v), right, guess, tolerance, progress
        )
    score = fixed
    score[black] = t * b * x
    score[red] = r * (r * b_red + coupling @ x)
    np.clip(score, 0, 1, out=score)
    return Solution(
        score.reshape(padded.shape)[1:-1, 1:-1, 1:-1].copy(),
        red.size + black.size,
        steps,
        residual,
        residual <= 2 * tolerance,
    )


def _conjugate_gradients(
    apply: Callable[[Any], Any], right: Any, start: Any, tolerance: float, progress: Progress
) -> tuple[Any, int, float]:
    """Return x with apply(x) = right, the steps taken and the true relative residual; NumPy arrays or torch tensors."""
    norm = float(right @ right) ** 0.5
    if norm == 0:
        return right * 0, 0, 0.0
    x = start * 1
    residual = right - apply(x)
    direction = residual * 1
    square = float(residual @ residual)
    steps = 0
    while square**0.5 > tolerance * norm and steps < MAX_STEPS:
        if steps % 50 == 49:
            progress(steps / MAX_STEPS, f"Solving, step {steps + 1}")
        image = apply(direction)
        length = square / float(direction @ image)
        x += length * direction
        residual -= length * image
        previous, square = square, float(residual @ residual)
        direction *= square / previous
        direction += residual
        steps += 1
    error = right - apply(x)
    return x, steps, float(error @ error) ** 0.5 / norm


def _gradients_on(
    device: str,
    coupling: sparse.csr_array,
    adjoint: sparse.csr_array,
    inverse_diagonal: NDArray[np.float32],
    right: NDArray[np.float32],
    start: NDArray[np.float32],
    tolerance: float,
    progress: Progress,
) -> tuple[NDArray[np.float32], int, float]:
    """Return what `_conjugate_gradients` does, computed by torch on a device."""
    try:
        import torch
        from BreastBiomarkersLib.training import choose_device
    except ImportError as error:
        raise InputError("A device was chosen for the random walk, which needs torch. Install it.") from error
    place = choose_device(device)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support", UserWarning)
        forward, back = (
            torch.sparse_csr_tensor(
                torch.from_numpy(matrix.indptr),
                torch.from_numpy(matrix.indices),
                torch.from_numpy(matrix.data),
                size=matrix.shape,
                device=place,
                check_invariants=False,
            )
            for matrix in (coupling, adjoint)
        )
    diagonal, wanted, guess = (torch.from_numpy(part).to(place) for part in (inverse_diagonal, right, start))
    x, steps, residual = _conjugate_gradients(
        lambda v: diagonal * v - back @ (forward @ v), wanted, guess, tolerance, progress
    )
    return x.cpu().numpy(), steps, residual


class Walk(NamedTuple):
    """The repeated walk: the last score, and one solution's figures per solve."""

    score: NDArray[np.float32]
    solves: list[dict[str, float | int | bool]]


def repeat_walk(
    graph: Graph,
    markers: NDArray[np.int8],
    pinned: NDArray[np.int8],
    repetitions: int,
    tumor_above: float,
    background_below: float,
    pull: float = 0.0,
    target: NDArray[np.float32] | None = None,
    progress: Progress = ignore_progress,
    device: str = "",
) -> Walk:
    """Return the score after 1 + `repetitions` solves, each starting from the confident voxels of the one before.

    Parameters
    ----------
    graph, markers, pull, target, device
        As for `solve`.
    pinned : (K, J, I) ndarray of int8
        Markers that hold through all solves (points, clicks); `Marker.UNKNOWN` elsewhere.
    repetitions : int
    tumor_above, background_below : float
        Scores above and up to which a voxel becomes a marker of the next solve.
    """
    score: NDArray[np.float32] | None = None
    solves: list[dict[str, float | int | bool]] = []
    for n in range(repetitions + 1):
        progress(n / (repetitions + 1), f"Random walk {n + 1} of {repetitions + 1}")
        if score is not None:
            markers = np.where(score > tumor_above, Marker.TUMOR, Marker.UNKNOWN).astype(np.int8)
            markers[score <= background_below] = Marker.BACKGROUND
        markers = np.where(pinned == Marker.UNKNOWN, markers, pinned)
        stage = lambda fraction, message, n=n: progress((n + fraction) / (repetitions + 1), message)  # noqa: E731
        solution = solve(graph, markers, pull, target, score, progress=stage, device=device)
        score = solution.score
        solves.append(
            {
                "unknowns": solution.unknowns,
                "tumor_markers": int(np.count_nonzero(markers == Marker.TUMOR)),
                "steps": solution.steps,
                "residual": solution.residual,
                "converged": solution.converged,
            }
        )
    assert score is not None
    return Walk(score, solves)
