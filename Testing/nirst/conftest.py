"""A small simulated disc shared by the reconstruction tests: data from a finer mesh than reconstruction uses."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from BreastBiomarkersLib.volume import Volume
from NIRSTReconstructionLib.fibers import Fibers
from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.measurements import Measurements
from NIRSTReconstructionLib.meshing import Contour, circle_contour, fill_contour
from NIRSTReconstructionLib.optodes import place_optodes
from NIRSTReconstructionLib.plane import Plane, slice_grid
from NIRSTReconstructionLib.spectra import Spectra, Tissue, load_spectra

RADIUS = 30.0
LESION_CENTER, LESION_RADIUS = np.array([9.0, -6.0]), 8.0
BACKGROUND = Tissue(14.0, 7.0, 0.25)
LESION = Tissue(25.0, 11.0, 0.40)


@dataclass
class Disc:
    """A disc with one lesion, 16 fibers, four wavelengths."""

    contour: Contour
    fibers: Fibers
    spectra: Spectra
    model: ForwardModel

    def labels_at(self, points: np.ndarray) -> np.ndarray:
        return (np.hypot(*(points - LESION_CENTER).T) < LESION_RADIUS).astype(int)

    def light(self, lesion: Tissue = LESION) -> np.ndarray:
        """Noise-free log amplitude (W, C)."""
        inside = self.labels_at(self.model.mesh.quadrature.points)
        maps = np.where(inside[None] == 1, lesion.values()[:, None], BACKGROUND.values()[:, None])
        return self.model.measure(maps, at_quadrature=True)

    def measurements(self, log_amplitude: np.ndarray, noise: float = 0.01, seed: int = 1) -> Measurements:
        noisy = log_amplitude + noise * np.random.default_rng(seed).standard_normal(log_amplitude.shape)
        return Measurements(
            wavelengths_nm=self.spectra.wavelengths_nm,
            channels=self.model.optodes.channels + 1,
            log_amplitude=noisy,
            sd=np.full(noisy.shape, max(noise, 1e-3)),
            active=np.ones(noisy.shape, dtype=bool),
            name="disc",
        )

    def image(self, plane: Plane, pixel_mm: float = 0.8) -> tuple[Volume, Volume]:
        """MR image (background 50, lesion 80, air 0) and lesion mask in a plane."""
        grid = slice_grid(plane, self.contour.samples[1], pixel_mm, 8.0)
        labels = self.labels_at(grid.points_mm)
        body = np.hypot(*grid.points_mm.T) < RADIUS
        rng = np.random.default_rng(5)
        gray = np.where(body, 50.0 + 30.0 * labels, 0.0) * (1 + 0.03 * rng.standard_normal(len(labels)))
        return grid.volume(gray.astype(np.float32), "mri"), grid.volume(labels.astype(np.uint8), "lesion")


@pytest.fixture(scope="session")
def disc() -> Disc:
    spectra = load_spectra([735.0, 808.0, 903.0, 948.0])
    contour = circle_contour(RADIUS)
    angles = 2 * np.pi * np.arange(16) / 16
    positions = RADIUS * np.column_stack([np.cos(angles), np.sin(angles), np.zeros(16)])
    fibers = Fibers(positions, positions, planar=True)
    optodes = fibers.optodes(Plane(np.eye(4)), fibers.all_channels())
    mesh = fill_contour(contour, 2.6, refine_at=optodes.detectors, refined_size_mm=0.9)
    musp = float(spectra.musp(BACKGROUND.maps(1)).mean())
    return Disc(contour, fibers, spectra, ForwardModel(mesh, place_optodes(mesh, optodes, musp), spectra))


@pytest.fixture(scope="session")
def coarse_model(disc: Disc) -> ForwardModel:
    """A small P1 model of the same disc, for tests of the algebra."""
    optodes = disc.fibers.optodes(Plane(np.eye(4)), disc.fibers.all_channels())
    mesh = fill_contour(disc.contour, 5.0, order=1, refine_at=optodes.detectors, refined_size_mm=1.5)
    return ForwardModel(mesh, place_optodes(mesh, optodes), disc.spectra)


def scaled(tissue: Tissue, **factors: float) -> Tissue:
    """Return a tissue with some values multiplied."""
    return replace(tissue, **{name: getattr(tissue, name) * factor for name, factor in factors.items()})
