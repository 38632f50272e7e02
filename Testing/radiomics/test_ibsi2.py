"""Filters against numbers nobody here made: IBSI-2 response maps and intensity statistics of filtered images."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from BreastBiomarkersLib.volume import read_volume
from RadiomicsPanelLib.extract import extract_all
from RadiomicsPanelLib.filters import Filter, Gabor, LaplacianOfGaussian, Laws, Mean, Wavelet
from RadiomicsPanelLib.roi import read_cases
from RadiomicsPanelLib.settings import Settings

DATA = Path(__file__).parent / "data"

RESPONSE_MAPS: dict[str, tuple[str, Filter]] = {
    "1_a_1": ("checkerboard", Mean(size=15, boundary="zero")),
    "1_a_2": ("checkerboard", Mean(size=15, boundary="nearest")),
    "1_a_3": ("checkerboard", Mean(size=15, boundary="periodic")),
    "1_a_4": ("checkerboard", Mean(size=15, boundary="mirror")),
    "1_b_1": ("impulse", Mean(size=15, boundary="zero", planar=True)),
    "2_a": ("impulse", LaplacianOfGaussian(sigma_mm=3.0, boundary="zero")),
    "2_b": ("checkerboard", LaplacianOfGaussian(sigma_mm=5.0)),
    "5_a_1": ("impulse", Wavelet(wavelet="db2", band="LHL", boundary="zero")),
    "6_a_1": ("sphere", Wavelet(wavelet="coif1", band="HHL", boundary="periodic")),
    "7_a_1": ("checkerboard", Wavelet(wavelet="haar", band="LLL", level=2, pooling="mean")),
}

OF_SLICES: dict[str, Filter] = {
    "2.A": Mean(size=5, planar=True),
    "3.A": LaplacianOfGaussian(sigma_mm=1.5, planar=True),
    "4.A": Laws(kernels="L5E5", planar=True),
    "5.A": Gabor(sigma_mm=5.0, wavelength_mm=2.0, aspect_ratio=1.5, angle_step_deg=22.5, planar=True),
    "6.A": Wavelet(wavelet="db3", band="LH", pooling="mean", planar=True),
    "7.A": Wavelet(wavelet="db3", band="HH", level=2, pooling="mean", planar=True),
}
IN_SPACE: dict[str, Filter] = {
    "2.B": Mean(size=5),
    "3.B": LaplacianOfGaussian(sigma_mm=1.5),
    "4.B": Laws(kernels="L5E5E5"),
    "5.B": Gabor(sigma_mm=5.0, wavelength_mm=2.0, aspect_ratio=1.5, angle_step_deg=22.5),
    "6.B": Wavelet(wavelet="db3", band="LLH", pooling="mean"),
    "7.B": Wavelet(wavelet="db3", band="HHH", level=2, pooling="mean"),
}


@pytest.mark.parametrize("name", RESPONSE_MAPS)
def test_response_maps_within_one_percent_of_their_range(name, shared_data):
    phantom, chosen = RESPONSE_MAPS[name]
    image = read_volume(shared_data / "ibsi" / "ibsi2_digital_phantoms" / f"{phantom}.nii.gz")
    folder = shared_data / "ibsi" / "ibsi2_reference_response_maps"
    reference = read_volume(folder / f"{name}-ValidCRM.nii.gz").array
    response = chosen.apply(image.array.astype(float), image.spacing)
    assert np.abs(response - reference).max() <= 0.01 * np.ptp(reference)


def test_every_shipped_response_map_is_compared(shared_data):
    shipped = (shared_data / "ibsi" / "ibsi2_reference_response_maps").glob("*.nii.gz")
    assert {path.name.split("-")[0] for path in shipped} == set(RESPONSE_MAPS)


@pytest.mark.parametrize("spacing, filters", [(None, OF_SLICES), ((1.0, 1.0, 1.0), IN_SPACE)], ids=["slices", "space"])
def test_feature_values_of_the_ct_phantom(spacing, filters, shared_data, ibsi):
    """18 statistics each of the image itself (1.A or 1.B) and of six filtered images."""
    reference = defaultdict(dict)
    for path, delimiter, names in (
        (DATA / "ibsi2_feature_values.csv", ",", ("filter_id", "tag", "value")),
        (
            shared_data / "ibsi" / "ibsi2_reference_feature_values" / "reference_values.csv",
            ";",
            ("filter_id", "feature_tag", "consensus_value"),
        ),
    ):
        with path.open() as file:
            for row in csv.DictReader(file, delimiter=delimiter):
                number, tag, value = (row[name] for name in names)
                reference[number][tag] = (float(value), float(row["tolerance"]))
    folder = shared_data / "ibsi" / "ibsi1_ct_phantom_NC"
    cases = read_cases(folder / "image.nii.gz", folder / "mask.nii.gz")
    settings = Settings(
        spacing_kji_mm=spacing,
        interpolation="cubic",
        round_intensities=True,
        lower=-1000.0,
        upper=400.0,
        filters=tuple(filters.values()),
    )
    extractions = extract_all(cases, settings, names=["stat"])
    numbers = {"original": "1.A" if spacing is None else "1.B", **{f.label: number for number, f in filters.items()}}
    outside = {}
    for extraction in extractions:
        number = numbers[extraction.filter]
        assert len(reference[number]) == 18
        wrong = ibsi.outside_tolerance(extraction.values, reference[number])
        if wrong:
            outside[number] = wrong
    assert outside == {}
    assert len(extractions) == 7
