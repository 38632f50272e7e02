"""What networks learn from six points per case, on cases of their training: Docs/weaksegment-simple.png.

    python Testing/examples/simple_figures.py --work FOLDER --output Docs/weaksegment-simple.png

FOLDER is the `--work` folder of Testing/benchmarks/simple_table1.py, whose first seed is drawn: the label that the
random walker makes of the points, and what each training, and each stage of SimPLe, finds in the box of the points. The
fine-tuned network's are SimPLe's new labels, from which its last stage learns from scratch.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from BreastBiomarkersLib.files import atomic_path
from WeakSegmentLib.cohort import load_cohort, read_cohort
from WeakSegmentLib.predict import TUMOR_ABOVE, read_network, slide
from WeakSegmentLib.pseudo_mask import Label

COLUMNS = {
    "partial CE": "partial-ce-0/train",
    "+ CRF": "crf-0/train",
    "+ contrastive": "simple-0/train",
    "SimPLe, fine-tuned": "simple-0/finetune",
    "SimPLe": "simple-0/retrain",
    "full supervision": "full-0/train",
}
SHOWN = 5


def masks_of(path, cases):
    """Return what a checkpoint finds in the box of every case."""
    trained = read_network(path, "cpu")
    masks = []
    for case in cases:
        found = slide(trained.network, np.asarray(case.image), trained.settings.patch, trained.device)
        mask = np.zeros(case.labels.shape, dtype=bool)
        mask[case.box] = found[case.box] > TUMOR_ABOVE
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
    """Apply the networks to the cases they learned from, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="of simple_table1.py")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.png")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = load_cohort(read_cohort(options.work / "training" / "training.csv"), options.work / "simple-0" / "cache")
    columns = {"random walker": [case.labels == Label.TUMOR for case in cases]}
    for title, name in COLUMNS.items():
        columns[title] = masks_of(options.work / f"{name}.safetensors", cases)
    draw(cases, columns, options.output)
    print(json.dumps({title: round(mean_dice(masks, cases), 3) for title, masks in columns.items()}))


if __name__ == "__main__":
    main()
