"""The six points of a lesion as a table: which are placed, which are missing, and what does not fit."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import qt
import slicer
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.nodes import grid_from_node
from BreastBiomarkersLib.volume import Volume
from numpy.typing import NDArray
from slicer.i18n import tr as _

from WeakSegmentLib.points import MIN_EXTENT_VOXELS, SAME_POSITION_MM, ExtremePoints

WRONG_COLOR = (200, 60, 40)


class PointState(NamedTuple):
    """A line of the table.

    Attributes
    ----------
    label : str
    position_ras : tuple of 3 float or None
        In the world, mm; None until placed.
    state : str
        A word or two.
    reason : str
        A sentence on what does not fit, or nothing.
    """

    label: str
    position_ras: tuple[float, float, float] | None
    state: str
    reason: str

    def texts(self) -> tuple[str, ...]:
        """Return what the cells show."""
        position = ("", "", "") if self.position_ras is None else tuple(f"{x:.1f}" for x in self.position_ras)
        return self.label, self.state, *position


def point_states(points_node: Any, volume_node: Any) -> list[PointState]:
    """Return a line for each point of a lesion; what can be told of one point is told while others are missing.

    Parameters
    ----------
    points_node : vtkMRMLMarkupsFiducialNode or None
    volume_node : vtkMRMLScalarVolumeNode or None
        Image the points belong to; without a usable one only missing points are told.
    """
    if points_node is None:
        return []
    count = points_node.GetNumberOfControlPoints()
    labels = [points_node.GetNthControlPointLabel(n) for n in range(count)]
    defined = slicer.vtkMRMLMarkupsNode.PositionDefined
    placed = [n for n in range(count) if points_node.GetNthControlPointPositionStatus(n) == defined]
    positions = {n: tuple(points_node.GetNthControlPointPositionWorld(n)) for n in placed}
    try:
        found = _judge(points_node, volume_node, grid_from_node(volume_node), labels, positions)
    except InputError:
        found = {}  # no usable image: the panel says so
    missing = [n for n in range(count) if n not in positions]
    found |= {n: (_("next") if n == missing[0] else _("to place"), "") for n in missing}
    return [PointState(labels[n], positions.get(n), *found.get(n, (_("placed"), ""))) for n in range(count)]


def _judge(
    points_node: Any, volume_node: Any, volume: Volume, labels: list[str], positions: dict[int, tuple[float, ...]]
) -> dict[int, tuple[str, str]]:
    """Return state and reason of the placed points that need a remark; the gravest one of each."""
    found: dict[int, tuple[str, str]] = {}
    at = {n: volume.points_to_ijk(np.array([position]))[0] for n, position in positions.items()}
    for n, ijk in at.items():
        other = _other_volume(points_node, n, volume_node)
        if other is not None:
            text = _("Placed on '{other}', which lies under another transform than '{image}': check its place.")
            found[n] = (_("other image"), text.format(other=other.GetName(), image=volume.name))
        for m in range(n):
            if m in at and np.linalg.norm(np.subtract(positions[n], positions[m])) < SAME_POSITION_MM:
                text = _("At the position of {other}. Move one to its own end.").format(other=labels[m])
                found[n] = (_("as {other}").format(other=labels[m]), text)
        inside = np.clip(ijk, -0.5, np.array(volume.shape[::-1]) - 0.5)
        distance = float(np.linalg.norm(volume.points_to_ras(inside[None])[0] - positions[n]))
        if distance > SAME_POSITION_MM:
            text = _("{distance:.1f} mm outside '{image}'.").format(distance=distance, image=volume.name)
            found[n] = (_("outside"), text)
    if len(positions) == len(labels) == 6 and not any(state == _("outside") for state, _reason in found.values()):
        for n, remark in _judge_together(volume, labels, positions, np.array(list(at.values()))).items():
            found.setdefault(n, remark)
    return found


def _judge_together(
    volume: Volume, labels: list[str], positions: dict[int, tuple[float, ...]], ijk: NDArray[np.float64]
) -> dict[int, tuple[str, str]]:
    """Return what can be said of six placed points: a thin box, an end without point, names of other ends."""
    found: dict[int, tuple[str, str]] = {}
    voxels = np.rint(ijk).astype(int)
    for axis in range(3):
        extent = int(np.ptp(voxels[:, axis])) + 1
        if extent < MIN_EXTENT_VOXELS:
            text = _("All points lie within {extent} slice(s) of the image along this axis; {least} are needed.")
            for n in _pair_along(volume, axis, labels):
                found[n] = (_("too thin"), text.format(extent=extent, least=MIN_EXTENT_VOXELS))
    try:
        points = ExtremePoints.from_ras(np.array([positions[n] for n in range(6)]), volume, labels)
    except InputError as error:
        named = [n for n, label in enumerate(labels) if f"('{label}')" in str(error)]
        return found | {n: (_("not at an end"), str(error)) for n in named if n not in found}
    for row, role in zip(points.order, points.roles, strict=True):
        if labels[row] in points.roles and labels[row] != role:
            text = _("Marks the {role} end, which is allowed: the position counts, not the name.").format(role=role)
            found[row] = (_("{role} end").format(role=role), text)
    return found


def _pair_along(volume: Volume, axis: int, labels: list[str]) -> list[int]:
    """Return the points named for the ends of an image axis (0 is I)."""
    along = int(np.argmax(np.abs(volume.ijk_to_ras[:3, axis])))
    names = (("Left", "Right"), ("Posterior", "Anterior"), ("Inferior", "Superior"))[along]
    return [n for n, label in enumerate(labels) if label in names]


def _other_volume(points_node: Any, n: int, volume_node: Any) -> Any:
    """Return the volume a point was clicked on if that is another one, elsewhere in the transform tree."""
    node = slicer.mrmlScene.GetNodeByID(points_node.GetNthControlPointAssociatedNodeID(n) or "")
    if node is None or node is volume_node or not node.IsA("vtkMRMLVolumeNode"):
        return None
    return node if node.GetTransformNodeID() != volume_node.GetTransformNodeID() else None


class PointTable:
    """Shows point states in a QTableWidget; a click on a line moves the slice views to its point.

    Parameters
    ----------
    table : QTableWidget
        With the columns point, state, R, A, S.
    """

    def __init__(self, table: Any) -> None:
        self._table = table
        self._points_node: Any = None
        self._states: list[PointState] = []
        table.connect("cellClicked(int,int)", self._jump)
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)

    @property
    def selected(self) -> int | None:
        """Number of the point in the selected line, or None."""
        row = self._table.currentRow()
        return row if 0 <= row < len(self._states) else None

    def show(self, points_node: Any, volume_node: Any) -> None:
        """Bring the table up to date."""
        self._points_node = points_node
        states = point_states(points_node, volume_node)
        if states == self._states:
            return
        self._states = states
        self._table.setRowCount(len(states))
        for row, state in enumerate(states):
            for column, text in enumerate(state.texts()):
                item = qt.QTableWidgetItem(text)
                item.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
                item.setToolTip(state.reason)
                if state.reason and column == 1:
                    item.setForeground(qt.QBrush(qt.QColor(*WRONG_COLOR)))
                self._table.setItem(row, column, item)

    def forget(self) -> None:
        """Let go of the node."""
        self._points_node, self._states = None, []
        self._table.setRowCount(0)

    def _jump(self, row: int, _column: int) -> None:
        if self._points_node is not None and self._states[row].position_ras is not None:
            slicer.modules.markups.logic().JumpSlicesToNthPointInMarkup(self._points_node.GetID(), row, True)
