"""What networks learn from: looks equal for equal seeds, true to the physics when turned, as wide as asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from BreastBiomarkersLib.errors import InputError
from NIRSTReconstructionLib.dataset import DatasetSettings, generate_dataset
from NIRSTReconstructionLib.network_data import (
    as_matrix,
    concentrations,
    inclusion_masks,
    look,
    model_of,
    pixel_grid,
    read_phantom_set,
    reference_light,
    standardized,
)
from NIRSTReconstructionLib.network_settings import (
    PRESETS,
    WIDE_VARIATION,
    NetworkSettings,
    Variation,
    settings_from_json,
    small,
)

RING = DatasetSettings(count=12, seed=4, wavelengths_nm=(661.0, 808.0, 948.0), element_size_mm=5.0, shard_size=5)
QUIET = Variation(noise=(0.0, 0.0), mri_noise=(0.0, 0.0))


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ring") / "set"
    generate_dataset(folder, RING)
    return read_phantom_set(folder)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_truth_is_the_phantom(ring):
    looks = look(ring, 50, QUIET, seeded())
    points, body = pixel_grid(RING, 50)
    for n in range(len(ring)):
        values = RING.phantom(n).values(points.reshape(-1, 2))[:3].reshape(3, 50, 50) * [[[1]], [[1]], [[100]]]
        np.testing.assert_allclose(concentrations(looks.truth)[n].numpy()[:, body], values[:, body], rtol=2e-6)
        assert (looks.truth[n].numpy()[:, ~body] == 0).all()
    torch.testing.assert_close(standardized(concentrations(looks.truth)), looks.truth, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(looks.log_ratio.numpy(), ring.log_amplitude.numpy() - reference_light(RING), atol=2e-6)


def test_equal_seeds_give_equal_looks(ring):
    first, again, other = (look(ring, 32, WIDE_VARIATION, seeded(seed)) for seed in (1, 1, 2))
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.log_ratio, other.log_ratio)
    assert not torch.equal(first.mri, other.mri)


def test_turned_and_mirrored_light_belongs_to_the_turned_phantom(tmp_path):
    settings = replace(RING, count=6, inclusion_count=1)
    generate_dataset(tmp_path / "set", settings)
    phantoms = read_phantom_set(tmp_path / "set")
    looks = look(phantoms, 100, replace(QUIET, rotate=True), seeded(3))
    model, centers = model_of(settings), pixel_grid(settings, 100)[0]
    for n in range(6):
        phantom, shown = settings.phantom(n), (looks.mri[n] == 80).numpy()
        inclusion = replace(phantom.inclusions[0], center_mm=tuple(centers[shown].mean(axis=0)), in_mri=True)
        turned = replace(phantom, inclusions=(inclusion,))
        exact = model.measure(turned.values(model.mesh.quadrature.points), at_quadrature=True)
        off = exact - (looks.log_ratio[n].numpy() + reference_light(settings))
        if np.linalg.norm(np.subtract(inclusion.center_mm, phantom.inclusions[0].center_mm)) > 10:
            assert off.std() < 0.25 * (exact - phantoms.log_amplitude[n].numpy()).std()
        assert off.std() < 0.06  # of this coarse mesh, on which not all fibers are alike


def test_rows_are_sources_and_columns_detectors_counted_from_them():
    channels = model_of(RING).optodes.channels
    source, detector = (as_matrix(torch.as_tensor(row)[None, None])[0, 0] for row in channels.T)
    s, j = np.mgrid[:16, :15]
    np.testing.assert_array_equal(source, s)
    np.testing.assert_array_equal(detector, (s + j + 1) % 16)


def test_noise_gains_and_lost_fibers_are_as_large_as_asked(ring):
    still = look(ring, 16, QUIET, seeded())
    noisy = look(ring, 16, replace(QUIET, noise=(0.03, 0.03)), seeded())
    assert (noisy.log_ratio - still.log_ratio).std().item() == pytest.approx(0.03, rel=0.05)
    assert noisy.noise.unique().tolist() == pytest.approx([0.03])

    gains = (look(ring, 16, replace(QUIET, gain_sd=(0.2, 0.2)), seeded()).log_ratio - still.log_ratio)[0, 0].numpy()
    assert gains.std() == pytest.approx(0.2 * np.sqrt(2), rel=0.4)
    source, detector = model_of(RING).optodes.channels.T
    columns = np.hstack([np.eye(16)[source], np.eye(16)[detector]])
    rest = gains - columns @ np.linalg.lstsq(columns, gains, rcond=None)[0]
    assert np.abs(rest).max() < 1e-5  # one factor per source and one per detector, and nothing else

    active = look(ring, 16, replace(QUIET, fibers_lost=(0.5, 0.5)), seeded()).active
    works = active[:, 0].float().sum(dim=1)
    assert set(works.tolist()) == {240.0, 56.0}
    assert torch.equal(active[:, 0], active[:, 2])


def test_the_mri_moves_blurs_and_brightens(ring):
    still = look(ring, 100, QUIET, seeded()).mri
    assert set(still.unique().tolist()) == {0.0, 50.0, 80.0}
    shifted = look(ring, 100, replace(QUIET, mri_shift_mm=(5.0, 5.0)), seeded()).mri
    points = torch.as_tensor(pixel_grid(RING, 100)[0])
    for a, b in zip(still, shifted, strict=True):
        moved = points[b == 80].mean(dim=0) - points[a == 80].mean(dim=0)
        if (b == 80).sum() == (a == 80).sum():  # not cut by the rim
            assert moved.norm().item() == pytest.approx(5.0, abs=0.3)
    blurred = look(ring, 100, replace(QUIET, mri_blur_mm=(2.0, 2.0)), seeded()).mri
    inner = torch.as_tensor((pixel_grid(RING, 100)[0] ** 2).sum(-1) < 34**2)
    assert blurred[:, inner].max() <= 80.01
    assert len(blurred[0, inner].unique()) > 50
    assert look(ring, 100, replace(QUIET, mri_contrast=(3.0, 3.0)), seeded()).mri.max() == 140


def test_mismatches(tmp_path):
    for name in ("no_contrast", "mri_invisible"):
        generate_dataset(tmp_path / name, replace(RING, count=3, **{name: 1.0}))
    flat = look(read_phantom_set(tmp_path / "no_contrast"), 48, QUIET, seeded())
    unseen = look(read_phantom_set(tmp_path / "mri_invisible"), 48, QUIET, seeded())
    for n in range(3):
        assert len(flat.truth[n, 0].unique()) == 2  # background and outside
        assert flat.mri[n].max() == 80
        assert unseen.mri[n].max() == 50
        assert len(unseen.truth[n, 0].unique()) > 2
        assert flat.lesion[n].any()
        assert unseen.lesion[n].any()


def test_other_bodies_get_pixels_of_the_same_size():
    ellipse = replace(RING, half_axes_mm=(36.0, 46.0))
    points, body = pixel_grid(ellipse, 100)
    assert points.shape == (113, 88, 2)
    np.testing.assert_allclose(np.diff(points[0, :, 0]), 0.82)
    np.testing.assert_allclose(points.mean(axis=(0, 1)), 0, atol=1e-12)
    assert body.sum() * 0.82**2 == pytest.approx(np.pi * 36 * 46, rel=0.01)


def test_inclusion_masks_are_where_the_light_has_them(ring):
    points, body = pixel_grid(RING, 48)
    for n, masks in enumerate(inclusion_masks(ring, 48).numpy()):
        labels = RING.phantom(n).labels(points.reshape(-1, 2)).reshape(body.shape) * body
        assert masks.shape == (4, 48, 48)
        for k in range(4):
            np.testing.assert_array_equal(masks[k], labels == k + 1)


def test_a_part_of_a_set(tmp_path):
    generate_dataset(tmp_path / "set", RING)
    whole, part = read_phantom_set(tmp_path / "set"), read_phantom_set(tmp_path / "set", count=7)
    assert len(part) == 7
    assert torch.equal(part.place, whole.place[:7])
    (tmp_path / "set" / "shard_00001.npz").unlink()
    assert len(read_phantom_set(tmp_path / "set", count=5)) == 5
    with pytest.raises(InputError, match="missing"):
        read_phantom_set(tmp_path / "set", count=7)


def test_settings_survive_json_and_refuse_nonsense():
    import json
    from dataclasses import asdict

    for settings in (*PRESETS.values(), small(PRESETS["znet"])):
        assert settings_from_json(json.loads(json.dumps(asdict(settings)))) == settings
    for change, words in (
        ({"network": "alexnet"}, "no network"),
        ({"epochs": 0}, "epochs is 0"),
        ({"width": 2.5}, "whole number"),
        ({"learning_rate": 3.0}, "between 0 and 1"),
    ):
        with pytest.raises(InputError, match=words):
            NetworkSettings(**change)
    with pytest.raises(InputError, match="noise is 2 to 3"):
        Variation(noise=(2.0, 3.0))
    damaged = asdict(NetworkSettings())
    for name in ("variation", "physics", "seed"):
        with pytest.raises(InputError, match="another version"):
            settings_from_json({key: value for key, value in damaged.items() if key != name})
