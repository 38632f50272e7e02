"""The mesh of the forward model as a model node lying in the plane."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray

from NIRSTReconstructionLib.mesh import TriangleMesh
from NIRSTReconstructionLib.plane import Plane


def mesh_to_model(mesh: TriangleMesh, plane: Plane, node: Any = None, name: str = "NIRST mesh") -> Any:
    """Return a model node of the triangles, in world RAS; a given node is updated.

    Parameters
    ----------
    mesh : TriangleMesh
        Of quadratic elements the corners are shown.
    plane : Plane
    node : vtkMRMLModelNode, optional
    name : str
        Of a new node.
    """
    corners = np.asarray(mesh.elements)[:, :3]
    used, triangles = np.unique(corners, return_inverse=True)
    surface = vtk.vtkPolyData()
    points = vtk.vtkPoints()
    points.SetData(numpy_to_vtk(plane.to_ras(mesh.nodes[used]), deep=True))
    surface.SetPoints(points)
    cells = vtk.vtkCellArray()
    rows = np.column_stack([np.full(len(corners), 3), triangles.reshape(-1, 3)]).astype(np.int64)
    cells.ImportLegacyFormat(numpy_to_vtkIdTypeArray(rows.ravel(), deep=True))
    surface.SetPolys(cells)
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", slicer.mrmlScene.GenerateUniqueName(name))
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetColor(0.35, 0.75, 1.0)
        display.SetRepresentation(slicer.vtkMRMLDisplayNode.WireframeRepresentation)
        display.SetLighting(False)
        display.SetBackfaceCulling(False)
        display.SetVisibility2D(True)
        # projected: a plane seen from its own side has no line of intersection
        display.SetSliceDisplayModeToProjection()
    node.SetAndObserveTransformNodeID(None)  # the points are in the world
    node.SetAndObservePolyData(surface)
    return node
