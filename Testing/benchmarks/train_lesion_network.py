"""Training of the network that `segment --method network` uses: synthetic lesions only, no image of a patient.

    python Testing/benchmarks/train_lesion_network.py --work FOLDER --output lesion_network.safetensors

A third of the cases are breast phantoms (post-contrast image and subtraction, seeds from 2000), the others lesions of
random shape and contrast in random tissue, bright or dark, made to differ in all that could be told from six points and
an image. Points are moved by up to two voxels. Everything is seeded; the folder keeps phantoms and prepared cases, and
an interrupted run prepares the rest. Every tenth case is kept aside for the figures in the checkpoint's record: Dice of
the random walker and of the network on lesions it has not seen. They chose nothing: this was the only training.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path
from BreastBiomarkersLib.training import write_checkpoint
from BreastBiomarkersLib.volume import Volume, read_volume
from scipy.ndimage import gaussian_filter, label
from WeakSegmentLib.breast_parameters import BreastPhantomSettings
from WeakSegmentLib.breast_phantom import simulate_breast_cohort
from WeakSegmentLib.methods import crop_intensities, walk_on_posterior
from WeakSegmentLib.metrics import score
from WeakSegmentLib.network_method import KIND, BoxGrid, make_lesion_network, network_channels
from WeakSegmentLib.points import ExtremePoints, extreme_points_of_mask
from WeakSegmentLib.segmentation import segment_by_random_walk
from WeakSegmentLib.settings import NetworkSettings, RandomWalkSettings

FIRST_PHANTOM = 2000
KEPT_ASIDE = 10
BATCH, RATE, WEIGHT_DECAY = 2, 2e-3, 1e-4


class Case(NamedTuple):
    """An image, the image to subtract from it, and the lesion."""

    image: Volume
    pre: Volume | None
    lesion: Volume


def random_case(seed):
    """Return a lesion of random shape in random tissue."""
    rng = np.random.default_rng([seed, 7])
    side = np.exp(rng.uniform(np.log(9), np.log(52)))  # voxels of the longest side
    ratio = rng.choice([1.0, rng.uniform(1.0, 5.0)], p=[0.35, 0.65])  # slice thickness over pixel
    half = side / 2 * np.array([rng.uniform(0.55, 1.0) / ratio, rng.uniform(0.6, 1.0), 1.0])  # voxels
    half = np.maximum(half, [2.0, 3.0, 4.0])
    shape = tuple(int(n) for n in np.ceil(2 * half * rng.uniform(1.0, 1.3) + rng.integers(24, 34)))
    spacing = np.array([ratio, 1.0, 1.0])
    axes = [(np.arange(n) - (n - 1) / 2 + rng.uniform(-2, 2)) / h for n, h in zip(shape, half, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)

    def field(length):  # of unit spread; correlation length in half sides of the lesion
        noise = rng.normal(size=shape).astype(np.float32)
        smooth = gaussian_filter(noise, np.minimum(length * half, 40), mode="wrap", truncate=3)
        return (smooth - smooth.mean()) / smooth.std()

    level = 1 - np.sqrt(z**2 + y**2 + x**2)
    kind = rng.choice(
        ["mass", "lobulated", "spiculated", "patchy", "parts", "shell"], p=[0.2, 0.2, 0.15, 0.2, 0.1, 0.15]
    )
    if kind == "lobulated":
        level = level + rng.uniform(0.15, 0.4) * field(rng.uniform(0.25, 0.5))
    elif kind == "spiculated":
        level = level + rng.uniform(0.05, 0.2) * field(0.4) + rng.uniform(0.1, 0.3) * field(0.12)
    elif kind == "patchy":
        level = np.minimum(level, rng.uniform(0.2, 0.5) * (field(rng.uniform(0.15, 0.4)) + rng.uniform(-0.3, 0.8)))
    elif kind == "parts":
        level = np.full(shape, -1.0)
        for _ in range(rng.integers(2, 5)):
            c, r = rng.uniform(-0.6, 0.6, 3), rng.uniform(0.25, 0.6, 3)
            part = 1 - np.sqrt(((z - c[0]) / r[0]) ** 2 + ((y - c[1]) / r[1]) ** 2 + ((x - c[2]) / r[2]) ** 2)
            level = np.maximum(level, part * r.min())
    elif kind == "shell":
        c = rng.uniform(-0.7, 0.7, 3)
        level = np.minimum(level, np.sqrt((z - c[0]) ** 2 + (y - c[1]) ** 2 + (x - c[2]) ** 2) - rng.uniform(0.3, 0.7))
    else:
        level = level + rng.uniform(0.0, 0.1) * field(0.4)
    level = _without_specks(level)
    width = rng.uniform(0.2, 0.5) / half.mean()
    share = 1 / (1 + np.exp(-np.clip(level / width, -30, 30)))

    tissue = field(rng.uniform(0.4, 1.5))
    cuts = np.sort(rng.uniform(-1.2, 1.2, rng.integers(1, 4)))
    means = rng.uniform(-1, 1, len(cuts) + 1)
    image = gaussian_filter(means[np.digitize(tissue, cuts)].astype(np.float32), 0.6)
    image = image + rng.uniform(0.02, 0.25) * field(rng.uniform(0.1, 0.3))
    contrast = rng.choice([-1, 1]) * np.exp(rng.uniform(np.log(0.5), np.log(2.5)))
    lesion = image.mean() + contrast + rng.uniform(0.03, 0.35) * abs(contrast) * field(rng.uniform(0.08, 0.5))
    if rng.random() < 0.25:  # a core that does not take up contrast
        depth = level / max(level.max(), 1e-6) - rng.uniform(0.35, 0.8)
        core = 1 / (1 + np.exp(-np.clip(depth / 0.06, -30, 30)))
        lesion = lesion * (1 - core) + core * (image.mean() + rng.uniform(0.0, 0.5) * contrast)
    for _ in range(rng.integers(0, 4)):  # neighbors that look like the lesion
        c, r = rng.uniform(-1.7, 1.7, 3), rng.uniform(0.08, 0.5, 3)
        r[rng.integers(3)] *= rng.uniform(1, 3)
        near = 1 - np.sqrt(((z - c[0]) / r[0]) ** 2 + ((y - c[1]) / r[1]) ** 2 + ((x - c[2]) / r[2]) ** 2)
        blob = 1 / (1 + np.exp(-np.clip(near / width, -30, 30)))
        image = image * (1 - blob) + blob * (image.mean() + rng.uniform(0.6, 1.1) * contrast)
    image = image * (1 - share) + lesion * share
    image = image * (1 + rng.uniform(0, 0.15) * np.clip(field(1.5), -2, 2))
    blur = rng.uniform(0.7, 1.4) if rng.random() < 0.2 else rng.uniform(0.2, 0.6)
    image = gaussian_filter(image, blur / spacing**0.5)
    image = image + rng.normal(size=shape) * abs(contrast) / np.exp(rng.uniform(np.log(2.0), np.log(20.0)))
    matrix = np.diag([1.0, 1.0, ratio, 1.0])
    return Case(
        Volume((100 * image).astype(np.float32), matrix, f"random {seed}"), None, Volume(level > 0, matrix, kind)
    )


def _without_specks(level):
    """Return a level set without its parts below two percent of the largest."""
    parts, count = label(level > 0)
    if count > 1:
        sizes = np.bincount(parts.ravel())[1:]
        small = np.flatnonzero(sizes < 0.02 * sizes.max()) + 1
        level = np.where(np.isin(parts, small), -0.05, level)
    return level


def phantom_cases(folder):
    """Return functions that give the two cases of each phantom: post-contrast image alone, and with subtraction."""

    def read(case, subtract):
        post, pre, lesion = (read_volume(case / name) for name in ("post1.nrrd", "pre.nrrd", "lesion.nrrd"))
        return Case(post, pre if subtract else None, lesion)

    return [
        lambda case=case, subtract=subtract: read(case, subtract)
        for case in sorted(folder.glob("case_*"))
        for subtract in (False, True)
    ]


def jittered_points(case, rng):
    """Return the extreme points of the lesion, each coordinate moved by up to two voxels, less on small lesions."""
    exact = extreme_points_of_mask(case.lesion)
    most = np.minimum(2, (exact.box_stop_kji - exact.box_start_kji) // 8)
    for _ in range(20):
        moved = exact.voxels_kji + rng.integers(-most, most + 1, (6, 3))
        moved = np.clip(moved, 0, np.array(case.image.shape) - 1)
        try:
            return ExtremePoints.from_ras(case.image.points_to_ras(moved[:, ::-1]), case.image)
        except InputError:
            continue
    return exact


def prepare(case, seed):
    """Return a case as the network sees it: channels, log-odds of the walker, truth; all on the cube."""
    points = jittered_points(case, np.random.default_rng([seed, 8]))
    walked = walk_on_posterior(case.image, case.pre, points, (), RandomWalkSettings(), lambda fraction, message: None)
    grid = BoxGrid.of(points, walked.crop)
    image = crop_intensities(case.image, case.pre, walked.crop)
    channels, odds = network_channels(image, walked.score, grid)
    truth = grid.sample(case.lesion.array[walked.crop].astype(np.float32))
    return np.concatenate([channels, odds[None], truth[None]]).astype(np.float16)


def prepared_cases(makers, folder):
    """Return the prepared cases (n, 6, 32, 32, 32), each kept in a file."""
    folder.mkdir(parents=True, exist_ok=True)
    prepared = []
    for n, make in enumerate(makers):
        path = folder / f"{n:05d}.npy"
        if not path.exists():
            try:
                array = prepare(make(), n)
            except InputError as error:  # a lesion of some voxels that six points cannot frame
                print(f"left out {n}: {error}", flush=True)
                array = np.zeros(0, dtype=np.float16)
            with atomic_path(path) as temporary:
                np.save(temporary, array)
        array = np.load(path, allow_pickle=False)
        if array.size:
            prepared.append(array)
        if n % 50 == 0:
            print(f"prepared {n} of {len(makers)}", flush=True)
    return np.stack(prepared)


def batch_of(cases, rng):
    """Return channels, log-odds and truth of random cases, mirrored and turned by the symmetries of a box."""
    chosen = []
    for n in rng.choice(len(cases), BATCH, replace=False):
        axes = rng.permutation(3)
        case = cases[n].transpose(0, *(1 + axes))
        case = np.flip(case, [1 + a for a in range(3) if rng.random() < 0.5])
        chosen.append(case)
    stacked = torch.from_numpy(np.stack(chosen).astype(np.float32))
    return stacked[:, :4], stacked[:, 4], stacked[:, 5]


def loss_of(network, batch):
    """Return cross entropy plus one minus the soft Dice of the corrected walker."""
    channels, odds, truth = batch
    logits = network(channels).logits
    z = odds + logits[:, 1] - logits[:, 0]
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(z, truth)
    p = torch.sigmoid(z)
    overlap = 2 * (p * truth).sum((1, 2, 3)) / (p.sum((1, 2, 3)) + truth.sum((1, 2, 3)) + 1)
    return entropy + 1 - overlap.mean()


def fit(cases, iterations, seed):
    """Return the network after `iterations` of Adam at a rate that falls as a cosine, and its losses."""
    torch.manual_seed(seed)
    network = make_lesion_network()
    with torch.no_grad():
        network.last.weight.mul_(0.1)  # begin near the walker
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=WEIGHT_DECAY)
    losses, told = [], time.monotonic()
    for iteration in range(iterations):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (iteration + 1) / 50) * 0.5 * (1 + np.cos(np.pi * iteration / iterations))
        loss = loss_of(network, batch_of(cases, np.random.default_rng([seed, iteration])))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        if time.monotonic() - told > 20:
            print(f"iteration {iteration + 1} of {iterations}, loss {np.mean(losses[-100:]):.3f}", flush=True)
            told = time.monotonic()
    return network, losses


def compare(makers, weights, rows):
    """Append to `rows` the Dice of walker and network on cases, with their own points."""
    for n, make in makers:
        try:
            case = make()
            points = jittered_points(case, np.random.default_rng([n, 8]))
            line = {"case": case.image.name if case.pre is None else f"{case.image.name}, subtraction", "number": n}
            for name, settings in (("walker", RandomWalkSettings()), ("network", NetworkSettings(str(weights)))):
                found = segment_by_random_walk(case.image, points, settings, pre=case.pre)
                line[name] = round(score(found.mask, case.lesion).dice, 4)
            rows.append(line)
        except InputError as error:
            print(f"left out {n}: {error}", flush=True)


def main():
    """Simulate, prepare, train, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="for phantoms and prepared cases")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.safetensors")
    parser.add_argument("--phantoms", type=int, default=100)
    parser.add_argument("--random", type=int, default=400)
    parser.add_argument("--iterations", type=int, default=1600)
    options = parser.parse_args()
    torch.set_num_threads(1)
    phantoms = options.work / "phantoms"
    simulate_breast_cohort(phantoms, BreastPhantomSettings(small=True), options.phantoms, FIRST_PHANTOM)
    groups = {"phantom": phantom_cases(phantoms), "random": [lambda n=n: random_case(n) for n in range(options.random)]}
    training, aside = [], {}
    for name, makers in groups.items():
        step = 2 * KEPT_ASIDE if name == "phantom" else KEPT_ASIDE  # both cases of a phantom together
        is_aside = [n % step < step // KEPT_ASIDE for n in range(len(makers))]
        aside[name] = [(n, make) for n, make in enumerate(makers) if is_aside[n]]
        kept = [make for n, make in enumerate(makers) if not is_aside[n]]
        training.append(prepared_cases(kept, options.work / f"prepared-{name}"))
    print(
        "cases for training:", ", ".join(f"{len(cases)} {name}" for name, cases in zip(groups, training, strict=True))
    )
    network, losses = fit(np.concatenate(training), options.iterations, seed=0)
    record = {"kind": KIND, "iterations": options.iterations, "seed": 0, "torch": torch.__version__,
              "training_cases": {name: len(cases) for name, cases in zip(groups, training, strict=True)}}  # fmt: skip
    write_checkpoint(options.output, network.state_dict(), record)
    figures = {}
    for name, makers in aside.items():
        rows = []
        compare(makers, options.output, rows)
        for rule in ("walker", "network"):
            figures[f"{rule}_dice_{name}"] = round(float(np.mean([row[rule] for row in rows])), 4)
        with atomic_path(options.work / f"aside-{name}.csv") as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    write_checkpoint(options.output, network.state_dict(), record | {"cases_kept_aside": figures})
    print(json.dumps(figures | {"loss": round(float(np.mean(losses[-200:])), 4)}))


if __name__ == "__main__":
    main()
