"""The command from DICOM files to a DICOM structured report."""

from __future__ import annotations

import argparse
from typing import Any

from BreastBiomarkersLib import command_line
from BreastBiomarkersLib.progress import Progress, portion

from RadiomicsPanelLib.dicom_files import dicom_cases, read_segments, read_series
from RadiomicsPanelLib.dicom_sr import write_report
from RadiomicsPanelLib.extract import extract_all
from RadiomicsPanelLib.settings import PRESETS, read_settings


def add_commands(commands: Any) -> None:
    """Give an argparse collection of sub-commands those of this file."""
    report = commands.add_parser("dicom-sr", help="measure a DICOM segmentation; write a DICOM structured report")
    report.add_argument("--series", required=True, metavar="FOLDER", help="images of one DICOM series")
    report.add_argument("--segmentation", required=True, metavar="FILE.dcm", help="DICOM SEG or RTSTRUCT of the series")
    report.add_argument("--segment", action="append", metavar="NAME", help="only this segment, may be repeated")
    report.add_argument(
        "--settings", default="mr", metavar="PRESET_OR_FILE", help=f"one of {', '.join(PRESETS)}, or a .json file"
    )
    report.add_argument("--feature", action="append", metavar="NAME", help="only this feature or family, repeatable")
    report.add_argument("--output", required=True, metavar="FILE.dcm", help="structured report (TID 1500)")
    command_line.add_json_option(report)
    report.set_defaults(handler=_report)


def _report(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    settings = read_settings(options.settings)
    progress(0.0, "Reading the images")
    series = read_series(options.series)
    progress(0.2, "Reading the segments")
    segments = read_segments(options.segmentation, series)
    cases = dicom_cases(series, segments, options.segment)
    extractions = extract_all(cases, settings, portion(progress, 0.3, 0.9), options.feature)
    written = write_report(extractions, series, segments, options.output)
    progress(1.0, "Done")
    return {
        "output": options.output,
        "segments": [case.segment for case in cases],
        "groups": written.groups,
        "measurements": written.measurements,
        "not_applicable": written.left_out,
    }
