"""Pictures of a training: its losses, and the labels it learned from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from BreastBiomarkersLib.files import atomic_path
from numpy.typing import NDArray

from WeakSegmentLib.cohort import PreparedCase
from WeakSegmentLib.pseudo_mask import Label
from WeakSegmentLib.training_history import PARTS, TrainingHistory

MOST_CASES = 8
_SMOOTHING = 10


def draw_curves(history: TrainingHistory, path: Path) -> None:
    """Draw the losses of all stages, and the voted share, against the iteration."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * max(1, len(history.stages)), 3.5), layout="constrained")
    panels = figure.subplots(1, max(1, len(history.stages)), squeeze=False)[0]
    for axes, stage in zip(panels, history.stages, strict=False):
        rows = history.rows(stage)
        for key in (*PARTS, "voted_share"):
            if key in rows[-1]:
                values = np.array([row.get(key, np.nan) for row in rows])
                axes.plot(_smoothed(values), label=key.replace("_", " "), linewidth=2.0 if key == "loss" else 1.0)
        axes.set(title=stage, xlabel="iteration", ylim=(0, None))
        axes.legend(frameon=False, fontsize="small")
    panels[0].set_ylabel(f"running mean of {_SMOOTHING} iterations")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def draw_pseudo_masks(cases: Sequence[PreparedCase], relabeled: Sequence[PreparedCase] | None, path: Path) -> None:
    """Draw, for the first cases, the largest slice of the tumor label: image, label from points, new label, truth.

    Tumor is outlined in red, the border of what is unlabeled in yellow, the truth in green.
    """
    from matplotlib.figure import Figure

    shown = list(cases[:MOST_CASES])
    columns = ["image", "from six points"]
    if relabeled is not None:
        columns.append("after propagation")
    if any(case.truth is not None for case in shown):
        columns.append("reference")
    figure = Figure(figsize=(2.2 * len(columns), 2.2 * len(shown) + 0.3), layout="constrained")
    panels = figure.subplots(len(shown), len(columns), squeeze=False)
    for row, (case, line) in enumerate(zip(shown, panels, strict=True)):
        window, k = _window(case)
        image = np.asarray(case.image[0, k][window])
        tumor, unlabeled = (case.labels[k][window] == label for label in (Label.TUMOR, Label.UNLABELED))
        masks = {"from six points": [(tumor, "red"), (tumor | unlabeled, "gold")]}
        if relabeled is not None:
            masks["after propagation"] = [(relabeled[row].labels[k][window] == Label.TUMOR, "red")]
        if case.truth is not None:
            masks["reference"] = [(case.truth[k][window], "lime")]
        for axes, column in zip(line, columns, strict=True):
            axes.imshow(image, cmap="gray", vmin=float(np.percentile(image, 1)), vmax=float(np.percentile(image, 99.5)))
            for mask, color in masks.get(column, []):
                if mask.any() and not mask.all():
                    axes.contour(mask, [0.5], colors=[color], linewidths=1.2)
            axes.set(xticks=[], yticks=[])
            if row == 0:
                axes.set_title(column, fontsize="medium")
        line[0].set_ylabel(case.name, fontsize="small")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _window(case: PreparedCase) -> tuple[tuple[slice, slice], int]:
    """Return the part of a slice around the box, and the slice with most tumor voxels."""
    k = int(np.argmax(np.count_nonzero(case.labels == Label.TUMOR, axis=(1, 2))))
    if not (case.labels[k] == Label.TUMOR).any():
        k = (case.box[0].start + case.box[0].stop) // 2
    margin = max(s.stop - s.start for s in case.box[1:]) // 2 + 2
    j, i = (slice(max(0, s.start - margin), s.stop + margin) for s in case.box[1:])
    return (j, i), k


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    count = np.minimum(np.arange(1, len(values) + 1), _SMOOTHING)
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    return (total[end] - total[end - count]) / count
