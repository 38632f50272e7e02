"""Filling the tables of the panel with text, only where something changed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

FAR_COLOR = "#c8323c"


def headers() -> dict[str, list[str]]:
    """Return the column titles of each table of the panel."""
    return {
        "optodesTable": [_("Label"), "R", "A", "S", _("Off skin [mm]"), _("Off plane [mm]")],
        "qualityTable": [_("Use"), _("What"), _("Finding")],
        "contrastTable": [_("Quantity"), _("Lesion"), _("Background"), _("Ratio")],
        "checksTable": [_("Check"), _("Reason")],
        "readoutTable": [_("Quantity"), _("Lesion"), _("Background"), _("Ratio (95 %)")],
    }


class TextTable:
    """A QTableWidget that shows rows of text.

    Parameters
    ----------
    widget : QTableWidget
    editable : collection of int
        Columns whose text the user may change.
    whole : bool
        As high as its rows, without scrolling.
    """

    def __init__(self, widget: Any, editable: Collection[int] = (), whole: bool = False) -> None:
        self.widget = widget
        self._editable = editable
        self._whole = whole
        self._content: Any = None
        titles = headers()[widget.objectName]
        widget.setColumnCount(len(titles))
        widget.setHorizontalHeaderLabels(titles)
        widget.verticalHeader().setVisible(False)
        widget.horizontalHeader().setStretchLastSection(True)
        widget.horizontalHeader().connect("sectionResized(int,int,int)", self._fit_rows)
        if whole:
            widget.setVerticalScrollBarPolicy(qt.Qt.ScrollBarAlwaysOff)
        if editable:
            widget.setEditTriggers(qt.QAbstractItemView.DoubleClicked)

    def forget(self) -> None:
        """Fill the table at the next `fill`, whatever it shows."""
        self._content = None

    def fill(
        self,
        rows: Sequence[Sequence[str]],
        ticks: Sequence[bool] | None = None,
        warned: Collection[int] = (),
        icons: Sequence[Any] = (),
    ) -> None:
        """Show rows; nothing is touched where they are shown already, so that a selection stays.

        Parameters
        ----------
        rows : sequence of sequence of str
        ticks : sequence of bool, optional
            Check boxes of the first column.
        warned : collection of int
            Rows in red.
        icons : sequence of QPixmap
            Of the first column.
        """
        content = (list(rows), ticks, warned)
        if content == self._content:
            return
        self._content = content
        table = self.widget
        was_blocked = table.blockSignals(True)
        table.setRowCount(len(rows))
        for n, texts in enumerate(rows):
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text)
                flags = qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled
                if column in self._editable:
                    flags = flags | qt.Qt.ItemIsEditable
                if ticks is not None and column == 0:
                    flags = flags | qt.Qt.ItemIsUserCheckable
                item.setFlags(flags)
                if ticks is not None and column == 0:
                    item.setCheckState(qt.Qt.Checked if ticks[n] else qt.Qt.Unchecked)
                if icons and column == 0:
                    item.setIcon(qt.QIcon(icons[n]))
                if n in warned:
                    item.setForeground(qt.QBrush(qt.QColor(FAR_COLOR)))
                item.setToolTip(text)
                table.setItem(n, column, item)
        table.resizeColumnsToContents()
        table.blockSignals(was_blocked)
        self._fit_rows()

    def _fit_rows(self, *_section: int) -> None:
        """Make each row as high as its text, which wraps."""
        table = self.widget
        table.resizeRowsToContents()
        if self._whole:
            rows = sum(table.rowHeight(row) for row in range(table.rowCount))
            table.setFixedHeight(table.horizontalHeader().sizeHint.height() + rows + 2 * table.frameWidth)

    def is_ticked(self, row: int) -> bool:
        """Tell whether the check box of a row is ticked."""
        return bool(self.widget.item(row, 0).checkState() == qt.Qt.Checked)

    def text(self, row: int, column: int = 0) -> str:
        """Return the text of a cell as the user left it."""
        return str(self.widget.item(row, column).text()).strip()
