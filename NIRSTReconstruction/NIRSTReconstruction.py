"""NIRSTReconstruction in Slicer: light measured around a breast to chromophore images in a plane of its MRI.

The method is in NIRSTReconstructionLib, what it does with the scene in NIRSTReconstructionLib.inslicer.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Union

import numpy as np
import slicer
import vtk
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.panel import ModulePanel, showing_errors, suggested_volume
from BreastBiomarkersLib.progress import ignore_progress, portion
from slicer import (
    vtkMRMLLabelMapVolumeNode,
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLMarkupsPlaneNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLSliceNode,
)
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, Decimals, SingleStep, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
)

WAVELENGTHS_NM = (661.0, 735.0, 785.0, 808.0, 826.0, 852.0, 903.0, 912.0, 948.0)
OWN_ATTRIBUTE = "NIRSTReconstruction.Own"  # on planes and rings that we made and may change
Markups = slicer.vtkMRMLMarkupsNode
POINT_EVENTS = (
    Markups.PointModifiedEvent,
    Markups.PointPositionDefinedEvent,
    Markups.PointPositionUndefinedEvent,
    Markups.PointRemovedEvent,
)
SEGMENT_EVENTS = (
    slicer.vtkSegmentation.SegmentAdded,
    slicer.vtkSegmentation.SegmentRemoved,
    slicer.vtkSegmentation.SegmentModified,
)


class NIRSTReconstruction(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("NIRSTReconstruction")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Tomographic Reconstruction")]
        self.parent.dependencies = ["WeakSegment", "Colors", "Markups", "Models", "Segmentations", "Tables", "Volumes"]
        self.parent.contributors = ["BreastBiomarkers developers"]
        self.parent.helpText = (
            _("Reconstructs hemoglobin, water and oxygen saturation from near-infrared light around the breast.")
            + ' <a href="https://github.com/BreastBiomarkers/SlicerBreastBiomarkers">'
            + _("Documentation")
            + "</a>"
        )
        self.parent.acknowledgementText = _(
            "After Feng et al., MRI-guided near-infrared spectral tomography, Optica 9 (2022) 264, and Zhang et al., "
            "direct regularization imaging, Biomed. Opt. Express 6 (2015) 3618."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    """Offer the synthetic exam with light in the Sample Data module; nothing is downloaded for it."""
    import SampleData

    category = "BreastBiomarkers"
    if hasattr(SampleData.SampleDataLogic, "registerCustomSampleDataCategory"):  # Slicer 5.12
        SampleData.SampleDataLogic.registerCustomSampleDataCategory(category, title=_("Breast biomarkers"))
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=category,
        sampleName="SyntheticBreastNIRST",
        customDownloader=loadSyntheticExam,
        thumbnailFileName=os.path.join(
            os.path.dirname(__file__), "Resources", "Icons", "NIRSTReconstruction-sample.png"
        ),
    )


def loadSyntheticExam(source=None):
    """Make the exam of the tutorial, choose it in the panel and return its nodes; Sample Data passes its source."""
    logic = NIRSTReconstructionLogic()
    exam = logic.simulateExam(slicer.util.getModuleLogic("WeakSegment"), seed=1)
    logic.choose(exam)
    slicer.util.setSliceViewerLayers(background=exam.volumeNode, fit=True)
    return [exam.volumeNode, exam.segmentationNode, exam.tissueNode, exam.planeNode, exam.optodesNode]


class DataSource(Enum):
    MEASURED = "measured"
    SIMULATED = "simulated"

    def label(self):
        return _("Measured, from a file") if self is DataSource.MEASURED else _("Simulated, for teaching")


class OutlineSource(Enum):
    AUTOMATIC = "automatic"
    THRESHOLD = "threshold"
    SEGMENT = "segment"

    def label(self):
        return {
            OutlineSource.AUTOMATIC: _("MRI, automatic"),
            OutlineSource.THRESHOLD: _("MRI, threshold"),
            OutlineSource.SEGMENT: _("Segment of the breast"),
        }[self]


class SourceModel(Enum):
    """See NIRSTReconstructionLib.forward.SOURCE_MODELS."""

    POINT = "point"
    LINE = "line"

    def label(self):
        return _("In 3-D: light of fibers") if self is SourceModel.POINT else _("In the plane: simulated 2-D light")


class Method(Enum):
    """See NIRSTReconstructionLib.reconstruct.ReconstructionSettings."""

    ADAPTIVE = "adaptive"
    HARD_PRIOR = "hard-prior"
    SOFT_PRIOR = "soft-prior"
    DRI = "dri"
    REGIONS_FIELD = "regions-field"
    LINEAR = "linear"
    TIKHONOV = "tikhonov"
    HYBRID = "hybrid"
    ZNET = "znet"

    def label(self):
        return {
            Method.ADAPTIVE: _("Adaptive: lesion segment or MRI as far as the light agrees"),
            Method.HARD_PRIOR: _("Hard prior: one value in the lesion, one around it"),
            Method.SOFT_PRIOR: _("Soft prior: guided by the lesion segment"),
            Method.DRI: _("DRI: guided by the MRI"),
            Method.REGIONS_FIELD: _("Regions and field: one value per region and a smooth field"),
            Method.LINEAR: _("Linear: one step, not guided, fastest"),
            Method.TIKHONOV: _("Tikhonov: not guided"),
            Method.HYBRID: _("Hybrid network: any fibers and outline"),
            Method.ZNET: _("Z-Net: the ring of 16 fibers it learned"),
        }[self]


class Gains(Enum):
    """See NIRSTReconstructionLib.calibration.GAINS."""

    AUTO = "auto"
    NONE = "none"
    GLOBAL = "global"
    FIBERS = "fibers"

    def label(self):
        return {
            Gains.AUTO: _("Automatic"),
            Gains.NONE: _("All known"),
            Gains.GLOBAL: _("One unknown factor per wavelength"),
            Gains.FIBERS: _("An unknown factor per fiber and wavelength"),
        }[self]


@parameterNodeWrapper
class NIRSTReconstructionParameterNode:
    """The user's choices; 0 in `noise` and `priorSd` means automatic. Results are found by the plane they belong to."""

    image: vtkMRMLScalarVolumeNode
    secondImage: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    segmentId: str
    plane: Union[vtkMRMLMarkupsPlaneNode, vtkMRMLSliceNode, None]
    outline: OutlineSource = OutlineSource.AUTOMATIC
    threshold: Annotated[float, WithinRange(-100000.0, 100000.0), SingleStep(5.0), Decimals(1)] = 0.0  # gray value
    body: vtkMRMLSegmentationNode
    bodySegmentId: str
    optodes: vtkMRMLMarkupsFiducialNode
    fiberCount: Annotated[int, WithinRange(4, 64)] = 16
    source: DataSource = DataSource.MEASURED
    dataFile: str
    referenceFile: str
    tissue: vtkMRMLLabelMapVolumeNode
    simulatedNoise: Annotated[float, WithinRange(0.1, 20.0), SingleStep(0.5), Decimals(1)] = 2.0  # percent
    seed: Annotated[int, WithinRange(0, 9999)] = 1
    excluded: str  # see NIRSTReconstructionLib.inslicer.exclusions
    raiseNoise: bool = False
    method: Method = Method.ADAPTIVE
    assessTrust: bool = True
    noise: Annotated[float, WithinRange(0.0, 50.0), SingleStep(0.5), Decimals(1)] = 0.0  # percent
    priorSd: Annotated[float, WithinRange(0.0, 500.0), SingleStep(5.0), Decimals(0)] = 0.0  # percent
    extinctionTable: Annotated[str, Choice(["nirfast-1", "prahl-segelstein-1"])] = "nirfast-1"
    gains: Gains = Gains.AUTO
    sourceModel: SourceModel = SourceModel.POINT
    scatterAmplitude: Annotated[float, WithinRange(0.2, 5.0), SingleStep(0.1), Decimals(2)] = 1.0  # 1/mm
    scatterPower: Annotated[float, WithinRange(0.0, 4.0), SingleStep(0.1), Decimals(2)] = 1.0
    showUncertainty: bool = False


class NIRSTReconstructionWidget(ModulePanel):
    packages = ("NIRSTReconstructionLib", "BreastBiomarkersLib")

    def setup(self):
        super().setup()
        self.logic = NIRSTReconstructionLogic()
        self._folder = None  # of the child process
        self._problem = ""
        self.optodesSection, self.qualitySection, self.resultsSection = self.logic.sections(self)
        self.forget()
        ui = self.ui
        for selector in (ui.lesionSelector, ui.bodySelector):
            selector.connect("currentNodeChanged(vtkMRMLNode*)", self.onSegmentSelected)
            selector.connect("currentSegmentChanged(QString)", self.onSegmentSelected)
        for edit in (ui.dataPathLineEdit, ui.referencePathLineEdit):
            edit.connect("currentPathChanged(QString)", self.onFileSelected)
        ui.planeFromLesionButton.connect("clicked()", self.onPlaneFromLesion)
        ui.planeFromOptodesButton.connect("clicked()", self.onPlaneFromOptodes)
        ui.planeFromViewButton.connect("clicked()", self.onPlaneFromView)
        ui.meshButton.connect("clicked()", self.onMesh)
        ui.placeRingButton.connect("clicked()", self.onPlaceRing)
        self.bind()

    def cleanup(self):
        self.optodesSection.close()
        self.qualitySection.close()
        super().cleanup()
        self.dropFolder()

    def exit(self):
        self.ui.optodesPlaceWidget.setPlaceModeEnabled(False)
        super().exit()

    def defaults(self):
        if self.parameters.image is None:
            self.parameters.image = suggested_volume()

    def forget(self):
        for section in (self.optodesSection, self.qualitySection, self.resultsSection):
            section.forget()
        self.logic.forget()
        self._light = self._lightKey = None  # read again when a file changes, not at every change of the panel
        self._simulated = {}  # light by the plane it was simulated for
        self._assessing = False

    def watched(self):
        p = self.parameters
        moved = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
        markups = [node for node in (p.plane, p.optodes) if node is not None and node.IsA("vtkMRMLMarkupsNode")]
        segmentations = [node for node in (p.segmentation, p.body) if node is not None]
        return [
            (p.image, slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent),
            (p.image, moved),
            (p.plane, vtk.vtkCommand.ModifiedEvent),
            *[(node, event) for node in markups for event in (*POINT_EVENTS, moved)],
            *[(node.GetSegmentation(), event) for node in segmentations for event in SEGMENT_EVENTS],
        ]

    def problem(self):
        return self._problem

    # Keeping the panel up to date

    def update(self):
        p, ui, optodes = self.parameters, self.ui, self.optodesSection
        self._problem = ""
        self.describe(ui.inputsStatusLabel, self.logic.describeInputs, *self.inputs())
        hasPlane = self.describe(ui.planeStatusLabel, self.logic.describePlane, p.plane)
        plane = p.plane if hasPlane else None
        ui.outlineStatusLabel.text = optodes.follow_outline(p.image, plane, self.bodySource())
        ui.outlineStatusLabel.setVisible(bool(ui.outlineStatusLabel.text))
        self._problem = self._problem or optodes.problem
        sofar = self._problem
        self.describe(ui.dataStatusLabel, self.describeLight)
        later, self._problem = self._problem, sofar  # what comes first in the panel is asked for first
        self.describe(ui.optodesStatusLabel, optodes.describe, p.optodes, plane, self.light())
        self._problem = self._problem or later
        self.describe(ui.methodStatusLabel, self.logic.describeMethod, p.method.value, p.image, p.optodes, self.light())
        self.showChoices()
        optodes.show(p.optodes, plane, self.light())
        self.qualitySection.show(self.light(), self._lightKey, p.optodes)
        self._problem = self._problem or self.qualitySection.problem
        ui.planeFromLesionButton.enabled = p.image is not None and self.lesion()[0] is not None
        ui.planeFromViewButton.enabled = hasPlane and plane.IsA("vtkMRMLSliceNode") and p.image is not None
        ui.placeRingButton.enabled = p.image is not None and hasPlane
        self.resultsSection.show(self._assessing, not self._problem)

    def describe(self, label, describe, *inputs):
        """Show what `describe` says; what it refuses keeps Apply from running. Return whether it is fine."""
        problem = ""
        try:
            label.text = describe(*inputs)
        except InputError as error:
            label.text = problem = str(error)
        self._problem = self._problem or problem
        label.setVisible(bool(label.text))
        return not problem

    def describeLight(self):
        p = self.parameters
        if p.source is DataSource.SIMULATED:
            if self.lesion()[0] is None:
                raise InputError(_("Choose a lesion segment to simulate light for."))
            return _("Apply simulates light for typical tissues with more blood in the lesion. No measurement is used.")
        key = self.lightKey()
        if key != self._lightKey:
            self._lightKey = self._light = None
            self._light = self.logic.light(p.dataFile, p.referenceFile or None)
            self._lightKey = key
        return self.logic.describeLight(self._light, p.excluded)

    def showChoices(self):
        """Show what no connector of parameter nodes can."""
        p, ui = self.parameters, self.ui
        for selector, node, segmentId in (
            (ui.lesionSelector, p.segmentation, p.segmentId),
            (ui.bodySelector, p.body, p.bodySegmentId),
        ):
            if selector.currentNode() is not node or selector.currentSegmentID() != segmentId:
                wasBlocked = selector.blockSignals(True)
                selector.setCurrentNode(node)
                selector.setCurrentSegmentID(segmentId)
                selector.blockSignals(wasBlocked)
        for edit, path in ((ui.dataPathLineEdit, p.dataFile), (ui.referencePathLineEdit, p.referenceFile)):
            if edit.currentPath != path:
                wasBlocked = edit.blockSignals(True)
                edit.currentPath = path
                edit.blockSignals(wasBlocked)
        for widget, source in (
            (ui.thresholdLabel, OutlineSource.THRESHOLD),
            (ui.thresholdSpinBox, OutlineSource.THRESHOLD),
            (ui.bodyLabel, OutlineSource.SEGMENT),
            (ui.bodySelector, OutlineSource.SEGMENT),
        ):
            widget.setVisible(p.outline is source)
        simulated = p.source is DataSource.SIMULATED
        ui.measuredWidget.setVisible(not simulated)
        ui.simulatedWidget.setVisible(simulated)

    # What is chosen

    def lesion(self):
        """Return the lesion's segmentation node and segment id, or None for both."""
        p = self.parameters
        exists = p.segmentation is not None and p.segmentation.GetSegmentation().GetSegment(p.segmentId or "")
        return (p.segmentation, p.segmentId) if exists else (None, None)

    def inputs(self):
        p = self.parameters
        return p.image, *self.lesion(), p.method.value, p.secondImage

    def bodySource(self):
        p = self.parameters
        if p.outline is OutlineSource.SEGMENT:
            return self.logic.bodySource(segmentationNode=p.body, segmentId=p.bodySegmentId or "(none)")
        return self.logic.bodySource(threshold=p.threshold if p.outline is OutlineSource.THRESHOLD else None)

    def light(self):
        """Return the measured light as read last, or None."""
        return self._light if self.parameters.source is DataSource.MEASURED else None

    def simulatedLight(self):
        """Return the light of the last run in this plane if it was simulated since the scene was opened, or None."""
        p = self.parameters
        return self._simulated.get(p.plane.GetID()) if p.source is DataSource.SIMULATED and p.plane else None

    def lightKey(self):
        p = self.parameters
        names = [name for name in (p.dataFile, p.referenceFile) if name]
        return tuple((name, os.stat(name).st_mtime_ns if os.path.isfile(name) else None) for name in names)

    def nodes(self):
        p = self.parameters
        return p.image, p.plane, p.optodes, *self.lesion()

    def lightChoices(self):
        p = self.parameters
        measured = p.source is DataSource.MEASURED
        return {
            "body": self.bodySource(),
            "excluded": p.excluded if measured else "",
            "extinctionTable": p.extinctionTable,
        }

    def choices(self):
        p = self.parameters
        return {
            "method": p.method.value,
            "scatter": (p.scatterAmplitude, p.scatterPower),
            "gains": p.gains.value,
            "noise": p.noise / 100 or None,
            "prior_sd": p.priorSd / 100 or None,
            "source_model": p.sourceModel.value,
        }

    def stamp(self):
        """Return a fingerprint of all inputs of a run."""
        p = self.parameters
        if p.source is DataSource.SIMULATED:
            light = ("simulated", p.simulatedNoise, p.seed, None if p.tissue is None else p.tissue.GetID())
        else:
            light = (self.lightKey(), p.excluded, p.raiseNoise)
        outline = (p.outline.value, p.threshold, p.bodySegmentId)
        second = None if p.secondImage is None else p.secondImage.GetID()
        return self.logic.stamp(*self.nodes(), light, (self.choices(), p.extinctionTable, outline, second))

    # Apply

    def apply(self):
        p, message = self.parameters, _("The light was not reconstructed.")
        light, nodes, stamp = self.light(), self.nodes(), self.stamp()
        choices = {"secondNode": p.secondImage, **self.lightChoices(), **self.choices()}
        if p.source is DataSource.SIMULATED:
            simulation = {"tissueNode": p.tissue, "seed": p.seed, "noise": p.simulatedNoise / 100}
            simulation["body"] = choices["body"]
            simulate = partial(self.logic.simulateBeside, *nodes, **simulation)
            light = self.run(lambda progress: simulate(progress=progress), message)
            self._simulated[p.plane.GetID()] = light
        else:
            choices["raiseNoise"] = p.raiseNoise
        if light is not None:
            with showing_errors(message), slicer.util.WaitCursor():
                self.launch(self.logic.prepare(*nodes, light, stamp=stamp, **choices), p.assessTrust)

    def launch(self, run, assess, step=None):
        """Let a child process do a run and then, if wanted, once more to assess its trust (`step` is that of undo)."""
        trust = step is not None
        if not run.fits_in_files:
            self.run(lambda progress: run.perform(assess, progress), _("The light was not reconstructed."))
            return
        self.dropFolder()
        try:
            self._folder = tempfile.mkdtemp(prefix="nirst-")
        except OSError as error:
            raise InputError(
                _("No folder for temporary files can be made: {reason}. Free some disk space.").format(
                    reason=error.strerror
                )
            ) from error
        done = partial(self.onFinished, run, assess and not trust, step)
        self._assessing = trust
        try:
            arguments = run.write(os.path.join(self._folder, "run"), trust)
            self.job.start("NIRSTReconstructionLib", arguments, done, stopped=self.onStopped)
        except InputError:
            self.onStopped("")
            raise

    def onFinished(self, run, assess, step, figures):
        self._assessing = False
        with showing_errors(_("The results were not taken over.")):
            try:
                step = run.receive(os.path.join(self._folder, "run"), step)
            finally:
                self.dropFolder()
            if assess:
                self.launch(run, True, step)
        self.refresh()

    def onStopped(self, message):
        self._assessing = False
        self.dropFolder()
        self.refresh()

    def dropFolder(self):
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    # Slots

    def onSegmentSelected(self):
        if self.parameters is None:
            return
        lesion, body = self.ui.lesionSelector, self.ui.bodySelector
        with slicer.util.NodeModify(self.parameters):
            self.parameters.segmentation = lesion.currentNode()
            self.parameters.segmentId = lesion.currentSegmentID() if lesion.currentNode() else ""
            self.parameters.body = body.currentNode()
            self.parameters.bodySegmentId = body.currentSegmentID() if body.currentNode() else ""

    def onFileSelected(self):
        if self.parameters is None:
            return
        paths = self.ui.dataPathLineEdit.currentPath, self.ui.referencePathLineEdit.currentPath
        with showing_errors(_("The file cannot be read yet.")):
            self.logic.ensureReadable(*paths)
        with slicer.util.NodeModify(self.parameters):
            self.parameters.dataFile = self.ui.dataPathLineEdit.currentPath
            self.parameters.referenceFile = self.ui.referencePathLineEdit.currentPath

    def onPlaneFromLesion(self):
        p = self.parameters
        with showing_errors(_("The plane was not placed.")), slicer.util.WaitCursor():
            p.plane = self.logic.planeFromLesion(*self.lesion(), p.image, planeNode=self.ownPlane())

    def onPlaneFromOptodes(self):
        p = self.parameters
        with showing_errors(_("The plane was not placed.")), slicer.util.WaitCursor():
            p.plane, _rms = self.logic.planeFromOptodes(p.optodes, planeNode=self.ownPlane())

    def onPlaneFromView(self):
        p = self.parameters
        with showing_errors(_("The plane was not placed.")):
            p.plane = self.logic.planeFromView(p.plane, p.image)

    def ownPlane(self):
        """Return the chosen plane if a button may move it: this module made it, and it keeps no results."""
        return None if self.resultsSection.results().nodes() else ownNode(self.parameters.plane)

    def onPlaceRing(self):
        p = self.parameters
        own = ownNode(p.optodes)
        with showing_errors(_("The ring was not placed.")), slicer.util.WaitCursor():
            p.optodes = self.logic.placeRing(p.plane, p.image, p.fiberCount, optodesNode=own, body=self.bodySource())

    def onMesh(self):
        p = self.parameters
        with showing_errors(_("The mesh was not made.")), slicer.util.WaitCursor():
            self.logic.showMesh(p.image, p.plane, p.optodes, body=self.bodySource())


def ownNode(node):
    """Return the node if this module made it, so that it may be changed, else None."""
    return node if node is not None and node.GetAttribute(OWN_ATTRIBUTE) else None


class SimulatedLight(NamedTuple):
    measurements: Any  # NIRSTReconstructionLib.measurements.Measurements
    reference: Any  # the same, of a homogeneous phantom
    truth: dict  # name -> Volume
    description: str


class SyntheticExam(NamedTuple):
    volumeNode: Any
    segmentationNode: Any
    segmentId: str
    tissueNode: Any
    planeNode: Any
    optodesNode: Any
    dataFile: str
    referenceFile: str


class NIRSTReconstructionLogic(ScriptedLoadableModuleLogic):
    """The verbs, for the panel, the Python console and other modules; all raise InputError on bad input."""

    def __init__(self, parent=None):
        from BreastBiomarkersLib.inslicer.history import History
        from NIRSTReconstructionLib.inslicer.inputs import BodyReader

        ScriptedLoadableModuleLogic.__init__(self, parent)
        self._bodies = BodyReader()
        self._history = History()

    def getParameterNode(self):
        return NIRSTReconstructionParameterNode(super().getParameterNode())

    def forget(self):
        """Drop what is kept from the scene: it is being closed."""
        self._bodies.forget()
        self._history.clear()

    def sections(self, panel):
        """Return the sections of the panel on optodes, quality of the light, and results."""
        from NIRSTReconstructionLib.inslicer.optodes_section import OptodesSection
        from NIRSTReconstructionLib.inslicer.quality_section import QualitySection
        from NIRSTReconstructionLib.inslicer.results_section import ResultsSection

        return OptodesSection(panel), QualitySection(panel), ResultsSection(panel)

    # What is there, in words; what keeps `reconstruct` from running is raised

    def describeInputs(self, volumeNode, segmentationNode=None, segmentId=None, method="adaptive", secondNode=None):
        from BreastBiomarkersLib.inslicer.nodes import grid_from_node, local_to_world

        grid_from_node(volumeNode, "MRI")
        if secondNode is not None:
            grid_from_node(secondNode, "second image")
        if segmentationNode is None:
            if method in (Method.SOFT_PRIOR.value, Method.HARD_PRIOR.value):
                raise InputError(_("This method needs a lesion segment. Choose one, or another method."))
            return _("Without a lesion segment no contrast is computed.")
        local_to_world(segmentationNode)
        name = segmentationNode.GetSegmentation().GetSegment(segmentId).GetName()
        return _("'{name}' will be compared with its surroundings.").format(name=name)

    def describePlane(self, planeNode):
        from NIRSTReconstructionLib.inslicer.inputs import plane_from_node

        plane = plane_from_node(planeNode)
        position = ", ".join(f"{x:.1f}" for x in plane.origin_ras)
        normal = ", ".join(f"{x:.2f}" for x in np.round(plane.normal, 2) + 0.0)  # no -0.00
        return _("Through ({position}) mm, normal ({normal}), RAS.").format(position=position, normal=normal)

    def light(self, path, referencePath=None):
        """Return the light in a file (.paa, .snirf, .csv) and of a phantom, for `reconstruct`."""
        from NIRSTReconstructionLib.inslicer.inputs import read_light

        return read_light(path, referencePath)

    def ensureReadable(self, *paths):
        """Ask to install what reads SNIRF files, if one of the files is such a file and it is missing."""
        from BreastBiomarkersLib.inslicer.requirements import ensure_requirements

        if any(path.lower().endswith(".snirf") and os.path.isfile(path) for path in paths):
            ensure_requirements(["h5py>=3.10"], "NIRSTReconstruction")

    def describeLight(self, light, excluded=""):
        from NIRSTReconstructionLib.inslicer.exclusions import leave_out
        from NIRSTReconstructionLib.inslicer.words import describe_light

        used = leave_out(light.measurements, excluded)
        return describe_light(light, int(light.measurements.active.sum() - used.active.sum()))

    def describeMethod(self, method, volumeNode=None, optodesNode=None, light=None):
        """Return nothing, or raise why a method cannot be used on this light."""
        if method in (Method.HYBRID.value, Method.ZNET.value):
            from NIRSTReconstructionLib.network_method import why_not

            nm = list(WAVELENGTHS_NM) if light is None else light.measurements.wavelengths_nm.tolist()
            count = 0 if optodesNode is None else optodesNode.GetNumberOfDefinedControlPoints()
            phantom = light is None or light.reference is not None
            reason = why_not(method, nm, count, volumeNode is not None, phantom)
            if reason:
                raise InputError(reason)
        return ""

    # The outline of the breast

    def bodySource(self, threshold=None, segmentationNode=None, segmentId=""):
        """Return what the outline is taken from: a segment, or the MRI with a threshold or (None) automatically."""
        from NIRSTReconstructionLib.inslicer.inputs import BodySource

        return BodySource(threshold, (segmentationNode, segmentId) if segmentId else None)

    def prepareOutline(self, volumeNode, planeNode, body):
        """Return what computes the outline; it touches no node, so it may run in a thread."""
        from NIRSTReconstructionLib.inslicer.inputs import outline_in_plane, plane_from_node

        read, plane, name = self._bodies.prepare(volumeNode, body), plane_from_node(planeNode), volumeNode.GetName()
        return lambda progress: [outline_in_plane(read(), plane, name)]

    def outline(self, volumeNode, planeNode, body=None):
        """Return the outline of the breast in a plane."""
        return self.prepareOutline(volumeNode, planeNode, body or self.bodySource())(ignore_progress)[0]

    def showMesh(self, volumeNode, planeNode, optodesNode, body=None, elementSize=3.6):
        """Return a model of the mesh on which light is computed, in the plane; an earlier one is updated."""
        from NIRSTReconstructionLib.inslicer.inputs import fibers_from_node, plane_from_node
        from NIRSTReconstructionLib.inslicer.mesh_model import mesh_to_model
        from NIRSTReconstructionLib.meshing import fill_contour

        plane, fibers = plane_from_node(planeNode), fibers_from_node(optodesNode)
        contour, _remarks = self.outline(volumeNode, planeNode, body).at_fibers(fibers, plane)
        mesh = fill_contour(contour, elementSize, refine_at=plane.to_plane(fibers.detectors)[0])
        results = self.results(volumeNode, planeNode)
        node = mesh_to_model(mesh, plane, results.nodes().get("mesh"), f"{planeNode.GetName()} mesh")
        results.keep("mesh", node)
        return node

    # The plane and the fibers

    def planeFromLesion(
        self,
        segmentationNode,
        segmentId,
        volumeNode,
        normal=(0.0, 1.0, 0.0),
        name="NIRST plane",
        planeNode=None,
    ):
        """Return a plane node through the lesion's largest cross-section; coronal unless another normal is given."""
        from BreastBiomarkersLib.inslicer.nodes import mask_from_segment
        from NIRSTReconstructionLib.plane import plane_from_mask

        mask = mask_from_segment(segmentationNode, segmentId, volumeNode)
        return self._planeNode(plane_from_mask(mask, normal), name, volumeNode, planeNode)

    def planeFromOptodes(self, optodesNode, name="NIRST plane", planeNode=None):
        """Return the least-squares plane of the fibers and their root-mean-square distance from it in mm."""
        from NIRSTReconstructionLib.inslicer.inputs import fibers_from_node

        fit = fibers_from_node(optodesNode).fitted_plane()
        return self._planeNode(fit.plane, name, optodesNode, planeNode), fit.rms_mm

    def planeFromView(self, sliceNode, volumeNode, name="NIRST plane", planeNode=None):
        """Return a plane node where a slice view is now."""
        from NIRSTReconstructionLib.inslicer.inputs import plane_from_node

        return self._planeNode(plane_from_node(sliceNode), name, volumeNode, planeNode)

    def placeRing(
        self, planeNode, volumeNode, count=16, name="Optodes", optodesNode=None, bodyThreshold=None, body=None
    ):
        """Return a point list of fibers at equal distances on the breast's outline in the plane.

        Where the image cuts through the body towards the chest, that third of the outline stays free.
        """
        from BreastBiomarkersLib.inslicer.nodes import place_beside, points_to_node
        from BreastBiomarkersLib.points import LabeledPoints
        from NIRSTReconstructionLib.inslicer.inputs import plane_from_node
        from NIRSTReconstructionLib.meshing import spline_contour
        from NIRSTReconstructionLib.simulation import fibers_on_contour

        plane = plane_from_node(planeNode)
        toChest = np.array([0.0, -1.0, 0.0])
        inPlane = np.linalg.norm(toChest - (toChest @ plane.normal) * plane.normal) > 0.5
        outline = self.outline(volumeNode, planeNode, body or self.bodySource(bodyThreshold))
        contour = spline_contour(outline.polygon_mm)
        fibers = fibers_on_contour(contour, plane, count, toChest if inPlane else None)
        labels = [str(n + 1) for n in range(count)]
        if optodesNode is None:
            optodesNode = self._ownMarkups("vtkMRMLMarkupsFiducialNode", name)
            place_beside(optodesNode, volumeNode)
        return points_to_node(LabeledPoints(labels, fibers.detectors), optodesNode)

    def matchLight(
        self,
        volumeNode,
        planeNode,
        optodesNode,
        segmentationNode,
        segmentId,
        light,
        body=None,
        excluded="",
        extinctionTable="nirfast-1",
        progress=ignore_progress,
    ):
        """Give the fibers the numbers that explain the light best, if it tells them apart; return what was found."""
        from NIRSTReconstructionLib.inslicer.exclusions import leave_out
        from NIRSTReconstructionLib.inslicer.optodes import write_order
        from NIRSTReconstructionLib.numbering import find_numbering

        case = self._inputs(
            volumeNode, planeNode, optodesNode, segmentationNode, segmentId, light, None, body, extinctionTable
        ).case
        measured = leave_out(case.measurements, excluded)
        found = find_numbering(
            measured, case.fibers, case.plane, case.contour, case.spectra, case.regions, progress=progress
        )
        if found.decided:
            write_order(optodesNode, found.best.order)
        return found

    # Quality of the light

    def prepareQuality(self, light, optodesNode):
        """Return what checks the light; it touches no node, so it may run in a thread."""
        from NIRSTReconstructionLib.inslicer.inputs import fibers_from_node
        from NIRSTReconstructionLib.quality_control import check_quality

        measured, fibers = self._light(light).measurements, fibers_from_node(optodesNode)
        return lambda progress: [check_quality(measured, fibers)]

    def quality(self, light, optodesNode):
        """Return what looks wrong in light given as for `reconstruct` (NIRSTReconstructionLib.quality_control)."""
        return self.prepareQuality(light, optodesNode)(ignore_progress)[0]

    # Light to images

    def simulate(
        self,
        volumeNode,
        planeNode,
        optodesNode,
        segmentationNode,
        segmentId,
        tissueNode=None,
        seed=0,
        noise=0.02,
        bodyThreshold=None,
        body=None,
        wavelengths=WAVELENGTHS_NM,
        progress=ignore_progress,
    ):
        """Simulate light for an exam that has none, from typical tissues with more blood and water in the lesion.

        `tissueNode` is a label map whose names tell fat from fibroglandular tissue (WeakSegment simulates one);
        without it all of the breast but the lesion is alike. `noise` is the amplitudes' relative standard deviation.
        """
        progress(0.0, _("Simulating light"))
        work = self.prepareSimulation(
            volumeNode,
            planeNode,
            optodesNode,
            segmentationNode,
            segmentId,
            tissueNode,
            seed,
            noise,
            body or self.bodySource(bodyThreshold),
            wavelengths,
        )
        return work(progress)

    def simulateBeside(self, *nodes, progress=ignore_progress, **choices):
        """Simulate light as `simulate` does, in a thread: the window stays alive, and Cancel ends the waiting at once.

        Arguments as for `prepareSimulation`.
        """
        from NIRSTReconstructionLib.inslicer.beside import beside_window

        progress(0.0, _("Simulating light"))
        return beside_window(self.prepareSimulation(*nodes, **choices), progress)

    def prepareSimulation(
        self,
        volumeNode,
        planeNode,
        optodesNode,
        segmentationNode,
        segmentId,
        tissueNode=None,
        seed=0,
        noise=0.02,
        body=None,
        wavelengths=WAVELENGTHS_NM,
    ):
        """Return what simulates light; it touches no node, so it may run in a thread."""
        from BreastBiomarkersLib.inslicer.nodes import mask_from_segment
        from NIRSTReconstructionLib.inslicer.inputs import fibers_from_node, plane_from_node
        from NIRSTReconstructionLib.simulation import BREAST_TISSUES, simulate_on_plane
        from NIRSTReconstructionLib.spectra import load_spectra

        lesion = mask_from_segment(segmentationNode, segmentId, volumeNode)
        names = ["breast", "fibroglandular", "lesion"]
        labels = np.where(lesion.array, names.index("lesion"), 0).astype(np.uint8)
        if tissueNode is not None:
            gland = self._labels(tissueNode, "fibroglandular", lesion)
            labels[gland & ~lesion.array] = names.index("fibroglandular")
        plane, fibers = plane_from_node(planeNode), fibers_from_node(optodesNode)
        find = self.prepareOutline(volumeNode, planeNode, body or self.bodySource())
        tissues = {n: BREAST_TISSUES[name] for n, name in enumerate(names)}
        used = [name for n, name in enumerate(names) if (labels == n).any()]
        description = (
            "; ".join(f"{name}: {BREAST_TISSUES[name].describe()}" for name in used)
            + f"; {100 * noise:g} % noise, seed {seed}, light in 3-D, on a finer mesh than the one used for "
            "reconstruction."
        )

        def work(progress):
            made = simulate_on_plane(
                lesion.with_array(labels, "tissues"),
                tissues,
                plane,
                find(ignore_progress)[0].at_fibers(fibers, plane)[0],
                fibers,
                load_spectra(np.unique(wavelengths)),
                noise=noise,
                seed=seed,
                progress=portion(progress, 0.1, 1.0),
            )
            return SimulatedLight(made.measurements, made.reference, made.truth, description)

        return work

    def simulateExam(self, weakSegmentLogic, seed=1, folder=None, count=16, progress=ignore_progress):
        """Return a synthetic exam with plane, ring of fibers and files of light; WeakSegment simulates the MRI.

        Without `folder` the files go into the application's cache. If it cannot be finished, nothing of it stays.
        """
        import json

        from BreastBiomarkersLib.files import atomic_folder
        from NIRSTReconstructionLib.measurements import write_csv_measurements

        made = weakSegmentLogic.simulateCase(seed, "spiculated", 22.0, progress=portion(progress, 0.0, 0.6))
        volumeNode, lesion = made.postNodes[0], (made.truthSegmentationNode, made.truthSegmentId)
        for node in (*made.postNodes[1:], made.preNode, made.pointsNode):
            slicer.mrmlScene.RemoveNode(node)
        kept = [volumeNode, made.truthSegmentationNode, made.tissueNode]
        cache = slicer.mrmlScene.GetCacheManager().GetRemoteCacheDirectory()
        folder = Path(folder or os.path.join(cache, f"SyntheticBreastNIRST-{seed}"))
        try:
            plane = self.planeFromLesion(*lesion, volumeNode)
            kept.append(plane)
            optodes = self.placeRing(plane, volumeNode, count)
            kept.append(optodes)
            rest = portion(progress, 0.6, 1.0)
            light = self.simulate(volumeNode, plane, optodes, *lesion, made.tissueNode, seed, progress=rest)
            case = {"simulated": True, "seed": seed, "description": light.description}
            with atomic_folder(folder) as temporary:
                write_csv_measurements(light.measurements, temporary / "light.csv")
                write_csv_measurements(light.reference, temporary / "phantom.csv")
                (temporary / "case.json").write_text(json.dumps(case, indent=1), encoding="utf-8")
        except Exception:
            for node in kept:
                slicer.mrmlScene.RemoveNode(node)
            raise
        files = str(folder / "light.csv"), str(folder / "phantom.csv")
        return SyntheticExam(volumeNode, *lesion, made.tissueNode, plane, optodes, *files)

    def choose(self, exam):
        """Choose a synthetic exam in the panel."""
        p = self.getParameterNode()
        with slicer.util.NodeModify(p):
            p.image, p.plane, p.optodes, p.tissue = exam.volumeNode, exam.planeNode, exam.optodesNode, exam.tissueNode
            p.segmentation, p.segmentId = exam.segmentationNode, exam.segmentId
            p.source, p.dataFile, p.referenceFile = DataSource.MEASURED, exam.dataFile, exam.referenceFile
            p.excluded, p.raiseNoise = "", False
        p.Modified()  # a panel that shows them already has its own view of the parameters

    def reconstruct(
        self,
        volumeNode,
        planeNode,
        optodesNode,
        data,
        referenceData=None,
        method="adaptive",
        segmentationNode=None,
        segmentId=None,
        secondNode=None,
        extinctionTable="nirfast-1",
        scatter=None,
        bodyThreshold=None,
        body=None,
        excluded="",
        raiseNoise=False,
        trust=False,
        update=False,
        progress=ignore_progress,
        **settings,
    ):
        """Reconstruct the images of one plane and lay them into the scene.

        `data` is SimulatedLight, measurements or the path of a file (.paa, .snirf, .csv), `referenceData` likewise. The
        MRI gives the outline and the guidance, `secondNode` further guidance of "dri"; a segment guides "adaptive",
        "soft-prior" and "hard-prior" and is compared with its surroundings. `scatter` is the body's scatter amplitude
        (1/mm) and power, which are not fitted. `bodyThreshold` is the MRI's gray value between air and body, 0 where
        the image holds no air; `body` (see `bodySource`) may give a segment instead. `excluded` names channels to leave
        out, such as "S3, 4-7"; `raiseNoise` takes the noise that `quality` finds where it is far more than the one
        given. `trust` reconstructs in up to four more ways to judge the result; `update` overwrites the plane's results
        of an earlier run. `settings` are those of NIRSTReconstructionLib.reconstruct.ReconstructionSettings; unless
        they say otherwise, light spreads in 3-D (source_model="point").
        """
        progress(0.0, _("Reading the inputs"))
        run = self.prepare(
            volumeNode,
            planeNode,
            optodesNode,
            segmentationNode,
            segmentId,
            self._light(data, referenceData),
            secondNode=secondNode,
            body=body or self.bodySource(bodyThreshold),
            excluded=excluded,
            raiseNoise=raiseNoise,
            extinctionTable=extinctionTable,
            scatter=scatter,
            method=method,
            **settings,
        )
        return run.perform(trust, portion(progress, 0.05, 1.0), update)

    def prepare(
        self,
        volumeNode,
        planeNode,
        optodesNode,
        segmentationNode,
        segmentId,
        light,
        secondNode=None,
        body=None,
        excluded="",
        raiseNoise=False,
        extinctionTable="nirfast-1",
        scatter=None,
        stamp=None,
        **settings,
    ):
        """Return a reconstruction that is yet to be done, with copies of its inputs; arguments as for `reconstruct`."""
        from NIRSTReconstructionLib.bulk import TYPICAL_TISSUE
        from NIRSTReconstructionLib.inslicer.exclusions import leave_out
        from NIRSTReconstructionLib.inslicer.runs import Run
        from NIRSTReconstructionLib.quality_control import raise_noise
        from NIRSTReconstructionLib.reconstruct import ReconstructionSettings

        light = self._light(light)
        if scatter is not None:
            settings["start"] = replace(TYPICAL_TISSUE, scatter_amplitude=scatter[0], scatter_power=scatter[1])
        measured = leave_out(light.measurements, excluded)
        if raiseNoise:
            measured = raise_noise(measured, self.quality(light, optodesNode))
        chosen = ReconstructionSettings(**{"source_model": "point", **settings})
        inputs = self._inputs(
            volumeNode,
            planeNode,
            optodesNode,
            segmentationNode,
            segmentId,
            light._replace(measurements=measured),
            secondNode,
            body,
            extinctionTable,
            chosen.optode_tolerance_mm,
        )
        return Run(inputs, chosen, (volumeNode, planeNode, optodesNode), stamp or {}, self._history)

    def train(self, data, output, network="hybrid", small=False, progress=ignore_progress, **settings):
        """Train a network on data sets made by `python -m NIRSTReconstructionLib generate`; return its key figures.

        `data` is a folder or several; `output` receives weights, model card and curves. `settings` are options of the
        command `train`, such as `epochs` or `seed`. Needs PyTorch.
        """
        from NIRSTReconstructionLib.cli import build_parser

        folders = [data] if isinstance(data, (str, os.PathLike)) else list(data)
        arguments = ["train", "--network", network, "--data", *map(str, folders), "--output", str(output)]
        for name, value in settings.items():
            arguments += [f"--{name.replace('_', '-')}", str(value)]
        try:
            options = build_parser().parse_args([*arguments, *(["--small"] if small else [])])
        except SystemExit as error:
            raise InputError(
                _("The command train does not know these settings: {names}.").format(
                    names=", ".join([network, *settings])
                )
            ) from error
        return options.handler(options, progress)

    # Results

    def results(self, volumeNode, planeNode):
        """Return what the scene keeps of a plane: `nodes`, `record`, `read`, `remove`."""
        from NIRSTReconstructionLib.inslicer.results import PlaneResults

        return PlaneResults(volumeNode, planeNode)

    def stamp(self, volumeNode, planeNode, optodesNode, segmentationNode, segmentId, light, settings):
        """Return a fingerprint of each input by its name; nothing where one is missing."""
        from NIRSTReconstructionLib.inslicer.inputs import made_from

        lesion = None if segmentationNode is None else (segmentationNode, segmentId)
        try:
            return made_from(volumeNode, planeNode, optodesNode, lesion, light, settings)
        except InputError:
            return {}

    def canUndo(self):
        return self._history.can_undo()

    def canRedo(self):
        return self._history.can_redo()

    def undo(self):
        """Bring back the results as they were before the last run; the first run of a plane leaves none."""
        return self._history.undo() is not None

    def redo(self):
        """Bring back the results of the run that was undone."""
        return self._history.redo() is not None

    def exportReport(self, path, volumeNode, segmentationNode=None, segmentId=None, optodesNode=None, light=None):
        """Write the results of all planes of an MRI as a web page; return how many planes.

        With `light` (as `light` returns it, or measurements) and `optodesNode`, the page shows the quality of it, too.
        """
        from BreastBiomarkersLib.inslicer.requirements import ensure_requirements
        from NIRSTReconstructionLib.inslicer.light_report import report_requirements, write_light_report

        ensure_requirements(report_requirements(), "NIRSTReconstruction")
        lesion = None if segmentationNode is None else (segmentationNode, segmentId)
        return write_light_report(volumeNode, path, lesion, optodesNode, None if light is None else self._light(light))

    def show(self, volumeNode, resultNode, opacity=0.6):
        """Lay a result over the MRI in the slice views and turn the view that faces its plane most into the plane."""
        from BreastBiomarkersLib.inslicer.nodes import grid_from_node

        grid = grid_from_node(resultNode, "result")
        slicer.util.setSliceViewerLayers(background=volumeNode, foreground=resultNode, foregroundOpacity=opacity)
        views = slicer.util.getNodesByClass("vtkMRMLSliceNode")
        views = [view for view in views if view.IsMappedInLayout()] or views
        if views:
            normal = grid.ijk_to_ras[:3, 2]
            normals = [slicer.util.arrayFromVTKMatrix(view.GetSliceToRAS())[:3, 2] for view in views]
            view = views[int(np.argmax(np.abs(np.array(normals) @ normal)))]
            view.RotateToVolumePlane(resultNode)
            view.JumpSliceByCentering(*grid.points_to_ras(np.array([grid.shape[::-1]]) / 2 - 0.5)[0])

    # Inside

    def _light(self, data, referenceData=None):
        from NIRSTReconstructionLib.inslicer.inputs import Light, read_light
        from NIRSTReconstructionLib.measurements import Measurements, read_measurements

        if isinstance(data, Light):
            return data
        if isinstance(data, SimulatedLight):
            return Light(data.measurements, data.reference, data.description)
        if referenceData is not None and not isinstance(referenceData, Measurements):
            referenceData = read_measurements(referenceData)
        found = Light(data) if isinstance(data, Measurements) else read_light(data)
        return found._replace(reference=referenceData)

    def _inputs(
        self,
        volumeNode,
        planeNode,
        optodesNode,
        segmentationNode,
        segmentId,
        light,
        secondNode,
        body,
        extinctionTable,
        tolerance=5.0,
    ):
        from BreastBiomarkersLib.inslicer.nodes import grid_from_node
        from NIRSTReconstructionLib.inslicer.inputs import fibers_from_node, plane_from_node, read_inputs

        grid_from_node(volumeNode, "MRI")  # refuse what is wrong before the long work
        plane_from_node(planeNode), fibers_from_node(optodesNode)
        lesion = None if segmentationNode is None else (segmentationNode, segmentId)
        mask = self._bodies.read(volumeNode, body or self.bodySource())
        return read_inputs(
            volumeNode, planeNode, optodesNode, light, mask, lesion, secondNode, extinctionTable, tolerance
        )

    def _planeNode(self, plane, name, beside, node=None):
        """Write a plane, under the transform of `beside`.

        It is placed without transform first: the node's own SetOriginWorld is wrong under one.
        """
        from BreastBiomarkersLib.inslicer.nodes import local_to_world, place_beside

        worldToLocal = np.linalg.inv(local_to_world(beside))
        if node is None:
            node = self._ownMarkups("vtkMRMLMarkupsPlaneNode", name)
            place_beside(node, beside)
        with slicer.util.NodeModify(node):
            node.SetAndObserveTransformNodeID(None)
            node.SetPlaneType(node.PlaneTypePointNormal)
            node.SetSize(100.0, 100.0)
            node.SetAxesWorld(*plane.plane_to_ras[:3, :3].T)
            node.SetOriginWorld(*plane.origin_ras)
            node.ApplyTransformMatrix(slicer.util.vtkMatrixFromArray(worldToLocal))
            node.SetAndObserveTransformNodeID(beside.GetTransformNodeID())
        return node

    def _ownMarkups(self, className, name):
        node = slicer.mrmlScene.AddNewNodeByClass(className, slicer.mrmlScene.GenerateUniqueName(name))
        node.CreateDefaultDisplayNodes()
        node.SetAttribute(OWN_ATTRIBUTE, "1")
        return node

    def _labels(self, labelNode, name, reference):
        """Return where a label map on the grid of `reference` holds the label of this name."""
        from BreastBiomarkersLib.inslicer.nodes import volume_from_node

        labels = volume_from_node(labelNode, "tissue map")
        if not labels.same_grid(reference):
            raise InputError(f"The tissue map '{labels.name}' is not on the grid of the image.")
        colors = labelNode.GetDisplayNode().GetColorNode()
        number = next((n for n in range(colors.GetNumberOfColors()) if colors.GetColorName(n) == name), None)
        if number is None:
            raise InputError(f"The tissue map '{labels.name}' has no label named '{name}'.")
        return labels.array == number


class NIRSTReconstructionTest(ScriptedLoadableModuleTest):
    def test_cases(self):
        from BreastBiomarkersLib.inslicer.self_test import source_cases

        for case in source_cases("NIRSTReconstruction") or [checkSimulatedBreast]:
            self.delayDisplay(case.__name__)
            slicer.mrmlScene.Clear()
            case()


def checkSimulatedBreast():
    """Simulate light around an ellipsoid with a ball in it and find the ball's blood."""
    from BreastBiomarkersLib.inslicer.nodes import mask_to_segment, segmentation_for, volume_to_node
    from BreastBiomarkersLib.volume import Volume

    mm = (np.indices((40, 40, 40))[::-1] - 19.5) * 2.5
    ball = np.linalg.norm(mm - np.reshape([12.0, 0.0, 8.0], (3, 1, 1, 1)), axis=0) < 10
    image = Volume(100.0 * (np.linalg.norm(mm, axis=0) < 40) + 100.0 * ball, np.diag([2.5, 2.5, 2.5, 1.0]), "breast")
    volume = volume_to_node(image)
    segmentation = segmentation_for(volume, "Lesion")
    lesion = (segmentation, mask_to_segment(image.with_array(ball), segmentation, "Lesion"))
    logic = NIRSTReconstructionLogic()
    plane = logic.planeFromLesion(*lesion, volume)
    optodes = logic.placeRing(plane, volume, count=8)
    light = logic.simulate(volume, plane, optodes, *lesion)
    done = logic.reconstruct(volume, plane, optodes, light, None, "hard-prior", *lesion)
    ratio = {row.quantity: row.ratio for row in done.contrast}["hbt"]
    if not 1.7 < ratio < 2.3:
        raise AssertionError(f"Total hemoglobin of lesion to background is {ratio:.2f}; 2 was simulated")
