"""A synthetic breast DCE-MRI case with known lesion and tissues, from one seed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_folder
from BreastBiomarkersLib.points import LabeledPoints, write_points
from BreastBiomarkersLib.progress import Progress, ignore_progress, portion
from BreastBiomarkersLib.volume import Volume, write_volume
from numpy.typing import NDArray

from WeakSegmentLib.breast_acquisition import draw_scanner, draw_shifts, draw_uptake
from WeakSegmentLib.breast_anatomy import Anatomy, Field, Grid, breast_grid, build_anatomy, draw_vessels
from WeakSegmentLib.breast_lesion import LesionShape, VoxelLesion, draw_lesion, voxelize
from WeakSegmentLib.breast_parameters import BreastParameters, BreastPhantomSettings, draw_parameters
from WeakSegmentLib.points import extreme_points_of_mask

GENERATOR_VERSION = 1
"""Raised whenever the same seed would give another case."""


_FEWEST_SLICES = 4
"""Nominal lesion diameter, at least, in slices."""

_MOST_DRAWS = 50


class Tissue(IntEnum):
    """Values of the tissue map."""

    AIR = 0
    SKIN = 1
    FAT = 2
    FIBROGLANDULAR = 3
    MUSCLE = 4
    VESSEL = 5
    LESION = 6


@dataclass(frozen=True, eq=False)
class BreastCase:
    """A simulated examination of one breast and its truth; all volumes share one grid.

    Attributes
    ----------
    pre : Volume, int16
        Before injection, arbitrary units.
    post : tuple of Volume, int16
        After injection, in order of `phase_minutes`.
    lesion : Volume, bool
        True lesion mask.
    tissue : Volume, uint8
        The tissue with the largest share of each voxel (`Tissue`); lung counts as air.
    points : LabeledPoints
        Extreme points of the lesion, named after the patient's six directions, RAS mm: centers of outermost voxels.
    phase_minutes : tuple of float, min
        Time after injection of each `post`.
    parameters : dict
        Everything that was drawn, fit for JSON.
    """

    pre: Volume
    post: tuple[Volume, ...]
    lesion: Volume
    tissue: Volume
    points: LabeledPoints
    phase_minutes: tuple[float, ...]
    parameters: dict[str, Any]


def simulate_breast_case(
    settings: BreastPhantomSettings, seed: int, progress: Progress = ignore_progress
) -> BreastCase:
    """Return a synthetic breast DCE-MRI case; the same settings and seed give the same case.

    Parameters
    ----------
    settings : BreastPhantomSettings
    seed : int
        0 or greater.
    progress : Progress
        Called between steps; may raise `Cancelled`.

    Raises
    ------
    InputError
        If the seed is negative.

    Notes
    -----
    `BreastParameters` lists what is drawn, from which ranges, with sources. Outline, muscle and lesions are level sets,
    gland is a thresholded random field with a power-law spectrum; a voxel's signal is the sum of the spoiled gradient
    echo signals of the tissues in it (extended Tofts kinetics, population arterial input), times coil sensitivity,
    moved rigidly, blurred, with Rician noise.
    """
    if seed < 0:
        raise InputError(f"The seed {seed} is negative; use 0 or greater.")
    anatomy_rng, lesion_rng, kinetics_rng, scanner_rng = np.random.default_rng([seed, 2]).spawn(4)
    parameters = draw_parameters(settings, np.random.default_rng([seed, 1]))
    grid = breast_grid(parameters)
    progress(0.0, "Simulating the breast")
    anatomy = build_anatomy(grid, parameters, anatomy_rng)
    progress(0.3, "Simulating the lesion")
    center, diameter = _place_lesion(grid, anatomy, parameters, lesion_rng)
    shape, lesion = _draw_resolved_lesion(grid, anatomy, parameters.kind, center, diameter, lesion_rng)
    shares = _tissue_shares(anatomy, lesion, draw_vessels(grid, anatomy, parameters, center, anatomy_rng))
    progress(0.4, "Simulating contrast uptake")
    minutes = (0.0, *parameters.protocol.phase_minutes)
    uptake = draw_uptake(grid, shares, lesion.core, anatomy.texture, parameters, kinetics_rng)
    scanner = draw_scanner(grid, anatomy, parameters, scanner_rng)
    shifts = draw_shifts(len(minutes), parameters, scanner_rng)
    ijk_to_ras = _ijk_to_ras(grid, parameters, anatomy_rng)
    phases = []
    for n, time in enumerate(minutes):
        progress(0.45 + 0.5 * n / len(minutes), f"Simulating phase {n + 1} of {len(minutes)}")
        image = scanner.acquire(uptake.signal(time), shifts[n], parameters.breathing_mm, scanner_rng)
        phases.append(Volume(image, ijk_to_ras, f"post-contrast {n}" if n else "pre-contrast"))
    mask = Volume(lesion.mask, ijk_to_ras, "lesion")
    drawn = asdict(parameters) | {
        "generator_version": GENERATOR_VERSION,
        "seed": seed,
        "settings": asdict(settings),
        "lesion_center_local_mm": center.tolist(),
        "lesion_diameter_mm": diameter,
        "lesion_volume_ml": float(mask.array.sum() * mask.voxel_volume_mm3 / 1000),
        "spicules": len(shape.spicules),
        "spicules_left_out_of_mask": lesion.spicules_left_out,
        "shifts_mm_kji": shifts.tolist(),
    }
    points = extreme_points_of_mask(mask)
    progress(1.0, "Simulated")
    return BreastCase(
        pre=phases[0],
        post=tuple(phases[1:]),
        lesion=mask,
        tissue=Volume(_tissue_map(shares, mask.array), ijk_to_ras, "tissue"),
        points=LabeledPoints(list(points.roles), points.positions_ras),
        phase_minutes=minutes[1:],
        parameters=drawn,
    )


def write_breast_case(case: BreastCase, folder: str | Path) -> None:
    """Write pre.nrrd, post1.nrrd ..., lesion.nrrd, tissue.nrrd, points.mrk.json and case.json, all or nothing.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    with atomic_folder(folder) as temporary:
        write_volume(case.pre, temporary / "pre.nrrd")
        for n, volume in enumerate(case.post, start=1):
            minutes = f"{case.phase_minutes[n - 1]:g}"
            write_volume(volume, temporary / f"post{n}.nrrd", {"minutes_after_injection": minutes})
        write_volume(case.lesion, temporary / "lesion.nrrd")
        write_volume(case.tissue, temporary / "tissue.nrrd")
        write_points(case.points, temporary / "points.mrk.json")
        description = {
            "phase_minutes": list(case.phase_minutes),
            "tissues": {tissue.name.lower(): int(tissue) for tissue in Tissue},
            "parameters": case.parameters,
        }
        (temporary / "case.json").write_text(json.dumps(description, indent=1, allow_nan=False), encoding="utf-8")


def simulate_breast_cohort(
    folder: str | Path,
    settings: BreastPhantomSettings,
    cases: int,
    seed: int,
    progress: Progress = ignore_progress,
) -> int:
    """Write cases with the seeds `seed`, `seed` + 1 ... into folders named after them; return how many were written.

    Cases that are there already, with the same seed and settings, are left alone: an interrupted run goes on.

    Raises
    ------
    InputError
        If `cases` is not positive, the seed negative, a case folder holds something else, or nothing can be written.
    """
    if cases < 1:
        raise InputError(f"{cases} cases cannot be simulated; ask for 1 or more.")
    written = 0
    for n in range(cases):
        target = Path(folder) / f"case_{seed + n:05d}"
        if _is_there(target, settings, seed + n):
            continue
        part = portion(progress, n / cases, (n + 1) / cases)
        write_breast_case(simulate_breast_case(settings, seed + n, portion(part, 0, 0.9)), target)
        written += 1
    progress(1.0, f"{written} of {cases} cases written")
    return written


def _is_there(folder: Path, settings: BreastPhantomSettings, seed: int) -> bool:
    """Tell whether the folder holds this case; raise if it holds something else."""
    if not folder.exists():
        return False
    try:
        found = json.loads((folder / "case.json").read_text(encoding="utf-8"))["parameters"]
        same = all(
            found[key] == value
            for key, value in (("seed", seed), ("settings", asdict(settings)), ("generator_version", GENERATOR_VERSION))
        )
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise InputError(f"'{folder}' holds another case. Choose another output folder.")
    return True


def _place_lesion(
    grid: Grid, anatomy: Anatomy, parameters: BreastParameters, rng: np.random.Generator
) -> tuple[NDArray[np.float64], float]:
    """Return the center (r, s, a in mm) and the diameter that fits there; gland attracts lesions.

    A lesion stays 4 mm below the skin surface and 2 mm in front of the muscle, up to its nominal radius; where the
    breast has no place for the drawn diameter, it shrinks to the largest that fits, and grows where it would not be
    seen on enough slices.
    """
    step = tuple(max(1, round(2.0 / h)) for h in grid.spacing)
    thin = tuple(slice(None, None, n) for n in step)
    r, s, a = np.broadcast_arrays(*grid.axes())
    room = np.minimum(anatomy.depth[thin] - 4, a[thin] - 2)
    room = np.where(anatomy.breast[thin] > 0.9, room, 0)
    diameter = max(parameters.diameter_mm, _FEWEST_SLICES * max(grid.spacing))
    diameter = min(diameter, 2 * float(room.max()) / 1.05)
    weight = np.where(room >= 1.05 * diameter / 2 - 1e-6, 0.15 + anatomy.gland[thin], 0).ravel().astype(np.float64)
    chosen = int(rng.choice(weight.size, p=weight / weight.sum()))
    center = np.array([float(x[thin].ravel()[chosen]) for x in (r, s, a)])
    return center, float(diameter)


def _draw_resolved_lesion(
    grid: Grid, anatomy: Anatomy, kind: str, center: NDArray[np.float64], diameter: float, rng: np.random.Generator
) -> tuple[LesionShape, VoxelLesion]:
    """Draw lesions until one has six extreme points on the grid; its mask stays within the breast."""
    for _ in range(_MOST_DRAWS):
        shape = draw_lesion(kind, diameter, center, anatomy.nipple, rng)
        lesion = voxelize(shape, grid, rng)
        lesion = replace(lesion, mask=lesion.mask & (anatomy.breast > 0.5))
        try:
            extreme_points_of_mask(Volume(lesion.mask, np.eye(4)))
        except InputError:
            continue
        return shape, lesion
    raise RuntimeError(f"No {kind} lesion of {diameter:.1f} mm is resolved by voxels of {grid.spacing} mm.")


def _tissue_shares(anatomy: Anatomy, lesion: VoxelLesion, vessel: Field) -> dict[str, Field]:
    """Return the shares of all tissues; the lesion, which stays within the breast, comes first, then vessels."""
    tumor = lesion.share * anatomy.breast
    rest = 1 - tumor
    vessel = vessel * rest
    rest = rest - vessel
    shares = {name: getattr(anatomy, name) * rest for name in ("skin", "fat", "gland", "muscle")}
    return {**shares, "vessel": vessel, "lesion": tumor}


def _tissue_map(shares: dict[str, Field], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the tissue with the largest share; the lesion is where its mask is."""
    order = {"skin": Tissue.SKIN, "fat": Tissue.FAT, "gland": Tissue.FIBROGLANDULAR, "muscle": Tissue.MUSCLE}
    best = 1 - sum(shares.values())
    tissue = np.zeros(mask.shape, dtype=np.uint8)
    for name, value in {**order, "vessel": Tissue.VESSEL}.items():
        larger = shares[name] > best
        tissue[larger] = value
        best = np.maximum(best, shares[name])
    tissue[mask] = Tissue.LESION
    return tissue


def _ijk_to_ras(grid: Grid, parameters: BreastParameters, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the matrix that puts the local frame to the left or right of the patient's midline."""
    k, j, i = grid.spacing
    side = 1 if parameters.laterality == "R" else -1
    place = np.array([side * rng.uniform(80, 105), rng.uniform(45, 75), rng.uniform(-40, 40)]).round(1)
    r, s, a = grid.corner
    matrix = np.zeros((4, 4))
    matrix[0, 2], matrix[1, 0], matrix[2, 1], matrix[3, 3] = k, -i, -j, 1.0
    matrix[:3, 3] = place + (r, a, s)
    return matrix
