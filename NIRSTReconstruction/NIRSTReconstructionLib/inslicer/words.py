"""What the panel says about light, results and trust; plain data in, text out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from slicer.i18n import tr as _

from NIRSTReconstructionLib.inslicer.inputs import Light
from NIRSTReconstructionLib.inslicer.quality_rows import general_findings
from NIRSTReconstructionLib.inslicer.results import IMAGE_TITLES

POOR_FIT = 2.0
QUANTITY_TITLES = {**IMAGE_TITLES, "toi": "TOI"}


def describe_light(light: Light, left_out: int = 0) -> str:
    """Return a line on measured light and what of it takes part."""
    measured = light.measurements
    text = _(
        "{name}: {count} wavelengths ({first:g} to {last:g} nm), {channels} channels, {used} of {all} values."
    ).format(
        name=measured.name,
        count=len(measured.wavelengths_nm),
        first=measured.wavelengths_nm[0],
        last=measured.wavelengths_nm[-1],
        channels=len(measured.channels),
        used=measured.active.sum(),
        all=measured.active.size,
    )
    lines = [text]
    if light.simulated:
        lines.append(_("Simulated, not measured."))
    if left_out:
        lines.append(_("{n} values are unticked below.").format(n=left_out))
    remarks = [*measured.remarks]
    if light.reference is not None:
        reference = light.reference.at_wavelengths(measured.wavelengths_nm)
        remarks += reference.at_channels(measured.channels).remarks
    return " ".join([*lines, *remarks])


def describe_outline(outline: Any) -> str:
    """Return a line on the outline of the breast."""
    text = _("The outline is {length:.0f} mm long.").format(length=outline.length_mm)
    if outline.no_air:
        text += " " + _("'{name}' shows no air: its edge was taken for the skin.").format(name=outline.no_air)
    return text


def describe_skipped(labels: Sequence[str]) -> str:
    """Return a warning where labels are numbers but not those that count; "" where each point is what it is called."""
    if not all(label.isdecimal() for label in labels):
        return ""
    wrong = [n for n, label in enumerate(labels, start=1) if int(label) != n]
    if not wrong:
        return ""
    return _("Point '{label}' counts as fiber {n}: the order of the list counts, not the labels.").format(
        label=labels[wrong[0] - 1], n=wrong[0]
    )


def describe_quality(report: Any) -> str:
    """Return what was found about the light as a whole."""
    count, total = int(report.suggested.sum()), int(report.measurements.active.sum())
    text = _("{n} of {all} values are suggested to leave out.").format(n=count, all=total)
    general = [f"{reason[:1].upper()}{reason[1:]}." for reason in general_findings(report)]
    return "\n".join([text if count else _("Nothing to leave out was found."), *general])


def describe_run(record: dict[str, Any] | None, changed: Sequence[str] = ()) -> str:
    """Return what the user should know about a finished run; `changed` names inputs that are other ones by now."""
    if record is None:
        return _("No results in this plane yet.")
    lines = []
    if changed:
        lines.append(_("Changed since this run: {names}. Press Apply to update.").format(names=", ".join(changed)))
    if record["simulated"]:
        lines.append(_("Simulated light; true values: {text}").format(text=record["simulated"]))
    elif record["reference_data"]:
        lines.append(_("Measured light of {data}, calibrated on {reference_data}.").format(**record))
    else:
        lines.append(_("Measured light of {data}.").format(**record))
    lines.append(
        _("Method {method}, extinction table {extinction_table}, unknown gains: {gains}. Stopped: {reason}.").format(
            **record
        )
    )
    bulk = record["bulk"]
    lines.append(
        _("Homogeneous fit: HbO {hbo:.1f} uM, Hb {hbr:.1f} uM, water {percent:.0f} %.").format(
            percent=100 * bulk["water"], **bulk
        )
    )
    chi = [f"{nm:g} nm {value:.2f}" for nm, value in zip(record["wavelengths_nm"], record["chi"], strict=True)]
    lines.append(
        _("Residual in units of the noise (about 1 is as good as the noise allows): {chi}.").format(chi=", ".join(chi))
    )
    poor = [f"{nm:g}" for nm, value in zip(record["wavelengths_nm"], record["chi"], strict=True) if value > POOR_FIT]
    if 0 < len(poor) < len(chi):
        lines.append(
            _("The model does not explain the light at {nm} nm. Leave it out, or check its noise.").format(
                nm=", ".join(poor)
            )
        )
    return "\n".join([*lines, *record["remarks"]])


def describe_trust(record: dict[str, Any] | None, assessing: bool = False) -> str:
    """Return the verdict in words."""
    if record is None:
        return _("No results to judge yet.")
    trust = record["trust"]
    if trust is None:
        return (
            _("Being assessed ...") if assessing else _("Not assessed. Tick the box below the method and press Apply.")
        )
    titles = {
        "green": _("Trustworthy as far as the checks tell: {reason}."),
        "yellow": _("With care: {reason}."),
        "red": _("Do not trust: {reason}."),
    }
    return titles.get(trust["light"], "{reason}").format(reason=trust["reason"])


def readout_rows(trust: dict[str, Any] | None) -> list[tuple[str, ...]]:
    """Return the cells of the lesion read-out: quantity, lesion, background, ratio with 95 % interval, words."""
    rows: list[tuple[str, ...]] = []
    for reading in [] if trust is None else trust["readout"]:
        unit = reading["unit"].partition(",")[0]
        rows.append(
            (
                f"{QUANTITY_TITLES[reading['quantity']]} [{unit}]",
                f"{reading['lesion']:.1f}",
                f"{reading['background']:.1f}",
                "{ratio:.2f} ({low:.2f} to {high:.2f})".format(**reading),
            )
        )
    return rows


def contrast_rows(record: dict[str, Any] | None) -> list[tuple[str, ...]]:
    """Return the cells of the lesion table: quantity, lesion, background, ratio, each with its standard error."""
    rows: list[tuple[str, ...]] = []
    for row in [] if record is None else record["contrast"]:
        rows.append(
            (
                f"{IMAGE_TITLES[row['quantity']]} [{row['unit']}]",
                *(_with_error(row[name], row[f"{name}_se"], least) for name, least in _CONTRAST_DIGITS.items()),
            )
        )
    return rows


_CONTRAST_DIGITS = {"lesion": 1, "background": 1, "ratio": 2}


def _with_error(value: float, error: float, least: int) -> str:
    """Return a value and its standard error with so many decimals that the error is not 0, and `least` at least."""
    digits = max(least, min(4, -math.floor(math.log10(error)))) if error > 0 else least
    return f"{value:.{digits}f} \u00b1 {error:.{digits}f}"


def describe_unlit(fibers: Any, light: Light | None) -> str:
    """Return which sources and detectors have no light in the data; nothing where all have."""
    if light is None:
        return ""
    texts = []
    placed = ((_("sources"), len(fibers.sources)), (_("detectors"), len(fibers.detectors)))
    for column, (kind, count) in enumerate(placed):
        lit = set(light.measurements.channels[:, column].tolist())
        unlit = [str(n) for n in range(1, count + 1) if n not in lit]
        if unlit:
            texts.append(f"{kind} {', '.join(unlit)}")
    return _("The data hold no light of {names}.").format(names="; ".join(texts)) if texts else ""


def describe_optodes(fibers: Any, plane: Any = None, outline: Any = None) -> str:
    """Return a line on the fibers: how many, how far off the plane and the skin."""
    sources, detectors = len(fibers.sources), len(fibers.detectors)
    if sources == detectors and (fibers.sources == fibers.detectors).all():
        text = _("{count} fibers, each source and detector.").format(count=sources)
    else:
        text = _("{sources} sources, {detectors} detectors.").format(sources=sources, detectors=detectors)
    if plane is not None:
        fit = fibers.distance_from(plane)
        distance = _("They lie {rms:.1f} mm (root mean square) off the plane.").format(rms=fit.rms_mm)
        text += " " + (fit.warning or distance)
        if outline is not None:
            off = outline.off_skin_mm(fibers, plane)
            farthest = int(abs(off).argmax())
            where = _("outside") if off[farthest] > 0 else _("inside")
            text += " " + _("Farthest from the outline: fiber {n}, {mm:.1f} mm {where}.").format(
                n=farthest + 1, mm=abs(off[farthest]), where=where
            )
    return text
