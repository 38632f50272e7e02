"""The page Features: the catalog by the categories of the review, and the filtered images to measure too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import qt
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.panel import showing_errors
from slicer.i18n import tr as _

from RadiomicsPanelLib.catalog import FAMILIES
from RadiomicsPanelLib.feature import Category, Family, Feature
from RadiomicsPanelLib.filters import KINDS, Filter, filter_from_dict, filter_to_dict, wavelet_bands
from RadiomicsPanelLib.inslicer.edited_settings import json_or_text
from RadiomicsPanelLib.inslicer.page import Page

CATEGORIES: dict[Category, str] = {
    "morphological": _("Morphological"),
    "statistical": _("Statistical"),
    "regional": _("Regional"),
    "skeleton": _("Skeleton"),
}

FILTERS = {
    "mean": _("Mean"),
    "log": _("Laplacian of Gaussian"),
    "wavelet": _("Wavelet: all eight bands"),
    "laws": _("Laws energy"),
    "gabor": _("Gabor"),
    "gradient": _("Gradient magnitude (not standardized)"),
    "lbp": _("Local binary pattern (not standardized)"),
}


class FeaturesPage(Page):
    """What is computed."""

    def setup(self) -> None:
        """Fill the tree of features and the list of filters, and connect."""
        tree = self.ui.featuresTree
        tree.header().setStretchLastSection(False)
        tree.header().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for column, width in ((1, 50), (2, 80)):  # pixels
            tree.setColumnWidth(column, width)
        for category, title in CATEGORIES.items():
            of_category = [(f, [x for x in f.features if x.category == category]) for f in FAMILIES]
            top = qt.QTreeWidgetItem()
            tree.addTopLevelItem(top)
            top.setText(0, f"{title} ({sum(len(features) for _family, features in of_category)})")
            for family, features in of_category:
                if features:
                    _add_family(top, family, features)
            top.setExpanded(True)
        tree.connect("itemChanged(QTreeWidgetItem*,int)", self._on_checked)
        tree.connect("currentItemChanged(QTreeWidgetItem*,QTreeWidgetItem*)", self._on_selected)
        ui = self.ui
        for kind, title in FILTERS.items():
            ui.filterKindComboBox.addItem(title, kind)
        ui.addFilterButton.connect("clicked()", self._on_add)
        ui.removeFilterButton.connect("clicked()", self._on_remove)
        ui.filtersListWidget.connect("currentRowChanged(int)", lambda row: self._show_numbers())
        ui.filterTable.setHorizontalHeaderLabels([_("Setting"), _("Value")])
        ui.filterTable.horizontalHeader().setStretchLastSection(True)
        ui.filterTable.connect("cellChanged(int,int)", self._on_number)
        ui.filterCountSpinBox.setKeyboardTracking(False)
        ui.filterCountSpinBox.connect("valueChanged(int)", self._on_count)
        self._labels: list[str] | None = None

    def problem(self) -> str:
        """Return what is missing here before features can be computed."""
        all_excluded = {family.name for family in FAMILIES} <= set(self.parameters.excludedFamilies)
        return _("Check at least one family of features.") if all_excluded else ""

    def update(self) -> None:
        """Show which families are checked, and the filters of the settings."""
        tree = self.ui.featuresTree
        was_blocked = tree.blockSignals(True)
        for item in self._family_items():
            excluded = item.data(0, qt.Qt.UserRole) in self.parameters.excludedFamilies
            item.setCheckState(0, qt.Qt.Unchecked if excluded else qt.Qt.Checked)
        tree.blockSignals(was_blocked)
        filters = self._filters()
        self.ui.filtersWidget.enabled = filters is not None
        listed = self.ui.filtersListWidget
        labels = [f"{f.label}{'' if f.standardized else _(' (not standardized)')}" for f in filters or ()]
        if labels != self._labels:
            self._labels = labels
            was_blocked, row = listed.blockSignals(True), listed.currentRow
            listed.clear()
            listed.addItems(labels)
            listed.currentRow = min(max(row, 0), len(labels) - 1)
            listed.blockSignals(was_blocked)
            self._show_numbers()
        if filters is not None:
            was_blocked = self.ui.filterCountSpinBox.blockSignals(True)
            self.ui.filterCountSpinBox.setValue(self.panel.anySettings().filter_bin_count)
            self.ui.filterCountSpinBox.blockSignals(was_blocked)
        self.ui.removeFilterButton.enabled = bool(filters) and listed.currentRow >= 0

    # Families

    def _family_items(self) -> Iterator[Any]:
        tree = self.ui.featuresTree
        for n in range(tree.topLevelItemCount):
            top = tree.topLevelItem(n)
            for m in range(top.childCount()):
                yield top.child(m)

    def _on_checked(self, item: Any, column: int) -> None:
        name = item.data(0, qt.Qt.UserRole)
        if self.parameters is None or name is None:
            return
        excluded = [family for family in self.parameters.excludedFamilies if family != name]
        if item.checkState(0) == qt.Qt.Unchecked:
            excluded.append(name)
        self.parameters.excludedFamilies = excluded

    def _on_selected(self, item: Any, before: Any = None) -> None:
        self.ui.featureLabel.text = "" if item is None else item.toolTip(0)

    # Filters

    def _filters(self) -> tuple[Filter, ...] | None:
        try:
            return getattr(self.panel.anySettings(), "filters", None)
        except InputError:
            return None

    def _change(self, filters: tuple[Filter, ...]) -> None:
        self.panel.edit(replace(self.panel.anySettings(), filters=filters))

    def _on_add(self) -> None:
        kind = self.ui.filterKindComboBox.currentData
        with showing_errors(_("The filter was not added.")):
            added = wavelet_bands() if kind == "wavelet" else (KINDS[kind](),)
            self._change((*(self._filters() or ()), *added))
            self.ui.filtersListWidget.currentRow = len(self._filters() or ()) - 1

    def _on_remove(self) -> None:
        row = self.ui.filtersListWidget.currentRow
        self._change(tuple(f for n, f in enumerate(self._filters() or ()) if n != row))

    def _on_count(self, count: int) -> None:
        if self.parameters is not None:
            self.panel.edit(replace(self.panel.anySettings(), filter_bin_count=count))

    def _show_numbers(self) -> None:
        """Show the settings of the selected filter."""
        row, table = self.ui.filtersListWidget.currentRow, self.ui.filterTable
        filters = self._filters() or ()
        chosen = filters[row] if 0 <= row < len(filters) else None
        values = filter_to_dict(chosen) if chosen is not None else {}
        names = [field.name for field in fields(chosen)] if chosen is not None else []
        was_blocked = table.blockSignals(True)
        table.setRowCount(len(names))
        for n, name in enumerate(names):
            label = qt.QTableWidgetItem(name.replace("_", " "))
            label.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
            label.setData(qt.Qt.UserRole, name)
            table.setItem(n, 0, label)
            value = values[name]
            table.setItem(n, 1, qt.QTableWidgetItem(value if isinstance(value, str) else json.dumps(value)))
        table.blockSignals(was_blocked)
        self.ui.removeFilterButton.enabled = chosen is not None

    def _on_number(self, n: int, column: int) -> None:
        """Take the changed value of the selected filter; what is not possible is said and not taken."""
        row, table = self.ui.filtersListWidget.currentRow, self.ui.filterTable
        filters = list(self._filters() or ())
        name, text = table.item(n, 0).data(qt.Qt.UserRole), table.item(n, 1).text()
        with showing_errors(_("The filter was not changed.")):
            filters[row] = filter_from_dict(filter_to_dict(filters[row]) | {name: json_or_text(text)})
            self._change(tuple(filters))
        self._show_numbers()


def _add_family(top: Any, family: Family, features: list[Feature]) -> None:
    item = qt.QTreeWidgetItem()
    top.addChild(item)
    item.setText(0, f"{family.title} ({len(features)})")
    item.setFlags(item.flags() | qt.Qt.ItemIsUserCheckable)
    item.setData(0, qt.Qt.UserRole, family.name)
    item.setCheckState(0, qt.Qt.Checked)
    responses = (
        _("in filtered images too") if family.of_responses else _("in the image itself only: filters keep the shape")
    )
    codes = sum(f.standardized for f in features)
    item.setToolTip(
        0,
        _("{title}: {n} features, {codes} of them IBSI's; {responses}.").format(
            title=family.title, n=len(features), codes=codes, responses=responses
        ),
    )
    for feature in features:
        child = qt.QTreeWidgetItem()
        item.addChild(child)
        child.setText(0, feature.name.replace("_", " "))
        child.setText(1, feature.ibsi or "-")
        child.setText(2, feature.unit.replace("I", _("intensity")))
        child.setToolTip(0, describe_feature(feature))


def describe_feature(feature: Feature) -> str:
    """Return what a feature is, with its place in IBSI, for people."""
    meaning = " ".join((feature.compute.__doc__ or "").split("\n\n")[0].split())
    lines = [f"{feature.key}: {meaning}" if meaning else feature.key]
    code = _("IBSI code {code}").format(code=feature.ibsi) if feature.ibsi else _("Not defined by IBSI")
    unit = feature.unit.replace("I", _("intensity"))
    lines.append(_("{code}. Unit {unit}. {reference}.").format(code=code, unit=unit, reference=feature.reference))
    if feature.duplicate_of:
        lines.append(_("Equals {other} by algebra, up to a factor.").format(other=feature.duplicate_of))
    return "\n".join(lines)
