"""Image filters as IBSI-2 defines them (Whybra 2024, doi 10.1148/radiol.231319), and two it does not define.

A filter is a frozen dataclass: its numbers, a label for tables, how much image it needs around a region, and `apply`
from an array to its response. Letters of wavelet bands and Laws kernels run along I, J, K; `planar` filters work slice
by slice. Rotation pooling takes the mean or maximum over the right-angle rotations (24 in space, 4 in a slice).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from itertools import permutations, product
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from BreastBiomarkersLib.errors import InputError
from numpy.typing import NDArray
from scipy import fft, ndimage

Boundary = Literal["mirror", "nearest", "zero", "periodic"]
"""How the image goes on beyond its edges; "mirror" repeats the edge voxel (d c b a | a b c d)."""

Pooling = Literal["none", "mean", "max"]

_NDIMAGE_MODES: dict[str, str] = {"mirror": "reflect", "nearest": "nearest", "zero": "constant", "periodic": "wrap"}
_PAD_MODES: dict[str, Any] = {"mirror": "symmetric", "nearest": "edge", "zero": "constant", "periodic": "wrap"}
_MAX_REACH = 512
_GABOR_REACH = 5  # standard deviations; the envelope is 4e-6 there
_BLOCK_VOXELS = 1 << 22

_R2, _R3, _R7, _R10 = np.sqrt([2.0, 3.0, 7.0, 10.0])
_D3 = np.sqrt(5 + 2 * _R10)
WAVELETS: dict[str, NDArray[np.float64]] = {
    "haar": np.array([1, 1]) / _R2,
    "db2": np.array([1 - _R3, 3 - _R3, 3 + _R3, 1 + _R3]) / (4 * _R2),
    "db3": np.array(
        [
            1 + _R10 - _D3,
            5 + _R10 - 3 * _D3,
            10 - 2 * _R10 - 2 * _D3,
            10 - 2 * _R10 + 2 * _D3,
            5 + _R10 + 3 * _D3,
            1 + _R10 + _D3,
        ]
    )
    / (16 * _R2),
    "coif1": np.array([_R7 - 3, 1 - _R7, 14 - 2 * _R7, 14 + 2 * _R7, 5 + _R7, 1 - _R7]) / (16 * _R2),
}
"""Low-pass analysis filters (Daubechies 1988, doi 10.1002/cpa.3160410705, and 1993, doi 10.1137/0524031)."""

LAWS: dict[str, NDArray[np.float64]] = {
    name: np.array(weights) / np.linalg.norm(weights)
    for name, weights in {
        "L5": [1, 4, 6, 4, 1],
        "E5": [-1, -2, 0, 2, 1],
        "S5": [-1, 0, 2, 0, -1],
        "W5": [-1, 2, 0, -2, 1],
        "R5": [1, -4, 6, -4, 1],
        "L3": [1, 2, 1],
        "E3": [-1, 0, 1],
        "S3": [-1, 2, -1],
    }.items()
}
"""Level, edge, spot, wave and ripple kernels of unit length (Laws 1980, doi 10.1117/12.959169)."""

Chain = tuple[tuple[float, ...], ...]
"""1-D kernels of odd length to convolve with, one after another, along one axis."""


@dataclass(frozen=True, kw_only=True)
class Filter:
    """What all filters share.

    Attributes
    ----------
    planar : bool
        Work slice by slice.
    boundary : str
        How the image goes on beyond its edges: "mirror", "nearest", "zero" or "periodic".
    """

    kind: ClassVar[str]
    code: ClassVar[str] = ""
    """IBSI code; empty if the filter is not standardized."""

    planar: bool = False
    boundary: Boundary = "mirror"

    def __post_init__(self) -> None:
        self._require(isinstance(self.planar, bool), "planar is true or false")
        self._require(self.boundary in get_args(Boundary), f"boundary is one of {', '.join(get_args(Boundary))}")

    def _require(self, condition: bool, rule: str) -> None:
        if not condition:
            raise InputError(f"Filter '{self.kind}': {rule}.")

    @property
    def standardized(self) -> bool:
        """Whether IBSI-2 defines the filter."""
        return bool(self.code)

    @property
    def label(self) -> str:
        """Name for tables, unique to the filter's numbers."""
        edge = "" if self.boundary == type(self).boundary else f"_{self.boundary}"
        return f"{self._name()}{'_2d' * self.planar}{edge}"

    @property
    def axes(self) -> tuple[int, ...]:
        """Array axes the filter works along."""
        return (1, 2) if self.planar else (0, 1, 2)

    def reach(self, spacing_kji_mm: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the (3,) voxels around a region on which the response inside depends, in array order.

        Raises
        ------
        InputError
            If it is more than 512 voxels.
        """
        reach = np.ceil(self._reach(spacing_kji_mm)).astype(np.int64)
        if reach.max() > _MAX_REACH:
            raise InputError(f"Filter '{self.label}' would reach {reach.max()} voxels. Choose a smaller one.")
        reach[[axis not in self.axes for axis in range(3)]] = 0
        return reach

    def apply(self, array: NDArray[np.float64], spacing_kji_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (K, J, I) response."""
        raise NotImplementedError

    def _name(self) -> str:
        raise NotImplementedError

    def _reach(self, spacing: NDArray[np.float64]) -> NDArray[np.float64]:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Mean(Filter):
    """Mean of a cube (or square) of `size` voxels, an odd number."""

    kind: ClassVar[str] = "mean"
    code: ClassVar[str] = "S60F"
    size: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(_is_whole(self.size) and self.size % 2 == 1 and self.size >= 3, "size is an odd number from 3")

    def _name(self) -> str:
        return f"mean_{self.size}"

    def _reach(self, spacing: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.full(3, self.size // 2, dtype=np.float64)

    def apply(self, array: NDArray[np.float64], spacing_kji_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (K, J, I) means."""
        return _local_mean(array, self.size, self.axes, self.boundary)


@dataclass(frozen=True, kw_only=True)
class LaplacianOfGaussian(Filter):
    """Laplacian of the image smoothed by a Gaussian of `sigma_mm`, cut at `truncate` standard deviations.

    Per squared voxel, not scale-normalized, as in IBSI-2; on voxels of unlike edges per squared shortest edge.
    """

    kind: ClassVar[str] = "log"
    code: ClassVar[str] = "L6PA"
    sigma_mm: float = 2.0
    truncate: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(_is_positive(self.sigma_mm), "sigma_mm is above 0")
        self._require(_is_positive(self.truncate), "truncate is above 0")

    def _name(self) -> str:
        cut = "" if self.truncate == 4 else f"_truncate_{self.truncate:g}"
        return f"log_sigma_{self.sigma_mm:g}mm{cut}"

    def _reach(self, spacing: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.floor(self.truncate * self.sigma_mm / spacing + 0.5)

    def apply(self, array: NDArray[np.float64], spacing_kji_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (K, J, I) Laplacian."""
        sigma = np.where([axis in self.axes for axis in range(3)], self.sigma_mm / spacing_kji_mm, 0.0)
        shortest = spacing_kji_mm[list(self.axes)].min()
        mode = _NDIMAGE_MODES[self.boundary]
        response = np.zeros_like(array)
        for axis in self.axes:
            order = [2 if a == axis else 0 for a in range(3)]
            second = ndimage.gaussian_filter(array, sigma, order=order, mode=mode, truncate=self.truncate)
            response += second * (shortest / spacing_kji_mm[axis]) ** 2
        return response


@dataclass(frozen=True, kw_only=True)
class Wavelet(Filter):
    """One band of a separable stationary (undecimated) wavelet decomposition.

    Attributes
    ----------
    wavelet : str
        Of `WAVELETS`.
    band : str
        L (low) or H (high) along I, J and, unless planar, K: "LLH".
    level : int
        Levels below it are low-passed along all axes.
    pooling : str
        Over rotations: "none", "mean" or "max".
    """

    kind: ClassVar[str] = "wavelet"
    code: ClassVar[str] = "25BO"
    wavelet: str = "coif1"
    band: str = "LLH"
    level: int = 1
    pooling: Pooling = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.wavelet in WAVELETS, f"wavelet is one of {', '.join(WAVELETS)}")
        letters = f"band has {len(self.axes)} letters L or H"
        self._require(_is_text(self.band) and len(self.band) == len(self.axes), letters)
        self._require(set(self.band) <= {"L", "H"}, letters)
        self._require(_is_whole(self.level) and 1 <= self.level <= 5, "level is 1 to 5")
        self._require(self.pooling in get_args(Pooling), f"pooling is one of {', '.join(get_args(Pooling))}")

    def _name(self) -> str:
        return f"wavelet_{self.wavelet}_{self.band}_{self.level}{_pooled(self.pooling)}"

    def _reach(self, spacing: NDArray[np.float64]) -> NDArray[np.float64]:
        half = len(_odd(WAVELETS[self.wavelet])) // 2
        return np.full(3, half * (2.0**self.level - 1))

    def apply(self, array: NDArray[np.float64], spacing_kji_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (K, J, I) band."""
        low = _odd(WAVELETS[self.wavelet])
        high = _odd(_high_pass(WAVELETS[self.wavelet]))
        below = [_spread(low, 2**n) for n in range(self.level - 1)]
        chains = [[*below, _spread(low if letter == "L" else high, 2 ** (self.level - 1))] for letter in self.band]
        return _convolve_rotated(array, chains, self.axes, self.boundary, self.pooling)


@dataclass(frozen=True, kw_only=True)
class Laws(Filter):
    """Laws' texture kernels, one along each axis, and the energy of the response.

    Attributes
    ----------
    kernels : str
        Of `LAWS` along I, J and, unless planar, K: "L5E5E5".
    energy_distance : int or None, voxels
        The response's absolute value is averaged over so many voxels to each side, after pooling; None: the response.
    pooling : str
        Over rotations: "none", "mean" or "max".
    """

    kind: ClassVar[str] = "laws"
    code: ClassVar[str] = "JTXT"
    kernels: str = "L5E5E5"
    energy_distance: int | None = 7
    pooling: Pooling = "max"

    def __post_init__(self) -> None:
        super().__post_init__()
        names = self._split() if _is_text(self.kernels) else []
        rule = f"kernels are {len(self.axes)} of {', '.join(LAWS)}, written together"
        self._require(len(names) == len(self.axes) and set(names) <= set(LAWS), rule)
        energy = self.energy_distance
        self._require(energy is None or (_is_whole(energy) and energy >= 1), "energy_distance is 1 or more, or null")
        self._require(self.pooling in get_args(Pooling), f"pooling is one of {', '.join(get_args(Pooling))}")

    def _split(self) -> list[str]:
        return [self.kernels[n : n + 2] for n in range(0, len(self.kernels), 2)]

    def _name(self) -> str:
        energy = "" if self.energy_distance is None else f"_energy_{self.energy_distance}"
        return f"laws_{self.kernels}{energy}{_pooled(self.pooling)}"

    def _reach(self, spacing: NDArray[np.float64]) -> NDArray[np.float64]:
        half = max(len(LAWS[name]) for name in self._split()) // 2
        return np.full(3, half + (self.energy_distance or 0), dtype=np.float64)

    def apply(self, array: NDArray[np.float64], spacing_kji_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (K, J, I) response or its energy."""
        chains = [[LAWS[name]] for name in self._split()]
        response = _convolve_rotated(array, chains, self.axes, self.boundary, self.pooling)
        if self.energy_distance is None:
            return response
        return _local_mean(np.abs(response), 2 * self.energy_distance + 1, self.axes, self.boundary)


@dataclass(frozen=True, kw_only=True)
class Gabor(Filter):
    """Modulus of the response to a 2-D Gabor wave, in the slices (planar) or averaged over the three planes.

    ``exp(-(x'^2 + aspect_ratio^2 y'^2) / (2 sigma^2) + 2 pi i x' / wavelength)``, where x' runs along the wave,
    turned by `angle_deg` from the plane's last array axis (I, or J in the JK plane) towards its first. The envelope is
    cut at five standard deviations.

    Attributes
    ----------
    sigma_mm, wavelength_mm : float
    aspect_ratio : float
        gamma: 1 is round, more is shorter across the wave.
    angle_deg : float
    angle_step_deg : float or None
        Average over the angles of a full turn in such steps, starting at `angle_deg`; None: one angle.
    """

    kind: ClassVar[str] = "gabor"
    code: ClassVar[str] = "Q88H"
    sigma_mm: float = 5.0
    wavelength_mm: float = 4.0
    aspect_ratio: float = 1.0
    angle_deg: float = 0.0
    angle_step_deg: float | None = 45.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("sigma_mm", "wavelength_mm", "aspect_ratio"):
            self._require(_is_positive(getattr(self, name)), f"{name} is above 0")
        self._require(_is_finite(self.angle_deg), "angle_deg is a number")
        step = self.angle_step_deg
        whole = step is None or (_is_positive(step) and abs(360 / step - round(360 / step)) < 1e-9 and step >= 1)
        self._require(whole, "angle_step_deg divides 360 and is at least 1, or null")

    def _name(self) -> str:
        turn = f"_angle_{self.angle_deg:g}" if self.angle_deg or self.angle_step_deg is None else ""
        step = "" if self.angle_step_deg is None else f"_step_{self.angle_step_deg:g}"
        waves = f"sigma_{self.sigma_mm:g}mm_wavelength_{self.wavelength_mm:g}mm"
        return f"gabor_{waves}_aspect_{self.aspect_ratio:g}{turn}{step}"

    def _reach(self, spacing: NDArray[np.float64]) -> NDArray[np.float64]:
        return _GABOR_REACH * self.sigma_mm * max(1, 1 / self.aspect_ratio) / spacing

    def apply(self, array: NDArray[np.float64], spacing_kji_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (K, J, I) mean modulus."""
        half = np.ceil(self._reach(spacing_kji_mm)).astype(int)
        planes = (0,) if self.planar else (0, 1, 2)
        response = np.zeros_like(array)
        for across in planes:
            first, last = (axis for axis in range(3) if axis != across)
            kernels = self._kernels(half[[first, last]], spacing_kji_mm[[first, last]])
            stack = np.moveaxis(array, across, 0)
            total = np.moveaxis(response, across, 0)
            slices = max(1, _BLOCK_VOXELS // int(np.prod(np.array(stack.shape[1:]) + 2 * half[[first, last]])))
            for start in range(0, len(stack), slices):
                part = slice(start, start + slices)
                total[part] += _mean_modulus(stack[part], kernels, self.boundary)
        return response / len(planes)

    def _kernels(self, half: NDArray[np.int64], spacing: NDArray[np.float64]) -> list[NDArray[np.complex128]]:
        """Return one kernel per angle; opposite angles give the same modulus and are left out."""
        y, x = np.meshgrid(*(np.arange(-h, h + 1) * s for h, s in zip(half, spacing, strict=True)), indexing="ij")
        step = self.angle_step_deg or 360.0
        angles = np.unique(np.round((self.angle_deg + step * np.arange(round(360 / step))) % 180, 9) % 180)
        kernels = []
        for angle in np.deg2rad(angles):
            along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
            envelope = np.exp(-(along**2 + (self.aspect_ratio * across) ** 2) / (2 * self.sigma_mm**2))
            kernels.append(envelope * np.exp(2j * np.pi * along / self.wavelength_mm))
        return kernels


@dataclass(frozen=True, kw_only=True)
class Gradient(Filter):
    """Magnitude of the gradient per mm, by central differences. Not standardized by IBSI."""

    kind: ClassVar[str] = "gradient"
    boundary: Boundary = "nearest"

    def _name(self) -> str:
        return "gradient"

    def _reach(self, spacing: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.ones(3)

    def apply(self, array: NDArray[np.float64], spacing_kji_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (K, J, I) magnitude."""
        squares = np.zeros_like(array)
        for axis in self.axes:
            kernel = np.array([-0.5, 0, 0.5]) / spacing_kji_mm[axis]
            squares += ndimage.correlate1d(array, kernel, axis, mode=_NDIMAGE_MODES[self.boundary]) ** 2
        return np.sqrt(squares)


@dataclass(frozen=True, kw_only=True)
class LocalBinaryPattern(Filter):
    """Rotation-invariant uniform local binary pattern in each slice. Not standardized by IBSI.

    How many of `points` samples on a circle of `radius` pixels reach the center's intensity, if these lie side by side;
    else `points` + 1. Samples are interpolated bilinearly. Ojala 2002, doi 10.1109/TPAMI.2002.1017623.
    """

    kind: ClassVar[str] = "lbp"
    planar: bool = True
    radius: float = 1.0
    points: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.planar is True, "planar is true: the pattern is defined in a plane")
        self._require(_is_positive(self.radius), "radius is above 0")
        self._require(_is_whole(self.points) and 3 <= self.points <= 64, "points is 3 to 64")

    def _name(self) -> str:
        return f"lbp_radius_{self.radius:g}_points_{self.points}"

    def _reach(self, spacing: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.full(3, np.ceil(self.radius) + 1)

    def apply(self, array: NDArray[np.float64], spacing_kji_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (K, J, I) codes, 0 to points + 1."""
        pad = int(np.ceil(self.radius)) + 1
        padded = np.pad(array, ((0, 0), (pad, pad), (pad, pad)), mode=_PAD_MODES[self.boundary])
        angles = 2 * np.pi * np.arange(self.points) / self.points
        steps = np.round(self.radius * np.column_stack([-np.sin(angles), np.cos(angles)]), 9)  # 6e-17 is 0
        reached = np.stack([_shifted(padded, step, pad, array.shape) >= array for step in steps])
        changes = np.count_nonzero(reached != np.roll(reached, 1, axis=0), axis=0)
        return np.where(changes <= 2, np.count_nonzero(reached, axis=0), self.points + 1).astype(np.float64)


KINDS: dict[str, type[Filter]] = {
    kind.kind: kind for kind in (Mean, LaplacianOfGaussian, Wavelet, Laws, Gabor, Gradient, LocalBinaryPattern)
}


def filter_to_dict(chosen: Filter) -> dict[str, Any]:
    """Return the filter as plain data: its kind and its numbers."""
    return {"kind": chosen.kind, **asdict(chosen)}


def filter_from_dict(data: Any) -> Filter:
    """Return the filter described by plain data; what is left out keeps its default.

    Raises
    ------
    InputError
        If the kind or a name is unknown, or a value does not fit.
    """
    kind = KINDS.get(data.get("kind", "")) if isinstance(data, dict) else None
    if kind is None:
        raise InputError(f"A filter is an object with a 'kind' of {', '.join(KINDS)}.")
    values = {name: value for name, value in data.items() if name != "kind"}
    known = [field.name for field in fields(kind)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise InputError(f"Filter '{kind.kind}' has no '{unknown[0]}'; it has {', '.join(known)}.")
    return kind(**values)


def wavelet_bands(wavelet: str = "coif1", level: int = 1) -> tuple[Wavelet, ...]:
    """Return the filters of all eight bands of one level."""
    return tuple(Wavelet(wavelet=wavelet, band="".join(letters), level=level) for letters in product("LH", repeat=3))


def _pooled(pooling: str) -> str:
    return "" if pooling == "none" else f"_pooled_{pooling}"


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _is_positive(value: object) -> bool:
    return _is_finite(value) and float(value) > 0  # type: ignore[arg-type]  # _is_finite has seen that it is a number


def _local_mean(
    array: NDArray[np.float64], size: int, axes: tuple[int, ...], boundary: Boundary
) -> NDArray[np.float64]:
    for axis in axes:
        array = ndimage.uniform_filter1d(array, size, axis, mode=_NDIMAGE_MODES[boundary])
    return array


def _high_pass(low: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the quadrature mirror filter."""
    return low[::-1] * (-1.0) ** np.arange(1, len(low) + 1)


def _odd(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the kernel with a zero at its end if its length is even, so that turning it around moves it."""
    return np.append(kernel, 0.0) if len(kernel) % 2 == 0 else kernel


def _spread(kernel: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    """Return the kernel with step - 1 zeros between its weights (a trous)."""
    spread = np.zeros((len(kernel) - 1) * step + 1)
    spread[::step] = kernel
    return spread


def _rotations(dimensions: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Yield the right-angle rotations: for each axis, the axis it comes from and whether it is turned around (-1)."""
    for order in permutations(range(dimensions)):
        parity = round(float(np.linalg.det(np.eye(dimensions)[list(order)])))
        for signs in product((1, -1), repeat=dimensions):
            if parity * np.prod(signs) == 1:
                yield order, signs


def _convolve_rotated(
    array: NDArray[np.float64],
    chains: list[list[NDArray[np.float64]]],
    axes: tuple[int, ...],
    boundary: Boundary,
    pooling: Pooling,
) -> NDArray[np.float64]:
    """Return the response to 1-D kernels along I, J(, K), pooled over their rotations if wanted."""
    along = list(reversed(axes))  # the chains run along I first

    def turned(chain: list[NDArray[np.float64]], sign: int) -> Chain:
        return tuple(tuple(kernel[::sign].tolist()) for kernel in chain)

    if pooling == "none":
        sets = {tuple(turned(chain, 1) for chain in chains)}
    else:
        sets = {tuple(turned(chains[o], s) for o, s in zip(*turn, strict=True)) for turn in _rotations(len(axes))}
    responses = _responses(array, sorted(sets), along, boundary)
    pooled = next(responses)
    for response in responses:
        pooled = np.maximum(pooled, response) if pooling == "max" else pooled + response
    return pooled / len(sets) if pooling == "mean" else pooled


def _responses(
    array: NDArray[np.float64], sets: list[tuple[Chain, ...]], along: list[int], boundary: Boundary
) -> Iterator[NDArray[np.float64]]:
    """Yield the response to each set of chains; what sets have in common along the first axes is convolved once."""
    if not along:
        yield array
        return
    for chain in dict.fromkeys(one[0] for one in sets):
        response = array
        for kernel in chain:
            response = ndimage.convolve1d(response, np.array(kernel), along[0], mode=_NDIMAGE_MODES[boundary])
        yield from _responses(response, [one[1:] for one in sets if one[0] == chain], along[1:], boundary)


def _mean_modulus(
    stack: NDArray[np.float64], kernels: list[NDArray[np.complex128]], boundary: Boundary
) -> NDArray[np.float64]:
    """Return the mean modulus of the convolutions of (n, J, I) slices with complex (j, i) kernels of odd size."""
    size = kernels[0].shape
    pads = [(n // 2, n // 2) for n in size]
    padded = np.pad(stack, ((0, 0), *pads), mode=_PAD_MODES[boundary])
    shape = [fft.next_fast_len(n, real=True) for n in padded.shape[1:]]
    spectrum = fft.rfft2(padded, shape)
    valid = np.s_[:, size[0] - 1 : padded.shape[1], size[1] - 1 : padded.shape[2]]
    total = np.zeros_like(stack)
    for kernel in kernels:
        real, imaginary = (
            fft.irfft2(spectrum * fft.rfft2(np.ascontiguousarray(part), shape), shape)[valid]
            for part in (kernel.real, kernel.imag)
        )
        total += np.hypot(real, imaginary)
    return total / len(kernels)


def _shifted(
    padded: NDArray[np.float64], step: NDArray[np.float64], pad: int, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return the values one step (J, I) away, interpolated bilinearly."""
    whole = np.floor(step).astype(int)
    v, u = step - whole
    j, i = whole + pad

    def window(dj: int, di: int) -> NDArray[np.float64]:
        return padded[:, j + dj : j + dj + shape[1], i + di : i + di + shape[2]]

    upper = window(0, 0) if u == 0 else (1 - u) * window(0, 0) + u * window(0, 1)
    if v == 0:
        return upper
    lower = window(1, 0) if u == 0 else (1 - u) * window(1, 0) + u * window(1, 1)
    return (1 - v) * upper + v * lower
