"""The rows of the quality list: fibers, and channels in which something was found; each can be unticked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from slicer.i18n import tr as _

from NIRSTReconstructionLib.fibers import Fibers
from NIRSTReconstructionLib.inslicer.exclusions import items_of
from NIRSTReconstructionLib.quality_control import SAME_PLACE_MM, QualityReport


class QualityRow(NamedTuple):
    """A row of the list.

    Attributes
    ----------
    items : tuple of str
        What is left out when it is unticked (see `exclusions`).
    title : str
    used : bool
    reason : str
        What was found; may be empty.
    """

    items: tuple[str, ...]
    title: str
    used: bool
    reason: str


def quality_rows(report: QualityReport, fibers: Fibers, excluded: Sequence[str]) -> list[QualityRow]:
    """Return a row per fiber (or source and detector), then one per channel with a finding, then what else is out.

    Parameters
    ----------
    report : QualityReport
        Of the data before anything was unticked.
    fibers : Fibers
    excluded : sequence of str
        What is left out now.
    """
    rows = []
    for items, title in _fibers(report, fibers):
        reason = "; ".join(f.reason for f in report.findings if f.kind.startswith("dead") and _names(f, items))
        rows.append(_row(items, title, excluded, reason))
    listed = {item for row in rows for item in row.items}
    channels: dict[tuple[int, int], list[str]] = {}
    for finding in report.findings:
        if finding.source is not None and finding.detector is not None and not finding.kind.startswith("dead"):
            when = "" if finding.wavelength_nm is None else f"{finding.wavelength_nm:g} nm: "
            channels.setdefault((finding.source, finding.detector), []).append(when + finding.reason)
    data = report.measurements
    for pair, reasons in sorted(channels.items()):
        own = report.suggested & (data.channels == pair).all(axis=1)
        items = tuple(items_of(data, own)) if own.any() else ("{}-{}".format(*pair),)
        rows.append(_row(items, _("Channel {}-{}").format(*pair), excluded, "; ".join(reasons)))
        listed |= set(items)
    return rows + [QualityRow((item,), item, False, "") for item in excluded if item not in listed]


def suggested_items(report: QualityReport) -> list[str]:
    """Return what the check suggests to leave out."""
    return items_of(report.measurements, report.suggested)


def toggled(excluded: Sequence[str], items: Sequence[str], used: bool) -> str:
    """Return the text of what is left out after a row was ticked (`used`) or unticked."""
    rest = [item for item in excluded if item not in items]
    return ", ".join(rest if used else [*rest, *items])


def general_findings(report: QualityReport) -> list[str]:
    """Return what was found about the data as a whole."""
    return [finding.reason for finding in report.findings if finding.source is None and finding.detector is None]


def _row(items: tuple[str, ...], title: str, excluded: Sequence[str], reason: str) -> QualityRow:
    part = [item for item in items if item in excluded]
    if part and len(part) < len(items):
        reason = "; ".join(filter(None, [_("{items} left out").format(items=", ".join(part)), reason]))
    return QualityRow(items, title, not set(items) <= set(excluded), reason)


def _fibers(report: QualityReport, fibers: Fibers) -> list[tuple[tuple[str, ...], str]]:
    sources, detectors = (np.unique(report.measurements.channels[:, column]).tolist() for column in (0, 1))
    count = len(fibers.detectors)
    both = len(fibers.sources) == count and np.abs(fibers.sources - fibers.detectors).max() < SAME_PLACE_MM
    if both and sources == detectors:
        return [((f"S{n}", f"D{n}"), _("Fiber {n}").format(n=n)) for n in sources]
    return [((f"S{n}",), _("Source {n}").format(n=n)) for n in sources] + [
        ((f"D{n}",), _("Detector {n}").format(n=n)) for n in detectors
    ]


def _names(finding: object, items: tuple[str, ...]) -> bool:
    source, detector = finding.source, finding.detector  # type: ignore[attr-defined]
    return f"S{source}" in items or f"D{detector}" in items
