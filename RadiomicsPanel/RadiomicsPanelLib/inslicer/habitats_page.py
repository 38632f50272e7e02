"""The page Maps and habitats, second part: segments divided by the values of several volumes."""

from __future__ import annotations

import math
from typing import Any

import qt
import slicer
import vtk
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.panel import showing_errors
from slicer.i18n import tr as _

from RadiomicsPanelLib.habitats import HabitatModel, read_model, write_model
from RadiomicsPanelLib.inslicer.dividing import (
    channel_nodes,
    channel_title,
    judgement,
    match_channels,
    medians,
    model_of_node,
    plot_judgement,
    require_model,
)
from RadiomicsPanelLib.inslicer.labels import say
from RadiomicsPanelLib.inslicer.maps_page import input_problem
from RadiomicsPanelLib.inslicer.packages import ensure_packages, packages_not_there
from RadiomicsPanelLib.inslicer.page import Page

FITTED = ("kmeans", "gmm")
NEEDED = ("scikit-learn",)  # to fit
ROW_HEIGHT = 22  # pixels
MODEL_KEY = "RadiomicsPanel/habitatModel"


class HabitatsPage(Page):
    """Chooses channels and how they divide the segments of the page Data."""

    ui_name = "RadiomicsPanelHabitats"

    def setup(self) -> None:
        """Connect."""
        self._rows: list[tuple[str, str]] = []  # ids and names of the volumes in the table
        ui = self.ui
        ui.channelsTable.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for table in (ui.channelsTable, ui.judgementTable):
            table.verticalHeader().setVisible(False)
            table.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        ui.channelsTable.connect("itemChanged(QTableWidgetItem*)", self.on_channel_changed)
        ui.limitsButton.connect("clicked()", self.on_medians)
        ui.judgementPlotButton.connect("clicked()", self.on_plot)
        ui.habitatSaveButton.connect("clicked()", self.on_save)
        ui.habitatInstallButton.connect("clicked()", self.on_install)
        ui.judgementTable.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        for signal in ("currentPathChanged(QString)", "validInputChanged(bool)"):
            ui.habitatModelPathLineEdit.connect(signal, self.on_model_chosen)
        ui.habitatModelPathLineEdit.currentPath = qt.QSettings().value(MODEL_KEY) or ""
        self.forget()
        self.make_job(ui.habitatsRunButton, ui.habitatsProgressBar, self.divide)

    def watched(self) -> list[tuple[Any, ...]]:
        """Return the events that change the list of volumes."""
        scene = slicer.mrmlScene
        return [(scene, event, self.on_node) for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent)]

    def problem(self) -> str:
        """Return what keeps the segments from being divided."""
        problem = input_problem(self)
        if problem:
            return problem
        try:
            self._matched()
        except InputError as error:
            return str(error)
        return ""

    def update(self) -> None:
        """Show channels, and which of the settings count."""
        p, ui = self.parameters, self.ui
        method = p.habitatMethod.value
        self._show_channels()
        ui.channelsTable.setColumnHidden(1, method != "thresholds")
        for name, shown in (
            ("limitsButton", method == "thresholds"),
            ("habitatModelPathLineEdit", method == "model"),
            ("habitatModelPathLineEditCaption", method == "model"),
            ("habitatCountSpinBox", method in FITTED),
            ("habitatCountSpinBoxCaption", method in FITTED),
            ("habitatSmoothingSpinBox", method != "model"),
            ("habitatSmoothingSpinBoxCaption", method != "model"),
        ):
            getattr(ui, name).setVisible(shown)
        say(ui.channelsLabel, self._describe_channels())
        missing = packages_not_there(*NEEDED) if method in FITTED else []
        say(ui.habitatPackagesLabel, _("Needs {names}.").format(names=", ".join(missing)) if missing else "")
        ui.habitatInstallButton.setVisible(bool(missing))
        model = model_of_node(p.habitatSegmentation)
        ui.habitatSaveButton.enabled = model is not None
        ui.judgementPlotButton.enabled = model is not None and bool(model.silhouettes)
        self._show_judgement(model)

    def forget(self) -> None:
        """Drop the text about the last run."""
        say(self.ui.habitatsResultLabel, "")

    def divide(self) -> None:
        """Divide the segments."""
        p, panel = self.parameters, self.panel
        with showing_errors(_("The segments were not divided.")):
            if p.habitatMethod.value in FITTED:
                ensure_packages(*NEEDED)
            how = self._how()
            inputs = (p.image, p.segmentation, panel.chosenIds(), self._channels(), panel.settings(), how)
            settings = (p.habitatCount if p.habitatCount > 1 else None, p.habitatSmoothing)
            outputs = (p.habitatSegmentation, p.habitatTable)
            done = self.job.run(  # type: ignore[union-attr]  # made in setup
                lambda progress: self.logic.habitats(*inputs, *settings, 0, *outputs, progress=progress)
            )
            if done is None:
                return
            say(self.ui.habitatsResultLabel, describe_habitats(done))
            if self.parameters is not None:
                with slicer.util.NodeModify(p):
                    p.habitatSegmentation, p.habitatTable = done.segmentation_node, done.table_node

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def on_node(self, caller: Any, event: Any, node: Any) -> None:
        """Follow the volumes that come and go."""
        if node.IsA("vtkMRMLScalarVolumeNode"):
            self.panel.refresh()

    def on_channel_changed(self, item: Any) -> None:
        """Keep the checked volumes and their limits."""
        if self.parameters is None:
            return
        table, nodes, limits = self.ui.channelsTable, [], []
        for n, (node_id, _name) in enumerate(self._rows):
            if table.item(n, 0).checkState() == qt.Qt.Checked:
                nodes.append(slicer.mrmlScene.GetNodeByID(node_id))
                limits.append(_limit(table.item(n, 1).text()))
        with slicer.util.NodeModify(self.parameters):
            self.parameters.habitatChannels, self.parameters.habitatLimits = nodes, limits
        self.panel.refresh()

    def on_medians(self) -> None:
        """Fill in the medians of the checked channels."""
        p = self.parameters
        with showing_errors(_("The medians were not found.")):
            segments = self.logic.chosenSegments(p.segmentation, self.panel.chosenIds())
            inputs = (p.image, p.segmentation, segments, self._channels(), self.panel.settings())
            p.habitatLimits = [float(f"{value:.4g}") for value in medians(*inputs)]

    def on_model_chosen(self) -> None:
        """Remember the model file on this computer."""
        qt.QSettings().setValue(MODEL_KEY, self.ui.habitatModelPathLineEdit.currentPath)
        self.panel.refresh()

    def on_plot(self) -> None:
        """Plot how well each number of habitats divides the segments."""
        with showing_errors(_("Nothing was plotted.")):
            chart = plot_judgement(require_model(self.parameters.habitatSegmentation))
            if slicer.app.layoutManager() is not None:
                slicer.modules.plots.logic().ShowChartInLayout(chart)

    def on_install(self) -> None:
        """Install what clustering needs."""
        with showing_errors(_("The packages were not installed.")):
            ensure_packages(*NEEDED)
        self.panel.refresh()

    def on_save(self) -> None:
        """Write the model of the shown habitats."""
        with showing_errors(_("The model was not saved.")):
            path = self.ui.habitatSavePathLineEdit.currentPath
            if not path:
                raise InputError(_("Choose a file to save the model to."))
            write_model(require_model(self.parameters.habitatSegmentation), path)
            slicer.util.showStatusMessage(_("Saved {path}").format(path=path), 5000)

    def _how(self) -> Any:
        """Return what `habitats` takes: a method to fit by, the limits, or a model.

        Raises
        ------
        InputError
            If the model cannot be read or a limit is missing.
        """
        p = self.parameters
        method = p.habitatMethod.value
        if method in FITTED:
            return method
        if method == "model":
            path = self.ui.habitatModelPathLineEdit.currentPath
            if not path:
                raise InputError(_("Choose the file of a habitat model."))
            return read_model(path)
        missing = [c.GetName() for c, limit in zip(self._channels(), self._limits(), strict=True) if math.isnan(limit)]
        if missing:
            raise InputError(_("Type the limit of {name}.").format(name=missing[0]))
        return self._limits()

    def _matched(self) -> dict[str, Any]:
        """Return the channels with their volumes; see `match_channels`."""
        how = self._how()
        model = how if isinstance(how, HabitatModel) else None
        return match_channels(self._channels(), self.parameters.image, model)

    def _channels(self) -> list[Any]:
        return [node for node in self.parameters.habitatChannels if _is_there(node)]

    def _limits(self) -> list[float]:
        """Return one limit per channel, not a number where none was typed."""
        p = self.parameters
        limits = list(p.habitatLimits) + [math.nan] * len(p.habitatChannels)
        return [limit for node, limit in zip(p.habitatChannels, limits, strict=False) if _is_there(node)]

    def _show_channels(self) -> None:
        table = self.ui.channelsTable
        nodes = channel_nodes(self.parameters.image, self.parameters.segmentation)
        rows = [(node.GetID(), channel_title(node)) for node in nodes]
        chosen = {node.GetID(): limit for node, limit in zip(self._channels(), self._limits(), strict=True)}
        was_blocked = table.blockSignals(True)
        if rows != self._rows:
            self._rows = rows
            table.setRowCount(len(rows))
            for n, (_id, name) in enumerate(rows):
                item = qt.QTableWidgetItem(name)
                item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable)
                table.setItem(n, 0, item)
                table.setItem(n, 1, qt.QTableWidgetItem(""))
        for n, (node_id, _name) in enumerate(rows):
            table.item(n, 0).setCheckState(qt.Qt.Checked if node_id in chosen else qt.Qt.Unchecked)
            limit = chosen.get(node_id, math.nan)
            if not math.isnan(limit):
                table.item(n, 1).setText(f"{limit:g}")
        table.blockSignals(was_blocked)

    def _describe_channels(self) -> str:
        """Return which volume is taken for which channel of a model, or what is wrong."""
        p = self.parameters
        if p.habitatMethod.value != "model" or input_problem(self):
            return ""
        try:
            matched = self._matched()
        except InputError as error:
            return str(error)
        made = _("will be computed")
        return "; ".join(f"{name}: {made if node is None else node.GetName()}" for name, node in matched.items())

    def _show_judgement(self, model: Any) -> None:
        rows = [] if model is None else judgement(model)
        table = self.ui.judgementTable
        table.setVisible(bool(rows))
        table.setRowCount(len(rows))
        table.setFixedHeight(ROW_HEIGHT * (len(rows) + 1) + 8)
        for n, (count, silhouette, stability) in enumerate(rows):
            taken = " " + _("(taken)") if count == model.count else ""
            for column, text in enumerate((f"{count}{taken}", f"{silhouette:.3f}", f"{stability:.3f}")):
                item = qt.QTableWidgetItem(text)
                item.setFlags(qt.Qt.ItemIsEnabled)
                table.setItem(n, column, item)


def describe_habitats(done: Any) -> str:
    """Return the share of each habitat and the heterogeneity of each segment in words."""
    lines = []
    for habitats in done.maps:
        own = [value for segment, value in done.values if segment == habitats.roi.segment]
        shares = [v.value for v in own if v.feature.name == "volume_fraction"]
        parts = [f"{name}: {share:.0%}" for name, share in zip(done.model.names, shares, strict=True)]
        found = {v.feature.name: v for v in own}
        lines.append(
            _("{segment}: {parts}. Intratumor heterogeneity (ITH) {ith:.2f}, Shannon diversity {shannon:.2f}.").format(
                segment=habitats.roi.segment,
                parts=", ".join(parts),
                ith=found["ith_3d"].value,
                shannon=found["shannon"].value,
            )
        )
    model = done.model
    if model.silhouettes:
        key = str(model.count)
        lines.append(
            _("{count} habitats: silhouette {silhouette:.2f}, stability {stability:.2f}.").format(
                count=model.count, silhouette=model.silhouettes[key], stability=model.stabilities[key]
            )
        )
    return "\n".join([*lines, *([_("Warning: {note}.").format(note=model.note)] if model.note else [])])


def _is_there(node: Any) -> bool:
    """Tell whether a chosen volume still is in the scene."""
    return node is not None and bool(slicer.mrmlScene.IsNodePresent(node))


def _limit(text: str) -> float:
    """Return the number a person typed, not a number if it is none."""
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
