"""Pytest fixtures of the test host; conftest.py imports them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def slicer_host() -> Iterator:
    """The host with an empty scene and no scripted module; fails the test on anything that Slicer would swallow."""
    from host.application import start

    host = start()
    host.reset()
    yield host
    problems = host.problems()
    # What cleanup and closing the scene complain about counts as well.
    host.forget_problems()
    for name in reversed(list(host._modules.scripted)):
        host.unload_module(name)
    host.close_scene()
    problems += host.problems()
    host.reset()
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
