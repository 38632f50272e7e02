"""The page Data: an image, a segmentation, which of its segments, and what the image's grid does to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer
from BreastBiomarkersLib.errors import InputError

from RadiomicsPanelLib.inslicer.page import Page
from RadiomicsPanelLib.inslicer.sources import image_version, mask_version

SEGMENT_EVENTS = (
    slicer.vtkSegmentation.SegmentAdded,
    slicer.vtkSegmentation.SegmentRemoved,
    slicer.vtkSegmentation.SegmentModified,
    slicer.vtkSegmentation.SourceRepresentationModified,
)


class DataPage(Page):
    """What is measured."""

    def setup(self) -> None:
        """Connect the table of segments, which no connector of parameter nodes can."""
        self._described: Any = None
        self.ui.segmentsTable.connect("selectionChanged(QItemSelection,QItemSelection)", self._on_selected)

    def watched(self) -> Sequence[tuple[Any, ...]]:
        """Return the image and the segmentation with what changes them."""
        p = self.parameters
        moved = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
        segments = [(p.segmentation.GetSegmentation(), event) for event in SEGMENT_EVENTS] if p.segmentation else []
        return [
            (p.image, slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent),
            (p.image, moved),
            (p.segmentation, moved),
            *segments,
        ]

    def update(self) -> None:
        """Show the segments, the chosen ones, and warnings about their geometry."""
        p, table = self.parameters, self.ui.segmentsTable
        was_blocked = table.blockSignals(True)
        if table.segmentationNode() is not p.segmentation:
            table.setSegmentationNode(p.segmentation)
        if tuple(table.selectedSegmentIDs()) != tuple(p.segmentIds):
            table.setSelectedSegmentIDs(self.panel.chosenIds() or [])
        table.blockSignals(was_blocked)
        try:
            ids = self.logic.chosenSegments(p.segmentation, self.panel.chosenIds())
            version = (
                p.segmentation.GetID(),
                image_version(p.image),
                *((i, mask_version(p.segmentation, i)) for i in ids),
            )
            if version != self._described:
                self.ui.geometryLabel.text = "\n".join(self.logic.describePlaces(p.image, p.segmentation, list(ids)))
                self._described = version
        except InputError as error:
            self.ui.geometryLabel.text = str(error)
            self._described = None
        self.ui.geometryLabel.setVisible(bool(self.ui.geometryLabel.text))

    def forget(self) -> None:
        """Drop the warnings."""
        self._described = None
        self.ui.geometryLabel.text = ""

    def _on_selected(self, selected: Any = None, deselected: Any = None) -> None:
        if self.parameters is not None:
            self.parameters.segmentIds = list(self.ui.segmentsTable.selectedSegmentIDs())
