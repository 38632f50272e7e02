"""The command `simulate`: a disc phantom's data, MR image and truth, as files that `reconstruct` reads."""

from __future__ import annotations

import argparse
import csv
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from BreastBiomarkersLib.command_line import add_json_option
from BreastBiomarkersLib.files import atomic_folder
from BreastBiomarkersLib.progress import Progress
from BreastBiomarkersLib.volume import write_volume

from NIRSTReconstructionLib.forward import SOURCE_MODELS, ForwardModel
from NIRSTReconstructionLib.images import IMAGE_UNITS
from NIRSTReconstructionLib.measurements import write_csv_measurements
from NIRSTReconstructionLib.meshing import disc_mesh
from NIRSTReconstructionLib.noise import NoiseModel
from NIRSTReconstructionLib.optodes import Optodes, place_optodes, ring_optodes
from NIRSTReconstructionLib.phantoms import (
    BODY_RADIUS_MM,
    MISMATCHES,
    PRESETS,
    REFERENCE_TISSUE,
    SimulatedCase,
    draw_phantom,
    simulate_case,
)
from NIRSTReconstructionLib.spectra import MAP_NAMES, MAP_UNITS, PAPER_WAVELENGTHS_NM, load_spectra, table_names

FINE_ELEMENT_MM, FINE_OPTODE_ELEMENT_MM = 2.4, 1.0
"""Triangle sides of the mesh that makes the data: finer than what reconstruction uses, about 4,700 nodes."""


def add_simulate_parser(commands: Any) -> None:
    """Add the sub-command `simulate` to the parsers made by `add_subparsers`."""
    parser = commands.add_parser(
        "simulate",
        help="a simulated case: disc phantom, MR image, light",
        description=f"Simulates one case: a disc of {2 * BODY_RADIUS_MM:g} mm with round inclusions, its MR image and "
        "the light of a ring of fibers, on a finer mesh than reconstruction uses. Equal options give equal files.",
    )
    phantom = parser.add_argument_group("phantom")
    phantom.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        default="paper-like",
        help="ranges from which concentrations are drawn (default: %(default)s)",
    )
    phantom.add_argument("--inclusions", type=int, metavar="N", help="0 to 4 (default: 1 or 2 at random)")
    phantom.add_argument(
        "--mismatch",
        choices=MISMATCHES,
        default="none",
        help="no-contrast: inclusions only in the MR image; mri-invisible: only in the light (default: %(default)s)",
    )
    phantom.add_argument(
        "--texture",
        type=float,
        default=0.0,
        metavar="PERCENT",
        help="smooth variation of the background, 10 mm long (default: %(default)s)",
    )
    phantom.add_argument(
        "--mri-shift",
        type=float,
        default=0.0,
        metavar="MM",
        help="displacement of the MR image in a random direction (default: %(default)s)",
    )
    phantom.add_argument("--seed", type=int, default=0, metavar="N", help="random seed (default: %(default)s)")

    instrument = parser.add_argument_group("instrument")
    instrument.add_argument("--fibers", type=int, default=16, metavar="N", help="on the ring (default: %(default)s)")
    instrument.add_argument(
        "--wavelengths",
        nargs="+",
        type=float,
        default=list(PAPER_WAVELENGTHS_NM),
        metavar="NM",
        help="in nm (default: %(default)s)",
    )
    instrument.add_argument(
        "--noise", type=float, default=2.0, metavar="PERCENT", help="of each amplitude (default: %(default)s)"
    )
    instrument.add_argument(
        "--dark",
        type=float,
        default=0.0,
        metavar="PERCENT",
        help="dark noise, percent of the brightest channel at a wavelength (default: %(default)s)",
    )
    instrument.add_argument(
        "--gains",
        type=float,
        default=0.0,
        metavar="PERCENT",
        help="spread of the couplings of sources and of detectors (default: %(default)s)",
    )
    instrument.add_argument(
        "--modulation", type=float, default=0.0, metavar="MHZ", help="0: continuous wave (default: %(default)s)"
    )

    model = parser.add_argument_group("model")
    model.add_argument(
        "--source-model",
        choices=SOURCE_MODELS,
        default="point",
        help="point: light in 3-D, as that of fibers, in a body that does not change across the plane; line: light "
        "in the plane only (default: %(default)s)",
    )
    model.add_argument(
        "--spectra", default="nirfast", metavar="NAME", help=f"{', '.join(table_names())} (default: %(default)s)"
    )

    parser.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="folder for data.csv, reference.csv (uniform phantom, same gains), optodes.csv, mri.nrrd, labels.nrrd, "
        "lesion.nrrd, true_*.nrrd, case.json",
    )
    add_json_option(parser)
    parser.set_defaults(handler=run_simulate)


def run_simulate(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Simulate the case the options describe, write it and return its key figures."""
    began = time.perf_counter()
    noise = NoiseModel(
        relative=options.noise / 100,
        dark=options.dark / 100,
        source_gain=options.gains / 100,
        detector_gain=options.gains / 100,
    )
    rng = np.random.default_rng(options.seed)
    phantom = draw_phantom(
        rng, options.preset, options.inclusions, options.mismatch, options.texture / 100, options.mri_shift
    )
    spectra = load_spectra(np.unique(options.wavelengths), options.spectra)
    progress(0.0, "building the mesh")
    fibers = ring_optodes(BODY_RADIUS_MM, options.fibers)
    mesh = disc_mesh(
        BODY_RADIUS_MM, FINE_ELEMENT_MM, refine_at=fibers.detectors, refined_size_mm=FINE_OPTODE_ELEMENT_MM
    )
    musp = float(spectra.musp(phantom.background.maps(1)).mean())
    model = ForwardModel(
        mesh,
        place_optodes(mesh, fibers, musp),
        spectra,
        modulation_mhz=options.modulation,
        source_model=options.source_model,
    )
    progress(0.4, "simulating the light")
    case = simulate_case(phantom, model, noise, rng)
    progress(0.9, "writing")
    figures = {
        "inclusions": len(phantom.inclusions),
        "values": int(case.measured.active.size),
        "values_without_light": int((~case.measured.active).sum()),
        "wavelengths_nm": spectra.wavelengths_nm.tolist(),
        "extinction_table": spectra.table_name,
        "solver": model.solver_name,
        "seed": options.seed,
        "output": str(options.output),
    }
    with atomic_folder(options.output) as folder:
        _write_case(case, fibers, folder)
        description = {
            "simulated": True,
            "seed": options.seed,
            "preset": options.preset,
            "mismatch": options.mismatch,
            "model": model.describe(),
            "noise": asdict(noise),
            "tissue_units": dict(zip(MAP_NAMES, MAP_UNITS, strict=True)),
            "phantom": asdict(phantom),
            "reference_tissue": asdict(REFERENCE_TISSUE),
        }
        (folder / "case.json").write_text(json.dumps(description, indent=1), encoding="utf-8")
    progress(1.0, "done")
    return {**figures, "seconds": round(time.perf_counter() - began, 3)}


def _write_case(case: SimulatedCase, fibers: Optodes, folder: Path) -> None:
    write_csv_measurements(case.measured, folder / "data.csv")
    write_csv_measurements(case.reference, folder / "reference.csv")
    with (folder / "optodes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["kind", "number", "x_mm", "y_mm", "z_mm"])
        for number, (x, y) in enumerate(fibers.detectors, start=1):
            writer.writerow(["fiber", number, f"{x:.6f}", f"{y:.6f}", "0"])
    write_volume(case.mri, folder / "mri.nrrd", {"units": "gray value"})
    write_volume(case.labels, folder / "labels.nrrd")
    lesion = (case.labels.array >= 2).astype(np.uint8)
    write_volume(case.labels.with_array(lesion, "lesion"), folder / "lesion.nrrd")
    for name, volume in case.truth.items():
        write_volume(volume, folder / f"true_{name}.nrrd", {"units": IMAGE_UNITS[name], "outside_body": "0"})
