"""Eight solves of the published random walker: this extension's solver beside scikit-image's, on the same system.

Run `python Testing/benchmarks/weaksegment_random_walk.py [--large]` for the table (`--large` adds 100 x 100 x 50
voxels, some minutes), or use the asv classes. scikit-image's multigrid route, which the authors of the published method
use, needs pyamg; without it that column says so.
"""

from __future__ import annotations

import importlib.util
import sys
import time
import warnings

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter
from WeakSegmentLib.random_walk import Marker, published_graph, repeat_walk

BETA, MIN_CONDUCTANCE = 130.0, 1e-10
SPACING = np.array([1.7, 0.38, 0.38])
REPETITIONS, TUMOR_ABOVE, BACKGROUND_BELOW = 7, 0.8, 0.1
SMALL, LARGE = [(10, 24, 24), (20, 40, 40)], (50, 100, 100)


def make_case(box):
    """Return an image scaled to [0, 1] and markers: a lesion that fills a box, five voxels of tissue around, seeds."""
    rng = np.random.default_rng(11)
    margin = np.array([8, 14, 14])
    shape = np.array(box) + 2 * margin
    axes = [(np.arange(n) - (n - 1) / 2) / (b / 2) for n, b in zip(shape, box, strict=True)]
    radius = np.sqrt(axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2)
    texture = gaussian_filter(rng.normal(size=shape), 3)
    texture /= texture.std()
    image = 100 + 80 * (radius + 0.08 * texture < 1) + 12 * texture + 15 * rng.normal(size=shape)
    image = ((image - image.min()) / image.max()).astype(np.float32)
    cross = np.zeros(shape, dtype=bool)
    middle = shape // 2
    for axis in range(3):
        line = [int(m) for m in middle]
        line[axis] = slice(margin[axis], shape[axis] - margin[axis])
        cross[tuple(line)] = True
    markers = np.full(shape, Marker.BACKGROUND, dtype=np.int8)
    markers[tuple(slice(m - 5, n - m + 5) for m, n in zip(margin, shape, strict=True))] = Marker.UNKNOWN
    markers[binary_dilation(cross, np.ones((3, 3, 3)))] = Marker.TUMOR
    return image, markers


def own_walk(image, markers):
    """Return the last score by this extension's solver."""
    graph = published_graph(image, SPACING, BETA, MIN_CONDUCTANCE)
    nothing = np.zeros_like(markers)
    return repeat_walk(graph, markers, nothing, REPETITIONS, TUMOR_ABOVE, BACKGROUND_BELOW).score


def skimage_walk(image, markers, mode, tolerance):
    """Return the last score by scikit-image, repeated as the authors of the published method repeat it."""
    from skimage.segmentation import random_walker

    score = None
    for _ in range(REPETITIONS + 1):
        if score is not None:
            markers = np.where(score > TUMOR_ABOVE, Marker.TUMOR, Marker.UNKNOWN).astype(np.int8)
            markers[score <= BACKGROUND_BELOW] = Marker.BACKGROUND
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # multigrid stops after 30 cycles and says so in every solve
            both = random_walker(
                image, markers, beta=BETA, mode=mode, tol=tolerance, spacing=SPACING, return_full_prob=True
            )
        score = both[0]
    return score


class OwnWalk:
    """Eight solves, this extension."""

    params = SMALL
    param_names = ["box_kji"]

    def setup(self, box):
        self.case = make_case(box)

    def time_walk(self, box):
        own_walk(*self.case)

    def peakmem_walk(self, box):
        own_walk(*self.case)


class SkimageWalk(OwnWalk):
    """Eight solves, scikit-image with its Jacobi preconditioner and default tolerance."""

    def time_walk(self, box):
        skimage_walk(*self.case, "cg_j", 1e-3)

    def peakmem_walk(self, box):
        skimage_walk(*self.case, "cg_j", 1e-3)


def main(arguments):
    """Print seconds, ratios and how many mask voxels differ from a tight solve (cg_j, 1e-8)."""
    multigrid = importlib.util.find_spec("pyamg") is not None
    routes = {"cg_j 1e-3": ("cg_j", 1e-3), "cg_mg 1e-3 (published)": ("cg_mg", 1e-3)}
    for box in SMALL + ([LARGE] if "--large" in arguments else []):
        image, markers = make_case(box)
        seconds, own = _best_of(3, lambda image=image, markers=markers: own_walk(image, markers))
        start = time.perf_counter()
        tight = skimage_walk(image, markers, "cg_j", 1e-8) > TUMOR_ABOVE
        spent = time.perf_counter() - start
        lesion = np.count_nonzero(tight)
        print(f"box {box}, {np.count_nonzero(markers == 0)} unknowns, {lesion} voxels in the tight mask")
        _report("own", seconds, seconds, own, tight)
        _report("skimage cg_j 1e-8", spent, seconds, tight, tight)
        for name, (mode, tolerance) in routes.items():
            if mode == "cg_mg" and not multigrid:
                print(f"  skimage {name}: not measured, pyamg is not installed")
                continue
            start = time.perf_counter()
            score = skimage_walk(image, markers, mode, tolerance)
            _report(f"skimage {name}", time.perf_counter() - start, seconds, score, tight)


def _report(name, spent, own_seconds, score, tight):
    differing = int(np.count_nonzero((score > TUMOR_ABOVE) != tight))
    print(f"  {name:<30} {spent:8.3f} s {spent / own_seconds:6.1f} x {differing:6d} voxels differ")


def _best_of(times, function):
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        result = function()
        best = min(best, time.perf_counter() - start)
    return best, result


if __name__ == "__main__":
    main(sys.argv[1:])
