"""The statistics as pictures, written as PNG or SVG without a display."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.spatial import distance

from RadiomicsPanelLib.association import Association, spearman_matrix
from RadiomicsPanelLib.repeatability import BlandAltman
from RadiomicsPanelLib.selection import Evaluation
from RadiomicsPanelLib.study import Study
from RadiomicsPanelLib.survival import SurvivalComparison

SUFFIXES = (".png", ".svg")
MAX_HEAT_MAP_CELLS = 4_000_000
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito: seen by everybody
_GRAY = "#777777"
_MOST_LABELS = 80


def draw_heat_map(study: Study, path: str | Path, outcome: str | None = None) -> None:
    """Draw the z-scores of all features for all rows, similar rows and similar features side by side.

    Features are joined by 1 - |Spearman correlation|, rows by cosine distance, both by average linkage. Features that
    do not vary are left out; missing values count as the mean and are drawn gray.

    Raises
    ------
    InputError
        If there are fewer than two rows or varying features, too many of both, or the picture cannot be written.
    """
    values = study.values
    spread = np.array([np.ptp(c[np.isfinite(c)]) if np.isfinite(c).any() else 0.0 for c in values.T])
    varying = np.flatnonzero(spread > 1e-12)
    if len(values) < 2 or len(varying) < 2:
        raise InputError("A heat map needs at least two rows and two features that vary.")
    if len(values) * len(varying) > MAX_HEAT_MAP_CELLS:
        raise InputError(f"A heat map of {len(values)} rows and {len(varying)} features is too large. Choose families.")
    part = values[:, varying]
    z = (part - np.nanmean(part, axis=0)) / np.nanstd(part, axis=0)
    filled = np.where(np.isfinite(z), z, 0.0)
    dissimilarity = np.clip(1 - np.abs(spearman_matrix(part)), 0, None)
    np.fill_diagonal(dissimilarity, 0)
    feature_tree = hierarchy.linkage(distance.squareform(dissimilarity, checks=False), "average")
    norms = np.linalg.norm(filled, axis=1, keepdims=True)
    unit = filled / np.where(norms > 0, norms, 1.0)
    row_tree = hierarchy.linkage(np.clip(distance.pdist(unit, "sqeuclidean") / 2, 0, None), "average")
    columns, rows = hierarchy.leaves_list(feature_tree), hierarchy.leaves_list(row_tree)
    few_columns, few_rows = len(columns) <= _MOST_LABELS, len(rows) <= _MOST_LABELS
    size = (max(8.0, 0.16 * len(columns) * few_columns), max(6.0, 0.14 * len(rows) * few_rows))
    with _figure(path, size) as figure:
        grid = figure.add_gridspec(
            2, 4, height_ratios=(1, 6), width_ratios=(1, 0.15, 6, 0.15), hspace=0.02, wspace=0.04
        )
        for spot, tree, side in ((grid[0, 2], feature_tree, "top"), (grid[1, 0], row_tree, "left")):
            axes = figure.add_subplot(spot)
            hierarchy.dendrogram(
                tree, ax=axes, orientation=side, no_labels=True, color_threshold=0, above_threshold_color=_GRAY
            )
            if side == "left":
                axes.invert_yaxis()
            for lines in axes.collections:
                lines.set_linewidth(0.7)
            axes.set_axis_off()
        axes = figure.add_subplot(grid[1, 2])
        colors = _color_map("RdBu_r")
        picture = axes.imshow(
            np.ma.masked_invalid(z[np.ix_(rows, columns)]),
            cmap=colors,
            vmin=-3,
            vmax=3,
            aspect="auto",
            interpolation="nearest",
        )
        axes.set_xticks(range(len(columns)) if few_columns else [])
        if few_columns:
            axes.set_xticklabels([study.columns[varying[c]] for c in columns], rotation=90, fontsize=6)
        else:
            axes.set_xlabel(f"{len(columns)} features")
        axes.set_yticks(range(len(rows)) if few_rows else [])
        axes.yaxis.tick_right()
        if few_rows:
            axes.set_yticklabels([study.cases[r] for r in rows], fontsize=6)
        if outcome is not None:
            texts = study.texts(outcome)
            present = sorted(set(texts))
            strip = figure.add_subplot(grid[1, 1])
            shades = [_rgb(_COLORS[present.index(texts[r]) % len(_COLORS)]) for r in rows]
            strip.imshow(np.array(shades)[:, None], aspect="auto", interpolation="nearest")
            strip.set_axis_off()
            corner = figure.add_subplot(grid[0, 0])
            corner.set_axis_off()
            for n, text in enumerate(present[: len(_COLORS)]):
                corner.text(0, 1 - 0.2 * n, text or "missing", color=_COLORS[n], fontsize=8, va="top")
        bar = figure.add_subplot(grid[0, 3])
        figure.colorbar(picture, cax=bar).set_label("z-score", fontsize=7)
        bar.tick_params(labelsize=6)


def draw_roc(evaluation: Evaluation, path: str | Path) -> None:
    """Draw the ROC curve of the out-of-fold probabilities, and thinly that of each fold.

    Raises
    ------
    InputError
        If the picture cannot be written.
    """
    with _figure(path, (5, 5)) as figure:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=_GRAY, linewidth=0.8, linestyle="--")
        truth, first = evaluation.truth, evaluation.folds[: evaluation.settings.folds]
        for _, test in first:
            if truth[test].any() and not truth[test].all():
                axes.plot(
                    *_roc(evaluation.probabilities[test], truth[test]), color=_COLORS[0], linewidth=0.6, alpha=0.4
                )
        axes.plot(*_roc(evaluation.probabilities, truth), color=_COLORS[0], linewidth=2)
        axes.set_xlabel("1 - specificity")
        axes.set_ylabel("sensitivity")
        axes.set_aspect("equal")
        axes.set_title(
            f"{evaluation.outcome} = {evaluation.positive}: AUC {evaluation.area:.3f} "
            f"({evaluation.lower:.3f} to {evaluation.upper:.3f})\n"
            f"nested cross-validation, {int(truth.sum())} of {len(truth)} rows",
            fontsize=9,
        )


def draw_calibration(evaluation: Evaluation, path: str | Path) -> None:
    """Draw observed against predicted frequency in groups of equal size, with 95 % limits (Wilson), and a histogram.

    Raises
    ------
    InputError
        If the picture cannot be written.
    """
    groups = np.array_split(
        np.argsort(evaluation.probabilities, kind="stable"), min(10, max(len(evaluation.truth) // 10, 1))
    )
    predicted = np.array([evaluation.probabilities[g].mean() for g in groups])
    observed = np.array([evaluation.truth[g].mean() for g in groups])
    counts = np.array([len(g) for g in groups])
    center = (observed + 1.92 / counts) / (1 + 3.84 / counts)
    reach = 1.96 * np.sqrt(observed * (1 - observed) / counts + 0.96 / counts**2) / (1 + 3.84 / counts)
    with _figure(path, (5, 6)) as figure:
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
        axes.plot([0, 1], [0, 1], color=_GRAY, linewidth=0.8, linestyle="--")
        axes.vlines(predicted, center - reach, center + reach, color=_COLORS[0])
        axes.plot(predicted, observed, "o-", color=_COLORS[0])
        axes.set_ylabel("observed frequency")
        fitted = evaluation.calibration
        said = "all predictions are equal" if fitted is None else f"slope {fitted[0]:.2f}, intercept {fitted[1]:.2f}"
        axes.set_title(
            f"{evaluation.outcome} = {evaluation.positive}: {said}, Brier {evaluation.brier:.3f}", fontsize=9
        )
        below.hist(evaluation.probabilities, bins=np.linspace(0, 1, 41), color=_COLORS[0])
        below.set_xlabel("predicted probability, out of fold")
        below.set_ylabel("rows")


def draw_volcano(associations: Sequence[Association], path: str | Path, labels: int = 10) -> None:
    """Draw -log10 p against the effect of each test; those with an adjusted p below 0.05 are colored, the best named.

    Raises
    ------
    InputError
        If no test was made, or the picture cannot be written.
    """
    made = [a for a in associations if a.p is not None]
    if not made:
        raise InputError("No test could be made, so there is nothing to draw.")
    effects = np.array([a.effect for a in made], dtype=np.float64)
    heights = -np.log10(np.maximum(np.array([a.p for a in made], dtype=np.float64), 1e-300))
    found = np.array([a.adjusted_p is not None and a.adjusted_p < 0.05 for a in made])
    with _figure(path, (7, 5)) as figure:
        axes = figure.add_subplot()
        axes.scatter(effects[~found], heights[~found], s=10, color=_GRAY, linewidths=0)
        axes.scatter(effects[found], heights[found], s=14, color=_COLORS[1], linewidths=0)
        best = [n for n in np.argsort(-heights)[:labels] if found[n]]
        for place, n in enumerate(best):
            axes.annotate(
                made[n].feature,
                (effects[n], heights[n]),
                xytext=(1.02, 0.98 - 0.05 * place),
                textcoords="axes fraction",
                fontsize=7,
                va="center",
                arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": _GRAY, "relpos": (0, 0.5)},
            )
        names = ", ".join(sorted({a.effect_name for a in made}))
        axes.set_xlabel(f"effect ({names})")
        axes.set_ylabel("-log10 p")
        axes.set_title(f"{len(made)} tests, {int(found.sum())} with adjusted p < 0.05", fontsize=9)


def draw_bland_altman(agreement: BlandAltman, path: str | Path, title: str = "", unit: str = "") -> None:
    """Draw differences against means with bias and limits of agreement.

    Raises
    ------
    InputError
        If the picture cannot be written.
    """
    suffix = f" [{unit}]" if unit else ""
    with _figure(path, (6, 4.5)) as figure:
        axes = figure.add_subplot()
        axes.scatter(agreement.means, agreement.differences, s=14, color=_COLORS[0], linewidths=0)
        axes.axhspan(*agreement.bias_limits, color=_COLORS[0], alpha=0.15, linewidth=0)
        for height, style, name in (
            (agreement.bias, "-", "bias"),
            (agreement.lower, "--", "-1.96 SD"),
            (agreement.upper, "--", "+1.96 SD"),
        ):
            axes.axhline(height, color="black", linewidth=0.9, linestyle=style)
            axes.annotate(
                f"{name} {height:.3g}",
                (1, height),
                xycoords=("axes fraction", "data"),
                fontsize=7,
                ha="right",
                va="bottom",
            )
        axes.set_xlabel("mean of both" + suffix)
        axes.set_ylabel("difference" + suffix)
        axes.set_title(title, fontsize=9)


def draw_survival(comparison: SurvivalComparison, path: str | Path, time_unit: str = "") -> None:
    """Draw Kaplan-Meier curves with 95 % limits, the log-rank p and the numbers at risk below.

    Raises
    ------
    InputError
        If the picture cannot be written.
    """
    with _figure(path, (6.5, 4.6 + 0.22 * len(comparison.curves))) as figure:
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(10, 0.6 + 0.7 * len(comparison.curves)))
        for color, curve in zip(_COLORS, comparison.curves, strict=False):
            label = f"{curve.name} ({curve.event_count} of {curve.count})"
            axes.step(curve.times, curve.survival, where="post", color=color, label=label)
            axes.fill_between(curve.times, curve.lower, curve.upper, step="post", color=color, alpha=0.15, linewidth=0)
        axes.set_ylim(0, 1.02)
        axes.set_ylabel("without the event")
        axes.legend(fontsize=7, frameon=False)
        cut = "" if comparison.cut is None else ", cut at the median" if comparison.cut_is_median else ", declared cut"
        axes.set_title(f"{comparison.what}{cut}: log-rank p = {comparison.p:.3g}", fontsize=9)
        for n, (color, curve) in enumerate(zip(_COLORS, comparison.curves, strict=False)):
            for tick, count in zip(comparison.ticks, curve.at_risk, strict=True):
                below.text(tick, -n, str(count), color=color, ha="center", va="center", fontsize=7)
        below.set_ylim(-len(comparison.curves) + 0.5, 0.9)
        below.set_yticks([])
        below.set_xticks(comparison.ticks)
        below.set_xticklabels([f"{tick:.3g}" for tick in comparison.ticks])
        below.set_ylabel("at risk", rotation=0, ha="right", va="center", fontsize=7)
        below.set_xlabel("time" + (f" [{time_unit}]" if time_unit else ""))


def require_figure_name(path: str | Path) -> Path:
    """Return the path of a picture to write.

    Raises
    ------
    InputError
        If the name does not end in .png or .svg.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"Pictures are written as .png or .svg, not '{path.name}'.")
    return path


@contextmanager
def _figure(path: str | Path, size: tuple[float, float]) -> Iterator[Any]:
    """Give an empty figure (inches) and write it, whole or not at all."""
    path = require_figure_name(path)
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("Pictures need matplotlib. Install the package matplotlib.") from error
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    yield figure
    with atomic_path(path) as temporary, matplotlib.rc_context({"svg.hashsalt": path.name}):
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
        figure.savefig(temporary, dpi=150, bbox_inches="tight", metadata=metadata)


def _roc(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return 1 - specificity and sensitivity at every threshold, ties taken together."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)
    right = np.append(0, np.cumsum(truth[order])[last])
    wrong = np.append(0, np.cumsum(~truth[order])[last])
    return wrong / wrong[-1], right / right[-1]


def _color_map(name: str) -> Any:
    from matplotlib import colormaps

    return colormaps[name].with_extremes(bad="#bbbbbb")


def _rgb(color: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    return to_rgb(color)
