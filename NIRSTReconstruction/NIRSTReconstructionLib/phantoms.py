"""Simulated cases: disc phantoms with inclusions, their MR image, and the data an instrument would record."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume
from numpy.typing import NDArray

from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.images import IMAGE_UNITS
from NIRSTReconstructionLib.measurements import Measurements
from NIRSTReconstructionLib.noise import NoiseModel
from NIRSTReconstructionLib.spectra import MAP_NAMES, Tissue

BODY_RADIUS_MM = 41.0
PIXELS = 100
"""Images of a case are 100 x 100 pixels over the square around the body."""
MRI_BACKGROUND, MRI_INCLUSION, MRI_NOISE = 50.0, 80.0, 0.04
"""Gray values and relative noise of the synthetic MR image (Feng 2022, doi 10.1364/OPTICA.446576)."""
REFERENCE_TISSUE = Tissue(14.0, 7.0, 0.275, 0.0, 1.0, 1.0)
"""The uniform phantom that is measured for calibration: middle of the `paper-like` ranges."""
MISMATCHES = ("none", "no-contrast", "mri-invisible")

_RIM_MARGIN_MM = 3.0  # least distance of an inclusion from the rim
_GAP_MM = (4.0, 42.0)  # edge-to-edge distance of two inclusions
_TRIALS = 10_000
_WAVES = 200  # random waves that make up a texture


@dataclass(frozen=True)
class Ranges:
    """Uniform ranges (low, high) from which a phantom's tissues are drawn.

    Attributes
    ----------
    background : Tissue of (low, high)
        `hbo`, `hbr` uM; `water`, `lipid` fraction; scatter amplitude mm^-1 at 1000 nm; scatter power.
    contrast : dict of (low, high)
        Inclusion divided by background for the named quantities; all others are as in the background.
    """

    background: dict[str, tuple[float, float]]
    contrast: dict[str, tuple[float, float]]


PRESETS = {
    "paper-like": Ranges(
        background={
            "hbo": (8.0, 20.0),
            "hbr": (4.0, 10.0),
            "water": (0.15, 0.40),
            "lipid": (0.0, 0.0),
            "scatter_amplitude": (1.0, 1.0),
            "scatter_power": (1.0, 1.0),
        },
        contrast={"hbo": (1.1, 2.5), "hbr": (1.1, 2.5), "water": (1.1, 2.0)},
    ),
    "breast-wide": Ranges(
        background={
            "hbo": (5.0, 30.0),
            "hbr": (3.0, 20.0),
            "water": (0.10, 0.80),
            "lipid": (0.10, 0.80),
            "scatter_amplitude": (0.6, 1.6),
            "scatter_power": (0.4, 1.8),
        },
        contrast={"hbo": (0.7, 4.0), "hbr": (0.7, 4.0), "water": (0.7, 4.0)},
    ),
}
"""`paper-like` stands for the phantoms of Feng 2022, whose concentration table could not be had; `breast-wide` spans
published breast values (Shah 2004, doi 10.1117/1.1695560). Water plus lipid stay below 95 %."""

_MAX_WATER_AND_LIPID = 0.95


@dataclass(frozen=True)
class Inclusion:
    """A disc of other tissue.

    Attributes
    ----------
    center_mm : (x, y)
        In plane coordinates.
    radius_mm : float
    tissue : Tissue
    in_mri : bool
        Whether the MR image shows it.
    """

    center_mm: tuple[float, float]
    radius_mm: float
    tissue: Tissue
    in_mri: bool = True

    def contains(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return for each of the (n, 2) points, in mm, whether it is inside."""
        return np.linalg.norm(points - np.asarray(self.center_mm), axis=1) <= self.radius_mm


@dataclass(frozen=True)
class Texture:
    """Smooth random variation of the background, of HbO, HbR and water each by itself.

    Attributes
    ----------
    strength : float
        Standard deviation as a share of the value; 0.1 is 10 %.
    length_mm : float
        Correlation length.
    seed : int
        Of the random waves.

    Notes
    -----
    A stationary Gaussian field with correlation ``exp(-d^2 / (2 length^2))`` at distance d, drawn as the sum of 200
    random cosine waves (Rahimi and Recht 2007, Random features for large-scale kernel machines, section 3), so that it
    has a value at any point and needs no grid.
    """

    strength: float
    length_mm: float = 10.0
    seed: int = 0

    def factors(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what HbO, HbR and water are multiplied by, (3, n), at (n, 2) points in mm; at least 0.2."""
        rng = np.random.default_rng(self.seed)
        waves = rng.standard_normal((3, _WAVES, 2)) / self.length_mm
        phases = rng.uniform(0, 2 * np.pi, (3, _WAVES, 1))
        fields = np.sqrt(2 / _WAVES) * np.cos(waves @ points.T + phases).sum(axis=1)
        return np.asarray(np.maximum(1 + self.strength * fields, 0.2))


@dataclass(frozen=True)
class Phantom:
    """A disc of background tissue around the origin with inclusions; later inclusions cover earlier ones.

    Attributes
    ----------
    background : Tissue
    inclusions : tuple of Inclusion
    radius_mm : float
    texture : Texture or None
        Variation of the background; inclusions stay uniform.
    mri_shift_mm : (x, y)
        How far the MR image is displaced against the light.
    """

    background: Tissue
    inclusions: tuple[Inclusion, ...] = ()
    radius_mm: float = BODY_RADIUS_MM
    texture: Texture | None = None
    mri_shift_mm: tuple[float, float] = (0.0, 0.0)

    def values(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the tissue (6, n) at (n, 2) points in mm, rows as `MAP_NAMES`; edges are sharp."""
        values = self.background.maps(len(points))
        if self.texture is not None:
            values[:3] *= self.texture.factors(points)
            values[2] = np.minimum(values[2], _MAX_WATER_AND_LIPID - values[3])
        for inclusion in self.inclusions:
            values[:, inclusion.contains(points)] = inclusion.tissue.values()[:, None]
        return values

    def labels(self, points: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return 0 in the background and k in inclusion k at (n, 2) points in mm, shown by the MR image or not."""
        labels = np.zeros(len(points), dtype=np.int64)
        for number, inclusion in enumerate(self.inclusions, start=1):
            labels[inclusion.contains(points)] = number
        return labels

    def mri_labels(self, points: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return 0 in the background and k in inclusion k where the MR image shows one, at (n, 2) points in mm."""
        labels = np.zeros(len(points), dtype=np.int64)
        for number, inclusion in enumerate(self.inclusions, start=1):
            if inclusion.in_mri:
                labels[inclusion.contains(points - np.asarray(self.mri_shift_mm))] = number
        return labels


@dataclass(frozen=True, eq=False)
class SimulatedCase:
    """One phantom, its images and its data.

    Attributes
    ----------
    phantom : Phantom
    measured : Measurements
        With noise and fiber gains.
    reference : Measurements
        The uniform phantom `REFERENCE_TISSUE` in the same set-up (same gains, its own noise).
    clean : (W, C) ndarray
        The model's data without noise and gains (complex for frequency domain).
    mri : Volume
        One slice at z = 0, gray values, 0 outside the body.
    truth : dict of Volume
        One-slice images as of a reconstruction (`images.IMAGE_UNITS`: uM and percent); 0 outside the body.
    labels : Volume
        0 outside the body, 1 background, 2 and up the inclusions.
    mri_labels : Volume
        What a perfect segmentation of the MR image is: k where it shows inclusion k, 0 elsewhere.
    """

    phantom: Phantom
    measured: Measurements
    reference: Measurements
    clean: NDArray
    mri: Volume
    truth: dict[str, Volume]
    labels: Volume
    mri_labels: Volume


def draw_phantom(
    rng: np.random.Generator,
    preset: str = "paper-like",
    inclusion_count: int | None = None,
    mismatch: str = "none",
    texture: float = 0.0,
    mri_shift_mm: float = 0.0,
) -> Phantom:
    """Return a random phantom.

    One inclusion has a diameter of 12, 16 or 20 mm; two and more have 16 mm and edges 4 to 42 mm apart (Feng 2022).

    Parameters
    ----------
    rng : numpy.random.Generator
    preset : str
        One of `PRESETS`.
    inclusion_count : int or None
        0 to 4; None: 1 or 2, equally likely.
    mismatch : str
        "none": the MR image shows the optical inclusions; "no-contrast": it shows inclusions whose tissue equals the
        background; "mri-invisible": it does not show them.
    texture : float
        Standard deviation of the background's variation (`Texture`), as a share; 0: uniform.
    mri_shift_mm : float
        By how much the MR image is displaced, in a random direction.

    Raises
    ------
    InputError
        If a choice is unknown or out of range.
    """
    if preset not in PRESETS:
        raise InputError(f"Unknown phantom preset '{preset}'. Choose one of: {', '.join(PRESETS)}.")
    if mismatch not in MISMATCHES:
        raise InputError(f"Unknown mismatch '{mismatch}'. Choose one of: {', '.join(MISMATCHES)}.")
    if inclusion_count is not None and not 0 <= inclusion_count <= 4:
        raise InputError(f"{inclusion_count} inclusions were asked for; 0 to 4 fit.")
    if not 0 <= texture <= 0.5:
        raise InputError(f"A texture of {texture:g} was asked for; 0 to 0.5 is possible (0.1 is 10 %).")
    if not 0 <= mri_shift_mm <= 20:
        raise InputError(f"An MRI shift of {mri_shift_mm:g} mm was asked for; 0 to 20 mm is possible.")
    count = int(rng.integers(1, 3)) if inclusion_count is None else inclusion_count
    ranges = PRESETS[preset]
    background = _draw_background(ranges, rng)
    radius = float(rng.choice([6.0, 8.0, 10.0])) if count == 1 else 8.0
    inclusions = []
    for center in _draw_centers(count, radius, rng):
        tissue = background if mismatch == "no-contrast" else _draw_inclusion(background, ranges, rng)
        inclusions.append(Inclusion(center, radius, tissue, in_mri=mismatch != "mri-invisible"))
    pattern = Texture(texture, seed=int(rng.integers(2**31))) if texture else None
    angle = rng.uniform(0, 2 * np.pi) if mri_shift_mm else 0.0
    shift = (float(mri_shift_mm * np.cos(angle)), float(mri_shift_mm * np.sin(angle)))
    return Phantom(background, tuple(inclusions), texture=pattern, mri_shift_mm=shift)


def simulate_case(
    phantom: Phantom,
    model: ForwardModel,
    noise: NoiseModel,
    rng: np.random.Generator,
    name: str = "simulated",
    uniform: NDArray | None = None,
) -> SimulatedCase:
    """Return the data and images of a phantom.

    Parameters
    ----------
    phantom : Phantom
    model : ForwardModel
        Its mesh must cover the phantom's disc.
    noise : NoiseModel
    rng : numpy.random.Generator
    name : str
        What to call the data in messages.
    uniform : (W, C) ndarray, optional
        The model's data of `REFERENCE_TISSUE`, where they are at hand.
    """
    points = model.mesh.quadrature.points
    clean = model.measure(phantom.values(points), at_quadrature=True)
    if uniform is None:
        uniform = model.measure(REFERENCE_TISSUE.maps(len(points)), at_quadrature=True)
    gains = noise.draw_gains(model.optodes.channels, len(clean), rng)
    grid = pixel_points(phantom.radius_mm)
    body = np.linalg.norm(grid, axis=1) <= phantom.radius_mm
    hbo, hbr, water = phantom.values(grid)[:3]
    truth = (hbo, hbr, 100 * water, hbo + hbr, 100 * hbo / (hbo + hbr))
    return SimulatedCase(
        phantom,
        simulated_measurements(model, clean, noise, gains, rng, name),
        simulated_measurements(model, uniform, noise, gains, rng, f"{name} reference phantom"),
        clean,
        _image(simulate_mri(phantom, grid, rng) * body, phantom, "mri"),
        {name: _image(values * body, phantom, f"true {name}") for name, values in zip(IMAGE_UNITS, truth, strict=True)},
        _image(((phantom.labels(grid) + 1) * body).astype(np.uint8), phantom, "labels"),
        _image((phantom.mri_labels(grid) * body).astype(np.uint8), phantom, "MRI labels"),
    )


def simulated_measurements(
    model: ForwardModel,
    clean: NDArray,
    noise: NoiseModel,
    gains: NDArray[np.float64],
    rng: np.random.Generator,
    name: str = "simulated",
) -> Measurements:
    """Return noise-free data (W, C) of a model as an instrument with gains (W, C) and noise would record them."""
    recorded = noise.add(clean + gains, rng)
    log_amplitude = np.real(recorded)
    detected = np.isfinite(log_amplitude)
    sd = noise.log_amplitude_sd(np.real(clean + gains))
    return Measurements(
        wavelengths_nm=model.spectra.wavelengths_nm,
        channels=model.optodes.channels + 1,
        log_amplitude=log_amplitude,
        sd=np.where(sd > 0, sd, 1e-4),
        active=detected,
        phase_rad=np.imag(recorded) if np.iscomplexobj(recorded) else None,
        remarks=("Simulated data.",) + (() if detected.all() else (f"{int((~detected).sum())} values without light.",)),
        name=name,
    )


def simulate_mri(
    phantom: Phantom, points: NDArray[np.float64], rng: np.random.Generator, noise: float = MRI_NOISE
) -> NDArray[np.float64]:
    """Return MR gray values (n,) at (n, 2) points: background 50, shown inclusions 80, noise relative to the value."""
    gray = np.where(phantom.mri_labels(points) > 0, MRI_INCLUSION, MRI_BACKGROUND)
    return gray * (1 + noise * rng.standard_normal(len(points)))


def pixel_points(radius_mm: float = BODY_RADIUS_MM, pixels: int = PIXELS) -> NDArray[np.float64]:
    """Return the pixel centers (pixels^2, 2), mm, of a square image around the body; x runs fastest."""
    centers = (np.arange(pixels) + 0.5) * 2 * radius_mm / pixels - radius_mm
    x, y = np.meshgrid(centers, centers)
    return np.column_stack([x.ravel(), y.ravel()])


def _image(values: NDArray, phantom: Phantom, name: str) -> Volume:
    """Return pixel values (PIXELS^2,) as a one-slice volume at z = 0 whose I and J axes are the plane's x and y."""
    step = 2 * phantom.radius_mm / PIXELS
    matrix = np.diag([step, step, step, 1.0])
    matrix[:2, 3] = 0.5 * step - phantom.radius_mm
    return Volume(values.reshape(1, PIXELS, PIXELS), matrix, name)


def _draw_background(ranges: Ranges, rng: np.random.Generator) -> Tissue:
    for _ in range(_TRIALS):
        tissue = Tissue(**{name: float(rng.uniform(*ranges.background[name])) for name in MAP_NAMES})
        if tissue.water + tissue.lipid <= _MAX_WATER_AND_LIPID:
            return tissue
    raise RuntimeError("the preset's water and lipid ranges leave no room")


def _draw_inclusion(background: Tissue, ranges: Ranges, rng: np.random.Generator) -> Tissue:
    """Return the background changed by random contrasts; water and lipid together stay below their limit."""
    contrast = {name: float(rng.uniform(*limits)) for name, limits in ranges.contrast.items()}
    tissue = replace(background, **{name: getattr(background, name) * factor for name, factor in contrast.items()})
    water = min(tissue.water, _MAX_WATER_AND_LIPID)
    return replace(tissue, water=water, lipid=min(tissue.lipid, _MAX_WATER_AND_LIPID - water))


def _draw_centers(count: int, radius_mm: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Return centers of `count` discs inside the body, edges apart as in `_GAP_MM`."""
    reach = BODY_RADIUS_MM - _RIM_MARGIN_MM - radius_mm
    for _ in range(_TRIALS):
        distance, angle = reach * np.sqrt(rng.uniform(size=count)), rng.uniform(0, 2 * np.pi, count)
        centers = np.column_stack([distance * np.cos(angle), distance * np.sin(angle)])
        gaps = np.linalg.norm(centers[:, None] - centers[None], axis=2)[np.triu_indices(count, 1)] - 2 * radius_mm
        if ((gaps >= _GAP_MM[0]) & (gaps <= _GAP_MM[1])).all():
            return [(float(x), float(y)) for x, y in centers]
    raise RuntimeError("no room for the inclusions")
