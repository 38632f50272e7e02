import tracemalloc

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from NIRSTReconstructionLib.measurements import (
    DEFAULT_NOISE,
    measurements_from_rows,
    read_csv_measurements,
    write_csv_measurements,
)


def rows(count=4, wavelengths=(735.0, 850.0)):
    """All pairs of `count` fibers at each wavelength, amplitude falling with distance, rows shuffled."""
    table = [(s, d, nm) for nm in wavelengths for s in range(1, count + 1) for d in range(1, count + 1) if s != d]
    table = np.random.default_rng(3).permutation(np.array(table))
    return table[:, 0], table[:, 1], table[:, 2], np.exp(-np.abs(table[:, 0] - table[:, 1]) - table[:, 2] / 1000)


def test_rows_in_any_order_land_on_their_wavelength_and_channel():
    source, detector, nm, amplitude = rows()
    measured = measurements_from_rows(source, detector, nm, amplitude, phase_deg=10 * source + detector)
    assert measured.wavelengths_nm.tolist() == [735.0, 850.0]
    assert measured.channels.shape == (12, 2)
    s, d = measured.channels.T
    expected = -np.abs(s - d)[None] - np.array([[0.735], [0.85]])
    np.testing.assert_allclose(measured.log_amplitude, expected, atol=1e-12)
    np.testing.assert_allclose(np.rad2deg(measured.phase_rad), np.tile(10 * s + d, (2, 1)))
    assert measured.active.all()
    assert (measured.sd == DEFAULT_NOISE).all()
    assert measured.remarks == ()


def test_unusable_values_are_left_out_and_each_kind_is_counted():
    source, detector, nm, amplitude = rows()
    amplitude[:5] = [0.0, -0.1, np.nan, np.inf, 0.3]
    active = np.ones(len(source), dtype=bool)
    active[5] = False
    sd = 0.02 * np.abs(amplitude)
    sd[6] = 2 * amplitude[6]
    measured = measurements_from_rows(source, detector, nm, amplitude, sd=sd, active=active)
    assert measured.active.sum() == 24 - 6
    text = " ".join(measured.remarks)
    for what in (
        "1 of 24 measurements with amplitude zero",
        "1 of 24 measurements with negative",
        "2 of 24 measurements without a number",
        "1 of 24 measurements marked inactive",
        "1 of 24 measurements below their own noise",
    ):
        assert what in text
    assert np.isfinite(measured.log_amplitude[measured.active]).all()


def test_missing_rows_are_stated():
    source, detector, nm, amplitude = (column[1:] for column in rows())
    measured = measurements_from_rows(source, detector, nm, amplitude)
    assert measured.active.sum() == 23
    assert "1 source-detector-wavelength combinations have no row" in measured.remarks[0]


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda c: [np.append(x, x[:1]) for x in c], "repeated measurements"),
        (lambda c: [c[0] - 1, *c[1:]], "counted from 1"),
        (lambda c: [c[0] + 0.5, *c[1:]], "whole numbers"),
        (lambda c: [c[0], c[1], c[2] / 1000, c[3]], "look like micrometers"),
        (lambda c: [c[0], c[1], np.where(c[2] > 800, np.nan, c[2]), c[3]], "wavelength that is not a number"),
        (lambda c: [c[0], c[1], c[2], 0 * c[3]], "at most 0 usable channels"),
        (lambda c: [x[:0] for x in c], "holds no measurement"),
        (lambda c: [c[0], c[1], c[2], c[3][:-1]], "differ in length"),
        (lambda c: [np.arange(1, 301), np.arange(2, 302), 600 + np.arange(300), np.ones(300)], "300 different wave"),
    ],
)
def test_bad_tables_say_what_is_wrong(change, says):
    with pytest.raises(InputError, match=says):
        measurements_from_rows(*change(rows()))


def test_negative_standard_deviation_is_refused():
    source, detector, nm, amplitude = rows()
    with pytest.raises(InputError, match="zero or negative"):
        measurements_from_rows(source, detector, nm, amplitude, sd=-0.02 * amplitude)


@pytest.mark.parametrize("sd", [1e-300, 1e-5])
def test_noise_in_another_unit_is_refused(sd):
    source, detector, nm, amplitude = rows()
    with pytest.raises(InputError, match="in the unit of the amplitude, not as a share"):
        measurements_from_rows(source, detector, nm, 1e3 * amplitude, sd=np.full(24, sd))


def test_smallest_numbers_of_the_computer_are_no_light():
    source, detector, nm, amplitude = rows()
    with pytest.raises(InputError, match="0 usable channels"):
        measurements_from_rows(source, detector, nm, 0 * amplitude + 1e-320, sd=0.02 * amplitude)


def test_reordering_to_other_channels_masks_what_was_not_measured():
    source, detector, nm, amplitude = rows()
    measured = measurements_from_rows(source, detector, nm, amplitude)
    wanted = np.concatenate([measured.channels[::-1], [[1, 1]]])
    aligned = measured.at_channels(wanted)
    np.testing.assert_array_equal(aligned.log_amplitude[:, :12], measured.log_amplitude[:, ::-1])
    assert not aligned.active[:, 12].any()
    assert "1 of 13 channels were not measured" in aligned.remarks[-1]
    with pytest.raises(InputError, match="data for source 4, which has no position"):
        measured.at_channels(measured.channels[measured.channels[:, 0] < 4])


def test_choosing_wavelengths():
    measured = measurements_from_rows(*rows())
    assert measured.at_wavelengths([850]).log_amplitude.shape == (1, 12)
    with pytest.raises(InputError, match="no data at 800 nm, only 735, 850"):
        measured.at_wavelengths([735, 800])


def test_leaving_out_is_stated_and_noise_can_be_replaced():
    measured = measurements_from_rows(*rows())
    fewer = measured.without(np.arange(24).reshape(2, 12) < 3, "dead fiber")
    assert fewer.active.sum() == 21
    assert fewer.remarks == ("3 of 24 values left out: dead fiber.",)
    assert (fewer.with_noise(0.05).sd == 0.05).all()
    with pytest.raises(InputError, match="2 %"):
        measured.with_noise(5)


def test_csv_round_trip(tmp_path):
    source, detector, nm, amplitude = rows()
    amplitude[3] = np.nan
    measured = measurements_from_rows(source, detector, nm, amplitude, phase_deg=source, sd=0.03 * amplitude)
    write_csv_measurements(measured, tmp_path / "data.csv")
    again = read_csv_measurements(tmp_path / "data.csv")
    np.testing.assert_array_equal(again.active, measured.active)
    np.testing.assert_allclose(again.log_amplitude[again.active], measured.log_amplitude[again.active], rtol=1e-6)
    np.testing.assert_allclose(again.sd[again.active], 0.03, rtol=1e-4)
    np.testing.assert_allclose(again.phase_rad, measured.phase_rad, rtol=1e-5)


@pytest.mark.parametrize(
    "text, says",
    [
        ("source,detector,amplitude\n1,2,3\n", "lacks the column wavelength"),
        ("", "lacks the column source"),
        ("source,detector,wavelength,amplitude\n1,2,800\n", "line 2 has 3 of 4 cells"),
        ("source,detector,wavelength,amplitude\n1,2,800,bright\n", "line 2: 'bright' in 'amplitude' is not a number"),
        ("source,detector,wavelength,amplitude\n", "holds no measurement"),
        ("source;detector;wavelength;amplitude\n1;2;661;0,5\n", "separated by semicolons: save it with commas"),
        ("source\tdetector\twavelength\tamplitude\n1\t2\t661\t0.5\n", "separated by tabs"),
        ("source,detector,wavelength,amplitude,Amplitude\n1,2,661,1,2\n", "column amplitude 2 times"),
        ('source,detector,wavelength,amplitude\n"' + "1,2,661,1\n" * 20_000, "a cell in it has no end"),
    ],
)
def test_bad_csv_says_where(tmp_path, text, says):
    (tmp_path / "data.csv").write_text(text)
    with pytest.raises(InputError, match=says):
        read_csv_measurements(tmp_path / "data.csv")


def test_table_that_may_be_cut_in_its_last_number_is_remarked(tmp_path):
    measured = measurements_from_rows(*rows())
    write_csv_measurements(measured, tmp_path / "data.csv")
    assert read_csv_measurements(tmp_path / "data.csv").remarks == ()
    (tmp_path / "data.csv").write_bytes((tmp_path / "data.csv").read_bytes().rstrip())
    assert "cut off in its last number?" in read_csv_measurements(tmp_path / "data.csv").remarks[0]


def test_table_is_read_without_holding_its_text(tmp_path):
    path = tmp_path / "data.csv"
    line = "1,2,661,1.2345678901234567890123456789012345678901234567890123456789,0.0246913578\n"
    path.write_text("source,detector,wavelength,amplitude,sd\n" + line * 100_000)
    tracemalloc.start()
    with pytest.raises(InputError, match="repeated measurements"):
        read_csv_measurements(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * path.stat().st_size


def test_binary_file_is_refused(tmp_path):
    (tmp_path / "data.csv").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="not a text file"):
        read_csv_measurements(tmp_path / "data.csv")
