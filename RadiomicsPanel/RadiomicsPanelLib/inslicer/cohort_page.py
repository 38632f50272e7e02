"""The page Cohort statistics, first part: features of many cases, measured by a child process that can go on later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.panel import showing_errors
from slicer.i18n import tr as _

from RadiomicsPanelLib.inslicer.labels import say
from RadiomicsPanelLib.inslicer.packages import ensure_packages
from RadiomicsPanelLib.inslicer.page import Page
from RadiomicsPanelLib.inslicer.statistics import MODULE, packages_missing, rows_of
from RadiomicsPanelLib.manifest import read_manifest
from RadiomicsPanelLib.perturb import KINDS
from RadiomicsPanelLib.settings import write_settings

MANIFEST_KEY, FOLDER_KEY, SCHEDULER_KEY = (
    f"RadiomicsPanel/cohort{name}" for name in ("Manifest", "Folder", "Scheduler")
)
_SHOWN_PROBLEMS = 5


class CohortPage(Page):
    """Chooses cases and folder; settings and families are those of the other pages.

    Paths and the scheduler belong to this computer, so they are kept in its settings and not in the scene.
    """

    ui_name = "RadiomicsPanelCohort"

    def setup(self) -> None:
        """Restore the paths and connect."""
        ui = self.ui
        self._cases = ("", 0.0, "", "")  # path, time of change, what is wrong, what it holds
        for kind in KINDS:
            item = qt.QListWidgetItem(kind)
            item.setCheckState(qt.Qt.Checked)
            ui.perturbListWidget.addItem(item)
        ui.failuresTable.verticalHeader().setVisible(False)
        ui.failuresTable.horizontalHeader().setStretchLastSection(True)
        ui.failuresTable.setVisible(False)
        for line, key in ((ui.manifestPathLineEdit, MANIFEST_KEY), (ui.cohortFolderPathLineEdit, FOLDER_KEY)):
            line.currentPath = qt.QSettings().value(key) or ""
            for signal in ("currentPathChanged(QString)", "validInputChanged(bool)"):
                line.connect(signal, self.on_choice)
        ui.schedulerLineEdit.text = qt.QSettings().value(SCHEDULER_KEY) or ""
        ui.schedulerLineEdit.connect("editingFinished()", self.on_choice)
        ui.copiesSpinBox.connect("valueChanged(int)", self.on_choice)
        ui.perturbListWidget.connect("itemChanged(QListWidgetItem*)", self.on_choice)
        say(ui.cohortResultLabel, "")
        self.make_job(ui.cohortRunButton, ui.cohortProgressBar, self.measure)

    def problem(self) -> str:
        """Return what keeps the cohort from being measured."""
        if not self.ui.manifestPathLineEdit.currentPath:
            return _("Choose the cases: a manifest or a folder.")
        if not self.ui.cohortFolderPathLineEdit.currentPath:
            return _("Choose an output folder.")
        if not self._families():
            return _("Check at least one family of features on the page Features.")
        if self.ui.copiesSpinBox.value and not self._kinds():
            return _("Check at least one way to perturb the segments by.")
        try:
            self.panel.settings()
        except InputError as error:
            return str(error)
        return self._look_at_cases()[2]

    def update(self) -> None:
        """Show what the manifest holds and which settings count."""
        ui = self.ui
        ui.perturbListWidget.setVisible(ui.copiesSpinBox.value > 0)
        ui.perturbListWidgetCaption.setVisible(ui.copiesSpinBox.value > 0)
        _path, _time, problem, text = self._look_at_cases()
        say(ui.manifestLabel, problem or text)
        say(ui.cohortSettingsLabel, self._describe_settings())

    def measure(self) -> None:
        """Start the child process."""
        with showing_errors(_("The cohort was not measured.")):
            arguments = self.arguments()
            self.ui.cohortLogTextEdit.clear()
            say(self.ui.cohortResultLabel, "")
            self._show_failures([])
            self.job.start(MODULE, arguments, self.on_done, self.on_message, self.on_stopped)  # type: ignore[union-attr]

    def arguments(self) -> list[str]:
        """Return the arguments of the command `cohort`; the settings are written into the output folder for it.

        Raises
        ------
        InputError
            If the folder cannot be written to, or the scheduler needs a package that is missing.
        """
        ui = self.ui
        folder = Path(ui.cohortFolderPathLineEdit.currentPath)
        copies = ui.copiesSpinBox.value
        if copies:
            folder /= "perturbed"
        scheduler = ui.schedulerLineEdit.text.strip()
        if scheduler:
            ensure_packages("dask", "distributed")
        write_settings(self.panel.settings(), folder / "settings.json")
        arguments = ["cohort", "--manifest", ui.manifestPathLineEdit.currentPath, "--output", str(folder)]
        arguments += ["--settings", str(folder / "settings.json")]
        families = self._families()
        if len(families) < len(self.logic.families()):
            for family in families:
                arguments += ["--feature", family]
        if scheduler:
            arguments += ["--scheduler", scheduler]
        elif ui.workersSpinBox.value:
            arguments += ["--workers", str(ui.workersSpinBox.value)]
        if copies:
            arguments += ["--copies", str(copies)]
            for kind in self._kinds():
                arguments += ["--perturb", kind]
        return arguments

    def _families(self) -> list[str]:
        """Return the families checked on the page Features."""
        return [name for name in self.logic.families() if name not in self.parameters.excludedFamilies]

    def _kinds(self) -> list[str]:
        """Return the checked ways to perturb."""
        items = [self.ui.perturbListWidget.item(n) for n in range(self.ui.perturbListWidget.count)]
        return [item.text() for item in items if item.checkState() == qt.Qt.Checked]

    def on_choice(self) -> None:
        """Keep the choices of this computer."""
        ui, settings = self.ui, qt.QSettings()
        settings.setValue(MANIFEST_KEY, ui.manifestPathLineEdit.currentPath)
        settings.setValue(FOLDER_KEY, ui.cohortFolderPathLineEdit.currentPath)
        settings.setValue(SCHEDULER_KEY, ui.schedulerLineEdit.text)
        self.panel.refresh()

    def on_message(self, message: str) -> None:
        """Add a line to the log."""
        self.ui.cohortLogTextEdit.appendPlainText(message)

    def on_done(self, figures: dict[str, Any]) -> None:
        """Show what was measured and what failed, and hand the table to the statistics."""
        say(self.ui.cohortResultLabel, describe_cohort(figures))
        with showing_errors(_("The failures cannot be shown.")):
            self._show_failures(rows_of(Path(figures["failures_file"])))
        line = self.panel.ui.featuresPathLineEdit  # of the statistics
        if not line.currentPath:
            line.currentPath = figures["output"]
        self.panel.refresh()

    def on_stopped(self, message: str) -> None:
        """Say what is kept, and list what failed where nothing could be measured."""
        kept = _("Stopped. What was measured is kept; run again to go on from there.")
        say(self.ui.cohortResultLabel, message or kept)

    def _look_at_cases(self) -> tuple[str, float, str, str]:
        """Return the manifest's path and time, what is wrong with it, and what it holds; read again when it changed."""
        path = Path(self.ui.manifestPathLineEdit.currentPath)
        changed = path.stat().st_mtime if path.exists() else 0.0
        if (str(path), changed) != self._cases[:2]:
            problem = text = ""
            try:
                text = describe_manifest(*read_manifest(path)) if str(path) != "." else ""
            except InputError as error:
                problem = str(error)
            self._cases = (str(path), changed, problem, text)
        return self._cases

    def _describe_settings(self) -> str:
        try:
            name = self.panel.settings().name
        except InputError as error:
            return str(error)
        families = len(self._families())
        text = _("Settings: {name}; families: {count}; as on the other pages.").format(name=name, count=families)
        missing = packages_missing("cohort")
        if "dask" in missing or "distributed" in missing:
            text += " " + _("Without the package dask one process works.")
        if "pyarrow" in missing:
            text += " " + _("Without the package pyarrow the table is written as CSV only.")
        return text

    def _show_failures(self, rows: list[list[str]]) -> None:
        table = self.ui.failuresTable
        table.setVisible(bool(rows))
        table.setRowCount(len(rows))
        for n, cells in enumerate(rows):
            for column, text in enumerate(cells):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(text)
                item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
                table.setItem(n, column, item)
        table.resizeColumnsToContents()


def describe_manifest(entries: list[Any], failures: list[Any]) -> str:
    """Return how many cases a manifest holds, and what is wrong with which lines."""
    cases = len({entry.case for entry in entries})
    lines = [_("{count} images of {cases} cases.").format(count=len(entries), cases=cases)]
    for failure in failures[:_SHOWN_PROBLEMS]:
        reason = failure.reason.removeprefix(f"{failure.where}: ")
        lines.append(_("Left out, {where}: {reason}").format(where=failure.where, reason=reason))
    if len(failures) > _SHOWN_PROBLEMS:
        lines.append(_("... and {count} more").format(count=len(failures) - _SHOWN_PROBLEMS))
    return "\n".join(lines)


def describe_cohort(figures: dict[str, Any]) -> str:
    """Return what a finished run did."""
    text = _("{rows} rows from {entries} images ({reused} measured before), {failures} failures. {output}").format(
        rows=figures["rows"],
        entries=figures["entries"],
        reused=figures["reused"],
        failures=figures["failures"],
        output=figures["output"],
    )
    return "\n".join([text, *figures["notes"]])
