"""A training cohort: the table that lists its cases, and each case as the arrays a network learns from, cached."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_folder, require_file
from BreastBiomarkersLib.points import read_points
from BreastBiomarkersLib.progress import Progress, ignore_progress
from BreastBiomarkersLib.volume import Volume, read_volume
from numpy.typing import NDArray

from WeakSegmentLib.case_list import COLUMNS, read_lines
from WeakSegmentLib.network_input import network_image, to_network_grid
from WeakSegmentLib.points import ExtremePoints
from WeakSegmentLib.pseudo_mask import Label
from WeakSegmentLib.segmentation import segment_by_random_walk
from WeakSegmentLib.training_settings import TrainingSettings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MAX_PROBLEMS = 10


@dataclass(frozen=True)
class CohortCase:
    """A line of a cohort table.

    Attributes
    ----------
    name : str
        Unique; fit for a file name.
    image : Path
        Post-contrast image.
    points : Path or None
        Its six extreme points, which a training needs and a prediction does not.
    pre, mask : Path or None
        Pre-contrast image; true mask, for full supervision and evaluation.
    where : str
        File and line, for messages.
    """

    name: str
    image: Path
    points: Path | None
    pre: Path | None = None
    mask: Path | None = None
    where: str = ""

    def read(self) -> tuple[Volume, Volume | None, ExtremePoints | None, Volume | None]:
        """Return image, pre-contrast image, points and true mask, None for what the line has not; errors name it.

        Raises
        ------
        InputError
            If a file is damaged, a grid differs or the points do not fit the image.
        """
        try:
            image = read_volume(self.image)
            pre = None if self.pre is None else read_volume(self.pre)
            mask = None if self.mask is None else read_volume(self.mask)
            for other in (pre, mask):
                if other is not None and not image.same_grid(other):
                    raise InputError(f"'{other.name}' is not on the grid of '{image.name}'. Resample it first.")
            if self.points is None:
                return image, pre, None, mask
            placed = read_points(self.points)
            return image, pre, ExtremePoints.from_ras(placed.positions_ras, image, placed.labels), mask
        except InputError as error:
            raise self.error(error) from error

    def error(self, error: Exception) -> InputError:
        """Return an error that also names this line."""
        return InputError(f"{self.where} (case '{self.name}'): {error}")


def read_cohort(path: str | Path, points_needed: bool = True) -> list[CohortCase]:
    """Return the cases of a CSV with the columns case, image, points and optionally pre, mask.

    Paths are relative to the table's folder, or absolute. Further columns are ignored; so are empty lines.

    Parameters
    ----------
    path : str or Path
    points_needed : bool
        False for a prediction: the column points, or fields of it, may be missing then.

    Raises
    ------
    InputError
        If the table is missing, lacks a column or holds no case, or lines are not usable (all of them are named): a
        needed field is empty, a file is not there, a name is used twice or not fit for a file name.
    """
    path = require_file(path, "cohort")
    columns, rows = read_lines(path)
    needed = COLUMNS[:3] if points_needed else COLUMNS[:2]
    missing = [name for name in needed if name not in columns]
    if missing:
        raise InputError(
            f"'{path.name}' has no column '{missing[0]}'. Its first line must name {', '.join(needed)} and, if there, "
            f"{' and '.join(COLUMNS[len(needed) :])}."
        )
    cases: dict[str, CohortCase] = {}
    problems = []
    for line, row in rows:
        where = f"{path.name}, line {line}"
        try:
            case = _read_line(row, path.parent, where, needed)
            if case is None:
                continue
            if case.name in cases:
                raise InputError(f"the case '{case.name}' is already in line {cases[case.name].where.split()[-1]}.")
            cases[case.name] = case
        except InputError as error:
            problems.append(f"{where}: {error}")
    if problems:
        more = f"\n... and {len(problems) - _MAX_PROBLEMS} more lines" if len(problems) > _MAX_PROBLEMS else ""
        raise InputError("\n".join(problems[:_MAX_PROBLEMS]) + more)
    if not cases:
        raise InputError(f"'{path.name}' lists no case.")
    return list(cases.values())


def _read_line(row: dict[str | Any, Any], folder: Path, where: str, needed: tuple[str, ...]) -> CohortCase | None:
    values = {key: (row.get(key) or "").strip() for key in COLUMNS}
    if not any(values.values()):
        return None
    for key in needed:
        if not values[key]:
            raise InputError(f"the field '{key}' is empty.")
    if not _NAME.fullmatch(values["case"]):
        raise InputError(f"'{values['case']}' cannot name a case; use letters, digits, '.', '_' and '-'.")
    files = {key: require_file(folder / values[key], key) if values[key] else None for key in COLUMNS[2:]}
    return CohortCase(values["case"], require_file(folder / values["image"], "image"), where=where, **files)


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A case as a network sees it; all arrays share one grid.

    Attributes
    ----------
    name : str
    image : (C, K, J, I) ndarray of float32
        Normalized channels.
    labels : (K, J, I) ndarray of uint8
        `Label` values: the pseudo-mask, or the true mask for full supervision.
    box : (K, J, I) slices
        The box of the six points.
    truth : (K, J, I) ndarray of bool or None
        For pictures only, where the cohort has masks.
    """

    name: str
    image: NDArray[np.float32]
    labels: NDArray[np.uint8]
    box: tuple[slice, ...]
    truth: NDArray[np.bool_] | None

    def with_labels(self, labels: NDArray[np.uint8]) -> PreparedCase:
        """Return the case with other labels."""
        return replace(self, labels=labels)

    @cached_property
    def tumor_voxels(self) -> NDArray[np.int64]:
        """(n,) flat indices of the voxels labeled tumor."""
        return np.flatnonzero(self.labels == Label.TUMOR)


def cohort_fingerprint(cases: Sequence[CohortCase]) -> str:
    """Return a hash of names, file sizes and times: it changes when a case or a file does."""
    text = []
    for case in cases:
        for path in (case.image, case.points, case.pre, case.mask):
            status = None if path is None else path.stat()
            text.append("" if status is None else f"{case.name} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(text).encode()).hexdigest()[:16]


def prepare_cohort(
    cases: Sequence[CohortCase], settings: TrainingSettings, cache: Path, progress: Progress = ignore_progress
) -> None:
    """Write each case's arrays into a folder of the cache; cases that are there already are left alone.

    Raises
    ------
    InputError
        If a case cannot be used; the message names its line.
    """
    for n, case in enumerate(cases):
        progress(n / len(cases), f"Preparing {case.name}, {n + 1} of {len(cases)}")
        fingerprint = cohort_fingerprint([case])
        try:
            if json.loads((cache / case.name / "case.json").read_text(encoding="utf-8"))["files"] == fingerprint:
                continue
        except (OSError, ValueError, KeyError, TypeError):
            pass  # not there yet
        prepared = prepare_case(case, settings)
        with atomic_folder(cache / case.name) as folder:
            np.save(folder / "image.npy", prepared.image)
            np.save(folder / "labels.npy", prepared.labels)
            if prepared.truth is not None:
                np.save(folder / "truth.npy", prepared.truth)
            box = [[s.start, s.stop] for s in prepared.box]
            (folder / "case.json").write_text(json.dumps({"files": fingerprint, "box_kji": box}), encoding="utf-8")


def load_cohort(cases: Sequence[CohortCase], cache: Path) -> list[PreparedCase]:
    """Return prepared cases; images stay on disk and are read patch by patch."""
    loaded = []
    for case in cases:
        folder = cache / case.name
        box = json.loads((folder / "case.json").read_text(encoding="utf-8"))["box_kji"]
        truth = folder / "truth.npy"
        loaded.append(
            PreparedCase(
                case.name,
                np.load(folder / "image.npy", mmap_mode="r", allow_pickle=False),
                np.load(folder / "labels.npy", allow_pickle=False),
                tuple(slice(start, stop) for start, stop in box),
                np.load(truth, allow_pickle=False) if truth.exists() else None,
            )
        )
    return loaded


def prepare_case(case: CohortCase, settings: TrainingSettings) -> PreparedCase:
    """Return one case, read, labeled from its points, resampled and normalized.

    Raises
    ------
    InputError
        If a file is damaged, points are missing or do not fit, full supervision has no mask, or no voxel of the box is
        left at this voxel size; the message names the line.
    """
    volume, pre, points, mask = case.read()
    try:
        if points is None:
            raise InputError("a training needs the six points of each case.")
        image, grid = network_image(volume, pre, settings.channels, settings.spacing_mm, settings.normalization)
        truth = None
        if mask is not None:
            truth = to_network_grid(mask.with_array(mask.array != 0), settings.spacing_mm, labels=True).array != 0
        if settings.method != "full":
            subtracted = pre if settings.random_walk().method == "random-walk" else None
            found = segment_by_random_walk(volume, points, settings.random_walk(), pre=subtracted)
            labels = to_network_grid(found.pseudo_mask, settings.spacing_mm, labels=True).array
        elif truth is None:
            raise InputError("full supervision needs a mask in each line.")
        else:
            labels = truth.astype(np.uint8)
        inside = np.zeros(volume.shape, dtype=np.uint8)
        inside[tuple(slice(a, b) for a, b in zip(points.box_start_kji, points.box_stop_kji, strict=True))] = 1
        box = _bounding_box(to_network_grid(volume.with_array(inside), settings.spacing_mm, labels=True).array)
        if box is None:
            raise InputError(f"no voxel of {settings.spacing_mm} mm lies in the box of the points. Use smaller voxels.")
    except InputError as error:
        raise case.error(error) from error
    assert grid.shape == labels.shape == image.shape[1:]
    return PreparedCase(case.name, image, labels, box, truth)


def _bounding_box(mask: NDArray[np.uint8]) -> tuple[slice, ...] | None:
    found = np.argwhere(mask)
    if not len(found):
        return None
    return tuple(slice(int(a), int(b) + 1) for a, b in zip(found.min(axis=0), found.max(axis=0), strict=True))
