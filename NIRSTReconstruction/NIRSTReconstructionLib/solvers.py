"""Solving K Phi = q for many tissues on one mesh: the reference route through scipy, and the choice between routes."""

from __future__ import annotations

import importlib.util
from typing import Protocol

import numpy as np
from BreastBiomarkersLib.errors import InputError
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

from NIRSTReconstructionLib.diffusion import DiffusionOperator

SOLVERS = ("auto", "lanes", "splu")


class Solver(Protocol):
    """Solves with the k matrices of `DiffusionOperator.entries` (n, k) for fixed source and detector vectors."""

    name: str

    def transfer(self, entries: NDArray) -> NDArray:
        """Return D' K^-1 P, (k, S, D): what every detector sees of every source."""

    def fields(self, entries: NDArray) -> tuple[NDArray, NDArray]:
        """Return K^-1 P (k, N, S) and K^-1 D (k, N, D): fluence of the sources, adjoint fluence of the detectors."""


class SpluSolver:
    """The reference route: one sparse LU factorization per matrix (SuperLU in symmetric mode).

    Parameters
    ----------
    operator : DiffusionOperator
    sources : (N, S) sparse array
        Right-hand side of each source.
    detectors : (N, D) sparse array
        What each detector reads from a fluence.
    """

    name = "splu"

    def __init__(self, operator: DiffusionOperator, sources: sparse.csr_array, detectors: sparse.csr_array) -> None:
        self._operator = operator
        self._detectors = detectors
        self._right = sparse.hstack([sources, detectors]).toarray()
        self._source_count = sources.shape[1]

    def transfer(self, entries: NDArray) -> NDArray:
        """Return D' K^-1 P, (k, S, D)."""
        sources = self._right[:, : self._source_count]
        solved = [(self._detectors.T @ self._solve(entries[:, k], sources)).T for k in range(entries.shape[1])]
        return np.stack(solved)

    def fields(self, entries: NDArray) -> tuple[NDArray, NDArray]:
        """Return K^-1 P (k, N, S) and K^-1 D (k, N, D)."""
        solved = np.stack([self._solve(entries[:, k], self._right) for k in range(entries.shape[1])])
        return solved[:, :, : self._source_count], solved[:, :, self._source_count :]

    def _solve(self, entries: NDArray, right: NDArray) -> NDArray:
        factor = splu(
            self._operator.matrix(entries),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
        return np.asarray(factor.solve(right.astype(entries.dtype)))


def make_solver(
    name: str, operator: DiffusionOperator, sources: sparse.csr_array, detectors: sparse.csr_array
) -> Solver:
    """Return the solver of that name; "auto" is "lanes" where numba is installed, else "splu".

    Raises
    ------
    InputError
        If the name is unknown, or "lanes" is asked for without numba.
    """
    if name not in SOLVERS:
        raise InputError(f"Unknown solver '{name}'. Choose one of: {', '.join(SOLVERS)}.")
    if name == "splu":
        return SpluSolver(operator, sources, detectors)
    if importlib.util.find_spec("numba") is not None:
        from NIRSTReconstructionLib.lanes import LanesSolver

        return LanesSolver(operator, sources, detectors)
    if name == "lanes":
        raise InputError("The solver 'lanes' needs the package numba. Install it, or choose 'splu' or 'auto'.")
    return SpluSolver(operator, sources, detectors)
