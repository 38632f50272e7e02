"""Undo and redo of what a module wrote into segments; Slicer's own scene undo is off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import slicer

LIMIT = 50
"""Steps kept; the oldest is forgotten first."""


class State(Protocol):
    """Something of the scene as it was at one moment."""

    def is_valid(self) -> bool:
        """Tell whether there still is something to restore."""

    def restore(self) -> None:
        """Make it as it was."""


class Step(NamedTuple):
    """One change: what was before, what was after. The first state of each decides whether it can still be undone."""

    before: Sequence[State]
    after: Sequence[State]


class History:
    """The steps that can be undone, and those that can be redone."""

    def __init__(self) -> None:
        self._done: list[Step] = []
        self._undone: list[Step] = []

    def push(self, step: Step, replacing: Step | None = None) -> Step:
        """Note a change that was just made, and return it; a later version of the last one takes its place."""
        if replacing is not None and self._done and self._done[-1] is replacing:
            self._done.pop()
            step = Step(replacing.before, step.after)
        self._done = [*self._done, step][-LIMIT:]
        self._undone.clear()
        return step

    def clear(self) -> None:
        """Forget everything."""
        self._done.clear()
        self._undone.clear()

    def can_undo(self) -> bool:
        """Tell whether there is a change to take back; changes of nodes that are gone are forgotten."""
        return self._has_valid(self._done)

    def can_redo(self) -> bool:
        """Tell whether there is an undone change to make again."""
        return self._has_valid(self._undone)

    def undo(self) -> Step | None:
        """Take back the last change and return it, or None if there is none."""
        if not self.can_undo():
            return None
        step = self._done.pop()
        self._undone.append(step)
        _restore(step.before)
        return step

    def redo(self) -> Step | None:
        """Make the last undone change again and return it, or None if there is none."""
        if not self.can_redo():
            return None
        step = self._undone.pop()
        self._done.append(step)
        _restore(step.after)
        return step

    @staticmethod
    def _has_valid(steps: list[Step]) -> bool:
        while steps and not steps[-1].before[0].is_valid():
            steps.pop()
        return bool(steps)


def _restore(states: Sequence[State]) -> None:
    for state in states:
        if state.is_valid():
            state.restore()


class SegmentState:
    """Content, name, color, tags and visibility of some segments; that a segment does not exist is a state, too.

    Parameters
    ----------
    segmentation_node : vtkMRMLSegmentationNode
    segment_ids : sequence of str
    """

    def __init__(self, segmentation_node: Any, segment_ids: Sequence[str]) -> None:
        self._node = segmentation_node
        self._segments: dict[str, Any] = {segment_id: self._read(segment_id) for segment_id in segment_ids}

    def is_valid(self) -> bool:
        """Tell whether the segmentation still is in the scene."""
        return bool(slicer.mrmlScene.IsNodePresent(self._node))

    def restore(self) -> None:
        """Bring the segments back, add those that are gone, and remove those that were not there."""
        segmentation, display = self._node.GetSegmentation(), self._node.GetDisplayNode()
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        for segment_id, kept in self._segments.items():
            if kept is None:
                segmentation.RemoveSegment(segment_id)
                continue
            metadata, image, visible, fill = kept
            if segmentation.GetSegment(segment_id) is None:
                segmentation.AddSegment(slicer.vtkSegment(), segment_id)
            segmentation.GetSegment(segment_id).DeepCopyMetadata(metadata)
            logic.SetBinaryLabelmapToSegment(image, self._node, segment_id, logic.MODE_REPLACE)
            if display is not None:
                display.SetSegmentVisibility(segment_id, visible)
                display.SetSegmentOpacity2DFill(segment_id, fill)

    def _read(self, segment_id: str) -> Any:
        segment, display = self._node.GetSegmentation().GetSegment(segment_id), self._node.GetDisplayNode()
        if segment is None:
            return None
        metadata, image = slicer.vtkSegment(), slicer.vtkOrientedImageData()
        metadata.DeepCopyMetadata(segment)
        self._node.GetBinaryLabelmapRepresentation(segment_id, image)
        if display is None:
            return metadata, image, True, 1.0
        return metadata, image, display.GetSegmentVisibility(segment_id), display.GetSegmentOpacity2DFill(segment_id)
