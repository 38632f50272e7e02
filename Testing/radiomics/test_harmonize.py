"""ComBat: equal to a reference implementation, removes what was planted, frozen, never asks for the outcome."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from RadiomicsPanelLib import harmonize as module
from RadiomicsPanelLib.cli import main
from RadiomicsPanelLib.harmonize import Covariates, fit_combat, harmonize
from RadiomicsPanelLib.study import read_study
from scipy import stats

REFERENCE = Path(__file__).parent / "data" / "combat_reference.csv"


@pytest.fixture
def planted():
    """Two scanners, 60 features: an outcome effect of 0.8 on the first ten; scanner B shifted by 2, spread by 1.5."""
    rng = np.random.default_rng(3)
    n = 160
    outcome = rng.random(n) < 0.5
    batches = np.where(rng.random(n) < 0.5, "A", "B")
    clean = rng.normal(size=(n, 60))
    clean[:, :10] += 0.8 * outcome[:, None]
    values = np.where(batches[:, None] == "B", 1.5 * clean + 2, clean)
    return values, clean, batches.tolist(), outcome


def test_equals_neurocombat():
    """Numbers of neuroCombat 0.2.12, which stops its iteration at 1e-4."""
    study = read_study(REFERENCE, not_features=("age",))
    raw = study.features([c for c in study.columns if not c.startswith("adjusted_")])
    adjusted = study.features([c for c in study.columns if c.startswith("adjusted_")])
    ours, fitted = harmonize(raw, "scanner", ("age",))
    assert ours.values == pytest.approx(adjusted.values, abs=2e-5)
    assert np.abs(raw.values - adjusted.values).max() > 1
    assert fitted.warnings == ("fewer than 20 training cases: scanner 'A' (14), 'B' (12), 'C' (10)",)


def test_removes_the_scanner_and_keeps_the_biology(planted):
    values, _, batches, outcome = planted
    train = np.arange(len(values)) < 80
    fitted = fit_combat(values[train], batches[:80])
    held_out = fitted.apply(values[~train], batches[80:])
    second = np.array(batches[80:]) == "B"
    before = np.array([stats.ks_2samp(c[second], c[~second]).pvalue for c in values[~train].T])
    after = np.array([stats.ks_2samp(c[second], c[~second]).pvalue for c in held_out.T])
    assert np.mean(before < 0.05) > 0.95
    assert np.mean(after < 0.05) < 0.15
    effects = held_out[outcome[80:]].mean(axis=0) - held_out[~outcome[80:]].mean(axis=0)
    assert effects[:10].mean() / held_out.std(axis=0)[:10].mean() > 0.5
    assert abs(effects[10:].mean()) < 0.1


def test_the_outcome_cannot_be_given():
    for function in (fit_combat, harmonize, module.Combat.apply):
        assert not {"outcome", "y", "target"} & set(inspect.signature(function).parameters)


def test_estimates_are_frozen(planted):
    values, _, batches, _ = planted
    fitted = fit_combat(values[:100], batches[:100])
    all_at_once = fitted.apply(values[100:], batches[100:])
    one_by_one = np.concatenate([fitted.apply(values[n : n + 1], batches[n : n + 1]) for n in range(100, len(values))])
    assert np.array_equal(all_at_once, one_by_one)


def test_covariates_are_kept(planted):
    """Scanner B has the older patients: without the covariate their age effect would be taken for the scanner's."""
    rng = np.random.default_rng(4)
    batches = ["A"] * 60 + ["B"] * 60
    age = np.concatenate([rng.normal(50, 5, 60), rng.normal(65, 5, 60)])
    clean = 0.2 * age[:, None] + rng.normal(size=(120, 30))
    values = clean + 3.0 * (np.array(batches) == "B")[:, None]
    kept = fit_combat(values, batches, age[:, None]).apply(values, batches, age[:, None])
    lost = fit_combat(values, batches).apply(values, batches)
    slope = [np.polyfit(age, column.mean(axis=1), 1)[0] for column in (kept, lost)]
    assert slope[0] == pytest.approx(0.2, abs=0.03)
    assert slope[1] < 0.12


def test_missing_and_constant_features():
    rng = np.random.default_rng(5)
    values = rng.normal(size=(40, 4))
    values[3, 1] = np.nan
    values[:, 2] = 7.0
    values[:, 3] = np.repeat([1.0, 2.0], 20)
    batches = ["A"] * 20 + ["B"] * 20
    result = fit_combat(values, batches).apply(values, batches)
    assert np.isfinite(result[:, 0]).all()
    assert np.isnan(result[:, 1]).all()
    assert result[:, 2] == pytest.approx(7.0)
    assert result[:, 3] == pytest.approx(1.5), "a pure scanner offset is taken out"


def test_refusals(planted):
    values, _, batches, _ = planted
    fitted = fit_combat(values, batches)
    with pytest.raises(InputError, match=r"The scanner 'C' was not among the training cases \(A, B\)"):
        fitted.apply(values[:2], ["A", "C"])
    with pytest.raises(InputError, match="at least two scanners"):
        fit_combat(values, ["A"] * len(values))
    with pytest.raises(InputError, match="'C' has 4 training cases; at least 5"):
        fit_combat(values, ["C"] * 4 + batches[4:])
    with pytest.raises(InputError, match="follows from the scanner"):
        fit_combat(values, batches, (np.array(batches) == "A").astype(float)[:, None])


def test_covariate_columns(tmp_path):
    (tmp_path / "t.csv").write_text(
        "case,scanner,age,sex,f\n" + "".join(f"P{n},A,{n},{'fm'[n % 2]},{n}\n" for n in range(6))
    )
    study = read_study(tmp_path / "t.csv", not_features=("age",))
    encoding = Covariates.of(study, ("age", "sex"))
    assert encoding.encode(study).tolist() == [[n, n % 2] for n in range(6)]
    with pytest.raises(InputError, match="Covariate 'sex' has the unknown value 'm' in case 'P1'"):
        Covariates.of(study.rows(np.arange(6) % 2 == 0), ("sex",)).encode(study)


def test_command(tmp_path, capsys):
    table = tmp_path / "table.csv"
    lines = REFERENCE.read_text().splitlines()
    table.write_text(
        "\n".join([lines[0] + ",set", *(f"{line},{'train' if n % 3 else 'test'}" for n, line in enumerate(lines[1:]))])
    )
    output = tmp_path / "out.csv"
    arguments = [
        "harmonize",
        "--table",
        str(table),
        "--batch",
        "scanner",
        "--covariate",
        "age",
        "--output",
        str(output),
    ]
    assert main([*arguments, "--training", "set=train", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["training_rows"], figures["rows"], figures["scanners"]) == (24, 36, ["A", "B", "C"])
    study = read_study(output, not_features=("age",))
    assert len(study.columns) == 16
    assert study.texts("scanner")[0] == "A"
    assert main([*arguments, "--training", "set"]) == 2
    assert "COLUMN=VALUE" in capsys.readouterr().err
