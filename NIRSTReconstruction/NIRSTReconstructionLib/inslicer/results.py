"""Results of the planes in the scene: nodes in one folder per plane, updated by the next run, undone and redone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
from BreastBiomarkersLib.inslicer.nodes import table_to_node, volume_from_node, volume_to_node
from BreastBiomarkersLib.volume import Volume
from slicer.i18n import tr as _

from NIRSTReconstructionLib.images import IMAGE_UNITS
from NIRSTReconstructionLib.inslicer.inputs import is_present
from NIRSTReconstructionLib.inslicer.plane_result import PlaneResult

IMAGE_TITLES = {"hbo": "HbO", "hbr": "Hb", "water": "Water", "hbt": "HbT", "sto2": "StO2"}
COLOR_NODE = "vtkMRMLColorTableNodeFileInferno.txt"
SIMULATED = "Simulated "
"""Begins the names of images that were not measured."""

_RESULT = "NIRSTReconstruction.Result"  # attribute: which result a node is
RECORD_ATTRIBUTE = "NIRSTReconstruction.Record"  # attribute of the images: the run they come from
_PLANE, _MRI = "NIRSTReconstruction.plane", "NIRSTReconstruction.MRI"  # references to what a result belongs to


class PlaneResults:
    """The results of one plane of one MRI in the scene.

    Parameters
    ----------
    volume_node, plane_node
        The object holds nothing else, so any number of them may stand for one plane.
    """

    def __init__(self, volume_node: Any, plane_node: Any) -> None:
        self.volume_node = volume_node
        self.plane_node = plane_node

    def nodes(self) -> dict[str, Any]:
        """Return the result nodes there are: images by quantity, "contrast", "trust", "residual", "mesh"."""
        if self.volume_node is None or self.plane_node is None:
            return {}
        found = {}
        for kind in ("vtkMRMLScalarVolumeNode", "vtkMRMLTableNode", "vtkMRMLModelNode"):
            for node in slicer.util.getNodesByClass(kind):
                name = node.GetAttribute(_RESULT)
                if name and self._is_mine(node):
                    found[name] = node
        return found

    def record(self) -> dict[str, Any] | None:
        """Return the record of the run the images come from, or None without images."""
        node = self.nodes().get("hbo")
        text = None if node is None else node.GetAttribute(RECORD_ATTRIBUTE)
        return json.loads(text) if text else None

    def read(self) -> PlaneResult | None:
        """Return the results as plain data, or None if there are none."""
        nodes, record = self.nodes(), self.record()
        if record is None or not set(IMAGE_UNITS) <= set(nodes):
            return None
        names = [name for name in nodes if name.removesuffix("_sd") in IMAGE_UNITS]
        residual = {}
        if "residual" in nodes:
            table = nodes["residual"].GetTable()
            for n in range(table.GetNumberOfColumns()):
                column = table.GetColumn(n)
                residual[column.GetName()] = [column.GetValue(row) for row in range(column.GetNumberOfTuples())]
        return PlaneResult({name: volume_from_node(nodes[name]) for name in names}, record, residual)

    def write(self, result: PlaneResult, update: bool = True) -> dict[str, Any]:
        """Lay results into the scene and return the nodes; with `update` earlier nodes of the plane are overwritten."""
        old = self.nodes() if update else {}
        folder = self._folder(next(iter(old.values()), None))
        written = {}
        for name, volume in result.images.items():
            written[name] = self._image_node(volume, name, result.record, old.get(name), folder)
        for name, (title, columns) in _tables(result, self.volume_node.GetName()).items():
            node = table_to_node(columns, old.get(name), title)
            self._mark(node, name, folder if name not in old else None)
            written[name] = node
        for name in set(old) - set(written) - {"mesh"}:  # of a lesion or trust that this run did not look at
            slicer.mrmlScene.RemoveNode(old[name])
        return written

    def remove(self) -> None:
        """Delete the results, and their folder if nothing else is in it."""
        nodes = self.nodes()
        folder = self._folder(next(iter(nodes.values()), None)) if nodes else 0
        for node in nodes.values():
            slicer.mrmlScene.RemoveNode(node)
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        while folder and hierarchy.GetNumberOfItemChildren(folder) == 0 and not hierarchy.GetItemDataNode(folder):
            parent = hierarchy.GetItemParent(folder)
            if folder == hierarchy.GetSceneItemID():
                break
            hierarchy.RemoveItem(folder)
            folder = parent

    def keep(self, name: str, node: Any) -> None:
        """Note a node made elsewhere, such as the mesh, as one of the results."""
        old = self.nodes()
        old.pop(name, None)
        self._mark(node, name, self._folder(next(iter(old.values()), None)))

    # Inside

    def _is_mine(self, node: Any) -> bool:
        return bool(
            node.GetNodeReferenceID(_PLANE) == self.plane_node.GetID()
            and node.GetNodeReferenceID(_MRI) == self.volume_node.GetID()
        )

    def _mark(self, node: Any, name: str, folder: int | None) -> None:
        node.SetAttribute(_RESULT, name)
        node.SetNodeReferenceID(_PLANE, self.plane_node.GetID())
        node.SetNodeReferenceID(_MRI, self.volume_node.GetID())
        if folder is not None:
            hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
            hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), folder)

    def _folder(self, result_node: Any) -> int:
        """Return the folder of this plane's results, made where it is missing: below one folder for the MRI."""
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        if result_node is not None:
            return int(hierarchy.GetItemParent(hierarchy.GetItemByDataNode(result_node)))
        top = self._folder_of_mri()
        if top is None:
            parent = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(self.volume_node))
            top = hierarchy.CreateFolderItem(parent, _("{name} NIRST").format(name=self.volume_node.GetName()))
        return int(hierarchy.CreateFolderItem(top, self.plane_node.GetName()))

    def _folder_of_mri(self) -> int | None:
        """Return the folder in which other planes of the same MRI keep theirs."""
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
            if node.GetAttribute(_RESULT) and node.GetNodeReferenceID(_MRI) == self.volume_node.GetID():
                folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node))
                top = hierarchy.GetItemParent(folder)
                if top and top != hierarchy.GetSceneItemID():
                    return int(top)
        return None

    def _image_node(self, volume: Volume, name: str, record: dict[str, Any], node: Any, folder: int) -> Any:
        """Write one image, under the transform of the MRI; what the user changed of an older image's display stays."""
        quantity = name.removesuffix("_sd")
        prefix = SIMULATED if record["simulated"] else ""
        title = f"{IMAGE_TITLES[quantity]}{'' if quantity == name else ' SD'} [{IMAGE_UNITS[quantity]}]"
        created = node is None
        if created:
            unique = slicer.mrmlScene.GenerateUniqueName(prefix + title)
            node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", unique)
        else:
            node.SetName(prefix + node.GetName().removeprefix(SIMULATED))
        shown = None if created else _value_range(slicer.util.arrayFromVolume(node))
        node.SetAndObserveTransformNodeID(self.volume_node.GetTransformNodeID())
        volume_to_node(volume, node)
        self._mark(node, name, folder if created else None)
        if quantity == name:
            node.SetAttribute(RECORD_ATTRIBUTE, json.dumps(record))
        display = node.GetDisplayNode()
        if shown is None:
            display.SetAndObserveColorNodeID(COLOR_NODE)
            display.AutoWindowLevelOff()
        if shown is None or np.allclose(shown, (display.GetWindowLevelMin(), display.GetWindowLevelMax())):
            low, high = _value_range(volume.array)
            display.SetWindowLevelMinMax(low, high)
            display.SetThreshold(low, max(display.GetUpperThreshold(), high))
            display.ApplyThresholdOn()
        legend = slicer.modules.colors.logic().AddDefaultColorLegendDisplayNode(node)
        legend.SetTitleText(prefix + title)
        return node


class ResultState:
    """The results of a plane at one moment, for undo and redo; that there were none is a state, too."""

    def __init__(self, results: PlaneResults, content: PlaneResult | None) -> None:
        self._results = results
        self._content = content

    def is_valid(self) -> bool:
        """Tell whether MRI and plane still are in the scene."""
        return is_present(self._results.volume_node) and is_present(self._results.plane_node)

    def restore(self) -> None:
        """Bring the results back, or take them away."""
        if self._content is None:
            self._results.remove()
        else:
            self._results.write(self._content)


def shown_quantity(nodes: dict[str, Any]) -> str | None:
    """Return which of the result nodes lies over the MRI in a slice view, by quantity, or None."""
    shown = {view.GetForegroundVolumeID() for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")}
    names = [name for name, node in nodes.items() if node.GetID() in shown]
    return names[0].removesuffix("_sd") if names else None


def planes_with_results(volume_node: Any) -> list[Any]:
    """Return the planes of an MRI that have results, in the order in which these were made."""
    planes = []
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        if node.GetAttribute(_RESULT) == "hbo" and node.GetNodeReferenceID(_MRI) == volume_node.GetID():
            plane = node.GetNodeReference(_PLANE)
            if plane is not None and plane not in planes:
                planes.append(plane)
    return planes


def _tables(result: PlaneResult, name: str) -> dict[str, tuple[str, dict[str, Sequence[Any]]]]:
    """Return name and columns of each table of results."""
    tables: dict[str, tuple[str, dict[str, Sequence[Any]]]] = {}
    rows = result.contrast
    if rows:
        tables["contrast"] = (
            f"{name} contrast",
            {
                "Quantity": [IMAGE_TITLES[row.quantity] for row in rows],
                "Unit": [row.unit for row in rows],
                "Lesion": [row.lesion for row in rows],
                "Background": [row.background for row in rows],
                "Ratio": [row.ratio for row in rows],
                "Ratio SE": [row.ratio_se for row in rows],
                "Lesion SE": [row.lesion_se for row in rows],
                "Background SE": [row.background_se for row in rows],
            },
        )
    trust = result.record["trust"]
    if trust is not None:
        checks = trust["checks"]
        columns: dict[str, Sequence[Any]] = {
            title: [check[key] for check in checks] for title, key in _TRUST_COLUMNS.items()
        }
        tables["trust"] = (f"{name} trust", columns)
    if result.residual:
        tables["residual"] = (f"{name} residual", dict(result.residual))
    return tables


_TRUST_COLUMNS = {"Check": "name", "Light": "light", "Reason": "reason"}


def _value_range(array: Any) -> tuple[float, float]:
    """Return smallest and largest value inside the body; outside it is 0."""
    inside = array[array > 0]
    return (float(inside.min()), float(inside.max())) if inside.size else (0.0, 1.0)
