"""The plots of the panel: fall of the light with distance, reciprocity, residuals."""

from __future__ import annotations

from typing import Any

import numpy as np
from BreastBiomarkersLib.errors import InputError
from slicer.i18n import tr as _

from NIRSTReconstructionLib.inslicer.charts import BLUE, GRAY, ORANGE, RED, Series, draw_bars, draw_chart
from NIRSTReconstructionLib.inslicer.exclusions import excluded_values, parse_exclusions
from NIRSTReconstructionLib.inslicer.plane_result import PlaneResult
from NIRSTReconstructionLib.quality_control import QualityReport

COLORS = ("#3b75af", "#519e3e", "#c53a32", "#8d69b8", "#84584e", "#d684bd", "#7f7f7f", "#b8b42f", "#4dacc5")


def quality_plots(report: QualityReport) -> list[str]:
    """Return the names of the plots there are: one per wavelength, and the reciprocity."""
    nm = [_("ln(I r), {nm:g} nm").format(nm=nm) for nm in report.measurements.wavelengths_nm]
    return [*nm, _("Reciprocity")]


def quality_plot(report: QualityReport, excluded: str, index: int) -> Any:
    """Return ln(I r) against r at the wavelength number `index`, or after the last of them the reciprocity."""
    data = report.measurements
    if index >= len(data.wavelengths_nm):
        names = [f"{nm:g}" for nm in data.wavelengths_nm]
        groups = [
            (_("as measured"), GRAY, report.reciprocity_rms.tolist()),
            (_("after fiber gains"), BLUE, report.reciprocity_left.tolist()),
        ]
        title = _("Reciprocity by wavelength [nm]")
        return draw_bars(title, _("rms of ln I difference"), names, groups)
    try:
        out = excluded_values(data, parse_exclusions(excluded))[index]
    except InputError:  # being typed
        out = np.zeros(len(data.channels), dtype=bool)
    r = report.distances_mm
    value = data.log_amplitude[index] + np.log(r)
    bad = report.suggested[index] & ~out
    inactive = out | (~data.active[index] & np.isfinite(value))
    used = data.active[index] & ~out & ~bad
    ends = np.array([r.min(), r.max()])
    series = [
        Series("", ORANGE, ends.tolist(), (report.offset[index] + report.slope[index] * ends).tolist(), line=True),
        Series(_("left out") if inactive.any() else "", GRAY, r[inactive].tolist(), value[inactive].tolist()),
        Series(_("used"), BLUE, r[used].tolist(), value[used].tolist()),
        Series(_("suggested to leave out") if bad.any() else "", RED, r[bad].tolist(), value[bad].tolist()),
    ]
    title = _("{nm:g} nm, slope {slope:.4f} / mm").format(nm=data.wavelengths_nm[index], slope=report.slope[index])
    return draw_chart(title, _("distance r of source and detector [mm]"), "ln(I r)", series)


def residual_plot(result: PlaneResult | None, index: int) -> Any:
    """Return what the model leaves of the data over the noise: by wavelength, source, detector, or over distance."""
    if result is None or not result.residual:
        return draw_chart(_("No residual was kept"), "", "", [])
    columns = {name: np.array(values) for name, values in result.residual.items()}
    white = columns["residual"] / columns["sd"]
    if index == 3:
        series = [
            Series(f"{nm:g} nm", COLORS[n % len(COLORS)], columns["distance_mm"][own].tolist(), white[own].tolist())
            for n, nm in enumerate(np.unique(columns["wavelength_nm"]))
            for own in [columns["wavelength_nm"] == nm]
        ]
        title = _("Each channel and wavelength")
        return draw_chart(title, _("distance of source and detector [mm]"), _("residual / noise"), series)
    key, title = (
        ("wavelength_nm", _("Residual by wavelength [nm]")),
        ("source", _("Residual by source")),
        ("detector", _("Residual by detector")),
    )[index]
    record, groups = result.record, np.unique(columns[key])
    if index == 0:
        chi = dict(zip(record["wavelengths_nm"], record["chi"], strict=True))
        values = [chi.get(float(nm), float("nan")) for nm in groups]
    else:
        trust = record["trust"]
        known = {} if trust is None else trust["chi_by_source" if key == "source" else "chi_by_detector"]
        values = [
            known.get(f"{number:g}", float(np.sqrt(np.mean(white[columns[key] == number] ** 2)))) for number in groups
        ]
    return draw_bars(title, _("rms of residual / noise"), [f"{g:g}" for g in groups], [("", BLUE, values)], 1.0)
