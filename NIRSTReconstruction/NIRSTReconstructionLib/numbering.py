"""Which fiber of a ring is number 1 and which way the numbers run, as far as the measured light tells."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Progress, ignore_progress
from BreastBiomarkersLib.volume import Volume
from numpy.typing import NDArray

from NIRSTReconstructionLib.bulk import TYPICAL_TISSUE
from NIRSTReconstructionLib.calibration import DataSpace, data_space
from NIRSTReconstructionLib.fibers import Fibers
from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.measurements import Measurements
from NIRSTReconstructionLib.meshing import Contour, fill_contour
from NIRSTReconstructionLib.optodes import Optodes, place_optodes
from NIRSTReconstructionLib.plane import Plane, sample_volume
from NIRSTReconstructionLib.point_light import PointLight
from NIRSTReconstructionLib.quality_control import SAME_PLACE_MM
from NIRSTReconstructionLib.spectra import Spectra

NEEDED_EVIDENCE = 6.0
"""Log likelihood ratio to the next best numbering from which the light decides (a factor of 400)."""
NEEDED_GAIN = 1.1
"""The next best numbering must also leave this many times the squared misfit: model errors are no evidence."""
_ELEMENT_MM = 5.0
_FACTOR = 1.6  # of the absorption, to see what a change of it does


class Numbering(NamedTuple):
    """A way to number the fibers.

    Attributes
    ----------
    order : (n,) ndarray of int
        Fiber number k + 1 of the data is at position ``order[k]`` of the fibers as given.
    misfit : float
        Root-mean-square difference of ln I that remains (0.02 is 2 % of the light), gains fitted.
    """

    order: NDArray[np.int64]
    misfit: float


class NumberingFound(NamedTuple):
    """The numbering that explains the light best.

    Attributes
    ----------
    best, given : Numbering
    next_misfit : float
        Of the second best.
    decided : bool
        The light tells the best from the second best.
    words : str
        The outcome for the user.
    """

    best: Numbering
    given: Numbering
    next_misfit: float
    decided: bool
    words: str


def find_numbering(
    measurements: Measurements,
    fibers: Fibers,
    plane: Plane,
    contour: Contour,
    spectra: Spectra,
    lesion: Volume | None = None,
    progress: Progress = ignore_progress,
) -> NumberingFound:
    """Return which of the 2 n numberings around the ring explains the light best: n beginnings, two directions.

    Parameters
    ----------
    measurements : Measurements
    fibers : Fibers
        Each source and detector at once.
    plane : Plane
    contour : Contour
        Outline of the body; what makes the numberings differ is that it is no circle,
    spectra : Spectra
        At the measured wavelengths.
    lesion : Volume, optional
        or that a lesion of unknown absorption is known to be on one side of it.
    progress : Progress

    Raises
    ------
    InputError
        If fibers are not source and detector at once, or the data name others.

    Notes
    -----
    The light of a homogeneous body is computed once between all positions; a numbering picks from it. For each
    numbering and wavelength a gain per source and per detector, the absorption of the body (to second order) and, if
    given, that of the lesion are fitted as linear terms. A perfect ring on a circle leaves all numberings alike.
    """
    count = len(fibers.detectors)
    if len(fibers.sources) != count or np.abs(fibers.sources - fibers.detectors).max() > SAME_PLACE_MM:
        raise InputError("The numbering can be found only for fibers that are source and detector at once.")
    if measurements.channels.max() > count:
        raise InputError(
            f"'{measurements.name}' names fiber {measurements.channels.max()}, but only {count} are placed."
        )
    progress(0.0, "light of a homogeneous body")
    tips = plane.to_plane(fibers.detectors)[0]
    model, column = _all_pairs_model(tips, contour, spectra)
    space = data_space(measurements, "fibers")
    as_given = np.arange(count)
    terms = _terms(model, plane, lesion)
    progress(0.6, "comparing the numberings")
    ring = np.argsort(np.arctan2(*(tips - tips.mean(axis=0)).T[::-1]))
    orders = [np.roll(way, -turn) for way in (ring, ring[::-1]) for turn in range(count)]
    squares = np.array([_misfit(order, column, measurements, space, terms) for order in orders])
    numbers = float(space.freedom.sum())
    best, second = np.argsort(squares)[:2]
    given = _misfit(as_given, column, measurements, space, terms)
    gain = squares[second] / max(squares[best], 1e-30)
    decided = bool(gain > NEEDED_GAIN and 0.5 * numbers * np.log(gain) > NEEDED_EVIDENCE)
    noise = float(np.sqrt(np.mean(measurements.sd[measurements.active] ** 2)))
    rms = noise * np.sqrt(np.append(squares, given) / numbers)
    found = Numbering(orders[best], float(rms[best]))
    words = _words(found, float(rms[-1]), float(rms[second]), decided)
    return NumberingFound(found, Numbering(as_given, float(rms[-1])), float(rms[second]), decided, words)


def _words(best: Numbering, given: float, second: float, decided: bool) -> str:
    if not decided:
        return (
            f"The light does not tell the numberings apart: the best two leave {best.misfit:.1%} and {second:.1%}. The "
            "ring is too even; number the fibers by the cabling."
        )
    if (best.order == np.arange(len(best.order))).all():
        return f"The numbers are right: they leave {best.misfit:.1%} of the light unexplained, others {second:.1%}."
    return (
        f"Fiber 1 of the data is at number {best.order[0] + 1}, fiber 2 at number {best.order[1] + 1}: so numbered "
        f"{best.misfit:.1%} of the light stay unexplained, as given {given:.1%}, otherwise {second:.1%}."
    )


def _all_pairs_model(
    tips: NDArray[np.float64], contour: Contour, spectra: Spectra
) -> tuple[ForwardModel, NDArray[np.int64]]:
    """Return a model of the light in 3-D between all positions, and the column of each pair (n, n)."""
    pairs = np.array([(s, d) for s in range(len(tips)) for d in range(len(tips)) if s != d])
    column = np.zeros((len(tips), len(tips)), dtype=np.int64)
    column[tuple(pairs.T)] = np.arange(len(pairs))
    mesh = fill_contour(contour, _ELEMENT_MM, refine_at=tips)
    musp = float(spectra.musp(TYPICAL_TISSUE.maps(1)).mean())
    line = ForwardModel(mesh, place_optodes(mesh, Optodes(tips, tips, pairs), musp), spectra)
    return PointLight(line), column


class _Terms(NamedTuple):
    light: NDArray[np.float64]  # (W, pairs) of the homogeneous body
    changes: list[NDArray[np.float64]]  # each (W, pairs)


def _terms(model: ForwardModel, plane: Plane, lesion: Volume | None) -> _Terms:
    """Return the light of a typical body and how it changes with the absorption of the body and of the lesion."""
    points = model.mesh.quadrature.points

    def light(where: NDArray[np.bool_], factor: float) -> NDArray[np.float64]:
        maps = TYPICAL_TISSUE.maps(len(points))
        maps[:3, where] *= factor
        return np.asarray(model.measure(maps, at_quadrature=True))

    everywhere = np.ones(len(points), dtype=bool)
    typical, less, more = (light(everywhere, factor) for factor in (1.0, 1 / _FACTOR, _FACTOR))
    changes = [more - less, more - 2 * typical + less]
    if lesion is not None:
        inside = sample_volume(lesion, plane.to_ras(points), nearest=True, outside=0.0) > 0
        if inside.any():
            changes.append(light(inside, _FACTOR) - typical)
    return _Terms(typical, changes)


def _misfit(
    order: NDArray[np.int64],
    column: NDArray[np.int64],
    measurements: Measurements,
    space: DataSpace,
    terms: _Terms,
) -> float:
    """Return the sum of squares of what a numbering leaves unexplained, in units of the noise."""
    source, detector = (measurements.channels - 1).T
    picked = column[order[source], order[detector]]
    total = 0.0
    for w in range(len(measurements.wavelengths_nm)):
        use, Q = space.active[w], space.gain_bases[w]
        sd = measurements.sd[w, use]
        rows = np.stack(
            [measurements.log_amplitude[w] - terms.light[w, picked], *(c[w, picked] for c in terms.changes)]
        )
        white = rows[:, use] / sd
        white = white - (white @ Q) @ Q.T
        left = white[0] - white[1:].T @ np.linalg.lstsq(white[1:].T, white[0], rcond=None)[0]
        total += float(left @ left)
    return total
