"""Time and memory of the random walk: the solver beside scikit-image's on the same system, and the whole method.

    OMP_NUM_THREADS=1 python Testing/benchmarks/weaksegment_random_walk.py --large --memory \\
        --data ../shared/data/segmentation --csv Testing/benchmarks/weaksegment_speed.csv

- Walks: eight solves of the published walk; `--large` adds a box of 100 x 100 x 50 voxels (minutes). scikit-image's
  multigrid route, which the authors of the published method use, needs pyamg; without it that line is left out.
- Methods (`--data`): everything from six points to the mask, on working grids of 48 and 32 voxels. Nothing is kept
  between updates, so that of 32 is also what follows a moved point.
- Memory (`--memory`): a lesion of 160 x 160 x 80 voxels on its own grid, in a process of its own (Unix).

The CPU seconds of this process are the ones to compare: others may run on the machine. The asv classes time the walks.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import multiprocessing
import platform
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy
from BreastBiomarkersLib.files import atomic_path
from BreastBiomarkersLib.volume import Volume, read_volume
from scipy.ndimage import binary_dilation, gaussian_filter
from WeakSegmentLib.points import extreme_points_of_mask
from WeakSegmentLib.random_walk import Marker, published_graph, repeat_walk
from WeakSegmentLib.segmentation import segment_by_random_walk
from WeakSegmentLib.settings import PublishedSettings, RandomWalkSettings

BETA, MIN_CONDUCTANCE = 130.0, 1e-10
SPACING = np.array([1.7, 0.38, 0.38])
REPETITIONS, TUMOR_ABOVE, BACKGROUND_BELOW = 7, 0.8, 0.1
SMALL, LARGE = [(10, 24, 24), (20, 40, 40)], (50, 100, 100)
GRIDS = (48, 32)
MEMORY_BOX = (80, 160, 160)
NATIVE = {
    "random-walk": RandomWalkSettings(longest_side=max(MEMORY_BOX)),
    "published": PublishedSettings(),
}
COLUMNS = ("what", "case", "seconds", "cpu_seconds", "times_own", "voxels_differ", "peak_mb")


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


def measure_walks(boxes):
    """Yield a row per route and box: how many mask voxels differ from a tight solve (scikit-image, cg_j, 1e-8)."""
    routes = {"cg_j 1e-8": ("cg_j", 1e-8), "cg_j 1e-3": ("cg_j", 1e-3)}
    if importlib.util.find_spec("pyamg") is not None:
        routes["cg_mg 1e-3 (published)"] = ("cg_mg", 1e-3)
    for box in boxes:
        image, markers = make_case(box)
        own, *times = _best_of(3, lambda image=image, markers=markers: own_walk(image, markers))
        found = {"own": (own, *times)}
        for name, (mode, tolerance) in routes.items():
            job = lambda image=image, markers=markers, how=(mode, tolerance): skimage_walk(image, markers, *how)  # noqa: E731
            found[f"scikit-image {name}"] = _best_of(1, job)
        tight = found["scikit-image cg_j 1e-8"][0] > TUMOR_ABOVE
        case = f"box {_text(box)}: {np.count_nonzero(markers == 0)} unknowns, {np.count_nonzero(tight)} lesion voxels"
        for name, (score, seconds, cpu) in found.items():
            differ = int(np.count_nonzero((score > TUMOR_ABOVE) != tight))
            yield _row(f"walk, {name}", case, seconds, cpu, times_own=f"{cpu / times[1]:.1f}", voxels_differ=differ)


def measure_methods(folder):
    """Yield a row per real case and working grid."""
    breast = folder / "breast_dce_UCSF-BR-08"
    post, pre, lesion = (read_volume(breast / f"UCSF-BR-08_{n}.nrrd") for n in ("post1", "pre", "lesion_clean"))
    cases = {"UCSF-BR-08 post": (post, None, lesion), "UCSF-BR-08 subtraction": (post, pre, lesion)}
    for name in ("breast1", "brain1"):
        image, mask = (read_volume(folder / "pyradiomics" / f"{name}_{part}.nrrd") for part in ("image", "label"))
        cases[name] = (image, None, mask)
    for name, (image, before, mask) in cases.items():
        points = extreme_points_of_mask(mask)
        for side in GRIDS:
            for repeat in (RandomWalkSettings.remeasurements, 0):
                settings = replace(RandomWalkSettings(), longest_side=side, remeasurements=repeat)
                job = lambda case=(image, points, settings), before=before: segment_by_random_walk(*case, pre=before)  # noqa: E731
                result, seconds, cpu = _best_of(5, job)
                solves = len(result.record["solves"])
                yield _row(f"method, grid {side}, {repeat} remeasurements, {solves} solves", name, seconds, cpu)


def measure_memory():
    """Yield a row per method that works on the image's own grid."""
    for name in NATIVE:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            shape, seconds, cpu, peak_mb = pool.apply(native_run, (name,))
        voxels = f"box {_text(MEMORY_BOX)}, {int(np.prod(shape))} voxels with its surroundings"
        yield _row(f"native, {name}", voxels, seconds, cpu, peak_mb=f"{peak_mb:.0f}")


def native_run(name):
    """Return working shape, seconds, CPU seconds and peak memory of this process (MB, interpreter included)."""
    import resource

    margin = 30
    shape = tuple(side + 2 * margin for side in MEMORY_BOX)
    axes = [(np.arange(n, dtype=np.float32) - (n - 1) / 2) / (b / 2) for n, b in zip(shape, MEMORY_BOX, strict=True)]
    lesion = axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2 <= 1
    noise = np.random.default_rng(3).standard_normal(shape, dtype=np.float32)
    image = Volume(100 + 80 * lesion + 15 * noise, np.eye(4), "Lesion")
    points = extreme_points_of_mask(image.with_array(lesion))
    result, seconds, cpu = _best_of(1, lambda: segment_by_random_walk(image, points, NATIVE[name]))
    shape = [stop - start for start, stop in result.record["crop_kji"]]
    return shape, seconds, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    """Measure, print each row as it comes, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", action="store_true", help="also a box of 100 x 100 x 50 voxels")
    parser.add_argument("--data", type=Path, help="folder with the real cases")
    parser.add_argument(
        "--memory", action="store_true", help="also a lesion of 160 x 160 x 80 voxels at full resolution"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE.csv", help="table to write")
    options = parser.parse_args()
    rows = []
    for part in (
        measure_memory() if options.memory else (),  # first: a child's peak starts at the size of its parent
        measure_walks([*SMALL, LARGE] if options.large else SMALL),
        measure_methods(options.data) if options.data else (),
    ):
        for row in part:
            rows.append(row)
            print("  ".join(str(value) for value in row.values()), flush=True)
    if options.csv:
        write_table(rows, options)


def write_table(rows, options):
    """Write the rows below the command that made them and the versions they hold for."""
    flags = [f"--{name}" for name in ("large", "memory") if getattr(options, name)]
    flags += ["--data FOLDER"] if options.data else []
    with atomic_path(options.csv) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.write(f"# python Testing/benchmarks/weaksegment_random_walk.py {' '.join([*flags, '--csv FILE.csv'])}\n")
        file.write(f"# Python {platform.python_version()}, NumPy {np.__version__}, SciPy {scipy.__version__}, ")
        file.write("one thread on a machine with other work: compare CPU seconds (best of 3 own walks and 5 methods)\n")
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def _row(what, case, seconds, cpu, **more):
    row = {"what": what, "case": case, "seconds": f"{seconds:.3f}", "cpu_seconds": f"{cpu:.3f}"}
    return dict.fromkeys(COLUMNS, "") | row | more


def _text(box):
    return " x ".join(str(side) for side in reversed(box))


def _best_of(times, function):
    """Return the result, and the least seconds and CPU seconds."""
    seconds = cpu = float("inf")
    for _ in range(times):
        start, start_cpu = time.perf_counter(), time.process_time()
        result = function()
        seconds, cpu = min(seconds, time.perf_counter() - start), min(cpu, time.process_time() - start_cpu)
    return result, seconds, cpu


if __name__ == "__main__":
    main()
