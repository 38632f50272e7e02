"""Feature tables in the scene: each node holds the values, what they mean, where they come from, and what is stale.

All of it stands in the node's attributes too (Slicer saves the cells of a table with six digits), so that a table of an
earlier run or of a loaded scene can be exported, drawn and checked like one just made.
"""

from __future__ import annotations

import json
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

_ORIGINAL = "original"

_OWN = ("segment_ids", "values", "notes", "features")
"""In the record: ids of the segments; their values and notes by entry; filter, key, aggregation, unit of each entry."""

Entry = tuple[str, FeatureValue]
"""Filter and one of its features: a row, or a column, of the table."""


def feature_table(
    extractions: Sequence[Extraction],
    sources: tuple[Any, Any, Sequence[str]],
    node: Any = None,
    row_per_segment: bool = False,
    settings: dict[str, Any] | None = None,
) -> Any:
    """Return a table node with the values; a given node is overwritten.

    A row per filter and feature and a column per segment, or the other way round. Columns of features carry a unit, a
    description and the properties "IBSI code" and "category", those of segments the property "segment". A value that
    does not apply is an empty number (NaN); the column Note says why.

    Parameters
    ----------
    extractions : sequence of Extraction
        Of every segment, first all filters of the first one.
    sources : tuple of image node, segmentation node, segment ids
    node : vtkMRMLTableNode, optional
    row_per_segment : bool
    settings : dict, optional
        Put into the provenance instead of those of the extractions.
    """
    image, segmentation, ids = sources
    entries, segments = entries_of(extractions), _by_segment(extractions, len(ids))
    record = provenance(extractions) | ({} if settings is None else {"settings": settings})
    del record["columns"]  # follows from the values
    record |= {
        "segment_ids": list(ids),
        "values": [[s[_key(e)].value for e in entries] for s in segments],
        "notes": [{str(n): s[_key(e)].note for n, e in enumerate(entries) if s[_key(e)].note} for s in segments],
        "features": [[filter_label, v.feature.key, v.aggregation, v.unit] for filter_label, v in entries],
    }
    names = _unique([e.segment for e in extractions[:: len(extractions) // len(ids)]])
    columns = (_row_per_segment if row_per_segment else _row_per_feature)(entries, segments, names)
    table = table_to_node(columns, node, f"{extractions[0].case} radiomics")
    with slicer.util.NodeModify(table):
        if row_per_segment:
            for entry in entries:
                column, value = _column(entry), entry[1]
                table.SetColumnUnitLabel(column, value.unit)
                table.SetColumnDescription(column, describe_entry(entry))
                table.SetColumnProperty(column, "IBSI code", value.feature.ibsi)
                table.SetColumnProperty(column, "category", value.feature.category)
        else:
            for name, e in zip(names, extractions[:: len(extractions) // len(ids)], strict=True):
                table.SetColumnDescription(name, f"{e.segment} in {e.case}")
                table.SetColumnProperty(name, "segment", e.segment)
        table.SetAttribute(RECORD, json.dumps(record, allow_nan=False))
        table.SetAttribute(STALE, "")
        table.SetNodeReferenceID(IMAGE, image.GetID())
        table.SetNodeReferenceID(SEGMENTATION, segmentation.GetID())
    return table


def entries_of(extractions: Sequence[Extraction]) -> list[Entry]:
    """Return filter and value, of the first segment, for all that was computed."""
    of_first = extractions[: len({e.filter for e in extractions})]
    return [(e.filter, v) for e in of_first for v in e.values]


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


def ibsi_record_of(node: Any) -> dict[str, Any]:
    """Return the provenance of a feature table, for texts about our own definitions.

    Raises
    ------
    InputError
        If the node is none, or holds values in the manner of pyradiomics.
    """
    record = record_of(node)
    if record["settings"].get("name") == PUBLISHED:
        raise InputError("These values follow pyradiomics, whose papers describe them. Choose another table.")
    return record


def segment_names_of(node: Any) -> dict[str, str]:
    """Return id -> name of the segments a feature table is about."""
    full = _full_record(node)
    return {i: s["segment"] for i, s in zip(full["segment_ids"], _first_of_segments(full), strict=True)}


def described_sources_of(node: Any) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return how the provenance describes the image, and the mask of each segment by the segment's id."""
    full = _full_record(node)
    masks = {i: s["mask"] for i, s in zip(full["segment_ids"], _first_of_segments(full), strict=True)}
    return full["segments"][0]["image"], masks


def extractions_of(node: Any) -> list[Extraction]:
    """Return what a feature table holds, as it was computed.

    Raises
    ------
    InputError
        If the node is none.
    """
    full = _full_record(node)
    catalog = {feature.key: feature for feature in FEATURES}
    settings, filters = _settings_of(full), len(full["segments"]) // len(full["segment_ids"])
    found = []
    for n, segment in enumerate(full["segments"]):
        values = []
        for row, (filter_label, key, aggregation, unit) in enumerate(full["features"]):
            if filter_label == segment["filter"]:
                feature, note = (
                    catalog.get(key) or published_feature(key),
                    full["notes"][n // filters].get(str(row), ""),
                )
                value = full["values"][n // filters][row]
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


def describe_entry(entry: Entry) -> str:
    """Return what a value is, in one line."""
    filter_label, value = entry
    text = value.feature.name.replace("_", " ")
    aggregation = f", {value.aggregation.replace('_', ' ')}" if value.aggregation else ""
    filtered = "" if filter_label == _ORIGINAL else f" of {filter_label}"
    return f"{value.feature.family}: {text}{aggregation}{filtered} [{value.unit or '-'}]"


def _full_record(node: Any) -> dict[str, Any]:
    if not is_feature_table(node):
        raise InputError("Choose a table of features: press Apply, or select the table of an earlier run.")
    return json.loads(node.GetAttribute(RECORD))


def _settings_of(full: dict[str, Any]) -> Settings:
    settings = full["settings"]
    return Settings(name=PUBLISHED) if settings.get("name") == PUBLISHED else settings_from_dict(settings)


def _first_of_segments(full: dict[str, Any]) -> list[dict[str, Any]]:
    return full["segments"][:: len(full["segments"]) // len(full["segment_ids"])]


def _key(entry: Entry) -> tuple[str, str]:
    return entry[0], entry[1].column


def _column(entry: Entry) -> str:
    """Return the name of a feature's column."""
    return entry[1].column if entry[0] == _ORIGINAL else f"{entry[0]}_{entry[1].column}"


def _by_segment(extractions: Sequence[Extraction], count: int) -> list[dict[tuple[str, str], FeatureValue]]:
    filters = len(extractions) // count
    return [
        {(e.filter, v.column): v for e in extractions[n * filters : (n + 1) * filters] for v in e.values}
        for n in range(count)
    ]


def _unique(names: Sequence[str]) -> list[str]:
    """Return column names; those of segments need not be unique, nor others than the table's own."""
    taken = ["Family", "Feature", "Aggregation", "Filter", "Unit", "IBSI code", "Category", "Note"]
    unique: list[str] = []
    for name in names:
        while name in taken:
            name += " (2)"
        taken.append(name)
        unique.append(name)
    return unique


def _row_per_feature(
    entries: Sequence[Entry], segments: Sequence[dict[tuple[str, str], FeatureValue]], names: Sequence[str]
) -> dict[str, Sequence[Any]]:
    values = [v for _filter, v in entries]
    columns: dict[str, Sequence[Any]] = {
        "Family": [v.feature.family for v in values],
        "Feature": [v.feature.name.replace("_", " ") for v in values],
        "Aggregation": [v.aggregation for v in values],
    }
    for name, found in zip(names, segments, strict=True):
        columns[name] = [found[_key(e)].value for e in entries]
    columns["Unit"] = [v.unit for v in values]
    columns["IBSI code"] = [v.feature.ibsi for v in values]
    columns["Category"] = [v.feature.category for v in values]
    columns["Filter"] = [filter_label for filter_label, _value in entries]
    columns["Note"] = [
        _joined({name: found[_key(e)].note for name, found in zip(names, segments, strict=True)}) for e in entries
    ]
    return columns


def _joined(notes: dict[str, str]) -> str:
    """Return the notes of one row; one that not all segments share names its segment."""
    if len(set(notes.values())) <= 1:
        return next(iter(notes.values()), "")
    return "; ".join(f"{name}: {note}" for name, note in notes.items() if note)


def _row_per_segment(
    entries: Sequence[Entry], segments: Sequence[dict[tuple[str, str], FeatureValue]], names: Sequence[str]
) -> dict[str, Sequence[Any]]:
    columns: dict[str, Sequence[Any]] = {"Segment": names}
    for entry in entries:
        columns[_column(entry)] = [found[_key(entry)].value for found in segments]
    notes = [{_column(e): found[_key(e)].note for e in entries} for found in segments]
    columns["Note"] = ["; ".join(f"{column}: {note}" for column, note in n.items() if note) for n in notes]
    return columns


def _write_parquet(columns: Sequence[str], rows: Sequence[Row], path: Path) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError("Parquet files need the Python package pyarrow. Write a .csv file instead.") from error
    table = pyarrow.table({name: [row[n] for row in rows] for n, name in enumerate(columns)})
    with atomic_path(path) as temporary:
        parquet.write_table(table, temporary)
