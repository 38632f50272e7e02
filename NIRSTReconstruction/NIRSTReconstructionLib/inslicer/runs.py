"""One reconstruction from its inputs to the scene: in this process, or in another one through files."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from BreastBiomarkersLib.inslicer.history import History, Step
from BreastBiomarkersLib.inslicer.nodes import require_in_scene
from BreastBiomarkersLib.progress import Progress, ignore_progress, portion
from BreastBiomarkersLib.volume import Volume
from numpy.typing import NDArray

from NIRSTReconstructionLib.images import Contrast, image_grid, lesion_in_plane
from NIRSTReconstructionLib.inslicer.inputs import Inputs
from NIRSTReconstructionLib.inslicer.plane_result import (
    PlaneResult,
    fits_in_files,
    read_result,
    result_from_reconstruction,
    write_inputs,
)
from NIRSTReconstructionLib.inslicer.results import IMAGE_TITLES, PlaneResults, ResultState
from NIRSTReconstructionLib.plane import SliceGrid, reslice
from NIRSTReconstructionLib.reconstruct import Reconstruction, ReconstructionSettings
from NIRSTReconstructionLib.trust import TrustReport, assess_trust


class Plane2D(NamedTuple):
    """What a picture of the plane needs, on the grid of the result volumes.

    Attributes
    ----------
    pixel_mm : float
    mri : (J, I) ndarray
    lesion : (J, I) ndarray of bool or None
    optodes_mm : (n, 2) ndarray
        From the center of pixel (0, 0).
    values : dict of str to (J, I) ndarray
        NaN outside the body.
    """

    pixel_mm: float
    mri: NDArray[np.float64]
    lesion: NDArray[np.bool_] | None
    optodes_mm: NDArray[np.float64]
    values: dict[str, NDArray[np.float64]]


class Reconstructed(NamedTuple):
    """Results of one plane: nodes, tables, and what they were made of.

    Attributes
    ----------
    volumeNodes : dict of str to vtkMRMLScalarVolumeNode
        hbo, hbr, water, hbt, sto2.
    contrastTableNode : vtkMRMLTableNode or None
        None without a lesion.
    contrast : list of Contrast
    plane : Plane2D
    grid : SliceGrid
    result : Reconstruction
    trust : TrustReport or None
    """

    volumeNodes: dict[str, Any]  # noqa: N815 - part of the interface of the module
    contrastTableNode: Any  # noqa: N815
    contrast: list[Contrast]
    plane: Plane2D
    grid: SliceGrid
    result: Reconstruction
    trust: TrustReport | None

    @property
    def chi(self) -> dict[float, float]:
        """Wavelength in nm -> residual in units of the noise."""
        return dict(zip(self.result.measurements.wavelengths_nm.tolist(), self.result.chi.tolist(), strict=True))

    def sample(self, images: dict[str, Volume]) -> dict[str, NDArray[np.float64]]:
        """Return other images (name -> Volume) on the grid of the results, NaN outside the body."""
        body = np.isfinite(self.plane.values["hbo"])
        return {
            name: np.where(body, reslice(volume, self.grid, nearest=True).array[0], np.nan)
            for name, volume in images.items()
        }


class Run(NamedTuple):
    """One reconstruction, free of nodes but for those its results belong to.

    Attributes
    ----------
    inputs : Inputs
    settings : ReconstructionSettings
    nodes : tuple
        MRI, plane, optodes.
    stamp : dict of str to str
        Fingerprints of the inputs (see `inputs.made_from`).
    history : History
        Where an update is noted.
    """

    inputs: Inputs
    settings: ReconstructionSettings
    nodes: tuple[Any, Any, Any]
    stamp: dict[str, str]
    history: History

    @property
    def fits_in_files(self) -> bool:
        """Whether another process can do it."""
        return fits_in_files(self.inputs)

    def perform(self, trust: bool = False, progress: Progress = ignore_progress, update: bool = True) -> Reconstructed:
        """Reconstruct in this process and lay the results into the scene.

        Parameters
        ----------
        trust : bool
            Also reconstruct in other ways to judge the result.
        progress : Progress
        update : bool
            Overwrite earlier results of the plane, as a step of undo.
        """
        case, lesion = self.inputs.case, self.inputs.lesion
        done = case.reconstruct(self.settings, portion(progress, 0.0, 0.3 if trust else 1.0))
        report = assess_trust(done, case, lesion, progress=portion(progress, 0.3, 1.0)) if trust else None
        result = result_from_reconstruction(done, self.inputs, report)
        nodes, _ = self._lay_out(result, update)
        images = {name: nodes[name] for name in IMAGE_TITLES}
        grid = image_grid(done)
        body = result.images["hbo"].array[0] > 0
        picture = Plane2D(
            pixel_mm=grid.pixel_mm,
            mri=reslice(case.images[0], grid).array[0],
            lesion=None if lesion is None else lesion_in_plane(lesion, grid).reshape(grid.shape),
            optodes_mm=grid.plane.to_plane(case.fibers.detectors)[0] - grid.first_mm,
            values={name: np.where(body, result.images[name].array[0], np.nan) for name in IMAGE_TITLES},
        )
        return Reconstructed(images, nodes.get("contrast"), result.contrast, picture, grid, done, report)

    def write(self, folder: str | Path, trust: bool = False) -> list[str]:
        """Write the inputs into a folder; return the arguments of ``python -m NIRSTReconstructionLib`` to do it."""
        return write_inputs(self.inputs, self.settings, trust, Path(folder))

    def receive(self, folder: str | Path, replacing: Step | None = None) -> Step:
        """Lay what another process has written into the scene; return the step of undo.

        Parameters
        ----------
        folder : path
            As given to `write`.
        replacing : Step, optional
            Of the same run, such as the images before their trust was assessed; it is replaced.
        """
        _, step = self._lay_out(read_result(Path(folder) / "out", self.inputs), True, replacing)
        assert step is not None
        return step

    def _lay_out(
        self, result: PlaneResult, update: bool, replacing: Step | None = None
    ) -> tuple[dict[str, Any], Step | None]:
        require_in_scene(*self.nodes)
        results = PlaneResults(*self.nodes[:2])
        result.record.update(id=uuid.uuid4().hex, made_from=self.stamp)
        before = ResultState(results, results.read()) if update else None
        nodes = results.write(result, update)
        if before is None:
            return nodes, None
        return nodes, self.history.push(Step([before], [ResultState(results, result)]), replacing)
