"""Fixtures shared by every test: real shared data when it is there, and small seeded volumes of awkward geometry."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from BreastBiomarkersLib.volume import Volume
from host.fixtures import slicer_host  # noqa: F401, a fixture

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real images and published reference values; skips where a user's clone has none."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no ../shared/data beside this clone: real images and reference tables are not shipped")
    return SHARED_DATA


def oblique_ijk_to_ras(spacing_ijk=(0.7, 1.3, 2.9), flip: int | None = None) -> np.ndarray:
    """Return a 4x4 IJK to RAS matrix, rotated about two axes, anisotropic, left-handed if one axis is flipped."""
    a, b = np.deg2rad(23.0), np.deg2rad(-14.0)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    signs = np.ones(3)
    if flip is not None:
        signs[flip] = -1
    matrix = np.eye(4)
    matrix[:3, :3] = about_z @ about_x @ np.diag(np.asarray(spacing_ijk) * signs)
    matrix[:3, 3] = (-31.0, 17.5, 102.25)
    return matrix


@pytest.fixture(params=[None, 0, 1, 2], ids=["right-handed", "flip-i", "flip-j", "flip-k"])
def oblique_volume(request) -> Volume:
    """Oblique, anisotropic, three different sizes, optionally with one axis flipped."""
    array = np.random.default_rng(7).normal(100.0, 20.0, (9, 14, 21)).astype(np.float32)
    return Volume(array, oblique_ijk_to_ras(flip=request.param), "oblique")
