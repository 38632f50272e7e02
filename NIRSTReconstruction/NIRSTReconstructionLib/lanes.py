"""The fast solver: one symbolic analysis per mesh, then Cholesky factors of eight matrices side by side.

Every tissue on a mesh gives a matrix of the same sparsity, so ordering, fill and the list of all updates are found
once. The numbers of `LANES` matrices lie next to each other in memory and go through the same instructions together.
Columns with equal pattern are kept as dense blocks (supernodes; Ng and Peyton 1993, doi 10.1137/0914063), and a source
or detector only needs the columns on its path to the root of the elimination tree (Gilbert 1994,
doi 10.1137/S0895479891202286).

The numeric functions below are plain Python, compiled by numba on first use; numba is imported only then.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from BreastBiomarkersLib.errors import InputError
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

from NIRSTReconstructionLib.diffusion import DiffusionOperator

LANES = 8
"""Matrices that are factored together: one 512-bit or two 256-bit registers of float64."""

_MAX_WIDTH = 16  # columns of one supernode
_WASTE = 0.2  # share of explicit zeros that joining two supernodes may bring


class LanesSolver:
    """The fast route; needs numba. Complex symmetric matrices (frequency domain) are factored without pivoting.

    Keeps working memory between calls, so one object is not for several threads at once.

    Parameters
    ----------
    operator : DiffusionOperator
    sources : (N, S) sparse array
    detectors : (N, D) sparse array

    Notes
    -----
    With K = L L^T and the sparse source and detector vectors P and D, the data are (L^-1 D)^T (L^-1 P): no backward
    substitution. L L^T (not the conjugate) also factors the complex symmetric K of the frequency domain, whose real and
    imaginary parts are both positive definite, which makes it stable without pivoting (Higham 1998,
    doi 10.1090/S0025-5718-98-00978-8).
    """

    name = "lanes"

    def __init__(self, operator: DiffusionOperator, sources: sparse.csr_array, detectors: sparse.csr_array) -> None:
        self._count = len(operator.mesh.nodes)
        self._sources = sources.shape[1]
        order = _fill_reducing_order(operator)
        high = np.maximum(order[operator.rows], order[operator.columns])
        low = np.minimum(order[operator.rows], order[operator.columns])
        structures, parent = _column_structures(self._count, high, low)
        self._order = order
        self._blocks = _Blocks(structures, parent)
        self._entry_places = self._blocks.places(high, low)
        right = sparse.csc_array(sparse.hstack([sources, detectors]))
        self._step = right.shape[1]  # right-hand sides
        vectors = np.repeat(np.arange(self._step), np.diff(right.indptr))
        self._right_rows, self._right_values = order[right.indices] * self._step + vectors, right.data
        self._paths = self._blocks.paths(order[right.indices], vectors, self._step)
        self._kept: dict[np.dtype[Any], tuple[NDArray, ...]] = {}

    def transfer(self, entries: NDArray) -> NDArray:
        """Return D' K^-1 P, (k, S, D)."""
        kernels = _compiled()
        shape = (self._sources, self._step - self._sources)
        result = np.empty((entries.shape[1], *shape), dtype=entries.dtype)
        for first in range(0, entries.shape[1], LANES):
            work = self._solve_forward(entries, first)[1]
            product = np.zeros((shape[0] * shape[1], LANES), dtype=entries.dtype)
            kernels.multiply(self._blocks.columns, *self._paths, self._sources, self._step, work, product)
            width = min(LANES, entries.shape[1] - first)
            result[first : first + width] = -product[:, :width].T.reshape(width, *shape)
        return result

    def fields(self, entries: NDArray) -> tuple[NDArray, NDArray]:
        """Return K^-1 P (k, N, S) and K^-1 D (k, N, D)."""
        kernels = _compiled()
        result = np.empty((entries.shape[1], self._count, self._step), dtype=entries.dtype)
        for first in range(0, entries.shape[1], LANES):
            factor, work = self._solve_forward(entries, first)
            kernels.backward(*self._blocks.layout, factor, self._step, work)
            width = min(LANES, entries.shape[1] - first)
            fields = work.reshape(self._count, self._step, LANES)[self._order, :, :width]
            result[first : first + width] = fields.transpose(2, 0, 1)
        return result[:, :, : self._sources], result[:, :, self._sources :]

    def _solve_forward(self, entries: NDArray, first: int) -> tuple[NDArray, NDArray]:
        """Return L and L^-1 [P D] of the matrices first .. first + LANES - 1 (the last one repeated at the end)."""
        kernels = _compiled()
        columns = np.minimum(np.arange(first, first + LANES), entries.shape[1] - 1)
        factor, work = self._buffers(entries.dtype)
        factor[:] = 0
        factor[self._entry_places] = entries[:, columns]
        kernels.factor(*self._blocks.layout, *self._blocks.updates, factor)
        if not np.isfinite(factor[self._blocks.diagonal]).all():
            raise InputError("The diffusion matrix is not positive definite. Check mesh and tissue values.")
        work[:] = 0
        work[self._right_rows] = self._right_values[:, None]
        kernels.forward(*self._blocks.layout, factor, *self._paths, self._step, work)
        return factor, work

    def _buffers(self, dtype: np.dtype[Any]) -> tuple[NDArray, ...]:
        """Return the arrays for L and the right-hand sides, kept because new memory costs as much as the work in it."""
        if dtype not in self._kept:
            sizes = (self._blocks.size, self._count * self._step)
            self._kept = {dtype: tuple(np.empty((size, LANES), dtype=dtype) for size in sizes)}
        return self._kept[dtype]


class _Kernels(NamedTuple):
    """The compiled numeric functions."""

    factor: Callable[..., None]
    forward: Callable[..., None]
    backward: Callable[..., None]
    multiply: Callable[..., None]


def _fill_reducing_order(operator: DiffusionOperator) -> NDArray[np.int64]:
    """Return the new number of every node: SuperLU's minimum-degree order on the pattern, children before parents."""
    diagonal = operator.rows == operator.columns
    pattern = operator.matrix(np.where(diagonal, float(len(operator.rows)), -1.0))
    factor = splu(pattern, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return factor.perm_c.astype(np.int64)


def _column_structures(
    count: int, high: NDArray[np.int64], low: NDArray[np.int64]
) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """Return for every column of L its rows below the diagonal, sorted, and its parent in the elimination tree (-1)."""
    below = high != low
    order = np.argsort(low[below], kind="stable")
    rows, columns = high[below][order], low[below][order]
    starts = np.searchsorted(columns, np.arange(count + 1))
    pending: list[list[NDArray[np.int64]]] = [[] for _ in range(count)]
    structures, parent = [], np.full(count, -1)
    for j in range(count):
        pieces = [rows[starts[j] : starts[j + 1]], *pending[j]]
        structure = np.unique(np.concatenate(pieces))
        structure = structure[structure > j]
        structures.append(structure)
        if len(structure):
            parent[j] = structure[0]
            pending[parent[j]].append(structure)
        pending[j] = []
    return structures, parent


class _Blocks:
    """L as dense blocks: a run of columns with one list of rows, of which the first are the run itself.

    Attributes
    ----------
    layout : tuple of ndarray
        `columns` (B + 1,) first column of each block; `row_starts` (B + 1,) into `rows`; `rows`; `value_starts`
        (B + 1,) into the numbers of L, which are stored row by row of a block.
    updates : tuple of ndarray
        `update_starts` (B + 1,); for each block the earlier blocks `updaters` that change it, and where in an updater's
        rows the block's columns begin and end (`update_from`, `update_to`).
    """

    def __init__(self, structures: list[NDArray[np.int64]], parent: NDArray[np.int64]) -> None:
        runs = _join_columns(structures, parent)
        self.count = len(runs)
        columns = np.array([first for first, _ in runs] + [len(structures)])
        all_rows = [np.concatenate([np.arange(first, columns[b + 1]), below]) for b, (first, below) in enumerate(runs)]
        heights = np.array([len(rows) for rows in all_rows])
        widths = np.diff(columns)
        row_starts = np.concatenate([[0], np.cumsum(heights)])
        value_starts = np.concatenate([[0], np.cumsum(heights * widths)])
        self.columns = columns
        self.layout = (columns, row_starts, np.concatenate(all_rows), value_starts)
        self.size = int(value_starts[-1])
        self.block_of = np.repeat(np.arange(self.count), widths)
        column = np.arange(columns[-1])
        self.diagonal = self.places(column, column)
        self.updates = self._find_updates()

    def places(self, row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where L[row, column] is among the numbers of L."""
        columns, row_starts, rows, value_starts = self.layout
        block = self.block_of[column]
        width = np.diff(columns)
        stride = len(self.block_of)  # rows are sorted within a block: search all blocks at once
        keys = np.repeat(np.arange(self.count), np.diff(row_starts)) * stride + rows
        local = np.searchsorted(keys, block * stride + row) - row_starts[block]
        return value_starts[block] + local * width[block] + column - columns[block]

    def paths(
        self, rows: NDArray[np.int64], vectors: NDArray[np.int64], vector_count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (starts, vectors): which sparse right-hand sides reach each block on their way to the root."""
        columns, row_starts, all_rows, _ = self.layout
        widths = np.diff(columns)
        first_below = row_starts[:-1] + widths
        has_parent = first_below < row_starts[1:]
        parent = np.full(self.count, -1)
        parent[has_parent] = self.block_of[all_rows[first_below[has_parent]]]
        reached = np.zeros((self.count, vector_count), dtype=bool)
        reached[self.block_of[rows], vectors] = True
        for block in range(self.count):  # children come before parents
            if parent[block] >= 0:
                reached[parent[block]] |= reached[block]
        starts = np.concatenate([[0], np.cumsum(reached.sum(axis=1))])
        return starts, np.nonzero(reached)[1]

    def _find_updates(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        columns, row_starts, rows, _ = self.layout
        found: list[list[tuple[int, int, int]]] = [[] for _ in range(self.count)]
        for block in range(self.count):
            width = columns[block + 1] - columns[block]
            below = rows[row_starts[block] + width : row_starts[block + 1]]
            targets = self.block_of[below]
            edges = np.flatnonzero(np.diff(targets, prepend=-1, append=-1))
            for begin, end in zip(edges[:-1], edges[1:], strict=True):
                found[targets[begin]].append((block, width + begin, width + end))
        starts = np.concatenate([[0], np.cumsum([len(f) for f in found])])
        flat = np.array([item for f in found for item in f], dtype=np.int64).reshape(-1, 3)
        return starts, flat[:, 0].copy(), flat[:, 1].copy(), flat[:, 2].copy()


def _join_columns(
    structures: list[NDArray[np.int64]], parent: NDArray[np.int64]
) -> list[tuple[int, NDArray[np.int64]]]:
    """Return the blocks as (first column, rows below the block): runs of columns whose patterns are nearly equal."""
    runs: list[tuple[int, NDArray[np.int64]]] = []
    for j, structure in enumerate(structures):
        if runs:
            first, below = runs[-1]
            width = j - first + 1
            if parent[j - 1] == j and width <= _MAX_WIDTH:
                joined = np.union1d(below[below > j], structure)
                size = width * len(joined) + width * (width + 1) // 2
                needed = sum(len(structures[c]) + 1 for c in range(first, j + 1))
                if size - needed <= _WASTE * size:
                    runs[-1] = (first, joined)
                    continue
        runs.append((j, structure))
    return runs


def _factor(columns, row_starts, rows, value_starts, update_starts, updaters, update_from, update_to, values):  # type: ignore[no-untyped-def] # compiled
    """Turn the numbers of K in `values` (size, LANES) into those of L, diagonal inverted; left-looking by blocks."""
    place = np.empty(columns[-1], dtype=np.int64)
    for block in range(len(columns) - 1):
        first, width = columns[block], columns[block + 1] - columns[block]
        height, start = row_starts[block + 1] - row_starts[block], value_starts[block]
        for i in range(height):
            place[rows[row_starts[block] + i]] = start + i * width
        for u in range(update_starts[block], update_starts[block + 1]):
            other = updaters[u]
            count = columns[other + 1] - columns[other]
            other_start, other_rows = value_starts[other], row_starts[other]
            for i in range(update_from[u], row_starts[other + 1] - other_rows):
                target = place[rows[other_rows + i]] - first
                a = other_start + i * count
                for j in range(update_from[u], min(i + 1, update_to[u])):
                    t = target + rows[other_rows + j]
                    _subtract_products(values, t, values, a, 1, values, other_start + j * count, 1, count)
        for c in range(width):
            pivot = start + c * width
            _subtract_products(values, pivot + c, values, pivot, 1, values, pivot, 1, c)
            for lane in range(values.shape[1]):
                values[pivot + c, lane] = 1 / np.sqrt(values[pivot + c, lane])
            for i in range(c + 1, height):
                row = start + i * width
                _subtract_products(values, row + c, values, row, 1, values, pivot, 1, c)
                _scale(values, row + c, values, pivot + c)


def _forward(columns, row_starts, rows, value_starts, values, path_starts, path_vectors, step, work):  # type: ignore[no-untyped-def] # compiled
    """Solve L x = b for the `step` right-hand sides in `work` (N * step, LANES), each only in the blocks it reaches."""
    for block in range(len(columns) - 1):
        first, width = columns[block] * step, columns[block + 1] - columns[block]
        height, start = row_starts[block + 1] - row_starts[block], value_starts[block]
        for p in range(path_starts[block], path_starts[block + 1]):
            r = path_vectors[p]
            for i in range(height):
                t = rows[row_starts[block] + i] * step + r
                _subtract_products(work, t, values, start + i * width, 1, work, first + r, step, min(i, width))
                if i < width:
                    _scale(work, t, values, start + i * width + i)


def _backward(columns, row_starts, rows, value_starts, values, step, work):  # type: ignore[no-untyped-def] # compiled
    """Solve L^T x = b in place for all `step` right-hand sides in `work` (N * step, LANES)."""
    for block in range(len(columns) - 2, -1, -1):
        first, width = columns[block], columns[block + 1] - columns[block]
        height, start = row_starts[block + 1] - row_starts[block], value_starts[block]
        for c in range(width - 1, -1, -1):
            t = (first + c) * step
            for i in range(c + 1, height):
                source = rows[row_starts[block] + i] * step
                for r in range(step):
                    _subtract_products(work, t + r, values, start + i * width + c, 1, work, source + r, 1, 1)
            for r in range(step):
                _scale(work, t + r, values, start + c * width + c)


def _multiply(columns, path_starts, path_vectors, source_count, step, work, product):  # type: ignore[no-untyped-def] # compiled
    """Subtract from `product` (S * D, LANES) the products of source and detector vectors in `work`."""
    detector_count = step - source_count
    for block in range(len(columns) - 1):
        first, count = columns[block] * step, columns[block + 1] - columns[block]
        for p in range(path_starts[block], path_starts[block + 1]):
            s = path_vectors[p]
            if s < source_count:
                for q in range(p + 1, path_starts[block + 1]):
                    d = path_vectors[q]
                    if d >= source_count:
                        t = s * detector_count + d - source_count
                        _subtract_products(product, t, work, first + s, step, work, first + d, step, count)


def _subtract_products(target, t, left, a, left_step, right, b, right_step, count):  # type: ignore[no-untyped-def] # compiled
    """Subtract from the LANES numbers target[t] the sum of left[a + k left_step] right[b + k right_step], k < count."""
    for k in range(count):
        target[t] -= left[a + k * left_step] * right[b + k * right_step]


def _scale(target, t, factors, f):  # type: ignore[no-untyped-def] # compiled
    """Multiply the LANES numbers target[t] by factors[f]."""
    target[t] *= factors[f]


@functools.cache
def _compiled() -> _Kernels:
    """Return the numeric functions compiled by numba, which keeps them on disk, so that later runs start fast.

    The two innermost functions are given to numba as register-wide instructions for float64 (its own compiler does not
    find them) and as plain loops for complex numbers.
    """
    from llvmlite import ir
    from numba import njit, types
    from numba.core import cgutils
    from numba.extending import intrinsic, overload

    vector = ir.VectorType(ir.DoubleType(), LANES)

    def row(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
        data = context.make_array(array_type)(context, builder, array).data
        return builder.gep(builder.bitcast(data, vector.as_pointer()), [index])

    @intrinsic
    def subtract_vectors(_, target, t, left, a, left_step, right, b, right_step, count):  # type: ignore[no-untyped-def]
        signature = types.void(target, *[types.intp], left, *[types.intp] * 2, right, *[types.intp] * 3)

        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
            target, t, left, a, left_step, right, b, right_step, count = values
            kinds = signature.args
            place = row(context, builder, kinds[0], target, t)
            total = cgutils.alloca_once_value(builder, builder.load(place, align=8))
            with cgutils.for_range(builder, count) as loop:
                at_left = builder.add(a, builder.mul(loop.index, left_step))
                at_right = builder.add(b, builder.mul(loop.index, right_step))
                one = builder.load(row(context, builder, kinds[2], left, at_left), align=8)
                other = builder.load(row(context, builder, kinds[5], right, at_right), align=8)
                product = builder.fmul(one, other, flags=("contract",))
                builder.store(builder.fsub(builder.load(total), product, flags=("contract",)), total)
            builder.store(builder.load(total), place, align=8)
            return context.get_dummy_value()

        return signature, generate

    @intrinsic
    def scale_vectors(_, target, t, factors, f):  # type: ignore[no-untyped-def]
        signature = types.void(target, types.intp, factors, types.intp)

        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
            place = row(context, builder, signature.args[0], values[0], values[1])
            factor = builder.load(row(context, builder, signature.args[2], values[2], values[3]), align=8)
            builder.store(builder.fmul(builder.load(place, align=8), factor), place, align=8)
            return context.get_dummy_value()

        return signature, generate

    @overload(_subtract_products)
    def subtract_products(target, t, left, a, left_step, right, b, right_step, count):  # type: ignore[no-untyped-def]
        def real(target, t, left, a, left_step, right, b, right_step, count):  # type: ignore[no-untyped-def]
            subtract_vectors(target, t, left, a, left_step, right, b, right_step, count)

        def any_number(target, t, left, a, left_step, right, b, right_step, count):  # type: ignore[no-untyped-def]
            for k in range(count):
                for lane in range(LANES):
                    target[t, lane] -= left[a + k * left_step, lane] * right[b + k * right_step, lane]

        return real if target.dtype == types.float64 else any_number

    @overload(_scale)
    def scale(target, t, factors, f):  # type: ignore[no-untyped-def]
        def real(target, t, factors, f):  # type: ignore[no-untyped-def]
            scale_vectors(target, t, factors, f)

        def any_number(target, t, factors, f):  # type: ignore[no-untyped-def]
            for lane in range(LANES):
                target[t, lane] *= factors[f, lane]

        return real if target.dtype == types.float64 else any_number

    compile_function = njit(cache=True, error_model="numpy")
    return _Kernels(*(compile_function(function) for function in (_factor, _forward, _backward, _multiply)))
