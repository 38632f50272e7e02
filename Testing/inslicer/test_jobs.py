"""Jobs behind a button, in process and as real child processes of our command lines; requirements; reload."""

from __future__ import annotations

import json
import os
import signal
import sys
import textwrap
import time

import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Cancelled


@pytest.fixture
def jobs(slicer_host):
    from BreastBiomarkersLib.inslicer import jobs

    return jobs


@pytest.fixture
def panel(jobs):
    """A button, a progress bar, the job between them, and what its lock was told."""
    import qt

    class Panel:
        button, bar, locked = qt.QPushButton("Apply"), qt.QProgressBar(), []
        job = jobs.PanelJob(button, bar, locked.append)

    yield Panel
    Panel.button.deleteLater()
    Panel.bar.deleteLater()


class Outcome:
    """Takes what a child process reports."""

    def __init__(self):
        self.progress = []
        self.result = None

    def report(self, fraction, message):
        self.progress.append((fraction, message))

    def finished(self, status, output, message):
        self.result = (status, output, message)


def run_child(slicer_host, jobs, module, arguments, timeout_s=60, cancel_when=None):
    outcome = Outcome()
    child = jobs.ChildProcess(module, arguments, outcome.report, outcome.finished)
    child.start()
    if cancel_when is not None:
        slicer_host.wait_until(lambda: cancel_when(outcome), timeout_s)
        child.cancel()
    slicer_host.wait_until(lambda: outcome.result is not None, timeout_s)
    return child, outcome


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


def write_module(folder, monkeypatch, code):
    (folder / "childmodule.py").write_text(textwrap.dedent(code))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return "childmodule"


# In process


def test_job_shows_progress_and_returns(slicer_host, panel):
    seen = []

    def work(progress):
        assert panel.button.text == "Cancel"
        assert panel.locked == [True]
        progress(0.25, "Walking")
        seen.append((panel.bar.value, panel.bar.format, panel.bar.isHidden()))
        return "done"

    assert panel.job.run(work) == "done"
    assert seen == [(25, "Walking %p%", False)]
    assert panel.button.text == "Apply"
    assert panel.bar.isHidden()
    assert panel.locked == [True, False]
    assert not panel.job.running


def test_second_click_cancels(slicer_host, panel):
    reached = []

    def work(progress):
        import qt

        qt.QTimer.singleShot(0, panel.button.click)
        for step in range(1000):
            progress(step / 1000, "Walking")
            reached.append(step)
            time.sleep(0.001)

    panel.button.connect("clicked()", lambda: panel.job.toggle(lambda: reached.append(panel.job.run(work))))
    panel.button.click()
    assert reached[-1] is None
    assert len(reached) < 100
    assert panel.button.text == "Apply"


def test_error_leaves_the_panel_usable(slicer_host, panel):
    def work(progress):
        raise InputError("no")

    with pytest.raises(InputError):
        panel.job.run(work)
    assert panel.button.text == "Apply"
    assert panel.bar.isHidden()
    assert panel.locked == [True, False]


def test_closed_panel_is_not_touched(slicer_host, jobs):
    import qt

    button, bar, locked = qt.QPushButton("Apply"), qt.QProgressBar(), []
    job = jobs.PanelJob(button, bar, locked.append)

    def work(progress):
        job.close()
        button.deleteLater()
        bar.deleteLater()
        slicer_host.process_events(0)
        progress(0.5, "too late")

    assert job.run(work) is None
    assert locked == [True]
    assert not job.running


# Child processes


def test_child_runs_our_command_line(slicer_host, jobs, tmp_path):
    target = tmp_path / "cases with spaces"
    child, outcome = run_child(
        slicer_host, jobs, "WeakSegmentLib", ["simulate", "--small", "--output", str(target), "--seed", "3", "--json"]
    )
    status, output, message = outcome.result
    assert (status, message) == (0, "")
    assert json.loads(output)["written"] == 1
    assert (target / "case_00003" / "pre.nrrd").is_file()
    fractions = [fraction for fraction, _ in outcome.progress]
    assert fractions == sorted(fractions)
    assert len(fractions) > 5
    assert fractions[-1] == 1.0
    assert not child.cancelled


def test_bad_input_of_a_child_is_one_line(slicer_host, jobs, tmp_path):
    missing = tmp_path / "missing.nrrd"
    _child, outcome = run_child(
        slicer_host,
        jobs,
        "WeakSegmentLib",
        ["segment", "--image", str(missing), "--points", str(missing), "--output", str(tmp_path / "mask.nrrd")],
    )
    status, output, message = outcome.result
    assert status == 2
    assert output == ""
    assert "missing.nrrd" in message
    assert "\n" not in message
    assert "Traceback" not in message


def test_cancelled_child_is_gone_and_wrote_nothing(slicer_host, jobs, tmp_path):
    arguments = ["simulate", "--cases", "50", "--output", str(tmp_path / "cases")]
    child, outcome = run_child(
        slicer_host, jobs, "WeakSegmentLib", arguments, cancel_when=lambda outcome: len(outcome.progress) > 2
    )
    assert child.cancelled
    assert outcome.result[0] == 130
    assert not is_running(child._process.pid)
    assert not list((tmp_path / "cases").glob("case_*")) if (tmp_path / "cases").exists() else True


def test_children_of_a_cancelled_child_are_gone_too(slicer_host, jobs, tmp_path, monkeypatch):
    module = write_module(
        tmp_path,
        monkeypatch,
        """
        import json, subprocess, sys, time
        worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print(json.dumps({"progress": 0.5, "message": str(worker.pid)}), file=sys.stderr, flush=True)
        time.sleep(600)
        """,
    )
    child, outcome = run_child(slicer_host, jobs, module, [], cancel_when=lambda outcome: outcome.progress)
    worker = int(outcome.progress[0][1])
    slicer_host.wait_until(lambda: not is_running(worker), 10)
    assert not is_running(child._process.pid)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no SIGTERM that can be ignored")
def test_deaf_child_is_killed(slicer_host, jobs, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "GRACE_MS", 300)
    module = write_module(
        tmp_path,
        monkeypatch,
        """
        import json, signal, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(json.dumps({"progress": 0.5, "message": ""}), file=sys.stderr, flush=True)
        time.sleep(600)
        """,
    )
    child, outcome = run_child(slicer_host, jobs, module, [], cancel_when=lambda outcome: outcome.progress)
    assert outcome.result[0] == -signal.SIGKILL
    assert not is_running(child._process.pid)


def test_broken_child_reports_its_end(slicer_host, jobs, tmp_path, monkeypatch):
    module = write_module(tmp_path, monkeypatch, "print('half'); raise RuntimeError('broken solver')")
    _child, outcome = run_child(slicer_host, jobs, module, [])
    status, output, message = outcome.result
    assert status == 1
    assert output == "half\n"
    assert message.endswith("RuntimeError: broken solver")


def test_large_output_does_not_block(slicer_host, jobs, tmp_path, monkeypatch):
    code = "import sys; sys.stdout.write('x' * 3_000_000); sys.stderr.write('warning é\\n' * 20_000)"
    module = write_module(tmp_path, monkeypatch, code)
    _child, outcome = run_child(slicer_host, jobs, module, [])
    assert outcome.result[0] == 0
    assert len(outcome.result[1]) == 3_000_000


def test_child_behind_the_button(slicer_host, panel, tmp_path, caplog):
    done = []
    panel.job.start("WeakSegmentLib", ["simulate", "--small", "--output", str(tmp_path / "good")], done.append)
    assert panel.button.text == "Cancel"
    slicer_host.wait_until(lambda: not panel.job.running, 60)
    assert [figures["written"] for figures in done] == [1]
    assert panel.locked == [True, False]

    panel.job.start("WeakSegmentLib", ["simulate", "--cases", "0", "--output", str(tmp_path / "bad")], done.append)
    slicer_host.wait_until(lambda: not panel.job.running, 60)
    assert len(done) == 1
    assert "0 cases cannot be simulated" in caplog.text
    assert "python -m" not in caplog.text

    caplog.clear()
    said, last = [], []
    panel.job.start(
        "WeakSegmentLib",
        ["simulate", "--cases", "50", "--output", str(tmp_path / "many")],
        done.append,
        said.append,
        last.append,
    )
    slicer_host.wait_until(lambda: panel.bar.value > 0, 60)
    panel.job.cancel()
    slicer_host.wait_until(lambda: not panel.job.running, 60)
    assert len(done) == 1
    assert last == ["cancelled, the cases written so far are kept; the same command goes on from there"]
    assert len(said) > 1
    assert said[-1].endswith(last[0])
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert panel.button.text == "Apply"


def test_application_without_python_says_so(slicer_host, panel, jobs, monkeypatch, tmp_path):
    monkeypatch.setattr(jobs, "python_executable", lambda: str(tmp_path / "no python here"))
    with pytest.raises(InputError, match="cannot be started"):
        panel.job.start("WeakSegmentLib", [], lambda figures: None)
    assert panel.button.text == "Apply"


# Requirements


def test_requirements(slicer_host, monkeypatch):
    from BreastBiomarkersLib.inslicer.requirements import ensure_requirements

    ensure_requirements(["numpy>=1.20", "SimpleITK"], "Test")
    with pytest.raises(InputError, match="Test needs the Python packages numpy>=99, no-such-package, which are not"):
        ensure_requirements(["numpy>=99", "scipy", "no-such-package"], "Test")
    slicer_host.set_testing(False)
    import slicer

    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *arguments, **keywords: False)
    with pytest.raises(InputError, match="declined"):
        ensure_requirements(["no-such-package"], "Test")


# Reload


def test_forgotten_packages_are_read_again(slicer_host):
    import BreastBiomarkersLib.points
    import WeakSegmentLib.settings
    from BreastBiomarkersLib.inslicer.reload import forget_packages

    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0].endswith("Lib")}
    try:
        forget_packages("BreastBiomarkersLib")
        import BreastBiomarkersLib.errors
        import BreastBiomarkersLib.points as points_again
        import BreastBiomarkersLib.progress

        assert points_again is not before["BreastBiomarkersLib.points"]
        assert BreastBiomarkersLib.errors.InputError is InputError, "modules that are not reloaded still catch it"
        assert BreastBiomarkersLib.progress.Cancelled is Cancelled
        assert points_again.InputError is InputError
        assert sys.modules["WeakSegmentLib.settings"] is WeakSegmentLib.settings
    finally:
        sys.modules.update(before)
