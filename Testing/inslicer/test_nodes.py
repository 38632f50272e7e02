"""Nodes to plain data and back: geometry under every kind of parent transform, checked against VTK's own transforms."""

from __future__ import annotations

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.points import LabeledPoints
from BreastBiomarkersLib.volume import Volume
from conftest import oblique_ijk_to_ras


def _matrix(linear: list[list[float]], offset: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = offset
    return matrix


c, s = np.cos(0.5), np.sin(0.5)
TRANSFORMS = {
    "none": None,
    "rotated": _matrix([[c, 0, s], [0, 1, 0], [-s, 0, c]], (5, -8, 13)),
    "scaled": _matrix([[1.5, 0, 0], [0, 0.8, 0], [0, 0, 2]], (1, 2, 3)),
    "sheared": _matrix([[1, 0.3, 0], [0, 1, 0], [-0.2, 0, 1]], (4, 5, 6)),
    "mirrored": _matrix([[-1, 0, 0], [0, 1, 0], [0, 0, 1]], (0, 0, 9)),
}
transformed = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)


@pytest.fixture
def nodes(slicer_host):
    from BreastBiomarkersLib.inslicer import nodes

    return nodes


def put_under(node, matrix):
    """Put a node below two nested transforms that together are `matrix`."""
    import slicer

    if matrix is None:
        return
    outer = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    inner = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    shift = _matrix(np.eye(3), (-3, 7, 11))
    outer.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix @ np.linalg.inv(shift)))
    inner.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(shift))
    inner.SetAndObserveTransformNodeID(outer.GetID())
    node.SetAndObserveTransformNodeID(inner.GetID())


def put_under_a_grid(node):
    """Put a node below a non-linear transform that moves everything by 10 mm along R, give or take."""
    import slicer
    import vtk

    grid = vtk.vtkImageData()
    grid.SetDimensions(3, 3, 3)
    grid.SetOrigin(-500, -500, -500)
    grid.SetSpacing(500, 500, 500)
    grid.AllocateScalars(vtk.VTK_DOUBLE, 3)
    for k in range(3):
        for j in range(3):
            for i in range(3):
                grid.SetScalarComponentFromDouble(i, j, k, 0, 10.0 + i)
                grid.SetScalarComponentFromDouble(i, j, k, 1, 0.0)
                grid.SetScalarComponentFromDouble(i, j, k, 2, 0.0)
    displacement = slicer.vtkOrientedGridTransform()
    displacement.SetDisplacementGridData(grid)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", "warp")
    transform.SetAndObserveTransformToParent(displacement)
    node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def voxels_in_world(volume_node, ijk):
    """Return world positions of voxels the long way round: VTK's general transform between the nodes."""
    import slicer
    import vtk

    to_ras = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(to_ras)
    to_world = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(volume_node.GetParentTransformNode(), None, to_world)
    return np.array([to_world.TransformPoint(to_ras.MultiplyPoint([*point, 1.0])[:3]) for point in ijk.tolist()])


CORNERS = np.array([[0, 0, 0], [20, 0, 0], [0, 13, 0], [0, 0, 8], [20, 13, 8], [3, 5, 7]])


def lesion_mask(volume: Volume) -> np.ndarray:
    """Return a mask without any symmetry, so that no swap or flip of axes leaves it as it is."""
    mask = np.zeros(volume.shape, dtype=bool)
    mask[2:6, 3:9, 5:14] = True
    mask[6, 3, 5:8] = True
    mask[3, 9:12, 13] = True
    return mask


# Volumes


@transformed
def test_volume_is_read_where_it_lies_in_the_world(nodes, oblique_volume, transform):
    node = nodes.volume_to_node(oblique_volume)
    put_under(node, transform)
    volume = nodes.volume_from_node(node)
    np.testing.assert_allclose(volume.points_to_ras(CORNERS), voxels_in_world(node, CORNERS), atol=1e-9)
    np.testing.assert_array_equal(volume.array, oblique_volume.array)
    assert volume.name == "oblique"


@transformed
def test_volume_is_written_where_it_lies_in_the_world(nodes, oblique_volume, transform):
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "mine")
    put_under(node, transform)
    assert nodes.volume_to_node(oblique_volume, node) is node
    np.testing.assert_allclose(voxels_in_world(node, CORNERS), oblique_volume.points_to_ras(CORNERS), atol=1e-9)
    assert node.GetName() == "mine"
    assert node.GetDisplayNode() is not None


@transformed
def test_new_volume_beside_another_lies_where_it_should_and_moves_along(nodes, oblique_volume, transform):
    import slicer

    image = nodes.volume_to_node(oblique_volume)
    put_under(image, transform)
    other = Volume(np.ones((3, 4, 5)), np.diag([1.0, 2.0, 3.0, 1.0]), "map")
    node = nodes.volume_to_node(other, name="map", beside=image)
    assert node.GetTransformNodeID() == image.GetTransformNodeID()
    ijk = np.array([[0, 0, 0], [4, 0, 0], [0, 3, 0], [4, 3, 2]])
    np.testing.assert_allclose(voxels_in_world(node, ijk), other.points_to_ras(ijk), atol=1e-9)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 2


def test_existing_volume_takes_another_grid_and_keeps_its_display(nodes, oblique_volume):
    node = nodes.volume_to_node(oblique_volume)
    display = node.GetDisplayNode()
    other = Volume(np.ones((3, 4, 5), dtype=bool), np.diag([1.0, 2.0, 3.0, 1.0]), "other")
    nodes.volume_to_node(other, node)
    again = nodes.volume_from_node(node)
    assert again.same_grid(other)
    assert again.array.dtype == np.uint8
    assert node.GetDisplayNode() is display


def test_copied_voxels_outlive_the_node(nodes, oblique_volume):
    import slicer

    node = nodes.volume_to_node(oblique_volume)
    volume = nodes.volume_from_node(node)
    slicer.util.arrayFromVolume(node)[:] = 0
    slicer.mrmlScene.RemoveNode(node)
    np.testing.assert_array_equal(volume.array, oblique_volume.array)


def test_grid_takes_no_memory(nodes, oblique_volume):
    grid = nodes.grid_from_node(nodes.volume_to_node(oblique_volume))
    assert grid.same_grid(oblique_volume)
    assert grid.array.strides == (0, 0, 0)


def test_single_slice_is_a_volume(nodes):
    slab = Volume(np.arange(12.0).reshape(1, 3, 4), oblique_ijk_to_ras(), "slice")
    again = nodes.volume_from_node(nodes.volume_to_node(slab))
    assert again.same_grid(slab)
    np.testing.assert_array_equal(again.array, slab.array)


def test_unusable_volumes_are_named(nodes, oblique_volume):
    import slicer

    with pytest.raises(InputError, match="No pre-contrast image is selected"):
        nodes.volume_from_node(None, "pre-contrast image")
    with pytest.raises(InputError, match="'empty' holds no voxels"):
        nodes.volume_from_node(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty"))
    color = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "rgb")
    slicer.util.updateVolumeFromArray(color, np.zeros((2, 3, 4, 3), dtype=np.uint8))
    with pytest.raises(InputError, match="'rgb' has several components"):
        nodes.volume_from_node(color)
    warped = nodes.volume_to_node(oblique_volume)
    put_under_a_grid(warped)
    with pytest.raises(InputError, match="'oblique' lies under the non-linear transform 'warp'.*Harden"):
        nodes.volume_from_node(warped)
    with pytest.raises(InputError, match="non-linear"):
        nodes.volume_to_node(oblique_volume, warped)


def test_label_map_names_its_labels(nodes, oblique_volume):
    labels = oblique_volume.with_array(
        (np.arange(oblique_volume.array.size) % 3).reshape(oblique_volume.shape), "tissue"
    )
    node = nodes.labels_to_node(
        Volume(labels.array.astype(np.uint8), labels.ijk_to_ras, "tissue"), {0: "air", 2: "fat"}
    )
    assert node.IsA("vtkMRMLLabelMapVolumeNode")
    colors = node.GetDisplayNode().GetColorNode()
    assert colors.GetColorName(2) == "fat"
    color = [0.0] * 4
    colors.GetColor(0, color)
    assert color[3] == 0


# Points


@transformed
def test_points_are_read_and_written_in_the_world(nodes, transform):
    import slicer

    positions = np.array([[1.0, 2, 3], [-40, 5, 6], [7, 80, -9]])
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "points")
    put_under(node, transform)
    nodes.points_to_node(LabeledPoints(["old"], np.zeros((1, 3))), node)
    nodes.points_to_node(LabeledPoints(["a", "b", "c"], positions), node)
    np.testing.assert_allclose(slicer.util.arrayFromMarkupsControlPoints(node, world=True), positions, atol=1e-9)
    node.UnsetNthControlPointPosition(1)
    found = nodes.points_from_node(node)
    assert found.labels == ["a", "c"]
    np.testing.assert_allclose(found.positions_ras, positions[[0, 2]], atol=1e-9)


def test_points_under_a_warp_are_read_where_they_are_seen(nodes):
    node = nodes.points_to_node(LabeledPoints(["a"], np.array([[0.0, 0, 0]])))
    put_under_a_grid(node)
    np.testing.assert_allclose(nodes.points_from_node(node).positions_ras, [[11.0, 0, 0]], atol=1e-6)


def test_no_points(nodes):
    import slicer

    with pytest.raises(InputError, match="No extreme points are selected"):
        nodes.points_from_node(None, "extreme points")
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    assert nodes.points_from_node(empty).positions_ras.shape == (0, 3)


# Segments


@pytest.mark.parametrize("of_segmentation", TRANSFORMS.values(), ids=lambda m: "")
@transformed
def test_segment_round_trip_whatever_the_transforms(nodes, oblique_volume, transform, of_segmentation):
    import slicer

    image = nodes.volume_to_node(oblique_volume)
    put_under(image, transform)
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.CreateDefaultDisplayNodes()
    put_under(segmentation, of_segmentation)
    mask = nodes.volume_from_node(image).with_array(lesion_mask(oblique_volume))
    before = slicer.mrmlScene.GetNumberOfNodes()
    segment = nodes.mask_to_segment(mask, segmentation, "Lesion")
    again = nodes.mask_from_segment(segmentation, segment, image)
    assert slicer.mrmlScene.GetNumberOfNodes() == before, "no temporary node stays"
    assert again.same_grid(mask)
    assert again.name == "Lesion"
    np.testing.assert_array_equal(again.array, mask.array)


@transformed
def test_surface_of_a_segment_encloses_its_voxels_in_the_world(nodes, oblique_volume, transform):
    """The way a view shows the segment agrees: VTK's marching cubes and transforms, none of ours."""
    import slicer
    import vtk

    image = nodes.volume_to_node(oblique_volume)
    put_under(image, transform)
    volume = nodes.volume_from_node(image)
    block = np.zeros(volume.shape, dtype=bool)
    block[1:7, 2:8, 3:12] = True
    segmentation = nodes.segmentation_for(image, "result")
    segment = nodes.mask_to_segment(volume.with_array(block), segmentation, "Lesion")
    segmentation.GetSegmentation().SetConversionParameter("Smoothing factor", "0.0")
    assert segmentation.CreateClosedSurfaceRepresentation()
    surface = vtk.vtkPolyData()
    assert segmentation.GetClosedSurfaceRepresentation(segment, surface)
    to_world = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(segmentation.GetParentTransformNode(), None, to_world)
    filter = vtk.vtkTransformPolyDataFilter()
    filter.SetInputData(surface)
    filter.SetTransform(to_world)
    filter.Update()

    ijk = np.argwhere(np.ones(volume.shape))[:, ::-1]
    points = vtk.vtkPoints()
    for position in voxels_in_world(image, ijk):
        points.InsertNextPoint(position)
    cloud = vtk.vtkPolyData()
    cloud.SetPoints(points)
    enclosed = vtk.vtkSelectEnclosedPoints()
    enclosed.SetInputData(cloud)
    enclosed.SetSurfaceData(filter.GetOutput())
    enclosed.Update()
    inside = np.array([enclosed.IsInside(n) for n in range(len(ijk))], dtype=bool).reshape(volume.shape)
    np.testing.assert_array_equal(inside, block)


def test_new_segmentation_moves_with_its_volume(nodes, oblique_volume):
    import slicer

    image = nodes.volume_to_node(oblique_volume)
    put_under(image, TRANSFORMS["sheared"])
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "exam")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(image), folder)
    node = nodes.segmentation_for(image, "result")
    assert node.GetTransformNodeID() == image.GetTransformNodeID()
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == folder
    # What is drawn into it later lies on the voxels of the volume: the stored geometry is the volume's own.
    geometry = slicer.vtkOrientedImageData()
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(
        node.GetSegmentation().GetConversionParameter("Reference image geometry"), geometry
    )
    import vtk

    matrix = vtk.vtkMatrix4x4()
    geometry.GetImageToWorldMatrix(matrix)
    np.testing.assert_allclose(slicer.util.arrayFromVTKMatrix(matrix), oblique_volume.ijk_to_ras, atol=1e-6)


def test_segments_do_not_disturb_each_other(nodes, oblique_volume):
    image = nodes.volume_to_node(oblique_volume)
    segmentation = nodes.segmentation_for(image, "result")
    small = lesion_mask(oblique_volume)
    large = np.zeros_like(small)
    large[1:8, 1:13, 1:20] = True

    def write(mask, *rest):
        return nodes.mask_to_segment(oblique_volume.with_array(mask), segmentation, *rest)

    def read(segment):
        return nodes.mask_from_segment(segmentation, segment, image).array

    breast, lesion = write(large, "Breast"), write(small, "Lesion", None, (1.0, 0.5, 0.25))
    assert segmentation.GetSegmentation().GetSegment(lesion).GetColor() == (1.0, 0.5, 0.25)
    assert write(large, "another name", lesion) == lesion
    assert segmentation.GetSegmentation().GetSegment(lesion).GetName() == "Lesion"
    np.testing.assert_array_equal(read(lesion), large)
    write(np.zeros_like(small), "Lesion", lesion)
    assert not read(lesion).any()
    np.testing.assert_array_equal(read(breast), large)
    assert write(small, "Lesion", "was deleted") not in ("was deleted", lesion, breast)


def test_segment_of_another_grid(nodes, oblique_volume):
    """A block of 2 mm voxels read on a grid of 1 mm voxels: each belongs where its center lies."""
    coarse = Volume(np.zeros((6, 7, 8), dtype=bool), np.diag([2.0, 2, 2, 1]), "coarse")
    coarse.array[2:4, 1:3, 3:6] = True
    image = nodes.volume_to_node(Volume(np.zeros((13, 15, 17)), np.diag([1.0, 1, 1, 1]), "fine"))
    segmentation = nodes.segmentation_for(image, "reference")
    segment = nodes.mask_to_segment(coarse, segmentation, "Lesion")
    fine = nodes.mask_from_segment(segmentation, segment, image).array
    k, j, i = np.indices(fine.shape)
    inside = coarse.array[np.minimum((k + 1) // 2, 5), np.minimum((j + 1) // 2, 6), np.minimum((i + 1) // 2, 7)]
    # Centers of odd voxels lie on the border of two coarse ones; only the others are decided.
    decided = (k % 2 == 0) & (j % 2 == 0) & (i % 2 == 0) & (k < 12) & (j < 14) & (i < 16)
    np.testing.assert_array_equal(fine[decided], inside[decided])


def test_segment_outside_the_volume_is_empty_there(nodes, oblique_volume):
    image = nodes.volume_to_node(oblique_volume)
    far = oblique_ijk_to_ras()
    far[:3, 3] += 500
    segmentation = nodes.segmentation_for(image, "result")
    segment = nodes.mask_to_segment(Volume(lesion_mask(oblique_volume), far, "far"), segmentation, "Lesion")
    assert not nodes.mask_from_segment(segmentation, segment, image).array.any()


@pytest.mark.parametrize("beside_another", [False, True])
def test_segment_without_content_is_empty(nodes, oblique_volume, beside_another):
    image = nodes.volume_to_node(oblique_volume)
    segmentation = nodes.segmentation_for(image, "result")
    if beside_another:
        nodes.mask_to_segment(oblique_volume.with_array(lesion_mask(oblique_volume)), segmentation, "Lesion")
    empty = segmentation.GetSegmentation().AddEmptySegment("", "empty", (1.0, 0.0, 0.0))
    assert not nodes.mask_from_segment(segmentation, empty, image).array.any()


def test_segment_kept_as_surface(nodes):
    import slicer
    import vtk

    volume = Volume(np.zeros((19, 44, 51)), oblique_ijk_to_ras(), "image")
    image = nodes.volume_to_node(volume)
    put_under(image, TRANSFORMS["rotated"])
    center = nodes.volume_from_node(image).points_to_ras(np.array([[25, 20, 9]]))[0]
    sphere = vtk.vtkSphereSource()
    sphere.SetCenter(*center)
    sphere.SetRadius(9)
    sphere.SetThetaResolution(60)
    sphere.SetPhiResolution(60)
    sphere.Update()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "surface")
    node.CreateDefaultDisplayNodes()
    node.SetSourceRepresentationToClosedSurface()
    segment = node.AddSegmentFromClosedSurfaceRepresentation(sphere.GetOutput(), "ball", (1, 0, 0))
    mask = nodes.mask_from_segment(node, segment, image)
    inside = np.linalg.norm(mask.points_to_ras(np.argwhere(mask.array)[:, ::-1]) - center, axis=1)
    assert inside.max() < 9.2
    assert mask.array.sum() * mask.voxel_volume_mm3 == pytest.approx(4 / 3 * np.pi * 9**3, rel=0.03)
    assert not node.GetSegmentation().ContainsRepresentation("Binary labelmap"), "the user's node stays as it was"
    with pytest.raises(InputError, match="'surface' is kept as closed surface"):
        nodes.mask_to_segment(mask, node, "Lesion")


def test_unusable_segments_are_named(nodes, oblique_volume):
    image = nodes.volume_to_node(oblique_volume)
    segmentation = nodes.segmentation_for(image, "result")
    for node, segment in ((None, "x"), (segmentation, "gone"), (segmentation, ""), (segmentation, None)):
        with pytest.raises(InputError, match="No segment is selected"):
            nodes.mask_from_segment(node, segment, image)
    mask = oblique_volume.with_array(lesion_mask(oblique_volume))
    segment = nodes.mask_to_segment(mask, segmentation, "Lesion")
    put_under_a_grid(segmentation)
    with pytest.raises(InputError, match="'result' lies under the non-linear transform 'warp'"):
        nodes.mask_to_segment(mask, segmentation, "Lesion", segment)
    with pytest.raises(InputError, match="non-linear"):
        nodes.mask_from_segment(segmentation, segment, image)


def test_a_segment_has_a_version_for_every_content(nodes, oblique_volume):
    import slicer

    image = nodes.volume_to_node(oblique_volume)
    segmentation = nodes.segmentation_for(image, "result")
    mask = oblique_volume.with_array(lesion_mask(oblique_volume))
    _other, ours = (nodes.mask_to_segment(mask, segmentation, "Lesion") for _ in range(2))
    versions = [nodes.segment_version(segmentation, ours)]
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask.array[::-1].astype(np.uint8), segmentation, ours, image)
    versions.append(nodes.segment_version(segmentation, ours))
    nodes.mask_to_segment(mask, segmentation, "Lesion", ours)
    versions.append(nodes.segment_version(segmentation, ours))
    assert len(set(versions)) == 3
    assert nodes.segment_version(segmentation, "gone") is None
    assert nodes.segment_version(None, "") is None
    segment = segmentation.GetSegmentation().GetSegment(ours)
    assert nodes.segment_tag(segment, "note") == ""
    segment.SetTag("note", "first")
    assert nodes.segment_tag(segment, "note") == "first"


def test_deleted_node_is_noticed(nodes, oblique_volume):
    import slicer

    node = nodes.volume_to_node(oblique_volume)
    nodes.require_in_scene(node)
    slicer.mrmlScene.RemoveNode(node)
    with pytest.raises(InputError, match="'oblique' was removed from the scene"):
        nodes.require_in_scene(node)


# Planes and tables


@transformed
def test_plane_of_a_plane_node(nodes, transform):
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode", "plane")
    with pytest.raises(InputError, match="'plane' is not placed yet"):
        nodes.slice_to_ras(node)
    node.SetCenter(3, -4, 5)
    node.SetNormal(0, 0.6, 0.8)
    put_under(node, transform)
    center, normal = [0.0] * 3, [0.0] * 3
    node.GetCenterWorld(center)
    node.GetNormalWorld(normal)
    matrix = nodes.slice_to_ras(node)
    np.testing.assert_allclose(matrix[:3, 3], center, atol=1e-6)
    np.testing.assert_allclose(matrix[:3, 2] / np.linalg.norm(matrix[:3, 2]), normal, atol=1e-6)


def test_plane_of_a_slice_view(nodes):
    import slicer

    red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    red.SetSliceOffset(12.5)
    np.testing.assert_allclose(nodes.slice_to_ras(red)[:3, 3], [0, 0, 12.5])
    with pytest.raises(InputError, match="No plane is selected"):
        nodes.slice_to_ras(None)
    with pytest.raises(InputError, match="neither a slice view nor a plane"):
        nodes.slice_to_ras(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "text"))


def test_table(nodes):
    import slicer

    node = nodes.table_to_node({"name": ["a", None], "size [mm]": [1.5, None]}, name="sizes")
    table = node.GetTable()
    assert [table.GetColumnName(n) for n in range(2)] == ["name", "size [mm]"]
    assert table.GetColumn(0).GetValue(1) == ""
    assert table.GetColumn(1).GetValue(0) == 1.5
    assert np.isnan(table.GetColumn(1).GetValue(1))
    assert nodes.table_to_node({"one": [1]}, node) is node
    assert node.GetNumberOfColumns() == 1
    assert slicer.util.arrayFromTableColumn(node, "one").tolist() == [1.0]
