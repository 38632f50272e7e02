"""Everything that is drawn as a number for one synthetic breast, and the ranges it is drawn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from BreastBiomarkersLib.errors import InputError

KINDS = ("mass", "lobulated", "spiculated", "rim", "non-mass")
KIND_SHARES = (0.22, 0.18, 0.20, 0.18, 0.22)
DIAMETER_RANGE_MM = (6.0, 60.0)


@dataclass(frozen=True)
class BreastPhantomSettings:
    """What the user chooses; the rest is drawn.

    Attributes
    ----------
    small : bool
        Coarse voxels (1.6 x 1.0 x 1.0 mm, about 70 x 120 x 100 of them): for demonstrations and tests.
    kind : str
        Lesion kind, one of `KINDS`, or "any".
    diameter_mm : float or None, mm
        Nominal lesion diameter, 6 to 60; None draws it.

    Raises
    ------
    InputError
        If the kind is unknown or the diameter outside 6 to 60 mm.
    """

    small: bool = False
    kind: str = "any"
    diameter_mm: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in (*KINDS, "any"):
            raise InputError(f"There is no lesion kind '{self.kind}'; use any, {', '.join(KINDS)}.")
        low, high = DIAMETER_RANGE_MM
        if self.diameter_mm is not None and not low <= self.diameter_mm <= high:
            raise InputError(
                f"A lesion diameter of {self.diameter_mm:g} mm is out of range; use {low:g} to {high:g} mm."
            )


@dataclass(frozen=True)
class Protocol:
    """A DCE acquisition: spacing (K, J, I) in mm, repetition time, flip angle, phase centers after injection."""

    name: str
    spacing_mm: tuple[float, float, float]
    repetition_ms: float
    flip_degrees: float
    phase_minutes: tuple[float, ...]


PROTOCOLS = (
    Protocol("thick slices", (1.7, 0.379, 0.379), 4.43, 10.0, (1.5, 3.0, 4.5, 6.0)),
    Protocol("thin slices", (1.0, 0.511, 0.511), 4.43, 10.0, (1.5, 3.0, 4.5, 6.0)),
    Protocol("trial median", (2.0, 0.68, 0.68), 8.0, 20.0, (2.3, 5.0, 7.9)),
)
SMALL_PROTOCOL = Protocol("small", (1.6, 1.0, 1.0), 4.43, 10.0, (1.5, 3.0, 4.5, 6.0))


@dataclass(frozen=True)
class BreastParameters:
    """The numbers drawn for one case.

    ========================= ============================================== ==========================================
    field                     drawn from                                     source
    ========================= ============================================== ==========================================
    protocol                  three protocols                                Zhong & Wang 2023 (the first two); I-SPY
                                                                             pilot and I-SPY 2 median (the third)
    half_width, _height, depth 42-55, 46-60, 55-80 mm                        own choice: 220 to 550 ml of breast
    outline_exponent          1.7-2.3 (2 is an ellipsoid, less is pointed)   own choice, pointed as prone breasts are
    droop_mm                  0-10                                           own choice
    skin_mm                   normal, 1.44 (sd 0.25), 0.9-2.3                Shi 2013, doi:10.1118/1.4793257; thicker at
                                                                             the nipple by own choice
    muscle_mm                 8-14                                           own choice
    density                   Beta(1.5, 4) in 0.04-0.75 of the volume        mean 0.19, 95 % below 0.45 (Yaffe, Med Phys
                                                                             36:5437, 2009); denser by own choice
    gland_exponent            2.6-3.2                                        power law of breast texture (Burgess, Med
                                                                             Phys 28:419, 2001)
    vessels                   3-7                                            own choice
    kind                      mass 22, lobulated 18, spiculated 20, rim 18,  own choice, non-mass enlarged so that it
                              non-mass 22 %                                  is not learned as an exception
    diameter_mm               log-normal, median 22, sd of log 0.45, 6-60    between screening-detected cancers (about
                                                                             15) and I-SPY 2 (30; 17 to 58)
    fat_suppressed            75 %; residual fat signal 6-18 %               one real case: fat a fifth of the gland
    fat_t1_s                  0.30 (sd 0.02)                                 1.5 T: Rakow-Penner, J Magn Reson Imaging
    gland_t1_s                1.27 (sd 0.10)                                 23:87, 2006
    tumor_t1_s                1.30 (sd 0.12)                                 own choice: like gland
    tumor_ktrans_per_min      log-normal, median 0.12 (0.08 non-mass),       set so that early enhancement resembles one
                              sd of log 0.45                                 real case and curve types those of cancers:
                                                                             9 % persistent, 34 % plateau, 57 % washout
                                                                             (Kuhl, Radiology 211:101, 1999)
    tumor_spread              sd of log within the lesion, 0.25-0.55         matched to one real case (0.37 with noise)
    tumor_ve, tumor_vp        0.12-0.45, 0.02-0.08                           as for tumor_ktrans_per_min
    gland_ktrans_per_min      log-normal, median 0.022, sd of log 0.7        enhancement minimal or mild in most women,
                                                                             marked in few
    gland_spread              sd of log within the gland, 0.3-0.6            own choice
    coil_fall_off_mm          60-120                                         own choice
    coil_spread               5-18 % unevenness                              own choice
    snr                       8-30 on gland before injection                one real case: about 9
    blur_voxels               0.40-0.50, in-plane                            own choice
    motion_mm                 sd of the rigid shift from phase to phase,     own choice
                              half-normal with scale 0.35
    breathing_mm              0-0.25, oscillation within a phase             own choice
    ========================= ============================================== ==========================================

    Lengths are in mm, relaxation times in s, transfer constants in 1/min. "own choice" marks figures without a source.
    """

    laterality: str
    protocol: Protocol
    half_width_mm: float
    half_height_mm: float
    depth_mm: float
    outline_exponent: float
    droop_mm: float
    skin_mm: float
    muscle_mm: float
    density: float
    gland_exponent: float
    vessels: int
    kind: str
    diameter_mm: float
    fat_suppressed: bool
    fat_residual: float
    fat_t1_s: float
    gland_t1_s: float
    tumor_t1_s: float
    tumor_ktrans_per_min: float
    tumor_spread: float
    tumor_ve: float
    tumor_vp: float
    gland_ktrans_per_min: float
    gland_spread: float
    coil_fall_off_mm: float
    coil_spread: float
    snr: float
    blur_voxels: float
    motion_mm: float
    breathing_mm: float


def draw_parameters(settings: BreastPhantomSettings, rng: np.random.Generator) -> BreastParameters:
    """Draw the numbers of one case; the table of `BreastParameters` gives the distributions."""

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    def log_normal(median: float, spread: float) -> float:
        return float(median * np.exp(spread * rng.standard_normal()))

    kind = str(rng.choice(KINDS, p=KIND_SHARES))
    diameter = float(np.clip(log_normal(22.0, 0.45), *DIAMETER_RANGE_MM))
    protocol = PROTOCOLS[int(rng.integers(len(PROTOCOLS)))]
    kind = kind if settings.kind == "any" else settings.kind
    fat_suppressed = bool(rng.random() < 0.75)
    fat_residual = between(0.06, 0.18)
    return BreastParameters(
        laterality=str(rng.choice(["L", "R"])),
        protocol=SMALL_PROTOCOL if settings.small else protocol,
        half_width_mm=between(42, 55),
        half_height_mm=between(46, 60),
        depth_mm=between(55, 80),
        outline_exponent=between(1.7, 2.3),
        droop_mm=between(0, 10),
        skin_mm=float(np.clip(1.44 + 0.25 * rng.standard_normal(), 0.9, 2.3)),
        muscle_mm=between(8, 14),
        density=float(np.clip(rng.beta(1.5, 4.0), 0.04, 0.75)),
        gland_exponent=between(2.6, 3.2),
        vessels=int(rng.integers(3, 8)),
        kind=kind,
        diameter_mm=diameter if settings.diameter_mm is None else float(settings.diameter_mm),
        fat_suppressed=fat_suppressed,
        fat_residual=fat_residual if fat_suppressed else 1.0,
        fat_t1_s=0.30 + 0.02 * float(rng.standard_normal()),
        gland_t1_s=1.27 + 0.10 * float(rng.standard_normal()),
        tumor_t1_s=1.30 + 0.12 * float(rng.standard_normal()),
        tumor_ktrans_per_min=log_normal(0.08 if kind == "non-mass" else 0.12, 0.45),
        tumor_spread=between(0.25, 0.55),
        tumor_ve=between(0.12, 0.45),
        tumor_vp=between(0.02, 0.08),
        gland_ktrans_per_min=log_normal(0.022, 0.7),
        gland_spread=between(0.3, 0.6),
        coil_fall_off_mm=between(60, 120),
        coil_spread=between(0.05, 0.18),
        snr=between(8, 30),
        blur_voxels=between(0.40, 0.50),
        motion_mm=abs(0.35 * float(rng.standard_normal())),
        breathing_mm=between(0, 0.25),
    )
