"""The solvers on data made by other people: three sets, their essential figures as CSV.

    python Testing/benchmarks/nirst_foreign_data.py --data ../shared/data/nirst --output nirst_foreign_data.csv

`toast_ellipse_2d_GPL3`: simulated by Toast++ (disc of 25 mm, 100 MHz, absorption and scattering both vary); both are
reconstructed from ln amplitude and phase and compared with the known target. `nirfast_circle_measured`: a measured
phantom with an anomaly whose properties are not stated, calibrated on the homogeneous phantom measured beside it, whose
absorption is fitted. `nirfast_mri_breast`: simulated by NIRFAST in 3-D in a breast from MRI; what the model of a plane
makes of it. Its true values are not stored; the parameter file that comes with it is homogeneous (10 uM, 10 uM, 40 %).
Both with light that spreads in the plane (`line`) and in 3-D (`point`).
"""

from __future__ import annotations

import argparse
import csv
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from BreastBiomarkersLib.volume import read_volume
from NIRSTReconstructionLib.basis import MeshBasis
from NIRSTReconstructionLib.fibers import outline_at_fibers, read_fibers
from NIRSTReconstructionLib.field import smooth_field
from NIRSTReconstructionLib.forward import SOURCE_MODELS, ForwardModel
from NIRSTReconstructionLib.meshing import circle_contour, disc_mesh, fill_contour, spline_contour
from NIRSTReconstructionLib.nirfast import read_excoef, read_nirfast_fibers, read_paa
from NIRSTReconstructionLib.optodes import Optodes, place_optodes
from NIRSTReconstructionLib.plane import Plane, body_contour
from NIRSTReconstructionLib.reconstruct import ReconstructionSettings, contour_through_fibers, reconstruct
from NIRSTReconstructionLib.spectra import MAP_NAMES, Spectra, Tissue
from scipy.interpolate import NearestNDInterpolator

GRAY = Spectra(np.array([800.0]), np.array([[1.0, 0.0, 0.0, 0.0]]), "absorption itself")
"""HbO stands for the absorption in 1/mm, so that maps of absorption and scattering can be fitted."""


class Figure(NamedTuple):
    """One row of the table."""

    data: str
    what: str
    unit: str
    value: float
    expected: str


class ToastCase(NamedTuple):
    """Toast++'s ellipse phantom: ln amplitude and phase (rad) of 16 x 16 pairs, source-major; targets by position."""

    sources: np.ndarray
    detectors: np.ndarray
    ln_amplitude: np.ndarray
    phase: np.ndarray
    target: NearestNDInterpolator


def read_toast(folder: Path) -> ToastCase:
    """Return the data and targets (mua, musp in 1/mm) of a Toast++ demo folder."""

    def numbers(text: str) -> np.ndarray:
        return np.array(text.split(), dtype=float)

    nodes = np.array(
        [numbers(m) for m in re.findall(r"[NB]\[([^\]]*)\]", (folder / "ellips_tri10.msh").read_text(encoding="utf-8"))]
    )
    images = [
        numbers((folder / f"tgt_{q}_ellips_tri10.nim").read_text(encoding="utf-8").split("Image 0")[1])
        for q in ("mua", "mus")
    ]
    layout = (folder / "circle25_16x16.qm").read_text(encoding="utf-8")
    places = [
        numbers(" ".join(layout.split(f"{kind} 16\n")[1].split("\n")[:16])).reshape(16, 2)
        for kind in ("SourceList", "MeasurementList")
    ]
    light = [
        numbers((folder / f"{name}_ellips_16x16_100MHz.fem").read_text(encoding="utf-8").strip().strip("[]"))
        for name in ("fmod", "farg")
    ]
    return ToastCase(*places, *light, NearestNDInterpolator(nodes, np.column_stack(images)))


def reconstruct_toast(
    case: ToastCase, shortest_mm: float = 12.0, steps: int = 8
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return absorption and scattering (2, n) found and true at pixels inside 23 mm, and the residual over the noise.

    Gauss-Newton on ln amplitude (2 %) and phase (0.01 rad) with a smooth field of 40 % in both, all fiber gains and
    phase offsets free, channels longer than `shortest_mm`: Toast's sources are profiles along the rim, ours points.
    """
    mesh = disc_mesh(25.0, 2.0, refine_at=np.concatenate([case.sources, case.detectors]), refined_size_mm=1.0)
    pairs = np.stack(np.meshgrid(np.arange(16), np.arange(16), indexing="ij"), axis=-1).reshape(-1, 2)
    far = np.linalg.norm(case.sources[pairs[:, 0]] - case.detectors[pairs[:, 1]], axis=1) > shortest_mm
    pairs = pairs[far]
    optodes = place_optodes(mesh, Optodes(case.sources, case.detectors, pairs), 2.0)
    model = ForwardModel(mesh, optodes, GRAY, refractive_index=1.4, modulation_mhz=100.0)
    basis = MeshBasis(fill_contour(circle_contour(25.0), 2.2, order=1))
    modes = np.column_stack([np.ones(basis.count), 0.4 * smooth_field(basis).modes])
    gains = np.concatenate([pairs[:, k, None] == np.arange(16) for k in (0, 1)], axis=1).astype(float)
    Q = np.linalg.svd(gains, full_matrices=False)
    Q = Q[0][:, Q[1] > 1e-9]

    def white(values: np.ndarray) -> np.ndarray:
        parts = [values.real / 0.02, values.imag / 0.01]
        return np.concatenate([part - Q @ (Q.T @ part) for part in parts])

    data = case.ln_amplitude[far] + 1j * case.phase[far]
    tissue = Tissue(0.025, 0.0, 0.0, 0.0, 2.0, 0.0)
    rows = [MAP_NAMES.index(name) for name in ("hbo", "scatter_amplitude")]
    scale = tissue.values()[rows]
    at_nodes = basis.at(mesh.nodes)
    m = modes.shape[1]
    u = np.zeros(2 * m)
    prior = np.tile(np.r_[1.0, np.ones(m - 1)], 2)

    def maps_of(u: np.ndarray) -> np.ndarray:
        maps = tissue.maps(len(mesh.nodes))
        maps[rows] *= np.exp(at_nodes @ (modes @ u.reshape(2, m).T)).T  # logarithms keep both positive
        return maps

    def misfit(u: np.ndarray) -> tuple[float, np.ndarray]:
        r = white(data - model.measure(maps_of(u))[0])
        return float(r @ r + (u**2 * prior).sum()), r

    objective, residual = misfit(u)
    for _ in range(steps):
        maps = maps_of(u)
        y, J = model.measure_with_jacobian(maps, None, ("hbo", "scatter_amplitude"))
        J = np.concatenate([(J[0, :, p] * maps[row]) @ (at_nodes @ modes) for p, row in enumerate(rows)], axis=1)
        A = white(J)
        step = np.linalg.solve(A.T @ A + np.diag(prior), A.T @ white(data - y[0]) - prior * u)
        for length in 0.5 ** np.arange(6):
            reached, trial = misfit(u + length * step)
            if reached < objective:
                u, objective, residual = u + length * step, reached, trial
                break
        else:
            break
    x, y = np.meshgrid(np.arange(-22.5, 23), np.arange(-22.5, 23))
    pixels = np.column_stack([x.ravel(), y.ravel()])
    pixels = pixels[np.hypot(*pixels.T) < 23]
    found = scale[:, None] * np.exp((basis.at(pixels) @ (modes @ u.reshape(2, m).T)).T)
    freedom = 2 * (len(data) - Q.shape[1])
    return found, case.target(pixels).T, float(np.sqrt(residual @ residual / freedom))


def toast(folder: Path) -> Iterator[Figure]:
    """Yield the figures of Toast++'s ellipse phantom."""
    found, true, chi = reconstruct_toast(read_toast(folder))
    yield Figure("toast_ellipse_2d", "residual over 2 % and 0.01 rad", "", chi, "about 1")
    for name, image, target in zip(("mua", "musp"), found, true, strict=True):
        correlation = float(np.corrcoef(image, target)[0, 1])
        yield Figure("toast_ellipse_2d", f"correlation of {name} with the target", "", correlation, "1")
        for level in np.unique(np.round(target, 4)):
            own = np.isclose(target, level, atol=1e-3 * level)
            if own.sum() >= 20:
                mean = float(image[own].mean())
                yield Figure("toast_ellipse_2d", f"mean {name} where it is {level:g}", "1/mm", mean, f"{level:g}")


def circle(folder: Path) -> Iterator[Figure]:
    """Yield the figures of NIRFAST's measured circle."""
    fibers = read_nirfast_fibers(folder / "circle_spec.source")
    contour = contour_through_fibers(fibers, Plane(np.eye(4)))
    spectra = read_excoef(folder / "circle_spec.excoef")
    grid = np.stack(np.meshgrid(np.linspace(-36, 36, 37), np.linspace(-36, 36, 37)), axis=-1).reshape(-1, 2)
    grid = grid[np.hypot(*grid.T) < 36]
    for wavelengths, light in itertools.product(([761, 808], [826, 849]), SOURCE_MODELS):
        measured, reference = (read_paa(folder / f"{n}.paa").at_wavelengths(wavelengths) for n in ("anom", "homog"))
        settings = ReconstructionSettings(noise=0.1, parameters=("hbo", "hbr"), prior_sd=1.0, source_model=light)
        result = reconstruct(measured, fibers, contour, spectra, settings, reference=reference)
        remark = next(remark for remark in result.remarks if "fitted with musp" in remark)
        fitted, residual = re.search(r"mua ([\d., ]+) 1/mm.*residual (\d+\.\d+)", remark).groups()
        mua = result.model.spectra.mua(result.maps_at(grid)).mean(axis=0)
        half = mua > (mua.max() + np.median(mua)) / 2
        center = np.average(grid[half], axis=0, weights=mua[half] - np.median(mua))
        name = f"circle_measured {wavelengths[0]} and {wavelengths[1]} nm {light}"
        for nm, value in zip(wavelengths, fitted.split(","), strict=True):
            yield Figure(name, f"fitted absorption of the phantom at {nm} nm", "1/mm", float(value), "not stated")
        yield Figure(name, "residual of the homogeneous phantom", "", float(residual), "noise, not stated")
        yield Figure(name, "residual of the bulk over 10 %", "", result.bulk.chi, "above that of the image")
        yield Figure(name, "x of the anomaly", "mm", float(center[0]), "equal for both sets")
        yield Figure(name, "y of the anomaly", "mm", float(center[1]), "equal for both sets")
        yield Figure(name, "absorption of its peak over the median", "", float(mua.max() / np.median(mua)), "above 1")
        yield Figure(name, "diameter at half height", "mm", float(2 * np.sqrt(4 * half.sum() / np.pi)), "not stated")
        yield Figure(name, "residual over 10 %", "", float(np.sqrt(np.mean(result.chi**2))), "about 1")


def breast(folder: Path) -> Iterator[Figure]:
    """Yield what the plane model makes of NIRFAST's 3-D breast."""
    fibers = read_fibers(folder / "spectral_breast.source").from_lps()
    labels = read_volume(folder / "breast.mha")
    fit = fibers.fitted_plane()
    tips = fit.plane.to_plane(fibers.detectors)[0]
    outline, moved = outline_at_fibers(body_contour(labels, fit.plane), tips, 8.0)
    yield Figure("mri_breast", "fibers off their plane, rms", "mm", fit.rms_mm, "below 3")
    yield Figure("mri_breast", "outline moved to the fibers by at most", "mm", moved, "below 8")
    measured = read_paa(folder / "forward_data.paa")
    spectra = read_excoef(folder / "spectral_breast.excoef")
    for source_model in SOURCE_MODELS:
        settings = ReconstructionSettings("tikhonov", gains="global", source_model=source_model, noise=0.05)
        result = reconstruct(measured, fibers, spline_contour(outline), spectra, settings, plane=fit.plane)
        tissue, name = result.bulk.tissue, f"mri_breast {source_model}"
        yield Figure(name, "bulk HbO", "uM", tissue.hbo, "10")
        yield Figure(name, "bulk HbR", "uM", tissue.hbr, "10")
        yield Figure(name, "bulk water", "%", 100 * tissue.water, "40")
        yield Figure(name, "residual of the bulk over 5 %", "", result.bulk.chi, "about 1")
        yield Figure(name, "residual of Tikhonov over 5 %", "", float(np.sqrt(np.mean(result.chi**2))), "about 1")


SETS = {
    "toast_ellipse_2d_GPL3": toast,
    "nirfast_circle_measured": circle,
    "nirfast_mri_breast": breast,
}


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with the three sets")
    parser.add_argument("--sets", nargs="+", choices=tuple(SETS), default=list(SETS))
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="CSV")
    options = parser.parse_args()
    rows = []
    for name in options.sets:
        for row in SETS[name](options.data / name):
            print(*row, flush=True)
            rows.append(row)
    with options.output.open("w", newline="", encoding="utf-8") as file:
        file.write(f"# python Testing/benchmarks/nirst_foreign_data.py --data DIR --output {options.output.name}\n")
        writer = csv.writer(file)
        writer.writerow(Figure._fields)
        writer.writerows([*row[:3], f"{row.value:.4g}", row.expected] for row in rows)


if __name__ == "__main__":
    main()
