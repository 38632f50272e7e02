from dataclasses import replace

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from NIRSTReconstructionLib.bulk import fit_bulk
from NIRSTReconstructionLib.calibration import (
    calibrate,
    check_distances,
    data_space,
    fit_homogeneous,
    fit_slope,
)
from NIRSTReconstructionLib.spectra import Tissue


def gains_for(channels, spread, wavelengths, seed=0):
    rng = np.random.default_rng(seed)
    source = rng.normal(0, spread, (wavelengths, channels[:, 0].max() + 1))
    detector = rng.normal(0, spread, (wavelengths, channels[:, 1].max() + 1))
    return source[:, channels[:, 0]] + detector[:, channels[:, 1]]


def test_fiber_gains_vanish_and_nothing_else_does(disc):
    measured = disc.measurements(disc.light())
    W, C = measured.active.shape
    space = data_space(measured, "fibers")
    assert space.freedom.tolist() == [C - 31] * W  # 16 + 16 gains, one combination of them has no effect
    gains = gains_for(measured.channels, 0.2, W)
    np.testing.assert_allclose(space.whiten(gains), 0.0, atol=1e-9)
    rng = np.random.default_rng(1)
    anything = rng.standard_normal((W, C))
    projected = space.residual(anything)
    np.testing.assert_allclose(space.residual(projected), projected, atol=1e-12)  # a projection
    np.testing.assert_allclose(space.residual(anything + gains), projected, atol=1e-9)
    assert (projected**2).sum() == pytest.approx((W * (C - 31)), rel=0.15)


def test_projection_is_the_best_fit_of_gains_with_unequal_noise(disc):
    measured = disc.measurements(disc.light())
    sd = np.random.default_rng(2).uniform(0.01, 0.1, measured.sd.shape)
    active = np.random.default_rng(3).random(sd.shape) > 0.2
    space = data_space(replace(measured, sd=sd, active=active), "fibers")
    values = np.random.default_rng(4).standard_normal(sd.shape)
    s, d = measured.channels.T - 1
    for w in range(len(sd)):
        use = active[w]
        B = np.concatenate([np.eye(16)[s[use]], np.eye(16)[d[use]]], axis=1)
        fitted = np.linalg.lstsq(B / sd[w, use, None], values[w, use] / sd[w, use], rcond=None)[0]
        np.testing.assert_allclose(space.residual(values)[w, use], values[w, use] - B @ fitted, atol=1e-9)
        assert np.isnan(space.residual(values)[w, ~use]).all()


def test_global_offset_and_none(disc):
    measured = disc.measurements(disc.light())
    offset = np.array([[1.0], [2.0], [-3.0], [0.5]]) * np.ones(measured.active.shape)
    np.testing.assert_allclose(data_space(measured, "global").whiten(offset), 0.0, atol=1e-9)
    np.testing.assert_allclose(data_space(measured, "none").residual(offset), offset)
    with pytest.raises(InputError, match="Unknown gain treatment 'some'"):
        data_space(measured, "some")


def test_too_few_channels_for_gain_projection(disc):
    measured = disc.measurements(disc.light())
    one_source = replace(measured, active=measured.active & (measured.channels[:, 0] == 1))
    with pytest.raises(InputError, match="at most 0 data are left"):
        data_space(one_source, "fibers")


def test_log_ratio_cancels_gains(disc):
    light, phantom = disc.light(), disc.light(Tissue(14.0, 7.0, 0.25))
    gains = gains_for(disc.model.optodes.channels, 0.5, len(light))
    measured = disc.measurements(light + gains, noise=0.01)
    reference = disc.measurements(phantom + gains, noise=0.02, seed=9)
    calibrated = calibrate(measured, reference, phantom)
    residual = calibrated.log_amplitude - light
    assert residual.std() == pytest.approx(np.hypot(0.01, 0.02), rel=0.15)
    np.testing.assert_allclose(calibrated.sd, np.hypot(0.01, 0.02))


def test_channels_missing_in_the_reference_are_left_out_and_stated(disc):
    measured = disc.measurements(disc.light())
    reference = measured.without(np.arange(measured.active.size).reshape(measured.active.shape) < 7, "dark")
    calibrated = calibrate(measured, reference, disc.light())
    assert calibrated.active.sum() == measured.active.size - 7
    assert "7 values left out: the reference" in calibrated.remarks[-1]
    with pytest.raises(InputError, match="differ in wavelengths or channels"):
        calibrate(measured, reference.at_wavelengths([808]), disc.light())


def test_homogeneous_fit_finds_the_absorption_whatever_the_gain(disc):
    phantom = Tissue(18.0, 5.0, 0.35, 0.0, 1.1, 0.9)
    light = disc.model.measure(phantom.maps(len(disc.model.mesh.nodes)))
    reference = disc.measurements(light + 3.0, noise=0.005)
    musp = disc.spectra.musp(phantom.maps(1))[:, 0]
    fit = fit_homogeneous(reference, disc.model, musp)
    np.testing.assert_allclose(fit.mua, disc.spectra.mua(phantom.maps(1))[:, 0], rtol=0.01)
    np.testing.assert_allclose(fit.offset, 3.0, atol=0.02)
    np.testing.assert_allclose(fit.rms, 0.005, rtol=0.15)
    wrong = fit_homogeneous(reference, disc.model, 2 * musp)  # attenuation fixes the product: half the absorption
    np.testing.assert_allclose(wrong.mua, fit.mua / 2, rtol=0.15)


def test_homogeneous_fit_refuses_what_no_absorption_explains(disc):
    light = disc.light()
    musp = disc.spectra.musp(Tissue(0, 0, 0).maps(1))[:, 0]
    with pytest.raises(InputError, match="fits no absorption"):
        fit_homogeneous(disc.measurements(0 * light), disc.model, musp)
    with pytest.raises(InputError, match="one value of 0.1 to 10 1/mm"):
        fit_homogeneous(disc.measurements(light), disc.model, 10 * musp)


def test_slope_is_the_effective_attenuation_to_a_third(disc):
    tissue = Tissue(14.0, 7.0, 0.25)
    measured = disc.measurements(disc.model.measure(tissue.maps(len(disc.model.mesh.nodes))))
    slope = fit_slope(measured, disc.model.optodes.distances)
    mua, musp = (quantity(tissue.maps(1))[:, 0] for quantity in (disc.spectra.mua, disc.spectra.musp))
    np.testing.assert_allclose(-slope.slope, np.sqrt(3 * mua * (mua + musp)), rtol=0.35)


def test_wrong_numbering_and_wrong_units_are_found(disc):
    measured = disc.measurements(disc.light())
    check_distances(measured, disc.model.optodes)
    half_turn = replace(measured, log_amplitude=np.roll(measured.log_amplitude, 7, axis=1))
    with pytest.raises(InputError, match="does not fall with distance"):
        check_distances(half_turn, disc.model.optodes)
    centimeters = replace(
        disc.model.optodes, sources=disc.model.optodes.sources / 10, detectors=disc.model.optodes.detectors / 10
    )
    with pytest.raises(InputError, match="cm instead of mm"):
        check_distances(measured, centimeters)


def test_bulk_fit_finds_homogeneous_tissue(disc):
    tissue = Tissue(9.0, 11.0, 0.45)
    light = disc.model.measure(tissue.maps(len(disc.model.mesh.nodes)))
    measured = disc.measurements(light + gains_for(disc.model.optodes.channels, 0.3, len(light)), noise=0.01)
    bulk = fit_bulk(disc.model, measured.log_amplitude, data_space(measured, "fibers"))
    assert bulk.tissue.hbo == pytest.approx(9.0, rel=0.02)
    assert bulk.tissue.hbr == pytest.approx(11.0, rel=0.02)
    assert bulk.tissue.water == pytest.approx(0.45, rel=0.02)
    assert bulk.chi == pytest.approx(1.0, abs=0.1)
    for name, truth in (("hbo", 9.0), ("hbr", 11.0), ("water", 0.45)):
        assert abs(getattr(bulk.tissue, name) - truth) < 5 * bulk.sd[name]


def test_bulk_fit_refuses_what_is_no_tissue(disc):
    measured = disc.measurements(6 * disc.light())
    with pytest.raises(InputError, match="fit no tissue"):
        fit_bulk(disc.model, measured.log_amplitude, data_space(measured, "global"))
