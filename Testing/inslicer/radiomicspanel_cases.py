"""What RadiomicsPanel does in Slicer; every case runs in the real application and in the test host."""

import csv
import dataclasses
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import slicer
import vtk
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.nodes import mask_to_segment, segmentation_for, volume_to_node
from BreastBiomarkersLib.volume import Volume
from RadiomicsPanelLib.filters import filter_from_dict
from RadiomicsPanelLib.inslicer.feature_table import extractions_of
from RadiomicsPanelLib.settings import PRESETS
from RadiomicsPanelLib.table import write_table


def make_exam(transformed=False):
    """Return an oblique, anisotropic image with two balls of different size and brightness as segments."""
    angle = np.deg2rad(20.0)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    ijk_to_ras = np.eye(4)
    ijk_to_ras[:3, :3] = turn * [-1.0, 1.2, 2.0]
    ijk_to_ras[:3, 3] = (5.0, -40.0, 12.0)
    index = np.indices((20, 36, 50))[::-1].reshape(3, -1).T
    image = Volume(np.random.default_rng(3).normal(50.0, 6.0, (20, 36, 50)), ijk_to_ras, "MRI")
    ras = image.points_to_ras(index)
    balls = []
    for center, radius, brightness in (((14, 14, 9), 7.0, 60.0), ((36, 22, 10), 9.0, 110.0)):
        inside = np.linalg.norm(ras - image.points_to_ras(np.array([center])), axis=1) <= radius
        balls.append(inside.reshape(image.shape))
        image.array[balls[-1]] += brightness
    volume = volume_to_node(image)
    if transformed:
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Tilt")
        matrix = vtk.vtkTransform()
        matrix.RotateX(33)
        matrix.Translate(4, 5, 6)
        transform.SetMatrixTransformToParent(matrix.GetMatrix())
        volume.SetAndObserveTransformNodeID(transform.GetID())
        image = Volume(image.array, slicer.util.arrayFromVTKMatrix(matrix.GetMatrix()) @ ijk_to_ras, "MRI")
    segmentation = segmentation_for(volume, "Lesions")
    for n, ball in enumerate(balls):
        mask_to_segment(image.with_array(ball), segmentation, f"lesion {n + 1}")
    return volume, segmentation


def family_items(widget):
    """Return the items of the families; those with features of several categories have several."""
    tree = widget.ui.featuresTree
    tops = [tree.topLevelItem(n) for n in range(tree.topLevelItemCount)]
    return [top.child(m) for top in tops for m in range(top.childCount())]


def logic():
    from RadiomicsPanel import RadiomicsPanelLogic

    return RadiomicsPanelLogic()


def refusal(call):
    """Return what the call says when it refuses its input."""
    try:
        call()
    except InputError as error:
        return str(error)
    return "(not refused)"


def value(extraction, ibsi):
    return next(v.value for v in extraction.values if v.feature.ibsi == ibsi)


def case_two_segments_give_their_own_values():
    volume, segmentation = make_exam()
    done = logic().extract(volume, segmentation)
    small, large = done.extractions
    for extraction, radius, mean in ((small, 7.0, 110.0), (large, 9.0, 160.0)):
        assert abs(value(extraction, "RNU0") / (4 / 3 * np.pi * radius**3) - 1) < 0.06, "mesh volume of a ball"
        assert abs(value(extraction, "Q4LE") - mean) < 6, "mean intensity"
    table = done.tableNode
    names = [table.GetColumnName(n) for n in range(table.GetNumberOfColumns())]
    assert names == [
        "Family",
        "Feature",
        "Aggregation",
        "lesion 1",
        "lesion 2",
        "Unit",
        "IBSI code",
        "Category",
        "Filter",
        "Note",
    ]
    assert table.GetNumberOfRows() == len(small.values)
    column = table.GetTable().GetColumnByName("lesion 2")
    assert column.GetValue(0) == large.values[0].value


def case_a_parent_transform_changes_nothing():
    plain = logic().extract(*make_exam()).extractions
    slicer.mrmlScene.Clear()
    moved = logic().extract(*make_exam(transformed=True)).extractions
    for before, after in zip(plain, moved, strict=True):
        for a, b in zip(before.values, after.values, strict=True):
            assert (a.value is None) == (b.value is None)
            assert a.value is None or abs(a.value - b.value) <= 1e-6 * max(abs(a.value), 1e-3), a.column


def case_a_table_is_updated_in_place():
    volume, segmentation = make_exam()
    first = logic().extract(volume, segmentation, families=["stat"])
    count = slicer.mrmlScene.GetNumberOfNodes()
    again = logic().extract(volume, segmentation, families=["morph"], tableNode=first.tableNode)
    assert again.tableNode is first.tableNode
    assert slicer.mrmlScene.GetNumberOfNodes() == count, "no node is left behind"
    assert again.tableNode.GetCellText(0, 0) == "morph"


def case_bad_input_is_said_and_leaves_the_scene_alone():
    volume, segmentation = make_exam()
    empty = segmentation.GetSegmentation().AddEmptySegment("", "empty", (1.0, 0.0, 0.0))
    count = slicer.mrmlScene.GetNumberOfNodes()
    for arguments, message in (
        ((None, segmentation), "No image"),
        ((volume, None), "No segmentation"),
        ((volume, segmentation, ["none"]), "no segment 'none'"),
        ((volume, segmentation, [empty]), "empty"),
        ((volume, segmentation, None, "no-such-preset"), "no preset"),
        ((volume, segmentation, None, "mr", ["no-family"]), "no-family"),
    ):
        assert message in refusal(lambda arguments=arguments: logic().extract(*arguments))
    assert slicer.mrmlScene.GetNumberOfNodes() == count


def case_apply_in_the_panel_shows_and_exports_the_table():
    volume, segmentation = make_exam()
    slicer.util.selectModule("RadiomicsPanel") if slicer.util.mainWindow() else None
    widget = slicer.util.getModuleWidget("RadiomicsPanel")
    widget.enter()
    assert widget.parameters.image is volume, "the only image is chosen"
    assert widget.ui.applyButton.enabled, widget.ui.applyButton.toolTip
    widget.ui.applyButton.click()
    table = widget.parameters.table
    assert table is not None
    assert widget.ui.resultTableView.mrmlTableNode() is table
    assert "lesion 1: " in widget.ui.resultLabel.text
    assert widget.ui.exportButton.enabled
    with tempfile.TemporaryDirectory() as folder:
        widget.ui.exportPathLineEdit.currentPath = str(Path(folder) / "features.csv")
        widget.ui.exportButton.click()
        with (Path(folder) / "features.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert {row["segment"] for row in rows} == {"lesion 1", "lesion 2"}
        assert (Path(folder) / "features.provenance.json").exists()
    widget.exit()


def case_only_the_selected_segment_and_checked_families_are_measured():
    _volume, segmentation = make_exam()
    widget = slicer.util.getModuleWidget("RadiomicsPanel")
    widget.enter()
    ids = list(segmentation.GetSegmentation().GetSegmentIDs())
    widget.ui.segmentsTable.setSelectedSegmentIDs([ids[1]])
    assert widget.parameters.segmentIds == [ids[1]]
    import qt

    for item in family_items(widget):
        item.setCheckState(0, qt.Qt.Checked if item.data(0, qt.Qt.UserRole) == "glcm" else qt.Qt.Unchecked)
    widget.ui.applyButton.click()
    table = widget.parameters.table
    assert table.GetColumnName(3) == "lesion 2"
    assert {table.GetCellText(row, 0) for row in range(table.GetNumberOfRows())} == {"glcm"}
    segmentation.GetSegmentation().RemoveSegment(ids[1])
    assert widget.ui.applyButton.enabled, "the other segment is still there"
    for item in family_items(widget):
        item.setCheckState(0, qt.Qt.Unchecked)
    assert not widget.ui.applyButton.enabled
    assert "family" in widget.ui.applyButton.toolTip
    widget.exit()


def open_panel(page="dataPage"):
    """Return the panel with all settings shown and a page in front."""
    slicer.util.selectModule("RadiomicsPanel") if slicer.util.mainWindow() else None
    widget = slicer.util.getModuleWidget("RadiomicsPanel")
    widget.enter()
    widget.parameters.allSettings = True
    widget.showPage(page)
    return widget


def wait(widget, seconds=60.0):
    """Let the panel's threads end."""
    lives = [
        getattr(page, name) for page in widget.pages for name in ("live", "checking", "updating") if hasattr(page, name)
    ]
    end = time.monotonic() + seconds
    quiet = 0
    while quiet < 3:  # an answer may ask the next question
        slicer.app.processEvents()
        time.sleep(0.01)
        quiet = 0 if any(live.busy for live in lives) else quiet + 1
        assert time.monotonic() < end, "the panel's threads do not end"


def preview_texts(widget, row=0):
    table = widget.ui.previewTable
    return [table.item(row, column).text() for column in range(table.columnCount)]


def column_of(table, name):
    return [table.GetTable().GetColumnByName(name).GetValue(row) for row in range(table.GetNumberOfRows())]


def case_preview_says_what_a_run_will_find():
    volume, segmentation = make_exam()
    widget = open_panel("preparationPage")
    wait(widget)
    done = logic().extract(volume, segmentation, families=["stat"])
    for row, extraction in enumerate(done.extractions):
        found = extraction.preparation
        texts = preview_texts(widget, row)
        assert texts[0] == extraction.segment
        assert texts[1] == f"{found['source_volume_mm3'] / 1000:.3g}"
        assert texts[2] == f"{found['morphological_volume_mm3'] / 1000:.3g}"
        assert texts[3:5] == [str(found["intensity_voxels"]), str(found["level_count"])]
    assert not widget.ui.histogramLabel.pixmap.isNull()
    widget.ui.discretizationComboBox.currentIndex = 0  # fixed bin width, 25
    widget.ui.binWidthSpinBox.setValue(5.0)
    wait(widget)
    expected = logic().extract(volume, segmentation, families=["stat"], settings=widget.settings())
    assert preview_texts(widget)[4] == str(expected.extractions[0].preparation["level_count"])
    assert "bin width 5" in widget.ui.editedLabel.text
    widget.ui.resetSettingsButton.click()
    assert widget.settings().discretization == "bin_count"
    assert "MR intensities are arbitrary" in widget.ui.binCountSpinBox.toolTip
    widget.exit()


def case_too_many_levels_are_refused_before_anything_is_computed():
    volume, segmentation = make_exam()
    widget = open_panel("preparationPage")
    widget.ui.discretizationComboBox.currentIndex = 0
    widget.ui.binWidthSpinBox.setValue(0.01)
    wait(widget)
    assert "> 1024" in preview_texts(widget)[4]
    assert "at most 1024" in widget.ui.previewStatusLabel.text
    assert "at most 1024" in refusal(lambda: logic().extract(volume, segmentation, settings=widget.settings()))
    widget.ui.applyButton.click()
    assert widget.parameters.table is None
    assert not slicer.util.getNodesByClass("vtkMRMLTableNode")
    widget.exit()


def case_a_setting_that_cannot_be_is_not_taken():
    make_exam()
    widget = open_panel("preparationPage")
    for text in ("300", "100"):
        edit = widget.ui.lowerLineEdit if text == "300" else widget.ui.upperLineEdit
        edit.text = text
        edit.editingFinished()
    assert widget.settings().lower == 300.0
    assert widget.settings().upper is None, "below the lower limit"
    assert widget.ui.upperLineEdit.text == ""
    widget.ui.lowerLineEdit.text = "much"
    widget.ui.lowerLineEdit.editingFinished()
    assert widget.ui.lowerLineEdit.text == "300"
    for dimension in ("2D", "2_5D", "3D"):
        for how in ("avg", "comb"):
            getattr(widget.ui, f"aggregation{dimension}_{how}CheckBox").checked = False
    assert widget.settings().aggregations, "one at least"
    widget.exit()


def case_settings_are_saved_and_read_again():
    make_exam()
    widget = open_panel("featuresPage")
    for kind in ("log", "wavelet"):
        widget.ui.filterKindComboBox.currentIndex = widget.ui.filterKindComboBox.findData(kind)
        widget.ui.addFilterButton.click()
    widget.ui.filtersListWidget.currentRow = 0
    names = [widget.ui.filterTable.item(n, 0).text() for n in range(widget.ui.filterTable.rowCount)]
    widget.ui.filterTable.item(names.index("sigma mm"), 1).setText("3.5")
    widget.ui.filterTable.item(names.index("sigma mm"), 1).setText("-1")
    wanted = widget.settings()
    assert [f.label for f in wanted.filters][0] == "log_sigma_3.5mm", "-1 mm is not taken"
    assert len(wanted.filters) == 9
    assert "log_sigma_3.5mm" in widget.ui.settingsSummaryLabel.text
    widget.ui.spacingKSpinBox.setValue(2.0)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "own.json")
        widget.ui.settingsPathLineEdit.currentPath = path
        widget.ui.saveSettingsButton.click()
        wanted = widget.settings()
        widget.parameters.preset = type(widget.parameters.preset).FROM_FILE
        assert widget.settings() == wanted
        assert widget.settings().spacing_kji_mm == (2.0, 1.0, 1.0)
    widget.exit()


def case_every_feature_stands_in_one_category():
    from RadiomicsPanelLib.catalog import FEATURES

    make_exam()
    widget = open_panel("featuresPage")
    tree = widget.ui.featuresTree
    tops = [tree.topLevelItem(n) for n in range(tree.topLevelItemCount)]
    assert [top.text(0).split()[0] for top in tops] == ["Morphological", "Statistical", "Regional", "Skeleton"]
    shown = [item.child(n).text(0) for item in family_items(widget) for n in range(item.childCount())]
    assert sorted(shown) == sorted(f.name.replace("_", " ") for f in FEATURES)
    assert sum(int(top.text(0).split("(")[1].rstrip(")")) for top in tops) == len(FEATURES)
    tree.setCurrentItem(family_items(widget)[0].child(0))
    assert "IBSI code RNU0" in widget.ui.featureLabel.text
    widget.exit()


def case_a_table_knows_when_it_no_longer_holds():
    volume, segmentation = make_exam()
    widget = open_panel("resultsPage")
    ids = list(segmentation.GetSegmentation().GetSegmentIDs())
    widget.parameters.excludedFamilies = [name for name in widget.logic.families() if name != "stat"]
    widget.ui.applyButton.click()
    table = widget.parameters.table
    wait(widget)
    assert widget.ui.staleLabel.text == "Up to date."
    from BreastBiomarkersLib.inslicer.nodes import mask_from_segment

    before = mask_from_segment(segmentation, ids[0], volume)
    smaller = before.with_array(before.array.copy())
    smaller.array[: smaller.shape[0] // 2] = False
    mask_to_segment(smaller, segmentation, "", ids[0])
    wait(widget)
    assert table.GetAttribute("RadiomicsPanel.Stale") == "the segment 'lesion 1' was changed"
    assert widget.ui.staleLabel.text.startswith("Stale: the segment 'lesion 1'")
    mask_to_segment(before, segmentation, "", ids[0])
    wait(widget)
    assert not table.GetAttribute("RadiomicsPanel.Stale"), "the content counts, not that something was done"
    widget.ui.binCountSpinBox.setValue(16)
    wait(widget)
    assert "settings" in table.GetAttribute("RadiomicsPanel.Stale")
    widget.ui.resetSettingsButton.click()
    array = slicer.util.arrayFromVolume(volume)
    array += 10.0
    slicer.util.arrayFromVolumeModified(volume)
    wait(widget)
    assert table.GetAttribute("RadiomicsPanel.Stale") == "the image 'MRI' was changed"
    mean = column_of(table, "lesion 2")[0]
    widget.ui.autoUpdateCheckBox.checked = True
    mask_to_segment(smaller, segmentation, "", ids[0])
    wait(widget)
    assert not table.GetAttribute("RadiomicsPanel.Stale")
    assert abs(column_of(table, "lesion 2")[0] - mean - 10.0) < 1e-6
    fresh = logic().extract(volume, segmentation, families=["stat"])
    assert column_of(table, "lesion 1") == column_of(fresh.tableNode, "lesion 1")
    segmentation.GetSegmentation().RemoveSegment(ids[0])
    wait(widget)
    assert table.GetColumnName(3) == "lesion 2", "what is left was measured again"
    kept = column_of(table, "lesion 2")
    segmentation.GetSegmentation().RemoveSegment(ids[1])
    wait(widget)
    assert widget.ui.staleLabel.text == "Not up to date: all its segments were removed"
    assert column_of(table, "lesion 2") == kept
    assert table.GetAttribute("RadiomicsPanel.Stale") == "the segment 'lesion 2' was removed"
    widget.exit()


def case_the_table_of_an_earlier_run_is_complete():
    volume, segmentation = make_exam()
    settings = dataclasses.replace(PRESETS["mr"], filters=(filter_from_dict({"kind": "mean", "size": 3}),))
    for row_per_segment in (False, True):
        done = logic().extract(
            volume, segmentation, None, settings, ["morph", "glcm", "skel"], rowPerSegment=row_per_segment
        )
        read = extractions_of(done.tableNode)
        assert [(e.segment, e.filter) for e in read] == [(e.segment, e.filter) for e in done.extractions]
        for a, b in zip(read, done.extractions, strict=True):
            assert a.values == b.values
            assert a.settings == b.settings
            assert a.preparation == b.preparation
    table = done.tableNode
    assert table.GetColumnUnitLabel("morph_mesh_volume") == "mm^3"
    assert table.GetColumnProperty("morph_mesh_volume", "IBSI code") == "RNU0"
    assert table.GetColumnProperty("mean_3_glcm_contrast_3D_avg", "category") == "statistical"
    with tempfile.TemporaryDirectory() as folder:
        direct, exported = Path(folder) / "direct.csv", Path(folder) / "exported.csv"
        write_table(done.extractions, direct, long=True)
        logic().export(table, exported)
        assert exported.read_text() == direct.read_text()
        record = json.loads((Path(folder) / "exported.provenance.json").read_text())
        theirs = json.loads((Path(folder) / "direct.provenance.json").read_text())
        assert {**record, "created": ""} == {**theirs, "created": ""}
        assert "resampled" in logic().methods(table)
        assert "metrics.csv" in logic().report(table, Path(folder) / "report")
        assert ".parquet" in refusal(lambda: logic().export(table, Path(folder) / "a.xlsx"))
    count = slicer.mrmlScene.GetNumberOfNodes()
    chart = logic().chart(table, 0, 3)
    assert chart is logic().chart(table, 1), "made anew in place"
    assert slicer.mrmlScene.GetNumberOfNodes() == count + 3, "chart, series, data"
    series = chart.GetNthPlotSeriesNode(0)
    assert series.GetPlotType() == series.PlotTypeBar
    plain = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "not ours")
    assert "table of features" in refusal(lambda: logic().export(plain, "x.csv"))


def case_a_study_made_with_pyradiomics_is_reproduced():
    from RadiomicsPanelLib.yaml_pyradiomics import PyradiomicsParameters, extract_like_pyradiomics

    volume, segmentation = make_exam()
    widget = open_panel("preparationPage")
    widget.parameters.preset = type(widget.parameters.preset).PYRADIOMICS
    wait(widget)
    widget.ui.applyButton.click()
    table = widget.parameters.table
    ids = list(segmentation.GetSegmentation().GetSegmentIDs())
    case = logic().cases(volume, segmentation, ids)[1]
    expected = extract_like_pyradiomics(case, PyradiomicsParameters())
    names = [f"original_{a}_{b}" for a, b in zip(column_of(table, "Family"), column_of(table, "Feature"), strict=True)]
    assert dict(zip(names, column_of(table, "lesion 2"), strict=True)) == expected
    assert set(column_of(table, "IBSI code")) == {""}, "they are not IBSI's"
    wait(widget)
    assert widget.ui.staleLabel.text == "Up to date."
    assert "another preset" in refusal(widget.settings)
    rows = [widget.ui.publishedTable.item(n, 0).text() for n in range(widget.ui.publishedTable.rowCount)]
    for name, text in (
        ("binWidth", "10"),
        ("resampledPixelSpacing", "[2, 2, 2]"),
        ("binWidth", "-1"),
        ("force2D", "9"),
    ):
        widget.ui.publishedTable.item(rows.index(name), 1).setText(text)
    chosen = widget.anySettings().settings
    assert (chosen.bin_width, chosen.spacing_ijk_mm, chosen.force_2d) == (10.0, (2.0, 2.0, 2.0), False)
    assert "binWidth 10" in widget.ui.editedLabel.text
    wait(widget)
    assert widget.ui.staleLabel.text == "Stale: the settings were changed. Press Apply."
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "parameters.yaml")
        widget.ui.settingsPathLineEdit.currentPath = path
        widget.ui.saveSettingsButton.click()
        wanted = widget.anySettings()
        widget.parameters.preset = type(widget.parameters.preset).FROM_FILE
        assert widget.anySettings() == wanted
    widget.exit()


def case_bad_input_is_said_in_the_panel():
    volume, segmentation = make_exam()
    segmentation.GetSegmentation().AddEmptySegment("", "empty", (1.0, 0.0, 0.0))
    widget = open_panel()
    assert "'empty' is empty" in widget.ui.geometryLabel.text
    widget.ui.applyButton.click()
    assert widget.parameters.table is None
    ids = list(segmentation.GetSegmentation().GetSegmentIDs())
    widget.ui.segmentsTable.setSelectedSegmentIDs(ids[:2])
    assert widget.ui.geometryLabel.text == ""
    array = slicer.util.arrayFromVolume(volume)
    kept = array.copy()
    array[9, 14, 14] = np.nan
    slicer.util.arrayFromVolumeModified(volume)
    widget.showPage("preparationPage")
    wait(widget)
    assert "1 of" in widget.ui.previewStatusLabel.text
    assert "not a number" in widget.ui.previewStatusLabel.text
    widget.ui.applyButton.click()
    assert widget.parameters.table is None
    array[:] = kept
    slicer.util.arrayFromVolumeModified(volume)
    elsewhere = np.eye(4)
    elsewhere[:3, 3] = 900.0
    far = volume_to_node(Volume(np.ones((4, 5, 6)), elsewhere, "far"))
    widget.parameters.image = far
    assert "lies outside the image 'far'" in widget.ui.geometryLabel.text
    widget.ui.applyButton.click()
    assert widget.parameters.table is None
    widget.exit()


def case_segments_kept_as_surfaces_are_measured():
    """As DICOM RTSTRUCT gives them."""
    volume, segmentation = make_exam()
    before = logic().extract(volume, segmentation, families=["morph"]).extractions
    segmentation.CreateClosedSurfaceRepresentation()
    segmentation.GetSegmentation().SetSourceRepresentationName("Closed surface")
    segmentation.GetSegmentation().RemoveRepresentation("Binary labelmap")
    after = logic().extract(volume, segmentation, families=["morph"]).extractions
    for a, b in zip(before, after, strict=True):
        assert abs(value(b, "RNU0") / value(a, "RNU0") - 1) < 0.08
    places = logic().describePlaces(volume, segmentation, list(segmentation.GetSegmentation().GetSegmentIDs()))
    assert all("surface" in line for line in places)
    assert len(places) == 2


def finish(widget, seconds=120.0):
    """Let the jobs of the pages end."""
    end = time.monotonic() + seconds
    while any(page.running for page in widget.pages):
        slicer.app.processEvents()
        time.sleep(0.01)
        assert time.monotonic() < end, "the job does not end"


def case_maps_and_habitats_are_made_in_the_panel():
    volume, segmentation = make_exam()
    widget = open_panel("mapsPage")
    widget.parameters.mapFeatures = ["stat_mean"]
    widget.ui.mapsRunButton.click()
    finish(widget)
    maps = [node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if node is not volume]
    assert [node.GetName() for node in maps] == ["lesion 1 stat mean", "lesion 2 stat mean"]
    for node, mean in zip(maps, (110.0, 160.0), strict=True):
        assert abs(np.nanmedian(slicer.util.arrayFromVolume(node)) - mean) < 6
        assert node.GetDisplayNode().GetColorNodeID() == "vtkMRMLColorTableNodeFileViridis.txt"
    widget.parameters.habitatChannels, widget.parameters.habitatLimits = [volume], [135.0]
    assert widget.ui.habitatsRunButton.enabled, widget.ui.habitatsRunButton.toolTip
    widget.ui.habitatsRunButton.click()
    finish(widget)
    habitats = widget.parameters.habitatSegmentation
    assert habitats is not None
    assert habitats.GetSegmentation().GetNumberOfSegments() == 4, "low and high of both lesions"
    assert "lesion 1: " in widget.ui.habitatsResultLabel.text
    table = widget.parameters.habitatTable
    assert set(column_of(table, "Segment")) == {"lesion 1", "lesion 2"}
    assert segmentation.GetSegmentation().GetNumberOfSegments() == 2, "what was divided stays"
    widget.exit()


def case_a_cohort_is_measured_from_the_panel():
    from BreastBiomarkersLib.volume import write_volume

    z, y, x = np.mgrid[-5:6, -6:7, -7:8]
    ball = Volume((z**2 + y**2 + x**2 <= 16).astype(np.uint8), np.eye(4), "mask")
    widget = open_panel("cohortPage")
    kept = [widget.ui.manifestPathLineEdit.currentPath, widget.ui.cohortFolderPathLineEdit.currentPath]
    features = widget.ui.featuresPathLineEdit.currentPath
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_volume(ball, folder / "mask.nrrd")
        noise = np.random.default_rng(5).normal(70.0, 5.0, ball.shape)
        write_volume(ball.with_array(noise, "image"), folder / "image.nrrd")
        (folder / "cases.csv").write_text("case,image,mask\nfirst,image.nrrd,mask.nrrd\nsecond,none.nrrd,mask.nrrd\n")
        widget.parameters.excludedFamilies = [family for family in widget.logic.families() if family != "stat"]
        widget.ui.workersSpinBox.value = 1
        widget.ui.manifestPathLineEdit.currentPath = str(folder / "cases.csv")
        widget.ui.cohortFolderPathLineEdit.currentPath = str(folder / "out")
        assert widget.ui.cohortRunButton.enabled, widget.ui.cohortRunButton.toolTip
        widget.ui.cohortRunButton.click()
        finish(widget)
        assert "1 rows from 2 images" in widget.ui.cohortResultLabel.text
        assert "none.nrrd" in widget.ui.failuresTable.item(0, 3).text()
        with (folder / "out" / "features.csv").open() as file:
            (row,) = csv.DictReader(file)
        assert row["case"] == "first"
        widget.ui.manifestPathLineEdit.currentPath, widget.ui.cohortFolderPathLineEdit.currentPath = kept
        widget.ui.featuresPathLineEdit.currentPath = features
    widget.exit()


CASES = [case for name, case in sorted(globals().items()) if name.startswith("case_")]
