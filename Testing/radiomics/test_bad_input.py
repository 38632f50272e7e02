"""Input that other programs choke on: what is refused, how early, and what is measured all the same."""

from __future__ import annotations

import tracemalloc
from contextlib import nullcontext
from fractions import Fraction

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume
from RadiomicsPanelLib.morphology import Shape, maximum_diameter
from RadiomicsPanelLib.roi import Case, prepare_roi
from RadiomicsPanelLib.settings import MAX_LEVELS, Settings
from scipy import ndimage
from scipy.spatial.distance import pdist


def test_refusing_levels_takes_no_memory_of_their_number(lump):
    """A width that would give 10^9 levels is refused with no more memory than preparing the region takes."""
    case = lump()
    span = float(np.ptp(case.image.array[case.mask.array]))
    peaks = {}
    for levels in (MAX_LEVELS - 1, 1e9):
        settings = Settings(discretization="bin_width", bin_width=span / levels, bin_count=None)
        refused = pytest.raises(InputError, match=f"at most {MAX_LEVELS} are analysed. Coarsen: a bin width of")
        tracemalloc.start()
        with refused if levels > MAX_LEVELS else nullcontext():
            prepare_roi(case, settings)
        peaks[levels] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[1e9] <= 1.1 * peaks[MAX_LEVELS - 1]


@pytest.mark.parametrize("count", [MAX_LEVELS + 1, 10**9])
def test_settings_refuse_a_number_of_bins(count):
    with pytest.raises(InputError, match=f"bin_count has to be a whole number, 2 to {MAX_LEVELS}"):
        Settings(bin_count=count)


def test_levels_of_single_precision_are_those_of_exact_arithmetic():
    """Multiples of a tenth, in 32 bits: edges at 0.1 n in 64 bits, as the definition has them."""
    values = (np.arange(4096) / 10).astype(np.float32).reshape(1, 64, 64)
    mask = np.ones(values.shape, dtype=bool)
    case = Case(Volume(values, np.eye(4), "image"), Volume(mask, np.eye(4), "mask"), "case", "all")
    roi = prepare_roi(case, Settings(bin_count=100))
    exact = [Fraction(float(v)) for v in values.ravel()]
    low, span = min(exact), max(exact) - min(exact)
    expected = [min(int(100 * (v - low) / span) + 1, 100) for v in exact]
    assert (roi.levels.ravel() != expected).mean() < 1e-3, "only a voxel on an edge itself may round"
    assert np.abs(roi.levels.ravel() - expected).max() <= 1


def test_a_folded_sheet_is_measured_by_its_hull():
    """A thin, folded mask has a large surface; its diameter needs the corners of the hull only."""
    folds = np.indices((24, 26, 28))
    sheet = np.abs(np.sin(folds[1] / 2) * 4 + 12 - folds[0]) < 1.2
    image = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=sheet.shape), 1)
    case = Case(Volume(image, np.eye(4), "image"), Volume(sheet, np.eye(4), "mask"), "case", "sheet")
    shape = Shape(prepare_roi(case, Settings()))
    corners = shape.hull.points[shape.hull.vertices]
    assert len(corners) < len(shape.mesh.vertices) / 5
    assert maximum_diameter(shape) == pytest.approx(pdist(shape.mesh.vertices[::2]).max(), rel=0.03)
    assert maximum_diameter(shape) >= pdist(shape.mesh.vertices[::2]).max()
