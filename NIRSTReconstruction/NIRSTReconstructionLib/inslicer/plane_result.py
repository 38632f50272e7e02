"""What a run leaves for one plane, free of nodes: images, record, residuals; from memory or the command's folder."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_folder
from BreastBiomarkersLib.volume import Volume, read_volume, write_volume
from numpy.typing import NDArray

from NIRSTReconstructionLib.images import IMAGE_UNITS, Contrast, contrast_table, image_grid, sample_on_grid
from NIRSTReconstructionLib.inslicer.inputs import Inputs, Light
from NIRSTReconstructionLib.measurements import write_csv_measurements
from NIRSTReconstructionLib.plane import SliceGrid, even_polygon, slice_grid
from NIRSTReconstructionLib.reconstruct import Reconstruction, ReconstructionSettings
from NIRSTReconstructionLib.trust import TrustReport, uncertainty_on_grid

RESIDUAL_COLUMNS = ("source", "detector", "wavelength_nm", "distance_mm", "log_measured", "log_model", "residual", "sd")
_CUT_MARGIN_MM = 25.0  # around the outline: what the trust tests may shift in
_CUT_VOXELS = 3
_SHEARED = 1e-5


@dataclass(frozen=True, eq=False)
class PlaneResult:
    """Results of one plane.

    Attributes
    ----------
    images : dict of str to Volume
        One-slice images of `images.IMAGE_UNITS` and, where known, their standard deviations (``hbo_sd``).
    record : dict
        The summary of the run, JSON-able; with ``contrast`` (rows) and ``trust`` (or None).
    residual : dict of str to list of float
        A value per channel and wavelength that took part, by `RESIDUAL_COLUMNS`.
    """

    images: dict[str, Volume]
    record: dict[str, Any]
    residual: dict[str, list[float]] = field(default_factory=dict)

    @property
    def contrast(self) -> list[Contrast]:
        """Lesion against background, a row per quantity; empty without a lesion."""
        return [Contrast(**row) for row in self.record["contrast"]]


def result_from_reconstruction(
    reconstruction: Reconstruction, inputs: Inputs, trust: TrustReport | None = None
) -> PlaneResult:
    """Return the results of a reconstruction that was made in this process."""
    grid = image_grid(reconstruction)
    images = sample_on_grid(reconstruction, grid)
    images |= {f"{name}_sd": volume for name, volume in uncertainty_on_grid(reconstruction, grid).items()}
    rows = [] if inputs.lesion is None else contrast_table(reconstruction, inputs.lesion)
    summary = {
        **reconstruction.summary(),
        "contrast": [row._asdict() for row in rows],
        "trust": None if trust is None else trust.summary(),
    }
    return PlaneResult(images, _record(summary, inputs.light), _residual_of(reconstruction))


def write_inputs(inputs: Inputs, settings: ReconstructionSettings, trust: bool, folder: Path) -> list[str]:
    """Write what the command `reconstruct` reads, and return its arguments; results will be in ``folder/out``.

    Images are cut to what lies around the plane, so that little is written.

    Raises
    ------
    InputError
        If the folder cannot be written to, or a setting is none of the command's.
    """
    case = inputs.case
    assert case.plane is not None
    around = _around_plane(case.plane, even_polygon(case.contour.samples[1], 1.0))
    with atomic_folder(folder) as target:
        for n, image in enumerate(case.images):
            write_volume(_cut(image, around), target / f"mri{n + 1}.nrrd", {})
        write_volume(_as_labels(inputs.body), target / "body.nrrd", {})  # whole: the outline depends on its grid
        arguments = ["reconstruct", "--mask", str(folder / "body.nrrd"), "--mri"]
        arguments += [str(folder / f"mri{n + 1}.nrrd") for n in range(len(case.images))]
        if inputs.lesion is not None:
            write_volume(_cut(_as_labels(inputs.lesion), around), target / "lesion.nrrd", {})
            arguments += ["--lesion", str(folder / "lesion.nrrd")]
        (target / "plane.json").write_text(json.dumps(case.plane.plane_to_ras.tolist()), encoding="utf-8")
        _write_fibers(inputs, target / "optodes.csv")
        write_csv_measurements(case.measurements, target / "light.csv")
        if case.reference is not None:
            write_csv_measurements(case.reference, target / "phantom.csv")
            arguments += ["--reference-data", str(folder / "phantom.csv")]
    arguments += ["--plane", str(folder / "plane.json"), "--optodes", str(folder / "optodes.csv")]
    arguments += ["--data", str(folder / "light.csv"), "--spectra", case.spectra.table_name]
    arguments += _as_arguments(settings)
    return [*arguments, *(["--trust"] if trust else []), "--output", str(folder / "out")]


def fits_in_files(inputs: Inputs) -> bool:
    """Tell whether image files can hold the geometry: a transform that shears a grid leaves none that could."""
    volumes = [*inputs.case.images, inputs.body]
    for volume in volumes:
        axes = volume.ijk_to_ras[:3, :3] / np.linalg.norm(volume.ijk_to_ras[:3, :3], axis=0)
        if np.abs(axes.T @ axes - np.eye(3)).max() > _SHEARED:
            return False
    return True


def read_result(folder: Path, inputs: Inputs) -> PlaneResult:
    """Return the results that the command wrote for these inputs.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    try:
        report = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        trust = folder / "trust.json"
        report["trust"] = json.loads(trust.read_text(encoding="utf-8")) if trust.is_file() else None
        images = {name: read_volume(folder / f"{name}.nrrd") for name in IMAGE_UNITS}
        for name in IMAGE_UNITS:
            path = folder / f"{name}_sd.nrrd"
            if path.is_file():
                images[f"{name}_sd"] = read_volume(path)
        residual = _read_residual(folder / "residual.csv")
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"The results of the run cannot be read: {error}. Is the disk full?") from error
    for key in ("inputs", "images", "versions"):
        report.pop(key, None)
    # The command has read files of ours: their names, their holes, and what was left out before, are known here.
    measured, reference = inputs.case.measurements, inputs.case.reference
    known = "marked inactive in the file", "holds no number at"
    remarks = [remark for remark in report["remarks"] if not any(words in remark for words in known)]
    for file, data in (("light.csv", measured), ("phantom.csv", reference)):
        if data is not None:
            remarks = [remark.replace(f"'{file}'", f"'{data.name}'") for remark in remarks]
    report["remarks"] = [*measured.remarks, *(remark for remark in remarks if remark not in measured.remarks)]
    return PlaneResult(images, _record(report, inputs.light), residual)


def _record(summary: dict[str, Any], light: Light) -> dict[str, Any]:
    return {
        "data": light.measurements.name,
        "reference_data": None if light.reference is None else light.reference.name,
        "simulated": light.simulated,
        **summary,
    }


def _residual_of(reconstruction: Reconstruction) -> dict[str, list[float]]:
    data, shape = reconstruction.measurements, reconstruction.measurements.active.shape
    columns = (
        np.broadcast_to(data.channels[:, 0], shape),
        np.broadcast_to(data.channels[:, 1], shape),
        np.broadcast_to(data.wavelengths_nm[:, None], shape),
        np.broadcast_to(reconstruction.model.optodes.distances, shape),
        data.log_amplitude,
        reconstruction.predicted,
        reconstruction.residual,
        data.sd,
    )
    return {
        name: np.asarray(values, dtype=float)[data.active].tolist()
        for name, values in zip(RESIDUAL_COLUMNS, columns, strict=True)
    }


def _read_residual(path: Path) -> dict[str, list[float]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["active"] == "1"]
    return {name: [float(row[name]) if row[name] else math.nan for row in rows] for name in RESIDUAL_COLUMNS}


def _as_arguments(settings: ReconstructionSettings) -> list[str]:
    """Return the settings as options of the command; those it does not have must be the default ones."""
    start = settings.start
    arguments = ["--method", settings.method, "--gains", settings.gains, "--source-model", settings.source_model]
    arguments += ["--scatter", repr(start.scatter_amplitude), repr(start.scatter_power)]
    arguments += ["--element-size", repr(settings.element_size_mm), "--basis-nodes", str(settings.basis_nodes)]
    arguments += ["--optode-tolerance", repr(settings.optode_tolerance_mm)]
    if settings.prior_sd is not None:
        arguments += ["--prior-sd", repr(100 * settings.prior_sd)]
    if settings.noise is not None:
        arguments += ["--noise", repr(100 * settings.noise)]
    if settings.reference_scatter is not None:
        arguments += ["--reference-scatter", *map(repr, settings.reference_scatter)]
    plain = ReconstructionSettings()
    said: tuple[str, ...] = (
        "method",
        "gains",
        "source_model",
        "start",
        "element_size_mm",
        "basis_nodes",
        "optode_tolerance_mm",
    )
    said += ("prior_sd", "noise", "reference_scatter")
    other = [name for name, value in asdict(settings).items() if name not in said and value != asdict(plain)[name]]
    if other:
        raise InputError(f"The setting {', '.join(other)} is available in the Python console only.")
    return arguments


def _write_fibers(inputs: Inputs, path: Path) -> None:
    fibers = inputs.case.fibers
    both = np.array_equal(fibers.sources, fibers.detectors)
    kinds = {"fiber": fibers.detectors} if both else {"source": fibers.sources, "detector": fibers.detectors}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["kind", "number", "x_mm", "y_mm", "z_mm"])
        for kind, positions in kinds.items():
            for number, position in enumerate(positions.tolist(), start=1):
                writer.writerow([kind, number, *map(repr, position)])


def _as_labels(mask: Volume) -> Volume:
    return mask.with_array((mask.array != 0).astype(np.uint8))


def _around_plane(plane: Any, outline_mm: NDArray[np.float64]) -> SliceGrid:
    return slice_grid(plane, outline_mm, 2.0, _CUT_MARGIN_MM)


def _cut(volume: Volume, around: SliceGrid) -> Volume:
    """Return the part of a volume that its values in the plane depend on."""
    at = volume.points_to_ijk(around.plane.to_ras(around.points_mm))[:, ::-1]
    shape = np.array(volume.shape)
    start = np.clip(np.floor(at.min(axis=0)) - _CUT_VOXELS, 0, shape - 1).astype(int)
    stop = np.clip(np.ceil(at.max(axis=0)) + _CUT_VOXELS + 1, start + 1, shape).astype(int)
    return volume.cropped(tuple(start.tolist()), tuple(stop.tolist()))
