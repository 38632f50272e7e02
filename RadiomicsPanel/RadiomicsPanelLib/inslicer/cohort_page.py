"""The page Cohort: features of many cases, and statistics on them."""

from __future__ import annotations

from RadiomicsPanelLib.inslicer.page import Page


class CohortPage(Page):
    """The page Cohort."""

    ui_name = "RadiomicsPanelCohort"
