import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from NIRSTReconstructionLib.cli import main
from NIRSTReconstructionLib.fibers import Fibers, read_fibers
from NIRSTReconstructionLib.measurements import Measurements, read_measurements, write_csv_measurements
from NIRSTReconstructionLib.quality_control import (
    QualitySettings,
    channel_distances,
    check_quality,
    quality_figure,
    write_quality,
)

NM = np.array([735.0, 808.0, 903.0])
NOISE = 0.02


def ring(radius=35.0, count=16, z=0.0):
    angles = 2 * np.pi * np.arange(count) / count
    return np.column_stack([radius * np.cos(angles), 0.85 * radius * np.sin(angles), np.full(count, z)])


@pytest.fixture(scope="module")
def fibers():
    return Fibers(ring(), ring(), name="ring")


def light(fibers, seed=0, gain_sd=0.3):
    """Light that falls as exp(-mu r) / r, mu per wavelength, with fiber gains and 2 % noise."""
    rng = np.random.default_rng(seed)
    channels = fibers.all_channels()
    s, d = channels.T - 1
    r = np.linalg.norm(fibers.sources[s] - fibers.detectors[d], axis=1)
    gains = gain_sd * (rng.standard_normal((3, len(ring())))[:, s] + rng.standard_normal((3, len(ring())))[:, d])
    values = -np.array([[0.09], [0.1], [0.12]]) * r - np.log(r) + gains + NOISE * rng.standard_normal((3, len(r)))
    return Measurements(NM, channels, values, np.full(values.shape, NOISE), np.ones(values.shape, dtype=bool))


def changed(data, channel, by, w=slice(None)):
    values = data.log_amplitude.copy()
    values[w, channel] += by
    return replace(data, log_amplitude=values)


def kinds(report):
    return {finding.kind for finding in report.findings}


@pytest.mark.parametrize("seed", range(4))
def test_good_data_are_left_alone_whatever_the_gains(fibers, seed):
    report = check_quality(light(fibers, seed), fibers)
    assert report.suggested.mean() < 0.002
    assert not kinds(report) & {"swapped", "dead source", "dead detector", "dead fiber", "noise level", "saturated"}
    np.testing.assert_allclose(report.slope, [-0.09, -0.1, -0.12], atol=0.012)
    assert (report.reciprocity_left < 1.3 * NOISE * np.sqrt(2)).all()
    assert (report.reciprocity_rms > 5 * report.reciprocity_left).all()


def test_one_wrong_channel_is_named_with_its_reason_and_nothing_is_applied(fibers):
    data = changed(light(fibers), 40, np.log(1.8), w=1)
    report = check_quality(data, fibers)
    assert report.measurements is data
    assert data.active.all()
    assert np.argwhere(report.suggested).tolist() == [[1, 40]]
    source, detector = data.channels[40]
    found = [f for f in report.findings if (f.source, f.detector, f.wavelength_nm) == (source, detector, 808.0)]
    assert [f.kind for f in found] == ["distance"]
    assert "fall with distance" in found[0].reason
    cleaned = data.without(report.suggested, "quality control")
    assert not cleaned.active[1, 40]


def test_what_both_ways_share_is_the_body_unless_it_is_a_leak():
    """Eight fibers: so few channels have few that are alike, and a lesion in the way of some is no outlier."""
    fibers = Fibers(ring(count=8), ring(count=8), name="eight")
    data = light(fibers)
    s, d = data.channels.T

    def both_ways(a, b):
        return ((s == a) & (d == b)) | ((s == b) & (d == a))

    behind_lesion = changed(data, both_ways(1, 5) | both_ways(3, 7), -0.6)
    report = check_quality(behind_lesion, fibers)
    assert (np.abs(report.departure) > report.limit[:, None]).any(), "it does depart"
    assert not report.suggested.any()
    one_way = np.flatnonzero((s == 1) & (d == 5))[0]
    assert check_quality(changed(data, one_way, -0.6), fibers).suggested[:, one_way].all()
    leak = both_ways(2, 6)
    assert check_quality(changed(data, leak, 2.5), fibers).suggested[:, leak].all()


def test_reciprocity_finds_what_the_distance_cannot(fibers):
    """Noise of the shape (light takes other ways) hides a channel from the distance, not from its reverse."""
    data = light(fibers)
    rng = np.random.default_rng(5)
    way = {}
    shape = np.array([way.setdefault(frozenset(map(int, c)), 0.25 * rng.standard_normal()) for c in data.channels])
    data = changed(changed(data, slice(None), shape), 100, 0.4, w=0)
    report = check_quality(data, fibers)
    assert "reciprocity" in kinds(report)
    assert report.suggested[0, 100]
    assert report.suggested.sum() <= 2 + 0.01 * report.suggested.size


@pytest.mark.parametrize("column, kind", [(0, "dead source"), (1, "dead detector"), (None, "dead fiber")])
def test_dead_fibers_are_a_row_a_column_or_both(fibers, column, kind):
    data = light(fibers)
    own = (data.channels == 5).any(axis=1) if column is None else data.channels[:, column] == 5
    values = data.log_amplitude.copy()
    values[:, own] = values.min() + 0.05 * np.random.default_rng(1).standard_normal((3, own.sum()))
    report = check_quality(replace(data, log_amplitude=values), fibers)
    found = [f for f in report.findings if f.kind == kind]
    assert len(found) == 1
    assert 5 in (found[0].source, found[0].detector)
    assert (report.suggested[:, own]).all()
    assert report.suggested[:, ~own].mean() < 0.01


def test_light_that_does_not_fall_is_a_dead_detector_even_when_bright(fibers):
    data = light(fibers)
    own = data.channels[:, 1] == 9
    values = data.log_amplitude.copy()
    values[:, own] = np.median(values, axis=1, keepdims=True)
    report = check_quality(replace(data, log_amplitude=values), fibers)
    assert "dead detector" in kinds(report)
    assert report.suggested[:, own].all()


@pytest.mark.parametrize(
    "column, word", [(0, "sources 3 and 11"), (1, "detectors 3 and 11"), (None, "fibers 3 and 11")]
)
def test_swapped_fibers_are_hinted_at(fibers, column, word):
    data = light(fibers)
    channels = data.channels.copy()
    for c in (0, 1) if column is None else (column,):
        channels[:, c] = np.select([channels[:, c] == 3, channels[:, c] == 11], [11, 3], channels[:, c])
    apart = channels[:, 0] != channels[:, 1]
    swapped = Measurements(NM, channels[apart], data.log_amplitude[:, apart], data.sd[:, apart], data.active[:, apart])
    hint = [f for f in check_quality(swapped, fibers).findings if f.kind == "swapped"]
    assert len(hint) == 1
    assert word in hint[0].reason


def test_limits_of_the_detector(fibers):
    data = light(fibers, gain_sd=0.0)
    ceiling = np.sort(data.log_amplitude[0])[-10]
    clipped = replace(data, log_amplitude=np.minimum(data.log_amplitude, ceiling))
    report = check_quality(clipped, fibers)
    assert "saturated" in kinds(report)
    assert (report.suggested[0] == (clipped.log_amplitude[0] == ceiling)).all()

    amplitude = data.amplitude
    settings = QualitySettings(saturation=np.sort(amplitude[1])[-5], dark=np.sort(amplitude[1])[6] / 3)
    report = check_quality(data, fibers, settings)
    assert report.suggested[1].sum() == 5 + 6
    assert {"saturated", "dark"} <= kinds(report)

    noisy = data.sd.copy()
    noisy[2, 7] = 0.4
    assert check_quality(replace(data, sd=noisy), fibers).suggested[2, 7]


def test_inactive_and_missing_values_are_not_judged(fibers):
    data = light(fibers)
    active = data.active.copy()
    active[0], active[1, :100] = False, False
    values = np.where(active, data.log_amplitude, np.nan)
    report = check_quality(replace(data, active=active, log_amplitude=values), fibers)
    assert not report.suggested[~active].any()
    assert [f.wavelength_nm for f in report.findings if f.kind == "too few"] == [735.0]
    assert np.isnan(report.slope[0])
    json.dumps(report.summary(), allow_nan=False)


def test_separate_sources_and_detectors_have_no_reciprocity():
    fibers = Fibers(ring(), ring(34.0)[::-1], name="apart")
    channels = np.array([c for c in fibers.all_channels(8.0)])
    r = channel_distances(replace_channels(light(Fibers(ring(), ring())), channels), fibers)
    values = -0.1 * r - np.log(r) + NOISE * np.random.default_rng(1).standard_normal((3, len(r)))
    data = Measurements(NM, channels, values, np.full(values.shape, NOISE), np.ones(values.shape, dtype=bool))
    report = check_quality(data, fibers)
    assert np.isnan(report.reciprocity_rms).all()
    assert report.suggested.mean() < 0.01


def replace_channels(data, channels):
    values = np.zeros((3, len(channels)))
    return Measurements(data.wavelengths_nm, channels, values, values + 0.02, np.ones(values.shape, dtype=bool))


def test_bad_input(fibers):
    with pytest.raises(InputError, match="most_mads"):
        QualitySettings(most_mads=0.0)
    data = light(fibers)
    with pytest.raises(InputError, match="only 8 source"):
        check_quality(data, Fibers(ring()[:8], ring(), name="short"))
    with pytest.raises(InputError, match="one place"):
        check_quality(replace_channels(data, np.array([[n, n] for n in range(1, 10)])), fibers)


def test_measured_circle(shared_data):
    """Real frequency-domain data; their description states reciprocity errors of 0.2 to 0.35 in ln amplitude."""
    folder = shared_data / "nirst" / "nirfast_circle_measured"
    fibers = read_fibers(folder / "circle_spec.source")
    for name in ("homog", "anom"):
        report = check_quality(read_measurements(folder / f"{name}.paa"), fibers)
        assert ((report.reciprocity_rms > 0.15) & (report.reciprocity_rms < 0.4)).all()
        assert ((report.reciprocity_left > 0.15) & (report.reciprocity_left < 0.4)).all(), "gains do not explain it"
        assert "noise level" in kinds(report), "2 % is not the noise of these data"
        assert not kinds(report) & {"swapped", "dead source", "dead detector", "dead fiber", "saturated", "dark"}
        assert 0 < report.suggested.mean() < 0.03
        followed = report.followed()
        assert not (followed.active & report.suggested).any()
        assert (np.abs(followed.sd / (report.reciprocity_left[:, None] / np.sqrt(2)) - 1) < 0.5).all()
        assert ((report.slope < -0.09) & (report.slope > -0.16)).all()


def test_noise_that_the_light_shows_replaces_a_smaller_one_where_it_is_found(fibers):
    data = light(fibers)
    assert np.isnan(check_quality(data, fibers).noise).all()
    assert check_quality(data, fibers).followed().remarks == ()
    rng = np.random.default_rng(9)
    noisy = data.log_amplitude.copy()
    noisy[1] += 0.15 * rng.standard_normal(noisy.shape[1])
    report = check_quality(replace(data, log_amplitude=noisy), fibers)
    assert np.isfinite(report.noise).tolist() == [False, True, False]
    assert report.noise[1] == pytest.approx(np.hypot(0.15, NOISE), rel=0.2)
    followed = report.followed()
    assert (followed.sd[[0, 2]] == NOISE).all()
    assert (followed.sd[1] == report.noise[1]).all()
    assert followed.remarks[-1] == f"Noise raised to what reciprocity shows: {report.noise[1]:.1%} at 808 nm."
    assert "noise level" in kinds(report)


def test_table_picture_and_command(fibers, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    data = changed(light(fibers), 40, 1.0, w=1)
    report = check_quality(data, fibers)
    write_quality(report, tmp_path / "quality.csv")
    with (tmp_path / "quality.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == data.active.size
    flagged = [row for row in rows if row["suggested_use"] == "0"]
    assert [(int(r["source"]), int(r["detector"])) for r in flagged] == [tuple(data.channels[40])]
    assert "fall with distance" in flagged[0]["reason"]
    panels = [axes for sub in quality_figure(report).subfigs for axes in sub.axes]
    assert len(panels) == 5

    write_csv_measurements(data, tmp_path / "data.csv")
    with (tmp_path / "optodes.csv").open("w", newline="") as file:
        lines = [["kind", "number", "x", "y", "z"]]
        csv.writer(file).writerows(lines + [["fiber", n + 1, *p] for n, p in enumerate(fibers.sources)])
    options = ["check", "--data", str(tmp_path / "data.csv"), "--optodes", str(tmp_path / "optodes.csv")]
    assert main([*options, "--output", str(tmp_path / "out"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["suggested_to_leave_out"] == 1
    assert (tmp_path / "out" / "quality.png").read_bytes().startswith(b"\x89PNG")
    followed = read_measurements(tmp_path / "out" / "followed.csv").at_channels(data.channels)
    assert (followed.active == (data.active & ~report.suggested)).all()
    assert main([*options, "--output", str(tmp_path / "out"), "--most-mads", "-1"]) == 2
