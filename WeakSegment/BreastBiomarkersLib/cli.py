"""Command line: `python -m BreastBiomarkersLib demo ...`, the whole chain without Slicer's windows."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from BreastBiomarkersLib import command_line
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Progress, portion

LIGHT_METHODS = tuple("adaptive tikhonov dri soft-prior hard-prior regions-field linear hybrid znet".split())
CHECKOUT = Path(__file__).resolve().parents[2]


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all sub-commands."""
    parser = argparse.ArgumentParser(
        prog="python -m BreastBiomarkersLib", description="The whole chain without Slicer's windows."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="breast MRI and six points to segmentation, near-infrared images, features, Slicer scene and report",
        description="Without --image a synthetic exam with known truth is used. Without --optical the light is "
        "simulated on the lesion's plane, and the report says so.",
    )
    demo.add_argument("--image", type=Path, metavar="FILE", help="post-contrast MRI (NRRD, NIfTI or MetaImage)")
    demo.add_argument("--pre", type=Path, metavar="FILE", help="pre-contrast MRI on the same grid, to be subtracted")
    demo.add_argument(
        "--points", type=Path, metavar="FILE", help="six extreme points: .mrk.json, .fcsv or .csv (x, y, z in RAS mm)"
    )
    demo.add_argument("--reference", type=Path, metavar="FILE", help="lesion mask to compare with")
    demo.add_argument("--optical", type=Path, metavar="FILE", help="measured light: Nirfast .paa or .csv")
    demo.add_argument(
        "--optical-reference", type=Path, metavar="FILE", help="the same on a homogeneous phantom, for calibration"
    )
    demo.add_argument(
        "--optodes", type=Path, metavar="FILE", help="fiber positions in RAS mm, in the order of the data"
    )
    demo.add_argument(
        "--body-threshold",
        type=float,
        metavar="GRAY",
        help="gray value between air and breast in the image, 0 if it shows no air (default: found from the image)",
    )
    demo.add_argument("--method", default="adaptive", choices=LIGHT_METHODS, help="of reconstruction, default adaptive")
    demo.add_argument("--settings", default="mr", metavar="PRESET_OR_FILE", help="radiomics settings, default mr")
    demo.add_argument("--seed", type=int, default=1, metavar="N", help="of the synthetic exam and simulated light")
    demo.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for scene, tables and report")
    command_line.add_json_option(demo)
    demo.set_defaults(handler=_demo)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return command_line.run(build_parser(), arguments)


def _demo(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    progress(0.0, "Starting")
    logics = _start_without_windows()
    exam = importlib.import_module("BreastBiomarkersLib.inslicer.exam")
    files = exam.ExamFiles(
        image=options.image,
        pre=options.pre,
        points=options.points,
        reference=options.reference,
        optical=options.optical,
        optical_reference=options.optical_reference,
        optodes=options.optodes,
        body_threshold=options.body_threshold,
        seed=options.seed,
    )
    figures: dict[str, Any] = exam.run_exam(
        files, exam.Logics(*logics), options.output, options.method, options.settings, portion(progress, 0.1, 1.0)
    )
    return figures


def _start_without_windows() -> list[Any]:
    """Return the three modules' Logic objects, run by the source checkout's stand-in for the Slicer application."""
    testing = CHECKOUT / "Testing"
    if not (testing / "host").is_dir():
        raise InputError(
            "The demo needs a source checkout, whose Testing folder holds the stand-in for the Slicer application. In "
            "Slicer use the modules, or BreastBiomarkersLib.inslicer.exam.run_exam."
        )
    sys.path.append(str(testing))
    host = importlib.import_module("host.application").start()
    names = ("WeakSegment", "NIRSTReconstruction", "RadiomicsPanel")
    for name in names:
        host.load_module(CHECKOUT / name / f"{name}.py")
    return [getattr(sys.modules[name], f"{name}Logic")() for name in names]
