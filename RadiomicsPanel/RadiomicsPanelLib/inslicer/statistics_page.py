"""The page Cohort statistics, second part: statistics of a features table, and their tables and pictures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import qt
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.panel import showing_errors
from slicer.i18n import tr as _

from RadiomicsPanelLib.inslicer.labels import say
from RadiomicsPanelLib.inslicer.packages import ensure_packages
from RadiomicsPanelLib.inslicer.page import Page
from RadiomicsPanelLib.inslicer.statistics import (
    METHODS,
    MODULE,
    PACKAGES,
    TableColumns,
    command,
    key_figures,
    packages_missing,
    read_columns,
    result_files,
    result_folder,
    table_file_to_node,
)

KEYS = {
    "featuresPathLineEdit": "RadiomicsPanel/statisticsFeatures",
    "clinicalPathLineEdit": "RadiomicsPanel/statisticsClinical",
    "reliabilityPathLineEdit": "RadiomicsPanel/statisticsReliability",
    "statisticsFolderPathLineEdit": "RadiomicsPanel/statisticsFolder",
}
MODELS = {
    "lasso": "LASSO",
    "elastic-net": "Elastic net",
    "pca": "Principal components",
    "random-forest": "Random forest",
}
ICCS = {"1,1": "ICC(1,1), test-retest", "2,1": "ICC(2,1), agreement", "3,1": "ICC(3,1), consistency"}
NO_COLUMNS = TableColumns((), ())


class StatisticsPage(Page):
    """Chooses tables, method and columns, computes in a child process and shows what it wrote."""

    ui_name = "RadiomicsPanelStatistics"

    def setup(self) -> None:
        """Fill the fixed choices, restore the paths and connect."""
        ui = self.ui
        self._columns, self._unreadable = NO_COLUMNS, ""
        self._read: tuple[tuple[str, float], ...] = ()  # tables, and when they were changed
        self._figures: list[Path] = []
        self._tables: list[Any] = []
        self._began = 0.0
        for box, choices in (
            (ui.statisticsMethodComboBox, METHODS),
            (ui.modelComboBox, MODELS),
            (ui.iccComboBox, ICCS),
        ):
            for value, title in choices.items():
                box.addItem(title, value)
        for name, key in KEYS.items():
            line = getattr(ui, name)
            line.currentPath = qt.QSettings().value(key) or ""
            for signal in ("currentPathChanged(QString)", "validInputChanged(bool)"):
                line.connect(signal, self.on_path)
        ui.statisticsMethodComboBox.connect("currentIndexChanged(int)", self.on_choice)
        for box in self._choosers():
            box.connect("currentIndexChanged(int)", self.on_choice)
        ui.modelOutcomeComboBox.connect("currentIndexChanged(int)", self.on_outcome)
        ui.outcomesListWidget.connect("itemChanged(QListWidgetItem*)", self.on_choice)
        ui.installPackagesButton.connect("clicked()", self.on_install)
        ui.figureComboBox.connect("currentIndexChanged(int)", self.on_figure)
        ui.statisticsTableComboBox.connect("currentIndexChanged(int)", self.on_table)
        self.follow_width(ui.figureLabel, lambda: self.on_figure(ui.figureComboBox.currentIndex))
        self.make_job(ui.statisticsRunButton, ui.statisticsProgressBar, self.compute)
        self.forget()

    def problem(self) -> str:
        """Return what keeps the statistics from being computed."""
        if self._unreadable:
            return self._unreadable
        try:
            command(self._method(), self.choices())
        except InputError as error:
            return str(error)
        return ""

    def update(self) -> None:
        """Show the columns of the tables and the options of the method."""
        ui, method = self.ui, self._method()
        self._read_columns(ui.featuresPathLineEdit.currentPath, ui.clinicalPathLineEdit.currentPath)
        for name in METHODS:
            getattr(ui, f"{name}Page").setVisible(name == method)
        ui.clinicalPathLineEdit.enabled = method != "repeatability"
        for name, shown in (
            ("pictureFormatComboBox", method != "harmonize"),
            ("statisticsSeedSpinBox", method in ("model", "survival")),
        ):
            getattr(ui, name).setVisible(shown)
            getattr(ui, f"{name}Caption").setVisible(shown)
        missing = packages_missing(method)
        say(ui.packagesLabel, _("Needs {names}.").format(names=", ".join(missing)) if missing else "")
        ui.installPackagesButton.setVisible(bool(missing))

    def forget(self) -> None:
        """Drop the tables, which go with the scene."""
        self._show_results([], [])
        say(self.ui.statisticsResultLabel, "")
        self._warn([])

    def cleanup(self) -> None:
        """Let go of the table shown."""
        self.ui.statisticsTableView.setMRMLTableNode(None)
        super().cleanup()

    def compute(self) -> None:
        """Start the child process."""
        with showing_errors(_("The statistics were not computed.")):
            method = self._method()
            ensure_packages(*PACKAGES[method])
            arguments = command(method, self.choices())
            folder = result_folder(self.ui.statisticsFolderPathLineEdit.currentPath, method)
            self._began = time.time() - 1.0  # clocks of file systems differ
            say(self.ui.statisticsResultLabel, "")
            self._warn([])
            self.job.start(  # type: ignore[union-attr]  # made in setup
                MODULE, arguments, lambda figures: self.on_done(method, folder, figures), None, self.on_stopped
            )

    def choices(self) -> dict[str, Any]:
        """Return the options of the chosen method, as `command` takes them."""
        ui, method = self.ui, self._method()
        chosen: dict[str, Any] = {
            "table": ui.featuresPathLineEdit.currentPath,
            "segment": _data(ui.statisticsSegmentComboBox),
            "output": ui.statisticsFolderPathLineEdit.currentPath,
        }
        if method != "repeatability":
            chosen["clinical"] = ui.clinicalPathLineEdit.currentPath
        if method != "harmonize" and ui.pictureFormatComboBox.currentIndex == 1:
            chosen["figure-format"] = "both"
        if method == "associate":
            return chosen | {
                "outcome": _checked(ui.outcomesListWidget),
                "correlation": ui.correlationComboBox.currentText,
            }
        if method == "repeatability":
            chosen |= {"repeat": _data(ui.repeatComboBox), "model": _data(ui.iccComboBox)}
            return chosen | {"draw": _data(ui.blandAltmanComboBox)}
        if method == "harmonize":
            chosen |= {"batch": _data(ui.batchComboBox), "covariate": _checked(ui.covariatesListWidget)}
            return chosen | {"training": ui.trainingLineEdit.text.strip()}
        chosen["seed"] = ui.statisticsSeedSpinBox.value
        if method == "model":
            return chosen | {
                "outcome": _data(ui.modelOutcomeComboBox),
                "positive": _data(ui.positiveComboBox),
                "method": _data(ui.modelComboBox),
                "scanner": _data(ui.modelScannerComboBox),
                "reliability": ui.reliabilityPathLineEdit.currentPath,
                "folds": ui.foldsSpinBox.value,
                "repeats": ui.repeatsSpinBox.value,
                "permutations": ui.permutationsSpinBox.value,
                "bootstraps": ui.bootstrapsSpinBox.value,
            }
        return chosen | {
            "time": _data(ui.timeComboBox),
            "event": _data(ui.eventComboBox),
            "by": _data(ui.survivalByComboBox),
            "cut": ui.cutLineEdit.text.strip().replace(",", "."),
            "time-unit": ui.timeUnitLineEdit.text.strip(),
            "penalized": ui.penalizedCheckBox.checked,
        }

    def on_path(self) -> None:
        """Keep the paths of this computer."""
        for name, key in KEYS.items():
            qt.QSettings().setValue(key, getattr(self.ui, name).currentPath)
        self.panel.refresh()

    def on_choice(self) -> None:
        """Follow a choice."""
        self.panel.refresh()

    def on_outcome(self) -> None:
        """Offer the values of the chosen outcome."""
        values = self._columns.values(_data(self.ui.modelOutcomeComboBox))
        _fill(self.ui.positiveComboBox, [(value, value) for value in reversed(values)] if len(values) == 2 else [])

    def on_install(self) -> None:
        """Install what the method needs."""
        with showing_errors(_("The packages were not installed.")):
            ensure_packages(*PACKAGES[self._method()])
        self.panel.refresh()

    def on_done(self, method: str, folder: Path, figures: dict[str, Any]) -> None:
        """Show what the child process found and wrote."""
        say(self.ui.statisticsResultLabel, key_figures(method, figures))
        self._warn(figures.get("warnings", []))
        with showing_errors(_("The results cannot be shown.")):
            pictures, tables = result_files(folder, self._began)
            self._show_results(pictures, [table_file_to_node(path) for path in tables])

    def on_stopped(self, message: str) -> None:
        """Say that there is no result."""
        say(self.ui.statisticsResultLabel, message)

    def on_figure(self, index: int) -> None:
        """Show a picture as wide as the panel."""
        label = self.ui.figureLabel
        label.setVisible(0 <= index < len(self._figures))
        if not 0 <= index < len(self._figures):
            return
        pixmap = qt.QPixmap(str(self._figures[index]))
        width = min(self.picture_width(), pixmap.width())
        label.setPixmap(pixmap.scaledToWidth(width, qt.Qt.SmoothTransformation))
        label.toolTip = str(self._figures[index])

    def on_table(self, index: int) -> None:
        """Show a table."""
        shown = 0 <= index < len(self._tables)
        self.ui.statisticsTableView.setVisible(shown)
        self.ui.statisticsTableView.setMRMLTableNode(self._tables[index] if shown else None)

    def _method(self) -> str:
        return _data(self.ui.statisticsMethodComboBox)

    def _choosers(self) -> list[Any]:
        """Return the boxes that offer one column."""
        ui = self.ui
        names = ("repeat", "batch", "modelOutcome", "modelScanner", "time", "event", "survivalBy", "statisticsSegment")
        return [getattr(ui, f"{name}ComboBox") for name in names]

    def _read_columns(self, features: str, clinical: str) -> None:
        """Offer the columns of tables that changed, keeping what was chosen where it is still there."""
        read = tuple((path, _changed_s(path)) for path in (features, clinical))
        if read == self._read:
            return
        self._read, self._unreadable, self._columns = read, "", NO_COLUMNS
        try:
            if features:
                self._columns = read_columns(features, clinical)
        except InputError as error:
            self._unreadable = str(error)
        ui, found = self.ui, self._columns
        clinical_names = [(c.name, c.name) for c in found.clinical]
        few = [(c.name, c.name) for c in found.clinical if c.values]
        numbers = [(c.name, c.name) for c in found.clinical if not c.is_text]
        features_offered = [(c.name, c.name) for c in found.numeric]
        none, choose = [(_("none"), "")], [(_("choose"), "")]
        two = [(c.name, c.name) for c in found.clinical if len(c.values) == 2]
        for box, offered in (
            (ui.repeatComboBox, sorted(few, key=lambda pair: pair[0] != "copy") or choose),
            (ui.blandAltmanComboBox, none + features_offered),
            (ui.batchComboBox, choose + few),
            (ui.modelOutcomeComboBox, choose + two),
            (ui.modelScannerComboBox, none + few),
            (ui.timeComboBox, choose + numbers),
            (ui.eventComboBox, choose + two),
            (ui.survivalByComboBox, none + [pair for pair in few if pair not in features_offered] + features_offered),
            (ui.statisticsSegmentComboBox, [(_("all"), ""), *((name, name) for name in found.segments)]),
        ):
            _fill(box, offered)
        for widget in (ui.outcomesListWidget, ui.covariatesListWidget):
            _fill_checkable(widget, [name for name, _value in clinical_names])
        self.on_outcome()

    def _show_results(self, pictures: list[Path], tables: list[Any]) -> None:
        self._figures, self._tables = pictures, tables
        ui = self.ui
        _fill(ui.figureComboBox, [(path.stem.replace("_", " "), str(path)) for path in pictures])
        _fill(ui.statisticsTableComboBox, [(node.GetName(), node.GetID()) for node in tables])
        ui.figureComboBox.setVisible(bool(pictures))
        ui.statisticsTableComboBox.setVisible(bool(tables))
        self.on_figure(ui.figureComboBox.currentIndex)
        self.on_table(ui.statisticsTableComboBox.currentIndex)

    def _warn(self, warnings: list[str]) -> None:
        say(self.ui.statisticsWarningsLabel, "\n".join(_("Warning: {text}").format(text=text) for text in warnings))


def _data(box: Any) -> str:
    """Return the value behind the chosen item."""
    return str(box.itemData(box.currentIndex) or "")


def _changed_s(path: str) -> float:
    """Return when a file was changed, in seconds; 0 where there is none."""
    return Path(path).stat().st_mtime if Path(path).is_file() else 0.0


def _checked(widget: Any) -> list[str]:
    items = [widget.item(n) for n in range(widget.count)]
    return [item.text() for item in items if item.checkState() == qt.Qt.Checked]


def _fill(box: Any, choices: list[tuple[str, str]]) -> None:
    """Offer titles with values; what was chosen stays chosen where it is still offered."""
    before = _data(box)
    was_blocked = box.blockSignals(True)
    box.clear()
    for title, value in choices:
        box.addItem(title, value)
    values = [value for _title, value in choices]
    box.setCurrentIndex(values.index(before) if before in values else 0 if values else -1)
    box.blockSignals(was_blocked)


def _fill_checkable(widget: Any, names: list[str]) -> None:
    before = _checked(widget)
    was_blocked = widget.blockSignals(True)
    widget.clear()
    for name in names:
        item = qt.QListWidgetItem(name)
        item.setCheckState(qt.Qt.Checked if name in before else qt.Qt.Unchecked)
        widget.addItem(item)
    widget.blockSignals(was_blocked)
