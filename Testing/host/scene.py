"""The MRML side of the application: scene, application logic, module logics and slice views."""

from __future__ import annotations

import gc
from pathlib import Path

import slicer
import vtk

from .share import SHARE_DIRECTORY, module_share_directory

# Module name, title and logic class, each after the modules it needs.
MODULES = (
    ("Units", "Units", "vtkSlicerUnitsLogic"),
    ("Colors", "Colors", "vtkSlicerColorLogic"),
    ("SubjectHierarchy", "Subject Hierarchy", "vtkSlicerSubjectHierarchyModuleLogic"),
    ("Terminologies", "Terminologies", "vtkSlicerTerminologiesModuleLogic"),
    ("Cameras", "Cameras", "vtkSlicerCamerasModuleLogic"),
    ("Volumes", "Volumes", "vtkSlicerVolumesLogic"),
    ("Models", "Models", "vtkSlicerModelsLogic"),
    ("Markups", "Markups", "vtkSlicerMarkupsLogic"),
    ("Transforms", "Transforms", "vtkSlicerTransformLogic"),
    ("Tables", "Tables", "vtkSlicerTablesLogic"),
    ("Plots", "Plots", "vtkSlicerPlotsLogic"),
    ("Texts", "Texts", "vtkSlicerTextsLogic"),
    ("Sequences", "Sequences", "vtkSlicerSequencesLogic"),
    ("Segmentations", "Segmentations", "vtkSlicerSegmentationsModuleLogic"),
    ("ViewControllers", "View Controllers", "vtkSlicerViewControllersLogic"),
    ("VolumeRendering", "Volume Rendering", "vtkSlicerVolumeRenderingLogic"),
    ("SceneViews", "Scene Views", "vtkSlicerSceneViewsModuleLogic"),
    ("CropVolume", "Crop Volume", "vtkSlicerCropVolumeLogic"),
    ("Reformat", "Reformat", "vtkSlicerReformatLogic"),
    ("Data", "Data", "vtkSlicerDataModuleLogic"),
)
SLICE_VIEWS = (("Red", "Axial"), ("Yellow", "Sagittal"), ("Green", "Coronal"))
# What the data module shows.
HIERARCHY_CLASSES = (
    "vtkMRMLDisplayableNode",
    "vtkMRMLTableNode",
    "vtkMRMLTextNode",
    "vtkMRMLPlotChartNode",
    "vtkMRMLPlotSeriesNode",
    "vtkMRMLSequenceNode",
    "vtkMRMLSequenceBrowserNode",
)


class Scene:
    """A real scene with the real logics of the loadable modules, in the order in which Slicer builds them.

    Attributes
    ----------
    node : vtkMRMLScene
    application_logic : vtkSlicerApplicationLogic
    logics : dict of str to logic
        By module name.
    """

    def __init__(self, home: Path, temporary: Path) -> None:
        self.node = slicer.vtkMRMLScene()
        # util.py reads slicer.mrmlScene; the logics below do not.
        slicer.mrmlScene = self.node
        self.application_logic = self._make_application_logic(home, temporary)
        self.logics = {name: self._make_logic(name, class_name, home) for name, _, class_name in MODULES}
        self._remote_io = self._make_remote_io(temporary)
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.node, True)
        self._slice_logics = self.application_logic.GetSliceLogics()
        for name, _ in SLICE_VIEWS:
            self._add_slice_view(name)
        self.reset_views()
        # While a node is in the scene its Python object must live: VTK lets the garbage collector clear a callback
        # that refers to its node although the node still has it as observer, and the next event crashes the process.
        self._kept = {self.node.GetNthNode(index) for index in range(self.node.GetNumberOfNodes())}
        self._observers = [
            self.node.AddObserver(self.node.NodeAddedEvent, self._on_node_added),
            self.node.AddObserver(self.node.NodeAboutToBeRemovedEvent, self._on_node_about_to_be_removed),
            self.node.AddObserver(self.node.NodeRemovedEvent, self._on_node_removed),
            self.node.AddObserver(self.node.EndImportEvent, self._on_import_ended),
        ]

    def _make_application_logic(self, home: Path, temporary: Path) -> slicer.vtkSlicerApplicationLogic:
        logic = slicer.vtkSlicerApplicationLogic()
        logic.SetTemporaryPath(str(temporary))
        logic.SetHomeDirectory(str(home))
        logic.SetShareDirectory(SHARE_DIRECTORY)
        logic.SetMRMLScene(self.node)
        logic.SetSliceLogics(vtk.vtkCollection())
        logic.SetViewLogics(vtk.vtkCollection())
        for factory in (
            slicer.vtkMRMLSliceViewDisplayableManagerFactory,
            slicer.vtkMRMLThreeDViewDisplayableManagerFactory,
        ):
            factory.GetInstance().SetMRMLApplicationLogic(logic)
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        self.node.AddNode(crosshair)
        return logic

    def _make_logic(self, name: str, class_name: str, home: Path) -> slicer.vtkMRMLAbstractLogic:
        logic = getattr(slicer, class_name)()
        logic.SetMRMLApplicationLogic(self.application_logic)
        if hasattr(logic, "SetModuleShareDirectory"):
            logic.SetModuleShareDirectory(str(module_share_directory(home, name)))
        logic.SetMRMLScene(self.node)
        self.application_logic.SetModuleLogic(name, logic)
        return logic

    def _make_remote_io(self, temporary: Path) -> slicer.vtkMRMLRemoteIOLogic:
        """Return the logic that reads the files named in a scene; without it no .mrb can be loaded."""
        cache = temporary / "RemoteIO"
        cache.mkdir()
        logic = slicer.vtkMRMLRemoteIOLogic()
        logic.GetCacheManager().SetRemoteCacheDirectory(str(cache))
        logic.SetMRMLScene(self.node)
        logic.AddDataIOToScene()
        return logic

    def _add_slice_view(self, name: str) -> None:
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(self.application_logic)
        logic.SetMRMLScene(self.node)
        logic.AddSliceNode(name)
        self._slice_logics.AddItem(logic)

    def reset_views(self) -> None:
        """Give the slice views the place, size and orientation that they have at the start."""
        for name, orientation in SLICE_VIEWS:
            slice_node = self.application_logic.GetSliceLogicByLayoutName(name).GetSliceNode()
            slice_node.SetOrientation(orientation)
            slice_node.SetSliceOrigin(0.0, 0.0, 0.0)
            slice_node.SetDimensions(256, 256, 1)
            slice_node.SetFieldOfView(256.0, 256.0, 1.0)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node_added(self, _scene: object, _event: str, node: slicer.vtkMRMLNode) -> None:
        self._kept.add(node)
        if not self.node.IsImporting() and not self.node.IsClosing():
            self._add_item(node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node_about_to_be_removed(self, _scene: object, _event: str, node: slicer.vtkMRMLNode) -> None:
        if self.node.IsClosing() or not any(node.IsA(name) for name in HIERARCHY_CLASSES):
            return
        hierarchy = self.node.GetSubjectHierarchyNode()
        item = hierarchy.GetItemByDataNode(node)
        if item != hierarchy.GetInvalidItemID():
            hierarchy.RemoveItem(item, False, False)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node_removed(self, _scene: object, _event: str, node: slicer.vtkMRMLNode) -> None:
        self._kept.discard(node)

    def _on_import_ended(self, _scene: object, _event: str) -> None:
        for index in range(self.node.GetNumberOfNodes()):
            self._add_item(self.node.GetNthNode(index))

    def _add_item(self, node: slicer.vtkMRMLNode) -> None:
        """Give a data node its item in the subject hierarchy, which in Slicer the Qt plugins do."""
        if node.GetHideFromEditors() or not any(node.IsA(name) for name in HIERARCHY_CLASSES):
            return
        hierarchy = self.node.GetSubjectHierarchyNode()
        if hierarchy is not None and hierarchy.GetItemByDataNode(node) == hierarchy.GetInvalidItemID():
            hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

    def python_observers(self) -> list[tuple[object, object]]:
        """Return the Python callbacks on the scene and its nodes, each with what it observes."""
        observed = (self.node, self.application_logic, *self._kept)
        return [
            (target, callback) for target in observed for callback in gc.get_referents(target) if callable(callback)
        ]

    def clear(self) -> None:
        """Close the scene as the user does: what is no singleton goes, singletons fall back to their defaults."""
        self.node.Clear(0)

    def end_states(self) -> None:
        """End what a broken test has left open, so that the next one starts clean."""
        node = self.node
        for state in (node.BatchProcessState, node.ImportState, node.CloseState, node.RestoreState, node.SaveState):
            for _ in range(10):
                if node.IsBatchProcessing() or node.GetStates() & state == state:
                    node.EndState(state)

    def is_balanced(self) -> bool:
        """Return whether every StartState of the scene met its EndState."""
        return self.node.GetStates() == 0

    def delete(self) -> None:
        """Take the parts down in the reverse order; in any other order the interpreter may crash at its exit."""
        for tag in self._observers:
            self.node.RemoveObserver(tag)
        self._kept.clear()
        self.node.Clear(1)
        for index in range(self._slice_logics.GetNumberOfItems()):
            self._slice_logics.GetItemAsObject(index).SetMRMLScene(None)
        self._slice_logics.RemoveAllItems()
        for name in reversed(list(self.logics)):
            self.application_logic.SetModuleLogic(name, None)
            self.logics[name].SetMRMLScene(None)
            self.logics[name].SetMRMLApplicationLogic(None)
        self._remote_io.RemoveDataIOFromScene()
        self._remote_io.SetMRMLScene(None)
        for factory in (
            slicer.vtkMRMLSliceViewDisplayableManagerFactory,
            slicer.vtkMRMLThreeDViewDisplayableManagerFactory,
        ):
            factory.GetInstance().SetMRMLApplicationLogic(None)
        self.application_logic.SetMRMLScene(None)
        self.logics.clear()
