"""Habitats in the scene: which volumes are the channels, the segmentation they become, and the tables about them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np
import slicer
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.nodes import (
    grid_from_node,
    mask_to_segment,
    require_in_scene,
    segmentation_for,
    table_to_node,
    volume_from_node,
)
from BreastBiomarkersLib.progress import Progress, ignore_progress, portion
from BreastBiomarkersLib.volume import Volume

from RadiomicsPanelLib.extract import FeatureValue
from RadiomicsPanelLib.habitats import (
    COLORS,
    STABLE,
    Channels,
    HabitatMap,
    HabitatModel,
    compute_habitat_features,
    divide,
    fit_habitats,
    gather_channels,
    model_from_dict,
    threshold_model,
)
from RadiomicsPanelLib.inslicer.mapping import feature_of_column, find_map, map_key, map_nodes, read_regions
from RadiomicsPanelLib.maps import compute_feature_maps
from RadiomicsPanelLib.roi import Roi
from RadiomicsPanelLib.settings import Settings

_HABITATS = "RadiomicsPanel.HabitatModel"  # attribute of our segmentations: the model, as JSON
_CHART = "RadiomicsPanel.HabitatNumber"  # attribute of our chart


class Divided(NamedTuple):
    """What a run made.

    Attributes
    ----------
    segmentation_node, table_node
        One segment per habitat; one row per habitat feature.
    model : HabitatModel
    maps : list of HabitatMap
        One per segment.
    values : list of (segment name, FeatureValue)
    """

    segmentation_node: Any
    table_node: Any
    model: HabitatModel
    maps: list[HabitatMap]
    values: list[tuple[str, FeatureValue]]


class Source(NamedTuple):
    """Where a channel's values come from: a volume, a feature map still to be computed, or the region's own image.

    Attributes
    ----------
    name : str
    volume : Volume or None
    feature : (feature key, aggregation) or None
    """

    name: str
    volume: Volume | None = None
    feature: tuple[str, str] | None = None


def make_habitats(
    volume_node: Any,
    segmentation_node: Any,
    segments: dict[str, str],
    channel_nodes: Sequence[Any],
    settings: Settings,
    how: HabitatModel | Sequence[float] | str = "kmeans",
    count: int | None = None,
    smoothing: float = 1.0,
    seed: int = 0,
    output_node: Any = None,
    table_node: Any = None,
    progress: Progress = ignore_progress,
) -> Divided:
    """Divide segments (id -> name) into habitats and measure these; nothing is written before the end.

    Parameters
    ----------
    volume_node, segmentation_node, segments
        The image decides the grid.
    channel_nodes : sequence of vtkMRMLScalarVolumeNode
        Co-registered images and feature maps.
    settings : Settings
    how : HabitatModel, sequence of float or str
        A model fitted before, one limit per channel, or "kmeans" or "gmm" to fit one on these segments together.
    count, smoothing, seed
        Of a fit; a model has its own smoothing.
    output_node, table_node
        Nodes to overwrite.
    progress : Progress

    Raises
    ------
    InputError
        As `prepare_roi`, `match_channels`, `gather_channels`, `fit_habitats` and `require_habitats`.
    """
    grid_from_node(volume_node)
    model = how if isinstance(how, HabitatModel) else None
    matched = match_channels(channel_nodes, volume_node, model)
    if output_node is not None:
        require_habitats(output_node)
    smoothing = smoothing if model is None else model.smoothing
    regions = read_regions(volume_node, segmentation_node, segments, settings, portion(progress, 0.0, 0.2))
    channels = []
    for n, (segment_id, roi) in enumerate(regions.items()):
        step = portion(progress, 0.2 + 0.3 * n / len(regions), 0.2 + 0.3 * (n + 1) / len(regions))
        step(0.0, f"Reading the channels of {roi.segment}")
        sources = sources_of(matched, volume_node, segmentation_node, segment_id, roi.segment)
        channels.append(gather(roi, sources, smoothing, step))
    if isinstance(how, str):
        used = fit_habitats(channels, count, how, seed, portion(progress, 0.5, 0.9))  # type: ignore[arg-type]  # checks it
    else:
        used = model or threshold_model(channels[0], how)  # type: ignore[arg-type]  # else these are limits
    progress(0.9, "Measuring the habitats")
    maps = [divide(one, used) for one in channels]
    values = [(one.roi.segment, value) for one in maps for value in compute_habitat_features(one)]
    require_in_scene(volume_node, segmentation_node, *(n for n in (output_node, table_node) if n is not None))
    node = habitats_to_node(maps, volume_node, output_node)
    return Divided(node, values_to_node(values, used, table_node), used, maps, values)


def medians(
    volume_node: Any, segmentation_node: Any, segments: dict[str, str], channel_nodes: Sequence[Any], settings: Settings
) -> list[float]:
    """Return the median of each channel in the segments (id -> name) together, smoothed by one voxel.

    Raises
    ------
    InputError
        As `make_habitats`.
    """
    matched = match_channels(channel_nodes, volume_node)
    values = []
    for segment_id, roi in read_regions(volume_node, segmentation_node, segments, settings, ignore_progress).items():
        sources = sources_of(matched, volume_node, segmentation_node, segment_id, roi.segment)
        values.append(gather(roi, sources, 1.0).values)
    return np.median(np.concatenate(values), axis=0).tolist()


def channel_nodes(volume_node: Any, segmentation_node: Any) -> list[Any]:
    """Return the volumes that can be channels: the image first, other images, and one map of each feature."""
    images: list[Any] = []
    maps: dict[str, Any] = {}
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        if node.GetClassName() != "vtkMRMLScalarVolumeNode" or node.GetHideFromEditors():
            continue
        if map_key(node) is None:
            images.append(node)
    for node in map_nodes(volume_node, segmentation_node):
        maps.setdefault(channel_name(node), node)
    return sorted(images, key=lambda node: node is not volume_node) + list(maps.values())


def channel_name(node: Any) -> str:
    """Return what a volume is called as a channel: maps by their feature, the same in all segments and cases."""
    key = map_key(node)
    return str(node.GetName()) if key is None else key.channel


def channel_title(node: Any) -> str:
    """Return what a channel is called in a list; a map stands for that of every segment."""
    key = map_key(node)
    return str(node.GetName()) if key is None else f"map of {key.channel.replace('_', ' ')}"


def sources_of(
    names: dict[str, Any], volume_node: Any, segmentation_node: Any, segment_id: str, segment: str
) -> list[Source]:
    """Return where the channels of a segment come from.

    Parameters
    ----------
    names : dict of str to node or None
        Channels and their volumes, as `match_channels` gives them; None for a feature map still to be computed.
    volume_node, segmentation_node, segment_id, segment
        Image, and the segment with its name.

    Raises
    ------
    InputError
        If a map was not made for this segment.
    """
    sources = []
    for name, node in names.items():
        if node is None:
            sources.append(Source(name, feature=feature_of_column(name)))
        elif node is volume_node:
            sources.append(Source(name))
        else:
            key = map_key(node)
            if key is not None:
                node = find_map(volume_node, segmentation_node, key._replace(segment_id=segment_id))
                if node is None:
                    raise InputError(f"There is no map '{key.channel}' of segment '{segment}'. Make the maps for it.")
            sources.append(Source(name, volume_from_node(node, "channel")))
    return sources


def match_channels(nodes: Sequence[Any], volume_node: Any, model: HabitatModel | None = None) -> dict[str, Any]:
    """Return the name of each channel with its volume node, or None for a feature map that is to be computed.

    Without a model these are the given volumes. A model has its own channels: maps are found by their feature, images
    by their name, "image" is the image that was measured, and images that are left are taken in their order.

    Raises
    ------
    InputError
        If no volume is given, two have one name, or volumes and the model's channels do not fit.
    """
    rest: dict[str, Any] = {}
    for node in nodes:
        name = channel_name(node)
        if name in rest and map_key(node) is None:
            raise InputError(f"Two channels are called '{name}'. Rename one.")
        rest.setdefault(name, node)
    if model is None:
        if not rest:
            raise InputError("Check at least one volume to divide the segment by.")
        return rest
    matched: dict[str, Any] = {}
    for channel in model.channels:
        if channel in ("image", volume_node.GetName()):
            matched[channel] = volume_node
            rest.pop(volume_node.GetName(), None)
        elif channel in rest:
            matched[channel] = rest.pop(channel)
        elif feature_of_column(channel) is not None:
            matched[channel] = None
    images = [node for node in rest.values() if map_key(node) is None]
    missing = [channel for channel in model.channels if channel not in matched]
    if len(missing) != len(rest) or len(images) != len(rest):
        wanted, given = ", ".join(missing) or "none", ", ".join(rest) or "none"
        raise InputError(
            f"The model's channels are {', '.join(model.channels)}. Still to be checked: {wanted}; checked and not in "
            f"the model: {given}."
        )
    matched |= dict(zip(missing, images, strict=True))
    return {channel: matched[channel] for channel in model.channels}


def gather(roi: Roi, sources: Sequence[Source], smoothing: float, progress: Progress = ignore_progress) -> Channels:
    """Return the channels of a region in the order of the sources.

    Raises
    ------
    InputError
        As `gather_channels`; if a channel has no value in a part of the segment.
    """
    own = next((s.name for s in sources if s.volume is None and s.feature is None), "")
    further = [s.volume.with_array(s.volume.array, s.name) for s in sources if s.volume is not None]
    wanted = {s.name: s.feature for s in sources if s.feature is not None}
    maps = None
    for aggregation in sorted({aggregation for _, aggregation in wanted.values()}):
        keys = [key for key, one in wanted.values() if one == aggregation]
        made = compute_feature_maps(roi, keys, 1, aggregation, progress)
        maps = made if maps is None else replace(maps, values=maps.values | made.values)
    found = gather_channels(replace(roi, image=roi.image.with_array(roi.image.array, own)), further, maps, smoothing)
    names = tuple(s.name for s in sources)
    return Channels(roi, names, found.values[:, [found.names.index(name) for name in names]], smoothing)


def habitats_to_node(divided: Sequence[HabitatMap], volume_node: Any, node: Any = None) -> Any:
    """Return a segmentation with a segment per habitat of each divided segment; an earlier one of ours is replaced.

    Raises
    ------
    InputError
        If the given segmentation holds something else than habitats.
    """
    if node is not None:
        require_habitats(node)
        node.GetSegmentation().RemoveAllSegments()
    else:
        node = segmentation_for(volume_node, f"{volume_node.GetName()} habitats")
    model = divided[0].model
    node.SetAttribute(_HABITATS, json.dumps(asdict(model)))
    for habitats in divided:
        prefix = f"{habitats.roi.segment}: " if len(divided) > 1 else ""
        for number, (name, color) in enumerate(zip(model.names, COLORS, strict=False), 1):
            mask = habitats.volume.with_array(habitats.labels == number)
            mask_to_segment(mask, node, prefix + name, None, color)
    return node


def require_habitats(node: Any) -> None:
    """Raise InputError if a segmentation holds segments that are not ours to replace."""
    if node.GetSegmentation().GetNumberOfSegments() and node.GetAttribute(_HABITATS) is None:
        raise InputError(
            f"'{node.GetName()}' holds segments that are no habitats, which would be lost. Choose another output."
        )


def model_of_node(node: Any) -> HabitatModel | None:
    """Return the model by which a segmentation was made, or None if it holds no habitats of ours."""
    text = None if node is None else node.GetAttribute(_HABITATS)
    return None if text is None else model_from_dict(json.loads(text), node.GetName())


def require_model(node: Any) -> HabitatModel:
    """Return the model by which a segmentation was made.

    Raises
    ------
    InputError
        If it holds no habitats of ours.
    """
    model = model_of_node(node)
    if model is None:
        raise InputError("There are no habitats yet. Divide a segment first.")
    return model


def values_to_node(rows: Sequence[tuple[str, FeatureValue]], model: HabitatModel, node: Any = None) -> Any:
    """Return a table node of habitat features, one row per segment, habitat ("all" for the whole) and feature."""
    habitat_of = {f"h{number}": name for number, name in enumerate(model.names, 1)}
    columns: dict[str, Sequence[Any]] = {
        "Segment": [segment for segment, _ in rows],
        "Habitat": [habitat_of.get(value.aggregation, "all") for _, value in rows],
        "Feature": [value.feature.name.replace("_", " ") for _, value in rows],
        "Value": [value.value for _, value in rows],
        "Unit": [value.unit for _, value in rows],
        "Note": [value.note for _, value in rows],
    }
    return table_to_node(columns, node, "Habitat features")


def judgement(model: HabitatModel) -> list[tuple[int, float, float]]:
    """Return number of habitats, mean silhouette and stability of each number that was tried."""
    silhouettes, stabilities = model.silhouettes or {}, model.stabilities or {}
    return [(int(k), silhouettes[k], stabilities[k]) for k in sorted(silhouettes, key=int)]


def plot_judgement(model: HabitatModel) -> Any:
    """Return a chart of silhouette and stability against the number of habitats; the one of an earlier run is reused.

    Raises
    ------
    InputError
        If the model was not fitted, so there is nothing to show.
    """
    rows = judgement(model)
    if not rows:
        raise InputError("Fixed limits are not fitted, so there is nothing to plot.")
    charts = [node for node in slicer.util.getNodesByClass("vtkMRMLPlotChartNode") if node.GetAttribute(_CHART)]
    known = charts[0].GetNthPlotSeriesNode(0) if charts else None
    columns: dict[str, Sequence[Any]] = {
        "Habitats": [float(k) for k, _, _ in rows],
        "Silhouette": [silhouette for _, silhouette, _ in rows],
        "Stability": [stability for _, _, stability in rows],
        "Needed": [STABLE] * len(rows),
    }
    table = table_to_node(columns, None if known is None else known.GetTableNode(), "Number of habitats")
    return charts[0] if known is not None else _new_chart(table)


def _new_chart(table: Any) -> Any:
    chart = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", "Number of habitats")
    chart.SetAttribute(_CHART, "1")
    chart.SetXAxisTitle("habitats")
    chart.SetYAxisTitle("silhouette, adjusted Rand index")
    titles = {"Silhouette": "silhouette", "Stability": "stability (bootstrap)", "Needed": "stability needed"}
    kinds = slicer.vtkMRMLPlotSeriesNode
    for (column, title), color in zip(titles.items(), COLORS, strict=False):
        series = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", title)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetPlotType(kinds.PlotTypeScatter)
        series.SetXColumnName("Habitats")
        series.SetYColumnName(column)
        series.SetColor(*color)
        if column == "Needed":
            series.SetMarkerStyle(kinds.MarkerStyleNone)
            series.SetLineStyle(kinds.LineStyleDash)
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
    return chart
