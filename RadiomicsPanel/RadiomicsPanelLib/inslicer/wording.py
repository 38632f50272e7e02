"""Settings and provenance in plain words."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from RadiomicsPanelLib.inslicer.edited_settings import AnySettings
from RadiomicsPanelLib.settings import Settings


def describe_settings(settings: AnySettings) -> str:
    """Return the settings in words, with their reason."""
    if not isinstance(settings, Settings):
        s = settings.settings
        bins = f"{s.bin_count} bins" if s.bin_count else f"bins of {s.bin_width:g}"
        grid = "source voxels" if s.spacing_ijk_mm is None else " x ".join(f"{mm:g}" for mm in s.spacing_ijk_mm) + " mm"
        return _(
            "Voxels: {grid}. {bins}. Image types: {kinds}. Values and names are those of pyradiomics, to reproduce a "
            "published study; they are not IBSI's."
        ).format(grid=grid, bins=bins.capitalize(), kinds=", ".join(settings.image_types))
    grid = _("source voxels")
    if settings.spacing_kji_mm is not None:
        sizes = [_("source") if size is None else f"{size:g}" for size in settings.spacing_kji_mm[::-1]]
        grid = _("{sizes} mm, {interpolation}").format(sizes=" x ".join(sizes), interpolation=settings.interpolation)
    limits = [f"{limit:g}" if limit is not None else "-" for limit in (settings.lower, settings.upper)]
    parts = [_("Voxels: {grid}.").format(grid=grid)]
    if limits != ["-", "-"]:
        parts.append(_("Range: {lower} to {upper}.").format(lower=limits[0], upper=limits[1]))
    if settings.outlier_sigma is not None:
        parts.append(_("Outliers beyond {sigma:g} standard deviations left out.").format(sigma=settings.outlier_sigma))
    bins_in_words = {
        "bin_width": _("Bins of {width} {unit}.").format(width=settings.bin_width, unit=settings.intensity_unit),
        "bin_count": _("{count} bins.").format(count=settings.bin_count),
        "none": _("Intensities are gray levels."),
    }
    parts.append(bins_in_words[settings.discretization])
    if settings.filters:
        names = ", ".join(chosen.label for chosen in settings.filters)
        parts.append(
            _("Filtered images too: {names}, in {count} bins.").format(names=names, count=settings.filter_bin_count)
        )
    return " ".join([*parts, settings.reason])


def describe_record(record: dict[str, Any]) -> str:
    """Return where the values of a table come from.

    Parameters
    ----------
    record : dict
        From `RadiomicsPanelLib.inslicer.feature_table.record_of`.
    """
    image, versions = record["segments"][0]["image"], record["versions"]
    size = " x ".join(str(n) for n in image["size_kji"][::-1])
    spacing = " x ".join(f"{mm:.3g}" for mm in image["spacing_kji_mm"][::-1])
    lines = [
        _("Computed {created} by {program} {version}.").format(**record),
        ", ".join(f"{name} {text}" for name, text in versions.items()),
        _("Image '{name}': {size} voxels of {spacing} mm, SHA-256 {hash}...").format(
            name=image["name"], size=size, spacing=spacing, hash=image["sha256"][:12]
        ),
        _("Settings: {settings}").format(settings=_plain(record["settings"])),
    ]
    return "\n".join(lines)


def _plain(values: dict[str, Any]) -> str:
    skip = ("reason", "filters", "featureClass")
    shown = {name: value for name, value in values.items() if value not in (None, "", [], {}) and name not in skip}
    return "; ".join(f"{name} {value}" for name, value in shown.items())
