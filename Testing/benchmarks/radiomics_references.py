"""Write radiomics_references.csv: how many published reference values we meet, and how far we are from them.

    python Testing/benchmarks/radiomics_references.py [--data FOLDER] [--output FILE.csv]

The images and most tables lie in `../shared/data` beside the repository, whose `ibsi/` holds those of
https://github.com/theibsi/data_sets; the rest in Testing/radiomics/data. The comparisons are those of the tests.

Columns: values compared and within the reference's tolerance; the largest deviation as a share of the tolerance and of
the value, with the name of the value it is in. IBSI prints three digits, which alone make up to 0.5 % of a value.
"""

from __future__ import annotations

import argparse
import ast
import csv
import importlib.util
import os
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT / "WeakSegment"), str(_ROOT / "RadiomicsPanel"), str(_ROOT / "Testing")]

import numpy as np  # noqa: E402 - after the number of threads and the path
from BreastBiomarkersLib.volume import read_volume  # noqa: E402
from RadiomicsPanelLib.extract import compute_features, extract_all  # noqa: E402
from RadiomicsPanelLib.pyradiomics_mode import compute_like_pyradiomics, prepare_like_pyradiomics  # noqa: E402
from RadiomicsPanelLib.roi import Case, prepare_roi, read_cases  # noqa: E402
from RadiomicsPanelLib.settings import PRESETS, Settings  # noqa: E402

COLUMNS = (
    "reference",
    "compared",
    "in_tolerance",
    "largest_share_of_tolerance",
    "of_value",
    "largest_relative_deviation",
    "relative_of_value",
    "source",
)
IBSI_1 = "IBSI-1, Zwanenburg 2020, doi 10.1148/radiol.2020191145"
IBSI_2 = "IBSI-2, Whybra 2024, doi 10.1148/radiol.231319"

Comparison = tuple[str, float, float, float]
"""Name of a value, ours, the reference, its tolerance."""


def tests(name: str) -> Any:
    """Return a module of Testing/radiomics."""
    spec = importlib.util.spec_from_file_location(name, _ROOT / "Testing" / "radiomics" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COMMON = tests("conftest")
OWN = _ROOT / "Testing" / "radiomics" / "data"


def row(reference: str, comparisons: Iterable[Comparison], source: str, digits: int | None = 3) -> dict[str, Any]:
    """Return a row of the table; ours are rounded to the digits that the reference prints."""
    counted, inside, worst, relative = 0, 0, (0.0, ""), (0.0, "")
    for name, ours, value, tolerance in comparisons:
        counted += 1
        printed = ours if digits is None else float(f"{ours:.{digits}g}")
        inside += abs(printed - value) <= tolerance + 1e-9 * abs(value)
        if tolerance:
            worst = max(worst, (abs(ours - value) / tolerance, name))
        if abs(value) > 1e-12:
            relative = max(relative, (abs(ours - value) / abs(value), name))
    shares = (f"{worst[0]:.3g}" if worst[1] else "", worst[1], f"{relative[0]:.2e}", relative[1])
    return dict(zip(COLUMNS, (reference, counted, inside, *shares, source), strict=True))


def compared(case: Case, settings: Settings, reference: dict[str, tuple[float, float]]) -> list[Comparison]:
    """Return our values of a region beside those of a reference table."""
    ours = COMMON.by_tag(compute_features(prepare_roi(case, settings)))
    return [(tag, ours[tag], value, tolerance) for tag, (value, tolerance) in reference.items()]


def ibsi_1(data: Path) -> list[dict[str, Any]]:
    """Compare with the digital phantom and the CT phantom."""
    digital, folder = data / "ibsi" / "ibsi1_digital_phantom", data / "ibsi" / "ibsi1_ct_phantom_NC"
    (case,) = read_cases(digital / "image.nii.gz", digital / "mask.nii.gz")
    reference = COMMON.read_reference(OWN / "ibsi1_digital_phantom.csv")
    rows = [row("IBSI-1 digital phantom", compared(case, PRESETS["ibsi-phantom"], reference), IBSI_1)]
    (case,) = read_cases(folder / "image.nii.gz", folder / "mask.nii.gz")
    for letter in "abcde":
        shared = folder / f"reference_values_config_{letter}.csv"
        if letter in "ac":
            reference = COMMON.read_reference(shared, ";", "reference value")
            reference = {tag: r for tag, r in reference.items() if not tag.endswith(("_img", "_roi"))}
        else:
            reference = COMMON.read_reference(OWN / f"ibsi1_ct_phantom_{letter}.csv")
        title = f"IBSI-1 CT phantom, configuration {letter.upper()}"
        rows.append(row(title, compared(case, PRESETS[f"ibsi-{letter}"], reference), IBSI_1))
    return rows


def sts(data: Path) -> dict[str, Any]:
    """Compare with the values on which at least three of nine teams agree to 1 %."""
    mr = Settings(
        spacing_kji_mm=(1.0, 1.0, 1.0), interpolation="cubic", lower=0.0, discretization="bin_width", bin_width=10.0
    )
    settings = {"MR_T1": mr, "PET": replace(mr, spacing_kji_mm=(3.0, 3.0, 3.0), bin_width=0.25)}
    consensus: dict[tuple[str, str], dict[str, tuple[float, float]]] = defaultdict(dict)
    with (data / "ibsi" / "ibsi1_validation_sts" / "reference_values.csv").open() as file:
        for line in csv.DictReader(file):
            if int(line["n_teams_agreeing_1pct"]) >= 3:
                value = float(line["consensus"])
                consensus[line["case"], line["modality"]][line["ibsi_tag"]] = (value, 0.01 * abs(value))
    comparisons = []
    for (name, modality), reference in consensus.items():
        stem = data / "segmentation" / "sts" / f"{name}_{modality}"
        (case,) = read_cases(f"{stem}_image.nii.gz", f"{stem}_mask.nii.gz")
        comparisons += [(f"{name} {tag}", *rest) for tag, *rest in compared(case, settings[modality], reference)]
    source = "https://github.com/theibsi/ibsi_1_data_analysis, nine teams"
    return row("IBSI-1 validation, soft-tissue sarcomas, three teams or more", comparisons, source, None)


def ibsi_2(data: Path) -> list[dict[str, Any]]:
    """Compare response maps (tolerance 1 % of their range) and intensity statistics of filtered images."""
    module, folder = tests("test_ibsi2"), data / "ibsi"
    maps = []
    for name, (phantom, chosen) in module.RESPONSE_MAPS.items():
        image = read_volume(folder / "ibsi2_digital_phantoms" / f"{phantom}.nii.gz")
        reference = read_volume(folder / "ibsi2_reference_response_maps" / f"{name}-ValidCRM.nii.gz").array
        response = chosen.apply(image.array.astype(float), image.spacing)
        at = np.unravel_index(np.argmax(np.abs(response - reference)), reference.shape)
        maps.append((name, float(response[at]), float(reference[at]), 0.01 * float(np.ptp(reference))))
    tables: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    for path, delimiter, names in (
        (OWN / "ibsi2_feature_values.csv", ",", ("filter_id", "tag", "value")),
        (
            folder / "ibsi2_reference_feature_values" / "reference_values.csv",
            ";",
            ("filter_id", "feature_tag", "consensus_value"),
        ),
    ):
        with path.open() as file:
            for line in csv.DictReader(file, delimiter=delimiter):
                number, tag, value = (line[name] for name in names)
                tables[number][tag] = (float(value), float(line["tolerance"]))
    phantom = folder / "ibsi1_ct_phantom_NC"
    cases = read_cases(phantom / "image.nii.gz", phantom / "mask.nii.gz")
    values = []
    for spacing, filters in ((None, module.OF_SLICES), ((1.0, 1.0, 1.0), module.IN_SPACE)):
        settings = Settings(
            spacing_kji_mm=spacing,
            interpolation="cubic",
            round_intensities=True,
            lower=-1000.0,
            upper=400.0,
            filters=tuple(filters.values()),
        )
        numbers = {"original": "1.A" if spacing is None else "1.B", **{f.label: n for n, f in filters.items()}}
        for extraction in extract_all(cases, settings, names=["stat"]):
            ours, number = COMMON.by_tag(extraction.values), numbers[extraction.filter]
            values += [(f"{number} {tag}", ours[tag], *r) for tag, r in tables[number].items()]
    return [
        row("IBSI-2 response maps, the worst voxel of each", maps, IBSI_2, None),
        row("IBSI-2 statistics of filtered images of the CT phantom", values, IBSI_2),
    ]


def pyradiomics(data: Path) -> list[dict[str, Any]]:
    """Compare the compatibility mode with the regression baselines of pyradiomics."""
    module, known = tests("test_pyradiomics_mode"), {}
    smooth, ragged = [], []
    for path in sorted((data / "ibsi" / "pyradiomics_baseline").glob("baseline_*.csv")):
        if path.stem == "baseline_shape2D":
            continue
        with path.open() as file:
            lines = {line[0]: line[1:] for line in csv.reader(file)}
        for n, name in enumerate(lines["featureName"]):
            stored = ast.literal_eval(lines["diagnostics_Configuration_Settings"][n])
            stem = data / "segmentation" / "pyradiomics" / name.split("_")[0]
            settings = module.settings_of(stored)
            if (stem, settings) not in known:
                (case,) = read_cases(f"{stem}_image.nrrd", f"{stem}_label.nrrd", stored["label"])
                known[stem, settings] = compute_like_pyradiomics(prepare_like_pyradiomics(case, settings), settings)
            for key, line in lines.items():
                if not key.startswith("original_") or not line[n]:
                    continue
                value = float(line[n])
                is_ragged = name.startswith("brain1") and key in module.SURFACE
                tolerance = (3e-3 if is_ragged else 1e-9) * abs(value) + 1e-12
                (ragged if is_ragged else smooth).append(
                    (f"{name} {key}", known[stem, settings][key], value, tolerance)
                )
    source = "https://github.com/AIM-Harvard/pyradiomics, data/baseline, BSD-3-Clause"
    return [
        row("pyradiomics baselines, relative 1e-9", smooth, source, None),
        row("pyradiomics baselines, surface of a mask whose voxels touch at corners, 0.3 %", ragged, source, None),
    ]


def main() -> int:
    """Compare, write the table, and return how many values are out of tolerance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=_ROOT.parent / "shared" / "data")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    data = options.data
    rows = [*ibsi_1(data), sts(data), *ibsi_2(data), *pyradiomics(data)]
    with options.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return int(any(r["compared"] != r["in_tolerance"] for r in rows))


if __name__ == "__main__":
    sys.exit(main())
