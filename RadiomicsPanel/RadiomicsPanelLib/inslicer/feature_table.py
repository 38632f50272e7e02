"""Feature tables in the scene: each node holds the values, what they mean, where they come from, and what is stale.

The values stand in the table, the rest in the node's attributes, so that a table of an earlier run or of a loaded scene
can be exported, drawn and checked like one just made.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import slicer
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path
from BreastBiomarkersLib.inslicer.nodes import table_to_node

from RadiomicsPanelLib.catalog import FEATURES
from RadiomicsPanelLib.extract import Extraction, FeatureValue, provenance
from RadiomicsPanelLib.published import published_feature
from RadiomicsPanelLib.pyradiomics_mode import NAME as PUBLISHED
from RadiomicsPanelLib.settings import Settings, settings_from_dict
from RadiomicsPanelLib.table import LONG_COLUMNS, Row, long_rows, wide_columns, wide_rows, write_rows

RECORD = "RadiomicsPanel.Provenance"
"""Attribute: the provenance as JSON, with what is needed to read the table back (`_OWN`)."""

STALE = "RadiomicsPanel.Stale"
"""Attribute: what was changed since the values were computed; empty while they hold."""

IMAGE, SEGMENTATION = "RadiomicsPanel.image", "RadiomicsPanel.segmentation"
"""Roles of the node references to the sources."""

SUFFIXES = (".csv", ".parquet")

_OWN = ("row_per_segment", "segment_ids", "notes", "units", "features")
"""In the record: layout; id of each column's segment; its notes and units by row; key and aggregation of each row."""


def feature_table(
    extractions: Sequence[Extraction],
    sources: tuple[Any, Any, Sequence[str]],
    node: Any = None,
    row_per_segment: bool = False,
    settings: dict[str, Any] | None = None,
) -> Any:
    """Return a table node with the values; a given node is overwritten.

    A row per feature and a column per segment and filter, or the other way round. Columns carry a description and the
    properties "IBSI code" and "category" with a unit, or "segment" and "filter". A value that does not apply is an
    empty number (NaN); the column Note says why.

    Parameters
    ----------
    extractions : sequence of Extraction
    sources : tuple of image node, segmentation node, segment ids
        One id per extraction.
    node : vtkMRMLTableNode, optional
    row_per_segment : bool
    settings : dict, optional
        Put into the provenance instead of those of the extractions.
    """
    image, segmentation, ids = sources
    first = extractions[0].values
    record = provenance(extractions) | ({} if settings is None else {"settings": settings})
    del record["columns"]  # follows from the values
    rows = {v.column: n for n, v in enumerate(first)}
    record |= {
        "row_per_segment": row_per_segment,
        "segment_ids": list(ids),
        "notes": [{str(rows[v.column]): v.note for v in e.values if v.note} for e in extractions],
        "units": [
            {str(rows[v.column]): v.unit for v in e.values if v.unit != first[rows[v.column]].unit} for e in extractions
        ],
        "features": [[v.feature.key, v.aggregation, v.unit] for v in first],
    }
    titles = _titles(extractions)
    columns = _row_per_segment(extractions) if row_per_segment else _row_per_feature(extractions, titles)
    table = table_to_node(columns, node, f"{extractions[0].case} radiomics")
    with slicer.util.NodeModify(table):
        if row_per_segment:
            for v in first:
                table.SetColumnUnitLabel(v.column, v.unit)
                table.SetColumnDescription(v.column, describe_feature(v))
                table.SetColumnProperty(v.column, "IBSI code", v.feature.ibsi)
                table.SetColumnProperty(v.column, "category", v.feature.category)
        else:
            for title, e in zip(titles, extractions, strict=True):
                table.SetColumnDescription(title, f"{e.segment} in {e.case}, {e.filter}")
                table.SetColumnProperty(title, "segment", e.segment)
                table.SetColumnProperty(title, "filter", e.filter)
        table.SetAttribute(RECORD, json.dumps(record, allow_nan=False))
        table.SetAttribute(STALE, "")
        table.SetNodeReferenceID(IMAGE, image.GetID())
        table.SetNodeReferenceID(SEGMENTATION, segmentation.GetID())
    return table


def is_feature_table(node: Any) -> bool:
    """Tell whether a node is a table that `feature_table` made."""
    return node is not None and bool(node.GetAttribute(RECORD))


def record_of(node: Any) -> dict[str, Any]:
    """Return the provenance of a feature table, as `RadiomicsPanelLib.extract.provenance` gave it.

    Raises
    ------
    InputError
        If the node is none.
    """
    full = _full_record(node)
    columns = provenance(extractions_of(node))["columns"]
    return {name: value for name, value in full.items() if name not in _OWN} | {"columns": columns}


def segment_names_of(node: Any) -> dict[str, str]:
    """Return id -> name of the segments a feature table is about."""
    full = _full_record(node)
    return {i: s["segment"] for i, s in zip(full["segment_ids"], full["segments"], strict=True)}


def digests_of(node: Any) -> tuple[str, dict[str, str]]:
    """Return the digest of the image a feature table was computed from, and of each segment's mask by its id."""
    full = _full_record(node)
    masks = {i: s["mask"]["sha256"] for i, s in zip(full["segment_ids"], full["segments"], strict=True)}
    return full["segments"][0]["image"]["sha256"], masks


def extractions_of(node: Any) -> list[Extraction]:
    """Return what a feature table holds, as it was computed.

    Raises
    ------
    InputError
        If the node is none, or was edited so that it cannot be read.
    """
    full = _full_record(node)
    catalog = {feature.key: feature for feature in FEATURES}
    settings = _settings_of(full)
    found = []
    for n, segment in enumerate(full["segments"]):
        values = []
        for row, (key, aggregation, unit) in enumerate(full["features"]):
            value, note = _cell(node, full, n, row), full["notes"][n].get(str(row), "")
            if value is not None or note:  # neither: a feature that is not measured in filtered images
                feature = catalog.get(key) or published_feature(key)
                unit = full["units"][n].get(str(row), unit)
                values.append(FeatureValue(feature, aggregation, value, unit, note))
        about = {name: value for name, value in segment.items() if name not in ("case", "segment", "filter")}
        found.append(Extraction(segment["case"], segment["segment"], segment["filter"], tuple(values), about, settings))
    return found


def export_table(node: Any, path: str | Path, row_per_value: bool = True) -> Path:
    """Write a feature table as CSV or Parquet with its provenance beside it and return the path.

    Raises
    ------
    InputError
        If the node is none, the ending is neither .csv nor .parquet, pyarrow is missing, or the folder cannot be
        written to.
    """
    if not str(path).strip():
        raise InputError("Choose a CSV or Parquet file to write to.")
    path = Path(path)
    path = path if path.suffix else path.with_suffix(".csv")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"Feature tables are written as .csv or .parquet, not '{path.name}'.")
    record, extractions = record_of(node), extractions_of(node)
    if stale := node.GetAttribute(STALE):
        record["stale"] = stale
    columns = LONG_COLUMNS if row_per_value else wide_columns(extractions)
    rows = long_rows(extractions) if row_per_value else wide_rows(extractions)
    if path.suffix.lower() == ".csv":
        write_rows(columns, rows, path)
    else:
        _write_parquet(columns, rows, path)
    with atomic_path(path.with_suffix(".provenance.json")) as temporary:
        temporary.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def table_text(node: Any) -> str:
    """Return a table node as text with tabs, for the clipboard; what does not apply is empty."""
    table = node.GetTable()
    columns = range(table.GetNumberOfColumns())
    lines = [[table.GetColumnName(c) for c in columns]]
    for row in range(table.GetNumberOfRows()):
        texts = [table.GetValue(row, c).ToString() for c in columns]
        lines.append(["" if text == "nan" else text for text in texts])
    return "\n".join("\t".join(line) for line in lines)


def describe_feature(value: FeatureValue) -> str:
    """Return what a value is, in one line."""
    text = value.feature.name.replace("_", " ")
    aggregation = f", {value.aggregation.replace('_', ' ')}" if value.aggregation else ""
    return f"{value.feature.family}: {text}{aggregation} [{value.unit or '-'}]"


def _full_record(node: Any) -> dict[str, Any]:
    if not is_feature_table(node):
        raise InputError("Choose a table of features: press Apply, or select the table of an earlier run.")
    return json.loads(node.GetAttribute(RECORD))


def _settings_of(full: dict[str, Any]) -> Settings:
    settings = full["settings"]
    return Settings(name=PUBLISHED) if settings.get("name") == PUBLISHED else settings_from_dict(settings)


def _titles(extractions: Sequence[Extraction]) -> list[str]:
    """Return one column title per extraction; segment names need not be unique."""
    titles: list[str] = []
    for e in extractions:
        title = e.segment if e.filter == "original" else f"{e.segment}, {e.filter}"
        while title in titles:
            title += " (2)"
        titles.append(title)
    return titles


def _row_per_feature(extractions: Sequence[Extraction], titles: Sequence[str]) -> dict[str, Sequence[Any]]:
    first = extractions[0].values
    columns: dict[str, Sequence[Any]] = {
        "Family": [v.feature.family for v in first],
        "Feature": [v.feature.name.replace("_", " ") for v in first],
        "Aggregation": [v.aggregation for v in first],
    }
    found = [{v.column: v for v in e.values} for e in extractions]
    for title, values in zip(titles, found, strict=True):
        columns[title] = [values[v.column].value if v.column in values else None for v in first]
    columns["Unit"] = [v.unit for v in first]
    columns["IBSI code"] = [v.feature.ibsi for v in first]
    columns["Category"] = [v.feature.category for v in first]
    columns["Note"] = [
        _joined({t: f[v.column].note for t, f in zip(titles, found, strict=True) if v.column in f}) for v in first
    ]
    return columns


def _joined(notes: dict[str, str]) -> str:
    """Return the notes of one row; one that not all columns share names its column."""
    if len(set(notes.values())) <= 1:
        return next(iter(notes.values()), "")
    return "; ".join(f"{title}: {note}" for title, note in notes.items() if note)


def _row_per_segment(extractions: Sequence[Extraction]) -> dict[str, Sequence[Any]]:
    columns: dict[str, Sequence[Any]] = {
        "Segment": [e.segment for e in extractions],
        "Filter": [e.filter for e in extractions],
    }
    found = [{v.column: v for v in e.values} for e in extractions]
    for v in extractions[0].values:
        columns[v.column] = [values[v.column].value if v.column in values else None for values in found]
    columns["Note"] = ["; ".join(f"{v.column}: {v.note}" for v in e.values if v.note) for e in extractions]
    return columns


def _cell(node: Any, full: dict[str, Any], n: int, row: int) -> float | None:
    """Return the value of a feature (its row in the record) for an extraction."""
    line, column = (n, row + 2) if full["row_per_segment"] else (row, n + 3)
    value = node.GetTable().GetValue(line, column)
    if not value.IsValid():
        raise InputError(f"Rows or columns of '{node.GetName()}' were removed. Compute the features again.")
    number = value.ToDouble() if value.IsNumeric() else math.nan  # a column without any number is text
    return None if math.isnan(number) else number


def _write_parquet(columns: Sequence[str], rows: Sequence[Row], path: Path) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError("Parquet files need the Python package pyarrow. Write a .csv file instead.") from error
    table = pyarrow.table({name: [row[n] for row in rows] for n, name in enumerate(columns)})
    with atomic_path(path) as temporary:
        parquet.write_table(table, temporary)
