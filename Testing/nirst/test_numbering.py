"""The numbering of the fibers is found where the light can tell it, and nowhere else."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume
from NIRSTReconstructionLib.fibers import Fibers
from NIRSTReconstructionLib.meshing import spline_contour
from NIRSTReconstructionLib.numbering import find_numbering
from NIRSTReconstructionLib.plane import Plane
from NIRSTReconstructionLib.simulation import BREAST_TISSUES, fibers_on_contour, simulate_on_plane
from NIRSTReconstructionLib.spectra import load_spectra

PLANE = Plane(np.eye(4))
SPECTRA = load_spectra([735.0, 826.0])
COUNT = 12
TISSUES = {0: BREAST_TISSUES["breast"], 1: BREAST_TISSUES["lesion"]}


@functools.cache
def outline(flattening: float):
    """Return an egg, blunt on one side, or (0) a circle."""
    angle = np.arange(48) * 2 * np.pi / 48
    radius = 38 * (1 + flattening * (np.cos(angle) + 0.6 * np.sin(2 * angle)))
    return spline_contour(np.column_stack([np.cos(angle), np.sin(angle)]) * radius[:, None])


def lesion_mask():
    x, y = np.meshgrid(np.arange(-50, 51.0), np.arange(-50, 51.0))
    grid = np.eye(4)
    grid[:3, 3] = (-50, -50, 0)
    return Volume((np.hypot(x - 14, y - 4) < 8).astype(np.uint8)[None], grid, "lesion")


@functools.cache
def simulated(flattening):
    contour = outline(flattening)
    fibers = fibers_on_contour(contour, PLANE, COUNT)
    made = simulate_on_plane(lesion_mask(), TISSUES, PLANE, contour, fibers, SPECTRA, noise=0.01, gain_sd=0.2, seed=3)
    return made.measurements, fibers.detectors


def placed(positions):
    return Fibers(positions, positions, name="ring")


@pytest.mark.parametrize(("turn", "reverse"), [(0, False), (5, False), (0, True), (7, True)])
def test_rotation_and_reversal_are_found_on_an_egg(turn, reverse):
    contour = outline(0.08)
    light, true = simulated(0.08)
    clicked = np.roll(true[::-1] if reverse else true, turn, axis=0)
    found = find_numbering(light, placed(clicked), PLANE, contour, SPECTRA)
    assert found.decided
    assert np.allclose(clicked[found.best.order], true), "the fibers in this order are those of the data"
    assert found.next_misfit > found.best.misfit
    same = turn == 0 and not reverse
    assert found.words.startswith("The numbers are right" if same else "Fiber 1 of the data is at number")
    assert same == (found.best.misfit == pytest.approx(found.given.misfit))


def test_any_order_of_clicks_is_brought_in_order():
    contour = outline(0.08)
    light, true = simulated(0.08)
    clicked = true[np.random.default_rng(2).permutation(COUNT)]
    found = find_numbering(light, placed(clicked), PLANE, contour, SPECTRA)
    assert found.decided
    assert np.allclose(clicked[found.best.order], true)


def test_a_circle_tells_nothing_without_the_lesion_and_all_with_it():
    contour = outline(0.0)
    light, true = simulated(0.0)
    clicked = np.roll(true, 4, axis=0)
    found = find_numbering(light, placed(clicked), PLANE, contour, SPECTRA)
    assert not found.decided
    assert "does not tell the numberings apart" in found.words
    found = find_numbering(light, placed(clicked), PLANE, contour, SPECTRA, lesion_mask())
    assert found.decided
    assert np.allclose(clicked[found.best.order], true)


def test_other_fibers_are_refused():
    contour = outline(0.08)
    light, true = simulated(0.08)
    with pytest.raises(InputError, match="source and detector at once"):
        find_numbering(light, Fibers(true[:6], true[6:]), PLANE, contour, SPECTRA)
    with pytest.raises(InputError, match="names fiber 12, but only 11 are placed"):
        find_numbering(light, placed(true[:-1]), PLANE, contour, SPECTRA)
