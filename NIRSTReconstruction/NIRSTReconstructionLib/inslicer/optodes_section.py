"""The panel's section of optodes: table of fiber tips, numbers, outline of the breast around them."""

from __future__ import annotations

import logging
from typing import Any

import slicer
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.live import LatestWins
from BreastBiomarkersLib.inslicer.nodes import points_from_node, slice_to_ras
from BreastBiomarkersLib.inslicer.panel import showing_errors
from slicer.i18n import tr as _

from NIRSTReconstructionLib.inslicer.inputs import BodySource, Outline, fibers_from_node, plane_from_node
from NIRSTReconstructionLib.inslicer.optodes import OptodeRow, optode_rows, renumber, reverse, shift
from NIRSTReconstructionLib.inslicer.tables import TextTable
from NIRSTReconstructionLib.inslicer.words import describe_optodes, describe_outline, describe_skipped, describe_unlit


class OptodesSection:
    """Shows where the fibers are, follows the outline of the breast, and changes the numbers.

    Parameters
    ----------
    panel : ModulePanel
        With `parameters`, `logic`, `refresh`, and the widgets in `ui`.

    Attributes
    ----------
    outline : Outline or None
        Of the breast in the chosen plane, once it is found.
    problem : str
        Why there is none.
    """

    def __init__(self, panel: Any) -> None:
        self._panel = panel
        ui = panel.ui
        self._table = TextTable(ui.optodesTable, editable=(0,))
        self._outlining = LatestWins(self._on_outline, self._on_no_outline)
        self.forget()
        for name, react in (
            ("removeOptode", self._on_remove),
            ("renumber", self._on_renumber),
            ("reverse", self._on_reverse),
            ("shift", self._on_shift),
            ("match", self._on_match),
        ):
            getattr(ui, f"{name}Button").connect("clicked()", react)
        ui.optodesTable.connect("cellChanged(int,int)", self._on_renamed)
        ui.optodesTable.connect("currentCellChanged(int,int,int,int)", self._on_selected)
        place = ui.optodesPlaceWidget
        place.placeMultipleMarkups = slicer.qSlicerMarkupsPlaceWidget.ForcePlaceMultipleMarkups
        place.connect("activeMarkupsPlaceModeChanged(bool)", self._on_place_mode)
        ui.placeOptodeButton.connect("clicked(bool)", self._on_place)

    @property
    def busy(self) -> bool:
        """Whether the outline is being looked for."""
        return self._outlining.busy

    def forget(self) -> None:
        """Drop what is kept from the scene."""
        self._outlining.cancel()
        self.outline: Outline | None = None
        self.problem = ""
        self._key: Any = None
        self._rows: list[OptodeRow] = []
        self._found = ""  # about the numbers
        self._table.forget()

    def close(self) -> None:
        """End what runs beside the window."""
        self._outlining.close()

    def follow_outline(self, volume_node: Any, plane_node: Any, source: BodySource) -> str:
        """Ask for the outline anew when MRI, plane or source changed; return what to say about it."""
        key = None
        if plane_node is not None and volume_node is not None:
            key = (source.key(volume_node), slice_to_ras(plane_node).tobytes())
        if key != self._key:
            self._key, self.outline, self.problem = key, None, ""
            if key is None:
                self._outlining.cancel()
            else:
                prepare = self._panel.logic.prepareOutline
                self._outlining.request(lambda: prepare(volume_node, plane_node, source))
        if key is None or self.problem:
            return self.problem
        return _("Looking for the outline ...") if self.outline is None else describe_outline(self.outline)

    def describe(self, optodes_node: Any, plane_node: Any, light: Any = None) -> str:
        """Return a line on the fibers.

        Raises
        ------
        InputError
            If they cannot be used.
        """
        fibers = fibers_from_node(optodes_node)
        plane = None if plane_node is None else plane_from_node(plane_node)
        if plane is not None and self.outline is not None:
            self.outline.at_fibers(fibers, plane)
        skipped = describe_skipped(points_from_node(optodes_node, "optodes").labels)
        lines = [describe_optodes(fibers, plane, self.outline), skipped, describe_unlit(fibers, light), self._found]
        return "\n".join(filter(None, lines))

    def show(self, optodes_node: Any, plane_node: Any, light: Any) -> None:
        """Fill the table, and enable what can be done."""
        ui = self._panel.ui
        plane = None if plane_node is None else plane_from_node(plane_node)
        self._rows = [] if optodes_node is None else optode_rows(optodes_node, plane, self.outline)
        far = {n for n, row in enumerate(self._rows) if row.is_far}
        self._table.fill([row.texts() for row in self._rows], warned=far)
        if ui.optodesPlaceWidget.currentNode() is not optodes_node:
            ui.optodesPlaceWidget.setCurrentNode(optodes_node)
        ui.placeOptodeButton.enabled = optodes_node is not None
        for name in ("removeOptode", "renumber", "reverse", "shift"):
            getattr(ui, f"{name}Button").enabled = bool(self._rows)
        ui.planeFromOptodesButton.enabled = bool(self._rows)
        ui.meshButton.enabled = self.outline is not None and bool(self._rows)
        ui.matchButton.enabled = self.outline is not None and bool(self._rows) and light is not None

    def _on_outline(self, outline: Outline) -> None:
        self.outline = outline
        self._panel.refresh()

    def _on_no_outline(self, error: Exception) -> None:
        if not isinstance(error, InputError):
            logging.error("Finding the outline failed", exc_info=error)
        self.problem = str(error)
        self._panel.refresh()

    def _on_place(self, checked: bool) -> None:
        self._panel.ui.optodesPlaceWidget.setPlaceModeEnabled(checked)

    def _on_place_mode(self, active: bool) -> None:
        self._panel.ui.placeOptodeButton.setChecked(active)

    def _on_renamed(self, row: int, column: int) -> None:
        if column == 0 and row < len(self._rows):
            text = self._table.text(row)
            self._panel.parameters.optodes.SetNthControlPointLabel(self._rows[row].point, text)
        self._table.forget()
        self._panel.refresh()

    def _on_selected(self, row: int, column: int, previous_row: int, previous_column: int) -> None:
        optodes = None if self._panel.parameters is None else self._panel.parameters.optodes
        if optodes is not None and 0 <= row < len(self._rows):
            index = self._rows[row].point
            slicer.modules.markups.logic().JumpSlicesToNthPointInMarkup(optodes.GetID(), index, False)

    def _on_remove(self) -> None:
        row = self._panel.ui.optodesTable.currentRow()
        if 0 <= row < len(self._rows):
            self._panel.parameters.optodes.RemoveNthControlPoint(self._rows[row].point)

    def _on_renumber(self) -> None:
        self._number(renumber)

    def _on_reverse(self) -> None:
        self._number(reverse)

    def _on_shift(self) -> None:
        self._number(shift)

    def _number(self, change: Any) -> None:
        self._found = ""
        with showing_errors(_("The fibers were not numbered.")):
            change(self._panel.parameters.optodes)

    def _on_match(self) -> None:
        panel = self._panel
        self._found = ""
        with showing_errors(_("The numbers were not compared with the light.")), slicer.util.WaitCursor():
            self._found = panel.logic.matchLight(*panel.nodes(), panel.light(), **panel.lightChoices()).words
        panel.refresh()
