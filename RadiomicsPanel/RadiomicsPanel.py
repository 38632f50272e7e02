"""RadiomicsPanel in Slicer: segments of an image to a table of features. The features are in RadiomicsPanelLib."""

from __future__ import annotations

import pathlib
from enum import Enum
from typing import Any, NamedTuple

import qt
import slicer
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.panel import ModulePanel, showing_errors, suggested_volume
from BreastBiomarkersLib.progress import ignore_progress, portion
from RadiomicsPanelLib.settings import PRESETS, Settings, read_settings
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode, vtkMRMLTableNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
)

SEGMENT_EVENTS = (
    slicer.vtkSegmentation.SegmentAdded,
    slicer.vtkSegmentation.SegmentRemoved,
    slicer.vtkSegmentation.SegmentModified,
)


class RadiomicsPanel(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("RadiomicsPanel")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Quantification")]
        self.parent.dependencies = ["WeakSegment", "Segmentations", "Tables", "Volumes"]
        self.parent.contributors = ["BreastBiomarkers developers"]
        self.parent.helpText = (
            _(
                "Measures shape, intensity and texture of segments with the definitions of the "
                "Image Biomarker Standardization Initiative."
            )
            + ' <a href="https://github.com/BreastBiomarkers/SlicerBreastBiomarkers">'
            + _("Documentation")
            + "</a>"
        )
        self.parent.acknowledgementText = _(
            "Feature definitions after Zwanenburg et al., The Image Biomarker Standardization Initiative, "
            "Radiology 295 (2020), doi 10.1148/radiol.2020191145."
        )


PresetName = Enum("PresetName", {name.replace("-", "_").upper(): name for name in (*PRESETS, "from-file")})
"""The presets, and a settings file."""


@parameterNodeWrapper
class RadiomicsPanelParameterNode:
    """The user's choices; what the settings mean is explained in RadiomicsPanelLib.settings."""

    image: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    segmentIds: list[str]  # none: all segments
    preset: PresetName = PresetName.MR
    settingsFile: pathlib.Path
    excludedFamilies: list[str]
    table: vtkMRMLTableNode
    longForm: bool = True


class RadiomicsPanelWidget(ModulePanel):
    packages = ("RadiomicsPanelLib", "BreastBiomarkersLib")
    pages = ()  # RadiomicsPanelLib.inslicer.page.Page

    def setup(self):
        super().setup()
        self.logic = RadiomicsPanelLogic()
        top = self.ui.RadiomicsPanel
        self.pages = makePages(self)
        self.ui = slicer.util.childWidgetVariables(top)  # with those of the pages
        self._sections = [self.ui.presetWidget, *slicer.util.findChildren(top, className="ctkCollapsibleButton")]
        for page in self.pages:
            page.setup()
        self._done = None
        for name, title in self.logic.families().items():
            item = qt.QListWidgetItem(title)
            item.setData(qt.Qt.UserRole, name)
            item.setCheckState(qt.Qt.Checked)
            self.ui.familiesListWidget.addItem(item)
        self.ui.familiesListWidget.connect("itemChanged(QListWidgetItem*)", self.onFamilyChecked)
        self.ui.segmentsTable.connect("selectionChanged(QItemSelection,QItemSelection)", self.onSegmentsSelected)
        self.ui.exportButton.connect("clicked()", self.onExport)
        self.bind()

    def lock(self, running):
        """Lock what must not change while a page's own job runs."""
        for section in self._sections:
            section.enabled = not running
        self.refresh()

    def cleanup(self):
        for page in self.pages:
            page.cleanup()
        super().cleanup()

    def refresh(self, caller=None, event=None):
        super().refresh(caller, event)
        if self.job is not None and not slicer.mrmlScene.IsBatchProcessing():
            running = self.job.running or any(page.running for page in self.pages)
            for page in self.pages:
                page.refresh_button(running)

    def defaults(self):
        if self.parameters.image is None:
            self.parameters.image = suggested_volume()
        if self.parameters.segmentation is None:
            nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
            self.parameters.segmentation = nodes[0] if nodes else None
        for page in self.pages:
            page.defaults()

    def watched(self):
        p = self.parameters
        segments = [(p.segmentation.GetSegmentation(), event) for event in SEGMENT_EVENTS] if p.segmentation else []
        ofPages = [one for page in self.pages for one in page.watched()]
        return [(p.image, slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent), *segments, *ofPages]

    def problem(self):
        p = self.parameters
        if any(page.running for page in self.pages):
            return _("Another run has not ended yet.")
        try:
            self.logic.chosenSegments(p.segmentation, self.chosenIds())
            self.settings()
        except InputError as error:
            return str(error)
        if p.image is None:
            return _("Choose an image.")
        if len(p.excludedFamilies) == len(self.logic.families()):
            return _("Check at least one family of features.")
        return ""

    def update(self):
        p = self.parameters
        table = self.ui.segmentsTable
        wasBlocked = table.blockSignals(True)
        if table.segmentationNode() is not p.segmentation:
            table.setSegmentationNode(p.segmentation)
        if tuple(table.selectedSegmentIDs()) != tuple(p.segmentIds):
            table.setSelectedSegmentIDs(self.chosenIds() or [])
        table.blockSignals(wasBlocked)
        families = self.ui.familiesListWidget
        wasBlocked = families.blockSignals(True)
        for row in range(families.count):
            item = families.item(row)
            excluded = item.data(qt.Qt.UserRole) in p.excludedFamilies
            item.setCheckState(qt.Qt.Unchecked if excluded else qt.Qt.Checked)
        families.blockSignals(wasBlocked)
        self.ui.settingsPathLineEdit.enabled = p.preset is PresetName.FROM_FILE
        try:
            self.ui.settingsSummaryLabel.text = describeSettings(self.settings())
        except InputError as error:
            self.ui.settingsSummaryLabel.text = str(error)
        if self.ui.resultTableView.mrmlTableNode() is not p.table:
            self.ui.resultTableView.setMRMLTableNode(p.table)
        self.ui.exportButton.enabled = self._done is not None
        for page in self.pages:
            page.update()

    def settings(self):
        p = self.parameters
        return self.logic.settings(str(p.settingsFile) if p.preset is PresetName.FROM_FILE else p.preset.value)

    def chosenIds(self):
        """Return the chosen segments that still exist, or None for all."""
        p = self.parameters
        if p.segmentation is None:
            return None
        return [name for name in p.segmentIds if p.segmentation.GetSegmentation().GetSegment(name)] or None

    def apply(self):
        p = self.parameters
        families = [name for name in self.logic.families() if name not in p.excludedFamilies]
        inputs = (p.image, p.segmentation, self.chosenIds(), self.settings(), families, p.table)
        done = self.run(
            lambda progress: self.logic.extract(*inputs, progress=progress), _("The features were not computed.")
        )
        if done is None:
            return
        self._done = done
        self.ui.resultLabel.text = describeResult(done)
        p.table = done.tableNode
        self.refresh()

    def onSegmentsSelected(self, selected=None, deselected=None):
        if self.parameters is not None:
            self.parameters.segmentIds = list(self.ui.segmentsTable.selectedSegmentIDs())

    def onFamilyChecked(self, item):
        if self.parameters is not None:
            items = [self.ui.familiesListWidget.item(row) for row in range(self.ui.familiesListWidget.count)]
            self.parameters.excludedFamilies = [
                item.data(qt.Qt.UserRole) for item in items if item.checkState() == qt.Qt.Unchecked
            ]

    def onExport(self):
        with showing_errors(_("The values were not exported.")):
            path = self.logic.export(self._done, self.ui.exportPathLineEdit.currentPath, self.parameters.longForm)
            slicer.util.showStatusMessage(_("Exported to {path}").format(path=path), 5000)

    def forget(self):
        for page in self.pages:
            if page.job is not None:
                page.job.cancel()
            page.forget()
        self._done = None
        self.ui.resultLabel.text = ""


def makePages(panel):
    """Return the pages whose files are in RadiomicsPanelLib.inslicer."""
    from RadiomicsPanelLib.inslicer.cohort_page import CohortPage
    from RadiomicsPanelLib.inslicer.maps_page import MapsPage

    return [MapsPage(panel, panel.ui.mapsPage), CohortPage(panel, panel.ui.cohortPage)]


def describeSettings(settings):
    """Return the settings in words, with their reason."""
    grid = _("source voxels")
    if settings.spacing_kji_mm is not None:
        sizes = [_("source") if size is None else f"{size:g}" for size in settings.spacing_kji_mm[::-1]]
        grid = _("{sizes} mm, {interpolation}").format(sizes=" x ".join(sizes), interpolation=settings.interpolation)
    limits = [f"{limit:g}" if limit is not None else "-" for limit in (settings.lower, settings.upper)]
    parts = [_("Voxels: {grid}.").format(grid=grid)]
    if limits != ["-", "-"]:
        parts.append(_("Range: {lower} to {upper}.").format(lower=limits[0], upper=limits[1]))
    if settings.outlier_sigma is not None:
        parts.append(_("Outliers beyond {sigma:g} standard deviations left out.").format(sigma=settings.outlier_sigma))
    bins = {
        "bin_width": _("Bins of {width} {unit}.").format(width=settings.bin_width, unit=settings.intensity_unit),
        "bin_count": _("{count} bins.").format(count=settings.bin_count),
        "none": _("Intensities are gray levels."),
    }
    return " ".join([*parts, bins[settings.discretization], settings.reason])


def describeResult(done):
    """Return what the user should know about a finished run."""
    lines = []
    for extraction in done.extractions:
        values = [value.value for value in extraction.values]
        line = _("{segment}: {count} values, {missing} not applicable; {volume:.2f} ml, {levels} gray levels.").format(
            segment=extraction.segment,
            count=sum(value is not None for value in values),
            missing=sum(value is None for value in values),
            volume=extraction.preparation["morphological_volume_mm3"] / 1000,
            levels=extraction.preparation["level_count"],
        )
        lines.append(" ".join([line, *extraction.preparation["notes"]]))
    return "\n".join(lines)


class Extracted(NamedTuple):
    tableNode: Any
    extractions: list  # RadiomicsPanelLib.extract.Extraction, one per segment

    @property
    def records(self):
        """Feature values of the first segment."""
        return self.extractions[0].values

    @property
    def provenance(self):
        from RadiomicsPanelLib.extract import provenance

        return provenance(self.extractions)


class RadiomicsPanelLogic(ScriptedLoadableModuleLogic):
    """The verbs, for the panel, the Python console and other modules; all raise InputError on bad input."""

    def getParameterNode(self):
        return RadiomicsPanelParameterNode(super().getParameterNode())

    def families(self):
        """Return name -> title of the feature families."""
        from RadiomicsPanelLib.catalog import FAMILIES

        return {family.name: family.title for family in FAMILIES}

    def settings(self, presetOrFile):
        """Return settings from a preset's name, a settings file or Settings."""
        return presetOrFile if isinstance(presetOrFile, Settings) else read_settings(presetOrFile)

    def chosenSegments(self, segmentationNode, segmentIds=None):
        """Return id -> name of the segments to measure: the given ones, or all."""
        if segmentationNode is None:
            raise InputError("No segmentation is selected. Choose one, or make one in WeakSegment.")
        segmentation = segmentationNode.GetSegmentation()
        ids = list(segmentation.GetSegmentIDs()) if segmentIds is None else segmentIds
        if not ids:
            raise InputError(f"'{segmentationNode.GetName()}' has no segment. Segment the lesion first.")
        gone = [segmentId for segmentId in ids if segmentation.GetSegment(segmentId) is None]
        if gone:
            raise InputError(f"'{segmentationNode.GetName()}' has no segment '{gone[0]}'. Select a segment again.")
        return {segmentId: segmentation.GetSegment(segmentId).GetName() for segmentId in ids}

    def extract(
        self,
        volumeNode,
        segmentationNode,
        segmentIds=None,
        settings="mr",
        families=None,
        tableNode=None,
        progress=ignore_progress,
    ):
        """Measure segments of an image; the table has a row per feature and a column per segment."""
        from BreastBiomarkersLib.inslicer.nodes import mask_from_segment, require_in_scene, volume_from_node
        from RadiomicsPanelLib.extract import extract_all
        from RadiomicsPanelLib.roi import Case

        segments = self.chosenSegments(segmentationNode, segmentIds)
        image = volume_from_node(volumeNode)
        progress(0.0, _("Reading the segments"))
        cases = [
            Case(image, mask_from_segment(segmentationNode, segmentId, volumeNode), image.name, name)
            for segmentId, name in segments.items()
        ]
        extractions = extract_all(cases, self.settings(settings), portion(progress, 0.05, 1.0), families)
        require_in_scene(volumeNode, segmentationNode, *([] if tableNode is None else [tableNode]))
        return Extracted(self._show(extractions, tableNode, f"{image.name} radiomics"), extractions)

    def export(self, done, path, longForm=True):
        """Write values as CSV with their provenance beside it and return the path."""
        from RadiomicsPanelLib.table import write_table

        if not str(path).strip():
            raise InputError("Choose a CSV file to write to.")
        path = pathlib.Path(path)
        write_table(done.extractions, path if path.suffix else path.with_suffix(".csv"), longForm)
        return path

    def _show(self, extractions, tableNode, name):
        from BreastBiomarkersLib.inslicer.nodes import table_to_node

        first = extractions[0].values
        columns = {
            "Family": [v.feature.family for v in first],
            "Feature": [v.feature.name.replace("_", " ") for v in first],
            "Aggregation": [v.aggregation for v in first],
        }
        found = [{v.column: v for v in extraction.values} for extraction in extractions]
        for extraction, values in zip(extractions, found, strict=True):
            filtered = extraction.filter != "original"  # without the shape, which the first extraction has
            title = f"{extraction.segment}, {extraction.filter}" if filtered else extraction.segment
            while title in columns:  # segment names need not be unique
                title += " (2)"
            columns[title] = [values[v.column].value if v.column in values else None for v in first]
        columns["Unit"] = [v.unit for v in first]
        columns["IBSI code"] = [v.feature.ibsi for v in first]
        columns["Category"] = [v.feature.category for v in first]
        notes = [[values[v.column].note for values in found if v.column in values] for v in first]
        columns["Note"] = [next((note for note in of_row if note), "") for of_row in notes]
        return table_to_node(columns, tableNode, name)


class RadiomicsPanelTest(ScriptedLoadableModuleTest):
    def test_cases(self):
        from BreastBiomarkersLib.inslicer.self_test import source_cases

        for case in source_cases("RadiomicsPanel") or [checkBall]:
            self.delayDisplay(case.__name__)
            slicer.mrmlScene.Clear()
            case()


def checkBall():
    """Measure a ball of 10 mm radius and compare its volume with 4/3 pi r^3."""
    import numpy as np
    from BreastBiomarkersLib.inslicer.nodes import mask_to_segment, segmentation_for, volume_to_node
    from BreastBiomarkersLib.volume import Volume

    z, y, x = np.mgrid[-15:16, -15:16, -15:16]
    ball = z**2 + y**2 + x**2 <= 100
    image = Volume(np.random.default_rng(1).normal(100 + 50 * ball, 5.0), np.eye(4), "ball")
    volumeNode = volume_to_node(image)
    segmentation = segmentation_for(volumeNode, "ball")
    mask_to_segment(image.with_array(ball), segmentation, "ball")
    done = RadiomicsPanelLogic().extract(volumeNode, segmentation)
    volume = next(v.value for v in done.records if v.feature.ibsi == "RNU0")
    if abs(volume / (4 / 3 * np.pi * 1000) - 1) > 0.03:
        raise AssertionError(f"The ball measures {volume:.0f} mm^3")
