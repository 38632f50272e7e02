"""Y-Net: two U-Net encoders, one for the light and one for the MRI, and a decoder that sees the skips of both.

After Lan H et al., Photoacoustics 20:100197 (2020), doi 10.1016/j.pacs.2020.100197, with the widths that give the 6.09
million parameters which Feng J et al., Optica 9:264 (2022), doi 10.1364/OPTICA.446576, report for it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from NIRSTReconstructionLib.znet import LEVELS, Conv


class YNet(nn.Module):
    """Return three images (B, 3, N, N) in standardized units from light (B, W, 16, 15) and MRI (B, 1, N, N).

    Parameters
    ----------
    width : int
        Channels of the last layer but one; 16 is the published network of 6,104,819 parameters.
    wavelengths : int

    Notes
    -----
    The light's matrix is folded to 1 x 1 (16 x 15, 8 x 8, 4 x 4, 2 x 2), its skips are resized to the MRI's.
    """

    def __init__(self, width: int = 16, wavelengths: int = 9) -> None:
        super().__init__()
        widths = [2 * width * 2**level for level in range(LEVELS)]
        self.light, self.mri = _encoder(wavelengths, widths, around=True), _encoder(1, widths)
        self.light_bottom = Conv(widths[-1], widths[-1])
        self.mri_bottom = nn.Sequential(Conv(widths[-1], widths[-1]), Conv(widths[-1], widths[-1]))
        given = [2 * widths[-1], *(c // 2 for c in reversed(widths[1:]))]
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose2d(a, c, 2, stride=2) for a, c in zip(given, reversed(widths), strict=True)
        )
        self.decoder = nn.ModuleList(nn.Sequential(Conv(3 * c, c // 2), Conv(c // 2, c // 2)) for c in reversed(widths))
        self.head = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, light: Tensor, mri: Tensor) -> Tensor:
        """Return the images."""
        from_light, light_skips = _encoded(self.light, light, keep_odd=True)
        from_mri, mri_skips = _encoded(self.mri, mri)
        from_mri = self.mri_bottom(from_mri)
        x = torch.cat([_resized(self.light_bottom(from_light), from_mri), from_mri], dim=1)
        skips = zip(reversed(light_skips), reversed(mri_skips), strict=True)
        for enlarge, decode, (of_light, of_mri) in zip(self.enlarge, self.decoder, skips, strict=True):
            larger = enlarge(x, output_size=of_mri.shape[-2:])
            x = decode(torch.cat([larger, _resized(of_light, of_mri), of_mri], dim=1))
        return self.head(x)


def _encoder(given: int, widths: list[int], around: bool = False) -> nn.ModuleList:
    return nn.ModuleList(
        nn.Sequential(Conv(a, c, around), Conv(c, c, around))
        for a, c in zip([given, *widths[:-1]], widths, strict=True)
    )


def _encoded(encoder: nn.ModuleList, x: Tensor, keep_odd: bool = False) -> tuple[Tensor, list[Tensor]]:
    """Return what remains after all levels, and the output of each level before pooling.

    `keep_odd`: an odd last row or column is pooled by itself instead of left out.
    """
    skips = []
    for level in encoder:
        skips.append(level(x))
        x = functional.max_pool2d(skips[-1], 2, ceil_mode=keep_odd)
    return x, skips


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
