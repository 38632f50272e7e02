"""The commands that work on many cases: extraction of a cohort, and the statistics of its table."""

from __future__ import annotations

import argparse
from typing import Any

from BreastBiomarkersLib import command_line
from BreastBiomarkersLib.progress import Progress

from RadiomicsPanelLib.cohort import extract_cohort
from RadiomicsPanelLib.perturb import KINDS, draw_perturbations
from RadiomicsPanelLib.settings import read_settings


def add_commands(commands: Any) -> None:
    """Give an argparse collection of sub-commands those of this file."""
    cohort = commands.add_parser("cohort", help="compute the features of many cases; stopped, it goes on where it was")
    cohort.add_argument(
        "--manifest",
        required=True,
        metavar="FILE_OR_FOLDER",
        help="CSV or JSON with case, image, mask and optionally segments (NAME, LABEL or NAME=LABEL, separated by "
        "semicolons), or a folder with a sub-folder per case",
    )
    cohort.add_argument("--settings", default="mr", metavar="PRESET_OR_FILE", help="as for extract; default mr")
    cohort.add_argument("--feature", action="append", metavar="NAME", help="only this feature or family, repeatable")
    cohort.add_argument(
        "--output", required=True, metavar="FOLDER", help="features.csv, features.parquet, failures.csv, results/"
    )
    cohort.add_argument("--workers", type=int, metavar="N", help="processes; default one less than the cores")
    cohort.add_argument("--scheduler", metavar="ADDRESS", help="a running Dask scheduler instead of own processes")
    cohort.add_argument(
        "--copies",
        type=int,
        metavar="N",
        help="measure N perturbed copies of each segment instead, for `repeatability`",
    )
    cohort.add_argument(
        "--perturb", action="append", choices=KINDS, metavar="KIND", help=f"of {', '.join(KINDS)}; default all"
    )
    cohort.add_argument("--seed", type=int, default=0, metavar="N", help="of the perturbations; default 0")
    _finish(cohort, _cohort)


def _finish(parser: argparse.ArgumentParser, handler: command_line.Handler) -> None:
    command_line.add_json_option(parser)
    parser.set_defaults(handler=handler)


def _cohort(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    copies = (
        [] if options.copies is None else draw_perturbations(options.copies, options.seed, options.perturb or KINDS)
    )
    made = extract_cohort(
        options.manifest,
        read_settings(options.settings),
        options.output,
        options.scheduler,
        progress,
        options.feature,
        options.workers,
        copies,
    )
    return {
        "output": str(made.table),
        "parquet": None if made.parquet is None else str(made.parquet),
        "provenance": str(made.provenance),
        "failures_file": str(made.failures),
        "rows": made.row_count,
        "failures": made.failure_count,
        "entries": made.entry_count,
        "reused": made.reused_count,
        "workers": made.workers,
        "notes": list(made.notes),
    }
