"""The network method: the random walker's score, corrected by a small network that has seen many synthetic lesions.

The network never sees millimeters or gray values of a scanner: the lesion's box, whatever its size, becomes a cube of
always the same number of voxels, intensities are compared with those around the lesion, and dark lesions are turned
bright. So one set of weights serves any image in which six points frame a lesion.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Progress, portion
from BreastBiomarkersLib.training import load_weights, read_checkpoint, reproducible
from BreastBiomarkersLib.volume import Volume
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, gaussian_filter

from WeakSegmentLib.losses import contrastive_loss, partial_cross_entropy
from WeakSegmentLib.methods import Click, CropResult, box_on_crop, crop_intensities, walk_on_posterior
from WeakSegmentLib.points import ExtremePoints
from WeakSegmentLib.posterior import unmix
from WeakSegmentLib.propagation import propagate_labels, propagation_loss
from WeakSegmentLib.pseudo_mask import Label, make_pseudo_mask
from WeakSegmentLib.settings import NetworkSettings, RandomWalkSettings
from WeakSegmentLib.unet import Output, UNet

KIND = "WeakSegment lesion network"
"""What the record of a checkpoint says it is."""

SHIPPED_WEIGHTS = Path(__file__).parent / "weights" / "lesion_network.safetensors"

SIDE, BOX_SIDE = 32, 24
"""Voxels of the cube the network sees along each axis, and of the box in the middle of it."""

CHANNELS = 4
"""Intensity, its posterior, the walker's score, the radius in the box."""

WIDTH, LEVELS = 8, 3

_SURE = 0.01
"""The walker's score is taken to be at least this far from 0 and 1: the network may contradict it."""

_CLIP_SD = 4.0
_BACKGROUND_RADIUS = 1.4
_REFINE_RATE = 1e-3
_SAMPLES, _TEMPERATURE, _PROPAGATION_WEIGHT, _AGREEMENT_ABOVE = 100, 0.1, 0.1, 0.5


@dataclass(frozen=True, eq=False)
class BoxGrid:
    """The cube around a box: where its voxels lie in the crop that the walker worked on.

    Attributes
    ----------
    shape : tuple of 3 int
        Voxels of the crop (K, J, I).
    center, half_side : (3,) ndarray
        Of the box, in crop voxels, not rounded.
    """

    shape: tuple[int, ...]
    center: NDArray[np.float64]
    half_side: NDArray[np.float64]

    @classmethod
    def of(cls, points: ExtremePoints, crop: tuple[slice, ...]) -> BoxGrid:
        """Return the grid of a lesion's box."""
        start, stop = points.box_start_kji, points.box_stop_kji
        shape = tuple(int(s.stop - s.start) for s in crop)
        return cls(shape, (start + stop - 1) / 2 - np.array([s.start for s in crop]), (stop - start) / 2)

    @staticmethod
    def radius() -> NDArray[np.float32]:
        """Return each cube voxel's distance from the center, 1 on the ellipsoid inscribed in the box."""
        line = ((np.arange(SIDE) - (SIDE - 1) / 2) / (BOX_SIDE / 2)) ** 2
        radius: NDArray[np.float32] = np.sqrt(line[:, None, None] + line[:, None] + line, dtype=np.float32)
        return radius

    def sample(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return an array of the crop on the cube: smoothed where voxels grow, then tri-linear, edges repeated."""
        step = self.half_side / (BOX_SIDE / 2)
        smooth = gaussian_filter(array, np.maximum(0, (step - 1) / 2), mode="nearest")
        offset = np.arange(SIDE) - (SIDE - 1) / 2
        return _interpolate(smooth, [c + h * offset for c, h in zip(self.center, step, strict=True)])

    def spread(self, cube: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return an array of the cube on the crop: tri-linear, edges repeated."""
        step = self.half_side / (BOX_SIDE / 2)
        at = [
            (np.arange(n) - c) / h + (SIDE - 1) / 2
            for n, c, h in zip(self.shape, self.center, step, strict=True)
        ]  # fmt: skip
        return _interpolate(cube, at)


def _interpolate(array: NDArray[np.float32], at: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
    """Return an array at all combinations of positions along its axes, each (n,), in voxels; edges are repeated."""
    for axis, positions in enumerate(at):
        inside = np.clip(positions, 0, array.shape[axis] - 1)
        low = np.minimum(inside.astype(np.int64), max(array.shape[axis] - 2, 0))
        high = np.minimum(low + 1, array.shape[axis] - 1)
        weight = (inside - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        array = np.take(array, low, axis) * (1 - weight) + np.take(array, high, axis) * weight
    return array


def network_channels(
    image: NDArray[np.float32], score: NDArray[np.float32], grid: BoxGrid
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what the network sees (4, 32, 32, 32), and the walker's log-odds on its grid (32, 32, 32).

    Parameters
    ----------
    image, score : (K, J, I) ndarray of float32
        Intensities and the random walker's score on the crop.
    grid : BoxGrid
    """
    radius = grid.radius()
    intensity, walked = grid.sample(image), grid.sample(score)
    low, high = (SIDE - BOX_SIDE) // 2, (SIDE + BOX_SIDE) // 2
    in_box = np.zeros(radius.shape, dtype=bool)
    in_box[low:high, low:high, low:high] = True
    background = ~in_box | (radius > _BACKGROUND_RADIUS)
    posterior = unmix(intensity, in_box & (radius < 1), background).probability
    reference = intensity[background]
    sd = float(intensity.std()) or 1.0
    brighter = float(np.mean((intensity - intensity.mean()) * (posterior - posterior.mean()))) >= 0
    scaled = np.clip((intensity - np.median(reference)) / (sd if brighter else -sd), -_CLIP_SD, _CLIP_SD)
    channels = [scaled, 2 * posterior - 1, 2 * walked - 1, np.minimum(radius, 2) - 1]
    return np.stack(channels).astype(np.float32), log_odds(walked)


def log_odds(score: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ln(s / (1 - s)) of the walker's score, kept off 0 and 1."""
    kept = np.clip(score, _SURE, 1 - _SURE)
    odds: NDArray[np.float32] = np.log(kept / (1 - kept)).astype(np.float32)
    return odds


def make_lesion_network() -> UNet:
    """Return the network with random weights, depending on torch's seed."""
    return UNet(CHANNELS, WIDTH, LEVELS)


def read_lesion_network(path: str | Path | None = None) -> tuple[UNet, int]:
    """Return a trained lesion network and the checksum of its file.

    Parameters
    ----------
    path : str or Path, optional
        A checkpoint; the shipped one if not given.

    Raises
    ------
    InputError
        If the file is missing, damaged, of another kind or architecture.
    """
    path = SHIPPED_WEIGHTS if path is None else Path(path)
    tensors, record = read_checkpoint(path)
    if record.get("kind") != KIND:
        raise InputError(f"'{path.name}' is a checkpoint of {record.get('kind', 'something else')}, not of a {KIND}.")
    network = make_lesion_network()
    load_weights(network, tensors, path.name)
    return network.eval(), zlib.crc32(path.read_bytes())


def walk_with_network(
    volume: Volume,
    pre: Volume | None,
    points: ExtremePoints,
    clicks: Sequence[Click],
    settings: NetworkSettings,
    progress: Progress,
    others: Volume | None = None,
) -> CropResult:
    """Return the lesion by the random walker, its log-odds corrected by the network's.

    Near a corrective click (twice its radius) the walker's word stands.

    Raises
    ------
    InputError
        As the random walker does; also if the weights cannot be read.
    """
    progress(0.0, "Reading the network")
    network, checksum = read_lesion_network(settings.weights or None)
    shared = {field.name for field in fields(RandomWalkSettings)} & {field.name for field in fields(NetworkSettings)}
    walk_settings = RandomWalkSettings(**{name: getattr(settings, name) for name in sorted(shared)})
    walked = walk_on_posterior(volume, pre, points, clicks, walk_settings, portion(progress, 0.05, 0.6), others)
    grid = BoxGrid.of(points, walked.crop)
    progress(0.6, "Asking the network")
    channels, odds = network_channels(crop_intensities(volume, pre, walked.crop), walked.score, grid)
    with reproducible(0, torch.device("cpu")):
        losses = refine(network, channels, odds, settings.refine_iterations, portion(progress, 0.6, 0.9))
    with torch.inference_mode():
        correction = _correction(network(torch.from_numpy(channels)[None]))[0].numpy()
    change = grid.spread(correction)
    change[_near_clicks(volume, walked.crop, points, clicks, walk_settings)] = 0
    score = (1 / (1 + np.exp(-(log_odds(walked.score) + change)))).astype(np.float32)

    progress(0.95, "Writing the mask on the image grid")
    box, grown = (box_on_crop(points, walked.crop, grow) for grow in (0, 1))
    mask = np.zeros(score.shape, dtype=bool)
    mask[grown] = score[grown] > walk_settings.segment_above
    if not any(not click.tumor for click in clicks):
        mask[grown] = binary_fill_holes(mask[grown])
    labels = make_pseudo_mask(score, box, walk_settings.tumor_above, walk_settings.background_below)
    if others is not None:
        taken = others.array[walked.crop] != 0
        mask &= ~taken
        labels[taken] = Label.BACKGROUND
    notes = walked.notes | {"weights_checksum": checksum, "refinement_losses": losses}
    return CropResult(walked.crop, mask, labels, score, walked.contrast, notes)


def _correction(output: Output) -> torch.Tensor:
    """Return what the network adds to the walker's log-odds (B, K, J, I)."""
    return output.logits[:, 1].float() - output.logits[:, 0].float()


def refine(
    network: UNet,
    channels: NDArray[np.float32],
    odds: NDArray[np.float32],
    iterations: int,
    progress: Progress,
) -> list[float]:
    """Adapt the network to one lesion, in place, and return the losses: SimPLe's second stage on one case.

    The loss is the partial cross entropy of the voxels the walker is sure of, the contrastive loss of their features,
    and, weighted, the propagation to unsure voxels that resemble the sure ones.
    """
    image, walked = torch.from_numpy(channels)[None], torch.from_numpy(odds)[None]
    score = torch.sigmoid(walked)
    labels = torch.full(score.shape, int(Label.UNLABELED))
    labels[score > RandomWalkSettings.tumor_above] = int(Label.TUMOR)
    labels[score < RandomWalkSettings.background_below] = int(Label.BACKGROUND)
    optimizer = torch.optim.Adam(network.parameters(), _REFINE_RATE)
    losses = []
    for iteration in range(iterations):
        progress(iteration / iterations, f"Refining, {iteration + 1} of {iterations}")
        output = network(image)
        logits = torch.stack([torch.zeros_like(walked), walked + _correction(output)], dim=1)
        features = output.features.permute(0, 2, 3, 4, 1)
        tumor, background = (
            features[labels == int(label)][torch.randperm(int((labels == int(label)).sum()))[:_SAMPLES]]
            for label in (Label.TUMOR, Label.BACKGROUND)
        )
        unsure = labels == int(Label.UNLABELED)
        vote = propagate_labels(tumor, features[unsure], _AGREEMENT_ABOVE)
        loss = partial_cross_entropy(logits, labels) + contrastive_loss(tumor, background, _TEMPERATURE)
        loss = loss + _PROPAGATION_WEIGHT * propagation_loss(logits.permute(0, 2, 3, 4, 1)[unsure][vote.chosen])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def _near_clicks(
    volume: Volume,
    crop: tuple[slice, ...],
    points: ExtremePoints,
    clicks: Sequence[Click],
    settings: RandomWalkSettings,
) -> NDArray[np.bool_]:
    """Return the crop voxels within two click radii of a corrective click."""
    near = np.zeros([s.stop - s.start for s in crop], dtype=bool)
    box_mm = (points.box_stop_kji - points.box_start_kji) * volume.spacing
    radius_mm = 2 * settings.click_radius_share * float(box_mm.max())
    for click in clicks:
        at = volume.points_to_ijk(np.array([click.position_ras]))[0, ::-1] - [s.start for s in crop]
        squares = [((np.arange(n) - a) * h) ** 2 for n, a, h in zip(near.shape, at, volume.spacing, strict=True)]
        near |= squares[0][:, None, None] + squares[1][:, None] + squares[2] <= radius_mm**2
    return near
