"""Results that are made on request: maps, the distance-colored surface, the table; and handing a lesion on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.nodes import place_beside, table_to_node, volume_to_node
from BreastBiomarkersLib.volume import Volume
from vtk.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray

from WeakSegmentLib.inslicer.lesions import Lesion
from WeakSegmentLib.measures import Measures
from WeakSegmentLib.surfaces import DistanceSurface

RAINBOW = "vtkMRMLColorTableNodeFileColdToHotRainbow.txt"
DISTANCE = "Distance to reference [mm]"


def map_to_node(lesion: Lesion, role: str, title: str, values: Volume, volume_node: Any) -> Any:
    """Return a volume node with a map from 0 to 1, shown over the image; the lesion's earlier one is updated.

    Parameters
    ----------
    lesion : Lesion
    role : str
        Which of the lesion's maps.
    title : str
        What the map is, for its name.
    values : Volume
        On the grid of the image; the node holds only the part that is not 0.
    volume_node : vtkMRMLScalarVolumeNode
        Image it belongs to.
    """
    lines = [np.flatnonzero(values.array.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    if len(lines[0]):
        values = values.cropped(tuple(int(a[0]) for a in lines), tuple(int(a[-1]) + 1 for a in lines))
    node = lesion.output(role)
    node = volume_to_node(values, node, f"{lesion.name}: {title}", beside=volume_node)
    lesion.set_output(role, node)
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(RAINBOW)
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(0.0, 1.0)
    display.SetThreshold(0.01, 1.0)  # 0 is transparent
    display.SetApplyThreshold(True)
    slicer.util.setSliceViewerLayers(foreground=node, foregroundOpacity=0.5)
    return node


def surface_to_model(lesion: Lesion, surface: DistanceSurface, segmentation_node: Any) -> Any:
    """Return a model node of a lesion's surface colored by distance, with a legend; an earlier one is updated."""
    mesh = vtk.vtkPolyData()
    points = vtk.vtkPoints()
    points.SetData(numpy_to_vtk(surface.points_ras.astype(np.float32), deep=True))
    mesh.SetPoints(points)
    cells = vtk.vtkCellArray()
    corners = np.column_stack([np.full(len(surface.triangles), 3), surface.triangles]).astype(np.int64)
    cells.ImportLegacyFormat(numpy_to_vtkIdTypeArray(corners.ravel(), deep=True))
    mesh.SetPolys(cells)
    distance = numpy_to_vtk(surface.distance_mm, deep=True)
    distance.SetName(DISTANCE)
    mesh.GetPointData().SetScalars(distance)
    node = lesion.output("distanceSurface")
    if node is None:
        name = slicer.mrmlScene.GenerateUniqueName(f"{lesion.name}: distance to reference")
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", name)
        node.CreateDefaultDisplayNodes()
        place_beside(node, segmentation_node)
        node.SetAndObserveTransformNodeID(None)  # the points are in the world
        lesion.set_output("distanceSurface", node)
    node.SetAndObservePolyData(mesh)
    reach = max(float(np.percentile(np.abs(surface.distance_mm), 98)), 0.1)
    display = node.GetDisplayNode()
    display.SetActiveScalarName(DISTANCE)
    display.SetAndObserveColorNodeID(RAINBOW)
    display.SetScalarRangeFlag(slicer.vtkMRMLDisplayNode.UseManualScalarRange)
    display.SetScalarRange(-reach, reach)
    display.SetScalarVisibility(True)
    slicer.modules.colors.logic().AddDefaultColorLegendDisplayNode(node)
    return node


def measures_to_table(rows: Sequence[tuple[str, Measures]], facts: dict[str, str], node: Any = None) -> Any:
    """Return a table node with a line of measures per lesion; `facts` become columns with one value."""
    cells = [_cells(found) for _, found in rows]
    titles = list(dict.fromkeys(title for row in cells for title in row))
    columns: dict[str, Sequence[Any]] = {"Lesion": [name for name, _ in rows]}
    columns |= {title: [row.get(title) for row in cells] for title in titles}
    columns |= {title: [value] * len(rows) for title, value in facts.items()}
    return table_to_node(columns, node, "Lesion measures")


def _cells(found: Measures) -> dict[str, Any]:
    cells: dict[str, Any] = {
        "Volume [ml]": found.volume_ml,
        "Longest diameter [mm]": found.diameters.longest,
        "Longest in-plane diameter [mm]": found.diameters.in_plane,
        "Perpendicular diameter [mm]": found.diameters.perpendicular,
    }
    if found.kinetics is not None:
        cells["Initial enhancement [%]"] = found.kinetics.initial_enhancement_percent
        cells["Late change [%]"] = found.kinetics.late_change_percent
        cells["Signal enhancement ratio [1]"] = found.kinetics.ser
        cells["Kinetics"] = f"{found.kinetics.initial_class}, {found.kinetics.late_class or 'one phase'}"
    if found.agreement is not None:
        cells["Dice [1]"] = found.agreement.dice
        cells["Jaccard [1]"] = found.agreement.jaccard
        cells["95 % Hausdorff distance [mm]"] = found.agreement.hd95_mm
        cells["Mean surface distance [mm]"] = found.agreement.surface_distance_mm
    return cells


def hand_to_segment_editor(volume_node: Any, segmentation_node: Any, segment_id: str) -> None:
    """Choose the segment and its image in the Segment Editor."""
    node = slicer.mrmlScene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
    if node is None:
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
        node.UnRegister(None)
        node.SetSingletonTag("SegmentEditor")
        node = slicer.mrmlScene.AddNode(node)
    node.SetAndObserveSegmentationNode(segmentation_node)
    node.SetAndObserveSourceVolumeNode(volume_node)
    node.SetSelectedSegmentID(segment_id)


def hand_to_module(module: str, volume_node: Any, segmentation_node: Any, segment_id: str) -> None:
    """Choose the image and the segment in one of our other modules.

    Raises
    ------
    InputError
        If the module is not there.
    """
    if not hasattr(slicer.modules, module.lower()):
        raise InputError(f"The module {module} is not loaded. Install the whole BreastBiomarkers extension.")
    parameters = slicer.util.getModuleLogic(module).getParameterNode()
    with slicer.util.NodeModify(parameters):
        parameters.image = volume_node
        parameters.segmentation = segmentation_node
        if hasattr(type(parameters), "segmentIds"):
            parameters.segmentIds = [segment_id]
        else:
            parameters.segmentId = segment_id


def show_module(module: str) -> None:
    """Switch to a module where there is a window."""
    if slicer.util.mainWindow() is not None:
        slicer.util.selectModule(module)
