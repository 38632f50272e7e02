"""A lesion's surface, and how far from it lies the surface of a reference."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume
from numpy.typing import NDArray

SMOOTHING_PASS_BAND, SMOOTHING_ITERATIONS = 0.1, 20
"""Of the windowed sinc filter: rounds off voxel steps, moves the surface by a fraction of a voxel."""


class DistanceSurface(NamedTuple):
    """A closed surface with a distance at each point.

    Attributes
    ----------
    points_ras : (n, 3) ndarray, mm
    triangles : (m, 3) ndarray of int
        Point numbers, counterclockwise seen from outside.
    distance_mm : (n,) ndarray
        To the nearest point of the reference's surface; positive outside the reference, negative inside it.
    """

    points_ras: NDArray[np.float64]
    triangles: NDArray[np.int64]
    distance_mm: NDArray[np.float64]


def distance_surface(mask: Volume, reference: Volume) -> DistanceSurface:
    """Return the surface of a mask, colored by its distance to the surface of a reference.

    Parameters
    ----------
    mask, reference : Volume
        Non-zero inside; on the same grid.

    Raises
    ------
    InputError
        If one of them is empty, or the grids differ.
    """
    import vtk  # noqa: TID251
    from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy  # noqa: TID251

    if not mask.same_grid(reference):
        raise InputError(f"The reference '{reference.name}' is not on the grid of the mask. Resample it first.")
    for volume in (mask, reference):
        if not volume.array.any():
            raise InputError(f"'{volume.name}' is empty: it has no surface.")
    surface, true = _surface(mask), _surface(reference)
    distance = vtk.vtkImplicitPolyDataDistance()
    distance.SetInput(true)
    found = vtk.vtkDoubleArray()
    points = vtk_to_numpy(surface.GetPoints().GetData()).astype(np.float64)
    distance.FunctionValue(numpy_to_vtk(points, deep=True), found)
    triangles = vtk_to_numpy(surface.GetPolys().GetConnectivityArray()).reshape(-1, 3).astype(np.int64)
    return DistanceSurface(points, triangles, vtk_to_numpy(found).astype(np.float64))


def _surface(mask: Volume) -> Any:
    """Return the smoothed surface of a mask as vtkPolyData in RAS, triangles facing outward."""
    import vtk  # noqa: TID251
    from vtk.util.numpy_support import numpy_to_vtk  # noqa: TID251

    inside = np.pad((mask.array != 0).astype(np.uint8), 1)
    image = vtk.vtkImageData()
    image.SetDimensions(*inside.shape[::-1])
    image.SetOrigin(-1, -1, -1)
    image.GetPointData().SetScalars(numpy_to_vtk(inside.ravel(), deep=True))
    contour = vtk.vtkFlyingEdges3D()
    contour.SetInputData(image)
    contour.SetValue(0, 0.5)
    contour.ComputeNormalsOff()
    contour.ComputeGradientsOff()
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(mask.ijk_to_ras.ravel().tolist())
    transform = vtk.vtkTransform()
    transform.SetMatrix(matrix)
    place = vtk.vtkTransformPolyDataFilter()
    place.SetInputConnection(contour.GetOutputPort())
    place.SetTransform(transform)
    smooth = vtk.vtkWindowedSincPolyDataFilter()
    smooth.SetInputConnection(place.GetOutputPort())
    smooth.SetPassBand(SMOOTHING_PASS_BAND)
    smooth.SetNumberOfIterations(SMOOTHING_ITERATIONS)
    smooth.BoundarySmoothingOff()
    smooth.FeatureEdgeSmoothingOff()
    smooth.NonManifoldSmoothingOn()
    smooth.NormalizeCoordinatesOn()
    outward = vtk.vtkPolyDataNormals()
    outward.SetInputConnection(smooth.GetOutputPort())
    outward.AutoOrientNormalsOn()
    outward.ConsistencyOn()
    outward.SplittingOff()
    outward.Update()
    return outward.GetOutput()
