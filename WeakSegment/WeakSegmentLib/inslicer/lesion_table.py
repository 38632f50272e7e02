"""The lesions of the scene as a table: choose one, rename it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import qt
import slicer
from slicer.i18n import tr as _

from WeakSegmentLib.inslicer.lesions import POINT_COUNT, Lesion, VolumeMeter, lesions_in_scene


class LesionRow(NamedTuple):
    """A line: id of the point list, name, points placed, clicks, volume of the segment in ml or None."""

    points_id: str
    name: str
    placed: int
    clicks: int
    volume_ml: float | None

    def texts(self) -> tuple[str, ...]:
        """Return what the cells show."""
        volume = "" if self.volume_ml is None else f"{self.volume_ml:.2f}"
        points = _("{n} of {count}").format(n=self.placed, count=POINT_COUNT)
        return self.name, points, str(self.clicks or ""), volume


def describe_lesions(meter: VolumeMeter, also_points_node: Any = None) -> list[LesionRow]:
    """Return a line for each lesion of the scene, and for one more point list."""
    lesions = lesions_in_scene()
    if also_points_node is not None and all(lesion.points_node is not also_points_node for lesion in lesions):
        lesions.append(Lesion(also_points_node))
    rows = []
    for lesion in lesions:
        node, segment_id = lesion.segment()
        volume_ml = None if node is None else meter.volume_ml(node, segment_id)
        rows.append(
            LesionRow(lesion.points_node.GetID(), lesion.name, lesion.placed(), len(lesion.clicks()), volume_ml)
        )
    return rows


class LesionTable:
    """Shows lesion rows in a QTableWidget.

    Parameters
    ----------
    table : QTableWidget
        With the columns lesion, points, clicks, volume.
    selected : callable
        Called with the lesion whose line the user chose.
    renamed : callable
        Called after the user gave a lesion another name.
    """

    def __init__(self, table: Any, selected: Callable[[Lesion], None], renamed: Callable[[], None]) -> None:
        self._table, self._selected, self._renamed = table, selected, renamed
        self._rows: list[LesionRow] | None = None
        table.connect("currentCellChanged(int,int,int,int)", self._on_selected)
        table.connect("cellChanged(int,int)", self._on_edited)

    @property
    def any_segment(self) -> bool:
        """Whether a lesion has a segment."""
        return any(row.volume_ml is not None for row in self._rows or ())

    def show(self, rows: list[LesionRow], points_node: Any) -> None:
        """Bring the table up to date, with the line of this point list as the current one."""
        was_blocked = self._table.blockSignals(True)
        if rows != self._rows:
            self._rows = rows
            self._table.setRowCount(len(rows))
            for n, row in enumerate(rows):
                for column, text in enumerate(row.texts()):
                    item = qt.QTableWidgetItem(text)
                    if column:
                        item.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
                    self._table.setItem(n, column, item)
        current = -1 if points_node is None else [row.points_id for row in rows].index(points_node.GetID())
        if self._table.currentRow() != current:
            self._table.setCurrentCell(current, 0)
        self._table.blockSignals(was_blocked)

    def forget(self) -> None:
        """Fill the table anew next time."""
        self._rows = None

    def _lesion(self, row: int) -> Lesion | None:
        if self._rows is None or not 0 <= row < len(self._rows):
            return None
        node = slicer.mrmlScene.GetNodeByID(self._rows[row].points_id)
        return None if node is None else Lesion(node)

    def _on_selected(self, row: int, _column: int, _previous_row: int, _previous_column: int) -> None:
        lesion = self._lesion(row)
        if lesion is not None:
            self._selected(lesion)

    def _on_edited(self, row: int, _column: int) -> None:
        lesion, name = self._lesion(row), self._table.item(row, 0).text().strip()
        if lesion is not None and name:
            lesion.rename(name)
        self.forget()
        self._renamed()
