"""Data made by other people: the figures of Testing/benchmarks/nirst_foreign_data.py that must hold."""

from __future__ import annotations

import numpy as np
from benchmarks.nirst_foreign_data import read_toast, reconstruct_toast
from BreastBiomarkersLib.volume import read_volume
from NIRSTReconstructionLib.fibers import outline_at_fibers, read_fibers
from NIRSTReconstructionLib.meshing import spline_contour
from NIRSTReconstructionLib.nirfast import read_excoef, read_paa
from NIRSTReconstructionLib.plane import body_contour
from NIRSTReconstructionLib.reconstruct import ReconstructionSettings, reconstruct


def test_absorption_and_scattering_of_toasts_phantom(shared_data):
    """Other people's forward model, known target: both images look like it, and their ranges are the right ones."""
    case = read_toast(shared_data / "nirst" / "toast_ellipse_2d_GPL3")
    found, true, chi = reconstruct_toast(case, steps=4)
    assert chi < 1.2
    for image, target in zip(found, true, strict=True):
        assert np.corrcoef(image, target)[0, 1] > 0.75
        high, low = target >= np.percentile(target, 95), target <= np.percentile(target, 5)
        assert image[high].mean() / image[low].mean() > 1.7


def test_plane_model_of_a_breast_in_3d(shared_data):
    """Light of a whole breast in a plane model: tissue roughly right, data not explained, and it says so."""
    folder = shared_data / "nirst" / "nirfast_mri_breast"
    fibers = read_fibers(folder / "spectral_breast.source").from_lps()
    fit = fibers.fitted_plane()
    assert 2 < fit.rms_mm < 3
    tips = fit.plane.to_plane(fibers.detectors)[0]
    outline, moved = outline_at_fibers(body_contour(read_volume(folder / "breast.mha"), fit.plane), tips, 8.0)
    assert moved < 6
    measured, spectra = read_paa(folder / "forward_data.paa"), read_excoef(folder / "spectral_breast.excoef")
    settings = ReconstructionSettings("tikhonov", gains="global", noise=0.05, basis_nodes=100)
    result = reconstruct(measured, fibers, spline_contour(outline), spectra, settings, plane=fit.plane)
    tissue = result.bulk.tissue
    np.testing.assert_allclose([tissue.hbo, tissue.hbr, 100 * tissue.water], [10, 10, 40], rtol=0.5)
    assert "does not explain the data" in " ".join(result.remarks)
