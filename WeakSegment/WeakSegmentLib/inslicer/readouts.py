"""What the panel says of a run and of a lesion's measures."""

from __future__ import annotations

from slicer.i18n import tr as _

from WeakSegmentLib.measures import Measures
from WeakSegmentLib.segmentation import Segmentation
from WeakSegmentLib.settings import RandomWalkSettings


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
