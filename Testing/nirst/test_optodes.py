"""Optode layouts: channel order, placement on the rim, fingerprints, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from NIRSTReconstructionLib.meshing import disc_mesh
from NIRSTReconstructionLib.optodes import Optodes, place_optodes, ring_optodes


def test_ring_channels_are_source_major_and_follow_the_ring():
    optodes = ring_optodes(41.0, 16)
    assert optodes.channels.shape == (240, 2)
    assert optodes.channels[:3].tolist() == [[0, 1], [0, 2], [0, 3]]
    assert optodes.channels[15 * 5 : 15 * 5 + 12].tolist()[-2:] == [[5, 0], [5, 1]]
    blocks = optodes.distances.reshape(16, 15)
    np.testing.assert_allclose(blocks, np.broadcast_to(blocks[0], blocks.shape))
    assert blocks[0, 7] == pytest.approx(82.0)
    clockwise = ring_optodes(41.0, 16, clockwise=True)
    assert clockwise.sources[1, 1] < 0 < optodes.sources[1, 1]


def test_sources_go_one_transport_length_inside_and_detectors_stay_on_the_rim():
    optodes = ring_optodes(41.0, 16)
    mesh = disc_mesh(refine_at=optodes.detectors)
    placed = place_optodes(mesh, optodes, musp=0.8)
    np.testing.assert_allclose(np.linalg.norm(placed.sources, axis=1), 41 - 1 / 0.8, atol=1e-3)
    np.testing.assert_allclose(placed.detectors, optodes.detectors, atol=1e-6)
    np.testing.assert_array_equal(placed.channels, optodes.channels)


def test_layout_id_tells_layouts_apart():
    ring = ring_optodes()
    assert ring.layout_id == ring_optodes().layout_id
    assert ring.layout_id != ring_optodes(41.5).layout_id
    assert ring.layout_id != replace(ring, channels=np.delete(ring.channels, 7, axis=0)).layout_id


def test_fibers_off_the_contour_or_in_a_wrong_unit_are_named():
    mesh = disc_mesh(41.0, 6.0)
    ring = ring_optodes()
    moved = ring.sources.copy()
    moved[4] *= 1.2
    with pytest.raises(InputError, match="Source 5 is 8.2 mm from the contour"):
        place_optodes(mesh, Optodes(moved, ring.detectors, ring.channels))
    with pytest.raises(InputError, match="1/cm"):
        place_optodes(mesh, ring, musp=0.01)
    with pytest.raises(InputError, match="leaves the mesh"):
        place_optodes(disc_mesh(2.0, 1.0), ring_optodes(2.0), musp=0.2)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"channels": [[0, 1], [0, 1]]}, "twice"),
        ({"channels": [[3, 1]]}, "not among the 3 sources"),
        ({"channels": [[0, 9]]}, "not among the 3 detectors"),
        ({"channels": [[0, 0]]}, "same place"),
        ({"channels": np.zeros((0, 2), dtype=int)}, "shape"),
        ({"channels": [[0.5, 1.0]]}, "whole numbers"),
        ({"sources": [[0, np.nan], [1, 0], [0, 1]]}, "source 1 is not a number"),
    ],
)
def test_impossible_layouts_are_refused(change, words):
    layout = {"sources": np.eye(3, 2), "detectors": np.eye(3, 2), "channels": np.array([[0, 1]])}
    layout.update({key: np.array(value) for key, value in change.items()})
    with pytest.raises(InputError, match=words):
        Optodes(**layout)
