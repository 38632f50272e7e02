import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from NIRSTReconstructionLib import snirf
from NIRSTReconstructionLib.fibers import Fibers, read_fibers
from NIRSTReconstructionLib.measurements import DEFAULT_NOISE, Measurements, read_measurements
from NIRSTReconstructionLib.nirfast import read_nirfast_fibers, read_paa

h5py = pytest.importorskip("h5py")


def ring(z=3.0):
    angles = 2 * np.pi * np.arange(6) / 6
    return np.column_stack([30 * np.cos(angles) + 12, 26 * np.sin(angles) - 40, np.full(6, z)])


@pytest.fixture(scope="module")
def exposure():
    fibers = Fibers(ring(), ring(), name="ring")
    channels = fibers.all_channels()
    rng = np.random.default_rng(2)
    values = rng.uniform(-9, -2, (3, len(channels)))
    active = rng.uniform(size=values.shape) > 0.1
    return (
        Measurements(
            np.array([735.0, 808.0, 903.0]),
            channels,
            np.where(active, values, np.nan),
            np.full(values.shape, DEFAULT_NOISE),
            active,
            np.where(active, rng.uniform(-3, 0, values.shape), np.nan),
        ),
        fibers,
    )


def as_read(data, field):
    """Rows of the values that were active: what a file can hold."""
    return getattr(data, field)[data.active]


def test_frequency_domain_round_trip_through_the_general_readers(exposure, tmp_path):
    data, fibers = exposure
    snirf.write_snirf(data, fibers, tmp_path / "case.snirf")
    back = read_measurements(tmp_path / "case.snirf")
    assert back.wavelengths_nm.tolist() == [735.0, 808.0, 903.0]
    back = back.at_channels(data.channels)
    assert (back.active == data.active).all()
    for field in ("log_amplitude", "phase_rad"):
        np.testing.assert_allclose(as_read(back, field), as_read(data, field), atol=1e-12)
    again = read_fibers(tmp_path / "case.snirf")
    assert not again.planar
    np.testing.assert_allclose(again.sources, fibers.sources)
    np.testing.assert_allclose(again.detectors, fibers.detectors)
    assert not list(tmp_path.glob(".writing*"))


def test_continuous_wave_in_a_plane(exposure, tmp_path):
    data, _ = exposure
    flat = ring(0.0)
    cw = Measurements(data.wavelengths_nm, data.channels, data.log_amplitude, data.sd, data.active)
    snirf.write_snirf(cw, Fibers(flat, flat, planar=True), tmp_path / "case.snirf")
    assert read_measurements(tmp_path / "case.snirf").phase_rad is None
    assert read_fibers(tmp_path / "case.snirf").planar


def test_real_data_survive(shared_data, tmp_path):
    folder = shared_data / "nirst" / "nirfast_circle_measured"
    data, fibers = (
        read_paa(folder / "anom.paa").at_wavelengths([785]),
        read_nirfast_fibers(folder / "circle_spec.source"),
    )
    snirf.write_snirf(data, fibers, tmp_path / "anom.snirf")
    back = read_measurements(tmp_path / "anom.snirf")
    np.testing.assert_array_equal(back.channels, data.channels)
    np.testing.assert_allclose(back.log_amplitude, data.log_amplitude, atol=1e-12)
    np.testing.assert_allclose(back.phase_rad, data.phase_rad, atol=1e-12)


@pytest.fixture(scope="module")
def original(exposure, tmp_path_factory):
    path = tmp_path_factory.mktemp("snirf") / "case.snirf"
    snirf.write_snirf(*exposure, path)
    return path.read_bytes()


@pytest.fixture
def written(original, tmp_path):
    path = tmp_path / "case.snirf"
    path.write_bytes(original)
    return path


def edit(path, change):
    with h5py.File(path, "r+") as file:
        change(file["nirs"])
    return path


def replaced(group, key, value, **options):
    del group[key]
    if options:
        group.create_dataset(key, data=value, **options)
    else:
        group[key] = value


@pytest.mark.parametrize("unit, factor", [("cm", 0.1), ("m", 1e-3)])
def test_length_units(exposure, written, unit, factor):
    _, fibers = exposure

    def change(nirs):
        replaced(nirs["metaDataTags"], "LengthUnit", unit)
        for kind in ("source", "detector"):
            replaced(nirs["probe"], f"{kind}Pos3D", fibers.sources * factor)

    np.testing.assert_allclose(read_fibers(edit(written, change)).detectors, fibers.detectors)


def test_time_series_is_averaged_in_pieces(written, exposure, monkeypatch):
    monkeypatch.setattr(snirf, "_BLOCK_VALUES", 1000)
    data, _ = exposure
    rng = np.random.default_rng(4)

    def change(nirs):
        one = nirs["data1/dataTimeSeries"][0]
        many = one * (1 + 0.6 * rng.standard_normal((400, one.size)).clip(-1.5, 1.5) * (np.arange(one.size) < 5))
        many[7, 9] = np.nan
        replaced(nirs["data1"], "dataTimeSeries", many, compression="gzip", chunks=(50, one.size), shuffle=True)

    back = read_measurements(edit(written, change)).at_channels(data.channels)
    both = np.argwhere(back.active)
    first = [tuple(rc) for rc in both[:5]]
    assert "400 time points" in " ".join(back.remarks)
    noisy = np.array([back.sd[rc] for rc in first])
    np.testing.assert_allclose(noisy, 0.6 / 20, rtol=0.25)  # clipping narrows the spread by some percent
    rest = np.array([back.sd[tuple(rc)] for rc in both[5:]])
    np.testing.assert_allclose(rest, DEFAULT_NOISE)
    np.testing.assert_allclose(
        [back.log_amplitude[tuple(rc)] for rc in both[5:]],
        [data.log_amplitude[tuple(rc)] for rc in both[5:]],
        atol=1e-9,
    )


def test_measurement_lists_of_version_1_1(written, exposure):
    def change(nirs):
        block = nirs["data1"]
        count = block["dataTimeSeries"].shape[1]
        table = {f: [block[f"measurementList{k + 1}/{f}"][()] for k in range(count)] for f in snirf._FIELDS}
        for k in range(count):
            del block[f"measurementList{k + 1}"]
        for field, values in table.items():
            block[f"measurementLists/{field}"] = values
        block["measurementLists/dataUnit"] = ["rad" if kind == 102 else "V" for kind in table["dataType"]]

    data, _ = exposure
    back = read_measurements(edit(written, change)).at_channels(data.channels)
    np.testing.assert_allclose(as_read(back, "log_amplitude"), as_read(data, "log_amplitude"), atol=1e-12)
    np.testing.assert_allclose(as_read(back, "phase_rad"), np.rad2deg(as_read(data, "phase_rad")), atol=1e-9)


def test_phase_without_unit_is_left_out_and_said(written):
    def change(nirs):
        for column in nirs["data1"].values():
            if hasattr(column, "keys") and "dataUnit" in column:
                del column["dataUnit"]

    back = read_measurements(edit(written, change))
    assert back.phase_rad is None
    assert "degrees or radians" in " ".join(back.remarks)


def drop(*keys):
    def change(nirs):
        for key in keys:
            del nirs[key]

    return change


def put(path, value, **options):
    def change(nirs):
        group, _, key = path.rpartition("/")
        replaced(nirs[group], key, value, **options)

    return change


def soft(nirs):
    del nirs["probe/wavelengths"]
    nirs["probe/wavelengths"] = h5py.SoftLink("/nirs/data1/time")


def external(nirs):
    del nirs["data1"]
    nirs["data1"] = h5py.ExternalLink("/etc/hostname", "/x")


def raw_elsewhere(nirs):
    shape = nirs["data1/dataTimeSeries"].shape
    del nirs["data1/dataTimeSeries"]
    nirs["data1"].create_dataset("dataTimeSeries", shape, "f8", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])


def virtual(nirs):
    shape = nirs["data1/dataTimeSeries"].shape
    del nirs["data1/dataTimeSeries"]
    layout = h5py.VirtualLayout(shape, "f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", shape)
    nirs["data1"].create_virtual_dataset("dataTimeSeries", layout)


def huge(nirs):
    del nirs["data1/dataTimeSeries"]
    nirs["data1"].create_dataset("dataTimeSeries", (2**22, 2**12), "f8", chunks=(64, 64), compression="gzip")


def huge_wavelengths(nirs):
    del nirs["probe/wavelengths"]
    nirs["probe"].create_dataset("wavelengths", (2**40,), "f8", chunks=(1024,))


def huge_chunk(nirs):
    shape = nirs["data1/dataTimeSeries"].shape
    del nirs["data1/dataTimeSeries"]
    nirs["data1"].create_dataset("dataTimeSeries", shape, "f8", maxshape=(None, None), chunks=(2**16, 2**12))


def named_type(nirs):
    del nirs["probe/wavelengths"]
    nirs["probe/wavelengths"] = np.dtype("f8")


@pytest.mark.parametrize(
    "change, message",
    [
        (drop("data1"), "no 'data'"),
        (drop("probe"), "lacks"),
        (drop("data1/measurementList7"), "lacks '/nirs/data1/measurementList7|columns are listed"),
        (drop("data1/measurementList3/dataType"), "lacks"),
        (put("data1/dataTimeSeries", np.ones((2, 3))), "columns are listed"),
        (put("data1/dataTimeSeries", "words"), "numbers|array"),
        (put("data1/measurementList1/sourceIndex", 1.5), "whole numbers"),
        (put("data1/measurementList1/sourceIndex", -4), "counted from 1"),
        (put("data1/measurementList1/wavelengthIndex", 9), "name others"),
        (put("data1/measurementList1/sourceIndex", np.arange(4)), "one number"),
        (put("probe/wavelengths", [0.7, 0.8, 0.9]), "micrometers"),
        (put("probe/wavelengths", 5), "name others"),
        (soft, "link"),
        (external, "link"),
        (raw_elsewhere, "other files"),
        (virtual, "other files"),
        (named_type, "not an array"),
        (huge, "claims"),
        (huge_wavelengths, "claims"),
        (huge_chunk, "claims"),
    ],
)
def test_hostile_and_damaged_files_end_in_an_error(written, change, message):
    with pytest.raises(InputError, match=message):
        read_measurements(edit(written, change))


def test_processed_data_are_refused(written):
    def change(nirs):
        for key, column in nirs["data1"].items():
            if key.startswith("measurementList"):
                replaced(column, "dataType", 99999)

    with pytest.raises(InputError, match="raw amplitudes"):
        read_measurements(edit(written, change))


@pytest.mark.parametrize(
    "change, message",
    [
        (drop("metaDataTags/LengthUnit"), "LengthUnit"),
        (put("metaDataTags/LengthUnit", "inch"), "inch"),
        (put("metaDataTags/LengthUnit", "cm"), "another unit|span"),
        (put("probe/sourcePos3D", np.ones((4, 2))), "3 coordinates"),
        (put("probe/sourcePos3D", np.full((6, 3), np.nan)), "not a number"),
    ],
)
def test_positions_that_make_no_sense(written, change, message):
    with pytest.raises(InputError, match=message):
        read_fibers(edit(written, change))


def test_truncated_and_foreign_files(written, tmp_path):
    whole = written.read_bytes()
    for size in (0, 600, len(whole) // 2):
        path = tmp_path / f"cut{size}.snirf"
        path.write_bytes(whole[:size])
        with pytest.raises(InputError) as refused:
            read_measurements(path)
        assert str(refused.value) == (
            f"'{path.name}' is no SNIRF file, or it is damaged or cut off. Copy it again from the instrument."
        )
    path = tmp_path / "text.snirf"
    path.write_text("no HDF5")
    with pytest.raises(InputError, match="no SNIRF file"):
        read_fibers(path)
    with pytest.raises(InputError, match="does not exist"):
        read_measurements(tmp_path / "absent.snirf")


def test_flipped_bytes_never_end_in_anything_but_an_error_or_data(written, tmp_path):
    whole = np.frombuffer(written.read_bytes(), dtype=np.uint8)
    rng = np.random.default_rng(8)
    path = tmp_path / "flipped.snirf"
    refused = 0
    for _ in range(15):
        damaged = whole.copy()
        damaged[rng.integers(0, len(whole), 400)] = rng.integers(0, 256, 400)
        path.write_bytes(damaged.tobytes())
        try:
            read_measurements(path)
        except InputError:
            refused += 1
    assert refused > 0
