"""Channels that the user leaves out, as text that is saved with the scene: ``S3``, ``D4``, ``3-7``, ``3-7@661``."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from BreastBiomarkersLib.errors import InputError
from numpy.typing import NDArray

from NIRSTReconstructionLib.measurements import Measurements

_ITEM = re.compile(r"(?:(?P<kind>[SD])(?P<number>\d+)|(?P<source>\d+)-(?P<detector>\d+))?(?:@(?P<nm>\d+(?:\.\d+)?))?$")
REASON = "unticked by the user"


def parse_exclusions(text: str) -> list[str]:
    """Return the items of a text, separated by commas, semicolons or blanks, in capital letters and each once.

    ``S3`` is all light of source 3, ``D4`` all light seen by detector 4, ``3-7`` the channel from source 3 to detector
    7, ``@661`` a wavelength in nm; ``3-7@661`` or ``S3@661`` one of these at one wavelength.

    Raises
    ------
    InputError
        If an item is none of these.
    """
    items = list(dict.fromkeys(item.upper() for item in re.split(r"[\s,;]+", text) if item))
    for item in items:
        if not _ITEM.match(item):
            raise InputError(
                f"'{item}' is no channel. Write S3 for source 3, D4 for detector 4, 3-7 for a channel, 3-7@661 for a "
                "channel at one wavelength, @661 for a wavelength."
            )
    return items


def excluded_values(measurements: Measurements, items: Iterable[str]) -> NDArray[np.bool_]:
    """Return which values (W, C) the items name; items that name nothing in these data are passed over."""
    excluded = np.zeros(measurements.active.shape, dtype=bool)
    for item in items:
        found = _ITEM.match(item)
        assert found is not None, "the text was parsed"
        channels = np.ones(len(measurements.channels), dtype=bool)
        if found["kind"]:
            channels = measurements.channels[:, "SD".index(found["kind"])] == int(found["number"])
        elif found["source"]:
            channels = (measurements.channels == (int(found["source"]), int(found["detector"]))).all(axis=1)
        wavelengths = np.ones(len(measurements.wavelengths_nm), dtype=bool)
        if found["nm"]:
            wavelengths = np.abs(measurements.wavelengths_nm - float(found["nm"])) < 0.01
        excluded |= wavelengths[:, None] & channels
    return excluded


def leave_out(measurements: Measurements, text: str) -> Measurements:
    """Return the data without the channels that a text names.

    Raises
    ------
    InputError
        If the text cannot be read or too little is left.
    """
    return measurements.without(excluded_values(measurements, parse_exclusions(text)), REASON)


def items_of(measurements: Measurements, values: NDArray[np.bool_]) -> list[str]:
    """Return the shortest items that name some values (W, C): whole sources and detectors first, then channels."""
    items, left = [], values & measurements.active
    for column, kind in enumerate("SD"):
        for number in np.unique(measurements.channels[:, column]):
            own = measurements.active & (measurements.channels[:, column] == number)
            if own.any() and (values | ~own).all():
                items.append(f"{kind}{number}")
                left &= ~own
    for c in np.flatnonzero(left.any(axis=0)):
        name = "{}-{}".format(*measurements.channels[c])
        if (values[:, c] | ~measurements.active[:, c]).all():
            items.append(name)
        else:
            items += [f"{name}@{measurements.wavelengths_nm[w]:g}" for w in np.flatnonzero(left[:, c])]
    return items
