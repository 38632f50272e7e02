"""Whether the trust report tells right from wrong on simulated cases with known truth: a CSV row per case, a summary.

    python Testing/benchmarks/nirst_trust.py --cases 20 --full 5 --output nirst_trust.csv

Discs of 82 mm, 16 fibers, 9 wavelengths, 2 % noise, made on a finer mesh than reconstruction uses and calibrated on a
simulated phantom; hard prior. Sets: `matched` (the MRI shows the lesion), `no-contrast` (the MRI lesion is optically
background), `mri-invisible` (the MRI shows a lesion elsewhere, which is optically background, and not the optical one).
`full` cases run every check of the report; the others stop after the residual and the read-out.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
from NIRSTReconstructionLib.fibers import Fibers
from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.meshing import circle_contour, disc_mesh
from NIRSTReconstructionLib.noise import NoiseModel
from NIRSTReconstructionLib.optodes import place_optodes, ring_optodes
from NIRSTReconstructionLib.phantoms import (
    BODY_RADIUS_MM,
    MISMATCHES,
    Inclusion,
    Phantom,
    draw_phantom,
    pixel_points,
    simulate_case,
)
from NIRSTReconstructionLib.plane import Plane
from NIRSTReconstructionLib.reconstruct import ReconstructionSettings
from NIRSTReconstructionLib.spectra import PAPER_WAVELENGTHS_NM, load_spectra
from NIRSTReconstructionLib.trust import (
    CHI_ACCEPTED,
    CHI_REFUSED,
    GREEN,
    RED,
    Case,
    assess_trust,
    lesion_readout,
    overall_chi,
)

SETS = ("matched", "no-contrast", "mri-invisible")


def add_decoy(phantom: Phantom, rng: np.random.Generator) -> Phantom:
    """Return the phantom with a lesion of 16 mm that only the MRI shows, at least 4 mm from the optical ones."""
    for _ in range(10_000):
        center = rng.uniform(-BODY_RADIUS_MM, BODY_RADIUS_MM, 2)
        gaps = [np.linalg.norm(center - np.array(i.center_mm)) - i.radius_mm - 8 for i in phantom.inclusions]
        if np.linalg.norm(center) < BODY_RADIUS_MM - 11 and min(gaps) >= 4:
            decoy = Inclusion((float(center[0]), float(center[1])), 8.0, phantom.background, in_mri=True)
            return replace(phantom, inclusions=(*phantom.inclusions, decoy))
    raise RuntimeError("no room for a decoy")


def simulate(kind: str, number: int, model: ForwardModel, fibers: Fibers):
    """Return the case, the mask of what the MRI shows, and the phantom; the same for the same number."""
    rng = np.random.default_rng([2026, SETS.index(kind), number])
    phantom = draw_phantom(rng, mismatch="none" if kind == "matched" else kind)
    phantom = add_decoy(phantom, rng) if kind == "mri-invisible" else phantom
    light = simulate_case(phantom, model, NoiseModel(relative=0.02), rng, f"{kind} {number}")
    points = pixel_points()
    shown = np.any([i.contains(points) for i in phantom.inclusions if i.in_mri], axis=0)
    mask = light.labels.with_array(shown.reshape(light.labels.shape).astype(np.uint8), "shown by the MRI")
    numbers = np.zeros(len(points), dtype=np.uint8)  # each lesion that the MRI shows is a region of its own
    for number_in_mri, inclusion in enumerate((i for i in phantom.inclusions if i.in_mri), start=1):
        numbers[inclusion.contains(points)] = number_in_mri
    regions = light.labels.with_array(numbers.reshape(light.labels.shape), "regions")
    case = Case(
        light.measured,
        fibers,
        circle_contour(BODY_RADIUS_MM),
        model.spectra,
        Plane(np.eye(4)),
        light.reference,
        [light.mri],
        regions,
    )
    return case, mask, phantom


def evaluate(kind: str, number: int, model: ForwardModel, fibers: Fibers, full: bool) -> dict[str, object]:
    """Return the row of one case."""
    case, mask, phantom = simulate(kind, number, model, fibers)
    result = case.reconstruct(ReconstructionSettings(method="hard-prior"))
    truth = np.array([i.tissue.hbo + i.tissue.hbr for i in phantom.inclusions if i.in_mri])
    background = phantom.background.hbo + phantom.background.hbr
    row: dict[str, object] = {"set": kind, "case": number, "chi": round(overall_chi(result), 4)}
    row["true_hbt_contrast"] = round(float(truth.mean() / background - 1), 4)
    for reading in lesion_readout(result, mask):
        name = reading.quantity
        row |= {f"{name}_contrast": round(reading.ratio - 1, 4), f"{name}_low": round(reading.low - 1, 4)}
        row |= {f"{name}_high": round(reading.high - 1, 4), f"{name}_covers_0": int(reading.low <= 1 <= reading.high)}
    report = assess_trust(result, case, mask) if full else None
    row["light"] = "" if report is None else report.light
    row["reason"] = "" if report is None else report.reason
    return row


def summarize(rows: list[dict[str, object]]) -> list[str]:
    """Return the shares that the targets are about."""
    lines = []
    for kind in SETS:
        own = [row for row in rows if row["set"] == kind]
        if not own:
            continue
        chi = np.array([row["chi"] for row in own], dtype=float)
        lines.append(
            f"{kind}: {len(own)} cases, chi median {np.median(chi):.2f} ({chi.min():.2f} to {chi.max():.2f}), above "
            f"{CHI_REFUSED}: {np.mean(chi > CHI_REFUSED):.0%}, above {CHI_ACCEPTED[1]}: "
            f"{np.mean(chi > CHI_ACCEPTED[1]):.0%}"
        )
        if kind == "no-contrast":
            shares = (
                f"{q} {np.mean([row[f'{q}_covers_0'] for row in own]):.0%}" for q in ("hbt", "sto2", "water", "toi")
            )
            lines.append(f"  95 % interval covers zero contrast: {', '.join(shares)}")
            largest = max(abs(float(str(row["hbt_contrast"]))) for row in own)
            lines.append(f"  largest HbT contrast found where there is none: {largest:.3f}")
        judged = [row["light"] for row in own if row["light"]]
        if judged:
            lines.append(f"  {len(judged)} full reports: {judged.count(GREEN)} green, {judged.count(RED)} red")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20, metavar="N", help="of each set (default: %(default)s)")
    parser.add_argument("--full", type=int, default=5, metavar="N", help="of them with every check")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="CSV")
    options = parser.parse_args()
    assert set(SETS) - {"matched"} <= set(MISMATCHES)
    spectra = load_spectra(np.array(PAPER_WAVELENGTHS_NM))
    ring = ring_optodes(BODY_RADIUS_MM, 16)
    mesh = disc_mesh(BODY_RADIUS_MM, 2.4, refine_at=ring.detectors, refined_size_mm=1.0)
    model = ForwardModel(mesh, place_optodes(mesh, ring, 1.0), spectra)
    positions = np.column_stack([ring.detectors, np.zeros(16)])
    fibers = Fibers(positions, positions, name="ring")
    rows = []
    for kind in reversed(SETS):
        for number in range(options.cases):
            rows.append(evaluate(kind, number, model, fibers, number < options.full))
            print({key: rows[-1][key] for key in ("set", "case", "chi", "hbt_contrast", "light")}, flush=True)
    with options.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print("\n".join(summarize(rows)))


if __name__ == "__main__":
    main()
