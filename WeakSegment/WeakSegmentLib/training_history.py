"""What a training did, iteration by iteration, in a CSV that survives an interruption."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path

PARTS = ("loss", "cross_entropy", "contrastive", "crf", "propagation")
FIGURES = (*PARTS, "voted_share", "similarity_above", "gradient_norm", "rate")
"""Losses are weighted as they were added; the share is of the unlabeled voxels of a batch."""


class TrainingHistory:
    """One row of figures per iteration and stage.

    Parameters
    ----------
    path : Path or None
        The CSV; what is in it already is read, a last line cut by an interruption left out. None keeps no file.
    writes : bool
        Whether rows go to the file; of several processes, one writes.
    """

    def __init__(self, path: Path | None, writes: bool = True) -> None:
        self._path = path if writes else None
        self._rows: dict[str, list[dict[str, float]]] = {}
        if path is not None and path.exists():
            with path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    if None not in row.values() and row.keys() == {"stage", "iteration", *FIGURES}:
                        self._rows.setdefault(row["stage"], []).append(
                            {key: float(row[key]) for key in FIGURES if row[key]}
                        )

    def rows(self, stage: str) -> list[dict[str, float]]:
        """Return the figures of a stage, one dict per iteration; a stage has only those it uses."""
        return self._rows.get(stage, [])

    @property
    def stages(self) -> list[str]:
        """The stages that have rows, in order."""
        return [stage for stage, rows in self._rows.items() if rows]

    def append(self, stage: str, iteration: int, figures: dict[str, float]) -> None:
        """Add an iteration; the file has it when this returns.

        Raises
        ------
        InputError
            If the file cannot be written.
        """
        self._rows.setdefault(stage, []).append(figures)
        if self._path is not None:
            try:
                with self._path.open("a", encoding="utf-8", newline="") as file:
                    file.write(_line([stage, iteration, *(figures.get(key, "") for key in FIGURES)]))
            except OSError as error:
                raise InputError(f"Cannot write '{self._path}': {error.strerror}. Is the disk full?") from error

    def forget_from(self, stage: str, iteration: int) -> None:
        """Drop the rows of a stage from an iteration on, and all of the stages after it; start the file anew."""
        names = list(self._rows)
        later = names[names.index(stage) + 1 :] if stage in names else []
        for name in later:
            del self._rows[name]
        self._rows[stage] = self.rows(stage)[:iteration]
        if self._path is not None:
            with atomic_path(self._path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
                file.write(_line(["stage", "iteration", *FIGURES]))
                for name, rows in self._rows.items():
                    for n, figures in enumerate(rows):
                        file.write(_line([name, n, *(figures.get(key, "") for key in FIGURES)]))


def _line(values: list[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()
