"""Command line of WeakSegment: `python -m WeakSegmentLib <command>`; each command is one `_add_*` function below."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from BreastBiomarkersLib import command_line
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path, require_file
from BreastBiomarkersLib.points import read_points
from BreastBiomarkersLib.progress import Progress, portion
from BreastBiomarkersLib.volume import SUFFIXES, read_volume, write_volume

from WeakSegmentLib.breast_parameters import DIAMETER_RANGE_MM, KINDS, BreastPhantomSettings
from WeakSegmentLib.breast_phantom import simulate_breast_cohort
from WeakSegmentLib.metrics import score
from WeakSegmentLib.points import ExtremePoints
from WeakSegmentLib.segmentation import Click, segment_by_random_walk
from WeakSegmentLib.settings import METHODS, NetworkSettings, RandomWalkSettings, Settings
from WeakSegmentLib.training_settings import METHODS as TRAINING_METHODS
from WeakSegmentLib.training_settings import PRESETS, TrainingSettings, settings_from_json


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0 done, 2 bad input, 130 cancelled."""
    return command_line.run(build_parser(), arguments)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all commands."""
    parser = argparse.ArgumentParser(prog="python -m WeakSegmentLib", description="Lesion masks from six points.")
    commands = parser.add_subparsers(metavar="command", required=True)
    for add_command in (_add_segment, _add_simulate, _add_train, _add_predict):
        add_command(commands)
    return parser


def _add_segment(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "Segment one lesion from six extreme points with a random walker."
    parser = commands.add_parser("segment", help=text, description=text)
    images = f"({', '.join(SUFFIXES)})"
    parser.add_argument(
        "--image", required=True, metavar="FILE", help=f"image, for example a post-contrast phase {images}"
    )
    parser.add_argument("--pre", metavar="FILE", help="pre-contrast image on the same grid; it is subtracted")
    parser.add_argument(
        "--points",
        required=True,
        metavar="FILE",
        help="the six extreme points in any order, RAS mm (.mrk.json, .fcsv, or .csv with columns x, y, z)",
    )
    parser.add_argument(
        "--method",
        choices=sorted(METHODS, reverse=True),
        default=RandomWalkSettings.method,
        help="random-walk: this extension's (default); network: the same, corrected by a network trained on synthetic "
        "lesions; published: the initial mask of Zhong and Wang, MICCAI 2023",
    )
    parser.add_argument(
        "--output", required=True, metavar="FILE", help=f"mask to write: 1 lesion, 0 elsewhere {images}"
    )
    parser.add_argument(
        "--reference", metavar="FILE", help="mask to compare with (non-zero is lesion): Dice, Jaccard, distances in mm"
    )
    parser.add_argument(
        "--pseudo-mask", metavar="FILE", help="also write the training label: 0 background, 1 tumor, 2 unlabeled"
    )
    parser.add_argument(
        "--score", metavar="FILE", help="also write the walker's score, 0 to 1 (ranks voxels; no probability)"
    )
    parser.add_argument("--record", metavar="FILE", help="also write every input and constant of the run (.json)")

    own = parser.add_argument_group("for --method random-walk and network")
    own.add_argument(
        "--tumor-clicks", metavar="FILE", help="points that are lesion but were missed (files as --points)"
    )
    own.add_argument("--background-clicks", metavar="FILE", help="points that are not lesion but were taken for it")
    own.add_argument(
        "--longest-side",
        type=int,
        metavar="VOXELS",
        help=f"working resolution: voxels along the longest box side (default {RandomWalkSettings.longest_side})",
    )
    own.add_argument(
        "--exclude-non-enhancing",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="leave out voxels inside the box that do not enhance (default on; turn off without contrast agent)",
    )
    own.add_argument(
        "--noise-multiple",
        type=float,
        metavar="SD",
        help="intensity differences that separate tissues, in noise standard deviations "
        f"(default {RandomWalkSettings.noise_multiple:g}; 3 for plain T1)",
    )
    network = parser.add_argument_group("only for --method network")
    network.add_argument("--weights", metavar="FILE", help="lesion network (.safetensors; default the shipped one)")
    network.add_argument(
        "--refine-iterations",
        type=int,
        metavar="N",
        help="steps that adapt the network to this lesion, about 0.2 s each (default 0)",
    )
    solver = parser.add_argument_group("for --method random-walk and published")
    solver.add_argument(
        "--device", metavar="NAME", help="solve on a torch device, such as cuda (default: SciPy on the CPU)"
    )
    both = parser.add_argument_group("for all methods")
    both.add_argument(
        "--repetitions",
        type=int,
        metavar="N",
        help=f"walks after the first (default {RandomWalkSettings.repetitions}; 3 gives purer training labels)",
    )
    command_line.add_json_option(parser)
    parser.set_defaults(handler=_segment)


def _require_own_files(options: argparse.Namespace) -> None:
    """Require that no file to write is an input or another file to write."""
    taken = {Path(path).resolve() for path in (options.image, options.pre, options.reference, options.points) if path}
    for target in filter(None, (options.output, options.pseudo_mask, options.score, options.record)):
        path = Path(target).resolve()
        if path in taken:
            raise InputError(f"'{target}' is named twice; give each file to write a name of its own.")
        taken.add(path)


def _segment(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    for target in filter(None, (options.output, options.pseudo_mask, options.score)):
        if not str(target).lower().endswith(SUFFIXES):
            raise InputError(f"'{target}' has no known image suffix; use one of {', '.join(SUFFIXES)}.")
    _require_own_files(options)
    settings = _settings(options)
    progress(0.0, "Reading")
    volume = read_volume(options.image)
    pre = read_volume(options.pre) if options.pre else None
    reference = read_volume(options.reference) if options.reference else None
    if reference is not None and not volume.same_grid(reference):
        raise InputError(f"The reference '{reference.name}' is not on the grid of '{volume.name}'. Resample it first.")
    placed = read_points(options.points)
    points = ExtremePoints.from_ras(placed.positions_ras, volume, placed.labels)
    clicks = [
        Click(tuple(position), tumor)
        for path, tumor in ((options.tumor_clicks, True), (options.background_clicks, False))
        if path
        for position in read_points(path).positions_ras.tolist()
    ]
    result = segment_by_random_walk(volume, points, settings, portion(progress, 0.1, 0.9), pre, clicks)

    figures: dict[str, Any] = {
        "volume_ml": result.volume_ml,
        "contrast": result.contrast,
        "seconds": result.record["seconds"],
        "converged": all(solve["converged"] for solve in result.record["solves"]),
    }
    if reference is not None:
        figures |= dataclasses.asdict(score(result.mask, reference))
    progress(0.9, "Writing")
    write_volume(result.mask, options.output)
    if options.pseudo_mask:
        write_volume(result.pseudo_mask, options.pseudo_mask)
    if options.score:
        write_volume(result.score, options.score)
    if options.record:
        with atomic_path(options.record) as temporary:
            temporary.write_text(json.dumps(result.record, indent=1), encoding="utf-8")
    progress(1.0, f"Wrote {Path(options.output).name}")
    return figures


def _settings(options: argparse.Namespace) -> Settings:
    """Return the settings of the chosen method; options that were not given keep their defaults."""
    walk = ("longest_side", "exclude_non_enhancing", "noise_multiple", "repetitions", "device")
    names = (*walk, "weights", "refine_iterations")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    known = {field.name for field in dataclasses.fields(METHODS[options.method]())}
    foreign = sorted(set(given) - known)
    if foreign:
        flags = ", ".join("--" + name.replace("_", "-") for name in foreign)
        fitting = [name for name, make in METHODS.items() if set(given) <= {f.name for f in dataclasses.fields(make())}]
        other = f", or use --method {fitting[0]}" if fitting else ""
        raise InputError(f"The method '{options.method}' has no {flags}. Leave it out{other}.")
    if options.method == NetworkSettings.method:
        _require_learning_packages()
    return METHODS[options.method](**given)


def _add_simulate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "Simulate breast DCE-MRI cases with known lesion and tissues."
    parser = commands.add_parser(
        "simulate",
        help=text,
        description=text + " Each case is a folder of pre.nrrd, post1.nrrd and so on, lesion.nrrd, tissue.nrrd, "
        "points.mrk.json and case.json. Run again after an interruption, it goes on where it stopped.",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the case folders")
    parser.add_argument("--cases", type=int, default=1, metavar="N", help="number of cases (default 1)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the first case; the next has S + 1")
    parser.add_argument("--small", action="store_true", help="voxels of 1.6 x 1 x 1 mm, about 70 x 120 x 100 of them")
    parser.add_argument("--kind", choices=("any", *KINDS), default="any", help="kind of lesion (default any: drawn)")
    low, high = DIAMETER_RANGE_MM
    parser.add_argument(
        "--diameter", type=float, metavar="MM", help=f"lesion diameter, {low:g} to {high:g} mm (default drawn)"
    )
    command_line.add_json_option(parser)
    parser.set_defaults(
        handler=_simulate, kept="the cases written so far are kept; the same command goes on from there"
    )


def _simulate(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    settings = BreastPhantomSettings(options.small, options.kind, options.diameter)
    written = simulate_breast_cohort(options.output, settings, options.cases, options.seed, progress)
    return {"cases": options.cases, "written": written, "already_there": options.cases - written}


def _add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "Train a segmentation network from six points per case (SimPLe, Zhong and Wang, MICCAI 2023)."
    parser = commands.add_parser(
        "train",
        help=text,
        description=text + " The output folder gets the network (model.safetensors), one checkpoint per stage, losses "
        "and pictures. Run again after an interruption, it goes on from the last saved state. Several GPUs: torchrun "
        "--nproc-per-node N -m WeakSegmentLib train ...",
    )
    parser.add_argument(
        "--cases",
        required=True,
        metavar="FILE.csv",
        help="table with the columns case, image (post-contrast), points, and optionally pre (pre-contrast), mask "
        "(truth, for full supervision); paths relative to the table",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of this training")
    parser.add_argument(
        "--method",
        choices=TRAINING_METHODS,
        help="simple: train, fine-tune by propagation, retrain (default); contrastive, crf, partial-ce: the first "
        "stage alone with that loss; full: true masks instead of points",
    )
    parser.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        default="default",
        help="default: the paper's constants; published: also its labels, thresholds and normalization; small: a net "
        "of 84,000 weights on 2 mm voxels, minutes on a CPU",
    )
    parser.add_argument("--seed", type=int, metavar="S", help="of weights and patches (default 0)")
    parser.add_argument(
        "--settings",
        metavar="FILE.json",
        help='any other setting of TrainingSettings by name, such as {"channels": ["post", "subtraction"]}; also '
        "takes the settings.json of an earlier training",
    )
    _add_machine_options(parser)
    command_line.add_json_option(parser)
    parser.set_defaults(handler=_train, kept="the last saved state is kept; the same command goes on from there")


def _train(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    _require_learning_packages()
    from WeakSegmentLib.cohort import read_cohort
    from WeakSegmentLib.train import train

    settings = _training_settings(options)
    _set_threads(options.threads)
    return train(read_cohort(options.cases), options.output, settings, progress, options.device)


def _training_settings(options: argparse.Namespace) -> TrainingSettings:
    """Return the preset with the settings of the file, and over them the options that were given."""
    settings = PRESETS[options.preset]
    if options.settings:
        path = require_file(options.settings, "settings")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            values = values.get("settings", values)
            settings = settings_from_json(values, settings)
        except (ValueError, AttributeError, TypeError) as error:
            raise InputError(f"'{path.name}' does not hold training settings: {error}") from error
    given = {name: getattr(options, name) for name in ("method", "seed") if getattr(options, name) is not None}
    return settings_from_json(given, settings)


def _add_predict(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "Segment an image, or all cases of a table, with a trained network."
    parser = commands.add_parser("predict", help=text, description=text)
    parser.add_argument("--model", required=True, metavar="FILE", help="checkpoint that `train` wrote (.safetensors)")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--image", metavar="FILE", help=f"post-contrast image ({', '.join(SUFFIXES)})")
    what.add_argument(
        "--cases", metavar="FILE.csv", help="table of cases, as for `train`; here lines may do without points"
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="PATH",
        help="mask to write; with --cases a folder, which gets a mask per case, scores.csv, and review.csv, which "
        "lists the most uncertain cases first",
    )
    one = parser.add_argument_group("only with --image")
    one.add_argument("--pre", metavar="FILE", help="pre-contrast image, if the network was trained with one")
    one.add_argument(
        "--points", metavar="FILE", help="six extreme points: nothing outside their box, grown by 10 percent, is kept"
    )
    one.add_argument("--probability", metavar="FILE", help="also write the network's tumor probability")
    one.add_argument("--reference", metavar="FILE", help="mask to compare with")
    _add_machine_options(parser)
    command_line.add_json_option(parser)
    parser.set_defaults(handler=_predict)


def _predict(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    _require_learning_packages()
    from WeakSegmentLib.cohort import read_cohort
    from WeakSegmentLib.predict import predict_cohort, predict_file, read_network

    one = {name: getattr(options, name) for name in ("pre", "points", "probability", "reference")}
    foreign = [f"--{name}" for name, value in one.items() if value is not None]
    if options.cases and foreign:
        raise InputError(f"{foreign[0]} goes with --image only; in a table it is a column.")
    _set_threads(options.threads)
    trained = read_network(options.model, options.device)
    if options.cases:
        return predict_cohort(trained, read_cohort(options.cases, points_needed=False), options.output, progress)
    return predict_file(trained, options.image, options.output, progress=progress, **one)


def _add_machine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 ... (default: a GPU if there is one)")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="CPU threads (default: all cores; small networks are fastest with 1)"
    )


def _set_threads(count: int | None) -> None:
    import torch

    if count is not None and count < 1:
        raise InputError(f"{count} threads cannot compute; use 1 or more.")
    if count is not None:
        torch.set_num_threads(count)


def _require_learning_packages() -> None:
    missing = [name for name in ("torch", "safetensors", "matplotlib") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"Networks need the Python package(s) {', '.join(missing)}. Install them, in Slicer through the PyTorch "
            "extension, elsewhere with pip install 'breastbiomarkers[learning]'."
        )
