"""What of a segment moves when the clicks move: the same segmentation from points shifted by a voxel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Progress, ignore_progress, portion
from BreastBiomarkersLib.volume import Volume

from WeakSegmentLib.methods import Click
from WeakSegmentLib.points import ExtremePoints
from WeakSegmentLib.segmentation import segment_by_random_walk
from WeakSegmentLib.settings import Settings

RUNS = 6
MAX_DRAWS = 100


def jitter_agreement(
    volume: Volume,
    points: ExtremePoints,
    settings: Settings | None = None,
    pre: Volume | None = None,
    clicks: Sequence[Click] = (),
    others: Volume | None = None,
    runs: int = RUNS,
    seed: int = 0,
    progress: Progress = ignore_progress,
) -> Volume:
    """Return the share of runs, 0 to 1, in which each voxel is lesion when every point is moved at random.

    Each point moves by -1, 0 or 1 voxel along each axis. Voxels between 0 and 1 form the band that depends on where
    exactly was clicked. It is no confidence: how well the runs agree says little of how right they are (its rank
    correlation with the true Dice was 0.04 to 0.68 on the data this was tried on).

    Parameters
    ----------
    volume, points, settings, pre, clicks, others
        As for `segment_by_random_walk`.
    runs : int
    seed : int
        Same seed, same result.
    progress : Progress

    Raises
    ------
    InputError
        As `segment_by_random_walk`, or if the lesion is so small that moved points do not span a box.
    """
    rng = np.random.default_rng(seed)
    share = np.zeros(volume.shape, dtype=np.float32)  # what stays untouched takes no memory
    crops = []
    for run in range(runs):
        moved = _moved_points(points, volume, rng)
        stage = portion(progress, run / runs, (run + 1) / runs)
        found = segment_by_random_walk(volume, moved, settings, stage, pre, clicks, others)
        crops.append(np.array(found.record["crop_kji"]))
        crop = tuple(slice(start, stop) for start, stop in crops[-1])
        share[crop] += found.mask.array[crop]
    reached = zip(np.min(crops, axis=0)[:, 0], np.max(crops, axis=0)[:, 1], strict=True)
    share[tuple(slice(start, stop) for start, stop in reached)] /= runs
    return volume.with_array(share, "Share of runs with moved points")


def _moved_points(points: ExtremePoints, volume: Volume, rng: Any) -> ExtremePoints:
    for _ in range(MAX_DRAWS):
        voxels = np.clip(points.voxels_kji + rng.integers(-1, 2, (6, 3)), 0, np.array(volume.shape) - 1)
        try:
            return ExtremePoints.from_ras(volume.points_to_ras(voxels[:, ::-1]), volume)
        except InputError:
            continue
    raise InputError(f"The lesion is too small on '{volume.name}' to move its points by a voxel.")
