"""A trained network and an image in, tumor probability on the image's grid out."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path
from BreastBiomarkersLib.points import read_points
from BreastBiomarkersLib.progress import Progress, ignore_progress, portion
from BreastBiomarkersLib.training import choose_device, load_weights, read_checkpoint
from BreastBiomarkersLib.volume import SUFFIXES, Volume, read_volume, write_volume
from numpy.typing import NDArray

from WeakSegmentLib.cohort import CohortCase
from WeakSegmentLib.metrics import score
from WeakSegmentLib.network_input import from_network_grid, network_image
from WeakSegmentLib.points import ExtremePoints
from WeakSegmentLib.training_settings import TrainingSettings, settings_from_json
from WeakSegmentLib.unet import UNet

KIND = "WeakSegment U-Net"
"""What the record of a checkpoint says it is."""

TUMOR_ABOVE = 0.5
_SIGMA_SHARE = 1 / 8
_VOXELS_AT_ONCE = 2**17
"""Small windows go through the network together: on a CPU eight take little longer than one."""


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network ready to predict.

    Attributes
    ----------
    network : UNet
    settings : TrainingSettings
        How it was trained; they fix the input it needs.
    record : dict
        What else the checkpoint tells: stage, names of the training cases, versions.
    device : torch.device
    """

    network: UNet
    settings: TrainingSettings
    record: dict[str, Any]
    device: torch.device


def read_network(path: str | Path, device: str | None = None) -> TrainedNetwork:
    """Return the network of a checkpoint file.

    Raises
    ------
    InputError
        If the file is missing, truncated, of another kind or architecture, or the device is not there.
    """
    tensors, record = read_checkpoint(path)
    name = Path(path).name
    if record.get("kind") != KIND or not isinstance(record.get("settings"), dict):
        raise InputError(f"'{name}' is a checkpoint of {record.get('kind', 'something else')}, not of a {KIND}.")
    settings = settings_from_json(record["settings"])
    network = make_network(settings)
    load_weights(network, tensors, name)
    chosen = choose_device(device)
    return TrainedNetwork(network.to(chosen), settings, record, chosen)


def make_network(settings: TrainingSettings) -> UNet:
    """Return a network of the settings' architecture, with random weights."""
    return UNet(len(settings.channels), settings.width, settings.levels)


def predict(
    trained: TrainedNetwork, volume: Volume, pre: Volume | None = None, progress: Progress = ignore_progress
) -> Volume:
    """Return the tumor probability of every voxel of an image, on its grid.

    Parameters
    ----------
    trained : TrainedNetwork
    volume, pre : Volume
        Post-contrast image, and pre-contrast image on the same grid if the network was trained with one.
    progress : Progress
        Called per window; may raise `Cancelled`.

    Raises
    ------
    InputError
        If the pre-contrast image is missing or does not fit, or an image is constant or not finite.
    """
    settings = trained.settings
    progress(0.0, "Resampling")
    image, grid = network_image(volume, pre, settings.channels, settings.spacing_mm, settings.normalization)
    found = slide(trained.network, image, settings.patch, trained.device, portion(progress, 0.05, 0.95))
    probability = from_network_grid(grid.with_array(found), volume, "Tumor probability")
    progress(1.0, "Predicted")
    return probability


def tumor_mask(probability: Volume, points: ExtremePoints | None = None, margin: float = 0.1) -> Volume:
    """Return the voxels of probability above 0.5, only those in the box of the points if they are given.

    Parameters
    ----------
    probability : Volume
    points : ExtremePoints, optional
        Of the same image.
    margin : float
        The box is grown by this share of its sides on each side: clicks miss the ends by a voxel or two.
    """
    mask = probability.array > TUMOR_ABOVE
    if points is not None:
        grow = np.ceil(margin * (points.box_stop_kji - points.box_start_kji)).astype(np.int64)
        low, high = np.maximum(0, points.box_start_kji - grow), points.box_stop_kji + grow
        inside = np.zeros_like(mask)
        inside[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
        mask &= inside
    return probability.with_array(mask, "Tumor")


def uncertainty(probability: Volume, points: ExtremePoints | None) -> float:
    """Return how far the probabilities in the box are from a yes or no, 0 to 1; 1 if no tumor is found in it.

    Parameters
    ----------
    probability : Volume
    points : ExtremePoints or None
        Of the same image; their box is grown as by `tumor_mask`. Without points the whole image counts.

    Notes
    -----
    1 - 2 sum(p m) / (sum(p) + sum(m)), m being the mask: one minus the Dice that the network itself expects, if its
    probabilities were true. They seldom are; the figure ranks cases for review. On 20 synthetic breasts that two
    networks had not seen (`Testing/benchmarks/simple_table1.py`), its rank correlation with the true Dice in the box
    was -0.84 and -0.71.
    """
    box = tumor_mask(probability.with_array(np.ones(probability.shape, dtype=np.float32)), points).array
    p = probability.array[box].astype(np.float64)
    mask = p > TUMOR_ABOVE
    return 1 - 2 * float(p[mask].sum()) / (float(p.sum()) + float(mask.sum())) if mask.any() else 1.0


def predict_file(
    trained: TrainedNetwork,
    image: str | Path,
    output: str | Path,
    pre: str | Path | None = None,
    points: str | Path | None = None,
    probability: str | Path | None = None,
    reference: str | Path | None = None,
    progress: Progress = ignore_progress,
) -> dict[str, Any]:
    """Predict one image file, write the mask (and the probability), and return the key figures.

    Raises
    ------
    InputError
        If a file is missing or damaged, grids differ, or a target cannot be written.
    """
    for target in (output, probability):
        if target is not None and not str(target).lower().endswith(SUFFIXES):
            raise InputError(f"'{target}' has no known image suffix; use one of {', '.join(SUFFIXES)}.")
    volume = read_volume(image)
    truth = None if reference is None else read_volume(reference)
    if truth is not None and not truth.same_grid(volume):
        raise InputError(f"The reference '{truth.name}' is not on the grid of '{volume.name}'. Resample it first.")
    placed = None
    if points is not None:
        given = read_points(points)
        placed = ExtremePoints.from_ras(given.positions_ras, volume, given.labels)
    found = predict(trained, volume, None if pre is None else read_volume(pre), portion(progress, 0.0, 0.95))
    mask = tumor_mask(found, placed)
    figures: dict[str, Any] = {"volume_ml": float(np.count_nonzero(mask.array)) * mask.voxel_volume_mm3 / 1000}
    if truth is not None:
        figures |= asdict(score(mask, truth))
    write_volume(mask, output)
    if probability is not None:
        write_volume(found, probability)
    progress(1.0, f"Wrote {Path(output).name}")
    return figures


def predict_cohort(
    trained: TrainedNetwork, cases: Sequence[CohortCase], folder: str | Path, progress: Progress = ignore_progress
) -> dict[str, Any]:
    """Predict all cases; write a mask per case, scores.csv, review.csv, and, for cases that fail, failures.csv.

    scores.csv has a line per case: volumes of the mask in the whole image and, where there are points, in their box
    (grown by 10 percent), and, where the cohort has masks, the agreement of both with them. `<case>.nrrd` is the one in
    the box, or without points that in the whole image; review.csv says which, and lists the cases from the most
    uncertain of these masks to the least, see `uncertainty`.

    Raises
    ------
    InputError
        If every case fails, or nothing can be written.
    """
    folder = Path(folder)
    rows: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    review: list[dict[str, Any]] = []
    for n, case in enumerate(cases):
        part = portion(progress, n / len(cases), (n + 1) / len(cases))
        part(0.0, f"{case.name}, {n + 1} of {len(cases)}")
        try:
            volume, pre, points, truth = case.read()
            probability = predict(trained, volume, pre, part)
        except InputError as error:
            failures.append({"case": case.name, "error": str(error)})
            continue
        row: dict[str, Any] = {"case": case.name}
        regions = {"image": None} if points is None else {"image": None, "box": points}
        for where, box in regions.items():
            mask = tumor_mask(probability, box)
            if truth is None:
                row[f"volume_ml_{where}"] = float(np.count_nonzero(mask.array)) * mask.voxel_volume_mm3 / 1000
            else:
                row |= {f"{key}_{where}": value for key, value in asdict(score(mask, truth)).items()}
        write_volume(mask, folder / f"{case.name}.nrrd")
        rows.append(row)
        volume_ml = float(np.count_nonzero(mask.array)) * mask.voxel_volume_mm3 / 1000
        doubt = uncertainty(probability, points)
        line = {"case": case.name, "volume_ml": f"{volume_ml:.3f}", "uncertainty": f"{doubt:.4f}"}
        review.append(line | {"region": "image" if points is None else "box"})
    review.sort(key=lambda line: float(line["uncertainty"]), reverse=True)
    for name, table in (("scores.csv", rows), ("review.csv", review), ("failures.csv", failures)):
        if table:
            _write_table(folder / name, table)
        else:  # not that of an earlier run
            (folder / name).unlink(missing_ok=True)
    if not rows:
        raise InputError(f"None of the {len(cases)} cases could be predicted. The first: {failures[0]['error']}")
    figures: dict[str, Any] = {"cases": len(rows), "failed": len(failures)}
    for where in ("image", "box"):
        values = [row[f"dice_{where}"] for row in rows if f"dice_{where}" in row]
        if values:
            figures[f"mean_dice_{where}"] = float(np.mean(values))
    return figures


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def slide(
    network: UNet,
    image: NDArray[np.float32],
    patch: tuple[int, int, int],
    device: torch.device,
    progress: Progress = ignore_progress,
) -> NDArray[np.float32]:
    """Return the tumor probability of every voxel of an image larger or smaller than a patch.

    Parameters
    ----------
    network : UNet
    image : (C, K, J, I) ndarray of float32
    patch : tuple of 3 int
        Window; windows are half of it apart, and the image is padded with 0 where it is smaller.
    device : torch.device

    Returns
    -------
    (K, J, I) ndarray of float32
        Mean of all windows at a voxel, weighted with a Gaussian (sigma an eighth of the window) around their centers.
    """
    shape = image.shape[1:]
    padded = np.pad(image, [(0, 0), *((0, max(0, p - n)) for n, p in zip(shape, patch, strict=True))])
    weights = _gaussian_window(patch)
    total, weight = np.zeros(padded.shape[1:], dtype=np.float32), np.zeros(padded.shape[1:], dtype=np.float32)
    starts = list(product(*(_window_starts(n, p) for n, p in zip(padded.shape[1:], patch, strict=True))))
    at_once = max(1, _VOXELS_AT_ONCE // int(np.prod(patch)))
    network.eval()
    for n in range(0, len(starts), at_once):
        progress(n / len(starts), f"Window {n + 1} of {len(starts)}")
        windows = [tuple(slice(a, a + p) for a, p in zip(s, patch, strict=True)) for s in starts[n : n + at_once]]
        parts = torch.from_numpy(np.stack([padded[(slice(None), *window)] for window in windows]))
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = network(parts.to(device)).logits.float()
        for window, tumor in zip(windows, torch.softmax(logits, dim=1)[:, 1].cpu().numpy(), strict=True):
            total[window] += weights * tumor
            weight[window] += weights
    k, j, i = shape
    return (total / weight)[:k, :j, :i]


def _window_starts(length: int, side: int) -> list[int]:
    """Return the first voxels of windows that cover a line, about half a window apart and evenly spread."""
    count = 1 + -(-(length - side) // max(1, side // 2))
    return [round(n * (length - side) / max(1, count - 1)) for n in range(count)]


def _gaussian_window(patch: tuple[int, int, int]) -> NDArray[np.float32]:
    lines = [np.exp(-0.5 * ((np.arange(p) - (p - 1) / 2) / (p * _SIGMA_SHARE)) ** 2) for p in patch]
    window: NDArray[np.float32] = (lines[0][:, None, None] * lines[1][:, None] * lines[2]).astype(np.float32)
    return np.maximum(window, 1e-6)
