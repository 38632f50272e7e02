"""Dice and distances of both methods beside three trivial rules that get the same six points.

`python Testing/benchmarks/weaksegment_evaluate.py --data ../shared/data/segmentation --phantoms 12 --output FILE.csv`
made weaksegment_evaluation.csv beside this file: real cases and synthetic breasts (seeds 0 to 11, on which no constant
was chosen). Points are the extremes of the reference mask, exact or with every coordinate moved by up to two
voxels (mean of five seeded draws).

The constants of the default method were chosen on these real cases and others like them, so its figures on them are
optimistic. The reference of the DCE case is itself made by the FTV rule, which favors that rule and Otsu's.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path
from BreastBiomarkersLib.volume import Volume, read_volume
from scipy.ndimage import label
from WeakSegmentLib.metrics import score
from WeakSegmentLib.points import ExtremePoints, extreme_points_of_mask
from WeakSegmentLib.segmentation import segment_by_random_walk
from WeakSegmentLib.settings import PublishedSettings, RandomWalkSettings

JITTER_VOXELS, DRAWS = 2, 5


class Case(NamedTuple):
    """An image, its reference, and whether it is contrast-enhanced MRI (then `pre` is there)."""

    name: str
    image: Volume
    reference: Volume
    pre: Volume | None = None
    subtract: bool = False


def real_cases(folder):
    """Yield the cases of the shared data folder."""
    breast = folder / "breast_dce_UCSF-BR-08"
    post, pre, mask = (read_volume(breast / f"UCSF-BR-08_{n}.nrrd") for n in ("post1", "pre", "lesion_clean"))
    yield Case("UCSF-BR-08 post", post, mask, pre)
    yield Case("UCSF-BR-08 subtraction", post, mask, pre, subtract=True)
    for name in ("breast1", "brain1"):
        paths = (folder / "pyradiomics" / f"{name}_{part}.nrrd" for part in ("image", "label"))
        yield Case(name, *(read_volume(path) for path in paths))
    for path in sorted((folder / "sts").glob("*_image.nii.gz")):
        reference = read_volume(path.with_name(path.name.replace("_image", "_mask")))
        yield Case(path.name.removesuffix("_image.nii.gz"), read_volume(path), reference)


def phantom_cases(count):
    """Yield synthetic breasts, each as post-contrast image and as subtraction."""
    from WeakSegmentLib.breast_phantom import BreastPhantomSettings, simulate_breast_case

    for seed in range(count):
        breast = simulate_breast_case(BreastPhantomSettings(), seed)
        kind = breast.parameters["kind"]
        for subtract in (False, True):
            name = f"phantom {seed} {kind} {'subtraction' if subtract else 'post'}"
            yield Case(name, breast.post[0], breast.lesion, breast.pre, subtract)


def ellipsoid(case, points):
    """Return the ellipsoid inscribed in the box: blind to the image."""
    center = (points.box_start_kji + points.box_stop_kji - 1) / 2
    half = (points.box_stop_kji - points.box_start_kji) / 2
    axes = [((np.arange(n) - c) / h) ** 2 for n, c, h in zip(case.image.shape, center, half, strict=True)]
    return axes[0][:, None, None] + axes[1][:, None] + axes[2] <= 1


def otsu(case, points):
    """Return the largest part, inside the box, of Otsu's class that fills more of the ellipsoid than of its corners."""
    box = _box(points)
    image = _difference(case)[box]
    threshold = sitk.OtsuThresholdImageFilter()
    threshold.Execute(sitk.GetImageFromArray(image))
    bright = image > threshold.GetThreshold()
    inside = ellipsoid(case, points)[box]
    lesion = bright if bright[inside].mean() > bright[~inside].mean() else ~bright
    parts, count = label(lesion)
    mask = np.zeros(case.image.shape, dtype=bool)
    if count:
        mask[box] = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    return mask


def functional_tumor_volume(case, points):
    """Return the box voxels that enhance by over 70 percent and were not dark before, or None without `pre`.

    Functional tumor volume, Hylton et al., Radiology 263:663 (2012). Dark means below 60 percent (the background
    threshold in the header of the DCE case) of the 95th percentile of the box (our reading of it).
    """
    if case.pre is None:
        return None
    box = _box(points)
    before, after = case.pre.array[box].astype(np.float32), case.image.array[box].astype(np.float32)
    mask = np.zeros(case.image.shape, dtype=bool)
    mask[box] = (after > 1.7 * before) & (before > 0.6 * np.percentile(before, 95))
    return mask


def own(settings):
    """Return a rule that runs this extension with given settings."""

    def rule(case, points):
        pre = case.pre if case.subtract else None
        return segment_by_random_walk(case.image, points, settings, pre=pre).mask.array

    return rule


RULES = {
    "random-walk": own(RandomWalkSettings()),
    "random-walk, keep non-enhancing": own(RandomWalkSettings(exclude_non_enhancing=False)),
    "published": own(PublishedSettings()),
    "ellipsoid": ellipsoid,
    "otsu": otsu,
    "FTV (PE > 70 %)": functional_tumor_volume,
}
FIGURES = ("dice", "jaccard", "hd95_mm", "surface_distance_mm", "volume_ml", "reference_ml")


def evaluate(case):
    """Yield one row per rule and kind of points; jittered rows hold means."""
    exact = extreme_points_of_mask(case.reference)
    for points_name, sets in (("exact", [exact]), ("jittered", jittered(exact, case.image))):
        for rule_name, rule in RULES.items():
            start = time.perf_counter()
            masks = [rule(case, points) for points in sets]
            seconds = (time.perf_counter() - start) / len(sets)
            if masks[0] is None:
                continue
            scores = [score(case.reference.with_array(mask), case.reference) for mask in masks]
            row = {"case": case.name, "points": points_name, "rule": rule_name}
            for figure in FIGURES:
                values = [getattr(s, figure) for s in scores if getattr(s, figure) is not None]
                row[figure] = f"{np.mean(values):.4f}" if values else ""
            yield row | {"seconds": f"{seconds:.2f}"}


def jittered(points, image):
    """Return sets of points whose coordinates are moved by up to `JITTER_VOXELS` and kept inside the image."""
    rng = np.random.default_rng(0)
    sets = []
    while len(sets) < DRAWS:
        moved = points.voxels_kji + rng.integers(-JITTER_VOXELS, JITTER_VOXELS + 1, (6, 3))
        moved = np.clip(moved, 0, np.array(image.shape) - 1)
        try:
            sets.append(ExtremePoints.from_ras(image.points_to_ras(moved[:, ::-1]), image))
        except InputError:  # tiny lesions: the draw leaves no box; draw again
            continue
    return sets


def main():
    """Evaluate, print a line of Dice values per case, and write all figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with the real cases; left out, only phantoms")
    parser.add_argument("--phantoms", type=int, default=0, metavar="N", help="synthetic breasts to add")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.csv")
    options = parser.parse_args()
    rows = []
    print(f"{'Dice: case':<36}{'points':<10}" + "".join(f"{name[:14]:>16}" for name in RULES))
    for source in (real_cases(options.data) if options.data else [], phantom_cases(options.phantoms)):
        for case in source:
            found = list(evaluate(case))
            rows += found
            for points in ("exact", "jittered"):
                by_rule = {row["rule"]: row["dice"] for row in found if row["points"] == points}
                print(f"{case.name:<36}{points:<10}" + "".join(f"{by_rule.get(n, '-'):>16}" for n in RULES), flush=True)
    with atomic_path(options.output) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _box(points):
    return tuple(slice(a, b) for a, b in zip(points.box_start_kji, points.box_stop_kji, strict=True))


def _difference(case):
    image = case.image.array.astype(np.float32)
    return image - case.pre.array if case.subtract else image


if __name__ == "__main__":
    main()
