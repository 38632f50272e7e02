"""Feature values as tables: a row per value (long) or per segment and filter (wide), the provenance beside the file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path

from RadiomicsPanelLib.catalog import ALL_FEATURES
from RadiomicsPanelLib.dicom_sr import feature_code
from RadiomicsPanelLib.extract import Extraction, FeatureValue, provenance

LONG_COLUMNS = (
    "case",
    "segment",
    "filter",
    "category",
    "family",
    "feature",
    "ibsi_code",
    "aggregation",
    "value",
    "unit",
    "note",
)

CATALOG_COLUMNS = (
    "key",
    "category",
    "family",
    "feature",
    "ibsi_code",
    "dicom_scheme",
    "dicom_code",
    "standardized",
    "unit",
    "duplicate_of",
    "definition",
    "reference",
)

Row = tuple[str | float | None, ...]


def long_rows(extractions: Sequence[Extraction]) -> list[Row]:
    """Return one row per value, in the order of `LONG_COLUMNS`; a value that does not apply is None."""
    return [value_row(e.case, e.segment, e.filter, v) for e in extractions for v in e.values]


def value_row(case: str, segment: str, filter_label: str, v: FeatureValue) -> Row:
    """Return the row of one value, in the order of `LONG_COLUMNS`."""
    f = v.feature
    about = (f.category, f.family, f.name, f.ibsi, v.aggregation)
    return (case, segment, filter_label, *about, v.value, v.unit, v.note)


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
    write_rows(columns, rows, path)
    return beside


def write_catalog(path: str | Path) -> int:
    """Write the list of all features as a CSV table and return their number.

    Raises
    ------
    InputError
        If the name does not end in .csv or the folder cannot be written to.
    """
    rows: list[Row] = [
        (
            f.key,
            f.category,
            f.family,
            f.name,
            f.ibsi,
            *feature_code(f),
            "yes" if f.standardized else "no",
            f.unit,
            f.duplicate_of,
            " ".join((f.compute.__doc__ or "").split("\n\n")[0].split()),
            f.reference,
        )
        for f in ALL_FEATURES
    ]
    write_rows(CATALOG_COLUMNS, rows, require_table_name(path))
    return len(rows)


def write_rows(columns: Sequence[str], rows: Iterable[Row], path: str | Path) -> None:
    """Write a CSV table; None becomes an empty cell.

    Raises
    ------
    InputError
        If the folder cannot be written to.
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
