"""The command `check`: measured light and fiber positions in; a table, a picture and findings out."""

from __future__ import annotations

import argparse
from typing import Any

from BreastBiomarkersLib.command_line import add_json_option
from BreastBiomarkersLib.files import atomic_folder
from BreastBiomarkersLib.progress import Progress

from NIRSTReconstructionLib.fibers import read_fibers
from NIRSTReconstructionLib.measurements import read_measurements, write_csv_measurements
from NIRSTReconstructionLib.quality_control import QualitySettings, check_quality, draw_quality, write_quality


def add_check_parser(commands: Any) -> None:
    """Add the sub-command `check` to the parsers made by `add_subparsers`."""
    parser = commands.add_parser(
        "check",
        help="quality control of measured light",
        description="Looks for saturated, dark and noisy channels, dead and swapped fibers, outliers of the fall of "
        "the light with distance and of reciprocity. Suggests what to leave out and how noisy the light is, and writes "
        "the data so beside the findings; the given file is not changed.",
    )
    parser.add_argument("--data", required=True, metavar="FILE", help="amplitudes: Nirfast .paa, SNIRF or CSV")
    parser.add_argument("--optodes", required=True, metavar="FILE", help="fiber tips, as for reconstruct")
    parser.add_argument("--saturation", type=float, metavar="AMPLITUDE", help="where the detector saturates")
    parser.add_argument("--dark", type=float, metavar="AMPLITUDE", help="dark signal; below three times it is unused")
    parser.add_argument(
        "--most-mads",
        type=float,
        default=QualitySettings.most_mads,
        metavar="N",
        help="outliers are farther off than N median absolute deviations (default: %(default)g)",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="folder for quality.csv, quality.png and followed.csv: the data with what is suggested, for reconstruct",
    )
    add_json_option(parser)
    parser.set_defaults(handler=run_check)


def run_check(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Read the files, check, write the folder, return the findings."""
    settings = QualitySettings(most_mads=options.most_mads, saturation=options.saturation, dark=options.dark)
    fibers = read_fibers(options.optodes)
    measurements = read_measurements(options.data)
    progress(0.3, "checking the channels")
    report = check_quality(measurements, fibers, settings)
    followed = report.followed()
    progress(0.6, "writing")
    with atomic_folder(options.output) as folder:
        write_quality(report, folder / "quality.csv")
        draw_quality(report, folder / "quality.png")
        write_csv_measurements(followed, folder / "followed.csv")
    progress(1.0, "done")
    return {**report.summary(), "remarks": list(measurements.remarks), "output": str(options.output)}
