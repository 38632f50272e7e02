"""Feature values as tables: a row per value (long) or per segment and filter (wide), the provenance beside the file."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path

from RadiomicsPanelLib.extract import Extraction, provenance

LONG_COLUMNS = (
    "case",
    "segment",
    "filter",
    "family",
    "feature",
    "ibsi_code",
    "aggregation",
    "value",
    "unit",
    "note",
)

Row = tuple[str | float | None, ...]


def long_rows(extractions: Sequence[Extraction]) -> list[Row]:
    """Return one row per value, in the order of `LONG_COLUMNS`; a value that does not apply is None."""
    return [
        (
            e.case,
            e.segment,
            e.filter,
            v.feature.family,
            v.feature.name,
            v.feature.ibsi,
            v.aggregation,
            v.value,
            v.unit,
            v.note,
        )
        for e in extractions
        for v in e.values
    ]


def wide_columns(extractions: Sequence[Extraction]) -> tuple[str, ...]:
    """Return the column names of `wide_rows`: case, segment, filter, one per feature and aggregation, notes."""
    columns = dict.fromkeys(v.column for e in extractions for v in e.values)
    return ("case", "segment", "filter", *columns, "notes")


def wide_rows(extractions: Sequence[Extraction]) -> list[Row]:
    """Return one row per segment and filter, in the order of `wide_columns`; notes name the columns they are about."""
    rows: list[Row] = []
    columns = wide_columns(extractions)[3:-1]
    for e in extractions:
        about_values = [f"{v.column}: {v.note}" for v in e.values if v.note]
        notes = "; ".join([*e.preparation["notes"], *about_values])
        values = {v.column: v.value for v in e.values}
        rows.append((e.case, e.segment, e.filter, *(values.get(column) for column in columns), notes))
    return rows


def require_table_name(path: str | Path) -> Path:
    """Return the path of a table to write.

    Raises
    ------
    InputError
        If the name does not end in .csv.
    """
    path = Path(path)
    if path.suffix.lower() != ".csv":
        raise InputError(f"Feature tables are written as .csv, not '{path.name}'.")
    return path


def write_table(extractions: Sequence[Extraction], path: str | Path, long: bool = False) -> Path:
    """Write a CSV table, wide or long, and its provenance as JSON beside it; return the provenance's path.

    Numbers are written so that reading them gives the same 64-bit value; what does not apply is empty.

    Raises
    ------
    InputError
        If the name does not end in .csv or the folder cannot be written to.
    """
    path = require_table_name(path)
    columns = LONG_COLUMNS if long else wide_columns(extractions)
    rows = long_rows(extractions) if long else wide_rows(extractions)
    beside = path.with_suffix(".provenance.json")
    with atomic_path(beside) as temporary:
        temporary.write_text(json.dumps(provenance(extractions), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
    return beside
