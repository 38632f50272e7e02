"""The constants of the three methods, each with its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import ClassVar

from BreastBiomarkersLib.errors import InputError

MAY_BE_ZERO = ("repetitions", "remeasurements", "data_weight", "exclusion_data_weight", "path_weight")


@dataclass(frozen=True)
class RandomWalkSettings:
    """The method of this extension.

    Attributes
    ----------
    longest_side : int
        Working voxels along the longest side of the box. 48 is within 0.03 Dice of the native grid; 32 for previews.
    exclude_non_enhancing : bool
        Inside the box, take voxels whose intensity speaks against lesion as background, where the contrast is high
        enough. For contrast-enhanced breast MRI; turn off for other images.
    exclusion_min_contrast, exclusion_below : float
        Contrast (area under the ROC curve) from which, and posterior below which, voxels are excluded.
    path_weight : float
        A voxel that is surely background costs 1 + this per mm on a scribble, one that is surely lesion 1.
    path_smoothing_voxels : float
        Gaussian over the posterior before paths and exclusion (sigma, working voxels), against noise.
    thicken_from_voxels : int
        Scribbles are thickened by one voxel along axes whose box side has at least this many working voxels.
    background_margin_voxels : int
        Background markers start beyond this many working voxels outside the box; nearer costs a third of the recall.
    background_radius : float
        ... and beyond this many radii of the inscribed ellipsoid (1 on it): box corners hold no lesion.
    noise_multiple : float
        A difference of this many noise standard deviations weakens a link to 0.61; 3 for plain T1.
    data_weight : float
        Strength of the link to the posterior, times (2 contrast - 1)^2. Ten times more floods the surroundings.
    exclusion_data_weight : float
        The same when non-enhancing voxels are excluded, where flooding is contained. Chosen on synthetic breasts, which
        would take 0.05 as well; larger values coarsen diffuse lesions.
    repetitions : int
        Solves after the first. 7 for the segmentation; 3 gives a purer, smaller tumor label for training.
    remeasurements : int
        When non-enhancing voxels are excluded: how often intensities are compared again, now inside and outside of what
        the walk found, and the walk is repeated. On synthetic breasts it changes nothing on average; on the real
        contrast-enhanced case it helps.
    tumor_above, background_below : float
        Scores that become markers of the next solve, and labels of the pseudo-mask.
    segment_above : float
        Score from which a voxel belongs to the segment.
    click_radius_share : float
        Radius of a corrective click as a share of the longest box side; a click of one voxel gives a third of the gain.
    device : str
        Where the systems are solved: empty for SciPy on the CPU, else a torch device such as "cuda". It pays off from
        about a million unknowns, that is for large boxes at full resolution.
    """

    method: ClassVar[str] = "random-walk"

    longest_side: int = 48
    exclude_non_enhancing: bool = True
    exclusion_min_contrast: float = 0.8
    exclusion_below: float = 0.1
    path_weight: float = 6.0
    path_smoothing_voxels: float = 0.6
    thicken_from_voxels: int = 8
    background_margin_voxels: int = 5
    background_radius: float = 1.4
    noise_multiple: float = 2.0
    data_weight: float = 0.003
    exclusion_data_weight: float = 0.02
    repetitions: int = 7
    remeasurements: int = 1
    tumor_above: float = 0.8
    background_below: float = 0.1
    segment_above: float = 0.5
    click_radius_share: float = 0.06
    device: str = ""

    def __post_init__(self) -> None:
        _check_positive(self, may_be_zero=MAY_BE_ZERO)


@dataclass(frozen=True)
class PublishedSettings:
    """The initial-mask stage as its authors run it (Zhong and Wang, MICCAI 2023, doi 10.1007/978-3-031-43901-8_54).

    Attributes
    ----------
    margin_kji : tuple of 3 int
        Voxels kept around the box; one less on the high side.
    background_margin_voxels : int
        Background markers start at the voxel this far beyond the box on the high side, one further on the low side.
    beta : float
        Link weight exp(-beta d^2 / (10 sd h^2)) + min_conductance, with sd the standard deviation of the crop.
    min_conductance : float
    repetitions, tumor_above, background_below, device
        As in `RandomWalkSettings`.
    """

    method: ClassVar[str] = "published"

    margin_kji: tuple[int, int, int] = (10, 20, 20)
    background_margin_voxels: int = 5
    beta: float = 130.0
    min_conductance: float = 1e-10
    repetitions: int = 7
    tumor_above: float = 0.8
    background_below: float = 0.1
    device: str = ""

    def __post_init__(self) -> None:
        _check_positive(self, may_be_zero=MAY_BE_ZERO)


@dataclass(frozen=True)
class NetworkSettings:
    """The random walker, corrected by a small network that was trained on synthetic lesions; needs torch.

    Attributes
    ----------
    weights : str
        Checkpoint of a lesion network; empty for the shipped one.
    refine_iterations : int
        Steps that adapt the network to this lesion, about 0.2 s each on a CPU core. 10 lowered the mean Dice of nine
        real images by 0.013.
    longest_side, exclude_non_enhancing, noise_multiple, repetitions
        Of the random walker, as in `RandomWalkSettings`.
    """

    method: ClassVar[str] = "network"

    weights: str = ""
    refine_iterations: int = 0
    longest_side: int = RandomWalkSettings.longest_side
    exclude_non_enhancing: bool = RandomWalkSettings.exclude_non_enhancing
    noise_multiple: float = RandomWalkSettings.noise_multiple
    repetitions: int = RandomWalkSettings.repetitions

    def __post_init__(self) -> None:
        _check_positive(self, may_be_zero=("refine_iterations", "repetitions"))


Settings = RandomWalkSettings | PublishedSettings | NetworkSettings

METHODS: dict[str, Callable[..., Settings]] = {
    RandomWalkSettings.method: RandomWalkSettings,
    PublishedSettings.method: PublishedSettings,
    NetworkSettings.method: NetworkSettings,
}
"""Settings by the name of the method, as the command line and the records know it."""


def _check_positive(settings: Settings, may_be_zero: tuple[str, ...]) -> None:
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            zero = field.name in may_be_zero
            if not value >= 0 or (value == 0 and not zero):
                allowed = "0 or more" if zero else "positive"
                raise InputError(f"The setting {field.name} is {value}; it must be {allowed}.")
