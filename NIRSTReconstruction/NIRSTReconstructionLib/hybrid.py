"""The hybrid network: images that physics made of the light, refined in image space beside the MRI.

A network that reads raw data has learned one ring of fibers on one disc. This one reads images that physics makes
(`one_step`), which any outline, layout and set of wavelengths can give, and its inputs and outputs are shares of the
fitted bulk, so that it knows no concentration by heart. What the light says without the MRI stands beside what it says
with the MRI's regions: the network can see where they disagree. Where the regions alone explain the light there is
nothing to refine, and the network is kept from changing them.
"""

from __future__ import annotations

import torch
from BreastBiomarkersLib.errors import InputError
from torch import Tensor, nn
from torch.nn import functional

from NIRSTReconstructionLib.network_settings import OUTPUT_SCALE
from NIRSTReconstructionLib.one_step import StepImages
from NIRSTReconstructionLib.znet import Conv

LEVELS = 3
CHANNELS = 15
"""Light-only image, its standard deviation, regions and guided image of HbO, HbR and water; doubt; MRI; body."""
DOUBT = 12
"""Which of them is the doubt that the regions alone explain the light."""


class HybridNet(nn.Module):
    """Return the relative images (B, 3, Y, X) and ln of their standard deviation (B, 3, Y, X) from (B, 15, Y, X).

    Parameters
    ----------
    width : int
        Channels at full size.

    Notes
    -----
    A U-Net of four sizes whose output, times the doubt that the regions explain the light, is added to the guided
    image: it begins with what physics gives. Images of any size from 16 pixels work.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS + 1)]
        self.first = nn.Sequential(Conv(CHANNELS, width), Conv(width, width))
        self.down = nn.ModuleList(nn.Sequential(Conv(c, 2 * c), Conv(2 * c, 2 * c)) for c in widths[:-1])
        self.up = nn.ModuleList(nn.Sequential(Conv(3 * c, c), Conv(c, c)) for c in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, 6, 1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images and ln of their standard deviation."""
        x = self.first(images)
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(functional.max_pool2d(x, 2))
        for up, skip in zip(self.up, reversed(skips), strict=True):
            larger = functional.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = up(torch.cat([larger, skip], dim=1))
        change, log_sd = self.head(x).chunk(2, dim=1)
        return images[:, DOUBT - 3 : DOUBT] + images[:, DOUBT : DOUBT + 1] * change, log_sd - 3.0


def hybrid_input(step: StepImages, mri: Tensor, body: Tensor) -> Tensor:
    """Return the network's input (n, 15, Y, X).

    Parameters
    ----------
    step : StepImages
    mri : (n, Y, X) Tensor
        Gray values; they are scaled by `scaled_mri`.
    body : (Y, X) Tensor of bool
    """
    gray = scaled_mri(mri, body).to(step.light)
    mask = body.to(step.light).expand(len(gray), 1, -1, -1)
    doubt = step.doubt[:, None, None, None] * mask
    return torch.cat([step.light, step.light_sd, step.regions, step.guided, doubt, gray[:, None], mask], dim=1)


def scaled_mri(mri: Tensor, body: Tensor) -> Tensor:
    """Return gray values (n, Y, X) less their median, divided by ten robust standard deviations; 0 outside the body.

    Limited to -3 .. 3: a lesion's brightness says where it is, not what it is made of.

    Raises
    ------
    InputError
        If a value in the body is not finite.
    """
    inside = mri[:, body].float()
    if not bool(torch.isfinite(inside).all()):
        raise InputError("The MRI has gray values that are not numbers inside the body. Repair or mask the image.")
    median = inside.median(dim=1, keepdim=True).values
    spread = 1.4826 * (inside - median).abs().median(dim=1, keepdim=True).values
    largest = (inside - median).abs().amax(dim=1, keepdim=True)
    scale = torch.where(spread > 1e-6 * largest, 10 * spread, largest).clamp(min=1e-30)
    result = torch.zeros(mri.shape, dtype=torch.float32, device=mri.device)
    result[:, body] = ((inside - median) / scale).clamp(-3, 3)
    return result


def hybrid_loss(
    relative: Tensor, log_sd: Tensor, bulk: Tensor, truth: Tensor, lesion: Tensor, body: Tensor, lesion_weight: float
) -> tuple[Tensor, Tensor]:
    """Return the loss to descend, and the plain mean squared error in standardized units.

    The loss is the squared error of the concentrations in standardized units, lesion pixels counted `lesion_weight`
    times, plus the negative log likelihood of the relative error under the predicted standard deviation; the likelihood
    moves the standard deviation only.

    Parameters
    ----------
    relative, log_sd : (B, 3, Y, X) Tensor
        As the network returns them.
    bulk : (B, 3) Tensor
        uM, uM, fraction.
    truth : (B, 3, Y, X) Tensor
        Relative to the bulk: 0 is the bulk value.
    lesion : (B, Y, X) Tensor of bool
    body : (Y, X) Tensor of bool
    lesion_weight : float
    """
    error = (relative - truth)[..., body]  # (B, 3, pixels)
    squared = (error * standard_bulk(bulk)[..., None]).square()
    weight = torch.where(lesion[:, None, body], lesion_weight, 1.0)
    deviation = log_sd[..., body].clamp(min=-7.0, max=3.0)
    likelihood = deviation + 0.5 * (error.detach() * torch.exp(-deviation)).square()
    loss = (squared * weight).sum() / weight.expand_as(squared).sum() + 0.1 * likelihood.mean()
    return loss, squared.mean()


def standard_bulk(bulk: Tensor) -> Tensor:
    """Return the bulk (n, 3: uM, uM, fraction) in the outputs' scale: what a relative error is multiplied by."""
    unit = torch.tensor([1.0, 1.0, 100.0], dtype=bulk.dtype, device=bulk.device)
    return bulk * unit / torch.tensor(OUTPUT_SCALE, dtype=bulk.dtype, device=bulk.device)
