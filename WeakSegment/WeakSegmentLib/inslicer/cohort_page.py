"""The part of the panel for a cohort: its cases and their points, training in the background, prediction, review."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.jobs import PanelJob
from BreastBiomarkersLib.inslicer.panel import showing_errors
from slicer.i18n import tr as _

from WeakSegmentLib import case_list
from WeakSegmentLib.inslicer.cohort_cases import PREDICTION_COLOR, REFERENCE_COLOR, OpenCase, add_case_from_scene
from WeakSegmentLib.inslicer.learning_packages import ensure_learning_packages
from WeakSegmentLib.inslicer.lesions import POINT_COUNT, Lesion
from WeakSegmentLib.training_settings import METHODS, PRESETS

SETTINGS_KEY = "WeakSegment/Cohort/"
CURVES_EVERY_MS = 2000
MOST_LOG_LINES = 2000
CURVES = "curves.png"
PATHS = ("table", "folder", "training", "settings", "network", "masks")


class CohortPage:
    """Works on a table of cases, with one case at a time in the scene.

    Parameters
    ----------
    ui : namespace
        The widgets of WeakSegmentCohort.ui.
    select : callable
        Shows an image, its pre-contrast image (or None) and a list of points in the panel, and starts placing the
        points if some are missing.
    selected : callable
        Returns the image, the pre-contrast image and the points chosen in the panel.
    """

    def __init__(
        self, ui: Any, select: Callable[[Any, Any, Any], None], selected: Callable[[], tuple[Any, Any, Any]]
    ) -> None:
        self.ui = ui
        self._select, self._selected = select, selected
        self.cases: list[case_list.ListedCase] = []
        self._states: list[case_list.PointsState] = []
        self._checker = case_list.PointsChecker()
        self.open_case: OpenCase | None = None
        self._drawn: tuple[Any, ...] | None = None
        self.training = PanelJob(ui.trainButton, ui.trainProgressBar, self._on_job)
        self.predicting = PanelJob(ui.predictButton, ui.predictProgressBar, self._on_job)
        ui.logTextEdit.setMaximumBlockCount(MOST_LOG_LINES)
        for names, titles, box in (
            (METHODS, method_titles(), ui.trainMethodComboBox),
            (PRESETS, preset_titles(), ui.presetComboBox),
        ):
            for name in names:
                box.addItem(titles.get(name, name), name)
        self._paths = {name: getattr(ui, f"{name}PathLineEdit") for name in PATHS}
        for name, line in self._paths.items():
            line.setCurrentPath(str(qt.QSettings().value(SETTINGS_KEY + name) or ""))
            line.connect("currentPathChanged(QString)", self._on_path)
            line.connect("validInputChanged(bool)", self._on_path)
        self._known_paths = {name: line.currentPath for name, line in self._paths.items()}
        for button, react in (
            (ui.addFolderButton, self.add_folder),
            (ui.addSceneButton, self.add_from_scene),
            (ui.removeCaseButton, self.remove_case),
            (ui.openCaseButton, self.open_selected),
            (ui.previousCaseButton, self.open_previous),
            (ui.nextCaseButton, self.open_next),
            (ui.savePointsButton, self.save_points),
            (ui.trainButton, self._train_or_cancel),
            (ui.predictButton, self._predict_or_cancel),
        ):
            button.connect("clicked()", react)
        ui.casesTable.connect("cellDoubleClicked(int,int)", self._on_case_double_clicked)
        ui.casesTable.connect("currentCellChanged(int,int,int,int)", self._on_case_selected)
        ui.reviewTable.connect("cellDoubleClicked(int,int)", self._on_review_double_clicked)
        for table, stretched in ((ui.casesTable, 2), (ui.reviewTable, 0)):
            table.horizontalHeader().setSectionResizeMode(stretched, qt.QHeaderView.Stretch)
        self._timer = qt.QTimer()
        self._timer.setInterval(CURVES_EVERY_MS)
        self._timer.connect("timeout()", self._show_curves)
        self.read_table()
        self._show_review()
        self._show_curves()

    # The life of the page

    def forget(self) -> None:
        """Save the points of the case in the scene, which is about to be closed, and let go of it; jobs go on."""
        self._save_before_leaving()
        self.open_case = None

    def close(self) -> None:
        """Save the points and stop everything: the panel is about to go. A training keeps its last saved state."""
        self._save_before_leaving()
        self._timer.stop()
        self._timer.disconnect("timeout()", self._show_curves)
        for job in (self.training, self.predicting):
            job.close()

    def update(self) -> None:
        """Bring the buttons and the line on the open case up to date; called when anything changed."""
        ui, busy = self.ui, self.training.running or self.predicting.running
        if self.open_case is not None and not self.open_case.is_there:
            self.open_case = None
        at, count = self._row_of_open_case(), len(self.cases)
        ui.openCaseLabel.text = self._describe_open_case()
        ui.savePointsButton.enabled = self.open_case is not None and self.open_case.is_changed
        ui.previousCaseButton.enabled = count > 0 and (at is None or at > 0)
        ui.nextCaseButton.enabled = count > 0 and (at is None or at < count - 1)
        ui.openCaseButton.enabled = ui.removeCaseButton.enabled = 0 <= ui.casesTable.currentRow() < count
        ui.addFolderButton.enabled = bool(self._paths["folder"].currentPath)
        ready = sum(state.state == case_list.DONE for state in self._states)
        ui.cohortLabel.text = _("{ready} of {count} cases have their six points.").format(ready=ready, count=count)
        state = self._training_state()
        for button, job, problem, tip in (
            (ui.trainButton, self.training, self._training_problem(ready, state), _("Train in the background.")),
            (ui.predictButton, self.predicting, self._prediction_problem(), _("Segment in the background.")),
        ):
            button.enabled = job.running or not (busy or problem)
            button.toolTip = _("Stop.") if job.running else problem or tip
        if not self.training.running:
            ui.trainButton.text = _("Go on") if state == "stopped" else _("Train")
        for widget in (ui.trainMethodComboBox, ui.presetComboBox, self._paths["training"], self._paths["settings"]):
            widget.enabled = not self.training.running
        ui.trainingLabel.text = self._describe_training(state)

    # Cases

    def read_table(self) -> None:
        """Read the list anew from its file; a table that is not there yet is an empty list."""
        self.cases = []
        path = self._path("table")
        if path is not None and path.is_file():
            with showing_errors(_("The table of cases was not read.")):
                self.cases = case_list.read_case_list(path)
        self._show_cases()

    def add_folder(self) -> None:
        """Add the images of a folder; the table is made in it if none is chosen."""
        with showing_errors(_("No cases were added.")):
            folder = self._require("folder", _("Choose the folder of the images."))
            found, unclear = case_list.find_cases(folder)
            if self._path("table") is None:
                self._paths["table"].setCurrentPath(str(folder / "cases.csv"))
            before = len(self.cases)
            self._keep(case_list.merge_cases(self.cases, found))
            text = _("{count} cases added.").format(count=len(self.cases) - before)
            if unclear:
                text += " " + _(
                    "Left out, because the names do not tell which image is post-contrast: {names}."
                ).format(names=", ".join(unclear))
            self._log(text)

    def add_from_scene(self) -> None:
        """Write what is chosen in the panel as a new case into the folder of the table."""
        with showing_errors(_("No case was added.")):
            table = self._require("table", _("Choose the table of cases; it is made when it is not there."))
            case = add_case_from_scene(*self._selected(), table.parent, self.cases)
            self._keep([*self.cases, case])

    def remove_case(self) -> None:
        """Take the selected case off the list; its files stay."""
        row = self.ui.casesTable.currentRow()
        with showing_errors(_("The case was not removed.")):
            self._keep([case for n, case in enumerate(self.cases) if n != row])

    def open_selected(self) -> None:
        """Open the case in the selected line."""
        self.open(self.ui.casesTable.currentRow())

    def open_previous(self) -> None:
        """Save and open the case above."""
        at = self._row_of_open_case()
        self.open(0 if at is None else at - 1)

    def open_next(self) -> None:
        """Save and open the case below."""
        at = self._row_of_open_case()
        self.open(0 if at is None else at + 1)

    def open(self, row: int) -> bool:
        """Save the points of the open case, take it out of the scene, and open another; return whether that went."""
        if not 0 <= row < len(self.cases):
            return False
        before = self.open_case
        with showing_errors(_("The case was not opened.")):
            self._save_open_case()
            opened = OpenCase(self.cases[row])
            self.open_case = opened
            self._select(opened.image_node, opened.pre_node, opened.points_node)
            if before is not None:
                before.close()
            self.ui.casesTable.setCurrentCell(row, 0)
        self._show_cases()
        return self.open_case is not before

    def save_points(self) -> None:
        """Write the points of the open case into its file."""
        with showing_errors(_("The points were not saved.")):
            if self.open_case is not None:
                self.open_case.save()
        self._show_cases()

    # Training and prediction

    def train(self) -> None:
        """Train in the background, or go on with the training of the folder."""
        with showing_errors(_("The training was not started.")):
            folder = self._require("training", _("Choose the folder of the training."))
            ensure_learning_packages()
            self._save_open_case()
            table, settings = folder / "cases.csv", folder / "settings.json"
            arguments = ["train", "--cases", str(table), "--output", str(folder)]
            if self._training_state() == "stopped" and table.is_file():  # with the cases and settings it began with
                arguments += ["--settings", str(settings)]
            else:
                count = case_list.write_ready_cases(self.cases, table)
                self._log(_("Training on {count} cases.").format(count=count))
                arguments += self._chosen_settings()
            self.training.start("WeakSegmentLib", arguments, self._on_trained, self._log, self._on_stopped)
            self._timer.start()

    def predict(self) -> None:
        """Segment all cases with a trained network in the background; where there are points, in their box."""
        with showing_errors(_("The prediction was not started.")):
            network = self._require("network", _("Choose a trained network (model.safetensors)."))
            masks = self._require("masks", _("Choose the folder for the masks."))
            ensure_learning_packages()
            self._save_open_case()
            table = masks / "cases.csv"
            count, left_out = case_list.write_usable_cases(self.cases, table)
            text = _("Predicting {count} cases.").format(count=count)
            if left_out:
                text += " " + _("Left out, because they are to be checked: {names}.").format(names=", ".join(left_out))
            self._log(text)
            arguments = ["predict", "--model", str(network), "--cases", str(table), "--output", str(masks)]
            self.predicting.start("WeakSegmentLib", arguments, self._on_predicted, self._log, self._on_stopped)

    def review(self, name: str) -> None:
        """Open a case with its prediction, and its true mask where there is one."""
        rows = [row for row, case in enumerate(self.cases) if case.name == name]
        with showing_errors(_("The case was not opened for review.")):
            if not rows:
                raise InputError(f"The case '{name}' is not in the list any more. Add it again.")
            if not self.open(rows[0]) or self.open_case is None:
                return
            masks = self._require("masks", _("Choose the folder of the masks."))
            self.open_case.show_mask(masks / f"{name}.nrrd", "Prediction", PREDICTION_COLOR)
            if self.open_case.case.mask is not None:
                self.open_case.show_mask(self.open_case.case.mask, "Reference", REFERENCE_COLOR)

    # Inside

    def _chosen_settings(self) -> list[str]:
        """Return the choices of the page as arguments of `train`."""
        method, preset = (_chosen(box) for box in (self.ui.trainMethodComboBox, self.ui.presetComboBox))
        settings = self._path("settings")
        more = [] if settings is None else ["--settings", str(settings)]
        return ["--method", method, "--preset", preset, *more]

    def _on_path(self, _change: Any) -> None:
        now = {name: line.currentPath for name, line in self._paths.items()}
        changed = {name for name in PATHS if now[name] != self._known_paths[name]}
        self._known_paths = now
        for name in changed:
            qt.QSettings().setValue(SETTINGS_KEY + name, now[name])
        if "table" in changed:
            self.read_table()
        if "masks" in changed:
            self._show_review()
        if "training" in changed:
            self._show_curves()
        self.update()

    def _path(self, name: str) -> Path | None:
        text = self._paths[name].currentPath.strip()
        return Path(text) if text else None

    def _require(self, name: str, message: str) -> Path:
        path = self._path(name)
        if path is None:
            raise InputError(message)
        return path

    def _keep(self, cases: list[case_list.ListedCase]) -> None:
        case_list.write_case_list(cases, self._require("table", _("Choose the table of cases.")))
        self.cases = cases
        self._show_cases()

    def _save_open_case(self) -> None:
        """Write the points of the open case if they changed; with none placed the file stays as it was."""
        case = self.open_case
        if case is not None and case.is_there and case.is_changed and Lesion(case.points_node).placed():
            case.save()
            self._show_cases()

    def _save_before_leaving(self) -> None:
        with showing_errors(_("The points of the open case were not saved.")):
            self._save_open_case()

    def _row_of_open_case(self) -> int | None:
        names = [case.name for case in self.cases]
        if self.open_case is None or self.open_case.case.name not in names:
            return None
        return names.index(self.open_case.case.name)

    def _describe_open_case(self) -> str:
        if self.open_case is None:
            return _("No case is open. Double-click a case to place its points.")
        placed, name = Lesion(self.open_case.points_node).placed(), self.open_case.case.name
        text = _("{name} is open, {placed} of {count} points are placed").format(
            name=name, placed=placed, count=POINT_COUNT
        )
        return text + (_(", not saved yet.") if self.open_case.is_changed else ".")

    def _training_problem(self, ready: int, state: str) -> str:
        if ready == 0:
            return _("No case has its six points yet.")
        if self._path("training") is None:
            return _("Choose the folder of the training.")
        return _("The training of this folder is done.") if state == "done" else ""

    def _prediction_problem(self) -> str:
        if all(state.state == case_list.WRONG for state in self._states):
            return _("There is no case to predict.")
        if self._path("network") is None:
            return _("Choose a trained network.")
        return _("Choose the folder for the masks.") if self._path("masks") is None else ""

    def _training_state(self) -> str:
        folder = self._path("training")
        return "new" if folder is None else case_list.training_state(folder)

    def _describe_training(self, state: str) -> str:
        if self.training.running:
            return _("Training goes on when the scene or the module is closed. Cancel keeps the last saved state.")
        return {
            "new": _("Cancel and closing Slicer keep the last saved state; the same button goes on from it."),
            "stopped": _("This folder holds a training that was stopped; Go on continues from its last saved state."),
            "done": _("The training of this folder is done. Choose another folder to train again."),
        }[state]

    def _show_cases(self) -> None:
        self._states = self._checker.states(self.cases)
        table = self.ui.casesTable
        was_blocked = table.blockSignals(True)
        table.setRowCount(len(self.cases))
        opened = self._row_of_open_case()
        for row, (case, state) in enumerate(zip(self.cases, self._states, strict=True)):
            for column, text in enumerate((case.name, state.state, state.reason)):
                item = qt.QTableWidgetItem(text)
                item.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
                item.setToolTip(state.reason or str(case.image))
                if row == opened:
                    font = item.font()
                    font.setBold(True)
                    item.setFont(font)
                table.setItem(row, column, item)
        table.blockSignals(was_blocked)
        self.update()

    def _show_review(self) -> None:
        folder, table = self._path("masks"), self.ui.reviewTable
        lines = []
        try:
            lines = [] if folder is None else case_list.read_review(folder)
        except InputError as error:
            self._log(str(error))
        table.setRowCount(len(lines))
        for row, line in enumerate(lines):
            within = {"box": _("box"), "image": _("image")}.get(line.get("region", ""), "")
            texts = [*(line.get(key) or "" for key in ("case", "uncertainty", "volume_ml")), within]
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text)
                item.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
                table.setItem(row, column, item)

    def _show_curves(self) -> None:
        folder = self._path("training")
        path = None if folder is None else folder / CURVES
        now = (str(path), path.stat().st_mtime_ns) if path is not None and path.is_file() else None
        if now == self._drawn:
            return
        self._drawn = now
        picture = qt.QPixmap(str(path)) if now is not None else qt.QPixmap()
        if not picture.isNull():
            picture = picture.scaledToWidth(max(400, self.ui.curvesLabel.width), qt.Qt.SmoothTransformation)
        self.ui.curvesLabel.setPixmap(picture)

    def _log(self, message: str) -> None:
        self.ui.logTextEdit.appendPlainText(message)

    def _on_job(self, running: bool) -> None:
        if not running:
            self._timer.stop()
            self._show_curves()
        self.update()

    def _on_stopped(self, message: str) -> None:
        if not message:  # else the log has it
            self._log(_("Stopped."))

    def _on_trained(self, figures: dict[str, Any]) -> None:
        self._log(_("Trained: {model}").format(model=figures["model"]))
        self._paths["network"].setCurrentPath(str(figures["model"]))
        if self._path("masks") is None:
            self._paths["masks"].setCurrentPath(str(Path(figures["model"]).parent / "masks"))
        slicer.util.showStatusMessage(_("The training is done."), 5000)
        self.update()

    def _on_predicted(self, figures: dict[str, Any]) -> None:
        text = _("{cases} cases predicted, {failed} failed.")
        self._log(text.format(cases=figures["cases"], failed=figures.get("failed", 0)))
        self._show_review()

    def _train_or_cancel(self) -> None:
        self.training.toggle(self.train)

    def _predict_or_cancel(self) -> None:
        self.predicting.toggle(self.predict)

    def _on_case_double_clicked(self, row: int, _column: int) -> None:
        self.open(row)

    def _on_case_selected(self, _row: int, _column: int, _previous_row: int, _previous_column: int) -> None:
        self.update()

    def _on_review_double_clicked(self, row: int, _column: int) -> None:
        self.review(self.ui.reviewTable.item(row, 0).text())


def _chosen(box: Any) -> str:
    return str(box.itemData(box.currentIndex))


def method_titles() -> dict[str, str]:
    """Return what the panel calls the methods of training."""
    return {
        "simple": _("SimPLe, three stages"),
        "contrastive": _("Partial cross entropy + contrastive"),
        "crf": _("Partial cross entropy + CRF"),
        "partial-ce": _("Partial cross entropy alone"),
        "full": _("Full supervision (needs masks)"),
    }


def preset_titles() -> dict[str, str]:
    """Return what the panel calls the presets."""
    return {
        "default": _("Paper's network (GPU)"),
        "published": _("As published (GPU)"),
        "small": _("Small network (CPU, minutes)"),
    }
