"""Images and segments taken out of the scene once per change, for threads to work on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import slicer
from BreastBiomarkersLib.inslicer.nodes import (
    LABELMAP,
    grid_from_node,
    local_to_world,
    mask_from_segment,
    segment_version,
    volume_from_node,
)
from BreastBiomarkersLib.progress import Progress
from BreastBiomarkersLib.volume import Volume
from numpy.typing import NDArray
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

from RadiomicsPanelLib.extract import describe_source
from RadiomicsPanelLib.inslicer.feature_table import IMAGE, SEGMENTATION, described_sources_of, segment_names_of
from RadiomicsPanelLib.roi import Case

_SAME_PLACE_MM = 1e-4
_MOST_DIGESTS = 100
_LOST = 0.02
"""A segment may lose so much of its volume on the image's grid before the panel says so."""


class SourceReader:
    """Copies of the images and segments that were asked for last; they are read again only after they changed."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Drop what is kept from the scene."""
        self._images: dict[str, tuple[Any, Volume]] = {}
        self._masks: dict[tuple[str, str], tuple[Any, Volume]] = {}
        self._digests: dict[int, tuple[Volume, Any, str]] = {}

    def image(self, node: Any) -> Volume:
        """Return a copy of an image in world RAS; errors as `volume_from_node`."""
        version = image_version(node)
        kept = None if node is None else self._images.get(node.GetID())
        if kept is None or kept[0] != version:
            kept = (version, volume_from_node(node))
            self._images = {node.GetID(): kept}  # one image at a time: they may be large
        return kept[1]

    def case(self, volume_node: Any, segmentation_node: Any, segment_id: str) -> Case:
        """Return an image and one of the segments in it.

        Raises
        ------
        InputError
            As `volume_from_node` and `mask_from_segment`.
        """
        image = self.image(volume_node)
        version = (image_version(volume_node)[1:], mask_version(segmentation_node, segment_id))
        key = (segmentation_node.GetID(), segment_id)
        if key not in self._masks or self._masks[key][0] != version:
            self._masks[key] = (version, mask_from_segment(segmentation_node, segment_id, volume_node))
        mask = self._masks[key][1]
        return Case(image, mask, image.name, mask.name)

    def is_unchanged(self, volume: Volume, described: dict[str, Any]) -> bool:
        """Tell whether an image or mask is what the provenance describes; may be called in a thread.

        Saving and loading a scene rounds its place, which may differ by 1e-4 mm, and turns left-handed voxel axes
        around, together with the voxels.
        """
        place = np.array(described["ijk_to_ras"])
        kept = self._digests.get(id(volume))
        if kept is None or kept[0] is not volume or not np.array_equal(kept[1], place):
            if len(self._digests) > _MOST_DIGESTS:
                self._digests.clear()
            there = _turned_to(volume, place)
            digest = "" if there is None else describe_source(there)["sha256"]
            kept = self._digests[id(volume)] = (volume, place, digest)
        return kept[2] == described["sha256"]

    def changes(self, table: Any) -> Callable[[Progress], Iterator[list[str]]]:
        """Return work that tells which sources of a feature table differ from what its values were computed from.

        The work touches no node. What is gone from the scene counts as changed.
        """
        image_node, segmentation = sources_of(table)
        described, described_masks = described_sources_of(table)
        names = segment_names_of(table)
        if image_node is None:
            return lambda progress: iter([[_("the image was removed")]])
        image = self.image(image_node)
        masks: dict[str, Volume | None] = {}
        for segment_id in described_masks:
            present = segmentation is not None and segmentation.GetSegmentation().GetSegment(segment_id)
            masks[segment_id] = self.case(image_node, segmentation, segment_id).mask if present else None

        def work(progress: Progress) -> Iterator[list[str]]:
            found = []
            if not self.is_unchanged(image, described):
                found.append(_("the image '{name}' was changed").format(name=image.name))
            for segment_id, mask in masks.items():
                if mask is None:
                    found.append(_("the segment '{name}' was removed").format(name=names[segment_id]))
                elif not self.is_unchanged(mask, described_masks[segment_id]):
                    found.append(_("the segment '{name}' was changed").format(name=names[segment_id]))
                progress(0.5, "")
            yield found

        return work


def sources_of(table: Any) -> tuple[Any, Any]:
    """Return the image and segmentation node a feature table was computed from; None where one is gone."""
    return table.GetNodeReference(IMAGE), table.GetNodeReference(SEGMENTATION)


def image_version(node: Any) -> tuple[Any, ...]:
    """Return a value that changes whenever the voxels or the place of an image do."""
    grid = grid_from_node(node)
    return (node.GetID(), node.GetImageData().GetMTime(), grid.ijk_to_ras.tobytes(), grid.shape)


def mask_version(segmentation_node: Any, segment_id: str) -> tuple[Any, ...]:
    """Return a value that changes whenever the content or the place of a segment does."""
    return (segment_version(segmentation_node, segment_id), local_to_world(segmentation_node).tobytes())


def _turned_to(volume: Volume, place: NDArray[np.float64]) -> Volume | None:
    """Return the volume with voxel axes turned around so that it lies at `place`, or None if that cannot be."""
    signs = np.sign(np.diag(np.linalg.inv(volume.ijk_to_ras) @ place)[:3])
    turn = np.diag([*signs, 1.0])
    turn[:3, 3] = np.where(signs < 0, np.array(volume.shape[::-1]) - 1, 0)
    if not np.allclose(volume.ijk_to_ras @ turn, place, rtol=0, atol=_SAME_PLACE_MM):
        return None
    turned = tuple(slice(None, None, -1 if sign < 0 else 1) for sign in signs[::-1])
    return Volume(volume.array[turned], place, volume.name)


def describe_place(case: Case, segmentation_node: Any, segment_id: str) -> str:
    """Return what the image's grid does to a segment, or nothing where it keeps its volume within 2 %.

    Segments are measured on the image's grid: a voxel belongs to the segment if its center lies in it.
    """
    segmentation = segmentation_node.GetSegmentation()
    name, voxels = case.segment, int(case.mask.array.sum())
    if not segmentation.ContainsRepresentation(LABELMAP):
        return _("'{name}' is kept as a surface; it is drawn into the image's voxels.").format(name=name)
    own = slicer.vtkOrientedImageData()
    segmentation_node.GetBinaryLabelmapRepresentation(segment_id, own)
    array = vtk_to_numpy(own.GetPointData().GetScalars()) if own.GetNumberOfPoints() else np.zeros(0)
    scale = abs(np.linalg.det(local_to_world(segmentation_node)[:3, :3]))
    own_mm3 = np.count_nonzero(array) * float(np.prod(own.GetSpacing())) * scale
    if own_mm3 == 0:
        return _("'{name}' is empty. Draw it first.").format(name=name)
    change = voxels * case.image.voxel_volume_mm3 / own_mm3 - 1
    if voxels == 0:
        return _("'{name}' lies outside the image '{image}'. Choose the image it was drawn on.").format(
            name=name, image=case.image.name
        )
    if abs(change) <= _LOST:
        return ""
    spacing = " x ".join(f"{mm:.3g}" for mm in own.GetSpacing())
    return _(
        "'{name}' was drawn on another grid ({spacing} mm) or reaches out of the image: {change:+.0%} volume on the "
        "image's grid."
    ).format(name=name, spacing=spacing, change=change)
