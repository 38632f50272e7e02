"""Features as charts: the numbers of a diagram, and plot nodes for Slicer's plot views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.nodes import table_to_node

from RadiomicsPanelLib.extract import Extraction
from RadiomicsPanelLib.inslicer.feature_table import describe_feature, extractions_of

DATA = "RadiomicsPanel.plotData"
"""Role of a chart's reference to its data."""


def plot_values(extractions: Sequence[Extraction], x: int, y: int = -1) -> list[tuple[str, float, float]]:
    """Return name, value of feature number x and of number y (0 without one) of each segment that has both.

    Numbers count the values of the first extraction.
    """
    if not extractions or not 0 <= x < len(extractions[0].values):
        return []
    columns = [extractions[0].values[n].column if n >= 0 else "" for n in (x, y)]
    found = []
    for e in extractions:
        values = {v.column: v.value for v in e.values}
        pair = [values.get(column) if column else 0.0 for column in columns]
        if pair[0] is not None and pair[1] is not None:
            found.append((e.segment if e.filter == "original" else f"{e.segment}, {e.filter}", pair[0], pair[1]))
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
    values = extractions[0].values
    titles = [describe_feature(values[x]), describe_feature(values[y]) if y >= 0 else ""]
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
