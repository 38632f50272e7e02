"""Segment Editor effect "Extreme points": six clicks at the ends of a lesion fill the selected segment.

Slicer loads this file by its path and looks for the class of the same name; the folder's name becomes that of the
Python module. The method is in WeakSegmentLib.
"""

from __future__ import annotations

import os
from typing import Any

import qt
import slicer
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.nodes import grid_from_node, mask_to_image
from BreastBiomarkersLib.inslicer.panel import showing_errors
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect
from slicer.i18n import tr as _
from WeakSegmentLib.inslicer.lesions import Lesion, create_lesion
from WeakSegmentLib.inslicer.updates import ask, final_answer, set_record
from WeakSegmentLib.settings import RandomWalkSettings

POINTS = "WeakSegment.effectPoints."  # references from a segmentation to the points of its segments, by segment id
PRE_CONTRAST = "PreContrast"
EXCLUDE = "ExcludeNonEnhancing"


class SegmentEditorEffect(AbstractScriptedSegmentEditorEffect):
    """One object per editor; what the user chose is in the editor's parameter node and in the scene."""

    def __init__(self, scriptedEffect: Any) -> None:
        scriptedEffect.name = "Extreme points"
        scriptedEffect.title = _("Extreme points")
        scriptedEffect.perSegment = True
        scriptedEffect.requireSegments = True
        AbstractScriptedSegmentEditorEffect.__init__(self, scriptedEffect)
        self._observed: list[tuple[Any, int]] = []

    def clone(self) -> Any:
        """Return a new effect for another editor."""
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        cloned = effects.qSlicerSegmentEditorScriptedEffect(None)
        cloned.setPythonSource(__file__.replace("\\", "/"))
        return cloned

    def icon(self) -> Any:
        """Return the picture of the effect's button."""
        return qt.QIcon(os.path.join(os.path.dirname(__file__), "SegmentEditorEffect.svg"))

    def helpText(self) -> str:
        """Return what the editor shows below the effect's name; its first line is the tool tip."""
        return "<html>" + _(
            "Fill the segment from six points, one at each end of a lesion.<br>Place the points in the slice views, "
            "then press Apply. Moving a point and applying again replaces the segment.<p>Corrections, several lesions "
            "and live updates are in the module WeakSegment."
        )

    def setupOptionsFrame(self) -> None:
        """Make the controls."""
        self.placeButton = qt.QPushButton(_("Place points"))
        self.placeButton.setToolTip(_("Place the missing points by clicking in the slice views, one after the other."))
        self.placeButton.setCheckable(True)
        self.placeButton.connect("clicked(bool)", self.onPlace)
        self.clearButton = qt.QPushButton(_("Clear points"))
        self.clearButton.setToolTip(_("Take all six points back."))
        self.clearButton.connect("clicked()", self.onClear)
        buttons = qt.QHBoxLayout()
        buttons.addWidget(self.placeButton)
        buttons.addWidget(self.clearButton)
        self.scriptedEffect.addOptionsWidget(buttons)

        self.statusLabel = qt.QLabel()
        self.statusLabel.setWordWrap(True)
        self.scriptedEffect.addOptionsWidget(self.statusLabel)

        self.preSelector = slicer.qMRMLNodeComboBox()
        self.preSelector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        self.preSelector.showChildNodeTypes = False
        self.preSelector.addEnabled = self.preSelector.removeEnabled = False
        self.preSelector.noneEnabled = True
        self.preSelector.setMRMLScene(slicer.mrmlScene)
        self.preSelector.setToolTip(_("Image before injection, on the same grid; it is subtracted from the image."))
        self.preSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onPreSelected)
        self.scriptedEffect.addLabeledOptionsWidget(_("Pre-contrast (optional):"), self.preSelector)

        self.excludeCheckBox = qt.QCheckBox(_("Exclude non-enhancing tissue"))
        self.excludeCheckBox.setToolTip(_("For contrast-enhanced images; turn off for others (default on)."))
        self.excludeCheckBox.connect("clicked(bool)", self.onExclude)
        self.scriptedEffect.addOptionsWidget(self.excludeCheckBox)

        self.applyButton = qt.QPushButton(_("Apply"))
        self.applyButton.setToolTip(_("Fill the selected segment; masking settings of the editor are respected."))
        self.applyButton.connect("clicked()", self.onApply)
        self.scriptedEffect.addOptionsWidget(self.applyButton)

        self.placeWidget = slicer.qSlicerMarkupsPlaceWidget()
        self.placeWidget.setMRMLScene(slicer.mrmlScene)
        self.placeWidget.buttonsVisible = False
        self.placeWidget.placeMultipleMarkups = slicer.qSlicerMarkupsPlaceWidget.ForcePlaceMultipleMarkups
        self.placeWidget.connect("activeMarkupsPlaceModeChanged(bool)", self.onPlaceModeChanged)
        self.scriptedEffect.addOptionsWidget(self.placeWidget)

    def setMRMLDefaults(self) -> None:
        """Set what is not chosen yet."""
        self.scriptedEffect.setParameterDefault(EXCLUDE, int(RandomWalkSettings.exclude_non_enhancing))

    def activate(self) -> None:
        """Show the points of the selected segment."""
        self.updateGUIFromMRML()

    def deactivate(self) -> None:
        """Stop placing, hide the points, listen to nothing."""
        self.placeWidget.setPlaceModeEnabled(False)
        self._show(None)

    def sourceVolumeNodeChanged(self) -> None:
        """React to another image."""
        self.updateGUIFromMRML()

    def interactionNodeModified(self, interactionNode: Any) -> None:
        """Stay active while points are placed, unlike effects in general."""

    def updateGUIFromMRML(self) -> None:
        """Bring the controls up to date."""
        points = self.pointsNode()
        self._show(points)
        if self.placeWidget.currentNode() is not points:
            self.placeWidget.setCurrentNode(points)
        problem = self.problem()
        if self.placeWidget.placeModeEnabled and not problem:
            self.placeWidget.setPlaceModeEnabled(False)  # all six are there
        wasBlocked = self.preSelector.blockSignals(True)
        self.preSelector.setCurrentNode(self.scriptedEffect.nodeReference(PRE_CONTRAST))
        self.preSelector.blockSignals(wasBlocked)
        self.excludeCheckBox.setChecked(bool(self.scriptedEffect.integerParameter(EXCLUDE)))
        self.placeButton.setChecked(self.placeWidget.placeModeEnabled)
        self.placeButton.setEnabled(self.volumeNode() is not None and self.segment()[0] is not None)
        self.clearButton.setEnabled(points is not None)
        self.applyButton.setEnabled(not problem)
        self.statusLabel.setText(problem or _("All six points are placed."))

    def updateMRMLFromGUI(self) -> None:
        """Nothing to do: every control writes its own value."""

    def segment(self) -> tuple[Any, str]:
        """Return the segmentation and the selected segment's id."""
        node = self.scriptedEffect.parameterSetNode()
        segmentation = None if node is None else node.GetSegmentationNode()
        segmentId = "" if node is None else node.GetSelectedSegmentID() or ""
        if segmentation is None or segmentation.GetSegmentation().GetSegment(segmentId) is None:
            return None, ""
        return segmentation, segmentId

    def volumeNode(self) -> Any:
        """Return the image that is segmented."""
        node = self.scriptedEffect.parameterSetNode()
        return None if node is None else node.GetSourceVolumeNode()

    def pointsNode(self) -> Any:
        """Return the points of the selected segment, or None."""
        segmentation, segmentId = self.segment()
        return None if segmentation is None else segmentation.GetNodeReference(POINTS + segmentId)

    def problem(self) -> str:
        """Return what is missing before the segment can be filled, or nothing."""
        if self.segment()[0] is None:
            return _("Select a segment.")
        if self.pointsNode() is None:
            return _("Place six points, one at each end of the lesion.")
        try:
            Lesion(self.pointsNode()).extreme_points(grid_from_node(self.volumeNode()))
        except InputError as error:
            return str(error)
        return ""

    def onPlace(self, checked: bool) -> None:
        """Start or stop placing; the list is made when it is needed."""
        with showing_errors(_("The points cannot be placed.")):
            if checked and self.pointsNode() is None:
                segmentation, segmentId = self.segment()
                name = segmentation.GetSegmentation().GetSegment(segmentId).GetName()
                points = create_lesion(self.volumeNode(), f"{name} points").points_node
                segmentation.SetNodeReferenceID(POINTS + segmentId, points.GetID())
            self.updateGUIFromMRML()
            self.placeWidget.setPlaceModeEnabled(checked)
        self.updateGUIFromMRML()

    def onClear(self) -> None:
        """Take all points back."""
        self.pointsNode().UnsetAllControlPoints()

    def onPreSelected(self, node: Any) -> None:
        """Keep the choice with the scene."""
        self.scriptedEffect.setNodeReference(PRE_CONTRAST, node)

    def onExclude(self, checked: bool) -> None:
        """Keep the choice with the scene."""
        self.scriptedEffect.setParameter(EXCLUDE, int(checked))

    def onPlaceModeChanged(self, active: bool) -> None:
        """React to placing that was started or stopped elsewhere."""
        self.updateGUIFromMRML()

    def onApply(self) -> None:
        """Fill the segment."""
        with showing_errors(_("The segment was not filled.")), slicer.util.WaitCursor():
            self.fill()

    def fill(self) -> None:
        """Compute the lesion and hand it to the editor, which applies its masking and keeps the state for undo.

        Raises
        ------
        InputError
            If something is missing or the images do not fit; the segment is unchanged then.
        """
        segmentation, segmentId = self.segment()
        if segmentation is None:
            raise InputError(_("Select a segment."))
        settings = {"exclude_non_enhancing": bool(self.scriptedEffect.integerParameter(EXCLUDE))}
        pre = self.scriptedEffect.nodeReference(PRE_CONTRAST)
        question = ask(self.volumeNode(), self.pointsNode(), pre, None, RandomWalkSettings.method, "", settings)
        answer = final_answer(question.inputs)
        modifier = slicer.vtkOrientedImageData()
        slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
            mask_to_image(answer.masks[0], segmentation), self.scriptedEffect.defaultModifierLabelmap(), modifier, False
        )
        self.scriptedEffect.saveStateForUndo()
        replace = slicer.qSlicerSegmentEditorAbstractEffect.ModificationModeSet
        self.scriptedEffect.modifySelectedSegmentByLabelmap(modifier, replace)
        set_record(segmentation, segmentId, answer.result)

    def _show(self, points: Any) -> None:
        """Show these points and follow their changes, and no others."""
        if [node for node, _tag in self._observed[:1]] == [points]:
            return
        for node, tag in self._observed:
            node.RemoveObserver(tag)
            if node.GetDisplayNode() is not None:
                node.GetDisplayNode().SetVisibility(False)
        self._observed.clear()
        if points is None:
            return
        points.GetDisplayNode().SetVisibility(True)
        events = slicer.vtkMRMLMarkupsNode
        for event in (events.PointPositionDefinedEvent, events.PointPositionUndefinedEvent, events.PointModifiedEvent):
            self._observed.append((points, points.AddObserver(event, self._onPoints)))

    def _onPoints(self, caller: Any, event: Any) -> None:
        self.updateGUIFromMRML()
