"""Score to labels: what is surely lesion, what is surely background, and what stays open."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Label(IntEnum):
    """Values of a pseudo-mask, as a network is trained on them."""

    BACKGROUND = 0
    TUMOR = 1
    UNLABELED = 2


def make_pseudo_mask(
    score: NDArray[np.float32], box: tuple[slice, ...], tumor_above: float, background_below: float | None
) -> NDArray[np.uint8]:
    """Return `Label` values: outside the box background, inside it tumor, background or unlabeled by the score.

    Parameters
    ----------
    score : (K, J, I) ndarray, in [0, 1]
    box : tuple of 3 slice
    tumor_above : float
        Inside the box, scores above are tumor.
    background_below : float or None
        Inside the box, scores up to this are background; None leaves all that is not tumor unlabeled.
    """
    inside = np.full(score[box].shape, Label.UNLABELED, dtype=np.uint8)
    inside[score[box] > tumor_above] = Label.TUMOR
    if background_below is not None:
        inside[score[box] <= background_below] = Label.BACKGROUND
    labels = np.full(score.shape, Label.BACKGROUND, dtype=np.uint8)
    labels[box] = inside
    return labels
