"""What a network is and how it is trained, as plain numbers; needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from BreastBiomarkersLib.errors import InputError

NETWORKS = ("hybrid", "znet", "ynet", "no-mri", "mri-only")
"""Our hybrid; the published two; Z-Net without MRI; Z-Net without light, the yardstick that cannot know contrasts."""
OUTPUTS = ("hbo", "hbr", "water")
OUTPUT_MIDDLE = (14.0, 7.0, 27.5)
OUTPUT_SCALE = (5.0, 2.5, 9.0)
"""uM, uM, percent: outputs of the networks and their losses are (value - middle) / scale."""


@dataclass(frozen=True)
class Variation:
    """What differs from one look at a phantom to the next: the instrument and the MR image, as ranges (low, high).

    Attributes
    ----------
    noise : (float, float)
        Relative noise of the amplitudes.
    noise_told : (float, float)
        What the noise is taken for, as a factor of what it is.
    gain_sd : (float, float)
        Standard deviation of ln of each fiber's coupling, as a source and as a detector, that calibration has missed.
    fibers_lost : (float, float)
        Share of fibers that do not work, in half of the looks.
    mri_contrast : (float, float)
        Factor of the MR image's lesion contrast.
    mri_noise : (float, float)
        Relative noise of its gray values.
    mri_blur_mm : (float, float)
        Standard deviation of a Gaussian.
    mri_shift_mm : (float, float)
        Length of a shift of the MR image's inclusions in a random direction.
    mri_bias : (float, float)
        Amplitude of a smooth multiplicative field.
    rotate : bool
        Whether rings are turned and mirrored by whole fibers.
    """

    noise: tuple[float, float] = (0.02, 0.02)
    noise_told: tuple[float, float] = (1.0, 1.0)
    gain_sd: tuple[float, float] = (0.0, 0.0)
    fibers_lost: tuple[float, float] = (0.0, 0.0)
    mri_contrast: tuple[float, float] = (1.0, 1.0)
    mri_noise: tuple[float, float] = (0.04, 0.04)
    mri_blur_mm: tuple[float, float] = (0.0, 0.0)
    mri_shift_mm: tuple[float, float] = (0.0, 0.0)
    mri_bias: tuple[float, float] = (0.0, 0.0)
    rotate: bool = False

    def __post_init__(self) -> None:
        for name, highest in _HIGHEST.items():
            low, high = getattr(self, name)
            if not 0 <= low <= high <= highest:
                raise InputError(f"The variation {name} is {low:g} to {high:g}; 0 to {highest:g} is possible.")


_HIGHEST = {
    "noise": 0.2,
    "noise_told": 10.0,
    "gain_sd": 1.0,
    "fibers_lost": 0.6,
    "mri_contrast": 10.0,
    "mri_noise": 0.5,
    "mri_blur_mm": 5.0,
    "mri_shift_mm": 10.0,
    "mri_bias": 0.5,
}

PAPER_VARIATION = Variation(rotate=True)
"""2 % noise, as in Feng 2022, and phantoms turned by whole fibers."""
WIDE_VARIATION = Variation(
    noise=(0.01, 0.05),
    noise_told=(0.7, 1.4),
    gain_sd=(0.0, 0.2),
    fibers_lost=(0.0, 0.5),
    mri_contrast=(0.5, 3.0),
    mri_noise=(0.02, 0.06),
    mri_blur_mm=(0.0, 2.0),
    mri_shift_mm=(0.0, 3.0),
    mri_bias=(0.0, 0.2),
    rotate=True,
)
"""What a network meets outside the matched phantoms."""


@dataclass(frozen=True)
class PhysicsSettings:
    """The physics whose images the hybrid network refines (`one_step`).

    Attributes
    ----------
    lattice_mm : float
        Distance of the Gaussian blobs that make up an image.
    blob_mm : float
        Standard deviation of a blob; images are correlated over sqrt(2) times that.
    light_sd : float
        Standard deviation of the image, as a share of the bulk value, where no MRI is used.
    field_sds : tuple of float
        The same beside the MRI's regions: several, each weighted with how likely the light makes it.
    needed_evidence : float
        Log marginal likelihood that a field beside the regions must gain before it is as likely as none.
    region_sd : float
        Of the contrast of a region.
    uniform_sd : float
        Of a change of the whole body.
    correlation : float
        Between the chromophores.
    cell_mm : float
        Side of the cells in which the data's derivatives are kept.
    """

    lattice_mm: float = 7.0
    blob_mm: float = 5.0
    light_sd: float = 0.35
    field_sds: tuple[float, ...] = (0.05, 0.15, 0.35)
    needed_evidence: float = 6.0
    region_sd: float = 1.0
    uniform_sd: float = 0.3
    correlation: float = 0.5
    cell_mm: float = 1.75


@dataclass(frozen=True)
class NetworkSettings:
    """How a network is made and trained.

    Attributes
    ----------
    network : str
        One of `NETWORKS`.
    width : int
        Channels at full size: 16 in the published networks.
    pixels : int
        Pixels across the 82-mm disc; other bodies get pixels of the same size.
    seed : int
        Equal seeds give equal weights, bit by bit on a CPU with the same number of threads.
    epochs, batch : int
    learning_rate : float
        Highest of the one-cycle schedule of Adam.
    validation_share : float
        Of every data set, its last phantoms: watched, not learned.
    looks : int
        Different draws of noise and variation per phantom; epoch n uses draw n modulo `looks`.
    lesion_weight : float
        Of lesion pixels (optical or MRI) in the hybrid's loss; the others have weight 1.
    bfloat16 : bool
        Convolutions of half precision while training on a CPU: twice as fast where it has AVX512-BF16 or AMX, slow
        elsewhere. A GPU always trains so.
    variation : Variation
    physics : PhysicsSettings
    """

    network: str = "hybrid"
    width: int = 32
    pixels: int = 100
    seed: int = 0
    epochs: int = 200
    batch: int = 128
    learning_rate: float = 0.005
    validation_share: float = 0.1
    looks: int = 4
    lesion_weight: float = 3.0
    bfloat16: bool = False
    variation: Variation = WIDE_VARIATION
    physics: PhysicsSettings = field(default_factory=PhysicsSettings)

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise InputError(f"There is no network '{self.network}'; choose one of {', '.join(NETWORKS)}.")
        for name, low, high in (
            ("width", 2, 128),
            ("pixels", 16, 512),
            ("epochs", 1, 100_000),
            ("batch", 2, 65_536),
            ("looks", 1, 100_000),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise InputError(f"The setting {name} is {value}; a whole number from {low} to {high} is needed.")
        if not (0 < self.learning_rate < 1 and 0 < self.validation_share < 1 and self.lesion_weight > 0):
            raise InputError("Learning rate and validation share are between 0 and 1, the lesion weight above 0.")
        numbers = {**asdict(self.physics), "field_sds": math.fsum(self.physics.field_sds)}
        if not (all(math.isfinite(value) for value in numbers.values()) and min(self.physics.field_sds, default=0) > 0):
            raise InputError("A setting of the physics is not a number, or a field's standard deviation not above 0.")


PRESETS: dict[str, NetworkSettings] = {
    "hybrid": NetworkSettings(),
    "znet": NetworkSettings("znet", width=16, looks=200, variation=PAPER_VARIATION),
    "ynet": NetworkSettings("ynet", width=16, looks=200, variation=PAPER_VARIATION),
    "no-mri": NetworkSettings("no-mri", width=16, looks=200, variation=PAPER_VARIATION),
    "mri-only": NetworkSettings("mri-only", width=16, looks=200, variation=PAPER_VARIATION),
}
"""Full recipes, by network. The published ones see what Feng 2022 describes, each epoch with fresh noise."""


def small(settings: NetworkSettings) -> NetworkSettings:
    """Return a recipe for one CPU core and half an hour: half the width, 48 pixels, fewer epochs, smaller batches."""
    return replace(settings, width=settings.width // 2, pixels=48, epochs=40, batch=16, looks=min(settings.looks, 40))


def settings_from_json(values: Mapping[str, Any]) -> NetworkSettings:
    """Return settings from what `dataclasses.asdict` made of them.

    Raises
    ------
    InputError
        If a name is unknown or missing, or a value out of range.
    """
    try:
        given = dict(values)
        variation: dict[str, Any] = given.pop("variation")
        variation = {key: tuple(v) if isinstance(v, list) else v for key, v in variation.items()}
        known: dict[str, Any] = given.pop("physics")
        known = {key: tuple(v) if isinstance(v, list) else v for key, v in known.items()}
        physics = PhysicsSettings(**known)
        missing = {item.name for item in fields(NetworkSettings)} - set(given) - {"variation", "physics"}
        if missing:
            raise KeyError(sorted(missing)[0])
        return NetworkSettings(**given, variation=Variation(**variation), physics=physics)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The network's settings are damaged or of another version: {error}.") from error
