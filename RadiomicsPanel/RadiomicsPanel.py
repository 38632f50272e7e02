"""RadiomicsPanel in Slicer: segments of an image to a table of features. The features are in RadiomicsPanelLib."""

from __future__ import annotations

import pathlib
from enum import Enum
from typing import Annotated, Any, NamedTuple

import qt
import slicer
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.panel import ModulePanel, suggested_volume
from BreastBiomarkersLib.progress import ignore_progress, portion
from RadiomicsPanelLib.settings import PRESETS
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode, vtkMRMLTableNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Decimals, SingleStep, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
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


class _Preset(Enum):
    def label(self):
        """Return the preset's name for people."""
        return {
            "mr": _("MR"),
            "ct": _("CT"),
            "pet": _("PET (SUV)"),
            "dce-adc": _("DCE and ADC maps"),
            "ibsi-phantom": _("IBSI digital phantom"),
            "pyradiomics": _("As published (pyradiomics)"),
            "from-file": _("From a file"),
        }.get(self.value) or _("IBSI configuration {letter}").format(letter=self.value[-1].upper())


PresetName = _Preset(
    "PresetName", {name.replace("-", "_").upper(): name for name in (*PRESETS, "pyradiomics", "from-file")}
)
"""The presets, the way back to studies made with pyradiomics, and a settings file."""


class MapAggregation(Enum):
    """Of RadiomicsPanelLib.maps.MAP_AGGREGATIONS."""

    CUBE_AVERAGED = "3D_avg"
    CUBE_MERGED = "3D_comb"
    SQUARE_AVERAGED = "2D_avg"
    SQUARE_MERGED = "2D_comb"

    def label(self):
        return {
            "3D_avg": _("3-D, directions averaged"),
            "3D_comb": _("3-D, directions merged"),
            "2D_avg": _("2-D, directions averaged"),
            "2D_comb": _("2-D, directions merged"),
        }[self.value]


class HabitatMethod(Enum):
    LIMITS = "thresholds"
    MODEL = "model"
    KMEANS = "kmeans"
    MIXTURE = "gmm"

    def label(self):
        return {
            "thresholds": _("Fixed limits"),
            "model": _("Model of a cohort"),
            "kmeans": _("k-means on this case"),
            "gmm": _("Gaussian mixture on this case"),
        }[self.value]


@parameterNodeWrapper
class RadiomicsPanelParameterNode:
    """The user's choices; what the settings mean is explained in RadiomicsPanelLib.settings."""

    image: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    segmentIds: list[str]  # none: all segments
    preset: PresetName = PresetName.MR
    settingsFile: str
    excludedFamilies: list[str]
    edits: str  # of the preset's numbers; see RadiomicsPanelLib.inslicer.edited_settings
    table: vtkMRMLTableNode
    rowPerSegment: bool
    autoUpdate: bool
    longForm: bool = True
    allSettings: bool
    mapFeatures: list[str]
    mapRadius: Annotated[int, WithinRange(1, 4)] = 1  # voxels
    mapAggregation: MapAggregation = MapAggregation.CUBE_AVERAGED
    mapOnImageGrid: bool
    habitatMethod: HabitatMethod = HabitatMethod.LIMITS
    habitatChannels: list[vtkMRMLScalarVolumeNode]
    habitatLimits: list[float]  # in the order of the channels
    habitatCount: Annotated[int, WithinRange(1, 16)] = 1  # 1: by silhouette and stability
    habitatSmoothing: Annotated[float, WithinRange(0.0, 10.0), SingleStep(0.5), Decimals(1)] = 1.0  # voxels
    habitatSegmentation: vtkMRMLSegmentationNode
    habitatTable: vtkMRMLTableNode


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
        tabs = self.ui.pagesTabWidget
        self._tabs = [(tabs.widget(n), tabs.tabText(n), tabs.tabToolTip(n)) for n in range(tabs.count)]
        for page in self.pages:
            page.setup()
        tabs.connect("currentChanged(int)", lambda index: self.refresh())
        self.ui.resetSettingsButton.connect("clicked()", self.onResetSettings)
        self.ui.settingsPathLineEdit.connect("currentPathChanged(QString)", self.onSettingsFile)
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
        return [one for page in self.pages for one in page.watched()]

    def problem(self):
        p = self.parameters
        if any(page.running for page in self.pages):
            return _("Another run has not ended yet.")
        try:
            self.logic.chosenSegments(p.segmentation, self.chosenIds())
            self.anySettings()
        except InputError as error:
            return str(error)
        if p.image is None:
            return _("Choose an image.")
        return "" if self.families() else _("Check at least one family of features.")

    def update(self):
        self.showTabs()
        ui = self.ui
        try:
            ui.settingsSummaryLabel.text = self.logic.describeSettings(self.anySettings())
            edited = self.logic.describeEdits(self.baseSettings(), self.parameters.edits)
        except InputError as error:
            ui.settingsSummaryLabel.text, edited = str(error), []
        ui.editedLabel.text = _("Edited: {changes}.").format(changes="; ".join(edited))
        for widget in (ui.editedLabel, ui.resetSettingsButton):
            widget.setVisible(bool(edited))
        ui.settingsFileWidget.setVisible(self.parameters.allSettings or self.parameters.preset is PresetName.FROM_FILE)
        if ui.settingsPathLineEdit.currentPath != self.parameters.settingsFile:
            wasBlocked = ui.settingsPathLineEdit.blockSignals(True)
            ui.settingsPathLineEdit.currentPath = self.parameters.settingsFile
            ui.settingsPathLineEdit.blockSignals(wasBlocked)
        for page in self.pages:
            page.update()

    def showTabs(self):
        """Show all pages, or the two that simple use needs; the button Apply belongs to the first four."""
        tabs, simple = self.ui.pagesTabWidget, not self.parameters.allSettings
        wanted = [tab for tab in self._tabs if not simple or tab[0].name in ("dataPage", "resultsPage")]
        if [tabs.tabText(n) for n in range(tabs.count)] != [text for _page, text, _tip in wanted]:
            current, wasBlocked = self.currentPage(), tabs.blockSignals(True)
            while tabs.count:
                tabs.removeTab(0)
            for page, _text, _tip in self._tabs:
                page.setVisible(False)
            for n, (page, text, tip) in enumerate(wanted):
                tabs.insertTab(n, page, text)
                tabs.setTabToolTip(n, tip)
            self.showPage(current)
            tabs.blockSignals(wasBlocked)
        for n in range(tabs.count):  # a page in the back does not make the one in front taller
            vertical = qt.QSizePolicy.Preferred if n == tabs.currentIndex else qt.QSizePolicy.Ignored
            tabs.widget(n).setSizePolicy(qt.QSizePolicy.Preferred, vertical)
        own = self.currentPage() not in ("mapsPage", "cohortPage")
        for widget in (self.ui.applyButton, self.ui.resultLabel):
            widget.setVisible(own)

    def currentPage(self):
        """Return the name of the page in front."""
        return self.ui.pagesTabWidget.currentWidget().name

    def showPage(self, name):
        """Bring a page to the front; a page that is not there in simple use leaves the first one in front."""
        tabs = self.ui.pagesTabWidget
        names = [tabs.widget(n).name for n in range(tabs.count)]
        tabs.currentIndex = names.index(name) if name in names else 0

    def baseSettings(self):
        """Return the settings of the preset or file, without edits."""
        p = self.parameters
        return self.logic.anySettings(p.settingsFile if p.preset is PresetName.FROM_FILE else p.preset.value)

    def anySettings(self):
        """Return the chosen settings with the user's edits; for the preset "as published", pyradiomics' parameters."""
        return self.logic.withEdits(self.baseSettings(), self.parameters.edits)

    def settings(self):
        """Return the same, where only our own settings will do."""
        return self.logic.settings(self.anySettings())

    def edit(self, settings):
        """Keep what differs from the preset or file."""
        self.parameters.edits = self.logic.edits(self.baseSettings(), settings)

    def onSettingsFile(self, path):
        if self.parameters is not None:
            self.parameters.settingsFile = path

    def onResetSettings(self):
        if self.parameters is not None:
            self.parameters.edits = ""

    def chosenIds(self):
        """Return the chosen segments that still exist, or None for all."""
        p = self.parameters
        if p.segmentation is None:
            return None
        return [name for name in p.segmentIds if p.segmentation.GetSegmentation().GetSegment(name)] or None

    def families(self):
        """Return the names of the checked families."""
        return [name for name in self.logic.families() if name not in self.parameters.excludedFamilies]

    def apply(self):
        p = self.parameters
        table = self.logic.tableToUpdate(p.table)
        inputs = (p.image, p.segmentation, self.chosenIds(), self.anySettings(), self.families(), table)
        done = self.run(
            lambda progress: self.logic.extract(*inputs, progress=progress, rowPerSegment=p.rowPerSegment),
            _("The features were not computed."),
        )
        if done is None:
            return
        self.ui.resultLabel.text = describeResult(done.extractions)
        p.table = done.tableNode
        self.refresh()
        self.showPage("resultsPage")

    def forget(self):
        for page in self.pages:
            if page.job is not None:
                page.job.cancel()
            page.forget()
        self.logic.forget()
        self.ui.resultLabel.text = ""


def makePages(panel):
    """Return the pages whose files are in RadiomicsPanelLib.inslicer."""
    from RadiomicsPanelLib.inslicer.cohort_page import CohortPage
    from RadiomicsPanelLib.inslicer.data_page import DataPage
    from RadiomicsPanelLib.inslicer.features_page import FeaturesPage
    from RadiomicsPanelLib.inslicer.habitats_page import HabitatsPage
    from RadiomicsPanelLib.inslicer.maps_page import MapsPage
    from RadiomicsPanelLib.inslicer.preparation_page import PreparationPage
    from RadiomicsPanelLib.inslicer.results_page import ResultsPage
    from RadiomicsPanelLib.inslicer.statistics_page import StatisticsPage

    own = [
        kind(panel, getattr(panel.ui, f"{name}Page"))
        for name, kind in {
            "data": DataPage,
            "preparation": PreparationPage,
            "features": FeaturesPage,
            "results": ResultsPage,
        }.items()
    ]
    places = {MapsPage: "maps", HabitatsPage: "maps", CohortPage: "cohort", StatisticsPage: "cohort"}
    return own + [kind(panel, getattr(panel.ui, f"{place}Page")) for kind, place in places.items()]


def describeResult(extractions):
    """Return what the user should know about a finished run."""
    lines = []
    for extraction in extractions:
        values = [value.value for value in extraction.values]
        filtered = "" if extraction.filter == "original" else f", {extraction.filter}"
        line = _("{segment}: {count} values, {missing} not applicable").format(
            segment=f"{extraction.segment}{filtered}",
            count=sum(value is not None for value in values),
            missing=sum(value is None for value in values),
        )
        if "level_count" in extraction.preparation:
            line += _("; {volume:.2f} ml, {levels} gray levels").format(
                volume=extraction.preparation["morphological_volume_mm3"] / 1000,
                levels=extraction.preparation["level_count"],
            )
        notes = extraction.preparation["notes"]
        lines.append(f"{line}; {'; '.join(notes)}." if notes else f"{line}.")
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

    def __init__(self, parent=None):
        ScriptedLoadableModuleLogic.__init__(self, parent)
        self._reader = None  # RadiomicsPanelLib.inslicer.sources.SourceReader, made when needed

    def getParameterNode(self):
        return RadiomicsPanelParameterNode(super().getParameterNode())

    def forget(self):
        """Drop what is kept from the scene: it is being closed."""
        self._reader = None

    def reader(self):
        """Return what reads images and segments, once per change."""
        from RadiomicsPanelLib.inslicer.sources import SourceReader

        if self._reader is None:
            self._reader = SourceReader()
        return self._reader

    def families(self):
        """Return name -> title of the feature families."""
        from RadiomicsPanelLib.catalog import FAMILIES

        return {family.name: family.title for family in FAMILIES}

    def anySettings(self, presetOrFile):
        """Return settings from a preset's name, a settings file or themselves; "pyradiomics" and .yaml give its own."""
        from RadiomicsPanelLib.inslicer.edited_settings import find_settings

        return find_settings(presetOrFile)

    def settings(self, presetOrFile):
        """Return the same, refusing those of pyradiomics."""
        found = self.anySettings(presetOrFile)
        if not hasattr(found, "discretization"):
            raise InputError("The preset 'as published' computes tables only. Choose another preset.")
        return found

    def withEdits(self, settings, edits):
        """Return settings with edits, which are the text that `edits` gave."""
        from RadiomicsPanelLib.inslicer.edited_settings import with_edits

        return with_edits(settings, edits)

    def edits(self, base, settings):
        """Return as text what was changed in settings."""
        from RadiomicsPanelLib.inslicer.edited_settings import edits_to_text

        return edits_to_text(base, settings)

    def changePublished(self, parameters, name, value):
        """Return parameters of pyradiomics with one of them changed."""
        from RadiomicsPanelLib.inslicer.edited_settings import change_published

        return change_published(parameters, name, value)

    def describeEdits(self, base, edits):
        """Return what was changed in settings, in words."""
        from RadiomicsPanelLib.inslicer.edited_settings import describe_edits

        return describe_edits(base, edits)

    def saveSettings(self, settings, path):
        """Write settings as .json, those of pyradiomics as its parameter file (.yaml)."""
        from RadiomicsPanelLib.inslicer.edited_settings import save_settings

        save_settings(settings, path)

    def describeSettings(self, settings):
        """Return the settings in words, with their reason."""
        from RadiomicsPanelLib.inslicer.wording import describe_settings

        return describe_settings(settings)

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

    def cases(self, volumeNode, segmentationNode, segmentIds):
        """Return copies of an image and its segments, for `preview` and `compute`, which touch no node."""
        from BreastBiomarkersLib.inslicer.nodes import grid_from_node

        grid_from_node(volumeNode)
        return [self.reader().case(volumeNode, segmentationNode, segmentId) for segmentId in segmentIds]

    def describePlaces(self, volumeNode, segmentationNode, segmentIds):
        """Return a line for each segment that does not keep its volume on the image's grid."""
        from RadiomicsPanelLib.inslicer.sources import describe_place

        cases = self.cases(volumeNode, segmentationNode, segmentIds)
        lines = [describe_place(c, segmentationNode, i) for c, i in zip(cases, segmentIds, strict=True)]
        return [line for line in lines if line]

    def preview(self, case, settings):
        """Return gray levels, volumes and warnings that settings would give; touches no node."""
        from RadiomicsPanelLib.published import preview_published
        from RadiomicsPanelLib.roi import preview_levels

        return (preview_levels if hasattr(settings, "discretization") else preview_published)(case, settings)

    def compute(self, cases, settings, families=None, progress=ignore_progress):
        """Return the features of cases; touches no node."""
        from RadiomicsPanelLib.extract import extract_all
        from RadiomicsPanelLib.published import extract_published

        if not hasattr(settings, "discretization"):
            return extract_published(cases, settings, progress)
        return extract_all(cases, settings, progress, families)

    def write(
        self, extractions, volumeNode, segmentationNode, segmentIds, settings, tableNode=None, rowPerSegment=False
    ):
        """Return a table node with features and where they come from; `segmentIds` are those of the cases."""
        from RadiomicsPanelLib.inslicer.edited_settings import settings_record
        from RadiomicsPanelLib.inslicer.feature_table import feature_table

        sources = (volumeNode, segmentationNode, segmentIds)
        return feature_table(extractions, sources, tableNode, rowPerSegment, settings_record(settings))

    def extract(
        self,
        volumeNode,
        segmentationNode,
        segmentIds=None,
        settings="mr",
        families=None,
        tableNode=None,
        progress=ignore_progress,
        rowPerSegment=False,
    ):
        """Measure segments of an image; for example ``logic.extract(image, segmentation, None, "ct", ["morph"])``.

        Parameters
        ----------
        volumeNode, segmentationNode
            Image and segmentation; parent transforms count if they are linear.
        segmentIds : list of str, optional
            Default all segments.
        settings : str, path or settings
            Name of a preset, file (.json, pyradiomics' .yaml), or Settings with lengths in mm.
        families : list of str, optional
            Of `families()`; default all.
        tableNode : vtkMRMLTableNode, optional
            Overwritten; default a new one.
        rowPerSegment : bool
            A row per segment and a column per feature, instead of the other way round.

        Returns
        -------
        Extracted
            Table node, and one Extraction per segment and filtered image: values, units, notes, settings.

        Raises
        ------
        InputError
            If an input is missing, empty or elsewhere, or would give more than 1024 gray levels. No node is changed.
        """
        from BreastBiomarkersLib.inslicer.nodes import require_in_scene

        segments = self.chosenSegments(segmentationNode, segmentIds)
        chosen = self.anySettings(settings)
        progress(0.0, _("Reading the segments"))
        cases = self.cases(volumeNode, segmentationNode, list(segments))
        extractions = self.compute(cases, chosen, families, portion(progress, 0.05, 1.0))
        require_in_scene(volumeNode, segmentationNode, *([] if tableNode is None else [tableNode]))
        where = (volumeNode, segmentationNode, list(segments))
        return Extracted(self.write(extractions, *where, chosen, tableNode, rowPerSegment), extractions)

    def tableToUpdate(self, tableNode):
        """Return the table if features may go into it, None if it holds something else, which is not overwritten."""
        from RadiomicsPanelLib.inslicer.feature_table import is_feature_table

        empty = tableNode is not None and tableNode.GetNumberOfColumns() == 0
        return tableNode if empty or is_feature_table(tableNode) else None

    def changes(self, tableNode):
        """Return work for a thread: what differs from what a table was computed from."""
        return self.reader().changes(tableNode)

    def describeTable(self, tableNode):
        """Return where the values of a table come from, in words."""
        from RadiomicsPanelLib.inslicer.feature_table import extractions_of, record_of
        from RadiomicsPanelLib.inslicer.wording import describe_record

        return describe_record(record_of(tableNode)) + "\n" + describeResult(extractions_of(tableNode))

    def export(self, tableNode, path, longForm=True):
        """Write a table as CSV or Parquet with its provenance beside it and return the path."""
        from RadiomicsPanelLib.inslicer.feature_table import export_table
        from RadiomicsPanelLib.inslicer.packages import ensure_packages

        if str(path).lower().endswith(".parquet"):
            ensure_packages("pyarrow")
        return export_table(tableNode, path, longForm)

    def methods(self, tableNode):
        """Return a paragraph for a paper's methods section."""
        from RadiomicsPanelLib.inslicer.feature_table import ibsi_record_of
        from RadiomicsPanelLib.reporting import describe_methods

        return describe_methods(ibsi_record_of(tableNode))

    def report(self, tableNode, folder):
        """Write the methods paragraph and the rows of CLEAR and METRICS into a folder; return the files by name."""
        from RadiomicsPanelLib.inslicer.feature_table import ibsi_record_of
        from RadiomicsPanelLib.reporting import write_report

        return write_report(ibsi_record_of(tableNode), folder)

    def exportDicom(self, tableNode, segmentsPath, path):
        """Write a table as DICOM structured report, measured in a DICOM SEG or RTSTRUCT file; return the path."""
        from RadiomicsPanelLib.inslicer.dicom_report import write_table_report
        from RadiomicsPanelLib.inslicer.packages import ensure_packages

        ensure_packages("highdicom")
        return write_table_report(tableNode, segmentsPath, path)

    def plotValues(self, extractions, x, y=-1):
        """Return name, value of feature number x and of number y (0 without one) of each segment that has both."""
        from RadiomicsPanelLib.inslicer.charts import plot_values

        return plot_values(extractions, x, y)

    def chart(self, tableNode, x, y=-1):
        """Return a plot chart node of a feature in all segments, or of one against another, and show it."""
        from RadiomicsPanelLib.inslicer.charts import make_chart

        return make_chart(tableNode, x, y)

    def compareWithPyradiomics(
        self, volumeNode, segmentationNode, segmentIds=None, settings="pyradiomics", progress=ignore_progress
    ):
        """Return a table node with our values beside those of an installed pyradiomics, same image, same settings."""
        from RadiomicsPanelLib.inslicer.comparing import comparison_table

        chosen = self.anySettings(settings)
        parameters = self.anySettings("pyradiomics") if hasattr(chosen, "discretization") else chosen
        segments = self.chosenSegments(segmentationNode, segmentIds)
        return comparison_table(self.cases(volumeNode, segmentationNode, list(segments)), parameters, progress)

    def maps(
        self,
        volumeNode,
        segmentationNode,
        segmentIds=None,
        features=("glcm_contrast",),
        settings="mr",
        radius=1,
        aggregation="3D_avg",
        onImageGrid=False,
        progress=ignore_progress,
    ):
        """Map features around each voxel of the segments; maps of an earlier run are updated.

        For example ``logic.maps(image, segmentation, None, ["glcm_contrast", "ngtdm"], radius=2).nodes``.

        Parameters
        ----------
        volumeNode, segmentationNode, segmentIds, settings
            As in `extract`; settings "pyradiomics" have no maps.
        features : sequence of str
            Features ("glcm_contrast") or whole families ("glcm").
        radius : int, voxels
            The kernel is a cube of 2 radius + 1 voxels of the prepared grid.
        aggregation : str
            "3D_avg", "3D_comb", "2D_avg" or "2D_comb".
        onImageGrid : bool
            On the image's voxels instead of the prepared ones.

        Returns
        -------
        RadiomicsPanelLib.inslicer.mapping.MapsMade
            Volume nodes, not a number where a feature does not apply, and the same as arrays.

        Raises
        ------
        InputError
            As `extract`, or if a feature is unknown or has no maps. No node is changed.
        """
        from RadiomicsPanelLib.inslicer.mapping import make_maps

        segments = self.chosenSegments(segmentationNode, segmentIds)
        kernel = (radius, aggregation, onImageGrid)
        return make_maps(
            volumeNode, segmentationNode, segments, features, self.settings(settings), *kernel, progress=progress
        )

    def habitats(
        self,
        volumeNode,
        segmentationNode,
        segmentIds=None,
        channelNodes=None,
        settings="mr",
        how="kmeans",
        count=None,
        smoothing=1.0,
        seed=0,
        outputNode=None,
        tableNode=None,
        progress=ignore_progress,
    ):
        """Divide segments into habitats by the values of volumes, and measure these.

        For example ``logic.habitats(t2, segmentation, None, [t2, adc], how=[300.0, 1200.0])``.

        Parameters
        ----------
        volumeNode, segmentationNode, segmentIds, settings
            As in `extract`; the image decides the grid.
        channelNodes : list of vtkMRMLScalarVolumeNode, optional
            Co-registered images and feature maps; default the image alone.
        how : list of float, HabitatModel, path or str
            A limit per channel in its own unit, a model or its .json file, or "kmeans" or "gmm" to fit one.
        count : int, optional
            Habitats to fit; default by silhouette and stability.
        smoothing : float, voxels
            Standard deviation of the Gaussian over the channels; 0 for none. A model has its own.
        seed : int
            Of the fit.
        outputNode, tableNode : optional
            Segmentation of earlier habitats and table to overwrite; default new ones.

        Returns
        -------
        RadiomicsPanelLib.inslicer.dividing.Divided
            Segmentation, table, model, label maps and values.

        Raises
        ------
        InputError
            As `extract`, or if channels and model do not fit, or the output holds other segments. No node is changed.
        """
        from RadiomicsPanelLib.habitats import read_model
        from RadiomicsPanelLib.inslicer.dividing import make_habitats

        segments = self.chosenSegments(segmentationNode, segmentIds)
        if isinstance(how, pathlib.Path) or str(how).endswith(".json"):
            how = read_model(how)
        inputs = (volumeNode, segmentationNode, segments, channelNodes or [volumeNode], self.settings(settings))
        return make_habitats(*inputs, how, count, smoothing, seed, outputNode, tableNode, progress)

    def extractCohort(
        self,
        manifest,
        output,
        settings="mr",
        families=None,
        scheduler=None,
        progress=ignore_progress,
        workers=None,
    ):
        """Measure the cases of a manifest into a folder; what was measured there before is taken over.

        Touches no node. For example ``logic.extractCohort("cases.csv", "out", "ct", ["morph", "glcm"])``.

        Parameters
        ----------
        manifest : path
            CSV or JSON with case, image and mask in each line, or a folder; see RadiomicsPanelLib.manifest.
        output : path
            Folder for features.csv (and .parquet where pyarrow is there), failures.csv and the results of each case.
        settings, families
            As in `extract`.
        scheduler : str, optional
            Address of a running Dask scheduler, such as "tcp://host:8786".
        workers : int, optional
            Processes of this computer, where no scheduler is given; by default one less than it has cores, and this
            process alone where Dask is not installed.

        Returns
        -------
        RadiomicsPanelLib.cohort.CohortTable

        Raises
        ------
        InputError
            If nothing could be measured, or an argument is wrong. A bad case only goes to failures.csv.
        """
        import multiprocessing

        from BreastBiomarkersLib.inslicer.jobs import python_executable
        from RadiomicsPanelLib.cohort import extract_cohort

        multiprocessing.set_executable(python_executable())  # else the workers would be further Slicers
        return extract_cohort(manifest, self.settings(settings), output, scheduler, progress, families, workers)


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
