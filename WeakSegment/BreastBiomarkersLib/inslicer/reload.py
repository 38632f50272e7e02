"""Let the Reload button see changed library files."""

from __future__ import annotations

import sys


def forget_packages(*names: str) -> None:
    """Drop the packages and everything below them from `sys.modules`, so that the next import reads the files again."""
    for name in list(sys.modules):
        if name.partition(".")[0] in names:
            del sys.modules[name]
