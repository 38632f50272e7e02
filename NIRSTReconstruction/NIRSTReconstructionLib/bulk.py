"""The homogeneous tissue that explains the data best: where every reconstruction starts."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Progress, ignore_progress
from numpy.typing import NDArray

from NIRSTReconstructionLib.basis import UniformBasis
from NIRSTReconstructionLib.calibration import DataSpace
from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.gauss_newton import GaussNewtonSettings, Prior, gauss_newton
from NIRSTReconstructionLib.spectra import MAP_NAMES, MAP_UNITS, Tissue

TYPICAL_TISSUE = Tissue(hbo=15.0, hbr=7.0, water=0.30)
"""Where the bulk fit begins: the middle of what breasts show (Shah 2004, doi 10.1117/1.1695560)."""

_WEAK = Prior(np.eye(1), expected=1.0, sd=100.0)


class BulkFit(NamedTuple):
    """Homogeneous tissue, its standard deviations, and how well it explains the data.

    Attributes
    ----------
    tissue : Tissue
    sd : dict of str to float
        Standard deviation of the fitted quantities, from noise alone.
    chi : float
        Root-mean-square residual in units of the noise; far above 1 where the body is not homogeneous.
    """

    tissue: Tissue
    sd: dict[str, float]
    chi: float


def fit_bulk(
    model: ForwardModel,
    log_amplitude: NDArray[np.float64],
    space: DataSpace,
    start: Tissue = TYPICAL_TISSUE,
    parameters: tuple[str, ...] = ("hbo", "hbr", "water"),
    progress: Progress = ignore_progress,
) -> BulkFit:
    """Return the homogeneous tissue whose modeled data are nearest to the measured ones.

    Parameters
    ----------
    model : ForwardModel
    log_amplitude : (W, C) ndarray
    space : DataSpace
    start : Tissue
        Values of what is not fitted, and where the others begin.
    parameters : tuple of str
        Which of `MAP_NAMES` to fit. Continuous-wave data of one body cannot separate scattering from absorption.
    progress : Progress

    Raises
    ------
    InputError
        If the fit runs to values no tissue has, which points to units, numbering or calibration.
    """
    basis = UniformBasis().at(model.mesh.nodes)
    settings = GaussNewtonSettings(max_iterations=25, stop_change=1e-6, floor=1e-3)
    result = gauss_newton(model, log_amplitude, space, basis, start, parameters, _WEAK, settings, progress)
    begin = start.values()
    scale = {name: float(begin[MAP_NAMES.index(name)]) for name in parameters}
    values = {name: scale[name] * float(x) for name, x in zip(parameters, result.coefficients[:, 0], strict=True)}
    for name, value in values.items():
        limit = {"hbo": 300.0, "hbr": 300.0}.get(name, 10.0)
        if value > limit:
            unit = MAP_UNITS[MAP_NAMES.index(name)]
            raise InputError(
                f"The data fit no tissue: the homogeneous fit reaches {name} = {value:.4g} {unit}. Check the unit of "
                "positions (mm), fiber numbers, the extinction table (per mM, natural logarithm) and reference."
            )
    deviations = np.sqrt(np.diag(result.covariance))
    sd = {name: scale[name] * float(deviation) for name, deviation in zip(parameters, deviations, strict=True)}
    return BulkFit(replace(start, **values), sd, result.history[-1]["chi"])
