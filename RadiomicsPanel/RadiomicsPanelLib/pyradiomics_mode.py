"""Reproduce a study made with pyradiomics: its preparation and its definitions, without pyradiomics itself.

Only for that. Where it (doi 10.1158/0008-5472.CAN-17-0339) departs from IBSI: the resampled grid starts at the corner
of the first voxel, the mask is resampled to the nearest neighbor, bins count from a multiple of the width below the
minimum and are renumbered from 1, kurtosis is not excess, principal axes divide by n, energy includes a shift,
voxels without a neighbor count in NGTDM, and features of a region of one level get a fixed number.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import SimpleITK as sitk
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import from_sitk, to_sitk
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from RadiomicsPanelLib.catalog import select_features
from RadiomicsPanelLib.feature import NotApplicable
from RadiomicsPanelLib.intensity import Sample
from RadiomicsPanelLib.morphology import Shape
from RadiomicsPanelLib.ngtdm import Ngtdm
from RadiomicsPanelLib.roi import Case, Roi, prepare_roi
from RadiomicsPanelLib.settings import MAX_LEVELS, Settings

NAME = "as published (pyradiomics)"


@dataclass(frozen=True)
class PyradiomicsSettings:
    """The settings of pyradiomics that change values, with its defaults.

    Attributes
    ----------
    bin_width : float, intensity
        Used unless `bin_count` is given.
    bin_count : int, optional
    spacing_ijk_mm : tuple of three float, optional
        `resampledPixelSpacing`: voxel size to resample to, 0 keeps an axis.
    normalize : bool
        Scale the image to mean 0 and standard deviation `normalize_scale` first.
    normalize_scale : float
    resegment_range : tuple of one or two float, optional
        Lower and upper threshold.
    resegment_mode : str
        "absolute"; "relative" to the region's maximum; "sigma", in standard deviations from the mean.
    merged : bool
        `weightingNorm="no_weighting"`: merge the matrices of all directions instead of averaging their features.
    force_2d : bool
        Look for neighbors inside slices only.
    voxel_array_shift : float, intensity
        Added before squaring in Energy, TotalEnergy and RootMeanSquared.
    pad_distance : int, voxels
        Resampled voxels kept around the region.
    """

    bin_width: float = 25.0
    bin_count: int | None = None
    spacing_ijk_mm: tuple[float, float, float] | None = None
    normalize: bool = False
    normalize_scale: float = 1.0
    resegment_range: tuple[float, ...] | None = None
    resegment_mode: Literal["absolute", "relative", "sigma"] = "absolute"
    merged: bool = False
    force_2d: bool = False
    voxel_array_shift: float = 0.0
    pad_distance: int = 5


class Prepared(NamedTuple):
    """Image and masks as pyradiomics would have them before filtering and discretization."""

    case: Case
    image: sitk.Image
    morphological_mask: NDArray[np.bool_]
    intensity_mask: NDArray[np.bool_]


def prepare_like_pyradiomics(case: Case, settings: PyradiomicsSettings) -> Roi:
    """Return the region as pyradiomics would prepare it: normalize, resample, re-segment, discretize.

    Raises
    ------
    InputError
        As `prepare_roi`, and for a resampling or re-segmentation that leaves fewer than two voxels.
    """
    prepared = prepare_image(case, settings)
    return region_of(prepared, prepared.image, settings)


def prepare_image(case: Case, settings: PyradiomicsSettings) -> Prepared:
    """Return the normalized and resampled image and the masks; see `prepare_like_pyradiomics`.

    Raises
    ------
    InputError
        If fewer than two voxels remain after resampling, or as `prepare_like_pyradiomics`.
    """
    # Without resampling, and with a number of levels that cannot be too large, this finds and checks the region.
    checked = prepare_roi(case, Settings(name=NAME, bin_count=2))
    k, j, i = np.rint(case.image.points_to_ijk(checked.image.ijk_to_ras[:3, 3]))[0, ::-1].astype(int)
    whole = np.zeros(case.image.shape, dtype=np.uint8)
    size = checked.image.shape
    whole[k : k + size[0], j : j + size[1], i : i + size[2]] = checked.morphological_mask
    image, mask = to_sitk(case.image), to_sitk(case.image.with_array(whole))
    if settings.normalize:
        image = sitk.Normalize(image) * settings.normalize_scale
    if settings.spacing_ijk_mm is not None:
        image, mask = _resample(image, mask, settings.spacing_ijk_mm, settings.pad_distance)
    inside = sitk.GetArrayFromImage(mask) > 0
    if inside.sum() < 2:
        raise InputError(f"The {case.title} has {inside.sum()} voxels after resampling. Choose a finer grid.")
    return Prepared(case, image, inside, _resegment(sitk.GetArrayFromImage(image), inside, settings, case))


def region_of(prepared: Prepared, image: sitk.Image, settings: PyradiomicsSettings) -> Roi:
    """Return the region in the prepared image or a filtered copy of it, discretized.

    Raises
    ------
    InputError
        If there would be more than 1024 gray levels.
    """
    inside = prepared.morphological_mask
    box = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in ndimage.find_objects(inside.astype(np.uint8))[0])
    volume = from_sitk(image, prepared.case.image.name)
    volume = volume.cropped(tuple(s.start for s in box), tuple(s.stop for s in box))
    intensity_mask = prepared.intensity_mask[box]
    levels = np.zeros(volume.shape, dtype=np.int32)
    levels[intensity_mask] = _discretize(volume.array[intensity_mask], settings, prepared.case)
    return Roi(
        prepared.case.name,
        prepared.case.segment,
        Settings(name=NAME, aggregations=(_aggregation(settings),)),
        volume.with_array(volume.array.astype(np.float64)),
        inside[box],
        intensity_mask,
        levels,
        int(levels.max()),
    )


def compute_like_pyradiomics(
    roi: Roi, settings: PyradiomicsSettings, names: Collection[str] | None = None, prefix: str = "original"
) -> dict[str, float]:
    """Return the region's values under pyradiomics' names ("original_glcm_Contrast").

    Degenerate values are those of pyradiomics too, such as a coarseness of 1000000 where nothing varies. The surface
    may differ from its where voxels touch at corners, and with it what depends on area: by 0.2 % for a segment of 4000
    voxels, by 1.4 % for one of 150.

    Parameters
    ----------
    roi : Roi
        From `prepare_like_pyradiomics` or `region_of`.
    settings : PyradiomicsSettings
    names : collection of str, optional
        Of `NAMES`; default all.
    prefix : str
        What the image is called; shape is measured in the original alone.
    """
    wanted = set(NAMES if names is None else names)
    if prefix != "original":
        wanted = {name for name in wanted if not name.startswith("shape_")}
    shape, sample = Shape(roi), Sample(np.sort(roi.intensities))
    result = {name: function(shape, sample, settings) for name, function in _OWN.items() if name in wanted}
    entries = {entry.ours: entry for entry in COUNTERPARTS if entry.theirs in wanted}
    for family, features in select_features(list(entries)) if entries else ():
        aggregations = family.aggregations(roi.settings.aggregations)
        (objects,) = family.prepare(roi, aggregations).values()
        if family.name == "ngtdm":
            objects = [_ngtdm_with_lonely_voxels(roi, settings)]
        for feature in features:
            entry = entries[feature.key]
            values = []
            for prepared in objects:
                try:
                    values.append(feature.compute(prepared))
                except NotApplicable:
                    values.append(entry.degenerate)
            result[entry.theirs] = float(np.mean(values)) if values else entry.degenerate
    return {f"{prefix}_{name}": result[name] for name in NAMES if name in wanted}


def _ngtdm_with_lonely_voxels(roi: Roi, settings: PyradiomicsSettings) -> Ngtdm:
    """Return the matrix in which a voxel without a neighbor counts as one that does not differ from its neighbors."""
    near = roi.level_image.plane_neighborhoods if settings.force_2d else roi.level_image.neighborhoods
    lonely = near.counts == 0
    near = near._replace(sums=np.where(lonely, near.levels, near.sums), counts=np.where(lonely, 1, near.counts))
    return Ngtdm(near, np.ones(len(lonely), dtype=bool))


def _aggregation(settings: PyradiomicsSettings) -> str:
    return f"{'2_5D' if settings.force_2d else '3D'}_{'comb' if settings.merged else 'avg'}"


def _resample(
    image: sitk.Image, mask: sitk.Image, spacing_ijk_mm: tuple[float, float, float], pad: int
) -> tuple[sitk.Image, sitk.Image]:
    """Resample to a grid whose first voxel shares its outer corner with the source's, cut around the region."""
    source = np.array(image.GetSpacing())
    occupied = np.argwhere(sitk.GetArrayFromImage(mask))[:, ::-1]
    low, high = occupied.min(axis=0), occupied.max(axis=0) + 1
    target = np.where((np.array(spacing_ijk_mm) == 0) | (high - low == 1), source, spacing_ijk_mm)
    ratio = source / target
    first = np.maximum(np.floor((low - 0.5) * ratio - pad), 0)
    last = np.minimum(np.ceil((high - 0.5) * ratio + pad), np.ceil(np.array(image.GetSize()) * ratio) - 1)
    origin = image.TransformContinuousIndexToPhysicalPoint(((target / source - 1) / 2 + first / ratio).tolist())

    def onto_grid(one: sitk.Image, interpolator: int) -> sitk.Image:
        resampler = sitk.ResampleImageFilter()
        resampler.SetOutputSpacing(target.tolist())
        resampler.SetOutputDirection(image.GetDirection())
        resampler.SetOutputOrigin(origin)
        resampler.SetSize([int(n) for n in last - first + 1])
        resampler.SetInterpolator(interpolator)
        return resampler.Execute(one)

    return onto_grid(image, sitk.sitkBSpline), onto_grid(mask, sitk.sitkNearestNeighbor)


def _resegment(
    array: NDArray[Any], mask: NDArray[np.bool_], settings: PyradiomicsSettings, case: Case
) -> NDArray[np.bool_]:
    if settings.resegment_range is None:
        return mask
    values = array[mask]
    limits = np.sort(settings.resegment_range)
    if settings.resegment_mode == "relative":
        limits = limits * values.max()
    elif settings.resegment_mode == "sigma":
        limits = values.mean() + limits * values.std()
    kept: NDArray[np.bool_] = mask & (array >= limits[0])
    if len(limits) == 2:
        kept &= array <= limits[1]
    if kept.sum() < 2:
        raise InputError(f"Re-segmentation leaves {kept.sum()} voxels in the {case.title}. Widen the range.")
    return kept


def _discretize(values: NDArray[Any], settings: PyradiomicsSettings, case: Case) -> NDArray[np.int64]:
    """Return levels from 1; edges are built as pyradiomics does, so that rounding falls the same way."""
    low, high = values.min(), values.max()
    if settings.bin_count is not None:
        edges = np.histogram_bin_edges(values, settings.bin_count)
        edges[-1] += 1
    else:
        count = float(high - low) / settings.bin_width
        if count > MAX_LEVELS:
            raise InputError(
                f"The {case.title} would have {count:.0f} gray levels; at most {MAX_LEVELS} are analysed. "
                f"Choose a bin width of {float(high - low) / 64:.3g}, which gives about 64."
            )
        edges = np.arange(low - low % settings.bin_width, high + 2 * settings.bin_width, settings.bin_width)
    return np.digitize(values, edges)


def _planar_diameter(shape: Shape, axis: int) -> float:
    """Return the largest distance between mesh points in one plane across an axis (K, J, I), in mm."""
    vertices = shape.mesh.vertices
    planes = np.rint(2 * vertices[:, axis] / shape.roi.spacing[axis]).astype(int)
    largest = 0.0
    for plane in np.unique(planes):
        points = np.delete(vertices[planes == plane], axis, axis=1)
        try:
            points = points[ConvexHull(points).vertices]
        except QhullError:
            pass  # too few points, or all on a line: then all are compared
        if len(points) > 1:
            largest = max(largest, float(pdist(points).max()))
    return largest


def _axis(n: int) -> Callable[[Shape, Sample, PyradiomicsSettings], float]:
    def length(shape: Shape, sample: Sample, settings: PyradiomicsSettings) -> float:
        count = int(shape.roi.morphological_mask.sum())
        return float(shape.axes[n]) * np.sqrt((count - 1) / count)

    return length


def _moment(order: int) -> Callable[[Shape, Sample, PyradiomicsSettings], float]:
    def moment(shape: Shape, sample: Sample, settings: PyradiomicsSettings) -> float:
        try:
            return sample.standardized_moment(order)
        except NotApplicable:
            return 0.0

    return moment


def _energy(shape: Shape, sample: Sample, settings: PyradiomicsSettings) -> float:
    return float(np.sum((sample.x + settings.voxel_array_shift) ** 2))


_OWN: dict[str, Callable[[Shape, Sample, PyradiomicsSettings], float]] = {
    "firstorder_Energy": _energy,
    "firstorder_TotalEnergy": lambda shape, sample, settings: shape.voxel_volume * _energy(shape, sample, settings),
    "firstorder_RootMeanSquared": lambda shape, sample, settings: float(
        np.sqrt(_energy(shape, sample, settings) / len(sample.x))
    ),
    "firstorder_Skewness": _moment(3),
    "firstorder_Kurtosis": _moment(4),
    "shape_MajorAxisLength": _axis(0),
    "shape_MinorAxisLength": _axis(1),
    "shape_LeastAxisLength": _axis(2),
    "shape_Maximum2DDiameterSlice": lambda shape, sample, settings: _planar_diameter(shape, 0),
    "shape_Maximum2DDiameterColumn": lambda shape, sample, settings: _planar_diameter(shape, 1),
    "shape_Maximum2DDiameterRow": lambda shape, sample, settings: _planar_diameter(shape, 2),
}
"""What is defined differently, or has no counterpart."""


class Counterpart(NamedTuple):
    """A feature with the same definition: pyradiomics' name, our key, and its value where we say "not applicable"."""

    theirs: str
    ours: str
    degenerate: float = 0.0


COUNTERPARTS: tuple[Counterpart, ...] = (
    Counterpart("firstorder_10Percentile", "stat_percentile_10"),
    Counterpart("firstorder_90Percentile", "stat_percentile_90"),
    Counterpart("firstorder_Entropy", "ih_entropy"),
    Counterpart("firstorder_InterquartileRange", "stat_interquartile_range"),
    Counterpart("firstorder_Maximum", "stat_maximum"),
    Counterpart("firstorder_Mean", "stat_mean"),
    Counterpart("firstorder_MeanAbsoluteDeviation", "stat_mean_absolute_deviation"),
    Counterpart("firstorder_Median", "stat_median"),
    Counterpart("firstorder_Minimum", "stat_minimum"),
    Counterpart("firstorder_Range", "stat_range"),
    Counterpart("firstorder_RobustMeanAbsoluteDeviation", "stat_robust_mean_absolute_deviation"),
    Counterpart("firstorder_Uniformity", "ih_uniformity"),
    Counterpart("firstorder_Variance", "stat_variance"),
    Counterpart("shape_Elongation", "morph_elongation"),
    Counterpart("shape_Flatness", "morph_flatness"),
    Counterpart("shape_Maximum3DDiameter", "morph_maximum_diameter"),
    Counterpart("shape_MeshVolume", "morph_mesh_volume"),
    Counterpart("shape_Sphericity", "morph_sphericity"),
    Counterpart("shape_SurfaceArea", "morph_surface_area"),
    Counterpart("shape_SurfaceVolumeRatio", "morph_surface_to_volume_ratio"),
    Counterpart("shape_VoxelVolume", "morph_voxel_volume"),
    Counterpart("glcm_Autocorrelation", "glcm_autocorrelation"),
    Counterpart("glcm_ClusterProminence", "glcm_cluster_prominence"),
    Counterpart("glcm_ClusterShade", "glcm_cluster_shade"),
    Counterpart("glcm_ClusterTendency", "glcm_cluster_tendency"),
    Counterpart("glcm_Contrast", "glcm_contrast"),
    Counterpart("glcm_Correlation", "glcm_correlation", 1.0),
    Counterpart("glcm_DifferenceAverage", "glcm_difference_average"),
    Counterpart("glcm_DifferenceEntropy", "glcm_difference_entropy"),
    Counterpart("glcm_DifferenceVariance", "glcm_difference_variance"),
    Counterpart("glcm_Id", "glcm_inverse_difference"),
    Counterpart("glcm_Idm", "glcm_inverse_difference_moment"),
    Counterpart("glcm_Idmn", "glcm_normalized_inverse_difference_moment"),
    Counterpart("glcm_Idn", "glcm_normalized_inverse_difference"),
    Counterpart("glcm_Imc1", "glcm_information_correlation_1"),
    Counterpart("glcm_Imc2", "glcm_information_correlation_2"),
    Counterpart("glcm_InverseVariance", "glcm_inverse_variance"),
    Counterpart("glcm_JointAverage", "glcm_joint_average"),
    Counterpart("glcm_JointEnergy", "glcm_angular_second_moment"),
    Counterpart("glcm_JointEntropy", "glcm_joint_entropy"),
    Counterpart("glcm_MCC", "glcm_maximal_correlation_coefficient", 1.0),
    Counterpart("glcm_MaximumProbability", "glcm_joint_maximum"),
    Counterpart("glcm_SumAverage", "glcm_sum_average"),
    Counterpart("glcm_SumEntropy", "glcm_sum_entropy"),
    Counterpart("glcm_SumSquares", "glcm_joint_variance"),
    Counterpart("glrlm_GrayLevelNonUniformity", "glrlm_gray_level_nonuniformity"),
    Counterpart("glrlm_GrayLevelNonUniformityNormalized", "glrlm_normalized_gray_level_nonuniformity"),
    Counterpart("glrlm_GrayLevelVariance", "glrlm_gray_level_variance"),
    Counterpart("glrlm_HighGrayLevelRunEmphasis", "glrlm_high_gray_level_run_emphasis"),
    Counterpart("glrlm_LongRunEmphasis", "glrlm_long_runs_emphasis"),
    Counterpart("glrlm_LongRunHighGrayLevelEmphasis", "glrlm_long_run_high_gray_level_emphasis"),
    Counterpart("glrlm_LongRunLowGrayLevelEmphasis", "glrlm_long_run_low_gray_level_emphasis"),
    Counterpart("glrlm_LowGrayLevelRunEmphasis", "glrlm_low_gray_level_run_emphasis"),
    Counterpart("glrlm_RunEntropy", "glrlm_run_entropy"),
    Counterpart("glrlm_RunLengthNonUniformity", "glrlm_run_length_nonuniformity"),
    Counterpart("glrlm_RunLengthNonUniformityNormalized", "glrlm_normalized_run_length_nonuniformity"),
    Counterpart("glrlm_RunPercentage", "glrlm_run_percentage"),
    Counterpart("glrlm_RunVariance", "glrlm_run_length_variance"),
    Counterpart("glrlm_ShortRunEmphasis", "glrlm_short_runs_emphasis"),
    Counterpart("glrlm_ShortRunHighGrayLevelEmphasis", "glrlm_short_run_high_gray_level_emphasis"),
    Counterpart("glrlm_ShortRunLowGrayLevelEmphasis", "glrlm_short_run_low_gray_level_emphasis"),
    Counterpart("glszm_GrayLevelNonUniformity", "glszm_gray_level_nonuniformity"),
    Counterpart("glszm_GrayLevelNonUniformityNormalized", "glszm_normalized_gray_level_nonuniformity"),
    Counterpart("glszm_GrayLevelVariance", "glszm_gray_level_variance"),
    Counterpart("glszm_HighGrayLevelZoneEmphasis", "glszm_high_gray_level_zone_emphasis"),
    Counterpart("glszm_LargeAreaEmphasis", "glszm_large_zone_emphasis"),
    Counterpart("glszm_LargeAreaHighGrayLevelEmphasis", "glszm_large_zone_high_gray_level_emphasis"),
    Counterpart("glszm_LargeAreaLowGrayLevelEmphasis", "glszm_large_zone_low_gray_level_emphasis"),
    Counterpart("glszm_LowGrayLevelZoneEmphasis", "glszm_low_gray_level_zone_emphasis"),
    Counterpart("glszm_SizeZoneNonUniformity", "glszm_zone_size_nonuniformity"),
    Counterpart("glszm_SizeZoneNonUniformityNormalized", "glszm_normalized_zone_size_nonuniformity"),
    Counterpart("glszm_SmallAreaEmphasis", "glszm_small_zone_emphasis"),
    Counterpart("glszm_SmallAreaHighGrayLevelEmphasis", "glszm_small_zone_high_gray_level_emphasis"),
    Counterpart("glszm_SmallAreaLowGrayLevelEmphasis", "glszm_small_zone_low_gray_level_emphasis"),
    Counterpart("glszm_ZoneEntropy", "glszm_zone_size_entropy"),
    Counterpart("glszm_ZonePercentage", "glszm_zone_percentage"),
    Counterpart("glszm_ZoneVariance", "glszm_zone_size_variance"),
    Counterpart("gldm_DependenceEntropy", "ngldm_dependence_count_entropy"),
    Counterpart("gldm_DependenceNonUniformity", "ngldm_dependence_count_nonuniformity"),
    Counterpart("gldm_DependenceNonUniformityNormalized", "ngldm_normalized_dependence_count_nonuniformity"),
    Counterpart("gldm_DependenceVariance", "ngldm_dependence_count_variance"),
    Counterpart("gldm_GrayLevelNonUniformity", "ngldm_gray_level_nonuniformity"),
    Counterpart("gldm_GrayLevelVariance", "ngldm_gray_level_variance"),
    Counterpart("gldm_HighGrayLevelEmphasis", "ngldm_high_gray_level_count_emphasis"),
    Counterpart("gldm_LargeDependenceEmphasis", "ngldm_high_dependence_emphasis"),
    Counterpart("gldm_LargeDependenceHighGrayLevelEmphasis", "ngldm_high_dependence_high_gray_level_emphasis"),
    Counterpart("gldm_LargeDependenceLowGrayLevelEmphasis", "ngldm_high_dependence_low_gray_level_emphasis"),
    Counterpart("gldm_LowGrayLevelEmphasis", "ngldm_low_gray_level_count_emphasis"),
    Counterpart("gldm_SmallDependenceEmphasis", "ngldm_low_dependence_emphasis"),
    Counterpart("gldm_SmallDependenceHighGrayLevelEmphasis", "ngldm_low_dependence_high_gray_level_emphasis"),
    Counterpart("gldm_SmallDependenceLowGrayLevelEmphasis", "ngldm_low_dependence_low_gray_level_emphasis"),
    Counterpart("ngtdm_Busyness", "ngtdm_busyness"),
    Counterpart("ngtdm_Coarseness", "ngtdm_coarseness", 1e6),
    Counterpart("ngtdm_Complexity", "ngtdm_complexity"),
    Counterpart("ngtdm_Contrast", "ngtdm_contrast"),
    Counterpart("ngtdm_Strength", "ngtdm_strength"),
)

NAMES: tuple[str, ...] = tuple(
    sorted([*_OWN, *(c.theirs for c in COUNTERPARTS)], key=lambda n: (n.split("_")[0] != "shape", n.split("_")))
)
"""All features, as pyradiomics calls them."""
