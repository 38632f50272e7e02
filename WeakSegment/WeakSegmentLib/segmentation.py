"""The verb: an image and six points in; a lesion mask, a pseudo-mask, a score map and a replayable record out."""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Progress, ignore_progress
from BreastBiomarkersLib.volume import Volume
from numpy.typing import NDArray

from WeakSegmentLib.methods import (
    Click,
    CropResult,
    crop_intensities,
    require_memory,
    walk_as_published,
    walk_on_posterior,
)
from WeakSegmentLib.points import ExtremePoints
from WeakSegmentLib.settings import METHODS, NetworkSettings, PublishedSettings, RandomWalkSettings, Settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """One lesion, on the grid of the image.

    Attributes
    ----------
    mask : Volume of bool
        The lesion.
    pseudo_mask : Volume of uint8
        `Label` values: background, tumor, unlabeled.
    score : Volume of float32
        Last score of the random walker in [0, 1], zero away from the lesion. It ranks voxels; it is not a probability.
    contrast : float or None
        0.5 (intensity is useless) to 1 (lesion and background intensities do not overlap); None if not measured.
    record : dict
        Every input and constant of this run and how its solves went, ready for JSON; see `replay`.
    """

    mask: Volume
    pseudo_mask: Volume
    score: Volume
    contrast: float | None
    record: dict[str, Any]

    @property
    def volume_ml(self) -> float:
        """Volume of the lesion in ml."""
        return float(np.count_nonzero(self.mask.array)) * self.mask.voxel_volume_mm3 / 1000


def segment_by_random_walk(
    volume: Volume,
    points: ExtremePoints,
    settings: Settings | None = None,
    progress: Progress = ignore_progress,
    pre: Volume | None = None,
    clicks: Sequence[Click] = (),
    others: Volume | None = None,
) -> Segmentation:
    """Return the lesion that six extreme points and a random walker find; no network, unless the settings ask for it.

    Parameters
    ----------
    volume : Volume
        The image; for contrast-enhanced MRI a post-contrast phase.
    points : ExtremePoints
        Of this image.
    settings : RandomWalkSettings, PublishedSettings or NetworkSettings, optional
        Chooses the method; the default one if not given.
    progress : Progress
    pre : Volume, optional
        Pre-contrast image on the same grid; the method then works on `volume` minus `pre`.
    clicks : sequence of Click
        Corrections, in the order they were made.
    others : Volume, optional
        Non-zero in other lesions, on the same grid: they are background of this one and stay out of its mask. The
        published method does not look at it.

    Raises
    ------
    InputError
        If the images do not share a grid, hold voxels that are not numbers or are constant near the lesion, show no
        background around it, or the lesion has more voxels than the method takes.
    """
    settings = RandomWalkSettings() if settings is None else settings
    for more in (pre, others):
        if more is not None and not volume.same_grid(more):
            raise InputError(
                f"'{more.name}' ({_grid(more)}) is not on the grid of '{volume.name}' ({_grid(volume)}), or lies "
                "elsewhere in the patient. Resample it to that image first."
            )
    require_memory(points, volume, settings)
    if isinstance(settings, NetworkSettings):
        from WeakSegmentLib.network_method import walk_with_network  # needs torch, whose import is not timed
    started = time.perf_counter()
    if isinstance(settings, PublishedSettings):
        found = walk_as_published(volume, pre, points, clicks, settings, progress)
    elif isinstance(settings, NetworkSettings):
        found = walk_with_network(volume, pre, points, clicks, settings, progress, others)
    else:
        found = walk_on_posterior(volume, pre, points, clicks, settings, progress, others)
    if not all(solve["converged"] for solve in found.notes["solves"]):
        _log.warning("A random walk did not converge; see 'solves' in the record.")
    result = Segmentation(
        mask=volume.with_array(_on_image(found.mask, found, volume), "Tumor"),
        pseudo_mask=volume.with_array(_on_image(found.labels, found, volume), "Pseudo-mask"),
        score=volume.with_array(_on_image(found.score, found, volume), "Random-walk score"),
        contrast=found.contrast,
        record={
            "method": settings.method,
            "settings": asdict(settings),
            "image": {"name": volume.name, "shape_kji": list(volume.shape), "ijk_to_ras": volume.ijk_to_ras.tolist()},
            "pre": None if pre is None else pre.name,
            "points_ras_mm": points.positions_ras.tolist(),
            "roles": list(points.roles),
            "clicks": [{"position_ras_mm": list(click.position_ras), "tumor": click.tumor} for click in clicks],
            "crop_kji": [[s.start, s.stop] for s in found.crop],
            "crop_checksum": _checksum(volume, pre, found.crop),
            "others_checksum": _checksum_of_others(others, found.crop),
            **found.notes,
            "seconds": time.perf_counter() - started,
        },
    )
    progress(1.0, "Segmented")
    return result


def replay(
    record: Mapping[str, Any],
    volume: Volume,
    progress: Progress = ignore_progress,
    pre: Volume | None = None,
    others: Volume | None = None,
) -> Segmentation:
    """Return the segmentation a record describes, computed again on the same image.

    Raises
    ------
    InputError
        If the image is not the one of the record, or the other lesions are not.
    """
    try:
        settings = METHODS[record["method"]](
            **{key: tuple(value) if isinstance(value, list) else value for key, value in record["settings"].items()}
        )
        crop = tuple(slice(start, stop) for start, stop in record["crop_kji"])
        clicks = [Click(tuple(click["position_ras_mm"]), click["tumor"]) for click in record["clicks"]]
        points_ras, checksum, shape = record["points_ras_mm"], record["crop_checksum"], record["image"]["shape_kji"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"This is not a complete segmentation record ({error}).") from error
    if list(volume.shape) != shape or _checksum(volume, pre, crop) != checksum:
        raise InputError(f"The record was made on another image than '{volume.name}' (or another pre-contrast image).")
    if _checksum_of_others(others, crop) != record.get("others_checksum"):
        raise InputError(f"The record was made with other lesions marked on '{volume.name}' than the given ones.")
    again = segment_by_random_walk(
        volume, ExtremePoints.from_ras(points_ras, volume), settings, progress, pre, clicks, others
    )
    if again.record.get("weights_checksum") != record.get("weights_checksum"):
        raise InputError("The record was made with other network weights than the ones that are there now.")
    return again


def _on_image(part: NDArray[Any], found: CropResult, volume: Volume) -> NDArray[Any]:
    whole = np.zeros(volume.shape, dtype=part.dtype)
    whole[found.crop] = part
    return whole


def _checksum(volume: Volume, pre: Volume | None, crop: tuple[slice, ...]) -> int:
    return zlib.crc32(crop_intensities(volume, pre, crop).tobytes())


def _checksum_of_others(others: Volume | None, crop: tuple[slice, ...]) -> int | None:
    return None if others is None else zlib.crc32((others.array[crop] != 0).tobytes())


def _grid(volume: Volume) -> str:
    k, j, i = volume.shape
    return f"{i} x {j} x {k} voxels"
