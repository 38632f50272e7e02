"""Morphological features (IBSI family HCUG): size and shape of the morphological mask, by its surface mesh.

V and A are volume and area of the mesh; a box, ellipsoid or hull around it gives the densities.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from BreastBiomarkersLib.errors import InputError
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist

from RadiomicsPanelLib.enclosing import minimum_box, minimum_ellipsoid
from RadiomicsPanelLib.feature import Family, Feature, NotApplicable
from RadiomicsPanelLib.roi import Roi
from RadiomicsPanelLib.spatial import Autocorrelation, autocorrelation


class Mesh(NamedTuple):
    """A closed triangle surface.

    Attributes
    ----------
    vertices : (n, 3) ndarray, mm
        In array order (K, J, I) from the first voxel's center.
    triangles : (m, 3) ndarray of int
    """

    vertices: NDArray[np.float64]
    triangles: NDArray[np.int64]


class Shape:
    """What the shape features are computed from, each part when it is first needed."""

    def __init__(self, roi: Roi) -> None:
        self.roi = roi
        self.voxel_volume = float(np.prod(roi.spacing))

    @cached_property
    def mesh(self) -> Mesh:
        """Surface of the morphological mask."""
        box = ndimage.find_objects(self.roi.morphological_mask.astype(np.uint8))[0]
        return surface_mesh(self.roi.morphological_mask[box], self.roi.spacing)

    @cached_property
    def volume(self) -> float:
        """V in mm^3: the signed volumes of the tetrahedra between the triangles and the origin."""
        a, b, c = (self.mesh.vertices[self.mesh.triangles[:, n]] for n in range(3))
        return abs(float(np.einsum("ni,ni->", a, np.cross(b, c)))) / 6

    @cached_property
    def area(self) -> float:
        """A in mm^2."""
        a, b, c = (self.mesh.vertices[self.mesh.triangles[:, n]] for n in range(3))
        return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()) / 2

    @cached_property
    def hull(self) -> ConvexHull:
        """Convex hull of the mesh."""
        return ConvexHull(self.mesh.vertices)

    @cached_property
    def axes(self) -> NDArray[np.float64]:
        """(3,) lengths in mm of the principal axes of the voxel centers, 4 standard deviations each, descending."""
        points = np.argwhere(self.roi.morphological_mask) * self.roi.spacing
        variances = np.linalg.eigvalsh(np.cov(points.T))[::-1]
        return 4 * np.sqrt(np.where(variances > 1e-12 * variances[0], variances, 0.0))

    @cached_property
    def box(self) -> NDArray[np.float64]:
        """(3,) edge lengths in mm of the box along the image axes."""
        return np.ptp(self.mesh.vertices, axis=0)

    @cached_property
    def minimum_box(self) -> NDArray[np.float64]:
        """(3,) edge lengths in mm of the smallest oriented box."""
        return minimum_box(self.hull)

    @cached_property
    def minimum_ellipsoid(self) -> NDArray[np.float64]:
        """(3,) semi-axes in mm of the smallest enclosing ellipsoid."""
        return minimum_ellipsoid(self.hull.points[self.hull.vertices])

    @cached_property
    def autocorrelation(self) -> Autocorrelation:
        """Moran's I and Geary's C of the intensity mask."""
        box = ndimage.find_objects(self.roi.intensity_mask.astype(np.uint8))[0]
        return autocorrelation(self.roi.image.array[box], self.roi.intensity_mask[box], self.roi.spacing)


def surface_mesh(mask: NDArray[np.bool_], spacing_kji_mm: NDArray[np.float64]) -> Mesh:
    """Return the marching-cubes surface halfway between voxels inside and outside; the array's edge is outside.

    Raises
    ------
    InputError
        If VTK is not installed.
    """
    try:
        from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
        from vtkmodules.vtkCommonDataModel import vtkImageData
        from vtkmodules.vtkFiltersCore import vtkFlyingEdges3D
    except ImportError as error:
        raise InputError("Shape features need VTK, which is not installed. Run: pip install vtk") from error
    padded = np.ascontiguousarray(np.pad(mask, 1).astype(np.uint8))
    image = vtkImageData()
    image.SetDimensions(*padded.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(padded.ravel()))
    surface = vtkFlyingEdges3D()
    surface.SetInputData(image)
    surface.SetValue(0, 0.5)
    surface.ComputeNormalsOff()
    surface.ComputeGradientsOff()
    surface.ComputeScalarsOff()
    surface.Update()
    mesh = surface.GetOutput()
    vertices = vtk_to_numpy(mesh.GetPoints().GetData()).astype(np.float64)[:, ::-1] - 1
    triangles = vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3).astype(np.int64)
    return Mesh(vertices * spacing_kji_mm, triangles)


def prepare(roi: Roi, aggregations: tuple[str, ...]) -> dict[str, list[Shape]]:
    """Return the region's shape."""
    return {"": [Shape(roi)]}


def ellipsoid_area(a: float, b: float, c: float) -> float:
    """Return the surface of an ellipsoid with the semi-axes a >= b >= c as IBSI defines it.

    ::

        4 pi a b sum over n = 0..20 of (e f)^n / (1 - 4 n^2) P_n((e^2 + f^2) / (2 e f))
        e^2 = 1 - b^2 / a^2, f^2 = 1 - c^2 / a^2, P_n the Legendre polynomials

    The exact series has 1 - c^2 / b^2 for e^2; IBSI's gives a smaller surface (by 4 % for the digital phantom), but it
    is the one behind the published reference values. ``H_n = (e f)^n P_n`` follows from Legendre's recurrence without
    dividing by e f, which is 0 for a sphere.
    """
    e2, f2 = 1 - (b / a) ** 2, 1 - (c / a) ** 2
    before, now, total = 0.0, 1.0, 1.0
    for n in range(20):
        before, now = now, ((2 * n + 1) * (e2 + f2) / 2 * now - n * e2 * f2 * before) / (n + 1)
        total += now / (1 - 4 * (n + 1) ** 2)
    return 4 * np.pi * a * b * total


def mesh_volume(s: Shape) -> float:
    """Return V."""
    return s.volume


def voxel_volume(s: Shape) -> float:
    """Return the number of voxels times their volume."""
    return float(np.count_nonzero(s.roi.morphological_mask)) * s.voxel_volume


def surface_area(s: Shape) -> float:
    """Return A."""
    return s.area


def surface_to_volume_ratio(s: Shape) -> float:
    """Return A / V."""
    return s.area / s.volume


def compactness_1(s: Shape) -> float:
    """Return V / (sqrt(pi) A^(3/2))."""
    return s.volume / (np.sqrt(np.pi) * s.area**1.5)


def compactness_2(s: Shape) -> float:
    """Return 36 pi V^2 / A^3."""
    return 36 * np.pi * s.volume**2 / s.area**3


def spherical_disproportion(s: Shape) -> float:
    """Return A / (36 pi V^2)^(1/3)."""
    return s.area / (36 * np.pi * s.volume**2) ** (1 / 3)


def sphericity(s: Shape) -> float:
    """Return (36 pi V^2)^(1/3) / A."""
    return (36 * np.pi * s.volume**2) ** (1 / 3) / s.area


def asphericity(s: Shape) -> float:
    """Return (A^3 / (36 pi V^2))^(1/3) - 1."""
    return spherical_disproportion(s) - 1


def center_of_mass_shift(s: Shape) -> float:
    """Return the distance between the center of the morphological mask and the intensity-weighted center.

    Raises
    ------
    NotApplicable
        If the intensities sum to 0.
    """
    weights = s.roi.intensities
    if abs(weights.sum()) < 1e-12 * np.abs(weights).sum() or not weights.any():
        raise NotApplicable("the intensities sum to 0")
    center = np.argwhere(s.roi.morphological_mask).mean(axis=0)
    weighted = weights @ np.argwhere(s.roi.intensity_mask) / weights.sum()
    return float(np.linalg.norm((center - weighted) * s.roi.spacing))


def maximum_diameter(s: Shape) -> float:
    """Return the largest distance between two points of the mesh."""
    corners = s.hull.points[s.hull.vertices]
    return max(float(cdist(part, corners).max()) for part in np.array_split(corners, len(corners) // 1000 + 1))


def major_axis_length(s: Shape) -> float:
    """Return 4 times the largest standard deviation of the voxel centers."""
    return float(s.axes[0])


def minor_axis_length(s: Shape) -> float:
    """Return 4 times the second standard deviation of the voxel centers."""
    return float(s.axes[1])


def least_axis_length(s: Shape) -> float:
    """Return 4 times the smallest standard deviation of the voxel centers."""
    return float(s.axes[2])


def elongation(s: Shape) -> float:
    """Return minor over major axis length."""
    return float(s.axes[1] / s.axes[0])


def flatness(s: Shape) -> float:
    """Return least over major axis length."""
    return float(s.axes[2] / s.axes[0])


def _box_area(box: NDArray[np.float64]) -> float:
    return float(2 * (box[0] * box[1] + box[1] * box[2] + box[2] * box[0]))


def box_volume_density(s: Shape) -> float:
    """Return V over the volume of the box along the image axes."""
    return s.volume / float(np.prod(s.box))


def box_area_density(s: Shape) -> float:
    """Return A over the surface of the box along the image axes."""
    return s.area / _box_area(s.box)


def minimum_box_volume_density(s: Shape) -> float:
    """Return V over the volume of the smallest oriented box."""
    return s.volume / float(np.prod(s.minimum_box))


def minimum_box_area_density(s: Shape) -> float:
    """Return A over the surface of the smallest oriented box."""
    return s.area / _box_area(s.minimum_box)


def _require_thickness(s: Shape) -> None:
    if s.axes[2] == 0:
        raise NotApplicable("the voxel centers lie in one plane")


def ellipsoid_volume_density(s: Shape) -> float:
    """Return V over the volume of the ellipsoid with the principal axis lengths."""
    _require_thickness(s)
    return s.volume / float(np.pi / 6 * np.prod(s.axes))


def ellipsoid_area_density(s: Shape) -> float:
    """Return A over the surface of the ellipsoid with the principal axis lengths."""
    _require_thickness(s)
    return s.area / ellipsoid_area(*(s.axes / 2))


def minimum_ellipsoid_volume_density(s: Shape) -> float:
    """Return V over the volume of the smallest enclosing ellipsoid."""
    return s.volume / float(4 / 3 * np.pi * np.prod(s.minimum_ellipsoid))


def minimum_ellipsoid_area_density(s: Shape) -> float:
    """Return A over the surface of the smallest enclosing ellipsoid."""
    return s.area / ellipsoid_area(*s.minimum_ellipsoid)


def hull_volume_density(s: Shape) -> float:
    """Return V over the volume of the convex hull, also called solidity."""
    return s.volume / float(s.hull.volume)


def hull_area_density(s: Shape) -> float:
    """Return A over the surface of the convex hull."""
    return s.area / float(s.hull.area)


def integrated_intensity(s: Shape) -> float:
    """Return V times the mean intensity."""
    return s.volume * float(s.roi.intensities.mean())


def moran_i(s: Shape) -> float:
    """Return Moran's I (Moran 1950, doi 10.1093/biomet/37.1-2.17)."""
    return s.autocorrelation.moran_i


def geary_c(s: Shape) -> float:
    """Return Geary's C (Geary 1954, doi 10.2307/2986645)."""
    return s.autocorrelation.geary_c


_morph: Any = partial(Feature, family="morph", category="morphological", unit="1")

FEATURES: tuple[Feature, ...] = (
    _morph(name="mesh_volume", tag="morph_volume", ibsi="RNU0", unit="mm^3", compute=mesh_volume),
    _morph(name="voxel_volume", tag="morph_vol_approx", ibsi="YEKZ", unit="mm^3", compute=voxel_volume),
    _morph(name="surface_area", tag="morph_area_mesh", ibsi="C0JK", unit="mm^2", compute=surface_area),
    _morph(name="surface_to_volume_ratio", tag="morph_av", ibsi="2PR5", unit="1/mm", compute=surface_to_volume_ratio),
    _morph(name="compactness_1", tag="morph_comp_1", ibsi="SKGS", compute=compactness_1),
    _morph(name="compactness_2", tag="morph_comp_2", ibsi="BQWJ", compute=compactness_2),
    _morph(name="spherical_disproportion", tag="morph_sph_dispr", ibsi="KRCK", compute=spherical_disproportion),
    _morph(name="sphericity", tag="morph_sphericity", ibsi="QCFX", compute=sphericity),
    _morph(
        name="asphericity",
        tag="morph_asphericity",
        ibsi="25C7",
        compute=asphericity,
        duplicate_of="morph_spherical_disproportion",
    ),
    _morph(
        name="center_of_mass_shift",
        category="regional",
        tag="morph_com",
        ibsi="KLMA",
        unit="mm",
        compute=center_of_mass_shift,
    ),
    _morph(name="maximum_diameter", tag="morph_diam", ibsi="L0JK", unit="mm", compute=maximum_diameter),
    _morph(name="major_axis_length", tag="morph_pca_maj_axis", ibsi="TDIC", unit="mm", compute=major_axis_length),
    _morph(name="minor_axis_length", tag="morph_pca_min_axis", ibsi="P9VJ", unit="mm", compute=minor_axis_length),
    _morph(name="least_axis_length", tag="morph_pca_least_axis", ibsi="7J51", unit="mm", compute=least_axis_length),
    _morph(name="elongation", tag="morph_pca_elongation", ibsi="Q3CK", compute=elongation),
    _morph(name="flatness", tag="morph_pca_flatness", ibsi="N17B", compute=flatness),
    _morph(name="box_volume_density", tag="morph_vol_dens_aabb", ibsi="PBX1", compute=box_volume_density),
    _morph(name="box_area_density", tag="morph_area_dens_aabb", ibsi="R59B", compute=box_area_density),
    _morph(
        name="minimum_box_volume_density",
        tag="morph_vol_dens_ombb",
        ibsi="ZH1A",
        compute=minimum_box_volume_density,
    ),
    _morph(name="minimum_box_area_density", tag="morph_area_dens_ombb", ibsi="IQYR", compute=minimum_box_area_density),
    _morph(name="ellipsoid_volume_density", tag="morph_vol_dens_aee", ibsi="6BDE", compute=ellipsoid_volume_density),
    _morph(name="ellipsoid_area_density", tag="morph_area_dens_aee", ibsi="RDD2", compute=ellipsoid_area_density),
    _morph(
        name="minimum_ellipsoid_volume_density",
        tag="morph_vol_dens_mvee",
        ibsi="SWZ1",
        compute=minimum_ellipsoid_volume_density,
    ),
    _morph(
        name="minimum_ellipsoid_area_density",
        tag="morph_area_dens_mvee",
        ibsi="BRI8",
        compute=minimum_ellipsoid_area_density,
    ),
    _morph(name="hull_volume_density", tag="morph_vol_dens_conv_hull", ibsi="R3ER", compute=hull_volume_density),
    _morph(name="hull_area_density", tag="morph_area_dens_conv_hull", ibsi="7T7F", compute=hull_area_density),
    _morph(
        name="integrated_intensity",
        category="statistical",
        tag="morph_integ_int",
        ibsi="99N0",
        unit="I mm^3",
        compute=integrated_intensity,
    ),
    _morph(name="moran_i", category="regional", tag="morph_moran_i", ibsi="N365", compute=moran_i),
    _morph(name="geary_c", category="regional", tag="morph_geary_c", ibsi="NPT7", compute=geary_c),
)

FAMILY = Family("morph", "Morphology", "region", prepare, FEATURES, of_responses=False)
