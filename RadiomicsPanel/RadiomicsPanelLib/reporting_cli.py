"""The command that writes what a paper has to say about a feature table."""

from __future__ import annotations

import argparse
from typing import Any

from BreastBiomarkersLib import command_line
from BreastBiomarkersLib.progress import Progress

from RadiomicsPanelLib.reporting import describe_methods, read_model, read_provenance, write_report


def add_commands(commands: Any) -> None:
    """Give an argparse collection of sub-commands those of this file."""
    report = commands.add_parser(
        "report", help="write a methods paragraph and rows of the CLEAR and METRICS checklists"
    )
    report.add_argument(
        "--provenance", required=True, metavar="FILE.json", help="beside a table of `extract` or `cohort`"
    )
    report.add_argument("--model", metavar="FILE.json", help="model.json of `model`, for the items about modeling")
    report.add_argument("--output", required=True, metavar="FOLDER", help="methods.txt, clear.csv, metrics.csv")
    command_line.add_json_option(report)
    report.set_defaults(handler=_report)


def _report(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    record = read_provenance(options.provenance)
    model = None if options.model is None else read_model(options.model)
    write_report(record, options.output, model)
    progress(1.0, "Done")
    return {"output": options.output, "methods": describe_methods(record)}
