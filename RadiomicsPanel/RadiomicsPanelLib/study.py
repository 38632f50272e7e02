"""A feature table joined with what is known about the patients: the one input of all statistics."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import require_file
from numpy.typing import NDArray

MAX_TABLE_BYTES = 2**30
_NOT_FEATURES = ("case", "segment", "filter", "notes", "copy")


@dataclass(frozen=True, eq=False)
class Study:
    """One row per segment: n rows, p features.

    Attributes
    ----------
    cases, segments, patients : tuple of n str
        Rows of one patient are never taken for independent.
    columns : tuple of p str
        Names of the features, with the filter in front where there are several.
    values : (n, p) ndarray of float64
        Not a number where a feature does not apply.
    clinical : dict of str to tuple of n str
        Everything that is no feature, as text; "" where it is missing.
    notes : tuple of str
        What the user should know about the joining.
    """

    cases: tuple[str, ...]
    segments: tuple[str, ...]
    patients: tuple[str, ...]
    columns: tuple[str, ...]
    values: NDArray[np.float64]
    clinical: dict[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a clinical column as it is written.

        Raises
        ------
        InputError
            If there is no such column.
        """
        if name not in self.clinical:
            known = ", ".join(self.clinical) or "none"
            raise InputError(f"There is no column '{name}' in the tables. Columns that are no features: {known}.")
        return self.clinical[name]

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a clinical column as (n,) numbers, not a number where it is empty.

        Raises
        ------
        InputError
            If there is no such column or a cell is no number.
        """
        return np.array(
            [_number(cell, f"'{name}' of case '{c}'") for cell, c in zip(self.texts(name), self.cases, strict=True)]
        )

    def is_numeric(self, name: str) -> bool:
        """Tell whether all filled cells of a clinical column are numbers."""
        try:
            self.numbers(name)
        except InputError:
            self.texts(name)
            return False
        return True

    def binary(self, name: str, positive: str | None = None) -> tuple[NDArray[np.float64], str]:
        """Return a two-valued column as (n,) 1, 0 and not a number (empty), and what 1 means.

        Without `positive`, 1 is the value that comes last (1 of 0 and 1, malignant of benign and malignant).

        Raises
        ------
        InputError
            If the column does not hold two values, or not the positive one.
        """
        texts = self.texts(name)
        present = sorted({text for text in texts if text})
        if len(present) != 2:
            shown = ", ".join(present[:5]) or "none"
            raise InputError(f"The column '{name}' has to hold two different values; it holds {len(present)}: {shown}.")
        if positive is not None and positive not in present:
            raise InputError(f"The column '{name}' holds {present[0]} and {present[1]}, not '{positive}'.")
        chosen = positive or present[1]
        return np.array([math.nan if not text else float(text == chosen) for text in texts]), chosen

    def rows(self, keep: NDArray[np.bool_] | NDArray[np.intp]) -> Study:
        """Return the study with some of its rows."""
        index = np.arange(len(self.cases))[keep]

        def take(texts: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(texts[n] for n in index)

        return replace(
            self,
            cases=take(self.cases),
            segments=take(self.segments),
            patients=take(self.patients) if self.patients else (),
            values=self.values[index],
            clinical={name: take(texts) for name, texts in self.clinical.items()},
        )

    def features(self, columns: Sequence[str]) -> Study:
        """Return the study with some of its features, in the given order.

        Raises
        ------
        InputError
            If one is not there.
        """
        missing = [column for column in columns if column not in self.columns]
        if missing:
            raise InputError(f"There is no feature '{missing[0]}' in the table.")
        index = [self.columns.index(column) for column in columns]
        return replace(self, columns=tuple(columns), values=self.values[:, index])


def read_study(
    features: str | Path,
    clinical: str | Path | None = None,
    segment: str | None = None,
    not_features: Sequence[str] = (),
    repeat: str | None = None,
) -> Study:
    """Return a feature table (CSV, wide) joined with a clinical table (CSV) by case.

    A column of the feature table is a feature if its first filled cell is a number, unless it is named in
    `not_features`. Rows of several filters become one row with more columns, without those that are empty because a
    filter does not change them (shape). Patients are the column `patient` where
    there is one, else the cases.

    Parameters
    ----------
    features, clinical : str or Path
        The clinical table has a column `case`, may have `segment`, and holds outcomes and covariates; without it they
        are columns of the feature table.
    segment : str, optional
        Only rows of this segment.
    not_features : sequence of str
        Numeric columns of the feature table that are outcomes or covariates.
    repeat : str, optional
        Column that tells repeated measurements of one segment apart (copy, reader); without it each has one row.

    Raises
    ------
    InputError
        If a table cannot be read, rows repeat, or the tables have no case in common.
    """
    study = _read_features(Path(features), segment, set(not_features), repeat)
    if clinical is not None:
        study = _join(study, Path(clinical))
    return replace(study, patients=study.clinical.get("patient", study.cases))


def _read_features(path: Path, segment: str | None, not_features: set[str], repeat: str | None) -> Study:
    header, texts = _column_kinds(path)
    if repeat is not None and repeat not in header:
        raise InputError(f"The table '{path.name}' has no column '{repeat}'.")
    known = {*_NOT_FEATURES, *not_features, repeat}
    text_columns = [n for n, name in enumerate(header) if texts[n] or name in known]
    numeric = [n for n in range(len(header)) if n not in text_columns]
    if not numeric:
        raise InputError(f"The table '{path.name}' has no column of numbers. Give a wide feature table.")
    at = {name: n for n, name in enumerate(header)}
    found: dict[tuple[str, ...], dict[str, tuple[int, NDArray[np.float64], list[str]]]] = {}
    for line, cells in _rows(path, header):
        key = tuple(cells[at[name]] if name in at else "" for name in ("case", "segment", repeat or ""))
        if not key[0]:
            raise InputError(f"'{path.name}', line {line}: 'case' is empty.")
        if segment is not None and key[1] != segment:
            continue
        filters = found.setdefault(key, {})
        name = cells[at["filter"]] if "filter" in at else ""
        if name in filters:
            before = f"has the case, segment and filter of line {filters[name][0]} again"
            raise InputError(f"'{path.name}', line {line} {before}. Repeated measurements need a column of their own.")
        values = [_number(cells[n], f"'{path.name}', line {line}, column '{header[n]}'") for n in numeric]
        filters[name] = (line, np.array(values), [cells[n] for n in text_columns])
    if not found:
        wanted = "" if segment is None else f" of the segment '{segment}'"
        raise InputError(f"The table '{path.name}' has no rows{wanted}.")
    names = list(dict.fromkeys(name for filters in found.values() for name in filters))
    incomplete = next((key for key, filters in found.items() if len(filters) < len(names)), None)
    if incomplete is not None:
        raise InputError(f"'{path.name}': case '{incomplete[0]}' lacks a filter that other cases have.")
    columns = tuple(f"{name}_{header[n]}" if len(names) > 1 else header[n] for name in names for n in numeric)
    first = [filters[names[0]][2] for filters in found.values()]
    clinical = {
        header[n]: tuple(row[m] for row in first)
        for m, n in enumerate(text_columns)
        if header[n] not in _NOT_FEATURES or header[n] == repeat
    }
    matrix = np.array([np.concatenate([filters[name][1] for name in names]) for filters in found.values()])
    if len(names) > 1:
        filled = np.isfinite(matrix).any(axis=0)
        columns, matrix = tuple(c for c, f in zip(columns, filled, strict=True) if f), matrix[:, filled]
    return Study(tuple(key[0] for key in found), tuple(key[1] for key in found), (), columns, matrix, clinical)


def _join(study: Study, path: Path) -> Study:
    header, _ = _column_kinds(path)
    own = [name for name in header if name not in ("case", "segment")]
    clash = next((name for name in own if name in study.columns or name in study.clinical), None)
    if clash is not None:
        raise InputError(f"The column '{clash}' is in both tables. Rename it in '{path.name}'.")
    with_segment = "segment" in header
    found: dict[tuple[str, str], tuple[int, list[str]]] = {}
    for line, cells in _rows(path, header):
        row = dict(zip(header, cells, strict=True))
        key = (row["case"], row["segment"] if with_segment else "")
        if key in found:
            raise InputError(f"'{path.name}', line {line}: case '{key[0]}' is in line {found[key][0]} already.")
        found[key] = (line, [row[name] for name in own])
    keys = [(case, segment if with_segment else "") for case, segment in zip(study.cases, study.segments, strict=True)]
    known = np.array([key in found for key in keys])
    if not known.any():
        raise InputError(
            f"No case of the feature table is in '{path.name}' (its first case: '{next(iter(found), ('', ''))[0]}')."
        )
    notes = study.notes
    if not known.all():
        missing = next(case for case, there in zip(study.cases, known, strict=True) if not there)
        notes += (
            f"{np.count_nonzero(~known)} rows without clinical data were left out, the first of case '{missing}'",
        )
    joined = study.rows(known)
    rows = [found[key][1] for key, there in zip(keys, known, strict=True) if there]
    clinical = {name: tuple(row[n] for row in rows) for n, name in enumerate(own)}
    return replace(joined, clinical=study.rows(known).clinical | clinical, notes=notes)


def _column_kinds(path: Path) -> tuple[list[str], list[bool]]:
    """Return the header and, for each column, whether its first filled cell is text."""
    require_file(path, "table")
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise InputError(f"The table '{path.name}' is larger than {MAX_TABLE_BYTES / 2**30:.0f} GiB.")
    header = next(_lines(path), (0, []))[1]
    if "case" not in header:
        raise InputError(f"The table '{path.name}' has no column 'case' in line 1. Separate columns by commas.")
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"The table '{path.name}' has the column '{twice}' twice.")
    undecided = set(range(len(header)))
    is_text = [False] * len(header)
    for _, cells in _rows(path, header):
        for n in [n for n in undecided if cells[n]]:
            is_text[n] = not is_number(cells[n])
            undecided.discard(n)
        if not undecided:
            break
    return header, is_text


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and stripped cells of each line that is not empty."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        try:
            for cells in reader:
                if any(cells):
                    yield reader.line_num, [cell.strip() for cell in cells]
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"'{path.name}' is not CSV in UTF-8 after line {reader.line_num} ({error}).") from error


def _rows(path: Path, header: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of each row below the header."""
    lines = _lines(path)
    next(lines, None)
    for line, cells in lines:
        if len(cells) != len(header):
            raise InputError(
                f"'{path.name}', line {line}: {len(cells)} cells for {len(header)} columns. Is the file complete?"
            )
        yield line, cells


def is_number(cell: str) -> bool:
    """Return whether a cell of a table holds a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cell: str, where: str) -> float:
    """Return the number in a cell, not a number if it is empty."""
    if not cell:
        return math.nan
    value = float(cell) if is_number(cell) else math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: '{cell}' is not a finite number. Leave cells empty that do not apply.")
    return value
