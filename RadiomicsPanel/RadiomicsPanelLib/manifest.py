"""Which cases a cohort holds: a CSV or JSON manifest, or a folder with one sub-folder per case."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import require_file
from BreastBiomarkersLib.volume import SUFFIXES, read_volume

from RadiomicsPanelLib.roi import Case, read_cases

REQUIRED = ("case", "image", "mask")
MAX_MANIFEST_BYTES = 64 * 2**20
_MASK_WORDS = ("mask", "seg", "label")


@dataclass(frozen=True)
class ManifestEntry:
    """One image and one mask to measure.

    Attributes
    ----------
    where : str
        Place in the manifest ("line 7"), for messages.
    case : str
    image, mask : Path
    segments : tuple of str
        Which segments of the mask: a stored name, a label number, or NAME=LABEL to give a name. Empty for all.
    exclusion : Path, optional
        Mask of air, bone or vessels to leave out of the tissue around the segments.
    """

    where: str
    case: str
    image: Path
    mask: Path
    segments: tuple[str, ...] = ()
    exclusion: Path | None = None


@dataclass(frozen=True)
class Failure:
    """Something that could not be measured: its place in the manifest, case, segment ("" for all) and the reason."""

    where: str
    case: str
    segment: str
    reason: str


def read_manifest(path: str | Path) -> tuple[list[ManifestEntry], list[Failure]]:
    """Return the entries of a manifest, and what is wrong with the lines that give none.

    A CSV manifest has the columns case, image, mask and optionally segments (separated by semicolons) and exclude (a
    mask); a JSON manifest is a list of objects with the same names, segments being a list. Other columns (covariates)
    are left to the statistics. Relative paths start at the manifest's folder. In a folder every sub-folder is a case
    and holds one image and one mask, the mask being the file whose name contains mask, seg or label.

    Raises
    ------
    InputError
        If the manifest is missing, not CSV or JSON, lacks a column or holds no line at all.
    """
    path = Path(path)
    if path.is_dir():
        found: Iterable[ManifestEntry | Failure] = _folder_entries(path)
        remedy = "Give each case a sub-folder with its image and its mask."
    elif path.suffix.lower() in (".csv", ".json"):
        text = _read_text(path)
        read = _json_rows if path.suffix.lower() == ".json" else _csv_rows
        found = [_entry(where, row, path.parent) for where, row in read(text, path.name)]
        remedy = "Write one line per case with " + ", ".join(REQUIRED) + "."
    else:
        raise InputError(f"The manifest '{path.name}' has to be a folder, a .csv or a .json file.")
    entries: list[ManifestEntry] = []
    failures: list[Failure] = []
    first: dict[tuple[str, Path, tuple[str, ...]], str] = {}
    for item in found:
        if isinstance(item, Failure):
            failures.append(item)
            continue
        key = (item.case, item.mask, item.segments)
        if key in first:
            failures.append(Failure(item.where, item.case, "", f"{item.where} repeats {first[key]}. Remove one."))
        else:
            first[key] = item.where
            entries.append(item)
    if not entries and not failures:
        raise InputError(f"The manifest '{path.name}' names no case. {remedy}")
    return entries, failures


def read_entry(entry: ManifestEntry) -> tuple[list[Case], list[Failure]]:
    """Return the entry's segments as cases, in the order asked for, and what is wrong with those that are not there.

    Raises
    ------
    InputError
        If an image or a mask cannot be read.
    """
    exclusion = None if entry.exclusion is None else read_volume(entry.exclusion)
    present = [replace(c, name=entry.case, exclusion=exclusion) for c in read_cases(entry.image, entry.mask)]
    if not entry.segments:
        return present, []
    cases, failures = [], []
    for wanted in entry.segments:
        name, equals, label = wanted.rpartition("=")
        if not (equals and label.strip().isdigit()):
            name, label = "", wanted
        chosen = [c for c in present if c.segment == wanted]
        if not chosen and label.strip().isdigit():
            chosen = [c for c in present if c.label == int(label)]
        if len(chosen) == 1:
            cases.append(replace(chosen[0], segment=name.strip() or chosen[0].segment))
            continue
        known = ", ".join(f"'{c.segment}' (label {c.label})" for c in present)
        count = f"{len(chosen)} segments" if chosen else "no segment"
        failures.append(
            Failure(
                entry.where,
                entry.case,
                wanted,
                f"The mask '{entry.mask.name}' has {count} '{wanted}'; it holds {known}.",
            )
        )
    return cases, failures


def _read_text(path: Path) -> str:
    require_file(path, "manifest")
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise InputError(f"The manifest '{path.name}' is larger than {MAX_MANIFEST_BYTES / 2**20:.0f} MiB. Split it.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"The manifest '{path.name}' is not UTF-8 text. Save it as CSV UTF-8.") from error


def _csv_rows(text: str, name: str) -> list[tuple[str, dict[str, Any] | str]]:
    """Return place and named cells of each line, or what is wrong with it."""
    reader = csv.reader(text.splitlines(keepends=True))
    rows: list[tuple[str, dict[str, Any] | str]] = []
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
        missing = [column for column in REQUIRED if column not in header]
        if missing:
            raise InputError(
                f"The manifest '{name}' has no column '{missing[0]}' in line 1; it has {', '.join(header) or 'none'}. "
                "Separate columns by commas."
            )
        if len(set(header)) < len(header):
            raise InputError(f"The manifest '{name}' names a column twice in line 1.")
        for cells in reader:
            where = f"line {reader.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) > len(header):
                rows.append((where, f"{len(cells)} cells for {len(header)} columns; put text with commas in quotes"))
            else:
                rows.append((where, dict(zip(header, cells, strict=False))))
    except csv.Error as error:
        raise InputError(f"The manifest '{name}' is not CSV from line {reader.line_num} on ({error}).") from error
    return rows


def _json_rows(text: str, name: str) -> list[tuple[str, dict[str, Any] | str]]:
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"The manifest '{name}' is not JSON ({error}).") from error
    if not isinstance(data, list):
        raise InputError(f"The manifest '{name}' has to be a JSON list of objects with {', '.join(REQUIRED)}.")
    return [
        (f"entry {n}", row if isinstance(row, dict) else f"not an object with {', '.join(REQUIRED)}")
        for n, row in enumerate(data, 1)
    ]


def _entry(where: str, row: dict[str, Any] | str, folder: Path) -> ManifestEntry | Failure:
    if isinstance(row, str):
        return Failure(where, "", "", f"{where}: {row}.")
    case = str(row.get("case") or "").strip()
    values: dict[str, str] = {}
    for column in REQUIRED:
        value = row.get(column)
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            if not (column == "case" and isinstance(value, int) and not isinstance(value, bool)):
                return Failure(where, case, "", f"{where}: '{column}' is empty or not a text.")
        values[column] = str(value).strip()
    segments = row.get("segments") or ()
    if isinstance(segments, str):
        segments = segments.split(";")
    if not isinstance(segments, list | tuple) or not all(isinstance(s, str | int) for s in segments):
        return Failure(where, case, "", f"{where}: 'segments' has to be a list of names or labels.")
    chosen = tuple(str(s).strip() for s in segments if str(s).strip())
    if len(set(chosen)) < len(chosen):
        return Failure(where, case, "", f"{where}: 'segments' names a segment twice.")
    exclude = row.get("exclude") or ""
    if not isinstance(exclude, str) or "\0" in exclude:
        return Failure(where, case, "", f"{where}: 'exclude' is not a text.")
    exclusion = folder / exclude.strip() if exclude.strip() else None
    return ManifestEntry(where, values["case"], folder / values["image"], folder / values["mask"], chosen, exclusion)


def _folder_entries(path: Path) -> list[ManifestEntry | Failure]:
    found: list[ManifestEntry | Failure] = []
    for folder in sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")):
        where = f"folder {folder.name}"
        files = sorted(p for p in folder.iterdir() if p.is_file() and p.name.lower().endswith(SUFFIXES))
        masks = [p for p in files if any(word in p.name.lower() for word in _MASK_WORDS)]
        images = [p for p in files if p not in masks]
        if len(masks) == 1 and len(images) == 1:
            found.append(ManifestEntry(where, folder.name, images[0], masks[0]))
        else:
            names = ", ".join(p.name for p in files) or "no image"
            reason = f"one image and one mask are needed in {where}; it holds {names}. Use a manifest to choose."
            found.append(Failure(where, folder.name, "", reason))
    return found
