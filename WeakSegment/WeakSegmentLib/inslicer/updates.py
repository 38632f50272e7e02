"""From the scene to a computation and back: ask, answer (in a thread, if wanted), write, undo, redo."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import slicer
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.inslicer.history import History, SegmentState, State, Step
from BreastBiomarkersLib.inslicer.nodes import (
    grid_from_node,
    mask_from_segment,
    mask_to_segment,
    place_beside,
    require_in_scene,
    require_writable,
    segment_tag,
    segmentation_for,
)
from BreastBiomarkersLib.progress import Progress, ignore_progress, portion
from BreastBiomarkersLib.volume import Volume

from WeakSegmentLib.inslicer.learning_packages import ensure_learning_packages
from WeakSegmentLib.inslicer.lesions import TUMOR_COLOR, Lesion, Prompts, lesions_in_scene, segment_names
from WeakSegmentLib.kinetics import percent_enhancement
from WeakSegmentLib.methods import Click, crop_of, require_memory
from WeakSegmentLib.points import ExtremePoints
from WeakSegmentLib.pseudo_mask import Label
from WeakSegmentLib.segmentation import Segmentation, segment_by_random_walk
from WeakSegmentLib.settings import METHODS, NetworkSettings, RandomWalkSettings, Settings

UNLABELED_COLOR = (1.0, 0.79, 0.08)
FILL_OPACITY = 0.2
NEOPLASM = (
    "Segmentation category and type - DICOM master list~SCT^49755003^Morphologically Altered Structure"
    "~SCT^86049000^Neoplasm, Primary~^^~Anatomic codes - DICOM master list~SCT^76752008^Breast~^^"
)
CONTRASTS = ("difference", "percent", "alone")
RECORD_TAG = "WeakSegment.Record"
"""Segment tag with every input and constant of the run, for `WeakSegmentLib.segmentation.replay`."""

PREVIEW_SIDE = 32
"""Working voxels along the longest box side of the coarse answer that comes first."""


class Inputs(NamedTuple):
    """What a computation needs, free of nodes: it may go to a thread. See `segment_by_random_walk`."""

    volume: Volume
    points: ExtremePoints
    pre: Volume | None
    clicks: list[Click]
    others: Volume | None
    settings: Settings


class Question(NamedTuple):
    """A computation, and where its answer goes.

    Attributes
    ----------
    inputs : Inputs
    lesion : Lesion
    volume_node : vtkMRMLScalarVolumeNode
    segmentation_node : vtkMRMLSegmentationNode or None
        None: a new one is made.
    name : str
        Of the lesion's segment when it is new.
    prompts : Prompts
        Points and clicks at this moment.
    """

    inputs: Inputs
    lesion: Lesion
    volume_node: Any
    segmentation_node: Any
    name: str
    prompts: Prompts


class Answer(NamedTuple):
    """A result with what is written of it.

    Attributes
    ----------
    result : Segmentation
    masks : tuple of Volume
        Lesion and, in the final answer, unlabeled band; cropped, so that writing takes little time.
    final : bool
        No finer answer follows.
    """

    result: Segmentation
    masks: tuple[Volume, ...]
    final: bool


class Segmented(NamedTuple):
    """Where an answer was written: segmentation node, ids of its segments, the result, the step of undo."""

    segmentationNode: Any  # noqa: N815 - read in the Python console beside other names of Slicer
    segmentId: str  # noqa: N815
    unlabeledSegmentId: str  # noqa: N815
    result: Segmentation
    step: Step


def ask(
    volume_node: Any,
    points_node: Any,
    pre_node: Any,
    segmentation_node: Any,
    method: str,
    name: str,
    settings: dict[str, Any],
    contrast: str = CONTRASTS[0],
) -> Question:
    """Return what is to be computed and where its answer goes; of the images only the part that is read is copied.

    With a pre-contrast image, `contrast` says what the method works on: the "difference" of the two, the enhancement
    in "percent" of the pre-contrast signal, or the image "alone".

    Raises
    ------
    InputError
        If something is missing, does not fit, or cannot be written to.
    """
    if method not in METHODS:
        raise InputError(f"There is no method '{method}'; use {' or '.join(METHODS)}.")
    if contrast not in CONTRASTS:
        raise InputError(f"There is no contrast '{contrast}'; use {', '.join(CONTRASTS)}.")
    chosen = METHODS[method](**settings)
    if isinstance(chosen, NetworkSettings):
        _require_network(chosen)
    grid, lesion = grid_from_node(volume_node), Lesion(points_node)
    if segmentation_node is None:
        segmentation_node = lesion.segments()[0]
    if segmentation_node is not None:
        require_writable(segmentation_node)
    points = lesion.extreme_points(grid)
    require_memory(points, grid, chosen)
    crops = [crop_of(points, grid, s) for s in _stages(chosen)]
    crop = tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*crops, strict=True))
    volume = _part_of_volume(volume_node, grid, crop)
    pre = None if pre_node is None or contrast == "alone" else _part_of_pre(pre_node, grid, crop)
    if pre is not None and contrast == "percent":
        volume, pre = _enhancement(pre, volume, crop), None
    inputs = Inputs(
        volume=volume,
        points=points,
        pre=pre,
        clicks=lesion.clicks(),
        others=_other_lesions(lesion, segmentation_node, volume_node, grid, crop),
        settings=chosen,
    )
    return Question(inputs, lesion, volume_node, segmentation_node, name, Prompts(lesion))


def answers(inputs: Inputs, progress: Progress = ignore_progress) -> Iterator[Answer]:
    """Yield a coarse answer and the final one; touches no node, so it may run in a thread."""
    for settings in _stages(inputs.settings)[:-1]:
        yield _answer(inputs._replace(settings=settings), portion(progress, 0.0, 0.3), final=False)
    yield final_answer(inputs, portion(progress, 0.3, 1.0))


def final_answer(inputs: Inputs, progress: Progress = ignore_progress) -> Answer:
    """Return the final answer alone."""
    return _answer(inputs, progress, final=True)


def _answer(inputs: Inputs, progress: Progress, final: bool) -> Answer:
    volume, points, pre, clicks, others, settings = inputs
    result = segment_by_random_walk(volume, points, settings, progress, pre, clicks, others)
    corners = tuple(zip(*result.record["crop_kji"], strict=True))
    masks = [result.mask.cropped(*corners)]
    if final:
        labels = result.pseudo_mask.cropped(*corners)
        masks.append(labels.with_array(labels.array == Label.UNLABELED))
    return Answer(result, tuple(masks), final)


def _require_network(settings: NetworkSettings) -> None:
    ensure_learning_packages()
    from WeakSegmentLib.network_method import SHIPPED_WEIGHTS

    if not settings.weights and not SHIPPED_WEIGHTS.is_file():
        raise InputError(
            "No lesion network comes with this version. Choose the file of one in the section Advanced, or use the "
            "random-walk method."
        )


def _stages(settings: Settings) -> list[Settings]:
    if isinstance(settings, RandomWalkSettings) and settings.longest_side > PREVIEW_SIDE:
        return [replace(settings, longest_side=PREVIEW_SIDE), settings]
    return [settings]


def _part_of_volume(node: Any, grid: Volume, crop: tuple[slice, ...]) -> Volume:
    """Return the image with zeros outside the crop, where they take no memory: nobody reads them."""
    voxels = slicer.util.arrayFromVolume(node)
    array = np.zeros(voxels.shape, dtype=voxels.dtype)
    array[crop] = voxels[crop]
    return grid.with_array(array)


def _part_of_pre(node: Any, grid: Volume, crop: tuple[slice, ...]) -> Volume:
    own = grid_from_node(node, "pre-contrast image")
    return own if not own.same_grid(grid) else _part_of_volume(node, own, crop)


def _enhancement(pre: Volume, volume: Volume, crop: tuple[slice, ...]) -> Volume:
    """Return the enhancement in percent on the crop, zeros outside."""
    if not volume.same_grid(pre):
        raise InputError(f"'{pre.name}' is not on the grid of '{volume.name}'. Resample it to that image first.")
    start, stop = tuple(s.start for s in crop), tuple(s.stop for s in crop)
    array = np.zeros(volume.shape, dtype=np.float32)
    array[crop] = percent_enhancement(pre.cropped(start, stop), volume.cropped(start, stop)).array
    return volume.with_array(array, f"{volume.name}, percent enhancement over {pre.name}")


def _other_lesions(
    lesion: Lesion, segmentation_node: Any, volume_node: Any, grid: Volume, crop: tuple[slice, ...]
) -> Volume | None:
    """Return where the other lesions of the same segmentation are, or None if there are none."""
    found = None
    for other in lesions_in_scene():
        node, segment_id = other.segment()
        if node is None or node is not segmentation_node or other.points_node is lesion.points_node:
            continue
        if found is None:
            found = np.zeros(grid.shape, dtype=bool)
        found[crop] |= mask_from_segment(node, segment_id, volume_node).array[crop]
    return None if found is None else grid.with_array(found, "other lesions")


class _NewSegmentation:
    """A segmentation node that was made for an answer, as a state of the scene: there it is."""

    def __init__(self, node: Any, lesion: Lesion, volume_node: Any) -> None:
        self.node, self._lesion, self._volume_node = node, lesion, volume_node
        self._taken_out = False
        self._ids: list[str] = []

    def is_valid(self) -> bool:
        """Tell whether the node is in the scene, or was taken out by undo and can come back."""
        in_scene = slicer.mrmlScene.IsNodePresent
        back = self._taken_out and in_scene(self._lesion.points_node) and in_scene(self._volume_node)
        return bool(in_scene(self.node) or back)

    def restore(self) -> None:
        """Put the node back."""
        if slicer.mrmlScene.IsNodePresent(self.node):
            return
        slicer.mrmlScene.AddNode(self.node)
        self.node.CreateDefaultDisplayNodes()
        place_beside(self.node, self._volume_node)
        self._lesion.set_segments(self.node, self._ids)
        self._taken_out = False

    def take_out(self) -> None:
        """Remove the node, unless it holds segments of others by now; the lesion's are removed in any case."""
        segmentation = self.node.GetSegmentation()
        self._ids = self._lesion.segments()[1]
        for segment_id in self._ids:
            segmentation.RemoveSegment(segment_id)
        if segmentation.GetNumberOfSegments() == 0:
            self._taken_out = True
            _remove_with_companions(self.node)


class _NoSegmentation:
    """The state before: there is no such node yet."""

    def __init__(self, made: _NewSegmentation) -> None:
        self._made = made

    def is_valid(self) -> bool:
        """Tell whether it can be undone or made again."""
        return self._made.is_valid()

    def restore(self) -> None:
        """Remove the node."""
        self._made.take_out()


def _remove_with_companions(node: Any) -> None:
    for companion in (node.GetDisplayNode(), node.GetStorageNode()):
        if companion is not None:
            slicer.mrmlScene.RemoveNode(companion)
    slicer.mrmlScene.RemoveNode(node)


class Updates:
    """Writes answers into the scene and takes them back."""

    def __init__(self) -> None:
        self._history = History()
        self._prompts: dict[str, Prompts] = {}  # what each lesion's segment was made from, by id of its points
        self._made: dict[str, _NewSegmentation] = {}  # segmentations made here, by id

    def forget(self) -> None:
        """Drop what is kept from the scene, which is about to be closed."""
        self._history.clear()
        self._prompts.clear()
        self._made.clear()

    def write(self, question: Question, answer: Answer, replacing: Step | None = None) -> Segmented:
        """Write an answer into the lesion's segments as one step of undo, which may replace the step before.

        Raises
        ------
        InputError
            If a node was deleted meanwhile; nothing is written then.
        """
        lesion, node = question.lesion, question.segmentation_node
        created = node is None
        require_in_scene(question.volume_node, lesion.points_node, *([] if created else [node]))
        if created:
            node = segmentation_for(question.volume_node, f"{question.volume_node.GetName()} lesions")
        home, ids = lesion.segments()
        if home is not node or len(ids) != 2:
            ids = _new_ids(node)
        before = SegmentState(node, ids)
        try:
            _add_missing(node, ids, question.name)
            for segment_id, mask in zip(ids, answer.masks, strict=False):
                mask_to_segment(mask, node, "", segment_id)
        except Exception:
            before.restore()
            if created:
                _remove_with_companions(node)
            raise
        set_record(node, ids[0], answer.result)
        lesion.set_segments(node, ids)
        if created:
            self._made[node.GetID()] = _NewSegmentation(node, lesion, question.volume_node)
        made = self._made.get(node.GetID())
        if made is not None and made.node is not node:
            made = None
        earlier = self._prompts.get(lesion.points_node.GetID())
        undone: list[State] = [_NoSegmentation(made) if created and made is not None else before]
        done: list[State] = [SegmentState(node, ids), question.prompts]
        step = Step(undone if earlier is None else [*undone, earlier], done if made is None else [made, *done])
        step = self._history.push(step, replacing)
        self._prompts[lesion.points_node.GetID()] = question.prompts
        return Segmented(node, ids[0], ids[1], answer.result, step)

    def can_undo(self) -> bool:
        """Tell whether there is an update to take back."""
        return self._history.can_undo()

    def can_redo(self) -> bool:
        """Tell whether there is an update to make again."""
        return self._history.can_redo()

    def undo(self) -> bool:
        """Take back the last update, with the points and clicks it was made from; return whether there was one."""
        step = self._history.undo()
        if step is not None:
            self._note_prompts(step.before, step.after)
        return step is not None

    def redo(self) -> bool:
        """Make the update again that was taken back last; return whether there was one."""
        step = self._history.redo()
        if step is not None:
            self._note_prompts(step.after, step.before)
        return step is not None

    def _note_prompts(self, now: Any, instead_of: Any) -> None:
        for states, in_force in ((instead_of, False), (now, True)):
            for state in states:
                if isinstance(state, Prompts) and in_force:
                    self._prompts[state.points_id] = state
                elif isinstance(state, Prompts):
                    self._prompts.pop(state.points_id, None)


def set_record(segmentation_node: Any, segment_id: str, result: Segmentation) -> None:
    """Keep with a segment how it was made."""
    record = json.dumps(result.record).replace("|", "\\u007c")  # Slicer separates tags in files by |
    segmentation_node.GetSegmentation().GetSegment(segment_id).SetTag(RECORD_TAG, record)


def read_record(segmentation_node: Any, segment_id: str) -> dict[str, Any]:
    """Return what `set_record` keeps with a segment, for `WeakSegmentLib.segmentation.replay`.

    Raises
    ------
    InputError
        If there is no such segment, or it was not made here.
    """
    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    text = "" if segment is None else segment_tag(segment, RECORD_TAG)
    if not text:
        raise InputError(f"'{segmentation_node.GetName()}' has no segment '{segment_id}' that WeakSegment made.")
    record: dict[str, Any] = json.loads(text)
    return record


def _new_ids(segmentation_node: Any) -> list[str]:
    """Return two ids that no segment has, for a lesion and its unlabeled band."""
    first = segmentation_node.GetSegmentation().GenerateUniqueSegmentID("Lesion")
    return [first, segmentation_node.GetSegmentation().GenerateUniqueSegmentID(f"{first}_unlabeled")]


def _add_missing(segmentation_node: Any, segment_ids: list[str], name: str) -> None:
    """Add the segments that are not there, looking as they should at first: lesion as contour, the band hidden."""
    segmentation, display = segmentation_node.GetSegmentation(), segmentation_node.GetDisplayNode()
    looks = zip(segment_ids, segment_names(name), (TUMOR_COLOR, UNLABELED_COLOR), (True, False), strict=True)
    for segment_id, title, color, is_lesion in looks:
        if segmentation.GetSegment(segment_id) is not None:
            continue
        segmentation.AddEmptySegment(segment_id, title, color)
        segment = segmentation.GetSegment(segment_id)
        if is_lesion:
            segment.SetTag(segment.GetTerminologyEntryTagName(), NEOPLASM)
        if display is not None:
            display.SetSegmentVisibility(segment_id, is_lesion)
            display.SetSegmentOpacity2DFill(segment_id, FILL_OPACITY)
