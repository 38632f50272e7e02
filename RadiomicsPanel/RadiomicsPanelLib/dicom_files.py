"""Image series, segmentations and structure sets as DICOM files: which files they are, and their voxels.

Needs pydicom and, for segmentations, highdicom.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import require_file
from BreastBiomarkersLib.volume import MAX_BYTES, Volume, from_sitk
from numpy.typing import NDArray

from RadiomicsPanelLib.roi import Case

SEGMENTATION, STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.481.3"

_UNEVEN = 0.01
"""Share of the slice distance by which slices may be off."""


@dataclass(frozen=True, eq=False)
class DicomSeries:
    """One image series.

    Attributes
    ----------
    datasets : tuple of pydicom Dataset
        Headers, in the order of the volume's slices.
    volume : Volume
    """

    datasets: tuple[Any, ...]
    volume: Volume


@dataclass(frozen=True, eq=False)
class DicomSegment:
    """One segment of a segmentation, or region of a structure set.

    Attributes
    ----------
    number : int
    name : str
    mask : Volume
        Of bool; its grid may differ from the image's.
    contours : tuple of (slice, (n, 2) ndarray)
        Of a structure set: index of the image slice, and columns and rows of a closed outline in it.
    """

    number: int
    name: str
    mask: Volume
    contours: tuple[tuple[int, NDArray[np.float64]], ...] = ()


@dataclass(frozen=True, eq=False)
class DicomSegments:
    """The segments of one file.

    Attributes
    ----------
    dataset : pydicom Dataset
    segments : tuple of DicomSegment
    """

    dataset: Any
    segments: tuple[DicomSegment, ...] = field(default=())


def read_series(source: str | Path | Iterable[str | Path]) -> DicomSeries:
    """Return the image series in a folder or in the given files.

    Parameters
    ----------
    source : path of a folder, or paths of files
        Single-frame images of one series; other DICOM files of a folder (segmentations, reports) are left out.

    Raises
    ------
    InputError
        If pydicom is missing, there is no image, there are several series, images are multi-frame, or slices are
        missing or not parallel.
    """
    paths = _files_of(source)
    headers = [(path, header) for path in paths if (header := _header(path)) is not None]
    images = [(path, h) for path, h in headers if "ImagePositionPatient" in h and "PixelSpacing" in h]
    if not images:
        framed = next((path for path, h in headers if int(h.get("NumberOfFrames", 1) or 1) > 1), None)
        if framed is not None:
            raise InputError(f"'{framed.name}' is a multi-frame image. Convert it to one image per file first.")
        raise InputError("No DICOM image was found. Choose the folder of one image series.")
    series = sorted({str(h.SeriesInstanceUID) for _, h in images})
    if len(series) > 1:
        raise InputError(
            f"{len(series)} image series lie together. Choose the files of one series: {', '.join(series)}."
        )
    first = images[0][1]
    row, column = np.reshape(np.array(first.ImageOrientationPatient, dtype=float), (2, 3))
    normal = np.cross(row, column)
    if any(
        np.abs(np.subtract(h.ImageOrientationPatient, first.ImageOrientationPatient)).max() > 1e-4 for _, h in images
    ):
        raise InputError("The images of the series are not parallel. Choose a series of one orientation.")
    positions = np.array([float(normal @ np.array(h.ImagePositionPatient, dtype=float)) for _, h in images])
    order = np.argsort(positions)
    steps = np.diff(positions[order])
    if len(images) > 1 and (steps.min() <= 0 or np.ptp(steps) > _UNEVEN * np.median(steps)):
        raise InputError(
            f"The {len(images)} slices are not evenly spaced ({steps.min():.3g} to {steps.max():.3g} mm apart): slices "
            "are missing or doubled. Export the series again."
        )
    expected = len(images) * int(first.Rows) * int(first.Columns) * 8
    if expected > MAX_BYTES:
        raise InputError(f"The series takes {expected / 2**30:.1f} GiB in memory. Crop it first.")
    name = str(first.get("SeriesDescription", "")) or "series"
    return DicomSeries(
        tuple(images[n][1] for n in order), _read_slices([str(images[n][0]) for n in order], name, normal)
    )


def read_segments(path: str | Path, series: DicomSeries) -> DicomSegments:
    """Return the segments of a DICOM SEG or the regions of an RTSTRUCT file that was made on a series.

    Raises
    ------
    InputError
        If pydicom or highdicom is missing, the file is neither, belongs to another patient, study or frame of
        reference, or its contours do not lie in the series' slices.
    """
    path = require_file(path, "segmentation")
    dataset = _header(path, pixels=True)
    if dataset is None:
        raise InputError(f"'{path.name}' is not a DICOM file. Choose a DICOM SEG or RTSTRUCT.")
    kind = str(dataset.get("SOPClassUID", ""))
    if kind not in (SEGMENTATION, STRUCTURE_SET):
        raise InputError(f"'{path.name}' is neither a DICOM SEG nor an RTSTRUCT.")
    image = series.datasets[0]
    for keyword, what in (("PatientID", "patient"), ("StudyInstanceUID", "study")):
        if dataset.get(keyword) != image.get(keyword):
            raise InputError(
                f"'{path.name}' belongs to another {what} than the images. Choose files that belong together."
            )
    if kind == SEGMENTATION and dataset.get("FrameOfReferenceUID") != image.get("FrameOfReferenceUID"):
        raise InputError(f"'{path.name}' was drawn in another frame of reference than that of the images.")
    read = _segments_of(path, dataset) if kind == SEGMENTATION else _regions_of(path, dataset, series)
    try:
        return DicomSegments(dataset, tuple(read))
    except (AttributeError, RuntimeError, ValueError, KeyError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"'{path.name}' cannot be read ({error}). Export it again.") from error


def dicom_cases(series: DicomSeries, segments: DicomSegments, names: Sequence[str] | None = None) -> list[Case]:
    """Return the segments, or the named ones, as cases to measure.

    Raises
    ------
    InputError
        If there is no segment, a name is not there, or two segments share one.
    """
    known = [segment.name for segment in segments.segments]
    if not known:
        raise InputError("The segmentation holds no segment.")
    twice = next((name for name in known if known.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"Two segments are called '{twice}'. Rename one of them.")
    absent = [name for name in names or () if name not in known]
    if absent:
        raise InputError(f"There is no segment '{absent[0]}'; there are {', '.join(known)}.")
    patient = str(series.datasets[0].get("PatientID", "")) or series.volume.name
    return [
        Case(series.volume, segment.mask, patient, segment.name)
        for segment in segments.segments
        if names is None or segment.name in names
    ]


def require_packages() -> None:
    """Refuse to go on without the optional packages.

    Raises
    ------
    InputError
        Naming what to install.
    """
    try:
        import highdicom  # noqa: F401 - only whether it is there
        import pydicom  # noqa: F401
    except ImportError as error:
        raise InputError("DICOM reports need the Python packages pydicom and highdicom. Install highdicom.") from error


def _files_of(source: str | Path | Iterable[str | Path]) -> list[Path]:
    require_packages()
    if not isinstance(source, str | Path):
        return [require_file(path, "image") for path in source]
    folder = Path(source)
    if not folder.is_dir():
        raise InputError(f"'{source}' is no folder. Choose the folder of one DICOM image series.")
    return sorted(path for path in folder.iterdir() if path.is_file())


def _header(path: Path, pixels: bool = False) -> Any:
    """Return the DICOM dataset of a file, or None if it is none."""
    import pydicom

    try:
        return pydicom.dcmread(path, stop_before_pixels=not pixels)
    except (pydicom.errors.InvalidDicomError, EOFError, ValueError, KeyError, NotImplementedError, struct.error):
        return None


def _read_slices(names: list[str], title: str, normal: NDArray[np.float64]) -> Volume:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(names)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise InputError(f"The images of '{title}' cannot be read together. Are all files complete?") from error
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"The images of '{title}' are in color. Choose a series of gray values.")
    across = np.reshape(image.GetDirection(), (3, 3))[:, 2]
    if across @ normal < 0.999:
        raise InputError(
            f"The slices of '{title}' are not stacked at right angles. Resample it to a regular grid first."
        )
    return from_sitk(image, title)


def _segments_of(path: Path, dataset: Any) -> Iterable[DicomSegment]:
    """Yield the segments of a DICOM SEG."""
    import highdicom

    size = [int(dataset.get(name, 1) or 1) for name in ("NumberOfFrames", "Rows", "Columns")]
    if np.prod(size, dtype=float) * 8 > MAX_BYTES:
        raise InputError(f"'{path.name}' claims {size} voxels. Crop the segmentation first.")
    segmentation = highdicom.seg.Segmentation.from_dataset(dataset)
    for number in segmentation.segment_numbers:
        part = segmentation.get_volume(segment_numbers=[number], allow_missing_positions=True)
        array = np.asarray(part.array)[..., 0]
        image = sitk.GetImageFromArray((array >= 0.5).astype(np.uint8))
        affine = np.asarray(part.affine)  # from slice, row and column numbers to LPS
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        image.SetSpacing(spacing[::-1].tolist())
        image.SetDirection((affine[:3, :3] / spacing)[:, ::-1].ravel().tolist())
        image.SetOrigin(affine[:3, 3].tolist())
        name = str(segmentation.get_segment_description(number).segment_label)
        mask = from_sitk(image, name)
        yield DicomSegment(int(number), name, mask.with_array(mask.array > 0))


def _regions_of(path: Path, dataset: Any, series: DicomSeries) -> Iterable[DicomSegment]:
    """Yield the regions of a structure set, drawn on the series' grid by the even-odd rule."""
    names = {int(roi.ROINumber): str(roi.ROIName) for roi in dataset.StructureSetROISequence}
    frame = series.datasets[0].get("FrameOfReferenceUID")
    frames = {int(roi.ROINumber): roi.get("ReferencedFrameOfReferenceUID") for roi in dataset.StructureSetROISequence}
    for drawn in dataset.get("ROIContourSequence", ()):
        number = int(drawn.ReferencedROINumber)
        name = names.get(number, f"region {number}")
        closed = [c for c in drawn.get("ContourSequence", ()) if str(c.ContourGeometricType).startswith("CLOSED")]
        if not closed:
            continue
        if frames.get(number) != frame:
            raise InputError(f"The region '{name}' of '{path.name}' was drawn in another frame of reference.")
        contours = [_contour(contour, name, series) for contour in closed]
        yield DicomSegment(number, name, _fill(contours, series.volume, name), tuple(contours))


def _contour(contour: Any, name: str, series: DicomSeries) -> tuple[int, NDArray[np.float64]]:
    """Return the slice of a contour, and its (n, 2) columns and rows."""
    points = np.reshape(np.array(contour.ContourData, dtype=float), (-1, 3)) * (-1, -1, 1)  # LPS to RAS
    at = series.volume.points_to_ijk(points)
    k = round(float(at[:, 2].mean()))
    if np.abs(at[:, 2] - k).max() > 0.1 or not 0 <= k < series.volume.shape[0]:
        raise InputError(
            f"A contour of '{name}' does not lie in a slice of the series. Choose the series it was drawn on."
        )
    return k, at[:, :2]


def _fill(contours: Sequence[tuple[int, NDArray[np.float64]]], image: Volume, name: str) -> Volume:
    """Return the voxels whose centers an odd number of contours surround."""
    crossings = np.zeros((*image.shape[:2], image.shape[2] + 1), dtype=np.int32)
    for k, outline in contours:
        for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
            first, last = sorted((y0, y1))
            rows = np.arange(max(np.ceil(first), 0), min(np.ceil(last), image.shape[1])).astype(np.int64)
            x = x0 + (rows - y0) * (x1 - x0) / (y1 - y0 if y1 != y0 else 1.0)
            np.add.at(crossings[k], (rows, np.clip(np.ceil(x), 0, image.shape[2]).astype(np.int64)), 1)
    return image.with_array(crossings.cumsum(axis=2)[..., :-1] % 2 == 1, name)
