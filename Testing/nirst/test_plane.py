import json

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.points import LabeledPoints, write_points
from BreastBiomarkersLib.volume import Volume
from conftest import oblique_ijk_to_ras
from NIRSTReconstructionLib.plane import (
    Plane,
    body_contour,
    body_mask,
    distance_to_polygon,
    even_polygon,
    plane_from_mask,
    plane_from_matrix,
    plane_from_normal,
    plane_from_points,
    read_plane,
    reslice,
    sample_volume,
    slice_grid,
    trace_level,
)

OBLIQUE = plane_from_normal([12.0, -40.0, 25.0], [0.4, -0.7, 0.6])


def linear_field(points_ras):
    """A gray value that tells where it is: linear in R, A and S."""
    return points_ras @ np.array([1.3, -0.7, 2.1]) + 40.0


def field_volume(shape=(31, 27, 40), flip=None):
    matrix = oblique_ijk_to_ras((1.1, 1.7, 2.3), flip)
    k, j, i = np.indices(shape)
    ijk = np.column_stack([i.ravel(), j.ravel(), k.ravel()])
    points = ijk @ matrix[:3, :3].T + matrix[:3, 3]
    return Volume(linear_field(points).reshape(shape), matrix, "field")


def ball(radius=30.0, center=(5.0, -8.0, 12.0), flip=None, spacing=(1.1, 1.3, 2.0), inside=100.0):
    """A bright ball in an oblique, anisotropic image of three different sizes."""
    shape = (44, 66, 72)
    matrix = oblique_ijk_to_ras(spacing, flip)
    middle = matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    matrix[:3, 3] = np.array(center) - middle
    k, j, i = np.indices(shape)
    points = np.stack([i, j, k], axis=-1) @ matrix[:3, :3].T + matrix[:3, 3]
    distance = np.linalg.norm(points - center, axis=-1)
    return Volume((inside * np.clip(radius + 0.5 - distance, 0, 1)).astype(np.float32), matrix, "ball")


def test_plane_coordinates_go_there_and_back():
    points = np.random.default_rng(0).uniform(-50, 50, (20, 2))
    ras = OBLIQUE.to_ras(points)
    back, distance = OBLIQUE.to_plane(ras + 3.5 * OBLIQUE.normal)
    np.testing.assert_allclose(back, points, atol=1e-12)
    np.testing.assert_allclose(distance, 3.5)


def test_axes_follow_the_patient():
    axial = plane_from_normal([0, 0, 0], [0.02, -0.01, -1.0]).plane_to_ras
    assert axial[2, 2] > 0.99  # turned to superior
    assert axial[0, 0] > 0.99  # first axis to the right
    sagittal = plane_from_normal([0, 0, 0], [-1, 0, 0]).plane_to_ras
    np.testing.assert_allclose(sagittal[:3, :3], [[0, 0, 1], [1, 0, 0], [0, 1, 0]], atol=1e-12)


def test_slice_matrix_of_a_left_handed_slicer_view_keeps_its_axes():
    axial_view = np.diag([-1.0, 1.0, 1.0, 1.0])  # Slicer's Red slice: patient left to the right of the screen
    axial_view[:3, 3] = 1, 2, 3
    scaled = axial_view.copy()
    scaled[:3, :2] *= 0.6
    for matrix in (axial_view, scaled):
        plane = plane_from_matrix(matrix)
        np.testing.assert_allclose(plane.to_ras(np.array([[10.0, 5.0]])), [[-9.0, 7.0, 3.0]])
        assert plane.normal[2] == -1


@pytest.mark.parametrize(
    "matrix, says",
    [
        (np.eye(3), "4x4"),
        (np.full((4, 4), np.nan), "no finite number"),
        (np.diag([0.0, 1, 1, 1]), "zero axis"),
        (np.array([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "sheared"),
        ([["a"] * 4] * 4, "16 numbers"),
    ],
)
def test_bad_matrices_are_refused(matrix, says):
    with pytest.raises(InputError, match=says):
        plane_from_matrix(matrix)


def test_least_squares_plane_of_noisy_fibers():
    rng = np.random.default_rng(1)
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    off = rng.normal(0, 1.0, 16)
    points = OBLIQUE.to_ras(41 * np.column_stack([np.cos(angles), np.sin(angles)])) + off[:, None] * OBLIQUE.normal
    fit = plane_from_points(points)
    assert abs(fit.plane.normal @ OBLIQUE.normal) > np.cos(np.deg2rad(2))
    assert fit.rms_mm <= np.sqrt(np.mean(off**2)) + 1e-12  # no plane is nearer, so the true one is not either
    assert fit.warning == ""


@pytest.mark.parametrize(
    "points, says",
    [
        (np.zeros((2, 3)), "at least three"),
        (np.outer(np.arange(5), [1.0, 2, 3]), "on one line"),
        (np.ones((5, 3)), "on one line"),
        (np.array([[0, 0, 0], [1, 0, 0], [0, np.inf, 0]]), "finite"),
    ],
)
def test_points_without_a_plane(points, says):
    with pytest.raises(InputError, match=says):
        plane_from_points(points)


@pytest.mark.parametrize("flip", [None, 0, 1, 2])
def test_largest_cross_section_of_a_mask(flip):
    mask = ball(radius=12.0, flip=flip)
    plane = plane_from_mask(mask)
    across = np.cross(*mask.ijk_to_ras[:3, :2].T)
    assert abs(plane.normal @ across / np.linalg.norm(across)) == pytest.approx(1.0)
    assert np.linalg.norm(plane.origin_ras - [5, -8, 12]) < 1.1  # within half a slice of the ball's center
    with pytest.raises(InputError, match="is empty"):
        plane_from_mask(mask.with_array(np.zeros(mask.shape)))


@pytest.mark.parametrize("flip", [None, 0, 1, 2])
def test_oblique_resampling_is_exact_for_a_linear_field(flip):
    volume = field_volume(flip=flip)
    center = volume.points_to_ras((np.array(volume.shape[::-1])[None] - 1) / 2)[0]
    plane = plane_from_normal(center, [0.4, -0.7, 0.6])
    grid = slice_grid(plane, np.array([[-8.0, -6.0], [9.0, 7.0]]), 0.9, 0.0)
    image = reslice(volume, grid)
    assert image.shape == (1, *grid.shape)
    assert grid.shape[0] != grid.shape[1]
    k, j, i = np.indices(image.shape)
    ijk = np.column_stack([i.ravel(), j.ravel(), k.ravel()])
    np.testing.assert_allclose(image.array.ravel(), linear_field(image.points_to_ras(ijk)), rtol=1e-9)
    np.testing.assert_allclose(image.spacing, 0.9)  # also across the slice: positive
    np.testing.assert_allclose(plane.to_plane(image.points_to_ras(ijk))[1], 0.0, atol=1e-9)


def test_outside_of_a_volume():
    volume = field_volume()
    outside = volume.points_to_ras(np.array([[-0.6, 0, 0], [-0.4, 0, 0], [39.4, 26.4, 30.4], [39.6, 0, 0]]))
    assert np.isnan(sample_volume(volume, outside)).tolist() == [True, False, False, True]
    with pytest.raises(InputError, match="does not cut 'field'"):
        reslice(volume, slice_grid(plane_from_normal([500, 0, 0], [0, 0, 1]), np.zeros((1, 2))))


@pytest.mark.parametrize("flip", [None, 0, 1, 2])
@pytest.mark.parametrize("height", [0.0, 14.0])
def test_outline_of_a_ball_is_the_circle_it_is_cut_in(flip, height):
    image = ball(flip=flip)
    plane = plane_from_normal(np.array([5.0, -8.0, 12.0]) + height * OBLIQUE.normal, OBLIQUE.normal)
    outline = body_contour(image.with_array(image.array > 50), plane)
    radius = np.hypot(*outline.T)
    np.testing.assert_allclose(radius, np.sqrt(30.0**2 - height**2), atol=0.9)
    assert radius.mean() == pytest.approx(np.sqrt(30.0**2 - height**2), abs=0.3)
    steps = np.linalg.norm(np.diff(outline, axis=0), axis=1)
    np.testing.assert_allclose(steps, 2.0, atol=0.05)
    x, y = outline.T
    assert np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) > 0  # counterclockwise


def test_outline_without_holes_and_specks():
    image = ball()
    array = image.array > 50
    array[20:24, 30:34, 34:38] = False
    array[:3, :3, :3] = True
    plane = plane_from_normal([5.0, -8.0, 12.0], [0, 0, 1])
    outline = body_contour(image.with_array(array), plane)
    assert np.hypot(*outline.T).mean() == pytest.approx(30.0, abs=0.3)


def test_plane_beside_the_body():
    image = ball()
    with pytest.raises(InputError, match="misses 'ball'"):
        body_contour(image.with_array(image.array > 50), plane_from_normal([5, -8, 45], [0, 0, 1]))


@pytest.mark.parametrize("flip", [None, 1])
def test_body_is_found_in_noise_with_the_rim_at_half_height(flip):
    image = ball(flip=flip)
    rng = np.random.default_rng(3)
    noisy = np.hypot(image.array + rng.normal(0, 4, image.shape), rng.normal(0, 4, image.shape)).astype(np.float32)
    noisy[:, :, :3] = 0  # a zero-filled border is not air
    body = body_mask(image.with_array(noisy))
    truth = image.array > 50
    dice = 2 * (body.array & truth).sum() / (body.array.sum() + truth.sum())
    assert dice > 0.97
    outline = body_contour(body, plane_from_normal([5, -8, 12], [0.2, 0.3, 1]))
    assert np.hypot(*outline.T).mean() == pytest.approx(30.0, abs=0.5)


def test_threshold_by_hand_and_images_without_body():
    image = ball()
    assert body_mask(image, 50.0).array.sum() == pytest.approx((image.array > 50).sum(), rel=0.02)
    assert body_mask(image.with_array(image.array + 10), 0.0).array.all()  # cropped inside the body
    with pytest.raises(InputError, match="brighter than 200"):
        body_mask(image, 200.0)
    with pytest.raises(InputError, match="brighter than air"):
        body_mask(image.with_array(np.zeros(image.shape)))


def test_real_breast_outline_encloses_the_lesion(shared_data):
    from BreastBiomarkersLib.volume import read_volume

    case = shared_data / "segmentation" / "breast_dce_UCSF-BR-08"
    lesion = read_volume(case / "UCSF-BR-08_lesion_clean.nrrd")
    plane = plane_from_mask(lesion)
    outline = body_contour(body_mask(read_volume(case / "UCSF-BR-08_post1.nrrd")), plane)
    grid = slice_grid(plane, outline)
    inside = sample_volume(lesion, plane.to_ras(grid.points_mm), nearest=True) > 0
    depth = -distance_to_polygon(grid.points_mm[inside], outline)
    assert (depth > 0).mean() > 0.99
    width, height = np.ptp(outline, axis=0)
    assert 80 < width < 130
    assert 110 < height < 170


def test_lines_of_equal_value():
    y, x = np.mgrid[:40, :50]
    circle = np.hypot(x - 22.0, y - 18.0)
    (line,) = trace_level(10.0 - circle, 0.0)
    np.testing.assert_allclose(np.hypot(line[:, 0] - 22, line[:, 1] - 18), 10.0, atol=0.02)
    two = np.maximum(5.0 - circle, 4.0 - np.hypot(x - 40, y - 30))
    assert len(trace_level(two, 0.0)) == 2
    saddle = np.zeros((6, 6))
    saddle[2, 2] = saddle[3, 3] = 1.0
    lines = trace_level(saddle, 0.5)
    assert sum(len(line) for line in lines) == 8
    assert trace_level(saddle, 2.0) == []


def test_distance_to_a_polygon():
    square = np.array([[0.0, 0], [10, 0], [10, 10], [0, 10]])
    points = np.array([[5.0, 5], [1, 5], [-3, 5], [13, 14], [5, 10]])
    np.testing.assert_allclose(distance_to_polygon(points, square), [-5, -1, 3, 5, 0], atol=1e-12)
    assert len(even_polygon(square, 0.5)) == 80


def test_plane_files(tmp_path):
    matrix = OBLIQUE.plane_to_ras
    for content in (matrix.tolist(), matrix.ravel().tolist(), {"slice_to_ras": matrix.tolist()}):
        (tmp_path / "p.json").write_text(json.dumps(content))
        np.testing.assert_allclose(read_plane(tmp_path / "p.json").plane_to_ras, matrix, atol=1e-12)
    write_points(LabeledPoints(["a", "b", "c"], OBLIQUE.to_ras(np.eye(3)[:, :2] * 30)), tmp_path / "p.mrk.json")
    assert abs(read_plane(tmp_path / "p.mrk.json").normal @ OBLIQUE.normal) == pytest.approx(1.0)


def test_slicer_plane_markup(tmp_path):
    """Keys and frame as Slicer 5.12 writes a plane with origin (10, 20, 30) and normal (0.6, 0, 0.8) in RAS."""
    markup = {
        "type": "Plane",
        "coordinateSystem": "LPS",
        "planeType": "pointNormal",
        "center": [-10.0, -20.0, 30.0],
        "normal": [-0.6, 0.0, 0.8],
        "controlPoints": [{"id": "1", "label": "P-1", "position": [-10.0, -20.0, 30.0], "positionStatus": "defined"}],
    }
    (tmp_path / "p.mrk.json").write_text(json.dumps({"markups": [markup]}))
    plane = read_plane(tmp_path / "p.mrk.json")
    np.testing.assert_allclose(plane.origin_ras, [10, 20, 30])
    np.testing.assert_allclose(plane.normal, [0.6, 0, 0.8])


@pytest.mark.parametrize(
    "text, says",
    [
        ("{", "not valid JSON"),
        ("[1, 2, 3]", "4x4"),
        ("[" * 100_000, "not valid JSON"),
        (f"[[1{'0' * 400},0,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]]", "no plane"),
        ('{"something": 1}', "4x4|no plane"),
        ('{"markups": []}', "no plane"),
        ('{"markups": [{"center": [0, 0], "normal": [0, 0, 1]}]}', "no plane|three finite"),
    ],
)
def test_files_without_a_plane(tmp_path, text, says):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(InputError, match=says):
        read_plane(tmp_path / "p.json")


def test_frames_that_are_not_rigid_are_refused():
    for matrix in (np.diag([1.0, 1, -1, 1]), np.diag([2.0, 1, 1, 1]), np.full((4, 4), np.nan)):
        with pytest.raises(InputError, match="right-handed"):
            Plane(matrix)
    with pytest.raises(InputError, match="must not be 0"):
        plane_from_normal([0, 0, 0], [0, 0, 0])


def test_grid_limits():
    with pytest.raises(InputError, match="must be positive"):
        slice_grid(OBLIQUE, np.zeros((1, 2)), 0.0)
    with pytest.raises(InputError, match="larger pixels"):
        slice_grid(OBLIQUE, np.array([[0.0, 0.0], [3000.0, 3000.0]]), 1.0)
