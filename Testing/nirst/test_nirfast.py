import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from NIRSTReconstructionLib.fibers import read_fibers
from NIRSTReconstructionLib.nirfast import (
    read_excoef,
    read_nirfast_fibers,
    read_nirfast_mesh,
    read_paa,
)


@pytest.fixture
def circle(shared_data):
    return shared_data / "nirst" / "nirfast_circle_measured"


def small_paa(path, rows=None, header="source\tdet\tw735\tw850"):
    if rows is None:
        rows = [f"{s} {d} 1 {s + d / 10} 20 1 {s + d / 20} 30" for s in (1, 2, 3, 4) for d in (1, 2, 3, 4) if s != d]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_measured_data_have_the_values_of_the_file(circle):
    measured = read_paa(circle / "anom.paa")
    assert measured.wavelengths_nm.tolist() == [661, 761, 785, 808, 826, 849]
    assert measured.log_amplitude.shape == (6, 240)
    first = np.flatnonzero((measured.channels == [1, 2]).all(axis=1))[0]
    assert measured.amplitude[0, first] == pytest.approx(4.85234)
    assert np.rad2deg(measured.phase_rad[0, first]) == pytest.approx(47.582)
    assert measured.amplitude[5, first] == pytest.approx(0.680205)
    assert measured.remarks == ()


def test_mesh_set_of_the_measured_circle(circle):
    mesh = read_nirfast_mesh(circle / "circle_spec.node")
    assert mesh.nodes.shape == (1785, 2)
    assert mesh.elements.shape == (3418, 3)
    assert np.hypot(*mesh.nodes.T).max() == pytest.approx(41.0, abs=1e-3)
    assert mesh.area_mm2 == pytest.approx(np.pi * 41**2, rel=2e-3)
    fibers = read_nirfast_fibers(circle / "circle_spec.source")
    assert fibers.planar
    assert fibers.sources.shape == fibers.detectors.shape == (16, 3)
    np.testing.assert_allclose(fibers.detectors[0], [40.1677, -7.9899, 0])
    assert read_fibers(circle / "circle_spec.meas").sources[0, 0] == pytest.approx(39.5554)


def test_extinction_is_per_micromolar(circle):
    spectra = read_excoef(circle / "circle_spec.excoef")
    assert spectra.wavelengths_nm.tolist() == [661, 761, 785, 808, 826, 849]
    np.testing.assert_allclose(spectra.extinction[0], [0.0740741e-3, 0.85e-3, 0.00148, 0])
    assert spectra.table_name.startswith("circle_spec.excoef ")


def test_three_dimensional_fibers_and_their_best_plane(shared_data):
    fibers = read_nirfast_fibers(shared_data / "nirst" / "nirfast_mri_breast" / "spectral_breast.source")
    assert not fibers.planar
    fit = fibers.fitted_plane()
    assert fit.rms_mm == pytest.approx(2.74, abs=0.01)
    assert fit.warning == ""


def test_inactive_channels_stay_in_place(tmp_path):
    rows = [f"{s} {d} {int(d != 3)} 1.0 0 1 2.0 0" for s in (1, 2, 3, 4) for d in (1, 2, 3, 4) if s != d]
    measured = read_paa(small_paa(tmp_path / "d.paa", rows))
    np.testing.assert_array_equal(measured.active[0], measured.channels[:, 1] != 3)
    assert measured.active[1].all()
    assert measured.phase_rad is None  # all zero: continuous wave


def test_file_that_ends_early_between_rows_is_remarked(tmp_path):
    path = small_paa(tmp_path / "d.paa")
    path.write_text("\n".join(path.read_text().splitlines()[:-2]) + "\n")
    assert "Sources with fewer than 3 detectors: 4 (1)" in " ".join(read_paa(path).remarks)


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda text: text[: len(text) // 2], "damaged or cut off"),
        (lambda text: text.split("\n", 1)[1], "does not begin with"),
        (lambda text: text.replace("w735", "w7x5"), "no number: 7x5"),
        (lambda text: text.replace("w850", ""), "has 8 columns; source, detector and 3 for each of its 1"),
        (lambda text: text.split("\n")[0], "holds no numbers"),
        (lambda text: text.replace("20 1", "twenty 1", 1), r"'twenty' in line \d+, column \d+, is no number"),
        (lambda text: text.rstrip()[:-4], r"line 13 has \d numbers, the lines before it 8"),
        (lambda text: text.replace("w735\tw850", "w0.735\tw0.850"), "look like micrometers"),
        (lambda text: text + text.split("\n")[1] + "\n", "repeated measurements"),
    ],
)
def test_damaged_paa_says_what_is_wrong(tmp_path, change, says):
    path = small_paa(tmp_path / "d.paa")
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=says):
        read_paa(path)


def test_binary_paa_is_refused(tmp_path):
    (tmp_path / "d.paa").write_bytes(b"source det w735\n" + bytes(range(128, 256)))
    with pytest.raises(InputError, match=r"'d\.paa' is damaged: it is not a text file"):
        read_paa(tmp_path / "d.paa")


def test_last_number_without_an_end_is_remarked(tmp_path):
    path = small_paa(tmp_path / "d.paa")
    assert read_paa(path).remarks == ()
    path.write_text(path.read_text().rstrip())
    assert "cut off in its last number?" in read_paa(path).remarks[0]


@pytest.mark.parametrize(
    "text, says",
    [
        ("HbO\ndeoxyHb\n735 95.0 253.0\n850 244.0 159.0\n", "base 10 or cm"),
        ("HbO\ndeoxyHb\n735 0.000095 0.00025\n", "per uM"),
        ("HbO\nWater\n735 0.095 0.002\n", "HbO and deoxyHb at least"),
        ("HbO\ndeoxyHb\nGold\n735 0.1 0.2 0.3\n", "'gold'"),
        ("HbO\ndeoxyHb\n735 0.095\n", "as many"),
        ("HbO\ndeoxyHb\n735 0.095 0.25\n850 0.2\n", "rows of different length"),
        ("", "must name its columns"),
        ("HbO\ndeoxyHb\n735 0.095 0.25\n735 0.2 0.1\n", "a wavelength twice"),
    ],
)
def test_bad_extinction_says_what_is_wrong(tmp_path, text, says):
    (tmp_path / "t.excoef").write_text(text)
    with pytest.raises(InputError, match=says):
        read_excoef(tmp_path / "t.excoef")


def test_centimeters_are_recognized(tmp_path):
    angles = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    for suffix, radius in ((".source", 4.0), (".meas", 4.1)):
        lines = [f"{n + 1} {radius * np.cos(a):.4f} {radius * np.sin(a):.4f}" for n, a in enumerate(angles)]
        (tmp_path / f"ring{suffix}").write_text("\n".join(["num x y", *lines]) + "\n")
    with pytest.raises(InputError, match="may be in cm"):
        read_nirfast_fibers(tmp_path / "ring.source")


def test_missing_half_of_a_mesh_set(tmp_path):
    (tmp_path / "ring.source").write_text("1 30 0\n2 -30 0\n")
    with pytest.raises(InputError, match="detector file .* does not exist"):
        read_nirfast_fibers(tmp_path / "ring.source")


def test_unnumbered_and_misnumbered_positions(tmp_path):
    (tmp_path / "ring.source").write_text("30 0\n-30 0\n")
    (tmp_path / "ring.meas").write_text("fixed\nnum x y\n2 0 30\n1 0 -30\n")
    fibers = read_nirfast_fibers(tmp_path / "ring.source")
    np.testing.assert_array_equal(fibers.detectors, [[0, -30, 0], [0, 30, 0]])  # in the order of the numbers
    (tmp_path / "ring.meas").write_text("num x y\n2 0 30\n3 0 -30\n")
    with pytest.raises(InputError, match="does not number its rows 1 to 2"):
        read_nirfast_fibers(tmp_path / "ring.source")


@pytest.mark.parametrize(
    "nodes, elements, says",
    [
        ("1 0 0 0\n1 1 0 0\n1 0 1 0\n1 0 0 1\n", "1 2 3 4\n", "no mesh of triangles in a plane"),
        ("1 0 0 0\n1 1 0 5\n1 0 1 0\n", "1 2 3\n", "no mesh of triangles in a plane"),
        ("1 0 0\n1 1 0\n1 0 nan\n", "1 2 3\n", "coordinate that is no number"),
        ("1 0 0\n1 1 0\n1 0 1\n", "1 2 nan\n", "a node that does not exist"),
        ("1 0 0\n1 1 0\n1 0 1\n", "1 2 1e300\n", "a node that does not exist"),
        ("1 0 0\n1 1 0\n1 0 1\n", "0 1 2\n", "count from 1"),
        ("1 0 0\n1 1 0\n1 0", "1 2 3\n", "line 3 has 2 numbers, the lines before it 3"),
    ],
)
def test_meshes_that_cannot_be_used_are_refused(tmp_path, nodes, elements, says):
    (tmp_path / "m.node").write_text(nodes)
    (tmp_path / "m.elem").write_text(elements)
    with pytest.raises(InputError, match=says):
        read_nirfast_mesh(tmp_path / "m.node")
