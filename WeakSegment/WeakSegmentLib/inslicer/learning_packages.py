"""What training and using a network needs beyond what Slicer ships."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.requirements import ensure_requirements

MODULE = "WeakSegment"
LIST = Path(__file__).parents[2] / "Resources" / f"{MODULE}-requirements.txt"


def ensure_learning_packages() -> None:
    """Make sure that networks can be trained and used, asking before anything is installed.

    PyTorch comes through the extension of that name, which finds the build for this computer; the rest is listed in
    WeakSegment-requirements.txt.

    Raises
    ------
    InputError
        If something is missing afterwards.
    """
    if importlib.util.find_spec("torch") is None:
        try:
            import PyTorchUtils
        except ImportError as error:
            raise InputError(
                "Networks need PyTorch. Install the extension PyTorch in the Extensions Manager, then restart Slicer."
            ) from error
        if PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True) is None:
            raise InputError("Networks need PyTorch, and its installation was declined.")
    lines = [line.strip() for line in LIST.read_text(encoding="utf-8").splitlines()]
    ensure_requirements([line for line in lines if line and not line.startswith("#")], MODULE)
