"""What the page of statistics offers: the columns of the tables, the commands, and the files they leave to be shown."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import slicer
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import require_file
from BreastBiomarkersLib.inslicer.nodes import table_to_node

from RadiomicsPanelLib.catalog import ALL_FEATURES
from RadiomicsPanelLib.inslicer.packages import packages_not_there
from RadiomicsPanelLib.study import MAX_TABLE_BYTES, is_number

MODULE = "RadiomicsPanelLib"

METHODS = {
    "associate": "Associations",
    "repeatability": "Repeatability",
    "harmonize": "Harmonization",
    "model": "Prediction model",
    "survival": "Survival",
}
"""Command -> title."""

PACKAGES = {
    "associate": ("matplotlib",),
    "repeatability": ("matplotlib",),
    "harmonize": (),
    "model": ("scikit-learn", "matplotlib"),
    "survival": ("lifelines", "matplotlib"),
}
"""Command -> packages it cannot do without."""

_ALWAYS_TEXT = ("case", "segment", "filter", "notes")
_FEATURE_KEYS = tuple(sorted({feature.key for feature in ALL_FEATURES}))
_SHOWN_VALUES = 200
_LOOKED_AT_CELLS = 2_000_000
_SHOWN_CELLS = 200_000
_FILE = "RadiomicsPanel.File"  # attribute of our tables: which file they show


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    name : str
    is_feature : bool
        Whether it holds a feature of this module; of a foreign table every column of numbers may be one.
    is_text : bool
        Whether its first filled cell is no number.
    values : tuple of str
        Different values, sorted, if there are few; else empty.
    """

    name: str
    is_feature: bool
    is_text: bool
    values: tuple[str, ...]


@dataclass(frozen=True)
class TableColumns:
    """The columns of a features table and a clinical table, and the names of the segments."""

    columns: tuple[Column, ...]
    segments: tuple[str, ...]

    @property
    def clinical(self) -> list[Column]:
        """What may be an outcome or a covariate: text first, then numbers that are no features of ours."""
        found = [c for c in self.columns if not c.is_feature and c.name not in _ALWAYS_TEXT]
        return sorted(found, key=lambda c: not c.is_text)

    @property
    def numeric(self) -> list[Column]:
        """What may be a feature."""
        return [c for c in self.columns if not c.is_text and c.name not in _ALWAYS_TEXT]

    def values(self, name: str) -> tuple[str, ...]:
        """Return the different values of a column; nothing if there are many, or no such column."""
        return next((c.values for c in self.columns if c.name == name), ())


def read_columns(features: str, clinical: str = "") -> TableColumns:
    """Return what can be chosen from the tables.

    Raises
    ------
    InputError
        If a table is missing, too large, or has no column case.
    """
    columns: dict[str, Column] = {}
    segments: tuple[str, ...] = ()
    for path in filter(None, (features, clinical)):
        for column in _columns_of(path):
            columns.setdefault(column.name, column)
            if column.name == "segment" and path == features:
                segments = column.values
    return TableColumns(tuple(columns.values()), segments)


def _columns_of(path: str) -> list[Column]:
    file = require_file(path, "table")
    if file.stat().st_size > MAX_TABLE_BYTES:
        raise InputError(f"The table '{file.name}' is larger than {MAX_TABLE_BYTES / 2**30:.0f} GiB.")
    header, rows = _read(file, _LOOKED_AT_CELLS)[:2]
    if "case" not in header:
        raise InputError(f"The table '{file.name}' has no column 'case' in line 1. Separate columns by commas.")
    found = []
    for n, name in enumerate(header):
        cells = [row[n].strip() for row in rows if n < len(row) and row[n].strip()]
        values = set(cells)
        is_text = name in _ALWAYS_TEXT or bool(cells) and not is_number(cells[0])
        shown = tuple(sorted(values)) if len(values) <= _SHOWN_VALUES else ()
        found.append(Column(name, _is_feature(name), is_text, shown))
    return found


def _is_feature(column: str) -> bool:
    """Tell whether a column is named after a feature of ours, perhaps with filter and aggregation around it."""
    return any(key in column for key in _FEATURE_KEYS if column.startswith(key) or f"_{key}" in column)


def packages_missing(method: str, scheduler: str = "") -> list[str]:
    """Return the packages that a command needs and that are not installed.

    A cohort needs dask for a scheduler; for several processes and Parquet it is better off with what is listed.
    """
    wanted = ("dask", "distributed", "pyarrow") if method == "cohort" else PACKAGES[method]
    return packages_not_there(*wanted)


def result_folder(output: str, method: str) -> Path:
    """Return where a command's tables and pictures go.

    Raises
    ------
    InputError
        If no folder is chosen.
    """
    if not output.strip():
        raise InputError("Choose an output folder.")
    return Path(output) / METHODS[method].lower().replace(" ", "_")


def command(method: str, choices: dict[str, Any]) -> list[str]:
    """Return the arguments of `python -m RadiomicsPanelLib` for choices made on the page.

    Parameters
    ----------
    method : str
        Of `METHODS`.
    choices : dict
        Name of an option -> text, number, list of texts, or True for a switch. What is empty, 0, None or False is not
        passed on. "output" is the folder chosen by the user.

    Raises
    ------
    InputError
        If the features table, the folder or something that the method needs is not chosen.
    """
    needed = {
        "table": "Choose a table of features.",
        "outcome": "Check an outcome." if method == "associate" else "Choose the outcome.",
        "repeat": "Choose the column that tells repeats apart.",
        "batch": "Choose the column with the scanner.",
        "time": "Choose the column with the time.",
        "event": "Choose the column with the event.",
    }
    for name, message in needed.items():
        if name in choices and not choices[name]:
            raise InputError(message)
    folder = result_folder(choices["output"], method)
    single = {"associate": "associations.csv", "repeatability": "repeatability.csv", "harmonize": "harmonized.csv"}
    arguments = [method, "--output", str(folder / single[method] if method in single else folder)]
    if method == "associate" or choices.get("draw"):
        arguments += ["--figures", str(folder)]
    for name, value in choices.items():
        if name == "output" or not value:
            continue
        if value is True:
            arguments.append(f"--{name}")
        else:
            for one in value if isinstance(value, list | tuple) else [value]:
                arguments += [f"--{name}", str(one)]
    return arguments


def result_files(folder: Path, since_s: float) -> tuple[list[Path], list[Path]]:
    """Return pictures (PNG) and tables (CSV) of a folder that were written after a moment (seconds since the epoch)."""
    new = [path for path in sorted(folder.iterdir()) if path.is_file() and path.stat().st_mtime >= since_s]
    return [p for p in new if p.suffix == ".png"], [p for p in new if p.suffix == ".csv"]


def table_file_to_node(path: Path) -> Any:
    """Return a table node with the content of a CSV file; the node of an earlier version of the file is updated.

    Of a file of more than 200 000 cells the node holds the first rows, and its name says so.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    header, rows, is_whole = _read(path, _SHOWN_CELLS)
    name = path.stem.replace("_", " ") + ("" if is_whole else f" (first {len(rows)} rows)")
    columns: dict[str, Sequence[Any]] = {}
    for n, title in enumerate(header):
        cells = [row[n] if n < len(row) else "" for row in rows]
        numeric = any(cells) and all(not cell or is_number(cell) for cell in cells)
        columns[title] = [(float(cell) if cell else None) for cell in cells] if numeric else cells
    nodes = slicer.util.getNodesByClass("vtkMRMLTableNode")
    node = next((node for node in nodes if node.GetAttribute(_FILE) == str(path)), None)
    node = table_to_node(columns, node, name)
    node.SetAttribute(_FILE, str(path))
    return node


def rows_of(path: Path) -> list[list[str]]:
    """Return the rows below the header of a CSV file; of a very long one the first.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    return _read(path, _SHOWN_CELLS)[1]


def key_figures(method: str, figures: dict[str, Any]) -> str:
    """Return the result of a command in a sentence or two."""

    def interval(name: str) -> str:
        low, high = figures.get(f"{name}_lower"), figures.get(f"{name}_upper")
        text = f"{figures[name]:.3f}"
        return text if low is None or high is None else f"{text} (95 % {low:.3f} to {high:.3f})"

    if method == "associate":
        return (
            f"{figures['rows']} rows, {figures['tests']} tests: {figures['below_0.05_unadjusted']} with p < 0.05, "
            f"{figures['significant']} after adjusting for the number of tests (Benjamini-Hochberg)."
        )
    if method == "repeatability":
        return (
            f"{figures['kept']} of {figures['features']} features have a lower ICC limit of 0.75 or more "
            f"({figures['repeats']} repeats, {figures['segments_left_out']} incomplete segments left out)."
        )
    if method == "harmonize":
        return (
            f"{figures['rows']} rows from {len(figures['scanners'])} scanners, effects estimated on "
            f"{figures['training_rows']}; {len(figures['features_left_out'])} features could not be harmonized."
        )
    if method == "model":
        lines = [
            f"AUC {interval('auc')} by nested cross-validation, {figures['positive_rows']} of {figures['rows']} rows, "
            f"{figures['patients']} patients; Brier score {figures['brier']:.3f}."
        ]
        for name, title in (("permutation_p", "Permutation p"), ("optimism_corrected_auc", "Optimism-corrected AUC")):
            if figures.get(name) is not None:
                lines.append(f"{title} {figures[name]:.3f}.")
        return " ".join(lines)
    lines = [f"{figures['rows']} rows, {figures['significant']} features with an adjusted p < 0.05 (Cox)."]
    if figures.get("log_rank_p") is not None:
        cut = "" if figures.get("cut") is None else f", cut at {figures['cut']:.4g}"
        lines.append(f"Log-rank p {figures['log_rank_p']:.3g}{cut}.")
    if figures.get("concordance") is not None:
        lines.append(f"Concordance of the penalized model {interval('concordance')}.")
    return " ".join(lines)


def _read(path: Path, cells: int) -> tuple[list[str], list[list[str]], bool]:
    """Return the header, about so many cells of the rows that are not empty, and whether these are all."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        try:
            header = [cell.strip() for cell in next(reader, [])]
            filled = (row for row in reader if any(row))
            rows = list(islice(filled, max(cells // max(len(header), 1), 1)))
            return header, rows, next(filled, None) is None
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"'{path.name}' is not CSV in UTF-8 after line {reader.line_num} ({error}).") from error
