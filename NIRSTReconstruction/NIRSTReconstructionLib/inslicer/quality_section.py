"""The panel's section on the quality of the light: plot, list of what can be unticked."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.live import LatestWins
from BreastBiomarkersLib.inslicer.nodes import points_from_node
from slicer.i18n import tr as _

from NIRSTReconstructionLib.inslicer.exclusions import parse_exclusions
from NIRSTReconstructionLib.inslicer.inputs import fibers_from_node
from NIRSTReconstructionLib.inslicer.pictures import quality_plot, quality_plots
from NIRSTReconstructionLib.inslicer.quality_rows import QualityRow, quality_rows, suggested_items, toggled
from NIRSTReconstructionLib.inslicer.tables import TextTable
from NIRSTReconstructionLib.inslicer.words import describe_quality


class QualitySection:
    """Checks the light beside the window whenever it or the fibers change, and shows what was found.

    Parameters
    ----------
    panel : ModulePanel
        With `parameters`, `logic`, `refresh`, and the widgets in `ui`.

    Attributes
    ----------
    problem : str
        Why the light cannot belong to these fibers.
    """

    def __init__(self, panel: Any) -> None:
        self._panel = panel
        ui = panel.ui
        self._table = TextTable(ui.qualityTable)
        self._checking = LatestWins(self._on_checked, self._on_not_checked)
        self.forget()
        ui.leaveOutButton.connect("clicked()", self._on_leave_out)
        ui.useAllButton.connect("clicked()", self._on_use_all)
        ui.qualityTable.connect("cellChanged(int,int)", self._on_ticked)
        ui.qualityPlotComboBox.connect("currentIndexChanged(int)", self._on_plot)

    @property
    def busy(self) -> bool:
        """Whether the light is being checked."""
        return self._checking.busy

    def forget(self) -> None:
        """Drop what is kept from the scene."""
        self._checking.cancel()
        self._key: Any = None
        self._report: Any = None
        self.problem = ""
        self._rows: list[QualityRow] = []
        self._table.forget()

    def close(self) -> None:
        """End what runs beside the window."""
        self._checking.close()

    def show(self, light: Any, light_key: Any, optodes_node: Any) -> None:
        """Check the light if it or the fibers changed, and show what is known."""
        ui, excluded = self._panel.ui, self._panel.parameters.excluded
        self._follow(light, light_key, optodes_node)
        report = self._report
        names = [] if report is None else quality_plots(report)
        combo = ui.qualityPlotComboBox
        if [combo.itemText(n) for n in range(combo.count)] != names:
            was_blocked = combo.blockSignals(True)
            combo.clear()
            for name in names:
                combo.addItem(name)
            combo.blockSignals(was_blocked)
        self._rows = self._read_rows(optodes_node, excluded)
        self._table.fill([("", r.title, r.reason) for r in self._rows], ticks=[r.used for r in self._rows])
        there = report is not None
        for widget in (ui.qualityPlotLabel, combo, ui.qualityPlot, ui.qualityTable):
            widget.setVisible(there)
        waiting = _("Checking ...") if self.busy else _("Measured light and optodes are needed for the check.")
        ui.qualityStatusLabel.text = describe_quality(report) if there else self.problem or waiting
        noisy = there and bool(np.isfinite(report.noise).any())
        ui.raiseNoiseCheckBox.setVisible(noisy or self._panel.parameters.raiseNoise)
        ui.leaveOutButton.enabled = there and bool(report.suggested.any())
        ui.useAllButton.enabled = bool(excluded)
        self._on_plot()

    def _follow(self, light: Any, light_key: Any, optodes_node: Any) -> None:
        points = None if optodes_node is None else points_from_node(optodes_node)
        key = None
        if light is not None and points is not None:
            key = (light_key, *points.labels, points.positions_ras.tobytes())
        if key == self._key:
            return
        self._key, self._report, self.problem = key, None, ""
        if key is None:
            self._checking.cancel()
        else:
            self._checking.request(lambda: self._panel.logic.prepareQuality(light, optodes_node))

    def _read_rows(self, optodes_node: Any, excluded: str) -> list[QualityRow]:
        if self._report is None:
            return []
        try:
            return quality_rows(self._report, fibers_from_node(optodes_node), parse_exclusions(excluded))
        except InputError:
            return []  # the text or the optodes are said to be wrong elsewhere

    def _on_checked(self, report: Any) -> None:
        self._report = report
        self._panel.refresh()

    def _on_not_checked(self, error: Exception) -> None:
        if not isinstance(error, InputError):
            logging.error("The quality check failed", exc_info=error)
        self.problem = str(error)
        self._panel.refresh()

    def _on_plot(self) -> None:
        if self._report is not None and self._panel.parameters is not None:
            index = max(self._panel.ui.qualityPlotComboBox.currentIndex, 0)
            picture = quality_plot(self._report, self._panel.parameters.excluded, index)
            self._panel.ui.qualityPlot.setPixmap(picture)

    def _on_ticked(self, row: int, column: int) -> None:
        if column == 0 and row < len(self._rows):
            used = self._table.is_ticked(row)
            self._table.forget()
            self._toggle(self._rows[row].items, used)

    def _on_leave_out(self) -> None:
        self._toggle(suggested_items(self._report), False)

    def _on_use_all(self) -> None:
        self._panel.parameters.excluded = ""

    def _toggle(self, items: Any, used: bool) -> None:
        parameters = self._panel.parameters
        try:
            parameters.excluded = toggled(parse_exclusions(parameters.excluded), items, used)
        except InputError:
            self._panel.refresh()  # what is written beside cannot be read; it is said to be wrong
