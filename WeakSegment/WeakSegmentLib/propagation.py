"""The similarity-aware step of SimPLe: which unlabeled voxels resemble the tumor voxels enough to be taken for tumor.

Zhong and Wang, MICCAI 2023, doi 10.1007/978-3-031-43901-8_54.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

_CHUNK = 65_536


class Vote(NamedTuple):
    """What the tumor voxels say of the unlabeled ones.

    Attributes
    ----------
    chosen : (U,) Tensor of bool
        Unlabeled voxels taken for tumor.
    similarity_above : float or None
        The cosine that was asked for; None if there was nothing to take a quantile of.
    share : float
        Share of the unlabeled voxels that were chosen; 0 if there are none.
    """

    chosen: Tensor
    similarity_above: float | None
    share: float


def propagate_labels(
    tumor: Tensor,
    unlabeled: Tensor,
    agreement_above: float,
    similarity_above: float | None = None,
    similarity_quantile: float = 0.1,
) -> Vote:
    """Return the vote of tumor voxels on unlabeled ones.

    Parameters
    ----------
    tumor : (P, C) Tensor
        Features of voxels labeled tumor.
    unlabeled : (U, C) Tensor
        Features of unlabeled voxels.
    agreement_above : float
        Alpha: a voxel is chosen if more than this share of the tumor voxels vote for it.
    similarity_above : float, optional
        Lambda: a tumor voxel votes for a voxel if the cosine of their features is greater; 0.96 in the paper.
    similarity_quantile : float
        Where lambda is not given, it is this quantile of the cosines among the tumor voxels themselves, so that it
        follows how compact the features have become. A tumor voxel in the middle of the others then gets
        1 - quantile of their votes.

    Notes
    -----
    No gradient flows through the vote. Fewer than two tumor voxels choose nothing.
    """
    nothing = torch.zeros(len(unlabeled), dtype=torch.bool, device=unlabeled.device)
    if len(tumor) < 2 or len(unlabeled) == 0:
        return Vote(nothing, similarity_above, 0.0)
    with torch.no_grad():
        tumor = functional.normalize(tumor.detach().float(), dim=1)
        if similarity_above is None:
            first, second = torch.triu_indices(len(tumor), len(tumor), offset=1, device=tumor.device)
            similarity_above = float(torch.quantile((tumor @ tumor.T)[first, second], similarity_quantile))
        chosen = nothing
        for start in range(0, len(unlabeled), _CHUNK):
            part = functional.normalize(unlabeled[start : start + _CHUNK].detach().float(), dim=1)
            agreement = (part @ tumor.T > similarity_above).float().mean(dim=1)
            chosen[start : start + _CHUNK] = agreement > agreement_above
    return Vote(chosen, similarity_above, float(chosen.float().mean()))


def propagation_loss(logits: Tensor) -> Tensor:
    """Return the mean cross entropy of the chosen voxels with tumor; zero if none was chosen.

    Parameters
    ----------
    logits : (V, 2) Tensor
        Of the chosen voxels.
    """
    return functional.softplus(logits[:, 0].float() - logits[:, 1].float()).sum() / max(1, len(logits))
