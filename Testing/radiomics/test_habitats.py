"""Habitats: planted ones are found again, models travel as JSON, features of small divisions by hand, bad input."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume, read_volume, write_volume
from conftest import oblique_ijk_to_ras
from RadiomicsPanelLib.cli import main
from RadiomicsPanelLib.feature import NotApplicable
from RadiomicsPanelLib.habitat_features import DIVISION_FEATURES, HABITAT_FEATURES, Division, Habitat
from RadiomicsPanelLib.habitats import (
    HabitatModel,
    compute_habitat_features,
    divide,
    fit_habitats,
    gather_channels,
    read_model,
    threshold_model,
    write_habitats,
    write_model,
)
from RadiomicsPanelLib.maps import compute_feature_maps
from RadiomicsPanelLib.roi import Case, prepare_roi, read_cases
from RadiomicsPanelLib.settings import Settings, write_settings
from scipy import ndimage

sklearn_metrics = pytest.importorskip("sklearn.metrics")
MATRIX = oblique_ijk_to_ras((0.9, 1.0, 1.1))
CENTERS = np.array([[100.0, 40.0], [130.0, 75.0], [175.0, 45.0]])


LARGE = (52, 60, 66)


def planted(seed=0, shape=(26, 31, 36), noise=18.0):
    """A lump of three smooth habitats seen in two noisy images; returns its case, the second image and the truth."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    mask = sum(a**2 for a in axes) < 0.9
    fields = [ndimage.gaussian_filter(rng.normal(size=shape), shape[0] / 6) for _ in CENTERS]
    truth = np.argmax(fields, axis=0)
    first, second = (CENTERS[truth][..., c] + rng.normal(0, noise, shape) for c in (0, 1))
    case = Case(Volume(first, MATRIX, "T2"), Volume(mask, MATRIX, "mask"), f"case {seed}", "tumor")
    return case, Volume(second, MATRIX, "ADC"), truth


def channels_of(case, second, smoothing=1.0):
    return gather_channels(prepare_roi(case, Settings()), [second], smoothing=smoothing)


def agreement(habitats, truth):
    inside = habitats.roi.morphological_mask
    whole = Volume(truth, MATRIX)
    offset = np.rint(whole.points_to_ijk(habitats.roi.image.ijk_to_ras[:3, 3]))[0, ::-1].astype(int)
    box = tuple(slice(o, o + n) for o, n in zip(offset, inside.shape, strict=True))
    return sklearn_metrics.adjusted_rand_score(truth[box][inside], habitats.labels[inside])


@pytest.mark.parametrize("method", ["kmeans", "gmm"])
def test_planted_habitats_are_found_with_their_number(method):
    """87 512 voxels, noise as large as half the distance of the habitats' means."""
    case, second, truth = planted(shape=LARGE)
    channels = channels_of(case, second)
    model = fit_habitats([channels], method=method)
    assert model.count == 3
    assert set(model.stabilities) == {"2", "3", "4", "5", "6"}
    assert model.stabilities["3"] >= 0.8
    assert model.silhouettes["3"] == max(v for k, v in model.silhouettes.items() if model.stabilities[k] >= 0.8)
    habitats = divide(channels, model)
    assert agreement(habitats, truth) >= 0.9
    raw = channels_of(case, second, smoothing=0.0)
    assert agreement(divide(raw, fit_habitats([raw], 3)), truth) < 0.75  # without smoothing noise divides
    assert habitats.channel_means[:, 0] == pytest.approx(CENTERS[:, 0], abs=8)  # ordered by the first channel


def test_a_model_of_training_cases_means_the_same_in_a_new_one(tmp_path):
    train = [channels_of(*planted(seed, LARGE)[:2]) for seed in (1, 2, 3)]
    model = fit_habitats(train, 3)
    assert model.cases == 3
    write_model(model, tmp_path / "model.json")
    again = read_model(tmp_path / "model.json")
    assert again == model
    case, second, truth = planted(4, LARGE)
    habitats = divide(channels_of(case, second), again)
    assert agreement(habitats, truth) >= 0.9
    assert habitats.channel_means[:, 0] == pytest.approx(CENTERS[:, 0], abs=8)
    assert fit_habitats(train, 3) == model  # seeded


def test_gaussian_mixture_is_applied_as_scikit_learn_does():
    sklearn_mixture = pytest.importorskip("sklearn.mixture")
    channels = channels_of(*planted(5)[:2])
    model = fit_habitats([channels], 3, "gmm")
    peer = sklearn_mixture.GaussianMixture(3)
    peer.means_, peer.weights_ = np.array(model.centers), np.array(model.weights)
    peer.covariances_ = np.array(model.covariances)
    peer.precisions_cholesky_ = np.linalg.cholesky(np.linalg.inv(peer.covariances_))
    expected = peer.predict(model.standardize(channels.values)) + 1
    np.testing.assert_array_equal(model.assign(channels.values), expected)


def test_thresholds_divide_two_channels_in_four():
    case, second, _ = planted()
    channels = channels_of(case, second, smoothing=0.0)
    model = threshold_model(channels, [140.0, 60.0])
    assert model.names == ("-T2 -ADC", "-T2 +ADC", "+T2 -ADC", "+T2 +ADC")
    habitats = divide(channels, model)
    expected = 2 * (channels.values[:, 0] > 140) + (channels.values[:, 1] > 60) + 1
    np.testing.assert_array_equal(habitats.labels[habitats.roi.morphological_mask], expected)
    one = replace(channels, names=("T2",), values=channels.values[:, :1])
    assert divide(one, threshold_model(one, [140.0])).labels.max() == 2


def test_channels_are_brought_onto_one_grid_and_smoothed_inside_the_segment():
    case, second, _ = planted(noise=0.0)
    coarse = Volume(second.array[::2, ::2, ::2], second.ijk_to_ras @ np.diag([2.0, 2.0, 2.0, 1.0]), "coarse")
    smooth = Volume(np.indices((14, 17, 19))[0].astype(float), coarse.ijk_to_ras, "ramp")
    image = np.where(case.mask.array, case.image.array, 1e6)
    roi = prepare_roi(replace(case, image=case.image.with_array(image)), Settings())
    channels = gather_channels(roi, [smooth], smoothing=1.0)
    assert channels.values[:, 0].max() <= 175 + 1e-6  # what lies outside does not bleed in
    k = np.argwhere(roi.morphological_mask)[:, 0]
    at = np.rint(case.image.points_to_ijk(roi.image.ijk_to_ras[:3, 3]))[0, 2]
    plain = gather_channels(roi, [smooth], smoothing=0.0)
    np.testing.assert_allclose(plain.values[:, 1], (k + at) / 2, atol=1e-6)


def test_feature_maps_are_channels_and_gaps_are_filled():
    case, _, _ = planted()
    roi = prepare_roi(case, Settings(outlier_sigma=1.5))
    maps = compute_feature_maps(roi, ["stat_mean", "glcm_correlation"])
    assert len(roi.intensities) < roi.morphological_mask.sum()
    channels = gather_channels(roi, maps=maps)
    assert channels.names == ("T2", "stat_mean", "glcm_correlation_3D_avg")
    assert channels.values.shape == (roi.morphological_mask.sum(), 3)
    assert np.isfinite(channels.values).all()
    with pytest.raises(InputError, match="'stat_mean' has no value at .* voxels of segment 'tumor'"):
        gather_channels(roi, maps=maps, smoothing=0.0)


def values_by_column(features, objects):
    return {f.name: f.compute(objects) for f in features}


def hand_made():
    """Two slices of 2 x 4: habitat 1 left, 2 right, and a lone voxel of 3."""
    labels = np.array([[[1, 1, 2, 2], [1, 1, 2, 2]], [[1, 1, 2, 3], [0, 0, 2, 2]]])
    return Division(labels, 4, np.ones(3), np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0], [np.nan, np.nan]]))


def test_diversity_of_a_small_division_by_hand():
    division = hand_made()
    p = np.array([6, 7, 1]) / 14
    found = values_by_column(DIVISION_FEATURES, division)
    assert found["richness"] == 3
    assert found["shannon"] == pytest.approx(-np.sum(p * np.log(p)))
    assert found["evenness"] == pytest.approx(-np.sum(p * np.log(p)) / np.log(3))
    assert found["simpson"] == pytest.approx(1 - np.sum(p**2))
    distances = {(0, 1): 5.0, (0, 2): 1.0, (1, 2): np.sqrt(18)}
    assert found["rao"] == pytest.approx(2 * sum(d * p[a] * p[b] for (a, b), d in distances.items()))
    # habitats 1 and 2 are one part each; the lone voxel is no part
    assert found["ith_3d"] == pytest.approx(1 - (6 / 1 + 7 / 1) / 14)
    assert found["ith_2d"] == pytest.approx(0.0)  # the first slice: 4 and 4 of 8


def test_contacts_of_a_small_division_by_hand():
    """All ordered pairs of 26-neighbors, the outside being 0, counted one by one."""
    division = hand_made()
    padded = np.pad(division.labels, 1)
    counts = np.zeros((5, 5))
    steps = [s for s in np.ndindex(3, 3, 3) if s != (1, 1, 1)]
    for place in np.ndindex(padded.shape):
        for step in steps:
            other = tuple(np.array(place) + step - 1)
            if all(0 <= o < n for o, n in zip(other, padded.shape, strict=True)):
                counts[padded[place], padded[other]] += 1
    counts[0, 0] = 0
    p = counts / counts.sum()
    i, j = np.indices(p.shape)
    found = values_by_column(DIVISION_FEATURES, division)
    assert found["contact_contrast"] == pytest.approx(np.sum((i - j) ** 2 * p))
    assert found["contact_energy"] == pytest.approx(np.sum(p**2))
    assert found["contact_homogeneity"] == pytest.approx(np.sum(p / (1 + (i - j) ** 2)))
    mean = np.sum(i * p)
    assert found["contact_correlation"] == pytest.approx(
        np.sum((i - mean) * (j - mean) * p) / np.sum((i - mean) ** 2 * p)
    )


def test_each_habitat_by_hand():
    division = hand_made()
    second, absent = (values_of(Habitat(division, n)) for n in (2, 4))
    assert second["volume_fraction"] == 0.5
    assert second["component_count"] == 1
    assert second["largest_component_fraction"] == 1
    assert second["border_fraction"] == 0.5  # every voxel is at the border
    assert second["mean_depth"] == 1
    assert absent == {
        "volume_fraction": 0.0,
        "component_count": 0.0,
        **dict.fromkeys(["largest_component_fraction", "mean_depth", "border_fraction"], "the habitat is absent"),
    }


def values_of(habitat):
    found = {}
    for feature in HABITAT_FEATURES:
        try:
            found[feature.name] = feature.compute(habitat)
        except NotApplicable as status:
            found[feature.name] = str(status)
    return found


def test_ith_rises_with_fragmentation():
    whole = np.ones((6, 8, 10), dtype=int)
    halves = whole + (np.arange(10) > 4)
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.integers(1, 3, (3, 4, 5)), np.ones((2, 2, 2), dtype=int))
    noise = rng.integers(1, 3, whole.shape)
    scores = []
    for labels in (whole, halves, blocks, noise):
        division = Division(labels, 2, np.ones(3), np.zeros((2, 1)))
        scores.append({f.name: f.compute(division) for f in DIVISION_FEATURES if f.name.startswith("ith")})
    assert scores[0] == scores[1] == {"ith_3d": 0.0, "ith_2d": 0.0}
    assert scores[1]["ith_2d"] < scores[2]["ith_2d"] < 1


def test_a_table_has_columns_per_habitat():
    case, second, _ = planted()
    channels = channels_of(case, second)
    values = compute_habitat_features(divide(channels, fit_habitats([channels], 3)))
    columns = {v.column: v.value for v in values}
    assert len(columns) == len(values) == 3 * len(HABITAT_FEATURES) + len(DIVISION_FEATURES)
    assert sum(columns[f"habitat_volume_fraction_h{n}"] for n in (1, 2, 3)) == pytest.approx(1)
    assert sum(columns[f"habitat_border_fraction_h{n}"] for n in (1, 2, 3)) == pytest.approx(1)
    assert 0 < columns["habitats_ith_3d"] < 1
    one = divide(channels, threshold_model(channels, [1e6, 1e6]))
    lonely = {v.column: v for v in compute_habitat_features(one)}
    assert lonely["habitats_evenness"].note == "not applicable: only one habitat is present"
    assert (lonely["habitats_shannon"].value, lonely["habitats_ith_3d"].value) == (0, 0)


def test_a_segmentation_file_with_a_segment_per_habitat(tmp_path):
    case, second, _ = planted()
    channels = channels_of(case, second)
    habitats = divide(channels, threshold_model(channels, [140.0, 60.0]))
    write_habitats(habitats, tmp_path / "h.seg.nrrd")
    volume = read_volume(tmp_path / "h.seg.nrrd")
    np.testing.assert_array_equal(volume.array, habitats.labels)
    assert volume.same_grid(habitats.roi.image)
    write_volume(habitats.roi.image, tmp_path / "image.nrrd")
    names = [c.segment for c in read_cases(tmp_path / "image.nrrd", tmp_path / "h.seg.nrrd")]
    assert names == ["-T2 -ADC", "-T2 +ADC", "+T2 -ADC", "+T2 +ADC"]


def test_what_is_refused(tmp_path):
    case, second, _ = planted()
    channels = channels_of(case, second)
    roi = channels.roi
    far = np.eye(4)
    far[:3, 3] = 5000
    for action, message in (
        (lambda: gather_channels(roi, [replace(second, name="T2")]), "Two habitat channels are called 'T2'"),
        (lambda: gather_channels(roi, [Volume(second.array, far, "lost")]), "'lost' has no value at .* co-registered"),
        (lambda: gather_channels(roi, smoothing=-1), "smoothing of habitat channels is 0 to 10"),
        (lambda: fit_habitats([]), "No segment to fit"),
        (lambda: fit_habitats([channels], 1), "number of habitats is 2 to 16"),
        (lambda: fit_habitats([channels], method="thresholds"), "fitted by 'kmeans' or 'gmm'"),
        (lambda: fit_habitats([channels, channels_of(case, replace(second, name="DWI"))]), "The channels differ"),
        (lambda: fit_habitats([replace(channels, values=channels.values[:30])]), "30 voxels are too few for 6"),
        (lambda: fit_habitats([replace(channels, values=channels.values * [1, 0] + [0, 7])]), "'ADC' is constant"),
        (lambda: fit_habitats([replace(channels, values=np.round(channels.values / 50))]), "too few different values"),
        (lambda: threshold_model(channels, [1.0]), "1 thresholds for the 2 channels"),
        (lambda: threshold_model(channels, [1.0, np.nan]), "thresholds do not fit"),
        (
            lambda: divide(replace(channels, smoothing=2.0), threshold_model(channels, [1.0, 2.0])),
            "smoothed by 1 voxels; the channels are T2, ADC, by 2",
        ),
    ):
        with pytest.raises(InputError, match=message):
            action()
    good = json.loads(
        json.dumps(
            {
                "method": "kmeans",
                "channels": ["a"],
                "smoothing": 1.0,
                "means": [0],
                "scales": [1],
                "centers": [[0], [1]],
            }
        )
    )
    for change, message in (
        ({"scales": [0]}, "scales have to be above 0"),
        ({"centers": [[0, 1], [1, 2]]}, "centers do not fit"),
        ({"centers": [[0]]}, "2 to 16 habitats, not 1"),
        ({"method": "dbscan"}, "needs a method"),
        ({"method": "gmm"}, "covariances do not fit"),
        ({"means": ["x"]}, "not a valid habitat model"),
        ({"extra": 1}, "is not a habitat model"),
    ):
        (tmp_path / "model.json").write_text(json.dumps(good | change))
        with pytest.raises(InputError, match=message):
            read_model(tmp_path / "model.json")
    (tmp_path / "model.json").write_text("[")
    with pytest.raises(InputError, match="is not JSON"):
        read_model(tmp_path / "model.json")
    (tmp_path / "model.json").write_text(json.dumps(good))
    assert read_model(tmp_path / "model.json") == HabitatModel(
        "kmeans", ("a",), 1.0, means=(0,), scales=(1,), centers=((0,), (1,))
    )


def test_commands(tmp_path, capsys):
    files = []
    for seed in (1, 2):
        case, second, _ = planted(seed)
        paths = [tmp_path / f"{name}{seed}.nrrd" for name in ("mask", "t2_", "adc")]
        for path, volume in zip(
            paths, (case.mask.with_array(case.mask.array.astype(np.uint8)), case.image, second), strict=True
        ):
            write_volume(volume, path)
        files.append([str(p) for p in paths])
    write_settings(Settings(), tmp_path / "mine.json")
    common = ["--settings", str(tmp_path / "mine.json"), "--json"]
    model = str(tmp_path / "model.json")
    assert (
        main(["habitat-model", "--case", *files[0], "--case", *files[1], "--count", "3", "--output", model, *common])
        == 0
    )
    figures = json.loads(capsys.readouterr().out)
    assert (figures["segments"], figures["channels"], figures["habitats"]) == (2, ["image", "image 2"], 3)
    mask, image, second = files[1]
    one = [
        "habitats",
        "--image",
        image,
        "--mask",
        mask,
        "--channel",
        second,
        "--output",
        str(tmp_path / "out"),
        *common,
    ]
    assert main([*one, "--model", model]) == 0
    (segment,) = json.loads(capsys.readouterr().out)["segments"]
    assert segment["habitats"] == 3
    assert 0 < segment["ith_3d"] < 1
    assert (tmp_path / "out" / "label_1_habitats.seg.nrrd").is_file()
    table = (tmp_path / "out" / "habitat_features.csv").read_text().splitlines()
    assert table[1].startswith("t2_2,label 1,original,regional,habitat,volume_fraction,,h1,0.")
    assert main([*one, "--thresholds", "140", "60"]) == 0
    assert json.loads(capsys.readouterr().out)["segments"][0]["habitats"] == 4
    assert main([*one, "--thresholds", "140"]) == 2
    assert "1 thresholds for the 2 channels" in capsys.readouterr().err
