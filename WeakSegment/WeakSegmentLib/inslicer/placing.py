"""Clicking in the slice views: the six points of a lesion one after the other, and its corrections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer

from WeakSegmentLib.inslicer.lesions import Lesion
from WeakSegmentLib.inslicer.point_table import PointTable
from WeakSegmentLib.inslicer.views import ViewGuide


class Placing:
    """The buttons for points and corrections, and the table of the points.

    Parameters
    ----------
    ui : namespace
        The widgets of the panel.
    refresh : callable
        Brings the panel up to date.
    """

    def __init__(self, ui: Any, refresh: Callable[[], None]) -> None:
        self._ui, self._refresh = ui, refresh
        self._lesion: Lesion | None = None
        self._views = ViewGuide()
        self._table = PointTable(ui.pointsTable)
        for place in (ui.pointsPlaceWidget, ui.clicksPlaceWidget):
            place.placeMultipleMarkups = slicer.qSlicerMarkupsPlaceWidget.ForcePlaceMultipleMarkups
            place.connect("activeMarkupsPlaceModeChanged(bool)", self._on_place_mode_changed)
        ui.placePointsButton.connect("clicked(bool)", self._on_place_points)
        ui.placeAgainButton.connect("clicked()", self._on_place_again)
        ui.clearPointsButton.connect("clicked()", self._on_clear_points)
        ui.tumorClicksButton.connect("clicked(bool)", self._on_tumor_clicks)
        ui.backgroundClicksButton.connect("clicked(bool)", self._on_background_clicks)
        ui.clearClicksButton.connect("clicked()", self._on_clear_clicks)

    def show(self, lesion: Lesion | None, image_node: Any, is_ready: bool, takes_clicks: bool) -> None:
        """Bring table and buttons up to date.

        Parameters
        ----------
        lesion : Lesion or None
            The selected one.
        image_node : vtkMRMLScalarVolumeNode or None
        is_ready : bool
            Its points are placed and fit; placing them ends by itself then.
        takes_clicks : bool
            The chosen method knows corrections.
        """
        self._lesion = lesion
        points_node = None if lesion is None else lesion.points_node
        self._table.show(points_node, image_node)
        self._show_points(points_node, image_node, is_ready)
        self._show_clicks({} if lesion is None else lesion.click_nodes(), takes_clicks)

    def start(self) -> None:
        """Let the user place what is missing of the six points."""
        self._ui.pointsPlaceWidget.setPlaceModeEnabled(True)

    def stop(self) -> None:
        """End all placing."""
        for place in (self._ui.pointsPlaceWidget, self._ui.clicksPlaceWidget):
            place.setPlaceModeEnabled(False)

    def forget(self) -> None:
        """Let go of the lesion."""
        self._lesion = None
        self._table.forget()

    def _show_points(self, points_node: Any, image_node: Any, is_ready: bool) -> None:
        ui, place = self._ui, self._ui.pointsPlaceWidget
        if place.currentNode() is not points_node:
            place.setPlaceModeEnabled(False)
            place.setCurrentNode(points_node)
        if place.placeModeEnabled and is_ready:
            place.setPlaceModeEnabled(False)
        placing = place.placeModeEnabled
        if placing and image_node is not None:
            self._views.aim(image_node, points_node)
        else:
            self._views.release()
        lesion = self._lesion
        ui.placePointsButton.enabled = lesion is not None and (placing or not lesion.is_complete())
        ui.placePointsButton.setChecked(placing)
        ui.placeAgainButton.enabled = lesion is not None
        ui.clearPointsButton.enabled = lesion is not None and lesion.placed() > 0

    def _show_clicks(self, nodes: dict[bool, Any], takes_clicks: bool) -> None:
        ui, place = self._ui, self._ui.clicksPlaceWidget
        if place.currentNode() is not None and place.currentNode() not in nodes.values():
            place.setPlaceModeEnabled(False)
            place.setCurrentNode(None)
        placing = place.currentNode() if place.placeModeEnabled else None
        for tumor, button in ((True, ui.tumorClicksButton), (False, ui.backgroundClicksButton)):
            button.enabled = self._lesion is not None and takes_clicks
            button.setChecked(placing is not None and placing is nodes.get(tumor))
        ui.clearClicksButton.enabled = self._lesion is not None and bool(self._lesion.clicks())

    def _on_place_mode_changed(self, _active: bool) -> None:
        self._refresh()

    def _on_place_points(self, checked: bool) -> None:
        self._ui.pointsPlaceWidget.setPlaceModeEnabled(checked)
        self._refresh()

    def _on_place_again(self) -> None:
        if self._lesion is not None and self._table.selected is not None:
            self._lesion.points_node.UnsetNthControlPointPosition(self._table.selected)
        self._on_place_points(True)

    def _on_clear_points(self) -> None:
        if self._lesion is not None:
            self._lesion.points_node.UnsetAllControlPoints()

    def _on_tumor_clicks(self, checked: bool) -> None:
        self._place_clicks(True, checked)

    def _on_background_clicks(self, checked: bool) -> None:
        self._place_clicks(False, checked)

    def _place_clicks(self, tumor: bool, checked: bool) -> None:
        place = self._ui.clicksPlaceWidget
        if checked and self._lesion is not None:
            place.setCurrentNode(self._lesion.click_node(tumor))
        place.setPlaceModeEnabled(checked)
        self._refresh()

    def _on_clear_clicks(self) -> None:
        if self._lesion is not None:
            self._lesion.clear_clicks()
