"""The runner for a real Slicer: it finds the cases, and nothing that goes wrong is taken for a pass."""

from __future__ import annotations

import importlib.util
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_runner(slicer_host, tmp_path, capsys):
    slicer_host.load_module(ROOT / "WeakSegment" / "WeakSegment.py")
    spec = importlib.util.spec_from_file_location("run_in_slicer", ROOT / "Testing" / "run_in_slicer.py")
    runner = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runner)
    (tmp_path / "absent_cases.py").write_text("CASES = []")
    (tmp_path / "weaksegment_cases.py").write_text(
        textwrap.dedent(
            """
            import sys
            import slicer

            def good():
                assert slicer.mrmlScene.GetFirstNodeByName("left over") is None
                slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "left over")

            def wrong():
                assert 1 == 2

            def broken_in_a_slot():
                try:
                    1 / 0
                except ZeroDivisionError:
                    sys.excepthook(*sys.exc_info())  # what PythonQt does with an exception of a slot

            CASES = [good, wrong, good, broken_in_a_slot]
            """
        )
    )
    with slicer_host.expected_error(ZeroDivisionError):
        failed = runner.run_cases(tmp_path)
    assert [name.partition(",")[0] for name in failed] == [
        "absent: the module is not loaded",
        "weaksegment: wrong",
        "weaksegment: broken_in_a_slot",
    ]
    assert "passed weaksegment: good" in capsys.readouterr().out
