"""The lesions of a scene: each is a list of six points, from which its corrective clicks and its segment hang.

Everything is kept in the nodes, so that it is saved with the scene and goes when the user deletes it.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import slicer
import vtk
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.nodes import place_beside, points_from_node, segment_version
from BreastBiomarkersLib.volume import Volume
from vtk.util.numpy_support import vtk_to_numpy

from WeakSegmentLib.methods import Click
from WeakSegmentLib.points import ExtremePoints

POINT_NAMES = ("Left", "Right", "Anterior", "Posterior", "Inferior", "Superior")
POINT_COUNT = len(POINT_NAMES)
TUMOR_COLOR, BACKGROUND_COLOR = (0.9, 0.34, 0.18), (0.25, 0.55, 0.95)

_LESION = "WeakSegment.Lesion"  # attribute of our point lists
_CLICKS = "WeakSegment.Clicks"  # attribute of lists of clicks
_CLICK_ROLES = {True: "WeakSegment.tumorClicks", False: "WeakSegment.backgroundClicks"}  # references to those lists
_SEGMENTATION = "WeakSegment.segmentation"  # reference to where the lesion's segments are
_OUTPUT = "WeakSegment.output."  # references to maps and surfaces
_SEGMENT_IDS = "WeakSegment.segmentIDs"  # attribute: lesion, then unlabeled band


class Lesion:
    """One lesion of the scene.

    Parameters
    ----------
    points_node : vtkMRMLMarkupsFiducialNode
        Its extreme points. The object holds nothing else, so any number of them may stand for one lesion.
    """

    def __init__(self, points_node: Any) -> None:
        if points_node is None:
            raise InputError("No extreme points are selected. Choose or create a point list.")
        self.points_node = points_node

    @property
    def name(self) -> str:
        """Name of the point list, which is the lesion's."""
        return str(self.points_node.GetName())

    def rename(self, name: str) -> None:
        """Give the point list, the lists of clicks and the segments the new name."""
        self.points_node.SetName(name)
        for tumor, node in self.click_nodes().items():
            node.SetName(_click_name(name, tumor))
        segmentation, ids = self.segments()
        for segment_id, title in zip(ids, segment_names(name), strict=False):
            segmentation.GetSegmentation().GetSegment(segment_id).SetName(title)

    def placed(self) -> int:
        """Return how many of the points are placed."""
        return int(self.points_node.GetNumberOfDefinedControlPoints())

    def is_complete(self) -> bool:
        """Tell whether all points of the list are placed."""
        return self.placed() == int(self.points_node.GetNumberOfControlPoints())

    def extreme_points(self, volume: Volume) -> ExtremePoints:
        """Return the six points on the grid of an image.

        Raises
        ------
        InputError
            If points are missing, which are then named, or do not span a box on the image.
        """
        placed = points_from_node(self.points_node, "extreme points")
        labels = [
            self.points_node.GetNthControlPointLabel(n) for n in range(self.points_node.GetNumberOfControlPoints())
        ]
        missing = [label for label in labels if label not in placed.labels]
        if missing and len(placed.labels) < POINT_COUNT:
            names = ", ".join(missing)
            raise InputError(f"{len(placed.labels)} of {POINT_COUNT} points are placed. Place next: {names}.")
        return ExtremePoints.from_ras(placed.positions_ras, volume, placed.labels)

    # Clicks

    def click_node(self, tumor: bool) -> Any:
        """Return the list of clicks that say "this is lesion" (`tumor`) or "this is not"; it is made when missing."""
        node = self.click_nodes().get(tumor)
        if node is None:
            unique = slicer.mrmlScene.GenerateUniqueName(_click_name(self.name, tumor))
            node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", unique)
            node.SetAttribute(_CLICKS, "tumor" if tumor else "background")
            node.SetControlPointLabelFormat("")
            node.CreateDefaultDisplayNodes()
            display = node.GetDisplayNode()
            display.SetSelectedColor(TUMOR_COLOR if tumor else BACKGROUND_COLOR)
            display.SetPointLabelsVisibility(False)
            display.SetPropertiesLabelVisibility(False)
            place_beside(node, self.points_node)
            self.points_node.SetNodeReferenceID(_CLICK_ROLES[tumor], node.GetID())
        return node

    def click_nodes(self) -> dict[bool, Any]:
        """Return the lists of clicks there are, by whether they mark lesion."""
        found = {tumor: self.points_node.GetNodeReference(role) for tumor, role in _CLICK_ROLES.items()}
        return {tumor: node for tumor, node in found.items() if node is not None}

    def clicks(self) -> list[Click]:
        """Return all clicks; those on background last, so that they win where balls overlap."""
        nodes = self.click_nodes()
        return [
            Click(tuple(position), tumor)
            for tumor in (True, False)
            if tumor in nodes
            for position in points_from_node(nodes[tumor]).positions_ras.tolist()
        ]

    def clear_clicks(self) -> None:
        """Take back all clicks."""
        for node in self.click_nodes().values():
            node.RemoveAllControlPoints()

    # Segments

    def segments(self) -> tuple[Any, list[str]]:
        """Return the segmentation (or None) and the ids of the lesion's segments still in it: lesion, unlabeled."""
        node = self.points_node.GetNodeReference(_SEGMENTATION)
        if node is None:
            return None, []
        return node, [s for s in self._segment_ids() if node.GetSegmentation().GetSegment(s) is not None]

    def segment(self) -> tuple[Any, str]:
        """Return the segmentation and the id of the lesion's segment, or None and nothing."""
        node, present = self.segments()
        own = self._segment_ids()
        return (node, own[0]) if own and own[0] in present else (None, "")

    def set_segments(self, segmentation_node: Any, segment_ids: list[str]) -> None:
        """Note which segments belong to the lesion."""
        self.points_node.SetNodeReferenceID(_SEGMENTATION, segmentation_node.GetID())
        self.points_node.SetAttribute(_SEGMENT_IDS, json.dumps(list(segment_ids)))

    def _segment_ids(self) -> list[str]:
        return list(json.loads(self.points_node.GetAttribute(_SEGMENT_IDS) or "[]"))

    # What is made on request

    def output(self, role: str) -> Any:
        """Return the node of a further result, such as a map, or None."""
        return self.points_node.GetNodeReference(_OUTPUT + role)

    def set_output(self, role: str, node: Any) -> None:
        """Note the node of a further result."""
        self.points_node.SetNodeReferenceID(_OUTPUT + role, node.GetID())

    def remove(self) -> None:
        """Remove points, clicks and segments from the scene."""
        segmentation, ids = self.segments()
        for segment_id in ids:
            segmentation.GetSegmentation().RemoveSegment(segment_id)
        for node in (*self.click_nodes().values(), self.points_node):
            slicer.mrmlScene.RemoveNode(node)


def create_lesion(volume_node: Any, name: str | None = None) -> Lesion:
    """Return a new lesion whose six named points are all to be placed; it moves with the volume's transform."""
    unique = slicer.mrmlScene.GenerateUniqueName(name or "Lesion")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", unique)
    node.SetAttribute(_LESION, "1")
    node.CreateDefaultDisplayNodes()
    for label in POINT_NAMES:
        node.UnsetNthControlPointPosition(node.AddControlPoint(vtk.vtkVector3d(0, 0, 0), label))
    node.SetFixedNumberOfControlPoints(True)
    place_beside(node, volume_node)
    return Lesion(node)


def lesions_in_scene() -> list[Lesion]:
    """Return the lesions: our point lists, and any other list of exactly six points, such as one read from a file."""
    return [Lesion(node) for node in slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode") if _is_lesion(node)]


def _is_lesion(node: Any) -> bool:
    if node.GetHideFromEditors() or node.GetAttribute(_CLICKS) is not None:
        return False
    return node.GetAttribute(_LESION) is not None or node.GetNumberOfControlPoints() == POINT_COUNT


def segment_names(name: str) -> tuple[str, str]:
    """Return the names of a lesion's segments."""
    return name, f"{name} (unlabeled)"


def _click_name(name: str, tumor: bool) -> str:
    return f"{name} missed" if tumor else f"{name} not lesion"


class Prompts:
    """Where the points and clicks of a lesion are at one moment; see `BreastBiomarkersLib.inslicer.history.State`."""

    def __init__(self, lesion: Lesion) -> None:
        self._lesion = lesion
        self._points = _defined_points(lesion.points_node)
        self._clicks = lesion.clicks()

    @property
    def points_id(self) -> str:
        """Id of the point list node."""
        return str(self._lesion.points_node.GetID())

    def key(self) -> tuple[Any, ...]:
        """Return a value that differs after every change."""
        return self.points_id, tuple(sorted(self._points.items())), tuple(self._clicks)

    def is_valid(self) -> bool:
        """Tell whether the lesion still is in the scene."""
        return bool(slicer.mrmlScene.IsNodePresent(self._lesion.points_node))

    def restore(self) -> None:
        """Put them back."""
        node = self._lesion.points_node
        with slicer.util.NodeModify(node):
            for n in range(node.GetNumberOfControlPoints()):
                if n in self._points:
                    node.SetNthControlPointPositionWorld(n, *self._points[n])
                else:
                    node.UnsetNthControlPointPosition(n)
        if self._lesion.clicks() == self._clicks:
            return
        self._lesion.clear_clicks()
        for click in self._clicks:
            self._lesion.click_node(click.tumor).AddControlPointWorld(vtk.vtkVector3d(click.position_ras), "")


def _defined_points(node: Any) -> dict[int, tuple[float, ...]]:
    defined = slicer.vtkMRMLMarkupsNode.PositionDefined
    return {
        n: tuple(node.GetNthControlPointPositionWorld(n))
        for n in range(node.GetNumberOfControlPoints())
        if node.GetNthControlPointPositionStatus(n) == defined
    }


class VolumeMeter:
    """Volumes of segments, measured again only when their content changed."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[int, float]] = {}

    def volume_ml(self, segmentation_node: Any, segment_id: str) -> float | None:
        """Return the volume of a segment's voxels in ml; None where there are none: no segment, or a surface."""
        version = segment_version(segmentation_node, segment_id)
        if version is None or not segmentation_node.GetSegmentation().ContainsRepresentation("Binary labelmap"):
            return None
        key = (segmentation_node.GetID(), segment_id)
        if key not in self._known or self._known[key][0] != version:
            image = slicer.vtkOrientedImageData()
            segmentation_node.GetBinaryLabelmapRepresentation(segment_id, image)
            count = 0
            if not image.IsEmpty():
                count = int(np.count_nonzero(vtk_to_numpy(image.GetPointData().GetScalars())))
            self._known[key] = (version, count * float(np.prod(image.GetSpacing())) / 1000)
        return self._known[key][1]
