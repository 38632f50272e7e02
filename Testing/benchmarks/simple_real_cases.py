"""Networks that have only seen synthetic lesions, unchanged, on real cases with six points; beside the random walker.

    python Testing/benchmarks/simple_real_cases.py --data ../shared/data/segmentation --table1 FOLDER --output FILE.csv

FOLDER is the `--work` folder of simple_table1.py: its networks predict the whole image, and what they find outside the
box of the points (grown by 10 percent) is left out. They were trained with a pre-contrast image; where a case has none,
the image itself takes the place of the enhancement, as if there had been no signal before. The network method is that
of `segment --method network`. Points as in weaksegment_evaluate.py, exact or moved by up to two voxels (mean of five
draws). Nothing here, and no constant of these networks, was chosen on these cases; the random walker's were, and its
figures on them are optimistic.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from BreastBiomarkersLib.files import atomic_path
from weaksegment_evaluate import jittered, real_cases
from WeakSegmentLib.metrics import score
from WeakSegmentLib.points import extreme_points_of_mask
from WeakSegmentLib.predict import predict, read_network, tumor_mask
from WeakSegmentLib.segmentation import segment_by_random_walk
from WeakSegmentLib.settings import NetworkSettings, RandomWalkSettings

ROWS = {"SimPLe": ("simple", "retrain"), "full supervision": ("full", "train")}
FIGURES = ("dice", "jaccard", "hd95_mm", "surface_distance_mm")
REFINEMENTS = 10


def walkers(weights, refined):
    """Return the methods that start from the points, by name; refined or not."""
    methods = {"random walker": RandomWalkSettings(), "network method": NetworkSettings(weights)}
    if refined:
        name = f"network method, {REFINEMENTS} refinements"
        methods[name] = NetworkSettings(weights, refine_iterations=REFINEMENTS)
    return methods


def predict_all(case, networks):
    """Return the probabilities of every seed's network, by row; none for a case that comes again as a subtraction."""
    if case.pre is not None and not case.subtract:
        return {}
    before = case.image.with_array(np.zeros_like(case.image.array)) if case.pre is None else case.pre
    return {name: [predict(one, case.image, before) for one in trained] for name, trained in networks.items()}


def evaluate(case, sets, probabilities, methods):
    """Yield the masks for each set of points, of every method and trained network, after its name."""
    pre = case.pre if case.subtract else None
    for name, settings in methods.items():
        yield name, [segment_by_random_walk(case.image, points, settings, pre=pre).mask for points in sets]
    for name, found in probabilities.items():
        yield f"{name} network in the box", [tumor_mask(p, points) for p in found for points in sets]


def main():
    """Evaluate all cases and write a row per case, kind of points and method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the real cases")
    parser.add_argument("--table1", type=Path, required=True, help="work folder of simple_table1.py")
    parser.add_argument("--weights", default="", metavar="FILE", help="of the network method; default the shipped")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.csv")
    options = parser.parse_args()
    torch.set_num_threads(1)
    networks = {}
    for name, (folder, stage) in ROWS.items():
        paths = [options.table1 / f"{folder}-{seed}" / f"{stage}.safetensors" for seed in range(3)]
        networks[name] = [read_network(path, "cpu") for path in paths if path.exists()]
    rows = []
    for case in real_cases(options.data):
        exact = extreme_points_of_mask(case.reference)
        probabilities = predict_all(case, networks)
        for kind, sets in (("exact", [exact]), ("jittered", jittered(exact, case.image))):
            for name, masks in evaluate(case, sets, probabilities, walkers(options.weights, kind == "exact")):
                scores = [score(mask, case.reference) for mask in masks]
                row = {"case": case.name, "points": kind, "method": name, "masks": len(masks)}
                for figure in FIGURES:
                    values = [getattr(s, figure) for s in scores if getattr(s, figure) is not None]
                    row[figure] = f"{np.mean(values):.4f}" if values else ""
                rows.append(row)
                print(f"{case.name:<26}{kind:<10}{name:<34}{row['dice']}", flush=True)
    for kind in ("exact", "jittered"):
        for name in dict.fromkeys(row["method"] for row in rows):
            values = [float(row["dice"]) for row in rows if row["points"] == kind and row["method"] == name]
            print(f"mean of {len(values)}, {kind}, {name}: {np.mean(values):.4f}")
    with atomic_path(options.output) as temporary, temporary.open("w", newline="") as file:
        file.write("# Testing/benchmarks/simple_real_cases.py; masks: points times seeds of weights\n")
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
