"""Forward model: milliseconds per phantom (9 wavelengths, 16 sources, 16 detectors) and error against the exact series.

    python Testing/benchmarks/nirst_forward.py --output Testing/benchmarks/nirst_forward.csv
    python Testing/benchmarks/nirst_forward.py --generate 20000 --output Testing/benchmarks/nirst_forward.csv

CPU time of one process and one thread, the fastest of the repeats. Ours is timed from tissue maps to data (assembly
included) and, as "solve only", on ready matrices. redbirdpy (GPL-3.0, never imported by the product) is timed where it
is installed: its own forward path, which is 3-D, on a one-layer extrusion of a P1 mesh of the same disc, and its solver
on our matrices. `--generate` makes a data set once (one process, one thread, files written) and records its time and
peak memory instead. Rows of the CSV that a call does not make anew are kept. The asv classes time our routes.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT / name) for name in ("WeakSegment", "NIRSTReconstruction", "Testing")]

import numpy as np  # noqa: E402 - after the number of threads and the path
from nirst.disc_solution import line_source_rim_fluence  # noqa: E402
from NIRSTReconstructionLib.dataset import DatasetSettings, generate_dataset  # noqa: E402
from NIRSTReconstructionLib.forward import ForwardModel  # noqa: E402
from NIRSTReconstructionLib.meshing import disc_mesh  # noqa: E402
from NIRSTReconstructionLib.optodes import place_optodes, ring_optodes  # noqa: E402
from NIRSTReconstructionLib.phantoms import draw_phantom  # noqa: E402
from NIRSTReconstructionLib.spectra import Tissue, load_spectra  # noqa: E402

RING = ring_optodes()
BATCH = 16  # phantoms simulated at once
BASE, CHANGED = Tissue(12.0, 6.0, 0.30), Tissue(15.6, 7.8, 0.375)
LAYOUTS = {  # name: element size, size at the optodes, order
    "P2 default": (3.6, 1.2, 2),
    "P2 fine": (2.4, 1.0, 2),
    "P1": (1.9, 1.5, 1),
}


def make_model(layout: str, solver: str = "auto") -> ForwardModel:
    """Return the model of the 82 mm disc with 16 fibers and the nine wavelengths."""
    size, optode_size, order = LAYOUTS[layout]
    mesh = disc_mesh(41.0, size, order=order, refine_at=RING.detectors, refined_size_mm=optode_size)
    return ForwardModel(mesh, place_optodes(mesh, RING), load_spectra(), solver=solver)


def make_phantoms(model: ForwardModel, count: int) -> np.ndarray:
    """Return the tissue of random phantoms at the integration points, (count, 6, Q)."""
    rng = np.random.default_rng(0)
    return np.stack([draw_phantom(rng).values(model.mesh.quadrature.points) for _ in range(count)])


def matrices(model: ForwardModel, maps: np.ndarray) -> np.ndarray:
    """Return the entries (n, W) of one phantom's matrices."""
    mua, musp = model.spectra.mua(maps), model.spectra.musp(maps)
    return model.operator.entries(mua.T, (1 / (3 * (mua + musp))).T)


class ForwardSuite:
    """asv: one phantom, sixteen phantoms at once, data with Jacobian."""

    params = ["lanes", "splu"]
    param_names = ["solver"]

    def setup(self, solver):
        if solver == "lanes" and importlib.util.find_spec("numba") is None:
            raise NotImplementedError("numba is not installed")
        self.model = make_model("P2 default", solver)
        self.phantoms = make_phantoms(self.model, BATCH)
        self.model.measure(self.phantoms[0], at_quadrature=True)  # compiles

    def time_one_phantom(self, _):
        self.model.measure(self.phantoms[0], at_quadrature=True)

    def time_sixteen_phantoms(self, _):
        self.model.measure_many(self.phantoms, at_quadrature=True)

    def time_jacobian_of_three_chromophores(self, _):
        maps = BASE.maps(len(self.model.mesh.nodes))
        self.model.measure_with_jacobian(maps, parameters=("hbo", "hbr", "water"))


class MeshSuite:
    """asv: the default mesh."""

    def time_disc_mesh(self):
        disc_mesh(refine_at=RING.detectors)


def errors(model: ForwardModel) -> dict[str, float]:
    """Return rms errors in percent, worst and best wavelength: ln amplitude, and its change between two tissues."""
    angles = 2 * np.pi * np.arange(1, 16) / 16
    differences = []
    for tissue in (BASE, CHANGED):
        mua, musp = (f(tissue.maps(1))[:, 0] for f in (model.spectra.mua, model.spectra.musp))
        exact = [
            np.log(line_source_rim_fluence(a, s, model.operator.boundary, 41.0, 40.0, angles))
            for a, s in zip(mua, musp, strict=True)
        ]
        data = model.measure(tissue.maps(len(model.mesh.nodes))) + np.log(2 * model.operator.boundary)
        differences.append(data - np.tile(exact, 16))
    absolute = 100 * np.sqrt((differences[0] ** 2).mean(axis=1))
    ratio = 100 * np.sqrt(((differences[1] - differences[0]) ** 2).mean(axis=1))
    return {"ln I at 661": absolute[0], "948": absolute[-1], "worst": absolute.max(), "ratio worst": ratio.max()}


def cpu_ms(run: Callable[[], object], repeats: int) -> float:
    """Return the fastest CPU milliseconds of a call, after one call that does not count."""
    run()
    best = np.inf
    for _ in range(repeats):
        began = time.process_time()
        run()
        best = min(best, time.process_time() - began)
    return 1000 * best


def our_times(repeats: int) -> dict[str, float]:
    """Return milliseconds per phantom of our routes."""
    times = {}
    for layout in ("P2 default", "P1"):
        for solver in ("lanes", "splu"):
            if solver == "lanes" and importlib.util.find_spec("numba") is None:
                continue
            model = make_model(layout, solver)
            phantoms = make_phantoms(model, BATCH)
            name = f"{layout}, {len(model.mesh.nodes)} nodes, {solver}"
            together = cpu_ms(lambda m=model, p=phantoms: m.measure_many(p, at_quadrature=True), repeats)
            times[f"{name}: tissue to data, {BATCH} at once"] = together / BATCH
            times[f"{name}: tissue to data, one"] = cpu_ms(
                lambda m=model, p=phantoms: m.measure(p[0], at_quadrature=True), repeats
            )
            ready = np.concatenate([matrices(model, one) for one in phantoms[:8]], axis=1)
            times[f"{name}: solve only"] = cpu_ms(lambda m=model, e=ready: m._solver.transfer(e), repeats) / 8
    return times


def peer_times(repeats: int) -> dict[str, float]:
    """Return milliseconds per phantom of redbirdpy's own path and of its solver on our P1 matrices."""
    import redbirdpy
    from redbirdpy.solver import femsolve

    model = make_model("P1", "splu")
    mesh, count, thickness = model.mesh, len(model.mesh.nodes), 3.0
    nodes = np.concatenate([np.column_stack([mesh.nodes, np.full(count, z)]) for z in (0.0, thickness)])
    a, b, c = np.sort(mesh.elements, axis=1).T
    up = count
    tetrahedra = np.concatenate(
        [np.stack(four, axis=1) for four in ((a, b, c, c + up), (a, b, b + up, c + up), (a, a + up, b + up, c + up))]
    )
    inverted = np.linalg.det(nodes[tetrahedra[:, 1:]] - nodes[tetrahedra[:, :1]]) < 0
    tetrahedra[inverted] = tetrahedra[inverted][:, [0, 2, 1, 3]]
    mua, musp = (f(BASE.maps(1))[:, 0] for f in (model.spectra.mua, model.spectra.musp))
    settings = {
        "node": nodes,
        "elem": tetrahedra + 1,
        "seg": np.ones(len(tetrahedra), dtype=int),
        "srcpos": np.column_stack([model.optodes.sources, np.full(16, 1.0)]),
        "detpos": np.column_stack([0.999 * RING.detectors, np.full(16, 1.5)]),
        "srcdir": [0, 0, 1],
        "detdir": [0, 0, 1],
        "omega": 0,
        "prop": {
            f"{nm:g}": np.array([[0, 0, 1, 1], [mua[w], musp[w], 0, 1.33]])
            for w, nm in enumerate(model.spectra.wavelengths_nm)
        },
    }
    prepared, pairs = redbirdpy.meshprep(settings)
    times = {
        f"redbirdpy {redbirdpy.__version__}, {len(nodes)} nodes: own forward path": cpu_ms(
            lambda: redbirdpy.forward.runforward(prepared, sd=pairs), repeats
        )
    }
    entries = matrices(model, BASE.maps(len(mesh.quadrature.weights)))
    systems = [model.operator.matrix(entries[:, w]) for w in range(entries.shape[1])]
    right = mesh.evaluation(model.optodes.sources).T.toarray()
    times[f"redbirdpy {redbirdpy.__version__}: its solver on our P1 matrices, {count} nodes"] = cpu_ms(
        lambda: [femsolve(system, right) for system in systems], repeats
    )
    return times


def generation(count: int) -> list[tuple[str, str, float]]:
    """Return wall and CPU seconds and peak memory of one data set of 9 wavelengths x 16 sources."""
    name = f"data set of {count} phantoms"
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        generate_dataset(Path(folder) / "set", DatasetSettings(count=count, seed=1))
        size = sum(path.stat().st_size for path in (Path(folder) / "set").iterdir())
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
    return [
        (f"{name}: CPU, mesh and files included", "s", cpu),
        (f"{name}: wall (load of the machine {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores)", "s", wall),
        (f"{name}: peak memory of the process", "GiB", peak),
        (f"{name}: files", "GiB", size / 2**30),
    ]


def write(rows: list[tuple[str, str, float]], path: Path) -> None:
    """Write rows of what, unit and value as CSV; older rows of another kind are kept."""
    kinds = {what.split(":")[0].split(",")[0] for what, _, _ in rows}
    kept = []
    if path.exists():
        old = list(csv.reader(line for line in path.read_text(encoding="utf-8").splitlines() if line[0] != "#"))
        kept = [row for row in old[1:] if row[0].split(":")[0].split(",")[0] not in kinds]
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write("# python Testing/benchmarks/nirst_forward.py [--generate 20000] --output nirst_forward.csv\n")
        writer = csv.writer(file)
        writer.writerow(["what", "unit", "value"])
        writer.writerows([*kept, *((what, unit, f"{value:.4g}") for what, unit, value in rows)])


def main() -> None:
    """Print and write errors and times, or those of a data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--generate", type=int, metavar="N", help="time a data set of N phantoms instead")
    parser.add_argument("--output", type=Path, metavar="FILE", help="CSV")
    options = parser.parse_args()
    if options.generate:
        rows = generation(options.generate)
        print(*rows, sep="\n")
        if options.output:
            write(rows, options.output)
        return
    rows = []
    print("rms error in percent against the Bessel series (82 mm disc, HbO 12, Hb 6 uM, water 30 %; then +25 to 30 %)")
    for layout in LAYOUTS:
        model = make_model(layout)
        found = errors(model)
        rows += [(f"error of {layout}, {len(model.mesh.nodes)} nodes: {n}", "%", value) for n, value in found.items()]
        figures = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
        print(f"  {layout}, {len(model.mesh.nodes)} nodes: {figures}")
    times = our_times(options.repeats)
    if importlib.util.find_spec("redbirdpy") is not None:
        times |= peer_times(options.repeats)
    else:
        print("redbirdpy is not installed: no side-by-side times")
    fastest = min(times.values())
    print("CPU ms per phantom (ratio to the fastest)")
    for name, value in times.items():
        print(f"  {value:8.2f}  x{value / fastest:5.1f}  {name}")
    rows += [(name, "CPU ms per phantom", value) for name, value in times.items()]
    if options.output:
        write(rows, options.output)


if __name__ == "__main__":
    main()
