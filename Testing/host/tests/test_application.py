"""The application half of the host: scene, files, slicer.util, and that it is stricter than Slicer, never laxer."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

HOST = Path(__file__).resolve().parents[1]


def oblique_matrix(k_spacing: float = 2.5) -> np.ndarray:
    a = np.deg2rad(31.0)
    rotation = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = rotation @ np.diag([-0.8, -1.4, k_spacing])
    matrix[:3, 3] = (12.5, -40.0, 7.25)
    return matrix


def add_volume(name: str = "image", shape: tuple[int, int, int] = (5, 7, 11)):
    import slicer

    array = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    return slicer.util.addVolumeFromArray(array, oblique_matrix(), name), array


def ijk_to_ras(node) -> np.ndarray:
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


# Start-up


def test_start_is_idempotent(slicer_host):
    from host.application import start

    assert start() is slicer_host


def test_there_is_no_main_window(slicer_host):
    import slicer

    assert slicer.util.mainWindow() is None
    assert slicer.app.layoutManager() is None
    assert slicer.util.showStatusMessage("text") is False
    with pytest.raises(RuntimeError, match="main window"):
        slicer.util.selectModule("Volumes")


def test_names_that_slicer_core_flattens_are_hidden(slicer_host):
    import slicer

    flattened = [name for name in slicer.util.__all__ if hasattr(slicer, name)]
    assert flattened == ["moduleNames"]  # Slicer has an object of that name, too
    with pytest.raises(ImportError):
        exec("from slicer import getNode")
    for kit in ("MRMLCore", "vtkSlicerVolumesModuleLogic", "slicer_core"):
        assert not hasattr(slicer, kit)
    assert slicer.vtkMRMLSegmentationNode().IsA("vtkMRMLNode")


def test_app_names_are_those_of_the_api(slicer_host):
    """Each public name of the emulation is one that Slicer shows, of the same kind."""
    from host.slicer_app import NOT_EMULATED, Application

    classes = json.loads((HOST / "api_surface.json").read_text(encoding="utf-8"))["classes"]
    described = [classes[name] for name in ("qSlicerApplication", "qSlicerCoreApplication")]
    properties = {entry["name"] for c in described for entry in c.get("properties", ())}
    kinds = ("slots", "invokables", "decorator_methods")
    methods = {e["sig"].partition("(")[0] for c in described for kind in kinds for e in c.get(kind, ())}
    of_qobject = {"connect", "disconnect", "inherits", "className", "translate", "exit", "quit"}
    own = {name: value for name, value in vars(Application).items() if not name.startswith("_") and name != "emit_own"}
    assert {name for name, value in own.items() if isinstance(value, property)} <= properties
    assert {name for name, value in own.items() if not isinstance(value, property)} <= methods | of_qobject
    assert set(NOT_EMULATED) <= methods | of_qobject


def test_io_manager_names_are_those_of_the_api(slicer_host):
    from host.io_manager import IOManager

    classes = json.loads((HOST / "api_surface.json").read_text(encoding="utf-8"))["classes"]
    allowed = {e["sig"].partition("(")[0] for e in classes["qSlicerCoreIOManager"]["invokables"]}
    assert {name for name in vars(IOManager) if not name.startswith("_")} <= allowed


def test_app_property_called_like_a_method_fails(slicer_host):
    import slicer

    assert Path(slicer.app.temporaryPath).is_dir()
    with pytest.raises(TypeError):
        slicer.app.temporaryPath()
    assert slicer.app.testingEnabled() is True
    assert slicer.app.applicationName == "Slicer"


@pytest.mark.parametrize("name", ["extensionsManagerModel", "restart", "openNodeModule", "exit", "launchDesigner"])
def test_app_says_what_it_does_not_emulate(slicer_host, name):
    import slicer

    with pytest.raises(NotImplementedError, match=name):
        getattr(slicer.app, name)()


def test_app_refuses_unknown_names(slicer_host):
    import slicer

    with pytest.raises(AttributeError):
        _ = slicer.app.noSuchThing
    with pytest.raises(AttributeError):
        slicer.app.noSuchThing = 1
    with pytest.raises(AttributeError):
        slicer.app.processEvents = None


def test_startup_completed_calls_connected_functions_and_keeps_their_errors(slicer_host):
    import slicer

    called = []
    slicer.app.connect("startupCompleted()", lambda: called.append(1))
    slicer.app.connect("startupCompleted()", lambda: 1 / 0)
    with slicer_host.expected_error(ZeroDivisionError):
        slicer_host.startup_completed()
    assert called == [1]
    slicer.app.disconnect("startupCompleted()")


def test_app_connect_with_unknown_signal_fails(slicer_host):
    import slicer

    assert not slicer.app.connect("startupCompleted(bool)", lambda: None)
    assert any("No such signal" in problem for problem in slicer_host.problems())
    slicer_host.forget_problems()


def test_settings_are_a_file_of_the_host(slicer_host):
    import qt
    import slicer

    qt.QSettings().setValue("WeakSegment/device", "cpu")
    assert slicer.util.settingsValue("WeakSegment/device", "none") == "cpu"
    assert slicer.app.userSettings().value("WeakSegment/device") == "cpu"
    assert "slicer-host-" in slicer.app.slicerUserSettingsFilePath


def test_settings_do_not_survive_into_the_next_test(slicer_host):
    import slicer

    assert slicer.util.settingsValue("WeakSegment/device", "none") == "none"


# Scene


def test_scene_has_slice_views_and_colors(slicer_host):
    import slicer

    assert slicer.app.mrmlScene() is slicer.mrmlScene
    for name in ("Red", "Yellow", "Green"):
        node = slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceNode{name}")
        assert slicer.app.applicationLogic().GetSliceLogic(node).GetSliceNode() is node
    assert slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed").GetOrientation() == "Axial"


@pytest.mark.parametrize("name", ["Viridis", "Inferno", "Plasma", "Magma", "ColdToHotRainbow"])
def test_color_tables_have_their_ids_and_256_colors(slicer_host, name):
    import slicer

    node = slicer.util.getNode(name)
    assert node.GetID() == f"vtkMRMLColorTableNodeFile{name}.txt"
    assert node.GetNumberOfColors() == 256


def test_viridis_is_viridis(slicer_host):
    import slicer

    matplotlib = pytest.importorskip("matplotlib")
    node = slicer.util.getNode("Viridis")
    color = [0.0] * 4
    table = []
    for index in range(256):
        node.GetColor(index, color)
        table.append(color[:3])
    np.testing.assert_allclose(table, matplotlib.colormaps["viridis"](np.arange(256))[:, :3], atol=2.5 / 255)


def test_labelmaps_and_segmentations_find_default_colors_and_terminology(slicer_host):
    import slicer

    volume, _ = add_volume()
    label = slicer.modules.volumes.logic().CreateAndAddLabelVolume(volume, "labels")
    assert label.GetDisplayNode().GetColorNode().GetName() == "GenericColors"
    logic = slicer.modules.terminologies.logic()
    entry = slicer.vtkSlicerTerminologyEntry()
    text = (
        "Segmentation category and type - 3D Slicer General Anatomy list~SCT^49755003^Morphologically Altered Structure"
        "~SCT^4147007^Mass~^^~Anatomic codes - DICOM master list~^^~^^"
    )
    assert logic.DeserializeTerminologyEntry(text, entry)
    assert entry.GetTypeObject().GetCodeMeaning() == "Mass"


def test_close_scene_keeps_singletons_and_fires_events(slicer_host):
    import slicer

    add_volume()
    events = []
    scene = slicer.mrmlScene
    tags = [
        scene.AddObserver(event, lambda caller, name: events.append(name))
        for event in (scene.StartCloseEvent, scene.EndCloseEvent)
    ]
    slicer_host.close_scene()
    for tag in tags:
        scene.RemoveObserver(tag)
    assert events == ["StartCloseEvent", "EndCloseEvent"] or len(events) == 2
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == []
    assert scene.GetNodeByID("vtkMRMLSliceNodeRed") is not None
    assert slicer.util.getNode("Grey").GetID() == "vtkMRMLColorTableNodeGrey"


def test_subject_hierarchy_follows_nodes(slicer_host):
    import slicer

    node, _ = add_volume()
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "results")
    item = hierarchy.GetItemByDataNode(node)
    hierarchy.SetItemParent(item, folder)
    assert hierarchy.GetItemParent(item) == folder


# Problems are seen


def test_error_of_vtk_is_a_problem(slicer_host):
    import slicer

    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLNoSuchNode")
    assert any("vtkMRMLNoSuchNode" in problem for problem in slicer_host.problems())
    slicer_host.forget_problems()


def test_exception_in_an_observer_is_a_problem(slicer_host):
    import vtk

    node, _ = add_volume()

    def broken(caller, event):
        raise KeyError("observer")

    node.AddObserver(vtk.vtkCommand.ModifiedEvent, broken)
    with slicer_host.expected_error(KeyError, "observer"):
        node.Modified()


def test_exception_in_a_slot_is_a_problem(slicer_host):
    import qt

    button = qt.QPushButton("Go")
    button.connect("clicked()", lambda: [].pop())
    button.click()
    assert any("pop from empty list" in problem for problem in slicer_host.problems())
    slicer_host.forget_problems()


def test_expected_error_that_does_not_come_fails(slicer_host):
    with pytest.raises(AssertionError, match="no slot or observer raised"):
        with slicer_host.expected_error(ValueError):
            pass


def test_unbalanced_scene_state_is_a_problem(slicer_host):
    import slicer

    slicer.mrmlScene.StartState(slicer.mrmlScene.BatchProcessState)
    assert any("without EndState" in problem for problem in slicer_host.problems())
    slicer.mrmlScene.EndState(slicer.mrmlScene.BatchProcessState)
    assert slicer_host.problems() == []


def test_export_without_properties_is_a_problem(slicer_host, tmp_path):
    import slicer

    node, _ = add_volume()
    assert slicer.util.exportNode(node, str(tmp_path / "a.nrrd"))
    assert any("exportNode" in problem for problem in slicer_host.problems())
    assert slicer_host.problems() == []


def test_fixture_fails_a_test_with_problems(tmp_path):
    """The fixture itself, in a process of its own: a swallowed exception must turn the test red."""
    (tmp_path / "conftest.py").write_text("from host.fixtures import slicer_host\n")
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent(
            """
            def test_clean(slicer_host):
                pass

            def test_slot(slicer_host):
                import qt
                button = qt.QPushButton()
                button.connect("clicked()", lambda: 1 / 0)
                button.click()

            def test_state(slicer_host):
                import slicer
                slicer.mrmlScene.StartState(slicer.mrmlScene.ImportState)
            """
        )
    )
    result = run_pytest(tmp_path)
    assert "3 passed, 2 errors" in result.stdout, result.stdout + result.stderr
    assert "ZeroDivisionError" in result.stdout
    assert "without EndState" in result.stdout


def run_pytest(folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(HOST.parent), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


def test_exit_status_is_zero_with_everything_left_open(tmp_path):
    """Nodes, widgets, observers and a shown module at the end of the process must not crash it."""
    script = textwrap.dedent(
        """
        import numpy as np
        from host.application import start
        host = start()
        import qt, slicer, vtk
        volume = slicer.util.addVolumeFromArray(np.zeros((3, 4, 5)), name="left open")
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        segmentation.CreateDefaultDisplayNodes()
        observer = volume.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda c, e: None)
        box = slicer.qMRMLNodeComboBox()
        box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        box.setMRMLScene(slicer.mrmlScene)
        box.show()
        timer = qt.QTimer()
        timer.start(1)
        print("end")
        """
    )
    environment = {**os.environ, "PYTHONPATH": str(HOST.parent)}
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.strip() == "end"
    assert result.stderr == ""


# Files


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".mha"])
def test_volume_keeps_voxels_and_oblique_geometry(slicer_host, tmp_path, suffix):
    import slicer

    node, array = add_volume()
    path = str(tmp_path / f"image{suffix}")
    assert slicer.util.saveNode(node, path, properties={})
    loaded = slicer.util.loadVolume(path, properties={})
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(loaded), array)
    np.testing.assert_allclose(ijk_to_ras(loaded), oblique_matrix(), atol=1e-5)
    assert loaded.GetName() == "image_1"
    composite = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
    assert composite.GetBackgroundVolumeID() == loaded.GetID()


def test_left_handed_volume_keeps_its_place(slicer_host, tmp_path):
    """Slicer turns the slices of a left-handed file round; each voxel stays where it was in space."""
    import slicer

    array = np.random.default_rng(4).normal(size=(5, 7, 11)).astype(np.float32)
    matrix = oblique_matrix(-2.5)
    node = slicer.util.addVolumeFromArray(array, matrix, "image")
    slicer.util.saveNode(node, str(tmp_path / "image.nrrd"), properties={})
    loaded = slicer.util.loadVolume(str(tmp_path / "image.nrrd"), properties={})
    values = slicer.util.arrayFromVolume(loaded)
    for ijk in ((0, 0, 0), (10, 6, 4), (3, 2, 1)):
        i, j, k, _ = np.rint(np.linalg.inv(ijk_to_ras(loaded)) @ matrix @ [*ijk, 1]).astype(int)
        assert values[k, j, i] == array[ijk[::-1]]


def test_loading_options_are_honoured(slicer_host, tmp_path):
    import slicer

    node, _ = add_volume()
    path = str(tmp_path / "image.nrrd")
    slicer.util.saveNode(node, path, properties={})
    loaded = slicer.util.loadVolume(path, properties={"name": "other", "show": False})
    assert loaded.GetName() == "other"
    assert slicer.mrmlScene.GetNodeByID("vtkMRMLSliceCompositeNodeRed").GetBackgroundVolumeID() is None
    assert slicer.util.loadLabelVolume(path, properties={}).IsA("vtkMRMLLabelMapVolumeNode")


def test_missing_and_damaged_files_raise(slicer_host, tmp_path):
    import slicer

    with pytest.raises(RuntimeError, match="does not exist"):
        slicer.util.loadVolume(str(tmp_path / "missing.nrrd"), properties={})
    damaged = tmp_path / "damaged.nrrd"
    damaged.write_text("NRRD0004\nnonsense")
    with pytest.raises(RuntimeError, match="damaged.nrrd"):
        slicer.util.loadVolume(str(damaged), properties={})
    slicer_host.forget_problems()
    with pytest.raises(RuntimeError):
        slicer.util.loadNodeFromFile(str(damaged), "NoSuchFileType", {})


def test_paths_must_be_strings_where_slicer_does_not_convert(slicer_host, tmp_path):
    import slicer

    node, _ = add_volume()
    with pytest.raises(ValueError, match="pass str"):
        slicer.util.saveNode(node, tmp_path / "image.nrrd", properties={})


def test_save_to_an_impossible_place_returns_false(slicer_host, tmp_path, caplog):
    import slicer

    node, _ = add_volume()
    (tmp_path / "file.txt").write_text("no folder")
    with caplog.at_level(logging.ERROR):
        assert slicer.util.saveNode(node, str(tmp_path / "file.txt" / "image.nrrd"), properties={}) is False
    assert "Failed to save node" in caplog.text
    slicer_host.forget_problems()


def test_segmentation_file_keeps_segments(slicer_host, tmp_path):
    import slicer

    volume, array = add_volume()
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "lesion")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segment_id = segmentation.GetSegmentation().AddEmptySegment("tumor", "Tumor", (1.0, 0.5, 0.0))
    mask = (array > 0.5).astype(np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, segment_id, volume)
    np.testing.assert_array_equal(slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, volume), mask)
    path = str(tmp_path / "lesion.seg.nrrd")
    assert slicer.util.saveNode(segmentation, path, properties={})
    loaded = slicer.util.loadSegmentation(path, properties={})
    names = loaded.GetSegmentation()
    assert names.GetNumberOfSegments() == 1
    found = names.GetSegmentIdBySegmentName("Tumor")
    np.testing.assert_array_equal(slicer.util.arrayFromSegmentBinaryLabelmap(loaded, found, volume), mask)


def test_markups_tables_models_transforms_and_texts_round_trip(slicer_host, tmp_path):
    import slicer

    points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "points")
    points.AddControlPoint((1.0, -2.0, 3.5), "Left")
    assert slicer.util.saveNode(points, str(tmp_path / "points.mrk.json"), properties={})
    loaded = slicer.util.loadMarkups(str(tmp_path / "points.mrk.json"))
    np.testing.assert_allclose(slicer.util.arrayFromMarkupsControlPoints(loaded), [[1.0, -2.0, 3.5]])
    assert loaded.GetNthControlPointLabel(0) == "Left"

    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "numbers")
    slicer.util.updateTableFromArray(table, [np.array([1.0, 2.5])], ["value"])
    assert slicer.util.saveNode(table, str(tmp_path / "numbers.csv"), properties={})
    loaded = slicer.util.loadTable(str(tmp_path / "numbers.csv"))
    np.testing.assert_allclose(slicer.util.arrayFromTableColumn(loaded, "value"), [1.0, 2.5])

    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "move")
    matrix = oblique_matrix()
    slicer.util.updateTransformMatrixFromArray(transform, matrix)
    assert slicer.util.saveNode(transform, str(tmp_path / "move.h5"), properties={})
    loaded = slicer.util.loadTransform(str(tmp_path / "move.h5"))
    np.testing.assert_allclose(slicer.util.arrayFromTransformMatrix(loaded), matrix, atol=1e-9)

    text = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "note")
    text.SetText("a note")
    assert slicer.util.saveNode(text, str(tmp_path / "note.txt"), properties={})
    assert slicer.util.loadText(str(tmp_path / "note.txt")).GetText().strip() == "a note"


def test_export_leaves_the_storage_node_alone_and_can_harden(slicer_host, tmp_path):
    import slicer

    points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "points")
    points.AddControlPoint((1.0, 0.0, 0.0))
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, 3] = (10.0, 20.0, 30.0)
    slicer.util.updateTransformMatrixFromArray(transform, matrix)
    points.SetAndObserveTransformNodeID(transform.GetID())
    count = slicer.mrmlScene.GetNumberOfNodes()
    for world, expected in ((False, [1.0, 0.0, 0.0]), (True, [11.0, 20.0, 30.0])):
        path = str(tmp_path / f"points-{world}.mrk.json")
        assert slicer.util.exportNode(points, path, properties={}, world=world)
        loaded = slicer.util.loadMarkups(path)
        np.testing.assert_allclose(slicer.util.arrayFromMarkupsControlPoints(loaded)[0], expected)
        slicer.mrmlScene.RemoveNode(loaded.GetStorageNode())
        slicer.mrmlScene.RemoveNode(loaded.GetDisplayNode())
        slicer.mrmlScene.RemoveNode(loaded)
    assert points.GetStorageNode() is None
    assert points.GetParentTransformNode() is transform
    assert slicer.mrmlScene.GetNumberOfNodes() == count


def test_scene_bundle_round_trip(slicer_host, tmp_path):
    import slicer

    volume, array = add_volume()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "parent")
    slicer.util.updateTransformMatrixFromArray(transform, oblique_matrix())
    volume.SetAndObserveTransformNodeID(transform.GetID())
    slicer_host.save_scene(tmp_path / "scene.mrb")
    slicer_host.close_scene()
    assert slicer.mrmlScene.GetFirstNodeByName("image") is None
    slicer_host.load_scene(tmp_path / "scene.mrb")
    loaded = slicer.util.getNode("image")
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(loaded), array)
    np.testing.assert_allclose(ijk_to_ras(loaded), oblique_matrix(), atol=1e-5)
    parent = loaded.GetParentTransformNode()
    np.testing.assert_allclose(slicer.util.arrayFromTransformMatrix(parent), oblique_matrix(), atol=1e-9)


def test_loading_imports_unless_told_to_clear(slicer_host, tmp_path):
    import slicer

    add_volume("first")
    slicer_host.save_scene(tmp_path / "scene.mrb")
    slicer_host.load_scene(tmp_path / "scene.mrb")
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == 2
    slicer_host.load_scene(tmp_path / "scene.mrb", clear=True)
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == 1


def test_scene_as_folder_and_as_mrml(slicer_host, tmp_path):
    import slicer

    add_volume("first")
    folder = tmp_path / "bundle"
    folder.mkdir()
    slicer_host.save_scene(folder)
    scenes = list(folder.rglob("*.mrml"))
    assert len(scenes) == 1
    slicer_host.close_scene()
    slicer_host.load_scene(scenes[0])
    assert slicer.util.getNode("first") is not None


def test_missing_scene_raises(slicer_host, tmp_path):
    with pytest.raises(RuntimeError):
        slicer_host.load_scene(tmp_path / "missing.mrb")


def test_points_and_volume_under_a_parent_transform(slicer_host):
    import slicer

    points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    points.AddControlPoint((1.0, 2.0, 3.0))
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    slicer.util.updateTransformMatrixFromArray(transform, oblique_matrix())
    points.SetAndObserveTransformNodeID(transform.GetID())
    world = slicer.util.arrayFromMarkupsControlPoints(points, world=True)[0]
    np.testing.assert_allclose(world, (oblique_matrix() @ [1.0, 2.0, 3.0, 1.0])[:3])


# Displays, processes


def test_displays_log_in_testing_mode(slicer_host, caplog):
    import slicer

    with caplog.at_level(logging.INFO):
        slicer.util.errorDisplay("it broke")
        slicer.util.confirmOkCancelDisplay("really?")
    assert "it broke" in caplog.text


def test_confirmation_that_nobody_answers_is_refused(slicer_host):
    import slicer

    slicer_host.set_testing(False)
    assert slicer.util.confirmOkCancelDisplay("Install?") is False
    with pytest.raises(RuntimeError, match="declined"):
        slicer.packaging.pip_ensure(["no-such-package"], requester="X")
    slicer.util.errorDisplay("logged only, there is no main window")


def test_try_with_error_display_raises_again_and_restores_the_cursor(slicer_host):
    import qt
    import slicer

    with pytest.raises(ValueError, match="inside"):
        with slicer.util.tryWithErrorDisplay("Failed", waitCursor=True):
            raise ValueError("inside")
    assert qt.QApplication.overrideCursor() is None


def test_find_child(slicer_host):
    import qt
    import slicer

    parent = qt.QWidget()
    child = qt.QLabel("text", parent)
    child.name = "label"
    assert slicer.util.findChild(parent, "label") == child
    with pytest.raises(RuntimeError):
        slicer.util.findChild(parent, "other")


def test_console_process_and_python_slicer(slicer_host):
    import shutil

    import slicer

    executable = shutil.which("PythonSlicer")
    process = slicer.util.launchConsoleProcess(
        [executable, "-c", "import numpy; print('child', numpy.__name__)"], useStartupEnvironment=False
    )
    lines = []
    slicer.util.logProcessOutput(process, lines.append)
    process.stdout.close()
    assert lines == ["child numpy"]


def test_non_blocking_process_reports_through_the_event_loop(slicer_host):
    import slicer

    lines, status = [], []
    process = slicer.util.launchConsoleProcess(
        [sys.executable, "-c", "print('hello'); raise SystemExit(3)"],
        blocking=False,
        logCallback=lines.append,
        completedCallback=status.append,
    )
    slicer_host.wait_until(lambda: status, 20)
    process.stdout.close()
    assert (lines, status) == (["hello"], [3])


def test_qprocess_runs_a_child(slicer_host):
    import qt

    process = qt.QProcess()
    finished = []
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: finished.append(code))
    process.start(sys.executable, ["-c", "raise SystemExit(5)"])
    slicer_host.wait_until(lambda: finished, 20)
    assert finished == [5]


def test_startup_environment_has_no_python_slicer(slicer_host):
    import shutil

    import slicer

    environment = slicer.util.startupEnvironment()
    assert shutil.which("PythonSlicer", path=environment["PATH"]) is None


def test_wait_until_gives_up(slicer_host):
    with pytest.raises(TimeoutError):
        slicer_host.wait_until(lambda: False, 0.05)


# Support modules


def test_requirements_are_read_and_nothing_is_installed(slicer_host, tmp_path):
    import slicer.packaging

    path = tmp_path / "requirements.txt"
    path.write_text("# comment\nmatplotlib>=3.9  # for plots\n\n")
    assert slicer.packaging.load_requirements(str(path)) == ["matplotlib>=3.9"]
    assert slicer.packaging.pip_ensure(["no-such-package>=1"], requester="X") is None
    with pytest.raises(RuntimeError, match="installs nothing"):
        slicer.packaging.pip_ensure(["no-such-package>=1"], requester="X", skip_in_testing=False, prompt=False)
    with pytest.raises(RuntimeError, match="installs nothing"):
        slicer.util.pip_install("no-such-package")


def test_cli_is_refused(slicer_host):
    import slicer.cli

    with pytest.raises(NotImplementedError):
        slicer.cli.run(None, None, {})


def test_sample_data_runs_the_custom_downloader(slicer_host):
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="Test", sampleName="Phantom", customDownloader=lambda source: [add_volume(source.sampleName)[0]]
    )
    assert SampleData.downloadSample("Phantom").GetName() == "Phantom"
    with pytest.raises(KeyError):
        SampleData.downloadSample("Nothing")


def test_sample_data_checks_what_is_registered(slicer_host, tmp_path):
    import SampleData

    register = SampleData.SampleDataLogic.registerCustomSampleDataSource
    with pytest.raises(ValueError, match="one length"):
        register(sampleName="a", uris=["file:///x"], fileNames=["x", "y"], nodeNames=["x"], checksums=["SHA256:0"])
    with pytest.raises(ValueError, match="hexadecimal"):
        register(sampleName="a", uris="file:///x", fileNames="x", nodeNames="x", checksums="SHA256:123")
    with pytest.raises(ValueError, match="checksum"):
        register(sampleName="a", uris="file:///x", fileNames="x", nodeNames="x")
    with pytest.raises(FileNotFoundError):
        register(sampleName="a", customDownloader=len, thumbnailFileName=str(tmp_path / "none.png"))


def test_translation_takes_literal_strings(slicer_host):
    from slicer.i18n import tr as _

    assert _("Loaded {n} points").format(n=3) == "Loaded 3 points"
    with pytest.raises(TypeError):
        _(3)
