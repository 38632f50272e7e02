"""Z-Net: an image from light and MRI at once, and the same network with one of the two left out.

Feng J et al., Optica 9:264 (2022), doi 10.1364/OPTICA.446576, equations (1) to (7). The paper gives no widths; those
here give its 3.48 million parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SEES = ("both", "light", "mri")
LEVELS = 4


class ZNet(nn.Module):
    """Return three images (B, 3, N, N) in standardized units from light (B, W, 16, 15) and MRI (B, 1, N, N).

    The light's matrix of sources and detectors is resized to an image of N / 16 pixels and unfolded to N; the MRI is
    folded to N / 16; at every size the two and what was fused before are joined. Sources run around the body, so the
    first convolutions are circular along them.

    Parameters
    ----------
    width : int
        Channels at full size; 16 is the published network, whose parameters grow with its square.
    wavelengths : int
    sees : str
        "both"; "light": without the MRI's half; "mri": without the light's half, a yardstick that knows nothing.

    Notes
    -----
    The last layer is linear, without the batch normalization (6 of the published 3,482,169 parameters) and rectifier
    of equation (7): outputs are standardized concentrations, half of them negative. Images of any size from 16 pixels
    work; 100 pixels become 50, 25, 12 and 6.
    """

    def __init__(self, width: int = 16, wavelengths: int = 9, sees: str = "both") -> None:
        super().__init__()
        self.sees = sees
        widths = [width * 2**level for level in range(LEVELS + 1)]
        deepest = widths[-1]
        parts = 2 if sees == "both" else 1
        if sees != "mri":
            self.resize = nn.Sequential(
                Conv(wavelengths, 7 * width, around=True), Conv(7 * width, deepest, around=True), nn.MaxPool2d(2)
            )
            self.unfold = nn.ModuleList(Up(c, c // 2) for c in reversed(widths[1:]))
        if sees != "light":
            self.mri = nn.Sequential(
                nn.Conv2d(1, width, 1), *normalized(width), nn.Conv2d(width, width, 1), *normalized(width)
            )
            self.fold = nn.ModuleList(nn.Sequential(Conv(c, 2 * c), Conv(2 * c, 2 * c)) for c in widths[:-1])
        fused = [deepest * parts, *(c * (parts + 2) for c in widths[-2:0:-1])]
        self.fuse = nn.ModuleList(Up(c, out) for c, out in zip(fused, [deepest, *widths[-2:0:-1]], strict=True))
        self.head = nn.Sequential(Conv(width * (parts + 2), width), nn.Conv2d(width, 3, 3, padding=1))

    def forward(self, light: Tensor, mri: Tensor) -> Tensor:
        """Return the images."""
        sizes = [mri.shape[-1] // 2**level for level in range(LEVELS + 1)]
        levels: list[list[Tensor]] = [[] for _ in sizes]
        if self.sees != "mri":
            x = functional.interpolate(self.resize(light), size=(sizes[-1],) * 2, mode="bilinear", align_corners=False)
            levels[-1].append(x)
            for level, up in zip(reversed(range(LEVELS)), self.unfold, strict=True):
                x = up(x, sizes[level])
                levels[level].append(x)
        if self.sees != "light":
            x = self.mri(mri)
            levels[0].append(x)
            for level, down in enumerate(self.fold, start=1):
                x = functional.max_pool2d(down(x), 2)
                levels[level].append(x)
        x = torch.cat(levels[-1], dim=1)
        for level, up in zip(reversed(range(LEVELS)), self.fuse, strict=True):
            x = torch.cat([*levels[level], up(x, sizes[level])], dim=1)
        return self.head(x)


class Conv(nn.Sequential):
    """3 x 3 convolution, batch normalization, rectifier; `around`: rows close to a ring."""

    def __init__(self, given: int, out: int, around: bool = False) -> None:
        pad: list[nn.Module] = [nn.CircularPad2d((0, 0, 1, 1)), nn.ZeroPad2d((1, 1, 0, 0))] if around else []
        super().__init__(*pad, nn.Conv2d(given, out, 3, padding=0 if around else 1), *normalized(out))


class Up(nn.Module):
    """Transposed 2 x 2 convolution to twice the size (or one more), then a convolution."""

    def __init__(self, given: int, out: int) -> None:
        super().__init__()
        self.transposed = nn.ConvTranspose2d(given, out, 2, stride=2)
        self.normalize = nn.Sequential(*normalized(out))
        self.conv = Conv(out, out)

    def forward(self, x: Tensor, size: int) -> Tensor:
        """Return x enlarged to `size` pixels."""
        larger = self.transposed(x, output_size=(size, size))
        return self.conv(self.normalize(larger))


def normalized(channels: int) -> tuple[nn.Module, nn.Module]:
    """Return batch normalization and rectifier."""
    return nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
