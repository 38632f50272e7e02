"""Regions to measure: the IBSI digital phantom, and small seeded ones of awkward shape and geometry."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from BreastBiomarkersLib.volume import Volume
from RadiomicsPanelLib.extract import compute_features
from RadiomicsPanelLib.level_image import LevelImage
from RadiomicsPanelLib.roi import Case, prepare_roi
from RadiomicsPanelLib.settings import PRESETS, Settings
from scipy import ndimage

# IBSI digital phantom, doi 10.1148/radiol.2020191145, CC BY 4.0: slices of rows, 2 mm voxels.
PHANTOM = """
14411 14611 41641 44641
14411 11611 11311 44611
14411 11111 11911 11611
14411 11111 11111 11611
"""
PHANTOM_OUTSIDE = ((1, 2, 0), (2, 0, 3), (2, 0, 4), (2, 2, 2), (3, 0, 3), (3, 0, 4))


def read_reference(path: Path, delimiter: str = ",", value: str = "value") -> dict[str, tuple[float, float]]:
    """Return tag -> (value, tolerance) of a reference table; rows without a value are left out."""
    with path.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter=delimiter) if row[value]]
    return {row["tag"]: (float(row[value]), float(row["tolerance"])) for row in rows}


def by_tag(values) -> dict[str, float | None]:
    """Return reference tag -> value."""
    return {f"{v.feature.tag}_{v.aggregation}".rstrip("_"): v.value for v in values}


def outside_tolerance(values, reference: dict[str, tuple[float, float]]) -> dict[str, tuple[float | None, float]]:
    """Return tag -> (ours, theirs) of what differs by more than the tolerance; ours are rounded to three digits."""
    ours, wrong = by_tag(values), {}
    for tag, (value, tolerance) in reference.items():
        mine = ours[tag]
        if mine is None or abs(float(f"{mine:.3g}") - value) > tolerance + 1e-9 * abs(value):
            wrong[tag] = (mine, value)
    return wrong


def three_digits(value: float, reference: tuple[float, float]) -> float:
    """Return the value as the tables print it: whole numbers where the reference is one, else three digits."""
    return float(round(value)) if reference[0] % 1 == 0 and abs(reference[0]) >= 100 else float(f"{value:.3g}")


@pytest.fixture(scope="session")
def ibsi() -> SimpleNamespace:
    """The functions above, for tests."""
    return SimpleNamespace(
        read_reference=read_reference, by_tag=by_tag, outside_tolerance=outside_tolerance, three_digits=three_digits
    )


@pytest.fixture
def phantom() -> Case:
    levels = np.array([[list(row) for row in line.split()] for line in PHANTOM.split("\n") if line], dtype=int)
    mask = np.ones(levels.shape, dtype=bool)
    mask[tuple(np.transpose(PHANTOM_OUTSIDE))] = False
    matrix = np.diag([2.0, 2.0, 2.0, 1.0])
    return Case(Volume(levels, matrix, "phantom"), Volume(mask, matrix, "mask"), "phantom", "region")


@pytest.fixture(scope="session")
def lump():
    """Return a function that makes a ragged lump with texture on a grid of three different sizes, off its center."""

    def make(matrix: np.ndarray | None = None, seed: int = 3, shape=(15, 22, 27)) -> Case:
        rng = np.random.default_rng(seed)
        axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
        radius = np.sqrt(((axes[0] - 0.1) / 0.7) ** 2 + ((axes[1] + 0.1) / 0.6) ** 2 + (axes[2] / 0.5) ** 2)
        inside = radius + 0.15 * ndimage.gaussian_filter(rng.normal(size=shape), 1.5) / 0.05 < 1
        image = 200 + 60 * ndimage.gaussian_filter(rng.normal(size=shape), 0.8)
        matrix = np.diag([0.7, 1.3, 2.9, 1.0]) if matrix is None else matrix
        return Case(Volume(image, matrix, "image"), Volume(inside, matrix, "mask"), "case", "lump")

    return make


@pytest.fixture
def ragged_levels() -> LevelImage:
    """Levels 1 to 9 on 6 x 7 x 5 voxels with holes, an empty slice and an isolated voxel."""
    rng = np.random.default_rng(11)
    levels = rng.integers(1, 10, (6, 7, 5)) * (rng.random((6, 7, 5)) < 0.75)
    levels[4] = 0
    levels[5] = 0
    levels[5, 3, 2] = 2
    return LevelImage.from_levels(levels, 9)


@pytest.fixture(scope="session")
def measure():
    """Return a function from a case and settings (by preset name or in full) to feature values."""

    def run(case: Case, settings: Settings | str, families=None):
        return compute_features(
            prepare_roi(case, PRESETS[settings] if isinstance(settings, str) else settings), families
        )

    return run
