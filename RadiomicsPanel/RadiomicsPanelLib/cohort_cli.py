"""The commands that work on many cases: extraction of a cohort, and the statistics of its table."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
from BreastBiomarkersLib import command_line
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_folder, atomic_path, require_file
from BreastBiomarkersLib.progress import Progress, portion

from RadiomicsPanelLib.association import Association, Correlation, associate
from RadiomicsPanelLib.cohort import extract_cohort
from RadiomicsPanelLib.figures import (
    draw_bland_altman,
    draw_calibration,
    draw_heat_map,
    draw_roc,
    draw_survival,
    draw_volcano,
)
from RadiomicsPanelLib.harmonize import harmonize
from RadiomicsPanelLib.perturb import KINDS, draw_perturbations
from RadiomicsPanelLib.repeatability import GOOD, Model, bland_altman, measure_repeatability, repeated_values
from RadiomicsPanelLib.selection import Method, ModelSettings, evaluate_model
from RadiomicsPanelLib.settings import read_settings
from RadiomicsPanelLib.study import read_study
from RadiomicsPanelLib.survival import CoxSettings, CoxTest, compare_survival, cox_univariate, evaluate_cox
from RadiomicsPanelLib.table import require_table_name

Row = tuple[str | float | None, ...]


def add_commands(commands: Any) -> None:
    """Give an argparse collection of sub-commands those of this file."""
    cohort = commands.add_parser("cohort", help="compute the features of many cases; stopped, it goes on where it was")
    cohort.add_argument(
        "--manifest",
        required=True,
        metavar="FILE_OR_FOLDER",
        help="CSV or JSON with case, image, mask and optionally segments (NAME, LABEL or NAME=LABEL, separated by "
        "semicolons), or a folder with a sub-folder per case",
    )
    cohort.add_argument("--settings", default="mr", metavar="PRESET_OR_FILE", help="as for extract; default mr")
    cohort.add_argument("--feature", action="append", metavar="NAME", help="only this feature or family, repeatable")
    cohort.add_argument(
        "--output", required=True, metavar="FOLDER", help="features.csv, features.parquet, failures.csv, results/"
    )
    cohort.add_argument("--workers", type=int, metavar="N", help="processes; default one less than the cores")
    cohort.add_argument("--scheduler", metavar="ADDRESS", help="a running Dask scheduler instead of own processes")
    cohort.add_argument(
        "--copies",
        type=int,
        metavar="N",
        help="measure N perturbed copies of each segment instead, for `repeatability`",
    )
    cohort.add_argument(
        "--perturb", action="append", choices=KINDS, metavar="KIND", help=f"of {', '.join(KINDS)}; default all"
    )
    cohort.add_argument("--seed", type=int, default=0, metavar="N", help="of the perturbations; default 0")
    cohort.set_defaults(kept="the cases measured so far are kept; the same command goes on from there")
    _finish(cohort, _cohort)

    repeat = commands.add_parser("repeatability", help="ICC and within-subject variation of repeated measurements")
    _add_table_options(repeat, clinical=False)
    repeat.add_argument("--repeat", default="copy", metavar="COLUMN", help="tells repeats apart (reader); default copy")
    repeat.add_argument(
        "--model",
        choices=get_args(Model),
        default="1,1",
        help="1,1 test-retest and perturbed copies (default); 2,1 readers, absolute agreement; 3,1 consistency",
    )
    repeat.add_argument("--output", required=True, metavar="FILE.csv", help="one row per feature")
    repeat.add_argument(
        "--draw", action="append", default=[], metavar="FEATURE", help="Bland-Altman picture, repeatable"
    )
    _add_figure_options(repeat)
    _finish(repeat, _repeatability)

    harmonizing = commands.add_parser("harmonize", help="take scanner effects out of features (ComBat)")
    _add_table_options(harmonizing)
    harmonizing.add_argument("--batch", required=True, metavar="COLUMN", help="scanner or protocol")
    harmonizing.add_argument(
        "--covariate", action="append", default=[], metavar="COLUMN", help="what is kept, never the outcome; repeatable"
    )
    harmonizing.add_argument(
        "--training", metavar="COLUMN=VALUE", help="rows from which the effects are estimated; default all"
    )
    harmonizing.add_argument("--output", required=True, metavar="FILE.csv", help="the table without scanner effects")
    _finish(harmonizing, _harmonize)

    associating = commands.add_parser(
        "associate", help="test every feature against outcomes, p adjusted over all tests"
    )
    _add_table_options(associating)
    associating.add_argument("--outcome", action="append", required=True, metavar="COLUMN", help="repeatable")
    associating.add_argument("--correlation", choices=get_args(Correlation), default="spearman", help="of numbers")
    associating.add_argument("--output", required=True, metavar="FILE.csv", help="one row per test")
    _add_figure_options(associating)
    _finish(associating, _associate)

    model = commands.add_parser("model", help="judge a prediction model by grouped nested cross-validation")
    _add_table_options(model)
    model.add_argument("--outcome", required=True, metavar="COLUMN", help="with two values")
    model.add_argument("--positive", metavar="VALUE", help="the value to predict; default the one that sorts last")
    model.add_argument("--method", choices=get_args(Method), default="lasso")
    model.add_argument("--scanner", metavar="COLUMN", help="take scanner effects out, fitted in each training part")
    model.add_argument(
        "--covariate", action="append", default=[], metavar="COLUMN", help="what the scanner step keeps; repeatable"
    )
    model.add_argument("--reliability", metavar="FILE.csv", help="of `repeatability`; unreliable features are left out")
    model.add_argument("--folds", type=int, default=5, metavar="N", help="outer folds; default 5")
    model.add_argument("--repeats", type=int, default=3, metavar="N", help="of the outer folds; default 3")
    model.add_argument("--permutations", type=int, default=0, metavar="N", help="permutation test; default none")
    model.add_argument("--bootstraps", type=int, default=0, metavar="N", help="optimism of the final fit; default none")
    model.add_argument("--seed", type=int, default=0, metavar="N")
    model.add_argument(
        "--output", required=True, metavar="FOLDER", help="model.json, features.csv, predictions.csv and pictures"
    )
    _add_figure_options(model, folder=False)
    _finish(model, _model)

    surviving = commands.add_parser("survival", help="Kaplan-Meier with log-rank test; Cox models")
    _add_table_options(surviving)
    surviving.add_argument("--time", required=True, metavar="COLUMN", help="to the event or the last visit")
    surviving.add_argument("--event", required=True, metavar="COLUMN", help="1 event, 0 none so far")
    surviving.add_argument("--by", metavar="NAME", help="feature to cut, or column of groups, for Kaplan-Meier")
    surviving.add_argument("--cut", type=float, metavar="X", help="declared before the analysis; default the median")
    surviving.add_argument("--penalized", action="store_true", help="also a Cox model of all features, cross-validated")
    surviving.add_argument("--time-unit", default="", metavar="UNIT", help="for the picture")
    surviving.add_argument("--seed", type=int, default=0, metavar="N")
    surviving.add_argument(
        "--output", required=True, metavar="FOLDER", help="cox.csv, cox_model.json, kaplan_meier picture and table"
    )
    _add_figure_options(surviving, folder=False)
    _finish(surviving, _survival)


def _add_table_options(parser: argparse.ArgumentParser, clinical: bool = True) -> None:
    parser.add_argument("--table", required=True, metavar="FILE.csv", help="wide feature table with a column case")
    if clinical:
        parser.add_argument(
            "--clinical", metavar="FILE.csv", help="outcomes and covariates by case (and patient); default in the table"
        )
    parser.add_argument("--segment", metavar="NAME", help="only rows of this segment")


def _add_figure_options(parser: argparse.ArgumentParser, folder: bool = True) -> None:
    if folder:
        parser.add_argument("--figures", metavar="FOLDER", help="write pictures there; default none")
    parser.add_argument("--figure-format", choices=("png", "svg", "both"), default="png")


def _pictures(options: argparse.Namespace, folder: str | Path, name: str) -> list[Path]:
    """Return the files of a picture in the wanted formats."""
    formats = ("png", "svg") if options.figure_format == "both" else (options.figure_format,)
    return [Path(folder) / f"{name}.{one}" for one in formats]


def _finish(parser: argparse.ArgumentParser, handler: command_line.Handler) -> None:
    command_line.add_json_option(parser)
    parser.set_defaults(handler=handler)


def _cohort(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    copies = (
        [] if options.copies is None else draw_perturbations(options.copies, options.seed, options.perturb or KINDS)
    )
    made = extract_cohort(
        options.manifest,
        read_settings(options.settings),
        options.output,
        options.scheduler,
        progress,
        options.feature,
        options.workers,
        copies,
    )
    return {
        "output": str(made.table),
        "parquet": None if made.parquet is None else str(made.parquet),
        "provenance": str(made.provenance),
        "failures_file": str(made.failures),
        "rows": made.row_count,
        "failures": made.failure_count,
        "entries": made.entry_count,
        "reused": made.reused_count,
        "workers": made.workers,
        "notes": list(made.notes),
    }


def _repeatability(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    require_table_name(options.output)
    study = read_study(options.table, segment=options.segment, repeat=options.repeat)
    result = measure_repeatability(study, options.repeat, options.model)
    rows: list[Row] = []
    for n, feature in enumerate(result.columns):
        parts = [float(part[n]) for part in (*result.icc, result.within_subject_cv)]
        keep = result.icc.lower[n] >= GOOD
        note = "does not vary" if np.isnan(result.icc.value[n]) else ""
        rows.append((feature, int(result.target_counts[n]), *map(_or_none, parts), "yes" if keep else "no", note))
    _write_csv(
        options.output, ("feature", "segments", "icc", "lower", "upper", "within_subject_cv", "keep", "note"), rows
    )
    drawn = []
    if options.draw:
        if options.figures is None or result.repeat_count != 2:
            raise InputError("Bland-Altman pictures need two repeats and a folder (--figures).")
        values, _ = repeated_values(study.features(options.draw), options.repeat)
        for n, feature in enumerate(options.draw):
            agreement = bland_altman(values[:, 0, n], values[:, 1, n])
            for path in _pictures(options, options.figures, f"bland_altman_{feature}"):
                draw_bland_altman(agreement, path, feature)
                drawn.append(path)
    return {
        "output": options.output,
        "features": len(rows),
        "kept": sum(row[6] == "yes" for row in rows),
        "repeats": result.repeat_count,
        "segments_left_out": result.incomplete,
        "figures": [str(path) for path in drawn],
    }


def _harmonize(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    require_table_name(options.output)
    column, equals, value = (options.training or "").partition("=")
    if options.training is not None and not (column and equals):
        raise InputError(f"--training has to be COLUMN=VALUE, not '{options.training}'.")
    names = [options.batch, *options.covariate, *([column] if column else [])]
    study = read_study(options.table, options.clinical, options.segment, names)
    training = np.array([text == value for text in study.texts(column)]) if column else None
    result, fitted = harmonize(study, options.batch, options.covariate, training)
    clinical = [name for name in result.clinical if name != "case"]
    rows: list[Row] = [
        (case, segment, *(result.clinical[name][n] for name in clinical), *map(_or_none, result.values[n].tolist()))
        for n, (case, segment) in enumerate(zip(result.cases, result.segments, strict=True))
    ]
    _write_csv(options.output, ("case", "segment", *clinical, *result.columns), rows)
    left_out = [c for c, bad in zip(result.columns, np.isnan(fitted.mean + fitted.shift[0]), strict=True) if bad]
    return {
        "output": options.output,
        "rows": len(rows),
        "training_rows": len(rows) if training is None else int(training.sum()),
        "scanners": list(fitted.batches),
        "features_left_out": left_out,
        "warnings": [*study.notes, *fitted.warnings],
    }


def _associate(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    require_table_name(options.output)
    study = read_study(options.table, options.clinical, options.segment, options.outcome)
    tests, warnings = associate(study, options.outcome, options.correlation, progress)
    columns = [field.name for field in fields(Association)]
    _write_csv(options.output, columns, [tuple(getattr(test, name) for name in columns) for test in tests])
    drawn = []
    if options.figures is not None:
        groups = options.outcome[0] if not study.is_numeric(options.outcome[0]) else None
        for path in _pictures(options, options.figures, "volcano"):
            draw_volcano(tests, path)
            drawn.append(path)
        for path in _pictures(options, options.figures, "heat_map"):
            draw_heat_map(study, path, groups)
            drawn.append(path)
    return {
        "output": options.output,
        "rows": len(study.cases),
        "tests": sum(test.p is not None for test in tests),
        "below_0.05_unadjusted": sum(test.p is not None and test.p < 0.05 for test in tests),
        "significant": sum(test.adjusted_p is not None and test.adjusted_p < 0.05 for test in tests),
        "figures": [str(path) for path in drawn],
        "warnings": warnings,
    }


def _model(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    settings = ModelSettings(
        options.method,
        options.folds,
        options.repeats,
        permutations=options.permutations,
        bootstraps=options.bootstraps,
        seed=options.seed,
    )
    names = [name for name in (options.outcome, options.scanner, *options.covariate) if name]
    study = read_study(options.table, options.clinical, options.segment, names)
    reliability = None if options.reliability is None else _read_reliability(options.reliability)
    judged = evaluate_model(
        study, options.outcome, settings, options.positive, options.scanner, options.covariate, reliability, progress
    )
    figures = {
        "auc": judged.area,
        "auc_lower": judged.lower,
        "auc_upper": judged.upper,
        "brier": judged.brier,
        "calibration_slope": None if judged.calibration is None else judged.calibration[0],
        "calibration_intercept": None if judged.calibration is None else judged.calibration[1],
        "permutation_p": judged.permutation_p,
        "optimism_corrected_auc": judged.corrected_area,
        "rows": len(judged.truth),
        "positive_rows": int(judged.truth.sum()),
        "patients": len(set(judged.study.patients)),
        "predictors": len(judged.final.coefficients) or len(judged.final.features),
        "warnings": list(judged.warnings),
    }
    with atomic_folder(options.output) as folder:
        about = {"outcome": judged.outcome, "positive": judged.positive, "settings": asdict(settings)}
        text = json.dumps(about | figures | {"final_model": asdict(judged.final)}, indent=1, allow_nan=False)
        (folder / "model.json").write_text(text + "\n", encoding="utf-8")
        rows = zip(
            judged.study.cases, judged.study.segments, judged.truth.tolist(), judged.probabilities.tolist(), strict=True
        )
        _write_csv(folder / "predictions.csv", ("case", "segment", judged.outcome, "probability"), list(rows))
        used = [
            (c, f, judged.importance[c], judged.final.coefficients.get(c))
            for c, f in judged.selection_frequency.items()
        ]
        used.sort(key=lambda row: (-row[1], -row[2]))
        header = ("feature", "selection_frequency", "importance", "coefficient_per_sd")
        _write_csv(folder / "features.csv", header, used)
        for path in _pictures(options, folder, "roc"):
            draw_roc(judged, path)
        for path in _pictures(options, folder, "calibration"):
            draw_calibration(judged, path)
    return {"output": options.output, **figures}


def _survival(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    if options.cut is not None and options.by is None:
        raise InputError("A cut belongs to a feature. Name it by --by.")
    study = read_study(options.table, options.clinical, options.segment, (options.time, options.event))
    figures: dict[str, Any] = {"output": options.output, "rows": len(study.cases)}
    tests, warnings = cox_univariate(study, options.time, options.event, portion(progress, 0.0, 0.4))
    with atomic_folder(options.output) as folder:
        columns = [field.name for field in fields(CoxTest)]
        _write_csv(folder / "cox.csv", columns, [tuple(getattr(test, name) for name in columns) for test in tests])
        figures["significant"] = sum(test.adjusted_p is not None and test.adjusted_p < 0.05 for test in tests)
        if options.by is not None:
            compared = compare_survival(study, options.time, options.event, options.by, options.cut)
            for path in _pictures(options, folder, "kaplan_meier"):
                draw_survival(compared, path, options.time_unit)
            steps = [
                (curve.name, *step)
                for curve in compared.curves
                for step in np.stack([curve.times, curve.survival, curve.lower, curve.upper], axis=1).tolist()
            ]
            _write_csv(folder / "kaplan_meier.csv", ("group", "time", "survival", "lower", "upper"), steps)
            figures["log_rank_p"], figures["cut"] = compared.p, compared.cut
            warnings += [w for w in compared.warnings if w not in warnings]
        if options.penalized:
            settings = CoxSettings(seed=options.seed)
            judged = evaluate_cox(study, options.time, options.event, settings, portion(progress, 0.4, 1.0))
            model = {
                "concordance": judged.concordance,
                "concordance_lower": judged.lower,
                "concordance_upper": judged.upper,
                "penalty": judged.penalty,
                "hazard_ratios_per_sd": judged.hazard_ratios,
                "proportional_p": judged.proportional_p,
                "condition_number": judged.condition_number,
                "settings": asdict(settings),
            }
            (folder / "cox_model.json").write_text(
                json.dumps(model, indent=1, allow_nan=False) + "\n", encoding="utf-8"
            )
            figures |= {name: model[name] for name in ("concordance", "concordance_lower", "concordance_upper")}
            warnings += [w for w in judged.warnings if w not in warnings]
    progress(1.0, "Done")
    return figures | {"warnings": warnings}


def _read_reliability(path: str) -> dict[str, float]:
    """Return feature -> lower ICC limit from a table of `repeatability`; features without one are left out."""
    with require_file(path, "reliability").open(encoding="utf-8", newline="") as file:
        try:
            return {row["feature"]: float(row["lower"]) for row in csv.DictReader(file) if row["lower"]}
        except (KeyError, ValueError, csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"'{path}' is not a table written by `repeatability`. Measure it again.") from error


def _write_csv(path: str | Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(["" if cell is None else cell for cell in row] for row in rows)


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
