"""Scripted modules in the host: start-up order, panel, Reload, scene events, the four base classes, and strictness."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

SCRIPT = """
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import parameterNodeWrapper
from slicer.ScriptedLoadableModule import *
from slicer.util import VTKObservationMixin
from slicer import vtkMRMLScalarVolumeNode

EVENTS = []


class Tiny(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Tiny")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Volumes"]
        self.parent.contributors = ["A. Person (Somewhere)"]
        self.parent.helpText = _("Adds a number.") + self.getDefaultModuleDocumentationLink()
        self.parent.acknowledgementText = _("Nobody paid.")
        slicer.app.connect("startupCompleted()", lambda: EVENTS.append("started"))


@parameterNodeWrapper
class TinyParameterNode:
    inputVolume: vtkMRMLScalarVolumeNode
    amount: float = 2.5
    label: str = "a"


class TinyWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._tag = None
        EVENTS.append("widget")

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        EVENTS.append("setup")
        self.parent.connect("mrmlSceneChanged(vtkMRMLScene*)", lambda scene: EVENTS.append("scene"))
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/Tiny.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = TinyLogic()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onEndImport)
        self.ui.applyButton.connect("clicked(bool)", self.onApply)
        self.initialize()

    def cleanup(self):
        EVENTS.append("cleanup")
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self):
        EVENTS.append("enter entered" if self.parent.isEntered else "enter")
        self.initialize()

    def exit(self):
        EVENTS.append("exit")
        self.setParameterNode(None)

    def onStartClose(self, caller, event):
        EVENTS.append("start close")
        self.setParameterNode(None)

    def onEndClose(self, caller, event):
        EVENTS.append("end close")
        if self.parent.isEntered:
            self.initialize()

    def onEndImport(self, caller, event):
        if self.parent.isEntered:
            self.initialize()

    def initialize(self):
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, node):
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._tag)
        self._parameterNode = node
        if node:
            self._tag = node.connectGui(self.ui)

    def onApply(self):
        with slicer.util.tryWithErrorDisplay(_("Failed.")):
            self._parameterNode.label = self.logic.describe(self._parameterNode.amount)


class TinyLogic(ScriptedLoadableModuleLogic):
    def getParameterNode(self):
        return TinyParameterNode(super().getParameterNode())

    def describe(self, amount):
        if amount < 0:
            raise ValueError("negative amount")
        return "amount %g" % amount


class TinyTest(ScriptedLoadableModuleTest):
    ran = []

    def setUp(self):
        slicer.mrmlScene.Clear()

    def helper_of_testing(self):
        TinyTest.ran.append("contains test")

    def test_one(self):
        TinyTest.ran.append("test_one")
        self.delayDisplay("one")
        self.assertEqual(TinyLogic().describe(1), "amount 1")
"""

UI = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0">
 <class>Tiny</class>
 <widget class="qMRMLWidget" name="Tiny">
  <layout class="QFormLayout" name="formLayout">
   <item row="0" column="0"><widget class="QLabel" name="amountLabel"><property name="text">
     <string>Amount:</string></property></widget></item>
   <item row="0" column="1"><widget class="QDoubleSpinBox" name="amountBox">
     <property name="SlicerParameterName" stdset="0"><string>amount</string></property></widget></item>
   <item row="1" column="1"><widget class="qMRMLNodeComboBox" name="inputSelector">
     <property name="noneEnabled"><bool>true</bool></property>
     <property name="SlicerParameterName" stdset="0"><string>inputVolume</string></property></widget></item>
   <item row="2" column="1"><widget class="QLineEdit" name="labelEdit">
     <property name="SlicerParameterName" stdset="0"><string>label</string></property></widget></item>
   <item row="3" column="1"><widget class="QPushButton" name="applyButton"><property name="text">
     <string>Apply</string></property></widget></item>
  </layout>
 </widget>
 <customwidgets>
  <customwidget><class>qMRMLWidget</class><extends>QWidget</extends><header>qMRMLWidget.h</header>
   <container>1</container></customwidget>
  <customwidget><class>qMRMLNodeComboBox</class><extends>QWidget</extends>
   <header>qMRMLNodeComboBox.h</header></customwidget>
 </customwidgets>
 <resources/>
 <connections>
  <connection><sender>Tiny</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
   <receiver>inputSelector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection>
 </connections>
</ui>
"""


def write_module(folder: Path, script: str = SCRIPT) -> Path:
    (folder / "Resources" / "UI").mkdir(parents=True, exist_ok=True)
    (folder / "Resources" / "UI" / "Tiny.ui").write_text(UI)
    path = folder / "Tiny.py"
    path.write_text(script)
    return path


@pytest.fixture
def tiny(slicer_host, tmp_path):
    """The tiny module, loaded but not shown."""
    slicer_host.load_module(write_module(tmp_path))
    return slicer_host


def events() -> list[str]:
    import Tiny

    return Tiny.EVENTS


# Loading


def test_load_registers_without_making_the_panel(tiny, tmp_path):
    import sys

    import slicer

    module = slicer.modules.tiny
    assert module.name == "Tiny"
    assert module.title == "Tiny"
    assert module.path == str(tmp_path / "Tiny.py")
    assert module.categories == ("Segmentation",)
    assert slicer.moduleNames.Tiny == "Tiny"
    assert slicer.util.getModule("Tiny") == module
    assert slicer.modules.TinyInstance.parent == module
    assert str(tmp_path) in sys.path
    assert not hasattr(slicer.modules, "TinyWidget")
    assert events() == []


def test_loading_twice_is_one_module(tiny, tmp_path):
    import slicer

    assert tiny.load_module(tmp_path / "Tiny.py") == slicer.modules.tiny


def test_module_of_the_same_name_elsewhere_is_refused(tiny, tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(RuntimeError, match="loaded already"):
        tiny.load_module(write_module(tmp_path / "other"))


def test_module_gone_after_unload(tiny):
    import slicer

    tiny.unload_module("Tiny")
    assert not hasattr(slicer.modules, "tiny")
    assert "Tiny" not in slicer.util.moduleNames()
    with pytest.raises(KeyError):
        tiny.widget("Tiny")


@pytest.mark.parametrize(
    "old, new, error",
    [
        ('["Volumes"]', '["Volumes", "NoSuchModule"]', "NoSuchModule"),
        ('[translate("qSlicerAbstractCoreModule", "Segmentation")]', "[]", "no category"),
        ('_("Tiny")', '""', "no title"),
        ("class Tiny(", "class Other(", "holds no class Tiny"),
    ],
)
def test_wrong_module_description_fails_at_load(slicer_host, tmp_path, old, new, error):
    import slicer

    with pytest.raises(RuntimeError, match=error):
        slicer_host.load_module(write_module(tmp_path, SCRIPT.replace(old, new)))
    assert not hasattr(slicer.modules, "tiny")


def test_unknown_attribute_of_the_module_parent_fails(slicer_host, tmp_path):
    script = SCRIPT.replace("self.parent.title =", "self.parent.titel =")
    with pytest.raises(AttributeError, match="titel"):
        slicer_host.load_module(write_module(tmp_path, script))


def test_helper_script_beside_the_module_is_refused(slicer_host, tmp_path):
    (tmp_path / "helpers.py").write_text("def f(): pass\n")
    with pytest.raises(RuntimeError, match=r"helpers\.py"):
        slicer_host.load_module(write_module(tmp_path))


def test_import_of_a_flattened_name_fails(slicer_host, tmp_path):
    with pytest.raises(ImportError):
        slicer_host.load_module(write_module(tmp_path, "from slicer import getNode\n" + SCRIPT))


def test_startup_completed_reaches_the_module(tiny):
    tiny.startup_completed()
    assert events() == ["started"]


# Panel


def test_setup_runs_once_lazily_and_before_the_scene_is_set(tiny):
    import slicer

    widget = tiny.widget("Tiny")
    assert tiny.widget("Tiny") is widget
    assert events() == ["widget", "setup", "scene"]
    assert slicer.modules.TinyWidget is widget
    assert slicer.util.getModuleWidget("Tiny") is widget
    assert slicer.util.getModuleLogic("Tiny") is widget.logic


def test_error_in_setup_is_raised(slicer_host, tmp_path):
    slicer_host.load_module(write_module(tmp_path, SCRIPT.replace("UI/Tiny.ui", "UI/Missing.ui")))
    with pytest.raises(RuntimeError, match=r"Missing\.ui"):
        slicer_host.widget("Tiny")


def test_enter_and_exit(tiny):
    widget = tiny.enter("Tiny")
    assert widget.parent.isEntered
    tiny.enter("Tiny")
    tiny.exit("Tiny")
    assert not widget.parent.isEntered
    tiny.exit("Tiny")
    assert events()[3:] == ["enter entered", "exit"]


def test_is_entered_cannot_be_set(tiny):
    with pytest.raises(AttributeError):
        tiny.widget("Tiny").parent.isEntered = True


def test_button_runs_the_logic(tiny):
    widget = tiny.enter("Tiny")
    widget.ui.amountBox.value = 4
    widget.ui.applyButton.click()
    assert widget._parameterNode.label == "amount 4"
    assert widget.ui.labelEdit.text == "amount 4"


def test_error_behind_the_button_is_seen(tiny):
    widget = tiny.enter("Tiny")
    widget.ui.amountBox.value = -4
    with tiny.expected_error(ValueError, "negative amount"):
        widget.ui.applyButton.click()


def test_scene_close_resets_parameters(tiny):
    import numpy as np
    import slicer

    widget = tiny.enter("Tiny")
    volume = slicer.util.addVolumeFromArray(np.zeros((3, 4, 5)))
    widget.ui.inputSelector.setCurrentNode(volume)
    widget.ui.amountBox.value = 7
    assert widget._parameterNode.inputVolume is volume
    node = widget._parameterNode.parameterNode
    tiny.close_scene()
    assert events()[-2:] == ["start close", "end close"]
    assert widget._parameterNode.parameterNode is node
    assert widget._parameterNode.inputVolume is None
    assert widget._parameterNode.amount == 2.5
    assert widget.ui.amountBox.value == 2.5


def test_node_deleted_while_selected(tiny):
    import numpy as np
    import slicer

    widget = tiny.enter("Tiny")
    volume = slicer.util.addVolumeFromArray(np.zeros((3, 4, 5)))
    widget.ui.inputSelector.setCurrentNode(volume)
    slicer.mrmlScene.RemoveNode(volume)
    assert widget._parameterNode.inputVolume is None
    assert widget.ui.inputSelector.currentNode() is None


def test_saved_scene_restores_the_parameters(tiny, tmp_path):
    import numpy as np
    import slicer

    widget = tiny.enter("Tiny")
    widget.ui.inputSelector.setCurrentNode(slicer.util.addVolumeFromArray(np.zeros((3, 4, 5)), name="chosen"))
    widget.ui.amountBox.value = 9
    tiny.save_scene(tmp_path / "scene.mrb")
    tiny.close_scene()
    tiny.load_scene(tmp_path / "scene.mrb")
    assert widget._parameterNode.amount == 9
    assert widget._parameterNode.inputVolume.GetName() == "chosen"
    assert widget.ui.inputSelector.currentNode().GetName() == "chosen"


def test_module_that_ignores_the_end_of_import_misses_the_loaded_node(slicer_host, tmp_path):
    """As in Slicer: the parameter node changes before the node it refers to is there, and values are cached."""
    import numpy as np
    import slicer

    ignoring = SCRIPT.replace("EndImportEvent, self.onEndImport", "StartImportEvent, self.onEndImport")
    slicer_host.load_module(write_module(tmp_path, ignoring))
    widget = slicer_host.enter("Tiny")
    widget.ui.inputSelector.setCurrentNode(slicer.util.addVolumeFromArray(np.zeros((3, 4, 5)), name="chosen"))
    slicer_host.save_scene(tmp_path / "scene.mrb")
    slicer_host.close_scene()
    slicer_host.load_scene(tmp_path / "scene.mrb")
    assert widget._parameterNode.parameterNode.GetNodeReference("inputVolume").GetName() == "chosen"
    assert widget._parameterNode.inputVolume is None


def test_reload_cleans_up_and_takes_the_new_script(tiny, tmp_path):
    import slicer

    old = tiny.enter("Tiny")
    old_events = events()
    write_module(tmp_path, SCRIPT.replace("amount %g", "sum %g"))
    new = tiny.reload("Tiny")
    assert old_events[-1] == "cleanup"
    assert new is not old
    assert new.parent == old.parent
    assert new.parent.isEntered
    assert events() == ["widget", "setup"]
    assert slicer.modules.TinyWidget is new
    new.enter()
    new.ui.applyButton.click()
    assert new._parameterNode.label == "sum 2.5"


def test_observer_left_by_cleanup_shows_after_reload(slicer_host, tmp_path):
    """What a forgotten removeObservers does in Slicer it does here, and the host tells."""
    slicer_host.load_module(write_module(tmp_path, SCRIPT.replace("        self.removeObservers()\n", "")))
    slicer_host.enter("Tiny")
    first = events()
    slicer_host.reload("Tiny")
    slicer_host.close_scene()
    assert first[-2:] == ["start close", "end close"]
    assert events()[-2:] == ["start close", "end close"]
    problems = slicer_host.problems()
    assert [p for p in problems if "left the observer TinyWidget.onStartClose on vtkMRMLScene" in p]
    slicer_host.reset()


def test_unload_calls_cleanup_once(tiny):
    tiny.enter("Tiny")
    recorded = events()
    tiny.unload_module("Tiny")
    assert recorded.count("cleanup") == 1
    assert recorded[-2:] == ["exit", "cleanup"]


def test_developer_area_only_in_developer_mode(tiny):

    assert not hasattr(tiny.widget("Tiny"), "reloadButton")
    tiny.unload_module("Tiny")


def test_developer_area_reloads(slicer_host, tmp_path):
    import qt

    qt.QSettings().setValue("Developer/DeveloperMode", True)
    slicer_host.load_module(write_module(tmp_path))
    widget = slicer_host.enter("Tiny")
    widget.reloadButton.click()
    assert slicer_host.widget("Tiny") is not widget


def test_edited_node_hooks_must_return_their_types(slicer_host, tmp_path):
    script = SCRIPT + textwrap.dedent(
        """
        TinyWidget.nodeEditable = lambda self, node: 1
        TinyWidget.setEditedNode = lambda self, node, role="", context="": True
        """
    )
    slicer_host.load_module(write_module(tmp_path, script))
    slicer_host.widget("Tiny")
    import slicer

    panel = slicer.modules.tiny.widgetRepresentation()
    assert panel.setEditedNode(None) is True
    with pytest.raises(RuntimeError, match="nodeEditable"):
        panel.nodeEditable(None)


def test_grab_draws_the_panel(tiny, tmp_path):
    import qt

    tiny.enter("Tiny")
    tiny.grab("Tiny", tmp_path / "pictures" / "tiny.png")
    picture = qt.QImage(str(tmp_path / "pictures" / "tiny.png"))
    assert picture.width() > 300
    assert picture.height() > 100


# Generic test


def test_generic_module_test_passes(tiny):
    tiny.generic_module_test("Tiny")


@pytest.mark.parametrize(
    "line, attribute",
    [
        ('        self.parent.contributors = ["A. Person (Somewhere)"]\n', "contributors"),
        ('        self.parent.acknowledgementText = _("Nobody paid.")\n', "acknowledgementText"),
        ('        self.parent.helpText = _("Adds a number.") + self.getDefaultModuleDocumentationLink()\n', "helpText"),
    ],
)
def test_generic_module_test_finds_template_texts(slicer_host, tmp_path, line, attribute):
    assert line in SCRIPT
    slicer_host.load_module(write_module(tmp_path, SCRIPT.replace(line, "")))
    with pytest.raises(AssertionError, match=attribute):
        slicer_host.generic_module_test("Tiny")


# Logic and test classes


def test_parameter_node_is_a_singleton_with_the_module_name(tiny):
    import slicer

    logic = tiny.widget("Tiny").logic
    raw = logic.getParameterNode().parameterNode
    assert logic.getParameterNode().parameterNode is raw
    assert raw.GetSingletonTag() == "Tiny"
    assert raw.GetAttribute("ModuleName") == "Tiny"
    slicer.mrmlScene.Clear(0)
    assert logic.getParameterNode().parameterNode.GetAttribute("ModuleName") == "Tiny"


def test_several_parameter_nodes(tiny):
    import slicer
    import Tiny

    logic = Tiny.TinyLogic()
    logic.isSingletonParameterNode = False
    first = logic.getParameterNode().parameterNode
    assert logic.getParameterNode().parameterNode is first
    slicer.mrmlScene.AddNode(logic.createParameterNode())
    assert len(logic.getAllParameterNodes()) == 2
    assert first.GetSingletonTag() in (None, "")


def test_run_test_collects_every_name_with_test_in_it(tiny):
    import slicer
    import Tiny

    slicer.selfTests["Tiny"]()
    assert Tiny.TinyTest.ran == ["contains test", "test_one"]


def test_missing_test_class_is_an_error(slicer_host, tmp_path):
    import slicer

    slicer_host.load_module(write_module(tmp_path, SCRIPT.replace("class TinyTest", "class OtherTest")))
    with pytest.raises(AssertionError, match="TinyTest"):
        slicer.selfTests["Tiny"]()


def test_widget_without_parent_is_a_window_of_its_own(tiny):
    from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget

    class TinyWidget(ScriptedLoadableModuleWidget):
        pass

    widget = TinyWidget()
    assert widget.parent.visible
    widget.parent.deleteLater()
