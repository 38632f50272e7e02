"""The commands that fit habitats on training segments and divide segments into them."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from BreastBiomarkersLib import command_line
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Progress, portion
from BreastBiomarkersLib.volume import read_volume

from RadiomicsPanelLib.case_options import add_case_options, cases_of
from RadiomicsPanelLib.habitats import (
    Channels,
    HabitatModel,
    compute_habitat_features,
    divide,
    fit_habitats,
    gather_channels,
    read_model,
    threshold_model,
    write_habitats,
    write_model,
)
from RadiomicsPanelLib.maps import compute_feature_maps
from RadiomicsPanelLib.roi import Case, prepare_roi, read_cases
from RadiomicsPanelLib.settings import read_settings
from RadiomicsPanelLib.table import LONG_COLUMNS, value_row, write_rows


def add_commands(commands: Any) -> None:
    """Give an argparse collection of sub-commands those of this file."""
    model = commands.add_parser("habitat-model", help="fit habitats on the segments of training cases together")
    model.add_argument(
        "--case",
        action="append",
        nargs="+",
        required=True,
        metavar="FILE",
        help="a mask, its image and further co-registered images, in one order in all cases; repeat per case",
    )
    model.add_argument("--settings", default="mr", metavar="PRESET_OR_FILE", help="as for extract; default mr")
    _add_channel_options(model)
    _add_fit_options(model)
    model.add_argument("--output", required=True, metavar="FILE.json", help="model to give to `habitats --model`")
    command_line.add_json_option(model)
    model.set_defaults(handler=_fit)

    habitats = commands.add_parser("habitats", help="divide segments into habitats and measure them")
    add_case_options(habitats)
    habitats.add_argument(
        "--channel", action="append", default=[], metavar="FILE", help="further co-registered image, may be repeated"
    )
    _add_channel_options(habitats)
    how = habitats.add_mutually_exclusive_group()
    how.add_argument("--model", metavar="FILE.json", help="from `habitat-model`: the same habitats in every case")
    how.add_argument(
        "--thresholds", type=float, nargs="+", metavar="VALUE", help="one per channel: the image, then --channel, --map"
    )
    _add_fit_options(habitats)
    habitats.add_argument(
        "--output",
        required=True,
        metavar="FOLDER",
        help="<segment>_habitats.seg.nrrd and .json, habitat_features.csv",
    )
    command_line.add_json_option(habitats)
    habitats.set_defaults(handler=_divide)


def _add_channel_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--map", action="append", default=[], metavar="FEATURE", help="feature map of the image as a channel"
    )
    parser.add_argument("--smoothing", type=float, default=1.0, metavar="VOXELS", help="of the channels; default 1")


def _add_fit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, metavar="N", help="habitats; default by silhouette and stability")
    parser.add_argument("--method", default="kmeans", choices=("kmeans", "gmm"), help="default kmeans")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")


def _channels(case: Case, images: list[Any], options: argparse.Namespace, progress: Progress) -> Channels:
    """Return a segment's channels; the names of images are numbered, as files are called differently per case."""
    roi = prepare_roi(case, read_settings(options.settings))
    maps = compute_feature_maps(roi, options.map, progress=progress) if options.map else None
    first = replace(roi, image=roi.image.with_array(roi.image.array, "image"))
    further = [image.with_array(image.array, f"image {n}") for n, image in enumerate(images, 2)]
    return gather_channels(first, further, maps, options.smoothing)


def _fit(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    channels: list[Channels] = []
    for n, files in enumerate(options.case):
        if len(files) < 2:
            raise InputError(f"--case {files[0]} names no image. Give a mask and its image.")
        step = portion(progress, 0.6 * n / len(options.case), 0.6 * (n + 1) / len(options.case))
        step(0.0, f"Reading {Path(files[1]).name}")
        further = [read_volume(path) for path in files[2:]]
        channels += [_channels(case, further, options, step) for case in read_cases(files[1], files[0])]
    model = fit_habitats(channels, options.count, options.method, options.seed, portion(progress, 0.6, 1.0))
    write_model(model, options.output)
    return {"output": options.output, "segments": len(channels), **_figures(model)}


def _divide(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    model = read_model(options.model) if options.model else None
    progress(0.0, "Reading")
    cases = cases_of(options)
    further = [read_volume(path) for path in options.channel]
    output, segments, rows = Path(options.output), [], []
    for n, case in enumerate(cases):
        step = portion(progress, 0.05 + 0.95 * n / len(cases), 0.05 + 0.95 * (n + 1) / len(cases))
        channels = _channels(case, further, options, portion(step, 0.0, 0.5))
        if options.thresholds is not None:
            used = threshold_model(channels, options.thresholds)
        elif model is not None:
            used = model
        else:
            used = fit_habitats([channels], options.count, options.method, options.seed, portion(step, 0.5, 0.9))
        habitats = divide(channels, used)
        values = compute_habitat_features(habitats)
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in case.segment)
        write_habitats(habitats, output / f"{name}_habitats.seg.nrrd")
        write_model(used, output / f"{name}_habitats.json")
        rows += [value_row(case.name, case.segment, "original", v) for v in values]
        found = {v.column: v.value for v in values}
        key_figures = {name: found[f"habitats_{name}"] for name in ("ith_3d", "shannon")}
        segments.append({"segment": case.segment, **key_figures, **_figures(used)})
    write_rows(LONG_COLUMNS, rows, output / "habitat_features.csv")
    progress(1.0, "Done")
    return {"output": options.output, "segments": segments}


def _figures(model: HabitatModel) -> dict[str, Any]:
    return {
        "method": model.method,
        "channels": list(model.channels),
        "habitats": model.count,
        "silhouettes": model.silhouettes or {},
        "stabilities": model.stabilities or {},
        "note": model.note,
    }
