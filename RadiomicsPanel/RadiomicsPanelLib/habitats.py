"""Habitats: the parts of a lesion that look alike in several images or feature maps.

A model is fitted once, on the training cases together, and then applied to every case: clusters of single cases would
not mean the same from case to case. Fixed thresholds need no fitting and are the most reproducible choice.
Gatenby 2013, doi 10.1148/radiol.13122697; Wu 2018, doi 10.1148/radiol.2018172462.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path, require_file
from BreastBiomarkersLib.progress import Progress, ignore_progress
from BreastBiomarkersLib.volume import Volume, write_volume
from numpy.typing import NDArray
from scipy import ndimage

from RadiomicsPanelLib.extract import FeatureValue, feature_value
from RadiomicsPanelLib.habitat_features import DIVISION_FEATURES, HABITAT_FEATURES, Division, Habitat
from RadiomicsPanelLib.maps import FeatureMaps
from RadiomicsPanelLib.roi import Roi

Method = Literal["kmeans", "gmm", "thresholds"]
COUNTS = range(2, 7)
"""Numbers of habitats that are tried when none is given."""

MAX_HABITATS = 16
STABLE = 0.8
"""Mean adjusted Rand index between bootstrap fits from which a division counts as stable."""

COLORS: tuple[tuple[float, float, float], ...] = (
    (0.85, 0.25, 0.2),
    (0.2, 0.5, 0.85),
    (0.3, 0.7, 0.3),
    (0.95, 0.75, 0.2),
    (0.6, 0.35, 0.75),
    (0.3, 0.75, 0.75),
    (0.95, 0.5, 0.75),
    (0.6, 0.4, 0.2),
    (0.75, 0.85, 0.3),
    (0.15, 0.3, 0.5),
    (0.95, 0.6, 0.45),
    (0.45, 0.45, 0.45),
    (0.6, 0.75, 0.95),
    (0.5, 0.1, 0.3),
    (0.1, 0.45, 0.3),
    (0.9, 0.85, 0.65),
)
"""Of the habitats, in their order; one for each there can be."""

_JUDGED = 3000  # voxels for silhouette and stability
_FITTED = 200_000  # voxels for the final fit
_BOOTSTRAPS = 20


@dataclass(frozen=True, eq=False)
class Channels:
    """What is clustered: the values of several images or maps at a segment's voxels.

    Attributes
    ----------
    roi : Roi
        Its morphological mask is divided.
    names : tuple of str
    values : (n, channels) ndarray
        Smoothed; one row per voxel of the morphological mask.
    smoothing : float, voxels
    """

    roi: Roi
    names: tuple[str, ...]
    values: NDArray[np.float64]
    smoothing: float


@dataclass(frozen=True)
class HabitatModel:
    """How voxels are assigned to habitats. Plain numbers, so that it can be kept as JSON.

    Attributes
    ----------
    method : str
        "kmeans": nearest center; "gmm": likeliest component of a Gaussian mixture; "thresholds": above or not, in each
        channel.
    channels : tuple of str
        Names, in order.
    smoothing : float, voxels
    means, scales : tuple of float
        Mean and standard deviation of each channel in the training voxels, by which values are standardized.
    centers : tuple of tuple of float
        Standardized center of each habitat, in the order of the first channel.
    covariances : tuple of matrices
        Of the mixture's components, standardized.
    weights : tuple of float
        Of the mixture's components.
    thresholds : tuple of float
        Of each channel, in its own unit.
    silhouettes, stabilities : dict of str to float
        By number of habitats: mean silhouette, and mean adjusted Rand index between bootstrap fits.
    cases : int
        Training segments.
    note : str

    Raises
    ------
    InputError
        If a number is missing, out of range, or does not fit the channels and habitats.
    """

    method: Method
    channels: tuple[str, ...]
    smoothing: float
    means: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    centers: tuple[tuple[float, ...], ...] = ()
    covariances: tuple[tuple[tuple[float, ...], ...], ...] = ()
    weights: tuple[float, ...] = ()
    thresholds: tuple[float, ...] = ()
    silhouettes: dict[str, float] | None = None
    stabilities: dict[str, float] | None = None
    cases: int = 0
    note: str = ""

    def __post_init__(self) -> None:
        n, k = len(self.channels), len(self.centers)
        shapes = {"means": (n,), "scales": (n,), "centers": (k, n), "covariances": (k, n, n), "weights": (k,)}
        needed = {"kmeans": ("means", "scales", "centers"), "gmm": tuple(shapes), "thresholds": ("thresholds",)}
        if self.method not in get_args(Method) or not n or not self.smoothing >= 0:
            raise InputError("A habitat model needs a method (kmeans, gmm, thresholds), channels and a smoothing.")
        for name in needed[self.method]:
            values = np.array(getattr(self, name), dtype=np.float64)
            if values.shape != shapes.get(name, (n,)) or not np.isfinite(values).all():
                raise InputError(f"The habitat model's {name} do not fit its {n} channels and {k} habitats.")
        if not 1 < self.count <= MAX_HABITATS:
            raise InputError(f"A habitat model divides into 2 to {MAX_HABITATS} habitats, not {self.count}.")
        if self.method != "thresholds" and min(self.scales) <= 0:
            raise InputError("The habitat model's scales have to be above 0.")
        if self.method == "gmm" and (min(np.linalg.eigvalsh(self.covariances).ravel()) <= 0 or min(self.weights) <= 0):
            raise InputError("The habitat model's covariances and weights have to be positive.")

    @property
    def count(self) -> int:
        """Number of habitats."""
        return 2 ** len(self.channels) if self.method == "thresholds" else len(self.centers)

    @property
    def names(self) -> tuple[str, ...]:
        """What each habitat is called: its number, or which channels are high (+) and low (-)."""
        if self.method != "thresholds":
            return tuple(f"habitat {number}" for number in range(1, self.count + 1))
        bits = [[code >> b & 1 for b in reversed(range(len(self.channels)))] for code in range(self.count)]
        return tuple(
            " ".join(f"{'+' if b else '-'}{c}" for b, c in zip(row, self.channels, strict=True)) for row in bits
        )

    def assign(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the habitat, from 1, of each row of channel values."""
        if self.method == "thresholds":
            powers = 2 ** np.arange(len(self.channels))[::-1]
            return (values > np.array(self.thresholds)) @ powers + 1
        z = self.standardize(values)
        centers = np.array(self.centers)
        if self.method == "kmeans":
            distances = [np.sum((z - center) ** 2, axis=1) for center in centers]
            return np.argmin(distances, axis=0) + 1
        scores = []
        for center, covariance, weight in zip(centers, np.array(self.covariances), self.weights, strict=True):
            deviation = np.linalg.solve(np.linalg.cholesky(covariance), (z - center).T)
            scores.append(
                np.log(weight) - np.sum(deviation**2, axis=0) / 2 - np.linalg.slogdet(covariance).logabsdet / 2
            )
        return np.argmax(scores, axis=0) + 1

    def standardize(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values minus mean over standard deviation of the training voxels."""
        return (values - np.array(self.means)) / np.array(self.scales)


@dataclass(frozen=True, eq=False)
class HabitatMap:
    """A segment divided into habitats.

    Attributes
    ----------
    roi : Roi
    model : HabitatModel
    labels : (K, J, I) ndarray of uint8
        1 to `model.count`, 0 outside.
    channel_means, centers : (count, channels) ndarray
        Of each habitat, in the channels' units, and standardized (by the training voxels, or those of the segment for
        thresholds); not a number where the habitat is absent.
    """

    roi: Roi
    model: HabitatModel
    labels: NDArray[np.uint8]
    channel_means: NDArray[np.float64]
    centers: NDArray[np.float64]

    @property
    def volume(self) -> Volume:
        """The labels on the prepared grid."""
        return self.roi.image.with_array(self.labels, f"{self.roi.segment} habitats")


def gather_channels(
    roi: Roi, images: Sequence[Volume] = (), maps: FeatureMaps | None = None, smoothing: float = 1.0
) -> Channels:
    """Return the channels of a segment: its own image, further images and its feature maps, each smoothed.

    Images are interpolated linearly. The Gaussian sees only voxels of the segment that have a value, and fills in
    those that have none.

    Parameters
    ----------
    roi : Roi
        Its image is the first channel.
    images : sequence of Volume
        Co-registered; on any grid.
    maps : FeatureMaps, optional
        Of the same region.
    smoothing : float, voxels
        Standard deviation of the Gaussian; 0 for none.

    Raises
    ------
    InputError
        If two channels have one name, or a channel has no value in a part of the segment.
    """
    if not 0 <= smoothing <= 10:
        raise InputError("The smoothing of habitat channels is 0 to 10 voxels.")
    mask = roi.morphological_mask
    arrays = {roi.image.name: roi.image.array}
    for image in images:
        if image.name in arrays:
            raise InputError(f"Two habitat channels are called '{image.name}'. Rename one.")
        arrays[image.name] = _onto(image, roi.image)
    for column in maps.values if maps is not None else ():
        assert maps is not None
        if column in arrays:
            raise InputError(f"Two habitat channels are called '{column}'. Rename one.")
        array = np.full(mask.shape, np.nan)
        array[roi.intensity_mask] = maps.values[column]
        arrays[column] = array
    values = np.column_stack([_smooth(array, mask, smoothing, name, roi) for name, array in arrays.items()])
    return Channels(roi, tuple(arrays), values, smoothing)


def fit_habitats(
    cases: Sequence[Channels],
    count: int | None = None,
    method: Method = "kmeans",
    seed: int = 0,
    progress: Progress = ignore_progress,
) -> HabitatModel:
    """Return a model fitted on the voxels of training segments, of which larger ones give no more than the median.

    Without a count, that of 2 to 6 with the best mean silhouette among the stable ones (bootstrap adjusted Rand index
    of 0.8 or more) is taken, by k-means on 3000 voxels; the model holds the figures of all that were tried.

    Raises
    ------
    InputError
        If scikit-learn is missing, the channels differ or are constant, or there are too few voxels.
    """
    if method not in ("kmeans", "gmm"):
        raise InputError("Habitats are fitted by 'kmeans' or 'gmm'; thresholds need no fitting.")
    if count is not None and count not in range(2, MAX_HABITATS + 1):
        raise InputError(f"The number of habitats is 2 to {MAX_HABITATS}.")
    if not cases:
        raise InputError("No segment to fit habitats on.")
    first = cases[0]
    for other in cases[1:]:
        if (other.names, other.smoothing) != (first.names, first.smoothing):
            raise InputError(
                f"The channels differ: {', '.join(first.names)} in '{first.roi.case_name}', "
                f"{', '.join(other.names)} in '{other.roi.case_name}'."
            )
    rng = np.random.default_rng(seed)
    share = min(_FITTED // len(cases), int(np.median([len(c.values) for c in cases])))
    sample = np.concatenate([c.values[rng.permutation(len(c.values))[:share]] for c in cases])
    if len(sample) < 10 * (count or max(COUNTS)):
        raise InputError(f"{len(sample)} voxels are too few for {count or max(COUNTS)} habitats. Set fixed thresholds.")
    means, scales = sample.mean(axis=0), sample.std(axis=0)
    constant = [name for name, scale, mean in zip(first.names, scales, means, strict=True) if scale <= 1e-9 * abs(mean)]
    if constant:
        raise InputError(f"The channel '{constant[0]}' is constant in the segment. Leave it out.")
    z = (sample - means) / scales
    judged = z[rng.permutation(len(z))[:_JUDGED]]
    if len(np.unique(np.round(judged, 9), axis=0)) < 2 * (count or max(COUNTS)):
        raise InputError("The channels hold too few different values to fit habitats. Set fixed thresholds.")
    silhouettes, stabilities, note = {}, {}, ""
    tried = list(COUNTS) if count is None else [count]
    for n, k in enumerate(tried):
        progress(0.8 * n / len(tried), f"Judging {k} habitats")
        silhouettes[str(k)], stabilities[str(k)] = _judge(judged, k, rng)
    stable = [k for k in tried if stabilities[str(k)] >= STABLE]
    if not stable:
        note = f"no number of habitats is stable (adjusted Rand index below {STABLE}); consider fixed thresholds"
    chosen = max(stable or tried, key=lambda k: silhouettes[str(k)])
    progress(0.8, f"Fitting {chosen} habitats")
    centers, covariances, weights = _fit(z, chosen, method, seed)
    order = np.argsort(centers[:, 0], kind="stable")
    progress(1.0, "Habitats fitted")
    return HabitatModel(
        method,
        first.names,
        first.smoothing,
        _plain(means),
        _plain(scales),
        _plain(centers[order]),
        _plain(covariances[order]) if len(covariances) else (),
        _plain(weights[order]) if len(weights) else (),
        silhouettes=silhouettes,
        stabilities=stabilities,
        cases=len(cases),
        note=note,
    )


def threshold_model(channels: Channels, thresholds: Sequence[float]) -> HabitatModel:
    """Return the model that divides each channel at a fixed value: two habitats for one channel, four for two.

    Raises
    ------
    InputError
        If there is not one finite threshold per channel, or more than four channels.
    """
    if len(thresholds) != len(channels.names):
        raise InputError(f"{len(thresholds)} thresholds for the {len(channels.names)} channels {channels.names}.")
    return HabitatModel(
        "thresholds", channels.names, channels.smoothing, thresholds=tuple(float(t) for t in thresholds)
    )


def divide(channels: Channels, model: HabitatModel) -> HabitatMap:
    """Return the segment divided by a model.

    Raises
    ------
    InputError
        If the model was made for other channels.
    """
    if (channels.names, channels.smoothing) != (model.channels, model.smoothing):
        raise InputError(
            f"The habitat model is for {', '.join(model.channels)}, smoothed by {model.smoothing:g} voxels; "
            f"the channels are {', '.join(channels.names)}, by {channels.smoothing:g}."
        )
    assigned = model.assign(channels.values)
    labels = np.zeros(channels.roi.morphological_mask.shape, dtype=np.uint8)
    labels[channels.roi.morphological_mask] = assigned
    means = np.full((model.count, len(model.channels)), np.nan)
    for number in np.unique(assigned):
        means[number - 1] = channels.values[assigned == number].mean(axis=0)
    if model.method == "thresholds":
        scales = channels.values.std(axis=0)
        centers = (means - channels.values.mean(axis=0)) / np.where(scales > 0, scales, 1.0)
    else:
        centers = model.standardize(means)
    return HabitatMap(channels.roi, model, labels, means, centers)


def compute_habitat_features(habitats: HabitatMap) -> list[FeatureValue]:
    """Return the features of each habitat (their columns end in h1, h2, ...) and of all together."""
    model = habitats.model
    division = Division(habitats.labels, model.count, habitats.roi.spacing, habitats.centers)
    each = [
        feature_value(feature, [Habitat(division, number)], f"h{number}")
        for number in range(1, model.count + 1)
        for feature in HABITAT_FEATURES
    ]
    return each + [feature_value(feature, [division]) for feature in DIVISION_FEATURES]


def write_habitats(habitats: HabitatMap, path: str | Path) -> None:
    """Write the division as a label map; named `.seg.nrrd`, Slicer opens it as one segment per habitat.

    Raises
    ------
    InputError
        If the path has no image suffix or cannot be written.
    """
    metadata: dict[str, str] = {}
    for n, name in enumerate(habitats.model.names):
        metadata |= {
            f"Segment{n}_ID": f"habitat_{n + 1}",
            f"Segment{n}_Name": name,
            f"Segment{n}_LabelValue": str(n + 1),
            f"Segment{n}_Layer": "0",
            f"Segment{n}_Color": " ".join(map(str, COLORS[n])),
            f"Segment{n}_Extent": " ".join(f"0 {size - 1}" for size in reversed(habitats.labels.shape)),
        }
    write_volume(habitats.volume, path, metadata)


def write_model(model: HabitatModel, path: str | Path) -> None:
    """Write a model as JSON.

    Raises
    ------
    InputError
        If the target cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(asdict(model), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_model(path: str | Path) -> HabitatModel:
    """Return a model from JSON.

    Raises
    ------
    InputError
        If the file is missing, not JSON or not a habitat model.
    """
    path = require_file(path, "habitat model")
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"'{path.name}' is not JSON ({error}). Fit the habitats again.") from error
    return model_from_dict(data, path.name)


def model_from_dict(data: Any, where: str) -> HabitatModel:
    """Return a model from its fields, as `dataclasses.asdict` gives them; `where` they come from stands in messages.

    Raises
    ------
    InputError
        If they are not those of a habitat model.
    """
    known = {field.name for field in fields(HabitatModel)}
    if not isinstance(data, dict) or not {"method", "channels", "smoothing"} <= set(data) <= known:
        raise InputError(f"'{where}' is not a habitat model. Fit the habitats again.")
    try:
        return HabitatModel(**{name: _frozen(value) for name, value in data.items()})
    except (InputError, TypeError, ValueError) as error:
        raise InputError(f"'{where}' is not a valid habitat model: {error}") from error


def _onto(image: Volume, grid: Volume) -> NDArray[np.float64]:
    """Return the image interpolated at the grid's voxels, NaN outside it."""
    to_image = image.ras_to_ijk @ grid.ijk_to_ras
    matrix, offset = to_image[:3, :3][::-1, ::-1], to_image[:3, 3][::-1]
    corner = np.abs(offset - np.rint(offset)).max()
    order = 0 if corner < 1e-3 and np.allclose(matrix, np.eye(3), atol=1e-6) else 1  # on one grid nothing is mixed
    return ndimage.affine_transform(
        image.array.astype(np.float64), matrix, offset, grid.shape, order=order, mode="constant", cval=float("nan")
    )


def _smooth(
    array: NDArray[np.float64], mask: NDArray[np.bool_], sigma: float, name: str, roi: Roi
) -> NDArray[np.float64]:
    """Return the smoothed values in the mask: sum of weight times value over sum of weights, where there are values."""
    known = mask & np.isfinite(array)
    values = np.where(known, array, 0.0)
    weights = known.astype(np.float64)
    if sigma > 0:
        center = values[known].mean() if known.any() else 0.0  # keeps rounding errors small
        values = ndimage.gaussian_filter(np.where(known, array - center, 0.0), sigma, mode="constant")
        weights = ndimage.gaussian_filter(weights, sigma, mode="constant")
        values = np.divide(values, weights, out=np.zeros_like(values), where=weights > 1e-6) + center
    missing = int(np.count_nonzero(weights[mask] <= 1e-6))
    if missing:
        raise InputError(
            f"The channel '{name}' has no value at {missing} of {int(mask.sum())} voxels of segment '{roi.segment}' of "
            f"'{roi.case_name}'. Is it co-registered and complete?"
        )
    return values[mask]


def _judge(z: NDArray[np.float64], count: int, rng: np.random.Generator) -> tuple[float, float]:
    """Return the mean silhouette of k-means and its mean adjusted Rand index with fits on bootstrap samples."""
    k_means = _sklearn("cluster").KMeans
    metrics = _sklearn("metrics")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a bootstrap sample may hold fewer different points than clusters
        fit = k_means(count, n_init=5, random_state=0).fit(z)
        again = [
            k_means(count, n_init=2, random_state=n).fit(z[rng.integers(0, len(z), len(z))]).predict(z)
            for n in range(_BOOTSTRAPS)
        ]
    indices = [metrics.adjusted_rand_score(fit.labels_, labels) for labels in again]
    return float(metrics.silhouette_score(z, fit.labels_)), float(np.mean(indices))


def _fit(
    z: NDArray[np.float64], count: int, method: Method, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return centers, and for a mixture covariances and weights."""
    if method == "kmeans":
        fit = _sklearn("cluster").KMeans(count, n_init=10, random_state=seed).fit(z)
        return fit.cluster_centers_, np.zeros(0), np.zeros(0)
    mixture = _sklearn("mixture").GaussianMixture(count, n_init=3, reg_covar=1e-4, max_iter=300, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixture.fit(z)
    if not mixture.converged_:
        raise InputError(f"A mixture of {count} habitats did not converge. Use k-means or fewer habitats.")
    return mixture.means_, mixture.covariances_, mixture.weights_


def _sklearn(name: str) -> Any:
    try:
        import sklearn.cluster
        import sklearn.metrics
        import sklearn.mixture
    except ImportError as error:
        raise InputError("Fitting habitats needs scikit-learn. Run: pip install scikit-learn") from error
    return getattr(sklearn, name)


def _plain(values: NDArray[np.float64]) -> Any:
    return _frozen(values.tolist())


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value
