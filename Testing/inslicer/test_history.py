"""Undo and redo of segments: content, look and existence come back; what left the scene is forgotten."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def history(slicer_host):
    from BreastBiomarkersLib.inslicer import history

    return history


@pytest.fixture
def scene(slicer_host, oblique_volume):
    """A segmentation on an oblique image, and how to write and read its segments."""
    from BreastBiomarkersLib.inslicer import nodes

    class Scene:
        image = nodes.volume_to_node(oblique_volume)
        segmentation = nodes.segmentation_for(image, "result")

        @classmethod
        def mask(cls, start, stop):
            array = np.zeros(oblique_volume.shape, dtype=bool)
            array[start:stop, 3:9, 4:15] = True
            return oblique_volume.with_array(array)

        @classmethod
        def write(cls, mask, name, segment_id=None):
            return nodes.mask_to_segment(mask, cls.segmentation, name, segment_id)

        @classmethod
        def read(cls, segment_id):
            return nodes.mask_from_segment(cls.segmentation, segment_id, cls.image).array

        @classmethod
        def ids(cls):
            return list(cls.segmentation.GetSegmentation().GetSegmentIDs())

    return Scene


def test_content_look_and_existence_come_back(history, scene):
    from BreastBiomarkersLib.inslicer.nodes import segment_tag

    first, second = scene.mask(2, 5), scene.mask(4, 8)
    full, empty = scene.write(first, "full"), scene.write(scene.mask(0, 0), "empty")
    neighbor = scene.write(scene.mask(6, 9), "not ours")
    segmentation, display = scene.segmentation.GetSegmentation(), scene.segmentation.GetDisplayNode()
    segmentation.GetSegment(full).SetTag("note", "first")
    display.SetSegmentVisibility(full, False)
    display.SetSegmentOpacity2DFill(full, 0.2)
    before = history.SegmentState(scene.segmentation, [full, empty, "new"])
    color = segmentation.GetSegment(full).GetColor()

    scene.write(second, "full", full)
    scene.write(second, "empty", empty)
    segmentation.AddEmptySegment("new", "new")
    scene.write(second, "new", "new")
    segmentation.GetSegment(full).SetTag("note", "second")
    segmentation.GetSegment(full).SetName("renamed")
    segmentation.GetSegment(full).SetColor(0, 0, 1)
    display.SetSegmentVisibility(full, True)
    after = history.SegmentState(scene.segmentation, [full, empty, "new"])
    steps = history.History()
    steps.push(history.Step([before], [after]))

    for _ in range(2):
        assert steps.undo()
        np.testing.assert_array_equal(scene.read(full), first.array)
        assert not scene.read(empty).any()
        assert scene.ids() == [full, empty, neighbor]
        segment = segmentation.GetSegment(full)
        assert (segment.GetName(), segment_tag(segment, "note"), segment.GetColor()) == ("full", "first", color)
        assert not display.GetSegmentVisibility(full)
        assert display.GetSegmentOpacity2DFill(full) == pytest.approx(0.2)
        assert not steps.can_undo()
        assert steps.redo()
        np.testing.assert_array_equal(scene.read(full), second.array)
        np.testing.assert_array_equal(scene.read(empty), second.array)
        np.testing.assert_array_equal(scene.read("new"), second.array)
        assert segmentation.GetSegment("new").GetName() == "new"
        assert segment_tag(segmentation.GetSegment(full), "note") == "second"
        assert display.GetSegmentVisibility(full)
        assert not steps.can_redo()
    assert scene.read(neighbor).sum() > 0


def test_segment_the_user_deleted_comes_back(history, scene):
    mask = scene.mask(2, 5)
    segment = scene.write(mask, "lesion")
    steps, before = history.History(), history.SegmentState(scene.segmentation, [segment])
    scene.write(scene.mask(1, 2), "lesion", segment)
    steps.push(history.Step([before], [history.SegmentState(scene.segmentation, [segment])]))
    scene.segmentation.GetSegmentation().RemoveSegment(segment)
    steps.undo()
    np.testing.assert_array_equal(scene.read(segment), mask.array)
    assert scene.segmentation.GetSegmentation().GetSegment(segment).GetName() == "lesion"


def make_steps(history, scene, count):
    """Return a history of `count` changes of one segment, whose size says after which."""
    steps, segment = history.History(), "s"
    for n in range(count):
        before = history.SegmentState(scene.segmentation, [segment])
        if n == 0:
            scene.segmentation.GetSegmentation().AddEmptySegment(segment, "s")
        scene.write(scene.mask(0, 1 + n % 9), "s", segment)
        made = steps.push(history.Step([before], [history.SegmentState(scene.segmentation, [segment])]))
    return steps, made


def slices(scene):
    return int(scene.read("s").any(axis=(1, 2)).sum()) if scene.ids() else 0


def test_several_steps_back_and_forth(history, scene):
    steps, last = make_steps(history, scene, 4)
    sizes = []
    while steps.undo():
        sizes.append(slices(scene))
    assert sizes == [3, 2, 1, 0]
    sizes = []
    while steps.redo():
        sizes.append(slices(scene))
    assert sizes == [1, 2, 3, 4]
    steps.undo()
    assert steps.can_redo()
    steps.push(last)
    assert not steps.can_redo(), "a new change ends what could be redone"


def test_preview_and_final_are_one_step(history, scene):
    steps, last = make_steps(history, scene, 2)
    scene.write(scene.mask(0, 7), "s", "s")
    after = history.SegmentState(scene.segmentation, ["s"])
    steps.push(history.Step([history.SegmentState(scene.segmentation, ["s"])], [after]), replacing=last)
    steps.undo()
    assert slices(scene) == 1
    steps.redo()
    assert slices(scene) == 7


def test_oldest_steps_are_forgotten(history, scene, monkeypatch):
    monkeypatch.setattr(history, "LIMIT", 3)
    steps, _last = make_steps(history, scene, 5)
    assert [steps.undo() is not None for _ in range(4)] == [True, True, True, False]
    assert slices(scene) == 2


def test_steps_of_removed_nodes_are_forgotten(history, scene):
    import slicer

    steps, _last = make_steps(history, scene, 2)
    steps.undo()
    slicer.mrmlScene.RemoveNode(scene.segmentation)
    assert not steps.can_undo()
    assert not steps.can_redo()
    assert steps.undo() is None
    assert steps.redo() is None
