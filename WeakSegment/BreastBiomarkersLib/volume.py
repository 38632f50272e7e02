"""A scalar image with its place in the patient, and the only code that knows files are LPS while we are RAS."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.files import atomic_path, require_file

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SUFFIXES = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd")
MAX_BYTES = 8 * 2**30
"""Largest image that is read (decoded size); a header that claims more is refused before anything is allocated."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A scalar image on a regular grid, placed in the patient.

    Attributes
    ----------
    array : (K, J, I) ndarray
        Voxel values, slowest axis first.
    ijk_to_ras : (4, 4) ndarray, mm
        Homogeneous matrix from voxel indices (I, J, K order, voxel centers at whole numbers) to RAS.
    name : str
        What to call the image in messages.

    Raises
    ------
    InputError
        If the array is not 3-D or empty, or the matrix is not an invertible finite 4x4 affine.
    """

    array: NDArray[Any]
    ijk_to_ras: NDArray[np.float64]
    name: str = ""

    def __post_init__(self) -> None:
        if self.array.ndim != 3 or 0 in self.array.shape:
            raise InputError(f"'{self.name}' has the shape {self.array.shape}; a single 3-D image is needed.")
        matrix = np.array(self.ijk_to_ras, dtype=np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
            raise InputError(
                f"The geometry of '{self.name}' is not valid (zero spacing or not a number). Re-export it."
            )
        object.__setattr__(self, "ijk_to_ras", matrix)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels in array order (K, J, I)."""
        k, j, i = self.array.shape
        return k, j, i

    @property
    def spacing(self) -> NDArray[np.float64]:
        """(3,) voxel size in mm, in array order (K, J, I)."""
        return np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)[::-1]

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of a voxel in mm^3."""
        return float(abs(np.linalg.det(self.ijk_to_ras[:3, :3])))

    @property
    def ras_to_ijk(self) -> NDArray[np.float64]:
        """(4, 4) matrix from RAS mm to voxel indices in I, J, K order."""
        return np.linalg.inv(self.ijk_to_ras).astype(np.float64)

    def points_to_ras(self, points_ijk: NDArray[Any]) -> NDArray[np.float64]:
        """Map (n, 3) voxel indices in I, J, K column order to (n, 3) RAS positions in mm."""
        return apply_affine(self.ijk_to_ras, points_ijk)

    def points_to_ijk(self, points_ras: NDArray[Any]) -> NDArray[np.float64]:
        """Map (n, 3) RAS positions in mm to (n, 3) continuous voxel indices in I, J, K column order."""
        return apply_affine(self.ras_to_ijk, points_ras)

    def with_array(self, array: NDArray[Any], name: str | None = None) -> Volume:
        """Return a volume with other voxel values on the same grid.

        Raises
        ------
        InputError
            If the array has another shape.
        """
        if array.shape != self.array.shape:
            raise InputError(f"An array of shape {array.shape} does not fit '{self.name}' with {self.array.shape}.")
        return replace(self, array=array, name=self.name if name is None else name)

    def cropped(self, start_kji: tuple[int, ...], stop_kji: tuple[int, ...]) -> Volume:
        """Return the part from `start_kji` to before `stop_kji` (array order), staying in place in the patient."""
        shifted = self.ijk_to_ras.copy()
        shifted[:3, 3] += self.ijk_to_ras[:3, :3] @ np.asarray(start_kji[::-1], dtype=np.float64)
        part = self.array[tuple(slice(a, b) for a, b in zip(start_kji, stop_kji, strict=True))]
        return Volume(part, shifted, self.name)

    def same_grid(self, other: Volume, tolerance_voxels: float = 1e-3) -> bool:
        """Tell whether both grids have the same size and no corner differs by more than a share of a voxel."""
        if self.shape != other.shape:
            return False
        k, j, i = np.subtract(self.shape, 1)
        corners = np.array([[x, y, z] for x in (0, i) for y in (0, j) for z in (0, k)], dtype=np.float64)
        difference = self.points_to_ijk(other.points_to_ras(corners)) - corners
        return bool(np.abs(difference).max() <= tolerance_voxels)


def apply_affine(matrix: NDArray[np.float64], points: NDArray[Any]) -> NDArray[np.float64]:
    """Map (n, 3) points by a (4, 4) homogeneous affine matrix."""
    points = np.atleast_2d(np.asarray(points, dtype=np.float64))
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def opened(path: Path) -> sitk.ImageFileReader:
    """Return a reader of an image file that has read its header, not its voxels.

    Raises
    ------
    InputError
        If it is not an image in a known format.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(f"'{path.name}' cannot be read as NRRD, NIfTI or MetaImage. Is it complete?") from error
    return reader


def read_volume(path: str | Path, max_bytes: int = MAX_BYTES) -> Volume:
    """Return the scalar 3-D image in a NRRD, NIfTI or MetaImage file, in RAS.

    Parameters
    ----------
    path : str or Path
        The file; the format follows from its content and name.
    max_bytes : int
        Refuse images whose voxels take more, before reading them.

    Raises
    ------
    InputError
        If the file is missing, truncated, not an image, too large, or holds several channels or time frames.
    """
    path = require_file(path, "image")
    reader = opened(path)
    size = reader.GetSize()
    if reader.GetNumberOfComponents() != 1 or any(n > 1 for n in size[3:]):
        raise InputError(
            f"'{path.name}' holds {reader.GetNumberOfComponents()} components and size {size}; "
            "export one scalar 3-D image (one frame, one channel)."
        )
    expected = int(np.prod([int(n) for n in size])) * 8
    if expected > max_bytes:
        raise InputError(f"'{path.name}' claims {size} voxels ({expected / 2**30:.1f} GiB in memory). Crop it first.")
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise InputError(f"'{path.name}' is damaged or incomplete. Export it again.") from error
    if image.GetDimension() == 4:
        image = image[:, :, :, 0]
    if image.GetDimension() == 2:
        image = sitk.JoinSeries(image)
    return from_sitk(image, path.name)


def from_sitk(image: sitk.Image, name: str = "") -> Volume:
    """Return a 3-D SimpleITK image (LPS) as a Volume (RAS)."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return Volume(sitk.GetArrayFromImage(image), LPS_TO_RAS @ matrix, name)


def to_sitk(volume: Volume) -> sitk.Image:
    """Return the Volume (RAS) as a SimpleITK image (LPS); bool becomes 8-bit.

    Raises
    ------
    InputError
        If the axes are sheared: image files can only hold rotated, scaled and flipped grids.
    """
    array = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
    matrix = LPS_TO_RAS @ volume.ijk_to_ras
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    direction = matrix[:3, :3] / spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-4:
        raise InputError(f"'{volume.name}' has sheared axes, which image files cannot hold. Resample it first.")
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    image.SetDirection(direction.ravel().tolist())
    return image


def write_volume(volume: Volume, path: str | Path, metadata: dict[str, str] | None = None) -> None:
    """Write the volume as NRRD, NIfTI or MetaImage, whole or not at all.

    Parameters
    ----------
    volume : Volume
        The image; bool arrays are written as 8-bit.
    path : str or Path
        Target; the suffix chooses the format.
    metadata : dict, optional
        Key-value pairs for the header (kept by NRRD), such as ``{"units": "micromolar"}``.

    Raises
    ------
    InputError
        If the suffix is unknown or the target cannot be written.
    """
    path = Path(path)
    if not path.name.lower().endswith(SUFFIXES):
        raise InputError(f"'{path.name}' has no known image suffix; use one of {', '.join(SUFFIXES)}.")
    image = to_sitk(volume)
    for key, value in (metadata or {}).items():
        image.SetMetaData(key, value)
    with atomic_path(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:
            raise InputError(f"Cannot write '{path}': is the disk full or the folder read-only?") from error
