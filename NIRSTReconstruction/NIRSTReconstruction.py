"""NIRSTReconstruction in Slicer: light measured around a breast to chromophore images in a plane of its MRI.

The method is in NIRSTReconstructionLib.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from enum import Enum
from functools import partial
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
    vtkMRMLTableNode,
)
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, Decimals, SingleStep, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
)

IMAGE_TITLES = {"hbo": "HbO", "hbr": "Hb", "water": "Water", "hbt": "HbT", "sto2": "StO2"}
WAVELENGTHS_NM = (661.0, 735.0, 785.0, 808.0, 826.0, 852.0, 903.0, 912.0, 948.0)
COLOR_NODE = "vtkMRMLColorTableNodeFileInferno.txt"
SIMULATED = "Simulated "  # begins the names of results that were not measured
OWN_ATTRIBUTE = "NIRSTReconstruction.Own"  # on planes and rings that we made and may change
RECORD_ATTRIBUTE = "NIRSTReconstruction.Record"  # on result volumes: data, settings, residual and remarks of the run
POINT_EVENTS = (
    slicer.vtkMRMLMarkupsNode.PointModifiedEvent,
    slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent,
    slicer.vtkMRMLMarkupsNode.PointPositionUndefinedEvent,
    slicer.vtkMRMLMarkupsNode.PointRemovedEvent,
)
SEGMENT_EVENTS = (slicer.vtkSegmentation.SegmentAdded, slicer.vtkSegmentation.SegmentRemoved)


class NIRSTReconstruction(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("NIRSTReconstruction")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Tomographic Reconstruction")]
        self.parent.dependencies = ["WeakSegment", "Colors", "Markups", "Segmentations", "Tables", "Volumes"]
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


class DataSource(Enum):
    MEASURED = "measured"
    SIMULATED = "simulated"

    def label(self):
        return _("Measured, from a file") if self is DataSource.MEASURED else _("Simulated, for teaching")


class Method(Enum):
    """See NIRSTReconstructionLib.reconstruct.ReconstructionSettings."""

    DRI = "dri"
    TIKHONOV = "tikhonov"
    SOFT_PRIOR = "soft-prior"
    HARD_PRIOR = "hard-prior"
    ADAPTIVE = "adaptive"

    def label(self):
        return {
            Method.DRI: _("DRI: guided by the MRI"),
            Method.TIKHONOV: _("Tikhonov: not guided"),
            Method.ADAPTIVE: _("Adaptive: lesion segment or MRI as far as the light agrees"),
            Method.SOFT_PRIOR: _("Soft prior: guided by the lesion segment"),
            Method.HARD_PRIOR: _("Hard prior: one value in the lesion, one around it"),
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
    """The user's choices, and the results that the next run updates; 0 in `noise` and `priorSd` means automatic."""

    image: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    segmentId: str
    plane: Union[vtkMRMLMarkupsPlaneNode, vtkMRMLSliceNode, None]
    optodes: vtkMRMLMarkupsFiducialNode
    fiberCount: Annotated[int, WithinRange(4, 64)] = 16
    source: DataSource = DataSource.MEASURED
    dataFile: str
    referenceFile: str
    tissue: vtkMRMLLabelMapVolumeNode
    simulatedNoise: Annotated[float, WithinRange(0.1, 20.0), SingleStep(0.5), Decimals(1)] = 2.0  # percent
    seed: Annotated[int, WithinRange(0, 9999)] = 1
    method: Method = Method.DRI
    noise: Annotated[float, WithinRange(0.0, 50.0), SingleStep(0.5), Decimals(1)] = 0.0  # percent
    priorSd: Annotated[float, WithinRange(0.0, 500.0), SingleStep(5.0), Decimals(0)] = 0.0  # percent
    extinctionTable: Annotated[str, Choice(["nirfast-1", "prahl-segelstein-1"])] = "nirfast-1"
    gains: Gains = Gains.AUTO
    scatterAmplitude: Annotated[float, WithinRange(0.2, 5.0), SingleStep(0.1), Decimals(2)] = 1.0  # 1/mm
    scatterPower: Annotated[float, WithinRange(0.0, 4.0), SingleStep(0.1), Decimals(2)] = 1.0
    hbo: vtkMRMLScalarVolumeNode
    hbr: vtkMRMLScalarVolumeNode
    water: vtkMRMLScalarVolumeNode
    hbt: vtkMRMLScalarVolumeNode
    sto2: vtkMRMLScalarVolumeNode
    contrastTable: vtkMRMLTableNode


class NIRSTReconstructionWidget(ModulePanel):
    packages = ("NIRSTReconstructionLib", "BreastBiomarkersLib")

    def setup(self):
        super().setup()
        self.logic = NIRSTReconstructionLogic()
        self._problem = ""
        self.forget()
        self.ui.lesionSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onLesionSelected)
        self.ui.lesionSelector.connect("currentSegmentChanged(QString)", self.onLesionSelected)
        self.ui.planeFromLesionButton.connect("clicked()", self.onPlaneFromLesion)
        self.ui.planeFromOptodesButton.connect("clicked()", self.onPlaneFromOptodes)
        self.ui.placeRingButton.connect("clicked()", self.onPlaceRing)
        self.ui.dataPathLineEdit.connect("currentPathChanged(QString)", self.onFileSelected)
        self.ui.referencePathLineEdit.connect("currentPathChanged(QString)", self.onFileSelected)
        for name, title in IMAGE_TITLES.items():
            getattr(self.ui, f"show{title}Button").connect("clicked()", partial(self.onShow, name))
        place = self.ui.optodesWidget.markupsPlaceWidget()
        place.placeMultipleMarkups = slicer.qSlicerMarkupsPlaceWidget.ForcePlaceMultipleMarkups
        self.addObserver(slicer.mrmlScene, slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, self.onNodeRemoved)
        self.bind()

    def exit(self):
        self.ui.optodesWidget.markupsPlaceWidget().setPlaceModeEnabled(False)
        super().exit()

    def defaults(self):
        if self.parameters.image is None:
            self.parameters.image = suggested_volume()

    def forget(self):
        self._files = self._filesText = None
        self.ui.resultLabel.text = ""
        self.ui.contrastTableView.setMRMLTableNode(None)

    def watched(self):
        p = self.parameters
        moved = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
        markups = [node for node in (p.plane, p.optodes) if node is not None and node.IsA("vtkMRMLMarkupsNode")]
        return [
            (p.image, slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent),
            (p.plane, vtk.vtkCommand.ModifiedEvent),
            *[(node, event) for node in markups for event in (*POINT_EVENTS, moved)],
            *[(p.segmentation.GetSegmentation(), event) for event in SEGMENT_EVENTS if p.segmentation],
        ]

    def problem(self):
        return self._problem

    def update(self):
        p = self.parameters
        self._problem = ""
        self.describe(self.ui.inputsStatusLabel, self.logic.describeInputs, p.image, *self.lesion(), p.method.value)
        hasPlane = self.describe(self.ui.planeStatusLabel, self.logic.describePlane, p.plane)
        plane = p.plane if hasPlane else None
        self.describe(self.ui.optodesStatusLabel, self.logic.describeOptodes, p.optodes, plane)
        self.describe(self.ui.dataStatusLabel, self.describeData)
        simulated = p.source is DataSource.SIMULATED
        self.ui.measuredWidget.setVisible(not simulated)
        self.ui.simulatedWidget.setVisible(simulated)
        self.ui.planeFromLesionButton.enabled = p.image is not None and self.lesion()[0] is not None
        self.ui.planeFromOptodesButton.enabled = p.optodes is not None
        self.ui.placeRingButton.enabled = p.image is not None and plane is not None
        self.showChoices()
        self.showResults()

    def describe(self, label, describe, *inputs):
        """Show what `describe` says; what it refuses keeps Apply from running. Return whether it is fine."""
        try:
            label.text = describe(*inputs)
        except InputError as error:
            label.text = str(error)
            self._problem = self._problem or str(error)
            return False
        return True

    def describeData(self):
        """Describe the chosen files; they are read again when they change, not at every change of the panel."""
        p = self.parameters
        if p.source is DataSource.SIMULATED:
            if self.lesion()[0] is None:
                raise InputError(_("Choose a lesion segment to simulate light for."))
            return _("Apply simulates light for typical tissues with more blood in the lesion. No measurement is used.")
        chosen = [name for name in self.files() if name]
        files = [(name, os.stat(name).st_mtime_ns if os.path.isfile(name) else None) for name in chosen]
        if files != self._files:
            self._files, self._filesText = None, self.logic.describeData(*self.files())
            self._files = files
        return self._filesText

    def showChoices(self):
        """Show what no connector of parameter nodes can."""
        p, lesion = self.parameters, self.ui.lesionSelector
        if lesion.currentNode() is not p.segmentation or lesion.currentSegmentID() != p.segmentId:
            wasBlocked = lesion.blockSignals(True)
            lesion.setCurrentNode(p.segmentation)
            lesion.setCurrentSegmentID(p.segmentId)
            lesion.blockSignals(wasBlocked)
        for edit, path in ((self.ui.dataPathLineEdit, p.dataFile), (self.ui.referencePathLineEdit, p.referenceFile)):
            if edit.currentPath != path:
                wasBlocked = edit.blockSignals(True)
                edit.currentPath = path
                edit.blockSignals(wasBlocked)
        if self.ui.optodesWidget.currentNode() is not p.optodes:
            self.ui.optodesWidget.setCurrentNode(p.optodes)

    def showResults(self):
        p = self.parameters
        for name, title in IMAGE_TITLES.items():
            getattr(self.ui, f"show{title}Button").enabled = getattr(p, name) is not None and p.image is not None
        present = [node for node in self.results().values() if node is not None]
        self.ui.resultLabel.text = describeRun(runRecord(present[0])) if present else _("No results yet.")
        if self.ui.contrastTableView.mrmlTableNode() is not p.contrastTable:
            self.ui.contrastTableView.setMRMLTableNode(p.contrastTable)

    def lesion(self):
        """Return the lesion's segmentation node and segment id, or None for both."""
        p = self.parameters
        exists = p.segmentation is not None and p.segmentation.GetSegmentation().GetSegment(p.segmentId or "")
        return (p.segmentation, p.segmentId) if exists else (None, None)

    def files(self):
        p = self.parameters
        return p.dataFile, p.referenceFile or None

    def results(self):
        return {name: getattr(self.parameters, name) for name in IMAGE_TITLES}

    def apply(self):
        p = self.parameters
        inputs, lesion, simulated = (p.image, p.plane, p.optodes), self.lesion(), p.source is DataSource.SIMULATED
        light = {"tissueNode": p.tissue, "seed": p.seed, "noise": p.simulatedNoise / 100}
        data = self.files()
        choices = {
            "method": p.method.value,
            "extinctionTable": p.extinctionTable,
            "scatter": (p.scatterAmplitude, p.scatterPower),
            "gains": p.gains.value,
            "noise": p.noise / 100 or None,
            "prior_sd": p.priorSd / 100 or None,
            "volumeNodes": self.results(),
            "contrastTableNode": p.contrastTable,
        }

        def work(progress):
            measured = data
            if simulated:
                measured = (self.logic.simulate(*inputs, *lesion, **light, progress=portion(progress, 0.0, 0.4)),)
                progress = portion(progress, 0.4, 1.0)
            return self.logic.reconstruct(
                *inputs, *measured, segmentationNode=lesion[0], segmentId=lesion[1], **choices, progress=progress
            )

        done = self.run(work, _("The light was not reconstructed."))
        if done is None:
            return
        with slicer.util.NodeModify(p):
            for name, node in done.volumeNodes.items():
                setattr(p, name, node)
            p.contrastTable = done.contrastTableNode

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeRemoved(self, caller, event, node):
        """Let go of a deleted node; its selector would go on to another one, such as a slice view for a plane."""
        if self.parameters is not None:
            for name in ("image", "segmentation", "plane", "optodes", "tissue", "contrastTable", *IMAGE_TITLES):
                if getattr(self.parameters, name) is node:
                    setattr(self.parameters, name, None)

    def onLesionSelected(self):
        if self.parameters is None:
            return
        node = self.ui.lesionSelector.currentNode()
        with slicer.util.NodeModify(self.parameters):
            self.parameters.segmentation = node
            self.parameters.segmentId = self.ui.lesionSelector.currentSegmentID() if node else ""

    def onFileSelected(self):
        if self.parameters is None:
            return
        with slicer.util.NodeModify(self.parameters):
            self.parameters.dataFile = self.ui.dataPathLineEdit.currentPath
            self.parameters.referenceFile = self.ui.referencePathLineEdit.currentPath

    def onPlaneFromLesion(self):
        p = self.parameters
        with showing_errors(_("The plane was not placed.")), slicer.util.WaitCursor():
            p.plane = self.logic.planeFromLesion(*self.lesion(), p.image, planeNode=ownNode(p.plane))

    def onPlaneFromOptodes(self):
        p = self.parameters
        with showing_errors(_("The plane was not placed.")), slicer.util.WaitCursor():
            p.plane, _rms = self.logic.planeFromOptodes(p.optodes, planeNode=ownNode(p.plane))

    def onPlaceRing(self):
        p = self.parameters
        with showing_errors(_("The ring was not placed.")), slicer.util.WaitCursor():
            p.optodes = self.logic.placeRing(p.plane, p.image, p.fiberCount, optodesNode=ownNode(p.optodes))

    def onShow(self, name):
        with showing_errors(_("The image was not shown.")):
            self.logic.show(self.parameters.image, getattr(self.parameters, name))


def ownNode(node):
    """Return the node if this module made it, so that it may be changed, else None."""
    return node if node is not None and node.GetAttribute(OWN_ATTRIBUTE) else None


def runRecord(volumeNode):
    """Return the record of the run that made a result volume; it is saved with the scene."""
    return json.loads(volumeNode.GetAttribute(RECORD_ATTRIBUTE))


def describeRun(record):
    """Return what the user should know about a finished run."""
    if record["simulated"]:
        lines = [_("Simulated light; true values: {text}").format(text=record["simulated"])]
    elif record["reference_data"]:
        lines = [_("Measured light of {data}, calibrated on {reference_data}.").format(**record)]
    else:
        lines = [_("Measured light of {data}.").format(**record)]
    lines.append(
        _("Method {method}, extinction table {extinction_table}, unknown gains: {gains}. Stopped: {reason}.").format(
            **record
        )
    )
    bulk = record["bulk"]
    lines.append(
        _("Homogeneous fit: HbO {hbo:.1f} uM, Hb {hbr:.1f} uM, water {percent:.0f} %.").format(
            percent=100 * bulk["water"], **bulk
        )
    )
    chi = [f"{nm:g} nm {value:.2f}" for nm, value in zip(record["wavelengths_nm"], record["chi"], strict=True)]
    lines.append(
        _("Residual in units of the noise (about 1 is as good as the noise allows): {chi}.").format(chi=", ".join(chi))
    )
    if max(record["chi"]) > 2:
        lines.append(
            _("The model does not explain these data. Check fiber numbers, plane, reference and the assumed noise.")
        )
    return "\n".join([*lines, *record["remarks"]])


class Plane2D(NamedTuple):
    """What a picture of the plane needs, on the grid of the result volumes."""

    pixel_mm: float
    mri: Any  # (J, I)
    lesion: Any  # (J, I) bool or None
    optodes_mm: Any  # (n, 2) from the center of pixel (0, 0)
    values: dict  # name -> (J, I), NaN outside the body


class Reconstructed(NamedTuple):
    volumeNodes: dict  # hbo, hbr, water, hbt, sto2
    contrastTableNode: Any  # None without a lesion
    contrast: list  # NIRSTReconstructionLib.images.Contrast
    plane: Plane2D
    grid: Any  # NIRSTReconstructionLib.plane.SliceGrid
    result: Any  # NIRSTReconstructionLib.reconstruct.Reconstruction

    @property
    def chi(self):
        """Wavelength in nm -> residual in units of the noise."""
        return dict(zip(self.result.measurements.wavelengths_nm.tolist(), self.result.chi.tolist(), strict=True))

    def sample(self, images):
        """Return other images (name -> Volume) on the grid of the results, NaN outside the body."""
        from NIRSTReconstructionLib.plane import reslice

        body = np.isfinite(self.plane.values["hbo"])
        return {
            name: np.where(body, reslice(volume, self.grid, nearest=True).array[0], np.nan)
            for name, volume in images.items()
        }


class SimulatedLight(NamedTuple):
    measurements: Any  # NIRSTReconstructionLib.measurements.Measurements
    reference: Any  # the same, of a homogeneous phantom
    truth: dict  # name -> Volume
    description: str


class NIRSTReconstructionLogic(ScriptedLoadableModuleLogic):
    """The verbs, for the panel, the Python console and other modules; all raise InputError on bad input."""

    def getParameterNode(self):
        return NIRSTReconstructionParameterNode(super().getParameterNode())

    # What is there, in words; what keeps `reconstruct` from running is raised

    def describeInputs(self, volumeNode, segmentationNode=None, segmentId=None, method="dri"):
        from BreastBiomarkersLib.inslicer.nodes import grid_from_node, local_to_world

        grid_from_node(volumeNode, "MRI")
        if segmentationNode is None:
            if method in (Method.SOFT_PRIOR.value, Method.HARD_PRIOR.value):
                raise InputError(_("This method needs a lesion segment. Choose one, or another method."))
            return _("Without a lesion segment no contrast is computed.")
        local_to_world(segmentationNode)
        name = segmentationNode.GetSegmentation().GetSegment(segmentId).GetName()
        return _("'{name}' will be compared with its surroundings.").format(name=name)

    def describePlane(self, planeNode):
        plane = self._plane(planeNode)
        position = ", ".join(f"{x:.1f}" for x in plane.origin_ras)
        normal = ", ".join(f"{x:.2f}" for x in np.round(plane.normal, 2) + 0.0)  # no -0.00
        return _("Through ({position}) mm, normal ({normal}), RAS.").format(position=position, normal=normal)

    def describeOptodes(self, optodesNode, planeNode=None):
        fibers = self._fibers(optodesNode)
        sources, detectors = len(fibers.sources), len(fibers.detectors)
        if np.array_equal(fibers.sources, fibers.detectors):
            text = _("{count} fibers, each source and detector.").format(count=sources)
        else:
            text = _("{sources} sources, {detectors} detectors.").format(sources=sources, detectors=detectors)
        if planeNode is not None:
            fit = fibers.distance_from(self._plane(planeNode))
            distance = _("They lie {rms:.1f} mm (root mean square) off the plane.").format(rms=fit.rms_mm)
            text += " " + (fit.warning or distance)
        return text

    def describeData(self, path, referencePath=None):
        if not path:
            raise InputError(_("Choose the file with the measured light (.paa or .csv)."))
        measured = self._measurements(path)
        text = _(
            "{name}: {count} wavelengths ({first:g} to {last:g} nm), {channels} channels, {used} of {all} values."
        ).format(
            name=measured.name,
            count=len(measured.wavelengths_nm),
            first=measured.wavelengths_nm[0],
            last=measured.wavelengths_nm[-1],
            channels=len(measured.channels),
            used=measured.active.sum(),
            all=measured.active.size,
        )
        remarks = [*measured.remarks]
        if referencePath:
            reference = self._measurements(referencePath).at_wavelengths(measured.wavelengths_nm)
            remarks += reference.at_channels(measured.channels).remarks
        return " ".join([text, *remarks])

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
        fit = self._fibers(optodesNode).fitted_plane()
        return self._planeNode(fit.plane, name, optodesNode, planeNode), fit.rms_mm

    def placeRing(self, planeNode, volumeNode, count=16, name="Optodes", optodesNode=None, bodyThreshold=None):
        """Return a point list of fibers at equal distances on the breast's outline in the plane.

        Where the image cuts through the body towards the chest, that third of the outline stays free.
        """
        from BreastBiomarkersLib.inslicer.nodes import place_beside, points_to_node
        from BreastBiomarkersLib.points import LabeledPoints
        from NIRSTReconstructionLib.simulation import fibers_on_contour

        plane = self._plane(planeNode)
        toChest = np.array([0.0, -1.0, 0.0])
        inPlane = np.linalg.norm(toChest - (toChest @ plane.normal) * plane.normal) > 0.5
        contour = self._contour(self._body(volumeNode, bodyThreshold), plane)
        fibers = fibers_on_contour(contour, plane, count, toChest if inPlane else None)
        labels = [str(n + 1) for n in range(count)]
        if optodesNode is None:
            optodesNode = self._ownMarkups("vtkMRMLMarkupsFiducialNode", name)
            place_beside(optodesNode, volumeNode)
        return points_to_node(LabeledPoints(labels, fibers.detectors), optodesNode)

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
        progress=ignore_progress,
    ):
        """Simulate light for an exam that has none, from typical tissues with more blood and water in the lesion.

        `tissueNode` is a label map whose names tell fat from fibroglandular tissue (WeakSegment simulates one);
        without it all of the breast but the lesion is alike. `noise` is the amplitudes' relative standard deviation.
        """
        from BreastBiomarkersLib.inslicer.nodes import mask_from_segment
        from NIRSTReconstructionLib.simulation import BREAST_TISSUES, simulate_on_plane
        from NIRSTReconstructionLib.spectra import load_spectra

        progress(0.0, _("Simulating light"))
        lesion = mask_from_segment(segmentationNode, segmentId, volumeNode)
        names = ["breast", "fibroglandular", "lesion"]
        labels = np.where(lesion.array, names.index("lesion"), 0).astype(np.uint8)
        if tissueNode is not None:
            gland = self._labels(tissueNode, "fibroglandular", lesion)
            labels[gland & ~lesion.array] = names.index("fibroglandular")
        plane = self._plane(planeNode)
        made = simulate_on_plane(
            lesion.with_array(labels, "tissues"),
            {n: BREAST_TISSUES[name] for n, name in enumerate(names)},
            plane,
            self._contour(self._body(volumeNode, bodyThreshold), plane),
            self._fibers(optodesNode),
            load_spectra(WAVELENGTHS_NM),
            noise=noise,
            seed=seed,
        )
        used = [name for n, name in enumerate(names) if (labels == n).any()]
        description = (
            "; ".join(f"{name}: {BREAST_TISSUES[name].describe()}" for name in used)
            + f"; {100 * noise:g} % noise, seed {seed}, on a finer mesh than the one used for reconstruction."
        )
        progress(1.0, _("Simulating light"))
        return SimulatedLight(made.measurements, made.reference, made.truth, description)

    def reconstruct(
        self,
        volumeNode,
        planeNode,
        optodesNode,
        data,
        referenceData=None,
        method="dri",
        segmentationNode=None,
        segmentId=None,
        extinctionTable="nirfast-1",
        scatter=None,
        bodyThreshold=None,
        volumeNodes=None,
        contrastTableNode=None,
        progress=ignore_progress,
        **settings,
    ):
        """Reconstruct the images of one plane and lay them into the scene.

        `data` is SimulatedLight, measurements or the path of a file (.paa, .csv), `referenceData` likewise. The MRI
        gives the outline and, for "dri", the guidance; a segment guides "soft-prior" and "hard-prior" and is compared
        with its surroundings. `scatter` is the body's scatter amplitude (1/mm) and power, which are not fitted.
        `bodyThreshold` is the MRI's gray value between air and body, 0 where the image holds no air.
        `volumeNodes` (by name) and `contrastTableNode` of an earlier run are updated where they still exist.
        `settings` are those of NIRSTReconstructionLib.reconstruct.ReconstructionSettings.
        """
        from BreastBiomarkersLib.inslicer.nodes import mask_from_segment, require_in_scene, volume_from_node
        from NIRSTReconstructionLib.bulk import TYPICAL_TISSUE
        from NIRSTReconstructionLib.images import contrast_table, image_grid, lesion_in_plane, sample_on_grid
        from NIRSTReconstructionLib.plane import even_polygon, slice_grid
        from NIRSTReconstructionLib.reconstruct import ReconstructionSettings, reconstruct
        from NIRSTReconstructionLib.spectra import load_spectra

        progress(0.0, _("Reading the inputs"))
        simulated = ""
        if isinstance(data, SimulatedLight):
            data, referenceData, simulated = data.measurements, data.reference, data.description
        measured = self._measurements(data)
        reference = None if referenceData is None else self._measurements(referenceData)
        if scatter is not None:
            settings["start"] = replace(TYPICAL_TISSUE, scatter_amplitude=scatter[0], scatter_power=scatter[1])
        settings = ReconstructionSettings(method=method, **settings)
        image = volume_from_node(volumeNode, "MRI")
        lesion = None if segmentationNode is None else mask_from_segment(segmentationNode, segmentId, volumeNode)
        plane, fibers = self._plane(planeNode), self._fibers(optodesNode)
        body = self._body(volumeNode, bodyThreshold)
        contour = self._contour(body, plane)
        if lesion is not None:
            lesion_in_plane(lesion, slice_grid(plane, even_polygon(contour.samples[1], 1.0)))
        result = reconstruct(
            measured,
            fibers,
            contour,
            load_spectra(measured.wavelengths_nm, extinctionTable),
            settings,
            plane=plane,
            reference=reference,
            images=[image],
            regions=lesion,
            progress=portion(progress, 0.05, 1.0),
        )
        if body.array.all():
            remark = f"'{image.name}' shows no air: its edge was taken for the breast's outline."
            result = replace(result, remarks=(*result.remarks, remark))
        contrast = [] if lesion is None else contrast_table(result, lesion)
        grid = image_grid(result)
        images = sample_on_grid(result, grid)
        picture = self._picture(grid, images, image, lesion, fibers)
        record = {
            "data": measured.name,
            "reference_data": None if reference is None else reference.name,
            "simulated": simulated,
            **result.summary(),
        }
        require_in_scene(volumeNode, planeNode, optodesNode)
        old = {name: node for name, node in (volumeNodes or {}).items() if isPresent(node)}
        folder = self._folder(next(iter(old.values()), None), volumeNode)
        nodes = {
            name: self._imageNode(images[name], name, record, volumeNode, old.get(name), folder) for name in images
        }
        table = contrastTableNode if isPresent(contrastTableNode) else None
        if contrast or table is not None:
            table = self._contrastNode(contrast, f"{volumeNode.GetName()} contrast", table, folder)
        return Reconstructed(nodes, table, contrast, picture, grid, result)

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

    # Results into the scene; nothing here can be cancelled half-way

    def _picture(self, grid, images, image, lesion, fibers):
        from NIRSTReconstructionLib.images import lesion_in_plane
        from NIRSTReconstructionLib.plane import reslice

        body = images["hbo"].array[0] > 0
        return Plane2D(
            pixel_mm=grid.pixel_mm,
            mri=reslice(image, grid).array[0],
            lesion=None if lesion is None else lesion_in_plane(lesion, grid).reshape(grid.shape),
            optodes_mm=grid.plane.to_plane(fibers.detectors)[0] - grid.first_mm,
            values={name: np.where(body, volume.array[0], np.nan) for name, volume in images.items()},
        )

    def _imageNode(self, volume, name, record, volumeNode, node, folder):
        """Write one image, under the transform of the MRI; what the user changed of an older image's display stays."""
        from BreastBiomarkersLib.inslicer.nodes import volume_to_node
        from NIRSTReconstructionLib.images import IMAGE_UNITS

        prefix, title = SIMULATED if record["simulated"] else "", f"{IMAGE_TITLES[name]} [{IMAGE_UNITS[name]}]"
        if node is None:
            unique = slicer.mrmlScene.GenerateUniqueName(prefix + title)
            node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", unique)
            moveToFolder(node, folder)
        else:
            node.SetName(prefix + node.GetName().removeprefix(SIMULATED))
        shown = valueRange(slicer.util.arrayFromVolume(node)) if node.GetAttribute(RECORD_ATTRIBUTE) else None
        node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
        volume_to_node(volume, node)
        node.SetAttribute(RECORD_ATTRIBUTE, json.dumps(record))
        display = node.GetDisplayNode()
        if shown is None:
            display.SetAndObserveColorNodeID(COLOR_NODE)
            display.AutoWindowLevelOff()
        if shown is None or np.allclose(shown, (display.GetWindowLevelMin(), display.GetWindowLevelMax())):
            low, high = valueRange(volume.array)
            display.SetWindowLevelMinMax(low, high)
            display.SetThreshold(low, display.GetUpperThreshold())
            display.ApplyThresholdOn()
        legend = slicer.modules.colors.logic().AddDefaultColorLegendDisplayNode(node)
        legend.SetTitleText(prefix + title)
        return node

    def _contrastNode(self, contrast, name, node, folder):
        from BreastBiomarkersLib.inslicer.nodes import table_to_node

        columns = {
            "Quantity": [IMAGE_TITLES[row.quantity] for row in contrast],
            "Unit": [row.unit for row in contrast],
            "Lesion": [row.lesion for row in contrast],
            "Background": [row.background for row in contrast],
            "Ratio": [row.ratio for row in contrast],
            "Ratio SE": [row.ratio_se for row in contrast],
            "Lesion SE": [row.lesion_se for row in contrast],
            "Background SE": [row.background_se for row in contrast],
        }
        created = node is None
        node = table_to_node(columns, node, name)
        if created:
            moveToFolder(node, folder)
        return node

    def _folder(self, resultNode, volumeNode):
        """Return the folder (subject hierarchy) of earlier results, or a new one beside the MRI."""
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        if resultNode is not None:
            return hierarchy.GetItemParent(hierarchy.GetItemByDataNode(resultNode))
        parent = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(volumeNode))
        return hierarchy.CreateFolderItem(parent, _("{name} NIRST").format(name=volumeNode.GetName()))

    # From nodes to what the library takes

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

    def _plane(self, planeNode):
        from BreastBiomarkersLib.inslicer.nodes import slice_to_ras
        from NIRSTReconstructionLib.plane import plane_from_matrix

        return plane_from_matrix(slice_to_ras(planeNode))

    def _body(self, volumeNode, threshold):
        """Return the breast's mask; the threshold between air and body follows from the image if it is None."""
        from BreastBiomarkersLib.inslicer.nodes import volume_from_node
        from NIRSTReconstructionLib.plane import body_mask

        return body_mask(volume_from_node(volumeNode, "MRI"), threshold)

    def _contour(self, body, plane):
        from NIRSTReconstructionLib.meshing import spline_contour
        from NIRSTReconstructionLib.plane import body_contour

        return spline_contour(body_contour(body, plane))

    def _fibers(self, optodesNode):
        from BreastBiomarkersLib.inslicer.nodes import points_from_node
        from NIRSTReconstructionLib.fibers import fibers_from_points

        return fibers_from_points(points_from_node(optodesNode, "optodes"), optodesNode.GetName())

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

    def _measurements(self, data):
        from NIRSTReconstructionLib.measurements import Measurements, read_measurements

        return data if isinstance(data, Measurements) else read_measurements(data)


def isPresent(node):
    return node is not None and bool(slicer.mrmlScene.IsNodePresent(node))


def moveToFolder(node, folder):
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), folder)


def valueRange(array):
    """Return smallest and largest value inside the body; outside it is 0."""
    inside = array[array > 0]
    return float(inside.min()), float(inside.max())


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
