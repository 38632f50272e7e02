"""A simulated breast exam as nodes of the scene: for teaching, tests and Sample Data."""

from __future__ import annotations

from typing import Any, NamedTuple

from BreastBiomarkersLib.inslicer.nodes import (
    labels_to_node,
    mask_to_segment,
    points_to_node,
    segmentation_for,
    volume_to_node,
)
from BreastBiomarkersLib.progress import Progress

from WeakSegmentLib.breast_parameters import BreastPhantomSettings
from WeakSegmentLib.breast_phantom import Tissue, simulate_breast_case


class SimulatedExam(NamedTuple):
    """Nodes of the exam; `parameters` are what was drawn for it."""

    preNode: Any  # noqa: N815 - read in the Python console beside other names of Slicer
    postNodes: list[Any]  # noqa: N815
    pointsNode: Any  # noqa: N815
    truthSegmentationNode: Any  # noqa: N815
    truthSegmentId: str  # noqa: N815
    tissueNode: Any  # noqa: N815
    parameters: dict[str, Any]


def simulate_exam(seed: int, kind: str, diameter_mm: float | None, progress: Progress) -> SimulatedExam:
    """Return a synthetic breast DCE-MRI exam with its truth, the same for the same arguments."""
    settings = BreastPhantomSettings(small=True, kind=kind, diameter_mm=diameter_mm)
    case = simulate_breast_case(settings, seed, progress)
    post_nodes = [volume_to_node(volume) for volume in case.post]
    truth = segmentation_for(post_nodes[0], "True lesion")
    return SimulatedExam(
        preNode=volume_to_node(case.pre),
        postNodes=post_nodes,
        pointsNode=points_to_node(case.points, name="Lesion"),
        truthSegmentationNode=truth,
        truthSegmentId=mask_to_segment(case.lesion, truth, "True lesion", color=(0.2, 0.7, 0.3)),
        tissueNode=labels_to_node(case.tissue, {t.value: t.name.lower() for t in Tissue}),
        parameters=case.parameters,
    )
