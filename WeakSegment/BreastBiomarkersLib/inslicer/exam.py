"""The main job, on a scene: image and six points to segmentation, light images, features, scene file and report.

The three Logic classes are handed in, so that this file serves the Python console of Slicer and the command line.
"""

from __future__ import annotations

import csv
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import slicer

from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_folder
from BreastBiomarkersLib.inslicer.nodes import (
    mask_from_segment,
    mask_to_segment,
    points_to_node,
    segmentation_for,
    slice_to_ras,
    volume_from_node,
    volume_to_node,
)
from BreastBiomarkersLib.points import read_points
from BreastBiomarkersLib.progress import Progress, ignore_progress, portion
from BreastBiomarkersLib.report import (
    Picture,
    PlaneImage,
    Report,
    Section,
    Table,
    draw_bars,
    draw_plane_images,
    draw_three_planes,
    write_report,
)
from BreastBiomarkersLib.volume import SUFFIXES, read_volume, write_volume

TITLES = {"hbo": "HbO", "hbr": "Hb", "water": "Water", "hbt": "HbT", "sto2": "StO2"}
BACKGROUND_FROM_MM = 5.0
SYNTHETIC_LESION = ("spiculated", 22.0)  # kind, diameter in mm


@dataclass(frozen=True)
class ExamFiles:
    """What to read; without an image a synthetic exam is made from `seed`.

    Attributes
    ----------
    image, pre, reference : path, optional
        Post-contrast image, pre-contrast image, and a mask to compare with.
    points : path, optional
        Six extreme points of the lesion.
    optical, optical_reference, optodes : path, optional
        Measured light, the same on a homogeneous phantom, and the fibers' positions. Without measured light it is
        simulated, and the report says so.
    body_threshold : float, optional
        Gray value of the image between air and breast, 0 for an image that shows no air; found from the image if None.
    seed : int
        Of the synthetic exam and of simulated light.
    """

    image: Path | None = None
    pre: Path | None = None
    points: Path | None = None
    reference: Path | None = None
    optical: Path | None = None
    optical_reference: Path | None = None
    optodes: Path | None = None
    body_threshold: float | None = None
    seed: int = 1

    def check(self) -> None:
        """Raise InputError if files that belong together are not all given."""
        if self.image is None and (self.points or self.pre or self.reference or self.optical):
            raise InputError("Give the MRI too (--image): points, masks and light belong to it.")
        if self.image is not None and self.points is None:
            raise InputError("Give the lesion's six extreme points too (--points, a .mrk.json, .fcsv or .csv file).")
        if (self.optical is None) != (self.optodes is None):
            raise InputError("Measured light and fiber positions belong together: give both --optical and --optodes.")


class Logics(NamedTuple):
    """The Logic objects of the three modules."""

    weak_segment: Any
    nirst: Any
    radiomics: Any


class _Exam(NamedTuple):
    name: str
    image: Any
    pre: Any
    points: Any
    reference: tuple[Any, str] | None
    tissue: Any
    facts: dict[str, Any]


def run_exam(
    files: ExamFiles,
    logics: Logics,
    output: str | Path,
    method: str = "adaptive",
    radiomics_settings: str = "mr",
    progress: Progress = ignore_progress,
) -> dict[str, Any]:
    """Do the whole chain in the current scene and write its results; return the key figures.

    The folder holds ``scene.mrb``, ``segmentation.seg.nrrd``, one ``.nrrd`` per chromophore, ``features.csv``,
    ``contrast.csv``, ``report.html`` and ``result.json``; it appears when everything is done, or not at all.

    Raises
    ------
    InputError
        If a file cannot be used; nothing is written then.
    """
    files.check()
    logics.radiomics.settings(radiomics_settings)  # refuse what is wrong before the long work
    started = time.perf_counter()
    exam = _load(files, logics, portion(progress, 0.0, 0.2))
    segmented = logics.weak_segment.segment(
        exam.image, exam.points, preContrastNode=exam.pre, progress=portion(progress, 0.2, 0.35)
    )
    lesion = (segmented.segmentationNode, segmented.segmentId)
    scores = None
    if exam.reference is not None:
        scores = logics.weak_segment.compare(*lesion, *exam.reference, exam.image)

    progress(0.35, "Placing the plane")
    nirst = logics.nirst
    if files.optodes is not None:
        optodes = points_to_node(read_points(files.optodes), name="Optodes")
        plane, _rms = nirst.planeFromOptodes(optodes)
    else:
        plane = nirst.planeFromLesion(*lesion, exam.image)
        optodes = nirst.placeRing(plane, exam.image, bodyThreshold=files.body_threshold)
    simulated = None
    if files.optical is None:
        simulated = nirst.simulate(
            exam.image,
            plane,
            optodes,
            *(exam.reference or lesion),
            tissueNode=exam.tissue,
            seed=files.seed,
            bodyThreshold=files.body_threshold,
        )
    light = nirst.reconstruct(
        exam.image,
        plane,
        optodes,
        simulated or files.optical,
        referenceData=files.optical_reference,
        method=method,
        bodyThreshold=files.body_threshold,
        segmentationNode=lesion[0],
        segmentId=lesion[1],
        progress=portion(progress, 0.4, 0.8),
    )
    features = logics.radiomics.extract(
        exam.image, lesion[0], [lesion[1]], settings=radiomics_settings, progress=portion(progress, 0.8, 0.92)
    )

    progress(0.92, "Writing the scene and the report")
    _arrange_views(exam.image, light.volumeNodes, plane)
    figures = _figures(exam, segmented, scores, light, features, simulated is not None)
    figures["seconds"] = round(time.perf_counter() - started, 1)
    origin = "measured" if simulated is None else f"simulated: {simulated.description}"
    with atomic_folder(output) as folder:
        _save(lesion[0], folder / "segmentation.seg.nrrd")
        for row in light.contrast:
            image = volume_from_node(light.volumeNodes[row.quantity])
            write_volume(
                image, folder / f"{row.quantity}.nrrd", {"units": row.unit, "outside_body": "0", "light": origin}
            )
        with (folder / "contrast.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(light.contrast[0]._fields)
            writer.writerows(light.contrast)
        logics.radiomics.export(features.tableNode, folder / "features.csv")
        report = _report(exam, files, segmented, scores, light, simulated, features, figures)
        write_report(report, folder / "report.html")
        result = {"figures": figures, "segmentation": segmented.result.record, "light": light.result.summary()}
        result["radiomics"] = features.provenance
        result["files"] = {key: str(value) for key, value in asdict(files).items() if value is not None}
        (folder / "result.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
        if not slicer.util.saveScene(str(folder / "scene.mrb"), properties={}):
            raise InputError(f"The scene could not be written to '{output}'. Is the disk full?")
    progress(1.0, "Done")
    return {**figures, "output": str(output)}


def _load(files: ExamFiles, logics: Logics, progress: Progress) -> _Exam:
    if files.image is None or files.points is None:
        made = logics.weak_segment.simulateCase(files.seed, *SYNTHETIC_LESION, progress=progress)
        return _Exam(
            name=f"Synthetic exam, seed {files.seed}",
            image=made.postNodes[0],
            pre=made.preNode,
            points=made.pointsNode,
            reference=(made.truthSegmentationNode, made.truthSegmentId),
            tissue=made.tissueNode,
            facts=made.parameters,
        )
    progress(0.0, "Reading the images")
    image = volume_to_node(read_volume(files.image), name=_stem(files.image))
    pre = None if files.pre is None else volume_to_node(read_volume(files.pre), name=_stem(files.pre))
    points = points_to_node(read_points(files.points), name="Extreme points")
    reference = None
    if files.reference is not None:
        mask = read_volume(files.reference)
        node = segmentation_for(image, "Reference")
        reference = (node, mask_to_segment(mask.with_array(mask.array > 0), node, "Reference", color=(0.2, 0.7, 0.3)))
    return _Exam(_stem(files.image), image, pre, points, reference, None, {})


def _stem(path: Path) -> str:
    """Return a file's name without the suffix of its image format."""
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")
    return path.name[: len(path.name) - len(suffix)]


def _save(node: Any, path: Path) -> None:
    if not slicer.util.saveNode(node, str(path), properties={}):
        raise InputError(f"'{path.name}' could not be written. Is the disk full?")


def _arrange_views(image: Any, light: dict[str, Any], plane: Any) -> None:
    """Let the scene open with the MRI in all views and HbO over it, the red view lying in the plane."""
    slicer.util.setSliceViewerLayers(background=image, foreground=light["hbo"], foregroundOpacity=0.6)
    red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    if red is not None:
        red.GetSliceToRAS().DeepCopy(slicer.util.vtkMatrixFromArray(slice_to_ras(plane)))
        red.UpdateMatrices()


def _figures(exam: _Exam, segmented: Any, scores: Any, light: Any, features: Any, simulated: bool) -> dict[str, Any]:
    figures: dict[str, Any] = {"case": exam.name, "lesion_ml": segmented.result.volume_ml}
    if scores is not None:
        figures["dice"] = scores.dice
    figures["light"] = "simulated" if simulated else "measured"
    figures["residual_chi"] = float(np.sqrt(np.mean(np.square(list(light.chi.values())))))
    for row in light.contrast:
        figures[f"{row.quantity}_lesion_to_background"] = row.ratio
    figures["features"] = sum(value.value is not None for value in features.records)
    return figures


def _report(
    exam: _Exam,
    files: ExamFiles,
    segmented: Any,
    scores: Any,
    light: Any,
    simulated: Any,
    features: Any,
    figures: dict[str, Any],
) -> Report:
    image = volume_from_node(exam.image)
    masks = {"segmentation": mask_from_segment(segmented.segmentationNode, segmented.segmentId, exam.image)}
    if exam.reference is not None:
        masks["truth" if files.image is None else "reference"] = mask_from_segment(*exam.reference, exam.image)
    rows: list[list[Any]] = [["Volume [ml]", segmented.result.volume_ml]]
    if segmented.result.contrast is not None:
        rows.append(["Separation of lesion and background intensities [0.5 to 1]", segmented.result.contrast])
    if scores is not None:
        rows += [
            ["Dice with the reference [1]", scores.dice],
            ["95 % Hausdorff distance [mm]", scores.hd95_mm],
            ["Reference volume [ml]", scores.reference_ml],
        ]
    segmentation = Section(
        "Segmentation",
        [f"Random walker from six extreme points on {'post- minus pre-contrast' if exam.pre else 'the image'}."],
        [Picture(draw_three_planes(image, masks), "MRI with outlines, cut through the middle of the lesion.")],
        [Table("Lesion", ["Measure", "Value"], rows)],
    )
    notices = []
    if files.image is None:
        notices.append("Synthetic exam made by a program, with known truth. No patient is shown.")
    if simulated is not None:
        notices.append(f"No light was measured in this exam. The optical data were simulated: {simulated.description}")
    return Report(
        f"Breast exam: {exam.name}",
        [segmentation, _light_section(light, simulated), _features_section(features), _record_section(figures, light)],
        notices,
    )


def _light_section(light: Any, simulated: Any) -> Section:
    truth = {} if simulated is None else light.sample(simulated.truth)
    units = {row.quantity: row.unit for row in light.contrast}
    plane = light.plane
    images = [PlaneImage(TITLES[name], units[name], values, truth.get(name)) for name, values in plane.values.items()]
    picture = draw_plane_images(
        images, plane.mri, plane.pixel_mm, light.grid.plane.plane_to_ras[:3, :2], plane.lesion, plane.optodes_mm
    )
    chi = {f"{wavelength:.0f} nm": value for wavelength, value in light.chi.items()}
    columns = ["Quantity", "Unit", "Lesion", "Background", "Ratio [1]", "Standard error of the ratio [1]"]
    rows = [[TITLES[r.quantity], r.unit, r.lesion, r.background, r.ratio, r.ratio_se] for r in light.contrast]
    if truth:
        columns.append("True ratio [1]")
        for row, name in zip(rows, truth, strict=True):
            row.append(_true_ratio(truth[name], plane))
    return Section(
        "Near-infrared images on the lesion plane",
        list(light.result.remarks),
        [
            Picture(picture, "Images over the MRI; lesion outlined in white, fibers in blue."),
            Picture(
                draw_bars(chi, "residual / noise [1]", expected=1.0),
                "Root-mean-square difference of the data and the reconstruction's prediction, in units of the noise; "
                "1 is as good as the noise allows.",
            ),
        ],
        [Table(f"Lesion and background (farther than {BACKGROUND_FROM_MM:g} mm from the lesion)", columns, rows)],
    )


def _true_ratio(image: Any, plane: Any) -> float:
    from scipy import ndimage

    body = np.isfinite(image)
    away = ndimage.distance_transform_edt(~plane.lesion) * plane.pixel_mm > BACKGROUND_FROM_MM
    return float(image[plane.lesion & body].mean() / image[away & body].mean())


def _features_section(features: Any) -> Section:
    families: dict[str, list[Any]] = {}
    for value in features.records:
        families.setdefault(value.feature.family, []).append(value)
    tables = [
        Table(
            f"{family} ({len(values)} values)",
            ["Feature", "IBSI code", "Aggregation", "Value", "Unit", "Note"],
            [
                [v.feature.name, v.feature.ibsi, v.aggregation, "" if v.value is None else v.value, v.unit, v.note]
                for v in values
            ],
            folded=True,
        )
        for family, values in families.items()
    ]
    settings = features.provenance["settings"]
    text = f"Settings '{settings['name']}': {settings['reason']}"
    return Section("Radiomics of the lesion", [text], [], tables)


def _record_section(figures: dict[str, Any], light: Any) -> Section:
    summary = light.result.summary()
    rows = [
        ["Method", summary["method"]],
        ["Extinction table", summary["extinction_table"]],
        ["Values used / measured", f"{summary['values_used']} / {summary['values_total']}"],
        ["Stopped because", summary["reason"]],
        ["Duration of the chain [s]", figures["seconds"]],
    ]
    return Section("How it was computed", [], [], [Table("Record (all of it in result.json)", ["Item", "Value"], rows)])
