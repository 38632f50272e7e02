"""The README's promises: its console examples run as they stand, its commands and pictures exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PySide6", reason="the test host needs PySide6-Essentials and slicer-core")

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODULES = ("WeakSegment", "NIRSTReconstruction", "RadiomicsPanel")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def make_exam(folder):
    """Lay out the scene that the examples speak of: a pendant breast with a lesion, its points, fibers and light."""
    import slicer
    from BreastBiomarkersLib.inslicer.nodes import mask_to_segment, points_to_node, segmentation_for, volume_to_node
    from BreastBiomarkersLib.points import LabeledPoints
    from BreastBiomarkersLib.volume import Volume
    from NIRSTReconstructionLib.measurements import write_csv_measurements
    from WeakSegmentLib.points import extreme_points_of_mask

    k, j, i = np.indices((28, 24, 28))
    noise = np.random.default_rng(5)
    breast = (k - 13.5) ** 2 + (i - 13.5) ** 2 <= 12**2
    lesion = (k - 14) ** 2 + (j - 12) ** 2 + (i - 17) ** 2 <= 4**2
    matrix = np.diag([3.0, 3.0, 3.0, 1.0])
    post = Volume(noise.normal(10 + 60 * breast + 80 * lesion, 3.0), matrix, "post1")
    pre = Volume(noise.normal(10 + 60 * breast, 3.0), matrix, "pre")
    image = volume_to_node(post, name="post1")
    volume_to_node(pre, name="pre")
    points = extreme_points_of_mask(post.with_array(lesion))
    points_to_node(LabeledPoints(list(points.roles), points.positions_ras), name="Lesion")
    truth = segmentation_for(image, "truth")
    segment = mask_to_segment(post.with_array(lesion), truth, "lesion")
    nirst = sys.modules["NIRSTReconstruction"].NIRSTReconstructionLogic()
    plane = nirst.planeFromLesion(truth, segment, image)
    optodes = nirst.placeRing(plane, image)
    optodes.SetName("Optodes")
    light = nirst.simulate(image, plane, optodes, truth, segment)
    write_csv_measurements(light.measurements, folder / "light.csv")
    slicer.mrmlScene.RemoveNode(truth)


@pytest.mark.slow
def test_console_examples_run_as_they_stand(slicer_host, tmp_path, monkeypatch, capsys):
    for name in MODULES:
        slicer_host.load_module(ROOT / name / f"{name}.py")
    make_exam(tmp_path)
    monkeypatch.chdir(tmp_path)
    import slicer

    examples = blocks("python")
    assert len(examples) == 3
    for example in examples:
        exec(example, {"slicer": slicer, "getNode": slicer.util.getNode})
    assert " ml" in capsys.readouterr().out
    assert (tmp_path / "features.csv").exists()
    assert [n for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if n.GetName().startswith("StO2")]


@pytest.mark.parametrize("command", [c for b in blocks("bash") for c in b.splitlines() if " -m " in c])
def test_shell_examples_name_real_options(command):
    """Every option of every example is one that the command's own help explains."""
    words = shlex.split(command.partition("#")[0])
    at = words.index("-m")
    done = subprocess.run(
        [sys.executable, *words[at : at + 3], "--help"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    for option in [word for word in words if word.startswith("--")]:
        assert option in done.stdout


def test_pictures_are_there():
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", README)
    assert len(pictures) >= 3
    for picture in pictures:
        assert (ROOT / picture).stat().st_size > 10_000
