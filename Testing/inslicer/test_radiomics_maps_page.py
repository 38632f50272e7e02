"""Feature maps and habitats in the panel: real nodes, real widgets."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PySide6", reason="the test host needs PySide6-Essentials and slicer-core")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def panel_host(slicer_host):
    for name in ("WeakSegment", "RadiomicsPanel"):
        slicer_host.load_module(ROOT / name / f"{name}.py")
    return slicer_host


@pytest.fixture
def cases(panel_host):
    path = Path(__file__).parent / "radiomicspanel_cases.py"
    spec = importlib.util.spec_from_file_location("radiomicspanel_cases", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def panel(panel_host, cases):
    """The panel on an exam with two segments, and the image and segmentation."""
    volume, segmentation = cases.make_exam()
    return panel_host.enter("RadiomicsPanel"), volume, segmentation


def source_grid():
    """Return settings that keep the image's own voxels and all intensities."""
    from RadiomicsPanelLib.settings import Settings

    return Settings(name="source voxels", bin_count=32)


def ids_of(segmentation):
    return list(segmentation.GetSegmentation().GetSegmentIDs())


def neighborhood_means(volume, segmentation, segment_id):
    """Return the mean of image voxels of the segment in the 3 x 3 x 3 neighborhood, by adding shifted copies."""
    import slicer
    from BreastBiomarkersLib.inslicer.nodes import mask_from_segment

    mask = mask_from_segment(segmentation, segment_id, volume).array
    values = np.pad(np.where(mask, slicer.util.arrayFromVolume(volume), 0.0), 1)
    counts = np.pad(mask.astype(float), 1)
    shape = mask.shape
    total, number = np.zeros(shape), np.zeros(shape)
    for k in range(3):
        for j in range(3):
            for i in range(3):
                part = tuple(slice(s, s + n) for s, n in zip((k, j, i), shape, strict=True))
                total += values[part]
                number += counts[part]
    return mask, total / np.maximum(number, 1)


def at_world(node, points_ras):
    """Return a volume node's voxel values at points in the world, found through its matrices alone."""
    import slicer
    import vtk

    to_world, matrix = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    if node.GetParentTransformNode() is not None:
        node.GetParentTransformNode().GetMatrixTransformToWorld(to_world)
    node.GetIJKToRASMatrix(matrix)
    both = slicer.util.arrayFromVTKMatrix(to_world) @ slicer.util.arrayFromVTKMatrix(matrix)
    ijk = np.linalg.solve(both, np.column_stack([points_ras, np.ones(len(points_ras))]).T)[:3]
    assert np.abs(ijk - np.rint(ijk)).max() < 1e-3, "voxels of both grids coincide"
    i, j, k = np.rint(ijk).astype(int)
    return slicer.util.arrayFromVolume(node)[k, j, i]


# Maps


@pytest.mark.parametrize("transformed", [False, True])
def test_maps_hold_the_neighborhoods_values_at_their_place(panel_host, cases, transformed):
    from BreastBiomarkersLib.inslicer.nodes import volume_from_node

    volume, segmentation = cases.make_exam(transformed)
    made = cases.logic().maps(volume, segmentation, None, ["stat_mean"], source_grid())
    assert len(made.nodes) == 2
    for segment_id, node in zip(ids_of(segmentation), made.nodes, strict=True):
        mask, expected = neighborhood_means(volume, segmentation, segment_id)
        points = volume_from_node(volume).points_to_ras(np.argwhere(mask)[:, ::-1])
        np.testing.assert_allclose(at_world(node, points), expected[mask], rtol=1e-5)
        assert node.GetTransformNodeID() == volume.GetTransformNodeID()


def test_maps_on_the_images_own_voxels(panel_host, cases):
    from BreastBiomarkersLib.inslicer.nodes import volume_from_node

    volume, segmentation = cases.make_exam()
    (node,) = (
        cases.logic()
        .maps(volume, segmentation, ids_of(segmentation)[:1], ["stat_mean"], source_grid(), 1, "3D_avg", True)
        .nodes
    )
    mask, expected = neighborhood_means(volume, segmentation, ids_of(segmentation)[0])
    points = volume_from_node(volume).points_to_ras(np.argwhere(mask)[:, ::-1])
    np.testing.assert_allclose(at_world(node, points), expected[mask], rtol=1e-5)
    resampled = cases.logic().maps(volume, segmentation, None, ["stat_mean"], "mr", 1, "3D_avg", True)
    assert np.allclose(resampled.nodes[0].GetSpacing(), volume.GetSpacing())


def test_a_map_is_colored_inside_and_transparent_outside(panel_host, cases):
    import slicer
    from vtk.util.numpy_support import vtk_to_numpy

    volume, segmentation = cases.make_exam()
    (node, _other) = cases.logic().maps(volume, segmentation, None, ["glcm_contrast"], source_grid()).nodes
    display = node.GetDisplayNode()
    connection = display.GetOutputImageDataConnection()
    connection.GetProducer().Update()
    colors = vtk_to_numpy(connection.GetProducer().GetOutputDataObject(0).GetPointData().GetScalars())
    inside = np.isfinite(slicer.util.arrayFromVolume(node)).ravel()
    assert inside.any()
    assert not inside.all()
    assert colors.shape[1] == 4
    assert (colors[inside, 3] == 255).all()
    assert (colors[~inside, 3] == 0).all()
    assert len(np.unique(colors[inside, :3], axis=0)) > 20
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(node)
    assert legend.GetTitleText() == "glcm contrast 3D avg"


def test_a_second_run_updates_the_maps_in_their_folder(panel_host, cases):
    import slicer

    volume, segmentation = cases.make_exam()
    logic = cases.logic()
    first = logic.maps(volume, segmentation, None, ["stat_mean", "stat_variance"], source_grid())
    count = slicer.mrmlScene.GetNumberOfNodes()
    before = slicer.util.arrayFromVolume(first.nodes[0]).copy()
    again = logic.maps(volume, segmentation, None, ["stat_mean", "stat_variance"], "mr")
    assert again.nodes == first.nodes
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    assert slicer.util.arrayFromVolume(first.nodes[0]).shape != before.shape
    wider = logic.maps(volume, segmentation, ids_of(segmentation)[:1], ["stat_mean"], "mr", 2)
    assert wider.nodes[0] not in first.nodes, "another kernel is another map"
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    folders = {hierarchy.GetItemParent(hierarchy.GetItemByDataNode(n)) for n in (*first.nodes, *wider.nodes)}
    assert len(folders) == 1
    assert hierarchy.GetItemName(folders.pop()) == "MRI feature maps"


def test_maps_from_the_panel(panel):
    import slicer

    widget, volume, _segmentation = panel
    ui = widget.ui
    assert not ui.mapsRunButton.enabled
    assert "feature" in ui.mapsRunButton.toolTip
    tree = ui.mapFeaturesTree
    items = [tree.topLevelItem(n).child(0) for n in range(2)]
    import qt

    for item in items:
        item.setCheckState(0, qt.Qt.Checked)
    assert len(widget.parameters.mapFeatures) == 2
    assert ui.mapsRunButton.enabled, ui.mapsRunButton.toolTip
    ui.mapsRunButton.click()
    assert "lesion 1: 2 maps" in ui.mapsResultLabel.text
    assert ui.mapShowComboBox.count == 4
    selection = slicer.app.applicationLogic().GetSelectionNode()
    assert selection is not None
    shown = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert {node.GetBackgroundVolumeID() for node in shown} <= {volume.GetID()}
    tree.topLevelItem(0).setCheckState(0, qt.Qt.Checked)
    assert set(widget.parameters.mapFeatures) == {"loc_local_peak", "loc_global_peak", items[1].data(0, qt.Qt.UserRole)}


def test_cancelled_maps_leave_nothing(panel):
    import slicer

    widget, volume, segmentation = panel
    widget.parameters.mapFeatures = ["stat_mean"]
    real = widget.logic.maps

    def press_cancel(*arguments, progress):
        def report(fraction, message):
            if fraction > 0.2:
                assert widget.ui.mapsRunButton.text == "Cancel"
                assert not widget.ui.applyButton.enabled
                widget.ui.mapsRunButton.click()
            progress(fraction, message)

        return real(*arguments, progress=report)

    widget.logic.maps = press_cancel
    widget.ui.mapsRunButton.click()
    assert widget.ui.mapsRunButton.text == "Make maps"
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == [volume]
    assert widget.ui.mapsResultLabel.text == ""


def test_scene_closed_while_maps_are_made(panel_host, panel):
    import slicer

    widget, _volume, _segmentation = panel
    widget.parameters.mapFeatures = ["stat_mean"]
    real = widget.logic.maps

    def close_on_the_way(*arguments, progress):
        def report(fraction, message):
            if fraction > 0.2 and slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
                panel_host.close_scene()
            progress(fraction, message)

        return real(*arguments, progress=report)

    widget.logic.maps = close_on_the_way
    widget.ui.mapsRunButton.click()
    assert not slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    assert not widget.ui.mapsRunButton.enabled


def test_bad_input_for_maps_is_said_and_leaves_the_scene_alone(panel_host, cases):
    import slicer

    volume, segmentation = cases.make_exam()
    lesion = ids_of(segmentation)[:1]
    empty = segmentation.GetSegmentation().AddEmptySegment("", "empty", (1.0, 0.0, 0.0))
    count = slicer.mrmlScene.GetNumberOfNodes()
    logic = cases.logic()
    for arguments, message in (
        ((None, segmentation), "No image"),
        ((volume, None), "No segmentation"),
        ((volume, segmentation, [empty]), "empty"),
        ((volume, segmentation, lesion, ["morph_sphericity"]), "cannot be mapped"),
        ((volume, segmentation, lesion, ["no_such"]), "no_such"),
        ((volume, segmentation, lesion, ["stat_mean"], "mr", 9), "radius"),
    ):
        assert message in cases.refusal(lambda arguments=arguments: logic.maps(*arguments))
    assert slicer.mrmlScene.GetNumberOfNodes() == count


# Habitats


@pytest.fixture
def halves(panel_host, cases):
    """An exam whose second segment is brighter in its right half in one image, and in its upper half in another."""
    import slicer
    from BreastBiomarkersLib.inslicer.nodes import volume_from_node, volume_to_node

    volume, segmentation = cases.make_exam()
    image = volume_from_node(volume)
    k, _j, i = np.indices(image.shape)
    right, up = i > 36, k > 10
    rng = np.random.default_rng(5)
    slicer.util.updateVolumeFromArray(volume, np.where(right, 200.0, 100.0) + rng.normal(0, 3, image.shape))
    other = image.with_array(np.where(up, 40.0, 10.0) + rng.normal(0, 1, image.shape), "ADC")
    return volume, segmentation, volume_to_node(other, name="ADC"), right, up


def test_habitats_by_limits_are_where_the_images_say(halves, cases):
    import slicer
    from BreastBiomarkersLib.inslicer.nodes import mask_from_segment

    volume, segmentation, adc, right, up = halves
    lesion = ids_of(segmentation)[1]
    done = cases.logic().habitats(
        volume, segmentation, [lesion], [volume, adc], source_grid(), [150.0, 25.0], None, 0.0
    )
    node = done.segmentation_node
    names = [node.GetSegmentation().GetSegment(s).GetName() for s in ids_of(node)]
    assert names == ["-MRI -ADC", "-MRI +ADC", "+MRI -ADC", "+MRI +ADC"]
    assert len({node.GetSegmentation().GetSegment(s).GetColor() for s in ids_of(node)}) == 4
    whole = mask_from_segment(segmentation, lesion, volume).array
    for segment_id, (is_right, is_up) in zip(ids_of(node), ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True):
        expected = whole & (right == is_right) & (up == is_up)
        np.testing.assert_array_equal(mask_from_segment(node, segment_id, volume).array, expected)
    table = done.table_node.GetTable()
    rows = [
        [table.GetColumnByName(c).GetValue(n) for c in ("Habitat", "Feature", "Value")]
        for n in range(table.GetNumberOfRows())
    ]
    shares = {habitat: value for habitat, feature, value in rows if feature == "volume fraction"}
    assert abs(shares["+MRI +ADC"] - (whole & right & up).sum() / whole.sum()) < 1e-9
    assert abs(sum(shares.values()) - 1) < 1e-9
    assert {feature for habitat, feature, _v in rows if habitat == "all"} >= {"ith 3d", "shannon"}
    count = slicer.mrmlScene.GetNumberOfNodes()
    limits = [150.0, 1000.0]
    outputs = (None, 0.0, 0, node, done.table_node)
    again = cases.logic().habitats(volume, segmentation, None, [volume, adc], source_grid(), limits, *outputs)
    assert again.segmentation_node is node
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    assert [node.GetSegmentation().GetSegment(s).GetName() for s in ids_of(node)][:1] == ["lesion 1: -MRI -ADC"]
    assert node.GetSegmentation().GetNumberOfSegments() == 8


def test_planted_halves_are_found_and_the_number_is_judged(halves, panel_host, tmp_path):
    import slicer
    from BreastBiomarkersLib.inslicer.nodes import mask_from_segment

    volume, segmentation, adc, right, _up = halves
    widget = panel_host.enter("RadiomicsPanel")
    p, ui = widget.parameters, widget.ui
    p.image, p.segmentation, p.segmentIds = volume, segmentation, ids_of(segmentation)[1:]
    p.habitatMethod, p.habitatSmoothing, p.habitatCount = type(p.habitatMethod).KMEANS, 0.0, 2
    assert "at least one volume" in ui.habitatsRunButton.toolTip
    table = ui.channelsTable
    assert [table.item(n, 0).text() for n in range(table.rowCount)] == ["MRI", "ADC"]
    import qt

    table.item(0, 0).setCheckState(qt.Qt.Checked)
    assert p.habitatChannels == [volume]
    ui.habitatsRunButton.click()
    assert "2 habitats: silhouette 0.9" in ui.habitatsResultLabel.text
    assert ui.judgementTable.item(0, 0).text() == "2 (taken)"
    assert ui.judgementTable.rowCount == 1, "a chosen number is judged too"
    brighter = mask_from_segment(p.habitatSegmentation, ids_of(p.habitatSegmentation)[1], volume).array
    whole = mask_from_segment(segmentation, ids_of(segmentation)[1], volume).array
    assert (brighter & right & whole).sum() > 0.9 * (right & whole).sum()
    assert (brighter & ~right).sum() < 0.1 * whole.sum()
    ui.judgementPlotButton.click()
    ui.judgementPlotButton.click()
    (chart,) = slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
    assert chart.GetNumberOfPlotSeriesNodes() == 3
    ui.habitatSavePathLineEdit.currentPath = str(tmp_path / "model.json")
    ui.habitatSaveButton.click()
    model = json.loads((tmp_path / "model.json").read_text())
    assert model["channels"] == ["MRI"]

    p.habitatMethod = type(p.habitatMethod).MODEL
    ui.habitatModelPathLineEdit.currentPath = str(tmp_path / "model.json")
    assert ui.channelsLabel.text == "MRI: MRI"
    p.habitatSegmentation = None
    ui.habitatsRunButton.click()
    same = mask_from_segment(p.habitatSegmentation, ids_of(p.habitatSegmentation)[1], volume).array
    np.testing.assert_array_equal(same, brighter)
    table.item(1, 0).setCheckState(qt.Qt.Checked)
    assert "not in the model: ADC" in ui.habitatsRunButton.toolTip


def test_limits_are_typed_in_the_table_and_medians_help(halves, panel_host):
    import qt

    volume, segmentation, _adc, _right, _up = halves
    widget = panel_host.enter("RadiomicsPanel")
    p, ui = widget.parameters, widget.ui
    p.image, p.segmentation = volume, segmentation
    ui.channelsTable.item(1, 0).setCheckState(qt.Qt.Checked)
    assert "Type the limit of ADC" in ui.habitatsRunButton.toolTip
    ui.channelsTable.item(1, 1).setText("abc")
    assert not ui.habitatsRunButton.enabled
    ui.channelsTable.item(1, 1).setText("25.5")
    assert list(p.habitatLimits) == [25.5]
    assert ui.habitatsRunButton.enabled
    ui.limitsButton.click()
    assert 8 < p.habitatLimits[0] < 42
    assert ui.channelsTable.item(1, 1).text() == f"{p.habitatLimits[0]:g}"
    import slicer

    slicer.mrmlScene.RemoveNode(slicer.util.getNode("ADC"))
    assert ui.channelsTable.rowCount == 1
    assert "at least one volume" in ui.habitatsRunButton.toolTip


def test_maps_are_channels_in_every_segment_and_in_models(halves, cases, tmp_path):
    from RadiomicsPanelLib.habitats import HabitatModel, write_model

    volume, segmentation, _adc, _right, _up = halves
    logic = cases.logic()
    one = logic.maps(volume, segmentation, ids_of(segmentation)[:1], ["stat_mean"], source_grid())
    missing = cases.refusal(lambda: logic.habitats(volume, segmentation, None, one.nodes, source_grid(), [150.0]))
    assert "no map 'stat_mean' of segment 'lesion 2'" in missing
    both = logic.maps(volume, segmentation, None, ["stat_mean"], source_grid())
    done = logic.habitats(volume, segmentation, None, both.nodes, source_grid(), [150.0])
    assert done.model.channels == ("stat_mean",)
    # as the command line names the channels of a model: the image, and a map that is computed where it is not made
    model = HabitatModel("thresholds", ("image", "stat_variance"), 1.0, thresholds=(150.0, 100.0))
    write_model(model, tmp_path / "model.json")
    by_model = logic.habitats(volume, segmentation, None, [volume], source_grid(), tmp_path / "model.json")
    assert by_model.model == model
    assert by_model.segmentation_node.GetSegmentation().GetNumberOfSegments() == 8


def test_bad_input_for_habitats_is_said_and_leaves_the_scene_alone(halves, cases, tmp_path):
    import slicer

    volume, segmentation, adc, _right, _up = halves
    (tmp_path / "broken.json").write_text("{")
    count = slicer.mrmlScene.GetNumberOfNodes()
    logic = cases.logic()
    everything = (volume, segmentation, None, [volume, adc], source_grid())
    for arguments, message in (
        ((None, segmentation), "No image"),
        ((volume, None), "No segmentation"),
        ((*everything, [1.0]), "1 thresholds for the 2 channels"),
        ((*everything, tmp_path / "broken.json"), "not JSON"),
        ((*everything, tmp_path / "none.json"), "does not exist"),
        ((*everything, "ward"), "kmeans"),
        ((*everything, [1.0, 2.0], None, 1.0, 0, segmentation), "would be lost"),
    ):
        assert message in cases.refusal(lambda arguments=arguments: logic.habitats(*arguments))
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    assert segmentation.GetSegmentation().GetNumberOfSegments() == 2


def test_missing_package_is_said(halves, panel_host, monkeypatch, caplog):
    volume, segmentation, _adc, _right, _up = halves
    widget = panel_host.enter("RadiomicsPanel")
    p = widget.parameters
    p.image, p.segmentation, p.habitatChannels = volume, segmentation, [volume]
    p.habitatMethod = type(p.habitatMethod).KMEANS
    from BreastBiomarkersLib.inslicer import requirements
    from RadiomicsPanelLib.inslicer import packages

    assert widget.ui.habitatPackagesLabel.text == ""
    real = packages.find_spec
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "sklearn" else real(name))
    monkeypatch.setattr(requirements, "_is_satisfied", lambda requirement: "scikit-learn" not in requirement)
    widget.refresh()
    assert widget.ui.habitatPackagesLabel.text == "Needs scikit-learn."
    widget.ui.habitatInstallButton.click()
    assert "scikit-learn" in caplog.text
    caplog.clear()
    widget.ui.habitatsRunButton.click()
    assert "scikit-learn" in caplog.text
    assert widget.ui.habitatsResultLabel.text == ""
    assert p.habitatSegmentation is None


def test_choices_come_back_with_the_scene(halves, panel_host, tmp_path):
    import slicer

    volume, segmentation, adc, _right, _up = halves
    widget = panel_host.enter("RadiomicsPanel")
    p = widget.parameters
    p.image, p.segmentation = volume, segmentation
    p.mapFeatures, p.mapRadius, p.habitatChannels, p.habitatLimits = ["glcm_contrast"], 2, [adc], [12.5]
    widget.logic.maps(volume, segmentation, None, ["stat_mean"], source_grid())
    panel_host.save_scene(tmp_path / "scene.mrb")
    panel_host.close_scene()
    assert widget.parameters.mapFeatures == []
    panel_host.load_scene(tmp_path / "scene.mrb")
    p = widget.parameters
    assert (list(p.mapFeatures), p.mapRadius) == (["glcm_contrast"], 2)
    assert (list(p.habitatChannels), list(p.habitatLimits)) == ([slicer.util.getNode("ADC")], [12.5])
    assert widget.ui.mapShowComboBox.count == 2, "the maps are known again"
    count = len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))
    widget.logic.maps(p.image, p.segmentation, None, ["stat_mean"], source_grid())
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == count
