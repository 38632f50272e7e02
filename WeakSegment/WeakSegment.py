"""WeakSegment in Slicer: six points around a lesion to its segment. The method is in WeakSegmentLib."""

from __future__ import annotations

import json
import os
from enum import Enum
from typing import Annotated, Any, NamedTuple

import qt
import slicer
import vtk
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.panel import ModulePanel, showing_errors, suggested_volume
from BreastBiomarkersLib.progress import ignore_progress
from slicer import vtkMRMLMarkupsFiducialNode, vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Decimals, SingleStep, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
)
from WeakSegmentLib.settings import PublishedSettings, RandomWalkSettings

POINT_NAMES = ("Left", "Right", "Anterior", "Posterior", "Inferior", "Superior")
LESION_COLOR, UNLABELED_COLOR = (0.9, 0.34, 0.18), (1.0, 0.79, 0.08)
NEOPLASM = (
    "Segmentation category and type - DICOM master list~SCT^49755003^Morphologically Altered Structure"
    "~SCT^86049000^Neoplasm, Primary~^^~Anatomic codes - DICOM master list~SCT^76752008^Breast~^^"
)
ROLE_TAG = "WeakSegment.Role"  # marks our segments: a later run replaces these and no others
RECORD_TAG = "WeakSegment.Record"  # every input and constant of the run, for WeakSegmentLib.segmentation.replay
POINT_EVENTS = (
    slicer.vtkMRMLMarkupsNode.PointModifiedEvent,
    slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent,
    slicer.vtkMRMLMarkupsNode.PointPositionUndefinedEvent,
    slicer.vtkMRMLMarkupsNode.PointRemovedEvent,
)
SEGMENT_EVENTS = (
    slicer.vtkSegmentation.SegmentModified,
    slicer.vtkSegmentation.SegmentRemoved,
    slicer.vtkSegmentation.SourceRepresentationModified,
)


class WeakSegment(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("WeakSegment")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Markups", "Segmentations", "Volumes"]
        self.parent.contributors = ["BreastBiomarkers developers"]
        self.parent.helpText = (
            _("Segments a lesion of breast MRI from six clicks, one at each of its ends.")
            + ' <a href="https://github.com/BreastBiomarkers/SlicerBreastBiomarkers">'
            + _("Documentation")
            + "</a>"
        )
        self.parent.acknowledgementText = _(
            "After Zhong and Wang, SimPLe: similarity-aware propagation learning for weakly-supervised breast cancer "
            "segmentation in DCE-MRI, MICCAI 2023, doi 10.1007/978-3-031-43901-8_54."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    """Offer the simulated case in the Sample Data module; nothing is downloaded for it."""
    import SampleData

    category = "BreastBiomarkers"
    if hasattr(SampleData.SampleDataLogic, "registerCustomSampleDataCategory"):  # Slicer 5.12
        SampleData.SampleDataLogic.registerCustomSampleDataCategory(category, title=_("Breast biomarkers"))
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=category,
        sampleName="SyntheticBreastMRI",
        customDownloader=loadSyntheticCase,
        thumbnailFileName=os.path.join(os.path.dirname(__file__), "Resources", "Icons", "WeakSegment-sample.png"),
    )


def loadSyntheticCase(source=None):
    """Simulate the case of the tutorial and return its nodes; Sample Data passes its source."""
    exam = WeakSegmentLogic().simulateCase(seed=1)
    slicer.util.setSliceViewerLayers(background=exam.postNodes[0], fit=True)
    return [exam.preNode, *exam.postNodes, exam.pointsNode, exam.truthSegmentationNode, exam.tissueNode]


class Method(Enum):
    RANDOM_WALK = RandomWalkSettings.method
    PUBLISHED = PublishedSettings.method

    def label(self):
        return _("Random walk") if self is Method.RANDOM_WALK else _("As published")


@parameterNodeWrapper
class WeakSegmentParameterNode:
    """The user's choices; the values of the settings are explained in WeakSegmentLib.settings."""

    image: vtkMRMLScalarVolumeNode
    preContrast: vtkMRMLScalarVolumeNode
    points: vtkMRMLMarkupsFiducialNode
    output: vtkMRMLSegmentationNode
    segmentName: str = "Lesion"
    method: Method = Method.RANDOM_WALK
    longestSide: Annotated[int, WithinRange(16, 128)] = RandomWalkSettings.longest_side
    repetitions: Annotated[int, WithinRange(0, 20)] = RandomWalkSettings.repetitions
    excludeNonEnhancing: bool = RandomWalkSettings.exclude_non_enhancing
    noiseMultiple: Annotated[float, WithinRange(0.5, 6.0), SingleStep(0.1), Decimals(1)] = (
        RandomWalkSettings.noise_multiple
    )
    segmentAbove: Annotated[float, WithinRange(0.05, 0.95), SingleStep(0.05), Decimals(2)] = (
        RandomWalkSettings.segment_above
    )
    lesionSegmentId: str
    reference: vtkMRMLSegmentationNode
    referenceSegmentId: str


class WeakSegmentWidget(ModulePanel):
    packages = ("WeakSegmentLib", "BreastBiomarkersLib")

    def setup(self):
        super().setup()
        self.logic = WeakSegmentLogic()
        self._problem = ""
        self._scored = self._described = None
        place = self.ui.pointsWidget.markupsPlaceWidget()
        place.placeMultipleMarkups = slicer.qSlicerMarkupsPlaceWidget.ForcePlaceMultipleMarkups
        self.ui.createPointsButton.connect("clicked()", self.onCreatePoints)
        self.ui.undoButton.connect("clicked()", self.onUndo)
        self.ui.referenceSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onReferenceSelected)
        self.ui.referenceSelector.connect("currentSegmentChanged(QString)", self.onReferenceSelected)
        self.bind()

    def exit(self):
        self.ui.pointsWidget.markupsPlaceWidget().setPlaceModeEnabled(False)
        super().exit()

    def defaults(self):
        if self.parameters.image is None:
            self.parameters.image = suggested_volume()

    def forget(self):
        self._scored = self._described = None
        self.ui.resultLabel.text = ""
        self.logic.dropUndo()

    def problem(self):
        return self._problem

    def watched(self):
        p = self.parameters
        points = [(p.points, event) for event in POINT_EVENTS]
        moved = [(node, slicer.vtkMRMLTransformableNode.TransformModifiedEvent) for node in (p.image, p.points)]
        segments = [(node.GetSegmentation(), e) for node in (p.output, p.reference) if node for e in SEGMENT_EVENTS]
        return [*points, *moved, (p.image, slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent), *segments]

    def update(self):
        p = self.parameters
        self._problem = ""
        try:
            self.ui.pointsStatusLabel.text = self.logic.check(p.image, p.points, p.preContrast)
        except InputError as error:
            self._problem = self.ui.pointsStatusLabel.text = str(error)
        place = self.ui.pointsWidget.markupsPlaceWidget()
        if self.ui.pointsWidget.currentNode() is not p.points:
            self.ui.pointsWidget.setCurrentNode(p.points)
        elif place.placeModeEnabled and not self._problem:
            place.setPlaceModeEnabled(False)  # all six are there
        ours = p.method is Method.RANDOM_WALK
        for name in ("longestSideSpinBox", "excludeCheckBox", "noiseMultipleSlider", "segmentAboveSlider"):
            getattr(self.ui, name).enabled = ours
        self.ui.undoButton.enabled = self.logic.canUndo() and not self.job.running
        self.showReference()
        if self._described != (p.output, p.lesionSegmentId):
            self.ui.resultLabel.text = ""
        qt.QTimer.singleShot(0, self.showScores)  # one change of a segment makes many events

    def apply(self):
        p = self.parameters
        settings = {"repetitions": p.repetitions}
        if p.method is Method.RANDOM_WALK:
            settings["longest_side"] = p.longestSide
            settings["exclude_non_enhancing"] = p.excludeNonEnhancing
            settings["noise_multiple"] = p.noiseMultiple
            settings["segment_above"] = p.segmentAbove
        inputs = (p.image, p.points, p.preContrast, p.output, p.method.value, p.segmentName)
        done = self.run(
            lambda progress: self.logic.segment(*inputs, progress=progress, **settings),
            _("The lesion was not segmented."),
        )
        if done is None:
            return
        with slicer.util.NodeModify(p):
            p.output, p.lesionSegmentId = done.segmentationNode, done.segmentId
        self._described = (done.segmentationNode, done.segmentId)
        self.ui.resultLabel.text = describe(done.result)

    def onCreatePoints(self):
        with showing_errors(_("The points were not created.")):
            self.parameters.points = self.logic.createPoints(self.parameters.image)
            self.ui.pointsWidget.markupsPlaceWidget().setPlaceModeEnabled(True)

    def onUndo(self):
        with showing_errors(_("The last run was not undone.")):
            self.logic.undo()
        self.ui.resultLabel.text = ""
        self.refresh()

    def onReferenceSelected(self):
        if self.parameters is None:
            return
        node = self.ui.referenceSelector.currentNode()
        with slicer.util.NodeModify(self.parameters):
            self.parameters.reference = node
            self.parameters.referenceSegmentId = self.ui.referenceSelector.currentSegmentID() if node else ""

    def showReference(self):
        p, selector = self.parameters, self.ui.referenceSelector
        if selector.currentNode() is not p.reference or selector.currentSegmentID() != p.referenceSegmentId:
            wasBlocked = selector.blockSignals(True)
            selector.setCurrentNode(p.reference)
            selector.setCurrentSegmentID(p.referenceSegmentId)
            selector.blockSignals(wasBlocked)

    def showScores(self):
        from BreastBiomarkersLib.inslicer.nodes import segment_version

        p = self.parameters
        if p is None or self.job.running:
            return  # the panel was hidden or closed meanwhile, or a run is writing
        pair = (p.output, p.lesionSegmentId, p.reference, p.referenceSegmentId, p.image)
        compared = (*pair, segment_version(*pair[:2]), segment_version(*pair[2:4]))
        if compared == self._scored:
            return
        self._scored = compared
        if p.reference is None or not p.referenceSegmentId:
            self.ui.scoresLabel.text = _("Choose a reference segment.")
        elif p.output is None or not p.lesionSegmentId:
            self.ui.scoresLabel.text = _("Press Apply to make a segment to compare.")
        else:
            try:
                self.ui.scoresLabel.text = describeScores(self.logic.compare(*pair))
            except InputError as error:
                self.ui.scoresLabel.text = str(error)


def describe(result):
    """Return what the user should know about a finished run."""
    text = _("Lesion volume {volume:.2f} ml.").format(volume=result.volume_ml)
    if result.contrast is not None and result.contrast < RandomWalkSettings.exclusion_min_contrast:
        text += " " + _(
            "Its intensities overlap with those around it (contrast {contrast:.2f}, from 0.5 to 1): check the outline."
        ).format(contrast=result.contrast)
    return text


def describeScores(scores):
    """Return the read-out of a comparison with a reference."""
    lines = [_("Dice {dice:.3f}, Jaccard {jaccard:.3f}").format(dice=scores.dice, jaccard=scores.jaccard)]
    if scores.hd95_mm is not None:
        distances = _("Surfaces {mean:.1f} mm apart on average, 95 % Hausdorff {hd95:.1f} mm")
        lines.append(distances.format(hd95=scores.hd95_mm, mean=scores.surface_distance_mm))
    volumes = _("Volume {volume:.2f} ml, reference {reference:.2f} ml")
    lines.append(volumes.format(volume=scores.volume_ml, reference=scores.reference_ml))
    return "\n".join(lines)


class Segmented(NamedTuple):
    segmentationNode: Any
    segmentId: str
    unlabeledSegmentId: str
    result: Any  # WeakSegmentLib.segmentation.Segmentation


class SimulatedExam(NamedTuple):
    preNode: Any
    postNodes: list
    pointsNode: Any
    truthSegmentationNode: Any
    truthSegmentId: str
    tissueNode: Any
    parameters: dict


class WeakSegmentLogic(ScriptedLoadableModuleLogic):
    """The verbs, for the panel, the Python console and other modules; all raise InputError on bad input."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleLogic.__init__(self, parent)
        self._backup = None

    def getParameterNode(self):
        return WeakSegmentParameterNode(super().getParameterNode())

    def createPoints(self, volumeNode, name="Extreme points"):
        """Return a list of six named points, all to be placed; it moves with the volume's transform."""
        from BreastBiomarkersLib.inslicer.nodes import grid_from_node, place_beside

        grid_from_node(volumeNode)
        unique = slicer.mrmlScene.GenerateUniqueName(name)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", unique)
        node.CreateDefaultDisplayNodes()
        for label in POINT_NAMES:
            node.UnsetNthControlPointPosition(node.AddControlPoint(vtk.vtkVector3d(0, 0, 0), label))
        node.SetFixedNumberOfControlPoints(True)
        place_beside(node, volumeNode)
        return node

    def check(self, volumeNode, pointsNode, preContrastNode=None):
        """Return a line on the placed points; raises what keeps `segment` from running."""
        from BreastBiomarkersLib.inslicer.nodes import grid_from_node

        volume = grid_from_node(volumeNode)
        if preContrastNode is not None:
            pre = grid_from_node(preContrastNode, "pre-contrast image")
            if preContrastNode is volumeNode or not volume.same_grid(pre):
                raise InputError(
                    f"The pre-contrast image '{pre.name}' must be another image on the grid of '{volume.name}'. "
                    "Choose the one of the same series, or resample it to that image."
                )
        points, labels = self._extremePoints(pointsNode, volume)
        size = " x ".join(f"{mm:.0f}" for mm in ((points.box_stop_kji - points.box_start_kji) * volume.spacing)[::-1])
        text = _("All six points are placed; their box is {size} mm.").format(size=size)
        ends = [(labels[n], role) for n, role in sorted(zip(points.order, points.roles, strict=True))]
        other = [f"{label} ({role})" for label, role in ends if label in POINT_NAMES and label != role]
        if other:
            text += " " + _("At another end than their name says, which is allowed: {names}.").format(
                names=", ".join(other)
            )
        return text

    def segment(
        self,
        volumeNode,
        pointsNode,
        preContrastNode=None,
        segmentationNode=None,
        method="random-walk",
        segmentName="Lesion",
        progress=ignore_progress,
        **settings,
    ):
        """Segment the lesion between six points; `settings` are those of the method in WeakSegmentLib.settings."""
        from BreastBiomarkersLib.inslicer.nodes import require_in_scene, require_writable, volume_from_node
        from WeakSegmentLib.segmentation import segment_by_random_walk
        from WeakSegmentLib.settings import METHODS

        if method not in METHODS:
            raise InputError(f"There is no method '{method}'; use {' or '.join(METHODS)}.")
        if segmentationNode is not None:
            require_writable(segmentationNode)
        volume = volume_from_node(volumeNode)
        pre = None if preContrastNode is None else volume_from_node(preContrastNode, "pre-contrast image")
        points, _labels = self._extremePoints(pointsNode, volume)
        result = segment_by_random_walk(volume, points, METHODS[method](**settings), progress, pre)
        require_in_scene(volumeNode, *([] if segmentationNode is None else [segmentationNode]))
        return self._write(result, volumeNode, segmentationNode, segmentName or "Lesion")

    def canUndo(self):
        return self._backup is not None and self._backup.is_valid()

    def dropUndo(self):
        self._backup = None

    def undo(self):
        """Take back the last `segment` of this logic: old contents return, new segments and nodes go."""
        if not self.canUndo():
            return False
        backup, self._backup = self._backup, None
        backup.restore()
        return True

    def compare(self, segmentationNode, segmentId, referenceSegmentationNode, referenceSegmentId, volumeNode):
        """Return the agreement of two segments on the grid of the volume."""
        from BreastBiomarkersLib.inslicer.nodes import mask_from_segment
        from WeakSegmentLib.metrics import score

        mask = mask_from_segment(segmentationNode, segmentId, volumeNode)
        return score(mask, mask_from_segment(referenceSegmentationNode, referenceSegmentId, volumeNode))

    def simulateCase(self, seed=0, kind="any", diameter_mm=None, progress=ignore_progress):
        """Return a synthetic breast DCE-MRI exam with its truth, the same for the same arguments."""
        from BreastBiomarkersLib.inslicer.nodes import (
            labels_to_node,
            mask_to_segment,
            points_to_node,
            segmentation_for,
            volume_to_node,
        )
        from WeakSegmentLib.breast_parameters import BreastPhantomSettings
        from WeakSegmentLib.breast_phantom import Tissue, simulate_breast_case

        settings = BreastPhantomSettings(small=True, kind=kind, diameter_mm=diameter_mm)
        case = simulate_breast_case(settings, seed, progress)
        postNodes = [volume_to_node(volume) for volume in case.post]
        truth = segmentation_for(postNodes[0], "True lesion")
        return SimulatedExam(
            preNode=volume_to_node(case.pre),
            postNodes=postNodes,
            pointsNode=points_to_node(case.points, name="Extreme points"),
            truthSegmentationNode=truth,
            truthSegmentId=mask_to_segment(case.lesion, truth, "True lesion", color=(0.2, 0.7, 0.3)),
            tissueNode=labels_to_node(case.tissue, {t.value: t.name.lower() for t in Tissue}),
            parameters=case.parameters,
        )

    def _extremePoints(self, pointsNode, volume):
        from BreastBiomarkersLib.inslicer.nodes import points_from_node
        from WeakSegmentLib.points import ExtremePoints

        placed = points_from_node(pointsNode, "extreme points")
        names = [pointsNode.GetNthControlPointLabel(n) for n in range(pointsNode.GetNumberOfControlPoints())]
        missing = [name for name in names if name not in placed.labels]
        if missing and len(placed.labels) < len(POINT_NAMES):
            raise InputError(f"{len(placed.labels)} of 6 points are placed. Place next: {', '.join(missing)}.")
        return ExtremePoints.from_ras(placed.positions_ras, volume, placed.labels), placed.labels

    def _write(self, result, volumeNode, segmentationNode, name):
        from BreastBiomarkersLib.inslicer.nodes import SegmentBackup, find_segment, mask_to_segment, segmentation_for
        from WeakSegmentLib.pseudo_mask import Label

        created = segmentationNode is None
        node = segmentation_for(volumeNode, f"{volumeNode.GetName()} lesion") if created else segmentationNode
        unlabeled = result.pseudo_mask.with_array(result.pseudo_mask.array == Label.UNLABELED)
        parts = (
            ("lesion", result.mask, name, LESION_COLOR),
            ("unlabeled", unlabeled, f"{name} (unlabeled)", UNLABELED_COLOR),
        )
        backup = SegmentBackup(node, created, tags=[RECORD_TAG])
        ids = []
        try:
            for role, mask, segmentName, color in parts:
                segmentId = find_segment(node, segmentName, ROLE_TAG, role)
                if segmentId is None:
                    segmentId = mask_to_segment(mask, node, segmentName, color=color)
                    backup.added(segmentId)
                    dress(node, segmentId, role)
                else:
                    backup.keep(segmentId)
                    mask_to_segment(mask, node, segmentName, segmentId)
                ids.append(segmentId)
        except Exception:
            backup.restore()
            raise
        record = json.dumps(result.record).replace("|", "\\u007c")  # Slicer separates tags in files by |
        node.GetSegmentation().GetSegment(ids[0]).SetTag(RECORD_TAG, record)
        self._backup = backup
        return Segmented(node, *ids, result)


def dress(segmentationNode, segmentId, role):
    """Mark a new segment as ours and show it as it should look at first: lesion as contour, unlabeled band hidden."""
    segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
    segment.SetTag(ROLE_TAG, role)
    display = segmentationNode.GetDisplayNode()
    display.SetSegmentVisibility(segmentId, role == "lesion")
    display.SetSegmentOpacity2DFill(segmentId, 0.2)
    if role == "lesion":
        segment.SetTag(segment.GetTerminologyEntryTagName(), NEOPLASM)


class WeakSegmentTest(ScriptedLoadableModuleTest):
    def test_cases(self):
        from BreastBiomarkersLib.inslicer.self_test import source_cases

        for case in source_cases("WeakSegment") or [checkSimulatedCase]:
            self.delayDisplay(case.__name__)
            slicer.mrmlScene.Clear()
            case()


def checkSimulatedCase():
    """Segment the simulated case from its points and compare with its truth."""
    logic = WeakSegmentLogic()
    exam = logic.simulateCase(seed=1)
    done = logic.segment(exam.postNodes[0], exam.pointsNode, exam.preNode)
    truth = (exam.truthSegmentationNode, exam.truthSegmentId)
    dice = logic.compare(done.segmentationNode, done.segmentId, *truth, exam.postNodes[0]).dice
    if dice < 0.7:
        raise AssertionError(f"Dice {dice:.2f} with the truth")
