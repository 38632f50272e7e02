"""Time all radiomic features on textured lumps; run as a program to compare with pyradiomics where it is installed.

    python Testing/benchmarks/radiomics_features.py [--voxels 1e5] [--levels 64]

CPU seconds of one process and one thread, the fastest of three. pyradiomics 3.0.1 installs on Python 3.11 by
`pip install numpy setuptools wheel SimpleITK; pip install --no-build-isolation pyradiomics==3.0.1`; keep it in an
environment of its own, to which NumPy, SciPy, SimpleITK and VTK are enough for ours.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT / "WeakSegment"), str(_ROOT / "RadiomicsPanel")]

import numpy as np  # noqa: E402 - after the number of threads and the path
from BreastBiomarkersLib.volume import Volume, to_sitk  # noqa: E402
from RadiomicsPanelLib.catalog import FAMILIES, FEATURES  # noqa: E402
from RadiomicsPanelLib.extract import compute_features  # noqa: E402
from RadiomicsPanelLib.pyradiomics_mode import COUNTERPARTS  # noqa: E402
from RadiomicsPanelLib.roi import Case, prepare_roi  # noqa: E402
from RadiomicsPanelLib.settings import Settings  # noqa: E402
from scipy import ndimage  # noqa: E402


def textured_lump(voxels: float, seed: int = 0) -> Case:
    """Return a lump of about so many 1 mm voxels with a smooth random border, in a correlated random texture."""
    radius = (3 * voxels / (4 * np.pi)) ** (1 / 3)
    rng, size = np.random.default_rng(seed), int(2.6 * radius) + 24
    image = ndimage.gaussian_filter(rng.normal(size=(size,) * 3), 1.0) * 100
    border = ndimage.gaussian_filter(rng.normal(size=(size,) * 3), 5.0)
    distance = np.linalg.norm(np.indices(image.shape).T - (size - 1) / 2, axis=-1).T
    mask = distance < radius * (1 + 0.06 * border / border.std())
    return Case(Volume(image, np.eye(4), "texture"), Volume(mask, np.eye(4), "mask"), "benchmark", "lump")


class Features:
    """asv: all families of one lump, preparation included."""

    params = ([1e4, 1e5, 1e6], [32, 64, 256])
    param_names = ("voxels", "levels")

    def setup(self, voxels: float, levels: int) -> None:
        """Make the lump."""
        self.case, self.settings = textured_lump(voxels), Settings(bin_count=levels)

    def time_all_families(self, voxels: float, levels: int) -> None:
        """Prepare the region and compute all features, textures averaged and merged."""
        compute_features(prepare_roi(self.case, self.settings))

    def time_textures(self, voxels: float, levels: int) -> None:
        """Prepare the region and compute the six kinds of texture matrices."""
        compute_features(prepare_roi(self.case, self.settings), ["glcm", "glrlm", "glszm", "gldzm", "ngtdm", "ngldm"])


def fastest(run: Callable[[], object], repeats: int = 3) -> float:
    """Return the smallest CPU time of some runs in seconds."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def compare(voxels: float, levels: int) -> None:
    """Print our CPU seconds on one lump, pyradiomics', the ratio at equal features, and how many of these are equal."""
    case, settings = textured_lump(voxels), Settings(bin_count=levels)
    everything = fastest(lambda: compute_features(prepare_roi(case, settings)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{int(case.mask.array.sum())} voxels, {levels} levels, {peak:.2f} GiB at the peak")
    print(f"    {len(FEATURES)} features, textures averaged and merged: {everything:.3f} s")
    roi = prepare_roi(case, settings)
    parts = [f"{f.name} {fastest(lambda name=f.name: compute_features(roi, [name]), 1):.3f}" for f in FAMILIES]
    print(f"        {', '.join(parts)}")
    try:
        import radiomics
        from radiomics.featureextractor import RadiomicsFeatureExtractor
    except ImportError:
        print("    pyradiomics is not installed here; nothing to compare with")
        return
    radiomics.setVerbosity(60)
    averaged, names = replace(settings, aggregations=("3D_avg",)), [c.ours for c in COUNTERPARTS]
    ours = fastest(lambda: compute_features(prepare_roi(case, averaged), names))
    extractor = RadiomicsFeatureExtractor(binCount=levels, additionalInfo=False)
    image, mask = to_sitk(case.image), to_sitk(case.mask)
    theirs = fastest(lambda: extractor.execute(image, mask), 1 if voxels > 2e5 else 3)
    print(f"    the {len(names)} features both define alike: {ours:.3f} s")
    print(f"    pyradiomics {radiomics.__version__}, which has 107: {theirs:.3f} s")
    print(f"    ratio {theirs / ours:.1f} at equal features, {theirs / everything:.1f} for all of ours")
    values, expected = compute_features(prepare_roi(case, averaged), names), extractor.execute(image, mask)
    theirs_of = {c.ours: float(expected[f"original_{c.theirs}"]) for c in COUNTERPARTS}
    differences = {v.column: abs(v.value / theirs_of[v.feature.key] - 1) for v in values if v.value is not None}
    unequal = {name: d for name, d in differences.items() if d > 1e-9}
    print(f"    {len(differences) - len(unequal)} of {len(names)} values equal to 1e-9")
    for name in sorted(unequal, key=lambda key: -unequal[key])[:5]:
        print(f"        {name} differs by {unequal[name]:.1e}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxels", type=float, nargs="+", default=[1e5], help="size of the lump")
    parser.add_argument("--levels", type=int, nargs="+", default=[64], help="gray levels")
    options = parser.parse_args()
    for number in options.voxels:
        for level_count in options.levels:
            compare(number, level_count)
