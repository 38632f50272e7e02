"""SNIRF files: amplitudes (and phases) and fiber positions in HDF5, read without trusting the file.

References
----------
SNIRF specification 1.1, https://github.com/fNIRS/snirf; Tucker S et al., Neurophotonics 10:013507 (2023),
doi 10.1117/1.NPh.10.1.013507.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path, require_file
from numpy.typing import NDArray

from NIRSTReconstructionLib.fibers import MAX_FIBERS, Fibers
from NIRSTReconstructionLib.measurements import DEFAULT_NOISE, MAX_BYTES, Measurements, measurements_from_rows

MAX_COLUMNS = 200_000
"""Most entries of a measurement list."""
MAX_VALUES = 2**29
"""Most numbers of a time series (4 GiB as float64); it is read in pieces and never held as a whole."""

_AMPLITUDE, _AC_AMPLITUDE, _PHASE = 1, 101, 102
_MM_PER = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "um": 1e-3, "μm": 1e-3, "µm": 1e-3}
_DEGREES_PER = {"deg": 1.0, "degree": 1.0, "degrees": 1.0, "rad": 180 / np.pi, "radian": 180 / np.pi}
_BLOCK_VALUES = 2**21
_FILTERS = {1, 2, 3, 5, 6, 32000}  # HDF5's own filters and h5py's LZF; others would load a plug-in
_FIELDS = ("sourceIndex", "detectorIndex", "wavelengthIndex", "dataType")


class _Columns(NamedTuple):
    """The measurement list: for each column of the data source, detector and wavelength numbers, type and unit."""

    source: NDArray[np.int64]
    detector: NDArray[np.int64]
    wavelength: NDArray[np.int64]
    kind: NDArray[np.int64]
    unit: list[str]


def read_snirf_measurements(path: str | Path) -> Measurements:
    """Return the measurements of the first recording of a SNIRF file, averaged over time.

    Continuous-wave amplitude (data type 1) or frequency-domain amplitude and phase (101, 102). Phases are kept where
    the file states their unit (dataUnit deg or rad). With several time points the noise is the standard error of the
    mean, but not less than 2 %: the scatter in time does not show errors that stay the same.

    Raises
    ------
    InputError
        If the file is missing, truncated, no SNIRF file, refers to other files, is larger than it should be, or holds
        other kinds of data only.
    """
    with _opened(path) as (file, name):
        nirs, remarks = _first(file, "nirs", "recordings", name)
        block, more = _first(nirs, "data", "data blocks", name)
        remarks += more
        columns = _measurement_list(block, name)
        wavelengths = _array(_group(nirs, "probe", name), "wavelengths", name, MAX_COLUMNS).ravel()
        if not 1 <= columns.wavelength.min() <= columns.wavelength.max() <= len(wavelengths):
            raise InputError(f"'{name}' lists {len(wavelengths)} wavelengths, but its channels name others.")
        mean, error, times = _averaged(block, len(columns.kind), name)
    amplitude = np.isin(columns.kind, (_AMPLITUDE, _AC_AMPLITUDE))
    if len(np.unique(columns.kind[amplitude])) != 1:
        kinds = ", ".join(str(k) for k in np.unique(columns.kind)[:8])
        raise InputError(
            f"'{name}' holds data of type {kinds}; one of continuous-wave amplitude (1) and frequency-domain amplitude "
            "(101) is needed. Export raw amplitudes, not optical densities or concentrations."
        )
    other = int((~amplitude & (columns.kind != _PHASE)).sum())
    if other:
        remarks.append(f"{other} columns of other data types were left out.")
    if times > 1:
        remarks.append(f"Mean of {times} time points; noise at least {DEFAULT_NOISE:.0%}.")
        noise = np.fmax(error[amplitude], DEFAULT_NOISE * np.abs(mean[amplitude]))
    phase, remark = _phases(columns, mean, amplitude)
    measurements = measurements_from_rows(
        columns.source[amplitude],
        columns.detector[amplitude],
        wavelengths[columns.wavelength[amplitude] - 1],
        mean[amplitude],
        phase_deg=phase,
        sd=noise if times > 1 else None,
        name=name,
    )
    return measurements.remarking(*remarks, *([remark] if remark else []))


def read_snirf_fibers(path: str | Path) -> Fibers:
    """Return the source and detector positions of the first recording of a SNIRF file.

    Three-dimensional positions are taken as RAS; the file does not say in which frame of the MRI they are. With two
    coordinates the fibers lie in a plane of their own. The file's LengthUnit is converted to mm.

    Raises
    ------
    InputError
        See `read_snirf_measurements`; also if the length unit is missing or unknown.
    """
    with _opened(path) as (file, name):
        nirs, _ = _first(file, "nirs", "recordings", name)
        unit = _text(_group(nirs, "metaDataTags", name), "LengthUnit", name)
        if unit not in _MM_PER:
            raise InputError(f"'{name}' states the length unit '{unit[:20]}'; mm, cm or m is needed.")
        probe = _group(nirs, "probe", name)
        planar = not all(f"{kind}Pos3D" in probe for kind in ("source", "detector"))
        suffix = "Pos2D" if planar else "Pos3D"
        positions = [_array(probe, kind + suffix, name, 3 * MAX_FIBERS) for kind in ("source", "detector")]
    width = 2 if planar else 3
    if any(p.ndim != 2 or p.shape[1] != width for p in positions):
        raise InputError(f"'{name}': {suffix} must hold {width} coordinates for each fiber.")
    sources, detectors = (np.column_stack([p, np.zeros((len(p), 3 - width))]) * _MM_PER[unit] for p in positions)
    return Fibers(sources, detectors, planar, name)


def write_snirf(measurements: Measurements, fibers: Fibers, path: str | Path) -> None:
    """Write one exposure and its fibers as a SNIRF file that `read_snirf_measurements` and others read.

    Inactive values are left out of the measurement list; the noise has no place in the format.

    Raises
    ------
    InputError
        If h5py is not installed or the file cannot be written.
    """
    h5py = _h5py()
    wavelength, channel = np.nonzero(measurements.active)
    frequency_domain = measurements.phase_rad is not None
    values = [measurements.amplitude[wavelength, channel]]
    if measurements.phase_rad is not None:
        values.append(np.rad2deg(measurements.phase_rad[wavelength, channel]))
    source, detector = measurements.channels[channel].T
    content = io.BytesIO()  # on a full disk HDF5 would complain about each of its objects
    with h5py.File(content, "w") as file:
        file["formatVersion"] = "1.1"
        nirs = file.create_group("nirs")
        tags = {"SubjectID": "unknown", "MeasurementDate": "unknown", "MeasurementTime": "unknown"}
        units = {"LengthUnit": "mm", "TimeUnit": "s", "FrequencyUnit": "MHz"}
        for key, text in (tags | units).items():
            nirs[f"metaDataTags/{key}"] = text
        block = nirs.create_group("data1")
        block["dataTimeSeries"] = np.concatenate(values)[None]
        block["time"] = np.zeros(1)
        for k in range(len(values) * len(source)):
            n, phase = k % len(source), k >= len(source)
            column = block.create_group(f"measurementList{k + 1}")
            kind = _PHASE if phase else _AC_AMPLITUDE if frequency_domain else _AMPLITUDE
            numbers = (source[n], detector[n], wavelength[n] + 1, kind)
            for field, number in zip(_FIELDS, numbers, strict=True):
                column[field] = np.int32(number)
            column["dataTypeIndex"] = np.int32(1)
            if phase:
                column["dataUnit"] = "deg"
        probe = nirs.create_group("probe")
        probe["wavelengths"] = measurements.wavelengths_nm
        for which, positions in (("source", fibers.sources), ("detector", fibers.detectors)):
            probe[f"{which}Pos2D" if fibers.planar else f"{which}Pos3D"] = positions[:, : 2 if fibers.planar else 3]
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise InputError("SNIRF files need the package h5py. Install it: pip install h5py") from error
    return h5py


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[Any, str]]:
    """Give the open file and its name; whatever HDF5 trips over becomes an InputError."""
    h5py = _h5py()
    path = require_file(path, "SNIRF")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"'{path.name}' is larger than {MAX_BYTES >> 20} MB. Cut the recording.")
    try:
        with h5py.File(path, "r") as file:
            yield file, path.name
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise InputError(
            f"'{path.name}' is no SNIRF file, or it is damaged or cut off. Copy it again from the instrument."
        ) from error


def _first(parent: Any, stem: str, what: str, name: str) -> tuple[Any, list[str]]:
    """Return the group `stem` or the `stem<number>` with the lowest number, and a remark if there are more."""
    names = [match for key in parent if (match := re.fullmatch(rf"{stem}(\d{{0,6}})", key))]
    found = sorted((int(match[1] or 0), match[0]) for match in names)
    if not found:
        raise InputError(f"'{name}' has no '{stem}' and is no SNIRF file.")
    remarks = [f"'{name}' holds {len(found)} {what}; the first is used."] if len(found) > 1 else []
    return _group(parent, found[0][1], name), remarks


def _inside(parent: Any, key: str, name: str) -> Any:
    """Return a member that the file itself holds; links to other files are refused before they are followed."""
    h5py = _h5py()
    link = parent.get(key, getlink=True)
    if link is None:
        raise InputError(f"'{name}' lacks '{parent.name.rstrip('/')}/{key}'. Is it a complete SNIRF file?")
    if not isinstance(link, h5py.HardLink):
        raise InputError(f"'{name}': '{key}' is a link to another place, which is not followed. Save a plain file.")
    return parent[key]


def _group(parent: Any, key: str, name: str) -> Any:
    found = _inside(parent, key, name)
    if not hasattr(found, "keys"):
        raise InputError(f"'{name}': '{key}' is not a group.")
    return found


def _dataset(parent: Any, key: str, name: str, largest: int) -> Any:
    """Return a dataset that is stored in this file, of at most `largest` numbers, without reading it."""
    found = _inside(parent, key, name)
    if not isinstance(found, _h5py().Dataset) or found.shape is None:
        raise InputError(f"'{name}': '{key}' is not an array.")
    properties = found.id.get_create_plist()
    if found.is_virtual or properties.get_external_count():
        raise InputError(f"'{name}': '{key}' is stored in other files, which are not opened. Save a plain file.")
    if {properties.get_filter(n)[0] for n in range(properties.get_nfilters())} - _FILTERS:
        raise InputError(f"'{name}': '{key}' is compressed with a plug-in, which is not loaded. Use gzip.")
    chunk = int(np.prod(found.chunks, dtype=np.float64)) if found.chunks else 0
    if found.size > largest or chunk > 16 * _BLOCK_VALUES:
        raise InputError(f"'{name}': '{key}' claims {max(found.size, chunk)} values, at most {largest} are accepted.")
    return found


def _array(parent: Any, key: str, name: str, largest: int) -> NDArray[np.float64]:
    found = _dataset(parent, key, name, largest)
    if found.dtype.kind not in "fiu":
        raise InputError(f"'{name}': '{key}' does not hold numbers.")
    return np.asarray(found[()], dtype=np.float64)


def _text(parent: Any, key: str, name: str) -> str:
    found = _dataset(parent, key, name, 16)
    if found.size != 1 or found.dtype.kind not in "OS" or found.dtype.itemsize > 1000:
        raise InputError(f"'{name}': '{key}' is not a text.")
    value = np.asarray(found[()]).ravel()[0]
    return _decoded(value)


def _decoded(text: Any) -> str:
    return (text.decode("utf-8", errors="replace") if isinstance(text, bytes) else str(text)).strip("\0 ")


def _measurement_list(block: Any, name: str) -> _Columns:
    """Return the measurement list, stored as one group per column or (since version 1.1) as one group of arrays."""
    if "measurementLists" in block:
        lists = _group(block, "measurementLists", name)
        fields = [_whole(_array(lists, field, name, MAX_COLUMNS).ravel(), field, name) for field in _FIELDS]
        if len({len(field) for field in fields}) != 1 or not len(fields[0]):
            raise InputError(f"'{name}': the arrays of measurementLists are empty or differ in length.")
        units = [""] * len(fields[0])
        if "dataUnit" in lists:
            stored = _dataset(lists, "dataUnit", name, MAX_COLUMNS)
            if stored.dtype.kind in "OS" and stored.dtype.itemsize <= 1000 and stored.shape == (len(units),):
                units = [_decoded(text) for text in stored[()]]
        return _Columns(fields[0], fields[1], fields[2], fields[3], units)
    if len(block) > MAX_COLUMNS:
        raise InputError(f"'{name}' lists {len(block)} channels; at most {MAX_COLUMNS} are accepted.")
    count = sum(re.fullmatch(r"measurementList\d{1,6}", key) is not None for key in block)
    if not count:
        raise InputError(f"'{name}' has no measurementList, so its columns have no meaning.")
    table = np.empty((4, count), dtype=np.int64)
    units = []
    for k in range(count):
        column = _group(block, f"measurementList{k + 1}", name)
        for row, field in enumerate(_FIELDS):
            value = _array(column, field, name, 16).ravel()
            if value.size != 1:
                raise InputError(f"'{name}': {field} of measurementList{k + 1} must be one number.")
            table[row, k] = _whole(value, field, name)[0]
        units.append(_text(column, "dataUnit", name) if "dataUnit" in column else "")
    return _Columns(table[0], table[1], table[2], table[3], units)


def _whole(values: NDArray[np.float64], field: str, name: str) -> NDArray[np.int64]:
    if not (np.isfinite(values).all() and (values == np.round(values)).all() and (np.abs(values) < 1e6).all()):
        raise InputError(f"'{name}': {field} must hold whole numbers.")
    return values.astype(np.int64)


def _averaged(block: Any, count: int, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return mean and standard error (count,) over the times that hold a number, and the number of times."""
    series = _dataset(block, "dataTimeSeries", name, MAX_VALUES)
    if series.dtype.kind not in "fiu":
        raise InputError(f"'{name}': 'dataTimeSeries' does not hold numbers.")
    shape = (1, *series.shape) if series.ndim == 1 else series.shape
    if len(shape) != 2 or shape[1] != count or not shape[0]:
        raise InputError(f"'{name}': the time series has the shape {series.shape}; {count} columns are listed.")
    number, total, squared = np.zeros(count), np.zeros(count), np.zeros(count)
    rows = max(1, _BLOCK_VALUES // count)
    shift = None
    for first in range(0, shape[0], rows):
        part = series[()][None] if series.ndim == 1 else series[first : first + rows]
        values = np.asarray(part, dtype=np.float64)
        known = np.isfinite(values)
        if shift is None:
            shift = np.where(known.any(axis=0), np.where(known, values, 0.0).sum(0) / np.maximum(known.sum(0), 1), 0.0)
        difference = np.where(known, values - shift, 0.0)
        number += known.sum(axis=0)
        total += difference.sum(axis=0)
        squared += (difference**2).sum(axis=0)
    assert shift is not None
    seen = np.maximum(number, 1)
    mean = np.where(number > 0, shift + total / seen, np.nan)
    variance = np.maximum(squared - total**2 / seen, 0.0) / np.maximum(number - 1, 1)
    return mean, np.where(number > 1, np.sqrt(variance / seen), np.nan), int(shape[0])


def _phases(
    columns: _Columns, mean: NDArray[np.float64], amplitude: NDArray[np.bool_]
) -> tuple[NDArray[np.float64] | None, str]:
    """Return the phase in degrees beside each amplitude column, or None and why."""
    at = np.flatnonzero(columns.kind == _PHASE)
    if not at.size:
        return None, ""
    scales = [_DEGREES_PER.get(columns.unit[k].lower()) for k in at]
    if None in scales:
        return None, "The phases were left out: the file does not say whether they are in degrees or radians."
    keys = zip(columns.source[at], columns.detector[at], columns.wavelength[at], strict=True)
    by_channel = {tuple(map(int, key)): mean[k] * scale for key, k, scale in zip(keys, at, scales, strict=True)}
    wanted = zip(columns.source[amplitude], columns.detector[amplitude], columns.wavelength[amplitude], strict=True)
    return np.array([by_channel.get(tuple(map(int, key)), np.nan) for key in wanted]), ""
