"""What the instrument measured: log amplitude per wavelength and channel, with its noise and what to leave out."""

from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path, require_file
from numpy.typing import ArrayLike, NDArray

DEFAULT_NOISE = 0.02
"""Standard deviation of the log amplitude where a file gives none: 2 % of the amplitude."""
MAX_BYTES = 2**30
"""Largest measurement file that is read."""
MIN_CHANNELS = 8
"""Fewer usable channels than this at every wavelength is not a tomographic measurement."""
MAX_WAVELENGTHS = 256
"""More different wavelengths than this are no wavelengths."""
LEAST_NOISE, LEAST_TYPICAL_NOISE = 1e-6, 3e-5
"""Smaller standard deviations than these shares of the amplitude, of one value and of most, are in another unit."""


@dataclass(frozen=True, eq=False)
class Measurements:
    """Amplitudes (and phases) of one exposure on a grid of W wavelengths and C channels.

    A channel is a source-detector pair. Sources and detectors carry the numbers of the instrument, counted from 1.

    Attributes
    ----------
    wavelengths_nm : (W,) ndarray, nm, ascending
    channels : (C, 2) ndarray of int
        Source number and detector number.
    log_amplitude : (W, C) ndarray
        Natural logarithm of the amplitude in any constant unit; NaN where nothing usable was measured.
    sd : (W, C) ndarray
        Standard deviation of `log_amplitude`, which is the relative standard deviation of the amplitude.
    active : (W, C) ndarray of bool
        What takes part in a reconstruction.
    phase_rad : (W, C) ndarray, rad, or None
        Phase of frequency-domain data, as in the file.
    remarks : tuple of str
        What was left out when the data were read, and why.
    name : str

    Raises
    ------
    InputError
        If shapes disagree, a number is repeated, or fewer than eight channels are active at every wavelength.
    """

    wavelengths_nm: NDArray[np.float64]
    channels: NDArray[np.int64]
    log_amplitude: NDArray[np.float64]
    sd: NDArray[np.float64]
    active: NDArray[np.bool_]
    phase_rad: NDArray[np.float64] | None = None
    remarks: tuple[str, ...] = ()
    name: str = "measurements"

    def __post_init__(self) -> None:
        shape = (len(self.wavelengths_nm), len(self.channels))
        phase_shape = shape if self.phase_rad is None else self.phase_rad.shape
        if {self.log_amplitude.shape, self.sd.shape, self.active.shape, phase_shape} != {shape}:
            raise InputError(f"'{self.name}': the arrays do not have one value per wavelength and channel {shape}.")
        if (np.diff(self.wavelengths_nm) <= 0).any():
            raise InputError(f"'{self.name}': the wavelengths must ascend and be given once each.")
        if not (np.isfinite(self.log_amplitude[self.active]).all() and (self.sd[self.active] > 0).all()):
            raise InputError(f"'{self.name}': an active channel has no finite log amplitude or no positive sd.")
        usable = self.active.sum(axis=1)
        if not usable.size or usable.max() < MIN_CHANNELS:
            raise InputError(
                f"'{self.name}' has at most {usable.max() if usable.size else 0} usable channels at a wavelength; "
                f"{MIN_CHANNELS} are needed. {' '.join(self.remarks)}".rstrip()
            )

    @property
    def amplitude(self) -> NDArray[np.float64]:
        """(W, C) amplitude, NaN where nothing usable was measured."""
        return np.exp(self.log_amplitude)

    def remarking(self, *remarks: str) -> Measurements:
        """Return the same data with further remarks."""
        return replace(self, remarks=(*self.remarks, *remarks))

    def without(self, excluded: NDArray[np.bool_], reason: str) -> Measurements:
        """Return the data with the channels marked in `excluded` (W, C) left out, saying so in a remark."""
        count = int((self.active & excluded).sum())
        if not count:
            return self
        remark = f"{count} of {self.active.size} values left out: {reason}."
        return replace(self, active=self.active & ~excluded, remarks=(*self.remarks, remark))

    def with_noise(self, relative_sd: float) -> Measurements:
        """Return the data with the same relative standard deviation (0.02 = 2 %) everywhere.

        Raises
        ------
        InputError
            If it is not between 0.0001 and 0.5.
        """
        if not 1e-4 <= relative_sd <= 0.5:
            raise InputError(f"A relative noise of {relative_sd} was given; 0.02 stands for 2 %.")
        return replace(self, sd=np.full_like(self.sd, relative_sd))

    def at_wavelengths(self, wavelengths_nm: ArrayLike) -> Measurements:
        """Return the data of some of the wavelengths.

        Raises
        ------
        InputError
            If a wavelength was not measured.
        """
        wanted = np.unique(np.asarray(wavelengths_nm, dtype=np.float64))
        at = np.searchsorted(self.wavelengths_nm, wanted).clip(max=len(self.wavelengths_nm) - 1)
        missing = wanted[np.abs(self.wavelengths_nm[at] - wanted) > 0.01]
        if missing.size:
            raise InputError(
                f"'{self.name}' has no data at {_listed(missing)} nm, only {_listed(self.wavelengths_nm)}."
            )
        phase = None if self.phase_rad is None else self.phase_rad[at]
        return replace(
            self,
            wavelengths_nm=self.wavelengths_nm[at],
            log_amplitude=self.log_amplitude[at],
            sd=self.sd[at],
            active=self.active[at],
            phase_rad=phase,
        )

    def at_channels(self, channels: NDArray[np.integer]) -> Measurements:
        """Return the data in the order of other channels; what was not measured there is inactive.

        Parameters
        ----------
        channels : (n, 2) ndarray of int
            Source and detector numbers, counted from 1.

        Raises
        ------
        InputError
            If data exist for a source or detector that none of the channels has.
        """
        for column, kind in enumerate(("source", "detector")):
            unknown = np.setdiff1d(self.channels[:, column], channels[:, column])
            if unknown.size:
                raise InputError(
                    f"'{self.name}' has data for {kind} {_listed(unknown)}, which has no position among the optodes. "
                    "Give the optode file that belongs to this measurement."
                )
        position = {(int(s), int(d)): n for n, (s, d) in enumerate(self.channels)}
        at = np.array([position.get((int(s), int(d)), -1) for s, d in channels])
        missing = at < 0
        lost = len(self.channels) - len(np.unique(at[~missing]))
        remarks = self.remarks
        if lost:
            remarks = (*remarks, f"{lost} measured channels are not in the list of channels to use and were left out.")
        if missing.any():
            remarks = (*remarks, f"{int(missing.sum())} of {len(channels)} channels were not measured.")
        phase = None if self.phase_rad is None else np.where(missing, np.nan, self.phase_rad[:, at])
        return replace(
            self,
            channels=np.asarray(channels, dtype=np.int64),
            log_amplitude=np.where(missing, np.nan, self.log_amplitude[:, at]),
            sd=self.sd[:, at],
            active=self.active[:, at] & ~missing,
            phase_rad=phase,
            remarks=remarks,
        )


def measurements_from_rows(
    source: ArrayLike,
    detector: ArrayLike,
    wavelength_nm: ArrayLike,
    amplitude: ArrayLike,
    phase_deg: ArrayLike | None = None,
    sd: ArrayLike | None = None,
    active: ArrayLike | None = None,
    name: str = "measurements",
) -> Measurements:
    """Return a table of single measurements, one per row in any order, as Measurements.

    Rows that cannot be used (amplitude zero, negative or not a number, marked inactive) become inactive values; each
    kind is counted in a remark.

    Parameters
    ----------
    source, detector : (n,) array of int
        Numbers of the instrument, counted from 1.
    wavelength_nm : (n,) array, nm
    amplitude : (n,) array
        Detected light in any constant unit.
    phase_deg : (n,) array, degrees, optional
    sd : (n,) array, optional
        Standard deviation of the amplitude, in the amplitude's unit; 2 % of it where not given.
    active : (n,) array of bool, optional
    name : str
        What to call the data in messages.

    Raises
    ------
    InputError
        If a column does not fit, a source-detector-wavelength is given twice, a number or wavelength is impossible,
        or too little is left.
    """
    columns = [np.asarray(c) for c in (source, detector, wavelength_nm, amplitude)]
    amount = len(columns[3])
    if any(c.shape != (amount,) for c in columns):
        raise InputError(f"'{name}': source, detector, wavelength and amplitude differ in length.")
    if not amount:
        raise InputError(f"'{name}' holds no measurement.")
    numbers = _whole_numbers(columns[0], columns[1], name)
    nm = np.asarray(columns[2], dtype=np.float64)
    _check_wavelengths(nm, name)
    values = np.asarray(columns[3], dtype=np.float64)
    wavelengths = np.unique(nm)
    if len(wavelengths) > MAX_WAVELENGTHS:
        raise InputError(
            f"'{name}' names {len(wavelengths)} different wavelengths; at most {MAX_WAVELENGTHS} are accepted. Is "
            "another column taken for the wavelength?"
        )
    channels, channel_at = np.unique(numbers, axis=0, return_inverse=True)
    at = (np.searchsorted(wavelengths, nm), channel_at.ravel())
    flat = np.ravel_multi_index(at, (len(wavelengths), len(channels)))
    repeated = np.flatnonzero(np.bincount(flat) > 1)
    if repeated.size:
        w, c = np.unravel_index(repeated[0], (len(wavelengths), len(channels)))
        raise InputError(
            f"'{name}' holds {len(repeated)} repeated measurements, first source {channels[c, 0]}, detector "
            f"{channels[c, 1]}, {wavelengths[w]:g} nm. Average the repetitions or remove them."
        )
    shape = (len(wavelengths), len(channels))

    def grid(column: NDArray[Any], fill: float) -> NDArray[Any]:
        result = np.full(shape, fill, dtype=column.dtype)
        result[at] = column
        return result

    given = np.ones(amount, dtype=bool) if active is None else np.asarray(active, dtype=bool)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        log_amplitude = np.where(values > 0, np.log(values), np.nan)
        relative = np.full(amount, np.nan) if sd is None else np.asarray(sd, dtype=np.float64) / values
    relative = np.where(np.isnan(relative), DEFAULT_NOISE, relative)
    usable, remarks = _usable_rows(values, given, relative)
    if (usable & (relative <= 0)).any():
        raise InputError(f"'{name}': {int((usable & (relative <= 0)).sum())} standard deviations are zero or negative.")
    used = relative[usable]
    if used.size and (used.min() < LEAST_NOISE or np.median(used) < LEAST_TYPICAL_NOISE):
        raise InputError(
            f"'{name}': the standard deviations are {np.median(used):.1g} of the amplitude in the middle and "
            f"{used.min():.1g} at least, less than any instrument's. Give them in the unit of the amplitude, not as a "
            "share of it, or leave the column out."
        )
    if amount < shape[0] * shape[1]:
        remarks.append(f"{shape[0] * shape[1] - amount} source-detector-wavelength combinations have no row.")
    phase = None if phase_deg is None else np.deg2rad(np.asarray(phase_deg, dtype=np.float64))
    return Measurements(
        wavelengths_nm=wavelengths,
        channels=channels,
        log_amplitude=grid(np.where(np.isfinite(log_amplitude), log_amplitude, np.nan), np.nan),
        sd=grid(np.where(usable, relative, DEFAULT_NOISE), DEFAULT_NOISE),
        active=grid(usable, False),
        phase_rad=None if phase is None else grid(phase, np.nan),
        remarks=tuple(remarks),
        name=name,
    )


def read_measurements(path: str | Path) -> Measurements:
    """Return the data of a Nirfast `.paa`, a `.snirf` or a `.csv` file.

    Raises
    ------
    InputError
        If the file is of another kind, missing or damaged.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".csv":
        return read_csv_measurements(path)
    if suffix == ".paa":
        from NIRSTReconstructionLib.nirfast import read_paa

        return read_paa(path)
    if suffix == ".snirf":
        from NIRSTReconstructionLib.snirf import read_snirf_measurements

        return read_snirf_measurements(path)
    raise InputError(f"'{path}' is not a known kind of data; give a Nirfast .paa, a SNIRF file or a CSV.")


def read_csv_measurements(path: str | Path) -> Measurements:
    """Return the measurements of a CSV with the columns source, detector, wavelength, amplitude[, phase, sd, active].

    Units: wavelength nm, amplitude any, phase degrees, sd the amplitude's; `active` is 0 or 1. An empty amplitude is a
    value that is missing.

    Raises
    ------
    InputError
        If the file is missing, too large, lacks a column, or holds something that is not a number.
    """
    path = require_file(path, "data")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"'{path.name}' is larger than {MAX_BYTES >> 20} MB. Is it a measurement table?")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            columns = _read_columns(csv.reader(file), path.name)
    except UnicodeDecodeError as error:
        raise InputError(f"'{path.name}' is not a text file. Save it as CSV.") from error
    except csv.Error as error:
        raise InputError(f"'{path.name}' is damaged: a cell in it has no end. Save it as CSV again.") from error
    return measurements_from_rows(
        columns["source"],
        columns["detector"],
        columns["wavelength"],
        columns["amplitude"],
        phase_deg=columns.get("phase"),
        sd=columns.get("sd"),
        active=None if "active" not in columns else np.nan_to_num(columns["active"]) > 0,
        name=path.name,
    ).remarking(*unfinished(path))


def unfinished(path: Path) -> list[str]:
    """Return a remark if the last line of a text file has no end: its last number may be cut off."""
    with path.open("rb") as file:
        file.seek(-1, io.SEEK_END)
        complete = file.read(1) in b"\r\n"
    return [] if complete else [f"The last line of '{path.name}' has no end. Was the file cut off in its last number?"]


_REQUIRED = ("source", "detector", "wavelength", "amplitude")


def _read_columns(reader: Iterator[list[str]], name: str) -> dict[str, NDArray[np.float64]]:
    """Return the numbers of a table by column, row after row: the text is never held as a whole."""
    titles = next(reader, [])
    header = [cell.strip().lower().removesuffix("_nm").removesuffix("_deg") for cell in titles]
    lacking = [column for column in _REQUIRED if column not in header]
    if lacking:
        joined = ",".join(titles)
        other = next((what for mark, what in ((";", "semicolons"), ("\t", "tabs")) if mark in joined), "")
        hint = f" Its cells are separated by {other}: save it with commas, and points in numbers." if other else ""
        raise InputError(
            f"'{name}' lacks the column {', '.join(lacking)}; its first line must name {', '.join(_REQUIRED)}.{hint}"
        )
    places = {column: header.index(column) for column in (*_REQUIRED, "phase", "sd", "active") if column in header}
    for column in places:
        if header.count(column) > 1:
            raise InputError(f"'{name}' has the column {column} {header.count(column)} times. Keep the right one.")
    values = {column: array("d") for column in places}
    for number, row in enumerate(reader, start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            raise InputError(f"'{name}' line {number} has {len(row)} of {len(header)} cells. Is the file complete?")
        for column, place in places.items():
            cell = row[place].strip()
            try:
                values[column].append(float(cell) if cell else np.nan)
            except ValueError:
                raise InputError(f"'{name}' line {number}: '{cell[:40]}' in '{column}' is not a number.") from None
    return {column: np.frombuffer(kept, dtype=np.float64) for column, kept in values.items()}


def write_csv_measurements(measurements: Measurements, path: str | Path) -> None:
    """Write the measurements as a CSV that `read_csv_measurements` reads back."""
    amplitude = measurements.amplitude
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        phase = measurements.phase_rad
        writer.writerow(
            ["source", "detector", "wavelength_nm", "amplitude", *(["phase_deg"] if phase is not None else [])]
            + ["sd", "active"]
        )
        for w, nm in enumerate(measurements.wavelengths_nm):
            for c, (source, detector) in enumerate(measurements.channels):
                value = amplitude[w, c]
                cells = [source, detector, f"{nm:g}", f"{value:.9g}" if np.isfinite(value) else ""]
                if phase is not None:
                    cells.append(f"{np.rad2deg(phase[w, c]):.6g}" if np.isfinite(phase[w, c]) else "")
                sd = value * measurements.sd[w, c]
                cells += [f"{sd:.6g}" if np.isfinite(sd) else "", int(measurements.active[w, c])]
                writer.writerow(cells)


def _usable_rows(
    amplitude: NDArray[np.float64], given: NDArray[np.bool_], relative_sd: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], list[str]]:
    remarks = []
    usable = given.copy()
    kinds = [
        ("marked inactive in the file", ~given),
        ("without a number", given & ~np.isfinite(amplitude)),
        ("with amplitude zero (dark or dead channel)", given & (amplitude == 0)),
        ("with negative amplitude (offset too large?)", given & (amplitude < 0)),
        (
            "below their own noise (sd, in the unit of the amplitude, is no less than it)",
            given & (amplitude > 0) & (relative_sd >= 1),
        ),
    ]
    for what, rows in kinds:
        usable &= ~rows
        if rows.any():
            remarks.append(f"{int(rows.sum())} of {len(amplitude)} measurements {what} were left out.")
    return usable, remarks


def _whole_numbers(source: NDArray[Any], detector: NDArray[Any], name: str) -> NDArray[np.int64]:
    numbers = np.stack([source, detector], axis=1).astype(np.float64)
    wrong = ~np.isfinite(numbers) | (numbers < 1) | (numbers != np.round(numbers)) | (numbers > 1e6)
    if wrong.any():
        row = int(np.argmax(wrong.any(axis=1)))
        raise InputError(
            f"'{name}' row {row + 1}: source {numbers[row, 0]:g}, detector {numbers[row, 1]:g}; "
            "they must be whole numbers counted from 1."
        )
    return numbers.astype(np.int64)


def _check_wavelengths(nm: NDArray[np.float64], name: str) -> None:
    if not np.isfinite(nm).all():
        raise InputError(f"'{name}' has a wavelength that is not a number.")
    if (nm < 600).any() or (nm > 1100).any():
        low, high = nm.min(), nm.max()
        hint = " They look like micrometers: multiply by 1000." if 0.5 < low and high < 1.2 else ""
        raise InputError(f"'{name}' has wavelengths from {low:g} to {high:g}; 600 to 1100 nm is expected.{hint}")


def _listed(numbers: Sequence[float] | NDArray[Any]) -> str:
    shown = [f"{n:g}" for n in numbers[:12]]
    return ", ".join(shown) + (" ..." if len(numbers) > 12 else "")
