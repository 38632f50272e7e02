"""Pytest fixtures of the test host; conftest.py imports them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest


@pytest.fixture
def slicer_host() -> Iterator:
    """The host with an empty scene and no scripted module; fails the test on anything that Slicer would swallow."""
    from host.application import start

    host = start()
    host.reset()
    libraries = _libraries()
    yield host
    problems = host.problems()
    # What cleanup and closing the scene complain about counts as well.
    host.forget_problems()
    for name in reversed(list(host._modules.scripted)):
        host.unload_module(name)
    host.close_scene()
    problems += host.problems()
    host.reset()
    for name in _libraries():  # Reload makes new classes; other tests go on with those they imported
        del sys.modules[name]
    sys.modules.update(libraries)
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


def _libraries() -> dict[str, ModuleType]:
    """Return our library packages and all below them, as imported now."""
    names = {"BreastBiomarkersLib", "WeakSegmentLib", "NIRSTReconstructionLib", "RadiomicsPanelLib"}
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] in names}
