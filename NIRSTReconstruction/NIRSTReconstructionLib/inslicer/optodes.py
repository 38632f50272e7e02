"""The optode table: where the fibers are, and the changes of their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.nodes import points_from_node, points_to_node
from BreastBiomarkersLib.points import LabeledPoints

from NIRSTReconstructionLib.inslicer.inputs import TOLERANCE_MM, Outline, fibers_from_node
from NIRSTReconstructionLib.plane import Plane, distance_to_polygon


class OptodeRow(NamedTuple):
    """A fiber tip.

    Attributes
    ----------
    point : int
        Of the control point.
    label : str
    position_ras : (float, float, float), mm
    off_skin_mm : float or None
        Within the plane, positive outside; None where the outline is not known (yet).
    off_plane_mm : float or None
    """

    point: int
    label: str
    position_ras: tuple[float, float, float]
    off_skin_mm: float | None
    off_plane_mm: float | None

    def texts(self) -> tuple[str, ...]:
        """Return the cells of the table: label, R, A, S, off skin, off plane."""
        distances = ["" if mm is None else f"{round(mm, 1) + 0.0:+.1f}" for mm in (self.off_skin_mm, self.off_plane_mm)]
        return (self.label, *(f"{x:.1f}" for x in self.position_ras), *distances)

    @property
    def is_far(self) -> bool:
        """Whether the tip is so far from the skin that no reconstruction would take it."""
        return self.off_skin_mm is not None and abs(self.off_skin_mm) > TOLERANCE_MM


def optode_rows(node: Any, plane: Plane | None = None, outline: Outline | None = None) -> list[OptodeRow]:
    """Return a row per placed control point."""
    import slicer

    defined = slicer.vtkMRMLMarkupsNode.PositionDefined
    indices = [n for n in range(node.GetNumberOfControlPoints()) if node.GetNthControlPointPositionStatus(n) == defined]
    points = points_from_node(node, "optodes")
    off_plane: Sequence[float | None] = [None] * len(indices)
    off_skin: Sequence[float | None] = [None] * len(indices)
    if plane is not None and indices:
        in_plane, distances = plane.to_plane(points.positions_ras)
        off_plane = distances.tolist()
        if outline is not None:
            off_skin = distance_to_polygon(in_plane, outline.polygon_mm).tolist()
    return [
        OptodeRow(n, label, tuple(position), skin, off)
        for n, label, position, skin, off in zip(
            indices, points.labels, points.positions_ras.tolist(), off_skin, off_plane, strict=True
        )
    ]


def renumber(node: Any, plane: Plane | None = None) -> None:
    """Give the fibers numbers around the ring, from fiber 1 on, in the direction in which fiber 2 lies.

    Raises
    ------
    InputError
        If sources and detectors are separate points.
    """
    points, tips = _single_fibers(node, plane)
    angle = np.arctan2(*(tips - tips.mean(axis=0)).T[::-1])
    turn = (angle - angle[0]) % (2 * np.pi)
    if len(turn) > 1 and turn[1] > np.pi:
        turn = -turn % (2 * np.pi)
    write_order(node, np.argsort(turn, kind="stable"), points)


def reverse(node: Any) -> None:
    """Let the numbers run the other way around; fiber 1 stays.

    Raises
    ------
    InputError
        If sources and detectors are separate points.
    """
    points, _tips = _single_fibers(node, None)
    write_order(node, np.r_[0, np.arange(len(points.labels) - 1, 0, -1)], points)


def shift(node: Any) -> None:
    """Let the numbers begin at the next fiber.

    Raises
    ------
    InputError
        If sources and detectors are separate points.
    """
    points, _tips = _single_fibers(node, None)
    write_order(node, np.roll(np.arange(len(points.labels)), -1), points)


def write_order(node: Any, order: Any, points: LabeledPoints | None = None) -> None:
    """Bring the fibers into an order and number them 1, 2, ..."""
    points = points or points_from_node(node, "optodes")
    labels = [str(n + 1) for n in range(len(order))]
    points_to_node(LabeledPoints(labels, points.positions_ras[np.asarray(order)]), node)


def _single_fibers(node: Any, plane: Plane | None) -> tuple[LabeledPoints, Any]:
    fibers = fibers_from_node(node)
    points = points_from_node(node, "optodes")
    if not (np.array_equal(fibers.sources, fibers.detectors) and len(fibers.detectors) == len(points.labels)):
        raise InputError("Sources and detectors are separate points, numbered by their labels. Edit the labels.")
    if plane is None:
        plane = fibers.fitted_plane().plane
    return points, plane.to_plane(points.positions_ras)[0]
