"""Packages that single buttons need beyond what Slicer ships; their lower bounds stand in one file of the module."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from BreastBiomarkersLib.inslicer.requirements import ensure_requirements

MODULE = "RadiomicsPanel"
_IMPORT_NAMES = {"scikit-learn": "sklearn"}
LIST = Path(__file__).parents[2] / "Resources" / f"{MODULE}-requirements.txt"


def ensure_packages(*names: str) -> None:
    """Make sure that packages of RadiomicsPanel-requirements.txt are importable, asking before anything is installed.

    Raises
    ------
    InputError
        As `ensure_requirements`: the user declined, or a package is missing afterwards.
    """
    listed = optional_packages()
    ensure_requirements([listed[name] for name in names], MODULE)


def packages_not_there(*names: str) -> list[str]:
    """Return those of the packages that cannot be imported; nothing is imported to find out."""
    return [name for name in names if find_spec(_IMPORT_NAMES.get(name, name)) is None]


def optional_packages() -> dict[str, str]:
    """Return name -> requirement ("pandas" -> "pandas>=2.2") of all packages the panel may offer to install."""
    lines = LIST.read_text(encoding="utf-8").splitlines()
    requirements = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return {requirement.partition(">=")[0]: requirement for requirement in requirements}
