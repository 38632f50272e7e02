"""Feature maps as volumes of the scene: one per image, segment and feature, found again and updated at every run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import slicer
from BreastBiomarkersLib.inslicer.nodes import (
    grid_from_node,
    mask_from_segment,
    require_in_scene,
    volume_from_node,
    volume_to_node,
)
from BreastBiomarkersLib.progress import Progress, ignore_progress, portion
from BreastBiomarkersLib.volume import Volume
from numpy.typing import NDArray

from RadiomicsPanelLib.catalog import FAMILIES, FEATURES
from RadiomicsPanelLib.feature import Feature
from RadiomicsPanelLib.map_formulas import FORMULAS, ROWS
from RadiomicsPanelLib.maps import MAP_AGGREGATIONS, FeatureMaps, compute_feature_maps, map_onto
from RadiomicsPanelLib.roi import Case, Roi, prepare_roi
from RadiomicsPanelLib.settings import Settings, settings_to_dict

COLORS = "vtkMRMLColorTableNodeFileViridis.txt"
SHOWN_PERCENTILES = (1, 99)

_MAP = "RadiomicsPanel.Map"  # attribute of our maps: what they show, as JSON
_IMAGE, _SEGMENTATION = "RadiomicsPanel.image", "RadiomicsPanel.segmentation"  # references to what they are made of


class MapKey(NamedTuple):
    """What a map node shows.

    Attributes
    ----------
    segment_id, column : str
        Segment, and feature with its aggregation as in the tables.
    radius : int, voxels
        Of the kernel.
    """

    segment_id: str
    column: str
    radius: int

    @property
    def channel(self) -> str:
        """Name of the map as a channel of habitats; other kernels than the usual one are told apart."""
        return self.column if self.radius == 1 else f"{self.column} r{self.radius}"


class MapsMade(NamedTuple):
    """What a run made.

    Attributes
    ----------
    nodes : list of vtkMRMLScalarVolumeNode
        Segment by segment, in the order of the features.
    maps : list of FeatureMaps
        One per segment.
    """

    nodes: list[Any]
    maps: list[FeatureMaps]


def make_maps(
    volume_node: Any,
    segmentation_node: Any,
    segments: dict[str, str],
    features: Sequence[str],
    settings: Settings,
    radius: int = 1,
    aggregation: str = "3D_avg",
    on_image_grid: bool = False,
    progress: Progress = ignore_progress,
) -> MapsMade:
    """Return the maps of features of segments (id -> name) as volumes of the scene; nothing is written before the end.

    Raises
    ------
    InputError
        As `prepare_roi` and `compute_feature_maps`.
    """
    regions = read_regions(volume_node, segmentation_node, segments, settings, portion(progress, 0.0, 0.1))
    made = []
    for n, roi in enumerate(regions.values()):
        step = portion(progress, 0.1 + 0.85 * n / len(regions), 0.1 + 0.85 * (n + 1) / len(regions))
        made.append(compute_feature_maps(roi, features, radius, aggregation, step))
    progress(0.95, "Writing the maps")
    require_in_scene(volume_node, segmentation_node)
    nodes = []
    for segment_id, maps in zip(regions, made, strict=True):
        nodes += maps_to_nodes(maps, volume_node, segmentation_node, segment_id, on_image_grid)
    return MapsMade(nodes, made)


def read_regions(
    volume_node: Any, segmentation_node: Any, segments: dict[str, str], settings: Settings, progress: Progress
) -> dict[str, Roi]:
    """Return the prepared region of each segment (id -> name), by its id.

    Raises
    ------
    InputError
        As `prepare_roi`.
    """
    image = volume_from_node(volume_node)
    regions = {}
    for n, (segment_id, name) in enumerate(segments.items()):
        progress(n / len(segments), f"Preparing {name}")
        mask = mask_from_segment(segmentation_node, segment_id, volume_node)
        regions[segment_id] = prepare_roi(Case(image, mask, image.name, name), settings)
    return regions


def maps_to_nodes(
    maps: FeatureMaps, volume_node: Any, segmentation_node: Any, segment_id: str, on_image_grid: bool = False
) -> list[Any]:
    """Return a scalar volume node per map, in a folder beside the image; earlier ones of the same are updated.

    Parameters
    ----------
    maps : FeatureMaps
    volume_node, segmentation_node, segment_id
        What the maps were made of.
    on_image_grid : bool
        On the voxels of the image instead of the prepared ones.
    """
    nodes = []
    for column in maps.values:
        key = MapKey(segment_id, column, maps.radius)
        volume = maps.volume(column)
        if on_image_grid:
            volume = map_onto(volume, _part_around(volume, grid_from_node(volume_node)))
        volume = _cut(volume)
        node = find_map(volume_node, segmentation_node, key)
        if node is None:
            node = volume_to_node(volume, name=f"{maps.roi.segment} {_title(column)}", beside=volume_node)
            node.SetNodeReferenceID(_IMAGE, volume_node.GetID())
            node.SetNodeReferenceID(_SEGMENTATION, segmentation_node.GetID())
            _put_into_folder(node, f"{volume_node.GetName()} feature maps")
        else:
            volume_to_node(volume, node)
        about = key._asdict() | {
            "aggregation": maps.aggregation,
            "unit": maps.units[column],
            "segment": maps.roi.segment,
            "settings": settings_to_dict(maps.roi.settings),
        }
        node.SetAttribute(_MAP, json.dumps(about))
        _display(node, maps.values[column], column, maps.units[column])
        nodes.append(node)
    return nodes


def mappable() -> dict[str, tuple[Feature, ...]]:
    """Return the features that have maps, by the title of their family."""
    return {family.title: family.features for family in FAMILIES if family.name in ROWS}


def map_nodes(volume_node: Any, segmentation_node: Any) -> list[Any]:
    """Return all maps of an image and a segmentation."""
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [node for node in nodes if map_key(node) is not None and _made_of(node) == (volume_node, segmentation_node)]


def find_map(volume_node: Any, segmentation_node: Any, key: MapKey) -> Any:
    """Return the node of a map, or None if it was not made or was deleted."""
    return next((node for node in map_nodes(volume_node, segmentation_node) if map_key(node) == key), None)


def map_key(node: Any) -> MapKey | None:
    """Return what a volume node shows, or None if it is no map of ours."""
    text = node.GetAttribute(_MAP)
    if text is None:
        return None
    about = json.loads(text)
    return MapKey(about["segment_id"], about["column"], about["radius"])


def show_map(node: Any, volume_node: Any) -> None:
    """Show a map over its image; outside the segment the image shows through."""
    slicer.util.setSliceViewerLayers(background=volume_node, foreground=node, foregroundOpacity=1.0)


def feature_of_column(column: str) -> tuple[str, str] | None:
    """Return feature key and aggregation of a map's column, or None if it names no feature that can be mapped."""
    known = {f.key for f in FEATURES} & set(FORMULAS)
    if column in known:
        return column, MAP_AGGREGATIONS[0]
    for suffix, aggregation in (*((a, a) for a in MAP_AGGREGATIONS), ("3D", "3D_avg"), ("2D", "2D_avg")):
        key = column.removesuffix(f"_{suffix}")
        if key != column and key in known:
            return key, aggregation
    return None


def _made_of(node: Any) -> tuple[Any, Any]:
    return node.GetNodeReference(_IMAGE), node.GetNodeReference(_SEGMENTATION)


def _title(column: str) -> str:
    """Return a column name in words."""
    return column.replace("_", " ")


def _display(node: Any, values: NDArray[np.float64], column: str, unit: str) -> None:
    """Give a map its colors, a legend and transparency where it has no value."""
    display = node.GetDisplayNode()
    known = values.astype(np.float32)
    known = known[np.isfinite(known)]
    low, high = (float(v) for v in (known.min(), known.max())) if len(known) else (0.0, 1.0)
    window = np.percentile(known, SHOWN_PERCENTILES) if len(known) else (low, high)
    reach = max(abs(low), abs(high), 1e-6)
    with slicer.util.NodeModify(display):
        display.SetAndObserveColorNodeID(COLORS)
        display.SetInterpolate(False)
        display.SetAutoWindowLevel(False)
        middle, width = (window[0] + window[1]) / 2, max(window[1] - window[0], 1e-4 * reach)
        display.SetWindowLevelMinMax(float(middle - width / 2), float(middle + width / 2))
        display.AutoThresholdOff()
        display.SetThreshold(low - 1e-6 * reach, high + 1e-6 * reach)  # what is not a number is transparent
        display.SetApplyThreshold(True)
    legend = slicer.modules.colors.logic().AddDefaultColorLegendDisplayNode(node)
    legend.SetTitleText(_title(column) + ("" if unit == "1" else f" [{unit}]"))


def _put_into_folder(node: Any, name: str) -> None:
    """Put a new node, which lies beside its image, into a folder there."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(node)
    parent = hierarchy.GetItemParent(item)
    folder = hierarchy.GetItemChildWithName(parent, name)
    if not folder:
        folder = hierarchy.CreateFolderItem(parent, name)
    hierarchy.SetItemParent(item, folder)


def _part_around(volume: Volume, grid: Volume) -> Volume:
    """Return the part of a grid that holds the region of a map."""
    known = np.argwhere(np.isfinite(volume.array))
    if not len(known):
        return grid.cropped((0, 0, 0), (1, 1, 1))
    ends = np.array([known.min(axis=0) - 1, known.max(axis=0) + 1], dtype=float)[:, ::-1]
    corners = np.array([[x, y, z] for x in ends[:, 0] for y in ends[:, 1] for z in ends[:, 2]])
    reached = grid.points_to_ijk(volume.points_to_ras(corners))[:, ::-1]
    start = np.clip(np.floor(reached.min(axis=0)), 0, np.array(grid.shape) - 1).astype(int)
    stop = np.clip(np.ceil(reached.max(axis=0)) + 1, start + 1, grid.shape).astype(int)
    return grid.cropped(tuple(start.tolist()), tuple(stop.tolist()))


def _cut(volume: Volume) -> Volume:
    """Return a map without the margin that holds no values."""
    known = np.argwhere(np.isfinite(volume.array))
    if not len(known):
        return volume
    return volume.cropped(tuple(known.min(axis=0).tolist()), tuple((known.max(axis=0) + 1).tolist()))
