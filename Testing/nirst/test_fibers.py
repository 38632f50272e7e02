import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.points import LabeledPoints, write_points
from NIRSTReconstructionLib.fibers import Fibers, outline_at_fibers, read_fibers
from NIRSTReconstructionLib.plane import distance_to_polygon, plane_from_normal


def ring(count=16, radius=41.0, height=0.0):
    angles = 2 * np.pi * np.arange(count) / count
    return np.column_stack([radius * np.cos(angles), radius * np.sin(angles), np.full(count, height)])


def test_table_with_fibers_sources_and_detectors(tmp_path):
    (tmp_path / "o.csv").write_text(
        "kind,number,x_mm,y_mm,z_mm\nfiber,1,-30,0,5\nsource,2,0,30,5\ndetector,3,30,0,6\ndetector,2,0,-30,5\n"
    )
    fibers = read_fibers(tmp_path / "o.csv")
    assert not fibers.planar
    np.testing.assert_array_equal(fibers.sources, [[-30, 0, 5], [0, 30, 5]])
    np.testing.assert_array_equal(fibers.detectors, [[-30, 0, 5], [0, -30, 5], [30, 0, 6]])


def test_two_coordinates_are_planar(tmp_path):
    (tmp_path / "o.csv").write_text("kind,number,x,y\nfiber,1,-30,0\nfiber,2,0,30\nfiber,3,30,0\n")
    fibers = read_fibers(tmp_path / "o.csv")
    assert fibers.planar
    np.testing.assert_array_equal(fibers.fitted_plane().plane.plane_to_ras, np.eye(4))


@pytest.mark.parametrize(
    "labels, sources, detectors",
    [
        (["S1", "S2", "D1", "D2"], [0, 1], [2, 3]),
        (["D2", "source-1", "d 1", "S_2"], [1, 3], [2, 0]),
        (["F-1", "F-2", "F-3", "F-4"], [0, 1, 2, 3], [0, 1, 2, 3]),
    ],
)
def test_point_list_labels(tmp_path, labels, sources, detectors):
    positions = np.array([[0, 0, 0], [50, 0, 1], [50, 40, 2], [0, 40, 3.0]])
    write_points(LabeledPoints(labels, positions), tmp_path / "f.mrk.json")
    fibers = read_fibers(tmp_path / "f.mrk.json")
    np.testing.assert_allclose(fibers.sources, positions[sources])
    np.testing.assert_allclose(fibers.detectors, positions[detectors])


@pytest.mark.parametrize(
    "text, says",
    [
        ("kind,number,x,y\nfiber,1,0,0\nfiber,3,50,0\n", "position of source 2"),
        ("kind,number,x,y\nfiber,1,0,0\nfiber,1,50,0\n", "source 1 twice"),
        ("kind,number,x,y\nlamp,1,0,0\n", "line 2: kind is 'lamp'"),
        ("kind,number,x,y\nfiber,1,0\n", "line 2 is incomplete"),
        ("kind,number,x\nfiber,1,0\n", "lacks the column y"),
        ("kind,number,x,y\nsource,1,0,0\nsource,2,50,0\n", "position of any detector"),
        ("kind,number,x,y\nfiber,1,0,nan\nfiber,2,50,0\n", "not a number"),
        ("kind,number,x,y\nfiber,1,0,0\nfiber,2,8,0\n", "may be in cm"),
        ("kind,number,x,y\nfiber,1,0,0\nfiber,2,0.08,0\n", "may be in m:"),
        ("kind,number,x,y\nfiber,1,0,0\nfiber,2,80000,0\n", "may be in micrometers"),
        ("kind,number,x,y\nfiber,0,0,0\nfiber,1,50,0\n", "the number 0. Numbers count from 1"),
        (f"kind,number,x,y\nfiber,1,0,0\nfiber,{10**25},50,0\n", "at most 4096"),
        ('kind,number,x,y\n"' + "fiber,1,0,0\n" * 20_000, "a cell in it has no end"),
    ],
)
def test_bad_tables_say_what_is_wrong(tmp_path, text, says):
    (tmp_path / "o.csv").write_text(text)
    with pytest.raises(InputError, match=says):
        read_fibers(tmp_path / "o.csv")


def test_projection_onto_an_oblique_plane_keeps_in_plane_distances():
    plane = plane_from_normal([5, -12, 31], [0.3, 0.5, 0.8])
    positions = plane.to_ras(ring()[:, :2]) + np.linspace(-2, 2, 16)[:, None] * plane.normal
    fibers = Fibers(positions, positions)
    optodes = fibers.optodes(plane, fibers.all_channels())
    np.testing.assert_allclose(optodes.sources, ring()[:, :2], atol=1e-9)
    assert len(optodes.channels) == 240
    fit = fibers.fitted_plane()
    assert abs(fit.plane.normal @ plane.normal) > 0.999
    assert fibers.distance_from(plane).largest_mm == pytest.approx(2.0)


def test_fibers_far_off_their_plane_warn():
    positions = ring()
    positions[:, 2] = 5.0 * (-1.0) ** np.arange(16)
    warning = Fibers(positions, positions).fitted_plane().warning
    assert "5.0 mm" in warning
    assert "3 mm" in warning


def test_data_for_a_fiber_that_does_not_exist():
    fibers = Fibers(ring(8), ring(8))
    with pytest.raises(InputError, match="The data name detector 9, but 'fibers' has only 8 detectors"):
        fibers.optodes(fibers.fitted_plane().plane, np.array([[1, 2], [3, 9]]))


def test_channels_start_after_the_source_and_skip_the_same_place():
    channels = Fibers(ring(4, 30), ring(4, 30)).all_channels()
    assert channels.tolist()[:6] == [[1, 2], [1, 3], [1, 4], [2, 3], [2, 4], [2, 1]]


def test_outline_is_drawn_to_the_fibers_and_stays_elsewhere():
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    outline = 42.0 * np.column_stack([np.cos(angles), np.sin(angles)])
    tips = ring()[:6, :2]
    moved, largest = outline_at_fibers(outline, tips)
    assert largest == pytest.approx(1.0, abs=0.02)
    assert np.abs(distance_to_polygon(tips, moved)).max() < 0.1
    opposite = moved[np.hypot(*(moved - [0, -42]).T) < 20]
    np.testing.assert_allclose(np.hypot(*opposite.T), 42.0, atol=0.1)


def test_a_fiber_far_from_the_outline_is_refused():
    outline = ring(64, 41.0)[:, :2]
    with pytest.raises(InputError, match=r"Fiber 1 is 9\.0 mm from the body's outline"):
        outline_at_fibers(outline, np.array([[50.0, 0.0], [0.0, 41.0]]))
