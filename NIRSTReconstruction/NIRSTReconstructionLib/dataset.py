"""Many simulated phantoms as training and test data: in shards, in parallel, resumable, equal for equal seeds."""

from __future__ import annotations

import functools
import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path
from BreastBiomarkersLib.progress import Progress, ignore_progress
from numpy.typing import NDArray

from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.meshing import ELEMENT_SIZE_MM, OPTODE_ELEMENT_SIZE_MM, ellipse_contour, fill_contour
from NIRSTReconstructionLib.optodes import Optodes, place_optodes, ring_optodes
from NIRSTReconstructionLib.phantoms import (
    BODY_RADIUS_MM,
    MISMATCHES,
    PRESETS,
    REFERENCE_TISSUE,
    Inclusion,
    Phantom,
    draw_phantom,
)
from NIRSTReconstructionLib.spectra import PAPER_WAVELENGTHS_NM, Tissue, load_spectra
from NIRSTReconstructionLib.torch_forward import TorchForward, gpu_available

FORMAT = "nirst-dataset-1"
MAX_PHANTOMS = 1_000_000
_BATCH = 16  # phantoms simulated at once
_MAX_INCLUSIONS = 4
_SMALLEST_AXIS_MM = 30.0


@dataclass(frozen=True)
class DatasetSettings:
    """What a data set is made of; equal settings give equal numbers, whatever the number of workers.

    Attributes
    ----------
    count : int
        Number of phantoms.
    seed : int
        Phantom n is drawn from the seed pair (seed, n).
    preset : str
        See `phantoms.PRESETS`.
    inclusion_count : int or None
        None: 1 or 2 at random.
    no_contrast, mri_invisible : float
        Shares of phantoms whose inclusions are only in the MR image, or only in the light.
    fiber_count : int
    half_axes_mm : (float, float)
        Of the body, a disc or an ellipse along x and y; inclusions are moved with the body's axes, and stay round.
    wavelengths_nm : tuple of float
    extinction_table : str
    source_model : str
        See `ForwardModel`.
    element_size_mm, optode_element_size_mm : float
        Of the mesh that makes the data.
    shard_size : int
        Phantoms per file.
    """

    count: int = 20_000
    seed: int = 0
    preset: str = "paper-like"
    inclusion_count: int | None = None
    no_contrast: float = 0.0
    mri_invisible: float = 0.0
    fiber_count: int = 16
    half_axes_mm: tuple[float, float] = (BODY_RADIUS_MM, BODY_RADIUS_MM)
    wavelengths_nm: tuple[float, ...] = PAPER_WAVELENGTHS_NM
    extinction_table: str = "nirfast"
    source_model: str = "line"
    element_size_mm: float = ELEMENT_SIZE_MM
    optode_element_size_mm: float = OPTODE_ELEMENT_SIZE_MM
    shard_size: int = 500

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_PHANTOMS:
            raise InputError(f"{self.count} phantoms were asked for; 1 to {MAX_PHANTOMS} are possible.")
        if not 1 <= self.shard_size <= 10_000:
            raise InputError(f"{self.shard_size} phantoms per file were asked for; 1 to 10000 are possible.")
        if self.preset not in PRESETS:
            raise InputError(f"Unknown phantom preset '{self.preset}'. Choose one of: {', '.join(PRESETS)}.")
        if not (min(self.half_axes_mm) >= _SMALLEST_AXIS_MM and max(self.half_axes_mm) <= 2 * BODY_RADIUS_MM):
            raise InputError(
                f"Half axes of {self.half_axes_mm} mm were asked for; {_SMALLEST_AXIS_MM:g} to "
                f"{2 * BODY_RADIUS_MM:g} mm are possible."
            )
        shares = (self.no_contrast, self.mri_invisible)
        if not (min(shares) >= 0 and sum(shares) <= 1):
            raise InputError("The shares of mismatched phantoms must not be negative, and together at most 1.")

    @property
    def shard_count(self) -> int:
        """Number of files."""
        return -(-self.count // self.shard_size)

    def model(self) -> ForwardModel:
        """Return the forward model that makes the data."""
        contour = ellipse_contour(*self.half_axes_mm)
        fibers = ring_optodes(BODY_RADIUS_MM, self.fiber_count)
        if len(set(self.half_axes_mm)) > 1:
            s, points = contour.samples
            at = np.interp(np.arange(self.fiber_count) / self.fiber_count, _traveled(points), np.append(s, 1.0))
            fibers = Optodes(contour.curve(at), contour.curve(at), fibers.channels)
        mesh = fill_contour(
            contour,
            self.element_size_mm,
            refine_at=fibers.detectors,
            refined_size_mm=self.optode_element_size_mm,
        )
        spectra = load_spectra(self.wavelengths_nm, self.extinction_table)
        musp = float(spectra.musp(REFERENCE_TISSUE.maps(1)).mean())
        return ForwardModel(mesh, place_optodes(mesh, fibers, musp), spectra, source_model=self.source_model)

    def phantom(self, number: int) -> Phantom:
        """Return phantom `number` of the set."""
        rng = np.random.default_rng([self.seed, number])
        shares = [1 - self.no_contrast - self.mri_invisible, self.no_contrast, self.mri_invisible]
        mismatch = MISMATCHES[int(rng.choice(3, p=shares))]
        phantom = draw_phantom(rng, self.preset, self.inclusion_count, mismatch)
        stretch = np.array(self.half_axes_mm) / BODY_RADIUS_MM
        moved = [(float(x), float(y)) for x, y in (np.array(i.center_mm) * stretch for i in phantom.inclusions)]
        inclusions = (replace(i, center_mm=c) for i, c in zip(phantom.inclusions, moved, strict=True))
        return replace(phantom, inclusions=tuple(inclusions))


def generate_dataset(
    folder: str | Path,
    settings: DatasetSettings,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    device: str = "cpu",
    progress: Progress = ignore_progress,
) -> dict[str, Any]:
    """Write the phantoms and their noise-free data into a folder; continue where an earlier run stopped.

    The folder holds `dataset.json` (settings, model) and files `shard_00000.npz`, each with the arrays `log_amplitude`
    (n, W, C) float32 (see `ForwardModel`; noise is for the reader to add), `background` (n, 6), `inclusion_tissue`
    (n, 4, 6), `inclusion_place` (n, 4, 3: x, y, radius in mm), `inclusion_in_mri` (n, 4) and `inclusion_count` (n,).

    Parameters
    ----------
    folder : str or Path
    settings : DatasetSettings
    workers : int
        Processes on this machine; 1 needs nothing but this process, more need the package dask.
    scheduler : str or None
        Address of a running Dask scheduler to use instead. Its workers send the numbers back; they need no access to
        the folder.
    device : str
        "cpu"; "cuda": `TorchForward` in every worker, whose numbers agree to rounding; "auto": "cuda" where it exists.
    progress : Progress

    Returns
    -------
    dict
        `phantoms`, `generated` (how many of them now), `shards`, `device`.

    Raises
    ------
    InputError
        If the folder holds another data set, or Dask is needed and not installed.
    """
    folder = Path(folder)
    if device == "auto":
        device = "cuda" if gpu_available() else "cpu"
    _start(folder, settings)
    todo = [shard for shard in range(settings.shard_count) if not _shard_path(folder, shard).exists()]
    progress(1 - len(todo) / settings.shard_count, f"{settings.shard_count - len(todo)} shards are there already")
    generated = 0
    for done, (shard, arrays) in enumerate(_shards(settings, todo, workers, scheduler, device), start=1):
        with atomic_path(_shard_path(folder, shard)) as temporary:
            with temporary.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]  # the names are known, none is allow_pickle
        generated += len(arrays["background"])
        progress(1 - (len(todo) - done) / settings.shard_count, f"shard {shard + 1} of {settings.shard_count}")
    return {"phantoms": settings.count, "generated": generated, "shards": settings.shard_count, "device": device}


def read_settings(folder: str | Path) -> DatasetSettings:
    """Return the settings of a data set.

    Raises
    ------
    InputError
        If the folder holds none, or one of another format.
    """
    path = Path(folder) / "dataset.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise InputError(f"'{path}' is of the format '{content['format']}'; {FORMAT} is needed. Generate it anew.")
        stored: dict[str, Any] = content["settings"]
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in stored.items()}
        return DatasetSettings(**values)
    except FileNotFoundError:
        raise InputError(f"'{folder}' holds no data set (no dataset.json). Generate one first.") from None
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"'{path}' is damaged. Generate the data set anew.") from error


def read_shard(folder: str | Path, shard: int) -> tuple[NDArray[np.float32], list[Phantom]]:
    """Return the noise-free data (n, W, C) and the phantoms of one file.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    path, settings = _shard_path(Path(folder), shard), read_settings(folder)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        count = min(settings.shard_size, settings.count - shard * settings.shard_size)
        channels = settings.fiber_count * (settings.fiber_count - 1)
        shapes = (count, len(settings.wavelengths_nm), channels), (count, 6)
        if (arrays["log_amplitude"].shape, arrays["background"].shape) != shapes:
            raise ValueError("the arrays are not those of the settings")
        return arrays["log_amplitude"], [_phantom(arrays, n) for n in range(len(arrays["background"]))]
    except FileNotFoundError:
        raise InputError(f"'{path}' is missing. Run the generation again; it continues where it stopped.") from None
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"'{path}' is damaged. Delete it and run the generation again.") from error


def simulate_shard(settings: DatasetSettings, shard: int, device: str = "cpu") -> dict[str, NDArray[Any]]:
    """Return the arrays of one file; any process that calls this gets the same numbers."""
    model = _model(settings)
    numbers = range(shard * settings.shard_size, min((shard + 1) * settings.shard_size, settings.count))
    phantoms = [settings.phantom(number) for number in numbers]
    points = model.mesh.quadrature.points
    data = []
    for first in range(0, len(phantoms), _BATCH):
        values = np.stack([phantom.values(points) for phantom in phantoms[first : first + _BATCH]])
        light = (
            model.measure_many(values, at_quadrature=True)
            if device == "cpu"
            else _torch_model(settings, device).measure_many(values).cpu().numpy()
        )
        data.append(light.astype(np.float32))
    return {"log_amplitude": np.concatenate(data), **_phantom_arrays(phantoms)}


@functools.lru_cache(maxsize=1)
def _model(settings: DatasetSettings) -> ForwardModel:
    """Return the forward model, built once per process."""
    return settings.model()


@functools.lru_cache(maxsize=1)
def _torch_model(settings: DatasetSettings, device: str) -> TorchForward:
    """Return the same model on a PyTorch device."""
    return TorchForward(_model(settings), device)


def _start(folder: Path, settings: DatasetSettings) -> None:
    """Write the description of a new data set, or check that the one in the folder is the same."""
    if (folder / "dataset.json").exists():
        if read_settings(folder) != settings:
            raise InputError(f"'{folder}' holds a data set with other settings. Choose another folder.")
        return
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"'{folder}' is not empty and holds no data set. Choose another folder.")
    description = {
        "format": FORMAT,
        "settings": asdict(settings),
        "model": _model(settings).describe(),
        "simulated": True,
    }
    with atomic_path(folder / "dataset.json") as temporary:
        temporary.write_text(json.dumps(description, indent=1), encoding="utf-8")


def _shards(
    settings: DatasetSettings, todo: list[int], workers: int, scheduler: str | None, device: str
) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
    """Yield the shards as they become ready."""
    if not todo:
        return
    if workers <= 1 and scheduler is None:
        for shard in todo:
            yield shard, simulate_shard(settings, shard, device)
        return
    try:
        from dask.distributed import Client, LocalCluster, as_completed
    except ImportError as error:
        raise InputError(
            "Several workers need the package dask with dask.distributed. Install it, or use one worker."
        ) from error
    cluster = None if scheduler else LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
    try:
        with Client(scheduler or cluster) as client:
            futures = {client.submit(simulate_shard, settings, shard, device, pure=False): shard for shard in todo}
            for future in as_completed(list(futures)):
                yield futures.pop(future), future.result()
    except OSError as error:
        raise InputError(f"The Dask scheduler '{scheduler}' does not answer: {error}. Check its address.") from error
    finally:
        if cluster is not None:
            cluster.close()


def _traveled(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share (n + 1,) of a closed polygon's length up to each of its points (n, 2), and back to the first."""
    steps = np.linalg.norm(np.diff(points, axis=0, append=points[:1]), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)]) / steps.sum()


def _shard_path(folder: Path, shard: int) -> Path:
    return folder / f"shard_{shard:05d}.npz"


def _phantom_arrays(phantoms: list[Phantom]) -> dict[str, NDArray[Any]]:
    count = len(phantoms)
    arrays: dict[str, NDArray[Any]] = {
        "background": np.array([phantom.background.values() for phantom in phantoms]),
        "inclusion_tissue": np.zeros((count, _MAX_INCLUSIONS, 6)),
        "inclusion_place": np.zeros((count, _MAX_INCLUSIONS, 3)),
        "inclusion_in_mri": np.zeros((count, _MAX_INCLUSIONS), dtype=bool),
        "inclusion_count": np.array([len(phantom.inclusions) for phantom in phantoms]),
    }
    for n, phantom in enumerate(phantoms):
        for k, inclusion in enumerate(phantom.inclusions):
            arrays["inclusion_tissue"][n, k] = astuple(inclusion.tissue)
            arrays["inclusion_place"][n, k] = (*inclusion.center_mm, inclusion.radius_mm)
            arrays["inclusion_in_mri"][n, k] = inclusion.in_mri
    return arrays


def _phantom(arrays: dict[str, NDArray[Any]], n: int) -> Phantom:
    def tissue(values: NDArray[Any]) -> Tissue:
        return Tissue(*(float(value) for value in values))

    inclusions = []
    for k in range(int(arrays["inclusion_count"][n])):
        x, y, radius = (float(value) for value in arrays["inclusion_place"][n, k])
        inclusions.append(
            Inclusion((x, y), radius, tissue(arrays["inclusion_tissue"][n, k]), bool(arrays["inclusion_in_mri"][n, k]))
        )
    return Phantom(tissue(arrays["background"][n]), tuple(inclusions))
