"""From tissue to optics: extinction tables with unit and source, absorption and reduced scattering per wavelength."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from BreastBiomarkersLib.errors import InputError
from numpy.typing import ArrayLike, NDArray

MAP_NAMES = ("hbo", "hbr", "water", "lipid", "scatter_amplitude", "scatter_power")
"""Rows of a maps array."""

MAP_UNITS = ("uM", "uM", "fraction", "fraction", "1/mm", "1")

PAPER_WAVELENGTHS_NM = (661.0, 735.0, 785.0, 808.0, 826.0, 852.0, 903.0, 912.0, 948.0)
"""The nine wavelengths of Feng 2022, doi 10.1364/OPTICA.446576."""

_TABLE_FILE = Path(__file__).parent / "data" / "extinction.csv"


@dataclass(frozen=True)
class Tissue:
    """Chromophores and scattering of one uniform tissue.

    Attributes
    ----------
    hbo, hbr : float, uM
        Oxygenated and deoxygenated hemoglobin (tetramer).
    water, lipid : float, fraction
        Volume fractions, 0 to 1.
    scatter_amplitude : float, mm^-1
        Reduced scattering at the reference wavelength of the `Spectra` (1000 nm unless said otherwise).
    scatter_power : float
        musp = amplitude * (wavelength / reference)^-power.
    """

    hbo: float
    hbr: float
    water: float
    lipid: float = 0.0
    scatter_amplitude: float = 1.0
    scatter_power: float = 1.0

    def values(self) -> NDArray[np.float64]:
        """(6,) values in the order of `MAP_NAMES`."""
        return np.array(astuple(self), dtype=np.float64)

    def describe(self) -> str:
        """Chromophores in words."""
        return f"HbO {self.hbo:g} uM, Hb {self.hbr:g} uM, water {100 * self.water:g} %"

    def maps(self, count: int) -> NDArray[np.float64]:
        """(6, count) uniform maps."""
        return np.repeat(self.values()[:, None], count, axis=1)


@dataclass(frozen=True, eq=False)
class Spectra:
    """Extinction at the measured wavelengths, from one named table.

    Attributes
    ----------
    wavelengths_nm : (W,) ndarray, nm
    extinction : (W, 4) ndarray
        HbO and HbR in mm^-1 per uM, water and lipid in mm^-1 per volume fraction, natural logarithm.
    table_name : str
        Which table the numbers are from; results carry it, and data made with one table are not fitted with another.
    scatter_reference_nm : float, nm
        Wavelength at which musp equals the scatter amplitude.
    """

    wavelengths_nm: NDArray[np.float64]
    extinction: NDArray[np.float64]
    table_name: str
    scatter_reference_nm: float = 1000.0

    def __post_init__(self) -> None:
        wavelengths = np.array(self.wavelengths_nm, dtype=np.float64)
        extinction = np.array(self.extinction, dtype=np.float64)
        if wavelengths.ndim != 1 or len(wavelengths) == 0:
            raise InputError("At least one wavelength in nm is needed.")
        if extinction.shape != (len(wavelengths), 4):
            raise InputError(
                f"The extinction of {len(wavelengths)} wavelengths has the shape {extinction.shape}; a row per "
                "wavelength with HbO, HbR, water, lipid is needed."
            )
        if not (np.isfinite(wavelengths).all() and np.isfinite(extinction).all() and (extinction >= 0).all()):
            raise InputError(f"Table '{self.table_name}' holds a negative value or one that is not a number.")
        if not self.scatter_reference_nm > 0:
            raise InputError(
                f"The scatter reference wavelength is {self.scatter_reference_nm} nm; it must be positive."
            )
        object.__setattr__(self, "wavelengths_nm", wavelengths)
        object.__setattr__(self, "extinction", extinction)

    def mua(self, maps: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the absorption (..., W, N) in mm^-1 of maps (..., 6, N): sum of extinction times concentration."""
        return np.asarray(self.extinction @ maps[..., :4, :])

    def musp(self, maps: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the reduced scattering (..., W, N) in mm^-1 of maps (..., 6, N): a (wavelength / reference)^-b."""
        return np.asarray(maps[..., 4:5, :] * self._musp_per_amplitude(maps))

    def musp_derivatives(self, maps: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return d musp / d scatter_amplitude and d musp / d scatter_power, (..., W, N), for maps (..., 6, N)."""
        per_amplitude = self._musp_per_amplitude(maps)
        logarithm = np.log(self.wavelengths_nm / self.scatter_reference_nm)[:, None]
        return per_amplitude, -logarithm * maps[..., 4:5, :] * per_amplitude

    def _musp_per_amplitude(self, maps: NDArray[np.float64]) -> NDArray[np.float64]:
        logarithm = np.log(self.wavelengths_nm / self.scatter_reference_nm)[:, None]
        return np.asarray(np.exp(-logarithm * maps[..., 5:6, :]))


def table_names() -> tuple[str, ...]:
    """Names of the extinction tables that are shipped; the first is the default."""
    return tuple(_read_tables())


def load_spectra(
    wavelengths_nm: ArrayLike = PAPER_WAVELENGTHS_NM, table: str = "nirfast", scatter_reference_nm: float = 1000.0
) -> Spectra:
    """Return the extinction at the given wavelengths, linearly interpolated in a shipped table.

    Parameters
    ----------
    wavelengths_nm : (W,) array_like, nm
    table : str
        One of `table_names`, with or without its version ("nirfast" or "nirfast-1").
    scatter_reference_nm : float, nm

    Raises
    ------
    InputError
        If the table is unknown or a wavelength lies outside it.
    """
    tables = _read_tables()
    matching = [name for name in tables if table in (name, name.rpartition("-")[0])]
    if not matching:
        raise InputError(f"There is no extinction table '{table}'. Choose one of: {', '.join(tables)}.")
    grid, columns = tables[matching[-1]]
    wavelengths = np.atleast_1d(np.asarray(wavelengths_nm, dtype=np.float64))
    outside = ~((wavelengths >= grid[0]) & (wavelengths <= grid[-1]))
    if outside.any():
        raise InputError(
            f"Wavelength {wavelengths[outside][0]:g} nm is outside the table '{matching[-1]}' "
            f"({grid[0]:g} to {grid[-1]:g} nm). Check the unit (nm) or give a table of your own."
        )
    extinction = np.column_stack([np.interp(wavelengths, grid, column) for column in columns])
    return Spectra(wavelengths, extinction, matching[-1], scatter_reference_nm)


def _read_tables() -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return for each table its wavelengths (n,) and columns (4, n) in the units of `Spectra.extinction`."""
    lines = [line for line in _TABLE_FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    header = lines[0].split(",")
    numbers = np.array([[float(value) for value in line.split(",")] for line in lines[1:]]).T
    names = list(dict.fromkeys(title.split(" ")[0] for title in header[1:]))
    return {
        name: (numbers[0], numbers[[i for i, title in enumerate(header) if title.split(" ")[0] == name]])
        for name in names
    }
