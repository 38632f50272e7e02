"""The settings the panel works with: a preset or a file, and what the user changed in it."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from BreastBiomarkersLib.errors import InputError

from RadiomicsPanelLib.inslicer.packages import ensure_packages
from RadiomicsPanelLib.settings import Settings, read_settings, settings_from_dict, settings_to_dict, write_settings
from RadiomicsPanelLib.yaml_pyradiomics import (
    PyradiomicsParameters,
    parameters_from_dict,
    parameters_to_dict,
    read_parameters,
    write_parameters,
)

PYRADIOMICS = "pyradiomics"
"""Name of the preset that reproduces a study made with pyradiomics."""

AnySettings = Settings | PyradiomicsParameters

_YAML = (".yaml", ".yml")


def find_settings(preset_or_file: Any) -> AnySettings:
    """Return settings from a preset's name, a settings file (.json), a parameter file of pyradiomics (.yaml), or as is.

    Raises
    ------
    InputError
        If it is none of these, or cannot be read.
    """
    if isinstance(preset_or_file, AnySettings):
        return preset_or_file
    text = str(preset_or_file)
    changed = Path(text).stat().st_mtime_ns if text and Path(text).is_file() else None
    return _read(text, changed)


@lru_cache(maxsize=8)
def _read(text: str, changed: int | None) -> AnySettings:
    if text.lower() == PYRADIOMICS:
        return PyradiomicsParameters()
    if text.lower().endswith(_YAML):
        ensure_packages("PyYAML")
        return read_parameters(text)
    return read_settings(text)


def save_settings(settings: AnySettings, path: str) -> None:
    """Write the settings as .json, those of pyradiomics as .yaml.

    Raises
    ------
    InputError
        If the ending is another one or the file cannot be written.
    """
    published = isinstance(settings, PyradiomicsParameters)
    endings = _YAML if published else (".json",)
    if not path.lower().endswith(endings):
        raise InputError(f"These settings are written as {endings[0]}. Choose a file name with that ending.")
    if isinstance(settings, PyradiomicsParameters):
        ensure_packages("PyYAML")
        write_parameters(settings, path)
    else:
        write_settings(settings, path)


def settings_record(settings: AnySettings) -> dict[str, Any]:
    """Return the settings as plain data, as they stand in the provenance of a table."""
    if isinstance(settings, PyradiomicsParameters):
        from RadiomicsPanelLib.pyradiomics_mode import NAME

        return {"name": NAME, **_published_dict(settings)}
    return settings_to_dict(settings)


def with_edits(settings: AnySettings, edits: str) -> AnySettings:
    """Return the settings with the user's edits, if these were made to these settings.

    Parameters
    ----------
    settings : Settings or PyradiomicsParameters
    edits : str
        From `edits_to_text`; may be empty.
    """
    if not edits:
        return settings
    if isinstance(settings, Settings):
        return _with_edits(settings, edits)
    kept, base = json.loads(edits), _published_dict(settings)
    return parameters_from_dict(base | kept["values"]) if kept["base"] == base else settings


@lru_cache(maxsize=8)  # asked for many times at each change of the panel
def _with_edits(settings: Settings, edits: str) -> Settings:
    kept = json.loads(edits)
    if kept["base"] != settings.name:
        return settings
    return settings_from_dict(settings_to_dict(settings) | kept["values"] | {"name": f"{settings.name}, edited"})


def edits_to_text(base: AnySettings, edited: AnySettings) -> str:
    """Return what was changed as JSON text; nothing if nothing was."""
    own = isinstance(base, Settings)
    before = settings_to_dict(base) if isinstance(base, Settings) else _published_dict(base)
    after = settings_record(edited)
    values = {key: value for key, value in after.items() if key != "name" and value != before[key]}
    return json.dumps({"base": before["name"] if own else before, "values": values}) if values else ""


def edited_names(settings: AnySettings, edits: str) -> list[str]:
    """Return the names of the settings that were changed."""
    before, after = (_flat(settings_record(one)) for one in (settings, with_edits(settings, edits)))
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def describe_edits(settings: AnySettings, edits: str) -> list[str]:
    """Return what was changed in words, such as "bin count 64 instead of 32"."""
    before, after = (_flat(settings_record(one)) for one in (settings, with_edits(settings, edits)))
    return [
        f"{name.replace('_', ' ')} {_shown(after.get(name))} instead of {_shown(before.get(name))}"
        for name in edited_names(settings, edits)
    ]


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """Return the settings without their name, those of pyradiomics' section "setting" beside the others."""
    flat = {name: value for name, value in record.items() if name != "name"}
    return flat | flat.pop("setting", {})


def _published_dict(parameters: PyradiomicsParameters) -> dict[str, Any]:
    return json.loads(json.dumps(parameters_to_dict(parameters)))


def _shown(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):  # filters
        return str(len(value))
    if isinstance(value, dict):
        return ", ".join(value)
    if isinstance(value, list):
        return " x ".join(str(v) for v in value) or "none"
    return "none" if value is None else str(value)


def change_published(parameters: PyradiomicsParameters, name: str, value: Any) -> PyradiomicsParameters:
    """Return parameters of pyradiomics with one setting, or the image types, changed; None leaves a setting out.

    Raises
    ------
    InputError
        If the value is not reproduced or does not fit.
    """
    data = _published_dict(parameters)
    if name == "imageType":
        return parameters_from_dict(data | {name: value})
    setting = {key: kept for key, kept in data["setting"].items() if key != name}
    return parameters_from_dict(data | {"setting": setting | ({} if value is None else {name: value})})


def json_or_text(text: str) -> Any:
    """Return the value of an edited cell: JSON, or text where it is none."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
