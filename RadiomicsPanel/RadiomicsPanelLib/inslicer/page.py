"""What the pages of the panel share: their part of the window, their run button, their place in the panel's life."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt
import slicer
from BreastBiomarkersLib.inslicer.jobs import PanelJob
from BreastBiomarkersLib.inslicer.panel import showing_errors
from BreastBiomarkersLib.progress import Progress
from slicer.i18n import tr as _

MARGIN = 40  # pixels beside a picture
LEAST_WIDTH, MOST_WIDTH = 300, 900  # pixels, of a picture


class _WidthFollower(qt.QObject):
    """Event filter that calls a function when a widget's width changed."""

    def __init__(self, changed: Callable[[], None]) -> None:
        qt.QObject.__init__(self)
        self._changed = changed
        self._width = -1

    def eventFilter(self, watched: Any, event: Any) -> bool:  # noqa: N802 - Qt calls it
        if event.type() == qt.QEvent.Resize and watched.width != self._width:
            self._width = watched.width
            self._changed()
        return False


class Page:
    """One page of the panel; a subclass overrides what it needs of `setup`, `watched`, `update`, `problem`, `forget`.

    The panel makes its pages in its own `setup` and passes each call on to them. The user's choices are fields of
    `RadiomicsPanelParameterNode`; widgets with a SlicerParameterName in the page's .ui are bound by the panel.
    What must not change during a job stands in ctkCollapsibleButton sections, which are locked while any job of the
    panel runs; a run button and its progress bar stand outside of them. Names of widgets are unique in the panel.

    Parameters
    ----------
    panel : RadiomicsPanelWidget
    container : QWidget
        The page's place in the window, with a layout.

    Attributes
    ----------
    ui_name : str
        .ui file in Resources/UI that is loaded into the container; without one the page is part of the panel's own.
    ui
        Its widgets by name.
    job : PanelJob or None
        Behind the page's own run button, if it has called `make_job`.
    """

    ui_name = ""

    def __init__(self, panel: Any, container: Any) -> None:
        self.panel = panel
        self.container = container
        self.ui: Any = panel.ui
        self.job: PanelJob | None = None
        self._widths: list[_WidthFollower] = []
        if self.ui_name:
            top = slicer.util.loadUI(panel.resourcePath(f"UI/{self.ui_name}.ui"))
            container.layout().addWidget(top)
            self.ui = slicer.util.childWidgetVariables(top)
            top.setMRMLScene(slicer.mrmlScene)

    @property
    def parameters(self) -> Any:
        """The bound parameter node; None while the scene closes or the panel is hidden."""
        return self.panel.parameters

    @property
    def logic(self) -> Any:
        """The module's logic, whose verbs do the work."""
        return self.panel.logic

    # For subclasses to override

    def setup(self) -> None:
        """Connect widgets and call `make_job`; parameters are not bound yet."""

    def defaults(self) -> None:
        """Fill in parameters that are not set and have one sensible choice."""

    def watched(self) -> Sequence[tuple[Any, ...]]:
        """Return nodes (or None) and events that call for a refresh, as `ModulePanel.watched` does."""
        return ()

    def update(self) -> None:
        """Bring the page's read-outs up to date; called at every refresh of the panel, with parameters bound."""

    def problem(self) -> str:
        """Return what keeps the page's own run button from running, or nothing."""
        return ""

    def forget(self) -> None:
        """Drop what is kept from the scene, which is about to be closed: nodes, results, texts about them."""

    def cleanup(self) -> None:
        """Leave nothing behind: stop threads and timers; a subclass calls this one too."""
        if self.job is not None:
            self.job.close()
            self.job = None
        for follower in self._widths:
            self.container.removeEventFilter(follower)
        self._widths.clear()

    # For subclasses to call

    def follow_width(self, label: Any, draw: Callable[[], None]) -> None:
        """Call `draw` when the page gets wider or narrower; the picture in the label does not hold it open."""
        label.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Preferred)
        follower = _WidthFollower(draw)
        self.container.installEventFilter(follower)
        self._widths.append(follower)

    def picture_width(self) -> int:
        """Return how wide a picture on the page may be, in pixels."""
        return int(min(max(self.container.width - MARGIN, LEAST_WIDTH), MOST_WIDTH))

    def make_job(self, button: Any, bar: Any, start: Callable[[], None]) -> None:
        """Give the page its own run button, which calls `start`, and reads Cancel while its job runs."""
        job = self.job = PanelJob(button, bar, self.panel.lock)
        self._run_button, self._run_tip = button, button.toolTip
        button.connect("clicked()", lambda: job.toggle(start))

    def run(self, work: Callable[[Progress], Any], message: str) -> Any:
        """Run `work(progress)` behind the page's button; errors are shown below `message`.

        Returns
        -------
        What `work` returns; None after bad input, when the user cancelled or the scene was closed.
        """
        assert self.job is not None
        result = None
        with showing_errors(message):
            result = self.job.run(work)
        return result

    # For the panel

    @property
    def running(self) -> bool:
        """Whether the page's own job runs."""
        return self.job is not None and self.job.running

    def refresh_button(self, other_job_runs: bool) -> None:
        """Enable the run button if nothing keeps it from running, or say in its tool tip what does."""
        if self.job is None or self.running:
            return
        problem = _("Another run has not ended yet.") if other_job_runs else self._problem()
        self._run_button.enabled = not problem
        self._run_button.toolTip = problem or self._run_tip

    def _problem(self) -> str:
        return self.problem() if self.parameters is not None else _("The scene is being closed.")
