"""The planes of an MRI as one HTML page with pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.nodes import mask_from_segment, points_from_node, volume_from_node
from BreastBiomarkersLib.report import (
    Picture,
    PlaneImage,
    Report,
    Section,
    Table,
    draw_bars,
    draw_plane_images,
    write_report,
)
from BreastBiomarkersLib.volume import Volume, apply_affine

from NIRSTReconstructionLib.images import IMAGE_UNITS
from NIRSTReconstructionLib.inslicer.inputs import Segment
from NIRSTReconstructionLib.inslicer.plane_result import PlaneResult
from NIRSTReconstructionLib.inslicer.results import IMAGE_TITLES, PlaneResults, planes_with_results
from NIRSTReconstructionLib.inslicer.words import QUANTITY_TITLES, describe_run, describe_trust
from NIRSTReconstructionLib.plane import sample_volume

NOTE = "Measured contrast beside the surroundings; no diagnosis."


def write_light_report(
    volume_node: Any, path: str | Path, lesion: Segment | None = None, optodes_node: Any = None
) -> int:
    """Write the results of all planes of an MRI; return how many planes there are.

    Raises
    ------
    InputError
        If there are no results, or the file cannot be written.
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
    write_report(Report(f"Near-infrared images: {volume_node.GetName()}", sections, notices), path)
    return len(sections)


def _section(volume_node: Any, title: str, result: PlaneResult, lesion: Segment | None, optodes_node: Any) -> Section:
    first = result.images["hbo"]
    points = _pixel_centers(first)
    mri = sample_volume(volume_from_node(volume_node), points, outside=0.0).reshape(first.shape[1:])
    inside = None
    if lesion is not None:
        mask = mask_from_segment(*lesion, volume_node)
        inside = sample_volume(mask, points, nearest=True, outside=0.0).reshape(first.shape[1:]) > 0
    tips = None
    if optodes_node is not None:
        tips = first.points_to_ijk(points_from_node(optodes_node).positions_ras)[:, :2] * first.spacing[::-1][:2]
    body = first.array[0] > 0
    axes = first.ijk_to_ras[:3, :2] / first.spacing[::-1][:2]

    def drawn(suffix: str) -> bytes:
        images = [
            PlaneImage(IMAGE_TITLES[n], unit, np.where(body, result.images[n + suffix].array[0], np.nan))
            for n, unit in IMAGE_UNITS.items()
        ]
        return draw_plane_images(images, mri, float(first.spacing[1]), axes, inside, tips)

    pictures = [Picture(drawn(""), "Images over the MRI; lesion outlined in white, fibers in blue.")]
    if "hbo_sd" in result.images:
        pictures.append(Picture(drawn("_sd"), "Standard deviation at each pixel, from noise and prior."))
    record = result.record
    chi = {f"{nm:g} nm": value for nm, value in zip(record["wavelengths_nm"], record["chi"], strict=True)}
    words = "Residual of data and model in units of the noise; 1 is as good as the noise allows."
    pictures.append(Picture(draw_bars(chi, "residual / noise [1]", expected=1.0), words))
    return Section(title, [describe_trust(record), *describe_run(record).splitlines()], pictures, _tables(result))


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
    settings = [[name, str(value)] for name, value in record["settings"].items()]
    facts = [[name, str(record[name])] for name in ("method", "extinction_table", "gains", "reason", "values_used")]
    tables.append(Table("Settings", ["Item", "Value"], facts + settings, folded=True))
    return tables


def _pixel_centers(image: Volume) -> Any:
    j, i = np.indices(image.shape[1:])
    return apply_affine(image.ijk_to_ras, np.column_stack([i.ravel(), j.ravel(), np.zeros(i.size)]))


def report_requirements() -> Sequence[str]:
    """Return the packages that drawing and writing the page need beyond what Slicer ships."""
    return ("matplotlib>=3.9", "jinja2>=3.1")
