"""Cases of a cohort in the scene: opened to be clicked, saved back, added from it, shown with a prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import slicer
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.nodes import (
    local_to_world,
    mask_to_segment,
    points_from_node,
    segmentation_for,
    volume_from_node,
    volume_to_node,
)
from BreastBiomarkersLib.points import LabeledPoints, read_points, write_points
from BreastBiomarkersLib.volume import Volume, apply_affine, read_volume, write_volume

from WeakSegmentLib.case_list import ListedCase, case_name, unique_name
from WeakSegmentLib.inslicer.lesions import POINT_NAMES, create_lesion

PREDICTION_COLOR = (0.95, 0.75, 0.1)
REFERENCE_COLOR = (0.2, 0.7, 0.3)


class OpenCase:
    """A case whose images and points are in the scene.

    Attributes
    ----------
    case : ListedCase
    image_node, pre_node, points_node
        `pre_node` is None where the case has no pre-contrast image.
    """

    def __init__(self, case: ListedCase) -> None:
        """Read the files of a case and put them into the scene; nothing is added if one of them is bad.

        Raises
        ------
        InputError
            If a file is missing or damaged, or the pre-contrast image has another grid.
        """
        self.case = case
        volume = read_volume(case.image)
        pre = None if case.pre is None else read_volume(case.pre)
        if pre is not None and not volume.same_grid(pre):
            raise InputError(f"'{pre.name}' is not on the grid of '{volume.name}'. Resample it first.")
        placed = read_points(case.points) if case.points.exists() else LabeledPoints([], np.zeros((0, 3)))
        self.image_node = volume_to_node(volume, name=f"{case.name} post")
        self.pre_node = None if pre is None else volume_to_node(pre, name=f"{case.name} pre")
        self.points_node = create_lesion(self.image_node, case.name).points_node
        self._others: list[Any] = []
        self._set_points(placed)
        self._saved = self._positions()

    @property
    def is_there(self) -> bool:
        """Whether image and points still are in the scene."""
        return all(slicer.mrmlScene.IsNodePresent(node) for node in (self.image_node, self.points_node))

    @property
    def is_changed(self) -> bool:
        """Whether points were placed, moved or taken back since they were read or saved."""
        return self._positions() != self._saved

    def save(self) -> None:
        """Write the placed points into the file of the case, in the space of the image file.

        Raises
        ------
        InputError
            If no point is placed, or the file cannot be written.
        """
        if not self.is_there:
            raise InputError(
                f"The image or the points of '{self.case.name}' were removed from the scene. Open it again."
            )
        placed = points_from_node(self.points_node)
        if not placed.labels:
            raise InputError(f"No point of '{self.case.name}' is placed; there is nothing to save.")
        world_to_file = np.linalg.inv(local_to_world(self.image_node)).astype(np.float64)
        write_points(LabeledPoints(placed.labels, apply_affine(world_to_file, placed.positions_ras)), self.case.points)
        self._saved = self._positions()

    def show_mask(self, path: Path, name: str, color: tuple[float, float, float]) -> tuple[Any, str]:
        """Show a mask file as a segment of its own segmentation and return both.

        Raises
        ------
        InputError
            If the file is missing or damaged.
        """
        mask = read_volume(path)
        here = Volume(mask.array != 0, local_to_world(self.image_node) @ mask.ijk_to_ras, name)
        node = segmentation_for(self.image_node, f"{self.case.name} {name.lower()}")
        self._others.append(node)
        return node, mask_to_segment(here, node, name, color=color)

    def close(self) -> None:
        """Remove what was opened from the scene."""
        for node in (*self._others, self.points_node, self.pre_node, self.image_node):
            if node is not None and slicer.mrmlScene.IsNodePresent(node):
                slicer.mrmlScene.RemoveNode(node)

    def _positions(self) -> list[Any]:
        placed = points_from_node(self.points_node)
        return [placed.labels, np.round(placed.positions_ras, 4).tolist()]

    def _set_points(self, placed: LabeledPoints) -> None:
        """Give the points their places; names other than ours are taken over in their order."""
        named = set(placed.labels) <= set(POINT_NAMES) and len(set(placed.labels)) == len(placed.labels)
        if len(placed.labels) > len(POINT_NAMES):
            raise InputError(f"'{self.case.points.name}' holds {len(placed.labels)} points; six mark a lesion.")
        for n, (label, position) in enumerate(zip(placed.labels, placed.positions_ras, strict=True)):
            self.points_node.SetNthControlPointPositionWorld(POINT_NAMES.index(label) if named else n, *position)


def add_case_from_scene(
    volume_node: Any, pre_node: Any, points_node: Any, folder: Path, cases: list[ListedCase]
) -> ListedCase:
    """Write an image of the scene, with its pre-contrast image and its points if there are any, as a new case.

    Parameters
    ----------
    volume_node, pre_node : vtkMRMLScalarVolumeNode
        The second may be None.
    points_node : vtkMRMLMarkupsFiducialNode or None
    folder : Path
        Gets a folder with the name of the case.
    cases : list of ListedCase
        Those there are, whose names are taken.

    Raises
    ------
    InputError
        If the image cannot be used, or a file cannot be written.
    """
    volume = volume_from_node(volume_node)
    pre = None if pre_node is None else volume_from_node(pre_node, "pre-contrast image")
    name = unique_name(case_name(volume.name), cases)
    place = folder / name
    write_volume(volume, place / "post.nrrd")
    if pre is not None:
        write_volume(pre, place / "pre.nrrd")
    placed = None if points_node is None else points_from_node(points_node)
    if placed is not None and placed.labels:
        write_points(placed, place / "points.mrk.json")
    return ListedCase(name, place / "post.nrrd", place / "points.mrk.json", None if pre is None else place / "pre.nrrd")
