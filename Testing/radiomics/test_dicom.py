"""DICOM in, structured report out: a small series, segmentation and structure set, read back by other programs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from conftest import oblique_ijk_to_ras
from RadiomicsPanelLib.catalog import ALL_FEATURES
from RadiomicsPanelLib.cli import main
from RadiomicsPanelLib.dicom_files import dicom_cases, read_segments, read_series
from RadiomicsPanelLib.dicom_sr import SCHEME, build_report, feature_code, write_report
from RadiomicsPanelLib.extract import extract_all
from RadiomicsPanelLib.filters import LaplacianOfGaussian
from RadiomicsPanelLib.settings import Settings

highdicom = pytest.importorskip("highdicom", reason="highdicom is an optional dependency")
pydicom = pytest.importorskip("pydicom")

SHAPE = (9, 14, 21)
SPACING_IJK = (0.75, 1.25, 2.5)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0]) @ oblique_ijk_to_ras(SPACING_IJK)
SETTINGS = Settings(bin_count=8, intensity_unit="a.u.", aggregations=("3D_avg",))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Write an oblique MR series, a SEG with two segments (the second in few slices) and an RTSTRUCT; return a dict."""
    folder = tmp_path_factory.mktemp("dicom")
    rng = np.random.default_rng(4)
    image = rng.integers(100, 900, SHAPE).astype(np.uint16)
    masks = np.zeros((2, *SHAPE), dtype=bool)
    masks[0, 2:7, 3:11, 4:17] = rng.random((5, 8, 13)) < 0.9
    masks[1, [2, 6], 4:8, 5:12] = True
    datasets = [slice_dataset(image, k) for k in range(SHAPE[0])]
    (folder / "series").mkdir()
    for n, k in enumerate(rng.permutation(SHAPE[0])):  # the order of the files says nothing
        datasets[k].save_as(folder / "series" / f"{n}.dcm", enforce_file_format=True)
    codes = pydicom.sr.codedict.codes
    described = [
        highdicom.seg.SegmentDescription(n + 1, name, codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Neoplasm,
                                         highdicom.seg.SegmentAlgorithmTypeValues.MANUAL)
        for n, name in enumerate(("Lesion", "Two parts"))
    ]  # fmt: skip
    segmentation = highdicom.seg.Segmentation(
        datasets, np.moveaxis(masks, 0, -1).astype(np.uint8), "BINARY", described, highdicom.UID(), 7, highdicom.UID(),
        1, "maker", "model", "1", "1",
    )  # fmt: skip
    segmentation.save_as(folder / "seg.dcm")
    structure_set(datasets).save_as(folder / "rtstruct.dcm", enforce_file_format=True)
    return {"folder": folder, "image": image, "masks": masks, "datasets": datasets}


def slice_dataset(image: np.ndarray, k: int) -> pydicom.Dataset:
    """Return one MR image; UIDs and identity are the same for all slices."""
    d = pydicom.Dataset()
    d.SOPClassUID, d.SOPInstanceUID = pydicom.uid.MRImageStorage, f"1.2.3.4.5.{k + 1}"
    d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = "1.2.3.4", "1.2.3.4.5", "1.2.3.4.9"
    d.PatientID, d.PatientName, d.PatientBirthDate, d.PatientSex = "P7", "Test^Case", "", "F"
    d.StudyDate, d.StudyTime, d.StudyID, d.AccessionNumber, d.ReferringPhysicianName = "20200101", "101010", "1", "", ""
    d.Modality, d.Manufacturer, d.SeriesNumber, d.InstanceNumber = "MR", "maker", 3, k + 1
    d.SeriesDescription = "T1 post"
    d.Rows, d.Columns = image.shape[1:]
    d.PixelSpacing = [SPACING_IJK[1], SPACING_IJK[0]]
    axes = LPS[:3, :3] / SPACING_IJK
    d.ImageOrientationPatient = [*axes[:, 0], *axes[:, 1]]
    d.ImageOrientationPatient = [f"{x:.12g}" for x in (*axes[:, 0], *axes[:, 1])]
    d.ImagePositionPatient = [f"{x:.12g}" for x in LPS[:3] @ [0, 0, k, 1]]
    d.SliceThickness = SPACING_IJK[2]
    d.SamplesPerPixel, d.PhotometricInterpretation, d.PixelRepresentation = 1, "MONOCHROME2", 0
    d.BitsAllocated, d.BitsStored, d.HighBit = 16, 16, 15
    d.PixelData = image[k].astype("<u2").tobytes()
    d.file_meta = pydicom.dataset.FileMetaDataset()
    d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    d.file_meta.MediaStorageSOPClassUID, d.file_meta.MediaStorageSOPInstanceUID = d.SOPClassUID, d.SOPInstanceUID
    return d


def structure_set(datasets) -> pydicom.Dataset:
    """Return an RTSTRUCT with a box of 8 x 5 pixels in three slices, with a hole of 2 x 1 in the middle one."""
    d, image = pydicom.Dataset(), datasets[0]
    d.SOPClassUID, d.SOPInstanceUID = pydicom.uid.RTStructureSetStorage, "1.2.3.4.6.1"
    for name in ("StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate",
                 "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"):  # fmt: skip
        setattr(d, name, getattr(image, name))
    d.SeriesInstanceUID, d.Modality, d.SeriesNumber, d.InstanceNumber = "1.2.3.4.6", "RTSTRUCT", 4, 1
    d.Manufacturer, d.StructureSetLabel, d.StructureSetDate, d.StructureSetTime = "maker", "set", "20200101", "101010"
    roi = pydicom.Dataset()
    roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = 5, "Box", image.FrameOfReferenceUID
    roi.ROIGenerationAlgorithm = "MANUAL"
    d.StructureSetROISequence = [roi]
    outlines = [(k, (3.5, 11.5), (2.5, 7.5)) for k in (3, 4, 5)] + [(4, (6.5, 8.5), (4.5, 5.5))]
    contours = []
    for k, (left, right), (top, bottom) in outlines:
        corners = np.array([[left, top, k, 1], [right, top, k, 1], [right, bottom, k, 1], [left, bottom, k, 1]])
        contour = pydicom.Dataset()
        contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", 4
        contour.ContourData = [f"{x:.10g}" for x in (corners @ LPS.T)[:, :3].ravel()]
        contours.append(contour)
    drawn = pydicom.Dataset()
    drawn.ReferencedROINumber, drawn.ContourSequence = 5, contours
    d.ROIContourSequence = [drawn]
    d.file_meta = pydicom.dataset.FileMetaDataset()
    d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    d.file_meta.MediaStorageSOPClassUID, d.file_meta.MediaStorageSOPInstanceUID = d.SOPClassUID, d.SOPInstanceUID
    return d


def test_images_and_segments_lie_where_they_were(study):
    series = read_series(study["folder"] / "series")
    np.testing.assert_array_equal(series.volume.array, study["image"])
    np.testing.assert_allclose(series.volume.ijk_to_ras, oblique_ijk_to_ras(SPACING_IJK), atol=1e-6)
    assert [d.InstanceNumber for d in series.datasets] == list(range(1, 10))
    segments = read_segments(study["folder"] / "seg.dcm", series)
    assert [s.name for s in segments.segments] == ["Lesion", "Two parts"]
    for segment, mask in zip(segments.segments, study["masks"], strict=True):
        inside = np.argwhere(mask)[:, ::-1]
        found = segment.mask.points_to_ijk(series.volume.points_to_ras(inside))
        assert np.abs(found - np.rint(found)).max() < 1e-4
        i, j, k = np.rint(found).astype(int).T
        assert segment.mask.array[k, j, i].all()
        assert segment.mask.array.sum() == mask.sum()


def test_regions_of_a_structure_set_with_a_hole(study):
    series = read_series(study["folder"] / "series")
    (box,) = read_segments(study["folder"] / "rtstruct.dcm", series).segments
    expected = np.zeros(SHAPE, dtype=bool)
    expected[3:6, 3:8, 4:12] = True
    expected[4, 5, 7:9] = False
    np.testing.assert_array_equal(box.mask.array, expected)


def test_report_reads_back(study, tmp_path):
    series = read_series(study["folder"] / "series")
    segments = read_segments(study["folder"] / "seg.dcm", series)
    settings = replace(SETTINGS, filters=(LaplacianOfGaussian(sigma_mm=2.0),))
    extractions = extract_all(dicom_cases(series, segments), settings, names=["stat", "depth"])
    written = write_report(extractions, series, segments, tmp_path / "report.dcm")
    assert written.groups == 4

    report = highdicom.sr.srread(tmp_path / "report.dcm")
    assert report.SOPClassUID == pydicom.uid.Comprehensive3DSRStorage
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert [g.tracking_identifier for g in groups] == ["Lesion", "Lesion", "Two parts", "Two parts"]
    assert len({g.tracking_uid for g in groups}) == 2
    segmentation = pydicom.dcmread(study["folder"] / "seg.dcm")
    for group, extraction in zip(groups, extractions, strict=True):
        (reference,) = group.referenced_segment[0].ReferencedSOPSequence
        assert reference.ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
        assert reference.ReferencedSegmentNumber == 1 + (extraction.segment == "Two parts")
        found = [m.value for m in group.get_measurements()]
        assert found == [v.value for v in extraction.values if v.value is not None], "bit for bit"


def test_every_feature_has_its_own_name_in_a_report(study, tmp_path):
    series = read_series(study["folder"] / "series")
    segments = read_segments(study["folder"] / "seg.dcm", series)
    (extraction,) = extract_all(dicom_cases(series, segments, ["Lesion"]), SETTINGS)
    written = write_report([extraction], series, segments, tmp_path / "report.dcm")
    expected = [v for v in extraction.values if v.value is not None]
    assert (written.measurements, written.left_out) == (len(expected), len(extraction.values) - len(expected))
    (group,) = highdicom.sr.srread(tmp_path / "report.dcm").content.get_volumetric_roi_measurement_groups()
    found = group.get_measurements()
    names = Counter((m.name.value, m.name.scheme_designator) for m in found)
    assert len(names) == len(found) == len(expected) > 180
    for m, v in zip(found, expected, strict=True):
        shared_code = v.feature.ibsi in ("BC2M", "GBPN")  # one code for every share of the volume
        assert (m.name.scheme_designator == "IBSI") == (v.feature.standardized and not shared_code)
    of = {m.name.value: m for m in found}
    assert of["ACUI"].name.meaning == "Contrast of GLCM"
    assert (of["ACUI"].method.value, of["ACUI"].method.scheme_designator) == ("ITBB", "IBSI")
    assert (of["RNU0"].unit.value, of["RNU0"].unit.scheme_designator) == ("mm3", "UCUM")
    assert of["ECT3"].unit.value == "[arb'U]2"
    assert len({feature_code(feature) for feature in ALL_FEATURES}) == len(ALL_FEATURES)


def test_structure_of_the_file(study, tmp_path):
    """What DICOM asks of the object, read by pydicom alone."""
    series = read_series(study["folder"] / "series")
    segments = read_segments(study["folder"] / "seg.dcm", series)
    extractions = extract_all(dicom_cases(series, segments, ["Lesion"]), SETTINGS, names=["morph", "glcm", "depth"])
    write_report(extractions, series, segments, tmp_path / "report.dcm")
    d = pydicom.dcmread(tmp_path / "report.dcm")
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesNumber",
                    "InstanceNumber", "CompletionFlag", "VerificationFlag", "ContentDate", "ContentTime"):  # fmt: skip
        assert d.get(keyword) not in (None, ""), keyword
    assert (d.Modality, d.PatientID, d.StudyInstanceUID) == ("SR", "P7", "1.2.3.4")
    assert (d.ContentTemplateSequence[0].MappingResource, d.ContentTemplateSequence[0].TemplateIdentifier) == (
        "DCMR",
        "1500",
    )
    assert d.ConceptNameCodeSequence[0].CodeValue == "126000"
    listed = {
        item.ReferencedSOPInstanceUID
        for sequence in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
        for study_item in d.get(sequence, ())
        for series_item in study_item.ReferencedSeriesSequence
        for item in series_item.ReferencedSOPSequence
    }
    assert listed >= {image.SOPInstanceUID for image in study["datasets"]} | {segments.dataset.SOPInstanceUID}
    referenced, kinds = set(), Counter()
    for item in walk(d):
        kinds[item.ValueType] += 1
        assert item.get("RelationshipType"), "every item says how it belongs to its parent"
        if item.ValueType == "NUM":
            assert item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodingSchemeDesignator == "UCUM"
        code = item.ConceptNameCodeSequence[0] if "ConceptNameCodeSequence" in item else None
        if code is not None:
            assert len(code.CodeMeaning) <= 64
            assert len(code.get("CodeValue", "")) <= 16
        referenced |= {r.ReferencedSOPInstanceUID for r in item.get("ReferencedSOPSequence", ())}
    assert kinds["NUM"] == sum(v.value is not None for v in extractions[0].values)
    assert segments.dataset.SOPInstanceUID in referenced <= listed, "what is referenced is listed as evidence"
    schemes = {s.CodingSchemeDesignator: s for s in d.CodingSchemeIdentificationSequence}
    assert set(schemes) == {"IBSI", SCHEME}
    assert pydicom.uid.UID_dictionary[schemes["IBSI"].CodingSchemeUID][4] == "IBSI"


def walk(item):
    for child in item.get("ContentSequence", ()):
        yield child
        yield from walk(child)


def test_report_of_a_structure_set_shows_its_outlines(study, tmp_path):
    series = read_series(study["folder"] / "series")
    segments = read_segments(study["folder"] / "rtstruct.dcm", series)
    extractions = extract_all(dicom_cases(series, segments), SETTINGS, names=["stat"])
    write_report(extractions, series, segments, tmp_path / "report.dcm")
    (group,) = highdicom.sr.srread(tmp_path / "report.dcm").content.get_volumetric_roi_measurement_groups()
    regions = group.roi
    assert len(regions) == 4
    np.testing.assert_allclose(regions[0].value[:3], [[4.0, 3.0], [12.0, 3.0], [12.0, 8.0]], atol=1e-4)
    mean = next(m.value for m in group.get_measurements() if m.name.value == "Q4LE")
    expected = study["image"][read_segments(study["folder"] / "rtstruct.dcm", series).segments[0].mask.array].mean()
    assert mean == pytest.approx(expected)


def test_command(study, tmp_path, capsys):
    folder = study["folder"]
    arguments = ["dicom-sr", "--series", str(folder / "series"), "--segmentation", str(folder / "seg.dcm"), "--json"]
    chosen = ["--segment", "Lesion", "--feature", "stat", "--output", str(tmp_path / "sr.dcm")]
    assert main([*arguments, *chosen]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["segments"], figures["measurements"]) == (["Lesion"], 18)
    assert main([*arguments, "--segment", "Liver", "--output", str(tmp_path / "b.dcm")]) == 2
    assert "There is no segment 'Liver'; there are Lesion, Two parts" in capsys.readouterr().err
    assert main([*arguments, "--feature", "stat", "--output", str(tmp_path / "b.xml")]) == 2
    assert "written as .dcm, not 'b.xml'" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["sr.dcm"]


def change(**values):
    return lambda d: [setattr(d, name, value) for name, value in values.items()]


@pytest.mark.parametrize(
    "alter, message",
    [
        (lambda images: images.pop(4), "slices are missing or doubled"),
        (lambda images: change(SeriesInstanceUID="1.9")(images[3]), "2 image series lie together"),
        (lambda images: change(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])(images[3]), "not parallel"),
        (lambda images: images.clear(), "No DICOM image was found"),
    ],
)
def test_series_that_are_refused(study, tmp_path, alter, message):
    images = [pydicom.dcmread(path) for path in sorted((study["folder"] / "series").iterdir())]
    images.sort(key=lambda d: d.InstanceNumber)
    alter(images)
    for n, d in enumerate(images):
        d.save_as(tmp_path / f"{n}.dcm")
    (tmp_path / "readme.txt").write_text("no image")
    with pytest.raises(InputError, match=message):
        read_series(tmp_path)


def test_segmentations_that_are_refused(study, tmp_path):
    series = read_series(study["folder"] / "series")
    other = pydicom.dcmread(study["folder"] / "seg.dcm")
    other.PatientID = "P8"
    other.save_as(tmp_path / "other.dcm")
    other.PatientID, other.FrameOfReferenceUID = "P7", "1.2.3.4.10"
    other.save_as(tmp_path / "elsewhere.dcm")
    nameless = structure_set(study["datasets"])
    del nameless.StructureSetROISequence
    nameless.save_as(tmp_path / "nameless.dcm", enforce_file_format=True)
    (tmp_path / "text.dcm").write_text("text")
    (tmp_path / "cut.dcm").write_bytes((study["folder"] / "seg.dcm").read_bytes()[:400])
    moved = structure_set(study["datasets"])
    moved.ROIContourSequence[0].ContourSequence[0].ContourData[2] = "999"
    moved.save_as(tmp_path / "moved.dcm", enforce_file_format=True)
    for name, message in (
        ("other.dcm", "belongs to another patient"),
        ("elsewhere.dcm", "another frame of reference"),
        ("nameless.dcm", "'nameless.dcm' cannot be read"),
        ("text.dcm", "not a DICOM file"),
        ("cut.dcm", "'cut.dcm'"),
        ("moved.dcm", "contour of 'Box' does not lie in a slice"),
        ("absent.dcm", "does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            read_segments(tmp_path / name, series)
    with pytest.raises(InputError, match=r"neither a DICOM SEG nor an RTSTRUCT"):
        read_segments(study["folder"] / "series" / "0.dcm", series)


def test_a_segment_that_is_not_in_the_file(study, lump):
    series = read_series(study["folder"] / "series")
    segments = read_segments(study["folder"] / "seg.dcm", series)
    with pytest.raises(InputError, match="segment 'lump' is not in the DICOM file, which holds Lesion, Two parts"):
        build_report(extract_all([lump()], SETTINGS, names=["stat"]), series, segments)


def test_without_the_packages_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "highdicom", None)
    with pytest.raises(InputError, match="Install highdicom"):
        read_series(tmp_path)
