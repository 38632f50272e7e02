"""Table 1 of Zhong and Wang (MICCAI 2023) on synthetic breasts: what six points per case are worth for training.

    python Testing/benchmarks/simple_table1.py --work FOLDER --csv Testing/benchmarks/simple_table1.csv

21 training and 20 held-out cases of fixed seeds, three seeds of weights and patches; rows as in the paper, and besides:
partial cross entropy alone, the fine-tuned network before it is retrained, and the random walker, which gets six points
of each held-out case while the networks get none. `--ablation` adds SimPLe with the propagation term switched off: what
relabeling inside the box does alone. Masks are the networks' own, on the image's grid: no box, no largest part.
Interrupted, it goes on where it was. `--csv` gets one line per row, `..._cases.csv` beside it one per row, seed, case.

By default everything is small (phantoms of 1.6 x 1 x 1 mm seen at 2 mm, a network of 84,000 weights, 500 iterations
per stage instead of 2,000), and the networks see the subtraction beside the post-contrast image: on development
phantoms a network this small learned next to nothing from the post-contrast image alone. Learning rate and momentum of
the small scale were chosen on development phantoms with full supervision, out of three. The order of the rows can be
compared with the paper, their height cannot. `--published-scale` uses full phantoms, network and iterations; it needs
a GPU.

Measured (simple_table1.csv, Dice in percent): SimPLe 68.3, full supervision 70.6, L_pce + L_ctr 61.3. SimPLe is 2.3
below full supervision (1.6, 5.8, -0.5 for the three seeds) and 7.0 above L_pce + L_ctr, of which seeds tell 49.7 from
72.5 (5.6, 16.4, -1.1). It is 1.4 above L_pce alone: the labels of our random walker leave little to propagate.
Propagation makes the labels in the boxes better (mean Dice of the training cases 0.66 to 0.72 for seed 0) and the
fine-tuned network on whole images worse, where it finds more that is no tumor; retraining on labels that end at the
boxes makes up for it. With the propagation switched off (two seeds only) the retrained network is 1.2 and 2.9 worse.

The contrastive loss needs time. After 300 iterations with patches of 32 x 64 x 64 mm, tried first, the features did
separate tumor (Dice 0.72 on training patches at the best threshold of the logits), but the threshold that counts,
zero, found an eighth of it: the last convolution has no bias, tumor features share a cone with those of look-alikes far
from any tumor, and cross entropy calls the whole cone background until its lengths have learned to differ. Patches of
32 x 48 x 48 mm, of which tumor is a larger share, and 500 iterations find five sixths.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from BreastBiomarkersLib.files import atomic_path
from WeakSegmentLib.breast_parameters import BreastPhantomSettings
from WeakSegmentLib.breast_phantom import GENERATOR_VERSION, simulate_breast_cohort
from WeakSegmentLib.cohort import read_cohort
from WeakSegmentLib.metrics import score
from WeakSegmentLib.predict import predict, read_network, tumor_mask
from WeakSegmentLib.segmentation import segment_by_random_walk
from WeakSegmentLib.train import train
from WeakSegmentLib.training_settings import PRESETS, settings_from_json

TRAINING, HELD_OUT = range(0, 21), range(1000, 1020)
SEEDS = (0, 1, 2)
SMALL = replace(
    PRESETS["small"],
    channels=("post", "subtraction"),
    patch=(16, 24, 24),
    train_iterations=500,
    retrain_iterations=500,
)
WITHOUT_SEED = "-"
WALKER = "random walker with six points"


def rows(settings, ablation):
    """Return the rows: name, training folder, its settings, and the checkpoint to test."""
    simple = replace(settings, method="simple")
    trainings = {
        "crf": replace(settings, method="crf"),
        "partial-ce": replace(settings, method="partial-ce"),
        "simple": simple,
        "simple-no-propagation": replace(simple, propagation_weight=0.0),
        "full": replace(settings, method="full"),
    }
    return [
        (name, folder, trainings[folder], f"{stage}.safetensors")
        for name, folder, stage in (
            ("L_pce", "partial-ce", "train"),
            ("L_pce + L_crf", "crf", "train"),
            ("L_pce + L_ctr", "simple", "train"),
            ("SimPLe, fine-tuned", "simple", "finetune"),
            ("SimPLe, retrained without propagation", "simple-no-propagation", "retrain"),
            ("SimPLe", "simple", "retrain"),
            ("full supervision", "full", "train"),
        )
        if ablation or folder != "simple-no-propagation"
    ]


def write_cohort(folder, settings, seeds, name):
    """Simulate the cases and return the cohort of their first post-contrast phase."""
    simulate_breast_cohort(folder, settings, len(seeds), seeds[0], tell)
    table = folder / f"{name}.csv"
    with atomic_path(table) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "image", "points", "pre", "mask"])
        for seed in seeds:
            case = f"case_{seed:05d}"
            files = ("post1.nrrd", "points.mrk.json", "pre.nrrd", "lesion.nrrd")
            writer.writerow([case, *(f"{case}/{file}" for file in files)])
    return read_cohort(table)


def test(checkpoint, cases):
    """Return the scores of a network on the cases: the whole image, no points."""
    trained = read_network(checkpoint)
    scores = {}
    for case in cases:
        volume, pre, _, truth = case.read()
        scores[case.name] = asdict(score(tumor_mask(predict(trained, volume, pre)), truth))
    return scores


def test_random_walk(cases):
    """Return the scores of the default random walker, which gets the six points of every case."""
    scores = {}
    for case in cases:
        volume, pre, points, truth = case.read()
        scores[case.name] = asdict(score(segment_by_random_walk(volume, points, pre=pre).mask, truth))
    return scores


def kept(path, compute):
    """Return what a JSON file holds, computing and writing it if it is not there."""
    if not path.exists():
        value = compute()
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(value))
    return json.loads(path.read_text())


def tell(fraction, message):
    """Print now and then."""
    global _told
    if time.monotonic() - _told > 30:
        print(f"  {fraction:4.0%} {message}", flush=True)
        _told = time.monotonic()


_told = 0.0


def summary(name, by_seed):
    """Return a line of the table: means over seeds and cases, spread over cases and over seeds, in percent."""
    line = {"row": name, "seeds": len(by_seed), "cases": len(by_seed[0])}
    for figure in ("dice", "jaccard"):
        values = 100 * np.array([[scores[figure] for scores in one.values()] for one in by_seed])
        line[f"{figure}_mean"] = f"{values.mean():.2f}"
        line[f"{figure}_sd_cases"] = f"{values.mean(axis=0).std(ddof=1):.2f}"
        line[f"{figure}_sd_seeds"] = f"{values.mean(axis=1).std(ddof=1):.2f}" if len(values) > 1 else ""
    return line


def main():
    """Simulate, train, test, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="for phantoms and trainings")
    parser.add_argument("--csv", type=Path, required=True, metavar="FILE.csv")
    parser.add_argument("--published-scale", action="store_true")
    parser.add_argument("--settings", type=Path, metavar="FILE.json", help="training settings that differ")
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many of the three seeds")
    options = parser.parse_args()
    torch.set_num_threads(torch.get_num_threads() if options.published_scale else 1)
    settings = PRESETS["default"] if options.published_scale else SMALL
    if options.settings:
        settings = settings_from_json(json.loads(options.settings.read_text()), settings)
    phantoms = BreastPhantomSettings(small=not options.published_scale)
    training = write_cohort(options.work / "training", phantoms, TRAINING, "training")
    held_out = write_cohort(options.work / "held-out", phantoms, HELD_OUT, "held-out")

    tables = {WALKER: [kept(options.work / "random_walk.json", lambda: test_random_walk(held_out))]}
    given = f" --settings {options.settings.name}" if options.settings else ""
    notes = [
        f"python Testing/benchmarks/simple_table1.py --work FOLDER --csv FILE.csv --seeds {options.seeds}{given}"
        f"{' --published-scale' * options.published_scale}{' --ablation' * options.ablation}",
        f"phantoms: generator version {GENERATOR_VERSION}, {'full' if options.published_scale else 'small'}; training "
        f"seeds {TRAINING[0]}-{TRAINING[-1]}, held-out {HELD_OUT[0]}-{HELD_OUT[-1]}",
        f"training settings: {json.dumps(asdict(settings))}",
        "percent; sd_cases over the held-out cases, sd_seeds over the seeds' means",
    ]
    voted = []
    for seed in SEEDS[: options.seeds]:
        for name, folder, chosen, checkpoint in rows(settings, options.ablation):
            place = options.work / f"{folder}-{seed}"
            print(f"{name}, seed {seed}", flush=True)
            figures = train(training, place, replace(chosen, seed=seed), tell)
            scores = kept(place / f"{checkpoint}.json", lambda: test(place / checkpoint, held_out))  # noqa: B023
            tables.setdefault(name, []).append(scores)
            if name == "SimPLe":
                voted.append(f"{figures['voted_share']:.2f}")
            shares = f"share of unlabeled voxels the propagation chose, per seed: {', '.join(voted)}"
            write_tables(options.csv, [*notes, shares], tables)
    for line in map(summary, tables, tables.values()):
        print(f"{line['row']:<40} Dice {line['dice_mean']:>6} (cases {line['dice_sd_cases']}, seeds "
              f"{line['dice_sd_seeds'] or '-'})  Jaccard {line['jaccard_mean']:>6}")  # fmt: skip


def write_tables(path, notes, tables):
    """Write the summary, and beside it the scores of every case."""
    write_table(path, notes, [summary(name, by_seed) for name, by_seed in tables.items()])
    cases = [
        {"row": name, "seed": WITHOUT_SEED if name == WALKER else seed, "case": case, **{
            key: "" if value is None else f"{value:.4f}" for key, value in scores.items()
        }}
        for name, by_seed in tables.items()
        for seed, one in enumerate(by_seed)
        for case, scores in one.items()
    ]  # fmt: skip
    write_table(path.with_name(path.stem + "_cases.csv"), notes, cases)


def write_table(path, notes, lines):
    """Write notes as comments and lines as CSV."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        file.writelines(f"# {note}\n" for note in notes)
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


if __name__ == "__main__":
    main()
