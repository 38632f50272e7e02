"""The command `generate`: a folder of many simulated phantoms, for training and tests."""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from BreastBiomarkersLib.command_line import add_json_option
from BreastBiomarkersLib.progress import Progress

from NIRSTReconstructionLib.dataset import DatasetSettings, generate_dataset
from NIRSTReconstructionLib.forward import SOURCE_MODELS
from NIRSTReconstructionLib.phantoms import PRESETS
from NIRSTReconstructionLib.spectra import PAPER_WAVELENGTHS_NM, table_names


def add_generate_parser(commands: Any) -> None:
    """Add the sub-command `generate` to the parsers made by `add_subparsers`."""
    default = DatasetSettings()
    parser = commands.add_parser(
        "generate",
        help="many simulated phantoms, as training data",
        description="Generates disc phantoms and their noise-free data in shards. Stopped or repeated, it continues "
        "with the shards that are missing. Equal options give equal numbers whatever the number of workers.",
    )
    parser.add_argument("--count", type=int, default=default.count, metavar="N", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=default.seed, metavar="N", help="default: %(default)s")
    parser.add_argument("--preset", choices=tuple(PRESETS), default=default.preset, help="default: %(default)s")
    parser.add_argument("--inclusions", type=int, metavar="N", help="0 to 4 (default: 1 or 2 at random)")
    parser.add_argument(
        "--no-contrast",
        type=float,
        default=0.0,
        metavar="PERCENT",
        help="share of phantoms whose inclusions are only in the MR image (default: %(default)s)",
    )
    parser.add_argument(
        "--mri-invisible",
        type=float,
        default=0.0,
        metavar="PERCENT",
        help="share of phantoms whose inclusions are only in the light (default: %(default)s)",
    )
    parser.add_argument("--fibers", type=int, default=default.fiber_count, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--half-axes",
        nargs=2,
        type=float,
        default=list(default.half_axes_mm),
        metavar=("X", "Y"),
        help="of an elliptic body, in mm (default: %(default)s)",
    )
    parser.add_argument(
        "--wavelengths",
        nargs="+",
        type=float,
        default=list(PAPER_WAVELENGTHS_NM),
        metavar="NM",
        help="in nm (default: %(default)s)",
    )
    parser.add_argument(
        "--spectra", default="nirfast", metavar="NAME", help=f"{', '.join(table_names())} (default: %(default)s)"
    )
    parser.add_argument("--source-model", choices=SOURCE_MODELS, default="line", help="default: %(default)s")
    parser.add_argument(
        "--shard-size",
        type=int,
        default=default.shard_size,
        metavar="N",
        help="phantoms per file (default: %(default)s)",
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes, through Dask if more than 1 (default: 1)"
    )
    parser.add_argument("--scheduler", metavar="ADDRESS", help="a running Dask scheduler, such as tcp://host:8786")
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto: the GPU where PyTorch sees one (default: %(default)s)",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for dataset.json and shard_*.npz")
    add_json_option(parser)
    parser.set_defaults(
        handler=run_generate, kept="the files written so far are kept; the same command goes on from there"
    )


def run_generate(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Generate the data set the options describe and return its key figures."""
    began = time.perf_counter()
    settings = DatasetSettings(
        count=options.count,
        seed=options.seed,
        preset=options.preset,
        inclusion_count=options.inclusions,
        no_contrast=options.no_contrast / 100,
        mri_invisible=options.mri_invisible / 100,
        fiber_count=options.fibers,
        half_axes_mm=tuple(options.half_axes),
        wavelengths_nm=tuple(float(nm) for nm in np.unique(options.wavelengths)),
        extinction_table=options.spectra,
        source_model=options.source_model,
        shard_size=options.shard_size,
    )
    figures = generate_dataset(
        options.output,
        settings,
        workers=options.workers,
        scheduler=options.scheduler,
        device=options.device,
        progress=progress,
    )
    return {**figures, "output": str(options.output), "seconds": round(time.perf_counter() - began, 3)}
