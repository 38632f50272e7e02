"""The page Maps and habitats, first part: feature maps as volumes over their image."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.panel import showing_errors
from slicer.i18n import tr as _

from RadiomicsPanelLib.inslicer.labels import say
from RadiomicsPanelLib.inslicer.mapping import map_nodes, mappable, show_map
from RadiomicsPanelLib.inslicer.page import Page


class MapsPage(Page):
    """Chooses features and kernel, makes maps of the segments of the page Data, and shows one of them."""

    ui_name = "RadiomicsPanelMaps"

    def setup(self) -> None:
        """Fill the tree of features and connect."""
        self._shown: list[str] = []  # ids of the maps on offer
        tree = self.ui.mapFeaturesTree
        tree.header().setStretchLastSection(False)
        tree.header().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for family, features in mappable().items():
            parent = qt.QTreeWidgetItem()
            tree.addTopLevelItem(parent)
            parent.setText(0, family)
            parent.setFlags(parent.flags() | qt.Qt.ItemIsUserCheckable | qt.Qt.ItemIsAutoTristate)
            for feature in features:
                item = qt.QTreeWidgetItem()
                parent.addChild(item)
                item.setText(0, feature.name.replace("_", " "))
                item.setText(1, feature.unit.replace("I", _("intensity")))
                item.setToolTip(0, feature.reference)
                item.setData(0, qt.Qt.UserRole, feature.key)
                item.setCheckState(0, qt.Qt.Unchecked)
        tree.connect("itemChanged(QTreeWidgetItem*,int)", self.on_feature_checked)
        self.ui.mapShowComboBox.connect("activated(int)", self.on_show)
        self.forget()
        self.make_job(self.ui.mapsRunButton, self.ui.mapsProgressBar, self.make)

    def problem(self) -> str:
        """Return what keeps the maps from being made."""
        problem = input_problem(self)
        return problem or ("" if self.parameters.mapFeatures else _("Check at least one feature to map."))

    def update(self) -> None:
        """Show the choices and the maps there are."""
        say(self.ui.mapsInputLabel, describe_input(self))
        checked = set(self.parameters.mapFeatures)
        tree = self.ui.mapFeaturesTree
        was_blocked = tree.blockSignals(True)
        for item in self._items():
            wanted = qt.Qt.Checked if item.data(0, qt.Qt.UserRole) in checked else qt.Qt.Unchecked
            if item.checkState(0) != wanted:
                item.setCheckState(0, wanted)
        tree.blockSignals(was_blocked)
        self._show_choices()

    def forget(self) -> None:
        """Drop the text about the last run."""
        say(self.ui.mapsResultLabel, "")

    def make(self) -> None:
        """Make the maps and show the first."""
        p, panel = self.parameters, self.panel
        inputs = (p.image, p.segmentation, panel.chosenIds(), list(p.mapFeatures), panel.settings())
        kernel = (p.mapRadius, p.mapAggregation.value, p.mapOnImageGrid)
        done = self.run(
            lambda progress: self.logic.maps(*inputs, *kernel, progress=progress), _("The maps were not made.")
        )
        if done is None:
            return
        say(self.ui.mapsResultLabel, "\n".join(describe_maps(maps) for maps in done.maps))
        show_map(done.nodes[0], p.image)
        panel.refresh()
        self.ui.mapShowComboBox.setCurrentIndex(self._shown.index(done.nodes[0].GetID()))

    def on_feature_checked(self, item: Any, column: int) -> None:
        """Keep the checked features."""
        if self.parameters is not None:
            self.parameters.mapFeatures = [
                one.data(0, qt.Qt.UserRole) for one in self._items() if one.checkState(0) == qt.Qt.Checked
            ]

    def on_show(self, index: int) -> None:
        """Show a map over its image."""
        node = slicer.mrmlScene.GetNodeByID(self._shown[index])
        if self.parameters is not None and node is not None:
            with showing_errors(_("The map was not shown.")):
                show_map(node, self.parameters.image)

    def _items(self) -> list[Any]:
        tree = self.ui.mapFeaturesTree
        parents = [tree.topLevelItem(n) for n in range(tree.topLevelItemCount)]
        return [parent.child(n) for parent in parents for n in range(parent.childCount())]

    def _show_choices(self) -> None:
        p, box = self.parameters, self.ui.mapShowComboBox
        nodes = map_nodes(p.image, p.segmentation)
        ids = [node.GetID() for node in nodes]
        if ids != self._shown or [box.itemText(n) for n in range(box.count)] != [node.GetName() for node in nodes]:
            self._shown = ids
            box.clear()
            box.addItems([node.GetName() for node in nodes])
        box.enabled = bool(ids)


def input_problem(page: Page) -> str:
    """Return what is wrong with image, segments or settings, which stand on other pages, or nothing."""
    p = page.parameters
    try:
        page.logic.chosenSegments(p.segmentation, page.panel.chosenIds())
        page.panel.settings()
    except InputError as error:
        return str(error)
    return "" if p.image is not None else _("Choose an image on the page Data.")


def describe_input(page: Page) -> str:
    """Return which image and segments a page works on."""
    problem = input_problem(page)
    if problem:
        return problem
    p = page.parameters
    names = page.logic.chosenSegments(p.segmentation, page.panel.chosenIds()).values()
    return _("{image}: {segments}. Settings: {settings}.").format(
        image=p.image.GetName(), segments=", ".join(names), settings=page.panel.settings().name
    )


def describe_maps(maps: Any) -> str:
    """Return what a person should know about the maps of a segment."""
    import numpy as np

    size = np.array(maps.roi.spacing[::-1]) * (2 * maps.radius + 1)
    count = _("one map") if len(maps.values) == 1 else _("{count} maps").format(count=len(maps.values))
    text = _("{segment}: {maps} of {voxels} voxels, kernel {size} mm.").format(
        segment=maps.roi.segment,
        maps=count,
        voxels=len(maps.roi.intensities),
        size=" x ".join(f"{s:.3g}" for s in size),
    )
    empty = [column for column, values in maps.values.items() if not np.isfinite(values).any()]
    if empty:
        text += " " + _("Nowhere applicable: {columns}.").format(columns=", ".join(empty))
    return " ".join([text, *maps.roi.notes])
