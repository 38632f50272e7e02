"""How close the synthetic breast is to real ones, and how hard it is to segment: one CSV row per case, and a summary.

    python Testing/benchmarks/breast_phantom_acceptance.py --cases 200 --output acceptance.csv [--real FOLDER]

FOLDER holds a real case as `*_pre.nrrd`, `*_post1.nrrd`, `*_post2.nrrd`, `*_lesion_clean.nrrd`; its row is written too,
and texture is compared with it. Nothing here is tuned on: the figures are reported as they come out.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import time
from pathlib import Path

import numpy as np
from BreastBiomarkersLib.volume import Volume, read_volume
from scipy import ndimage
from scipy.optimize import minimize
from WeakSegmentLib.breast_parameters import BreastPhantomSettings
from WeakSegmentLib.breast_phantom import Tissue, simulate_breast_case
from WeakSegmentLib.kinetics import segment_kinetics
from WeakSegmentLib.points import extreme_points_of_mask
from WeakSegmentLib.segmentation import segment_by_random_walk
from WeakSegmentLib.settings import PublishedSettings

WINDOW = 32


def dice(one, other):
    """Return the Dice coefficient of two masks."""
    return 2 * np.count_nonzero(one & other) / max(1, np.count_nonzero(one) + np.count_nonzero(other))


def otsu_level(values):
    """Return the intensity that splits values into two classes of least variance (256 bins)."""
    counts, edges = np.histogram(values, 256)
    middle = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    mean_below = np.cumsum(counts * middle) / np.maximum(below, 1)
    mean_above = (np.sum(counts * middle) - np.cumsum(counts * middle)) / np.maximum(above, 1)
    return middle[np.argmax(below * above * (mean_below - mean_above) ** 2)]


def largest_part(mask):
    """Return the largest connected part of a mask."""
    parts, count = ndimage.label(mask)
    return mask if count < 2 else parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])


def trivial_dices(pre, post, lesion):
    """Return Dice of rules that see only the lesion's box: ellipsoid, Otsu of the subtraction, enhancement > 70 %."""
    box = ndimage.find_objects(lesion.astype(np.uint8))[0]
    truth, before, after = lesion[box], pre[box].astype(float), post[box].astype(float)
    axes = np.meshgrid(*((np.arange(n) - (n - 1) / 2) / (n / 2) for n in truth.shape), indexing="ij")
    rise = after - before
    return {
        "dice_ellipsoid": dice(sum(a * a for a in axes) <= 1, truth),
        "dice_otsu_subtraction": dice(largest_part(rise > otsu_level(rise)), truth),
        "dice_enhancement_over_70": dice(rise > 0.7 * before, truth),
        "fill": truth.mean(),
    }


def walker_dices(pre, post, lesion):
    """Return Dice of the published method and of this extension's, on the post-contrast image and the subtraction."""
    points = extreme_points_of_mask(lesion)
    inside = lesion.array != 0
    found = {"dice_published": segment_by_random_walk(post, points, PublishedSettings())}
    found["dice_default_post"] = segment_by_random_walk(post, points)
    found["dice_default_subtraction"] = segment_by_random_walk(post, points, pre=pre)
    return {name: dice(result.mask.array != 0, inside) for name, result in found.items()}


def enhancement(pre, posts, lesion):
    """Return the lesion's enhancement, that of the shell 2 to 6 voxels outside, and the lesion's signal over noise."""
    figures = segment_kinetics(pre, posts, lesion)
    inside = lesion.array != 0
    box = tuple(slice(max(0, s.start - 7), s.stop + 7) for s in ndimage.find_objects(inside.astype(np.uint8))[0])
    outside = ndimage.distance_transform_edt(~inside[box])
    shell = (outside >= 2) & (outside <= 6)
    before, after = (v.array[box].astype(float) for v in (pre, posts[0]))
    around = (after - before)[shell] / np.maximum(before[shell], 1)
    return {
        "volume_ml": inside.sum() * lesion.voxel_volume_mm3 / 1000,
        "equivalent_diameter_mm": 2 * (3 * inside.sum() * lesion.voxel_volume_mm3 / (4 * np.pi)) ** (1 / 3),
        "slice_extent_mm": np.ptp(np.argwhere(inside)[:, 0]) * lesion.spacing[0] + lesion.spacing[0],
        "parts": ndimage.label(inside)[1],
        **{f"enhancement_{name}": value / 100 for name, value in figures.voxel_enhancement_percent.items()},
        "initial_enhancement": figures.initial_enhancement_percent / 100,
        "late_change": figures.late_change_percent / 100,
        "initial_class": figures.initial_class,
        "late_class": figures.late_class,
        "ser": figures.ser if figures.ser is not None else "",
        **{f"shell_p{q}": np.percentile(around, q) for q in (10, 50, 90)},
        "lesion_snr": posts[0].array[inside].mean() / noise_deviation(posts[0].array),
    }


def noise_deviation(image):
    """Return the standard deviation of the noise: robust, from mixed second differences over two voxels in the body."""
    x = image.astype(float)
    mixed = (x[:, 2:, 2:] - x[:, :-2, 2:] - x[:, 2:, :-2] + x[:, :-2, :-2]) / 2
    body = ndimage.gaussian_filter(x, (0, 2, 2))[:, 1:-1, 1:-1]
    return 1.483 * np.median(np.abs(mixed[body > 0.15 * np.percentile(body, 95)]))


def texture_windows(pre, post, lesion):
    """Return in-plane windows (n, 32, 32) of the post-contrast image, each with zero mean and unit deviation.

    Taken are windows without lesion whose mean enhancement is in the highest fifth of those inside the body: gland, in
    images with and without fat suppression.
    """
    image, rise = post.astype(float), post.astype(float) - pre
    smooth = ndimage.gaussian_filter(image, (0.5, 2, 2))
    body = smooth > 0.15 * np.percentile(smooth, 95)
    body = ndimage.binary_erosion(np.stack([ndimage.binary_fill_holes(s) for s in body]), np.ones((1, 9, 9)))
    body &= ~lesion
    windows, enhancements = [], []
    for k in range(image.shape[0]):
        for j in range(0, image.shape[1] - WINDOW, WINDOW // 2):
            for i in range(0, image.shape[2] - WINDOW, WINDOW // 2):
                part = np.s_[k, j : j + WINDOW, i : i + WINDOW]
                if body[part].mean() > 0.95:
                    windows.append((image[part] - image[part].mean()) / (image[part].std() + 1e-9))
                    enhancements.append(rise[part].mean())
    windows = np.array(windows).reshape(-1, WINDOW, WINDOW)
    return windows[enhancements >= np.percentile(enhancements, 80)] if len(windows) else windows


def radial_power(windows):
    """Return the power (n, 16) of windows in rings of frequency, and the rings' frequencies in cycles per voxel."""
    hann = np.hanning(WINDOW)
    power = np.abs(np.fft.fft2(windows * np.outer(hann, hann))) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(WINDOW), np.fft.fftfreq(WINDOW)))
    ring = np.rint(frequency * WINDOW).astype(int)
    rings = np.arange(1, 17)
    return np.stack([power[:, ring == r].mean(axis=1) for r in rings], axis=1), rings / WINDOW


def power_slopes(windows):
    """Return the slope of log power over log frequency between 0.04 and 0.2 cycles per voxel, per window."""
    power, frequency = radial_power(windows)
    band = (frequency >= 0.04) & (frequency <= 0.2)
    return np.polyfit(np.log(frequency[band]), np.log(power[:, band].T + 1e-12), 1)[0]


def patch_features(windows):
    """Return what the real-against-synthetic classifier sees of each window."""
    power, _ = radial_power(windows)
    lagged = [(windows[:, n:] * windows[:, :-n]).mean(axis=(1, 2)) for n in (1, 3, 6)]
    lagged += [(windows[:, :, n:] * windows[:, :, :-n]).mean(axis=(1, 2)) for n in (1, 3, 6)]
    moments = [(windows**n).mean(axis=(1, 2)) for n in (3, 4)]
    return np.column_stack([np.log(power + 1e-9), *lagged, *moments])


def area_under_curve(scores, truth):
    """Return the area under the ROC curve."""
    ranks = np.argsort(np.argsort(scores)) + 1
    positive = truth.sum()
    return (ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * (len(truth) - positive))


def classifier_auc(real, synthetic, seed=0):
    """Return the AUC of a logistic classifier of real against synthetic windows, tested on the half it has not seen."""
    rng = np.random.default_rng(seed)
    size = min(len(real), len(synthetic))
    synthetic = synthetic[np.sort(rng.choice(len(synthetic), size, replace=False))]
    real = real[np.linspace(0, len(real) - 1, size).astype(int)]
    x = np.concatenate([patch_features(real), patch_features(synthetic)])
    y = np.repeat([True, False], size)
    train = np.tile(np.arange(size) < size // 2, 2)  # windows are in slice (real) or case (synthetic) order
    x = (x - x[train].mean(0)) / x[train].std(0)
    x = np.column_stack([x, np.clip(x * x, 0, 9), np.ones(len(x))])

    def loss(w):
        margin = np.where(y[train], 1, -1) * (x[train] @ w)
        probability = 1 / (1 + np.exp(np.clip(margin, -50, 50)))
        gradient = -x[train].T @ (np.where(y[train], 1, -1) * probability) / train.sum() + 0.01 * w
        return np.logaddexp(0, -margin).mean() + 0.005 * w @ w, gradient

    weights = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x
    return area_under_curve(x[~train] @ weights, y[~train])


def voxel_sample(case, rng, count=60_000):
    """Return log intensities (three phases, over the case's median) of random breast voxels, and which are lesion."""
    breast = np.isin(case.tissue.array, [Tissue.FAT, Tissue.FIBROGLANDULAR, Tissue.VESSEL, Tissue.LESION])
    at = np.flatnonzero(breast)
    scale = np.median(case.pre.array.ravel()[at])
    at = rng.choice(at, min(count, len(at)), replace=False)
    phases = (case.pre, case.post[0], case.post[-1])
    values = np.stack([np.log(np.maximum(v.array.ravel()[at], 1) / scale) for v in phases], axis=1)
    return values.astype(np.float32), case.lesion.array.ravel()[at]


def intensity_classifier_dice(samples):
    """Return the mean Dice of a classifier that knows the joint histogram of single-voxel intensities, on unseen cases.

    The share of lesion in 24 x 24 x 24 bins of the even cases, thresholded for the best pooled Dice there, is used on
    the odd ones; the second figure takes the threshold that is best for each odd case.
    """
    train, test = samples[::2], samples[1::2]
    edges = [np.quantile(np.concatenate([v[:, n] for v, _ in train]), np.linspace(0, 1, 25)[1:-1]) for n in range(3)]

    def cell(values):
        return np.ravel_multi_index([np.searchsorted(e, values[:, n]) for n, e in enumerate(edges)], (24,) * 3)

    cells = np.concatenate([cell(v) for v, _ in train])
    truth = np.concatenate([t for _, t in train])
    lesion, all_ = (np.bincount(cells[m], minlength=24**3) for m in (truth, slice(None)))
    share = lesion / np.maximum(all_, 1)
    levels = np.linspace(0.02, 0.9, 45)
    chosen = max(levels, key=lambda level: 2 * lesion[share > level].sum() / (all_[share > level].sum() + truth.sum()))
    scored = [(share[cell(v)], t) for v, t in test if t.any()]
    learned = np.mean([dice(scores > chosen, t) for scores, t in scored])
    best = np.mean([max(dice(scores > level, t) for level in levels) for scores, t in scored])
    return float(learned), float(best)


def case_row(pre, posts, lesion):
    """Return the figures that real and synthetic cases share, and the texture windows of the first phase after."""
    windows = texture_windows(pre.array, posts[0].array, lesion.array != 0)
    slopes = power_slopes(windows) if len(windows) else np.array([np.nan])
    row = {
        **enhancement(pre, posts, lesion),
        **trivial_dices(pre.array, posts[0].array, lesion.array != 0),
        **walker_dices(pre, posts[0], lesion),
        **{f"power_slope_p{q}": np.percentile(slopes, q) for q in (5, 50, 95)},
        "correlation_along_j": (windows[:, 4:] * windows[:, :-4]).mean() if len(windows) else np.nan,
        "correlation_along_i": (windows[:, :, 4:] * windows[:, :, :-4]).mean() if len(windows) else np.nan,
    }
    return row, windows


def read_real_case(folder):
    """Return pre, posts and lesion of a real case."""
    named = {name: read_volume(next(Path(folder).glob(f"*_{name}.nrrd"))) for name in ("pre", "post1", "post2")}
    lesion = read_volume(next(Path(folder).glob("*_lesion_clean.nrrd")))
    return named["pre"], [named["post1"], named["post2"]], lesion


def digest(volumes: list[Volume]) -> str:
    """Return a hash of voxels and geometry."""
    total = hashlib.sha256()
    for volume in volumes:
        total.update(np.ascontiguousarray(volume.array).tobytes())
        total.update(volume.ijk_to_ras.tobytes())
    return total.hexdigest()[:16]


def summarize(rows, samples, real_windows, synthetic_windows):
    """Print medians and 5-95 % ranges, class mix, and the classifiers."""
    numbers = [
        name for name, value in rows[-1].items() if isinstance(value, (int, float, np.number)) and name != "seed"
    ]
    for name in numbers:
        values = np.array([row[name] for row in rows if row.get(name, "") != ""], dtype=float)
        low, middle, high = np.nanpercentile(values, [5, 50, 95])
        print(f"{name:28s} {low:9.3f} {middle:9.3f} {high:9.3f}   mean {np.nanmean(values):.3f}")
    for name in ("kind", "protocol", "initial_class", "late_class"):
        values, counts = np.unique([row[name] for row in rows], return_counts=True)
        print(name, dict(zip(values.tolist(), (counts / len(rows)).round(3).tolist(), strict=True)))
    for kind in sorted({row["kind"] for row in rows}):
        own = [row for row in rows if row["kind"] == kind]
        print(kind, {n: round(float(np.mean([r[n] for r in own])), 3) for n in numbers if n.startswith("dice")})
    learned, best = intensity_classifier_dice(samples)
    print(f"voxel classifier on unseen cases: Dice {learned:.3f}, with each case's best threshold {best:.3f}")
    if len(real_windows) and len(synthetic_windows):
        print("real against synthetic windows, AUC", round(classifier_auc(real_windows, synthetic_windows), 3))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", required=True)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--real", help="folder of a real case")
    options = parser.parse_args()
    rows, samples, synthetic_windows, real_windows = [], [], [], np.empty((0, WINDOW, WINDOW))
    if options.real:
        real_row, real_windows = case_row(*read_real_case(options.real))
        print("real case", {k: round(v, 3) if isinstance(v, float) else v for k, v in real_row.items()})
    rng = np.random.default_rng(1)
    for seed in range(options.seed, options.seed + options.cases):
        started = time.perf_counter()
        case = simulate_breast_case(BreastPhantomSettings(small=options.small), seed)
        seconds = time.perf_counter() - started
        row, windows = case_row(case.pre, list(case.post), case.lesion)
        drawn = case.parameters
        gland = case.tissue.array == Tissue.FIBROGLANDULAR
        rise = (case.post[0].array[gland].astype(float) - case.pre.array[gland]) / np.maximum(case.pre.array[gland], 1)
        rows.append(
            {
                "seed": seed,
                "kind": drawn["kind"],
                "protocol": drawn["protocol"]["name"],
                "fat_suppressed": str(drawn["fat_suppressed"]),
                "hash": digest([case.pre, *case.post, case.lesion]),
                "seconds": seconds,
                "gland_enhancement": np.median(rise),
                "spicules_left_out": drawn["spicules_left_out_of_mask"],
                **row,
            }
        )
        samples.append(voxel_sample(case, rng))
        if drawn["fat_suppressed"] and (options.small or drawn["protocol"]["name"] == "trial median"):
            synthetic_windows.append(windows)
        print(f"{seed}: {seconds:.1f} s, default {row['dice_default_post']:.2f}", flush=True)
    with Path(options.output).open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    summarize(rows, samples, real_windows, np.concatenate(synthetic_windows) if synthetic_windows else [])


if __name__ == "__main__":
    main()
