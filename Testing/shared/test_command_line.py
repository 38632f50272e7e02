"""The exit-status contract, in a real child process."""

import json
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import argparse, sys, time
from BreastBiomarkersLib import command_line
from BreastBiomarkersLib.errors import InputError
def good(options, progress):
    progress(0.5, "half")
    return {"volume_ml": 1.25, "name": "a"}
def bad(options, progress):
    raise InputError("The image 'x' is missing. Check the path.")
def slow(options, progress):
    while True:
        progress(0.1, "working")
        time.sleep(0.05)
def broken(options, progress):
    raise KeyError("bug")
parser = argparse.ArgumentParser(prog="test")
commands = parser.add_subparsers(required=True)
for handler in (good, bad, slow, broken):
    command = commands.add_parser(handler.__name__)
    command_line.add_json_option(command)
    command.set_defaults(handler=handler)
command = commands.add_parser("resumable")
command_line.add_json_option(command)
command.set_defaults(handler=slow, kept="the cases so far are kept")
sys.exit(command_line.run(parser))
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(f"import sys; sys.path[:0] = {sys.path!r}\n{PROGRAM}")
    return [sys.executable, str(path)]


def test_key_figures_and_progress_go_to_different_streams(program):
    done = subprocess.run([*program, "good", "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"volume_ml": 1.25, "name": "a"}
    assert json.loads(done.stderr) == {"progress": 0.5, "message": "half"}


def test_figures_as_text(program):
    done = subprocess.run([*program, "good"], capture_output=True, text=True, check=False)
    assert done.stdout == "volume_ml: 1.25\nname: a\n"


def test_bad_input_is_one_line_and_status_2(program):
    done = subprocess.run([*program, "bad"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "test: The image 'x' is missing. Check the path.\n"


def test_a_bug_is_not_hidden(program):
    done = subprocess.run([*program, "broken"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "KeyError" in done.stderr


@pytest.mark.parametrize(
    ("command", "how", "kept"),
    [
        ("slow", signal.SIGTERM, "nothing was written"),
        ("slow", signal.SIGINT, "nothing was written"),
        ("resumable", signal.SIGTERM, "the cases so far are kept"),
    ],
)
def test_cancelled_is_130_and_says_what_is_kept(program, command, how, kept):
    child = subprocess.Popen([*program, command], stderr=subprocess.PIPE, text=True)
    assert "working" in child.stderr.readline()
    time.sleep(0.1)
    child.send_signal(how)
    _, errors = child.communicate(timeout=20)
    assert child.returncode == 130
    assert errors.splitlines()[-1] == f"test: cancelled, {kept}"
