"""Time feature maps on textured lumps; run as a program to compare with pyradiomics where it is installed.

    python Testing/benchmarks/radiomics_maps.py [--voxels 1e4] [--levels 32] [--family glcm]

CPU seconds per 10 000 voxels, one process and thread, kernel radius 1. How to install pyradiomics for it is said in
`radiomics_features.py`. Its voxel-based GLCM takes most of a minute per 10 000 voxels. Correlation and Imc1 differ at
voxels where a direction shows a single level: it counts them as 1 and 0 there, ours leave that direction out.
"""

from __future__ import annotations

import argparse
import time

from radiomics_features import fastest, textured_lump  # sets the number of threads and the path

# isort: split
import numpy as np
from BreastBiomarkersLib.volume import Volume, from_sitk, to_sitk
from RadiomicsPanelLib.catalog import FEATURES
from RadiomicsPanelLib.map_formulas import ROWS
from RadiomicsPanelLib.maps import compute_feature_maps
from RadiomicsPanelLib.pyradiomics_mode import COUNTERPARTS
from RadiomicsPanelLib.roi import Roi, prepare_roi
from RadiomicsPanelLib.settings import Settings

MCC = "glcm_maximal_correlation_coefficient"


class Maps:
    """asv: maps of one lump of 10 000 voxels."""

    params = ([*ROWS],)
    param_names = ("family",)

    def setup(self, family: str) -> None:
        """Prepare the region."""
        self.roi = prepare_roi(textured_lump(1e4), Settings(bin_count=32))

    def time_family(self, family: str) -> None:
        """Compute the maps of all features of a family."""
        compute_feature_maps(self.roi, [family])


def compare(voxels: float, levels: int, families: list[str]) -> None:
    """Print our CPU seconds per 1e4 voxels, pyradiomics' and how far the maps differ."""
    case = textured_lump(voxels)
    roi = prepare_roi(case, Settings(bin_count=levels))
    count = len(roi.intensities)
    per = 1e4 / count
    print(f"{count} voxels, {levels} levels; seconds of CPU per 1e4 voxels")
    for family in ROWS:
        names = [f.key for f in FEATURES if f.family == family and f.key != MCC]
        ours = fastest(lambda names=names: compute_feature_maps(roi, names)) * per
        print(f"    {len(names):2d} maps of {family}: {ours:.3f}")
    print(f"     1 map of the MCC: {fastest(lambda: compute_feature_maps(roi, [MCC]), 1) * per:.3f}")
    try:
        import radiomics.featureextractor
    except ImportError:
        print("    pyradiomics is not installed here; nothing to compare with")
        return
    radiomics.setVerbosity(60)
    image, mask = to_sitk(case.image), to_sitk(case.mask)
    for family in families:
        entries = [c for c in COUNTERPARTS if c.ours.startswith(f"{family}_") and c.ours != MCC]
        names = [c.ours for c in entries]
        ours = fastest(lambda names=names: compute_feature_maps(roi, names)) * per
        extractor = radiomics.featureextractor.RadiomicsFeatureExtractor(
            binCount=levels, kernelRadius=1, maskedKernel=True, initValue=np.nan, additionalInfo=False
        )
        extractor.disableAllFeatures()
        kind = entries[0].theirs.split("_")[0]
        extractor.enableFeaturesByName(**{kind: [c.theirs.split("_")[1] for c in entries]})
        start = time.process_time()
        theirs = extractor.execute(image, mask, voxelBased=True)
        seconds = (time.process_time() - start) * per
        print(f"    the same {len(entries)} maps of {kind}: pyradiomics {seconds:.2f}, ours {ours:.3f}", end="")
        print(f", ratio {seconds / ours:.0f}")
        maps, unequal = compute_feature_maps(roi, names), {}
        for entry, mine in zip(entries, _in_order(maps.values, names), strict=True):
            expected = _on_region(from_sitk(theirs[f"original_{entry.theirs}"]), roi)
            known = np.isfinite(mine)
            same = np.isclose(mine[known], expected[known], rtol=1e-9, atol=1e-9 * np.abs(expected[known]).max())
            if not same.all():
                unequal[entry.theirs] = f"{1 - same.mean():.2%} of voxels"
        print(f"        equal to 1e-9, except {unequal or 'none'}")


def _in_order(values: dict[str, np.ndarray], names: list[str]) -> list[np.ndarray]:
    return [next(v for column, v in values.items() if column in (n, f"{n}_3D", f"{n}_3D_avg")) for n in names]


def _on_region(peer_map: Volume, roi: Roi) -> np.ndarray:
    """Return a map of another program, which may be cropped, at the region's voxels."""
    points = roi.image.points_to_ras(np.argwhere(roi.intensity_mask)[:, ::-1])
    i, j, k = np.rint(peer_map.points_to_ijk(points)).astype(int).T
    return peer_map.array[k, j, i]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxels", type=float, default=1e4, help="size of the lump")
    parser.add_argument("--levels", type=int, default=32, help="gray levels")
    parser.add_argument("--family", nargs="+", default=["glcm"], help="families to compare")
    options = parser.parse_args()
    compare(options.voxels, options.levels, options.family)
