"""From nodes and files to what the library takes: the breast's outline, fibers, plane, light; all in world RAS."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import slicer
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.nodes import (
    grid_from_node,
    mask_from_segment,
    mask_part_from_segment,
    points_from_node,
    segment_version,
    slice_to_ras,
    volume_from_node,
)
from BreastBiomarkersLib.points import LabeledPoints
from BreastBiomarkersLib.volume import Volume
from numpy.typing import NDArray

from NIRSTReconstructionLib.fibers import Fibers, fibers_from_points, outline_at_fibers
from NIRSTReconstructionLib.measurements import Measurements, read_measurements
from NIRSTReconstructionLib.meshing import spline_contour
from NIRSTReconstructionLib.plane import Plane, body_contour, body_mask, distance_to_polygon, plane_from_matrix
from NIRSTReconstructionLib.spectra import load_spectra
from NIRSTReconstructionLib.trust import Case

Segment = tuple[Any, str]
"""Segmentation node and segment id."""

TOLERANCE_MM = 5.0
"""How far a fiber may be from the breast's outline."""
_CASE_BYTES = 1_000_000  # a `case.json` of ours is far smaller
DRAWN_FROM_MM = 1.0  # the outline is moved farther than this: worth a remark


def plane_from_node(node: Any) -> Plane:
    """Return the plane of a slice view or plane node."""
    return plane_from_matrix(slice_to_ras(node))


def fibers_from_node(node: Any) -> Fibers:
    """Return the fibers a point list stands for."""
    return fibers_from_points(points_from_node(node, "optodes"), node.GetName() if node is not None else "optodes")


class Light(NamedTuple):
    """Light of one exposure, ready for use.

    Attributes
    ----------
    measurements : Measurements
    reference : Measurements or None
        Of a homogeneous phantom.
    simulated : str
        What was simulated; empty for measured light.
    """

    measurements: Measurements
    reference: Measurements | None = None
    simulated: str = ""


def read_light(path: str | Path, reference_path: str | Path | None = None) -> Light:
    """Return the light in a file; a `case.json` beside it, as `simulate` writes it, says that it was simulated.

    Raises
    ------
    InputError
        If a file is missing, damaged or of another kind.
    """
    if not path:
        raise InputError("Choose the file with the measured light (Nirfast .paa, SNIRF or CSV).")
    reference = read_measurements(reference_path) if reference_path else None
    return Light(read_measurements(path), reference, _simulation_beside(Path(path)))


def _simulation_beside(path: Path) -> str:
    case = path.with_name("case.json")
    try:
        if not case.is_file() or case.stat().st_size > _CASE_BYTES:
            return ""
        found = json.loads(case.read_text(encoding="utf-8"))
        simulated = found["simulated"]
        return str(found.get("description", f"seed {found.get('seed')}")) if simulated else ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""  # somebody else's file of this name


class BodySource(NamedTuple):
    """Where the outline of the breast comes from.

    Attributes
    ----------
    threshold : float or None
        Gray value of the MRI between air and breast, 0 for an image without air; None: found from the image.
    segment : Segment or None
        A segment that is the breast; the threshold is not used then.
    """

    threshold: float | None = None
    segment: Segment | None = None

    def key(self, volume_node: Any) -> Any:
        """Return a value that changes whenever the mask would."""
        if volume_node is None or volume_node.GetImageData() is None:
            return None
        place = grid_from_node(volume_node, "MRI").ijk_to_ras.tobytes()
        if self.segment is not None:
            node, segment_id = self.segment
            content: Any = (None if node is None else node.GetID(), segment_id, segment_version(node, segment_id))
        else:
            content = (volume_node.GetImageData().GetMTime(), self.threshold)
        return volume_node.GetID(), place, content


class BodyReader:
    """Makes the mask of the breast and keeps the last one: it takes seconds for a large MRI."""

    def __init__(self) -> None:
        self._kept: tuple[Any, Volume] | None = None

    def forget(self) -> None:
        """Drop what is kept from the scene."""
        self._kept = None

    def prepare(self, volume_node: Any, source: BodySource) -> Callable[[], Volume]:
        """Return what computes the mask; it touches no node, so it may run in a thread.

        Raises
        ------
        InputError
            If the MRI or the segment cannot be used.
        """
        key = source.key(volume_node)
        if key is not None and self._kept is not None and self._kept[0] == key:
            kept = self._kept[1]
            return lambda: kept
        if source.segment is not None:
            mask = mask_from_segment(*source.segment, volume_node)
            if not mask.array.any():
                raise InputError(f"The segment '{mask.name}' is empty or outside the MRI. Choose the whole breast.")
            self._kept = (key, mask)
            return lambda: mask
        image = volume_from_node(volume_node, "MRI")

        def compute() -> Volume:
            made = body_mask(image, source.threshold)
            self._kept = (key, made)
            return made

        return compute

    def read(self, volume_node: Any, source: BodySource) -> Volume:
        """Return the mask of the breast on the grid of the MRI."""
        return self.prepare(volume_node, source)()


class Outline(NamedTuple):
    """Outline of the breast in a plane.

    Attributes
    ----------
    polygon_mm : (n, 2) ndarray
        As the mask shows it.
    no_air : str
        Name of the image if it shows no air, so that its edge was taken for the skin; else empty.
    """

    polygon_mm: NDArray[np.float64]
    no_air: str = ""

    @property
    def length_mm(self) -> float:
        """Length of the outline."""
        return float(np.linalg.norm(self.polygon_mm - np.roll(self.polygon_mm, 1, axis=0), axis=1).sum())

    def off_skin_mm(self, fibers: Fibers, plane: Plane) -> NDArray[np.float64]:
        """Return how far each detector is from the outline within the plane (positive outside)."""
        return distance_to_polygon(plane.to_plane(fibers.detectors)[0], self.polygon_mm)

    def at_fibers(self, fibers: Fibers, plane: Plane, tolerance_mm: float = TOLERANCE_MM) -> tuple[Any, list[str]]:
        """Return the contour drawn to the fibers, which touch the skin, and what to say about it.

        Raises
        ------
        InputError
            If a fiber is too far away.
        """
        tips = plane.to_plane(fibers.detectors)[0]
        drawn, moved = outline_at_fibers(self.polygon_mm, tips, tolerance_mm)
        remarks = [f"'{self.no_air}' shows no air: its edge was taken for the breast's outline."] if self.no_air else []
        if moved > DRAWN_FROM_MM:
            remarks.append(f"The outline of the breast was moved by up to {moved:.1f} mm to meet the fibers.")
        return spline_contour(drawn), remarks


def outline_in_plane(mask: Volume, plane: Plane, name: str) -> Outline:
    """Return the outline of the breast in a plane.

    Parameters
    ----------
    mask : Volume
    plane : Plane
    name : str
        Of the image, for remarks.
    """
    return Outline(body_contour(mask, plane), name if mask.array.all() else "")


class Inputs(NamedTuple):
    """Everything one reconstruction is made from, free of nodes."""

    case: Case
    lesion: Volume | None
    body: Volume
    light: Light


def read_inputs(
    volume_node: Any,
    plane_node: Any,
    optodes_node: Any,
    light: Light,
    body: Volume,
    lesion: Segment | None = None,
    second_node: Any = None,
    extinction_table: str = "nirfast-1",
    tolerance_mm: float = TOLERANCE_MM,
) -> Inputs:
    """Return copies of all that a reconstruction needs, checked.

    Raises
    ------
    InputError
        If something is missing or does not fit together; the message says what to do.
    """
    from NIRSTReconstructionLib.images import lesion_in_plane
    from NIRSTReconstructionLib.plane import reslice, slice_grid
    from NIRSTReconstructionLib.reconstruct import holes_in_plane

    image = volume_from_node(volume_node, "MRI")
    images = [image] if second_node is None else [image, volume_from_node(second_node, "second image")]
    mask = None if lesion is None else mask_from_segment(*lesion, volume_node)
    plane, fibers = plane_from_node(plane_node), fibers_from_node(optodes_node)
    fibers.optodes(plane, light.measurements.channels)  # refuses data of other fibers
    outline = outline_in_plane(body, plane, image.name)
    grid = slice_grid(plane, outline.polygon_mm)
    unknown = []
    for one in images:
        reslice(one, grid)  # refuses an image that the plane does not cut
        unknown += holes_in_plane(one, plane, outline.polygon_mm)
    if mask is not None:
        lesion_in_plane(mask, grid)
    contour, remarks = outline.at_fibers(fibers, plane, tolerance_mm)
    measured = light.measurements.remarking(*remarks, *unknown)
    spectra = load_spectra(measured.wavelengths_nm, extinction_table)
    case = Case(measured, fibers, contour, spectra, plane, light.reference, images, mask)
    return Inputs(case, mask, body, light)


def made_from(
    volume_node: Any, plane_node: Any, optodes_node: Any, lesion: Segment | None, light: Any, settings: dict[str, Any]
) -> dict[str, str]:
    """Return a short fingerprint of each input, by its name for the user; results keep it to tell when they are old."""
    points = points_from_node(optodes_node)
    lesion_content: Any = None
    if lesion is not None:
        _grid, part, inside = mask_part_from_segment(*lesion, volume_node)
        lesion_content = (str(part), np.packbits(inside).tobytes())
    inputs = {
        "MRI": grid_from_node(volume_node).ijk_to_ras.round(3).tolist(),
        "plane": (slice_to_ras(plane_node).round(3) + 0.0).tolist(),
        "optodes": _content_of(points),
        "lesion": lesion_content,
        "light": light,
        "settings": settings,
    }
    return {name: _fingerprint(content) for name, content in inputs.items()}


def optodes_stamp(points: LabeledPoints) -> str:
    """Return the fingerprint that `made_from` gives to fiber tips."""
    return _fingerprint(_content_of(points))


def _content_of(points: LabeledPoints) -> Any:
    return points.labels, (points.positions_ras.round(3) + 0.0).tolist()


def _fingerprint(content: Any) -> str:
    return hashlib.sha256(repr(content).encode()).hexdigest()[:12]


def is_present(node: Any) -> bool:
    """Tell whether a node is there and still in the scene."""
    return node is not None and bool(slicer.mrmlScene.IsNodePresent(node))
