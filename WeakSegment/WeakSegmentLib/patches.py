"""Patches around random voxels of a label, cut from prepared cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from BreastBiomarkersLib.errors import InputError
from numpy.typing import NDArray

from WeakSegmentLib.cohort import PreparedCase
from WeakSegmentLib.pseudo_mask import Label

_DRAWS = 1000


class Patches(NamedTuple):
    """A batch.

    Attributes
    ----------
    image : (B, C, K, J, I) ndarray of float32
    labels : (B, K, J, I) ndarray of int64
        `Label` values; background beyond the edge of the image, where `image` is 0.
    """

    image: NDArray[np.float32]
    labels: NDArray[np.int64]


def draw_patches(
    cases: Sequence[PreparedCase], label: Label, count: int, size: tuple[int, int, int], rng: np.random.Generator
) -> Patches:
    """Return patches centered on random voxels of a label, each from another case as long as there are enough.

    Raises
    ------
    InputError
        If no case has such a voxel.
    """
    usable = [case for case in cases if label != Label.TUMOR or len(case.tumor_voxels)]
    if not usable:
        raise InputError(
            "No case has a voxel labeled tumor: six-point labels came out empty at this voxel size. Use smaller voxels "
            "or the other pseudo-mask method."
        )
    chosen = [usable[n] for n in rng.choice(len(usable), count, replace=count > len(usable))]
    centers = [_draw_voxel(case, label, rng) for case in chosen]
    return Patches(
        np.stack([cut(case.image, center, size) for case, center in zip(chosen, centers, strict=True)]),
        np.stack([cut(case.labels, center, size) for case, center in zip(chosen, centers, strict=True)]).astype(
            np.int64
        ),
    )


def cut(array: NDArray[Any], center: tuple[int, ...], size: tuple[int, int, int]) -> NDArray[Any]:
    """Return a copy of the part of a (..., K, J, I) array around a voxel, 0 beyond its edges.

    The center lands on voxel `size // 2` of the patch.
    """
    before = array.ndim - 3
    patch = np.zeros(array.shape[:before] + size, dtype=array.dtype)
    source: list[Any] = [...]
    target: list[Any] = [...]
    for middle, side, length in zip(center, size, array.shape[before:], strict=True):
        start = middle - side // 2
        low, high = max(0, start), min(length, start + side)
        source.append(slice(low, high))
        target.append(slice(low - start, high - start))
    patch[tuple(target)] = array[tuple(source)]
    return patch


def _draw_voxel(case: PreparedCase, label: Label, rng: np.random.Generator) -> tuple[int, ...]:
    if label == Label.TUMOR:
        flat = int(case.tumor_voxels[rng.integers(len(case.tumor_voxels))])
    else:  # background is most of an image: draw until one is hit
        for _ in range(_DRAWS):
            flat = int(rng.integers(case.labels.size))
            if case.labels.flat[flat] == label:
                break
        else:
            raise InputError(f"The case '{case.name}' shows almost no background. Use an image of the whole breast.")
    return tuple(int(n) for n in np.unravel_index(flat, case.labels.shape))
