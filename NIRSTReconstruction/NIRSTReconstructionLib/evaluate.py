"""The paper's table and the sets it does not have: networks, physics and model-based methods on phantoms never seen.

Every row of the table is one set, one method and one chromophore, of the first so many phantoms of the set. The table
is written after each method, and a repeated call does only what is missing.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path
from BreastBiomarkersLib.progress import Progress, ignore_progress, portion
from numpy.typing import NDArray

from NIRSTReconstructionLib.dataset import DatasetSettings, generate_dataset
from NIRSTReconstructionLib.fibers import Fibers
from NIRSTReconstructionLib.measurements import Measurements
from NIRSTReconstructionLib.meshing import ellipse_contour
from NIRSTReconstructionLib.metrics import AREAS, lesion_contrast, score_image
from NIRSTReconstructionLib.network_data import (
    Looks,
    PhantomSet,
    concentrations,
    inclusion_masks,
    look,
    model_of,
    pixel_grid,
    read_phantom_set,
    reference_light,
)
from NIRSTReconstructionLib.network_settings import OUTPUT_SCALE, OUTPUTS, NetworkSettings, PhysicsSettings, Variation
from NIRSTReconstructionLib.networks import (
    MODEL,
    Eyes,
    LightScale,
    TrainedNetwork,
    assumed_set,
    eyes_of,
    read_network,
    relative_to_standard,
    run,
)
from NIRSTReconstructionLib.one_step import mri_regions
from NIRSTReconstructionLib.plane import Plane, SliceGrid
from NIRSTReconstructionLib.reconstruct import METHODS, ReconstructionSettings, reconstruct
from NIRSTReconstructionLib.simulate_command import FINE_ELEMENT_MM, FINE_OPTODE_ELEMENT_MM

_log = logging.getLogger(__name__)

SEED = 900_000
"""Of the test sets: phantoms of training sets with other seeds are others."""
PHYSICS_METHODS = ("linear-mmse", "guided-step")
"""The hybrid's inputs as images of their own: one step from the light alone, and with the MRI's regions."""
COLUMNS = (
    "set",
    "method",
    "version",
    "chromophore",
    "unit",
    "cases",
    "failed",
    "pixels",
    *(f"{figure}_{area}_{part}" for area in AREAS for figure in ("mse", "psnr_db", "ssim") for part in ("mean", "sd")),
    "inclusion_error_percent",
    "contrast_true",
    "contrast",
    "contrast_error",
    "covered_95_percent",
    "cpu_seconds",
)
_NO_MISMATCH: dict[str, Any] = {"no_contrast": 0.0, "mri_invisible": 0.0, "shard_size": 1}
_SEGMENTED = ("soft-prior", "hard-prior")
_TOGETHER = 32  # cases that are seen at one time


@dataclass(frozen=True)
class TestSet:
    """Phantoms and how they are seen.

    Attributes
    ----------
    dataset : DatasetSettings
        Count and seed are set by `evaluate`.
    variation : Variation
    every_other_fiber : bool
        Only every second fiber works.
    """

    __test__ = False

    dataset: DatasetSettings = DatasetSettings()
    variation: Variation = Variation()
    every_other_fiber: bool = False


TEST_SETS = {
    "matched": TestSet(),
    "three-inclusions": TestSet(DatasetSettings(inclusion_count=3)),
    "half-the-optodes": TestSet(every_other_fiber=True),
    "no-contrast": TestSet(DatasetSettings(no_contrast=1.0)),
    "mri-invisible": TestSet(DatasetSettings(mri_invisible=1.0)),
    "gains-5": TestSet(variation=Variation(gain_sd=(0.05, 0.05))),
    "gains-20": TestSet(variation=Variation(gain_sd=(0.2, 0.2))),
    "noise-1": TestSet(variation=Variation(noise=(0.01, 0.01))),
    "noise-3": TestSet(variation=Variation(noise=(0.03, 0.03))),
    "noise-5": TestSet(variation=Variation(noise=(0.05, 0.05))),
    "mri-shift-1": TestSet(variation=Variation(mri_shift_mm=(1.0, 1.0))),
    "mri-shift-3": TestSet(variation=Variation(mri_shift_mm=(3.0, 3.0))),
    "mri-shift-5": TestSet(variation=Variation(mri_shift_mm=(5.0, 5.0))),
    "finer-mesh": TestSet(
        DatasetSettings(element_size_mm=FINE_ELEMENT_MM, optode_element_size_mm=FINE_OPTODE_ELEMENT_MM)
    ),
    "point-sources": TestSet(DatasetSettings(source_model="point")),
}
"""Test sets; where nothing is said, 1 or 2 inclusions of the `paper-like` preset and 2 % noise."""


@dataclass(frozen=True, eq=False)
class _Result:
    """Images of some cases (n, 3, Y, X) in uM, uM, percent, their standard deviations, and CPU seconds for each case.

    An image that a method could not make is NaN.
    """

    images: NDArray[np.float64]
    sd: NDArray[np.float64] | None
    seconds: list[float]


@dataclass(frozen=True, eq=False)
class _Cases:
    """The first `count` phantoms of a test set, to be seen with `pixels` across the disc."""

    phantoms: PhantomSet
    test: TestSet
    count: int
    pixels: int
    progress: Progress

    def looks(self) -> Iterator[tuple[PhantomSet, Looks]]:
        """Yield the looks at the cases in chunks; each case looks the same to all methods of equal pixels."""
        for first in range(0, self.count, _TOGETHER):
            self.progress(first / self.count, "")
            some = self.phantoms.take(slice(first, first + _TOGETHER))  # drawn whole: what is wanted changes no draw
            looks = look(some, self.pixels, self.test.variation, torch.Generator().manual_seed(SEED + first))
            if self.test.every_other_fiber:
                works = (model_of(some.settings).optodes.channels % 2 == 0).all(axis=1)
                looks = looks._replace(active=looks.active & torch.as_tensor(works))
            wanted = self.count - first
            yield some.take(slice(0, wanted)), Looks(*(values[:wanted] for values in looks))


_Job = tuple[str, str, int, int, Callable[[_Cases], _Result]]
"""Title, version, number of cases, pixels, and what makes the images."""


_Known = dict[str, Eyes]
"""What stands between set-ups and networks, once made: most sets have the same body and fibers."""


def evaluate(
    networks: Sequence[str | Path],
    data: str | Path,
    output: str | Path,
    *,
    sets: Sequence[str] = tuple(TEST_SETS),
    methods: Sequence[str] = (*PHYSICS_METHODS, "tikhonov", "dri", "hard-prior", "adaptive"),
    count: int = 2000,
    other_count: int = 200,
    slow_count: int = 20,
    progress: Progress = ignore_progress,
    device: str | None = None,
    note: str = "",
) -> dict[str, Any]:
    """Fill the table of methods and test sets; go on where an earlier call stopped.

    Parameters
    ----------
    networks : sequence of str or Path
        Weights files.
    data : str or Path
        Folder in which the test sets are made, once.
    output : str or Path
        CSV with the columns `COLUMNS`.
    sets : sequence of str
        Some of `TEST_SETS`.
    methods : sequence of str
        Some of `PHYSICS_METHODS` and `reconstruct.METHODS`.
    count, other_count : int
        Phantoms of the matched set, and of every other set, for networks and physics.
    slow_count : int
        For methods of `reconstruct`, which take a second or more for each: the first so many.
    progress : Progress
    device : str, optional
    note : str
        What made the table, for its first line.

    Returns
    -------
    dict
        `rows` of the table, `added` now.

    Raises
    ------
    InputError
        If a name is unknown, a weights file cannot be used, or the CSV is not such a table.
    """
    for given, choices in ((sets, tuple(TEST_SETS)), (methods, (*PHYSICS_METHODS, *METHODS))):
        unknown = [name for name in given if name not in choices]
        if unknown:
            raise InputError(f"Unknown '{unknown[0]}'; choose from {', '.join(choices)}.")
    trained = [read_network(path, device) for path in networks]
    versions = [hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12] for path in networks]
    titles = [_title(Path(path)) for path in networks]
    rows = _read_rows(Path(output))
    before = len(rows)
    known: _Known = {}
    for n, name in enumerate(sets):
        part = portion(progress, n / len(sets), (n + 1) / len(sets))
        wanted = count if name == "matched" else other_count
        jobs = _jobs(trained, list(zip(titles, versions, strict=True)), methods, wanted, slow_count, known)
        jobs = [job for job in jobs if not _is_there(rows, name, *job[:4])]
        if not jobs:
            continue
        part(0.0, f"{name}: phantoms")
        cases = _cases(Path(data), name, wanted)
        for k, (title, version, number, size, job) in enumerate(jobs):
            report = _named(portion(part, k / len(jobs), (k + 1) / len(jobs)), f"{name}: {title}")
            chosen = replace(cases, count=number, pixels=size, progress=report)
            rows = [row for row in rows if (row["set"], row["method"]) != (name, title)]
            rows += _rows(chosen, name, title, version, job)
            _write_rows(rows, Path(output), note)
    progress(1.0, "done")
    return {"rows": len(rows), "added": max(len(rows) - before, 0), "output": str(output)}


def _jobs(
    networks: Sequence[TrainedNetwork],
    names: Sequence[tuple[str, str]],
    methods: Sequence[str],
    count: int,
    slow_count: int,
    known: _Known,
) -> list[_Job]:
    """Return what makes the rows of one test set: networks with their titles and versions, physics, reconstructions.

    Physics takes the pixels of the first network, whose inputs it makes; reconstructions those of the published ones.
    """
    first = networks[0].settings if networks else NetworkSettings()
    jobs: list[_Job] = [
        (title, version, count, network.settings.pixels, _network_job(network, known))
        for (title, version), network in zip(names, networks, strict=True)
    ]
    for method in methods:
        if method in PHYSICS_METHODS:
            jobs.append((method, "1", count, first.pixels, _physics_job(method, first.physics, known)))
        else:
            jobs.append((method, "1", min(slow_count, count), NetworkSettings().pixels, _model_based_job(method)))
    return jobs


def _cases(data: Path, name: str, count: int) -> _Cases:
    """Return the phantoms of a test set, made if they are not there."""
    test = TEST_SETS[name]
    settings = replace(test.dataset, count=count, seed=SEED, shard_size=min(count, 500))
    folder = data / f"test_{hashlib.sha256(repr(settings).encode()).hexdigest()[:10]}"
    generate_dataset(folder, settings, device="auto")
    return _Cases(read_phantom_set(folder), test, count, 0, ignore_progress)


def _eyes(
    known: _Known,
    phantoms: PhantomSet,
    settings: NetworkSettings,
    scale: LightScale | None,
    device: torch.device,
    impute: bool,
) -> Eyes:
    """Return `eyes_of`, made once for sets of equal bodies and fibers."""
    assumed = replace(assumed_set(phantoms.settings), count=1, seed=0, inclusion_count=None, **_NO_MISMATCH)
    key = repr((assumed, settings, scale, str(device), impute))
    if key not in known:
        known[key] = eyes_of(phantoms, settings, scale, device, impute)
    return known[key]


def _network_job(trained: TrainedNetwork, known: _Known) -> Callable[[_Cases], _Result]:
    """Return a job that asks a network."""

    def job(cases: _Cases) -> _Result:
        lost = cases.test.every_other_fiber
        eyes = _eyes(known, cases.phantoms, trained.settings, trained.scale, trained.device, lost)
        scale = torch.tensor(OUTPUT_SCALE)[:, None, None]

        def images(looks: Looks) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
            on_device = Looks(*(values.to(trained.device) for values in looks))
            with torch.no_grad():
                found, sd = run(trained.network, eyes.see(on_device))
            return concentrations(found).cpu().numpy(), None if sd is None else (sd.cpu() * scale).numpy()

        return _in_chunks(cases, images)

    return job


def _physics_job(method: str, physics: PhysicsSettings, known: _Known) -> Callable[[_Cases], _Result]:
    """Return a job that takes one of the hybrid's inputs as the image."""

    def job(cases: _Cases) -> _Result:
        settings = NetworkSettings(pixels=cases.pixels, physics=physics)
        eyes = _eyes(known, cases.phantoms, settings, None, torch.device("cpu"), True)

        def images(looks: Looks) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
            assert eyes.physics is not None
            light = looks.log_ratio + torch.as_tensor(eyes.reference)
            step = eyes.physics.images(light, looks.active, looks.noise, looks.mri)
            if method == "guided-step":
                return concentrations(relative_to_standard(step.guided, step.bulk)).numpy(), None
            unit = step.bulk * torch.tensor([1.0, 1.0, 100.0])
            sd = (step.light_sd * unit[:, :, None, None]).numpy()
            return concentrations(relative_to_standard(step.light, step.bulk)).numpy(), sd

        return _in_chunks(cases, images)

    return job


def _in_chunks(
    cases: _Cases, images: Callable[[Looks], tuple[NDArray[np.float64], NDArray[np.float64] | None]]
) -> _Result:
    found, spread, seconds = [], [], []
    for _, looks in cases.looks():
        began = time.process_time()
        values, sd = images(looks)
        seconds += [(time.process_time() - began) / len(values)] * len(values)
        found.append(values)
        spread += [] if sd is None else [sd]
    return _Result(np.concatenate(found), np.concatenate(spread) if spread else None, seconds)


def _model_based_job(method: str) -> Callable[[_Cases], _Result]:
    """Return a job that reconstructs case by case as a user would: fiber gains unknown, regions found in the MRI."""

    def job(cases: _Cases) -> _Result:
        found: list[NDArray[np.float64]] = []
        seconds = []
        for some, looks in cases.looks():
            for n in range(len(some)):
                cases.progress(len(found) / cases.count, "")
                began = time.process_time()
                try:
                    found.append(_reconstructed(method, some.settings, looks, n, cases.pixels))
                except InputError as error:
                    _log.warning("%s cannot do case %d: %s", method, len(found), error)
                    found.append(np.full((3, *looks.mri.shape[1:]), np.nan))
                seconds.append(time.process_time() - began)
        return _Result(np.array(found), None, seconds)

    return job


def _reconstructed(method: str, settings: DatasetSettings, looks: Looks, n: int, pixels: int) -> NDArray[np.float64]:
    """Return the images (3, Y, X) of one look by a method of `reconstruct`, in uM, uM, percent."""
    assumed = assumed_set(settings)
    model = model_of(assumed)
    points, body = pixel_grid(assumed, pixels)
    grid = SliceGrid(Plane(np.eye(4)), points[0, 0], float(points[0, 1, 0] - points[0, 0, 0]), body.shape)
    measurements = Measurements(
        wavelengths_nm=model.spectra.wavelengths_nm,
        channels=model.optodes.channels + 1,
        log_amplitude=looks.log_ratio[n].double().numpy() + reference_light(assumed),
        sd=looks.noise[n].double().numpy(),
        active=looks.active[n].numpy(),
    )
    gray = looks.mri[n].double().numpy()
    regions = mri_regions(gray, body, grid.pixel_mm)
    labels = (regions * np.arange(1, len(regions) + 1)[:, None, None]).sum(axis=0)
    flat = np.column_stack([model.optodes.detectors, np.zeros(len(model.optodes.detectors))])
    result = reconstruct(
        measurements,
        Fibers(flat, flat),
        ellipse_contour(*assumed.half_axes_mm),
        model.spectra,
        ReconstructionSettings(method),
        plane=grid.plane,
        images=[grid.volume(gray, "mri")],
        regions=grid.volume(labels, "regions") if regions.any() and method in _SEGMENTED else None,
    )
    image = np.zeros((3, *body.shape))
    image[:, body] = result.maps_at(points[body])[:3] * np.array([[1.0], [1.0], [100.0]])
    return image


def _rows(cases: _Cases, name: str, title: str, version: str, job: Callable[[_Cases], _Result]) -> list[dict[str, str]]:
    """Return the table's rows of one method on one test set, one for each chromophore."""
    result = job(cases)
    body = pixel_grid(cases.phantoms.settings, cases.pixels)[1]
    phantoms, looks = zip(*cases.looks(), strict=True)
    truth = np.concatenate([concentrations(one.truth).double().numpy() for one in looks])
    masks = np.concatenate([inclusion_masks(some, cases.pixels).numpy() for some in phantoms])
    made = [n for n in range(cases.count) if np.isfinite(result.images[n][:, body]).all()]
    rows = []
    for c, (chromophore, unit) in enumerate(zip(OUTPUTS, ("uM", "uM", "percent"), strict=True)):
        figures: dict[str, list[float]] = {}
        for n in made:
            image, true = result.images[n, c].astype(np.float64), truth[n, c]
            for key, value in _figures(image, true, body, masks[n]).items():
                figures.setdefault(key, []).append(value)
            if result.sd is not None:
                inside = np.abs(image - true)[body] <= 1.96 * result.sd[n, c][body]
                figures.setdefault("covered_95_percent", []).append(100 * float(inside.mean()))
        row = {"set": name, "method": title, "version": version, "chromophore": chromophore, "unit": unit}
        row |= {"cases": str(cases.count), "failed": str(cases.count - len(made)), "pixels": str(cases.pixels)}
        for key, values in figures.items():
            if key in COLUMNS:
                row[key] = f"{np.mean(values):.4g}"
            else:
                row |= {f"{key}_mean": f"{np.mean(values):.4g}", f"{key}_sd": f"{np.std(values):.4g}"}
        row["cpu_seconds"] = f"{np.median(result.seconds):.3g}"
        rows.append(row)
    return rows


def _figures(
    image: NDArray[np.float64], truth: NDArray[np.float64], body: NDArray[np.bool_], masks: NDArray[np.bool_]
) -> dict[str, float]:
    """Return the figures of one image of one case; those of inclusions are means over the inclusions."""
    figures: dict[str, float] = {}
    for area in AREAS:
        scores = score_image(image, truth, body, area)
        figures |= {f"mse_{area}": scores.mse, f"psnr_db_{area}": scores.psnr, f"ssim_{area}": scores.ssim}
    lesions = [mask for mask in masks if mask.any()]
    if not lesions:
        return figures
    background = body & ~masks.any(axis=0)
    found, true = (
        np.array([lesion_contrast(values, mask, mask | background) for mask in lesions]) for values in (image, truth)
    )
    value = np.array([image[mask].mean() / truth[mask].mean() for mask in lesions])
    return figures | {
        "inclusion_error_percent": 100 * float(np.abs(value - 1).mean()),
        "contrast_true": float(true.mean()),
        "contrast": float(found.mean()),
        "contrast_error": float(np.abs(found - true).mean()),
    }


def _title(path: Path) -> str:
    """Return what to call a network in the table: its file, or its folder where training named the file."""
    return path.stem if path.name != MODEL else path.resolve().parent.name


def _named(progress: Progress, name: str) -> Progress:
    return lambda fraction, message: progress(fraction, name)


def _is_there(rows: list[dict[str, str]], name: str, title: str, version: str, cases: int, pixels: int) -> bool:
    wanted = {"set": name, "method": title, "version": version, "cases": str(cases), "pixels": str(pixels)}
    return sum(all(row[key] == value for key, value in wanted.items()) for row in rows) == len(OUTPUTS)


def _read_rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(line for line in file if not line.startswith("#"))
            rows = list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"The table '{path}' cannot be read: {error}.") from error
    if tuple(reader.fieldnames or ()) != COLUMNS or any(None in row or None in row.values() for row in rows):
        raise InputError(f"'{path.name}' is not a table of this command. Choose another output file.")
    return rows


def _write_rows(rows: list[dict[str, str]], path: Path, note: str) -> None:
    order = {name: n for n, name in enumerate(TEST_SETS)}
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        if note:
            file.write("# " + " ".join(note.split()) + "\n")
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: order[row["set"]]))
