"""One self-contained HTML page with pictures and tables, from plain data."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from BreastBiomarkersLib.files import atomic_path
from BreastBiomarkersLib.volume import Volume

CONTOUR_COLORS = ("#ffd400", "#00c8ff", "#ff5a5a", "#7dff5a")
LESION_MARGIN_MM = 30.0

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ title }}</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:68rem;margin:2rem auto;padding:0 1rem;color:#1c2126;background:#fff}
h1{font-size:1.7rem;margin-bottom:.2rem} h2{font-size:1.25rem;margin-top:2.2rem;border-bottom:1px solid #d5dbe1}
.notice{background:#fff4d6;border-left:4px solid #d99a00;padding:.5rem .9rem;margin:.6rem 0}
figure{margin:1rem 0} img{max-width:100%} figcaption{color:#59646f;font-size:.9rem}
table{border-collapse:collapse;margin:.6rem 0;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .8rem;text-align:left;border-bottom:1px solid #e4e8ec} td.number{text-align:right}
caption{text-align:left;font-weight:600;padding:.3rem 0} summary{cursor:pointer;font-weight:600}
</style></head><body>
<h1>{{ title }}</h1>
{% for notice in notices %}<p class="notice">{{ notice }}</p>{% endfor %}
{% for section in sections %}
<h2>{{ section.title }}</h2>
{% for paragraph in section.paragraphs %}<p>{{ paragraph }}</p>{% endfor %}
{% for picture in section.pictures %}
<figure><img alt="{{ picture.caption }}" src="data:image/png;base64,{{ picture.base64 }}">
<figcaption>{{ picture.caption }}</figcaption></figure>
{% endfor %}
{% for table in section.tables %}
{% if table.folded %}<details><summary>{{ table.title }}</summary>{% endif %}
<table>{% if not table.folded %}<caption>{{ table.title }}</caption>{% endif %}
<thead><tr>{% for column in table.columns %}<th>{{ column }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in table.rows %}<tr>{% for cell in row %}
{% if cell is number %}<td class="number">{{ "%.4g"|format(cell) }}</td>{% else %}<td>{{ cell }}</td>{% endif %}
{% endfor %}</tr>{% endfor %}</tbody></table>
{% if table.folded %}</details>{% endif %}
{% endfor %}
{% endfor %}
</body></html>
"""


@dataclass(frozen=True)
class Picture:
    """A PNG and what it shows."""

    png: bytes
    caption: str

    @property
    def base64(self) -> str:
        """The PNG as text that a page can hold."""
        return base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Table:
    """Rows under column titles that carry the units; a folded table opens on click."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    title: str
    paragraphs: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Report:
    """All that a report says; `notices` are printed first and cannot be overlooked."""

    title: str
    sections: Sequence[Section]
    notices: Sequence[str] = field(default=())


def write_report(report: Report, path: str | Path) -> None:
    """Write the report as one HTML file with its pictures inside.

    Raises
    ------
    InputError
        If the target cannot be written.
    """
    import jinja2

    template = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(_PAGE)
    html = template.render(title=report.title, notices=report.notices, sections=report.sections)
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


@dataclass(frozen=True)
class _View:
    """A cut through an image as people look at it: array axes, directions at the picture's edges."""

    title: str
    left_right: str
    bottom_top: str


_VIEWS = {2: _View("axial", "RL", "PA"), 1: _View("coronal", "RL", "IS"), 0: _View("sagittal", "AP", "IS")}


def draw_three_planes(image: Volume, masks: Mapping[str, Volume], title: str = "") -> bytes:
    """Return a PNG of the axial, coronal and sagittal cut through the first mask, with the masks' outlines.

    Parameters
    ----------
    image : Volume
        Drawn along its own axes, turned to the nearest anatomical directions (right of the patient on the left).
    masks : mapping of name to bool Volume on the image's grid
        Outlined in the legend's colors; the first one places the cuts.
    title : str
        Printed above.
    """
    plt = _pyplot()
    order, flips, spacing = _to_ras_axes(image)
    intensity = _reorient(image.array, order, flips)
    outlines = {name: _reorient(mask.array.astype(bool), order, flips) for name, mask in masks.items()}
    first = next(iter(outlines.values()))
    where = np.argwhere(first)
    center = np.round(where.mean(axis=0)).astype(int)
    margin = np.ceil(LESION_MARGIN_MM / spacing).astype(int)
    low, high = np.maximum(where.min(axis=0) - margin, 0), np.minimum(where.max(axis=0) + margin + 1, first.shape)
    window = np.percentile(intensity[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], (1, 99.7))
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.6), layout="constrained")
    for normal, axis in zip((2, 1, 0), axes, strict=True):
        view = _VIEWS[normal]
        horizontal, vertical = [n for n in range(3) if n != normal]
        # RAS axes grow to the right, anterior and superior; the picture shows R on the left (A on the left if sagittal)
        cut = np.take(intensity, center[normal], axis=normal).T
        extent = [
            (low[horizontal] - 0.5) * spacing[horizontal],
            (high[horizontal] - 0.5) * spacing[horizontal],
            (low[vertical] - 0.5) * spacing[vertical],
            (high[vertical] - 0.5) * spacing[vertical],
        ]
        part = (slice(low[vertical], high[vertical]), slice(low[horizontal], high[horizontal]))
        axis.imshow(cut[part], cmap="gray", vmin=window[0], vmax=window[1], origin="lower", extent=extent)
        positions = [np.arange(low[n], high[n]) * spacing[n] for n in (horizontal, vertical)]
        for color, (_name, mask) in zip(CONTOUR_COLORS, outlines.items(), strict=False):
            outline = np.take(mask, center[normal], axis=normal).T[part]
            if outline.any() and min(outline.shape) > 1:
                axis.contour(*positions, outline, levels=[0.5], colors=color, linewidths=1.6)
        axis.invert_xaxis()
        axis.set(title=view.title, xticks=[], yticks=[])
        _mark_directions(axis, view.left_right + view.bottom_top)
        _scale_bar(axis, extent)
    handles = [plt.Line2D([], [], color=c, label=n) for c, n in zip(CONTOUR_COLORS, outlines, strict=False)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.suptitle(title)
    return png_of(figure)


@dataclass(frozen=True)
class PlaneImage:
    """An image in the plane to be colored over the MRI.

    Attributes
    ----------
    title, unit : str
    values : (J, I) ndarray
        NaN where there is nothing to show.
    truth : (J, I) ndarray, optional
        Drawn below on the same color scale.
    """

    title: str
    unit: str
    values: NDArray[np.float64]
    truth: NDArray[np.float64] | None = None


def draw_plane_images(
    images: Sequence[PlaneImage],
    background: NDArray[Any],
    spacing_mm: float,
    axes_ras: NDArray[np.float64],
    lesion: NDArray[np.bool_] | None = None,
    optodes_mm: NDArray[np.float64] | None = None,
) -> bytes:
    """Return a PNG of images in the plane, colored over the MRI, each with its color bar; truth (if any) below.

    Parameters
    ----------
    images : sequence of PlaneImage
        All of the shape of `background`.
    background : (J, I) ndarray
        MRI in the plane.
    spacing_mm : float
        Pixel size, equal in both directions.
    axes_ras : (3, 2) ndarray
        Directions of growing columns and rows in RAS. The picture is turned so that the patient's right (in sagittal
        planes: front) is on the left and the head (in axial planes: front) on top, as radiologists look at it.
    lesion : (J, I) bool ndarray, optional
        Outlined in white.
    optodes_mm : (n, 2) ndarray, optional
        Positions in mm from the center of pixel (0, 0).
    """
    plt = _pyplot()
    rows = 2 if any(image.truth is not None for image in images) else 1
    figure, axes = plt.subplots(
        rows, len(images), figsize=(3 * len(images), 3.3 * rows), squeeze=False, layout="constrained"
    )
    horizontal, vertical = (int(np.abs(axis).argmax()) for axis in axes_ras.T)
    height, width = background.shape
    extent = [-0.5 * spacing_mm, (width - 0.5) * spacing_mm, -0.5 * spacing_mm, (height - 0.5) * spacing_mm]
    for column, image in enumerate(images):
        both = image.values if image.truth is None else np.concatenate([image.values.ravel(), image.truth.ravel()])
        low, high = np.nanpercentile(both, (1, 99.8))
        if high - low < 0.1 * high:  # an almost even image is shown as one, not as its noise
            low, high = high - 0.1 * high, high
        for row, values in enumerate([image.values, image.truth][:rows]):
            axis = axes[row, column]
            axis.set(xticks=[], yticks=[])
            if values is None:
                axis.axis("off")
                continue
            axis.imshow(background, cmap="gray", origin="lower", extent=extent)
            shown = axis.imshow(
                np.ma.masked_invalid(values),
                cmap="inferno",
                vmin=low,
                vmax=high,
                alpha=0.8,
                origin="lower",
                extent=extent,
            )
            if lesion is not None and lesion.any():
                axis.contour(lesion, levels=[0.5], colors="white", linewidths=1.0, origin="lower", extent=extent)
            if optodes_mm is not None:
                axis.plot(*optodes_mm.T, "o", color="#00c8ff", markersize=3)
            if axes_ras[horizontal, 0] > 0:  # towards right or front: these belong on the left
                axis.invert_xaxis()
            if axes_ras[vertical, 1] < 0:
                axis.invert_yaxis()
            _mark_directions(axis, "RAI"[horizontal] + "LPS"[horizontal] + "LPI"[vertical] + "RAS"[vertical])
            label = image.title if rows == 1 else f"{image.title}, {('result', 'truth')[row]}"
            axis.set_title(f"{label} [{image.unit}]", fontsize=10)
            figure.colorbar(shown, ax=axis, shrink=0.8)
    return png_of(figure)


def draw_bars(values: Mapping[str, float], ylabel: str, expected: float | None = None) -> bytes:
    """Return a PNG bar chart, with a dashed line at the expected value."""
    plt = _pyplot()
    figure, axis = plt.subplots(figsize=(7, 2.6), layout="constrained")
    axis.bar(list(values), list(values.values()), color="#3b75af")
    if expected is not None:
        axis.axhline(expected, color="#d99a00", linestyle="--")
    axis.set_ylabel(ylabel)
    axis.spines[["top", "right"]].set_visible(False)
    return png_of(figure)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def png_of(figure: Any) -> bytes:
    """Return a matplotlib figure as PNG, and close it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    _pyplot().close(figure)
    return buffer.getvalue()


def _to_ras_axes(image: Volume) -> tuple[NDArray[np.int_], list[int], NDArray[np.float64]]:
    """Return which array axis is nearest to R, A and S, which of them to flip, and the spacing in that order (mm)."""
    from scipy.optimize import linear_sum_assignment

    directions = image.ijk_to_ras[:3, :3] / image.spacing[::-1]
    ras, ijk = linear_sum_assignment(-np.abs(directions))
    order = 2 - ijk[np.argsort(ras)]
    flips = [n for n in range(3) if directions[n, 2 - order[n]] < 0]
    return order, flips, image.spacing[order]


def _reorient(array: NDArray[Any], order: NDArray[np.int_], flips: list[int]) -> NDArray[Any]:
    return np.flip(np.transpose(array, order), axis=tuple(flips))


def _mark_directions(axis: Any, letters: str) -> None:
    """Write the patient's directions at the left, right, bottom and top of a picture."""
    for place, letter in zip(((0.03, 0.5), (0.97, 0.5), (0.5, 0.03), (0.5, 0.97)), letters, strict=True):
        axis.text(*place, letter, transform=axis.transAxes, color="white", ha="center", va="center", weight="bold")


def _scale_bar(axis: Any, extent: Sequence[float]) -> None:
    x, y = extent[0] + 0.04 * (extent[1] - extent[0]), extent[2] + 0.08 * (extent[3] - extent[2])
    axis.plot([x, x + 10], [y, y], color="white", linewidth=2)
    axis.text(x + 5, y, "10 mm", color="white", ha="center", va="bottom", fontsize=8)
