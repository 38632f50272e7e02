"""The Segment Editor effect against a stand-in of the editor's side, which the host does not have.

The stand-in keeps to what qSlicerSegmentEditorScriptedEffect offers Python: it loads the file by Slicer's naming rules,
hands over the editor's parameter node and applies the label map to the selected segment. Not covered: the editor's
masking, cursors, undo stack, and its layout of the options.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


class ScriptedEffect:
    """What the C++ object behind a scripted effect does for it."""

    registered: list = []

    def __init__(self, parent):
        import qt

        assert parent is None
        self.name = self.title = ""
        self.perSegment = self.requireSegments = False
        self.frame = qt.QWidget()
        self.layout = qt.QFormLayout(self.frame)
        self.node, self.parameters, self.references, self.saved = None, {}, {}, 0

    def setPythonSource(self, source):
        """Load as Slicer does: module named after the folder, class named after the file."""
        assert "\\" not in source
        path = Path(source)
        module_name = path.parent.name
        class_name = path.stem if path.stem.endswith("Effect") else f"{path.stem}Effect"
        assert module_name not in ("WeakSegmentLib", "BreastBiomarkersLib"), "the file would overwrite the package"
        spec = importlib.util.spec_from_file_location(module_name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        spec.loader.exec_module(module)
        self._self = getattr(module, class_name)(self)
        return True

    def self(self):
        return self._self

    def parameterSetNode(self):
        return self.node

    def addOptionsWidget(self, widget):
        self.layout.addRow(widget)

    def addLabeledOptionsWidget(self, label, widget):
        self.layout.addRow(label, widget)

    def parameter(self, name):
        return self.parameters.get(name, "")

    def integerParameter(self, name):
        return int(self.parameters.get(name, 0))

    def setParameter(self, name, value):
        self.parameters[name] = str(value)

    def setParameterDefault(self, name, value):
        self.parameters.setdefault(name, str(value))

    def nodeReference(self, name):
        return self.references.get(name)

    def setNodeReference(self, name, node):
        self.references[name] = node
        self._self.updateGUIFromMRML()

    def saveStateForUndo(self):
        self.saved += 1

    def defaultModifierLabelmap(self):
        import slicer

        image = slicer.vtkOrientedImageData()
        geometry = (
            self.node.GetSegmentationNode()
            .GetSegmentation()
            .GetConversionParameter(slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName())
        )
        slicer.vtkSegmentationConverter.DeserializeImageGeometry(geometry, image, True, 3, 1)
        image.GetPointData().GetScalars().Fill(0)
        return image

    def modifySelectedSegmentByLabelmap(self, image, mode):
        import slicer

        assert mode == slicer.qSlicerSegmentEditorAbstractEffect.ModificationModeSet
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        segment = self.node.GetSelectedSegmentID()
        assert logic.SetBinaryLabelmapToSegment(image, self.node.GetSegmentationNode(), segment, logic.MODE_REPLACE)


@pytest.fixture
def effect(slicer_host, monkeypatch):
    """The effect as the module registers it, in an editor that shows a segment of an oblique image."""
    import qt
    import slicer

    ScriptedEffect.registered.clear()

    class AbstractScriptedSegmentEditorEffect:
        def __init__(self, scriptedEffect):
            self.scriptedEffect = scriptedEffect

        def register(self):
            ScriptedEffect.registered.append(self)

    base = types.ModuleType("SegmentEditorEffects")
    base.AbstractScriptedSegmentEditorEffect = AbstractScriptedSegmentEditorEffect
    binding = types.ModuleType("qSlicerSegmentationsEditorEffectsPythonQt")
    binding.qSlicerSegmentEditorScriptedEffect = ScriptedEffect
    monkeypatch.setitem(sys.modules, "SegmentEditorEffects", base)
    monkeypatch.setitem(sys.modules, "qSlicerSegmentationsEditorEffectsPythonQt", binding)
    monkeypatch.setitem(sys.modules, "SegmentEditorExtremePointsLib", None)
    modes = types.SimpleNamespace(ModificationModeSet=0)
    monkeypatch.setattr(slicer, "qSlicerSegmentEditorAbstractEffect", modes, raising=False)
    slicer_host.load_module(ROOT / "WeakSegment" / "WeakSegment.py")
    slicer_host.startup_completed()
    made = ScriptedEffect.registered[-1]  # modules loaded by earlier tests are told of the start, too
    cases = importlib.import_module("inslicer.weaksegment_cases")

    class Editor:
        it, scripted = made, made.scriptedEffect
        image = cases.add_volume("post", 80, 1)
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn")

        @classmethod
        def place(cls, count=6):
            cases.place(cls.it.pointsNode(), count)

        @classmethod
        def mask(cls, segment="a"):
            return slicer.util.arrayFromSegmentBinaryLabelmap(cls.segmentation, segment, cls.image) > 0

    Editor.segmentation.CreateDefaultDisplayNodes()
    Editor.segmentation.SetReferenceImageGeometryParameterFromVolumeNode(Editor.image)
    for segment in ("a", "b"):
        Editor.segmentation.GetSegmentation().AddEmptySegment(segment, f"mass {segment}")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    node.SetAndObserveSegmentationNode(Editor.segmentation)
    node.SetAndObserveSourceVolumeNode(Editor.image)
    node.SetSelectedSegmentID("a")
    Editor.scripted.node, Editor.node = node, node
    made.setupOptionsFrame()
    made.setMRMLDefaults()
    made.activate()
    Editor.cases = cases
    assert isinstance(qt, types.ModuleType)
    yield Editor
    made.deactivate()
    Editor.scripted.frame.deleteLater()


def test_the_stand_in_offers_nothing_the_editor_does_not():
    """Names Python can reach on qSlicerSegmentEditorScriptedEffect of Slicer 5.12, as far as they matter here."""
    offered = {
        *("name", "title", "perSegment", "requireSegments", "setPythonSource", "self", "parameterSetNode"),
        *("addOptionsWidget", "addLabeledOptionsWidget", "parameter", "integerParameter", "setParameter"),
        *("setParameterDefault", "nodeReference", "setNodeReference", "saveStateForUndo", "defaultModifierLabelmap"),
        "modifySelectedSegmentByLabelmap",
    }
    assert {name for name in vars(ScriptedEffect) if not name.startswith("_")} - {"registered"} <= offered


def test_registered_and_cloned(effect):
    assert effect.scripted.name == "Extreme points"
    assert effect.scripted.perSegment
    assert effect.scripted.requireSegments
    assert effect.it.helpText()
    assert not effect.it.icon().isNull()
    other = effect.it.clone()
    assert other.self() is not effect.it
    assert other.name == effect.scripted.name


def test_six_points_fill_the_selected_segment(effect):
    it = effect.it
    assert not it.applyButton.enabled
    assert "Place six points" in it.statusLabel.text
    it.placeButton.click()
    assert it.placeWidget.placeModeEnabled
    assert it.placeButton.checked
    effect.place(4)
    assert "Place next: Inferior" in it.statusLabel.text
    effect.place()
    assert not it.placeWidget.placeModeEnabled, "placing ends by itself"
    assert it.applyButton.enabled
    it.applyButton.click()
    assert effect.scripted.saved == 1, "the editor can undo it"
    assert effect.cases.dice(effect.mask(), effect.cases.inside_lesion()) > 0.9
    assert not effect.mask("b").any()
    from BreastBiomarkersLib.inslicer.nodes import segment_tag

    segment = effect.segmentation.GetSegmentation().GetSegment("a")
    record = json.loads(segment_tag(segment, "WeakSegment.Record"))
    assert record["settings"]["exclude_non_enhancing"] is True


def test_choices_reach_the_method(effect):
    it = effect.it
    pre = effect.cases.add_volume("pre", 0, 2)
    it.placeButton.click()
    effect.place()
    it.preSelector.setCurrentNode(pre)
    it.excludeCheckBox.click()
    it.applyButton.click()
    from BreastBiomarkersLib.inslicer.nodes import segment_tag

    record = json.loads(segment_tag(effect.segmentation.GetSegmentation().GetSegment("a"), "WeakSegment.Record"))
    assert record["pre"] == "pre"
    assert record["settings"]["exclude_non_enhancing"] is False


def test_every_segment_has_its_own_points(effect):
    it = effect.it
    it.placeButton.click()
    effect.place()
    first = it.pointsNode()
    effect.node.SetSelectedSegmentID("b")
    it.updateGUIFromMRML()
    assert it.pointsNode() is None
    assert not first.GetDisplayNode().GetVisibility()
    assert not it.applyButton.enabled
    it.placeButton.click()
    assert it.pointsNode() is not first
    effect.node.SetSelectedSegmentID("a")
    it.updateGUIFromMRML()
    assert it.pointsNode() is first
    assert first.GetDisplayNode().GetVisibility()
    it.clearButton.click()
    assert first.GetNumberOfDefinedControlPoints() == 0
    assert not it.applyButton.enabled


def test_bad_input_is_explained_and_changes_nothing(effect):
    import slicer

    it = effect.it
    it.placeButton.click()
    effect.place()
    slicer.util.arrayFromVolume(effect.image)[:] = 7
    with effect.cases.shown_errors() as errors:
        it.applyButton.click()
    assert len(errors) == 1
    assert "is constant (7)" in errors[0]
    assert effect.scripted.saved == 0
    assert not effect.mask().any()
    effect.node.SetAndObserveSourceVolumeNode(None)
    it.sourceVolumeNodeChanged()
    assert not it.applyButton.enabled
    assert "No image is selected" in it.statusLabel.text


def test_nodes_that_go_away(effect):
    import slicer

    it = effect.it
    it.placeButton.click()
    effect.place()
    slicer.mrmlScene.RemoveNode(it.pointsNode())
    it.updateGUIFromMRML()
    assert not it.applyButton.enabled
    effect.segmentation.GetSegmentation().RemoveSegment("a")
    it.updateGUIFromMRML()
    assert "Select a segment" in it.statusLabel.text
    slicer.mrmlScene.RemoveNode(effect.segmentation)
    it.updateGUIFromMRML()
    effect.scripted.node = None
    it.updateGUIFromMRML()
    assert not it.placeButton.enabled


def test_leaving_stops_placing_and_listening(effect):
    it = effect.it
    it.placeButton.click()
    points = it.pointsNode()
    it.deactivate()
    assert not it.placeWidget.placeModeEnabled
    assert not points.GetDisplayNode().GetVisibility()
    it.statusLabel.setText("as it was")
    effect.place()
    assert it.statusLabel.text == "as it was"
    it.activate()
    assert points.GetDisplayNode().GetVisibility()


def test_without_an_editor_nothing_is_registered(slicer_host, monkeypatch):
    monkeypatch.setitem(sys.modules, "qSlicerSegmentationsEditorEffectsPythonQt", None)
    slicer_host.load_module(ROOT / "WeakSegment" / "WeakSegment.py")
    slicer_host.startup_completed()


def test_picture_of_the_options(slicer_host, effect, tmp_path):
    import os

    effect.it.placeButton.click()
    effect.place(4)
    folder = Path(os.environ.get("PANEL_PICTURES", tmp_path))
    slicer_host.grab(effect.scripted.frame, folder / "ExtremePointsEffect.png")
    assert (folder / "ExtremePointsEffect.png").stat().st_size > 1000
