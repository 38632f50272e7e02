"""Our values beside those of an installed pyradiomics, for whoever has to reproduce a study made with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from BreastBiomarkersLib.inslicer.nodes import table_to_node
from BreastBiomarkersLib.progress import Progress, ignore_progress, portion

from RadiomicsPanelLib.roi import Case
from RadiomicsPanelLib.yaml_pyradiomics import (
    PyradiomicsParameters,
    extract_like_pyradiomics,
    extract_with_pyradiomics,
)

COMPARISON = "RadiomicsPanel.Comparison"  # attribute of our tables: what came out, in words


def comparison_table(
    cases: Sequence[Case], parameters: PyradiomicsParameters, progress: Progress = ignore_progress
) -> Any:
    """Return a new table node: segment, feature, our value, its value, and the difference relative to its.

    Raises
    ------
    InputError
        As `extract_with_pyradiomics`, in particular if pyradiomics is not installed.
    """
    rows: list[tuple[str, str, float | None, float | None, float | None]] = []
    for n, case in enumerate(cases):
        step = portion(progress, n / len(cases), (n + 1) / len(cases))
        step(0.0, f"pyradiomics measures {case.segment}")
        theirs = extract_with_pyradiomics(case, parameters)
        ours = extract_like_pyradiomics(case, parameters, portion(step, 0.5, 1.0))
        for name in dict.fromkeys((*ours, *theirs)):
            a, b = ours.get(name), theirs.get(name)
            difference = None if a is None or b is None else abs(a - b) / max(abs(b), 1e-12)
            rows.append((case.segment, name, a, b, difference))
    columns = ("Segment", "Feature", "RadiomicsPanel", "pyradiomics", "Relative difference")
    table = table_to_node(
        {title: [row[n] for row in rows] for n, title in enumerate(columns)}, None, f"{cases[0].name} comparison"
    )
    known = [(row[4], row[1], row[0]) for row in rows if row[4] is not None]
    worst = "" if not known else " The largest relative difference is {:.1e}: {} of {}.".format(*max(known))
    table.SetAttribute(COMPARISON, f"{len(known)} of {len(rows)} values compared.{worst}")
    return table
