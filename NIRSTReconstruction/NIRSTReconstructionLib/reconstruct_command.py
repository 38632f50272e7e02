"""The command `reconstruct`: files in, a folder of images, tables and a result file out."""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import replace
from importlib import metadata
from typing import Any

import numpy as np
from BreastBiomarkersLib.command_line import add_json_option
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_folder
from BreastBiomarkersLib.progress import Progress, portion
from BreastBiomarkersLib.volume import Volume, read_volume, write_volume
from numpy.typing import NDArray

from NIRSTReconstructionLib.bulk import TYPICAL_TISSUE
from NIRSTReconstructionLib.calibration import GAINS
from NIRSTReconstructionLib.fibers import Fibers, outline_at_fibers, read_fibers
from NIRSTReconstructionLib.forward import SOURCE_MODELS
from NIRSTReconstructionLib.images import (
    IMAGE_UNITS,
    contrast_table,
    image_grid,
    sample_on_grid,
    write_contrast,
    write_residual,
)
from NIRSTReconstructionLib.measurements import Measurements, read_measurements
from NIRSTReconstructionLib.mesh import TriangleMesh
from NIRSTReconstructionLib.meshing import Contour, spline_contour
from NIRSTReconstructionLib.nirfast import read_excoef, read_nirfast_mesh
from NIRSTReconstructionLib.plane import Plane, body_contour, body_mask, even_polygon, read_plane, sample_volume
from NIRSTReconstructionLib.reconstruct import (
    DEFAULT_PRIOR_SD,
    METHODS,
    Reconstruction,
    ReconstructionSettings,
    contour_through_fibers,
    holes_in_plane,
)
from NIRSTReconstructionLib.spectra import Spectra, load_spectra, table_names
from NIRSTReconstructionLib.trust import Case, assess_trust, lesion_readout, uncertainty_on_grid


def add_reconstruct_parser(commands: Any) -> None:
    """Add the sub-command `reconstruct` to the parsers made by `add_subparsers`."""
    parser = commands.add_parser(
        "reconstruct",
        help="chromophore images from measured light",
        description="Reconstructs HbO, HbR, HbT (uM), water and StO2 (percent) in one plane. Without MRI and plane the "
        "body's outline is the curve through the fibers, and the image lies in the plane of the fibers.",
    )
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument(
        "--optodes",
        required=True,
        metavar="FILE",
        help="fiber tips in mm: CSV (kind, number, x, y[, z]"
        "; RAS), Slicer points (.mrk.json, .fcsv), or Nirfast .source/.meas",
    )
    inputs.add_argument(
        "--optodes-frame",
        choices=("ras", "lps"),
        default="ras",
        help="frame of fiber tips with x, y and z: ras as in Slicer, lps as in Nirfast meshes made from an image file; "
        "where lps brings fibers onto the MRI's body and ras does not, an error says so "
        "(default: %(default)s)",
    )
    inputs.add_argument(
        "--data",
        required=True,
        metavar="FILE",
        help="amplitudes: Nirfast .paa, SNIRF, or CSV (source, "
        "detector, wavelength in nm, amplitude[, phase in degrees, sd, active])",
    )
    inputs.add_argument(
        "--reference-data",
        metavar="FILE",
        help="the same instrument on a homogeneous phantom of the same outline; calibrates all gains",
    )
    inputs.add_argument(
        "--mri",
        nargs="+",
        default=[],
        metavar="FILE",
        help="MR images (NRRD, NIfTI, MHA): the first gives the outline, all of them guide 'dri'",
    )
    inputs.add_argument(
        "--plane",
        metavar="FILE",
        help="image plane: .json with a 4x4 slice-to-RAS matrix, Slicer plane "
        "markup or three points (.mrk.json); default: best plane through the fibers",
    )
    inputs.add_argument("--mask", metavar="FILE", help="body mask on any grid; default: threshold of the first MRI")
    inputs.add_argument(
        "--mesh", metavar="FILE", help="Nirfast 2-D mesh (.node): its outline is the body's, meshed anew"
    )
    inputs.add_argument(
        "--lesion", metavar="FILE", help="lesion mask: contrast table; regions of the two prior methods"
    )
    inputs.add_argument(
        "--regions", metavar="FILE", help="label map for soft-prior and hard-prior, if not the lesion mask"
    )
    inputs.add_argument(
        "--spectra",
        default="nirfast",
        metavar="NAME_OR_FILE",
        help=f"extinction table: {', '.join(table_names())}, or a Nirfast .excoef file (default: %(default)s)",
    )

    choices = parser.add_argument_group("method")
    choices.add_argument("--method", choices=METHODS, default="tikhonov", help="default: %(default)s")
    choices.add_argument(
        "--prior-sd",
        type=float,
        metavar="PERCENT",
        help="how far a map may stray from what the method expects, in percent of the bulk value; smaller is smoother "
        f"(defaults: {', '.join(f'{name} {100 * sd:g}' for name, sd in DEFAULT_PRIOR_SD.items())})",
    )
    choices.add_argument(
        "--gains",
        choices=("auto", *GAINS),
        default="auto",
        help="what is unknown about the instrument (default: fibers; global with --reference-data)",
    )
    choices.add_argument(
        "--noise", type=float, metavar="PERCENT", help="noise of the amplitudes in percent (default: the file's, or 2)"
    )
    choices.add_argument(
        "--scatter",
        nargs=2,
        type=float,
        metavar=("A", "B"),
        help="scatter amplitude in 1/mm at 1000 nm and power of the body, not fitted (default: 1 1)",
    )
    choices.add_argument(
        "--reference-scatter",
        nargs=2,
        type=float,
        metavar=("A", "B"),
        help="the same of the reference phantom (default: that of the body)",
    )
    choices.add_argument(
        "--reference-absorption",
        nargs="+",
        type=float,
        metavar="MUA",
        help="absorption of the reference phantom in 1/mm at each wavelength, where known (default: fitted with light "
        "of the --source-model)",
    )
    choices.add_argument("--wavelengths", nargs="+", type=float, metavar="NM", help="use only these, in nm")
    choices.add_argument(
        "--source-model",
        choices=SOURCE_MODELS,
        default="point",
        help="point: light in 3-D, as that of fibers, in a body that does not change across the plane; line: light "
        "in the plane only, for data simulated that way (default: %(default)s)",
    )
    choices.add_argument(
        "--element-size",
        type=float,
        default=ReconstructionSettings.element_size_mm,
        metavar="MM",
        help="triangle side of the forward mesh; finer at the fibers (default: %(default)g)",
    )
    choices.add_argument(
        "--basis-nodes",
        type=int,
        default=ReconstructionSettings.basis_nodes,
        metavar="N",
        help="about how many nodes the mesh of the images has, for methods that need one (default: %(default)s)",
    )
    choices.add_argument(
        "--optode-tolerance",
        type=float,
        default=5.0,
        metavar="MM",
        help="how far a fiber may be from the outline, in mm (default: %(default)g)",
    )
    choices.add_argument(
        "--body-threshold",
        type=float,
        metavar="GRAY",
        help="gray value between air and body in the MRI "
        "(default: triangle threshold; 0 for images cropped inside the body)",
    )

    outputs = parser.add_argument_group("outputs")
    outputs.add_argument(
        "--pixel", type=float, default=1.0, metavar="MM", help="pixel size in mm (default: %(default)g)"
    )
    outputs.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="folder for hbo, hbr, water, hbt, sto2 (.nrrd), "
        "result.json, residual.csv and, with --lesion, contrast.csv",
    )
    outputs.add_argument(
        "--trust",
        action="store_true",
        help="reconstruct in up to four other ways and write trust.json: checks with reasons, intervals of the "
        "lesion's contrast; and *_sd.nrrd, the standard deviation of each image",
    )
    add_json_option(parser)
    parser.set_defaults(handler=run_reconstruct)


def run_reconstruct(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Read the files, reconstruct, write the folder, return the key figures.

    Raises
    ------
    InputError
        If a file is bad or the inputs do not fit together; nothing is written then.
    """
    started = time.perf_counter()
    fibers = read_fibers(options.optodes)
    fibers = fibers.from_lps() if options.optodes_frame == "lps" else fibers
    measurements = _read_measurements(options.data, options.wavelengths)
    reference = None if not options.reference_data else _read_measurements(options.reference_data, options.wavelengths)
    images = [read_volume(path) for path in options.mri]
    lesion = read_volume(options.lesion) if options.lesion else None
    regions = read_volume(options.regions) if options.regions else lesion
    plane = read_plane(options.plane) if options.plane else None
    if plane is None and fibers.planar and (images or lesion is not None):
        raise InputError(
            f"The fibers in '{fibers.name}' have two coordinates, so their place in the MRI is unknown. Give --plane "
            "(the plane in whose coordinates they are), or fibers with x, y and z in RAS."
        )
    plane = plane or fibers.fitted_plane().plane
    try:
        contour, remark = _contour(options, fibers, plane, images)
    except InputError as error:
        raise InputError(f"{error}{_frame_hint(options, fibers, images)}") from error
    remarks = [remark] if remark else []
    for image in images:
        remarks += holes_in_plane(image, plane, even_polygon(contour.samples[1], 1.0))
    case = Case(
        measurements.remarking(*remarks),
        fibers,
        contour,
        _read_spectra(options.spectra, measurements.wavelengths_nm),
        plane,
        reference,
        images,
        regions,
    )
    result = case.reconstruct(_settings(options), portion(progress, 0.05, 0.3 if options.trust else 0.95))
    trust = assess_trust(result, case, lesion, progress=portion(progress, 0.3, 0.95)) if options.trust else None
    progress(0.95, "writing the images")
    rows = contrast_table(result, lesion) if lesion is not None else []
    volumes = sample_on_grid(result, image_grid(result, options.pixel))
    figures = _key_figures(result, volumes)
    figures |= {f"{row.quantity}_lesion_to_background": row.ratio for row in rows}
    figures |= {"trust": trust.light, "trust_reason": trust.reason} if trust else {}
    files = ("optodes", "data", "reference_data", "mri", "plane", "mask", "mesh", "lesion", "regions", "spectra")
    report = {
        **result.summary(),
        "inputs": {name: getattr(options, name) for name in files if getattr(options, name)},
        "images": {name: {"file": f"{name}.nrrd", "unit": unit} for name, unit in IMAGE_UNITS.items()},
        "contrast": [row._asdict() for row in rows],
        "readout": [reading._asdict() for reading in lesion_readout(result, lesion)] if lesion is not None else [],
        "versions": _versions(),
        "seconds": round(time.perf_counter() - started, 2),
    }
    with atomic_folder(options.output) as folder:
        for name, volume in volumes.items():
            write_volume(volume, folder / f"{name}.nrrd", {"units": IMAGE_UNITS[name], "outside_body": "0"})
        write_residual(result, folder / "residual.csv")
        if trust:
            for name, volume in uncertainty_on_grid(result, image_grid(result, options.pixel)).items():
                write_volume(volume, folder / f"{name}_sd.nrrd", {"units": IMAGE_UNITS[name], "outside_body": "0"})
            (folder / "trust.json").write_text(json.dumps(trust.summary(), indent=1, allow_nan=False), encoding="utf-8")
        if rows:
            write_contrast(rows, folder / "contrast.csv")
        (folder / "result.json").write_text(json.dumps(report, indent=1, allow_nan=False), encoding="utf-8")
    progress(1.0, "done")
    return {**figures, "output": str(options.output)}


def mesh_outline(mesh: TriangleMesh) -> NDArray[np.float64]:
    """Return the outer rim of a mesh as a closed polygon (n, 2), mm, points about 2 mm apart.

    Raises
    ------
    InputError
        If the rim does not close.
    """
    following = {int(edge[0]): int(edge[1]) for edge in mesh.boundary_edges}
    loops = []
    while following:
        first, node = following.popitem()
        loop = [first]
        while node != first:
            loop.append(node)
            if node not in following:
                raise InputError("The mesh's rim is not a closed line. Rebuild the mesh.")
            node = following.pop(node)
        loops.append(mesh.nodes[loop])
    longest = max(loops, key=lambda loop: float(np.ptp(loop, axis=0).sum()))
    return even_polygon(longest, 2.0)


def _contour(options: argparse.Namespace, fibers: Fibers, plane: Plane, images: list[Volume]) -> tuple[Contour, str]:
    """Return the body's outline in the plane and what to say about it."""
    if options.mesh:
        if not fibers.planar:
            raise InputError("A 2-D mesh needs fibers with two coordinates in the same plane. Leave --mesh out.")
        return spline_contour(mesh_outline(read_nirfast_mesh(options.mesh))), ""
    if not options.mask and not images:
        return contour_through_fibers(fibers, plane), ""
    mask = read_volume(options.mask) if options.mask else body_mask(images[0], options.body_threshold)
    tips = fibers.detectors[:, :2] if fibers.planar else plane.to_plane(fibers.detectors)[0]
    outline, moved = outline_at_fibers(body_contour(mask, plane), tips, options.optode_tolerance)
    remark = f"The outline of '{mask.name}' was moved by up to {moved:.1f} mm to meet the fibers." if moved > 1 else ""
    return spline_contour(outline), remark


def _frame_hint(options: argparse.Namespace, fibers: Fibers, images: list[Volume]) -> str:
    """Return a sentence to add where the fibers lie in the MRI only if they are read in the other frame."""
    if fibers.planar or not (options.mask or images):
        return ""
    volume = read_volume(options.mask) if options.mask else images[0]
    shares = [
        np.isfinite(sample_volume(volume, placed.positions, nearest=True)).mean()
        for placed in (fibers, fibers.from_lps())
    ]
    other = "lps" if options.optodes_frame == "ras" else "ras"
    if shares[1] < 0.9 or shares[0] > 0.5:
        return ""
    return f" Taken as {other.upper()}, the fibers lie in '{volume.name}': give --optodes-frame {other}."


def _read_measurements(path: str, wavelengths_nm: list[float] | None) -> Measurements:
    measurements = read_measurements(path)
    return measurements if wavelengths_nm is None else measurements.at_wavelengths(wavelengths_nm)


def _read_spectra(name: str, wavelengths_nm: NDArray[np.float64]) -> Spectra:
    return read_excoef(name) if name.lower().endswith(".excoef") else load_spectra(wavelengths_nm, name)


def _settings(options: argparse.Namespace) -> ReconstructionSettings:
    amplitude, power = options.scatter or (TYPICAL_TISSUE.scatter_amplitude, TYPICAL_TISSUE.scatter_power)
    return ReconstructionSettings(
        method=options.method,
        prior_sd=None if options.prior_sd is None else options.prior_sd / 100,
        gains=options.gains,
        start=replace(TYPICAL_TISSUE, scatter_amplitude=amplitude, scatter_power=power),
        noise=None if options.noise is None else options.noise / 100,
        reference_scatter=None if options.reference_scatter is None else tuple(options.reference_scatter),
        reference_mua=None if options.reference_absorption is None else tuple(options.reference_absorption),
        element_size_mm=options.element_size,
        basis_nodes=options.basis_nodes,
        optode_tolerance_mm=options.optode_tolerance,
        source_model=options.source_model,
    )


def _key_figures(result: Reconstruction, volumes: dict[str, Volume]) -> dict[str, Any]:
    """Return means over the body, misfit and how it ended; JSON-able."""
    body = volumes["hbt"].array > 0
    figures: dict[str, Any] = {"method": result.settings.method, "extinction_table": result.model.spectra.table_name}
    for name, unit in IMAGE_UNITS.items():
        figures[f"{name}_mean_{'percent' if unit == '%' else unit}"] = float(volumes[name].array[body].mean())
    figures["chi"] = float(np.sqrt(np.mean(result.chi**2)))
    figures["residual_rms_percent"] = float(100 * np.sqrt(np.mean(result.residual_rms**2)))
    figures["values_used"] = int(result.measurements.active.sum())
    figures["iterations"] = len(result.history) - 1
    figures["converged"] = result.converged
    figures["remarks"] = list(result.remarks)
    return figures


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("breastbiomarkers", "numpy", "scipy", "SimpleITK"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # inside Slicer the modules are files, not a package
            continue
    return versions
