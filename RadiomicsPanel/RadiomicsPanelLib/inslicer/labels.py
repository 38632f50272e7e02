"""Labels that take no room while they have nothing to say."""

from __future__ import annotations

from typing import Any


def say(label: Any, text: str) -> None:
    """Show a text, or hide the label if there is none."""
    label.text = text
    label.setVisible(bool(text))
