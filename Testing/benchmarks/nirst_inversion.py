"""How well and how fast each inversion recovers simulated tissue, on light that its own model did not make.

    python Testing/benchmarks/nirst_inversion.py --cases 20 --output Testing/benchmarks/nirst_inversion.csv

Discs of 82 mm with 16 fibers and 9 wavelengths, 2 % noise, 1 or 2 inclusions of the `paper-like` preset. Light is
made by an independent finer mesh, absolute (`finer-mesh`), or by point sources in 3-D and calibrated on a uniform
phantom averaged to 0.5 % noise (`point-sources`). Column `model`: the light of the reconstruction, of line sources (the
plain 2-D equation) or of point sources. The absorption of the phantom is fitted with point light; line light cannot do
that and is told it. Sets: `matched` (the MRI
shows the lesions), `no-contrast` (it shows lesions that are optically background), `mri-invisible` (it does not show
the lesions), `texture-shift` (10 % background texture, MRI displaced by 3 mm). The seeds of the shipped table were not
used to choose any constant of a method.

Columns: mean squared errors over the body (uM^2, uM^2, percent^2); `contrast_error`, mean over cases of
|reconstructed - true| of lesion over background, averaged over HbO, HbR, water and lesions, in the lesions' true
places; `found`, share of lesions whose HbT contrast is recovered to at least half; `seconds`, median CPU seconds of a
case on one thread, mesh included. The adaptive method, DRI and regions-field are given the MR image, the prior methods
a perfect segmentation of it; where that is empty they have nothing to go by (`refused`).
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse  # noqa: E402 - after the number of threads
import csv  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
from NIRSTReconstructionLib.bulk import fit_bulk  # noqa: E402
from NIRSTReconstructionLib.calibration import calibrate, data_space, fit_homogeneous  # noqa: E402
from NIRSTReconstructionLib.fibers import Fibers  # noqa: E402
from NIRSTReconstructionLib.forward import SOURCE_MODELS, ForwardModel  # noqa: E402
from NIRSTReconstructionLib.measurements import Measurements  # noqa: E402
from NIRSTReconstructionLib.meshing import circle_contour, disc_mesh  # noqa: E402
from NIRSTReconstructionLib.noise import NoiseModel  # noqa: E402
from NIRSTReconstructionLib.optodes import place_optodes, ring_optodes  # noqa: E402
from NIRSTReconstructionLib.phantoms import (  # noqa: E402
    BODY_RADIUS_MM,
    REFERENCE_TISSUE,
    SimulatedCase,
    draw_phantom,
    pixel_points,
    simulate_case,
    simulated_measurements,
)
from NIRSTReconstructionLib.plane import Plane  # noqa: E402
from NIRSTReconstructionLib.point_light import PointLight  # noqa: E402
from NIRSTReconstructionLib.reconstruct import METHODS, ReconstructionSettings, reconstruct  # noqa: E402
from NIRSTReconstructionLib.spectra import load_spectra  # noqa: E402

SETS = {
    "matched": {},
    "no-contrast": {"mismatch": "no-contrast"},
    "mri-invisible": {"mismatch": "mri-invisible"},
    "texture-shift": {"texture": 0.10, "mri_shift_mm": 3.0},
}
DATA = {"finer-mesh": "line", "point-sources": "point"}
SEED = 20_31
RING = ring_optodes(BODY_RADIUS_MM, 16)
POSITIONS = np.column_stack([RING.detectors, np.zeros(16)])
FIBERS = Fibers(POSITIONS, POSITIONS, name="ring")
PIXELS = pixel_points()
BODY = np.linalg.norm(PIXELS, axis=1) < BODY_RADIUS_MM - 0.5


def light_model(data: str) -> ForwardModel:
    """Return the model that makes the data: another mesh than reconstruction's, for one kind also another physics."""
    mesh = disc_mesh(BODY_RADIUS_MM, 2.2, refine_at=RING.detectors, refined_size_mm=0.9)
    spectra = load_spectra()
    musp = float(spectra.musp(REFERENCE_TISSUE.maps(1)).mean())
    return ForwardModel(mesh, place_optodes(mesh, RING, musp), spectra, source_model=DATA[data])


def simulate(kind: str, number: int, model: ForwardModel, uniform: np.ndarray, seed: int) -> SimulatedCase:
    """Return a case of a set; the same for the same number and seed."""
    rng = np.random.default_rng([seed, list(SETS).index(kind), number])
    phantom, noise = draw_phantom(rng, **SETS[kind]), NoiseModel(relative=0.02)
    return simulate_case(phantom, model, noise, rng, f"{kind} {number}", uniform)


def phantom_data(model: ForwardModel, uniform: np.ndarray, seed: int, number: int) -> Measurements | None:
    """Return the averaged measurement of the uniform phantom; None where the light is absolute."""
    if model.source_model == "line":
        return None
    rng, averaged = np.random.default_rng([seed, 99, number]), NoiseModel(relative=0.005)
    return simulated_measurements(model, uniform, averaged, np.zeros(uniform.shape), rng, "phantom")


def maps_of(
    method: str, source_model: str, case: SimulatedCase, reference: Measurements | None
) -> tuple[np.ndarray, str, float]:
    """Return HbO, HbR (uM) and water (%) at the pixels of the body, what the method remarked, and CPU seconds."""
    spectra = load_spectra()
    contour = circle_contour(BODY_RADIUS_MM)
    shown = case.mri_labels if case.mri_labels.array.any() and method.endswith("prior") else None
    mua = spectra.mua(REFERENCE_TISSUE.maps(1))[:, 0]
    settings = ReconstructionSettings(
        method="tikhonov" if method == "bulk" else method,
        source_model=source_model,
        reference_mua=tuple(mua.tolist()) if reference is not None and source_model == "line" else None,
    )
    began = time.process_time()
    if method == "bulk":
        mesh = disc_mesh(refine_at=RING.detectors)
        line = ForwardModel(mesh, place_optodes(mesh, RING), spectra)
        model = PointLight(line) if source_model == "point" else line
        data = case.measured
        if reference is not None:
            known = model.measure(REFERENCE_TISSUE.maps(len(mesh.nodes)))
            musp = spectra.musp(REFERENCE_TISSUE.maps(1))[:, 0]
            fitted = source_model == "point"
            data = calibrate(data, reference, fit_homogeneous(reference, model, musp)[4] if fitted else known)
        space = data_space(data, "fibers" if reference is None else "global")
        tissue = fit_bulk(model, data.log_amplitude, space).tissue
        maps, remark = tissue.maps(int(BODY.sum())), ""
    else:
        result = reconstruct(
            case.measured,
            FIBERS,
            contour,
            spectra,
            settings,
            plane=Plane(np.eye(4)),
            reference=reference,
            images=[case.mri],
            regions=shown,
        )
        maps, remark = result.maps_at(PIXELS[BODY]), result.remarks[-1] if result.remarks else ""
    seconds = time.process_time() - began
    return maps[:3] * np.array([[1.0], [1.0], [100.0]]), remark, seconds


def score(case: SimulatedCase, maps: np.ndarray) -> dict[str, np.ndarray]:
    """Return mean squared errors (3,), contrast errors (lesions, 3), and true and found HbT contrast (lesions,)."""
    truth = np.stack([case.truth[name].array.ravel()[BODY] for name in ("hbo", "hbr", "water")])
    labels = case.labels.array.ravel()[BODY]
    contrasts = []
    for values in (maps, truth):
        means = np.stack([values[:, labels == label].mean(axis=1) for label in np.unique(labels)])  # (1 + lesions, 3)
        hbt = means[:, :2].sum(axis=1)
        contrasts.append((means[1:] / means[0] - 1, hbt[1:] / hbt[0] - 1))
    (found, found_hbt), (true, true_hbt) = contrasts
    return {
        "mse": ((maps - truth) ** 2).mean(axis=1),
        "error": np.abs(found - true),
        "bias": found - true,
        "true_hbt": true_hbt,
        "found_hbt": found_hbt,
    }


def run(
    data: str, kind: str, method: str, source_model: str, cases: list[SimulatedCase], references: list, tell: bool
) -> dict:
    """Return the table's row of one set, method and light."""
    scores, seconds, refused = [], [], 0
    for number, (case, reference) in enumerate(zip(cases, references, strict=True)):
        if method.endswith("prior") and not case.mri_labels.array.any():
            refused += 1
            continue
        maps, remark, taken = maps_of(method, source_model, case, reference)
        scores.append(score(case, maps))
        seconds.append(taken)
        if tell:
            last = scores[-1]
            figures = f"water MSE {last['mse'][2]:.3f} error {last['error'].mean():.3f} {taken:.1f} s"
            print(data, kind, method, number, figures, remark, flush=True)
    row: dict[str, object] = {"data": data, "set": kind, "method": method, "model": source_model}
    row |= {"n": len(scores), "refused": refused}
    if scores:
        mse = np.mean([s["mse"] for s in scores], axis=0)
        errors = np.array([s["error"].mean() for s in scores])
        found = np.concatenate([s["found_hbt"] >= 0.5 * s["true_hbt"] for s in scores])
        row |= {f"{name}_mse": f"{value:.4f}" for name, value in zip(("hbo", "hbr", "water"), mse, strict=True)}
        row |= {"contrast_error": f"{errors.mean():.4f}", "contrast_error_worst": f"{errors.max():.4f}"}
        row["contrast_bias"] = f"{np.mean([s['bias'].mean() for s in scores]):.4f}"
        row["found"] = "" if kind == "no-contrast" else f"{found.mean():.3f}"
        row["seconds"] = f"{np.median(seconds):.2f}"
    return row


COLUMNS = (
    *("data", "set", "method", "model", "n", "refused", "hbo_mse", "hbr_mse", "water_mse"),
    *("contrast_error", "contrast_error_worst", "contrast_bias", "found", "seconds"),
)


def main() -> None:
    """Write the table."""
    methods = ("bulk", *METHODS[:7])  # networks have a table of their own
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20, metavar="N", help="of each set (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="default: %(default)s")
    parser.add_argument("--data", nargs="+", choices=tuple(DATA), default=list(DATA))
    parser.add_argument("--sets", nargs="+", choices=tuple(SETS), default=list(SETS))
    parser.add_argument("--methods", nargs="+", choices=methods, default=list(methods))
    parser.add_argument(
        "--model", choices=SOURCE_MODELS, help="light of the reconstruction (default: that of the data)"
    )
    parser.add_argument("--tell", action="store_true", help="print every case")
    parser.add_argument("--output", type=Path, metavar="FILE", help="CSV; rows of other sets and methods are kept")
    options = parser.parse_args()
    rows = {}
    if options.output and options.output.exists():
        lines = [line for line in options.output.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        rows = {(row["data"], row["set"], row["method"], row["model"]): row for row in csv.DictReader(lines)}
    for data in options.data:
        model = light_model(data)
        uniform = model.measure(REFERENCE_TISSUE.maps(len(model.mesh.nodes)))
        for kind in options.sets:
            cases = [simulate(kind, n, model, uniform, options.seed) for n in range(options.cases)]
            references = [phantom_data(model, uniform, options.seed, n) for n in range(options.cases)]
            for method in options.methods:
                light = options.model or DATA[data]
                row = run(data, kind, method, light, cases, references, options.tell)
                rows[data, kind, method, light] = row
                print(*row.values(), flush=True)
                if options.output:
                    write(rows, options)
    if options.output:
        write(rows, options)


def write(rows: dict, options: argparse.Namespace) -> None:
    """Write the rows in the order of data, sets and methods."""
    order = [(d, s, m, light) for d in DATA for s in SETS for m in ("bulk", *METHODS) for light in SOURCE_MODELS]
    with options.output.open("w", newline="", encoding="utf-8") as file:
        command = f"python Testing/benchmarks/nirst_inversion.py --cases {options.cases} --seed {options.seed}"
        file.write(f"# {command} --output {options.output.name}\n")
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows[key] for key in order if key in rows)


if __name__ == "__main__":
    main()
