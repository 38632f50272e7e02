"""The 3-D U-Net: voxels to two class scores and the features they are made from."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

LEAK = 0.01


class Output(NamedTuple):
    """What the network says of each voxel of a batch of B patches.

    Attributes
    ----------
    logits : (B, 2, K, J, I) Tensor
        Scores of background and tumor, before the softmax.
    features : (B, width, K, J, I) Tensor
        The tensor that the last convolution turns into logits; similar voxels have similar features.
    """

    logits: Tensor
    features: Tensor


class UNet(nn.Module):
    """The network of Zhong and Wang (MICCAI 2023): 5.64 million parameters with the default width and levels.

    Two convolutions per level, each followed by a leaky rectifier and an instance normalization; strided convolutions
    down, transposed ones up, skips concatenated. The first level's kernels on the way down do not reach across slices.

    Parameters
    ----------
    channels : int
        Image channels.
    width : int
        Features of the first level; each level has twice as many as the one above it.
    levels : int
        Each but the first halves the resolution, so patch sides are multiples of 2^(levels - 1).
    """

    def __init__(self, channels: int = 1, width: int = 16, levels: int = 5) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels)]
        self.down = nn.ModuleList([_convolutions(channels, width, (1, 3, 3))])
        for above, below in zip(widths, widths[1:], strict=False):
            self.down.append(_convolutions(above, below, (3, 3, 3), stride=2))
        self.widen = nn.ModuleList()
        self.up = nn.ModuleList()
        for above, below in reversed(list(zip(widths, widths[1:], strict=False))):
            self.widen.append(nn.ConvTranspose3d(below, above, 2, stride=2, bias=False))
            self.up.append(_convolutions(2 * above, above, (3, 3, 3)))
        self.last = nn.Conv3d(width, 2, 1, bias=False)
        for module in self.modules():
            if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
                nn.init.kaiming_normal_(module.weight, a=LEAK)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> Output:
        """Return logits and features of a (B, channels, K, J, I) batch."""
        skips = []
        x = image
        for down in self.down:
            x = down(x)
            skips.append(x)
        skips.pop()
        for widen, up in zip(self.widen, self.up, strict=True):
            x = up(torch.cat([skips.pop(), widen(x)], dim=1))
        return Output(self.last(x), x)


def _convolutions(before: int, after: int, kernel: tuple[int, int, int], stride: int = 1) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    layers: list[nn.Module] = []
    for channels, step in ((before, stride), (after, 1)):
        layers += [
            nn.Conv3d(channels, after, kernel, stride=step, padding=padding),
            nn.LeakyReLU(LEAK, inplace=True),
            nn.InstanceNorm3d(after, affine=True),
        ]
    return nn.Sequential(*layers)
