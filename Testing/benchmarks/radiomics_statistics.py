"""Write radiomics_statistics.csv: what the statistics say of noise, and of a real table beside plain scikit-learn.

    python Testing/benchmarks/radiomics_statistics.py [--cohorts 3] [--data FOLDER] [--output FILE.csv]

Noise: cohorts of 200 cases and 100 features without any relation to the outcome; the area under the ROC curve in nested
cross-validation has to be 0.5 +- 0.1, and no test may be significant after Benjamini-Hochberg. For contrast the same
with 10 features chosen on all cases, outside the folds. Real: the Wisconsin table `stats/wdbc.csv` of `../shared/data`,
in the same outer folds as scikit-learn's plain pipeline (scaling, logistic regression).
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT / "WeakSegment"), str(_ROOT / "RadiomicsPanel")]

import numpy as np  # noqa: E402 - after the number of threads and the path
from RadiomicsPanelLib.association import associate  # noqa: E402
from RadiomicsPanelLib.selection import Evaluation, ModelSettings, evaluate_model  # noqa: E402
from RadiomicsPanelLib.study import Study, read_study  # noqa: E402

CASES, FEATURES, CHOSEN = 200, 100, 10
COLUMNS = ("data", "method", "quantity", "value", "lower", "upper", "wanted", "met")

Row = dict[str, Any]


def noise(seed: int) -> Study:
    """Return a cohort of noise with a balanced outcome and a continuous one."""
    rng = np.random.default_rng(seed)
    cases = tuple(f"P{n}" for n in range(CASES))
    clinical = {
        "outcome": tuple(str(v) for v in rng.permutation([0, 1] * (CASES // 2))),
        "score": tuple(str(v) for v in rng.normal(size=CASES)),
    }
    columns = tuple(f"f{n}" for n in range(FEATURES))
    return Study(cases, ("lesion",) * CASES, cases, columns, rng.normal(size=(CASES, FEATURES)), clinical)


def chosen_on_all(study: Study) -> Study:
    """Return the study with the features that differ most between the outcomes of all cases: the mistake to avoid."""
    positive = np.array(study.clinical["outcome"]) == "1"
    apart = np.abs(study.values[positive].mean(axis=0) - study.values[~positive].mean(axis=0))
    return study.features([study.columns[n] for n in np.argsort(-apart)[:CHOSEN]])


def of_noise(cohorts: int) -> Iterator[Row]:
    """Judge noise."""
    tests, found, raw = 0, 0, 0
    for method in ("lasso", "elastic-net", "pca", "random-forest"):
        areas = [
            evaluate_model(noise(seed), "outcome", ModelSettings(method, repeats=1)).area for seed in range(cohorts)
        ]
        met = "yes" if all(0.4 <= area <= 0.6 for area in areas) else "no"
        yield area_row(f"noise, {cohorts} cohorts, {CASES} x {FEATURES}", method, areas, "0.4 to 0.6") | {"met": met}
    areas = [
        evaluate_model(chosen_on_all(noise(seed)), "outcome", ModelSettings("pca", repeats=1)).area
        for seed in range(cohorts)
    ]
    title = f"noise, {CHOSEN} features chosen outside the folds"
    yield area_row(title, "pca", areas, "what the panel does not offer")
    for seed in range(cohorts):
        results, _ = associate(noise(seed), ["outcome", "score"])
        tests += len(results)
        raw += sum(r.p is not None and r.p < 0.05 for r in results)
        found += sum(r.adjusted_p is not None and r.adjusted_p < 0.05 for r in results)
    about = {"data": f"noise, {tests} tests of {cohorts} cohorts", "method": "Mann-Whitney, Spearman"}
    yield about | {"quantity": "p below 0.05 before adjustment", "value": raw, "wanted": f"about {tests // 20}"}
    met = "yes" if found == 0 else "no"
    yield about | {"quantity": "discoveries after Benjamini-Hochberg", "value": found, "wanted": "0", "met": met}


def area_row(data: str, method: str, areas: list[float], wanted: str) -> Row:
    """Return a row with the mean, smallest and largest area."""
    about = {"data": data, "method": method, "quantity": "nested AUC: mean, smallest, largest", "wanted": wanted}
    return about | {"value": f"{np.mean(areas):.3f}", "lower": f"{min(areas):.3f}", "upper": f"{max(areas):.3f}"}


def of_a_real_table(data: Path) -> Iterator[Row]:
    """Judge the Wisconsin table, and scikit-learn's plain pipeline in the same folds."""
    study, plain = read_study(data / "stats" / "wdbc.csv"), None
    for method in ("lasso", "elastic-net", "pca", "random-forest"):
        judged = evaluate_model(study, "diagnosis", ModelSettings(method, repeats=1))
        about = {"data": f"wdbc, {len(judged.truth)} cases", "quantity": "nested AUC, 95 % limits"}
        if plain is None:
            plain = plain_pipeline(judged)
            beside = {"method": "scikit-learn: StandardScaler, LogisticRegression", "value": f"{plain:.4f}"}
            yield about | beside | {"quantity": "AUC in the same outer folds"}
        limits = {"value": f"{judged.area:.4f}", "lower": f"{judged.lower:.4f}", "upper": f"{judged.upper:.4f}"}
        met = "yes" if abs(judged.area - plain) <= 0.01 else "no"
        yield about | limits | {"method": method, "wanted": "within 0.01 of scikit-learn", "met": met}


def plain_pipeline(judged: Evaluation) -> float:
    """Return the mean area of scikit-learn's own pipeline in the folds of an evaluation."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    areas = []
    for train, test in judged.folds:
        model = make_pipeline(StandardScaler(), LogisticRegression())
        model.fit(judged.study.values[train], judged.truth[train])
        areas.append(roc_auc_score(judged.truth[test], model.predict_proba(judged.study.values[test])[:, 1]))
    return float(np.mean(areas))


def main() -> int:
    """Measure, write the table, and return whether a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", type=int, default=3, help="of noise")
    parser.add_argument("--data", type=Path, default=_ROOT.parent / "shared" / "data")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    missed = False
    with options.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for row in chain(of_a_real_table(options.data), of_noise(options.cohorts)):
            writer.writerow(row)
            file.flush()
            missed |= row.get("met") == "no"
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
