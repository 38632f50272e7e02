"""The five networks behind one door: what each is given, what it returns, and its weights in a file.

A weights file is a safetensors file whose record says what the network is, what it learned from and what it may be
given. Reading one runs no code in it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.training import choose_device, load_weights, read_checkpoint
from numpy.typing import NDArray
from torch import Tensor, nn

from NIRSTReconstructionLib.dataset import DatasetSettings
from NIRSTReconstructionLib.hybrid import HybridNet, hybrid_input, scaled_mri, standard_bulk
from NIRSTReconstructionLib.meshing import ELEMENT_SIZE_MM, OPTODE_ELEMENT_SIZE_MM
from NIRSTReconstructionLib.network_data import (
    Looks,
    PhantomSet,
    as_matrix,
    model_of,
    pixel_grid,
    reference_light,
    standardized,
)
from NIRSTReconstructionLib.network_settings import OUTPUTS, NetworkSettings, settings_from_json
from NIRSTReconstructionLib.one_step import OneStep
from NIRSTReconstructionLib.spectra import Spectra, Tissue
from NIRSTReconstructionLib.ynet import YNet
from NIRSTReconstructionLib.znet import ZNet

MODEL = "model.safetensors"
"""The file in which a training leaves its weights."""
KIND = "NIRST network"
"""What the record of a weights file says it is."""
FORMAT = 2

_BULK_MARGIN = 1.3  # the derivatives' table reaches this factor beyond the data set's backgrounds


@dataclass(frozen=True, eq=False)
class LightScale:
    """Mean and standard deviation of ln (light / reference) per wavelength, which networks of raw data are given.

    Attributes
    ----------
    mean, sd : (W,) tuple of float
    """

    mean: tuple[float, ...]
    sd: tuple[float, ...]

    def apply(self, log_ratio: Tensor) -> Tensor:
        """Return standardized (n, W, C)."""
        mean, sd = (torch.tensor(v, dtype=log_ratio.dtype, device=log_ratio.device) for v in (self.mean, self.sd))
        return (log_ratio - mean[:, None]) / sd[:, None]


@dataclass(frozen=True, eq=False)
class Eyes:
    """What stands between one set-up (body, fibers, wavelengths) and a network: pixels, and the physics if it needs it.

    Attributes
    ----------
    settings : NetworkSettings
    body : (Y, X) ndarray of bool
    physics : OneStep or None
        For the hybrid, and for others where fibers are lost.
    reference : (W, C) ndarray
        Modeled ln amplitude of the uniform reference tissue.
    scale : LightScale or None
        For networks of raw data.
    """

    settings: NetworkSettings
    body: NDArray[np.bool_]
    physics: OneStep | None
    reference: NDArray[np.float64]
    scale: LightScale | None

    def see(self, looks: Looks) -> dict[str, Tensor]:
        """Return the network's inputs: `images` and `bulk` for the hybrid, else `light` and `mri`.

        Raises
        ------
        InputError
            If light is missing and there is no physics to fill it in.
        """
        device = looks.mri.device
        body = torch.as_tensor(self.body, device=device)
        reference = torch.as_tensor(self.reference, dtype=looks.log_ratio.dtype, device=device)
        light = looks.log_ratio + reference
        active, noise = looks.active, looks.noise
        if self.settings.network == "hybrid":
            assert self.physics is not None
            step = self.physics.images(light, active, noise, looks.mri)
            return {"images": hybrid_input(step, looks.mri, body), "bulk": step.bulk}
        if not bool(active.all()) and self.settings.network != "mri-only":
            if self.physics is None:
                raise InputError("Light is missing, which this network cannot see through without a physical model.")
            light = self.physics.imputed(light, active, noise)
        assert self.scale is not None
        matrix = as_matrix(self.scale.apply((light - reference).float()))
        return {"light": matrix, "mri": scaled_mri(looks.mri, body)[:, None]}


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network ready to predict.

    Attributes
    ----------
    network : torch.nn.Module
    settings : NetworkSettings
    scale : LightScale or None
    record : dict
        What else the file tells: data sets, layouts, versions.
    device : torch.device
    name : str
    """

    network: nn.Module
    settings: NetworkSettings
    scale: LightScale | None
    record: dict[str, Any]
    device: torch.device
    name: str

    def check_raw_data(self, layout_id: str, spectra: Spectra) -> None:
        """Raise unless this network of raw data learned with this optode layout, wavelengths and extinction table.

        Raises
        ------
        InputError
            Naming both.
        """
        if layout_id not in self.record["layout_ids"]:
            raise InputError(
                f"'{self.name}' reads raw data of the fibers it was trained with (layout "
                f"{', '.join(self.record['layout_ids'])}); these data have the layout {layout_id}. Use the hybrid "
                "network, a model-based method, or train on this layout."
            )
        given = [round(float(nm), 2) for nm in spectra.wavelengths_nm]
        if given != self.record["wavelengths_nm"]:
            known, other = (", ".join(f"{nm:g}" for nm in nms) for nms in (self.record["wavelengths_nm"], given))
            raise InputError(f"'{self.name}' reads light of {known} nm, not of {other} nm.")
        if spectra.table_name not in self.record["extinction_tables"]:
            known = ", ".join(self.record["extinction_tables"])
            raise InputError(f"'{self.name}' learned with the extinction table {known}, not '{spectra.table_name}'.")


def make_network(settings: NetworkSettings, wavelengths: int = 9) -> nn.Module:
    """Return a network of the settings' architecture, with random weights."""
    if settings.network == "hybrid":
        return HybridNet(settings.width)
    if settings.network == "ynet":
        return YNet(settings.width, wavelengths)
    sees = {"znet": "both", "no-mri": "light", "mri-only": "mri"}[settings.network]
    return ZNet(settings.width, wavelengths, sees)


def run(network: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    """Return images (n, 3, Y, X) in standardized units and, of the hybrid, their standard deviation in the same."""
    if "images" not in inputs:
        return network(inputs["light"], inputs["mri"]), None
    relative, log_sd = network(inputs["images"])
    bulk = standard_bulk(inputs["bulk"])[:, :, None, None]
    return relative_to_standard(relative, inputs["bulk"]), torch.exp(log_sd) * bulk


def relative_to_standard(relative: Tensor, bulk: Tensor) -> Tensor:
    """Return images (n, 3, Y, X) relative to the bulk (n, 3), 0 being the bulk value, in standardized units."""
    unit = torch.tensor([1.0, 1.0, 100.0], dtype=bulk.dtype, device=bulk.device)
    return standardized((bulk * unit)[:, :, None, None] * (1 + relative))


def eyes_of(
    phantoms: PhantomSet, settings: NetworkSettings, scale: LightScale | None, device: torch.device, impute: bool
) -> Eyes:
    """Return what stands between a data set and a network.

    The physics is that of `assumed_set`. What differs is left to the calibration, which the looks have behind them:
    they are ratios to the reference in the same set-up.

    Parameters
    ----------
    phantoms : PhantomSet
    settings : NetworkSettings
    scale : LightScale or None
    device : torch.device
    impute : bool
        Whether fibers may be lost.
    """
    assumed = assumed_set(phantoms.settings)
    model = model_of(assumed)
    points, body = pixel_grid(assumed, settings.pixels)
    physics = None
    if settings.network == "hybrid" or (impute and settings.network != "mri-only"):
        physics = OneStep(model, points, body, settings.physics, device=device)
    if settings.network == "hybrid" and physics is not None:
        low, high = phantoms.background.amin(dim=0).tolist(), phantoms.background.amax(dim=0).tolist()
        physics.tabulate(
            Tissue(*(v / _BULK_MARGIN / u for v, u in zip(low, (1, 1, 100), strict=True))),
            Tissue(*(min(v * _BULK_MARGIN / u, 95.0 / u) for v, u in zip(high, (1, 1, 100), strict=True))),
        )
    return Eyes(settings, body, physics, reference_light(assumed), scale)


def assumed_set(settings: DatasetSettings) -> DatasetSettings:
    """Return the set-up that one would assume whatever made the data: line sources, the default mesh."""
    return replace(
        settings,
        source_model="line",
        element_size_mm=ELEMENT_SIZE_MM,
        optode_element_size_mm=OPTODE_ELEMENT_SIZE_MM,
    )


def read_network(path: str | Path, device: str | None = None) -> TrainedNetwork:
    """Return the network of a weights file.

    Raises
    ------
    InputError
        If the file is missing, truncated, of another kind or architecture, or the device is not there.
    """
    tensors, record = read_checkpoint(path)
    name = Path(path).name
    if record.get("kind") != KIND or record.get("format") != FORMAT:
        raise InputError(f"'{name}' holds {record.get('kind', 'something else')}, not a {KIND} of format {FORMAT}.")
    try:
        settings = settings_from_json(record["settings"])
        given = record["light_scale"]
        scale = None if given is None else LightScale(tuple(given["mean"]), tuple(given["sd"]))
        wavelengths = len([float(nm) for nm in record["wavelengths_nm"]])
        for key in ("layout_ids", "extinction_tables"):
            if not isinstance(record[key], list) or not all(isinstance(one, str) for one in record[key]):
                raise TypeError(f"{key} is no list of names")
        if not all(len([float(v) for v in record["background"][key]]) == len(OUTPUTS) for key in ("low", "high")):
            raise TypeError("the background has no three numbers")
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"The record of '{name}' is damaged: {error}. Copy it again.") from error
    chosen = choose_device(device)
    network = make_network(settings, wavelengths)
    load_weights(network, tensors, name)
    return TrainedNetwork(network.to(chosen).eval(), settings, scale, record, chosen, name)


def network_record(
    settings: NetworkSettings, sets: list[PhantomSet], scale: LightScale | None, epochs: int
) -> dict[str, Any]:
    """Return what a weights file tells of its making; JSON-able."""
    backgrounds = torch.cat([phantoms.background for phantoms in sets]).cpu()
    models = [model_of(phantoms.settings) for phantoms in sets]
    return {
        "kind": KIND,
        "format": FORMAT,
        "settings": asdict(settings),
        "epochs": epochs,
        "data": [asdict(phantoms.settings) for phantoms in sets],
        "wavelengths_nm": [round(float(nm), 2) for nm in models[0].spectra.wavelengths_nm],
        "layout_ids": sorted({model.optodes.layout_id for model in models}),
        "extinction_tables": sorted({model.spectra.table_name for model in models}),
        "light_scale": None if scale is None else asdict(scale),
        "background": {
            "mean": backgrounds.mean(dim=0).tolist(),
            "low": backgrounds.amin(dim=0).tolist(),
            "high": backgrounds.amax(dim=0).tolist(),
        },
        "torch": torch.__version__,
    }
