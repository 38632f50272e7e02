"""A shipped network as a method of `reconstruct`: its images, standard deviation and residual in the same form.

Importing this file needs no PyTorch; running a network does.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Progress, ignore_progress
from BreastBiomarkersLib.volume import Volume
from numpy.typing import NDArray
from scipy import ndimage, sparse

from NIRSTReconstructionLib.fibers import Fibers
from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.measurements import Measurements
from NIRSTReconstructionLib.meshing import Contour
from NIRSTReconstructionLib.network_settings import OUTPUT_SCALE
from NIRSTReconstructionLib.plane import Plane, SliceGrid
from NIRSTReconstructionLib.spectra import PAPER_WAVELENGTHS_NM, Tissue

if TYPE_CHECKING:
    from NIRSTReconstructionLib.predict import NetworkImages

NETWORK_METHODS = ("hybrid", "znet")
"""Networks that are shipped; both need an MRI."""

CAUTION = {
    "znet": "Z-Net follows the MRI: it misses a lesion that the MRI does not show, paints a contrast of about 0.1 "
    "where the MRI shows one that has none, and is misled by fiber gains that the calibration has missed "
    "(weights/znet.md). Use it to compare, not to measure.",
}
"""What a user of a shipped network has to know."""

_WEIGHTS = Path(__file__).parent / "weights"
_RING = 16
_FLOOR = 0.03  # of the bulk: images stay positive, as those of the inversions
_LATTICE_MM, _BLOB_MM = 8.0, 6.0  # errors of pixels nearer than about this go together


def shipped_networks() -> dict[str, tuple[Path, ...]]:
    """Return the weights files that come with the module, by method; several of one method are an ensemble."""
    found = {name: tuple(sorted(_WEIGHTS.glob(f"{name}*.safetensors"))) for name in NETWORK_METHODS}
    return {name: paths for name, paths in found.items() if paths}


def training_inputs_of(network: str) -> Path:
    """Return the file that tells where the training of a shipped network lies (`network_distance`)."""
    return _WEIGHTS / f"{network}.json"


def why_not(
    network: str, wavelengths_nm: Sequence[float], fiber_count: int, has_image: bool, has_reference: bool
) -> str:
    """Return why a shipped network cannot be used on some data, "" if nothing speaks against it so far.

    For menus: quick, and without PyTorch. Whether the fibers lie where a network of raw data learned them is checked
    when it is run.
    """
    if network not in shipped_networks():
        return f"No weights of the network '{network}' come with this module."
    missing = [name for name in ("torch", "safetensors") if importlib.util.find_spec(name) is None]
    if missing:
        return f"Networks need PyTorch and safetensors; {' and '.join(missing)} not found."
    if not has_image:
        return "The network needs an MRI."
    if network == "hybrid":
        return "" if len(wavelengths_nm) >= 3 else "The network needs light of three wavelengths at least."
    if not has_reference:
        return "Z-Net reads ratios of light, so it needs a reference measurement; the hybrid network does not."
    if fiber_count != _RING or [round(float(nm), 2) for nm in wavelengths_nm] != list(PAPER_WAVELENGTHS_NM):
        known = ", ".join(f"{nm:g}" for nm in PAPER_WAVELENGTHS_NM)
        return f"Z-Net reads raw data of a ring of {_RING} fibers at {known} nm; the hybrid network takes others."
    return ""


class ImageBasis:
    """Images on a pixel grid as columns: a map is their weighted sum, linear between the pixels.

    Parameters
    ----------
    grid : SliceGrid
    images : (B, Y, X) ndarray
        Defined on the whole grid.
    plane : Plane
        In whose coordinates points are given; the grid may have other axes in the same plane.
    """

    def __init__(self, grid: SliceGrid, images: NDArray[np.float64], plane: Plane) -> None:
        self.grid = grid
        self.images = images
        self.plane = plane
        self.count = len(images)

    def at(self, points_mm: NDArray[np.float64]) -> sparse.csr_array:
        """Return the images' values (n, B) at in-plane points; beyond the grid those of its rim."""
        points = self.grid.plane.to_plane(self.plane.to_ras(points_mm))[0]
        at = (points - self.grid.first_mm).T[::-1] / self.grid.pixel_mm
        columns = [ndimage.map_coordinates(image, at, order=1, mode="nearest") for image in self.images]
        return sparse.csr_array(np.column_stack(columns))


def network_images(
    network: str,
    model: ForwardModel,
    calibrated: Measurements,
    measurements: Measurements,
    fibers: Fibers,
    contour: Contour,
    images: Sequence[Volume],
    *,
    plane: Plane,
    reference: Measurements | None,
    scatter: Tissue,
    bulk: Tissue,
    progress: Progress = ignore_progress,
    **options: Any,
) -> NetworkImages:
    """Return the images of a shipped network, its standard deviation always given.

    Networks that give no standard deviation get the error they had on the phantoms watched in training, everywhere.

    Parameters
    ----------
    network : str
        One of `NETWORK_METHODS`.
    model : ForwardModel
        Of the body, with the measured channels; the hybrid takes its physics from it.
    calibrated, measurements : Measurements
        After and before calibration; networks of raw data have a calibration of their own.
    images : sequence of Volume
        The first is the MRI.
    bulk : Tissue
        Homogeneous fit of the calibrated light.
    fibers, contour, plane, reference, scatter, progress, options
        See `predict.predict`.

    Raises
    ------
    InputError
        If the network cannot be used on these data; the message says why.
    """
    nm = measurements.wavelengths_nm.tolist()
    count = len(np.unique(measurements.channels[:, 1]))
    reason = why_not(network, nm, count, bool(images), reference is not None)
    if reason:
        raise InputError(reason)
    from NIRSTReconstructionLib.networks import read_network
    from NIRSTReconstructionLib.predict import images_in_model, predict

    trained = [read_network(path) for path in shipped_networks()[network]]
    given: dict[str, Any] = {"scatter": scatter, "progress": progress}
    if network == "hybrid":
        found = images_in_model(trained, model, calibrated, contour, plane, images[0], **given, near=bulk)
    else:
        given |= {"plane": plane, "reference": reference, **options}
        found = predict(trained, measurements, fibers, contour, model.spectra, images[0], **given)
    if network in CAUTION:
        found = replace(found, remarks=(*found.remarks, CAUTION[network]))
    if found.sd is not None:
        return found
    error = float(np.sqrt(np.mean([one.record["history"]["validation_mse"] for one in trained])))
    everywhere = np.multiply.outer(error * np.array(OUTPUT_SCALE), found.body.astype(np.float64))
    return replace(found, sd=everywhere)


def expand(
    found: NetworkImages, bulk: Tissue, plane: Plane
) -> tuple[ImageBasis, NDArray[np.float64], NDArray[np.float64]]:
    """Return a network's images as a basis, coefficients (3, B) in units of a bulk tissue, and their covariance.

    Parameters
    ----------
    found : NetworkImages
        With a standard deviation.
    bulk : Tissue
    plane : Plane
        In whose coordinates the images are asked for.

    Notes
    -----
    The first three columns of the basis are the images of HbO, HbR and water. The others are smooth bumps, 8 mm apart,
    times the standard deviation of each chromophore; their coefficients are 0 with a variance of 1, so that errors of
    neighboring pixels go together and do not cancel in the mean of a lesion.
    """
    assert found.sd is not None
    unit = bulk.values()[:3] * (1.0, 1.0, 100.0)
    nearest = tuple(ndimage.distance_transform_edt(~found.body, return_distances=False, return_indices=True))
    relative, spread = (values[:, *nearest] / unit[:, None, None] for values in (found.values, found.sd))
    highest = np.array([np.inf, np.inf, 1.0 / bulk.water])[:, None, None]
    bumps = _bumps(found.grid)
    columns = np.concatenate([relative.clip(_FLOOR, highest), *(bumps * one for one in spread)])
    coefficients, variance = (np.zeros((3, len(columns))) for _ in range(2))
    for p in range(3):
        coefficients[p, p] = 1.0
        variance[p, 3 + p * len(bumps) : 3 + (p + 1) * len(bumps)] = 1.0
    return ImageBasis(found.grid, columns, plane), coefficients, np.diag(variance.ravel())


def _bumps(grid: SliceGrid) -> NDArray[np.float64]:
    """Return Gaussians on a lattice over a grid (m, Y, X), their squares adding up to 1 at every pixel."""
    points = grid.points_mm
    low, high = points.min(axis=0) - _LATTICE_MM / 2, points.max(axis=0) + _LATTICE_MM / 2
    axes = (np.arange(a, b + _LATTICE_MM, _LATTICE_MM) for a, b in zip(low, high, strict=True))
    centers = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    squared = ((points[None] - centers[:, None]) ** 2).sum(axis=2)
    bumps = np.exp(-0.5 * squared / _BLOB_MM**2)
    return (bumps / np.sqrt(np.square(bumps).sum(axis=0))).reshape(len(centers), *grid.shape)
