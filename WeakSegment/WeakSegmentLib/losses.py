"""The losses of weakly supervised training: each a pure function of tensors.

Zhong and Wang, SimPLe, MICCAI 2023, doi 10.1007/978-3-031-43901-8_54, and its baseline.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from WeakSegmentLib.pseudo_mask import Label


def partial_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross entropy over the labeled voxels; zero if there are none.

    Parameters
    ----------
    logits : (B, 2, K, J, I) Tensor
    labels : (B, K, J, I) Tensor of int64
        `Label` values; unlabeled voxels do not count.
    """
    labeled = labels != Label.UNLABELED
    losses = functional.cross_entropy(logits.float(), labels, ignore_index=int(Label.UNLABELED), reduction="none")
    return losses.sum() / labeled.sum().clamp(min=1)


def contrastive_loss(tumor: Tensor, background: Tensor, temperature: float) -> Tensor:
    """Return how far tumor features are from being like each other and unlike background; zero below two tumor voxels.

    Parameters
    ----------
    tumor, background : (P, C) and (N, C) Tensor
        Features of voxels labeled so; any numbers of them.
    temperature : float

    Notes
    -----
    With s_ij = sigmoid(cos(f_i, f_j) / temperature), the mean of -log s_ij over the P (P - 1) / 2 pairs of tumor voxels
    and of -log(1 - s_ij) over the P N pairs of tumor with background, all pairs weighing the same. Pairs of background
    voxels, which the paper's formula has, are left out, as in the authors' experiments: background is many tissues.
    """
    if len(tumor) < 2 or len(background) < 1:
        return tumor.sum() * 0
    tumor, background = (functional.normalize(features.float(), dim=1) for features in (tumor, background))
    first, second = torch.triu_indices(len(tumor), len(tumor), offset=1, device=tumor.device)
    alike = (tumor @ tumor.T)[first, second] / temperature
    unlike = (tumor @ background.T).flatten() / temperature
    total = functional.softplus(-alike).sum() + functional.softplus(unlike).sum()
    return total / (alike.numel() + unlike.numel())


def crf_loss(
    logits: Tensor,
    image: Tensor,
    spacing_mm: tuple[float, float, float],
    radius: int,
    sigma_mm: float,
    sigma_intensity: float,
) -> Tensor:
    """Return how often near voxels of like intensity get unlike classes: the regularized loss of the baseline.

    Parameters
    ----------
    logits : (B, 2, K, J, I) Tensor
    image : (B, C, K, J, I) Tensor
        Normalized intensities.
    spacing_mm : tuple of 3 float, mm
    radius : int
        Neighbors up to this many voxels away along each axis are compared.
    sigma_mm, sigma_intensity : float
        Widths of the two Gaussians.

    Notes
    -----
    The mean over voxels i of sum_j w_ij (p_i (1 - p_j) + p_j (1 - p_i)) / sum_j k_ij over the neighbor pairs, with p
    the tumor probability, k_ij = exp(-|x_i - x_j|^2 / (2 sigma_mm^2)) and
    w_ij = k_ij exp(-|I_i - I_j|^2 / (2 sigma_intensity^2)): the relaxed Potts energy of a dense CRF (Tang et al., ECCV
    2018, doi 10.1007/978-3-030-01270-0_31), cut off at a radius as in Obukhov et al. (2019, arXiv:1906.04651).
    """
    tumor = torch.softmax(logits.float(), dim=1)[:, 1]
    energy = tumor.sum() * 0
    weight = 0.0
    for offset in product(range(-radius, radius + 1), repeat=3):
        if offset <= (0, 0, 0) or any(abs(step) >= size for step, size in zip(offset, tumor.shape[1:], strict=True)):
            continue  # each pair once
        here = tuple(slice(max(0, -step), min(0, -step) or None) for step in offset)
        there = tuple(slice(max(0, step), min(0, step) or None) for step in offset)
        near = sum((step * size / sigma_mm) ** 2 for step, size in zip(offset, spacing_mm, strict=True))
        unlike = (image[(..., *here)].float() - image[(..., *there)].float()).square().sum(dim=1)
        similarity = torch.exp(-0.5 * (near + unlike / sigma_intensity**2))
        p, q = tumor[(..., *here)], tumor[(..., *there)]
        energy = energy + (similarity * (p + q - 2 * p * q)).sum() / tumor.numel()
        weight += float(torch.exp(torch.tensor(-0.5 * near)))
    return energy / weight
