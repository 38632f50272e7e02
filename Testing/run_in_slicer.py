"""Run the cases of all modules inside a real Slicer; the exit status tells whether all passed.

Slicer --testing --additional-module-paths WeakSegment NIRSTReconstruction RadiomicsPanel \
    --python-script Testing/run_in_slicer.py
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path

import slicer


def run_cases(folder: Path) -> list[str]:
    """Run every function in CASES of the `<module>_cases.py` files; return what failed."""
    failures = []
    for path in sorted(folder.glob("*_cases.py")):
        module = path.stem.removesuffix("_cases")
        if not hasattr(slicer.modules, module):
            failures.append(f"{module}: the module is not loaded, add its folder to --additional-module-paths")
            continue
        spec = importlib.util.spec_from_file_location(path.stem, path)
        cases = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(cases)
        for case in cases.CASES:
            name = f"{module}: {case.__name__}"
            if not run_case(case):
                failures.append(name)
            print(f"{'FAILED' if name in failures else 'passed'} {name}", flush=True)
    return failures


def run_case(case) -> bool:
    """Run one case on an empty scene; an exception that Slicer only prints (slot, observer) is a failure, too."""
    swallowed = []
    previous = sys.excepthook

    def hook(kind, error, trace):
        swallowed.append(error)
        previous(kind, error, trace)

    sys.excepthook = hook
    try:
        slicer.mrmlScene.Clear()
        case()
        slicer.app.processEvents()
    except Exception:
        traceback.print_exc()
        return False
    finally:
        sys.excepthook = previous
    return not swallowed


if __name__ == "__main__":
    failed = run_cases(Path(__file__).resolve().parent / "inslicer")
    print(f"{len(failed)} failed" + "".join(f"\n  {name}" for name in failed), flush=True)
    slicer.util.exit(1 if failed else 0)
