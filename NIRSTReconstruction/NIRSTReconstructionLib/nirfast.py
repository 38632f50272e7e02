"""Readers of the text files of NIRFAST: mesh set, extinction and `.paa` data."""

from __future__ import annotations

import hashlib
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import require_file
from numpy.typing import NDArray

from NIRSTReconstructionLib.fibers import Fibers
from NIRSTReconstructionLib.measurements import MAX_BYTES, Measurements, measurements_from_rows, unfinished
from NIRSTReconstructionLib.mesh import TriangleMesh
from NIRSTReconstructionLib.spectra import Spectra

_CHROMOPHORES = {"hbo": 0, "hbo2": 0, "deoxyhb": 1, "hb": 1, "hbr": 1, "water": 2, "lipid": 3, "lipids": 3, "fat": 3}


def read_paa(path: str | Path) -> Measurements:
    """Return the data of a `.paa` file: amplitude and phase in degrees per source, detector and wavelength.

    The header is ``source det w661 w735 ...``; each row holds source, detector, then active flag, amplitude and phase
    of every wavelength.

    Raises
    ------
    InputError
        If the file is missing, truncated, of the old form without wavelengths, or its values make no sense.
    """
    path = require_file(path, "data")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"'{path.name}' is larger than {MAX_BYTES >> 20} MB. Is it a measurement file?")
    with path.open(encoding="utf-8", errors="replace") as file:
        header = file.readline(100_000).split()
    wavelengths = [token[1:] for token in header[2:]]
    if len(header) < 3 or any(token[0] != "w" for token in header[2:]):
        raise InputError(
            f"'{path.name}' does not begin with 'source detector w661 ...'. Save the data from NIRFAST with their "
            "wavelengths, or give a CSV."
        )
    try:
        nm = np.array(wavelengths, dtype=np.float64)
    except ValueError:
        raise InputError(f"'{path.name}' names a wavelength that is no number: {', '.join(wavelengths)}.") from None
    table = _numbers(path, skip=1)
    if table.shape[1] != 2 + 3 * len(nm):
        raise InputError(
            f"'{path.name}' has {table.shape[1]} columns; source, detector and 3 for each of its {len(nm)} wavelengths "
            "are needed. Is the file complete?"
        )
    rows = len(table)
    phase = table[:, 4::3]
    measurements = measurements_from_rows(
        source=np.repeat(table[:, 0], len(nm)),
        detector=np.repeat(table[:, 1], len(nm)),
        wavelength_nm=np.tile(nm, rows),
        amplitude=table[:, 3::3].ravel(),
        phase_deg=phase.ravel() if np.abs(np.nan_to_num(phase)).max() > 0 else None,
        active=table[:, 2::3].ravel() > 0,
        name=path.name,
    )
    return measurements.remarking(*_gaps(measurements.channels), *unfinished(path))


def read_nirfast_fibers(path: str | Path) -> Fibers:
    """Return the positions in a mesh set's `.source` and `.meas` files (give either).

    Raises
    ------
    InputError
        If one of the two is missing or damaged, or their dimensions differ.
    """
    path = Path(path)
    sources = _positions(require_file(path.with_suffix(".source"), "source"))
    detectors = _positions(require_file(path.with_suffix(".meas"), "detector"))
    if sources.shape[1] != detectors.shape[1]:
        raise InputError(f"'{path.stem}': sources and detectors differ in the number of coordinates.")
    planar = sources.shape[1] == 2
    if planar:
        sources, detectors = (np.column_stack([p, np.zeros(len(p))]) for p in (sources, detectors))
    return Fibers(sources, detectors, planar, path.stem)


def read_excoef(path: str | Path, scatter_reference_nm: float = 1000.0) -> Spectra:
    """Return the extinction of an `.excoef` file (natural logarithm, mm^-1 per mM; water and lipid mm^-1 per fraction).

    Raises
    ------
    InputError
        If the file is missing or damaged, lacks HbO or deoxyHb, or its size points to other units.
    """
    path = require_file(path, "extinction")
    if path.stat().st_size > 10_000_000:
        raise InputError(f"'{path.name}' is too large for an extinction table.")
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = [line.split() for line in text.splitlines() if line.strip()]
    names = [line[0].lower() for line in lines if len(line) == 1]
    try:
        table = np.array([[float(cell) for cell in line] for line in lines[len(names) :]], dtype=np.float64)
    except ValueError:
        raise InputError(f"'{path.name}' holds something that is no number, or rows of different length.") from None
    present = [name for name in names if not name.startswith("s-")]
    unknown = [name for name in present if name not in _CHROMOPHORES]
    if unknown:
        raise InputError(f"'{path.name}' has the chromophore '{unknown[0]}', which is not known here.")
    if table.ndim != 2 or table.shape[1] != 1 + len(present) or {0, 1} - {_CHROMOPHORES[n] for n in present}:
        raise InputError(
            f"'{path.name}' must name its columns (HbO and deoxyHb at least) and hold a wavelength and as many "
            "extinctions in each row."
        )
    extinction = np.zeros((len(table), 4))
    for column, name in enumerate(present, start=1):
        extinction[:, _CHROMOPHORES[name]] = table[:, column]
    typical = float(np.median(extinction[:, :2]))
    if not 0.02 <= typical <= 2:
        hint = "base 10 or cm instead of mm" if typical > 2 else "mm^-1 per uM, or base 10"
        raise InputError(
            f"The hemoglobin extinction in '{path.name}' is about {typical:.3g}; 0.05 to 1 mm^-1 per mM is expected "
            f"between 650 and 950 nm. It may be given in {hint}."
        )
    extinction[:, :2] /= 1000  # per mM to per uM
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    order = np.argsort(table[:, 0])
    if (np.diff(table[order, 0]) == 0).any():
        raise InputError(f"'{path.name}' gives a wavelength twice. Keep one row for each.")
    return Spectra(table[order, 0], extinction[order], f"{path.name} {digest}", scatter_reference_nm)


def read_nirfast_mesh(path: str | Path) -> TriangleMesh:
    """Return the 2-D triangle mesh of a mesh set, from its `.node` and `.elem` files (give either).

    Raises
    ------
    InputError
        If a file is missing or damaged, or the mesh is 3-D.
    """
    path = Path(path)
    nodes = _numbers(require_file(path.with_suffix(".node"), "node"))
    elements = _numbers(require_file(path.with_suffix(".elem"), "element"))
    flat = nodes.shape[1] == 3 or (nodes.shape[1] > 3 and np.ptp(nodes[:, 3]) == 0)
    if elements.shape[1] != 3 or not flat:
        raise InputError(
            f"'{path.stem}' is no mesh of triangles in a plane ({elements.shape[1]} nodes per element, "
            f"{nodes.shape[1] - 1} coordinates per node). Reconstruction here is in a plane: "
            "give the MRI or mask, from which the body's outline in the fiber plane is taken."
        )
    if not (np.isfinite(nodes).all() and np.isin(elements, np.arange(1, len(nodes) + 1)).all()):
        raise InputError(
            f"'{path.stem}' holds a coordinate that is no number, or an element of a node that does not exist. Nodes "
            "count from 1. Export the mesh again."
        )
    return TriangleMesh(nodes[:, 1:3], elements.astype(np.int64) - 1, order=1)


def _positions(path: Path) -> NDArray[np.float64]:
    """Return the coordinates (n, 2 or 3) of a `.source` or `.meas` file in the order of their numbers."""
    columns: list[str] = []
    skip = 0
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.lower().split()
            if words and words[0] not in ("fixed", "num"):
                break
            columns = words if words and words[0] == "num" else columns
            skip += 1
    table = _numbers(path, skip)
    if not columns:
        if table.shape[1] not in (2, 3):
            raise InputError(f"'{path.name}' has {table.shape[1]} columns and no header naming them.")
        return table
    axes = [columns.index(axis) for axis in ("x", "y", "z") if axis in columns]
    if len(axes) < 2 or table.shape[1] <= max(axes):
        raise InputError(f"'{path.name}' lacks a column for x or y.")
    number = table[:, 0]
    if not np.array_equal(np.sort(number), np.arange(1, len(number) + 1)):
        raise InputError(f"'{path.name}' does not number its rows 1 to {len(number)}.")
    return table[np.argsort(number)][:, axes]


def _numbers(path: Path, skip: int = 0) -> NDArray[np.float64]:
    """Return the numbers of a text file as a table, or say at which row it breaks."""
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"'{path.name}' is larger than {MAX_BYTES >> 20} MB.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty file is reported below
            table: NDArray[Any] = np.loadtxt(path, skiprows=skip, ndmin=2, encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"'{path.name}' is damaged: it is not a text file. Export it again.") from error
    except ValueError as error:
        raise InputError(f"'{path.name}' is damaged or cut off: {_where(str(error), skip)}") from error
    if table.size == 0:
        raise InputError(f"'{path.name}' holds no numbers.")
    return table


def _where(complaint: str, skip: int) -> str:
    """Return what numpy complains about in words for the user, with the line of the file."""
    text = re.match(r"could not convert string (.*) to float64 at row (\d+), column (\d+)", complaint)
    if text:
        return f"{text[1]} in line {int(text[2]) + 1 + skip}, column {text[3]}, is no number."
    width = re.match(r"the number of columns changed from (\d+) to (\d+) at row (\d+)", complaint)
    if width:
        return f"line {int(width[3]) + skip} has {width[2]} numbers, the lines before it {width[1]}."
    return "it holds something that is no number."


def _gaps(channels: NDArray[np.int64]) -> list[str]:
    """Say which sources have fewer detectors than the others: a file that ends early, or a dead fiber."""
    sources, counts = np.unique(channels[:, 0], return_counts=True)
    short = counts < counts.max()
    if not short.any():
        return []
    listed = ", ".join(f"{s} ({n})" for s, n in zip(sources[short][:8], counts[short][:8], strict=True))
    return [f"Sources with fewer than {counts.max()} detectors: {listed}. Was the file cut off, or is a fiber missing?"]
