"""Optional Python packages are installed when first needed, and only with the user's consent."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Sequence

import slicer

from BreastBiomarkersLib.errors import InputError


def ensure_requirements(requirements: Sequence[str], requester: str) -> None:
    """Make sure that the packages are importable, asking before anything is installed.

    Parameters
    ----------
    requirements : sequence of str
        Requirement specifiers with lower bounds, such as ``"matplotlib>=3.9"``.
    requester : str
        Module that needs them, shown in the question.

    Raises
    ------
    InputError
        If the user declines, or a package is missing afterwards (as in testing mode, which never installs).
    """
    missing = [requirement for requirement in requirements if not _is_satisfied(requirement)]
    if not missing:
        return
    try:
        _install(missing, requester)
    except RuntimeError as error:
        raise InputError(f"{requester} needs {', '.join(missing)}: {error}") from error
    importlib.invalidate_caches()
    missing = [requirement for requirement in missing if not _is_satisfied(requirement)]
    if missing:
        raise InputError(f"{requester} needs the Python packages {', '.join(missing)}, which are not installed.")


def _is_satisfied(requirement: str) -> bool:
    from packaging.requirements import Requirement

    parsed = Requirement(requirement)
    try:
        version = importlib.metadata.version(parsed.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return parsed.specifier.contains(version, prereleases=True)


def _install(missing: list[str], requester: str) -> None:
    try:
        from slicer import packaging as slicer_packaging
    except ImportError:  # before Slicer 5.12
        if slicer.app.testingEnabled():
            return
        question = f"{requester} needs the Python packages {', '.join(missing)}. Download and install them now?"
        if not slicer.util.confirmOkCancelDisplay(question):
            raise InputError(f"{requester} needs {', '.join(missing)}; the installation was declined.") from None
        slicer.util.pip_install(missing)
        return
    slicer_packaging.pip_ensure(missing, requester=requester)
