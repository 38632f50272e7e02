"""Filters: against independent programs, cropping, one pass for several segments, settings and bad input."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import SimpleITK as sitk
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Cancelled
from BreastBiomarkersLib.volume import Volume, to_sitk, write_volume
from conftest import oblique_ijk_to_ras
from RadiomicsPanelLib.cli import main
from RadiomicsPanelLib.extract import extract_all, provenance
from RadiomicsPanelLib.filtered import filter_around, filtered_roi
from RadiomicsPanelLib.filters import (
    KINDS,
    WAVELETS,
    Gabor,
    Gradient,
    LaplacianOfGaussian,
    Laws,
    LocalBinaryPattern,
    Mean,
    Wavelet,
    filter_from_dict,
    filter_to_dict,
    wavelet_bands,
)
from RadiomicsPanelLib.roi import Case, cases_from_labels, prepare_roi
from RadiomicsPanelLib.settings import Settings, read_settings, settings_from_dict, settings_to_dict, write_settings
from RadiomicsPanelLib.table import wide_columns, wide_rows
from scipy import signal

ONE_OF_EACH = (
    Mean(size=3),
    LaplacianOfGaussian(sigma_mm=1.5),
    Wavelet(wavelet="db2", band="LHH", level=2, pooling="max"),
    Laws(kernels="E5S5L5", energy_distance=2),
    Gabor(sigma_mm=1.5, wavelength_mm=4.0, angle_step_deg=90.0),
    Gradient(),
    LocalBinaryPattern(),
)


@pytest.mark.parametrize("name", WAVELETS)
def test_wavelet_filters_are_orthonormal(name):
    """Unit length, orthogonal to their even shifts, and as many vanishing moments of the high pass as their order."""
    low = WAVELETS[name]
    assert low.sum() == pytest.approx(np.sqrt(2))
    for shift in range(0, len(low), 2):
        assert low[shift:] @ low[: len(low) - shift] == pytest.approx(1.0 if shift == 0 else 0.0, abs=1e-14)
    high = low[::-1] * (-1.0) ** np.arange(len(low))
    for moment in range({"haar": 1, "db2": 2, "db3": 3, "coif1": 2}[name]):
        assert high @ np.arange(len(low)) ** moment == pytest.approx(0, abs=1e-12)


def test_wavelet_bands_sum_up_to_the_image(lump):
    """The eight bands of an orthonormal filter pair hold 8 times the energy of a periodic image."""
    array = lump().image.array[:, :, :26]
    bands = [replace(w, boundary="periodic").apply(array, np.ones(3)) for w in wavelet_bands("db2")]
    assert sum(np.sum(b**2) for b in bands) == pytest.approx(8 * np.sum(array**2))


def test_gradient_is_the_one_of_simpleitk(oblique_volume):
    ours = Gradient().apply(oblique_volume.array.astype(float), oblique_volume.spacing)
    theirs = sitk.GetArrayFromImage(sitk.GradientMagnitude(sitk.Cast(to_sitk(oblique_volume), sitk.sitkFloat64)))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("radius, points", [(1.0, 8), (2.0, 12), (1.5, 6)])
def test_local_binary_pattern_is_the_one_of_scikit_image(radius, points):
    skimage_feature = pytest.importorskip("skimage.feature")
    array = np.random.default_rng(2).integers(0, 60, (2, 20, 31)).astype(float)
    ours = LocalBinaryPattern(radius=radius, points=points, boundary="zero").apply(array, np.ones(3))
    theirs = [skimage_feature.local_binary_pattern(a.astype(int), points, radius, "uniform") for a in array]
    inner = np.s_[:, 3:-3, 3:-3]
    assert (ours[inner] == np.stack(theirs)[inner]).mean() > 0.999  # samples interpolated to a tie may fall either way


def test_gabor_is_the_plain_convolution_and_turns_from_i_to_j():
    """Against a sum written out; a wave along I answers at 0 degrees, one along the diagonal I = J at 45."""
    spacing = np.array([3.0, 1.0, 1.5])
    array = np.random.default_rng(0).normal(size=(2, 15, 17))
    chosen = Gabor(sigma_mm=1.5, wavelength_mm=4.0, aspect_ratio=2.0, angle_deg=30.0, angle_step_deg=None, planar=True)
    j, i = np.meshgrid(np.arange(-8, 9) * 1.0, np.arange(-5, 6) * 1.5, indexing="ij")
    along, across = i * np.cos(np.pi / 6) + j * np.sin(np.pi / 6), j * np.cos(np.pi / 6) - i * np.sin(np.pi / 6)
    kernel = np.exp(-(along**2 + 4 * across**2) / 4.5 + 2j * np.pi * along / 4)
    padded = np.pad(array, ((0, 0), (8, 8), (5, 5)), mode="symmetric")
    expected = [np.abs(signal.convolve2d(part, kernel, "valid")) for part in padded]
    np.testing.assert_allclose(chosen.apply(array, spacing), expected, rtol=1e-9)
    i = np.arange(40.0)
    for angle, wave in (
        (0, i + 0 * i[:, None]),
        (45, (i + i[:, None]) / np.sqrt(2)),
        (135, (i[:, None] - i) / np.sqrt(2)),
    ):
        image = np.cos(2 * np.pi * wave / 4)[None]
        strongest = max(
            (0, 45, 90, 135),
            key=lambda a: Gabor(angle_deg=a, angle_step_deg=None, planar=True, sigma_mm=3.0).apply(image, np.ones(3))[
                0, 20, 20
            ],
        )
        assert strongest == angle


def test_pooling_forgets_right_angle_turns(lump):
    """And without pooling it does not."""
    cube = np.random.default_rng(4).normal(size=(18, 18, 18))
    turned = np.rot90(cube, axes=(0, 2))
    for chosen in (
        Wavelet(wavelet="db3", band="LLH", level=2, pooling="mean"),
        Laws(kernels="L5E5S5", energy_distance=None),
        Gabor(sigma_mm=1.0, angle_step_deg=90.0),
    ):
        response = chosen.apply(cube, np.ones(3))
        np.testing.assert_allclose(chosen.apply(turned, np.ones(3)), np.rot90(response, axes=(0, 2)), atol=1e-9)
    plain = Wavelet(wavelet="db3", band="LLH")
    assert not np.allclose(plain.apply(turned, np.ones(3)), np.rot90(plain.apply(cube, np.ones(3)), axes=(0, 2)))


@pytest.mark.parametrize("chosen", ONE_OF_EACH, ids=lambda f: f.kind)
def test_a_region_sees_its_real_surroundings(chosen):
    """The response around a small region is cut from that of the whole image, at the image's edge too."""
    rng = np.random.default_rng(5)
    image = Volume(rng.normal(100, 20, (30, 34, 40)), oblique_ijk_to_ras((1.0, 1.0, 1.0)), "image")
    for place in (np.s_[14:17, 15:19, 18:24], np.s_[0:3, 30:34, 1:5]):
        mask = np.zeros(image.shape, dtype=bool)
        mask[place] = True
        case = Case(image, image.with_array(mask), "case", "small")
        roi = prepare_roi(case, Settings())
        whole = chosen.apply(image.array, image.spacing)
        measured = filtered_roi(roi, filter_around(image, [roi], Settings(), chosen), chosen)
        np.testing.assert_allclose(measured.intensities, whole[mask], rtol=1e-7, atol=1e-7)
        assert (measured.intensity_mask == roi.intensity_mask).all()
        np.testing.assert_allclose(measured.image.ijk_to_ras, roi.image.ijk_to_ras)


def test_periodic_edges_see_the_far_side():
    image = Volume(np.random.default_rng(1).normal(size=(9, 11, 40)), np.eye(4), "image")
    mask = np.zeros(image.shape, dtype=bool)
    mask[3:5, 4:7, 0:3] = True
    roi = prepare_roi(Case(image, image.with_array(mask), "case", "edge"), Settings())
    chosen = Mean(size=5, boundary="periodic")
    measured = filtered_roi(roi, filter_around(image, [roi], Settings(), chosen), chosen)
    np.testing.assert_allclose(measured.intensities, chosen.apply(image.array, np.ones(3))[mask])


@dataclass(frozen=True, kw_only=True)
class CountedMean(Mean):
    """A mean filter that counts its runs."""

    runs: ClassVar[list[tuple[int, ...]]] = []

    def apply(self, array, spacing_kji_mm):
        self.runs.append(array.shape)
        return super().apply(array, spacing_kji_mm)


def three_segments(lump) -> list[Case]:
    case = lump()
    labels = case.mask.array * (1 + np.digitize(np.arange(case.mask.shape[2]), [11, 16]))
    return cases_from_labels(case.image, case.mask.with_array(labels), "case")


def test_each_filter_runs_once_for_several_segments(lump):
    CountedMean.runs.clear()
    cases = three_segments(lump)
    assert len(cases) == 3
    settings = Settings(spacing_kji_mm=(1.0, 1.0, 1.0), filters=(CountedMean(size=3), CountedMean(size=5)))
    together = extract_all(cases, settings, names=["stat", "glcm", "morph"])
    assert len(CountedMean.runs) == 2
    assert [(e.segment, e.filter) for e in together] == [
        (f"label {n}", name) for n in (1, 2, 3) for name in ("original", "mean_3", "mean_5")
    ]
    alone = [e for case in cases for e in extract_all([case], settings, names=["stat", "glcm", "morph"])]
    assert len(CountedMean.runs) == 8
    for a, b in zip(together, alone, strict=True):
        for x, y in zip(a.values, b.values, strict=True):
            assert x.value == pytest.approx(y.value, rel=1e-7), (a.filter, x.column)


def test_a_filtered_row_has_no_shape_and_levels_of_its_own(lump):
    settings = Settings(
        lower=150.0,
        upper=260.0,
        outlier_sigma=3.0,
        round_intensities=True,
        discretization="bin_width",
        bin_width=5.0,
        bin_count=None,
        filters=(LaplacianOfGaussian(sigma_mm=3.0), Gradient()),
        filter_bin_count=16,
    )
    extractions = extract_all([lump()], settings)
    plain, log, gradient = extractions
    assert [e.filter for e in extractions] == ["original", "log_sigma_3mm", "gradient"]
    assert {v.feature.family for v in plain.values} - {v.feature.family for v in log.values} >= {"morph", "loc"}
    assert (plain.preparation["level_count"], log.preparation["level_count"]) == (22, 16)
    assert plain.preparation["intensity_voxels"] == log.preparation["intensity_voxels"]
    unit = {v.column: v.unit for v in log.values}
    assert unit["stat_mean"] == "response"
    assert any("unlike edges" in note for note in log.preparation["notes"])
    values = {v.column: v.value for v in log.values}
    assert values["stat_minimum"] < 0 < values["stat_maximum"]
    assert values["stat_mean"] % 1 != 0
    columns, rows = wide_columns(extractions), wide_rows(extractions)
    assert all(len(row) == len(columns) for row in rows)
    table = [dict(zip(columns, row, strict=True)) for row in rows]
    assert table[1]["morph_mesh_volume"] is None
    assert table[1]["glcm_contrast_3D_avg"] == values["glcm_contrast_3D_avg"]
    about = provenance(extractions)
    assert about["filters"] == {
        "log_sigma_3mm": {"ibsi_code": "L6PA", "standardized": True},
        "gradient": {"ibsi_code": "", "standardized": False},
    }
    assert about["settings"]["filters"][0] == {
        "kind": "log",
        "planar": False,
        "boundary": "mirror",
        "sigma_mm": 3.0,
        "truncate": 4.0,
    }


def test_settings_with_filters_survive_a_file(tmp_path):
    settings = Settings(name="mine", filters=ONE_OF_EACH, filter_bin_count=64)
    write_settings(settings, tmp_path / "mine.json")
    assert read_settings(tmp_path / "mine.json") == settings
    assert settings_from_dict(json.loads(json.dumps(settings_to_dict(settings)))) == settings
    assert {f.kind for f in ONE_OF_EACH} == set(KINDS)
    assert len({f.label for f in (*ONE_OF_EACH, *wavelet_bands())}) == len(ONE_OF_EACH) + 8
    assert all(filter_from_dict(filter_to_dict(f)) == f for f in ONE_OF_EACH)
    assert filter_from_dict({"kind": "mean"}) == Mean()


@pytest.mark.parametrize(
    "data, message",
    [
        ("mean", "kind' of mean, log"),
        ({"kind": "median"}, "kind' of mean, log"),
        ({"kind": "mean", "sise": 3}, "'mean' has no 'sise'; it has planar, boundary, size"),
        ({"kind": "mean", "size": 4}, "odd number from 3"),
        ({"kind": "mean", "size": "5"}, "odd number from 3"),
        ({"kind": "mean", "boundary": "wrap"}, "boundary is one of mirror"),
        ({"kind": "mean", "planar": 1}, "planar is true or false"),
        ({"kind": "log", "sigma_mm": 0}, "sigma_mm is above 0"),
        ({"kind": "log", "sigma_mm": float("nan")}, "sigma_mm is above 0"),
        ({"kind": "wavelet", "wavelet": "db4"}, "wavelet is one of haar, db2, db3, coif1"),
        ({"kind": "wavelet", "band": "LL"}, "band has 3 letters"),
        ({"kind": "wavelet", "band": "LLX"}, "band has 3 letters"),
        ({"kind": "wavelet", "level": 0}, "level is 1 to 5"),
        ({"kind": "wavelet", "pooling": "sum"}, "pooling is one of none, mean, max"),
        ({"kind": "laws", "kernels": "L5E5"}, "kernels are 3 of L5"),
        ({"kind": "laws", "kernels": "L5E5X5"}, "kernels are 3 of L5"),
        ({"kind": "laws", "energy_distance": 0}, "energy_distance is 1 or more"),
        ({"kind": "gabor", "angle_step_deg": 50}, "angle_step_deg divides 360"),
        ({"kind": "gabor", "wavelength_mm": -1}, "wavelength_mm is above 0"),
        ({"kind": "lbp", "planar": False}, "planar is true"),
        ({"kind": "lbp", "points": 2}, "points is 3 to 64"),
    ],
)
def test_bad_filters_say_what_is_wrong(data, message, tmp_path, capsys):
    with pytest.raises(InputError, match=message):
        settings_from_dict({"filters": [data]})


def test_bad_lists_of_filters():
    with pytest.raises(InputError, match="filters has to be a list"):
        settings_from_dict({"filters": {"kind": "mean"}})
    with pytest.raises(InputError, match="'mean_5' is there twice"):
        Settings(filters=(Mean(), Mean()))
    with pytest.raises(InputError, match="filter_bin_count has to be a whole number"):
        Settings(filter_bin_count=1)


def test_what_a_filter_cannot_work_on(lump):
    case = lump()
    image = case.image.array.copy()
    image[0, 0, 0] = np.nan
    bad = replace(case, image=case.image.with_array(image))
    with pytest.raises(
        InputError, match="1 voxels around the regions, within the reach of the filter 'log_sigma_5mm' of 'image'"
    ):
        extract_all([bad], Settings(filters=(LaplacianOfGaussian(sigma_mm=5.0),)), names=["stat"])
    with pytest.raises(InputError, match="would reach 571[45] voxels"):
        extract_all([case], Settings(filters=(LaplacianOfGaussian(sigma_mm=1000.0),)), names=["stat"])


def test_progress_rises_through_filters_and_cancels(lump):
    seen = []
    settings = Settings(filters=(Mean(), Gradient()))
    extract_all(three_segments(lump), settings, lambda fraction, message: seen.append((fraction, message)), ["stat"])
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, pytest.approx(1.0))
    assert sum(message.startswith("Filtering: ") for _, message in seen) == 2

    def stop(fraction, message):
        if message == "Filtering: gradient":
            raise Cancelled

    with pytest.raises(Cancelled):
        extract_all(three_segments(lump), settings, stop, ["stat"])


def test_constant_and_flat_regions_can_be_filtered(measure):
    """One slice, one intensity: filters work and features say why they have no value."""
    mask = np.zeros((5, 6, 7), dtype=bool)
    mask[2, 1:5, 1:6] = True
    image = Volume(np.full(mask.shape, 7.0), np.eye(4), "flat")
    case = Case(image, image.with_array(mask), "case", "flat")
    for extraction in extract_all([case], Settings(filters=ONE_OF_EACH), names=["stat", "glcm", "ngtdm"])[1:]:
        noted = {v.column: v for v in extraction.values}
        assert noted["glcm_correlation_3D_avg"].note == "not applicable: all neighbors have one gray level"
        assert all(v.value is None or np.isfinite(v.value) for v in extraction.values)


def test_filters_from_the_command_line(tmp_path, lump, capsys):
    case = lump()
    write_volume(case.image, tmp_path / "image.nrrd")
    write_volume(case.mask.with_array(case.mask.array.astype(np.uint8)), tmp_path / "mask.nrrd")
    write_settings(Settings(filters=(Mean(), Gradient())), tmp_path / "mine.json")
    paths = [str(tmp_path / name) for name in ("image.nrrd", "mask.nrrd", "mine.json", "out.csv")]
    options = ["--image", paths[0], "--mask", paths[1], "--settings", paths[2], "--output", paths[3]]
    assert main(["extract", *options, "--feature", "stat", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert [s["filter"] for s in figures["segments"]] == ["original", "mean_5", "gradient"]
