"""Features as a DICOM structured report: TID 1500, one measurement group (TID 1411) per segment and filtered image.

IBSI's features carry IBSI's codes, with the aggregation as the measurement's method; ours carry codes of the scheme
`SCHEME`, see `feature_code`. Needs highdicom.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path

from RadiomicsPanelLib.catalog import FAMILIES
from RadiomicsPanelLib.dicom_files import SEGMENTATION, DicomSegment, DicomSegments, DicomSeries, require_packages
from RadiomicsPanelLib.extract import VERSION, Extraction, FeatureValue
from RadiomicsPanelLib.feature import Feature
from RadiomicsPanelLib.settings import settings_to_dict

SCHEME = "99BREASTBIOM"
SCHEME_NAME = "BreastBiomarkers RadiomicsPanel feature catalog"

_IBSI_UID = "1.2.840.10008.2.16.13"
_SHARED_CODES = {"BC2M", "GBPN"}
"""IBSI has one code for the value at any share; ours says which share."""

_AGGREGATIONS = {
    "2D_avg": ("BTW3", "2D, averaged"),
    "2D_comb": ("SUJT", "2D, slice-merged"),
    "2_5D_avg": ("JJUI", "2.5D, direction-merged"),
    "2_5D_comb": ("ZW7Z", "2.5D, merged"),
    "3D_avg": ("ITBB", "3D, averaged"),
    "3D_comb": ("IAZD", "3D, merged"),
    "2D": ("8QNN", "2D"),
    "2_5D": ("62GR", "2.5D"),
    "3D": ("KOBO", "3D"),
}
"""IBSI's codes of aggregation."""

_UCUM = {
    "1": ("1", "no units"),
    "mm": ("mm", "mm"),
    "mm^2": ("mm2", "mm2"),
    "mm^3": ("mm3", "mm3"),
    "1/mm": ("/mm", "/mm"),
    "1/mm^2": ("/mm2", "/mm2"),
    "bit": ("bit", "bit"),
    "nat": ("1", "no units"),
    "rad": ("rad", "rad"),
    "deg": ("deg", "degree"),
    "a.u.": ("[arb'U]", "arbitrary unit"),
    "HU": ("[hnsf'U]", "Hounsfield unit"),
    "SUV": ("g/ml{SUVbw}", "Standardized Uptake Value body weight"),
}
"""UCUM code and meaning of our units; `_unit` puts powers and products together."""


class WrittenReport(NamedTuple):
    """What a report holds.

    Attributes
    ----------
    path : Path
    groups, measurements, left_out : int
        Measurement groups; values in them; values that do not apply, which a report cannot hold.
    """

    path: Path
    groups: int
    measurements: int
    left_out: int


def build_report(extractions: Sequence[Extraction], series: DicomSeries, segments: DicomSegments) -> Any:
    """Return the structured report as a highdicom Comprehensive3DSR.

    Parameters
    ----------
    extractions : sequence of Extraction
        Whose segments carry the names in `segments`.
    series : DicomSeries
        The images that were measured.
    segments : DicomSegments
        The segmentation or structure set they were measured in.

    Raises
    ------
    InputError
        If highdicom is missing, a segment is not in the file, or there is no value to report.
    """
    require_packages()
    import highdicom as hd
    from pydicom.sr.codedict import codes

    known = {segment.name: segment for segment in segments.segments}
    unknown = [e.segment for e in extractions if e.segment not in known]
    if unknown:
        raise InputError(f"The segment '{unknown[0]}' is not in the DICOM file, which holds {', '.join(known)}.")
    tracking = {name: hd.UID() for name in known}
    groups = [_group(e, known[e.segment], tracking[e.segment], series, segments) for e in extractions if _values(e)]
    if not groups:
        raise InputError("There is no value to report: no feature applies to the segments.")
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=hd.UID(), name="RadiomicsPanel", manufacturer_name="BreastBiomarkers", model_name="RadiomicsPanel"
    )
    observer = hd.sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=hd.sr.CodedConcept("363679005", "SCT", "Imaging procedure"),
        imaging_measurements=groups,
    )
    report = hd.sr.Comprehensive3DSR(
        evidence=[*series.datasets, segments.dataset],
        content=content,
        series_instance_uid=hd.UID(),
        series_number=901,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="BreastBiomarkers",
        is_complete=True,
        series_description="Radiomics",
    )
    report.ManufacturerModelName, report.SoftwareVersions = "RadiomicsPanel", VERSION
    report.CodingSchemeIdentificationSequence = _schemes()
    return report


def write_report(
    extractions: Sequence[Extraction], series: DicomSeries, segments: DicomSegments, path: str | Path
) -> WrittenReport:
    """Write the structured report as a DICOM file.

    Raises
    ------
    InputError
        As `build_report`; if the name does not end in .dcm or the folder cannot be written to.
    """
    path = Path(path)
    if path.suffix.lower() != ".dcm":
        raise InputError(f"Structured reports are written as .dcm, not '{path.name}'.")
    report = build_report(extractions, series, segments)
    with atomic_path(path) as temporary:
        report.save_as(temporary, enforce_file_format=True)
    kept = [len(_values(e)) for e in extractions]
    return WrittenReport(path, sum(n > 0 for n in kept), sum(kept), sum(len(e.values) for e in extractions) - sum(kept))


def _values(extraction: Extraction) -> list[FeatureValue]:
    return [value for value in extraction.values if value.value is not None]


def _group(
    extraction: Extraction, segment: DicomSegment, tracking: str, series: DicomSeries, segments: DicomSegments
) -> Any:
    """Return the measurement group of one segment in one image."""
    import highdicom as hd

    settings = settings_to_dict(extraction.settings)
    applied = [
        f"{name}={json.dumps(value)}" for name, value in settings.items() if value is not None and name != "reason"
    ]
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=tracking, identifier=extraction.segment),
        algorithm_id=hd.sr.AlgorithmIdentification(
            "BreastBiomarkers RadiomicsPanel", VERSION, [f"image={extraction.filter}", *applied]
        ),
        measurements=[_measurement(value) for value in _values(extraction)],
        **_where(segment, series, segments),
    )


def _where(segment: DicomSegment, series: DicomSeries, segments: DicomSegments) -> dict[str, Any]:
    """Return what was measured: a segment of a DICOM SEG, or the outlines of a structure set on their images."""
    import highdicom as hd

    if str(segments.dataset.SOPClassUID) == SEGMENTATION:
        described = next(s for s in segments.dataset.SegmentSequence if int(s.SegmentNumber) == segment.number)
        found = described.SegmentedPropertyTypeCodeSequence[0]
        category = described.SegmentedPropertyCategoryCodeSequence[0]
        return {
            "referenced_segment": hd.sr.ReferencedSegment.from_segmentation(segments.dataset, segment.number),
            "finding_type": hd.sr.CodedConcept.from_dataset(found),
            "finding_category": hd.sr.CodedConcept.from_dataset(category),
        }
    regions = [
        hd.sr.ImageRegion(
            graphic_type=hd.sr.GraphicTypeValues.POLYLINE,
            graphic_data=np.vstack([outline, outline[:1]]) + 0.5,  # from pixel centers at 0 to pixel corners at 0
            source_image=hd.sr.SourceImageForRegion.from_source_image(series.datasets[k]),
        )
        for k, outline in segment.contours
    ]
    return {"referenced_regions": regions}


def _measurement(value: FeatureValue) -> Any:
    import highdicom as hd

    method = None
    if value.aggregation:
        code, meaning = _AGGREGATIONS[value.aggregation]
        method = hd.sr.CodedConcept(code, "IBSI", meaning)
    return hd.sr.Measurement(
        name=_concept(value.feature), value=float(value.value or 0.0), unit=_unit(value.unit), method=method
    )


def feature_code(feature: Feature) -> tuple[str, str]:
    """Return a feature's coding scheme and code: IBSI's, else the first 8 digits of the SHA-1 of its key in ours.

    DICOM allows codes of 16 characters. The list that `features` writes holds both.
    """
    if feature.standardized and feature.ibsi not in _SHARED_CODES:
        return "IBSI", feature.ibsi
    return SCHEME, hashlib.sha1(feature.key.encode(), usedforsecurity=False).hexdigest()[:8].upper()


def _concept(feature: Feature) -> Any:
    """Return the feature's code, with DICOM's meaning where DICOM lists the code."""
    import highdicom as hd

    family = next(family.title for family in FAMILIES if family.name == feature.family)
    words = feature.name.replace("_", " ")
    meaning = f"{family}: {words}" if len(family) + len(words) <= 62 else words
    scheme, code = feature_code(feature)
    if scheme == "IBSI":
        meaning = _meanings_in_dicom().get(code, meaning)
    return hd.sr.CodedConcept(code, scheme, meaning)


@cache
def _meanings_in_dicom() -> dict[str, str]:
    """Return IBSI code -> meaning of those DICOM lists (PS3.16)."""
    from pydicom.sr.codedict import codes

    listed = [getattr(codes.IBSI, name) for name in codes.IBSI.dir()]
    return {code.value: code.meaning for code in listed}


def _unit(unit: str) -> Any:
    """Return a unit in UCUM; what it does not know becomes an annotation of the unit 1."""
    import highdicom as hd

    if unit in _UCUM:
        return hd.sr.CodedConcept(_UCUM[unit][0], "UCUM", _UCUM[unit][1])
    parts = []
    for part in unit.split(" "):
        base, _, power = part.partition("^")
        code = _UCUM[part][0] if part in _UCUM else _UCUM[base][0] + power if base in _UCUM and power.isdigit() else ""
        parts.append(code)
    if all(parts):
        return hd.sr.CodedConcept(".".join(parts), "UCUM", unit)
    return hd.sr.CodedConcept("{" + unit.replace(" ", "_") + "}", "UCUM", unit)


def _schemes() -> Any:
    """Return what the coding schemes are that a reader may not know."""
    from pydicom import Dataset, Sequence

    ibsi, ours = Dataset(), Dataset()
    ibsi.CodingSchemeDesignator, ibsi.CodingSchemeUID = "IBSI", _IBSI_UID
    ibsi.CodingSchemeName = "Image Biomarker Standardisation Initiative"
    ours.CodingSchemeDesignator, ours.CodingSchemeName = SCHEME, SCHEME_NAME
    ours.CodingSchemeVersion, ours.CodingSchemeResponsibleOrganization = VERSION, "BreastBiomarkers"
    return Sequence([ibsi, ours])
