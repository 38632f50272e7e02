"""The page Maps and habitats: feature maps as volumes, habitats as a segmentation."""

from __future__ import annotations

from RadiomicsPanelLib.inslicer.page import Page


class MapsPage(Page):
    """The page Maps."""

    ui_name = "RadiomicsPanelMaps"
