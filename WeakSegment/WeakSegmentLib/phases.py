"""Which of several loaded images are the phases of a contrast-enhanced exam, from their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

PRE = {"pre", "precontrast", "unenhanced", "native"}
POST = {"post", "postcontrast", "enhanced", "early", "late", "delayed"}
SUBTRACTION = {"sub", "subtraction", "subtracted", "minus"}
SERIES = {"dce", "dyn", "dynamic", "phase", "ph"}
"""A number after such a word counts the phases; the first is before the contrast agent."""

ORDER = {"early": 1, "late": 98, "delayed": 99}
"""Places in the order of phases that are not numbered."""


class Phases(NamedTuple):
    """Numbers of images in the list they were chosen from; None and an empty list where none was found.

    Attributes
    ----------
    pre : int or None
    post : list of int
        In order of time.
    subtraction : int or None
    """

    pre: int | None
    post: list[int]
    subtraction: int | None


def phases_from_names(names: Sequence[str]) -> Phases:
    """Return what the names say without doubt; where two images could be one phase, neither is.

    Known are words such as "pre", "post 2", "late" and "subtraction", and series numbered from 0 or 1 such as "DCE 0",
    "DCE 1", "DCE 2".
    """
    words = [_words(name) for name in names]
    subtractions = [n for n, found in enumerate(words) if SUBTRACTION & set(found)]
    rest = [n for n in range(len(names)) if n not in subtractions]
    pre = [n for n in rest if PRE & set(words[n]) and not POST & set(words[n])]
    post = [n for n in rest if POST & set(words[n]) and not PRE & set(words[n])]
    if not pre and not post:
        pre, post = _series(rest, words)
    post = _in_order(post, words)
    only = subtractions[0] if len(subtractions) == 1 else None
    return Phases(pre[0] if len(pre) == 1 else None, post, only)


def _words(name: str) -> list[str]:
    return [word for word in re.findall(r"[a-z]+|\d+", name.lower()) if word != "contrast"]


def _in_order(post: list[int], words: list[list[str]]) -> list[int]:
    """Return the images by phase, or nothing if the order is not clear."""
    if len(post) < 2:
        return post
    places = {n: _place(words[n]) for n in post}
    if None in places.values() or len(set(places.values())) < len(post):
        return []
    return sorted(post, key=lambda n: places[n] or 0)


def _place(words: list[str]) -> int | None:
    for before, word in zip(words, words[1:], strict=False):
        if before in POST | SERIES and word.isdigit():
            return int(word)
    return next((ORDER[word] for word in words if word in ORDER), None)


def _series(candidates: list[int], words: list[list[str]]) -> tuple[list[int], list[int]]:
    """Return the first and the later images of a numbered series of three or more, if it is the only one."""
    numbered: dict[tuple[str, ...], dict[int, int]] = {}
    for n in candidates:
        for at, (before, word) in enumerate(zip(words[n], words[n][1:], strict=False), start=1):
            if before in SERIES and word.isdigit():
                key = (*words[n][:at], "", *words[n][at + 1 :])
                numbered.setdefault(key, {})[int(word)] = n
    series = [found for found in numbered.values() if len(found) >= 3]
    if len(series) != 1 or sorted(series[0]) not in ([*range(len(series[0]))], [*range(1, len(series[0]) + 1)]):
        return [], []
    first, *later = (series[0][number] for number in sorted(series[0]))
    return [first], later
