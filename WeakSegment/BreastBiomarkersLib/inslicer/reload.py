"""Let the Reload button see changed library files."""

from __future__ import annotations

import importlib
import sys

KEPT = ("BreastBiomarkersLib.errors", "BreastBiomarkersLib.progress")
"""Hold the exception classes that other modules, which are not reloaded, go on catching."""


def forget_packages(*names: str) -> None:
    """Drop the packages and everything below them from `sys.modules`, so that the next import reads the files again.

    What is in `KEPT` stays.
    """
    for name in list(sys.modules):
        if name.partition(".")[0] in names and name not in KEPT:
            del sys.modules[name]
    for name in KEPT:
        package, _, attribute = name.partition(".")
        if package in names and name in sys.modules:
            setattr(importlib.import_module(package), attribute, sys.modules[name])
