"""From data sets of phantoms to what networks learn from: noisy light, MR images and true images, on one device.

A data set holds noise-free light and the phantoms' numbers. Each look at a phantom draws noise, gains, lost fibers and
an MR image anew from a seeded generator, so equal seeds give equal numbers on a CPU.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from BreastBiomarkersLib.errors import InputError
from numpy.typing import NDArray
from torch import Tensor

from NIRSTReconstructionLib.dataset import DatasetSettings, read_settings, read_shard
from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.network_settings import OUTPUT_MIDDLE, OUTPUT_SCALE, Variation
from NIRSTReconstructionLib.phantoms import BODY_RADIUS_MM, MRI_BACKGROUND, MRI_INCLUSION, REFERENCE_TISSUE, Phantom

MAX_INCLUSIONS = 4
RING = 16
"""Networks that read raw data know one layout: a ring of 16 fibers, channels as `optodes.ring_optodes` orders them."""


@dataclass(frozen=True, eq=False)
class PhantomSet:
    """A data set in memory.

    Attributes
    ----------
    name : str
    settings : DatasetSettings
    log_amplitude : (n, W, C) float32 Tensor
        Noise-free.
    background : (n, 3) Tensor
        HbO, HbR in uM, water in percent.
    lesion : (n, 4, 3) Tensor
        The same of the inclusions.
    place : (n, 4, 3) Tensor, mm
        x, y and radius; radius 0 where there is no inclusion.
    in_mri : (n, 4) Tensor of bool
    """

    name: str
    settings: DatasetSettings
    log_amplitude: Tensor
    background: Tensor
    lesion: Tensor
    place: Tensor
    in_mri: Tensor

    def __len__(self) -> int:
        return len(self.background)

    def take(self, index: slice | Tensor) -> PhantomSet:
        """Return some of the phantoms."""
        arrays = ("log_amplitude", "background", "lesion", "place", "in_mri")
        return replace(self, **{name: getattr(self, name)[index] for name in arrays})

    def to(self, device: torch.device) -> PhantomSet:
        """Return the set with its numbers on a device."""
        arrays = ("log_amplitude", "background", "lesion", "place", "in_mri")
        return replace(self, **{name: getattr(self, name).to(device) for name in arrays})

    @property
    def is_ring(self) -> bool:
        """Whether the fibers are the ring that networks of raw data know."""
        return self.settings.fiber_count == RING and len(set(self.settings.half_axes_mm)) == 1


class Looks(NamedTuple):
    """Phantoms as instrument and scanner see them once.

    Attributes
    ----------
    log_ratio : (n, W, C) Tensor
        ln of the amplitudes divided by those of the uniform `REFERENCE_TISSUE` in the same set-up.
    active : (n, W, C) Tensor of bool
    noise : (n, W, C) Tensor
        What the standard deviation of `log_ratio` is taken for.
    mri : (n, Y, X) Tensor
        Gray values, 0 outside the body.
    truth : (n, 3, Y, X) Tensor
        Standardized HbO, HbR and water (`OUTPUT_MIDDLE`, `OUTPUT_SCALE`), 0 outside the body.
    lesion : (n, Y, X) Tensor of bool
        Where light or MRI has an inclusion.
    """

    log_ratio: Tensor
    active: Tensor
    noise: Tensor
    mri: Tensor
    truth: Tensor
    lesion: Tensor


def read_phantom_set(folder: str | Path, count: int | None = None) -> PhantomSet:
    """Return a data set, or its first `count` phantoms.

    Raises
    ------
    InputError
        If the folder holds none, a shard is missing or damaged, or a value is not finite.
    """
    settings = read_settings(folder)
    wanted = settings.count if count is None else min(count, settings.count)
    light, phantoms = [], []
    for shard in range(-(-wanted // settings.shard_size)):
        data, some = read_shard(folder, shard)
        light.append(data)
        phantoms += some
    log_amplitude = torch.from_numpy(np.concatenate(light))[:wanted]
    if not torch.isfinite(log_amplitude).all():
        raise InputError(f"'{folder}' holds light that is not a number. Delete its shards and generate them again.")
    return PhantomSet(Path(folder).name, settings, log_amplitude, *_numbers(phantoms[:wanted]))


@functools.lru_cache(maxsize=32)
def model_of(settings: DatasetSettings) -> ForwardModel:
    """Return the forward model that made a data set; built once for sets of equal bodies, fibers and meshes."""
    anything = {"count": 1, "seed": 0, "no_contrast": 0.0, "mri_invisible": 0.0, "inclusion_count": None}
    shared = replace(settings, **anything)  # type: ignore[arg-type]
    return settings.model() if shared == settings else model_of(shared)


@functools.lru_cache(maxsize=32)
def reference_light(settings: DatasetSettings) -> NDArray[np.float64]:
    """Return the modeled ln amplitude (W, C) of the uniform `REFERENCE_TISSUE` in the set-up of a data set."""
    model = model_of(settings)
    points = len(model.mesh.quadrature.weights)
    return np.asarray(model.measure(REFERENCE_TISSUE.maps(points), at_quadrature=True))


def pixel_grid(settings: DatasetSettings, pixels: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the pixel centers (Y, X, 2), mm, and which lie in the body (Y, X).

    Parameters
    ----------
    settings : DatasetSettings
    pixels : int
        Across the 82-mm disc; other bodies get pixels of the same size.
    """
    step = 2 * BODY_RADIUS_MM / pixels
    half = np.array(settings.half_axes_mm)
    counts = np.maximum(np.ceil(2 * half / step - 1e-9).astype(int), 16)
    x, y = ((np.arange(n) + 0.5 - n / 2) * step for n in counts)
    points = np.stack(np.meshgrid(x, y), axis=-1)
    return points, ((points / half) ** 2).sum(axis=-1) <= 1


def look(phantoms: PhantomSet, pixels: int, variation: Variation, generator: torch.Generator) -> Looks:
    """Return one look at every phantom of a set (`network_settings.Variation` says what varies).

    Parameters
    ----------
    phantoms : PhantomSet
        On the device where the looks are wanted; the generator is of the same device.
    pixels : int
        See `pixel_grid`.
    variation : Variation
    generator : torch.Generator
    """
    device = phantoms.background.device
    count = len(phantoms)

    def uniform(limits: tuple[float, float], *shape: int) -> Tensor:
        low, high = limits
        return low + (high - low) * torch.rand(count, *shape, generator=generator, device=device)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator, device=device)

    reference = torch.as_tensor(reference_light(phantoms.settings), dtype=torch.float32, device=device)
    log_ratio = phantoms.log_amplitude - reference
    if variation.rotate and phantoms.is_ring:
        phantoms, log_ratio = _turned(phantoms, log_ratio, generator)

    source, detector = torch.as_tensor(model_of(phantoms.settings).optodes.channels, device=device).T
    fibers, wavelengths = phantoms.settings.fiber_count, log_ratio.shape[1]
    noise = uniform(variation.noise)
    factor = 1 + noise[:, None, None] * normal(*log_ratio.shape[1:])
    log_ratio = log_ratio + torch.log(factor.clamp(min=0.05))
    gains = uniform(variation.gain_sd)[:, None, None] * normal(wavelengths, 2 * fibers)
    log_ratio = log_ratio + gains[:, :, source] + gains[:, :, fibers + detector]
    lost = uniform(variation.fibers_lost) * (uniform((0.0, 1.0)) < 0.5)
    works = uniform((0.0, 1.0), fibers).argsort(dim=1).argsort(dim=1) >= (lost * fibers).round()[:, None]
    active = (works[:, source] & works[:, detector])[:, None].expand(log_ratio.shape)

    points, body = pixel_grid(phantoms.settings, pixels)
    grid = torch.as_tensor(points, dtype=torch.float32, device=device)
    inside = torch.as_tensor(body, device=device)
    angle = uniform((0.0, 2 * np.pi))
    shift = uniform(variation.mri_shift_mm)[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    contrast = (MRI_INCLUSION - MRI_BACKGROUND) * uniform(variation.mri_contrast)
    gray = torch.full((count, *body.shape), MRI_BACKGROUND, device=device)
    truth = phantoms.background[:, :, None, None].expand(-1, -1, *body.shape)
    lesion = torch.zeros((count, *body.shape), dtype=torch.bool, device=device)
    for k in range(MAX_INCLUSIONS):
        there, shown = (_disc(grid, phantoms.place[:, k], by) for by in (torch.zeros_like(shift), shift))
        shown &= phantoms.in_mri[:, k, None, None]
        truth = torch.where(there[:, None], phantoms.lesion[:, k, :, None, None], truth)
        gray = torch.where(shown, MRI_BACKGROUND + contrast[:, None, None], gray)
        lesion = lesion | there | shown
    gray = _blurred(gray, uniform(variation.mri_blur_mm) * pixels / (2 * BODY_RADIUS_MM))
    field = torch.einsum("yxk,nk->nyx", _smooth_fields(grid), normal(5))
    gray = gray * torch.exp(uniform(variation.mri_bias)[:, None, None] * field)
    gray = gray * (1 + uniform(variation.mri_noise)[:, None, None] * normal(*body.shape))
    told = noise * uniform(variation.noise_told)
    sd = told[:, None, None].expand(log_ratio.shape)
    return Looks(log_ratio, active, sd, gray * inside, standardized(truth) * inside, lesion & inside)


def inclusion_masks(phantoms: PhantomSet, pixels: int) -> Tensor:
    """Return where the inclusions are (n, 4, Y, X), as bool; an MRI that is shifted shows them elsewhere."""
    points, body = pixel_grid(phantoms.settings, pixels)
    grid = torch.as_tensor(points, dtype=torch.float32, device=phantoms.place.device)
    still = torch.zeros_like(phantoms.place[:, 0, :2])
    discs = torch.stack([_disc(grid, phantoms.place[:, k], still) for k in range(MAX_INCLUSIONS)], dim=1)
    return discs & torch.as_tensor(body, device=discs.device)


def standardized(values: Tensor) -> Tensor:
    """Return HbO, HbR (uM) and water (percent), (n, 3, ...), in the outputs' units."""
    middle, scale = (_column(numbers, values) for numbers in (OUTPUT_MIDDLE, OUTPUT_SCALE))
    return (values - middle) / scale


def concentrations(outputs: Tensor) -> Tensor:
    """Return outputs (n, 3, ...) as uM, uM and percent."""
    middle, scale = (_column(numbers, outputs) for numbers in (OUTPUT_MIDDLE, OUTPUT_SCALE))
    return outputs * scale + middle


def as_matrix(light: Tensor) -> Tensor:
    """Return light (n, W, 240) of a ring of 16 fibers as (n, W, 16 sources, 15 detectors counted from the source)."""
    return light.reshape(*light.shape[:2], RING, RING - 1)


def _turned(phantoms: PhantomSet, light: Tensor, generator: torch.Generator) -> tuple[PhantomSet, Tensor]:
    """Return ring phantoms turned by random whole fibers, half of them mirrored before, with their light."""
    device, count = light.device, len(light)
    turns = torch.randint(RING, (count,), generator=generator, device=device)
    mirrored = torch.rand(count, generator=generator, device=device) < 0.5
    matrix = as_matrix(light)
    sources = torch.arange(RING, device=device)
    flipped = matrix[:, :, (-sources) % RING].flip(-1)  # source s becomes -s, detector s + j becomes -s - j
    matrix = torch.where(mirrored[:, None, None, None], flipped, matrix)
    rows = (sources - turns[:, None]) % RING
    matrix = matrix.gather(2, rows[:, None, :, None].expand(-1, matrix.shape[1], -1, matrix.shape[3]))
    angle = 2 * np.pi * turns / RING
    x, y, radius = phantoms.place.unbind(dim=-1)
    y = torch.where(mirrored[:, None], -y, y)
    c, s = angle.cos()[:, None], angle.sin()[:, None]
    place = torch.stack([c * x - s * y, s * x + c * y, radius], dim=-1)
    return replace(phantoms, place=place), matrix.reshape(light.shape)


def _disc(grid: Tensor, place: Tensor, shift: Tensor) -> Tensor:
    """Return the pixels (n, Y, X) in discs (n, 3: x, y, radius) that are shifted (n, 2)."""
    center = place[:, :2] + shift
    squared = (grid - center[:, None, None]).square().sum(dim=-1)
    return (squared <= place[:, 2, None, None].square()) & (place[:, 2, None, None] > 0)


def _blurred(images: Tensor, sd_pixels: Tensor) -> Tensor:
    """Return images (n, Y, X), each convolved with a Gaussian of its own standard deviation, edges continued."""
    if not bool((sd_pixels > 0).any()):
        return images
    reach = int(np.ceil(3 * float(sd_pixels.max())))
    at = torch.arange(-reach, reach + 1, device=images.device)
    kernel = torch.exp(-0.5 * (at / sd_pixels.clamp(min=1e-3)[:, None]).square())
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    x = images[None]
    for shape, pad in (
        ((-1, 1), (0, 0, reach, reach)),
        ((1, -1), (reach, reach, 0, 0)),
    ):
        padded = torch.nn.functional.pad(x, pad, mode="replicate")
        x = torch.nn.functional.conv2d(padded, kernel.reshape(len(kernel), 1, *shape), groups=len(kernel))
    return x[0]


def _smooth_fields(grid: Tensor) -> Tensor:
    """Return five smooth functions (Y, X, 5) of about unit size: linear and quadratic in x and y."""
    x, y = (grid / BODY_RADIUS_MM).unbind(dim=-1)
    return torch.stack([x, y, x * y, x.square() - y.square(), x.square() + y.square() - 0.5], dim=-1)


def _column(numbers: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(numbers, dtype=like.dtype, device=like.device).reshape(-1, *[1] * (like.ndim - 2))


def _numbers(phantoms: list[Phantom]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return background, lesion, place and in_mri of `PhantomSet`."""
    percent = np.array([1.0, 1.0, 100.0])
    background = np.array([phantom.background.values()[:3] * percent for phantom in phantoms], dtype=np.float32)
    lesion, place = (np.zeros((len(phantoms), MAX_INCLUSIONS, 3), dtype=np.float32) for _ in range(2))
    in_mri = np.zeros((len(phantoms), MAX_INCLUSIONS), dtype=bool)
    for n, phantom in enumerate(phantoms):
        for k, inclusion in enumerate(phantom.inclusions):
            lesion[n, k] = inclusion.tissue.values()[:3] * percent
            place[n, k] = (*inclusion.center_mm, inclusion.radius_mm)
            in_mri[n, k] = inclusion.in_mri
    return torch.from_numpy(background), torch.from_numpy(lesion), torch.from_numpy(place), torch.from_numpy(in_mri)
