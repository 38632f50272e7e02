"""NIRSTReconstruction in Slicer: light measured around a breast to chromophore images in a plane of its MRI.

The method is in NIRSTReconstructionLib.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import slicer
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import ignore_progress, portion
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
)

IMAGE_TITLES = {"hbo": "HbO", "hbr": "Hb", "water": "Water", "hbt": "HbT", "sto2": "StO2"}
WAVELENGTHS_NM = (661.0, 735.0, 785.0, 808.0, 826.0, 852.0, 903.0, 912.0, 948.0)
COLOR_NODE = "vtkMRMLColorTableNodeFileInferno.txt"


class NIRSTReconstruction(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("NIRSTReconstruction")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Tomographic Reconstruction")]
        self.parent.dependencies = ["WeakSegment", "Colors", "Markups", "Segmentations", "Tables", "Volumes"]
        self.parent.contributors = ["BreastBiomarkers developers"]
        self.parent.helpText = (
            _(
                "Reconstructs hemoglobin, water and oxygen saturation from near-infrared light measured around the breast."
            )
            + ' <a href="https://github.com/BreastBiomarkers/SlicerBreastBiomarkers">'
            + _("Documentation")
            + "</a>"
        )
        self.parent.acknowledgementText = _(
            "After Feng et al., MRI-guided near-infrared spectral tomography, Optica 9 (2022) 264, and Zhang et al., "
            "direct regularization imaging, Biomed. Opt. Express 6 (2015) 3618."
        )


class Plane2D(NamedTuple):
    """What a picture of the plane needs, on the grid of the result volumes."""

    pixel_mm: float
    mri: Any  # (J, I)
    lesion: Any  # (J, I) bool or None
    optodes_mm: Any  # (n, 2) from the center of pixel (0, 0)
    values: dict  # name -> (J, I), NaN outside the body


class Reconstructed(NamedTuple):
    volumeNodes: dict  # hbo, hbr, water, hbt, sto2
    contrastTableNode: Any  # None without a lesion
    contrast: list  # NIRSTReconstructionLib.images.Contrast
    plane: Plane2D
    grid: Any  # NIRSTReconstructionLib.plane.SliceGrid
    result: Any  # NIRSTReconstructionLib.reconstruct.Reconstruction

    @property
    def chi(self):
        """Wavelength in nm -> residual in units of the noise."""
        return dict(zip(self.result.measurements.wavelengths_nm.tolist(), self.result.chi.tolist(), strict=True))

    def sample(self, images):
        """Return other images (name -> Volume) on the grid of the results, NaN outside the body."""
        from NIRSTReconstructionLib.plane import reslice

        body = np.isfinite(self.plane.values["hbo"])
        return {
            name: np.where(body, reslice(volume, self.grid, nearest=True).array[0], np.nan)
            for name, volume in images.items()
        }


class SimulatedLight(NamedTuple):
    measurements: Any  # NIRSTReconstructionLib.measurements.Measurements
    reference: Any  # the same, of a homogeneous phantom
    truth: dict  # name -> Volume
    description: str


class NIRSTReconstructionLogic(ScriptedLoadableModuleLogic):
    """The verbs, for the panel, the Python console and other modules; all raise InputError on bad input."""

    def planeFromLesion(self, segmentationNode, segmentId, volumeNode, normal=(0.0, 1.0, 0.0), name="NIRST plane"):
        """Return a plane node through the lesion's largest cross-section; coronal unless another normal is given."""
        from BreastBiomarkersLib.inslicer.nodes import mask_from_segment
        from NIRSTReconstructionLib.plane import plane_from_mask

        return self._planeNode(
            plane_from_mask(mask_from_segment(segmentationNode, segmentId, volumeNode), normal), name
        )

    def planeFromOptodes(self, optodesNode, name="NIRST plane"):
        """Return the least-squares plane of the fibers and their root-mean-square distance from it in mm."""
        fit = self._fibers(optodesNode).fitted_plane()
        return self._planeNode(fit.plane, name), fit.rms_mm

    def placeRing(self, planeNode, volumeNode, count=16, name="Optodes"):
        """Return a point list of fibers at equal distances on the breast's outline in the plane.

        Where the image cuts through the body towards the chest, that third of the outline stays free.
        """
        from BreastBiomarkersLib.inslicer.nodes import points_to_node
        from BreastBiomarkersLib.points import LabeledPoints
        from NIRSTReconstructionLib.simulation import fibers_on_contour

        plane = self._plane(planeNode)
        toChest = np.array([0.0, -1.0, 0.0])
        inPlane = np.linalg.norm(toChest - (toChest @ plane.normal) * plane.normal) > 0.5
        fibers = fibers_on_contour(self._contour(volumeNode, plane), plane, count, toChest if inPlane else None)
        labels = [str(n + 1) for n in range(count)]
        return points_to_node(LabeledPoints(labels, fibers.detectors), name=name)

    def simulate(
        self, volumeNode, planeNode, optodesNode, segmentationNode, segmentId, tissueNode=None, seed=0, noise=0.02
    ):
        """Simulate light for an exam that has none, from typical tissues with more blood and water in the lesion.

        `tissueNode` is a label map whose names tell fat from fibroglandular tissue (WeakSegment simulates one);
        without it all of the breast but the lesion is alike. `noise` is the amplitudes' relative standard deviation.
        """
        from BreastBiomarkersLib.inslicer.nodes import mask_from_segment
        from NIRSTReconstructionLib.simulation import BREAST_TISSUES, simulate_on_plane
        from NIRSTReconstructionLib.spectra import load_spectra

        lesion = mask_from_segment(segmentationNode, segmentId, volumeNode)
        names = ["breast", "fibroglandular", "lesion"]
        labels = np.where(lesion.array, names.index("lesion"), 0).astype(np.uint8)
        if tissueNode is not None:
            gland = self._labels(tissueNode, "fibroglandular", lesion)
            labels[gland & ~lesion.array] = names.index("fibroglandular")
        plane = self._plane(planeNode)
        made = simulate_on_plane(
            lesion.with_array(labels, "tissues"),
            {n: BREAST_TISSUES[name] for n, name in enumerate(names)},
            plane,
            self._contour(volumeNode, plane),
            self._fibers(optodesNode),
            load_spectra(WAVELENGTHS_NM),
            noise=noise,
            seed=seed,
        )
        used = [name for n, name in enumerate(names) if (labels == n).any()]
        description = (
            "; ".join(f"{name}: {BREAST_TISSUES[name].describe()}" for name in used)
            + f"; {100 * noise:g} % noise, seed {seed}, on a finer mesh than the one used for reconstruction."
        )
        return SimulatedLight(made.measurements, made.reference, made.truth, description)

    def reconstruct(
        self,
        volumeNode,
        planeNode,
        optodesNode,
        data,
        referenceData=None,
        method="dri",
        segmentationNode=None,
        segmentId=None,
        progress=ignore_progress,
        **settings,
    ):
        """Reconstruct the images of one plane and lay them into the scene.

        `data` and `referenceData` are measurements or paths (.paa, .csv). The MRI gives the outline and, for "dri", the
        guidance; a segment guides "soft-prior" and "hard-prior" and is compared with its surroundings. `settings` are
        those of NIRSTReconstructionLib.reconstruct.ReconstructionSettings.
        """
        from BreastBiomarkersLib.inslicer.nodes import mask_from_segment, require_in_scene, volume_from_node
        from NIRSTReconstructionLib.images import contrast_table
        from NIRSTReconstructionLib.reconstruct import ReconstructionSettings, reconstruct
        from NIRSTReconstructionLib.spectra import load_spectra

        measurements = self._measurements(data)
        image = volume_from_node(volumeNode)
        lesion = None if segmentationNode is None else mask_from_segment(segmentationNode, segmentId, volumeNode)
        plane, fibers = self._plane(planeNode), self._fibers(optodesNode)
        result = reconstruct(
            measurements,
            fibers,
            self._contour(volumeNode, plane),
            load_spectra(measurements.wavelengths_nm),
            ReconstructionSettings(method=method, **settings),
            plane=plane,
            reference=None if referenceData is None else self._measurements(referenceData),
            images=[image],
            regions=lesion,
            progress=portion(progress, 0.05, 0.95),
        )
        contrast = [] if lesion is None else contrast_table(result, lesion)
        require_in_scene(volumeNode, planeNode, optodesNode)
        return self._show(result, contrast, image, lesion, fibers, volumeNode)

    def _show(self, result, contrast, image, lesion, fibers, volumeNode):
        from BreastBiomarkersLib.inslicer.nodes import place_beside, table_to_node, volume_to_node
        from NIRSTReconstructionLib.images import IMAGE_UNITS, image_grid, lesion_in_plane, sample_on_grid
        from NIRSTReconstructionLib.plane import reslice

        grid = image_grid(result)
        images = sample_on_grid(result, grid)
        nodes = {}
        for name, volume in images.items():
            nodes[name] = volume_to_node(volume, name=f"{IMAGE_TITLES[name]} [{IMAGE_UNITS[name]}]")
            place_beside(nodes[name], volumeNode)
            self._color(nodes[name], volume.array)
        table = None
        if contrast:
            columns = {title: [getattr(row, title) for row in contrast] for title in contrast[0]._fields}
            table = table_to_node(columns, name=f"{image.name} lesion contrast")
        body = images["hbo"].array[0] > 0
        plane = Plane2D(
            pixel_mm=grid.pixel_mm,
            mri=reslice(image, grid).array[0],
            lesion=None if lesion is None else lesion_in_plane(lesion, grid).reshape(grid.shape),
            optodes_mm=result.plane.to_plane(fibers.detectors)[0] - grid.first_mm,
            values={name: np.where(body, volume.array[0], np.nan) for name, volume in images.items()},
        )
        return Reconstructed(nodes, table, contrast, plane, grid, result)

    def _color(self, node, array):
        """Color an image from the smallest to the largest value inside the body; the surroundings are transparent."""
        display = node.GetDisplayNode()
        inside = array[array > 0]
        display.SetAndObserveColorNodeID(COLOR_NODE)
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(float(inside.min()), float(inside.max()))
        display.SetLowerThreshold(float(inside.min()) * 0.5)
        display.ApplyThresholdOn()

    def _planeNode(self, plane, name):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode", name)
        node.CreateDefaultDisplayNodes()
        node.SetPlaneType(node.PlaneTypePointNormal)
        node.SetSize(100.0, 100.0)
        node.SetAxesWorld(*plane.plane_to_ras[:3, :3].T) if hasattr(node, "SetAxesWorld") else None
        node.SetOriginWorld(*plane.origin_ras)
        return node

    def _plane(self, planeNode):
        from BreastBiomarkersLib.inslicer.nodes import slice_to_ras
        from NIRSTReconstructionLib.plane import plane_from_matrix

        return plane_from_matrix(slice_to_ras(planeNode))

    def _contour(self, volumeNode, plane):
        from BreastBiomarkersLib.inslicer.nodes import volume_from_node
        from NIRSTReconstructionLib.meshing import spline_contour
        from NIRSTReconstructionLib.plane import body_contour, body_mask

        return spline_contour(body_contour(body_mask(volume_from_node(volumeNode)), plane))

    def _fibers(self, optodesNode):
        from BreastBiomarkersLib.inslicer.nodes import points_from_node
        from NIRSTReconstructionLib.fibers import fibers_from_points

        return fibers_from_points(points_from_node(optodesNode, "optodes"), optodesNode.GetName())

    def _labels(self, labelNode, name, reference):
        """Return where a label map on the grid of `reference` holds the label of this name."""
        from BreastBiomarkersLib.inslicer.nodes import volume_from_node

        labels = volume_from_node(labelNode, "tissue map")
        if not labels.same_grid(reference):
            raise InputError(f"The tissue map '{labels.name}' is not on the grid of the image.")
        colors = labelNode.GetDisplayNode().GetColorNode()
        number = next((n for n in range(colors.GetNumberOfColors()) if colors.GetColorName(n) == name), None)
        if number is None:
            raise InputError(f"The tissue map '{labels.name}' has no label named '{name}'.")
        return labels.array == number

    def _measurements(self, data):
        from NIRSTReconstructionLib.measurements import Measurements, read_measurements

        return data if isinstance(data, Measurements) else read_measurements(data)


class NIRSTReconstructionTest(ScriptedLoadableModuleTest):
    pass
