"""Geometry and file round trips of Volume, against SimpleITK's own physical coordinates."""

import numpy as np
import pytest
import SimpleITK as sitk
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume, from_sitk, read_volume, to_sitk, write_volume


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".mha"])
def test_round_trip_keeps_voxels_and_place(tmp_path, oblique_volume, suffix):
    path = tmp_path / f"image{suffix}"
    write_volume(oblique_volume, path)
    back = read_volume(path)
    np.testing.assert_array_equal(back.array, oblique_volume.array)
    tolerance = 1e-4 if suffix == ".nii.gz" else 1e-9  # NIfTI stores the matrix in single precision
    np.testing.assert_allclose(back.ijk_to_ras, oblique_volume.ijk_to_ras, atol=tolerance)
    assert back.same_grid(oblique_volume)


def test_position_is_the_negated_xy_of_itk(oblique_volume):
    image = to_sitk(oblique_volume)
    for index in [(0, 0, 0), (20, 0, 0), (0, 13, 0), (0, 0, 8), (5, 7, 3)]:
        lps = np.array(image.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose(oblique_volume.points_to_ras(np.array([index]))[0], lps * [-1, -1, 1], atol=1e-9)
    assert image[5, 7, 3] == oblique_volume.array[3, 7, 5]


def test_points_there_and_back(oblique_volume):
    points = np.array([[0.0, 0, 0], [20.5, 3.25, 8], [-4, 7, 1]])
    np.testing.assert_allclose(oblique_volume.points_to_ijk(oblique_volume.points_to_ras(points)), points, atol=1e-9)


def test_spacing_is_in_array_order(oblique_volume):
    np.testing.assert_allclose(oblique_volume.spacing, [2.9, 1.3, 0.7])
    assert oblique_volume.voxel_volume_mm3 == pytest.approx(2.9 * 1.3 * 0.7)


def test_crop_stays_in_place(oblique_volume):
    part = oblique_volume.cropped((2, 3, 4), (8, 9, 11))
    assert part.shape == (6, 6, 7)
    assert part.array[1, 2, 3] == oblique_volume.array[3, 5, 7]
    np.testing.assert_allclose(
        part.points_to_ras(np.array([[3, 2, 1]])), oblique_volume.points_to_ras(np.array([[7, 5, 3]])), atol=1e-9
    )


def test_same_grid_compares_corners(oblique_volume):
    moved = oblique_volume.ijk_to_ras.copy()
    moved[0, 3] += 1e-5
    assert oblique_volume.same_grid(Volume(oblique_volume.array, moved))
    moved[0, 3] += 0.1
    assert not oblique_volume.same_grid(Volume(oblique_volume.array, moved))
    assert not oblique_volume.same_grid(oblique_volume.cropped((0, 0, 0), (9, 14, 20)))


def test_metadata_is_written(tmp_path, oblique_volume):
    write_volume(oblique_volume, tmp_path / "a.nrrd", {"units": "micromolar"})
    assert sitk.ReadImage(str(tmp_path / "a.nrrd")).GetMetaData("units") == "micromolar"


def test_two_dimensional_image_becomes_one_slice(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(12, dtype=np.uint8).reshape(3, 4)), str(tmp_path / "flat.nrrd"))
    assert read_volume(tmp_path / "flat.nrrd").shape == (1, 3, 4)


def test_single_frame_of_a_sequence_is_read(tmp_path):
    image = sitk.JoinSeries([sitk.GetImageFromArray(np.zeros((3, 4, 5), np.uint8))])
    sitk.WriteImage(image, str(tmp_path / "one.nrrd"))
    assert read_volume(tmp_path / "one.nrrd").shape == (3, 4, 5)


def _sequence(path):
    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(np.zeros((3, 4, 5), np.uint8))] * 2), str(path))


def _colors(path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True), str(path))


def _truncated(path):
    sitk.WriteImage(
        sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 99, (9, 9, 9)).astype(np.uint8)), str(path)
    )
    path.write_bytes(path.read_bytes()[:-200])


def _not_an_image(path):
    path.write_text("hello")


def _huge(path):
    path.write_text(
        "NRRD0004\ntype: short\ndimension: 3\nsizes: 100000 100000 1000\nencoding: raw\nendian: little\n"
        "space: left-posterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n\n"
    )


@pytest.mark.parametrize(
    "make, message",
    [
        (_sequence, "one scalar 3-D image"),
        (_colors, "components"),
        (_truncated, "damaged or incomplete"),
        (_not_an_image, "cannot be read"),
        (_huge, "Crop it first"),
    ],
)
def test_unusable_files_are_named(tmp_path, make, message):
    make(tmp_path / "bad.nrrd")
    with pytest.raises(InputError, match=message) as caught:
        read_volume(tmp_path / "bad.nrrd")
    assert "bad.nrrd" in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_volume(tmp_path / "none.nrrd")
    with pytest.raises(InputError, match="is a folder"):
        read_volume(tmp_path)


def test_unknown_suffix_is_refused_before_writing(tmp_path, oblique_volume):
    with pytest.raises(InputError, match="suffix"):
        write_volume(oblique_volume, tmp_path / "image.png")
    assert list(tmp_path.iterdir()) == []


def test_sheared_axes_cannot_be_written(tmp_path, oblique_volume):
    sheared = oblique_volume.ijk_to_ras.copy()
    sheared[0, 1] += 0.5
    with pytest.raises(InputError, match="sheared"):
        write_volume(Volume(oblique_volume.array, sheared), tmp_path / "a.nrrd")


@pytest.mark.parametrize("matrix", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(3)])
def test_invalid_geometry_is_refused(matrix):
    with pytest.raises(InputError, match="geometry"):
        Volume(np.zeros((2, 3, 4)), matrix)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4, 5), (0, 3, 4)])
def test_only_three_dimensions(shape):
    with pytest.raises(InputError, match="3-D"):
        Volume(np.zeros(shape), np.eye(4))


def test_negative_determinant_survives_sitk(oblique_volume):
    back = from_sitk(to_sitk(oblique_volume))
    assert np.sign(np.linalg.det(back.ijk_to_ras)) == np.sign(np.linalg.det(oblique_volume.ijk_to_ras))
