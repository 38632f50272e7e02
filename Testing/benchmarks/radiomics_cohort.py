"""Measure a large simulated cohort that is killed again and again: is anything lost or doubled, does memory grow?

    python Testing/benchmarks/radiomics_cohort.py [--cases 10000] [--kills 3] [--workers 1]

The cases share a few small images under different names. The command line runs as a child process and is killed
(SIGKILL) at random moments; at the end every row of the table is compared with the one of its image measured alone.

Measured, one worker: 1,000 cases 2 kills, 10,000 cases 3 kills, nothing lost, doubled or wrong; the largest process
took 289 and 307 MiB.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT / "WeakSegment"), str(_ROOT / "RadiomicsPanel")]

import numpy as np  # noqa: E402 - after the number of threads and the path
from BreastBiomarkersLib.volume import Volume, write_volume  # noqa: E402
from RadiomicsPanelLib.cohort import extract_cohort  # noqa: E402
from RadiomicsPanelLib.settings import PRESETS  # noqa: E402

DISTINCT = 20
FAMILIES = ("stat", "ih")


def write_cases(folder: Path, count: int) -> Path:
    """Write the images and a manifest of so many cases; return the manifest."""
    rng = np.random.default_rng(0)
    for n in range(DISTINCT):
        mask = np.zeros((6, 8, 10), np.uint8)
        mask[1:5, 1:7, 1:9] = 1 + (rng.random((4, 6, 8)) < 0.5)
        write_volume(Volume(rng.normal(100, 20, mask.shape), np.eye(4)), folder / f"image{n}.nrrd")
        write_volume(Volume(mask, np.eye(4)), folder / f"mask{n}.nrrd")
    lines = [f"P{n},image{n % DISTINCT}.nrrd,mask{n % DISTINCT}.nrrd" for n in range(count)]
    (folder / f"{count}.csv").write_text("\n".join(["case,image,mask", *lines]) + "\n")
    return folder / f"{count}.csv"


def count_results(output: Path) -> int:
    """Return how many entries are measured."""
    return sum(".about" not in path.name for path in (output / "results").glob("*.json"))


def main() -> int:
    """Run, kill, resume, compare; print key figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, rng = Path(name), random.Random(0)
        alone = extract_cohort(
            write_cases(folder, DISTINCT), PRESETS["mr"], folder / "alone", names=FAMILIES, workers=1
        )
        with alone.table.open(newline="") as file:
            expected = {(int(row.pop("case")[1:]), row["segment"]): row for row in csv.DictReader(file)}
        manifest, output = write_cases(folder, options.cases), folder / "output"
        command = [sys.executable, "-m", "RadiomicsPanelLib", "cohort", "--manifest", str(manifest), "--json"]
        command += [word for family in FAMILIES for word in ("--feature", family)]
        command += ["--workers", str(options.workers), "--output", str(output)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        there = []
        for kill in range(options.kills + 1):
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
            if kill < options.kills:
                wanted = (kill + rng.random()) / options.kills * options.cases
                while child.poll() is None and count_results(output) < wanted:
                    time.sleep(0.05)
                child.kill()
            said = child.communicate()[0]
            there.append(count_results(output))
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        figures = json.loads(said)
        seen, wrong = set(), 0
        with (output / "features.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                case = int(row.pop("case")[1:])
                wrong += row != expected[case % DISTINCT, row["segment"]] or (case, row["segment"]) in seen
                seen.add((case, row["segment"]))
    lost = len({(n, f"label {s}") for n in range(options.cases) for s in (1, 2)} - seen)
    print(
        json.dumps(
            {
                "cases": options.cases,
                "results_after_each_run": there,
                "reused": figures["reused"],
                "lost": lost,
                "doubled_or_wrong": wrong,
                "largest_process_MiB": round(peak),
            }
        )
    )
    return int(bool(lost or wrong))


if __name__ == "__main__":
    sys.exit(main())
