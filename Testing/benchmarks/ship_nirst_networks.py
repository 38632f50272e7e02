"""Put trained networks and their cards where `reconstruct --method hybrid` and `--method znet` look for them.

    python Testing/benchmarks/ship_nirst_networks.py FOLDER "how they were trained"

FOLDER is that of train_nirst_networks.sh: its runs hybrid_0, hybrid_1 ... and znet, and the table nirst_networks.csv,
which is copied beside this script.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT / name) for name in ("WeakSegment", "NIRSTReconstruction")]

from BreastBiomarkersLib.files import atomic_path  # noqa: E402 - after the path
from NIRSTReconstructionLib import network_method  # noqa: E402
from NIRSTReconstructionLib.model_card import table_lines, write_model_card  # noqa: E402
from NIRSTReconstructionLib.networks import MODEL, read_network  # noqa: E402

WEIGHTS = Path(network_method.__file__).parent / "weights"
TABLE = "nirst_networks.csv"


def main() -> None:
    """Copy weights and table, write the cards, and say how large the files are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("recipe", help="how they were trained, one sentence for the card")
    options = parser.parse_args()
    table = options.folder / TABLE
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    with atomic_path(Path(__file__).parent / TABLE) as temporary:
        temporary.write_bytes(table.read_bytes())
    WEIGHTS.mkdir(exist_ok=True)
    for old in WEIGHTS.iterdir():
        old.unlink()
    for run in sorted([*options.folder.glob("hybrid_?"), options.folder / "znet"]):
        source = run / MODEL
        trained = read_network(source, "cpu")
        target = WEIGHTS / f"{run.name}.safetensors"
        with atomic_path(target) as temporary:
            temporary.write_bytes(source.read_bytes())
        count = sum(parameter.numel() for parameter in trained.network.parameters())
        further = [f"- **Recipe:** {options.recipe}", *table_lines(rows, run.name)]
        write_model_card(target.with_suffix(".md"), trained.record, count, further)
        print(f"{target.name:24s} {target.stat().st_size / 1e6:6.2f} MB")


if __name__ == "__main__":
    main()
