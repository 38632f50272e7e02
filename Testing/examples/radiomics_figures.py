"""Draw the radiomics pictures of the README into Docs/: `python Testing/examples/radiomics_figures.py`.

A real breast MRI and a real table where ../shared/data lies beside the checkout; the follow-up of the survival curve is
simulated.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
REAL_CASE = DATA / "segmentation" / "breast_dce_UCSF-BR-08"
REAL_TABLE = DATA / "stats" / "wdbc.csv"
SEED = 1

for module in ("WeakSegment", "RadiomicsPanel"):
    sys.path.append(str(ROOT / module))


def main() -> None:
    """Draw what the data beside the checkout allow."""
    docs = ROOT / "Docs"
    docs.mkdir(exist_ok=True)
    if REAL_CASE.is_dir():
        pre, post1, post2, mask = read_real_case()
        draw_maps(post1, mask, docs / "radiomics-map.png")
        draw_habitats(pre, post1, post2, mask, docs / "radiomics-habitats.png")
    if REAL_TABLE.is_file():
        draw_statistics(REAL_TABLE, docs / "radiomics-statistics.png")


def read_real_case():
    """Return the three phases of UCSF-BR-08 (sagittal breast DCE-MRI, CC BY 3.0) and the mask of its tumor."""
    from BreastBiomarkersLib.volume import read_volume

    return [read_volume(REAL_CASE / f"UCSF-BR-08_{name}.nrrd") for name in ("pre", "post1", "post2", "lesion_clean")]


def draw_maps(image, mask, path: Path) -> None:
    """Draw the MRI and three feature maps of the tumor over it."""
    from RadiomicsPanelLib.maps import compute_feature_maps, map_onto
    from RadiomicsPanelLib.roi import Case, prepare_roi
    from RadiomicsPanelLib.settings import read_settings

    roi = prepare_roi(Case(image, mask, "UCSF-BR-08", "tumor"), read_settings("mr"))
    titles = {
        "stat_mean": "mean",
        "glcm_joint_entropy_3D_avg": "joint entropy (GLCM)",
        "glcm_contrast_3D_avg": "contrast (GLCM)",
    }
    maps = compute_feature_maps(roi, ["stat_mean", "glcm_joint_entropy", "glcm_contrast"], radius=2)
    plane = sagittal_plane(image, mask)
    figure, axes = panels(4)
    show_mri(axes[0], image, mask, plane)
    axes[0].set_title("post-contrast MRI, tumor outlined", fontsize=9)
    for axis, (column, title) in zip(axes[1:], titles.items(), strict=True):
        show_mri(axis, image, None, plane)
        values = map_onto(maps.volume(column), plane).array[0]
        picture = axis.imshow(values, cmap="viridis", origin="lower", interpolation="nearest")
        axis.set_title(title, fontsize=9)
        unit = maps.units[column]
        figure.colorbar(picture, ax=axis, shrink=0.75, label="" if unit == "1" else unit)
    figure.suptitle(f"Feature maps, kernel {2 * maps.radius + 1} mm, {len(roi.intensities)} voxels", fontsize=10)
    save(figure, path)


def draw_habitats(pre, post1, post2, mask, path: Path) -> None:
    """Draw the tumor divided by early enhancement and late change, and how the number of habitats was judged."""
    from dataclasses import replace

    import numpy as np
    from RadiomicsPanelLib.habitats import COLORS, compute_habitat_features, divide, fit_habitats, gather_channels
    from RadiomicsPanelLib.maps import map_onto
    from RadiomicsPanelLib.roi import Case, prepare_roi
    from RadiomicsPanelLib.settings import read_settings

    base = np.maximum(pre.array.astype(float), 1.0)
    early = post1.with_array(100 * (post1.array - pre.array.astype(float)) / base, "early enhancement [%]")
    first = np.maximum(post1.array.astype(float), 1.0)
    late = post1.with_array(100 * (post2.array - first) / first, "late change [%]")
    settings = replace(read_settings("mr"), interpolation="linear", outlier_sigma=None)
    roi = prepare_roi(Case(early, mask, "UCSF-BR-08", "tumor"), settings)
    channels = gather_channels(roi, [late])
    model = fit_habitats([channels], seed=SEED)
    habitats = divide(channels, model)
    features = {v.column: v.value for v in compute_habitat_features(habitats)}
    plane = sagittal_plane(post1, mask)
    figure, axes = panels(3)
    show_mri(axes[0], post1, mask, plane)
    axes[0].set_title("post-contrast MRI, tumor outlined", fontsize=9)
    show_mri(axes[1], post1, None, plane)
    labels = map_onto(habitats.volume.with_array(habitats.labels.astype(float)), plane).array[0]
    for number in range(1, model.count + 1):
        color = np.zeros((*labels.shape, 4))
        color[labels == number] = (*COLORS[number - 1], 0.85)
        axes[1].imshow(color, origin="lower", interpolation="nearest")
        share = features[f"habitat_volume_fraction_h{number}"]
        early_mean, late_mean = habitats.channel_means[number - 1]
        text = f"{share:.0%}: early {early_mean:+.0f} %, late {late_mean:+.0f} %"
        axes[1].plot([], [], "s", color=COLORS[number - 1], label=text)
    axes[1].legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), fontsize=8, frameon=False)
    axes[1].set_title(f"{model.count} habitats, ITH score {features['habitats_ith_3d']:.2f}", fontsize=9)
    counts = sorted(map(int, model.silhouettes))
    for name, values in (("silhouette", model.silhouettes), ("stability (bootstrap)", model.stabilities)):
        axes[2].plot(counts, [values[str(k)] for k in counts], "o-", label=name)
    axes[2].axhline(0.8, color="#777777", linewidth=0.8, linestyle="--", label="stability needed")
    axes[2].set(xlabel="habitats", xticks=counts, ylim=(0, 1.02), box_aspect=1)
    axes[2].legend(fontsize=8, frameon=False)
    axes[2].set_title("number of habitats", fontsize=9)
    save(figure, path)


def draw_statistics(table: Path, path: Path) -> None:
    """Draw the clustered heat map of a real table beside Kaplan-Meier curves of a simulated follow-up."""
    import matplotlib.image
    from matplotlib.figure import Figure
    from RadiomicsPanelLib.figures import draw_heat_map, draw_survival
    from RadiomicsPanelLib.study import read_study
    from RadiomicsPanelLib.survival import compare_survival

    with tempfile.TemporaryDirectory() as folder:
        heat_map, curves = Path(folder) / "heat_map.png", Path(folder) / "kaplan_meier.png"
        draw_heat_map(read_study(table), heat_map, "diagnosis")
        simulated = Path(folder) / "simulated.csv"
        simulate_follow_up(simulated)
        study = read_study(simulated, not_features=("months", "event"))
        draw_survival(compare_survival(study, "months", "event", "heterogeneity"), curves, "months, simulated")
        pictures = [matplotlib.image.imread(one) for one in (heat_map, curves)]
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    widths = [picture.shape[1] / picture.shape[0] for picture in pictures]
    for axis, picture in zip(figure.subplots(1, 2, width_ratios=widths), pictures, strict=True):
        axis.imshow(picture, interpolation="lanczos")
        axis.set_axis_off()
    save(figure, path)


def simulate_follow_up(path: Path, count: int = 160) -> None:
    """Write a table of a feature and a follow-up whose hazard grows with it."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    heterogeneity = rng.normal(size=count)
    event_at = rng.exponential(60 * np.exp(-0.7 * heterogeneity))
    last_visit = rng.uniform(12, 84, count)
    rows = zip(heterogeneity, np.minimum(event_at, last_visit), event_at <= last_visit, strict=True)
    lines = [f"p{n},{value:.4f},{months:.2f},{int(event)}" for n, (value, months, event) in enumerate(rows)]
    path.write_text("\n".join(["case,heterogeneity,months,event", *lines]) + "\n", encoding="utf-8")


def sagittal_plane(image, mask):
    """Return the image's slice with most of the tumor, cut to it, anterior on the left and superior above."""
    import numpy as np
    from BreastBiomarkersLib.volume import Volume

    k = int(np.argmax((mask.array != 0).sum(axis=(1, 2))))
    where = np.argwhere(mask.array[k] != 0)
    low, high = where.min(axis=0) - 20, where.max(axis=0) + 21
    low, high = np.maximum(low, 0), np.minimum(high, image.shape[1:])
    i, j = (image.ijk_to_ras[:3, n] for n in (0, 1))
    first = [low[1], low[0], k]  # in I, J, K order
    columns = [i, j]
    if i[1] > 0:  # grows to the front
        first[0], columns[0] = high[1] - 1, -i
    if j[2] < 0:  # grows to the feet
        first[1], columns[1] = high[0] - 1, -j
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack([*columns, image.ijk_to_ras[:3, 2]])
    matrix[:3, 3] = image.points_to_ras(np.array([first], dtype=float))[0]
    return Volume(np.zeros((1, *(high - low))), matrix, "plane")


def show_mri(axis, image, mask, plane) -> None:
    """Draw the MRI in a plane, and the outline of the mask."""
    import numpy as np
    from RadiomicsPanelLib.maps import map_onto

    values = map_onto(image.with_array(image.array.astype(float)), plane).array[0]
    axis.imshow(values, cmap="gray", vmin=0, vmax=np.nanpercentile(values, 99.7), origin="lower")
    if mask is not None:
        inside = map_onto(mask.with_array((mask.array != 0).astype(float)), plane).array[0]
        axis.contour(inside, levels=[0.5], colors="#ffd400", linewidths=1.4)
    axis.set_axis_off()


def panels(count: int):
    """Return a figure and its axes in one row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * count, 3.6), layout="constrained")
    return figure, figure.subplots(1, count)


def save(figure, path: Path) -> None:
    """Write a figure in 256 colors, which halves the file."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    Image.open(buffer).convert("RGB").quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    main()
