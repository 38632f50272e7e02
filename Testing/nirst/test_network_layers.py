"""The networks: published sizes, any image size, rings that close, and halves that are really left out."""

from __future__ import annotations

import pytest
import torch
from NIRSTReconstructionLib.hybrid import CHANNELS, HybridNet, hybrid_loss, scaled_mri
from NIRSTReconstructionLib.ynet import YNet
from NIRSTReconstructionLib.znet import Conv, ZNet


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_published_sizes():
    last_normalization = 6  # of equation (7), which our linear last layer does not have
    assert count(ZNet()) + last_normalization == 3_482_169
    assert count(YNet()) == 6_104_819
    assert count(ZNet(8)) < count(ZNet()) / 3.9


@pytest.mark.parametrize("pixels", [100, 48])
def test_shapes(pixels):
    light, mri = torch.rand(2, 9, 16, 15), torch.rand(2, 1, pixels, pixels)
    for network in (ZNet(2), ZNet(2, sees="light"), ZNet(2, sees="mri"), YNet(2)):
        assert network(light, mri).shape == (2, 3, pixels, pixels)
    images, log_sd = HybridNet(2)(torch.rand(2, CHANNELS, pixels, pixels + 13))
    assert images.shape == log_sd.shape == (2, 3, pixels, pixels + 13)


def test_wavelengths_other_than_nine():
    assert ZNet(2, wavelengths=4)(torch.rand(2, 4, 16, 15), torch.rand(2, 1, 48, 48)).shape == (2, 3, 48, 48)


def test_rows_close_to_a_ring():
    torch.manual_seed(0)
    layer, x = Conv(3, 5, around=True).eval(), torch.rand(1, 3, 16, 15)
    with torch.no_grad():
        torch.testing.assert_close(layer(x.roll(5, dims=2)), layer(x).roll(5, dims=2))
        assert not torch.allclose(layer(x.roll(5, dims=3)), layer(x).roll(5, dims=3))


def test_what_is_left_out_changes_nothing():
    torch.manual_seed(0)
    light, mri = torch.rand(2, 9, 16, 15), torch.rand(2, 1, 48, 48)
    for sees, other in (("light", (light, mri.flip(0))), ("mri", (light.flip(0), mri))):
        network = ZNet(2, sees=sees).eval()
        with torch.no_grad():
            assert torch.equal(network(light, mri), network(*other))


def test_the_hybrid_begins_with_the_guided_image():
    x = torch.rand(2, CHANNELS, 20, 24)
    network = HybridNet(4)
    images, log_sd = network(x)
    assert torch.equal(images, x[:, 9:12])
    assert torch.equal(log_sd, torch.full_like(log_sd, -3.0))
    torch.nn.init.ones_(network.head.bias)  # as if it had learned something
    x[1, 12] = 0.0  # no doubt
    images = network(x)[0]
    assert not torch.allclose(images[0], x[0, 9:12], atol=0.1)
    assert torch.equal(images[1], x[1, 9:12])


def test_the_deviation_learns_the_error_and_leaves_the_image_alone():
    body = torch.ones(8, 8, dtype=torch.bool)
    relative = torch.zeros(4, 3, 8, 8, requires_grad=True)
    log_sd = torch.zeros(4, 3, 8, 8, requires_grad=True)
    truth = 0.2 * torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    bulk, lesion = torch.tensor([[10.0, 5.0, 0.3]] * 4), torch.zeros(4, 8, 8, dtype=torch.bool)
    loss, mse = hybrid_loss(relative, log_sd, bulk, truth, lesion, body, 3.0)
    scaled = truth * torch.tensor([10 / 5, 5 / 2.5, 30 / 9])[:, None, None]
    torch.testing.assert_close(mse, scaled.square().mean())
    loss.backward()
    torch.testing.assert_close(relative.grad, -2 * scaled * (scaled / truth) / truth.numel())
    assert (log_sd.grad > 0).float().mean() > 0.99  # a deviation of 1 is too large for errors of 0.2


def test_mri_scaling_knows_no_units_and_no_constant():
    body = torch.zeros(20, 30, dtype=torch.bool)
    body[4:16, 5:25] = True
    gray = 50 + 2 * torch.randn(2, 20, 30, generator=torch.Generator().manual_seed(0))
    gray[:, 8:10, 8:10] = 80
    scaled = scaled_mri(gray, body)
    torch.testing.assert_close(scaled, scaled_mri(1000 * gray + 5, body), atol=1e-4, rtol=1e-4)
    assert (scaled[:, ~body] == 0).all()
    assert 1.0 < scaled[0, 9, 9] <= 3.0
    assert torch.equal(scaled_mri(torch.full((1, 20, 30), 7.0), body), torch.zeros(1, 20, 30))
