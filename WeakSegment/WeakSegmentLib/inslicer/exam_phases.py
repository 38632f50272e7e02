"""Which loaded images are the phases of the exam, by their names or out of an image sequence."""

from __future__ import annotations

from typing import Any

import slicer
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.nodes import volume_from_node, volume_to_node

from WeakSegmentLib.phases import phases_from_names

MIN_FRAMES = 3

Chosen = tuple[Any, Any, Any]
"""Volume nodes: first post-contrast image, pre-contrast image or None, last post-contrast image or None."""


def phases_by_name() -> Chosen | None:
    """Return the phases if the names of the loaded images tell them apart, else None.

    With a subtraction image alone, that is the image and there is no other phase.
    """
    volumes = [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        if node.GetClassName() == "vtkMRMLScalarVolumeNode" and node.GetImageData() is not None
    ]
    found = phases_from_names([node.GetName() for node in volumes])
    if found.post:
        pre = None if found.pre is None else volumes[found.pre]
        late = volumes[found.post[-1]] if len(found.post) > 1 else None
        return volumes[found.post[0]], pre, late
    if found.subtraction is not None and found.pre is None:
        return volumes[found.subtraction], None, None
    return None


def find_phases() -> Chosen:
    """Return the phases by name, else take them out of the only image sequence of three or more frames.

    Raises
    ------
    InputError
        If neither tells the phases without doubt.
    """
    by_name = phases_by_name()
    if by_name is not None:
        return by_name
    sequences = [node for node in slicer.util.getNodesByClass("vtkMRMLSequenceNode") if _is_of_volumes(node)]
    if len(sequences) != 1:
        raise InputError(
            "The names of the images do not tell which is pre- and which post-contrast (such as 'pre', 'post 1', "
            f"'post 2'), and there are {len(sequences)} image sequences, not one. Choose the images by hand."
        )
    sequence = sequences[0]
    last = sequence.GetNumberOfDataNodes() - 1
    titles = {0: "pre", 1: "post 1", last: f"post {last}"}
    made = {}
    for frame, title in titles.items():
        volume = volume_from_node(sequence.GetNthDataNode(frame))
        made[frame] = volume_to_node(volume, name=f"{sequence.GetName()} {title}")
    return made[1], made[0], made[last]


def _is_of_volumes(sequence: Any) -> bool:
    count = sequence.GetNumberOfDataNodes()
    return count >= MIN_FRAMES and all(
        sequence.GetNthDataNode(n).GetClassName() == "vtkMRMLScalarVolumeNode" for n in range(count)
    )
