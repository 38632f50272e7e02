"""Files with bytes knocked about end in data or in one sentence, never in anything else."""

from __future__ import annotations

import json

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from NIRSTReconstructionLib.fibers import read_fibers
from NIRSTReconstructionLib.measurements import read_measurements
from NIRSTReconstructionLib.nirfast import read_excoef, read_nirfast_mesh
from NIRSTReconstructionLib.plane import read_plane

PAIRS = [(s, d) for s in range(1, 5) for d in range(1, 5) if s != d]
TIPS = [(30, 0), (0, 30), (-30, 0), (0, -30)]
WHOLE = {
    "light.csv": "source,detector,wavelength_nm,amplitude,phase_deg,sd,active\n"
    + "".join(f"{s},{d},{nm},0.{s}{d},10,0.004,1\n" for nm in (661, 785) for s, d in PAIRS),
    "light.paa": "source det w661 w785\n" + "".join(f"{s} {d} 1 0.{s}{d} 10 1 0.{d}{s} 12\n" for s, d in PAIRS),
    "fibers.csv": "kind,number,x,y\n" + "".join(f"fiber,{n},{x},{y}\n" for n, (x, y) in enumerate(TIPS, 1)),
    "ring.source": "num x y fwhm\n" + "".join(f"{n} {x} {y} 0\n" for n, (x, y) in enumerate(TIPS, 1)),
    "ring.meas": "fixed\nnum x y\n" + "".join(f"{n} {y} {x}\n" for n, (x, y) in enumerate(TIPS, 1)),
    "plane.json": json.dumps(np.eye(4).tolist()),
    "table.excoef": "HbO\ndeoxyHb\nWater\n661 0.073 0.733 0.0004\n785 0.169 0.225 0.0022\n",
    "mesh.node": "1 0 0\n1 10 0\n1 0 10\n0 10 10\n",
    "mesh.elem": "1 2 3\n2 4 3\n",
}
READERS = {
    "csv": lambda path: (read_fibers if path.name == "fibers.csv" else read_measurements)(path),
    "paa": read_measurements,
    "source": read_fibers,
    "meas": read_fibers,
    "json": read_plane,
    "excoef": read_excoef,
    "node": read_nirfast_mesh,
    "elem": read_nirfast_mesh,
}
JUNK = (b"nan", b"inf", b"-1", b"0", b"1e400", b"", b",", b"\n", b"1e308", b'"', b";", b"\0", b"\xff", b"9" * 30, b"[")


@pytest.mark.parametrize("name", WHOLE)
def test_knocked_about(tmp_path, name):
    for other, text in WHOLE.items():
        (tmp_path / other).write_text(text)
    path, whole = tmp_path / name, WHOLE[name].encode()
    read = READERS[path.suffix[1:]]
    read(path)
    rng = np.random.default_rng(5)
    said = []
    for turn in range(60):
        content = bytearray(whole)
        for _ in range(int(rng.choice([1, 2, 6]))):
            at = int(rng.integers(len(content)))
            content[at : at + int(rng.integers(8))] = JUNK[int(rng.integers(len(JUNK)))]
        if turn % 6 == 0:
            content = content[: int(rng.integers(len(content)))]
        path.write_bytes(bytes(content))
        try:
            read(path)
        except InputError as error:
            said.append(str(error))
    assert len(said) > 20
    assert not [text for text in said if path.stem not in text and "mesh" not in text.lower()], "it says which file"
