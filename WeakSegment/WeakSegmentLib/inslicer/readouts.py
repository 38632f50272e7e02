"""What the panel says of the inputs, of a run and of a lesion's measures."""

from __future__ import annotations

from typing import Any

from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.nodes import grid_from_node
from slicer.i18n import tr as _

from WeakSegmentLib.inslicer.lesions import POINT_NAMES, Lesion
from WeakSegmentLib.measures import Measures
from WeakSegmentLib.segmentation import Segmentation
from WeakSegmentLib.settings import RandomWalkSettings


def check_inputs(volume_node: Any, points_node: Any, pre_node: Any = None) -> str:
    """Return a line on the placed points.

    Raises
    ------
    InputError
        If something keeps the lesion from being segmented: an image or points are missing or do not fit.
    """
    volume = grid_from_node(volume_node)
    if pre_node is not None:
        pre = grid_from_node(pre_node, "pre-contrast image")
        if pre_node is volume_node or not volume.same_grid(pre):
            raise InputError(
                f"The pre-contrast image '{pre.name}' must be another image on the grid of '{volume.name}'. "
                "Choose the one of the same series, or resample it to that image."
            )
    points = Lesion(points_node).extreme_points(volume)
    size = " x ".join(f"{mm:.0f}" for mm in ((points.box_stop_kji - points.box_start_kji) * volume.spacing)[::-1])
    text = _("All six points are placed; their box is {size} mm.").format(size=size)
    labels = [points_node.GetNthControlPointLabel(n) for n in range(points_node.GetNumberOfControlPoints())]
    ends = [(labels[n], role) for n, role in sorted(zip(points.order, points.roles, strict=True))]
    other = [f"{label} ({role})" for label, role in ends if label in POINT_NAMES and label != role]
    if other:
        text += " " + _("At another end than their name says, which is allowed: {names}.").format(
            names=", ".join(other)
        )
    if points_node.GetTransformNodeID() != volume_node.GetTransformNodeID():
        text += " " + _("They lie under another transform than the image and do not move with it.")
    return text


def describe(result: Segmentation) -> str:
    """Return what the user should know about a finished run."""
    text = _("Lesion volume {volume:.2f} ml.").format(volume=result.volume_ml)
    if result.contrast is not None and result.contrast < RandomWalkSettings.exclusion_min_contrast:
        text += " " + _(
            "Its intensities overlap with those around it (contrast {contrast:.2f}, from 0.5 to 1): check the outline."
        ).format(contrast=result.contrast)
    return text


def describe_measures(found: Measures) -> str:
    """Return the read-out of a lesion's measures."""
    size, kinetics, agreement = found.diameters, found.kinetics, found.agreement
    text = _("Volume {volume:.2f} ml. Longest diameter {longest:.1f} mm; in a slice {long:.1f} x {short:.1f} mm.")
    lines = [text.format(volume=found.volume_ml, longest=size.longest, long=size.in_plane, short=size.perpendicular)]
    if kinetics is not None:
        early, late = kinetics.initial_enhancement_percent, kinetics.late_change_percent
        line = _("Initial enhancement {early:.0f} % ({kind})").format(early=early, kind=kinetics.initial_class)
        if late is not None:
            line += _(", late change {late:+.0f} % ({kind})").format(late=late, kind=kinetics.late_class)
        if kinetics.ser is not None:
            line += _(", SER {ser:.2f}").format(ser=kinetics.ser)
        lines.append(line + ".")
    if agreement is not None:
        line = _("Dice {dice:.3f}, Jaccard {jaccard:.3f}").format(dice=agreement.dice, jaccard=agreement.jaccard)
        if agreement.hd95_mm is not None:
            distances = _("; surfaces {mean:.1f} mm apart on average, 95 % Hausdorff {hd95:.1f} mm")
            line += distances.format(hd95=agreement.hd95_mm, mean=agreement.surface_distance_mm)
        lines.append(line + _("; reference {volume:.2f} ml.").format(volume=agreement.reference_ml))
    return "\n".join(lines)
