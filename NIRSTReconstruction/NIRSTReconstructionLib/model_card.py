"""The model card: what a trained network is, learned from, and may be used for, in words beside its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from BreastBiomarkersLib.files import atomic_path

_WHAT = {
    "hybrid": "refines images of one Gauss-Newton step beside the MRI; any outline, optode layout and wavelengths of "
    "the extinction table",
    "znet": "Z-Net after Feng 2022: images from raw light and MRI; only the optode layout below",
    "ynet": "Y-Net after Lan 2020: images from raw light and MRI; only the optode layout below",
    "no-mri": "Z-Net without its MRI half; only the optode layout below",
    "mri-only": "Z-Net without its light half: a yardstick that cannot know concentrations, not for use",
}


def write_model_card(path: str | Path, record: dict[str, Any], parameters: int) -> None:
    """Write the card of a network from the record of its weights file."""
    settings, data = record["settings"], record["data"]
    low, high = record["background"]["low"], record["background"]["high"]
    history = record["history"]
    phantoms = sum(one["count"] for one in data)
    lines = [
        f"# {settings['network']}, {parameters:,} parameters",
        "",
        f"- **What it does:** {_WHAT[settings['network']]}.",
        f"- **Trained:** {record['epochs']} epochs, seed {settings['seed']}, {settings['pixels']} pixels across 82 mm, "
        f"torch {record['torch']}.",
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
        "",
    ]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")


def _set_in_words(one: dict[str, Any]) -> str:
    x, y = one["half_axes_mm"]
    return (
        f"{one['count']:,} of `{one['preset']}`, seed {one['seed']}, half axes {x:g} x {y:g} mm, {one['fiber_count']} "
        f"fibers, {one['source_model']} sources, {one['no_contrast']:.0%} without optical contrast, "
        f"{one['mri_invisible']:.0%} invisible in the MRI"
    )


def _variation_in_words(variation: dict[str, Any]) -> str:
    parts = [
        f"{name.replace('_', ' ')} {low:g} to {high:g}"
        for name, (low, high) in ((k, v) for k, v in variation.items() if not isinstance(v, bool))
        if high > 0
    ]
    return ", ".join(parts) + (", turned and mirrored" if variation["rotate"] else "")


def _light_in_words(scale: dict[str, Any] | None) -> str:
    if scale is None:
        return "images of one step, fiber gains projected out"
    mean = ", ".join(f"{value:.4f}" for value in scale["mean"])
    sd = ", ".join(f"{value:.4f}" for value in scale["sd"])
    return f"ln (light / uniform reference), per wavelength less {mean}, divided by {sd}"
