"""Where the slice views look while the six points are placed one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from BreastBiomarkersLib.inslicer.nodes import points_from_node
from numpy.typing import NDArray

ORIENTATIONS = ("Sagittal", "Coronal", "Axial")
"""By the axis (R, A, S) the view looks along."""

BEST_FOR = {
    "Left": ("Axial",),
    "Right": ("Axial",),
    "Anterior": ("Axial",),
    "Posterior": ("Axial",),
    "Inferior": ("Coronal", "Sagittal"),
    "Superior": ("Coronal", "Sagittal"),
}
"""Views in which an end of a lesion is seen best."""

ALIGNED = 0.999
"""Cosine from which a view counts as lying in the planes of the image."""


class ViewGuide:
    """Aims the slice views at the next point, and puts back the orientation it had to change.

    A view lies in the planes of the image, because the box of the six points does, too. One that shows the right
    orientation is moved to the points placed so far; where none does, the first view is turned.
    """

    def __init__(self) -> None:
        self._aimed: tuple[Any, ...] | None = None
        self._turned: dict[str, NDArray[np.float64]] = {}
        self._middle: NDArray[np.float64] | None = None  # of the points placed so far

    def aim(self, volume_node: Any, points_node: Any) -> None:
        """Aim at the next point to place; does nothing while that has not changed."""
        missing = _next_missing(points_node)
        aimed = (points_node.GetID(), volume_node.GetID(), missing)
        if missing is None or aimed == self._aimed:
            return
        self._aimed = aimed
        views = _visible_views()
        for view in views:
            self._align(view, volume_node)
        best = BEST_FOR.get(missing, ORIENTATIONS)
        chosen = [view for view in views if orientation(view) in best]
        if not chosen and views:
            self._keep(views[0])
            views[0].SetOrientation(best[0])
            self._align(views[0], volume_node)
            chosen = views[:1]
        placed = points_from_node(points_node).positions_ras
        if len(placed):
            self._middle = placed.mean(axis=0)
            for view in chosen:
                view.JumpSliceByOffsetting(*self._middle)

    def release(self) -> None:
        """Turn the views back; those that were turned then cut through the middle of the points."""
        for view_id, matrix in self._turned.items():
            view = slicer.mrmlScene.GetNodeByID(view_id)
            if view is not None:
                view.GetSliceToRAS().DeepCopy(slicer.util.vtkMatrixFromArray(matrix))
                view.UpdateMatrices()
                if self._middle is not None:
                    view.JumpSliceByOffsetting(*self._middle)
        self._turned.clear()
        self._aimed = self._middle = None

    def _align(self, view: Any, volume_node: Any) -> None:
        if not _lies_in_planes_of(view, volume_node):
            self._keep(view)
            view.RotateToVolumePlane(volume_node)

    def _keep(self, view: Any) -> None:
        self._turned.setdefault(view.GetID(), slicer.util.arrayFromVTKMatrix(view.GetSliceToRAS()))


def orientation(view: Any) -> str:
    """Return the name of the direction nearest to the one a slice view looks along."""
    normal = slicer.util.arrayFromVTKMatrix(view.GetSliceToRAS())[:3, 2]
    return ORIENTATIONS[int(np.argmax(np.abs(normal)))]


def _visible_views() -> list[Any]:
    """Return the slice views of the layout; where there is no layout, all."""
    views = list(slicer.util.getNodesByClass("vtkMRMLSliceNode"))
    return [view for view in views if view.IsMappedInLayout()] or views


def _next_missing(points_node: Any) -> str | None:
    defined = slicer.vtkMRMLMarkupsNode.PositionDefined
    for n in range(points_node.GetNumberOfControlPoints()):
        if points_node.GetNthControlPointPositionStatus(n) != defined:
            return str(points_node.GetNthControlPointLabel(n))
    return None


def _lies_in_planes_of(view: Any, volume_node: Any) -> bool:
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASDirectionMatrix(matrix)
    axes = slicer.util.arrayFromVTKMatrix(matrix)[:3, :3]
    normal = slicer.util.arrayFromVTKMatrix(view.GetSliceToRAS())[:3, 2]
    return bool(np.abs(axes.T @ normal).max() > ALIGNED)
