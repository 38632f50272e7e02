"""From tissue maps to light: the forward model that predicts the logarithm of the measured data."""

from __future__ import annotations

import numpy as np
from BreastBiomarkersLib.errors import InputError
from numpy.typing import NDArray
from scipy import sparse

from NIRSTReconstructionLib.diffusion import SPEED_OF_LIGHT, DiffusionOperator, boundary_coefficient
from NIRSTReconstructionLib.jacobian import log_fluence_jacobian
from NIRSTReconstructionLib.mesh import TriangleMesh
from NIRSTReconstructionLib.optodes import Optodes
from NIRSTReconstructionLib.solvers import make_solver
from NIRSTReconstructionLib.spectra import MAP_NAMES, MAP_UNITS, Spectra

SOURCE_MODELS = ("line", "point")

MAX_MUA = 1.0
"""Largest absorption accepted, mm^-1."""
MAX_MUSP = 50.0
"""Largest reduced scattering accepted, mm^-1."""
MAX_JACOBIAN_BYTES = 4 * 2**30

_MATRICES_AT_ONCE = 48  # matrices that are assembled at one time: their entries stay below about 10 MB
_FIELDS_AT_ONCE = 16  # matrices whose complete fields are kept at one time
_POINT_SOURCE_NODES = 24  # Gauss points in the spatial frequency along the plane's normal
_POINT_SOURCE_DECAY = 11.0  # the integrand has fallen by exp(-11) at the last of them, at the shortest distance


class ForwardModel:
    """Predicts the data of one optode layout on one mesh.

    Parameters
    ----------
    mesh : TriangleMesh
    optodes : Optodes
        Sources inside the mesh, detectors on its rim (`place_optodes`).
    spectra : Spectra
    refractive_index : float
    boundary_convention : str
        See `diffusion.boundary_coefficient`.
    modulation_mhz : float
        0 for continuous wave.
    source_model : str
        "line": sources are lines through the plane, the plain 2-D equation. "point": point sources in a body that does
        not change along the plane's normal ("2.5D").
    solver : str
        "splu" (scipy), "lanes" (numba, faster), or "auto": lanes where numba is installed. `self.solver_name` says
        which one is used.

    Notes
    -----
    Data are y = ln(Phi / (2 A)) at the detectors for sources of unit power: real for continuous wave, complex
    otherwise, the real part the logarithm of the amplitude, the imaginary part the phase in radian, negative for a
    delay.

    For point sources the fluence is the inverse cosine transform over the spatial frequency along the normal,
    Phi_3D = (1 / pi) int_0^inf Phi_2D(mua + kappa kz^2) dkz, by Gauss-Legendre quadrature with the frequencies `kz`
    (mm^-1) and `kz_weights`. For line sources kz is 0 alone.

    Raises
    ------
    InputError
        If an optode is outside the mesh or a setting is unknown.
    """

    def __init__(
        self,
        mesh: TriangleMesh,
        optodes: Optodes,
        spectra: Spectra,
        *,
        refractive_index: float = 1.33,
        boundary_convention: str = "fresnel",
        modulation_mhz: float = 0.0,
        source_model: str = "line",
        solver: str = "auto",
    ) -> None:
        if source_model not in SOURCE_MODELS:
            raise InputError(f"Unknown source model '{source_model}'. Choose one of: {', '.join(SOURCE_MODELS)}.")
        if not 0 <= modulation_mhz <= 1000:
            raise InputError(f"The modulation is {modulation_mhz:g} MHz; 0 (continuous wave) to 1000 is possible.")
        self.mesh = mesh
        self.optodes = optodes
        self.spectra = spectra
        self.refractive_index = refractive_index
        self.boundary_convention = boundary_convention
        self.modulation_mhz = modulation_mhz
        self.source_model = source_model
        self.operator = DiffusionOperator(mesh, boundary_coefficient(refractive_index, boundary_convention))
        self._delay = 2j * np.pi * modulation_mhz * 1e6 * refractive_index / SPEED_OF_LIGHT  # i omega / c, mm^-1
        self.kz, self.kz_weights = _normal_frequencies(source_model, optodes)
        sources = mesh.evaluation(optodes.sources).T.tocsr()
        self._detectors = mesh.evaluation(optodes.detectors).T.tocsr()
        self._solver = make_solver(solver, self.operator, sources, self._detectors)

    @property
    def solver_name(self) -> str:
        """The solver in use: "lanes" or "splu"."""
        return self._solver.name

    def describe(self) -> dict[str, str | float | int]:
        """Return the settings that belong in every result made with this model."""
        return {
            "nodes": len(self.mesh.nodes),
            "element_order": self.mesh.order,
            "extinction_table": self.spectra.table_name,
            "scatter_reference_nm": self.spectra.scatter_reference_nm,
            "refractive_index": self.refractive_index,
            "boundary_convention": self.boundary_convention,
            "modulation_mhz": self.modulation_mhz,
            "source_model": self.source_model,
            "solver": self.solver_name,
            "layout_id": self.optodes.layout_id,
        }

    def measure(self, maps: NDArray[np.float64], *, at_quadrature: bool = False) -> NDArray:
        """Return the data y (W, C) of tissue maps.

        Parameters
        ----------
        maps : (6, N) ndarray
            HbO uM, HbR uM, water fraction, lipid fraction, scatter amplitude mm^-1, scatter power at the mesh nodes
            (`spectra.MAP_NAMES`). With `at_quadrature`, (6, Q) values at `mesh.quadrature.points`: tissue that changes
            inside an element is then seen as it is.

        Raises
        ------
        InputError
            If a value is not finite, absorption or scattering is negative, or so large that a unit must be wrong.
        """
        values = self._map_values(maps, at_quadrature)
        return self._measure_optical(self.spectra.mua(values), self.spectra.musp(values))

    def measure_many(self, maps: NDArray[np.float64], *, at_quadrature: bool = False) -> NDArray:
        """Return the data (n, W, C) of n bodies, maps (n, 6, N) as for `measure`: faster than one after the other."""
        values = np.stack([self._map_values(one, at_quadrature) for one in maps])
        mua, musp = self.spectra.mua(values), self.spectra.musp(values)
        rows = mua.shape[0] * mua.shape[1]
        data = self._measure_optical(mua.reshape(rows, -1), musp.reshape(rows, -1))
        return data.reshape(*mua.shape[:2], -1)

    def measure_optical(
        self, mua: NDArray[np.float64], musp: NDArray[np.float64], *, at_quadrature: bool = False
    ) -> NDArray:
        """Return the data y (W, C) of absorption and reduced scattering, each (W, N) or (W, Q), mm^-1.

        Raises
        ------
        InputError
            If a shape is wrong, a value is not finite or impossible.
        """
        if not at_quadrature:
            mua, musp = (self._to_quadrature(np.atleast_2d(values)) for values in (mua, musp))
        shape = (len(self.spectra.wavelengths_nm), len(self.mesh.quadrature.weights))
        for name, values in (("mua", mua), ("musp", musp)):
            if values.shape != shape:
                raise InputError(
                    f"{name} has the shape {values.shape}; a row for each of {shape[0]} wavelengths is needed."
                )
        return self._measure_optical(mua, musp)

    def measure_with_jacobian(
        self,
        maps: NDArray[np.float64],
        basis: sparse.csr_array | None = None,
        parameters: tuple[str, ...] = MAP_NAMES,
        *,
        at_quadrature: bool = False,
        transform: NDArray[np.float64] | None = None,
    ) -> tuple[NDArray, NDArray]:
        """Return the data y (W, C) and their derivatives J (W, C, P, B).

        Parameters
        ----------
        maps : (6, N) ndarray
            See `measure`.
        basis : (N, B) sparse array or None
            Maps are changed by ``basis @ coefficients``, and J is with respect to those coefficients; None: one
            coefficient per node. With `at_quadrature`, (Q, B).
        parameters : tuple of str
            Which of `MAP_NAMES` to differentiate by, P of them.
        transform : (B, U) ndarray, optional
            From fewer unknowns to the coefficients; J (W, C, P, U) is then by the unknowns.

        Returns
        -------
        y : (W, C) ndarray
        J : (W, C, P, B) ndarray
            Real for continuous wave; complex otherwise: real part for ln amplitude, imaginary part for phase.

        Raises
        ------
        InputError
            See `measure`; also if J would need more than 4 GiB.
        """
        values = self._map_values(maps, at_quadrature)
        basis = self._basis_at_quadrature(basis, at_quadrature)
        unknown = [name for name in parameters if name not in MAP_NAMES]
        if unknown or not parameters:
            raise InputError(f"Unknown parameter '{', '.join(unknown)}'. Choose from: {', '.join(MAP_NAMES)}.")
        wavelengths, channels = len(self.spectra.wavelengths_nm), len(self.optodes.channels)
        kind = np.complex128 if self.modulation_mhz else np.float64
        unknowns = basis.shape[1] if transform is None else transform.shape[1]
        shape = (wavelengths, channels, len(parameters), unknowns)
        size = np.prod(shape, dtype=np.float64) * np.dtype(kind).itemsize
        if size > MAX_JACOBIAN_BYTES:
            raise InputError(f"The Jacobian would need {size / 2**30:.1f} GiB. Use a coarser reconstruction basis.")

        mua, kappa = _check_optical(self.spectra.mua(values), self.spectra.musp(values))
        derivatives = self.spectra.musp_derivatives(values)
        data = np.empty((wavelengths, channels), dtype=kind)
        jacobian = np.empty(shape, dtype=kind)
        together = max(1, _FIELDS_AT_ONCE // len(self.kz))
        for first in range(0, wavelengths, together):
            chunk = slice(first, min(first + together, wavelengths))
            fields = self._solver.fields(self._entries(mua[chunk], kappa[chunk]))
            fluence, adjoint = (field.reshape(len(self.kz), -1, *field.shape[1:]) for field in fields)
            data[chunk] = self._detected(fluence)
            jacobian[chunk] = log_fluence_jacobian(
                self.operator,
                fluence,
                adjoint,
                data[chunk],
                self.optodes.channels,
                kappa[chunk],
                self.kz,
                self.kz_weights,
                basis,
                parameters,
                self.spectra.extinction[chunk],
                (derivatives[0][chunk], derivatives[1][chunk]),
                transform,
            )
        return self._log_data(data, mua, kappa), jacobian

    def _measure_optical(self, mua: NDArray[np.float64], musp: NDArray[np.float64]) -> NDArray:
        """Return the data (n W, C) of properties at the integration points, (n W, Q), wavelengths running fastest."""
        mua, kappa = _check_optical(mua, musp)
        source, detector = self.optodes.channels.T
        fluence = []
        together = max(1, _MATRICES_AT_ONCE // len(self.kz))
        for first in range(0, len(mua), together):
            chunk = slice(first, first + together)
            transfer = self._solver.transfer(self._entries(mua[chunk], kappa[chunk]))[:, source, detector]
            fluence.append(np.tensordot(self.kz_weights, transfer.reshape(len(self.kz), -1, len(source)), 1))
        return self._log_data(np.concatenate(fluence), mua, kappa)

    def _detected(self, fluence: NDArray) -> NDArray:
        """Return Phi_sd (W, C) of source fields (G, W, N, S), summed over the frequencies along the normal."""
        total = np.tensordot(self.kz_weights, fluence, 1)
        source, detector = self.optodes.channels.T
        return np.stack([(self._detectors.T @ field)[detector, source] for field in total])

    def _map_values(self, maps: NDArray[np.float64], at_quadrature: bool) -> NDArray[np.float64]:
        """Return checked maps at the integration points, (6, Q)."""
        maps = np.asarray(maps, dtype=np.float64)
        place, count = ("integration points", len(self.mesh.quadrature.weights))
        if not at_quadrature:
            place, count = "nodes", len(self.mesh.nodes)
        if maps.shape != (len(MAP_NAMES), count):
            raise InputError(f"The maps have the shape {maps.shape}; {(len(MAP_NAMES), count)} is needed ({place}).")
        if not np.isfinite(maps).all():
            row = int(np.flatnonzero(~np.isfinite(maps).all(axis=1))[0])
            raise InputError(f"The {MAP_NAMES[row]} map holds a value that is not a number.")
        if maps[:4].min() < 0:
            row = int(maps[:4].min(axis=1).argmin())
            raise InputError(
                f"The {MAP_NAMES[row]} map holds {maps[row].min():.4g} {MAP_UNITS[row]}; it must not be negative."
            )
        if maps[4].min() <= 0:
            raise InputError("The scatter_amplitude map is zero or negative somewhere; diffusion needs scattering.")
        return maps if at_quadrature else self._to_quadrature(maps)

    def _to_quadrature(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if values.shape[-1] != len(self.mesh.nodes):
            raise InputError(f"A map has {values.shape[-1]} values; the mesh has {len(self.mesh.nodes)} nodes.")
        return np.asarray((self.mesh.quadrature.interpolation @ values.T).T)

    def _basis_at_quadrature(self, basis: sparse.csr_array | None, at_quadrature: bool) -> sparse.csr_array:
        """Return the basis (Q, B)."""
        interpolation = self.mesh.quadrature.interpolation
        if basis is None:
            basis = sparse.eye_array(interpolation.shape[0], format="csr") if at_quadrature else None
            return interpolation if basis is None else basis
        rows = interpolation.shape[0] if at_quadrature else interpolation.shape[1]
        if basis.shape[0] != rows:
            raise InputError(f"The basis has {basis.shape[0]} rows; {rows} are needed.")
        return sparse.csr_array(basis if at_quadrature else interpolation @ basis)

    def _entries(self, mua: NDArray[np.float64], kappa: NDArray[np.float64]) -> NDArray:
        """Return matrix entries (n, G*W) for W wavelengths (W, Q) at each of the G frequencies along the normal."""
        absorption = mua + self._delay if self.modulation_mhz else mua
        shifted = np.concatenate([absorption + kappa * kz**2 for kz in self.kz])
        return self.operator.entries(shifted.T, np.tile(kappa, (len(self.kz), 1)).T)

    def _log_data(self, fluence: NDArray, mua: NDArray[np.float64], kappa: NDArray[np.float64]) -> NDArray:
        """Return ln of the exitance (W, C); the phase's branch is the one nearest to a uniform medium's."""
        exitance = fluence / (2 * self.operator.boundary)
        if not self.modulation_mhz:
            if not exitance.min() > 0:
                w, c = np.unravel_index(exitance.argmin(), exitance.shape)
                s, d = self.optodes.channels[c] + 1
                nm = self.spectra.wavelengths_nm[w % len(self.spectra.wavelengths_nm)]
                raise InputError(
                    f"The model's light from source {s} to detector {d} at {nm:g} nm is not positive: lost in "
                    "rounding, or the mesh is too coarse. Check the tissue values' units."
                )
            return np.asarray(np.log(exitance))
        angle = np.angle(exitance)
        weights = self.mesh.quadrature.weights / self.mesh.area_mm2
        decay = np.sqrt((mua @ weights + self._delay) / (kappa @ weights))
        expected = -decay.imag[:, None] * self.optodes.distances
        return np.log(np.abs(exitance)) + 1j * (angle + 2 * np.pi * np.round((expected - angle) / (2 * np.pi)))


def _check_optical(
    mua: NDArray[np.float64], musp: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mua and kappa = 1 / (3 (mua + musp)) after looking for impossible values."""
    for name, values, limit in (("absorption", mua, MAX_MUA), ("reduced scattering", musp, MAX_MUSP)):
        if not np.isfinite(values).all():
            raise InputError(f"The {name} holds a value that is not a number.")
        if values.min() < 0 or values.max() > limit:
            wrong = values.min() if values.min() < 0 else values.max()
            raise InputError(
                f"The {name} reaches {wrong:.4g} 1/mm; 0 to {limit:g} is possible. Check units: uM not mM, fraction "
                "not percent, 1/mm not 1/cm."
            )
    if musp.min() == 0:
        raise InputError("The reduced scattering is zero somewhere; diffusion needs scattering.")
    return mua, 1 / (3 * (mua + musp))


def _normal_frequencies(source_model: str, optodes: Optodes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return spatial frequencies along the normal (mm^-1) and weights; for line sources the single frequency 0."""
    if source_model == "line":
        return np.zeros(1), np.ones(1)
    nodes, weights = np.polynomial.legendre.leggauss(_POINT_SOURCE_NODES)
    highest = _POINT_SOURCE_DECAY / optodes.distances.min()
    # kz = highest t^2 crowds the points toward 0, where the far channels have their signal
    t = 0.5 * (nodes + 1)
    return highest * t**2, weights * highest * t / np.pi
