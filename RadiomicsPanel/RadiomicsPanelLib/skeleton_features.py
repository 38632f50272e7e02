"""Skeleton features: the course of elongated or branching segments, their thickness, and their deformation.

Measured on one solid piece of cubic voxels (`solid.py`). A curve skeleton means something only if the segment is
elongated (the longest path at least three times the largest inscribed diameter) or branches (a junction survives
pruning); else its features are not applicable. None is standardized by IBSI.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from RadiomicsPanelLib import deformation
from RadiomicsPanelLib.feature import Family, Feature, NotApplicable
from RadiomicsPanelLib.roi import Roi
from RadiomicsPanelLib.skeleton import Skeleton
from RadiomicsPanelLib.solid import Solid
from RadiomicsPanelLib.thickness import local_thickness

ELONGATED = 3.0
THIN_MM = 5.0
NECK = 0.1
"""How much a neck is thinner than its surroundings, as a share of the mean radius."""

NECK_SMOOTHING = 2.0
"""Skeleton voxels, of the radius before necks are counted."""


class Form:
    """What the skeleton features are computed from, each part when it is first needed."""

    def __init__(self, roi: Roi) -> None:
        self._roi = roi

    @cached_property
    def solid(self) -> Solid:
        """The region as one solid."""
        return Solid.of(self._roi)

    @cached_property
    def _checked(self) -> Skeleton | str:
        try:
            skeleton = Skeleton(self.solid)
        except NotApplicable as status:
            return str(status)
        length, diameter = skeleton.longest_path.length, 2 * self.solid.radius
        if skeleton.junction_count == 0 and length < ELONGATED * diameter:
            return (
                f"the segment is compact: its skeleton is {length:.3g} mm long, the largest ball inside is "
                f"{diameter:.3g} mm wide, and it does not branch"
            )
        return skeleton

    @property
    def skeleton(self) -> Skeleton:
        """The pruned skeleton.

        Raises
        ------
        NotApplicable
            If the segment neither is elongated nor branches.
        """
        if isinstance(self._checked, str):
            raise NotApplicable(self._checked)
        return self._checked

    @cached_property
    def thickness(self) -> NDArray[np.float64]:
        """(n,) local thickness in mm."""
        return local_thickness(self.solid)

    @property
    def path_radii(self) -> NDArray[np.float64]:
        """(m,) radius in mm along the longest path."""
        return self.skeleton.radii[self.skeleton.longest_path.path]

    @cached_property
    def asymmetry(self) -> NDArray[np.float64]:
        """(3,) of the mirror planes across the principal axes."""
        return deformation.asymmetry(self.solid)

    @cached_property
    def curvature(self) -> deformation.Curvature:
        """Curvature of the surface."""
        return deformation.curvature(self.solid)

    @cached_property
    def turns(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(m - 2,) angles in rad and lengths in mm along the smoothed longest path.

        Raises
        ------
        NotApplicable
            If the longest path has no course.
        """
        line = self.skeleton.medial_line
        steps = np.diff(line, axis=0)
        lengths = np.linalg.norm(steps, axis=1)
        steps, lengths = steps[lengths > 1e-9], lengths[lengths > 1e-9]
        if len(steps) < 2:
            raise NotApplicable("the longest path has no course")
        directions = steps / lengths[:, None]
        cosines = np.sum(directions[1:] * directions[:-1], axis=1)
        return np.arccos(np.clip(cosines, -1, 1)), (lengths[1:] + lengths[:-1]) / 2


def prepare(roi: Roi, aggregations: tuple[str, ...]) -> dict[str, list[Form]]:
    """Return the region's form."""
    return {"": [Form(roi)]}


def end_count(f: Form) -> float:
    """Return the number of free ends."""
    return float(len(f.skeleton.ends))


def junction_count(f: Form) -> float:
    """Return the number of junctions."""
    return float(f.skeleton.junction_count)


def branch_count(f: Form) -> float:
    """Return the number of branches."""
    return float(len(f.skeleton.branches))


def cycle_count(f: Form) -> float:
    """Return the number of loops."""
    return float(f.skeleton.cycle_count)


def total_length(f: Form) -> float:
    """Return the length of all branches; ends lose about the radius there."""
    return sum(b.length for b in f.skeleton.branches)


def mean_branch_length(f: Form) -> float:
    """Return the mean length of the branches."""
    return total_length(f) / len(f.skeleton.branches)


def maximum_branch_length(f: Form) -> float:
    """Return the length of the longest branch."""
    return max(b.length for b in f.skeleton.branches)


def longest_path_length(f: Form) -> float:
    """Return the length of the longest way through the skeleton."""
    return f.skeleton.longest_path.length


def tortuosity(f: Form) -> float:
    """Return the length of the smoothed longest path over the distance of its ends.

    Raises
    ------
    NotApplicable
        If the longest path ends where it starts.
    """
    line = f.skeleton.medial_line
    chord = float(np.linalg.norm(line[-1] - line[0]))
    if chord < 1e-9:
        raise NotApplicable("the longest path ends where it starts")
    return float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum()) / chord


def sum_of_angles(f: Form) -> float:
    """Return the angles of the smoothed longest path, summed, over its length."""
    angles, lengths = f.turns
    return float(angles.sum() / lengths.sum())


def bending(f: Form) -> float:
    """Return the integral of the squared curvature along the smoothed longest path."""
    angles, lengths = f.turns
    return float(np.sum(angles**2 / lengths))


def mean_branch_angle(f: Form) -> float:
    """Return the mean angle between two branches at a junction.

    Raises
    ------
    NotApplicable
        If the skeleton has no junction.
    """
    angles = f.skeleton.angles()
    if not angles:
        raise NotApplicable("the skeleton has no junction")
    return float(np.mean(angles))


def path_radius_mean(f: Form) -> float:
    """Return the mean radius along the longest path."""
    return float(f.path_radii.mean())


def path_radius_variation(f: Form) -> float:
    """Return the standard deviation over the mean of the radius along the longest path."""
    return float(f.path_radii.std() / f.path_radii.mean())


def path_taper(f: Form) -> float:
    """Return the absolute slope of the radius along the longest path, mm per mm."""
    radii = f.path_radii
    along = np.linspace(0, f.skeleton.longest_path.length, len(radii))
    return abs(float(np.polyfit(along, radii, 1)[0]))


def path_neck_count(f: Form) -> float:
    """Return how often the radius along the longest path has a minimum a tenth of its mean below its surroundings."""
    radii = ndimage.gaussian_filter1d(f.path_radii, NECK_SMOOTHING, mode="nearest")
    return float(len(signal.find_peaks(-radii, prominence=NECK * radii.mean())[0]))


def thickness_mean(f: Form) -> float:
    """Return the mean local thickness."""
    return float(f.thickness.mean())


def thickness_standard_deviation(f: Form) -> float:
    """Return the standard deviation of the local thickness."""
    return float(f.thickness.std())


def thickness_variation(f: Form) -> float:
    """Return the standard deviation of the local thickness over its mean."""
    return float(f.thickness.std() / f.thickness.mean())


def thickness_percentile_10(f: Form) -> float:
    """Return the 10th percentile of the local thickness."""
    return float(np.percentile(f.thickness, 10))


def thickness_median(f: Form) -> float:
    """Return the median of the local thickness."""
    return float(np.median(f.thickness))


def thickness_percentile_90(f: Form) -> float:
    """Return the 90th percentile of the local thickness."""
    return float(np.percentile(f.thickness, 90))


def thickness_maximum(f: Form) -> float:
    """Return the diameter of the largest ball inside."""
    return float(f.thickness.max())


def thin_fraction(f: Form) -> float:
    """Return the share of the volume thinner than 5 mm."""
    return float((f.thickness < THIN_MM).mean())


def spiculation_2mm(f: Form) -> float:
    """Return the share of the volume that balls of 2 mm radius inside do not reach."""
    return deformation.spiculation(f.solid, 2.0)


def spiculation_4mm(f: Form) -> float:
    """Return the share of the volume that balls of 4 mm radius inside do not reach."""
    return deformation.spiculation(f.solid, 4.0)


def asymmetry_major(f: Form) -> float:
    """Return 1 - Dice of the solid and its mirror image across the plane normal to the major axis."""
    return float(f.asymmetry[0])


def asymmetry_minor(f: Form) -> float:
    """Return 1 - Dice of the solid and its mirror image across the plane normal to the minor axis."""
    return float(f.asymmetry[1])


def asymmetry_least(f: Form) -> float:
    """Return 1 - Dice of the solid and its mirror image across the plane normal to the least axis."""
    return float(f.asymmetry[2])


def shape_index_mean(f: Form) -> float:
    """Return the mean shape index of the surface: 1 cap, 0.5 ridge, 0 saddle, -0.5 rut, -1 cup."""
    return float(f.curvature.shape_index.mean())


def concave_fraction(f: Form) -> float:
    """Return the share of the surface whose shape index is negative."""
    return float((f.curvature.shape_index < 0).mean())


def curvedness_mean(f: Form) -> float:
    """Return the mean curvedness of the surface."""
    return float(f.curvature.curvedness.mean())


def curvedness_standard_deviation(f: Form) -> float:
    """Return the standard deviation of the curvedness of the surface."""
    return float(f.curvature.curvedness.std())


def surface_dimension(f: Form) -> float:
    """Return the box-counting dimension of the surface, about 2 if it is smooth."""
    return deformation.box_dimension(f.solid)


_LEE = "Lee 1994, doi 10.1006/cgip.1994.1042"
_HILDEBRAND = "Hildebrand 1997, doi 10.1046/j.1365-2818.1997.1340694.x"
_BULLITT = "Bullitt 2003, doi 10.1109/TMI.2003.816964"
_KOENDERINK = "Koenderink 1992, doi 10.1016/0262-8856(92)90076-F"
_OWN = "RadiomicsPanelLib/deformation.py"


def _skel(compute: Callable[[Form], float], unit: str, reference: str) -> Feature:
    name = compute.__name__
    return Feature(name, "skel", "skeleton", f"skel_{name}", "", unit, compute, reference=reference)


FEATURES: tuple[Feature, ...] = (
    _skel(end_count, "1", _LEE),
    _skel(junction_count, "1", _LEE),
    _skel(branch_count, "1", _LEE),
    _skel(cycle_count, "1", _LEE),
    _skel(total_length, "mm", _LEE),
    _skel(mean_branch_length, "mm", _LEE),
    _skel(maximum_branch_length, "mm", _LEE),
    _skel(longest_path_length, "mm", _LEE),
    _skel(tortuosity, "1", _BULLITT),
    _skel(sum_of_angles, "rad/mm", _BULLITT),
    _skel(bending, "1/mm", _BULLITT),
    _skel(mean_branch_angle, "deg", _LEE),
    _skel(path_radius_mean, "mm", _LEE),
    _skel(path_radius_variation, "1", _LEE),
    _skel(path_taper, "1", _LEE),
    _skel(path_neck_count, "1", _LEE),
    _skel(thickness_mean, "mm", _HILDEBRAND),
    _skel(thickness_standard_deviation, "mm", _HILDEBRAND),
    _skel(thickness_variation, "1", _HILDEBRAND),
    _skel(thickness_percentile_10, "mm", _HILDEBRAND),
    _skel(thickness_median, "mm", _HILDEBRAND),
    _skel(thickness_percentile_90, "mm", _HILDEBRAND),
    _skel(thickness_maximum, "mm", _HILDEBRAND),
    _skel(thin_fraction, "1", _HILDEBRAND),
    _skel(spiculation_2mm, "1", _OWN),
    _skel(spiculation_4mm, "1", _OWN),
    _skel(asymmetry_major, "1", _OWN),
    _skel(asymmetry_minor, "1", _OWN),
    _skel(asymmetry_least, "1", _OWN),
    _skel(shape_index_mean, "1", _KOENDERINK),
    _skel(concave_fraction, "1", _KOENDERINK),
    _skel(curvedness_mean, "1/mm", _KOENDERINK),
    _skel(curvedness_standard_deviation, "1/mm", _KOENDERINK),
    _skel(surface_dimension, "1", _OWN),
)

FAMILY = Family("skel", "Skeleton, thickness and deformation", "region", prepare, FEATURES, of_responses=False)
