"""What a paper has to say about the features: a methods paragraph, and rows of the CLEAR and METRICS checklists.

Everything is read from the provenance beside a feature table (and the `model.json` of `model`, where there is one).
What that record cannot know is left to the authors and marked so; nothing is guessed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_folder, require_file

from RadiomicsPanelLib.catalog import FAMILIES
from RadiomicsPanelLib.extract import VERSION
from RadiomicsPanelLib.feature import IBSI
from RadiomicsPanelLib.settings import Settings, settings_from_dict
from RadiomicsPanelLib.table import write_rows

CLEAR = "Kocak 2023, doi 10.1186/s13244-023-01415-8"
METRICS = "Kocak 2024, doi 10.1186/s13244-023-01572-w"
IBSI_2 = "IBSI-2, doi 10.1148/radiol.231319"

BENCHMARK = (
    "This version reproduces, within their tolerances, all 482 reference values of the IBSI-1 digital phantom and "
    "those of CT phantom configurations A to E, and IBSI-2 response maps and feature values of the filters it offers"
)
"""What Testing/radiomics/test_ibsi.py and test_ibsi2.py check; said of the version that they check."""

RECORD, PART, AUTHORS = "from the record", "in part from the record", "for the authors"
"""Who answers an item."""

COLUMNS = ("number", "section", "item", "answered", "answer", "reference")

# Topics in our words; the papers hold the wording to follow.
CLEAR_ITEMS: tuple[tuple[str, str], ...] = (
    ("Title", "radiomics named in the title"),
    ("Abstract", "structured summary"),
    ("Keywords", "keywords that lead to radiomics"),
    ("Introduction", "clinical or scientific background"),
    ("Introduction", "why radiomics"),
    ("Introduction", "objectives"),
    ("Study design", "guidelines and checklists followed"),
    ("Study design", "ethics, consent, data protection"),
    ("Study design", "how the sample size came about"),
    ("Study design", "prospective or retrospective, kind of cohort"),
    ("Study design", "inclusion and exclusion"),
    ("Study design", "flow chart of the technical steps"),
    ("Data", "where the data come from"),
    ("Data", "patients shared with other publications"),
    ("Data", "how data were split"),
    ("Data", "image acquisition"),
    ("Data", "predictors that are not radiomic"),
    ("Data", "reference standard or outcome"),
    ("Segmentation", "how regions were segmented"),
    ("Segmentation", "who segmented"),
    ("Pre-processing", "image pre-processing"),
    ("Pre-processing", "resampling and its parameters"),
    ("Pre-processing", "discretization and its parameters"),
    ("Pre-processing", "image types: original, filtered"),
    ("Feature extraction", "how features were extracted, with software and version"),
    ("Feature extraction", "feature classes"),
    ("Feature extraction", "number of features"),
    ("Feature extraction", "whether other parameters kept their defaults"),
    ("Data preparation", "missing data"),
    ("Data preparation", "class imbalance"),
    ("Data preparation", "reliability of the segmentation"),
    ("Data preparation", "scaling of features"),
    ("Data preparation", "reduction of dimensions"),
    ("Modeling", "algorithm and software"),
    ("Modeling", "training and tuning"),
    ("Modeling", "confounders"),
    ("Modeling", "how the final model was chosen"),
    ("Evaluation", "internal or external testing"),
    ("Evaluation", "performance metrics and why these"),
    ("Evaluation", "uncertainty of the metrics"),
    ("Evaluation", "statistical comparison of performance"),
    ("Evaluation", "comparison with non-radiomic and combined approaches"),
    ("Evaluation", "interpretation of the model"),
    ("Results", "demographic and clinical baseline"),
    ("Results", "flow chart of eligibility"),
    ("Results", "statistics of features: reproducibility, selection"),
    ("Results", "performance of the model"),
    ("Results", "result of the comparison with other approaches"),
    ("Discussion", "main findings"),
    ("Discussion", "earlier work and how it differs"),
    ("Discussion", "practical meaning"),
    ("Discussion", "strengths and limits"),
    ("Open science: data", "images and segmentations shared"),
    ("Open science: data", "feature values shared"),
    ("Open science: code", "pre-processing scripts or settings shared"),
    ("Open science: code", "modeling code shared"),
    ("Open science: model", "final model shared"),
    ("Open science: model", "system ready to use shared"),
)
"""Section and topic of the 58 items of CLEAR, in its numbering."""

METRICS_ITEMS: tuple[tuple[str, str], ...] = (
    ("Study design", "radiomics or machine learning guideline followed"),
    ("Study design", "eligibility gives a representative sample"),
    ("Study design", "reference standard of high quality"),
    ("Imaging data", "more than one center"),
    ("Imaging data", "imaging as in clinical practice"),
    ("Imaging data", "acquisition protocol and parameters"),
    ("Imaging data", "time between imaging and reference standard"),
    ("Segmentation", "method of segmentation described"),
    ("Segmentation", "automated segmentation evaluated"),
    ("Segmentation", "test masks from one reader or tool"),
    ("Image processing and feature extraction", "pre-processing appropriate and described"),
    ("Image processing and feature extraction", "standardized software"),
    ("Image processing and feature extraction", "extraction parameters or their defaults stated"),
    ("Feature processing", "features that are not robust removed"),
    ("Feature processing", "redundant features removed"),
    ("Feature processing", "number of features fits the amount of data"),
    ("Feature processing", "robustness of end-to-end deep learning"),
    ("Preparation for modeling", "data partitioned without leakage"),
    ("Preparation for modeling", "confounders handled"),
    ("Metrics and comparison", "metrics that fit the task"),
    ("Metrics and comparison", "uncertainty given"),
    ("Metrics and comparison", "calibration assessed"),
    ("Metrics and comparison", "one imaging parameter used, or shown to be inferior"),
    ("Metrics and comparison", "compared with a non-radiomic approach, or added value shown"),
    ("Metrics and comparison", "compared with simple statistical models"),
    ("Testing", "internal testing"),
    ("Testing", "external testing"),
    ("Open science", "data available"),
    ("Open science", "code available"),
    ("Open science", "model available"),
)
"""Category and topic of the 30 items of METRICS, in its numbering."""

_AGGREGATIONS = {
    "2D_avg": "per slice and direction, then averaged (IBSI BTW3)",
    "2D_comb": "per slice with directions merged, then averaged (SUJT)",
    "2_5D_avg": "per in-plane direction over all slices, then averaged (JJUI)",
    "2_5D_comb": "merged over in-plane directions and slices (ZW7Z)",
    "3D_avg": "per direction of the 26-neighborhood, then averaged (ITBB)",
    "3D_comb": "merged over all directions of the 26-neighborhood (IAZD)",
}


class _Facts(NamedTuple):
    """What the texts are made of."""

    settings: Settings
    software: str
    source: str
    grid: str
    range: str
    bins: str
    region: str
    filters: str
    families: str
    total: str
    standardized: str
    version_is_ours: bool


def read_provenance(path: str | Path) -> dict[str, Any]:
    """Return the record that `extract` and `cohort` write beside a table.

    Raises
    ------
    InputError
        If the file is missing or no such record.
    """
    return _read_record(path, "provenance", ("version", "versions", "settings", "segments", "columns"))


def read_model(path: str | Path) -> dict[str, Any]:
    """Return the record `model.json` that the command `model` writes.

    Raises
    ------
    InputError
        If the file is missing or no such record.
    """
    names = ("settings", "auc", "auc_lower", "auc_upper", "rows", "positive_rows", "patients", "predictors", "brier")
    return _read_record(path, "model", names)


def describe_methods(record: Mapping[str, Any]) -> str:
    """Return a paragraph for the methods section, in plain English with the numbers that were used.

    Parameters
    ----------
    record : mapping
        From `RadiomicsPanelLib.extract.provenance` or `read_provenance`.

    Raises
    ------
    InputError
        If the record lacks something or holds no segment.
    """
    facts = _facts(record)
    sentences = [
        f"Radiomic features were computed with {facts.software}, after the definitions of the Image Biomarker "
        f"Standardization Initiative ({IBSI}).",
        facts.source,
        facts.grid,
        facts.range,
        facts.bins,
        facts.region,
        facts.filters,
        f"{facts.total}, of the families {facts.families}.",
        facts.standardized,
        f"{BENCHMARK} ({IBSI}; {IBSI_2})." if facts.version_is_ours else "",
        "A feature that is not defined for a region was left empty with the reason; no value was imputed at this step.",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def clear_rows(record: Mapping[str, Any], model: Mapping[str, Any] | None = None) -> list[tuple[str, ...]]:
    """Return the 58 items of CLEAR, in the order of `COLUMNS`; those the records cannot answer are for the authors.

    Raises
    ------
    InputError
        As `describe_methods`.
    """
    facts = _facts(record)
    answers = {
        16: (PART, facts.source),
        21: (RECORD, _join(facts.grid, facts.range)),
        22: (RECORD, facts.grid),
        23: (RECORD, facts.bins),
        24: (RECORD, facts.filters or "Original images only."),
        25: (RECORD, _software_statement(facts)),
        26: (RECORD, f"{_capital(facts.families)}. {facts.standardized}"),
        27: (RECORD, facts.total + "."),
        28: (RECORD, f"All parameters are those of the settings '{facts.settings.name}', stored with the table."),
        29: (PART, "Features that are not defined for a region are empty, with the reason in the column notes."),
        55: (PART, "The provenance file beside the feature table holds all settings; `--settings` reads them back."),
        56: (PART, f"Feature extraction is open source: {facts.software}."),
    }
    if model is not None:
        m = _model_facts(model)
        answers |= {
            15: (PART, m["split"]),
            30: (RECORD, m["balance"]),
            32: (RECORD, "Features were standardized in each training part."),
            33: (RECORD, m["reduction"]),
            34: (RECORD, m["algorithm"]),
            35: (RECORD, m["tuning"]),
            37: (RECORD, m["tuning"]),
            38: (PART, m["split"]),
            39: (PART, m["metrics"]),
            40: (RECORD, m["uncertainty"]),
            43: (PART, "Selection frequency and permutation importance of every feature are in features.csv."),
            46: (PART, "Selection frequency of every feature is in features.csv."),
            47: (RECORD, m["performance"]),
            57: (PART, "model.json holds features, coefficients, means and standard deviations of the final model."),
        }
    return _rows(CLEAR_ITEMS, answers, CLEAR)


def metrics_rows(record: Mapping[str, Any], model: Mapping[str, Any] | None = None) -> list[tuple[str, ...]]:
    """Return the 30 items of METRICS, in the order of `COLUMNS`; those the records cannot answer are for the authors.

    Raises
    ------
    InputError
        As `describe_methods`.
    """
    facts = _facts(record)
    answers = {
        6: (PART, facts.source),
        11: (PART, _join(facts.grid, facts.range, facts.bins, facts.filters)),
        12: (RECORD, _software_statement(facts)),
        13: (RECORD, f"All parameters are in the settings '{facts.settings.name}', stored with the table."),
        29: (PART, f"Feature extraction is open source: {facts.software}."),
    }
    if model is not None:
        m = _model_facts(model)
        answers |= {
            15: (RECORD, m["reduction"]),
            16: (PART, m["balance"]),
            17: (RECORD, "Not applicable: no end-to-end deep learning."),
            18: (RECORD, m["split"]),
            20: (PART, m["metrics"]),
            21: (RECORD, m["uncertainty"]),
            22: (RECORD, m["calibration"]),
            26: (PART, m["split"]),
            30: (PART, "model.json holds features, coefficients, means and standard deviations of the final model."),
        }
    return _rows(METRICS_ITEMS, answers, METRICS)


def write_report(
    record: Mapping[str, Any], folder: str | Path, model: Mapping[str, Any] | None = None
) -> dict[str, Path]:
    """Write `methods.txt`, `clear.csv` and `metrics.csv` into a folder and return their paths by name.

    Raises
    ------
    InputError
        As `describe_methods`, or if the folder cannot be written to.
    """
    text, checklists = describe_methods(record), {"clear": clear_rows(record, model)}
    checklists["metrics"] = metrics_rows(record, model)
    with atomic_folder(folder) as writing:
        (writing / "methods.txt").write_text(text + "\n", encoding="utf-8")
        for name, rows in checklists.items():
            write_rows(COLUMNS, rows, writing / f"{name}.csv")
    return {name: Path(folder) / name for name in ("methods.txt", "clear.csv", "metrics.csv")}


def _read_record(path: str | Path, what: str, names: Sequence[str]) -> dict[str, Any]:
    path = require_file(path, what)
    try:
        record = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"'{path.name}' is not JSON ({error}). Choose the {what} file beside the table.") from error
    missing = [name for name in names if not isinstance(record, dict) or name not in record]
    if missing:
        raise InputError(f"'{path.name}' holds no '{missing[0]}': it is no {what} record. Write it again.")
    return record


def _facts(record: Mapping[str, Any]) -> _Facts:
    """Return the record in words."""
    settings = settings_from_dict(dict(record["settings"]))
    segments, columns = record["segments"], record["columns"]
    if not segments or not columns:
        raise InputError("The record holds no segment or no feature: there is nothing to report.")
    try:
        return _Facts(
            settings,
            _software(record),
            _source(segments),
            _grid(settings),
            _range(settings),
            _bins(settings),
            _region(segments),
            _filters(settings, record),
            *_features(columns, len(settings.filters)),
            record["version"] == VERSION,
        )
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise InputError(f"The record is incomplete ({error!r}). Measure the segments again.") from error


def _software(record: Mapping[str, Any]) -> str:
    names = {"python": "Python", "numpy": "NumPy", "scipy": "SciPy"}
    parts = [f"{names.get(name, name)} {version}" for name, version in record["versions"].items()]
    return f"BreastBiomarkers RadiomicsPanel {record['version']} ({', '.join(parts)})"


def _source(segments: Sequence[Mapping[str, Any]]) -> str:
    """Say how many segments were measured, in voxels of what size."""
    sizes = np.array([segment["source_spacing_kji_mm"] for segment in segments], dtype=float)[:, ::-1]
    low, high = sizes.min(axis=0), sizes.max(axis=0)
    edges = [f"{a:.3g}" if np.isclose(a, b) else f"{a:.3g} to {b:.3g}" for a, b in zip(low, high, strict=True)]
    measured = {(segment["case"], segment["segment"]) for segment in segments}
    cases = len({case for case, _ in measured})
    return (
        f"{_count(len(measured), 'segment')} of {_count(cases, 'image')} {'was' if len(measured) == 1 else 'were'} "
        f"measured; source voxels were {' x '.join(edges)} mm (columns, rows, slices)."
    )


def _grid(settings: Settings) -> str:
    rounding = f"intensities rounded to whole {settings.intensity_unit}" if settings.round_intensities else ""
    if settings.spacing_kji_mm is None:
        return "Images were not resampled" + (f"; {rounding}." if rounding else ".")
    edges = ["unchanged" if size is None else f"{size:g} mm" for size in settings.spacing_kji_mm[::-1]]
    method = {"linear": "trilinear", "cubic": "cubic B-spline"}[settings.interpolation]
    return (
        f"Images were resampled to voxels of {' x '.join(edges)} (columns, rows, slices) by {method} interpolation on "
        f"a grid that shares the image's center{rounding and f', {rounding}'}; masks were interpolated linearly and "
        "kept from 0.5."
    )


def _range(settings: Settings) -> str:
    """Say what re-segmentation left out."""
    unit, steps = settings.intensity_unit, []
    if settings.lower is not None or settings.upper is not None:
        low = "" if settings.lower is None else f"below {settings.lower:g}"
        high = "" if settings.upper is None else f"above {settings.upper:g}"
        steps.append(f"{' or '.join(part for part in (low, high) if part)} {unit}")
    if settings.outlier_sigma is not None:
        steps.append(f"more than {settings.outlier_sigma:g} standard deviations from the region's mean")
    if not steps:
        return "Regions were not re-segmented by intensity."
    return f"Voxels {', then those '.join(steps)} were left out of the intensity mask; shape was measured with them."


def _bins(settings: Settings) -> str:
    unit = settings.intensity_unit
    if settings.discretization == "none":
        return "Intensities were gray levels already and were not discretized."
    if settings.discretization == "bin_count":
        return (
            f"Intensities were discretized into {settings.bin_count} bins of equal width between each region's minimum "
            "and maximum (fixed bin number, IBSI K15C)."
        )
    start = "each region's minimum" if settings.lower is None else f"{settings.lower:g} {unit}"
    bins = f"bins of {settings.bin_width:g} {unit} from {start}"
    return f"Intensities were discretized into {bins} (fixed bin size, IBSI Q3RU)."


def _region(segments: Sequence[Mapping[str, Any]]) -> str:
    """Say how large the regions were, and how many gray levels they had."""
    original = [segment for segment in segments if segment["filter"] == "original"] or list(segments)
    voxels = np.array([segment["intensity_voxels"] for segment in original])
    volumes = np.array([segment["morphological_volume_mm3"] for segment in original]) / 1000
    levels = np.array([segment["occupied_levels"] for segment in original])
    if len(original) == 1:
        return f"The region had {voxels[0]} voxels ({volumes[0]:.3g} ml) and {levels[0]} occupied gray levels."
    return (
        f"Regions had a median of {np.median(voxels):.0f} voxels ({voxels.min()} to {voxels.max()}; "
        f"{volumes.min():.3g} to {volumes.max():.3g} ml) and {np.median(levels):.0f} occupied gray levels "
        f"({levels.min()} to {levels.max()})."
    )


def _filters(settings: Settings, record: Mapping[str, Any]) -> str:
    if not settings.filters:
        return ""
    known = record["filters"]
    shown = []
    for chosen in settings.filters:
        code = known[chosen.label]["ibsi_code"]
        shown.append(f"{chosen.label} ({f'IBSI {code}' if code else 'not standardized'}, boundary {chosen.boundary})")
    return (
        f"Features were also measured in {_count(len(shown), 'filtered image')}: {'; '.join(shown)}; their intensities "
        f"were discretized into {settings.filter_bin_count} bins of equal width and not re-segmented."
    )


def _features(columns: Mapping[str, Mapping[str, Any]], filters: int) -> tuple[str, str, str]:
    """Return the families with their numbers of columns, the total, and what is standardized, in words."""
    of_family = Counter(_family(column) for column in columns)
    titles = {family.name: family.title for family in FAMILIES}
    families = ", ".join(f"{titles[name]} ({number})" for name, number in of_family.items())
    aggregations = [a for a in _AGGREGATIONS if any(column.endswith(f"_{a}") for column in columns)]
    if aggregations:
        families += "; texture matrices were " + " and ".join(_AGGREGATIONS[a] for a in aggregations)
    in_filters = " in the image itself (fewer in filtered ones: shape is not repeated)" if filters else ""
    count = f"{len(columns)} values were computed per region{in_filters}"
    ours = [column for column, about in columns.items() if not about["standardized"]]
    if not ours:
        return families, count, "All of them are standardized by IBSI."
    listed = f": {', '.join(ours)}" if len(ours) <= 8 else " and are marked in the table's provenance"
    return families, count, f"{len(columns) - len(ours)} of them are standardized by IBSI; {len(ours)} are not{listed}."


def _family(column: str) -> str:
    return max((f.name for f in FAMILIES if column.startswith(f"{f.name}_")), key=len)


def _software_statement(facts: _Facts) -> str:
    return f"{facts.software}, definitions of {IBSI}." + (f" {BENCHMARK}." if facts.version_is_ours else "")


def _model_facts(model: Mapping[str, Any]) -> dict[str, str]:
    """Return the record of `model` in words."""
    try:
        s, rows, positive = model["settings"], model["rows"], model["positive_rows"]
        cases = f"{rows} rows of {model['patients']} patients, {positive} of them positive"
        calibration = "could not be fitted: all predictions are alike"
        if model.get("calibration_slope") is not None:
            calibration = f"slope {model['calibration_slope']:.2f}, intercept {model['calibration_intercept']:.2f}"
        more = []
        if model.get("permutation_p") is not None:
            more.append(f"permutation test of the whole procedure p = {model['permutation_p']:.3g}")
        if model.get("optimism_corrected_auc") is not None:
            more.append(f"optimism-corrected AUC {model['optimism_corrected_auc']:.3f}")
        area = f"AUC {model['auc']:.3f} (95 % limits {model['auc_lower']:.3f} to {model['auc_upper']:.3f})"
        return {
            "split": f"Nested cross-validation, {s['folds']} outer folds repeated {s['repeats']} times, grouped by "
            "patient and stratified by outcome; imputing, scaling and selection inside the training parts only.",
            "balance": f"{_capital(cases)}; the final model uses {model['predictors']} predictors.",
            "reduction": f"Of features with a Spearman correlation above {s['max_correlation']:g} in size one was "
            f"kept; then {s['method']}. Both inside each training part.",
            "algorithm": f"Model: {s['method']} (scikit-learn).",
            "tuning": f"Tuned by {s['inner_folds']}-fold cross-validation inside each training part.",
            "metrics": "Area under the ROC curve, Brier score, calibration slope and intercept.",
            "uncertainty": _join(f"95 % limits by bootstrap of patients: {area}.", *(f"{_capital(x)}." for x in more)),
            "calibration": f"Calibration on unseen cases: {calibration}; Brier score {model['brier']:.3f}.",
            "performance": f"{area}; Brier score {model['brier']:.3f}; calibration {calibration}.",
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"The model record is incomplete ({error!r}). Run `model` again.") from error


def _rows(
    items: Sequence[tuple[str, str]], answers: Mapping[int, tuple[str, str]], reference: str
) -> list[tuple[str, ...]]:
    return [
        (str(number), section, item, *answers.get(number, (AUTHORS, "")), reference)
        for number, (section, item) in enumerate(items, 1)
    ]


def _join(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
