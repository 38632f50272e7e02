"""The model card: what a trained network is, learned from, and may be used for, in words beside its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path

_PAPER_NAMES = {"mse": "MSE", "psnr_db": "PSNR (dB)", "ssim": "SSIM"}
_WHAT = {
    "hybrid": "refines what a fit of the MRI's regions and a smooth field beside them makes of the light, as far as "
    "the regions alone do not explain it; any outline, optode layout and wavelengths of the extinction table",
    "znet": "Z-Net after Feng 2022: images from raw light and MRI; only the optode layout below",
    "ynet": "Y-Net after Lan 2020: images from raw light and MRI; only the optode layout below",
    "no-mri": "Z-Net without its MRI half; only the optode layout below",
    "mri-only": "Z-Net without its light half: a yardstick that cannot know concentrations, not for use",
}


PAPER = {"mse": 0.05, "psnr_db": 43.3, "ssim": 0.99}
"""Water images of Z-Net on matched phantoms in Feng 2022, doi 10.1364/OPTICA.446576."""


def write_model_card(path: str | Path, record: dict[str, Any], parameters: int, further: Sequence[str] = ()) -> None:
    """Write the card of a network from the record of its weights file.

    Parameters
    ----------
    path : str or Path
    record : dict
        See `networks.network_record`.
    parameters : int
        How many numbers the network has learned.
    further : sequence of str
        Lines at the end, such as `table_lines`.
    """
    settings, data = record["settings"], record["data"]
    low, high = record["background"]["low"], record["background"]["high"]
    history = record["history"]
    phantoms = sum(one["count"] for one in data)
    lines = [
        f"# {settings['network']}, {parameters:,} parameters",
        "",
        f"- **What it does:** {_WHAT[settings['network']]}.",
        f"- **Trained:** {record['epochs']} epochs, seed {settings['seed']}, {settings['pixels']} pixels across 82 mm, "
        f"{_precision_in_words(settings)}torch {record['torch']}.",
        f"- **Data:** {phantoms:,} simulated phantoms in {len(data)} sets; of each set the last "
        f"{settings['validation_share']:.0%} were watched, not learned. No patient, no measurement.",
        *(f"  - {_set_in_words(one)}" for one in data),
        f"- **Backgrounds:** HbO {low[0]:.1f} to {high[0]:.1f} uM, HbR {low[1]:.1f} to {high[1]:.1f} uM, water "
        f"{low[2]:.0f} to {high[2]:.0f} %. Outside of them the network has seen nothing.",
        f"- **Each look at a phantom varies:** {_variation_in_words(settings['variation'])}.",
        f"- **Wavelengths:** {', '.join(f'{nm:g}' for nm in record['wavelengths_nm'])} nm; extinction table "
        f"{', '.join(record['extinction_tables'])}.",
        f"- **Optode layouts:** {', '.join(record['layout_ids'])}.",
        f"- **Light is given as** {_light_in_words(record['light_scale'])}.",
        f"- **On the watched phantoms:** mean squared error {history['validation_mse']:.4f} in standardized units; "
        f"PSNR HbO {history['validation_psnr_hbo']:.1f}, HbR {history['validation_psnr_hbr']:.1f}, water "
        f"{history['validation_psnr_water']:.1f} dB.",
        "- **Not for diagnosis.** Light diffuses in two dimensions here, lesions are round and sharp, tissue between "
        "them is uniform.",
        *further,
        "",
    ]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")


def table_lines(rows: Sequence[Mapping[str, str]], method: str, yardstick: str = "mri-only") -> list[str]:
    """Return the part of a card that tells how a network did in the table of `evaluate`.

    Parameters
    ----------
    rows : sequence of mapping
        Of the table, all sets and methods.
    method : str
        The network's name in the table.
    yardstick : str
        The network that never sees the light; its contrast error stands beside.

    Raises
    ------
    InputError
        If the network is not in the table.
    """
    own = [row for row in rows if row["method"] == method and row["chromophore"] == "water"]
    if not own:
        raise InputError(f"The table has no method '{method}'.")
    lines = [
        "",
        "## On phantoms never seen",
        "",
        "Water, percent; figures over the pixels of the body. A contrast is lesion / background - 1. The yardstick "
        "never sees the light: a network with no smaller contrast error has learned the MRI, not the light.",
        "",
        "| set | phantoms | MSE | PSNR dB | SSIM | true contrast | contrast | its error | yardstick's error |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    beside = {r["set"]: r["contrast_error"] for r in rows if (r["method"], r["chromophore"]) == (yardstick, "water")}
    for row in own:
        cells = [row["set"], row["cases"]]
        cells += [row[f"{figure}_body_mean"] for figure in ("mse", "psnr_db", "ssim")]
        cells += [row["contrast_true"], row["contrast"], row["contrast_error"], beside.get(row["set"], "")]
        lines.append(f"| {' | '.join(cells)} |")
    matched = [row for row in own if row["set"] == "matched"]
    if matched:
        found = ", ".join(f"{name} {matched[0][f'{key}_body_mean']}" for key, name in _PAPER_NAMES.items())
        paper = ", ".join(f"{name} {PAPER[key]:g}" for key, name in _PAPER_NAMES.items())
        lines += ["", f"Feng 2022 reports for its Z-Net on matched phantoms {paper}; here: {found}."]
    return lines


def _set_in_words(one: dict[str, Any]) -> str:
    x, y = one["half_axes_mm"]
    return (
        f"{one['count']:,} of `{one['preset']}`, seed {one['seed']}, half axes {x:g} x {y:g} mm, {one['fiber_count']} "
        f"fibers, {one['source_model']} sources, {one['no_contrast']:.0%} without optical contrast, "
        f"{one['mri_invisible']:.0%} invisible in the MRI"
    )


def _precision_in_words(settings: dict[str, Any]) -> str:
    return "half precision, " if settings.get("bfloat16") else ""


def _variation_in_words(variation: dict[str, Any]) -> str:
    parts = [
        f"{name.replace('_', ' ')} {low:g} to {high:g}"
        for name, (low, high) in ((k, v) for k, v in variation.items() if not isinstance(v, bool))
        if high > 0
    ]
    return ", ".join(parts) + (", turned and mirrored" if variation["rotate"] else "")


def _light_in_words(scale: dict[str, Any] | None) -> str:
    if scale is None:
        return "images that physics makes of it, fiber gains projected out"
    mean = ", ".join(f"{value:.4f}" for value in scale["mean"])
    sd = ", ".join(f"{value:.4f}" for value in scale["sd"])
    return f"ln (light / uniform reference), per wavelength less {mean}, divided by {sd}"
