"""WeakSegment in Slicer: six points around a lesion to its segment. The method is in WeakSegmentLib."""

from __future__ import annotations

import logging
import os
from dataclasses import fields
from enum import Enum
from types import SimpleNamespace
from typing import Annotated

import qt
import slicer
import vtk
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.live import LatestWins
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
from WeakSegmentLib.settings import METHODS, NetworkSettings, PublishedSettings, RandomWalkSettings

WEIGHTS_KEY = "WeakSegment/Weights"
SURFACE_DELAY_MS = 300  # after the last live update
Markups = slicer.vtkMRMLMarkupsNode
POINT_EVENTS = (
    Markups.PointModifiedEvent,
    Markups.PointPositionDefinedEvent,
    Markups.PointPositionUndefinedEvent,
    Markups.PointRemovedEvent,
)
LIST_EVENTS = (vtk.vtkCommand.ModifiedEvent, Markups.PointAddedEvent, Markups.PointRemovedEvent)
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
        slicer.app.connect("startupCompleted()", registerEditorEffect)


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


def registerEditorEffect():
    """Add the effect "Extreme points" to the Segment Editor; a Slicer built without the editor has none."""
    try:
        import qSlicerSegmentationsEditorEffectsPythonQt as effects
    except ImportError:
        return
    effect = effects.qSlicerSegmentEditorScriptedEffect(None)
    source = os.path.join(os.path.dirname(__file__), "SegmentEditorExtremePointsLib", "SegmentEditorEffect.py")
    effect.setPythonSource(source.replace("\\", "/"))
    effect.self().register()


def loadSyntheticCase(source=None):
    """Simulate the case of the tutorial and return its nodes; Sample Data passes its source."""
    exam = WeakSegmentLogic().simulateCase(seed=1)
    slicer.util.setSliceViewerLayers(background=exam.postNodes[0], fit=True)
    return [exam.preNode, *exam.postNodes, exam.pointsNode, exam.truthSegmentationNode, exam.tissueNode]


class MethodName(Enum):
    def label(self):
        titles = {"random-walk": _("Random walk"), "network": _("Network"), "published": _("As published")}
        return titles.get(self.value, self.value)


Method = MethodName("Method", {name.upper().replace("-", "_"): name for name in METHODS}, module=__name__)


class Contrast(Enum):
    """What the method works on where there is a pre-contrast image; see WeakSegmentLib.inslicer.updates."""

    DIFFERENCE = "difference"
    PERCENT = "percent"
    ALONE = "alone"

    def label(self):
        return {
            Contrast.DIFFERENCE: _("Difference from pre-contrast"),
            Contrast.PERCENT: _("Percentage enhancement"),
            Contrast.ALONE: _("Image alone"),
        }[self]


@parameterNodeWrapper
class WeakSegmentParameterNode:
    """The user's choices; the values of the settings are explained in WeakSegmentLib.settings."""

    image: vtkMRMLScalarVolumeNode
    preContrast: vtkMRMLScalarVolumeNode
    contrast: Contrast = Contrast.DIFFERENCE
    late: vtkMRMLScalarVolumeNode  # last post-contrast image, for the kinetics
    points: vtkMRMLMarkupsFiducialNode
    output: vtkMRMLSegmentationNode
    live: bool = False
    method: Method = Method(RandomWalkSettings.method)
    refineIterations: Annotated[int, WithinRange(0, 500)] = NetworkSettings.refine_iterations
    longestSide: Annotated[int, WithinRange(16, 128)] = RandomWalkSettings.longest_side
    repetitions: Annotated[int, WithinRange(0, 20)] = RandomWalkSettings.repetitions
    excludeNonEnhancing: bool = RandomWalkSettings.exclude_non_enhancing
    noiseMultiple: Annotated[float, WithinRange(0.5, 6.0), SingleStep(0.1), Decimals(1)] = (
        RandomWalkSettings.noise_multiple
    )
    segmentAbove: Annotated[float, WithinRange(0.05, 0.95), SingleStep(0.05), Decimals(2)] = (
        RandomWalkSettings.segment_above
    )
    reference: vtkMRMLSegmentationNode
    referenceSegmentId: str


class WeakSegmentWidget(ModulePanel):
    packages = ("WeakSegmentLib", "BreastBiomarkersLib")
    _writing = False

    def setup(self):
        super().setup()
        self.parts = panelParts()
        self.logic = WeakSegmentLogic()
        self.following = LatestWins(self.onAnswer, self.onLiveError)
        self.measuring = LatestWins(self.onMeasured, self.onNotMeasured)
        ui = self.ui
        self.lesionTable = self.parts.LesionTable(ui.lesionsTable, self.select, self.refresh)
        self.placing = self.parts.Placing(ui, self.refresh)
        self.cohort = self.makeCohortPage()
        self.forget()
        self._problem = ""
        self._dragging = False
        ui.addLesionButton.connect("clicked()", self.onAddLesion)
        ui.removeLesionButton.connect("clicked()", self.onRemoveLesion)
        ui.undoButton.connect("clicked()", self.onUndo)
        ui.redoButton.connect("clicked()", self.onRedo)
        ui.findPhasesButton.connect("clicked()", self.onFindPhases)
        ui.tableButton.connect("clicked()", self.onTable)
        ui.distanceButton.connect("clicked()", self.onDistanceSurface)
        ui.scoreButton.connect("clicked()", self.onScoreMap)
        ui.jitterButton.connect("clicked()", self.onJitterBand)
        ui.show3DButton.connect("clicked(bool)", self.onShow3D)
        ui.editorButton.connect("clicked()", self.onSegmentEditor)
        ui.nirstButton.connect("clicked()", self.onNirst)
        ui.radiomicsButton.connect("clicked()", self.onRadiomics)
        ui.weightsPathLineEdit.setCurrentPath(str(qt.QSettings().value(WEIGHTS_KEY) or ""))
        for signal in ("currentPathChanged(QString)", "validInputChanged(bool)"):
            ui.weightsPathLineEdit.connect(signal, self.onWeights)
        ui.referenceSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onReferenceSelected)
        ui.referenceSelector.connect("currentSegmentChanged(QString)", self.onReferenceSelected)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeAddedEvent, self.onNodeAdded)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeRemovedEvent, self.onNodeRemoved)
        self.makeShortcuts()
        self.bind()

    def makeCohortPage(self):
        page = slicer.util.loadUI(self.resourcePath("UI/WeakSegmentCohort.ui"))
        self.ui.cohortPlace.layout().addWidget(page)
        return self.parts.CohortPage(slicer.util.childWidgetVariables(page), self.showCase, self.chosenCase)

    def makeShortcuts(self):
        ui, self.shortcuts = self.ui, []
        for key, react in (
            ("Ctrl+Shift+P", ui.placePointsButton.click),
            ("Ctrl+Shift+M", ui.tumorClicksButton.click),
            ("Ctrl+Shift+X", ui.backgroundClicksButton.click),
            ("Ctrl+Shift+Z", ui.undoButton.click),
            ("Ctrl+Shift+Y", ui.redoButton.click),
        ):
            shortcut = qt.QShortcut(self.parent)
            shortcut.setKey(qt.QKeySequence(key))
            shortcut.connect("activated()", react)
            shortcut.setEnabled(False)
            self.shortcuts.append(shortcut)

    def enableShortcuts(self, enabled):
        for shortcut in self.shortcuts:
            shortcut.setEnabled(enabled)

    def cleanup(self):
        for background in (self.following, self.measuring, self.cohort):
            background.close()
        for shortcut in self.shortcuts:
            shortcut.setParent(None)
            shortcut.deleteLater()
        self.shortcuts = []
        super().cleanup()

    def enter(self):
        super().enter()
        self.enableShortcuts(True)

    def exit(self):
        self.enableShortcuts(False)
        self.placing.stop()
        super().exit()

    def defaults(self):
        p = self.parameters
        if p.image is None:
            self.choose(self.logic.phasesByName())
        if p.image is None:
            p.image = suggested_volume()
        lesions = self.logic.lesions()
        if p.points is None and len(lesions) == 1:
            p.points = lesions[0].points_node
        if p.output is None and p.points is not None:  # a run may have ended while the panel was hidden
            p.output = self.logic.lesion(p.points).segments()[0]

    def forget(self):
        self.following.cancel()
        self.measuring.cancel()
        self.logic.forget()
        self._asked = {}  # what each lesion's segment was last asked to follow, by id of its points
        self._texts = {}  # what to say of each lesion, by id of its points
        self._question = self._step = None
        self._make3D = False  # surfaces are to be made when live updates pause
        self._measured = None
        self.cohort.forget()
        self.lesionTable.forget()
        self.placing.forget()
        self.ui.resultLabel.text = self.ui.measuresLabel.text = ""

    def refresh(self, caller=None, event=None):
        if not self._writing:
            super().refresh(caller, event)

    def problem(self):
        return self._problem

    def watched(self):
        p, wanted = self.parameters, []
        lesions = self.logic.lesions()
        for lesion in lesions:
            wanted += [(lesion.points_node, event) for event in LIST_EVENTS]
        nodes = [] if p.points is None else [p.points, *self.logic.lesion(p.points).click_nodes().values()]
        for node in nodes:
            wanted += [(node, event) for event in POINT_EVENTS]
            wanted.append((node, Markups.PointStartInteractionEvent, self.onDragStarted))
            wanted.append((node, Markups.PointEndInteractionEvent, self.onDragEnded))
        moved = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
        wanted += [(node, moved) for node in (p.image, p.points)]
        segmentations = {p.output, p.reference, *(lesion.segments()[0] for lesion in lesions)} - {None}
        wanted += [(node.GetSegmentation(), event) for node in segmentations for event in SEGMENT_EVENTS]
        return wanted + [(node, slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent) for node in self.images()]

    def update(self):
        p = self.parameters
        self._problem = ""
        try:
            self.ui.pointsStatusLabel.text = self.logic.check(p.image, p.points, p.preContrast)
        except InputError as error:
            self._problem = self.ui.pointsStatusLabel.text = str(error)
        self.showLesions()
        for name, control in self.settingControls().items():
            control.enabled = name in self.settings()
        self.ui.contrastComboBox.enabled = p.preContrast is not None
        self.ui.addLesionButton.enabled = p.image is not None
        self.ui.undoButton.enabled = self.logic.canUndo() and not self.job.running
        self.ui.redoButton.enabled = self.logic.canRedo() and not self.job.running
        self.ui.resultLabel.text = "" if p.points is None else self._texts.get(p.points.GetID(), "")
        self.showReference()
        self.showOnward()
        self.cohort.update()
        for name in ("casesGroupBox", "reviewTable"):  # opening a case would take the image away from the job
            getattr(self.cohort.ui, name).enabled = not self.job.running
        self.follow()
        self.measure()

    # Lesions

    def showLesions(self):
        p = self.parameters
        self.lesionTable.show(self.logic.describeLesions(p.points), p.points)
        self.ui.removeLesionButton.enabled = p.points is not None and not self.job.running
        lesion = None if p.points is None else self.logic.lesion(p.points)
        self.placing.show(lesion, p.image, not self._problem, p.method.value != PublishedSettings.method)

    def select(self, lesion):
        if self.parameters is None:
            return
        segmentation, _ids = lesion.segments()
        with slicer.util.NodeModify(self.parameters):
            self.parameters.points = lesion.points_node
            if segmentation is not None:
                self.parameters.output = segmentation

    def onAddLesion(self):
        with showing_errors(_("The lesion was not added.")):
            self.select(self.logic.lesion(self.logic.createPoints(self.parameters.image)))
            self.placing.start()

    def onRemoveLesion(self):
        lesion = self.logic.lesion(self.parameters.points)
        question = _("Delete {name} with its points, corrections and segment?").format(name=lesion.name)
        if not (slicer.app.testingEnabled() or slicer.util.confirmOkCancelDisplay(question)):
            return  # in testing mode the display says no, whatever its documentation says
        self.following.cancel()
        with showing_errors(_("The lesion was not removed.")):
            lesion.remove()
        rest = self.logic.lesions()
        if rest:
            self.select(rest[-1])
        self.refresh()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAdded(self, caller, event, node):
        if node.IsA("vtkMRMLMarkupsFiducialNode"):
            self.refresh()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeRemoved(self, caller, event, node):
        if node.IsA("vtkMRMLMarkupsFiducialNode"):
            self.refresh()

    # Cohort

    def showCase(self, image, pre, points):
        """Work on a case of the cohort, and start placing its points if some are missing."""
        lesion = self.logic.lesion(points)
        with slicer.util.NodeModify(self.parameters):
            self.parameters.image, self.parameters.preContrast, self.parameters.late = image, pre, None
        self.select(lesion)
        slicer.util.setSliceViewerLayers(background=image, foreground=None, label=None, fit=True)
        if not lesion.is_complete():
            self.placing.start()

    def chosenCase(self):
        return self.parameters.image, self.parameters.preContrast, self.parameters.points

    # Apply and live

    def question(self):
        """Return the arguments of the logic's `segment` and `ask`."""
        p = self.parameters
        name = self.logic.lesion(p.points).name
        chosen = {"contrast": p.contrast.value, **self.settings()}
        return (p.image, p.points, p.preContrast, p.output, p.method.value, name), chosen

    def settings(self):
        """Return the settings of the panel that the chosen method has."""
        p = self.parameters
        values = {
            "weights": self.ui.weightsPathLineEdit.currentPath,
            "refine_iterations": p.refineIterations,
            "longest_side": p.longestSide,
            "repetitions": p.repetitions,
            "exclude_non_enhancing": p.excludeNonEnhancing,
            "noise_multiple": p.noiseMultiple,
            "segment_above": p.segmentAbove,
        }
        known = {field.name for field in fields(METHODS[p.method.value])}
        return {name: value for name, value in values.items() if name in known}

    def settingControls(self):
        ui = self.ui
        return {
            "weights": ui.weightsPathLineEdit,
            "refine_iterations": ui.refineSpinBox,
            "longest_side": ui.longestSideSpinBox,
            "repetitions": ui.repetitionsSpinBox,
            "exclude_non_enhancing": ui.excludeCheckBox,
            "noise_multiple": ui.noiseMultipleSlider,
            "segment_above": ui.segmentAboveSlider,
        }

    def onWeights(self, change):
        qt.QSettings().setValue(WEIGHTS_KEY, self.ui.weightsPathLineEdit.currentPath)
        self.refresh()

    def apply(self):
        self.following.cancel()
        points = self.parameters.points
        self._asked[points.GetID()] = self.fingerprint()
        inputs, settings = self.question()
        wasLocked = points.GetLocked()
        points.SetLocked(True)
        try:
            done = self.run(
                lambda progress: self.logic.segment(*inputs, progress=progress, **settings),
                _("The lesion was not segmented."),
            )
        finally:
            points.SetLocked(wasLocked)
        if done is not None:
            self.show(points, done, self.parts.describe(done.result))

    def show(self, points, done, text):
        self._texts[points.GetID()] = text
        if self.parameters is not None:
            self.parameters.output = done.segmentationNode
        self.refresh()

    def fingerprint(self):
        p = self.parameters
        choices = (p.method, p.contrast, *self.settings().items())
        return (*choices, *self.logic.fingerprint(p.image, p.preContrast, p.points))

    def follow(self):
        """Ask for the selected lesion anew if it changed since its segment was last asked for, and live is on."""
        p = self.parameters
        if self._problem or self.job.running:
            return
        now, key = self.fingerprint(), p.points.GetID()
        if key not in self._asked and self.logic.lesion(p.points).segment()[0] is not None:
            self._asked[key] = now  # made earlier; it stays until something changes
        if not p.live or self._dragging or self._asked.get(key) == now:
            return
        self._asked[key] = now
        question = self.question()  # the panel may be left before the time has come
        self.following.request(lambda: self.prepare(*question))

    def prepare(self, inputs, settings):
        self._question, self._step = self.logic.ask(*inputs, **settings), None
        plain, answers = self._question.inputs, self.logic.answers
        return lambda progress: answers(plain, progress)

    def onAnswer(self, answer):
        question = self._question
        shown3D = question.segmentation_node is not None and self.logic.is3DShown(question.segmentation_node)
        if shown3D:  # each write would make the surfaces anew, which takes long
            self.logic.show3D(question.segmentation_node, False)
            self._make3D = True
        self._writing = True  # writing makes many events; the panel catches up once
        try:
            done = self.logic.write(question, answer, replacing=self._step)
        except InputError as error:  # a node went away meanwhile
            self.following.cancel()
            self.onLiveError(error)
            return
        finally:
            self._writing = False
        self._step = done.step
        self._question = question._replace(segmentation_node=done.segmentationNode)
        text = self.parts.describe(done.result)
        self.show(question.lesion.points_node, done, text if answer.final else text + " " + _("(preview)"))
        if answer.final and self._make3D:
            qt.QTimer.singleShot(SURFACE_DELAY_MS, self.make3DAgain)

    def make3DAgain(self):
        """Make the surfaces that were dropped for live updates, unless the next one is under way."""
        node = self.segment()[0] if self.parameters is not None else None
        if self._make3D and node is not None and not self.following.busy:
            self._make3D = False
            self.logic.show3D(node)

    def onLiveError(self, error):
        if not isinstance(error, InputError):
            logging.error("Live update failed", exc_info=error)
            if self.parameters is not None:
                self.parameters.live = False
        if self.parameters is not None:
            self.ui.resultLabel.text = _("Not updated: {reason}").format(reason=error)

    def onDragStarted(self, caller, event):
        self._dragging = True
        self.following.cancel()

    def onDragEnded(self, caller, event):
        self._dragging = False
        self.refresh()

    def onUndo(self):
        self.step(self.logic.undo, _("The last update was not taken back."))

    def onRedo(self):
        self.step(self.logic.redo, _("The update was not made again."))

    def step(self, change, message):
        self.following.cancel()
        p = self.parameters
        output = p.output
        self._dragging = True  # do not follow the points while they are put back
        with showing_errors(message):
            change()
        self._dragging = False
        home = None if p.points is None else self.logic.lesion(p.points).segments()[0]
        if home is None and output is not None and slicer.mrmlScene.IsNodePresent(output):
            home = output
        p.output = home  # the first run made it: undone, there is none
        if p.points is not None:
            self._texts.pop(p.points.GetID(), None)
            if not self._problem:
                self._asked[p.points.GetID()] = self.fingerprint()
        self.refresh()

    # Reference

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

    # Measures

    def images(self):
        p = self.parameters
        return [node for node in (p.image, p.preContrast, p.late) if node is not None]

    def segment(self):
        """Return segmentation node and segment id of the selected lesion; None and nothing where there is none."""
        p = self.parameters
        return (None, "") if p.points is None else self.logic.lesion(p.points).segment()

    def measurable(self):
        """Return the arguments of the logic's `measure`."""
        p = self.parameters
        return (p.image, *self.segment(), p.preContrast, p.late, p.reference, p.referenceSegmentId)

    def measure(self):
        if self.job.running:
            return
        now = (*self.measurable(), *self.logic.versions(*self.measurable()))
        if now == self._measured:
            return
        self._measured = now
        inputs, logic = self.measurable(), self.logic
        if inputs[0] is None or inputs[1] is None:
            self.measuring.cancel()
            self.ui.measuresLabel.text = _("Press Apply, or turn Live on, to make a segment to measure.")
            return

        def prepare():
            plain = logic.measurable(*inputs)
            return lambda progress: [plain.measure()]

        self.measuring.request(prepare)

    def onMeasured(self, found):
        self.ui.measuresLabel.text = self.parts.describe_measures(found)

    def onNotMeasured(self, error):
        if not isinstance(error, InputError):
            logging.error("Measuring failed", exc_info=error)
        self.ui.measuresLabel.text = str(error)

    def onFindPhases(self):
        with showing_errors(_("The phases were not found.")):
            self.choose(self.logic.findPhases())

    def choose(self, phases):
        if phases is not None:
            with slicer.util.NodeModify(self.parameters):
                self.parameters.image, self.parameters.preContrast, self.parameters.late = phases

    def onTable(self):
        p = self.parameters
        with showing_errors(_("No table was made.")):
            self.logic.measureAll(p.image, p.preContrast, p.late, p.reference, p.referenceSegmentId)

    def onDistanceSurface(self):
        p = self.parameters
        with showing_errors(_("No surface was made.")):
            self.logic.distanceSurface(p.image, p.points, p.reference, p.referenceSegmentId)

    def onScoreMap(self):
        self.makeMap(self.logic.scoreMap, _("No score map was made."))

    def onJitterBand(self):
        self.makeMap(self.logic.jitterBand, _("No jitter band was made."))

    def makeMap(self, make, message):
        self.following.cancel()
        inputs, settings = self.question()
        self.job.toggle(lambda: self.run(lambda progress: make(*inputs, progress=progress, **settings), message))

    # Onward

    def showOnward(self):
        there = self.segment()[0] is not None and not self.job.running
        for name in ("editorButton", "nirstButton", "radiomicsButton", "show3DButton"):
            getattr(self.ui, name).enabled = there
        self.ui.tableButton.enabled = self.lesionTable.any_segment and not self.job.running
        self.ui.distanceButton.enabled = there and bool(self.parameters.referenceSegmentId)
        for name in ("scoreButton", "jitterButton"):
            getattr(self.ui, name).enabled = not self._problem and not self.job.running
        self.ui.show3DButton.setChecked(there and self.logic.is3DShown(self.segment()[0]))

    def onShow3D(self, shown):
        self._make3D = False
        self.logic.show3D(self.segment()[0], shown)

    def onSegmentEditor(self):
        self.handOn("SegmentEditor")

    def onNirst(self):
        self.handOn("NIRSTReconstruction")

    def onRadiomics(self):
        self.handOn("RadiomicsPanel")

    def handOn(self, module):
        with showing_errors(_("{module} did not take the segment.").format(module=module)):
            self.logic.handOn(module, self.parameters.image, *self.segment())


def panelParts():
    """Return what the panel is made of; it is imported when the panel is first shown, not when Slicer starts."""
    from WeakSegmentLib.inslicer.cohort_page import CohortPage
    from WeakSegmentLib.inslicer.lesion_table import LesionTable
    from WeakSegmentLib.inslicer.placing import Placing
    from WeakSegmentLib.inslicer.readouts import describe, describe_measures

    return SimpleNamespace(
        CohortPage=CohortPage,
        LesionTable=LesionTable,
        Placing=Placing,
        describe=describe,
        describe_measures=describe_measures,
    )


class WeakSegmentLogic(ScriptedLoadableModuleLogic):
    """The verbs, for the panel, the Python console and other modules; all raise InputError on bad input."""

    def __init__(self, parent=None):
        from WeakSegmentLib.inslicer.lesions import VolumeMeter
        from WeakSegmentLib.inslicer.measuring import MeasureReader
        from WeakSegmentLib.inslicer.updates import Updates

        ScriptedLoadableModuleLogic.__init__(self, parent)
        self._updates = Updates()
        self._meter = VolumeMeter()
        self._reader = MeasureReader()

    def getParameterNode(self):
        return WeakSegmentParameterNode(super().getParameterNode())

    def forget(self):
        """Drop what is kept from the scene: it is being closed."""
        self._updates.forget()
        self._reader.forget()

    # Lesions

    def createPoints(self, volumeNode, name="Lesion"):
        """Return a list of six named points, all to be placed; it moves with the volume's transform."""
        from BreastBiomarkersLib.inslicer.nodes import grid_from_node
        from WeakSegmentLib.inslicer.lesions import create_lesion

        grid_from_node(volumeNode)
        return create_lesion(volumeNode, name).points_node

    def lesion(self, pointsNode):
        """Return the lesion of a point list: its clicks, its segment, its name."""
        from WeakSegmentLib.inslicer.lesions import Lesion

        return Lesion(pointsNode)

    def lesions(self):
        """Return all lesions of the scene."""
        from WeakSegmentLib.inslicer.lesions import lesions_in_scene

        return lesions_in_scene()

    def addClick(self, pointsNode, positionRas, tumor):
        """Correct a lesion at a place (mm, world RAS): it is lesion (`tumor` True), or it is not."""
        self.lesion(pointsNode).click_node(tumor).AddControlPointWorld(vtk.vtkVector3d(positionRas), "")

    def describeLesions(self, alsoPointsNode=None):
        """Return a row of the lesion table for each lesion, and for one more point list."""
        from WeakSegmentLib.inslicer.lesion_table import describe_lesions

        return describe_lesions(self._meter, alsoPointsNode)

    # Segmentation

    def check(self, volumeNode, pointsNode, preContrastNode=None):
        """Return a line on the placed points; raises what keeps `segment` from running."""
        from WeakSegmentLib.inslicer.readouts import check_inputs

        return check_inputs(volumeNode, pointsNode, preContrastNode)

    def fingerprint(self, volumeNode, preContrastNode, pointsNode):
        """Return a value that changes whenever the images, the points or the clicks do."""
        from BreastBiomarkersLib.inslicer.nodes import grid_from_node
        from WeakSegmentLib.inslicer.lesions import Prompts

        images = [node for node in (volumeNode, preContrastNode) if node is not None]
        versions = [(node.GetID(), node.GetImageData().GetMTime()) for node in images]
        grids = [grid_from_node(node).ijk_to_ras.tobytes() for node in images]
        return (*versions, *grids, Prompts(self.lesion(pointsNode)).key())

    def ask(
        self,
        volumeNode,
        pointsNode,
        preContrastNode=None,
        segmentationNode=None,
        method="random-walk",
        segmentName="Lesion",
        contrast="difference",
        **settings,
    ):
        """Return what `segment` would compute and where its answer goes; `inputs` of it may go to a thread."""
        from WeakSegmentLib.inslicer.updates import ask

        return ask(volumeNode, pointsNode, preContrastNode, segmentationNode, method, segmentName, settings, contrast)

    def answers(self, inputs, progress=ignore_progress):
        """Yield the coarse and the final answer to the inputs of a question; touches no node."""
        from WeakSegmentLib.inslicer.updates import answers

        return answers(inputs, progress)

    def write(self, question, answer, replacing=None):
        """Write an answer into the lesion's segments as one step of undo, which may replace the step before."""
        return self._updates.write(question, answer, replacing)

    def segment(
        self,
        volumeNode,
        pointsNode,
        preContrastNode=None,
        segmentationNode=None,
        method="random-walk",
        segmentName="Lesion",
        progress=ignore_progress,
        contrast="difference",
        **settings,
    ):
        """Segment the lesion between six points.

        With a pre-contrast image, `contrast` says what is segmented: the "difference" of the two, the enhancement in
        "percent", or the image "alone". `settings` are those of the method in WeakSegmentLib.settings.
        """
        from WeakSegmentLib.inslicer.updates import final_answer

        inputs = (volumeNode, pointsNode, preContrastNode, segmentationNode, method, segmentName or "Lesion")
        question = self.ask(*inputs, contrast=contrast, **settings)
        return self.write(question, final_answer(question.inputs, progress))

    def record(self, segmentationNode, segmentId):
        """Return every input and constant a segment was made with, for `WeakSegmentLib.segmentation.replay`."""
        from WeakSegmentLib.inslicer.updates import read_record

        return read_record(segmentationNode, segmentId)

    def canUndo(self):
        return self._updates.can_undo()

    def canRedo(self):
        return self._updates.can_redo()

    def undo(self):
        """Take back the last update: the segment returns, and the points and clicks it was made from."""
        return self._updates.undo()

    def redo(self):
        """Make the update again that was taken back last."""
        return self._updates.redo()

    # Phases of a contrast-enhanced exam

    def phasesByName(self):
        """Return first post-contrast, pre-contrast and last post-contrast image if the names tell, else None."""
        from WeakSegmentLib.inslicer.exam_phases import phases_by_name

        return phases_by_name()

    def findPhases(self):
        """Return the same three; if names do not tell they are taken out of the only image sequence."""
        from WeakSegmentLib.inslicer.exam_phases import find_phases

        return find_phases()

    # Measures

    def measurable(
        self,
        volumeNode,
        segmentationNode,
        segmentId,
        preContrastNode=None,
        lateNode=None,
        referenceNode=None,
        referenceSegmentId="",
    ):
        """Return copies of what `measure` needs; its own `measure` may run in a thread."""
        reference = (referenceNode, referenceSegmentId) if referenceNode is not None and referenceSegmentId else None
        phases = () if preContrastNode is None or lateNode is None else (preContrastNode, volumeNode, lateNode)
        return self._reader.read(volumeNode, (segmentationNode, segmentId), reference, phases)

    def measure(self, *inputs):
        """Return volume, diameters, kinetics and agreement of a segment; arguments as for `measurable`."""
        return self.measurable(*inputs).measure()

    def versions(self, *inputs):
        """Return a value that changes whenever what is measured does; arguments as for `measurable`."""
        from BreastBiomarkersLib.inslicer.nodes import segment_version

        volumeNode, segmentationNode, segmentId, preNode, lateNode, referenceNode, referenceId = inputs
        images = [node.GetImageData().GetMTime() for node in (volumeNode, preNode, lateNode) if hasImage(node)]
        return (*images, segment_version(segmentationNode, segmentId), segment_version(referenceNode, referenceId))

    def measureAll(
        self, volumeNode, preContrastNode=None, lateNode=None, referenceNode=None, referenceSegmentId="", tableNode=None
    ):
        """Return a table with a line for each lesion that has a segment."""
        from WeakSegmentLib.inslicer.outputs import measures_to_table

        more = (preContrastNode, lateNode, referenceNode, referenceSegmentId)
        found = [(lesion.name, *lesion.segment()) for lesion in self.lesions()]
        rows = [(name, self.measure(volumeNode, node, segmentId, *more)) for name, node, segmentId in found if node]
        if not rows:
            raise InputError("No lesion has a segment yet. Press Apply first.")
        return measures_to_table(rows, {"Image": volumeNode.GetName()}, tableNode)

    def distanceSurface(self, volumeNode, pointsNode, referenceNode, referenceSegmentId):
        """Return a model of the lesion's surface, colored by the distance to that of a reference segment."""
        from WeakSegmentLib.inslicer.outputs import surface_to_model
        from WeakSegmentLib.surfaces import distance_surface

        lesion = self.lesion(pointsNode)
        found = self._reader.read(volumeNode, lesion.segment(), (referenceNode, referenceSegmentId))
        return surface_to_model(lesion, distance_surface(found.mask, found.reference), lesion.segment()[0])

    def scoreMap(self, *inputs, progress=ignore_progress, **settings):
        """Return a volume with the score of the random walk; arguments as for `segment`. It is no probability."""
        from WeakSegmentLib.inslicer.outputs import map_to_node
        from WeakSegmentLib.inslicer.updates import final_answer

        question = self.ask(*inputs, **settings)
        score = final_answer(question.inputs, progress).result.score
        return map_to_node(question.lesion, "scoreMap", scoreTitle(question), score, question.volume_node)

    def jitterBand(self, *inputs, progress=ignore_progress, **settings):
        """Return a volume with the share of runs, with moved points, in which a voxel is lesion; as for `segment`."""
        from WeakSegmentLib.inslicer.outputs import map_to_node
        from WeakSegmentLib.stability import jitter_agreement

        question = self.ask(*inputs, **settings)
        volume, points, pre, clicks, others, chosen = question.inputs
        share = jitter_agreement(volume, points, chosen, pre, clicks, others, progress=progress)
        return map_to_node(
            question.lesion, "jitterBand", "share of runs with moved points", share, question.volume_node
        )

    # Onward

    def is3DShown(self, segmentationNode):
        return segmentationNode.GetSegmentation().ContainsRepresentation("Closed surface")

    def show3D(self, segmentationNode, shown=True):
        """Show a segmentation as surfaces in the 3D views, or no longer."""
        if shown:
            segmentationNode.CreateClosedSurfaceRepresentation()
            segmentationNode.GetDisplayNode().SetVisibility3D(True)
        else:
            segmentationNode.RemoveClosedSurfaceRepresentation()

    def handOn(self, module, volumeNode, segmentationNode, segmentId):
        """Choose a segment in SegmentEditor, NIRSTReconstruction or RadiomicsPanel, and go there."""
        from WeakSegmentLib.inslicer.outputs import hand_to_module, hand_to_segment_editor, show_module

        if module == "SegmentEditor":
            hand_to_segment_editor(volumeNode, segmentationNode, segmentId)
        else:
            hand_to_module(module, volumeNode, segmentationNode, segmentId)
        show_module(module)

    def compare(self, segmentationNode, segmentId, referenceSegmentationNode, referenceSegmentId, volumeNode):
        """Return the agreement of two segments on the grid of the volume."""
        from BreastBiomarkersLib.inslicer.nodes import mask_from_segment
        from WeakSegmentLib.metrics import score

        mask = mask_from_segment(segmentationNode, segmentId, volumeNode)
        return score(mask, mask_from_segment(referenceSegmentationNode, referenceSegmentId, volumeNode))

    def simulateCase(self, seed=0, kind="any", diameter_mm=None, progress=ignore_progress):
        """Return a synthetic breast DCE-MRI exam with its truth, the same for the same arguments."""
        from WeakSegmentLib.inslicer.simulated_exam import simulate_exam

        return simulate_exam(seed, kind, diameter_mm, progress)


def scoreTitle(question):
    return "network score" if isinstance(question.inputs.settings, NetworkSettings) else "random-walk score"


def hasImage(volumeNode):
    return volumeNode is not None and volumeNode.GetImageData() is not None


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
