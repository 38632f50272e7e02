"""Labeled points in RAS, read from and written to the files Slicer users have."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path, require_file

MAX_POINTS = 100_000
_FLIP = np.array([-1.0, -1.0, 1.0])


class LabeledPoints(NamedTuple):
    """Points with names.

    Attributes
    ----------
    labels : list of str, length n
    positions_ras : (n, 3) ndarray, mm
    """

    labels: list[str]
    positions_ras: NDArray[np.float64]


def read_points(path: str | Path) -> LabeledPoints:
    """Return the points of a Slicer `.mrk.json` or `.fcsv` file, or of a CSV with columns x, y, z in RAS mm.

    A CSV may have a header naming the columns (`x`, `y`, `z` and optionally `label`); without one its columns are
    x, y, z, or label, x, y, z. Undefined control points are left out.

    Raises
    ------
    InputError
        If the file is missing, damaged, of another kind, or holds no point, or a coordinate is not a finite number.
    """
    path = require_file(path, "points")
    readers = {".json": _read_markups_json, ".fcsv": _read_fcsv, ".csv": _read_csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"'{path.name}' is not a points file; use .mrk.json, .fcsv or .csv (x, y, z in RAS mm).")
    try:
        points = reader(path.read_text(encoding="utf-8-sig"))
    except InputError as error:
        raise InputError(f"'{path.name}': {error}") from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"'{path.name}' is damaged or not a points file. Save it again from Slicer.") from error
    except csv.Error as error:
        raise InputError(f"'{path.name}' is damaged: a cell in it has no end. Save it as CSV again.") from error
    if not points.labels:
        raise InputError(f"'{path.name}' holds no placed point.")
    if not np.isfinite(points.positions_ras).all():
        raise InputError(f"'{path.name}' holds a coordinate that is not a number.")
    return points


def write_points(points: LabeledPoints, path: str | Path) -> None:
    """Write the points as a Slicer point list (`.mrk.json`, LPS on disk as Slicer writes it).

    Raises
    ------
    InputError
        If the target cannot be written or has another suffix.
    """
    if not str(path).endswith(".mrk.json"):
        raise InputError(f"Points are written as .mrk.json, not '{Path(path).name}'.")
    control_points = [
        {"id": str(n + 1), "label": label, "position": (position * _FLIP).tolist(), "positionStatus": "defined"}
        for n, (label, position) in enumerate(zip(points.labels, points.positions_ras, strict=True))
    ]
    schema = "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    markup = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": control_points}
    document = {"@schema": schema + "markups-schema-v1.0.3.json#", "markups": [markup]}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1), encoding="utf-8")


def _points(labels: list[str], positions: list[Any], flip: bool) -> LabeledPoints:
    if len(labels) > MAX_POINTS:
        raise InputError(f"more than {MAX_POINTS} points.")
    array = np.asarray(positions, dtype=np.float64).reshape(len(labels), 3)
    return LabeledPoints(labels, array * _FLIP if flip else array)


def _read_markups_json(text: str) -> LabeledPoints:
    markups = json.loads(text)["markups"]
    if len(markups) != 1:
        raise InputError(f"holds {len(markups)} point lists; save one per file.")
    defined = [p for p in markups[0]["controlPoints"] if p.get("positionStatus", "defined") == "defined"]
    system = str(markups[0].get("coordinateSystem", "LPS"))
    if system not in ("LPS", "RAS", "0", "1"):
        raise InputError(f"unknown coordinate system '{system}'.")
    labels = [str(p.get("label", "")) for p in defined]
    return _points(labels, [p["position"] for p in defined], flip=system in ("LPS", "1"))


def _read_fcsv(text: str) -> LabeledPoints:
    flip = False
    columns = ["id", "x", "y", "z", "ow", "ox", "oy", "oz", "vis", "sel", "lock", "label", "desc", "associatedNodeID"]
    rows = []
    for line in text.splitlines():
        if line.startswith("#"):
            key, _, value = line.lstrip("# ").partition("=")
            if key.strip() == "CoordinateSystem":
                system = value.strip()
                if system not in ("LPS", "RAS", "0", "1"):
                    raise InputError(f"unknown coordinate system '{system}'.")
                flip = system in ("LPS", "1")
            elif key.strip() == "columns":
                columns = [c.strip() for c in value.split(",")]
        elif line.strip():
            rows.append(dict(zip(columns, next(csv.reader([line])), strict=False)))
    return _points([r.get("label", "") for r in rows], [[r["x"], r["y"], r["z"]] for r in rows], flip)


def _read_csv(text: str) -> LabeledPoints:
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if any(c.strip() for c in row)]
    if not rows:
        return _points([], [], False)
    header = [cell.lower() for cell in rows[0]]
    if {"x", "y", "z"} <= set(header):
        at = {name: header.index(name) for name in ("x", "y", "z")}
        labels = [r[header.index("label")] if "label" in header else str(n + 1) for n, r in enumerate(rows[1:])]
        return _points(labels, [[r[at["x"]], r[at["y"]], r[at["z"]]] for r in rows[1:]], False)
    if len(rows[0]) == 3:
        return _points([str(n + 1) for n in range(len(rows))], rows, False)
    if len(rows[0]) == 4:
        return _points([r[0] for r in rows], [r[1:] for r in rows], False)
    raise InputError("needs the columns x, y, z (RAS, mm), optionally with a label.")
