"""The list of cases of a cohort while their points are being clicked: which are ready to train on, and which are not.

The list is the table that `train` and `predict` read; here, points may still be missing.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path, require_file
from BreastBiomarkersLib.points import read_points
from BreastBiomarkersLib.volume import SUFFIXES, Volume, from_sitk, opened, read_volume

from WeakSegmentLib.phases import phases_from_names
from WeakSegmentLib.points import ExtremePoints

COLUMNS = ("case", "image", "points", "pre", "mask")
DONE, TO_DO, WRONG = "done", "to do", "check"
POINTS_SUFFIXES = (".mrk.json", ".fcsv", ".csv")
MASK_WORDS = {"lesion", "mask", "label", "labels", "seg", "segmentation", "truth"}
OTHER_WORDS = {"tissue", "probability", "prediction", "score"}


class PointsState(NamedTuple):
    """Whether the points of a case are "done", "to do" or to "check", and why."""

    state: str
    reason: str = ""


@dataclass(frozen=True)
class ListedCase:
    """A line of the list.

    Attributes
    ----------
    name : str
        Unique, fit for a file name.
    image : Path
        Post-contrast image.
    points : Path
        Where its six points are, or will be written.
    pre, mask : Path or None
        Pre-contrast image; true mask, where there is one.
    further : mapping of str to str
        Other columns of the table, which are kept.
    """

    name: str
    image: Path
    points: Path
    pre: Path | None = None
    mask: Path | None = None
    further: Mapping[str, str] = field(default_factory=dict)

    def points_state(self) -> PointsState:
        """Return whether the points are there and fit the image, of which only the header is read."""
        try:
            for path, what in ((self.image, "image"), (self.pre, "pre"), (self.mask, "mask")):
                if path is not None:
                    require_file(path, what)
            if not self.points.exists():
                return PointsState(TO_DO)
            placed = read_points(self.points)
            if len(placed.labels) < 6:
                return PointsState(TO_DO, f"{len(placed.labels)} of 6 points are placed.")
            ExtremePoints.from_ras(placed.positions_ras, _grid_of(self.image), placed.labels)
        except InputError as error:
            return PointsState(WRONG, str(error))
        return PointsState(DONE)


class PointsChecker:
    """Tells the states of many cases; looks again only at those of which a file changed."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[ListedCase, list[tuple[int, int] | None], PointsState]] = {}

    def states(self, cases: Sequence[ListedCase]) -> list[PointsState]:
        """Return the state of each case, see `ListedCase.points_state`."""
        return [self._state(case) for case in cases]

    def _state(self, case: ListedCase) -> PointsState:
        stamps = [_stamp(path) for path in (case.image, case.points, case.pre, case.mask)]
        known = self._known.get(case.name)
        if known is not None and known[:2] == (case, stamps):
            return known[2]
        state = case.points_state()
        self._known[case.name] = (case, stamps, state)
        return state


def _stamp(path: Path | None) -> tuple[int, int] | None:
    try:
        status = None if path is None else path.stat()
    except OSError:
        return None
    return None if status is None else (status.st_mtime_ns, status.st_size)


def read_lines(path: Path) -> tuple[Sequence[str], list[tuple[int, dict[Any, Any]]]]:
    """Return the column names of a CSV, and each row as its line number and its fields by column.

    Raises
    ------
    InputError
        If it is not a CSV in UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"'{path.name}' is not a CSV text file ({error}).") from error
    return columns, rows


def read_case_list(path: str | Path) -> list[ListedCase]:
    """Return the cases of a table; points that are not there yet get a place beside it.

    Raises
    ------
    InputError
        If the table is missing or not a CSV, lacks the columns case and image, or lines have no or the same name.
    """
    path = require_file(path, "table of cases")
    columns, rows = read_lines(path)
    for name in COLUMNS[:2]:
        if name not in columns:
            raise InputError(f"'{path.name}' has no column '{name}'. Its first line must name case, image and points.")
    cases: dict[str, ListedCase] = {}
    for line, row in rows:
        values = {key: (value or "").strip() for key, value in row.items() if isinstance(key, str)}
        if not any(values.values()):
            continue
        name = values["case"]
        if not values["image"] or case_name(name) != name:
            raise InputError(
                f"{path.name}, line {line}: no image, or '{name}' cannot name a case (letters, digits, ._-)."
            )
        if name in cases:
            raise InputError(f"{path.name}, line {line}: the case '{name}' is there twice.")
        paths = {key: path.parent / values[key] for key in ("pre", "mask") if values.get(key)}
        points = values.get("points") or f"points/{name}.mrk.json"
        further = {key: value for key, value in values.items() if key not in COLUMNS}
        cases[name] = ListedCase(name, path.parent / values["image"], path.parent / points, **paths, further=further)
    return list(cases.values())


def write_case_list(cases: Sequence[ListedCase], path: str | Path, without_points: Collection[str] = ()) -> None:
    """Write the table, with paths relative to it where the files lie on the same drive.

    Parameters
    ----------
    cases : sequence of ListedCase
    path : str or Path
    without_points : collection of str
        Names of cases whose points are not written into the table.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    path = Path(path)
    further = list(dict.fromkeys(key for case in cases for key in case.further))
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, *further])
        writer.writeheader()
        for case in cases:
            places = {key: getattr(case, key) for key in COLUMNS[1:]}
            if case.name in without_points:
                places["points"] = None
            texts = {key: "" if place is None else _relative(place, path.parent) for key, place in places.items()}
            writer.writerow({"case": case.name, **texts, **case.further})


def find_cases(folder: str | Path) -> tuple[list[ListedCase], list[str]]:
    """Return the cases of a folder, and the sub-folders left out because names do not tell which image to take.

    Each image file in the folder is a case; so is each sub-folder with images, of which the first post-contrast one is
    taken (see `WeakSegmentLib.phases`), with its pre-contrast image and its mask.

    Raises
    ------
    InputError
        If there is no such folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"The folder '{folder}' does not exist. Choose the folder of the images.")
    found, unclear = [], []
    for image in _images(folder):
        if not _words(image) & (MASK_WORDS | OTHER_WORDS):
            found.append(ListedCase(case_name(_stem(image)), image, _points_of(folder, _stem(image))))
    for sub in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        images = [path for path in _images(sub) if not _words(path) & OTHER_WORDS]
        masks = [path for path in images if _words(path) & MASK_WORDS]
        scans = [path for path in images if path not in masks]
        if not scans:
            continue
        phases = phases_from_names([_stem(path) for path in scans])
        post = scans[phases.post[0]] if phases.post else scans[0] if len(scans) == 1 else None
        if post is None:
            unclear.append(sub.name)
            continue
        pre = None if phases.pre is None or not phases.post else scans[phases.pre]
        mask = masks[0] if len(masks) == 1 else None
        found.append(ListedCase(case_name(sub.name), post, _points_of(sub, "points"), pre, mask))
    if not found:
        more = f" In {', '.join(unclear[:5])} the names do not tell which image is post-contrast." if unclear else ""
        raise InputError(f"'{folder}' holds no case: no image ({', '.join(SUFFIXES)}) in it or one level below.{more}")
    return found, unclear


def merge_cases(cases: Sequence[ListedCase], more: Sequence[ListedCase]) -> list[ListedCase]:
    """Return both lists in one: images that are there already are left out, names are made unique."""
    merged = list(cases)
    known = {case.image.resolve() for case in cases}
    for case in more:
        if case.image.resolve() not in known:
            merged.append(replace(case, name=unique_name(case.name, merged)))
            known.add(case.image.resolve())
    return merged


def unique_name(name: str, cases: Sequence[ListedCase]) -> str:
    """Return the name, with a number behind if a case has it already."""
    taken, n, unique = {case.name for case in cases}, 2, name
    while unique in taken:
        unique, n = f"{name}-{n}", n + 1
    return unique


def write_ready_cases(cases: Sequence[ListedCase], path: str | Path) -> int:
    """Write the table of the cases whose points are done, for `train`; return how many they are.

    Raises
    ------
    InputError
        If none is, or the table cannot be written.
    """
    ready = [case for case in cases if case.points_state().state == DONE]
    if not ready:
        raise InputError("No case has its six points yet. Open a case, place them and save.")
    write_case_list(ready, path)
    return len(ready)


def write_usable_cases(cases: Sequence[ListedCase], path: str | Path) -> tuple[int, list[str]]:
    """Write the table of the cases for `predict`, which needs no points; those that are not done are left out of it.

    Returns
    -------
    int
        How many cases there are.
    list of str
        Names of the cases that are left out, because their files or points are to be checked first.

    Raises
    ------
    InputError
        If no case is left, or the table cannot be written.
    """
    states = {case.name: case.points_state().state for case in cases}
    wrong = [name for name, state in states.items() if state == WRONG]
    usable = [case for case in cases if case.name not in wrong]
    if not usable:
        raise InputError("There is no case to predict. Add cases, or repair those that are to be checked.")
    write_case_list(usable, path, without_points=[name for name, state in states.items() if state == TO_DO])
    return len(usable), wrong


def training_state(folder: str | Path) -> str:
    """Return "new", "stopped" or "done" for the folder of a training."""
    folder = Path(folder)
    if (folder / "model.safetensors").is_file():
        return "done"
    return "stopped" if (folder / "settings.json").is_file() else "new"


def read_review(folder: str | Path) -> list[dict[str, str]]:
    """Return the lines of a prediction's review.csv, most uncertain first, or nothing before there is one.

    Raises
    ------
    InputError
        If the file is no such list.
    """
    path = Path(folder) / "review.csv"
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = [dict(line) for line in csv.DictReader(file)]
        return sorted(lines, key=lambda line: float(line["uncertainty"]), reverse=True)
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"'{path}' is not the review list of a prediction. Remove it or choose another folder."
        ) from error


def case_name(text: str) -> str:
    """Return a text as a name fit for files."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).lstrip("._-")[:100] or "case"


def _grid_of(path: Path) -> Volume:
    """Return the grid of an image file, with zeros that take no memory for its voxels."""
    reader = opened(path)
    if reader.GetDimension() != 3 or reader.GetNumberOfComponents() != 1:
        return read_volume(path)  # which says what is wrong
    voxel = sitk.Image([1, 1, 1], sitk.sitkUInt8)
    voxel.SetOrigin(reader.GetOrigin())
    voxel.SetSpacing(reader.GetSpacing())
    voxel.SetDirection(reader.GetDirection())
    return Volume(np.broadcast_to(np.uint8(0), reader.GetSize()[::-1]), from_sitk(voxel).ijk_to_ras, path.name)


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name.lower().endswith(SUFFIXES))


def _stem(path: Path) -> str:
    suffix = max((s for s in SUFFIXES if path.name.lower().endswith(s)), key=len)
    return path.name[: -len(suffix)]


def _words(path: Path) -> set[str]:
    return set(re.findall(r"[a-z]+", _stem(path).lower()))


def _points_of(folder: Path, stem: str) -> Path:
    """Return the points file of a stem, or where it is to be written."""
    files = [folder / f"{stem}{suffix}" for suffix in POINTS_SUFFIXES]
    return next((path for path in files if path.is_file()), files[0])


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        return str(path.resolve())
