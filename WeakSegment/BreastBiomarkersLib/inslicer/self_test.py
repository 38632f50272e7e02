"""Let a module's Reload and Test run the cases of the source checkout."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import slicer


def source_cases(module: str) -> list[Callable[[], None]]:
    """Return what Testing/inslicer/<module>_cases.py lists in CASES; nothing where only the modules are installed."""
    script = Path(slicer.util.modulePath(module))
    path = script.parents[1] / "Testing" / "inslicer" / f"{module.lower()}_cases.py"
    if not path.is_file():
        return []
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    cases = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cases)
    return list(cases.CASES)
