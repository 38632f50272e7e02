"""The page Preparation: every number of the settings with its reason, and what it does to the chosen segments."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import qt
import slicer
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.live import LatestWins
from BreastBiomarkersLib.inslicer.panel import showing_errors
from BreastBiomarkersLib.progress import Progress
from slicer.i18n import tr as _

from RadiomicsPanelLib.feature import AGGREGATIONS
from RadiomicsPanelLib.inslicer.edited_settings import edited_names, json_or_text, settings_record
from RadiomicsPanelLib.inslicer.page import Page
from RadiomicsPanelLib.inslicer.picture import draw_histogram
from RadiomicsPanelLib.inslicer.sources import image_version, mask_version
from RadiomicsPanelLib.roi import Case, LevelPreview
from RadiomicsPanelLib.settings import MAX_LEVELS, Settings, settings_to_dict

PICTURE_HEIGHT = 190  # pixels

REASONS = {
    "spacing_kji_mm": _(
        "Voxel size to resample to. Texture compares neighbors, so all images need voxels of one size, and 3-D "
        "textures cubes. 0 keeps the size along that axis."
    ),
    "interpolation": _("Of the image; cubic keeps edges sharper, linear never overshoots. The mask is always linear."),
    "round_intensities": _("Round to whole numbers after resampling, as Hounsfield units are."),
    "lower": _(
        "Voxels below are left out of everything but the shape, and bins of a fixed width are counted from here. "
        "Empty: no limit, bins count from the segment's minimum and depend on it."
    ),
    "upper": _("Voxels above are left out of everything but the shape. Empty: no limit."),
    "outlier_sigma": _(
        "Leave out voxels farther than so many standard deviations from the segment's mean, such as vessels and "
        "artifacts. 0: keep all."
    ),
    "discretization": _(
        "A fixed bin width keeps the meaning of a gray level where intensities are absolute (HU, SUV, maps); a fixed "
        "number of bins makes arbitrary intensities (MR) comparable."
    ),
    "bin_width": _("In the image's unit. Aim at 16 to 128 gray levels in the segment."),
    "bin_count": _("Gray levels between the segment's minimum and maximum: 16 to 128, at most 1024."),
    "ivh_discretization": _("The same for the intensity-volume histogram; as they are: 1000 bins if continuous."),
    "ivh_bin_width": _("Bin width of the intensity-volume histogram, in the image's unit."),
    "ivh_bin_count": _("Number of bins of the intensity-volume histogram; IBSI takes 1000."),
    "aggregations": _(
        "How texture of several slices and directions becomes one number. 3-D needs slices about as thick as pixels; "
        "2-D or 2.5-D if slices are more than twice as thick. Averaged: mean of the features of each direction; "
        "merged: features of the matrix of all directions."
    ),
    "intensity_unit": _("Unit of the image's intensities, for the tables."),
    "filter_bin_count": _("Gray levels of a filtered image: its values have no unit to choose a bin width in."),
}
"""Why there is each setting; shown with the preset's value and reason."""


PUBLISHED: dict[str, tuple[Any, str]] = {
    "binWidth": (25.0, _("Bin width in the image's unit, counted from a multiple of it below the segment's minimum.")),
    "binCount": (None, _("Number of bins instead of a width; null for the width.")),
    "resampledPixelSpacing": (None, _("Voxel size in mm along I, J, K, such as [1, 1, 1]; null keeps the source's.")),
    "normalize": (False, _("Scale the whole image to mean 0 and standard deviation normalizeScale first.")),
    "normalizeScale": (1.0, _("Standard deviation after normalizing.")),
    "resegmentRange": (None, _("Lower and upper limit of the intensities, such as [-3, 3]; null keeps all.")),
    "resegmentMode": ("absolute", _("What the limits are: absolute, relative to the maximum, or sigma.")),
    "weightingNorm": (None, _("no_weighting merges the matrices of all directions; null averages their features.")),
    "force2D": (False, _("Look for neighbors inside slices only.")),
    "voxelArrayShift": (0.0, _("Added to intensities before squaring, in the energy features.")),
    "padDistance": (5, _("Resampled voxels kept around the segment.")),
    "imageType": ({}, _('Image types and their settings, such as {"Original": {}, "LoG": {"sigma": [2.0]}}.')),
}
"""Settings of pyradiomics that change values: its default, and what it is for."""


class _Editor(NamedTuple):
    """One widget of a setting: how it shows the setting, and how the edited setting is made from it."""

    name: str
    show: Callable[[Settings], None]
    take: Callable[[Settings], Any]


class PreparationPage(Page):
    """How regions are prepared, with the live helper."""

    def setup(self) -> None:
        """Connect the editors, and the thread that previews."""
        self._editors: dict[str, _Editor] = {}
        self._asked: Any = None
        self._previews: list[tuple[str, LevelPreview | str]] = []
        self.live = LatestWins(self._on_preview, self._on_failed)
        ui = self.ui
        for n, name in enumerate(("spacingKSpinBox", "spacingJSpinBox", "spacingISpinBox")):
            self._number(getattr(ui, name), "spacing_kji_mm", partial(_spacing_along, n), self._take_spacing)
        self._choice(ui.interpolationComboBox, "interpolation", {"linear": _("linear"), "cubic": _("cubic B-spline")})
        self._check(ui.roundCheckBox, "round_intensities")
        self._limit(ui.lowerLineEdit, "lower")
        self._limit(ui.upperLineEdit, "upper")
        self._number(
            ui.outlierSpinBox,
            "outlier_sigma",
            lambda s: s.outlier_sigma or 0.0,
            lambda s: ui.outlierSpinBox.value or None,
        )
        kinds = {
            "bin_width": _("fixed bin width"),
            "bin_count": _("fixed number of bins"),
            "none": _("are gray levels"),
        }
        self._choice(ui.discretizationComboBox, "discretization", kinds)
        self._choice(ui.ivhComboBox, "ivh_discretization", kinds | {"none": _("as they are")})
        self._bins(ui.binWidthSpinBox, ui.binCountSpinBox, "")
        self._bins(ui.ivhWidthSpinBox, ui.ivhCountSpinBox, "ivh_")
        for aggregation in AGGREGATIONS:
            box = self._aggregation_box(aggregation)
            show = partial(_show_aggregation, box, aggregation)
            self._add(box, "aggregations", "toggled(bool)", show, self._take_aggregations)
        self._add(
            ui.unitLineEdit,
            "intensity_unit",
            "editingFinished()",
            lambda s: setattr(ui.unitLineEdit, "text", s.intensity_unit),
            lambda s: ui.unitLineEdit.text.strip() or "a.u.",
        )
        ui.publishedTable.setHorizontalHeaderLabels([_("Setting of pyradiomics"), _("Value")])
        ui.publishedTable.verticalHeader().hide()
        ui.publishedTable.horizontalHeader().setStretchLastSection(True)
        ui.publishedTable.setRowCount(len(PUBLISHED))
        ui.publishedTable.connect("cellChanged(int,int)", self._on_published_edited)
        ui.saveSettingsButton.connect("clicked()", self._on_save)
        ui.previewTable.setHorizontalHeaderLabels(
            [_("Segment"), _("Before [ml]"), _("After [ml]"), _("Voxels"), _("Levels"), _("Voxels/level")]
        )
        ui.previewTable.verticalHeader().hide()
        self.follow_width(ui.histogramLabel, lambda: self._draw(ui.previewTable.currentRow()))
        ui.previewTable.connect("currentCellChanged(int,int,int,int)", lambda row, *rest: self._draw(row))

    def cleanup(self) -> None:
        """Stop the thread."""
        self.live.close()
        super().cleanup()

    def forget(self) -> None:
        """Drop the preview."""
        self.live.cancel()
        self._asked, self._previews = None, []
        self.ui.previewTable.setRowCount(0)
        self.ui.histogramLabel.clear()
        self.ui.previewStatusLabel.text = ""

    def update(self) -> None:
        """Show the settings and ask for a preview of what they do."""
        try:
            settings = self.panel.anySettings()
        except InputError as error:
            self.ui.previewStatusLabel.text = str(error)
            return
        own = hasattr(settings, "discretization")
        self.ui.editorsWidget.setVisible(own)
        self.ui.publishedTable.setVisible(not own)
        if own:
            self._show(settings)
        else:
            self._show_published(settings)
        self._preview(settings)

    # Editors

    def _show(self, settings: Settings) -> None:
        base, edits = self.panel.baseSettings(), self.parameters.edits
        changed, preset = edited_names(base, edits), settings_to_dict(base)
        for widget_name, editor in self._editors.items():
            widget = getattr(self.ui, widget_name)
            was_blocked = widget.blockSignals(True)
            editor.show(settings)
            widget.blockSignals(was_blocked)
            tip = f"{REASONS[editor.name]}\n\n{base.name}: {preset[editor.name]}. {base.reason}"
            widget.toolTip = _("Edited. ") + tip if editor.name in changed else tip
        ui = self.ui
        ui.binWidthSpinBox.setVisible(settings.discretization == "bin_width")
        ui.binCountSpinBox.setVisible(settings.discretization == "bin_count")
        ui.ivhWidthSpinBox.setVisible(settings.ivh_discretization == "bin_width")
        ui.ivhCountSpinBox.setVisible(settings.ivh_discretization == "bin_count")

    def _show_published(self, parameters: Any) -> None:
        table, record = self.ui.publishedTable, settings_record(parameters)
        given = record["setting"] | {"imageType": record["imageType"]}
        was_blocked = table.blockSignals(True)
        for row, (name, (default, reason)) in enumerate(PUBLISHED.items()):
            label = qt.QTableWidgetItem(name)
            label.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
            value = given.get(name, default)
            item = qt.QTableWidgetItem(value if isinstance(value, str) else json.dumps(value))
            for column, cell in enumerate((label, item)):
                cell.setToolTip(f"{reason}\n\n{_('Default')}: {json.dumps(default)}")
                table.setItem(row, column, cell)
        table.resizeColumnToContents(0)
        table.blockSignals(was_blocked)

    def _on_published_edited(self, row: int, column: int) -> None:
        """Make parameters with the changed value; what is not possible is said and not taken."""
        name, parameters = list(PUBLISHED)[row], self.panel.anySettings()
        with showing_errors(_("The setting was not changed.")):
            value = json_or_text(self.ui.publishedTable.item(row, column).text())
            self.panel.edit(self.logic.changePublished(parameters, name, value))
        self._show_published(self.panel.anySettings())

    def _add(
        self,
        widget: Any,
        name: str,
        signal: str,
        show: Callable[[Settings], None],
        take: Callable[[Settings], Any],
    ) -> None:
        self._editors[widget.name] = _Editor(name, show, take)
        key = widget.name
        widget.connect(signal, lambda: self._on_edited(key))

    def _number(
        self, widget: Any, name: str, value: Callable[[Settings], float], take: Callable[[Settings], Any]
    ) -> None:
        widget.setKeyboardTracking(False)  # not at every digit
        self._add(widget, name, "valueChanged(double)", lambda s: widget.setValue(value(s)), take)

    def _choice(self, widget: Any, name: str, choices: dict[str, str]) -> None:
        values = list(choices)
        widget.addItems(list(choices.values()))
        self._add(
            widget,
            name,
            "currentIndexChanged(int)",
            lambda s: setattr(widget, "currentIndex", values.index(getattr(s, name))),
            lambda s: values[widget.currentIndex],
        )

    def _check(self, widget: Any, name: str) -> None:
        self._add(
            widget,
            name,
            "toggled(bool)",
            lambda s: setattr(widget, "checked", getattr(s, name)),
            lambda s: widget.checked,
        )

    def _limit(self, widget: Any, name: str) -> None:
        def show(settings: Settings) -> None:
            value = getattr(settings, name)
            widget.text = "" if value is None else f"{value:g}"

        def take(settings: Settings) -> float | None:
            text = widget.text.strip().replace(",", ".")
            try:
                return float(text) if text else None
            except ValueError as error:
                raise InputError(
                    _("'{text}' is no number. Leave the limit empty for none.").format(text=text)
                ) from error

        self._add(widget, name, "editingFinished()", show, take)

    def _bins(self, width: Any, count: Any, prefix: str) -> None:
        self._number(
            width,
            f"{prefix}bin_width",
            lambda s: getattr(s, f"{prefix}bin_width") or width.minimum,
            lambda s: width.value if getattr(s, f"{prefix}discretization") == "bin_width" else None,
        )
        self._add(
            count,
            f"{prefix}bin_count",
            "valueChanged(int)",
            lambda s: count.setValue(getattr(s, f"{prefix}bin_count") or count.minimum),
            lambda s: count.value if getattr(s, f"{prefix}discretization") == "bin_count" else None,
        )
        count.setKeyboardTracking(False)

    def _aggregation_box(self, aggregation: str) -> Any:
        return getattr(self.ui, f"aggregation{aggregation}CheckBox")

    def _take_aggregations(self, settings: Settings) -> tuple[str, ...]:
        return tuple(aggregation for aggregation in AGGREGATIONS if self._aggregation_box(aggregation).checked)

    def _take_spacing(self, settings: Settings) -> tuple[float | None, ...] | None:
        sizes = [getattr(self.ui, f"spacing{axis}SpinBox").value or None for axis in "KJI"]
        return tuple(sizes) if any(sizes) else None

    def _on_edited(self, widget_name: str) -> None:
        """Make settings with what the user changed; what is not possible is said and not taken."""
        if self.parameters is None:
            return
        editor, settings, edited = self._editors[widget_name], self.panel.anySettings(), None
        with showing_errors(_("The setting was not changed.")):
            changes = {editor.name: editor.take(settings)}
            if editor.name.endswith("discretization"):
                changes |= _first_bins(settings, editor.name.removesuffix("discretization"), changes[editor.name])
            edited = replace(settings, **changes)
        if edited is None:
            self._show(settings)
        else:
            self.panel.edit(edited)

    def _on_save(self) -> None:
        line = self.ui.settingsPathLineEdit
        path = line.currentPath or qt.QFileDialog.getSaveFileName(None, _("Save settings"), "", "*.json *.yaml")
        if not path:
            return
        with showing_errors(_("The settings were not saved.")):
            self.logic.saveSettings(self.panel.anySettings(), path)
            slicer.util.showStatusMessage(_("Saved {path}").format(path=path), 5000)

    # Live helper

    def _preview(self, settings: Any) -> None:
        p = self.parameters
        if self.panel.currentPage() != self.container.name:
            return
        try:
            ids = list(self.logic.chosenSegments(p.segmentation, self.panel.chosenIds()))
            versions = tuple((i, mask_version(p.segmentation, i)) for i in ids)
            question = (p.segmentation.GetID(), image_version(p.image), versions, settings)
        except InputError as error:
            self.forget()
            self.ui.previewStatusLabel.text = str(error)
            return
        if question == self._asked:
            return
        self._asked = question
        image, segmentation = p.image, p.segmentation
        self.live.request(lambda: _work(self.logic.cases(image, segmentation, ids), settings, self.logic.preview))

    def _on_preview(self, previews: list[tuple[str, LevelPreview | str]]) -> None:
        self._previews = previews
        table = self.ui.previewTable
        was_blocked = table.blockSignals(True)
        row = max(table.currentRow(), 0)
        table.setRowCount(len(previews))
        for n, (name, preview) in enumerate(previews):
            for column, text in enumerate([name, *_numbers(preview)]):
                item = qt.QTableWidgetItem(text)
                item.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
                table.setItem(n, column, item)
        table.resizeColumnsToContents()
        row = min(row, len(previews) - 1)
        table.setCurrentCell(row, 0)
        table.blockSignals(was_blocked)
        self._draw(row)

    def _draw(self, row: int) -> None:
        if self.parameters is None or not 0 <= row < len(self._previews):
            return
        name, preview = self._previews[row]
        label = self.ui.histogramLabel
        if isinstance(preview, str):
            label.clear()
            self.ui.previewStatusLabel.text = preview
            return
        if len(preview.counts):
            unit = getattr(self.panel.anySettings(), "intensity_unit", "")
            size = (self.picture_width(), PICTURE_HEIGHT)
            label.setPixmap(draw_histogram(size, label, preview.edges, preview.counts, f"{name} [{unit or '-'}]"))
        else:
            label.clear()
        self.ui.previewStatusLabel.text = "\n".join(preview.warnings)

    def _on_failed(self, error: Exception) -> None:
        self.ui.previewTable.setRowCount(0)
        self._previews = []
        self.ui.histogramLabel.clear()
        self.ui.previewStatusLabel.text = str(error)
        if not isinstance(error, InputError):
            raise error


def _work(cases: Sequence[Case], settings: Any, preview: Callable[[Case, Any], LevelPreview]) -> Any:
    """Return the work of the thread: all previews at once, a refused one as its message."""

    def work(progress: Progress) -> Iterator[list[tuple[str, LevelPreview | str]]]:
        found: list[tuple[str, LevelPreview | str]] = []
        for case in cases:
            progress(0.0, "")
            try:
                found.append((case.segment, preview(case, settings)))
            except InputError as error:
                found.append((case.segment, str(error)))
        yield found

    return work


def _numbers(preview: LevelPreview | str) -> list[str]:
    if isinstance(preview, str):
        return ["-", "-", "-", _("refused"), "-"]
    levels = str(preview.level_count) if preview.level_count <= MAX_LEVELS else f"{preview.level_count} > {MAX_LEVELS}"
    return [
        f"{preview.source_volume_mm3 / 1000:.3g}",
        f"{preview.volume_mm3 / 1000:.3g}",
        str(preview.voxel_count),
        levels,
        f"{preview.voxel_count / preview.level_count:.1f}",
    ]


def _spacing_along(axis: int, settings: Settings) -> float:
    return 0.0 if settings.spacing_kji_mm is None else settings.spacing_kji_mm[axis] or 0.0


def _show_aggregation(box: Any, aggregation: str, settings: Settings) -> None:
    box.checked = aggregation in settings.aggregations


def _first_bins(settings: Settings, prefix: str, kind: str) -> dict[str, Any]:
    """Return a width or count for a newly chosen kind of bins that has none yet."""
    if kind == "bin_width" and getattr(settings, f"{prefix}bin_width") is None:
        return {f"{prefix}bin_width": 25.0}
    if kind == "bin_count" and getattr(settings, f"{prefix}bin_count") is None:
        return {f"{prefix}bin_count": 1000 if prefix else 32}
    return {}
