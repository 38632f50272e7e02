"""Command line: `python -m RadiomicsPanelLib extract ...`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from BreastBiomarkersLib import command_line
from BreastBiomarkersLib.progress import Progress, portion

from RadiomicsPanelLib import cohort_cli, dicom_cli, habitats_cli, maps_cli, pyradiomics_cli, reporting_cli
from RadiomicsPanelLib.case_options import add_case_options, cases_of
from RadiomicsPanelLib.catalog import FAMILIES
from RadiomicsPanelLib.extract import extract_all
from RadiomicsPanelLib.settings import PRESETS, read_settings, write_settings
from RadiomicsPanelLib.table import require_table_name, write_catalog, write_table


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all sub-commands."""
    parser = argparse.ArgumentParser(
        prog="python -m RadiomicsPanelLib", description="Reproducible features of segments."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    extracting = commands.add_parser("extract", help="compute the features of one or more segments of an image")
    add_case_options(extracting)
    extracting.add_argument(
        "--feature",
        action="append",
        metavar="NAME",
        help="only this feature (morph_sphericity) or family, may be repeated; families are "
        + ", ".join(family.name for family in FAMILIES),
    )
    extracting.add_argument(
        "--output", required=True, metavar="FILE.csv", help="table; FILE.provenance.json is written beside it"
    )
    extracting.add_argument("--long", action="store_true", help="one row per value instead of one per segment")
    command_line.add_json_option(extracting)
    extracting.set_defaults(handler=_extract)

    preset = commands.add_parser("settings", help="write a preset as a settings file to edit")
    preset.add_argument("--preset", required=True, metavar="NAME", help=", ".join(PRESETS))
    preset.add_argument("--output", required=True, metavar="FILE.json", help="settings file")
    command_line.add_json_option(preset)
    preset.set_defaults(handler=_write_settings)

    listing = commands.add_parser("features", help="write the list of all features with their definitions")
    listing.add_argument("--output", required=True, metavar="FILE.csv", help="table, one row per feature")
    command_line.add_json_option(listing)
    listing.set_defaults(handler=_list_features)

    maps_cli.add_commands(commands)
    habitats_cli.add_commands(commands)
    pyradiomics_cli.add_commands(commands)
    cohort_cli.add_commands(commands)
    reporting_cli.add_commands(commands)
    dicom_cli.add_commands(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return command_line.run(build_parser(), arguments)


def _extract(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    require_table_name(options.output)
    settings = read_settings(options.settings)
    progress(0.0, "Reading")
    cases = cases_of(options)
    extractions = extract_all(cases, settings, portion(progress, 0.05, 0.95), options.feature)
    beside = write_table(extractions, options.output, options.long)
    progress(1.0, "Done")
    return {
        "output": options.output,
        "provenance": str(beside),
        "settings": settings.name,
        "segments": [
            {
                "case": e.case,
                "segment": e.segment,
                "filter": e.filter,
                "volume_mm3": e.preparation["morphological_volume_mm3"],
                "voxels": e.preparation["intensity_voxels"],
                "levels": e.preparation["level_count"],
                "features": sum(v.value is not None for v in e.values),
                "not_applicable": sum(v.value is None for v in e.values),
                "notes": e.preparation["notes"],
            }
            for e in extractions
        ],
    }


def _write_settings(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    settings = read_settings(options.preset)
    write_settings(settings, options.output)
    return {"output": options.output, "settings": settings.name}


def _list_features(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    return {"output": options.output, "features": write_catalog(options.output)}
