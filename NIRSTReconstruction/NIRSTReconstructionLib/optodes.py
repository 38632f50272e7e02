"""Where the light goes in and out: source and detector positions in the plane, and the pairs that are measured."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from BreastBiomarkersLib.errors import InputError
from numpy.typing import NDArray

from NIRSTReconstructionLib.mesh import TriangleMesh

MAX_CHANNELS = 100_000


@dataclass(frozen=True, eq=False)
class Optodes:
    """Sources, detectors and the channels between them.

    Attributes
    ----------
    sources : (S, 2) ndarray, mm
        Where the model's point sources are, in plane coordinates.
    detectors : (D, 2) ndarray, mm
        Where light is collected.
    channels : (C, 2) ndarray of int
        Source index and detector index of each measured pair, from 0.

    Raises
    ------
    InputError
        If shapes do not fit, a position is not finite, an index does not exist, a pair is listed twice, or source and
        detector of a channel are at one place.
    """

    sources: NDArray[np.float64]
    detectors: NDArray[np.float64]
    channels: NDArray[np.int64]

    def __post_init__(self) -> None:
        for name in ("sources", "detectors"):
            positions = np.array(getattr(self, name), dtype=np.float64)
            if positions.ndim != 2 or positions.shape[1] != 2 or len(positions) == 0:
                raise InputError(f"The {name} have the shape {positions.shape}; (number, 2) in mm is needed.")
            if not np.isfinite(positions).all():
                row = int(np.flatnonzero(~np.isfinite(positions).all(axis=1))[0])
                raise InputError(f"The position of {name[:-1]} {row + 1} is not a number. Correct it.")
            object.__setattr__(self, name, positions)
        channels = np.array(self.channels)
        if channels.ndim != 2 or channels.shape[1] != 2 or len(channels) == 0:
            raise InputError(f"The channels have the shape {channels.shape}; (number, 2) indices are needed.")
        if len(channels) > MAX_CHANNELS:
            raise InputError(f"There are {len(channels)} channels; at most {MAX_CHANNELS} are accepted.")
        if not np.issubdtype(channels.dtype, np.integer):
            raise InputError("Channels are pairs of whole numbers: source index, detector index.")
        channels = channels.astype(np.int64)
        if channels.min() < 0 or channels[:, 0].max() >= len(self.sources):
            raise InputError(f"A channel names a source that is not among the {len(self.sources)} sources.")
        if channels[:, 1].max() >= len(self.detectors):
            raise InputError(f"A channel names a detector that is not among the {len(self.detectors)} detectors.")
        unique, count = np.unique(channels, axis=0, return_counts=True)
        if count.max() > 1:
            s, d = unique[count.argmax()] + 1
            raise InputError(f"The channel from source {s} to detector {d} is listed twice. Keep one.")
        object.__setattr__(self, "channels", channels)
        if self.distances.min() < 1e-6:
            s, d = channels[self.distances.argmin()] + 1
            raise InputError(f"Source {s} and detector {d} of one channel are at the same place. Remove the channel.")

    @property
    def distances(self) -> NDArray[np.float64]:
        """(C,) distance from source to detector of each channel in mm."""
        difference = self.sources[self.channels[:, 0]] - self.detectors[self.channels[:, 1]]
        return np.linalg.norm(difference, axis=1)

    @property
    def layout_id(self) -> str:
        """Short fingerprint of positions (to 0.01 mm) and channels: equal for equal layouts."""
        digest = hashlib.sha256()
        for positions in (self.sources, self.detectors):
            digest.update((np.round(positions, 2) + 0.0).tobytes())  # + 0.0: no negative zeros
        digest.update(self.channels.tobytes())
        return digest.hexdigest()[:16]


def ring_optodes(
    radius_mm: float = 41.0, count: int = 16, start_angle: float = 0.0, clockwise: bool = False
) -> Optodes:
    """Return fibers equally spaced on a circle around the origin, each both source and detector.

    Channels are source by source; for source s the detectors follow in the order s+1, s+2, ... around the ring, so
    turning the object by one fiber shifts whole blocks of channels (Feng 2022, doi 10.1364/OPTICA.446576).
    The sources are on the rim; `place_optodes` moves them into the tissue.

    Parameters
    ----------
    radius_mm : float
    count : int
        Number of fibers, at least 2.
    start_angle : float, radian
        Angle of fiber 1 from the first plane axis.
    clockwise : bool
        Whether numbers run clockwise.

    Raises
    ------
    InputError
        If there are fewer than two fibers or the radius is not positive.
    """
    if count < 2:
        raise InputError(f"A ring of {count} fibers has no channel; at least 2 are needed.")
    if not radius_mm > 0:
        raise InputError(f"The ring radius is {radius_mm} mm; it must be positive.")
    angles = start_angle + (-1 if clockwise else 1) * 2 * np.pi * np.arange(count) / count
    positions = radius_mm * np.column_stack([np.cos(angles), np.sin(angles)])
    source = np.repeat(np.arange(count), count - 1)
    detector = (source + np.tile(np.arange(1, count), count)) % count
    return Optodes(positions, positions, np.column_stack([source, detector]))


def place_optodes(mesh: TriangleMesh, optodes: Optodes, musp: float = 1.0, tolerance_mm: float = 3.0) -> Optodes:
    """Return the optodes set onto the mesh: detectors on the rim, sources one transport length 1/musp inside it.

    A point source 1/musp inside stands for a narrow beam that enters at the rim (Haskell 1994,
    doi 10.1364/JOSAA.11.002727). Give sources as fibers touch the skin; sources that are already inside by more than
    the tolerance are refused rather than moved.

    All wavelengths share one depth. With that of each wavelength (0.66 to 0.95 mm instead of 0.80 mm from 661 to 948 nm
    in an 82 mm disc) ln I changes by -9 to +6 %, alike in all channels of a wavelength to 0.2 %, and a log-ratio by
    0.03 %: a factor per wavelength, which every treatment of gains but "none" leaves free.

    Parameters
    ----------
    mesh : TriangleMesh
    optodes : Optodes
        Fiber tips in mm.
    musp : float, mm^-1
        Reduced scattering at the rim, for all wavelengths one value (their mean).
    tolerance_mm : float
        How far from the rim a fiber tip may be.

    Raises
    ------
    InputError
        If a fiber is too far from the rim, or a source would leave the mesh on its other side.
    """
    if not 0.05 <= musp <= 20:
        raise InputError(f"musp is {musp:g} 1/mm; 0.05 to 20 is plausible. Check the unit (1/mm, not 1/cm).")
    moved = {}
    for name in ("sources", "detectors"):
        rim, inward, distance = mesh.project_to_boundary(getattr(optodes, name))
        if distance.max() > tolerance_mm:
            worst = int(distance.argmax())
            raise InputError(
                f"{name[:-1].capitalize()} {worst + 1} is {distance[worst]:.1f} mm from the contour (limit "
                f"{tolerance_mm:g} mm). Check units and position, or rebuild the contour."
            )
        moved[name] = rim if name == "detectors" else rim + inward / musp
    if not mesh.contains(moved["sources"]).all():
        worst = int(np.flatnonzero(~mesh.contains(moved["sources"]))[0])
        raise InputError(
            f"Source {worst + 1} moved {1 / musp:.2f} mm inward leaves the mesh. The body is too thin there."
        )
    return Optodes(moved["sources"], moved["detectors"], optodes.channels)
