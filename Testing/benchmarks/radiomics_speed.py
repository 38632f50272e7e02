"""Write radiomics_speed.csv: our CPU time beside pyradiomics 3.0.1 and MIRP on the same regions, in one process.

    python Testing/benchmarks/radiomics_speed.py [--output FILE.csv] [--skip-million]

Run it in an environment of its own that holds the peers: `pip install mirp SimpleITK vtk "setuptools<81" wheel`, then
`pip install --no-build-isolation pyradiomics==3.0.1` (Python 3.11). A peer that is not there has no rows. One thread,
the fastest of the runs in the column `runs`. MIRP's time holds its import of the arrays; it is left out at 1e6 voxels.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import importlib.util
import platform
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from radiomics_features import textured_lump  # sets the number of threads and the path

# isort: split
import numpy as np
from BreastBiomarkersLib.volume import to_sitk
from RadiomicsPanelLib.catalog import FEATURES
from RadiomicsPanelLib.extract import VERSION, compute_features, extract_all
from RadiomicsPanelLib.filters import Filter, LaplacianOfGaussian, Wavelet
from RadiomicsPanelLib.map_formulas import ROWS
from RadiomicsPanelLib.maps import compute_feature_maps
from RadiomicsPanelLib.pyradiomics_mode import COUNTERPARTS
from RadiomicsPanelLib.roi import Case, prepare_roi
from RadiomicsPanelLib.settings import Settings

COLUMNS = (
    "task",
    "voxels",
    "levels",
    "values",
    "program",
    "cpu_s",
    "runs",
    "peak_GiB",
    "ratio_to_ours",
    "equal",
    "note",
)
MCC = "glcm_maximal_correlation_coefficient"
OURS, PEER = f"RadiomicsPanel {VERSION}", "pyradiomics 3.0.1"

Row = dict[str, Any]


def has(package: str) -> bool:
    """Tell whether a peer is installed."""
    return importlib.util.find_spec(package) is not None


def extractor(**settings: Any) -> Any:
    """Return a silent pyradiomics extractor."""
    import radiomics.featureextractor

    radiomics.setVerbosity(60)
    return radiomics.featureextractor.RadiomicsFeatureExtractor(additionalInfo=False, **settings)


def row(task: str, voxels: int, levels: int, values: int, program: str, seconds: float, runs: int, **more: Any) -> Row:
    """Return a row of the table."""
    about = {"task": task, "voxels": voxels, "levels": levels, "values": values, "program": program}
    return about | {"cpu_s": f"{seconds:.4g}", "runs": runs} | more


def best(run: Callable[[], Any], runs: int = 1) -> tuple[float, Any]:
    """Return the smallest CPU seconds of some runs, and the result."""
    seconds = []
    for _ in range(runs):
        start = time.process_time()
        result = run()
        seconds.append(time.process_time() - start)
    return min(seconds), result


def peak_gib() -> float:
    """Return the largest memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def all_families(voxels: float, levels: int, runs: int) -> Iterator[Row]:
    """Time all features, and those of pyradiomics, on one lump."""
    case, settings = textured_lump(voxels), Settings(bin_count=levels)
    count, task = int(case.mask.array.sum()), "all families, averaged and merged"
    everything, values = best(lambda: compute_features(prepare_roi(case, settings)), runs)
    note = "shape, autocorrelation, depth and skeleton included"
    yield row(task, count, levels, len(values), OURS, everything, runs, peak_GiB=f"{peak_gib():.2f}", note=note)
    if has("mirp") and voxels < 5e5:
        import mirp

        def run_mirp() -> Any:
            return mirp.extract_features(
                image=case.image.array,
                mask=case.mask.array.astype(np.uint8),
                base_feature_families="all",
                base_discretisation_method="fixed_bin_number",
                base_discretisation_n_bins=levels,
                glcm_spatial_method=["3d_average", "3d_volume_merge"],
                glrlm_spatial_method=["3d_average", "3d_volume_merge"],
            )

        prefixes = ("morph_", "loc_", "stat_", "ih_", "ivh_", "cm_", "rlm_", "szm_", "dzm_", "ngt_", "ngl_")
        seconds, table = best(lambda: run_mirp()[0])
        number = sum(column.startswith(prefixes) for column in table.columns)
        version = importlib.metadata.version("mirp")
        ratio = f"{seconds / everything:.1f}"
        yield row(task, count, levels, number, f"MIRP {version}", seconds, 1, ratio_to_ours=ratio)
    if has("radiomics"):
        averaged, names = Settings(bin_count=levels, aggregations=("3D_avg",)), [c.ours for c in COUNTERPARTS]
        task = "the features pyradiomics defines alike, averaged"
        ours, found = best(lambda: compute_features(prepare_roi(case, averaged), names), runs)
        image, mask, peer = to_sitk(case.image), to_sitk(case.mask), extractor(binCount=levels)
        theirs, expected = best(lambda: peer.execute(image, mask))
        theirs_of = {c.ours: float(expected[f"original_{c.theirs}"]) for c in COUNTERPARTS}
        apart = {
            v.feature.key: abs(v.value - theirs_of[v.feature.key]) / abs(theirs_of[v.feature.key])
            for v in found
            if v.value is not None
        }
        unequal = sorted((name for name in apart if apart[name] > 1e-9), key=lambda name: -apart[name])
        equal = f"{len(apart) - len(unequal)} of {len(apart)} to 1e-9"
        if unequal:
            equal += f"; to {apart[unequal[0]]:.0e}: {', '.join(unequal)}"
        yield row(task, count, levels, len(found), OURS, ours, runs)
        note, ratio = "its default feature classes", f"{theirs / ours:.1f}"
        yield row(task, count, levels, len(expected), PEER, theirs, 1, ratio_to_ours=ratio, equal=equal, note=note)


def maps(voxels: float, levels: int) -> Iterator[Row]:
    """Time the maps of every family, and the GLCM's beside pyradiomics, per 10 000 voxels."""
    case = textured_lump(voxels)
    roi = prepare_roi(case, Settings(bin_count=levels))
    count = len(roi.intensities)
    per = 1e4 / count
    for family in ROWS:
        names = [f.key for f in FEATURES if f.family == family and f.key != MCC]
        seconds, _ = best(lambda names=names: compute_feature_maps(roi, names), 2)
        yield row(f"maps of {family}, per 1e4 voxels", count, levels, len(names), OURS, seconds * per, 2)
    if has("radiomics"):
        entries = [c for c in COUNTERPARTS if c.ours.startswith("glcm_") and c.ours != MCC]
        names, task = [c.ours for c in entries], "the GLCM maps both have, per 1e4 voxels"
        ours, _ = best(lambda: compute_feature_maps(roi, names), 3)
        peer = extractor(binCount=levels, kernelRadius=1, maskedKernel=True, initValue=np.nan)
        peer.disableAllFeatures()
        peer.enableFeaturesByName(glcm=[c.theirs.split("_")[1] for c in entries])
        image, mask = to_sitk(case.image), to_sitk(case.mask)
        theirs, _ = best(lambda: peer.execute(image, mask, voxelBased=True))
        yield row(task, count, levels, len(names), OURS, ours * per, 3)
        yield row(task, count, levels, len(names), PEER, theirs * per, 1, ratio_to_ours=f"{theirs / ours:.0f}")


def filtered(voxels: float) -> Iterator[Row]:
    """Time 12 images (the original, 3 LoG, 8 wavelet bands) of 3 segments, and count how often a filter runs."""
    whole = textured_lump(voxels)
    third = np.digitize(np.arange(whole.mask.shape[0]), np.quantile(np.nonzero(whole.mask.array)[0], [1 / 3, 2 / 3]))
    labels = whole.mask.array * (third + 1)[:, None, None].astype(np.uint8)
    cases = [Case(whole.image, whole.mask.with_array(labels), "benchmark", f"label {n}", n) for n in (1, 2, 3)]
    bands = [f"{a}{b}{c}" for a in "LH" for b in "LH" for c in "LH"]
    filters = (*(LaplacianOfGaussian(sigma_mm=s) for s in (1.0, 2.0, 3.0)), *(Wavelet(band=band) for band in bands))
    families = ["stat", "glcm", "glrlm", "glszm", "ngtdm", "ngldm"]
    settings = Settings(bin_count=32, aggregations=("3D_avg",), filters=filters)
    task, count = "12 images x 3 segments, statistics and texture", int(whole.mask.array.sum())
    applied: Counter[str] = Counter()
    for kind in {type(one) for one in filters}:
        kind.apply = counting(kind.apply, applied)  # type: ignore[method-assign]
    ours, extractions = best(lambda: extract_all(cases, settings, names=families))
    assert len(extractions) == 36, "12 images of 3 segments"
    note = f"{sum(applied.values())} filter runs for 11 filters, each {max(applied.values())} time"
    yield row(task, count, 32, sum(len(e.values) for e in extractions), OURS, ours, 1, note=note)
    if has("radiomics"):
        peer = extractor(binCount=32)
        peer.disableAllFeatures()
        for name in ("firstorder", "glcm", "glrlm", "glszm", "ngtdm", "gldm"):
            peer.enableFeatureClassByName(name)
        peer.enableImageTypeByName("LoG", customArgs={"sigma": [1.0, 2.0, 3.0]})
        peer.enableImageTypeByName("Wavelet")
        image, mask = to_sitk(whole.image), to_sitk(whole.mask.with_array(labels))
        theirs, found = best(lambda: [peer.execute(image, mask, label=n) for n in (1, 2, 3)])
        note, ratio = "filters the image for each label again", f"{theirs / ours:.1f}"
        yield row(task, count, 32, sum(map(len, found)), PEER, theirs, 1, ratio_to_ours=ratio, note=note)


def counting(apply: Any, applied: Counter[str]) -> Any:
    """Return a filter's method that counts its runs by the filter's label."""

    def run(self: Filter, *arguments: Any) -> Any:
        applied[self.label] += 1
        return apply(self, *arguments)

    return run


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".csv"))
    parser.add_argument("--skip-million", action="store_true", help="leave out the lump of 1e6 voxels")
    options = parser.parse_args()
    parts = [all_families(1e5, 64, 3), maps(1e3, 32), filtered(1e4)]
    if not options.skip_million:
        parts.append(all_families(1e6, 64, 3))
    environment = f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}, one thread"
    with options.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerow({"task": "environment", "note": environment})
        for measured in chain.from_iterable(parts):
            writer.writerow(measured)
            file.flush()


if __name__ == "__main__":
    main()
