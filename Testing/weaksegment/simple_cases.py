"""Tiny cohorts for the training tests."""

from __future__ import annotations

import numpy as np
from BreastBiomarkersLib.points import LabeledPoints, write_points
from BreastBiomarkersLib.volume import write_volume
from weaksegment.lesions import ellipsoid_lesion
from WeakSegmentLib.points import extreme_points_of_mask
from WeakSegmentLib.training_settings import TrainingSettings

TINY = TrainingSettings(
    width=2,
    levels=2,
    spacing_mm=(2.0, 2.0, 2.0),
    patch=(8, 8, 8),
    train_iterations=8,
    finetune_iterations=5,
    retrain_iterations=7,
    checkpoint_every=3,
)
"""Twenty iterations of a network of some hundred weights."""


def write_case(folder, number, shape=(15, 26, 30)):
    """Write image, pre, mask and points of an ellipsoid of its own size and noise; return its line."""
    rng = np.random.default_rng(number)
    radii = rng.uniform(6.0, 10.0, 3)
    image, mask = ellipsoid_lesion(shape, (2.0, 1.5, 1.4), radii, seed=number)
    pre = image.with_array(image.array - 60 * mask.array.astype(np.float32), "pre")
    points = extreme_points_of_mask(mask)
    name = f"case{number}"
    write_volume(image, folder / f"{name}_image.nrrd")
    write_volume(pre, folder / f"{name}_pre.nrrd")
    write_volume(mask, folder / f"{name}_mask.nrrd")
    write_points(LabeledPoints(list(points.roles), points.positions_ras), folder / f"{name}_points.mrk.json")
    return f"{name},{name}_image.nrrd,{name}_points.mrk.json,{name}_pre.nrrd,{name}_mask.nrrd"


def write_table(folder, lines):
    """Write cohort.csv and return its path."""
    path = folder / "cohort.csv"
    path.write_text("\n".join(["case,image,points,pre,mask", *lines]) + "\n")
    return path
