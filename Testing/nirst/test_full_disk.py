"""A disk that is full and a folder that cannot be made: one sentence with the user's own path, and nothing changed."""

from __future__ import annotations

import csv
from contextlib import contextmanager

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from NIRSTReconstructionLib import snirf
from NIRSTReconstructionLib.cli import main
from NIRSTReconstructionLib.fibers import Fibers
from NIRSTReconstructionLib.measurements import write_csv_measurements

resource = pytest.importorskip("resource", reason="limits of files are those of Unix")


@contextmanager
def disk_full_after(size):
    """Let every file that grows beyond `size` bytes fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def case(disc, tmp_path_factory):
    folder = tmp_path_factory.mktemp("case")
    write_csv_measurements(disc.measurements(disc.light()), folder / "data.csv")
    with (folder / "optodes.csv").open("w", newline="") as file:
        rows = [["fiber", n + 1, *position[:2]] for n, position in enumerate(disc.fibers.sources)]
        csv.writer(file).writerows([["kind", "number", "x", "y"], *rows])
    return folder


def command(name, case, output):
    inputs = ["--data", str(case / "data.csv"), "--optodes", str(case / "optodes.csv"), "--output", str(output)]
    quick = ["--element-size", "9", "--basis-nodes", "40"] if name == "reconstruct" else []
    return [name, *inputs, *quick]


@pytest.mark.parametrize("name", ["check", "reconstruct"])
def test_commands(case, tmp_path, capsys, name):
    output = tmp_path / "out"
    assert main(command(name, case, output)) == 0
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    capsys.readouterr()
    with disk_full_after(1000):
        assert main(command(name, case, output)) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert str(output) in said
    assert "-writing-" not in said, "the name of a temporary folder means nothing to the user"
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert main(command(name, case, case / "data.csv" / "out")) == 2
    assert "Choose another output" in capsys.readouterr().err


def test_snirf(disc, tmp_path, capfd):
    pytest.importorskip("h5py")
    fibers = Fibers(disc.fibers.sources, disc.fibers.detectors, planar=True)
    measured = disc.measurements(disc.light())
    path = tmp_path / "light.snirf"
    path.write_bytes(b"older")
    with disk_full_after(1000), pytest.raises(InputError, match=r"Writing '.*light\.snirf' failed: File too large"):
        snirf.write_snirf(measured, fibers, path)
    assert path.read_bytes() == b"older"
    assert [item.name for item in tmp_path.iterdir()] == ["light.snirf"]
    assert capfd.readouterr().err == "", "HDF5 does not complain beside"
    snirf.write_snirf(measured, fibers, path)
    back = snirf.read_snirf_measurements(path)
    np.testing.assert_allclose(back.at_channels(measured.channels).log_amplitude, measured.log_amplitude, atol=1e-12)
