"""The numbers of one extraction: a frozen dataclass, presets with their reason, and JSON in and out."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path, require_file

from RadiomicsPanelLib.feature import AGGREGATIONS
from RadiomicsPanelLib.filters import Filter, filter_from_dict, filter_to_dict

Discretization = Literal["bin_width", "bin_count", "none"]
Interpolation = Literal["linear", "cubic"]
MAX_LEVELS = 1024
"""More gray levels are refused: matrices grow with the square, and almost every level would hold one voxel."""


@dataclass(frozen=True)
class Settings:
    """How a region is prepared and which aggregations are reported.

    Attributes
    ----------
    name, reason : str
        What the settings are called and why they are as they are.
    spacing_kji_mm : tuple of three float or None, mm; or None
        Voxel size to resample to, in array order (slices first); None keeps that axis, or the whole source grid.
    interpolation : str
        Of the image: "linear" or "cubic" (B-spline). The mask is always interpolated linearly.
    round_intensities : bool
        Round to whole numbers after interpolation (CT).
    lower, upper : float or None, intensity
        Re-segmentation range, both ends included.
    outlier_sigma : float or None
        Exclude voxels farther than so many standard deviations from the mean, computed inside the range.
    discretization : str
        "bin_width": bins of `bin_width`, counted from `lower`, or from the region's minimum without it;
        "bin_count": `bin_count` equal bins between the region's minimum and maximum; "none": the intensities are gray
        levels already (whole numbers from 1).
    bin_width : float or None, intensity
    bin_count : int or None
    ivh_discretization, ivh_bin_width, ivh_bin_count
        The same for the intensity-volume histogram. "none" takes whole-numbered intensities as they are and continuous
        ones in 1000 bins.
    aggregations : tuple of str
        Of `AGGREGATIONS`.
    filters : tuple of Filter
        Filtered images to measure too, beside the image itself; see `RadiomicsPanelLib.filters`.
    filter_bin_count : int
        Gray levels of a filtered image. Its values have no unit to choose a bin width in, and no range to re-segment.
    intensity_unit : str
        Unit of the image, for the tables.

    Raises
    ------
    InputError
        If a value is of the wrong kind, out of range or contradicts another one, or a filter is there twice.
    """

    name: str = "custom"
    reason: str = ""
    spacing_kji_mm: tuple[float | None, float | None, float | None] | None = None
    interpolation: Interpolation = "linear"
    round_intensities: bool = False
    lower: float | None = None
    upper: float | None = None
    outlier_sigma: float | None = None
    discretization: Discretization = "bin_count"
    bin_width: float | None = None
    bin_count: int | None = 32
    ivh_discretization: Discretization = "none"
    ivh_bin_width: float | None = None
    ivh_bin_count: int | None = None
    aggregations: tuple[str, ...] = ("3D_avg", "3D_comb")
    filters: tuple[Filter, ...] = ()
    filter_bin_count: int = 32
    intensity_unit: str = "a.u."

    def __post_init__(self) -> None:
        if self.spacing_kji_mm is not None and not _is_spacing(self.spacing_kji_mm):
            raise InputError(f"Settings '{self.name}': spacing_kji_mm needs three voxel sizes above 0 mm, or null.")
        if self.interpolation not in get_args(Interpolation):
            raise InputError(f"Settings '{self.name}': interpolation is 'linear' or 'cubic'.")
        for name in ("lower", "upper"):
            if getattr(self, name) is not None and not _finite(getattr(self, name)):
                raise InputError(f"Settings '{self.name}': {name} has to be a finite number, or null for no limit.")
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise InputError(f"Settings '{self.name}': lower ({self.lower:g}) has to be below upper ({self.upper:g}).")
        if self.outlier_sigma is not None and not _positive(self.outlier_sigma):
            raise InputError(f"Settings '{self.name}': outlier_sigma has to be above 0, or null.")
        self._check_bins("", self.discretization, self.bin_width, self.bin_count)
        self._check_bins("ivh_", self.ivh_discretization, self.ivh_bin_width, self.ivh_bin_count)
        self._check_bins("filter_", "bin_count", None, self.filter_bin_count)
        labels = [one.label for one in self.filters]
        if len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise InputError(f"Settings '{self.name}': the filter '{twice}' is there twice.")
        unknown = set(self.aggregations) - set(AGGREGATIONS)
        if unknown or not self.aggregations:
            raise InputError(f"Settings '{self.name}': aggregations are some of {', '.join(AGGREGATIONS)}.")

    @property
    def ivh_unit(self) -> str:
        """Unit of the intensities of the intensity-volume histogram: IBSI counts gray levels in a number of bins."""
        return "gray level" if self.ivh_discretization == "bin_count" else self.intensity_unit

    def _check_bins(self, prefix: str, method: str, width: float | None, count: int | None) -> None:
        if method not in get_args(Discretization):
            raise InputError(f"Settings '{self.name}': {prefix}discretization is 'bin_width', 'bin_count' or 'none'.")
        if method == "bin_width" and not _positive(width):
            raise InputError(f"Settings '{self.name}': {prefix}bin_width has to be above 0.")
        if method == "bin_count" and not (isinstance(count, int) and 2 <= count <= MAX_LEVELS):
            raise InputError(f"Settings '{self.name}': {prefix}bin_count has to be a whole number, 2 to {MAX_LEVELS}.")


def _is_spacing(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and all(s is None or _positive(s) for s in value)


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _positive(value: object) -> bool:
    return _finite(value) and float(value) > 0  # type: ignore[arg-type]  # _finite has seen that it is a number


_IBSI = "Configuration {} of the IBSI-1 CT phantom, to compare with the published reference values."
_FLAT = ("2D_avg", "2D_comb", "2_5D_avg", "2_5D_comb")
_2_MM = (2.0, 2.0, 2.0)

PRESETS: dict[str, Settings] = {
    settings.name: settings
    for settings in (
        Settings(
            name="mr",
            reason="MR intensities are arbitrary: a fixed number of bins makes images comparable, three standard "
            "deviations exclude vessels and artifacts, an isotropic grid makes all directions equal.",
            spacing_kji_mm=(1.0, 1.0, 1.0),
            interpolation="cubic",
            outlier_sigma=3.0,
            discretization="bin_count",
            bin_count=32,
        ),
        Settings(
            name="ct",
            reason="Hounsfield units are absolute: a fixed bin width counted from a fixed lower bound gives a level "
            "the same meaning in every patient; the range is that of soft tissue.",
            spacing_kji_mm=(1.0, 1.0, 1.0),
            round_intensities=True,
            lower=-150.0,
            upper=250.0,
            discretization="bin_width",
            bin_width=25.0,
            bin_count=None,
            intensity_unit="HU",
        ),
        Settings(
            name="pet",
            reason="SUV is absolute and starts at 0: bins of 0.25 SUV from 0. The image has to be in SUVbw, not Bq/mL.",
            spacing_kji_mm=(3.0, 3.0, 3.0),
            lower=0.0,
            discretization="bin_width",
            bin_width=0.25,
            bin_count=None,
            ivh_discretization="bin_width",
            ivh_bin_width=0.1,
            intensity_unit="SUV",
        ),
        Settings(
            name="dce-adc",
            reason="Quantitative maps (relative enhancement, Ktrans in 1/min, ADC in 10^-3 mm^2/s) are absolute: bins "
            "of a fixed width from 0 on the source grid. Set the width so that 16 to 128 levels result.",
            lower=0.0,
            discretization="bin_width",
            bin_width=0.05,
            bin_count=None,
            intensity_unit="map unit",
        ),
        Settings(
            name="ibsi-phantom",
            reason="The IBSI digital phantom: no resampling, its intensities are the gray levels.",
            discretization="none",
            bin_count=None,
            aggregations=AGGREGATIONS,
            intensity_unit="1",
        ),
        Settings(
            name="ibsi-a",
            reason=_IBSI.format("A"),
            round_intensities=True,
            lower=-500.0,
            upper=400.0,
            discretization="bin_width",
            bin_width=25.0,
            bin_count=None,
            aggregations=_FLAT,
            intensity_unit="HU",
        ),
        Settings(
            name="ibsi-b",
            reason=_IBSI.format("B"),
            spacing_kji_mm=(None, 2.0, 2.0),
            round_intensities=True,
            lower=-500.0,
            upper=400.0,
            aggregations=_FLAT,
            intensity_unit="HU",
        ),
        Settings(
            name="ibsi-c",
            reason=_IBSI.format("C"),
            spacing_kji_mm=_2_MM,
            round_intensities=True,
            lower=-1000.0,
            upper=400.0,
            discretization="bin_width",
            bin_width=25.0,
            bin_count=None,
            ivh_discretization="bin_width",
            ivh_bin_width=2.5,
            intensity_unit="HU",
        ),
        Settings(
            name="ibsi-d",
            reason=_IBSI.format("D"),
            spacing_kji_mm=_2_MM,
            round_intensities=True,
            outlier_sigma=3.0,
            intensity_unit="HU",
        ),
        Settings(
            name="ibsi-e",
            reason=_IBSI.format("E"),
            spacing_kji_mm=_2_MM,
            interpolation="cubic",
            round_intensities=True,
            lower=-1000.0,
            upper=400.0,
            outlier_sigma=3.0,
            ivh_discretization="bin_count",
            ivh_bin_count=1000,
            intensity_unit="HU",
        ),
    )
}


def settings_to_dict(settings: Settings) -> dict[str, Any]:
    """Return the settings as plain data that JSON can hold."""
    return json.loads(json.dumps(asdict(settings) | {"filters": [filter_to_dict(f) for f in settings.filters]}))


def settings_from_dict(data: dict[str, Any]) -> Settings:
    """Return settings from plain data; what is left out keeps its default.

    Raises
    ------
    InputError
        If a name is unknown or a value does not fit.
    """
    if not isinstance(data, dict):
        raise InputError("Settings have to be one JSON object with named values.")
    known = {field.name for field in fields(Settings)}
    unknown = sorted(set(data) - known)
    if unknown:
        raise InputError(f"Settings hold the unknown name '{unknown[0]}'. Known are {', '.join(sorted(known))}.")
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    kinds = {"name": str, "reason": str, "intensity_unit": str, "round_intensities": bool}
    for name, kind in kinds.items():
        if not isinstance(values.get(name, kind()), kind):
            raise InputError(f"Settings: {name} has to be {'true or false' if kind is bool else 'a text'}.")
    if not isinstance(data.get("filters", []), list):
        raise InputError("Settings: filters has to be a list of filters, each with its kind.")
    try:
        values["filters"] = tuple(filter_from_dict(one) for one in data.get("filters", []))
        return Settings(**values)
    except TypeError as error:
        raise InputError(f"Settings '{data.get('name', '')}' hold a value of the wrong kind ({error}).") from error


def read_settings(preset_or_path: str | Path) -> Settings:
    """Return a preset by name, or the settings in a JSON file.

    Raises
    ------
    InputError
        If it is neither a preset nor a readable settings file.
    """
    preset = PRESETS.get(str(preset_or_path).lower())
    if preset is not None:
        return preset
    if not str(preset_or_path).lower().endswith(".json"):
        raise InputError(f"'{preset_or_path}' is no preset ({', '.join(PRESETS)}) and no .json settings file.")
    path = require_file(preset_or_path, "settings")
    try:
        return settings_from_dict(json.loads(path.read_text(encoding="utf-8-sig")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"'{path.name}' is not JSON ({error}). Write the settings again.") from error
    except InputError as error:
        raise InputError(f"'{path.name}': {error}") from error


def write_settings(settings: Settings, path: str | Path) -> None:
    """Write the settings as JSON.

    Raises
    ------
    InputError
        If the target cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(settings_to_dict(settings), indent=1) + "\n", encoding="utf-8")
