"""The command that reproduces a study made with pyradiomics."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from BreastBiomarkersLib import command_line
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Progress, portion

from RadiomicsPanelLib.extract import VERSION
from RadiomicsPanelLib.pyradiomics_mode import NAME
from RadiomicsPanelLib.roi import read_cases
from RadiomicsPanelLib.table import Row, require_table_name, write_rows
from RadiomicsPanelLib.yaml_pyradiomics import (
    PyradiomicsParameters,
    extract_like_pyradiomics,
    extract_with_pyradiomics,
    read_parameters,
    write_parameters,
)


def add_commands(commands: Any) -> None:
    """Give an argparse collection of sub-commands those of this file."""
    published = commands.add_parser("pyradiomics", help="reproduce a study made with pyradiomics, without it")
    published.add_argument("--image", required=True, metavar="FILE", help="NRRD, NIfTI or MetaImage")
    published.add_argument("--mask", required=True, metavar="FILE", help="label map")
    published.add_argument(
        "--label", type=int, metavar="N", help="default that of the parameter file, else every label"
    )
    published.add_argument("--parameters", metavar="FILE.yaml", help="its parameter file; default its own defaults")
    published.add_argument("--output", required=True, metavar="FILE.csv", help="one row per segment, its column names")
    published.add_argument("--write-parameters", metavar="FILE.yaml", help="write what was used as a parameter file")
    published.add_argument(
        "--compare", action="store_true", help="run pyradiomics too, where it is installed, and report differences"
    )
    command_line.add_json_option(published)
    published.set_defaults(handler=_run)


def _run(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    require_table_name(options.output)
    parameters = read_parameters(options.parameters) if options.parameters else PyradiomicsParameters()
    progress(0.0, "Reading")
    label = options.label if options.label is not None else parameters.label
    cases, compared = read_cases(options.image, options.mask, label), []
    rows: list[Row] = []
    names: list[str] = []
    for n, case in enumerate(cases):
        step = portion(progress, 0.05 + 0.9 * n / len(cases), 0.05 + 0.9 * (n + 1) / len(cases))
        values = extract_like_pyradiomics(case, parameters, portion(step, 0.0, 0.5 if options.compare else 1.0))
        names = list(values)
        rows.append((case.name, case.segment, f"RadiomicsPanel {VERSION}, {NAME}", *values.values()))
        if options.compare:
            theirs = extract_with_pyradiomics(case, parameters)
            compared.append(_difference(values, theirs) | {"segment": case.segment})
            rows.append((case.name, case.segment, "pyradiomics", *(theirs.get(name) for name in names)))
    write_rows(("case", "segment", "program", *names), rows, options.output)
    if options.write_parameters:
        write_parameters(parameters, options.write_parameters)
    progress(1.0, "Done")
    return {"output": options.output, "segments": len(cases), "features": len(names), "compared": compared}


def _difference(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, Any]:
    """Return how many values two programs share, how many are equal to 1e-9, and which differ most."""
    shared = [name for name in ours if name in theirs]
    if not shared:
        raise InputError("The installed pyradiomics gave none of the features.")
    apart = {name: abs(ours[name] - theirs[name]) / max(abs(theirs[name]), 1e-12) for name in shared}
    worst = max(apart, key=lambda name: apart[name])
    unequal = [name for name, difference in apart.items() if not difference <= 1e-9]
    return {
        "shared": len(shared),
        "equal": len(shared) - len(unequal),
        "unequal": sorted(unequal, key=lambda name: -apart[name])[:20],
        "largest_difference": float(np.nan_to_num(apart[worst], nan=1e300)),
        "largest_difference_in": worst,
    }
