"""The tutorial: its pictures are there, its buttons are in the panel, its script runs through all steps."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Docs" / "tutorial-weaksegment.md").read_text(encoding="utf-8")
PICTURES = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TEXT)
MOST_BYTES = 300_000
ELSEWHERE = {"Sample Data", "WeakSegment", "Cancel"}


def test_pictures_are_there_and_small():
    assert len(PICTURES) == 6
    for name in PICTURES:
        assert 20_000 < (ROOT / "Docs" / name).stat().st_size < MOST_BYTES, name


def test_every_button_it_names_is_in_the_panel():
    texts = set()
    for name in ("WeakSegment", "WeakSegmentCohort"):
        root = ElementTree.parse(ROOT / "WeakSegment" / "Resources" / "UI" / f"{name}.ui").getroot()
        for widget in root.iter("widget"):
            texts |= {p.findtext("string") for p in widget.findall("property") if p.get("name") == "text"}
    named = {" ".join(words.split()) for words in re.findall(r"\*\*([^*]+)\*\*", TEXT)}
    assert len(named) > 15
    assert named - ELSEWHERE <= texts


def test_script_draws_every_picture(slicer_host, tmp_path, capfd):
    for name in ("WeakSegment", "NIRSTReconstruction", "RadiomicsPanel"):
        slicer_host.load_module(ROOT / name / f"{name}.py")
    slicer_host.startup_completed()
    tutorial = importlib.import_module("examples.tutorial_weaksegment").Tutorial(slicer_host, tmp_path)
    tutorial.run()
    drawn = sorted(path.name for path in tmp_path.glob("*.png"))
    assert drawn == sorted(Path(name).name for name in PICTURES)
    assert all(path.stat().st_size < MOST_BYTES for path in tmp_path.glob("*.png"))
    assert "Dice 0.9" in tutorial.widget.ui.measuresLabel.text
    slicer_host.messages.vtk[:] = [text for text in slicer_host.messages.vtk if "bad X server connection" not in text]
