"""How far the light of a body lies from the light a network was trained on, by a few numbers that any layout has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import require_file
from numpy.typing import NDArray

from NIRSTReconstructionLib.bulk import TYPICAL_TISSUE, fit_bulk
from NIRSTReconstructionLib.calibration import data_space
from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.measurements import Measurements
from NIRSTReconstructionLib.network_settings import NetworkSettings
from NIRSTReconstructionLib.spectra import Tissue

NUMBERS = ("HbO", "HbR", "water", "body radius", "fibers in use", "residual of a uniform body")
"""What is compared, in this order; the logarithms of it make the distance."""
_UNITS = (" uM", " uM", " %", " mm", "", " %")
_ALIKE = 0.1
"""Bodies that differ by a tenth in one number are never far apart: of radii and fiber counts few were trained."""


class Distance(NamedTuple):
    """How far one body lies from the training.

    Attributes
    ----------
    value : float
        Mahalanobis distance divided by that within which 99 % of the training lie.
    inside : bool
        Whether that is at most 1 and each number was trained.
    words : str
        What is unusual, with numbers.
    """

    value: float
    inside: bool
    words: str


def input_numbers(
    model: ForwardModel, measured: Measurements, network: str, start: Tissue = TYPICAL_TISSUE
) -> NDArray[np.float64]:
    """Return the `NUMBERS` (6,) of a body: uM, uM, percent, mm, count, percent of the light.

    Parameters
    ----------
    model : ForwardModel
        Of the body, on the measured channels.
    measured : Measurements
        Calibrated.
    network : str
        "hybrid" does not see fiber gains, so they do not count; the networks of raw data see them.
    start : Tissue
        Where the fit begins; its scattering is kept.

    Raises
    ------
    InputError
        If no tissue fits the data, or too few are left.
    """
    space = data_space(measured, "fibers" if network == "hybrid" else "global")
    tissue = fit_bulk(model, measured.log_amplitude, space, start).tissue
    weights = model.mesh.quadrature.weights
    uniform = np.asarray(model.measure(tissue.maps(len(weights)), at_quadrature=True))
    squared = np.nansum(space.residual(measured.log_amplitude - uniform) ** 2)
    misfit = np.sqrt(squared / max(int(space.freedom.sum()), 1))
    fibers = np.unique(measured.channels[measured.active.any(axis=0)])
    radius = np.sqrt(weights.sum() / np.pi)
    numbers = [tissue.hbo, tissue.hbr, 100 * tissue.water, radius, len(fibers), 100 * misfit]
    return np.maximum(numbers, 1e-3)


def training_inputs(
    folders: Sequence[str | Path], settings: NetworkSettings, count: int = 400, seed: int = 0
) -> dict[str, Any]:
    """Return where the numbers of a training's phantoms lie; JSON-able. Needs PyTorch.

    Parameters
    ----------
    folders : sequence of str or Path
        Data sets of the training; each gives phantoms in proportion to its size.
    settings : NetworkSettings
        Their variation is applied: noise, gains, lost fibers.
    count : int
        About how many phantoms are looked at.
    seed : int
    """
    import torch

    from NIRSTReconstructionLib.network_data import look, model_of, read_phantom_set, reference_light
    from NIRSTReconstructionLib.networks import assumed_set

    sets = [read_phantom_set(folder) for folder in folders]
    total = sum(len(phantoms) for phantoms in sets)
    rows = []
    for n, phantoms in enumerate(sets):
        some = phantoms.take(slice(0, max(2, count * len(phantoms) // total)))
        looks = look(some, 16, settings.variation, torch.Generator().manual_seed(seed + n))
        assumed = assumed_set(phantoms.settings)
        model, reference = model_of(assumed), reference_light(assumed)
        for ratio, active, noise in zip(looks.log_ratio, looks.active, looks.noise, strict=True):
            measured = Measurements(
                wavelengths_nm=np.asarray(model.spectra.wavelengths_nm),
                channels=model.optodes.channels + 1,
                log_amplitude=ratio.double().numpy() + reference,
                sd=noise.double().numpy(),
                active=active.numpy(),
            )
            rows.append(input_numbers(model, measured, settings.network))
    return summarized(np.array(rows))


def summarized(numbers: NDArray[np.float64]) -> dict[str, Any]:
    """Return mean and covariance of the logarithms of (n, 6) numbers, their limits, and the distance 99 % keep to."""
    logs = np.log(numbers)
    mean = logs.mean(axis=0)
    covariance = np.cov(logs.T) + _ALIKE**2 * np.eye(len(NUMBERS))
    distances = np.sqrt(_squared(logs - mean, covariance))
    return {
        "numbers": list(NUMBERS),
        "count": len(numbers),
        "mean": mean.tolist(),
        "covariance": covariance.tolist(),
        "low": numbers.min(axis=0).tolist(),
        "high": numbers.max(axis=0).tolist(),
        "distance_99": float(np.quantile(distances, 0.99)),
    }


def read_training_inputs(path: str | Path) -> dict[str, Any]:
    """Return what `training_inputs` made of a training, from the file beside its weights.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    path = require_file(path, "description of the training")
    try:
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        shapes = {"mean": (6,), "low": (6,), "high": (6,), "covariance": (6, 6), "distance_99": ()}
        arrays = {name: np.array(known[name], dtype=float) for name in shapes}
        fits = all(a.shape == shapes[name] and np.isfinite(a).all() for name, a in arrays.items())
        if known["numbers"] != list(NUMBERS) or not fits or not arrays["distance_99"] > 0:
            raise InputError(f"'{path.name}' describes other numbers than {', '.join(NUMBERS)}.")
    except (ValueError, KeyError, TypeError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"'{path.name}' is damaged: {error}. Install the module again.") from error
    return known


def distance_from_training(numbers: NDArray[np.float64], known: dict[str, Any]) -> Distance:
    """Return how far the numbers (6,) of a body lie from a training, and which of them were never trained.

    Notes
    -----
    Mahalanobis distance of the logarithms, whose covariance has a tenth squared added to the diagonal. Because it lets
    one number go far where the others are in the middle, each of them also has to lie in its trained range, give or
    take a tenth.
    """
    logs = np.log(numbers)
    squared = _squared((logs - known["mean"])[None], np.array(known["covariance"]))[0]
    value = float(np.sqrt(squared) / known["distance_99"])
    low, high = np.array(known["low"]), np.array(known["high"])
    beyond = np.flatnonzero((logs < np.log(low) - _ALIKE) | (logs > np.log(high) + _ALIKE))
    if value <= 1 and not beyond.size:
        return Distance(value, True, "the light is like that of the phantoms the network was trained on")
    far = f", {value:.2f} times as far off as 99 % of it" if value > 1 else ""
    listed = [f"{NUMBERS[n]} {numbers[n]:.3g}{_UNITS[n]} (trained {low[n]:.3g} to {high[n]:.3g})" for n in beyond]
    which = ", ".join(listed) or "each number by itself was trained, these together were not"
    return Distance(value, False, f"the light is unlike that of the training{far}: {which}")


def _squared(difference: NDArray[np.float64], covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return squared Mahalanobis distances (n,) of differences (n, k)."""
    return np.asarray((difference * np.linalg.solve(covariance, difference.T).T).sum(axis=1))
