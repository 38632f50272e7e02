"""The panel's sections of results and trust."""

from __future__ import annotations

from functools import partial
from typing import Any

import slicer
from BreastBiomarkersLib.inslicer.panel import showing_errors
from slicer.i18n import tr as _

from NIRSTReconstructionLib.inslicer.charts import draw_light
from NIRSTReconstructionLib.inslicer.pictures import residual_plot
from NIRSTReconstructionLib.inslicer.results import IMAGE_TITLES, PlaneResults, shown_quantity
from NIRSTReconstructionLib.inslicer.tables import TextTable
from NIRSTReconstructionLib.inslicer.words import contrast_rows, describe_run, describe_trust, readout_rows


class ResultsSection:
    """Shows the results of the chosen plane, how far they can be believed, and whether they are up to date.

    Parameters
    ----------
    panel : ModulePanel
        With `parameters`, `logic`, `job`, `refresh`, and the widgets in `ui`.
    """

    def __init__(self, panel: Any) -> None:
        self._panel = panel
        ui = panel.ui
        self._tables = {
            name: TextTable(getattr(ui, f"{name}Table"), whole=True) for name in ("contrast", "checks", "readout")
        }
        self.forget()
        for text in (_("by wavelength"), _("by source"), _("by detector"), _("against distance")):
            ui.residualPlotComboBox.addItem(text)
        ui.residualPlotComboBox.connect("currentIndexChanged(int)", self._on_plot)
        for name, title in IMAGE_TITLES.items():
            getattr(ui, f"show{title}Button").connect("clicked()", partial(self._on_show, name))
        ui.uncertaintyCheckBox.connect("clicked(bool)", self._on_uncertainty)
        ui.undoButton.connect("clicked()", self._on_undo)
        ui.redoButton.connect("clicked()", self._on_redo)
        ui.reportPathLineEdit.connect("currentPathChanged(QString)", self._on_report_path)
        ui.reportButton.connect("clicked()", self._on_report)

    def forget(self) -> None:
        """Drop what is kept from the scene."""
        self._shown: Any = None

    def results(self) -> PlaneResults:
        """Return the results of the chosen plane."""
        return PlaneResults(self._panel.parameters.image, self._panel.parameters.plane)

    def show(self, assessing: bool, is_fine: bool) -> None:
        """Show the results; `assessing` says that their trust is on its way, `is_fine` that the inputs are complete."""
        ui, logic, idle = self._panel.ui, self._panel.logic, not self._panel.job.running
        nodes = self.results().nodes()
        record = self.results().record()
        for name, title in IMAGE_TITLES.items():
            getattr(ui, f"show{title}Button").enabled = name in nodes
        ui.uncertaintyCheckBox.enabled = "hbo_sd" in nodes
        ui.undoButton.enabled = idle and logic.canUndo()
        ui.redoButton.enabled = idle and logic.canRedo()
        ui.reportButton.enabled = record is not None and bool(ui.reportPathLineEdit.currentPath)
        changed = self._changed(record) if is_fine and idle else ()
        shown = (None if record is None else record["id"], assessing, changed)
        if shown == self._shown:
            return
        self._shown = shown
        ui.resultLabel.text = describe_run(record, changed)
        ui.trustLabel.text = describe_trust(record, assessing)
        trust = None if record is None else record["trust"]
        checks = [] if trust is None else trust["checks"]
        if trust is not None:
            ui.lightLabel.setPixmap(draw_light(trust["light"]))
        rows = contrast_rows(record), [(check["name"], check["reason"]) for check in checks], readout_rows(trust)
        self._tables["contrast"].fill(rows[0])
        self._tables["checks"].forget()  # a light may change below an equal reason
        self._tables["checks"].fill(rows[1], icons=[draw_light(check["light"], 16) for check in checks])
        self._tables["readout"].fill(rows[2])
        for widget, there in (
            (ui.contrastTable, rows[0]),
            (ui.checksTable, rows[1]),
            (ui.readoutTable, rows[2]),
            (ui.residualPlotLabel, record),
            (ui.residualPlotComboBox, record),
            (ui.residualPlot, record),
            (ui.lightLabel, trust),
        ):
            widget.setVisible(bool(there))
        self._on_plot()

    def _changed(self, record: Any) -> tuple[str, ...]:
        """Return which inputs are other ones than those of the shown results."""
        before = {} if record is None else record["made_from"]
        now = self._panel.stamp() if before else {}
        return tuple(name for name, stamp in now.items() if before.get(name, stamp) != stamp)

    def _on_plot(self) -> None:
        ui = self._panel.ui
        if self._panel.parameters is not None and ui.residualPlotComboBox.currentIndex >= 0:
            result = self.results().read()
            if result is not None:
                ui.residualPlot.setPixmap(residual_plot(result, ui.residualPlotComboBox.currentIndex))

    def _on_show(self, name: str) -> None:
        nodes, parameters = self.results().nodes(), self._panel.parameters
        wanted = f"{name}_sd" if parameters.showUncertainty else name
        with showing_errors(_("The image was not shown.")):
            self._panel.logic.show(parameters.image, nodes.get(wanted, nodes[name]))

    def _on_uncertainty(self, checked: bool) -> None:
        """Exchange value and standard deviation of the quantity that is shown."""
        name = shown_quantity(self.results().nodes())
        if name is not None:
            self._on_show(name)

    def _on_undo(self) -> None:
        with showing_errors(_("The last run was not taken back.")):
            self._panel.logic.undo()
        self._panel.refresh()

    def _on_redo(self) -> None:
        with showing_errors(_("The run was not made again.")):
            self._panel.logic.redo()
        self._panel.refresh()

    def _on_report_path(self) -> None:
        self._panel.refresh()

    def _on_report(self) -> None:
        panel = self._panel
        with showing_errors(_("The report was not written.")):
            path = panel.ui.reportPathLineEdit.currentPath
            optodes = panel.parameters.optodes
            light = panel.light() or panel.simulatedLight()
            with slicer.util.WaitCursor():
                panel.logic.exportReport(path, panel.parameters.image, *panel.lesion(), optodes, light)
