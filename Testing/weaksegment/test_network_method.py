"""The network method: the walker's score, changed by what a network says of the lesion's box."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.points import LabeledPoints, write_points
from BreastBiomarkersLib.training import read_checkpoint, write_checkpoint
from BreastBiomarkersLib.volume import read_volume, write_volume
from weaksegment.lesions import dice, ellipsoid_lesion
from WeakSegmentLib import cli
from WeakSegmentLib.network_method import (
    BOX_SIDE,
    KIND,
    SHIPPED_WEIGHTS,
    SIDE,
    BoxGrid,
    log_odds,
    make_lesion_network,
    network_channels,
    read_lesion_network,
    refine,
)
from WeakSegmentLib.points import extreme_points_of_mask
from WeakSegmentLib.segmentation import Click, replay, segment_by_random_walk
from WeakSegmentLib.settings import NetworkSettings, RandomWalkSettings

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
LOW, HIGH = (SIDE - BOX_SIDE) // 2, (SIDE + BOX_SIDE) // 2


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def lesion():
    """Image, mask and points of an ellipsoid on an oblique grid."""
    turn = np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, -1]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag([0.8, 1.0, 2.0])
    image, mask = ellipsoid_lesion(ijk_to_ras=matrix)
    return image, mask, extreme_points_of_mask(mask)


@pytest.fixture
def weights(tmp_path):
    """A function that writes a network whose correction is `by` everywhere."""

    def write(by, **record):
        network = make_lesion_network()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()
            network.up[-1][-1].bias.fill_(1.0)  # features of 1
            network.last.weight[1].fill_(by / network.last.weight.shape[1])
        path = tmp_path / f"by{by}.safetensors"
        write_checkpoint(path, network.state_dict(), {"kind": KIND} | record)
        return str(path)

    return write


def test_a_network_that_corrects_nothing_leaves_the_walker_alone(lesion, weights):
    image, _, points = lesion
    walked = segment_by_random_walk(image, points)
    found = segment_by_random_walk(image, points, NetworkSettings(weights(0)))
    np.testing.assert_array_equal(found.mask.array, walked.mask.array)
    assert found.record["method"] == "network"
    again = replay(json.loads(json.dumps(found.record)), image)
    np.testing.assert_array_equal(again.score.array, found.score.array)
    shutil.copy(weights(1), found.record["settings"]["weights"])
    with pytest.raises(InputError, match="other network weights"):
        replay(found.record, image)


def test_a_correction_moves_the_border_and_stays_in_the_box(lesion, weights):
    image, mask, points = lesion
    sizes = [segment_by_random_walk(image, points, NetworkSettings(weights(by))).mask.array.sum() for by in (-2, 0, 2)]
    assert sizes[0] < sizes[1] < sizes[2]
    everything = segment_by_random_walk(image, points, NetworkSettings(weights(20))).mask
    start, stop = np.maximum(0, points.box_start_kji - 1), points.box_stop_kji + 1
    inside = np.zeros(mask.shape, dtype=bool)
    inside[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    np.testing.assert_array_equal(everything.array, inside)
    others = mask.with_array(inside & (np.arange(mask.shape[0])[:, None, None] < mask.shape[0] // 2), "other")
    beside = segment_by_random_walk(image, points, NetworkSettings(weights(20)), others=others)
    assert not (beside.mask.array & others.array).any()
    assert beside.mask.array.any()


def test_near_a_click_the_walker_is_right(lesion, weights):
    image, _, points = lesion
    at = image.points_to_ras(((points.box_start_kji + points.box_stop_kji) / 2)[None, ::-1])[0]
    click = [Click(tuple(at), False)]
    network = segment_by_random_walk(image, points, NetworkSettings(weights(20)), clicks=click)
    voxel = tuple(np.rint(image.points_to_ijk(at[None])[0, ::-1]).astype(int))
    assert not network.mask.array[voxel]
    assert network.mask.array.sum() > 0


def test_the_cube_frames_the_box_whatever_its_size():
    for shape, spacing, radii in (
        ((30, 44, 52), (2.0, 1.0, 0.8), (18.0, 13.0, 14.0)),
        ((9, 60, 40), (4, 1, 1), (7, 9, 9)),
    ):
        image, mask = ellipsoid_lesion(shape, spacing, radii)
        points = extreme_points_of_mask(mask)
        crop = tuple(slice(0, n) for n in shape)
        grid = BoxGrid.of(points, crop)
        box = np.zeros(shape, dtype=np.float32)
        box[tuple(slice(a, b) for a, b in zip(points.box_start_kji, points.box_stop_kji, strict=True))] = 1
        cube = grid.sample(box) > 0.5
        middle = SIDE // 2
        for line in (cube[:, middle, middle], cube[middle, :, middle], cube[middle, middle, :]):
            np.testing.assert_array_equal(np.flatnonzero(line), np.arange(LOW, HIGH))
        back = grid.spread(grid.sample(mask.array.astype(np.float32))) > 0.5
        assert dice(back, mask.array) > 0.93


def test_channels_know_neither_scale_nor_sign_of_the_intensities(lesion):
    image, _, points = lesion
    walked = segment_by_random_walk(image, points)
    grid = BoxGrid.of(points, tuple(slice(0, n) for n in image.shape))
    channels, odds = network_channels(image.array, walked.score.array, grid)
    assert channels.shape == (4, SIDE, SIDE, SIDE)
    for other in (3 * image.array + 100, 500 - image.array):
        again, same = network_channels(other.astype(np.float32), walked.score.array, grid)
        np.testing.assert_allclose(again[0], channels[0], atol=2e-3)
        assert np.abs(again[1] - channels[1]).mean() < 0.05  # bins are cut at other places
        np.testing.assert_array_equal(same, odds)
    assert channels[0, SIDE // 2, SIDE // 2, SIDE // 2] > 1
    np.testing.assert_allclose(log_odds(np.array([0, 0.5, 1], np.float32)), [-4.595, 0, 4.595], atol=1e-3)


def test_refinement_learns_the_sure_voxels_and_is_repeatable(lesion, weights):
    image, _, points = lesion
    walked = segment_by_random_walk(image, points, RandomWalkSettings(repetitions=0))
    grid = BoxGrid.of(points, tuple(slice(0, n) for n in image.shape))
    channels, odds = network_channels(image.array, walked.score.array, grid)
    torch.manual_seed(1)
    losses = refine(make_lesion_network(), channels, odds, 8, lambda fraction, message: None)
    assert losses[-1] < 0.8 * losses[0]
    settings = NetworkSettings(weights(0.5), refine_iterations=3)
    one, two = (segment_by_random_walk(image, points, settings) for _ in range(2))
    np.testing.assert_array_equal(one.score.array, two.score.array)
    assert len(one.record["refinement_losses"]) == 3


def test_weights_that_cannot_be_used_are_refused(lesion, weights, tmp_path):
    image, _, points = lesion
    with pytest.raises(InputError, match="none.safetensors' does not exist"):
        segment_by_random_walk(image, points, NetworkSettings(str(tmp_path / "none.safetensors")))
    good = weights(0)
    tensors, record = read_checkpoint(good)
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes((tmp_path / "by0.safetensors").read_bytes()[:-100])
    with pytest.raises(InputError, match="'bad.safetensors' is truncated"):
        read_lesion_network(bad)
    write_checkpoint(bad, tensors, record | {"kind": "Z-Net"})
    with pytest.raises(InputError, match="is a checkpoint of Z-Net, not of a WeakSegment lesion network"):
        read_lesion_network(bad)
    write_checkpoint(bad, {"only": torch.zeros(2)}, record)
    with pytest.raises(InputError, match="another architecture"):
        read_lesion_network(bad)
    with pytest.raises(InputError, match="refine_iterations is -1"):
        NetworkSettings(refine_iterations=-1)


def test_the_segment_command_takes_a_network(lesion, weights, tmp_path, capsys):
    image, mask, points = lesion
    write_volume(image, tmp_path / "image.nrrd")
    write_volume(mask, tmp_path / "mask.nrrd")
    write_points(LabeledPoints(list(points.roles), points.positions_ras), tmp_path / "points.mrk.json")
    files = {"--image": "image.nrrd", "--points": "points.mrk.json", "--reference": "mask.nrrd", "--output": "out.nrrd"}
    arguments = ["segment", "--json", *(word for key, name in files.items() for word in (key, str(tmp_path / name)))]
    status = cli.main([*arguments, "--method", "network", "--weights", weights(0), "--refine-iterations", "1"])
    assert status == 0
    assert json.loads(capsys.readouterr().out)["dice"] > 0.85
    assert dice(read_volume(tmp_path / "out.nrrd").array, mask.array) > 0.85
    assert cli.main([*arguments, "--weights", "x"]) == 2
    assert "'random-walk' has no --weights" in capsys.readouterr().err
    assert cli.main([*arguments, "--method", "network", "--weights", str(tmp_path / "image.nrrd")]) == 2
    assert "'image.nrrd' is truncated or no safetensors file" in capsys.readouterr().err


def test_the_shipped_network_corrects_the_walker():
    """On lesions of random shape in random tissue, drawn as its training's but with other seeds."""
    spec = importlib.util.spec_from_file_location("train_lesion_network", BENCHMARKS / "train_lesion_network.py")
    training = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(training)
    rows = []
    training.compare([(seed, lambda seed=seed: training.random_case(seed)) for seed in range(5000, 5006)], "", rows)
    assert len(rows) >= 5
    assert np.mean([row["network"] for row in rows]) > np.mean([row["walker"] for row in rows]) + 0.01


def test_the_shipped_network_is_small_and_says_what_it_is():
    assert SHIPPED_WEIGHTS.stat().st_size < 2_000_000
    _, record = read_checkpoint(SHIPPED_WEIGHTS)
    card = SHIPPED_WEIGHTS.with_suffix(".md").read_text()
    assert record["kind"] == KIND
    for figure in record["cases_kept_aside"].values():
        assert f"{figure:.3f}" in card
