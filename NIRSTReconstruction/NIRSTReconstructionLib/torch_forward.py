"""The forward model on a GPU: many bodies at once as block tridiagonal Cholesky factorizations in PyTorch.

PyTorch is imported when a `TorchForward` is made. The numbers equal those of `ForwardModel` up to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from BreastBiomarkersLib.errors import InputError
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import reverse_cuthill_mckee

from NIRSTReconstructionLib.forward import ForwardModel

if TYPE_CHECKING:
    import torch

_BYTES_AT_ONCE = {"cuda": 8 * 2**30, "cpu": 2**28}  # blocks of the matrices that are factored together


def gpu_available() -> bool:
    """Return whether PyTorch is installed and sees a CUDA GPU."""
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


class TorchForward:
    """A continuous-wave `ForwardModel` on a PyTorch device, float64.

    Parameters
    ----------
    model : ForwardModel
    device : str
        "cuda" or "cpu".

    Notes
    -----
    Nodes are numbered so that neighbors are near (reverse Cuthill-McKee), and cut into blocks at least as long as the
    bandwidth: K is then block tridiagonal with blocks D_k on and C_k below the diagonal. With B_0 = 0::

        L_k L_k' = D_k - B_k B_k',   z_k = L_k^-1 (r_k - B_k z_(k-1)),   B_(k+1) = C_k L_k'^-1

    and the data are sums over k of z_k (sources) times z_k (detectors). All steps are batched over bodies and
    wavelengths.

    Raises
    ------
    InputError
        If the model is frequency domain (its matrices are not Hermitian) or the device is not there.
    """

    def __init__(self, model: ForwardModel, device: str = "cuda") -> None:
        import torch

        if model.modulation_mhz:
            raise InputError("The GPU route does continuous-wave data only. Use ForwardModel for frequency domain.")
        if device not in _BYTES_AT_ONCE or (device == "cuda" and not torch.cuda.is_available()):
            raise InputError(f"The device '{device}' is not available. Use 'cpu', or install PyTorch for your GPU.")
        self.model = model
        self.device = device
        operator, count = model.operator, len(model.mesh.nodes)
        place = _narrow_order(operator.matrix(np.ones(len(operator.rows))))
        high = np.maximum(place[operator.rows], place[operator.columns])
        low = np.minimum(place[operator.rows], place[operator.columns])
        self._size = int((high - low).max())
        self._blocks = -(-count // self._size)
        row_block, column_block = high // self._size, low // self._size
        inside = (high % self._size) * self._size + low % self._size
        position = (2 * column_block + (row_block > column_block)) * self._size**2 + inside
        padding = np.arange(count, self._blocks * self._size)  # unit diagonal for nodes that are not there
        at_padding = 2 * (padding // self._size) * self._size**2 + (padding % self._size) * (self._size + 1)

        def tensor(array: NDArray) -> torch.Tensor:
            return torch.as_tensor(array, device=device)

        def sparse_tensor(matrix: sparse.csr_array) -> torch.Tensor:
            indices = tensor(np.stack(matrix.tocoo().coords).astype(np.int64))
            return torch.sparse_coo_tensor(indices, tensor(matrix.data), matrix.shape, check_invariants=True).coalesce()

        self._stiffness, self._absorption = sparse_tensor(operator.stiffness), sparse_tensor(operator.absorption)
        self._rim, self._position, self._padding = tensor(operator.rim), tensor(position), tensor(at_padding)
        right = np.zeros((self._blocks * self._size, len(model.optodes.sources) + len(model.optodes.detectors)))
        right[place] = (
            sparse.vstack(
                [model.mesh.evaluation(model.optodes.sources), model.mesh.evaluation(model.optodes.detectors)]
            )
            .toarray()
            .T
        )
        self._right = tensor(right.reshape(self._blocks, self._size, -1))
        self._extinction = tensor(model.spectra.extinction)
        self._log_wavelength = tensor(np.log(model.spectra.wavelengths_nm / model.spectra.scatter_reference_nm))
        self._channels = tensor(model.optodes.channels)

    def measure_many(self, values: torch.Tensor | NDArray[np.float64]) -> torch.Tensor:
        """Return the data (n, W, C) of n bodies, values (n, 6, Q) at the integration points, on the device.

        Raises
        ------
        InputError
            If the tissue values leave a matrix that is not positive definite, or light that is not positive.
        """
        import torch

        values = torch.as_tensor(values, device=self.device, dtype=torch.float64)
        mua = self._extinction @ values[:, :4]
        musp = values[:, 4:5] * torch.exp(-self._log_wavelength[:, None] * values[:, 5:6])
        kappa = 1 / (3 * (mua + musp))
        rows = mua.shape[0] * mua.shape[1]
        mua, kappa = mua.reshape(rows, -1), kappa.reshape(rows, -1)
        together = max(1, _BYTES_AT_ONCE[self.device] // (2 * self._blocks * self._size**2 * 8))
        source, detector = self._channels.T
        fluence = torch.zeros((rows, len(source)), dtype=torch.float64, device=self.device)
        for kz, weight in zip(self.model.kz, self.model.kz_weights, strict=True):
            for first in range(0, rows, together):
                chunk = slice(first, first + together)
                try:
                    transfer = self._transfer((mua[chunk] + kz**2 * kappa[chunk]).T, kappa[chunk].T)
                except torch.linalg.LinAlgError as error:
                    raise InputError("A diffusion matrix is not positive definite. Check the tissue values.") from error
                fluence[chunk] += weight * transfer[:, source, detector]
        if not bool((fluence > 0).all()):
            raise InputError("The model's light is not positive somewhere. Check the tissue values' units.")
        return torch.log(fluence / (2 * self.model.operator.boundary)).reshape(values.shape[0], -1, len(source))

    def _transfer(self, mua: torch.Tensor, kappa: torch.Tensor) -> torch.Tensor:
        """Return D' K^-1 P (k, S, D) of properties (Q, k)."""
        import torch

        entries = self._stiffness @ kappa.contiguous() + self._absorption @ mua.contiguous() + self._rim[:, None]
        count, size = entries.shape[1], self._size
        packed = torch.zeros((count, 2 * self._blocks * size**2), dtype=entries.dtype, device=entries.device)
        packed[:, self._position] = entries.T
        packed[:, self._padding] = 1.0
        blocks = packed.reshape(count, self._blocks, 2, size, size)
        sources = len(self.model.optodes.sources)
        total = torch.zeros((), dtype=entries.dtype, device=entries.device)
        below, z = None, None
        for k in range(self._blocks):
            diagonal, right = blocks[:, k, 0], self._right[k].expand(count, -1, -1)
            if below is not None:
                diagonal = diagonal - below @ below.mT
                right = right - below @ z
            factor = torch.linalg.cholesky(diagonal)
            z = torch.linalg.solve_triangular(factor, right, upper=False)
            total = total + z[:, :, :sources].mT @ z[:, :, sources:]
            below = torch.linalg.solve_triangular(factor, blocks[:, k, 1].mT, upper=False).mT
        return total


def _narrow_order(matrix: sparse.csc_array) -> NDArray[np.int64]:
    """Return the new number of every node, such that connected nodes have near numbers."""
    order = reverse_cuthill_mckee(sparse.csr_array(matrix), symmetric_mode=True)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place
