"""The planes of an MRI as one HTML page with pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.nodes import mask_from_segment, points_from_node, volume_from_node
from BreastBiomarkersLib.points import LabeledPoints
from BreastBiomarkersLib.report import (
    Picture,
    PlaneImage,
    Report,
    Section,
    Table,
    draw_bars,
    draw_plane_images,
    png_of,
    write_report,
)
from BreastBiomarkersLib.volume import Volume, apply_affine
from numpy.typing import NDArray

from NIRSTReconstructionLib.images import IMAGE_UNITS
from NIRSTReconstructionLib.inslicer.inputs import TOLERANCE_MM, Light, Segment, fibers_from_node, optodes_stamp
from NIRSTReconstructionLib.inslicer.plane_result import PlaneResult
from NIRSTReconstructionLib.inslicer.results import IMAGE_TITLES, PlaneResults, planes_with_results
from NIRSTReconstructionLib.inslicer.words import (
    QUANTITY_TITLES,
    describe_light,
    describe_quality,
    describe_run,
    describe_trust,
)
from NIRSTReconstructionLib.plane import sample_volume
from NIRSTReconstructionLib.quality_control import check_quality, quality_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = "Measured contrast beside the surroundings; no diagnosis."


def write_light_report(
    volume_node: Any,
    path: str | Path,
    lesion: Segment | None = None,
    optodes_node: Any = None,
    light: Light | None = None,
) -> int:
    """Write the results of all planes of an MRI; return how many planes there are.

    Light together with optodes adds a section on the quality of this light.

    Raises
    ------
    InputError
        If there are no results, the light is not of these optodes, or the file cannot be written.
    """
    planes = planes_with_results(volume_node)
    if not planes:
        raise InputError("There are no results of this MRI to report. Press Apply first.")
    if not str(path).lower().endswith((".html", ".htm")):
        raise InputError(f"The report is a web page: give it a name that ends in .html, not '{Path(path).name}'.")
    sections, notices = [], []
    for plane_node in planes:
        result = PlaneResults(volume_node, plane_node).read()
        if result is None:
            continue
        if result.record["simulated"]:
            notices.append(f"Plane '{plane_node.GetName()}': the light was simulated. {result.record['simulated']}")
        sections.append(_section(volume_node, plane_node.GetName(), result, lesion, optodes_node))
    count = len(sections)
    if light is not None and optodes_node is not None:
        sections.append(_quality_section(light, optodes_node))
    write_report(Report(f"Near-infrared images: {volume_node.GetName()}", sections, notices), path)
    return count


def _section(volume_node: Any, title: str, result: PlaneResult, lesion: Segment | None, optodes_node: Any) -> Section:
    first = result.images["hbo"]
    points = _pixel_centers(first)
    mri = sample_volume(volume_from_node(volume_node), points, outside=0.0).reshape(first.shape[1:])
    inside = None
    if lesion is not None:
        mask = mask_from_segment(*lesion, volume_node)
        inside = sample_volume(mask, points, nearest=True, outside=0.0).reshape(first.shape[1:]) > 0
    tips = None if optodes_node is None else _tips_in_plane(result, points_from_node(optodes_node))
    body = first.array[0] > 0
    axes = first.ijk_to_ras[:3, :2] / first.spacing[::-1][:2]

    def drawn(suffix: str) -> bytes:
        images = [
            PlaneImage(IMAGE_TITLES[n], unit, np.where(body, result.images[n + suffix].array[0], np.nan))
            for n, unit in IMAGE_UNITS.items()
        ]
        return draw_plane_images(images, mri, float(first.spacing[1]), axes, inside, tips)

    marks = [
        words for words, there in (("lesion outlined in white", inside), ("fibers in blue", tips)) if there is not None
    ]
    pictures = [Picture(drawn(""), "; ".join(["Images over the MRI", ", ".join(marks)]).rstrip("; ") + ".")]
    if "hbo_sd" in result.images:
        pictures.append(Picture(drawn("_sd"), "Standard deviation at each pixel, from noise and prior."))
    record = result.record
    chi = {f"{nm:g} nm": value for nm, value in zip(record["wavelengths_nm"], record["chi"], strict=True)}
    words = "Residual of data and model in units of the noise; 1 is as good as the noise allows."
    pictures.append(Picture(draw_bars(chi, "residual / noise [1]", expected=1.0), words))
    if result.residual:
        words = "Residual of each channel and wavelength over the distance of source and detector."
        pictures.append(Picture(png_of(_residual_figure(result)), words))
    return Section(title, [describe_trust(record), *describe_run(record).splitlines()], pictures, _tables(result))


def _tips_in_plane(result: PlaneResult, points: LabeledPoints) -> NDArray[np.float64] | None:
    """Return the fiber tips in mm from the first pixel; None for those of another plane."""
    first = result.images["hbo"]
    local = first.points_to_ijk(points.positions_ras) * first.spacing[::-1]
    known = result.record["made_from"].get("optodes")
    own = known == optodes_stamp(points) if known else bool(np.abs(local[:, 2]).max() <= TOLERANCE_MM)
    return local[:, :2] if own else None


def _quality_section(light: Light, optodes_node: Any) -> Section:
    report = check_quality(light.measurements, fibers_from_node(optodes_node))
    caption = "Fall of the light with distance by wavelength, and reciprocity; before anything was left out by hand."
    paragraphs = [describe_light(light), *describe_quality(report).splitlines()]
    return Section("Quality of the light", paragraphs, [Picture(png_of(quality_figure(report)), caption)])


def _residual_figure(result: PlaneResult) -> Figure:
    from matplotlib.figure import Figure

    columns = {name: np.array(values) for name, values in result.residual.items()}
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    axes = figure.add_subplot()
    for nm in np.unique(columns["wavelength_nm"]):
        own = columns["wavelength_nm"] == nm
        white = columns["residual"][own] / columns["sd"][own]
        axes.plot(columns["distance_mm"][own], white, ".", markersize=4, label=f"{nm:g} nm")
    axes.axhline(0.0, color="0.6", linewidth=0.8)
    axes.set(xlabel="distance of source and detector [mm]", ylabel="residual / noise [1]")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="x-small", ncols=1, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _tables(result: PlaneResult) -> list[Table]:
    record, tables = result.record, []
    if result.contrast:
        columns = ["Quantity", "Unit", "Lesion", "SE", "Background", "SE", "Ratio [1]", "SE [1]"]
        rows = [[IMAGE_TITLES[row.quantity], *row[1:]] for row in result.contrast]
        tables.append(Table("Lesion and background", columns, rows))
    trust = record["trust"]
    if trust is not None:
        columns = ["Quantity", "Unit", "Lesion", "Background", "Ratio [1]", "95 % from", "to", "In words"]
        keys = ("unit", "lesion", "background", "ratio", "low", "high", "words")
        rows = [[QUANTITY_TITLES[reading["quantity"]], *(reading[key] for key in keys)] for reading in trust["readout"]]
        if rows:
            tables.append(Table(f"Lesion read-out. {NOTE}", columns, rows))
        rows = [[check["name"], check["light"], check["reason"]] for check in trust["checks"]]
        tables.append(Table("Checks", ["Check", "Light", "Reason"], rows))
    facts = {name: record[name] for name in ("extinction_table", "reason", "values_used")}
    chosen = {**record["settings"], "gains": record["gains"], **facts}
    rows = [[name.replace("_", " "), _in_words(value)] for name, value in chosen.items()]
    tables.append(Table("Settings", ["Item", "Value"], rows, folded=True))
    return tables


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_in_words(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_in_words, value))
    return "default" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _pixel_centers(image: Volume) -> Any:
    j, i = np.indices(image.shape[1:])
    return apply_affine(image.ijk_to_ras, np.column_stack([i.ravel(), j.ravel(), np.zeros(i.size)]))


def report_requirements() -> Sequence[str]:
    """Return the packages that drawing and writing the page need beyond what Slicer ships."""
    return ("matplotlib>=3.9", "jinja2>=3.1")
