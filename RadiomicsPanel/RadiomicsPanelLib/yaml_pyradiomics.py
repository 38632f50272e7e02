"""Parameter files of pyradiomics (YAML): read, written, run without it, and compared with it where it is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path, require_file
from BreastBiomarkersLib.progress import Progress, ignore_progress
from BreastBiomarkersLib.volume import to_sitk

from RadiomicsPanelLib.pyradiomics_images import IMAGE_TYPES, filtered_images
from RadiomicsPanelLib.pyradiomics_mode import (
    NAMES,
    PyradiomicsSettings,
    compute_like_pyradiomics,
    prepare_image,
    region_of,
)
from RadiomicsPanelLib.roi import Case

MAX_BYTES = 1 << 20

_FIXED: dict[str, tuple[Any, ...]] = {
    "distances": ([1], 1),
    "symmetricalGLCM": (True,),
    "gldm_a": (0,),
    "force2Ddimension": (0,),
    "removeOutliers": (None,),
    "resegmentShape": (False,),
    "interpolator": ("sitkBSpline", None, 3),
    "label_channel": (0,),
}
"""Settings that are reproduced with these values only."""

_HARMLESS = {
    "additionalInfo",
    "correctMask",
    "enableCExtensions",
    "geometryTolerance",
    "minimumROIDimensions",
    "minimumROISize",
    "preCrop",
}
"""Settings that change no value of what is reproduced."""


@dataclass(frozen=True)
class PyradiomicsParameters:
    """What a parameter file says.

    Attributes
    ----------
    settings : PyradiomicsSettings
    features : tuple of str
        Of `NAMES`.
    image_types : dict of str to dict
        Image type -> its settings.
    label : int or None
    """

    settings: PyradiomicsSettings = field(default_factory=PyradiomicsSettings)
    features: tuple[str, ...] = NAMES
    image_types: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"Original": {}})
    label: int | None = None


def read_parameters(path: str | Path) -> PyradiomicsParameters:
    """Return the parameters in a YAML (or JSON) file of pyradiomics.

    Raises
    ------
    InputError
        If PyYAML is missing, the file is not YAML, or it asks for something that is not reproduced.
    """
    path = require_file(path, "parameter")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"'{path.name}' is too large for a parameter file.")
    yaml = _yaml()
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"'{path.name}' is not YAML: {' '.join(str(error).split())}") from error
    try:
        return parameters_from_dict(data)
    except InputError as error:
        raise InputError(f"'{path.name}': {error}") from error


def parameters_from_dict(data: Any) -> PyradiomicsParameters:
    """Return the parameters in plain data with the keys imageType, featureClass and setting.

    Raises
    ------
    InputError
        If something is unknown or not reproduced.
    """
    if not isinstance(data, dict):
        raise InputError("A parameter file holds imageType, featureClass and setting.")
    for key in data:
        if key not in ("imageType", "featureClass", "setting", "voxelSetting"):
            raise InputError(f"'{key}' is no part of a parameter file (imageType, featureClass, setting).")
    if data.get("voxelSetting"):
        raise InputError("voxelSetting is not reproduced. Make maps with the command 'maps'.")
    settings, label = _settings(_mapping(data, "setting"))
    kinds = {name: dict(options or {}) for name, options in (_mapping(data, "imageType") or {"Original": {}}).items()}
    for name, options in kinds.items():
        if name not in IMAGE_TYPES:
            raise InputError(f"The image type '{name}' is not reproduced; these are: {', '.join(IMAGE_TYPES)}.")
        for option in options:
            if option not in (*IMAGE_TYPES[name], "binWidth", "binCount"):
                raise InputError(f"The image type '{name}' has the setting '{option}', which is not reproduced.")
        _overridden(settings, options)
    return PyradiomicsParameters(settings, _features(_mapping(data, "featureClass")), kinds, label)


def parameters_to_dict(parameters: PyradiomicsParameters) -> dict[str, Any]:
    """Return the parameters as pyradiomics takes them."""
    s, defaults = parameters.settings, PyradiomicsSettings()
    setting: dict[str, Any] = {"binWidth": s.bin_width} if s.bin_count is None else {"binCount": s.bin_count}
    if parameters.label is not None:
        setting["label"] = parameters.label
    for name, (attribute, _) in _NAMES.items():
        value = getattr(s, attribute)
        if attribute not in ("bin_width", "bin_count") and value != getattr(defaults, attribute):
            whole = name == "voxelArrayShift" and float(value).is_integer()  # its schema wants an int
            setting[name] = int(value) if whole else list(value) if isinstance(value, tuple) else value
    if s.merged:
        setting["weightingNorm"] = "no_weighting"
    classes: dict[str, list[str]] = {}
    for name in parameters.features:
        family, _, feature = name.partition("_")
        classes.setdefault(family, []).append(feature)
    kinds = {name: dict(options) for name, options in parameters.image_types.items()}
    return {"imageType": kinds, "featureClass": classes, "setting": setting}


def write_parameters(parameters: PyradiomicsParameters, path: str | Path) -> None:
    """Write the parameters as a YAML file that pyradiomics reads.

    Raises
    ------
    InputError
        If PyYAML is missing or the target cannot be written.
    """
    text = _yaml().safe_dump(parameters_to_dict(parameters), sort_keys=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def extract_like_pyradiomics(
    case: Case, parameters: PyradiomicsParameters, progress: Progress = ignore_progress
) -> dict[str, float]:
    """Return the values pyradiomics would give for one segment, under its names and in all image types.

    Raises
    ------
    InputError
        As `prepare_like_pyradiomics` and `filtered_images`.
    """
    progress(0.0, f"Preparing {case.segment}")
    prepared = prepare_image(case, parameters.settings)
    values: dict[str, float] = {}
    for n, (kind, options) in enumerate(parameters.image_types.items()):
        settings = _overridden(parameters.settings, options)
        for prefix, image in filtered_images(prepared.image, kind, options):
            progress(0.1 + 0.9 * n / len(parameters.image_types), f"{case.segment}: {prefix}")
            roi = region_of(prepared, image, settings)
            values |= compute_like_pyradiomics(roi, settings, parameters.features, prefix)
    progress(1.0, "Features computed")
    return values


def extract_with_pyradiomics(case: Case, parameters: PyradiomicsParameters) -> dict[str, float]:
    """Return the values that an installed pyradiomics gives for one segment, for comparison.

    Raises
    ------
    InputError
        If pyradiomics is not installed or refuses the segment, or the mask lies on another grid than the image.
    """
    try:
        import radiomics
        import radiomics.featureextractor
    except ImportError as error:
        raise InputError(
            "pyradiomics is not installed; its values cannot be compared. Python 3.11: pip install numpy setuptools "
            "wheel; pip install --no-build-isolation pyradiomics==3.0.1"
        ) from error
    if not case.image.same_grid(case.mask):
        raise InputError(f"The mask of {case.title} lies on another grid; pyradiomics would refuse it.")
    radiomics.setVerbosity(60)
    inside = case.mask.array != 0 if case.label is None else case.mask.array == case.label
    extractor = radiomics.featureextractor.RadiomicsFeatureExtractor(
        parameters_to_dict(replace(parameters, label=1)), additionalInfo=False
    )
    try:
        found = extractor.execute(to_sitk(case.image), to_sitk(case.image.with_array(inside)))
    except (ValueError, RuntimeError) as error:
        raise InputError(f"pyradiomics refuses {case.title}: {error}") from error
    return {name: float(value) for name, value in found.items() if not name.startswith("diagnostics")}


def _mapping(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key) or {}
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise InputError(f"'{key}' has to hold names and values.")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    return float(value)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _numbers(value: Any) -> tuple[float, ...] | None:
    if value is None:
        return None
    return tuple(_number(v) for v in (value if isinstance(value, list) else [value]))


def _whole(value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise ValueError
    return value


def _mode(value: Any) -> str:
    if value not in ("absolute", "relative", "sigma"):
        raise ValueError
    return str(value)


_NAMES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "binWidth": ("bin_width", _number),
    "binCount": ("bin_count", _whole),
    "resampledPixelSpacing": ("spacing_ijk_mm", _numbers),
    "normalize": ("normalize", _truth),
    "normalizeScale": ("normalize_scale", _number),
    "resegmentRange": ("resegment_range", _numbers),
    "resegmentMode": ("resegment_mode", _mode),
    "force2D": ("force_2d", _truth),
    "voxelArrayShift": ("voxel_array_shift", _number),
    "padDistance": ("pad_distance", _whole),
}
"""Setting -> attribute of `PyradiomicsSettings` and what makes its value."""


def _settings(given: Mapping[str, Any]) -> tuple[PyradiomicsSettings, int | None]:
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name in _NAMES:
            attribute, convert = _NAMES[name]
            try:
                values[attribute] = convert(value)
            except ValueError as error:
                raise InputError(f"The setting '{name}' cannot be {value!r}.") from error
        elif name == "weightingNorm":
            if value not in (None, "no_weighting"):
                raise InputError(f"The setting 'weightingNorm' is not reproduced with '{value}'.")
            values["merged"] = value == "no_weighting"
        elif name in _FIXED:
            if value not in _FIXED[name]:
                raise InputError(
                    f"The setting '{name}' is not reproduced with {value!r}, only with {_FIXED[name][0]!r}."
                )
        elif name != "label" and name not in _HARMLESS:
            raise InputError(f"The setting '{name}' is not reproduced.")
    spacing = values.get("spacing_ijk_mm")
    if spacing is not None and (len(spacing) != 3 or min(spacing) < 0):
        raise InputError("The setting 'resampledPixelSpacing' has three sizes, 0 to keep an axis.")
    if values.get("resegment_range") is not None and not 1 <= len(values["resegment_range"]) <= 2:
        raise InputError("The setting 'resegmentRange' has one or two values.")
    if values.get("bin_width", 1.0) <= 0 or (values.get("bin_count") or 1) < 1 or values.get("pad_distance", 0) < 0:
        raise InputError("'binWidth' and 'binCount' are above 0, 'padDistance' is not below.")
    label = given.get("label")
    if label is not None and (isinstance(label, bool) or not isinstance(label, int) or label < 1):
        raise InputError(f"The setting 'label' cannot be {label!r}.")
    return PyradiomicsSettings(**values), label


def _overridden(settings: PyradiomicsSettings, options: Mapping[str, Any]) -> PyradiomicsSettings:
    """Return the settings with an image type's own bins."""
    own = {name: options[name] for name in ("binWidth", "binCount") if name in options}
    if not own:
        return settings
    changed, _ = _settings(own)
    count = changed.bin_count if "binCount" in own else settings.bin_count
    return replace(settings, bin_width=changed.bin_width if "binWidth" in own else settings.bin_width, bin_count=count)


def _features(classes: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the chosen features; a class without a list stands for all of it, no class for everything."""
    if not classes:
        return NAMES
    known = {name.split("_")[0] for name in NAMES}
    chosen: set[str] = set()
    for family, features in classes.items():
        if family not in known:
            raise InputError(f"The feature class '{family}' is not reproduced; these are: {', '.join(sorted(known))}.")
        names = {name for name in NAMES if name.startswith(f"{family}_")}
        wanted = {f"{family}_{feature}" for feature in features or ()} or names
        missing = sorted(wanted - names)
        if missing:
            raise InputError(f"The feature '{missing[0].split('_')[1]}' of '{family}' is not reproduced.")
        chosen |= wanted
    return tuple(name for name in NAMES if name in chosen)


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise InputError("Parameter files of pyradiomics need PyYAML. Run: pip install PyYAML") from error
    return yaml
