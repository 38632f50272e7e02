"""Put trained networks and their cards where `reconstruct --method hybrid` and `--method znet` look for them.

    python Testing/benchmarks/ship_nirst_networks.py FOLDER "how they were trained"

FOLDER is that of train_nirst_networks.sh: its runs hybrid_0, hybrid_1 ... and znet, and the table nirst_networks.csv,
which is copied beside this script. Where the light of the training lies goes with them; it is kept in the run's folder
once it is known.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from dataclasses import asdict
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT / name) for name in ("WeakSegment", "NIRSTReconstruction")]

from BreastBiomarkersLib.files import atomic_path  # noqa: E402 - after the path
from NIRSTReconstructionLib import network_method  # noqa: E402
from NIRSTReconstructionLib.dataset import read_settings  # noqa: E402
from NIRSTReconstructionLib.model_card import table_lines, write_model_card  # noqa: E402
from NIRSTReconstructionLib.network_distance import training_inputs  # noqa: E402
from NIRSTReconstructionLib.networks import MODEL, TrainedNetwork, read_network  # noqa: E402

WEIGHTS = Path(network_method.__file__).parent / "weights"
TABLE = "nirst_networks.csv"
INPUTS = "training_inputs.json"


def inputs_of(run: Path, trained: TrainedNetwork) -> str:
    """Return where the light of a run's training lies, as JSON; looked at once and kept in the run's folder."""
    if not (run / INPUTS).is_file():
        learned = [json.dumps(one, sort_keys=True) for one in trained.record["data"]]
        every = [path.parent for path in sorted(run.parent.glob("*/dataset.json"))]
        own = [path for path in every if json.dumps(asdict(read_settings(path)), sort_keys=True) in learned]
        if len(own) != len(learned):
            sys.exit(f"{run.parent} holds {len(own)} of the {len(learned)} data sets that '{run.name}' learned from.")
        text = json.dumps(training_inputs(own, trained.settings), indent=1, allow_nan=False)
        with atomic_path(run / INPUTS) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    return (run / INPUTS).read_text(encoding="utf-8")


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
        inputs = network_method.training_inputs_of(trained.settings.network)
        if not inputs.exists():  # one file for all networks of an ensemble
            text = inputs_of(run, trained)
            with atomic_path(inputs) as temporary:
                temporary.write_text(text, encoding="utf-8")
        count = sum(parameter.numel() for parameter in trained.network.parameters())
        further = [
            f"- **Recipe:** {options.recipe}",
            f"- **Where the training lies:** {inputs.name}; `reconstruct --trust` says how far data are from it.",
            *table_lines(rows, run.name),
        ]
        write_model_card(target.with_suffix(".md"), trained.record, count, further)
        print(f"{target.name:24s} {target.stat().st_size / 1e6:6.2f} MB")


if __name__ == "__main__":
    main()
