"""The commands `train`, `predict` and `evaluate` of the networks; PyTorch is imported when one of them runs."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from typing import Any

from BreastBiomarkersLib.command_line import add_json_option
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_folder
from BreastBiomarkersLib.progress import Progress, portion
from BreastBiomarkersLib.volume import read_volume, write_volume

from NIRSTReconstructionLib.bulk import TYPICAL_TISSUE
from NIRSTReconstructionLib.fibers import outline_at_fibers, read_fibers
from NIRSTReconstructionLib.forward import SOURCE_MODELS
from NIRSTReconstructionLib.images import IMAGE_UNITS
from NIRSTReconstructionLib.measurements import read_measurements
from NIRSTReconstructionLib.meshing import spline_contour
from NIRSTReconstructionLib.network_method import shipped_networks
from NIRSTReconstructionLib.network_settings import NETWORKS, PRESETS, small
from NIRSTReconstructionLib.nirfast import read_excoef
from NIRSTReconstructionLib.plane import body_contour, body_mask, read_plane
from NIRSTReconstructionLib.reconstruct import holes_in_plane
from NIRSTReconstructionLib.spectra import load_spectra, table_names


def add_train_parser(commands: Any) -> None:
    """Add the sub-command `train`."""
    parser = commands.add_parser(
        "train",
        help="a network, from simulated phantoms",
        description="Trains a network on data sets made by `generate`. Stopped or repeated, it goes on after the last "
        "epoch. Several GPUs: start it with torchrun.",
    )
    parser.add_argument("--network", choices=NETWORKS, default="hybrid", help="default: %(default)s")
    parser.add_argument("--data", nargs="+", required=True, metavar="DIR", help="data sets made by `generate`")
    parser.add_argument(
        "--small", action="store_true", help="the recipe for one CPU core: half the width, 48 pixels, 40 epochs"
    )
    for name, kind, text in (
        ("width", int, "channels at full size"),
        ("pixels", int, "pixels across the 82-mm disc"),
        ("epochs", int, "passes over the data"),
        ("batch", int, "phantoms of a step, per process"),
        ("learning-rate", float, "highest of the one-cycle schedule"),
        ("looks", int, "draws of noise and variation per phantom"),
        ("seed", int, "random seed"),
    ):
        parser.add_argument(f"--{name}", type=kind, metavar="N", help=f"{text} (default: the recipe's)")
    parser.add_argument(
        "--bfloat16", action="store_true", help="half precision on a CPU that has it: twice as fast; a GPU always does"
    )
    parser.add_argument("--device", metavar="NAME", help="cpu or cuda (default: a GPU if there is one)")
    parser.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="folder for model.safetensors, model_card.md, history.csv, curves.png and the state to go on from",
    )
    add_json_option(parser)
    parser.set_defaults(handler=run_train, kept="finished epochs are kept; the same command goes on from there")


def run_train(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Train the network the options describe and return its key figures."""
    _need_torch()
    from NIRSTReconstructionLib.train import train

    settings = small(PRESETS[options.network]) if options.small else PRESETS[options.network]
    names = ("width", "pixels", "epochs", "batch", "learning_rate", "looks", "seed")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    settings = replace(settings, bfloat16=options.bfloat16, **given)
    began = time.perf_counter()
    figures = train(options.data, options.output, settings, progress, options.device)
    return {**figures, "seconds": round(time.perf_counter() - began, 1)}


def add_predict_parser(commands: Any) -> None:
    """Add the sub-command `predict`."""
    parser = commands.add_parser(
        "predict",
        help="chromophore images by a trained network",
        description="Reconstructs HbO, HbR, HbT (uM), water and StO2 (percent) in one plane with one trained network, "
        "or the mean of several. Hybrid networks take any outline and fibers; networks of raw data only the ring of "
        "fibers they learned.",
    )
    parser.add_argument(
        "--network",
        nargs="+",
        required=True,
        metavar="NAME_OR_FILE",
        help="hybrid or znet, as shipped, or weights (.safetensors)",
    )
    parser.add_argument("--optodes", required=True, metavar="FILE", help="fiber tips in mm, as for `reconstruct`")
    parser.add_argument("--data", required=True, metavar="FILE", help="amplitudes, as for `reconstruct`")
    parser.add_argument("--reference-data", metavar="FILE", help="the same instrument on a homogeneous phantom")
    parser.add_argument("--mri", required=True, metavar="FILE", help="MR image (NRRD, NIfTI, MHA)")
    parser.add_argument("--plane", metavar="FILE", help="image plane (default: best plane through the fibers)")
    parser.add_argument("--mask", metavar="FILE", help="body mask on any grid (default: threshold of the MRI)")
    parser.add_argument(
        "--spectra",
        default="nirfast",
        metavar="NAME_OR_FILE",
        help=f"extinction table: {', '.join(table_names())}, or a Nirfast .excoef file (default: %(default)s)",
    )
    parser.add_argument("--noise", type=float, metavar="PERCENT", help="of the amplitudes (default: the file's, or 2)")
    parser.add_argument("--scatter", nargs=2, type=float, metavar=("A", "B"), help="as for `reconstruct`")
    parser.add_argument("--reference-scatter", nargs=2, type=float, metavar=("A", "B"), help="as for `reconstruct`")
    parser.add_argument(
        "--optode-tolerance", type=float, default=5.0, metavar="MM", help="from the outline (default: %(default)g)"
    )
    parser.add_argument(
        "--source-model",
        choices=SOURCE_MODELS,
        default="point",
        help="as for `reconstruct` (default: %(default)s)",
    )
    parser.add_argument("--device", metavar="NAME", help="cpu or cuda (default: a GPU if there is one)")
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="folder for the images (.nrrd), their sd, and result.json"
    )
    add_json_option(parser)
    parser.set_defaults(handler=run_predict)


def run_predict(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Read the files, ask the networks, write the folder, return the key figures.

    Raises
    ------
    InputError
        If PyTorch is missing, a file is missing or damaged, the fibers' place in the MRI is unknown or they do not lie
        on the outline, or a network does not fit the data.
    """
    _need_torch()
    from NIRSTReconstructionLib.networks import read_network
    from NIRSTReconstructionLib.predict import predict

    began = time.perf_counter()
    shipped = shipped_networks()
    paths = [path for given in options.network for path in shipped.get(given, (given,))]
    networks = [read_network(path, options.device) for path in paths]
    fibers, mri = read_fibers(options.optodes), read_volume(options.mri)
    data = [read_measurements(path) for path in (options.data, options.reference_data) if path]
    if options.noise is not None:
        data = [measured.with_noise(options.noise / 100) for measured in data]
    plane = read_plane(options.plane) if options.plane else None
    if plane is None and fibers.planar:
        raise InputError(
            f"The fibers in '{fibers.name}' have two coordinates, so their place in the MRI is unknown. Give --plane."
        )
    plane = plane or fibers.fitted_plane().plane
    mask = read_volume(options.mask) if options.mask else body_mask(mri)
    tips = fibers.detectors[:, :2] if fibers.planar else plane.to_plane(fibers.detectors)[0]
    outline = outline_at_fibers(body_contour(mask, plane), tips, options.optode_tolerance)[0]
    data[0] = data[0].remarking(*holes_in_plane(mri, plane, outline))
    nm = data[0].wavelengths_nm
    is_file = options.spectra.lower().endswith(".excoef")
    amplitude, power = options.scatter or (TYPICAL_TISSUE.scatter_amplitude, TYPICAL_TISSUE.scatter_power)
    result = predict(
        networks,
        data[0],
        fibers,
        spline_contour(outline),
        read_excoef(options.spectra) if is_file else load_spectra(nm, options.spectra),
        mri,
        plane=plane,
        reference=data[1] if len(data) > 1 else None,
        scatter=replace(TYPICAL_TISSUE, scatter_amplitude=amplitude, scatter_power=power),
        reference_scatter=None if options.reference_scatter is None else tuple(options.reference_scatter),
        optode_tolerance_mm=options.optode_tolerance,
        source_model=options.source_model,
        progress=portion(progress, 0.05, 0.95),
    )
    figures = result.summary()
    with atomic_folder(options.output) as folder:
        for name, volume in result.volumes().items():
            unit = IMAGE_UNITS[name.removesuffix("_sd")]
            write_volume(volume, folder / f"{name}.nrrd", {"units": unit, "outside_body": "0"})
        (folder / "result.json").write_text(json.dumps(figures, indent=1, allow_nan=False), encoding="utf-8")
    progress(1.0, "done")
    return {**figures, "output": str(options.output), "seconds": round(time.perf_counter() - began, 2)}


def add_evaluate_parser(commands: Any) -> None:
    """Add the sub-command `evaluate`."""
    parser = commands.add_parser(
        "evaluate",
        help="the table of networks and methods on phantoms never seen",
        description="Fills a table of MSE, PSNR, SSIM and lesion contrast for networks, physics and model-based "
        "methods on matched phantoms and on sets in which something is wrong. Repeated, it does only what is missing.",
    )
    parser.add_argument("--networks", nargs="*", default=[], metavar="FILE", help="weights (.safetensors)")
    parser.add_argument("--data", required=True, metavar="DIR", help="folder in which the test sets are made, once")
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="test sets (default: all)")
    parser.add_argument(
        "--methods",
        nargs="*",
        metavar="NAME",
        help="linear-mmse, guided-step, methods of `reconstruct` (default: these, tikhonov, dri, hard-prior, adaptive)",
    )
    parser.add_argument("--count", type=int, default=2000, metavar="N", help="matched phantoms (default: %(default)s)")
    parser.add_argument(
        "--other-count", type=int, default=200, metavar="N", help="phantoms of other sets (default: %(default)s)"
    )
    parser.add_argument(
        "--slow-count",
        type=int,
        default=20,
        metavar="N",
        help="phantoms for methods of a second and more (default: %(default)s)",
    )
    parser.add_argument("--device", metavar="NAME", help="cpu or cuda (default: a GPU if there is one)")
    parser.add_argument("--note", default="", metavar="TEXT", help="first line of the table: what made it")
    parser.add_argument("--output", required=True, metavar="FILE", help="the table (.csv)")
    add_json_option(parser)
    parser.set_defaults(handler=run_evaluate)


def run_evaluate(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Fill the table and return how many rows it has."""
    _need_torch()
    from NIRSTReconstructionLib.evaluate import evaluate

    names = {name: getattr(options, name) for name in ("sets", "methods") if getattr(options, name) is not None}
    return evaluate(
        options.networks,
        options.data,
        options.output,
        count=options.count,
        other_count=options.other_count,
        slow_count=options.slow_count,
        progress=progress,
        device=options.device,
        note=options.note,
        **names,
    )


def _need_torch() -> None:
    try:
        import safetensors.torch  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"Networks need PyTorch and safetensors, and '{error.name}' is not installed. In Slicer, install the "
            "PyTorch extension; elsewhere `pip install breastbiomarkers[learning]`."
        ) from error
