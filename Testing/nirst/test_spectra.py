"""Extinction tables against an independent compilation, units, and the scattering law."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from NIRSTReconstructionLib.spectra import PAPER_WAVELENGTHS_NM, Spectra, Tissue, load_spectra, table_names

# Rows of the published tables that everybody in the field quotes: mm^-1 per mM (hemoglobin), mm^-1 (water).
KNOWN = {661: (0.0730, 0.7331, 0.000365), 808: (0.1971, 0.1666, 0.001970), 948: (0.2780, 0.1432, 0.037143)}


def test_nirfast_table_equals_published_values():
    spectra = load_spectra(list(KNOWN))
    assert spectra.table_name == "nirfast-1"
    for row, (hbo, hbr, water) in zip(spectra.extinction, KNOWN.values(), strict=True):
        np.testing.assert_allclose(row[:3], [hbo / 1000, hbr / 1000, water], rtol=1e-3)


def test_both_tables_equal_the_shared_compilation(shared_data):
    columns = {
        "nirfast": ("HbO2_eps_natural_mm-1_per_mM__NIRFAST", "Hb_eps_natural_mm-1_per_mM__NIRFAST")
        + ("water_mua_mm-1__NIRFAST", "lipid_mua_mm-1__NIRFAST"),
        "prahl-segelstein": ("HbO2_eps_natural_mm-1_per_mM__Prahl", "Hb_eps_natural_mm-1_per_mM__Prahl")
        + ("water_mua_mm-1__Segelstein1981", "lipid_mua_mm-1__NIRFAST"),
    }
    with (shared_data / "nirst" / "optical_constants.csv").open() as file:
        rows = list(csv.DictReader(file))
    for table, names in columns.items():
        spectra = load_spectra([float(row["wavelength_nm"]) for row in rows], table)
        expected = np.array([[float(row[name]) for name in names] for row in rows]) * [1e-3, 1e-3, 1, 1]
        np.testing.assert_allclose(spectra.extinction, expected, rtol=2e-5 if table == "nirfast" else 3e-4)


def test_tables_disagree_where_they_are_known_to():
    first, second = (load_spectra([735.0], table) for table in ("nirfast", "prahl-segelstein"))
    assert second.extinction[0, 2] / first.extinction[0, 2] == pytest.approx(1.11, abs=0.02)
    assert table_names() == ("nirfast-1", "prahl-segelstein-1")


def test_any_wavelength_in_range_is_interpolated():
    between = load_spectra([700.25]).extinction
    low, high = load_spectra([700.0, 701.0]).extinction
    np.testing.assert_allclose(between[0], 0.75 * low + 0.25 * high)
    assert load_spectra([600.0, 1000.0]).extinction.shape == (2, 4)


@pytest.mark.parametrize("nm", [0.661, 599.0, 1001.0, np.nan])
def test_wavelength_outside_is_refused(nm):
    with pytest.raises(InputError, match="outside the table"):
        load_spectra([nm])


def test_unknown_table_and_bad_numbers_are_refused():
    with pytest.raises(InputError, match="Choose one of: nirfast-1"):
        load_spectra([661.0], "wray")
    with pytest.raises(InputError, match="negative"):
        Spectra(np.array([661.0]), np.array([[1.0, -1, 0, 0]]), "mine")
    with pytest.raises(InputError, match="shape"):
        Spectra(np.array([661.0]), np.zeros((2, 4)), "mine")


def test_tissue_to_optical_properties():
    """12 uM HbO, 6 uM Hb, 30 % water at 661 nm, by hand from the published row."""
    spectra = load_spectra()
    maps = Tissue(12, 6, 0.30, 0.0, scatter_amplitude=1.0, scatter_power=1.0).maps(3)
    expected = 0.0730e-3 * 12 + 0.7331e-3 * 6 + 0.000365 * 0.30
    np.testing.assert_allclose(spectra.mua(maps)[0], expected, rtol=1e-3)
    np.testing.assert_allclose(spectra.musp(maps)[0], 1000 / 661)
    assert spectra.mua(maps).shape == (len(PAPER_WAVELENGTHS_NM), 3)


def test_scattering_reference_wavelength_converts():
    """Amplitude at 500 nm is the amplitude at 1000 nm times 2^power."""
    at_1000 = load_spectra().musp(Tissue(0, 0, 0, 0, 0.9, 1.4).maps(1))
    at_500 = load_spectra(scatter_reference_nm=500.0).musp(Tissue(0, 0, 0, 0, 0.9 * 2**1.4, 1.4).maps(1))
    np.testing.assert_allclose(at_1000, at_500)


def test_scattering_derivatives_equal_differences():
    spectra = load_spectra(scatter_reference_nm=800.0)
    maps = Tissue(0, 0, 0, 0, 0.9, 1.4).maps(2)
    for row, derivative in zip((4, 5), spectra.musp_derivatives(maps), strict=True):
        high, low = maps.copy(), maps.copy()
        high[row] += 1e-6
        low[row] -= 1e-6
        np.testing.assert_allclose(derivative, (spectra.musp(high) - spectra.musp(low)) / 2e-6, rtol=1e-6)
