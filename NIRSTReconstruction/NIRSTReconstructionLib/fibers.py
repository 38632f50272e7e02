"""Where the fibers touch the patient, in 3-D, as read from a file; the plane and the model's optodes follow from it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import require_file
from BreastBiomarkersLib.points import LabeledPoints, read_points
from BreastBiomarkersLib.volume import LPS_TO_RAS
from numpy.typing import NDArray

from NIRSTReconstructionLib.optodes import Optodes
from NIRSTReconstructionLib.plane import Plane, PlaneFit, even_polygon, plane_from_points

MAX_FIBERS = 4096


@dataclass(frozen=True, eq=False)
class Fibers:
    """Fiber tips in RAS, or in a plane of its own (`planar`): then z is 0.

    Attributes
    ----------
    sources : (S, 3) ndarray, mm
        Row n is source number n + 1.
    detectors : (D, 3) ndarray, mm
    planar : bool
        Positions were given with two coordinates; they have no place in the patient.
    name : str

    Raises
    ------
    InputError
        If there are none, a coordinate is not finite, or the layout is not 20 to 500 mm wide.
    """

    sources: NDArray[np.float64]
    detectors: NDArray[np.float64]
    planar: bool = False
    name: str = "fibers"

    def __post_init__(self) -> None:
        for kind in ("sources", "detectors"):
            positions = np.array(getattr(self, kind), dtype=np.float64)
            if positions.ndim != 2 or positions.shape[1] != 3 or not 0 < len(positions) <= MAX_FIBERS:
                raise InputError(f"'{self.name}' must hold 1 to {MAX_FIBERS} {kind} with three coordinates each.")
            if not np.isfinite(positions).all():
                raise InputError(f"'{self.name}': a coordinate of the {kind} is not a number.")
            object.__setattr__(self, kind, positions)
        width = float(np.ptp(self.positions, axis=0).max())
        if not 20 <= width <= 500:
            unit = "cm" if 2 <= width < 20 else "m" if width < 2 else "micrometers" if width > 5000 else "another unit"
            raise InputError(
                f"The fibers of '{self.name}' span {width:.3g} mm; a breast interface spans 20 to 500 mm. "
                f"The positions may be in {unit}: give them in mm."
            )

    @property
    def positions(self) -> NDArray[np.float64]:
        """(S + D, 3) all fiber tips, sources first."""
        return np.concatenate([self.sources, self.detectors])

    def from_lps(self) -> Fibers:
        """Return the fibers whose positions were given in LPS (as in image files and Nirfast meshes made from them).

        Raises
        ------
        InputError
            If the fibers are planar.
        """
        if self.planar:
            raise InputError(f"The fibers of '{self.name}' have two coordinates, so they are in no patient frame.")
        flip = LPS_TO_RAS[:3, :3].diagonal()
        return replace(self, sources=self.sources * flip, detectors=self.detectors * flip)

    def fitted_plane(self) -> PlaneFit:
        """Return the least-squares plane of all fiber tips; the plane z = 0 with its own axes if `planar`."""
        if self.planar:
            return PlaneFit(Plane(np.eye(4)), 0.0, 0.0)
        return plane_from_points(self.positions)

    def distance_from(self, plane: Plane) -> PlaneFit:
        """Return a given plane with the distances of the fiber tips from it; planar fibers are in it by definition."""
        if self.planar:
            return PlaneFit(plane, 0.0, 0.0)
        off = plane.to_plane(self.positions)[1]
        return PlaneFit(plane, float(np.sqrt(np.mean(off**2))), float(np.abs(off).max()))

    def all_channels(self, shortest_mm: float = 5.0) -> NDArray[np.int64]:
        """Return every source-detector pair (C, 2), counted from 1, at least `shortest_mm` apart.

        For each source the detectors follow in ascending order, beginning after the source's own number.
        """
        pairs = []
        for s, source in enumerate(self.sources):
            order = (np.arange(len(self.detectors)) + s + 1) % len(self.detectors)
            far = np.linalg.norm(self.detectors[order] - source, axis=1) >= shortest_mm
            pairs += [(s + 1, int(d) + 1) for d in order[far]]
        return np.array(pairs, dtype=np.int64).reshape(-1, 2)

    def optodes(self, plane: Plane, channels: NDArray[np.int64]) -> Optodes:
        """Return the fibers projected onto a plane, with the channels (C, 2) counted from 1.

        Planar fibers are taken to be in the plane's own coordinates.

        Raises
        ------
        InputError
            If a channel names a fiber that does not exist.
        """
        for column, (kind, count) in enumerate((("source", len(self.sources)), ("detector", len(self.detectors)))):
            beyond = np.unique(channels[:, column][channels[:, column] > count])
            if beyond.size:
                raise InputError(
                    f"The data name {kind} {', '.join(map(str, beyond[:8]))}, but '{self.name}' has only {count} "
                    f"{kind}s. Give the positions that belong to these data."
                )
        if self.planar:
            return Optodes(self.sources[:, :2], self.detectors[:, :2], channels - 1)
        return Optodes(plane.to_plane(self.sources)[0], plane.to_plane(self.detectors)[0], channels - 1)


def read_fibers(path: str | Path) -> Fibers:
    """Return fiber positions from a CSV, a Slicer point list, a Nirfast `.source` or `.meas`, or a SNIRF file.

    CSV: columns kind (source, detector, or fiber for both), number, x, y and optionally z, in mm; with z they are RAS.
    Point lists: labels S1, S2, ..., D1, D2, ...; with any other labels each point is a fiber, source and detector at
    once, in the order of the list. Nirfast: both `.source` and `.meas` are read.

    Raises
    ------
    InputError
        If the file is missing, of another kind or damaged, a number is missing or repeated.
    """
    path = require_file(path, "optode")
    if path.suffix.lower() in (".source", ".meas"):
        from NIRSTReconstructionLib.nirfast import read_nirfast_fibers

        return read_nirfast_fibers(path)
    if path.suffix.lower() == ".snirf":
        from NIRSTReconstructionLib.snirf import read_snirf_fibers

        return read_snirf_fibers(path)
    if path.suffix.lower() == ".csv" and _is_fiber_table(path):
        return _read_table(path)
    return fibers_from_points(read_points(path), path.name)


def fibers_from_points(points: LabeledPoints, name: str = "fibers") -> Fibers:
    """Return the fibers a point list stands for; its labels say which (see `read_fibers`).

    Raises
    ------
    InputError
        If there is no point, a number is missing or given twice.
    """
    kinds, numbers = [], []
    for n, label in enumerate(points.labels):
        match = re.fullmatch(r"\s*([SsDd])[a-z]*[\s_-]*(\d+)\s*", label)
        kinds.append({"s": "source", "d": "detector"}[match[1].lower()] if match else "fiber")
        numbers.append(int(match[2]) if match else n + 1)
    if "fiber" in kinds:
        kinds, numbers = ["fiber"] * len(kinds), list(range(1, len(kinds) + 1))
    return _fibers(kinds, numbers, points.positions_ras, False, name)


def outline_at_fibers(
    outline_mm: NDArray[np.float64], tips_mm: NDArray[np.float64], tolerance_mm: float = 5.0
) -> tuple[NDArray[np.float64], float]:
    """Return a body outline drawn to the fiber tips, and how far it was moved at most.

    Fibers touch the skin and their positions are measured, while an outline from a threshold may be a millimeter off:
    moving the outline keeps the distances between the fibers, on which the result depends most. Between fibers the
    displacement fades out over half their spacing.

    Parameters
    ----------
    outline_mm : (n, 2) ndarray, mm
        Closed polygon.
    tips_mm : (m, 2) ndarray, mm
    tolerance_mm : float
        Largest distance that is taken for an inexact outline.

    Raises
    ------
    InputError
        If a fiber is farther from the outline.
    """
    dense = even_polygon(outline_mm, 0.5)
    nearest = ((tips_mm[:, None] - dense[None]) ** 2).sum(-1).argmin(axis=1)
    displacement = tips_mm - dense[nearest]
    distance = np.linalg.norm(displacement, axis=1)
    if distance.max() > tolerance_mm:
        worst = int(distance.argmax())
        raise InputError(
            f"Fiber {worst + 1} is {distance[worst]:.1f} mm from the body's outline in the plane (limit "
            f"{tolerance_mm:g} mm). Check its position, the plane and the body threshold, or give a body mask."
        )
    around = np.sort(nearest)
    spacing = np.median(np.diff(np.append(around, around[0] + len(dense))))

    def closeness(places: NDArray[np.int64]) -> NDArray[np.float64]:
        steps = np.abs(places[:, None] - nearest[None])
        return np.exp(-2 * (np.minimum(steps, len(dense) - steps) / max(spacing, 1.0)) ** 2)

    strengths = np.linalg.lstsq(closeness(nearest), displacement, rcond=1e-3)[0]
    moved = dense + closeness(np.arange(len(dense))) @ strengths
    return even_polygon(moved, 2.0), float(distance.max())


def _is_fiber_table(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = {cell.strip().lower() for cell in file.readline(10_000).split(",")}
    return {"kind", "number"} <= header


def _read_table(path: Path) -> Fibers:
    if path.stat().st_size > 10_000_000:
        raise InputError(f"'{path.name}' is too large for a list of fibers.")
    reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig", errors="replace")))
    reader.fieldnames = [name.strip().lower().removesuffix("_mm") for name in reader.fieldnames or []]
    lacking = {"x", "y"} - set(reader.fieldnames)
    if lacking:
        raise InputError(f"'{path.name}' lacks the column {', '.join(sorted(lacking))}.")
    planar = "z" not in reader.fieldnames
    kinds, numbers, positions = [], [], []
    for line, row in enumerate(_rows(reader, path.name), start=2):
        kind = (row["kind"] or "").strip().lower()
        if kind not in ("source", "detector", "fiber"):
            raise InputError(f"'{path.name}' line {line}: kind is '{kind}'; use source, detector or fiber.")
        try:
            numbers.append(int(row["number"]))
            positions.append([float(row["x"]), float(row["y"]), 0.0 if planar else float(row["z"])])
        except (TypeError, ValueError):
            raise InputError(f"'{path.name}' line {line} is incomplete or holds something that is no number.") from None
        kinds.append(kind)
    return _fibers(kinds, numbers, np.array(positions, dtype=np.float64).reshape(-1, 3), planar, path.name)


def _rows(reader: csv.DictReader[str], name: str) -> Iterator[dict[str, str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise InputError(f"'{name}' is damaged: a cell in it has no end. Save it as CSV again.") from error


def _fibers(kinds: list[str], numbers: list[int], positions: NDArray[Any], planar: bool, name: str) -> Fibers:
    placed = {}
    for kind in ("source", "detector"):
        at = {}
        for k, n, position in zip(kinds, numbers, positions, strict=True):
            if k in (kind, "fiber"):
                if n in at:
                    raise InputError(f"'{name}' gives {kind} {n} twice. Keep one position.")
                at[n] = position
        if max(at, default=0) > MAX_FIBERS:
            raise InputError(f"'{name}' names {kind} {max(at)}; at most {MAX_FIBERS} are accepted.")
        if min(at, default=1) < 1:
            raise InputError(f"'{name}' gives {kind} the number {min(at)}. Numbers count from 1 without gaps.")
        missing = sorted(set(range(1, max(at, default=0) + 1)) - set(at))
        if missing or not at:
            what = f"{kind} {', '.join(map(str, missing[:8]))}" if missing else f"any {kind}"
            raise InputError(f"'{name}' does not give the position of {what}. Numbers count from 1 without gaps.")
        placed[kind] = np.array([at[n] for n in sorted(at)])
    return Fibers(placed["source"], placed["detector"], planar, name)
