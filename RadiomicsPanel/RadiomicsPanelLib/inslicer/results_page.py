"""The page Results: the table of a run and whether it still holds, diagrams, export and words for a paper."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import qt
import slicer
import vtk
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.live import LatestWins
from BreastBiomarkersLib.inslicer.panel import showing_errors
from slicer.i18n import tr as _

from RadiomicsPanelLib.extract import Extraction
from RadiomicsPanelLib.inslicer.comparing import COMPARISON
from RadiomicsPanelLib.inslicer.data_page import SEGMENT_EVENTS
from RadiomicsPanelLib.inslicer.edited_settings import settings_record
from RadiomicsPanelLib.inslicer.feature_table import (
    RECORD,
    STALE,
    describe_entry,
    entries_of,
    extractions_of,
    is_feature_table,
    record_of,
    segment_names_of,
    table_text,
)
from RadiomicsPanelLib.inslicer.page import Page
from RadiomicsPanelLib.inslicer.picture import draw_bars, draw_points
from RadiomicsPanelLib.inslicer.sources import image_version, mask_version, sources_of

PICTURE_HEIGHT = 220  # pixels
BAR, SCATTER = 0, 1


class ResultsPage(Page):
    """What was computed."""

    def setup(self) -> None:
        """Connect, and make the threads that check and update tables."""
        ui = self.ui
        self._record = ""  # of the table shown
        self._extractions: list[Extraction] = []
        self._asked: Any = None
        self._due = False  # an automatic update is to follow the check
        self.checking = LatestWins(self._on_checked, self._on_failed)
        self.updating = LatestWins(self._on_computed, self._on_failed)
        ui.exportButton.connect("clicked()", self._on_export)
        ui.copyButton.connect("clicked()", self._on_copy)
        ui.copyMethodsButton.connect("clicked()", self._on_methods)
        ui.reportButton.connect("clicked()", self._on_report)
        ui.dicomButton.connect("clicked()", self._on_dicom)
        ui.compareButton.connect("clicked()", self._on_compare)
        ui.chartButton.connect("clicked()", self._on_chart)
        for box in (ui.plotTypeComboBox, ui.plotXComboBox, ui.plotYComboBox):
            box.connect("currentIndexChanged(int)", lambda index: self._draw())
        self.follow_width(ui.plotLabel, self._draw)
        ui.plotTypeComboBox.addItems([_("Bars: one feature in all segments"), _("Points: one feature against another")])
        self._compare_tip = ui.compareButton.toolTip

    def cleanup(self) -> None:
        """Stop the threads."""
        self.checking.close()
        self.updating.close()
        super().cleanup()

    def forget(self) -> None:
        """Drop what is shown of a table."""
        self.checking.cancel()
        self.updating.cancel()
        self._record, self._extractions, self._asked, self._due = "", [], None, False
        for label in (self.ui.staleLabel, self.ui.plotLabel):
            label.clear()
        self.ui.provenanceText.setPlainText("")
        self.ui.resultTableView.setMRMLTableNode(None)

    def watched(self) -> Sequence[tuple[Any, ...]]:
        """Return the table, and the sources it was computed from, with what changes them."""
        table = self.parameters.table
        wanted: list[tuple[Any, ...]] = [(table, vtk.vtkCommand.ModifiedEvent)]
        if is_feature_table(table):
            image, segmentation = sources_of(table)
            moved = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
            wanted += [(image, slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent), (image, moved), (segmentation, moved)]
            if segmentation is not None:
                wanted += [(segmentation.GetSegmentation(), event) for event in SEGMENT_EVENTS]
        return wanted

    def update(self) -> None:
        """Show the table with its provenance, and ask whether it still holds."""
        table, ui = self.parameters.table, self.ui
        if ui.resultTableView.mrmlTableNode() is not table:
            ui.resultTableView.setMRMLTableNode(table)
        ours = is_feature_table(table)
        record = table.GetAttribute(RECORD) if ours else ""
        if record != self._record:
            self._record = record
            self._read(table if ours else None)
            ui.resultTableView.resizeColumnsToContents()
        for button in (
            ui.exportButton,
            ui.copyButton,
            ui.copyMethodsButton,
            ui.reportButton,
            ui.dicomButton,
            ui.chartButton,
        ):
            button.enabled = bool(self._extractions)
        there = importlib.util.find_spec("radiomics") is not None
        ui.compareButton.enabled = there
        ui.compareButton.toolTip = self._compare_tip if there else _("pyradiomics is not installed in this Slicer.")
        if ours:
            self._show_stale(table.GetAttribute(STALE) or "")
            self._check(table)
        else:
            unknown = _("This table holds no features of this module.")
            ui.staleLabel.text = "" if table is None else table.GetAttribute(COMPARISON) or unknown

    def _read(self, table: Any) -> None:
        """Show what a table holds beside its values."""
        self._extractions = []
        try:
            self._extractions = extractions_of(table) if table is not None else []
        except InputError as error:
            slicer.util.showStatusMessage(str(error), 5000)
        done = self._extractions
        self.ui.provenanceText.setPlainText(self.logic.describeTable(table) if done else "")
        names = [describe_entry(entry) for entry in entries_of(done)]
        for n, box in enumerate((self.ui.plotXComboBox, self.ui.plotYComboBox)):
            was_blocked, text = box.blockSignals(True), box.currentText
            box.clear()
            box.addItems(names)
            box.currentIndex = names.index(text) if text in names else min(n, len(names) - 1)
            box.blockSignals(was_blocked)
        self._draw()

    # Whether it still holds

    def _check(self, table: Any) -> None:
        """Compare the sources with what the values were computed from, if something has changed since the last time."""
        image, segmentation = sources_of(table)
        try:
            settings = settings_record(self.panel.anySettings())
            present = () if segmentation is None else segment_names_of(table)
            versions = tuple((i, mask_version(segmentation, i)) for i in present)
            question = (self._record, None if image is None else image_version(image), versions, settings)
        except InputError:
            return  # the other pages say what is wrong
        if question == self._asked or self.panel.job.running:
            return
        self._asked = question
        self.updating.cancel()
        changed = [] if settings == record_of(table)["settings"] else [_("the settings were changed")]
        self.checking.request(lambda: _after(self.logic.changes(table), changed))

    def _on_checked(self, changes: list[str]) -> None:
        table, text = self.parameters and self.parameters.table, "; ".join(changes)
        if table is None or table.GetAttribute(RECORD) != self._record:
            return
        if (table.GetAttribute(STALE) or "") != text:
            table.SetAttribute(STALE, text)
        self._show_stale(text)
        if changes and self.parameters.autoUpdate:
            self._show_stale(_("computing again: {changes}").format(changes=text))
            self.updating.request(self._question, 0)

    def _question(self) -> Any:
        p, families = self.parameters, self.panel.families()
        image, segmentation = sources_of(p.table)
        there = set() if segmentation is None else set(segmentation.GetSegmentation().GetSegmentIDs())
        ids = [segment_id for segment_id in segment_names_of(p.table) if segment_id in there]
        if not ids:
            raise InputError(_("all its segments were removed"))
        cases, settings = self.logic.cases(image, segmentation, ids), self.panel.anySettings()
        write = (image, segmentation, ids, settings, p.table)

        def work(progress: Any) -> Any:
            yield write, self.logic.compute(cases, settings, families, progress)

        return work

    def _on_computed(self, answer: Any) -> None:
        (image, segmentation, ids, settings, table), extractions = answer
        if all(node is not None and slicer.mrmlScene.IsNodePresent(node) for node in (image, segmentation, table)):
            self.logic.write(extractions, image, segmentation, ids, settings, table, self.parameters.rowPerSegment)

    def _on_failed(self, error: Exception) -> None:
        self.ui.staleLabel.text = _("Not up to date: {error}").format(error=error)
        if not isinstance(error, InputError):
            raise error

    def _show_stale(self, changes: str) -> None:
        self.ui.staleLabel.text = (
            _("Stale: {changes}. Press Apply.").format(changes=changes) if changes else _("Up to date.")
        )

    # Diagrams

    def _draw(self) -> None:
        ui, done = self.ui, self._extractions
        bars = ui.plotTypeComboBox.currentIndex == BAR
        ui.plotYComboBox.enabled = not bars
        points = self.logic.plotValues(
            done, ui.plotXComboBox.currentIndex, -1 if bars else ui.plotYComboBox.currentIndex
        )
        if not points:
            ui.plotLabel.clear()
            ui.plotLabel.text = _("The feature does not apply to any segment.") if done else ""
            return
        names, x, y = zip(*points, strict=True)
        labels = (ui.plotXComboBox.currentText, ui.plotYComboBox.currentText)
        size = (self.picture_width(), PICTURE_HEIGHT)
        if bars:
            pixmap = draw_bars(size, ui.plotLabel, names, x, labels[0])
        else:
            pixmap = draw_points(size, ui.plotLabel, names, x, y, labels)
        ui.plotLabel.setPixmap(pixmap)

    def _on_chart(self) -> None:
        ui, bars = self.ui, self.ui.plotTypeComboBox.currentIndex == BAR
        with showing_errors(_("The chart was not made.")):
            y = -1 if bars else ui.plotYComboBox.currentIndex
            self.logic.chart(self.parameters.table, ui.plotXComboBox.currentIndex, y)

    # Out of Slicer

    def _on_export(self) -> None:
        with showing_errors(_("The values were not exported.")):
            path = self.logic.export(
                self.parameters.table, self.ui.exportPathLineEdit.currentPath, self.parameters.longForm
            )
            slicer.util.showStatusMessage(_("Exported to {path}").format(path=path), 5000)

    def _on_copy(self) -> None:
        qt.QApplication.clipboard().setText(table_text(self.parameters.table))
        slicer.util.showStatusMessage(_("Copied; paste it into a spreadsheet."), 3000)

    def _on_methods(self) -> None:
        with showing_errors(_("The methods paragraph was not written.")):
            text = self.logic.methods(self.parameters.table)
            qt.QApplication.clipboard().setText(text)
            self.ui.provenanceText.setPlainText(text)

    def _on_report(self) -> None:
        with showing_errors(_("The report was not written.")):
            folder = Path(self.ui.exportPathLineEdit.currentPath.strip()).with_suffix("")
            if not folder.name:
                raise InputError(_("Choose a file for the table first; the report goes into a folder beside it."))
            folder = folder.with_name(f"{folder.name} report")
            self.logic.report(self.parameters.table, folder)
            slicer.util.showStatusMessage(_("Written into {folder}").format(folder=folder), 5000)

    def _on_dicom(self) -> None:
        with showing_errors(_("The DICOM report was not written.")):
            path = Path(self.ui.exportPathLineEdit.currentPath.strip())
            if not path.name:
                raise InputError(_("Choose a file for the table first; the DICOM report goes beside it as .dcm."))
            segments = self.ui.dicomPathLineEdit.currentPath
            path = self.logic.exportDicom(self.parameters.table, segments, path.with_suffix(".dcm"))
            slicer.util.showStatusMessage(_("Written {path}").format(path=path), 5000)

    def _on_compare(self) -> None:
        p = self.parameters
        inputs = (p.image, p.segmentation, self.panel.chosenIds())
        table = self.panel.run(
            lambda progress: self.logic.compareWithPyradiomics(*inputs, self.panel.anySettings(), progress),
            _("The values were not compared."),
        )
        if table is not None and self.parameters is not None:
            self.parameters.table = table


def _after(work: Any, first: list[str]) -> Any:
    """Return work whose answers begin with what is known already."""

    def longer(progress: Any) -> Any:
        for found in work(progress):
            yield first + found

    return longer
