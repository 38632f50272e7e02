"""A feature table as DICOM structured report: finds the files the image was loaded from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from BreastBiomarkersLib.errors import InputError

from RadiomicsPanelLib.inslicer.feature_table import extractions_of
from RadiomicsPanelLib.inslicer.sources import sources_of


def write_table_report(table: Any, segments_path: str | Path, path: str | Path) -> Path:
    """Write the values of a table whose image was loaded from DICOM, and return the path.

    Parameters
    ----------
    table : vtkMRMLTableNode
        A feature table.
    segments_path : path
        DICOM SEG or RTSTRUCT file with the segments, under the names they have in the table.
    path : path
        Ending in .dcm.

    Raises
    ------
    InputError
        If the image did not come from DICOM or its files are gone; else as `read_series`, `read_segments` and
        `write_report`.
    """
    from RadiomicsPanelLib.dicom_files import read_segments, read_series
    from RadiomicsPanelLib.dicom_sr import write_report

    extractions = extractions_of(table)
    image, _segmentation = sources_of(table)
    series = read_series(_files_of(image))
    if not str(segments_path).strip():
        raise InputError("Choose the DICOM SEG or RTSTRUCT file that holds the segments.")
    return write_report(extractions, series, read_segments(segments_path, series), path).path


def _files_of(image: Any) -> list[str]:
    """Return the DICOM files a volume node was loaded from."""
    instances = (image.GetAttribute("DICOM.instanceUIDs") or "").split() if image is not None else []
    if not instances:
        raise InputError("The image was not loaded from DICOM; a DICOM report refers to the images it was measured in.")
    files = [slicer.dicomDatabase.fileForInstance(instance) for instance in instances]
    if not all(files):
        raise InputError("Files of the image are no longer in the DICOM database. Import them again.")
    return files
