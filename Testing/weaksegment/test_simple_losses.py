"""Losses and propagation of SimPLe against values computed by hand, and the layout of the network."""

import math

import pytest
import torch
from WeakSegmentLib.losses import contrastive_loss, crf_loss, partial_cross_entropy
from WeakSegmentLib.propagation import propagate_labels, propagation_loss
from WeakSegmentLib.pseudo_mask import Label
from WeakSegmentLib.unet import UNet


def softplus(x):
    return math.log1p(math.exp(x))


def two_cubed(values):
    return torch.tensor(values).reshape(1, 2, 2, 2)


def test_partial_cross_entropy_ignores_unlabeled_voxels():
    labels = two_cubed([0, 1, 2, 2, 2, 2, 1, 2])
    tumor_minus_background = two_cubed([0.5, 2.0, 9.0, -9.0, 7.0, 3.0, -1.0, 4.0])
    logits = torch.stack([torch.zeros_like(tumor_minus_background), tumor_minus_background], dim=1).requires_grad_()
    loss = partial_cross_entropy(logits, labels)
    assert loss.item() == pytest.approx((softplus(0.5) + softplus(-2.0) + softplus(1.0)) / 3, rel=1e-6)
    loss.backward()
    reached = logits.grad.abs().sum(dim=1) > 0
    assert torch.equal(reached, labels != Label.UNLABELED)


def test_partial_cross_entropy_without_labels_is_zero():
    logits = torch.randn(1, 2, 2, 2, 2, requires_grad=True)
    loss = partial_cross_entropy(logits, torch.full((1, 2, 2, 2), int(Label.UNLABELED)))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_contrastive_loss_by_hand():
    tumor = torch.tensor([[2.0, 0.0], [1.0, math.sqrt(3)]])  # 60 degrees apart, lengths must not matter
    background = torch.tensor([[0.0, 5.0]])  # 90 and 30 degrees from them
    cosines = (0.5, 0.0, math.sqrt(3) / 2)
    by_hand = (softplus(-cosines[0] / 0.1) + softplus(cosines[1] / 0.1) + softplus(cosines[2] / 0.1)) / 3
    assert float(contrastive_loss(tumor, background, 0.1)) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("tumors, backgrounds", [(2, 1), (3, 2), (7, 100), (100, 100)])
def test_contrastive_loss_weighs_the_pairs_that_exist(tumors, backgrounds):
    tumor, background = torch.ones(tumors, 4), torch.ones(backgrounds, 4)  # all cosines are 1
    alike, unlike = tumors * (tumors - 1) // 2, tumors * backgrounds
    by_hand = (alike * softplus(-2.0) + unlike * softplus(2.0)) / (alike + unlike)
    assert float(contrastive_loss(tumor, background, 0.5)) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("tumors, backgrounds", [(0, 5), (1, 5), (5, 0), (0, 0)])
def test_contrastive_loss_without_pairs_is_zero(tumors, backgrounds):
    tumor = torch.ones(tumors, 4, requires_grad=True)
    loss = contrastive_loss(tumor, torch.ones(backgrounds, 4), 0.1)
    loss.backward()
    assert loss.item() == 0


def test_crf_loss_by_hand():
    """Two voxels of the eight exist along I only: one pair."""
    p, q = 0.9, 0.2
    logits = torch.zeros(1, 2, 1, 1, 2)
    logits[0, 1, 0, 0] = torch.tensor([math.log(p / (1 - p)), math.log(q / (1 - q))])
    image = torch.tensor([1.0, 1.6]).reshape(1, 1, 1, 1, 2)
    similarity = math.exp(-0.5 * (0.6 / 0.5) ** 2)  # the Gaussian of the distance cancels
    loss = crf_loss(logits, image, (1.0, 1.0, 2.0), 2, 2.0, 0.5)
    assert loss.item() == pytest.approx(similarity * (p + q - 2 * p * q) / 2, rel=1e-5)


def test_crf_loss_counts_each_pair_of_a_cube_once():
    """All 28 pairs of the 2x2x2 cube are neighbors; half tumor by checkerboard, equal intensities."""
    tumor = two_cubed([1, 0, 0, 1, 0, 1, 1, 0]).float()
    logits = torch.stack([-50 * tumor, 50 * tumor - 25], dim=1)
    loss = crf_loss(logits, torch.zeros(1, 1, 2, 2, 2), (1.0, 1.0, 1.0), 1, 1.0, 1.0)
    edge, diagonal, corner = (math.exp(-0.5 * n) for n in (1, 2, 3))
    unlike = 12 * edge + 4 * corner  # checkerboard: edges and space diagonals differ, face diagonals do not
    offsets = 3 * edge + 6 * diagonal + 4 * corner
    assert loss.item() == pytest.approx(unlike / 8 / offsets, rel=1e-5)


def test_crf_loss_prefers_borders_at_edges():
    image = torch.zeros(1, 1, 4, 4, 4)
    image[..., 2:] = 3.0
    right = torch.zeros(1, 2, 4, 4, 4)
    right[:, 1, ..., 2:], right[:, 0, ..., :2] = 20.0, 20.0
    wrong = right.transpose(-1, -2)
    arguments = ((1.0, 1.0, 1.0), 2, 2.0, 0.5)
    assert float(crf_loss(right, image, *arguments)) < 0.1 * float(crf_loss(wrong.contiguous(), image, *arguments))


def test_votes_by_hand():
    tumor = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [1.0, -0.1]])
    unlabeled = torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, 2.0], [-1.0, 0.0]])
    vote = propagate_labels(tumor, unlabeled, agreement_above=0.7, similarity_above=0.9)
    assert vote.chosen.tolist() == [True, False, False, False]  # 3 of 4, 0, 1 and 0 votes
    assert vote.share == 0.25
    fewer = propagate_labels(tumor, unlabeled, agreement_above=0.2, similarity_above=0.9)
    assert fewer.chosen.tolist() == [True, False, True, False]
    none = propagate_labels(tumor, unlabeled, agreement_above=0.75, similarity_above=0.9)
    assert not none.chosen.any()  # more than alpha, not alpha
    assert none.share == 0


def test_lambda_is_a_quantile_of_the_pairs_of_tumor_voxels():
    angles = torch.deg2rad(torch.tensor([0.0, 10.0, 30.0, 70.0]))
    tumor = torch.stack([angles.cos(), angles.sin()], dim=1)
    pairs = torch.deg2rad(torch.tensor([10.0, 30.0, 70.0, 20.0, 60.0, 40.0])).cos()
    for quantile in (0.1, 0.5):
        vote = propagate_labels(tumor, tumor, 0.5, similarity_quantile=quantile)
        assert vote.similarity_above == pytest.approx(float(torch.quantile(pairs, quantile)), abs=1e-6)


@pytest.mark.parametrize("tumors, unlabeled", [(0, 5), (1, 5), (5, 0), (0, 0)])
def test_nobody_votes(tumors, unlabeled):
    vote = propagate_labels(torch.ones(tumors, 3), torch.ones(unlabeled, 3), 0.5)
    assert vote.chosen.shape == (unlabeled,)
    assert not vote.chosen.any()
    assert (vote.share, vote.similarity_above) == (0, None)


def test_many_voxels_vote_as_few_do():
    generator = torch.Generator().manual_seed(3)
    tumor = torch.randn(50, 4, generator=generator) + torch.tensor([2.0, 0, 0, 0])
    unlabeled = torch.randn(70_000, 4, generator=generator)
    vote = propagate_labels(tumor, unlabeled, 0.5)
    tail = propagate_labels(tumor, unlabeled[-100:], 0.5)
    assert torch.equal(vote.chosen[-100:], tail.chosen)
    assert 0 < vote.share < 0.6


def test_propagation_loss():
    logits = torch.tensor([[0.0, 2.0], [1.0, 0.5]])
    assert float(propagation_loss(logits)) == pytest.approx((softplus(-2.0) + softplus(0.5)) / 2, rel=1e-6)
    empty = torch.zeros(3, 2, requires_grad=True)
    loss = propagation_loss(empty[torch.zeros(3, dtype=torch.bool)])
    loss.backward()
    assert loss.item() == 0
    assert not empty.grad.any()


def test_the_published_network_has_5_64_million_parameters():
    network = UNet()
    assert sum(parameter.numel() for parameter in network.parameters()) == 5_642_736
    kernels = [module.kernel_size for module in network.down[0] if hasattr(module, "kernel_size")]
    assert kernels == [(1, 3, 3), (1, 3, 3)]
    assert network.last.weight.shape == (2, 16, 1, 1, 1)
    assert network.last.bias is None


def test_a_small_network_keeps_the_shape_and_offers_features():
    network = UNet(channels=2, width=4, levels=3)
    output = network(torch.randn(2, 2, 8, 12, 16))
    assert output.logits.shape == (2, 2, 8, 12, 16)
    assert output.features.shape == (2, 4, 8, 12, 16)
    torch.testing.assert_close(output.logits, network.last(output.features))


def test_a_network_overfits_one_batch():
    torch.manual_seed(0)
    network = UNet(width=4, levels=2)
    image = torch.randn(1, 1, 8, 8, 8)
    labels = (image[:, 0] > 0.3).long()
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
    for _ in range(40):
        loss = partial_cross_entropy(network(image).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
