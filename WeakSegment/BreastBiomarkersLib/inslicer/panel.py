"""What the panels of our modules share: parameter node, scene events, Apply and Cancel, error display, Reload."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.jobs import PanelJob
from BreastBiomarkersLib.inslicer.reload import forget_packages
from BreastBiomarkersLib.progress import Progress


class ModulePanel(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Base of a module's widget: everything about its life that does not depend on what the module does.

    The .ui file holds `applyButton`, `progressBar` and ctkCollapsibleButton sections, locked while a job runs.
    A subclass ends its `setup` with `bind` and overrides `defaults`, `problem`, `watched`, `update`, `apply`, `forget`.

    Attributes
    ----------
    packages : tuple of str
        Library packages that Reload reads again.
    logic, parameters, job
        The module's logic, its bound parameter node (None while the scene closes or the panel is hidden), its job.
    """

    packages: tuple[str, ...] = ("BreastBiomarkersLib",)

    def __init__(self, parent: Any = None) -> None:
        VTKObservationMixin.__init__(self)
        self.logic: Any = None
        self.parameters: Any = None
        self.job: PanelJob | None = None
        self._gui_tag: Any = None
        self._watched: dict[tuple[Any, ...], int] = {}
        ScriptedLoadableModuleWidget.__init__(self, parent)

    # For subclasses to override

    def defaults(self) -> None:
        """Fill in parameters that are not set and have one sensible choice."""

    def problem(self) -> str:
        """Return what is missing or wrong before Apply can run, or nothing."""
        return ""

    def watched(self) -> Sequence[tuple[Any, ...]]:
        """Return nodes (or None) and events that call for a `refresh`, beside changes of the parameter node.

        A third item is called instead of `refresh`, with caller and event.
        """
        return ()

    def update(self) -> None:
        """Bring read-outs and other buttons up to date with the parameters and `job.running`; called by `refresh`."""

    def forget(self) -> None:
        """Drop what is kept from the scene, which is about to be closed: nodes, results, texts about them."""

    def apply(self) -> None:
        """Do the module's main job; called by the Apply button."""
        raise NotImplementedError

    # For subclasses to call

    def bind(self) -> None:
        """Show the module's parameter node of the current scene, with defaults filled in."""
        self._show(self.logic.getParameterNode())
        self.defaults()

    def refresh(self, caller: Any = None, event: Any = None) -> None:
        """Bring the panel up to date; does nothing during a batch of changes, at whose end it is called."""
        if self.job is None or slicer.mrmlScene.IsBatchProcessing():
            return
        bound = self.parameters is not None
        if bound:
            self._watch([(self.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent), *self.watched()])
            self.update()
        if not self.job.running:
            problem = self.problem() if bound else _("The scene is being closed.")
            self.ui.applyButton.enabled = not problem
            self.ui.applyButton.toolTip = problem or self._apply_tip

    def run(self, work: Callable[[Progress], Any], message: str) -> Any:
        """Run `work(progress)` behind the Apply button; errors are shown below `message`.

        Returns
        -------
        What `work` returns; None after bad input, when the user cancelled or the scene was closed.
        """
        result = None
        with showing_errors(message):
            result = self.job.run(work)  # type: ignore[union-attr]
        return result

    # Called by Slicer

    def setup(self) -> None:
        """Load the .ui file and connect what every panel has."""
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath(f"UI/{self.moduleName}.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self._apply_tip = self.ui.applyButton.toolTip
        self._sections = slicer.util.findChildren(panel, className="ctkCollapsibleButton")
        self.job = PanelJob(self.ui.applyButton, self.ui.progressBar, self._lock)
        self.ui.applyButton.connect("clicked()", self._apply_or_cancel)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self._on_start_close)
        self.addObserver(scene, scene.EndCloseEvent, self._on_scene_replaced)
        self.addObserver(scene, scene.EndImportEvent, self._on_scene_replaced)
        self.addObserver(scene, scene.EndBatchProcessEvent, self.refresh)
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self._on_node_removed)

    def cleanup(self) -> None:
        """Leave nothing behind: called on Reload and when the application exits."""
        if self.job is not None:
            self.job.close()
            self.job = None
        self._show(None)
        self.removeObservers()

    def enter(self) -> None:
        """Bind the parameter node when the user opens the module."""
        self.bind()

    def exit(self) -> None:
        """Let go of the parameter node when the user leaves the module; a running job goes on."""
        self._show(None)

    def onReload(self) -> None:  # noqa: N802 - Slicer calls it
        """Read the library files again, too."""
        forget_packages(*self.packages)
        ScriptedLoadableModuleWidget.onReload(self)

    # Inside

    def _show(self, parameters: Any) -> None:
        if self.parameters is not None:
            self.parameters.disconnectGui(self._gui_tag)
        self._watch(())
        self.parameters = parameters
        if parameters is not None:
            self._gui_tag = parameters.connectGui(self.ui)
        self.refresh()

    def _watch(self, wanted: Sequence[tuple[Any, ...]]) -> None:
        """Observe these, and nothing else; `addObserver` would keep them alive after they left the scene."""
        keys = {key for key in wanted if key[0] is not None}
        for key in self._watched.keys() - keys:
            key[0].RemoveObserver(self._watched.pop(key))
        for key in keys - self._watched.keys():
            node, event, *react = key
            self._watched[key] = node.AddObserver(event, react[0] if react else self.refresh)

    def _apply_or_cancel(self) -> None:
        self.job.toggle(self.apply)  # type: ignore[union-attr]

    def _lock(self, running: bool) -> None:
        for section in self._sections:
            section.enabled = not running
        if running:
            self.ui.applyButton.enabled = True
            self.ui.applyButton.toolTip = _("Stop; nothing is changed.")
        self.refresh()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node_removed(self, caller: Any, event: Any, node: Any) -> None:
        """Let go of a deleted node; its selector would silently go on to another one."""
        if self.parameters is not None:
            for name in self.parameters.allParameters:
                if getattr(self.parameters, name) is node:
                    setattr(self.parameters, name, None)

    def _on_start_close(self, caller: Any, event: Any) -> None:
        self.job.cancel()  # type: ignore[union-attr]
        self._show(None)
        self.forget()

    def _on_scene_replaced(self, caller: Any, event: Any) -> None:
        if self.parent.isEntered:
            self.bind()


@contextmanager
def showing_errors(message: str) -> Iterator[None]:
    """Show what goes wrong inside: bad input as its message alone, anything else (a bug) with traceback, re-raised."""
    with slicer.util.tryWithErrorDisplay(message):
        try:
            yield
        except InputError as error:
            slicer.util.errorDisplay(f"{message}\n\n{error}")


def suggested_volume() -> Any:
    """Return the scalar volume shown in the slice views, else the first one in the scene, or None."""
    active = slicer.mrmlScene.GetNodeByID(slicer.app.applicationLogic().GetSelectionNode().GetActiveVolumeID() or "")
    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    plain = [node for node in volumes if node.GetClassName() == "vtkMRMLScalarVolumeNode"]
    return active if active in plain else next(iter(plain), None)
