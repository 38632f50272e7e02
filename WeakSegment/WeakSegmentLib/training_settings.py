"""The constants of SimPLe training, each with its reason; needs no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from BreastBiomarkersLib.errors import InputError

from WeakSegmentLib.settings import PublishedSettings, RandomWalkSettings

METHODS = ("simple", "contrastive", "crf", "partial-ce", "full")
CHANNELS = ("post", "pre", "subtraction")
PSEUDO_MASKS = (RandomWalkSettings.method, PublishedSettings.method)
NORMALIZATIONS = ("body", "volume")


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained from extreme points. Zhong and Wang, MICCAI 2023, doi 10.1007/978-3-031-43901-8_54.

    Attributes
    ----------
    method : str
        "simple": train, fine-tune by propagation, retrain. The others stop after the first stage, whose loss is partial
        cross entropy with the contrastive term ("contrastive", the first stage of "simple"), with a CRF term ("crf") or
        alone ("partial-ce"); "full" uses the true masks instead of points.
    seed : int
        The same seed gives the same weights, bit by bit on a CPU with the same number of threads.
    width, levels : int
        Of the network; 16 and 5 are the published one.
    channels : tuple of str
        Image channels: "post", "pre", "subtraction" (post minus pre). Published: post alone.
    spacing_mm : tuple of 3 float, mm
        Voxel size (K, J, I) of the images the network sees.
    patch : tuple of 3 int
        Voxels (K, J, I) of a patch.
    normalization : str
        "body": mean and sd of the voxels above Otsu's threshold of the post-contrast image, values clipped at 5 sd;
        "volume": of all voxels, air included, as published.
    pseudo_mask : str
        Method that turns six points into labels, "random-walk" or "published".
    pseudo_mask_repetitions : int
        Of the random walker; 3 instead of 7 gives purer tumor labels.
    train_iterations, finetune_iterations, retrain_iterations : int
        200 epochs of 21 cases in batches of two are 2,000 iterations.
    batch : int
        Patches around tumor voxels, and as many around background voxels, per iteration and process.
    learning_rate, finetune_learning_rate, momentum, weight_decay, poly_power : float
        Of stochastic gradient descent with Nesterov momentum; the rate falls as (1 - done)^poly_power.
    max_gradient_norm : float or None
        Longer gradients are shortened; without this, momentum 0.99 diverges on small networks. Published: no limit.
    samples, temperature : int, float
        Contrastive loss: tumor and background voxels drawn per iteration; divisor of the cosines.
    similarity_above : float or None
        Lambda of the propagation; None takes `similarity_quantile` of the cosines among the drawn tumor voxels instead.
        The published 0.96 chose no voxel at all in small networks.
    similarity_quantile, agreement_above : float
        Quantile for lambda; alpha, the share of tumor voxels that must agree.
    propagation_weight : float
        Of the loss of chosen voxels.
    crf_weight, crf_radius, crf_sigma_mm, crf_sigma_intensity : float, int, mm, sd
        Of the CRF baseline; own choice, the paper gives none.
    checkpoint_every : int
        Iterations between saved states.
    """

    method: str = "simple"
    seed: int = 0
    width: int = 16
    levels: int = 5
    channels: tuple[str, ...] = ("post",)
    spacing_mm: tuple[float, float, float] = (1.0, 0.6, 0.6)
    patch: tuple[int, int, int] = (96, 128, 128)
    normalization: str = "body"
    pseudo_mask: str = RandomWalkSettings.method
    pseudo_mask_repetitions: int = 3
    train_iterations: int = 2000
    finetune_iterations: int = 100
    retrain_iterations: int = 2000
    batch: int = 2
    learning_rate: float = 0.01
    finetune_learning_rate: float = 1e-4
    momentum: float = 0.99
    weight_decay: float = 1e-4
    poly_power: float = 0.9
    max_gradient_norm: float | None = 12.0
    samples: int = 100
    temperature: float = 0.1
    similarity_above: float | None = None
    similarity_quantile: float = 0.1
    agreement_above: float = 0.5
    propagation_weight: float = 0.1
    crf_weight: float = 0.1
    crf_radius: int = 2
    crf_sigma_mm: float = 2.0
    crf_sigma_intensity: float = 0.5
    checkpoint_every: int = 50

    def __post_init__(self) -> None:
        for name, choices in (
            ("method", METHODS),
            ("normalization", NORMALIZATIONS),
            ("pseudo_mask", PSEUDO_MASKS),
        ):
            if getattr(self, name) not in choices:
                raise InputError(f"There is no {name} '{getattr(self, name)}'; use {', '.join(choices)}.")
        if not self.channels or len(set(self.channels)) < len(self.channels) or set(self.channels) - set(CHANNELS):
            raise InputError(f"The channels are {self.channels}; use each of {', '.join(CHANNELS)} at most once.")
        for names, allowed in (
            (_WHOLE, lambda n: isinstance(n, int) and n >= 1),
            (_WHOLE_OR_ZERO, lambda n: isinstance(n, int) and n >= 0),
            (_ABOVE_ZERO, lambda n: n > 0),
            (_FROM_ZERO, lambda n: n >= 0),
            (_SHARES, lambda n: 0 <= n < 1),
        ):
            for name in names:
                self._check(name, allowed)
        multiple = 2 ** (self.levels - 1)
        if any(side % multiple for side in self.patch) or math.prod(self.patch) == multiple**3:
            raise InputError(
                f"A network of {self.levels} levels needs patch sides that are multiples of {multiple}, and not all of "
                f"them {multiple}; the patch is {self.patch}."
            )

    def _check(self, name: str, allowed: Callable[[Any], bool]) -> None:
        value = getattr(self, name)
        if value is None and name in _MAY_BE_NONE:
            return
        numbers = value if isinstance(value, tuple) else (value,)
        if len(numbers) != (3 if name in _TRIPLES else 1):
            raise InputError(f"The setting {name} is {value}; three numbers (K, J, I) are needed.")
        for number in numbers:
            if isinstance(number, bool) or not isinstance(number, (int, float)) or not allowed(number):
                raise InputError(f"The setting {name} cannot be {value}. Its default is {_DEFAULTS[name]}.")

    def random_walk(self) -> RandomWalkSettings | PublishedSettings:
        """Return the settings of the method that makes the first labels."""
        if self.pseudo_mask == PublishedSettings.method:
            return PublishedSettings()
        return RandomWalkSettings(repetitions=self.pseudo_mask_repetitions)


_WHOLE = (
    *("width", "levels", "patch", "train_iterations", "finetune_iterations", "retrain_iterations"),
    *("batch", "samples", "crf_radius", "checkpoint_every"),
)
_WHOLE_OR_ZERO = ("seed", "pseudo_mask_repetitions")
_ABOVE_ZERO = (
    *("spacing_mm", "learning_rate", "finetune_learning_rate", "poly_power", "max_gradient_norm", "temperature"),
    *("crf_sigma_mm", "crf_sigma_intensity"),
)
_FROM_ZERO = ("weight_decay", "propagation_weight", "crf_weight")
_SHARES = ("momentum", "similarity_above", "similarity_quantile", "agreement_above")
_TRIPLES = ("spacing_mm", "patch")
_MAY_BE_NONE = ("max_gradient_norm", "similarity_above")
_DEFAULTS = {field.name: field.default for field in fields(TrainingSettings)}


PRESETS: dict[str, TrainingSettings] = {
    "default": TrainingSettings(),
    "published": TrainingSettings(
        normalization="volume",
        pseudo_mask=PublishedSettings.method,
        max_gradient_norm=None,
        similarity_above=0.96,
        agreement_above=0.96,
    ),
    "small": TrainingSettings(
        width=8,
        levels=3,
        spacing_mm=(2.0, 2.0, 2.0),
        patch=(16, 32, 32),
        train_iterations=300,
        finetune_iterations=50,
        retrain_iterations=300,
        learning_rate=0.02,
        finetune_learning_rate=2e-4,
        momentum=0.95,
    ),
}
"""Default: the paper's constants with our labels and adaptive lambda. Published: as its authors run it. Small: minutes
on one CPU core, for trying out and tests; 300 iterations are too few for momentum 0.99, which averages 100 of them."""


def settings_from_json(values: Mapping[str, Any], start: TrainingSettings | None = None) -> TrainingSettings:
    """Return settings with the given values, the others from `start`.

    Raises
    ------
    InputError
        If a name is unknown or a value out of range.
    """
    start = TrainingSettings() if start is None else start
    unknown = sorted(set(values) - {field.name for field in fields(TrainingSettings)})
    if unknown:
        raise InputError(f"There is no training setting '{unknown[0]}'.")
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    try:
        return replace(start, **given)
    except TypeError as error:
        raise InputError(f"A training setting has a value of the wrong kind: {error}.") from error
