"""What the measures of a lesion need, taken out of the scene; the measuring itself may then run in a thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import slicer
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.nodes import (
    grid_from_node,
    local_to_world,
    mask_part_from_segment,
    segment_version,
)
from BreastBiomarkersLib.volume import Volume
from numpy.typing import NDArray

from WeakSegmentLib.measures import Measures, measure

Segment = tuple[Any, str]
"""Segmentation node and segment id."""

Part = tuple[Volume, tuple[slice, ...], NDArray[np.bool_]]


class Measurable(NamedTuple):
    """Masks and images on the smallest common part of the grid, free of nodes."""

    mask: Volume
    phases: list[Volume]
    reference: Volume | None

    def measure(self) -> Measures:
        """Return the read-outs; see `WeakSegmentLib.measures.measure`."""
        return measure(self.mask, self.phases, self.reference)


class MeasureReader:
    """Reads segments and images; keeps what it read last of the reference, which changes rarely and may be large."""

    def __init__(self) -> None:
        self._kept: tuple[Any, Part] | None = None

    def forget(self) -> None:
        """Drop what is kept from the scene."""
        self._kept = None

    def read(
        self, volume_node: Any, segment: Segment, reference: Segment | None = None, phase_nodes: Sequence[Any] = ()
    ) -> Measurable:
        """Return copies of what is to be measured.

        Parameters
        ----------
        volume_node : vtkMRMLScalarVolumeNode
            On whose grid is measured.
        segment, reference : Segment
        phase_nodes : sequence of vtkMRMLScalarVolumeNode
            Pre-contrast and two or more post-contrast images, or nothing.

        Raises
        ------
        InputError
            If a segment is empty or outside the image, or a phase lies on another grid.
        """
        grid, part, inside = self._filled(mask_part_from_segment(*segment, volume_node), volume_node)
        parts = [(part, inside)]
        true = None
        if reference is not None:
            true, where, values = self._filled(self._reference(reference, volume_node), volume_node)
            parts.append((where, values))
        start = tuple(min(p[axis].start for p, _ in parts) for axis in range(3))
        stop = tuple(max(p[axis].stop for p, _ in parts) for axis in range(3))
        common = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        small = grid.cropped(start, stop)
        masks = []
        for where, values in parts:
            array = np.zeros(small.shape, dtype=bool)
            array[tuple(slice(w.start - s, w.stop - s) for w, s in zip(where, start, strict=True))] = values
            masks.append(array)
        phases = []
        for node in phase_nodes:
            own = grid_from_node(node)
            if not own.same_grid(grid):
                raise InputError(f"'{own.name}' is not on the grid of '{volume_node.GetName()}'. Resample it first.")
            phases.append(small.with_array(slicer.util.arrayFromVolume(node)[common].copy(), own.name))
        truth = None if true is None else small.with_array(masks[1], true.name)
        return Measurable(small.with_array(masks[0]), phases, truth)

    @staticmethod
    def _filled(part: Part, volume_node: Any) -> Part:
        if not part[2].any():
            raise InputError(f"The segment '{part[0].name}' is empty, or lies outside '{volume_node.GetName()}'.")
        return part

    def _reference(self, reference: Segment, volume_node: Any) -> Part:
        node, segment_id = reference
        grid, version = grid_from_node(volume_node), segment_version(*reference)
        places = (local_to_world(node).tobytes(), grid.ijk_to_ras.tobytes(), grid.shape)
        key = (node.GetID(), segment_id, version, *places)
        if self._kept is None or self._kept[0] != key:
            self._kept = (key, mask_part_from_segment(*reference, volume_node))
        return self._kept[1]
