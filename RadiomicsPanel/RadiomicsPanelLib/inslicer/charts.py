"""Features as charts: the numbers of a diagram, and plot nodes for Slicer's plot views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.nodes import table_to_node

from RadiomicsPanelLib.extract import Extraction
from RadiomicsPanelLib.inslicer.feature_table import describe_entry, entries_of, extractions_of

DATA = "RadiomicsPanel.plotData"
"""Role of a chart's reference to its data."""


def plot_values(extractions: Sequence[Extraction], x: int, y: int = -1) -> list[tuple[str, float, float]]:
    """Return name, value of feature number x and of number y (0 without one) of each segment that has both.

    Numbers are those of `entries_of`.
    """
    entries = entries_of(extractions)
    if not 0 <= x < len(entries):
        return []
    wanted = [(entries[n][0], entries[n][1].column) if n >= 0 else None for n in (x, y)]
    found = []
    filters = len({e.filter for e in extractions})
    for n in range(0, len(extractions), filters):
        values = {(e.filter, v.column): v.value for e in extractions[n : n + filters] for v in e.values}
        pair = [0.0 if key is None else values.get(key) for key in wanted]
        if pair[0] is not None and pair[1] is not None:
            found.append((extractions[n].segment, pair[0], pair[1]))
    return found


def make_chart(table: Any, x: int, y: int = -1) -> Any:
    """Return a plot chart node of a feature in all segments, or of one against another, and show it where views are.

    The chart of an earlier call for this table is made anew.

    Raises
    ------
    InputError
        If the node is no feature table, or the features apply to no segment.
    """
    extractions = extractions_of(table)
    points = plot_values(extractions, x, y)
    if not points:
        raise InputError("The feature does not apply to any segment. Choose another one.")
    names, first, second = zip(*points, strict=True)
    entries = entries_of(extractions)
    titles = [describe_entry(entries[x]), describe_entry(entries[y]) if y >= 0 else ""]
    chart = table.GetNodeReference(DATA)
    scene = slicer.mrmlScene
    if chart is None:
        chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", scene.GenerateUniqueName(f"{table.GetName()} chart"))
        table.SetNodeReferenceID(DATA, chart.GetID())
    series = chart.GetNthPlotSeriesNode(0)
    if series is None:
        series = scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", f"{chart.GetName()} values")
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
    columns: dict[str, Sequence[Any]] = {"Segment": names, titles[0]: first}
    if y >= 0 and titles[1] != titles[0]:
        columns[titles[1]] = second
    data = table_to_node(columns, series.GetTableNode(), f"{chart.GetName()} data")
    series.SetAndObserveTableNodeID(data.GetID())
    series.SetLabelColumnName("Segment")
    if y >= 0:
        series.SetPlotType(series.PlotTypeScatter)
        series.SetXColumnName(titles[0])
        series.SetYColumnName(titles[1])
        series.SetLineStyle(series.LineStyleNone)
        series.SetMarkerStyle(series.MarkerStyleCircle)
    else:
        series.SetPlotType(series.PlotTypeBar)
        series.SetXColumnName("")
        series.SetYColumnName(titles[0])
    chart.SetTitle(table.GetName())
    chart.SetXAxisTitle(titles[0] if y >= 0 else "Segment")
    chart.SetYAxisTitle(titles[1] if y >= 0 else titles[0])
    chart.SetLegendVisibility(False)
    if slicer.app.layoutManager() is not None:
        slicer.modules.plots.logic().ShowChartInLayout(chart)
    return chart
