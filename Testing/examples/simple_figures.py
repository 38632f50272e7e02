"""How the labels of a cohort change while SimPLe learns from six points per case: Docs/weaksegment-simple.png.

    python Testing/examples/simple_figures.py --work FOLDER --output Docs/weaksegment-simple.png

FOLDER is the `--work` folder of Testing/benchmarks/simple_table1.py. The first seed of its SimPLe training is repeated,
which gives the same network bit by bit, with its weights kept at some iterations of the first stage; each of them says
what is tumor in the boxes of the training cases, as SimPLe does when it relabels them.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from BreastBiomarkersLib.files import atomic_path
from BreastBiomarkersLib.training import load_weights, read_checkpoint
from WeakSegmentLib.cohort import load_cohort, read_cohort
from WeakSegmentLib.predict import TUMOR_ABOVE, make_network, slide
from WeakSegmentLib.pseudo_mask import Label
from WeakSegmentLib.train import train
from WeakSegmentLib.training_settings import settings_from_json

ITERATIONS = (50, 100, 200, 500)
SHOWN = 5


def keep_states(run, folder):
    """Return a progress that copies the saved state of the first stage at some iterations."""

    def progress(fraction, message):
        for iteration in ITERATIONS:
            if message.startswith(f"train {iteration} of"):
                shutil.copy(run / "state.safetensors", folder / f"train-{iteration}.safetensors")

    return progress


def masks_of(path, settings, cases):
    """Return what a checkpoint finds in the box of every case."""
    tensors, _ = read_checkpoint(path)
    if any(name.startswith("weights.") for name in tensors):
        tensors = {n.removeprefix("weights."): t for n, t in tensors.items() if n.startswith("weights.")}
    network = make_network(settings)
    load_weights(network, tensors, path.name)
    masks = []
    for case in cases:
        mask = np.zeros(case.labels.shape, dtype=bool)
        mask[case.box] = (
            slide(network, np.asarray(case.image), settings.patch, torch.device("cpu"))[case.box] > TUMOR_ABOVE
        )
        masks.append(mask)
    return masks


def mean_dice(masks, cases):
    """Return the mean Dice with the truth."""
    values = [2 * (m & c.truth).sum() / max(1, m.sum() + c.truth.sum()) for m, c in zip(masks, cases, strict=True)]
    return float(np.mean(values))


def draw(cases, columns, path):
    """Draw a row per case and a column per stage: the mask outlined in red, the truth in green."""
    from matplotlib.figure import Figure

    chosen = sorted(range(len(cases)), key=lambda n: -cases[n].truth.sum())[2 : 2 + 3 * SHOWN : 3]
    figure = Figure(figsize=(1.62 * (len(columns) + 1), 1.62 * len(chosen) + 0.5), layout="constrained")
    panels = figure.subplots(len(chosen), len(columns) + 1)
    for n, line in zip(chosen, panels, strict=True):
        case = cases[n]
        k = int(np.argmax(case.truth.sum(axis=(1, 2))))
        margin = 6
        j, i = (slice(max(0, s.start - margin), s.stop + margin) for s in case.box[1:])
        image = np.asarray(case.image[1, k, j, i])
        for axes, (title, masks) in zip(line, [("subtraction, six points", None), *columns.items()], strict=True):
            axes.imshow(image, cmap="gray", vmin=float(np.percentile(image, 1)), vmax=float(np.percentile(image, 99.8)))
            if masks is None:
                low, high = case.box[1].start - j.start - 0.5, case.box[1].stop - j.start - 0.5
                left, right = case.box[2].start - i.start - 0.5, case.box[2].stop - i.start - 0.5
                axes.plot(
                    [left, right, right, left, left], [low, low, high, high, low], color="deepskyblue", linewidth=1
                )
            else:
                for mask, color in ((case.truth, "lime"), (masks[n], "red")):
                    if mask[k, j, i].any():
                        axes.contour(mask[k, j, i], [0.5], colors=[color], linewidths=1.1)
            axes.set(xticks=[], yticks=[])
            if n == chosen[0]:
                dice = "" if masks is None else f"\nDice {mean_dice(masks, cases):.2f}"
                axes.set_title(title + (dice or "\n "), fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def main():
    """Train as the benchmark did, keep the states, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="of simple_table1.py")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.png")
    options = parser.parse_args()
    torch.set_num_threads(1)
    benchmark, run = options.work / "simple-0", options.work / "figure"
    settings = settings_from_json(json.loads((benchmark / "settings.json").read_text())["settings"])
    cases = read_cohort(options.work / "training" / "training.csv")
    if not (run / "retrain.safetensors").exists():
        train(cases, run, replace(settings, seed=0), keep_states(run, options.work), device="cpu")
    prepared = load_cohort(cases, run / "cache")
    columns = {"random walker": [case.labels == Label.TUMOR for case in prepared]}
    for iteration in ITERATIONS:
        title = f"train, {iteration}"
        columns[title] = masks_of(options.work / f"train-{iteration}.safetensors", settings, prepared)
    columns["fine-tuned"] = masks_of(run / "finetune.safetensors", settings, prepared)
    columns["retrained"] = masks_of(run / "retrain.safetensors", settings, prepared)
    draw(prepared, columns, options.output)
    print({title: round(mean_dice(masks, prepared), 3) for title, masks in columns.items()})


if __name__ == "__main__":
    main()
