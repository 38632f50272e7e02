"""Take scanner effects out of features (ComBat), fitted on training cases and frozen for all others.

Johnson, Li and Rabinovic 2007, doi 10.1093/biostatistics/kxj037; for images Fortin et al. 2017,
doi 10.1016/j.neuroimage.2017.08.047. The outcome has no place here: covariates are what the scanner effect must not
swallow (age, density), known for every future patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from BreastBiomarkersLib.errors import InputError
from numpy.typing import NDArray

from RadiomicsPanelLib.study import Study

LEAST_BATCH, ADVISED_BATCH = 5, 20

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Covariates:
    """How clinical columns become numbers: the values of text columns that were seen, the first being the reference.

    Attributes
    ----------
    names : tuple of str
    levels : tuple of (tuple of str or None)
        For each column its values, or None for a number.
    """

    names: tuple[str, ...]
    levels: tuple[tuple[str, ...] | None, ...]

    @staticmethod
    def of(study: Study, names: Sequence[str]) -> Covariates:
        """Return the encoding of the columns as they are in a study.

        Raises
        ------
        InputError
            If a column is not there.
        """
        levels = tuple(
            None if study.is_numeric(name) else tuple(sorted({t for t in study.texts(name) if t})) for name in names
        )
        return Covariates(tuple(names), levels)

    def encode(self, study: Study) -> Array:
        """Return (n, q) numbers.

        Raises
        ------
        InputError
            If a value is missing or was not seen when the encoding was made.
        """
        columns: list[Array] = []
        for name, levels in zip(self.names, self.levels, strict=True):
            for text, case in zip(study.texts(name), study.cases, strict=True):
                if not text or (levels is not None and text not in levels):
                    wrong = f"the unknown value '{text}'" if text else "no value"
                    raise InputError(f"Covariate '{name}' has {wrong} in case '{case}'.")
            if levels is None:
                columns.append(study.numbers(name))
            else:
                columns += [np.array([float(t == level) for t in study.texts(name)]) for level in levels[1:]]
        return np.stack(columns, axis=1) if columns else np.zeros((len(study.cases), 0))


@dataclass(frozen=True, eq=False)
class Combat:
    """Frozen estimates of a scanner correction for p features, b scanners and q covariates.

    Attributes
    ----------
    batches : tuple of b str
    mean : (p,) ndarray
        Of the training cases at covariates 0.
    coefficients : (q, p) ndarray
        Effect of the covariates, which is kept.
    scale : (p,) ndarray
        Standard deviation within scanners.
    shift, spread : (b, p) ndarray
        Additive and multiplicative effect of each scanner, in units of `scale`.
    warnings : tuple of str
    """

    batches: tuple[str, ...]
    mean: Array
    coefficients: Array
    scale: Array
    shift: Array
    spread: Array
    warnings: tuple[str, ...] = ()

    def apply(self, values: Array, batches: Sequence[str], covariates: Array | None = None) -> Array:
        """Return the (n, p) features without the scanner effects; not a number for features that were left out.

        Raises
        ------
        InputError
            If a scanner was not among the training cases: its effect is unknown.
        """
        unseen = sorted(set(batches) - set(self.batches))
        if unseen:
            raise InputError(
                f"The scanner '{unseen[0]}' was not among the training cases ({', '.join(self.batches)}), so its "
                "effect is unknown. Leave its cases out, or add some of them to the training cases."
            )
        index = np.array([self.batches.index(batch) for batch in batches])
        kept = self.mean + _part(covariates, len(values)) @ self.coefficients
        standardized = (values - kept) / self.scale
        return (standardized - self.shift[index]) / self.spread[index] * self.scale + kept


def fit_combat(values: Array, batches: Sequence[str], covariates: Array | None = None) -> Combat:
    """Return the scanner effects of training cases, shrunk toward their mean over the features (empirical Bayes).

    Parameters
    ----------
    values : (n, p) ndarray
        A feature with missing (not a number) values is left out: it comes out as not a number.
    batches : sequence of n str
        Scanner or protocol of each row.
    covariates : (n, q) ndarray, optional
        What is kept, never the outcome.

    Raises
    ------
    InputError
        If there are fewer than two scanners, one has fewer than five cases, or covariates cannot be told apart from
        scanners.

    Notes
    -----
    ``y = mean + X beta + scale (shift_b + spread_b e)``, spread being the square root of the variance ratio.
    """
    names = tuple(sorted(set(batches)))
    counts = np.array([list(batches).count(name) for name in names])
    if len(names) < 2:
        raise InputError("Harmonization needs at least two scanners among the training cases.")
    if counts.min() < LEAST_BATCH:
        few = names[int(counts.argmin())]
        raise InputError(
            f"The scanner '{few}' has {counts.min()} training cases; at least {LEAST_BATCH} are needed, "
            f"{ADVISED_BATCH} advised. Leave it out or join it with one of the same model."
        )
    index = np.array([names.index(batch) for batch in batches])
    one_hot = (index[:, None] == np.arange(len(names))).astype(np.float64)
    extra = _part(covariates, len(values))
    design = np.concatenate([one_hot, extra], axis=1)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise InputError("A covariate follows from the scanner or from other covariates. Leave it out.")
    complete = np.isfinite(values).all(axis=0)
    data = np.where(complete, values, 0.0)
    fitted = np.linalg.lstsq(design, data, rcond=None)[0]
    mean = counts / len(values) @ fitted[: len(names)]
    coefficients = fitted[len(names) :]
    pooled = ((data - design @ fitted) ** 2).mean(axis=0)
    varies = pooled > (1e-12 * np.abs(data).max(axis=0)) ** 2
    scale = np.where(varies, np.sqrt(np.where(varies, pooled, 1.0)), 1.0)
    standardized = (data - mean - extra @ coefficients) / scale
    shift = np.array([standardized[index == b].mean(axis=0) for b in range(len(names))])
    variance = np.array([standardized[index == b].var(axis=0, ddof=1) for b in range(len(names))])
    spread = np.ones_like(variance)
    usable = complete & varies & (variance > 1e-12).all(axis=0)
    for b in range(len(names)):
        if usable.sum() > 1:
            shift[b, usable], variance[b, usable] = _shrink(
                standardized[index == b][:, usable], shift[b, usable], variance[b, usable]
            )
        spread[b, usable] = np.sqrt(variance[b, usable])
        shift[b, ~complete] = np.nan
    small = [f"'{name}' ({count})" for name, count in zip(names, counts, strict=True) if count < ADVISED_BATCH]
    warnings = (f"fewer than {ADVISED_BATCH} training cases: scanner {', '.join(small)}",) if small else ()
    return Combat(names, mean, coefficients, scale, shift, spread, warnings)


def harmonize(
    study: Study, batch: str, covariates: Sequence[str] = (), training: NDArray[np.bool_] | None = None
) -> tuple[Study, Combat]:
    """Return the study without scanner effects, estimated on the training rows alone (default: all rows).

    Raises
    ------
    InputError
        As `fit_combat` and `Combat.apply`, or if a row names no scanner.
    """
    batches = study.texts(batch)
    if "" in batches:
        raise InputError(f"Case '{study.cases[batches.index('')]}' has no '{batch}'.")
    rows = np.ones(len(batches), dtype=bool) if training is None else training
    if not rows.any():
        raise InputError("No row is a training case.")
    encoding = Covariates.of(study.rows(rows), covariates)
    encoded = encoding.encode(study)
    fitted = fit_combat(study.values[rows], [b for b, r in zip(batches, rows, strict=True) if r], encoded[rows])
    return replace(study, values=fitted.apply(study.values, batches, encoded)), fitted


def _part(covariates: Array | None, count: int) -> Array:
    return np.zeros((count, 0)) if covariates is None else covariates


def _shrink(data: Array, shift: Array, variance: Array) -> tuple[Array, Array]:
    """Return the posterior shift and variance of one scanner, the prior coming from all its features.

    ``shift ~ N(m, t2)``, ``variance ~ InverseGamma(a, b)`` by the method of moments; conditional means to convergence.
    """
    n = len(data)
    prior_mean, prior_variance = shift.mean(), shift.var(ddof=1)
    m, s2 = variance.mean(), variance.var(ddof=1)
    if prior_variance <= 0 or s2 <= 0:
        return shift, variance
    a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
    raw_shift, new_shift, new_variance = shift, shift, variance
    for _ in range(1000):
        before = new_shift, new_variance
        new_shift = (n * prior_variance * raw_shift + new_variance * prior_mean) / (n * prior_variance + new_variance)
        new_variance = (0.5 * ((data - new_shift) ** 2).sum(axis=0) + b) / (n / 2 + a - 1)
        if max(np.abs(new_shift - before[0]).max(), np.abs(new_variance - before[1]).max()) < 1e-9:
            break
    return new_shift, new_variance
