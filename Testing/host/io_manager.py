"""Files to nodes and back, as Slicer's IO manager does for slicer.util: readers, writers, scenes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import slicer
import vtk

# Longest extension first decides; a reader that Slicer has and this table lacks makes loading fail.
READERS = (
    ("SceneFile", (".mrb", ".mrml")),
    ("SegmentationFile", (".seg.nrrd", ".seg.nhdr", ".seg.vtm")),
    ("MarkupsFile", (".mrk.json", ".fcsv")),
    ("SequenceFile", (".seq.nrrd", ".seq.mha")),
    ("ColorTableFile", (".ctbl", ".cxml")),
    ("TransformFile", (".h5", ".tfm", ".mat")),
    ("TableFile", (".tsv", ".csv", ".db3", ".sqlite3")),
    ("ModelFile", (".vtk", ".vtp", ".vtu", ".stl", ".ply", ".obj")),
    ("TextFile", (".txt", ".json", ".xml")),
    (
        "VolumeFile",
        (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd", ".hdr", ".img", ".dcm", ".png", ".jpg", ".tif"),
    ),
)
VOLUME_OPTIONS = {"labelmap": 0x1, "center": 0x2, "singleFile": 0x4, "autoWindowLevel": 0x8, "discardOrientation": 0x10}
WRITERS = (
    ("vtkMRMLSegmentationNode", "SegmentationFile"),
    ("vtkMRMLVolumeNode", "VolumeFile"),
    ("vtkMRMLMarkupsNode", "MarkupsFile"),
    ("vtkMRMLModelNode", "ModelFile"),
    ("vtkMRMLTransformNode", "TransformFile"),
    ("vtkMRMLTableNode", "TableFile"),
    ("vtkMRMLColorNode", "ColorTableFile"),
    ("vtkMRMLTextNode", "TextFile"),
    ("vtkMRMLSequenceNode", "SequenceFile"),
)


class IOManager:
    """Stand-in for qSlicerCoreIOManager over the logics and the storage nodes."""

    def __init__(self, scene: slicer.vtkMRMLScene, application_logic: slicer.vtkSlicerApplicationLogic) -> None:
        self._scene = scene
        self._application_logic = application_logic
        self._readers: dict[str, Callable] = {
            "VolumeFile": self._load_volume,
            "SegmentationFile": self._load_segmentation,
            "MarkupsFile": self._load_markups,
            "ModelFile": self._load_model,
            "TransformFile": self._load_transform,
            "TableFile": self._load_table,
            "TextFile": self._load_text,
            "ColorTableFile": self._load_color,
            "SequenceFile": self._load_sequence,
            "SceneFile": self._load_scene,
        }

    def fileType(self, file: str) -> str:
        name = os.path.basename(_text(file)).lower()
        matches = [
            (len(extension), kind)
            for kind, extensions in READERS
            for extension in extensions
            if name.endswith(extension)
        ]
        return max(matches)[1] if matches else "NoFile"

    def loadNodes(self, fileType: str, parameters: dict, loadedNodes=None, userMessages=None) -> bool:
        path = _text(parameters["fileName"])
        messages = userMessages if userMessages is not None else slicer.vtkMRMLMessageCollection()
        if fileType not in self._readers:
            _fail(messages, f"No reader found for file {path} of type {fileType}")
            return False
        if not os.path.exists(path):
            _fail(messages, f"File {path} does not exist")
            return False
        nodes = [node for node in self._readers[fileType](path, parameters, messages) if node is not None]
        if loadedNodes is not None:
            for node in nodes:
                loadedNodes.AddItem(node)
        return bool(nodes) or (fileType == "SceneFile" and not _has_errors(messages))

    def fileWriterFileType(self, node: slicer.vtkMRMLNode, extension: str = "") -> str:
        for class_name, kind in WRITERS:
            if node.IsA(class_name):
                return kind
        return "NoFile"

    def fileWriterExtensions(self, node: slicer.vtkMRMLNode) -> tuple[str, ...]:
        storage = self._new_storage(node, "")
        if storage is None:
            return ()
        types = storage.GetSupportedWriteFileTypes()
        return tuple(types.GetValue(index) for index in range(types.GetNumberOfValues()))

    def extractKnownExtension(self, fileName: str, node: slicer.vtkMRMLNode) -> str:
        formats = slicer.vtkDataFileFormatHelper.GetFileExtensionFromFormatString
        known = [formats(text) for text in self.fileWriterExtensions(node)]
        return max((e for e in known if _text(fileName).lower().endswith(e)), key=len, default="")

    def stripKnownExtension(self, fileName: str, node: slicer.vtkMRMLNode) -> str:
        extension = self.extractKnownExtension(fileName, node)
        return fileName[: -len(extension)] if extension else fileName

    def saveNodes(self, fileType: str, parameters: dict, userMessages=None, scene=None) -> bool:
        path = _text(parameters["fileName"])
        messages = userMessages if userMessages is not None else slicer.vtkMRMLMessageCollection()
        scene = scene if scene is not None else self._scene
        if fileType == "SceneFile":
            return self._save_scene(scene, path, messages)
        node = scene.GetNodeByID(parameters["nodeID"])
        if node is None or not node.IsA("vtkMRMLStorableNode"):
            _fail(messages, f"No writer found to write file {path} of type {fileType}")
            return False
        if node.IsA("vtkMRMLTextNode"):
            # Short texts are kept in the scene file unless a file is asked for.
            node.SetForceCreateStorageNode(node.CreateStorageNodeAlways)
        if node.GetStorageNode() is None:
            node.AddDefaultStorageNode(path)
        if node.GetStorageNode() is None:
            _fail(messages, f"Node {parameters['nodeID']} cannot be stored in {path}")
            return False
        return self._write(node, node.GetStorageNode(), path, parameters, messages)

    def exportNodes(
        self, nodeIDs: list, fileNames: list, parameters: dict, hardenTransforms: bool, userMessages=None
    ) -> bool:
        messages = userMessages if userMessages is not None else slicer.vtkMRMLMessageCollection()
        results = []
        for node_id, path in zip(nodeIDs, fileNames, strict=True):
            node = self._scene.GetNodeByID(node_id)
            source = self._hardened_copy(node) if hardenTransforms else node
            try:
                storage = self._new_storage(source, _text(path))
                if storage is None:
                    _fail(messages, f"Node {node_id} cannot be exported to {path}")
                    results.append(False)
                    continue
                results.append(self._write(source, storage, path, parameters, messages))
            finally:
                if source is not node:
                    self._scene.RemoveNode(source)
        return all(results)

    def _write(self, node, storage, path: str, parameters: dict, messages) -> bool:
        if "useCompression" in parameters:
            storage.SetUseCompression(int(parameters["useCompression"]))
        storage.SetFileName(path)
        storage.SetURI(None)
        if storage.WriteData(node):
            return True
        messages.AddMessages(storage.GetUserMessages())
        _fail(messages, f"Saving of {node.GetID()} to {path} failed")
        return False

    def _new_storage(self, node, path: str):
        """Return a storage node that belongs to nobody, or None."""
        class_name = node.GetDefaultStorageNodeClassName(path) if path else node.GetDefaultStorageNodeClassName()
        if not class_name:
            return None
        storage = self._scene.CreateNodeByClass(class_name)
        storage.UnRegister(None)
        storage.SetScene(self._scene)
        return storage

    def _hardened_copy(self, node):
        """Return a temporary copy of a node with its parent transforms applied."""
        copy = self._scene.AddNewNodeByClass(node.GetClassName(), f"{node.GetName()} export")
        copy.SetHideFromEditors(True)
        copy.CopyContent(node)
        if node.IsA("vtkMRMLTransformableNode") and node.GetParentTransformNode() is not None:
            copy.SetAndObserveTransformNodeID(node.GetTransformNodeID())
            copy.HardenTransform()
        return copy

    def _save_scene(self, scene, path: str, messages) -> bool:
        if path.endswith(".mrb"):
            return bool(scene.WriteToMRB(path, None, messages))
        if path.endswith(".mrml"):
            scene.SetURL(path)
            return bool(scene.Commit(path))
        return bool(scene.SaveSceneToSlicerDataBundleDirectory(path, None, messages))

    def _load_scene(self, path: str, parameters: dict, messages) -> Iterable:
        clear = bool(parameters.get("clear", False))
        if path.endswith(".mrb"):
            if not self._scene.ReadFromMRB(path, clear, messages):
                _fail(messages, f"Reading of {path} failed")
            return ()
        self._scene.SetURL(path)
        if not (self._scene.Connect(messages) if clear else self._scene.Import(messages)):
            _fail(messages, f"Reading of {path} failed")
        return ()

    def _load_volume(self, path: str, parameters: dict, messages) -> Iterable:
        options = sum(bit for name, bit in VOLUME_OPTIONS.items() if parameters.get(name))
        files = vtk.vtkStringArray()
        for name in parameters.get("fileNames", ()):
            files.InsertNextValue(_text(name))
        node = slicer.modules.volumes.logic().AddArchetypeVolume(
            path,
            parameters.get("name", _base_name(path)),
            options,
            files if files.GetNumberOfValues() else None,
            messages,
        )
        if node is None:
            return ()
        if "colorNodeID" in parameters:
            node.GetDisplayNode().SetAndObserveColorNodeID(parameters["colorNodeID"])
        if parameters.get("show", True):
            selection = self._application_logic.GetSelectionNode()
            if node.IsA("vtkMRMLLabelMapVolumeNode"):
                selection.SetActiveLabelVolumeID(node.GetID())
            else:
                selection.SetActiveVolumeID(node.GetID())
            self._application_logic.PropagateVolumeSelection()
        return (node,)

    def _load_segmentation(self, path: str, parameters: dict, messages) -> Iterable:
        color = self._scene.GetNodeByID(parameters["colorNodeID"]) if "colorNodeID" in parameters else None
        opacities = bool(parameters.get("autoOpacities", True))
        logic = slicer.modules.segmentations.logic()
        return (logic.LoadSegmentationFromFile(path, opacities, parameters.get("name", ""), color, messages),)

    def _load_markups(self, path: str, parameters: dict, messages) -> Iterable:
        name = parameters.get("name", _base_name(path))
        node_id = slicer.modules.markups.logic().LoadMarkups(path, name, messages)
        return [self._scene.GetNodeByID(part) for part in (node_id or "").split(",") if part]

    def _load_model(self, path: str, parameters: dict, messages) -> Iterable:
        system = parameters.get("coordinateSystem", slicer.vtkMRMLStorageNode.CoordinateSystemLPS)
        return (slicer.modules.models.logic().AddModel(path, system, messages),)

    def _load_transform(self, path: str, parameters: dict, messages) -> Iterable:
        return (slicer.modules.transforms.logic().AddTransform(path, self._scene, messages),)

    def _load_table(self, path: str, parameters: dict, messages) -> Iterable:
        name = parameters.get("name", _base_name(path))
        return (slicer.modules.tables.logic().AddTable(path, name, True, "", messages),)

    def _load_color(self, path: str, parameters: dict, messages) -> Iterable:
        return (slicer.modules.colors.logic().LoadColorFile(path, _base_name(path), messages),)

    def _load_sequence(self, path: str, parameters: dict, messages) -> Iterable:
        return (slicer.modules.sequences.logic().AddSequence(path, messages),)

    def _load_text(self, path: str, parameters: dict, messages) -> Iterable:
        node = self._scene.AddNewNodeByClass("vtkMRMLTextNode", _base_name(path))
        node.SetForceCreateStorageNode(node.CreateStorageNodeAlways)
        node.AddDefaultStorageNode(path)
        if node.GetStorageNode().ReadData(node):
            return (node,)
        messages.AddMessages(node.GetStorageNode().GetUserMessages())
        self._scene.RemoveNode(node)
        return ()


def _text(path: object) -> str:
    """Return a path that is a str; Qt does not convert a pathlib.Path, and neither does this."""
    if not isinstance(path, str):
        raise ValueError(f"file name {path!r} is a {type(path).__name__}; Qt takes strings only, pass str(path)")
    return path


def _base_name(path: str) -> str:
    return Path(path).name.split(".")[0]


def _fail(messages, text: str) -> None:
    messages.AddMessage(vtk.vtkCommand.ErrorEvent, text)


def _has_errors(messages) -> bool:
    return messages.GetNumberOfMessagesOfType(vtk.vtkCommand.ErrorEvent) > 0
