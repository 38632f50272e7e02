"""Scene nodes to plain data and back. Parent transforms are honored: everything outside the scene is in world RAS."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.points import LabeledPoints
from BreastBiomarkersLib.volume import Volume, apply_affine

LABELMAP = "Binary labelmap"


def volume_from_node(node: Any, role: str = "image") -> Volume:
    """Return the voxels of a scalar volume node and their place in world RAS.

    Parameters
    ----------
    node : vtkMRMLScalarVolumeNode
        Its linear parent transforms are folded into the geometry; the array is a copy.
    role : str
        What the volume is for, named in messages.

    Raises
    ------
    InputError
        If nothing is selected, or the node holds no voxels, several components, or lies under a non-linear transform.
    """
    grid = grid_from_node(node, role)
    return grid.with_array(slicer.util.arrayFromVolume(node).copy())


def grid_from_node(node: Any, role: str = "image") -> Volume:
    """Return the place of a scalar volume node in world RAS, with zeros that take no memory for its voxels.

    Parameters and errors are those of `volume_from_node`.
    """
    if node is None:
        raise InputError(f"No {role} is selected. Choose a volume.")
    name = node.GetName()
    if node.GetImageData() is None or node.GetImageData().GetNumberOfPoints() == 0:
        raise InputError(f"The {role} '{name}' holds no voxels. Load it again or choose another volume.")
    if node.GetImageData().GetNumberOfScalarComponents() != 1:
        raise InputError(f"The {role} '{name}' has several components per voxel. Convert it to a scalar volume.")
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    ijk_to_world = local_to_world(node) @ slicer.util.arrayFromVTKMatrix(matrix)
    shape = node.GetImageData().GetDimensions()[::-1]
    return Volume(np.broadcast_to(np.uint8(0), shape), ijk_to_world, name)


def local_to_world(node: Any) -> NDArray[np.float64]:
    """Return the (4, 4) matrix of a transformable node's parent transforms (identity without any).

    Raises
    ------
    InputError
        If one of them is not linear: a grid or spline cannot be folded into a matrix.
    """
    matrix = vtk.vtkMatrix4x4()
    parent = node.GetParentTransformNode()
    if parent is not None:
        if not parent.IsTransformToWorldLinear():
            raise InputError(
                f"'{node.GetName()}' lies under the non-linear transform '{parent.GetName()}'. "
                "Harden the transform on a copy (Data module, right-click, Harden transform) and use the copy."
            )
        parent.GetMatrixTransformToWorld(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def volume_to_node(volume: Volume, node: Any = None, name: str | None = None, beside: Any = None) -> Any:
    """Return a scalar volume node showing `volume`; a given node is updated in place instead of adding one.

    Parameters
    ----------
    volume : Volume
        Placed in world RAS; bool arrays become 8-bit.
    node : vtkMRMLScalarVolumeNode, optional
        Node to overwrite. Its parent transform is compensated for, so the voxels lie where `volume` says.
    name : str, optional
        Name of a new node, made unique; the volume's name otherwise.
    beside : MRML node, optional
        Node whose parent transform and folder a new node shares, so that both move together from now on.
    """
    array = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
    if node is None:
        unique = slicer.mrmlScene.GenerateUniqueName(name or volume.name or "Volume")
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", unique)
        if beside is not None:
            place_beside(node, beside)
    world_to_local = np.linalg.inv(local_to_world(node))
    with slicer.util.NodeModify(node):
        slicer.util.updateVolumeFromArray(node, array)
        node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(world_to_local @ volume.ijk_to_ras))
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    return node


def points_from_node(node: Any, role: str = "points") -> LabeledPoints:
    """Return the placed control points of a markups node in world RAS.

    Raises
    ------
    InputError
        If nothing is selected.
    """
    if node is None:
        raise InputError(f"No {role} are selected. Choose or create a point list.")
    labels, positions = [], []
    for n in range(node.GetNumberOfControlPoints()):
        if node.GetNthControlPointPositionStatus(n) == slicer.vtkMRMLMarkupsNode.PositionDefined:
            labels.append(node.GetNthControlPointLabel(n))
            positions.append(node.GetNthControlPointPositionWorld(n))
    return LabeledPoints(labels, np.array(positions, dtype=np.float64).reshape(len(labels), 3))


def points_to_node(points: LabeledPoints, node: Any = None, name: str = "Points") -> Any:
    """Return a point list node with the points at their world positions; a given node's points are replaced."""
    if node is None:
        unique = slicer.mrmlScene.GenerateUniqueName(name)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", unique)
    with slicer.util.NodeModify(node):
        node.RemoveAllControlPoints()
        for label, position in zip(points.labels, points.positions_ras, strict=True):
            node.AddControlPointWorld(vtk.vtkVector3d(position), label)
    return node


def labels_to_node(volume: Volume, names: dict[int, str]) -> Any:
    """Return a new label map node with a color table that names the labels; label 0 is transparent."""
    colors = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", f"{volume.name} colors")
    colors.SetTypeToUser()
    colors.SetHideFromEditors(True)
    colors.SetNumberOfColors(max(names) + 1)
    for label, name in names.items():
        hue = (label * 0.618) % 1.0  # golden ratio: neighbors differ
        colors.SetColor(label, name, *colorsys.hsv_to_rgb(hue, 0.6, 0.9), 1.0 if label else 0.0)
    unique = slicer.mrmlScene.GenerateUniqueName(volume.name)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", unique)
    volume_to_node(volume, node)
    node.GetDisplayNode().SetAndObserveColorNodeID(colors.GetID())
    return node


def place_beside(node: Any, other: Any) -> None:
    """Put a new, empty node under the parent transform of another, so that both move together, and into its folder.

    A node that has content already would jump: write the content afterwards.
    """
    node.SetAndObserveTransformNodeID(other.GetTransformNodeID())
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    if hierarchy is not None:
        folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(other))
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), folder)


def require_in_scene(*nodes: Any) -> None:
    """Raise InputError if a node was deleted, as can happen while a job lets the user go on."""
    for node in nodes:
        if not slicer.mrmlScene.IsNodePresent(node):
            raise InputError(f"'{node.GetName()}' was removed from the scene meanwhile. Nothing was written.")


def segmentation_for(volume_node: Any, name: str) -> Any:
    """Return a new segmentation node on the volume's grid and under its transform, so that it moves with it."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", slicer.mrmlScene.GenerateUniqueName(name))
    node.CreateDefaultDisplayNodes()
    place_beside(node, volume_node)
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    return node


def require_writable(segmentation_node: Any) -> None:
    """Raise InputError if masks cannot be written here: surfaces are the source, or a transform is not linear."""
    source = segmentation_node.GetSegmentation().GetSourceRepresentationName()
    if segmentation_node.GetSegmentation().GetNumberOfSegments() and source != LABELMAP:
        raise InputError(
            f"'{segmentation_node.GetName()}' is kept as {source.lower()}. Choose another output segmentation, or make "
            "binary labelmap its source representation (Segmentations module)."
        )
    local_to_world(segmentation_node)


def mask_to_segment(
    mask: Volume,
    segmentation_node: Any,
    name: str,
    segment_id: str | None = None,
    color: Sequence[float] | None = None,
) -> str:
    """Write a mask as a segment and return the segment's id.

    Parameters
    ----------
    mask : Volume of bool
        On any grid, in world RAS.
    segmentation_node : vtkMRMLSegmentationNode
        May lie under a linear transform.
    name : str
        Name of a new segment; an existing segment keeps its name.
    segment_id : str, optional
        Segment to overwrite; a new one is added when it is None or gone.
    color : three floats in [0, 1], optional
        Color of a new segment.

    Raises
    ------
    InputError
        If the segmentation cannot be written to; see `require_writable`.
    RuntimeError
        If the scene refuses the import.
    """
    require_writable(segmentation_node)
    segmentation = segmentation_node.GetSegmentation()
    if segment_id is None or segmentation.GetSegment(segment_id) is None:
        segment_id = segmentation.AddEmptySegment("", name, *([] if color is None else [color]))
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    if not mask.array.any():
        logic.ClearSegment(segmentation_node, segment_id)
        return segment_id
    image = mask_to_image(mask, segmentation_node)
    if not logic.SetBinaryLabelmapToSegment(image, segmentation_node, segment_id, logic.MODE_REPLACE):
        raise RuntimeError(f"The scene refused the segment '{name}'.")
    return segment_id


def mask_to_image(mask: Volume, segmentation_node: Any) -> Any:
    """Return a mask, which is in world RAS, as vtkOrientedImageData in the coordinates of a segmentation node."""
    image = slicer.vtkOrientedImageData()
    k, j, i = mask.shape
    image.SetExtent(0, i - 1, 0, j - 1, 0, k - 1)
    world_to_local = np.linalg.inv(local_to_world(segmentation_node))
    image.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(world_to_local @ mask.ijk_to_ras))
    image.GetPointData().SetScalars(numpy_to_vtk(mask.array.astype(np.uint8).ravel(), deep=True))
    return image


def mask_from_segment(segmentation_node: Any, segment_id: str, volume_node: Any) -> Volume:
    """Return a segment as a bool mask on the grid of a volume node, placed in world RAS.

    A voxel belongs to the mask if its center lies in a voxel of the segment; the two may have different transforms.

    Raises
    ------
    InputError
        If the segmentation, the segment or the volume is missing, or a transform is not linear.
    """
    grid, part, inside = mask_part_from_segment(segmentation_node, segment_id, volume_node)
    mask = np.zeros(grid.shape, dtype=bool)
    mask[part] = inside
    return grid.with_array(mask)


def mask_part_from_segment(
    segmentation_node: Any, segment_id: str, volume_node: Any
) -> tuple[Volume, tuple[slice, ...], NDArray[np.bool_]]:
    """Return the grid of a volume node, the part of it that a segment can reach, and the mask there.

    The part is empty where the segment is. Meaning and errors are those of `mask_from_segment`; this takes the time of
    the part only.

    Returns
    -------
    grid : Volume
        Without voxel values, named as the segment.
    part : tuple of 3 slice
    inside : ndarray of bool
        Of the part.
    """
    from scipy.ndimage import affine_transform

    if segmentation_node is None or segmentation_node.GetSegmentation().GetSegment(segment_id or "") is None:
        raise InputError("No segment is selected, or it was deleted. Choose a segment.")
    grid = grid_from_node(volume_node, "reference image")
    nowhere = (slice(0, 0),) * 3, np.zeros((0, 0, 0), dtype=bool)
    world_to_local = np.linalg.inv(local_to_world(segmentation_node))
    segment_name = segmentation_node.GetSegmentation().GetSegment(segment_id).GetName()
    named = grid.with_array(grid.array, segment_name)
    grid_to_local = world_to_local @ grid.ijk_to_ras
    image = _labelmap_of(segmentation_node, segment_id, grid_to_local, grid.shape)
    first, last = np.reshape(image.GetExtent(), (3, 2)).T
    if (last < first).any():
        return named, *nowhere
    values = vtk_to_numpy(image.GetPointData().GetScalars()).reshape((last - first + 1)[::-1]) != 0
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    to_voxel = np.linalg.inv(slicer.util.arrayFromVTKMatrix(matrix)) @ grid_to_local
    to_voxel[:3, 3] -= first
    part = _reach(values, to_voxel, grid.shape)
    inside = np.zeros([p.stop - p.start for p in part], dtype=bool)
    if inside.size == 0:
        return named, *nowhere
    to_voxel = to_voxel[[2, 1, 0, 3]][:, [2, 1, 0, 3]]  # from I, J, K to array order
    start = np.array([p.start for p in part])
    affine_transform(
        values.view(np.uint8),
        to_voxel[:3, :3],
        to_voxel[:3, :3] @ start + to_voxel[:3, 3],
        output=inside.view(np.uint8),
        order=0,
        mode="grid-constant",
    )
    return named, part, inside


def _reach(values: NDArray[np.bool_], to_voxel: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the part (array order) of a grid that the True voxels can reach, given the matrix from grid to voxel."""
    lines = [np.flatnonzero(values.any(axis=tuple(a for a in range(3) if a != axis))) for axis in (2, 1, 0)]
    if not len(lines[0]):
        return (slice(0, 0),) * 3
    ends = np.array([(line[0] - 0.5, line[-1] + 0.5) for line in lines])
    corners = np.array([[x, y, z] for x in ends[0] for y in ends[1] for z in ends[2]])
    reached = apply_affine(np.linalg.inv(to_voxel).astype(np.float64), corners)[:, ::-1]
    low = np.clip(np.floor(reached.min(axis=0)), 0, shape).astype(int)
    high = np.clip(np.ceil(reached.max(axis=0)) + 1, 0, shape).astype(int)
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True))


def _labelmap_of(
    segmentation_node: Any, segment_id: str, grid_to_local: NDArray[np.float64], shape: tuple[int, int, int]
) -> Any:
    """Return a segment's own vtkOrientedImageData; a segment kept as surface is drawn on the given grid."""
    segmentation = segmentation_node.GetSegmentation()
    image = slicer.vtkOrientedImageData()
    if segmentation.ContainsRepresentation(LABELMAP):
        segmentation_node.GetBinaryLabelmapRepresentation(segment_id, image)
        return image
    k, j, i = shape
    image.SetExtent(0, i - 1, 0, j - 1, 0, k - 1)
    image.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(grid_to_local))
    converter = slicer.vtkSegmentationConverter
    copy = slicer.vtkSegmentation()
    copy.SetSourceRepresentationName(segmentation.GetSourceRepresentationName())
    copy.CopySegmentFromSegmentation(segmentation, segment_id)
    copy.SetConversionParameter(
        converter.GetReferenceImageGeometryParameterName(), converter.SerializeImageGeometry(image)
    )
    if not copy.CreateRepresentation(LABELMAP, True):
        raise InputError(
            f"The segment '{segmentation.GetSegment(segment_id).GetName()}' cannot be turned into voxels. "
            "Is its surface empty?"
        )
    return copy.GetSegment(segment_id).GetRepresentation(LABELMAP)


def segment_tag(segment: Any, name: str) -> str:
    """Return the value of a tag of a vtkSegment, or nothing if it has none."""
    value = vtk.mutable("")
    return str(value) if segment.GetTag(name, value) else ""


def segment_version(segmentation_node: Any, segment_id: str) -> int | None:
    """Return a number that differs after every change of a segment's content, or None where there is no segment."""
    segmentation = None if segmentation_node is None else segmentation_node.GetSegmentation()
    segment = None if segmentation is None else segmentation.GetSegment(segment_id)
    if segmentation is None or segment is None:
        return None
    content = segment.GetRepresentation(segmentation.GetSourceRepresentationName())
    return None if content is None else int(content.GetMTime())


def slice_to_ras(node: Any) -> NDArray[np.float64]:
    """Return the (4, 4) matrix from plane coordinates (mm, plane at z = 0) to world RAS of a slice or plane node.

    Parameters
    ----------
    node : vtkMRMLSliceNode or vtkMRMLMarkupsPlaneNode

    Raises
    ------
    InputError
        If nothing is selected, the plane is not placed, or the node is of another kind.
    """
    if node is None:
        raise InputError("No plane is selected. Choose a slice view or a plane.")
    matrix = vtk.vtkMatrix4x4()
    if node.IsA("vtkMRMLSliceNode"):
        return slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())
    if node.IsA("vtkMRMLMarkupsPlaneNode"):
        if not node.GetIsPlaneValid():
            raise InputError(f"The plane '{node.GetName()}' is not placed yet. Place it in a view.")
        node.GetObjectToWorldMatrix(matrix)
        return slicer.util.arrayFromVTKMatrix(matrix)
    raise InputError(f"'{node.GetName()}' is neither a slice view nor a plane.")


def table_to_node(columns: dict[str, Sequence[Any]], node: Any = None, name: str = "Table") -> Any:
    """Return a table node with the columns (text or numbers); a given node is overwritten.

    Numbers become a double column, in which None stands for an empty cell; all other columns become text.
    """
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", slicer.mrmlScene.GenerateUniqueName(name))
    with slicer.util.NodeModify(node):
        node.RemoveAllColumns()
        for title, values in columns.items():
            numeric = any(value is not None for value in values) and all(
                value is None or isinstance(value, (int, float, np.number)) for value in values
            )
            array = vtk.vtkDoubleArray() if numeric else vtk.vtkStringArray()
            array.SetName(title)
            for value in values:
                empty = np.nan if numeric else ""
                array.InsertNextValue(empty if value is None else float(value) if numeric else str(value))
            node.AddColumn(array)
        if hasattr(node, "SetUseColumnTitleAsColumnHeader"):
            node.SetUseColumnTitleAsColumnHeader(True)
        else:  # the name in older Slicer
            node.SetUseColumnNameAsColumnHeader(True)
        node.SetLocked(True)
    return node
