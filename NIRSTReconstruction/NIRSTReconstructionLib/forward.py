"""From tissue maps to light: the forward model that predicts the logarithm of the measured data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

from BreastBiomarkersLib.errors import InputError
from NIRSTReconstructionLib.diffusion import SPEED_OF_LIGHT, DiffusionOperator, boundary_coefficient
from NIRSTReconstructionLib.mesh import TriangleMesh
from NIRSTReconstructionLib.optodes import Optodes
from NIRSTReconstructionLib.spectra import MAP_NAMES, Spectra

SOLVERS = ("auto", "lanes", "splu")
SOURCE_MODELS = ("line", "point")


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
        "splu" (scipy), "lanes" (numba, faster), or "auto": lanes where numba can be imported. `self.solver` says which
        one is used.

    Notes
    -----
    Data are y = ln(Phi / (2 A)) at the detectors for sources of unit power: real for continuous wave, complex otherwise,
    the real part the logarithm of the amplitude, the imaginary part the phase in radian, negative for a delay.
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
    ) -> None: ...

    def measure(self, maps: NDArray[np.float64], *, at_quadrature: bool = False) -> NDArray:
        """Return the data y (W, C) of tissue maps.

        Parameters
        ----------
        maps : (6, N) ndarray
            HbO uM, HbR uM, water fraction, lipid fraction, scatter amplitude mm^-1, scatter power at the mesh nodes
            (`spectra.MAP_NAMES`). With `at_quadrature`, (6, Q) values at `mesh.quadrature.points`: tissue that changes
            inside an element is then seen as it is.
        """
        raise NotImplementedError

    def measure_optical(
        self, mua: NDArray[np.float64], musp: NDArray[np.float64], *, at_quadrature: bool = False
    ) -> NDArray:
        """Return the data y (W, C) of absorption and reduced scattering, each (W, N) or (W, Q), mm^-1."""
        raise NotImplementedError

    def measure_with_jacobian(
        self,
        maps: NDArray[np.float64],
        basis: sparse.csr_array | None = None,
        parameters: tuple[str, ...] = MAP_NAMES,
        *,
        at_quadrature: bool = False,
    ) -> tuple[NDArray, NDArray]:
        """Return the data y (W, C) and their derivatives J (W, C, P, B).

        Parameters
        ----------
        maps : (6, N) ndarray
            See `measure`.
        basis : (N, B) sparse array or None
            Maps are changed by ``basis @ coefficients`` (J is with respect to those coefficients); None: one
            coefficient per node. With `at_quadrature`, (Q, B).
        parameters : tuple of str
            Which of `MAP_NAMES` to differentiate by, P of them.

        Returns
        -------
        y : (W, C) ndarray
        J : (W, C, P, B) ndarray
            Real for continuous wave; complex otherwise: real part for ln amplitude, imaginary part for phase.

        Raises
        ------
        InputError
            If J would need more than 4 GiB.
        """
        raise NotImplementedError
